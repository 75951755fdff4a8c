//! MySQL 8 servers as far as replication by GTID goes: a primary that numbers its writes and tells so in its OK packets, and
//! replicas that apply them when a test lets them. All data is one number: how many writes a server has.
//!
//! Written from the documentation: MySQL internals manual, `page_protocol_basic_ok_packet` and
//! `page_protocol_com_query_response_text_resultset`; MySQL manual, "GTID Functions". Only what is asked of them here.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::mysql8::{Full, Mysql8, RsaKey};
use super::support::tls::{Kind, trusted};

/// UUID of the primary.
pub(crate) const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

/// What all servers share.
struct World {
    state: Mutex<State>,
    changed: Condvar,
    gtid_mode: &'static str,
}

#[derive(Default)]
struct State {
    /// Writes of the primary.
    written: u64,
    /// Of these, applied by each replica.
    applied: Vec<u64>,
    /// Statements by server, primary first, as they came.
    seen: Vec<Vec<String>>,
    /// How long a server takes to answer for its variables.
    slow: BTreeMap<usize, Duration>,
}

/// A primary and its replicas.
pub(crate) struct Fleet {
    pub(crate) primary: Mysql8,
    pub(crate) replicas: Vec<Mysql8>,
    world: Arc<World>,
}

impl Fleet {
    pub(crate) fn start(replicas: usize, gtid_mode: &'static str, user: &str, password: &str) -> Fleet {
        let state =
            State { written: 0, applied: vec![0; replicas], seen: vec![Vec::new(); replicas + 1], ..State::default() };
        let world = Arc::new(World { state: Mutex::new(state), changed: Condvar::new(), gtid_mode });
        let key = RsaKey::new();
        let server = |index: usize| {
            let world = world.clone();
            let answer = move |command: &[u8]| world.answer(index, command);
            let identity = trusted().server(&["127.0.0.1"], Kind::Ecdsa);
            Mysql8::start_answering(Full::Warm, user, password, &key, identity, answer)
        };
        let primary = server(0);
        let replicas = (1..=replicas).map(server).collect();
        Fleet { primary, replicas, world }
    }

    /// A replica applies so many more of the primary's writes, by default all.
    pub(crate) fn apply(&self, replica: usize, writes: Option<u64>) {
        let mut state = self.world.state.lock().expect("a lock");
        let all = state.written;
        let applied = &mut state.applied[replica];
        *applied = writes.map_or(all, |writes| (*applied + writes).min(all));
        drop(state);
        self.world.changed.notify_all();
    }

    /// How long a server (0: the primary) takes to answer for its variables from now on.
    pub(crate) fn slow_down(&self, server: usize, by: Duration) {
        self.world.state.lock().expect("a lock").slow.insert(server, by);
    }

    /// Somebody else writes on the primary.
    pub(crate) fn write(&self) {
        self.world.state.lock().expect("a lock").written += 1;
    }

    /// Statements that a server got (0: the primary) and that have `part` in them.
    pub(crate) fn seen(&self, server: usize, part: &str) -> Vec<String> {
        let state = self.world.state.lock().expect("a lock");
        state.seen[server].iter().filter(|sql| sql.contains(part)).cloned().collect()
    }
}

impl World {
    /// Payloads of the packets that answer a command.
    fn answer(&self, server: usize, command: &[u8]) -> Vec<Vec<u8>> {
        match command.split_first() {
            Some((3, sql)) => self.query(server, &String::from_utf8_lossy(sql)),
            _ => vec![ok(0, None)],
        }
    }

    fn query(&self, server: usize, sql: &str) -> Vec<Vec<u8>> {
        let mut state = self.state.lock().expect("a lock");
        state.seen[server].push(sql.into());
        let have = if server == 0 { state.written } else { state.applied[server - 1] };
        if let Some(call) = sql.strip_prefix("SELECT WAIT_FOR_EXECUTED_GTID_SET('") {
            let (set, seconds) = call.split_once("', ").expect("two arguments");
            let limit = Duration::from_secs_f64(seconds.trim_end_matches(')').parse().expect("seconds"));
            drop(state);
            return rows(&["done"], &[vec![Some(if self.wait(server, set, limit) { "0" } else { "1" }.into())]]);
        }
        if sql.starts_with("INSERT") || sql.starts_with("SET sql_log_bin=0; INSERT") {
            state.written += 1;
            let gtid = (self.gtid_mode == "ON").then(|| format!("{UUID}:{}", state.written));
            return vec![ok(1, gtid)];
        }
        if sql.starts_with("SELECT n FROM t") {
            return rows(&["n"], &[vec![Some(have.to_string())]]);
        }
        if sql.starts_with("SELECT @@") {
            let slow = state.slow.get(&server).copied();
            drop(state);
            slow.into_iter().for_each(std::thread::sleep);
            return self.variables(server, have, sql);
        }
        if sql.starts_with("SHOW GLOBAL VARIABLES WHERE") {
            let names = ["version", "read_only", "super_read_only", "sql_mode", "log_bin", "server_id"];
            let has = names.into_iter().chain(["gtid_executed", "gtid_mode"]);
            let row = |name: &str| vec![Some(name.into()), Some(String::new())];
            return rows(&["Variable_name", "Value"], &has.map(row).collect::<Vec<_>>());
        }
        match sql {
            "SHOW ALL SLAVES STATUS" | "SHOW SLAVE STATUS" => vec![error(1064, "You have an error in your SQL syntax")],
            "SHOW REPLICA STATUS" if server == 0 => rows(&["Replica_IO_Running"], &[]),
            "SHOW REPLICA STATUS" => {
                let values = ["Yes", "Yes", "0", "127.0.0.1", "3306"].map(|text| Some(text.into())).to_vec();
                let names = [
                    "Replica_IO_Running",
                    "Replica_SQL_Running",
                    "Seconds_Behind_Source",
                    "Source_Host",
                    "Source_Port",
                ];
                rows(&names, &[values])
            }
            "SHOW GRANTS" => rows(&["Grants"], &[vec![Some("GRANT SELECT ON `d`.* TO `app`@`%`".into())]]),
            _ => vec![ok(0, None)],
        }
    }

    /// Whether the server gets everything in `set` in time.
    fn wait(&self, server: usize, set: &str, limit: Duration) -> bool {
        let last = |interval: &str| -> u64 { interval.rsplit('-').next().expect("a part").parse().expect("a number") };
        let wanted = set.split(':').skip(1).map(last).max().expect("an interval");
        assert!(set.starts_with(UUID), "another source: {set}");
        let (deadline, mut state) = (Instant::now() + limit, self.state.lock().expect("a lock"));
        while state.applied[server - 1] < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).expect("a lock").0;
        }
        true
    }

    /// `SELECT @@a, @@global.b`
    fn variables(&self, server: usize, have: u64, sql: &str) -> Vec<Vec<u8>> {
        let executed = if have == 0 { String::new() } else { format!("{UUID}:1-{have}") };
        let read_only = if server == 0 { "0" } else { "1" };
        let known = BTreeMap::from([
            ("version", "8.4.3"),
            ("read_only", read_only),
            ("super_read_only", read_only),
            ("sql_mode", ""),
            ("log_bin", "1"),
            ("gtid_executed", &executed),
            ("gtid_mode", self.gtid_mode),
            ("character_set_connection", "utf8mb4"),
            ("max_allowed_packet", "16777216"),
            ("wait_timeout", "28800"),
            ("socket", ""),
            ("collation_connection", "utf8mb4_0900_ai_ci"),
        ]);
        let parts = sql["SELECT ".len()..].split(',').map(|part| part.trim().trim_start_matches("@@"));
        let names: Vec<_> = parts.map(|part| part.split_once(" AS ").map_or(part, |(_, name)| name)).collect();
        let mut values = Vec::new();
        for name in &names {
            let plain = name.rsplit('.').next().expect("a name");
            match plain {
                "server_id" => values.push(Some((server + 1).to_string())),
                "server_uuid" if server == 0 => values.push(Some(UUID.to_owned())),
                "server_uuid" => values.push(Some(format!("{server:08x}-71ca-11e1-9e33-c80aa9429562"))),
                _ => match known.get(plain) {
                    Some(value) => values.push(Some((*value).to_owned())),
                    None => return vec![error(1193, &format!("Unknown system variable '{plain}'"))],
                },
            }
        }
        rows(&names, &[values])
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 251, "short texts alone");
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// OK with the GTIDs that were committed.
fn ok(affected_rows: u8, gtids: Option<String>) -> Vec<u8> {
    let mut out = vec![0, affected_rows, 0];
    let status: u16 = 2 | if gtids.is_some() { 1 << 14 } else { 0 };
    out.extend_from_slice(&status.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    let Some(gtids) = gtids else { return out };
    put_text(&mut out, "");
    let mut entry = vec![0]; // encoding specification
    put_text(&mut entry, &gtids);
    out.push(entry.len() as u8 + 2);
    out.extend_from_slice(&[3, entry.len() as u8]); // SESSION_TRACK_GTIDS
    out.extend_from_slice(&entry);
    out
}

fn error(code: u16, message: &str) -> Vec<u8> {
    [&[0xFF], &code.to_le_bytes()[..], b"#HY000", message.as_bytes()].concat()
}

/// A result for clients with CLIENT_DEPRECATE_EOF.
fn rows(names: &[&str], rows: &[Vec<Option<String>>]) -> Vec<Vec<u8>> {
    let mut packets = vec![vec![names.len() as u8]];
    for name in names {
        let mut column = Vec::new();
        for text in ["def", "", "", "", name, ""] {
            put_text(&mut column, text);
        }
        // Character set utf8mb4, 1,024 bytes, VARCHAR.
        column.extend_from_slice(&[12, 45, 0, 0, 4, 0, 0, 253, 0, 0, 0, 0, 0]);
        packets.push(column);
    }
    for row in rows {
        let mut packet = Vec::new();
        for value in row {
            match value {
                Some(text) => put_text(&mut packet, text),
                None => packet.push(0xFB),
            }
        }
        packets.push(packet);
    }
    packets.push(vec![0xFE, 0, 0, 2, 0, 0, 0]);
    packets
}
