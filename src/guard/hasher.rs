//! The thread that computes slow password hashes, so that no data worker waits for one.
//!
//! Work goes in through a bounded queue; when it is full the caller is told at once. An answer comes back through a
//! slot: one byte and a waker. The sender writes the byte, then wakes; the receiver registers its waker, then looks at
//! the byte once more; so whichever comes second sees the other, and no wake-up is lost. Every job that was taken in is
//! answered, also when the thread panics or ends.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use crossbeam::queue::ArrayQueue;

use super::basic_auth::Credentials;
use super::htpasswd::Users;

/// A job that has waited for longer is not begun any more: its request gets 503, as it would from a full queue.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The handle of the thread; share it by `Arc`. The thread ends when it is dropped.
pub struct Hasher {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    queue: ArrayQueue<Job>,
    stopped: AtomicBool,
    /// Hashes computed so far. Written by the thread.
    computed: AtomicU64,
    /// Jobs refused so far because the queue was full. Written by data workers.
    refused: AtomicU64,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Right,
    Wrong,
    /// Not computed, because there was too much to do.
    Busy,
}

struct Job {
    users: Arc<Users>,
    credentials: Box<Credentials>,
    asked: Instant,
    slot: Arc<Slot>,
}

impl Drop for Job {
    /// A job that ends without an answer, for whatever reason, leaves nobody waiting.
    fn drop(&mut self) {
        self.slot.answer(Answer::Busy);
    }
}

impl Hasher {
    /// Starts the thread; `queue_depth` jobs may wait in front of it (at least 1).
    ///
    /// Errors: the thread cannot be started.
    pub fn start(queue_depth: usize) -> io::Result<Hasher> {
        let shared = Arc::new(Shared {
            queue: ArrayQueue::new(queue_depth.max(1)),
            stopped: AtomicBool::new(false),
            computed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let theirs = shared.clone();
        let handle = std::thread::Builder::new().name("hasher".into()).spawn(move || theirs.run())?;
        Ok(Hasher { shared, thread: handle.thread().clone() })
    }

    /// Asks for one verification. `None`: the queue is full.
    pub(super) fn submit(&self, users: &Arc<Users>, credentials: &Credentials, now: Instant) -> Option<Arc<Slot>> {
        let slot = Arc::new(Slot::new());
        let job =
            Job { users: users.clone(), credentials: Box::new(credentials.clone()), asked: now, slot: slot.clone() };
        if self.shared.queue.push(job).is_err() {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.thread.unpark();
        Some(slot)
    }

    /// Jobs waiting now.
    pub fn depth(&self) -> usize {
        self.shared.queue.len()
    }

    /// Hashes computed so far.
    pub fn computed(&self) -> u64 {
        self.shared.computed.load(Ordering::Relaxed)
    }

    /// Jobs refused so far because the queue was full.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Shared {
    fn run(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            match self.queue.pop() {
                // A panic is answered by the job's drop; it was told by the panic hook.
                Some(job) => drop(catch_unwind(AssertUnwindSafe(|| self.run_job(job)))),
                // An unpark since the look into the queue makes this return at once.
                None => std::thread::park(),
            }
        }
        while let Some(job) = self.queue.pop() {
            drop(job);
        }
    }

    fn run_job(&self, job: Job) {
        if job.slot.is_abandoned() || job.asked.elapsed() > WAIT_MAX {
            return;
        }
        let right = job.users.verify(&job.credentials);
        self.computed.fetch_add(1, Ordering::Relaxed);
        job.slot.answer(if right { Answer::Right } else { Answer::Wrong });
    }
}

/// Where one answer arrives.
pub(super) struct Slot {
    state: AtomicU8,
    waker: AtomicWaker,
}

const WAITING: u8 = 0;
const RIGHT: u8 = 1;
const WRONG: u8 = 2;
const BUSY: u8 = 3;
const ABANDONED: u8 = 4;

impl Slot {
    pub(super) fn new() -> Slot {
        Slot { state: AtomicU8::new(WAITING), waker: AtomicWaker::new() }
    }

    /// Leaves the answer, unless there is one.
    fn answer(&self, answer: Answer) {
        let state = match answer {
            Answer::Right => RIGHT,
            Answer::Wrong => WRONG,
            Answer::Busy => BUSY,
        };
        if self.state.compare_exchange(WAITING, state, Ordering::Release, Ordering::Relaxed).is_ok() {
            self.waker.wake();
        }
    }

    /// Nobody wants the answer any more.
    pub(super) fn abandon(&self) {
        // Whether it was answered before makes no difference.
        let _ = self.state.compare_exchange(WAITING, ABANDONED, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn is_abandoned(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ABANDONED
    }

    /// The answer, or the task of `cx` is woken when it arrives. One task at a time: the last one that asked.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Answer> {
        if let Some(answer) = self.get() {
            return Poll::Ready(answer);
        }
        self.waker.register(cx.waker());
        self.get().map_or(Poll::Pending, Poll::Ready)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.get().is_some()
    }

    fn get(&self) -> Option<Answer> {
        match self.state.load(Ordering::Acquire) {
            RIGHT => Some(Answer::Right),
            WRONG => Some(Answer::Wrong),
            BUSY => Some(Answer::Busy),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::future::poll_fn;

    use super::*;

    /// `a` has the password `x`, `b` the password `y`, by the quickest hash.
    pub(in crate::guard) fn users() -> Arc<Users> {
        let (users, problems) =
            Users::parse("a:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=\nb:{SHA}lcsL/Sl3x2EpjZYk5LTUxyo5l0o=\n");
        assert_eq!(problems, []);
        Arc::new(users)
    }

    pub(in crate::guard) fn credentials(user: &str, password: &str) -> Credentials {
        Credentials::new(user.as_bytes(), password.as_bytes()).unwrap()
    }

    /// A thread that computes nothing: jobs stay in the queue.
    pub(in crate::guard) fn stuck(queue_depth: usize) -> Hasher {
        let shared = Arc::new(Shared {
            queue: ArrayQueue::new(queue_depth),
            stopped: AtomicBool::new(false),
            computed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        Hasher { shared, thread: std::thread::current() }
    }

    impl Hasher {
        /// Does what the thread would do with the next job.
        pub(in crate::guard) fn run_one(&self) -> bool {
            let job = self.shared.queue.pop();
            job.map(|job| self.shared.run_job(job)).is_some()
        }
    }

    /// Panics when `future` is not woken in time. The clock is looked at first: `tokio::time::timeout` would ask the
    /// future once more at its end, and find the answer whose wake-up was lost.
    pub(in crate::guard) async fn in_time<F: Future>(future: F) -> F::Output {
        tokio::select! {
            biased;
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("a wake-up was lost"),
            output = future => output,
        }
    }

    fn wait(slot: &Slot) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { in_time(poll_fn(|cx| slot.poll(cx))).await })
    }

    #[test]
    fn passwords_are_verified() {
        let hasher = Hasher::start(4).unwrap();
        let now = Instant::now();
        for (user, password, expect) in
            [("a", "x", Answer::Right), ("a", "y", Answer::Wrong), ("c", "x", Answer::Wrong)]
        {
            let slot = hasher.submit(&users(), &credentials(user, password), now).unwrap();
            assert_eq!(wait(&slot), expect, "{user} {password}");
        }
        assert_eq!((hasher.computed(), hasher.refused(), hasher.depth()), (3, 0, 0));
    }

    #[test]
    fn a_full_queue_refuses() {
        let hasher = stuck(2);
        let submit = || hasher.submit(&users(), &credentials("a", "x"), Instant::now());
        assert!(submit().is_some() && submit().is_some() && submit().is_none());
        assert_eq!((hasher.depth(), hasher.refused()), (2, 1));
    }

    #[test]
    fn jobs_too_old_or_abandoned_are_not_computed() {
        let hasher = stuck(4);
        let now = Instant::now();
        let old = hasher.submit(&users(), &credentials("a", "x"), now.checked_sub(2 * WAIT_MAX).unwrap()).unwrap();
        let abandoned = hasher.submit(&users(), &credentials("a", "x"), now).unwrap();
        abandoned.abandon();
        assert!(hasher.run_one() && hasher.run_one() && !hasher.run_one());
        assert_eq!((old.get(), abandoned.get(), hasher.computed()), (Some(Answer::Busy), None, 0));
    }

    #[test]
    fn a_job_that_ends_without_an_answer_is_answered() {
        let hasher = stuck(1);
        let slot = hasher.submit(&users(), &credentials("a", "x"), Instant::now()).unwrap();
        drop(hasher);
        assert_eq!(wait(&slot), Answer::Busy);
        // The thread answers what is left when it ends.
        let hasher = Hasher::start(1000).unwrap();
        let submit = || hasher.submit(&users(), &credentials("a", "x"), Instant::now());
        let slots: Vec<_> = (0..1000).map_while(|_| submit()).collect();
        drop(hasher);
        assert!(!slots.is_empty());
        assert!(slots.iter().all(|slot| wait(slot) != Answer::Wrong));
    }

    /// Two threads ask and sleep until the answer comes, all over again; a lost wake-up would hang the test. Some give
    /// up on purpose, and some look first, so that the answer arrives before, between and behind their steps.
    #[test]
    fn soak_no_answer_is_lost() {
        const QUESTIONS: usize = 60_000;
        let hasher = Arc::new(Hasher::start(64).unwrap());
        let threads: Vec<_> = (0..2)
            .map(|id| {
                let hasher = hasher.clone();
                std::thread::spawn(move || {
                    let users = users();
                    let asked = [credentials("a", "x"), credentials("b", "x"), credentials("nobody", "x")];
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    runtime.block_on(async {
                        for number in 0..QUESTIONS {
                            let which = (number + id) % 3;
                            let slot = loop {
                                match hasher.submit(&users, &asked[which], Instant::now()) {
                                    Some(slot) => break slot,
                                    None => std::thread::yield_now(),
                                }
                            };
                            if number % 7 == 0 {
                                slot.abandon();
                                continue;
                            }
                            if number % 5 == 0 {
                                std::thread::yield_now();
                            }
                            let answer = in_time(poll_fn(|cx| slot.poll(cx))).await;
                            let expect = if which == 0 { Answer::Right } else { Answer::Wrong };
                            assert_eq!(answer, expect);
                        }
                    });
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
