//! One bounded queue for many threads: any number of senders, a fixed crew of receivers, each of which takes the next message as
//! soon as it is free. So a message waits only while every thread is busy, however long one of them is.
//!
//! Compare [`mailbox`](super::mailbox), whose receiver is one. Nothing here waits, allocates per message, or locks.
//!
//! Why no message waits beside a thread that sleeps: a sender pushes, then looks for a thread that is idle and takes it out of
//! that state (a swap from `IDLE` to `CALLED`), which wakes it. A thread that is about to sleep says that it is idle, then looks
//! into the queue once more. A fence stands between the two steps of each, so at least one of them sees what the other has
//! done. A thread that was called takes a message, and if there are more, calls another one before it goes to work; one that was
//! called and finds nothing goes back to sleep. So a call that meets a thread which is already at work for another reason is not
//! lost: its message was seen by that thread's look, or is passed on by its own call. The model checker runs this file under
//! every interleaving (`scripts/test`, `cfg(model_check)`).

use std::task::{Context, Poll};

use super::sync::{Arc, ArrayQueue, AtomicU8, AtomicWaker, CachePadded, Ordering, fence, register};

/// It looks for messages, or works on one.
const BUSY: u8 = 0;
/// It sleeps, or is about to.
const IDLE: u8 = 1;
/// A sender has woken it.
const CALLED: u8 = 2;

struct Seat {
    state: AtomicU8,
    waker: AtomicWaker,
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    seats: Box<[CachePadded<Seat>]>,
}

impl<T> Shared<T> {
    /// Wakes a thread that is idle, if there is one.
    fn call_one(&self) {
        fence(Ordering::SeqCst);
        let is_called = |seat: &&CachePadded<Seat>| {
            seat.state.load(Ordering::SeqCst) == IDLE
                && seat.state.compare_exchange(IDLE, CALLED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        if let Some(seat) = self.seats.iter().find(is_called) {
            seat.waker.wake();
        }
    }
}

/// The sending end; clone it for each sender.
pub struct CrewSender<T>(Arc<Shared<T>>);

impl<T> Clone for CrewSender<T> {
    fn clone(&self) -> Self {
        CrewSender(self.0.clone())
    }
}

/// The end of one thread of the crew.
pub struct CrewReceiver<T> {
    shared: Arc<Shared<T>>,
    seat: usize,
}

/// A queue with room for `capacity` messages, for `threads` receivers (both at least 1).
pub fn crew<T>(capacity: usize, threads: usize) -> (CrewSender<T>, Vec<CrewReceiver<T>>) {
    let seat = |_| CachePadded::new(Seat { state: AtomicU8::new(BUSY), waker: AtomicWaker::new() });
    let shared =
        Arc::new(Shared { queue: ArrayQueue::new(capacity.max(1)), seats: (0..threads.max(1)).map(seat).collect() });
    let receiver = |seat| CrewReceiver { shared: shared.clone(), seat };
    let receivers = (0..threads.max(1)).map(receiver).collect();
    (CrewSender(shared), receivers)
}

impl<T> CrewSender<T> {
    /// Leaves `message` and wakes a thread that is idle.
    ///
    /// Errors: the message itself when the queue is full.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.0.queue.push(message)?;
        self.0.call_one();
        Ok(())
    }

    /// Messages waiting now.
    pub fn depth(&self) -> usize {
        self.0.queue.len()
    }
}

impl<T> CrewReceiver<T> {
    /// The next message, if there is one. Where there are more, another thread is woken for them.
    pub fn try_recv(&mut self) -> Option<T> {
        let message = self.shared.queue.pop()?;
        self.seat().state.store(BUSY, Ordering::SeqCst);
        if !self.shared.queue.is_empty() {
            self.shared.call_one();
        }
        Some(message)
    }

    /// The next message, waiting for it. Dropped before it is ready, it leaves none behind: who was called and does not come
    /// must call [`CrewReceiver::leave`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(message) = self.try_recv() {
            return Poll::Ready(message);
        }
        register(&self.seat().waker, cx);
        self.seat().state.store(IDLE, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.try_recv().map_or(Poll::Pending, Poll::Ready)
    }

    /// This thread takes nothing for now: what it may have been called for is passed on.
    pub fn leave(&mut self) {
        let was_called = self.seat().state.swap(BUSY, Ordering::SeqCst) == CALLED;
        if was_called && !self.shared.queue.is_empty() {
            self.shared.call_one();
        }
    }

    fn seat(&self) -> &Seat {
        &self.shared.seats[self.seat]
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use std::future::poll_fn;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::testing::block_on;

    #[test]
    fn a_message_goes_to_whoever_is_free() {
        let (sender, receivers) = crew::<mpsc::Receiver<()>>(8, 3);
        let (told, tell) = mpsc::channel();
        let threads: Vec<_> = receivers
            .into_iter()
            .map(|mut receiver| {
                let told = told.clone();
                std::thread::spawn(move || {
                    for _ in 0..3 {
                        let held_up = block_on(poll_fn(|cx| receiver.poll_recv(cx)));
                        told.send(()).unwrap();
                        // Until whoever sent it lets go.
                        let _ = held_up.recv();
                    }
                })
            })
            .collect();
        let mut holding = Vec::new();
        for _ in 0..3 {
            let (hold, held) = mpsc::channel::<()>();
            assert!(sender.send(held).is_ok());
            holding.push(hold);
            tell.recv_timeout(Duration::from_secs(20)).expect("another one takes it");
        }
        // All are held up: the rest waits, in order, until one is free.
        for _ in 0..6 {
            let (hold, held) = mpsc::channel::<()>();
            assert!(sender.send(held).is_ok());
            holding.push(hold);
        }
        assert_eq!(sender.depth(), 6);
        assert!(tell.recv_timeout(Duration::from_millis(50)).is_err());
        drop(holding);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(sender.depth(), 0);
    }

    #[test]
    fn a_full_queue_gives_the_message_back() {
        let (sender, mut receivers) = crew(2, 1);
        assert_eq!((sender.send(1), sender.send(2), sender.send(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!(receivers[0].try_recv(), Some(1));
        assert_eq!(sender.send(4), Ok(()));
    }
}

#[cfg(all(test, model_check))]
mod loom_tests {
    use loom::future::block_on;

    use super::*;

    /// Each thread takes one message and never comes back, as if it worked for ever: the other message must find the other
    /// thread, whichever was called and whoever took which.
    #[test]
    fn loom_no_message_waits_beside_an_idle_thread() {
        loom::model(|| {
            let (sender, receivers) = crew(2, 2);
            let threads: Vec<_> = receivers
                .into_iter()
                .map(|mut receiver| {
                    loom::thread::spawn(move || block_on(std::future::poll_fn(|cx| receiver.poll_recv(cx))))
                })
                .collect();
            sender.send(1u8).unwrap();
            sender.send(2u8).unwrap();
            let taken: u8 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert_eq!(taken, 3);
        });
    }

    /// One that was called and leaves does not take the call with it.
    #[test]
    fn loom_who_leaves_passes_the_call_on() {
        loom::model(|| {
            let (sender, mut receivers) = crew(1, 2);
            let (mut stays, mut leaves) = (receivers.pop().unwrap(), receivers.pop().unwrap());
            let thread = loom::thread::spawn(move || {
                let polled =
                    block_on(std::future::poll_fn(|cx| std::task::Poll::Ready(leaves.poll_recv(cx).is_ready())));
                if !polled {
                    leaves.leave();
                }
                polled
            });
            let other = loom::thread::spawn(move || {
                sender.send(7u8).unwrap();
            });
            if !thread.join().unwrap() {
                assert_eq!(block_on(std::future::poll_fn(|cx| stays.poll_recv(cx))), 7);
            }
            other.join().unwrap();
        });
    }
}
