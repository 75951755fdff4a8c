//! What a splitter tells of the statements that went through it: the table of normal forms, the slow log, the counters.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/mysql_clients.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod mysql_clients;

use mariadb::USER;
use mysql_async::prelude::Queryable;
use mysql_clients::{Scene, block_on, code, log_on, one};
use rustix::process::Signal;
use serde_json::Value;
use support::ports;
use support::*;

/// The table, by `ctl … --json`.
fn digests(scene: &Scene, more: &[&str]) -> Value {
    let arguments = [&["--json", "mysql", "digests", "db"], more].concat();
    let answer: Value = serde_json::from_str(&scene.server.ctl_ok(&arguments)).expect("JSON");
    assert_eq!(answer["ok"], true, "{answer}");
    answer["result"].clone()
}

/// The row of a normal form; of this user, if one is named.
fn row<'a>(table: &'a Value, text: &str, user: &str) -> &'a Value {
    let rows = table["rows"].as_array().expect("rows");
    let found = rows.iter().find(|row| row["text"] == text && (user.is_empty() || row["user"] == user));
    found.unwrap_or_else(|| panic!("no row {text} of {user} in {table:#}"))
}

#[test]
fn statements_are_counted_by_their_normal_form() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let users = "[[mysql.db.users]]\nname = \"reports\"\npassword = \"r3ports\"\n";
        let scene = Scene::start(driver, 2, users);
        block_on(async {
            // Several clients, so that both workers have some.
            for n in 0..8 {
                let mut conn = scene.client().await;
                conn.query_drop(format!("select v  from `t` where id = {n} -- topsecret")).await.expect("read");
                conn.query_drop(format!("INSERT INTO t (v) VALUES ('topsecret{n}'), (\"topsecret\"), ({n})"))
                    .await
                    .expect("written");
                conn.exec_drop("SELECT v FROM t WHERE id IN (?, ?)", (n, n + 1)).await.expect("executed");
                assert_eq!(code(conn.query_drop("SELECT nothing FROM t WHERE v = 'topsecret'").await), 1054);
                conn.query_drop("SELECT id / 0 FROM who").await.expect("a warning");
            }
            let mut other = log_on(scene.address, "reports", "r3ports", None).await.expect("logged on");
            other.query_drop("SELECT v FROM d.t WHERE id = 1").await.expect("read");
            other.query_drop("SELECT v FROM t WHERE id = 1").await.expect_err("no database is selected");
        });
        let table = digests(&scene, &[]);
        let read = row(&table, "SELECT v FROM t WHERE id = ?", USER);
        assert_eq!((&read["count"], &read["errors"], &read["schema"]), (&8.into(), &0.into(), &"d".into()));
        // Ids 1 to 3 are there from the start; who asks for more sees what others have written, or not yet.
        assert!(read["rows_sent"].as_u64().is_some_and(|rows| (3..=8).contains(&rows)), "{read}");
        assert_eq!(read["primary"].as_u64().unwrap_or(0) + read["replica"].as_u64().unwrap_or(0), 8);
        assert!(read["replica"].as_u64() >= Some(1) && read["chosen"] == 0, "{read}");
        let times =
            ["min_us", "p50_us", "p99_us", "max_us", "sum_us"].map(|name| read[name].as_u64().expect("a number"));
        assert!(0 < times[0] && times[0] <= times[3] && times[3] <= times[4] && times[1] <= times[2], "{read}");
        assert!(read["first_unix_ms"].as_u64() <= read["last_unix_ms"].as_u64());
        assert!(read["last_unix_ms"].as_u64() >= table["since_unix_ms"].as_u64());
        let write = row(&table, "INSERT INTO t(v) VALUES (...), ...", USER);
        assert_eq!((&write["count"], &write["rows_affected"], &write["primary"]), (&8.into(), &24.into(), &8.into()));
        let executed = row(&table, "SELECT v FROM t WHERE id IN (...)", USER);
        assert_eq!((&executed["count"], &executed["errors"]), (&8.into(), &0.into()), "preparing does not count");
        let failed = row(&table, "SELECT nothing FROM t WHERE v = ?", USER);
        assert_eq!((&failed["count"], &failed["errors"]), (&8.into(), &8.into()));
        let warned = row(&table, "SELECT id / ? FROM who", USER);
        assert_eq!((&warned["warnings"], &warned["rows_sent"]), (&8.into(), &8.into()));
        assert_eq!(row(&table, "SELECT v FROM d.t WHERE id = ?", "reports")["schema"], "");
        assert_eq!(row(&table, "SELECT v FROM t WHERE id = ?", "reports")["errors"], 1, "another account, another row");
        assert!(!table.to_string().contains("topsecret"), "{table}");
        // Sorted, cut, for people, and by the admin listener.
        let first = digests(&scene, &["--sort", "errors", "--limit", "1"]);
        assert_eq!((first["rows"].as_array().map(Vec::len), &first["rows"][0]), (Some(1), failed));
        assert_eq!(first["rows_total"], table["rows_total"]);
        let text = scene.server.ctl_ok(&["mysql", "digests", "db", "--sort", "count"]);
        let id = read["digest"].as_str().expect("a name");
        assert!(id.len() == 16 && text.contains(id) && text.contains("\n  SELECT v FROM t WHERE id = ?\n"), "{text}");
        let page = scene.server.admin("/digests?splitter=db&sort=errors&limit=1");
        assert!(page.contains("\"SELECT nothing FROM t WHERE v = ?\"") && !page.contains("VALUES"), "{page}");
        assert!(scene.server.ctl_fails(&["mysql", "digests", "none"]).contains("write db"));
        let metric = |name: &str| scene.server.metric(name, "");
        assert_eq!(metric("one_server_splitter_questions_total"), 42.0, "{driver:?}");
        assert_eq!(metric("proxysql_questions_total"), 42.0);
        let of_primary = |name: &str, more: &str| scene.server.metric(name, &format!("hostgroup=\"0\"{more}"));
        assert!(of_primary("proxysql_connpool_data_bytes_total", "") > 100.0);
        assert!(of_primary("proxysql_connpool_conns_queries_total", "") >= 8.0);
        assert!(of_primary("proxysql_connpool_conns", "") >= 1.0 && metric("proxysql_uptime_seconds_total") >= 0.0);
        assert!((1.0..10_000_000.0).contains(&of_primary("proxysql_connpool_conns_latency_us", "")));
        assert!(
            metric("proxysql_queries_backends_bytes_total") > metric("one_server_splitter_server_sent_bytes_total")
        );
        assert!(metric("proxysql_client_connections_total") >= 8.0);
        assert!(metric("one_server_splitter_server_errors_total") >= 9.0);
        assert!(metric("one_server_splitter_sent_bytes_total") > metric("one_server_splitter_received_bytes_total"));
        assert!(metric("one_server_splitter_server_received_bytes_total") > 1000.0);
        assert!(metric("one_server_splitter_server_sent_bytes_total") > 1000.0);
        // Begun anew, also where a worker is in the middle of its rows.
        assert!(scene.server.ctl_ok(&["mysql", "reset-digests", "db"]).contains("counts its statements anew"));
        assert_eq!(digests(&scene, &[])["rows_total"], 0);
        block_on(async {
            for _ in 0..4 {
                one(&mut scene.client().await, "SELECT v FROM t WHERE id = 1").await;
            }
        });
        let table = digests(&scene, &[]);
        assert_eq!((&table["rows_total"], &table["rows"][0]["count"]), (&1.into(), &4.into()));
    });
}

#[test]
fn a_full_table_counts_the_rest_together() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = Scene::start(Driver::Auto, 1, "digests_max = 2");
    block_on(async {
        let mut conn = scene.client().await;
        for column in ["a", "b", "c", "d", "a", "d"] {
            conn.query_drop(format!("SELECT 1 AS {column}")).await.expect("read");
        }
    });
    let table = digests(&scene, &[]);
    assert_eq!((&table["rows_total"], &table["other"]["count"]), (&2.into(), &3.into()), "{table:#}");
    assert_eq!(row(&table, "SELECT ? AS a", "")["count"], 2);
}

/// The table grows and shrinks under the process, with what it has counted.
#[test]
fn a_table_of_another_size_keeps_its_rows() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = Scene::start(Driver::Auto, 1, "digests_max = 2");
    block_on(async {
        let mut conn = scene.client().await;
        let ask = async |conn: &mut mysql_async::Conn, columns: &[&str]| {
            for column in columns {
                conn.query_drop(format!("SELECT 1 AS {column}")).await.expect("read");
            }
        };
        let counts = || {
            let table = digests(&scene, &[]);
            let of = |column: &str| {
                let rows = table["rows"].as_array().expect("rows");
                let row = rows.iter().find(|row| row["text"] == format!("SELECT ? AS {column}"));
                row.map_or(0, |row| row["count"].as_u64().expect("a number"))
            };
            (["a", "b", "c"].map(of), table["other"]["count"].as_u64().unwrap_or(0))
        };
        ask(&mut conn, &["a", "b", "c", "a"]).await;
        assert_eq!(counts(), ([2, 1, 0], 1));
        scene.server.reload_with(&[("digests_max = 2", "digests_max = 9")]);
        assert_eq!(counts(), ([2, 1, 0], 1), "before the worker has looked");
        ask(&mut conn, &["c", "a"]).await;
        assert_eq!(counts(), ([3, 1, 1], 1));
        scene.server.reload_with(&[("digests_max = 9", "digests_max = 1")]);
        ask(&mut conn, &["a", "b"]).await;
        assert_eq!(counts(), ([4, 0, 0], 2));
        scene.server.reload_with(&[("digests_max = 1", "digests_max = 0")]);
        ask(&mut conn, &["a"]).await;
        assert!(scene.server.ctl_fails(&["mysql", "digests", "db"]).contains("digests_max"));
        scene.server.reload_with(&[("digests_max = 0", "digests_max = 3")]);
        ask(&mut conn, &["b"]).await;
        assert_eq!(counts(), ([4, 1, 0], 2), "nothing was counted meanwhile");
    });
}

/// Lines of the slow log, once there are so many.
fn slow_lines(scene: &Scene, name: &str, count: usize) -> Vec<Value> {
    let path = scene.server.folder().join(name);
    let read = || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect::<Vec<Value>>()
    };
    eventually("lines of the slow log", || read().len() >= count);
    let lines = read();
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

#[test]
fn what_takes_long_is_logged() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let lines = "slow_log = { file = \"$DIR/slow.log\", threshold = \"200ms\", text_max = \"64B\" }";
        let scene = Scene::start(driver, 2, lines);
        block_on(async {
            let mut conn = scene.client().await;
            conn.query_drop("SELECT 1 FROM who").await.expect("quick");
            conn.query_drop("SELECT SLEEP(0.3), @x, 'lite\nral' FROM who").await.expect("slow");
            conn.exec_drop("SELECT SLEEP(?), ? FROM t", (0.1, "x".repeat(99))).await.expect("slow");
            conn.query_drop(format!("SELECT SLEEP(0.3), '{}'", "y".repeat(200))).await.expect("slow");
            assert_eq!(code(conn.query_drop("SELECT SLEEP(0.3) + (SELECT id FROM t)").await), 1242);
        });
        let lines = slow_lines(&scene, "slow.log", 4);
        let first = &lines[0];
        assert_eq!((&first["splitter"], &first["user"], &first["schema"]), (&"db".into(), &USER.into(), &"d".into()));
        assert_eq!(
            (&first["route"], &first["pin"], &first["rule"]),
            (&"primary".into(), &"user_variable".into(), &Value::Null)
        );
        assert_eq!(first["server"], format!("127.0.0.1:{}", scene.cluster.primary.port), "{driver:?}");
        assert!(first["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")));
        assert!(first["duration_us"].as_u64().is_some_and(|us| (300_000..5_000_000).contains(&us)), "{first}");
        assert_eq!(
            (&first["rows_sent"], &first["causal_wait_us"], &first["error"]),
            (&1.into(), &0.into(), &Value::Null)
        );
        assert_eq!(
            (&first["text"], &first["cut"]),
            (&"SELECT SLEEP(0.3), @x, 'lite\nral' FROM who".into(), &false.into())
        );
        assert!(first["time"].as_str().is_some_and(|time| time.len() > 23 && time.as_bytes()[10] == b'T'), "{first}");
        assert_eq!((&lines[1]["text"], &lines[1]["rows_sent"]), (&"SELECT SLEEP(?), ? FROM t".into(), &3.into()));
        assert_eq!((lines[2]["text"].as_str().map(str::len), &lines[2]["cut"]), (Some(64), &true.into()));
        assert_eq!((&lines[3]["error"], &lines[3]["rows_sent"]), (&1242.into(), &0.into()));
        let table = digests(&scene, &[]);
        assert_eq!(row(&table, "SELECT SLEEP(?), ? FROM t", "")["digest"], lines[1]["digest"], "the same name in both");
        assert_eq!(scene.server.metric("one_server_splitter_slow_total", ""), 4.0);
        // Rotated as access logs are.
        let (path, old) = (scene.server.folder().join("slow.log"), scene.server.folder().join("slow.1"));
        std::fs::rename(&path, &old).expect("renamed");
        scene.server.signal(Signal::USR1);
        eventually("it is opened again", || path.exists());
        block_on(async { scene.client().await.query_drop("SELECT SLEEP(0.25)").await.expect("slow") });
        assert_eq!(slow_lines(&scene, "slow.log", 1)[0]["text"], "SELECT SLEEP(0.25)");
        assert_eq!(slow_lines(&scene, "slow.1", 4).len(), 4);
    });
}

#[test]
fn literals_can_be_kept_out_of_the_slow_log() {
    if !mariadb::is_installed() {
        return;
    }
    let lines = "digests_max = 0\nslow_log = { file = \"$DIR/slow.log\", threshold = \"0s\", text = \"digest\" }";
    let scene = Scene::start(Driver::Auto, 1, lines);
    block_on(async {
        let mut conn = scene.client().await;
        conn.query_drop("SELECT v FROM t WHERE v = 'topsecret' /* topsecret */").await.expect("read");
        conn.exec_drop("SELECT v FROM t WHERE v = ?", ("topsecret",)).await.expect("read");
    });
    let lines = slow_lines(&scene, "slow.log", 2);
    for line in &lines {
        assert_eq!((&line["digest_text"], line.get("text")), (&"SELECT v FROM t WHERE v = ?".into(), None));
        assert_eq!(line["route"], "replica");
        assert!(!line.to_string().contains("topsecret"), "{line}");
    }
    assert_eq!(lines[0]["digest"], lines[1]["digest"]);
    assert!(scene.server.ctl_fails(&["mysql", "digests", "db"]).contains("set `digests_max`"));
}

/// A session that stays with one connection costs one: why, and for how long already, is told wherever statements and splitters
/// are looked at.
#[test]
fn what_sessions_are_pinned_by_is_told_with_its_age() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let scene = Scene::start(driver, 2, "slow_log = { file = \"$DIR/slow.log\", threshold = \"0s\" }");
        let oldest = |reason: &str| {
            scene.server.metric("one_server_splitter_session_pinned_oldest_seconds", &format!("reason=\"{reason}\""))
        };
        block_on(async {
            let (mut conn, mut other) = (scene.client().await, scene.client().await);
            conn.query_drop("SET @mine = 1").await.expect("set");
            tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
            other.query_drop("SET @mine = 2").await.expect("set");
            // The reason changes, the session has been pinned since the first one.
            conn.query_drop("SELECT GET_LOCK('mine', 0)").await.expect("locked");
            conn.query_drop("SELECT 'old'").await.expect("read");
            other.query_drop("SELECT 'young'").await.expect("read");
            tokio::time::sleep(std::time::Duration::from_millis(600)).await;
            let shown = scene.server.ctl_ok(&["mysql", "show"]);
            let has = |reason: &str| shown.contains(&format!("\n  1 pinned by {reason}, the longest for "));
            assert!(has("unknown_function") && has("user_variable"), "{shown}");
            assert!((1.7..20.0).contains(&oldest("unknown_function")), "{driver:?}: {}", oldest("unknown_function"));
            let young = oldest("user_variable");
            assert!((0.2..1.5).contains(&young), "{driver:?}: {young}");
            let status = &scene.server.status()["splitters"][0];
            assert!(status["pinned_oldest_ms"].as_u64() >= Some(1700) && status["pinned"] == 2, "{status}");
            conn.reset().await.expect("reset");
            other.reset().await.expect("reset");
            conn.query_drop("SELECT 'free'").await.expect("read");
        });
        eventually("nobody is pinned any more", || oldest("unknown_function") + oldest("user_variable") == 0.0);
        assert!(!scene.server.ctl_ok(&["mysql", "show"]).contains("pinned by"));
        let lines = slow_lines(&scene, "slow.log", 6);
        let age = |text: &str| {
            let line = lines.iter().find(|line| line["text"] == format!("SELECT '{text}'")).expect("a line");
            (line["pin"].clone(), line["pin_age_ms"].as_u64())
        };
        let (old, young) = (age("old"), age("young"));
        assert!(old.0 == "unknown_function" && old.1.is_some_and(|ms| (1000..20_000).contains(&ms)), "{old:?}");
        assert!(young.0 == "user_variable" && young.1.is_some_and(|ms| ms < 1000), "{young:?}");
        assert_eq!(age("free"), (Value::Null, None));
    });
}
