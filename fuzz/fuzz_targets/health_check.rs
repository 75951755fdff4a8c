//! Answers of servers to health checks: HTTP, plain texts, MySQL.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::proxy::check::fuzz::health_check(input));
