//! Applications with far more clients than room, in process, as programs and as PHP: memory stays bounded, nobody is left out,
//! nothing is lost or done twice, and all is well as soon as the crowd has gone. And the end of every kind of child meanwhile, by
//! SIGKILL: it costs what was inside, and the next ones nothing.

mod support;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::apps::{BY_FD, PEERS, parent_of, python, signal};
use support::crowd::{Crowd, Kill, Outcome};
use support::*;

/// How long they come.
const TIME: Duration = Duration::from_secs(4);

/// What 150 clients may make of the server, MiB. With no bound each of them would have brought its own requests many times over.
const GROWTH_MAX: u64 = 48;

/// What 2000 requests with large bodies may, MiB: 64 is what is kept for programs, and 125 the windows of their streams.
const BODIES_GROWTH_MAX: u64 = 224;

/// A request takes so long inside.
const WORK_MS: u32 = 20;

/// Places at the programs of a test, and in their queue.
const INSIDE: usize = 8;
const LIMITS: &str = "queue_max = 16\nqueue_timeout = \"500ms\"\n";
const QUEUE: Queue = Queue { metric: "one_server_upstream_queue_requests", max: 16 };

/// They are started again at once, however often they end.
const AGAIN: &str = "backoff = \"50ms\"\nfailures_max = 1000\n";

/// Room for all of them.
const WAITING: &str = "queue_max = 256\nqueue_timeout = \"30s\"\n";

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn numbers(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).expect("they were written down");
    text.lines().map(|line| line.parse().expect("a number")).collect()
}

/// SIGKILL of `pids`, with which others end; `inside` is what all of them may have had.
fn kill(pids: &[u32], others: &[u32], inside: usize) -> Kill {
    let begun = Instant::now();
    pids.iter().for_each(|pid| signal(*pid, Signal::KILL));
    apps::eventually_gone(&[pids, others].concat());
    Kill { begun, ended: Instant::now(), inside }
}

/// What somebody saw who asks all the time, one after the other.
#[derive(Default)]
struct Patient {
    answers: usize,
    longest: Duration,
}

/// Asks from the address `source` until `stop`.
fn keep_asking(server: &Server, source: &str, request: &str, stop: &AtomicBool) -> Patient {
    let (mut seen, mut client) = (Patient::default(), Client::connect_from(source, server.web()));
    while !stop.load(Ordering::Relaxed) {
        let (answer, took) = client::timed(|| client.ask(request));
        // 502: whoever had it was killed.
        assert!([200, 502, 503].contains(&answer.status), "{}", answer.status);
        seen.answers += usize::from(answer.status == 200);
        seen.longest = seen.longest.max(took);
        if answer.is_last() {
            client = Client::connect_from(source, server.web());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    seen
}

/// The most that waited, by this metric, until `stop`.
fn longest_queue(server: &Server, metric: &str, stop: &AtomicBool) -> usize {
    let mut most = 0;
    while !stop.load(Ordering::Relaxed) {
        most = most.max(server.metric(metric, "") as usize);
        std::thread::sleep(Duration::from_millis(20));
    }
    most
}

/// A queue, and its length.
struct Queue {
    metric: &'static str,
    max: usize,
}

/// The crowd comes for [`TIME`] while others ask, `work` is done, and then it is gone.
fn soak(server: &Server, crowd: Crowd, single: &str, queue: &Queue, work: impl FnOnce()) -> Outcome {
    let (before, _) = server.resident_mib();
    let stop = AtomicBool::new(false);
    let (outcome, of_single, beside, waited) = std::thread::scope(|scope| {
        let waited = scope.spawn(|| longest_queue(server, queue.metric, &stop));
        let of_single = scope.spawn(|| keep_asking(server, "127.0.0.9", single, &stop));
        let beside = scope.spawn(|| keep_asking(server, "127.0.0.1", &get("/beside"), &stop));
        let begin = Instant::now();
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            crowd.during(server, || {
                work();
                std::thread::sleep(TIME.saturating_sub(begin.elapsed()));
            })
        }));
        stop.store(true, Ordering::Relaxed);
        let outcome = end.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let waited = waited.join().expect("a look");
        (outcome, of_single.join().expect("a client"), beside.join().expect("a client"), waited)
    });
    // The numbers of data workers are read one after the other, while requests come and go.
    assert!((1..=queue.max * 2).contains(&waited), "{waited} waited, and {} may", queue.max);
    let (_, peak) = server.resident_mib();
    assert!(peak - before < GROWTH_MAX, "{before} MiB before, {peak} MiB at most");
    let Patient { answers, longest } = beside;
    assert!(answers >= 20 && longest < Duration::from_secs(2), "the site beside: {answers} answers, {longest:?}");
    assert!(of_single.answers >= 3, "one among the crowd was left out: {} answers", of_single.answers);
    assert!(outcome.answered.len() > 40, "{} answers", outcome.answered.len());
    assert_recovered(server, single, queue);
    let (_, middle, most) = spread(&outcome.shares);
    // Whoever is served asks again at once, just when a place has become free: luck comes in runs.
    assert!(most <= 8 * middle.max(4), "{middle} for most, {most} for one");
    eprintln!("{middle} for most, {most} for one");
    eprintln!(
        "{} answered, {} refused, {} failed, {} left; {waited} waited; {before} to {peak} MiB",
        outcome.answered.len(),
        outcome.refused.len(),
        outcome.failed.len(),
        outcome.left.len()
    );
    outcome
}

/// The crowd has just gone: the next hundred, ten at once, are served and soon, and then nothing waits or is under way.
fn assert_recovered(server: &Server, single: &str, queue: &Queue) {
    let times = Mutex::new(Vec::new());
    let ask_ten = || {
        let mut client = server.connect();
        for _ in 0..10 {
            let (answer, took) = client::timed(|| client.ask(single));
            assert_eq!(answer.status, 200, "it has recovered");
            times.lock().expect("a lock").push(took);
        }
    };
    std::thread::scope(|scope| (0..10).for_each(|_| drop(scope.spawn(ask_ten))));
    let mut times = times.into_inner().expect("a lock");
    times.sort_unstable();
    assert!(times.len() == 100 && times[98] < Duration::from_millis(500), "{times:?}");
    let (_, took) = client::timed(|| {
        eventually("nothing waits or is under way", || {
            [queue.metric, "one_server_upstream_requests_active"].map(|metric| server.metric(metric, "")) == [0.0; 2]
        });
    });
    assert!(took < Duration::from_secs(2), "{took:?}");
    eprintln!("the next ones took {:?}, {:?} at most", times[50], times[99]);
}

/// Where there is room for all to wait, they are served in turn, whichever data worker they are at.
fn assert_served_in_turn(server: &Server, ask: fn(u64) -> (String, String)) {
    let crowd = Crowd { clients: 60, gives_up: false, ask };
    let outcome = crowd.during(server, || std::thread::sleep(TIME));
    assert!(outcome.refused.is_empty() && outcome.failed.is_empty(), "{outcome:?}");
    outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    let (least, middle, most) = spread(&outcome.shares);
    assert!(middle >= 4, "the machine is too slow for this: {:?}", outcome.shares);
    assert!(2 * least >= middle && most <= 2 * middle, "{least}, {middle}, {most} of {:?}", outcome.shares);
}

/// The least, the middle one and the most.
fn spread(shares: &[usize]) -> (usize, usize, usize) {
    let mut shares = shares.to_vec();
    shares.sort_unstable();
    (shares[0], shares[shares.len() / 2], shares[shares.len() - 1])
}

/// Where many are refused, it is by chance who is: all who ask at the same pace are answered, and none of them gets the places of
/// many others.
fn assert_refused_by_chance(server: &Server, ask: fn(u64) -> (String, String)) {
    const CLIENTS: usize = 100;
    let crowd = Crowd { clients: CLIENTS, gives_up: false, ask };
    let done = || std::fs::read_to_string(server.folder().join("ledger")).unwrap_or_default().lines().count();
    let outcome = crowd.during_at_one_pace(server, || {
        eventually("there are enough to tell chance from preference", || done() >= 10 * CLIENTS);
    });
    assert!(outcome.failed.is_empty(), "{outcome:?}");
    assert!(5 * outcome.refused.len() > outcome.answered.len(), "that was no crowd: {outcome:?}");
    let (least, middle, most) = spread(&outcome.shares);
    eprintln!("{least} for one, {middle} for most, {most} for one; {} refused", outcome.refused.len());
    assert!(least >= 1 && most <= 3 * middle, "{least}, {middle}, {most} of {:?}", outcome.shares);
}

/// Requests with bodies, 2000 at the same time on 20 connections of HTTP/2. All together they have 1.9 GB, of which a server with
/// one data worker holds as good as nothing: what waits is neither read nor kept without end, and what is refused is forgotten.
fn assert_bodies_do_not_pile_up(server: &Server, path: &str) {
    const REQUESTS: usize = 2000;
    // Whoever is asked for the first time may take more than it needs later.
    assert_eq!(server.connect().ask(post(path, "x")).status, 200);
    let (before, _) = server.resident_mib();
    let (served, refused) = upload(server, path, [20, REQUESTS], 950_000);
    assert!(served > 0 && refused > 0 && served + refused == REQUESTS, "{served} served, {refused} refused");
    let (_, peak) = server.resident_mib();
    eprintln!("{served} served, {refused} refused; {before} to {peak} MiB");
    assert!(peak - before < BODIES_GROWTH_MAX, "{before} MiB before, {peak} MiB at most");
    eventually("it has recovered", || server.connect().ask(post(path, "x")).status == 200);
}

/// How many uploads of so many bytes are served, and how many are refused, on so many connections of HTTP/2 with 100 at a time each.
fn upload(server: &Server, path: &str, [connections, requests]: [usize; 2], bytes: usize) -> (usize, usize) {
    let body = server.folder().join("body");
    std::fs::write(&body, pattern(bytes)).expect("a file");
    let output = std::process::Command::new("timeout")
        .args(["100", "h2load", "-m", "100", "-c", &connections.to_string(), "-n", &requests.to_string(), "-d"])
        .arg(&body)
        .arg(format!("http://{}{path}", server.web()))
        .output()
        .expect("h2load");
    let told = String::from_utf8_lossy(&output.stdout);
    let line = told.lines().find_map(|line| line.strip_prefix("status codes: ")).unwrap_or_else(|| panic!("{told}"));
    let of_class = |class: &str| -> usize {
        let part = line.split(", ").find_map(|part| part.strip_suffix(class)).expect("a number");
        part.trim().parse().expect("a number")
    };
    (of_class("2xx"), of_class("5xx"))
}

mod in_process {
    use super::*;

    const SITE: &str = "[site.main]\nroute = [{ path = \"/\", app = \"probe\" }, { path = \"/beside\", respond = { body = \"beside\" } }]\n\
                        [app.probe]\n";

    /// Half of them hold a place for a while.
    fn ask(id: u64) -> (String, String) {
        let ms = if id.is_multiple_of(2) { WORK_MS } else { 0 };
        (post(&format!("/ledger?id={id}&ms={ms}"), "content"), id.to_string())
    }

    const QUEUE: Queue = Queue { metric: "one_server_app_worker_queue_depth", max: 16 };

    fn start(driver: Driver) -> Server {
        let limits = "app_queue = 16\napp_concurrency = 8\napp_queue_timeout = \"50ms\"";
        Site::probe(driver, SITE).one_worker().process(limits).start()
    }

    fn worker(server: &Server, name: &str) -> usize {
        server.metric(&format!("one_server_app_worker_{name}"), "") as usize
    }

    #[test]
    fn a_crowd_is_served_as_far_as_there_is_room() {
        let server = start(Driver::Auto);
        let crowd = Crowd { clients: 150, gives_up: false, ask };
        let outcome = soak(&server, crowd, &get("/size"), &QUEUE, || {});
        assert!(!outcome.refused.is_empty() && outcome.failed.is_empty(), "that was no crowd");
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
        // All that ran are answered, those of the single client as well, and nothing else has run.
        eventually("nothing runs", || worker(&server, "running") == 0);
        let (ran, of_app) =
            (worker(&server, "requests_total"), |name| server.metric(&format!("one_server_app_{name}"), "") as usize);
        let (asked, refused) = (of_app("requests_total"), of_app("refused_total"));
        assert_eq!(ran, asked - refused, "{asked} were asked, {refused} refused");
        assert!(refused >= outcome.refused.len() && ran >= outcome.answered.len());
        assert_eq!(worker(&server, "lost_wakeups_total"), 0);
    }

    #[test]
    fn nobody_is_left_out_while_many_are_refused() {
        assert_refused_by_chance(&start(Driver::Auto), |id| {
            (post(&format!("/ledger?id={id}&ms={WORK_MS}"), "content"), id.to_string())
        });
    }

    #[test]
    fn nobody_gets_less_than_others_while_all_wait() {
        let limits = "app_queue = 256\napp_concurrency = 4\napp_queue_timeout = \"30s\"\napp_cores = \"0\"";
        let server = Site::probe(Driver::Auto, SITE).process(limits).start();
        assert_served_in_turn(&server, |id| (post(&format!("/ledger?id={id}&ms={WORK_MS}"), ""), id.to_string()));
    }

    #[test]
    fn bodies_do_not_pile_up() {
        if !has_program("h2load") {
            return;
        }
        let limits = "app_queue = 4\napp_concurrency = 4\napp_queue_timeout = \"50ms\"";
        let server = Site::probe(Driver::Auto, SITE).one_worker().process(limits).start();
        assert_bodies_do_not_pile_up(&server, "/ledger?id=1&ms=20");
    }

    /// What waits for a place holds as much of its connection's window as its stream may: there is as much for the others.
    #[test]
    fn uploads_that_wait_keep_no_window_from_those_that_are_served() {
        if !has_program("h2load") {
            return;
        }
        with_both_drivers(|driver| {
            let limits = "app_queue = 128\napp_concurrency = 8\napp_queue_timeout = \"30s\"";
            let server = Site::probe(driver, SITE).one_worker().process(limits).start();
            assert_eq!(upload(&server, "/size", [1, 200], 256 << 10), (200, 0), "{driver:?}");
        });
    }

    #[test]
    fn a_crowd_some_of_whom_leave_costs_nothing_when_workers_fail() {
        with_both_drivers(|driver| {
            let server = start(driver);
            let crowd = Crowd { clients: 150, gives_up: true, ask };
            let mut ends = Vec::new();
            let outcome = soak(&server, crowd, &get("/size"), &QUEUE, || {
                for n in 1..=4 {
                    std::thread::sleep(TIME / 8);
                    let (begun, before) = (Instant::now(), worker(&server, "restarts_total"));
                    eventually("the worker has failed", || {
                        // There may be no room for that, either.
                        server.connect().ask(get("/fail"));
                        worker(&server, "restarts_total") >= n
                    });
                    let inside = 8 * (worker(&server, "restarts_total") - before).max(1);
                    ends.push(Kill { begun, ended: Instant::now(), inside });
                }
            });
            outcome.assert_only_inside_failed(&ends);
            outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
            assert_eq!(worker(&server, "lost_wakeups_total"), 0);
            eventually("nothing is left", || {
                worker(&server, "running") == 0 && server.metric("one_server_app_requests_active", "") == 0.0
            });
        });
    }
}

mod programs {
    use super::*;

    fn start(lines: &str) -> Server {
        start_with(&format!("{LIMITS}{lines}"))
    }

    fn start_with(lines: &str) -> Server {
        site(lines).start()
    }

    fn site(lines: &str) -> Site {
        let table = format!("{BY_FD}{lines}").replace("$PEERS", PEERS).replace("$PYTHON", python());
        let site = format!(
            "[app.shop]\ntype = \"process\"\ninstances = 2\nrequests_max = {}\nenvironment = {{ LEDGER = \"$DIR/ledger\" }}\n{table}\
             [site.main]\nroute = [{{ path = \"/\", app = \"shop\" }}, {{ path = \"/beside\", respond = {{ body = \"beside\" }} }}]\n",
            INSIDE / 2
        );
        Site::new(Driver::Auto, &site).process("control = \"$DIR/ctl.sock\"")
    }

    fn crowd() -> Crowd {
        let ask = |id: u64| (post(&format!("/ledger/{id}.{WORK_MS}"), ""), id.to_string());
        Crowd { clients: 150, gives_up: true, ask }
    }

    /// The processes of both instances, once they are ready.
    fn both(server: &Server) -> Vec<u32> {
        let mut pids = Vec::new();
        eventually("both are ready", || {
            pids = apps::pids(server);
            pids.len() == 2
        });
        pids
    }

    #[test]
    fn a_crowd_is_served_as_far_as_there_is_room() {
        let server = start("");
        let outcome = soak(&server, crowd(), &get("/"), &QUEUE, || {});
        assert!(!outcome.refused.is_empty() && outcome.failed.is_empty(), "{} failed", outcome.failed.len());
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    }

    #[test]
    fn instances_and_their_keeper_that_are_killed_cost_what_is_in_them() {
        let (server, mut kills) = (start(AGAIN), Vec::new());
        let outcome = soak(&server, crowd(), &get("/"), &QUEUE, || {
            for _ in 0..3 {
                // The kernel closes its connections one after the other: places that become free may be taken in that moment.
                kills.push(kill(&both(&server)[..1], &[], INSIDE));
                std::thread::sleep(TIME / 8);
            }
            let pids = both(&server);
            kills.push(kill(&[parent_of(pids[0])], &pids, 2 * INSIDE));
            server.wait_for_line("it is told", |line| line.contains("the keeper of programs has ended"));
            both(&server);
        });
        outcome.assert_only_inside_failed(&kills);
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    }

    #[test]
    fn nobody_is_left_out_while_many_are_refused() {
        assert_refused_by_chance(&start(""), crowd().ask);
    }

    #[test]
    fn nobody_gets_less_than_others_while_all_wait() {
        assert_served_in_turn(&start_with(WAITING), crowd().ask);
    }

    #[test]
    fn bodies_do_not_pile_up() {
        if has_program("h2load") {
            assert_bodies_do_not_pile_up(&site(LIMITS).one_worker().start(), "/ledger/1.20");
        }
    }

    /// Programs have nobody then who looks after them: they end, and others are started by others.
    #[test]
    fn a_warden_and_a_keeper_that_are_killed_together_cost_what_is_in_their_programs() {
        let (server, mut kills) = (start(AGAIN), Vec::new());
        let outcome = soak(&server, crowd(), &get("/"), &QUEUE, || {
            for _ in 0..2 {
                std::thread::sleep(TIME / 8);
                let pids = both(&server);
                let keeper = parent_of(pids[0]);
                kills.push(kill(&[parent_of(keeper), keeper], &pids, 2 * INSIDE));
                eventually("others are started", || both(&server).iter().all(|pid| !pids.contains(pid)));
            }
        });
        outcome.assert_only_inside_failed(&kills);
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    }

    /// It has nothing to do but to be there, and programs go on without it.
    #[test]
    fn a_warden_that_is_killed_costs_nothing() {
        let server = start("");
        let outcome = soak(&server, crowd(), &get("/"), &QUEUE, || {
            let before = apps::pids(&server);
            std::thread::sleep(TIME / 4);
            signal(parent_of(parent_of(before[0])), Signal::KILL);
            server.wait_for_line("it is told", |line| line.contains("the warden of programs has been killed"));
            std::thread::sleep(TIME / 4);
            assert_eq!(apps::pids(&server), before);
        });
        assert!(outcome.failed.is_empty(), "{} failed", outcome.failed.len());
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    }

    /// Its workers have one request each.
    #[test]
    fn workers_of_gunicorn_and_their_master_that_are_killed_cost_what_is_in_them() {
        const WORKERS: usize = 2;
        if !has_program("gunicorn") {
            return;
        }
        let table = format!(
            "[app.shop]\ntype = \"process\"\ncommand = [\"gunicorn\", \"--workers\", \"{WORKERS}\", \"--chdir\", \"{PEERS}\", \
             \"wsgi_app:application\"]\nlisten = \"fd\"\nready_path = \"/status?code=204\"\nrequests_max = {WORKERS}\n\
             environment = {{ LEDGER = \"$DIR/ledger\", PYTHONDONTWRITEBYTECODE = \"1\" }}\nbackoff = \"50ms\"\n{LIMITS}\
             [site.main]\nroute = [{{ path = \"/\", app = \"shop\" }}, {{ path = \"/beside\", respond = {{ body = \"beside\" }} }}]\n"
        );
        let server = Site::new(Driver::Auto, &table).process("control = \"$DIR/ctl.sock\"").start();
        let ask = |id: u64| (post(&format!("/ledger?id={id}&ms={WORK_MS}"), ""), id.to_string());
        let crowd = Crowd { clients: 60, gives_up: true, ask };
        let mut kills = Vec::new();
        let outcome = soak(&server, crowd, &get("/status?code=200"), &QUEUE, || {
            let master = apps::pids(&server)[0];
            for _ in 0..3 {
                eventually("all workers are there", || children(master).len() == WORKERS);
                kills.push(kill(&children(master)[..1], &[], 1));
                std::thread::sleep(TIME / 8);
            }
            // One in each worker, and those that come while the master's last ones end.
            kills.push(kill(&[master], &children(master), 2 * WORKERS + 2));
            eventually("another one serves", || apps::pids(&server).first().is_some_and(|pid| *pid != master));
        });
        outcome.assert_only_inside_failed(&kills);
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    }
}

mod php {
    use super::*;

    const LEDGER: &str = "<?php file_put_contents(__DIR__ . '/../ledger', $_GET['id'] . \"\\n\", FILE_APPEND | LOCK_EX); \
                          usleep(1000 * (int) $_GET['ms']); echo $_GET['id'];";

    /// `None`, and said so: php-fpm is not installed.
    fn start(lines: &str) -> Option<Server> {
        start_with(&format!("{LIMITS}{lines}"))
    }

    fn start_with(lines: &str) -> Option<Server> {
        Some(site(lines)?.start())
    }

    fn site(lines: &str) -> Option<Site> {
        support::php::program()?;
        let site = format!(
            "[app.shop]\ntype = \"php\"\nworkers = {INSIDE}\n{lines}\
             [site.main]\nroute = [{{ path = \"/\", app = \"shop\", cgi = \"$DIR/www\" }}, \
             {{ path = \"/beside\", respond = {{ body = \"beside\" }} }}]\n"
        );
        let site = Site::new(Driver::Auto, &site).process("control = \"$DIR/ctl.sock\"");
        let site = site.file("www/ledger.php", LEDGER.as_bytes()).file("www/index.php", b"<?php echo 'here';");
        Some(site)
    }

    fn crowd() -> Crowd {
        let ask = |id: u64| (post(&format!("/ledger.php?id={id}&ms={WORK_MS}"), ""), id.to_string());
        Crowd { clients: 150, gives_up: true, ask }
    }

    #[test]
    fn a_crowd_is_served_as_far_as_there_is_room() {
        let Some(server) = start("") else { return };
        let outcome = soak(&server, crowd(), &get("/"), &QUEUE, || {});
        assert!(!outcome.refused.is_empty() && outcome.failed.is_empty(), "{} failed", outcome.failed.len());
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    }

    #[test]
    fn nobody_is_left_out_while_many_are_refused() {
        let Some(server) = start("") else { return };
        assert_refused_by_chance(&server, crowd().ask);
    }

    #[test]
    fn nobody_gets_less_than_others_while_all_wait() {
        let Some(server) = start_with(WAITING) else { return };
        assert_served_in_turn(&server, crowd().ask);
    }

    /// Scripts get all of a body, which is kept for them, as long as there are not too many.
    #[test]
    fn bodies_do_not_pile_up() {
        if !has_program("h2load") {
            return;
        }
        let Some(site) = site(LIMITS) else { return };
        assert_bodies_do_not_pile_up(&site.one_worker().start(), "/ledger.php?id=1&ms=20");
    }

    #[test]
    fn workers_and_their_leader_that_are_killed_cost_what_is_in_them() {
        let Some(server) = start(AGAIN) else { return };
        let mut kills = Vec::new();
        let outcome = soak(&server, crowd(), &get("/"), &QUEUE, || {
            let leader = apps::pids(&server)[0];
            for _ in 0..3 {
                eventually("all workers are there", || children(leader).len() == INSIDE + 1);
                kills.push(kill(&children(leader)[..1], &[], 1));
                std::thread::sleep(TIME / 8);
            }
            // Workers end one after the other, and those that are left take what comes in these milliseconds.
            kills.push(kill(&[leader], &children(leader), 2 * INSIDE));
            eventually("another one serves", || apps::pids(&server).first().is_some_and(|pid| *pid != leader));
        });
        outcome.assert_only_inside_failed(&kills);
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    }
}
