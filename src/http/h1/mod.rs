//! HTTP/1.1 framing over httparse (RFC 9112).

mod head;

pub use head::{BodyKind, Field, FieldName, Method, RequestHead, ResponseHead, Span, Version, host_of};
