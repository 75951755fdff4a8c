//! A request that is sent on inside with other words: behind a rewrite, for an error page, by X-Accel-Redirect; the
//! question whether it may come in, and the request with what the answer to that has granted it.

use super::exchange::{Page, Request};
use crate::http::fields::Fields;
use crate::http::h1::{BodyKind, Field, FieldName, Method, RequestHead, Span, list_elements};

/// Tells whom `auth_request` asks what the client asked for.
const ORIGINAL_URI: &str = "X-Original-URI";
const ORIGINAL_METHOD: &str = "X-Original-Method";

/// As what a request is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Only the target is another.
    AsItIs,
    /// As a GET (a HEAD stays one) without content: a server behind us has named what to send.
    AsGet,
    /// The same with no more rights than the client has: a program has named what it could have asked for.
    AsAsked,
    /// For an error page, which is unconditional and whole.
    Page(Page),
}

impl Sent {
    /// The error page, if it is one.
    pub(super) fn page(self) -> Option<Page> {
        match self {
            Sent::Page(page) => Some(page),
            Sent::AsItIs | Sent::AsGet | Sent::AsAsked => None,
        }
    }
}

/// The head of such a request, in memory of its own.
pub(super) struct Redirected {
    head: RequestHead,
    bytes: Vec<u8>,
}

impl Redirected {
    /// `request` with another target, path and query.
    pub(super) fn new(request: Request<'_>, target: &[u8], sent: &Sent) -> Redirected {
        let mut redirected = Redirected { head: request.head.clone(), bytes: request.bytes.to_vec() };
        redirected.head.target = redirected.append(target);
        if *sent == Sent::AsItIs {
            return redirected;
        }
        if redirected.head.method != Method::Head {
            redirected.head.method = Method::Get;
            redirected.head.method_text = redirected.append(b"GET");
        }
        redirected.head.body = BodyKind::None;
        redirected.head.expect_continue = false;
        let is_page = matches!(sent, Sent::Page(_));
        redirected.head.fields.retain(|field| keeps(field.known, is_page));
        redirected
    }

    /// The GET by which another path of the site is asked whether `request` may come in: with its fields, without its
    /// content, conditions and ranges, and without the fields `own`, which only an answer may bring.
    pub(super) fn question(request: Request<'_>, target: &[u8], own: &[String]) -> Redirected {
        let mut question = Redirected { head: request.head.clone(), bytes: request.bytes.to_vec() };
        question.head.target = question.append(target);
        question.head.method = Method::Get;
        question.head.method_text = question.append(b"GET");
        question.head.body = BodyKind::None;
        question.head.expect_continue = false;
        question.head.fields.retain(|field| keeps(field.known, true));
        question.remove_fields(own.iter().map(String::as_str).chain([ORIGINAL_URI, ORIGINAL_METHOD]));
        question.keep_from_connection(&[ORIGINAL_URI, ORIGINAL_METHOD]);
        question.add_field(ORIGINAL_URI, request.asked.target);
        question.add_field(ORIGINAL_METHOD, request.asked.method);
        question
    }

    /// `request` with the fields called `names` as `granted` has them, and none of the client's own.
    pub(super) fn granted(request: Request<'_>, names: &[String], granted: &[u8]) -> Redirected {
        let mut changed = Redirected { head: request.head.clone(), bytes: request.bytes.to_vec() };
        changed.remove_fields(names.iter().map(String::as_str));
        changed.keep_from_connection(names);
        for name in names {
            Fields::new(granted).values(name).for_each(|value| changed.add_field(name, value));
        }
        changed
    }

    fn add_field(&mut self, name: &str, value: &[u8]) {
        let field = Field {
            known: FieldName::of(name.as_bytes()),
            name: self.append(name.as_bytes()),
            value: self.append(value),
        };
        self.head.fields.push(field);
    }

    fn remove_fields<'a>(&mut self, names: impl Iterator<Item = &'a str> + Clone) {
        let bytes = &self.bytes;
        self.head.fields.retain(|field| !names.clone().any(|name| is_read_as(field.name.of(bytes), name)));
    }

    /// Takes `names` out of what the client's Connection fields name, so that they reach the next server.
    fn keep_from_connection(&mut self, names: &[impl AsRef<str>]) {
        let is_one = |option: &&[u8]| names.iter().any(|name| is_read_as(option, name.as_ref()));
        for at in 0..self.head.fields.len() {
            let Field { known, value, .. } = self.head.fields[at];
            if known == FieldName::Connection && list_elements(value.of(&self.bytes)).any(|option| is_one(&option)) {
                let others: Vec<&[u8]> =
                    list_elements(value.of(&self.bytes)).filter(|option| !is_one(option)).collect();
                let others = others.join(&b", "[..]);
                self.head.fields[at].value = self.append(&others);
            }
        }
    }

    fn append(&mut self, text: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        Span::from(start..self.bytes.len())
    }

    /// What the actions see; everything else is that of `original`.
    pub(super) fn request<'a>(&'a self, original: Request<'a>) -> Request<'a> {
        Request { head: &self.head, bytes: &self.bytes, ..original }
    }
}

/// A CGI-like program reads `X_User` as it reads `X-User`.
fn is_read_as(field: &[u8], name: &str) -> bool {
    let dashed = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    field.len() == name.len() && field.iter().map(dashed).eq(name.as_bytes().iter().map(dashed))
}

fn keeps(name: FieldName, is_page: bool) -> bool {
    use FieldName::*;
    let is_of_content = matches!(name, ContentLength | ContentType | TransferEncoding | Expect | Trailer);
    let is_condition =
        matches!(name, IfMatch | IfNoneMatch | IfModifiedSince | IfUnmodifiedSince | IfRange | FieldName::Range);
    !(is_of_content || is_page && is_condition)
}
