//! The runtimes: the only folder that knows monoio, tokio-uring and system calls, and the only one with `unsafe`.
//!
//! Data workers run on monoio (io_uring, or epoll where io_uring is refused); application workers on tokio-uring.
//! The rest of the program sees the small set of functions below: [`spawn`], [`net`], [`time`], [`mailbox`], [`sys`].
//! Deliberately absent: protocol knowledge of any kind.
#![allow(unsafe_code)] // the one folder where it is allowed; every block states its reason

pub mod address;
pub mod body;
pub mod cores;
pub mod crew;
pub mod detached;
pub mod driver;
pub mod helpers;
pub mod listener;
pub mod mailbox;
pub mod net;
pub(crate) mod sync;
pub mod sys;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub(crate) mod turn;
pub mod turnstile;
pub mod udp;

use std::cell::Cell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs `future` on this data worker, beside its other tasks, until it ends. Nothing waits for it.
///
/// Must be called on a data worker. A panic inside `future` ends that task alone: the caller's task and the worker
/// go on (see [`contain`]).
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(contain(future)));
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Panics contained on this thread since the last call.
pub fn take_panics() -> u64 {
    PANICS.take()
}

/// Wraps `future` so that a panic inside it ends it, is logged and counted, and goes no further.
///
/// A struct and not an `async` block: that would store the future twice.
pub fn contain<F: Future<Output = ()>>(future: F) -> Contained<F> {
    Contained { future }
}

/// See [`contain`].
pub struct Contained<F> {
    future: F,
}

impl<F: Future<Output = ()>> Future for Contained<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `future` is structurally pinned: it is never moved out of, `Contained` has no `Drop` and is `Unpin`
        // only when `F` is.
        let future = unsafe { self.map_unchecked_mut(|contained| &mut contained.future) };
        // The panic hook has logged message and place; a future that panicked is not polled again.
        std::panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))).unwrap_or_else(|_| {
            PANICS.set(PANICS.get() + 1);
            Poll::Ready(())
        })
    }
}
