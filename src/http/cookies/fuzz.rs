//! The property of cookies that holds for whatever a server sets, and whatever a request puts into them. A target of `fuzz/`
//! calls it with coverage feedback; the test below runs it on every `cargo test`. It panics when the property does not hold.

use super::{CookieRules, Flags, SameSite, part};
use crate::http::fields::Fields;
use crate::util::template::{Scope, Template, Variable, Variables};

struct Value<'a>(&'a [u8]);

impl Variables for Value<'_> {
    fn put(&self, _: &Variable, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }
}

/// `input` is a value of a request, a line end, and what a server sets: it stays one cookie of the same name and value, with
/// no attribute that neither the server nor the operator has named.
pub fn cookie(input: &[u8]) {
    let (value, cookie) = input.split_at(memchr::memchr(b'\n', input).unwrap_or(0));
    // What else no field of a server has.
    let cookie: Vec<u8> = cookie.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)).collect();
    let template = |text| Template::parse(text, Scope::default()).expect("a template");
    let rules = CookieRules {
        domains: vec![("a.test".into(), template("$host")), ("b.test".into(), template(""))],
        paths: vec![("/a/".into(), template("/$host/")), ("/b".into(), template("/"))],
        flags: vec![
            (Some("a".into()), Flags { secure: Some(false), http_only: Some(true), same_site: Some(SameSite::Absent) }),
            (None, Flags { secure: Some(true), http_only: None, same_site: Some(SameSite::Lax) }),
        ],
    };
    let mut fields = [b"X: y\r\nSet-Cookie: ", &cookie[..], b"\r\n"].concat();
    rules.apply(&mut fields, &Value(value));
    assert_eq!(fields.iter().filter(|&&byte| byte == b'\n').count(), 2, "no further line");
    let changed = Fields::new(&fields).find("set-cookie").expect("it stays");
    let parts = |text: &[u8]| -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let parts = text.split(|&byte| byte == b';').map(part);
        parts.map(|part| (part.name.to_ascii_lowercase(), part.value.map(|value| value.into_owned()))).collect()
    };
    let (before, after) = (parts(cookie.trim_ascii()), parts(changed));
    assert_eq!(before[0], after[0], "name and value stay");
    let own: [&[u8]; 3] = [b"secure", b"httponly", b"samesite"];
    for (name, _) in &after[1..] {
        let is_known = own.contains(&&name[..]) || before[1..].iter().any(|(known, _)| known == name);
        assert!(is_known, "{} came from nowhere", name.escape_ascii());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn cookies() {
        let pieces =
            &["a", "=", ";", " ", "Path=/a/", "Domain=.a.test", "b.test", "Secure", "SameSite", "\"", "\n", "/b"];
        fuzz("cookie", cookie, pieces);
    }
}
