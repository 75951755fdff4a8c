//! The property of sticky cookies that holds for any value a client sends. A target of `fuzz/` calls it with coverage
//! feedback; the test below runs it on every `cargo test`. It panics when the property does not hold.

use super::sticky::{Attributes, Secure, Sticky};

const SERVERS: [&str; 3] = ["10.0.0.1:80", "10.0.0.2:80", "unix:/run/app.sock"];

fn made() -> Sticky {
    let attributes = Attributes {
        domain: None,
        path: "/",
        max_age_seconds: None,
        http_only: true,
        same_site: None,
        secure: Secure::Never,
    };
    Sticky::new("srv", b"a secret of many words", "api", SERVERS.into_iter(), &attributes)
}

/// The values that are given out lead to their servers, and nothing else does.
pub fn sticky_cookie(input: &[u8]) {
    let sticky = made();
    let given = |server: usize| {
        let mut out = Vec::new();
        sticky.put(server, false, &mut out);
        let end = out.iter().position(|byte| *byte == b';').unwrap_or(out.len());
        out[b"srv=".len()..end].to_vec()
    };
    let expect = (0..SERVERS.len()).find(|&server| given(server) == input);
    assert_eq!(sticky.server(input), expect, "{}", input.escape_ascii());
    // What differs in one place leads nowhere.
    let mut value = given(input.len() % SERVERS.len());
    if let (Some(&byte), at) = (input.first(), input.len() % value.len()) {
        let is_same = value[at] == byte;
        value[at] = byte;
        assert_eq!(sticky.server(&value).is_some(), is_same, "{}", value.escape_ascii());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn sticky_cookies() {
        fuzz("sticky_cookie", sticky_cookie, &["srv", "=", ";", "A", "_", "-", "10.0.0.1:80", "\0"]);
    }
}
