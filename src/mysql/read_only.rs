//! READ ONLY transactions on replicas: the first statement waits there for what the session must see, as any read does, and
//! all that follow run on the same connection until the transaction ends.
//!
//! What a transaction leaves behind in its session must be on the primary, where the session goes on; so a statement that would
//! tie the session to its connection (a user variable, a lock, an unknown function …) is refused inside of one. Changes of
//! tables are refused as by any server, with error 1792. What can be read from trackers (database, settings) is taken along.

use super::client::Client;
use super::lease::Lease;
use super::prepared::Statement;
use super::sql::{Access, Class, Kind, Pin};
use super::statement::{Reject, Work};

/// ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
const READ_ONLY_TRANSACTION: u16 = 1792;

/// Whether what ties a session to its connection means nothing without the transaction: a cursor, the number of the connection.
fn ends_with_transaction(pin: Pin) -> bool {
    matches!(pin, Pin::Statement | Pin::ConnectionId)
}

impl Client {
    /// Whether a transaction runs on a replica.
    pub(super) fn is_on_replica(&self) -> bool {
        self.held.as_ref().is_some_and(|lease| lease.epoch.is_none())
    }

    /// Prepares for a statement that begins a transaction; returns its class, which is that of a read where a replica may run
    /// it: then it changes nothing, and may be tried again elsewhere.
    pub(super) async fn on_begin(&mut self, class: Class, work: &Work) -> Class {
        if class.begins.is_some()
            && class.pin.is_none()
            && self.is_on_replica()
            && let Some(lease) = self.held.take()
        {
            // It ends the transaction before; the next one may be of another kind.
            self.session.on_transaction_lost();
            Box::pin(self.leave_replica(lease, true)).await;
        }
        let is_run = !matches!(work, Work::Prepare { .. });
        if !is_run || !self.session.begins_read_only(&class) || !self.splitter.config().read_only_transactions {
            return class;
        }
        if let Some(mut lease) = self.held.take() {
            // Held for nothing but what was said there of transactions, which is said again where this one runs.
            if lease.save().await.is_ok() {
                lease.dirty = true;
                lease.give_back();
            }
        }
        Class { kind: Kind::Read, begins: class.begins.or(Some(Access::Unsaid)), ..class }
    }

    /// Why a statement cannot run in the transaction under way.
    pub(super) fn forbidden_on_replica(&self, class: &Class) -> Option<Reject> {
        if !self.is_on_replica() {
            return None;
        }
        // Prepared statements and cursors end with the transaction.
        let stays_behind =
            class.pin.is_some_and(|pin| !ends_with_transaction(pin)) || self.must_settle_statements(class);
        let changes = matches!(class.kind, Kind::Write | Kind::Definition);
        let text = match stays_behind {
            // A replica would speak of its own read_only first.
            false if changes => "Cannot execute statement in a READ ONLY transaction",
            false => return None,
            true => {
                "the READ ONLY transaction runs on a replica, where a statement that would leave something behind in \
                        the session (a variable, a lock, a temporary table, an unknown function) cannot run: run it before \
                        BEGIN, or set `read_only_transactions = \"primary\"`"
            }
        };
        Some(Reject(READ_ONLY_TRANSACTION, b"25006", text.into()))
    }

    /// The transaction is over: its connection goes back. `is_open`: not for the server.
    pub(super) async fn leave_replica(&mut self, mut lease: Lease, is_open: bool) {
        self.end_replica_statements();
        // Without autocommit the session goes on as it is, but elsewhere.
        lease.dirty |= is_open || self.session.holds();
        // LAST_INSERT_ID(expr) may have set it; where it cannot be had, the connection is dropped, and with it the insert id.
        if lease.save().await.is_ok() {
            lease.give_back();
        }
    }

    /// The replica is lost in the middle of a transaction, and nothing but the transaction with it: the session can go on.
    pub(super) fn on_replica_lost(&mut self) {
        self.session.on_transaction_lost();
        self.end_replica_statements();
        self.reading.forget();
    }

    /// Statements that were prepared on the replica for this session alone are prepared anew where they run next.
    fn end_replica_statements(&mut self) {
        let forget = |statement: &mut Statement| {
            statement.broken |= statement.direct.take().is_some() && statement.has_pieces();
        };
        self.statements.values_mut().for_each(forget);
        if self.session.pin.is_some_and(ends_with_transaction) {
            self.session.pin = None;
            self.note_pin();
        }
    }
}
