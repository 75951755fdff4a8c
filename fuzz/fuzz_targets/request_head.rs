//! Request heads: what is accepted reads the same to a plain parser.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::http::h1::fuzz::request_head(input));
