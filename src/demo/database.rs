//! The guest book's table, through one pool of connections for each application worker.
//!
//! Nothing here knows about primary and replicas: the statements are plain SQL, and the splitter in front decides.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Pool, PoolConstraints, PoolOpts, Row};

use super::DatabaseSettings;
use super::entry::{Entry, NewEntry};
use super::store::{RequestId, SHOWN_MAX};
use crate::runtime::net::Address;

/// Connections of one application worker.
const CONNECTIONS_MAX: usize = 16;
/// How long an idle connection is kept.
const KEPT_IDLE: Duration = Duration::from_secs(60);
/// Time for one visit to the database, waiting for a connection included.
const DEADLINE: Duration = Duration::from_secs(5);
/// Error code for a table that does not exist (MySQL manual, server error reference: ER_NO_SUCH_TABLE).
const NO_SUCH_TABLE: u16 = 1146;
/// Bytes of the largest packet we send or accept; told to the driver, which would ask every new connection otherwise.
const PACKET_BYTES_MAX: usize = 4 << 20;
/// Seconds; the driver does not use a connection that was idle for longer. Below the splitter's own limit.
const IDLE_SECONDS_MAX: usize = 300;

/// Why the database gave no answer.
#[derive(Debug)]
pub(super) enum DatabaseError {
    /// It could not be reached, or it refused.
    Failed(mysql_async::Error),
    /// It took longer than [`DEADLINE`].
    TooSlow,
    /// The table is there but its columns are not ours.
    ForeignTable,
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseError::Failed(error) => write!(f, "the database failed: {error}"),
            DatabaseError::TooSlow => write!(f, "the database did not answer within {} s", DEADLINE.as_secs()),
            DatabaseError::ForeignTable => f.write_str("the table guestbook_entries has other columns than ours"),
        }
    }
}

impl From<mysql_async::Error> for DatabaseError {
    fn from(error: mysql_async::Error) -> Self {
        DatabaseError::Failed(error)
    }
}

/// Connections to the database, opened when first needed.
#[derive(Debug)]
pub(super) struct Database {
    options: OptsBuilder,
    pool: OnceLock<Pool>,
    table_exists: AtomicBool,
}

impl Database {
    pub(super) fn new(settings: &DatabaseSettings) -> Database {
        Database { options: options(settings), pool: OnceLock::new(), table_exists: AtomicBool::new(false) }
    }

    /// See [`super::store::Store::latest`].
    pub(super) async fn latest(&self, request: RequestId, seen: Option<u64>) -> Result<Vec<Entry>, DatabaseError> {
        within_deadline(async {
            let mut connection = self.connection().await?;
            let entries = match select(&mut connection, request, "").await {
                Err(DatabaseError::Failed(error)) if is_missing_table(&error) => {
                    self.create_table(&mut connection, request).await?;
                    Vec::new()
                }
                other => other?,
            };
            match seen {
                // The reader has just written, through another connection perhaps, and the replica is behind. A read
                // that locks is the primary's, and the primary has every entry.
                Some(id) if entries.first().is_none_or(|newest| newest.id < id) => {
                    select(&mut connection, request, " LOCK IN SHARE MODE").await
                }
                _ => Ok(entries),
            }
        })
        .await
    }

    /// See [`super::store::Store::add`].
    pub(super) async fn add(&self, request: RequestId, entry: NewEntry) -> Result<Entry, DatabaseError> {
        within_deadline(async {
            let mut connection = self.connection().await?;
            if !self.table_exists.load(Ordering::Relaxed) {
                self.create_table(&mut connection, request).await?;
            }
            let sql = statement(request, "INSERT INTO guestbook_entries (name, message, written_ms) VALUES (?, ?, ?)");
            let insert = connection.prep(sql).await?;
            let values = (&entry.name, &entry.message, entry.written_ms);
            connection.exec_drop(&insert, values).await?;
            let id = connection.last_insert_id().unwrap_or_default();
            // Every request has a statement of its own, because of the comment: keeping it would fill the cache.
            connection.close(insert).await?;
            let NewEntry { name, message, written_ms } = entry;
            Ok(Entry { id, name, message, written_ms })
        })
        .await
    }

    async fn connection(&self) -> Result<Conn, DatabaseError> {
        let pool = self.pool.get_or_init(|| Pool::new(self.options.clone()));
        Ok(pool.get_conn().await?)
    }

    async fn create_table(&self, connection: &mut Conn, request: RequestId) -> Result<(), DatabaseError> {
        let sql = "CREATE TABLE IF NOT EXISTS guestbook_entries (\
                   id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
                   name VARCHAR(40) NOT NULL, \
                   message VARCHAR(500) NOT NULL, \
                   written_ms BIGINT UNSIGNED NOT NULL\
                   ) CHARACTER SET utf8mb4";
        connection.query_drop(statement(request, sql)).await?;
        self.table_exists.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn options(settings: &DatabaseSettings) -> OptsBuilder {
    let constraints = PoolConstraints::new(0, CONNECTIONS_MAX).unwrap_or_default();
    // No reset between two users of a connection: this application leaves no state behind on it. Without a time to live
    // the driver would close every connection above the pool's minimum as soon as it is given back.
    let pool = PoolOpts::new()
        .with_constraints(constraints)
        .with_reset_connection(false)
        .with_inactive_connection_ttl(KEPT_IDLE)
        .with_ttl_check_interval(KEPT_IDLE / 2);
    let options = OptsBuilder::default()
        .user(Some(settings.user.clone()))
        .pass(Some(settings.password.0.clone()))
        .db_name(Some(settings.database.clone()))
        .pool_opts(pool)
        .stmt_cache_size(0_usize)
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
        .wait_timeout(Some(IDLE_SECONDS_MAX))
        // Otherwise the driver asks a server on this machine for its Unix socket and goes there, past the splitter.
        .prefer_socket(false);
    match &settings.address {
        Address::Tcp(address) => options.ip_or_hostname(address.ip().to_string()).tcp_port(address.port()),
        Address::Unix(path) => options.socket(Some(path.to_string_lossy())),
        Address::Name(name) => options.ip_or_hostname(&*name.host).tcp_port(name.port.unwrap_or(3306)),
        // No database is inside this process.
        Address::App(_) => options,
    }
}

async fn select(connection: &mut Conn, request: RequestId, lock: &str) -> Result<Vec<Entry>, DatabaseError> {
    let sql =
        format!("SELECT id, name, message, written_ms FROM guestbook_entries ORDER BY id DESC LIMIT {SHOWN_MAX}{lock}");
    let rows: Vec<Row> = connection.query(statement(request, &sql)).await?;
    rows.into_iter().map(entry).collect()
}

/// `sql`, with the request it belongs to in front.
fn statement(request: RequestId, sql: &str) -> String {
    match request.0 {
        Some(id) => format!("/* request={id:016x} */ {sql}"),
        None => sql.to_owned(),
    }
}

fn entry(row: Row) -> Result<Entry, DatabaseError> {
    let columns = mysql_async::from_row_opt::<(u64, String, String, u64)>(row);
    let (id, name, message, written_ms) = columns.map_err(|_| DatabaseError::ForeignTable)?;
    Ok(Entry { id, name, message, written_ms })
}

fn is_missing_table(error: &mysql_async::Error) -> bool {
    matches!(error, mysql_async::Error::Server(server) if server.code == NO_SUCH_TABLE)
}

async fn within_deadline<T>(visit: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, DatabaseError> {
    tokio::time::timeout(DEADLINE, visit).await.unwrap_or(Err(DatabaseError::TooSlow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_their_request() {
        assert_eq!(statement(RequestId(Some(0x7f3a)), "SELECT 1"), "/* request=0000000000007f3a */ SELECT 1");
        assert_eq!(statement(RequestId(None), "SELECT 1"), "SELECT 1");
    }

    #[test]
    fn the_driver_stays_with_the_address_it_is_given() {
        let settings = |address: &str| DatabaseSettings {
            address: address.parse().unwrap(),
            user: "u".into(),
            password: crate::config::model::Secret("p".into()),
            database: "d".into(),
        };
        let tcp = mysql_async::Opts::from(options(&settings("[::1]:3307")));
        assert_eq!((tcp.ip_or_hostname(), tcp.tcp_port(), tcp.socket()), ("::1", 3307, None));
        assert!(!tcp.prefer_socket());
        let unix = mysql_async::Opts::from(options(&settings("unix:/run/x.sock")));
        assert_eq!(unix.socket(), Some("/run/x.sock"));
    }
}
