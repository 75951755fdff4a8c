//! Where the captures of a path lie in it.

use regex::bytes::CaptureLocations;

use crate::util::pattern::CAPTURES_MAX;

/// `$1` to `$9` as places in the path that was routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captures {
    /// Start and end; both 0 for a capture that took no part.
    places: [(u32, u32); CAPTURES_MAX],
    count: u8,
}

impl Captures {
    /// No captures.
    pub const NONE: Captures = Captures { places: [(0, 0); CAPTURES_MAX], count: 0 };

    /// What capture `number` is in `path`, which must be the path that was routed; empty when there is no such capture.
    pub fn get<'a>(&self, number: u8, path: &'a [u8]) -> &'a [u8] {
        let place = usize::from(number).checked_sub(1).and_then(|at| self.places.get(at));
        let &(start, end) = place.unwrap_or(&(0, 0));
        path.get(start as usize..end as usize).unwrap_or_default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Those of an expression.
    pub(super) fn of(slots: &CaptureLocations) -> Captures {
        let mut captures = Captures::NONE;
        captures.count = (slots.len() - 1).min(CAPTURES_MAX) as u8;
        for (at, place) in captures.places.iter_mut().enumerate().take(captures.count.into()) {
            *place = slots.get(at + 1).map_or((0, 0), |(start, end)| (start as u32, end as u32));
        }
        captures
    }

    /// The one of a prefix: what follows it.
    pub(super) fn rest(prefix_bytes: usize, path: &[u8]) -> Captures {
        let mut captures = Captures { count: 1, ..Captures::NONE };
        captures.places[0] = (prefix_bytes as u32, path.len() as u32);
        captures
    }
}
