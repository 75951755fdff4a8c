//! Compressed packets between the splitter and its servers: all that a client can ask for comes as it does without, in fewer
//! bytes; a server that does not offer what the config wants is spoken to all the same. With a real MariaDB, as its threads
//! and as a pool of them, and a scripted server for zstd, which MySQL 8 has.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/mysql8.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod mysql8;
#[path = "support/mysql_clients.rs"]
#[allow(dead_code, reason = "other tests start servers of their own")]
mod mysql_clients;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests need one form alone")]
mod split;

use std::net::SocketAddr;
use std::process::Command;

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Value};
use mysql_clients::{block_on, log_on, one, options};
use mysql8::{Full, Mysql8, Reply};
use support::tls::{Kind, trusted};
use support::*;

/// Rows that compress well, and more of them than one frame holds.
const ROWS: &str = "INSERT INTO d.t SELECT seq, REPEAT(MD5(seq MOD 7), 60) FROM seq_1_to_4000";

fn start(driver: Driver, cluster: &Cluster, keys: &str) -> Server {
    let server = split::site(driver, cluster, keys).process("control = \"$DIR/ctl.sock\"").start();
    for replica in 0..cluster.replicas.len() {
        eventually("the replica takes reads", || server.status()["splitters"][0]["servers"][replica + 1]["up"] == true);
    }
    server
}

fn with_rows(arguments: &[&str]) -> Cluster {
    let cluster = Cluster::start_with(1, &[], arguments);
    cluster.primary.sql(&format!("USE d; CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT) ENGINE=InnoDB; {ROWS}"));
    cluster.wait_for_replicas();
    cluster
}

async fn client(address: SocketAddr) -> Conn {
    let options = options(address, USER, PASSWORD, Some("d")).max_allowed_packet(Some(64 << 20));
    Conn::new(options).await.expect("logged on")
}

#[test]
fn servers_compress_what_clients_read_in_clear() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = with_rows(&[]);
    with_both_drivers(|driver| {
        let server = start(driver, &cluster, "server_compression = \"zlib\"");
        let sent = |replica: usize| cluster.replicas[replica].counter("Bytes_sent");
        block_on(async {
            let mut conn = client(server.address("db")).await;
            let (name, value): (String, String) =
                conn.query_first("SHOW STATUS LIKE 'Compression'").await.expect("an answer").expect("a row");
            assert_eq!((name.as_str(), value.as_str()), ("Compression", "ON"));
            let before = sent(0);
            for _ in 0..4 {
                let rows: Vec<(u32, String)> = conn.query("SELECT id, v FROM t ORDER BY id").await.expect("rows");
                assert_eq!((rows.len(), rows[3999].0, rows[3999].1.len()), (4000, 4000, 60 * 32));
                assert!(rows.windows(8).all(|rows| rows[0].1 == rows[7].1 && rows[0].1 != rows[1].1));
            }
            // 30 MB of them; other drivers read here meanwhile.
            assert!(sent(0) - before < 6_000_000, "{} bytes", sent(0) - before);
            conn.disconnect().await.expect("gone");
        });
        assert!(server.metric("one_server_splitter_statements_total", "to=\"replica\"") >= 4.0);
    });
}

#[test]
fn all_that_is_long_passes() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = with_rows(&[]);
    with_both_drivers(|driver| {
        let server = start(driver, &cluster, "server_compression = \"zlib\"\nlocal_infile = true");
        // The servers are those of both drivers: each writes a row of its own.
        let own = if matches!(driver, Driver::IoUring) { 1 } else { 2 };
        block_on(long_work(server.address("db"), own));
        // A file of the client's: its packets go on with the numbers of the answer under way.
        let rows: String = (0..60_000).map(|n| format!("{n},{}\n", "x".repeat(n % 40))).collect();
        let file = server.folder().join("rows.csv");
        std::fs::write(&file, rows).expect("a file");
        let output = Command::new("mariadb")
            .args(["--no-defaults", "-N", "-B", "--protocol=tcp", "--skip-ssl", "-h", "127.0.0.1", "--local-infile=1"])
            .arg(format!("-P{}", server.address("db").port()))
            .args([format!("-u{USER}"), format!("-p{PASSWORD}")])
            .arg("-e")
            .arg(format!(
                "CREATE TEMPORARY TABLE d.file (n INT, v TEXT); LOAD DATA LOCAL INFILE '{}' INTO TABLE d.file FIELDS \
                 TERMINATED BY ','; SELECT COUNT(*), SUM(n), SUM(LENGTH(v)) FROM d.file",
                file.display()
            ))
            .output()
            .expect("the client runs");
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(told.trim(), "60000\t1799970000\t1170000", "{}", String::from_utf8_lossy(&output.stderr));
    });
}

async fn long_work(address: SocketAddr, own: u32) {
    let mut conn = client(address).await;
    // A value of more than one packet, from the primary and from the replica; nothing in it that compresses, then zeros.
    for sql in ["SELECT REPEAT('x', 40000000) FOR UPDATE", "SELECT REPEAT('x', 40000000)"] {
        let value: Vec<u8> = conn.query_first(sql).await.expect("an answer").expect("a row");
        assert!(value.len() == 40_000_000 && value.iter().all(|byte| *byte == b'x'), "{sql}");
    }
    let noise = pattern(20_000_000);
    let row: Option<(u64, String)> =
        conn.exec_first("SELECT LENGTH(?), MD5(?)", (&noise, &noise[..1000])).await.expect("an answer");
    assert_eq!(row.map(|row| row.0), Some(20_000_000));
    let back: Option<Vec<u8>> = conn.exec_first("SELECT ?", (&noise,)).await.expect("an answer");
    assert!(back.is_some_and(|back| back == noise), "more than one packet both ways");
    // A statement of many frames.
    let sql = format!("SELECT LENGTH('{}')", "abc".repeat(1_000_000));
    assert_eq!(one(&mut conn, &sql).await, "3000000");
    // One that is executed often, small and large, with the connection going to and fro between sessions.
    let mut other = client(address).await;
    let statement = conn.prep("SELECT id, v FROM t WHERE id <= ? ORDER BY id").await.expect("prepared");
    for most in [1, 3000, 2, 4000] {
        let rows: Vec<(u32, String)> = conn.exec(&statement, (most,)).await.expect("rows");
        assert_eq!(rows.len(), most as usize);
        other.query_drop("SET sql_mode = 'ANSI_QUOTES'").await.expect("set");
        assert_eq!(one(&mut other, "SELECT COUNT(*) FROM \"t\"").await, "4000");
    }
    // Several results, and an error among them.
    let mut results =
        conn.query_iter("SELECT 1; SELECT v FROM t WHERE id < 2000; SELECT nowhere").await.expect("the first");
    let mut lengths = Vec::new();
    let end = loop {
        match results.collect::<Value>().await {
            Ok(rows) => lengths.push(rows.len()),
            Err(error) => break error.to_string(),
        }
    };
    assert!(lengths == [1, 1999] && end.contains("nowhere"), "{lengths:?} {end}");
    drop(results);
    // Reads that wait on the replica for what was just written: two commands in one go.
    conn.query_drop("CREATE TEMPORARY TABLE none (n INT)").await.expect("made");
    conn.reset().await.expect("reset");
    conn.query_drop("USE d").await.expect("used");
    for n in 0..30 {
        let value = format!("{n}").repeat(200);
        conn.exec_drop("UPDATE t SET v = ? WHERE id = ?", (&value, own)).await.expect("written");
        assert_eq!(one(&mut conn, &format!("SELECT v FROM t WHERE id = {own}")).await, value);
    }
    for conn in [conn, other] {
        conn.disconnect().await.expect("gone");
    }
}

/// Such a server looks at its socket for the next command, not at what it has unpacked already.
#[test]
fn commands_behind_each_other_reach_a_server_with_a_pool_of_threads() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = with_rows(&["--thread-handling=pool-of-threads"]);
    let server = start(Driver::Auto, &cluster, "server_compression = \"zlib\"\npool_max = 2");
    block_on(async {
        let (mut one_of_them, mut other) = (client(server.address("db")).await, client(server.address("db")).await);
        for n in 0..20 {
            // A reset, a database, variables and the statement, in turn for each session; waits in front of reads.
            for (conn, mode) in [(&mut one_of_them, "ANSI"), (&mut other, "TRADITIONAL")] {
                conn.query_drop(format!("SET sql_mode = '{mode}'")).await.expect("set");
                conn.query_drop(format!("UPDATE t SET v = '{mode} {n}' WHERE id = 1")).await.expect("written");
                assert_eq!(one(conn, "SELECT v FROM t WHERE id = 1").await, format!("{mode} {n}"));
            }
        }
    });
    assert!(server.metric("one_server_splitter_causal_waits_total", "") > 0.0);
}

#[test]
fn one_server_may_be_another_way_and_a_reload_changes_it() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = with_rows(&[]);
    let replicas = |compression: &str| {
        format!(
            "replicas = [{{ address = \"127.0.0.1:{}\", compression = \"{compression}\" }}]",
            cluster.replicas[0].port
        )
    };
    let written = format!("replicas = [\"127.0.0.1:{}\"]", cluster.replicas[0].port);
    let site = split::site(Driver::Auto, &cluster, "").process("control = \"$DIR/ctl.sock\"");
    let server = site.start();
    let is_packed = |expected: &str| {
        block_on(async {
            let mut conn = log_on(server.address("db"), USER, PASSWORD, Some("d")).await.expect("logged on");
            let (_, value): (String, String) =
                conn.query_first("SHOW STATUS LIKE 'Compression'").await.expect("an answer").expect("a row");
            assert_eq!(value, expected);
        });
    };
    is_packed("OFF");
    let sent = |expected: std::ops::Range<u64>| {
        eventually("the replica takes reads", || server.status()["splitters"][0]["servers"][1]["up"] == true);
        block_on(async {
            let mut conn = log_on(server.address("db"), USER, PASSWORD, Some("d")).await.expect("logged on");
            let before = cluster.replicas[0].counter("Bytes_sent");
            let rows: Vec<String> = conn.query("SELECT v FROM t").await.expect("rows");
            assert_eq!(rows.len(), 4000);
            let bytes = cluster.replicas[0].counter("Bytes_sent") - before;
            assert!(expected.contains(&bytes), "{bytes} bytes");
        });
    };
    sent(7_000_000..9_000_000);
    server.reload_with(&[(&written, &replicas("zlib"))]);
    sent(1_000..1_000_000);
    is_packed("OFF");
    // What only MySQL has: said once, and no reason not to go on.
    server.reload_with(&[(&replicas("zlib"), &replicas("zstd"))]);
    sent(7_000_000..9_000_000);
    let said = |line: &&String| line.contains("does not offer this compression") && line.ends_with("compression=zstd");
    assert_eq!(server.lines().iter().filter(said).count(), 1, "{:?}", server.lines());
    let lines = format!("server_compression = \"zlib\"\n{}", replicas("off"));
    server.reload_with(&[(&replicas("zstd"), &lines)]);
    is_packed("ON");
    sent(7_000_000..9_000_000);
}

#[test]
fn zstd_as_mysql_8_has_it() {
    let key = mysql8::RsaKey::new();
    let mysql = Mysql8::start(Full::Warm, USER, PASSWORD, &key, trusted().server(&["127.0.0.1"], Kind::Ecdsa));
    let long = "0123456789".repeat(20);
    let row = long.clone();
    mysql.answer_with(move |sql| match sql {
        _ if sql.contains("rows please") => Reply::Rows(vec!["v"], vec![vec![Some(row.clone())]; 5_000]),
        _ if sql.contains("'short'") => Reply::Rows(vec!["v"], vec![vec![Some("short".into())]]),
        _ => Reply::Fine,
    });
    let server =
        split::site_of(Driver::Auto, "127.0.0.1:0", mysql.port(), &[], "server_compression = \"zstd\"").start();
    block_on(async {
        let mut conn = client(server.address("db")).await;
        for turn in 0..3 {
            let sql = format!("SELECT /* {} */ 'rows please' FOR UPDATE", "padding ".repeat(20_000 * turn));
            let rows: Vec<String> = conn.query(sql).await.expect("rows");
            assert!(rows.len() == 5_000 && rows.iter().all(|row| *row == long));
            assert_eq!(one(&mut conn, "SELECT 'short' FOR UPDATE").await, "short");
        }
    });
    let (received, unpacked) = mysql.unpacked();
    assert!(unpacked > 500_000 && received < unpacked / 20, "{received} bytes became {unpacked}");
    assert!(mysql.complaints().is_empty(), "{:?}", mysql.complaints());
}
