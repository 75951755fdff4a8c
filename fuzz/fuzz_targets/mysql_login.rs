//! Logins: no password in clear, and no client without it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::mysql::fuzz::logins(input));
