//! A request that is sent on inside, to another target: behind a rewrite, for an error page, by X-Accel-Redirect.

use super::exchange::{Page, Request};
use crate::http::h1::{BodyKind, FieldName, Method, RequestHead, Span};

/// As what a request is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Only the target is another.
    AsItIs,
    /// As a GET (a HEAD stays one) without content: a server behind us has named what to send.
    AsGet,
    /// For an error page, which is unconditional and whole.
    Page(Page),
}

impl Sent {
    /// The error page, if it is one.
    pub(super) fn page(self) -> Option<Page> {
        match self {
            Sent::Page(page) => Some(page),
            Sent::AsItIs | Sent::AsGet => None,
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

fn keeps(name: FieldName, is_page: bool) -> bool {
    use FieldName::*;
    let is_of_content = matches!(name, ContentLength | ContentType | TransferEncoding | Expect | Trailer);
    let is_condition =
        matches!(name, IfMatch | IfNoneMatch | IfModifiedSince | IfUnmodifiedSince | IfRange | FieldName::Range);
    !(is_of_content || is_page && is_condition)
}
