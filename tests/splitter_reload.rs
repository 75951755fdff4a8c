//! A splitter under another config in the running process. The promise: servers, accounts, rules and limits change between two
//! statements of a session; no client is disconnected, no statement fails, nothing that was counted or known is forgotten; and a
//! config with a mistake changes nothing.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/mysql_clients.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod mysql_clients;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use mysql_clients::{block_on, code, log_on, one};
use rustix::process::Signal;
use support::ports;
use support::*;

const ROUTE: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";

/// A cluster behind a splitter whose table the test writes anew.
struct Scene {
    cluster: Cluster,
    server: Server,
    address: SocketAddr,
    table: RefCell<String>,
}

impl Scene {
    /// `d.who` says on which server a read ran, behind replication's back: 1 is the primary.
    fn start(driver: Driver, replicas: u32, used: &[usize], keys: &str) -> Scene {
        let cluster = Cluster::start(replicas);
        cluster.primary.sql(
            "CREATE TABLE d.who (id INT) ENGINE=InnoDB; INSERT INTO d.who VALUES (1);
             CREATE TABLE d.log (token VARCHAR(40), KEY(token)) ENGINE=InnoDB;
             CREATE USER reports@'%' IDENTIFIED BY 'r3ports'; GRANT ALL ON *.* TO reports@'%';
             CREATE USER mail@'%' IDENTIFIED BY 'm4il'; GRANT ALL ON *.* TO mail@'%'",
        );
        cluster.wait_for_replicas();
        for replica in &cluster.replicas {
            replica.sql(&format!("SET sql_log_bin=0; UPDATE d.who SET id={}", replica.id));
        }
        let table = table(&cluster, used, keys);
        let site = Site::new(driver, ROUTE).workers(2).process("control = \"$DIR/ctl.sock\"").more(&table);
        let server = site.start();
        let address = server.address("db");
        let scene = Scene { cluster, server, address, table: RefCell::new(table) };
        scene.wait_for(used);
        scene
    }

    /// Takes another table into use; what `ctl reload` prints.
    fn reload(&self, used: &[usize], keys: &str) -> String {
        self.reload_text(table(&self.cluster, used, keys))
    }

    fn reload_text(&self, next: String) -> String {
        let answer = self.server.reload_with(&[(&self.table.borrow(), &next)]);
        self.table.replace(next);
        answer
    }

    fn shown(&self) -> serde_json::Value {
        let text = self.server.ctl_ok(&["--json", "mysql", "show"]);
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json["result"]["splitters"][0].clone()
    }

    /// Ports of the servers that the operator sees.
    fn ports(&self) -> Vec<u16> {
        let shown = self.shown();
        let port = |server: &serde_json::Value| server["address"].as_str()?.rsplit_once(':')?.1.parse().ok();
        shown["servers"].as_array().expect("servers").iter().filter_map(port).collect()
    }

    fn of(&self, replica: usize, field: &str) -> serde_json::Value {
        let (shown, address) = (self.shown(), format!("127.0.0.1:{}", self.cluster.replicas[replica].port));
        let servers = shown["servers"].as_array().expect("servers");
        servers
            .iter()
            .find(|server| server["address"] == address.as_str())
            .map_or_else(Default::default, |s| s[field].clone())
    }

    /// Waits until reads may go to these replicas.
    fn wait_for(&self, replicas: &[usize]) {
        for replica in replicas {
            eventually("the replica is used", || self.of(*replica, "up") == true);
        }
    }

    /// Connections of a user that a server has, the monitor's included.
    fn connections(&self, server: usize, user: &str) -> usize {
        let server = if server == 0 { &self.cluster.primary } else { &self.cluster.replicas[server - 1] };
        let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user='{user}'");
        server.sql(&sql).parse().expect("a number")
    }

    async fn client(&self) -> Conn {
        log_on(self.address, USER, PASSWORD, Some("d")).await.expect("logged on")
    }

    fn metric(&self, name: &str) -> f64 {
        self.server.metric(name, "splitter=\"db\"")
    }
}

fn table(cluster: &Cluster, used: &[usize], keys: &str) -> String {
    let replicas: Vec<String> =
        used.iter().map(|replica| format!("\"127.0.0.1:{}\"", cluster.replicas[*replica].port)).collect();
    format!(
        "[mysql.db]\nlisten = \"127.0.0.1:0\"\nprimary = \"127.0.0.1:{}\"\nreplicas = [{}]\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\nmonitor_interval = \"100ms\"\n{keys}\n",
        cluster.primary.port,
        replicas.join(", ")
    )
}

/// Clients that read and write without a pause. Nothing of what they do may fail.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    statements: AtomicUsize,
    /// Reads by server, 1 is the primary.
    reads: [AtomicUsize; 8],
}

impl Load {
    async fn client(&self, address: SocketAddr, number: usize) {
        let mut round = 0;
        while !self.stop.load(SeqCst) {
            let mut conn = log_on(address, USER, PASSWORD, Some("d")).await.expect("logged on");
            for _ in 0..15 {
                round += 1;
                let token = format!("{number}-{round}");
                conn.query_drop(format!("INSERT INTO log VALUES ('{token}')")).await.expect("written");
                let sql = format!("SELECT id, (SELECT COUNT(*) FROM log WHERE token = '{token}') FROM who");
                let (id, seen): (usize, u32) = conn.query_first(sql).await.expect("read").expect("a row");
                assert_eq!(seen, 1, "on server {id}");
                self.reads[id].fetch_add(1, SeqCst);
                let prepared: Option<usize> =
                    conn.exec_first("SELECT id FROM who WHERE id > ?", (0,)).await.expect("executed");
                self.reads[prepared.expect("a row")].fetch_add(1, SeqCst);
                conn.query_drop("BEGIN").await.expect("begun");
                conn.query_drop(format!("INSERT INTO log VALUES ('t{token}')")).await.expect("written");
                conn.query_drop("COMMIT").await.expect("committed");
                self.statements.fetch_add(6, SeqCst);
            }
        }
    }

    /// Runs `work` beside the load of six clients.
    fn beside(&self, address: SocketAddr, work: impl FnOnce()) {
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..6).map(|n| scope.spawn(move || block_on(self.client(address, n)))).collect();
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            self.stop.store(true, SeqCst);
            clients.into_iter().for_each(|client| client.join().expect("no error"));
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    /// Waits until so many more statements were run.
    fn go_on(&self, more: usize) {
        let wanted = self.statements.load(SeqCst) + more;
        eventually("the load goes on", || self.statements.load(SeqCst) >= wanted);
    }

    fn reads(&self, server: u32) -> usize {
        self.reads[server as usize].load(SeqCst)
    }
}

#[test]
fn replicas_come_and_go_under_load() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let scene = Scene::start(driver, 2, &[0], "");
        let load = Load::default();
        load.beside(scene.address, || {
            load.go_on(200);
            assert!(load.reads(2) > 0 && load.reads(3) == 0, "{driver:?}");
            scene.reload(&[0, 1], "");
            eventually("the new one gets reads", || load.reads(3) > 20);
            let (epoch, counted) =
                (scene.shown()["epoch"].clone(), scene.metric("one_server_splitter_questions_total"));
            scene.reload(&[1], "");
            eventually("the old one has no connections", || scene.connections(1, USER) == 0);
            let before = load.reads(2);
            load.go_on(300);
            assert_eq!(load.reads(2), before, "{driver:?} nothing new goes there");
            assert_eq!(scene.ports(), [scene.cluster.primary.port, scene.cluster.replicas[1].port]);
            assert!(scene.metric("one_server_splitter_questions_total") > counted && scene.shown()["epoch"] == epoch);
            scene.reload(&[1, 0], "");
            eventually("it is back", || load.reads(2) > before + 20);
            scene.reload(&[], "");
            eventually("there are no replicas", || scene.connections(1, USER) + scene.connections(2, USER) == 0);
            load.go_on(200);
        });
        assert_eq!(scene.metric("one_server_splitter_errors_total"), 0.0, "{driver:?}");
        scene.server.wait_until_no_client();
    });
}

#[test]
fn what_is_under_way_on_a_replica_that_goes_is_finished_there() {
    if !mariadb::is_installed() {
        return;
    }
    // SLEEP() is no certain read, unless somebody says so.
    let keys = "rules = [{ digest = \"SELECT CONCAT*\", route = \"replica\", unsafe = true }]";
    let scene = Scene::start(Driver::Auto, 2, &[0], keys);
    block_on(async {
        let (mut reader, mut slow) = (scene.client().await, scene.client().await);
        reader.query_drop("START TRANSACTION READ ONLY").await.expect("begun");
        assert_eq!(one(&mut reader, "SELECT id FROM who").await, "2");
        let statement = tokio::spawn(async move { one(&mut slow, "SELECT CONCAT(id, SLEEP(1)) FROM who").await });
        tokio::task::yield_now().await;
        let running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT CONCAT(id%'";
        while scene.cluster.replicas[0].sql(running) == "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        scene.reload(&[1], keys);
        for _ in 0..20 {
            assert_eq!(one(&mut reader, "SELECT id FROM who").await, "2", "the snapshot is there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(statement.await.expect("not cut off"), "20");
        reader.query_drop("COMMIT").await.expect("committed");
        assert_ne!(one(&mut reader, "SELECT id FROM who").await, "2");
        eventually("nobody is left", || scene.connections(1, USER) == 0);
        scene.wait_for(&[1]);
        let mut other = scene.client().await;
        assert_eq!(one(&mut other, "SELECT id FROM who").await, "3");
    });
}

#[test]
fn what_the_operator_wants_of_a_server_outlives_a_reload() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = Scene::start(Driver::Auto, 2, &[0], "");
    let first = format!("db/127.0.0.1:{}", scene.cluster.replicas[0].port);
    scene.server.ctl_ok(&["mysql", "drain", &first]);
    scene.reload(&[1, 0], "balance = \"round-robin\"");
    scene.wait_for(&[1]);
    assert_eq!(scene.of(0, "admin"), "drain");
    block_on(async {
        for _ in 0..6 {
            assert_eq!(one(&mut scene.client().await, "SELECT id FROM who").await, "3");
        }
        scene.reload(&[1], "");
        let refused = scene.server.ctl_fails(&["mysql", "ready", &first]);
        assert!(
            refused.contains("has no server") && refused.contains(&scene.cluster.replicas[1].port.to_string()),
            "{refused}"
        );
        scene.reload(&[1, 0], "");
        eventually("it is used, as a new one is", || scene.of(0, "up") == true && scene.of(0, "admin") == "ready");
    });
}

#[test]
fn another_primary_takes_the_writes_of_sessions_that_go_on() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = Scene::start(Driver::Auto, 2, &[0, 1], "");
    block_on(async {
        let (mut writer, mut inside) = (scene.client().await, scene.client().await);
        writer.query_drop("INSERT INTO log VALUES ('before')").await.expect("written");
        inside.query_drop("BEGIN").await.expect("begun");
        inside.query_drop("INSERT INTO log VALUES ('lost')").await.expect("written");
        let (old, new) = (&scene.cluster.primary, &scene.cluster.replicas[0]);
        scene.cluster.wait_for_replicas();
        new.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0");
        let text = table(&scene.cluster, &[1], "");
        scene.reload_text(text.replace(
            &format!("primary = \"127.0.0.1:{}\"", old.port),
            &format!("primary = \"127.0.0.1:{}\"", new.port),
        ));
        writer.query_drop("INSERT INTO log VALUES ('after')").await.expect("written");
        assert_eq!(code(inside.query_drop("INSERT INTO log VALUES ('lost, too')").await), 1213, "rolled back");
        inside.query_drop("INSERT INTO log VALUES ('again')").await.expect("the session goes on");
        assert_eq!(new.sql("SELECT GROUP_CONCAT(token ORDER BY token) FROM d.log"), "after,again,before");
        assert_eq!(old.sql("SELECT GROUP_CONCAT(token) FROM d.log"), "before");
        eventually("the old one is left alone", || scene.connections(0, USER) == 0);
    });
}

#[test]
fn accounts_change_for_those_who_come_and_those_who_are_there_go_on() {
    if !mariadb::is_installed() {
        return;
    }
    let user = |name: &str, password: &str, more: &str| {
        format!("[[mysql.db.users]]\nname = \"{name}\"\npassword = \"{password}\"\n{more}\n")
    };
    let scene = Scene::start(Driver::Auto, 1, &[0], &user("reports", "r3ports", ""));
    block_on(async {
        let come = |name: &'static str, password: &'static str| log_on(scene.address, name, password, Some("d"));
        let mut early = come("reports", "r3ports").await.expect("logged on");
        assert_eq!(code(come("mail", "m4il").await), 1045);
        // Another password, and one more account.
        scene.cluster.primary.sql("ALTER USER reports@'%' IDENTIFIED BY 'n3w'");
        scene.cluster.wait_for_replicas();
        scene.reload(&[0], &[user("mail", "m4il", "clients_max = 1"), user("reports", "n3w", "")].concat());
        assert_eq!(code(come("reports", "r3ports").await), 1045);
        let mut late = come("reports", "n3w").await.expect("logged on");
        let mut mail = come("mail", "m4il").await.expect("logged on");
        assert_eq!(code(come("mail", "m4il").await), 1226);
        for (conn, name) in [(&mut early, "reports"), (&mut late, "reports"), (&mut mail, "mail")] {
            let who = one(conn, "SELECT CURRENT_USER()").await;
            assert_eq!(who, format!("{name}@%"), "each is itself on the servers");
        }
        // What it may do counts from its next statement.
        early.query_drop("INSERT INTO log VALUES ('by reports')").await.expect("written");
        scene.reload(&[0], &user("reports", "n3w", "read_only = true"));
        assert_eq!(code(early.query_drop("INSERT INTO log VALUES ('not this')").await), 1290);
        assert_eq!(one(&mut early, "SELECT COUNT(*) FROM log").await, "1");
        // One that is gone: nobody new, but who is there stays, also when its connections to the servers are new.
        assert_eq!(code(come("mail", "m4il").await), 1045);
        for server in [&scene.cluster.primary, &scene.cluster.replicas[0]] {
            server.sql("KILL USER mail");
        }
        mail.query_drop("INSERT INTO log VALUES ('by mail')").await.expect("written");
        assert_eq!(one(&mut mail, "SELECT COUNT(*) FROM log").await, "2");
        // It comes back as the one it was: with its place among its clients.
        scene.reload(&[0], &[user("mail", "m4il", "clients_max = 1"), user("reports", "n3w", "")].concat());
        assert_eq!(code(come("mail", "m4il").await), 1226);
        mail.disconnect().await.expect("disconnected");
        eventually("its place is free", || scene.server.status()["splitters"][0]["clients"] == 2);
        come("mail", "m4il").await.expect("logged on");
        early.query_drop("INSERT INTO log VALUES ('by reports')").await.expect("it may write again");
    });
}

#[test]
fn rules_and_the_slow_log_count_from_the_next_statement() {
    if !mariadb::is_installed() {
        return;
    }
    let slow = |threshold: &str| format!("slow_log = {{ file = \"$DIR/slow.log\", threshold = \"{threshold}\" }}");
    let scene = Scene::start(Driver::Auto, 1, &[0], "hints = true");
    let rule = |lines: &str| format!("[[mysql.db.rules]]\n{lines}\n");
    let (read, write) = ("SELECT id FROM who", "INSERT INTO log VALUES ('x')");
    block_on(async {
        let mut conn = scene.client().await;
        let prepared = conn.prep("SELECT id FROM who WHERE id > ?").await.expect("prepared");
        assert_eq!(conn.exec_first::<u32, _, _>(&prepared, (0,)).await.expect("executed"), Some(2));
        assert_eq!(one(&mut conn, read).await, "2");
        conn.query_drop(write).await.expect("written");
        let rules = [
            rule("name = \"audit\"\ndigest = \"SELECT id FROM who*\"\nroute = \"primary\""),
            rule("name = \"closed\"\ndigest = \"INSERT INTO log*\"\nreject = \"closed for today\""),
        ];
        scene.reload(&[0], &[slow("0s"), rules.concat()].join("\n"));
        assert_eq!(one(&mut conn, read).await, "1", "by the rule");
        let executed = conn.exec_first::<u32, _, _>(&prepared, (0,)).await;
        assert_eq!(executed.expect("executed"), Some(1), "what was prepared before, too");
        assert_eq!(code(conn.query_drop(write).await), 1148);
        let log = scene.server.folder().join("slow.log");
        eventually("the slow log has them", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines().count() >= 3 && text.contains("\"rule\":\"audit\"") && text.contains("closed")
        });
        // In another order, with another one in front; and hardly anything is slow.
        let rules = [rule("name = \"slow\"\ndigest = \"SELECT SLEEP*\"\ntime_limit = \"200ms\""), rules[1].clone()];
        scene.reload(&[0], &[slow("10s"), rules.concat()].join("\n"));
        let lines = std::fs::read_to_string(&log).expect("a log").lines().count();
        assert_eq!(one(&mut conn, read).await, "2", "no rule is about it any more");
        assert_eq!(conn.exec_first::<u32, _, _>(&prepared, (0,)).await.expect("executed"), Some(2));
        let begun = Instant::now();
        let error = conn.query_drop("SELECT SLEEP(20) FROM who").await;
        assert!(code(error) == 1969 && begun.elapsed() < Duration::from_secs(10));
        assert_eq!(code(conn.query_drop(write).await), 1148);
        scene.reload(&[0], "hints = false");
        conn.query_drop(write).await.expect("no rule is left");
        assert_eq!(one(&mut conn, "SELECT /* one-server: primary */ id FROM who").await, "2", "no hints, either");
        assert_eq!(std::fs::read_to_string(&log).expect("a log").lines().count(), lines);
    });
    // Counted in one row all the time, those that were refused included.
    let text = scene.server.ctl_ok(&["--json", "mysql", "digests", "db"]);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let rows = json["result"]["rows"].as_array().expect("rows");
    let writes: Vec<_> = rows.iter().filter(|row| row["text"] == "INSERT INTO log VALUES (...)").collect();
    assert_eq!(writes.iter().map(|row| row["count"].as_u64()).collect::<Vec<_>>(), [Some(4)], "{json:#}");
}

/// Under another `sql_mode` the same text is another statement. A rule that comes later is about what was prepared.
#[test]
fn what_was_prepared_is_judged_as_it_was_written() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = Scene::start(Driver::Auto, 1, &[0], "");
    block_on(async {
        let mut conn = scene.client().await;
        let text = conn.prep("SELECT \"id\" FROM who WHERE id > ?").await.expect("prepared");
        conn.query_drop("SET sql_mode = 'ANSI_QUOTES'").await.expect("set");
        let column = conn.prep("SELECT \"id\" FROM who WHERE id >= ?").await.expect("prepared");
        assert_eq!(conn.exec_first::<String, _, _>(&text, (0,)).await.expect("executed").as_deref(), Some("id"));
        assert_eq!(conn.exec_first::<u32, _, _>(&column, (0,)).await.expect("executed"), Some(1));
        scene.reload(&[0], "[[mysql.db.rules]]\ndigest_regex = \"^SELECT [?] FROM\"\nreject = \"no texts\"");
        assert_eq!(code(conn.exec_first::<String, _, _>(&text, (0,)).await), 1148, "it is a text still");
        assert_eq!(conn.exec_first::<u32, _, _>(&column, (0,)).await.expect("executed"), Some(1));
        scene.reload(&[0], "");
        assert_eq!(conn.exec_first::<String, _, _>(&text, (0,)).await.expect("executed").as_deref(), Some("id"));
    });
}

#[test]
fn another_level_of_causal_reads_holds_for_the_next_read() {
    if !mariadb::is_installed() {
        return;
    }
    let level = |level: &str| format!("causal_reads = \"{level}\"\ncausal_timeout = \"200ms\"\nlag_max = \"1h\"");
    let scene = Scene::start(Driver::Auto, 1, &[0], &level("off"));
    // Replication goes on, but nothing can be applied.
    let mut blocker = scene.cluster.replicas[0].client();
    let mut blocker =
        blocker.arg("-e").arg("FLUSH TABLES WITH READ LOCK; SELECT SLEEP(600)").spawn().expect("a client");
    let blocks = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(600)%'";
    eventually("the replica is locked", || scene.cluster.replicas[0].sql(blocks) == "1");
    block_on(async {
        let mut conn = scene.client().await;
        let count = "SELECT COUNT(*) FROM log";
        conn.query_drop("INSERT INTO log VALUES ('first')").await.expect("written");
        assert_eq!(one(&mut conn, count).await, "0", "the replica does not have it");
        scene.reload(&[0], &level("session"));
        assert_eq!(one(&mut conn, count).await, "1", "its own write of before");
        let mut other = scene.client().await;
        assert_eq!(one(&mut other, count).await, "0", "what others wrote is not promised");
        scene.reload(&[0], &level("node"));
        for _ in 0..20 {
            let mut another = scene.client().await;
            assert_eq!(one(&mut another, count).await, "1", "on either worker, what was written before the reload");
        }
        scene.reload(&[0], &level("off"));
        assert_eq!(one(&mut other, count).await, "0");
        scene.cluster.primary.sql("INSERT INTO d.log VALUES ('by somebody else')");
        scene.reload(&[0], &level("strict"));
        assert_eq!(one(&mut other, count).await, "2");
    });
    blocker.kill().expect("it runs");
    blocker.wait().expect("it ends");
}

#[test]
fn limits_of_connections_that_are_lowered_are_kept_soon() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = Scene::start(Driver::Auto, 1, &[0], "pool_max = 12");
    let mine = || scene.connections(0, USER).saturating_sub(1); // one is the monitor's
    block_on(async {
        let mut clients = Vec::new();
        for _ in 0..16 {
            clients.push(scene.client().await);
        }
        let busy = |clients: Vec<Conn>| async {
            let work = clients.into_iter().map(|mut conn| {
                tokio::spawn(async move {
                    conn.query_drop("SELECT SLEEP(0.3), id FROM who FOR UPDATE").await.expect("served");
                    conn
                })
            });
            let mut back = Vec::new();
            for client in work.collect::<Vec<_>>() {
                back.push(client.await.expect("no panic"));
            }
            back
        };
        clients = busy(clients).await;
        assert!(mine() > 8, "{}", mine());
        scene.reload(&[0], "pool_max = 2");
        eventually("idle ones are closed", || mine() <= 4);
        clients = busy(clients).await;
        assert!(mine() <= 4, "two for each worker");
        scene.reload(&[0], "pool_max = 12\nserver_connections_max = 3");
        clients = busy(clients).await;
        assert!(mine() <= 3, "three in all");
        scene.reload(&[0], "pool_max = 12\npool_idle_timeout = \"1s\"");
        // While they are at work: what is idle behind that goes soon.
        let as_many_as_before = async {
            let begun = Instant::now();
            while mine() <= 4 {
                assert!(begun.elapsed() < Duration::from_secs(20), "there are {}", mine());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        clients = tokio::join!(busy(clients), as_many_as_before).0;
        eventually("and none that is idle for long", || mine() == 0);
        drop(clients);
    });
}

#[test]
fn a_config_with_a_mistake_changes_nothing_and_says_why() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = Scene::start(Driver::Auto, 1, &[0], "");
    block_on(async {
        let mut conn = scene.client().await;
        let good = scene.table.borrow().clone();
        for (keys, told) in [
            ("replicas_ = []", "unknown key `replicas_`"),
            ("pool_max = 0", "pool_max"),
            ("users = [{ name = \"app\", password = \"x\" }]", "stands twice"),
        ] {
            scene.server.edit(&[(&good, &format!("{good}{keys}\n"))]);
            let refused = scene.server.ctl_fails(&["reload"]);
            assert!(refused.contains(told), "{refused}");
            scene.server.edit(&[(&format!("{good}{keys}\n"), &good)]);
            assert_eq!(one(&mut conn, "SELECT id FROM who").await, "2");
        }
        assert_eq!(scene.server.status()["config"]["generation"], 0);
        // What only a restart changes is named, and the rest is taken.
        let told = scene.reload_text(good.replace("user = \"app\"", "user = \"reports\"") + "pool_max = 3\n");
        assert!(told.contains("`user` in [mysql.db]"), "{told}");
        assert_eq!(one(&mut conn, "SELECT CURRENT_USER()").await, format!("{USER}@%"));
        // By signal, too.
        scene.server.edit(&[("pool_max = 3", "pool_max = 3\nreplicas_ = []")]);
        scene.server.signal(Signal::HUP);
        scene.server.wait_for_line("the mistake", |line| line.contains("replicas_"));
        assert_eq!(one(&mut conn, "SELECT id FROM who").await, "2");
        assert_eq!(scene.metric("one_server_splitter_clients_accepted_total"), 1.0, "nobody had to connect again");
    });
}

#[test]
fn splitters_come_and_go_and_so_do_their_addresses() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let scene = Scene::start(driver, 1, &[0], "");
        let first = scene.table.borrow().clone();
        let (port, other) = (ports::free_port(), ports::free_port());
        let second = |listen: &str| {
            first
                .replace("[mysql.db]", "[mysql.two]")
                .replace("listen = \"127.0.0.1:0\"", &format!("listen = [{listen}]"))
        };
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let unix = scene.server.folder().join("two.sock");
        block_on(async {
            let mut conn = scene.client().await;
            conn.query_drop("BEGIN").await.expect("begun");
            let both = format!("{first}{}", second(&format!("\"127.0.0.1:{port}\", \"unix:$DIR/two.sock\"")));
            let told = scene.reload_text(both);
            assert!(told.contains(&format!("opened: two 127.0.0.1:{port}")) && told.contains("two.sock"), "{told}");
            let come = |port: u16| log_on(at(port), USER, PASSWORD, Some("d"));
            let (mut early, mut busy) = (come(port).await.expect("logged on"), come(port).await.expect("logged on"));
            assert_eq!(one(&mut early, "SELECT @@port").await, scene.cluster.primary.port.to_string());
            assert!(unix.exists());
            assert_eq!(scene.server.metric("one_server_splitter_clients", "splitter=\"two\""), 2.0, "{driver:?}");
            // Another address: who came by the old one stays.
            let moved = format!("{first}{}", second(&format!("\"127.0.0.1:{other}\"")));
            let told = scene.reload_text(moved.clone());
            assert!(told.contains("opened: two") && told.contains(&format!("closed: two 127.0.0.1:{port}")), "{told}");
            eventually("the old address is closed", || std::net::TcpStream::connect(at(port)).is_err());
            assert!(!unix.exists());
            early.query_drop("INSERT INTO log VALUES ('early')").await.expect("written");
            let mut late = come(other).await.expect("logged on");
            assert_eq!(one(&mut late, "SELECT COUNT(*) FROM log FOR UPDATE").await, "1");
            // It goes: whoever is in a transaction ends it, the others are told.
            busy.query_drop("BEGIN").await.expect("begun");
            busy.query_drop("INSERT INTO log VALUES ('busy')").await.expect("written");
            let told = scene.reload_text(first.clone());
            assert!(told.contains(&format!("closed: two 127.0.0.1:{other}")), "{told}");
            busy.query_drop("INSERT INTO log VALUES ('busy')").await.expect("it goes on");
            busy.query_drop("COMMIT").await.expect("committed");
            assert!(early.query_drop("SELECT 1").await.is_err() && busy.query_drop("SELECT 1").await.is_err());
            eventually("nobody listens", || std::net::TcpStream::connect(at(other)).is_err());
            // The first one has not noticed.
            conn.query_drop("COMMIT").await.expect("committed");
            assert_eq!(one(&mut conn, "SELECT COUNT(*) FROM log FOR UPDATE").await, "3");
            assert_eq!(scene.metric("one_server_splitter_clients_accepted_total"), 1.0);
            // In front of the first one, so that all have other indexes.
            let swapped = moved.replace(&first, "") + &first;
            scene.reload_text(swapped);
            let mut again = come(other).await.expect("logged on");
            assert_eq!(one(&mut again, "SELECT COUNT(*) FROM log FOR UPDATE").await, "3");
            assert_eq!(one(&mut conn, "SELECT COUNT(*) FROM log FOR UPDATE").await, "3");
            assert_eq!(
                scene.server.metric("one_server_splitter_clients_accepted_total", "splitter=\"two\""),
                1.0,
                "a new one"
            );
            let wanted = format!("two/127.0.0.1:{}", scene.cluster.replicas[0].port);
            scene.server.ctl_ok(&["mysql", "drain", &wanted]);
            let text = scene.server.ctl_ok(&["--json", "mysql", "show"]);
            let shown: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let admin = |s: usize| shown["result"]["splitters"][s]["servers"][1]["admin"].clone();
            assert_eq!((admin(0), admin(1)), ("drain".into(), "ready".into()));
            // A port that somebody has is a refusal, and nothing has changed.
            let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let text = format!("127.0.0.1:{}", taken.local_addr().expect("bound").port());
            scene.server.edit(&[(&format!("127.0.0.1:{other}"), &text)]);
            assert!(scene.server.ctl_fails(&["reload"]).contains("another process has it"));
            again.query_drop("INSERT INTO log VALUES ('again')").await.expect("written");
            come(other).await.expect("logged on");
        });
    });
}
