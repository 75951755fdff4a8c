//! What MySQL servers report of a session, and what is set from it elsewhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::mysql::fuzz::trackers(input));
