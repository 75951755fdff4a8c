//! php-fpm as an application: started with a config that is written for it, watched, replaced and limited by the real binary. It
//! is the php-fpm of the machine.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use support::apps::{BY_FD, PEERS, eventually_gone, parent_of, pids as leaders, python, shop as state, signal, text};
use support::crowd::Crowd;
use support::load::under_load;
use support::php;
use support::server::has_ended;
use support::*;

const HERE: &str = "<?php echo 'here';";

/// What PHP was told, and who it is.
const TOLD: &str = "<?php echo ini_get('memory_limit'), '|', ini_get('date.timezone'), '|', ini_get('opcache.enable'), '|', \
                    getenv('APP_ENV'), '|', getenv('PATH') !== false, '|', posix_geteuid(), '|', getmypid();";

/// Takes its time, and says so in the log.
const SLOW: &str = "<?php error_log('begun ' . $_SERVER['REQUEST_METHOD'] . ' ' . getmypid() . '.'); \
                    usleep(1000 * (int) $_GET['ms']); echo getmypid();";

/// Goes on behind its answer, for as long as it is told.
const LATER: &str =
    "<?php echo getmypid(); fastcgi_finish_request(); usleep(1000 * (int) $_GET['ms']); error_log('done at last');";

/// Notes each token that it gets, and looks at the body only if it is told to.
const NOTE: &str = "<?php file_put_contents(__DIR__ . '/notes', $_GET['token'] . \"\\n\", FILE_APPEND | LOCK_EX); \
                    echo empty($_GET['read']) ? '' : strlen(file_get_contents('php://input'));";

/// Notes its number, with which it answers when it has read all that came.
const LEDGER: &str = "<?php file_put_contents(__DIR__ . '/ledger', $_GET['id'] . \"\\n\", FILE_APPEND | LOCK_EX); usleep(3000); \
                      echo strlen(file_get_contents('php://input')) === (int) $_SERVER['CONTENT_LENGTH'] ? $_GET['id'] : 'a part';";

/// Runs until it may end, and says when it has begun.
const HOLD: &str = "<?php error_log('held'); \
                    while (!file_exists(__DIR__ . '/go')) { usleep(5000); clearstatcache(); } echo 'held';";

/// Says nothing for a while, then one thing after the other for half a minute, unless nobody listens; notes whether that was why.
const TALK: &str = "<?php register_shutdown_function(function () { file_put_contents(__DIR__ . '/ended', \
                    $_GET['token'] . ' ' . connection_aborted() . \"\\n\", FILE_APPEND | LOCK_EX); }); \
                    error_log('begun ' . $_GET['token'] . '.'); usleep(1000 * (int) $_GET['ms']); \
                    for ($i = 0; $i < 1500; $i++) { echo str_repeat('x', 10000); flush(); usleep(20000); }";

/// Complains by its own name, and ends badly if it is told to.
const GRUMBLE: &str = "<?php error_log('of ' . $_GET['name']); usleep(1000 * (int) $_GET['ms']); \
                       trigger_error('once more of ' . $_GET['name'], E_USER_WARNING); \
                       if (!empty($_GET['fatal'])) undefined_function(); echo getmypid();";

/// A site of PHP alone; `lines` are what its table says beside the type. `None`, and said so: php-fpm is not installed.
fn blog(lines: &str) -> Option<Site> {
    php::program()?;
    let rest = format!(
        "[app.blog]\ntype = \"php\"\n{lines}\n\
         [site.main]\nroute = [{{ path = \"/\", app = \"blog\", cgi = \"$DIR/www\" }}]\n"
    );
    let site = Site::new(Driver::Auto, &rest).process("control = \"$DIR/ctl.sock\"").process("drain_timeout = \"10s\"");
    let scripts = [
        ("index", HERE),
        ("told", TOLD),
        ("slow", SLOW),
        ("later", LATER),
        ("note", NOTE),
        ("ledger", LEDGER),
        ("hold", HOLD),
        ("talk", TALK),
        ("grumble", GRUMBLE),
    ];
    Some(scripts.iter().fold(site, |site, (name, text)| site.file(&format!("www/{name}.php"), text.as_bytes())))
}

fn workers(leader: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{leader}/task/{leader}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn scripts_are_served_by_a_php_that_is_told_what_the_config_says() {
    let lines = "workers = 3\nmemory_limit = \"48MiB\"\nenvironment = { APP_ENV = \"of {instance}\" }\n\
                 ini = { \"date.timezone\" = \"Europe/Vienna\", \"opcache.enable\" = false }";
    let Some(site) = blog(lines) else { return };
    let mut server = site.start();
    // No pause: nobody is let in before it can be served.
    assert_eq!(text(&server, "/"), "here");
    if rustix::process::geteuid().is_root() {
        server.wait_for_line("it is told", |line| line.contains(" warn PHP runs as root"));
    }
    let told = text(&server, "/told.php");
    assert!(told.starts_with("50331648|Europe/Vienna|0|of 0|1|"), "{told}");
    let leader = leaders(&server)[0];
    let worker: u32 = told.rsplit('|').next().and_then(|pid| pid.parse().ok()).expect("a number");
    eventually("all are there, and one is left for checks", || workers(leader).len() == 4);
    let all = workers(leader);
    assert!(all.contains(&worker), "{all:?}, {worker}");
    let answer = server.connect().ask(post("/slow.php?ms=0", "x"));
    assert_eq!(answer.status, 200);
    server.wait_for_line("the script's own words", |line| line.contains("begun POST"));
    server.wait_for_line("those of php-fpm", |line| {
        line.contains("app=blog") && line.contains("ready to handle connections")
    });
    let shown = server.ctl_ok(&["app", "show"]);
    assert!(shown.starts_with("app blog (ready, 1 of 1 ready)\n"), "{shown}");
    assert!(state(&server)["command"].as_str().is_some_and(|command| command.contains("php-fpm")));
    assert_eq!(server.metric("one_server_process_instances", "app=\"blog\",state=\"ready\""), 1.0);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(all.iter().chain([&leader]).all(|pid| has_ended(*pid)), "none is left when the server has ended");
}

#[test]
fn more_requests_than_workers_wait_with_us() {
    let Some(site) = blog("workers = 2\nqueue_timeout = \"30s\"") else { return };
    let server = site.start();
    let leader = leaders(&server)[0];
    let begun = Instant::now();
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let ask = || server.connect().ask(get("/slow.php?ms=500")).status;
        let asked: Vec<_> = (0..6).map(|_| scope.spawn(ask)).collect();
        eventually("four wait", || server.metric("one_server_upstream_queue_requests", "") >= 4.0);
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    });
    assert_eq!(answers, [200; 6]);
    assert!(begun.elapsed() >= Duration::from_millis(1500), "two at once: {:?}", begun.elapsed());
    assert_eq!(leaders(&server), [leader]);
}

fn reuses(server: &Server) -> f64 {
    server.metric("one_server_upstream_reuses_total", "upstream=\"app:blog\"")
}

#[test]
fn connections_are_kept_and_a_script_that_goes_on_behind_its_answer_keeps_nobody_waiting() {
    for data_workers in [1, 2] {
        let Some(site) = blog("workers = 2\nqueue_timeout = \"30s\"") else { return };
        let server = site.workers(data_workers).start();
        for _ in 0..20 {
            assert_eq!(text(&server, "/"), "here");
        }
        // Where PHP has not come to read that another request may follow, that has a connection of its own.
        assert!(reuses(&server) >= 3.0, "{} of 20, {data_workers}", reuses(&server));
        let begun = Instant::now();
        let busy = text(&server, "/later.php?ms=4000");
        for _ in 0..20 {
            // Its process has the connection that was used last.
            assert_ne!(text(&server, "/slow.php?ms=1"), busy);
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        server.wait_for_line("it has gone on", |line| line.contains("done at last"));
        // All processes, one more than may be asked at once, are busy behind their answers: who comes then waits for one of them.
        for _ in 0..3 {
            assert_eq!(server.connect().ask(get("/later.php?ms=700")).status, 200);
        }
        assert_eq!(text(&server, "/"), "here");
        eventually("all have gone on", || {
            server.lines().iter().filter(|line| line.contains("done at last")).count() == 4
        });
    }
}

#[test]
fn without_keep_idle_each_request_has_a_connection_of_its_own() {
    let Some(site) = blog("workers = 2\nkeep_idle = 0") else { return };
    let server = site.start();
    for _ in 0..5 {
        assert_eq!(text(&server, "/"), "here");
    }
    assert_eq!(reuses(&server), 0.0);
}

/// Connections to a Unix socket that the other side has not closed, those in the backlog too.
fn connections_to(socket: &str) -> usize {
    let text = std::fs::read_to_string("/proc/net/unix").expect("it is there");
    // Address, references, protocol, flags, type, state, inode, path. One that listens has a flag; whoever has the other end of
    // one that does not holds a reference to it.
    let is_open = |fields: &[&str]| fields.get(7) == Some(&socket) && fields[3] == "00000000" && fields[1] > "00000002";
    text.lines().filter(|line| is_open(&line.split_whitespace().collect::<Vec<_>>())).count()
}

/// Of kept ones each holds a process, whichever data worker has it.
#[test]
fn there_are_never_more_connections_than_processes() {
    for data_workers in [1, 2, 4] {
        let Some(site) = blog("workers = 3\nqueue_timeout = \"30s\"") else { return };
        let server = site.workers(data_workers).start();
        let address = state(&server)["instances"][0]["address"].as_str().expect("an address").to_owned();
        let socket = address.strip_prefix("unix:").expect("a socket");
        let (mut most, mut looks) = (0, 0);
        std::thread::scope(|scope| {
            let ask = |client: usize| {
                let mut connection = server.connect();
                for round in 0..8 {
                    let ms = [0, 1, 5, 20][(client + round) % 4];
                    let answer = connection.ask(get(&format!("/slow.php?ms={ms}")));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            };
            let asked: Vec<_> = (0..40).map(|client| scope.spawn(move || ask(client))).collect();
            while !asked.iter().all(|asked| asked.is_finished()) {
                most = most.max(connections_to(socket));
                looks += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        // There is one process more than `workers`.
        assert!((3..=4).contains(&most), "{most} of {looks} looks, with {data_workers} data workers");
        assert!(looks >= 10 && reuses(&server) >= 20.0, "{looks}, {}", reuses(&server));
    }
}

fn ended(server: &Server) -> Vec<String> {
    let text = std::fs::read_to_string(server.folder().join("www/ended")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Connections are kept, and a next request is announced on each.
#[test]
fn a_client_that_leaves_a_script_keeps_nobody_waiting() {
    let Some(site) = blog("workers = 1\nqueue_timeout = \"30s\"") else { return };
    let server = site.start();
    let folder = server.folder().join("www");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("ours");
    for round in 0..8 {
        let (posts, resets, ms) = (round % 2 == 1, round % 4 >= 2, if round < 4 { 0 } else { 400 });
        for _ in 0..2 {
            assert_eq!(text(&server, "/"), "here");
        }
        let target = format!("/talk.php?token=t{round}&ms={ms}");
        let mut client = server.connect();
        client.send(if posts { post(&target, "x") } else { get(&target) });
        // PHP says it to php-fpm as well.
        let is_begun = |line: &str| line.contains(&format!("NOTICE: PHP message: begun t{round}."));
        server.wait_for_line("it has begun", is_begun);
        if ms == 0 {
            client.fill().expect("a beginning");
        }
        let left = Instant::now();
        if resets {
            client.reset();
        } else {
            drop(client);
        }
        for at in 0..3 {
            let id = format!("{round}{at}");
            assert_eq!(server.connect().ask(post(&format!("/ledger.php?id={id}"), "x")).text(), id);
            assert!(left.elapsed() < Duration::from_secs(5), "round {round}: {:?}", left.elapsed());
        }
        eventually("its script has ended", || ended(&server).contains(&format!("t{round} 1")));
        assert!(left.elapsed() < Duration::from_secs(5), "round {round}: {:?}", left.elapsed());
        assert_eq!(server.lines().iter().filter(|line| is_begun(line)).count(), 1, "it is not run again");
    }
    assert_eq!(ended(&server).len(), 8);
    assert!(reuses(&server) >= 4.0, "{}", reuses(&server));
}

#[test]
fn who_leaves_the_queue_is_not_run() {
    let Some(site) = blog("workers = 1\nqueue_timeout = \"30s\"") else { return };
    let server = site.start();
    let folder = server.folder().join("www");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("ours");
    let queue = |name: &str| server.metric(&format!("one_server_upstream_queue_{name}"), "upstream=\"app:blog\"");
    let mut held = server.connect();
    held.send(post("/hold.php", "x"));
    server.wait_for_line("it has begun", |line| line.contains("held"));
    let mut clients = Vec::new();
    for token in 0..6 {
        let mut client = server.connect();
        client.send(post(&format!("/note.php?token={token}&read=1"), "body"));
        clients.push(client);
        eventually("it waits", || queue("requests") == f64::from(token) + 1.0);
    }
    clients.remove(4).reset();
    drop(clients.remove(1));
    eventually("two have left", || queue("requests") == 4.0);
    std::fs::write(folder.join("go"), "").expect("a file");
    assert_eq!(held.response("POST").text(), "held");
    for client in &mut clients {
        assert_eq!(client.response("POST").text(), "4");
    }
    let notes = std::fs::read_to_string(folder.join("notes")).expect("notes");
    let mut seen: Vec<&str> = notes.lines().collect();
    seen.sort_unstable();
    assert_eq!(seen, ["0", "2", "3", "5"]);
    assert_eq!([queue("left_total"), queue("full_total"), queue("timeouts_total")], [2.0, 0.0, 0.0]);
}

/// One after the other on the connection that is kept, and side by side.
#[test]
fn what_a_script_complains_of_has_the_number_of_its_request() {
    let Some(site) = blog("workers = 3") else { return };
    let server = site.start();
    let ask = |number: u32, more: &str| {
        let id = format!("X-Request-Id: 00c0ffee0000{number:04x}");
        server.connect().ask(request("GET", &format!("/grumble.php?name=no{number}.{more}"), &[&id], "")).status
    };
    let before = reuses(&server);
    for number in 0..12 {
        assert_eq!(ask(number, "&ms=0"), 200);
    }
    assert!(reuses(&server) > before, "none was kept");
    std::thread::scope(|scope| {
        for number in 12..15 {
            scope.spawn(move || assert_eq!(ask(number, "&ms=300"), 200));
        }
    });
    assert_eq!(ask(15, "&ms=0&fatal=1"), 500);
    let told = |words: &str| {
        let line = server.wait_for_line("its complaint", |line| line.contains("stderr: ") && line.contains(words));
        assert!(line.contains(" warn ") && line.contains(" upstream=app:blog "), "{line}");
        line.rsplit_once(" request=").expect("a number").1.to_owned()
    };
    for number in 0..16 {
        for words in ["message: of no", "Warning:  once more of no"] {
            assert_eq!(told(&format!("{words}{number}.")), format!("00c0ffee0000{number:04x}"));
        }
    }
    assert_eq!(told("undefined_function"), "00c0ffee0000000f");
}

/// They end behind every third request, which a connection that is kept must not lose, nor do twice.
#[test]
fn every_request_is_done_once_although_processes_end_all_the_time() {
    let Some(site) = blog("workers = 3\nworker_requests = 3\nqueue_timeout = \"30s\"") else { return };
    let server = site.http("body_max = \"4MiB\"").start();
    let folder = server.folder().join("www");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("ours");
    let (clients, rounds) = (6, 60);
    std::thread::scope(|scope| {
        for client in 0..clients {
            let server = &server;
            scope.spawn(move || {
                let mut connection = server.connect();
                for round in 0..rounds {
                    // Sizes around records and buffers; beyond 1 MiB it is streamed. Some of them nobody reads.
                    let bytes = [0, 1, 65_535, 65_536, 200_000, (1 << 20) + 5][round % 6];
                    let read = round % 4 != 0;
                    let target = format!("/note.php?token={client}-{round}&read={}", u8::from(read));
                    let answer = connection.ask(post(&target, &"x".repeat(bytes)));
                    let expect = if read { bytes.to_string() } else { String::new() };
                    assert_eq!((answer.status, answer.text()), (200, expect), "{target}");
                    if answer.is_last() {
                        connection = server.connect();
                    }
                }
            });
        }
    });
    let notes = std::fs::read_to_string(folder.join("notes")).expect("notes");
    let mut told: Vec<&str> = notes.lines().collect();
    told.sort_unstable();
    let all = told.len();
    told.dedup();
    assert_eq!((all, told.len()), (clients * rounds, clients * rounds));
    assert!(reuses(&server) > 50.0, "{}", reuses(&server));
}

#[test]
fn a_worker_and_a_leader_that_are_killed_cost_the_requests_in_them() {
    let lines = "workers = 4\nbackoff = \"100ms\"\nqueue_timeout = \"20s\"";
    let Some(site) = blog(lines) else { return };
    let server = site.start();
    let leader = leaders(&server)[0];
    let load = under_load(&server, || {
        // POST: it may have had an effect, and is not tried again.
        let mut client = server.connect();
        client.send(post("/slow.php?ms=30000", "x"));
        let line = server.wait_for_line("it has begun", |line| line.contains("begun POST"));
        let worker = line.split("begun POST ").nth(1).and_then(|rest| rest.split('.').next()?.parse().ok());
        signal(worker.expect("a number"), Signal::KILL);
        assert_eq!(client.response("POST").status, 502);
        eventually("another worker is there", || workers(leader).len() == 5);
        assert_eq!(leaders(&server), [leader]);
        std::thread::sleep(Duration::from_millis(500));

        let mut client = server.connect();
        client.send(post("/slow.php?ms=30000", "y"));
        eventually("it has begun", || server.lines().iter().filter(|line| line.contains("begun POST")).count() == 2);
        let all = workers(leader);
        signal(leader, Signal::KILL);
        assert_eq!(client.response("POST").status, 502);
        eventually("another one serves", || leaders(&server).first().is_some_and(|pid| *pid != leader));
        assert!(all.iter().all(|pid| has_ended(*pid)), "no worker goes on without it");
    });
    // What was in it is asked again, and waits for the next one.
    load.assert_all_well(100);
    assert_eq!(state(&server)["last_exit"], "signal 9");
}

#[test]
fn replacement_under_load_costs_no_request() {
    let Some(site) = blog("workers = 4\nini = { \"user_agent\" = \"0\" }") else { return };
    let server = site.start();
    let first = leaders(&server);
    let load = under_load(&server, || {
        for round in 0..3 {
            let before = leaders(&server);
            match round {
                1 => drop(server.ctl_ok(&["app", "restart", "blog"])),
                _ => drop(server.reload_with(&[(
                    &format!("\"user_agent\" = \"{round}\""),
                    &format!("\"user_agent\" = \"{}\"", round + 2),
                )])),
            }
            eventually("another one serves alone", || {
                let (now, all) = (leaders(&server), state(&server)["instances"].as_array().map(Vec::len));
                now.len() == 1 && now != before && all == Some(1)
            });
        }
        // Fewer workers are another edition as well.
        let before = leaders(&server);
        server.reload_with(&[("workers = 4", "workers = 2")]);
        eventually("another one serves", || leaders(&server).first().is_some_and(|pid| !before.contains(pid)));
        let before = leaders(&server);
        server.upgrade();
        eventually("those before have ended", || before.iter().all(|pid| has_ended(*pid)));
    });
    load.assert_all_well(200);
    assert!(first.iter().all(|pid| has_ended(*pid)));
    eventually("there are fewer workers", || workers(leaders(&server)[0]).len() == 3);
}

/// Requests that may not be sent again are neither lost nor done twice, whatever comes in the place of the php-fpm that has them.
#[test]
fn posts_under_restarts_reloads_and_takeovers_are_done_once_each() {
    let lines = "workers = 4\nworker_requests = 200\nqueue_timeout = \"30s\"\nini = { \"user_agent\" = \"0\" }";
    let Some(site) = blog(lines) else { return };
    let server = site.start();
    let folder = server.folder().join("www");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("ours");
    // More of them than workers, so that some wait while it happens.
    let ask = |id: u64| {
        let body = "x".repeat([1, 100, 70_000][id as usize % 3]);
        (post(&format!("/ledger.php?id={id}"), &body), id.to_string())
    };
    let crowd = Crowd { clients: 10, gives_up: false, ask };
    let outcome = crowd.during(&server, || {
        for round in 0..2 {
            let steps: [&dyn Fn(); 3] = [
                &|| drop(server.ctl_ok(&["app", "restart", "blog"])),
                &|| {
                    let (from, to) = (format!("agent\" = \"{round}\""), format!("agent\" = \"{}\"", round + 1));
                    server.reload_with(&[(&from, &to)]);
                },
                &|| {
                    server.upgrade();
                },
            ];
            for step in steps {
                let before = leaders(&server);
                step();
                eventually("another one serves alone", || {
                    let (now, all) = (leaders(&server), state(&server)["instances"].as_array().map(Vec::len));
                    now.len() == 1 && now != before && all == Some(1)
                });
                eventually("that before has ended", || before.iter().all(|pid| has_ended(*pid)));
            }
        }
    });
    assert!(outcome.failed.is_empty() && outcome.refused.is_empty(), "{outcome:?}");
    let ledger = std::fs::read_to_string(folder.join("ledger")).expect("a ledger");
    let seen: Vec<u64> = ledger.lines().map(|line| line.parse().expect("a number")).collect();
    outcome.assert_none_lost_or_doubled(&seen);
    assert_eq!(seen.len(), outcome.answered.len(), "nobody else has asked");
    assert!(seen.len() > 150, "{} are no load", seen.len());
}

/// Under the same name, with another protocol at another socket.
#[test]
fn a_program_becomes_php_and_php_a_program_without_a_lost_request() {
    let Some(site) = blog("workers = 4") else { return };
    let server = site.start();
    let program = BY_FD.replace("$PEERS", PEERS).replace("$PYTHON", python());
    let of_php = ("type = \"php\"\nworkers = 4\n", ", cgi = \"$DIR/www\"");
    let table = format!("type = \"process\"\n{program}");
    let of_program = (table.as_str(), "");
    let load = under_load(&server, || {
        for ((table, route), (next_table, next_route)) in
            [(of_php, of_program), (of_program, of_php), (of_php, of_program)]
        {
            eventually("one is there", || leaders(&server).len() == 1);
            let before = leaders(&server);
            let (route, next_route) = (format!("app = \"blog\"{route} }}"), format!("app = \"blog\"{next_route} }}"));
            server.reload_with(&[(table, next_table), (&route, &next_route)]);
            eventually("the other one serves alone", || {
                let now = leaders(&server);
                now.len() == 1 && now != before && state(&server)["instances"].as_array().map(Vec::len) == Some(1)
            });
            eventually("that before has ended", || before.iter().all(|pid| has_ended(*pid)));
        }
    });
    load.assert_all_well(100);
}

#[test]
fn a_script_that_takes_too_long_is_told_and_ended() {
    let Some(site) = blog("workers = 2\nslow_timeout = \"1s\"\nterminate_timeout = \"3s\"") else { return };
    let server = site.start();
    let begun = Instant::now();
    let answer = server.connect().ask(post("/slow.php?ms=30000", "x"));
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    server.wait_for_line("where it is", |line| line.contains("app=blog") && line.contains("usleep() "));
    server.wait_for_line("its end", |line| line.contains(" warn ") && line.contains("execution timed out"));
    assert_eq!(text(&server, "/"), "here");
}

#[test]
fn what_php_does_not_take_is_told() {
    let Some(site) = blog("ini = { \"no.such\" = \"1\" }") else { return };
    let server = site.start();
    let is_it = |line: &str| line.contains(" error ") && line.contains("Unable to set php_admin_value 'no.such'");
    server.wait_for_line("a setting that is none", is_it);
    // It would serve without it, and that might be a limit.
    eventually("it has failed", || state(&server)["state"] == "failed");
    server.wait_for_line("its end", |line| line.contains("instance ended") && line.contains("reason=config"));
    assert_eq!(state(&server)["last_exit"], "PHP does not take the setting 'no.such': see `ini`");
    assert!(!server.lines().iter().any(|line| line.contains("instance ready")));
    assert_eq!(server.connect().ask(get("/")).status, 503);
    server.wait_for_line("the reason", |line| {
        line.contains(" error application has failed: it does not take its config") && line.contains("'no.such'")
    });
    server.reload_with(&[("\"no.such\" = \"1\"", "\"memory_limit\" = \"64M\"")]);
    eventually("it serves", || server.connect().ask(get("/")).status == 200);
    // A reload to one that is wrong leaves alone what serves; a script that says the same is no reason.
    let leader = leaders(&server);
    server.reload_with(&[("\"memory_limit\" = \"64M\"", "\"memory_limits\" = \"64M\"")]);
    eventually("it has failed", || {
        state(&server)["last_exit"] == "PHP does not take the setting 'memory_limits': see `ini`"
    });
    assert_eq!((text(&server, "/"), leaders(&server)), ("here".to_owned(), leader));

    let failing = "backoff = \"20ms\"\nbackoff_max = \"80ms\"\nfailures_max = 3\ncommand = [\"$PHP\", \"-c\", \"/no/such/php.ini\", \"--no-such-flag\"]";
    let program = php::program().expect("it was there a moment ago");
    let Some(site) = blog(&failing.replace("$PHP", php::shown(&program))) else { return };
    let server = site.start();
    eventually("it has failed", || state(&server)["state"] == "failed");
    assert_eq!(server.connect().ask(get("/")).status, 503);
    server.wait_for_line("it is told", |line| line.contains(" error ") && line.contains("application has failed"));
    server.wait_for_line("its own words", |line| line.contains("app=blog") && line.contains("Usage: "));
    server.reload_with(&[(", \"-c\", \"/no/such/php.ini\", \"--no-such-flag\"", "")]);
    eventually("it serves", || server.connect().ask(get("/")).status == 200);

    for (lines, expected) in [
        ("command = \"/no/such/php-fpm\"", "/no/such/php-fpm cannot be run"),
        ("ini = { \"a b\" = \"1\" }", "a name has letters, digits"),
        ("ini = { x = \"it's\" }", "php-fpm takes no `'`"),
        ("first_port = 9000", "php-fpm gets a socket that listens"),
    ] {
        let Some(site) = blog(lines) else { return };
        let mut command = Command::new(env!("CARGO_BIN_EXE_one-server"));
        let output = command.args(["check", "-c"]).arg(site.write_config()).stdin(Stdio::null()).output();
        let output = output.expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(expected), "{lines}: {told}");
    }
}

#[test]
fn sigkill_of_the_server_leaves_no_php_behind() {
    let Some(site) = blog("instances = 2\nworkers = 2") else { return };
    let server = site.start();
    let mut all = leaders(&server);
    assert_eq!(all.len(), 2);
    eventually("all workers are there", || all.iter().all(|leader| workers(*leader).len() == 3));
    all.extend(all.clone().into_iter().flat_map(workers));
    server.signal(Signal::KILL);
    eventually("the processes are gone", || all.iter().all(|pid| has_ended(*pid)));
}

/// Nobody has had the time to look for the workers, which have overwritten their environment; and their leader, which the kernel
/// ends, is gone when somebody does.
#[test]
fn sigkill_of_warden_and_keeper_leaves_no_php_behind() {
    let Some(site) = blog("workers = 2\nbackoff = \"50ms\"\nqueue_timeout = \"20s\"") else { return };
    // Who has lost all parents is ours, so that it is gone when we say so.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("the kernel does it");
    let server = site.start();
    for round in 0..3 {
        let leader = leaders(&server)[0];
        eventually("all workers are there", || workers(leader).len() == 3);
        // One of them is at work.
        let mut client = server.connect();
        client.send(post("/slow.php?ms=30000", "x"));
        eventually("it has begun", || {
            server.lines().iter().filter(|line| line.contains("begun POST")).count() == round + 1
        });
        let mut all = workers(leader);
        let keeper = parent_of(leader);
        let warden = parent_of(keeper);
        assert_eq!(parent_of(warden), server.pid());
        all.extend([leader, keeper, warden]);
        // Either of them first.
        let both = if round == 1 { [keeper, warden] } else { [warden, keeper] };
        if round == 0 {
            both.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        } else {
            server.signal(Signal::STOP);
            // The one that goes second may do nothing about the end of the first.
            both.into_iter().for_each(|pid| signal(pid, Signal::STOP));
            both.into_iter().for_each(|pid| signal(pid, Signal::KILL));
            eventually("its leader is gone", || {
                let _ = waitpid(Pid::from_raw(leader as i32), WaitOptions::NOHANG);
                !std::path::Path::new(&format!("/proc/{leader}")).exists()
            });
            assert!(all.iter().any(|pid| !has_ended(*pid)), "the kernel ends it alone");
            server.signal(Signal::CONT);
        }
        eventually_gone(&all);
        assert_eq!(client.response("POST").status, 502);
        eventually("another one serves", || leaders(&server).first().is_some_and(|pid| *pid != leader));
        assert_eq!(text(&server, "/"), "here");
    }
}

#[test]
fn php_is_another_user_whom_root_has_started_and_that_goes_on_behind_a_takeover() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can start programs as other users");
        return;
    }
    let Some(site) = blog("user = \"daemon\"\nslow_timeout = \"1s\"") else { return };
    let site = site.process("user = \"nobody\"");
    let lay_open =
        |path: &std::path::Path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("a mode");
    lay_open(site.folder());
    lay_open(&site.folder().join("www"));
    std::os::unix::fs::chown(site.folder(), Some(65_534), Some(65_534)).expect("a change of owner");
    // The binary may lie where only root gets at it.
    let program = site.folder().join("program");
    std::fs::copy(env!("CARGO_BIN_EXE_one-server"), &program).expect("a copy");
    lay_open(&program);
    let server = site.program(&program).start();
    let is_daemon = |server: &Server| text(server, "/told.php").contains("|1|1|");
    assert!(is_daemon(&server));
    // The log of slow scripts is opened by whom PHP is by then.
    assert_eq!(server.connect().ask(get("/slow.php?ms=2500")).status, 200);
    server.wait_for_line("where it is", |line| line.contains("app=blog") && line.contains("usleep() "));
    let load = under_load(&server, || {
        for _ in 0..2 {
            let before = leaders(&server);
            server.upgrade();
            eventually("those before have ended", || before.iter().all(|pid| has_ended(*pid)));
        }
    });
    load.assert_all_well(50);
    assert!(is_daemon(&server));
}
