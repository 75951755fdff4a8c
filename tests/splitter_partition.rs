//! A network that is cut: packets are dropped, and the servers on both sides live on. What was acknowledged is there once,
//! whoever leads in the end, and nobody writes to a server that another one has replaced.
//!
//! The replicas run in a network namespace (ip-netns(8)) behind another one, which forwards packets or does not. That
//! takes root; without, the test is skipped.

mod support;

#[path = "support/found.rs"]
#[allow(dead_code, reason = "other tests have all servers on 127.0.0.1")]
mod found;
#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::{Duration, Instant};

use found::{ROUTE, block_on, show, try_connect};
use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::prelude::Queryable;
use support::{Driver, Server, Site, eventually, ports};

/// Two networks and a router between them; gone when dropped.
struct Network {
    router: String,
    far: String,
    /// Of the three ends: ours, the router's towards the far side, the far side's.
    near_address: String,
    far_address: String,
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}

impl Network {
    /// `None`, and a word about it: that is not allowed here.
    fn new() -> Option<Network> {
        let id = std::process::id();
        let net = format!("10.{}.{}", 200 + id % 50, id / 50 % 250);
        let network = Network {
            router: format!("split{id}m"),
            far: format!("split{id}f"),
            near_address: format!("{net}.1"),
            far_address: format!("{net}.6"),
        };
        let Network { router, far, .. } = &network;
        let steps = [
            format!("netns add {router}"),
            format!("netns add {far}"),
            format!("link add sn{id} type veth peer name left netns {router}"),
            format!("-n {router} link add right type veth peer name only netns {far}"),
            format!("addr add {net}.1/30 dev sn{id}"),
            format!("link set sn{id} up"),
            format!("-n {router} addr add {net}.2/30 dev left"),
            format!("-n {router} addr add {net}.5/30 dev right"),
            format!("-n {router} link set left up"),
            format!("-n {router} link set right up"),
            format!("-n {far} addr add {net}.6/30 dev only"),
            format!("-n {far} link set only up"),
            format!("-n {far} link set lo up"),
            format!("-n {far} route add default via {net}.5"),
            format!("route add {net}.4/30 via {net}.2"),
        ];
        let failed = steps.iter().find(|step| !ip(step));
        if let Some(step) = failed {
            eprintln!("skipped: `ip {step}` does not work here (root and network namespaces are needed)");
            return None;
        }
        network.cut(false).then_some(network)
    }

    /// From now on packets between the two sides are dropped, or not.
    fn cut(&self, is_cut: bool) -> bool {
        let forwards = u8::from(!is_cut);
        ip(&format!("netns exec {} sysctl -q -w net.ipv4.ip_forward={forwards}", self.router))
            || Command::new("ip")
                .args(["netns", "exec", &self.router, "sh", "-c"])
                .arg(format!("echo {forwards} > /proc/sys/net/ipv4/ip_forward"))
                .status()
                .is_ok_and(|status| status.success())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.far));
        ip(&format!("netns del {}", self.router));
    }
}

/// The order in which they are dropped matters: servers first.
struct Scene {
    splitter: Server,
    cluster: Cluster,
    network: Network,
}

impl Scene {
    fn new() -> Option<Scene> {
        let network = Network::new()?;
        let apart = Some((network.far.as_str(), network.near_address.as_str()));
        let cluster = Cluster::start_apart(2, &[], &["--bind-address=0.0.0.0"], apart);
        cluster.primary.sql("CREATE TABLE d.log (token VARCHAR(40), KEY(token)) ENGINE=InnoDB");
        cluster.wait_for_replicas();
        let servers = [
            format!("\"{}:{}\"", network.near_address, cluster.primary.port),
            format!("\"{}:{}\"", network.far_address, cluster.replicas[0].port),
            format!("\"{}:{}\"", network.far_address, cluster.replicas[1].port),
        ];
        let table = format!(
            "[mysql.db]\nlisten = \"127.0.0.1:0\"\nservers = [{}]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\npool_max = 8\n\
             monitor_interval = \"100ms\"\nconnect_timeout = \"500ms\"\nprimary_dwell = \"200ms\"\nprimary_wait = \"20s\"\n",
            servers.join(", ")
        );
        let splitter = Site::new(Driver::Auto, ROUTE).process("control = \"$DIR/ctl.sock\"").more(&table).start();
        let scene = Scene { splitter, cluster, network };
        scene.wait_for("primary", 0);
        scene.wait_for("replica", 1);
        scene.wait_for("replica", 2);
        Some(scene)
    }

    fn field(&self, server: usize, field: &str) -> String {
        show(&self.splitter)["servers"][server][field].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the splitter takes a server for that.
    fn wait_for(&self, role: &str, server: usize) {
        eventually(&format!("server {server} is the {role}"), || self.field(server, "role") == role);
    }

    fn vacancy(&self) -> String {
        show(&self.splitter)["vacancy"].as_str().unwrap_or_default().to_owned()
    }

    fn server(&self, n: usize) -> &mariadb::Server {
        if n == 0 { &self.cluster.primary } else { &self.cluster.replicas[n - 1] }
    }

    /// How often each token is on a server.
    fn tokens(&self, n: usize) -> HashMap<String, u32> {
        let rows = self.server(n).sql("SELECT token, COUNT(*) FROM d.log GROUP BY token");
        let row = |line: &str| line.split_once('\t').map(|(token, count)| (token.to_owned(), count.parse().unwrap()));
        rows.lines().filter_map(row).collect()
    }

    /// `server` follows `primary` from now on.
    fn follow(&self, server: usize, primary: usize) {
        let demotes =
            if self.server(server).sql("SHOW SLAVE STATUS").is_empty() { ", MASTER_DEMOTE_TO_SLAVE=1" } else { "" };
        let host = if primary == 0 { &self.network.near_address } else { &self.network.far_address };
        self.server(server).sql(&format!(
            "SET GLOBAL read_only=1; STOP SLAVE; CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT={}, \
             MASTER_USER='replication', MASTER_PASSWORD='r', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1{demotes}; \
             START SLAVE",
            self.server(primary).port
        ));
    }

    fn catch_up(&self, server: usize, other: usize) {
        let position = self.server(other).sql("SELECT @@gtid_current_pos");
        assert_eq!(self.server(server).sql(&format!("SELECT MASTER_GTID_WAIT('{position}', 30)")), "0", "{position}");
    }

    fn promote(&self, server: usize) {
        self.server(server).sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0");
    }
}

const WRITE: u8 = 0;
const PAUSE: u8 = 1;
const END: u8 = 2;

/// What clients were told of their tokens.
#[derive(Default)]
struct Told {
    acknowledged: Vec<String>,
    unknown: Vec<String>,
    longest_read: Duration,
}

/// Clients that write tokens, each a new one, and read.
struct Writers {
    orders: Arc<AtomicU8>,
    tasks: Vec<tokio::task::JoinHandle<Told>>,
    progress: Arc<std::sync::atomic::AtomicUsize>,
}

impl Writers {
    fn start(address: SocketAddr, name: &'static str) -> Writers {
        let (orders, progress) = (Arc::new(AtomicU8::new(WRITE)), Arc::default());
        let write = |n: usize| {
            let (orders, progress) = (Arc::clone(&orders), Arc::clone(&progress));
            tokio::spawn(writer(address, format!("{name}-{n}"), orders, progress))
        };
        let tasks = (0..3).map(write).collect();
        Writers { orders, tasks, progress }
    }

    fn acknowledged(&self) -> usize {
        self.progress.load(SeqCst)
    }

    /// Waits until so many more were acknowledged.
    async fn go_on_for(&self, more: usize, what: &str) {
        let (goal, deadline) = (self.acknowledged() + more, Instant::now() + Duration::from_secs(20));
        while self.acknowledged() < goal {
            assert!(Instant::now() < deadline, "{what}: no more than {} of {goal}", self.acknowledged());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(self) -> Told {
        self.orders.store(END, SeqCst);
        let mut all = Told::default();
        for task in self.tasks {
            let told = task.await.unwrap();
            all.acknowledged.extend(told.acknowledged);
            all.unknown.extend(told.unknown);
            all.longest_read = all.longest_read.max(told.longest_read);
        }
        all
    }
}

async fn writer(
    address: SocketAddr,
    name: String,
    orders: Arc<AtomicU8>,
    progress: Arc<std::sync::atomic::AtomicUsize>,
) -> Told {
    let (mut told, mut conn) = (Told::default(), None);
    for n in 0.. {
        match orders.load(SeqCst) {
            WRITE => {}
            PAUSE => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            _ => break,
        }
        if conn.is_none() {
            conn = try_connect(address).await.ok();
        }
        let Some(session) = &mut conn else { continue };
        let token = format!("{name}-{n}");
        match session.query_drop(format!("INSERT INTO log VALUES ('{token}')")).await {
            Ok(()) => {
                told.acknowledged.push(token);
                progress.fetch_add(1, SeqCst);
            }
            Err(error) => {
                eprintln!("{token}: {error}");
                told.unknown.push(token);
                conn = None;
            }
        }
        if let Some(session) = &mut conn {
            let begun = Instant::now();
            let last = told.acknowledged.last().cloned().unwrap_or_default();
            let read = session.query_first::<u32, _>(format!("SELECT COUNT(*) FROM log WHERE token = '{last}'")).await;
            told.longest_read = told.longest_read.max(begun.elapsed());
            match read {
                Ok(count) => assert!(last.is_empty() || count == Some(1), "{last} is not seen by its session"),
                Err(_) => conn = None,
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    told
}

#[test]
fn acknowledged_writes_survive_a_cut_network_once() {
    if !mariadb::is_installed() {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    block_on(async {
        the_replicas_are_cut_off(&scene).await;
        the_primary_is_cut_off(&scene).await;
    });
}

/// The primary and the splitter stay together. The other side gets a second primary: the splitter writes to neither, until an
/// operator has made up his mind.
async fn the_replicas_are_cut_off(scene: &Scene) {
    let writers = Writers::start(scene.splitter.address("db"), "near");
    writers.go_on_for(50, "before the cut").await;
    assert!(scene.network.cut(true));
    writers.go_on_for(100, "without the replicas").await;
    assert_eq!(scene.field(0, "role"), "primary");
    scene.promote(1);
    scene.server(1).sql("INSERT INTO d.log VALUES ('far')");
    let there = scene.tokens(1);
    writers.go_on_for(20, "while there are two that do not know of each other").await;
    assert!(scene.network.cut(false));
    eventually("two servers take writes", || scene.vacancy() == "more than one server takes writes");
    let before = writers.acknowledged();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(writers.acknowledged(), before, "neither is written to");
    scene.server(1).sql("SET GLOBAL read_only=1");
    scene.wait_for("primary", 0);
    writers.go_on_for(50, "after the operator's choice").await;
    let told = writers.end().await;
    assert!(scene.tokens(1) == there, "nothing was written to the one that nobody chose");
    scene.catch_up(2, 0);
    check(scene, &[0, 2], &told);
    assert!(told.longest_read < Duration::from_secs(8), "{:?}", told.longest_read);
    // What it wrote by itself goes.
    scene.server(1).sql("SET sql_log_bin=0; DROP TABLE d.log");
}

/// The splitter loses the primary, which lives on; another one is promoted at its side. The old one comes back writable, and is
/// never written to.
async fn the_primary_is_cut_off(scene: &Scene) {
    // Orderly, so that the far side leads.
    scene.server(0).sql("SET GLOBAL read_only=1");
    scene.catch_up(2, 0);
    scene.promote(2);
    scene.follow(0, 2);
    scene.wait_for("primary", 2);
    let writers = Writers::start(scene.splitter.address("db"), "far");
    writers.go_on_for(50, "before the cut").await;
    // What was acknowledged is here, too; so it can be promoted.
    writers.orders.store(PAUSE, SeqCst);
    tokio::time::sleep(Duration::from_millis(300)).await;
    scene.catch_up(0, 2);
    assert!(scene.network.cut(true));
    writers.orders.store(WRITE, SeqCst);
    tokio::time::sleep(Duration::from_millis(300)).await;
    eventually("the primary is gone", || !scene.vacancy().is_empty());
    let there = scene.tokens(2);
    scene.promote(0);
    scene.wait_for("primary", 0);
    writers.go_on_for(50, "on the new primary").await;
    // It does not know yet that it was replaced.
    assert_eq!(scene.server(2).sql("SELECT @@read_only"), "0");
    assert!(scene.network.cut(false));
    eventually("the old primary is fenced", || scene.field(2, "role") == "fenced");
    writers.go_on_for(50, "with the old one back").await;
    // What was on its way when the network was cut would come now, if it were sent again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let told = writers.end().await;
    let behind: Vec<_> = scene.tokens(2).into_keys().filter(|token| !there.contains_key(token)).collect();
    assert!(behind.is_empty(), "the old primary got writes behind its fence: {behind:?}");
    check(scene, &[0], &told);
}

/// Acknowledged tokens are there once on each of these servers, others at most once.
fn check(scene: &Scene, servers: &[usize], told: &Told) {
    for server in servers {
        let tokens = scene.tokens(*server);
        for token in &told.acknowledged {
            assert_eq!(tokens.get(token), Some(&1), "{token} was acknowledged: server {server}");
        }
        for token in &told.unknown {
            assert!(tokens.get(token).is_none_or(|count| *count == 1), "{token}: server {server}");
        }
    }
    eprintln!(
        "{} acknowledged, {} unknown, longest read {:?}",
        told.acknowledged.len(),
        told.unknown.len(),
        told.longest_read
    );
}
