//! Paths: decoded and resolved as a plain reader does it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::util::fuzz::path(input));
