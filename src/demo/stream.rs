//! A body that takes its time: one line per tick, so that streaming through every tier can be seen.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Lines in one answer.
pub(super) const LINES: u32 = 24;
/// Time between two lines.
const PAUSE: Duration = Duration::from_millis(125);

/// [`LINES`] lines, the first at once, each further one after [`PAUSE`].
pub(super) struct SlowLines {
    ticks: Interval,
    started: Instant,
    sent: u32,
}

impl SlowLines {
    /// Begins now. Needs a tokio runtime with its timer.
    pub(super) fn new() -> SlowLines {
        let mut ticks = tokio::time::interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        SlowLines { ticks, started: Instant::now(), sent: 0 }
    }
}

impl Body for SlowLines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.is_end_stream() {
            return Poll::Ready(None);
        }
        let now = ready!(this.ticks.poll_tick(context));
        this.sent += 1;
        let since_ms = now.saturating_duration_since(this.started).as_millis();
        let line = format!("chunk {:2} of {LINES}, written {since_ms} ms after the first\n", this.sent);
        Poll::Ready(Some(Ok(Frame::data(line.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[test]
    fn lines_come_one_by_one() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let started = Instant::now();
            let mut body = SlowLines::new();
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(first.starts_with(b"chunk  1 of 24, written "), "{first:?}");
            assert!(started.elapsed() < PAUSE, "the first line does not wait");
            let rest = body.collect().await.unwrap().to_bytes();
            assert_eq!(rest.iter().filter(|byte| **byte == b'\n').count(), LINES as usize - 1);
            assert!(started.elapsed() >= PAUSE * (LINES - 1));
        });
    }
}
