//! The real binary with a config of its own in a temporary folder.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::Client;
use super::{PATIENCE, eventually};

/// Kernel interface of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    IoUring,
    Epoll,
    /// Whichever the kernel allows.
    Auto,
}

impl Driver {
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Driver::IoUring => "io-uring",
            Driver::Epoll => "epoll",
            Driver::Auto => "auto",
        }
    }
}

/// A server to be started. `$DIR` in the config stands for its temporary folder.
pub(crate) struct Site {
    driver: Driver,
    program: PathBuf,
    data_workers: usize,
    process: String,
    http: String,
    rest: String,
    log: String,
    admin: String,
    flags: Vec<String>,
    whole: Option<String>,
    folder: tempfile::TempDir,
}

impl Site {
    /// The real binary with two data workers, one listener `web` and the admin listener; `rest` are the sites and what
    /// they need.
    pub(crate) fn new(driver: Driver, rest: &str) -> Site {
        Site {
            driver,
            program: env!("CARGO_BIN_EXE_one-server").into(),
            data_workers: 2,
            process: String::new(),
            http: String::new(),
            rest: rest.to_owned(),
            log: String::new(),
            admin: "address = \"127.0.0.1:0\"".into(),
            flags: Vec::new(),
            whole: None,
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// The probe application (`examples/probe_app.rs`) instead of the binary.
    pub(crate) fn probe(driver: Driver, rest: &str) -> Site {
        // target/debug/deps/apps-… → target/debug/examples/probe_app
        let own = std::env::current_exe().expect("a path");
        let program = own.parent().and_then(Path::parent).expect("target/debug").join("examples/probe_app");
        assert!(program.is_file(), "{} is not there: `cargo test` builds it", program.display());
        Site { program, ..Site::new(driver, rest) }
    }

    /// So many data workers; beyond the cores there are, they share them.
    pub(crate) fn workers(mut self, count: usize) -> Site {
        self.data_workers = count;
        self
    }

    /// Another program.
    pub(crate) fn program(mut self, program: &Path) -> Site {
        self.program = program.to_owned();
        self
    }

    /// Started by this name, which leads to the binary.
    pub(crate) fn linked(mut self, name: &str) -> Site {
        let link = self.folder.path().join(name);
        std::os::unix::fs::symlink(&self.program, &link).expect("a link");
        self.program = link;
        self
    }

    pub(crate) fn one_worker(mut self) -> Site {
        self.data_workers = 1;
        self
    }

    /// This config and nothing else: no listener `web`, no admin listener.
    pub(crate) fn whole(mut self, config: &str) -> Site {
        self.whole = Some(config.to_owned());
        self
    }

    /// Lines of `[process]`.
    pub(crate) fn process(mut self, lines: &str) -> Site {
        self.process.push_str(lines);
        self.process.push('\n');
        self
    }

    /// Lines of `[http]`.
    pub(crate) fn http(mut self, lines: &str) -> Site {
        self.http.push_str(lines);
        self.http.push('\n');
        self
    }

    /// Further tables.
    pub(crate) fn more(mut self, tables: &str) -> Site {
        self.rest.push('\n');
        self.rest.push_str(tables);
        self
    }

    /// Lines of `[log]`.
    pub(crate) fn log(mut self, lines: &str) -> Site {
        self.log.push_str(lines);
        self
    }

    /// Lines of `[admin]`, in the place of one that says a free port.
    pub(crate) fn admin(mut self, lines: &str) -> Site {
        lines.clone_into(&mut self.admin);
        self
    }

    pub(crate) fn flags(mut self, flags: &[&str]) -> Site {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// The temporary folder, for files to serve.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the folder.
    pub(crate) fn file(self, name: &str, content: &[u8]) -> Site {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, content).expect("a file");
        self
    }

    /// Writes the config and returns its path.
    pub(crate) fn write_config(&self) -> PathBuf {
        let cores = first_cores(self.data_workers);
        let driver = self.driver.flag();
        let text = format!(
            "[process]\ndata_cores = \"{cores}\"\nconnections_max = 4096\ndriver = \"{driver}\"\n{}\n[http]\n{}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\n[admin]\n{}\n[log]\n{}\n{}",
            self.process, self.http, self.admin, self.log, self.rest
        );
        let text =
            self.whole.as_ref().unwrap_or(&text).replace("$DIR", self.folder.path().to_str().expect("plain path"));
        let path = self.folder.path().join("site.toml");
        std::fs::write(&path, text).expect("a config file");
        path
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        let config = self.write_config();
        let mut command = Command::new(&self.program);
        // Programs with the server as a library have a config and no command line.
        if self.program.parent().is_some_and(|folder| folder.ends_with("examples")) {
            command.arg(config);
        } else {
            command.arg("run").arg("-c").arg(config).args(["--driver", self.driver.flag()]).args(&self.flags);
        }
        command
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Server {
        let command = self.command();
        Server::spawn(command, self.driver.flag(), self.folder)
    }

    /// Starts it by `command` instead, which gets the binary and its arguments appended.
    pub(crate) fn start_through(self, mut command: Command) -> Server {
        let inner = self.command();
        command.arg(inner.get_program()).args(inner.get_args());
        Server::spawn(command, self.driver.flag(), self.folder)
    }
}

/// Whether the process of this number is no more.
pub(crate) fn has_ended(pid: u32) -> bool {
    // A child of ours stays as a zombie until it is waited for.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ")
}

/// The first `count` cores this process may use, as the config writes them.
fn first_cores(count: usize) -> String {
    let set = rustix::thread::sched_getaffinity(None).expect("an affinity mask");
    let there: Vec<usize> = (0..1024).filter(|&core| set.is_set(core)).collect();
    // As many workers as there are cores, unless the test wants more than two: then they share them.
    let count = if count <= 2 { count.min(there.len()) } else { count };
    let cores: Vec<String> = there.iter().cycle().take(count).map(ToString::to_string).collect();
    cores.join(",")
}

#[derive(Default)]
struct Told {
    lines: Vec<String>,
    ended: bool,
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    told: Arc<(Mutex<Told>, Condvar)>,
    reader: Option<std::thread::JoinHandle<()>>,
    addresses: HashMap<String, SocketAddr>,
    pub(crate) driver: &'static str,
    folder: tempfile::TempDir,
    /// Processes that have taken over, one from the other.
    later: Mutex<Vec<u32>>,
}

impl Server {
    fn spawn(mut command: Command, driver: &'static str, folder: tempfile::TempDir) -> Server {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let told = Arc::new((Mutex::new(Told::default()), Condvar::new()));
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let reader = std::thread::spawn({
            let told = told.clone();
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    told.0.lock().expect("a lock").lines.push(line);
                    told.1.notify_all();
                }
                told.0.lock().expect("a lock").ended = true;
                told.1.notify_all();
            }
        });
        let mut server = Server {
            child,
            told,
            reader: Some(reader),
            addresses: HashMap::new(),
            driver,
            folder,
            later: Mutex::default(),
        };
        server.wait_for_line("ready", |line| line.ends_with("info ready"));
        for line in server.lines() {
            if let Some((_, rest)) = line.split_once(" listening name=")
                && let Some((name, rest)) = rest.split_once(' ')
                && let Some((_, address)) = rest.split_once("address=")
                && let Ok(address) = address.trim().parse()
            {
                server.addresses.insert(name.to_owned(), address);
            }
        }
        server
    }

    /// Address of a listener.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        *self.addresses.get(listener).unwrap_or_else(|| panic!("no listener {listener}: {:?}", self.lines()))
    }

    /// Address of the listener `web`.
    pub(crate) fn web(&self) -> SocketAddr {
        self.address("web")
    }

    /// A new connection to `web`.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.web())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Of the process that serves.
    pub(crate) fn pid(&self) -> u32 {
        self.later.lock().expect("a lock").last().copied().unwrap_or_else(|| self.child.id())
    }

    /// Another process takes over by `one-server ctl upgrade`; returns its number.
    pub(crate) fn upgrade(&self) -> u32 {
        let answer: serde_json::Value = serde_json::from_str(&self.ctl_ok(&["upgrade", "--json"])).expect("JSON");
        let pid = answer["result"]["pid"].as_u64().expect("a number") as u32;
        self.follow(pid);
        pid
    }

    /// Another process has taken over.
    pub(crate) fn follow(&self, pid: u32) {
        self.later.lock().expect("a lock").push(pid);
    }

    /// What it has written to stderr so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        // Whoever waited in vain for a line left the lock poisoned; the lines are what explains it.
        self.told.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).lines.clone()
    }

    /// Waits for a line on stderr.
    ///
    /// Panics when it does not come, or when the process ends first.
    pub(crate) fn wait_for_line(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        let mut told = self.told.0.lock().expect("a lock");
        loop {
            if let Some(line) = told.lines.iter().find(|line| is_it(line)) {
                return line.clone();
            }
            let left = PATIENCE.saturating_sub(begin.elapsed());
            if told.ended || left.is_zero() {
                let lines = told.lines.join("\n");
                // A panic under the lock would make the clean-up panic as well, and nobody would read this one.
                drop(told);
                panic!("no line `{what}`; it told:\n{lines}");
            }
            told = self.told.1.wait_timeout(told, left.min(Duration::from_secs(1))).expect("a lock").0;
        }
    }

    /// Its config file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder().join("site.toml")
    }

    /// Changes the config file, part by part; `$DIR` stands for the folder.
    pub(crate) fn edit(&self, changes: &[(&str, &str)]) {
        let folder = self.folder().to_str().expect("plain path");
        let mut text = std::fs::read_to_string(self.config_file()).expect("a config file");
        for (from, to) in changes {
            let (from, to) = (from.replace("$DIR", folder), to.replace("$DIR", folder));
            assert!(text.contains(&from), "no `{from}` in:\n{text}");
            text = text.replace(&from, &to);
        }
        std::fs::write(self.config_file(), text).expect("a config file");
    }

    /// `one-server ctl`; its config says `control = "$DIR/ctl.sock"`.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_one-server"));
        command.arg("ctl").arg("--socket").arg(self.folder().join("ctl.sock")).args(arguments);
        command.stdin(Stdio::null()).output().expect("it runs")
    }

    /// What `one-server ctl` prints when it succeeds.
    pub(crate) fn ctl_ok(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), error.as_ref()), (Some(0), ""), "{arguments:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What it tells when it fails, with exit code 1.
    pub(crate) fn ctl_fails(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!((output.status.code(), printed.as_ref()), (Some(1), ""), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// Changes the config file and lets the server take it.
    pub(crate) fn reload_with(&self, changes: &[(&str, &str)]) -> String {
        self.edit(changes);
        self.ctl_ok(&["reload"])
    }

    /// The first line of the access log, the file `access.log` in its folder, that is told apart by `has`.
    pub(crate) fn logged(&self, has: &str) -> String {
        let mut found = String::new();
        super::eventually("the line of the log", || {
            let text = std::fs::read_to_string(self.folder().join("access.log")).unwrap_or_default();
            found = text.lines().find(|line| line.contains(has)).unwrap_or_default().to_owned();
            !found.is_empty()
        });
        found
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a number");
        kill_process(pid, signal).expect("the signal is sent");
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "the process does not end; it told:\n{}", self.lines().join("\n"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// A page of the admin listener.
    pub(crate) fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address("admin")).expect("the admin listener");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").expect("sent");
        let mut text = Vec::new();
        stream.read_to_end(&mut text).expect("an answer");
        super::client::parse_all(&text, &["GET"]).pop().expect("an answer").text()
    }

    /// The status page as JSON.
    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.admin("/status")).expect("JSON")
    }

    /// Sum of all samples of a metric whose labels contain `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.admin("/metrics");
        let mut found = false;
        let mut sum = 0.0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            if series.split('{').next() == Some(name) && series.contains(labels) {
                found = true;
                sum += value.parse::<f64>().expect("a number");
            }
        }
        assert!(found, "no metric {name} with {labels}:\n{text}");
        sum
    }

    /// Waits until no client is connected.
    pub(crate) fn wait_until_no_client(&self) {
        eventually("no client is connected", || self.metric("one_server_http_connections", "") == 0.0);
    }

    /// Resident memory in MiB: now, and the most it ever was.
    pub(crate) fn resident_mib(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("a field");
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let folder = self.folder.path().to_string_lossy().into_owned();
        for pid in self.later.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
            // The number may be another one's by now.
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&folder) {
                let _ = kill_process(Pid::from_raw(pid as i32).expect("a number"), Signal::KILL);
            }
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("the server ({}) told:\n{}", self.driver, self.lines().join("\n"));
        }
    }
}
