//! What tables and views hide from whoever reads a statement alone: locks that a trigger takes, numbers of a sequence that a
//! column's default uses, views that ask for the last insert id. A session must get from these what a single server would give it,
//! and nothing of other sessions.

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

use mariadb::{Cluster, USER};
use mysql_async::prelude::Queryable;
use sessions::{block_on, connect, mark_servers, one, wait_for_reads_on_replica};
use support::*;

const TABLES: &str = "
    CREATE SEQUENCE d.s;
    CREATE TABLE d.numbered (id BIGINT DEFAULT NEXTVAL(d.s), a INT) ENGINE=InnoDB;
    CREATE TABLE d.locking (a INT) ENGINE=InnoDB;
    CREATE TRIGGER d.locking_i BEFORE INSERT ON d.locking FOR EACH ROW SET NEW.a = GET_LOCK('of_trigger', 0);
    CREATE TABLE d.noting (a INT) ENGINE=InnoDB;
    CREATE TRIGGER d.noting_i BEFORE INSERT ON d.noting FOR EACH ROW SELECT NEW.a + 1 INTO @noted;
    CREATE TABLE d.counting (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB AUTO_INCREMENT=7;
    CREATE VIEW d.takes AS SELECT GET_LOCK('of_view', 0) AS g;
    CREATE VIEW d.over AS SELECT g FROM d.takes;
    CREATE VIEW d.asks AS SELECT LAST_INSERT_ID() AS id;
    CREATE TABLE d.plain (a INT) ENGINE=InnoDB;
    CREATE TABLE d.audited (id INT AUTO_INCREMENT PRIMARY KEY, a INT) ENGINE=InnoDB;
    CREATE PROCEDURE d.audit() UPDATE d.plain SET a = ROW_COUNT() + FOUND_ROWS() WHERE a = -1;
    CREATE TRIGGER d.audited_i AFTER INSERT ON d.audited FOR EACH ROW CALL d.audit();
    CREATE TABLE d.late (a INT) ENGINE=InnoDB;
    CREATE TABLE d.later (a INT) ENGINE=InnoDB";

/// All that the account needs to see triggers and views.
fn cluster() -> Cluster {
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql(&format!("GRANT TRIGGER, SHOW VIEW ON *.* TO {USER}@'%';{TABLES}"));
    cluster.wait_for_replicas();
    cluster
}

/// Session `a` has what its statement took in secret, and `b`, which comes by the same pool, has nothing of it.
#[test]
fn what_triggers_views_and_defaults_do_stays_with_the_session_that_had_it_done() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster();
    for driver in [Driver::IoUring, Driver::Epoll] {
        cluster.primary.sql("TRUNCATE d.counting");
        cluster.wait_for_replicas();
        let server = split::site(driver, &cluster, "").start();
        let port = server.address("db").port();
        block_on(async {
            wait_for_reads_on_replica(port).await;
            locks_of_triggers(port).await;
            locks_of_views(port).await;
            numbers_of_defaults(port).await;
            variables_of_triggers(port).await;
            views_that_ask(port).await;
            what_hides_nothing_is_free(port).await;
            counts_of_routines_are_their_own(port).await;
        });
        let pinned = server.metric("one_server_splitter_pins_total", "reason=\"hidden_state\"");
        assert!(pinned >= 4.0, "{pinned} sessions were pinned by what tables hide");
        drop(server);
    }
}

/// What a routine behind a trigger counts has nothing to do with the statement before.
async fn counts_of_routines_are_their_own(port: u16) {
    let mut conn = connect(port).await;
    for n in 0..3 {
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "at a replica");
        conn.query_drop(format!("INSERT INTO audited (a) VALUES ({n}); SELECT LAST_INSERT_ID()")).await.expect("run");
    }
    conn.disconnect().await.unwrap();
}

async fn locks_of_triggers(port: u16) {
    let (mut a, mut b) = (connect(port).await, connect(port).await);
    a.query_drop("INSERT INTO locking VALUES (5)").await.unwrap();
    assert_eq!(one::<u8>(&mut b, "SELECT GET_LOCK('of_trigger', 0)").await, 0, "another session has it");
    assert_eq!(one::<u8>(&mut a, "SELECT RELEASE_LOCK('of_trigger')").await, 1, "its own");
    assert_eq!(one::<u8>(&mut b, "SELECT GET_LOCK('of_trigger', 5)").await, 1);
    b.disconnect().await.unwrap();
    // As a prepared statement; and it goes with its session.
    a.exec_drop("INSERT INTO d.`locking` VALUES (?)", (1,)).await.unwrap();
    let mut b = connect(port).await;
    a.disconnect().await.unwrap();
    assert_eq!(one::<u8>(&mut b, "SELECT GET_LOCK('of_trigger', 5)").await, 1);
    b.disconnect().await.unwrap();
}

async fn locks_of_views(port: u16) {
    for view in ["takes", "d.over"] {
        let (mut a, mut b) = (connect(port).await, connect(port).await);
        assert_eq!(one::<u8>(&mut a, &format!("SELECT g FROM {view}")).await, 1);
        assert_eq!(one::<u8>(&mut b, "SELECT GET_LOCK('of_view', 0)").await, 0, "{view}");
        a.disconnect().await.unwrap();
        assert_eq!(one::<u8>(&mut b, "SELECT GET_LOCK('of_view', 5)").await, 1, "it goes with its session");
        assert_eq!(one::<u8>(&mut b, "SELECT RELEASE_LOCK('of_view')").await, 1);
        b.disconnect().await.unwrap();
    }
}

async fn numbers_of_defaults(port: u16) {
    let (mut a, mut b) = (connect(port).await, connect(port).await);
    a.query_drop("INSERT INTO numbered (a) VALUES (1)").await.unwrap();
    let own: i64 = one(&mut a, "SELECT MAX(id) FROM numbered FOR UPDATE").await;
    assert_eq!(one::<Option<i64>>(&mut b, "SELECT LASTVAL(s)").await, None, "it has used none");
    assert_eq!(one::<Option<i64>>(&mut a, "SELECT LASTVAL(s)").await, Some(own));
    assert_eq!(one::<Option<i64>>(&mut a, "SELECT PREVIOUS VALUE FOR s").await, Some(own));
    a.disconnect().await.unwrap();
    b.disconnect().await.unwrap();
}

async fn variables_of_triggers(port: u16) {
    let (mut a, mut b) = (connect(port).await, connect(port).await);
    a.query_drop("INSERT INTO noting VALUES (5)").await.unwrap();
    assert_eq!(one::<Option<i64>>(&mut b, "SELECT @noted").await, None);
    assert_eq!(one::<Option<i64>>(&mut a, "SELECT @noted").await, Some(6));
    a.disconnect().await.unwrap();
    b.disconnect().await.unwrap();
}

async fn views_that_ask(port: u16) {
    let mut a = connect(port).await;
    a.query_drop("INSERT INTO counting VALUES (NULL)").await.unwrap();
    let id = a.last_insert_id().unwrap();
    assert_eq!(one::<u64>(&mut a, "SELECT id FROM asks").await, id);
    a.disconnect().await.unwrap();
}

/// Reads of tables with triggers, and writes to others, tie nobody.
async fn what_hides_nothing_is_free(port: u16) {
    let mut a = connect(port).await;
    a.query_drop("INSERT INTO plain VALUES (1)").await.unwrap();
    a.query_drop("SELECT * FROM locking").await.unwrap();
    assert_eq!(one::<u32>(&mut a, "SELECT id FROM who").await, 2, "on the replica");
    a.disconnect().await.unwrap();
}

/// What is defined through the splitter counts at once, what is defined elsewhere a moment later.
#[test]
fn definitions_are_noticed() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster();
    let server = split::site(Driver::Epoll, &cluster, "").process("control = \"$DIR/ctl.sock\"").start();
    let port = server.address("db").port();
    block_on(async {
        wait_for_reads_on_replica(port).await;
        for round in 0..5 {
            let (mut a, mut b) = (connect(port).await, connect(port).await);
            let body = format!("SET NEW.a = GET_LOCK('late{round}', 0)");
            a.query_drop("DROP TRIGGER IF EXISTS late_i").await.unwrap();
            a.query_drop(format!("CREATE TRIGGER late_i BEFORE INSERT ON late FOR EACH ROW {body}")).await.unwrap();
            b.query_drop("INSERT INTO late VALUES (5)").await.unwrap();
            assert_eq!(one::<u8>(&mut a, &format!("SELECT GET_LOCK('late{round}', 0)")).await, 0, "round {round}");
            a.disconnect().await.unwrap();
            b.disconnect().await.unwrap();
        }
    });
    let hides = |count: usize| format!("  {count} tables and views do what no statement shows");
    let before = server.ctl_ok(&["mysql", "show"]);
    assert!(before.contains(&hides(7)), "{before}");
    cluster
        .primary
        .sql("CREATE TRIGGER d.later_i BEFORE INSERT ON d.later FOR EACH ROW SET NEW.a = GET_LOCK('later', 0)");
    let deadline = Instant::now() + PATIENCE;
    while !server.ctl_ok(&["mysql", "show"]).contains(&hides(8)) {
        assert!(Instant::now() < deadline, "{}", server.ctl_ok(&["mysql", "show"]));
        std::thread::sleep(Duration::from_millis(50));
    }
    block_on(async {
        let (mut a, mut b) = (connect(port).await, connect(port).await);
        a.query_drop("INSERT INTO later VALUES (5)").await.unwrap();
        assert_eq!(one::<u8>(&mut b, "SELECT GET_LOCK('later', 0)").await, 0);
    });
}

/// The operator hears of rights that are missing.
#[test]
fn what_the_account_may_not_see_is_told() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    let server = split::site(Driver::Epoll, &cluster, "").process("control = \"$DIR/ctl.sock\"").start();
    server.wait_for_line("the rights", |line| line.contains("GRANT TRIGGER, SHOW VIEW ON *.*"));
    let shown = server.ctl_ok(&["mysql", "show"]);
    assert!(shown.contains("the account lacks TRIGGER and SHOW VIEW on *.*"), "{shown}");
}

/// A read with a time limit of its own, which what it does not show could hide behind: it runs wherever reads do.
#[test]
fn a_limited_read_runs_also_where_not_everything_can_be_seen() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql("CREATE USER reports@'%' IDENTIFIED BY 'r3ports'; GRANT SELECT ON d.* TO reports@'%'");
    cluster
        .primary
        .sql("SET sql_log_bin=0; CREATE TABLE d.fresh (id INT) ENGINE=InnoDB; INSERT INTO d.fresh VALUES (7)");
    cluster.wait_for_replicas();
    let users =
        "causal_reads = \"off\"\n[[mysql.db.users]]\nname = \"reports\"\npassword = \"r3ports\"\nread_only = true\n";
    let server = split::site(Driver::Auto, &cluster, users).start();
    let port = server.address("db").port();
    let limited = |query: &str| format!("SET STATEMENT max_statement_time=10 FOR {query}");
    block_on(async {
        wait_for_reads_on_replica(port).await;
        let mut conn = connect(port).await;
        conn.query_drop("START TRANSACTION READ ONLY").await.unwrap();
        for _ in 0..2 {
            assert_eq!(
                one::<u32>(&mut conn, &limited("SELECT id FROM who")).await,
                2,
                "in a transaction on the replica"
            );
        }
        conn.query_drop("COMMIT").await.unwrap();
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
        let options = sessions::options(port).user(Some("reports")).pass(Some("r3ports")).db_name(Some("d"));
        let mut reports = mysql_async::Conn::new(options).await.unwrap();
        assert_eq!(one::<u32>(&mut reports, &limited("SELECT id FROM who")).await, 1, "an account that may only read");
        reports.disconnect().await.unwrap();
    });
    server.wait_until_no_client();
    cluster.primary.sql(&format!("GRANT TRIGGER, SHOW VIEW ON *.* TO {USER}@'%'"));
    cluster.wait_for_replicas();
    let server = split::site(Driver::Auto, &cluster, users).start();
    let port = server.address("db").port();
    block_on(async {
        wait_for_reads_on_replica(port).await;
        let mut conn = connect(port).await;
        assert_eq!(one::<u32>(&mut conn, &limited("SELECT id FROM fresh")).await, 7, "no replica has it");
        let mut other = connect(port).await;
        for _ in 0..4 {
            other.query_drop("START TRANSACTION READ ONLY").await.unwrap();
            assert_eq!(one::<u32>(&mut other, "SELECT id FROM who").await, 2);
            other.query_drop("COMMIT").await.unwrap();
        }
        // What a replica has warned of before has nothing to do with it.
        assert_eq!(one::<u32>(&mut other, "SELECT id + (CAST('x' AS INT) = 1) FROM who").await, 2);
        let shown = other.query_first::<(String, String), _>(limited("SHOW VARIABLES LIKE 'version'")).await.unwrap();
        assert_eq!(shown.unwrap().0, "version");
        assert_eq!(server.metric("one_server_splitter_sessions_pinned", "reason=\"state_change\""), 0.0);
    });
}

/// Texts as long as a packet can be are looked into: one that inserts many rows ties its session no more than one that inserts one.
#[test]
fn long_statements_tie_nobody() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster();
    cluster.primary.sql("SET GLOBAL max_allowed_packet = 64 << 20");
    let server = split::site(Driver::Auto, &cluster, "").start();
    let port = server.address("db").port();
    block_on(async {
        wait_for_reads_on_replica(port).await;
        let mut conn = connect(port).await;
        let rows = "(1),".repeat((2 << 20) / 4);
        conn.query_drop(format!("INSERT INTO plain VALUES {rows}(2)")).await.unwrap();
        assert_eq!(server.metric("one_server_splitter_sessions_pinned", ""), 0.0);
        cluster.wait_for_replicas();
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "its reads go to the replica");
        assert_eq!(one::<u64>(&mut conn, "SELECT COUNT(*) FROM plain").await, (2 << 20) / 4 + 1);
    });
}

/// The connection that alone knew the last insert id is gone: nobody is told another one.
#[test]
fn a_last_insert_id_that_is_lost_is_not_made_up() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster();
    cluster.primary.sql(
        "CREATE PROCEDURE d.asks_too() SELECT LAST_INSERT_ID(); CREATE TABLE d.entries (a INT, parent BIGINT) ENGINE=InnoDB;
         CREATE TRIGGER d.entries_i BEFORE INSERT ON d.entries FOR EACH ROW SET NEW.parent = LAST_INSERT_ID()",
    );
    let server = split::site(Driver::Auto, &cluster, "").start();
    let port = server.address("db").port();
    let lose = async |conn: &mut mysql_async::Conn| {
        conn.query_drop("INSERT INTO counting VALUES (NULL)").await.unwrap();
        let idle = "SELECT id FROM information_schema.processlist WHERE command = 'Sleep' AND db = 'd'";
        for id in cluster.primary.sql(idle).lines() {
            cluster.primary.sql(&format!("KILL {id}"));
        }
    };
    block_on(async {
        wait_for_reads_on_replica(port).await;
        let mut conn = connect(port).await;
        lose(&mut conn).await;
        for _ in 0..3 {
            let error = conn.query_drop("SELECT LAST_INSERT_ID()").await.expect_err("it is not known");
            assert_eq!(sessions::code(&error), 1158);
        }
        for sql in [
            "INSERT INTO entries (a) VALUES (1)",
            "SELECT id FROM asks",
            "SELECT a FROM plain; SELECT LAST_INSERT_ID()",
            "INSERT INTO plain VALUES (1); INSERT INTO entries (a) VALUES (1)",
        ] {
            let mut conn = connect(port).await;
            lose(&mut conn).await;
            for two in ["UPDATE plain SET a = 1; UPDATE plain SET a = 2", "SELECT a FROM plain; SELECT 1"] {
                conn.query_drop(two).await.unwrap();
            }
            assert!(!conn.query::<mysql_async::Row, _>("SHOW VARIABLES").await.unwrap().is_empty(), "a list is a list");
            let error = conn.query_drop("SHOW VARIABLES LIKE 'last_insert_id'").await.expect_err("it is not known");
            assert_eq!(sessions::code(&error), 1158, "{error}");
            let error = conn.query_drop(sql).await.expect_err("it may ask");
            assert_eq!(sessions::code(&error), 1158, "{sql}: {error}");
            // A client that writes in no other way connects again.
            assert_eq!(conn.query_drop("SELECT 1").await.is_err(), sql.contains("entries"), "{sql}");
        }
        assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM entries").await, 0);
        conn.query_drop("SET @mine = 1").await.unwrap();
        let error = conn.query_drop("SELECT LAST_INSERT_ID()").await.expect_err("it is not known there, either");
        assert_eq!(sessions::code(&error), 1158);
        conn.query_drop("INSERT INTO counting VALUES (NULL)").await.unwrap();
        let id = conn.last_insert_id().unwrap();
        assert_eq!(one::<u64>(&mut conn, "SELECT LAST_INSERT_ID()").await, id, "another one is");
        conn.query_drop("INSERT INTO entries (a) VALUES (1)").await.unwrap();
        assert_eq!(one::<u64>(&mut conn, "SELECT parent FROM entries").await, id);
        let mut conn = connect(port).await;
        lose(&mut conn).await;
        let error = conn.query_drop("CALL asks_too()").await.expect_err("it may ask");
        assert_eq!(sessions::code(&error), 1158);
        assert!(conn.query_drop("SELECT 1").await.is_err(), "its session cannot go on");
    });
}
