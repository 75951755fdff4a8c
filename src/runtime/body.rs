//! A body that crosses between cores: chunks of [`Bytes`] without a copy, with credit.
//!
//! One sender, one receiver, possibly on different threads. At most `window` bytes (and a fixed number of chunks) are
//! under way; the sender waits for credit, which the receiver gives back by taking chunks out. Dropping the receiver
//! tells the sender to stop; dropping the sender before [`BodySender::finish`] tells the receiver that the body is
//! truncated.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::sync::{Arc, ArrayQueue, AtomicU8, AtomicUsize, AtomicWaker, Ordering::SeqCst, register};

/// Chunks under way at most, whatever their size.
const CHUNKS_MAX: usize = 32;

const OPEN: u8 = 0;
const FINISHED: u8 = 1;
const ABORTED: u8 = 2;

struct Shared {
    chunks: ArrayQueue<Bytes>,
    /// Bytes in `chunks`.
    queued_bytes: AtomicUsize,
    window_bytes: usize,
    /// What the sender has said last: `OPEN`, `FINISHED`, `ABORTED`.
    end: AtomicU8,
    /// 1 once the receiver is gone.
    receiver_gone: AtomicU8,
    receiver: AtomicWaker,
    sender: AtomicWaker,
}

/// The receiver is gone: nobody wants the rest of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverGone;

impl std::fmt::Display for ReceiverGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody wants the rest of the body")
    }
}

impl std::error::Error for ReceiverGone {}

/// The sender went away before the end: the body is truncated and must not be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

impl std::fmt::Display for Truncated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body ended before its end")
    }
}

impl std::error::Error for Truncated {}

/// The end that puts chunks in.
pub struct BodySender(Arc<Shared>);

/// The end that takes chunks out.
pub struct BodyReceiver(Arc<Shared>);

/// See [`BodySender::watch`].
pub struct BodyWatch(Arc<Shared>);

impl BodyWatch {
    /// The receiver is gone.
    pub fn is_abandoned(&self) -> bool {
        self.0.receiver_gone.load(SeqCst) == 1
    }
}

/// A body channel with `window_bytes` of credit (at least 1).
pub fn body_channel(window_bytes: usize) -> (BodySender, BodyReceiver) {
    let shared = Arc::new(Shared {
        chunks: ArrayQueue::new(CHUNKS_MAX),
        queued_bytes: AtomicUsize::new(0),
        window_bytes: window_bytes.max(1),
        end: AtomicU8::new(OPEN),
        receiver_gone: AtomicU8::new(0),
        receiver: AtomicWaker::new(),
        sender: AtomicWaker::new(),
    });
    (BodySender(shared.clone()), BodyReceiver(shared))
}

impl BodySender {
    fn has_credit(&self) -> bool {
        self.0.queued_bytes.load(SeqCst) < self.0.window_bytes && !self.0.chunks.is_full()
    }

    /// Waits for credit. Errors: [`ReceiverGone`].
    pub fn poll_credit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReceiverGone>> {
        for _ in 0..2 {
            if self.0.receiver_gone.load(SeqCst) == 1 {
                return Poll::Ready(Err(ReceiverGone));
            }
            if self.has_credit() {
                return Poll::Ready(Ok(()));
            }
            register(&self.0.sender, cx); // then look again: credit may have come in between
        }
        Poll::Pending
    }

    /// Waits for credit, then sends `chunk`. A chunk larger than the window goes alone.
    pub async fn send(&mut self, chunk: Bytes) -> Result<(), ReceiverGone> {
        std::future::poll_fn(|cx| self.poll_credit(cx)).await?;
        self.push(chunk);
        Ok(())
    }

    /// Sends `chunk` after [`BodySender::poll_credit`] said that there is credit.
    ///
    /// Panics when the caller did not ask: more chunks than there can be.
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.0.queued_bytes.fetch_add(chunk.len(), SeqCst);
        assert!(self.0.chunks.push(chunk).is_ok(), "body chunk pushed without credit");
        self.0.receiver.wake();
    }

    /// Nobody takes the rest.
    pub fn is_abandoned(&self) -> bool {
        self.0.receiver_gone.load(SeqCst) == 1
    }

    /// Tells others whether anybody still takes the body.
    pub fn watch(&self) -> BodyWatch {
        BodyWatch(self.0.clone())
    }

    /// The body is complete.
    pub fn finish(self) {
        self.0.end.store(FINISHED, SeqCst);
        // Drop wakes the receiver.
    }
}

impl Drop for BodySender {
    fn drop(&mut self) {
        let _ = self.0.end.compare_exchange(OPEN, ABORTED, SeqCst, SeqCst);
        self.0.receiver.wake();
    }
}

impl BodyReceiver {
    /// The next chunk; `None` at the end of a complete body. Errors: [`Truncated`].
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Truncated>>> {
        for _ in 0..2 {
            // The end is read before the queue: what the sender pushed before its end is then surely seen.
            let end = self.0.end.load(SeqCst);
            if let Some(chunk) = self.0.chunks.pop() {
                self.0.queued_bytes.fetch_sub(chunk.len(), SeqCst);
                self.0.sender.wake();
                return Poll::Ready(Some(Ok(chunk)));
            }
            match end {
                FINISHED => return Poll::Ready(None),
                ABORTED => return Poll::Ready(Some(Err(Truncated))),
                _ => register(&self.0.receiver, cx), // then look again
            }
        }
        Poll::Pending
    }

    /// The next chunk, waiting for it; as [`BodyReceiver::poll_chunk`].
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Truncated>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// True when the body is complete and every chunk was taken.
    pub fn is_finished(&self) -> bool {
        self.0.end.load(SeqCst) == FINISHED && self.0.chunks.is_empty()
    }
}

impl Drop for BodyReceiver {
    fn drop(&mut self) {
        self.0.receiver_gone.store(1, SeqCst);
        while self.0.chunks.pop().is_some() {}
        self.0.sender.wake();
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;
    use crate::testing::block_on;

    #[test]
    fn a_body_crosses_threads_in_order_within_its_window() {
        let (mut sender, mut receiver) = body_channel(1000);
        let thread = std::thread::spawn(move || {
            block_on(async move {
                for n in 0..5000u32 {
                    sender.send(Bytes::from(vec![n as u8; (n % 700) as usize])).await.unwrap();
                }
                sender.finish();
            });
        });
        let mut total = 0;
        block_on(async {
            while let Some(chunk) = receiver.chunk().await {
                assert!(receiver.0.queued_bytes.load(SeqCst) < 1000 + 700);
                total += chunk.unwrap().len();
            }
        });
        thread.join().unwrap();
        assert_eq!(total, (0..5000u32).map(|n| (n % 700) as usize).sum::<usize>());
    }

    #[test]
    fn a_dropped_sender_is_a_truncated_body_and_a_dropped_receiver_stops_the_sender() {
        let (mut sender, mut receiver) = body_channel(10);
        block_on(sender.send(Bytes::from_static(b"part"))).unwrap();
        drop(sender);
        assert_eq!(block_on(receiver.chunk()), Some(Ok(Bytes::from_static(b"part"))));
        assert_eq!(block_on(receiver.chunk()), Some(Err(Truncated)));

        let (mut sender, receiver) = body_channel(1);
        block_on(sender.send(Bytes::from_static(b"more than the window"))).unwrap();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert_eq!(sender.poll_credit(&mut cx), Poll::Pending);
        drop(receiver);
        assert_eq!(block_on(sender.send(Bytes::from_static(b"x"))), Err(ReceiverGone));
    }
}

#[cfg(all(test, model_check))]
mod loom_tests {
    use super::*;
    use loom::future::block_on;

    /// Under every interleaving of sender and receiver the body arrives whole, with its end, although the window
    /// holds a single byte (a lost wake-up on either side would deadlock the model).
    #[test]
    fn loom_a_body_arrives_whole() {
        loom::model(|| {
            let (mut sender, mut receiver) = body_channel(1);
            let thread = loom::thread::spawn(move || {
                block_on(async {
                    sender.send(Bytes::from_static(b"a")).await.unwrap();
                    sender.send(Bytes::from_static(b"b")).await.unwrap();
                    sender.finish();
                })
            });
            let body = block_on(async {
                let mut body = Vec::new();
                while let Some(chunk) = receiver.chunk().await {
                    body.extend_from_slice(&chunk.unwrap());
                }
                body
            });
            assert_eq!(body, b"ab");
            thread.join().unwrap();
        });
    }

    /// A receiver that goes away always stops a sender that waits for credit.
    #[test]
    fn loom_a_gone_receiver_stops_the_sender() {
        loom::model(|| {
            let (mut sender, receiver) = body_channel(1);
            sender.push(Bytes::from_static(b"a"));
            let thread = loom::thread::spawn(move || drop(receiver));
            assert_eq!(block_on(sender.send(Bytes::from_static(b"b"))), Err(ReceiverGone));
            thread.join().unwrap();
        });
    }
}
