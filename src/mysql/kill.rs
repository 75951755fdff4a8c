//! KILL: from any client of any data worker to the one whose id it names.
//!
//! Ids are the splitter's own ([`super::presence`]). The worker that has the client carries the order out: it ends what
//! waits here by itself, and what runs on a server by a KILL over a connection of its own. That one is only sent while
//! the statement still runs there, and nobody else gets the connection before the server has acknowledged it. So a KILL
//! never hits another client's statement, whoever has the connection next.

use std::cell::Cell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::backend::{Backend, BackendError, Key};
use super::client::{Client, End};
use super::diagnostics::Witness;
use super::presence::{Presence, Running, Thread, worker_of};
use super::protocol::packet::HEADER_BYTES;
use super::protocol::response::{OkPacket, UNREACHABLE};
use super::serve::Splitter;
use super::sql::kill::{self, Scope, Victim};
use super::wire::Wire;
use crate::runtime::mailbox::{Receiver, Sender, mailbox};
use crate::runtime::time::timeout;

/// Orders that wait for a worker.
const ORDERS_MAX: usize = 256;
/// Whoever takes orders looks so often whether its splitter is still there.
const ORDERS_LOOK: Duration = Duration::from_secs(10);
/// Connections for KILL at once, per worker.
const SIDE_MAX: usize = 16;
/// So many of these are for what clients want to have ended, however many statements have exceeded their time.
const SIDE_OF_CLIENTS: usize = 8;
/// `ER_QUERY_INTERRUPTED`.
pub(super) const INTERRUPTED: (u16, &[u8], &str) = (1317, b"70100", "Query execution was interrupted");

/// Whom an order is about.
#[derive(Clone, Copy, Debug)]
enum Target {
    Id(u32),
    /// All clients of an account but the one with this id.
    Account {
        account: u16,
        but: u32,
    },
}

/// How it is to be carried out.
#[derive(Clone, Copy, Debug)]
struct Manner {
    scope: Scope,
    is_soft: bool,
    /// Account that gives the order.
    by: u16,
}

/// An order to the worker that has the client.
pub(super) struct Order {
    target: Target,
    manner: Manner,
    verdict: oneshot::Sender<Verdict>,
}

/// What became of it.
#[derive(Debug)]
enum Verdict {
    /// So many were killed.
    Done(u64),
    /// There is no such client.
    Unknown,
    /// It is another account's.
    Denied,
    /// The server was not reached.
    Failed(String),
}

/// Whether a server still knows a connection by the id that it gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ThreadLife {
    /// It was not started anew since.
    GoesOn,
    /// The connection and what ran there are gone.
    Over,
    /// Nobody knows.
    Unsure,
}

/// The way from each worker to each.
pub(super) struct Exchange {
    senders: Vec<Sender<Order>>,
    /// Each taken once, by its worker.
    receivers: Mutex<Vec<Option<Receiver<Order>>>>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("workers", &self.senders.len()).finish()
    }
}

impl Exchange {
    /// For so many data workers, at least one.
    pub(super) fn new(workers: usize) -> Exchange {
        let (senders, receivers) = (0..workers.max(1)).map(|_| mailbox(ORDERS_MAX)).map(|(s, r)| (s, Some(r))).unzip();
        Exchange { senders, receivers: Mutex::new(receivers) }
    }

    /// Number of data workers.
    pub(super) fn workers(&self) -> usize {
        self.senders.len()
    }

    fn take(&self, worker: usize) -> Option<Receiver<Order>> {
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner).get_mut(worker)?.take()
    }
}

/// One connection for KILL among those there may be.
pub(super) struct Side<'a>(&'a Cell<usize>);

impl<'a> Side<'a> {
    /// For a client's KILL. `None`: there are as many as there may be.
    pub(super) fn take(count: &'a Cell<usize>) -> Option<Side<'a>> {
        Side::take_of(count, SIDE_MAX)
    }

    /// For a statement whose time is up.
    pub(super) fn take_for_time_limit(count: &'a Cell<usize>) -> Option<Side<'a>> {
        Side::take_of(count, SIDE_MAX - SIDE_OF_CLIENTS)
    }

    fn take_of(count: &'a Cell<usize>, max: usize) -> Option<Side<'a>> {
        (count.get() < max).then(|| count.set(count.get() + 1)).map(|()| Side(count))
    }
}

impl Drop for Side<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Splitter {
    /// Takes orders from all workers from now on, while the splitter lives.
    pub(super) fn take_orders(self: &Rc<Self>) {
        let Some(mut orders) = self.shared.kills.take(self.data_worker) else { return };
        let weak: Weak<Splitter> = Rc::downgrade(self);
        crate::runtime::spawn(async move {
            loop {
                let order = timeout(ORDERS_LOOK, orders.recv()).await;
                let Some(splitter) = weak.upgrade() else { return };
                let Ok(order) = order else { continue };
                crate::runtime::spawn(async move {
                    let verdict = splitter.carry_out(order.target, order.manner).await;
                    let _ = order.verdict.send(verdict);
                });
            }
        });
    }

    async fn carry_out(self: &Rc<Self>, target: Target, manner: Manner) -> Verdict {
        match target {
            Target::Id(id) => match self.presences.find(id) {
                None => Verdict::Unknown,
                Some(presence) if manner.by != 0 && presence.account() != Some(manner.by) => Verdict::Denied,
                Some(presence) => self.kill(&presence, manner).await,
            },
            Target::Account { account, but } => {
                let mut count = 0;
                for presence in self.presences.of_account(account).into_iter().filter(|p| p.id() != but) {
                    match self.kill(&presence, manner).await {
                        Verdict::Done(more) => count += more,
                        failed => return failed,
                    }
                }
                Verdict::Done(count)
            }
        }
    }

    async fn kill(self: &Rc<Self>, presence: &Rc<Presence>, manner: Manner) -> Verdict {
        let running = presence.running();
        if manner.scope == Scope::Connection
            && let Some(running) = &running
        {
            running.fate.doom();
        }
        presence.order(manner.scope);
        let Some(running) = running else { return Verdict::Done(1) };
        match manner.scope {
            Scope::Statement => self.kill_running(presence, running, manner).await,
            Scope::Connection => {
                // The client is gone at once; the server hears of it as soon as it can.
                let (splitter, presence) = (Rc::clone(self), Rc::clone(presence));
                crate::runtime::spawn(async move {
                    let verdict = splitter.kill_running(&presence, running, manner).await;
                    tracing::debug!(splitter = %splitter.config().name, ?verdict, "KILL CONNECTION on the server");
                });
                Verdict::Done(1)
            }
        }
    }

    /// What the monitor and a connection that was opened now tell of the one that the server gave an id before: ids go up, and
    /// begin again with the server. Another client may have that id by now.
    pub(super) fn life_of(&self, side: &Backend, thread: Thread) -> ThreadLife {
        let facts = self.shared.server(thread.server);
        match () {
            () if side.thread_id <= thread.id => ThreadLife::Over,
            () if facts.restarts() == thread.restarts => ThreadLife::GoesOn,
            () if facts.is_restart_sure() => ThreadLife::Over,
            () => ThreadLife::Unsure,
        }
    }

    /// Kills on the server what runs there.
    async fn kill_running(&self, presence: &Presence, running: Running, manner: Manner) -> Verdict {
        let Some(_side) = Side::take(&self.side_connections) else {
            return Verdict::Failed(format!("{SIDE_MAX} others are being killed at the moment, try again"));
        };
        let key = Key { capabilities: 0, collation: 45, account: presence.account().unwrap_or_default() };
        let thread = running.thread;
        let config = self.config();
        let target = self.target(&config, thread.server, key.account);
        let mut side = match Backend::open(target, self.next_id(), thread.server, key, None).await {
            Ok((side, _)) => side,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        // A doomed connection serves nobody else, so its thread is the right one as long as the server lives.
        match self.life_of(&side, thread) {
            ThreadLife::GoesOn => {}
            ThreadLife::Over => return Verdict::Done(1),
            ThreadLife::Unsure => return Verdict::Failed("it may have been started anew since".into()),
        }
        if !running.fate.is_doomed() && !presence.still_runs(&running) {
            return Verdict::Done(1);
        }
        let strength = if manner.is_soft { "SOFT " } else { "" };
        let scope = if manner.scope == Scope::Statement { "QUERY" } else { "CONNECTION" };
        let sql = format!("KILL {strength}{scope} {}", thread.id);
        let killing = running.fate.begin_kill();
        let answer = timeout(self.config().connect_timeout, side.row(sql.as_bytes())).await;
        match answer.unwrap_or(Err(BackendError::Timeout("waiting for the answer to KILL"))) {
            // 1094: it is gone already.
            Ok(_) | Err(BackendError::Refused(1094, _)) => {
                killing.arrived();
                Verdict::Done(1)
            }
            Err(error) => {
                if matches!(error, BackendError::Refused(..)) {
                    killing.arrived();
                }
                Verdict::Failed(error.to_string())
            }
        }
    }
}

impl Client {
    /// KILL as a statement.
    pub(super) async fn kill_statement(&mut self, wire: &Wire) -> Result<(), End> {
        let Some(kill) = kill::kill(self.sql(), self.session.mode()) else {
            let message = "KILL takes a connection id, CONNECTION_ID() or USER name here, and no statement beside it";
            return self.deny(wire, 1235, b"42000", message).await;
        };
        let manner = Manner { scope: kill.scope, is_soft: kill.is_soft, by: self.key.account };
        match kill.victim {
            Victim::Id(id) => self.kill_id(wire, id, manner).await,
            Victim::Own => self.kill_id(wire, self.presence.id().into(), manner).await,
            Victim::QueryId => {
                let message = "KILL QUERY ID is not supported through the splitter: query ids are a server's own, and \
                               there are several servers; kill by connection id";
                self.deny(wire, 1235, b"42000", message).await
            }
            Victim::User(name) => {
                let found = self.settings().accounts.find(name).map(|(account, _)| account);
                self.kill_user(wire, found, manner).await
            }
        }
    }

    /// COM_PROCESS_KILL.
    pub(super) async fn kill_command(&mut self, wire: &Wire) -> Result<(), End> {
        let Some(bytes) = self.request.get(HEADER_BYTES + 1..).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()) else {
            return self.deny(wire, 1835, b"HY000", "Malformed communication packet").await;
        };
        let manner = Manner { scope: Scope::Connection, is_soft: false, by: self.key.account };
        self.kill_id(wire, u32::from_le_bytes(bytes).into(), manner).await
    }

    async fn kill_id(&mut self, wire: &Wire, id: u64, manner: Manner) -> Result<(), End> {
        if id == u64::from(self.presence.id()) {
            let (code, state, message) = INTERRUPTED;
            self.deny(wire, code, state, message).await?;
            return if manner.scope == Scope::Connection { Err(End) } else { Ok(()) };
        }
        let verdict = match (worker_of(id, self.splitter.shared.kills.workers()), u32::try_from(id)) {
            (Some(worker), Ok(id)) => self.order(worker, Target::Id(id), manner).await?,
            _ => Verdict::Unknown,
        };
        match verdict {
            Verdict::Done(_) => {
                (self.counted, self.last) = (self.counted.with_rows(0), Some(Witness::NOBODY));
                self.reply_ok(wire).await
            }
            Verdict::Unknown => self.deny(wire, 1094, b"HY000", format!("Unknown thread id: {id}")).await,
            Verdict::Denied => self.deny(wire, 1095, b"HY000", format!("You are not owner of thread {id}")).await,
            Verdict::Failed(why) => {
                self.deny(wire, UNREACHABLE, b"HY000", format!("the server was not told to KILL: {why}")).await
            }
        }
    }

    /// Kills all clients of an account, on all workers, but this one. `None`: there is no such account, so nobody.
    async fn kill_user(&mut self, wire: &Wire, account: Option<u16>, manner: Manner) -> Result<(), End> {
        if manner.by != 0 && account != Some(manner.by) {
            let message = "Access denied; KILL USER is for a user's own connections, or for the splitter's `user`";
            return self.deny(wire, 1227, b"42000", message).await;
        }
        let mut affected_rows = 0;
        for worker in 0..self.splitter.shared.kills.workers() {
            let Some(account) = account else { break };
            match self.order(worker, Target::Account { account, but: self.presence.id() }, manner).await? {
                Verdict::Done(count) => affected_rows += count,
                Verdict::Failed(why) => {
                    let message = format!("not all of them were killed: {why}");
                    return self.deny(wire, UNREACHABLE, b"HY000", message).await;
                }
                Verdict::Unknown | Verdict::Denied => {}
            }
        }
        let rows = i64::try_from(affected_rows).unwrap_or(i64::MAX);
        (self.counted, self.last) = (self.counted.with_rows(rows), Some(Witness::NOBODY));
        self.out.clear();
        let ok = OkPacket { affected_rows, ..OkPacket::plain(self.session.own_status()) };
        ok.encode(&mut self.out, 1, false);
        self.flush(wire).await
    }

    /// Has a worker carry an order out. Errors: this client is to end itself.
    async fn order(&self, worker: usize, target: Target, manner: Manner) -> Result<Verdict, End> {
        if worker == self.splitter.data_worker {
            let work = self.splitter.carry_out(target, manner);
            return self.presence.unless_killed(work).await.map_err(|_| End);
        }
        let (verdict, answer) = oneshot::channel();
        if self.splitter.shared.kills.senders[worker].send(Order { target, manner, verdict }).is_err() {
            return Ok(Verdict::Failed("too many are waiting to be killed, try again".into()));
        }
        // Connecting and the KILL itself have this limit each.
        let limit = self.splitter.config().connect_timeout * 2 + Duration::from_secs(1);
        let answer = self.presence.unless_killed(timeout(limit, answer)).await.map_err(|_| End)?;
        Ok(match answer {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) | Err(_) => Verdict::Failed("its data worker does not answer".into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_whose_time_is_up_leave_connections_for_what_clients_kill() {
        let count = Cell::new(0);
        let overdue: Vec<_> = (0..SIDE_MAX).map_while(|_| Side::take_for_time_limit(&count)).collect();
        assert_eq!(overdue.len(), SIDE_MAX - SIDE_OF_CLIENTS);
        let of_clients: Vec<_> = (0..SIDE_MAX).map_while(|_| Side::take(&count)).collect();
        assert_eq!((of_clients.len(), count.get()), (SIDE_OF_CLIENTS, SIDE_MAX));
        drop((overdue, of_clients));
        assert_eq!(count.get(), 0);
    }
}
