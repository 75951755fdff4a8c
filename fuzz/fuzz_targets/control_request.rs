//! The control socket: every line is a request or is refused, and a request says the same when it is written again.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::control::ctl::fuzz::request(input));
