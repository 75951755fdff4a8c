//! Connections that last are spread over the data workers by what these have, not by a hash alone
//! (mosip/mosip-infra#1920: 349 connections on one nginx worker, 0 on five).

mod support;

use std::collections::HashMap;

use support::tls::TlsClient;
use support::{Client, Driver, Server, Site, eventually, get, with_both_drivers};

const WORKERS: usize = 4;

fn start(driver: Driver, lines: &str) -> Server {
    let rest = "[site.main]\ndefault = true\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"ok\" }\n";
    let site = Site::new(driver, rest).process(lines).process("control = \"$DIR/ctl.sock\"");
    site.http("keep_alive_requests_max = 0\nconnections_per_address_max = 0").workers(WORKERS).secure("").start()
}

/// By data worker: the value of one of its metrics with this label.
fn by_worker(server: &Server, name: &str, label: &str) -> Vec<u64> {
    let text = server.admin("/metrics");
    let lines = text.lines().filter(|line| line.split('{').next() == Some(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).map(|value| value as u64).collect()
}

fn open(server: &Server) -> Vec<u64> {
    by_worker(server, "one_server_http_connections", "")
}

fn spread(server: &Server, expect: usize) -> (u64, u64) {
    eventually("all are counted", || open(server).iter().sum::<u64>() == expect as u64);
    let open = open(server);
    (open.iter().min().copied().unwrap_or(0), open.iter().max().copied().unwrap_or(0))
}

/// Connections that are all at one worker, because those of the others were closed: what an uneven life leaves behind.
fn uneven(server: &Server, wanted: usize) -> Vec<Client> {
    let mut kept: HashMap<usize, Vec<Client>> = HashMap::new();
    while kept.values().all(|clients| clients.len() < wanted) {
        let mut client = server.connect();
        let requests = |server: &Server| by_worker(server, "one_server_http_responses_total", "2xx");
        let before = requests(server);
        client.ask(get("/"));
        let mut at = None;
        eventually("the request is counted", || {
            at = requests(server).iter().zip(&before).position(|(now, before)| now > before);
            at.is_some()
        });
        kept.entry(at.unwrap()).or_default().push(client);
    }
    let most = kept.into_values().max_by_key(Vec::len).unwrap();
    let len = most.len();
    eventually("the others have left", || open(server).iter().sum::<u64>() == len as u64);
    most
}

#[test]
fn a_busy_worker_hands_new_connections_on() {
    with_both_drivers(|driver| {
        let run = |lines: &str| {
            let server = start(driver, lines);
            let uneven = uneven(&server, 60);
            // As many as the busy one has, for each of the others too.
            let mut more: Vec<Client> = (0..180).map(|_| server.connect()).collect();
            let spread = spread(&server, uneven.len() + more.len());
            for client in &mut more {
                assert_eq!(client.ask(get("/")).text(), "ok");
            }
            (spread, server.metric("one_server_http_connections_handed_over_total", ""))
        };
        let (without, handed) = run("accept_balance = false");
        assert_eq!(handed, 0.0, "{driver:?}");
        assert!(without.1 > 90, "{driver:?}: {} to {} without", without.0, without.1);
        let (with, handed) = run("");
        println!(
            "{driver:?}: {} to {} connections a worker without, {} to {} with",
            without.0, without.1, with.0, with.1
        );
        assert!(handed > 0.0, "{driver:?}");
        assert!(with.1 <= 78 && with.0 >= 40, "{driver:?}: {} to {} with", with.0, with.1);
    });
}

#[test]
fn handed_connections_speak_tls_and_live_through_reload_and_drain() {
    with_both_drivers(|driver| {
        let mut server = start(driver, "");
        let uneven = uneven(&server, 30);
        let mut plain: Vec<Client> = (0..60).map(|_| server.connect()).collect();
        let mut tls: Vec<TlsClient> = (0..20).map(|_| TlsClient::connect(server.address("secure"))).collect();
        assert!(server.metric("one_server_http_connections_handed_over_total", "") > 0.0, "{driver:?}");
        for round in 0..2 {
            plain.iter_mut().for_each(|client| assert_eq!(client.ask(get("/")).text(), "ok", "{driver:?}"));
            tls.iter_mut().for_each(|client| assert_eq!(client.ask(get("/")).text(), "ok", "{driver:?}"));
            if round == 0 {
                server.ctl_ok(&["reload"]);
            }
        }
        drop(uneven);
        server.signal(rustix::process::Signal::QUIT);
        plain.iter_mut().for_each(|client| drop(client.read_to_end()));
        drop(tls);
        assert!(server.wait().success(), "{driver:?}");
    });
}

/// While workers get their new config one after the other, connections are handed over too: none is lost.
#[test]
fn no_connection_is_lost_while_listeners_come_and_go() {
    with_both_drivers(|driver| {
        let server = start(driver, "");
        let _uneven = uneven(&server, 60);
        for round in 0..20 {
            let mut clients: Vec<Client> = Vec::new();
            std::thread::scope(|scope| {
                scope.spawn(|| server.ctl_ok(&["reload"]));
                clients.extend((0..10).map(|_| server.connect()));
            });
            clients.iter_mut().for_each(|client| assert_eq!(client.ask(get("/")).text(), "ok", "{driver:?} {round}"));
        }
    });
}

/// Room for the descriptor of one connection, and none for the second one that it takes to hand it over.
#[test]
fn what_cannot_be_handed_over_is_served_where_it_is() {
    with_both_drivers(|driver| {
        let server = start(driver, "");
        let uneven = uneven(&server, 40);
        let before = server.descriptors();
        for round in 0..24 {
            eventually("what was looked at is closed", || server.descriptors() <= before);
            limit_descriptors(&server, Some(lowest_with_free(&server, 1)));
            let mut client = server.connect();
            assert_eq!(client.ask(get("/")).text(), "ok", "{driver:?} {round}");
            limit_descriptors(&server, None);
        }
        let handed = server.metric("one_server_http_connections_handed_over_total", "");
        assert_eq!(server.metric("one_server_http_connections_lost_total", ""), 0.0, "{driver:?}");
        let told = |line: &String| line.contains("connections cannot be handed to other workers, they stay");
        assert!(server.lines().iter().any(told), "{driver:?}: {handed} were handed over");
        drop(uneven);
    });
}

/// Sets how many descriptors the process may have; `None`: as many as it could have before.
fn limit_descriptors(server: &Server, most: Option<u64>) {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: most.or(maximum), maximum };
    prlimit(Pid::from_raw(server.pid() as i32), Resource::Nofile, limit).expect("it may be set");
}

/// The least limit below which so many numbers are free.
fn lowest_with_free(server: &Server, free: usize) -> u64 {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs");
    let used: std::collections::HashSet<u64> =
        folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    (0..).filter(|number| !used.contains(number)).nth(free - 1).expect("a number") + 1
}

/// A listener takes the slot of one that has gone: what came through one of them is served by its own rules.
#[test]
fn nobody_is_served_by_another_listener() {
    with_both_drivers(|driver| {
        let ports = [1, 2].map(|_| support::ports::free_address());
        let listener = |at: usize| format!("[listener.l{at}]\naddress = \"{}\"\n", ports[at]);
        let site = |at: usize| {
            format!(
                "[site.s{at}]\nlisteners = \"l{at}\"\ndefault = true\n\
                 [[site.s{at}.route]]\npath = \"/\"\nrespond = {{ body = \"{at}\" }}\n"
            )
        };
        let server = start(driver, "");
        let base = std::fs::read_to_string(server.config_file()).expect("a config");
        let base = base.replace("[site.main]", "[site.main]\nlisteners = [\"web\", \"secure\"]");
        let reload = |text: String| {
            std::fs::write(server.config_file(), text).expect("a config");
            server.ctl_ok(&["reload"]);
        };
        let _uneven = uneven(&server, 40);
        let mut answered = [0, 0];
        for round in 0..12 {
            let at = round % 2;
            let text = format!("{base}{}{}", listener(at), site(at));
            eventually("it has closed", || Client::try_connect(ports[at]).is_err());
            std::thread::scope(|scope| {
                let reloading = scope.spawn(|| {
                    reload(text);
                    reload(base.clone());
                });
                while !reloading.is_finished() {
                    let Ok(mut client) = Client::try_connect(ports[at]) else { continue };
                    if let Ok(answer) = client.send(get("/")).try_response("GET") {
                        assert_eq!(answer.text(), at.to_string(), "{driver:?} {round}");
                        answered[at] += 1;
                    }
                }
            });
        }
        assert!(answered.iter().all(|count| *count > 0), "{driver:?}: {answered:?}");
        assert_eq!(server.metric("one_server_http_connections_lost_total", ""), 0.0, "{driver:?}");
    });
}
