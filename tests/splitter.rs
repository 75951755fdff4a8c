//! The splitter in the real binary, between real clients and a real MariaDB primary with replicas: what a session sees
//! through it must be what it would see on one server.

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests start servers with more arguments")]
mod mariadb;
#[path = "support/ports.rs"]
#[allow(dead_code, reason = "other tests want addresses")]
mod ports;
#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "other tests send commands of their own")]
mod sessions;

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Row};
use ports::free_port;
use sessions::{Raw, block_on, code, connect, mark_servers, one, options, wait_for_reads_on_replica};

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
         CREATE FUNCTION d.path() RETURNS INT NO SQL RETURN GET_LOCK('p', 0);
         CREATE FUNCTION d.1a() RETURNS INT NO SQL RETURN GET_LOCK('1', 0);
         CREATE SEQUENCE d.s;
         CREATE PROCEDURE d.settle() SET SESSION group_concat_max_len=77",
    );
    cluster.wait_for_replicas();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("splitter");
    let also = format!("unix:{}", socket.display());
    let splitter = Splitter::start(&cluster, &["--pool-max", "2", "--driver", "io-uring", "--listen", &also]);
    let port = splitter.port;
    block_on(async {
        wait_for_reads_on_replica(port).await;
        eprintln!("routing");
        reads_go_to_the_replica_and_the_rest_to_the_primary(port).await;
        eprintln!("transactions");
        transactions_stay_on_the_primary(port).await;
        eprintln!("pins");
        session_state_pins_or_follows(port).await;
        eprintln!("side effects");
        side_effects_stay_on_the_primary(port).await;
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
    a_unix_socket_works_too(&socket);
    clients_without_deprecate_eof_are_understood(port, cluster.replicas[0].port);
    eprintln!("epoll");
    let epoll = Splitter::start(&cluster, &["--pool-max", "2", "--driver", "epoll"]);
    block_on(async {
        wait_for_reads_on_replica(epoll.port).await;
        reads_go_to_the_replica_and_the_rest_to_the_primary(epoll.port).await;
        transactions_stay_on_the_primary(epoll.port).await;
        session_state_pins_or_follows(epoll.port).await;
        side_effects_stay_on_the_primary(epoll.port).await;
        prepared_statements_run_where_they_may(epoll.port).await;
        large_packets_pass(epoll.port).await;
    });
    drop(epoll);
    let (port, cluster) = (splitter.port, &cluster);
    block_on(async move {
        eprintln!("idle connections die");
        closed_idle_connections_are_not_noticed_by_clients(port, cluster).await;
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
    let error = conn.query_drop("SELECT * FROM nowhere").await.unwrap_err();
    assert_eq!(code(&error), 1146);
    conn.disconnect().await.unwrap();
}

async fn transactions_stay_on_the_primary(port: u16) {
    let mut conn = connect(port).await;
    conn.query_drop("BEGIN").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1);
    conn.query_drop("INSERT INTO t (v) VALUES ('rolled back')").await.unwrap();
    conn.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 0);
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
    conn.query_drop("SET @a = 5").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT @a").await, 5);
    assert_eq!(one::<u32>(&mut conn, "SELECT @b := @a + 1").await, 6);
    assert_eq!(one::<u32>(&mut conn, "SELECT @b").await, 6);
    conn.disconnect().await.unwrap();
}

async fn side_effects_stay_on_the_primary(port: u16) {
    // Each of these in a session of its own, which it pins: the second look is at the primary, too.
    for sql in [
        "SELECT id FROM who WHERE path() >= 0",
        "SELECT id FROM who WHERE 1a() >= 0",
        "SELECT id FROM who WHERE d.`path`() >= 0",
        "SELECT who.id AS `recursive` FROM who WHERE (SELECT path()) >= 0",
        "SELECT id FROM who WHERE NEXT VALUE FOR s > 0",
        "SELECT id FROM who WHERE nextval(s) > 0",
        "SELECT id FROM who /*!50000 WHERE path() >= 0 */",
        "SELECT id FROM who WHERE (@a := 1) = 1",
        "SELECT id FROM who WHERE GET_LOCK('side', 0) >= 0",
        "SELECT id FROM who WHERE id = 1e0 INTO @n",
    ] {
        let mut conn = connect(port).await;
        let row: Option<Row> = conn.query_first(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(row.is_none_or(|row| row.get(0) == Some(1u32)), "{sql}");
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1, "{sql}");
        conn.disconnect().await.unwrap();
    }
    let mut conn = connect(port).await;
    for sql in [
        "WITH c AS (SELECT id FROM who FOR UPDATE) SELECT id FROM c",
        "SELECT id FROM (SELECT id FROM who LOCK IN SHARE MODE) x",
        "((SELECT id FROM who FOR UPDATE))",
        "SELECT id FROM who WHERE id < 1e5LOCK IN SHARE MODE",
    ] {
        assert_eq!(one::<u32>(&mut conn, sql).await, 1, "{sql}");
    }
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "locking reads do not pin");
    // In gbk, 0xBF 0x5C is one letter: the quote behind it ends the text.
    conn.query_drop("SET NAMES gbk").await.unwrap();
    let sql = [&b"SELECT id FROM who WHERE id > '\xbf\\' FOR UPDATE -- '"[..]].concat();
    let row: Option<Row> = conn.query_first(sql).await.unwrap();
    assert_eq!(row.unwrap().get(0), Some(1u32));
    conn.disconnect().await.unwrap();
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

fn a_unix_socket_works_too(socket: &std::path::Path) {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "-N", "-B"]).arg("-S").arg(socket);
    command.arg(format!("-u{USER}")).arg(format!("-p{PASSWORD}"));
    command.args(["d", "-e", "SELECT id FROM who; SELECT id FROM who FOR UPDATE"]);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2\n1\n", "{}", String::from_utf8_lossy(&output.stderr));
}

/// Answers to a client of the old kind, packet for packet: through the splitter as from the server. EOF packets are
/// cut to their first byte, because servers put momentary flags into them.
fn clients_without_deprecate_eof_are_understood(port: u16, direct: u16) {
    eprintln!("old clients");
    for sql in ["SELECT id, 'x' FROM who", "SELECT id FROM who WHERE 0", "DO 1", "SELECT nowhere", "SHOW TABLES"] {
        let [mut splitter, mut server] = [port, direct].map(|port| Raw::connect(port, 0));
        assert_eq!(splitter.query(sql), server.query(sql), "{sql}");
    }
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

/// The servers close every pooled connection just after its last use; the next statement, be it a write, must not fail.
async fn closed_idle_connections_are_not_noticed_by_clients(port: u16, cluster: &Cluster) {
    let mut conn = connect(port).await;
    let mut other = connect(port).await;
    for round in 0..6 {
        for conn in [&mut conn, &mut other] {
            conn.query_drop("INSERT INTO t (v) VALUES ('idle')").await.unwrap();
            assert_eq!(one::<u32>(conn, "SELECT id FROM who").await, 2);
        }
        for server in [&cluster.primary, &cluster.replicas[0]] {
            let idle = "SELECT id FROM information_schema.processlist WHERE user='app' AND command='Sleep' ORDER BY id";
            // The oldest is the monitor's.
            for id in server.sql(idle).lines().skip(1) {
                server.try_sql(&format!("KILL {id}")); // it may have ended by itself
            }
        }
        match round % 3 {
            0 => conn.query_drop("DELETE FROM t").await.unwrap(),
            1 => assert_eq!(one::<u32>(&mut conn, "SELECT @@autocommit").await, 1),
            _ => assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2),
        }
    }
    conn.query_drop("DELETE FROM t").await.unwrap();
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

        eprintln!("replica hangs");
        let mut conn = connect(port).await;
        let first = one::<u32>(&mut conn, "SELECT id FROM who").await;
        cluster.replicas[first as usize - 2].freeze(true);
        let started = Instant::now();
        let now = one::<u32>(&mut conn, "SELECT id FROM who").await;
        assert_ne!(now, first, "a read moves on from a server that hangs");
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        cluster.replicas[first as usize - 2].freeze(false);
        conn.disconnect().await.unwrap();

        eprintln!("client leaves");
        a_client_that_leaves_is_noticed(port, &cluster).await;

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

/// Its connection is closed while its statement still runs; so what it locked is free as soon as the server is done.
async fn a_client_that_leaves_is_noticed(port: u16, cluster: &Cluster) {
    let mut conn = connect(port).await;
    conn.query_drop("BEGIN").await.unwrap();
    let asleep = || {
        cluster.primary.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(60)%'")
    };
    let sleeping = tokio::spawn(async move { conn.query_drop("SELECT SLEEP(60) FROM who").await });
    wait_until("the statement runs", || asleep() == "1").await;
    sleeping.abort();
    // SLEEP looks after its connection, as most waits of a server do.
    wait_until("the splitter closes the connection", || asleep() == "0").await;
}

async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
