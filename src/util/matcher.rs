//! An expression with the memory that matching it takes. Belongs to one thread.

use std::cell::RefCell;

use regex::bytes::CaptureLocations;

use super::captures::Captures;
use super::pattern::Pattern;

/// Matches texts one after the other; allocates nothing once it has been used.
#[derive(Debug)]
pub struct Matcher {
    pattern: Pattern,
    /// Where captures are noted, when somebody wants them.
    slots: Option<RefCell<CaptureLocations>>,
}

impl Matcher {
    /// For one thread; `wants_captures`: they are noted.
    pub fn new(pattern: &Pattern, wants_captures: bool) -> Matcher {
        // A clone matches with memory of its own, which is not shared between threads.
        let pattern = pattern.clone();
        Matcher { slots: wants_captures.then(|| RefCell::new(pattern.slots())), pattern }
    }

    /// The captures, when it matches somewhere in `text`; without [`Matcher::new`]'s wish there are none.
    #[inline]
    pub fn find(&self, text: &[u8]) -> Option<Captures> {
        let Some(slots) = &self.slots else { return self.pattern.is_match(text).then_some(Captures::NONE) };
        let mut slots = slots.borrow_mut();
        self.pattern.captures(text, &mut slots).then(|| Captures::of(&slots))
    }
}
