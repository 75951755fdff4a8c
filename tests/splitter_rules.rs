//! Rules of the config and comments of clients about single statements: where they go, and what becomes of them.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/mysql_clients.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod mysql_clients;
#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod sessions;

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_clients::{Scene, block_on, code, log_on, one};
use support::ports;
use support::*;

const USERS: &str = "[[mysql.db.users]]\nname = \"reports\"\npassword = \"r3ports\"\n";

fn rule(lines: &str) -> String {
    format!("[[mysql.db.rules]]\n{lines}\n")
}

#[test]
fn rules_and_comments_choose_the_server() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let rules = [
            rule("digest = \"SELECT id FROM who LIMIT ?\"\nroute = \"primary\""),
            rule("users = [\"app\"]\ndigest_regex = \"^SELECT here\\\\(\\\\)\"\nroute = \"replica\"\nunsafe = true"),
            rule("digest = \"INSERT*\"\nroute = \"replica\"\nunsafe = true"),
        ];
        let scene = Scene::start(driver, 2, &format!("{USERS}{}", rules.concat()));
        block_on(async {
            let mut conn = scene.client().await;
            let cases = [
                ("SELECT id FROM who", "2"),
                ("SELECT id FROM who LIMIT 5", "1"),
                ("select  id from `who` limit 9 -- x", "1"),
                ("/* one-server: replica */ SELECT id FROM who LIMIT 5", "1"),
                ("/* one-server: primary */ SELECT id FROM who", "1"),
                ("SELECT id FROM who -- maxscale route to master", "1"),
                ("SELECT id FROM who -- maxscale route to slave", "2"),
                ("SELECT id FROM who WHERE '/* one-server: primary */' <> ''", "2"),
                ("SELECT here()", "2"),
                ("/* one-server: replica */ SELECT 0 + here()", "1"),
            ];
            for (sql, expect) in cases {
                // Whatever ties a session to the primary must not show in the next case.
                let mut conn = scene.client().await;
                assert_eq!(one(&mut conn, sql).await, expect, "{driver:?} {sql}");
            }
            assert_eq!(one(&mut conn, "SELECT here()").await, "2");
            assert_eq!(one(&mut conn, "SELECT id FROM who").await, "2", "it has pinned nobody");
            let prepared = conn.prep("SELECT id FROM who LIMIT 3").await.expect("prepared");
            for _ in 0..3 {
                let id: Option<u32> = conn.exec_first(&prepared, ()).await.expect("executed");
                assert_eq!(id, Some(1), "what is prepared is under the rule, too");
            }
            let mut other = log_on(scene.address, "reports", "r3ports", Some("d")).await.expect("logged on");
            assert_eq!(one(&mut other, "SELECT here()").await, "1", "the rule is not about this account");
            // No word of anybody sends a write to a replica.
            for sql in [
                "INSERT INTO t (v) VALUES ('hinted')",
                "/* one-server: replica */ INSERT INTO t (v) VALUES ('hinted')",
                "INSERT INTO t (v) VALUES ('hinted') -- maxscale route to slave",
                "/* one-server: replica */ UPDATE t SET v = 'x' WHERE v = 'y'",
                "/* one-server: replica */ SELECT id FROM t WHERE id = 1 FOR UPDATE",
                "/* one-server: replica */ BEGIN",
                "/* one-server: replica */ COMMIT",
            ] {
                conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
            assert_eq!(
                one(&mut conn, "/* one-server: primary */ SELECT CAST(COUNT(*) AS CHAR) FROM t WHERE v = 'hinted'")
                    .await,
                "3"
            );
        });
        let chosen = |to: &str| scene.server.metric("one_server_splitter_chosen_total", &format!("to=\"{to}\""));
        assert!(chosen("primary") >= 9.0 && chosen("replica") >= 3.0, "{} {}", chosen("primary"), chosen("replica"));
        scene.cluster.wait_for_replicas();
        let hinted = "SELECT COUNT(*) FROM d.t WHERE v = 'hinted'";
        assert_eq!(scene.cluster.replicas[0].sql(hinted), "3", "nothing has diverged");
    });
}

#[test]
fn comments_choose_nothing_where_they_may_not() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = Scene::start(Driver::Auto, 1, "hints = false");
    block_on(async {
        let mut conn = scene.client().await;
        assert_eq!(one(&mut conn, "/* one-server: primary */ SELECT id FROM who").await, "2");
    });
}

#[test]
fn rules_refuse_statements() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let rules = [
            rule("clients = [\"10.0.0.0/8\"]\nreject = \"not from there\""),
            rule("users = [\"reports\"]\ndigest = \"DELETE FROM *\"\nreject = \"reports delete nothing\""),
            rule(
                "schemas = [\"e\"]\nclients = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\ndigest_regex = \"^(CREATE|DROP) \"\nreject = \"e stays as it is\"",
            ),
        ];
        let scene = Scene::start(driver, 2, &format!("{USERS}{}", rules.concat()));
        block_on(async {
            let mut conn = scene.client().await;
            conn.query_drop("DELETE FROM t WHERE id = 99").await.expect("not about this account");
            conn.query_drop("CREATE TABLE x (a INT)").await.expect("not about this database");
            conn.query_drop("USE e").await.expect("chosen");
            let error = conn.query_drop("create /* really */ table y (a int)").await.expect_err("refused");
            assert!(error.to_string().contains("e stays as it is"), "{error}");
            assert_eq!(code(conn.query_drop("DROP TABLE d.x").await), 1148);
            conn.query_drop("USE d").await.expect("chosen");
            conn.query_drop("DROP TABLE x").await.expect("not about this database");
            let mut other = log_on(scene.address, "reports", "r3ports", Some("d")).await.expect("logged on");
            assert_eq!(code(other.query_drop("DELETE FROM t WHERE id = 1").await), 1148);
            assert_eq!(code(other.query_drop("delete\nfrom `t` where id=2").await), 1148);
            assert_eq!(code(other.prep("DELETE FROM t WHERE id = ?").await), 1148, "prepared or not");
            assert_eq!(one(&mut other, "SELECT CAST(COUNT(*) AS CHAR) FROM t").await, "3", "the session goes on");
        });
        assert_eq!(scene.server.metric("one_server_splitter_rejected_total", ""), 5.0, "{driver:?}");
    });
}

#[test]
fn rules_change_statements() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let rules = [
            rule("digest_regex = \"old_who\"\nrewrite = '\\bold_(who)\\b'\nrewrite_to = \"${1}\""),
            rule("digest = \"SELECT ? + ?\"\nrewrite = '\\?'\nrewrite_to = \"7\""),
            rule("digest = \"DELETE FROM t\"\nrewrite = '$'\nrewrite_to = \" WHERE id < 0\""),
        ];
        let scene = Scene::start(driver, 1, &rules.concat());
        block_on(async {
            let mut conn = scene.client().await;
            assert_eq!(one(&mut conn, "SELECT id FROM old_who").await, "2", "judged by what it has become");
            let id: Option<u32> = conn.exec_first("SELECT id FROM old_who WHERE id > ?", (0,)).await.expect("executed");
            assert_eq!(id, Some(2));
            let sum: Option<u32> = conn.exec_first("SELECT ? + ?", (1, 2)).await.expect("executed");
            assert_eq!(sum, Some(3), "a parameter must not get lost");
            conn.query_drop("DELETE FROM t").await.expect("harmless");
            assert_eq!(one(&mut conn, "SELECT CAST(COUNT(*) AS CHAR) FROM t").await, "3");
            assert_eq!(code(conn.query_drop("SELECT id FROM older_who").await), 1146, "the expression does not match");
        });
        assert_eq!(scene.server.metric("one_server_splitter_rewritten_total", ""), 3.0, "{driver:?}");
    });
}

#[test]
fn rules_limit_the_time_of_statements() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let rules = [
            rule("name = \"short\"\ndigest = \"*SLEEP(*\"\ntime_limit = \"300ms\""),
            rule("digest = \"SELECT COUNT(*) FROM t a, t b*\"\ntime_limit = \"300ms\""),
            rule("digest = \"SELECT REPEAT*\"\ntime_limit = \"300ms\""),
        ];
        let scene = Scene::start(driver, 1, &rules.concat());
        block_on(async {
            let mut conn = scene.client().await;
            conn.query_drop("SELECT SLEEP(0.01) FROM t").await.expect("quick enough");
            let long = "SELECT SLEEP(9) FROM t";
            let begun = Instant::now();
            let error = conn.query_drop(long).await.expect_err("too long");
            assert!(begun.elapsed() < Duration::from_secs(5), "{driver:?} {:?}", begun.elapsed());
            assert!(error.to_string().contains("the time limit of 300ms of `short` is exceeded"), "{error}");
            assert_eq!(code(conn.query_drop(long).await), 1969, "again on the same connection");
            assert_eq!(code(conn.exec_drop("SELECT SLEEP(?) FROM t", (9,)).await), 1969, "prepared");
            // The statement is undone, and nothing but the statement.
            conn.query_drop("BEGIN").await.expect("begun");
            conn.query_drop("UPDATE t SET v = 'kept' WHERE id = 1").await.expect("written");
            assert_eq!(code(conn.query_drop("UPDATE t SET v = CONCAT('lost', SLEEP(9))").await), 1969);
            conn.query_drop("COMMIT").await.expect("ended");
            let mut fresh = scene.client().await;
            assert_eq!(
                one(&mut fresh, "/* one-server: primary */ SELECT GROUP_CONCAT(v ORDER BY id) FROM t").await,
                "kept,b,c"
            );
            // On a replica, and from the pool.
            scene.cluster.wait_for_replicas();
            let product = "SELECT COUNT(*) FROM t a, t b, t c, t d, t e, t f, t g, t h, t i, t j, t k, t l, t m, t n, t o, t p, t q \
                           WHERE a.v <> CONCAT(b.v, c.v, d.v, q.v)";
            let mut reader = scene.client().await;
            assert_eq!(code(reader.query_drop(product).await), 1969);
            assert_eq!(one(&mut reader, "SELECT id FROM who").await, "2");
            // Whose answer comes all the time, 14 GB of it.
            let stream = "SELECT REPEAT('x', 1000) FROM t a, t b, t c, t d, t e, t f, t g, t h, t i, t j, t k, t l, t m, t n, t o";
            let begun = Instant::now();
            assert_eq!(code(reader.query_drop(stream).await), 1969);
            assert!(begun.elapsed() < Duration::from_secs(10), "{driver:?} {:?}", begun.elapsed());
            assert_eq!(one(&mut reader, "SELECT id FROM who").await, "2");
            // And whose client takes it more slowly than it comes.
            let mut slow = sessions::Raw::connect(scene.server.address("db").port(), 0);
            slow.send(0, format!("\x03{stream}").as_bytes());
            let begun = Instant::now();
            let mut packets = 0u64;
            let last = loop {
                let packet = slow.packet().expect("a part of the answer");
                if packet[4] == 0xFF {
                    break packet;
                }
                packets += 1;
                if packets.is_multiple_of(64) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            };
            assert_eq!(u16::from_le_bytes([last[5], last[6]]), 1969);
            assert!(begun.elapsed() < Duration::from_secs(10), "{driver:?} {:?}, {packets} packets", begun.elapsed());
        });
        assert_eq!(scene.server.metric("one_server_splitter_time_limits_total", ""), 7.0, "{driver:?}");
        let running = "SELECT COUNT(*) FROM information_schema.processlist WHERE command = 'Query' AND user = 'app'";
        eventually("nothing runs on", || scene.cluster.primary.sql(running) == "0");
        eventually("nothing runs on", || scene.cluster.replicas[0].sql(running) == "0");
    });
}
