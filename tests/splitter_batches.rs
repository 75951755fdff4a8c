//! Several statements in one command, as EF Core sends them for each row that it saves, and mysqli's `multi_query`: the session goes on
//! without a connection of its own unless one of them would tie it by itself, and whoever has the connection next finds nothing there.
//! That the answers are those of a single server is compared in `splitter_as_one.rs` and `splitter_twin.rs`.

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

use mariadb::{Cluster, PASSWORD};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use sessions::{block_on, code, connect, mark_servers, one, options, wait_for_reads_on_replica};
use support::*;

const SAVE: &str = "INSERT INTO people (name) VALUES ('x'); \
                    SELECT id FROM people WHERE ROW_COUNT() = 1 AND id = LAST_INSERT_ID()";

async fn pinned(server: &Server, port: u16, sql: &str) -> bool {
    let count = || server.metric("one_server_splitter_pins_total", "reason=\"multi_statement\"");
    let before = count();
    let mut conn = connect(port).await;
    conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let is_tied = count() > before;
    let at = one::<u32>(&mut conn, "SELECT id FROM who").await;
    // A write of before may have the read wait, but only a pin keeps it on the primary.
    assert_eq!(at == 1, is_tied, "{sql}");
    conn.disconnect().await.unwrap();
    is_tied
}

#[test]
fn only_what_would_tie_by_itself_ties_in_a_batch() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql(&format!(
        "CREATE TABLE d.people (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20)) ENGINE=InnoDB;
         CREATE PROCEDURE d.p() SELECT 1; CREATE USER reader@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO reader@'%'"
    ));
    cluster.wait_for_replicas();
    for driver in [Driver::IoUring, Driver::Epoll] {
        let keys = format!(
            "causal_timeout = \"10s\"\npool_max = 2\n\
             users = [{{ name = \"reader\", password = \"{PASSWORD}\", read_only = true }}]"
        );
        let server = split::site(driver, &cluster, &keys).start();
        let port = server.address("db").port();
        block_on(async {
            wait_for_reads_on_replica(port).await;
            for sql in
                [SAVE, "SELECT 1; SELECT NAME FROM people", "BEGIN; INSERT INTO people (name) VALUES ('y'); COMMIT;"]
            {
                assert!(!pinned(&server, port, sql).await, "{sql}");
            }
            for sql in
                ["SELECT 1; SET @a = 1", "CALL p(); SELECT 1", "SELECT 1; SELECT GET_LOCK('x', 0)", "USE d; SELECT 1"]
            {
                assert!(pinned(&server, port, sql).await, "{sql}");
            }
            many_save_at_once(port).await;
            a_read_only_account_may_read_in_a_batch(port).await;
        });
        eventually("all sessions have ended", || server.status()["splitters"][0]["pinned"] == 0);
        cluster.primary.sql("TRUNCATE d.people");
        cluster.wait_for_replicas();
    }
}

/// More clients than connections: each gets the id of its own row, and reads what it has written.
async fn many_save_at_once(port: u16) {
    let clients = (0..6).map(|_| {
        tokio::task::spawn(async move {
            let mut conn = connect(port).await;
            for _ in 0..20 {
                let id = save(&mut conn).await;
                assert_eq!(one::<u64>(&mut conn, "SELECT LAST_INSERT_ID()").await, id);
                assert_eq!(one::<u64>(&mut conn, &format!("SELECT COUNT(*) FROM people WHERE id = {id}")).await, 1);
            }
            conn.disconnect().await.unwrap();
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("no panic");
    }
}

async fn save(conn: &mut Conn) -> u64 {
    let mut results = conn.query_iter(SAVE).await.unwrap();
    assert!(results.collect::<Row>().await.unwrap().is_empty());
    let rows: Vec<u64> = results.collect().await.unwrap();
    rows[0]
}

async fn a_read_only_account_may_read_in_a_batch(port: u16) {
    let mut reader = Conn::new(options(port).user(Some("reader")).db_name(Some("d"))).await.unwrap();
    reader.query_drop("SELECT 1; SELECT COUNT(*) FROM people").await.unwrap();
    for sql in [SAVE, "SELECT 1; DELETE FROM people", "SELECT 1; CALL p()"] {
        let error = reader.query_drop(sql).await.expect_err("it writes, or may");
        assert_eq!(code(&error), 1290, "{sql}: {error}");
    }
    reader.disconnect().await.unwrap();
}

#[test]
fn a_batch_without_warnings_leaves_none() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    let server = split::site(Driver::Auto, &cluster, "pool_max = 1").start();
    let port = server.address("db").port();
    block_on(async {
        let (mut conn, mut other) = (connect(port).await, connect(port).await);
        for (batch, expect) in [("SELECT 1; SELECT 2", 0), ("SELECT 'a' + 1; SELECT 2", 1)] {
            for asks in ["SHOW WARNINGS", "SELECT @@warning_count"] {
                conn.query_drop(batch).await.unwrap();
                if expect == 0 {
                    other.query_drop("SELECT 1").await.unwrap();
                }
                let rows: Vec<Row> = conn.query(asks).await.unwrap_or_else(|error| panic!("{batch}: {asks}: {error}"));
                match asks {
                    "SHOW WARNINGS" => assert_eq!(rows.len(), expect, "{batch}"),
                    _ => assert_eq!(rows[0].get::<usize, _>(0), Some(expect), "{batch}"),
                }
            }
        }
    });
}

/// What nobody is told of keeps the reads of all sessions on the primary there.
#[test]
fn a_batch_that_has_written_nothing_keeps_no_reads_from_replicas() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    let keys = "causal_reads = \"node\"\ncausal_timeout = \"10s\"\npool_max = 4";
    let server = split::site(Driver::Auto, &cluster, keys).start();
    let port = server.address("db").port();
    block_on(async {
        wait_for_reads_on_replica(port).await;
        let (mut conn, mut other) = (connect(port).await, connect(port).await);
        for (batch, error) in [
            ("UPDATE who SET id = 7 WHERE id = 100; SELECT ROW_COUNT()", None),
            ("SELECT a FROM missing; DELETE FROM who WHERE id = 100", Some(1146)),
            ("SELEC 1; SELECT 2", Some(1064)),
        ] {
            let done = conn.query_drop(batch).await;
            assert_eq!(done.err().map(|error| code(&error)), error, "{batch}");
            assert_eq!(one::<u32>(&mut other, "SELECT id FROM who").await, 2, "{batch}");
        }
    });
}
