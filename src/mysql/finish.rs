//! What is done when the answer to a statement is complete: learn from it, note what its connection has become, give that back or keep
//! it, and send the client the rest.

use std::rc::Rc;
use std::time::Instant;

use super::backend::{BackendError, InsertId};
use super::client::{Client, End};
use super::diagnostics::{Counted, Witness};
use super::lease::{Lease, Spot};
use super::protocol::command;
use super::protocol::follow::Outcome;
use super::protocol::packet::HEADER_BYTES;
use super::session::{After, changes_nothing};
use super::sql::locks::lock_name;
use super::sql::{Class, Kind, LockStep, Pin, hidden};
use super::statement::{Try, Work};
use super::survey;
use super::wire::Wire;
use crate::metrics::TraceEvent;
use crate::runtime::time::timeout;

/// What became of an answer.
pub(super) enum Told {
    /// The client has it.
    Done,
    /// Its server has committed something that nobody may have: another one leads.
    InVain,
}

impl Client {
    /// The answer is complete: learn from it, give the connection back or keep it, send the rest to the client.
    pub(super) async fn finish(
        &mut self,
        wire: &Wire,
        mut lease: Lease,
        at: Try<'_>,
        outcome: Outcome,
    ) -> Result<Told, End> {
        let Try { class, work, spot, started, .. } = at;
        let server = spot.server;
        lease.has_unanswered = false;
        let may_commit = self.may_name_commit(&lease, class, &outcome);
        self.void_token();
        self.session.is_limit_owed = lease.is_limit_owed;
        let mut after = self.session.on_outcome(class, &outcome);
        lease.is_limit_owed = self.session.is_limit_owed;
        if std::mem::take(&mut self.is_settled_for)
            && changes_nothing(class, &outcome)
            && self.session.pin == Some(Pin::Statement)
        {
            self.unsettle_statements(&mut lease);
            after.hold = self.session.holds();
        }
        let asked_of_locks = match class.lock {
            LockStep::Unknown => Ok(false),
            _ => Box::pin(self.follow_lock(&mut lease, class)).await,
        };
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
        let has_collation = !after.read_collation || Box::pin(self.read_collation(&mut lease)).await;
        let Some(asked_of_locks) = asked_of_locks.ok().filter(|_| has_collation) else {
            // What was done is done, and the client hears of it, although its session cannot go on.
            self.account_for(spot, &outcome, started);
            self.flush(wire).await?;
            return Err(End);
        };
        if after.state_changed {
            lease.state = Rc::clone(&self.session.state);
        }
        self.note_pin();
        self.mark(&mut lease, class, &after);
        // A question of our own changes what FOUND_ROWS() will answer.
        let was_asked = after.read_collation || asked_of_locks;
        self.note_diagnostics(&mut lease, class, &after, &outcome, was_asked);
        if let (Work::Prepare { id, sql, class }, Some(prepared)) = (work, outcome.prepared) {
            self.keep_statement(&mut lease, *id, sql, *class, prepared);
        }
        self.trace(spot, started);
        self.let_go(lease, at, after.hold).await;
        // Of several statements some may have run.
        if (class.kind == Kind::Definition && outcome.error.is_none() || class.pin == Some(Pin::MultiStatement))
            && hidden::defines(self.statement_text(), self.statement_mode())
        {
            let number = self.splitter.shared.survey.ask();
            Box::pin(self.await_survey(wire, number, survey::DEFINITION_WAIT)).await?;
        }
        // Connections that are opened from now on have it, and sessions that are there keep what they had. What did not come to run
        // has set nothing: nobody without the right to has the servers looked at.
        if class.global_at.is_some_and(|at| at < outcome.results) {
            Box::pin(self.after_look_that_tells(wire, server)).await?;
        }
        self.flush(wire).await?;
        self.account_for(spot, &outcome, started);
        Ok(Told::Done)
    }

    fn account_for(&self, spot: Spot, outcome: &Outcome, started: Instant) {
        let duration = started.elapsed();
        self.observe(spot, outcome, duration);
        let stats = self.splitter.stats();
        let histogram = if spot.is_primary { &stats.primary_duration } else { &stats.replica_duration };
        histogram.record(duration);
    }

    /// Before its server is asked something more: a KILL that was for the statement must not end that. `false`: one may come yet.
    async fn is_past_kill(&self, lease: &mut Lease) -> bool {
        lease.run_nothing();
        lease.fate.settle(self.splitter.config().connect_timeout * 2).await;
        !lease.fate.is_doomed()
    }

    /// Notes on the connection what the statement has made of it.
    fn mark(&mut self, lease: &mut Lease, class: &Class, after: &After) {
        lease.dirty |= after.dirty || after.hold && self.session.pin.is_some();
        lease.may_have_role |= class.pin.is_some() || self.session.pin.is_some() || class.trusted;
        if after.insert_id_moved && !after.insert_id_told && self.carry.insert_id.get() == InsertId::Lost {
            // What is there is not the session's.
            lease.insert_id = None;
        } else if after.insert_id_moved {
            self.carry.insert_id.set(InsertId::At(lease.id));
            lease.insert_id = None;
        }
        lease.owner = Some(Rc::clone(&self.carry));
    }

    /// What is known of warnings and counts, and where. `was_asked`: by us, since the statement.
    fn note_diagnostics(
        &mut self,
        lease: &mut Lease,
        class: &Class,
        after: &After,
        outcome: &Outcome,
        was_asked: bool,
    ) {
        let here = Witness { server: lease.server, tenure: lease.tenure };
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
        let code = self.request.get(HEADER_BYTES).copied().unwrap_or_default();
        if matches!(code, command::QUERY | command::INIT_DB | command::STMT_EXECUTE) {
            self.counted = self.counted.after(class, outcome);
            let has_found = outcome.had_rows && outcome.error.is_none();
            self.remember(if was_asked { Witness::NOBODY } else { here }, class, has_found);
        } else if let Some(rows) = Counted::rows_of_command(code, outcome.error.is_some()) {
            (self.counted, self.last) = (self.counted.with_rows(rows), Some(here));
        }
    }

    /// The connection goes back, or stays with the session if that is to `hold` it.
    async fn let_go(&mut self, mut lease: Lease, at: Try<'_>, hold: bool) {
        let Try { class, spot, was_held, .. } = at;
        let in_transaction = self.session.in_transaction();
        if !spot.is_primary && (was_held || class.begins.is_some()) && !in_transaction {
            Box::pin(self.leave_replica(lease, false)).await;
        } else if !hold {
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
            tracing::warn!(server = spot.server, "a large read on a replica changed its session: what it set is gone");
            drop(lease);
        }
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
                if !self.is_past_kill(lease).await {
                    return Err(End);
                }
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
        if !self.is_past_kill(lease).await {
            return false;
        }
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
