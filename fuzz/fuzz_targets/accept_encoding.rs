//! Accept-Encoding: what a plain reader finds, however its lines are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::http::coding::fuzz::accept_encoding(input));
