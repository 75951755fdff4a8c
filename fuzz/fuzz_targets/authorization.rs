//! Authorization: the credentials that a plain decoder finds.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::guard::fuzz::authorization(input));
