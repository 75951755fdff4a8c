//! SQL: what is classed a read is none with anything else behind it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::mysql::fuzz::statement(input));
