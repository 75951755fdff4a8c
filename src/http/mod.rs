//! HTTP: message model, the HTTP/1.1 codec, body framing, content codings, what is ours of HTTP/2.

pub mod answer;
pub mod coding;
pub mod date;
pub mod h1;
pub mod h2;
