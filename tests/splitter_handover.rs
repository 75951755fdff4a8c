//! Sessions while the primary changes: what may be ended where it was begun, what waits for the next primary, what is told
//! to a client that nobody can tell for sure.

mod support;

#[path = "support/found.rs"]
#[allow(dead_code, reason = "other tests have scripted servers")]
mod found;
#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests crash servers")]
mod mariadb;
#[path = "support/promotion.rs"]
mod promotion;
#[path = "support/sql_wire.rs"]
#[allow(dead_code, reason = "other tests send broken packets")]
mod sql_wire;

use std::time::{Duration, Instant};

use found::*;
use mariadb::{PASSWORD, USER};
use mysql_async::prelude::Queryable;
use one_server::mysql::protocol::capability::{MULTI_STATEMENTS, STATUS_AUTOCOMMIT};
use promotion::{catch_up, demote, follow, promote, switch_over};
use sql_wire::{LogOn, Piece, Shape, Wire};
use support::ports;
use support::*;

/// Two servers take writes, so neither is the primary. What was begun before on the one that was can still be ended there:
/// it may write, and nobody else leads.
#[test]
fn a_transaction_ends_where_it_was_begun_while_nobody_else_leads() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(1, "primary_wait = \"300ms\"");
    let Scene { cluster, address, .. } = &scene;
    let (old, new) = (&cluster.primary, &cluster.replicas[0]);
    block_on(async {
        let mut committed = connect(*address).await;
        let mut continued = connect(*address).await;
        let mut rolled_back = connect(*address).await;
        let mut idle = connect(*address).await;
        for (name, conn) in
            [("committed", &mut committed), ("continued", &mut continued), ("rolled-back", &mut rolled_back)]
        {
            conn.query_drop("BEGIN").await.expect("begun");
            conn.query_drop(format!("INSERT INTO log VALUES ('{name}-1')")).await.expect("written");
        }
        promote(new);
        eventually("there is no primary", || scene.show()["vacancy"] == "more than one server takes writes");
        committed.query_drop("COMMIT").await.expect("it was begun there");
        assert_eq!(old.sql("SELECT token FROM d.log"), "committed-1");
        continued.query_drop("INSERT INTO log VALUES ('continued-2')").await.expect("it was begun there");
        assert_eq!(one::<u32>(&mut continued, "SELECT id FROM who").await, old.id);
        continued.query_drop("COMMIT").await.expect("it was begun there");
        rolled_back.query_drop("ROLLBACK").await.expect("it was begun there");
        for conn in [&mut committed, &mut continued, &mut rolled_back, &mut idle] {
            assert_eq!(code(conn.query_drop("INSERT INTO log VALUES ('new')").await), 1429, "nothing new is begun");
            assert_eq!(code(conn.query_drop("BEGIN").await), 1429, "nothing new is begun");
        }
        demote(new);
        scene.wait_for_primary(old.port);
        for conn in [&mut committed, &mut continued, &mut rolled_back, &mut idle] {
            conn.query_drop("INSERT INTO log VALUES ('after')").await.expect("one is left");
        }
    });
    let tokens = old.sql("SELECT token FROM d.log WHERE token <> 'after' ORDER BY token");
    assert_eq!(tokens, "committed-1\ncontinued-1\ncontinued-2");
    assert_eq!(old.sql("SELECT COUNT(*) FROM d.log WHERE token='after'"), "4");
    assert_eq!(new.sql("SELECT COUNT(*) FROM d.log"), "0");
}

/// The old primary hangs with a write in its socket, another one is promoted, and the old one goes on and does the write. The
/// new primary has nothing of it, so the client must not be told that it is written.
#[test]
fn a_write_that_a_replaced_server_does_late_is_not_acknowledged() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(1, "");
    let Scene { cluster, address, .. } = &scene;
    let (old, new) = (&cluster.primary, &cluster.replicas[0]);
    block_on(async {
        let mut conn = connect(*address).await;
        conn.query_drop("INSERT INTO log VALUES ('before')").await.expect("written");
        catch_up(new, old);
        old.freeze(true);
        let late = tokio::spawn(async move {
            let result = conn.query_drop("INSERT INTO log VALUES ('late')").await;
            (result, conn)
        });
        eventually("the silence is noticed", || scene.of(old.port, "health") == "down");
        promote(new);
        scene.wait_for_primary(new.port);
        old.freeze(false);
        let (result, mut conn) = late.await.expect("no panic");
        let error = result.expect_err("the new primary does not have it").to_string();
        assert!(error.contains("1158") && error.contains("outcome is unknown"), "{error}");
        eventually("the old server does it all the same", || {
            old.sql("SELECT COUNT(*) FROM d.log WHERE token='late'") == "1"
        });
        conn.query_drop("INSERT INTO log VALUES ('after')").await.expect("the session goes on");
    });
    assert_eq!(new.sql("SELECT token FROM d.log ORDER BY token"), "after\nbefore");
    assert!(!old.sql("SELECT token FROM d.log").contains("after"));
}

/// Statements that are prepared are tied to the settings of their time, so a session with some needs a connection to the
/// primary before it changes one. While there is no primary it waits for that, as for any other statement.
#[test]
fn a_session_with_prepared_statements_waits_for_the_next_primary_to_change_its_settings() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(1, "primary_wait = \"30s\"");
    let Scene { cluster, address, .. } = &scene;
    let (old, new) = (&cluster.primary, &cluster.replicas[0]);
    block_on(async {
        let mut sessions = Vec::new();
        for sql in ["USE e", "SET sql_mode='ANSI_QUOTES'"] {
            let mut conn = connect(*address).await;
            let write = conn.prep("INSERT INTO d.log VALUES (?)").await.expect("prepared");
            let read = conn.prep("SELECT id + ? FROM who").await.expect("prepared");
            conn.exec_drop(&write, ("before",)).await.expect("written");
            sessions.push((sql, conn, write, read));
        }
        demote(old);
        eventually("there is no primary", || scene.show()["vacancy"].is_string());
        let change = |(sql, mut conn, write, read): (&'static str, mysql_async::Conn, _, _)| async move {
            (sql, conn.query_drop(sql).await, conn, write, read)
        };
        let waiting: Vec<_> = sessions.into_iter().map(|session| tokio::spawn(change(session))).collect();
        eventually("both wait", || scene.show()["held"] == 2);
        catch_up(new, old);
        promote(new);
        follow(old, new);
        scene.wait_for_primary(new.port);
        for waiting in waiting {
            let (sql, result, mut conn, write, read) = waiting.await.expect("no panic");
            result.unwrap_or_else(|error| panic!("{sql}: {error}"));
            conn.exec_drop(&write, (sql,)).await.expect("as prepared before");
            // In the database of its time.
            let at: Option<u32> = conn.exec_first(&read, (100,)).await.expect("as prepared before");
            assert_eq!(at, Some(100 + new.id), "{sql}");
            let (schema, mode): (String, String) =
                conn.query_first("SELECT DATABASE(), @@sql_mode").await.expect("an answer").expect("a row");
            match sql {
                "USE e" => assert_eq!(schema, "e"),
                _ => assert_eq!((&schema[..], &mode[..]), ("d", "ANSI_QUOTES")),
            }
        }
    });
    assert_eq!(new.sql("SELECT COUNT(*) FROM d.log"), "4");
}

/// A former primary was looked at last while it took writes. Back from maintenance it follows the new one: what it was does
/// not count.
#[test]
fn a_former_primary_that_comes_back_from_maintenance_as_a_replica_changes_nothing() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(1, "primary_wait = \"30s\"");
    let Scene { cluster, server, address } = &scene;
    let (old, new) = (&cluster.primary, &cluster.replicas[0]);
    block_on(async {
        let mut conn = connect(*address).await;
        conn.query_drop("INSERT INTO log VALUES ('0')").await.expect("written");
        // It still takes writes when it is taken out.
        assert_eq!(scene.of(old.port, "health"), "writable");
        server.ctl_ok(&["mysql", "maintenance", &id(old.port)]);
        switch_over(old, new, &[]);
        scene.wait_for_primary(new.port);
        conn.query_drop("INSERT INTO log VALUES ('1')").await.expect("on the new primary");
        let falls = || server.lines().iter().filter(|line| line.contains("no longer the primary")).count();
        let (before, epoch) = (falls(), scene.show()["epoch"].clone());
        assert_eq!((before, epoch.as_u64()), (1, Some(2)));

        server.ctl_ok(&["mysql", "ready", &id(old.port)]);
        assert!(scene.show()["vacancy"].is_null(), "from the first moment on");
        conn.query_drop("INSERT INTO log VALUES ('2')").await.expect("nothing has changed");
        eventually("it gets reads", || scene.of(old.port, "up") == "true");
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, old.id);
        // The same once more, for a server that followed before, too.
        server.ctl_ok(&["mysql", "maintenance", &id(old.port)]);
        server.ctl_ok(&["mysql", "ready", &id(old.port)]);
        conn.query_drop("INSERT INTO log VALUES ('3')").await.expect("nothing has changed");
        eventually("it gets reads", || scene.of(old.port, "up") == "true");
        assert_eq!((falls(), scene.show()["epoch"].clone()), (before, epoch), "it led all the time");
        assert_eq!(scene.of(old.port, "role"), "replica");
        assert!(!server.lines().iter().any(|line| line.contains("fenced")), "it took no writes any more");

        // One that took writes beside the primary, and was made to follow it meanwhile.
        promote(old);
        eventually("nobody leads", || scene.show()["vacancy"] == "more than one server takes writes");
        server.ctl_ok(&["mysql", "maintenance", &id(old.port)]);
        scene.wait_for_primary(new.port);
        follow(old, new);
        let before = falls();
        server.ctl_ok(&["mysql", "ready", &id(old.port)]);
        conn.query_drop("INSERT INTO log VALUES ('4')").await.expect("nothing has changed");
        eventually("it gets reads", || scene.of(old.port, "up") == "true");
        assert_eq!(falls(), before, "it led all the time");
    });
    assert_eq!(new.sql("SELECT token FROM d.log ORDER BY token"), "0\n1\n2\n3\n4");
}

/// The connections to the primary are all held by sessions that do nothing while it fails: whoever waited for one has no use
/// for it any more.
#[test]
fn statements_that_wait_for_a_connection_go_to_the_next_primary() {
    if !mariadb::is_installed() {
        return;
    }
    let mut scene = scene(1, "");
    let ports = [scene.cluster.replicas[0].port, scene.cluster.primary.port];
    // Each worker has its own.
    scene.server = site(ports.into_iter(), "primary_wait = \"30s\"\npool_max = 2").one_worker().start();
    scene.wait_for_primary(ports[1]);
    let address = scene.server.address("db");
    block_on(async {
        let mut conns = Vec::new();
        for _ in 0..3 {
            conns.push(connect(address).await);
        }
        let mut holders = Vec::new();
        for n in 0..2 {
            let mut conn = connect(address).await;
            conn.query_drop("BEGIN").await.expect("begun");
            conn.query_drop(format!("INSERT INTO log VALUES ('held-{n}')")).await.expect("written");
            holders.push(conn);
        }
        let waits = |(n, mut conn): (usize, mysql_async::Conn)| {
            tokio::spawn(async move { conn.query_drop(format!("INSERT INTO log VALUES ('{n}')")).await })
        };
        let waiting: Vec<_> = conns.into_iter().enumerate().map(waits).collect();
        eventually("all wait", || scene.server.metric("one_server_splitter_server_waiting", "") == 3.0);
        scene.cluster.primary.kill();
        promote(&scene.cluster.replicas[0]);
        scene.wait_for_primary(scene.cluster.replicas[0].port);
        for waiting in waiting {
            let result = tokio::time::timeout(Duration::from_secs(2), waiting).await.expect("soon").expect("no panic");
            result.expect("written");
        }
        drop(holders);
    });
    assert_eq!(scene.cluster.replicas[0].sql("SELECT token FROM d.log ORDER BY token"), "0\n1\n2");
}

/// What comes before anybody knows who leads, and so what its tables hide, is judged once that is known.
#[test]
fn writes_that_wait_for_the_first_primary_tie_nobody() {
    if !mariadb::is_installed() {
        return;
    }
    let mut scene = scene(1, "");
    let (primary, replica) = (scene.cluster.primary.port, scene.cluster.replicas[0].port);
    scene.cluster.primary.sql(&format!("GRANT TRIGGER, SHOW VIEW ON *.* TO {USER}@'%'"));
    scene.cluster.primary.freeze(true);
    scene.server = site([replica, primary].into_iter(), "primary_wait = \"30s\"").one_worker().start();
    let address = scene.server.address("db");
    block_on(async {
        let mut prepared = connect(address).await;
        let mut said = connect(address).await;
        let writes = tokio::spawn(async move {
            said.query_drop("INSERT INTO log VALUES ('said')").await.expect("written");
            said
        });
        let executes = tokio::spawn(async move {
            prepared.exec_drop("INSERT INTO log VALUES (?)", ("executed",)).await.expect("written");
            prepared
        });
        eventually("they wait", || scene.server.metric("one_server_splitter_held_total", "") >= 2.0);
        scene.cluster.primary.freeze(false);
        let _sessions = (writes.await.expect("no panic"), executes.await.expect("no panic"));
        assert_eq!(scene.server.metric("one_server_splitter_sessions_pinned", ""), 0.0);
    });
    assert_eq!(scene.cluster.primary.sql("SELECT token FROM d.log ORDER BY token"), "executed\nsaid");
}

/// A transaction that has executed nothing goes on at the next primary, where nobody knows the insert id of before.
#[test]
fn a_last_insert_id_that_went_with_the_primary_is_not_made_up() {
    if !mariadb::is_installed() {
        return;
    }
    let mut scene = scene(1, "primary_wait = \"30s\"");
    scene
        .cluster
        .primary
        .sql("CREATE TABLE d.counting (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB AUTO_INCREMENT=7");
    block_on(async {
        let mut conn = connect(scene.server.address("db")).await;
        conn.query_drop("INSERT INTO counting VALUES (NULL)").await.expect("written");
        conn.query_drop("BEGIN").await.expect("begun");
        catch_up(&scene.cluster.replicas[0], &scene.cluster.primary);
        scene.cluster.primary.kill();
        promote(&scene.cluster.replicas[0]);
        scene.wait_for_primary(scene.cluster.replicas[0].port);
        assert_eq!(code(conn.query_drop("SELECT LAST_INSERT_ID()").await), 1158, "it is lost");
        conn.query_drop("INSERT INTO log VALUES ('goes on')").await.expect("written");
        conn.query_drop("COMMIT").await.expect("committed");
        assert_eq!(code(conn.query_drop("INSERT INTO log VALUES (LAST_INSERT_ID())").await), 1158, "it is lost");
        assert!(conn.query_drop("SELECT 1").await.is_err(), "who only writes so connects again");
    });
    assert_eq!(scene.cluster.replicas[0].sql("SELECT token FROM d.log"), "goes on");
}

/// A splitter is taken out of the config; its clients go on until their transactions end. Who leads matters to them as before.
#[test]
fn a_session_of_a_splitter_that_is_gone_commits_nothing_behind_a_failover() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(1, "");
    let Scene { cluster, server, address } = &scene;
    let (old, new) = (&cluster.primary, &cluster.replicas[0]);
    block_on(async {
        let mut conn = connect(*address).await;
        conn.query_drop("BEGIN").await.expect("begun");
        conn.query_drop("INSERT INTO log VALUES ('open')").await.expect("written");
        let text = std::fs::read_to_string(server.config_file()).expect("a config file");
        let (_, table) = text.split_at(text.find("[mysql.db]").expect("the splitter"));
        server.reload_with(&[(table, "")]);
        conn.query_drop("INSERT INTO log VALUES ('open, too')").await.expect("it goes on");
        old.freeze(true);
        promote(new);
        server.wait_for_line("the next primary", |line| line.contains("is the primary") && line.contains("epoch=2"));
        old.freeze(false);
        assert_eq!(code(conn.query_drop("COMMIT").await), 1213, "it was rolled back");
    });
    assert_eq!(old.sql("SELECT COUNT(*) FROM d.log"), "0");
}

/// What clients were told is written while the config named the primary, the next primary must have when the config lets it be
/// found.
#[test]
fn what_a_fixed_primary_has_acknowledged_is_missed_when_the_primary_is_found() {
    if !mariadb::is_installed() {
        return;
    }
    let mut scene = scene(1, "");
    let [old, new] = [scene.cluster.primary.port, scene.cluster.replicas[0].port];
    let found = format!("servers = [\"127.0.0.1:{new}\", \"127.0.0.1:{old}\"]");
    let fixed = format!("primary = \"127.0.0.1:{old}\"\nreplicas = [\"127.0.0.1:{new}\"]");
    let dwell = ["primary_dwell = \"500ms\"", "# no dwell"];
    scene.server.reload_with(&[(&found, &fixed), (dwell[0], dwell[1])]);
    scene.cluster.replicas[0].sql("STOP SLAVE IO_THREAD");
    block_on(async {
        let mut conn = connect(scene.address).await;
        conn.query_drop("INSERT INTO log VALUES ('acknowledged')").await.expect("written");
    });
    scene.server.reload_with(&[(&fixed, &found), (dwell[1], dwell[0])]);
    scene.wait_for_primary(old);
    scene.cluster.primary.kill();
    promote(&scene.cluster.replicas[0]);
    wait_until_missed(&scene);
}

fn wait_until_missed(scene: &Scene) {
    let why = "the only server that takes writes lacks transactions that clients were told are committed";
    eventually("what was acknowledged is missed", || scene.show()["vacancy"] == why);
}

/// Of several statements in one packet the first has been acknowledged when the server dies in the second.
#[test]
fn what_was_acknowledged_in_front_of_a_lost_connection_is_missed_by_the_next_election() {
    if !mariadb::is_installed() {
        return;
    }
    let mut scene = scene(1, "");
    scene.cluster.replicas[0].sql("STOP SLAVE IO_THREAD");
    let mut log_on = LogOn::new(USER, PASSWORD, Some("d"));
    log_on.capabilities |= MULTI_STATEMENTS;
    let mut wire = Wire::connect(scene.address, &log_on).expect("a login");
    wire.send(3, b"INSERT INTO log VALUES ('acknowledged'); DO SLEEP(60)").expect("sent");
    let ok = wire.answer(Shape::Single).expect("an answer");
    assert!(matches!(ok[..], [Piece::Ok { affected: 1, .. }]), "{ok:?}");
    scene.cluster.primary.kill();
    promote(&scene.cluster.replicas[0]);
    wait_until_missed(&scene);
}

/// A client that speaks packets.
fn wire(address: std::net::SocketAddr) -> Wire {
    Wire::connect(address, &LogOn::new(USER, PASSWORD, Some("d"))).expect("a login")
}

/// What sessions set is set again wherever they go on, so any server can check it, once; but what cannot be set again
/// elsewhere waits for the primary.
#[test]
fn settings_are_made_on_any_server_while_the_primary_takes_no_statements() {
    if !mariadb::is_installed() {
        return;
    }
    let mut scene = scene(1, "primary_wait = \"300ms\"");
    let ports = [scene.cluster.primary.port, scene.cluster.replicas[0].port];
    let mut wires: Vec<Wire> = (0..3).map(|_| wire(scene.address)).collect();
    scene.server.ctl_ok(&["mysql", "drain", &id(ports[0])]);
    set_all(&mut wires[0], &scene.cluster.replicas[0]);
    assert!(matches!(wires[0].query("SET last_insert_id=77").expect("an answer")[..], [Piece::Ok { .. }]));
    scene.server.ctl_ok(&["mysql", "ready", &id(ports[0])]);
    assert_eq!(wires[0].row("SELECT LAST_INSERT_ID()"), [Some("77".into())]);

    scene.server.ctl_ok(&["mysql", "switchover", &id(ports[1])]);
    set_all(&mut wires[1], &scene.cluster.replicas[0]);
    scene.cluster.primary.kill();
    eventually("the primary is gone", || scene.show()["vacancy"].is_string());
    set_all(&mut wires[2], &scene.cluster.replicas[0]);

    promote(&scene.cluster.replicas[0]);
    scene.wait_for_primary(ports[1]);
    for wire in &mut wires {
        let all = wire.row("SELECT @@character_set_client, DATABASE(), @@autocommit, @@tx_isolation");
        assert_eq!(all, ["latin1", "d", "0", "SERIALIZABLE"].map(|value| Some(value.to_owned())));
    }
}

/// A replica answers in place of the primary only what it can know: not about a database that the session has just made.
#[test]
fn a_late_replica_is_not_asked_about_what_it_does_not_have_in_place_of_the_primary() {
    if !mariadb::is_installed() {
        return;
    }
    const INIT_DB: u8 = 2;
    const TABLES: &str = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'young'";
    let scene = scene(1, "primary_wait = \"300ms\"\nlag_max = \"1h\"");
    let primary = id(scene.cluster.primary.port);
    scene.cluster.replicas[0].sql("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=600; START SLAVE");
    eventually("the replica gets reads", || scene.of(scene.cluster.replicas[0].port, "up") == "true");
    let (mut one, mut other) = (wire(scene.address), wire(scene.address));
    for sql in ["CREATE DATABASE young", "CREATE TABLE young.t (n INT)"] {
        assert_eq!(one.query(sql).expect("an answer")[0].code(), None, "{sql}");
    }
    scene.server.ctl_ok(&["mysql", "drain", &primary]);
    let code = |wire: &mut Wire, command: u8, sql: &str| {
        wire.send(command, sql.as_bytes()).expect("sent");
        wire.answer(Shape::Results).expect("an answer")[0].code()
    };
    for (command, sql) in [(3, "USE young"), (INIT_DB, "young"), (3, TABLES), (3, "CHECKSUM TABLE young.t")] {
        assert_eq!(code(&mut one, command, sql), Some(1429), "{sql}");
    }
    for sql in ["SHOW VARIABLES LIKE 'version'", "SELECT @@version", "SET time_zone='+01:00'", "USE e"] {
        assert_eq!(code(&mut one, 3, sql), None, "{sql}");
    }
    assert_eq!(code(&mut other, 3, TABLES), None, "by who has made none");
    scene.server.ctl_ok(&["mysql", "ready", &primary]);
    assert_eq!(one.row(TABLES), [Some("1".into())]);
    assert_eq!(code(&mut one, INIT_DB, "young"), None);
}

/// Settings of all kinds; `replica` is the one server that takes statements.
fn set_all(wire: &mut Wire, replica: &mariadb::Server) {
    const QUERY: u8 = 3;
    const INIT_DB: u8 = 2;
    let connections = replica.counter("Connections");
    let mut run = |code: u8, sql: &str| {
        let begun = Instant::now();
        wire.send(code, sql.as_bytes()).expect("sent");
        let answer = wire.answer(Shape::Results).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(begun.elapsed() < Duration::from_secs(1), "{sql} took {:?}", begun.elapsed());
        let [Piece::Ok { status, .. } | Piece::Err { code: status, .. }] = answer[..] else { panic!("{answer:?}") };
        status
    };
    let has_autocommit = run(QUERY, "SET NAMES latin1");
    assert_eq!(has_autocommit, STATUS_AUTOCOMMIT);
    for (code, sql) in [
        (QUERY, "SET autocommit=0"),
        (QUERY, "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
        (QUERY, "USE e"),
        (INIT_DB, "d"),
    ] {
        assert_eq!(run(code, sql), 0, "{sql}: no autocommit from then on");
    }
    // What only one connection would know of.
    for sql in ["SET timestamp=5", "SET sql_auto_is_null=1", "SET @a=1"] {
        assert_eq!(run(QUERY, sql), 1429, "{sql}");
    }
    assert_eq!(run(QUERY, "SET NAMES latin1"), 0, "the session goes on");
    let more = replica.counter("Connections") - connections;
    // Those that count are two of them.
    assert!(more < 10, "{more} connections for 9 statements");
}
