//! Servers that people run behind a proxy: gunicorn, Node's http module and PHP's built-in server, each with the same small
//! application (`tests/peers/app.js`, `wsgi_app.py`, `app.php`).

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use super::ports::free_address;
use super::{eventually, has_program};

/// Which server it is, and how it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One process for each request under way; closes behind each.
    GunicornSync,
    /// Threads; keeps connections.
    GunicornThreads,
    /// Node's http module.
    Node,
    /// `php -S`, which closes behind each answer.
    Php,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::GunicornSync, Kind::GunicornThreads, Kind::Node, Kind::Php];

    /// It keeps connections for further requests.
    pub(crate) fn keeps_connections(self) -> bool {
        matches!(self, Kind::GunicornThreads | Kind::Node)
    }

    fn program(self) -> &'static str {
        match self {
            Kind::GunicornSync | Kind::GunicornThreads => "gunicorn",
            Kind::Node => "node",
            Kind::Php => "php",
        }
    }

    /// `false`, and said so, where it is not installed.
    pub(crate) fn is_installed(self) -> bool {
        has_program(self.program())
    }

    fn command(self, address: SocketAddr, keep_alive_ms: u64) -> Command {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
        let bind = address.to_string();
        let mut command = Command::new(self.program());
        match self {
            Kind::GunicornSync => command.args(["--worker-class", "sync", "--workers", "2"]),
            Kind::GunicornThreads => {
                let seconds = keep_alive_ms.div_ceil(1000).to_string();
                command.args([
                    "--worker-class",
                    "gthread",
                    "--workers",
                    "1",
                    "--threads",
                    "16",
                    "--keep-alive",
                    &seconds,
                ])
            }
            Kind::Node => {
                command.arg(peers.join("app.js")).args([address.port().to_string(), keep_alive_ms.to_string()])
            }
            Kind::Php => command.env("PHP_CLI_SERVER_WORKERS", "4").args(["-S", &bind]).arg(peers.join("app.php")),
        };
        if self.program() == "gunicorn" {
            // Nothing is to be written beside the application.
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command.args(["--bind", &bind, "--chdir"]).arg(&peers).arg("wsgi_app:application");
        }
        command
    }
}

/// A running server; killed when dropped, with all processes it has made.
pub(crate) struct Real {
    kind: Kind,
    keep_alive_ms: u64,
    pub(crate) address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
    log: PathBuf,
}

impl Real {
    /// Starts one that closes idle connections behind 5 s, as Node does if it is not told otherwise.
    pub(crate) fn start(kind: Kind) -> Real {
        Real::start_with(kind, 5000)
    }

    pub(crate) fn start_with(kind: Kind, keep_alive_ms: u64) -> Real {
        let address = free_address();
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let child = spawn(kind, address, keep_alive_ms, &log);
        Real { kind, keep_alive_ms, address, child, _folder: folder, log }.wait()
    }

    fn wait(mut self) -> Real {
        self.wait_until_it_listens();
        self
    }

    fn wait_until_it_listens(&mut self) {
        eventually("a real server listens", || {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "{:?} ended: {}", self.kind, self.told());
            TcpStream::connect(self.address).is_ok()
        });
    }

    /// What it has written.
    pub(crate) fn told(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }

    /// Starts it again at the same address.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.kind, self.address, self.keep_alive_ms, &self.log);
        self.wait_until_it_listens();
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(kind: Kind, address: SocketAddr, keep_alive_ms: u64, log: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a file");
    let mut command = kind.command(address, keep_alive_ms);
    // A group of its own: gunicorn and PHP have processes below the one we start.
    command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
    command.spawn().expect("it starts")
}
