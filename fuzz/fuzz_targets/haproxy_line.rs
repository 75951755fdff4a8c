//! A line of HAProxy's runtime protocol: it is commands of words, each understood or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::control::haproxy::fuzz::line(input));
