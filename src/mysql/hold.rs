//! Statements that wait for a primary, on one data worker: bounded in number, bytes and time. One of them looks at what the
//! monitor published and wakes the others.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::client::{Client, End};
use super::serve::{LOGIN_TIMEOUT, Splitter};
use super::shared::{Health, Shared};
use super::wire::Wire;
use crate::runtime::time::{sleep, timeout};

/// What the monitor published is looked at this often while statements wait.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// A client that waits is looked at this often: it may have left.
const CLIENT_INTERVAL: Duration = Duration::from_secs(1);

/// Those that wait, to be woken when something has changed.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    wakers: RefCell<Slab<Option<Waker>>>,
    is_watched: Cell<bool>,
    /// Changes with everything that may end a wait.
    changes: Cell<u64>,
}

/// A place among those that wait, and among what the process lets wait.
struct Held<'a> {
    splitter: &'a Splitter,
    place: usize,
    bytes: usize,
}

impl<'a> Held<'a> {
    /// `None`: too many wait already.
    fn take(splitter: &'a Rc<Splitter>, bytes: usize) -> Option<Held<'a>> {
        if !splitter.shared.hold(bytes) {
            splitter.stats().held_refused.inc();
            return None;
        }
        splitter.stats().held.inc();
        let place = splitter.waiters.wakers.borrow_mut().insert(None);
        start_watching(splitter);
        Some(Held { splitter, place, bytes })
    }

    /// Waits until something has changed since `changes`, at most `limit`.
    async fn changed(&self, changes: u64, limit: Duration) {
        let waiters = &self.splitter.waiters;
        let change = std::future::poll_fn(|cx| {
            if waiters.changes.get() != changes {
                return Poll::Ready(());
            }
            if let Some(slot) = waiters.wakers.borrow_mut().get_mut(self.place) {
                *slot = Some(cx.waker().clone());
            }
            Poll::Pending
        });
        let _ = timeout(limit, change).await;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.splitter.waiters.wakers.borrow_mut().try_remove(self.place);
        self.splitter.shared.let_go(self.bytes);
    }
}

/// Everything that may end a wait, as far as workers see it.
fn condition(shared: &Shared) -> (super::topology::Lead, bool, Vec<(Health, super::shared::Duty)>) {
    let servers = (0..shared.servers()).map(|server| (shared.server(server).health(), shared.server(server).duty()));
    (shared.lead(), shared.is_announced(), servers.collect())
}

fn start_watching(splitter: &Rc<Splitter>) {
    if splitter.waiters.is_watched.replace(true) {
        return;
    }
    let weak: Weak<Splitter> = Rc::downgrade(splitter);
    crate::runtime::spawn(async move {
        let mut last = None;
        loop {
            sleep(LOOK_INTERVAL).await;
            let Some(splitter) = weak.upgrade() else { return };
            let waiters = &splitter.waiters;
            if waiters.wakers.borrow().is_empty() {
                waiters.is_watched.set(false);
                return;
            }
            let now = Some(condition(&splitter.shared));
            if now != last {
                last = now;
                waiters.changes.set(waiters.changes.get() + 1);
                for (_, waker) in waiters.wakers.borrow_mut().iter_mut() {
                    if let Some(waker) = waker.take() {
                        waker.wake();
                    }
                }
            }
        }
    });
}

impl Client {
    /// Lets the statement under way wait until the primary can be tried, `primary_wait` from `started` on at most.
    /// `false`: it must be refused.
    ///
    /// Errors: the client has left.
    pub(super) async fn hold(&self, wire: &Wire, changes_something: bool, started: Instant) -> Result<bool, End> {
        let deadline = started + self.splitter.config().primary_wait;
        self.hold_until(deadline, changes_something, || wire.stream.has_hung_up()).await
    }

    /// The same for a login, for which the client has less patience.
    pub(super) async fn hold_login(&self, started: Instant) -> bool {
        let wait = self.splitter.config().primary_wait.min(LOGIN_TIMEOUT * 3 / 4);
        self.hold_until(started + wait, false, || false).await.unwrap_or(false)
    }

    async fn hold_until(
        &self,
        deadline: Instant,
        changes_something: bool,
        has_left: impl Fn() -> bool,
    ) -> Result<bool, End> {
        let splitter = &self.splitter;
        if Instant::now() >= deadline {
            return Ok(false);
        }
        let Some(held) = Held::take(splitter, self.request.len()) else { return Ok(false) };
        loop {
            let changes = splitter.waiters.changes.get();
            if splitter.primary_trouble(changes_something).is_none() {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            held.changed(changes, left.min(CLIENT_INTERVAL)).await;
            if has_left() {
                return Err(End);
            }
        }
    }

    /// Waits until what tables and views hide was read, `limit` at most.
    ///
    /// Errors: the client has left.
    pub(super) async fn await_survey(&self, wire: &Wire, number: u64, limit: Duration) -> Result<(), End> {
        let (survey, deadline) = (&self.splitter.shared.survey, Instant::now() + limit);
        while !survey.has_seen(number) && Instant::now() < deadline {
            sleep(LOOK_INTERVAL).await;
            if wire.stream.has_hung_up() {
                return Err(End);
            }
        }
        Ok(())
    }

    /// Something was set globally there: waits until it is known with what sessions begin from now on. Who logs on while it could not be
    /// looked at begins with what is seen later.
    ///
    /// Errors: the client has left.
    pub(super) async fn after_look_that_tells(&self, wire: &Wire, server: usize) -> Result<(), End> {
        self.after_another_look(wire, server).await?;
        if self.splitter.shared.server(server).health() == Health::Down {
            self.after_another_look(wire, server).await?;
        }
        Ok(())
    }

    /// A server refused a statement in a way that does not fit what is known of it: waits for a look that begins from now
    /// on. `true`: the statement may be tried again, elsewhere or later.
    ///
    /// Errors: the client has left.
    pub(super) async fn after_another_look(&self, wire: &Wire, server: usize) -> Result<bool, End> {
        let shared = &self.splitter.shared;
        let (facts, lead) = (shared.server(server), shared.lead());
        let (wanted, config) = (facts.next_look(), self.splitter.config());
        let deadline = Instant::now() + config.connect_timeout + CLIENT_INTERVAL;
        shared.doubt(server);
        while facts.looks() < wanted && Instant::now() < deadline {
            sleep(LOOK_INTERVAL).await;
            if wire.stream.has_hung_up() {
                return Err(End);
            }
        }
        Ok(shared.lead() != lead || facts.health() != Health::Writable)
    }
}
