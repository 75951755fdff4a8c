//! Compressed frames of MySQL, both ways.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::mysql::fuzz::frames(input));
