//! Rules with `unpinned`: the operator says that some procedures leave nothing behind in a session. Where that is so, a session
//! that calls them gets the same answers without a connection of its own. Where it is not, nothing of it is ever seen by
//! another session; what servers report of it (a temporary table, a setting) pins all the same.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "other tests look at packets")]
mod sessions;

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use sessions::{block_on, code, connect, mark_servers, one, options, wait_for_reads_on_replica};
use support::{Driver, Server, Site, eventually, ports};

/// An account that no rule is about.
const OTHER: &str = "other";

fn splitter(driver: Driver, cluster: &Cluster) -> (Server, u16) {
    let site = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";
    let mysql = format!(
        "[mysql.db]\nlisten = \"127.0.0.1:0\"\nprimary = \"127.0.0.1:{}\"\nreplicas = [\"127.0.0.1:{}\"]\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\npool_max = 2\ncausal_timeout = \"10s\"\nmonitor_interval = \"100ms\"\n\
         users = [{{ name = \"{OTHER}\", password = \"{PASSWORD}\" }}]\n\
         rules = [{{ users = [\"{USER}\"], digest_regex = \"^CALL (d[.])?t_\", unpinned = true }}]\n",
        cluster.primary.port, cluster.replicas[0].port
    );
    let server = Site::new(driver, site).one_worker().more(&mysql).start();
    let port = server.address("db").port();
    block_on(wait_for_reads_on_replica(port));
    (server, port)
}

/// A pinned session reads at the primary, another one at the replica.
async fn is_pinned(conn: &mut Conn) -> bool {
    one::<u32>(conn, "SELECT id FROM who").await == 1
}

/// Two sessions have each of the primary's connections for a while; and see nothing that is not theirs.
async fn others_see_nothing(port: u16) {
    let (mut first, mut second) = (connect(port).await, connect(port).await);
    // Each of the two connections is reset when it is lent.
    for conn in [&mut first, &mut second] {
        conn.query_drop("BEGIN").await.unwrap();
        conn.query_drop("SELECT id FROM who").await.unwrap();
    }
    for conn in [&mut first, &mut second] {
        let row: Row =
            conn.query_first("SELECT @v, @@group_concat_max_len = 77, IS_FREE_LOCK('taken')").await.unwrap().unwrap();
        let (variable, is_set, is_free): (Option<u32>, u32, u32) = mysql_async::from_row(row);
        assert_eq!((variable, is_set, is_free), (None, 0, 1));
        assert_eq!(code(&conn.query_drop("SELECT * FROM made").await.unwrap_err()), 1146);
        assert_eq!(code(&conn.query_drop("EXECUTE kept").await.unwrap_err()), 1243);
        assert_eq!(code(&conn.query_drop("HANDLER who READ FIRST").await.unwrap_err()), 1109);
    }
    for conn in [first, second] {
        conn.disconnect().await.unwrap();
    }
}

#[test]
fn procedures_that_are_trusted_do_not_pin_and_leak_to_nobody() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql(&format!(
        "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT) ENGINE=InnoDB;
         CREATE USER {OTHER}@'%' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT, INSERT, EXECUTE ON d.* TO {OTHER}@'%';
         CREATE PROCEDURE d.t_add(IN n INT) INSERT INTO d.t (v) VALUES (n);
         CREATE PROCEDURE d.add_pinned(IN n INT) INSERT INTO d.t (v) VALUES (n);
         CREATE PROCEDURE d.t_two() SELECT 1 UNION SELECT 2;
         CREATE PROCEDURE d.t_out(OUT n INT) SET n = 5;
         CREATE PROCEDURE d.t_variable() SET @v = 1;
         CREATE PROCEDURE d.t_silent() SELECT 1 INTO @v;
         CREATE PROCEDURE d.t_lock() DO GET_LOCK('taken', 0);
         CREATE PROCEDURE d.t_set() SET SESSION group_concat_max_len=77;
         CREATE PROCEDURE d.t_make() CREATE TEMPORARY TABLE made (id INT);
         CREATE PROCEDURE d.t_prepare() PREPARE kept FROM 'SELECT 1';
         CREATE PROCEDURE d.t_warn() SELECT CAST('x' AS INT)"
    ));
    cluster.wait_for_replicas();
    for driver in [Driver::IoUring, Driver::Epoll] {
        let (server, port) = splitter(driver, &cluster);
        block_on(async {
            what_is_called_answers_as_ever(port).await;
            what_is_left_behind_is_for_nobody_else(port, &server).await;
            only_these_procedures_and_this_account(port, &server).await;
        });
        eventually("all sessions have ended", || server.status()["splitters"][0]["pinned"] == 0);
    }
}

async fn what_is_called_answers_as_ever(port: u16) {
    let mut conn = connect(port).await;
    for n in 1..4u64 {
        conn.query_drop(format!("CALL t_add({n})")).await.unwrap();
        // Known where it ran, and nowhere else: others have that connection now.
        if n == 2 {
            others_see_nothing(port).await;
        }
        let id: u64 = one(&mut conn, "SELECT LAST_INSERT_ID()").await;
        assert_eq!(
            one::<u64>(&mut conn, &format!("SELECT v FROM t WHERE id = {id}")).await,
            n,
            "its own write is seen"
        );
    }
    conn.exec_drop("CALL d.t_add(?)", (4,)).await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 4);
    let rows: Vec<u32> = conn.query("CALL t_two()").await.unwrap();
    assert_eq!(rows, [1, 2]);
    conn.query_drop("DELETE FROM t").await.unwrap();
    assert!(!is_pinned(&mut conn).await);
    // Counts and warnings: the server's answer, or none.
    for (call, question, answer) in [
        ("CALL t_add(7)", "SELECT ROW_COUNT()", 1),
        ("CALL t_two()", "SELECT FOUND_ROWS()", 2),
        ("CALL t_warn()", "SELECT @@warning_count", 1),
    ] {
        for moved in [false, true] {
            let mut conn = connect(port).await;
            conn.query_drop(call).await.unwrap();
            if moved {
                others_see_nothing(port).await;
            }
            match conn.query_first::<i64, _>(question).await {
                Ok(told) => assert_eq!(told, Some(answer), "{call}; {question}, moved: {moved}"),
                Err(error) => assert_eq!((code(&error), moved), (1105, true), "{call}; {question}: {error}"),
            }
            conn.disconnect().await.unwrap();
        }
    }
    // In a transaction: all of it, or nothing.
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("CALL t_add(8)").await.unwrap();
    others_see_nothing_of_transactions(port).await;
    conn.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t WHERE v = 8").await, 0);
    conn.query_drop("DELETE FROM t").await.unwrap();
    // A procedure could take a lock there, and release it: of the wrong server.
    conn.query_drop("START TRANSACTION READ ONLY").await.unwrap();
    assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
    let error = conn.query_drop("CALL t_two()").await.unwrap_err();
    assert!(code(&error) == 1792 && error.to_string().contains("runs on a replica"), "{error}");
    conn.query_drop("COMMIT").await.unwrap();
    conn.disconnect().await.unwrap();
}

async fn others_see_nothing_of_transactions(port: u16) {
    let mut conn = connect(port).await;
    assert_eq!(one::<u32>(&mut conn, "/* one-server: primary */ SELECT COUNT(*) FROM t WHERE v = 8").await, 0);
    conn.disconnect().await.unwrap();
}

async fn what_is_left_behind_is_for_nobody_else(port: u16, server: &Server) {
    // Reported by the server, or not.
    for (call, pins) in [
        ("CALL t_variable()", true),
        ("CALL t_silent()", false),
        ("CALL t_lock()", false),
        ("CALL t_set()", true),
        ("CALL t_make()", true),
        ("CALL t_prepare()", true),
    ] {
        let mut conn = connect(port).await;
        conn.query_drop(call).await.unwrap();
        assert_eq!(server.status()["splitters"][0]["pinned"], u32::from(pins), "{call}");
        if pins {
            conn.reset().await.unwrap();
        }
        others_see_nothing(port).await;
        conn.disconnect().await.unwrap();
        others_see_nothing(port).await;
    }
}

async fn only_these_procedures_and_this_account(port: u16, server: &Server) {
    let mut conn = connect(port).await;
    for (call, pins) in [
        ("CALL t_add(1)", false),
        ("CALL add_pinned(1)", true),
        ("CALL t_out(@n)", true),
        ("CALL t_add(LAST_INSERT_ID(5))", false),
        ("CALL t_add(NEXTVAL(none))", true),
        ("CALL t_add(1); CALL t_add(2)", true),
    ] {
        let _ = conn.query_drop(call).await;
        assert_eq!(server.status()["splitters"][0]["pinned"], u32::from(pins), "{call}");
        conn.reset().await.unwrap();
        conn.query_drop("DELETE FROM t").await.unwrap();
    }
    conn.disconnect().await.unwrap();
    let mut other = Conn::new(options(port).user(Some(OTHER)).db_name(Some("d"))).await.unwrap();
    other.query_drop("CALL t_two()").await.unwrap();
    assert!(is_pinned(&mut other).await, "no rule is about this account");
    other.disconnect().await.unwrap();
}
