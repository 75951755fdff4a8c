//! Chunked bodies: the same content and end however the input is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::http::h1::fuzz::chunked_body(input));
