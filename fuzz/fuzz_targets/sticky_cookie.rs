//! Sticky cookies: only what was given out leads to a server.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::proxy::fuzz::sticky_cookie(input));
