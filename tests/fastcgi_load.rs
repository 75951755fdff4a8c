//! PHP-FPM under load, with few processes, while it dies and while we reload: nothing is refused that could wait, nothing is
//! lost that need not be.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use support::client::{Client, NoResponse, timed};
use support::fake_fastcgi::{FakeFastCgi, Said, answer};
use support::php::{ALL, ECHO, Php, shown, site, start};
use support::{Driver, Server, Site, eventually, get, post, with_both_drivers};

/// Ends the threads of a test, also when it fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_full_backlog_is_waited_for() {
    const NAP: &str = "<?php usleep(1000 * (int) $_GET['ms']); echo 'rested';";
    // One for each driver: they would take each other's places.
    if Php::start("", &[]).is_none() {
        return;
    }
    with_both_drivers(|driver| {
        let php = Php::start("pm.max_children = 1\nlisten.backlog = 1", &[("nap.php", NAP)]).expect("a moment ago");
        let server = start(driver, &php, "queue_timeout = \"15s\"", ALL);
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    let mut client = server.connect();
                    for _ in 0..2 {
                        let answer = client.ask(get("/nap.php?ms=20"));
                        assert_eq!((answer.status, answer.text().as_str()), (200, "rested"), "{driver:?}");
                    }
                });
            }
        });
        let queue = |server: &Server, name: &str| {
            server.metric(&format!("one_server_upstream_queue_{name}"), "upstream=\"php\"") as usize
        };
        assert_eq!((queue(&server, "full_total"), queue(&server, "timeouts_total")), (0, 0), "{driver:?}");
        drop(server);
        // All of them would have their turn in time, if so many might wait.
        let server = start(driver, &php, "queue_timeout = \"60s\"\nqueue_max = 2\nhealth = false", ALL);
        let answers: Vec<_> = std::thread::scope(|scope| {
            let asks = || scope.spawn(|| timed(|| server.connect().ask(get("/nap.php?ms=200"))));
            let threads: Vec<_> = (0..40).map(|_| asks()).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(answer, _)| answer.status == 200);
        assert!(!served.is_empty() && refused.len() >= 5, "{driver:?}: {} were refused", refused.len());
        for (answer, took) in &refused {
            assert_eq!((answer.status, answer.field("retry-after").is_some()), (503, true), "{driver:?}");
            assert!(*took < Duration::from_secs(5), "{driver:?}: at once, not behind {took:?}");
        }
        assert_eq!(queue(&server, "full_total"), refused.len(), "{driver:?}");
        assert_eq!((queue(&server, "timeouts_total"), queue(&server, "requests")), (0, 0), "{driver:?}");
    });
}

#[test]
fn a_wait_for_the_backlog_ends_like_one_in_the_queue() {
    const NAP: &str = "<?php usleep(2500000); echo 'rested';";
    let Some(php) = Php::start("pm.max_children = 1\nlisten.backlog = 1", &[("nap.php", NAP)]) else { return };
    let server = site(Driver::Auto, &php, "queue_timeout = \"300ms\"\nhealth = false", ALL).one_worker().start();
    std::thread::scope(|scope| {
        let asks = || {
            scope.spawn(|| {
                let begun = Instant::now();
                (server.connect().ask(get("/nap.php")), begun.elapsed())
            })
        };
        let threads: Vec<_> = (0..8).map(|_| asks()).collect();
        let answers = threads.into_iter().map(|thread| thread.join().expect("an answer"));
        let refused: Vec<_> = answers.filter(|(answer, _)| answer.status != 200).collect();
        assert!(refused.len() >= 3, "{}", refused.len());
        for (answer, took) in refused {
            assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
            assert!(took < Duration::from_millis(1200), "{took:?}");
        }
    });
    let refused = server.metric("one_server_upstream_queue_timeouts_total", "upstream=\"php\"");
    assert!(refused >= 3.0, "{refused}");
    let blamed: Vec<_> = server.lines().into_iter().filter(|line| line.contains("server failed")).collect();
    assert!(blamed.is_empty(), "it has not failed: {blamed:?}");
}

/// One of them is the next to try, and leaves its turn to another one.
#[test]
fn who_leaves_a_wait_for_the_backlog_is_not_run() {
    const HOLD: &str = "<?php touch(__DIR__ . '/held'); \
                        while (!file_exists(__DIR__ . '/go')) { usleep(5000); clearstatcache(); } echo 'held';";
    const NOTE: &str =
        "<?php file_put_contents(__DIR__ . '/notes', $_GET['token'] . \"\\n\", FILE_APPEND); echo $_GET['token'];";
    let scripts = [("hold.php", HOLD), ("note.php", NOTE)];
    let Some(php) = Php::start("pm.max_children = 1\nlisten.backlog = 1", &scripts) else { return };
    let server = site(Driver::Auto, &php, "queue_timeout = \"30s\"\nhealth = false", ALL).one_worker().start();
    let metric = |name: &str| server.metric(&format!("one_server_upstream_{name}"), "upstream=\"php\"") as usize;
    let mut held = server.connect();
    held.send(get("/hold.php"));
    eventually("it is held", || php.root().join("held").exists());
    let ask = |token: usize| {
        let mut client = server.connect();
        client.send(post(&format!("/note.php?token={token}"), "x"));
        eventually("it waits", || metric("connects_total") + metric("queue_requests") == token + 2);
        (token, client)
    };
    let mut clients: Vec<_> = (0..7).map(ask).collect();
    let waiting = metric("queue_requests");
    assert!((3..7).contains(&waiting), "{waiting} of 7");
    // The last one, and the first of those that the socket has not taken.
    let (_, last) = clients.pop().expect("there are 7");
    let (next, first) = clients.remove(7 - waiting);
    last.reset();
    drop(first);
    eventually("they have left", || metric("queue_requests") == waiting - 2);
    std::fs::write(php.root().join("go"), "").expect("a file");
    assert_eq!(held.response("GET").text(), "held");
    for (token, client) in &mut clients {
        assert_eq!(client.response("POST").text(), token.to_string());
    }
    let notes = std::fs::read_to_string(php.root().join("notes")).expect("notes");
    let mut seen: Vec<usize> = notes.lines().map(|line| line.parse().expect("a number")).collect();
    seen.sort_unstable();
    let stayed: Vec<usize> = (0..6).filter(|token| *token != next).collect();
    assert_eq!((seen, metric("queue_left_total")), (stayed, 2));
}

#[test]
fn nobody_waits_for_a_full_backlog_while_another_server_has_room() {
    const NAP: &str = "<?php touch($_SERVER['DOCUMENT_ROOT'] . '/begun-' . getenv('PLACE')); usleep(30000000);";
    let scripts = [("nap.php", NAP), ("echo.php", ECHO)];
    let Some(full) = Php::start("pm.max_children = 1\nlisten.backlog = 1\nenv[PLACE] = full", &scripts) else { return };
    let other = Php::start("pm.max_children = 8", &scripts).expect("a second one");
    let routes = ALL.replace("$ROOT", shown(&full.root()));
    // The weight makes the full one the first choice of nearly everybody; the socket of the other is there for those who find no room.
    let site = format!(
        "[upstream.php]\nservers = [{{ address = \"unix:{}\", weight = 200 }}, \"unix:{}\"]\nprotocol = \"fastcgi\"\n\
         health = false\nqueue_timeout = \"10s\"\nbalance = \"round-robin\"\n[site.main]\ndefault = true\n{routes}",
        shown(&full.socket()),
        shown(&other.socket())
    );
    let server = Site::new(Driver::Auto, &site).one_worker().start();
    // Its process is busy, and then its backlog is full.
    let mut naps = server.connect();
    naps.send(get("/nap.php"));
    eventually("it naps at the full one", || full.root().join("begun-full").exists());
    let address = socket2::SockAddr::unix(full.socket()).expect("an address");
    let fills = || {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        socket.connect(&address).is_ok().then_some(socket)
    };
    let _filled: Vec<_> = std::iter::from_fn(fills).collect();
    for _ in 0..5 {
        let (answer, took) = timed(|| server.connect().ask(get("/echo.php")));
        assert_eq!(answer.status, 200);
        assert!(took < Duration::from_secs(5), "it waited {took:?}");
    }
}

#[test]
fn the_backlog_is_waited_for_in_order() {
    // When it was begun.
    const NAP: &str = "<?php echo hrtime(true); usleep(60000);";
    let Some(php) = Php::start("pm.max_children = 1\nlisten.backlog = 1", &[("nap.php", NAP)]) else { return };
    let server = site(Driver::Auto, &php, "queue_timeout = \"15s\"\nhealth = false", ALL).one_worker().start();
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(get("/nap.php"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let begun: Vec<u64> =
        clients.iter_mut().map(|client| client.response("GET").text().parse().expect("a time")).collect();
    assert!(begun.is_sorted(), "{begun:?}");
}

/// PHP's own backlog would take what comes beyond a limit, so the server is one that counts.
#[test]
fn no_more_come_at_once_than_the_limit_says() {
    with_both_drivers(|driver| {
        for (limit, queues) in [(", requests_max = 2", true), ("", false)] {
            let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let counts = (now.clone(), most.clone());
            let php = FakeFastCgi::start(move |_| {
                counts.1.fetch_max(counts.0.fetch_add(1, SeqCst) + 1, SeqCst);
                std::thread::sleep(Duration::from_millis(150));
                counts.0.fetch_sub(1, SeqCst);
                Said { bytes: answer("Content-Type: text/plain\r\n\r\nrested"), closes: true }
            });
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join("nap.php"), "").expect("a script");
            let upstream = format!(
                "[upstream.php]\nservers = [{{ address = \"{}\"{limit} }}]\nprotocol = \"fastcgi\"\nhealth = false\n\
                 [site.main]\ndefault = true\n{}",
                php.address,
                ALL.replace("$ROOT", shown(folder.path()))
            );
            let server = Site::new(driver, &upstream).start();
            std::thread::scope(|scope| {
                for _ in 0..20 {
                    scope.spawn(|| assert_eq!(server.connect().ask(get("/nap.php")).text(), "rested", "{driver:?}"));
                }
            });
            assert_eq!(php.seen().len(), 20, "{driver:?}");
            let most = most.load(SeqCst);
            assert_eq!(most <= 2, queues, "{driver:?}: {most} at once{limit}");
            if queues {
                let waited = "one_server_upstream_queue_wait_duration_seconds_count";
                assert!(server.metric(waited, "upstream=\"php\"") > 0.0, "{driver:?}");
            }
        }
    });
}

/// A server that tells how long the content was, for everything; `cgi` says more of how it is asked.
fn weighing(driver: Driver, cgi: &str) -> (FakeFastCgi, Server) {
    let fake = FakeFastCgi::start(|asked| Said {
        bytes: answer(&format!("Content-Type: text/plain\r\n\r\n{}", asked.content.len())),
        closes: true,
    });
    let text = format!(
        "[upstream.app]\nservers = \"{}\"\nprotocol = \"fastcgi\"\nhealth = false\n[site.main]\ndefault = true\n\
         [[site.main.route]]\npath = \"/\"\nproxy = \"app\"\ncgi = {{ split = []{cgi} }}\n",
        fake.address
    );
    let server = Site::new(driver, &text).one_worker().http("body_max = \"200MiB\"").start();
    (fake, server)
}

const CHUNKED: &str = "POST /x.php HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";

fn announce(bytes: usize) -> String {
    format!("POST /x.php HTTP/1.1\r\nHost: test\r\nContent-Length: {bytes}\r\n\r\n")
}

fn chunk(bytes: usize) -> String {
    format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes))
}

fn connects(server: &Server) -> f64 {
    server.metric("one_server_upstream_connects_total", "upstream=\"app\"")
}

/// Bytes that are under way between both ends of this connection (proc_net_tcp(5)).
fn waits_in_sockets(client: &Client) -> u64 {
    let ports =
        [client.stream.local_addr(), client.stream.peer_addr()].map(|address| address.expect("a socket").port());
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("a number");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("procfs");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| {
        let ends = [row[1], row[2]].map(|end| end.split_once(':').map(|(_, port)| hex(port)));
        [ports, [ports[1], ports[0]]].contains(&ends.map(|port| port.expect("a port") as u16))
    });
    // What has not left one end, and what nobody has read at the other.
    ours.map(|row| row[4].split(':').map(hex).sum::<u64>()).sum()
}

/// A worker keeps 64 MiB of such bodies; what has not come yet is no part of that.
#[test]
fn what_is_announced_and_does_not_come_takes_no_room_from_other_bodies() {
    with_both_drivers(|driver| {
        let (fake, server) = weighing(driver, "");
        let mut idle: Vec<Client> = (0..70).map(|_| server.connect()).collect();
        Client::send_all(&mut idle, &announce(1 << 20));
        let connections = |what: &str| server.metric(&format!("one_server_http_connections{what}"), "");
        eventually("their heads are read", || {
            connections("") == 70.0 && connections("_idle") + connections("_reading") == 0.0
        });
        let mut client = server.connect();
        client.send(announce(500_000)).send(vec![b'x'; 499_999]);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(connects(&server), 0.0, "{driver:?}: it would hold a process");
        assert_eq!(client.send("x").response("POST").text(), "500000", "{driver:?}");
        let mut client = server.connect();
        let answer = client.send(CHUNKED).send(chunk(100_000)).send("0\r\n\r\n").response("POST");
        assert_eq!((answer.status, answer.text().as_str()), (200, "100000"), "{driver:?}");
        assert_eq!((connects(&server), fake.seen().len()), (2.0, 2), "{driver:?}");
    });
}

#[test]
fn bodies_without_a_length_share_the_room_there_is() {
    with_both_drivers(|driver| {
        let (_fake, server) = weighing(driver, ", unsized_body_max = \"64MiB\"");
        let mut clients: Vec<Client> = (0..2).map(|_| server.connect()).collect();
        Client::send_all(&mut clients, CHUNKED);
        for _ in 0..10 {
            Client::send_all(&mut clients, &chunk(1 << 20));
        }
        Client::send_all(&mut clients, "0\r\n\r\n");
        for client in &mut clients {
            let answer = client.response("POST");
            assert_eq!((answer.status, answer.text()), (200, (10 << 20).to_string()), "{driver:?}");
        }
    });
}

#[test]
fn bodies_for_which_there_is_no_room_are_streamed_or_refused() {
    const ROOM: usize = 256 << 10;
    let (fake, server) = weighing(Driver::Auto, ", unsized_body_max = \"64MiB\"");
    let full = || server.metric("one_server_upstream_queue_full_total", "upstream=\"app\"");
    let mut large = server.connect();
    large.send(CHUNKED);
    for _ in 0..63 {
        large.send(chunk(1 << 20));
    }
    large.send(chunk((1 << 20) - ROOM));
    eventually("all of it is read", || waits_in_sockets(&large) == 0);
    let mut streamed = server.connect();
    streamed.send(announce(500_000)).send(vec![b'x'; 400_000]);
    eventually("it has begun", || connects(&server) == 1.0);
    assert_eq!(streamed.send(vec![b'x'; 100_000]).response("POST").text(), "500000");
    assert_eq!(full(), 0.0);
    let mut refused = server.connect();
    refused.send(CHUNKED).send(chunk(ROOM)).send(chunk(ROOM));
    let answer = refused.response("POST");
    assert_eq!((answer.status, answer.field("Retry-After").is_some(), full()), (503, true, 1.0));
    let answer = large.send("0\r\n\r\n").response("POST");
    assert_eq!((answer.status, answer.text()), (200, ((64 << 20) - ROOM).to_string()));
    // There is room again.
    let answer = server.connect().send(CHUNKED).send(chunk(2 * ROOM)).send("0\r\n\r\n").response("POST");
    assert_eq!((answer.status, answer.text(), full()), (200, (2 * ROOM).to_string(), 1.0));
    assert_eq!(fake.seen().len(), 3);
}

#[test]
fn connections_are_kept_where_that_is_asked_for() {
    let Some(php) = Php::start("", &[("echo.php", ECHO)]) else { return };
    for (upstream, keeps) in [("", false), ("keep_idle = 2\nkeep_idle_timeout = \"1s\"", true)] {
        let server = site(Driver::Auto, &php, upstream, ALL).one_worker().start();
        let mut client = server.connect();
        for at in 0..20 {
            assert_eq!(client.ask(post("/echo.php", &at.to_string())).text(), format!("/echo.php|||{at}"));
        }
        let reuses = server.metric("one_server_upstream_reuses_total", "php");
        assert_eq!(reuses > 15.0, keeps, "{reuses} of 20");
    }
}

#[test]
fn what_becomes_of_a_server_that_is_killed() {
    let Some(mut php) = Php::start("", &[("echo.php", ECHO)]) else { return };
    let server = start(Driver::Auto, &php, "health = { interval = \"100ms\", rise = 1 }", ALL);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ask = || {
            let mut seen = BTreeMap::new();
            while !stop.load(Relaxed) {
                let mut client = server.connect();
                client.send(get("/echo.php"));
                let what = match client.try_response("GET") {
                    Ok(answer) if answer.status == 200 => {
                        assert_eq!(answer.text(), "/echo.php|||");
                        "200"
                    }
                    Ok(answer) if [502, 503].contains(&answer.status) => "5xx",
                    Ok(answer) => panic!("{answer:?}"),
                    Err(NoResponse::Ended(..)) => "broken",
                    Err(NoResponse::TimedOut(_)) => panic!("no answer"),
                };
                *seen.entry(what).or_insert(0) += 1;
            }
            seen
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let stopping = Stop(&stop);
        std::thread::sleep(Duration::from_millis(300));
        php.kill();
        std::thread::sleep(Duration::from_millis(500));
        php.start_again();
        eventually("it is back", || server.connect().ask(get("/echo.php")).status == 200);
        std::thread::sleep(Duration::from_millis(300));
        drop(stopping);
        for thread in threads {
            let seen = thread.join().expect("a thread");
            // Those that found nobody there were sent again, and most found somebody then.
            assert!(seen.get("200").is_some_and(|good| *good > 10), "{seen:?}");
        }
    });
}

#[test]
fn a_reload_loses_nothing() {
    const NAP: &str = "<?php usleep(5000); echo file_get_contents('php://input');";
    let Some(php) = Php::start("", &[("nap.php", NAP)]) else { return };
    let server = site(Driver::Auto, &php, "keep_idle = 1", ALL).process("control = \"$DIR/ctl.sock\"").start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ask = || {
            let (mut client, mut count) = (server.connect(), 0);
            while !stop.load(Relaxed) {
                let answer = client.ask(post("/nap.php", "as it was"));
                assert_eq!((answer.status, answer.text().as_str()), (200, "as it was"));
                count += 1;
                if answer.is_last() {
                    client = server.connect();
                }
            }
            count
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        let stopping = Stop(&stop);
        for (from, to) in
            [("keep_idle = 1", "keep_idle = 0"), ("keep_idle = 0", "keep_idle = 3"), ("keep_idle = 3", "keep_idle = 1")]
        {
            std::thread::sleep(Duration::from_millis(200));
            server.reload_with(&[(from, to)]);
        }
        std::thread::sleep(Duration::from_millis(200));
        drop(stopping);
        for thread in threads {
            assert!(thread.join().expect("nothing went wrong") > 20);
        }
    });
}

#[test]
fn checks_ask_in_the_words_of_the_protocol() {
    let Some(php) = Php::start("", &[("echo.php", ECHO)]) else { return };
    for (path, is_up) in [("/ping", true), ("/pong", false)] {
        let health =
            format!("health = {{ path = \"{path}\", expect_body = \"pong\", interval = \"100ms\", fall = 1 }}");
        let server = start(Driver::Auto, &php, &health, ALL);
        let expect = if is_up { 200 } else { 503 };
        eventually("it has been checked", || !server.status().to_string().contains("\"result\":\"INI\""));
        eventually("the check tells", || server.connect().ask(get("/echo.php")).status == expect);
        let status = server.status().to_string();
        assert_eq!(status.contains("L7OK"), is_up, "{status}");
    }
}
