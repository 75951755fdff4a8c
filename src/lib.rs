//! 0ne-Server: static files, load balancing, application workers and MySQL read/write splitting in one process,
//! thread-per-core on io_uring.
//!
//! # The house, in the order a request takes
//!
//! | module | does | never does |
//! |---|---|---|
//! | [`cli`] | command line: run, check, demo, static, proxy, split | start threads |
//! | [`config`] | text → written model with spans → immutable [`config::Config`]; all mistakes at once | bind, resolve, create |
//! | [`boot`] | process life: limits, threads, signals, drain | stand on the path of a request |
//! | [`runtime`] | drivers, pinning, mailboxes, buffers, system calls; the only `unsafe` | know a protocol |
//! | [`net`] | listeners, accept | parse |
//! | [`http`] | message model, HTTP/1.1 codec without I/O, connection driver | choose an action |
//! | [`route`] | (host, path) → action, pure | I/O |
//! | [`files`] | static files: path safety, conditionals, ranges, cache, send path | leave its root |
//! | [`proxy`] | upstreams: balance, health, pools, forwarding, retries | complete a truncated body |
//! | [`app`] | in-process applications: contract, bridge, workers | touch a client socket |
//! | [`mysql`] | splitter: protocol, classifier, sessions, pools | send a doubtful statement to a replica |
//! | [`control`] | admin HTTP, health checks, status | stand on the path of a request |
//! | [`demo`] | the application of `one-server demo`, an example of one | know the server around it |
//! | [`metrics`], [`log`] | per-worker counters, histograms, access log | lock, block |
//! | [`util`] | small pure helpers | know any of the above |

pub mod app;
pub mod boot;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod files;
pub mod http;
pub mod log;
pub mod metrics;
pub mod mysql;
pub mod net;
pub mod proxy;
pub mod route;
pub mod runtime;
pub mod util;
