//! SET GLOBAL is for sessions that log on later: those that are there keep what they began with, on whichever connection of whichever
//! server their next statement runs. A reset of the session begins anew.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests crash servers")]
mod mariadb;
#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "other tests speak packets")]
mod sessions;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests have relays")]
mod split;

use std::time::{Duration, Instant};

use mariadb::{Cluster, PASSWORD};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use sessions::{block_on, code, connect, mark_servers, one, options, wait_for_reads_on_replica};
use support::*;

const VALUES: &str =
    "SELECT @@sql_mode, @@group_concat_max_len, @@div_precision_increment, @@tx_isolation, @@foreign_key_checks";

async fn values(conn: &mut Conn) -> (String, u64, u64, String, u8) {
    mysql_async::from_row(conn.query_first::<Row, _>(VALUES).await.expect("values").expect("a row"))
}

/// Where a read runs, and what `1 / 3` and a text in double quotes are there.
async fn read(conn: &mut Conn) -> (u32, String, String) {
    let row: Row =
        conn.query_first("SELECT id, CAST(1 / 3 AS CHAR), \"id\" FROM who").await.expect("read").expect("a row");
    mysql_async::from_row(row)
}

/// Longer than two looks at the servers take.
async fn looks() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[test]
fn sessions_keep_what_was_global_when_they_logged_on() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    let servers = || [&cluster.primary].into_iter().chain(&cluster.replicas);
    let set = |values: &str| servers().for_each(|server| drop(server.sql(values)));
    for driver in [Driver::IoUring, Driver::Epoll] {
        set(
            "SET GLOBAL sql_mode='STRICT_ALL_TABLES', GLOBAL group_concat_max_len=4000, GLOBAL div_precision_increment=4, \
             GLOBAL tx_isolation='REPEATABLE-READ', GLOBAL foreign_key_checks=1",
        );
        let server = split::site(driver, &cluster, "pool_max = 2").start();
        let port = server.address("db").port();
        block_on(async {
            wait_for_reads_on_replica(port).await;
            let mut there = Vec::new();
            for _ in 0..3 {
                there.push(connect(port).await);
            }
            let spaced = options(port).db_name(Some("d")).init(vec!["SET group_concat_max_len = 50"]);
            let mut own = Conn::new(spaced).await.expect("a login");
            let before = ("STRICT_ALL_TABLES".to_owned(), 4000, 4, "REPEATABLE-READ".to_owned(), 1);
            for conn in &mut there {
                assert_eq!(values(conn).await, before);
                assert_eq!(read(conn).await, (2, "0.3333".into(), "id".into()));
            }
            looks().await;
            set(
                "SET GLOBAL sql_mode='ANSI_QUOTES', GLOBAL group_concat_max_len=99, GLOBAL div_precision_increment=6, \
                 GLOBAL tx_isolation='READ-COMMITTED', GLOBAL foreign_key_checks=0",
            );
            let now = ("ANSI_QUOTES".to_owned(), 99, 6, "READ-COMMITTED".to_owned(), 0);
            loop {
                let mut fresh = connect(port).await;
                if values(&mut fresh).await == now && read(&mut fresh).await == (2, "0.333333".into(), "2".into()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            for conn in &mut there {
                assert_eq!(values(conn).await, before, "{driver:?}");
                assert_eq!(read(conn).await, (2, "0.3333".into(), "id".into()), "{driver:?}");
                conn.query_drop("BEGIN").await.unwrap();
                assert_eq!(read(conn).await, (1, "0.3333".into(), "id".into()), "{driver:?}");
                conn.query_drop("COMMIT").await.unwrap();
            }
            let set_before = (before.0.clone(), 50, before.2, before.3.clone(), before.4);
            assert_eq!(values(&mut own).await, set_before, "what it has set itself stays as well");
            // A reset: it begins anew, and is read as it begins.
            there[0].reset().await.expect("reset");
            there[0].query_drop("USE d").await.expect("a database");
            assert_eq!(read(&mut there[0]).await, (2, "0.333333".into(), "2".into()), "{driver:?}");
            assert_eq!(values(&mut there[1]).await, before, "{driver:?}");
        });
    }
}

/// Through the splitter it holds from the answer on.
#[test]
fn what_is_set_globally_through_the_splitter_is_known_at_once() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    cluster.primary.sql(&format!("CREATE USER chief@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO chief@'%'"));
    let keys = format!("pool_max = 4\nusers = [{{ name = \"chief\", password = \"{PASSWORD}\" }}]");
    let server = split::site(Driver::Auto, &cluster, &keys).start();
    let port = server.address("db").port();
    block_on(async {
        let mut chief = Conn::new(options(port).user(Some("chief")).db_name(Some("d"))).await.expect("a login");
        let mut there: Vec<(Conn, u64)> = Vec::new();
        for n in 100..130u64 {
            match n % 2 {
                0 => chief.query_drop(format!("SET GLOBAL group_concat_max_len = {n}")).await.expect("set"),
                _ => chief.exec_drop("SET GLOBAL group_concat_max_len = ?", (n,)).await.expect("set"),
            }
            there.push((connect(port).await, n));
            for (conn, begun) in &mut there {
                assert_eq!(one::<u64>(conn, "SELECT @@group_concat_max_len").await, *begun, "now it is {n}");
            }
        }
    });
}

/// Who logs on behind a SET GLOBAL past the splitter that no look has seen yet does not keep the value before it.
#[test]
fn who_logs_on_before_a_look_has_seen_what_was_set_has_that() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    let server = split::site(Driver::Auto, &cluster, "pool_max = 4").start();
    let port = server.address("db").port();
    block_on(async {
        connect(port).await;
        for n in 100..108u64 {
            looks().await;
            cluster.primary.sql(&format!("SET GLOBAL group_concat_max_len={n}"));
            let mut conn = connect(port).await;
            looks().await;
            assert_eq!(one::<u64>(&mut conn, "SELECT @@group_concat_max_len").await, n);
        }
    });
}

/// A connection that was reset when the next value was there already, and is held, is told of the one that its session began with.
#[test]
fn a_session_keeps_its_beginning_on_the_connection_it_holds() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    mark_servers(&cluster);
    let server = split::site(Driver::Auto, &cluster, "pool_max = 1").start();
    let port = server.address("db").port();
    let set = |len: u64, isolation: &str, mode: &str| {
        let values = format!("group_concat_max_len={len}, GLOBAL tx_isolation='{isolation}', GLOBAL sql_mode='{mode}'");
        cluster.primary.sql(&format!("SET GLOBAL {values}"));
    };
    block_on(async {
        let mut other = connect(port).await;
        for (n, hold) in ["SET @a = 1", "BEGIN", "START TRANSACTION READ ONLY"].into_iter().cycle().take(6).enumerate()
        {
            set(4000, "REPEATABLE-READ", "STRICT_ALL_TABLES");
            looks().await;
            let mut conn = connect(port).await;
            looks().await;
            // Whoever has the connection next has it reset first.
            other.query_drop("SELECT 1; SELECT 2").await.unwrap();
            set(99 + n as u64, "READ-COMMITTED", "ANSI_QUOTES");
            conn.query_drop(hold).await.unwrap();
            looks().await;
            if hold == "BEGIN" {
                // What is asked of the statement before is answered as if nothing had come between.
                conn.query_drop("INSERT INTO who VALUES (8), (9)").await.unwrap();
                assert_eq!(one::<i64>(&mut conn, "SELECT ROW_COUNT()").await, 2, "{hold}");
            }
            let there: (u64, String, String, String) = mysql_async::from_row(
                conn.query_first(
                    "SELECT @@group_concat_max_len, @@tx_isolation, @@sql_mode, \"id\" FROM who ORDER BY id LIMIT 1",
                )
                .await
                .unwrap()
                .unwrap(),
            );
            assert_eq!(there, (4000, "REPEATABLE-READ".into(), "STRICT_ALL_TABLES".into(), "id".into()), "{hold}");
            conn.query_drop("ROLLBACK").await.unwrap();
            conn.disconnect().await.unwrap();
        }
    });
}

/// Each look asks the server several questions, on the one thread that looks at all of them.
#[test]
fn who_may_set_nothing_does_not_have_servers_looked_at_without_a_pause() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    let server = split::site(Driver::Auto, &cluster, "pool_max = 8").start();
    let port = server.address("db").port();
    let looks_done = || {
        let told = cluster.primary.sql("SHOW GLOBAL STATUS LIKE 'Com_show_%slave%'");
        told.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).sum::<u64>()
    };
    block_on(async {
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(connect(port).await);
        }
        let (before, begun) = (looks_done(), Instant::now());
        let tries = clients.into_iter().map(|mut conn| async move {
            while begun.elapsed() < Duration::from_secs(2) {
                let batch = conn.query_drop("SELECT 1; SET GLOBAL group_concat_max_len = 77").await;
                assert_eq!(code(&batch.unwrap_err()), 1227);
                let alone = conn.query_drop("SET GLOBAL group_concat_max_len = 77").await;
                assert_eq!(code(&alone.unwrap_err()), 1227);
            }
        });
        let tries: Vec<_> = tries.map(tokio::spawn).collect();
        for one in tries {
            one.await.unwrap();
        }
        let looks = looks_done() - before;
        let allowed = (begun.elapsed().as_secs_f64() * 65.0) as u64;
        assert!(looks > 0 && looks <= allowed, "{looks} looks, {allowed} are allowed");
    });
}

/// Connections of before are not lent any more, and are there for who may ask what a statement has left on them.
#[test]
fn what_a_session_may_ask_for_outlives_a_change_of_globals() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    mark_servers(&cluster);
    cluster.primary.sql(&format!("CREATE USER chief@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO chief@'%'"));
    let keys = format!("pool_max = 8\nusers = [{{ name = \"chief\", password = \"{PASSWORD}\" }}]");
    let server = split::site(Driver::Auto, &cluster, &keys).start();
    let port = server.address("db").port();
    block_on(async {
        looks().await;
        let mut chief = Conn::new(options(port).user(Some("chief")).db_name(Some("d"))).await.expect("a login");
        let (mut warned, mut found) = (connect(port).await, connect(port).await);
        warned.query_drop("SELECT 'a' + 1").await.unwrap();
        found.query_drop("SELECT SQL_CALC_FOUND_ROWS 1 UNION SELECT 2 UNION SELECT 3 LIMIT 1").await.unwrap();
        chief.query_drop("SET GLOBAL group_concat_max_len = 1").await.unwrap();
        // Idle connections that are not to be kept are closed each second.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        for conn in [&mut chief, &mut warned] {
            assert_eq!(conn.query::<Row, _>("SHOW WARNINGS").await.expect("a list").len(), 1);
        }
        assert_eq!(one::<u64>(&mut found, "SELECT FOUND_ROWS()").await, 3);
    });
}

/// Nobody is refused, or begins to wait anew, because sessions begin otherwise from now on.
#[test]
fn who_waits_for_a_connection_goes_on_when_globals_change() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    let server = split::site(Driver::Auto, &cluster, "pool_max = 1\npool_timeout = \"3s\"").start();
    let port = server.address("db").port();
    block_on(async {
        let (mut holder, mut late) = (connect(port).await, connect(port).await);
        holder.query_drop("BEGIN").await.unwrap();
        let login = tokio::spawn(Conn::new(options(port).db_name(Some("d"))));
        let begun = Instant::now();
        let refused = tokio::spawn(async move { late.query_drop("DO 1").await });
        for n in 0..5 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            cluster.primary.sql(&format!("SET GLOBAL group_concat_max_len={}", 100 + n));
        }
        let error = refused.await.unwrap().unwrap_err();
        assert_eq!(code(&error), 1040, "{error}");
        let waited = begun.elapsed();
        assert!((2..=4).contains(&waited.as_secs()), "{waited:?}");
        let error = login.await.unwrap().unwrap_err();
        assert_eq!(code(&error), 1040, "{error}");
        let login = tokio::spawn(Conn::new(options(port).db_name(Some("d"))));
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.primary.sql("SET GLOBAL group_concat_max_len=200");
        tokio::time::sleep(Duration::from_millis(500)).await;
        holder.query_drop("COMMIT").await.unwrap();
        login.await.unwrap().expect("a login that has waited");
    });
}

/// A transaction on a replica sees what it would see on the primary, whatever level the replica has for its own sessions.
#[test]
fn a_transaction_on_a_replica_has_the_isolation_level_of_the_primary() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql("CREATE TABLE d.came (id INT) ENGINE=InnoDB");
    cluster.wait_for_replicas();
    let server = split::site(Driver::Auto, &cluster, "pool_max = 4\ncausal_timeout = \"10s\"").start();
    let port = server.address("db").port();
    block_on(async {
        wait_for_reads_on_replica(port).await;
        // Where single reads would not be the same, none goes to the replica.
        for (level, of_replica, reads_at, sees) in [
            ("READ-COMMITTED", "REPEATABLE-READ", 2, true),
            ("REPEATABLE-READ", "READ-COMMITTED", 2, false),
            ("READ-UNCOMMITTED", "REPEATABLE-READ", 1, true),
            ("REPEATABLE-READ", "READ-UNCOMMITTED", 1, false),
        ] {
            cluster.primary.sql(&format!("TRUNCATE d.came; SET GLOBAL tx_isolation='{level}'"));
            cluster.replicas[0].sql(&format!("SET GLOBAL tx_isolation='{of_replica}'"));
            cluster.wait_for_replicas();
            looks().await;
            let mut reader = connect(port).await;
            for begin in ["START TRANSACTION READ ONLY", "SET autocommit = 0, tx_read_only = 1"] {
                reader.query_drop(begin).await.unwrap();
                let at = one::<u32>(&mut reader, "SELECT id FROM who").await;
                assert_eq!(at, reads_at, "{level} {of_replica}");
                let before = one::<u64>(&mut reader, "SELECT COUNT(*) FROM came").await;
                cluster.primary.sql("INSERT INTO d.came VALUES (1)");
                cluster.wait_for_replicas();
                let after = one::<u64>(&mut reader, "SELECT COUNT(*) FROM came").await;
                assert_eq!(after - before, u64::from(sees), "{level} {begin}");
                reader.query_drop("COMMIT").await.unwrap();
            }
        }
    });
}
