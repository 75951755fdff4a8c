//! Packets as the network hands them on: cut at every byte, one byte at a time, several at once, and at the edge of 16 MiB,
//! towards clients and towards servers.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests need one form alone")]
mod split;
#[path = "support/sql_relay.rs"]
#[allow(dead_code, reason = "other tests cut connections")]
mod sql_relay;
#[path = "support/sql_wire.rs"]
#[allow(dead_code, reason = "other tests fetch")]
mod sql_wire;

use std::net::SocketAddr;
use std::time::Duration;

use mariadb::{Cluster, PASSWORD, USER};
use one_server::mysql::protocol::capability::{DEPRECATE_EOF, MULTI_RESULTS, MULTI_STATEMENTS};
use sql_relay::Relay;
use sql_wire::{LogOn, PACKET_MAX, Piece, Shape, Wire, text_values};
use support::ports;
use support::*;

struct Scene {
    _cluster: Cluster,
    relays: Vec<Relay>,
    address: SocketAddr,
    _splitter: Server,
}

fn scene(driver: Driver) -> Scene {
    let cluster = Cluster::start(1);
    cluster.primary.sql(
        "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB) ENGINE=InnoDB;
         INSERT INTO d.t (v) VALUES ('one'), (NULL), (REPEAT('x', 300)), ('')",
    );
    cluster.wait_for_replicas();
    let relays: Vec<_> = [&cluster.primary, &cluster.replicas[0]].map(|server| Relay::to(server.port)).into();
    let [primary, replica] = [&relays[0], &relays[1]].map(|relay| relay.address.port());
    let splitter = split::site_of(driver, "127.0.0.1:0", primary, &[replica], "").start();
    let address = splitter.address("db");
    eventually("a session", || Wire::connect(address, &log_on()).is_ok_and(|mut wire| wire.query("DO 1").is_ok()));
    Scene { _cluster: cluster, relays, address, _splitter: splitter }
}

fn log_on() -> LogOn {
    let mut log_on = LogOn::new(USER, PASSWORD, Some("d"));
    log_on.capabilities = DEPRECATE_EOF | MULTI_STATEMENTS | MULTI_RESULTS;
    log_on
}

/// A session's worth of commands, and what comes of them.
fn session(wire: &mut Wire) -> Vec<Vec<Piece>> {
    let mut answers = Vec::new();
    for sql in [
        "SELECT id, v FROM t ORDER BY id",
        "SELECT 1; SELECT id FROM t; DO 1",
        "SELECT * FROM nowhere",
        "SET @a = 1",
        "SELECT @a",
        "UPDATE t SET v = v WHERE id = 1",
        "SELECT CAST('x' AS INT)",
        "SHOW WARNINGS",
    ] {
        answers.push(wire.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}")));
    }
    wire.send(0x16, b"SELECT id, v FROM t WHERE id > ? ORDER BY id").expect("sent");
    answers.push(wire.answer(Shape::Prepared).expect("an answer"));
    let execute =
        [&wire.prepared_id.to_le_bytes()[..], b"\x00\x01\x00\x00\x00\x00\x01\x08\x00\x01\0\0\0\0\0\0\0"].concat();
    wire.send(0x17, &execute).expect("sent");
    answers.push(wire.answer(Shape::Results).expect("an answer"));
    answers
}

#[test]
fn answers_of_servers_may_come_byte_by_byte() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let scene = scene(driver);
        let expected = session(&mut Wire::connect(scene.address, &log_on()).expect("a login"));
        for piece_bytes in [1, 3, 5] {
            for relay in &scene.relays {
                relay.chop(piece_bytes);
                relay.cut_all(); // new connections log on in pieces, too
            }
            let answers = |sql| {
                Wire::connect(scene.address, &log_on())
                    .is_ok_and(|mut wire| wire.query(sql).is_ok_and(|answer| answer[0].code().is_none()))
            };
            // The monitor's connections were cut, too; it notices when it looks.
            std::thread::sleep(Duration::from_millis(400));
            eventually("the primary is seen again", || answers("SELECT id FROM t LIMIT 1 FOR UPDATE"));
            for n in 0..3 {
                let found = session(&mut Wire::connect(scene.address, &log_on()).expect("a login"));
                assert_eq!(found, expected, "{piece_bytes} bytes at once, session {n}");
            }
        }
    });
}

#[test]
fn commands_may_be_cut_at_every_byte() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(Driver::Auto);
    let pause = || std::thread::sleep(Duration::from_millis(1));
    // The login, then a statement: one packet in two parts each.
    let mut reference = Wire::before_login(scene.address, &log_on()).expect("a greeting");
    let mut login = Vec::new();
    reference.login(1, &mut login);
    reference.send_raw(&login).expect("sent");
    for cut in 1..login.len() {
        let mut wire = Wire::before_login(scene.address, &log_on()).expect("a greeting");
        let mut login = Vec::new();
        wire.login(1, &mut login);
        wire.send_raw(&login[..cut]).expect("sent");
        pause();
        wire.send_raw(&login[cut..]).expect("sent");
        let end = wire.login_end().expect("an answer");
        assert!(matches!(end, Piece::Ok { .. }), "cut at {cut}: {end:?}");
    }
    let mut wire = Wire::connect(scene.address, &log_on()).expect("a login");
    let command = Wire::command_bytes(3, b"SELECT id, LENGTH(v) FROM t ORDER BY id");
    let expected = wire.query("SELECT id, LENGTH(v) FROM t ORDER BY id").expect("an answer");
    for cut in 1..command.len() {
        wire.begin_command();
        wire.send_raw(&command[..cut]).expect("sent");
        pause();
        wire.send_raw(&command[cut..]).expect("sent");
        assert_eq!(wire.answer(Shape::Results).expect("an answer"), expected, "cut at {cut}");
    }
    // Byte by byte.
    for byte in &command {
        wire.begin_command();
        wire.send_raw(std::slice::from_ref(byte)).expect("sent");
        pause();
    }
    assert_eq!(wire.answer(Shape::Results).expect("an answer"), expected);
}

#[test]
fn several_commands_may_come_at_once() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(Driver::Auto);
    let mut wire = Wire::connect(scene.address, &log_on()).expect("a login");
    let statements = [
        "SELECT 1",
        "INSERT INTO t (v) VALUES ('merged')",
        "SELECT LAST_INSERT_ID() > 0",
        "SELECT nothing",
        "BEGIN",
        "SELECT 2",
        "COMMIT",
    ];
    let alone: Vec<_> = statements.iter().map(|sql| wire.query(sql).expect("an answer")).collect();
    let all: Vec<u8> = statements.iter().flat_map(|sql| Wire::command_bytes(3, sql.as_bytes())).collect();
    // At once, and with the edge between two writes at every byte.
    for cut in (0..all.len()).step_by(7) {
        wire.send_raw(&all[..cut]).expect("sent");
        if cut > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        wire.send_raw(&all[cut..]).expect("sent");
        for (sql, alone) in statements.iter().zip(&alone) {
            wire.begin_command();
            let answer = wire.answer(Shape::Results).unwrap_or_else(|error| panic!("{sql}, cut at {cut}: {error}"));
            if !sql.starts_with("INSERT") {
                assert_eq!(&answer, alone, "{sql}, cut at {cut}");
            }
        }
    }
}

#[test]
fn packets_at_the_edge_of_16_mib_pass_both_ways() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(Driver::Auto);
    let mut wire = Wire::connect(scene.address, &log_on()).expect("a login");
    let head = b"SELECT LENGTH('".len() + b"')".len();
    for payload in [PACKET_MAX - 1, PACKET_MAX, PACKET_MAX + 1, 2 * PACKET_MAX] {
        // The command byte counts.
        let text = vec![b'x'; payload - head - 1];
        let answer = wire.query([b"SELECT LENGTH('", &text[..], b"')"].concat()).expect("an answer");
        let [Piece::Rows { rows, .. }] = &answer[..] else { panic!("{payload}: {answer:?}") };
        assert_eq!(text_values(&rows[0]), [Some(text.len().to_string())], "a command of {payload} bytes");
    }
    for payload in [PACKET_MAX - 1, PACKET_MAX, PACKET_MAX + 1, 2 * PACKET_MAX] {
        // A row of one value: its length takes four bytes, or nine.
        let len = if payload <= PACKET_MAX + 3 { payload - 4 } else { payload - 9 };
        let sql = format!("SELECT REPEAT('y', {len})");
        let answer = wire.query(sql).expect("an answer");
        let [Piece::Rows { rows, .. }] = &answer[..] else { panic!("{payload}: {answer:?}") };
        assert_eq!((rows.len(), rows[0].len()), (1, payload), "a row of {payload} bytes");
        assert!(rows[0][payload - len..].iter().all(|byte| *byte == b'y'));
        assert_eq!(wire.row("SELECT 5"), [Some("5".into())], "the session goes on");
    }
}
