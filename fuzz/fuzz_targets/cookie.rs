//! Cookies of servers whose attributes are changed: no attribute comes from nowhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::http::cookies::fuzz::cookie(input));
