//! Corners of a session: a login that does not come to its end, a question that is not answered, numbers and statements that
//! belong to one session while others use the same few connections.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests crash servers")]
mod mariadb;
#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "other tests look at packets")]
mod sessions;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests have relays")]
mod split;
#[path = "support/sql_wire.rs"]
#[allow(dead_code, reason = "other tests look at whole answers")]
mod sql_wire;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Statement};
use one_server::mysql::protocol::capability;
use one_server::mysql::protocol::login::Login;
use sessions::{block_on, code, connect, mark_servers, one, wait_for_reads_on_replica};
use sql_wire::{LogOn, Piece, Shape, Wire, text_values};
use support::ports;
use support::*;
use tokio::task::JoinHandle;

/// All that a client may send before it is in, bytes, in one message.
const LOGIN_BYTES_MAX: usize = 64 << 10;
/// The time that a login may take.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

fn log_on() -> LogOn {
    LogOn::new(USER, PASSWORD, Some("d"))
}

/// A primary and a replica with these tables; see [`mark_servers`].
fn cluster(sql: &str) -> Cluster {
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql(sql);
    cluster.wait_for_replicas();
    cluster
}

/// A splitter with one worker before them; reads arrive at the replica.
fn splitter(cluster: &Cluster, driver: Driver, keys: &str) -> (Server, SocketAddr) {
    let server = split::site(driver, cluster, keys).start();
    let address = server.address("db");
    block_on(wait_for_reads_on_replica(address.port()));
    (server, address)
}

/// A login packet, with bytes behind it that a server ignores so that all of it has this length.
fn login_of(wire: &Wire, bytes: usize) -> Vec<u8> {
    let mut login = Vec::new();
    wire.login(1, &mut login);
    login.resize(bytes, 0);
    let payload_bytes = (bytes - 4) as u32;
    login[..3].copy_from_slice(&payload_bytes.to_le_bytes()[..3]);
    login
}

/// A connection on which the splitter has said who it is.
fn greeted(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connected");
    let mut head = [0; 4];
    stream.read_exact(&mut head).expect("a greeting");
    let mut greeting = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    stream.read_exact(&mut greeting).expect("a greeting");
    stream
}

/// What comes until the splitter closes the connection, which must be within `limit`.
#[track_caller]
fn told_until_closed(stream: &mut TcpStream, limit: Duration) -> Vec<u8> {
    let (begun, mut told, mut piece) = (Instant::now(), Vec::new(), [0; 4096]);
    loop {
        let left = limit.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()).expect("closed in time");
        stream.set_read_timeout(Some(left)).expect("a limit");
        match stream.read(&mut piece) {
            Ok(0) => return told,
            Ok(read) => told.extend_from_slice(&piece[..read]),
            // What we sent was not read to its end.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return told,
            Err(error) => panic!("{error}"),
        }
    }
}

fn refused(server: &Server) -> u64 {
    server.metric("one_server_splitter_clients_refused_total", "{splitter=\"db\"}") as u64
}

/// As soon as the first bytes announce more than 64 KiB, of the login or of the answer to what is asked behind it, nothing is
/// waited for and nothing kept.
#[test]
fn a_login_is_no_longer_than_64_kib() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    with_both_drivers(|driver| {
        let server = split::site(driver, &cluster, "").start();
        let address = server.address("db");
        eventually("a session", || Wire::connect(address, &log_on()).is_ok());
        let mut wire = Wire::before_login(address, &log_on()).expect("greeted");
        let longest = login_of(&wire, LOGIN_BYTES_MAX);
        wire.send_raw(&longest).expect("sent");
        assert!(matches!(wire.login_end(), Ok(Piece::Ok { .. })), "this is not too long");
        assert_eq!(wire.row("SELECT 1")[0].as_deref(), Some("1"));

        let soon = LOGIN_TIMEOUT / 2;
        let before = refused(&server);
        let too_long = login_of(&wire, LOGIN_BYTES_MAX + 1);
        for sent in [&too_long[..4], &too_long] {
            let mut stream = greeted(address);
            // It may be closed before all of it is sent.
            let _ = stream.write_all(sent);
            assert_eq!(told_until_closed(&mut stream, soon), b"", "{} bytes", sent.len());
        }
        // By a method that nobody knows: the splitter asks for a proof by one of its own.
        let (mut login, user) = (Vec::new(), USER.as_bytes());
        let capabilities = capability::PROTOCOL_41 | capability::SECURE_CONNECTION | capability::PLUGIN_AUTH;
        let (answer, plugin) = (&[7; 20], b"unknown");
        Login { capabilities, collation: 45, user, answer, schema: b"", plugin, zstd_level: 0 }.encode(&mut login, 1);
        let proof = [&[20, 0, 0, 3], &[7; 20][..]].concat();
        for (rest, is_answered) in [(&proof[..], true), (&[&too_long[..3], &[3]].concat(), false)] {
            let mut stream = greeted(address);
            stream.write_all(&[&login, rest].concat()).expect("sent");
            let told = told_until_closed(&mut stream, soon);
            let asked = 4 + usize::from(told[0]);
            assert_eq!(told[1..5], [0, 0, 2, 0xFE], "{}", told.escape_ascii());
            assert_eq!(told[asked..].get(4), is_answered.then_some(&0xFF), "{}", told.escape_ascii());
        }
        eventually("all are counted", || refused(&server) == before + 4);
        assert_eq!(Wire::connect(address, &log_on()).expect("a login").row("SELECT 2")[0].as_deref(), Some("2"));
    });
}

/// The time for a login is the same whatever comes meanwhile, as long as the login does not come to its end.
#[test]
fn a_client_that_does_not_log_on_is_closed_in_time() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    with_both_drivers(|driver| {
        let server = split::site(driver, &cluster, "").start();
        let address = server.address("db");
        eventually("a session", || Wire::connect(address, &log_on()).is_ok());
        let before = refused(&server);
        let wire = Wire::before_login(address, &log_on()).expect("greeted");
        let login = login_of(&wire, 200);
        let begun = Instant::now();
        let closed = |mut stream: TcpStream| {
            assert_eq!(told_until_closed(&mut stream, PATIENCE * 2), b"");
            begun.elapsed()
        };
        let drip = |mut stream: TcpStream| {
            let mut pieces = login.iter().take(100);
            while pieces.next().is_some_and(|byte| stream.write_all(&[*byte]).is_ok()) {
                stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a limit");
                if matches!(stream.read(&mut [0; 1]), Ok(0)) {
                    break;
                }
            }
            begun.elapsed()
        };
        let half = greeted(address);
        (&half).write_all(&login[..100]).expect("sent");
        let (silent, dripping) = (greeted(address), greeted(address));
        let elapsed = std::thread::scope(|scope| {
            let threads =
                [scope.spawn(|| closed(silent)), scope.spawn(|| closed(half)), scope.spawn(|| drip(dripping))];
            threads.map(|thread| thread.join().expect("closed"))
        });
        for elapsed in elapsed {
            assert!(elapsed > LOGIN_TIMEOUT - Duration::from_millis(100) && elapsed < LOGIN_TIMEOUT * 2, "{elapsed:?}");
        }
        drop(wire);
        eventually("all are counted", || refused(&server) == before + 4);
        eventually("nobody is left", || server.metric("one_server_splitter_clients", "{splitter=\"db\"}") == 0.0);
    });
}

/// A held connection is asked to forget warnings that are not the session's. When the server says nothing in time, its late
/// answer must not be taken for the one to a later statement: the session ends.
#[test]
fn a_question_that_is_not_answered_in_time_shifts_no_answers() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster("DO 1");
    for driver in [Driver::IoUring, Driver::Epoll] {
        let (_server, address) = splitter(&cluster, driver, "connect_timeout = \"500ms\"");
        let begun = || {
            let mut wire = Wire::connect(address, &log_on()).expect("a login");
            let at = wire.row("SELECT id FROM who")[0].clone();
            assert_eq!(at.as_deref(), Some("2"), "on the replica, which then knows of no warnings");
            assert_eq!(wire.query("BEGIN").expect("begun")[0].code(), None);
            wire
        };
        let mut wire = begun();
        let nothing = wire.query("SHOW WARNINGS").expect("an answer");
        assert!(matches!(&nothing[..], [Piece::Rows { rows, .. }] if rows.is_empty()), "{nothing:?}");
        assert_eq!(wire.row("SELECT 7")[0].as_deref(), Some("7"));

        let mut wire = begun();
        cluster.primary.freeze(true);
        let answer = wire.query("SHOW WARNINGS").expect("an answer");
        let [Piece::Err { code: 1158, message, .. }] = &answer[..] else { panic!("{answer:?}") };
        assert!(message.ends_with(b"connect again"), "{}", message.escape_ascii());
        assert!(wire.is_closed_within(PATIENCE), "nothing more is answered");
        cluster.primary.freeze(false);
        eventually("others can log on", || {
            Wire::connect(address, &log_on())
                .is_ok_and(|mut wire| wire.query("BEGIN").is_ok_and(|a| a[0].code().is_none()))
        });
        assert_eq!(begun().row("SELECT 8")[0].as_deref(), Some("8"));
    }
}

/// Clients that write all the time, each pinned by a number of the sequence `s` for a while: between two of their lives their
/// connections go to whoever needs one.
struct Others {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<usize>>,
}

impl Others {
    fn start(port: u16, count: usize) -> Others {
        let stop = Arc::new(AtomicBool::new(false));
        let busy = |_| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let (mut conn, mut turns) = (connect(port).await, 0);
                while !stop.load(Relaxed) {
                    conn.query_drop("INSERT INTO numbers VALUES (NEXT VALUE FOR s, 'other')").await.expect("written");
                    conn.query_drop("SET @a = 'of another'").await.expect("set");
                    conn.query_drop("PREPARE p FROM 'SELECT ''of another'', ?'").await.expect("prepared");
                    conn.disconnect().await.expect("left");
                    conn = connect(port).await;
                    turns += 1;
                }
                turns
            })
        };
        let tasks = (0..count).map(busy).collect();
        Others { stop, tasks }
    }

    /// The lives they had.
    async fn end(self) -> usize {
        self.stop.store(true, Relaxed);
        let mut turns = 0;
        for task in self.tasks {
            turns += task.await.expect("no panic");
        }
        turns
    }
}

/// What [`Others`] use.
const SEQUENCE: &str = "CREATE SEQUENCE d.s; CREATE TABLE d.numbers (n BIGINT, token VARCHAR(20)) ENGINE=InnoDB";
/// Two connections for those who are tied to one, and two that others have in turn.
const FOUR: &str = "pool_max = 4";

/// `LASTVAL` is about the connection, which must be the one that the number was given to.
#[test]
fn the_last_number_of_a_sequence_is_the_sessions_own() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster(SEQUENCE);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let (_server, address) = splitter(&cluster, driver, FOUR);
        let port = address.port();
        block_on(async {
            let others = Others::start(port, 2);
            let mut sessions = [connect(port).await, connect(port).await];
            for turn in 0..20 {
                for (n, conn) in sessions.iter_mut().enumerate() {
                    let sql = format!("INSERT INTO numbers VALUES (NEXT VALUE FOR s, '{driver:?}-{n}-{turn}')");
                    conn.query_drop(sql).await.expect("written");
                }
                for (n, conn) in sessions.iter_mut().enumerate() {
                    let last: i64 = one(conn, "SELECT LASTVAL(s)").await;
                    let sql = format!("SELECT n FROM numbers WHERE token = '{driver:?}-{n}-{turn}'");
                    assert_eq!(last, one::<i64>(conn, &sql).await, "session {n}, turn {turn}");
                }
                // Whoever comes next has none yet, on a connection that had many.
                let fresh = &mut sessions[turn % 2];
                std::mem::replace(fresh, connect(port).await).disconnect().await.expect("left");
                assert_eq!(one::<Option<i64>>(fresh, "SELECT LASTVAL(s)").await, None, "turn {turn}");
            }
            assert!(others.end().await > 2, "others had the connections, too");
        });
    }
}

/// `PREPARE` gives a name to a statement on one connection, which others use for names of their own.
#[test]
fn statements_that_were_prepared_as_text_are_the_sessions_own() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster(SEQUENCE);
    for driver in [Driver::IoUring, Driver::Epoll] {
        let (_server, address) = splitter(&cluster, driver, FOUR);
        let port = address.port();
        block_on(async {
            let others = Others::start(port, 2);
            let mut sessions = [connect(port).await, connect(port).await];
            for life in 0..4 {
                for (n, conn) in sessions.iter_mut().enumerate() {
                    assert_eq!(code(&conn.query_drop("EXECUTE p").await.expect_err("no such statement")), 1243);
                    let sql = format!("PREPARE p FROM 'SELECT CONCAT(?, ''-{n}-{life}-'', id) FROM who'");
                    conn.query_drop(sql).await.expect("prepared");
                }
                for turn in 0..5 {
                    for (n, conn) in sessions.iter_mut().enumerate() {
                        conn.query_drop(format!("SET @a = {turn}")).await.expect("set");
                        let text: String = one(conn, "EXECUTE p USING @a").await;
                        assert_eq!(text, format!("{turn}-{n}-{life}-1"));
                    }
                }
                let [first, second] = &mut sessions;
                first.query_drop("DEALLOCATE PREPARE p").await.expect("forgotten");
                std::mem::replace(second, connect(port).await).disconnect().await.expect("left");
            }
            assert!(others.end().await > 2, "others had the connections, too");
        });
    }
}

/// What a text means depends on the settings of the session: the mode, the character set. Sessions that prepare the same text
/// in their own settings share one connection to each server, and none of them gets another one's statement.
#[test]
fn the_same_text_prepared_in_other_settings_is_another_statement() {
    if !mariadb::is_installed() {
        return;
    }
    const VALUE: &str = "CONCAT('1' || '0', '/', CHAR_LENGTH('\u{e9}'), '/', \"id\", '/', id)";
    // Settings, and what the text means there, but for the number of the server.
    const SESSIONS: [(&str, &str); 4] = [
        ("SELECT 1", "1/1/id/"),
        ("SET sql_mode='PIPES_AS_CONCAT'", "10/1/id/"),
        ("SET NAMES latin1", "1/2/id/"),
        ("SET sql_mode='ANSI_QUOTES'", "1/1/{server}/"),
    ];
    let cluster = cluster("CREATE TABLE d.kept (session INT, v VARCHAR(40)) ENGINE=InnoDB");
    for driver in [Driver::IoUring, Driver::Epoll] {
        cluster.primary.sql("TRUNCATE d.kept");
        cluster.wait_for_replicas();
        let (_server, address) = splitter(&cluster, driver, "pool_max = 1");
        let meaning = |n: usize, server: u32| {
            let server = server.to_string();
            SESSIONS[n].1.replace("{server}", &server) + &server
        };
        block_on(async {
            let mut sessions: Vec<(Conn, Vec<Statement>)> = Vec::new();
            for (settings, _) in SESSIONS {
                let mut conn = connect(address.port()).await;
                conn.query_drop(settings).await.expect("set");
                let mut statements = Vec::new();
                for text in [
                    format!("INSERT INTO kept SELECT ?, {VALUE} FROM who"),
                    format!("SELECT {VALUE} FROM who"),
                    format!("SELECT {VALUE} FROM who FOR UPDATE"),
                ] {
                    statements.push(conn.prep(text).await.expect("prepared"));
                }
                sessions.push((conn, statements));
            }
            for turn in 0..10 {
                for (n, (conn, statements)) in sessions.iter_mut().enumerate() {
                    conn.exec_drop(&statements[0], (n,)).await.expect("written");
                    for (statement, server) in [(1, 2), (2, 1)] {
                        let value: Option<String> = conn.exec_first(&statements[statement], ()).await.expect("read");
                        assert_eq!(value, Some(meaning(n, server)), "session {n}, turn {turn}, server {server}");
                    }
                }
            }
        });
        let kept = cluster.primary.sql("SELECT session, v, COUNT(*) FROM d.kept GROUP BY session, v ORDER BY session");
        let expected: Vec<_> = (0..SESSIONS.len()).map(|n| format!("{n}\t{}\t10", meaning(n, 1))).collect();
        assert_eq!(kept, expected.join("\n"));
        for server in [&cluster.primary, &cluster.replicas[0]] {
            // One of them is the monitor's.
            let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{USER}'");
            eventually("they share one connection", || server.sql(&sql) == "2");
        }
    }
}

/// COM_STMT_EXECUTE asks for a cursor.
const CURSOR: u8 = 1;

/// COM_STMT_PREPARE; returns the statement's id.
fn prepare(wire: &mut Wire, sql: &str) -> u32 {
    wire.send(0x16, sql.as_bytes()).expect("sent");
    let answer = wire.answer(Shape::Prepared).expect("an answer");
    assert!(matches!(answer[..], [Piece::Prepared { .. }]), "{sql}: {answer:?}");
    wire.prepared_id
}

/// COM_STMT_EXECUTE with one number; without its type where that is not `told`.
fn send_execute(wire: &mut Wire, id: u32, flags: u8, told: bool, number: u64) {
    const NOT_NULL: u8 = 0;
    const LONGLONG: [u8; 2] = [8, 0];
    let types = if told { &LONGLONG[..] } else { &[] };
    let head = [&id.to_le_bytes()[..], &[flags, 1, 0, 0, 0, NOT_NULL, u8::from(told)]].concat();
    wire.send(0x17, &[&head[..], types, &number.to_le_bytes()].concat()).expect("sent");
}

fn execute(wire: &mut Wire, id: u32, flags: u8, told: bool, number: u64) -> Vec<Piece> {
    send_execute(wire, id, flags, told, number);
    wire.answer(Shape::Results).expect("an answer")
}

/// A primary alone, and a splitter with one worker before it; `keys` are lines of the splitter's table.
fn alone(sql: &str, keys: &str) -> (Cluster, Server, SocketAddr) {
    let cluster = Cluster::start(0);
    cluster.primary.sql("CREATE TABLE d.who (id INT) ENGINE=InnoDB; INSERT INTO d.who VALUES (1)");
    cluster.primary.sql(sql);
    let server = split::site(Driver::Auto, &cluster, keys).start();
    let address = server.address("db");
    (cluster, server, address)
}

/// A server numbers the statements of each connection from 1 on. A session whose connection is lost gets another one, where the
/// numbers are others' statements.
#[test]
fn a_cursor_whose_connection_is_lost_is_not_the_statement_of_another_session() {
    if !mariadb::is_installed() {
        return;
    }
    let sql = "CREATE TABLE d.log (token INT) ENGINE=InnoDB; INSERT INTO d.log VALUES (0), (7)";
    let (cluster, _server, address) = alone(sql, "pool_max = 1");
    let [mut one, mut other] = [(); 2].map(|()| Wire::connect(address, &log_on()).expect("a login"));
    let cursor = prepare(&mut one, "SELECT id FROM who WHERE SLEEP(?) = 0");
    send_execute(&mut one, cursor, CURSOR, true, 60);
    let running = "SELECT id FROM information_schema.processlist WHERE user = 'app' AND command = 'Execute'";
    eventually("it runs", || !cluster.primary.sql(running).is_empty());
    cluster.primary.sql(&format!("KILL {}", cluster.primary.sql(running)));
    let lost = one.answer(Shape::Results).expect("an answer");
    assert_eq!(lost[0].code(), Some(1158), "{lost:?}");

    for (sql, number) in [("SELECT id FROM who WHERE id > ?", 0), ("DELETE FROM log WHERE token = ?", 99)] {
        let id = prepare(&mut other, sql);
        let answer = execute(&mut other, id, 0, true, number);
        assert_eq!(answer[0].code(), None, "{answer:?}");
    }
    let opened = execute(&mut one, cursor, CURSOR, true, 0);
    assert!(matches!(opened[..], [Piece::Rows { .. }]), "{opened:?}");
    one.send(0x1C, &[cursor.to_le_bytes(), 10u32.to_le_bytes()].concat()).expect("sent");
    let fetched = one.answer(Shape::Fetched).expect("an answer");
    assert!(matches!(&fetched[..], [Piece::Rows { rows, .. }] if rows == &[[0, 0, 1, 0, 0, 0]]), "{fetched:?}");
    assert_eq!(cluster.primary.sql("SELECT token FROM d.log"), "0\n7", "nobody has deleted these");
}

/// A client may execute what cannot be executed, and close statements, as often as it likes: what was prepared for it does not
/// stay on the server, where their number is limited for all clients together.
#[test]
fn statements_whose_execution_is_refused_do_not_pile_up_on_a_server() {
    if !mariadb::is_installed() {
        return;
    }
    /// Statements that are kept on a connection for whoever prepares the same.
    const KEPT: u64 = 256;
    let (cluster, _server, address) = alone("SELECT 1", "pool_max = 1");
    let mut wire = Wire::connect(address, &log_on()).expect("a login");
    let close = |wire: &mut Wire, id: u32| wire.send(0x19, &id.to_le_bytes()).expect("sent");
    let refused = |wire: &mut Wire, sql: &str, flags: u8| {
        let id = prepare(wire, sql);
        let answer = execute(wire, id, flags, false, 1);
        assert_eq!(answer[0].code(), Some(1835), "{answer:?}");
        close(wire, id);
    };
    for frame in [["SELECT 1", "SELECT 1"], ["BEGIN", "COMMIT"]] {
        for _ in 0..60 {
            wire.query(frame[0]).expect("an answer");
            refused(&mut wire, "SELECT id FROM who WHERE id > ?", CURSOR);
            wire.query(frame[1]).expect("an answer");
        }
        let open = cluster.primary.counter("Prepared_stmt_count");
        assert!(open <= 4, "{open} are still there for cursors");
    }
    for n in 0..KEPT + 100 {
        refused(&mut wire, &format!("SELECT {n} FROM who WHERE id > ?"), 0);
    }
    let open = cluster.primary.counter("Prepared_stmt_count");
    assert!(open <= KEPT + 2, "{open} are still there");
}

/// The same with statements that were prepared once, and never told the types of their parameters.
#[test]
fn executions_without_types_prepare_nothing_anew() {
    if !mariadb::is_installed() {
        return;
    }
    let (cluster, _server, address) = alone("SELECT 1", "pool_max = 1");
    let mut wire = Wire::connect(address, &log_on()).expect("a login");
    let refused = |wire: &mut Wire, id: u32, flags: u8| {
        let answer = execute(wire, id, flags, false, 1);
        assert_eq!(answer[0].code(), Some(1835), "{answer:?}");
    };
    let cursor = prepare(&mut wire, "SELECT id FROM who WHERE id > ?");
    (0..1000).for_each(|_| refused(&mut wire, cursor, CURSOR));
    let open = cluster.primary.counter("Prepared_stmt_count");
    assert!(open <= 2, "{open} are there for one cursor");
    let ids: Vec<u32> = (0..300).map(|n| prepare(&mut wire, &format!("SELECT {n} FROM who WHERE id > ?"))).collect();
    for _ in 0..2 {
        ids.iter().for_each(|id| refused(&mut wire, *id, 0));
    }
    let open = cluster.primary.counter("Prepared_stmt_count");
    assert!(open <= 258, "{open} are still there");
    let answer = execute(&mut wire, cursor, 0, true, 0);
    assert!(matches!(&answer[..], [Piece::Rows { rows, .. }] if rows.len() == 1), "{answer:?}");
}

/// Numbers of what SHOW WARNINGS tells.
#[track_caller]
fn warnings(wire: &mut Wire) -> Vec<String> {
    let answer = wire.query("SHOW WARNINGS").expect("an answer");
    let [Piece::Rows { rows, .. }] = &answer[..] else { panic!("{answer:?}") };
    rows.iter().filter_map(|row| text_values(row).swap_remove(1)).collect()
}

/// A server refuses to prepare a statement again: its session may ask about that, and nobody else hears of it on the connection
/// that both use.
#[test]
fn a_refusal_to_prepare_is_the_sessions_own() {
    if !mariadb::is_installed() {
        return;
    }
    let (cluster, _server, address) = alone(
        "CREATE TABLE d.fleeting (id INT)",
        "pool_max = 1\n[[mysql.db.rules]]\ndigest = \"DELETE FROM who\"\nreject = \"no\"",
    );
    let [mut one, mut other, mut changed] = [(); 3].map(|()| Wire::connect(address, &log_on()).expect("a login"));
    let id = prepare(&mut one, "SELECT id FROM fleeting WHERE id > ?");
    cluster.primary.sql("DROP TABLE d.fleeting");
    changed.query("SET sql_mode='ANSI_QUOTES'").expect("an answer");
    for flags in [0, CURSOR] {
        let mut refused = |one: &mut Wire| {
            assert_eq!(
                changed.row("SELECT 1")[0].as_deref(),
                Some("1"),
                "which makes the connection forget statements"
            );
            let answer = execute(one, id, flags, true, 0);
            assert_eq!(answer[0].code(), Some(1146), "{answer:?}");
        };
        refused(&mut one);
        other.query("BEGIN").expect("an answer");
        assert_eq!(warnings(&mut other), [""; 0], "of another session");
        other.query("COMMIT").expect("an answer");
        // Behind an error that no server knows of.
        assert_eq!(one.query("DELETE FROM who").expect("an answer")[0].code(), Some(1148));
        refused(&mut one);
        assert_eq!(warnings(&mut one), ["1146"]);
    }
}

/// The server has as many statements as it may: what depends on another one is refused, and nothing is made up or lost.
#[test]
fn a_server_that_prepares_no_more_is_no_reason_to_lose_something() {
    if !mariadb::is_installed() {
        return;
    }
    let (cluster, _server, address) = alone("SELECT 1", "pool_max = 2");
    let may_prepare = |count: u32| drop(cluster.primary.sql(&format!("SET GLOBAL max_prepared_stmt_count={count}")));
    let mut wire = Wire::connect(address, &log_on()).expect("a login");
    wire.query("BEGIN").expect("an answer");
    may_prepare(0);
    let answer = wire.query("SHOW WARNINGS").expect("an answer");
    assert_eq!(answer[0].code(), Some(1105), "not the server's refusal to forget them: {answer:?}");
    may_prepare(100);
    assert_eq!(warnings(&mut wire), [""; 0]);
    wire.query("COMMIT").expect("an answer");

    let id = prepare(&mut wire, "SELECT '1' || '0' FROM who WHERE id > ?");
    may_prepare(0);
    let answer = wire.query("SET sql_mode='PIPES_AS_CONCAT'").expect("an answer");
    assert_eq!(answer[0].code(), Some(1461), "the statement would change its meaning: {answer:?}");
    may_prepare(100);
    let answer = wire.query("SET sql_mode='PIPES_AS_CONCAT'").expect("an answer");
    assert_eq!(answer[0].code(), None, "{answer:?}");
    let answer = execute(&mut wire, id, 0, true, 0);
    assert!(matches!(&answer[..], [Piece::Rows { rows, .. }] if rows[0][2..].starts_with(&[1, 0])), "{answer:?}");
}

/// A session that has switched several statements in a packet off stays so at the connection that has its warnings, where they
/// were on.
#[test]
fn multi_statements_stay_off_where_warnings_are_asked_for() {
    if !mariadb::is_installed() {
        return;
    }
    let (_cluster, _server, address) = alone("SELECT 1", "pool_max = 2");
    let mut log_on = log_on();
    log_on.capabilities |= capability::MULTI_STATEMENTS | capability::MULTI_RESULTS;
    let mut wire = Wire::connect(address, &log_on).expect("a login");
    let switch = |wire: &mut Wire, option: u8| {
        wire.send(0x1B, &[option, 0]).expect("sent");
        let answer = wire.answer(Shape::Single).expect("an answer");
        assert_eq!(answer[0].code(), None, "{answer:?}");
    };
    wire.query("SELECT CAST('x' AS INT)").expect("an answer");
    switch(&mut wire, 1);
    assert_eq!(wire.row("SELECT @@warning_count, @a:=7"), ["1", "7"].map(|value| Some(value.to_owned())));
    let answer = wire.query("SELECT 1; DROP TABLE who").expect("an answer");
    assert_eq!(answer[0].code(), Some(1064), "{answer:?}");
    assert_eq!(wire.row("SELECT COUNT(*), @a FROM who"), ["1", "7"].map(|value| Some(value.to_owned())));
    switch(&mut wire, 0);
    assert_eq!(wire.query("SELECT 1; SELECT 2").expect("an answer").len(), 2);
}

/// A server that does not answer the monitor for a moment is the same afterwards, with all that runs there: the more it has to
/// do, the more KILL and time limits are wanted.
#[test]
fn what_runs_on_a_server_that_was_silent_for_a_moment_can_be_ended() {
    if !mariadb::is_installed() {
        return;
    }
    let keys =
        "connect_timeout = \"1s\"\n[[mysql.db.rules]]\nname = \"short\"\ndigest = \"DO SLEEP*\"\ntime_limit = \"4s\"";
    let (cluster, server, address) = alone("SELECT 1", keys);
    let is_up = || server.status()["splitters"][0]["servers"][0]["up"] == true;
    let [mut killed, mut limited, mut killer] = [(); 3].map(|()| Wire::connect(address, &log_on()).expect("a login"));
    eventually("the primary is up", is_up);
    // So young a server might have been started anew during the silence.
    eventually("it is old enough", || cluster.primary.counter("Uptime") >= 5);
    let begun = Instant::now();
    killed.send(3, b"SELECT SLEEP(30) FROM who").expect("sent");
    limited.send(3, b"DO SLEEP(30)").expect("sent");
    let running = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app' AND info LIKE '%SLEEP%'";
    eventually("both run", || cluster.primary.sql(running) == "2");
    cluster.primary.freeze(true);
    eventually("the silence is noticed", || !is_up());
    cluster.primary.freeze(false);
    eventually("it is up again", is_up);

    let told = killer.query(format!("KILL QUERY {}", killed.connection_id)).expect("an answer");
    assert!(matches!(told[..], [Piece::Ok { .. }]), "{told:?}");
    let killed_at = Instant::now();
    let answer = killed.answer(Shape::Results).expect("an answer");
    assert!(killed_at.elapsed() < Duration::from_secs(1), "{:?}: {answer:?}", killed_at.elapsed());
    let answer = limited.answer(Shape::Results).expect("an answer");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}: {answer:?}", begun.elapsed());
    assert_eq!(server.metric("one_server_splitter_time_limits_total", ""), 1.0);
}

/// `SET` of a setting with a long value, as often as it fits into 2 MiB: the server tells 1 kB of each.
#[test]
fn what_many_statements_in_one_packet_change_is_not_all_kept() {
    if !mariadb::is_installed() {
        return;
    }
    let (_cluster, server, address) = alone("SELECT 1", "");
    let mut log_on = log_on();
    log_on.capabilities |= capability::MULTI_STATEMENTS;
    let mut wire = Wire::connect(address, &log_on).expect("a login");
    wire.query("SET sql_mode='ANSI_QUOTES'").expect("an answer");
    let (before, _) = server.resident_mib();
    let sql = "set optimizer_switch=default;".repeat((2 << 20) / 29) + "SET sql_mode='PIPES_AS_CONCAT'";
    let answer = wire.query(sql).expect("an answer");
    assert!(answer.len() > 70_000 && answer.iter().all(|piece| matches!(piece, Piece::Ok { .. })));
    let (_, peak) = server.resident_mib();
    assert!(peak < before + 40, "{before} MiB before, {peak} MiB at most");
    assert_eq!(
        wire.row("SELECT '1' || '0', @@sql_mode"),
        ["10", "PIPES_AS_CONCAT"].map(|value| Some(value.to_owned()))
    );
    assert_eq!(server.metric("one_server_splitter_sessions_pinned", ""), 1.0);
}

/// A session that sets something stays with its prepared statements. One of which a table is gone by then is no reason to
/// refuse what is set: whoever executes it is told, and who makes the table again has it again.
#[test]
fn a_statement_whose_table_is_gone_keeps_nobody_from_setting_something() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster("CREATE TABLE d.kept (v INT) ENGINE=InnoDB; INSERT INTO d.kept VALUES (5)");
    for driver in [Driver::IoUring, Driver::Epoll] {
        let (server, address) = splitter(&cluster, driver, "");
        block_on(async {
            let mut conn = connect(address.port()).await;
            conn.query_drop("CREATE TABLE fleeting (v INT)").await.expect("made");
            let fleeting = conn.prep("SELECT COUNT(*) FROM fleeting").await.expect("prepared");
            let kept = conn.prep("SELECT v FROM kept").await.expect("prepared");
            conn.query_drop("DROP TABLE fleeting").await.expect("dropped");
            conn.query_drop("SET time_zone = '+05:00'").await.expect("set");
            conn.query_drop("SET @mine = 7").await.expect("set");
            assert_eq!(one::<String>(&mut conn, "SELECT CONCAT(@mine, @@time_zone)").await, "7+05:00");
            assert_eq!(conn.exec_first(&kept, ()).await.expect("executed"), Some(5));
            assert_eq!(code(&conn.exec_drop(&fleeting, ()).await.expect_err("gone")), 1146);
            conn.query_drop("CREATE TABLE fleeting (v INT)").await.expect("made");
            assert_eq!(conn.exec_first(&fleeting, ()).await.expect("executed"), Some(0));
            conn.query_drop("SET @mine = 8").await.expect("set");
            conn.query_drop("DROP TABLE fleeting").await.expect("dropped");
            assert_eq!(one::<u32>(&mut conn, "SELECT @mine").await, 8);
            // Nothing else was prepared: nothing ties the session for it.
            let mut other = connect(address.port()).await;
            other.query_drop("CREATE TABLE fleeting (v INT)").await.expect("made");
            let fleeting = other.prep("SELECT v FROM fleeting").await.expect("prepared");
            other.query_drop("DROP TABLE fleeting").await.expect("dropped");
            for zone in ["+01:00", "+02:00"] {
                other.query_drop(format!("SET time_zone = '{zone}'")).await.expect("set");
                assert_eq!(one::<u32>(&mut other, "SELECT id FROM who").await, 2, "a replica reads");
            }
            assert_eq!(code(&other.exec_drop(&fleeting, ()).await.expect_err("gone")), 1146);
        });
        assert_eq!(server.metric("one_server_splitter_pins_total", "reason=\"prepared_statement\""), 1.0);
    }
}

/// What the splitter answers itself, a server would know of when it is asked about it.
#[test]
fn errors_of_the_splitters_own_are_told_again() {
    if !mariadb::is_installed() {
        return;
    }
    let rule = "[[mysql.db.rules]]\ndigest = \"DELETE FROM who\"\nreject = \"not 'all' of it\"";
    let (_cluster, _server, address) = alone("CREATE PROCEDURE d.looks() DELETE FROM d.who WHERE id = 0", rule);
    for pins in [false, true] {
        let mut wire = Wire::connect(address, &log_on()).expect("a login");
        if pins {
            wire.query("SET @a = 1").expect("an answer");
        }
        let refuse = |wire: &mut Wire| {
            let answer = wire.query("DELETE FROM who").expect("an answer");
            assert_eq!(answer[0].code(), Some(1148), "{answer:?}");
        };
        refuse(&mut wire);
        for _ in 0..2 {
            let expect = ["Error", "1148", "not 'all' of it"].map(|text| Some(text.to_owned()));
            assert_eq!(wire.row("SHOW WARNINGS"), expect, "pinned: {pins}");
        }
        assert_eq!(wire.row("SELECT @@error_count")[0].as_deref(), Some("1"));
        wire.query("SELECT id FROM who").expect("an answer");
        assert_eq!(warnings(&mut wire), [""; 0]);
        refuse(&mut wire);
        wire.query("GET DIAGNOSTICS CONDITION 1 @n = MYSQL_ERRNO").expect("an answer");
        assert_eq!(wire.row("SELECT @n")[0].as_deref(), Some("1148"));
        // Procedures may have the server forget it, as this one would, or not: nobody can tell.
        refuse(&mut wire);
        wire.query("CALL looks()").expect("an answer");
        let answer = wire.query("SHOW WARNINGS").expect("an answer");
        assert_eq!(answer[0].code(), Some(1105), "{answer:?}");
        wire.query("SELECT id FROM who").expect("an answer");
        assert_eq!(warnings(&mut wire), [""; 0]);
    }
}

/// What a server does not understand has changed nothing: a session that has prepared statements, or would take a lock, is as free
/// as before.
#[test]
fn mistakes_tie_nobody() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = cluster("SELECT 1");
    let (_server, address) = splitter(&cluster, Driver::Auto, "");
    let mut wire = Wire::connect(address, &log_on()).expect("a login");
    let id = prepare(&mut wire, "SELECT id FROM who WHERE id > ?");
    for (sql, code) in [("SELEKT 1", 1064), ("SELECT GET_LOCK()", 1582), ("SET @a = ", 1064)] {
        let answer = wire.query(sql).expect("an answer");
        assert_eq!(answer[0].code(), Some(code), "{answer:?}");
        assert_eq!(warnings(&mut wire), [code.to_string()], "{sql}");
        assert_eq!(wire.row("SELECT id FROM who")[0].as_deref(), Some("2"), "on the replica, behind {sql}");
        let answer = execute(&mut wire, id, 0, true, 0);
        assert!(matches!(&answer[..], [Piece::Rows { rows, .. }] if rows.len() == 1), "{sql}: {answer:?}");
    }
}

/// Pieces of a parameter are for the next execution, whatever becomes of it.
#[test]
fn pieces_of_an_execution_that_is_refused_are_gone() {
    if !mariadb::is_installed() {
        return;
    }
    let (_cluster, _server, address) = alone("SELECT 1", "");
    let mut wire = Wire::connect(address, &log_on()).expect("a login");
    let id = prepare(&mut wire, "SELECT CONCAT(?, '!') FROM who");
    wire.begin_command();
    wire.send(0x18, &[&id.to_le_bytes()[..], &[0, 0], b"of before"].concat()).expect("sent");
    // No types, and none are known.
    let head = [&id.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat();
    wire.send(0x17, &[&head[..], &[0, 0]].concat()).expect("sent");
    let answer = wire.answer(Shape::Results).expect("an answer");
    assert_eq!(answer[0].code(), Some(1835), "{answer:?}");
    wire.send(0x17, &[&head[..], &[0, 1, 0xFD, 0, 3], b"now"].concat()).expect("sent");
    let answer = wire.answer(Shape::Results).expect("an answer");
    let [Piece::Rows { rows, .. }] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!(rows[0].escape_ascii().to_string(), "\\x00\\x00\\x04now!");
}

/// Without a primary nobody knows of a database that a replica does not know.
#[test]
fn wrong_names_are_told_at_once_while_there_is_no_primary() {
    if !mariadb::is_installed() {
        return;
    }
    let mut cluster = cluster("SELECT 1");
    let (server, address) = splitter(&cluster, Driver::Auto, "primary_wait = \"30s\"");
    let mut wire = Wire::connect(address, &log_on()).expect("a login");
    cluster.primary.kill();
    server.wait_for_line("the primary is gone", |line| line.contains("mysql server is down"));
    let asked = Instant::now();
    for (sql, code) in [("USE nonsense", 1049), ("SELECT a FROM nonsense", 1146), ("SELECT nonsense FROM who", 1054)] {
        let answer = wire.query(sql).expect("an answer");
        assert_eq!(answer[0].code(), Some(code), "{sql}: {answer:?}");
    }
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}
