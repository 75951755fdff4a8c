//! A private MariaDB primary with replicas for one test: own folders, free ports, GTID replication, row-based binary
//! log. Stopped by process id when dropped.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::ports::free_port;

/// User and password the splitter and its clients use.
pub(crate) const USER: &str = "app";
/// See [`USER`].
pub(crate) const PASSWORD: &str = "s3cret";

/// One server process.
pub(crate) struct Server {
    /// `server_id`.
    pub(crate) id: u32,
    /// TCP port on 127.0.0.1.
    pub(crate) port: u16,
    folder: PathBuf,
    /// More of the command line.
    arguments: Vec<String>,
    /// It runs in this network namespace (ip-netns(8)).
    namespace: Option<String>,
    child: Option<Child>,
}

/// A primary and its replicas.
pub(crate) struct Cluster {
    /// Takes writes.
    pub(crate) primary: Server,
    /// Follow it.
    pub(crate) replicas: Vec<Server>,
    _folder: tempfile::TempDir,
}

/// Whether MariaDB is installed; prints that the test is skipped when not.
pub(crate) fn is_installed() -> bool {
    let found = ["mariadbd", "mariadb-install-db", "mariadb"].iter().all(|program| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    if !found {
        eprintln!("skipped: mariadbd, mariadb-install-db and mariadb are not installed");
    }
    found
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    /// `files`: another server's data, before it was ever started.
    pub(crate) fn new(root: &Path, id: u32, files: Option<&Path>) -> Server {
        let folder = root.join(format!("server{id}"));
        // Its own folder for temporary files: servers in other containers may use the same names in a shared /tmp.
        std::fs::create_dir_all(folder.join("tmp")).unwrap();
        if is_root() {
            run(Command::new("chown").arg("-R").arg("mysql").arg(&folder));
        }
        match files {
            Some(files) => run(Command::new("cp").arg("-a").arg(files).arg(folder.join("data"))),
            None => Server::install(&folder),
        }
        Server { id, port: free_port(), folder, arguments: Vec::new(), namespace: None, child: None }
    }

    fn install(folder: &Path) {
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--datadir={}", folder.join("data").display()));
        install.arg(format!("--tmpdir={}", folder.join("tmp").display()));
        install.args(["--innodb-log-file-size=8M", "--skip-name-resolve"]);
        if is_root() {
            install.arg("--user=mysql");
        }
        run(&mut install);
    }

    /// Where its data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Starts the process and waits until it answers.
    pub(crate) fn start(&mut self) {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, "mariadbd"]);
                command
            }
            None => Command::new("mariadbd"),
        };
        command.arg("--no-defaults").arg("--bind-address=127.0.0.1").arg("--skip-name-resolve");
        command.arg(format!("--datadir={}", self.folder.join("data").display()));
        command.arg(format!("--tmpdir={}", self.folder.join("tmp").display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--pid-file={}", self.folder.join("pid").display()));
        command.arg(format!("--port={}", self.port)).arg(format!("--server-id={}", self.id));
        command.args(["--log-bin=binlog", "--log-slave-updates", "--binlog-format=ROW", "--gtid-strict-mode=ON"]);
        command.args(["--innodb-buffer-pool-size=24M", "--innodb-log-file-size=8M", "--key-buffer-size=1M"]);
        command.args(["--max-allowed-packet=67108864", "--slave-net-timeout=5", "--innodb-flush-log-at-trx-commit=2"]);
        command.arg("--log-bin-trust-function-creators=1");
        command.args(&self.arguments);
        if is_root() {
            command.arg("--user=mysql");
        }
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
        command.process_group(0);
        self.child = Some(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.try_sql("SELECT 1") {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "server {} does not start:\n{}", self.id, log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The same with more arguments.
    pub(crate) fn start_with(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).into()));
        self.start();
    }

    /// The command-line client as root.
    pub(crate) fn client(&self) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-uroot", "-N", "-B"]).arg("-S").arg(self.socket());
        command
    }

    /// Runs SQL as root; whether the server did it.
    pub(crate) fn try_sql(&self, sql: &str) -> bool {
        let status = self.client().arg("-e").arg(sql).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Runs SQL as root; returns what it prints.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let output = self.client().arg("-e").arg(sql).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(output.status.success(), "server {}: {sql}: {}", self.id, text(&output.stderr));
        text(&output.stdout)
    }

    /// Ends the process at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops the process where it is (`true`), or lets it go on: its sockets stay open, and nobody answers.
    pub(crate) fn freeze(&self, frozen: bool) {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, if frozen { Signal::STOP } else { Signal::CONT }).unwrap();
        // The signal is only sent then; each thread stops in its own time.
        while frozen && !self.is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether no thread runs any more (`proc_pid_stat(5)`: state `T` behind the name in brackets).
    fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.as_ref().unwrap().id())).unwrap();
        tasks.into_iter().all(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Value of a status counter.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let line = self.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Cluster {
    /// Starts a primary and `replicas` replicas that follow it; every replica is `read_only`.
    pub(crate) fn start(replicas: u32) -> Cluster {
        Cluster::start_with(replicas, &[], &[])
    }

    /// The same with files in the folder that `$DIR` stands for in these arguments of all servers.
    pub(crate) fn start_with(replicas: u32, files: &[(&str, &str)], arguments: &[&str]) -> Cluster {
        Cluster::start_apart(replicas, files, arguments, None)
    }

    /// The same with the replicas in a network namespace of their own, and the address by which they reach the primary.
    pub(crate) fn start_apart(
        replicas: u32,
        files: &[(&str, &str)],
        arguments: &[&str],
        apart: Option<(&str, &str)>,
    ) -> Cluster {
        let folder = tempfile::Builder::new().prefix("one-server-mariadb").tempdir().unwrap();
        if is_root() {
            let status = Command::new("chmod").arg("755").arg(folder.path()).status().unwrap();
            assert!(status.success());
        }
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let dir = folder.path().display().to_string();
        let new = |id, files: Option<&Path>| {
            let arguments = arguments.iter().map(|argument| argument.replace("$DIR", &dir)).collect();
            let mut server = Server::new(folder.path(), id, files);
            server.arguments = arguments;
            server
        };
        let mut primary = new(1, None);
        let files = primary.folder.join("data");
        let mut replicas: Vec<_> = (0..replicas).map(|n| new(n + 2, Some(&files))).collect();
        for replica in &mut replicas {
            replica.namespace = apart.map(|(namespace, _)| namespace.to_owned());
        }
        primary.start();
        primary.sql(&format!(
            "CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';
             GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES,
                 EXECUTE, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, SLAVE MONITOR ON *.* TO {USER}@'%';
             CREATE USER replication@'%' IDENTIFIED BY 'r';
             GRANT REPLICATION SLAVE ON *.* TO replication@'%';
             CREATE DATABASE d CHARACTER SET utf8mb4; CREATE DATABASE e"
        ));
        let mut cluster = Cluster { primary, replicas, _folder: folder };
        for n in 0..cluster.replicas.len() {
            cluster.replicas[n].start();
            cluster.follow(n, apart.map_or("127.0.0.1", |(_, primary)| primary));
        }
        cluster.wait_for_replicas();
        cluster
    }

    fn follow(&self, n: usize, primary: &str) {
        self.replicas[n].sql(&format!(
            "SET GLOBAL read_only=1; CHANGE MASTER TO MASTER_HOST='{primary}', MASTER_PORT={}, MASTER_USER='replication',
             MASTER_PASSWORD='r', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1; START SLAVE",
            self.primary.port
        ));
    }

    /// Starts a replica again after [`Server::kill`].
    pub(crate) fn restart_replica(&mut self, n: usize) {
        self.replicas[n].start();
        self.replicas[n].sql("SET GLOBAL read_only=1");
    }

    /// Waits until every replica has what the primary has.
    pub(crate) fn wait_for_replicas(&self) {
        let position = self.primary.sql("SELECT @@gtid_binlog_pos");
        for replica in &self.replicas {
            let reached = replica.sql(&format!("SELECT MASTER_GTID_WAIT('{position}', 30)"));
            assert_eq!(reached, "0", "replica {} does not reach {position}", replica.id);
        }
    }
}
