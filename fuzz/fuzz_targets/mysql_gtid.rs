//! Positions in replication streams.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::mysql::fuzz::gtids(input));
