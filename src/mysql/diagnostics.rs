//! What only the connection knows that ran a statement: warnings, row counts, the last insert id. A question about them goes
//! there, or is answered with an error that says so; never with another connection's answer.

use std::time::{Duration, Instant};

use super::acquire::{Awaited, Tries};
use super::backend::{Backend, BackendError, InsertId};
use super::client::Client;
use super::lease::{Lease, LeaseError};
use super::protocol::command;
use super::protocol::follow::Outcome;
use super::protocol::packet::{HEADER_BYTES, put_packet};
use super::protocol::response::{LOST, UNREACHABLE};
use super::session::is_refusal;
use super::sql::own::{Asked, answered};
use super::sql::{Class, Kind, LockStep, diagnostics};
use super::statement::Reject;
use super::topology::Lead;
use crate::runtime::time::{sleep, timeout};

/// The connection that ran a statement, while the session has it, or nobody else has had it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    /// Its server.
    pub(super) server: usize,
    /// Which of its loans.
    pub(super) tenure: u64,
}

/// Letters of an error's text that SIGNAL takes on every server.
const MESSAGE_CHARS_MAX: usize = 128;

/// Questions in longer commands are not looked for.
const QUESTION_BYTES_MAX: usize = 4096;

/// Who has to be asked.
pub(super) enum Ask {
    /// This connection alone.
    Only(Witness),
    /// This one, or one that has nothing to tell.
    Rather(Witness),
    /// There is nothing to tell.
    Anyone,
}

impl Witness {
    /// No connection knows it.
    pub(super) const NOBODY: Witness = Witness { server: usize::MAX, tenure: u64::MAX };
}

/// What a session would be told of the rows its statements counted, as far as their answers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    row_count: Option<i64>,
    found_rows: Option<u64>,
}

impl Default for Counted {
    /// Before the first statement.
    fn default() -> Counted {
        Counted { row_count: Some(0), found_rows: Some(0) }
    }
}

impl Counted {
    /// After a statement whose answer was lost.
    pub(super) const LOST: Counted = Counted { row_count: Some(-1), found_rows: None };

    /// After one more command.
    pub(super) fn after(self, class: &Class, outcome: &Outcome) -> Counted {
        // One row is all there is to a lock.
        if class.lock != LockStep::Unknown && outcome.error.is_none() && outcome.had_rows && outcome.results == 1 {
            return Counted { row_count: Some(-1), found_rows: Some(outcome.rows) };
        }
        let is_batch = class.trusted && class.batch.is_some();
        let row_count = match outcome.error {
            Some(_) if is_batch => Some(-1),
            None if is_batch => outcome.last_affected.map_or(Some(-1), |rows| i64::try_from(rows).ok()),
            _ if class.pin.is_some() || class.trusted || outcome.results > 1 => None,
            None if !outcome.had_rows => i64::try_from(outcome.affected_rows).ok(),
            _ => Some(-1),
        };
        let leaves = match outcome.error {
            Some(code) => is_refusal(code),
            None => matches!(class.kind, Kind::Set | Kind::Use | Kind::Transaction | Kind::Rollback),
        };
        let has_rows = outcome.error.is_none() && outcome.had_rows && outcome.results == 1;
        let is_select = has_rows && class.counts && class.kind != Kind::Write;
        let found_rows = match class.pin {
            None if class.trusted => None,
            None if is_select => Some(outcome.rows),
            None if leaves => self.found_rows,
            _ => None,
        };
        Counted { row_count, found_rows }
    }

    /// What ROW_COUNT() is behind a command that is no statement. `None`: as before.
    pub(super) fn rows_of_command(code: u8, has_failed: bool) -> Option<i64> {
        match code {
            command::PING | command::STMT_RESET if !has_failed => Some(0),
            command::PING | command::STMT_RESET => Some(-1),
            command::FIELD_LIST | command::SET_OPTION | command::STMT_FETCH => Some(-1),
            command::STMT_PREPARE if has_failed => Some(-1),
            _ => None,
        }
    }

    /// What ROW_COUNT() is, where that is known.
    pub(super) fn row_count(self) -> Option<i64> {
        self.row_count
    }

    /// Another row count, and nothing else.
    pub(super) fn with_rows(self, row_count: i64) -> Counted {
        Counted { row_count: Some(row_count), ..self }
    }

    fn answer(self, asked: Asked) -> Option<i64> {
        match asked {
            Asked::RowCount => self.row_count,
            Asked::FoundRows => self.found_rows.and_then(|rows| i64::try_from(rows).ok()),
            Asked::ConnectionId => None,
        }
    }
}

impl Client {
    /// Puts answers into a statement that asks what is known here: its connection id, or what the last statement counted
    /// where the connection that ran it is gone, or cannot answer the rest of the statement. `false`: it stays as it is.
    pub(super) fn put_own_answer(&mut self, class: &Class) -> bool {
        let is_known = class.diagnostics & (diagnostics::CONNECTION_ID | diagnostics::ROWS | diagnostics::FOUND) != 0;
        if !is_known || self.request.len() > QUESTION_BYTES_MAX {
            return false;
        }
        let (code, is_alone) = (self.request[HEADER_BYTES], class.diagnostics.is_power_of_two());
        let sql = answered(self.sql(), self.session.mode(), |asked| match asked {
            Asked::ConnectionId => Some(self.presence.id().into()),
            // The answer of a prepared statement is another one each time.
            _ if code != command::QUERY => None,
            Asked::RowCount if is_alone && self.is_there(self.last) => None,
            Asked::FoundRows if is_alone && self.is_there(self.found) => None,
            asked => self.counted.answer(asked),
        });
        let Some(sql) = sql else { return false };
        self.put_sql(&sql);
        true
    }

    /// Other SQL for the command under way.
    pub(super) fn put_sql(&mut self, sql: &[u8]) {
        let code = self.request[HEADER_BYTES];
        let has_attributes = code == command::QUERY && self.has_attributes();
        let mut request = Vec::with_capacity(sql.len() + 16);
        put_packet(&mut request, 0, |p| {
            p.push(code);
            if has_attributes {
                p.extend_from_slice(command::NO_ATTRIBUTES);
            }
            p.extend_from_slice(sql);
        });
        (self.sql_at, self.request) = (request.len() - sql.len(), request);
    }

    /// Whether a connection is as the statement left it that ran there. There is none before the first statement of a session: what
    /// a server counts by then is of our own making.
    pub(super) fn is_there(&self, witness: Option<Witness>) -> bool {
        let Some(witness) = witness else { return false };
        match &self.held {
            Some(lease) => witness == Witness { server: lease.server, tenure: lease.tenure },
            None if witness == Witness::NOBODY => false,
            None => self
                .splitter
                .pool(witness.server)
                .has_own(self.carry.session, |backend| backend.tenure == witness.tenure),
        }
    }

    /// Keeps who ran a statement. `has_found`: it had a result.
    pub(super) fn remember(&mut self, witness: Witness, class: &Class, has_found: bool) {
        self.last = Some(witness);
        if has_found && class.finds {
            self.found = Some(witness);
        } else if self.found != Some(witness) {
            // Another statement may have set the count or not, and its connection had one from others.
            self.found = Some(Witness::NOBODY);
        }
    }

    /// Whom a question is for. Errors: those who know the parts of the answer are not one.
    pub(super) fn whom_to_ask(&self, class: &Class) -> Result<Ask, Reject> {
        let asks = |bit| class.diagnostics & bit != 0;
        let parts = [
            self.last.filter(|_| asks(diagnostics::ROWS)),
            self.found.filter(|_| asks(diagnostics::FOUND)),
            self.warned.filter(|_| asks(diagnostics::WARNINGS) && self.session.has_diagnostics),
        ];
        // Without warnings of the session's, those of an earlier statement may be on any other connection.
        let unwarned = self.warned.filter(|_| asks(diagnostics::WARNINGS));
        let mut parts = parts.into_iter().flatten();
        let Some(first) = parts.next() else {
            // A session that knows of none does not know what others have left on a connection.
            let known = || Ask::Rather(self.warned.unwrap_or(Witness::NOBODY));
            return Ok(if asks(diagnostics::WARNINGS) { known() } else { Ask::Anyone });
        };
        match parts.chain(unwarned).all(|part| part == first) {
            true => Ok(Ask::Only(first)),
            false => Err(gone()),
        }
    }

    /// Makes sure that a held connection does not answer for a statement that ran before it was held, elsewhere.
    ///
    /// Errors: for the client. The session keeps the connection, unless that is lost: then the session ends, too.
    pub(super) async fn recall_on_held(
        &mut self,
        mut lease: Lease,
        class: &Class,
        tries: &mut Tries,
    ) -> Result<Lease, Reject> {
        let asks_what_is_left = class.diagnostics & diagnostics::LEFT_BEHIND != 0;
        let asks_insert_id = class.diagnostics & diagnostics::INSERT_ID != 0;
        // What the statement before has left is not touched yet.
        if self.owed.is_some() && !asks_what_is_left {
            lease = Box::pin(self.settle_beginning(lease, tries)).await?;
        }
        // What tied the session to a connection may not have announced it.
        if (!asks_what_is_left || asks_insert_id) && lease.spot().is_primary && !self.knows_insert_id(&lease) {
            let value = Box::pin(self.settled_insert_id()).await;
            let limit = self.splitter.config().connect_timeout;
            if lease.insert_id != Some(value) {
                self.last = Some(Witness::NOBODY); // the row count is that of the setting
            }
            if !matches!(timeout(limit, lease.set_insert_id(value)).await, Ok(Ok(()))) {
                return Err(lost_held(tries));
            }
        }
        if !asks_what_is_left {
            return Ok(lease);
        }
        if self.asks_for_own_error(class) {
            return match self.make_known(&mut lease).await {
                Ok(()) => Ok(lease),
                Err(BackendError::Refused(..)) => {
                    self.held = Some(lease);
                    Err(gone())
                }
                Err(_) => Err(lost_held(tries)),
            };
        }
        let here = Witness { server: lease.server, tenure: lease.tenure };
        match self.whom_to_ask(class) {
            Ok(Ask::Rather(witness)) if witness != here => {
                let limit = self.splitter.config().connect_timeout;
                match timeout(limit, lease.forget_warnings()).await {
                    Ok(Ok(())) => Ok(lease),
                    // What would be shown is that refusal.
                    Ok(Err(BackendError::Refused(..))) => {
                        self.held = Some(lease);
                        Err(gone())
                    }
                    // A late answer would be taken for that to the next statement.
                    Ok(Err(_)) | Err(_) => Err(lost_held(tries)),
                }
            }
            Ok(Ask::Only(witness)) if witness != here => {
                self.held = Some(lease);
                Err(gone())
            }
            // It was held for something else than a statement.
            Ok(Ask::Anyone) => {
                let fresh = self.with_no_counts(lease, class).await;
                tries.ends |= fresh.is_err();
                fresh
            }
            Ok(_) => Ok(lease),
            Err(reject) => {
                self.held = Some(lease);
                Err(reject)
            }
        }
    }

    /// SHOW WARNINGS, FOUND_ROWS() and so on, in a session without a connection of its own.
    pub(super) async fn acquire_for_diagnostics(
        &mut self,
        class: &Class,
        tries: &mut Tries,
    ) -> Result<Lease, Option<Reject>> {
        if self.asks_for_own_error(class) {
            let mut lease = self.acquire_untold(class, tries).await?;
            return match self.make_known(&mut lease).await {
                Ok(()) => Ok(lease),
                Err(_) => Err(Some(gone())),
            };
        }
        let ask = self.whom_to_ask(class).map_err(Some)?;
        if let Ask::Only(witness) | Ask::Rather(witness) = ask {
            let is_it = |tenure| tenure == witness.tenure;
            let own = (witness != Witness::NOBODY)
                .then(|| Lease::own(&self.splitter, witness.server, self.carry.session, |b| is_it(b.tenure)));
            match own.flatten() {
                // It says nothing of this session, so it need not answer in another character set.
                Some(lease) if matches!(ask, Ask::Rather(_)) && !lease.is_ready_for(&self.session.state) => {
                    lease.give_back();
                }
                Some(lease) => return self.use_witness(lease, class).await.map_err(Some),
                None => {}
            }
        }
        if matches!(ask, Ask::Only(_)) {
            return Err(Some(gone()));
        }
        self.acquire_untold(class, tries).await
    }

    /// The connection of the primary that has the session's warnings, for a statement that may leave them as they are, or
    /// begins what ties the session to a connection: whoever asks for them later finds them there. What has to be set on it
    /// first does not touch them. `None`: they are not there, or somebody else needed it.
    pub(super) async fn own_warned(&mut self, lead: Lead) -> Option<Lease> {
        let witness = self.warned.filter(|witness| lead.primary == Some(witness.server))?;
        // The session may have switched multi-statements on or off since.
        let is_it = |b: &Backend| b.tenure == witness.tenure && b.key == self.key;
        let mut lease = Lease::own(&self.splitter, witness.server, self.carry.session, is_it)?;
        if !lease.claim(lead) {
            lease.give_back();
            return None;
        }
        let insert_id = match self.carry.insert_id.get() {
            InsertId::At(id) if id == lease.id => None,
            _ => Some(self.settled_insert_id().await),
        };
        let limit = self.splitter.config().connect_timeout;
        let told = timeout(limit, lease.catch_up(&self.session.state, insert_id)).await;
        matches!(told, Ok(Ok(()))).then_some(lease)
    }

    async fn use_witness(&self, mut lease: Lease, class: &Class) -> Result<Lease, Reject> {
        lease.claim(self.splitter.shared.lead());
        // The session may have set something since, elsewhere: what is told depends on it, and how.
        let limit = self.splitter.config().connect_timeout;
        // It may have switched multi-statements on or off, too, and stay there.
        if lease.key != self.key && !matches!(timeout(limit, lease.switch_multi_statements(self.key)).await, Ok(Ok(())))
        {
            return Err(gone());
        }
        if !matches!(timeout(limit, lease.catch_up(&self.session.state, None)).await, Ok(Ok(()))) {
            return Err(gone());
        }
        let told = lease.spot().is_primary || class.kind == Kind::Diagnostics && class.pin.is_none();
        // Whoever keeps the connection may ask there later.
        let needs_insert_id = class.diagnostics & diagnostics::INSERT_ID != 0 || class.pin.is_some() || class.trusted;
        if told && (!needs_insert_id || self.knows_insert_id(&lease)) {
            return Ok(lease);
        }
        lease.give_back();
        let message = if told {
            "LAST_INSERT_ID() and what the last statement left behind are known to different connections: ask for each in a \
             statement of its own"
        } else {
            "the last statement ran on a replica: ask about it in a statement of its own, which changes nothing and sets no \
             variable"
        };
        Err(Reject(1105, b"HY000", message.into()))
    }

    /// Whether a question is about an error that no server knows of.
    fn asks_for_own_error(&self, class: &Class) -> bool {
        class.diagnostics == diagnostics::WARNINGS && self.own_error.is_some()
    }

    /// Has a server make an error of ours its own, so that it answers whatever is asked of it, in every form.
    async fn make_known(&mut self, lease: &mut Lease) -> Result<(), BackendError> {
        let Some(Reject(code, state, message)) = &self.own_error else { return Ok(()) };
        let signal = signal_of(*code, state, message);
        let limit = self.splitter.config().connect_timeout;
        match timeout(limit, lease.query(&signal)).await.unwrap_or(Err(BackendError::Timeout("waiting for an answer")))
        {
            Err(BackendError::Refused(answer, _)) if answer == *code => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(BackendError::Refused(0, Vec::new())),
        }
        self.own_error = None;
        let here = Witness { server: lease.server, tenure: lease.tenure };
        (self.session.has_diagnostics, self.warned, lease.protected) = (true, Some(here), true);
        Ok(())
    }

    /// There is nothing to tell: a connection after a reset says so in the server's own words.
    async fn acquire_untold(&mut self, class: &Class, tries: &mut Tries) -> Result<Lease, Option<Reject>> {
        let lead = self.splitter.shared.lead();
        if let Some((code, state, message)) = self.splitter.primary_trouble(false) {
            tries.waits = Some(Awaited::Primary { changes_something: false });
            return Err(Some(Reject(code, state, message.into())));
        }
        let Some(primary) = lead.primary else { return Err(None) }; // there is one meanwhile
        if class.diagnostics & diagnostics::INSERT_ID != 0 || class.pin.is_some() || class.trusted {
            self.fetch_insert_id().await.map_err(Some)?;
        }
        let insert_id = match self.carry.insert_id.get() {
            InsertId::Known(value) => Some(value),
            InsertId::At(_) | InsertId::Lost => None,
        };
        match self.borrow(primary, true, insert_id, true).await {
            // It may have taken a while.
            Ok(mut lease) => match self.splitter.shared.lead() == lead && lease.claim(lead) {
                true => self.with_no_counts(lease, class).await.map_err(Some),
                false => Err(None),
            },
            Err(LeaseError::Full(why)) => Err(Some(Reject(1040, b"08004", why.text().into()))),
            Err(LeaseError::Moved) => Err(None),
            Err(LeaseError::Server(error)) => {
                Err(Some(Reject::new(UNREACHABLE, format!("Can't connect to the primary: {error}"))))
            }
        }
    }

    /// A connection for a question of a session that has counted nothing yet.
    async fn with_no_counts(&self, mut lease: Lease, class: &Class) -> Result<Lease, Reject> {
        if class.diagnostics & (diagnostics::ROWS | diagnostics::FOUND) == 0 {
            return Ok(lease);
        }
        let limit = self.splitter.config().connect_timeout;
        // One that did not answer is closed here: what was sent may come of it yet.
        let told = timeout(limit, lease.forget_counts()).await;
        if matches!(told, Ok(Ok(()))) { Ok(lease) } else { Err(gone()) }
    }

    /// Whether LAST_INSERT_ID() on this connection is the session's.
    pub(super) fn knows_insert_id(&self, lease: &Lease) -> bool {
        match self.carry.insert_id.get() {
            InsertId::Known(value) => lease.insert_id == Some(value),
            InsertId::At(id) => lease.id == id,
            InsertId::Lost => false,
        }
    }

    /// Asks the connection that alone knows the last insert id, so that any other can be told.
    async fn fetch_insert_id(&mut self) -> Result<(), Reject> {
        let InsertId::At(id) = self.carry.insert_id.get() else { return Ok(()) };
        if let Ok(mut lease) = self.own_for_insert_id(id).await? {
            if lease.save().await.is_err() {
                self.carry.insert_id.set(InsertId::Lost);
                return Err(lost_insert_id());
            }
            lease.give_back();
        }
        Ok(())
    }

    /// The connection that alone knows the last insert id, ready for use; or the value, saved meanwhile by whoever
    /// took that connection over.
    pub(super) async fn own_for_insert_id(&mut self, id: u64) -> Result<Result<Lease, u64>, Reject> {
        let deadline = Instant::now() + self.splitter.config().connect_timeout;
        loop {
            if let InsertId::Known(value) = self.carry.insert_id.get() {
                return Ok(Err(value));
            }
            let own = |server| Lease::own(&self.splitter, server, self.carry.session, |b| b.id == id);
            if let Some(mut lease) = (0..self.splitter.nodes.len()).find_map(own) {
                if !lease.claim(self.splitter.shared.lead()) {
                    // It knows the id, and what else may be asked of it; for anything else it is of no more use.
                    if lease.save().await.is_ok() && lease.is_protected() {
                        lease.give_back();
                    }
                    continue;
                }
                if lease.key != self.key {
                    // The session has switched multi-statements on or off since.
                    if lease.save().await.is_ok() {
                        lease.give_back();
                    }
                    continue;
                }
                if self.prepare_keeping_insert_id(&mut lease).await.is_ok() {
                    return Ok(Ok(lease));
                }
                break;
            }
            if self.carry.insert_id.get() == InsertId::Lost || Instant::now() > deadline {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        self.carry.insert_id.set(InsertId::Lost);
        Err(lost_insert_id())
    }

    async fn prepare_keeping_insert_id(&self, lease: &mut Lease) -> Result<(), BackendError> {
        if lease.is_ready_for(&self.session.state) {
            return Ok(());
        }
        lease.save().await?;
        let InsertId::Known(value) = self.carry.insert_id.get() else {
            return Err(BackendError::Timeout("waiting for an answer"));
        };
        self.prepare(lease, false, Some(value)).await
    }
}

/// A statement that fails with this error. Servers take so much of a text.
fn signal_of(code: u16, state: &[u8], message: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(message);
    let hex: String = text.chars().take(MESSAGE_CHARS_MAX).flat_map(hex_of).collect();
    let state = String::from_utf8_lossy(state);
    format!("SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = _utf8mb4 X'{hex}'").into_bytes()
}

fn hex_of(letter: char) -> Vec<char> {
    letter.encode_utf8(&mut [0; 4]).bytes().flat_map(|byte| format!("{byte:02X}").chars().collect::<Vec<_>>()).collect()
}

pub(super) fn lost_insert_id() -> Reject {
    Reject(LOST, b"HY000", "the connection that knew LAST_INSERT_ID() was lost".into())
}

/// The connection that the session was tied to may answer late: for the client, whose session ends.
pub(super) fn lost_held(tries: &mut Tries) -> Reject {
    tries.ends = true;
    Reject::new(LOST, "Lost connection to the server that the session was tied to: connect again")
}

fn gone() -> Reject {
    let message =
        "what the last statement left behind is gone: its connection was needed by another session or was lost";
    Reject(1105, b"HY000", message.into())
}
