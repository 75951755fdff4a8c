//! HAProxy's runtime protocol (`stats_socket`): the same commands to us and to HAProxy get answers of one shape, and HAProxy's
//! own tools (hatop, the Prometheus exporter) work with it.

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::ports::free_port;
use support::{Driver, FakeUpstream, Server, Site, eventually, get, has_program, with_both_drivers};

fn named(name: &'static str) -> FakeUpstream {
    FakeUpstream::start(move |exchange| {
        exchange.read_body();
        exchange.ok(name)
    })
}

const SOCKET: &str = "stats_socket = \"$DIR/stats.sock\"\nstats_socket_level = \"admin\"\ncontrol = \"$DIR/ctl.sock\"";

/// A server with a check and a weight, and a backup without a check in another upstream beside it.
fn site(driver: Driver, one: &FakeUpstream, two: &FakeUpstream) -> Site {
    let rest = format!(
        "[upstream.api]\nbalance = \"round-robin\"\nhealth = {{ path = \"/health\", interval = \"100ms\", rise = 2, fall = 3 }}\n\
         servers = [{{ address = \"{}\", weight = 10 }}, {{ address = \"{}\", weight = 10, requests_max = 5 }}]\n\
         [upstream.plain]\nbalance = \"least-conn\"\nhealth = false\nservers = [\"{}\", {{ address = \"{}\", backup = true }}]\n\
         [site.main]\ndefault = true\n[[site.main.route]]\npath = \"/\"\nproxy = \"api\"\n\
         [[site.main.route]]\npath = \"/plain\"\nproxy = \"plain\"\n",
        one.address, two.address, one.address, two.address,
    );
    Site::new(driver, &rest).process(SOCKET)
}

/// What a socket says to one line, until it closes.
fn ask(socket: &Path, line: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(format!("{line}\n").as_bytes()).expect("sent");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("an answer");
    said
}

fn socket(server: &Server) -> PathBuf {
    server.folder().join("stats.sock")
}

/// Column `name` of the line of `service` in `show stat`.
fn stat(csv: &str, proxy: &str, service: &str, name: &str) -> String {
    let columns: Vec<&str> = csv.lines().next().expect("a header").trim_start_matches("# ").split(',').collect();
    let at = columns.iter().position(|column| *column == name).unwrap_or_else(|| panic!("no column {name}"));
    let line = csv.lines().find(|line| line.starts_with(&format!("{proxy},{service},")));
    line.unwrap_or_else(|| panic!("no line {proxy},{service} in\n{csv}")).split(',').nth(at).expect("a cell").into()
}

/// HAProxy itself with the same servers.
struct Haproxy {
    child: Child,
    folder: tempfile::TempDir,
}

impl Haproxy {
    fn start(one: &FakeUpstream, two: &FakeUpstream) -> Haproxy {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("haproxy.cfg");
        let sockets = ["admin", "operator", "user"]
            .map(|level| format!("  stats socket {} mode 600 level {level}\n", folder.path().join(level).display()));
        let config = format!(
            "global\n{}defaults\n  mode http\n  timeout client 10s\n  timeout connect 1s\n  timeout server 10s\n\
             frontend http\n  bind 127.0.0.1:{}\n  default_backend api\n\
             backend api\n  balance roundrobin\n  option httpchk\n  http-check send meth GET uri /health ver HTTP/1.1 hdr Host probe\n\
             \x20 server {one} {one} check inter 100ms rise 2 fall 3 weight 10\n\
             \x20 server {two} {two} check inter 100ms rise 2 fall 3 weight 10 maxconn 5\n\
             backend plain\n  balance leastconn\n  server {one} {one}\n  server {two} {two} backup\n",
            sockets.concat(),
            free_port(),
            one = one.address,
            two = two.address,
        );
        std::fs::write(&file, config).expect("a config");
        let child = Command::new("/usr/sbin/haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let haproxy = Haproxy { child, folder };
        eventually("HAProxy listens", || UnixStream::connect(haproxy.socket("user")).is_ok());
        eventually("HAProxy has checked", || !ask(&haproxy.socket("user"), "show stat").contains(",INI,"));
        haproxy
    }

    fn socket(&self, level: &str) -> PathBuf {
        self.folder.path().join(level)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A HAProxy of the version whose columns these are.
fn has_haproxy() -> bool {
    let version = || Command::new("/usr/sbin/haproxy").arg("-v").output().expect("it runs").stdout;
    has_program("haproxy") && {
        let is_it = String::from_utf8_lossy(&version()).starts_with("HAProxy version 2.6.");
        if !is_it {
            eprintln!("SKIPPED: haproxy is not of version 2.6");
        }
        is_it
    }
}

/// An answer without what two programs count differently.
fn shape(command: &str, answer: &str) -> Vec<String> {
    let lines = answer.lines();
    match command {
        // How many columns a line has.
        _ if command.starts_with("show stat") && !command.contains("json") && !command.contains("typed") => lines
            .map(|line| match line.starts_with('#') {
                true => line.into(),
                false => {
                    let cells: Vec<&str> = line.split(',').collect();
                    let of_interest: Vec<&str> = match cells.len() {
                        1 => cells.clone(),
                        // Names, status, weight, active, backup, process, ids, type, mode.
                        _ => [0, 1, 17, 18, 19, 20, 26, 27, 28, 32, 75].iter().map(|at| cells[*at]).collect(),
                    };
                    format!("{} cells: {}", cells.len(), of_interest.join(","))
                }
            })
            .collect(),
        "show servers state" | "show servers state api" => lines
            .map(|line| {
                let cells: Vec<&str> = line.split(' ').collect();
                // Without the time since the last change, and the health between up and down.
                let kept = cells.iter().enumerate().filter(|(at, _)| line.starts_with('#') || ![9, 12].contains(at));
                kept.map(|(_, cell)| *cell).collect::<Vec<_>>().join(" ")
            })
            .collect(),
        "show servers conn" => lines
            .map(|line| match line.strip_prefix('#') {
                // The number of threads.
                Some(_) => line.split('[').next().unwrap_or_default().into(),
                None => line.split(' ').take(5).collect::<Vec<_>>().join(" "),
            })
            .collect(),
        "show errors" => lines.map(|line| line.split('[').next().unwrap_or_default().into()).collect(),
        _ => lines.map(str::to_owned).collect(),
    }
}

/// Whether a check is under way by what `show servers state` says: then it has no result (bit 0 of srv_check_state).
fn checks_now(state: &str) -> bool {
    let states = state.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(' ').nth(13));
    states.filter_map(|state| state.parse::<u32>().ok()).any(|state| state & 1 != 0)
}

#[test]
fn the_same_commands_get_answers_of_the_same_shape_from_haproxy() {
    if !has_haproxy() {
        return;
    }
    let (one, two) = (named("one"), named("two"));
    let haproxy = Haproxy::start(&one, &two);
    let server = site(Driver::Auto, &one, &two).start();
    let admin = haproxy.socket("admin");
    let stat = || ask(&socket(&server), "show stat");
    eventually("all are checked", || stat().matches(",L7OK,").count() == 2);
    eventually("HAProxy too", || ask(&admin, "show stat").matches(",L7OK,").count() == 2);
    let id = format!("api/{}", two.address);
    let plain = format!("plain/{}", one.address);
    let first = one.address.to_string();
    let commands = [
        "show stat",
        "show stat api 4 -1",
        "show stat api 4 2",
        "show stat 3 2 -1",
        "show stat 3 6 1",
        "show stat -1 1 -1",
        "show stat nix 1 1",
        "show stat nix",
        "show servers state",
        "show servers state api",
        "show servers state nix",
        "show servers conn",
        "show servers conn nix",
        "show backend",
        "show errors",
        "show errors nix",
        "show cli level",
        "get weight",
        "get weight api",
        "get weight api/nix",
        "get weight nix/nix",
        "get weight ID",
        r"get  weight api\/FIRST ; get weight ID",
        "set weight ID",
        "set weight ID 50%",
        "get weight ID",
        "show stat api 4 2",
        "set weight ID 300",
        "set weight ID -1",
        "set weight ID -1%",
        "set weight ID x",
        "set weight ID 7x",
        "set weight ID 3000%",
        "get weight ID",
        "set server ID weight 3;get weight ID",
        "show servers state api",
        "show stat api 2 -1",
        "set weight ID 100%",
        "get weight ID",
        "set server",
        "set server nix/a state ready",
        "set server api/nix state ready",
        "set server ID state",
        "set server ID state foo",
        "set server ID weight",
        "set server ID state drain",
        "show stat api 4 -1",
        "show servers state api",
        "set server ID state maint",
        "show stat api 4 -1",
        "show stat api 4 -1 no-maint",
        "show servers state api",
        "disable server PLAIN",
        "show stat plain 4 1",
        "set server PLAIN state drain",
        "show stat plain 4 1",
        "enable server PLAIN",
        "show stat plain 7 -1",
        "disable server",
        "disable server api/nix",
        "set maxconn server",
        "set maxconn server ID",
        "set maxconn server ID x",
        "set maxconn server ID 7x",
        "set maxconn server api/nix 7",
        "set maxconn server ID 9",
        "enable health PLAIN",
        "disable health PLAIN",
        "disable health ID",
        "show stat api 4 2",
        "enable health ID",
        "set server ID state ready;disable health ID",
        "show stat api 4 2",
        "show servers state api",
        "enable health ID",
        "set timeout cli",
        "set timeout cli x",
        "set timeout cli 10",
        "user",
        "operator;show cli level;set weight ID 4",
        "user;show sess;show errors;operator;get weight ID",
        "quit",
        "quit;show backend",
    ];
    for command in commands {
        let line = command.replace("ID", &id).replace("PLAIN", &plain).replace("FIRST", &first);
        if command.starts_with("show servers state") {
            eventually("no check of HAProxy's is under way", || !checks_now(&ask(&admin, &line)));
        }
        let (theirs, ours) = (ask(&admin, &line), ask(&socket(&server), &line));
        assert_eq!(shape(command, &ours), shape(command, &theirs), "{command}\nours:\n{ours}\ntheirs:\n{theirs}");
        assert_eq!(ours.ends_with("\n\n"), theirs.ends_with("\n\n"), "{command}: {ours:?} {theirs:?}");
    }
    // What somebody without rights is told.
    for level in ["operator", "user"] {
        for command in [
            "show stat",
            "show info",
            "show sess",
            "show errors",
            "set weight ID 1",
            "enable health ID",
            "user",
            "set server ID state ready",
        ] {
            let line = command.replace("ID", &id);
            let theirs = ask(&haproxy.socket(level), &line).starts_with("Permission denied\n\n");
            let ours = ask(&socket(&server), &format!("{level};{line}")).ends_with("Permission denied\n\n");
            assert_eq!(ours, theirs, "{level}: {command}");
        }
    }
    // Names in `show info`, with their places and kinds; HAProxy has more of them.
    let fields = |said: String| -> Vec<String> {
        let known = said.lines().filter(|line| !line.is_empty());
        known.map(|line| line.splitn(4, ':').take(3).collect::<Vec<_>>().join(":")).collect()
    };
    let (ours, theirs) = (fields(ask(&socket(&server), "show info typed")), fields(ask(&admin, "show info typed")));
    assert!(ours.len() > 25 && ours.iter().all(|field| theirs.contains(field)), "{ours:#?}\n{theirs:#?}");
    let (ours, theirs) = (fields(ask(&socket(&server), "show stat typed")), fields(ask(&admin, "show stat typed")));
    // Not even HAProxy has these of a server that has never failed.
    let is_known = |field: &String| {
        ["check_code", "ssl_", "h2_", "slim", "idle_conn"].iter().any(|own| field.contains(own))
            || theirs.contains(field)
    };
    let unknown: Vec<_> = ours.iter().filter(|field| !is_known(field)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    // JSON has the same.
    for command in ["show info json", "show stat json"] {
        let parse = |said: String| serde_json::from_str::<serde_json::Value>(said.trim()).expect("JSON");
        let (ours, theirs) = (parse(ask(&socket(&server), command)), parse(ask(&admin, command)));
        let first = |json: &serde_json::Value| if json[0].is_array() { json[0][0].clone() } else { json[0].clone() };
        let keys = |json: serde_json::Value| json.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(first(&ours)), keys(first(&theirs)), "{command}");
        assert_eq!(first(&ours)["tags"], first(&theirs)["tags"], "{command}");
        assert_eq!(first(&ours)["objType"], first(&theirs)["objType"], "{command}");
    }
}

#[test]
fn a_conversation_goes_as_with_haproxy() {
    if !has_haproxy() {
        return;
    }
    let (one, two) = (named("one"), named("two"));
    let haproxy = Haproxy::start(&one, &two);
    let server = site(Driver::Auto, &one, &two).start();
    let converse = |socket: &Path, steps: &[&str]| {
        let mut stream = UnixStream::connect(socket).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let (mut said, mut buffer) = (String::new(), [0; 65_536]);
        for step in steps {
            stream.write_all(step.as_bytes()).expect("sent");
            // A step of a conversation has one answer; the end of it has all.
            let prompts = |said: &str| said.matches("\n> ").count();
            let (before, wanted) = (prompts(&said), step.matches(['\n', ';']).count());
            while prompts(&said) < before + wanted {
                match stream.read(&mut buffer).expect("an answer in time") {
                    0 => return said + "<closed>",
                    count => said.push_str(std::str::from_utf8(&buffer[..count]).expect("text")),
                }
            }
        }
        said
    };
    let weight = format!("get weight api/{}\n", one.address);
    let conversations: [&[&str]; 6] = [
        &["prompt\n", &weight, "show backend\n", "quit\n"],
        &["prompt;show backend;show cli level\n", "prompt\n"],
        &["prompt\n", "show ", "backend\n", &weight, "set timeout cli 60\n", "quit;show backend\n"],
        &["show backend\nshow cli level\n"],
        &["show backend\r\n"],
        &["prompt\nshow backend\nshow cli level\nquit\n"],
    ];
    for steps in conversations {
        let (theirs, ours) = (converse(&haproxy.socket("admin"), steps), converse(&socket(&server), steps));
        assert_eq!(ours, theirs, "{steps:?}");
    }
}

#[test]
fn orders_are_heeded_and_the_numbers_are_the_counters() {
    with_both_drivers(|driver| {
        let (one, two) = (named("one"), named("two"));
        let server = site(driver, &one, &two).start();
        let say = |line: &str| ask(&socket(&server), line);
        eventually("all are checked", || say("show stat").matches(",L7OK,").count() == 2);
        let (a, b) = (one.address.to_string(), two.address.to_string());
        let asked = |count: usize| {
            let answers: Vec<String> = (0..count).map(|_| server.connect().ask(get("/")).text()).collect();
            answers.iter().filter(|answer| *answer == "one").count()
        };
        assert_eq!(asked(10), 5, "{driver:?}");
        let csv = say("show stat");
        for (service, column, value) in [
            ("FRONTEND", "req_tot", "10"),
            ("FRONTEND", "hrsp_2xx", "10"),
            ("FRONTEND", "slim", "4096"),
            ("FRONTEND", "status", "OPEN"),
        ] {
            assert_eq!(stat(&csv, "http", service, column), value, "{driver:?}: {column}");
        }
        for (service, column, value) in [
            (a.as_str(), "stot", "5"),
            (&a, "hrsp_2xx", "5"),
            (&a, "check_status", "L7OK"),
            (&a, "check_code", "200"),
            (&a, "check_desc", "Layer7 check passed"),
            (&a, "addr", &a),
            (&a, "slim", ""),
            (&b, "slim", "5"),
            (&b, "connect", "5"),
            ("BACKEND", "stot", "10"),
            ("BACKEND", "act", "2"),
            ("BACKEND", "weight", "20"),
            ("BACKEND", "algo", "roundrobin"),
        ] {
            // Connections are used again by whichever worker has them.
            let found = stat(&csv, "api", service, column);
            let reuse: u64 = stat(&csv, "api", service, "reuse").parse().unwrap_or_default();
            match column {
                "connect" => assert_eq!(found.parse::<u64>().expect("a number") + reuse, 5, "{driver:?}"),
                _ => assert_eq!(found, value, "{driver:?}: {service} {column}"),
            }
        }
        let bytes = |service: &str, column: &str| stat(&csv, "api", service, column).parse::<u64>().expect("a number");
        for column in ["bin", "bout"] {
            assert!(bytes(&a, column) > 0, "{driver:?}: {column}");
            assert_eq!(bytes(&a, column) + bytes(&b, column), bytes("BACKEND", column), "{driver:?}: {column}");
        }
        say(&format!("set weight api/{a} 0"));
        assert_eq!(asked(8), 0, "{driver:?}");
        assert!(server.ctl_ok(&["show"]).contains("weight 0 (config: 10)"), "{driver:?}");
        say(&format!("set server api/{a} weight 30"));
        let shared = asked(40);
        assert!((26..=34).contains(&shared), "{driver:?}: {shared}");
        say(&format!("disable server api/{a}"));
        assert_eq!(asked(6), 0, "{driver:?}");
        assert_eq!(stat(&say("show stat"), "api", &a, "status"), "MAINT");
        assert!(server.ctl_ok(&["show"]).contains("maintenance"), "{driver:?}");
        // It all stays over a reload.
        server.reload_with(&[("default = true", "default = true # still")]);
        assert_eq!((say(&format!("get weight api/{a}")), asked(6)), ("30 (initial 10)\n\n".into(), 0), "{driver:?}");
        say(&format!("enable server api/{a}; set weight api/{a} 100%"));
        assert_eq!(say(&format!("get weight api/{a}")), "10 (initial 10)\n\n");
        eventually("it is back", || asked(4) > 0);
        // Checks pause, and the server stays what it is.
        say(&format!("disable health api/{a}"));
        std::thread::sleep(Duration::from_millis(250));
        let checks = one.count("/health");
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(one.count("/health"), checks, "{driver:?}");
        assert!(server.ctl_ok(&["show"]).contains("checks paused"), "{driver:?}");
        assert_eq!(server.status()["upstreams"][0]["servers"][0]["check"]["paused"], true, "{driver:?}");
        assert!(asked(4) > 0, "{driver:?}");
        say(&format!("enable health api/{a}"));
        eventually("it is checked again", || one.count("/health") > checks);
    });
}

/// What a look once a second has seen: of connections and requests in a burst, and of one that stays.
#[test]
fn rates_and_highest_values_are_those_of_a_burst() {
    with_both_drivers(|driver| {
        let (one, two) = (named("one"), named("two"));
        let server = site(driver, &one, &two).start();
        let ask = |line| ask(&socket(&server), line);
        let number = |proxy: &str, service: &str, name: &str| -> u64 {
            stat(&ask("show stat"), proxy, service, name).parse().unwrap_or_else(|_| panic!("{proxy} {service} {name}"))
        };
        for name in ["rate_max", "req_rate_max", "conn_rate_max"] {
            assert_eq!(number("http", "FRONTEND", name), 0, "{driver:?}: {name} before anybody came");
        }
        let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
        for client in &mut clients {
            for _ in 0..6 {
                assert_eq!(client.ask(get("/")).status, 200);
            }
        }
        eventually("the burst has been seen", || number("http", "FRONTEND", "req_rate_max") > 0);
        eventually("it is over", || number("http", "FRONTEND", "req_rate") == 0);
        // It may have been cut by a look, and no look is exactly a second behind another.
        for (proxy, service, name, least, most) in [
            ("http", "FRONTEND", "req_rate_max", 25, 66),
            ("http", "FRONTEND", "rate_max", 1, 11),
            ("http", "FRONTEND", "conn_rate_max", 1, 11),
            ("http", "FRONTEND", "smax", 10, 10),
            ("api", "BACKEND", "rate_max", 25, 66),
            ("api", "BACKEND", "qmax", 0, 0),
        ] {
            let value = number(proxy, service, name);
            assert!((least..=most).contains(&value), "{driver:?}: {name} of {proxy} is {value}");
        }
        let of_server = |peer: &FakeUpstream| number("api", &peer.address.to_string(), "rate_max");
        let of_servers = of_server(&one) + of_server(&two);
        assert!((25..=68).contains(&of_servers), "{driver:?}: {of_servers}");
        // Nothing here knows them.
        for name in ["qtime", "ctime", "rtime", "ttime", "req_rate"] {
            assert_eq!(stat(&ask("show stat"), "api", "BACKEND", name), "", "{driver:?}: {name}");
        }
        let info = ask("show info");
        let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok());
        let most: u64 = line("MaxConnRate").expect("a number");
        assert!((1..=11).contains(&most), "{driver:?}: {info}");
        assert_eq!(line("MaxSessRate"), Some(most));
        assert_eq!((line("ConnRate"), line("PipesUsed")), (Some(0), Some(0)));
        assert_eq!(line("Maxpipes"), Some(2 * 256), "two data workers");
        // A highest value stays when what it counted has gone.
        drop(clients);
        server.wait_until_no_client();
        assert_eq!((number("http", "FRONTEND", "scur"), number("http", "FRONTEND", "smax")), (0, 10), "{driver:?}");
    });
}

#[test]
fn a_maxconn_is_in_force_when_the_answer_comes() {
    let (go, now, most) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let slow = FakeUpstream::start({
        let (go, most) = (go.clone(), most.clone());
        move |exchange| {
            exchange.read_body();
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            while !go.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
            now.fetch_sub(1, Ordering::SeqCst);
            exchange.ok("slow")
        }
    });
    let rest = format!(
        "[upstream.plain]\nhealth = false\nservers = \"{}\"\n[site.main]\ndefault = true\n[[site.main.route]]\npath = \"/\"\nproxy = \"plain\"\n",
        slow.address
    );
    let server = Site::new(Driver::Auto, &rest).process(SOCKET).start();
    let name = slow.address.to_string();
    assert_eq!(ask(&socket(&server), &format!("set maxconn server plain/{name} 2")), "\n");
    assert_eq!(stat(&ask(&socket(&server), "show stat"), "plain", &name, "slim"), "2");
    let mut clients: Vec<_> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(get("/"));
    }
    eventually("the others wait", || stat(&ask(&socket(&server), "show stat"), "plain", "BACKEND", "qcur") == "3");
    let csv = ask(&socket(&server), "show stat");
    assert_eq!((stat(&csv, "plain", &name, "scur"), stat(&csv, "plain", "BACKEND", "scur")), ("2".into(), "2".into()));
    eventually("the server has both", || most.load(Ordering::SeqCst) == 2);
    go.store(true, Ordering::SeqCst);
    clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").status, 200));
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_eq!(ask(&socket(&server), &format!("set maxconn server plain/{name} 0")), "\n");
    assert_eq!(stat(&ask(&socket(&server), "show stat"), "plain", &name, "slim"), "");
}

#[test]
fn it_is_bounded_and_its_file_says_who_may_come() {
    let (one, two) = (named("one"), named("two"));
    let server = site(Driver::Auto, &one, &two).process("stats_socket_mode = \"0660\"").start();
    let path = socket(&server);
    assert_eq!(std::fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o660);
    assert!(server.ctl_ok(&["show"]).contains("stats"), "a listener among the others");
    // Too long, without an end, and no text at all.
    let say = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&path).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        // It may be closed before all is written.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    };
    assert_eq!(say(&[b'x'; 40_000]), "");
    assert_eq!(say(b"show backend"), "");
    assert_eq!(say(b""), "");
    assert!(say(b"\xff\xfe\x00\n").starts_with("Unknown command."));
    assert!(say("show ".repeat(1000).as_bytes()).is_empty());
    // Silence ends, by default and as the client has set it.
    let begun = Instant::now();
    let mut stream = UnixStream::connect(&path).expect("a socket");
    stream.write_all(b"prompt;set timeout cli 300ms\n").expect("sent");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("the end");
    assert_eq!(said, "\n> \n> ");
    assert!((250..9000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    // Many that say nothing keep others waiting, for their time.
    let silent: Vec<_> = (0..12).map(|_| UnixStream::connect(&path).expect("a socket")).collect();
    assert_eq!(ask(&path, "show backend"), "# name\napi\nplain\n\n");
    assert!(begun.elapsed() > Duration::from_secs(9), "they had their time");
    drop(silent);
    // A reload leaves the socket as it is, and says so.
    server.edit(&[("stats_socket_level = \"admin\"", "stats_socket_level = \"user\"")]);
    assert!(server.ctl_ok(&["reload"]).contains("needs a restart: `stats_socket` in [process]"));
    assert_eq!(ask(&path, "show cli level"), "admin\n\n");
}

/// hatop under a pseudo terminal: what it shows, and what its keys do. See `tests/peers/hatop.py`.
#[test]
fn hatop_shows_our_servers_and_takes_them_out_and_back() {
    if !has_program("hatop") || !has_program("python3") {
        return;
    }
    let (one, two) = (named("one"), named("two"));
    let server = site(Driver::Auto, &one, &two).start();
    eventually("all are checked", || ask(&socket(&server), "show stat").matches(",L7OK,").count() == 2);
    let peer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/hatop.py");
    let first = one.address.to_string();
    let mut child = Command::new("python3")
        .arg(peer)
        .arg(socket(&server))
        .arg(&first)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let output = child.stdout.take().expect("a pipe");
    let status =
        |what: &str| eventually(what, || stat(&ask(&socket(&server), "show stat"), "api", &first, "status") == what);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(output));
    let mut told = Vec::new();
    let mut wait_for = |what: &str| {
        for line in lines.by_ref() {
            told.push(line.expect("text"));
            if told.last().is_some_and(|line| line == what) {
                return;
            }
        }
        panic!("hatop has not come to `{what}`: {told:#?}");
    };
    wait_for("shown");
    wait_for("disabled");
    status("MAINT");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"enable\n").expect("sent");
    wait_for("enabled");
    status("UP");
    stdin.write_all(b"weight\n").expect("sent");
    wait_for("weighed");
    eventually("it weighs one more", || {
        ask(&socket(&server), &format!("get weight api/{first}")) == "11 (initial 10)\n\n"
    });
    stdin.write_all(b"quit\n").expect("sent");
    wait_for("ended");
    assert!(child.wait().expect("a child").success(), "{told:#?}");
}

/// Debian's prometheus-haproxy-exporter, which reads `show stat` and `show info`.
#[test]
fn the_exporter_for_haproxy_reads_our_counters() {
    if !has_program("prometheus-haproxy-exporter") {
        return;
    }
    let (one, two) = (named("one"), named("two"));
    let server = site(Driver::Auto, &one, &two).start();
    eventually("all are checked", || ask(&socket(&server), "show stat").matches(",L7OK,").count() == 2);
    for _ in 0..6 {
        assert_eq!(server.connect().ask(get("/")).status, 200);
    }
    ask(&socket(&server), &format!("set server api/{} state maint", two.address));
    let port = free_port();
    let mut exporter = Command::new("prometheus-haproxy-exporter")
        .arg(format!("--haproxy.scrape-uri=unix:{}", socket(&server).display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    eventually("it listens", listens);
    let page = support::Client::connect(([127, 0, 0, 1], port).into()).ask(get("/metrics")).text();
    let _ = exporter.kill();
    let _ = exporter.wait();
    let value = |name: &str, labels: &str| -> f64 {
        let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(labels));
        let line = line.unwrap_or_else(|| panic!("no {name} with {labels} in\n{page}"));
        line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    let (a, b) = (format!("server=\"{}\"", one.address), format!("server=\"{}\"", two.address));
    let of_api = |name: &str, server: &str| {
        let line = page.lines().find(|line| {
            line.starts_with(&format!("{name}{{")) && line.contains("backend=\"api\"") && line.contains(server)
        });
        let line = line.unwrap_or_else(|| panic!("no {name} of {server} in\n{page}"));
        line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()).expect("a number")
    };
    assert!(page.contains("haproxy_up 1"), "{page}");
    assert_eq!((of_api("haproxy_server_up", &a), of_api("haproxy_server_up", &b)), (1.0, 0.0));
    assert_eq!(of_api("haproxy_server_sessions_total", &a) + of_api("haproxy_server_sessions_total", &b), 6.0);
    assert_eq!(of_api("haproxy_server_weight", &a), 10.0);
    assert_eq!(value("haproxy_backend_up", "backend=\"api\""), 1.0);
    assert_eq!(value("haproxy_frontend_http_requests_total", "frontend=\"http\""), 6.0);
    let two_hundreds: f64 = [&a, &b]
        .iter()
        .map(|server| {
            let line = page.lines().find(|line| {
                line.starts_with("haproxy_server_http_responses_total{")
                    && line.contains("backend=\"api\"")
                    && line.contains("code=\"2xx\"")
                    && line.contains(server.as_str())
            });
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).expect("a number")
        })
        .sum();
    assert_eq!(two_hundreds, 6.0);
    assert!(page.contains("haproxy_exporter_csv_parse_failures_total 0"), "{page}");
}
