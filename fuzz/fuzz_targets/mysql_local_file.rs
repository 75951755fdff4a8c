//! What a client sends for LOAD DATA LOCAL.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::mysql::fuzz::local_file(input));
