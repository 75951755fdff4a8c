//! Looks at each server of a splitter every `monitor_interval` and publishes what it sees into [`Shared`]. Runs on
//! the control thread; the data path only reads the results.
//!
//! Only certain knowledge makes a replica eligible: both replication threads run and the lag is a number within
//! `lag_max`. NULL, an error or silence ejects it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::backend::{NO_TLS, trackers};
use super::gtid::Position;
use super::gtid_check::{self, NoGtids, check};
use super::protocol::ProtocolError;
use super::protocol::auth::prover::Secret;
use super::protocol::auth::{AuthError, Prover, Step};
use super::protocol::capability::{BACKEND_BASE, SSL};
use super::protocol::command::put_query;
use super::protocol::follow::{Expect, Follower};
use super::protocol::greeting::Greeting;
use super::protocol::lenenc::Fields;
use super::protocol::login::Login;
use super::protocol::packet::{HEADER_BYTES, Header, message_bytes, put_packet};
use super::protocol::response::ErrPacket;
use super::shared::{Health, Identity, LAG_UNKNOWN, Shared};
use super::sql::Mode;
use crate::config::model::{CausalReads, UpstreamTls};
use crate::runtime::net::{Address, no_address};
use crate::tls::Offer;

/// Largest answer to one of our questions.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const FACTS: &[u8] =
    b"SELECT @@version, @@global.read_only, @@global.sql_mode, @@global.log_bin, @@global.gtid_slave_pos";
/// The same for MySQL.
const MYSQL_FACTS: &[u8] = b"SELECT @@version, @@global.read_only, @@global.sql_mode, @@global.log_bin, \
@@global.gtid_executed, @@global.gtid_mode";
/// Of a member of a Galera cluster.
const CLUSTER_FACTS: &[u8] = b"SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_local_state_comment', \
'wsrep_cluster_status')";

/// Watches the servers until `stopped` turns true. Never fails: a server that does not answer is published as down.
pub async fn run(shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let mut watchers = tokio::task::JoinSet::new();
    for server in 0..shared.servers() {
        let mut stopped = stopped.clone();
        let shared = Arc::clone(&shared);
        watchers.spawn(async move {
            let watching = watch_server(&shared, server);
            tokio::select! {
                () = watching => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
    }
    while watchers.join_next().await.is_some() {}
}

#[derive(Debug)]
enum ProbeError {
    Io(std::io::Error),
    Protocol(ProtocolError),
    Refused(u16, String),
    Auth(AuthError),
    NoTls,
    Timeout,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::Io(error) => error.fmt(f),
            ProbeError::Protocol(error) => error.fmt(f),
            ProbeError::Refused(code, message) => write!(f, "error {code}: {message}"),
            ProbeError::Auth(error) => error.fmt(f),
            ProbeError::NoTls => f.write_str(NO_TLS),
            ProbeError::Timeout => f.write_str("no answer in time"),
        }
    }
}

impl From<std::io::Error> for ProbeError {
    fn from(error: std::io::Error) -> Self {
        ProbeError::Io(error)
    }
}

impl From<AuthError> for ProbeError {
    fn from(error: AuthError) -> Self {
        ProbeError::Auth(error)
    }
}

impl From<ProtocolError> for ProbeError {
    fn from(error: ProtocolError) -> Self {
        ProbeError::Protocol(error)
    }
}

/// What one look at a server saw.
#[derive(Debug, PartialEq)]
struct Seen {
    read_only: bool,
    sql_mode: String,
    position: Position,
    replication: Replication,
    /// Why it tells no GTIDs, if it does not.
    no_gtids: Option<NoGtids>,
    /// How long it takes to answer, see [`smoothed`].
    latency: Duration,
}

/// An average in which each look has a quarter of the weight: one slow answer alone does not make a slow server.
fn smoothed(before: Option<Duration>, now: Duration) -> Duration {
    before.map_or(now, |before| (before * 3 + now) / 4)
}

/// State of a server's replication threads.
#[derive(Debug, PartialEq)]
enum Replication {
    /// It follows nobody.
    None,
    /// A thread has stopped, or the lag is not known.
    Broken,
    /// It applies what it has, but has no connection to the server it follows.
    Disconnected,
    /// It follows, this far behind.
    Behind(Duration),
    /// We are not allowed to see it.
    Hidden,
    /// Member of a Galera cluster that has caught up with it, or has not.
    Cluster { is_synced: bool },
}

async fn watch_server(shared: &Shared, server: usize) {
    let interval = shared.config().monitor_interval.max(Duration::from_millis(10));
    let mut probe: Option<Probe> = None;
    let mut last: Option<Result<(Health, bool), ()>> = None;
    loop {
        let limit = shared.config().connect_timeout;
        let seen = timeout(limit, look(shared, server, &mut probe)).await.unwrap_or(Err(ProbeError::Timeout));
        let now = match &seen {
            Ok(seen) => Ok(publish(shared, server, seen)),
            Err(_) => {
                probe = None;
                shared.server(server).set_health(Health::Down);
                shared.server(server).set_lag(LAG_UNKNOWN, false);
                Err(())
            }
        };
        if last != Some(now) {
            tell(shared, server, &seen, now);
            last = Some(now);
        }
        tokio::time::sleep(interval).await;
    }
}

/// Logs a change of a server's state.
fn tell(shared: &Shared, server: usize, seen: &Result<Seen, ProbeError>, now: Result<(Health, bool), ()>) {
    let (splitter, address) = (&shared.config().name, shared.address(server));
    let role = if server == 0 { "primary" } else { "replica" };
    match (seen, now) {
        (Err(error), _) => tracing::warn!(splitter, server = %address, role, %error, "mysql server is down"),
        (Ok(seen), Ok((Health::ReadOnly, _))) if server == 0 => {
            tracing::error!(splitter, server = %address, read_only = seen.read_only,
                "the primary is read-only: writes are refused until it is writable or the config names another primary");
        }
        (Ok(seen), Ok((_, false))) if server > 0 && seen.replication == Replication::Hidden => {
            tracing::error!(splitter, server = %address, user = %shared.config().user,
                "replica gets no reads: the account may not see its lag; grant it SLAVE MONITOR (REPLICATION CLIENT)");
        }
        (Ok(seen), Ok((_, false))) if server > 0 => {
            tracing::warn!(splitter, server = %address, replication = ?seen.replication, latency = ?seen.latency,
                "replica gets no reads: it is stopped, too far behind, its lag is not known, or it answers too slowly");
        }
        (Ok(seen), _) => {
            tracing::info!(splitter, server = %address, role, "mysql server is up");
            if server == 0
                && !matches!(seen.replication, Replication::None | Replication::Hidden | Replication::Cluster { .. })
            {
                tracing::warn!(splitter, server = %address, "the primary replicates from another server");
            }
            let is_cluster = matches!(seen.replication, Replication::Cluster { .. });
            if let Some(why) = &seen.no_gtids
                && server == 0
                && !is_cluster
                && shared.config().causal_reads != CausalReads::Off
                && shared.servers() > 1
            {
                tracing::error!(splitter, server = %address, %why,
                    "replicas get no reads: the primary does not tell which transactions sessions write, so no read on a \
                     replica is known to be fresh; mend that, or set causal_reads = \"off\"");
            }
        }
    }
}

/// Publishes one look; returns health and, of a replica, whether it gets reads; of the primary, whether it tells GTIDs.
fn publish(shared: &Shared, server: usize, seen: &Seen) -> (Health, bool) {
    let facts = shared.server(server);
    let health = if seen.read_only { Health::ReadOnly } else { Health::Writable };
    let is_quick = shared.config().latency_max.is_none_or(|most| seen.latency <= most);
    let (lag_ms, eligible) = match seen.replication {
        Replication::Behind(lag) => (lag.as_millis() as u64, is_quick && lag <= shared.config().lag_max),
        // Nobody can write while the primary is down, so a replica cut off from it falls no further behind.
        Replication::Disconnected => (LAG_UNKNOWN, shared.server(0).health() == Health::Down),
        Replication::Cluster { is_synced } => (if is_synced { 0 } else { LAG_UNKNOWN }, is_quick && is_synced),
        _ => (LAG_UNKNOWN, false),
    };
    facts.set_position(&seen.position);
    facts.set_lag(lag_ms, eligible && server > 0);
    facts.set_health(health);
    if server == 0 {
        shared.set_tells_gtids(seen.no_gtids.is_none());
        shared.set_galera(matches!(seen.replication, Replication::Cluster { .. }));
        let has = |flag: &str| seen.sql_mode.split(',').any(|part| part == flag);
        shared.set_mode(Mode {
            ansi_quotes: has("ANSI_QUOTES"),
            no_backslash_escapes: has("NO_BACKSLASH_ESCAPES"),
            ignore_space: has("IGNORE_SPACE"),
            ..Mode::default()
        });
    }
    (health, if server == 0 { seen.no_gtids.is_none() } else { eligible })
}

async fn look(shared: &Shared, server: usize, slot: &mut Option<Probe>) -> Result<Seen, ProbeError> {
    let mut probe = match slot.take() {
        Some(probe) => probe,
        None => {
            let (mut probe, greeting) = Probe::open(shared, server).await?;
            probe.learn(&greeting).await?;
            shared.set_identity(Identity::of(greeting));
            if server > 0 {
                warn_about_rights(shared, server, &mut probe).await?;
            }
            probe
        }
    };
    let started = tokio::time::Instant::now();
    let facts = probe.query(if probe.is_mariadb { FACTS } else { MYSQL_FACTS }).await?;
    let latency = smoothed(probe.latency, started.elapsed());
    probe.latency = Some(latency);
    let replication =
        if probe.is_cluster { cluster(&probe.query(CLUSTER_FACTS).await?) } else { replicates(&mut probe).await? };
    let text = |column: usize| facts.value(0, column).unwrap_or("");
    let is_on = |column: usize| matches!(text(column), "1" | "ON");
    let trackers = probe.no_trackers.as_deref().map_or(Ok(()), Err);
    let seen = Seen {
        read_only: !matches!(text(1), "0" | "OFF"),
        sql_mode: text(2).to_owned(),
        position: Position::parse(text(4).as_bytes()).unwrap_or_default(),
        replication,
        no_gtids: check(gtid_check::Seen { log_bin: is_on(3), gtid_mode: facts.value(0, 5), trackers }),
        latency,
    };
    *slot = Some(probe);
    Ok(seen)
}

async fn replicates(probe: &mut Probe) -> Result<Replication, ProbeError> {
    let status = match probe.query(b"SHOW SLAVE STATUS").await {
        // MySQL 8.4 knows the new name only.
        Err(ProbeError::Refused(1064, _)) => probe.query(b"SHOW REPLICA STATUS").await,
        other => other,
    };
    match status {
        Ok(table) => Ok(replication(&table)),
        Err(ProbeError::Refused(1227, _)) => Ok(Replication::Hidden),
        Err(error) => Err(error),
    }
}

/// A member that is of the primary component and has caught up answers right; any other refuses, or is behind.
fn cluster(table: &Table) -> Replication {
    let is = |name: &str, value: &str| {
        (0..table.rows.len()).any(|row| table.value(row, 0) == Some(name) && table.value(row, 1) == Some(value))
    };
    let is_synced =
        is("wsrep_ready", "ON") && is("wsrep_local_state_comment", "Synced") && is("wsrep_cluster_status", "Primary");
    Replication::Cluster { is_synced }
}

fn replication(table: &Table) -> Replication {
    if table.rows.is_empty() {
        return Replication::None;
    }
    let mut lag = Duration::ZERO;
    for row in 0..table.rows.len() {
        let either = |old: &str, new: &str| table.named(row, old).or(table.named(row, new));
        let io = either("Slave_IO_Running", "Replica_IO_Running");
        let sql = either("Slave_SQL_Running", "Replica_SQL_Running");
        let seconds = either("Seconds_Behind_Master", "Seconds_Behind_Source").and_then(|text| text.parse().ok());
        match (io, sql, seconds) {
            (Some("Yes"), Some("Yes"), Some(seconds)) => lag = lag.max(Duration::from_secs(seconds)),
            (Some("Connecting"), Some("Yes"), _) => return Replication::Disconnected,
            _ => return Replication::Broken,
        }
    }
    Replication::Behind(lag)
}

/// An account that may write to a read-only server can make a replica diverge without anyone noticing.
async fn warn_about_rights(shared: &Shared, server: usize, probe: &mut Probe) -> Result<(), ProbeError> {
    let grants = probe.query(b"SHOW GRANTS").await?;
    for row in 0..grants.rows.len() {
        let grant = grants.value(row, 0).unwrap_or("");
        let Some((rights, _)) = grant.split_once(" ON *.*") else { continue };
        let all = rights.contains("ALL PRIVILEGES");
        if all || rights.contains("SUPER") || rights.contains("READ_ONLY ADMIN") || rights.contains("READ ONLY ADMIN") {
            let (splitter, address) = (&shared.config().name, shared.address(server));
            tracing::warn!(splitter, server = %address, user = %shared.config().user,
                "the splitter's account may write to this replica in spite of read_only: revoke SUPER and READ_ONLY ADMIN");
            break;
        }
    }
    Ok(())
}

/// Rows and column names of an answer.
#[derive(Debug, Default)]
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

impl Table {
    fn value(&self, row: usize, column: usize) -> Option<&str> {
        self.rows.get(row)?.get(column)?.as_deref()
    }

    fn named(&self, row: usize, name: &str) -> Option<&str> {
        self.value(row, self.columns.iter().position(|column| column == name)?)
    }

    /// Reads a complete answer, packet by packet.
    fn decode(mut answer: &[u8]) -> Result<Table, ProtocolError> {
        let mut packets = Vec::new();
        while let Some(header) = Header::decode(answer) {
            let end = HEADER_BYTES + header.payload_bytes;
            packets.push(answer.get(HEADER_BYTES..end).ok_or(ProtocolError::Truncated)?);
            answer = &answer[end..];
        }
        let mut table = Table::default();
        let Some((count, rest)) = packets.split_first() else { return Err(ProtocolError::Truncated) };
        if count.first() == Some(&0) {
            return Ok(table);
        }
        let count = Fields::new(count).int()? as usize;
        let (columns, rows) = rest.split_at_checked(count).ok_or(ProtocolError::Truncated)?;
        for column in columns {
            let mut fields = Fields::new(column);
            for _ in 0..4 {
                fields.string()?; // catalog, schema, table, original table
            }
            table.columns.push(String::from_utf8_lossy(fields.string()?).into_owned());
        }
        for row in &rows[..rows.len().saturating_sub(1)] {
            let (mut fields, mut values) = (Fields::new(row), Vec::with_capacity(count));
            while !fields.is_empty() {
                values.push(fields.text_value()?.map(|value| String::from_utf8_lossy(value).into_owned()));
            }
            table.rows.push(values);
        }
        Ok(table)
    }
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// The monitor's own connection to a server.
struct Probe {
    socket: Box<dyn Socket>,
    /// Nobody else can read it.
    is_secret: bool,
    input: Vec<u8>,
    is_mariadb: bool,
    /// Member of a Galera cluster.
    is_cluster: bool,
    /// What the server said to session trackers, if it refused them.
    no_trackers: Option<String>,
    latency: Option<Duration>,
}

impl Probe {
    async fn open(shared: &Shared, server: usize) -> Result<(Probe, Greeting), ProbeError> {
        let socket: Box<dyn Socket> = match shared.address(server) {
            Address::Tcp(address) => {
                let socket = tokio::net::TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                Box::new(socket)
            }
            Address::Unix(path) => Box::new(tokio::net::UnixStream::connect(path).await?),
            Address::Name(name) => return Err(no_address(name).into()),
        };
        let is_secret = matches!(shared.address(server), Address::Unix(_));
        let mut probe = Probe {
            socket,
            is_secret,
            input: Vec::new(),
            is_mariadb: true,
            is_cluster: false,
            no_trackers: None,
            latency: None,
        };
        let greeting = probe.log_on(shared, server).await?;
        Ok((probe, greeting))
    }

    /// What stays the same while the connection lasts.
    async fn learn(&mut self, greeting: &Greeting) -> Result<(), ProbeError> {
        self.is_mariadb = greeting.is_mariadb();
        self.no_trackers = match self.query(trackers(self.is_mariadb)).await {
            Ok(_) => None,
            Err(ProbeError::Refused(_, message)) => Some(message),
            Err(error) => return Err(error),
        };
        self.is_cluster = match self.query(b"SELECT @@global.wsrep_on").await {
            Ok(table) => table.value(0, 0) == Some("1"),
            Err(ProbeError::Refused(..)) => false, // built without it
            Err(error) => return Err(error),
        };
        Ok(())
    }

    async fn log_on(&mut self, shared: &Shared, server: usize) -> Result<Greeting, ProbeError> {
        let config = shared.config();
        let payload = self.packet(0).await?;
        not_refused(&payload)?;
        let greeting = Greeting::decode(&payload)?;
        let user = config.user.as_bytes();
        let mut login = Login {
            capabilities: BACKEND_BASE,
            collation: 45,
            user,
            answer: b"",
            schema: b"",
            plugin: b"",
            zstd_level: 0,
        };
        let mut sequence_id = 1;
        if let Some((tls, name)) = config.server_tls.as_ref().zip(shared.tls_name(server)) {
            login.capabilities |= SSL;
            self.begin_tls(&greeting, &login, tls, name).await?;
            sequence_id = 2;
        }
        let secret = Secret::Password(config.password.0.as_bytes());
        let key = config.server_public_key.as_ref();
        let mut prover = Prover::new(secret, &greeting.plugin, greeting.scramble, self.is_secret, key);
        let (plugin, answer) = prover.first_answer();
        let mut out = Vec::new();
        Login { plugin, answer: &answer, ..login }.encode(&mut out, sequence_id);
        self.socket.write_all(&out).await?;
        loop {
            sequence_id += 1;
            let payload = self.packet(sequence_id).await?;
            not_refused(&payload)?;
            match prover.on_packet(&payload)? {
                Step::End => return Ok(greeting),
                Step::Wait => {}
                Step::Answer(answer) => {
                    sequence_id += 1;
                    out.clear();
                    put_packet(&mut out, sequence_id, |p| p.extend_from_slice(&answer));
                    self.socket.write_all(&out).await?;
                }
            }
        }
    }

    /// SSLRequest and the handshake.
    async fn begin_tls(
        &mut self,
        greeting: &Greeting,
        login: &Login<'_>,
        tls: &UpstreamTls,
        name: &ServerName<'static>,
    ) -> Result<(), ProbeError> {
        if greeting.capabilities & SSL == 0 {
            return Err(ProbeError::NoTls);
        }
        if !self.input.is_empty() {
            return Err(ProtocolError::Malformed("more than a greeting").into());
        }
        let mut out = Vec::new();
        login.encode_tls_request(&mut out, 1);
        self.socket.write_all(&out).await?;
        let settings = tls.trust.settings(Offer::Nothing).map_err(std::io::Error::other)?;
        let socket = std::mem::replace(&mut self.socket, Box::new(tokio::io::empty()));
        self.socket = Box::new(TlsConnector::from(settings).connect(name.clone(), socket).await?);
        self.is_secret = true;
        Ok(())
    }

    async fn packet(&mut self, sequence_id: u8) -> Result<Vec<u8>, ProbeError> {
        loop {
            if let Some(len) = message_bytes(&self.input, sequence_id, ANSWER_BYTES_MAX)? {
                return Ok(self.input.drain(..len).skip(HEADER_BYTES).collect());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), ProbeError> {
        match self.socket.read_buf(&mut self.input).await? {
            0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    async fn query(&mut self, sql: &[u8]) -> Result<Table, ProbeError> {
        let mut out = Vec::with_capacity(sql.len() + 8);
        put_query(&mut out, sql, false);
        self.socket.write_all(&out).await?;
        let (mut follower, mut answer) = (Follower::new(Expect::Results, true, 0), Vec::new());
        loop {
            let used = follower.feed(&self.input, &mut answer)?;
            self.input.drain(..used);
            if follower.is_done() {
                break;
            }
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(ProtocolError::TooLarge(ANSWER_BYTES_MAX).into());
            }
            self.fill().await?;
        }
        let outcome = follower.into_outcome();
        if let Some(code) = outcome.error {
            return Err(ProbeError::Refused(code, String::from_utf8_lossy(&outcome.message).into_owned()));
        }
        Ok(Table::decode(&answer)?)
    }
}

fn not_refused(payload: &[u8]) -> Result<(), ProbeError> {
    if payload.first() != Some(&0xFF) {
        return Ok(());
    }
    let error = ErrPacket::decode(payload)?;
    Err(ProbeError::Refused(error.code, String::from_utf8_lossy(error.message).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(io: &str, sql: &str, lag: Option<&str>) -> Table {
        let columns = ["Slave_IO_Running", "Slave_SQL_Running", "Seconds_Behind_Master"].map(String::from).to_vec();
        Table { columns, rows: vec![vec![Some(io.into()), Some(sql.into()), lag.map(String::from)]] }
    }

    #[test]
    fn only_a_running_replica_with_a_known_lag_counts() {
        assert_eq!(replication(&table("Yes", "Yes", Some("3"))), Replication::Behind(Duration::from_secs(3)));
        assert_eq!(replication(&table("Yes", "Yes", None)), Replication::Broken);
        assert_eq!(replication(&table("Connecting", "Yes", None)), Replication::Disconnected);
        assert_eq!(replication(&table("No", "Yes", Some("0"))), Replication::Broken);
        assert_eq!(replication(&table("Connecting", "No", None)), Replication::Broken);
        assert_eq!(replication(&table("Yes", "No", Some("0"))), Replication::Broken);
        assert_eq!(replication(&Table::default()), Replication::None);
    }

    #[test]
    fn one_slow_answer_does_not_make_a_slow_server() {
        let ms = Duration::from_millis;
        assert_eq!(smoothed(None, ms(8)), ms(8));
        assert_eq!(smoothed(Some(ms(8)), ms(40)), ms(16));
        let settled = (0..40).fold(ms(1), |average, _| smoothed(Some(average), ms(100)));
        assert!(settled > ms(99) && settled <= ms(100));
    }

    #[test]
    fn members_of_a_cluster_must_have_caught_up() {
        let row = |name: &str, value: &str| vec![Some(name.into()), Some(value.into())];
        let table = |state: &str, component: &str| Table {
            columns: vec!["Variable_name".into(), "Value".into()],
            rows: vec![
                row("wsrep_ready", "ON"),
                row("wsrep_local_state_comment", state),
                row("wsrep_cluster_status", component),
            ],
        };
        let is_synced = |table: &Table| cluster(table) == Replication::Cluster { is_synced: true };
        assert!(is_synced(&table("Synced", "Primary")));
        assert!(!is_synced(&table("Donor/Desynced", "Primary")) && !is_synced(&table("Synced", "non-Primary")));
        assert!(!is_synced(&Table::default()));
    }

    #[test]
    fn answers_are_decoded() {
        let mut answer = Vec::new();
        put_packet(&mut answer, 1, |p| p.push(2));
        for name in ["a", "b"] {
            put_packet(&mut answer, 2, |p| {
                for field in ["def", "", "", "", name, ""] {
                    super::super::protocol::lenenc::put_bytes(p, field.as_bytes());
                }
            });
        }
        put_packet(&mut answer, 4, |p| p.extend_from_slice(b"\x011\xfb"));
        put_packet(&mut answer, 5, |p| p.extend_from_slice(b"\xfe\0\0\x02\0\0\0"));
        let table = Table::decode(&answer).unwrap();
        assert_eq!((table.named(0, "a"), table.named(0, "b")), (Some("1"), None));
        for cut in 0..answer.len() {
            let _ = Table::decode(&answer[..cut]);
        }
    }
}
