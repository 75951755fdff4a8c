//! READ ONLY transactions on replicas: the first statement waits there for what the session must see, as any read does, and
//! all that follow run on the same connection until the transaction ends.
//!
//! What a transaction leaves behind in its session must be on the primary, where the session goes on; so a statement that would
//! tie the session to its connection (a user variable, a lock, an unknown function …) is refused inside of one. Changes of
//! rows are refused as by any server, with error 1792, and definitions as by MySQL; before MariaDB they end the transaction. What can be read from trackers (database, settings) is taken along.

use super::backend::BackendError;
use super::client::Client;
use super::diagnostics::Witness;
use super::lease::Lease;
use super::prepared::Statement;
use super::protocol::command;
use super::protocol::packet::HEADER_BYTES;
use super::protocol::response::LOST;
use super::session::{SYNTAX_ERROR, sets_what_goes_along};
use super::sql::{Access, Class, Forgets, Kind, Pin};
use super::statement::{Reject, Work};
use crate::runtime::time::timeout;

/// ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
pub(super) const READ_ONLY_TRANSACTION: u16 = 1792;

/// ER_NO_DB_ERROR
const NO_DATABASE: u16 = 1046;
/// No such variable, it is GLOBAL alone, or read only: `ER_UNKNOWN_SYSTEM_VARIABLE`, `ER_GLOBAL_VARIABLE`,
/// `ER_INCORRECT_GLOBAL_LOCAL_VAR`.
const VARIABLE_ERRORS: [u16; 3] = [1193, 1229, 1238];

/// What a server says of it.
const REFUSAL: &str = "Cannot execute statement in a READ ONLY transaction";
/// The same in MySQL's words.
const REFUSAL_OF_MYSQL: &str = "Cannot execute statement in a READ ONLY transaction.";

const STAYS_BEHIND: &str = "the READ ONLY transaction runs on a replica, where a statement that would leave something behind in \
     the session (a variable, a lock, a temporary table, an unknown function) or in the server (SET GLOBAL), or several statements \
     at once, cannot run: run it \
     before BEGIN, or set `read_only_transactions = \"primary\"`";

/// Why a statement cannot run in a transaction on a replica.
pub(super) enum Obstacle {
    /// It changes rows or tables.
    Changes,
    /// What it leaves behind would be on the wrong connection.
    StaysBehind,
}

/// Whether what ties a session to its connection means nothing without the transaction: a cursor, the number of the connection.
fn ends_with_transaction(pin: Pin) -> bool {
    matches!(pin, Pin::Statement | Pin::ConnectionId)
}

impl Client {
    /// Whether a transaction runs on a replica.
    pub(super) fn is_on_replica(&self) -> bool {
        self.held.as_ref().is_some_and(|lease| lease.epoch.is_none())
    }

    fn is_mariadb(&self) -> bool {
        self.splitter.shared.identity().is_none_or(|identity| identity.is_mariadb)
    }

    /// Prepares for a statement that begins a transaction; returns its class, which is that of a read where a replica may run
    /// it: then it changes nothing, and may be tried again elsewhere.
    ///
    /// Errors: for the client; it would end the transaction under way, but is a mistake, as the server says.
    pub(super) async fn on_begin(&mut self, class: Class, work: &Work) -> Result<Class, Reject> {
        let is_run = !matches!(work, Work::Prepare { .. });
        // MariaDB commits in front of a definition, and runs it; MySQL refuses it.
        let commits = is_run && class.kind == Kind::Definition && self.is_mariadb();
        if (class.begins.is_some() || commits) && class.pin.is_none() && self.is_on_replica() {
            if commits
                && self.request.get(HEADER_BYTES) == Some(&command::QUERY)
                && let Some(reject) = Box::pin(self.mistake_on_held(class.kind)).await
            {
                return Err(reject);
            }
            if let Some(lease) = self.held.take() {
                // It ends the transaction before; the next one may be of another kind.
                self.session.on_transaction_lost();
                Box::pin(self.leave_replica(lease, true)).await;
            }
        }
        if !is_run || !self.session.begins_read_only(&class) || !self.splitter.config().read_only_transactions {
            return Ok(class);
        }
        if let Some(mut lease) = self.held.take() {
            // Held for nothing but what was said there of transactions, which is said again where this one runs.
            if lease.save().await.is_ok() {
                lease.dirty = true;
                lease.give_back();
            }
        }
        Ok(Class { kind: Kind::Read, begins: class.begins.or(Some(Access::Unsaid)), ..class })
    }

    /// Why a statement cannot run in the transaction under way.
    pub(super) fn obstacle_on_replica(&self, class: &Class, work: &Work) -> Option<Obstacle> {
        if !self.is_on_replica() {
            return None;
        }
        // Prepared statements and cursors end with the transaction. SET GLOBAL is for another server.
        // A procedure that is trusted may take a lock and release it, and a batch end the transaction.
        let stays_behind = class.trusted
            || class.pin.is_some_and(|pin| !ends_with_transaction(pin))
            || self.must_settle_statements(class)
            || class.kind == Kind::Set && !self.sets_what_goes_along(work)
            || class.kind == Kind::Write && class.forgets == Forgets::No;
        match stays_behind {
            true => Some(Obstacle::StaysBehind),
            // A replica would speak of its own read_only first.
            false => matches!(class.kind, Kind::Write | Kind::Definition).then_some(Obstacle::Changes),
        }
    }

    /// Whether the settings of a SET are taken along; `insert_id`, for example, waits for an INSERT where it was set.
    fn sets_what_goes_along(&self, work: &Work) -> bool {
        match work {
            Work::Execute { id, .. } => {
                self.statements.get(id).is_some_and(|statement| sets_what_goes_along(&statement.sql, statement.mode))
            }
            Work::Plain | Work::Prepare { .. } => sets_what_goes_along(self.sql(), self.session.mode()),
        }
    }

    /// Has another statement run in place of one that cannot: one that fails as it would. Returns its class.
    ///
    /// Errors: for the client; it is a mistake, as the server says, or leaves something behind.
    pub(super) fn pass_obstacle<'a>(
        &'a mut self,
        obstacle: Obstacle,
        class: Class,
        work: &Work,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Class, Reject>> + 'a>> {
        let is_query = matches!(work, Work::Plain) && self.request.get(HEADER_BYTES) == Some(&command::QUERY);
        let refusal = if self.is_mariadb() { REFUSAL } else { REFUSAL_OF_MYSQL };
        Box::pin(async move {
            // A batch cannot be prepared.
            let may_be_mistake = is_query
                && class.batch.is_none()
                && class.pin.is_none_or(|pin| matches!(pin, Pin::Unknown | Pin::Call));
            if may_be_mistake && let Some(reject) = self.mistake_on_held(class.kind).await {
                return Err(reject);
            }
            match obstacle {
                Obstacle::Changes if is_query => {
                    // So that the server knows of the error, too, when it is asked for.
                    let text = format!(
                        "SIGNAL SQLSTATE '25006' SET MYSQL_ERRNO = {READ_ONLY_TRANSACTION}, MESSAGE_TEXT = '{refusal}'"
                    );
                    self.put_sql(text.as_bytes());
                    Ok(Class::of_command(Kind::Local))
                }
                Obstacle::Changes => Err(Reject(READ_ONLY_TRANSACTION, b"25006", refusal.into())),
                Obstacle::StaysBehind => Err(Reject(READ_ONLY_TRANSACTION, b"25006", STAYS_BEHIND.into())),
            }
        })
    }

    /// What is wrong with the statement under way, as the server of the held connection sees it, without running it.
    async fn mistake_on_held(&mut self, kind: Kind) -> Option<Reject> {
        let (sql, limit) = (self.sql().to_vec(), self.splitter.config().connect_timeout);
        let lease = self.held.as_mut()?;
        let preparing = async {
            let id = lease.prepare_statement(&sql).await?;
            let mut out = Vec::with_capacity(16);
            command::put_statement(&mut out, command::STMT_CLOSE, id);
            Ok(lease.send(out).await.0?)
        };
        match timeout(limit, preparing).await.unwrap_or(Err(BackendError::Timeout("waiting for an answer"))) {
            // What servers find out while they read a statement, before they look at what it does.
            Err(BackendError::Refused(code, message))
                if matches!(code, SYNTAX_ERROR | NO_DATABASE)
                    || kind == Kind::Set && VARIABLE_ERRORS.contains(&code) =>
            {
                let here = Witness { server: lease.server, tenure: lease.tenure };
                (self.session.has_diagnostics, self.warned) = (true, Some(here));
                self.is_servers_word = true;
                (self.counted, self.last) = (self.counted.with_rows(-1), Some(Witness::NOBODY));
                Some(Reject::new(code, message))
            }
            Ok(()) | Err(BackendError::Refused(..)) => None,
            Err(error) => {
                self.held = None;
                self.on_replica_lost();
                let message =
                    format!("Lost connection to the replica: {error}; the READ ONLY transaction is rolled back");
                Some(Reject::new(LOST, message))
            }
        }
    }

    /// The transaction is over: its connection goes back. `is_open`: not for the server.
    pub(super) async fn leave_replica(&mut self, mut lease: Lease, is_open: bool) {
        self.end_replica_statements();
        // Without autocommit the session goes on as it is, but elsewhere.
        lease.dirty |= is_open || self.session.holds();
        // LAST_INSERT_ID(expr) may have set it; where it cannot be had, the connection is dropped, and with it the insert id.
        if lease.save().await.is_err() {
            return;
        }
        match is_open {
            // At once: a transaction that lies open in the pool keeps the replica from changing the tables it has read.
            true => lease.clean_and_give_back(),
            false => lease.give_back(),
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
            self.session.unpin();
            self.note_pin();
        }
    }
}
