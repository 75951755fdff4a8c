//! Bounded mailbox between cores: any number of senders, one receiver, one coalesced wake-up per burst.
//!
//! The receiver drains the queue in batches. A sender wakes it only when its `notified` flag was down, so a burst of
//! messages costs one wake-up. When the queue is full the message comes back to the sender, which decides: another
//! mailbox, a bounded wait, or a refusal. Nothing here waits, allocates per message, or locks.
//!
//! Why no wake-up is lost: sender = push, then swap(notified, true); receiver about to sleep = register its waker,
//! then swap(notified, false), then look into the queue once more. Both swaps act on one variable, so they have one
//! order. Sender first: the receiver's swap reads the sender's value and therefore sees its message in the last look.
//! Receiver first: the sender's swap returns false and it wakes the waker registered before. The model checker runs
//! this file under every interleaving (`scripts/test`, `cfg(model_check)`).

use std::task::{Context, Poll, Waker};

use super::sync::{Arc, ArrayQueue, AtomicBool, AtomicU64, AtomicWaker, CachePadded, Ordering, register, take};

struct Shared<T> {
    queue: ArrayQueue<T>,
    /// True from the first push of a burst until the receiver is about to sleep.
    notified: CachePadded<AtomicBool>,
    waker: AtomicWaker,
    /// Written by senders, once a burst.
    wakeups: AtomicU64,
    /// Written by senders, when the queue is full.
    refused: AtomicU64,
}

/// The sending end; clone it for each sender.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { shared: self.shared.clone() }
    }
}

/// The receiving end, one per mailbox.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// Messages taken out so far, and the same at the last [`Receiver::check_lost`].
    taken: u64,
    taken_at_check: u64,
    waiting_at_check: bool,
}

/// A mailbox with room for `capacity` messages (at least 1).
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity.max(1)),
        notified: CachePadded::new(AtomicBool::new(false)),
        waker: AtomicWaker::new(),
        wakeups: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    (Sender { shared: shared.clone() }, Receiver { shared, taken: 0, taken_at_check: 0, waiting_at_check: false })
}

impl<T> Sender<T> {
    /// Leaves `message`; wakes the receiver if this is the first of a burst.
    ///
    /// Errors: the message itself when the mailbox is full.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.send_and(message, Waker::wake)
    }

    /// The same, but whoever is to be woken is given to `wake`, which may put that off for a moment. Nobody else wakes the receiver
    /// until then.
    pub fn send_and(&self, message: T, wake: impl FnOnce(Waker)) -> Result<(), T> {
        if let Err(message) = self.shared.queue.push(message) {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(message);
        }
        if !self.shared.notified.swap(true, Ordering::AcqRel) {
            self.shared.wakeups.fetch_add(1, Ordering::Relaxed);
            if let Some(waker) = take(&self.shared.waker) {
                wake(waker);
            }
        }
        Ok(())
    }

    /// Messages waiting now.
    pub fn depth(&self) -> usize {
        self.shared.queue.len()
    }

    /// Wake-ups caused so far, by all senders.
    pub fn wakeups(&self) -> u64 {
        self.shared.wakeups.load(Ordering::Relaxed)
    }

    /// Messages refused so far because the mailbox was full.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl<T> Receiver<T> {
    /// Takes one message if there is one; never sleeps.
    pub fn try_recv(&mut self) -> Option<T> {
        let message = self.shared.queue.pop();
        self.taken += u64::from(message.is_some());
        message
    }

    /// Takes a message, or registers the task of `cx` to be woken by the next burst.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(message) = self.try_recv() {
            return Poll::Ready(message);
        }
        register(&self.shared.waker, cx);
        self.shared.notified.swap(false, Ordering::AcqRel);
        match self.try_recv() {
            Some(message) => Poll::Ready(message),
            None => Poll::Pending,
        }
    }

    /// Takes a message, waiting for one.
    pub async fn recv(&mut self) -> T {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// True when messages have been waiting since the last call and none was taken out: a lost wake-up. To be called
    /// now and then, not more often than the receiver's task gets to run in between.
    pub fn check_lost(&mut self) -> bool {
        let waiting = !self.shared.queue.is_empty();
        let lost = waiting && self.waiting_at_check && self.taken == self.taken_at_check;
        self.waiting_at_check = waiting;
        self.taken_at_check = self.taken;
        lost
    }

    /// A sender to this mailbox.
    pub fn sender(&self) -> Sender<T> {
        Sender { shared: self.shared.clone() }
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let (sender, mut receiver) = mailbox(2);
        assert_eq!((sender.send(1), sender.send(2), sender.send(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!((receiver.try_recv(), receiver.try_recv(), receiver.try_recv()), (Some(1), Some(2), None));
        assert_eq!((sender.refused(), sender.wakeups()), (1, 1));
    }

    /// Two threads pass messages to a third that sleeps between bursts; a lost wake-up would hang the test.
    #[test]
    fn soak_no_wake_up_is_lost() {
        const MESSAGES: u64 = 200_000;
        let (sender, mut receiver) = mailbox::<u64>(64);
        let threads: Vec<_> = (0..2u64)
            .map(|id| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for n in 0..MESSAGES {
                        let mut message = n * 2 + id;
                        while let Err(back) = sender.send(message) {
                            message = back;
                            std::thread::yield_now();
                        }
                        if n % 1000 == id * 500 {
                            std::thread::sleep(Duration::from_micros(50));
                        }
                    }
                })
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let sum = runtime.block_on(async {
            let mut sum = 0;
            for _ in 0..2 * MESSAGES {
                let message = tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await;
                sum += message.expect("a wake-up was lost");
            }
            sum
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(sum, (0..2 * MESSAGES).sum::<u64>());
        assert!(sender.wakeups() < 2 * MESSAGES, "wake-ups are coalesced");
        assert!(!receiver.check_lost());
    }

    #[test]
    fn a_message_nobody_takes_counts_as_a_lost_wake_up() {
        let (sender, mut receiver) = mailbox(4);
        sender.send(1).unwrap();
        assert!(!receiver.check_lost());
        assert!(receiver.check_lost());
        receiver.try_recv();
        assert!(!receiver.check_lost());
    }
}

#[cfg(all(test, model_check))]
mod loom_tests {
    use super::*;
    use loom::future::block_on;

    /// One of two senders puts the waking off.
    #[test]
    fn loom_no_wake_up_is_lost_that_is_put_off() {
        loom::model(|| {
            let (sender, mut receiver) = mailbox::<u32>(2);
            let other = sender.clone();
            let hasty = loom::thread::spawn(move || other.send(0).unwrap());
            let patient = loom::thread::spawn(move || {
                let mut later = None;
                sender.send_and(1, |waker| later = Some(waker)).unwrap();
                loom::thread::yield_now();
                later.into_iter().for_each(Waker::wake);
            });
            let sum = block_on(async { receiver.recv().await + receiver.recv().await });
            assert_eq!(sum, 1);
            hasty.join().unwrap();
            patient.join().unwrap();
        });
    }

    /// Two senders, one receiver that sleeps: under every interleaving all messages arrive (else the model deadlocks).
    #[test]
    fn loom_no_wake_up_is_lost() {
        loom::model(|| {
            let (sender, mut receiver) = mailbox::<u32>(2);
            let threads: Vec<_> = (0..2)
                .map(|id| {
                    let sender = sender.clone();
                    loom::thread::spawn(move || sender.send(id).unwrap())
                })
                .collect();
            let sum = block_on(async { receiver.recv().await + receiver.recv().await });
            assert_eq!(sum, 1);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
