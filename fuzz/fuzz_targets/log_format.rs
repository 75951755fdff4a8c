//! Formats of the access log: one line without control bytes, whatever a client sends.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::log::fuzz::format(input));
