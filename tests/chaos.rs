//! Servers die, freeze and come back under constant load, at the real binary: as long as one of them is alive no idempotent
//! request fails, every body is right, and no other request is ever carried out twice (counted by the servers themselves).
//!
//! The servers are processes of their own (Python's http.server), so that they can be killed with all they have under way.

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::ports::free_address;
use support::*;

/// How long the servers are tormented.
const TORMENT: Duration = Duration::from_secs(8);
const RELOADS: u32 = 100;
const TAKEOVERS: u32 = 20;
const SERVERS: usize = 3;
const CLIENTS: usize = 6;

/// Answers GET /SIZE with that many bytes, and carries out what POST says: a line in a file, written before the answer.
const SERVER: &str = r#"
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
port, journal = int(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        # In one write, so that a small answer is there as a whole or not at all when the process is killed.
        self._headers_buffer.append(b"\r\n" + body)
        self.flush_headers()
    def do_GET(self):
        size = int(self.path.strip("/") or "0")
        self.reply((b"%d," % size) * (size // 8))
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        os.write(journal, body + b"\n")
        self.reply(body)
    def log_message(self, *args):
        pass
class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    allow_reuse_address = True
Server(("127.0.0.1", port), Handler).serve_forever()
"#;

/// A server that can be killed and started again.
struct Process {
    address: SocketAddr,
    journal: PathBuf,
    child: Option<Child>,
}

impl Process {
    fn start(folder: &Path, number: usize) -> Process {
        let mut process =
            Process { address: free_address(), journal: folder.join(format!("journal-{number}")), child: None };
        process.revive();
        process
    }

    fn revive(&mut self) {
        let child = Command::new("/usr/bin/python3")
            .args(["-c", SERVER, &self.address.port().to_string()])
            .arg(&self.journal)
            .stdin(Stdio::null())
            .spawn()
            .expect("python3 runs");
        self.child = Some(child);
        let address = self.address;
        eventually("the server listens", || std::net::TcpStream::connect(address).is_ok());
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("it is ours");
    }

    fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is ours");
        child.wait().expect("a child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What one client saw.
#[derive(Default, Debug)]
struct Seen {
    gets: u64,
    posts: u64,
    posts_failed: u64,
    /// Requests that should not have failed.
    wrong: Vec<String>,
}

/// Asks until `stop`, over kept connections.
fn client(server: &Server, number: usize, next_id: &AtomicU64, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut connection = server.connect();
    while !stop.load(Ordering::Relaxed) {
        let id = next_id.fetch_add(1, Ordering::Relaxed);
        let answer = match id % 4 {
            0 => {
                seen.posts += 1;
                let body = format!("id-{id}");
                let asked = connection.send(request("POST", "/", &[], &body)).try_response("POST");
                match &asked {
                    Ok(answer) if answer.status == 200 && answer.text() != body => {
                        seen.wrong.push(format!("POST {body} got {}", answer.text()));
                    }
                    Ok(answer) if answer.status == 200 => {}
                    // It may have been carried out: nobody but the client may try it again.
                    Ok(answer) if matches!(answer.status, 502..=504) => seen.posts_failed += 1,
                    other => seen.wrong.push(format!("POST {body}: {other:?}")),
                }
                asked
            }
            _ => {
                seen.gets += 1;
                let size = [8usize, 800, 40_000, 400_000][(id as usize / 4 + number) % 4];
                let asked = connection.send(get(&format!("/{size}"))).try_response("GET");
                let expect = format!("{size},").repeat(size / 8);
                match &asked {
                    Ok(answer) if answer.status == 200 && answer.body == expect.as_bytes() => {}
                    // Part of the answer was out already: it breaks off, and is never completed with something else.
                    Err(support::client::NoResponse::Ended(_, part)) if !part.is_empty() => {
                        let text = String::from_utf8_lossy(part);
                        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                        if !expect.starts_with(body) {
                            seen.wrong.push(format!("GET {size}: a mixture"));
                        }
                    }
                    Ok(answer) => seen.wrong.push(format!("GET {size}: {} {}", answer.status, answer.body.len())),
                    Err(error) => seen.wrong.push(format!("GET {size}: {error:?}")),
                }
                asked
            }
        };
        if answer.is_err() || answer.is_ok_and(|answer| answer.is_last()) {
            connection = server.connect();
        }
    }
    seen
}

#[test]
fn no_idempotent_request_fails_and_no_other_runs_twice_while_servers_die_and_freeze() {
    torment(|_| {});
}

/// The same while the process in front of them is reloaded a hundred times and taken over twenty times.
#[test]
fn the_same_while_reloads_and_takeovers_come_one_after_the_other() {
    torment(|server| {
        for n in 1..=RELOADS {
            server.reload_with(&[(&format!("x-version = \"{}\"", n - 1), &format!("x-version = \"{n}\""))]);
            if n % (RELOADS / TAKEOVERS) == 0 {
                server.upgrade();
            }
            std::thread::sleep(TORMENT / RELOADS);
        }
    });
}

/// Lets servers die, freeze and come back under load, for as long as `change` takes, which does something to the process in
/// front of them.
fn torment(change: impl Fn(&Server) + Sync) {
    with_both_drivers(|driver| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut servers: Vec<Process> = (0..SERVERS).map(|number| Process::start(folder.path(), number)).collect();
        let addresses: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address)).collect();
        let server = Site::new(
            driver,
            &format!(
                "[site.main]\nheaders.set = {{ x-version = \"0\" }}\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n[upstream.up]\nservers = [{}]\n\
                 retry_on = [\"error\", \"timeout\"]\nresponse_timeout = \"700ms\"\nconnect_timeout = \"500ms\"\n\
                 retry_time_max = \"20s\"\ntries = 6\nhealth = {{ interval = \"200ms\", timeout = \"200ms\" }}\n",
                addresses.join(", ")
            ),
        )
        .process("control = \"$DIR/ctl.sock\"\ndrain_timeout = \"20s\"")
        .start();
        let (next_id, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let seen: Vec<Seen> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let (server, next_id, stop) = (&server, &next_id, &stop);
                    scope.spawn(move || client(server, number, next_id, stop))
                })
                .collect();
            let changes = scope.spawn(|| change(&server));
            // One after the other: the last one, at least, is always alive and well.
            let begun = Instant::now();
            let mut turn = 0;
            while begun.elapsed() < TORMENT || !changes.is_finished() {
                let victim = turn % (SERVERS - 1);
                match turn % 3 {
                    0 => {
                        servers[victim].kill();
                        std::thread::sleep(Duration::from_millis(400));
                        servers[victim].revive();
                    }
                    1 => {
                        servers[victim].signal(Signal::STOP);
                        std::thread::sleep(Duration::from_millis(1000));
                        servers[victim].signal(Signal::CONT);
                    }
                    _ => {
                        servers[victim].signal(Signal::STOP);
                        std::thread::sleep(Duration::from_millis(300));
                        servers[victim].kill();
                        servers[victim].revive();
                    }
                }
                std::thread::sleep(Duration::from_millis(300));
                turn += 1;
            }
            stop.store(true, Ordering::Relaxed);
            changes.join().expect("all changes are taken");
            clients.into_iter().map(|client| client.join().expect("a client")).collect()
        });
        let wrong: Vec<&String> = seen.iter().flat_map(|seen| &seen.wrong).collect();
        assert!(wrong.is_empty(), "{driver:?}: {} wrong, such as {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
        let gets: u64 = seen.iter().map(|seen| seen.gets).sum();
        let (posts, failed) = seen.iter().fold((0, 0), |sum, seen| (sum.0 + seen.posts, sum.1 + seen.posts_failed));
        assert!(gets > 300 && posts > 100, "{driver:?}: {gets} and {posts} are no load");
        let mut runs: HashMap<String, u32> = HashMap::new();
        for process in &servers {
            for line in std::fs::read_to_string(&process.journal).unwrap_or_default().lines() {
                *runs.entry(line.to_owned()).or_default() += 1;
            }
        }
        let twice: Vec<_> = runs.iter().filter(|(_, runs)| **runs > 1).collect();
        assert!(twice.is_empty(), "{driver:?}: ran twice: {twice:?}");
        assert!(runs.len() as u64 >= posts - failed, "{driver:?}: what was answered with 200 has run");
        eprintln!("{driver:?}: {gets} GET, {posts} POST of which {failed} failed; retries {}", {
            server.metric("one_server_upstream_retries_total", "")
        });
    });
}
