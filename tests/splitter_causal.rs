//! What a session reads through the splitter is never older than what it must see: its own writes, what it was shown before,
//! and at higher levels the writes of others; with replicas that are late, stopped, or lost.
//!
//! Traps are numbered as in the collection of what goes wrong in splitters.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests freeze servers")]
mod mariadb;
#[path = "support/mysql8.rs"]
#[allow(dead_code, reason = "other tests log on by other methods")]
mod mysql8;
#[path = "support/mysql8_gtids.rs"]
mod mysql8_gtids;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Conn, Error, OptsBuilder};
use mysql8_gtids::Fleet;
use support::ports;
use support::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(PATIENCE * 5, future).await.expect("in time") };
    runtime.block_on(limited)
}

/// A splitter with one data worker; its table has `lines`, too.
fn splitter(driver: Driver, primary: u16, replicas: &[u16], lines: &str) -> Server {
    splitter_site(driver, primary, replicas, lines).one_worker().start()
}

fn splitter_site(driver: Driver, primary: u16, replicas: &[u16], lines: &str) -> Site {
    let replicas: Vec<_> = replicas.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let text = format!(
        "[mysql.db]\nlisten = \"127.0.0.1:0\"\nprimary = \"127.0.0.1:{primary}\"\nreplicas = [{}]\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\nmonitor_interval = \"100ms\"\n{lines}\n",
        replicas.join(", ")
    );
    Site::new(driver, "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n").more(&text)
}

fn before(driver: Driver, cluster: &Cluster, lines: &str) -> Server {
    let replicas: Vec<u16> = cluster.replicas.iter().map(|replica| replica.port).collect();
    let server = splitter(driver, cluster.primary.port, &replicas, lines);
    block_on(wait_for_replicas(&server, replicas.len()));
    server
}

/// Waits until the splitter sends reads to all replicas.
async fn wait_for_replicas(server: &Server, replicas: usize) {
    let are_used = || {
        let status = server.status();
        let servers = status["splitters"][0]["servers"].as_array().expect("a list").clone();
        servers.iter().filter(|server| server["role"] == "replica" && server["lag_ms"].is_u64()).count() == replicas
    };
    wait_until("replicas are used", are_used).await;
}

async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn connect(address: SocketAddr) -> Conn {
    connect_to(address, Some("d")).await
}

async fn connect_to(address: SocketAddr, schema: Option<&str>) -> Conn {
    let options = OptsBuilder::default()
        .ip_or_hostname(address.ip().to_string())
        .tcp_port(address.port())
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .db_name(schema)
        .prefer_socket(false);
    Conn::new(options).await.expect("logged on")
}

async fn one<T: FromValue + Send + 'static>(conn: &mut Conn, sql: &str) -> T {
    conn.query_first::<T, _>(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).expect("a row")
}

async fn run(conn: &mut Conn, sql: &str) {
    conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn code(conn: &mut Conn, sql: &str) -> u16 {
    match conn.query_drop(sql).await {
        Err(Error::Server(error)) => error.code,
        other => panic!("{sql}: not an error of a server: {other:?}"),
    }
}

fn metric(server: &Server, name: &str) -> u64 {
    server.metric(&format!("one_server_splitter_{name}"), "splitter=\"db\"") as u64
}

fn connections_opened(server: &Server, port: u16) -> u64 {
    server.metric("one_server_splitter_server_connects_total", &format!("server=\"127.0.0.1:{port}\"")) as u64
}

/// Table `who` says on which server a read ran (1: the primary): the replicas' content differs, behind replication's back.
fn mark_servers(cluster: &Cluster) {
    cluster.primary.sql("CREATE TABLE d.who (id INT) ENGINE=InnoDB; INSERT INTO d.who VALUES (1)");
    cluster.wait_for_replicas();
    for replica in &cluster.replicas {
        let id = replica.id;
        let marked = replica.sql(&format!("SET sql_log_bin=0; UPDATE d.who SET id={id}; SELECT id FROM d.who"));
        assert_eq!(marked, id.to_string());
    }
}

/// From now on this replica applies everything so many seconds late.
fn delay(cluster: &Cluster, replica: usize, seconds: u32) {
    cluster.replicas[replica].sql(&format!("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY={seconds}; START SLAVE"));
}

#[test]
fn each_level_sees_what_it_promises_on_a_late_replica() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.t (n INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB");
    mark_servers(&cluster);
    delay(&cluster, 0, 1);
    // Where a read goes is not the driver's affair: two levels show that it works with the other one.
    let (all, some) = (&["off", "session", "node", "strict"][..], &["off", "session"][..]);
    for (driver, levels) in [(Driver::IoUring, all), (Driver::Epoll, some)] {
        for &level in levels {
            let lines = format!("causal_reads = \"{level}\"\ncausal_timeout = \"5s\"");
            let server = before(driver, &cluster, &lines);
            block_on(sees(level, &server, &cluster));
        }
        cluster.wait_for_replicas();
    }
}

async fn sees(level: &str, server: &Server, cluster: &Cluster) {
    let address = server.address("db");
    let (mut writer, mut other) = (connect(address).await, connect(address).await);
    const COUNT: &str = "SELECT COUNT(*) FROM t";
    let written = || cluster.primary.sql("SELECT COUNT(*) FROM d.t").parse::<u64>().expect("a number");
    cluster.wait_for_replicas();
    let start = written();
    assert_eq!(one::<u64>(&mut writer, COUNT).await, start);
    assert_eq!(one::<u32>(&mut other, "SELECT id FROM who").await, 2, "{level}");
    // Its own writes: in autocommit, in a transaction, prepared.
    run(&mut writer, "INSERT INTO t VALUES ()").await;
    run(&mut writer, "BEGIN").await;
    run(&mut writer, "INSERT INTO t VALUES ()").await;
    run(&mut writer, "COMMIT").await;
    writer.exec_drop("INSERT INTO t VALUES ()", ()).await.expect("written");
    // Others first: a wait for the one session would make it true for all.
    let sees_others = matches!(level, "node" | "strict");
    let seen: u64 = one(&mut other, COUNT).await;
    assert_eq!(seen, if sees_others { start + 3 } else { start }, "{level}: what others write through the splitter");
    let seen: u64 = one(&mut writer, COUNT).await;
    assert_eq!(seen, if level == "off" { start } else { start + 3 }, "{level}: what it wrote");
    assert_eq!(one::<u32>(&mut writer, "SELECT id FROM who").await, 2, "{level}: the replica has waited");
    // What somebody else writes past the splitter.
    cluster.wait_for_replicas();
    let before = written();
    cluster.primary.sql("INSERT INTO d.t VALUES ()");
    let seen: u64 = one(&mut other, COUNT).await;
    assert_eq!(seen, if level == "strict" { before + 1 } else { before }, "{level}: what is written elsewhere");
    let (waits, asked) = (metric(server, "causal_waits_total"), metric(server, "causal_questions_total"));
    assert_eq!((waits > 0, asked > 0), (level != "off", level == "strict"), "{level}");
    assert_eq!(metric(server, "causal_timeouts_total") + metric(server, "causal_fallbacks_total"), 0, "{level}");
    for conn in [writer, other] {
        conn.disconnect().await.expect("gone");
    }
}

#[test]
fn a_replica_that_is_too_late_is_not_waited_for_longer_than_allowed() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB");
    mark_servers(&cluster);
    delay(&cluster, 0, 600);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = before(driver, &cluster, "lag_max = \"1h\"\ncausal_timeout = \"300ms\"");
        block_on(async {
            let mut conn = connect(server.address("db")).await;
            for turn in 1..=3 {
                run(&mut conn, "INSERT INTO t VALUES (1)").await;
                let started = Instant::now();
                assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1, "the primary answers");
                let took = started.elapsed();
                assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(4), "{took:?}");
                assert_eq!(metric(&server, "causal_timeouts_total"), turn);
                assert_eq!(metric(&server, "causal_fallbacks_total"), turn);
            }
            // Their connections are kept: each had a read behind the wait, whose answer nobody wanted.
            let mut other = connect(server.address("db")).await;
            assert_eq!(one::<u32>(&mut other, "SELECT id FROM who").await, 2, "who has written nothing reads there");
            assert!(connections_opened(&server, cluster.replicas[0].port) <= 2, "{}", server.admin("/metrics"));
        });
    }
}

#[test]
fn questions_to_the_primary_are_shared() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = before(driver, &cluster, "causal_reads = \"strict\"");
        block_on(async {
            let clients = (0..8).map(|_| async {
                let mut conn = connect(server.address("db")).await;
                for _ in 0..50 {
                    assert_eq!(one::<u32>(&mut conn, WHO).await, 2);
                }
            });
            at_once(clients).await;
            let asked = metric(&server, "causal_questions_total");
            assert!((1..400).contains(&asked), "{asked} questions for 400 reads, eight at a time");
            // The primary hangs: what cannot be known to be fresh is not shown.
            let mut conn = connect(server.address("db")).await;
            assert_eq!(one::<u32>(&mut conn, WHO).await, 2);
            cluster.primary.freeze(true);
            let shown = tokio::time::timeout(Duration::from_secs(1), conn.query_first::<u32, _>(WHO)).await;
            cluster.primary.freeze(false);
            assert!(!matches!(shown, Ok(Ok(_))), "{shown:?}");
        });
    }
}

/// Runs all at once on this thread.
async fn at_once(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[test]
fn trap_10_selects_with_side_effects_stay_on_the_primary() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start_with(1, &[], &["--log-bin-trust-function-creators=1"]);
    mark_servers(&cluster);
    cluster.primary.sql(
        "CREATE TABLE d.log (n INT) ENGINE=InnoDB;\nDELIMITER //
         CREATE FUNCTION d.note() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO d.log VALUES (1); RETURN 1; END//",
    );
    cluster.wait_for_replicas();
    // An account that a read-only server does not stop.
    cluster.replicas[0].sql(&format!("SET sql_log_bin=0; GRANT READ_ONLY ADMIN ON *.* TO {USER}@'%'"));
    for (turn, driver) in (1..).zip([Driver::IoUring, Driver::Epoll]) {
        let server = before(driver, &cluster, "");
        let warning =
            server.wait_for_line("a warning of the account's rights", |line| line.contains("READ_ONLY ADMIN"));
        assert!(warning.contains(&cluster.replicas[0].port.to_string()), "{warning}");
        block_on(async {
            for sql in ["SELECT id FROM who WHERE note() = 1", "SELECT id FROM who WHERE d.note() = 1 -- GROUP BY id"] {
                let mut conn = connect(server.address("db")).await;
                assert_eq!(one::<u32>(&mut conn, sql).await, 1, "{sql}");
                conn.disconnect().await.expect("gone");
            }
        });
        cluster.wait_for_replicas();
        assert_eq!(cluster.primary.sql("SELECT COUNT(*) FROM d.log"), (2 * turn).to_string());
        assert_eq!(
            cluster.replicas[0].sql("SELECT COUNT(*) FROM d.log"),
            (2 * turn).to_string(),
            "nothing but replicated"
        );
        assert_eq!(cluster.replicas[0].sql("SELECT @@gtid_slave_pos = @@gtid_current_pos"), "1", "no write of its own");
    }
}

#[test]
fn trap_11_a_select_is_known_by_its_tokens_not_by_its_first_letters() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = before(driver, &cluster, "");
        block_on(async {
            for (sql, server_id) in [
                ("/* c */ SELECT id FROM who", 2),
                ("\n\t SELECT id FROM who", 2),
                ("(SELECT id FROM who)", 2),
                ("WITH c AS (SELECT id FROM who) SELECT id FROM c", 2),
                ("-- c\nSELECT id FROM who", 2),
                ("/* SELECT */ SELECT id FROM who FOR UPDATE", 1),
                ("((SELECT id FROM who FOR UPDATE))", 1),
                ("WITH c AS (SELECT id FROM who FOR UPDATE) SELECT id FROM c", 1),
                ("SELECT id FROM who /*! FOR UPDATE */", 1),
                ("SELECT id FROM who /*M!100000 FOR UPDATE */", 1),
                ("SELECT id FROM who -- x\n FOR UPDATE", 1),
            ] {
                let mut conn = connect(server.address("db")).await;
                assert_eq!(one::<u32>(&mut conn, sql).await, server_id, "{sql}");
                conn.disconnect().await.expect("gone");
            }
            // Two statements in one packet, of which the second locks.
            let mut conn = connect(server.address("db")).await;
            let mut results =
                conn.query_iter("SELECT id FROM who; SELECT id FROM who FOR UPDATE").await.expect("results");
            for _ in 0..2 {
                assert_eq!(results.collect::<u32>().await.expect("rows"), [1]);
            }
        });
    }
}

#[test]
fn trap_12_without_autocommit_all_is_one_transaction_on_one_server() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB");
    mark_servers(&cluster);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = before(driver, &cluster, "");
        block_on(async {
            let mut conn = connect(server.address("db")).await;
            run(&mut conn, "SET autocommit=0").await;
            let thread: u64 = one(&mut conn, "SELECT @@pseudo_thread_id").await;
            for end in ["COMMIT", "ROLLBACK", "COMMIT"] {
                assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1, "before the first write");
                run(&mut conn, "INSERT INTO t VALUES (1)").await;
                assert_eq!(one::<u64>(&mut conn, "SELECT @@pseudo_thread_id").await, thread);
                run(&mut conn, end).await;
            }
            assert_eq!(one::<u64>(&mut conn, "SELECT COUNT(*) FROM t").await, 2, "one was rolled back");
            run(&mut conn, "DELETE FROM t").await;
            run(&mut conn, "COMMIT").await;
            run(&mut conn, "SET autocommit=1").await;
            assert_eq!(one::<u64>(&mut conn, "SELECT COUNT(*) FROM t").await, 0, "and that is its own write");
            assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
        });
    }
}

#[test]
fn trap_17_no_statement_of_a_client_runs_on_more_than_one_server() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(2);
    cluster.primary.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB");
    mark_servers(&cluster);
    let server = before(Driver::IoUring, &cluster, "causal_reads = \"off\"");
    let servers = || std::iter::once(&cluster.primary).chain(&cluster.replicas);
    servers().for_each(|server| drop(server.sql("SET GLOBAL log_output='TABLE', general_log=1")));
    let ran = |sql: &str| -> Vec<u64> {
        let from = format!("FROM mysql.general_log WHERE user_host LIKE '{USER}%' AND argument LIKE '{sql}%'");
        let count = |server: &mariadb::Server| server.sql(&format!("SELECT COUNT(*) {from}")).parse();
        servers().map(|server| count(server).expect("a number")).collect()
    };
    block_on(async {
        let mut conn = connect(server.address("db")).await;
        for n in 0..10 {
            run(&mut conn, &format!("SET NAMES utf8mb4, sql_mode='ANSI', @@session.group_concat_max_len={}", 1000 + n))
                .await;
            run(&mut conn, "INSERT INTO t VALUES (1)").await;
            run(&mut conn, "INSERT INTO t VALUES (2); DELETE FROM t WHERE n = 2").await;
            conn.reset().await.expect("reset");
            for _ in 0..4 {
                assert!(one::<u32>(&mut conn, "SELECT id FROM who").await > 1);
            }
        }
    });
    assert_eq!(ran("INSERT"), [20, 0, 0]);
    assert_eq!(ran("SET NAMES"), [10, 0, 0], "the client's own text; its effect is set elsewhere");
    let read = ran(WHO);
    assert_eq!((read[0], read[1] + read[2]), (0, 40));
    assert!(read[1] >= 15 && read[2] >= 15, "reads go to both: {read:?}");
}

#[test]
fn trap_18_what_a_late_replica_does_not_know_yet_is_asked_of_the_primary() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB; INSERT INTO d.t VALUES (1)");
    mark_servers(&cluster);
    delay(&cluster, 0, 600);
    let server = before(Driver::IoUring, &cluster, "lag_max = \"1h\"");
    let epoll = before(Driver::Epoll, &cluster, "lag_max = \"1h\"");
    cluster.primary.sql(
        "CREATE TABLE d.fresh (n INT); INSERT INTO d.fresh VALUES (5); ALTER TABLE d.t ADD COLUMN m INT DEFAULT 7;
         CREATE FUNCTION d.f() RETURNS INT NO SQL RETURN 9; CREATE DATABASE young; CREATE TABLE young.t (n INT);
         INSERT INTO young.t VALUES (11)",
    );
    for server in [server, epoll] {
        block_on(async {
            let address = server.address("db");
            // Others have written this, so there is nothing to wait for.
            let mut conn = connect(address).await;
            assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "the replica serves");
            assert_eq!(one::<u32>(&mut conn, "SELECT n FROM fresh").await, 5, "1146");
            assert_eq!(one::<u32>(&mut conn, "SELECT m FROM t").await, 7, "1054");
            let shown: mysql_async::Row = one_row(&mut conn, "SHOW CREATE FUNCTION f").await;
            assert_eq!(shown.get::<String, _>(0).as_deref(), Some("f"), "1305");
            assert_eq!(conn.exec_first::<u32, _, _>("SELECT n FROM fresh", ()).await.expect("prepared"), Some(5));
            let mut young = connect_to(address, Some("young")).await;
            assert_eq!(one::<u32>(&mut young, "SELECT n FROM t").await, 11, "1049");
            // An error that both have is told once, in the server's words.
            let asked = || {
                let primary = format!("server=\"127.0.0.1:{}\"", cluster.primary.port);
                server.metric("one_server_splitter_server_statements_total", &primary) as u64
            };
            let before = asked();
            assert_eq!(code(&mut conn, "SELECT n FROM nowhere").await, 1146);
            assert_eq!(asked(), before + 1);
            let mut other = connect(address).await;
            assert_eq!(one::<u32>(&mut other, WHO).await, 2, "it still serves");
        });
    }
}

async fn one_row(conn: &mut Conn, sql: &str) -> mysql_async::Row {
    conn.query_first(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).expect("a row")
}

#[test]
fn trap_30_what_writes_and_returns_rows_is_read_back() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start_with(1, &[], &["--log-bin-trust-function-creators=1"]);
    cluster.primary.sql(
        "CREATE TABLE d.t (n INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB; CREATE SEQUENCE d.s NOCACHE;\nDELIMITER //
         CREATE FUNCTION d.add_one() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO d.t VALUES (); RETURN 1; END//
         CREATE PROCEDURE d.add_two() BEGIN INSERT INTO d.t VALUES (); SELECT 1; INSERT INTO d.t VALUES (); END//",
    );
    mark_servers(&cluster);
    delay(&cluster, 0, 1);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = before(driver, &cluster, "causal_timeout = \"5s\"");
        block_on(async {
            for write in [
                "INSERT INTO t VALUES () RETURNING n",
                "DELETE FROM t ORDER BY n LIMIT 1 RETURNING n",
                "SELECT add_one()",
                "SELECT NEXT VALUE FOR s",
                "CALL add_two()",
                "INSERT INTO t VALUES (); SELECT 1; INSERT INTO t VALUES ()",
            ] {
                let mut conn = connect(server.address("db")).await;
                let mut results = conn.query_iter(write).await.expect(write);
                while !results.is_empty() {
                    results.collect::<mysql_async::Row>().await.expect(write);
                }
                drop(results);
                conn.reset().await.expect("reset"); // its pin goes, what it has written stays
                let counted: u64 = one(&mut conn, "SELECT COUNT(*) FROM t").await;
                assert_eq!(counted.to_string(), cluster.primary.sql("SELECT COUNT(*) FROM d.t"), "{write}");
                assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "the replica has answered: {write}");
                conn.disconnect().await.expect("gone");
            }
        });
    }
}

#[test]
fn trap_31_a_replica_whose_lag_is_not_known_gets_no_reads() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = before(driver, &cluster, "");
        block_on(async {
            let mut conn = connect(server.address("db")).await;
            for stopped in ["SQL_THREAD", "IO_THREAD"] {
                assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
                cluster.replicas[0].sql(&format!("STOP SLAVE {stopped}"));
                wait_until("it is taken out", || server.status()["splitters"][0]["servers"][1]["lag_ms"].is_null())
                    .await;
                assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1, "{stopped}");
                cluster.replicas[0].sql(&format!("START SLAVE {stopped}"));
                wait_for_replicas(&server, 1).await;
            }
        });
    }
}

#[test]
fn trap_32_time_never_goes_back() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(2);
    cluster.primary.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB; INSERT INTO d.t VALUES (0)");
    mark_servers(&cluster);
    delay(&cluster, 1, 2);
    for driver in [Driver::IoUring, Driver::Epoll] {
        for level in ["off", "session", "node", "strict"] {
            let lines = format!("causal_reads = \"{level}\"\ncausal_timeout = \"100ms\"\nlag_max = \"1h\"");
            let server = before(driver, &cluster, &lines);
            let went_back = block_on(goes_back(&server, &cluster));
            assert_eq!(went_back, level == "off", "{level}: one of the replicas is two seconds late");
        }
    }
}

/// Reads a number that only grows, while the replicas come and go; whether it was ever seen to shrink.
async fn goes_back(server: &Server, cluster: &Cluster) -> bool {
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push((connect(server.address("db")).await, 0u64));
    }
    let mut went_back = false;
    for turn in 0..36 {
        cluster.primary.sql("UPDATE d.t SET n = n + 1");
        match turn {
            // From one replica to the other, to the primary, and back.
            9 => drop(cluster.replicas[0].sql("STOP SLAVE SQL_THREAD")),
            18 => drop(cluster.replicas[0].sql("START SLAVE SQL_THREAD; STOP SLAVE IO_THREAD")),
            27 => drop(cluster.replicas[0].sql("START SLAVE")),
            _ => {}
        }
        for (at, (conn, last)) in readers.iter_mut().enumerate() {
            // At times the primary answers.
            let sql = if (turn + at) % 7 == 0 { "SELECT n FROM t FOR UPDATE" } else { "SELECT n FROM t" };
            let now: u64 = one(conn, sql).await;
            went_back |= now < *last;
            *last = now;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait_for_replicas(server, 2).await;
    went_back
}

#[test]
fn trap_33_no_time_out_is_rounded_to_nothing() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB");
    mark_servers(&cluster);
    let log = "SELECT argument FROM mysql.general_log WHERE argument LIKE 'SELECT MASTER_GTID_WAIT%'";
    delay(&cluster, 0, 1);
    cluster.replicas[0].sql("SET GLOBAL log_output='TABLE', general_log=1");
    let server = before(Driver::IoUring, &cluster, "causal_timeout = \"1ms\"");
    block_on(async {
        let mut conn = connect(server.address("db")).await;
        run(&mut conn, "INSERT INTO t VALUES (1)").await;
        let started = Instant::now();
        assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 1);
        assert!(started.elapsed() < Duration::from_millis(800), "{:?}", started.elapsed());
    });
    assert!(cluster.replicas[0].sql(log).ends_with(", 0.001)"), "{}", cluster.replicas[0].sql(log));
}

#[test]
fn trap_33_a_primary_that_tells_no_gtids_keeps_all_reads_and_is_reported() {
    if !mariadb::is_installed() {
        return;
    }
    let mut cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB");
    mark_servers(&cluster);
    cluster.primary.kill();
    cluster.primary.start_with(&["--skip-log-bin"]);
    let server = splitter(Driver::IoUring, cluster.primary.port, &[cluster.replicas[0].port], "");
    let line = server.wait_for_line("an error", |line| line.contains("does not tell which transactions"));
    assert!(line.contains("log_bin") && line.contains("causal_reads"), "why, and what to do: {line}");
    block_on(async {
        let mut conn = connect(server.address("db")).await;
        run(&mut conn, "INSERT INTO t VALUES (1)").await;
        assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 1);
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1);
    });
}

#[test]
fn trap_34_nobody_waits_on_the_primary() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB");
    mark_servers(&cluster);
    delay(&cluster, 0, 1);
    for server in [&cluster.primary, &cluster.replicas[0]] {
        server.sql("SET GLOBAL log_output='TABLE', general_log=1");
    }
    let server = before(Driver::IoUring, &cluster, "causal_timeout = \"200ms\"\ncausal_reads = \"strict\"");
    block_on(async {
        let mut conn = connect(server.address("db")).await;
        for n in 1..=3u32 {
            run(&mut conn, "INSERT INTO t VALUES (1)").await;
            assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, n);
            run(&mut conn, "START TRANSACTION READ ONLY").await;
            assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, n);
            run(&mut conn, "COMMIT").await;
        }
    });
    let waits = "SELECT COUNT(*) FROM mysql.general_log WHERE argument LIKE 'SELECT MASTER_GTID_WAIT%'";
    assert_eq!(cluster.primary.sql(waits), "0");
    assert_ne!(cluster.replicas[0].sql(waits), "0");
}

#[test]
fn what_a_session_writes_and_does_not_log_is_read_where_it_was_written() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql(&format!("GRANT BINLOG ADMIN ON *.* TO {USER}@'%'; CREATE TABLE d.t (n INT) ENGINE=InnoDB"));
    mark_servers(&cluster);
    for (driver, level) in [(Driver::IoUring, "session"), (Driver::Epoll, "node"), (Driver::IoUring, "strict")] {
        let server = before(driver, &cluster, &format!("causal_reads = \"{level}\""));
        block_on(async {
            let (mut conn, mut other) = (connect(server.address("db")).await, connect(server.address("db")).await);
            run(&mut conn, "INSERT INTO t VALUES (1)").await;
            run(&mut conn, "SET sql_log_bin=0").await;
            run(&mut conn, "INSERT INTO t VALUES (2)").await;
            conn.reset().await.expect("reset");
            assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1, "{level}");
            let others: u32 = one(&mut other, "SELECT id FROM who").await;
            assert_eq!(others, if level == "node" { 1 } else { 2 }, "{level}");
            assert!(metric(&server, "causal_fallbacks_total") > 0);
            // A later one that is logged says nothing of it.
            run(&mut conn, "INSERT INTO t VALUES (3)").await;
            assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1, "{level}");
            assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t WHERE n = 2").await, 1, "{level}");
            assert_eq!(one::<u32>(&mut other, "SELECT id FROM who").await, 2, "{level}");
            run(&mut conn, "DELETE FROM t WHERE n <> 2").await;
            run(&mut conn, "SET sql_log_bin=0").await;
            run(&mut conn, "DELETE FROM t").await;
        });
    }
}

/// Where the log leaves a database out, neither rows nor definitions have a GTID, and nothing is pinned by that.
#[test]
fn writes_and_definitions_that_are_not_logged_keep_reads_on_the_primary_until_a_later_one() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start_with(1, &[], &["--binlog-ignore-db=e"]);
    cluster.primary.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB");
    mark_servers(&cluster);
    for (driver, level) in [(Driver::IoUring, "session"), (Driver::Epoll, "node")] {
        let server = before(driver, &cluster, &format!("causal_reads = \"{level}\""));
        block_on(async {
            let (mut conn, mut other) = (connect(server.address("db")).await, connect(server.address("db")).await);
            for sql in [
                "CREATE TABLE e.kept (n INT, KEY (n)) ENGINE=InnoDB",
                "INSERT INTO e.kept VALUES (1)",
                "ALTER TABLE e.kept ADD m INT",
                "CREATE VIEW e.seen AS SELECT n FROM e.kept",
                "TRUNCATE e.kept",
                "DROP VIEW e.seen",
                "DROP TABLE e.kept",
            ] {
                run(&mut conn, "INSERT INTO d.t VALUES (1)").await;
                assert_eq!(one::<u32>(&mut conn, "SELECT id FROM d.who").await, 2, "{level}: before {sql}");
                run(&mut conn, "USE e").await;
                run(&mut conn, sql).await;
                assert_eq!(one::<u32>(&mut conn, "SELECT id FROM d.who").await, 1, "{level}: {sql}");
                let others: u32 = one(&mut other, "SELECT id FROM d.who").await;
                assert_eq!(others, if level == "node" { 1 } else { 2 }, "{level}: {sql}");
                run(&mut conn, "USE d").await;
            }
            // One that has changed nothing leaves no doubt.
            run(&mut conn, "INSERT INTO d.t VALUES (1)").await;
            run(&mut conn, "DELETE FROM t WHERE n = 99").await;
            assert_eq!(one::<u32>(&mut conn, "SELECT id FROM d.who").await, 2, "{level}");
            run(&mut conn, "DELETE FROM t").await;
        });
        let pinned = server.metric("one_server_splitter_pins_total", "");
        assert_eq!(pinned, 0.0, "{level}");
    }
}

#[test]
fn read_only_transactions_run_on_a_replica() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql(
        "CREATE TABLE d.t (n INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB; CREATE FUNCTION d.f() RETURNS INT NO SQL RETURN 9",
    );
    mark_servers(&cluster);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = before(driver, &cluster, "causal_timeout = \"5s\"\npool_max = 2");
        block_on(async {
            let address = server.address("db");
            begins(&mut connect(address).await).await;
            what_is_left_behind_is_refused(&mut connect(address).await, address, &cluster).await;
            they_see_what_was_written_before(&mut connect(address).await, &server, &cluster).await;
            let mut conn = connect(address).await;
            cursors_and_pieces_end_with_them(&mut conn).await;
            conn.disconnect().await.expect("gone");
        });
    }
    let server = before(Driver::IoUring, &cluster, "read_only_transactions = \"primary\"");
    block_on(async {
        let mut conn = connect(server.address("db")).await;
        run(&mut conn, "START TRANSACTION READ ONLY").await;
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1);
        run(&mut conn, "SET @a = 1").await;
        run(&mut conn, "COMMIT").await;
    });
}

const WHO: &str = "SELECT id FROM who";

/// All ways to begin one, and those that look like it.
async fn begins(conn: &mut Conn) {
    for begin in ["START TRANSACTION READ ONLY", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"] {
        for end in ["COMMIT", "ROLLBACK"] {
            run(conn, begin).await;
            let (id, thread): (u32, u64) =
                conn.query_first("SELECT id, @@pseudo_thread_id FROM who").await.expect(begin).expect("a row");
            assert_eq!(id, 2, "{begin}");
            assert_eq!(one::<u64>(conn, "SELECT @@pseudo_thread_id").await, thread, "all on one connection");
            assert_eq!(one::<u32>(conn, "SELECT @@server_id").await, 2, "whatever it asks");
            run(conn, end).await;
            assert_eq!(one::<u32>(conn, "SELECT @@server_id").await, 1, "{begin} {end}");
        }
    }
    for begin in ["BEGIN", "START TRANSACTION", "START TRANSACTION READ WRITE"] {
        run(conn, begin).await;
        assert_eq!(one::<u32>(conn, WHO).await, 1, "{begin}");
        run(conn, "COMMIT").await;
    }
    // For the next transaction alone, with its isolation.
    run(conn, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await;
    run(conn, "SET TRANSACTION READ ONLY").await;
    run(conn, "BEGIN").await;
    assert_eq!(one::<u32>(conn, WHO).await, 2);
    assert_eq!(code(conn, "INSERT INTO t VALUES ()").await, 1792, "the replica's own word");
    run(conn, "COMMIT").await;
    run(conn, "BEGIN").await;
    assert_eq!(one::<u32>(conn, WHO).await, 1);
    run(conn, "COMMIT").await;
    // For all of them.
    run(conn, "SET SESSION TRANSACTION READ ONLY").await;
    for _ in 0..2 {
        run(conn, "BEGIN").await;
        assert_eq!(one::<u32>(conn, WHO).await, 2);
        run(conn, "COMMIT").await;
    }
    assert_eq!(code(conn, "INSERT INTO t VALUES ()").await, 1792);
    run(conn, "START TRANSACTION READ WRITE").await;
    assert_eq!(one::<u32>(conn, WHO).await, 1);
    run(conn, "COMMIT").await;
    // As JDBC and what is built on it do it: without autocommit, a read begins one.
    run(conn, "SET autocommit = 0").await;
    for end in ["COMMIT", "ROLLBACK"] {
        assert_eq!(one::<u32>(conn, "SELECT 5").await, 5, "no table, no transaction yet");
        assert_eq!(one::<u32>(conn, WHO).await, 2);
        assert_eq!(one::<u32>(conn, "SELECT @@server_id").await, 2, "in it");
        assert_eq!(code(conn, "INSERT INTO t VALUES ()").await, 1792);
        run(conn, end).await;
        assert_eq!(one::<u32>(conn, "SELECT @@server_id * 10 + @@autocommit").await, 10, "not in it");
    }
    run(conn, "SET autocommit = 1").await;
    run(conn, "SET SESSION TRANSACTION READ WRITE").await;
    // Prepared.
    conn.exec_drop("START TRANSACTION READ ONLY", ()).await.expect("begun");
    assert_eq!(conn.exec_first::<u32, _, _>("SELECT id FROM who WHERE ? = 1", (1,)).await.expect("read"), Some(2));
    conn.exec_drop("COMMIT", ()).await.expect("ended");
    // One that begins ends the one before.
    run(conn, "START TRANSACTION READ ONLY").await;
    run(conn, "BEGIN").await;
    assert_eq!(one::<u32>(conn, WHO).await, 1);
    run(conn, "INSERT INTO t VALUES ()").await;
    run(conn, "START TRANSACTION READ ONLY").await;
    assert_eq!(one::<u64>(conn, "SELECT COUNT(*) FROM t").await, 1, "committed by what began next");
    assert_eq!(one::<u32>(conn, "SELECT @@server_id").await, 1, "which was on the primary, and stays there");
    run(conn, "COMMIT AND CHAIN").await;
    run(conn, "COMMIT").await;
    run(conn, "DELETE FROM t").await;
}

async fn what_is_left_behind_is_refused(conn: &mut Conn, address: SocketAddr, cluster: &Cluster) {
    run(conn, "INSERT INTO t VALUES ()").await;
    let id: u64 = one(conn, "SELECT LAST_INSERT_ID()").await;
    run(conn, "START TRANSACTION READ ONLY").await;
    for sql in [
        "SET @a = 1",
        "SET insert_id = 700",
        "SET sql_notes = 1, @@session.timestamp = 5",
        "SELECT GET_LOCK('x', 0)",
        "SELECT f()",
        "CREATE TEMPORARY TABLE x (n INT)",
        "PREPARE p FROM 'SELECT 1'",
    ] {
        assert_eq!(code(conn, sql).await, 1792, "{sql}");
    }
    for sql in ["INSERT INTO t VALUES ()", "DELETE FROM who"] {
        assert_eq!(code(conn, sql).await, 1792, "{sql}");
    }
    assert_eq!(code(conn, "SELECT nowhere FROM who").await, 1054);
    for (sql, error) in [
        ("SET no_such_variable = 1", 1193),
        ("SET SESSION max_connections = 1", 1229),
        ("SET SESSION hostname = 'x'", 1238),
    ] {
        assert_eq!(code(conn, sql).await, error, "{sql}");
    }
    run(conn, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE").await;
    assert_eq!(one::<u32>(conn, WHO).await, 2, "still in it");
    assert_eq!(one::<u64>(conn, "SELECT LAST_INSERT_ID()").await, id, "what it knew before");
    // Settings and the database go with the session.
    run(conn, "SET sql_mode = 'ANSI_QUOTES', time_zone = '+03:00'").await;
    run(conn, "USE e").await;
    // Also that it is without autocommit now; whoever has the connection next is not.
    run(conn, "SET autocommit = 0").await;
    run(conn, "COMMIT").await;
    let mut other = connect(address).await;
    run(&mut other, "START TRANSACTION READ ONLY").await;
    assert_eq!(one::<u32>(&mut other, "SELECT @@autocommit * 10 + @@server_id").await, 12);
    run(&mut other, "COMMIT").await;
    assert_eq!(one::<u32>(conn, "SELECT @@server_id").await, 1);
    assert_eq!(one::<u32>(conn, "SELECT @@autocommit").await, 0, "as it was set there");
    assert_eq!(one::<String>(conn, "SELECT CONCAT(DATABASE(), @@time_zone)").await, "e+03:00");
    assert_eq!(one::<u64>(conn, "SELECT LAST_INSERT_ID()").await, id);
    run(conn, "INSERT INTO d.t VALUES ()").await;
    run(conn, "ROLLBACK").await;
    run(conn, "SET autocommit = 1, sql_mode = DEFAULT").await;
    run(conn, "USE d").await;
    assert_eq!(cluster.primary.sql("SELECT COUNT(*) FROM d.t"), "1");
    run(conn, "DELETE FROM t").await;
}

async fn they_see_what_was_written_before(conn: &mut Conn, server: &Server, cluster: &Cluster) {
    delay(cluster, 0, 1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    wait_for_replicas(server, 1).await;
    run(conn, "INSERT INTO t VALUES ()").await;
    run(conn, "START TRANSACTION READ ONLY").await;
    assert_eq!(one::<u64>(conn, "SELECT COUNT(*) FROM t").await, 1);
    assert_eq!(one::<u32>(conn, WHO).await, 2);
    cluster.primary.sql("INSERT INTO d.t VALUES ()");
    cluster.wait_for_replicas();
    assert_eq!(one::<u64>(conn, "SELECT COUNT(*) FROM t").await, 1, "one snapshot");
    run(conn, "COMMIT").await;
    assert_eq!(one::<u64>(conn, "SELECT COUNT(*) FROM t").await, 2);
    run(conn, "DELETE FROM t").await;
    delay(cluster, 0, 0);
    // It is left out while it connects again, as soon as that is seen.
    tokio::time::sleep(Duration::from_millis(300)).await;
    wait_for_replicas(server, 1).await;
}

/// What is prepared inside is prepared on the replica, and works after the transaction, on whatever server it runs.
async fn cursors_and_pieces_end_with_them(conn: &mut Conn) {
    let read = conn.prep("SELECT id FROM who WHERE LENGTH(?) > 0").await.expect("prepared");
    run(conn, "START TRANSACTION READ ONLY").await;
    let long = "x".repeat(20 << 20); // sent in pieces
    assert_eq!(conn.exec_first::<u32, _, _>(&read, (&long,)).await.expect("read"), Some(2));
    run(conn, "COMMIT").await;
    assert_eq!(conn.exec_first::<u32, _, _>(&read, ("x",)).await.expect("read"), Some(2));
    run(conn, "BEGIN").await;
    assert_eq!(conn.exec_first::<u32, _, _>(&read, ("x",)).await.expect("read"), Some(1));
    run(conn, "COMMIT").await;
    assert_eq!(one::<u32>(conn, WHO).await, 2, "nothing ties the session");
}

#[test]
fn a_read_only_transaction_begins_on_the_primary_when_no_replica_is_fresh_in_time() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB");
    mark_servers(&cluster);
    delay(&cluster, 0, 600);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = before(driver, &cluster, "lag_max = \"1h\"\ncausal_timeout = \"100ms\"");
        block_on(async {
            let mut conn = connect(server.address("db")).await;
            run(&mut conn, "INSERT INTO t VALUES (1)").await;
            for begin in
                ["START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", "START TRANSACTION READ ONLY", "BEGIN"]
            {
                if begin == "BEGIN" {
                    run(&mut conn, "SET TRANSACTION READ ONLY").await;
                }
                run(&mut conn, begin).await;
                assert_eq!(one::<u32>(&mut conn, WHO).await, 1, "{begin}");
                assert_eq!(code(&mut conn, "INSERT INTO t VALUES (2)").await, 1792, "READ ONLY there, too");
                run(&mut conn, "COMMIT").await;
            }
            run(&mut conn, "SET SESSION TRANSACTION READ ONLY").await;
            run(&mut conn, "SET autocommit=0").await;
            assert_eq!(one::<u32>(&mut conn, WHO).await, 1, "a read begins it");
            // What stands behind the wait in vain has left nothing open on the replica, although nobody has had that connection
            // since.
            let open = "SELECT COUNT(*) FROM information_schema.innodb_trx";
            wait_until("it is closed", || cluster.replicas[0].sql(open) == "0").await;
            let mut other = connect(server.address("db")).await;
            for _ in 0..3 {
                assert_eq!(one::<u32>(&mut other, WHO).await, 2);
            }
        });
    }
}

#[test]
fn losing_the_replica_of_a_read_only_transaction_is_told_and_the_session_goes_on() {
    if !mariadb::is_installed() {
        return;
    }
    let mut cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB");
    mark_servers(&cluster);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = before(driver, &cluster, "");
        block_on(async {
            let mut conn = connect(server.address("db")).await;
            run(&mut conn, "SET time_zone = '+03:00'").await;
            run(&mut conn, "START TRANSACTION READ ONLY").await;
            assert_eq!(one::<u32>(&mut conn, WHO).await, 2);
            cluster.replicas[0].kill();
            let error = conn.query_drop(WHO).await.expect_err("lost");
            assert!(error.to_string().contains("READ ONLY transaction is rolled back"), "{error}");
            run(&mut conn, "ROLLBACK").await;
            assert_eq!(one::<u32>(&mut conn, WHO).await, 1);
            assert_eq!(one::<String>(&mut conn, "SELECT @@time_zone").await, "+03:00");
            run(&mut conn, "START TRANSACTION READ ONLY").await;
            assert_eq!(one::<u32>(&mut conn, WHO).await, 1, "no replica is left");
            run(&mut conn, "COMMIT").await;
            cluster.restart_replica(0);
        });
    }
}

#[test]
fn a_replica_that_is_too_far_behind_gets_no_reads() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.log (n INT) ENGINE=InnoDB");
    mark_servers(&cluster);
    let server = before(Driver::Auto, &cluster, "lag_max = \"1s\"\ncausal_reads = \"off\"");
    let lag = || server.status()["splitters"][0]["servers"][1]["lag_ms"].as_u64();
    block_on(async {
        let mut conn = connect(server.address("db")).await;
        assert_eq!(one::<u32>(&mut conn, WHO).await, 2);
        // What it applies waits behind a lock, so that its threads run and its lag is known.
        let replica = &cluster.replicas[0];
        let mut holder = replica
            .client()
            .args(["-e", "LOCK TABLES d.log READ; SELECT GET_LOCK('held', 0); DO SLEEP(300)"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a client");
        let id = || replica.sql("SELECT IS_USED_LOCK('held')");
        wait_until("the replica is held up", || id() != "NULL").await;
        cluster.primary.sql("INSERT INTO d.log VALUES (1)");
        wait_until("it is behind", || lag().is_some_and(|lag| lag > 1000)).await;
        assert_eq!(one::<u32>(&mut conn, WHO).await, 1);
        replica.sql(&format!("KILL {}", id()));
        holder.wait().expect("it ends");
        wait_until("it has caught up", || lag() == Some(0)).await;
        assert_eq!(one::<u32>(&mut conn, WHO).await, 2);
    });
}

/// The same read would have another result there.
#[test]
fn a_replica_whose_sessions_begin_otherwise_gets_no_reads() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    let server = before(Driver::Auto, &cluster, "pool_min = 4");
    // What each of several connections has it begin with.
    let offset = "SELECT CAST(TIMEDIFF(NOW(), UTC_TIMESTAMP()) AS CHAR) FROM who";
    block_on(async {
        let mut conn = connect(server.address("db")).await;
        let zone = one::<String>(&mut conn, offset).await;
        for (name, other) in [("time_zone", "'+05:00'"), ("sql_mode", "'ANSI_QUOTES'"), ("group_concat_max_len", "99")]
        {
            assert_eq!(one::<u32>(&mut conn, WHO).await, 2, "{name}");
            let before = cluster.replicas[0].sql(&format!("SELECT QUOTE(@@global.{name})")).replace("\\'", "'");
            let before = if name == "group_concat_max_len" { before.replace('\'', "") } else { before };
            cluster.replicas[0].sql(&format!("SET GLOBAL {name} = {other}"));
            let told =
                format!("{name} is {}", if other.starts_with('\'') { other.into() } else { format!("'{other}'") });
            server.wait_for_line("an error", |line| line.contains("begin in another state") && line.contains(&told));
            assert_eq!(one::<u32>(&mut conn, WHO).await, 1, "{name}");
            // By now there are connections of that time.
            let open = "SELECT COUNT(*) FROM information_schema.processlist WHERE command = 'Sleep' AND time < 2 AND user <> 'system user'";
            wait_until("some are opened", || cluster.replicas[0].sql(open).parse().is_ok_and(|open: u32| open >= 4))
                .await;
            cluster.replicas[0].sql(&format!("SET GLOBAL {name} = {before}"));
            wait_for_replicas(&server, 1).await;
            let mut clients = Vec::new();
            for _ in 0..6 {
                let mut client = connect(server.address("db")).await;
                client.query_drop("START TRANSACTION READ ONLY").await.expect("begun");
                assert_eq!(one::<u32>(&mut client, WHO).await, 2, "{name}");
                assert_eq!(one::<String>(&mut client, offset).await, zone, "{name}");
                clients.push(client);
            }
        }
    });
}

#[test]
fn reads_go_where_answers_come_soonest() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(2);
    mark_servers(&cluster);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = before(driver, &cluster, "balance = \"least-time\"\ncausal_reads = \"off\"");
        block_on(async {
            let mut conn = connect(server.address("db")).await;
            // Slow on the first one alone.
            let first = cluster.replicas[0].id;
            let slow = format!(
                "SELECT id FROM who WHERE (SELECT COUNT(*) FROM seq_1_to_300000 AS s WHERE who.id = {first} AND s.seq % 7 = 3) >= 0"
            );
            let mut at_second = 0;
            for _ in 0..40 {
                at_second += u32::from(one::<u32>(&mut conn, &slow).await == cluster.replicas[1].id);
            }
            assert!(at_second >= 30, "{driver:?}: {at_second}");
        });
    }
}

#[test]
fn reads_follow_the_weights_of_replicas() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(2);
    mark_servers(&cluster);
    let [a, b] = [0, 1].map(|n| cluster.replicas[n].port);
    let site = splitter_site(Driver::IoUring, cluster.primary.port, &[a, b], "causal_reads = \"off\"").one_worker();
    let server = site.start();
    block_on(wait_for_replicas(&server, 2));
    let statements = |server: &Server, port: u16| {
        server.metric("one_server_splitter_server_statements_total", &format!("server=\"127.0.0.1:{port}\"")) as u64
    };
    let read = |server: &Server| {
        block_on(async {
            let mut conn = connect(server.address("db")).await;
            for _ in 0..80 {
                assert!(one::<u32>(&mut conn, WHO).await > 1);
            }
        });
        (statements(server, a), statements(server, b))
    };
    let (at_a, at_b) = read(&server);
    assert!(at_a.abs_diff(at_b) <= 4, "evenly: {at_a} {at_b}");
    for (weights, least_at_b) in [((1, 3), 58), ((0, 1), 80)] {
        let text = format!(
            "[mysql.db]\nlisten = \"127.0.0.1:0\"\nprimary = \"127.0.0.1:{}\"\nreplicas = [{{ address = \"127.0.0.1:{a}\", \
             weight = {} }}, {{ address = \"127.0.0.1:{b}\", weight = {} }}]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             monitor_interval = \"100ms\"\ncausal_reads = \"off\"\nbalance = \"round-robin\"\n",
            cluster.primary.port, weights.0, weights.1
        );
        let web = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";
        let server = Site::new(Driver::IoUring, web).more(&text).one_worker().start();
        block_on(wait_for_replicas(&server, 2));
        let (at_a, at_b) = read(&server);
        assert!(at_a + at_b == 80 && (least_at_b..=62.max(least_at_b)).contains(&at_b), "{weights:?}: {at_a} {at_b}");
    }
}

/// MySQL tells its GTIDs by another tracker, in sets with holes, and waits by another function.
#[test]
fn mysql_8_is_waited_for_by_its_gtid_sets() {
    for driver in [Driver::IoUring, Driver::Epoll] {
        for level in ["session", "node", "strict"] {
            let fleet = Fleet::start(1, "ON", USER, PASSWORD);
            let lines = format!("causal_reads = \"{level}\"\ncausal_timeout = \"800ms\"");
            let server = splitter(driver, fleet.primary.port(), &[fleet.replicas[0].port()], &lines);
            block_on(async {
                wait_for_replicas(&server, 1).await;
                let mut conn = connect_to(server.address("db"), None).await;
                const READ: &str = "SELECT n FROM t";
                assert_eq!(one::<u64>(&mut conn, READ).await, 0);
                // Others' transactions are between its own.
                run(&mut conn, "INSERT INTO t VALUES (1)").await;
                fleet.write();
                run(&mut conn, "INSERT INTO t VALUES (1)").await;
                assert_eq!(one::<u64>(&mut conn, READ).await, 3, "{level}: the replica is late, the primary answers");
                assert_eq!(metric(&server, "causal_timeouts_total"), 1);
                let waits = fleet.seen(1, "WAIT_FOR_EXECUTED_GTID_SET");
                let set = if level == "strict" { ":1-3'" } else { ":1:3'" };
                assert!(waits.iter().all(|sql| sql.contains(set) && sql.ends_with(", 0.800)")), "{level}: {waits:?}");
                // It comes while the read waits; what the primary has shown must be there, too.
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        std::thread::sleep(Duration::from_millis(100));
                        fleet.apply(0, None);
                    });
                });
                assert_eq!(one::<u64>(&mut conn, READ).await, 3);
                assert_eq!(metric(&server, "causal_fallbacks_total"), 1, "{level}: by the replica");
                // Known to be there: no wait.
                let waits = fleet.seen(1, "WAIT_FOR").len();
                assert_eq!(one::<u64>(&mut conn, READ).await, 3);
                assert_eq!(fleet.seen(1, "WAIT_FOR").len(), waits);
                assert!(fleet.seen(0, "WAIT_FOR").is_empty(), "never on the primary");
                assert!(fleet.seen(0, "session_track_gtids='OWN_GTID'").len() > 1);
                conn.disconnect().await.expect("gone");
            });
            assert_eq!(fleet.primary.complaints(), Vec::<String>::new());
        }
    }
}

#[test]
fn trap_33_mysql_without_gtids_keeps_all_reads_on_the_primary() {
    let fleet = Fleet::start(1, "OFF", USER, PASSWORD);
    let server = splitter(Driver::IoUring, fleet.primary.port(), &[fleet.replicas[0].port()], "");
    let line = server.wait_for_line("an error", |line| line.contains("does not tell which transactions"));
    assert!(line.contains("gtid_mode is OFF"), "{line}");
    block_on(async {
        wait_for_replicas(&server, 1).await;
        let mut conn = connect_to(server.address("db"), None).await;
        run(&mut conn, "INSERT INTO t VALUES (1)").await;
        assert_eq!(one::<u64>(&mut conn, "SELECT n FROM t").await, 1);
    });
    assert!(fleet.seen(1, "SELECT n FROM t").is_empty());
}

#[test]
fn replicas_that_answer_too_slowly_get_no_reads() {
    let fleet = Fleet::start(2, "ON", USER, PASSWORD);
    let ports = [fleet.replicas[0].port(), fleet.replicas[1].port()];
    let server =
        splitter(Driver::IoUring, fleet.primary.port(), &ports, "latency_max = \"400ms\"\ncausal_reads = \"off\"");
    const READ: &str = "SELECT n FROM t";
    let reads = || [1, 2].map(|replica| fleet.seen(replica, READ).len());
    block_on(async {
        wait_for_replicas(&server, 2).await;
        let mut conn = connect_to(server.address("db"), None).await;
        fleet.slow_down(1, Duration::from_millis(1500));
        server.wait_for_line("a warning", |line| line.contains("too slowly") && line.contains(&ports[0].to_string()));
        let before = reads();
        for _ in 0..6 {
            run(&mut conn, READ).await;
        }
        assert_eq!(reads(), [before[0], before[1] + 6]);
        fleet.slow_down(1, Duration::ZERO);
        wait_until("it is used again", || {
            let up = format!("mysql server is up splitter=db server=127.0.0.1:{}", ports[0]);
            server.lines().iter().filter(|line| line.contains(&up)).count() == 2
        })
        .await;
        for _ in 0..6 {
            run(&mut conn, READ).await;
        }
        assert_eq!(reads(), [before[0] + 3, before[1] + 9]);
    });
}
