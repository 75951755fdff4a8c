//! Datagrams of QUIC: where they go is read within their bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::http::h3::fuzz::datagram(input));
