//! HTTP: message model, the HTTP/1.1 codec, body framing, the connection driver.

pub mod answer;
pub mod date;
pub mod h1;
pub mod h2;
