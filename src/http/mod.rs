//! HTTP: message model, the HTTP/1.1 codec, body framing, the guard of HTTP/2 connections, the connection driver.

pub mod date;
pub mod h1;
pub mod h2;
