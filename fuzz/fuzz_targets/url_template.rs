//! Texts with variables: no value breaks out of the text around it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::util::fuzz::template(input));
