//! Passes the answer of a server on to the client, piece by piece.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use super::client::{Client, End, Waited};
use super::lease::Lease;
use super::protocol::capability::{LOCAL_FILES, STATUS_IN_TRANS};
use super::protocol::command;
use super::protocol::follow::{Expect, Follower, Outcome};
use super::protocol::local_file::LocalFile;
use super::protocol::packet::HEADER_BYTES;
use super::protocol::tracker::names_transactions;
use super::session::transactions_of;
use super::shared::Health;
use super::sql::{Class, Kind};
use super::statement::{Work, may_change};
use super::time_limit::Deadline;
use super::token::News;
use super::wire::Wire;
use crate::runtime::time::unless;

/// Bytes for the client are sent on as soon as so many are there.
const RELAY_BYTES: usize = 48 << 10;
/// While an answer is awaited, client and server are looked at this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Why an answer is not waited for any longer.
pub(super) enum Abandoned {
    ClientGone,
    ServerDown,
}

/// How far the answer got.
pub(super) enum Relayed {
    /// All of it is in the client's buffer, but for what was forwarded already.
    Done { outcome: Outcome, forwarded: bool },
    /// The server is gone. The client can still be sent an ERR packet with this sequence id, if any.
    Lost { forwarded: bool, error_sequence_id: Option<u8> },
    /// All of it came, from a server that another one has replaced meanwhile: it has committed something that nobody may have.
    Vain { forwarded: bool, error_sequence_id: Option<u8> },
}

/// Whether a statement that succeeded may have committed something without naming it. `was_in_transaction`: before it.
fn may_have_committed(class: &Class, outcome: &Outcome, was_in_transaction: bool) -> bool {
    let is_in_transaction = outcome.status.is_some_and(|status| status & STATUS_IN_TRANS != 0);
    let may = match class.kind {
        Kind::Rollback => false,
        // Functions, batches.
        _ if class.pin.is_some() || class.trusted => true,
        // One transaction ends, another one may begin at once: COMMIT AND CHAIN, BEGIN.
        Kind::Transaction if was_in_transaction => true,
        // The end of `autocommit=0` commits.
        Kind::Set | Kind::Use => was_in_transaction && !is_in_transaction,
        _ => may_change(class) && !is_in_transaction,
    };
    may && outcome.error.is_none()
}

impl Client {
    pub(super) fn follower(&self, work: &Work) -> Follower {
        let expect = match work {
            Work::Plain => self.request.get(HEADER_BYTES).and_then(|code| command::expect(*code)),
            Work::Prepare { .. } => Some(Expect::Prepare),
            Work::Execute { .. } => Some(Expect::Results),
        };
        let has_files = self.key.capabilities & LOCAL_FILES != 0;
        let follower = Follower::new(expect.unwrap_or(Expect::Single), self.deprecate_eof, self.session.own_status())
            .with_sequence_ids(self.reply_sequence_id(), self.sent_sequence_id)
            .allowing_files(has_files);
        match work {
            Work::Prepare { id, .. } => follower.with_statement_id(*id),
            _ => follower,
        }
    }

    /// Waits for a server as long as it takes, since a statement has no time limit unless a rule says so, but not for a client
    /// that has left or was killed; nor for one that no longer answers the monitor, when the statement is `movable` to another
    /// server or another server is the primary by now.
    /// What was waited for is dropped then: close its connection.
    pub(super) async fn watched<T>(
        &self,
        wire: &Wire,
        server: usize,
        movable: bool,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Abandoned> {
        loop {
            self.set_alarm(LOOK_INTERVAL);
            match unless(work.as_mut(), |cx| self.poll_abandoned(cx)).await {
                Ok(done) => return Ok(done),
                Err(Waited::TooLong) => {}
                Err(Waited::Killed) => return Err(Abandoned::ClientGone),
            }
            if wire.stream.has_hung_up() {
                return Err(Abandoned::ClientGone);
            }
            if (movable || self.splitter.is_deposed(server))
                && self.splitter.shared.server(server).health() == Health::Down
            {
                return Err(Abandoned::ServerDown);
            }
        }
    }

    /// Passes the answer on piece by piece, to what is left in `self.to_server`, which is sent before. The last piece stays in
    /// `self.out`. `timer`: when the statement was sent to a
    /// replica that did nothing else before it.
    pub(super) async fn relay(
        &mut self,
        wire: &mut Wire,
        lease: &mut Lease,
        mut follower: Follower,
        class: &Class,
        was_held: bool,
        mut timer: Option<Instant>,
    ) -> Result<Relayed, End> {
        self.out.clear();
        if lease.is_packed() {
            follower.take_any_sequence_ids();
        }
        let (mut forwarded, mut unsent) = (false, std::mem::take(&mut self.to_server));
        // Bytes of what the answer says of its session that the monitor and other sessions know of.
        let mut noted = 0;
        let mut deadline = self.watch.verdict.time_limit.map(Deadline::after);
        // The start of a read's answer waits for the rest of it, so that an early loss can be made good elsewhere.
        let hold_back = if class.is_read() && !was_held { 4096 } else { 0 };
        loop {
            if let Some(sent) = timer.take_if(|_| !lease.available().is_empty()) {
                self.splitter.replicas.on_answer(lease.server, sent, true);
            }
            match follower.feed(lease.available(), &mut self.out) {
                Ok(used) => {
                    self.splitter.stats().backends[lease.server].bytes_received.add(used as u64);
                    lease.consume(used);
                }
                Err(error) => {
                    tracing::warn!(server = %self.splitter.shared.address(lease.server), %error, "bad answer from server");
                    let error_sequence_id = (!forwarded).then(|| self.reply_sequence_id());
                    return Ok(Relayed::Lost { forwarded, error_sequence_id });
                }
            }
            if follower.is_done() {
                let mut outcome = follower.into_outcome();
                if self.has_committed_in_vain(lease, class, &outcome) {
                    let error_sequence_id = (!forwarded).then(|| self.reply_sequence_id());
                    return Ok(Relayed::Vain { forwarded, error_sequence_id });
                }
                self.name_time_limit(deadline.as_ref(), &mut outcome);
                return Ok(Relayed::Done { outcome, forwarded });
            }
            let is_passed_on = follower.is_paused() || follower.wanted_file().is_some() || self.out.len() > hold_back;
            if is_passed_on && !self.may_tell(lease, follower.outcome(), &mut noted) {
                let error_sequence_id = (!forwarded).then(|| self.reply_sequence_id());
                return Ok(Relayed::Vain { forwarded, error_sequence_id });
            }
            if follower.is_paused() {
                forwarded = true;
                self.flush(wire).await?;
                // As servers do when they flush: clients count on from the compressed packet's number.
                follower.resume(wire.stream.packed_sequence_id().unwrap_or_default());
                continue;
            }
            if let Some(file) = follower.wanted_file() {
                forwarded = true;
                self.flush(wire).await?;
                if Box::pin(self.relay_file(wire, lease, &mut follower, file)).await? {
                    continue;
                }
                self.note_begun(lease, follower.outcome());
                return Ok(Relayed::Lost { forwarded, error_sequence_id: follower.error_sequence_id(&mut self.out) });
            }
            if self.out.len() >= RELAY_BYTES || self.out.len() > hold_back {
                forwarded = true;
                self.flush(wire).await?;
            }
            let movable = class.is_read() && !was_held && !forwarded && lease.epoch.is_none();
            let filled = match self.fill_in_time(wire, lease, movable, &mut deadline, &mut unsent).await {
                Ok(filled) => filled.is_ok(),
                Err(Abandoned::ServerDown) => {
                    lease.forget_what_was_sent();
                    false
                }
                Err(Abandoned::ClientGone) => return Err(End),
            };
            if self.to_server.capacity() == 0 {
                self.to_server = std::mem::take(&mut unsent); // sent, and empty
            }
            if !filled {
                if let Some(sent) = timer {
                    self.splitter.replicas.on_answer(lease.server, sent, false);
                }
                self.note_begun(lease, follower.outcome());
                let first = Some(self.reply_sequence_id());
                let error_sequence_id = if forwarded { follower.error_sequence_id(&mut self.out) } else { first };
                return Ok(Relayed::Lost { forwarded, error_sequence_id });
            }
        }
    }

    /// Whether the client may be told what has come so far, results that name commits among them: `noted` bytes of these it was told
    /// before. Whoever leads next must have them, as what a whole answer names.
    fn may_tell(&mut self, lease: &Lease, outcome: &Outcome, noted: &mut usize) -> bool {
        let changes = outcome.changes.get(*noted..).unwrap_or_default();
        *noted = outcome.changes.len();
        let Some(epoch) = self.epoch_of(lease).filter(|_| names_transactions(changes)) else { return true };
        let news = transactions_of(changes);
        self.session.token.learn(&news);
        self.note_news(&news, Some(epoch));
        !self.splitter.shared.closing.is_closed(epoch, lease.server)
    }

    /// The epoch in which a commit counts that the primary tells now; `None`: it is told on a replica. A server that has led before
    /// and does so again has it in the present one, though the connection was lent in another.
    pub(super) fn epoch_of(&self, lease: &Lease) -> Option<u64> {
        let lead = self.splitter.shared.lead();
        lease.epoch.map(|epoch| if lead.primary == Some(lease.server) { lead.epoch } else { epoch })
    }

    /// The connection broke, maybe behind results that the client has seen: what they name is committed.
    fn note_begun(&mut self, lease: &Lease, outcome: &Outcome) {
        let news = transactions_of(&outcome.changes);
        if news != News::None {
            self.session.token.learn(&news);
            self.note_news(&news, self.epoch_of(lease));
        }
    }

    /// A server that another one has replaced meanwhile says that it has committed something: nobody knows whether the new
    /// primary has it.
    fn has_committed_in_vain(&self, lease: &Lease, class: &Class, outcome: &Outcome) -> bool {
        lease.epoch.is_some() && self.splitter.is_deposed(lease.server) && self.may_name_commit(lease, class, outcome)
    }

    /// Whether an answer of the primary's tells of a commit, or may do so.
    pub(super) fn may_name_commit(&self, lease: &Lease, class: &Class, outcome: &Outcome) -> bool {
        lease.epoch.is_some()
            && (names_transactions(&outcome.changes)
                || may_have_committed(class, outcome, self.session.in_transaction()))
    }

    /// Passes on the file that the server has asked the client for, no faster than the server takes it. `false`: the
    /// server is gone; the client has sent all of it nevertheless, and can be told.
    async fn relay_file(
        &mut self,
        wire: &mut Wire,
        lease: &mut Lease,
        follower: &mut Follower,
        mut file: LocalFile,
    ) -> Result<bool, End> {
        let limit = self.splitter.config().client_timeout;
        let mut is_server_there = true;
        let mut pieces = std::mem::take(&mut self.to_server);
        loop {
            pieces.clear();
            let used = file.feed(wire.available(), &mut pieces).map_err(|_| End)?;
            wire.consume(used);
            if is_server_there && !pieces.is_empty() {
                let sending = pin!(lease.send_file(pieces));
                let sent = self.watched(wire, lease.server, false, sending).await.map_err(|_| End)?;
                (is_server_there, pieces) = (sent.0.is_ok(), sent.1);
            }
            if file.is_done() {
                break;
            }
            self.set_alarm(limit);
            unless(wire.fill_file(), |cx| self.poll_abandoned(cx)).await.map_err(|_| End)??;
        }
        pieces.clear();
        self.to_server = pieces;
        wire.end_file();
        follower.on_file(&file);
        Ok(is_server_there)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sql::{Mode, classify};
    use super::*;

    #[test]
    fn what_may_have_committed_is_told_by_the_statement_and_by_the_transaction() {
        let check = |sql: &str, was_in: bool, is_in: bool, expect: bool| {
            let status = if is_in { STATUS_IN_TRANS } else { 0 };
            let outcome = Outcome { status: Some(status), ..Outcome::default() };
            let class = classify(sql.as_bytes(), Mode::default());
            assert_eq!(may_have_committed(&class, &outcome, was_in), expect, "{sql}: {was_in}, {is_in}");
            let failed = Outcome { error: Some(1064), ..Outcome::default() };
            assert!(!may_have_committed(&class, &failed, was_in), "{sql}");
        };
        for sql in ["COMMIT", "SET autocommit=1", "CREATE TABLE t (a INT)", "SET @a=f()", "SELECT f()", "CALL p()"] {
            check(sql, true, false, true);
        }
        for sql in ["COMMIT AND CHAIN", "BEGIN", "START TRANSACTION READ ONLY"] {
            check(sql, true, true, true);
            check(sql, false, true, false);
        }
        for sql in ["INSERT INTO t VALUES (1)", "SET @a=f()", "SELECT f()", "CALL p()", "CREATE TABLE t (a INT)"] {
            check(sql, false, false, true);
        }
        for sql in ["INSERT INTO t VALUES (1)", "SET autocommit=0", "SELECT a FROM t", "USE d"] {
            check(sql, true, true, false);
        }
        for sql in ["SET autocommit=0", "SET NAMES latin1", "USE d", "SELECT a FROM t"] {
            check(sql, false, false, false);
        }
        check("ROLLBACK", true, false, false);
    }
}
