//! What the monitor asks a server, and what the answers mean. Pure: answers are tables, out comes a [`Seen`].
//!
//! Servers differ in what they know: which of our variables a server has is asked once for each connection
//! ([`Questions`]), so that no question is ever an error there.
//!
//! Sources: MariaDB knowledge base, "SHOW REPLICA STATUS", "Galera Cluster Status Variables", "Global Transaction ID";
//! MySQL 8.4 reference manual, "SHOW REPLICA STATUS Statement", "The replication_group_members Table".

use std::time::Duration;

use super::defaults::{self, Beginning, Defaults};
use super::gtid::Position;
use super::gtid_check::{self, NoGtids};
use super::probe::Table;
use super::topology::{Look, Standing};

/// Variables that tell what a server is. Those that a server does not have are left out.
const VARIABLES: [&str; 12] = [
    "version",
    "read_only",
    "super_read_only",
    "sql_mode",
    "log_bin",
    "server_id",
    "gtid_slave_pos",
    "gtid_current_pos",
    "gtid_executed",
    "gtid_mode",
    "wsrep_on",
    "group_replication_group_name",
];

/// How a Galera node stands; asked of those with `wsrep_on`.
pub(super) const GALERA: &[u8] = b"SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_local_state', 'wsrep_ready', \
'wsrep_cluster_status', 'wsrep_cluster_state_uuid')";

/// What a Galera node answers once it has applied all that the cluster had committed when it was asked.
pub(super) const CATCH_UP: &[u8] = b"SET STATEMENT wsrep_sync_wait=1 FOR SELECT 1 AS caught_up";

/// How the members of a group stand, as this one sees them; asked of those with a `group_replication_group_name`.
pub(super) const GROUP: &[u8] =
    b"SELECT MEMBER_ID = @@global.server_uuid AS me, MEMBER_STATE AS state, MEMBER_ROLE AS role \
FROM performance_schema.replication_group_members";

/// `wsrep_local_state` of a node that is in step with its cluster.
const SYNCED: &str = "4";

fn variables() -> impl Iterator<Item = &'static str> {
    VARIABLES.into_iter().chain(defaults::NAMES).chain(defaults::kept_alone())
}

/// Which of our variables a server has.
#[derive(Debug, Default)]
pub(super) struct Questions(Vec<&'static str>);

impl Questions {
    /// What tells which.
    pub(super) fn which() -> String {
        let names: Vec<_> = variables().map(|name| format!("'{name}'")).collect();
        let names = names.join(", ");
        format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    }

    /// Reads the answer to [`Questions::which`].
    pub(super) fn new(answer: &Table) -> Questions {
        let has = |name: &str| (0..answer.rows.len()).any(|row| answer.value(row, 0) == Some(name));
        Questions(variables().filter(|name| has(name)).collect())
    }

    /// What asks for their values.
    pub(super) fn sql(&self) -> String {
        let mut values: Vec<String> = self.0.iter().map(|name| format!("@@global.{name} AS {name}")).collect();
        if self.0.contains(&"time_zone") {
            let (zone, name) = defaults::SYSTEM_ZONE;
            values.push(format!("{zone} AS {name}"));
        }
        if values.is_empty() { "SELECT 1".into() } else { format!("SELECT {}", values.join(", ")) }
    }
}

/// What one look at a server saw.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    /// `read_only` or `super_read_only` is on, or the server does not say.
    pub(super) read_only: bool,
    /// With what its sessions begin.
    pub(super) defaults: Defaults,
    /// The same as far as they keep it.
    pub(super) beginning: Beginning,
    /// It writes a binary log.
    pub(super) log_bin: bool,
    /// `server_id`; 0: not known.
    pub(super) server_id: u32,
    /// `gtid_mode` of MySQL.
    pub(super) gtid_mode: Option<String>,
    /// What it said to the session trackers, if it refused them.
    pub(super) no_trackers: Option<String>,
    /// What a replica has applied.
    pub(super) position: Position,
    /// The same, with what the server wrote itself; `None`: it has no such positions, or ones that cannot be read.
    pub(super) current: Option<Position>,
    /// The position for a person.
    pub(super) shown: String,
    /// `group_replication_group_name`; empty: none.
    pub(super) group: String,
    /// `wsrep_on`.
    pub(super) in_galera: bool,
    /// What SHOW REPLICA STATUS says.
    pub(super) replication: Replication,
    /// What its cluster says; `None`: it is in none.
    pub(super) cluster: Option<Membership>,
    /// How long it takes to answer, see [`smoothed`].
    pub(super) latency: Duration,
}

/// State of a server's replication threads.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Replication {
    /// It follows nobody. One that was told to stop does, until it forgets whom (RESET REPLICA ALL).
    None,
    /// A thread has stopped, or the lag is not known.
    Broken,
    /// It applies what it has, but has no connection to the server it follows.
    Disconnected,
    /// It follows.
    Behind {
        /// How far behind it is.
        lag: Duration,
        /// `server_id` of the one it follows; 0: not known, or several.
        source: u32,
    },
    /// We are not allowed to see it.
    Hidden,
}

/// What a cluster thinks of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// Name of the cluster.
    pub(super) name: String,
    /// It is in step, in the part of the cluster that goes on.
    pub(super) in_step: bool,
    /// The cluster lets it write.
    pub(super) may_write: bool,
    /// It was asked for [`CATCH_UP`], and has.
    pub(super) has_all: bool,
}

impl Seen {
    /// Reads the variables. Replication and cluster are filled in from further answers.
    pub(super) fn new(variables: &Table) -> Seen {
        let text = |name: &str| variables.named(0, name).unwrap_or_default();
        let is_on = |name: &str| matches!(text(name), "1" | "ON");
        let either = |one: &str, other: &str| variables.named(0, one).or(variables.named(0, other));
        let current = either("gtid_current_pos", "gtid_executed");
        let applied = either("gtid_slave_pos", "gtid_executed").unwrap_or_default();
        Seen {
            read_only: !matches!(text("read_only"), "0" | "OFF") || is_on("super_read_only"),
            defaults: Defaults::new(variables),
            beginning: Beginning::new(variables),
            log_bin: is_on("log_bin"),
            server_id: text("server_id").parse().unwrap_or(0),
            gtid_mode: variables.named(0, "gtid_mode").map(Into::into),
            no_trackers: None,
            position: Position::parse(applied.as_bytes()).unwrap_or_default(),
            current: current.and_then(|text| Position::parse(text.as_bytes())),
            shown: current.unwrap_or_default().replace('\n', ""),
            group: text("group_replication_group_name").into(),
            in_galera: is_on("wsrep_on"),
            replication: Replication::None,
            cluster: None,
            latency: Duration::ZERO,
        }
    }

    /// Why it tells no GTIDs, if it does not.
    pub(super) fn no_gtids(&self) -> Option<NoGtids> {
        gtid_check::check(gtid_check::Seen {
            log_bin: self.log_bin,
            gtid_mode: self.gtid_mode.as_deref(),
            trackers: self.no_trackers.as_deref().map_or(Ok(()), Err),
        })
    }

    /// A member of a Galera cluster, which has another way than GTIDs to wait for what was written.
    pub(super) fn is_galera(&self) -> bool {
        self.in_galera && self.cluster.is_some()
    }

    /// The same where nobody leads: a Galera node does not begin to before it has applied what clients were told on another one.
    pub(super) fn in_succession(mut self) -> Seen {
        let is_galera = self.is_galera();
        if let Some(member) = self.cluster.as_mut().filter(|_| is_galera) {
            member.may_write &= member.has_all;
        }
        self
    }

    /// What it is good for, as far as the choice of a primary goes.
    pub(super) fn look(&self) -> Look {
        let standing = match &self.cluster {
            Some(member) if !member.in_step => Standing::Unready,
            Some(_) if self.read_only => Standing::Follows,
            Some(member) if !member.may_write => Standing::Follows,
            Some(_) => Standing::Writable,
            None if self.in_galera || !self.group.is_empty() => Standing::Unready,
            None if self.read_only => Standing::Follows,
            None => match self.replication {
                Replication::None => Standing::Writable,
                Replication::Hidden => Standing::Unready,
                Replication::Broken | Replication::Disconnected | Replication::Behind { .. } => Standing::Follows,
            },
        };
        let cluster = self.cluster.as_ref().map(|member| member.name.clone());
        Look { standing, position: self.current.clone(), cluster }
    }
}

/// An average in which each look has a quarter of the weight: one slow answer alone does not make a slow server.
pub(super) fn smoothed(before: Option<Duration>, now: Duration) -> Duration {
    before.map_or(now, |before| (before * 3 + now) / 4)
}

/// Reads SHOW REPLICA STATUS, of all channels.
pub(super) fn replication(table: &Table) -> Replication {
    let either = |row: usize, old: &str, new: &str| table.named(row, old).or(table.named(row, new));
    if table.rows.is_empty() {
        return Replication::None;
    }
    let (mut lag, mut sources) = (Duration::ZERO, Vec::new());
    for row in 0..table.rows.len() {
        let seconds = either(row, "Seconds_Behind_Master", "Seconds_Behind_Source").and_then(|text| text.parse().ok());
        let io = either(row, "Slave_IO_Running", "Replica_IO_Running");
        let sql = either(row, "Slave_SQL_Running", "Replica_SQL_Running");
        match (io, sql, seconds) {
            (Some("Yes"), Some("Yes"), Some(seconds)) => lag = lag.max(Duration::from_secs(seconds)),
            (Some("Connecting"), Some("Yes"), _) => return Replication::Disconnected,
            _ => return Replication::Broken,
        }
        sources.extend(either(row, "Master_Server_Id", "Source_Server_Id").and_then(|text| text.parse::<u32>().ok()));
    }
    let source = if let [source] = sources[..] { source } else { 0 };
    Replication::Behind { lag, source }
}

/// Reads the answer to [`GALERA`]; `None`: it has no provider, so it is no member of anything.
pub(super) fn galera(status: &Table) -> Option<Membership> {
    let value = |name: &str| (0..status.rows.len()).find(|row| status.value(*row, 0) == Some(name));
    let value = |name: &str| value(name).and_then(|row| status.value(row, 1)).unwrap_or_default();
    let in_step = value("wsrep_local_state") == SYNCED
        && value("wsrep_ready") == "ON"
        && value("wsrep_cluster_status") == "Primary";
    let name = value("wsrep_cluster_state_uuid").to_owned();
    // Every node that is in step takes writes.
    (!name.is_empty()).then_some(Membership { name, in_step, may_write: in_step, has_all: false })
}

/// Reads the answer to [`GROUP`]; `name`: `group_replication_group_name`. `None`: it does not find itself among the members.
pub(super) fn group(members: &Table, name: &str) -> Option<Membership> {
    let count = members.rows.len();
    let state = |row: usize| members.named(row, "state").unwrap_or_default();
    let me = (0..count).find(|row| members.named(*row, "me") == Some("1"))?;
    // The part without a majority still calls itself online.
    let alive = (0..count).filter(|row| matches!(state(*row), "ONLINE" | "RECOVERING")).count();
    let in_step = state(me) == "ONLINE" && alive * 2 > count;
    let may_write = in_step && members.named(me, "role") == Some("PRIMARY");
    Some(Membership { name: name.into(), in_step, may_write, has_all: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Column names, then rows; `NULL` is none.
    fn table(columns: &[&str], rows: &[&[&str]]) -> Table {
        let value = |text: &&str| (*text != "NULL").then(|| (*text).to_owned());
        Table {
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            rows: rows.iter().map(|row| row.iter().map(value).collect()).collect(),
        }
    }

    #[test]
    fn only_variables_that_a_server_has_are_asked_for() {
        let mysql57 = table(&["Variable_name", "Value"], &[&["read_only", "OFF"], &["super_read_only", "OFF"]]);
        assert_eq!(
            Questions::new(&mysql57).sql(),
            "SELECT @@global.read_only AS read_only, @@global.super_read_only AS super_read_only"
        );
        assert_eq!(Questions::new(&Table::default()).sql(), "SELECT 1");
        assert!(Questions::which().contains("'gtid_current_pos', 'gtid_executed', 'gtid_mode', 'wsrep_on'"));
    }

    #[test]
    fn a_server_that_does_not_say_is_read_only() {
        let seen = |columns: &[&str], row: &[&str]| Seen::new(&table(columns, &[row]));
        assert!(Seen::new(&Table::default()).read_only);
        assert!(!seen(&["read_only"], &["0"]).read_only && !seen(&["read_only"], &["OFF"]).read_only);
        assert!(seen(&["read_only"], &["1"]).read_only);
        // MariaDB 12 has words instead of a switch.
        assert!(seen(&["read_only"], &["NO_LOCK_NO_ADMIN"]).read_only);
        assert!(seen(&["read_only", "super_read_only"], &["0", "1"]).read_only);
        let mariadb = seen(&["server_id", "gtid_slave_pos", "gtid_current_pos"], &["7", "0-1-4", "0-1-9"]);
        assert_eq!((mariadb.server_id, mariadb.position.text(), mariadb.shown.as_str()), (7, "0-1-4".into(), "0-1-9"));
        let mysql = seen(&["gtid_executed"], &["3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,\n4e11:1"]);
        assert_eq!((mysql.current, mysql.shown.as_str()), (None, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,4e11:1"));
        let (one, other) = ("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", "4e11fa47-71ca-11e1-9e33-c80aa9429562:1");
        let mysql = seen(&["gtid_executed"], &[&format!("{one},\n{other}")]);
        let expect = Position::parse(format!("{one},{other}").as_bytes());
        assert_eq!((Some(mysql.position), mysql.current), (expect.clone(), expect));
    }

    #[test]
    fn what_a_primary_does_not_tell_is_known() {
        let seen = |row: [&str; 2]| Seen::new(&table(&["log_bin", "gtid_mode"], &[&row]));
        assert_eq!(seen(["1", "ON"]).no_gtids(), None);
        assert_eq!(seen(["1", "NULL"]).no_gtids(), None, "MariaDB");
        assert_eq!(seen(["0", "ON"]).no_gtids(), Some(NoGtids::BinaryLog));
        assert_eq!(seen(["1", "OFF"]).no_gtids(), Some(NoGtids::Mode("OFF".into())));
        let refused = Seen { no_trackers: Some("no".into()), ..seen(["1", "ON"]) };
        assert_eq!(refused.no_gtids(), Some(NoGtids::Trackers("no".into())));
    }

    #[test]
    fn one_slow_answer_does_not_make_a_slow_server() {
        let ms = Duration::from_millis;
        assert_eq!(smoothed(None, ms(8)), ms(8));
        assert_eq!(smoothed(Some(ms(8)), ms(40)), ms(16));
        let settled = (0..40).fold(ms(1), |average, _| smoothed(Some(average), ms(100)));
        assert!(settled > ms(99) && settled <= ms(100));
    }

    /// One channel of MariaDB.
    fn channel(io: &str, sql: &str, lag: &str) -> Replication {
        let columns = ["Slave_IO_Running", "Slave_SQL_Running", "Seconds_Behind_Master", "Master_Server_Id"];
        replication(&table(&columns, &[&[io, sql, lag, "3"]]))
    }

    #[test]
    fn only_a_running_replica_with_a_known_lag_counts() {
        let behind = |seconds| Replication::Behind { lag: Duration::from_secs(seconds), source: 3 };
        assert_eq!(channel("Yes", "Yes", "3"), behind(3));
        assert_eq!(channel("Yes", "Yes", "NULL"), Replication::Broken);
        assert_eq!(channel("Connecting", "Yes", "NULL"), Replication::Disconnected);
        assert_eq!(channel("No", "Yes", "0"), Replication::Broken);
        assert_eq!(channel("Connecting", "No", "NULL"), Replication::Broken);
        assert_eq!(channel("Yes", "No", "0"), Replication::Broken);
        assert_eq!(channel("No", "No", "NULL"), Replication::Broken, "STOP SLAVE");
        assert_eq!(replication(&Table::default()), Replication::None, "RESET SLAVE ALL");
        let new = ["Replica_IO_Running", "Replica_SQL_Running", "Seconds_Behind_Source", "Source_Server_Id"];
        assert_eq!(replication(&table(&new, &[&["Yes", "Yes", "3", "3"]])), behind(3));
        let two = table(&new, &[&["Yes", "Yes", "3", "3"], &["Yes", "Yes", "9", "4"]]);
        assert_eq!(replication(&two), Replication::Behind { lag: Duration::from_secs(9), source: 0 });
    }

    #[test]
    fn a_galera_node_writes_when_it_is_in_step() {
        let node = |state: &str, ready: &str, cluster: &str| {
            let rows = [
                ["wsrep_cluster_state_uuid", "e2c9a15e-5485-11e0-0800-6bbb637e7211"],
                ["wsrep_cluster_status", cluster],
                ["wsrep_local_state", state],
                ["wsrep_ready", ready],
            ];
            let rows: Vec<&[&str]> = rows.iter().map(|row| &row[..]).collect();
            let seen = Seen::new(&table(&["read_only", "wsrep_on"], &[&["0", "1"]]));
            Seen { cluster: galera(&table(&["Variable_name", "Value"], &rows)), ..seen }.look()
        };
        let synced = node("4", "ON", "Primary");
        assert_eq!(synced.standing, Standing::Writable);
        assert_eq!(synced.cluster.as_deref(), Some("e2c9a15e-5485-11e0-0800-6bbb637e7211"));
        // Joining, donor or desynced, joined.
        for state in ["1", "2", "3"] {
            assert_eq!(node(state, "ON", "Primary").standing, Standing::Unready, "{state}");
        }
        assert_eq!(node("4", "OFF", "Primary").standing, Standing::Unready);
        assert_eq!(node("4", "ON", "non-Primary").standing, Standing::Unready);
        let lead = |has_all: bool| {
            let member = Membership { name: "e2c9".into(), in_step: true, may_write: true, has_all };
            let seen = Seen::new(&table(&["read_only", "wsrep_on"], &[&["0", "1"]]));
            Seen { cluster: Some(member), ..seen }.in_succession().look().standing
        };
        assert_eq!(
            (lead(true), lead(false)),
            (Standing::Writable, Standing::Follows),
            "it may lack what clients wrote"
        );
        let without = Seen::new(&table(&["read_only", "wsrep_on"], &[&["0", "1"]]));
        assert_eq!(without.look().standing, Standing::Unready, "a node that lost its provider");
    }

    #[test]
    fn a_member_of_a_group_writes_when_the_group_says_so() {
        // As in "The replication_group_members Table"; the first column is computed by the question.
        let member = |rows: &[&[&str]], read_only: &str| {
            let columns = ["read_only", "super_read_only", "group_replication_group_name"];
            let seen = Seen::new(&table(&columns, &[&["0", read_only, "aaaa-bbbb"]]));
            Seen { cluster: group(&table(&["me", "state", "role"], rows), "aaaa-bbbb"), ..seen }.look().standing
        };
        let primary: &[&str] = &["1", "ONLINE", "PRIMARY"];
        let others: [&[&str]; 2] = [&["0", "ONLINE", "SECONDARY"], &["0", "ONLINE", "SECONDARY"]];
        assert_eq!(member(&[primary, others[0], others[1]], "0"), Standing::Writable);
        assert_eq!(
            member(&[primary, others[0], others[1]], "1"),
            Standing::Follows,
            "its last word is super_read_only"
        );
        assert_eq!(member(&[&["1", "ONLINE", "SECONDARY"], &["0", "ONLINE", "PRIMARY"]], "1"), Standing::Follows);
        for state in ["RECOVERING", "OFFLINE", "ERROR", "UNREACHABLE"] {
            assert_eq!(member(&[&["1", state, "PRIMARY"], others[0], others[1]], "0"), Standing::Unready, "{state}");
        }
        let cut_off: [&[&str]; 2] = [&["0", "UNREACHABLE", "SECONDARY"], &["0", "UNREACHABLE", "SECONDARY"]];
        assert_eq!(member(&[primary, cut_off[0], cut_off[1]], "0"), Standing::Unready, "the smaller part of the group");
        assert_eq!(member(&[], "0"), Standing::Unready, "group replication was stopped");
    }

    #[test]
    fn a_server_of_its_own_writes_unless_it_follows_or_hides_it() {
        let with = |replication| Seen { replication, ..Seen::new(&table(&["read_only"], &[&["0"]])) }.look().standing;
        assert_eq!(with(Replication::None), Standing::Writable);
        assert_eq!(with(Replication::Hidden), Standing::Unready);
        assert_eq!(with(Replication::Behind { lag: Duration::ZERO, source: 1 }), Standing::Follows);
        assert_eq!(with(Replication::Disconnected), Standing::Follows);
        assert_eq!(with(Replication::Broken), Standing::Follows);
    }
}
