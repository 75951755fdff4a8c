//! A query on a warm connection allocates nothing, as text and prepared: a whole splitter runs in this process, of which every
//! allocation on every thread is counted. A test binary of its own, because the count is of the whole process.

#[path = "support/allocations.rs"]
mod allocations;
#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/ports.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod ports;
#[path = "support/sql_wire.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod sql_wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use allocations::count;
use mariadb::{Cluster, PASSWORD, USER};
use sql_wire::{LogOn, Shape, Wire};

const QUESTIONS: u64 = 3000;
const COM_QUERY: u8 = 3;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;

/// Starts the splitter; its monitor asks seldom.
fn start(cluster: &Cluster) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free_port()));
    let text = format!(
        "[listener.web]\naddress = \"127.0.0.1:0\"\n[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = {{}}\n\
         [mysql.db]\nlisten = \"{address}\"\nprimary = \"127.0.0.1:{}\"\nreplicas = [\"127.0.0.1:{}\"]\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\nmonitor_interval = \"60s\"\n",
        cluster.primary.port, cluster.replicas[0].port
    );
    let configured = one_server::Server::new().parse("splitter.toml", &text);
    let configured = configured.unwrap_or_else(|report| panic!("{report}"));
    std::thread::spawn(move || configured.run());
    address
}

/// Logs on and asks once the splitter knows its servers.
fn client(address: SocketAddr) -> Wire {
    let begun = Instant::now();
    loop {
        let connected = Wire::connect(address, &LogOn::new(USER, PASSWORD, Some("d")));
        if let Ok(mut wire) = connected
            && wire.query("SELECT id FROM t").is_ok_and(|answer| answer[0].code().is_none())
        {
            return wire;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the splitter does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks the same again and again and gets the same answer each time. `ask` must be one that has been answered before.
fn check_allocates_nothing(what: &str, wire: &mut Wire, ask: &[u8]) {
    let (mut expected, mut answer) = ([0; 512], [0; 512]);
    wire.send_raw(ask).expect("sent");
    let bytes = wire.read_raw(&mut expected).expect("an answer");
    assert!(bytes > 20 && expected[4] == 1, "{what}: a result of one column: {:?}", &expected[..bytes]);
    let mut once = || {
        wire.send_raw(ask).expect("sent");
        let mut read = 0;
        while read < bytes {
            read += wire.read_raw(&mut answer[read..]).expect("an answer");
        }
        assert_eq!(answer[..bytes], expected[..bytes]);
    };
    // All that is made once is there behind these.
    (0..200).for_each(|_| once());
    let begun = Instant::now();
    let asking = count(|| (0..QUESTIONS).for_each(|_| once()));
    let time = begun.elapsed();
    // The clock, the monitor and the control thread go on: that much in the same time is theirs.
    let resting = count(|| std::thread::sleep(time));
    println!("{what}: {asking} allocations in {time:?} with {QUESTIONS} questions, {resting} without");
    assert!(
        asking < 2 * resting + QUESTIONS / 20,
        "{what}: {asking} allocations in {time:?}, {resting} without a question"
    );
}

#[test]
fn a_query_on_a_warm_connection_allocates_nothing() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster
        .primary
        .sql("CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(99)); INSERT INTO d.t VALUES (1, 'a'), (2, 'b')");
    cluster.wait_for_replicas();
    let address = start(&cluster);
    let mut wire = client(address);
    let text = Wire::command_bytes(COM_QUERY, b"SELECT v FROM t WHERE id = 2");
    check_allocates_nothing("text", &mut wire, &text);
    wire.send(COM_STMT_PREPARE, b"SELECT v FROM t WHERE id = ?").expect("sent");
    wire.answer(Shape::Prepared).expect("prepared");
    // Id, no cursor, one iteration, no NULL, then the type (LONGLONG) or that it is the same, and the value.
    let head = [&wire.prepared_id.to_le_bytes()[..], &[0, 1, 0, 0, 0, 0]].concat();
    let first = Wire::command_bytes(COM_STMT_EXECUTE, &[&head[..], &[1, 8, 0], &2u64.to_le_bytes()].concat());
    let again = Wire::command_bytes(COM_STMT_EXECUTE, &[&head[..], &[0], &2u64.to_le_bytes()].concat());
    check_allocates_nothing("prepared, with types", &mut wire, &first);
    check_allocates_nothing("prepared", &mut wire, &again);
    // What allocates is counted: a login.
    assert!(count(|| drop(client(address))) > 0);
}
