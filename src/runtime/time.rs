//! Timers of a data worker, in milliseconds. Must be called on a data worker.

use std::future::Future;
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
