//! Records of a FastCGI server: the same answer however it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::proxy::gateway::fuzz::fastcgi_answer(input));
