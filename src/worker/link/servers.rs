//! The connections of HTTP/2 that a worker has to one server, shared by all configs that have the server.
//!
//! Requests fill the first connection that has room, so that those no longer needed grow idle and close. When none has room a
//! further one is made, one at a time, by a task of its own: a client that leaves does not end what others wait for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::{Link, Place};
use crate::config::model::{Protocol, Upstream};
use crate::runtime::time::timeout;
use crate::tls::Offer;
use crate::worker::Worker;
use crate::worker::forward::{ServerConnection, WhenFull, dial, observe_connect_failure};

/// A server that has chosen HTTP/1.1 is believed to do so again for this long.
const CHOICE_TIME: Duration = Duration::from_secs(60);

/// Connections that take no further requests and still have some, for each that may be open. Beyond so many there is only
/// one that is open.
const CLOSING_FACTOR: usize = 4;

/// The same beyond which the oldest of them ends with the requests that it has: of a server that goes on leaving, its tunnels
/// would add up for ever.
const CLOSING_FACTOR_MAX: usize = 16;

/// What the config says.
#[derive(Clone, Copy)]
pub(in crate::worker) struct Limits {
    pub(super) streams_max: u32,
    connections_max: usize,
    pub(super) idle_timeout: Duration,
    pub(super) head_bytes_max: u32,
}

impl Limits {
    pub(in crate::worker) fn new(upstream: &Upstream, head_bytes_max: usize) -> Limits {
        Limits {
            streams_max: upstream.h2_streams_max,
            connections_max: upstream.h2_connections_max,
            idle_timeout: if upstream.keep_idle == 0 { Duration::ZERO } else { upstream.keep_idle_timeout },
            // As the crate counts it (RFC 9113 section 6.5.2), with 32 bytes for each field.
            head_bytes_max: u32::try_from(head_bytes_max.saturating_mul(2)).unwrap_or(u32::MAX),
        }
    }
}

/// The connections to one server.
pub(in crate::worker) struct Servers {
    limits: Cell<Limits>,
    links: RefCell<Vec<Rc<Link>>>,
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    tickets: Cell<u64>,
    is_dialling: Cell<bool>,
    /// Connections begun so far.
    dials: Cell<u64>,
    /// The last of them that failed.
    failed: Cell<u64>,
    /// When the server chose HTTP/1.1.
    chose_http1: Cell<Option<Instant>>,
    /// A connection made for several that turned out to be for one.
    handed: RefCell<Option<ServerConnection>>,
}

/// What becomes of the wish for a connection.
pub(in crate::worker) enum Acquired {
    /// A place on one of HTTP/2.
    Place(Place),
    /// The server has chosen HTTP/1.1, perhaps on this connection.
    Http1(Option<ServerConnection>),
    /// Connecting has failed, which has been noted.
    Failed,
}

impl Servers {
    pub(in crate::worker) fn new(limits: Limits) -> Rc<Servers> {
        Rc::new(Servers {
            limits: Cell::new(limits),
            links: RefCell::default(),
            waiting: RefCell::default(),
            tickets: Cell::new(0),
            is_dialling: Cell::new(false),
            dials: Cell::new(0),
            failed: Cell::new(0),
            chose_http1: Cell::new(None),
            handed: RefCell::default(),
        })
    }

    /// A new config has these limits; connections keep the windows they have. There may be room now for those who wait.
    pub(in crate::worker) fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
        self.tell_all();
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits.get()
    }

    /// Connections without a request.
    pub(in crate::worker) fn idle(&self) -> usize {
        self.links.borrow().iter().filter(|link| link.streams.get() == 0).count()
    }

    /// Closes all of them behind their requests: the server is gone, or down.
    pub(in crate::worker) fn close(&self) {
        let links = self.links.borrow().clone();
        links.iter().for_each(|link| link.close());
    }

    /// Waits for a place; on a connection that came to be after `fresh_since`, if that is given and one can be
    /// made. No time-out of its own.
    pub(in crate::worker) async fn acquire(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        upstream: usize,
        server: usize,
        fresh_since: Option<Instant>,
    ) -> Acquired {
        let mut ticket = Ticket { servers: self, number: None };
        let mut awaits_dial = None;
        poll_fn(|cx| {
            // Where no other one can be made, any will do.
            let is_full = !self.is_dialling.get() && !self.may_dial();
            if let Some(place) = self.place(fresh_since.filter(|_| !is_full)) {
                // It may have come here by itself, before its turn was told.
                if let Some(own) = ticket.number.take() {
                    self.waiting.borrow_mut().retain(|(number, _)| *number != own);
                }
                return Poll::Ready(Acquired::Place(place));
            }
            if let Some(connection) = self.handed.take() {
                return Poll::Ready(Acquired::Http1(Some(connection)));
            }
            if self.chose_http1.get().is_some_and(|since| since.elapsed() < CHOICE_TIME) {
                return Poll::Ready(Acquired::Http1(None));
            }
            if awaits_dial.is_some_and(|dial| self.failed.get() >= dial) && !self.has_open() {
                return Poll::Ready(Acquired::Failed);
            }
            if !self.is_dialling.get() && self.may_dial() {
                self.begin_dial(worker, upstream, server);
            }
            if self.is_dialling.get() {
                awaits_dial.get_or_insert(self.dials.get());
            }
            ticket.wait(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// A place, if there is one now.
    pub(in crate::worker) fn place(&self, fresh_since: Option<Instant>) -> Option<Place> {
        let links = self.links.borrow();
        let is_fresh =
            |link: &Link| fresh_since.is_none_or(|since| link.ready_since.get().is_some_and(|at| at >= since));
        links.iter().find(|link| link.has_room() && is_fresh(link)).map(Link::begin)
    }

    fn has_open(&self) -> bool {
        self.links.borrow().iter().any(|link| link.is_open())
    }

    /// Another connection may be made. One always may where none is open, or long requests on those that are closing would keep
    /// all others waiting.
    fn may_dial(&self) -> bool {
        let links = self.links.borrow();
        let most = self.limits.get().connections_max;
        let open = links.iter().filter(|link| link.is_open()).count();
        open == 0 || (open < most && links.len() < most * CLOSING_FACTOR)
    }

    /// Ends the oldest of too many that are closing; returns how many.
    fn give_up_oldest(&self) -> usize {
        let links = self.links.borrow();
        let is_closing = |link: &&Rc<Link>| !link.is_open() && !link.is_given_up.get();
        let closing = links.iter().filter(is_closing).count();
        let surplus = closing.saturating_sub(self.limits.get().connections_max * CLOSING_FACTOR_MAX);
        links.iter().filter(is_closing).take(surplus).for_each(|link| link.give_up());
        surplus
    }

    fn begin_dial(self: &Rc<Self>, worker: &Rc<Worker>, upstream: usize, server: usize) {
        self.is_dialling.set(true);
        self.dials.set(self.dials.get() + 1);
        let (servers, worker) = (self.clone(), worker.clone());
        crate::runtime::spawn(async move {
            let dialling = Dialling { servers: &servers, is_good: Cell::new(false) };
            let connect_timeout = worker.config.upstreams[upstream].connect_timeout;
            let opening = std::pin::pin!(servers.dial(&worker, upstream, server));
            let opened = match timeout(connect_timeout, opening).await {
                Ok(opened) => opened.map_err(Some),
                Err(_) => Err(None),
            };
            match opened {
                Ok(()) => dialling.is_good.set(true),
                Err(error) => note_failure(&worker, upstream, server, error.as_ref()),
            }
        });
    }

    async fn dial(self: &Rc<Self>, worker: &Rc<Worker>, upstream: usize, server: usize) -> io::Result<()> {
        let protocol = worker.config.upstreams[upstream].protocol;
        let offer = if protocol == Protocol::Auto { Offer::Both } else { Offer::Http2 };
        let connection = dial(worker, upstream, server, Vec::new(), offer, worker.now(), WhenFull::Wait).await?;
        let is_over_tls = worker.config.upstreams[upstream].tls.is_some();
        if !is_over_tls || connection.is_http2() {
            self.chose_http1.set(None);
            let link = Link::open(&worker.lasting, self, connection).await?;
            // Those it was made for may have left.
            link.begin_silence();
            self.links.borrow_mut().push(link);
            worker.stats.servers[upstream][server].given_up.add(self.give_up_oldest() as u64);
        } else if protocol == Protocol::Auto {
            self.chose_http1.set(Some(worker.now()));
            self.handed.replace(Some(connection));
        } else {
            return Err(io::Error::other("it does not agree to HTTP/2 (ALPN)"));
        }
        worker.stats.servers[upstream][server].connects.inc();
        worker.upstreams[upstream].borrow_mut().on_connected(server);
        Ok(())
    }

    /// The connection has ended.
    pub(super) fn forget(&self, link: &Rc<Link>) {
        let mut links = self.links.borrow_mut();
        let gone = links.iter().position(|known| Rc::ptr_eq(known, link)).map(|at| links.remove(at));
        drop(links);
        drop(gone);
        // There may be another one now.
        self.tell_all();
    }

    /// A place has become free.
    pub(super) fn tell_one(&self) {
        let first = self.waiting.borrow_mut().pop_front();
        if let Some((_, waker)) = first {
            waker.wake();
        }
    }

    /// More than one place may be there.
    pub(super) fn tell_all(&self) {
        let all = self.waiting.take();
        all.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The tasks of the connections have these too, until they end.
        self.close();
    }
}

fn note_failure(worker: &Worker, upstream: usize, server: usize, error: Option<&io::Error>) {
    let config = &worker.config.upstreams[upstream];
    observe_connect_failure(worker, upstream, server, error);
    let address = &config.servers[server].address;
    let error = error.map_or_else(|| "time-out".to_owned(), ToString::to_string);
    tracing::warn!(upstream = %config.name, server = %address, %error, "server connect failed");
    worker.upstreams[upstream].borrow_mut().on_connect_failed(server, worker.now());
}

/// A connection in the making; whoever waits for it hears of its end, even if that is a panic.
struct Dialling<'a> {
    servers: &'a Servers,
    is_good: Cell<bool>,
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        let servers = self.servers;
        servers.is_dialling.set(false);
        if !self.is_good.get() {
            servers.failed.set(servers.dials.get());
        }
        servers.tell_all();
    }
}

/// A place in the line of those who wait.
struct Ticket<'a> {
    servers: &'a Servers,
    number: Option<u64>,
}

impl Ticket<'_> {
    fn wait(&mut self, waker: &Waker) {
        let mut waiting = self.servers.waiting.borrow_mut();
        if let Some(own) = waiting.iter_mut().find(|(number, _)| Some(*number) == self.number) {
            own.1.clone_from(waker);
            return;
        }
        // Told in vain: others have been quicker.
        let number = self.servers.tickets.replace(self.servers.tickets.get() + 1);
        self.number = Some(number);
        waiting.push_back((number, waker.clone()));
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let Some(own) = self.number else { return };
        let mut waiting = self.servers.waiting.borrow_mut();
        match waiting.iter().position(|(number, _)| *number == own) {
            Some(at) => drop(waiting.remove(at)),
            // It was told of a place and does not take it.
            None => {
                drop(waiting);
                self.servers.tell_one();
            }
        }
    }
}
