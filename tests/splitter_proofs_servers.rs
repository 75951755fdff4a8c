//! What servers do to a splitter at an awkward moment: they refuse, or lose, the preparation of a connection in front of a
//! write; they have no primary while clients send more than may wait; a replica is late for a read that may not run for long,
//! or for what another data worker's client wrote.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/mysql8.rs"]
#[allow(dead_code, reason = "other tests log on in other ways")]
mod mysql8;
#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "other tests look at packets")]
mod sessions;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use mysql8::{Full, Mysql8, Reply, RsaKey};
use sessions::{block_on, code, connect, mark_servers, one, options, wait_for_reads_on_replica};
use support::{Driver, Server, Site, eventually, ports};

const ROUTE: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";

fn splitter(driver: Driver, workers: usize, lines: &str) -> Server {
    let table = format!(
        "[mysql.db]\nlisten = \"127.0.0.1:0\"\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\nmonitor_interval = \"100ms\"\n{lines}\n"
    );
    Site::new(driver, ROUTE).workers(workers).more(&table).start()
}

/// The part of a preparation that goes wrong, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    ResetRefused,
    ResetLost,
    SetRefused,
    SetLost,
    UseRefused,
}

/// A server that counts what reaches it and does the next preparations wrong.
#[derive(Default)]
struct Awkward {
    wrong: Mutex<Option<Wrong>>,
    done_wrong: AtomicUsize,
    writes: Mutex<Vec<String>>,
}

impl Awkward {
    fn is(&self, wrong: Wrong) -> bool {
        let is_so = *self.wrong.lock().unwrap() == Some(wrong);
        self.done_wrong.fetch_add(is_so.into(), SeqCst);
        is_so
    }

    fn answer(&self, sql: &str) -> Reply {
        let value = |value: &str| Some(value.to_owned());
        match sql {
            _ if sql.contains("SHOW GLOBAL VARIABLES") => {
                Reply::Rows(vec!["Variable_name"], vec![vec![value("read_only")], vec![value("log_bin")]])
            }
            _ if sql.contains("@@global.read_only") => {
                Reply::Rows(vec!["read_only", "log_bin"], vec![vec![value("0"), value("1")]])
            }
            "SET sql_mode='ANSI'" => Reply::Changed("sql_mode", "ANSI"),
            // Of a client, or of a preparation.
            _ if sql.starts_with("SET ") && sql.contains("session_track") && self.is(Wrong::SetRefused) => {
                Reply::Error(1231, "42000", "no such setting")
            }
            _ if sql.starts_with("SET ") && sql.contains("session_track") && self.is(Wrong::SetLost) => Reply::HangUp,
            _ if sql.starts_with("SELECT") => Reply::Rows(vec!["c"], vec![vec![value("1")]]),
            _ if sql.starts_with("INSERT") => {
                self.writes.lock().unwrap().push(sql.into());
                Reply::Done(1, 2)
            }
            _ => Reply::Fine,
        }
    }

    /// Commands that are no SQL; nothing: the connection is closed.
    fn command(&self, command: &[u8]) -> Vec<Vec<u8>> {
        let refused =
            |code: u16, text: &str| vec![[&b"\xFF"[..], &code.to_le_bytes(), b"#HY000", text.as_bytes()].concat()];
        match command[0] {
            0x1F if self.is(Wrong::ResetRefused) => refused(1047, "no resets"),
            0x1F if self.is(Wrong::ResetLost) => Vec::new(),
            0x02 if self.is(Wrong::UseRefused) => refused(1049, "no such database"),
            _ => vec![b"\0\0\0\x02\0\0\0".to_vec()],
        }
    }
}

/// Answers that follow no protocol, or have a packet of another number: the connection is closed, and a read is asked elsewhere; what
/// became of a write is not known.
#[test]
fn a_server_that_speaks_nonsense_is_not_listened_to() {
    // A length without its bytes, the wish for a file that nobody offered, no content, OK that is cut off.
    const NONSENSE: [&[&[u8]]; 5] = [&[&[0xFC, 1]], &[&[0xFB]], &[&[]], &[&[0, 0xFE]], &[&[0xFC, 1]]];
    for driver in [Driver::IoUring, Driver::Epoll] {
        let identity = support::tls::trusted().server(&["127.0.0.1"], support::tls::Kind::Ecdsa);
        let server = Mysql8::start(Full::Warm, USER, PASSWORD, &RsaKey::new(), identity);
        let (sane, asked) = (Awkward::default(), AtomicUsize::new(0));
        server.answer_with(move |sql| match sql {
            _ if !sql.contains("FROM odd") => sane.answer(sql),
            _ => match asked.fetch_add(1, SeqCst) {
                n if n % 2 == 0 => Reply::Raw(NONSENSE[n / 2]),
                _ => sane.answer(sql),
            },
        });
        let splitter = splitter(driver, 1, &format!("primary = \"127.0.0.1:{}\"", server.port()));
        let port = splitter.address("db").port();
        eventually("the primary is there", || splitter.status()["splitters"][0]["servers"][0]["up"] == true);
        block_on(async {
            let mut conn = connect(port).await;
            for n in 0..NONSENSE.len() - 1 {
                assert_eq!(one::<u32>(&mut conn, "SELECT c FROM odd").await, 1, "{driver:?} {n}");
            }
            let error = conn.query_drop("DELETE FROM odd").await.expect_err("nobody knows");
            assert_eq!(code(&error), 1158);
        });
        splitter.wait_for_line("it is told", |line| line.contains("bad answer from server"));
    }
}

/// A connection with another session's settings must be reset in front of this one's write. Where the server does not do that,
/// the write is not sent: not there, and not twice when it goes elsewhere.
#[test]
fn a_preparation_that_is_refused_or_lost_leaves_a_write_unsent() {
    for driver in [Driver::IoUring, Driver::Epoll] {
        let awkward = Arc::new(Awkward::default());
        let of_commands = Arc::clone(&awkward);
        let server = Mysql8::start_answering(
            Full::Warm,
            USER,
            PASSWORD,
            &RsaKey::new(),
            support::tls::trusted().server(&["127.0.0.1"], support::tls::Kind::Ecdsa),
            move |command| of_commands.command(command),
        );
        let of_sql = Arc::clone(&awkward);
        server.answer_with(move |sql| of_sql.answer(sql));
        let lines = format!("primary = \"127.0.0.1:{}\"\npool_max = 1\nconnect_timeout = \"2s\"", server.port());
        let splitter = splitter(driver, 1, &lines);
        let port = splitter.address("db").port();
        eventually("the primary is there", || splitter.status()["splitters"][0]["servers"][0]["up"] == true);
        block_on(async {
            for (n, wrong) in
                (0..).zip([Wrong::ResetRefused, Wrong::ResetLost, Wrong::SetRefused, Wrong::SetLost, Wrong::UseRefused])
            {
                let (mut ansi, mut plain) = (connect(port).await, connect(port).await);
                ansi.query_drop("SET sql_mode='ANSI'").await.unwrap();
                let done = awkward.done_wrong.load(SeqCst);
                *awkward.wrong.lock().unwrap() = Some(wrong);
                let insert = format!("INSERT INTO t VALUES ({n})");
                let result = plain.query_drop(&insert).await;
                *awkward.wrong.lock().unwrap() = None;
                assert!(awkward.done_wrong.load(SeqCst) > done, "{wrong:?} did not come to pass");
                let sent = || awkward.writes.lock().unwrap().iter().filter(|sql| **sql == insert).count();
                match result {
                    // On another connection, which needed no such preparation.
                    Ok(()) => assert_eq!(sent(), 1, "{wrong:?}"),
                    Err(error) => {
                        assert_eq!(sent(), 0, "{wrong:?}: {error}");
                        // The session goes on, and so does the one whose settings were there.
                        plain.query_drop(&insert).await.unwrap_or_else(|error| panic!("{wrong:?}: {error}"));
                        assert_eq!(sent(), 1, "{wrong:?}");
                    }
                }
                ansi.query_drop(format!("INSERT INTO a VALUES ({n})")).await.unwrap();
                ansi.disconnect().await.unwrap();
                plain.disconnect().await.unwrap();
            }
        });
        assert_eq!(awkward.writes.lock().unwrap().len(), 10);
    }
}

/// MySQL 8 lets an account with CONNECTION_ADMIN write in spite of `read_only`.
#[test]
fn an_account_that_mysql_lets_write_to_a_replica_is_warned_of() {
    let grants = |rights: &str| vec![vec![Some(format!("GRANT {rights} ON *.* TO `{USER}`@`%`"))]];
    for (rights, is_told) in [
        ("SELECT, INSERT", false),
        ("CONNECTION_ADMIN,BACKUP_ADMIN", true),
        ("SUPER", true),
        ("SELECT, CREATE ROLE", false),
    ] {
        let servers = ["0", "1"].map(|read_only| {
            let identity = support::tls::trusted().server(&["127.0.0.1"], support::tls::Kind::Ecdsa);
            let server = Mysql8::start(Full::Warm, USER, PASSWORD, &RsaKey::new(), identity);
            let granted = grants(rights);
            let awkward = Awkward::default();
            server.answer_with(move |sql| match sql {
                "SHOW GRANTS" => Reply::Rows(vec!["grants"], granted.clone()),
                _ if sql.contains("@@global.read_only") => {
                    Reply::Rows(vec!["read_only", "log_bin"], vec![vec![Some(read_only.into()), Some("1".into())]])
                }
                _ => awkward.answer(sql),
            });
            server
        });
        let [primary, replica] = servers.each_ref().map(Mysql8::port);
        let lines = format!("primary = \"127.0.0.1:{primary}\"\nreplicas = [\"127.0.0.1:{replica}\"]");
        let splitter = splitter(Driver::Auto, 1, &lines);
        let warnings = |port: u16| {
            let about = format!(":{port}");
            let lines = splitter.lines();
            lines.into_iter().filter(|line| line.contains("may write to this replica") && line.contains(&about)).count()
        };
        eventually("both are looked at", || {
            let servers = &splitter.status()["splitters"][0]["servers"];
            (0..2).all(|n| servers[n]["health"].is_string())
        });
        match is_told {
            true => eventually(&format!("a warning of {rights}"), || warnings(replica) > 0),
            false => assert_eq!(warnings(replica), 0, "{rights}"),
        }
        assert_eq!(warnings(primary), 0, "the primary is to be written to");
    }
}

#[test]
fn replicas_that_are_late() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql("CREATE TABLE d.log (n INT) ENGINE=InnoDB");
    cluster.wait_for_replicas();
    for driver in [Driver::IoUring, Driver::Epoll] {
        a_read_that_may_not_run_for_long_does_not_wait_for_longer(driver, &cluster);
        what_one_worker_wrote_is_seen_through_the_other(driver, &cluster);
    }
    what_is_held_has_a_limit_in_bytes(&cluster);
}

fn servers(cluster: &Cluster) -> String {
    format!("primary = \"127.0.0.1:{}\"\nreplicas = [\"127.0.0.1:{}\"]", cluster.primary.port, cluster.replicas[0].port)
}

/// The replica's thread that applies is stopped while `work` runs; the splitter does not take note of that.
fn while_late<T>(cluster: &Cluster, work: impl FnOnce() -> T) -> T {
    let holder = &cluster.replicas[0];
    // What it applies waits behind a lock, so that its threads run and its lag is not unknown.
    let mut client = holder.client();
    let mut child = client
        .arg("-e")
        .arg("LOCK TABLES d.log READ; SELECT 'locked'; SELECT GET_LOCK('held', 0); DO SLEEP(60)")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the replica is held up", || holder.sql("SELECT IS_USED_LOCK('held') IS NOT NULL") == "1");
    let done = work();
    let id = holder.sql("SELECT IS_USED_LOCK('held')");
    holder.try_sql(&format!("KILL {id}"));
    let _ = child.kill();
    child.wait().unwrap();
    cluster.wait_for_replicas();
    done
}

fn a_read_that_may_not_run_for_long_does_not_wait_for_longer(driver: Driver, cluster: &Cluster) {
    let rule = "rules = [{ digest = \"SELECT id, ? FROM who\", time_limit = \"400ms\" }]\nlag_max = \"60s\"";
    let server = splitter(driver, 1, &format!("{}\ncausal_timeout = \"8s\"\n{rule}", servers(cluster)));
    let port = server.address("db").port();
    block_on(wait_for_reads_on_replica(port));
    while_late(cluster, || {
        block_on(async {
            let mut conn = connect(port).await;
            for (setting, read) in
                [("SELECT 1", "SELECT id, 5 FROM who"), ("SET max_statement_time=0.4", "SELECT id FROM who")]
            {
                conn.reset().await.unwrap();
                conn.query_drop(setting).await.unwrap();
                conn.query_drop("INSERT INTO log VALUES (1)").await.unwrap();
                let begun = Instant::now();
                let answer = conn.query_first::<mysql_async::Row, _>(read).await;
                let took = begun.elapsed();
                let id: u32 = answer.unwrap_or_else(|error| panic!("{read}: {error}")).expect("a row").get(0).unwrap();
                assert_eq!(id, 1, "{read}: the primary has it");
                assert!(took > Duration::from_millis(300) && took < Duration::from_secs(3), "{read}: {took:?}");
            }
            conn.disconnect().await.unwrap();
        });
        assert!(server.metric("one_server_splitter_causal_waits_total", "") >= 2.0);
    });
    block_on(async {
        let mut conn = connect(port).await;
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2, "once it is there, the replica answers");
        conn.disconnect().await.unwrap();
    });
}

/// `causal_reads = "node"`: many clients, so that both data workers have some.
fn what_one_worker_wrote_is_seen_through_the_other(driver: Driver, cluster: &Cluster) {
    for (level, sees) in [("node", true), ("session", false)] {
        let lines = "causal_timeout = \"300ms\"\nlag_max = \"60s\"";
        let server = splitter(driver, 2, &format!("{}\ncausal_reads = \"{level}\"\n{lines}", servers(cluster)));
        let port = server.address("db").port();
        block_on(wait_for_reads_on_replica(port));
        cluster.primary.sql("TRUNCATE d.log");
        cluster.wait_for_replicas();
        while_late(cluster, || {
            block_on(async {
                let mut conns: Vec<Conn> = Vec::new();
                for _ in 0..12 {
                    conns.push(connect(port).await);
                }
                conns[0].query_drop("INSERT INTO log VALUES (1)").await.unwrap();
                let mut seen = Vec::new();
                for conn in &mut conns[1..] {
                    seen.push(one::<u32>(conn, "SELECT COUNT(*) FROM log").await);
                }
                assert!(seen.iter().all(|count| *count == u32::from(sees)), "{level}: {seen:?}");
                for conn in conns {
                    conn.disconnect().await.unwrap();
                }
            });
        });
    }
}

/// While there is no primary, statements wait for one; more bytes of them than `held_bytes_max` do not.
fn what_is_held_has_a_limit_in_bytes(cluster: &Cluster) {
    let lines = format!(
        "servers = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\nheld_bytes_max = \"64KiB\"\nprimary_wait = \"20s\"\nprimary_dwell = \"0s\"\npool_max = 8",
        cluster.primary.port, cluster.replicas[0].port
    );
    let server = splitter(Driver::Auto, 1, &lines);
    let port = server.address("db").port();
    block_on(wait_for_reads_on_replica(port));
    cluster.primary.sql("TRUNCATE d.log; SET GLOBAL read_only=1");
    eventually("there is no primary", || !server.status()["splitters"][0]["vacancy"].is_null());
    block_on(async {
        let insert = |n: u32, bytes: usize| format!("INSERT INTO log VALUES ({n}) /* {} */", "x".repeat(bytes));
        // One alone is too long; the session goes on.
        let mut conn = connect(port).await;
        let begun = Instant::now();
        let error = conn.query_drop(insert(1, 70 << 10)).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(code(&error), 1429, "{error}");
        // Three fit together, the fourth does not.
        let mut waiting = Vec::new();
        for n in 2..5 {
            let mut conn = Conn::new(options(port).db_name(Some("d"))).await.unwrap();
            waiting.push(tokio::spawn(async move {
                let done = conn.query_drop(insert(n, 19 << 10)).await;
                conn.disconnect().await.unwrap();
                done
            }));
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while server.status()["splitters"][0]["held"].as_u64() != Some(3) {
            assert!(Instant::now() < deadline, "three wait");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let begun = Instant::now();
        assert!(conn.query_drop(insert(5, 19 << 10)).await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(waiting.iter().all(|task| !task.is_finished()), "those before it wait on");
        cluster.primary.sql("SET GLOBAL read_only=0");
        for task in waiting {
            task.await.unwrap().unwrap();
        }
        conn.query_drop(insert(6, 0)).await.unwrap();
        conn.disconnect().await.unwrap();
    });
    assert_eq!(cluster.primary.sql("SELECT GROUP_CONCAT(n ORDER BY n) FROM d.log"), "2,3,4,6");
}
