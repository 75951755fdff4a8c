//! A copy of a database that is taken through the splitter while others write: all of it is of one moment, and the position that is
//! written into it is that moment's, so that a replica can begin there. With mariadb-dump, as people make their replicas.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests need one form alone")]
mod split;

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use mariadb::{Cluster, PASSWORD, USER};
use support::ports;
use support::*;

/// Through the splitter.
fn dump(port: u16) -> String {
    let mut command = Command::new("mariadb-dump");
    command.args([
        "--no-defaults",
        "--protocol=tcp",
        "-h127.0.0.1",
        "--single-transaction",
        "--master-data=2",
        "--gtid",
    ]);
    command.args([format!("-P{port}"), format!("-u{USER}"), format!("-p{PASSWORD}")]);
    let output = command.args(["--skip-extended-insert", "d", "a", "b"]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// `…slave_pos='0-1-57'` in a dump.
fn position(dump: &str) -> u64 {
    let line = dump
        .lines()
        .find(|line| line.contains("gtid_slave_pos="))
        .unwrap_or_else(|| panic!("no position:\n{dump:.2000}"));
    let text = line.split('\'').nth(1).expect("a text in quotes");
    text.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_dump_is_of_the_moment_whose_position_it_names() {
    if !mariadb::is_installed() || !has_program("mariadb-dump") {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql(&format!(
        "GRANT RELOAD, BINLOG MONITOR, SHOW VIEW, TRIGGER ON *.* TO {USER}@'%';
         CREATE TABLE d.a (n INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB; CREATE TABLE d.b LIKE d.a"
    ));
    cluster.wait_for_replicas();
    let sequence =
        |text: String| -> u64 { text.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a number") };
    let written_before = sequence(cluster.primary.sql("SELECT @@gtid_binlog_pos"));
    let (is_over, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        // Each transaction has one GTID and one row in each table.
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                cluster
                    .primary
                    .sql(&"BEGIN; INSERT INTO d.a VALUES (); INSERT INTO d.b VALUES (); COMMIT; ".repeat(20));
                turns.fetch_add(1, SeqCst);
            }
        });
        let copies = || {
            for driver in [Driver::IoUring, Driver::Epoll] {
                let server = split::site(driver, &cluster, "").start();
                for _ in 0..4 {
                    let before = turns.load(SeqCst);
                    eventually("others write", || turns.load(SeqCst) > before);
                    let dump = dump(server.address("db").port());
                    let rows = |table: &str| dump.matches(&format!("INSERT INTO `{table}` VALUES")).count() as u64;
                    let position = position(&dump);
                    assert!(position > written_before, "{driver:?}");
                    assert_eq!(
                        (rows("a"), rows("b")),
                        (position - written_before, position - written_before),
                        "{driver:?}"
                    );
                }
            }
        };
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(copies));
        is_over.store(true, SeqCst);
        if let Err(panic) = end {
            std::panic::resume_unwind(panic);
        }
    });
}
