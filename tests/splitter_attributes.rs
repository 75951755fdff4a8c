//! Query attributes: a splitter that loses them blinds those who trace by them, and one that passes them on where they
//! are not understood breaks the statement. Before scripted servers, since MariaDB has none.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "only the account's name is wanted")]
mod mariadb;
#[path = "support/scripted.rs"]
mod scripted;
#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "other tests use a library")]
mod sessions;

use std::time::Duration;

use mariadb::{PASSWORD, USER};
use one_server::mysql::protocol::capability::{DEPRECATE_EOF, QUERY_ATTRIBUTES};
use scripted::Scripted;
use sessions::Raw;
use support::{Driver, Server, Site, eventually, ports, with_both_drivers};

fn splitter(driver: Driver, primary: &Scripted, replica: Option<&Scripted>) -> (Server, u16) {
    let site = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";
    let replicas = replica.map(|replica| format!("\"127.0.0.1:{}\"", replica.port())).unwrap_or_default();
    let mysql = format!(
        "[mysql.db]\nlisten = \"127.0.0.1:0\"\nprimary = \"127.0.0.1:{}\"\nreplicas = [{replicas}]\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\nmonitor_interval = \"50ms\"\n",
        primary.port()
    );
    let server = Site::new(driver, site).one_worker().more(&mysql).start();
    let port = server.address("db").port();
    (server, port)
}

/// COM_QUERY with the attributes `trace` (a text) and `n` (LONG), and a NULL.
fn with_attributes(sql: &str) -> Vec<u8> {
    let mut out = b"\x03\x03\x01\x04\x01\xfd\0\x05trace\x03\0\x01n\x06\0\x01z\x04abcd\x09\0\0\0".to_vec();
    out.extend_from_slice(sql.as_bytes());
    out
}

/// COM_STMT_EXECUTE of a statement with one parameter, LONG 5, and an attribute.
fn execute(id: u32, is_bound: bool) -> Vec<u8> {
    let mut out = [&[0x17][..], &id.to_le_bytes(), &[8, 1, 0, 0, 0, 2, 0, u8::from(is_bound)]].concat();
    if is_bound {
        out.extend_from_slice(b"\x03\0\0\xfd\0\x05trace");
    }
    out.extend_from_slice(b"\x05\0\0\0\x02id");
    out
}

fn prepare(raw: &mut Raw, sql: &str) -> u32 {
    let answer = raw.command(&[b"\x16", sql.as_bytes()].concat());
    raw.packet().expect("its one parameter");
    u32::from_le_bytes([answer[1], answer[2], answer[3], answer[4]])
}

#[test]
fn attributes_reach_a_server_that_knows_them() {
    with_both_drivers(|driver| {
        let primary = Scripted::start(QUERY_ATTRIBUTES, Duration::ZERO);
        let (_server, port) = splitter(driver, &primary, None);
        let mut raw = Raw::connect(port, DEPRECATE_EOF | QUERY_ATTRIBUTES);
        assert_ne!(raw.greeting.capabilities & QUERY_ATTRIBUTES, 0, "offered, as the server offers them");
        let sent = with_attributes("UPDATE a SET b = 1");
        assert_eq!(raw.command(&sent)[0], 0);
        let seen = primary.seen(b"UPDATE a");
        assert_eq!(seen.len(), 1);
        assert!(seen[0].command == sent && seen[0].capabilities & QUERY_ATTRIBUTES != 0);
        assert_eq!(raw.command(b"\x03\0\x01DELETE FROM a")[0], 0, "none at all");
        assert_eq!(primary.seen(b"DELETE")[0].command, b"\x03\0\x01DELETE FROM a");
        // What the splitter itself asks on such a connection has the same form.
        assert_eq!(raw.command(b"\x03\0\x01SET @a = 1")[0], 0);
        assert_eq!(raw.command(b"\x1f")[0], 0);
        eventually("the connection is cleaned", || {
            primary.seen(b"session_track").iter().filter(|seen| seen.capabilities & QUERY_ATTRIBUTES != 0).count() > 1
        });
        for seen in primary.seen(b"session_track") {
            let has_attributes = seen.capabilities & QUERY_ATTRIBUTES != 0;
            assert_eq!(seen.command.starts_with(b"\x03\0\x01SET"), has_attributes, "{seen:?}");
        }
        let id = prepare(&mut raw, "INSERT INTO a VALUES (?)");
        for is_bound in [true, false] {
            assert_eq!(raw.command(&execute(id, is_bound))[0], 0);
            let seen = primary.last(0x17).expect("executed");
            assert_eq!(seen.command, execute(42, true), "with types, and the server's id");
        }
        // A statement that cannot be told from its attributes goes nowhere.
        let error = raw.command(b"\x03\x05\x01");
        assert_eq!((error[0], u16::from_le_bytes([error[1], error[2]])), (0xFF, 1835));
        // Another client has none, and its connections are others.
        let mut plain = Raw::connect(port, DEPRECATE_EOF);
        assert_eq!(plain.command(b"\x03UPDATE plain SET b = 1")[0], 0);
        let seen = primary.seen(b"UPDATE plain");
        assert!(seen[0].command == b"\x03UPDATE plain SET b = 1" && seen[0].capabilities & QUERY_ATTRIBUTES == 0);
    });
}

#[test]
fn attributes_are_taken_out_for_a_server_that_does_not() {
    // What is offered before the primary is heard is what another server knows; the one that is asked knows less.
    let first = Scripted::start(QUERY_ATTRIBUTES, Duration::ZERO);
    let second = Scripted::start(0, Duration::from_millis(700));
    let (server, port) = splitter(Driver::Auto, &second, Some(&first));
    server.wait_for_line("the replica is heard", |line| line.contains("replica gets no reads"));
    let mut raw = Raw::log_on(port, DEPRECATE_EOF | QUERY_ATTRIBUTES, "");
    assert_ne!(raw.greeting.capabilities & QUERY_ATTRIBUTES, 0);
    assert_eq!(raw.command(&with_attributes("UPDATE a SET b = 1"))[0], 0);
    let seen = second.seen(b"UPDATE a");
    assert_eq!((&seen[0].command[..], seen[0].capabilities & QUERY_ATTRIBUTES), (&b"\x03UPDATE a SET b = 1"[..], 0));
    let id = prepare(&mut raw, "INSERT INTO a VALUES (?)");
    for is_bound in [true, false] {
        assert_eq!(raw.command(&execute(id, is_bound))[0], 0);
        let plain = b"\x17\x2a\0\0\0\0\x01\0\0\0\0\x01\x03\0\x05\0\0\0";
        assert_eq!(second.last(0x17).expect("executed").command, plain);
    }
    // A piece of a parameter that nobody could take is not a part of the execution after the one that was told.
    let id = prepare(&mut raw, "INSERT INTO a VALUES (?) /* refused the second time */");
    raw.send(0, &[&[0x18][..], &id.to_le_bytes(), b"\0\0piece"].concat());
    let error = raw.command(&execute(id, true));
    assert_eq!((error[0], u16::from_le_bytes([error[1], error[2]])), (0xFF, 1158));
    assert_eq!(raw.command(&execute(id, true))[0], 0);
    let plain = b"\x17\x2a\0\0\0\0\x01\0\0\0\0\x01\x03\0\x05\0\0\0";
    assert_eq!(second.last(0x17).expect("executed").command, plain);
}
