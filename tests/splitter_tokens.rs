//! Every write carries a token of its own, while servers crash, hang and lose their connections, and the splitter itself is
//! killed: what was acknowledged is there exactly once, what was not is reported as an error, and nothing is there twice.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests look at counters")]
mod mariadb;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests need one form alone")]
mod split;
#[path = "support/sql_relay.rs"]
#[allow(dead_code, reason = "other tests cut packets into pieces")]
mod sql_relay;
#[path = "support/sql_wire.rs"]
#[allow(dead_code, reason = "other tests send broken packets")]
mod sql_wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mariadb::{Cluster, PASSWORD, USER};
use one_server::mysql::protocol::capability::{DEPRECATE_EOF, MULTI_RESULTS, MULTI_STATEMENTS};
use sql_relay::{Cut, Relay};
use sql_wire::{LogOn, Piece, Wire};
use support::ports;
use support::*;

/// The splitter's error for a connection that broke: the outcome is unknown.
const LOST: u16 = 1158;
/// Its error for a server that cannot be reached: nothing was executed.
const UNREACHABLE: u16 = 1429;

fn connect(address: SocketAddr) -> std::io::Result<Wire> {
    let mut log_on = LogOn::new(USER, PASSWORD, Some("d"));
    log_on.capabilities = DEPRECATE_EOF | MULTI_STATEMENTS | MULTI_RESULTS;
    Wire::connect(address, &log_on)
}

/// A table without a unique key: whatever ran twice is there twice.
fn make_table(cluster: &Cluster) {
    cluster
        .primary
        .sql("CREATE TABLE d.log (id INT AUTO_INCREMENT PRIMARY KEY, token VARCHAR(40), KEY (token)) ENGINE=InnoDB");
    cluster.wait_for_replicas();
}

/// A primary behind a relay, and a session of the splitter.
struct Scene {
    cluster: Cluster,
    relay: Relay,
    _splitter: Server,
    address: SocketAddr,
}

fn scene(driver: Driver) -> Scene {
    let cluster = Cluster::start(0);
    make_table(&cluster);
    let relay = Relay::to(cluster.primary.port);
    let splitter = split::site_of(driver, "127.0.0.1:0", relay.address.port(), &[], "").start();
    let address = splitter.address("db");
    eventually("a session", || connect(address).is_ok_and(|mut wire| wire.query("DO 1").is_ok()));
    Scene { cluster, relay, _splitter: splitter, address }
}

impl Scene {
    fn count(&self, token: &str) -> String {
        self.cluster.primary.sql(&format!("SELECT COUNT(*) FROM d.log WHERE token = '{token}'"))
    }
}

#[track_caller]
fn assert_unknown_outcome(answer: std::io::Result<Vec<Piece>>) {
    match answer.expect("an answer").last() {
        Some(Piece::Err { code: LOST, message, .. }) => {
            let message = String::from_utf8_lossy(message);
            assert!(message.contains("outcome is unknown") && message.contains("not repeated"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

/// Another proxy sends any statement again when its answer was lost.
#[test]
fn trap_24_a_write_whose_answer_was_lost_is_not_repeated() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(Driver::Auto);
    let mut wire = connect(scene.address).expect("a login");
    let writes: &[(&str, &str)] = &[
        ("text", "INSERT INTO log (token) VALUES ('text')"),
        ("comment", "/* SELECT */ INSERT INTO log (token) VALUES ('comment')"),
        ("with", "INSERT INTO log (token) WITH c AS (SELECT 'with' AS x) SELECT x FROM c"),
        ("returned", "INSERT INTO log (token) VALUES ('returned') RETURNING id"),
        ("called", "CALL d.write_token('called')"),
        ("function", "SELECT d.token_of('function')"),
        ("immediate", "EXECUTE IMMEDIATE 'INSERT INTO d.log (token) VALUES (''immediate'')'"),
    ];
    scene.cluster.primary.sql(
        "CREATE PROCEDURE d.write_token(x VARCHAR(40)) INSERT INTO d.log (token) VALUES (x);
         DELIMITER //
         CREATE FUNCTION d.token_of(x VARCHAR(40)) RETURNS INT BEGIN INSERT INTO d.log (token) VALUES (x); RETURN 1; END//",
    );
    for (token, sql) in writes {
        scene.relay.cut(token, Cut::InAnswer(0));
        assert_unknown_outcome(wire.query(sql));
        assert!(scene.relay.has_cut(), "{sql}");
        assert_eq!(scene.count(token), "1", "{sql}");
        // Pooled sessions go on, those that held the connection begin anew.
        if wire.query("USE d").is_err() {
            wire = connect(scene.address).expect("a login");
        }
    }
    // Cut in the middle of the answer, and before the server has seen anything: the same to the splitter.
    scene.relay.cut("half", Cut::InAnswer(3));
    assert_unknown_outcome(wire.query("INSERT INTO log (token) VALUES ('half')"));
    assert_eq!(scene.count("half"), "1");
    scene.relay.cut("before", Cut::BeforeStatement);
    assert_unknown_outcome(wire.query("INSERT INTO log (token) VALUES ('before')"));
    assert_eq!(scene.count("before"), "0");
    assert!(wire.query("INSERT INTO log (token) VALUES ('after')").expect("an answer")[0].code().is_none());
    assert_eq!(scene.count("after"), "1", "the next one finds a connection");
    // A prepared one: the token comes with the execution.
    wire.send(0x16, b"INSERT INTO log (token) VALUES (?)").expect("sent");
    wire.answer(sql_wire::Shape::Prepared).expect("an answer");
    let execute = [&wire.prepared_id.to_le_bytes()[..], b"\x00\x01\x00\x00\x00\x00\x01\xfd\x00\x08prepared"].concat();
    scene.relay.cut("prepared", Cut::InAnswer(0));
    wire.send(0x17, &execute).expect("sent");
    assert_unknown_outcome(wire.answer(sql_wire::Shape::Results));
    assert!(scene.relay.has_cut());
    assert_eq!(scene.count("prepared"), "1");
}

/// What is asked about a statement is asked about the last one, also where nobody has heard what became of it.
#[test]
fn what_is_asked_behind_a_lost_answer_is_not_told_of_an_earlier_one() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(Driver::Auto);
    let mut wire = connect(scene.address).expect("a login");
    wire.query("INSERT INTO log (token) VALUES ('one'), ('two')").expect("an answer");
    scene.relay.cut("lost", Cut::InAnswer(0));
    assert_unknown_outcome(wire.query("INSERT INTO log (token) VALUES ('lost')"));
    assert_eq!(wire.row("SELECT ROW_COUNT()")[0].as_deref(), Some("-1"));
    assert_eq!(wire.row("SHOW WARNINGS")[1].as_deref(), Some("1158"));
    assert_eq!(wire.query("SELECT FOUND_ROWS()").expect("an answer")[0].code(), Some(1105), "nobody knows");
}

/// Another proxy sent a batch again of which the client had seen a result.
#[test]
fn trap_24_a_batch_whose_answer_broke_off_is_not_repeated() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(Driver::Auto);
    // The first result is large enough to be on its way before the second is there.
    for (first, cuts) in [("SELECT 1", [0, 14, 40]), ("SELECT REPEAT('x', 500000)", [0, 40, 200_000])] {
        for bytes in cuts {
            scene.cluster.primary.sql("DELETE FROM d.log");
            let mut wire = connect(scene.address).expect("a login");
            let sql = format!(
                "INSERT INTO log (token) VALUES ('batch'); {first}; INSERT INTO log (token) VALUES ('batch end')"
            );
            scene.relay.cut("batch end", Cut::InAnswer(bytes));
            match wire.query(&sql) {
                Ok(answer) => assert_eq!(answer.last().and_then(Piece::code), Some(LOST), "{answer:?}"),
                // In the middle of a packet there is no room for an error.
                Err(_) => assert!(bytes > 0),
            }
            assert_eq!(scene.count("batch"), "1", "{first} cut behind {bytes} bytes");
            assert!(["0", "1"].contains(&&*scene.count("batch end")));
        }
    }
}

/// Whether a COMMIT whose answer was lost took place is known to the server alone.
#[test]
fn trap_26_a_commit_whose_answer_was_lost_is_reported_and_not_repeated() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = scene(Driver::Auto);
    let ends: &[(&[&str], &str, &str)] = &[
        (&["BEGIN"], "COMMIT /* cut here */", "1"),
        (&["SET autocommit = 0"], "COMMIT /* cut here */", "1"),
        (&["BEGIN"], "CREATE TABLE IF NOT EXISTS d.implicit (i INT) /* cut here */", "1"),
        (&["SET autocommit = 0"], "SET autocommit = 1 /* cut here */", "1"),
        (&["BEGIN"], "SELECT 1 FROM log /* cut here */", "0"),
        (&["BEGIN"], "INSERT INTO log (token) VALUES ('second') /* cut here */", "0"),
        (&["BEGIN"], "ROLLBACK /* cut here */", "0"),
    ];
    for (n, (begin, end, present)) in ends.iter().enumerate() {
        let mut wire = connect(scene.address).expect("a login");
        for sql in *begin {
            assert!(wire.query(sql).expect("an answer")[0].code().is_none());
        }
        let token = format!("t{n}");
        assert!(
            wire.query(format!("INSERT INTO log (token) VALUES ('{token}')")).expect("an answer")[0].code().is_none()
        );
        scene.relay.cut("cut here", Cut::InAnswer(0));
        let answer = wire.query(end).expect("an answer");
        assert_eq!(answer[0].code(), Some(LOST), "{end}");
        assert!(wire.is_closed_within(PATIENCE), "{end}: what the session held is gone, so the session is");
        // The server rolls back as soon as it notices.
        eventually(end, || scene.count(&token) == *present);
    }
    assert_eq!(scene.count("second"), "0");
    let mut wire = connect(scene.address).expect("a login");
    for sql in ["XA START 'x'", "INSERT INTO log (token) VALUES ('xa')", "XA END 'x'", "XA PREPARE 'x'"] {
        assert!(wire.query(sql).expect("an answer")[0].code().is_none(), "{sql}");
    }
    scene.relay.cut("XA COMMIT", Cut::InAnswer(0));
    assert_unknown_outcome(wire.query("XA COMMIT 'x'"));
    assert_eq!(scene.count("xa"), "1");
}

/// What a writer was told of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Done,
    /// By an error that says that nothing was executed.
    NotDone,
    /// By another error, or by the end of the connection.
    Unknown,
}

struct Writers {
    address: SocketAddr,
    ended: AtomicBool,
    told: Mutex<HashMap<String, Told>>,
}

impl Writers {
    fn tell(&self, token: &str, told: Told) {
        let before = self.told.lock().expect("a lock").insert(token.to_owned(), told);
        assert_eq!(before, None, "each token is used once");
    }

    /// Writes one token after the other until the end, each once.
    fn run(&self, writer: usize) {
        let mut session: Option<Wire> = None;
        for n in 0.. {
            if self.ended.load(Relaxed) {
                return;
            }
            let Some(wire) = &mut session else {
                session = connect(self.address).ok();
                if session.is_none() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                continue;
            };
            let token = format!("w{writer}.{n}");
            let alive = if n % 3 == 0 { self.transaction(wire, &token) } else { self.insert(wire, &token) };
            if !alive {
                session = None;
            }
        }
    }

    /// `false`: the session has ended.
    fn insert(&self, wire: &mut Wire, token: &str) -> bool {
        let (told, alive) = outcome(wire.query(format!("INSERT INTO log (token) VALUES ('{token}')")));
        self.tell(token, told);
        alive && (told != Told::Done || self.is_read_back(wire, token))
    }

    /// Two tokens in one transaction.
    fn transaction(&self, wire: &mut Wire, token: &str) -> bool {
        let second = format!("{token}+");
        let insert = |token: &str| format!("INSERT INTO log (token) VALUES ('{token}')");
        for sql in ["BEGIN".to_owned(), insert(token), insert(&second)] {
            let (told, alive) = outcome(wire.query(&sql));
            if told != Told::Done {
                // Never committed.
                self.tell(token, Told::NotDone);
                self.tell(&second, Told::NotDone);
                return alive && outcome(wire.query("ROLLBACK")).0 == Told::Done;
            }
        }
        let (told, alive) = outcome(wire.query("COMMIT"));
        self.tell(token, told);
        self.tell(&second, told);
        alive
    }

    fn is_read_back(&self, wire: &mut Wire, token: &str) -> bool {
        match wire.query(format!("SELECT COUNT(*) FROM log WHERE token = '{token}'")) {
            Ok(answer) => match &answer[..] {
                [Piece::Rows { rows, .. }] if answer[0].code().is_none() => {
                    assert_eq!(rows, &[b"\x011".to_vec()], "the session reads its own write {token}");
                    true
                }
                _ => true,
            },
            Err(_) => false,
        }
    }
}

fn outcome(answer: std::io::Result<Vec<Piece>>) -> (Told, bool) {
    match answer {
        Ok(answer) => match answer[0].code() {
            None => (Told::Done, true),
            Some(UNREACHABLE | 1290) => (Told::NotDone, true),
            Some(LOST | 1053 | 1040 | 1927 | 1317) => (Told::Unknown, true),
            Some(_) => panic!("{answer:?}"),
        },
        // A protocol error is none of these.
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
            assert!(!matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}");
            (Told::Unknown, false)
        }
    }
}

#[test]
fn tokens_are_written_once_whatever_breaks() {
    if !mariadb::is_installed() {
        return;
    }
    let mut cluster = Cluster::start(2);
    make_table(&cluster);
    let relay = Relay::to(cluster.primary.port);
    let replicas: Vec<_> = cluster.replicas.iter().map(|replica| Relay::to(replica.port)).collect();
    let ports: Vec<_> = replicas.iter().map(|relay| relay.address.port()).collect();
    let listen = format!("127.0.0.1:{}", ports::free_port());
    let start = || split::site_of(Driver::Auto, &listen, relay.address.port(), &ports, "pool_max = 4").start();
    let mut splitter = start();
    let clients = Relay::to(splitter.address("db").port());
    let writers = Writers { address: clients.address, ended: AtomicBool::new(false), told: Mutex::default() };
    std::thread::scope(|scope| {
        for writer in 0..6 {
            let writers = &writers;
            scope.spawn(move || writers.run(writer));
        }
        let pause = || std::thread::sleep(Duration::from_millis(350));
        // The writers must end, also when this thread panics.
        let faults = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let progress = |what: &str| {
                let done = || writers.told.lock().expect("a lock").values().filter(|told| **told == Told::Done).count();
                let before = done();
                eventually(what, || done() > before + 20);
                eprintln!("{what}: {} done", done());
            };
            progress("all is well");
            for _ in 0..3 {
                relay.cut_all();
                replicas[0].cut_all();
                pause();
            }
            progress("connections were cut");
            for _ in 0..3 {
                clients.cut_all();
                pause();
            }
            progress("clients were cut off");
            splitter.signal(rustix::process::Signal::STOP);
            pause();
            splitter.signal(rustix::process::Signal::CONT);
            progress("the splitter hung");
            cluster.primary.freeze(true);
            pause();
            cluster.primary.freeze(false);
            progress("the primary hung");
            cluster.replicas[0].freeze(true);
            pause();
            cluster.replicas[0].freeze(false);
            progress("a replica hung");
            cluster.replicas[1].kill();
            progress("a replica is dead");
            cluster.restart_replica(1);
            cluster.primary.kill();
            pause();
            cluster.primary.start();
            progress("the primary crashed and came back");
            splitter.signal(rustix::process::Signal::KILL);
            let _ = splitter.wait();
            splitter = start();
            progress("the splitter was killed");
            cluster.primary.kill();
            relay.cut_all();
            cluster.primary.start();
            progress("the primary crashed again");
        }));
        writers.ended.store(true, Relaxed);
        if let Err(panic) = faults {
            std::panic::resume_unwind(panic);
        }
    });
    check(&cluster, &writers.told.into_inner().expect("a lock"));
}

fn check(cluster: &Cluster, told: &HashMap<String, Told>) {
    let started = Instant::now();
    let rows = cluster.primary.sql("SELECT token, COUNT(*) FROM d.log GROUP BY token");
    let present: HashMap<&str, u32> = rows
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(token, n)| (token, n.parse().expect("a number")))
        .collect();
    for (token, count) in &present {
        assert_eq!(*count, 1, "{token} was written {count} times");
        assert!(told.contains_key(*token), "{token} was never sent");
    }
    let (mut done, mut unknown) = (0, 0);
    for (token, told) in told {
        match told {
            Told::Done => {
                done += 1;
                assert!(present.contains_key(&**token), "{token} was acknowledged and is lost");
            }
            Told::NotDone => {
                assert!(!present.contains_key(&**token), "{token} is there although it was said not to be")
            }
            Told::Unknown => {
                unknown += 1;
            }
        }
        // Both of a transaction or none.
        if let Some(first) = token.strip_suffix('+') {
            assert_eq!(present.contains_key(&**token), present.contains_key(first), "half of a transaction");
        }
    }
    eprintln!("{done} done, {unknown} unknown, {} present, checked in {:?}", present.len(), started.elapsed());
    assert!(done > 200 && unknown > 0, "the faults were noticed");
}
