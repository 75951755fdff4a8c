//! Streams of HTTP/3: read the same however they are cut, and a field section becomes a request or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::http::h3::fuzz::stream(input));
