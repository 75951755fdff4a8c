//! A private Galera cluster for one test: MariaDB servers that each take writes and certify them among themselves. Nodes join by a
//! full copy of another node's data (rsync(1), which Debian's mariadb-server brings along).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::mariadb::{self, PASSWORD, Server, USER};
use super::support::ports::free_port;

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

/// Longest time for a node to get in step.
const JOIN_MAX: Duration = Duration::from_secs(60);

/// Nodes of one cluster.
pub(crate) struct Galera {
    /// Node `n` is called `nN`, and has the `server_id` `n + 1`.
    pub(crate) nodes: Vec<Server>,
    _folder: tempfile::TempDir,
}

/// Whether it can be tested; prints that the test is skipped when not.
pub(crate) fn is_installed() -> bool {
    let has_provider = Path::new(PROVIDER).is_file();
    if !has_provider {
        eprintln!("SKIPPED: galera-4 is not installed");
    }
    has_provider && super::support::has_program("rsync") && mariadb::is_installed()
}

impl Galera {
    /// Starts so many nodes, in step. Accounts and databases are as in a [`mariadb::Cluster`].
    pub(crate) fn start(count: u32) -> Galera {
        let folder = tempfile::Builder::new().prefix("one-server-galera").tempdir().expect("a folder");
        // For the user that the servers run as.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), mode).expect("permissions");
        let talk: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let mut nodes = vec![Server::new(folder.path(), 1, None)];
        let files = nodes[0].data();
        nodes.extend((2..=count).map(|id| Server::new(folder.path(), id, Some(&files))));
        for (n, node) in nodes.iter_mut().enumerate() {
            let options = format!(
                "gmcast.listen_addr=tcp://127.0.0.1:{port};base_host=127.0.0.1;base_port={port};ist.recv_addr=127.0.0.1:{};gcache.size=16M",
                free_port(),
                port = talk[n],
            );
            // The first one begins the cluster, the others find it there.
            let others: Vec<_> = talk[..n].iter().map(|port| format!("127.0.0.1:{port}")).collect();
            node.start_with(&[
                "--wsrep-on=ON",
                &format!("--wsrep-provider={PROVIDER}"),
                &format!("--wsrep-provider-options={options}"),
                "--wsrep-cluster-name=one",
                &format!("--wsrep-cluster-address=gcomm://{}", others.join(",")),
                &format!("--wsrep-node-name=n{n}"),
                "--wsrep-node-address=127.0.0.1",
                "--wsrep-sst-method=rsync",
                &format!("--wsrep-sst-receive-address=127.0.0.1:{}", free_port()),
                "--innodb-autoinc-lock-mode=2",
            ]);
            wait_until_in_step(node);
        }
        nodes[0].sql(&format!(
            "CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';
             GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES,
                 EXECUTE, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, SLAVE MONITOR ON *.* TO {USER}@'%';
             CREATE DATABASE d CHARACTER SET utf8mb4; CREATE DATABASE e"
        ));
        Galera { nodes, _folder: folder }
    }

    /// Cuts a node off from the others (`true`), or lets it find them again. It answers clients all the while.
    pub(crate) fn isolate(&self, node: usize, is_alone: bool) {
        let option = format!("gmcast.isolate={}", u8::from(is_alone));
        self.nodes[node].sql(&format!("SET GLOBAL wsrep_provider_options='{option}'"));
    }

    /// Starts a node again after [`Server::kill`]; it gets its data from `donor`.
    pub(crate) fn rejoin(&mut self, node: usize, donor: usize) {
        let talk = self.nodes[donor].sql("SELECT @@wsrep_provider_options");
        let address = talk.split(';').find_map(|option| option.trim().strip_prefix("gmcast.listen_addr = tcp://"));
        let address = address.expect("its address").to_owned();
        let donor = format!("--wsrep-sst-donor=n{donor}");
        self.nodes[node].start_with(&[&format!("--wsrep-cluster-address=gcomm://{address}"), &donor]);
        wait_until_in_step(&self.nodes[node]);
    }
}

/// Value of a variable of `SHOW GLOBAL STATUS`.
pub(crate) fn status(node: &Server, name: &str) -> String {
    let line = node.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
    line.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

fn wait_until_in_step(node: &Server) {
    let begun = Instant::now();
    while status(node, "wsrep_local_state") != "4" {
        assert!(begun.elapsed() < JOIN_MAX, "node {} is not in step", node.id);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A client that holds a lock on a node until this is dropped.
pub(crate) struct Held(Child);

impl Held {
    /// `sql` has taken it when this returns.
    pub(crate) fn new(node: &Server, sql: &str) -> Held {
        let mut command = node.client();
        command.arg("--unbuffered").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = command.spawn().expect("it starts");
        let input = client.stdin.as_mut().expect("its input");
        writeln!(input, "{sql}; SELECT 'held';").expect("it listens");
        let mut line = String::new();
        BufReader::new(client.stdout.as_mut().expect("its output")).read_line(&mut line).expect("it answers");
        assert_eq!(line.trim(), "held", "{sql}");
        Held(client)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
