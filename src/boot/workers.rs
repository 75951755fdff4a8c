//! The data workers' threads: what each of them is given, and how they are told to begin and to end.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::app_workers::{AnswerSeat, Ways};
use super::cores::Placement;
use super::sockets::Sockets;
use super::splitters::Known;
use super::start::{StartError, cannot_start};
use crate::config::Config;
use crate::control::Shared;
use crate::control::shared::{WorkerFacts, WorkerRole};
use crate::guard::Hasher;
use crate::log::{self, Outbox};
use crate::runtime::cores;
use crate::runtime::driver::{DataRuntime, DriverFacts};
use crate::runtime::helpers::Helpers;
use crate::runtime::mailbox::{Receiver, Sender, mailbox};
use crate::tls::Materials;
use crate::worker::{Control, Datagram, Drain, QuicKeys, Seat, TICK};

/// How long the end of the process waits for a data worker, which may be stuck in a dead file system.
pub(super) const WORKER_STOP_MAX: Duration = Duration::from_secs(2);

/// Orders that may wait for a data worker.
const ORDERS_MAX: usize = 16;

/// Datagrams of QUIC that may wait for a worker whose connections they belong to; more are dropped.
const DATAGRAMS_MAX: usize = 1024;

/// Accepted connections that may wait for a worker with fewer of them; beyond it they stay where they are.
const HANDED_MAX: usize = 256;

/// The threads of the process and the way to them.
pub(super) struct Threads {
    data: Vec<JoinHandle<()>>,
    /// By worker.
    pub(super) orders: Vec<Sender<Control>>,
    /// Where datagrams for their connections go.
    pub(super) datagrams: Vec<Sender<Datagram>>,
}

/// What data workers are given.
pub(super) struct Outfit {
    pub(super) shared: Arc<Shared>,
    pub(super) quic_keys: QuicKeys,
    /// Leads to the process before this one.
    pub(super) quic_before: Option<Arc<UnixDatagram>>,
    pub(super) tls: Materials,
    pub(super) mysql: Known,
    pub(super) apps: Ways,
    pub(super) helpers: Helpers,
    pub(super) hasher: Arc<Hasher>,
    /// For each of them.
    pub(super) answers: Vec<AnswerSeat>,
    /// The same; empty without an access log.
    pub(super) outboxes: Vec<Outbox>,
}

impl Threads {
    /// Starts a data worker on each core of `placement`, with its sockets; adds to the `facts`.
    pub(super) fn start(
        config: &Arc<Config>,
        placement: &Placement,
        sockets: &mut Sockets,
        mut outfit: Outfit,
        facts: &mut Vec<WorkerFacts>,
    ) -> Result<Threads, StartError> {
        let connections = Arc::new(AtomicUsize::new(0));
        let (datagrams, mut datagram_boxes) = mailboxes(placement.data.len(), DATAGRAMS_MAX);
        let (handed_senders, mut handed_boxes) = mailboxes(placement.data.len(), HANDED_MAX);
        let mut threads = Threads { data: Vec::new(), orders: Vec::new(), datagrams };
        for (index, (replies, tickets)) in std::mem::take(&mut outfit.answers).into_iter().enumerate().rev() {
            let (Some(datagrams), Some(handed)) = (datagram_boxes.pop(), handed_boxes.pop()) else {
                unreachable!("one for each worker")
            };
            let (order, control) = mailbox(ORDERS_MAX);
            let seat = Seat {
                index,
                shared: outfit.shared.clone(),
                listeners: std::mem::take(&mut sockets.http[index]),
                quic: std::mem::take(&mut sockets.quic[index]),
                flows: std::mem::take(&mut sockets.flows[index]),
                quic_keys: outfit.quic_keys.clone(),
                quic_before: outfit.quic_before.clone(),
                datagrams,
                datagram_senders: threads.datagrams.clone(),
                handed,
                handed_senders: handed_senders.clone(),
                tls: outfit.tls.clone(),
                splitters: std::mem::take(&mut sockets.mysql[index]),
                mysql: outfit.mysql.clone(),
                control,
                app_workers: outfit.apps.mailboxes.clone(),
                ways: outfit.apps.ways.clone(),
                paired: placement.paired(index),
                replies,
                tickets,
                outbox: outfit.outboxes.pop(),
                helpers: outfit.helpers.clone(),
                hasher: outfit.hasher.clone(),
                connections: connections.clone(),
                request_id_seed: rand::random(),
            };
            threads.orders.push(order);
            // Each answer of an application may wake it, on whatever core that is and whatever thread it comes from.
            let is_woken = !config.apps.is_empty();
            let (thread, worker_facts) = start_data_worker(config, seat, placement.data[index], is_woken)?;
            threads.data.push(thread);
            facts.push(worker_facts);
        }
        // By worker, as everything else that a reload brings for each of them: a socket goes back to the one that had it.
        threads.orders.reverse();
        start_clock(threads.orders.clone())?;
        Ok(threads)
    }

    /// Lets the data workers accept connections.
    pub(super) async fn begin(&self) {
        let mut untold: Vec<_> = self.orders.iter().collect();
        loop {
            untold.retain(|order| order.send(Control::Begin).is_err());
            if untold.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends when a data worker has ended.
    pub(super) async fn one_ended(&self) {
        while self.data.iter().all(|thread| !thread.is_finished()) {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Lets the data workers finish what is under way, and ends when they have ended.
    pub(super) async fn drain(&self, order: &Drain) {
        // A worker's mailbox may be full of ticks while it is busy; it must not miss this.
        let mut untold: Vec<_> = self.orders.iter().collect();
        while !untold.is_empty() || self.data.iter().any(|thread| !thread.is_finished()) {
            untold.retain(|worker| worker.send(Control::Drain(order.clone())).is_err());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends them, but does not wait for one that is stuck.
    pub(super) fn stop(&self) {
        let mut untold: Vec<_> = self.orders.iter().collect();
        let deadline = Instant::now() + WORKER_STOP_MAX;
        while self.data.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
            untold.retain(|order| order.send(Control::Stop).is_err());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// One mailbox for each of `workers`: where to send to, and what to receive from.
fn mailboxes<T>(workers: usize, room: usize) -> (Vec<Sender<T>>, Vec<Receiver<T>>) {
    (0..workers).map(|_| mailbox(room)).unzip()
}

fn start_data_worker(
    config: &Arc<Config>,
    seat: Seat,
    core: usize,
    is_woken: bool,
) -> Result<(JoinHandle<()>, WorkerFacts), StartError> {
    let (choice, entries, index) = (config.process.driver, config.process.ring_entries, seat.index);
    let (report, reported) = mpsc::channel();
    let name = format!("data-{index}");
    let spawned = std::thread::Builder::new().name(name.clone()).spawn(move || {
        log::never_block();
        let built = cores::pin(core).and_then(|()| DataRuntime::build(choice, entries, is_woken));
        match built {
            Ok((mut runtime, facts)) => {
                drop(report.send(Ok(facts)));
                runtime.block_on(crate::worker::run(seat));
            }
            Err(error) => drop(report.send(Err(error))),
        }
    });
    let thread = spawned.map_err(|error| StartError::Thread { name: name.clone(), error })?;
    let driver = await_start(&name, &reported)?;
    Ok((thread, worker_facts(WorkerRole::Data, index, Some(core), driver)))
}

/// Tells every data worker ten times a second that time has passed. A full mailbox misses a tick: its worker is busy
/// with earlier ones.
fn start_clock(workers: Vec<Sender<Control>>) -> Result<(), StartError> {
    let tick = move || {
        loop {
            std::thread::sleep(TICK);
            for worker in &workers {
                let _ = worker.send(Control::Tick);
            }
        }
    };
    let spawned = std::thread::Builder::new().name("clock".into()).spawn(tick);
    spawned.map(drop).map_err(cannot_start("clock"))
}

pub(super) fn await_start(
    name: &str,
    reported: &mpsc::Receiver<io::Result<DriverFacts>>,
) -> Result<DriverFacts, StartError> {
    let facts = reported.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
    facts.map_err(|error| StartError::Thread { name: name.to_owned(), error })
}

pub(super) fn worker_facts(role: WorkerRole, index: usize, core: Option<usize>, facts: DriverFacts) -> WorkerFacts {
    let flags = facts.flags.split('|').filter(|flag| !flag.is_empty()).map(str::to_owned).collect();
    WorkerFacts { role, index, core, app: None, driver: facts.driver, flags, fallback: facts.fallback }
}
