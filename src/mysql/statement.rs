//! Runs one statement: find a server, bring a connection into the session's state, send, relay, learn.
//!
//! What may be repeated: a read of which the client has not seen a byte, on another server. A write never: when its
//! connection is lost, the client is told that the outcome is unknown.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use super::acquire::{Awaited, Tries};
use super::backend::BackendError;
use super::causal::{MustSee, NotThere, Wait};
use super::client::{Client, End, SQL_AT};
use super::diagnostics::Witness;
use super::finish::Told;
use super::kill::INTERRUPTED;
use super::lease::{Lease, Spot};
use super::presence::Killed;
use super::protocol::command;
use super::protocol::execute::put_rebound;
use super::protocol::follow::Outcome;
use super::protocol::packet::{HEADER_BYTES, answer_sequence_id, join_payload, put_message};
use super::protocol::response::LOST;
use super::protocol::tracker::changes_session;
use super::relay::{Abandoned, Relayed};
use super::rules::Choice;
use super::session::is_portable;
use super::sql::{Class, Kind, Pin, diagnostics};
use super::survey;
use super::wire::Wire;

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

/// What became of a try. `Err(None)`: try again.
pub(super) type Tried = Result<(), Option<Reject>>;

/// One try at one server.
#[derive(Clone, Copy)]
pub(super) struct Try<'a> {
    pub(super) class: &'a Class,
    pub(super) work: &'a Work,
    pub(super) spot: Spot,
    /// The session had the connection before.
    pub(super) was_held: bool,
    /// When the statement began.
    pub(super) started: Instant,
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
        let mut class = match found {
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
        // What it may set in secret would be told in the same word as what it sets for itself. A replica's connection is reset instead.
        if class.restores && class.may_set && class.is_read() && !self.is_on_replica() {
            class.pin = class.pin.or(Some(Pin::Hidden));
        }
        // Sessions that are there now are sure of what they began with before it is something else.
        if class.global_at.is_some()
            && let Some(primary) = self.splitter.shared.lead().primary
        {
            Box::pin(self.after_another_look(wire, primary)).await?;
            self.keep_beginning();
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
                        Ok(Ok(true)) => {
                            self.judge_anew(wire, &mut class, &work).await?;
                            continue;
                        }
                        Ok(Ok(false)) => {}
                        Ok(Err(end)) => return Err(end),
                        Err(Killed) if presence.is_killed() => return Err(End),
                        Err(Killed) => return self.reply_interrupted(wire, &class).await,
                    }
                    self.observe_refusal(code);
                    self.is_servers_word = tries.is_servers_word;
                    self.refuse(wire, &class, Reject(code, state, message)).await?;
                    return if tries.ends { Err(End) } else { Ok(()) };
                }
            }
        }
    }

    /// A write that has waited for a primary may have been judged when nobody knew what tables hide: once that is known it need not
    /// pin its session for it.
    async fn judge_anew(&mut self, wire: &Wire, class: &mut Class, work: &Work) -> Result<(), End> {
        let is_prepared = matches!(work, Work::Prepare { .. });
        let writes = class.kind == Kind::Write || class.batch.is_some();
        if !writes || class.pin != Some(Pin::Hidden) || is_prepared {
            return Ok(());
        }
        if self.splitter.shared.survey.is_imminent() {
            Box::pin(self.await_survey(wire, 1, survey::FIRST_WAIT)).await?;
        }
        let (before, settings) = (self.edition, Rc::clone(self.settings()));
        self.look_at_config();
        if self.edition == before {
            return Ok(());
        }
        let again = match work {
            Work::Execute { id, .. } => self.judge_again(*id),
            Work::Plain | Work::Prepare { .. } => {
                let (sql, mode) = (self.sql().to_vec(), self.session.mode());
                let verdict = self.watch.verdict;
                let class = self.steer_again(&sql, mode);
                // A rule of the same config may have changed the text. Of other rules the verdict before says nothing.
                if Rc::ptr_eq(self.settings(), &settings) {
                    self.watch.verdict = verdict;
                }
                Some(class)
            }
        };
        if let Some(Class { pin, diagnostics, forgets, plain_call, may_set, .. }) = again {
            *class = Class { pin, diagnostics, forgets, plain_call, may_set, ..*class };
        }
        Ok(())
    }

    /// Answers a statement with an error, of which no server knows as a rule.
    pub(super) async fn refuse(&mut self, wire: &Wire, class: &Class, reject: Reject) -> Result<(), End> {
        self.reply_error(wire, reject.0, reject.1, &reject.2).await?;
        (self.counted, self.last) = (self.counted.with_rows(-1), Some(Witness::NOBODY));
        let is_known = std::mem::take(&mut self.is_servers_word);
        // Servers never fail to tell what they are asked of an earlier error.
        if is_known {
            self.own_error = None;
        } else if class.diagnostics & diagnostics::WARNINGS == 0 {
            self.keep_own_error(reject);
        }
        Ok(())
    }

    /// The same for a command that asks nothing of the one before.
    pub(super) async fn deny(
        &mut self,
        wire: &Wire,
        code: u16,
        state: &'static [u8],
        message: impl Into<Vec<u8>>,
    ) -> Result<(), End> {
        self.refuse(wire, &Class::of_command(Kind::Local), Reject(code, state, message.into())).await
    }

    pub(super) fn keep_own_error(&mut self, reject: Reject) {
        self.own_error = Some(reject);
        (self.session.has_diagnostics, self.warned) = (true, Some(Witness::NOBODY));
    }

    async fn reply_interrupted(&mut self, wire: &Wire, class: &Class) -> Result<(), End> {
        let (code, state, message) = INTERRUPTED;
        self.observe_refusal(code);
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
    ) -> Result<Tried, End> {
        tries.count += 1;
        self.keep_beginning();
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
        let at = Try { class, work, spot, was_held, started };
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
                return Box::pin(self.on_lost_early(wire, at, tries)).await;
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
        lease.closes_sent();
        // What sockets have room for is sent with the wait for its answer, see `relay`.
        let is_short = self.to_server.len() <= PLAIN_SEND_BYTES && lease.sends_plainly();
        let waits = wait.is_some();
        if !is_short || waits {
            // Boxed: few need it, and it is large.
            lease = match Box::pin(self.send_first(wire, lease, wait, at, tries)).await? {
                Ok(lease) => lease,
                Err(tried) => return Ok(tried),
            };
        }
        let follower = self.follower(work).pausing(wire.stream.packed_sequence_id().is_some());
        let timer = if !is_primary && !waits { self.splitter.replicas.timer() } else { None };
        let relayed = self.relay(wire, &mut lease, follower, class, was_held, timer).await?;
        self.on_relayed(wire, lease, relayed, at, tries).await
    }

    /// Sends what was composed, and waits until the server has what the session must see, if it was asked for that. `Ok(Err)`: the try
    /// is over.
    async fn send_first(
        &mut self,
        wire: &Wire,
        lease: Lease,
        wait: Option<Wait>,
        at: Try<'_>,
        tries: &mut Tries,
    ) -> Result<Result<Lease, Tried>, End> {
        let movable = at.class.is_read() && !at.was_held && !at.spot.is_primary;
        let result = match self.send_to_server(wire, &lease, movable).await {
            Ok(result) => result,
            Err(Abandoned::ClientGone) => return Err(End),
            Err(Abandoned::ServerDown) => {
                lease.forget_what_was_sent();
                drop(lease);
                let first = Some(self.reply_sequence_id());
                return self.on_lost(wire, at, tries, false, first).await.map(Err);
            }
        };
        // After a failed write the server may have answered all the same (packet too large): look.
        let Some(wait) = wait else { return Ok(Ok(lease)) };
        let waiting = Instant::now();
        let there = match result {
            Ok(()) => self.await_position(lease, wait, at.class, at.work).await,
            Err(_) => {
                drop(lease);
                Err(NotThere::Lost)
            }
        };
        self.watch.causal_wait.set(self.watch.causal_wait.get() + waiting.elapsed());
        match there {
            Ok(lease) => {
                if self.found == Some(Witness { server: lease.server, tenure: lease.tenure }) {
                    self.found = Some(Witness::NOBODY); // it knows of the wait's row instead
                }
                Ok(Ok(lease))
            }
            Err(NotThere::Late) => {
                self.count_fallback();
                tries.primary_only = true;
                Ok(Err(Err(None)))
            }
            Err(NotThere::Lost) => self.on_lost_early(wire, at, tries).await.map(Err),
        }
    }

    /// The answer is through, or will not be: another server is asked where that is the better one to answer.
    async fn on_relayed(
        &mut self,
        wire: &mut Wire,
        mut lease: Lease,
        relayed: Relayed,
        at: Try<'_>,
        tries: &mut Tries,
    ) -> Result<Tried, End> {
        let Try { class, spot, was_held, .. } = at;
        let Spot { server, is_primary } = spot;
        match relayed {
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
                lease.is_limit_owed |= class.restores;
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
                    lease.is_limit_owed |= class.restores;
                    lease.give_back();
                    return Ok(Err(None));
                }
                match self.finish(wire, lease, at, outcome).await? {
                    Told::Done => Ok(Ok(())),
                    Told::InVain => {
                        let error_sequence_id = (!forwarded).then(|| self.reply_sequence_id());
                        let told = Box::pin(self.tell_lost(wire, at, true, forwarded, error_sequence_id)).await?;
                        // What it has left there is gone.
                        if self.session.holds() { Err(End) } else { Ok(told) }
                    }
                }
            }
            Relayed::Lost { forwarded, error_sequence_id } => {
                drop(lease);
                Box::pin(self.on_lost(wire, at, tries, forwarded, error_sequence_id)).await
            }
            Relayed::Vain { forwarded, error_sequence_id } => {
                drop(lease);
                Box::pin(self.tell_lost(wire, at, true, forwarded, error_sequence_id)).await
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
}
