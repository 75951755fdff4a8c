//! TLS sessions: the same end however the bytes are cut, and no plaintext without a handshake.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::tls::fuzz::session(input));
