//! `one-server ctl`: what an operator sees of a running process and does to it, and who may.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::ports::free_port;
use support::{Driver, FakeUpstream, Server, Site, eventually, get, has_program, with_both_drivers};

const CONTROL: &str = "control = \"$DIR/ctl.sock\"";

fn named(name: &'static str) -> FakeUpstream {
    FakeUpstream::start(move |exchange| {
        exchange.read_body();
        exchange.ok(name)
    })
}

fn balanced(driver: Driver, health: &str, servers: &[&FakeUpstream]) -> Site {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address)).collect();
    let rest = format!(
        "[upstream.api]\nhealth = {health}\nservers = [{}]\n[site.main]\ndefault = true\n\
         [[site.main.route]]\npath = \"/\"\nproxy = \"api\"\n[[site.main.route]]\npath = \"/own\"\nrespond = {{ body = \"own\" }}\n",
        servers.join(", ")
    );
    Site::new(driver, &rest).process(CONTROL)
}

fn id(server: &FakeUpstream) -> String {
    format!("api/{}", server.address)
}

#[test]
fn show_names_everything_that_serves() {
    let (one, two) = (named("one"), named("two"));
    let server = balanced(Driver::Auto, "false", &[&one, &two]).start();
    let mut client = server.connect();
    assert_eq!(client.ask(get("/")).status, 200);
    let text = server.ctl_ok(&["show"]);
    let config = format!("config {}, generation 0, since 20", server.config_file().display());
    let pid = format!("pid {}, ready, up ", server.pid());
    let web = format!("http     {}", server.web());
    let own = format!("  {}  up  weight 1  0 active", one.address);
    for part in [
        &pid,
        &config,
        &web,
        &own,
        "workers\n  data 0  core ",
        "main  *  default  on web  / /own",
        "upstream api (random-two)",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&server.ctl_ok(&["--json", "show"])).expect("JSON");
    assert_eq!(json["ok"], true);
    let view = &json["result"];
    assert_eq!((&view["phase"], &view["config"]["generation"]), (&"ready".into(), &0.into()));
    assert_eq!(view["listeners"][0]["connections"], 1);
    let requests = view["upstreams"][0]["servers"].as_array().expect("a list").iter().map(|s| s["requests"].as_u64());
    assert_eq!(requests.map(Option::unwrap_or_default).sum::<u64>(), 1);
}

#[test]
fn a_drained_server_finishes_what_it_has_and_gets_nothing_new() {
    with_both_drivers(|driver| {
        let go = Arc::new(AtomicBool::new(false));
        let slow = FakeUpstream::start({
            let go = go.clone();
            move |exchange| {
                exchange.read_body();
                while exchange.request.target == "/slow" && !go.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                exchange.ok("slow")
            }
        });
        let other = named("other");
        let server = balanced(driver, "false", &[&slow, &other]).start();
        // Until one of them has come to the slow one.
        let mut waiting = Vec::new();
        while slow.count("/slow") == 0 {
            let mut client = server.connect();
            client.send(get("/slow"));
            eventually("it has come", || slow.count("/slow") + other.count("/slow") > waiting.len());
            waiting.push(client);
        }
        assert_eq!(server.ctl_ok(&["server", &id(&slow), "drain"]), format!("{} is drain, was ready\n", id(&slow)));
        assert_eq!(server.ctl_ok(&["server", &id(&slow), "drain"]), format!("{} is drain already\n", id(&slow)));
        let mut client = server.connect();
        for _ in 0..20 {
            assert_eq!(client.ask(get("/")).text(), "other", "{driver:?}");
        }
        let seen = |server: &Server| {
            let status = server.status();
            let found = status["upstreams"][0]["servers"][0].clone();
            (found["admin"].clone(), found["up"].clone(), found["active"].clone())
        };
        assert_eq!(seen(&server), ("drain".into(), false.into(), 1.into()), "{driver:?}");
        let labels = format!("server=\"{}\",state=\"DRAIN\"", slow.address);
        assert_eq!(server.metric("haproxy_server_status", &labels), 1.0, "{driver:?}");
        assert_eq!(server.metric("one_server_upstream_server_taken_out", &slow.address.to_string()), 1.0, "{driver:?}");
        // It stays out whatever the config says next.
        server.reload_with(&[("body = \"own\"", "body = \"new\"")]);
        assert_eq!(seen(&server), ("drain".into(), false.into(), 1.into()), "{driver:?}");
        assert_eq!((0..6).filter(|_| client.ask(get("/")).text() == "slow").count(), 0, "{driver:?}");
        go.store(true, Ordering::SeqCst);
        for mut client in waiting {
            assert_eq!(client.response("GET").status, 200, "{driver:?}: what it had is finished");
        }
        eventually("nothing is under way", || seen(&server).2 == 0);
        server.ctl_ok(&["server", &id(&slow), "ready"]);
        assert!((0..60).any(|_| client.ask(get("/")).text() == "slow"), "{driver:?}: it is back");
    });
}

#[test]
fn nobody_checks_a_server_in_maintenance_and_without_servers_the_answer_is_503() {
    with_both_drivers(|driver| {
        let only = named("only");
        let server = balanced(driver, "{ path = \"/health\", interval = \"50ms\" }", &[&only]).start();
        eventually("it is checked", || only.count("/health") > 1);
        server.ctl_ok(&["server", &id(&only), "maintenance"]);
        assert_eq!(server.connect().ask(get("/")).status, 503, "{driver:?}");
        std::thread::sleep(Duration::from_millis(100));
        let checks = only.count("/health");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(only.count("/health"), checks, "{driver:?}");
        let text = server.ctl_ok(&["show"]);
        assert!(text.contains(&format!("{}  maintenance  L7OK", only.address)), "{driver:?}: {text}");
        server.ctl_ok(&["server", &id(&only), "ready"]);
        assert_eq!(server.connect().ask(get("/")).text(), "only", "{driver:?}");
        eventually("it is checked again", || only.count("/health") > checks);
        let events = server.status()["events"].to_string();
        assert!(events.contains("set to maintenance, was ready"), "{driver:?}: {events}");
    });
}

/// How many of `count` requests each of `names` answers, each on a connection of its own, so that all workers are asked.
fn shares(server: &Server, count: usize, names: &[&str]) -> Vec<usize> {
    let answers: Vec<String> = (0..count).map(|_| server.connect().ask(get("/")).text()).collect();
    names.iter().map(|name| answers.iter().filter(|answer| answer == name).count()).collect()
}

fn status_of(server: &Server, s: usize, keys: [&str; 2]) -> [serde_json::Value; 2] {
    let status = server.status();
    keys.map(|key| status["upstreams"][0]["servers"][s][key].clone())
}

#[test]
fn a_weight_is_heeded_by_all_workers_at_once_and_outlives_reloads() {
    with_both_drivers(|driver| {
        let (one, two) = (named("one"), named("two"));
        let site = balanced(driver, "false", &[&one, &two]).start();
        site.reload_with(&[("health = false", "health = false\nbalance = \"round-robin\"")]);
        let names = ["one", "two"];
        assert_eq!(shares(&site, 20, &names), [10, 10], "{driver:?}");
        let set = |value: &str| site.ctl_ok(&["server", &id(&one), "weight", value]);
        assert_eq!(set("0"), format!("{} has weight 0, had 1 (config: 1)\n", id(&one)));
        assert_eq!(shares(&site, 12, &names), [0, 12], "{driver:?}");
        assert_eq!(set("3"), format!("{} has weight 3, had 0 (config: 1)\n", id(&one)));
        assert_eq!(set("3"), format!("{} has weight 3 already (config: 1)\n", id(&one)));
        let shared = shares(&site, 40, &names);
        assert!((26..=34).contains(&shared[0]), "{driver:?}: {shared:?}");
        assert!(site.ctl_ok(&["show"]).contains(&format!("{}  up  weight 3 (config: 1)", one.address)));
        assert_eq!(status_of(&site, 0, ["weight", "weight_config"]), [3, 1], "{driver:?}");
        let labels = format!("server=\"{}\"", one.address);
        assert_eq!(site.metric("haproxy_server_weight", &labels), 3.0, "{driver:?}");
        // A reload that says something else of other things, and of this one.
        let requests = site.metric("one_server_upstream_requests_total", &labels);
        site.reload_with(&[("body = \"own\"", "body = \"new\"")]);
        site.reload_with(&[(
            &format!("\"{}\",", one.address),
            &format!("{{ address = \"{}\", weight = 2 }},", one.address),
        )]);
        assert_eq!(status_of(&site, 0, ["weight", "weight_config"]), [3, 2], "{driver:?}");
        assert_eq!(site.metric("one_server_upstream_requests_total", &labels), requests, "{driver:?}");
        let shared = shares(&site, 40, &names);
        assert!((26..=34).contains(&shared[0]), "{driver:?}: {shared:?}");
        assert_eq!(set("config"), format!("{} has weight 2, had 3\n", id(&one)));
        let json: serde_json::Value =
            serde_json::from_str(&site.ctl_ok(&["--json", "server", &id(&one), "weight", "256"])).expect("JSON");
        let expected = serde_json::json!({ "server": id(&one), "weight": 256, "was": 2, "config": 2 });
        assert_eq!(json["result"], expected);
    });
}

#[test]
fn keys_follow_weights_that_are_set() {
    let (one, two) = (named("one"), named("two"));
    let site = balanced(Driver::Auto, "false", &[&one, &two]).start();
    site.reload_with(&[("health = false", "health = false\nhash = \"$request_uri\"")]);
    let ask = || (0..60).map(|n| site.connect().ask(get(&format!("/{n}"))).text()).collect::<Vec<_>>();
    let before = ask();
    site.ctl_ok(&["server", &id(&one), "weight", "4"]);
    let heavier = ask();
    assert!(before.iter().zip(&heavier).all(|(before, now)| before == now || now == "one"), "keys go there alone");
    let count = |answers: &[String]| answers.iter().filter(|answer| *answer == "one").count();
    assert!(count(&heavier) > count(&before), "{} {}", count(&heavier), count(&before));
    site.ctl_ok(&["server", &id(&one), "weight", "0"]);
    assert_eq!(count(&ask()), 0);
    site.ctl_ok(&["server", &id(&one), "weight", "config"]);
    assert_eq!(ask(), before, "everything is where it was");
}

/// A server that answers when it is told to, and tells how many requests it has had at once.
fn counting(go: &Arc<AtomicBool>, most: &Arc<AtomicUsize>) -> FakeUpstream {
    let (go, most, now) = (go.clone(), most.clone(), AtomicUsize::new(0));
    FakeUpstream::start(move |exchange| {
        exchange.read_body();
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        while !go.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(10));
        now.fetch_sub(1, Ordering::SeqCst);
        exchange.ok("counted")
    })
}

#[test]
fn a_limit_holds_where_the_config_has_none_and_outlives_reloads() {
    with_both_drivers(|driver| {
        let (go, most) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let only = counting(&go, &most);
        let site = balanced(driver, "false", &[&only]).start();
        let mut kept = site.connect();
        assert_eq!(kept.ask(get("/")).status, 200);
        let set = |value: &str| site.ctl_ok(&["server", &id(&only), "limit", value]);
        let had = "has limit 2, had none (config: none)";
        assert_eq!(set("2"), format!("{} {had}\n", id(&only)));
        let at_once = |requests: usize| {
            go.store(false, Ordering::SeqCst);
            most.store(0, Ordering::SeqCst);
            let mut clients: Vec<_> = (0..requests).map(|_| site.connect()).collect();
            clients.iter_mut().for_each(|client| {
                client.send(get("/"));
            });
            eventually("some have come, the others wait", || {
                let active = site.status()["upstreams"][0]["servers"][0]["active"].as_u64().unwrap_or_default();
                let waiting = site.status()["upstreams"][0]["queue"]["waiting"].as_u64().unwrap_or_default();
                active + waiting == requests as u64
            });
            go.store(true, Ordering::SeqCst);
            clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").status, 200, "{driver:?}"));
            most.load(Ordering::SeqCst)
        };
        assert_eq!(at_once(6), 2, "{driver:?}");
        assert_eq!(kept.ask(get("/")).status, 200, "{driver:?}: a connection from before goes on");
        assert!(site.ctl_ok(&["show"]).contains("limit 2 (config: none)"));
        site.reload_with(&[("body = \"own\"", "body = \"new\"")]);
        assert_eq!(status_of(&site, 0, ["requests_max", "requests_max_config"]), [2.into(), serde_json::Value::Null]);
        assert_eq!(at_once(5), 2, "{driver:?}");
        set("3");
        assert_eq!(at_once(6), 3, "{driver:?}: where there is a limit already");
        set("config");
        assert_eq!(at_once(6), 6, "{driver:?}");
        // The config's own limit is lifted.
        site.reload_with(&[("health = false", "health = false\nqueue_timeout = \"20s\"")]);
        let written = format!("[\"{}\"]", only.address);
        site.reload_with(&[(&written, &format!("[{{ address = \"{}\", requests_max = 1 }}]", only.address))]);
        assert_eq!(at_once(4), 1, "{driver:?}");
        assert_eq!(set("none"), format!("{} has limit none, had 1 (config: 1)\n", id(&only)));
        assert_eq!(at_once(4), 4, "{driver:?}");
        // Those that wait go on when there is room.
        set("1");
        go.store(false, Ordering::SeqCst);
        let mut clients: Vec<_> = (0..3).map(|_| site.connect()).collect();
        clients.iter_mut().for_each(|client| {
            client.send(get("/"));
        });
        let active = || site.status()["upstreams"][0]["servers"][0]["active"].as_u64();
        eventually("two wait", || site.status()["upstreams"][0]["queue"]["waiting"] == 2);
        set("3");
        eventually("nobody waits", || active() == Some(3));
        go.store(true, Ordering::SeqCst);
        clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").status, 200, "{driver:?}"));
    });
}

#[test]
fn an_upstream_goes_back_to_its_first_tier_when_it_is_told_to() {
    with_both_drivers(|driver| {
        let (first, last) = (named("first"), named("last"));
        let rest = format!(
            "[upstream.api]\nhealth = false\nfail_back = \"manual\"\nservers = [\"{}\", {{ address = \"{}\", tier = 2 }}]\n\
             [site.main]\ndefault = true\n[[site.main.route]]\npath = \"/\"\nproxy = \"api\"\n",
            first.address, last.address
        );
        let site = Site::new(driver, &rest).process(CONTROL).start();
        let ask = || site.connect().ask(get("/")).text();
        assert_eq!(site.ctl_ok(&["upstream", "api", "fail-back"]), "api is at tier 1 already\n");
        site.ctl_ok(&["server", &id(&first), "drain"]);
        eventually("the last tier is held", || {
            site.ctl_ok(&["show"]).contains("upstream api (random-two, tier 2 held)")
        });
        let error = site.ctl_fails(&["upstream", "api", "fail-back"]);
        assert_eq!(error, "error: upstream `api` stays at tier 2: no earlier one has enough servers\n");
        site.ctl_ok(&["server", &id(&first), "ready"]);
        assert_eq!((ask(), ask()), ("last".into(), "last".into()), "{driver:?}: by hand alone");
        site.reload_with(&[("default = true", "default = true # still")]);
        assert_eq!(ask(), "last", "{driver:?}");
        assert_eq!(site.ctl_ok(&["upstream", "api", "fail-back"]), "api is back at tier 1, was at tier 2\n");
        for _ in 0..4 {
            assert_eq!(ask(), "first", "{driver:?}");
        }
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!((ask(), ask()), ("first".into(), "first".into()), "{driver:?}: it stays");
        let error = site.ctl_fails(&["upstream", "apo", "fail-back"]);
        assert_eq!(error, "error: no upstream is called `apo`: there are api\n");
    });
}

#[test]
fn numbers_that_are_none_are_refused_and_change_nothing() {
    let one = named("one");
    let site = balanced(Driver::Auto, "false", &[&one]).start();
    for (arguments, text) in [
        (["weight", "257"], "257 is too much for a weight: write 0 to 256, or `config`"),
        (["weight", "-1"], "unexpected argument '-1'"),
        (["weight", "heavy"], "`heavy` is no weight: write 0 to 256, or `config`"),
        (["weight", "none"], "`none` is no weight"),
        (["limit", "0"], "0 is no limit of requests: write 1 to 1000000, `none` for any number, or `config`"),
        (["limit", "1e3"], "`1e3` is no limit: write a number of requests from 1"),
        (["drain", "5"], "`5` is one word too many: weight and limit alone have a value"),
    ] {
        let output = site.ctl(&["server", &id(&one), arguments[0], arguments[1]]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    }
    let output = site.ctl(&["server", &id(&one), "weight"]);
    assert_eq!(output.status.code(), Some(2), "a value is missing");
    // Whoever speaks the protocol itself is told too.
    let mut stream = UnixStream::connect(site.folder().join("ctl.sock")).expect("a socket");
    let line = format!("{{\"command\":\"server_weight\",\"server\":\"{}\",\"weight\":1000}}\n", id(&one));
    stream.write_all(line.as_bytes()).expect("sent");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("an answer");
    assert!(answer.contains("1000 is too much for a weight"), "{answer}");
    assert_eq!(
        site.ctl_fails(&["server", "api/1.2.3.4:5", "weight", "5"]).split(':').nth(1),
        Some(" upstream `api` has no server `1.2.3.4")
    );
    assert_eq!(status_of(&site, 0, ["weight", "requests_max"]), [1.into(), serde_json::Value::Null]);
}

#[test]
fn wrong_names_are_told_who_is_there() {
    let one = named("one");
    let server = balanced(Driver::Auto, "false", &[&one]).start();
    let error = server.ctl_fails(&["server", "apo/127.0.0.1:1", "drain"]);
    assert_eq!(error, "error: no upstream is called `apo`: there are api\n");
    let error = server.ctl_fails(&["server", "api/127.0.0.1:1", "drain"]);
    assert_eq!(error, format!("error: upstream `api` has no server `127.0.0.1:1`: there are {}\n", one.address));
    let error = server.ctl_fails(&["server", "api", "drain"]);
    assert!(error.starts_with("error: `api` names no server: write UPSTREAM/ADDRESS"), "{error}");
    let output = server.ctl(&["server", &id(&one), "dran"]);
    assert_eq!(output.status.code(), Some(2), "wrong flags");
    let output = server.ctl(&["--json", "server", "api", "drain"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!((output.status.code(), &json["ok"]), (Some(1), &false.into()));
}

#[test]
fn the_process_ends_as_it_is_told_and_takes_its_socket_along() {
    with_both_drivers(|driver| {
        let slow = FakeUpstream::start(|exchange| {
            exchange.read_body();
            std::thread::sleep(Duration::from_millis(500));
            exchange.ok("slow")
        });
        let mut server = balanced(driver, "false", &[&slow]).start();
        let mut client = server.connect();
        client.send(get("/"));
        eventually("it has come", || slow.count("/") == 1);
        assert_eq!(server.ctl_ok(&["shutdown", "--drain"]), "the process is draining\n");
        assert_eq!(client.response("GET").text(), "slow", "{driver:?}");
        assert_eq!(server.wait().code(), Some(0), "{driver:?}");
        let error = server.ctl_fails(&["show"]);
        assert!(error.contains("there is no such socket: is the process running"), "{driver:?}: {error}");
        let mut server = balanced(driver, "false", &[&slow]).start();
        // A drain that takes too long is cut short; a new config is refused meanwhile.
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost:");
        server.ctl_ok(&["shutdown", "--drain"]);
        server.wait_for_line("it drains", |line| line.contains(" draining: "));
        let error = server.ctl_fails(&["reload"]);
        assert!(error.contains("or the process ends"), "{driver:?}: {error}");
        assert_eq!(server.ctl_ok(&["shutdown"]), "the process is stopping\n");
        assert_eq!(server.wait().code(), Some(0), "{driver:?}");
    });
}

#[test]
fn a_socket_of_a_process_that_was_killed_is_replaced_and_one_in_use_is_not() {
    let one = named("one");
    let site = balanced(Driver::Auto, "false", &[&one]);
    let socket = site.folder().join("ctl.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    let output = Command::new(env!("CARGO_BIN_EXE_one-server")).args(["ctl", "show", "--socket"]).arg(&socket).output();
    let output = output.expect("it runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody listens there any more"));
    let server = site.start();
    assert_eq!(std::fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777, 0o600);
    let second = Site::new(Driver::Auto, "[site.main]\nroute = [{ path = \"/\", respond = {} }]\n")
        .process(&format!("control = \"{}\"", socket.display()));
    let output = second.command().output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("cannot listen on unix:") && error.contains("another process has it"), "{error}");
    assert!(server.ctl_ok(&["show"]).contains("ready"), "the first one is heard still");
}

#[test]
fn others_may_not_use_it() {
    if !rustix::process::geteuid().is_root() || !has_program("setpriv") {
        return;
    }
    let one = named("one");
    let server = balanced(Driver::Auto, "false", &[&one]).start();
    let socket = server.folder().join("ctl.sock");
    // The way there is open; the program lies where everybody may run it.
    std::fs::set_permissions(server.folder(), std::fs::Permissions::from_mode(0o755)).expect("a folder");
    let program = server.folder().join("one-server");
    std::fs::copy(env!("CARGO_BIN_EXE_one-server"), &program).expect("a copy");
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "nobody", "--clear-groups"])
            .arg(&program)
            .args(["ctl", "show", "--socket"])
            .arg(&socket);
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(as_nobody().contains("only root and the user of the process may use it"));
    // Even when somebody has opened the file to all.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).expect("a socket");
    assert!(as_nobody().contains("you may not control this process"));
    server.wait_for_line("a word about it", |line| line.contains("may not use the control socket was refused"));
}

/// What is said on the socket, line by line.
#[test]
fn requests_are_lines_and_have_limits() {
    let one = named("one");
    let server = balanced(Driver::Auto, "false", &[&one]).start();
    let mut stream = UnixStream::connect(server.folder().join("ctl.sock")).expect("a socket");
    let mut answers = BufReader::new(stream.try_clone().expect("a socket"));
    let mut ask = |line: &[u8]| {
        stream.write_all(line).expect("sent");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("an answer");
        serde_json::from_str::<serde_json::Value>(&answer).expect("JSON")
    };
    assert_eq!(ask(b"{\"command\":\"show\"}\n")["result"]["phase"], "ready");
    for bad in [&b"hello\n"[..], b"\n", b"{\"command\":\"explode\"}\n", b"\xff\xfe\n", b"{\"command\":\"show\"}x\n"] {
        let answer = ask(bad);
        assert_eq!(answer["ok"], false);
        assert!(answer["error"].as_str().is_some_and(|error| error.starts_with("not a request: ")), "{answer}");
    }
    assert_eq!(ask(b"{\"command\":\"reload\"}\n")["result"]["generation"], 1, "it goes on behind mistakes");
    let long = ask(&vec![b'x'; 64 * 1024]);
    assert_eq!(long["error"], "a request is one line of at most 65536 bytes");
    // Many that say nothing keep nobody out for long, and nobody out who was there before.
    let silent: Vec<_> =
        (0..10).map(|_| UnixStream::connect(server.folder().join("ctl.sock")).expect("a socket")).collect();
    assert!(server.ctl_ok(&["show"]).contains("ready"));
    drop(silent);
}

#[test]
fn without_a_config_file_a_reload_loads_certificates_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    std::fs::write(folder.path().join("page"), "page").expect("a file");
    let socket = folder.path().join("ctl.sock");
    let mut child = Command::new(env!("CARGO_BIN_EXE_one-server"))
        .arg("static")
        .arg(folder.path())
        .args(["--listen", &format!("127.0.0.1:{port}"), "--data-cores", "0", "--control"])
        .arg(&socket)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let (send, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).all(|line| send.send(line).is_ok()));
    let wait_for = |text: &str| {
        while !told.recv_timeout(Duration::from_secs(20)).expect("a line").contains(text) {}
    };
    wait_for("ready");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("sent");
    wait_for("started from flags: certificates are loaded again, there is no config file");
    let mut client = support::Client::connect(([127, 0, 0, 1], port).into());
    assert_eq!(client.ask(get("/page")).text(), "page");
    let reload =
        Command::new(env!("CARGO_BIN_EXE_one-server")).args(["ctl", "reload", "--socket"]).arg(&socket).output();
    let told = String::from_utf8(reload.expect("it runs").stdout).expect("text");
    assert_eq!(told, "started from flags: certificates are loaded again, there is no config file\n");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
    assert_eq!(child.wait().expect("a child").code(), Some(0));
}
