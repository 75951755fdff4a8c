//! Content codings of files: what the client takes, and how a coding is called in fields and in file names.

use crate::config::model::Coding;

impl Coding {
    /// All of them.
    pub const ALL: [Coding; 3] = [Coding::Br, Coding::Zstd, Coding::Gzip];

    /// Its name in Content-Encoding and Accept-Encoding (IANA, HTTP Content Coding Registry).
    pub fn token(self) -> &'static str {
        match self {
            Coding::Br => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What the name of a file ends in that holds another one in this coding.
    pub fn suffix(self) -> &'static [u8] {
        match self {
            Coding::Br => b".br",
            Coding::Zstd => b".zst",
            Coding::Gzip => b".gz",
        }
    }

    /// Its place in lists of one value for each coding.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

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
