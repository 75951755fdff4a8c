//! The property of content negotiation that holds for any input, whatever it says. A target of `fuzz/` calls it with
//! coverage feedback; the test below runs it on every `cargo test`. It panics when the property does not hold.

use std::sync::LazyLock;

use regex::bytes::Regex;

use super::{Accepted, Coding, choose};

/// Members that count.
const MEMBERS_MAX: usize = 32;

/// An Accept-Encoding field means what a plain reader finds in it, however its lines are cut; and what is chosen is
/// acceptable and nothing better is offered. The lines of the input are those of the field.
pub fn accept_encoding(input: &[u8]) {
    let lines: Vec<&[u8]> = input.split(|&byte| byte == b'\n').collect();
    if input.iter().any(|byte| byte.is_ascii_control() && !b"\n\t".contains(byte)) {
        // No such byte comes out of the head parser: only that it does not panic.
        Accepted::of(lines.iter().copied());
        return;
    }
    let accepted = Accepted::of(lines.iter().copied());
    assert_eq!(accepted, Accepted::of([&lines.join(&b", "[..])[..]]), "RFC 9110 section 5.3");
    let weights = plain_weights(&lines);
    let weight = |coding: Coding| weights.named(coding.token()).or(weights.named("*")).unwrap_or(0);
    for coding in Coding::ALL {
        assert_eq!(accepted.accepts(coding), weight(coding) > 0, "{coding:?}");
    }
    assert_eq!(accepted.accepts_any(), Coding::ALL.iter().any(|&coding| weight(coding) > 0));
    let [a, b, c] = Coding::ALL;
    for offered in [&[a, b, c][..], &[c, b, a], &[b, a], &[c], &[]] {
        let best =
            offered.iter().copied().rev().max_by_key(|&coding| weight(coding)).filter(|&coding| weight(coding) > 0);
        let expected =
            best.filter(|&coding| weights.named("identity").is_none_or(|identity| identity <= weight(coding)));
        assert_eq!(choose(accepted, offered), expected, "{offered:?}");
    }
}

/// Names in lower case with their weights in thousandths.
struct Weights(Vec<(Vec<u8>, u32)>);

impl Weights {
    /// The lowest weight given to a name.
    fn named(&self, name: &str) -> Option<u32> {
        self.0.iter().filter(|(found, _)| found == name.as_bytes()).map(|(_, weight)| *weight).min()
    }
}

fn plain_weights(lines: &[&[u8]]) -> Weights {
    static MEMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?-u)^([^;]*?)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?$").expect("good")
    });
    let members = lines.iter().flat_map(|line| line.split(|&byte| byte == b','));
    let members = members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()).take(MEMBERS_MAX);
    let weight = |member: &[u8]| {
        let parts = MEMBER.captures(member)?;
        let name = match &parts[1].to_ascii_lowercase()[..] {
            b"x-gzip" => b"gzip".to_vec(), // RFC 9110 section 8.4.1.3
            name => name.to_vec(),
        };
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
        let weight = parts.get(2).map_or(Some(1.0), |text| number(text.as_bytes()))?;
        Some((name, (weight * 1000.0).round() as u32))
    };
    Weights(members.filter_map(weight).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn accepted_codings() {
        let pieces = [
            "gzip", "x-gzip", "br", "ZSTD", "*", "identity", ",", ";", "q=", "Q=0.5", ";q=0", ";q=1.000", " ", "\t",
            "\n", ".", "0", "1",
        ];
        fuzz("accept_encoding", accept_encoding, &pieces);
    }
}
