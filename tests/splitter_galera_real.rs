//! The splitter before a real Galera cluster, where every node takes writes: one of them gets all, reads on the others wait for
//! what they must see, and a node that the cluster has left behind gets nothing. No write may be acknowledged and lost.

mod support;

#[path = "support/found.rs"]
#[allow(dead_code, reason = "other tests look at servers that replicate")]
mod found;
#[path = "support/galera.rs"]
mod galera;
#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests have replicas")]
mod mariadb;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use found::{block_on, code, connect, field_of, id, one, show};
use galera::{Galera, Held, status};
use mariadb::{PASSWORD, USER};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use support::*;

/// Rows of `t`, and the `server_id` of the node that says so.
const READ: &str = "SELECT COUNT(*), (SELECT id FROM who) FROM t";

/// A cluster, and splitters of each level of causal reads before it. `db` has the default one.
struct Scene {
    galera: Galera,
    server: Server,
}

impl Scene {
    fn start() -> Scene {
        let galera = Galera::start(3);
        galera.nodes[0].sql(
            "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, n INT); CREATE TABLE d.who (id INT PRIMARY KEY);
             CREATE TABLE d.log (token VARCHAR(40) PRIMARY KEY); INSERT INTO d.who VALUES (1)",
        );
        let ports = || galera.nodes.iter().map(|node| node.port);
        let keys = "primary_wait = \"60s\"\ncausal_timeout = \"60s\"\n";
        let mut site = found::site(ports(), keys);
        for (name, keys) in [
            ("off", "causal_reads = \"off\""),
            ("node", "causal_reads = \"node\"\ncausal_timeout = \"60s\""),
            ("strict", "causal_reads = \"strict\"\ncausal_timeout = \"60s\""),
            ("hasty", "causal_reads = \"strict\"\ncausal_timeout = \"200ms\""),
        ] {
            let servers: Vec<_> = ports().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
            site = site.more(&format!(
                "[mysql.{name}]\nlisten = \"127.0.0.1:0\"\nservers = [{}]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
                 monitor_interval = \"100ms\"\nprimary_dwell = \"500ms\"\nprimary_wait = \"60s\"\n{keys}\n",
                servers.join(", ")
            ));
        }
        let scene = Scene { server: site.start(), galera };
        scene.tell_apart();
        scene.wait_for_primary(0);
        scene
    }

    /// Has each node say who it is, behind the cluster's back.
    fn tell_apart(&self) {
        for node in &self.galera.nodes {
            node.sql(&format!("SET SESSION wsrep_on=OFF; UPDATE d.who SET id={}", node.id));
        }
    }

    fn port(&self, node: usize) -> u16 {
        self.galera.nodes[node].port
    }

    async fn connect(&self, splitter: &str) -> Conn {
        connect(self.server.address(splitter)).await
    }

    fn roles(&self) -> [String; 3] {
        let shown = show(&self.server);
        [0, 1, 2].map(|node| field_of(&shown, self.port(node), "role"))
    }

    /// Which nodes get something, as each splitter sees it.
    fn up(&self, splitter: &str) -> [bool; 3] {
        let status = self.server.status();
        let splitters = status["splitters"].as_array().expect("splitters");
        let splitter = splitters.iter().find(|one| one["name"] == splitter).expect("the splitter");
        [0, 1, 2].map(|node| splitter["servers"][node]["up"] == true)
    }

    fn wait_until_up(&self, which: [bool; 3]) {
        for splitter in ["db", "off", "node", "strict", "hasty"] {
            self.until(&format!("{splitter} uses {which:?}"), || self.up(splitter) == which);
        }
    }

    /// Like [`eventually`], for what takes a cluster some seconds on an idle machine already.
    fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < PATIENCE * 3, "waited in vain: {what}: {}", show(&self.server));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for_primary(&self, node: usize) {
        let leads = || self.roles()[node] == "primary" && show(&self.server)["vacancy"].is_null();
        self.until(&format!("node {node} writes"), leads);
    }

    fn metric(&self, splitter: &str, name: &str) -> u64 {
        let labels = format!("{{splitter=\"{splitter}\"}}");
        self.server.metric(&format!("one_server_splitter_{name}_total"), &labels) as u64
    }

    fn rows(&self, node: usize) -> u32 {
        self.galera.nodes[node].sql("SELECT COUNT(*) FROM d.t").parse().expect("a number")
    }
}

async fn read(conn: &mut Conn) -> (u32, u32) {
    conn.query_first(READ).await.expect("it reads").expect("a row")
}

#[test]
fn a_real_galera_cluster_has_one_writer() {
    if !galera::is_installed() {
        return;
    }
    let mut scene = Scene::start();
    assert_eq!(scene.roles(), ["primary", "replica", "replica"]);
    scene.wait_until_up([true; 3]);
    block_on(async {
        one_writes(&scene).await;
        reads_wait(&scene).await;
        out_of_step(&scene).await;
        the_next_one_has_everything(&scene).await;
        conflict(&scene).await;
        alone(&scene).await;
        crash(&mut scene).await;
        no_quorum(&scene).await;
    });
}

/// All nodes could. A session reads at once what it wrote, on the others.
async fn one_writes(scene: &Scene) {
    let mut conn = scene.connect("db").await;
    let written = || [0, 1, 2].map(|node| status(&scene.galera.nodes[node], "wsrep_replicated"));
    let before = written();
    for n in 1..=20 {
        conn.exec_drop("INSERT INTO t (n) VALUES (?)", (n,)).await.expect("written");
        let (rows, server) = read(&mut conn).await;
        assert_eq!(rows, n, "its own write");
        assert_ne!(server, 1, "on another node than the one that writes");
        conn.query_drop("START TRANSACTION READ ONLY").await.expect("begun");
        assert_eq!(read(&mut conn).await, (rows, server), "such a transaction, too");
        conn.query_drop("COMMIT").await.expect("over");
    }
    let after = written();
    assert_eq!(number(&after[0]) - number(&before[0]), 20);
    assert_eq!(after[1..], before[1..], "no other node has sent a write to the cluster");
}

/// Where the others have not applied yet what was written, reads wait for what they must see, or go to the one that wrote.
async fn reads_wait(scene: &Scene) {
    let rows = scene.rows(0);
    let held = [1, 2].map(|node| Held::new(&scene.galera.nodes[node], "LOCK TABLES d.t READ"));
    let (mut writer, mut through) = (scene.connect("db").await, scene.connect("node").await);
    writer.query_drop("INSERT INTO t (n) VALUES (1)").await.expect("written");
    through.query_drop("INSERT INTO t (n) VALUES (2)").await.expect("written");
    scene.galera.nodes[0].sql("INSERT INTO d.t (n) VALUES (3)");
    for splitter in ["off", "db"] {
        let (seen, server) = read(&mut scene.connect(splitter).await).await;
        assert_eq!((seen, server != 1), (rows, true), "{splitter}: nothing is to be waited for");
    }
    let fallbacks = scene.metric("hasty", "causal_fallbacks");
    assert_eq!(read(&mut scene.connect("hasty").await).await, (rows + 3, 1), "no time to wait for another node");
    assert_eq!(scene.metric("hasty", "causal_fallbacks"), fallbacks + 1);

    let waiting = || {
        let sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SET STATEMENT wsrep_sync_wait%' AND user = 'app'";
        [1, 2].map(|node| number(&scene.galera.nodes[node].sql(sql))).iter().sum::<u64>()
    };
    eventually("the hasty one has given up", || waiting() == 0 || scene.metric("hasty", "causal_timeouts") == 1);
    let before = waiting();
    let mut readers = vec![writer, scene.connect("node").await, scene.connect("strict").await];
    let reads: Vec<_> = readers.drain(..).map(|mut conn| tokio::spawn(async move { read(&mut conn).await })).collect();
    eventually("they wait", || waiting() >= before + 3);
    assert!(reads.iter().all(|read| !read.is_finished()), "until they are answered");
    drop(held);
    for (read, splitter) in reads.into_iter().zip(["db", "node", "strict"]) {
        let (seen, server) = read.await.expect("it reads");
        assert_eq!((seen, server != 1), (rows + 3, true), "{splitter}");
        assert_eq!(scene.metric(splitter, "causal_fallbacks"), 0, "{splitter}");
    }
}

/// A node that is desynchronised for a backup is left alone.
async fn out_of_step(scene: &Scene) {
    let lock = Held::new(&scene.galera.nodes[2], "FLUSH TABLES WITH READ LOCK");
    scene.wait_until_up([true, true, false]);
    for _ in 0..5 {
        assert_eq!(read(&mut scene.connect("off").await).await.1, 2, "only this one is left");
    }
    drop(lock);
    scene.wait_until_up([true; 3]);
}

/// The node that writes is taken out of step: whoever comes next must have applied what that one has told clients, else they would
/// not find what they wrote.
async fn the_next_one_has_everything(scene: &Scene) {
    let rows = scene.rows(0);
    let lock = Held::new(&scene.galera.nodes[1], "LOCK TABLES d.t READ");
    let mut conn = scene.connect("db").await;
    conn.query_drop("INSERT INTO t (n) VALUES (1)").await.expect("written");
    scene.galera.nodes[0].sql("SET GLOBAL wsrep_desync = ON");
    eventually("it is taken from it", || scene.roles()[0] == "replica" && show(&scene.server)["vacancy"].is_null());
    conn.query_drop("BEGIN").await.expect("begun");
    assert_eq!(read(&mut conn).await, (rows + 1, 3), "its own write, on the node that has it");
    conn.query_drop("COMMIT").await.expect("over");
    assert_eq!(scene.roles(), ["replica", "replica", "primary"]);
    drop(lock);
    scene.galera.nodes[2].sql("SET GLOBAL wsrep_desync = ON");
    scene.galera.nodes[0].sql("SET GLOBAL wsrep_desync = OFF");
    scene.wait_for_primary(0);
    scene.galera.nodes[2].sql("SET GLOBAL wsrep_desync = OFF");
    scene.wait_until_up([true; 3]);
}

/// Another node was first: the cluster undoes the transaction at its COMMIT, which is for the client to run again.
async fn conflict(scene: &Scene) {
    let mut conn = scene.connect("db").await;
    conn.query_drop("INSERT INTO t (id, n) VALUES (1000000, 0)").await.expect("written");
    for end in ["COMMIT", "UPDATE t SET n = n + 1 WHERE id = 1000000"] {
        conn.query_drop("BEGIN").await.expect("begun");
        conn.query_drop("UPDATE t SET n = n + 1 WHERE id = 1000000").await.expect("written");
        let other = &scene.galera.nodes[1];
        other.sql("SET wsrep_sync_wait = 3; UPDATE d.t SET n = n + 10 WHERE id = 1000000");
        let applied = || status(&scene.galera.nodes[0], "wsrep_last_committed");
        let last = status(other, "wsrep_last_committed");
        eventually("the first node has applied it", || number(&applied()) >= number(&last));
        let begun = status(&scene.galera.nodes[0], "Com_begin");
        assert_eq!(code(conn.query_drop(end).await), 1213, "{end}");
        assert_eq!(status(&scene.galera.nodes[0], "Com_begin"), begun, "nobody begins it anew");
    }
    let n: u32 = one(&mut conn, "SELECT n FROM t WHERE id = 1000000").await;
    assert_eq!(n, 20, "what was undone is not there");
    conn.query_drop("DELETE FROM t WHERE id = 1000000").await.expect("the session goes on");
}

/// The node that writes is cut off from the others, though clients reach it.
async fn alone(scene: &Scene) {
    let mut writers = Writers::start(scene.server.address("db"), 'a');
    writers.wait_for(30);
    scene.galera.isolate(0, true);
    scene.wait_for_primary(1);
    scene.wait_until_up([false, true, true]);
    assert_eq!(status(&scene.galera.nodes[0], "wsrep_cluster_status"), "non-Primary");
    let sent = || {
        let labels = format!("server=\"127.0.0.1:{}\"", scene.port(0));
        scene.server.metric("one_server_splitter_server_statements_total", &labels)
    };
    let before = sent();
    writers.wait_for(30);
    assert_eq!((sent(), before > 30.0), (before, true), "it gets nothing");
    let ends = writers.end().await;
    // It refuses what it was to send to the others when they were gone.
    assert!(ends.unknown.len() + ends.failed.len() <= WRITERS, "{:?} {:?}", ends.unknown, ends.failed);
    check(scene, 1, &ends);
    scene.galera.isolate(0, false);
    scene.wait_until_up([true; 3]);
    assert_eq!(scene.roles(), ["replica", "primary", "replica"], "the writer stays");
    check(scene, 0, &ends);
}

/// The node that writes is killed: those that were under way have an unknown end, the others wait for the next one.
async fn crash(scene: &mut Scene) {
    let mut writers = Writers::start(scene.server.address("db"), 'c');
    writers.wait_for(30);
    scene.galera.nodes[1].kill();
    scene.wait_for_primary(0);
    writers.wait_for(30);
    let ends = writers.end().await;
    assert!(ends.failed.is_empty() && ends.unknown.len() <= WRITERS, "{:?} {:?}", ends.failed, ends.unknown);
    check(scene, 0, &ends);
    check(scene, 2, &ends);
    scene.galera.rejoin(1, 2);
    scene.wait_until_up([true; 3]);
    scene.tell_apart();
    assert_eq!(scene.roles(), ["primary", "replica", "replica"], "the writer stays");
    check(scene, 1, &ends);
}

/// No part of the cluster has a majority: nobody gets anything, and what waits is done when they have found each other again.
async fn no_quorum(scene: &Scene) {
    let mut conn = scene.connect("db").await;
    [1, 2].iter().for_each(|node| scene.galera.isolate(*node, true));
    scene.until("there is no primary", || show(&scene.server)["vacancy"].is_string());
    scene.wait_until_up([false; 3]);
    let write = tokio::spawn(async move {
        conn.query_drop("INSERT INTO log VALUES ('waited')").await.expect("written");
        one::<u32>(&mut conn, "SELECT COUNT(*) FROM log WHERE token = 'waited'").await
    });
    [1, 2].iter().for_each(|node| scene.galera.isolate(*node, false));
    assert_eq!(write.await.expect("it ends"), 1);
    scene.wait_until_up([true; 3]);
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}

/// What became of the tokens of some writers: those that were acknowledged, those whose end is not known, and what failed otherwise.
#[derive(Default)]
struct Ends {
    acknowledged: Vec<String>,
    unknown: Vec<String>,
    failed: Vec<String>,
}

/// Clients at a time, each with one statement under way.
const WRITERS: usize = 3;

/// Clients that write unique tokens, each once, and read each back at once.
struct Writers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Ends>>,
}

impl Writers {
    fn start(address: SocketAddr, letter: char) -> Writers {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let write = |writer: usize| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let (mut conn, mut ends, mut n) = (connect(address).await, Ends::default(), 0);
                while !stop.load(Ordering::Relaxed) {
                    let token = format!("{letter}{writer}-{n}");
                    n += 1;
                    match conn.query_drop(format!("INSERT INTO log VALUES ('{token}')")).await {
                        Ok(()) => {
                            let sql = format!("SELECT COUNT(*) FROM log WHERE token = '{token}'");
                            assert_eq!(one::<u32>(&mut conn, &sql).await, 1, "{token} is there for who wrote it");
                            ends.acknowledged.push(token);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        // Lost with its server; the splitter does not try it again.
                        Err(mysql_async::Error::Server(error)) if error.code == 1158 => ends.unknown.push(token),
                        Err(error) => ends.failed.push(format!("{token}: {error}")),
                    }
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                ends
            })
        };
        let tasks = (0..WRITERS).map(write).collect();
        Writers { stop, done, tasks }
    }

    /// Waits until so many more were acknowledged.
    fn wait_for(&mut self, more: usize) {
        let before = self.done.load(Ordering::Relaxed);
        eventually("they write", || self.done.load(Ordering::Relaxed) >= before + more);
    }

    async fn end(self) -> Ends {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Ends::default();
        for task in self.tasks {
            let ends = task.await.expect("a writer");
            all.acknowledged.extend(ends.acknowledged);
            all.unknown.extend(ends.unknown);
            all.failed.extend(ends.failed);
        }
        all
    }
}

/// What was acknowledged is there, once; what is not known, at most once (the table allows no more).
fn check(scene: &Scene, node: usize, ends: &Ends) {
    let present = scene.galera.nodes[node].sql("SET wsrep_sync_wait = 1; SELECT token FROM d.log");
    let present: std::collections::HashSet<&str> = present.lines().collect();
    let lost: Vec<_> = ends.acknowledged.iter().filter(|token| !present.contains(&***token)).collect();
    assert_eq!(lost, Vec::<&String>::new(), "acknowledged, and not there: see {}", id(scene.port(node)));
}
