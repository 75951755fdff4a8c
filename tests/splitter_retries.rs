//! What is tried again elsewhere, and what never: a read of which the client has not seen a byte, a statement that a server
//! refused without executing it. What a client was shown is not shown again, and what a server that was replaced says of a
//! write is not believed.

mod support;

#[path = "support/found.rs"]
#[allow(dead_code, reason = "other tests have a real cluster that changes its primary")]
mod found;
#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/mysql8.rs"]
#[allow(dead_code, reason = "other tests log on in other ways")]
mod mysql8;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests have one worker and no relays")]
mod split;
#[path = "support/sql_relay.rs"]
#[allow(dead_code, reason = "other tests cut packets into pieces")]
mod sql_relay;
#[path = "support/sql_wire.rs"]
#[allow(dead_code, reason = "other tests send broken packets")]
mod sql_wire;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use found::{block_on, code, connect, one, show, wait_for_primary};
use mariadb::{PASSWORD, USER};
use mysql_async::prelude::Queryable;
use mysql8::{Full, Mysql8, Reply, RsaKey};
use sql_relay::{Cut, Relay};
use sql_wire::{LogOn, Piece, Wire, text_values};
use support::ports;
use support::*;

/// The splitter's error for a connection that broke.
const LOST: u16 = 1158;
/// Rows of `d.wide`, each longer than 200 bytes.
const ROWS: usize = 1000;
/// Of a read's answer so many bytes at most are held back until the rest of it is there.
const HELD_BACK: usize = 4096;

/// Replicas of a cluster, each behind a relay, and a splitter.
struct Scene<'a> {
    cluster: &'a mariadb::Cluster,
    relays: Vec<Relay>,
    address: SocketAddr,
    _splitter: Server,
}

/// A primary and two replicas that tell who they are.
fn cluster() -> mariadb::Cluster {
    let cluster = mariadb::Cluster::start(2);
    cluster.primary.sql(&format!(
        "CREATE TABLE d.who (id INT) ENGINE=InnoDB; INSERT INTO d.who VALUES (1);
         CREATE TABLE d.wide (n INT PRIMARY KEY, pad CHAR(200)) ENGINE=InnoDB;
         INSERT INTO d.wide SELECT seq, REPEAT('x', 200) FROM d.seq_1_to_{ROWS}"
    ));
    cluster.wait_for_replicas();
    for replica in &cluster.replicas {
        replica.sql(&format!("SET sql_log_bin=0; UPDATE d.who SET id={}", replica.id));
    }
    cluster
}

fn scene(cluster: &mariadb::Cluster, driver: Driver) -> Scene<'_> {
    let relays: Vec<_> = cluster.replicas.iter().map(|replica| Relay::to(replica.port)).collect();
    let ports: Vec<_> = relays.iter().map(|relay| relay.address.port()).collect();
    let splitter = split::site_of(driver, "127.0.0.1:0", cluster.primary.port, &ports, "").start();
    let address = splitter.address("db");
    eventually("both replicas get reads", || {
        let servers = &splitter.status()["splitters"][0]["servers"];
        (1..=2).all(|server| servers[server]["up"] == true)
    });
    Scene { cluster, relays, address, _splitter: splitter }
}

impl Scene<'_> {
    fn connect(&self) -> Wire {
        Wire::connect(self.address, &LogOn::new(USER, PASSWORD, Some("d"))).expect("a login")
    }

    /// Rows that each server has sent, the primary first.
    fn rows_sent(&self) -> Vec<u64> {
        let servers = [&self.cluster.primary].into_iter().chain(&self.cluster.replicas);
        servers.map(|server| server.counter("Rows_sent")).collect()
    }
}

/// The number of the server where a session reads.
fn reads_at(wire: &mut Wire) -> usize {
    wire.row("SELECT id FROM who")[0].as_deref().expect("a value").parse().expect("a number")
}

/// All of `d.wide`, or its first rows; the number of the server comes with each.
fn read(marker: &str, rows: usize) -> String {
    format!("SELECT id, n, pad FROM wide, who WHERE n <= {rows} ORDER BY n /* {marker} */")
}

/// Rows of an answer, each the number of its server and its own, and the error at the end, if there is one.
#[track_caller]
fn parts(answer: &[Piece]) -> (Vec<(usize, usize)>, Option<u16>) {
    let [Piece::Rows { rows, end: Some(end), .. }] = answer else { panic!("{answer:?}") };
    let number = |value: &Option<String>| value.as_deref().expect("a value").parse().expect("a number");
    let rows = rows.iter().map(|row| text_values(row)).map(|values| (number(&values[0]), number(&values[1])));
    (rows.collect(), end.code())
}

/// Rows 1 to `count`, by this server.
fn rows_of(server: usize, count: usize) -> Vec<(usize, usize)> {
    (1..=count).map(|n| (server, n)).collect()
}

/// Bytes of an answer up to the end of its row `count`, as a server sends it that needs no EOF behind the columns.
fn bytes_until(answer: &[Piece], count: usize) -> usize {
    let [Piece::Rows { columns, rows, .. }] = answer else { panic!("{answer:?}") };
    let packets = columns.iter().chain(&rows[..count]).map(|packet| 4 + packet.len());
    5 + packets.sum::<usize>()
}

/// Of a long answer the client has seen the beginning when the connection breaks: what it gets is an error behind whole rows,
/// or the end of its connection. The rest, or the same again, would be another server's.
#[test]
fn a_read_of_which_rows_were_shown_is_not_tried_again() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster();
    for driver in [Driver::IoUring, Driver::Epoll] {
        let scene = scene(&cluster, driver);
        let mut wire = scene.connect();
        let whole = wire.query(read("whole", ROWS)).expect("an answer");
        let server = reads_at(&mut wire);
        assert_eq!(parts(&whole), (rows_of(server, ROWS), None));
        assert!(bytes_until(&whole, ROWS) > 200 << 10);
        // Behind so many rows, and so far into the next one's packet.
        let cuts = [(40, 0), (600, 0), (40, 100), (600, 3), (ROWS - 1, 60)];
        for (turn, (count, more)) in cuts.into_iter().enumerate() {
            let before = scene.rows_sent();
            let at = reads_at(&mut wire);
            let (marker, bytes) = (format!("cut-{turn}"), bytes_until(&whole, count) + more);
            assert!(bytes > HELD_BACK);
            scene.relays[at - 2].cut(&marker, Cut::InAnswer(bytes));
            match wire.query(read(&marker, ROWS)) {
                Ok(answer) => {
                    assert_eq!(parts(&answer), (rows_of(at, count), Some(LOST)), "{bytes}");
                    assert!(more < 4, "half a row cannot be followed by an error");
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
                    assert!(more >= 4, "an error fits behind a whole row");
                    wire = scene.connect();
                }
            }
            assert!(scene.relays[at - 2].has_cut());
            reads_at(&mut wire);
            for (n, (before, now)) in before.iter().zip(scene.rows_sent()).enumerate() {
                assert!(n + 1 == at || now - before < ROWS as u64, "server {} was asked for the rows, too", n + 1);
            }
        }
    }
}

/// The client has seen nothing yet: it gets all of the answer, once, from whoever is there.
#[test]
fn a_read_of_which_nothing_was_shown_is_answered_by_another_server() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster();
    for driver in [Driver::IoUring, Driver::Epoll] {
        let scene = scene(&cluster, driver);
        let mut wire = scene.connect();
        let small = wire.query(read("whole", 10)).expect("an answer");
        assert!(bytes_until(&small, 10) < HELD_BACK);
        // In the columns, between two rows, in a row, before the last packet; and early in a long answer.
        let cuts = [3, bytes_until(&small, 0) - 1, bytes_until(&small, 4), bytes_until(&small, 4) + 9];
        let cuts = cuts.into_iter().chain([bytes_until(&small, 10)]).map(|bytes| (10, bytes)).chain([(ROWS, 4000)]);
        for (turn, (count, bytes)) in cuts.enumerate() {
            let marker = format!("early-{turn}-{bytes}");
            let at = reads_at(&mut wire);
            scene.relays[at - 2].cut(&marker, Cut::InAnswer(bytes));
            let answer = wire.query(read(&marker, count)).expect("an answer");
            let (rows, error) = parts(&answer);
            assert!(scene.relays[at - 2].has_cut(), "{marker}");
            assert_eq!((rows.len(), error), (count, None), "{marker}");
            assert_eq!(rows, rows_of(rows[0].0, count), "{marker}");
        }
        // One connection that breaks says little of its server; the second one does.
        let at = reads_at(&mut wire);
        scene.relays[at - 2].cut_times("twice", Cut::InAnswer(bytes_until(&small, 4)), 2);
        let answer = wire.query(read("twice", 10)).expect("an answer");
        assert!(scene.relays[at - 2].has_cut());
        assert_eq!(parts(&answer), (rows_of(5 - at, 10), None), "by the other replica");
        // And when all of them break, by the primary.
        for relay in &scene.relays {
            relay.cut_times("all", Cut::InAnswer(bytes_until(&small, 4)), 2);
        }
        let answer = wire.query(read("all", 10)).expect("an answer");
        assert_eq!(parts(&answer), (rows_of(1, 10), None), "by the primary");
    }
}

/// A session that has something on its connection, or a transaction open there, has it no more when that breaks. Its read is not
/// asked of anybody else, though nothing of it was shown: the answer could be another one.
#[test]
fn a_read_of_a_session_that_is_pinned_is_not_tried_again() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster();
    let servers: Vec<_> = [&cluster.primary].into_iter().chain(&cluster.replicas).collect();
    for server in &servers {
        server.sql("SET GLOBAL log_output='TABLE', general_log=1");
    }
    for driver in [Driver::IoUring, Driver::Epoll] {
        let relays: Vec<_> = servers.iter().map(|server| Relay::to(server.port)).collect();
        let ports: Vec<_> = relays.iter().map(|relay| relay.address.port()).collect();
        let splitter = split::site_of(driver, "127.0.0.1:0", ports[0], &ports[1..], "").start();
        eventually("both replicas get reads", || {
            let servers = &splitter.status()["splitters"][0]["servers"];
            (1..=2).all(|server| servers[server]["up"] == true)
        });
        let pins = ["SET @mine = 1", "CREATE TEMPORARY TABLE mine (n INT)", "DO GET_LOCK('mine', 0)", "BEGIN"];
        let read_only = "START TRANSACTION READ ONLY";
        for (turn, pin) in pins.into_iter().chain([read_only]).enumerate() {
            for cut in [Cut::BeforeStatement, Cut::InAnswer(0), Cut::InAnswer(9)] {
                let mut wire =
                    Wire::connect(splitter.address("db"), &LogOn::new(USER, PASSWORD, Some("d"))).expect("a login");
                wire.query(pin).expect("done");
                // Whatever a server has seen is read there.
                let at = reads_at(&mut wire);
                assert_eq!(at == 1, pin != read_only, "{pin}");
                let marker = format!("pinned-{driver:?}-{turn}-{cut:?}");
                relays[at - 1].cut(&marker, cut);
                match wire.query(read(&marker, 10)) {
                    Ok(answer) => {
                        assert_eq!(answer.iter().map(Piece::code).collect::<Vec<_>>(), [Some(LOST)], "{pin} {cut:?}")
                    }
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{pin} {cut:?}: {error}"),
                }
                assert!(relays[at - 1].has_cut(), "{pin} {cut:?}");
                let sql = format!("SELECT COUNT(*) FROM mysql.general_log WHERE argument LIKE 'SELECT id%{marker}%'");
                let runs: Vec<String> = servers.iter().map(|server| server.sql(&sql)).collect();
                let expected = |n| if n + 1 == at && cut != Cut::BeforeStatement { "1" } else { "0" };
                assert_eq!(runs, [0usize, 1, 2].map(expected), "{driver:?} {pin} {cut:?}");
            }
        }
    }
}

/// What a scripted server does.
#[derive(Default)]
struct Node {
    /// Its part of the answer to [`READ`].
    number: u32,
    read_only: AtomicBool,
    /// Error number for statements about `t`; 0: none.
    refuses: AtomicU16,
    /// Who takes over once it has refused a write.
    successor: Mutex<Option<Arc<Node>>>,
    /// It does not answer what it keeps in `heard`, but for reads, as long as this is so.
    is_stuck: AtomicBool,
    /// KILL QUERY that came. The first one is lost, as one that overtakes its statement.
    kills: AtomicUsize,
    /// Statements about `t`, and what ends a transaction by committing it.
    heard: Mutex<Vec<String>>,
    /// One client at a time has a transaction here, over one connection.
    in_transaction: AtomicBool,
}

const READ: &str = "SELECT a FROM t";
const WRITE: &str = "INSERT INTO t VALUES (1)";
const CALL: &str = "SET @a = f()";
/// A read by its text; a function of the view writes.
const VIEW: &str = "SELECT a FROM v";
const AUTOCOMMIT: u16 = 2;
const IN_TRANSACTION: u16 = 3;
/// Statements that commit, and whether another transaction begins with them.
const COMMITS: [(&str, bool); 5] = [
    ("COMMIT", false),
    ("COMMIT AND CHAIN", true),
    ("BEGIN", true),
    ("START TRANSACTION READ WRITE", true),
    ("SET autocommit=1", false),
];

impl Node {
    fn answer(&self, sql: &str) -> Reply {
        let text = |text: &str| Some(text.to_owned());
        let is_read_only = self.read_only.load(Relaxed);
        match sql {
            _ if sql.starts_with("SHOW GLOBAL VARIABLES") => {
                Reply::Rows(vec!["Variable_name", "Value"], vec![vec![text("read_only"), text("")]])
            }
            _ if sql.starts_with("SELECT @@global.read_only") => {
                Reply::Rows(vec!["read_only"], vec![vec![text(if is_read_only { "1" } else { "0" })]])
            }
            "SHOW ALL SLAVES STATUS" => Reply::Error(1064, "42000", "You have an error in your SQL syntax"),
            "SHOW REPLICA STATUS" => {
                let names = vec!["Replica_IO_Running", "Replica_SQL_Running", "Seconds_Behind_Source"];
                let row = ["Yes", "Yes", "0"].map(text).to_vec();
                Reply::Rows(names, if is_read_only { vec![row] } else { Vec::new() })
            }
            "BEGIN" if !self.in_transaction.load(Relaxed) => {
                self.in_transaction.store(true, Relaxed);
                Reply::Done(0, IN_TRANSACTION)
            }
            "ROLLBACK" => {
                self.in_transaction.store(false, Relaxed);
                Reply::Done(0, AUTOCOMMIT)
            }
            _ if sql.starts_with("KILL QUERY ") => {
                if self.kills.fetch_add(1, Relaxed) > 0 {
                    self.is_stuck.store(false, Relaxed);
                }
                Reply::Fine
            }
            READ | WRITE | CALL | VIEW => self.answer_about_table(sql),
            _ if COMMITS.iter().any(|(commit, _)| *commit == sql) => self.answer_about_table(sql),
            _ => Reply::Fine,
        }
    }

    fn answer_about_table(&self, sql: &str) -> Reply {
        self.heard.lock().expect("a lock").push(sql.into());
        let refusal = self.refuses.load(Relaxed);
        if refusal != 0 {
            if let Some(successor) = self.successor.lock().expect("a lock").take() {
                self.hand_over(&successor);
            }
            return Reply::Error(refusal, "HY000", "refused by the script");
        }
        if sql == VIEW && self.read_only.load(Relaxed) {
            return Reply::Error(1290, "HY000", "a function of the view writes");
        }
        while sql != READ && self.is_stuck.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.kills.load(Relaxed) > 0 {
            return Reply::Error(1317, "70100", "Query execution was interrupted");
        }
        if sql == READ {
            return Reply::Rows(vec!["a"], vec![vec![Some(self.number.to_string())]]);
        }
        if sql == VIEW {
            let gtid = "3e11fa47-71ca-11e1-9e33-c80aa9429562:5";
            return Reply::Committed(vec!["a"], vec![vec![Some(self.number.to_string())]], gtid);
        }
        let commit = COMMITS.iter().find(|(commit, _)| *commit == sql);
        let goes_on = self.in_transaction.load(Relaxed) && commit.is_none_or(|(_, chains)| *chains);
        self.in_transaction.store(goes_on, Relaxed);
        Reply::Done(u8::from(sql == WRITE), if goes_on { IN_TRANSACTION } else { AUTOCOMMIT })
    }

    /// Another server takes writes from now on, and this one none.
    fn hand_over(&self, successor: &Node) {
        self.read_only.store(true, Relaxed);
        successor.read_only.store(false, Relaxed);
        successor.refuses.store(0, Relaxed);
    }

    /// What it was asked since the last time.
    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().expect("a lock"))
    }
}

/// Two scripted servers behind a splitter that finds the primary, which is the first one now.
struct Pair {
    nodes: [Arc<Node>; 2],
    servers: [Mysql8; 2],
    splitter: Server,
    address: SocketAddr,
}

fn pair() -> Pair {
    pair_with("")
}

/// With these keys of the splitter's.
fn pair_with(keys: &str) -> Pair {
    let key = RsaKey::new();
    let nodes = [1, 2].map(|number| Arc::new(Node { number, ..Node::default() }));
    nodes[1].read_only.store(true, Relaxed);
    let servers = nodes.each_ref().map(|node| {
        let identity = support::tls::trusted().server(&["127.0.0.1"], support::tls::Kind::Ecdsa);
        let server = Mysql8::start(Full::Warm, USER, PASSWORD, &key, identity);
        let script = node.clone();
        server.answer_with(move |sql| script.answer(sql));
        server
    });
    let keys = format!("causal_reads = \"off\"\nprimary_wait = \"20s\"\n{keys}");
    let splitter = found::start(servers.iter().map(Mysql8::port), &keys);
    let address = splitter.address("db");
    let pair = Pair { nodes, servers, splitter, address };
    pair.wait_for_roles(0);
    pair
}

impl Pair {
    /// Waits until this one leads and the other one gets reads.
    fn wait_for_roles(&self, primary: usize) {
        wait_for_primary(&self.splitter, self.servers[primary].port());
        let replica = self.servers[1 - primary].port();
        eventually("the replica gets reads", || found::field_of(&show(&self.splitter), replica, "up") == "true");
    }

    fn heard(&self) -> [Vec<String>; 2] {
        self.nodes.each_ref().map(|node| node.heard())
    }
}

/// A KILL that comes before its statement has begun is forgotten as it begins: it comes again.
#[test]
fn a_statement_whose_time_is_up_is_interrupted_until_it_ends() {
    let pair = pair_with("rules = [{ digest = \"INSERT INTO t*\", time_limit = \"50ms\" }]");
    let node = &pair.nodes[0];
    node.is_stuck.store(true, Relaxed);
    block_on(async {
        let mut conn = connect(pair.address).await;
        let begun = Instant::now();
        let error = conn.query_drop(WRITE).await.expect_err("its time is up").to_string();
        assert!(error.contains("the time limit of 50ms") && error.contains("1969"), "{error}");
        assert!((1..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    });
    assert_eq!(node.kills.load(Relaxed), 2);
    assert_eq!(pair.splitter.metric("one_server_splitter_time_limits_total", ""), 1.0, "one statement");
}

/// A replica that refuses what it was asked because of what it is: the primary answers. Any other error is the answer.
#[test]
fn a_read_that_a_replica_refuses_is_answered_by_the_primary() {
    let pair = pair();
    let replica = &pair.nodes[1];
    block_on(async {
        let mut conn = connect(pair.address).await;
        for refusal in [1290, 1792, 1836, 1047, 1053] {
            replica.refuses.store(refusal, Relaxed);
            assert_eq!(one::<u32>(&mut conn, READ).await, 1, "{refusal}: by the primary");
            assert_eq!(pair.heard(), [[READ], [READ]], "{refusal}: each is asked once");
            replica.refuses.store(0, Relaxed);
            assert_eq!(one::<u32>(&mut conn, READ).await, 2, "{refusal}: the replica is asked again");
            assert_eq!(pair.heard(), [vec![], vec![READ.to_owned()]]);
        }
        for error in [1105, 1205, 1213, 1317] {
            replica.refuses.store(error, Relaxed);
            assert_eq!(code(conn.query_drop(READ).await), error, "passed on");
            assert_eq!(pair.heard(), [vec![], vec![READ.to_owned()]], "{error}");
        }
    });
}

/// The primary refuses a write because it is none any more: the next one gets it, once.
#[test]
fn a_write_that_is_refused_by_a_former_primary_goes_to_the_next_one() {
    let pair = pair();
    block_on(async {
        let mut conn = connect(pair.address).await;
        for (turn, refusal) in [1290, 1836, 1792, 1047].into_iter().enumerate() {
            let [old, new] = [turn % 2, 1 - turn % 2].map(|n| &pair.nodes[n]);
            old.refuses.store(refusal, Relaxed);
            *old.successor.lock().expect("a lock") = Some(new.clone());
            conn.query_drop(WRITE).await.unwrap_or_else(|error| panic!("{refusal}: {error}"));
            assert_eq!(pair.heard(), [[WRITE], [WRITE]], "{refusal}: each is asked once");
            pair.wait_for_roles(1 - turn % 2);
        }
    });
}

/// As long as the server still leads, its refusal is the answer; in a transaction, always.
#[test]
fn a_write_that_is_refused_by_the_primary_is_not_repeated_there() {
    let pair = pair();
    let [primary, replica] = &pair.nodes;
    block_on(async {
        let mut conn = connect(pair.address).await;
        for refusal in [1290, 1836, 1792, 1047, 1053, 1205] {
            primary.refuses.store(refusal, Relaxed);
            assert_eq!(code(conn.query_drop(WRITE).await), refusal);
            assert_eq!(pair.heard(), [vec![WRITE.to_owned()], vec![]], "{refusal}");
        }
        primary.refuses.store(0, Relaxed);
        conn.query_drop("BEGIN").await.expect("begun");
        conn.query_drop(WRITE).await.expect("written");
        primary.refuses.store(1836, Relaxed);
        *primary.successor.lock().expect("a lock") = Some(replica.clone());
        assert_eq!(code(conn.query_drop(WRITE).await), 1836, "part of it is written there");
        pair.wait_for_roles(1);
        assert_eq!(pair.heard(), [vec![WRITE.to_owned(), WRITE.to_owned()], vec![]]);
        conn.query_drop("ROLLBACK").await.expect("that is what has become of it");
        conn.query_drop(WRITE).await.expect("the session goes on at the next primary");
        assert_eq!(pair.heard(), [vec![], vec![WRITE.to_owned()]]);
    });
}

/// A write is on its way when another server takes over, which may have it or not. What the old one says of it then is no
/// acknowledgement.
#[test]
fn what_a_server_says_of_a_write_after_it_was_replaced_is_no_acknowledgement() {
    let pair = pair();
    block_on(async {
        let alone = [(WRITE, false), (CALL, false)];
        let all = alone.into_iter().chain(COMMITS.map(|(commit, _)| (commit, true)));
        for (turn, (last, in_transaction)) in all.enumerate() {
            let [old, new] = [turn % 2, 1 - turn % 2].map(|n| &pair.nodes[n]);
            let mut conn = connect(pair.address).await;
            if in_transaction {
                conn.query_drop("BEGIN").await.expect("begun");
                conn.query_drop(WRITE).await.expect("written");
                old.heard();
            }
            old.is_stuck.store(true, Relaxed);
            let stuck = tokio::spawn(async move { (conn.query_drop(last).await, conn) });
            eventually("it is under way", || !old.heard.lock().expect("a lock").is_empty());
            old.hand_over(new);
            pair.wait_for_roles(1 - turn % 2);
            assert!(!stuck.is_finished(), "the old server answers all but this");
            old.is_stuck.store(false, Relaxed);
            let (result, mut conn) = stuck.await.expect("no panic");
            let error = result.expect_err("it is not known whether anything is written").to_string();
            assert!(error.contains("1158") && error.contains("outcome is unknown"), "{last}: {error}");
            assert_eq!(old.heard(), [last]);
            assert_eq!(new.heard(), Vec::<String>::new(), "{last}: it is not repeated");
            if in_transaction {
                assert!(conn.query_drop("SELECT 1").await.is_err(), "what the session had is gone with the connection");
            } else if last == WRITE {
                conn.query_drop(WRITE).await.expect("the session goes on");
                assert_eq!((old.heard().len(), new.heard().len()), (0, 1), "at the next primary");
            }
            old.in_transaction.store(false, Relaxed);
        }
    });
}

/// What is a read by its text may have written, too, as the answer of the server that was replaced tells: it is not done twice.
#[test]
fn a_read_that_wrote_on_a_server_that_was_replaced_is_not_repeated() {
    let pair = pair();
    let [old, new] = &pair.nodes;
    block_on(async {
        let mut conn = connect(pair.address).await;
        old.is_stuck.store(true, Relaxed);
        let stuck = tokio::spawn(async move { (conn.query_drop(VIEW).await, conn) });
        eventually("it is under way", || !old.heard.lock().expect("a lock").is_empty());
        old.hand_over(new);
        pair.wait_for_roles(1);
        assert!(!stuck.is_finished(), "the old server answers all but this");
        old.is_stuck.store(false, Relaxed);
        let (result, mut conn) = stuck.await.expect("no panic");
        let error = result.expect_err("it is not known whether anything is written").to_string();
        assert!(error.contains("1158") && error.contains("outcome is unknown"), "{error}");
        assert_eq!(pair.heard(), [[VIEW], [VIEW]], "the new one refused it as a replica, before");
        assert_eq!(one::<u32>(&mut conn, VIEW).await, 2, "the session goes on at the next primary");
    });
}
