//! Where the captures of an expression lie in the text that it matched.

use std::ops::Range;

use regex::bytes::CaptureLocations;

use super::pattern::CAPTURES_MAX;

/// `$1` to `$9` as places in the text that was matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captures {
    /// Start and end; both 0 for a capture that took no part.
    places: [(u32, u32); CAPTURES_MAX],
    count: u8,
}

impl Captures {
    /// No captures.
    pub const NONE: Captures = Captures { places: [(0, 0); CAPTURES_MAX], count: 0 };

    /// What capture `number` is in `text`, which must be the one that was matched; empty when there is no such capture.
    pub fn get<'a>(&self, number: u8, text: &'a [u8]) -> &'a [u8] {
        text.get(self.place(number)).unwrap_or_default()
    }

    /// Where capture `number` lies; nowhere, `0..0`, when there is no such capture.
    pub fn place(&self, number: u8) -> Range<usize> {
        let place = usize::from(number).checked_sub(1).and_then(|at| self.places.get(at));
        let &(start, end) = place.unwrap_or(&(0, 0));
        start as usize..end as usize
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Those of an expression.
    pub fn of(slots: &CaptureLocations) -> Captures {
        let mut captures = Captures::NONE;
        captures.count = (slots.len() - 1).min(CAPTURES_MAX) as u8;
        for (at, place) in captures.places.iter_mut().enumerate().take(captures.count.into()) {
            *place = slots.get(at + 1).map_or((0, 0), |(start, end)| (start as u32, end as u32));
        }
        captures
    }

    /// The one of a prefix of a path: what follows it.
    pub fn rest(prefix_bytes: usize, path: &[u8]) -> Captures {
        let mut captures = Captures { count: 1, ..Captures::NONE };
        captures.places[0] = (prefix_bytes as u32, path.len() as u32);
        captures
    }
}
