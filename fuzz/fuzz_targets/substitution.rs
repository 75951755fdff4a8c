//! Bodies in which texts are replaced: however they are cut, the same comes out.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::http::substitute::fuzz::body(input));
