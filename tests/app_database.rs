//! Handlers of an application inside the process that wait for others: drivers that run on tokio, as they come, on an application
//! worker. Whatever they wait for, the worker goes on with the next request. `examples/probe_app` is the application.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use mariadb::{Cluster, PASSWORD, USER};
use support::*;

/// Answers each connection on its own, half a second after its line.
fn answer_late(mut stream: impl Read + Write + Send + 'static, answer: &'static str) {
    std::thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).expect("a line");
        assert_eq!(line, "hello\n");
        std::thread::sleep(Duration::from_millis(500));
        stream.write_all(answer.as_bytes()).expect("an answer");
    });
}

#[test]
fn handlers_wait_for_sockets_of_their_own_side_by_side() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer_late(stream, "by TCP")));
    with_both_drivers(|driver| {
        let text = "[site.main]\nroute = [{ path = \"/\", app = \"probe\" }]\n[app.probe]\n";
        let server = Site::probe(driver, text).one_worker().start();
        let listener = UnixListener::bind(server.folder().join("dialled")).expect("a socket");
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer_late(stream, "by a socket")));
        for (port, expected) in [(port, "by TCP"), (0, "by a socket")] {
            let begun = Instant::now();
            let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
            Client::send_all(&mut clients, &get(&format!("/dial?port={port}")));
            assert_eq!(server.connect().ask(get("/size")).text(), "0 bytes", "{driver:?}");
            for client in &mut clients {
                assert_eq!(client.response("GET").text(), expected, "{driver:?}");
            }
            // One after the other, it would be ten seconds.
            assert!(begun.elapsed() < Duration::from_secs(5), "{driver:?} {port}: {:?}", begun.elapsed());
        }
        // Nobody is there.
        assert_eq!(server.connect().ask(get("/dial?port=1")).status, 500, "{driver:?}");
        assert_eq!(server.metric("one_server_app_worker_restarts_total", ""), 0.0, "{driver:?}");
    });
}

/// The application, its pools, and the splitter are one process.
#[test]
fn pools_of_sqlx_and_mysql_async_reach_the_splitter_of_the_same_process() {
    const CLIENTS: usize = 8;
    const EACH: usize = 10;
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.primary.sql("CREATE TABLE d.visits (page VARCHAR(200) PRIMARY KEY, times BIGINT NOT NULL)");
    cluster.wait_for_replicas();
    with_both_drivers(|driver| {
        let text = format!(
            "[site.main]\nroute = [{{ path = \"/\", app = \"database\" }}]\n[app.database]\n\
             [mysql.db]\nlisten = \"unix:$DIR/db.sock\"\nprimary = \"127.0.0.1:{}\"\nreplicas = \"127.0.0.1:{}\"\n\
             user = \"{USER}\"\npassword = \"{PASSWORD}\"\ncausal_reads = \"node\"\n",
            cluster.primary.port, cluster.replicas[0].port
        );
        let site = Site::probe(driver, &text).one_worker();
        let url = format!("mysql://{USER}:{PASSWORD}@localhost/d?socket={}/db.sock", site.folder().display());
        let server = site.file("database", url.as_bytes()).start();
        for by in ["sqlx", "mysql_async"] {
            let visit = get(&format!("/{by}/{by}-{}", driver.flag()));
            let mut client = server.connect();
            for times in 1..=5 {
                let answer = client.ask(&visit);
                assert_eq!((answer.status, answer.text()), (200, times.to_string()), "{driver:?} {by}");
            }
            std::thread::scope(|scope| {
                for _ in 0..CLIENTS {
                    scope.spawn(|| {
                        let mut client = server.connect();
                        for _ in 0..EACH {
                            let answer = client.ask(&visit);
                            assert_eq!(answer.status, 200, "{driver:?} {by}: {}", answer.text());
                        }
                    });
                }
            });
            let times = 5 + CLIENTS * EACH + 1;
            assert_eq!(client.ask(&visit).text(), times.to_string(), "{driver:?} {by}: none is lost");
            // They wait for the database together, and who asks for something else does not wait for them.
            let begun = Instant::now();
            let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
            Client::send_all(&mut clients, &get(&format!("/{by}-waits")));
            assert_eq!(client.ask(get("/none")).status, 404, "{driver:?} {by}");
            assert!(begun.elapsed() < Duration::from_secs(1), "{driver:?} {by}: {:?}", begun.elapsed());
            for client in &mut clients {
                let answer = client.response("GET");
                assert_eq!((answer.status, answer.text().as_str()), (200, "0"), "{driver:?} {by}");
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "{driver:?} {by}: {:?}", begun.elapsed());
        }
        assert!(server.metric("one_server_splitter_statements_total", "to=\"primary\"") > 100.0, "{driver:?}");
    });
}

/// The example that the README names, as a person runs it.
#[test]
fn a_pool_of_another_process_reaches_the_splitter_by_its_socket() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    let text = format!(
        "[site.main]\nroute = [{{ path = \"/\", respond = {{ status = 204 }} }}]\n\
             [mysql.db]\nlisten = \"unix:$DIR/db.sock\"\nprimary = \"127.0.0.1:{}\"\nreplicas = \"127.0.0.1:{}\"\n\
             user = \"{USER}\"\npassword = \"{PASSWORD}\"\n",
        cluster.primary.port, cluster.replicas[0].port
    );
    let server = Site::new(Driver::Auto, &text).start();
    let own = std::env::current_exe().expect("a path");
    let program = own.parent().and_then(std::path::Path::parent).expect("target/debug").join("examples/sqlx_pool");
    assert!(program.is_file(), "{} is not there: `cargo test` builds it", program.display());
    let url = format!("mysql://{USER}:{PASSWORD}@localhost/d?socket={}/db.sock", server.folder().display());
    let output = std::process::Command::new(program).arg(url).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expect = "/ was seen 1 times\n/about was seen 1 times\n/ was seen 2 times\n";
    assert_eq!(said, expect, "{}", String::from_utf8_lossy(&output.stderr));
}
