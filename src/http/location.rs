//! URLs in Location and Refresh of a server's answer, put into the words of the client: nginx's `proxy_redirect`.
//!
//! A server that thinks it is alone names itself in its redirects, where no client gets. Pure: fields in, fields out.

use crate::http::fields::{Fields, FieldsMut};
use crate::util::template::{Encoding, Template, Variables};

/// What becomes of which URLs. Those that begin with the address of a server itself always lose it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocationRules {
    /// Beginnings and what is put in their place; the first that fits counts.
    pairs: Vec<(String, Template)>,
    /// Beginning of paths as the server knows them, and as clients do.
    paths: Option<(String, String)>,
}

impl LocationRules {
    /// Rules for these beginnings.
    pub fn new(pairs: Vec<(String, Template)>) -> LocationRules {
        LocationRules { pairs, paths: None }
    }

    /// The server gets requests for `there` that clients made for `here`.
    #[must_use]
    pub fn with_paths(mut self, there: &str, here: &str) -> LocationRules {
        self.paths = Some((there.into(), here.into()));
        self
    }

    /// Whether some text in it needs the captures of the route.
    pub fn use_captures(&self) -> bool {
        self.pairs.iter().any(|(_, to)| to.uses_captures())
    }

    /// Does it to the lines of an answer. `own` are the hosts by which the server may call itself, with their ports but for
    /// port 80.
    pub fn apply<V: Variables + ?Sized>(&self, fields: &mut Vec<u8>, own: &[&[u8]], variables: &V) {
        let location = Fields::new(fields).find("location").and_then(|url| self.rewritten(url, own, variables));
        if let Some(location) = location {
            FieldsMut::new(fields, 0).set("Location", &location);
        }
        let refresh = Fields::new(fields).find("refresh").and_then(|value| {
            let begin = url_of_refresh(value)?;
            let url = self.rewritten(&value[begin..], own, variables)?;
            Some([&value[..begin], &url].concat())
        });
        if let Some(refresh) = refresh {
            FieldsMut::new(fields, 0).set("Refresh", &refresh);
        }
    }

    /// `None`: the URL stays as it is.
    fn rewritten<V: Variables + ?Sized>(&self, url: &[u8], own: &[&[u8]], variables: &V) -> Option<Vec<u8>> {
        for (from, to) in &self.pairs {
            if let Some(rest) = url.strip_prefix(from.as_bytes()) {
                let mut out = Vec::with_capacity(url.len() + 64);
                to.put(Encoding::Url, variables, &mut out);
                let names_host = out.starts_with(b"//");
                out.extend_from_slice(rest);
                return Some(if names_host { out } else { within_site(out) });
            }
        }
        let rest = own.iter().find_map(|host| behind_host(url, host))?;
        let mut out = Vec::with_capacity(rest.len() + 64);
        match &self.paths {
            Some((there, here)) if rest.starts_with(there.as_bytes()) => {
                out.extend_from_slice(here.as_bytes());
                out.extend_from_slice(&rest[there.len()..]);
            }
            _ => {
                if rest.first() != Some(&b'/') {
                    out.push(b'/');
                }
                out.extend_from_slice(rest);
            }
        }
        Some(within_site(out))
    }
}

/// Slashes at the beginning become one: browsers take what follows two of them, or a backslash, for a host.
fn within_site(mut url: Vec<u8>) -> Vec<u8> {
    if url.first() == Some(&b'/') {
        let slashes = url.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
        url.drain(1..slashes);
    }
    url
}

/// What follows `http://host` or `//host` in `url`.
fn behind_host<'a>(url: &'a [u8], host: &[u8]) -> Option<&'a [u8]> {
    let rest = strip_caseless(url, b"http:").unwrap_or(url).strip_prefix(b"//")?;
    let rest = strip_caseless(rest, host)?;
    let has_port = host.contains(&b':') && !host.ends_with(b"]");
    let rest = if has_port { rest } else { rest.strip_prefix(b":80").unwrap_or(rest) };
    matches!(rest.first(), None | Some(b'/' | b'?' | b'#')).then_some(rest)
}

fn strip_caseless<'a>(text: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (begin, rest) = text.split_at_checked(start.len())?;
    begin.eq_ignore_ascii_case(start).then_some(rest)
}

/// Where the URL begins in the value of a Refresh field: `5; url=/path`.
fn url_of_refresh(value: &[u8]) -> Option<usize> {
    value.windows(4).position(|window| window.eq_ignore_ascii_case(b"url=")).map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::template::{Scope, Variable};

    struct Host;

    impl Variables for Host {
        fn put(&self, _: &Variable, out: &mut Vec<u8>) {
            out.extend_from_slice(b"www.test");
        }
    }

    fn rules(pairs: &[(&str, &str)]) -> LocationRules {
        let template = |text| Template::parse(text, Scope::default()).unwrap();
        LocationRules::new(pairs.iter().map(|(from, to)| ((*from).to_owned(), template(to))).collect())
    }

    #[track_caller]
    fn check(rules: &LocationRules, line: &str, expect: &str) {
        let mut fields = format!("A: b\r\n{line}\r\n").into_bytes();
        rules.apply(&mut fields, &[b"10.0.0.7:9000", b"10.0.0.8", b"[::1]", b"api"], &Host);
        assert_eq!(String::from_utf8(fields).unwrap(), format!("A: b\r\n{expect}\r\n"));
    }

    #[test]
    fn the_address_of_a_server_is_no_clients_business() {
        let own = LocationRules::default();
        for (url, expect) in [
            ("http://10.0.0.7:9000/a?b#c", "/a?b#c"),
            ("HTTP://API/a", "/a"),
            ("http://api:80/a", "/a"),
            ("http://10.0.0.8", "/"),
            ("http://10.0.0.8?x", "/?x"),
            ("//10.0.0.7:9000/a", "/a"),
            ("http://[::1]:80/a", "/a"),
            ("http://[::1]/a", "/a"),
            // Neither another host nor another port, nor one that only begins so.
            ("http://10.0.0.7/a", "http://10.0.0.7/a"),
            ("http://10.0.0.7:90001/a", "http://10.0.0.7:90001/a"),
            ("http://api.evil.test/a", "http://api.evil.test/a"),
            ("http://api@evil.test/a", "http://api@evil.test/a"),
            ("https://api/a", "https://api/a"),
            ("http://other/a", "http://other/a"),
            ("/a", "/a"),
            ("", ""),
            // What is left must not become a host.
            ("http://api//evil.test/", "/evil.test/"),
            ("http://api/\\evil.test/", "/evil.test/"),
            ("http://api///\\/evil.test/", "/evil.test/"),
        ] {
            check(&own, &format!("Location: {url}"), &format!("Location: {expect}"));
        }
        check(&own, "Refresh: 5; url=http://api/a", "Refresh: 5; url=/a");
        check(&own, "Refresh: 5;URL=http://api/a", "Refresh: 5;URL=/a");
        check(&own, "Refresh: 5", "Refresh: 5");
        check(&own, "Content-Location: http://api/a", "Content-Location: http://api/a");
    }

    #[test]
    fn paths_are_those_of_the_client() {
        let mapped = LocationRules::default().with_paths("/two/", "/one/");
        check(&mapped, "Location: http://api/two/a", "Location: /one/a");
        check(&mapped, "Location: http://api/three/a", "Location: /three/a");
        check(&mapped, "Location: /two/a", "Location: /two/a");
        let whole = LocationRules::default().with_paths("/", "/api/");
        check(&whole, "Location: http://api/a", "Location: /api/a");
        check(&whole, "Location: http://api//a", "Location: /api//a");
    }

    #[test]
    fn beginnings_are_replaced_by_the_first_that_fits() {
        let rules = rules(&[("http://old.test/a/", "/x/"), ("http://old.test/", "https://$host/"), ("/b/", "/")]);
        check(&rules, "Location: http://old.test/a/c", "Location: /x/c");
        check(&rules, "Location: http://old.test/c", "Location: https://www.test/c");
        check(&rules, "Location: /b/c", "Location: /c");
        check(&rules, "Location: /b//evil.test", "Location: /evil.test");
        check(&rules, "Location: http://api/c", "Location: /c");
        check(&rules, "Refresh: 0; url=/b/c", "Refresh: 0; url=/c");
    }
}
