//! X-Forwarded-For, Forwarded, X-Real-IP: what a trusted proxy wrote counts, whatever a client put in front.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::guard::fuzz::forwarded(input));
