//! Which methods a route takes, and what is told of them.

use std::borrow::Cow;

use super::{Origin, Routed};

/// Methods with a bit of their own, in the order in which Allow names them.
const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The methods of one route.
#[derive(Debug)]
pub(super) struct Methods {
    /// By position in [`KNOWN`].
    known: u8,
    others: Vec<Box<[u8]>>,
    all: bool,
    /// As written.
    named: Vec<String>,
}

impl Methods {
    /// `named` by the route: none stands for all, GET for HEAD too unless a route of the path names HEAD.
    pub(super) fn new(named: &[String], head_is_named: bool) -> Methods {
        let implied = named.iter().any(|name| name == "GET") && !head_is_named;
        let bits = named.iter().filter_map(|name| bit(name.as_bytes()));
        Methods {
            known: bits.fold(0, |known, bit| known | bit) | if implied { HEAD } else { 0 },
            others: named
                .iter()
                .filter(|name| bit(name.as_bytes()).is_none())
                .map(|name| name.as_bytes().into())
                .collect(),
            all: named.is_empty(),
            named: named.to_vec(),
        }
    }

    /// As written in the route.
    pub(super) fn named(&self) -> &[String] {
        &self.named
    }

    #[inline]
    pub(super) fn take(&self, method: &[u8]) -> bool {
        self.all
            || match bit(method) {
                Some(bit) => self.known & bit != 0,
                None => self.others.iter().any(|other| **other == *method),
            }
    }
}

const HEAD: u8 = 1 << 1;

/// Methods are compared with regard to case (RFC 9110 section 9.1).
fn bit(method: &[u8]) -> Option<u8> {
    KNOWN.iter().position(|known| known.as_bytes() == method).map(|at| 1 << at)
}

/// What to answer when no route of a path takes the method.
#[derive(Debug)]
pub(super) struct Allow {
    /// Value of the field; empty when clients reach no route of the path.
    text: Box<str>,
    /// The same for internal redirects.
    internal: Box<str>,
}

impl Allow {
    /// `routes`: the methods of each route of the path, and whether it is internal.
    pub(super) fn new<'a>(routes: impl Iterator<Item = (&'a [String], bool)> + Clone) -> Allow {
        let of_clients = routes.clone().filter(|(_, internal)| !internal);
        Allow { text: text(of_clients.map(|(methods, _)| methods)), internal: text(routes.map(|(methods, _)| methods)) }
    }

    pub(super) fn refuse(&self, method: &[u8], origin: Origin) -> Routed<'_> {
        let allow = match origin {
            Origin::Client => &*self.text,
            Origin::Internal => &*self.internal,
        };
        refusal(method, Cow::Borrowed(allow))
    }

    /// The same, for one that has been made for this request.
    pub(super) fn into_refusal<'a>(self, method: &[u8], origin: Origin) -> Routed<'a> {
        let allow = match origin {
            Origin::Client => self.text,
            Origin::Internal => self.internal,
        };
        refusal(method, Cow::Owned(allow.into()))
    }
}

fn refusal<'a>(method: &[u8], allow: Cow<'a, str>) -> Routed<'a> {
    match method {
        _ if allow.is_empty() => Routed::NotFound,
        b"OPTIONS" => Routed::Methods { allow },
        _ => Routed::MethodNotAllowed { allow },
    }
}

fn text<'a>(routes: impl Iterator<Item = &'a [String]>) -> Box<str> {
    let named: Vec<&str> = routes.flatten().map(String::as_str).collect();
    if named.is_empty() {
        return "".into();
    }
    let is_answered =
        |method: &str| named.contains(&method) || method == "OPTIONS" || (method == "HEAD" && named.contains(&"GET"));
    let mut methods: Vec<&str> = KNOWN.into_iter().filter(|method| is_answered(method)).collect();
    for method in named {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    methods.join(", ").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn get_stands_for_head() {
        let takes = |named: &str, head_is_named, method: &str| {
            Methods::new(&names(named), head_is_named).take(method.as_bytes())
        };
        assert!(takes("GET", false, "GET") && takes("GET", false, "HEAD") && !takes("GET", true, "HEAD"));
        assert!(!takes("POST", false, "HEAD") && !takes("HEAD", true, "GET"));
        assert!(takes("GET PURGE", false, "PURGE") && !takes("GET PURGE", false, "PROPFIND"));
        assert!(takes("", false, "ANY") && !takes("GET", false, "get") && !takes("GET", false, ""));
    }

    #[test]
    fn allow_tells_what_is_answered() {
        let check = |routes: &[(&str, bool)], expect: (&str, &str)| {
            let routes: Vec<(Vec<String>, bool)> =
                routes.iter().map(|(named, internal)| (names(named), *internal)).collect();
            let allow = Allow::new(routes.iter().map(|(named, internal)| (named.as_slice(), *internal)));
            assert_eq!((&*allow.text, &*allow.internal), expect);
        };
        check(&[("GET", false)], ("GET, HEAD, OPTIONS", "GET, HEAD, OPTIONS"));
        check(
            &[("POST", false), ("PURGE GET", false)],
            ("GET, HEAD, POST, OPTIONS, PURGE", "GET, HEAD, POST, OPTIONS, PURGE"),
        );
        check(&[("GET", true), ("POST", false)], ("POST, OPTIONS", "GET, HEAD, POST, OPTIONS"));
        check(&[("GET", true)], ("", "GET, HEAD, OPTIONS"));
    }
}
