//! What becomes of a target that is rewritten.
//!
//! As nginx does it: without a `?` in the new target the query of the request stays; with one, the new query is followed
//! by that of the request; a `?` at the end drops it.

use crate::config::model::Rewrite;
use crate::util::template::{Encoding, Variables};

impl Rewrite {
    /// Appends the new target to `out`: a path, percent-encoded, and perhaps a query. The path is to be normalised like
    /// one that a client sent, which also refuses what must not be in it.
    ///
    /// `query` is that of the request, as sent.
    pub fn put<V: Variables + ?Sized>(&self, variables: &V, query: Option<&[u8]>, out: &mut Vec<u8>) {
        self.to.put(Encoding::Url, variables, out);
        let between = if self.to.ends_with('?') {
            out.pop();
            return;
        } else if self.to.contains('?') {
            b'&'
        } else {
            b'?'
        };
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            out.push(between);
            out.extend_from_slice(query);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::template::{Scope, Template, Variable};

    struct Capture;

    impl Variables for Capture {
        fn put(&self, _: &Variable, out: &mut Vec<u8>) {
            out.extend_from_slice(b"a b?c");
        }
    }

    #[test]
    fn the_query_is_kept_as_nginx_keeps_it() {
        let check = |to: &str, query: Option<&str>, expect: &str| {
            let scope = Scope { captures: &[None], answer: false, ..Scope::default() };
            let rewrite = Rewrite { to: Template::parse(to, scope).unwrap() };
            let mut out = Vec::new();
            rewrite.put(&Capture, query.map(str::as_bytes), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        };
        check("/x", None, "/x");
        check("/x", Some(""), "/x");
        check("/x", Some("a=1"), "/x?a=1");
        check("/x?b=2", Some("a=1"), "/x?b=2&a=1");
        check("/x?b=2", None, "/x?b=2");
        check("/x?", Some("a=1"), "/x");
        check("/x?b=2?", Some("a=1"), "/x?b=2");
        check("/x/$1", Some("a=1"), "/x/a%20b%3Fc?a=1");
        check("/x?p=$1", Some("a=1"), "/x?p=a%20b%3Fc&a=1");
    }
}
