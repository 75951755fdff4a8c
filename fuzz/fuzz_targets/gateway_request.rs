//! Request heads as variables of FastCGI, uwsgi and SCGI.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::proxy::gateway::fuzz::gateway_request(input));
