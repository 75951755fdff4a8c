//! HTTP: message model, the HTTP/1.1 codec, body framing, content codings, substitution in bodies, header fields, trailers, what
//! is ours of HTTP/2, HTTP/3.

pub mod answer;
pub mod caching;
pub mod coding;
pub mod cookies;
pub mod date;
pub mod fields;
pub mod grpc;
pub mod h1;
pub mod h2;
pub mod h3;
pub mod location;
pub mod substitute;
pub mod trailers;
