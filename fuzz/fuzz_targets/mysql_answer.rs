//! Answers of MySQL servers: the same end and the same bytes for the client, however they are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::mysql::fuzz::answers(input));
