//! Commands and logins of MySQL clients.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::mysql::fuzz::commands(input));
