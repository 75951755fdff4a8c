//! Members of a Galera cluster behind the splitter, by a script: which of them writes, which of them is left alone.

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

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use found::*;
use mariadb::{PASSWORD, USER};
use mysql_async::prelude::Queryable;
use support::ports;
use support::*;

/// What a scripted member of a Galera cluster says.
#[derive(Default)]
struct Node {
    /// Error number for INSERT; 0: it is executed.
    refuses: AtomicUsize,
    /// The same for SELECT … FROM t.
    refuses_reads: AtomicUsize,
    is_synced: AtomicBool,
    inserts: AtomicUsize,
    reads: AtomicUsize,
}

impl Node {
    fn answer(&self, sql: &str) -> mysql8::Reply {
        use mysql8::Reply;
        let text = |text: &str| Some(text.to_owned());
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
                0 => Reply::Fine,
                code => {
                    self.is_synced.store(false, Ordering::Relaxed);
                    refusal(code)
                }
            }
        } else if sql.contains("FROM t") {
            self.reads.fetch_add(1, Ordering::Relaxed);
            match self.refuses_reads.load(Ordering::Relaxed) {
                0 => Reply::Rows(vec!["a"], vec![vec![text("1")]]),
                code => refusal(code),
            }
        } else {
            Reply::Fine
        }
    }
}

/// A Galera node that is not ready (1047) has executed nothing: it is ejected, and another one takes the statement. One
/// that shuts down (1053) may have: only a read is tried again.
#[test]
fn trap_38_a_galera_node_that_is_not_ready_is_ejected_and_one_that_shuts_down_is_not_trusted() {
    let key = mysql8::RsaKey::new();
    let identity = || support::tls::trusted().server(&["127.0.0.1"], support::tls::Kind::Ecdsa);
    let nodes: Vec<(Arc<Node>, mysql8::Mysql8)> = (0..3)
        .map(|_| {
            let node = Arc::new(Node::default());
            node.is_synced.store(true, Ordering::Relaxed);
            let server = mysql8::Mysql8::start(mysql8::Full::Warm, USER, PASSWORD, &key, identity());
            let script = node.clone();
            server.answer_with(move |sql| script.answer(sql));
            (node, server)
        })
        .collect();
    let server = start(nodes.iter().map(|(_, server)| server.port()), "");
    let (address, port) = (server.address("db"), |n: usize| nodes[n].1.port());
    wait_for_primary(&server, port(0));
    let count = |n: usize| nodes[n].0.inserts.load(Ordering::Relaxed);
    block_on(async {
        let mut conn = connect(address).await;
        conn.query_drop("INSERT INTO t VALUES (1)").await.expect("the first node writes");
        assert_eq!((count(0), count(1), count(2)), (1, 0, 0), "one writer, though all could");

        nodes[0].0.refuses.store(1047, Ordering::Relaxed);
        conn.query_drop("INSERT INTO t VALUES (2)").await.expect("another node takes it");
        assert_eq!((count(0), count(1), count(2)), (2, 1, 0));
        wait_for_primary(&server, port(1));
        assert_eq!(field_of(&show(&server), port(0), "up"), "false");
        nodes[0].0.refuses.store(0, Ordering::Relaxed);
        nodes[0].0.is_synced.store(true, Ordering::Relaxed);
        eventually("it is in step again", || field_of(&show(&server), port(0), "up") == "true");
        assert_eq!(field_of(&show(&server), port(1), "role"), "primary", "the writer stays");

        nodes[1].0.refuses.store(1053, Ordering::Relaxed);
        let error = code(conn.query_drop("INSERT INTO t VALUES (3)").await);
        assert_eq!((error, count(1)), (1053, 2), "told, not repeated");
        assert_eq!((count(0), count(2)), (2, 0));
        wait_for_primary(&server, port(0));
        for node in &nodes[1..] {
            node.0.refuses_reads.store(1053, Ordering::Relaxed);
        }
        assert_eq!(one::<u32>(&mut conn, "SELECT a FROM t").await, 1, "a read is tried again");
    });
}
