//! Attributes of cookies that a server sets, put into the words of the client: nginx's `proxy_cookie_domain`,
//! `proxy_cookie_path` and `proxy_cookie_flags`.
//!
//! A server that does not know under which name and path clients reach it, or that they come by https, sets cookies that
//! these do not send back, or send in clear. Pure: fields in, fields out. Source: RFC 6265 sections 4.1 and 5.2, and its
//! successor in draft for SameSite. Value and unknown attributes of a cookie stay as they are.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;

use std::borrow::Cow;

use crate::http::fields::{Fields, FieldsMut};
use crate::util::template::{Encoding, Template, Variables};

/// What becomes of the attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CookieRules {
    /// Domains, without a dot in front, and what is put in their place; the first that is the same counts. An empty one takes
    /// the attribute away.
    pub domains: Vec<(String, Template)>,
    /// Beginnings of paths and what is put in their place; the first that fits counts.
    pub paths: Vec<(String, Template)>,
    /// Names of cookies and their flags; `None`: any. The first that fits counts.
    pub flags: Vec<(Option<String>, Flags)>,
}

/// What a cookie gets or loses; `None`: it stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Secure.
    pub secure: Option<bool>,
    /// HttpOnly.
    pub http_only: Option<bool>,
    /// SameSite.
    pub same_site: Option<SameSite>,
}

/// Values of SameSite, and none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// `SameSite=Strict`.
    Strict,
    /// `SameSite=Lax`.
    Lax,
    /// `SameSite=None`.
    None,
    /// The attribute is taken away.
    Absent,
}

/// An attribute as it came, or the name and value of the cookie.
struct Part<'a> {
    name: &'a [u8],
    /// `None`: there was no `=`.
    value: Option<Cow<'a, [u8]>>,
}

impl CookieRules {
    /// Whether some text in it needs the captures of the route.
    pub fn use_captures(&self) -> bool {
        self.domains.iter().chain(&self.paths).any(|(_, to)| to.uses_captures())
    }

    /// Does it to the lines of an answer.
    pub fn apply<V: Variables + ?Sized>(&self, fields: &mut Vec<u8>, variables: &V) {
        let cookies = Fields::new(fields).values("set-cookie");
        let changed: Vec<Vec<u8>> = cookies.map(|cookie| self.rewritten(cookie, variables)).collect();
        if changed.is_empty() {
            return;
        }
        let mut fields = FieldsMut::new(fields, 0);
        fields.remove("set-cookie");
        changed.iter().for_each(|cookie| fields.add("Set-Cookie", cookie));
    }

    fn rewritten<V: Variables + ?Sized>(&self, cookie: &[u8], variables: &V) -> Vec<u8> {
        let mut parts = cookie.split(|&byte| byte == b';').map(part);
        // Browsers take one without a name for a name of a value or for none at all: nobody can say what it is about.
        let Some(pair) = parts.next().filter(|pair| pair.value.is_some()) else { return cookie.to_vec() };
        let mut attributes: Vec<Part<'_>> = parts.filter(|part| !part.name.is_empty()).collect();
        for attribute in &mut attributes {
            self.rewrite_value(attribute, variables);
        }
        // One whose domain is gone belongs to the host that it came from (RFC 6265 section 5.2.3).
        attributes.retain(|part| !is(part.name, "domain") || part.value.as_ref().is_none_or(|value| !value.is_empty()));
        let is_named = |name: &str| is(pair.name, name);
        let flags = self.flags.iter().find(|(name, _)| name.as_deref().is_none_or(is_named));
        if let Some((_, flags)) = flags {
            flags.apply(&mut attributes);
        }
        let mut out = Vec::with_capacity(cookie.len() + 64);
        for part in std::iter::once(&pair).chain(&attributes) {
            if !out.is_empty() {
                out.extend_from_slice(b"; ");
            }
            out.extend_from_slice(part.name);
            if let Some(value) = &part.value {
                out.push(b'=');
                out.extend_from_slice(value);
            }
        }
        out
    }

    fn rewrite_value<V: Variables + ?Sized>(&self, attribute: &mut Part<'_>, variables: &V) {
        let Some(value) = &attribute.value else { return };
        let changed = if is(attribute.name, "domain") {
            let bare = value.strip_prefix(b".").unwrap_or(value);
            let found = self.domains.iter().find(|(from, _)| is(bare, from));
            // A dot in front says nothing more (section 5.2.3).
            found.map(|(_, to)| filled(to, b"", variables))
        } else if is(attribute.name, "path") {
            let found = self.paths.iter().find_map(|(from, to)| Some((value.strip_prefix(from.as_bytes())?, to)));
            found.map(|(rest, to)| filled(to, rest, variables))
        } else {
            None
        };
        if let Some(changed) = changed {
            attribute.value = Some(changed.into());
        }
    }
}

/// The text with what follows it. What comes from a request begins no attribute.
fn filled<V: Variables + ?Sized>(to: &Template, rest: &[u8], variables: &V) -> Vec<u8> {
    let mut out = Vec::with_capacity(rest.len() + 64);
    to.put(Encoding::Field, variables, &mut out);
    out.retain(|&byte| byte != b';');
    out.extend_from_slice(rest);
    out
}

impl Flags {
    fn apply(self, attributes: &mut Vec<Part<'_>>) {
        switch(attributes, "Secure", self.secure);
        switch(attributes, "HttpOnly", self.http_only);
        let Some(same_site) = self.same_site else { return };
        let value: &[u8] = match same_site {
            SameSite::Absent => return attributes.retain(|part| !is(part.name, "samesite")),
            SameSite::Strict => b"Strict",
            SameSite::Lax => b"Lax",
            SameSite::None => b"None",
        };
        let mut is_there = false;
        for attribute in attributes.iter_mut().filter(|part| is(part.name, "samesite")) {
            attribute.value = Some(value.into());
            is_there = true;
        }
        if !is_there {
            attributes.push(Part { name: b"SameSite", value: Some(value.into()) });
        }
    }
}

fn switch(attributes: &mut Vec<Part<'_>>, name: &'static str, is_on: Option<bool>) {
    match is_on {
        Some(true) if !attributes.iter().any(|part| is(part.name, name)) => {
            attributes.push(Part { name: name.as_bytes(), value: None });
        }
        Some(false) => attributes.retain(|part| !is(part.name, name)),
        _ => {}
    }
}

fn part(text: &[u8]) -> Part<'_> {
    let equals = memchr::memchr(b'=', text);
    Part {
        name: text[..equals.unwrap_or(text.len())].trim_ascii(),
        value: equals.map(|at| text[at + 1..].trim_ascii().into()),
    }
}

/// Names of attributes and domains are the same in either case.
fn is(bytes: &[u8], text: &str) -> bool {
    bytes.eq_ignore_ascii_case(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::template::{Scope, Variable};

    struct Host(&'static str);

    impl Variables for Host {
        fn put(&self, _: &Variable, out: &mut Vec<u8>) {
            out.extend_from_slice(self.0.as_bytes());
        }
    }

    fn rules() -> CookieRules {
        let pair = |from: &str, to| (from.to_owned(), Template::parse(to, Scope::default()).expect("a template"));
        let strict = Flags { same_site: Some(SameSite::Strict), ..Flags::default() };
        let safe = Flags { secure: Some(true), http_only: Some(true), same_site: Some(SameSite::Lax) };
        let bare = Flags { secure: Some(false), http_only: Some(false), same_site: Some(SameSite::Absent) };
        CookieRules {
            domains: vec![pair("internal.test", "$host"), pair("gone.test", "")],
            paths: vec![pair("/two/", "/one/"), pair("/own/", "/$host/")],
            flags: vec![(Some("sid".into()), safe), (Some("bare".into()), bare), (None, strict)],
        }
    }

    #[track_caller]
    fn check(cookie: &str, expect: &str) {
        let mut fields = format!("A: b\r\nset-cookie: {cookie}\r\nC: d\r\n").into_bytes();
        rules().apply(&mut fields, &Host("www.test"));
        let expect = format!("A: b\r\nC: d\r\nSet-Cookie: {expect}\r\n");
        assert_eq!(String::from_utf8(fields).expect("text"), expect, "{cookie}");
    }

    #[test]
    fn attributes_are_in_the_words_of_the_client() {
        check("a=b; Domain=.INTERNAL.test; Path=/two/x", "a=b; Domain=www.test; Path=/one/x; SameSite=Strict");
        check("a=b;domain=x.internal.test;path=/two", "a=b; domain=x.internal.test; path=/two; SameSite=Strict");
        check("a=b; Domain=gone.test; Max-Age=5", "a=b; Max-Age=5; SameSite=Strict");
        check(
            "a=; Path; Domain; Odd=Domain=internal.test",
            "a=; Path; Domain; Odd=Domain=internal.test; SameSite=Strict",
        );
        check("a=\"x; Path=/two/", "a=\"x; Path=/one/; SameSite=Strict");
        check("no value; Path=/two/", "no value; Path=/two/");
    }

    #[test]
    fn flags_are_given_and_taken() {
        check("sid=1", "sid=1; Secure; HttpOnly; SameSite=Lax");
        check("SID=1; secure; samesite=NONE", "SID=1; secure; samesite=Lax; HttpOnly");
        check("bare=1; Secure; HttpOnly; SameSite=Lax; Path=/", "bare=1; Path=/");
        check("=1", "=1; SameSite=Strict");
    }

    #[test]
    fn every_cookie_is_looked_at_and_nothing_else() {
        let mut fields = b"Set-Cookie: a=b; Path=/two/\r\nSet-Cookie: sid=1\r\n".to_vec();
        rules().apply(&mut fields, &Host(""));
        let expect =
            "Set-Cookie: a=b; Path=/one/; SameSite=Strict\r\nSet-Cookie: sid=1; Secure; HttpOnly; SameSite=Lax\r\n";
        assert_eq!(String::from_utf8(fields).expect("text"), expect);
        let mut fields = b"Cookie: a=b; Path=/two/\r\n".to_vec();
        rules().apply(&mut fields, &Host(""));
        assert_eq!(fields, b"Cookie: a=b; Path=/two/\r\n");
    }

    #[test]
    fn a_value_begins_no_attribute_and_no_line() {
        let mut fields = b"Set-Cookie: a=b; Path=/own/x\r\n".to_vec();
        rules().apply(&mut fields, &Host("y; Domain=evil.test\r\nX: y"));
        let expect = "Set-Cookie: a=b; Path=/y Domain=evil.test  X: y/x; SameSite=Strict\r\n";
        assert_eq!(String::from_utf8(fields).expect("text"), expect);
    }
}
