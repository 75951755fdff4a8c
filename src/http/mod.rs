//! HTTP: message model, the HTTP/1.1 codec, body framing, the connection driver.

pub mod caching;
pub mod date;
pub mod fields;
pub mod h1;
