//! Heads of programs behind FastCGI and SCGI.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::proxy::gateway::fuzz::cgi_head(input));
