//! The first message of a TLS client: complete at one byte and not before, bounded, plain names.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::tls::fuzz::hello(input));
