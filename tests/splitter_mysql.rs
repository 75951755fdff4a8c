//! The splitter between real clients and MySQL itself, which differs from MariaDB in what it tells of a session, in how it is logged
//! on to, in its GTIDs, in what a reset leaves, and in its SQL. Other tests have a server of ours in its place, which only knows what
//! was known when it was written.

mod support;

#[path = "support/found.rs"]
#[allow(dead_code, reason = "other tests look at single servers")]
mod found;
#[path = "support/real_mysql.rs"]
#[allow(dead_code, reason = "other tests start groups")]
mod real_mysql;
#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "other tests speak packets")]
mod sessions;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests need one form alone")]
mod split;
#[path = "support/sql_wire.rs"]
#[allow(dead_code, reason = "other tests send broken packets")]
mod sql_wire;
#[path = "classifier/statements.rs"]
#[allow(dead_code, reason = "plain reads are for another test")]
mod statements;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Compression, Conn, OptsBuilder};
use one_server::mysql::protocol::capability::{
    DEPRECATE_EOF, MULTI_RESULTS, MULTI_STATEMENTS, SESSION_TRACK, STATUS_AUTOCOMMIT, STATUS_IN_TRANS,
};
use one_server::mysql::sql::{Class, Flavour, Mode, builtins, classify};
use rand::SeedableRng;
use rand::rngs::StdRng;
use real_mysql::{Cluster, PASSWORD, USER, sealed};
use sql_wire::{LogOn, Piece, Shape, Wire};
use support::tls::{Kind, trusted};
use support::*;

// What the other modules call the servers they test with.
use real_mysql as mariadb;

const WHO: &str = "SELECT id FROM who";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    found::block_on(future)
}

/// A splitter before the cluster, with one worker.
fn before(cluster: &Cluster, keys: &str) -> Server {
    split::site(Driver::Auto, cluster, &format!("{}{keys}", sealed())).start()
}

async fn connect(server: &Server) -> Conn {
    found::connect(server.address("db")).await
}

async fn one<T: mysql_async::prelude::FromValue + Send + 'static>(conn: &mut Conn, sql: &str) -> T {
    found::one(conn, sql).await
}

fn local(server: &real_mysql::Server) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.port))
}

fn metric(server: &Server, name: &str, labels: &str) -> u64 {
    server.metric(&format!("one_server_splitter_{name}"), labels) as u64
}

/// Reads that went to replicas.
fn on_replicas(server: &Server) -> u64 {
    metric(server, "statements_total", "to=\"replica\"")
}

/// Statements that went to replicas, and to the primary.
fn counts(server: &Server) -> (u64, u64) {
    (on_replicas(server), metric(server, "statements_total", "to=\"primary\""))
}

fn wait_for_replica(server: &Server) {
    eventually("reads may go to the replica", || {
        let status = server.status();
        let servers = status["splitters"][0]["servers"].as_array().expect("a list").clone();
        servers.iter().any(|server| server["role"] == "replica" && server["lag_ms"].is_u64())
    });
}

/// A read by a session that has worked like any other goes to a replica still, and no session is tied to a connection by what
/// MySQL tells of it: it counts statements in a variable of the session, for one.
#[test]
fn sessions_stay_free_and_their_reads_go_to_replicas() {
    if !real_mysql::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    // Else a view might do what SET_VAR would hide.
    cluster.primary.sql(
        "GRANT SHOW VIEW ON *.* TO app@'%'; CREATE TABLE d.t (n INT AUTO_INCREMENT PRIMARY KEY, s VARCHAR(40), j JSON);
         INSERT INTO d.t (s, j) VALUES ('one', '{\"a\": [1, 2]}'), ('two', '[3]')",
    );
    sessions::mark_servers(&cluster);
    let server = before(&cluster, "");
    wait_for_replica(&server);
    block_on(async {
        let mut conn = connect(&server).await;
        for sql in [
            "INSERT INTO t (s) VALUES ('three')",
            "SET NAMES latin1",
            "SET SESSION sql_mode = 'ANSI_QUOTES', cte_max_recursion_depth = 77, explain_format = 'TREE'",
            "SET transaction_isolation = 'READ-COMMITTED'",
            "BEGIN",
            "SELECT * FROM t FOR UPDATE OF t SKIP LOCKED",
            "UPDATE t SET s = 'four' WHERE n = 3",
            "COMMIT",
            "SELECT * FROM t FOR SHARE NOWAIT",
            "SHOW WARNINGS",
            "DO 1",
        ] {
            if sql != "DO 1" {
                conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
            if !matches!(sql, "BEGIN") && !sql.contains("OF t") && !sql.starts_with("UPDATE") {
                assert_eq!(one::<u32>(&mut conn, WHO).await, 2, "behind {sql}");
            }
        }
        let settings = "SELECT CONCAT_WS(' ', @@sql_mode, @@cte_max_recursion_depth, @@explain_format, @@transaction_isolation, \
                        @@character_set_client, @@collation_connection)";
        let on_replica = "SELECT (SELECT 1) FROM t LIMIT 1";
        assert_eq!(one::<u32>(&mut conn, on_replica).await, 1);
        let told: String = one(&mut conn, settings).await;
        assert_eq!(told, "ANSI_QUOTES 77 TREE READ-COMMITTED latin1 latin1_swedish_ci");
        conn.query_drop("SET NAMES utf8mb4").await.expect("set");
        conn.query_drop("SET SESSION sql_mode = ''").await.expect("set");
        for sql in [
            "TABLE t ORDER BY n LIMIT 1",
            "VALUES ROW(1, 2), ROW(3, 4)",
            "SELECT ANY_VALUE(s), GROUPING(n), BIN_TO_UUID(UUID_TO_BIN('6ccd780c-baba-1026-9564-5b8c656024db')) FROM t GROUP BY n WITH ROLLUP",
            "SELECT x.m FROM t, LATERAL (SELECT MAX(n) AS m FROM t AS u WHERE u.n <= t.n) AS x WHERE REGEXP_LIKE(s, '^o')",
            "SELECT j->>'$.a[0]', JSON_STORAGE_SIZE(j), 1 MEMBER OF (j->'$.a'), JSON_OVERLAPS(j, '[3]') FROM t",
            "SELECT /*+ SET_VAR(sort_buffer_size = 1048576) MAX_EXECUTION_TIME(1000) */ n FROM t ORDER BY s",
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 9) SELECT n FROM c EXCEPT SELECT n FROM t",
            "SELECT n FROM t INTERSECT SELECT 1",
            "SELECT ST_AsText(ST_Buffer(POINT(1, 2), 0)), ST_SRID(POINT(1, 2)), STATEMENT_DIGEST('SELECT 1')",
            "SELECT x FROM JSON_TABLE('[1, 2]', '$[*]' COLUMNS (x INT PATH '$' NULL ON EMPTY)) AS j",
            "EXPLAIN FORMAT=TREE SELECT n FROM t",
            "DESC t",
        ] {
            let before = counts(&server);
            conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            // It is counted a moment after it is answered.
            eventually("it is counted", || counts(&server) != before);
            let (told, expect) = (counts(&server), (before.0 + 1, before.1));
            assert_eq!(told, expect, "{sql}: {}", server.admin("/metrics"));
        }
        let before = on_replicas(&server);
        for sql in ["EXPLAIN ANALYZE SELECT n FROM t", "SHOW REPLICAS", "SELECT UUID()", "SELECT @@statement_id"] {
            let _ = conn.query_drop(sql).await;
        }
        assert_eq!(one::<u32>(&mut conn, WHO).await, 2, "and it is free still");
        eventually("the last one is counted", || on_replicas(&server) > before);
        assert_eq!(on_replicas(&server), before + 1, "the others are the primary's");
        let statement = conn.prep("SELECT id FROM who WHERE id > ?").await.expect("prepared");
        for _ in 0..3 {
            assert_eq!(conn.exec_first::<u32, _, _>(&statement, (0,)).await.expect("read"), Some(2));
            conn.exec_drop("INSERT INTO t (s) VALUES (?)", ("prepared",)).await.expect("written");
        }
        let pins = || {
            let text = server.admin("/metrics");
            let lines =
                text.lines().filter(|line| line.starts_with("one_server_splitter_pins_total") && !line.ends_with(" 0"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(pins(), Vec::<String>::new());
        // What must tie a session does.
        for sql in ["SELECT GET_LOCK('l', 1)", "SELECT WAIT_FOR_EXECUTED_GTID_SET('', 1)"] {
            let mut conn = connect(&server).await;
            let before = pins();
            conn.query_drop(sql).await.expect("done");
            eventually(&format!("{sql} pins"), || pins() != before);
            assert_eq!(one::<u32>(&mut conn, WHO).await, 1, "{sql}");
        }
    });
}

/// A name that the classifier takes for a builtin function must be none that a stored function can have.
#[test]
fn functions_that_count_as_builtin_are_the_servers_own() {
    if !real_mysql::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    let version = cluster.primary.sql("SELECT VERSION()");
    let flavour = Flavour::of(version.as_bytes(), false);
    assert_ne!(flavour, Flavour::Unknown, "{version}");
    let mut wire = Wire::connect(local(&cluster.primary), &LogOn::new(USER, PASSWORD, Some("d"))).expect("a login");
    let mut stored = |name: &str| {
        wire.query(format!("CREATE FUNCTION `{name}`() RETURNS INT DETERMINISTIC RETURN 4711")).expect("an answer");
        let answer = wire.query(format!("SELECT {name}()")).expect("an answer");
        matches!(&answer[..], [Piece::Rows { rows, .. }] if rows == &[b"\x044711".to_vec()])
    };
    assert!(stored("nvl") && stored("to_char"), "MariaDB's names are free here");
    let names: Vec<_> = builtins::pure_names(flavour).collect();
    assert!(names.len() > 250 && names.contains(&"any_value") && !names.contains(&"nvl"));
    let stored: Vec<_> = names.into_iter().filter(|name| stored(name)).collect();
    assert_eq!(stored, Vec::<&str>::new(), "a stored function of this name is called on {version}");
}

/// The classifier against a replica that refuses writes and the account that everybody has: what is taken for a read changes
/// nothing and leaves nothing behind.
#[test]
fn nothing_that_changes_anything_is_classed_a_read() {
    if !real_mysql::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql(&statements::DEFINITIONS.replace("CREATE SEQUENCE d.q NOCACHE;", ""));
    cluster.wait_for_replicas();
    let replica = &cluster.replicas[0];
    replica.sql("SET GLOBAL super_read_only = 1");
    let mut log_on = LogOn::new(USER, PASSWORD, Some("d"));
    log_on.capabilities = DEPRECATE_EOF | SESSION_TRACK | MULTI_STATEMENTS | MULTI_RESULTS;
    let mut wire = Wire::connect(local(replica), &log_on).expect("a login");
    let flavour = Flavour::of(replica.sql("SELECT VERSION()").as_bytes(), false);
    let sessions = [
        ("SET NAMES utf8mb4", Mode { flavour, ..Mode::default() }),
        ("SET sql_mode = 'ANSI_QUOTES'", Mode { flavour, ansi_quotes: true, ..Mode::default() }),
        ("SET sql_mode = 'NO_BACKSLASH_ESCAPES'", Mode { flavour, no_backslash_escapes: true, ..Mode::default() }),
        ("SET sql_mode = 'IGNORE_SPACE'", Mode { flavour, ignore_space: true, ..Mode::default() }),
    ];
    const SEED: u64 = 20_261_127;
    let mut generator = statements::Statements::new(StdRng::seed_from_u64(SEED));
    let listed = statements::TRAPS.iter().chain(statements::READS).chain(MYSQL_TRAPS);
    let listed = listed.flat_map(|sql| sessions.iter().map(move |session| (session, sql.to_vec())));
    let generated: Vec<_> = (0..1500).map(|n| (&sessions[n % sessions.len()], generator.next())).collect();
    let (mut reads, mut signs) = (0, 0);
    for (n, ((session, mode), sql)) in listed.chain(generated).enumerate() {
        let class: Class = classify(&sql, *mode);
        reads += usize::from(class.is_read());
        // Some of the others show that the signs are seen at all.
        if !class.is_read() && n % 8 > 0 {
            continue;
        }
        let sign = judge(&mut wire, session, &sql);
        signs += usize::from(sign.is_some());
        assert!(
            sign.is_none() || !class.is_read(),
            "seed {SEED}, {session}:\n{}\nis no read: {sign:?}\n{class:?}",
            sql.escape_ascii()
        );
    }
    eprintln!("{reads} reads, {signs} signs of something else");
    assert!(reads > 300 && signs > 40, "both kinds occurred: {reads}, {signs}");
}

/// What only MySQL understands, or understands otherwise.
const MYSQL_TRAPS: &[&[u8]] = &[
    b"SELECT id FROM t FOR UPDATE OF t SKIP LOCKED",
    b"SELECT id FROM t FOR SHARE",
    b"SELECT id FROM t FOR SHARE OF t NOWAIT",
    b"WITH c AS (SELECT 1) SELECT * FROM c, t FOR SHARE",
    b"TABLE t",
    b"TABLE t INTO @a, @b, @c, @d",
    b"VALUES ROW(f_write(1))",
    b"VALUES ROW(1, 2)",
    b"EXPLAIN ANALYZE SELECT f_write(1)",
    b"EXPLAIN ANALYZE UPDATE log SET x = 1",
    b"EXPLAIN FORMAT=TREE REPLACE log SET x = 1",
    b"EXPLAIN FORMAT=JSON INTO @a SELECT 1",
    b"SET PERSIST max_connections = 100",
    b"SET @@PERSIST.max_connections = 100",
    b"SELECT RELEASE_ALL_LOCKS()",
    b"SELECT WAIT_FOR_EXECUTED_GTID_SET('', 1)",
    b"SELECT * FROM t, LATERAL (SELECT f_write(1)) AS x",
    b"SELECT ANY_VALUE(f_write(1))",
    b"SELECT 1 MEMBER OF (f_write(1))",
    b"SELECT id FROM t INTERSECT SELECT f_write(1)",
    b"SELECT /*+ SET_VAR(sql_mode = 'ANSI_QUOTES') */ \"f_write\"",
    b"SELECT /*+ ' */ f_write(1) /*+ ' */",
    b"SELECT 1 /*!80000 , f_write(1) */",
    b"SELECT 1 /*!99999 , f_write(1) */",
    b"SELECT $$, f_write(1), $$",
    b"SELECT $a$'$a$, f_write(1), $a$'$a$",
    b"IMPORT TABLE FROM 'x'",
    b"LOCK INSTANCE FOR BACKUP",
    b"CLONE LOCAL DATA DIRECTORY = '/nowhere'",
    b"INSERT INTO log TABLE log",
    b"WITH c AS (SELECT 1) UPDATE log SET x = 1",
];

/// Runs the statement in a new session of a server that takes no writes. What says that it is no read, if anything does.
fn judge(wire: &mut Wire, session: &str, sql: &[u8]) -> Option<String> {
    wire.send(0x1F, b"").expect("sent");
    wire.answer(Shape::Single).expect("an answer");
    for own in [
        "SET session_track_system_variables = '*', session_track_state_change = 1, \
         session_track_transaction_info = 'CHARACTERISTICS', lock_wait_timeout = 1, max_execution_time = 2000",
        "USE d",
        session,
    ] {
        let answer = wire.query(own).expect("an answer");
        assert!(answer.iter().all(|piece| piece.code().is_none()), "{own}: {answer:?}");
    }
    let written = wire.row("SELECT @@global.gtid_executed");
    let answer = wire.query(sql).expect("an answer");
    let mut signs: Vec<String> = answer.iter().filter_map(sign).collect();
    // What a hint sets for one statement the server tells as if it were set, and it is as before.
    if sql.windows(7).any(|word| word == b"SET_VAR") && wire.row("SELECT @@sql_mode LIKE 'ANSI%'") == [Some("0".into())]
    {
        signs.retain(|sign| !sign.starts_with("trackers"));
    }
    if answer.len() > 1 {
        signs.push("several results".into());
    }
    let left = wire.row(
        "SELECT LAST_INSERT_ID(), COALESCE(@a, @b, @c, @d, @z, @by_function), IS_USED_LOCK('l1'), @@autocommit, DATABASE(), \
         @@global.gtid_executed",
    );
    let text = |text: &str| Some(text.to_owned());
    let expected = [text("0"), None, None, text("1"), text("d"), written[0].clone()];
    if left != expected {
        signs.push(format!("left behind {left:?}"));
    }
    (!signs.is_empty()).then(|| signs.join("; "))
}

/// What an answer says about its statement.
fn sign(piece: &Piece) -> Option<String> {
    match piece {
        // A server or a transaction that takes no writes; a lock that somebody else has; LOCK TABLES.
        Piece::Err { code: 1290 | 1792 | 1836 | 1205 | 1099 | 1100 | 1223, message, .. } => {
            Some(String::from_utf8_lossy(message).into_owned())
        }
        Piece::Ok { affected, insert_id, status, info, .. } => {
            if status & STATUS_IN_TRANS != 0 || status & STATUS_AUTOCOMMIT == 0 || *affected > 0 || *insert_id > 0 {
                return Some(format!("{affected} rows, insert id {insert_id}, status {status:#x}"));
            }
            // The server told of a change that is none of a transaction's state: `1` in a tracker of type 2.
            let told = info.windows(3).any(|bytes| bytes == b"\x02\x011");
            told.then(|| format!("trackers {}", info.escape_ascii()))
        }
        Piece::Rows { end: Some(end), .. } => sign(end),
        _ => None,
    }
}

/// What a session must see, on a replica that is a second late.
#[test]
fn each_level_sees_what_it_promises_on_a_late_replica() {
    if !real_mysql::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.t (n INT AUTO_INCREMENT PRIMARY KEY)");
    sessions::mark_servers(&cluster);
    cluster.replicas[0].follow(&cluster.primary, ", SOURCE_DELAY=1");
    for level in ["off", "session", "node", "strict"] {
        cluster.wait_for_replicas();
        let server =
            before(&cluster, &format!("causal_reads = \"{level}\"\ncausal_timeout = \"5s\"\nlag_max = \"1h\""));
        wait_for_replica(&server);
        block_on(sees(level, &server, &cluster));
    }
    // One that does not come: the wait is no longer than it may be, and its connection is of use again.
    cluster.replicas[0].follow(&cluster.primary, ", SOURCE_DELAY=600");
    let server = before(&cluster, "causal_timeout = \"300ms\"\nlag_max = \"1h\"");
    wait_for_replica(&server);
    block_on(async {
        let mut conn = connect(&server).await;
        for turn in 1..=3 {
            conn.query_drop("INSERT INTO t VALUES ()").await.expect("written");
            let started = Instant::now();
            assert_eq!(one::<u32>(&mut conn, WHO).await, 1, "the primary answers");
            assert!(started.elapsed() >= Duration::from_millis(250), "{:?}", started.elapsed());
            assert_eq!(metric(&server, "causal_timeouts_total", ""), turn);
        }
        let mut other = connect(&server).await;
        assert_eq!(one::<u32>(&mut other, WHO).await, 2, "who has written nothing reads there");
    });
    let label = format!("server=\"127.0.0.1:{}\"", cluster.replicas[0].port);
    let opened = metric(&server, "server_connects_total", &label);
    assert!(opened <= 2, "{opened}: a wait that was too long is over when its session says so");
}

async fn sees(level: &str, server: &Server, cluster: &Cluster) {
    let (mut writer, mut other) = (connect(server).await, connect(server).await);
    const COUNT: &str = "SELECT COUNT(*) FROM t";
    let written = || cluster.primary.sql("SELECT COUNT(*) FROM d.t").parse::<u64>().expect("a number");
    let start = written();
    assert_eq!(one::<u64>(&mut writer, COUNT).await, start);
    assert_eq!(one::<u32>(&mut other, WHO).await, 2, "{level}");
    // Its own writes: in autocommit, in a transaction, prepared, by a definition.
    writer.query_drop("INSERT INTO t VALUES ()").await.expect("written");
    writer.query_drop("BEGIN").await.expect("begun");
    writer.query_drop("INSERT INTO t VALUES ()").await.expect("written");
    writer.query_drop("COMMIT").await.expect("committed");
    writer.exec_drop("INSERT INTO t VALUES ()", ()).await.expect("written");
    // Others first: a wait for the one session would make it true for all.
    let sees_others = matches!(level, "node" | "strict");
    let seen: u64 = one(&mut other, COUNT).await;
    assert_eq!(seen, if sees_others { start + 3 } else { start }, "{level}: what others write through the splitter");
    let seen: u64 = one(&mut writer, COUNT).await;
    assert_eq!(seen, if level == "off" { start } else { start + 3 }, "{level}: what it wrote");
    assert_eq!(one::<u32>(&mut writer, WHO).await, 2, "{level}: the replica has waited");
    // What somebody else writes past the splitter.
    cluster.wait_for_replicas();
    let before = written();
    cluster.primary.sql("INSERT INTO d.t VALUES ()");
    let seen: u64 = one(&mut other, COUNT).await;
    assert_eq!(seen, if level == "strict" { before + 1 } else { before }, "{level}: what is written elsewhere");
    let (waits, asked) = (metric(server, "causal_waits_total", ""), metric(server, "causal_questions_total", ""));
    assert_eq!((waits > 0, asked > 0), (level != "off", level == "strict"), "{level}");
    let late = metric(server, "causal_timeouts_total", "") + metric(server, "causal_fallbacks_total", "");
    assert_eq!(late, 0, "{level}");
}

/// MySQL forgets the login's character set when a connection is reset, so the next one to borrow it must be given its own.
#[test]
fn a_pooled_connection_has_the_character_set_of_its_clients_login() {
    if !real_mysql::is_installed() {
        return;
    }
    const LATIN1: u8 = 8;
    const UNICODE: u8 = 224;
    let cluster = Cluster::start(0);
    cluster.primary.sql("CREATE TABLE d.t (n INT PRIMARY KEY, s VARCHAR(20) CHARACTER SET utf8mb4)");
    let server = before(&cluster, "pool_max = 1\n");
    let mut number = 0;
    let mut session = |address: SocketAddr, collation: u8, resets: bool| {
        let mut log_on = LogOn::new(USER, PASSWORD, Some("d"));
        log_on.collation = collation;
        let mut wire = Wire::connect(address, &log_on).expect("a login");
        number += 1;
        wire.query("SET @x = 1").expect("the connection is the session's own, to be reset behind it");
        if resets {
            wire.send(0x1F, b"").expect("sent");
            wire.answer(Shape::Single).expect("an answer");
        }
        let sql = [format!("INSERT INTO t VALUES ({number}, '").as_bytes(), b"caf\xe9')"].concat();
        let answer = wire.query(sql).expect("an answer");
        let columns = match &wire.query("SELECT 'a'").expect("an answer")[..] {
            [Piece::Rows { columns, .. }] => columns.clone(),
            other => panic!("{other:?}"),
        };
        let row = wire.row(&format!(
            "SELECT (SELECT HEX(s) FROM t WHERE n = {number}), @@character_set_client, @@character_set_connection, \
             @@character_set_results, @@collation_connection"
        ));
        (answer.first().and_then(Piece::code), columns, row)
    };
    let (direct, through) = (local(&cluster.primary), server.address("db"));
    for (collation, resets) in
        [(LATIN1, false), (UNICODE, false), (45, false), (LATIN1, true), (255, false), (UNICODE, true)]
    {
        let expected = session(direct, collation, resets);
        for turn in 0..3 {
            assert_eq!(session(through, collation, resets), expected, "{collation}, resets {resets}, turn {turn}");
        }
        if (collation, resets) == (LATIN1, false) {
            assert_eq!(expected.2[0].as_deref(), Some("636166C3A9"), "it is written as it was meant");
        }
    }
}

/// How a server is convinced that does not know the password yet, and one that does.
#[test]
fn servers_are_logged_on_to_by_caching_sha2_password() {
    if !real_mysql::is_installed() {
        return;
    }
    let identity = trusted().server(&["127.0.0.1", "localhost"], Kind::Ecdsa);
    let files = [("server.pem", identity.chain.as_str()), ("server.key", identity.key.as_str())];
    let cluster = Cluster::start_with(0, &files, &["--ssl-cert=$DIR/server.pem", "--ssl-key=$DIR/server.key"]);
    let cold = || drop(cluster.primary.sql("FLUSH PRIVILEGES"));
    let works = |server: &Server| {
        eventually("the server is up", || metric(server, "server_up", "") == 1);
        block_on(async { assert_eq!(one::<u32>(&mut connect(server).await, "SELECT 7").await, 7) });
    };
    // Without any way that nobody can read.
    cold();
    let server = split::site(Driver::Auto, &cluster, "").start();
    let line = server.wait_for_line("why", |line| line.contains("mysql server is down"));
    assert!(line.contains("server_tls") && line.contains("server_public_key"), "{line}");
    cluster.primary.warm_up();
    works(&server);
    drop(server);
    cold();
    works(&before(&cluster, ""));
    cold();
    let tls = split::site(Driver::Auto, &cluster, "server_tls = { ca = \"$DIR/ca.pem\" }\n");
    works(&tls.file("ca.pem", trusted().pem.as_bytes()).start());
    cold();
    let socket = cluster.primary.socket();
    let site = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";
    let table = format!(
        "[mysql.db]\nlisten = \"127.0.0.1:0\"\nprimary = \"unix:{}\"\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         monitor_interval = \"100ms\"\n",
        socket.display()
    );
    works(&Site::new(Driver::Auto, site).more(&table).start());
}

/// What MySQL keeps of a password for `caching_sha2_password` is enough: who has shown it once lets others in by the short exchange.
#[test]
fn an_account_is_let_in_by_what_mysql_keeps_of_its_password() {
    if !real_mysql::is_installed() {
        return;
    }
    let identity = trusted().server(&["127.0.0.1", "localhost"], Kind::Ecdsa);
    let cluster = Cluster::start(0);
    cluster.primary.sql("CREATE USER lifted@'%' IDENTIFIED BY 'pa55 wörd'; GRANT SELECT ON d.* TO lifted@'%'");
    let stored = cluster.primary.sql("SELECT HEX(authentication_string) FROM mysql.user WHERE user = 'lifted'");
    let keys = format!(
        "{}tls = {{ certificates = [{{ chain = \"$DIR/db.pem\", key = \"$DIR/db.key\" }}] }}\n\
         [[mysql.db.users]]\nname = \"lifted\"\npassword = \"0x{stored}\"\n",
        sealed()
    );
    let start = || split::site(Driver::Auto, &cluster, &keys).identity("db", &identity).one_worker().start();
    let ask = |server: &Server, password: &str, arguments: &[&str]| {
        let mut client = real_mysql::client_program();
        client.args(["-h127.0.0.1", "-P", &server.address("db").port().to_string(), "-ulifted", "-N", "-B"]);
        let output = client
            .arg(format!("-p{password}"))
            .args(arguments)
            .args(["-e", "SELECT CURRENT_USER()"])
            .output()
            .expect("the client runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { text(&output.stdout) } else { text(&output.stderr) }
    };
    let (plain, with_key) = (&["--ssl-mode=DISABLED"][..], &["--ssl-mode=DISABLED", "--get-server-public-key"][..]);
    let (right, wrong) = ("pa55 wörd", "pa55 word");
    let server = start();
    let told = ask(&server, right, plain);
    assert!(told.contains("requires secure connection"), "nobody gets it in clear: {told}");
    assert!(ask(&server, wrong, with_key).contains("ERROR 1045"));
    assert_eq!(ask(&server, right, with_key), "lifted@%");
    assert_eq!(ask(&server, right, plain), "lifted@%", "the short exchange");
    for arguments in [plain, with_key, &["--ssl-mode=REQUIRED"]] {
        let told = ask(&server, wrong, arguments);
        assert!(!told.contains("lifted@%"), "{arguments:?}: {told}");
    }
    assert!(ask(&server, wrong, &["--ssl-mode=REQUIRED"]).contains("ERROR 1045"));
    block_on(async {
        let mut conn = connect(&server).await;
        let change = |password: &str| {
            mysql_async::ChangeUserOpts::new().with_user(Some("lifted".into())).with_pass(Some(password.into()))
        };
        conn.change_user(change(right)).await.expect("the short exchange, in a session of another account");
        assert_eq!(one::<String>(&mut conn, "SELECT CURRENT_USER()").await, "lifted@%");
        assert!(conn.change_user(change(wrong)).await.is_err());
    });
    drop(server);
    let server = start();
    assert_eq!(ask(&server, right, &["--ssl-mode=REQUIRED"]), "lifted@%", "as first, over TLS");
    assert_eq!(ask(&server, right, plain), "lifted@%");
}

/// MySQL's own client: over TLS, sealed with the splitter's key or not, packed in each way; with query attributes.
#[test]
fn mysqls_own_client_sees_what_the_server_shows() {
    if !real_mysql::is_installed() {
        return;
    }
    let identity = trusted().server(&["127.0.0.1", "localhost"], Kind::Ecdsa);
    let cluster = Cluster::start(1);
    cluster.primary.sql(
        "CREATE TABLE d.people (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40), born DATE, data LONGBLOB);
         INSTALL COMPONENT 'file://component_query_attributes'",
    );
    cluster.wait_for_replicas();
    let keys = format!(
        "{}tls = {{ certificates = [{{ chain = \"$DIR/db.pem\", key = \"$DIR/db.key\" }}] }}\nlocal_infile = true\n\
         server_compression = \"zstd\"\n",
        sealed()
    );
    let site = split::site(Driver::Auto, &cluster, &keys).identity("db", &identity);
    let server = site.file("ca.pem", trusted().pem.as_bytes()).file("rows.csv", b"one\ntwo\nthree\n").start();
    wait_for_replica(&server);
    let rows = server.folder().join("rows.csv");
    let script = format!(
        "TRUNCATE people; INSERT INTO people (name, born) VALUES ('Zoë 💡', '2001-02-03'), ('', NULL);
         SELECT LAST_INSERT_ID(), ROW_COUNT(); SELECT * FROM people; SELECT CAST('1x' AS SIGNED); SHOW WARNINGS;
         LOAD DATA LOCAL INFILE '{}' INTO TABLE people (name); SELECT COUNT(*) FROM people;
         SET @a = 5; SELECT @a + 1; BEGIN; DELETE FROM people; ROLLBACK; SELECT COUNT(*) FROM people;
         CREATE TEMPORARY TABLE people (x INT); SELECT COUNT(*) FROM people; DROP TEMPORARY TABLE people;
         UPDATE people SET data = REPEAT('x', 20000000) WHERE id = 1; SELECT LENGTH(data), MD5_OF FROM \
         (SELECT data, SHA2(data, 256) AS MD5_OF FROM people WHERE id = 1) AS x; SELECT data FROM people WHERE id = 1;
         SELECT * FROM nowhere; SELEKT 1;
         query_attributes trace abc n 5
         SELECT mysql_query_attribute_string('trace'), mysql_query_attribute_string('n'), mysql_query_attribute_string('z');
         resetconnection
         SELECT @a, DATABASE(), @@character_set_client; SELECT 1 INTO @b; SELECT @b; USE e; SELECT DATABASE()",
        rows.display()
    );
    let ask = |address: SocketAddr, arguments: &[&str]| {
        let mut client = real_mysql::client_program();
        client.args(["-h127.0.0.1", "-P", &address.port().to_string(), "-u", USER, "-f", "-t", "--comments"]);
        client.args([
            "--default-character-set=utf8mb4",
            "--local-infile=1",
            "--max-allowed-packet=64M",
            "--binary-as-hex",
        ]);
        client.arg(format!("-p{PASSWORD}")).args(arguments).arg("d");
        told(&mut client, &script)
    };
    let ca = format!("--ssl-ca={}", server.folder().join("ca.pem").display());
    let direct = ask(local(&cluster.primary), &["--ssl-mode=REQUIRED"]);
    assert!(direct.contains("abc") && direct.contains("20000000") && direct.lines().count() > 40, "{direct}");
    for arguments in [
        &["--ssl-mode=VERIFY_IDENTITY", &ca][..],
        &["--ssl-mode=DISABLED", "--get-server-public-key"],
        &["--ssl-mode=REQUIRED", "--compression-algorithms=zstd", "--zstd-compression-level=7"],
        &["--ssl-mode=DISABLED", "--compression-algorithms=zlib"],
    ] {
        let through = ask(server.address("db"), arguments);
        for (number, (expected, found)) in direct.lines().zip(through.lines()).enumerate() {
            assert!(expected == found, "{arguments:?}, line {}: {found:.300} instead of {expected:.300}", number + 1);
        }
        assert_eq!(direct.lines().count(), through.lines().count(), "{arguments:?}");
    }
    assert!(on_replicas(&server) > 8, "it reads from the replica");
}

/// What a client prints that is given a script.
fn told(client: &mut Command, script: &str) -> String {
    let mut child = client
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("its input");
    std::io::Write::write_all(&mut input, script.as_bytes()).expect("written");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Drivers that know MySQL's ways: the same program prints the same.
#[test]
fn drivers_see_the_same_as_without_the_splitter() {
    if !real_mysql::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql(
        "DELIMITER //
         CREATE PROCEDURE d.two_results(n INT) BEGIN SELECT n, 'é'; SELECT n + 1 WHERE 1; END//
         CREATE PROCEDURE d.fails() BEGIN SELECT 1; SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'on purpose'; END//",
    );
    cluster.wait_for_replicas();
    let server = before(&cluster, "pool_max = 4\n");
    wait_for_replica(&server);
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/sql");
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/node/node_modules");
    for (name, program, compress) in [
        ("PyMySQL", vec!["/usr/bin/python3".into(), peers.join("python.py"), "pymysql".into()], false),
        ("mysql2", vec!["node".into(), peers.join("node.js")], true),
    ] {
        let run = |address: SocketAddr| {
            cluster.primary.sql("DROP TABLE IF EXISTS d.people");
            cluster.wait_for_replicas();
            let mut command = Command::new(&program[0]);
            command.args(&program[1..]).args(["127.0.0.1", &address.port().to_string(), USER, PASSWORD]);
            command.args(compress.then_some("compress")).env("NODE_PATH", &modules);
            let output = command.output().expect("it runs");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.success(), text(&output.stdout) + &text(&output.stderr))
        };
        let is_there = match name {
            "mysql2" => modules.join("mysql2").is_dir() && has_program("node"),
            _ => Command::new(&program[0]).args(["-c", "import pymysql"]).status().is_ok_and(|status| status.success()),
        };
        if !is_there {
            eprintln!("SKIPPED: {name} is not installed");
            continue;
        }
        let (direct, through) = (run(local(&cluster.primary)), run(server.address("db")));
        assert_eq!(through, direct, "{name}");
        assert!(through.1.lines().count() > 10, "{name}: {}", through.1);
    }
    // Long packets, several statements in one, compressed or not.
    block_on(async {
        for compression in [None, Some(Compression::fast())] {
            let options = OptsBuilder::default()
                .ip_or_hostname("127.0.0.1")
                .tcp_port(server.address("db").port())
                .user(Some(USER))
                .pass(Some(PASSWORD))
                .db_name(Some("d"))
                .max_allowed_packet(Some(64 << 20))
                .compression(compression)
                .prefer_socket(false);
            let mut conn = Conn::new(options).await.expect("logged on");
            conn.query_drop("CREATE TABLE IF NOT EXISTS long_rows (n INT PRIMARY KEY, v LONGBLOB)")
                .await
                .expect("made");
            let len_max = if compression.is_some() { 16 << 20 } else { (32 << 20) + 5 };
            for len in [(16 << 20) - 1, len_max] {
                let value = pattern(len);
                conn.exec_drop("REPLACE INTO long_rows VALUES (1, ?)", (&value,)).await.expect("written");
                let read: Option<Vec<u8>> =
                    conn.query_first("SELECT v FROM long_rows WHERE n = 1").await.expect("read");
                assert!(read.is_some_and(|read| read == value), "{len} bytes");
            }
            let mut results = conn.query_iter("SELECT 1; SELECT 'two' UNION SELECT 'three'; DO 1").await.expect("sent");
            let mut rows = 0;
            while !results.is_empty() {
                rows += results.collect::<mysql_async::Row>().await.expect("rows").len();
            }
            assert_eq!(rows, 3);
            drop(results);
            conn.disconnect().await.expect("gone");
        }
    });
}

/// Clients that write unique tokens without a pause, each once. What became of each: `None` is acknowledged.
async fn write(address: SocketAddr, writer: usize, stop: Arc<AtomicBool>) -> Vec<(String, Option<String>)> {
    let mut conn = found::connect(address).await;
    let mut written = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let token = format!("w{writer}-{}", written.len());
        let end = conn.query_drop(format!("INSERT INTO log VALUES ('{token}')")).await;
        let own = match &end {
            Ok(()) => found::one::<u32>(&mut conn, &format!("SELECT COUNT(*) FROM log WHERE token = '{token}'")).await,
            Err(_) => 1,
        };
        assert_eq!(own, 1, "{token}: a session sees what it has written");
        if matches!(&end, Err(mysql_async::Error::Io(_)) | Err(mysql_async::Error::Driver(_))) {
            conn = found::connect(address).await;
        }
        written.push((token, end.err().map(|error| error.to_string())));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    written
}

/// A planned change of the primary fails no write; a crash and a promotion by hand lose none that was acknowledged by both.
#[test]
fn the_primary_is_found_again_by_hand_made_changes_and_crashes() {
    if !real_mysql::is_installed() {
        return;
    }
    let keys = format!("{}causal_reads = \"node\"\n", sealed());
    let mut scene = found::scene(2, &keys);
    let address = scene.address;
    let stop = Arc::new(AtomicBool::new(false));
    block_on(async {
        let writers: Vec<_> = (0..3).map(|n| tokio::spawn(write(address, n, Arc::clone(&stop)))).collect();
        tokio::time::sleep(Duration::from_millis(700)).await;
        let Cluster { primary, replicas, .. } = &scene.cluster;
        primary.sql("SET GLOBAL read_only=1");
        replicas[0].catch_up(primary);
        replicas[0].promote();
        primary.follow(&replicas[0], "");
        replicas[1].follow(&replicas[0], "");
        scene.wait_for_primary(replicas[0].port);
        tokio::time::sleep(Duration::from_millis(700)).await;
        stop.store(true, Ordering::Relaxed);
        let (mut all, mut failed) = (0, Vec::new());
        for writer in writers {
            let written = writer.await.expect("a writer");
            all += written.len();
            failed.extend(written.into_iter().filter(|(_, end)| end.is_some()));
        }
        assert!(failed.is_empty() && all > 50, "{all} writes, {failed:?}");
    });
    let count = scene.cluster.replicas[0].sql("SELECT COUNT(*), COUNT(DISTINCT token) FROM d.log");
    let (rows, tokens) = count.split_once('\t').expect("two numbers");
    assert_eq!(rows, tokens, "each was written once");
    // The one that takes writes now is lost; another one has everything and is promoted.
    let stop = Arc::new(AtomicBool::new(false));
    let (written, lost) = block_on(async {
        let writers: Vec<_> = (10..13).map(|n| tokio::spawn(write(address, n, Arc::clone(&stop)))).collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        // Nothing is acknowledged any more that the other one has not got.
        scene.server.ctl_ok(&["mysql", "drain", &found::id(scene.cluster.replicas[0].port)]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        scene.cluster.primary.catch_up(&scene.cluster.replicas[0]);
        scene.cluster.replicas[0].kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        scene.cluster.primary.promote();
        let started = Instant::now();
        scene.wait_for_primary(scene.cluster.primary.port);
        let lost = started.elapsed();
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for writer in writers {
            all.extend(writer.await.expect("a writer"));
        }
        (all, lost)
    });
    let failed: Vec<_> = written.iter().filter(|(_, end)| end.is_some()).collect();
    assert!(failed.is_empty() && written.len() > 50, "held, not failed: {failed:?}; found again in {lost:?}");
    let present = scene.cluster.primary.sql("SELECT token FROM d.log");
    let present: std::collections::HashSet<&str> = present.lines().collect();
    assert!(written.iter().all(|(token, _)| present.contains(&**token)), "what was acknowledged is there");
}
