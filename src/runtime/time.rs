//! Timers of a data worker, in milliseconds. Must be called on a data worker.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The time given to [`timeout`] has passed. The operation inside was dropped, so what it was reading is lost:
/// close its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// Waits for `duration`, rounded up to a millisecond.
pub async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// Runs `future` for at most `duration`.
///
/// Errors: [`Elapsed`] when the time is up first. A read or write that was under way is cancelled, and its bytes may
/// be lost: the caller closes the socket.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    monoio::time::timeout(duration, future).await.map_err(|_| Elapsed)
}

/// Ready every so often, for use inside a hand-written `poll`.
pub struct Ticker {
    every: Duration,
    sleep: Pin<Box<dyn Future<Output = ()>>>,
}

impl Ticker {
    /// First ready after `every`.
    pub fn new(every: Duration) -> Ticker {
        Ticker { every, sleep: Box::pin(sleep(every)) }
    }

    /// Ready when the time is up; the next period begins with this call. Wakes the task of `cx` for the next one.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.sleep = Box::pin(sleep(self.every));
        // Registers the new timer; it cannot be ready at once.
        let _ = self.sleep.as_mut().poll(cx);
        Poll::Ready(())
    }
}
