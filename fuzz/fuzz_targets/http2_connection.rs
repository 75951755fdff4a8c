//! HTTP/2 connections: the guard counts the same however the bytes are cut, and stays within its bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| one_server::http::h2::fuzz::connection(input));
