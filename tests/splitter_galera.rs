//! Members of a Galera cluster behind the splitter, by a script: which of them writes, which of them is left alone, and
//! what they are asked in front of reads.

mod support;

#[path = "support/found.rs"]
#[allow(dead_code, reason = "other tests have a real cluster")]
mod found;
#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests have a real cluster")]
mod mariadb;
#[path = "support/mysql8.rs"]
#[allow(dead_code, reason = "other tests log on in other ways")]
mod mysql8;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use found::*;
use mariadb::{PASSWORD, USER};
use mysql_async::prelude::Queryable;
use mysql8::{Full, Mysql8, Reply, RsaKey};
use support::ports;
use support::*;

/// A read that any node may answer, and the question in front of it whether a node has what was written.
const READ: &str = "SELECT a FROM t";
const WAIT: &str = "SET STATEMENT wsrep_sync_wait=1 FOR SELECT 0";
/// What the monitor asks of a node that may become the writer.
const CATCH_UP: &str = "SET STATEMENT wsrep_sync_wait=1 FOR SELECT 1";

/// What a node says that has not applied everything in time.
const LATE: Reply = Reply::Error(1205, "HY000", "Lock wait timeout exceeded; try restarting transaction");

/// What a scripted member of a Galera cluster says.
struct Node {
    /// What it answers to [`READ`].
    number: u32,
    /// Error number for INSERT; 0: it is executed.
    refuses: AtomicUsize,
    /// The same for [`READ`].
    refuses_reads: AtomicUsize,
    /// It does not catch up with the others in time.
    is_late: AtomicBool,
    /// Error number for [`CATCH_UP`]; 0: it has caught up.
    refuses_to_lead: AtomicUsize,
    is_synced: AtomicBool,
    inserts: AtomicUsize,
    /// Each [`READ`] and [`WAIT`] that came.
    heard: Mutex<Vec<&'static str>>,
}

impl Node {
    fn new(number: u32) -> Node {
        Node {
            number,
            refuses: AtomicUsize::new(0),
            refuses_reads: AtomicUsize::new(0),
            is_late: AtomicBool::new(false),
            refuses_to_lead: AtomicUsize::new(0),
            is_synced: AtomicBool::new(true),
            inserts: AtomicUsize::new(0),
            heard: Mutex::default(),
        }
    }

    fn answer(&self, sql: &str) -> Reply {
        let text = |text: &str| Some(text.to_owned());
        let row = |value: u32| Reply::Rows(vec!["a"], vec![vec![Some(value.to_string())]]);
        let refusal = |code: usize| match code {
            1047 => Reply::Error(1047, "08S01", "WSREP has not yet prepared node for application use"),
            _ => Reply::Error(1053, "08S01", "Server shutdown in progress"),
        };
        let state = if self.is_synced.load(Ordering::Relaxed) { "4" } else { "2" };
        if sql.starts_with("SHOW GLOBAL VARIABLES") {
            let names = ["read_only", "wsrep_on"].map(|name| vec![text(name), text("")]);
            Reply::Rows(vec!["Variable_name", "Value"], names.to_vec())
        } else if sql.starts_with("SELECT @@global.read_only") {
            Reply::Rows(vec!["read_only", "wsrep_on"], vec![vec![text("0"), text("1")]])
        } else if sql.starts_with("SHOW GLOBAL STATUS") {
            let rows = [
                ("wsrep_local_state", state),
                ("wsrep_ready", "ON"),
                ("wsrep_cluster_status", "Primary"),
                ("wsrep_cluster_state_uuid", "e2c9a15e-5485-11e0-0800-6bbb637e7211"),
            ];
            let rows = rows.map(|(name, value)| vec![text(name), text(value)]);
            Reply::Rows(vec!["Variable_name", "Value"], rows.to_vec())
        } else if sql.starts_with("INSERT") {
            self.inserts.fetch_add(1, Ordering::Relaxed);
            match self.refuses.load(Ordering::Relaxed) {
                0 => Reply::Done(1, 2),
                code => {
                    self.is_synced.store(false, Ordering::Relaxed);
                    refusal(code)
                }
            }
        } else if sql == WAIT {
            self.heard.lock().expect("a lock").push(WAIT);
            match self.is_late.load(Ordering::Relaxed) {
                false => row(0),
                true => LATE,
            }
        } else if sql.starts_with(CATCH_UP) {
            match self.refuses_to_lead.load(Ordering::Relaxed) {
                0 => row(1),
                1064 => Reply::Error(1064, "42000", "You have an error in your SQL syntax"),
                _ => LATE,
            }
        } else if sql == READ {
            self.heard.lock().expect("a lock").push(READ);
            match self.refuses_reads.load(Ordering::Relaxed) {
                0 => row(self.number),
                code => refusal(code),
            }
        } else {
            Reply::Fine
        }
    }
}

/// A cluster of scripted nodes behind a splitter.
struct Cluster {
    nodes: Vec<(Arc<Node>, Mysql8)>,
    server: Server,
}

impl Cluster {
    /// The first node leads.
    fn start(nodes: u32) -> Cluster {
        Cluster::start_with(nodes, "")
    }

    /// The same with these lines of the splitter's table.
    fn start_with(nodes: u32, keys: &str) -> Cluster {
        let key = RsaKey::new();
        let identity = || support::tls::trusted().server(&["127.0.0.1"], support::tls::Kind::Ecdsa);
        let start_node = |number: u32| {
            let node = Arc::new(Node::new(number));
            let server = Mysql8::start(Full::Warm, USER, PASSWORD, &key, identity());
            let script = node.clone();
            server.answer_with(move |sql| script.answer(sql));
            (node, server)
        };
        let nodes: Vec<_> = (0..nodes).map(start_node).collect();
        let server = start(nodes.iter().map(|(_, server)| server.port()), keys);
        let cluster = Cluster { nodes, server };
        cluster.wait_for_primary(0);
        cluster
    }

    fn node(&self, n: usize) -> &Node {
        &self.nodes[n].0
    }

    fn of(&self, n: usize, field: &str) -> String {
        field_of(&show(&self.server), self.nodes[n].1.port(), field)
    }

    fn wait_for_primary(&self, n: usize) {
        wait_for_primary(&self.server, self.nodes[n].1.port());
    }

    fn wait_for_reads(&self, n: usize) {
        eventually("the node gets reads", || self.of(n, "up") == "true");
    }

    /// INSERTs that each node got.
    fn inserts(&self) -> Vec<usize> {
        self.nodes.iter().map(|(node, _)| node.inserts.load(Ordering::Relaxed)).collect()
    }

    /// What a node was asked since the last time.
    fn heard(&self, n: usize) -> Vec<&'static str> {
        std::mem::take(&mut self.node(n).heard.lock().expect("a lock"))
    }

    fn metric(&self, name: &str) -> f64 {
        self.server.metric(&format!("one_server_splitter_{name}_total"), "{splitter=\"db\"}")
    }
}

/// A Galera node that is not ready (1047) has executed nothing: it is ejected, and another one takes the statement. One
/// that shuts down (1053) may have: only a read is tried again.
#[test]
fn trap_38_a_galera_node_that_is_not_ready_is_ejected_and_one_that_shuts_down_is_not_trusted() {
    let cluster = Cluster::start(3);
    block_on(async {
        let mut conn = connect(cluster.server.address("db")).await;
        conn.query_drop("INSERT INTO t VALUES (1)").await.expect("the first node writes");
        assert_eq!(cluster.inserts(), [1, 0, 0], "one writer, though all could");

        cluster.node(0).refuses.store(1047, Ordering::Relaxed);
        conn.query_drop("INSERT INTO t VALUES (2)").await.expect("another node takes it");
        assert_eq!(cluster.inserts(), [2, 1, 0]);
        cluster.wait_for_primary(1);
        assert_eq!(cluster.of(0, "up"), "false");
        cluster.node(0).refuses.store(0, Ordering::Relaxed);
        cluster.node(0).is_synced.store(true, Ordering::Relaxed);
        eventually("it is in step again", || cluster.of(0, "up") == "true");
        assert_eq!(cluster.of(1, "role"), "primary", "the writer stays");

        cluster.node(1).refuses.store(1053, Ordering::Relaxed);
        let error = code(conn.query_drop("INSERT INTO t VALUES (3)").await);
        assert_eq!((error, cluster.inserts()), (1053, vec![2, 2, 0]), "told, not repeated");
        cluster.wait_for_primary(0);
        cluster.wait_for_reads(2);
        (0..3).for_each(|n| drop(cluster.heard(n)));
        let fallbacks = cluster.metric("causal_fallbacks");
        cluster.node(2).refuses_reads.store(1053, Ordering::Relaxed);
        assert_eq!(one::<u32>(&mut conn, READ).await, 0, "a read is tried again, on the primary");
        assert_eq!([0, 1, 2].map(|n| cluster.heard(n)), [vec![READ], vec![], vec![WAIT, READ]]);
        assert_eq!(cluster.metric("causal_fallbacks"), fallbacks, "the node had caught up: it is for the error alone");
        cluster.node(2).refuses_reads.store(0, Ordering::Relaxed);
        assert_eq!(one::<u32>(&mut conn, READ).await, 2, "and the node is asked again");
    });
}

/// On another node than the writer's a session waits until that has applied what the session wrote (`wsrep_sync_wait`), once
/// for each write. Sessions that wrote nothing do not.
#[test]
fn galera_catches_up_in_front_of_a_read_behind_a_write() {
    let cluster = Cluster::start(2);
    cluster.wait_for_reads(1);
    block_on(async {
        let (mut writer, mut reader) =
            (connect(cluster.server.address("db")).await, connect(cluster.server.address("db")).await);
        assert_eq!(one::<u32>(&mut writer, READ).await, 1);
        assert_eq!(cluster.heard(1), [READ], "nothing is to be waited for");
        writer.query_drop("INSERT INTO t VALUES (1)").await.expect("written");
        assert_eq!(one::<u32>(&mut writer, READ).await, 1);
        assert_eq!(cluster.heard(1), [WAIT, READ]);
        assert_eq!(one::<u32>(&mut writer, READ).await, 1);
        assert_eq!(one::<u32>(&mut reader, READ).await, 1);
        assert_eq!(cluster.heard(1), [READ, READ], "it has caught up, and the other one wrote nothing");
        writer.query_drop("INSERT INTO t VALUES (2)").await.expect("written");
        assert_eq!(one::<u32>(&mut writer, READ).await, 1);
        assert_eq!(cluster.heard(1), [WAIT, READ], "for each write anew");

        writer.query_drop("INSERT INTO t VALUES (3)").await.expect("written");
        cluster.node(1).is_late.store(true, Ordering::Relaxed);
        assert_eq!(
            one::<u32>(&mut writer, READ).await,
            0,
            "what a late node says is thrown away: the primary is asked"
        );
        assert_eq!((cluster.heard(0), cluster.heard(1)), (vec![READ], vec![WAIT, READ]));
        assert_eq!(cluster.metric("causal_fallbacks"), 1.0);
        cluster.node(1).is_late.store(false, Ordering::Relaxed);
        assert_eq!(one::<u32>(&mut writer, READ).await, 1);
        assert_eq!(cluster.heard(1), [WAIT, READ], "it has not caught up with that write before");
    });
}

/// What a node is asked in front of a read: by one who wrote, by the same one again, by one who wrote nothing.
#[test]
fn each_level_of_causal_reads_has_galera_catch_up_as_often_as_it_must() {
    let (at_once, waits) = (vec![READ], vec![WAIT, READ]);
    for (level, expect) in [
        ("off", [&at_once, &at_once, &at_once]),
        ("session", [&waits, &at_once, &at_once]),
        ("node", [&waits, &waits, &waits]),
        ("strict", [&waits, &waits, &waits]),
    ] {
        let cluster = Cluster::start_with(2, &format!("causal_reads = \"{level}\""));
        cluster.wait_for_reads(1);
        block_on(async {
            let address = cluster.server.address("db");
            let (mut writer, mut reader) = (connect(address).await, connect(address).await);
            writer.query_drop("INSERT INTO t VALUES (1)").await.expect("written");
            for (conn, expect) in [0, 0, 1].into_iter().zip(expect) {
                let conn = if conn == 0 { &mut writer } else { &mut reader };
                assert_eq!(one::<u32>(conn, READ).await, 1, "{level}");
                assert_eq!(cluster.heard(1), *expect, "{level}");
            }
        });
    }
}

/// Another node becomes the writer once it has applied what clients were told by the one before; one that cannot be asked for that
/// counts as having it.
#[test]
fn a_galera_node_that_lags_behind_does_not_begin_to_write() {
    let cluster = Cluster::start(3);
    cluster.node(1).refuses_to_lead.store(1205, Ordering::Relaxed);
    cluster.node(2).refuses_to_lead.store(1064, Ordering::Relaxed);
    cluster.node(0).is_synced.store(false, Ordering::Relaxed);
    cluster.wait_for_primary(2);
    cluster.node(2).is_synced.store(false, Ordering::Relaxed);
    eventually("nobody may write", || show(&cluster.server)["vacancy"].is_string());
    eventually("but reads go on", || cluster.of(1, "up") == "true");
    cluster.node(1).refuses_to_lead.store(0, Ordering::Relaxed);
    cluster.wait_for_primary(1);
}
