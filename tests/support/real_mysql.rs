//! A private MySQL primary with replicas for one test, with the same face as the MariaDB cluster: own folders, free ports, GTIDs,
//! row-based binary log. Stopped by process id when dropped.
//!
//! The programs are those that `scripts/test` unpacks into `target/mysql`. A new data folder takes MySQL seconds to make, so one is
//! made there and copied for each server.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::ports::free_port;

/// User and password the splitter and its clients use.
pub(crate) const USER: &str = "app";
/// See [`USER`].
pub(crate) const PASSWORD: &str = "s3cret";

/// Accounts, for a primary. `replication` may also join a group.
pub(crate) const ACCOUNTS: &str = "CREATE USER app@'%' IDENTIFIED BY 's3cret';
     GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE,
         CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, TRIGGER, REPLICATION CLIENT ON *.* TO app@'%';
     CREATE USER replication@'%' IDENTIFIED BY 'r';
     GRANT REPLICATION SLAVE, CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO replication@'%';
     CREATE DATABASE d CHARACTER SET utf8mb4; CREATE DATABASE e";

/// One server process.
pub(crate) struct Server {
    /// `server_id`.
    pub(crate) id: u32,
    /// TCP port on 127.0.0.1.
    pub(crate) port: u16,
    folder: PathBuf,
    /// More of the command line.
    arguments: Vec<String>,
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

/// Where MySQL is.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mysql")
}

/// MySQL's own client.
pub(crate) fn client_program() -> Command {
    let mut command = Command::new(programs().join("mysql"));
    command.arg("--no-defaults");
    command
}

/// Whether MySQL is there; prints that the test is skipped when not.
pub(crate) fn is_installed() -> bool {
    let found = programs().join("installed").is_file();
    if !found {
        eprintln!(
            "SKIPPED: there is no MySQL in target/mysql: scripts/test gets it from Debian unstable, if that has it today"
        );
    }
    found
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// For the user that the servers run as.
fn give(folder: &Path) {
    if is_root() {
        run(Command::new("chown").arg("-R").arg("mysql").arg(folder));
    }
}

/// What every server is started with, and the making of a data folder, too.
fn server(datadir: &Path) -> Command {
    let mut command = Command::new(programs().join("mysqld"));
    command.arg("--no-defaults").arg(format!("--datadir={}", datadir.display()));
    command.args(["--innodb-data-file-path=ibdata1:5M:autoextend", "--innodb-buffer-pool-size=24M"]);
    command.args(["--innodb-redo-log-capacity=16M", "--innodb-doublewrite=OFF", "--innodb-flush-log-at-trx-commit=2"]);
    command.args(["--secure-file-priv=NULL", "--mysqlx=OFF"]);
    if is_root() {
        command.arg("--user=mysql");
    }
    command
}

/// Data of a server that was never started; tests that run side by side make it once.
fn pristine() -> PathBuf {
    let (folder, parts) = (programs().join("data"), programs().join("data.part"));
    let lock = std::fs::File::create(programs().join("data.lock")).expect("a lock");
    flock(&lock, FlockOperation::LockExclusive).expect("locked");
    if !folder.is_dir() {
        let _ = std::fs::remove_dir_all(&parts);
        std::fs::create_dir(&parts).expect("a folder");
        give(&parts);
        run(server(&parts).args(["--initialize-insecure", "--innodb-autoextend-increment=1"]));
        // Each server finds a name of its own.
        std::fs::remove_file(parts.join("auto.cnf")).expect("its name");
        std::fs::rename(&parts, &folder).expect("renamed");
    }
    folder
}

/// Line of a splitter's table: the key that seals passwords for a server that does not know them yet. All have the same.
pub(crate) fn sealed() -> String {
    format!("server_public_key = \"{}\"\n", pristine().join("public_key.pem").display())
}

impl Server {
    /// A server with new data in a folder below `root`.
    pub(crate) fn new(root: &Path, id: u32) -> Server {
        let folder = root.join(format!("server{id}"));
        std::fs::create_dir_all(folder.join("tmp")).expect("a folder");
        run(Command::new("cp").arg("-a").arg(pristine()).arg(folder.join("data")));
        give(&folder);
        Server { id, port: free_port(), folder, arguments: Vec::new(), child: None }
    }

    /// Its Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Starts the process and waits until it answers.
    pub(crate) fn start(&mut self) {
        let mut command = server(&self.folder.join("data"));
        command.args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--report-host=127.0.0.1"]);
        command.arg(format!("--tmpdir={}", self.folder.join("tmp").display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--pid-file={}", self.folder.join("pid").display()));
        command.arg(format!("--port={}", self.port)).arg(format!("--server-id={}", self.id));
        command.args(["--log-bin=binlog", "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--sync-binlog=0"]);
        command.args(["--max-allowed-packet=67108864", "--replica-net-timeout=5", "--local-infile=ON"]);
        command.arg("--log-bin-trust-function-creators=1");
        // Memory: half a gigabyte otherwise.
        command.args(["--performance-schema=OFF", "--max-connections=150"]);
        command.args(["--table-open-cache=200", "--table-definition-cache=400", "--key-buffer-size=1M"]);
        command.args(&self.arguments);
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log")).expect("a log");
        command.stdout(log.try_clone().expect("its copy")).stderr(log).stdin(Stdio::null());
        command.process_group(0);
        self.child = Some(command.spawn().expect("it starts"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.try_sql("SELECT 1") {
            let ended = self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_some()));
            assert!(!ended && Instant::now() < deadline, "server {} does not start:\n{}", self.id, self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The same with more arguments.
    pub(crate) fn start_with(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).into()));
        self.start();
    }

    /// The command-line client as root.
    pub(crate) fn client(&self) -> Command {
        let mut command = client_program();
        command.args(["-uroot", "-N", "-B", "--default-character-set=utf8mb4"]).arg("-S").arg(self.socket());
        command
    }

    /// Runs SQL as root; whether the server did it.
    pub(crate) fn try_sql(&self, sql: &str) -> bool {
        let status = self.client().arg("-e").arg(sql).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Runs SQL as root; returns what it prints.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let output = self.client().arg("-e").arg(sql).output().expect("the client runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(output.status.success(), "server {}: {sql}: {}\n{}", self.id, text(&output.stderr), self.log());
        text(&output.stdout)
    }

    /// Has it know [`USER`]'s password, so that the next login needs no more than its hash.
    pub(crate) fn warm_up(&self) {
        let mut client = client_program();
        client.args(["-h127.0.0.1", "-P", &self.port.to_string(), "-u", USER, "-e", "DO 1"]);
        run(client.arg(format!("-p{PASSWORD}")));
    }

    /// Ends the process at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
    }

    /// Stops the process where it is (`true`), or lets it go on: its sockets stay open, and nobody answers.
    pub(crate) fn freeze(&self, frozen: bool) {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = Pid::from_child(self.child.as_ref().expect("it runs"));
        kill_process(pid, if frozen { Signal::STOP } else { Signal::CONT }).expect("a signal");
        // The signal is only sent then; each thread stops in its own time.
        while frozen && !self.is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether no thread runs any more (`proc_pid_stat(5)`: state `T` behind the name in brackets).
    fn is_stopped(&self) -> bool {
        let pid = self.child.as_ref().expect("it runs").id();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        tasks.into_iter().all(|task| {
            let stat = std::fs::read_to_string(task.expect("a thread").path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Value of a status counter.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let line = self.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// It follows `primary` from now on, read-only, from where it is.
    pub(crate) fn follow(&self, primary: &Server, more: &str) {
        self.sql(&format!(
            "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='replication',
             SOURCE_PASSWORD='r', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1, GET_SOURCE_PUBLIC_KEY=1{more};
             START REPLICA; SET GLOBAL read_only=1",
            primary.port
        ));
    }

    /// It follows nobody from now on, and takes writes.
    pub(crate) fn promote(&self) {
        self.sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL read_only=0");
    }

    /// Waits until it has everything that `other` has written.
    pub(crate) fn catch_up(&self, other: &Server) {
        let position = other.sql("SELECT @@global.gtid_executed").replace("\\n", "");
        let reached = self.sql(&format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', 30)"));
        assert_eq!(reached, "0", "server {} does not reach {position}", self.id);
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
        let folder = folder();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).expect("a file");
        }
        let dir = folder.path().display().to_string();
        let start = |id| {
            let mut server = Server::new(folder.path(), id);
            server.arguments = arguments.iter().map(|argument| argument.replace("$DIR", &dir)).collect();
            server.start();
            server
        };
        let mut servers: Vec<Server> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..replicas + 2).map(|id| scope.spawn(move || start(id))).collect();
            threads.into_iter().map(|thread| thread.join().expect("it starts")).collect()
        });
        let primary = servers.remove(0);
        primary.sql(ACCOUNTS);
        let cluster = Cluster { primary, replicas: servers, _folder: folder };
        cluster.replicas.iter().for_each(|replica| replica.follow(&cluster.primary, ""));
        cluster.wait_for_replicas();
        cluster.servers().for_each(Server::warm_up);
        cluster
    }

    /// All of them, the primary first.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Server> {
        [&self.primary].into_iter().chain(&self.replicas)
    }

    /// Starts a replica again after [`Server::kill`].
    pub(crate) fn restart_replica(&mut self, n: usize) {
        self.replicas[n].start();
        self.replicas[n].sql("SET GLOBAL read_only=1");
    }

    /// Waits until every replica has what the primary has.
    pub(crate) fn wait_for_replicas(&self) {
        self.replicas.iter().for_each(|replica| replica.catch_up(&self.primary));
    }
}

/// Members of a group with one primary (Group Replication), which is the first one until the group says otherwise.
pub(crate) struct Group {
    /// They answer, whatever they are in the group.
    pub(crate) members: Vec<Server>,
    _folder: tempfile::TempDir,
}

impl Group {
    /// Starts so many members, the first one as the primary. Accounts and databases are as in a [`Cluster`].
    pub(crate) fn start(count: u32) -> Group {
        let folder = folder();
        let talk: Vec<String> = (0..count).map(|_| format!("127.0.0.1:{}", free_port())).collect();
        let seeds = talk.join(",");
        let start = |id: u32| {
            let mut server = Server::new(folder.path(), id);
            server.start_with(&[
                // The members tell of each other in its tables; what it measures is not wanted.
                "--performance-schema=ON",
                "--performance-schema-instrument=%=OFF",
                "--plugin-load-add=group_replication.so",
                "--group-replication-group-name=3e11fa47-71ca-11e1-9e33-c80aa9429562",
                &format!("--group-replication-local-address={}", talk[id as usize - 1]),
                &format!("--group-replication-group-seeds={seeds}"),
                "--group-replication-ip-allowlist=127.0.0.1/8",
                "--group-replication-start-on-boot=OFF",
                "--group-replication-recovery-get-public-key=ON",
                // A member that is gone is missed after five seconds, and then not waited for.
                "--group-replication-member-expel-timeout=0",
            ]);
            server
        };
        let members: Vec<Server> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=count).map(|id| scope.spawn(move || start(id))).collect();
            threads.into_iter().map(|thread| thread.join().expect("it starts")).collect()
        });
        let recovery = "CHANGE REPLICATION SOURCE TO SOURCE_USER='replication', SOURCE_PASSWORD='r' \
                        FOR CHANNEL 'group_replication_recovery'";
        for member in &members {
            member.sql(&format!("SET sql_log_bin=0; {ACCOUNTS}; SET sql_log_bin=1; {recovery}"));
            member.warm_up();
        }
        members[0].sql(
            "SET GLOBAL group_replication_bootstrap_group=ON; START GROUP_REPLICATION;
             SET GLOBAL group_replication_bootstrap_group=OFF",
        );
        let group = Group { members, _folder: folder };
        for member in 1..group.members.len() {
            group.members[member].sql("START GROUP_REPLICATION");
        }
        (0..group.members.len()).for_each(|member| group.wait_until_online(member));
        group
    }

    /// Starts a member again after [`Server::kill`].
    pub(crate) fn rejoin(&mut self, member: usize) {
        self.members[member].start();
        self.members[member].sql("START GROUP_REPLICATION");
        self.wait_until_online(member);
    }

    fn wait_until_online(&self, member: usize) {
        let sql =
            "SELECT MEMBER_STATE FROM performance_schema.replication_group_members WHERE MEMBER_ID = @@server_uuid";
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.members[member].sql(sql) != "ONLINE" {
            assert!(Instant::now() < deadline, "member {member} does not join:\n{}", self.members[member].log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Where servers may live.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("one-server-mysql").tempdir().expect("a folder");
    if is_root() {
        run(Command::new("chmod").arg("755").arg(folder.path()));
    }
    folder
}
