//! HTTP: message model, the HTTP/1.1 codec, body framing, content codings, the connection driver.

pub mod coding;
pub mod date;
pub mod h1;
