//! Response heads: the same, for every kind of request method.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::http::h1::fuzz::response_head(input));
