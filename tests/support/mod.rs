//! What the black-box tests share: the real binary as a process, a strict raw client, an upstream that misbehaves on
//! demand.
//!
//! Nothing here knows how the server works inside: it is started with a config file, talked to through sockets, and
//! looked at through its admin pages and `/proc`.

// Each test binary uses a part of this.
#![allow(dead_code, unused_imports)]

pub(crate) mod actions;
pub(crate) mod apps;
pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod datagrams;
pub(crate) mod dnsmasq;
pub(crate) mod fake_dns;
pub(crate) mod fake_fastcgi;
pub(crate) mod fake_http2;
pub(crate) mod frames;
pub(crate) mod grpc;
pub(crate) mod haproxy;
pub(crate) mod http2;
pub(crate) mod http3;
pub(crate) mod load;
pub(crate) mod nginx;
pub(crate) mod php;
pub(crate) mod ports;
pub(crate) mod real;
pub(crate) mod server;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod tools;
pub(crate) mod upstream;
pub(crate) mod uwsgi;
pub(crate) mod websocket;

pub(crate) use client::{Client, End, Response, get, post, request};
pub(crate) use server::{Driver, Server, Site};
pub(crate) use upstream::{Exchange, FakeUpstream, Seen};

use std::time::{Duration, Instant};

/// Longest wait for something that should happen soon. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` with each driver, side by side: most of it is waiting. A failure's output names the driver.
pub(crate) fn with_both_drivers(test: impl Fn(Driver) + Sync) {
    let test = &test;
    let ends = std::thread::scope(|scope| {
        let run = |driver: Driver| scope.spawn(move || test(driver));
        [Driver::IoUring, Driver::Epoll].map(run).map(|thread| thread.join())
    });
    for (end, driver) in ends.into_iter().zip([Driver::IoUring, Driver::Epoll]) {
        if let Err(panic) = end {
            eprintln!("failed with driver {}", driver.flag());
            std::panic::resume_unwind(panic);
        }
    }
}

/// Waits until `condition` is true.
///
/// Panics when that takes longer than [`PATIENCE`].
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `len` bytes that differ from place to place, the same on every call.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// Says that `program` is missing, so that a skipped test does not look like a passed one.
pub(crate) fn has_program(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).is_file());
    if !found {
        eprintln!("SKIPPED: `{program}` is not installed");
    }
    found
}
