//! The codings of files that a client takes, in its order.

use crate::http::coding::{Accepted, Coding, choose};

/// The codings a client accepts, the most preferred first (RFC 9110 section 12.5.3). Of codings that the client likes
/// equally, whoever fills the set puts the one that compresses best first.
///
/// The identity is not among them: it is sent when no other fits, also to a client that refuses it, as nginx does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodingSet {
    places: [Option<Coding>; Coding::ALL.len()],
}

impl CodingSet {
    /// Nothing but the identity.
    pub const NONE: CodingSet = CodingSet { places: [None; Coding::ALL.len()] };

    /// Adds `coding` as the least preferred so far; once it is in the set this does nothing.
    pub fn push(&mut self, coding: Coding) {
        if self.contains(coding) {
            return;
        }
        // There is a place for each coding.
        if let Some(place) = self.places.iter_mut().find(|place| place.is_none()) {
            *place = Some(coding);
        }
    }

    /// It is in the set.
    pub fn contains(self, coding: Coding) -> bool {
        self.places.contains(&Some(coding))
    }

    /// The codings, the most preferred first.
    pub fn iter(self) -> impl Iterator<Item = Coding> {
        self.places.into_iter().flatten()
    }

    /// Nothing but the identity is accepted.
    pub fn is_empty(self) -> bool {
        self.places[0].is_none()
    }
}

impl From<Accepted> for CodingSet {
    /// In the client's order; of codings it likes equally, in ours.
    fn from(accepted: Accepted) -> CodingSet {
        let (mut set, mut left) = (CodingSet::NONE, Coding::ALL);
        for end in (1..=left.len()).rev() {
            let Some(best) = choose(accepted, &left[..end]) else { break };
            set.push(best);
            if let Some(at) = left[..end].iter().position(|coding| *coding == best) {
                left[at..end].rotate_left(1);
            }
        }
        set
    }
}

impl FromIterator<Coding> for CodingSet {
    fn from_iter<I: IntoIterator<Item = Coding>>(codings: I) -> CodingSet {
        let mut set = CodingSet::NONE;
        codings.into_iter().for_each(|coding| set.push(coding));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_the_order_of_preference() {
        use Coding::*;
        let set: CodingSet = [Gzip, Br, Gzip, Zstd, Br].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Gzip, Br, Zstd]);
        assert!(set.contains(Zstd) && !CodingSet::NONE.contains(Zstd));
        assert!(CodingSet::NONE.is_empty() && !set.is_empty());
        for coding in Coding::ALL {
            assert_eq!(Coding::ALL[coding.index()], coding);
        }
    }
}
