//! PROXY protocol: a header ends where its last byte is, and reads the same when it is written anew.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::guard::fuzz::proxy_header(input));
