//! The search through a body that comes in pieces, cut anywhere.
//!
//! What is found is the leftmost text, and of several that begin at the same place the one named first, as nginx does it;
//! ASCII letters are the same in either case. What has been put in is not looked at again. The end of a piece stays here
//! as long as a text may begin in it that goes on in the next one, and no longer: a body that pauses is not held up for
//! want of bytes that mean nothing.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

/// More of the output is not made at once, bytes: each byte of a body may become a long text.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a piece that are joined to what is held back, beyond the longest text.
const JOINED_BYTES: usize = 4096;

/// Texts of more bytes together are searched with a smaller, slower automaton.
const FAST_BYTES_MAX: usize = 4096;

/// The texts that are looked for.
#[derive(Clone, Debug)]
pub struct Texts {
    /// As written.
    texts: Vec<Box<[u8]>>,
    /// Tells where the leftmost of them begins.
    search: AhoCorasick,
    /// Bytes that one of them begins with, in either case.
    begins: Box<[bool; 256]>,
    /// Length of the longest.
    bytes_max: usize,
}

impl PartialEq for Texts {
    fn eq(&self, other: &Texts) -> bool {
        self.texts == other.texts
    }
}

impl Texts {
    /// These texts, the first one counts where several begin. `None`: there is none, or an empty one, or more than a
    /// [`u64`] has bits, or they need more states than the search has numbers for.
    pub fn new(texts: Vec<Box<[u8]>>) -> Option<Texts> {
        if texts.is_empty() || texts.len() > 64 || texts.iter().any(|text| text.is_empty()) {
            return None;
        }
        let is_large = texts.iter().map(|text| text.len()).sum::<usize>() > FAST_BYTES_MAX;
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .ascii_case_insensitive(true)
            .kind(is_large.then_some(AhoCorasickKind::ContiguousNFA))
            .build(&texts)
            .ok()?;
        let mut begins = Box::new([false; 256]);
        for first in texts.iter().filter_map(|text| text.first()) {
            begins[usize::from(first.to_ascii_lowercase())] = true;
            begins[usize::from(first.to_ascii_uppercase())] = true;
        }
        let bytes_max = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        Some(Texts { texts, search, begins, bytes_max })
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.texts.len()
    }
}

/// One body on its way.
#[derive(Debug)]
pub struct Substitution {
    texts: Arc<Texts>,
    /// What is put in the place of each.
    values: Vec<Vec<u8>>,
    once: bool,
    /// Bit of each text that is still looked for.
    wanted: u64,
    /// Bytes that have come and not gone on: where a text may have begun, or what did not fit into the output.
    held: Vec<u8>,
}

/// How far [`Substitution::write`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the data that were taken.
    pub taken: usize,
    /// The output is full: send it, and write the rest of the data, even if none is left.
    pub is_full: bool,
}

/// What stands at a place of the body.
enum Found {
    /// This text, whole.
    Text(usize),
    /// The beginning of one, to where the bytes end.
    Beginning,
    /// None that is still looked for.
    Nothing,
}

impl Substitution {
    /// `values` are put in the place of `texts`, one for each; with `once`, each text is looked for until it has been found.
    /// Panics when there are more or fewer values than texts.
    pub fn new(texts: Arc<Texts>, values: Vec<Vec<u8>>, once: bool) -> Substitution {
        assert_eq!(texts.len(), values.len(), "a value for each text");
        let wanted = u64::MAX >> (64 - texts.len());
        Substitution { texts, values, once, wanted, held: Vec::new() }
    }

    /// Takes the next bytes of the body, and appends to `out` what they become, as far as nothing in them may go on in the
    /// bytes to come. `out` grows by 64 KiB, the length of `data` and one value at most.
    pub fn write(&mut self, data: &[u8], out: &mut Vec<u8>) -> Step {
        let out_bytes_max = out.len() + OUT_BYTES_MAX;
        let mut taken = 0;
        loop {
            if self.held.is_empty() {
                let done = self.scan(&data[taken..], false, out_bytes_max, out);
                taken += done;
                if out.len() < out_bytes_max {
                    self.held.extend_from_slice(&data[taken..]);
                    taken = data.len();
                }
                return Step { taken, is_full: out.len() >= out_bytes_max };
            }
            let room = (self.texts.bytes_max + JOINED_BYTES).saturating_sub(self.held.len());
            let joined = room.min(data.len() - taken);
            self.held.extend_from_slice(&data[taken..taken + joined]);
            taken += joined;
            self.scan_held(false, out_bytes_max, out);
            let is_full = out.len() >= out_bytes_max;
            if is_full || (taken == data.len() && joined == 0) {
                return Step { taken, is_full };
            }
        }
    }

    /// The body has ended: appends the rest to `out`. True: the output is full, and there is more.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        self.scan_held(true, out.len() + OUT_BYTES_MAX, out);
        !self.held.is_empty()
    }

    fn scan_held(&mut self, is_end: bool, out_bytes_max: usize, out: &mut Vec<u8>) {
        let mut held = std::mem::take(&mut self.held);
        let done = self.scan(&held, is_end, out_bytes_max, out);
        held.drain(..done);
        self.held = held;
    }

    /// Appends what `body` becomes; returns how many of its bytes are done with. The others may be part of a text, or did
    /// not fit.
    fn scan(&mut self, body: &[u8], is_end: bool, out_bytes_max: usize, out: &mut Vec<u8>) -> usize {
        let (mut done, mut at) = (0, 0);
        // Where a text may begin that goes on behind these bytes.
        let open_from = |this: &Substitution, at| if is_end { body.len() } else { this.beginning(body, at) };
        let mut open = open_from(self, 0);
        while out.len() < out_bytes_max {
            if self.wanted == 0 {
                out.extend_from_slice(&body[done..]);
                return body.len();
            }
            let found = self.texts.search.find(&body[at..]).map_or(body.len(), |found| at + found.start());
            if open <= found && (open < found || found == body.len()) {
                out.extend_from_slice(&body[done..open]);
                return open;
            }
            match self.found(&body[found..], is_end) {
                Found::Text(number) => {
                    out.extend_from_slice(&body[done..found]);
                    out.extend_from_slice(&self.values[number]);
                    at = found + self.texts.texts[number].len();
                    done = at;
                    if self.once {
                        self.wanted &= !(1 << number);
                    }
                    if self.once || open < at {
                        open = open_from(self, at);
                    }
                }
                Found::Beginning => {
                    out.extend_from_slice(&body[done..found]);
                    return found;
                }
                // Only texts that are no longer looked for.
                Found::Nothing => at = found + 1,
            }
        }
        done
    }

    /// The first place from `from` on where a text that is looked for may begin and goes on behind `body`; its end, if there
    /// is none.
    fn beginning(&self, body: &[u8], from: usize) -> usize {
        let from = from.max((body.len() + 1).saturating_sub(self.texts.bytes_max)).min(body.len());
        let may_begin = |at: &usize| {
            let rest = &body[*at..];
            let begins = |text: &[u8]| text.len() > rest.len() && rest.eq_ignore_ascii_case(&text[..rest.len()]);
            self.texts.begins[usize::from(rest[0])] && self.wanted().any(|(_, text)| begins(text))
        };
        (from..body.len()).find(may_begin).unwrap_or(body.len())
    }

    /// What `rest` begins with, of the texts that are looked for.
    fn found(&self, rest: &[u8], is_end: bool) -> Found {
        for (number, text) in self.wanted() {
            let common = text.len().min(rest.len());
            if !rest[..common].eq_ignore_ascii_case(&text[..common]) {
                continue;
            }
            if common == text.len() {
                return Found::Text(number);
            }
            if !is_end {
                return Found::Beginning;
            }
        }
        Found::Nothing
    }

    fn wanted(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let texts = self.texts.texts.iter().enumerate();
        texts.filter(|(number, _)| self.wanted & (1 << number) != 0).map(|(number, text)| (number, &**text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn machine(pairs: &[(&str, &str)], once: bool) -> Substitution {
        let texts = pairs.iter().map(|(text, _)| text.as_bytes().into()).collect();
        let values = pairs.iter().map(|(_, value)| value.as_bytes().to_vec()).collect();
        Substitution::new(Arc::new(Texts::new(texts).expect("texts")), values, once)
    }

    /// What comes of `pieces`, and what had left before the end was known.
    fn run(mut machine: Substitution, pieces: &[&[u8]]) -> (Vec<u8>, usize) {
        let mut out = Vec::new();
        for mut piece in pieces.iter().copied() {
            loop {
                let step = machine.write(piece, &mut out);
                piece = &piece[step.taken..];
                if !step.is_full {
                    break;
                }
            }
            assert!(piece.is_empty());
            assert!(machine.held.len() < machine.texts.bytes_max, "no more is held back than the beginning of a text");
        }
        let before_end = out.len();
        while machine.finish(&mut out) {}
        (out, before_end)
    }

    /// The same said shortly: all of the body is there.
    fn plain(pairs: &[(&str, &str)], once: bool, body: &[u8]) -> Vec<u8> {
        let mut used = vec![false; pairs.len()];
        let (mut out, mut at) = (Vec::new(), 0);
        while at < body.len() {
            let fits = |text: &str| {
                body[at..].get(..text.len()).is_some_and(|bytes| bytes.eq_ignore_ascii_case(text.as_bytes()))
            };
            match (0..pairs.len()).find(|&number| !(once && used[number]) && fits(pairs[number].0)) {
                Some(number) => {
                    used[number] = true;
                    out.extend_from_slice(pairs[number].1.as_bytes());
                    at += pairs[number].0.len();
                }
                None => {
                    out.push(body[at]);
                    at += 1;
                }
            }
        }
        out
    }

    #[track_caller]
    fn check(pairs: &[(&str, &str)], once: bool, body: &str, expect: &str) {
        let (body, show) = (body.as_bytes(), |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(show(plain(pairs, once, body)), expect, "the plain one");
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let pieces = [&body[..first], &body[first..second], &body[second..]];
                assert_eq!(show(run(machine(pairs, once), &pieces).0), expect, "cut at {first} and {second}");
            }
        }
        let single: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(show(run(machine(pairs, once), &single).0), expect, "byte by byte");
    }

    #[test]
    fn what_is_found_is_replaced_wherever_the_body_is_cut() {
        check(&[("b", "X")], false, "abcb", "aXcX");
        check(&[("b", "X")], true, "abcb", "aXcb");
        check(&[("</head>", "<base></head>")], true, "<head></HEAD><body></head>", "<head><base></head><body></head>");
        // The beginning of a text that was none, and then one.
        check(&[("aab", "X")], false, "aaab aaaab aa", "aX aaX aa");
        check(&[("abcabd", "X")], false, "abcabcabdabcab", "abcXabcab");
        // Nothing is looked for in what was put in.
        check(&[("a", "aa"), ("aa", "b")], false, "aa", "aaaa");
        check(&[("a", "")], false, "banana", "bnn");
        check(&[("none", "X")], false, "", "");
    }

    #[test]
    fn the_leftmost_counts_and_then_the_one_named_first() {
        check(&[("bcd", "X"), ("ab", "Y")], false, "abcd", "Ycd");
        check(&[("ab", "X"), ("abc", "Y")], false, "abcab", "XcX");
        check(&[("abc", "Y"), ("ab", "X")], false, "abcab", "YX");
        check(&[("abcx", "Y"), ("bc", "X")], false, "abcd abcx abc", "aXd Y aX");
        check(&[("abcd", "1"), ("bcde", "2"), ("cd", "3")], false, "abce bcd bcdee", "abce b3 2e");
    }

    #[test]
    fn letters_are_the_same_in_either_case() {
        check(&[("HtTp://a", "X")], false, "http://A HTTP://a", "X X");
        check(&[("\u{e4}", "X")], false, "\u{e4}\u{c4}", "X\u{c4}");
        // Their bytes differ by the same bit.
        check(&[("[", "X")], false, "{[", "{X");
    }

    #[test]
    fn once_is_once_for_each() {
        check(&[("a", "1"), ("b", "2")], true, "babab", "21bab");
        // Found once, it no longer stands in the way of others.
        check(&[("ab", "1"), ("abc", "2"), ("b", "3")], true, "ababcabab", "12a3ab");
        check(&[("ab", "1"), ("b", "2")], true, "abab", "1a2");
    }

    #[test]
    fn only_the_beginning_of_a_text_is_held_back() {
        let before_end = |body: &str| run(machine(&[("</body>", "X")], false), &[body.as_bytes()]).1;
        assert_eq!(before_end("<p>text</p>"), 11);
        assert_eq!(before_end("<p>text</p></bo"), 11);
        assert_eq!(before_end("<p>text</body></"), 8);
    }

    #[test]
    fn the_output_has_a_limit() {
        let value = "v".repeat(1000);
        let mut machine = machine(&[("a", &value)], false);
        let body = vec![b'a'; 100_000];
        let (mut left, mut bytes, mut rounds) = (&body[..], 0, 0);
        loop {
            let mut out = Vec::new();
            let step = machine.write(left, &mut out);
            assert!(out.len() < OUT_BYTES_MAX + 2000);
            bytes += out.len();
            rounds += 1;
            left = &left[step.taken..];
            if !step.is_full {
                break;
            }
        }
        assert_eq!((bytes, left.len()), (100_000 * 1000, 0));
        assert!(rounds > 1000);
    }

    #[test]
    fn what_cannot_be_searched_is_none() {
        let texts = |texts: &[&str]| Texts::new(texts.iter().map(|text| text.as_bytes().into()).collect());
        assert!(texts(&[]).is_none() && texts(&["a", ""]).is_none() && texts(&["a"; 65]).is_none());
        assert_eq!(texts(&["a"; 64]).map(|texts| texts.len()), Some(64));
    }

    proptest! {
        /// Few letters, so that texts overlap, repeat and contain each other.
        #[test]
        fn it_does_what_the_plain_one_does(
            pairs in prop::collection::vec(("[abAB]{1,5}", "[abX]{0,3}"), 1..5),
            once in any::<bool>(),
            body in "[abB]{0,60}",
            cuts in prop::collection::vec(0usize..60, 0..8),
        ) {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(text, value)| (&**text, &**value)).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &body.as_bytes()[pair[0]..pair[1]]).collect();
            let (out, _) = run(machine(&pairs, once), &pieces);
            prop_assert_eq!(out, plain(&pairs, once, body.as_bytes()));
        }

        /// Any bytes, in pieces larger than what is joined.
        #[test]
        fn long_bodies_too(
            seed in prop::collection::vec(prop::sample::select(b"<head>x\0\xff".to_vec()), 1..4000),
            times in 1usize..12,
            piece in 1usize..9000,
            once in any::<bool>(),
        ) {
            let pairs = [("<head>", "<HEAD><base>"), ("hea", ""), ("d>x", "[d>x]")];
            let body = seed.repeat(times);
            let pieces: Vec<&[u8]> = body.chunks(piece).collect();
            prop_assert_eq!(run(machine(&pairs, once), &pieces).0, plain(&pairs, once, &body));
        }
    }
}
