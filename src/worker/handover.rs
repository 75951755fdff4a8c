//! Connections that one data worker has accepted and another one serves. Which ones: [`super::spread`].
//!
//! A connection is handed over before anything was read from it. It goes through a bounded mailbox; where that is full, or the
//! process is about to end, it stays with who accepted it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::door::Door;
use super::{Lasting, Worker, run, spread};
use crate::control::shared::Phase;
use crate::runtime::detached::Detached;
use crate::runtime::mailbox::{Receiver, Sender};
use crate::runtime::net::Stream;

/// How long one waits for the listener that it came through: the worker that handed it over may have a new config a moment
/// before the one that gets it.
const KEPT_MAX: Duration = Duration::from_secs(5);

/// A connection on its way.
#[derive(Debug)]
pub(crate) struct Handed {
    /// That of the door it came through.
    slot: usize,
    detached: Detached,
    peer: Option<SocketAddr>,
}

/// The mailboxes of all data workers for such connections, and what waits here for its door.
pub(super) struct HandOver {
    senders: Vec<Sender<Handed>>,
    kept: RefCell<Vec<(Handed, Instant)>>,
}

impl HandOver {
    pub(super) fn new(senders: Vec<Sender<Handed>>) -> HandOver {
        HandOver { senders, kept: RefCell::default() }
    }

    /// Connections that are on their way to this worker, or here without being served.
    pub(super) fn waiting(&self, worker: usize) -> usize {
        self.senders.get(worker).map_or(0, Sender::depth) + self.kept.borrow().len()
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
        Err(error) => {
            tracing::warn!(worker = worker.index, %error, "a connection cannot be handed to another worker");
            return None;
        }
    };
    match senders[taker].send(Handed { slot: door.slot, detached, peer }) {
        Ok(()) => {
            worker.stats.http.handed_over.inc();
            None
        }
        Err(handed) => handed.detached.attach().ok(),
    }
}

/// Serves what others hand over.
pub(super) async fn take(lasting: Rc<Lasting>, mut handed: Receiver<Handed>) {
    loop {
        let handed = handed.recv().await;
        if let Err(handed) = serve(&lasting, handed) {
            lasting.hand_over.kept.borrow_mut().push((handed, lasting.now()));
        }
    }
}

/// Looks again for the doors of those that have none, for each tick.
pub(super) fn look_again(lasting: &Rc<Lasting>) {
    if lasting.hand_over.kept.borrow().is_empty() {
        return;
    }
    let kept = lasting.hand_over.kept.take();
    for (handed, since) in kept {
        if since.elapsed() > KEPT_MAX {
            tracing::warn!(worker = lasting.index, "a connection was dropped: this worker has not got its listener");
            continue;
        }
        if let Err(handed) = serve(lasting, handed) {
            lasting.hand_over.kept.borrow_mut().push((handed, since));
        }
    }
}

/// Errors: there is no such door here.
fn serve(lasting: &Rc<Lasting>, handed: Handed) -> Result<(), Handed> {
    let doors = lasting.doors.borrow();
    // Of several with this slot the last one is open.
    let Some(door) = doors.iter().rev().find(|door| door.slot == handed.slot).cloned() else { return Err(handed) };
    drop(doors);
    match handed.detached.attach() {
        Ok(stream) => run::serve(&door, stream, handed.peer),
        Err(error) => tracing::warn!(worker = lasting.index, %error, "a connection from another worker cannot be used"),
    }
    Ok(())
}
