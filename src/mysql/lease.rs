//! A connection lent to one session: dropped, it is closed and no longer counted; given back, it serves others.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Instant;

use super::backend::{Backend, BackendError, Carry};
use super::pool::{Offer, Unserved, Wish};
use super::presence::Presence;
use super::serve::Splitter;
use super::topology::Lead;
use crate::metrics::BackendStats;
use crate::runtime::time::timeout;

/// See the module.
pub struct Lease {
    splitter: Rc<Splitter>,
    /// Counted as busy there as long as this lives.
    place: usize,
    backend: Option<Box<Backend>>,
    /// For whom something runs on it.
    presence: Option<Rc<Presence>>,
    /// The epoch in which it was lent as a connection to the primary; `None`: as one to a replica.
    pub epoch: Option<u64>,
}

/// Closes a connection that was taken out of its pool, as [`Lease::retire`] does.
pub(super) fn retire(splitter: &Rc<Splitter>, backend: Box<Backend>) {
    Lease::of(splitter, backend).retire();
}

/// Where a statement runs.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// Index of the server.
    pub server: usize,
    /// It is there because that one leads, and not as on a replica.
    pub is_primary: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum LeaseError {
    /// The server cannot be reached or refuses the login.
    Server(BackendError),
    /// All connections stayed in use for the whole `pool_timeout`, or too many wait for one.
    Full(Unserved),
    /// While one was waited for, the server began or ceased to be the primary, or was taken out: there is another one to ask.
    Moved,
}

impl From<Unserved> for LeaseError {
    fn from(unserved: Unserved) -> LeaseError {
        match unserved {
            Unserved::Moved => LeaseError::Moved,
            Unserved::TimedOut | Unserved::QueueFull => LeaseError::Full(unserved),
        }
    }
}

impl Deref for Lease {
    type Target = Backend;
    fn deref(&self) -> &Backend {
        self.backend.as_ref().expect("a lease has its connection until it is given back")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Backend {
        self.backend.as_mut().expect("a lease has its connection until it is given back")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.splitter.replicas.on_end(self.place);
        self.run_nothing();
        if let Some(backend) = self.backend.take() {
            self.splitter.pool(backend.server).closed(backend.key.account);
            self.splitter.count_connections(backend.server);
        }
    }
}

impl Lease {
    fn of(splitter: &Rc<Splitter>, backend: Box<Backend>) -> Lease {
        let server = backend.server;
        let lease =
            Lease { splitter: Rc::clone(splitter), place: server, backend: Some(backend), presence: None, epoch: None };
        splitter.replicas.on_start(server);
        splitter.count_connections(server);
        lease
    }

    /// Closes the connection; before that, what its session may still ask for is saved.
    pub(super) fn retire(mut self) {
        self.run_nothing();
        if self.keeps_insert_id() && self.is_quiet() {
            crate::runtime::spawn(async move {
                let _ = self.save().await;
            });
        }
    }

    /// Where it leads.
    pub fn spot(&self) -> Spot {
        Spot { server: self.server, is_primary: self.epoch.is_some() }
    }

    /// The session's own last connection, if nobody had it since.
    pub fn own(
        splitter: &Rc<Splitter>,
        server: usize,
        session: u64,
        is_it: impl Fn(&Backend) -> bool,
    ) -> Option<Lease> {
        let backend = splitter.pool(server).take_own(session, is_it)?;
        Some(Lease::of(splitter, backend))
    }

    /// Borrows a connection to `server`, opens one, or waits for one. It is not prepared yet, but what its last
    /// session still needs to know has been saved.
    pub async fn borrow(
        splitter: &Rc<Splitter>,
        server: usize,
        wish: Wish<'_>,
        carry: &Rc<Carry>,
    ) -> Result<Lease, LeaseError> {
        let mut deadline = None;
        loop {
            let pool = splitter.pool(server);
            let offer = match if pool.is_handing_over() { Offer::Wait } else { pool.offer(wish) } {
                Offer::Wait => {
                    let now = Instant::now();
                    let deadline = *deadline.get_or_insert_with(|| now + splitter.config().pool_timeout);
                    Box::pin(Lease::wait(splitter, server, wish, now, deadline)).await?
                }
                offer => offer,
            };
            match offer {
                Offer::Take(backend) => {
                    let mut lease = Lease::of(splitter, backend);
                    if lease.is_of_another_term() || lease.reach != splitter.reach() {
                        let _ = lease.save().await;
                        continue;
                    }
                    if lease.owner.as_ref().is_none_or(|owner| !Rc::ptr_eq(owner, carry)) {
                        if lease.keeps_insert_id() && lease.save().await.is_err() {
                            continue;
                        }
                        // Warnings of the session before must not be shown to this one.
                        lease.dirty |= lease.protected;
                        lease.owner = Some(Rc::clone(carry));
                        lease.protected = false;
                        lease.tenure = splitter.next_id();
                    }
                    return Ok(lease);
                }
                Offer::Open => {
                    let place = Opening::new(splitter, server, wish.key.account);
                    return Box::pin(Lease::open(splitter, place, wish, carry)).await;
                }
                Offer::Replace(mut old) => {
                    // Its place in the count is the new one's already, also where we are told to stop now.
                    let place = Opening::new(splitter, server, wish.key.account);
                    let _ = Box::pin(timeout(splitter.config().connect_timeout, old.save_insert_id())).await;
                    drop(old);
                    return Box::pin(Lease::open(splitter, place, wish, carry)).await;
                }
                Offer::Wait => {}
            }
        }
    }

    async fn wait(
        splitter: &Rc<Splitter>,
        server: usize,
        wish: Wish<'_>,
        now: Instant,
        deadline: Instant,
    ) -> Result<Offer, Unserved> {
        let stats = &splitter.stats().backends[server];
        let waiting = WaitCount::begin(stats, now);
        let offer = splitter.pool(server).wait(wish, now, deadline).await;
        stats.wait.record(waiting.begun.elapsed());
        if offer.as_ref().is_err_and(|unserved| *unserved != Unserved::Moved) {
            stats.wait_failures.inc();
        }
        offer
    }

    /// From now on it is a connection to the primary of `lead`; `false`: its server does not lead, or the connection is of
    /// another term.
    pub(super) fn claim(&mut self, lead: Lead) -> bool {
        let is_primary = lead.primary == Some(self.server) && !self.is_of_another_term();
        self.epoch = is_primary.then_some(lead.epoch);
        is_primary
    }

    /// The server began or ceased to be the primary since the connection was opened.
    pub fn is_of_another_term(&self) -> bool {
        self.term != self.splitter.shared.server(self.server).term()
    }

    /// Fetches the last insert id for the session that left it there, if it still cares.
    pub(super) async fn save(&mut self) -> Result<(), BackendError> {
        if !self.keeps_insert_id() {
            return Ok(());
        }
        let limit = self.splitter.config().connect_timeout;
        Box::pin(timeout(limit, self.save_insert_id()))
            .await
            .unwrap_or(Err(BackendError::Timeout("waiting for an answer")))
    }

    /// Opens a connection in a place that was taken for it.
    pub(super) async fn open(
        splitter: &Rc<Splitter>,
        place: Opening<'_>,
        wish: Wish<'_>,
        carry: &Rc<Carry>,
    ) -> Result<Lease, LeaseError> {
        let (config, server) = (splitter.config(), place.server);
        let stats = &splitter.stats().backends[server];
        let facts = splitter.shared.server(server);
        let (generation, term, restarts) = (facts.generation(), facts.term(), facts.restarts());
        match Backend::open(
            splitter.target(&config, server, wish.key.account),
            splitter.next_id(),
            server,
            wish.key,
            None,
        )
        .await
        {
            Ok((mut backend, greeting)) => {
                stats.connects.inc();
                splitter.suspect(server, false);
                splitter.learn_identity(greeting);
                if backend.lacks_compression {
                    splitter.say_it_lacks_compression(&config, server);
                }
                backend.owner = Some(Rc::clone(carry));
                backend.tenure = splitter.next_id();
                (backend.generation, backend.term, backend.reach) = (generation, term, config.reach);
                backend.restarts = restarts;
                backend.expires = config.pool_age_max.map(|age| backend.since + backend.spread(age));
                place.keep();
                Ok(Lease::of(splitter, Box::new(backend)))
            }
            Err(error) => {
                stats.connect_errors.inc();
                // An account that is unknown there says nothing of the server.
                splitter.suspect(server, wish.key.account == 0 || !error.is_about_account());
                tracing::debug!(splitter = %config.name, server = %splitter.shared.address(server), %error, "connect failed");
                Err(LeaseError::Server(error))
            }
        }
    }

    /// The client's statement runs here from now on: what KILL of its id is to hit.
    pub fn run_for(&mut self, presence: &Rc<Presence>) {
        presence.run_on(self.thread(), &self.fate);
        self.presence = Some(Rc::clone(presence));
    }

    /// No KILL of its id is sent there any more.
    pub(super) fn run_nothing(&mut self) {
        if let Some(presence) = self.presence.take() {
            presence.run_no_longer(&self.fate);
        }
    }

    /// Gives the connection back for others, once no KILL can hit them there, unless it is old or its server gone, there are too
    /// many, or a data worker that has too few waits for its place.
    pub fn give_back(self) {
        self.give_back_at(Instant::now());
    }

    /// The same for one that knows how late it is.
    pub fn give_back_at(mut self, now: Instant) {
        self.run_nothing();
        if self.fate.is_doomed() {
            return;
        }
        if self.fate.is_pending() {
            crate::runtime::spawn(async move {
                self.fate.settle(self.splitter.config().connect_timeout * 2).await;
                self.give_back();
            });
            return;
        }
        let Some(backend) = self.backend.take() else { return };
        let server = backend.server;
        let pool = self.splitter.pool(server);
        let account = backend.key.account;
        let must_yield = pool.must_yield(account) || self.splitter.cedes(server, account, now);
        if must_yield || pool.is_surplus() || backend.is_expired(now) && !backend.keeps_insert_id() {
            self.splitter.stats().backends[server].yielded.add(u64::from(must_yield));
            return retire(&self.splitter, backend);
        }
        pool.give_back(backend, now);
        self.splitter.count_connections(server);
    }

    /// Gives the connection back after everything the session left on it is rolled back and dropped.
    pub fn clean_and_give_back(mut self) {
        self.run_nothing();
        if self.fate.is_doomed() {
            return;
        }
        self.owner = None;
        self.protected = false;
        crate::runtime::spawn(async move {
            let limit = self.splitter.config().connect_timeout;
            if matches!(timeout(limit, self.clean()).await, Ok(Ok(()))) {
                self.give_back();
            }
        });
    }
}

/// A place in the count of open connections, given up unless the connection comes to be.
pub(super) struct Opening<'a> {
    splitter: &'a Splitter,
    server: usize,
    account: u16,
    done: bool,
}

/// A client that waits, as long as it does.
struct WaitCount<'a> {
    stats: &'a BackendStats,
    begun: Instant,
}

impl WaitCount<'_> {
    fn begin(stats: &BackendStats, begun: Instant) -> WaitCount<'_> {
        stats.waiting.inc();
        WaitCount { stats, begun }
    }
}

impl Drop for WaitCount<'_> {
    fn drop(&mut self) {
        self.stats.waiting.dec();
    }
}

impl<'a> Opening<'a> {
    /// The pool has counted it for this account.
    pub(super) fn new(splitter: &'a Splitter, server: usize, account: u16) -> Opening<'a> {
        Opening { splitter, server, account, done: false }
    }

    fn keep(mut self) {
        self.done = true;
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.splitter.pool(self.server).closed(self.account);
        }
    }
}
