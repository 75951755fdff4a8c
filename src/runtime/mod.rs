//! The runtimes: the only folder that knows monoio, tokio-uring and system calls, and the only one with `unsafe`.
//!
//! Data workers run on monoio (io_uring, or epoll where io_uring is refused); application workers on tokio-uring.
//! The rest of the program sees the small set of functions below: [`spawn`], [`net`], [`time`], [`mailbox`], [`sys`].
//! Deliberately absent: protocol knowledge of any kind.
#![allow(unsafe_code)] // the one folder where it is allowed; every block states its reason

pub mod body;
pub mod cores;
pub mod driver;
pub mod mailbox;
pub mod net;
mod sync;
pub mod sys;
pub mod time;

use std::future::Future;

/// Runs `future` on this data worker, beside its other tasks, until it ends. Nothing waits for it.
///
/// Must be called on a data worker. A panic inside `future` ends that task alone: the caller's task and the worker
/// go on (see [`contain`]).
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(contain(future)));
}

/// Wraps `future` so that a panic inside it ends it, is logged and counted, and goes no further.
pub async fn contain(future: impl Future<Output = ()>) {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        let poll = std::panic::AssertUnwindSafe(|| future.as_mut().poll(cx));
        match std::panic::catch_unwind(poll) {
            Ok(poll) => poll,
            // The panic hook has logged message and place; the future is not polled again.
            Err(_) => std::task::Poll::Ready(()),
        }
    })
    .await;
}
