//! Several accounts at one splitter: each with connections of its own, from where it may, as often as it may, for what it may.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/mysql_clients.rs"]
#[allow(dead_code, reason = "other tests start servers of their own")]
mod mysql_clients;

use std::net::SocketAddr;

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::ChangeUserOpts;
use mysql_async::prelude::Queryable;
use mysql_clients::{block_on, code, log_on, one};
use support::ports;
use support::*;

struct Scene {
    _cluster: Cluster,
    server: Server,
    address: SocketAddr,
}

fn scene(driver: Driver, users: &str) -> Scene {
    let cluster = Cluster::start(1);
    cluster.primary.sql(
        "CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=InnoDB; INSERT INTO d.t VALUES (1);
         CREATE TABLE e.t (id INT PRIMARY KEY) ENGINE=InnoDB;
         CREATE FUNCTION d.f() RETURNS INT DETERMINISTIC RETURN 1;
         CREATE USER reports@'%' IDENTIFIED BY 'r3ports'; GRANT ALL ON *.* TO reports@'%';
         CREATE USER hashed@'%' IDENTIFIED BY 'secret'; GRANT ALL ON d.* TO hashed@'%'",
    );
    cluster.wait_for_replicas();
    let site = Site::new(driver, "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n").more(&format!(
        "[mysql.db]\nlisten = \"127.0.0.1:0\"\nprimary = \"127.0.0.1:{}\"\nreplicas = [\"127.0.0.1:{}\"]\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\npool_max = 2\nmonitor_interval = \"100ms\"\n{users}\n",
        cluster.primary.port, cluster.replicas[0].port
    ));
    let server = site.start();
    let address = server.address("db");
    Scene { _cluster: cluster, server, address }
}

#[test]
fn each_account_is_itself_on_the_servers() {
    with_both_drivers(|driver| {
        // The hash of `secret`: SELECT PASSWORD('secret').
        let users = "[[mysql.db.users]]\nname = \"reports\"\npassword = \"r3ports\"\n\
                     [[mysql.db.users]]\nname = \"hashed\"\npassword = \"*14E65567ABDB5135D0CFD9A70B3032C179A49EE7\"\n\
                     [[mysql.db.users]]\nname = \"ghost\"\npassword = \"boo\"\n";
        let scene = scene(driver, users);
        let address = scene.address;
        block_on(async {
            let accounts = [(USER, PASSWORD), ("reports", "r3ports"), ("hashed", "secret")];
            for turn in 0..12 {
                let (user, password) = accounts[turn % 3];
                let mut conn = log_on(address, user, password, Some("d")).await.expect("logged on");
                // On a replica, on the primary, and prepared; what one account leaves behind no other gets.
                assert_eq!(
                    one(&mut conn, "SELECT CONCAT(CURRENT_USER(), COUNT(*)) FROM t").await,
                    format!("{user}@%1")
                );
                assert_eq!(one(&mut conn, "SELECT CAST(COUNT(*) AS CHAR) FROM t").await, "1");
                assert_eq!(one(&mut conn, "SELECT CURRENT_USER() FROM t FOR UPDATE").await, format!("{user}@%"));
                let prepared: Option<String> =
                    conn.exec_first("SELECT CONCAT(CURRENT_USER(), ?)", ("!",)).await.expect("prepared");
                assert_eq!(prepared.expect("a row"), format!("{user}@%!"));
                assert_eq!(one(&mut conn, "SELECT COALESCE(@left, 'nothing')").await, "nothing");
                conn.query_drop(format!("SET @left = '{user}', sql_mode = 'ANSI'")).await.expect("set");
            }
            for (user, password) in
                [("reports", PASSWORD), ("hashed", "secret2"), ("nobody", "x"), (USER, "r3ports"), ("hashed", "")]
            {
                assert_eq!(code(log_on(address, user, password, None).await), 1045, "{user} {password}");
            }
            // Known here and not there: the servers' own word, and nobody else is the worse for it.
            for _ in 0..3 {
                assert_eq!(code(log_on(address, "ghost", "boo", Some("d")).await), 1045);
            }
            let mut other = log_on(address, "reports", "r3ports", Some("d")).await.expect("logged on");
            let server_id = one(&mut other, "SELECT CAST(COUNT(*) AS CHAR) FROM t").await;
            assert_eq!(server_id, "1");
        });
        let replica = "one_server_splitter_statements_total";
        assert!(scene.server.metric(replica, "to=\"replica\"") >= 12.0, "reads go to the replica for every account");
    });
}

#[test]
fn change_user_goes_from_one_account_to_another() {
    let users = "[[mysql.db.users]]\nname = \"reports\"\npassword = \"r3ports\"\nread_only = true\n";
    let scene = scene(Driver::Auto, users);
    block_on(async {
        let mut conn = log_on(scene.address, USER, PASSWORD, Some("d")).await.expect("logged on");
        conn.query_drop("SET @mine = 1").await.expect("set");
        conn.query_drop("INSERT INTO t VALUES (2)").await.expect("written");
        let change = |user: &str, password: &str| {
            ChangeUserOpts::new()
                .with_user(Some(user.into()))
                .with_pass(Some(password.into()))
                .with_db_name(Some("d".into()))
        };
        conn.change_user(change("reports", "r3ports")).await.expect("changed");
        assert_eq!(
            one(&mut conn, "SELECT CONCAT(CURRENT_USER(), COALESCE(@mine, '-')) FROM t LIMIT 1").await,
            "reports@%-"
        );
        assert_eq!(code(conn.query_drop("INSERT INTO t VALUES (3)").await), 1290);
        conn.change_user(change(USER, PASSWORD)).await.expect("changed back");
        conn.query_drop("INSERT INTO t VALUES (4)").await.expect("written");
        assert!(conn.change_user(change("reports", "wrong")).await.is_err());
    });
}

#[test]
fn accounts_are_limited() {
    let users = "[[mysql.db.users]]\nname = \"reports\"\npassword = \"r3ports\"\nread_only = true\nschemas = [\"d\"]\nclients_max = 2\n\
                 [[mysql.db.users]]\nname = \"hashed\"\npassword = \"secret\"\naccess = [\"allow 10.0.0.0/8\", \"deny all\"]\n";
    let scene = scene(Driver::Auto, users);
    let address = scene.address;
    block_on(async {
        assert_eq!(code(log_on(address, "hashed", "secret", None).await), 1045, "not from here");
        assert_eq!(code(log_on(address, "reports", "r3ports", Some("e")).await), 1044);
        let mut conn = log_on(address, "reports", "r3ports", Some("d")).await.expect("logged on");
        assert_eq!(one(&mut conn, "SELECT CAST(COUNT(*) AS CHAR) FROM t").await, "1");
        for sql in [
            "INSERT INTO t VALUES (5)",
            "DELETE FROM t",
            "DROP TABLE t",
            "SELECT f()",
            "SELECT 1; DELETE FROM t",
            "CALL p()",
        ] {
            assert_eq!(code(conn.query_drop(sql).await), 1290, "{sql}");
        }
        assert_eq!(code(conn.prep("DELETE FROM t").await), 1290);
        for sql in ["USE e", "use `e`", "USE e -- really"] {
            assert_eq!(code(conn.query_drop(sql).await), 1044, "{sql}");
        }
        conn.query_drop("USE d").await.expect("that one it may");
        conn.query_drop("START TRANSACTION").await.expect("a transaction");
        assert_eq!(code(conn.query_drop("UPDATE t SET id = 7").await), 1290, "inside one, too");
        conn.query_drop("ROLLBACK").await.expect("its end");
        assert_eq!(one(&mut conn, "SELECT CAST(SUM(id) AS CHAR) FROM t").await, "1", "nothing has changed");
        let second = log_on(address, "reports", "r3ports", Some("d")).await.expect("the second");
        assert_eq!(code(log_on(address, "reports", "r3ports", Some("d")).await), 1226);
        log_on(address, USER, PASSWORD, Some("d"))
            .await
            .expect("others are not counted")
            .disconnect()
            .await
            .expect("gone");
        second.disconnect().await.expect("gone");
        let begun = std::time::Instant::now();
        while log_on(address, "reports", "r3ports", Some("d")).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "the place is free again");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
}
