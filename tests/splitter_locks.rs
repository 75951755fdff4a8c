//! A session that has taken locks stays on its connection, and leaves it once it has none any more: `RELEASE_ALL_LOCKS()`,
//! `RELEASE_LOCK()` of the last one, as often as it was taken, UNLOCK TABLES. Random scripts are compared with what the server
//! says of its locks; what nobody can know (a procedure, an expression for a name) keeps the pin.

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
use one_server::util::random::Random;
use sessions::{block_on, code, connect, mark_servers, one, wait_for_reads_on_replica};
use support::{Driver, Server, Site, ports};

fn splitter(driver: Driver, cluster: &Cluster) -> (Server, u16) {
    let site = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";
    let mysql = format!(
        "[mysql.db]\nlisten = \"127.0.0.1:0\"\nprimary = \"127.0.0.1:{}\"\nreplicas = [\"127.0.0.1:{}\"]\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\npool_max = 4\ncausal_timeout = \"10s\"\nmonitor_interval = \"100ms\"\n",
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

#[test]
fn a_session_without_locks_is_not_pinned_any_more() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql(&format!(
        "GRANT RELOAD ON *.* TO {USER}@'%'; CREATE TABLE d.t (id INT) ENGINE=InnoDB;
         CREATE PROCEDURE d.take() DO GET_LOCK('taken', 0)"
    ));
    cluster.wait_for_replicas();
    for driver in [Driver::IoUring, Driver::Epoll] {
        let (server, port) = splitter(driver, &cluster);
        block_on(async {
            each_script_ends_pinned_or_not(port, &server).await;
            what_was_asked_before_is_still_answered(port).await;
            for seed in 1..4 {
                random_locks(port, &cluster, &server, seed).await;
            }
        });
    }
}

async fn each_script_ends_pinned_or_not(port: u16, server: &Server) {
    for (script, stays) in [
        (&["SELECT GET_LOCK('a', 0)"][..], true),
        (&["SELECT GET_LOCK('a', 0)", "SELECT RELEASE_LOCK('a')"], false),
        (&["DO GET_LOCK('a', 0)", "DO RELEASE_LOCK('a')"], false),
        (&["SELECT GET_LOCK('a', 0)", "SELECT GET_LOCK('a', 0)", "SELECT RELEASE_LOCK('a')"], true),
        (&["SELECT GET_LOCK('a', 0)", "DO GET_LOCK('a', 0)", "DO RELEASE_LOCK('a')", "DO RELEASE_LOCK('a')"], false),
        (&["SELECT GET_LOCK('a', 0)", "SELECT GET_LOCK('b', 0)", "SELECT RELEASE_LOCK('a')"], true),
        (&["SELECT GET_LOCK('a', 0)", "SELECT GET_LOCK('b', 0)", "SELECT RELEASE_ALL_LOCKS()"], false),
        (&["SELECT GET_LOCK('a', 0)", "SELECT RELEASE_LOCK('b')"], true),
        (&["SELECT RELEASE_LOCK('a')"], false),
        (&["SELECT RELEASE_ALL_LOCKS() AS n"], false),
        (&["UNLOCK TABLES"], false),
        (&["LOCK TABLES t WRITE, who READ"], true),
        (&["LOCK TABLES t WRITE", "UNLOCK TABLES"], false),
        (&["LOCK TABLES t WRITE", "INSERT INTO t VALUES (1)", "DELETE FROM t", "UNLOCK TABLES"], false),
        (&["FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES"], false),
        (&["LOCK TABLES t READ", "SELECT GET_LOCK('a', 0)", "UNLOCK TABLES"], true),
        (&["LOCK TABLES t READ", "SELECT GET_LOCK('a', 0)", "UNLOCK TABLES", "SELECT RELEASE_LOCK('a')"], false),
        // What nobody knows.
        (&["CALL take()", "SELECT RELEASE_LOCK('taken')"], true),
        (&["SELECT GET_LOCK('a', 0)", "CALL take()", "SELECT RELEASE_ALL_LOCKS()"], true),
        (&["SELECT GET_LOCK(CONCAT('a', 'b'), 0)", "SELECT RELEASE_LOCK('ab')"], true),
        (&["SELECT GET_LOCK('a', 0), GET_LOCK('b', 0)", "SELECT RELEASE_ALL_LOCKS()"], true),
        (&["SET @a = 1", "SELECT GET_LOCK('a', 0)", "SELECT RELEASE_LOCK('a')"], true),
        (&["SELECT GET_LOCK('a', 0)", "SET @a = 1", "SELECT RELEASE_LOCK('a')"], true),
        (&["SELECT GET_LOCK('a', 0)", "CREATE TEMPORARY TABLE x (a INT)", "SELECT RELEASE_LOCK('a')"], true),
        (&["SELECT GET_LOCK('a', 0)", "SET NAMES latin1", "SELECT RELEASE_LOCK('a')"], true),
        (&["HANDLER who OPEN", "UNLOCK TABLES"], true),
    ] {
        let mut conn = connect(port).await;
        for sql in script {
            conn.query_drop(*sql).await.unwrap_or_else(|error| panic!("{script:?}: {sql}: {error}"));
        }
        // A statement behind it decides nothing any more; rows of tables that are not locked cannot be read.
        let _ = conn.query_drop("SELECT id FROM who").await;
        assert_eq!(server.status()["splitters"][0]["pinned"], u32::from(stays), "{script:?}");
        conn.reset().await.unwrap();
        conn.disconnect().await.unwrap();
    }
}

/// A question about the statement before is answered as by a server, or refused.
async fn what_was_asked_before_is_still_answered(port: u16) {
    let mut conn = connect(port).await;
    conn.query_drop("INSERT INTO t VALUES (1), (2)").await.unwrap();
    for (before, question, answer) in [
        ("SELECT RELEASE_LOCK('a')", "SELECT ROW_COUNT()", -1),
        ("SELECT RELEASE_LOCK('a')", "SELECT FOUND_ROWS()", 1),
        ("SELECT RELEASE_ALL_LOCKS()", "SELECT ROW_COUNT()", -1),
        ("SELECT RELEASE_ALL_LOCKS()", "SELECT FOUND_ROWS()", 1),
        ("UNLOCK TABLES", "SELECT ROW_COUNT()", 0),
    ] {
        conn.query_drop("SELECT GET_LOCK('a', 0)").await.unwrap();
        if before == "UNLOCK TABLES" {
            conn.query_drop("SELECT RELEASE_LOCK('a')").await.unwrap();
            conn.query_drop("LOCK TABLES t WRITE").await.unwrap();
        }
        conn.query_drop(before).await.unwrap();
        match conn.query_first::<i64, _>(question).await {
            Ok(told) => assert_eq!(told, Some(answer), "{before}; {question}"),
            Err(error) => assert_eq!(code(&error), 1105, "{before}; {question}: {error}"),
        }
        // The write's GTID is in the session's token all the same.
        assert!(!is_pinned(&mut conn).await, "{before}");
    }
    assert_eq!(one::<u32>(&mut conn, "SELECT COUNT(*) FROM t").await, 2);
    conn.query_drop("DELETE FROM t").await.unwrap();
    // A statement that was prepared under the lock is executed after it.
    conn.query_drop("DO GET_LOCK('a', 0)").await.unwrap();
    let kept = conn.prep("SELECT id + ? FROM who").await.unwrap();
    assert_eq!(conn.exec_first(&kept, (10,)).await.unwrap(), Some(11));
    conn.query_drop("DO RELEASE_LOCK('a')").await.unwrap();
    let id: u32 = conn.exec_first(&kept, (10,)).await.unwrap().unwrap();
    assert!(id == 11 || id == 12);
    conn.disconnect().await.unwrap();
}

/// Three sessions, three names.
async fn random_locks(port: u16, cluster: &Cluster, server: &Server, seed: u64) {
    const NAMES: [&str; 3] = ["x", "y", "z"];
    let mut random = Random::new(seed);
    let mut conns = [connect(port).await, connect(port).await, connect(port).await];
    let mut held = [[0u32; 3]; 3];
    for step in 0..60 {
        let (who, name) = (random.below(3), random.below(3));
        let conn = &mut conns[who];
        let what = match random.below(8) {
            0..=2 => {
                let got: u32 = one(conn, &format!("SELECT GET_LOCK('{}', 0)", NAMES[name])).await;
                held[who][name] += got;
                "takes"
            }
            3..=5 => {
                let row: Row =
                    conn.query_first(format!("SELECT RELEASE_LOCK('{}')", NAMES[name])).await.unwrap().unwrap();
                let released = row.get::<Option<u32>, _>(0).unwrap();
                assert_eq!(released == Some(1), held[who][name] > 0, "seed {seed}, step {step}");
                held[who][name] -= u32::from(released == Some(1));
                "releases"
            }
            6 => {
                let all: u32 = one(conn, "SELECT RELEASE_ALL_LOCKS()").await;
                assert_eq!(all, held[who].iter().sum::<u32>(), "seed {seed}, step {step}");
                held[who] = [0; 3];
                "releases all"
            }
            _ => {
                // A session that asked for a lock in vain may stay pinned until it releases one.
                if held[who].iter().any(|count| *count > 0) {
                    assert!(is_pinned(conn).await, "seed {seed}, step {step}");
                }
                "reads"
            }
        };
        let asked = NAMES.map(|name| format!("IS_USED_LOCK('{name}') IS NOT NULL"));
        let used = cluster.primary.sql(&format!("SELECT {}", asked.join(", ")));
        let is_held = |name: usize| u32::from(held.iter().any(|counts| counts[name] > 0));
        let expected = format!("{}\t{}\t{}", is_held(0), is_held(1), is_held(2));
        assert_eq!(used, expected, "seed {seed}, step {step}: session {who} {what} {}", NAMES[name]);
    }
    for (conn, counts) in conns.iter_mut().zip(&held) {
        for (name, count) in NAMES.iter().zip(counts) {
            for _ in 0..*count {
                conn.query_drop(format!("SELECT RELEASE_LOCK('{name}')")).await.unwrap();
            }
        }
        conn.query_drop("SELECT RELEASE_LOCK('none')").await.unwrap();
    }
    assert_eq!(server.status()["splitters"][0]["pinned"], 0, "seed {seed}: nobody has a lock");
    for mut conn in conns {
        assert!(!is_pinned(&mut conn).await, "seed {seed}");
        conn.disconnect().await.unwrap();
    }
}
