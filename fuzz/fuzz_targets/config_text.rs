//! Config files: a config, or mistakes that can be shown.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::config::fuzz::text(input));
