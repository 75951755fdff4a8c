//! Runs one statement: find a server, bring a connection into the session's state, send, relay, learn.
//!
//! What may be repeated: a read of which the client has not seen a byte, on another server. A write never: when its
//! connection is lost, the client is told that the outcome is unknown.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use super::acquire::{Awaited, Tries};
use super::backend::{BackendError, InsertId};
use super::causal::{MustSee, NotThere};
use super::client::{Client, End, SQL_AT};
use super::diagnostics::{Counted, Witness};
use super::kill::INTERRUPTED;
use super::lease::{Lease, Spot};
use super::presence::Killed;
use super::protocol::command;
use super::protocol::execute::put_rebound;
use super::protocol::follow::Outcome;
use super::protocol::packet::{HEADER_BYTES, answer_sequence_id, join_payload, put_message};
use super::protocol::response::{ErrPacket, LOST};
use super::protocol::tracker::changes_session;
use super::relay::{Abandoned, Relayed};
use super::rules::Choice;
use super::session::{changes_nothing, is_portable};
use super::sql::locks::lock_name;
use super::sql::{Class, Kind, LockStep, Pin, diagnostics, hidden};
use super::survey;
use super::wire::Wire;
use crate::metrics::TraceEvent;
use crate::runtime::time::timeout;

/// Connections tried for one statement, before the primary has the last word.
pub(super) const TRIES_MAX: u32 = 4;

/// What any socket takes at once when nothing else is on its way there (`SO_SNDBUF` is 16 KiB at least, tcp(7)).
const PLAIN_SEND_BYTES: usize = 16 << 10;

/// What a statement is sent as.
pub(super) enum Work {
    /// As the client sent it.
    Plain,
    /// COM_STMT_PREPARE.
    Prepare {
        /// The client's id for it.
        id: u32,
        /// Its text.
        sql: Rc<[u8]>,
        /// Class of executing it.
        class: Class,
    },
    /// COM_STMT_EXECUTE.
    Execute {
        /// The client's id.
        id: u32,
        /// No other session may use the server's statement.
        is_alone: bool,
    },
}

/// What became of an answer.
enum Told {
    /// The client has it.
    Done,
    /// Its server has committed something that nobody may have: another one leads.
    InVain,
}

/// An error for the client: number, state, text, in the character set of its results where a server wrote it.
pub(super) struct Reject(pub(super) u16, pub(super) &'static [u8], pub(super) Vec<u8>);

impl Reject {
    pub(super) fn new(code: u16, text: impl Into<Vec<u8>>) -> Reject {
        Reject(code, sql_state(code), text.into())
    }
}

/// SQLSTATE of the errors that preparing a connection or a statement can meet.
pub(super) fn sql_state(code: u16) -> &'static [u8] {
    match code {
        1046 => b"3D000",
        1044 | 1045 | 1049 | 1064 | 1054 | 1305 | 1142 | 1149 => b"42000",
        1146 => b"42S02",
        1213 => b"40001",
        1792 => b"25006",
        LOST => b"08S01",
        _ => b"HY000",
    }
}

/// A replica that is behind, or refuses because it is a replica, answers so; the primary may know better.
///
/// The next statement of the same form is sent to a replica again, on purpose: what refused this one passes by itself in most
/// cases (a table that has not come yet, a node that joins, a server that shuts down), and the client gets the right answer either
/// way, for the price of one question more. A memory of refused forms would keep reads on the primary long after, and needs a
/// limit and an age. Where a form is always refused (a view whose function writes), a rule with `route = "primary"` says so.
fn is_replica_trouble(code: u16) -> bool {
    matches!(code, 1049 | 1054 | 1146 | 1305 | 1290 | 1792 | 1836 | 1047 | 1053)
}

/// A fresh table is not on a lagging replica yet: the primary has the last word on such errors. So it has where a replica was
/// asked in its place.
fn asks_primary_instead(outcome: &Outcome, is_primary: bool, was_held: bool, class: &Class) -> bool {
    let is_for_any = matches!(class.kind, Kind::Read | Kind::Local | Kind::Set | Kind::Use) && class.pin.is_none();
    let may_repeat = is_for_any && !is_primary && !was_held && outcome.results <= 1 && !outcome.had_rows;
    may_repeat && outcome.error.is_some_and(is_replica_trouble)
}

/// A name that the server does not know.
fn is_name_unknown(outcome: &Outcome) -> bool {
    matches!(outcome.error, Some(1049 | 1054 | 1146 | 1305))
}

/// Whether a statement has left something in its session that no other connection can be given: a function of a view did, or
/// a SET of what is not set again elsewhere.
fn leaves_something(class: &Class, outcome: &Outcome) -> bool {
    match class.kind {
        Kind::Set | Kind::Use => !is_portable(&outcome.changes),
        _ if class.restores => false,
        _ => changes_session(&outcome.changes),
    }
}

/// Whether the primary has refused a statement of its own because it is none any more: `read_only` (1290, 1836, 1792), a
/// Galera node that is not ready (1047). Nothing was executed then. What may have begun to run is left out: CALL, functions,
/// several statements in one packet. While it shuts down (1053) a statement may have run, so only a read is tried again.
fn was_not_executed(outcome: &Outcome, class: &Class) -> bool {
    let Some(code) = outcome.error else { return false };
    let is_refusal = matches!(code, 1290 | 1836 | 1792 | 1047);
    let may_repeat = match class.kind {
        Kind::Write | Kind::Definition | Kind::Transaction => is_refusal,
        Kind::Read | Kind::Local | Kind::Locking => is_refusal || code == 1053,
        _ => false,
    };
    may_repeat && class.pin.is_none() && !class.trusted && outcome.results == 0 && !outcome.had_rows
}

/// Whether a statement may have changed what others see. What pins may have done anything: a function of the user's, a batch.
pub(super) fn may_change(class: &Class) -> bool {
    class.pin.is_some() || !matches!(class.kind, Kind::Read | Kind::Local | Kind::Locking | Kind::Diagnostics)
}

/// Whether a statement whose answer was lost may run again elsewhere.
pub(super) fn is_repeatable(class: &Class) -> bool {
    matches!(class.kind, Kind::Read | Kind::Local) && class.pin.is_none()
}

impl Client {
    /// Runs a statement for the client, from the first try to the last byte of the answer.
    pub(super) async fn statement(&mut self, wire: &mut Wire, class: Class, work: Work) -> Result<(), End> {
        self.presence.begin();
        let done = match class.kind {
            Kind::Kill => Box::pin(self.kill_statement(wire)).await,
            _ => self.run_statement(wire, class, work).await,
        };
        self.presence.end();
        done?;
        let Some(lease) = &self.held else { return Ok(()) };
        // A KILL that comes too late for one statement must not hit the next.
        lease.fate.settle(self.splitter.config().connect_timeout * 2).await;
        if lease.fate.is_doomed() { Err(End) } else { Ok(()) }
    }

    async fn run_statement(&mut self, wire: &mut Wire, class: Class, work: Work) -> Result<(), End> {
        let executes = if let Work::Execute { id, .. } = &work { Some(*id) } else { None };
        self.watch.begin(self.request.get(HEADER_BYTES).copied(), executes);
        if let Some(reject) = self.rejection() {
            self.observe_refusal(reject.0);
            return self.refuse(wire, &class, reject).await;
        }
        let mut found = self.on_begin(class, &work).await;
        if let Ok(class) = found
            && let Some(obstacle) = self.obstacle_on_replica(&class, &work)
        {
            found = self.pass_obstacle(obstacle, class, &work).await;
        }
        let class = match found {
            Ok(class) => class,
            Err(reject) => {
                self.observe_refusal(reject.0);
                return self.refuse(wire, &class, reject).await;
            }
        };
        // What is prepared is judged by what it will do.
        let judged = if let Work::Prepare { class, .. } = &work { class } else { &class };
        if let Some((code, state, message)) = self.forbidden(judged) {
            self.observe_refusal(code);
            return self.refuse(wire, &class, Reject(code, state, message.into())).await;
        }
        let was_free = self.session.pin.is_none();
        self.is_settled_for = false;
        if self.must_settle_statements(&class)
            && let Err(reject) = Box::pin(self.settle_statements(wire)).await
        {
            self.observe_refusal(reject.0);
            self.refuse(wire, &class, reject).await?;
            return if self.has_lost_held { Err(End) } else { Ok(()) };
        }
        self.is_settled_for = was_free && self.session.pin == Some(Pin::Statement);
        let started = self.watch.started;
        let is_for_primary = self.watch.verdict.choice == Some(Choice::Primary);
        let mut tries = Tries { primary_only: is_for_primary, ..Tries::default() };
        loop {
            match self.attempt(wire, &class, &work, &mut tries, started).await? {
                Ok(()) => return Ok(()),
                Err(None) if self.presence.is_interrupted() => return self.reply_interrupted(wire, &class).await,
                Err(None) => {}
                Err(Some(Reject(code, state, message))) => {
                    let presence = Rc::clone(&self.presence);
                    match presence.unless_interrupted(Box::pin(self.may_wait(wire, &mut tries, started))).await {
                        Ok(Ok(true)) => continue,
                        Ok(Ok(false)) => {}
                        Ok(Err(end)) => return Err(end),
                        Err(Killed) if presence.is_killed() => return Err(End),
                        Err(Killed) => return self.reply_interrupted(wire, &class).await,
                    }
                    self.observe_refusal(code);
                    self.counted = self.counted.with_rows(-1);
                    self.last = Some(Witness::NOBODY);
                    self.is_servers_word = tries.is_servers_word;
                    self.refuse(wire, &class, Reject(code, state, message)).await?;
                    return if tries.ends { Err(End) } else { Ok(()) };
                }
            }
        }
    }

    /// Answers a statement with an error, of which no server knows as a rule.
    pub(super) async fn refuse(&mut self, wire: &Wire, class: &Class, reject: Reject) -> Result<(), End> {
        self.reply_error(wire, reject.0, reject.1, &reject.2).await?;
        let is_known = std::mem::take(&mut self.is_servers_word);
        // Servers never fail to tell what they are asked of an earlier error.
        if is_known {
            self.own_error = None;
        } else if class.diagnostics & diagnostics::WARNINGS == 0 {
            self.keep_own_error(reject);
        }
        Ok(())
    }

    fn keep_own_error(&mut self, reject: Reject) {
        self.own_error = Some(reject);
        (self.session.has_diagnostics, self.warned) = (true, Some(Witness::NOBODY));
    }

    async fn reply_interrupted(&mut self, wire: &Wire, class: &Class) -> Result<(), End> {
        let (code, state, message) = INTERRUPTED;
        self.observe_refusal(code);
        (self.counted, self.last) = (self.counted.with_rows(-1), Some(Witness::NOBODY));
        self.refuse(wire, class, Reject(code, state, message.into())).await
    }

    /// Waits for what kept a statement from being sent, if that may pass. `false`: it must be refused.
    pub(super) async fn may_wait(&self, wire: &Wire, tries: &mut Tries, started: Instant) -> Result<bool, End> {
        match tries.waits.take() {
            None => Ok(false),
            Some(Awaited::Primary { changes_something }) => self.hold(wire, changes_something, started).await,
            Some(Awaited::Look(server)) => {
                if started.elapsed() >= self.splitter.config().primary_wait {
                    return Ok(false);
                }
                self.after_another_look(wire, server).await?;
                Ok(true)
            }
        }
    }

    /// One try. `Ok(Err(None))`: try again; `tries` says where not.
    async fn attempt(
        &mut self,
        wire: &mut Wire,
        class: &Class,
        work: &Work,
        tries: &mut Tries,
        started: Instant,
    ) -> Result<Result<(), Option<Reject>>, End> {
        tries.count += 1;
        let was_held = self.held.is_some() || self.prelude.is_some();
        let presence = Rc::clone(&self.presence);
        let (mut lease, wait) = match presence.unless_interrupted(self.acquire(class, tries)).await {
            Ok(Ok(found)) => found,
            Ok(Err(reject)) => return Ok(Err(reject)),
            Err(Killed) if presence.is_killed() => return Err(End),
            // It was about to be used: what the session had there is gone.
            Err(Killed) if was_held && self.session.holds() && self.held.is_none() && self.prelude.is_none() => {
                return Err(End);
            }
            Err(Killed) => return Ok(Err(None)),
        };
        lease.run_for(&presence);
        let spot = lease.spot();
        let Spot { server, is_primary } = spot;
        tracing::trace!(server, ?class, pin = ?self.session.pin, token = ?self.session.token, was_held, "statement");
        self.to_server.clear();
        let prepared = self.server_statement_of(wire, &mut lease, class, work).await;
        let is_servers_word = matches!(prepared, Err(BackendError::Refused(..)));
        match prepared.and_then(|id| {
            lease.put_closes(&mut self.to_server);
            if let Some(wait) = &wait {
                self.put_wait(&lease, wait);
            }
            self.compose(&lease, work, id)
        }) {
            Ok(()) => {}
            Err(BackendError::Refused(code, message)) => {
                self.give_up_direct(&mut lease, work);
                tries.is_servers_word = false;
                return Ok(Err(self.on_refused(lease, was_held, Reject::new(code, message), is_servers_word, tries)));
            }
            Err(_) => {
                drop(lease);
                return Box::pin(self.on_lost_early(wire, spot, was_held, class, tries)).await;
            }
        }
        // Another server may lead by now: the next try finds it.
        if presence.is_interrupted() || is_primary && self.splitter.is_deposed(server) {
            self.give_up_direct(&mut lease, work);
            self.put_back(lease, was_held);
            return Ok(Err(None));
        }
        self.count(spot, class);
        self.note_sent();
        self.note_execution(work);
        self.splitter.stats().backends[server].bytes_sent.add(self.to_server.len() as u64);
        let movable = class.is_read() && !was_held && !is_primary;
        lease.closes_sent();
        // What sockets have room for is sent with the wait for its answer, see `relay`.
        let is_short = self.to_server.len() <= PLAIN_SEND_BYTES && lease.sends_plainly();
        let result = match is_short && wait.is_none() {
            true => Ok(Ok(())),
            // Boxed: few need it, and it is large.
            false => Box::pin(self.send_to_server(wire, &lease, movable)).await,
        };
        let result = match result {
            Ok(result) => result,
            Err(Abandoned::ClientGone) => return Err(End),
            Err(Abandoned::ServerDown) => {
                lease.forget_what_was_sent();
                drop(lease);
                let first = Some(self.reply_sequence_id());
                return Box::pin(self.on_lost(wire, spot, was_held, class, tries, false, first)).await;
            }
        };
        // After a failed write the server may have answered all the same (packet too large): look.
        let waited = wait.is_some();
        if let Some(wait) = wait {
            let waiting = Instant::now();
            let there = match result {
                Ok(()) => self.await_position(lease, wait, class, work).await,
                Err(_) => {
                    drop(lease);
                    Err(NotThere::Lost)
                }
            };
            self.watch.causal_wait.set(self.watch.causal_wait.get() + waiting.elapsed());
            lease = match there {
                Ok(lease) => lease,
                Err(NotThere::Late) => {
                    self.count_fallback();
                    tries.primary_only = true;
                    return Ok(Err(None));
                }
                Err(NotThere::Lost) => {
                    return Box::pin(self.on_lost_early(wire, spot, was_held, class, tries)).await;
                }
            };
            if self.found == Some(Witness { server, tenure: lease.tenure }) {
                self.found = Some(Witness::NOBODY); // it knows of the wait's row instead
            }
        }
        let follower = self.follower(work).pausing(wire.stream.packed_sequence_id().is_some());
        let timer = if !is_primary && !waited { self.splitter.replicas.timer() } else { None };
        match self.relay(wire, &mut lease, follower, class, was_held, timer).await? {
            Relayed::Done { outcome, forwarded: false }
                if !is_primary && !was_held && class.begins.is_none() && leaves_something(class, &outcome) =>
            {
                // It must be where the session goes on.
                tracing::debug!(server, "a statement on a replica left something in its session: the primary runs it");
                drop(lease);
                tries.primary_only = true;
                Ok(Err(None))
            }
            Relayed::Done { outcome, .. }
                if asks_primary_instead(&outcome, is_primary, was_held, class)
                    && !(is_name_unknown(&outcome) && Box::pin(self.is_last_word(server)).await) =>
            {
                self.out.clear();
                lease.protected = true; // the error is what SHOW WARNINGS would tell there
                lease.dirty |= !class.is_read();
                lease.give_back();
                tries.primary_only = true;
                Ok(Err(None))
            }
            Relayed::Done { outcome, forwarded } => {
                if is_primary
                    && !was_held
                    && was_not_executed(&outcome, class)
                    && !std::mem::replace(&mut tries.refused, true)
                    && Box::pin(self.after_another_look(wire, server)).await?
                {
                    self.out.clear();
                    lease.protected = true; // as above
                    lease.give_back();
                    return Ok(Err(None));
                }
                match self.finish(wire, lease, class, work, outcome, was_held, started).await? {
                    Told::Done => Ok(Ok(())),
                    Told::InVain => {
                        let error_sequence_id = (!forwarded).then(|| self.reply_sequence_id());
                        let told =
                            Box::pin(self.tell_lost(wire, spot, was_held, true, forwarded, error_sequence_id)).await?;
                        // What it has left there is gone.
                        if self.session.holds() { Err(End) } else { Ok(told) }
                    }
                }
            }
            Relayed::Lost { forwarded, error_sequence_id } => {
                drop(lease);
                Box::pin(self.on_lost(wire, spot, was_held, class, tries, forwarded, error_sequence_id)).await
            }
            Relayed::Vain { forwarded, error_sequence_id } => {
                drop(lease);
                Box::pin(self.tell_lost(wire, spot, was_held, true, forwarded, error_sequence_id)).await
            }
        }
    }

    /// Sends what was composed; the inner result: whether the server took it. What is longer than sockets hold may wait for a
    /// server that does not read: not longer than for its answer.
    async fn send_to_server(&mut self, wire: &Wire, lease: &Lease, movable: bool) -> Result<io::Result<()>, Abandoned> {
        let out = std::mem::take(&mut self.to_server);
        let (result, buffer) = self.watched(wire, lease.server, movable, pin!(lease.send(out))).await?;
        self.to_server = buffer;
        self.to_server.clear();
        if self.to_server.capacity() > 256 << 10 {
            self.to_server = Vec::new();
        }
        Ok(result)
    }

    fn count(&self, spot: Spot, class: &Class) {
        let stats = self.splitter.stats();
        stats.backends[spot.server].statements.inc();
        if class.kind != Kind::Use {
            if spot.is_primary { stats.to_primary.inc() } else { stats.to_replica.inc() }
        }
    }

    /// The server's id of the statement that is executed, if one is.
    async fn server_statement_of(
        &mut self,
        wire: &Wire,
        lease: &mut Lease,
        class: &Class,
        work: &Work,
    ) -> Result<Option<u32>, BackendError> {
        match work {
            Work::Execute { id, is_alone } => {
                self.server_statement(wire, lease, (*id, *is_alone), class).await.map(Some)
            }
            Work::Plain | Work::Prepare { .. } => Ok(None),
        }
    }

    /// Appends what is sent to the server.
    fn compose(&mut self, lease: &Lease, work: &Work, server_id: Option<u32>) -> Result<(), BackendError> {
        let start = self.to_server.len();
        match (work, server_id) {
            (Work::Execute { id, .. }, Some(server_id)) => {
                let Some(statement) = self.statements.get(id) else {
                    return Err(BackendError::Refused(1243, "Unknown prepared statement handler".into()));
                };
                let binding = statement.binding(self.has_attributes());
                put_rebound(&mut self.to_server, &self.request, server_id, binding, lease.has_attributes)
                    .map_err(|error| BackendError::Refused(1835, error.to_string().into()))?;
            }
            _ if self.sql_at > SQL_AT && !lease.has_attributes => {
                let payload = join_payload(&self.request);
                let sql = &payload[self.sql_at - HEADER_BYTES..];
                put_message(&mut self.to_server, &[&[command::QUERY], sql].concat());
            }
            _ => self.to_server.extend_from_slice(&self.request),
        }
        self.sent_sequence_id = answer_sequence_id(&self.to_server[start..]);
        Ok(())
    }

    /// A connection on which nothing has happened goes to where it was.
    fn put_back(&mut self, lease: Lease, was_held: bool) {
        if was_held {
            self.held = Some(lease);
        } else {
            lease.give_back();
        }
    }

    /// A statement cannot be prepared, or not be sent as it is. `is_servers_word`: the server knows of that refusal, too.
    fn on_refused(
        &mut self,
        mut lease: Lease,
        was_held: bool,
        reject: Reject,
        is_servers_word: bool,
        tries: &mut Tries,
    ) -> Option<Reject> {
        let is_replica = !lease.spot().is_primary;
        let here = Witness { server: lease.server, tenure: lease.tenure };
        lease.protected |= is_servers_word; // SHOW WARNINGS would tell it there
        self.put_back(lease, was_held);
        if is_replica && !was_held && is_replica_trouble(reject.0) {
            tries.primary_only = true;
            return None;
        }
        if is_servers_word {
            (self.session.has_diagnostics, self.warned) = (true, Some(here));
            tries.is_servers_word = true;
        }
        Some(reject)
    }

    /// Whether nobody knows better than this replica: there is no primary that could be asked, and it has all that the session must
    /// see.
    async fn is_last_word(&self, server: usize) -> bool {
        if self.splitter.primary_trouble(false).is_none() {
            return false;
        }
        match self.must_see().await {
            Ok(MustSee::Anything) => true,
            Ok(MustSee::Position(position)) => self.splitter.has_reached(server, &position),
            Ok(MustSee::Cluster) | Err(_) => false,
        }
    }

    /// The connection broke before the statement was sent.
    async fn on_lost_early(
        &mut self,
        wire: &Wire,
        spot: Spot,
        was_held: bool,
        class: &Class,
        tries: &mut Tries,
    ) -> Result<Result<(), Option<Reject>>, End> {
        if !was_held && tries.count < TRIES_MAX {
            self.note_lost(spot.server, class, tries);
            return Ok(Err(None));
        }
        let first = Some(self.reply_sequence_id());
        self.on_lost(wire, spot, was_held, class, tries, false, first).await
    }

    /// A pooled connection that was closed says nothing about its server yet, when nobody looked at it before: the
    /// next try does.
    fn note_lost(&self, server: usize, class: &Class, tries: &mut Tries) {
        if tries.count > 1 || !is_repeatable(class) {
            self.splitter.suspect(server, true);
            tries.servers.insert(server);
        }
    }

    /// The connection broke after the statement was sent.
    #[expect(clippy::too_many_arguments, reason = "the whole situation decides")]
    async fn on_lost(
        &mut self,
        wire: &Wire,
        spot: Spot,
        was_held: bool,
        class: &Class,
        tries: &mut Tries,
        forwarded: bool,
        error_sequence_id: Option<u8>,
    ) -> Result<Result<(), Option<Reject>>, End> {
        let server = spot.server;
        self.note_lost(server, class, tries);
        if is_repeatable(class) && !was_held && !forwarded && tries.count < TRIES_MAX {
            tries.primary_only |= self.splitter.shared.lead().primary == Some(server);
            return Ok(Err(None));
        }
        self.tell_lost(wire, spot, was_held, may_change(class), forwarded, error_sequence_id).await
    }

    /// The client is told that it will not hear what has become of its statement, which may have changed something if it
    /// `changes`.
    async fn tell_lost(
        &mut self,
        wire: &Wire,
        spot: Spot,
        was_held: bool,
        changes: bool,
        forwarded: bool,
        error_sequence_id: Option<u8>,
    ) -> Result<Result<(), Option<Reject>>, End> {
        let address = self.splitter.shared.address(spot.server);
        let in_replica_transaction = was_held && !spot.is_primary;
        let message = match changes {
            _ if in_replica_transaction => {
                format!(
                    "Lost connection to the replica {address}: the READ ONLY transaction is rolled back, begin it again"
                )
            }
            true => format!(
                "Lost connection to {address} during the statement: its outcome is unknown, it was not repeated"
            ),
            false => format!("Lost connection to {address} during the statement"),
        };
        if in_replica_transaction {
            self.on_replica_lost();
        } else if changes {
            self.note_untold();
        }
        self.observe_refusal(LOST);
        let Some(sequence_id) = error_sequence_id else { return Err(End) };
        self.splitter.stats().errors.inc();
        if !forwarded {
            self.out.clear(); // else complete packets that belong in front of the error
        }
        ErrPacket { code: LOST, sql_state: b"08S01", message: message.as_bytes() }.encode(&mut self.out, sequence_id);
        self.flush(wire).await?;
        self.keep_own_error(Reject::new(LOST, message));
        (self.counted, self.last, self.found) = (Counted::LOST, Some(Witness::NOBODY), Some(Witness::NOBODY));
        // What a held connection knew of the session cannot be made up: the client must connect again.
        if was_held && !in_replica_transaction { Err(End) } else { Ok(Ok(())) }
    }

    /// The answer is complete: learn from it, give the connection back or keep it, send the rest to the client.
    #[expect(clippy::too_many_arguments, reason = "the whole situation decides")]
    async fn finish(
        &mut self,
        wire: &Wire,
        mut lease: Lease,
        class: &Class,
        work: &Work,
        outcome: Outcome,
        was_held: bool,
        started: Instant,
    ) -> Result<Told, End> {
        let spot = lease.spot();
        let server = spot.server;
        lease.has_unanswered = false;
        let may_commit = self.may_name_commit(&lease, class, &outcome);
        self.void_token();
        let mut after = self.session.on_outcome(class, &outcome);
        if std::mem::take(&mut self.is_settled_for)
            && changes_nothing(class, &outcome)
            && self.session.pin == Some(Pin::Statement)
        {
            self.unsettle_statements(&mut lease);
            after.hold = self.session.holds();
        }
        let has_found = outcome.had_rows && outcome.error.is_none();
        let asked_of_locks = class.lock != LockStep::Unknown && Box::pin(self.follow_lock(&mut lease, class)).await?;
        let is_pin_over = after.is_xa_over || self.session.is_unlocked();
        if is_pin_over && self.statements.values().all(|statement| statement.direct_on(&lease).is_none()) {
            self.session.unpin();
            after.hold = self.session.holds();
        }
        self.note_shown(server, class, &outcome);
        let epoch = self.epoch_of(&lease);
        self.note_news(&after.news, epoch);
        // Another server may have begun to lead since the answer came, by what was known then of commits.
        if may_commit && epoch.is_some_and(|epoch| self.splitter.shared.closing.is_closed(epoch, server)) {
            return Ok(Told::InVain);
        }
        if after.read_collation && !Box::pin(self.read_collation(&mut lease)).await {
            return Err(End);
        }
        if after.state_changed {
            lease.state = Rc::clone(&self.session.state);
        }
        self.note_pin();
        lease.dirty |= after.dirty || after.hold && self.session.pin.is_some();
        lease.may_have_role |= class.pin.is_some() || self.session.pin.is_some() || class.trusted;
        if after.insert_id_moved {
            self.carry.insert_id.set(InsertId::At(lease.id));
            lease.insert_id = None;
        }
        lease.owner = Some(Rc::clone(&self.carry));
        let here = Witness { server, tenure: lease.tenure };
        if after.diagnostics_here || after.diagnostics_unsure {
            self.own_error = None;
        }
        if after.diagnostics_here {
            self.warned = Some(here);
        } else if after.diagnostics_unsure && self.warned != Some(here) {
            self.warned = Some(Witness::NOBODY);
        }
        let is_warned_here = self.session.has_diagnostics && self.warned == Some(here);
        // What was there before is still there, unless this one has put something in its place.
        lease.protected &= !after.diagnostics_here;
        lease.protected |= is_warned_here || class.calc_found_rows;
        if let (Work::Prepare { id, sql, class }, Some(prepared)) = (work, outcome.prepared) {
            self.keep_statement(&mut lease, *id, sql, *class, prepared);
        }
        let code = self.request.get(HEADER_BYTES).copied().unwrap_or_default();
        if matches!(code, command::QUERY | command::INIT_DB | command::STMT_EXECUTE) {
            self.counted = self.counted.after(class, &outcome);
            // A question of our own changes what FOUND_ROWS() will answer.
            let witness = if after.read_collation || asked_of_locks { Witness::NOBODY } else { here };
            self.remember(witness, class, has_found);
        } else if let Some(rows) = Counted::rows_of_command(code, outcome.error.is_some()) {
            (self.counted, self.last) = (self.counted.with_rows(rows), Some(here));
        }
        self.trace(spot, started);
        let in_transaction = self.session.in_transaction();
        if !spot.is_primary && (was_held || class.begins.is_some()) && !in_transaction {
            Box::pin(self.leave_replica(lease, false)).await;
        } else if !after.hold {
            lease.give_back_at(Instant::now());
        } else if spot.is_primary || in_transaction {
            self.held = Some(lease);
        } else if self.session.pin.is_none() {
            // What was said of transactions there is said again where the session goes on.
            lease.dirty = true;
            lease.give_back();
        } else {
            // A read changed its session (a view's function) when the client had seen some of it: what it left is lost,
            // but nobody else may have this connection.
            tracing::warn!(server, "a large read on a replica changed its session: what it set is gone");
            drop(lease);
        }
        if class.kind == Kind::Definition
            && outcome.error.is_none()
            && hidden::defines(self.statement_text(), self.statement_mode())
        {
            let number = self.splitter.shared.survey.ask();
            Box::pin(self.await_survey(wire, number, survey::DEFINITION_WAIT)).await?;
        }
        self.flush(wire).await?;
        let duration = started.elapsed();
        self.observe(spot, &outcome, duration);
        let stats = self.splitter.stats();
        let histogram = if spot.is_primary { &stats.primary_duration } else { &stats.replica_duration };
        histogram.record(duration);
        Ok(Told::Done)
    }

    /// A statement took or released a lock. `true`: the server was asked which of them the session still has.
    ///
    /// Errors: it did not answer.
    async fn follow_lock(&mut self, lease: &mut Lease, class: &Class) -> Result<bool, End> {
        match class.lock {
            LockStep::Take => {
                // What is executed is written elsewhere.
                let is_text = self.request.get(HEADER_BYTES) == Some(&command::QUERY);
                let name = if is_text { lock_name(self.sql(), self.session.mode()).map(<[u8]>::to_vec) } else { None };
                self.session.on_lock_name(name.as_deref());
            }
            LockStep::Release => {
                let Some(question) = self.session.lock_question() else { return Ok(false) };
                let limit = self.splitter.config().connect_timeout;
                match timeout(limit, lease.row(&question)).await {
                    Ok(Ok(answer)) => self.session.on_locks(&answer),
                    Ok(Err(BackendError::Refused(..))) => self.session.on_lock_name(None),
                    _ => return Err(End),
                }
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    /// `collation_connection` is the one setting trackers do not report in full.
    async fn read_collation(&mut self, lease: &mut Lease) -> bool {
        let limit = self.splitter.config().connect_timeout;
        let row = timeout(limit, lease.row(b"SELECT @@character_set_connection, @@collation_connection")).await;
        match row {
            Ok(Ok(row)) if row.len() == 2 => {
                let mut row = row.into_iter().flatten();
                if let (Some(charset), Some(collation)) = (row.next(), row.next()) {
                    self.session.on_collation(&charset, &collation);
                }
                true
            }
            _ => false,
        }
    }

    fn trace(&self, spot: Spot, started: Instant) {
        let Some(trace) = &self.splitter.trace else { return };
        trace.push(TraceEvent::Statement {
            request_id: request_id(self.sql()),
            data_worker: self.splitter.data_worker as u16,
            splitter: self.settings().index() as u16,
            backend: spot.server as u16,
            primary: spot.is_primary,
            duration: started.elapsed(),
        });
    }
}

/// The number in a leading comment `/* request=1f2e */`.
fn request_id(sql: &[u8]) -> Option<u64> {
    let rest = sql.trim_ascii_start().strip_prefix(b"/*")?.trim_ascii_start().strip_prefix(b"request=")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    u64::from_str_radix(std::str::from_utf8(&rest[..digits]).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_read_from_a_leading_comment() {
        assert_eq!(request_id(b"/* request=1f */ SELECT 1"), Some(0x1f));
        assert_eq!(request_id(b" /*request=ffffffffffffffff*/"), Some(u64::MAX));
        for none in
            [&b"SELECT /* request=1 */ 1"[..], b"/* request= */", b"/* request=fffffffffffffffff */", b"", b"/*"]
        {
            assert_eq!(request_id(none), None);
        }
    }
}
