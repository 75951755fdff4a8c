//! Servers of HTTP/2: their greeting reads the same however it is cut, and the heads of their answers stay within limits.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::http::h2::fuzz::server(input));
