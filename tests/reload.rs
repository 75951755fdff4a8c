//! A new config in the running process. The promise: no listener closes, no connection drops, no request fails, no counter
//! begins anew; what changed counts from the next request on; and a config with a mistake changes nothing.

mod support;

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::http2::{H2Client, Over, block_on, eventually_async};
use support::ports::free_port;
use support::tls::{Kind, TlsClient, trusted};
use support::upstream::Then;
use support::{
    Client, Driver, End, Exchange, FakeUpstream, Server, Site, eventually, get, pattern, post, with_both_drivers,
};

const CONTROL: &str = "control = \"$DIR/ctl.sock\"";

fn site(driver: Driver, rest: &str) -> Site {
    Site::new(driver, rest).process(CONTROL)
}

/// An upstream whose answers tell its name.
fn named(name: &'static str) -> FakeUpstream {
    FakeUpstream::start(move |exchange| {
        exchange.read_body();
        exchange.ok(name)
    })
}

fn upstream(name: &str, servers: &[&FakeUpstream]) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address)).collect();
    format!("[upstream.{name}]\nhealth = false\nservers = [{}]\n", servers.join(", "))
}

#[test]
fn what_changed_counts_from_the_next_request_of_a_kept_connection() {
    with_both_drivers(|driver| {
        let (one, two) = (named("one"), named("two"));
        let rest = format!(
            "{}[site.main]\ndefault = true\nheaders.set = {{ x-version = \"1\" }}\n\
             [[site.main.route]]\npath = \"/\"\nrespond = {{ body = \"old\" }}\n\
             [[site.main.route]]\npath = \"/api\"\nproxy = \"api\"\n",
            upstream("api", &[&one])
        );
        let server = site(driver, &rest).secure("").start();
        let (mut plain, mut tls) = (server.connect(), TlsClient::connect(server.address("secure")));
        block_on(async {
            let http2 = [H2Client::connect(&server, Over::Clear).await, H2Client::connect(&server, Over::Tls).await];
            let seen = |plain: &mut Client, tls: &mut TlsClient, path: &str| {
                let answers = [plain.ask(get(path)), tls.ask(get(path))];
                answers.map(|answer| (answer.text(), answer.field("x-version").map(str::to_owned), answer.status))
            };
            let expected = |body: &str, version: &str| (body.to_owned(), Some(version.to_owned()), 200);
            for (path, body) in [("/", "old"), ("/api", "one")] {
                assert_eq!(seen(&mut plain, &mut tls, path), [expected(body, "1"), expected(body, "1")], "{driver:?}");
            }
            for client in &http2 {
                assert_eq!(client.get("/").await.text(), "old");
            }
            let (from, to) = (one.address.to_string(), two.address.to_string());
            server.reload_with(&[
                ("\"old\"", "\"new\""),
                ("x-version = \"1\"", "x-version = \"2\""),
                (&from, &to),
                ("[site.main]\n", "[site.main]\nhosts = [\"h\"]\n"),
                ("path = \"/api\"", "path = \"/api/\""),
            ]);
            for (path, body) in [("/", "new"), ("/api/", "two")] {
                assert_eq!(seen(&mut plain, &mut tls, path), [expected(body, "2"), expected(body, "2")], "{driver:?}");
                for client in &http2 {
                    let reply = client.get(path).await;
                    assert_eq!((reply.text().as_str(), reply.field("x-version")), (body, Some("2")), "{driver:?}");
                }
            }
        });
        assert_eq!(server.status()["config"]["generation"], 1);
    });
}

/// What one client of the load has seen.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    requests: AtomicU64,
}

impl Load {
    fn goes_on(&self) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Bodies that tell from every other what they are: a fixed answer, a cached file, one for sendfile, a server's.
fn pages() -> [(&'static str, Vec<u8>); 4] {
    [
        ("/", b"root".to_vec()),
        ("/files/small", pattern(2_000)),
        ("/files/large", pattern(300_000)),
        ("/api", pattern(40_000)),
    ]
}

/// All counters of the metrics page, gauges left out.
fn counters(server: &Server) -> Vec<(String, f64)> {
    let text = server.admin("/metrics");
    let is_counter = |line: &&str| {
        !line.starts_with('#') && line.split(['{', ' ']).next().is_some_and(|name| name.ends_with("_total"))
    };
    let counter =
        |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().expect("a number")));
    text.lines().filter(is_counter).filter_map(counter).collect()
}

#[test]
fn a_hundred_reloads_under_load_cost_no_request_no_counter_and_no_memory() {
    const RELOADS: u32 = 100;
    with_both_drivers(|driver| {
        let answers = |exchange: &mut Exchange| {
            exchange.read_body();
            let body = pattern(40_000);
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            exchange.send(&body);
            Then::Keep
        };
        let servers = [FakeUpstream::start(answers), FakeUpstream::start(answers)];
        let rest = format!(
            "{}[site.main]\ndefault = true\nheaders.set = {{ x-version = \"0\" }}\n\
             [[site.main.route]]\npath = \"/\"\nrespond = {{ body = \"root\" }}\n\
             [[site.main.route]]\npath = \"/files/\"\nfiles.root = \"$DIR/root\"\nfiles.strip_prefix = \"/files\"\n\
             [[site.main.route]]\npath = \"/api\"\nproxy = \"api\"\nbody_max = \"1MiB\"\n",
            upstream("api", &[&servers[0], &servers[1]])
        );
        let spare = free_port();
        let server = site(driver, &rest)
            .secure("")
            .http("keep_alive_requests_max = 0")
            .log("access = \"$DIR/access.log\"\n")
            .file("root/small", &pattern(2_000))
            .file("root/large", &pattern(300_000))
            .start();
        let load = Load::default();
        std::thread::scope(|scope| {
            let ended = StopOnDrop(&load);
            scope.spawn(|| kept_client(&server, &load));
            scope.spawn(|| new_connections(&server, &load));
            scope.spawn(|| tls_client(&server, &load));
            scope.spawn(|| http2_client(&server, &load, Over::Clear));
            scope.spawn(|| http2_client(&server, &load, Over::Tls));
            let mut before = counters(&server);
            let mut settled = (0, 0);
            let both = format!("servers = [\"{}\", \"{}\"]", servers[0].address, servers[1].address);
            let one = format!("servers = [\"{}\"]", servers[1].address);
            for n in 1..=RELOADS {
                let (from, to) = (format!("x-version = \"{}\"", n - 1), format!("x-version = \"{n}\""));
                let listener = format!("[listener.spare]\naddress = \"127.0.0.1:{spare}\"\n[site.main]");
                // A server goes and comes, and so does a listener.
                let (old_servers, new_servers) = if n % 2 == 1 { (&both, &one) } else { (&one, &both) };
                let (old_listener, new_listener) =
                    if n % 2 == 1 { ("[site.main]", listener.as_str()) } else { (listener.as_str(), "[site.main]") };
                server.edit(&[(&from, &to), (old_servers, new_servers), (old_listener, new_listener)]);
                if n % 10 == 0 {
                    server.signal(Signal::HUP);
                    eventually("the config is in use", || server.status()["config"]["generation"] == n);
                } else {
                    server.ctl_ok(&["reload"]);
                }
                let now = counters(&server);
                for (name, value) in &before {
                    let comes_and_goes = [format!("\"{}\"", servers[0].address), "listener=\"spare\"".to_owned()];
                    let may_begin_anew = comes_and_goes.iter().any(|label| name.contains(label));
                    let Some((_, later)) = now.iter().find(|(other, _)| other == name) else {
                        assert!(may_begin_anew, "{driver:?}: {name} is gone");
                        continue;
                    };
                    assert!(may_begin_anew || later >= value, "{driver:?}: {name} fell from {value} to {later}");
                }
                before = now;
                if n == RELOADS / 5 {
                    settled = (server.resident_mib().0, server.descriptors());
                }
            }
            drop(ended);
            let (memory, descriptors) = (server.resident_mib().0, server.descriptors());
            assert!(memory <= settled.0 + 12, "{driver:?}: {} MiB became {memory}", settled.0);
            assert!(descriptors <= settled.1 + 12, "{driver:?}: {} descriptors became {descriptors}", settled.1);
        });
        assert!(load.requests.load(Ordering::Relaxed) > 500, "{driver:?}: that was no load");
        assert_eq!(server.metric("one_server_http_responses_total", "code=\"5xx\""), 0.0, "{driver:?}");
        assert_eq!(server.connect().ask(get("/")).field("x-version"), Some("100"));
    });
}

/// Whatever happens, the clients end.
struct StopOnDrop<'a>(&'a Load);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// One connection for everything, which nobody may end.
fn kept_client(server: &Server, load: &Load) {
    let pages = pages();
    let mut client = server.connect();
    while load.goes_on() {
        for (path, body) in &pages {
            let answer = client.ask(get(path));
            assert_eq!((answer.status, answer.body == *body, answer.is_last()), (200, true, false), "{path}");
        }
        let upload = client.ask(post("/api", &"x".repeat(50_000)));
        assert_eq!((upload.status, upload.body == pages[3].1, upload.is_last()), (200, true, false));
    }
}

fn new_connections(server: &Server, load: &Load) {
    let pages = pages();
    while load.goes_on() {
        for (path, body) in &pages {
            let answer = server.connect().ask(get(path));
            assert_eq!((answer.status, answer.body == *body), (200, true), "{path}");
        }
    }
}

fn tls_client(server: &Server, load: &Load) {
    let pages = pages();
    let mut client = TlsClient::connect(server.address("secure"));
    while load.goes_on() {
        for (path, body) in &pages {
            let answer = client.ask(get(path));
            assert_eq!((answer.status, answer.body == *body, answer.is_last()), (200, true, false), "{path}");
        }
    }
}

/// Streams side by side on one connection.
fn http2_client(server: &Server, load: &Load, over: Over) {
    let pages = pages();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = H2Client::connect(server, over).await;
        while load.goes_on() {
            let get = async |at: usize| {
                let (path, body) = &pages[at];
                let reply = client.get(path).await;
                assert_eq!((reply.status, reply.body == *body), (200, true), "{over:?} {path}");
            };
            tokio::join!(get(0), get(1), get(2), get(3));
        }
    });
}

#[test]
fn downloads_and_uploads_go_on_over_a_reload_that_takes_away_all_they_came_through() {
    with_both_drivers(|driver| {
        let body = pattern(600_000);
        let slow = FakeUpstream::start(|exchange| {
            exchange.read_body();
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n");
            exchange.dribble(&pattern(600_000), 20_000, Duration::from_millis(40));
            Then::Keep
        });
        let port = free_port();
        let rest = format!(
            "{}[listener.old]\naddress = \"127.0.0.1:{port}\"\n[site.main]\ndefault = true\n\
             [[site.main.route]]\npath = \"/slow\"\nproxy = \"slow\"\n\
             [[site.main.route]]\npath = \"/files/\"\nfiles.root = \"$DIR/root\"\n\
             [[site.main.route]]\npath = \"/\"\nrespond = {{ body = \"root\" }}\n",
            upstream("slow", &[&slow])
        );
        let large = pattern(30_000_000);
        let server = site(driver, &rest).file("root/files/large", &large).start();
        let old = || Client::connect(([127, 0, 0, 1], port).into());
        let (mut proxied, mut file, mut upload, mut idle) = (old(), old(), old(), old());
        assert_eq!(idle.ask(get("/")).text(), "root");
        proxied.send(get("/slow"));
        file.send(get("/files/large"));
        upload.send("POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 40000\r\n\r\n").send(vec![b'x'; 20_000]);
        eventually("the requests have come", || slow.count("/slow") == 2);
        proxied.fill().expect("it has begun");
        file.fill().expect("it has begun");
        let text = std::fs::read_to_string(server.config_file()).expect("a config");
        let begin = text.find("[upstream.slow]").expect("the upstream");
        let kept = format!(
            "{}[site.main]\ndefault = true\nroute = [{{ path = \"/\", respond = {{ body = \"new\" }} }}]\n",
            &text[..begin]
        );
        std::fs::write(server.config_file(), kept).expect("a config");
        let told = server.ctl_ok(&["reload"]);
        assert!(told.contains(&format!("closed: old 127.0.0.1:{port}; its connections finish")), "{driver:?}: {told}");
        upload.send(vec![b'x'; 20_000]);
        for (what, client, expected) in
            [("proxied", &mut proxied, &body), ("upload", &mut upload, &body), ("file", &mut file, &large)]
        {
            let answer = client.response(if what == "upload" { "POST" } else { "GET" });
            assert_eq!((answer.status, answer.body == *expected), (200, true), "{driver:?}: {what}");
            assert_eq!(client.end(), End::Closed, "{driver:?}: {what}: nothing new begins there");
        }
        assert_eq!(idle.end(), End::Closed, "{driver:?}: an idle connection ends");
        eventually("nobody listens there", || TcpStream::connect(("127.0.0.1", port)).is_err());
        assert_eq!(server.connect().ask(get("/")).text(), "new", "{driver:?}");
        assert_eq!(server.connect().ask(get("/slow")).text(), "new", "{driver:?}");
        server.wait_until_no_client();
        // It may come back.
        server
            .reload_with(&[("[site.main]", &format!("[listener.again]\naddress = \"127.0.0.1:{port}\"\n[site.main]"))]);
        assert_eq!(old().ask(get("/")).text(), "new", "{driver:?}");
    });
}

#[test]
fn listeners_come_and_go_and_take_other_names_and_sites() {
    with_both_drivers(|driver| {
        let (first, second) = (free_port(), free_port());
        let rest = format!(
            "[listener.a]\naddress = \"127.0.0.1:{first}\"\n\
             [site.main]\ndefault = true\nlisteners = [\"web\"]\nroute = [{{ path = \"/\", respond = {{ body = \"main\" }} }}]\n\
             [site.a]\ndefault = true\nlisteners = [\"a\"]\nroute = [{{ path = \"/\", respond = {{ body = \"$server_port a\" }} }}]\n"
        );
        let server = site(driver, &rest).start();
        let at = |port: u16| Client::connect(([127, 0, 0, 1], port).into());
        let (mut web, mut a) = (server.connect(), at(first));
        assert_eq!((web.ask(get("/")).text(), a.ask(get("/")).text()), ("main".into(), format!("{first} a")));
        // In front of the others, so that every index changes.
        let told = server.reload_with(&[
            ("[listener.web]", &format!("[listener.new]\naddress = \"127.0.0.1:{second}\"\n[listener.web]")),
            ("[listener.a]", "[listener.b]"),
            ("listeners = [\"a\"]", "listeners = [\"b\", \"new\"]"),
        ]);
        assert!(told.contains(&format!("opened: new 127.0.0.1:{second}\n")) && !told.contains("closed"), "{told}");
        let mut new = at(second);
        assert_eq!(web.ask(get("/")).text(), "main", "{driver:?}");
        assert_eq!(a.ask(get("/")).text(), format!("{first} a"), "{driver:?}");
        assert_eq!(new.ask(get("/")).text(), format!("{second} a"), "{driver:?}");
        let listeners = server.status()["listeners"].clone();
        let names: Vec<&str> =
            listeners.as_array().expect("a list").iter().filter_map(|l| l["name"].as_str()).collect();
        assert_eq!(names, ["new", "web", "b", "admin", "control"], "{driver:?}");
        assert_eq!(server.metric("one_server_listener_connections", "listener=\"b\""), 1.0, "{driver:?}");
        // One that another process has: nothing changes, and nothing stays bound.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let (taken_at, third) = (taken.local_addr().expect("an address"), free_port());
        let two = format!(
            "[listener.c]\naddress = \"127.0.0.1:{third}\"\n[listener.d]\naddress = \"{taken_at}\"\n[site.main]"
        );
        server.edit(&[("[site.main]", &two), ("[\"web\"]", "[\"web\", \"c\", \"d\"]")]);
        let error = server.ctl_fails(&["reload"]);
        assert!(error.contains(&format!("cannot listen on {taken_at} (listener `d`)")), "{driver:?}: {error}");
        assert!(TcpStream::connect(("127.0.0.1", third)).is_err(), "{driver:?}");
        assert_eq!(new.ask(get("/")).text(), format!("{second} a"), "{driver:?}");
        drop(taken);
        server.ctl_ok(&["reload"]);
        assert_eq!(at(third).ask(get("/")).text(), "main", "{driver:?}");
    });
}

#[test]
fn a_bad_config_changes_nothing_and_says_why() {
    with_both_drivers(|driver| {
        let rest = "[site.main]\nroute = [{ path = \"/\", respond = { body = \"good\" } }]\n";
        let mut server = site(driver, rest).start();
        let mut client = server.connect();
        assert_eq!(client.ask(get("/")).text(), "good");
        server.edit(&[("body = \"good\"", "boddy = \"bad\""), ("[log]", "[log]\nfromat = \"x\"")]);
        let error = server.ctl_fails(&["reload"]);
        for part in
            ["unknown key `boddy`", "did you mean `body`?", "unknown key `fromat`", "site.toml:", "2 mistakes\n"]
        {
            assert!(error.contains(part), "{driver:?}: no `{part}` in:\n{error}");
        }
        server.signal(Signal::HUP);
        server.wait_for_line("why", |line| line.contains("error config: ") && line.contains("unknown key `boddy`"));
        server.wait_for_line("what of it", |line| {
            line.contains("error config not reloaded, the old one stays in use") && line.contains("mistakes=2")
        });
        assert_eq!(client.ask(get("/")).text(), "good", "{driver:?}");
        std::fs::remove_file(server.config_file()).expect("a file");
        let error = server.ctl_fails(&["reload"]);
        assert!(error.contains("cannot read the config file"), "{driver:?}: {error}");
        assert_eq!(client.ask(get("/")).text(), "good", "{driver:?}");
        let config = &server.status()["config"];
        assert_eq!(config["generation"], 0, "{driver:?}");
        assert_eq!(server.metric("one_server_config_reloads_failed_total", ""), 3.0, "{driver:?}");
        assert!(server.is_running());
    });
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_applied() {
    let rest = "[site.main]\nroute = [{ path = \"/\", respond = { body = \"1\" } }]\n\
                [mysql.db]\nlisten = \"unix:$DIR/db.sock\"\nprimary = \"127.0.0.1:1\"\nuser = \"x\"\npassword = \"y\"\n";
    let server = site(Driver::Auto, rest).start();
    let mut client = server.connect();
    let told = server.reload_with(&[
        ("body = \"1\"", "body = \"2\""),
        ("data_cores = \"0", "ring_entries = 512\ndata_cores = \"0"),
        ("user = \"x\"", "user = \"z\""),
    ]);
    assert!(
        told.contains("needs a restart: `ring_entries` in [process]\nneeds a restart: `user` in [mysql.db]\n"),
        "{told}"
    );
    server.wait_for_line("the same", |line| {
        line.contains("warn not applied, needs a restart what=\"`ring_entries` in [process], `user` in [mysql.db]\"")
    });
    assert_eq!(client.ask(get("/")).text(), "2");
    // What is probably not meant is told, and done.
    let told = server.reload_with(&[("[site.main]\n", "[limit.unused]\nrate = \"1/s\"\n[site.main]\n")]);
    assert!(told.contains("warning: ") && told.contains("site.toml:"), "{told}");
    server.wait_for_line("the same", |line| line.contains("warn config: ") && line.contains("site.toml:"));
    let json: serde_json::Value = serde_json::from_str(&server.ctl_ok(&["reload", "--json"])).expect("JSON");
    assert_eq!(json["result"]["needs_restart"][0], "`ring_entries` in [process]");
}

#[test]
fn servers_that_stay_keep_idle_connections_turns_and_counts() {
    with_both_drivers(|driver| {
        let (one, two, three) = (named("one"), named("two"), named("three"));
        let rest = format!(
            "{}balance = \"round-robin\"\n[site.main]\nroute = [{{ path = \"/\", proxy = \"api\" }}]\n",
            upstream("api", &[&one, &two])
        );
        let server = site(driver, &rest).one_worker().start();
        let mut client = server.connect();
        let answers = |client: &mut Client, n: usize| (0..n).map(|_| client.ask(get("/")).text()).collect::<Vec<_>>();
        assert_eq!(answers(&mut client, 4), ["one", "two", "one", "two"], "{driver:?}");
        let addresses = [&one, &two, &three].map(|server| format!("\"{}\"", server.address));
        let sent = |server: &Server, to: &FakeUpstream| {
            server.metric("one_server_upstream_requests_total", &format!("server=\"{}\"", to.address))
        };
        // In another order, with a new one between them.
        let old = format!("[{}, {}]", addresses[0], addresses[1]);
        let new = format!("[{}, {}, {}]", addresses[1], addresses[2], addresses[0]);
        server.reload_with(&[(&old, &new)]);
        assert_eq!((sent(&server, &one), sent(&server, &two), sent(&server, &three)), (2.0, 2.0, 0.0), "{driver:?}");
        let mut seen = answers(&mut client, 6);
        seen.sort();
        assert_eq!(seen, ["one", "one", "three", "three", "two", "two"], "{driver:?}");
        assert_eq!([&one, &two, &three].map(|server| server.connections()), [1, 1, 1], "{driver:?}: all were kept");
        // One goes: its idle connection closes, its counts stay in the total.
        let without = format!("[{}, {}]", addresses[2], addresses[0]);
        server.reload_with(&[(&new, &without)]);
        two.wait_until_all_closed();
        assert_eq!(server.metric("haproxy_backend_http_requests_total", "proxy=\"api\""), 10.0, "{driver:?}");
        assert_eq!([&one, &three].map(|server| server.connections()), [1, 1], "{driver:?}");
        let status = server.status();
        assert_eq!(status["upstreams"][0]["servers"].as_array().map(Vec::len), Some(2), "{driver:?}");
    });
}

#[test]
fn health_goes_on_and_new_servers_are_checked() {
    with_both_drivers(|driver| {
        let (alive, dead) = (named("alive"), free_port());
        let other = named("other");
        let rest = format!(
            "[upstream.api]\nhealth = {{ interval = \"50ms\", rise = 2, fall = 2 }}\nservers = [\"127.0.0.1:{dead}\", \"{}\"]\n\
             [site.main]\nroute = [{{ path = \"/\", proxy = \"api\" }}]\n",
            alive.address
        );
        let server = site(driver, &rest).start();
        let is_up = |n: usize| server.status()["upstreams"][0]["servers"][n]["up"] == true;
        eventually("it is down", || !is_up(0));
        server.reload_with(&[("servers = [", &format!("servers = [\"{}\", ", other.address))]);
        assert!(!is_up(1), "{driver:?}: it is known to be down");
        eventually("the new one is checked", || {
            server.status()["upstreams"][0]["servers"][0]["check"]["checks"].as_u64() > Some(1)
        });
        assert_eq!(server.status()["upstreams"][0]["servers"][1]["check"]["downs"], 1, "{driver:?}");
        // Nobody checks any more: nobody is down.
        server.reload_with(&[("health = { interval = \"50ms\", rise = 2, fall = 2 }", "health = false")]);
        eventually("all are up", || (0..3).all(is_up));
    });
}

#[test]
fn tls_comes_to_a_listener_and_new_terms_are_for_everyone() {
    with_both_drivers(|driver| {
        let port = free_port();
        let rest = format!(
            "[listener.x]\naddress = \"127.0.0.1:{port}\"\n# tls here\n\
             [site.main]\nroute = [{{ path = \"/\", respond = {{ body = \"$scheme\" }} }}]\n"
        );
        let identity = trusted().server(&["localhost"], Kind::Ecdsa);
        let server = site(driver, &rest).identity("x", &identity).file("ca.pem", trusted().pem.as_bytes()).start();
        let address = ([127, 0, 0, 1], port).into();
        let mut plain = Client::connect(address);
        assert_eq!(plain.ask(get("/")).text(), "http");
        let tls = "tls.certificates = [{ chain = \"$DIR/x.pem\", key = \"$DIR/x.key\" }]";
        server.reload_with(&[("# tls here", tls)]);
        let mut secure = TlsClient::connect(address);
        assert_eq!(secure.ask(get("/")).text(), "https", "{driver:?}");
        assert_eq!(plain.end(), End::Closed, "{driver:?}: what was agreed on in clear ends");
        // The certificate of tomorrow, under another name.
        let renewed = trusted().server(&["localhost"], Kind::Rsa);
        std::fs::write(server.folder().join("y.pem"), &renewed.chain).expect("a file");
        std::fs::write(server.folder().join("y.key"), &renewed.key).expect("a file");
        server.reload_with(&[("x.pem", "y.pem"), ("x.key", "y.key")]);
        assert_eq!(secure.ask(get("/")).text(), "https", "{driver:?}: another certificate ends no session");
        assert_eq!(TlsClient::connect(address).ask(get("/")).text(), "https", "{driver:?}");
        let key = server.metric("one_server_tls_certificate_expiry_timestamp_seconds", "key=\"RSA\"");
        assert!(key > 0.0, "{driver:?}");
        // From now on everybody shows a certificate, those who are there included.
        server.reload_with(&[(
            "tls.certificates",
            "tls.client_certificates = \"required\"\ntls.client_ca = \"$DIR/ca.pem\"\ntls.certificates",
        )]);
        let (rest, _) = secure.read_to_end();
        assert!(rest.is_empty(), "{driver:?}");
        // A key that does not belong to its certificate.
        server.edit(&[("y.key", "x.key")]);
        let error = server.ctl_fails(&["reload"]);
        assert!(error.contains("the key does not belong to the certificate"), "{driver:?}: {error}");
    });
}

#[test]
fn sites_get_access_logs_of_their_own_while_it_runs() {
    with_both_drivers(|driver| {
        let rest = "[site.main]\nroute = [{ path = \"/\", respond = { body = \"x\" } }]\n";
        let server = site(driver, rest).start();
        let mut client = server.connect();
        client.ask(get("/before"));
        server.reload_with(&[("[log]\n", "[log]\naccess = \"$DIR/all.log\"\nformat = \"$request_uri\"\n")]);
        client.ask(get("/all"));
        server.reload_with(&[("[site.main]\n", "[site.main]\naccess_log = \"$DIR/own.log\"\n")]);
        client.ask(get("/own"));
        server.reload_with(&[("format = \"$request_uri\"", "format = \"$status $request_uri\"")]);
        client.ask(get("/form"));
        let read = |name: &str| std::fs::read_to_string(server.folder().join(name)).unwrap_or_default();
        eventually("the lines", || read("own.log") == "/own\n200 /form\n" && read("all.log") == "/all\n");
        server.edit(&[("own.log", "no/such/folder.log")]);
        let error = server.ctl_fails(&["reload"]);
        assert!(error.contains("cannot open access log"), "{driver:?}: {error}");
        client.ask(get("/last"));
        eventually("the line", || read("own.log").ends_with("200 /last\n"));
    });
}

#[test]
fn limits_and_files_of_a_new_config_count_at_once() {
    with_both_drivers(|driver| {
        let rest = "[site.main]\n[[site.main.route]]\npath = \"/\"\nfiles.root = \"$DIR/one\"\nbody_max = \"10B\"\n\
                    [[site.main.route]]\npath = \"/put\"\nrespond = { body = \"taken\" }\nbody_max = \"10B\"\n";
        let server = site(driver, rest).file("one/page", b"first").file("two/page", b"second").start();
        let mut client = server.connect();
        assert_eq!(client.ask(get("/page")).text(), "first");
        assert_eq!(server.connect().ask(post("/put", &"x".repeat(100))).status, 413, "{driver:?}");
        server.reload_with(&[("$DIR/one", "$DIR/two"), ("body_max = \"10B\"", "body_max = \"1KiB\"")]);
        assert_eq!(client.ask(get("/page")).text(), "second", "{driver:?}");
        assert_eq!(client.ask(post("/put", &"x".repeat(100))).text(), "taken", "{driver:?}");
        server.reload_with(&[("[http]\n", "[http]\nkeep_alive_requests_max = 1\nserver_name = \"other\"\n")]);
        let last = client.ask(get("/page"));
        assert!(last.is_last() && last.field("server") == Some("other"), "{driver:?}: {last:?}");
    });
}

/// Old configs go with the last request that has them: idle connections of either version do not keep them.
#[test]
fn idle_connections_keep_no_old_config() {
    with_both_drivers(|driver| {
        // Large enough to be seen.
        let routes: String = (0..500)
            .map(|n| {
                format!("[[site.main.route]]\npath = \"/{n}/\"\nrespond = {{ body = \"{}\" }}\n", "x".repeat(4000))
            })
            .collect();
        let rest = format!("[site.main]\nheaders.set = {{ x-version = \"0\" }}\n{routes}");
        let server = site(driver, &rest).one_worker().start();
        block_on(async {
            let mut idle = Vec::new();
            let mut kept = Vec::new();
            let mut settled = 0;
            for n in 1..=12 {
                let mut client = server.connect();
                assert_eq!(client.ask(get("/1/")).status, 200);
                kept.push(client);
                let client = H2Client::connect(&server, Over::Clear).await;
                assert_eq!(client.get("/2/").await.status, 200);
                idle.push(client);
                server.reload_with(&[(&format!("x-version = \"{}\"", n - 1), &format!("x-version = \"{n}\""))]);
                if n == 4 {
                    // Connections give their buffers back, and with them what they hold of the config.
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    settled = server.resident_mib().0;
                }
            }
            // They give them back within a second or two, on a busy machine later.
            let what = format!("{driver:?}: {settled} MiB are all it needs again");
            eventually_async(&what, || server.resident_mib().0 <= settled + 8).await;
            eventually_async("they go on", || true).await;
            for client in &idle {
                assert_eq!(client.get("/3/").await.field("x-version"), Some("12"), "{driver:?}");
            }
        });
    });
}

#[test]
fn reloads_that_come_thick_and_fast_end_with_the_last_one() {
    with_both_drivers(|driver| {
        let rest = "[site.main]\nroute = [{ path = \"/\", respond = { body = \"0\" } }]\n";
        let server = site(driver, rest).start();
        let begun = Instant::now();
        for n in 1..=20 {
            server.edit(&[(&format!("body = \"{}\"", n - 1), &format!("body = \"{n}\""))]);
            server.signal(Signal::HUP);
            std::thread::sleep(Duration::from_millis(3));
        }
        eventually("the last one", || server.connect().ask(get("/")).text() == "20");
        assert!(begun.elapsed() < Duration::from_secs(15), "{driver:?}");
    });
}

#[test]
fn applications_run_on_and_routes_to_others_are_refused() {
    with_both_drivers(|driver| {
        let rest =
            "[app.probe]\n[site.main]\n[[site.main.route]]\npath = \"/app/\"\napp = \"probe\"\nrewrite = \"/echo\"\n";
        let server = Site::probe(driver, rest).process(CONTROL).start();
        let mut client = server.connect();
        assert_eq!(client.ask(post("/app/", "one")).text(), "one");
        let told =
            server.reload_with(&[("rewrite = \"/echo\"", "rewrite = \"/echo\"\nheaders.set = { x-new = \"1\" }")]);
        assert!(!told.contains("restart"), "{driver:?}: {told}");
        let answer = client.ask(post("/app/", "two"));
        assert_eq!((answer.text().as_str(), answer.field("x-new")), ("two", Some("1")), "{driver:?}");
        assert_eq!(server.metric("one_server_app_requests_total", "app=\"probe\""), 2.0, "{driver:?}");
        server.edit(&[("[app.probe]", "[app.other]\nprogram = \"probe\""), ("app = \"probe\"", "app = \"other\"")]);
        let error = server.ctl_fails(&["reload"]);
        let expected = "error: routes lead to application `other`, which does not run yet: applications are started with the \
                        process, restart it\n";
        assert_eq!(error, expected, "{driver:?}");
        assert_eq!(client.ask(post("/app/", "three")).text(), "three", "{driver:?}");
    });
}
