//! Definitions of triggers, views and routines, as servers tell them.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::mysql::fuzz::definitions(input));
