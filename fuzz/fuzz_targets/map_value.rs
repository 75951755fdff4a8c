//! Values of a request that go through a map: none breaks out of its place.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::variables::fuzz::value(input));
