//! What one data worker knows about credentials already, so that a password is hashed once and not with every request.
//!
//! A question is a keyed hash of user, password and users file; the key is random and the worker's own, so that nothing
//! here can be turned back into a password. Verdicts age, and old ones make place for new ones: right ones and wrong ones
//! apart, so that someone who guesses does not push out those who know. Requests that ask the same while the first one
//! waits for its answer share that answer: when a verdict ends, a busy user costs one hash and not hundreds.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use slab::Slab;

use super::basic_auth::Credentials;
use super::hasher::{Answer, Hasher, Slot};
use super::htpasswd::Users;

/// How long a right password stays known.
const RIGHT_FOR: Duration = Duration::from_secs(300);

/// How long a wrong password stays known: long enough for a client that repeats itself.
const WRONG_FOR: Duration = Duration::from_secs(3);

/// A keyed hash of user, password and users file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Question([u8; 32]);

/// The decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Admitted,
    /// 401 with the challenge of the [`super::Auth`].
    Denied,
    /// 503: too many passwords wait to be verified.
    Busy,
}

/// The decision, or when it will be there.
#[derive(Debug)]
pub enum Check {
    /// Known.
    Now(Verdict),
    /// Await it, then give what it returns to [`Verified::settle`].
    Wait(Waiter),
}

/// The memory of one data worker.
pub struct Verified {
    key: hmac::Key,
    right: Memory,
    wrong: Memory,
    /// Questions under way; entries of those that have ended are cleared away when another one begins.
    pending: HashMap<Question, Weak<Pending>, ahash::RandomState>,
}

impl Verified {
    /// Knows nothing yet. `key` must be random and this worker's own; at most `entries_max` right and as many wrong
    /// credentials are remembered.
    pub fn new(key: &[u8; 32], entries_max: usize) -> Verified {
        Verified {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            right: Memory::new(RIGHT_FOR, entries_max),
            wrong: Memory::new(WRONG_FOR, entries_max),
            pending: HashMap::default(),
        }
    }

    /// Whether `users` has these credentials. Without users nobody is let in, and nothing is hashed.
    pub fn ask(&mut self, users: &Arc<Users>, credentials: &Credentials, hasher: &Hasher, now: Instant) -> Check {
        let question = self.question(users, credentials);
        if self.right.has(&question, now) {
            return Check::Now(Verdict::Admitted);
        }
        if self.wrong.has(&question, now) || users.count() == 0 {
            return Check::Now(Verdict::Denied);
        }
        if let Some(pending) = self.pending.get(&question).and_then(Weak::upgrade) {
            return Check::Wait(Waiter::new(pending));
        }
        let Some(slot) = hasher.submit(users, credentials, now) else { return Check::Now(Verdict::Busy) };
        // As many as the queue is deep are alive, and no more dead ones than there were alive ones since.
        self.pending.retain(|_, pending| pending.strong_count() > 0);
        let pending = Rc::new(Pending { question, slot, wakers: RefCell::default() });
        self.pending.insert(question, Rc::downgrade(&pending));
        Check::Wait(Waiter::new(pending))
    }

    /// Remembers what a [`Waiter`] returned, and gives the decision.
    pub fn settle(&mut self, settled: Settled, now: Instant) -> Verdict {
        let Settled { question, answer } = settled;
        let ended = |pending: &Weak<Pending>| pending.upgrade().is_none_or(|pending| pending.slot.is_answered());
        if self.pending.get(&question).is_some_and(ended) {
            self.pending.remove(&question);
        }
        match answer {
            Answer::Right => {
                self.right.remember(question, now);
                Verdict::Admitted
            }
            Answer::Wrong => {
                self.wrong.remember(question, now);
                Verdict::Denied
            }
            Answer::Busy => Verdict::Busy,
        }
    }

    fn question(&self, users: &Users, credentials: &Credentials) -> Question {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&users.generation().0);
        // Its length first: else another name could begin the password.
        context.update(&(credentials.user().len() as u64).to_le_bytes());
        context.update(credentials.user());
        context.update(credentials.password());
        let mut sum = [0; 32];
        sum.copy_from_slice(context.sign().as_ref());
        Question(sum)
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (right, wrong) = (self.right.until.len(), self.wrong.until.len());
        f.debug_struct("Verified").field("right", &right).field("wrong", &wrong).finish_non_exhaustive()
    }
}

/// Questions with the same answer, each for the same time.
struct Memory {
    until: HashMap<Question, Instant, ahash::RandomState>,
    /// In order of their ends; an entry whose end is no longer that of `until` is a leftover.
    order: VecDeque<(Question, Instant)>,
    valid_for: Duration,
    entries_max: usize,
}

impl Memory {
    fn new(valid_for: Duration, entries_max: usize) -> Memory {
        Memory { until: HashMap::default(), order: VecDeque::new(), valid_for, entries_max: entries_max.max(1) }
    }

    fn has(&self, question: &Question, now: Instant) -> bool {
        self.until.get(question).is_some_and(|until| now < *until)
    }

    fn remember(&mut self, question: Question, now: Instant) {
        // Others who shared the answer were quicker.
        if self.has(&question, now) {
            return;
        }
        let over = |(_, until): &(Question, Instant)| *until <= now;
        while self.order.len() >= self.entries_max || self.order.front().is_some_and(over) {
            let Some((oldest, until)) = self.order.pop_front() else { break };
            if self.until.get(&oldest) == Some(&until) {
                self.until.remove(&oldest);
            }
        }
        let until = now + self.valid_for;
        self.until.insert(question, until);
        self.order.push_back((question, until));
    }
}

/// A question that waits for the hasher, with everyone on this worker who wants to know.
struct Pending {
    question: Question,
    slot: Arc<Slot>,
    /// The tasks that wait, until the answer is there.
    wakers: RefCell<Slab<Waker>>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.slot.abandon();
    }
}

impl Pending {
    /// The slot wakes the last task that asked, and that one the others. `place` is the task's in `wakers`.
    fn poll(&self, place: &mut Option<usize>, cx: &mut Context<'_>) -> Poll<Answer> {
        if let Poll::Ready(answer) = self.slot.poll(cx) {
            if let Some(place) = place.take() {
                self.wakers.borrow_mut().try_remove(place);
            }
            self.wakers.take().into_iter().for_each(|(_, waker)| waker.wake());
            return Poll::Ready(answer);
        }
        let mut wakers = self.wakers.borrow_mut();
        match place.and_then(|place| wakers.get_mut(place)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *place = Some(wakers.insert(cx.waker().clone())),
        }
        Poll::Pending
    }

    /// Another one asks again, in case that the one who leaves was the one to be woken.
    fn leave(&self, place: usize) {
        let mut wakers = self.wakers.borrow_mut();
        wakers.try_remove(place);
        let other = wakers.iter().next_back().map(|(_, waker)| waker.clone());
        drop(wakers);
        if let Some(waker) = other {
            waker.wake();
        }
    }
}

/// Waits for an answer of the [`Hasher`]; belongs to the worker that asked. Dropping it gives up.
pub struct Waiter {
    pending: Rc<Pending>,
    place: Option<usize>,
}

impl Waiter {
    fn new(pending: Rc<Pending>) -> Waiter {
        Waiter { pending, place: None }
    }
}

impl Future for Waiter {
    type Output = Settled;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Settled> {
        let Waiter { pending, place } = &mut *self;
        pending.poll(place, cx).map(|answer| Settled { question: pending.question, answer })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.pending.leave(place);
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiter(..)")
    }
}

/// An answer that has arrived; see [`Verified::settle`].
pub struct Settled {
    question: Question,
    answer: Answer,
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settled").field(&self.answer).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::super::hasher::tests::{credentials, in_time, stuck, users};
    use super::*;

    /// A waker that counts.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn woken(&self) -> bool {
            self.0.swap(0, Ordering::Relaxed) > 0
        }
    }

    fn poll(waiter: Pin<&mut Waiter>, count: &Arc<Count>) -> Poll<Settled> {
        waiter.poll(&mut Context::from_waker(&Waker::from(count.clone())))
    }

    fn verified() -> Verified {
        Verified::new(&[7; 32], 100)
    }

    #[track_caller]
    fn waiter(check: Check) -> Waiter {
        match check {
            Check::Wait(waiter) => waiter,
            Check::Now(verdict) => panic!("{verdict:?} at once"),
        }
    }

    #[track_caller]
    fn now(check: Check) -> Verdict {
        match check {
            Check::Now(verdict) => verdict,
            Check::Wait(_) => panic!("not known"),
        }
    }

    /// Asks, lets the hasher work, settles.
    fn learn(verified: &mut Verified, user: &str, password: &str, at: Instant) -> Verdict {
        let hasher = stuck(1);
        let mut waiter = pin!(waiter(verified.ask(&users(), &credentials(user, password), &hasher, at)));
        assert!(hasher.run_one());
        match poll(waiter.as_mut(), &Arc::default()) {
            Poll::Ready(settled) => verified.settle(settled, at),
            Poll::Pending => panic!("no answer"),
        }
    }

    #[test]
    fn a_verdict_is_known_for_its_time() {
        let (mut verified, hasher, start) = (verified(), stuck(1), Instant::now());
        assert_eq!(learn(&mut verified, "a", "x", start), Verdict::Admitted);
        assert_eq!(learn(&mut verified, "a", "y", start), Verdict::Denied);
        assert_eq!(learn(&mut verified, "nobody", "x", start), Verdict::Denied);
        let mut ask = |user: &str, password: &str, after: Duration| {
            let check = verified.ask(&users(), &credentials(user, password), &hasher, start + after);
            matches!(check, Check::Now(Verdict::Admitted | Verdict::Denied)).then(|| now(check))
        };
        let just = Duration::from_millis(1);
        assert_eq!(ask("a", "x", RIGHT_FOR - just), Some(Verdict::Admitted));
        assert_eq!(ask("a", "x", RIGHT_FOR), None);
        assert_eq!(ask("a", "y", WRONG_FOR - just), Some(Verdict::Denied));
        assert_eq!(ask("nobody", "x", WRONG_FOR - just), Some(Verdict::Denied));
        assert_eq!(ask("a", "y", WRONG_FOR), None);
    }

    #[test]
    fn a_verdict_holds_for_its_user_password_and_file_only() {
        let (mut verified, hasher, start) = (verified(), stuck(10), Instant::now());
        assert_eq!(learn(&mut verified, "a", "x", start), Verdict::Admitted);
        let mut known = |users: &Arc<Users>, user: &str, password: &str| {
            matches!(verified.ask(users, &credentials(user, password), &hasher, start), Check::Now(_))
        };
        assert!(known(&users(), "a", "x"), "another snapshot of the same file");
        assert!(!known(&users(), "ax", "") && !known(&users(), "", "ax") && !known(&users(), "A", "x"));
        let changed = Arc::new(Users::parse("a:{SHA}lcsL/Sl3x2EpjZYk5LTUxyo5l0o=").0);
        assert!(!known(&changed, "a", "x"));
        let other_key = Verified::new(&[8; 32], 1);
        let (one, other) =
            (verified.question(&users(), &credentials("a", "x")), other_key.question(&users(), &credentials("a", "x")));
        assert!(one != other);
    }

    #[test]
    fn memory_is_bounded_and_guesses_push_out_guesses_only() {
        let (mut verified, start) = (Verified::new(&[7; 32], 3), Instant::now());
        assert_eq!(learn(&mut verified, "a", "x", start), Verdict::Admitted);
        for guess in 0..10 {
            assert_eq!(learn(&mut verified, "a", &format!("guess{guess}"), start), Verdict::Denied);
            assert!(verified.wrong.until.len() <= 3 && verified.wrong.order.len() <= 3 && verified.pending.len() <= 1);
        }
        let hasher = stuck(1);
        let mut ask = |password: &str| verified.ask(&users(), &credentials("a", password), &hasher, start);
        assert_eq!(now(ask("x")), Verdict::Admitted);
        assert_eq!(now(ask("guess9")), Verdict::Denied);
        assert_eq!(now(ask("guess7")), Verdict::Denied);
        drop(waiter(ask("guess6")));
    }

    #[test]
    fn a_full_queue_is_busy_and_that_is_not_remembered() {
        let (mut verified, hasher, start) = (verified(), stuck(1), Instant::now());
        let first = waiter(verified.ask(&users(), &credentials("a", "x"), &hasher, start));
        assert_eq!(now(verified.ask(&users(), &credentials("b", "x"), &hasher, start)), Verdict::Busy);
        drop(first);
        assert!(hasher.run_one(), "the abandoned one");
        let mut second = pin!(waiter(verified.ask(&users(), &credentials("b", "x"), &hasher, start)));
        drop(hasher);
        let Poll::Ready(settled) = poll(second.as_mut(), &Arc::default()) else { panic!("no answer") };
        assert_eq!(verified.settle(settled, start), Verdict::Busy);
        assert!(verified.wrong.until.is_empty() && verified.right.until.is_empty() && verified.pending.is_empty());
    }

    #[test]
    fn nobody_is_let_in_without_users() {
        let none = Arc::new(Users::parse("").0);
        let hasher = stuck(1);
        assert_eq!(now(verified().ask(&none, &credentials("a", "x"), &hasher, Instant::now())), Verdict::Denied);
        assert_eq!(hasher.depth(), 0);
    }

    #[test]
    fn who_asks_the_same_shares_the_answer() {
        let (mut verified, hasher, start) = (verified(), stuck(1), Instant::now());
        let counts: [Arc<Count>; 4] = Default::default();
        let mut waiters: Vec<Waiter> =
            (0..4).map(|_| waiter(verified.ask(&users(), &credentials("a", "x"), &hasher, start))).collect();
        assert_eq!(hasher.depth(), 1);
        for (waiter, count) in waiters.iter_mut().zip(&counts) {
            assert!(poll(Pin::new(waiter), count).is_pending());
        }
        // The last one that asked is the one the slot knows. It leaves, before the answer or after it was woken.
        let last = waiters.pop().unwrap();
        drop(last);
        assert!(counts[2].woken(), "another one asks in its place");
        assert!(poll(Pin::new(&mut waiters[2]), &counts[2]).is_pending());
        assert!(hasher.run_one());
        assert!(counts[2].woken() && !counts[1].woken());
        drop(waiters.pop());
        assert!(counts[1].woken());
        let Poll::Ready(settled) = poll(Pin::new(&mut waiters[1]), &counts[1]) else { panic!("no answer") };
        assert_eq!(verified.settle(settled, start), Verdict::Admitted);
        assert!(counts[0].woken());
        let Poll::Ready(settled) = poll(Pin::new(&mut waiters[0]), &counts[0]) else { panic!("no answer") };
        assert_eq!(verified.settle(settled, start), Verdict::Admitted);
        assert_eq!((verified.right.order.len(), verified.pending.len()), (1, 0));
    }

    /// Tasks of one worker ask the same and other things of a real hasher, and some give up while they wait; a lost
    /// wake-up would hang the test.
    #[test]
    fn soak_everyone_who_waits_gets_the_answer() {
        let hasher = Rc::new(Hasher::start(32).unwrap());
        let verified = Rc::new(RefCell::new(verified()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let local = tokio::task::LocalSet::new();
        let busy = Rc::new(RefCell::new(0));
        // A hash slow enough that several wait for it and some leave before.
        let (users, _) = Users::parse("a:$apr1$ab$eIePjsejfBGR8ITtu2z0U1");
        let users = Arc::new(users);
        let task = |task: u64| {
            let (users, hasher, verified, busy) = (users.clone(), hasher.clone(), verified.clone(), busy.clone());
            local.spawn_local(async move {
                let start = Instant::now();
                for round in 0..200u64 {
                    // A clock that runs fast, so that verdicts end all the time.
                    let at = start + Duration::from_secs(round * 60);
                    let password =
                        if (task + round).is_multiple_of(3) { "x".to_owned() } else { format!("{}", round % 4) };
                    let check = verified.borrow_mut().ask(&users, &credentials("a", &password), &hasher, at);
                    let verdict = match check {
                        Check::Now(verdict) => verdict,
                        Check::Wait(waiter) if (task + round).is_multiple_of(5) => {
                            // Polled at most once, then dropped.
                            tokio::select! { biased; _ = waiter => {}, () = tokio::task::yield_now() => {} }
                            continue;
                        }
                        Check::Wait(waiter) => {
                            let settled = in_time(waiter).await;
                            verified.borrow_mut().settle(settled, at)
                        }
                    };
                    let expect = if password == "x" { Verdict::Admitted } else { Verdict::Denied };
                    if verdict == Verdict::Busy {
                        *busy.borrow_mut() += 1;
                    } else {
                        assert_eq!(verdict, expect);
                    }
                }
            })
        };
        let tasks: Vec<_> = (0..50).map(task).collect();
        runtime.block_on(local);
        // A task's panic stays in its handle.
        tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
        assert!(*busy.borrow() < 50 * 200 / 2);
        assert!(hasher.computed() > 200);
    }
}
