//! The splitter in the real binary, between real clients and a real MariaDB primary with replicas: what a session sees
//! through it must be what it would see on one server.

#[path = "support/mariadb.rs"]
mod mariadb;

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mariadb::{Cluster, PASSWORD, USER, free_port};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, Row, Value};

/// The running binary.
struct Splitter {
    child: Child,
    port: u16,
    _password: tempfile::NamedTempFile,
}

impl Splitter {
    fn start(cluster: &Cluster, flags: &[&str]) -> Splitter {
        let mut password = tempfile::NamedTempFile::new().unwrap();
        writeln!(password, "{PASSWORD}").unwrap();
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_one-server"));
        command.arg("split").arg("--listen").arg(format!("127.0.0.1:{port}"));
        command.arg("--primary").arg(format!("127.0.0.1:{}", cluster.primary.port));
        for replica in &cluster.replicas {
            command.arg("--replica").arg(format!("127.0.0.1:{}", replica.port));
        }
        command.args(["--user", USER, "--password-file"]).arg(password.path());
        command.args(["--data-cores", "0"]).args(flags);
        command.stdout(Stdio::null()).stderr(if std::env::var_os("SHOW_LOG").is_some() {
            Stdio::inherit()
        } else {
            Stdio::null()
        });
        let splitter = Splitter { child: command.spawn().unwrap(), port, _password: password };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the splitter does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        splitter
    }
}

impl Drop for Splitter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn options(port: u16) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .prefer_socket(false)
}

async fn connect(port: u16) -> Conn {
    let options = options(port).db_name(Some("d")).max_allowed_packet(Some(64 << 20));
    Conn::new(options).await.unwrap()
}

async fn one<T: mysql_async::prelude::FromValue + Send + 'static>(conn: &mut Conn, sql: &str) -> T {
    let row: Option<Row> = conn
        .query_first(sql)
        .await
        .unwrap_or_else(|error| panic!("{:.60}: {error:.300}", sql, error = error.to_string()));
    row.unwrap_or_else(|| panic!("{sql}: no row")).get(0).unwrap_or_else(|| panic!("{sql}: no such value"))
}

fn code(error: &Error) -> u16 {
    match error {
        Error::Server(error) => error.code,
        error => panic!("not an error of the server: {error}"),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), future).await.expect("timed out") })
}

/// Table `who` says on which server a read ran: the replicas' content differs, behind replication's back.
fn mark_servers(cluster: &Cluster) {
    cluster.primary.sql("CREATE TABLE d.who (id INT) ENGINE=InnoDB; INSERT INTO d.who VALUES (1)");
    cluster.wait_for_replicas();
    for replica in &cluster.replicas {
        replica.sql(&format!("SET sql_log_bin=0; UPDATE d.who SET id={}", replica.id));
    }
}

/// Waits until reads arrive at a replica.
async fn wait_for_reads_on_replica(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut conn = connect(port).await;
        if one::<u32>(&mut conn, "SELECT id FROM who").await > 1 {
            return;
        }
        assert!(Instant::now() < deadline, "no read arrives at a replica");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_session_sees_one_server() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql(
        "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB) ENGINE=InnoDB;
         CREATE TABLE e.who (id INT); INSERT INTO e.who VALUES (100);
         CREATE FUNCTION d.leave_lock() RETURNS INT NO SQL RETURN GET_LOCK('f', 0);
         CREATE PROCEDURE d.settle() SET SESSION group_concat_max_len=77",
    );
    cluster.wait_for_replicas();
    let splitter = Splitter::start(&cluster, &["--pool-max", "2"]);
    let port = splitter.port;
    block_on(async {
        wait_for_reads_on_replica(port).await;
        eprintln!("routing");
        reads_go_to_the_replica_and_the_rest_to_the_primary(port).await;
        eprintln!("transactions");
        transactions_stay_on_the_primary(port).await;
        eprintln!("pins");
        session_state_pins_or_follows(port).await;
        eprintln!("diagnostics");
        questions_about_the_last_statement_are_answered_right(port).await;
        eprintln!("leaks");
        nothing_leaks_between_clients(port).await;
        eprintln!("prepared");
        prepared_statements_run_where_they_may(port).await;
        eprintln!("large");
        large_packets_pass(port).await;
        eprintln!("logins");
        logins_are_checked(port).await;
        eprintln!("twins");
        twins_see_the_same(port, cluster.primary.port).await;
    });
    the_mariadb_client_works(port);
    let (port, cluster) = (splitter.port, &cluster);
    block_on(async move {
        eprintln!("causal");
        writes_are_read_back(port, cluster).await;
    });
}

async fn reads_go_to_the_replica_and_the_rest_to_the_primary(port: u16) {
    let mut conn = connect(port).await;
    for (sql, server) in [
        ("SELECT id FROM who", 2),
        ("select /* c */ id from who where id in (1, 2)", 2),
        ("(SELECT id FROM who)", 2),
        ("WITH c AS (SELECT id FROM who) SELECT id FROM c", 2),
        ("SELECT id FROM who FOR UPDATE", 1),
        ("(SELECT id FROM who FOR UPDATE)", 1),
        ("SELECT id FROM who LOCK IN SHARE MODE", 1),
        ("SELECT id FROM who WHERE @@server_id > 0", 1),
        ("SELECT @@server_id", 1),
        ("SELECT id FROM who", 2),
        ("SELECT id FROM who WHERE leave_lock() >= 0", 1),
        ("SELECT id FROM who", 1), // pinned by the unknown function
    ] {
        assert_eq!(one::<u32>(&mut conn, sql).await, server, "{sql}");
    }
    conn.reset().await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "a reset takes the pin away");
    let error = conn.query_drop("KILL 1").await.unwrap_err();
    assert_eq!(code(&error), 1235);
    let error = conn.query_drop("LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t").await.unwrap_err();
    assert!([1148, 4166].contains(&code(&error)), "{error}");
    let error = conn.query_drop("SELECT * FROM nowhere").await.unwrap_err();
    assert_eq!(code(&error), 1146);
    conn.disconnect().await.unwrap();
}

async fn transactions_stay_on_the_primary(port: u16) {
    let mut conn = connect(port).await;
    conn.query_drop("BEGIN").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1);
    conn.query_drop("INSERT INTO t (v) VALUES ('rolled back')").await.unwrap();
    assert!(conn.query_drop("INSERT INTO nowhere VALUES (1)").await.is_err());
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 1, "still in the transaction after an error");
    conn.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 0);
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
    conn.query_drop("SET autocommit=0").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1);
    conn.query_drop("INSERT INTO t (v) VALUES ('x')").await.unwrap();
    conn.query_drop("ROLLBACK").await.unwrap();
    conn.query_drop("SET autocommit=1").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
    // A client that leaves in the middle of a transaction leaves nothing behind.
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO t (v) VALUES ('left')").await.unwrap();
    conn.disconnect().await.unwrap();
    let mut conn = connect(port).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t FOR UPDATE").await, 0);
    conn.disconnect().await.unwrap();
}

async fn session_state_pins_or_follows(port: u16) {
    let mut conn = connect(port).await;
    conn.query_drop("SET sql_mode='ANSI_QUOTES', time_zone='+05:00'").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT \"id\" FROM \"who\"").await, 2, "settings follow to the replica");
    conn.query_drop("SET NAMES utf8mb4 COLLATE utf8mb4_bin").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT 'a' = 'A' FROM who").await, 0, "and so does the collation");
    conn.query_drop("SET NAMES utf8mb4").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT 'a' = 'A' FROM who").await, 1);
    conn.query_drop("USE e").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 100);
    conn.query_drop("USE d").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
    assert_eq!(code(&conn.query_drop("USE nowhere").await.unwrap_err()), 1049);
    conn.query_drop("CREATE OR REPLACE TEMPORARY TABLE who (id INT)").await.unwrap();
    conn.query_drop("INSERT INTO who VALUES (77)").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 77, "temporary tables shadow others");
    conn.reset().await.unwrap();
    // The row count without a GTID leaves it open what the session must see: the primary answers until a later one.
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1);
    conn.query_drop("INSERT INTO t (v) VALUES ('gtid')").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
    conn.query_drop("DELETE FROM t").await.unwrap();
    conn.query_drop("SET @a = 5").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT @a").await, 5);
    assert_eq!(one::<u32>(&mut conn, "SELECT @b := @a + 1").await, 6);
    assert_eq!(one::<u32>(&mut conn, "SELECT @b").await, 6);
    conn.disconnect().await.unwrap();
}

async fn questions_about_the_last_statement_are_answered_right(port: u16) {
    let mut conn = connect(port).await;
    let mut other = connect(port).await;
    conn.query_drop("INSERT INTO t (id, v) VALUES (50, 'a')").await.unwrap();
    conn.query_drop("INSERT INTO t (v) VALUES ('b'), ('c')").await.unwrap();
    for n in 0..3 {
        // The other session needs the connections meanwhile.
        other.query_drop(format!("INSERT INTO t (id, v) VALUES ({}, 'o')", 1000 + 10 * n)).await.unwrap();
        other.query_drop("INSERT INTO t (v) VALUES ('p')").await.unwrap();
        assert_eq!(one::<u64>(&mut conn, "SELECT LAST_INSERT_ID() AS id;").await, 51);
        assert_eq!(one::<u64>(&mut other, "SELECT LAST_INSERT_ID()").await, 1001 + 10 * n);
        let _: u32 = one(&mut conn, "SELECT id FROM who").await;
    }
    conn.query_drop("SELECT CAST('x' AS INT)").await.unwrap();
    let warning: Row = conn.query_first("SHOW WARNINGS").await.unwrap().unwrap();
    assert_eq!(warning.get::<u32, _>(1), Some(1292));
    assert_eq!(one::<u32>(&mut conn, "SELECT 1").await, 1);
    let warning: Row = conn.query_first("SHOW WARNINGS").await.unwrap().unwrap();
    assert_eq!(warning.get::<u32, _>(1), Some(1292), "a statement without tables leaves warnings as they are");
    let _: u32 = one(&mut other, "SELECT 1").await;
    assert!(other.query_first::<Row, _>("SHOW WARNINGS").await.unwrap().is_none(), "another session has none");
    let _: u32 = one(&mut conn, "SELECT id FROM who").await;
    assert!(conn.query_first::<Row, _>("SHOW WARNINGS").await.unwrap().is_none());
    conn.query_drop("SELECT SQL_CALC_FOUND_ROWS id FROM t LIMIT 1").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT FOUND_ROWS()").await, 9);
    conn.query_drop("DELETE FROM t WHERE id >= 50").await.unwrap();
    assert_eq!(one::<i32>(&mut conn, "SELECT ROW_COUNT()").await, 9);
    assert!(conn.query_drop("INSERT INTO nowhere VALUES (1)").await.is_err());
    let error: Row = conn.query_first("SHOW ERRORS").await.unwrap().unwrap();
    assert_eq!(error.get::<u32, _>(1), Some(1146));
    conn.disconnect().await.unwrap();
    other.disconnect().await.unwrap();
}

/// Many clients over two connections; each sets its own state and must see that and nothing else.
async fn nothing_leaks_between_clients(port: u16) {
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(connect(port).await);
    }
    for (n, conn) in clients.iter_mut().enumerate() {
        match n % 3 {
            0 => conn.query_drop("SET sql_mode='PIPES_AS_CONCAT'").await.unwrap(),
            1 => conn.query_drop("SET time_zone='+03:00', group_concat_max_len=1234").await.unwrap(),
            _ => {}
        }
    }
    for round in 0..5 {
        for (n, conn) in clients.iter_mut().enumerate() {
            let row: Row =
                conn.query_first("SELECT @@sql_mode, @@time_zone, @@group_concat_max_len").await.unwrap().unwrap();
            let (mode, zone, max): (String, String, u64) = mysql_async::from_row(row);
            assert_eq!(mode == "PIPES_AS_CONCAT", n % 3 == 0, "client {n} round {round}: {mode}");
            assert_eq!(zone, if n % 3 == 1 { "+03:00" } else { "SYSTEM" }, "client {n} round {round}");
            assert_eq!(max == 1234, n % 3 == 1, "client {n} round {round}");
            let concat: Value = one(conn, "SELECT 'a' || 'b' FROM who").await;
            assert_eq!(concat == Value::Bytes(b"ab".to_vec()), n % 3 == 0, "client {n} round {round}: {concat:?}");
        }
    }
    // What a procedure, a lock and a user variable leave behind is gone for the next client.
    let mut dirty = clients.pop().unwrap();
    dirty.query_drop("CALL settle()").await.unwrap();
    dirty.query_drop("SET @secret = 'x'").await.unwrap();
    assert_eq!(one::<u32>(&mut dirty, "SELECT GET_LOCK('canary', 0)").await, 1);
    dirty.disconnect().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut conn = connect(port).await;
    assert_ne!(one::<u32>(&mut conn, "SELECT @@group_concat_max_len").await, 77);
    assert_eq!(one::<u32>(&mut conn, "SELECT IS_FREE_LOCK('canary')").await, 1);
    assert_eq!(one::<Option<String>>(&mut conn, "SELECT @secret").await, None);
    conn.disconnect().await.unwrap();
    for conn in clients {
        conn.disconnect().await.unwrap();
    }
}

async fn prepared_statements_run_where_they_may(port: u16) {
    let mut conn = connect(port).await;
    let mut other = connect(port).await;
    for n in 0..3u32 {
        let id: Option<u32> = conn.exec_first("SELECT id FROM who WHERE ? = ?", (n, n)).await.unwrap();
        assert_eq!(id, Some(2), "a prepared read runs on the replica");
        // The same text with other types, over the same connections.
        let id: Option<u32> = other.exec_first("SELECT id FROM who WHERE ? = ?", ("é", "é")).await.unwrap();
        assert_eq!(id, Some(2));
    }
    conn.exec_drop("INSERT INTO t (v) VALUES (?)", (vec![0u8, 255, 7],)).await.unwrap();
    let id = conn.last_insert_id().unwrap();
    let v: Option<Vec<u8>> = conn.exec_first("SELECT v FROM t WHERE id = ?", (id,)).await.unwrap();
    assert_eq!(v, Some(vec![0, 255, 7]));
    assert_eq!(one::<u64>(&mut conn, "SELECT LAST_INSERT_ID()").await, id);
    let read = conn.prep("SELECT id FROM who").await.unwrap();
    conn.query_drop("USE e").await.unwrap();
    let here: Option<u32> = conn.exec_first(&read, ()).await.unwrap();
    assert_eq!(here, Some(1), "it keeps the database it was prepared in, now pinned to the primary");
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 100);
    conn.close(read).await.unwrap();
    assert_eq!(code(&conn.exec_drop("SELECT * FROM nowhere", ()).await.unwrap_err()), 1146);
    other.exec_drop("SET SESSION group_concat_max_len = ?", (4321,)).await.unwrap();
    assert_eq!(one::<u32>(&mut other, "SELECT @@group_concat_max_len").await, 4321);
    other.exec_drop("BEGIN", ()).await.unwrap();
    assert_eq!(one::<u32>(&mut other, "SELECT id FROM who").await, 1);
    other.exec_drop("COMMIT", ()).await.unwrap();
    conn.disconnect().await.unwrap();
    other.disconnect().await.unwrap();
}

async fn large_packets_pass(port: u16) {
    let mut conn = connect(port).await;
    conn.query_drop("DELETE FROM t").await.unwrap();
    // A row of 20 MB, sent and read back.
    let large: Vec<u8> = (0..20_000_000u32).map(|n| b'a' + (n % 23) as u8).collect();
    conn.exec_drop("INSERT INTO t (v) VALUES (?)", (&large,)).await.unwrap();
    let back: Option<Vec<u8>> = conn.query_first("SELECT v FROM t").await.unwrap();
    assert!(back.as_ref() == Some(&large));
    // Commands and rows on both sides of the 16 MiB edge.
    let head = "SELECT LENGTH('".len() + "')".len() + 1;
    for len in [0xFF_FFFF - 1, 0xFF_FFFF, 0xFF_FFFF + 1] {
        let text = "x".repeat(len - head);
        let length: u64 = one(&mut conn, &format!("SELECT LENGTH('{text}')")).await;
        assert_eq!(length as usize, len - head);
    }
    for len in [0xFF_FFFF - 4, 0xFF_FFFF - 9, 0xFF_FFFF, 0xFF_FFFF + 1] {
        let back: Vec<u8> = one(&mut conn, &format!("SELECT REPEAT('y', {len})")).await;
        assert_eq!(back.len(), len);
    }
    // Many small rows.
    let rows: Vec<u64> = conn.query("SELECT seq FROM seq_1_to_200000").await.unwrap();
    assert_eq!((rows.len(), rows.iter().sum::<u64>()), (200_000, 200_000 * 200_001 / 2));
    conn.query_drop("DELETE FROM t").await.unwrap();
    conn.disconnect().await.unwrap();
}

async fn logins_are_checked(port: u16) {
    let error = Conn::new(options(port).pass(Some("wrong"))).await.unwrap_err();
    assert_eq!(code(&error), 1045);
    let error = Conn::new(options(port).user(Some("nobody"))).await.unwrap_err();
    assert_eq!(code(&error), 1045);
    let error = Conn::new(options(port).pass(None::<String>)).await.unwrap_err();
    assert_eq!(code(&error), 1045);
    let error = Conn::new(options(port).db_name(Some("nowhere"))).await.unwrap_err();
    assert_eq!(code(&error), 1049);
    let mut conn = Conn::new(options(port)).await.unwrap();
    let none: Option<String> = one(&mut conn, "SELECT DATABASE()").await;
    assert_eq!(none, None, "no database, also over connections that had one");
    conn.change_user(mysql_async::ChangeUserOpts::default().with_db_name(Some("d".into()))).await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
    conn.ping().await.unwrap();
    conn.disconnect().await.unwrap();
}

/// Runs SQL with the stock client; its output and its errors.
fn run_client(port: u16, sql: &str) -> String {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "-h127.0.0.1", "-N", "-B", "--comments"]).arg(format!("-P{port}"));
    command.arg(format!("-u{USER}")).arg(format!("-p{PASSWORD}")).arg("d").arg("-e").arg(sql);
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The stock client asks without CLIENT_DEPRECATE_EOF in old versions and sends several statements at once.
fn the_mariadb_client_works(port: u16) {
    eprintln!("client");
    let run = |sql: &str| run_client(port, sql);
    assert_eq!(run("SELECT id FROM who; SELECT 1, 'x'; SELECT id FROM who FOR UPDATE"), "2\n1\tx\n1\n");
    assert_eq!(run("DELIMITER //\nSELECT 1; SELECT id FROM who//"), "1\n1\n", "several statements in one packet");
    assert!(run("SELECT nofunc()").contains("ERROR 1305"));
    assert_eq!(run("CALL settle(); SELECT @@group_concat_max_len"), "77\n");
}

/// The same random script on a direct connection and through the splitter, several sessions interleaved over two
/// pooled connections; each result, error, insert id and warning count must be the same.
async fn twins_see_the_same(port: u16, direct: u16) {
    let seed: u64 = std::env::var("TWIN_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("TWIN_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    use rand::{Rng, SeedableRng};
    let mut setup = connect(direct).await;
    for side in ["a", "b"] {
        for n in 0..4 {
            let table = format!("twin_{side}{n}");
            setup
                .query_drop(format!("CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, v INT UNIQUE)"))
                .await
                .unwrap();
        }
    }
    let mut pairs = Vec::new();
    for _ in 0..4 {
        pairs.push((connect(direct).await, connect(port).await));
    }
    for step in 0..600 {
        let n = random.random_range(0..pairs.len());
        let value = random.random_range(0..30);
        let script = match random.random_range(0..26) {
            0..=4 => format!("INSERT INTO TT (v) VALUES ({value})"),
            5 => format!("INSERT IGNORE INTO TT (v) VALUES ({value}), ({})", value + 1),
            6 => format!("UPDATE TT SET v = v + 100 WHERE v = {value}"),
            7 => format!("DELETE FROM TT WHERE v = {value}"),
            8..=11 => "SELECT v FROM TT ORDER BY v".into(),
            12 => "SELECT COUNT(*), MAX(v) FROM TT".into(),
            13 => "SELECT LAST_INSERT_ID()".into(),
            14 => "SHOW WARNINGS".into(),
            // One session holds a connection at times, so the other three share one.
            15 if n == 0 => "BEGIN".into(),
            16 => "COMMIT".into(),
            17 => "ROLLBACK".into(),
            18 => ["SET sql_mode=''", "SET sql_mode='ANSI_QUOTES'", "SET sql_mode=DEFAULT"][value % 3].into(),
            19 => format!("SELECT \"v\" FROM TT WHERE v < {value} ORDER BY v"),
            20 => format!("SELECT CAST('{value}x' AS INT)"),
            21 => ["SET NAMES latin1", "SET NAMES utf8mb4 COLLATE utf8mb4_bin", "SET NAMES utf8mb4"][value % 3].into(),
            22 => "SELECT 'a' = 'A', @@sql_mode, @@collation_connection, @@character_set_results".into(),
            23 => format!("INSERT INTO TT (v) VALUES ('{value}y')"),
            24 => "SELECT @@autocommit, @@last_insert_id".into(),
            _ => "SELECT nowhere FROM TT".into(),
        };
        let (a, b) = &mut pairs[n];
        let x = observe(a, &script.replace("TT", &format!("twin_a{n}")), n, 'a').await;
        let y = observe(b, &script.replace("TT", &format!("twin_b{n}")), n, 'b').await;
        if script == "SHOW WARNINGS" && y.contains("ERROR 1105") {
            continue; // another session needed the connection: an error, never another answer
        }
        assert_eq!(x, y, "seed {seed} step {step} session {n}: {script}");
    }
    for (a, b) in pairs {
        a.disconnect().await.unwrap();
        b.disconnect().await.unwrap();
    }
    setup.disconnect().await.unwrap();
}

async fn observe(conn: &mut Conn, sql: &str, n: usize, side: char) -> String {
    let result: Result<Vec<Row>, Error> = conn.query(sql).await;
    let text = match result {
        Ok(rows) => {
            let rows: Vec<_> = rows.into_iter().map(|row| format!("{:?}", row.unwrap())).collect();
            let (affected, id, warnings) = (conn.affected_rows(), conn.last_insert_id(), conn.get_warnings());
            format!("{rows:?} affected={affected} id={id:?} warnings={warnings}")
        }
        Err(error) => format!("{error}"),
    };
    text.replace(&format!("twin_{side}{n}"), "T")
}

/// Read-your-writes on a replica that is kept behind.
async fn writes_are_read_back(port: u16, cluster: &Cluster) {
    let mut conn = connect(port).await;
    conn.query_drop("CREATE TABLE mine (n INT)").await.unwrap();
    for n in 0..100u32 {
        conn.query_drop(format!("INSERT INTO mine VALUES ({n})")).await.unwrap();
        assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM mine").await, n + 1);
    }
    let replica = &cluster.replicas[0];
    let before = replica.counter("Com_select");
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM mine").await, 100);
    assert!(replica.counter("Com_select") > before, "the read ran on the replica");
    // One second behind, always.
    replica.sql("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=1; START SLAVE");
    for n in 100..103u32 {
        conn.query_drop(format!("INSERT INTO mine VALUES ({n})")).await.unwrap();
        let started = Instant::now();
        assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM mine").await, n + 1);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    // A fresh table: replicas answer 1146 for a while, the primary knows better.
    let mut other = connect(port).await;
    conn.query_drop("CREATE TABLE fresh (n INT)").await.unwrap();
    assert_eq!(one::<u32>(&mut other, "SELECT COUNT(*) FROM fresh").await, 0);
    // A write in a transaction, and one whose statement is prepared.
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO mine VALUES (103)").await.unwrap();
    conn.query_drop("COMMIT").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM mine").await, 104);
    conn.exec_drop("INSERT INTO mine VALUES (?)", (104,)).await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM mine").await, 105);
    conn.disconnect().await.unwrap();
    other.disconnect().await.unwrap();
}

#[test]
fn servers_die_and_come_back() {
    if !mariadb::is_installed() {
        return;
    }
    let mut cluster = Cluster::start(2);
    mark_servers(&cluster);
    cluster.primary.sql("CREATE TABLE d.log (token VARCHAR(40) PRIMARY KEY)");
    cluster.wait_for_replicas();
    let splitter = Splitter::start(&cluster, &[]);
    let port = splitter.port;
    block_on(async {
        wait_for_reads_on_replica(port).await;
        let mut conn = connect(port).await;
        let first = one::<u32>(&mut conn, "SELECT id FROM who").await;
        assert!(first > 1);
        eprintln!("replica dies");
        cluster.replicas[first as usize - 2].kill();
        for _ in 0..20 {
            let now = one::<u32>(&mut conn, "SELECT id FROM who").await;
            assert_ne!(now, first, "reads move on without an error");
        }
        eprintln!("both replicas die");
        for replica in &mut cluster.replicas {
            replica.kill();
        }
        for _ in 0..20 {
            assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1);
        }
        eprintln!("replicas come back");
        cluster.restart_replica(0);
        cluster.restart_replica(1);
        wait_for_reads_on_replica(port).await;
        conn.disconnect().await.unwrap();

        eprintln!("primary dies");
        let writer = tokio::spawn(write_tokens(port));
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.primary.kill();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let mut conn = connect(port).await;
        assert!(one::<u32>(&mut conn, "SELECT id FROM who").await > 1, "reads go on");
        assert!(run_client(port, "DELETE FROM log").contains("ERROR 1429"), "readable for the C client, too");
        let error = conn.query_drop("INSERT INTO log VALUES ('while-down')").await.unwrap_err();
        assert_eq!(code(&error), 1429);
        cluster.primary.start();
        let written = writer.await.unwrap();
        let present = cluster.primary.sql("SELECT token FROM d.log ORDER BY token");
        let present: std::collections::HashSet<&str> = present.lines().collect();
        for (token, acknowledged) in &written {
            assert!(!acknowledged || present.contains(&token[..]), "{token} was acknowledged and is lost");
        }
        assert!(!present.contains("while-down"));
        assert!(written.iter().any(|(_, acknowledged)| !acknowledged), "the crash was noticed");
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = conn.query_drop("INSERT INTO log VALUES ('after')").await {
            assert_eq!(code(&error), 1429, "{error}");
            assert!(Instant::now() < deadline, "the primary is not used again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        eprintln!("primary turns read-only");
        cluster.primary.sql("SET GLOBAL read_only=1");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let error = conn.query_drop("INSERT INTO log VALUES ('read-only')").await.unwrap_err();
        assert_eq!(code(&error), 1290);
    });
}

/// Inserts one token after the other for some seconds, each sent once; says which were acknowledged. A repeated insert
/// would be a duplicate key error 1062.
async fn write_tokens(port: u16) -> Vec<(String, bool)> {
    let (mut written, started) = (Vec::new(), Instant::now());
    let mut conn = connect(port).await;
    while started.elapsed() < Duration::from_secs(5) {
        let token = format!("t{}", written.len());
        match conn.query_drop(format!("INSERT INTO log VALUES ('{token}')")).await {
            Ok(()) => written.push((token, true)),
            Err(error) => {
                let known = matches!(&error, Error::Server(e) if [1429, 1158].contains(&e.code))
                    || matches!(&error, Error::Io(_));
                assert!(known, "{error}");
                written.push((token, false));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    written
}
