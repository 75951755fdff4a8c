//! Connections of a splitter to its servers: how many there are, who gets one, how long they live, and what a client costs
//! that needs none.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/mysql_clients.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod mysql_clients;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use mariadb::{PASSWORD, USER};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use mysql_clients::{Scene, block_on, code, log_on, one};
use support::ports;
use support::*;

/// Runs `work` while a thread looks how many connections the primary has of these users; the most there were.
fn most_connections(scene: &Scene, users: &[&str], work: impl FnOnce()) -> Vec<usize> {
    let (is_over, most) = (AtomicBool::new(false), users.iter().map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            while !is_over.load(SeqCst) {
                for (user, most) in users.iter().zip(&most) {
                    let seen = scene.connections(0, user);
                    if seen > most.load(SeqCst) {
                        // One that was closed, for another one, may be there still as the server sees it.
                        std::thread::sleep(Duration::from_millis(30));
                        most.fetch_max(seen.min(scene.connections(0, user)), SeqCst);
                    }
                }
            }
        });
        work();
        is_over.store(true, SeqCst);
        looker.join().expect("looked");
    });
    most.into_iter().map(AtomicUsize::into_inner).collect()
}

/// So many clients, each with statements for the primary, and moments between them.
async fn busy(clients: Vec<Conn>, statements: usize) {
    let tasks = clients.into_iter().map(|mut conn| async move {
        for _ in 0..statements {
            conn.query_drop("SELECT SLEEP(0.002), id FROM who FOR UPDATE").await.expect("served");
            conn.reset().await.expect("free again");
        }
    });
    futures_join(tasks.collect()).await;
}

async fn futures_join<F: Future<Output = ()> + 'static>(tasks: Vec<F>) {
    let local = tokio::task::LocalSet::new();
    let handles: Vec<_> = tasks.into_iter().map(|task| local.spawn_local(task)).collect();
    local
        .run_until(async {
            for handle in handles {
                handle.await.expect("done");
            }
        })
        .await;
}

#[test]
fn all_workers_together_keep_the_limits() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let lines = "pool_max = 16\nserver_connections_max = 4\npool_timeout = \"20s\"\n\
                     [[mysql.db.users]]\nname = \"reports\"\npassword = \"r3ports\"\nserver_connections_max = 2\n";
        let scene = Scene::start(driver, 3, lines);
        let most = most_connections(&scene, &[USER, "reports"], || {
            block_on(async {
                let mut clients = Vec::new();
                for n in 0..24 {
                    clients.push(match n % 3 {
                        0 => log_on(scene.address, "reports", "r3ports", Some("d")).await.expect("logged on"),
                        _ => scene.client().await,
                    });
                }
                busy(clients, 15).await;
            });
        });
        assert!(most[0] + most[1] >= 3, "{driver:?} {most:?}: they were used");
        assert!(most[0] <= 4 && most[1] <= 2, "{driver:?} {most:?}");
        let metric =
            |name: &str| scene.server.metric(name, &format!("server=\"127.0.0.1:{}\"", scene.cluster.primary.port));
        assert!(metric("one_server_splitter_server_wait_seconds_count") > 0.0, "some had to wait");
        assert_eq!(metric("one_server_splitter_server_waiting"), 0.0);
        assert_eq!(metric("one_server_splitter_server_wait_failures_total"), 0.0);
        assert!(metric("one_server_splitter_server_connections") <= 4.0);
    });
}

/// A worker that has all connections, and work for them, gives those up that are another worker's share.
#[test]
fn no_worker_goes_without() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let scene = Scene::start(driver, 2, "pool_max = 8\nserver_connections_max = 2\npool_timeout = \"15s\"");
        block_on(async {
            // Clients come to both workers; those of one of them take all there is.
            let mut early = Vec::new();
            for _ in 0..12 {
                early.push(scene.client().await);
            }
            let busy_ones = busy(early, 60);
            let late = async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                for _ in 0..12 {
                    let begun = Instant::now();
                    let mut conn = scene.client().await;
                    conn.query_drop("SELECT id FROM who FOR UPDATE").await.expect("served");
                    assert!(begun.elapsed() < Duration::from_secs(10), "{driver:?} {:?}", begun.elapsed());
                }
            };
            tokio::join!(busy_ones, late);
        });
        assert_eq!(scene.server.metric("one_server_splitter_server_wait_failures_total", ""), 0.0);
    });
}

/// What an account may have spans the servers: its connections to one are given up when its clients need another one, in
/// the same worker too, whether they are idle or in use all the time.
#[test]
fn an_account_moves_its_connections_to_where_they_are_needed() {
    if !mariadb::is_installed() {
        return;
    }
    let lines = "pool_timeout = \"8s\"\n[[mysql.db.users]]\nname = \"reports\"\npassword = \"r3ports\"\nserver_connections_max = ";
    with_both_drivers(|driver| {
        let of_reports =
            async |scene: &Scene| log_on(scene.address, "reports", "r3ports", Some("d")).await.expect("logged on");
        let scene = Scene::start(driver, 1, &format!("{lines}1"));
        block_on(async {
            let mut conn = of_reports(&scene).await;
            for turn in 0..4 {
                let begun = Instant::now();
                assert_eq!(one(&mut conn, "SELECT id FROM who").await, "2", "the replica's");
                assert_eq!(one(&mut conn, "SELECT id FROM who FOR UPDATE").await, "1", "the primary's");
                assert!(begun.elapsed() < Duration::from_secs(2), "{driver:?} {turn} {:?}", begun.elapsed());
            }
        });
        let scene = Scene::start(driver, 1, &format!("{lines}2"));
        block_on(async {
            let mut busy_ones = Vec::new();
            for _ in 0..6 {
                busy_ones.push(of_reports(&scene).await);
            }
            let mut reader = of_reports(&scene).await;
            let is_over = Cell::new(false);
            let reading = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                for _ in 0..4 {
                    let begun = Instant::now();
                    reader.query_drop("SELECT id FROM who").await.expect("served");
                    assert!(begun.elapsed() < Duration::from_secs(1), "{driver:?} {:?}", begun.elapsed());
                }
                assert!(!is_over.get(), "they were busy all the time");
            };
            let writing = async {
                busy(busy_ones, 300).await;
                is_over.set(true);
            };
            tokio::join!(writing, reading);
        });
        assert_eq!(scene.server.metric("one_server_splitter_server_wait_failures_total", ""), 0.0);
    });
}

/// An idle connection of one worker is no use while another one waits.
#[test]
fn idle_connections_are_lent() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let scene = Scene::start(driver, 2, "pool_max = 4\nserver_connections_max = 1\npool_timeout = \"10s\"");
        block_on(async {
            for _ in 0..12 {
                // The kernel spreads them over the workers.
                let begun = Instant::now();
                let mut conn = scene.client().await;
                conn.query_drop("SELECT id FROM who FOR UPDATE").await.expect("served");
                assert!(begun.elapsed() < Duration::from_secs(5), "{driver:?} {:?}", begun.elapsed());
            }
        });
        assert!(scene.connections(0, USER) <= 1);
        assert!(scene.server.metric("one_server_splitter_server_yielded_total", "") >= 1.0, "{driver:?}");
    });
}

#[test]
fn the_queue_for_a_connection_ends() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let scene = Scene::start(driver, 1, "pool_max = 1\npool_queue_max = 1\npool_timeout = \"800ms\"");
        block_on(async {
            let (mut holder, mut patient, mut third) =
                (scene.client().await, scene.client().await, scene.client().await);
            holder.query_drop("BEGIN").await.expect("begun");
            holder.query_drop("SELECT id FROM who FOR UPDATE").await.expect("held");
            let write = "UPDATE t SET v = 'x' WHERE id = 1";
            let begun = Instant::now();
            let (waited, refused) = tokio::join!(patient.query_drop(write), async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let begun = Instant::now();
                let error = third.query_drop(write).await.expect_err("too many");
                (begun.elapsed(), error)
            });
            let error = waited.expect_err("not in time");
            assert!(error.to_string().contains("stayed in use for the whole pool_timeout"), "{error}");
            assert!((Duration::from_millis(750)..Duration::from_secs(5)).contains(&begun.elapsed()), "{driver:?}");
            let (elapsed, error) = refused;
            assert!(
                elapsed < Duration::from_millis(400) && error.to_string().contains("pool_queue_max"),
                "{error} {elapsed:?}"
            );
            assert_eq!(code(Err::<(), _>(error)), 1040);
            // Who waits gets it as soon as it is free.
            let (served, ()) = tokio::join!(patient.query_drop(write), async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                holder.query_drop("COMMIT").await.expect("ended");
            });
            served.expect("served");
        });
        let label = format!("server=\"127.0.0.1:{}\"", scene.cluster.primary.port);
        assert_eq!(scene.server.metric("one_server_splitter_server_wait_failures_total", &label), 2.0, "{driver:?}");
        assert_eq!(scene.server.metric("one_server_splitter_server_wait_seconds_count", &label), 3.0);
    });
}

#[test]
fn there_are_so_many_clients_and_no_more() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let scene = Scene::start(driver, 2, "clients_max = 2\nclient_timeout = \"4s\"");
        block_on(async {
            let (first, mut second) = (scene.client().await, scene.client().await);
            let refused = log_on(scene.address, USER, PASSWORD, None).await.expect_err("one too many");
            assert_eq!(code(Err::<(), _>(refused)), 1040, "{driver:?}");
            first.disconnect().await.expect("gone");
            // The place is free as soon as that is seen.
            let begun = Instant::now();
            let mut third = loop {
                match log_on(scene.address, USER, PASSWORD, None).await {
                    Ok(conn) => break conn,
                    Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
                }
            };
            assert_eq!(one(&mut third, "SELECT 1").await, "1");
            // Who says nothing for so long is shown out, and frees its place.
            let begun = Instant::now();
            while second.query_drop("DO 1").await.is_ok() {
                assert!(begun.elapsed() < PATIENCE, "{driver:?}");
                tokio::time::sleep(Duration::from_secs(6)).await;
            }
            assert_eq!(one(&mut scene.client().await, "SELECT 1").await, "1");
        });
        assert!(scene.server.metric("one_server_splitter_clients_refused_total", "") >= 1.0, "{driver:?}");
    });
}

#[test]
fn connections_are_there_before_they_are_needed_and_do_not_grow_old() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let scene =
            Scene::start(driver, 1, "pool_max = 8\npool_min = 3\npool_age_max = \"3s\"\npool_idle_timeout = \"1s\"");
        let ids = || {
            let sql = "SELECT GROUP_CONCAT(id ORDER BY id) FROM information_schema.processlist WHERE user = 'app'";
            scene.cluster.primary.sql(sql)
        };
        for server in 0..2 {
            eventually("they are warm", || scene.connections(server, USER) == 3);
        }
        let first = ids();
        std::thread::sleep(Duration::from_millis(1_500));
        assert_eq!(ids(), first, "{driver:?}: idle for longer than pool_idle_timeout, and kept");
        block_on(async {
            let mut conn = scene.client().await;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(4) {
                assert_eq!(one(&mut conn, "SELECT id FROM who LIMIT 1").await, "2");
                conn.query_drop("UPDATE t SET v = 'x' WHERE id = 1").await.expect("written");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let (then, now) = (first, ids());
        let kept = now.split(',').filter(|id| then.split(',').any(|old| old == *id)).count();
        assert_eq!(kept, 1, "the monitor's alone: {then} {now}");
        eventually("others have come for those that were old", || scene.connections(0, USER) == 3);
    });
}

/// KILL, `wait_timeout` and middleboxes end connections of servers that are well, the monitor's own as any other.
#[test]
fn a_monitor_that_lost_its_connection_takes_no_server_down() {
    if !mariadb::is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let scene = Scene::start(driver, 1, "");
        for round in 0..5 {
            for server in [&scene.cluster.primary, &scene.cluster.replicas[0]] {
                let ids = || {
                    let sql = "SELECT id FROM information_schema.processlist WHERE user = 'app' AND command = 'Sleep'";
                    server.sql(sql).lines().map(str::to_owned).collect::<Vec<_>>()
                };
                let before = ids();
                // It may be asking now, and be no sleeper then.
                before.iter().for_each(|id| _ = server.try_sql(&format!("KILL {id}")));
                eventually("the monitor has a new one", || ids().iter().any(|id| !before.contains(id)));
            }
            block_on(async {
                let mut conn = scene.client().await;
                conn.query_drop("UPDATE t SET v = 'x' WHERE id = 1").await.expect("written");
                assert_eq!(one(&mut conn, "SELECT id FROM who LIMIT 1").await, "2", "{driver:?} round {round}");
            });
        }
        let told = scene.server.lines().join("\n");
        assert!(!told.contains("is down"), "{driver:?}: {told}");
    });
}

const IDLE_CLIENTS: usize = 10_000;
/// What each keeps: the futures of a client that waits, its session, its socket's place in the ring. Clients that kept a buffer
/// would be far beyond.
const IDLE_BYTES_MAX: usize = 4 << 10;

/// Lets this process, and those it starts, have as many descriptors as one end of all clients needs. `false`: it may not.
fn raise_descriptors() -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let (wanted, limit) = (IDLE_CLIENTS as u64 + 2_000, getrlimit(Resource::Nofile));
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    limit.current.is_none_or(|current| current >= wanted)
        || setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok()
}

fn resident_bytes(scene: &Scene) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/status", scene.server.pid())).expect("it runs");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("a field");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") * 1024
}

/// Each has logged on and asked something, and asks for nothing more at the moment.
#[test]
fn ten_thousand_idle_clients_cost_little_and_hold_nothing() {
    if !mariadb::is_installed() {
        return;
    }
    if !raise_descriptors() {
        eprintln!("skipped: {IDLE_CLIENTS} clients need more file descriptors than this user may have");
        return;
    }
    for (driver, idle_clients) in [(Driver::IoUring, IDLE_CLIENTS), (Driver::Epoll, IDLE_CLIENTS / 5)] {
        let scene = Scene::start(driver, 2, "pool_max = 4");
        let idle = || scene.server.metric("one_server_splitter_clients_idle", "") as usize;
        let mut clients: Vec<Conn> = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let more = |clients: &mut Vec<Conn>, count: usize| {
            runtime.block_on(async {
                for _ in 0..count {
                    let mut conn = scene.client().await;
                    assert_eq!(one(&mut conn, "SELECT id FROM who").await, "2");
                    clients.push(conn);
                }
            });
            let wanted = clients.len();
            eventually("they are idle", || idle() == wanted);
        };
        more(&mut clients, 500);
        let before = resident_bytes(&scene);
        while clients.len() < idle_clients {
            more(&mut clients, 500);
        }
        let each = resident_bytes(&scene).saturating_sub(before) / (idle_clients - 500);
        eprintln!("{driver:?}: {each} bytes for each idle client");
        assert!(each <= IDLE_BYTES_MAX, "{driver:?}: {each} bytes for each idle client");
        let open = scene.server.metric("one_server_splitter_server_connections", "");
        assert!(open <= 16.0, "{driver:?}: {open} connections to the servers");
        assert!(scene.connections(1, USER) <= 8);
        // All of them are still there.
        runtime.block_on(async {
            for conn in clients.iter_mut().step_by(97) {
                assert_eq!(one(conn, "SELECT id FROM who").await, "2");
            }
        });
        drop(clients);
        eventually("they are gone", || scene.server.metric("one_server_splitter_clients", "") == 0.0);
    }
}

const CROWD: usize = 2_000;
/// All of them are busy at once: what that took is given back when they have gone quiet.
#[test]
fn a_crowd_of_clients_leaves_little_behind() {
    if !mariadb::is_installed() {
        return;
    }
    if !raise_descriptors() {
        eprintln!("skipped: {CROWD} clients need more file descriptors than this user may have");
        return;
    }
    with_both_drivers(|driver| {
        let scene = Scene::start(driver, 1, "pool_max = 4");
        let idle = || scene.server.metric("one_server_splitter_clients_idle", "") as usize;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let come = |count: usize| {
            runtime.block_on(async {
                let mut clients = Vec::new();
                for _ in 0..count {
                    clients.push(scene.client().await);
                }
                // The first one has gone quiet before the last one comes: wake them all.
                for conn in &mut clients {
                    assert_eq!(one(conn, "SELECT id FROM who").await, "2");
                }
                clients
            })
        };
        let first = come(1);
        eventually("it is idle", || idle() == 1);
        let before = resident_bytes(&scene);
        let crowd = come(CROWD);
        let busy = resident_bytes(&scene).saturating_sub(before) / CROWD;
        eventually("they are idle", || idle() == CROWD + 1);
        let each = || resident_bytes(&scene).saturating_sub(before) / CROWD;
        eventually("memory is given back", || each() <= IDLE_BYTES_MAX);
        eprintln!("{driver:?}: {} bytes for each idle client, {busy} while they came", each());
        drop((first, crowd));
    });
}
