//! Range values: the bytes that a plain reader selects, each once.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::files::fuzz::ranges(input));
