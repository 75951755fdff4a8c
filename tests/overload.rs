//! Applications with far more clients than room, in process, as programs and as PHP: memory stays bounded, nobody is left out,
//! nothing is lost or done twice, and all is well as soon as the crowd has gone. And the end of every kind of child meanwhile, by
//! SIGKILL: it costs what was inside.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::apps::{BY_FD, PEERS, parent_of, python, signal};
use support::crowd::{Crowd, Outcome};
use support::*;

/// How long they come.
const TIME: Duration = Duration::from_secs(4);

/// What 150 clients may make of the server, MiB. With no bound each of them would have brought its own requests many times over.
const GROWTH_MAX: u64 = 48;

/// A request takes so long inside.
const WORK_MS: u32 = 20;

/// Places at the programs of a test, and in their queue.
const INSIDE: usize = 8;
const LIMITS: &str = "queue_max = 16\nqueue_timeout = \"500ms\"\n";

fn numbers(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).expect("they were written down");
    text.lines().map(|line| line.parse().expect("a number")).collect()
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

/// The crowd comes for [`TIME`] while others ask, `work` is done, and then it is gone.
fn soak(server: &Server, crowd: Crowd, single: &str, work: impl FnOnce()) -> Outcome {
    let (before, _) = server.resident_mib();
    let stop = AtomicBool::new(false);
    let (outcome, of_single, beside) = std::thread::scope(|scope| {
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
        (outcome, of_single.join().expect("a client"), beside.join().expect("a client"))
    });
    let (_, peak) = server.resident_mib();
    assert!(peak - before < GROWTH_MAX, "{before} MiB before, {peak} MiB at most");
    let Patient { answers, longest } = beside;
    assert!(answers >= 20 && longest < Duration::from_secs(2), "the site beside: {answers} answers, {longest:?}");
    assert!(of_single.answers >= 3, "one among the crowd was left out: {} answers", of_single.answers);
    assert!(outcome.answered.len() > 100, "{} answers", outcome.answered.len());
    // All at once, and it has room for a few.
    let (_, took) = client::timed(|| assert_eq!(server.connect().ask(single).status, 200, "it has recovered"));
    assert!(took < Duration::from_secs(2), "{took:?}");
    eprintln!(
        "{} answered, {} refused, {} failed, {} left; {before} to {peak} MiB",
        outcome.answered.len(),
        outcome.refused.len(),
        outcome.failed.len(),
        outcome.left.len()
    );
    outcome
}

mod in_process {
    use super::*;

    const SITE: &str = "[site.main]\nroute = [{ path = \"/\", app = \"probe\" }, { path = \"/beside\", respond = { body = \"beside\" } }]\n\
                        [app.probe]\n";

    /// Half of them hold a place for a while.
    fn ask(id: u64) -> (String, String) {
        match id % 2 {
            0 => (post(&format!("/slow?ms={WORK_MS}"), &id.to_string()), "slow".into()),
            _ => (post("/echo", &id.to_string()), id.to_string()),
        }
    }

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
        let outcome = soak(&server, crowd, &get("/size"), || {});
        assert!(!outcome.refused.is_empty(), "that was no crowd");
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
    fn a_crowd_some_of_whom_leave_costs_nothing_when_workers_fail() {
        with_both_drivers(|driver| {
            let server = start(driver);
            let crowd = Crowd { clients: 150, gives_up: true, ask };
            let failures = 4;
            let outcome = soak(&server, crowd, &get("/size"), || {
                for n in 1..=failures {
                    std::thread::sleep(TIME / 8);
                    eventually("the worker has failed", || {
                        // There may be no room for that, either.
                        server.connect().ask(get("/fail"));
                        worker(&server, "restarts_total") >= n
                    });
                }
            });
            let restarts = worker(&server, "restarts_total");
            assert!(
                outcome.failed.len() <= restarts * 8,
                "{} failed, {restarts} times 8 were inside",
                outcome.failed.len()
            );
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
        let table = format!("{BY_FD}{LIMITS}{lines}").replace("$PEERS", PEERS).replace("$PYTHON", python());
        let site = format!(
            "[app.shop]\ntype = \"process\"\ninstances = 2\nrequests_max = {}\nenvironment = {{ LEDGER = \"$DIR/ledger\" }}\n{table}\
             [site.main]\nroute = [{{ path = \"/\", app = \"shop\" }}, {{ path = \"/beside\", respond = {{ body = \"beside\" }} }}]\n",
            INSIDE / 2
        );
        Site::new(Driver::Auto, &site).process("control = \"$DIR/ctl.sock\"").start()
    }

    fn crowd() -> Crowd {
        let ask = |id: u64| (post(&format!("/ledger/{id}.{WORK_MS}"), ""), id.to_string());
        Crowd { clients: 150, gives_up: true, ask }
    }

    #[test]
    fn a_crowd_is_served_as_far_as_there_is_room() {
        let server = start("");
        let outcome = soak(&server, crowd(), &get("/"), || {});
        assert!(!outcome.refused.is_empty() && outcome.failed.is_empty(), "{} failed", outcome.failed.len());
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    }

    #[test]
    fn instances_and_their_keeper_that_are_killed_cost_what_is_in_them() {
        let server = start("backoff = \"50ms\"\nfailures_max = 1000\n");
        let outcome = soak(&server, crowd(), &get("/"), || {
            for _ in 0..3 {
                eventually("both are ready", || apps::pids(&server).len() == 2);
                signal(apps::pids(&server)[0], Signal::KILL);
                std::thread::sleep(TIME / 8);
            }
            eventually("both are ready", || apps::pids(&server).len() == 2);
            signal(parent_of(apps::pids(&server)[0]), Signal::KILL);
            server.wait_for_line("it is told", |line| line.contains("the keeper of programs has ended"));
            eventually("others are", || apps::pids(&server).len() == 2);
        });
        // A place that becomes free while the last ones of an instance end may be taken in that moment.
        let inside = 3 * (INSIDE / 2 + 2) + 2 * INSIDE;
        assert!(outcome.failed.len() <= inside, "{} failed, {inside} were inside", outcome.failed.len());
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    }
}

mod php {
    use super::*;

    const LEDGER: &str = "<?php file_put_contents(__DIR__ . '/../ledger', $_GET['id'] . \"\\n\", FILE_APPEND | LOCK_EX); \
                          usleep(1000 * (int) $_GET['ms']); echo $_GET['id'];";

    /// `None`, and said so: php-fpm is not installed.
    fn start(lines: &str) -> Option<Server> {
        support::php::program()?;
        let site = format!(
            "[app.shop]\ntype = \"php\"\nworkers = {INSIDE}\n{LIMITS}{lines}\
             [site.main]\nroute = [{{ path = \"/\", app = \"shop\", cgi = \"$DIR/www\" }}, \
             {{ path = \"/beside\", respond = {{ body = \"beside\" }} }}]\n"
        );
        let site = Site::new(Driver::Auto, &site).process("control = \"$DIR/ctl.sock\"");
        let site = site.file("www/ledger.php", LEDGER.as_bytes()).file("www/index.php", b"<?php echo 'here';");
        Some(site.start())
    }

    fn crowd() -> Crowd {
        let ask = |id: u64| (post(&format!("/ledger.php?id={id}&ms={WORK_MS}"), ""), id.to_string());
        Crowd { clients: 150, gives_up: true, ask }
    }

    fn children(pid: u32) -> Vec<u32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    #[test]
    fn a_crowd_is_served_as_far_as_there_is_room() {
        let Some(server) = start("") else { return };
        let outcome = soak(&server, crowd(), &get("/"), || {});
        assert!(!outcome.refused.is_empty() && outcome.failed.is_empty(), "{} failed", outcome.failed.len());
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    }

    #[test]
    fn workers_and_their_leader_that_are_killed_cost_what_is_in_them() {
        let Some(server) = start("backoff = \"50ms\"\nfailures_max = 1000\n") else { return };
        let outcome = soak(&server, crowd(), &get("/"), || {
            let leader = apps::pids(&server)[0];
            for _ in 0..3 {
                eventually("all workers are there", || children(leader).len() == INSIDE + 1);
                signal(children(leader)[0], Signal::KILL);
                std::thread::sleep(TIME / 8);
            }
            signal(leader, Signal::KILL);
            eventually("another one serves", || apps::pids(&server).first().is_some_and(|pid| *pid != leader));
        });
        // Workers end one after the other, and those that are left take what comes in these milliseconds.
        let inside = 3 * 2 + 2 * INSIDE;
        assert!(outcome.failed.len() <= inside, "{} failed, {inside} were inside", outcome.failed.len());
        outcome.assert_none_lost_or_doubled(&numbers(&server.folder().join("ledger")));
    }
}
