//! Connections that one data worker has accepted and another one serves. Which ones: [`super::spread`].
//!
//! A connection is handed over before anything was read from it. It goes through a bounded mailbox; where that is full, or the
//! process is about to end, it stays with who accepted it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::door::{Door, DoorName};
use super::run::{self, Counted};
use super::{Lasting, Worker, spread};
use crate::control::shared::Phase;
use crate::runtime::detached::Detached;
use crate::runtime::mailbox::{Receiver, Sender};
use crate::runtime::net::Stream;
use crate::util::seldom::Seldom;

/// How far the configs of two workers may be apart: so long a connection waits for the door that it came through, and a door
/// that is closed for connections.
pub(super) const LATE_MAX: Duration = Duration::from_secs(5);

/// Connections that wait for their door.
const KEPT_MAX: usize = 256;

/// How often one and the same trouble stands in the log, on each worker.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// A connection on its way.
#[derive(Debug)]
pub(crate) struct Handed {
    /// The door it came through.
    door: DoorName,
    detached: Detached,
    peer: Option<SocketAddr>,
}

/// A connection that waits for its door. It counts as one that is open.
struct Kept {
    handed: Handed,
    since: Instant,
    counted: Counted,
}

/// The mailboxes of all data workers for such connections, and what waits here for its door.
pub(super) struct HandOver {
    senders: Vec<Sender<Handed>>,
    kept: RefCell<Vec<Kept>>,
    stays: Seldom,
    lost: Seldom,
}

impl HandOver {
    pub(super) fn new(senders: Vec<Sender<Handed>>) -> HandOver {
        let seldom = || Seldom::new(SAID_EVERY);
        HandOver { senders, kept: RefCell::default(), stays: seldom(), lost: seldom() }
    }

    /// Connections that are on their way to a worker.
    pub(super) fn waiting(&self, worker: usize) -> usize {
        self.senders.get(worker).map_or(0, Sender::depth)
    }
}

/// Hands `stream` to a worker that has clearly fewer connections; `None`: it is gone. Else it comes back.
pub(super) fn hand_over(worker: &Worker, door: &Door, stream: Stream, peer: Option<SocketAddr>) -> Option<Stream> {
    let senders = &worker.hand_over.senders;
    if senders.len() < 2 || !worker.config.process.accept_balance || worker.shared.phase() != Phase::Ready
        // What waits at a door that closes is served here: others may have forgotten it.
        || door.is_closed()
    {
        return Some(stream);
    }
    let load = |at: usize| worker.shared.workers[at].http.connections.value() + senders[at].depth() as u64;
    let Some(taker) = spread::taker(worker.index, senders.len(), worker.next_draw(), load) else { return Some(stream) };
    let detached = match Detached::of(stream) {
        Ok(detached) => detached,
        Err((stream, error)) => {
            if let Some(held_back) = worker.hand_over.stays.may_say(worker.now()) {
                tracing::warn!(worker = worker.index, %error, held_back, "connections cannot be handed to other workers, they stay");
            }
            return Some(stream);
        }
    };
    match senders[taker].send(Handed { door: door.name(), detached, peer }) {
        Ok(()) => {
            worker.stats.http.handed_over.inc();
            None
        }
        Err(handed) => attached(&worker.lasting, handed.detached),
    }
}

/// Serves what others hand over.
pub(super) async fn take(lasting: Rc<Lasting>, mut handed: Receiver<Handed>) {
    loop {
        let handed = handed.recv().await;
        match lasting.door(handed.door) {
            Some(door) => serve(&door, handed),
            None => keep(&lasting, handed),
        }
    }
}

/// The worker that handed it over may have a new config a moment before this one.
fn keep(lasting: &Rc<Lasting>, handed: Handed) {
    let mut kept = lasting.hand_over.kept.borrow_mut();
    if kept.len() >= KEPT_MAX {
        return lose(lasting, "too many wait for their listeners");
    }
    if let Some(counted) = Counted::new(&lasting.current()) {
        kept.push(Kept { handed, since: lasting.now(), counted });
    }
}

/// Looks again for the doors of those that have none, for each tick.
pub(super) fn look_again(lasting: &Rc<Lasting>) {
    if lasting.hand_over.kept.borrow().is_empty() {
        return;
    }
    for kept in lasting.hand_over.kept.take() {
        match lasting.door(kept.handed.door) {
            Some(door) => {
                drop(kept.counted); // as one of its door from now on
                serve(&door, kept.handed);
            }
            None if kept.since.elapsed() > LATE_MAX => lose(lasting, "this worker has not got its listener"),
            None => lasting.hand_over.kept.borrow_mut().push(kept),
        }
    }
}

fn serve(door: &Rc<Door>, handed: Handed) {
    if let Some(stream) = attached(&door.worker().lasting, handed.detached) {
        run::serve(door, stream, handed.peer);
    }
}

/// The connection as one of this worker; `None`: it is lost.
fn attached(lasting: &Lasting, detached: Detached) -> Option<Stream> {
    detached.attach().map_err(|error| lose(lasting, &error.to_string())).ok()
}

/// A connection is closed without having been served.
fn lose(lasting: &Lasting, why: &str) {
    lasting.current().stats.http.lost.inc();
    if let Some(held_back) = lasting.hand_over.lost.may_say(lasting.now()) {
        tracing::warn!(worker = lasting.index, held_back, "a connection was lost on its way between workers: {why}");
    }
}
