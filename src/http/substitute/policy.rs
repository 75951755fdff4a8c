//! Which answers are changed, and what is put into them.

use std::sync::Arc;

use super::machine::{Substitution, Texts};
use crate::http::coding::{Candidate, TypePattern};
use crate::util::template::{Encoding, Template, Variables};

/// Most pairs of one place in the config.
pub const PAIRS_MAX: usize = 64;

/// Most bytes of a text that is looked for: that much of a body may be held back.
pub const TEXT_BYTES_MAX: usize = 1024;

/// The compiled `substitute` of a place in the config.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What is looked for.
    pub texts: Arc<Texts>,
    /// What is put in the place of each.
    pub values: Vec<Template>,
    /// Media types that are changed; empty: all, and answers that tell none.
    pub types: Vec<TypePattern>,
    /// Each text is replaced where it is found first, and not again.
    pub once: bool,
    /// Last-Modified stays, and ETag as a weak one.
    pub keeps_validators: bool,
}

impl Policy {
    /// Whether the body of an answer is changed. HEAD counts as GET, so that its fields are the same (RFC 9110 section
    /// 9.3.2).
    pub fn applies(&self, answer: &Candidate<'_>) -> bool {
        // 1xx, 204 and 304 have no body, 205 an empty one. Parts are those of what the server has: changed, nobody could
        // join them. What is coded cannot be looked into.
        let has_whole_body = answer.status >= 200 && !matches!(answer.status, 204 | 205 | 206 | 304);
        has_whole_body
            && answer.length != Some(0)
            && !answer.is_coded
            && !answer.has_content_range
            && self.has_type(answer.content_type)
    }

    /// Whether answers of this media type are changed; `None`: it is not told.
    pub fn has_type(&self, content_type: Option<&[u8]>) -> bool {
        let is_named = |content_type| self.types.iter().any(|pattern| pattern.is_of(content_type));
        self.types.is_empty() || content_type.is_some_and(is_named)
    }

    /// Begins with a body of this media type, which decides what values must not do to the text around them: what comes
    /// from the request stays text.
    pub fn begin<V: Variables + ?Sized>(&self, content_type: Option<&[u8]>, variables: &V) -> Substitution {
        let encoding = Encoding::of_body(content_type.unwrap_or_default());
        let value = |template: &Template| {
            let mut value = Vec::new();
            template.put(encoding, variables, &mut value);
            value
        };
        Substitution::new(self.texts.clone(), self.values.iter().map(value).collect(), self.once)
    }

    /// Whether some value needs the captures of the route.
    pub fn use_captures(&self) -> bool {
        self.values.iter().any(Template::uses_captures)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::util::template::{Scope, Variable};

    pub(in crate::http::substitute) fn policy() -> Policy {
        Policy {
            texts: Arc::new(Texts::new(vec![b"a".as_slice().into()]).expect("a text")),
            values: vec![Template::parse("<$host>", Scope::default()).expect("a template")],
            types: vec![TypePattern::parse("text/html").expect("a type")],
            once: false,
            keeps_validators: false,
        }
    }

    #[test]
    fn whole_plain_bodies_of_the_types_are_changed() {
        let html = Candidate { status: 200, content_type: Some(b"text/html; charset=utf-8"), ..Candidate::default() };
        let applies = |answer: Candidate<'_>| policy().applies(&answer);
        assert!(applies(html) && applies(Candidate { status: 404, length: Some(1), ..html }));
        assert!(applies(Candidate { no_transform: true, has_digest: true, ..html }), "the operator has asked for it");
        for status in [100, 204, 205, 206, 304] {
            assert!(!applies(Candidate { status, ..html }), "{status}");
        }
        assert!(!applies(Candidate { length: Some(0), ..html }));
        assert!(!applies(Candidate { is_coded: true, ..html }));
        assert!(!applies(Candidate { has_content_range: true, ..html }));
        for content_type in [None, Some(b"text/css".as_slice()), Some(b"text/htmlx")] {
            assert!(!applies(Candidate { content_type, ..html }));
            assert!(Policy { types: Vec::new(), ..policy() }.applies(&Candidate { content_type, ..html }));
        }
    }

    struct Host;

    impl Variables for Host {
        fn put(&self, _: &Variable, out: &mut Vec<u8>) {
            out.extend_from_slice(b"<\"&");
        }
    }

    #[test]
    fn values_stay_text() {
        for (content_type, expect) in
            [("text/html", "<&lt;&#34;&amp;>"), ("text/css", "<<\"&>"), ("application/json", "<\\u003C\\\"&>")]
        {
            let mut out = Vec::new();
            policy().begin(Some(content_type.as_bytes()), &Host).write(b"a", &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expect, "{content_type}");
        }
    }
}
