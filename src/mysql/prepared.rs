//! Statements a client has prepared: made anew on whichever connection runs them, or kept on the one the session is pinned to.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use super::acquire::Tries;
use super::backend::BackendError;
use super::client::{Client, End};
use super::diagnostics::{Counted, Witness};
use super::lease::Lease;
use super::presence::Killed;
use super::protocol::execute::{Binding, Form};
use super::protocol::follow::Prepared;
use super::protocol::packet::{HEADER_BYTES, PAYLOAD_BYTES_MAX};
use super::protocol::response::{LOST, UNREACHABLE};
use super::protocol::{command, execute};
use super::read_only::READ_ONLY_TRANSACTION;
use super::rules::Verdict;
use super::sql::{Class, Kind, LockStep, Mode, Pin};
use super::statement::{Reject, Work};
use super::wire::Wire;
use crate::runtime::time::timeout;

/// Prepared statements of one client (`max_prepared_stmt_count` has the same purpose in servers).
const STATEMENTS_MAX: usize = 8192;
/// Bytes of their texts and of what was said of their parameters together.
const STATEMENT_BYTES_MAX: usize = 64 << 20;

/// A statement the client has prepared.
pub(super) struct Statement {
    pub(super) sql: Rc<[u8]>,
    class: Class,
    params: u16,
    /// Parameter types as last sent by the client.
    types: Vec<u8>,
    /// Parameters of the next execution that were sent in pieces.
    pieces: Vec<u16>,
    /// Where it was prepared for this session alone, as on the connection that the session is pinned to.
    pub(super) direct: Option<Direct>,
    /// The server would not prepare it anew when it was to be settled, a table of it being gone, for example: whoever executes it
    /// is told.
    refused: bool,
    /// A piece of a parameter could not be delivered: the next execution must fail.
    pub(super) broken: bool,
    /// Under which settings its text was read, here as by the server: it means the same for as long as it lives.
    pub(super) mode: Mode,
    /// What rules and comments say of it.
    pub(super) verdict: Verdict,
    /// Edition of the config of these rules.
    judged: u64,
}

/// A statement on one connection that no other session may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct {
    /// [`super::backend::Backend::tenure`]: on any other connection, and after a reset, its number is another statement's.
    tenure: u64,
    /// The server's id.
    id: u32,
}

/// Whether a server would refuse to prepare the same again: names that are gone, rights that are missing. It is not about the
/// statement that there are too many, or that the server is shutting down.
fn is_about_statement(error: &BackendError) -> bool {
    let BackendError::Refused(code, _) = error else { return false };
    is_name_gone(*code) || is_syntax_or_right(*code)
}

/// Databases, tables, columns, keys, routines, and views of what is no more; and what became ambiguous, or of another number.
fn is_name_gone(code: u16) -> bool {
    matches!(
        code,
        1046 | 1049 | 1051 | 1052 | 1054 | 1060 | 1109 | 1136 | 1146 | 1176 | 1222 | 1305 | 1356 | 1449 | 1630
    )
}

fn is_syntax_or_right(code: u16) -> bool {
    matches!(code, 1044 | 1064 | 1142 | 1143 | 1227 | 1295 | 1370)
}

fn too_many() -> String {
    format!("Can't create more than {STATEMENTS_MAX} statements, none longer than 16 MiB, 64 MiB together")
}

impl Statement {
    fn form(&self, attributes: bool) -> Form {
        Form { params: self.params, attributes }
    }

    /// The server's id on this connection, where it was prepared for this session alone.
    pub(super) fn direct_on(&self, lease: &Lease) -> Option<u32> {
        self.direct.filter(|direct| direct.tenure == lease.tenure).map(|direct| direct.id)
    }

    /// Pieces of a parameter are on the connection it was prepared on, for its next execution.
    pub(super) fn has_pieces(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// What its execution needs to know.
    pub(super) fn binding(&self, attributes: bool) -> Binding<'_> {
        Binding { form: self.form(attributes), types: &self.types, pieces: &self.pieces }
    }
}

impl Client {
    pub(super) async fn prepare_command(&mut self, wire: &mut Wire) -> Result<(), End> {
        let class = self.classify();
        if class.kind == Kind::Kill {
            let message = "This command is not supported in the prepared statement protocol yet: send KILL as text";
            return self.deny(wire, 1295, b"HY000", message).await;
        }
        let class = if self.put_own_answer(&class) { self.classify() } else { class };
        let too_long =
            self.request.len() >= PAYLOAD_BYTES_MAX || self.statement_bytes + self.request.len() > STATEMENT_BYTES_MAX;
        if too_long || self.statements.len() >= STATEMENTS_MAX {
            return self.deny(wire, 1461, b"42000", too_many()).await;
        }
        let id = self.next_statement_id;
        self.next_statement_id = id.wrapping_add(1).max(1);
        let sql: Rc<[u8]> = self.sql().into();
        // Preparing changes nothing: only where the statement may run later matters.
        let kind = if class.is_read() { Kind::Read } else { Kind::Local };
        // Servers forget warnings with a statement that uses tables already when it is prepared.
        let Class { forgets, tables, restores, may_set, .. } = class;
        let preparing = Class { forgets, tables, restores, may_set, ..Class::of_command(kind) };
        self.statement(wire, preparing, Work::Prepare { id, sql, class }).await
    }

    pub(super) async fn execute_command(&mut self, wire: &mut Wire) -> Result<(), End> {
        let (id, has_attributes) = (execute::statement_id(&self.request).unwrap_or(0), self.has_attributes());
        let Some(statement) = self.statements.get_mut(&id) else {
            let message = format!("Unknown prepared statement handler ({id}) given to EXECUTE");
            return self.deny(wire, 1243, b"HY000", message).await;
        };
        statement.refused = false;
        let form = statement.form(has_attributes);
        match execute::types(&self.request, form) {
            Ok(Some(types)) if types != statement.types => {
                let bytes = self.statement_bytes - statement.types.len() + types.len();
                if bytes > STATEMENT_BYTES_MAX {
                    self.forget_pieces(id).await?;
                    return self.deny(wire, 1461, b"42000", too_many()).await;
                }
                (self.statement_bytes, statement.types) = (bytes, types.to_vec());
            }
            Ok(Some(_)) => {}
            // Nothing is prepared anew for what cannot be executed.
            Ok(None) => {
                if let Err(error) = execute::check_bound(&self.request, form, &statement.types) {
                    self.forget_pieces(id).await?;
                    return self.deny(wire, 1835, b"HY000", error.to_string()).await;
                }
            }
            Err(error) => {
                self.forget_pieces(id).await?;
                return self.deny(wire, 1835, b"HY000", error.to_string()).await;
            }
        }
        if statement.broken {
            self.forget_pieces(id).await?;
            let message = "a parameter sent in pieces was lost with its connection; the statement was not executed";
            return self.deny(wire, LOST, b"HY000", message).await;
        }
        self.watch.verdict = statement.verdict;
        let mut class = statement.class;
        if statement.judged != self.edition {
            class = self.judge_again(id).unwrap_or(class);
        }
        // Its rows are fetched by the statement's id, so that must be the session's own.
        let is_alone = execute::wants_cursor(&self.request);
        if is_alone {
            class.pin = class.pin.or(Some(Pin::Statement));
        }
        self.statement(wire, class, Work::Execute { id, is_alone }).await?;
        // Whatever became of it, they were for this execution.
        self.forget_pieces(id).await
    }

    /// An execution is sent: the server uses up what was sent for it in pieces.
    pub(super) fn note_execution(&mut self, work: &Work) {
        if let Work::Execute { id, .. } = work
            && let Some(statement) = self.statements.get_mut(id)
        {
            statement.pieces.clear();
        }
    }

    /// Parameters of an execution that was not sent must not be those of the next one, on the server either.
    ///
    /// Errors: the connection that has them is lost, and with it what the session had there.
    async fn forget_pieces(&mut self, id: u32) -> Result<(), End> {
        let Some(statement) = self.statements.get_mut(&id) else { return Ok(()) };
        statement.broken = false;
        if std::mem::take(&mut statement.pieces).is_empty() {
            return Ok(());
        }
        let direct = statement.direct;
        let Some(lease) = self.held.as_mut() else { return Ok(()) };
        let Some(direct) = direct.filter(|direct| direct.tenure == lease.tenure) else { return Ok(()) };
        let limit = self.splitter.config().connect_timeout;
        match Box::pin(timeout(limit, lease.reset_statement(direct.id))).await {
            Ok(Ok(()) | Err(BackendError::Refused(..))) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                (self.held, self.has_lost_held) = (None, true);
                Err(End)
            }
        }
    }

    /// Other rules are in force than those by which a statement was judged.
    pub(super) fn judge_again(&mut self, id: u32) -> Option<Class> {
        let statement = self.statements.get(&id)?;
        let (sql, mode) = (Rc::clone(&statement.sql), statement.mode);
        let class = self.steer_again(&sql, mode);
        let (verdict, judged) = (self.watch.verdict, self.edition);
        let statement = self.statements.get_mut(&id)?;
        (statement.class, statement.verdict, statement.judged) = (class, verdict, judged);
        Some(class)
    }

    /// COM_STMT_FETCH and COM_STMT_RESET: only for statements that live on the held connection.
    pub(super) async fn direct_command(&mut self, wire: &mut Wire) -> Result<(), End> {
        let id = execute::statement_id(&self.request).unwrap_or(0);
        let is_reset = self.request.get(HEADER_BYTES) == Some(&command::STMT_RESET);
        let statement = self.statements.get_mut(&id);
        let direct = statement.as_ref().zip(self.held.as_ref()).and_then(|(statement, held)| statement.direct_on(held));
        let is_known = statement.is_some();
        if is_reset && let Some(statement) = statement {
            statement.broken = false;
            statement.pieces.clear();
        }
        if let Some(direct) = direct {
            execute::patch_statement_id(&mut self.request, direct);
            let local = Class::of_command(Kind::Local);
            return self.statement(wire, local, Work::Plain).await;
        }
        let rows = Counted::rows_of_command(command::STMT_RESET, !(is_known && is_reset)).unwrap_or(-1);
        (self.counted, self.last) = (self.counted.with_rows(rows), Some(Witness::NOBODY));
        if is_known && is_reset {
            return self.reply_ok(wire).await;
        }
        let message = format!("Unknown prepared statement handler ({id}) given to FETCH or RESET");
        self.deny(wire, 1243, b"HY000", message).await
    }

    /// COM_STMT_CLOSE has no answer.
    pub(super) async fn close_statement(&mut self) -> Result<(), End> {
        let id = execute::statement_id(&self.request).unwrap_or(0);
        let Some(statement) = self.statements.remove(&id) else { return Ok(()) };
        self.statement_bytes -= statement.sql.len() + statement.types.len();
        if let Some(lease) = &mut self.held
            && let Some(direct) = statement.direct_on(lease)
        {
            lease.has_unanswered = true;
            let mut out = Vec::with_capacity(16);
            command::put_statement(&mut out, command::STMT_CLOSE, direct);
            if lease.send(out).await.0.is_err() {
                return Err(End);
            }
        }
        Ok(())
    }

    /// COM_STMT_SEND_LONG_DATA has no answer: what fails here is told at the next execution.
    pub(super) async fn long_data(&mut self, wire: &Wire) -> Result<(), End> {
        let id = execute::statement_id(&self.request).unwrap_or(0);
        if !self.statements.contains_key(&id) {
            return Ok(());
        }
        let piece = execute::piece_index(&self.request);
        let sent = async {
            let direct = self.own_statement(wire, id).await.ok()?;
            execute::patch_statement_id(&mut self.request, direct);
            let lease = self.held.as_ref()?;
            let piece = std::mem::take(&mut self.request);
            let sending = self.watched(wire, lease.server, false, pin!(lease.send(piece))).await;
            let Ok((result, buffer)) = sending else {
                // Half of it may be on its way.
                (self.held, self.has_lost_held) = (None, true);
                return None;
            };
            self.request = buffer;
            if let Some(lease) = &mut self.held {
                lease.has_unanswered = true;
            }
            result.ok()
        };
        let is_sent = sent.await.is_some();
        if let Some(statement) = self.statements.get_mut(&id) {
            statement.broken |= !is_sent;
            if let Some(piece) = piece.filter(|piece| *piece < statement.params && !statement.pieces.contains(piece)) {
                statement.pieces.push(piece);
            }
        }
        if self.has_lost_held { Err(End) } else { Ok(()) }
    }

    /// Id of the client's statement on this connection; prepares it there first if need be.
    pub(super) async fn server_statement(
        &mut self,
        wire: &Wire,
        lease: &mut Lease,
        (id, is_alone): (u32, bool),
        class: &Class,
    ) -> Result<u32, BackendError> {
        let Some(statement) = self.statements.get(&id) else {
            return Err(BackendError::Refused(1243, "Unknown prepared statement handler".into()));
        };
        if let Some(direct) = statement.direct_on(lease) {
            return Ok(direct);
        }
        let sql = Rc::clone(&statement.sql);
        if !is_alone && let Some(server_id) = lease.handle(&sql) {
            return Ok(server_id);
        }
        let server = lease.server;
        let movable = class.is_read() && self.held.is_none() && lease.epoch.is_none();
        let preparing = Box::pin(lease.prepare_statement(&sql));
        let preparing = self.watched(wire, server, movable, pin!(preparing)).await;
        let server_id = preparing.unwrap_or(Err(BackendError::Timeout("waiting for an answer")))?;
        match (is_alone, self.statements.get_mut(&id)) {
            (true, Some(statement)) => statement.direct = Some(Direct { tenure: lease.tenure, id: server_id }),
            _ => lease.keep_handle(&sql, server_id),
        }
        Ok(server_id)
    }

    /// A statement is not executed that may have been prepared for it alone: unless the session stays at the connection, nobody
    /// executes that one any more.
    pub(super) fn give_up_direct(&mut self, lease: &mut Lease, work: &Work) {
        let Work::Execute { id, is_alone: true } = work else { return };
        if self.session.pin.is_none()
            && let Some(statement) = self.statements.get_mut(id)
            && let Some(direct) = statement.direct_on(lease)
        {
            statement.direct = None;
            lease.close_later(direct);
        }
    }

    pub(super) fn keep_statement(
        &mut self,
        lease: &mut Lease,
        id: u32,
        sql: &Rc<[u8]>,
        class: Class,
        prepared: Prepared,
    ) {
        let alone = self.session.pin.is_some();
        if !alone {
            lease.keep_handle(sql, prepared.statement_id);
        }
        let direct = alone.then_some(Direct { tenure: lease.tenure, id: prepared.statement_id });
        let params = prepared.params;
        let (sql_bytes, sql, verdict) = (sql.len(), Rc::clone(sql), self.watch.verdict);
        let (types, pieces, broken, refused) = (Vec::new(), Vec::new(), false, false);
        let (mode, judged) = (self.session.mode(), self.edition);
        let statement = Statement { sql, class, params, types, pieces, direct, refused, broken, mode, verdict, judged };
        self.statement_bytes += sql_bytes;
        self.statements.insert(id, statement);
    }

    /// Prepared statements keep the settings they were prepared under. Before those change, all of the session's
    /// statements are prepared on one connection, where the session stays.
    pub(super) fn must_settle_statements(&self, class: &Class) -> bool {
        let changes_state = matches!(class.kind, Kind::Set | Kind::Use)
            || class.kind == Kind::Unknown && !class.trusted
            || matches!(class.pin, Some(Pin::Call | Pin::UnknownFunction | Pin::Setting | Pin::TextPrepare))
                && class.lock == LockStep::Unknown;
        changes_state && self.statements.values().any(|statement| self.is_unsettled(statement))
    }

    /// Whether the session's settings of now would be lost to it with a change of them.
    fn is_unsettled(&self, statement: &Statement) -> bool {
        self.direct_on_held(statement).is_none() && !statement.refused
    }

    /// The server's id on the connection that the session holds, where it was prepared for this session alone.
    fn direct_on_held(&self, statement: &Statement) -> Option<u32> {
        self.held.as_ref().and_then(|held| statement.direct_on(held))
    }

    /// The statement for which all were settled has changed nothing: nothing ties the session to where they are.
    pub(super) fn unsettle_statements(&mut self, lease: &mut Lease) {
        for statement in self.statements.values_mut() {
            if let Some(direct) = statement.direct_on(lease) {
                statement.direct = None;
                lease.close_later(direct);
            }
        }
        self.session.unpin();
    }

    pub(super) async fn settle_statements(&mut self, wire: &Wire) -> Result<(), Reject> {
        let unsettled = self.statements.iter().filter(|(_, statement)| self.is_unsettled(statement));
        let ids: Vec<u32> = unsettled.map(|(id, _)| *id).collect();
        for id in ids {
            match self.own_statement(wire, id).await {
                // A READ ONLY transaction prepares no writes: that one is prepared when it is executed.
                Ok(_) | Err(Reject(READ_ONLY_TRANSACTION, ..)) => {}
                Err(_) if self.statements.get(&id).is_some_and(|statement| statement.refused) => {}
                Err(reject) => return Err(reject),
            }
        }
        Ok(())
    }

    /// The connection that the session is or will be pinned to. Waits for a primary as a statement does.
    async fn own_lease(&mut self, wire: &Wire) -> Result<Lease, Reject> {
        let (class, mut tries) = (Class { pin: Some(Pin::Statement), ..Class::UNKNOWN }, Tries::of_second());
        let (started, presence) = (Instant::now(), Rc::clone(&self.presence));
        loop {
            if let Some(lease) = self.held.take()
                && let Some(lease) = self.keep_held(lease, &class, &mut tries)?
            {
                return Ok(lease);
            }
            let acquired = match self.prelude.is_some() {
                true => self.acquire_again(&class, &mut tries).await,
                false => self.acquire_primary(&class, &mut tries).await,
            };
            let reject = match acquired {
                Ok(lease) => return Ok(lease),
                // The primary has changed meanwhile.
                Err(None) if started.elapsed() < self.splitter.config().primary_wait => continue,
                Err(None) => {
                    let text = "the primary changes again and again: the statement was not executed";
                    return Err(Reject::new(UNREACHABLE, text));
                }
                Err(Some(reject)) => reject,
            };
            match presence.unless_interrupted(self.may_wait(wire, &mut tries, started)).await {
                Ok(Ok(true)) => {}
                Ok(Err(End)) => {
                    self.has_lost_held = true; // nobody is there to be told
                    return Err(reject);
                }
                Ok(Ok(false)) | Err(Killed) => return Err(reject),
            }
        }
    }

    /// Prepares a statement for this session alone on the connection it is pinned to, pinning it first.
    async fn own_statement(&mut self, wire: &Wire, id: u32) -> Result<u32, Reject> {
        let lost = |error: BackendError| match error {
            BackendError::Refused(code, message) => Reject::new(code, message),
            error => Reject(LOST, b"HY000", format!("Lost connection to the primary: {error}").into()),
        };
        let unknown = || Reject::new(1243, format!("Unknown prepared statement handler ({id})"));
        let statement = self.statements.get(&id).ok_or_else(unknown)?;
        if let Some(direct) = self.direct_on_held(statement) {
            return Ok(direct);
        }
        let sql = Rc::clone(&statement.sql);
        let was_held = self.held.is_some() || self.prelude.is_some();
        let mut lease = self.own_lease(wire).await?;
        let server = lease.server;
        let preparing = self.watched(wire, server, false, pin!(lease.prepare_statement(&sql))).await;
        if self.warned == Some(Witness { server, tenure: lease.tenure }) {
            self.warned = Some(Witness::NOBODY); // preparing may have made the server forget them, or put an error in their place
        }
        let server_id = match preparing.unwrap_or(Err(BackendError::Timeout("waiting for an answer"))) {
            Ok(server_id) => server_id,
            Err(error @ BackendError::Refused(..)) => {
                lease.protected = true; // the refusal is what SHOW WARNINGS would tell there
                match self.session.holds() {
                    true => self.held = Some(lease),
                    false => lease.give_back(),
                }
                if let Some(statement) = self.statements.get_mut(&id) {
                    statement.refused = is_about_statement(&error);
                }
                return Err(lost(error));
            }
            Err(error) => {
                // What that connection knew of the session cannot be made up.
                self.has_lost_held = was_held;
                return Err(lost(error));
            }
        };
        if self.session.pin.is_none() {
            self.session.pin = Some(Pin::Statement);
            self.note_pin();
        }
        lease.dirty = true;
        if let Some(statement) = self.statements.get_mut(&id) {
            statement.direct = Some(Direct { tenure: lease.tenure, id: server_id });
        }
        self.held = Some(lease);
        Ok(server_id)
    }
}
