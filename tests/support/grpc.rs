//! Real gRPC: server and client of grpcio, which `scripts/test` installs into `target/python`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::{PATIENCE, eventually};

/// What runs them; `None`, and a word about that, where it is not installed.
pub(crate) fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/python/bin/python3");
    let installed = std::fs::read_to_string(root.join("target/python/installed")).unwrap_or_default();
    if !python.is_file() || !installed.contains("grpcio") {
        eprintln!("SKIPPED: grpcio is not installed: `scripts/test` does it");
        return None;
    }
    Some(python)
}

fn script(name: &str) -> Command {
    let mut command = Command::new(python().expect("asked before"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name));
    command
}

/// A running server; killed when dropped.
pub(crate) struct GrpcServer {
    child: Child,
    pub(crate) address: SocketAddr,
    told: Arc<Mutex<Vec<String>>>,
}

impl GrpcServer {
    pub(crate) fn start() -> GrpcServer {
        let mut child =
            script("grpc_server.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let port: u16 = line.trim().strip_prefix("port ").and_then(|port| port.parse().ok()).expect("its port");
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = told.clone();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                lines.lock().expect("a lock").push(line);
            }
        });
        GrpcServer { child, address: ([127, 0, 0, 1], port).into(), told }
    }

    /// How often it has said so.
    pub(crate) fn count(&self, word: &str) -> usize {
        self.told.lock().expect("a lock").iter().filter(|line| line.starts_with(word)).count()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it ran");
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the calls of these names; one line tells what came of each.
pub(crate) fn call(address: SocketAddr, arguments: &[&str]) -> Vec<String> {
    begin(address, arguments).lines()
}

/// A client that makes its calls.
pub(crate) struct Calling(Child);

pub(crate) fn begin(address: SocketAddr, arguments: &[&str]) -> Calling {
    let mut command = script("grpc_client.py");
    command.arg(address.to_string()).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    Calling(command.spawn().expect("the client starts"))
}

impl Calling {
    /// What came of them all. Panics when that takes too long.
    pub(crate) fn lines(mut self) -> Vec<String> {
        let output = BufReader::new(self.0.stdout.take().expect("a pipe"));
        let reader = std::thread::spawn(move || output.lines().map_while(Result::ok).collect::<Vec<_>>());
        let begin = std::time::Instant::now();
        while !reader.is_finished() && begin.elapsed() < 4 * PATIENCE {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let ended = self.0.wait().expect("it ran");
        let lines = reader.join().expect("lines");
        assert!(ended.success(), "the client failed: {ended} {lines:?}");
        lines
    }
}

/// Waits until the server has been told so.
pub(crate) fn told(server: &GrpcServer, word: &str, count: usize) {
    eventually(word, || server.count(word) >= count);
}
