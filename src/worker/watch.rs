//! Deadlines of a worker's connections, looked at once per tick: setting one is a store, not a timer.
//!
//! Every connection, downstream or upstream, owns a [`Watch`]. Its driver writes down until when the present step may
//! take; the worker's tick compares. On expiry the socket's reads or writes are broken off (shutdown(2)), so that the
//! operation in the kernel ends and its driver goes on, sees [`Watch::expired`] and answers or closes.
//! A deadline is met to within one tick, [`TICK`].

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use crate::runtime::net::{Breaker, Cancel, Peek, Stream};

/// Time between two looks.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// A request that has waited this many ticks gets its client looked after: has it left?
const CLIENT_CHECK_TICKS: u32 = 2;

const NEVER: u32 = u32::MAX;

/// What happens at the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnExpiry {
    /// Reads end; an answer can still be written.
    BreakReads,
    /// Reads and writes end.
    BreakAll,
    /// Nothing but [`Watched::while_client_stays`] ends.
    Wake,
    /// A read that waits with a buffer gives it back ([`Stream::read_cancellable`]); the connection stays.
    GiveBackBuffer,
}

/// The deadline of one connection.
pub(crate) struct Watch {
    /// Tick number; `NEVER` when there is none.
    deadline: Cell<u32>,
    on_expiry: Cell<OnExpiry>,
    expired: Cell<bool>,
    /// The same, and the step has not been said to be over.
    is_due: Cell<bool>,
    /// A deadline has broken the socket off, at any time before: what reads as its end is none.
    broken: Cell<bool>,
    /// Tick since which a request waits for others while its client may leave; `NEVER` when none does.
    waiting_since: Cell<u32>,
    client_gone: Cell<bool>,
    /// A request body is being read beside the wait, so that unread bytes may lie before the client's close.
    uploading: Cell<bool>,
    /// The bytes that wait unread may be an alert.
    is_tls: Cell<bool>,
    /// Task that waits in [`Watched::while_client_stays`].
    waiter: RefCell<Option<Waker>>,
    /// Between two requests: may be closed at any time.
    idle: Cell<bool>,
    /// `None`: no socket of its own, one stream of a connection that others use too.
    breaker: Option<Breaker>,
    /// Reads that can give their buffer back; made when first needed, dropped while cold.
    cancel: RefCell<Option<Rc<Cancel>>>,
}

/// All watches of one worker.
pub(crate) struct Watches {
    watches: RefCell<Slab<Rc<Watch>>>,
    now: Cell<u32>,
}

impl Watches {
    pub(crate) fn new() -> Rc<Watches> {
        Rc::new(Watches { watches: RefCell::new(Slab::new()), now: Cell::new(0) })
    }

    /// Watches `stream` from now on, without a deadline. The result must be dropped before the stream.
    pub(crate) fn watch(self: &Rc<Self>, stream: &Stream) -> Watched {
        self.insert(Some(stream.breaker()))
    }

    /// A deadline without a socket to be broken: it only ends [`Watched::while_client_stays`].
    pub(crate) fn watch_alone(self: &Rc<Self>) -> Watched {
        self.insert(None)
    }

    fn insert(self: &Rc<Self>, breaker: Option<Breaker>) -> Watched {
        let watch = Rc::new(Watch {
            deadline: Cell::new(NEVER),
            on_expiry: Cell::new(OnExpiry::BreakAll),
            expired: Cell::new(false),
            is_due: Cell::new(false),
            broken: Cell::new(false),
            waiting_since: Cell::new(NEVER),
            client_gone: Cell::new(false),
            uploading: Cell::new(false),
            is_tls: Cell::new(false),
            waiter: RefCell::new(None),
            idle: Cell::new(false),
            breaker,
            cancel: RefCell::new(None),
        });
        let key = self.watches.borrow_mut().insert(watch.clone());
        Watched { watch, key, watches: self.clone() }
    }

    /// One tick has passed: breaks off what is over time, finds clients that left.
    pub(crate) fn tick(&self) {
        let now = self.now.get().wrapping_add(1) % NEVER;
        self.now.set(now);
        for (_, watch) in self.watches.borrow().iter() {
            if watch.deadline.get() <= now {
                watch.expire();
            }
            let since = watch.waiting_since.get();
            if since != NEVER && is_client_check_due(now.saturating_sub(since)) {
                watch.look_after_client();
            }
        }
    }

    /// Wakes whoever waits between two requests, and whoever asked for it: the worker drains. No socket is shut, because a
    /// request may lie in it already; who wakes looks, and answers what is there.
    pub(crate) fn tell_of_drain(&self) {
        for (_, watch) in self.watches.borrow().iter() {
            if watch.idle.get() {
                watch.give_back_buffer();
            }
            if let Some(waker) = watch.waiter.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Breaks every connection: for a drain whose time is up.
    pub(crate) fn break_all(&self) {
        for (_, watch) in self.watches.borrow().iter() {
            // What reads as its end from now on is none.
            watch.broken.set(true);
            watch.break_all();
        }
    }

    fn ticks(duration: Duration) -> u32 {
        // Rounded up, and one more because the present tick has begun already.
        (duration.as_millis().div_ceil(TICK.as_millis()) as u32).saturating_add(1).min(NEVER / 2)
    }
}

/// Each look costs a system call, so they become rarer: after 0.2 s, then every second, after a minute every five. Clients
/// began to wait at different times, which spreads their looks over the ticks.
fn is_client_check_due(waited: u32) -> bool {
    match waited {
        0..600 => waited % 10 == CLIENT_CHECK_TICKS,
        _ => waited % 50 == CLIENT_CHECK_TICKS,
    }
}

impl Watch {
    fn expire(&self) {
        self.deadline.set(NEVER);
        match self.on_expiry.get() {
            OnExpiry::BreakReads => self.break_reads(),
            OnExpiry::BreakAll => self.break_all(),
            OnExpiry::Wake => {}
            // The read may have ended by itself in this very moment: not being over time, it leaves no mark.
            OnExpiry::GiveBackBuffer => return self.give_back_buffer(),
        }
        self.expired.set(true);
        self.is_due.set(true);
        self.broken.set(self.broken.get() || self.on_expiry.get() != OnExpiry::Wake);
        if let Some(waker) = self.waiter.take() {
            waker.wake();
        }
    }

    fn give_back_buffer(&self) {
        if let Some(cancel) = self.cancel.borrow().as_ref() {
            cancel.cancel();
        }
    }

    fn break_reads(&self) {
        if let Some(breaker) = self.breaker {
            breaker.break_reads();
        }
    }

    fn break_all(&self) {
        if let Some(breaker) = self.breaker {
            breaker.break_all();
        }
    }

    fn look_after_client(&self) {
        let Some(breaker) = self.breaker else { return };
        let is_gone = match breaker.peek() {
            // We have shut the reads ourselves, which looks like the client's end.
            _ if self.broken.get() => breaker.is_reset(),
            Peek::Quiet => false,
            // When nobody reads the rest of an upload, its end is never met by reading. Nor is that of a TLS connection,
            // before whose close an alert lies unread.
            Peek::Bytes => (self.uploading.get() || self.is_tls.get()) && breaker.has_hung_up(),
            Peek::Closed => true,
        };
        if is_gone {
            self.client_leaves();
        }
    }

    fn client_leaves(&self) {
        self.client_gone.set(true);
        if let Some(waker) = self.waiter.take() {
            waker.wake();
        }
    }
}

/// A watched connection's handle; dropping it ends the watch.
pub(crate) struct Watched {
    watch: Rc<Watch>,
    key: usize,
    watches: Rc<Watches>,
}

/// Why [`Watched::while_client_stays`] gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GaveUp {
    /// The client closed its connection.
    ClientGone,
    /// The deadline passed.
    Expired,
}

impl Watched {
    /// The present step may take `duration`.
    pub(crate) fn set(&self, duration: Duration, on_expiry: OnExpiry) {
        self.watch.deadline.set(self.watches.now.get().saturating_add(Watches::ticks(duration)));
        self.watch.on_expiry.set(on_expiry);
        self.watch.expired.set(false);
        self.watch.is_due.set(false);
    }

    /// The present step may take as long as it likes.
    pub(crate) fn clear(&self) {
        self.watch.deadline.set(NEVER);
        self.watch.is_due.set(false);
    }

    /// The last deadline set has passed.
    pub(crate) fn expired(&self) -> bool {
        self.watch.expired.get()
    }

    /// A deadline has broken the socket off, now or earlier.
    pub(crate) fn is_broken(&self) -> bool {
        self.watch.broken.get()
    }

    /// The connection is, or is no longer, between two requests.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.watch.idle.set(idle);
    }

    /// A request body is, or is no longer, read beside the wait for its answer.
    pub(crate) fn set_uploading(&self, uploading: bool) {
        self.watch.uploading.set(uploading);
    }

    /// The connection speaks TLS.
    pub(crate) fn set_tls(&self) {
        self.watch.is_tls.set(true);
    }

    /// The worker drains, as it says itself or has said with [`Watches::tell_of_drain`]; else the present task is woken when it
    /// begins to, and when the deadline passes.
    pub(crate) fn poll_draining(&self, cx: &mut Context<'_>, is_draining: bool) -> bool {
        let mut waiter = self.watch.waiter.borrow_mut();
        if !waiter.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waiter = Some(cx.waker().clone());
        }
        is_draining
    }

    /// Wakes the task that waits.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.watch.waiter.take() {
            waker.wake();
        }
    }

    /// Runs `work` until it ends, or `is_over` (`None`), which is looked at whenever [`Watches::tell_of_drain`] tells.
    pub(crate) async fn until_drained<T>(
        &self,
        is_over: impl Fn() -> bool,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.poll_draining(cx, is_over()) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Handle for reads that give their buffer back at a [`OnExpiry::GiveBackBuffer`] deadline.
    pub(crate) fn cancel(&self) -> Rc<Cancel> {
        self.watch.cancel.borrow_mut().get_or_insert_default().clone()
    }

    /// Frees what only busy connections need.
    pub(crate) fn cool_down(&self) {
        self.watch.cancel.take();
        self.watch.waiter.take();
    }

    /// Looks now whether the client has left, as the next [`while_client_stays`](Self::while_client_stays) tells: for whoever
    /// waits in many steps, each too short to be looked after.
    pub(crate) fn look_after_client(&self) {
        self.watch.look_after_client();
    }

    /// Runs `work` until it ends, the client leaves, or the deadline passes.
    ///
    /// The client is looked after only once the work takes longer than a few ticks: a quick answer costs nothing. Without a
    /// deadline, one that passed earlier does not count.
    pub(crate) async fn while_client_stays<T>(&self, work: impl Future<Output = T>) -> Result<T, GaveUp> {
        let mut work = pin!(work);
        let watch = &self.watch;
        watch.waiting_since.set(self.watches.now.get());
        if watch.deadline.get() == NEVER && !watch.is_due.get() {
            watch.expired.set(false);
        }
        let end = std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if watch.client_gone.get() {
                return Poll::Ready(Err(GaveUp::ClientGone));
            }
            if watch.expired.get() {
                return Poll::Ready(Err(GaveUp::Expired));
            }
            let mut waiter = watch.waiter.borrow_mut();
            if !waiter.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waiter = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
        watch.waiting_since.set(NEVER);
        end
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watches.watches.borrow_mut().remove(self.key);
    }
}
