//! Where proxies of MySQL have leaked the state of one session into another, answered about the wrong statement, or
//! killed the wrong client: each such trap, with a real primary and a replica behind two pooled connections, so that
//! every session loses its connection to others all the time.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "other tests look at packets")]
mod sessions;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::prelude::Queryable;
use mysql_async::{ChangeUserOpts, Conn, Row, Value};
use one_server::mysql::protocol::capability;
use sessions::{Raw, block_on, code, connect, mark_servers, one, options, wait_for_reads_on_replica};
use support::{Driver, Server, Site, eventually, ports};

/// The binary before this primary and these replicas; two connections to each server per worker.
fn splitter(driver: Driver, workers: usize, primary: u16, replicas: &[u16], more: &str) -> Server {
    let replicas: Vec<_> = replicas.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let site = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";
    let mysql = format!(
        "[mysql.db]\nlisten = \"127.0.0.1:0\"\nprimary = \"127.0.0.1:{primary}\"\nreplicas = [{}]\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\npool_max = 2\ncausal_timeout = \"10s\"\nmonitor_interval = \"100ms\"\n{more}\n",
        replicas.join(", ")
    );
    Site::new(driver, site).workers(workers).more(&mysql).start()
}

fn before(cluster: &Cluster, driver: Driver, more: &str) -> (Server, u16) {
    let replicas: Vec<u16> = cluster.replicas.iter().map(|replica| replica.port).collect();
    let server = splitter(driver, 1, cluster.primary.port, &replicas, more);
    let port = server.address("db").port();
    block_on(wait_for_reads_on_replica(port));
    (server, port)
}

/// Other sessions, which take every pooled connection for themselves, so that nobody finds his own as he left it.
struct Others([Conn; 2]);

impl Others {
    async fn new(port: u16) -> Others {
        Others([connect(port).await, connect(port).await])
    }

    /// Uses so many of the two connections to the primary at once, in another state, and both to the replica.
    async fn stir(&mut self, primaries: usize) {
        for conn in &mut self.0[..primaries] {
            conn.query_drop("SET sql_mode='ANSI'").await.unwrap();
            conn.query_drop("BEGIN").await.unwrap();
            conn.query_drop("SELECT id FROM who").await.unwrap();
        }
        for conn in &mut self.0[..primaries] {
            conn.query_drop("COMMIT").await.unwrap();
        }
        const SLOW: &str = "SELECT id FROM who WHERE (SELECT COUNT(*) FROM seq_1_to_100000 WHERE seq % 7 = 3) > 0";
        let [first, second] = &mut self.0;
        tokio::join!(async { one::<u32>(first, SLOW).await }, async { one::<u32>(second, SLOW).await });
        for conn in &mut self.0[..primaries] {
            conn.query_drop("SET sql_mode=DEFAULT").await.unwrap();
        }
    }

    async fn leave(self) {
        for conn in self.0 {
            conn.disconnect().await.unwrap();
        }
    }
}

#[test]
fn traps_01_to_09_state_stays_with_its_session() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql(&format!(
        "GRANT RELOAD, TRIGGER, SHOW VIEW ON *.* TO {USER}@'%';
         CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40)) ENGINE=InnoDB;
         CREATE PROCEDURE d.settle() SET SESSION group_concat_max_len=77;
         CREATE PROCEDURE d.make() CREATE TEMPORARY TABLE made (id INT);
         CREATE PROCEDURE d.take() DO GET_LOCK('taken', 0);
         CREATE FUNCTION d.settled() RETURNS INT NO SQL RETURN (@v := 1);
         CREATE VIEW d.setting AS SELECT id FROM d.who;
         CREATE TABLE d.noted (n INT) ENGINE=InnoDB;
         CREATE TRIGGER d.notes BEFORE INSERT ON d.noted FOR EACH ROW SET @x = NEW.n;
         DELIMITER //
         CREATE FUNCTION d.sets() RETURNS INT NO SQL BEGIN SET @x = 7; RETURN 1; END//
         CREATE OR REPLACE VIEW d.setting AS SELECT id, d.sets() AS s FROM d.who//"
    ));
    cluster.wait_for_replicas();
    for driver in [Driver::IoUring, Driver::Epoll] {
        let (_server, port) = before(&cluster, driver, "");
        block_on(async {
            trap_01_a_client_that_set_nothing_gets_nothing_of_others(port).await;
            trap_02_what_a_procedure_sets_stays_with_its_caller(port).await;
            trap_03_what_no_tracker_reports_pins(port).await;
            trap_04_set_statement_sets_nothing(port).await;
            trap_05_a_set_is_run_or_refused(port).await;
            trap_06_a_change_of_user_clears_everything(port).await;
            trap_07_how_to_escape_is_told_with_every_answer(port).await;
            trap_08_temporary_tables_shadow_others(port).await;
            trap_09_a_lock_is_not_lost_in_silence(port, &cluster).await;
        });
    }
}

/// Many clients over two connections; each sets its own state and must see that and nothing else.
async fn trap_01_a_client_that_set_nothing_gets_nothing_of_others(port: u16) {
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
    for conn in clients {
        conn.disconnect().await.unwrap();
    }
}

async fn trap_02_what_a_procedure_sets_stays_with_its_caller(port: u16) {
    let (mut dirty, mut others) = (connect(port).await, Others::new(port).await);
    dirty.query_drop("CALL settle()").await.unwrap();
    dirty.query_drop("CALL make()").await.unwrap();
    dirty.query_drop("SELECT settled()").await.unwrap();
    others.stir(1).await;
    assert_eq!(one::<u32>(&mut dirty, "SELECT @@group_concat_max_len").await, 77);
    assert_eq!(one::<u32>(&mut dirty, "SELECT COUNT(*) FROM made").await, 0);
    assert_eq!(one::<u32>(&mut dirty, "SELECT @v").await, 1);
    dirty.disconnect().await.unwrap();
    for other in &mut others.0 {
        assert_ne!(one::<u32>(other, "SELECT @@group_concat_max_len").await, 77);
        assert_eq!(code(&other.query_drop("SELECT * FROM made").await.unwrap_err()), 1146);
        let mut next = connect(port).await;
        assert_eq!(one::<Option<u32>>(&mut next, "SELECT @v").await, None);
        next.disconnect().await.unwrap();
    }
    others.leave().await;
}

/// Statement, question, answer. None of these statements is reported by a server as a change of its session.
async fn trap_03_what_no_tracker_reports_pins(port: u16) {
    let mut others = Others::new(port).await;
    for (silent, question, answer) in [
        ("SELECT 4 INTO @b", "SELECT @b", "4"),
        ("SELECT @c := 5", "SELECT @c", "5"),
        ("INSERT INTO t (v) VALUES (@d := 6)", "SELECT @d", "6"),
        ("SELECT GET_LOCK('mine', 0)", "SELECT IS_USED_LOCK('mine') = CONNECTION_ID()", "1"),
        ("CALL take()", "SELECT IS_USED_LOCK('taken') = CONNECTION_ID()", "1"),
        ("SELECT SQL_CALC_FOUND_ROWS seq FROM seq_1_to_9 LIMIT 1", "SELECT FOUND_ROWS()", "9"),
        ("SELECT LAST_INSERT_ID(77)", "SELECT LAST_INSERT_ID()", "77"),
        ("UPDATE who SET id = LAST_INSERT_ID(1)", "SELECT LAST_INSERT_ID()", "1"),
        ("HANDLER who OPEN", "HANDLER who READ FIRST", "1"),
    ] {
        let mut conn = connect(port).await;
        conn.query_drop(silent).await.unwrap_or_else(|error| panic!("{silent}: {error}"));
        match silent {
            _ if silent.contains("CALC") => {}
            _ if silent.contains("LAST_INSERT_ID") => others.stir(2).await,
            _ => others.stir(1).await,
        }
        assert_eq!(one::<String>(&mut conn, question).await, answer, "{silent}");
        conn.disconnect().await.unwrap();
        let other = &mut others.0[0];
        for name in ["mine", "taken"] {
            let free = format!("SELECT IS_FREE_LOCK('{name}')");
            let deadline = Instant::now() + Duration::from_secs(10);
            while one::<u32>(other, &free).await != 1 {
                assert!(Instant::now() < deadline, "{silent}: the lock is left behind");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let row: Row = other.query_first("SELECT @b, @c, @d").await.unwrap().unwrap();
        assert_eq!(
            mysql_async::from_row::<(Option<u32>, Option<u32>, Option<u32>)>(row),
            (None, None, None),
            "{silent}"
        );
        other.reset().await.unwrap();
    }
    // A lock on everything: the others wait until its session is gone, and go on then.
    let mut conn = connect(port).await;
    conn.query_drop("FLUSH TABLES WITH READ LOCK").await.unwrap();
    assert_eq!(code(&conn.query_drop("INSERT INTO t (v) VALUES ('x')").await.unwrap_err()), 1223);
    conn.disconnect().await.unwrap();
    let other = &mut others.0[0];
    other.query_drop("INSERT INTO t (v) VALUES ('after')").await.unwrap();
    other.query_drop("DELETE FROM t").await.unwrap();
    others.leave().await;
}

async fn trap_04_set_statement_sets_nothing(port: u16) {
    let (mut conn, mut other) = (connect(port).await, connect(port).await);
    for _ in 0..3 {
        let slow = conn.query_drop("SET STATEMENT max_statement_time=0.05 FOR SELECT SLEEP(5)").await.unwrap_err();
        assert_eq!(code(&slow), 1969);
        for conn in [&mut conn, &mut other] {
            assert_eq!(one::<f64>(conn, "SELECT @@max_statement_time").await, 0.0);
            assert_eq!(one::<u32>(conn, "SELECT SLEEP(0.1)").await, 0);
        }
    }
    // What Connector/J makes of a query with a time limit is a read of the replica, before and after which nothing is set.
    let limited = "SET STATEMENT max_statement_time=20 FOR SELECT id FROM who";
    let mut fresh = connect(port).await;
    for sql in [limited, limited, "SELECT id FROM who"] {
        assert_eq!(one::<u32>(&mut fresh, sql).await, 2, "{sql}");
        assert_eq!(fresh.exec_first::<u32, _, _>(sql, ()).await.unwrap(), Some(2), "{sql}");
        for conn in [&mut fresh, &mut other] {
            assert_eq!(one::<f64>(conn, "SELECT @@max_statement_time FROM who").await, 0.0);
        }
    }
    fresh.disconnect().await.unwrap();
    let mut fresh = connect(port).await;
    fresh.query_drop("SET max_statement_time = 7").await.unwrap();
    for begin in ["SELECT 1", "START TRANSACTION READ ONLY"] {
        fresh.query_drop(begin).await.unwrap();
        assert_eq!(one::<u32>(&mut fresh, limited).await, 2, "{begin}");
        assert_eq!(one::<f64>(&mut fresh, "SELECT @@max_statement_time FROM who").await, 7.0, "{begin}");
    }
    fresh.query_drop("COMMIT").await.unwrap();
    assert_eq!(one::<f64>(&mut fresh, "SELECT @@max_statement_time FROM who").await, 7.0);
    // Servers tell of the end of the limit with the next change, whoever makes it: it pins nobody.
    let fails = "SET STATEMENT max_statement_time=20 FOR SELECT nowhere FROM who";
    for (first, statement) in [(limited, None), (fails, Some(1054))] {
        for conn in [&mut fresh, &mut other] {
            conn.query_drop("BEGIN").await.unwrap();
            match statement {
                None => assert_eq!(one::<u32>(conn, first).await, 1),
                Some(error) => assert_eq!(code(&conn.query_drop(first).await.unwrap_err()), error),
            }
            conn.query_drop("INSERT INTO t (v) VALUES ('limited')").await.unwrap();
            conn.query_drop("COMMIT").await.unwrap();
            assert_eq!(one::<u32>(conn, "SELECT id FROM who").await, 2, "{first}");
        }
    }
    other.query_drop("DELETE FROM t").await.unwrap();
    assert_eq!(one::<u32>(&mut other, "SELECT id FROM who").await, 2);
    // Nor does it hide what a view's function or a trigger sets.
    fresh.query_drop("SET STATEMENT max_statement_time=20 FOR SELECT s FROM setting").await.unwrap();
    assert_eq!(one::<Option<u32>>(&mut fresh, "SELECT @x").await, Some(7));
    fresh.disconnect().await.unwrap();
    let mut noting = connect(port).await;
    for sql in ["BEGIN", limited, "INSERT INTO noted VALUES (9)", "COMMIT"] {
        noting.query_drop(sql).await.unwrap();
    }
    assert_eq!(one::<Option<u32>>(&mut noting, "SELECT @x").await, Some(9));
    noting.disconnect().await.unwrap();
    let mut fresh = connect(port).await;
    for sql in ["BEGIN", "SELECT id FROM who"] {
        fresh.query_drop(sql).await.unwrap();
    }
    assert_eq!(one::<Option<u32>>(&mut fresh, "SELECT @x").await, None);
    fresh.disconnect().await.unwrap();
    other.disconnect().await.unwrap();
    conn.disconnect().await.unwrap();
}

/// Servers tell of the end of a statement's limit as of any other limit, so nobody may be pinned for it, whatever that limit is.
#[test]
fn trap_04_a_limit_for_all_is_nobody_s_own() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster
        .primary
        .sql(&format!("GRANT TRIGGER, SHOW VIEW ON *.* TO {USER}@'%'; CREATE TABLE d.t (v VARCHAR(40)) ENGINE=InnoDB"));
    for server in [&cluster.primary, &cluster.replicas[0]] {
        server.sql("SET GLOBAL max_statement_time = 30");
    }
    cluster.wait_for_replicas();
    let (_server, port) = before(&cluster, Driver::Auto, "");
    block_on(async {
        let (mut conn, mut other) = (connect(port).await, connect(port).await);
        for _ in 0..3 {
            for conn in [&mut conn, &mut other] {
                for sql in [
                    "BEGIN",
                    "SET STATEMENT max_statement_time=20 FOR SELECT id FROM who",
                    "INSERT INTO t (v) VALUES ('limited')",
                    "COMMIT",
                ] {
                    conn.query_drop(sql).await.unwrap();
                }
                assert_eq!(one::<u32>(conn, "SELECT id FROM who").await, 2, "not pinned");
                assert_eq!(one::<f64>(conn, "SELECT @@max_statement_time FROM who").await, 30.0);
            }
        }
        conn.disconnect().await.unwrap();
        other.disconnect().await.unwrap();
    });
}

async fn trap_05_a_set_is_run_or_refused(port: u16) {
    let (mut conn, mut others) = (connect(port).await, Others::new(port).await);
    for (set, name, value) in [
        ("SET wait_timeout = 77", "wait_timeout", "77"),
        ("SET SESSION interactive_timeout = 78", "interactive_timeout", "78"),
        ("SET net_write_timeout = 79", "net_write_timeout", "79"),
        ("SET lock_wait_timeout = 80", "lock_wait_timeout", "80"),
        ("SET tx_isolation = 'READ-COMMITTED'", "tx_isolation", "READ-COMMITTED"),
        ("SET @@session.sql_select_limit = 3", "sql_select_limit", "3"),
        ("SET sql_auto_is_null = 1", "sql_auto_is_null", "1"),
    ] {
        conn.query_drop(set).await.unwrap();
        others.stir(if set.contains("is_null") { 1 } else { 2 }).await;
        assert_eq!(one::<String>(&mut conn, &format!("SELECT @@{name}")).await, value, "{set}");
        assert_ne!(one::<String>(&mut others.0[0], &format!("SELECT @@{name}")).await, value, "{set}");
    }
    // What it makes of IS NULL is a question about the session's last insert.
    conn.query_drop("INSERT INTO t (v) VALUES ('null')").await.unwrap();
    let id: u64 = one(&mut conn, "SELECT LAST_INSERT_ID()").await;
    others.stir(1).await;
    conn.query_drop("INSERT INTO t (v) VALUES ('null')").await.unwrap();
    assert_eq!(one::<u64>(&mut conn, "SELECT id FROM t WHERE id IS NULL").await, id + 1);
    conn.query_drop("DELETE FROM t").await.unwrap();
    for (set, error) in
        [("SET no_such_variable = 1", 1193), ("SET sql_mode = 'NONSENSE'", 1231), ("SET NAMES klingon", 1115)]
    {
        assert_eq!(code(&conn.query_drop(set).await.unwrap_err()), error, "{set}");
    }
    conn.disconnect().await.unwrap();
    others.leave().await;
}

async fn trap_06_a_change_of_user_clears_everything(port: u16) {
    // Nor does anybody see what the one before counted who has the connection in the same state.
    let (mut raw, mut others) = (Raw::connect(port, 0), [Raw::connect(port, 0), Raw::connect(port, 0)]);
    for reset in [false, true] {
        // Both connections to the primary, at once and then each its own again.
        for sql in [&b"\x03BEGIN"[..], b"\x03COMMIT"] {
            others.iter_mut().for_each(|other| assert_eq!(other.command(sql)[0], 0));
        }
        others.iter_mut().for_each(|other| drop(other.result(b"\x03/* one-server: primary */ SELECT id FROM who")));
        if reset {
            assert_eq!(raw.command(b"\x1f")[0], 0, "COM_RESET_CONNECTION");
        }
        for expect in ["0", "-1"] {
            let packets = raw.result(b"\x03SELECT ROW_COUNT()");
            assert!(packets[3].ends_with(expect.as_bytes()), "reset: {reset}: {:?} for {expect}", packets[3]);
        }
    }
    drop((raw, others));
    for reset_only in [false, true] {
        let mut conn = connect(port).await;
        for sql in [
            "SET @a = 1, autocommit = 0, sql_mode = 'ANSI_QUOTES'",
            "CREATE TEMPORARY TABLE who (id INT)",
            "SELECT GET_LOCK('kept', 0)",
            "PREPARE p FROM 'SELECT 1'",
            "INSERT INTO t (id) VALUES (11)",
            "LOCK TABLES t WRITE",
        ] {
            conn.query_drop(sql).await.unwrap();
        }
        if reset_only {
            conn.reset().await.unwrap();
        } else {
            conn.change_user(ChangeUserOpts::default().with_db_name(Some("d".into()))).await.unwrap();
        }
        // LOCK TABLES has committed the insert, so its GTID is known and reads are at the replica again.
        conn.query_drop("DELETE FROM t").await.unwrap();
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who WHERE \"id\" = 'id'").await, 2);
        let row: Row = conn
            .query_first("SELECT @@autocommit, @@sql_mode LIKE '%ANSI_QUOTES%', LAST_INSERT_ID(), IS_FREE_LOCK('kept')")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(mysql_async::from_row::<(u32, u32, u64, u32)>(row), (1, 0, 0, 1));
        assert_eq!(one::<Option<u32>>(&mut conn, "SELECT @a").await, None);
        assert_eq!(code(&conn.query_drop("EXECUTE p").await.unwrap_err()), 1243);
        conn.disconnect().await.unwrap();
    }
}

/// Flag 0x200 in the status of every OK, also of those that the splitter makes itself; and the lexer knows, too.
async fn trap_07_how_to_escape_is_told_with_every_answer(port: u16) {
    tokio::task::spawn_blocking(move || {
        let mut raw = Raw::connect(port, capability::DEPRECATE_EOF);
        let status = |ok: Vec<u8>| u16::from_le_bytes([ok[3], ok[4]]) & capability::STATUS_NO_BACKSLASH_ESCAPES;
        let query = |raw: &mut Raw, sql: &str| status(raw.command(&[b"\x03", sql.as_bytes()].concat()));
        assert_eq!(query(&mut raw, "DO 1"), 0);
        for (command, expect) in [
            (&b"\x03SET sql_mode='NO_BACKSLASH_ESCAPES'"[..], 0x200),
            (b"\x0e", 0x200),
            (b"\x03UPDATE who SET id = 1", 0x200),
            (b"\x02d", 0x200),
            (b"\x1f", 0), // back to what it was after the login
            (b"\x0e", 0),
        ] {
            assert_eq!(status(raw.command(command)), expect, "{command:?}");
        }
    })
    .await
    .unwrap();
    let mut conn = connect(port).await;
    assert_eq!(one::<u32>(&mut conn, r"SELECT id FROM who WHERE id > '\\' -- ' FOR UPDATE").await, 2);
    conn.query_drop("SET sql_mode='NO_BACKSLASH_ESCAPES'").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, r"SELECT id FROM who WHERE id > '\' FOR UPDATE -- '").await, 1);
    conn.disconnect().await.unwrap();
}

async fn trap_08_temporary_tables_shadow_others(port: u16) {
    let mut others = Others::new(port).await;
    for make in
        ["CREATE OR REPLACE TEMPORARY TABLE who (id INT)", "create /* x */ temporary table if not exists who (id int)"]
    {
        let mut conn = connect(port).await;
        conn.query_drop(make).await.unwrap();
        conn.query_drop("INSERT INTO who VALUES (77)").await.unwrap();
        others.stir(1).await;
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 77, "{make}");
        assert_eq!(one::<u32>(&mut others.0[0], "SELECT id FROM who").await, 2, "{make}");
        conn.reset().await.unwrap();
        // The row count without a GTID leaves it open what the session must see: the primary answers until a later one.
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 1);
        conn.query_drop("INSERT INTO t (v) VALUES ('gtid')").await.unwrap();
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
        conn.query_drop("DELETE FROM t").await.unwrap();
        conn.disconnect().await.unwrap();
    }
    let mut conn = connect(port).await;
    conn.query_drop("CALL make()").await.unwrap();
    conn.query_drop("INSERT INTO made VALUES (5)").await.unwrap();
    others.stir(1).await;
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM made").await, 5);
    conn.disconnect().await.unwrap();
    others.leave().await;
}

/// The connection that has the lock is lost: the client is told, and does not go on without it.
async fn trap_09_a_lock_is_not_lost_in_silence(port: u16, cluster: &Cluster) {
    let mut conn = connect(port).await;
    assert_eq!(one::<u32>(&mut conn, "SELECT GET_LOCK('precious', 0)").await, 1);
    let thread = cluster.primary.sql("SELECT IS_USED_LOCK('precious')");
    cluster.primary.sql(&format!("KILL {thread}"));
    let error = conn.query_drop("UPDATE who SET id = 1").await.unwrap_err();
    assert_eq!(code(&error), 1158, "{error}");
    assert!(conn.query_drop("SELECT 1").await.is_err(), "its session is over");
}

#[test]
fn traps_13_to_29_answers_are_about_the_right_statement() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql(
        "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB) ENGINE=InnoDB;
         CREATE TABLE d.wide (a INT, b INT); INSERT INTO d.wide VALUES (1, 2);
         CREATE FUNCTION d.f(n INT) RETURNS INT NO SQL RETURN n + 1",
    );
    cluster.wait_for_replicas();
    for driver in [Driver::IoUring, Driver::Epoll] {
        let (server, port) = before(&cluster, driver, "local_infile = true");
        block_on(async {
            trap_13_one_server_s_answers_come_from_the_primary(port).await;
            trap_14_the_last_insert_id_is_the_session_s_own(port).await;
            trap_15_questions_are_about_the_last_statement(port).await;
            trap_16_xa_is_pinned_until_it_is_over(port).await;
            trap_19_a_client_s_file_is_passed_on(port).await;
            trap_20_metadata_is_that_of_the_execution(port, &cluster).await;
            trap_21_statements_survive_their_connections(port, &cluster).await;
            statements_that_are_closed_do_not_pile_up_in_a_transaction(port, &cluster).await;
            trap_22_types_are_sent_again_after_a_move(port).await;
            trap_23_prepared_control_statements_count(port).await;
            trap_25_an_error_in_a_transaction_keeps_it(port).await;
            trap_28_collations_above_255_are_not_cut(port, &cluster).await;
            trap_29_implicit_commits_end_a_transaction(port).await;
            cursors_and_pieces_stay_with_their_statement(port).await;
            a_wait_for_a_connection_can_be_killed(port).await;
        });
        for reason in ["xa", "prepared_statement", "multi_statement", "user_variable"] {
            let counted = server.metric("one_server_splitter_pins_total", &format!("reason=\"{reason}\""));
            assert!(counted >= 1.0, "pins because of {reason}: {counted}");
        }
        let pinned = || server.metric("one_server_splitter_sessions_pinned", "reason=\"user_variable\"");
        let mut raw = Raw::connect(port, 0);
        assert_eq!(raw.command(b"\x03SET @a = 1")[0], 0);
        assert_eq!((pinned(), server.status()["splitters"][0]["pinned"].as_u64()), (1.0, Some(1)));
        drop(raw);
        eventually("its pin is gone with it", || pinned() == 0.0);
        let status = server.status();
        let shown = &status["splitters"][0];
        assert!(shown["pins_by_reason"]["xa"].as_u64() >= Some(1), "{shown}");
        assert_eq!(
            shown["pins"].as_u64(),
            shown["pins_by_reason"].as_object().map(|all| all.values().filter_map(|count| count.as_u64()).sum())
        );
    }
}

async fn trap_13_one_server_s_answers_come_from_the_primary(port: u16) {
    let mut conn = connect(port).await;
    for sql in ["SELECT @@server_id", "SELECT @@global.server_id", "SELECT @@read_only + 1"] {
        conn.query_drop("SELECT 1").await.unwrap();
        assert_eq!(one::<u32>(&mut conn, sql).await, 1, "{sql}");
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "{sql} pins nothing");
    }
    let sql = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_VARIABLES WHERE VARIABLE_NAME='server_id'";
    assert_eq!(one::<u32>(&mut conn, sql).await, 1);
    let found: Option<(String, u32)> = conn.query_first("SHOW VARIABLES LIKE 'server_id'").await.unwrap();
    assert_eq!(found.unwrap().1, 1);
    // A block is no transaction.
    conn.query_drop("BEGIN NOT ATOMIC INSERT INTO t (v) VALUES ('a'); INSERT INTO t (v) VALUES ('b'); END")
        .await
        .unwrap();
    conn.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 2);
    conn.query_drop("DELETE FROM t").await.unwrap();
    conn.disconnect().await.unwrap();
}

async fn trap_14_the_last_insert_id_is_the_session_s_own(port: u16) {
    let (mut conn, mut others) = (connect(port).await, Others::new(port).await);
    conn.query_drop("TRUNCATE t").await.unwrap();
    conn.query_drop("INSERT INTO t (id, v) VALUES (50, 'a')").await.unwrap();
    assert_eq!(one::<u64>(&mut conn, "SELECT LAST_INSERT_ID()").await, 0, "an explicit id is none");
    conn.query_drop("INSERT INTO t (v) VALUES ('b'), ('c')").await.unwrap();
    for n in 0..3u64 {
        // The other session needs the connections meanwhile.
        let other = &mut others.0[0];
        other.query_drop(format!("INSERT INTO t (id, v) VALUES ({}, 'o')", 1000 + 10 * n)).await.unwrap();
        other.query_drop("INSERT INTO t (v) VALUES ('p')").await.unwrap();
        others.stir(2).await;
        for question in [
            "SELECT LAST_INSERT_ID() AS ID;",
            "SELECT LAST_INSERT_ID( )",
            "SELECT @@identity",
            "SELECT @@last_insert_id",
        ] {
            assert_eq!(one::<u64>(&mut conn, question).await, 51, "{question}");
        }
        let prepared: Option<u64> = conn.exec_first("SELECT LAST_INSERT_ID()", ()).await.unwrap();
        assert_eq!(prepared, Some(51));
        assert_eq!(one::<u64>(&mut others.0[0], "SELECT LAST_INSERT_ID()").await, 1001 + 10 * n);
        let _: u32 = one(&mut conn, "SELECT id FROM who").await;
    }
    conn.exec_drop("INSERT INTO t (v) VALUES (?)", ("prepared",)).await.unwrap();
    let id = conn.last_insert_id().unwrap();
    others.stir(2).await;
    let prepared: Option<u64> = conn.exec_first("SELECT LAST_INSERT_ID()", ()).await.unwrap();
    assert_eq!(prepared, Some(id));
    others.stir(2).await;
    conn.query_drop("INSERT INTO t (v) VALUES (LAST_INSERT_ID())").await.unwrap();
    assert_eq!(one::<u64>(&mut conn, "SELECT v FROM t WHERE id = LAST_INSERT_ID()").await, id);
    // RETURNING does not tell it; a transaction keeps it.
    let id: u64 = one(&mut conn, "INSERT INTO t (v) VALUES ('r') RETURNING id").await;
    others.stir(2).await;
    assert_eq!(one::<u64>(&mut conn, "SELECT LAST_INSERT_ID()").await, id);
    conn.query_drop("SET autocommit = 0").await.unwrap();
    others.stir(1).await;
    assert_eq!(one::<u64>(&mut conn, "SELECT LAST_INSERT_ID()").await, id);
    conn.query_drop("SET autocommit = 1").await.unwrap();
    conn.query_drop("DELETE FROM t").await.unwrap();
    conn.disconnect().await.unwrap();
    others.leave().await;
}

async fn trap_15_questions_are_about_the_last_statement(port: u16) {
    let (mut conn, mut others) = (connect(port).await, Others::new(port).await);
    conn.query_drop("INSERT INTO t (v) VALUES ('a'), ('b'), ('c')").await.unwrap();
    // On the connection itself, text and prepared.
    for _ in 0..2 {
        conn.query_drop("SELECT CAST('x' AS INT)").await.unwrap();
        let warning: Option<(String, u32, String)> = conn.exec_first("SHOW WARNINGS", ()).await.unwrap();
        assert_eq!(warning.map(|warning| warning.1), Some(1292));
        assert_eq!(conn.exec_first("SELECT @@warning_count", ()).await.unwrap(), Some(1u32));
        assert_eq!(one::<u32>(&mut conn, "SHOW COUNT(*) WARNINGS").await, 1);
        assert_eq!(one::<u32>(&mut conn, "SELECT 1").await, 1);
        let warning: Option<(String, u32, String)> = conn.query_first("SHOW WARNINGS").await.unwrap();
        assert_eq!(warning.map(|warning| warning.1), Some(1292), "a statement without tables leaves them as they are");
        let _: u32 = one(&mut conn, "SELECT id FROM who").await;
        assert_eq!(one::<u32>(&mut conn, "SELECT @@warning_count").await, 0);
    }
    // After others had the connection: an answer that is right, or an error; never that there is nothing.
    conn.query_drop("SELECT CAST('x' AS INT)").await.unwrap();
    others.stir(2).await;
    for question in ["SHOW WARNINGS", "SHOW COUNT(*) WARNINGS", "SELECT @@warning_count"] {
        match conn.query_first::<Row, _>(question).await {
            Ok(row) => assert!(row.is_some_and(|row| row.get::<String, _>(0) != Some("0".into())), "{question}"),
            Err(error) => assert_eq!(code(&error), 1105, "{question}"),
        }
    }
    // What is counted here is known wherever the connection is.
    for (statement, question, answer) in [
        ("UPDATE t SET v = CONCAT(v, 'x') LIMIT 2", "SELECT ROW_COUNT()", 2),
        ("UPDATE t SET v = v", "SELECT ROW_COUNT() AS n", 0),
        ("CREATE TABLE counted (a INT)", "SELECT ROW_COUNT()", 0),
        ("DROP TABLE counted", "SELECT ROW_COUNT();", 0),
        ("SELECT id FROM t", "SELECT ROW_COUNT()", -1),
        ("SELECT id FROM t LIMIT 2", "SELECT FOUND_ROWS()", 2),
        ("SELECT id FROM who WHERE id > 99", "SELECT FOUND_ROWS() AS rows_found", 0),
    ] {
        for moved in [false, true] {
            conn.query_drop("UPDATE t SET v = 'again'").await.unwrap();
            conn.query_drop(statement).await.unwrap();
            if moved {
                others.stir(2).await;
            }
            match conn.query_first::<i64, _>(question).await {
                Ok(count) => assert_eq!(count, Some(answer), "{statement}; {question}, moved: {moved}"),
                Err(error) => panic!("{statement}; {question}, moved: {moved}: {error}"),
            }
            if statement.starts_with("CREATE") && !moved {
                conn.query_drop("DROP TABLE counted").await.unwrap();
            } else if statement.starts_with("DROP") && !moved {
                conn.query_drop("CREATE TABLE counted (a INT)").await.unwrap();
            }
        }
    }
    conn.query_drop("SELECT SQL_CALC_FOUND_ROWS id FROM t LIMIT 1").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT FOUND_ROWS()").await, 3);
    let _: Option<u32> = conn.exec_first("SELECT SQL_CALC_FOUND_ROWS id FROM t LIMIT 1", ()).await.unwrap();
    assert_eq!(conn.exec_first("SELECT FOUND_ROWS()", ()).await.unwrap(), Some(3u32), "preparing changes no answer");
    conn.query_drop("DELETE FROM t WHERE id > 0").await.unwrap();
    conn.query_drop("GET DIAGNOSTICS @n = ROW_COUNT").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT @n").await, 3);
    // What makes a held connection forget warnings counts no rows.
    conn.reset().await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
    for sql in ["SET @a = 1", "SELECT 1 FROM DUAL WHERE 0", "SHOW WARNINGS"] {
        conn.query_drop(sql).await.unwrap();
    }
    assert_eq!(one::<u32>(&mut conn, "SELECT FOUND_ROWS()").await, 0);
    // Only a replica knows: what sets a variable cannot go there, and gets no made-up answer.
    conn.reset().await.unwrap();
    conn.query_drop("INSERT INTO t (v) VALUES ('gtid')").await.unwrap();
    for sql in ["SELECT FOUND_ROWS() INTO @n", "INSERT INTO t (v) VALUES (FOUND_ROWS())"] {
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
        assert_eq!(code(&conn.query_drop(sql).await.unwrap_err()), 1105, "{sql}");
    }
    assert!(conn.query_drop("INSERT INTO nowhere VALUES (1)").await.is_err());
    let error: Option<(String, u32, String)> = conn.query_first("SHOW ERRORS").await.unwrap();
    assert_eq!(error.map(|error| error.1), Some(1146));
    conn.query_drop("DELETE FROM t").await.unwrap();
    conn.disconnect().await.unwrap();
    others.leave().await;
}

/// The status of a server says that a transaction is open until XA COMMIT or ROLLBACK, also behind END and PREPARE.
async fn trap_16_xa_is_pinned_until_it_is_over(port: u16) {
    let (mut conn, mut others) = (connect(port).await, Others::new(port).await);
    conn.query_drop("DELETE FROM t").await.unwrap();
    for (last, count) in [("XA COMMIT 'x'", 1), ("XA ROLLBACK 'x'", 0)] {
        for sql in ["XA START 'x'", "INSERT INTO t (id) VALUES (7)", "XA END 'x'", "XA PREPARE 'x'", last] {
            conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            others.stir(1).await;
        }
        assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t WHERE id = 7").await, count);
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "the pin is gone with the transaction");
        conn.query_drop("DELETE FROM t").await.unwrap();
    }
    conn.disconnect().await.unwrap();
    others.leave().await;
}

/// The file is the client's: one that only the splitter's machine has is not read, however the statement is written.
async fn trap_19_a_client_s_file_is_passed_on(port: u16) {
    let mut check = connect(port).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.csv");
    let rows: String = (0..20_000).map(|n| format!("{n},{}\n", "x".repeat(n % 40))).collect();
    std::fs::write(&file, &rows).unwrap();
    for sql in
        ["LOAD DATA LOCAL INFILE", "LOAD DATA CONCURRENT /* c */ LOCAL INFILE", "load data low_priority\nlocal infile"]
    {
        let sql = format!("{sql} '{}' INTO TABLE t FIELDS TERMINATED BY ',' (@n, v)", file.display());
        let output = client(port, &["--local-infile=1"], &sql);
        assert_eq!(output, "", "{sql}");
        assert_eq!(one::<u64>(&mut check, "SELECT COUNT(*) FROM t FOR UPDATE").await, 20_000);
        assert_eq!(one::<u64>(&mut check, "SELECT SUM(LENGTH(v)) FROM t FOR UPDATE").await, 390_000);
        check.query_drop("DELETE FROM t").await.unwrap();
    }
    // A client that has not said that it gives files away is not asked.
    let sql = format!("LOAD DATA CONCURRENT LOCAL INFILE '{}' INTO TABLE t (v)", file.display());
    let output = client(port, &["--local-infile=0"], &sql);
    assert!(output.contains("ERROR 4166") && output.contains("--local-infile=1"), "{output}");
    tokio::task::spawn_blocking(move || {
        let files = capability::LOCAL_FILES
            | capability::DEPRECATE_EOF
            | capability::MULTI_STATEMENTS
            | capability::MULTI_RESULTS;
        // Several results in one answer; sequence ids go on through the file.
        let mut raw = Raw::connect(port, files);
        raw.send(0, b"\x03DO 1; LOAD DATA LOCAL INFILE 'any' INTO TABLE t (v); SELECT 5");
        let ok = raw.packet().unwrap();
        assert_eq!(ok[3..5], [1, 0]);
        let request = raw.packet().unwrap();
        assert_eq!(request[3..], b"\x02\xfbany"[..]);
        raw.send(3, b"first\nsec");
        raw.send(4, b"ond\n");
        raw.send(5, b"");
        let loaded = raw.packet().unwrap();
        assert_eq!(loaded[3..6], [6, 0, 2], "two rows: {loaded:?}");
        assert_eq!(raw.packet().unwrap()[3..], [7, 1], "one column");
        // A client that leaves in the middle leaves nothing behind.
        let mut raw = Raw::connect(port, files);
        raw.send(0, b"\x03LOAD DATA LOCAL INFILE 'any' INTO TABLE t (v)");
        assert_eq!(raw.packet().unwrap()[4], 0xFB);
        raw.send(2, b"half of a");
    })
    .await
    .unwrap();
    for _ in 0..20 {
        assert_eq!(one::<u64>(&mut check, "SELECT COUNT(*) FROM t FOR UPDATE").await, 2);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    check.query_drop("DELETE FROM t").await.unwrap();
    check.disconnect().await.unwrap();
}

async fn trap_20_metadata_is_that_of_the_execution(port: u16, cluster: &Cluster) {
    let (mut conn, mut other) = (connect(port).await, connect(port).await);
    let all = conn.prep("SELECT * FROM wide").await.unwrap();
    let columns = async |conn: &mut Conn, all: &mysql_async::Statement| {
        let row: Option<Row> = conn.exec_first(all, ()).await.unwrap();
        row.unwrap().columns_ref().iter().map(|column| column.name_str().into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(columns(&mut conn, &all).await, ["a", "b"]);
    other.query_drop("ALTER TABLE wide ADD COLUMN c INT DEFAULT 3").await.unwrap();
    cluster.wait_for_replicas();
    assert_eq!(columns(&mut conn, &all).await, ["a", "b", "c"]);
    let again = other.prep("SELECT * FROM wide").await.unwrap();
    assert_eq!(again.columns().len(), 3, "what PREPARE tells is fresh, too");
    other.query_drop("ALTER TABLE wide DROP COLUMN c").await.unwrap();
    cluster.wait_for_replicas();
    assert_eq!(columns(&mut conn, &all).await, ["a", "b"]);
    assert_eq!(columns(&mut other, &again).await, ["a", "b"]);
    conn.disconnect().await.unwrap();
    other.disconnect().await.unwrap();
}

async fn trap_21_statements_survive_their_connections(port: u16, cluster: &Cluster) {
    let mut conn = connect(port).await;
    let sql = "SELECT id + ? FROM who";
    let first = conn.prep(sql).await.unwrap();
    let mut twin = connect(port).await;
    let second = twin.prep(sql).await.unwrap();
    for round in 0..3u32 {
        assert_eq!(conn.exec_first(&first, (round,)).await.unwrap(), Some(2 + round));
        assert_eq!(twin.exec_first(&second, (round,)).await.unwrap(), Some(2 + round));
        for server in [&cluster.primary, &cluster.replicas[0]] {
            let idle = "SELECT id FROM information_schema.processlist WHERE user='app' AND command='Sleep' ORDER BY id";
            // The oldest is the monitor's.
            for id in server.sql(idle).lines().skip(1) {
                server.try_sql(&format!("KILL {id}")); // it may have ended by itself
            }
        }
    }
    twin.close(second).await.unwrap();
    assert_eq!(conn.exec_first(&first, (9,)).await.unwrap(), Some(11u32), "only the other client's is closed");
    conn.disconnect().await.unwrap();
    twin.disconnect().await.unwrap();
    // A server that broke off twice gets no reads for a moment.
    wait_for_reads_on_replica(port).await;
}

/// A transaction keeps its connection, on which nothing is reset meanwhile.
async fn statements_that_are_closed_do_not_pile_up_in_a_transaction(port: u16, cluster: &Cluster) {
    let cluster_has = || -> usize {
        let text = cluster.primary.sql("SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'");
        text.split_whitespace().last().expect("a value").parse().expect("a number")
    };
    let before = cluster_has();
    let raw = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::connect(port, capability::DEPRECATE_EOF);
        raw.query("BEGIN");
        for round in 0..600 {
            // The same again and again, and others in between.
            for sql in ["SELECT id + ? FROM who FOR UPDATE".to_owned(), format!("SELECT id + ? + {round} FROM who")] {
                let id = prepare(&mut raw, &sql);
                raw.result(&execute(id, 0, b"\0\x01\x08\0\x07\0\0\0\0\0\0\0")).pop_row();
                raw.send(0, &[&[0x19][..], &id.to_le_bytes()].concat());
            }
        }
        let kept = prepare(&mut raw, "SELECT id + ? FROM who FOR UPDATE");
        raw.result(&execute(kept, 0, b"\0\x01\x08\0\x07\0\0\0\0\0\0\0")).pop_row();
        raw
    });
    let mut raw = raw.await.unwrap();
    let more = cluster_has() - before;
    assert!(more > 0 && more <= 260, "{more} of 1200 are still there");
    raw.query("COMMIT");
}

/// COM_STMT_PREPARE; returns the statement's id.
fn prepare(raw: &mut Raw, sql: &str) -> u32 {
    raw.send(0, &[b"\x16", sql.as_bytes()].concat());
    let answer = raw.packet().unwrap();
    assert_eq!(answer[4], 0, "{sql}: {}", String::from_utf8_lossy(&answer));
    let number = |at: usize| u16::from_le_bytes([answer[at], answer[at + 1]]);
    for _ in 0..number(9) + number(11) {
        raw.packet().unwrap();
    }
    u32::from_le_bytes([answer[5], answer[6], answer[7], answer[8]])
}

/// COM_STMT_EXECUTE with what stands behind its fixed part.
fn execute(id: u32, flags: u8, rest: &[u8]) -> Vec<u8> {
    [&[0x17][..], &id.to_le_bytes(), &[flags, 1, 0, 0, 0], rest].concat()
}

async fn trap_22_types_are_sent_again_after_a_move(port: u16) {
    let mut others = Others::new(port).await;
    let (id, mut raw) = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::connect(port, capability::DEPRECATE_EOF);
        let id = prepare(&mut raw, "SELECT CONCAT(?, '/', ?) FROM who");
        // NULL bitmap, types follow: LONGLONG and VAR_STRING.
        let row = raw.result(&execute(id, 0, b"\0\x01\x08\0\xfd\0\x07\0\0\0\0\0\0\0\x02ab")).pop_row();
        assert_eq!(row, b"7/ab");
        (id, raw)
    })
    .await
    .unwrap();
    for n in 0..4u8 {
        others.stir(2).await;
        // The same statement with other types, over the same connections.
        let mine: Option<String> =
            others.0[0].exec_first("SELECT CONCAT(?, '/', ?) FROM who", ("é", 1.5)).await.unwrap();
        assert_eq!(mine.as_deref(), Some("é/1.5"));
        (_, raw) = tokio::task::spawn_blocking(move || {
            let values = [b"\0\0", &[n, 0, 0, 0, 0, 0, 0, 0][..], b"\x01z"].concat();
            let row = raw.result(&execute(id, 0, &values)).pop_row();
            assert_eq!(row, format!("{n}/z").into_bytes());
            ((), raw)
        })
        .await
        .unwrap();
    }
    others.leave().await;
}

/// The text of a binary row with one column: behind the end of rows, NULL bitmap and length in front.
trait PopRow {
    fn pop_row(self) -> Vec<u8>;
}

impl PopRow for Vec<Vec<u8>> {
    fn pop_row(mut self) -> Vec<u8> {
        self.pop();
        let row = self.pop().unwrap();
        assert_eq!(row[4], 0, "a binary row: {}", String::from_utf8_lossy(&row));
        row[7..].to_vec()
    }
}

async fn trap_23_prepared_control_statements_count(port: u16) {
    let (mut conn, mut others) = (connect(port).await, Others::new(port).await);
    conn.exec_drop("SET autocommit = 0", ()).await.unwrap();
    conn.exec_drop("INSERT INTO t (id) VALUES (?)", (8,)).await.unwrap();
    others.stir(1).await;
    conn.exec_drop("ROLLBACK", ()).await.unwrap();
    conn.exec_drop("INSERT INTO t (id) VALUES (?)", (9,)).await.unwrap();
    others.stir(1).await;
    conn.exec_drop("COMMIT", ()).await.unwrap();
    conn.exec_drop("SET autocommit = 1", ()).await.unwrap();
    assert_eq!(conn.query::<u32, _>("SELECT id FROM t").await.unwrap(), [9]);
    conn.query_drop("DELETE FROM t").await.unwrap();
    let other = &mut others.0[0];
    other.exec_drop("BEGIN", ()).await.unwrap();
    assert_eq!(one::<u32>(other, "SELECT id FROM who").await, 1);
    other.exec_drop("COMMIT", ()).await.unwrap();
    assert_eq!(code(&other.prep("KILL 5").await.unwrap_err()), 1295);
    conn.disconnect().await.unwrap();
    others.leave().await;
}

async fn trap_25_an_error_in_a_transaction_keeps_it(port: u16) {
    let (mut conn, mut other) = (connect(port).await, connect(port).await);
    conn.query_drop("INSERT INTO t (id) VALUES (1), (2)").await.unwrap();
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO t (id) VALUES (3)").await.unwrap();
    for (sql, error) in
        [("INSERT INTO nowhere VALUES (1)", 1146), ("INSERT INTO t (id) VALUES (1)", 1062), ("nonsense", 1064)]
    {
        assert_eq!(code(&conn.query_drop(sql).await.unwrap_err()), error);
        assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 3, "still in it after {sql}");
    }
    conn.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 2);
    // A deadlock rolls all of it back; the next status says so, and reads are free again.
    conn.query_drop("BEGIN").await.unwrap();
    other.query_drop("BEGIN").await.unwrap();
    conn.query_drop("UPDATE t SET v = 'c' WHERE id = 1").await.unwrap();
    other.query_drop("UPDATE t SET v = 'o' WHERE id = 2").await.unwrap();
    let (a, b) = tokio::join!(
        conn.query_drop("UPDATE t SET v = 'c' WHERE id = 2"),
        other.query_drop("UPDATE t SET v = 'o' WHERE id = 1")
    );
    let (victim, winner) = if a.is_err() { (&mut conn, &mut other) } else { (&mut other, &mut conn) };
    assert_eq!(code(&a.and(b).unwrap_err()), 1213);
    assert_eq!(one::<u32>(victim, "SELECT @@in_transaction").await, 0);
    winner.query_drop("COMMIT").await.unwrap();
    // What became of its writes was not told, so reads wait for a later one that is.
    victim.query_drop("INSERT INTO t (id) VALUES (9)").await.unwrap();
    assert_eq!(one::<u32>(victim, "SELECT id FROM who").await, 2);
    conn.query_drop("DELETE FROM t").await.unwrap();
    conn.disconnect().await.unwrap();
    other.disconnect().await.unwrap();
}

/// A login has one byte for a collation; COM_CHANGE_USER has two.
async fn trap_28_collations_above_255_are_not_cut(port: u16, cluster: &Cluster) {
    const NAME: &str = "utf8mb4_uca1400_ai_ci";
    let id = cluster.primary.sql(&format!(
        "SELECT ID FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE FULL_COLLATION_NAME='{NAME}'"
    ));
    let id: u16 = id.parse().unwrap();
    assert!(id > 255);
    tokio::task::spawn_blocking(move || {
        let mut raw = Raw::connect(port, capability::DEPRECATE_EOF);
        let change = |raw: &mut Raw, id: u16| {
            let collation = id.to_le_bytes();
            let mut payload =
                [b"\x11", USER.as_bytes(), b"\0\0d\0", &collation[..], b"mysql_native_password\0"].concat();
            payload.extend_from_slice(b"");
            let switch = raw.command(&payload);
            assert_eq!(switch[0], 0xFE, "a new scramble");
            let scramble: [u8; 20] = switch[switch.len() - 21..switch.len() - 1].try_into().unwrap();
            let answer = one_server::mysql::protocol::auth::native::native_answer(PASSWORD.as_bytes(), &scramble);
            raw.send(2, &answer);
            raw.packet().unwrap()[4..].to_vec()
        };
        assert_eq!(change(&mut raw, id)[0], 0);
        let value = |raw: &mut Raw, sql: &str| {
            let mut packets = raw.query(sql);
            packets.pop();
            String::from_utf8(packets.pop().unwrap()[5..].to_vec()).unwrap()
        };
        assert_eq!(value(&mut raw, "SELECT @@collation_connection"), NAME);
        assert_eq!(
            value(&mut raw, "SELECT CONCAT(COLLATION('x'), id) FROM who"),
            format!("{NAME}2"),
            "on the replica, too"
        );
        raw.command(b"\x1f");
        assert_eq!(value(&mut raw, "SELECT @@collation_connection"), NAME, "a reset goes back to the login");
        assert_eq!(change(&mut raw, 45)[0], 0);
        assert_eq!(value(&mut raw, "SELECT @@collation_connection"), "utf8mb4_general_ci");
        let error = change(&mut raw, 60_000);
        assert_eq!((error[0], u16::from_le_bytes([error[1], error[2]])), (0xFF, 1273));
    })
    .await
    .unwrap();
}

async fn trap_29_implicit_commits_end_a_transaction(port: u16) {
    let mut conn = connect(port).await;
    for commits in ["CREATE TABLE implicit (a INT)", "TRUNCATE implicit", "DROP TABLE implicit", "LOCK TABLES t WRITE"]
    {
        conn.query_drop("BEGIN; ").await.unwrap();
        conn.query_drop("INSERT INTO t (id) VALUES (7)").await.unwrap();
        conn.query_drop(commits).await.unwrap();
        conn.query_drop("ROLLBACK").await.unwrap();
        assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t WHERE id = 7").await, 1, "{commits}");
        if commits.starts_with("LOCK") {
            conn.reset().await.unwrap();
        } else {
            assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "the transaction is over: {commits}");
        }
        conn.query_drop("DELETE FROM t").await.unwrap();
    }
    conn.disconnect().await.unwrap();
}

/// FETCH goes where EXECUTE went; so do the pieces of a parameter.
async fn cursors_and_pieces_stay_with_their_statement(port: u16) {
    let mut others = Others::new(port).await;
    for sql in ["SELECT seq FROM seq_1_to_6", "SELECT f(seq) - 1 FROM seq_1_to_6"] {
        let (mut raw, id) = tokio::task::spawn_blocking(move || {
            let mut raw = Raw::connect(port, capability::DEPRECATE_EOF);
            let id = prepare(&mut raw, sql);
            let opened = raw.result(&execute(id, 1, b""));
            assert_eq!(opened.len(), 3, "column count, column, end: no rows yet: {sql}");
            (raw, id)
        })
        .await
        .unwrap();
        others.stir(1).await;
        tokio::task::spawn_blocking(move || {
            for rows in [4, 2] {
                raw.send(0, &[&[0x1C][..], &id.to_le_bytes(), &[4, 0, 0, 0]].concat());
                for _ in 0..rows {
                    assert_eq!(raw.packet().unwrap()[4], 0, "a row: {sql}");
                }
                assert_eq!(raw.packet().unwrap()[4], 0xFE, "the end: {sql}");
            }
            let reset = raw.command(&[&[0x1A][..], &id.to_le_bytes()].concat());
            assert_eq!(reset[0], 0);
        })
        .await
        .unwrap();
    }
    let (mut raw, id) = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::connect(port, capability::DEPRECATE_EOF);
        let id = prepare(&mut raw, "SELECT CONCAT(?, '!') FROM who");
        raw.send(0, &[&[0x18][..], &id.to_le_bytes(), &[0, 0], b"first and "].concat());
        (raw, id)
    })
    .await
    .unwrap();
    others.stir(1).await;
    tokio::task::spawn_blocking(move || {
        raw.send(0, &[&[0x18][..], &id.to_le_bytes(), &[0, 0], b"second"].concat());
        let row = raw.result(&execute(id, 0, b"\0\x01\xfb\0")).pop_row();
        assert_eq!(row, b"first and second!");
    })
    .await
    .unwrap();
    others.leave().await;
}

/// No server knows of it yet, and none is needed to end it.
async fn a_wait_for_a_connection_can_be_killed(port: u16) {
    let (mut others, mut killer) = (Others::new(port).await, connect(port).await);
    // Logging on takes a connection to a server.
    let victims = [("KILL QUERY", connect(port).await), ("KILL", connect(port).await)];
    for holder in &mut others.0 {
        holder.query_drop("BEGIN").await.unwrap();
    }
    for (kill, mut conn) in victims {
        let (id, begun) = (conn.id(), Instant::now());
        let waiting = tokio::spawn(async move { conn.query_drop("INSERT INTO d.t (id) VALUES (1)").await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        killer.query_drop(format!("{kill} {id}")).await.unwrap();
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(
            kill == "KILL QUERY",
            matches!(&error, mysql_async::Error::Server(error) if error.code == 1317),
            "{error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5), "{kill}: {:?}", begun.elapsed());
    }
    for holder in &mut others.0 {
        holder.query_drop("ROLLBACK").await.unwrap();
    }
    assert_eq!(one::<u32>(&mut killer, "SELECT COUNT(*) FROM t FOR UPDATE").await, 0);
    killer.disconnect().await.unwrap();
    others.leave().await;
}

/// Runs SQL with the stock client; its output and its errors.
fn client(port: u16, flags: &[&str], sql: &str) -> String {
    let output = client_command(port, flags).args(["-e", sql]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn client_command(port: u16, flags: &[&str]) -> Command {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "-h127.0.0.1", "-N", "-B", "--comments"]).args(flags).arg(format!("-P{port}"));
    command.arg(format!("-u{USER}")).arg(format!("-p{PASSWORD}")).arg("d");
    command
}

/// A tool of the server's distribution; its output and its errors.
fn admin(port: u16, arguments: &[&str]) -> String {
    let mut command = Command::new("mariadb-admin");
    command.args(["--no-defaults", "-h127.0.0.1"]).arg(format!("-P{port}"));
    command.arg(format!("-u{USER}")).arg(format!("-p{PASSWORD}")).args(arguments);
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Between splitter and primary: everything passes, until the answer to a COMMIT is to be lost.
fn cutter(server: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let cuts = Arc::new(AtomicBool::new(false));
    let shared = cuts.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let upstream = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let cuts = shared.clone();
            let (mut from, mut to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            let lost = Arc::new(AtomicBool::new(false));
            let is_lost = lost.clone();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(bytes @ 1..) = from.read(&mut buffer) {
                    if is_lost.load(Relaxed) || to.write_all(&buffer[..bytes]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            std::thread::spawn(move || {
                let (mut client, mut upstream) = (client, upstream);
                let mut buffer = vec![0; 64 << 10];
                while let Ok(bytes @ 1..) = client.read(&mut buffer) {
                    let is_commit = buffer[..bytes].windows(6).any(|window| window == b"COMMIT");
                    lost.fetch_or(is_commit && cuts.load(Relaxed), Relaxed);
                    if upstream.write_all(&buffer[..bytes]).is_err() {
                        break;
                    }
                }
                let _ = upstream.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (port, cuts)
}

#[test]
fn trap_26_a_lost_answer_to_commit_is_reported_and_not_repeated() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    cluster.primary.sql("CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT) ENGINE=InnoDB");
    let (between, cuts) = cutter(cluster.primary.port);
    let server = splitter(Driver::Auto, 1, between, &[], "");
    let port = server.address("db").port();
    block_on(async {
        for (begin, commit) in
            [("BEGIN", "COMMIT"), ("BEGIN", "COMMIT /* once */ AND CHAIN"), ("SET autocommit = 0", "COMMIT")]
        {
            let mut conn = connect(port).await;
            conn.query_drop(begin).await.unwrap();
            conn.query_drop("INSERT INTO t (v) VALUES (1)").await.unwrap();
            cuts.store(true, Relaxed);
            let error = conn.query_drop(commit).await.unwrap_err();
            cuts.store(false, Relaxed);
            assert_eq!(code(&error), 1158, "{error}");
            assert!(error.to_string().contains("outcome is unknown"), "{error}");
            assert!(conn.query_drop("SELECT 1").await.is_err(), "what the session was in is not made up");
        }
        // By itself, too: sent once, done once.
        let mut conn = connect(port).await;
        cuts.store(true, Relaxed);
        let error = conn.query_drop("INSERT INTO t (v) VALUES (2) /* COMMIT */").await.unwrap_err();
        cuts.store(false, Relaxed);
        assert_eq!(code(&error), 1158, "{error}");
        eventually("each is there exactly once", || {
            cluster.primary.sql("SELECT GROUP_CONCAT(v ORDER BY v) FROM d.t") == "1,1,1,2"
        });
        assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 4);
    });
}

/// Client number `n`'s short statement, again and again; `true`: it was interrupted.
async fn nap(conn: &mut Conn, n: usize) -> bool {
    match conn.query_first::<u32, _>(format!("SELECT /* {n} */ SLEEP(0.01)")).await {
        Ok(woken) => woken != Some(0),
        Err(error) => {
            assert_eq!(code(&error), 1317, "client {n}: {error}");
            true
        }
    }
}

#[test]
fn trap_27_kill_hits_the_one_it_names_and_nobody_else() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql(&format!(
        "CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=InnoDB;
         CREATE USER other@'%' IDENTIFIED BY 'oth3r'; GRANT ALL ON *.* TO other@'%';
         GRANT PROCESS, RELOAD ON *.* TO {USER}@'%'"
    ));
    cluster.wait_for_replicas();
    for driver in [Driver::IoUring, Driver::Epoll] {
        let replicas = [cluster.replicas[0].port];
        let users = "[[mysql.db.users]]\nname = \"other\"\npassword = \"oth3r\"\n";
        // A busy machine may take its time with a login.
        let more = format!("connect_timeout = \"15s\"\n{users}");
        let server = splitter(driver, 2, cluster.primary.port, &replicas, &more);
        let port = server.address("db").port();
        block_on(async {
            wait_for_reads_on_replica(port).await;
            ids_are_the_same_wherever_they_are_asked_for(port).await;
            a_kill_ends_what_its_victim_does(port, &cluster).await;
            other_accounts_are_safe(port).await;
            kills_under_load_hit_no_bystander(port).await;
        });
        tools_can_kill(port);
        every_command_is_answered(port);
    }
}

async fn ids_are_the_same_wherever_they_are_asked_for(port: u16) {
    let mut ids = Vec::new();
    for _ in 0..6 {
        let mut conn = connect(port).await;
        let id = conn.id();
        let row: Row = conn.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
        assert_eq!((row.columns_ref()[0].name_str().as_ref(), row.get::<u32, _>(0)), ("CONNECTION_ID()", Some(id)));
        assert_eq!(one::<u32>(&mut conn, "select connection_id() as `my id`;").await, id);
        assert_eq!(one::<u32>(&mut conn, "SELECT CONNECTION_ID() `quoted`").await, id);
        let prepared: Option<u32> = conn.exec_first("SELECT CONNECTION_ID()", ()).await.unwrap();
        assert_eq!(prepared, Some(id));
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "asking pins nothing");
        // Among other things it is the server's own number, and stays it.
        let sql = "SELECT id = CONNECTION_ID() FROM information_schema.processlist WHERE id = CONNECTION_ID()";
        assert_eq!(one::<u32>(&mut conn, sql).await, 1);
        ids.push(id);
        conn.disconnect().await.unwrap();
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

/// Starts a statement that takes a minute; returns once it runs on the server.
async fn long_statement(
    port: u16,
    cluster: &Cluster,
    mark: &str,
) -> (u32, tokio::task::JoinHandle<(Conn, Option<u16>)>) {
    let mut conn = connect(port).await;
    let id = conn.id();
    let sql = format!("SELECT /* {mark} */ SLEEP(60) FROM who");
    let running = tokio::spawn(async move {
        let error = match conn.query_drop(sql).await {
            Ok(()) => None,
            Err(mysql_async::Error::Server(error)) => Some(error.code),
            Err(_) => Some(0),
        };
        (conn, error)
    });
    wait_for_statement(cluster, mark, true).await;
    (id, running)
}

async fn wait_for_statement(cluster: &Cluster, mark: &str, is_there: bool) {
    let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT /* {mark} %'");
    let deadline = Instant::now() + Duration::from_secs(20);
    while (cluster.primary.sql(&sql) != "0") != is_there {
        assert!(Instant::now() < deadline, "not in time: {mark} is there: {is_there}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_kill_ends_what_its_victim_does(port: u16, cluster: &Cluster) {
    let mut killer = connect(port).await;
    for (kill, is_connection) in
        [("KILL QUERY", false), ("KILL", true), ("KILL HARD QUERY", false), ("KILL SOFT CONNECTION", true)]
    {
        let (id, running) = long_statement(port, cluster, "long").await;
        killer.query_drop(format!("{kill} {id}")).await.unwrap();
        let (mut conn, error) = tokio::time::timeout(Duration::from_secs(10), running).await.expect("in time").unwrap();
        assert_eq!(error, Some(if is_connection { 0 } else { 1317 }), "{kill}");
        assert_eq!(conn.query_drop("SELECT 1").await.is_err(), is_connection, "{kill}");
        wait_for_statement(cluster, "long", false).await;
        let again = killer.query_drop(format!("{kill} {id}")).await;
        assert_eq!(again.is_err(), is_connection, "{kill}: the id of a session that is gone is unknown");
    }
    // What a session holds is given back when it is killed between statements.
    let mut conn = connect(port).await;
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO t VALUES (1)").await.unwrap();
    killer.query_drop(format!("KILL QUERY {}", conn.id())).await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 1, "there was no statement to end");
    killer.query_drop(format!("KILL {}", conn.id())).await.unwrap();
    assert!(conn.query_drop("COMMIT").await.is_err());
    assert_eq!(one::<u32>(&mut killer, "SELECT COUNT(*) FROM t FOR UPDATE").await, 0);
    for (sql, error) in [
        ("KILL QUERY ID 5", 1235),
        ("KILL (SELECT 1)", 1235),
        ("SELECT 1; KILL 1", 1235),
        ("KILL 1", 1094),
        ("KILL 99999999999", 1094),
        ("KILL QUERY CONNECTION_ID()", 1317),
    ] {
        assert_eq!(code(&killer.query_drop(sql).await.unwrap_err()), error, "{sql}");
    }
    assert_eq!(code(&killer.query_drop("KILL CONNECTION_ID()").await.unwrap_err()), 1317);
    assert!(killer.query_drop("SELECT 1").await.is_err(), "its own connection");
}

async fn other_accounts_are_safe(port: u16) {
    let mut main = connect(port).await;
    let mut other = Conn::new(options(port).user(Some("other")).pass(Some("oth3r"))).await.unwrap();
    let mut third = Conn::new(options(port).user(Some("other")).pass(Some("oth3r"))).await.unwrap();
    for kill in ["KILL", "KILL QUERY"] {
        assert_eq!(code(&other.query_drop(format!("{kill} {}", main.id())).await.unwrap_err()), 1095);
    }
    assert_eq!(code(&other.query_drop(format!("KILL USER {USER}")).await.unwrap_err()), 1227);
    main.query_drop("SELECT 1").await.unwrap();
    other.query_drop(format!("KILL {}", third.id())).await.unwrap();
    assert!(third.query_drop("SELECT 1").await.is_err());
    main.query_drop("KILL QUERY USER other").await.unwrap();
    other.query_drop("SELECT 1").await.unwrap();
    main.query_drop("KILL USER 'other'").await.unwrap();
    assert_eq!(main.affected_rows(), 1);
    assert!(other.query_drop("SELECT 1").await.is_err());
    main.query_drop("KILL USER nobody").await.unwrap();
    assert_eq!(main.affected_rows(), 0);
    main.disconnect().await.unwrap();
}

/// Twelve clients share four connections to the primary; four of them are killed all the time, and only those notice.
async fn kills_under_load_hit_no_bystander(port: u16) {
    let ends = Arc::new(AtomicBool::new(false));
    let (mut targets, mut tasks) = (Vec::new(), Vec::new());
    for n in 0..12 {
        let mut conn = connect(port).await;
        if n < 4 {
            targets.push(conn.id());
        }
        let ends = ends.clone();
        tasks.push(tokio::spawn(async move {
            let (mut naps, mut interrupted) = (0u32, 0u32);
            while !ends.load(Relaxed) {
                naps += 1;
                interrupted += u32::from(nap(&mut conn, n).await);
            }
            (naps, interrupted)
        }));
    }
    let killers: Vec<_> = (0..2)
        .map(|_| {
            let (targets, ends) = (targets.clone(), ends.clone());
            tokio::spawn(async move {
                let (mut conn, mut kills) = (connect(port).await, 0u32);
                while !ends.load(Relaxed) {
                    for id in &targets {
                        match conn.query_drop(format!("KILL QUERY {id}")).await {
                            Err(error) => assert!(ends.load(Relaxed) && code(&error) == 1094, "{error}"),
                            Ok(()) => kills += 1,
                        }
                    }
                }
                kills
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    ends.store(true, Relaxed);
    let mut kills = 0;
    for killer in killers {
        kills += killer.await.unwrap();
    }
    let mut hit = 0;
    for (n, task) in tasks.into_iter().enumerate() {
        let (naps, interrupted) = task.await.unwrap();
        assert!(naps > 0, "client {n} was served");
        assert!(n < 4 || interrupted == 0, "client {n} was hit {interrupted} times by KILLs for others");
        hit += interrupted;
    }
    eprintln!("{kills} KILLs, {hit} statements interrupted");
    assert!(kills > 10 && hit > 0, "{kills} KILLs, {hit} hits");
}

fn tools_can_kill(port: u16) {
    let mut conn = block_on(connect(port));
    assert_eq!(admin(port, &["kill", &conn.id().to_string()]), "");
    assert!(block_on(conn.query_drop("SELECT 1")).is_err());
    assert!(admin(port, &["kill", "5"]).contains("Unknown thread id"));
    // Ctrl-C in the client: a KILL QUERY over another connection.
    let mut child = client_command(port, &[])
        .args(["-e", "SELECT SLEEP(60) FROM who FOR UPDATE"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let begun = Instant::now();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    child.wait().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "it was not interrupted");
    assert!(told.contains("ERROR 1317"), "{told}");
}

fn every_command_is_answered(port: u16) {
    assert!(admin(port, &["ping"]).contains("alive"));
    assert!(admin(port, &["status"]).contains("Uptime"));
    assert!(admin(port, &["processlist"]).contains(USER));
    assert_eq!(admin(port, &["flush-status"]), "");
    for deprecate_eof in [0, capability::DEPRECATE_EOF] {
        let mut raw = Raw::connect(port, deprecate_eof);
        assert!(raw.command(b"\x09").starts_with(b"Uptime"), "COM_STATISTICS");
        assert_eq!(raw.command(b"\x0e")[0], 0, "COM_PING");
        let list = raw.result(b"\x0a");
        assert!(list.len() > 9, "COM_PROCESS_INFO");
        raw.send(0, b"\x04who\0");
        assert!(raw.packet().unwrap().windows(2).any(|window| window == b"id"), "COM_FIELD_LIST");
        assert_eq!(raw.packet().unwrap()[4], 0xFE);
        for option in [[1, 0], [0, 0]] {
            assert_eq!(raw.command(&[&[0x1B][..], &option].concat())[0], 0xFE, "COM_SET_OPTION");
        }
        let debug = raw.command(b"\x0d");
        assert_eq!((debug[0], u16::from_le_bytes([debug[1], debug[2]])), (0xFF, 1227), "COM_DEBUG: the server's word");
        assert_eq!(raw.command(b"\x07\x10")[0], 0, "COM_REFRESH");
        assert_eq!(raw.command(b"\x02e")[0], 0, "COM_INIT_DB");
        assert_eq!(raw.command(b"\x1f")[0], 0, "COM_RESET_CONNECTION");
        for (refused, why) in [
            (&b"\x08\0"[..], "COM_SHUTDOWN"),
            (b"\x12\x04\0\0\0\0\0\x09\0\0\0binlog.000001", "replication"),
            (b"\x15\x09\0\0\0", "replication"),
            (b"\x1e\0\0", "replication"),
            (b"\xfa\x01\0\0\0", "not offered"),
            (b"\xfe", "not offered"),
            (b"\x1d", "not supported"),
        ] {
            let error = raw.command(refused);
            let text = String::from_utf8_lossy(&error[9..]).into_owned();
            assert_eq!((error[0], u16::from_le_bytes([error[1], error[2]])), (0xFF, 1047), "{refused:?}");
            assert!(text.contains(why), "{refused:?}: {text}");
            assert_eq!(raw.command(b"\x0e")[0], 0, "it goes on after that");
        }
    }
    // Servers see it as one server: the bits that would make clients use what is not here are not there.
    let raw = Raw::connect(port, 0);
    assert_ne!(raw.greeting.capabilities & capability::LONG_PASSWORD, 0, "no extended capabilities of MariaDB's");
    for bit in [capability::SESSION_TRACK, capability::QUERY_ATTRIBUTES, capability::LOCAL_FILES] {
        assert_eq!(raw.greeting.capabilities & bit, 0, "{bit:#x}");
    }
}

#[test]
fn local_files_are_refused_where_they_are_off() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    cluster.primary.sql("CREATE TABLE d.t (v TEXT)");
    let server = splitter(Driver::Auto, 1, cluster.primary.port, &[], "");
    let port = server.address("db").port();
    for sql in ["LOAD DATA LOCAL", "LOAD DATA CONCURRENT LOCAL", "LOAD XML LOCAL"] {
        let output = client(port, &["--local-infile=1"], &format!("{sql} INFILE '/etc/hostname' INTO TABLE t"));
        assert!(output.contains("ERROR 4166") && output.contains("local_infile"), "{sql}: {output}");
    }
    let output = client(
        port,
        &["--local-infile=1"],
        "PREPARE p FROM \"LOAD DATA LOCAL INFILE '/etc/hostname' INTO TABLE t\"; EXECUTE p",
    );
    assert!(output.contains("ERROR"), "{output}");
    assert_eq!(cluster.primary.sql("SELECT COUNT(*) FROM d.t"), "0");
}
