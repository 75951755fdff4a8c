//! One datagram out, one in.

use super::{CheckStatus, Verdict, excerpt};
use crate::config::model::TextProbe;

/// What the answer to a datagram says of the server.
pub(crate) fn answered(probe: &TextProbe, answer: &[u8]) -> Verdict {
    match &probe.expect {
        None => Verdict::new(CheckStatus::Healthy, format!("{} bytes came", answer.len())),
        Some(expect) if expect.is_in(&answer[..answer.len().min(probe.bytes_max)]) => {
            Verdict::new(CheckStatus::Healthy, format!("{expect} came"))
        }
        Some(expect) => Verdict::invalid(format!("no {expect} in the answer, which begins {}", excerpt(answer))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::TextMatch;

    #[test]
    fn any_answer_will_do_where_none_is_named() {
        let probe = |expect: Option<&str>| TextProbe {
            send: b"?".to_vec(),
            expect: expect.map(|text| TextMatch::parse(text).expect("a text")),
            bytes_max: 4,
        };
        for (expect, answer, is_ok) in [
            (None, &b""[..], true),
            (None, b"\xff\0", true),
            (Some("ok"), b"is ok", false),
            (Some("ok"), b"ok!", true),
            (Some("~^.o"), b"\xffok", true),
            (Some("ok"), b"", false),
        ] {
            let verdict = answered(&probe(expect), answer);
            assert_eq!(verdict.status.is_ok(), is_ok, "{expect:?} {answer:?}: {}", verdict.text);
        }
    }
}
