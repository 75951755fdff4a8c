//! Conditional fields: what the table of RFC 9110 section 13.2.2 says.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::files::fuzz::conditions(input));
