//! SET GLOBAL is for sessions that log on later: those that are there keep what they began with, on whichever connection of whichever
//! server their next statement runs. A reset of the session begins anew.

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
use sessions::{block_on, connect, mark_servers, one, options, wait_for_reads_on_replica};
use support::*;

const VALUES: &str =
    "SELECT @@sql_mode, @@group_concat_max_len, @@div_precision_increment, @@tx_isolation, @@foreign_key_checks";

async fn values(conn: &mut Conn) -> (String, u64, u64, String, u8) {
    mysql_async::from_row(conn.query_first::<Row, _>(VALUES).await.expect("values").expect("a row"))
}

/// Where a read runs, and what `1 / 3` and a text in double quotes are there.
async fn read(conn: &mut Conn) -> (u32, String, String) {
    let row: Row =
        conn.query_first("SELECT id, CAST(1 / 3 AS CHAR), \"id\" FROM who").await.expect("read").expect("a row");
    mysql_async::from_row(row)
}

#[test]
fn sessions_keep_what_was_global_when_they_logged_on() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    let servers = || [&cluster.primary].into_iter().chain(&cluster.replicas);
    let set = |values: &str| servers().for_each(|server| drop(server.sql(values)));
    for driver in [Driver::IoUring, Driver::Epoll] {
        set(
            "SET GLOBAL sql_mode='STRICT_ALL_TABLES', GLOBAL group_concat_max_len=4000, GLOBAL div_precision_increment=4, \
             GLOBAL tx_isolation='REPEATABLE-READ', GLOBAL foreign_key_checks=1",
        );
        let server = split::site(driver, &cluster, "pool_max = 2").start();
        let port = server.address("db").port();
        block_on(async {
            wait_for_reads_on_replica(port).await;
            let mut there = Vec::new();
            for _ in 0..3 {
                there.push(connect(port).await);
            }
            let spaced = options(port).db_name(Some("d")).init(vec!["SET group_concat_max_len = 50"]);
            let mut own = Conn::new(spaced).await.expect("a login");
            let before = ("STRICT_ALL_TABLES".to_owned(), 4000, 4, "REPEATABLE-READ".to_owned(), 1);
            for conn in &mut there {
                assert_eq!(values(conn).await, before);
                assert_eq!(read(conn).await, (2, "0.3333".into(), "id".into()));
            }
            set(
                "SET GLOBAL sql_mode='ANSI_QUOTES', GLOBAL group_concat_max_len=99, GLOBAL div_precision_increment=6, \
                 GLOBAL tx_isolation='READ-COMMITTED', GLOBAL foreign_key_checks=0",
            );
            let now = ("ANSI_QUOTES".to_owned(), 99, 6, "READ-COMMITTED".to_owned(), 0);
            loop {
                let mut fresh = connect(port).await;
                if values(&mut fresh).await == now && read(&mut fresh).await == (2, "0.333333".into(), "2".into()) {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            for conn in &mut there {
                assert_eq!(values(conn).await, before, "{driver:?}");
                assert_eq!(read(conn).await, (2, "0.3333".into(), "id".into()), "{driver:?}");
                conn.query_drop("BEGIN").await.unwrap();
                assert_eq!(read(conn).await, (1, "0.3333".into(), "id".into()), "{driver:?}");
                conn.query_drop("COMMIT").await.unwrap();
            }
            let set_before = (before.0.clone(), 50, before.2, before.3.clone(), before.4);
            assert_eq!(values(&mut own).await, set_before, "what it has set itself stays as well");
            // A reset: it begins anew, and is read as it begins.
            there[0].reset().await.expect("reset");
            there[0].query_drop("USE d").await.expect("a database");
            assert_eq!(read(&mut there[0]).await, (2, "0.333333".into(), "2".into()), "{driver:?}");
            assert_eq!(values(&mut there[1]).await, before, "{driver:?}");
        });
    }
}

/// Through the splitter it holds from the answer on.
#[test]
fn what_is_set_globally_through_the_splitter_is_known_at_once() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    cluster.primary.sql(&format!("CREATE USER chief@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO chief@'%'"));
    let keys = format!("pool_max = 4\nusers = [{{ name = \"chief\", password = \"{PASSWORD}\" }}]");
    let server = split::site(Driver::Auto, &cluster, &keys).start();
    let port = server.address("db").port();
    block_on(async {
        let mut chief = Conn::new(options(port).user(Some("chief")).db_name(Some("d"))).await.expect("a login");
        let mut there: Vec<(Conn, u64)> = Vec::new();
        for n in 100..130u64 {
            match n % 2 {
                0 => chief.query_drop(format!("SET GLOBAL group_concat_max_len = {n}")).await.expect("set"),
                _ => chief.exec_drop("SET GLOBAL group_concat_max_len = ?", (n,)).await.expect("set"),
            }
            there.push((connect(port).await, n));
            for (conn, begun) in &mut there {
                assert_eq!(one::<u64>(conn, "SELECT @@group_concat_max_len").await, *begun, "now it is {n}");
            }
        }
    });
}
