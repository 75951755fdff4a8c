//! Properties that hold for any answer to a health check. The target of `fuzz/` calls them with coverage feedback; the test
//! below runs them on every `cargo test`.

use super::{CheckStatus, Conversation, Step, Verdict};
use crate::config::model::{FieldMatch, HttpProbe, MysqlProbe, Probe, Secret, StatusSet, TextMatch, TextProbe};

/// Longest input that is fed byte by byte; that takes time with the square of the length.
const EVERY_BYTE_MAX: usize = 1 << 10;

/// A check comes to the same end however its answer is cut, sends no more than the protocol has steps, and tells its
/// end in one clean line. The first byte of the input chooses the check, the second one the cuts.
pub fn health_check(input: &[u8]) {
    let [choice, cut, input @ ..] = input else { return };
    let probe = probe(choice % 8);
    let whole = converse(&probe, input, input.len().max(1));
    let piece = if input.len() <= EVERY_BYTE_MAX { 1 } else { 1 + input.len() / 64 };
    for piece in [piece, 1 + usize::from(*cut)] {
        let cut = converse(&probe, input, piece.max(1));
        let depends = match &probe {
            // An expression over a plain connection is tried on what has come.
            Probe::Text(TextProbe { expect: Some(TextMatch::Regex(_)), .. }) => true,
            // A text that is found ends the check; what is wrong behind it may come with it, or later.
            Probe::Http(http) if matches!(http.expect_body, Some(TextMatch::Contains(_))) => {
                (cut.status, whole.status) == (CheckStatus::Healthy, CheckStatus::Invalid)
            }
            _ => false,
        };
        if !depends {
            assert_eq!((cut.status, cut.code), (whole.status, whole.code), "{} or {}", cut.text, whole.text);
        }
    }
    check_plainly(&probe, input, &whole);
}

/// What a plain reader says of a healthy end.
fn check_plainly(probe: &Probe, input: &[u8], verdict: &Verdict) {
    let has = |text: &[u8]| memchr::memmem::find(input, text).is_some();
    if verdict.status != CheckStatus::Healthy {
        return;
    }
    match probe {
        Probe::Http(http) => {
            assert!(input.starts_with(b"HTTP/1.") && http.statuses.contains(verdict.code.expect("a status")));
            assert!(http.expect_header.is_none() || has(b"yes"));
        }
        Probe::Text(text) => assert!(matches!(text.expect, Some(TextMatch::Regex(_))) || has(b"+PONG")),
        Probe::Datagram(_) => unreachable!("no conversation"),
        Probe::Mysql(_) => assert_eq!(input[4], 10, "handshake version"),
    }
}

fn probe(choice: u8) -> Probe {
    let contains = |text: &str| TextMatch::parse(text).ok();
    let http = |expect_header: bool, expect_body: Option<TextMatch>, body_bytes_max| {
        let healthy = StatusSet::parse_entry("2xx").expect("a class");
        Probe::Http(Box::new(HttpProbe {
            method: "GET",
            path: "/".into(),
            host: None,
            fields: Vec::new(),
            statuses: StatusSet::new(vec![(healthy, "2xx".into())]),
            expect_header: FieldMatch::parse("X-Ready: yes").ok().filter(|_| expect_header),
            expect_body,
            body_bytes_max,
        }))
    };
    let text = |expect| Probe::Text(TextProbe { send: b"PING\r\n".to_vec(), expect, bytes_max: 64 });
    let mysql = |login: Option<(&str, &str)>| {
        let login = login.map(|(user, password)| (user.to_owned(), Secret(password.to_owned())));
        Probe::Mysql(MysqlProbe { login })
    };
    match choice {
        0 => http(false, None, 1024),
        1 => http(true, contains("ok"), 1024),
        2 => http(false, contains("~^(ok)+$"), 8),
        3 => text(contains("+PONG")),
        4 => text(contains("~^[+]PONG$")),
        5 => mysql(None),
        6 => mysql(Some(("u", "secret"))),
        _ => mysql(Some(("u", ""))),
    }
}

/// Feeds `input` in pieces, then its end.
fn converse(probe: &Probe, input: &[u8], piece: usize) -> Verdict {
    let mut conversation = Conversation::new(probe, "127.0.0.1:80");
    let (mut step, mut seen, mut sent) = (conversation.begin(), 0, 0);
    let verdict = loop {
        step = match step {
            Step::Done(verdict) => break verdict,
            Step::Send(bytes) => {
                sent += 1;
                assert!(sent <= 12 && !bytes.is_empty(), "login, switches, ping, end");
                conversation.on_bytes(&input[..seen])
            }
            Step::Read if seen == input.len() => break conversation.on_end(input),
            Step::Read => {
                seen = (seen + piece).min(input.len());
                conversation.on_bytes(&input[..seen])
            }
        };
    };
    assert!(!verdict.text.is_empty() && verdict.text.len() < 600, "{}", verdict.text);
    assert!(!verdict.text.contains(|c: char| c.is_control()), "{:?}", verdict.text);
    assert!(verdict.status.counts(), "a conversation always says something");
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn answers_to_checks() {
        let pieces = [
            "\0\0",
            "\u{1}\u{3}",
            "\u{2}\u{1}",
            "\u{6}\u{1}",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 103 Early\r\n\r\n",
            "HTTP/1.1 101 \r\n\r\n",
            "HTTP/1.0 503 Busy\r\n",
            "X-Ready: yes\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 2\r\n",
            "\r\n",
            "ok",
            "2\r\nok\r\n",
            "0\r\n\r\n",
            "+PONG",
            "\u{7}\0\0\u{2}\0\0\0\u{2}\0\0\0",
            "\u{7}\0\0\u{1}\0\0\0\u{2}\0\0\0",
            "\u{2c}\0\0\u{2}\u{fe}mysql_native_password\0abcdefghijklmnopqrst\0",
            "caching_sha2_password\0",
        ];
        fuzz("health_check", health_check, &pieces);
    }
}
