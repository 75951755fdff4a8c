//! MySQL's sets of global transaction ids: `uuid:1-5:7`, several sources by commas, and since 8.3 with tags
//! (`uuid:1-5:tag:1-3`). Pure and bounded: a set of more than [`INTERVALS_MAX`] intervals is not held.
//!
//! Unlike MariaDB's positions these have holes: a replica may have transaction 7 and not yet 6, and the members of a
//! group take their numbers from blocks. So "has it all" means superset, not "has a higher number".
//!
//! Source: MySQL manual, "GTID Format and Storage" and "GTID Sets".

use std::fmt::{self, Write};

use smallvec::{SmallVec, smallvec};

/// Most intervals of a set, all sources together. A server that has replicated without loss has one for each source.
pub const INTERVALS_MAX: usize = 4096;
/// Longest text that is read, bytes: every interval with its own UUID and the longest numbers fits.
const TEXT_BYTES_MAX: usize = INTERVALS_MAX * 112;
/// Longest tag, bytes.
const TAG_BYTES_MAX: usize = 32;
/// Largest number of a transaction.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// Who numbers the transactions: a server or a group by its UUID, and a tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    uuid: u128,
    /// Lower case; empty: none.
    tag: Box<str>,
}

/// Transactions with all numbers from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    first: u64,
    last: u64,
}

/// Transactions of one source: in order, with a hole between any two.
type Intervals = SmallVec<[Interval; 1]>;

/// A set of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidSet(
    /// By source, in order; none is empty.
    Vec<(Source, Intervals)>,
);

impl GtidSet {
    /// Reads a set as servers write it; letters of either case, white space around the parts. `None`: that is none, or
    /// it is too large.
    pub fn parse(text: &[u8]) -> Option<GtidSet> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= TEXT_BYTES_MAX)?;
        let mut set = GtidSet::default();
        if text.trim_ascii().is_empty() {
            return Some(set);
        }
        for part in text.split(',') {
            set.read_source(part)?;
        }
        (set.intervals() <= INTERVALS_MAX).then_some(set)
    }

    /// `uuid:interval:interval:tag:interval …`
    fn read_source(&mut self, text: &str) -> Option<()> {
        let mut parts = text.split(':').map(str::trim_ascii);
        let mut source = Source { uuid: parse_uuid(parts.next()?)?, tag: "".into() };
        let mut is_empty = true;
        for part in parts {
            match parse_interval(part) {
                Some(interval) => {
                    insert(self.of(&source), interval);
                    is_empty = false;
                }
                None => source.tag = parse_tag(part)?,
            }
        }
        (!is_empty).then_some(())
    }

    fn of(&mut self, source: &Source) -> &mut Intervals {
        let at = match self.0.binary_search_by(|(mine, _)| mine.cmp(source)) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (source.clone(), Intervals::new()));
                at
            }
        };
        &mut self.0[at].1
    }

    fn find(&self, source: &Source) -> Option<&Intervals> {
        self.0.binary_search_by(|(mine, _)| mine.cmp(source)).ok().map(|at| &self.0[at].1)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Intervals of all sources together.
    pub fn intervals(&self) -> usize {
        self.0.iter().map(|(_, intervals)| intervals.len()).sum()
    }

    /// Whether everything in `other` is in it, too.
    pub fn covers(&self, other: &GtidSet) -> bool {
        other.0.iter().all(|(source, theirs)| {
            self.find(source).is_some_and(|mine| theirs.iter().all(|interval| has_all(mine, *interval)))
        })
    }

    /// Takes everything in `other` in, too. `false`: it would be too large, and stays as it is.
    #[must_use]
    pub fn unite(&mut self, other: &GtidSet) -> bool {
        if self.intervals() + other.intervals() > INTERVALS_MAX {
            return false;
        }
        for (source, theirs) in &other.0 {
            let mine = self.of(source);
            for interval in theirs {
                insert(mine, *interval);
            }
        }
        true
    }

    /// Closes the smallest holes until no source has more than `intervals_max` intervals: a set of more transactions, which
    /// whoever has it has all of this one. The smallest are those that other sessions' transactions fill soon.
    pub fn widen(&mut self, intervals_max: usize) {
        for (_, intervals) in &mut self.0 {
            while intervals.len() > intervals_max.max(1) {
                let hole = |at: &usize| intervals[at + 1].first - intervals[*at].last;
                let Some(at) = (0..intervals.len() - 1).min_by_key(hole) else { break };
                intervals[at].last = intervals[at + 1].last;
                intervals.remove(at + 1);
            }
        }
    }

    /// Takes in whatever the same sources numbered before: all up to the newest transaction of each.
    pub fn fill(&mut self) {
        for (_, intervals) in &mut self.0 {
            let last = intervals.last().map_or(1, |interval| interval.last);
            *intervals = smallvec![Interval { first: 1, last }];
        }
    }

    /// Whether each source in `before` has newer transactions here than there.
    pub fn is_past(&self, before: &GtidSet) -> bool {
        let newest = |intervals: &Intervals| intervals.last().map_or(0, |interval| interval.last);
        before.0.iter().all(|(source, theirs)| self.find(source).is_some_and(|mine| newest(mine) > newest(theirs)))
    }
}

/// As servers write it, without white space.
impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before: Option<&Source> = None;
        for (source, intervals) in &self.0 {
            if before.is_none_or(|before| before.uuid != source.uuid) {
                if before.is_some() {
                    f.write_char(',')?;
                }
                let uuid = source.uuid;
                let (a, b, c) = ((uuid >> 96) as u32, (uuid >> 80) as u16, (uuid >> 64) as u16);
                write!(f, "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", (uuid >> 48) as u16, uuid & 0xffff_ffff_ffff)?;
            }
            if !source.tag.is_empty() {
                write!(f, ":{}", source.tag)?;
            }
            for Interval { first, last } in intervals {
                write!(f, ":{first}")?;
                if first != last {
                    write!(f, "-{last}")?;
                }
            }
            before = Some(source);
        }
        Ok(())
    }
}

fn parse_uuid(text: &str) -> Option<u128> {
    let digits = text.bytes().filter(|byte| *byte != b'-');
    let is_whole = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let value = |byte: u8| u128::from((byte as char).to_digit(16).unwrap_or(0));
    is_whole.then(|| digits.fold(0, |uuid, byte| uuid << 4 | value(byte)))
}

/// `5` or `5-9`.
fn parse_interval(text: &str) -> Option<Interval> {
    let number = |text: &str| {
        let text = text.trim_ascii();
        let is_plain = text.as_bytes().first().is_some_and(u8::is_ascii_digit);
        text.parse::<u64>().ok().filter(|number| is_plain && (1..NUMBER_MAX).contains(number))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let interval = Interval { first: number(first)?, last: number(last)? };
    (interval.first <= interval.last).then_some(interval)
}

fn parse_tag(text: &str) -> Option<Box<str>> {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_tag = text.len() <= TAG_BYTES_MAX
        && text.bytes().next().is_some_and(is_letter)
        && text.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit());
    is_tag.then(|| text.to_ascii_lowercase().into())
}

fn has_all(intervals: &Intervals, wanted: Interval) -> bool {
    let at = intervals.partition_point(|interval| interval.last < wanted.first);
    intervals.get(at).is_some_and(|interval| interval.first <= wanted.first && wanted.last <= interval.last)
}

/// Takes an interval in; what it touches becomes one with it.
fn insert(intervals: &mut Intervals, mut new: Interval) {
    let start = intervals.partition_point(|interval| interval.last + 1 < new.first);
    let end = intervals.partition_point(|interval| interval.first <= new.last + 1);
    if start < end {
        new.first = new.first.min(intervals[start].first);
        new.last = new.last.max(intervals[end - 1].last);
    }
    intervals.drain(start..end);
    intervals.insert(start, new);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        GtidSet::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn sets_are_read_as_servers_write_them() {
        let check = |text: &str, canonical: &str| assert_eq!(set(text).to_string(), canonical, "{text}");
        check("", "");
        check(" \n", "");
        check(&format!("{A}:1-5"), &format!("{A}:1-5"));
        check(&format!("{}:5:1-3:4", A.to_uppercase()), &format!("{A}:1-5"));
        check(&format!("{B}:7,\n{A}:1-3:11"), &format!("{A}:1-3:11,{B}:7"));
        check(&format!("{A}:1-3:Domain_1:5-9:2"), &format!("{A}:1-3:domain_1:2:5-9"));
        check(&format!("{A}:x:5:y:1,{A}:2"), &format!("{A}:2:x:5:y:1"));
        let long = "t".repeat(TAG_BYTES_MAX + 1);
        for bad in [
            "x",
            "1-5",
            ",",
            "0-1-42",
            A,
            &format!("{A}:"),
            &format!("{A}:0"),
            &format!("{A}:5-3"),
            &format!("{A}:+5"),
            &format!("{A}:-5"),
            &format!("{A}:1-"),
            &format!("{A}:1,"),
            &format!("{A}:tag"),
            &format!("{A}:1x:1"),
            &format!("{A}:9223372036854775807"),
            &format!("{A}:{long}:1"),
            &format!("{A}:tä:1"),
            "3e11fa4771ca-11e1-9e33-c80aa9429562-:1",
            "3g11fa47-71ca-11e1-9e33-c80aa9429562:1",
        ] {
            assert_eq!(GtidSet::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn tags_and_sources_have_numbers_of_their_own() {
        assert!(!set(&format!("{A}:1-9")).covers(&set(&format!("{A}:x:1"))));
        assert!(!set(&format!("{A}:1-9")).covers(&set(&format!("{B}:1"))));
        assert!(set(&format!("{A}:1-9:x:1-2,{B}:1")).covers(&set(&format!("{A}:3:x:2"))));
        assert!(set("").covers(&set("")) && !set("").covers(&set(&format!("{A}:1"))));
    }

    #[test]
    fn what_is_past_has_news_of_every_source() {
        let (before, none) = (set(&format!("{A}:1-5,{B}:7")), set(""));
        assert!(!set(&format!("{A}:6")).is_past(&before));
        assert!(!set(&format!("{A}:6,{B}:3")).is_past(&before));
        assert!(set(&format!("{A}:6,{B}:8")).is_past(&before));
        assert!(none.is_past(&none));
    }

    #[test]
    fn too_large_sets_are_not_held() {
        let many = |count: usize| {
            let numbers: Vec<_> = (0..count).map(|n| (2 * n + 1).to_string()).collect();
            format!("{A}:{}", numbers.join(":"))
        };
        let mut largest = set(&many(INTERVALS_MAX));
        assert_eq!(GtidSet::parse(many(INTERVALS_MAX + 1).as_bytes()), None);
        let before = largest.clone();
        assert!(!largest.unite(&set(&format!("{A}:2"))) && largest == before);
    }

    /// Small numbers of two sources, each with and without a tag: what a set is compared with.
    type Model = BTreeSet<(u8, u64)>;

    fn model() -> impl Strategy<Value = Model> {
        prop::collection::btree_set((0u8..4, 1u64..40), 0..60)
    }

    fn of_model(model: &Model) -> GtidSet {
        let part = |(source, number): &(u8, u64)| match source {
            0 => format!("{A}:{number}"),
            1 => format!("{A}:x:{number}"),
            2 => format!("{B}:{number}"),
            _ => format!("{B}:y:{number}"),
        };
        // In any order, here from the last to the first.
        set(&model.iter().rev().map(part).collect::<Vec<_>>().join(","))
    }

    proptest! {
        #[test]
        fn sets_are_sets(a in model(), b in model()) {
            let (mut x, y) = (of_model(&a), of_model(&b));
            prop_assert_eq!(&set(&x.to_string()), &x, "round trip");
            prop_assert_eq!(x.covers(&y), a.is_superset(&b));
            prop_assert!(x.unite(&y));
            prop_assert_eq!(x, of_model(&a.union(&b).copied().collect()));
        }

        #[test]
        fn a_wider_set_covers_the_one_it_was(a in model(), most in 1usize..5) {
            let narrow = of_model(&a);
            let (mut wide, mut full) = (narrow.clone(), narrow.clone());
            wide.widen(most);
            full.fill();
            prop_assert!(wide.covers(&narrow) && full.covers(&wide));
            prop_assert!(wide.0.iter().all(|(_, intervals)| intervals.len() <= most));
            prop_assert!(full.intervals() == full.0.len());
            if narrow.0.iter().all(|(_, intervals)| intervals.len() <= most) {
                prop_assert_eq!(wide, narrow);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>) {
            let _ = GtidSet::parse(&text);
        }

        #[test]
        fn nearly_sets_round_trip_or_are_refused(text in "[0-9a-f:, \n-]{0,60}") {
            if let Some(set) = GtidSet::parse(format!("{A}:1{text}").as_bytes()) {
                prop_assert_eq!(GtidSet::parse(set.to_string().as_bytes()), Some(set));
            }
        }
    }
}
