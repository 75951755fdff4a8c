//! The splitter before a real group of MySQL (Group Replication, one primary): who takes writes is what the group says, and it says so
//! again when that changes. No write may be acknowledged and lost, none may go to a member that the group has left behind.

mod support;

#[path = "support/found.rs"]
#[allow(dead_code, reason = "other tests look at single servers")]
mod found;
#[path = "support/real_mysql.rs"]
#[allow(dead_code, reason = "other tests have replicas")]
mod real_mysql;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use found::{connect, field_of, id, one, show, wait_for_primary};
use mysql_async::prelude::Queryable;
use real_mysql::{Group, sealed};
use support::*;

// What the other modules call the servers they test with.
use real_mysql as mariadb;

/// A group and a splitter that finds the primary in it.
struct Scene {
    group: Group,
    server: Server,
    address: SocketAddr,
}

fn scene() -> Scene {
    let group = Group::start(3);
    group.members[0].sql(
        "CREATE TABLE d.log (token VARCHAR(40) PRIMARY KEY); CREATE TABLE d.t (n INT AUTO_INCREMENT PRIMARY KEY);
         CREATE TABLE d.here (id INT PRIMARY KEY)",
    );
    let keys = format!("{}primary_wait = \"60s\"\nlag_max = \"1m\"\n", sealed());
    let server = found::start(group.members.iter().map(|member| member.port), &keys);
    let address = server.address("db");
    wait_for_primary(&server, group.members[0].port);
    Scene { group, server, address }
}

impl Scene {
    fn role(&self, member: usize) -> String {
        field_of(&show(&self.server), self.group.members[member].port, "role")
    }

    fn metric(&self, name: &str, labels: &str) -> u64 {
        self.server.metric(&format!("one_server_splitter_{name}"), labels) as u64
    }

    /// The member that the group calls its primary.
    fn primary(&self, ask: usize) -> usize {
        let sql = "SELECT MEMBER_PORT FROM performance_schema.replication_group_members WHERE MEMBER_ROLE = 'PRIMARY'";
        let port = self.group.members[ask].sql(sql);
        let found = self.group.members.iter().position(|member| member.port.to_string() == port);
        found.unwrap_or_else(|| panic!("{port:?} is nobody"))
    }
}

/// What became of the tokens of some writers: those that were acknowledged, those whose end is not known, and what failed otherwise.
#[derive(Default)]
struct Ends {
    acknowledged: Vec<String>,
    unknown: Vec<String>,
    failed: Vec<String>,
}

/// Clients that write unique tokens, each once, and read each back at once.
struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Ends>>,
}

impl Writers {
    fn start(address: SocketAddr, letter: char) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let write = |writer: usize| {
            let stop = Arc::clone(&stop);
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
                        }
                        // Lost with its server; the splitter does not try it again.
                        Err(mysql_async::Error::Server(error)) if error.code == 1158 => ends.unknown.push(token),
                        Err(error) => {
                            ends.failed.push(format!("{token}: {error}"));
                            conn = connect(address).await;
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                ends
            })
        };
        let tasks = (0..3).map(write).collect();
        Writers { stop, tasks }
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

fn pause(seconds: f64) -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_secs_f64(seconds))
}

#[test]
fn a_group_says_who_takes_writes() {
    if !real_mysql::is_installed() {
        return;
    }
    let mut scene = scene();
    assert_eq!([0, 1, 2].map(|member| scene.role(member)), ["primary", "replica", "replica"]);
    found::block_on(async {
        sessions_carry_their_consistency(&scene).await;
        planned_change(&scene).await;
        several_may_write(&scene).await;
        crash(&mut scene).await;
        minority(&mut scene).await;
    });
}

/// Reads wait for what their session wrote, at each level of the group's own consistency; what a session sets of that goes where it
/// reads.
async fn sessions_carry_their_consistency(scene: &Scene) {
    let mut conn = connect(scene.address).await;
    let replicas = || scene.metric("statements_total", "to=\"replica\"");
    let reads_before = replicas();
    let mut rows = 0;
    for level in ["EVENTUAL", "BEFORE_ON_PRIMARY_FAILOVER", "BEFORE", "AFTER", "BEFORE_AND_AFTER"] {
        conn.query_drop(format!("SET SESSION group_replication_consistency = '{level}'")).await.expect("set");
        for _ in 0..5 {
            conn.query_drop("INSERT INTO t VALUES ()").await.expect("written");
            rows += 1;
            assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, rows, "{level}");
        }
        let told: String = one(&mut conn, "SELECT @@group_replication_consistency").await;
        assert_eq!(told, level);
        conn.query_drop("START TRANSACTION READ ONLY").await.expect("begun");
        assert_eq!(one::<String>(&mut conn, "SELECT @@group_replication_consistency").await, level);
        assert_ne!(one::<u32>(&mut conn, "SELECT @@server_id").await, 1, "on a secondary, as the session is there");
        conn.query_drop("COMMIT").await.expect("over");
    }
    eventually("they were read on secondaries", || replicas() >= reads_before + 25);
    let pinned = scene.server.admin("/metrics");
    let pins =
        pinned.lines().filter(|line| line.starts_with("one_server_splitter_pins_total") && !line.ends_with(" 0"));
    assert_eq!(pins.collect::<Vec<_>>(), Vec::<&str>::new());
    // What the group has not applied on a secondary yet is waited for there: its applier is held up by a lock.
    conn.query_drop("SET SESSION group_replication_consistency = 'EVENTUAL'").await.expect("set");
    let held_up = [1, 2].map(|member| {
        let mut client = scene.group.members[member].client();
        client.args(["-e", "LOCK TABLES d.t READ; SELECT SLEEP(1.5)"]);
        client.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("it starts")
    });
    let waits = scene.metric("causal_waits_total", "");
    pause(0.3).await;
    conn.query_drop("INSERT INTO t VALUES ()").await.expect("written");
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, rows + 1, "its own write");
    eventually("the wait is counted", || scene.metric("causal_waits_total", "") > waits);
    for mut client in held_up {
        client.wait().expect("it ends");
    }
}

/// `group_replication_set_as_primary`: no write fails.
async fn planned_change(scene: &Scene) {
    let writers = Writers::start(scene.address, 'p');
    pause(0.7).await;
    let uuid = scene.group.members[1].sql("SELECT @@server_uuid");
    scene.group.members[0].sql(&format!("SELECT group_replication_set_as_primary('{uuid}')"));
    wait_for_primary(&scene.server, scene.group.members[1].port);
    pause(0.7).await;
    let ends = writers.end().await;
    assert!(ends.failed.is_empty() && ends.unknown.is_empty(), "{:?} {:?}", ends.failed, ends.unknown);
    assert!(ends.acknowledged.len() > 50, "{} writes", ends.acknowledged.len());
    check(scene, 1, &ends);
    assert_eq!([0, 1, 2].map(|member| scene.role(member)), ["replica", "primary", "replica"]);
}

/// Where all members may write, one does, and it stays.
async fn several_may_write(scene: &Scene) {
    let switchovers = || show(&scene.server)["switchovers"].as_u64().expect("a number");
    let before = switchovers();
    let writers = Writers::start(scene.address, 's');
    pause(0.3).await;
    scene.group.members[1].sql("SELECT group_replication_switch_to_multi_primary_mode()");
    let writable = |member: usize| scene.group.members[member].sql("SELECT @@super_read_only") == "0";
    eventually("all may write", || [0, 1, 2].into_iter().all(writable));
    pause(0.7).await;
    assert_eq!([0, 1, 2].map(|member| scene.role(member)), ["replica", "primary", "replica"]);
    let uuid = scene.group.members[1].sql("SELECT @@server_uuid");
    scene.group.members[0].sql(&format!("SELECT group_replication_switch_to_single_primary_mode('{uuid}')"));
    eventually("one may write", || ![0, 2].into_iter().any(writable));
    let ends = writers.end().await;
    assert!(ends.failed.is_empty() && ends.unknown.is_empty(), "{:?} {:?}", ends.failed, ends.unknown);
    assert!(ends.acknowledged.len() > 50 && switchovers() == before, "{} writes", ends.acknowledged.len());
    check(scene, 1, &ends);
}

/// The primary is killed: those that were under way have an unknown end, the others wait until the group has elected another one.
async fn crash(scene: &mut Scene) {
    let writers = Writers::start(scene.address, 'c');
    pause(0.7).await;
    scene.group.members[1].kill();
    let elected = || [0, 2].into_iter().find(|member| scene.role(*member) == "primary");
    let mut waited = 0;
    while elected().is_none() {
        waited += 1;
        assert!(waited < 600, "the group has elected nobody");
        pause(0.1).await;
    }
    let elected = elected().expect("a primary");
    assert_eq!(scene.primary(elected), elected, "whom the group names");
    pause(0.7).await;
    let ends = writers.end().await;
    assert!(ends.failed.is_empty() && ends.unknown.len() <= 3, "{:?} {:?}", ends.failed, ends.unknown);
    check(scene, elected, &ends);
    // It comes back, catches up, and is a secondary.
    scene.group.rejoin(1);
    eventually("it reads again", || {
        let shown = show(&scene.server);
        let port = scene.group.members[1].port;
        field_of(&shown, port, "role") == "replica"
            && scene.server.metric("one_server_splitter_server_up", &format!("127.0.0.1:{port}")) == 1.0
    });
    let missing = scene.group.members[1].sql("SELECT COUNT(*) FROM d.log");
    assert_eq!(missing, scene.group.members[elected].sql("SELECT COUNT(*) FROM d.log"));
}

/// What is left of a group that has lost most of its members takes no writes, though it calls itself the primary still.
async fn minority(scene: &mut Scene) {
    let primary = scene.primary(0);
    let others = [0, 1, 2].map(|member| member != primary);
    for member in (0..3).filter(|member| others[*member]) {
        scene.group.members[member].freeze(true);
    }
    let sql = "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE MEMBER_STATE = 'UNREACHABLE'";
    eventually("the others are missed", || scene.group.members[primary].sql(sql) == "2");
    eventually("there is no primary", || show(&scene.server)["vacancy"].is_string());
    assert_eq!(scene.group.members[primary].sql("SELECT @@super_read_only"), "0", "it would take writes");
    for member in (0..3).filter(|member| others[*member]) {
        scene.group.members[member].freeze(false);
    }
    // Whom they agree on then.
    let mut waited = 0;
    while !show(&scene.server)["vacancy"].is_null() {
        waited += 1;
        assert!(waited < 600, "{}", show(&scene.server));
        pause(0.1).await;
    }
    let mut conn = connect(scene.address).await;
    conn.query_drop("INSERT INTO log VALUES ('after')").await.expect("written");
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM log WHERE token = 'after'").await, 1);
}

/// What was acknowledged is there, once; what is not known, at most once (the table allows no more).
fn check(scene: &Scene, member: usize, ends: &Ends) {
    let present = scene.group.members[member].sql("SELECT token FROM d.log");
    let present: std::collections::HashSet<&str> = present.lines().collect();
    let lost: Vec<_> = ends.acknowledged.iter().filter(|token| !present.contains(&***token)).collect();
    assert_eq!(
        lost,
        Vec::<&String>::new(),
        "acknowledged, and not there: see {}",
        id(scene.group.members[member].port)
    );
}
