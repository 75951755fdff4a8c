//! Checks against small servers on this runtime: every end has its name, and the whole loop.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::config::model::{Config, Health, Server};
use crate::control::server_state::AdminState;
use crate::control::shared::tests::config;
use crate::runtime::net::Address;

/// A check as the config file has it, and a server to be checked.
fn parsed(lines: &str, address: &Address) -> (Health, Server) {
    let text = format!(
        "[listener.l]\naddress = \"127.0.0.1:0\"\n[site.s]\n[[site.s.route]]\npath = \"/\"\nproxy = \"u\"\n\
         [upstream.u]\nservers = [\"{address}\"]\nhealth = {{ timeout = \"300ms\", interval = \"50ms\", {lines} }}\n"
    );
    let config = match crate::config::parse("test.toml", &text, &[]) {
        Ok((config, _)) => config,
        Err(report) => panic!("{report}"),
    };
    let upstream = &config.upstreams[0];
    (upstream.health.clone().expect("a check"), upstream.servers[0].clone())
}

async fn check(lines: &str, address: &Address) -> Checked {
    let (health, server) = parsed(lines, address);
    Prober::new(&health).check(&health, &server).await
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A server that answers every connection with `answer` once it has read what begins with `asked`; `None`: says nothing.
async fn server(asked: &'static [u8], answer: Option<&'static [u8]>) -> Address {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let n = socket.read(&mut request).await.unwrap_or(0);
            assert!(n == 0 || request.starts_with(asked), "{}", request[..n].escape_ascii());
            match answer {
                Some(answer) => drop(socket.write_all(answer).await),
                None => kept.push(socket),
            }
        }
    });
    address
}

#[test]
fn every_end_of_a_request_has_its_name() {
    let plain = "path = \"/healthz\"";
    let strict = "path = \"/healthz\", status = [\"200\"], expect_header = \"X-Ready: yes\", expect_body = \"ready\"";
    let cases: [(&str, Option<&'static [u8]>, CheckStatus, &str); 15] = [
        (plain, Some(b"HTTP/1.1 200 OK\r\n\r\n"), CheckStatus::Healthy, "status 200"),
        (plain, Some(b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\nbody"), CheckStatus::Healthy, "status 302"),
        (plain, Some(b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 No\r\n\r\n"), CheckStatus::Healthy, "status 204"),
        (plain, Some(b"HTTP/1.1 503 Busy\r\n\r\n"), CheckStatus::BadStatus, "status 503 (expected 2xx, 3xx)"),
        (plain, Some(b"HTTP/1.1 101 Switching\r\n\r\n"), CheckStatus::BadStatus, "status 101 (expected 2xx, 3xx)"),
        (plain, Some(b"SSH-2.0-OpenSSH\r\n"), CheckStatus::Invalid, "the answer is not HTTP: invalid status line"),
        (plain, Some(b"HTTP/1.1 200 OK\r\n"), CheckStatus::Invalid, "closed within its answer"),
        (plain, Some(b""), CheckStatus::Invalid, "closed without an answer"),
        (plain, None, CheckStatus::AnswerTimeout, "no answer within 300ms"),
        (strict, Some(b"HTTP/1.1 204 No\r\n\r\n"), CheckStatus::BadStatus, "status 204 (expected 200)"),
        (
            strict,
            Some(b"HTTP/1.1 200 OK\r\nX-Ready: no\r\n\r\n"),
            CheckStatus::Invalid,
            "status 200, but no field X-Ready: yes",
        ),
        (
            strict,
            Some(b"HTTP/1.1 200 OK\r\nx-ready: yes\r\n\r\nsoon"),
            CheckStatus::Invalid,
            "status 200, but no \"ready\" in its body",
        ),
        (
            strict,
            Some(b"HTTP/1.1 200 OK\r\nX-Ready: yes\r\nContent-Length: 9\r\n\r\nrea"),
            CheckStatus::Invalid,
            "status 200, but closed within the body",
        ),
        (
            strict,
            Some(b"HTTP/1.1 200 OK\r\nX-Ready: yes\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nre\r\n3\r\nady\r\n0\r\n\r\n"),
            CheckStatus::Healthy,
            "status 200, \"ready\" in its body",
        ),
        (
            "path = \"/healthz\", expect_body = \"ready\", expect_max = \"4B\"",
            Some(b"HTTP/1.1 200 OK\r\n\r\nnot ready"),
            CheckStatus::Invalid,
            "status 200, but no \"ready\" in the first 4 bytes of its body",
        ),
    ];
    block_on(async {
        for (lines, answer, status, text) in cases {
            let address = server(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:", answer).await;
            let verdict = check(lines, &address).await.verdict;
            assert_eq!((verdict.status, verdict.text.as_str()), (status, text));
            assert_eq!(verdict.status.is_ok(), status == CheckStatus::Healthy);
        }
    });
}

#[test]
fn a_request_says_what_the_config_says() {
    block_on(async {
        let lines =
            "path = \"/h\", method = \"HEAD\", host = \"a.example\", headers = { user-agent = \"mine\", X-A = \"b\" }";
        let asked = b"HEAD /h HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\nuser-agent: mine\r\nX-A: b\r\nConnection: close\r\n\r\n";
        // An answer to HEAD has no body, whatever its length says.
        let address = server(asked, Some(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")).await;
        assert_eq!(check(lines, &address).await.verdict.status, CheckStatus::Healthy);
    });
}

/// Whoever accepts nothing any more may still listen: that says nothing of whether it would answer.
#[test]
fn a_full_backlog_is_no_answer() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full.sock");
        let socket = tokio::net::UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = Address::Unix(path.clone());
        let mut waiting = Vec::new();
        while let Ok(connected) = tokio::net::UnixStream::connect(&path).await {
            waiting.push(connected);
        }
        assert_eq!(check("", &address).await.verdict.status, CheckStatus::Connected, "nothing is asked of it");
        for asks in ["path = \"/ping\"", "send = \"x\", expect = \"ready\""] {
            let verdict = check(asks, &address).await.verdict;
            assert_eq!(verdict.status, CheckStatus::ConnectTimeout, "{asks}: {}", verdict.text);
        }
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                tokio::spawn(async move { drop(socket.write_all(b"ready").await) });
            }
        });
        let verdict = check("expect = \"ready\"", &address).await.verdict;
        assert_eq!(verdict.status, CheckStatus::Healthy, "it has room before the time is over: {}", verdict.text);
    });
}

#[test]
fn texts_and_connections_have_their_ends_too() {
    let redis = "send = \"PING\\r\\n\", expect = \"+PONG\"";
    let cases: [(&str, Option<&'static [u8]>, CheckStatus, &str); 5] = [
        (redis, Some(b"+PONG\r\n"), CheckStatus::Healthy, "\"+PONG\" came"),
        (redis, Some(b"-LOADING\r\n"), CheckStatus::Invalid, "closed without \"+PONG\" behind \"-LOADING\\r\\n\""),
        (redis, Some(b""), CheckStatus::Invalid, "closed without an answer"),
        (redis, None, CheckStatus::AnswerTimeout, "no answer within 300ms"),
        ("send = \"PING\\r\\n\"", None, CheckStatus::Healthy, "sent"),
    ];
    block_on(async {
        for (lines, answer, status, text) in cases {
            let verdict = check(lines, &server(b"PING\r\n", answer).await).await.verdict;
            assert_eq!((verdict.status, verdict.text.as_str()), (status, text));
        }
        let verdict = check("", &server(b"", None).await).await.verdict;
        assert_eq!((verdict.status, verdict.text.as_str()), (CheckStatus::Connected, "connected"));
        let verdict = check("", &"127.0.0.1:1".parse().unwrap()).await.verdict;
        assert_eq!((verdict.status, verdict.text.as_str()), (CheckStatus::ConnectFailed, "connection refused"));
    });
}

#[test]
fn a_check_says_first_that_it_speaks_for_itself() {
    block_on(async {
        let line = "proxy_protocol = \"v1\", send = \"PING\\r\\n\", expect = \"+PONG\"";
        let address = server(b"PROXY UNKNOWN\r\n", Some(b"+PONG\r\n")).await;
        assert_eq!(check(line, &address).await.verdict.status, CheckStatus::Healthy);
        let address = server(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", Some(b"HTTP/1.1 200 OK\r\n\r\n")).await;
        let lines = "proxy_protocol = \"v2\", path = \"/\"";
        assert_eq!(check(lines, &address).await.verdict.status, CheckStatus::Healthy);
    });
}

#[test]
fn an_endless_head_is_given_up() {
    let endless: &'static [u8] =
        Box::leak([&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'a'; 64 * 1024]].concat().into_boxed_slice());
    let verdict = block_on(async { check("path = \"/\"", &server(b"GET", Some(endless)).await).await.verdict });
    assert_eq!(
        (verdict.status, verdict.text.as_str()),
        (CheckStatus::Invalid, "the answer is not HTTP: head too long")
    );
}

#[test]
fn unix_sockets_and_other_addresses_are_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    block_on(async {
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        assert_eq!(check("", &Address::Unix(path.clone())).await.verdict.status, CheckStatus::Connected);
        // A server that refuses connections, checked elsewhere.
        let (health, mut server) = parsed("", &"127.0.0.1:1".parse().unwrap());
        server.check_address = Some(Address::Unix(path.clone()));
        assert_eq!(Prober::new(&health).check(&health, &server).await.verdict.status, CheckStatus::Connected);
        drop(listener);
        assert_eq!(check("", &Address::Unix(path)).await.verdict.status, CheckStatus::ConnectFailed);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = format!("check_port = {}", listener.local_addr().unwrap().port());
        assert_eq!(check(&line, &"127.0.0.1:1".parse().unwrap()).await.verdict.status, CheckStatus::Connected);
    });
}

/// A config whose first upstream has this server and check.
fn with_check(address: &Address, lines: &str) -> Config {
    let (health, server) = parsed(lines, address);
    let mut config = config();
    config.upstreams[0].health = Some(health);
    config.upstreams[0].servers = vec![server];
    config
}

/// The whole loop: dead at start, comes up, is published; stops when told.
#[test]
fn a_server_goes_down_and_comes_back() {
    block_on(async {
        let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = reserved.local_addr().unwrap();
        drop(reserved);
        let config = with_check(&Address::Tcp(address), "rise = 2, fall = 2");
        let shared = Arc::new(Shared::new(Arc::new(config), 1, 0));
        let (stop, stopped) = watch::channel(false);
        let (_live, live) = watch::channel(shared.clone());
        let checks = tokio::spawn(run(live, 1, stopped));
        let wait_for = async |up: bool| {
            let change = async {
                while shared.is_up(0, 0) != up {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), change).await.expect("no change in time");
        };
        wait_for(false).await;
        assert_eq!(shared.servers[0][0].failures.value(), 1, "the first check decides");
        assert!(shared.is_up(1, 0), "a server without checks stays up");
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        wait_for(true).await;
        drop(listener);
        wait_for(false).await;
        stop.send(true).unwrap();
        checks.await.unwrap();
        let events: Vec<String> = std::iter::from_fn(|| shared.take_event()).map(|event| event.text).collect();
        let down = format!("server api/{address} is DOWN: check tcp: connection refused");
        assert_eq!(events[0], format!("{down}; 0 of 1 servers left"));
        assert_eq!(events[1], "upstream api has no server up, its requests are answered 503: check its servers");
        assert!(events[2].starts_with(&format!("server api/{address} is UP after 0 s: check tcp: connected, 2 of 2")));
        assert_eq!(events[3], format!("{down}, 2 of 2 failed; 0 of 1 servers left"));
        let told = shared.servers[0][0].told();
        assert_eq!(told.reason, "check tcp: connection refused, 2 of 2 failed");
        assert_eq!(told.check, "connection refused");
    });
}

/// What stays goes on, what is new begins, what is gone ends, and what is no longer checked is up.
#[test]
fn a_new_config_changes_who_is_checked() {
    block_on(async {
        let at = |port: u16| Address::Tcp(format!("127.0.0.1:{port}").parse().unwrap());
        let mut config = with_check(&at(1), "rise = 2, fall = 2");
        let dead = |port: u16| Server { address: at(port), ..config.upstreams[0].servers[0].clone() };
        let (first, second) = (dead(1), dead(2));
        let shared = Arc::new(Shared::new(Arc::new(config.clone()), 1, 0));
        let (to_live, live) = watch::channel(shared.clone());
        let (stop, stopped) = watch::channel(false);
        let checks = tokio::spawn(run(live, 1, stopped));
        let wait = async |what: &dyn Fn() -> bool| {
            let come = async {
                while !what() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), come).await.expect("in time");
        };
        wait(&|| !shared.is_up(0, 0)).await;
        config.upstreams[0].servers = vec![second, first];
        let next = Arc::new(shared.next(Arc::new(config.clone())));
        to_live.send_replace(next.clone());
        assert!(!next.is_up(0, 1), "it is known to be down");
        wait(&|| !next.is_up(0, 0)).await;
        assert_eq!(next.servers[0][1].downs.value(), 1, "it did not go down twice");
        let before = next.servers[0][1].checks.value();
        wait(&|| next.servers[0][1].checks.value() > before).await;
        next.servers[0][1].set_admin(AdminState::Maintenance);
        tokio::time::sleep(Duration::from_millis(120)).await;
        let before = next.servers[0][1].checks.value();
        tokio::time::sleep(Duration::from_millis(160)).await;
        assert_eq!(next.servers[0][1].checks.value(), before, "nobody checks it in maintenance");
        config.upstreams[0].health = None;
        let last = Arc::new(next.next(Arc::new(config)));
        to_live.send_replace(last.clone());
        wait(&|| last.is_up(0, 0)).await;
        assert!(!last.is_up(0, 1), "that one is in maintenance still");
        stop.send(true).unwrap();
        checks.await.unwrap();
    });
}

#[test]
fn a_lost_sender_is_a_shutdown() {
    block_on(async {
        let (stop, stopped) = watch::channel(false);
        drop(stop);
        let (_live, live) = watch::channel(Arc::new(Shared::new(Arc::new(self::config()), 1, 0)));
        tokio::time::timeout(Duration::from_secs(10), run(live, 1, stopped)).await.expect("it waits for nothing");
    });
}
