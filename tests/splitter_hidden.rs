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
        });
        let pinned = server.metric("one_server_splitter_pins_total", "reason=\"hidden_state\"");
        assert!(pinned >= 4.0, "{pinned} sessions were pinned by what tables hide");
        drop(server);
    }
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
