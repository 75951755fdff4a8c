//! Accept-Encoding (RFC 9110 section 12.5.3): which codings a client takes, and which of them we choose. Pure.

use super::Coding;
use crate::http::h1::{FieldName, RequestHead, list_elements};

/// Members of the field that are looked at. Browsers send four; behind these a sender only takes our time.
const MEMBERS_MAX: usize = 32;

/// Weights are in thousandths: `q=0.5` is 500.
const WEIGHT_MAX: u16 = 1000;

/// What clients send, and what it means. One comparison instead of a parse, for nearly every request.
const USUAL: [(&[u8], Accepted); 6] = [
    (b"gzip, deflate, br, zstd", Accepted::only([WEIGHT_MAX, WEIGHT_MAX, WEIGHT_MAX])), // Chrome, Firefox
    (b"gzip, deflate, br", Accepted::only([WEIGHT_MAX, 0, WEIGHT_MAX])),                // Safari
    (b"gzip, deflate", Accepted::only([0, 0, WEIGHT_MAX])),                             // Python, Java
    (b"gzip", Accepted::only([0, 0, WEIGHT_MAX])),                                      // Go
    (b"identity", Accepted { identity: Some(WEIGHT_MAX), ..Accepted::NONE }),           // wget
    (b"gzip, br", Accepted::only([WEIGHT_MAX, 0, WEIGHT_MAX])),                         // a large CDN
];

/// The codings a client takes, each with its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// By [`Coding::index`]; 0: not acceptable.
    weights: [u16; 3],
    /// Only when the field names `identity`: without that it is what is left when no coding is acceptable.
    identity: Option<u16>,
}

impl Accepted {
    /// No coding. So answers a request without the field: every coding is acceptable then, but who does not say so
    /// seldom can read one.
    pub const NONE: Accepted = Accepted::only([0; 3]);

    const fn only(weights: [u16; 3]) -> Accepted {
        Accepted { weights, identity: None }
    }

    /// Reads the field of a request; `bytes` is what `head` was parsed from.
    pub fn from_head(head: &RequestHead, bytes: &[u8]) -> Accepted {
        let fields = head.fields.iter().filter(|field| field.known == FieldName::AcceptEncoding);
        Accepted::of(fields.map(|field| field.value.of(bytes)))
    }

    /// Reads the field. `lines` are the values of all its lines, in the order sent; none: the field is absent.
    ///
    /// Members that are malformed, or of codings we do not write, are ignored. Allocates nothing.
    #[inline]
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Accepted {
        let mut lines = lines.into_iter();
        let Some(first) = lines.next() else { return Accepted::NONE };
        match lines.next() {
            None => Accepted::of_line(first),
            Some(second) => Accepted::of_lines([first, second].into_iter().chain(lines)),
        }
    }

    #[inline]
    fn of_line(line: &[u8]) -> Accepted {
        match USUAL.iter().find(|(usual, _)| *usual == line) {
            Some((_, accepted)) => *accepted,
            None => Accepted::of_lines(std::iter::once(line)),
        }
    }

    fn of_lines<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Accepted {
        let mut named = Named::default();
        for member in lines.flat_map(list_elements).take(MEMBERS_MAX) {
            if let Some((coding, weight)) = parse_member(member) {
                named.add(coding, weight);
            }
        }
        // `*` stands for every coding that is not named. It says nothing of identity but that it may be excluded.
        let weights = named.codings.map(|weight| weight.or(named.any).unwrap_or(0));
        Accepted { weights, identity: named.identity }
    }

    /// Whether the client takes `coding`.
    #[inline]
    pub fn accepts(self, coding: Coding) -> bool {
        self.weights[coding.index()] > 0
    }

    /// Whether the client takes any of our codings.
    #[inline]
    pub fn accepts_any(self) -> bool {
        self.weights != [0; 3]
    }
}

/// The coding to answer with; `None`: none, send the body as it is.
///
/// `offered` are the codings there are, in the server's order of preference: the highest weight wins, and the first of
/// those that have it. Identity wins only where the client gives it a greater weight than that. It also stands in when
/// the client takes nothing that is offered, even one that excludes identity: RFC 9110 section 12.4.1 leaves it to us to
/// disregard the field then, and a 406 would help nobody.
#[inline]
pub fn choose(accepted: Accepted, offered: &[Coding]) -> Option<Coding> {
    let mut best = None;
    let mut best_weight = 0;
    for &coding in offered {
        let weight = accepted.weights[coding.index()];
        if weight > best_weight {
            (best, best_weight) = (Some(coding), weight);
        }
    }
    best.filter(|_| accepted.identity.is_none_or(|identity| identity <= best_weight))
}

/// The weights of what the field names.
#[derive(Default)]
struct Named {
    codings: [Option<u16>; 3],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Named {
    /// Of a coding named twice the lower weight counts, so that what was refused once is not sent.
    fn add(&mut self, coding: &[u8], weight: u16) {
        let slot = match Coding::of_token(coding) {
            Some(coding) => &mut self.codings[coding.index()],
            None if coding == b"*" => &mut self.any,
            None if coding.eq_ignore_ascii_case(b"identity") => &mut self.identity,
            None => return,
        };
        *slot = Some(slot.map_or(weight, |earlier| earlier.min(weight)));
    }
}

/// `codings [ OWS ";" OWS "q=" qvalue ]`, RFC 9110 section 12.4.2. `member` has no space around it.
fn parse_member(member: &[u8]) -> Option<(&[u8], u16)> {
    let Some(semicolon) = memchr::memchr(b';', member) else { return Some((member, WEIGHT_MAX)) };
    let (coding, weight) = (member[..semicolon].trim_ascii_end(), member[semicolon + 1..].trim_ascii_start());
    match weight {
        [b'q' | b'Q', b'=', value @ ..] => Some((coding, parse_weight(value)?)),
        _ => None,
    }
}

/// `"0" [ "." 0*3DIGIT ]` or `"1" [ "." 0*3"0" ]`, in thousandths.
fn parse_weight(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut thousandths = 0;
    for at in 0..3 {
        let digit = decimals.get(at).copied().unwrap_or(b'0');
        thousandths = thousandths * 10 + u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(WEIGHT_MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Coding::*;
    use super::*;
    use crate::http::h1::{Limits, parse_request};

    fn accepted(lines: &[&str]) -> Accepted {
        Accepted::of(lines.iter().map(|line| line.as_bytes()))
    }

    #[track_caller]
    fn check(lines: &[&str], expect: Option<Coding>) {
        assert_eq!(choose(accepted(lines), &Coding::ALL), expect, "{lines:?}");
    }

    /// Weights in thousandths of br, zstd and gzip.
    #[track_caller]
    fn check_weights(line: &str, expect: [u16; 3]) {
        assert_eq!(accepted(&[line]).weights, expect, "{line}");
    }

    #[test]
    fn browsers_get_the_first_of_our_codings() {
        check(&["gzip, deflate, br, zstd"], Some(Br));
        check(&["gzip, deflate, br"], Some(Br));
        check(&["gzip, deflate"], Some(Gzip));
        check(&["gzip"], Some(Gzip));
        check(&["zstd,gzip"], Some(Zstd));
    }

    /// RFC 9110 section 12.5.3, the examples among them.
    #[test]
    fn without_an_acceptable_coding_the_body_stays_as_it_is() {
        check(&[], None);
        check(&[""], None);
        check(&["identity"], None);
        check(&["deflate, compress"], None);
        check(&["gzip;q=0, br;q=0.000"], None);
        check(&["identity;q=0"], None); // never 406
        check(&["*;q=0"], None);
        check(&["compress, gzip"], Some(Gzip));
        check(&["*"], Some(Br));
        check(&["compress;q=0.5, gzip;q=1.0"], Some(Gzip));
        check(&["gzip;q=1.0, identity; q=0.5, *;q=0"], Some(Gzip));
    }

    #[test]
    fn the_highest_weight_wins_and_ties_are_ours() {
        check(&["br;q=0.5, gzip;q=0.8"], Some(Gzip));
        check(&["br;q=0.8, gzip;q=0.8"], Some(Br));
        check(&["br;q=0.999, zstd"], Some(Zstd));
        check(&["br;q=0.001"], Some(Br));
        check(&["*;q=0.3, br;q=0.2"], Some(Zstd));
        check(&["br;q=0, *"], Some(Zstd));
        assert_eq!(choose(accepted(&["gzip, br, zstd"]), &[Gzip, Br]), Some(Gzip));
        assert_eq!(choose(accepted(&["gzip;q=0.5, br, zstd"]), &[Gzip]), Some(Gzip));
        assert_eq!(choose(accepted(&["gzip, br, zstd"]), &[]), None);
    }

    #[test]
    fn identity_wins_only_where_it_weighs_more() {
        check(&["identity, gzip;q=0.5"], None);
        check(&["identity;q=0.5, gzip;q=0.5"], Some(Gzip));
        check(&["identity;q=0.4, gzip;q=0.5"], Some(Gzip));
        check(&["IDENTITY;q=1, *;q=0.9"], None);
        // `*` does not put identity in front of a coding.
        check(&["gzip;q=0.5, *;q=1"], Some(Br));
        assert_eq!(choose(accepted(&["gzip;q=0.5, *;q=1"]), &[Gzip]), Some(Gzip));
    }

    /// Section 12.4.2.
    #[test]
    fn weights() {
        check_weights("br;q=1, zstd;q=0, gzip;q=0.5", [1000, 0, 500]);
        check_weights("br;q=1.000, zstd;q=0.25, gzip;q=0.125", [1000, 250, 125]);
        check_weights("br ; q=1., zstd\t;\tq=0., gzip;Q=0.1", [1000, 0, 100]);
        for wrong in ["1.001", "2", "0.1234", "", ".5", "-0", "0,5", "1.0 0", "0.5x", "0x", "01", " 1", "\u{661}"] {
            check_weights(&format!("gzip;q={wrong}"), [0; 3]);
        }
    }

    #[test]
    fn malformed_members_do_not_hide_the_others() {
        check_weights("gzip;q=x, br", [1000, 0, 0]);
        check_weights("gzip;level=9, br", [1000, 0, 0]);
        check_weights("gzip;q=1;q=1, ;q=1, ;, gzip br, zstd", [0, 1000, 0]);
        check_weights(",,\t,gzip ,", [0, 0, 1000]);
        check_weights("\"gzip\"", [0; 3]);
        check_weights("gzip\u{e9}, br", [1000, 0, 0]);
    }

    #[test]
    fn all_lines_of_the_field_are_one_list() {
        check(&["gzip", "br"], Some(Br));
        check(&["gzip", "br;q=0"], Some(Gzip));
        check(&["deflate", "", "gzip;q=0.1"], Some(Gzip));
    }

    #[test]
    fn requests_are_read() {
        let check = |fields: &str, expect: &[&str]| {
            let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
            let mut head = RequestHead::default();
            assert!(matches!(parse_request(&bytes, &Limits::default(), &mut head), Ok(Some(_))), "{fields}");
            assert_eq!(Accepted::from_head(&head, &bytes), accepted(expect), "{fields}");
        };
        check("", &[]);
        check("Accept: br\r\naccept-encoding:  gzip;q=0.5 \r\n", &["gzip;q=0.5"]);
        check("Accept-Encoding: gzip\r\nCookie: zstd\r\nAccept-Encoding: br\r\n", &["gzip", "br"]);
    }

    #[test]
    fn what_was_refused_once_is_not_sent() {
        check(&["gzip, gzip;q=0"], None);
        check(&["gzip;q=0", "x-gzip"], None);
        check(&["X-GZIP"], Some(Gzip)); // section 8.4.1.3
    }

    #[test]
    fn members_behind_the_limit_are_not_looked_at() {
        let padding = |count: usize| "x,".repeat(count);
        check(&[&format!("{}br", padding(MEMBERS_MAX - 1))], Some(Br));
        check(&[&format!("{}br", padding(MEMBERS_MAX))], None);
    }

    /// The short way and the long one agree.
    #[test]
    fn usual_values_mean_what_a_parse_says() {
        for (line, expect) in USUAL {
            assert_eq!(Accepted::of_lines(std::iter::once(line)), expect, "{}", String::from_utf8_lossy(line));
        }
        assert!(accepted(&["br"]).accepts(Br) && !accepted(&["br"]).accepts(Zstd));
        assert!(accepted(&["zstd"]).accepts_any() && !accepted(&["identity"]).accepts_any());
    }

    #[test]
    fn negotiation_allocates_nothing() {
        let lines: [&[&[u8]]; 4] = [
            &[b"gzip, deflate, br, zstd"],
            &[b"br;q=0.8, zstd ; q=0.7, *;q=0.1, identity;q=0.5, x-gzip"],
            &[b"gzip", b"deflate", b"zstd"],
            &[],
        ];
        for lines in lines {
            let (allocations, chosen) =
                crate::runtime::sys::allocations::count(|| choose(Accepted::of(lines.iter().copied()), &Coding::ALL));
            assert_eq!((allocations, chosen.is_some()), (0, !lines.is_empty()));
        }
    }

    fn line() -> impl Strategy<Value = String> {
        let member = (
            prop::sample::select(vec!["br", "gzip", "zstd", "x-gzip", "identity", "*", "deflate", "", "g zip"]),
            prop::sample::select(vec!["", ";q=0", ";q=1", ";q=0.5", "; q=0.001", ";q=2", ";", ";a=b"]),
        );
        prop::collection::vec(member, 0..6).prop_map(|members| {
            members.iter().map(|(coding, weight)| format!("{coding}{weight}")).collect::<Vec<_>>().join(", ")
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4)) {
            let accepted = Accepted::of(lines.iter().map(Vec::as_slice));
            prop_assert!(accepted.weights.iter().all(|weight| *weight <= WEIGHT_MAX));
        }

        /// The choice is acceptable, offered, and of no lesser weight than any other.
        #[test]
        fn the_choice_is_the_best_acceptable_one(
            lines in prop::collection::vec(line(), 0..3),
            offered in prop::sample::subsequence(vec![Gzip, Br, Zstd], 0..=3),
        ) {
            let accepted = Accepted::of(lines.iter().map(|line| line.as_bytes()));
            let weight = |coding: Coding| accepted.weights[coding.index()];
            match choose(accepted, &offered) {
                Some(chosen) => {
                    prop_assert!(accepted.accepts(chosen) && offered.contains(&chosen));
                    prop_assert!(offered.iter().all(|other| weight(*other) <= weight(chosen)));
                    let refused = format!("{};q=0", chosen.token());
                    prop_assert!(!lines.iter().flat_map(|line| line.split(", ")).any(|member| member == refused));
                }
                None => prop_assert!(
                    offered.iter().all(|coding| weight(*coding) == 0 || weight(*coding) < accepted.identity.unwrap_or(0))
                ),
            }
        }
    }
}
