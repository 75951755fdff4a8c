//! Wherever requests go, the balancer treats it alike: workers of an application inside the process, programs and php-fpm that are
//! started and watched, php-fpm and HTTP servers that are somewhere else. One table of them, two places each, and the same tests
//! for all: who is chosen, checked, tried again, waited for, counted and drained. What a kind refuses is an error that says so.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::apps::{BY_FD, PEERS, python, signal};
use support::client::timed;
use support::php::{self, Php, shown};
use support::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The workers of an application inside the process.
    Workers,
    /// `type = "process"`.
    Programs,
    /// `type = "php"`.
    Php,
    /// php-fpm that somebody else has started.
    Fpm,
    /// HTTP servers that are nobody's here.
    Remote,
}

const ALL: [Kind; 5] = [Kind::Workers, Kind::Programs, Kind::Php, Kind::Fpm, Kind::Remote];

/// Which place it is.
const WHO: &str = "<?php echo getenv('PLACE');";
const SLOW: &str = "<?php usleep(1000 * (int) $_GET['ms']); echo 'slow';";
/// Whether the switch of its place is there.
const READY: &str =
    "<?php http_response_code(file_exists(getenv('SWITCHES') . '/ready-' . getenv('PLACE')) ? 200 : 503);";

const SCRIPTS: [(&str, &str); 3] = [("who.php", WHO), ("slow.php", SLOW), ("ready.php", READY)];

/// Longer than it takes to see what is seen meanwhile.
const HELD_MS: u32 = 6000;

const STICKY: &str = "sticky = { cookie = \"srv\", secret = \"one of sixteen b\" }\n";

/// Of the access log.
const LOGGED: &str = "$request_uri|$upstream_addr|$upstream_status|$tries|$upstream_response_time";

/// Two places of one kind, numbered 0 and 1.
struct Places {
    /// Files that say what a place is to answer.
    switches: tempfile::TempDir,
    fpm: [Option<Php>; 2],
    remote: Vec<(FakeUpstream, Arc<AtomicBool>)>,
}

/// The server in front of them.
struct Row {
    kind: Kind,
    server: Server,
    places: Places,
}

/// Runs `test` with each of these kinds, side by side: most of it is waiting. A failure's output names the kind.
fn with_each(kinds: &[Kind], test: impl Fn(Kind) + Sync) {
    let test = &test;
    let failed: Vec<(Kind, _)> = std::thread::scope(|scope| {
        let threads: Vec<_> = kinds.iter().map(|&kind| (kind, scope.spawn(move || test(kind)))).collect();
        threads.into_iter().filter_map(|(kind, thread)| Some((kind, thread.join().err()?))).collect()
    });
    let kinds: Vec<Kind> = failed.iter().map(|(kind, _)| *kind).collect();
    if let Some((_, panic)) = failed.into_iter().next() {
        eprintln!("failed: {kinds:?}");
        std::panic::resume_unwind(panic);
    }
}

/// A place of `Remote`. While it is dead, what it had breaks off.
fn start_remote(place: usize, switches: &Path) -> (FakeUpstream, Arc<AtomicBool>) {
    let (is_dead, switch) = (Arc::new(AtomicBool::new(false)), switches.join(format!("ready-{place}")));
    let dead = is_dead.clone();
    let server = FakeUpstream::start(move |exchange| {
        exchange.read_body();
        let target = exchange.request.target.clone();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/slow" => {
                let ms = query.strip_prefix("ms=").and_then(|ms| ms.parse().ok()).expect("a number");
                let end = Instant::now() + Duration::from_millis(ms);
                while Instant::now() < end {
                    if dead.load(Ordering::SeqCst) {
                        return exchange.reset();
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                exchange.ok("slow")
            }
            "/ready" if !switch.exists() => {
                exchange.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
                upstream::Then::Keep
            }
            _ => exchange.ok(&place.to_string()),
        }
    });
    (server, is_dead)
}

/// The site of a kind, whose places have room for one request each if it `is_limited`. In `keys`, `$READY` is the path of a check: of a
/// script where there are scripts, because php-fpm is asked for a file, and one that names the folder of the switches for a program
/// inside the process. `None`, and said so: php-fpm is not installed.
fn site(kind: Kind, keys: &str, is_limited: bool) -> Option<(Site, Places)> {
    let switches = tempfile::tempdir().expect("a folder");
    let folder = shown(switches.path()).to_owned();
    let one = |key: &str| if is_limited { format!("{key} = 1\n") } else { String::new() };
    let (mut fpm, mut remote) = ([None, None], Vec::new());
    let at = |ready: &str| keys.replace("$READY", ready);
    let scripts = |root: &str| at(&if root.is_empty() { "/ready".to_owned() } else { format!("{root}/ready.php") });
    let to = |name: &str, table: &str, keys: &str| {
        format!("[site.main]\ndefault = true\nroute = [{{ path = \"/\", {name} }}]\n{table}\n{keys}\n")
    };
    let site = match kind {
        Kind::Workers => {
            // Here the limit is that of the whole application.
            let limit = if is_limited { "requests_max = 2\n" } else { "" };
            let site = Site::probe(
                Driver::Auto,
                &to("app = \"probe\"", &format!("[app.probe]\n{limit}"), &at(&format!("/ready?of={folder}"))),
            );
            site.process("app_cores = \"0,1\"")
        }
        Kind::Programs => {
            let environment =
                format!("environment = {{ EDITION = \"{{instance}}\", READY = \"{folder}/ready-{{instance}}\" }}");
            let by_fd = BY_FD.replace("$PEERS", PEERS).replace("$PYTHON", python());
            let table =
                format!("[app.shop]\ntype = \"process\"\n{by_fd}instances = 2\n{environment}\n{}", one("requests_max"));
            Site::new(Driver::Auto, &to("app = \"shop\"", &table, &scripts("")))
        }
        Kind::Php => {
            php::program()?;
            let environment = format!("environment = {{ PLACE = \"{{instance}}\", SWITCHES = \"{folder}\" }}");
            let table = format!("[app.blog]\ntype = \"php\"\ninstances = 2\n{environment}\n{}", one("workers"));
            let site = Site::new(Driver::Auto, &to("app = \"blog\", cgi = \"$DIR/www\"", &table, &scripts("$DIR/www")));
            SCRIPTS.iter().fold(site, |site, (name, text)| site.file(&format!("www/{name}"), text.as_bytes()))
        }
        Kind::Fpm => {
            for (place, fpm) in fpm.iter_mut().enumerate() {
                let pool = format!("env[PLACE] = {place}\nenv[SWITCHES] = {folder}");
                *fpm = Some(Php::start(&pool, &SCRIPTS)?);
            }
            let places = fpm.each_ref().map(|php| {
                let socket = php.as_ref().expect("a moment ago").socket();
                let limit = if is_limited { ", requests_max = 1" } else { "" };
                format!("{{ address = \"unix:{}\"{limit} }}", shown(&socket))
            });
            let root = fpm[0].as_ref().expect("a moment ago").root();
            let table = format!("[upstream.up]\nprotocol = \"fastcgi\"\nservers = [{}]", places.join(", "));
            Site::new(
                Driver::Auto,
                &to(&format!("proxy = \"up\", cgi = \"{}\"", shown(&root)), &table, &scripts(shown(&root))),
            )
        }
        Kind::Remote => {
            remote = (0..2).map(|place| start_remote(place, switches.path())).collect();
            let limit = if is_limited { ", requests_max = 1" } else { "" };
            let places: Vec<_> =
                remote.iter().map(|(server, _)| format!("{{ address = \"{}\"{limit} }}", server.address)).collect();
            let table = format!("[upstream.up]\nservers = [{}]", places.join(", "));
            Site::new(Driver::Auto, &to("proxy = \"up\"", &table, &scripts("")))
        }
    };
    let sockets = "control = \"$DIR/ctl.sock\"\nstats_socket = \"$DIR/stats.sock\"\nstats_socket_level = \"admin\"";
    let log = format!("access = \"$DIR/access.log\"\nformat = \"{LOGGED}\"\n");
    Some((site.one_worker().process(sockets).log(&log), Places { switches, fpm, remote }))
}

fn start(kind: Kind, keys: &str) -> Option<Row> {
    started(kind, keys, false)
}

fn started(kind: Kind, keys: &str, is_limited: bool) -> Option<Row> {
    let (site, places) = site(kind, keys, is_limited)?;
    let row = Row { kind, server: site.start(), places };
    row.switch(0, true);
    row.switch(1, true);
    Some(row)
}

impl Row {
    /// The name of the upstream.
    fn upstream(&self) -> &'static str {
        match self.kind {
            Kind::Workers => "app:probe",
            Kind::Programs => "app:shop",
            Kind::Php => "app:blog",
            Kind::Fpm | Kind::Remote => "up",
        }
    }

    /// What the status page says of it.
    fn status(&self) -> Value {
        let status = self.server.status();
        let upstreams = status["upstreams"].as_array().expect("a list");
        upstreams.iter().find(|upstream| upstream["name"] == self.upstream()).expect("it is there").clone()
    }

    fn of_place(&self, place: usize) -> Value {
        self.status()["servers"][place].clone()
    }

    /// A place as a server: its name in metrics, tables and orders.
    fn name(&self, place: usize) -> String {
        self.of_place(place)["address"].as_str().expect("an address").to_owned()
    }

    fn id(&self, place: usize) -> String {
        format!("{}/{}", self.upstream(), self.name(place))
    }

    fn metric(&self, place: usize, name: &str) -> f64 {
        let labels = format!("upstream=\"{}\",server=\"{}\"", self.upstream(), self.name(place));
        self.server.metric(&format!("one_server_upstream_{name}"), &labels)
    }

    fn metrics(&self, name: &str) -> [f64; 2] {
        [0, 1].map(|place| self.metric(place, name))
    }

    fn queue(&self, name: &str) -> f64 {
        let label = format!("upstream=\"{}\"", self.upstream());
        self.server.metric(&format!("one_server_upstream_queue_{name}"), &label)
    }

    /// What makes it tell which place it is.
    fn who_path(&self) -> &'static str {
        match self.kind {
            Kind::Workers => "/count",
            Kind::Programs => "/edition/",
            Kind::Php | Kind::Fpm => "/who.php",
            Kind::Remote => "/who",
        }
    }

    fn slow_path(&self, ms: u32) -> String {
        match self.kind {
            Kind::Programs => format!("/slow/{ms}"),
            Kind::Php | Kind::Fpm => format!("/slow.php?ms={ms}"),
            Kind::Workers | Kind::Remote => format!("/slow?ms={ms}"),
        }
    }

    /// Answers 503 where the switch of a place is off; of a worker, which has none, it is always so.
    fn ready_path(&self) -> &'static str {
        match self.kind {
            Kind::Workers => "/status?code=503",
            Kind::Php | Kind::Fpm => "/ready.php",
            Kind::Programs | Kind::Remote => "/ready",
        }
    }

    /// The place that has answered.
    fn place_of(&self, answer: &Response) -> usize {
        let text = answer.text();
        assert_eq!(answer.status, 200, "{:?}: {text}", self.kind);
        let number = text.rsplit(' ').next().and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{:?}: {text}", self.kind))
    }

    fn place(&self, client: &mut Client, query: &str) -> usize {
        self.place_of(&client.ask(get(&format!("{}{query}", self.who_path()))))
    }

    /// Of so many requests, one after the other.
    fn places(&self, count: usize) -> Vec<usize> {
        let mut client = self.server.connect();
        (0..count).map(|_| self.place(&mut client, "")).collect()
    }

    /// How many of so many requests each place has.
    fn shares(&self, count: usize) -> [usize; 2] {
        let places = self.places(count);
        [0, 1].map(|place| places.iter().filter(|found| **found == place).count())
    }

    /// A request that stays for a while; returns where.
    fn hold(&self, ms: u32) -> (Client, usize) {
        self.hold_with(ms, &[])
    }

    /// The same of one with these fields.
    fn hold_with(&self, ms: u32, fields: &[&str]) -> (Client, usize) {
        let before = self.metrics("requests_active");
        let mut client = self.server.connect();
        client.send(request("GET", &self.slow_path(ms), fields, ""));
        let mut now = before;
        eventually("it is held", || {
            now = self.metrics("requests_active");
            now != before
        });
        (client, usize::from(now[1] > before[1]))
    }

    /// Nobody waits for what was held, and its place is free.
    fn let_go<const N: usize>(&self, held: [(Client, usize); N]) {
        drop(held);
        eventually("its place is free", || self.metrics("requests_active") == [0.0; 2]);
    }

    /// The fields of [`LOGGED`] of so many requests of this target, once they are in the access log.
    fn logged(&self, target: &str, count: usize) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        eventually("the access log has them", || {
            let text = std::fs::read_to_string(self.server.folder().join("access.log")).unwrap_or_default();
            let lines = text.lines().map(|line| line.split('|').map(str::to_owned).collect::<Vec<_>>());
            found = lines.filter(|line| line.len() == 5 && line[0] == target).collect();
            found.len() >= count
        });
        assert_eq!(found.len(), count, "{:?}: {found:?}", self.kind);
        found
    }

    /// A cookie that leads to a place.
    fn cookies(&self) -> [String; 2] {
        let mut found = [const { None }; 2];
        eventually("each place has given a cookie", || {
            let answer = self.server.connect().ask(get(self.who_path()));
            let cookie = answer.field("set-cookie").expect("a cookie").split(';').next().expect("a value");
            found[self.place_of(&answer)] = Some(format!("Cookie: {cookie}"));
            found.iter().all(Option::is_some)
        });
        found.map(|cookie| cookie.expect("a cookie"))
    }

    /// The place of a client with this cookie.
    fn place_with(&self, cookie: &str) -> usize {
        self.place_of(&self.server.connect().ask(request("GET", self.who_path(), &[cookie], "")))
    }

    fn switch(&self, place: usize, is_on: bool) {
        let switch = self.places.switches.path().join(format!("ready-{place}"));
        match is_on {
            true => std::fs::write(switch, "").expect("a file"),
            false => std::fs::remove_file(switch).expect("it is there"),
        }
    }

    /// The process that stands at a place, of those that are ours.
    fn pid(&self, place: usize) -> Option<u32> {
        let status = self.server.status();
        let instances = status["processes"][0]["instances"].as_array()?;
        let address = self.name(place);
        let instance = instances.iter().find(|instance| instance["address"] == address.as_str());
        Some(instance?["pid"].as_u64().expect("a number") as u32)
    }

    /// What is there ends at once, with all that it has.
    fn kill(&mut self, place: usize, cookie: &str) {
        match self.kind {
            Kind::Workers => {
                let answer = self.server.connect().ask(request("POST", "/fail", &[cookie], "x"));
                assert_eq!(answer.status, 502, "it was in there");
            }
            Kind::Programs | Kind::Php => signal(self.pid(place).expect("it runs"), Signal::KILL),
            Kind::Fpm => self.places.fpm[place].as_mut().expect("it runs").kill(),
            Kind::Remote => {
                self.places.remote[place].0.stop();
                self.places.remote[place].1.store(true, Ordering::SeqCst);
            }
        }
    }

    /// HAProxy's protocol.
    fn say(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.stats_socket()).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(format!("{line}\n").as_bytes()).expect("sent");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("an answer");
        said
    }

    fn stats_socket(&self) -> PathBuf {
        self.server.folder().join("stats.sock")
    }

    /// A cell of `show stat`.
    fn cell(&self, service: &str, column: &str) -> String {
        let csv = self.say("show stat");
        let columns: Vec<&str> = csv.lines().next().expect("a header").trim_start_matches("# ").split(',').collect();
        let at = columns.iter().position(|name| *name == column).unwrap_or_else(|| panic!("no column {column}"));
        let line = csv.lines().find(|line| line.starts_with(&format!("{},{service},", self.upstream())));
        line.unwrap_or_else(|| panic!("no line {service} in\n{csv}")).split(',').nth(at).expect("a cell").into()
    }
}

#[test]
fn places_are_chosen_by_the_same_methods() {
    with_each(&ALL, |kind| {
        let Some(row) = start(kind, "balance = \"round-robin\"") else { return };
        let places = row.places(20);
        assert!(places.chunks(2).all(|two| two == &places[..2] && two[0] != two[1]), "{kind:?}: {places:?}");
        drop(row);
        for method in ["least-conn", "random-two"] {
            let Some(row) = start(kind, &format!("balance = \"{method}\"")) else { return };
            let shares = row.shares(60);
            assert!(shares.iter().all(|share| *share >= 10), "{kind:?} {method}: {shares:?} while nobody is busy");
            let begun = Instant::now();
            let (_held, busy) = row.hold(HELD_MS);
            let places = row.places(12);
            assert!(begun.elapsed() < Duration::from_millis(HELD_MS.into()), "the machine is too slow for this");
            assert_eq!(places, [1 - busy; 12], "{kind:?} {method}");
        }
    });
}

#[test]
fn the_first_place_is_chosen_for_as_long_as_it_has_room() {
    with_each(&ALL, |kind| {
        let Some(row) = start(kind, "balance = \"first\"") else { return };
        assert_eq!(row.places(12), [0; 12], "{kind:?}");
        row.server.ctl_ok(&["server", &row.id(0), "limit", "1"]);
        let begun = Instant::now();
        let held = row.hold(HELD_MS);
        assert_eq!((held.1, row.places(12)), (0, vec![1; 12]), "{kind:?}");
        assert!(begun.elapsed() < Duration::from_millis(HELD_MS.into()), "the machine is too slow for this");
        row.let_go([held]);
        assert_eq!(row.places(12), [0; 12], "{kind:?}");
    });
}

#[test]
fn the_place_that_answers_sooner_is_chosen_where_time_counts() {
    with_each(&ALL, |kind| {
        let Some(row) = start(kind, "balance = \"least-time\"") else { return };
        let (mut held, slow) = row.hold(1000);
        assert_eq!(held.response("GET").text(), "slow", "{kind:?}");
        eventually("it is over", || row.metrics("requests_active") == [0.0; 2]);
        // Those never asked come first.
        assert_eq!(row.places(12), [1 - slow; 12], "{kind:?}");
    });
}

#[test]
fn a_key_that_is_asked_for_too_often_goes_to_the_other_place_as_well() {
    with_each(&ALL, |kind| {
        let Some(row) = start(kind, "hash = { key = \"$http_x_key\", load_max = 125 }") else { return };
        let key = ["X-Key: one"];
        let places = || {
            let mut client = row.server.connect();
            [(); 4].map(|()| row.place_of(&client.ask(request("GET", row.who_path(), &key, ""))))
        };
        let own = places()[0];
        assert_eq!(places(), [own; 4], "{kind:?}");
        let begun = Instant::now();
        let held = [(); 2].map(|()| row.hold_with(HELD_MS, &key));
        assert_eq!(held.each_ref().map(|(_, place)| *place), [own; 2], "{kind:?}");
        // Two are 125 % of a half of three, rounded up.
        assert_eq!(places(), [1 - own; 4], "{kind:?}");
        assert!(begun.elapsed() < Duration::from_millis(HELD_MS.into()), "the machine is too slow for this");
        row.let_go(held);
        assert_eq!(places(), [own; 4], "{kind:?}");
    });
}

#[test]
fn a_place_that_comes_back_starts_slowly() {
    const SLOW_START: Duration = Duration::from_secs(2);
    with_each(&ALL, |kind| {
        let Some(row) = start(kind, "balance = \"round-robin\"\nslow_start = \"2s\"") else { return };
        // Those that are started have come up just now, both of them.
        std::thread::sleep(SLOW_START);
        let is_even = || row.shares(20) == [10; 2];
        eventually("they share", is_even);
        let order = |order: &str| drop(row.server.ctl_ok(&["server", &row.id(1), order]));
        let early = (0..10).find_map(|_| {
            order("maintenance");
            assert_eq!(row.places(4), [0; 4], "{kind:?}");
            order("ready");
            let ([_, share], took) = timed(|| row.shares(24));
            (took < SLOW_START / 3).then_some(share)
        });
        let early = early.expect("a machine that is not too slow for this");
        assert!(early <= 7, "{kind:?}: {early} of 24 at once");
        eventually("they share again", is_even);
    });
}

#[test]
fn a_key_stays_with_its_place_and_comes_back_to_it() {
    with_each(&ALL, |kind| {
        let Some(row) = start(kind, "hash = \"$arg_id\"") else { return };
        let all = || (0..24).map(|id| row.place(&mut row.server.connect(), &format!("?id={id}"))).collect::<Vec<_>>();
        let first = all();
        assert!((0..2).all(|place| first.contains(&place)), "{kind:?}: {first:?}");
        assert_eq!(all(), first, "{kind:?}");
        // Those of a place that is drained are the other one's for as long as that lasts.
        row.server.ctl_ok(&["server", &row.id(1), "drain"]);
        assert_eq!(all(), [0; 24], "{kind:?}");
        row.server.ctl_ok(&["server", &row.id(1), "ready"]);
        assert_eq!(all(), first, "{kind:?}");
    });
}

#[test]
fn a_cookie_leads_back_to_a_place_that_is_drained_but_not_to_one_in_maintenance() {
    with_each(&ALL, |kind| {
        let Some(row) = start(kind, &format!("balance = \"round-robin\"\n{STICKY}")) else { return };
        let cookies = row.cookies();
        for _ in 0..6 {
            assert_eq!(cookies.each_ref().map(|cookie| row.place_with(cookie)), [0, 1], "{kind:?}");
        }
        let (mut held, busy) = row.hold(1500);
        let (id, free) = (row.id(busy), 1 - busy);
        assert_eq!(row.server.ctl_ok(&["server", &id, "drain"]), format!("{id} is drain, was ready\n"), "{kind:?}");
        assert_eq!(row.places(8), [free; 8], "{kind:?}: nobody new");
        assert_eq!(row.place_with(&cookies[busy]), busy, "{kind:?}");
        assert_eq!(held.response("GET").text(), "slow", "{kind:?}: it finishes what it has");
        row.server.ctl_ok(&["server", &id, "maintenance"]);
        assert_eq!(row.place_with(&cookies[busy]), free, "{kind:?}");
        row.server.ctl_ok(&["server", &id, "ready"]);
        assert_eq!(row.place_with(&cookies[busy]), busy, "{kind:?}");
        assert_eq!(row.shares(8), [4; 2], "{kind:?}");
    });
}

#[test]
fn a_check_that_fails_takes_a_place_out_while_it_lives_and_puts_it_back() {
    with_each(&ALL, |kind| {
        let health = "health = { path = \"$READY\", interval = \"100ms\", rise = 2, fall = 2 }";
        let Some(row) = start(kind, &format!("balance = \"round-robin\"\n{health}")) else { return };
        let states = |expect: [&str; 2]| {
            eventually(&format!("{kind:?}: the places are {expect:?}"), || {
                [0, 1].map(|place| row.cell(&row.name(place), "status")) == expect
            });
        };
        states(["UP", "UP"]);
        let pids = [0, 1].map(|place| row.pid(place));
        assert_eq!(pids.iter().all(Option::is_some), matches!(kind, Kind::Programs | Kind::Php), "{kind:?}");
        assert_eq!(row.shares(8), [4; 2], "{kind:?}");
        for place in [1, 0] {
            // The first looks may have come before it was ready.
            let falls = || row.cell(&row.name(place), "chkdown").parse::<u32>().expect("a number");
            let before = falls();
            row.switch(place, false);
            let mut expect = ["UP", "UP"];
            expect[place] = "DOWN";
            states(expect);
            assert_eq!(row.places(8), [1 - place; 8], "{kind:?}");
            let seen = row.of_place(place);
            assert_eq!((&seen["up"], &seen["check"]["result"]), (&false.into(), &"L7STS".into()), "{kind:?}: {seen}");
            assert!(seen["reason"].as_str().is_some_and(|reason| reason.contains("status 503")), "{kind:?}: {seen}");
            assert_eq!((row.metric(place, "server_up"), row.metric(1 - place, "server_up")), (0.0, 1.0), "{kind:?}");
            assert_eq!(row.cell(&row.name(place), "check_status"), "L7STS", "{kind:?}");
            row.switch(place, true);
            states(["UP", "UP"]);
            assert_eq!(row.shares(8), [4; 2], "{kind:?}");
            assert_eq!(falls(), before + 1, "{kind:?}");
        }
        // Nobody is left.
        row.switch(0, false);
        row.switch(1, false);
        states(["DOWN", "DOWN"]);
        assert_eq!(row.server.connect().ask(get(row.who_path())).status, 503, "{kind:?}");
        assert_eq!(row.cell("BACKEND", "status"), "DOWN", "{kind:?}");
        assert_eq!([0, 1].map(|place| row.pid(place)), pids, "{kind:?}: a check ends no process");
    });
}

/// A worker that fails is down at once, and up again when it is checked to be well.
#[test]
fn a_worker_that_is_checked_and_fails_comes_back_by_its_checks() {
    let keys = "health = { path = \"$READY\", interval = \"100ms\", timeout = \"1s\", rise = 2, fall = 2 }";
    let row = start(Kind::Workers, keys).expect("it is ours");
    let states = |expect: [&str; 2]| {
        eventually(&format!("the workers are {expect:?}"), || {
            [0, 1].map(|place| row.cell(&row.name(place), "status")) == expect
        });
    };
    states(["UP", "UP"]);
    row.switch(1, false);
    states(["UP", "DOWN"]);
    // The other one fails and runs again, which alone does not bring it back here.
    assert_eq!(row.server.connect().ask(get("/detach?ms=1500")).text(), "detached", "it takes a while to begin anew");
    row.switch(0, false);
    row.server.connect().send(post("/fail", "x"));
    row.server.wait_for_line("it has failed", |line| line.contains("its worker has failed and starts again"));
    eventually("it runs again", || row.server.metric("one_server_app_worker_restarts_total", "") >= 1.0);
    row.switch(1, true);
    states(["DOWN", "UP"]);
    assert_eq!(row.places(4), [1; 4]);
    row.switch(0, true);
    states(["UP", "UP"]);
    // A handler that blocks its worker cannot answer a check either.
    let mut blocked = row.server.connect();
    blocked.send(get("/block?ms=4500"));
    eventually("its check is late", || (0..2).any(|place| row.cell(&row.name(place), "status") == "DOWN"));
    states(["UP", "UP"]);
    assert_eq!(blocked.response("GET").text(), "blocked");
}

/// Any of the threads that an application has of its own answers, as soon as one is free.
#[test]
fn threads_of_an_application_are_checked() {
    let app = |name: &str, code: u32| {
        let health = format!("health = {{ path = \"/status?code={code}\", interval = \"100ms\", timeout = \"1s\" }}");
        format!("[app.{name}]\nprogram = \"probe\"\nthreads = 2\n{health}\n")
    };
    let site = "[site.main]\ndefault = true\nroute = [{ path = \"/well\", app = \"well\" }, { path = \"/ill\", app = \"ill\" }]\n";
    let server = Site::probe(Driver::Auto, &[site, &app("well", 204), &app("ill", 503)].concat()).start();
    for (at, result, up) in [(0, "L7OK", true), (1, "L7STS", false)] {
        eventually(&format!("{at}: {result}"), || {
            let seen = &server.status()["upstreams"][at]["servers"][0];
            seen["check"]["result"] == result && seen["up"] == up
        });
    }
    assert_eq!(server.connect().ask(get("/ill/count")).status, 503);
}

#[test]
fn a_place_whose_answers_are_errors_is_ejected() {
    with_each(&ALL, |kind| {
        let outliers = "outliers = { consecutive = 3, ejection_time = \"60s\", max_ejected = 50 }";
        let Some(row) = start(kind, &format!("balance = \"round-robin\"\n{STICKY}{outliers}")) else { return };
        let cookies = row.cookies();
        row.switch(1, false);
        for _ in 0..3 {
            let answer = row.server.connect().ask(request("GET", row.ready_path(), &[&cookies[1]], ""));
            assert_eq!(answer.status, 503, "{kind:?}");
        }
        eventually(&format!("{kind:?}: it is ejected"), || row.metric(1, "server_ejected") == 1.0);
        assert_eq!(row.places(8), [0; 8], "{kind:?}");
        assert_eq!(row.metric(0, "server_ejected"), 0.0, "{kind:?}");
    });
}

#[test]
fn a_status_is_tried_at_the_other_place_where_that_is_wanted() {
    with_each(&ALL, |kind| {
        let wanted = "retry_on = [\"error\", \"503\"]";
        for (keys, tries) in [(wanted, 2.0), (&format!("{wanted}\ntries = 1"), 1.0), ("", 1.0)] {
            let Some(row) = start(kind, &format!("balance = \"round-robin\"\n{keys}")) else { return };
            row.switch(0, false);
            if kind != Kind::Workers && tries == 2.0 {
                for _ in 0..4 {
                    assert_eq!(row.server.connect().ask(get(row.ready_path())).status, 200, "{kind:?}");
                }
            }
            row.switch(1, false);
            let before = row.metrics("requests_total");
            assert_eq!(row.server.connect().ask(get(row.ready_path())).status, 503, "{kind:?}");
            let now = row.metrics("requests_total");
            assert_eq!(now[0] + now[1] - before[0] - before[1], tries, "{kind:?} {keys}");
            assert_eq!((0..2).all(|place| now[place] > before[place]), tries == 2.0, "{kind:?} {keys}");
        }
    });
}

#[test]
fn a_time_out_is_tried_at_the_other_place_where_that_is_wanted() {
    with_each(&ALL, |kind| {
        for (words, tries) in [("[\"error\", \"timeout\"]", 2.0), ("[\"error\"]", 1.0)] {
            let keys = format!(
                "balance = \"round-robin\"\nresponse_timeout = \"400ms\"\nretry_time_max = \"10s\"\ntries = 2\n\
                 retry_on = {words}"
            );
            let Some(row) = start(kind, &keys) else { return };
            let answer = row.server.connect().ask(get(&row.slow_path(HELD_MS)));
            assert_eq!(answer.status, 504, "{kind:?} {words}");
            for metric in ["requests_total", "response_timeouts_total"] {
                let mut counts = row.metrics(metric);
                counts.sort_by(f64::total_cmp);
                assert_eq!(counts, [tries - 1.0, 1.0], "{kind:?} {words}: {metric}");
            }
        }
    });
}

#[test]
fn what_is_tried_again_has_a_budget() {
    const REQUESTS: usize = 120;
    /// Whatever the share.
    const RESERVE: usize = 100;
    with_each(&ALL, |kind| {
        let keys = "balance = \"round-robin\"\nretry_on = [\"503\"]\ntries = 2\nretry_budget = \"0%\"";
        let Some(row) = start(kind, keys) else { return };
        row.switch(0, false);
        row.switch(1, false);
        let (begun, mut client) = (Instant::now(), row.server.connect());
        for _ in 0..REQUESTS {
            assert_eq!(client.ask(get(row.ready_path())).status, 503, "{kind:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(9), "the machine is too slow for this");
        let sum = |metric: &str| row.metrics(metric).iter().sum::<f64>() as usize;
        let (sent, refused) = (sum("requests_total"), sum("retries_refused_total"));
        assert_eq!((sent, refused), (REQUESTS + RESERVE, REQUESTS - RESERVE), "{kind:?}");
    });
}

#[test]
fn what_a_killed_place_had_is_repeated_only_where_that_is_safe_and_wanted() {
    with_each(&ALL, |kind| {
        for (keys, expect) in [("", 200), ("retry_on = []\n", 502)] {
            // One that fails on a connection that has been idle is always tried at the same place once more.
            let fresh = if kind == Kind::Workers { "" } else { "keep_idle = 0\n" };
            let keys = format!("balance = \"round-robin\"\n{STICKY}{fresh}{keys}");
            let Some(mut row) = start(kind, &keys) else { return };
            let cookies = row.cookies();
            let before = row.metrics("requests_total");
            let [mut safe, mut unsafe_] = [0, 1].map(|_| row.server.connect());
            safe.send(request("GET", &row.slow_path(2500), &[&cookies[1]], ""));
            unsafe_.send(request("POST", &row.slow_path(2500), &[&cookies[1]], "x"));
            eventually("both are in there", || row.metrics("requests_active") == [0.0, 2.0]);
            row.kill(1, &cookies[1]);
            assert_eq!(unsafe_.response("POST").status, 502, "{kind:?} {keys}: it may have had an effect");
            assert_eq!(safe.response("GET").status, expect, "{kind:?} {keys}");
            let is_repeated = expect == 200;
            assert_eq!(
                row.metric(0, "requests_total") - before[0],
                f64::from(u8::from(is_repeated)),
                "{kind:?} {keys}"
            );
            assert_eq!(row.metric(1, "retries_total"), f64::from(u8::from(is_repeated)), "{kind:?} {keys}");
            if is_repeated {
                // Who comes with its cookie is served at the other one, or by what is started anew.
                row.place_with(&cookies[1]);
            }
        }
    });
}

#[test]
fn what_finds_no_place_waits_in_a_queue_of_limited_length() {
    with_each(&ALL, |kind| {
        let keys = "balance = \"round-robin\"\nqueue_max = 1\nqueue_timeout = \"60s\"";
        let Some(row) = started(kind, keys, true) else { return };
        let begun = Instant::now();
        let mut held = [row.hold(HELD_MS).0, row.hold(HELD_MS).0];
        // One that does not wait for its turn: nobody has seen it.
        let mut leaves = row.server.connect();
        leaves.send(get(row.who_path()));
        eventually("it waits", || row.queue("requests") == 1.0);
        drop(leaves);
        eventually("it has left", || (row.queue("left_total"), row.queue("requests")) == (1.0, 0.0));
        let mut waits = row.server.connect();
        waits.send(get(row.who_path()));
        eventually("it waits", || row.queue("requests") == 1.0);
        let answer = row.server.connect().ask(get(row.who_path()));
        assert!(begun.elapsed() < Duration::from_millis(HELD_MS.into()), "the machine is too slow for this");
        assert_eq!((answer.status, answer.field("retry-after").is_some()), (503, true), "{kind:?}: it is full");
        assert_eq!((row.queue("full_total"), row.queue("timeouts_total")), (1.0, 0.0), "{kind:?}");
        assert_eq!(row.cell("BACKEND", "qcur"), "1", "{kind:?}");
        let status = row.status();
        assert_eq!((&status["queue"]["waiting"], &status["queue"]["full"]), (&1.into(), &1.into()), "{kind:?}");
        row.place_of(&waits.response("GET"));
        held.iter_mut().for_each(|client| assert_eq!(client.response("GET").text(), "slow", "{kind:?}"));
        let requests = row.metrics("requests_total");
        assert_eq!((requests[0] + requests[1], row.queue("requests")), (3.0, 0.0), "{kind:?}");
        assert_eq!(row.queue("left_total"), 1.0, "{kind:?}");
    });
}

#[test]
fn what_waits_too_long_is_refused() {
    with_each(&ALL, |kind| {
        let keys = "balance = \"round-robin\"\nqueue_timeout = \"400ms\"";
        let Some(row) = started(kind, keys, true) else { return };
        let begun = Instant::now();
        let _held = [row.hold(HELD_MS), row.hold(HELD_MS)];
        let (answer, took) = timed(|| row.server.connect().ask(get(row.who_path())));
        assert!(begun.elapsed() < Duration::from_millis(HELD_MS.into()), "the machine is too slow for this");
        assert_eq!((answer.status, answer.field("retry-after").is_some()), (503, true), "{kind:?}");
        assert!(took >= Duration::from_millis(400), "{kind:?}: {took:?}");
        assert_eq!((row.queue("full_total"), row.queue("timeouts_total")), (0.0, 1.0), "{kind:?}");
        let requests = row.metrics("requests_total");
        assert_eq!(requests[0] + requests[1], 2.0, "{kind:?}: nobody has seen it");
    });
}

#[test]
fn every_page_counts_them() {
    with_each(&ALL, |kind| {
        let Some(row) = start(kind, "balance = \"round-robin\"") else { return };
        assert_eq!(row.shares(10), [5; 2], "{kind:?}");
        let of_status = |place: usize| row.of_place(place)["meter"]["requests"].as_u64();
        let told = row.server.ctl_ok(&["show"]);
        assert!(told.contains(&format!("upstream {} (round-robin)", row.upstream())), "{kind:?}: {told}");
        // As with HAProxy, which says so of those that it does not ask.
        let state = if matches!(kind, Kind::Fpm | Kind::Remote) { "UP" } else { "no check" };
        for place in [0, 1] {
            let name = row.name(place);
            eventually("it is counted", || row.metric(place, "request_duration_seconds_count") == 5.0);
            for metric in ["requests_total", "responses_total", "first_byte_duration_seconds_count"] {
                assert_eq!(row.metric(place, metric), 5.0, "{kind:?}: {metric}");
            }
            let logged = row.logged(row.who_path(), 10);
            let is_its = |line: &&Vec<String>| line[1] == name && line[2] == "200" && line[3] == "1";
            let its = logged.iter().filter(is_its).filter(|line| line[4].parse::<f64>().is_ok());
            assert_eq!(its.count(), 5, "{kind:?} {name}: {logged:?}");
            assert!(row.metric(place, "received_bytes_total") > 0.0 && row.metric(place, "sent_bytes_total") > 0.0);
            let label = format!("proxy=\"{}\",server=\"{name}\",state=\"UP\"", row.upstream());
            assert_eq!(row.server.metric("haproxy_server_status", &label), 1.0, "{kind:?}");
            for (column, value) in [("stot", "5"), ("hrsp_2xx", "5"), ("scur", "0"), ("weight", "1"), ("status", state)]
            {
                assert_eq!(row.cell(&name, column), value, "{kind:?}: {column}");
            }
            eventually("/status has it", || of_status(place) == Some(5));
            let line = told.lines().find(|line| line.contains(&name)).unwrap_or_default();
            assert!(line.contains(" up ") && line.contains("5 requests"), "{kind:?}: {told}");
        }
        for (column, value) in [("stot", "10"), ("act", "2"), ("status", "UP"), ("algo", "roundrobin")] {
            assert_eq!(row.cell("BACKEND", column), value, "{kind:?}: {column}");
        }
        // What is under way.
        let (mut held, busy) = row.hold(3000);
        assert_eq!((row.cell(&row.name(busy), "scur"), row.metric(busy, "requests_active")), ("1".into(), 1.0));
        assert_eq!(held.response("GET").text(), "slow", "{kind:?}");
    });
}

#[test]
fn orders_by_either_protocol_are_heeded() {
    with_each(&ALL, |kind| {
        let Some(row) = start(kind, "balance = \"round-robin\"") else { return };
        let (id, name) = (row.id(1), row.name(1));
        let by_ctl = |order: &str| drop(row.server.ctl_ok(&["server", &id, order]));
        let by_haproxy = |order: &str| {
            let word = if order == "maintenance" { "maint" } else { order };
            let said = row.say(&format!("set server {id} state {word}"));
            assert_eq!(said.trim(), "", "{kind:?}");
        };
        let orders: [&dyn Fn(&str); 2] = [&by_ctl, &by_haproxy];
        for order in orders {
            for (word, shown) in [("drain", "DRAIN"), ("maintenance", "MAINT")] {
                order(word);
                assert_eq!(row.places(6), [0; 6], "{kind:?} {word}");
                assert_eq!((row.cell(&name, "status").as_str(), &row.of_place(1)["admin"]), (shown, &word.into()));
                let label = format!("server=\"{name}\",state=\"{shown}\"");
                assert_eq!(row.server.metric("haproxy_server_status", &label), 1.0, "{kind:?} {word}");
                let told = row.server.ctl_ok(&["show"]);
                assert!(told.lines().any(|line| line.contains(&name) && line.contains(word)), "{kind:?}: {told}");
            }
            order("ready");
            assert_eq!(row.shares(6), [3; 2], "{kind:?}");
        }
        row.server.ctl_ok(&["server", &id, "weight", "3"]);
        assert_eq!(row.shares(8), [2, 6], "{kind:?}");
        row.say(&format!("set server {id} weight 0"));
        assert_eq!(row.places(6), [0; 6], "{kind:?}");
        row.server.ctl_ok(&["server", &id, "weight", "config"]);
        assert_eq!(row.shares(6), [3; 2], "{kind:?}");
        // One at once.
        row.server.ctl_ok(&["server", &id, "limit", "1"]);
        assert_eq!(row.cell(&name, "slim"), "1", "{kind:?}");
        row.server.ctl_ok(&["server", &row.id(0), "maintenance"]);
        let (mut held, _) = row.hold(4000);
        let mut waits = row.server.connect();
        waits.send(get(row.who_path()));
        eventually("it waits", || row.queue("requests") == 1.0);
        assert_eq!(held.response("GET").text(), "slow", "{kind:?}");
        assert_eq!(row.place_of(&waits.response("GET")), 1, "{kind:?}");
    });
}
