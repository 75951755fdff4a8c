//! Which server is the primary is found, and found again when it changes: planned, by failure, by mistake. No write may be
//! acknowledged and lost, none may run twice, and no server that was left behind may take one.

mod support;

#[path = "support/found.rs"]
mod found;
#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests do other things with servers")]
mod mariadb;
#[path = "support/mysql8.rs"]
#[allow(dead_code, reason = "other tests log on in other ways")]
mod mysql8;
#[path = "support/promotion.rs"]
mod promotion;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use found::*;
use mariadb::{PASSWORD, USER};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use promotion::{catch_up, demote, follow, promote, switch_over};
use support::ports;
use support::*;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    /// Not executed, or rolled back.
    Refused(u16),
    Unknown,
}

/// How a token is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Statement,
    Transaction,
    /// Over a new connection.
    Connection,
}

/// Clients that write unique tokens without a pause, each statement once.
struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Vec<(String, Outcome)>>>,
}

impl Writers {
    fn start(address: SocketAddr, count: usize, way: Way) -> Writers {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let write = |writer: usize| {
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut conn = connect(address).await;
                let mut written = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let token = format!("w{way:?}{writer}-{}", written.len());
                    let outcome = match insert(address, &mut conn, &token, way).await {
                        Ok(()) => Outcome::Acknowledged,
                        Err(Error::Server(error)) if error.code == 1158 => {
                            conn = connect(address).await;
                            Outcome::Unknown
                        }
                        Err(Error::Server(error)) => {
                            let _ = conn.query_drop("ROLLBACK").await;
                            Outcome::Refused(error.code)
                        }
                        Err(_) => {
                            conn = connect(address).await;
                            Outcome::Unknown
                        }
                    };
                    acknowledged.fetch_add(usize::from(outcome == Outcome::Acknowledged), Ordering::Relaxed);
                    written.push((token, outcome));
                }
                written
            })
        };
        let tasks = (0..count).map(write).collect();
        Writers { stop, acknowledged, tasks }
    }

    /// These and those, which are told to end with them.
    fn and(mut self, others: Writers) -> Writers {
        let (stop, acknowledged) = (self.stop.clone(), self.acknowledged.clone());
        self.tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let more = others.acknowledged.swap(0, Ordering::Relaxed);
                acknowledged.fetch_add(more, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            others.end().await
        }));
        self
    }

    /// Waits until so many more writes are acknowledged.
    async fn go_on(&self, more: usize) {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + PATIENCE * 2;
        while self.acknowledged.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "writes do not go on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn end(self) -> Vec<(String, Outcome)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.expect("a writer"));
        }
        all
    }
}

async fn insert(address: SocketAddr, conn: &mut Conn, token: &str, way: Way) -> Result<(), Error> {
    let sql = format!("INSERT INTO log VALUES ('{token}')");
    match way {
        Way::Statement => return conn.query_drop(sql).await,
        Way::Connection => return try_connect(address).await?.query_drop(sql).await,
        Way::Transaction => {}
    }
    conn.query_drop("BEGIN").await?;
    conn.query_drop(sql).await?;
    conn.query_drop("COMMIT").await
}

/// Every acknowledged token is there exactly once, none that was refused is there, the others at most once.
fn check_log(primary: &mariadb::Server, written: &[(String, Outcome)]) {
    let mut present: HashMap<String, usize> = HashMap::new();
    for token in primary.sql("SELECT token FROM d.log").lines() {
        *present.entry(token.to_owned()).or_default() += 1;
    }
    for (token, outcome) in written {
        let count = present.get(token).copied().unwrap_or(0);
        let fits = match outcome {
            Outcome::Acknowledged => count == 1,
            Outcome::Refused(_) => count == 0,
            Outcome::Unknown => count <= 1,
        };
        assert!(fits, "{token} was {outcome:?} and is there {count} times");
    }
}

fn failed(written: &[(String, Outcome)]) -> Vec<&(String, Outcome)> {
    written.iter().filter(|(_, outcome)| *outcome != Outcome::Acknowledged).collect()
}

#[test]
fn the_primary_is_found_at_the_start() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(2, "");
    let Scene { cluster, server, address } = &scene;
    let shown = scene.show();
    assert_eq!((shown["epoch"].as_u64(), shown["switchovers"].as_u64()), (Some(1), Some(0)), "{shown}");
    for replica in &cluster.replicas {
        eventually("the replica gets reads", || scene.of(replica.port, "up") == "true");
        assert_eq!(scene.of(replica.port, "health"), "read-only");
    }
    assert_eq!(scene.of(cluster.primary.port, "position"), cluster.primary.sql("SELECT @@gtid_current_pos"));
    block_on(async {
        let mut conn = connect(*address).await;
        conn.query_drop("INSERT INTO log VALUES ('first')").await.expect("written");
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who FOR UPDATE").await, 1);
        assert!(one::<u32>(&mut conn, "SELECT id FROM who").await > 1, "reads go to replicas");
    });
    let text = server.ctl_ok(&["mysql", "show"]);
    let line = text.lines().find(|line| line.contains("primary  ")).expect("a line");
    assert!(line.contains(&cluster.primary.port.to_string()) && line.contains("writable"), "{text}");
    assert!(text.starts_with("splitter db (epoch 1, 0 switchovers, 0 held)\n"), "{text}");
    let status = server.status();
    assert_eq!(status["splitters"][0]["epoch"], 1);
    assert_eq!(status["splitters"][0]["servers"][2]["role"], "primary");
    let primary = format!("{{splitter=\"db\",server=\"127.0.0.1:{}\",role=\"primary\"}}", cluster.primary.port);
    assert_eq!(server.metric("one_server_splitter_server_role", &primary), 1.0);
    assert_eq!(server.metric("one_server_splitter_has_primary", "{splitter=\"db\"}"), 1.0);
}

#[test]
fn a_planned_switchover_fails_no_write() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(2, "");
    let Scene { cluster, server, address } = &scene;
    let [one, two] = &cluster.replicas[..] else { panic!("two replicas") };
    let written = block_on(async {
        let writers = Writers::start(*address, 4, Way::Statement).and(Writers::start(*address, 2, Way::Connection));
        writers.go_on(200).await;
        switch_over(&cluster.primary, one, &[two]);
        scene.wait_for_primary(one.port);
        writers.go_on(200).await;
        // Back, and this time it is announced: nobody runs into the old one.
        server.ctl_ok(&["mysql", "switchover", &id(cluster.primary.port)]);
        switch_over(one, &cluster.primary, &[two]);
        scene.wait_for_primary(cluster.primary.port);
        writers.go_on(200).await;
        writers.end().await
    });
    assert_eq!(failed(&written), Vec::<&(String, Outcome)>::new());
    check_log(&cluster.primary, &written);
    let shown = scene.show();
    assert_eq!((shown["epoch"].as_u64(), shown["switchovers"].as_u64()), (Some(3), Some(2)), "{shown}");
    assert!(server.metric("one_server_splitter_held_total", "{splitter=\"db\"}") > 0.0, "some of them waited");
    catch_up(two, &cluster.primary);
    assert_eq!(two.sql("SELECT COUNT(*) FROM d.log"), cluster.primary.sql("SELECT COUNT(*) FROM d.log"));
}

#[test]
fn transactions_over_a_switchover_move_or_are_rolled_back() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(1, "");
    let Scene { cluster, address, .. } = &scene;
    let (old, new) = (&cluster.primary, &cluster.replicas[0]);
    block_on(async {
        let mut idle = connect(*address).await;
        let mut begun = connect(*address).await;
        begun.query_drop("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").await.unwrap();
        begun.query_drop("START TRANSACTION").await.unwrap();
        let mut manual = connect(*address).await;
        manual.query_drop("SET autocommit=0").await.unwrap();
        manual.query_drop("INSERT INTO log VALUES ('manual-1')").await.unwrap();
        manual.query_drop("COMMIT").await.unwrap();
        let mut read = connect(*address).await;
        read.query_drop("BEGIN").await.unwrap();
        assert_eq!(one::<u32>(&mut read, "SELECT id FROM who").await, 1);
        let mut rolled_back = connect(*address).await;
        rolled_back.query_drop("BEGIN").await.unwrap();
        one::<u32>(&mut rolled_back, "SELECT id FROM who").await;
        let mut pinned = connect(*address).await;
        pinned.query_drop("CREATE TEMPORARY TABLE mine (id INT)").await.unwrap();
        idle.query_drop("INSERT INTO log VALUES ('idle-1')").await.unwrap();
        let writers = Writers::start(*address, 2, Way::Transaction);
        writers.go_on(50).await;

        switch_over(old, new, &[]);
        scene.wait_for_primary(new.port);
        idle.query_drop("INSERT INTO log VALUES ('idle-2')").await.unwrap();
        begun.query_drop("INSERT INTO log VALUES ('begun')").await.expect("nothing had happened in it");
        assert_eq!(one::<String>(&mut begun, "SELECT @@in_transaction").await, "1", "it is a transaction still");
        begun.query_drop("COMMIT").await.unwrap();
        manual.query_drop("INSERT INTO log VALUES ('manual-2')").await.expect("between two transactions");
        manual.query_drop("ROLLBACK").await.unwrap();
        assert_eq!(code(read.query_drop("INSERT INTO log VALUES ('read')").await), 1213, "it must be run again");
        read.query_drop("INSERT INTO log VALUES ('again')").await.expect("the session goes on");
        rolled_back.query_drop("ROLLBACK").await.expect("that is what has happened to it");
        rolled_back.query_drop("INSERT INTO log VALUES ('rolled-back')").await.unwrap();
        assert_eq!(code(pinned.query_drop("SELECT * FROM mine").await), 1158, "what the session had is gone");
        assert!(pinned.query_drop("SELECT 1").await.is_err(), "and so is the session");
        writers.go_on(50).await;
        let written = writers.end().await;
        check_log(new, &written);
        let codes: Vec<Outcome> = failed(&written).iter().map(|(_, outcome)| *outcome).collect();
        let known = |outcome: &Outcome| matches!(outcome, Outcome::Refused(1213 | 1290));
        assert!(codes.iter().all(known), "rolled back, and told so: {codes:?}");
    });
    let present = new.sql("SELECT token FROM d.log WHERE token NOT LIKE 'wTransaction%' ORDER BY token");
    assert_eq!(present, "again\nbegun\nidle-1\nidle-2\nmanual-1\nrolled-back");
}

#[test]
fn a_crash_and_a_promotion_lose_nothing_that_was_acknowledged() {
    if !mariadb::is_installed() {
        return;
    }
    let mut scene = scene(2, "");
    // Acknowledged means: a replica has it.
    for replica in &scene.cluster.replicas {
        replica.sql("SET GLOBAL rpl_semi_sync_slave_enabled=1; STOP SLAVE IO_THREAD; START SLAVE IO_THREAD");
    }
    scene.cluster.primary.sql(
        "SET GLOBAL rpl_semi_sync_master_wait_point='AFTER_SYNC'; SET GLOBAL rpl_semi_sync_master_timeout=60000;
         SET GLOBAL rpl_semi_sync_master_enabled=1",
    );
    let Scene { cluster, server, address } = &mut scene;
    block_on(async {
        let writers = Writers::start(*address, 4, Way::Statement);
        writers.go_on(200).await;
        cluster.primary.kill();
        let mut reader = connect(*address).await;
        assert!(one::<u32>(&mut reader, "SELECT id FROM who").await > 1, "reads go on");
        // Whichever got further; all that was received is applied first.
        for replica in &cluster.replicas {
            replica.sql("STOP SLAVE IO_THREAD");
            eventually("the relay log is applied", || {
                replica.sql("SHOW SLAVE STATUS").contains("Slave has read all relay log")
            });
        }
        let sequence = |server: &mariadb::Server| -> u64 {
            let position = server.sql("SELECT @@gtid_slave_pos");
            position.rsplit('-').next().expect("a GTID").parse().expect("a number")
        };
        let ahead = usize::from(sequence(&cluster.replicas[1]) > sequence(&cluster.replicas[0]));
        let (new, other) = (&cluster.replicas[ahead], &cluster.replicas[1 - ahead]);
        promote(new);
        follow(other, new);
        wait_for_primary(server, new.port);
        writers.go_on(200).await;
        let written = writers.end().await;
        check_log(new, &written);
        let failed = failed(&written);
        assert!(failed.iter().all(|(_, outcome)| *outcome == Outcome::Unknown), "{failed:?}");
        assert!(failed.len() <= 4, "one for each client that was writing: {failed:?}");

        // The old one comes back as it was, and takes writes.
        let fenced = cluster.primary.port;
        cluster.primary.start();
        eventually("the old primary is fenced", || field_of(&show(server), fenced, "role") == "fenced");
        server.wait_for_line("the alarm", |line| line.contains("fenced") && line.contains(&fenced.to_string()));
        let labels = format!("{{splitter=\"db\",server=\"127.0.0.1:{fenced}\"}}");
        assert_eq!(server.metric("one_server_splitter_server_fenced", &labels), 1.0);
        let new = &cluster.replicas[ahead];
        let mut conn = connect(*address).await;
        for n in 0..20 {
            conn.query_drop(format!("INSERT INTO log VALUES ('after-{n}')")).await.expect("written");
        }
        assert_eq!(new.sql("SELECT COUNT(*) FROM d.log WHERE token LIKE 'after%'"), "20");
        assert_eq!(cluster.primary.sql("SELECT COUNT(*) FROM d.log WHERE token LIKE 'after%'"), "0");
        let refused = server.ctl_fails(&["mysql", "accept", &id(fenced)]);
        assert!(refused.contains("set it read_only first"), "{refused}");
        // Read-only it is nothing special any more.
        demote(&cluster.primary);
        eventually("the fence is gone", || field_of(&show(server), fenced, "role") == "replica");
    });
}

#[test]
fn a_write_waits_as_long_as_it_may_and_no_more_than_may_wait() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(1, "primary_wait = \"1500ms\"\nheld_max = 2");
    let Scene { cluster, server, address } = &scene;
    demote(&cluster.primary);
    eventually("there is no primary", || scene.show()["vacancy"].is_string());
    block_on(async {
        let started = Instant::now();
        let address = *address;
        let wait = |n: usize| async move {
            let mut conn = connect(address).await;
            (code(conn.query_drop(format!("INSERT INTO log VALUES ('held-{n}')")).await), started.elapsed())
        };
        let tasks: Vec<_> = (0..5).map(|n| tokio::spawn(wait(n))).collect();
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.unwrap());
        }
        let long = all.iter().filter(|(_, elapsed)| *elapsed > Duration::from_millis(1400)).count();
        assert_eq!((long, all.len()), (2, 5), "{all:?}");
        assert!(all.iter().all(|(code, _)| *code == 1429), "{all:?}");
        let mut conn = connect(address).await;
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "reads go on");
        assert_eq!(server.metric("one_server_splitter_held_refused_total", "{splitter=\"db\"}"), 3.0);
        assert_eq!(server.metric("one_server_splitter_has_primary", "{splitter=\"db\"}"), 0.0);
        assert_eq!(scene.show()["held"], 0);
        cluster.primary.sql("SET GLOBAL read_only=0");
        conn.query_drop("INSERT INTO log VALUES ('found')").await.expect("it is there again");
    });
    assert_eq!(cluster.primary.sql("SELECT token FROM d.log"), "found");
}

/// `MASTER_GTID_WAIT` on a primary waits the whole time for what the server has written itself.
#[test]
fn trap_34_nobody_waits_on_the_primary_for_what_it_has_itself() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(2, "causal_timeout = \"30s\"");
    let Scene { cluster, address, .. } = &scene;
    let (old, new, other) = (&cluster.primary, &cluster.replicas[0], &cluster.replicas[1]);
    block_on(async {
        let mut sessions = Vec::new();
        for n in 0..4 {
            let mut conn = connect(*address).await;
            conn.query_drop(format!("INSERT INTO log VALUES ('before-{n}')")).await.unwrap();
            one::<u32>(&mut conn, "SELECT id FROM who").await;
            sessions.push(conn);
        }
        switch_over(old, new, &[other]);
        scene.wait_for_primary(new.port);
        let waits = new.counter("Master_gtid_wait_count");
        let started = Instant::now();
        for turn in 0..20 {
            for (n, conn) in sessions.iter_mut().enumerate() {
                one::<u32>(conn, "SELECT id FROM who").await;
                let token = format!("after-{turn}-{n}");
                conn.query_drop(format!("INSERT INTO log VALUES ('{token}')")).await.unwrap();
                let seen: u32 = one(conn, &format!("SELECT COUNT(*) FROM log WHERE token='{token}'")).await;
                assert_eq!(seen, 1, "a session sees what it has written");
            }
        }
        assert!(started.elapsed() < Duration::from_secs(25), "nobody waits in vain: {:?}", started.elapsed());
        assert_eq!(new.counter("Master_gtid_wait_count"), waits);
        assert!(other.counter("Master_gtid_wait_count") + old.counter("Master_gtid_wait_count") > 0, "replicas wait");
    });
}

/// Clients were told that something is committed, and the server that is left does not have it.
#[test]
fn a_candidate_that_lacks_something_needs_the_operators_word() {
    if !mariadb::is_installed() {
        return;
    }
    let mut scene = scene(1, "primary_wait = \"300ms\"\ncausal_timeout = \"30s\"");
    scene.cluster.replicas[0].sql("STOP SLAVE IO_THREAD");
    block_on(async {
        let mut session = connect(scene.address).await;
        session.query_drop("INSERT INTO log VALUES ('lost')").await.expect("acknowledged");
        scene.cluster.primary.kill();
        let Scene { cluster, server, address } = &scene;
        let new = &cluster.replicas[0];
        promote(new);
        eventually("it is not taken", || {
            let vacancy = scene.show()["vacancy"].as_str().unwrap_or_default().to_owned();
            vacancy.contains("lacks transactions that clients were told are committed")
        });
        server.wait_for_line("the way out", |line| line.contains(&format!("ctl mysql accept {}", id(new.port))));
        assert_eq!(code(session.query_drop("INSERT INTO log VALUES ('refused')").await), 1429);
        let told = server.ctl_ok(&["mysql", "accept", &id(new.port)]);
        assert_eq!(told, format!("{} is the primary as soon as it takes writes alone\n", id(new.port)));
        scene.wait_for_primary(new.port);
        let started = Instant::now();
        assert_eq!(
            one::<u32>(&mut session, "SELECT COUNT(*) FROM log").await,
            0,
            "it is gone, as the operator wanted it"
        );
        session.query_drop("INSERT INTO log VALUES ('kept')").await.expect("written");
        assert_eq!(one::<u32>(&mut session, "SELECT COUNT(*) FROM log").await, 1);
        let mut other = connect(*address).await;
        one::<u32>(&mut other, "SELECT COUNT(*) FROM log").await;
        assert!(started.elapsed() < Duration::from_secs(10), "nobody waits for what is gone: {:?}", started.elapsed());
        assert_eq!(scene.show()["epoch"], 2);
    });
}

/// The first result of a batch says that something is committed, the batch goes on, and another server could lead meanwhile.
#[test]
fn what_a_batch_has_told_so_far_counts() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(1, "primary_wait = \"300ms\"");
    let (old, new) = (&scene.cluster.primary, &scene.cluster.replicas[0]);
    new.sql("STOP SLAVE IO_THREAD");
    block_on(async {
        let mut session = connect(scene.address).await;
        let batch = "INSERT INTO log VALUES ('told'); SELECT SLEEP(20)";
        let told = session.query_iter(batch).await.expect("its first result");
        assert_eq!(told.affected_rows(), 1);
        demote(old);
        promote(new);
        eventually("it is not taken", || {
            let vacancy = scene.show()["vacancy"].as_str().unwrap_or_default().to_owned();
            vacancy.contains("lacks transactions that clients were told are committed")
        });
    });
}

/// A statement runs while its server falls and leads again: what it commits is of the epoch in which its client is told.
#[test]
fn what_a_primary_that_leads_again_acknowledges_counts() {
    if !mariadb::is_installed() {
        return;
    }
    let mut scene = scene(1, "primary_wait = \"5s\"");
    let address = scene.address;
    block_on(async {
        let (old, new) = (&scene.cluster.primary, &scene.cluster.replicas[0]);
        let slow = tokio::spawn(async move {
            connect(address).await.query_drop("INSERT INTO log SELECT CONCAT('slow', SLEEP(10))").await
        });
        let running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO log SELECT%'";
        eventually("it runs", || old.sql(running) == "1");
        // Two take writes for a moment.
        promote(new);
        eventually("nobody leads", || scene.show()["vacancy"].is_string());
        new.sql("SET GLOBAL read_only=1");
        scene.wait_for_primary(old.port);
        // On each data worker.
        for _ in 0..24 {
            connect(address).await.query_drop("INSERT INTO log VALUES ('quick')").await.expect("written");
        }
        let position = old.sql("SELECT @@gtid_binlog_pos");
        new.sql(&format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='replication', MASTER_PASSWORD='r', \
             MASTER_USE_GTID=slave_pos; START SLAVE UNTIL master_gtid_pos='{position}'",
            old.port
        ));
        catch_up(new, old);
        assert_eq!((old.sql(running), scene.show()["epoch"].as_u64()), ("1".into(), Some(2)));
        slow.await.expect("a task").expect("acknowledged");
        scene.cluster.primary.kill();
        promote(&scene.cluster.replicas[0]);
        eventually("it is not taken", || {
            let vacancy = scene.show()["vacancy"].as_str().unwrap_or_default().to_owned();
            vacancy.contains("lacks transactions that clients were told are committed")
        });
        let has = scene.cluster.replicas[0].sql("SELECT COUNT(*), MAX(token) FROM d.log");
        assert_eq!(has, "24\tquick", "it has all that was written before");
    });
}

/// What one client was told is gone holds up nobody else's reads on a replica, at the level where they see each other's writes.
#[test]
fn what_is_gone_is_waited_for_by_no_session() {
    if !mariadb::is_installed() {
        return;
    }
    let mut scene = scene(2, "primary_wait = \"300ms\"\ncausal_reads = \"node\"\ncausal_timeout = \"30s\"");
    scene.cluster.replicas.iter().for_each(|replica| drop(replica.sql("STOP SLAVE IO_THREAD")));
    block_on(async {
        let mut writer = connect(scene.address).await;
        writer.query_drop("INSERT INTO log VALUES ('lost')").await.expect("acknowledged");
        scene.cluster.primary.kill();
        let Scene { cluster, server, address } = &scene;
        let [new, other] = &cluster.replicas[..] else { panic!("two replicas") };
        eventually("the end of the primary is noticed", || scene.of(cluster.primary.port, "up") != "true");
        server.ctl_ok(&["mysql", "accept", &id(new.port)]);
        promote(new);
        scene.wait_for_primary(new.port);
        follow(other, new);
        eventually("the replica gets reads", || scene.of(other.port, "up") == "true");
        let started = Instant::now();
        let mut readers = [writer, connect(*address).await];
        for reader in &mut readers {
            assert_eq!(one::<u32>(reader, "SELECT COUNT(*) FROM log").await, 0);
            assert_eq!(one::<u32>(reader, "SELECT id FROM who").await, other.id, "on the replica");
        }
        let [writer, reader] = &mut readers;
        writer.query_drop("INSERT INTO log VALUES ('kept')").await.expect("written");
        assert_eq!(one::<u32>(reader, "SELECT COUNT(*) FROM log").await, 1, "what is there is seen at once");
        assert!(started.elapsed() < Duration::from_secs(10), "nobody waits for what is gone: {:?}", started.elapsed());
    });
}

/// What a read must see does not depend on who is the primary when it comes.
#[test]
fn levels_of_causal_reads_hold_over_switchovers() {
    if !mariadb::is_installed() {
        return;
    }
    for level in ["node", "strict"] {
        let scene = scene(2, &format!("causal_reads = \"{level}\"\ncausal_timeout = \"10s\""));
        let Scene { cluster, address, .. } = &scene;
        let [one_replica, other] = &cluster.replicas[..] else { panic!("two replicas") };
        block_on(async {
            let (mut writer, mut reader) = (connect(*address).await, connect(*address).await);
            let mut on_replicas = 0;
            for (turn, (old, new)) in
                [(&cluster.primary, one_replica), (one_replica, &cluster.primary)].iter().enumerate()
            {
                for n in 0..40 {
                    if n == 20 {
                        switch_over(old, new, &[other]);
                    }
                    let token = format!("{level}-{turn}-{n}");
                    writer.query_drop(format!("INSERT INTO log VALUES ('{token}')")).await.expect("written");
                    let seen: u32 = one(&mut reader, &format!("SELECT COUNT(*) FROM log WHERE token='{token}'")).await;
                    assert_eq!(seen, 1, "{token}");
                }
                scene.wait_for_primary(new.port);
                if level == "strict" {
                    // By somebody else, who does not come through the splitter.
                    new.sql(&format!("INSERT INTO d.log VALUES ('aside-{turn}')"));
                    let sql = format!("SELECT COUNT(*) FROM log WHERE token='aside-{turn}'");
                    assert_eq!(one::<u32>(&mut reader, &sql).await, 1);
                }
                on_replicas += u32::from(one::<u32>(&mut reader, "SELECT id FROM who").await != new.id);
            }
            assert_eq!(on_replicas, 2, "reads are on replicas, before and after");
        });
    }
}

/// A READ ONLY transaction on a replica has nothing to do with who is the primary.
#[test]
fn a_read_only_transaction_goes_on_where_it_is_over_a_switchover() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(2, "");
    let Scene { cluster, address, .. } = &scene;
    let [new, other] = &cluster.replicas[..] else { panic!("two replicas") };
    for replica in [new, other] {
        eventually("the replica gets reads", || scene.of(replica.port, "up") == "true");
    }
    block_on(async {
        let mut sessions = Vec::new();
        // On each of the replicas, on the one that is promoted, too.
        while !([new.id, other.id].iter().all(|id| sessions.iter().any(|(_, at)| at == id))) {
            let mut conn = connect(*address).await;
            conn.query_drop("START TRANSACTION READ ONLY").await.expect("begun");
            let at: u32 = one(&mut conn, "SELECT id FROM who").await;
            assert!(sessions.len() < 20 && at != cluster.primary.id, "on replica {at}");
            sessions.push((conn, at));
        }
        switch_over(&cluster.primary, new, &[other]);
        scene.wait_for_primary(new.port);
        let mut writer = connect(*address).await;
        writer.query_drop("INSERT INTO log VALUES ('meanwhile')").await.expect("written");
        for (conn, at) in &mut sessions {
            assert_eq!(one::<u32>(conn, "SELECT id FROM who").await, *at);
            assert_eq!(one::<u32>(conn, "SELECT COUNT(*) FROM log").await, 0, "as of its begin");
            conn.query_drop("COMMIT").await.expect("ended");
            conn.query_drop("INSERT INTO log VALUES ('after')").await.expect("on the new primary");
        }
        assert_eq!(new.sql("SELECT COUNT(*) FROM d.log WHERE token='after'"), sessions.len().to_string());
    });
}

/// Two servers with `read_only=0`: whichever got a write, it would be missing on the other one.
#[test]
fn trap_35_two_writable_servers_get_no_writes() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(1, "primary_wait = \"300ms\"");
    let Scene { cluster, server, address } = &scene;
    block_on(async {
        let mut conn = connect(*address).await;
        promote(&cluster.replicas[0]);
        eventually("there is no primary", || scene.show()["vacancy"] == "more than one server takes writes");
        let line = server.wait_for_line("both are named", |line| line.contains("more than one server takes writes"));
        for port in [cluster.primary.port, cluster.replicas[0].port] {
            assert!(line.contains(&port.to_string()), "{line}");
        }
        assert_eq!(code(try_connect(*address).await), 1429, "nobody knows the database");
        let error = conn.query_drop("INSERT INTO log VALUES ('x')").await.unwrap_err().to_string();
        assert!(error.contains("more than one server takes writes"), "{error}");
        demote(&cluster.replicas[0]);
        scene.wait_for_primary(cluster.primary.port);
        conn.query_drop("INSERT INTO log VALUES ('y')").await.expect("one is left");
    });
    assert_eq!(cluster.primary.sql("SELECT token FROM d.log"), "y");
    assert_eq!(cluster.replicas[0].sql("SELECT COUNT(*) FROM d.log"), "0");
}

/// A primary that was cut off and comes back still thinks that it is one; so do sessions with a transaction there.
#[test]
fn trap_36_a_primary_that_was_cut_off_is_fenced() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(1, "");
    let Scene { cluster, address, .. } = &scene;
    let (old, new) = (&cluster.primary, &cluster.replicas[0]);
    block_on(async {
        let mut session = connect(*address).await;
        session.query_drop("BEGIN").await.unwrap();
        session.query_drop("INSERT INTO log VALUES ('open')").await.unwrap();
        let mut waiting = connect(*address).await;
        waiting.query_drop("INSERT INTO log VALUES ('before')").await.unwrap();
        catch_up(new, old);
        old.freeze(true);
        // Sent to a server that says nothing any more.
        let stuck = tokio::spawn(async move { waiting.query_drop("INSERT INTO log VALUES ('stuck')").await });
        eventually("the silence is noticed", || scene.of(old.port, "health") == "down");
        promote(new);
        scene.wait_for_primary(new.port);
        let error = stuck.await.unwrap();
        assert!(matches!(code(error), 1158), "its outcome is unknown, and said to be");
        let mut other = connect(*address).await;
        other.query_drop("INSERT INTO log VALUES ('after')").await.expect("on the new one");
        old.freeze(false);
        eventually("the old primary is fenced", || scene.of(old.port, "role") == "fenced");
        assert_eq!(code(session.query_drop("COMMIT").await), 1213, "nothing is committed behind the fence");
        session.query_drop("INSERT INTO log VALUES ('again')").await.expect("the session goes on");
        for _ in 0..20 {
            assert_eq!(one::<u32>(&mut other, "SELECT id FROM who FOR UPDATE").await, 2);
        }
    });
    assert_eq!(new.sql("SELECT token FROM d.log ORDER BY token"), "after\nagain\nbefore");
    assert!(!old.sql("SELECT token FROM d.log").contains("open"));
    assert_eq!(scene.show()["epoch"], 2);
}

/// Sessions that stay with what they knew: a replica of the server that was left behind, connections to it.
#[test]
fn trap_37_sessions_leave_what_a_switchover_has_left_behind() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(2, "");
    let Scene { cluster, address, .. } = &scene;
    let (old, new, orphan) = (&cluster.primary, &cluster.replicas[0], &cluster.replicas[1]);
    block_on(async {
        let mut sessions = Vec::new();
        for n in 0..6 {
            let mut conn = connect(*address).await;
            conn.query_drop(format!("INSERT INTO log VALUES ('s{n}')")).await.unwrap();
            one::<u32>(&mut conn, "SELECT id FROM who").await;
            sessions.push(conn);
        }
        // One replica is forgotten: it follows a server that gets no writes any more, and is never behind.
        demote(old);
        catch_up(new, old);
        promote(new);
        scene.wait_for_primary(new.port);
        eventually("the forgotten replica gets no reads", || scene.of(orphan.port, "up") == "false");
        for conn in &mut sessions {
            let id: u64 = one(conn, "SELECT LAST_INSERT_ID()").await;
            assert_eq!(id, 0);
            conn.query_drop("INSERT INTO log VALUES ('moved')").await.expect("on the new primary");
            assert_eq!(one::<u32>(conn, "SELECT id FROM who").await, 2, "nobody else has it");
            assert_eq!(one::<u32>(conn, "SELECT @@server_id").await, 2);
        }
        // Nobody is connected there but those who look after it.
        let connections = |server: &mariadb::Server| {
            let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user='{USER}'");
            server.sql(&sql)
        };
        eventually("connections to the old primary are closed", || connections(old) == "1");
        follow(old, new);
        follow(orphan, old);
        eventually("a replica of a replica of the primary gets reads", || scene.of(orphan.port, "up") == "true");
        eventually("and so does the old primary", || scene.of(old.port, "up") == "true");
    });
    assert_eq!(new.sql("SELECT COUNT(*) FROM d.log WHERE token='moved'"), "6");
}

/// An auto-increment id is the session's own, whoever is the primary when it asks.
#[test]
fn the_last_insert_id_survives_a_switchover() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(1, "");
    let Scene { cluster, address, .. } = &scene;
    cluster.primary.sql("CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT) AUTO_INCREMENT=77");
    block_on(async {
        let mut sessions = Vec::new();
        for n in 0..4 {
            let mut conn = connect(*address).await;
            conn.query_drop("INSERT INTO t (v) VALUES (1)").await.unwrap();
            sessions.push((77 + n, conn));
        }
        switch_over(&cluster.primary, &cluster.replicas[0], &[]);
        scene.wait_for_primary(cluster.replicas[0].port);
        for (expected, conn) in &mut sessions {
            conn.query_drop("INSERT INTO t (id, v) VALUES (LAST_INSERT_ID() + 1000, 2)").await.unwrap();
            assert_eq!(one::<u64>(conn, "SELECT MAX(id) FROM t WHERE id > 1000").await, *expected + 1000);
        }
    });
}

/// Group Replication says itself who its primary is; the part of it without a majority is not asked.
#[test]
fn the_primary_of_a_group_is_whom_the_majority_names() {
    use mysql8::Reply;
    let key = mysql8::RsaKey::new();
    let identity = || support::tls::trusted().server(&["127.0.0.1"], support::tls::Kind::Ecdsa);
    // Index of the primary, and of the member that sees itself alone.
    let (primary, alone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(9)));
    let written: Vec<Arc<AtomicUsize>> = (0..3).map(|_| Arc::default()).collect();
    let answer = |me: usize| {
        let (primary, alone, written) = (primary.clone(), alone.clone(), written[me].clone());
        move |sql: &str| {
            let text = |text: &str| Some(text.to_owned());
            let alone = alone.load(Ordering::Relaxed);
            // The one that is cut off still thinks what it thought before.
            let primary = if alone == me { me } else { primary.load(Ordering::Relaxed) };
            if sql.starts_with("SHOW GLOBAL VARIABLES") {
                let names = ["read_only", "super_read_only", "group_replication_group_name"];
                Reply::Rows(vec!["Variable_name", "Value"], names.map(|name| vec![text(name), text("")]).to_vec())
            } else if sql.starts_with("SELECT @@global.read_only") {
                let read_only = if primary == me { "0" } else { "1" };
                let columns = vec!["read_only", "super_read_only", "group_replication_group_name"];
                Reply::Rows(columns, vec![vec![text(read_only), text(read_only), text("aaaa-bbbb")]])
            } else if sql.contains("replication_group_members") {
                let member = |member: usize| {
                    let reachable = member == me || (alone != me && alone != member);
                    let state = if reachable { "ONLINE" } else { "UNREACHABLE" };
                    let role = if member == primary { "PRIMARY" } else { "SECONDARY" };
                    vec![text(if member == me { "1" } else { "0" }), text(state), text(role)]
                };
                Reply::Rows(vec!["me", "state", "role"], (0..3).map(member).collect())
            } else if sql.starts_with("SHOW ALL SLAVES") {
                Reply::Error(1064, "42000", "You have an error in your SQL syntax")
            } else if sql.starts_with("INSERT") {
                written.fetch_add(1, Ordering::Relaxed);
                Reply::Fine
            } else {
                Reply::Fine
            }
        }
    };
    let servers: Vec<mysql8::Mysql8> = (0..3)
        .map(|me| {
            let server = mysql8::Mysql8::start(mysql8::Full::Warm, USER, PASSWORD, &key, identity());
            server.answer_with(answer(me));
            server
        })
        .collect();
    let server = start(servers.iter().map(mysql8::Mysql8::port), "");
    let (address, port) = (server.address("db"), |n: usize| servers[n].port());
    wait_for_primary(&server, port(0));
    eventually("secondaries get reads", || field_of(&show(&server), port(2), "up") == "true");
    block_on(async {
        let mut conn = connect(address).await;
        conn.query_drop("INSERT INTO t VALUES (1)").await.expect("on the primary");
        alone.store(0, Ordering::Relaxed);
        primary.store(1, Ordering::Relaxed);
        wait_for_primary(&server, port(1));
        conn.query_drop("INSERT INTO t VALUES (2)").await.expect("on the new one");
        assert_eq!(field_of(&show(&server), port(0), "health"), "read-only", "whatever it says of itself");
        let count = |n: usize| written[n].load(Ordering::Relaxed);
        assert_eq!((count(0), count(1), count(2)), (1, 1, 0));
    });
}

#[test]
fn a_drained_replica_gets_no_reads_and_a_drained_primary_lets_writes_wait() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(2, "");
    let Scene { cluster, server, address } = &scene;
    let ports: Vec<u16> = cluster.replicas.iter().map(|replica| replica.port).collect();
    for port in &ports {
        eventually("the replica gets reads", || scene.of(*port, "up") == "true");
    }
    block_on(async {
        let mut conn = connect(*address).await;
        let first: u32 = one(&mut conn, "SELECT id FROM who").await;
        let drained = id(ports[first as usize - 2]);
        assert_eq!(server.ctl_ok(&["mysql", "drain", &drained]), format!("{drained} is drain, was ready\n"));
        for _ in 0..20 {
            let now: u32 = one(&mut conn, "SELECT id FROM who").await;
            assert!(now > 1 && now != first, "{now}");
        }
        assert_eq!(scene.of(ports[first as usize - 2], "admin"), "drain");
        assert_eq!(server.metric("one_server_splitter_server_drained", &label(&drained)), 1.0);
        let other = id(ports[3 - first as usize]);
        server.ctl_ok(&["mysql", "maintenance", &other]);
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1, "the primary is left");
        server.ctl_ok(&["mysql", "ready", &drained]);
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, first);
        server.ctl_ok(&["mysql", "ready", &other]);

        let primary = id(cluster.primary.port);
        server.ctl_ok(&["mysql", "drain", &primary]);
        let mut writer = connect(*address).await;
        let write = tokio::spawn(async move { writer.query_drop("INSERT INTO log VALUES ('held')").await });
        eventually("the write waits", || scene.show()["held"] == 1);
        assert!(one::<u32>(&mut conn, "SELECT id FROM who").await > 1, "reads go on");
        server.ctl_ok(&["mysql", "ready", &primary]);
        write.await.unwrap().expect("and is written then");
    });
    assert_eq!(cluster.primary.sql("SELECT token FROM d.log"), "held");
    let unknown = server.ctl_fails(&["mysql", "drain", "db/127.0.0.1:1"]);
    assert!(unknown.contains("splitter `db` has no server `127.0.0.1:1`: there are 127.0.0.1:"), "{unknown}");
}

fn label(id: &str) -> String {
    format!("{{splitter=\"db\",server=\"{}\"}}", id.strip_prefix("db/").expect("of this splitter"))
}
