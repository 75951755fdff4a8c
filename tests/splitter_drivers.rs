//! Real drivers through the splitter: the same program must print what it prints when it talks to the primary itself, in
//! clear, over TLS, and compressed, as far as the driver has these.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests need one form alone")]
mod split;
#[path = "support/with_sqlx.rs"]
mod with_sqlx;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::prelude::Queryable;
use mysql_async::{Compression, Conn, OptsBuilder, Row, SslOpts};
use support::ports;
use support::tls::{Kind, trusted};
use support::*;

/// Whether packets go through TLS, and whether they are compressed.
const WAYS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

/// A driver, as a program of `tests/peers/sql`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Mariadb,
    PyMysql,
    MysqlClient,
    Mysql2,
    Mysqli,
    Pdo,
}

impl Peer {
    const ALL: [Peer; 6] = [Peer::Mariadb, Peer::PyMysql, Peer::MysqlClient, Peer::Mysql2, Peer::Mysqli, Peer::Pdo];

    /// PyMySQL cannot compress.
    fn compresses(self) -> bool {
        self != Peer::PyMysql
    }

    fn is_installed(self) -> bool {
        let (what, check): (&str, &[&str]) = match self {
            Peer::Mariadb => ("mariadb-client", &["mariadb", "--version"]),
            Peer::PyMysql => ("python3-pymysql", &["/usr/bin/python3", "-c", "import pymysql"]),
            Peer::MysqlClient => ("python3-mysqldb", &["/usr/bin/python3", "-c", "import MySQLdb"]),
            Peer::Mysql2 => ("mysql2 of npm", &["node", "-e", "require('mysql2')"]),
            Peer::Mysqli => ("php-mysql", &["php", "-r", "exit(extension_loaded('mysqli') ? 0 : 1);"]),
            Peer::Pdo => ("php-mysql", &["php", "-r", "exit(extension_loaded('pdo_mysql') ? 0 : 1);"]),
        };
        let mut command = Command::new(check[0]);
        command.args(&check[1..]).env("NODE_PATH", modules()).stdout(Stdio::null()).stderr(Stdio::null());
        let found = command.status().is_ok_and(|status| status.success());
        if !found {
            eprintln!("SKIPPED: {what} is not installed");
        }
        found
    }

    /// What the program prints.
    fn run(self, address: SocketAddr, ca: Option<&Path>, compress: bool) -> String {
        let (port, peers) = (address.port().to_string(), repository().join("tests/peers/sql"));
        let mut command = match self {
            Peer::Mariadb => {
                let mut command = Command::new("mariadb");
                command.args(["--no-defaults", "--protocol=tcp", "-h127.0.0.1", "-P", &port, "-u", USER, "-f", "-vvv"]);
                command.arg(format!("-p{PASSWORD}")).args(["--default-character-set=utf8mb4", "--connect-timeout=20"]);
                command.args(ca.map(|ca| format!("--ssl-ca={}", ca.display())));
                command.args(if ca.is_some() { &["--ssl-verify-server-cert"] } else { &["--skip-ssl"] });
                command.args(compress.then_some("--compress"));
                command.arg("d").stdin(std::fs::File::open(peers.join("client.sql")).expect("a script"));
                command
            }
            Peer::PyMysql | Peer::MysqlClient => {
                let mut command = Command::new("/usr/bin/python3");
                command.arg(peers.join("python.py")).arg(if self == Peer::PyMysql { "pymysql" } else { "MySQLdb" });
                command
            }
            Peer::Mysql2 => {
                let mut command = Command::new("node");
                command.arg(peers.join("node.js")).env("NODE_PATH", modules());
                command
            }
            Peer::Mysqli | Peer::Pdo => {
                let mut command = Command::new("php");
                command.arg(peers.join("php.php")).arg(if self == Peer::Mysqli { "mysqli" } else { "pdo" });
                command
            }
        };
        if self != Peer::Mariadb {
            command.args(["127.0.0.1", &port, USER, PASSWORD]).stdin(Stdio::null());
            command.args(ca.map(|ca| format!("ca={}", ca.display()))).args(compress.then_some("compress"));
        }
        let output = command.output().expect("it runs");
        let (told, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // The client goes on after errors, and says at the end that there were some.
        assert!(output.status.success() || self == Peer::Mariadb, "{self:?}: {error}\n{told}");
        format!("{told}{error}")
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `scripts/test` puts packages of npm.
fn modules() -> PathBuf {
    repository().join("target/node/node_modules")
}

struct Scene {
    cluster: Cluster,
    splitter: Server,
    direct: SocketAddr,
}

impl Scene {
    fn new() -> Scene {
        Scene::with("")
    }

    /// With these lines of the splitter's table.
    fn with(keys: &str) -> Scene {
        let identity = trusted().server(&["127.0.0.1", "localhost"], Kind::Ecdsa);
        let files = [("server.pem", identity.chain.as_str()), ("server.key", identity.key.as_str())];
        let arguments = ["--ssl-cert=$DIR/server.pem", "--ssl-key=$DIR/server.key"];
        let cluster = Cluster::start_with(1, &files, &arguments);
        cluster.primary.sql(
            "DELIMITER //
             CREATE PROCEDURE d.two_results(n INT) BEGIN SELECT n, 'é'; SELECT n + 1 WHERE 1; END//
             CREATE PROCEDURE d.fails() BEGIN SELECT 1; SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'on purpose'; END//",
        );
        cluster.wait_for_replicas();
        let tls = "tls = { certificates = [{ chain = \"$DIR/db.pem\", key = \"$DIR/db.key\" }] }\npool_max = 8\n";
        let site = split::site(Driver::Auto, &cluster, &format!("{tls}{keys}")).identity("db", &identity);
        let splitter = site.file("ca.pem", trusted().pem.as_bytes()).start();
        let direct = SocketAddr::from(([127, 0, 0, 1], cluster.primary.port));
        Scene { cluster, splitter, direct }
    }

    fn ca(&self) -> PathBuf {
        self.splitter.folder().join("ca.pem")
    }

    /// Clients of the splitter that came over TLS.
    fn tls_clients(&self) -> u64 {
        self.splitter.metric("one_server_splitter_clients_tls_total", "") as u64
    }

    fn socket(&self) -> PathBuf {
        self.splitter.folder().join("db.sock")
    }

    /// Both sides print the same.
    fn compare(&self, what: &str, run: impl Fn(SocketAddr) -> String) {
        self.compare_ways(what, || run(self.direct), || run(self.splitter.address("db")));
    }

    /// The same with another way of reaching each.
    fn compare_ways(&self, what: &str, direct: impl Fn() -> String, through: impl Fn() -> String) {
        let clear = || {
            self.cluster.primary.sql("DROP TABLE IF EXISTS d.people, d.crates");
            self.cluster.wait_for_replicas();
        };
        clear();
        let expected = direct();
        clear();
        let found = through();
        let lines = expected.lines().zip(found.lines());
        for (number, (expected, found)) in lines.enumerate() {
            assert_eq!(found, expected, "{what}: line {}", number + 1);
        }
        assert_eq!(found.lines().count(), expected.lines().count(), "{what}");
        assert!(expected.lines().count() > 10, "{what}: {expected}");
    }
}

#[test]
fn drivers_see_the_same_as_without_the_splitter() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = Scene::new();
    let ca = scene.ca();
    for peer in Peer::ALL.into_iter().filter(|peer| peer.is_installed()) {
        for (tls, compress) in WAYS {
            if compress && !peer.compresses() {
                continue;
            }
            let ca = tls.then_some(&*ca);
            // How long a statement took is printed, too.
            let plain = |text: String| text.split('\n').map(without_times).collect::<Vec<_>>().join("\n");
            scene.compare(&format!("{peer:?} tls={tls} compress={compress}"), |address| {
                plain(peer.run(address, ca, compress))
            });
        }
    }
    assert!(scene.splitter.metric("one_server_splitter_statements_total", "to=\"replica\"") > 10.0);
    assert!(scene.splitter.metric("one_server_splitter_clients_tls_total", "") > 3.0);
}

/// `2 rows in set (0.001 sec)` without what is in brackets.
fn without_times(line: &str) -> &str {
    match line.rsplit_once(" (") {
        Some((start, time)) if time.trim_end().ends_with("sec)") => start,
        _ => line,
    }
}

/// What the servers send is compressed, too, whatever the client wants.
#[test]
fn drivers_see_the_same_where_servers_compress() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = Scene::with("server_compression = \"zlib\"\n");
    for peer in [Peer::Mariadb, Peer::PyMysql, Peer::Mysqli].into_iter().filter(|peer| peer.is_installed()) {
        for compress in [false, true].into_iter().filter(|compress| !compress || peer.compresses()) {
            let plain = |text: String| text.split('\n').map(without_times).collect::<Vec<_>>().join("\n");
            scene.compare(&format!("{peer:?} compress={compress}"), |address| plain(peer.run(address, None, compress)));
        }
    }
    for compress in [false, true] {
        scene.compare(&format!("mysql_async compress={compress}"), |address| {
            run_mysql_async(over_tcp(address, None, compress))
        });
    }
    assert!(scene.splitter.metric("one_server_splitter_statements_total", "to=\"replica\"") > 10.0);
}

#[test]
fn mysql_async_sees_the_same_as_without_the_splitter() {
    if !mariadb::is_installed() {
        return;
    }
    let scene = Scene::new();
    let ca = scene.ca();
    for (tls, compress) in WAYS {
        let before = scene.tls_clients();
        scene.compare(&format!("mysql_async tls={tls} compress={compress}"), |address| {
            run_mysql_async(over_tcp(address, tls.then_some(&*ca), compress))
        });
        assert_eq!(scene.tls_clients() - before, u64::from(tls));
    }
    let socket = scene.socket();
    let url = format!("mysql://{USER}:{PASSWORD}@localhost/d?socket={}", socket.display());
    let over_socket = || OptsBuilder::from_opts(mysql_async::Opts::from_url(&url).expect("a URL"));
    scene.compare_ways(
        "mysql_async over a Unix socket",
        || run_mysql_async(over_tcp(scene.direct, None, false)),
        || run_mysql_async(over_socket()),
    );
}

/// A pool of sqlx, over TCP in clear and in TLS (compress it cannot), and over the splitter's Unix socket.
#[test]
fn sqlx_sees_the_same_as_without_the_splitter() {
    if !mariadb::is_installed() {
        return;
    }
    // What one connection of a pool has written the others are to see.
    let scene = Scene::with("causal_reads = \"node\"\n");
    let url = |address: SocketAddr, more: &str| format!("mysql://{USER}:{PASSWORD}@{address}/d?{more}");
    let in_tls = format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={}", scene.ca().display());
    let through = |more: &str| url(scene.splitter.address("db"), more);
    let direct = with_sqlx::run(&url(scene.direct, "ssl-mode=DISABLED"));
    // It would use TLS there, too.
    let socket = format!("mysql://{USER}:{PASSWORD}@localhost/d?ssl-mode=DISABLED&socket={}", scene.socket().display());
    for (through, tls) in [(through("ssl-mode=DISABLED"), false), (through(&in_tls), true), (socket, false)] {
        let reads = || scene.splitter.metric("one_server_splitter_statements_total", "to=\"replica\"");
        let (before, tls_before) = (reads(), scene.tls_clients());
        scene.compare_ways(&through, || direct.clone(), || with_sqlx::run(&through));
        assert_eq!(scene.tls_clients() > tls_before, tls, "{through}");
        assert!(reads() - before > 60.0, "{through}: reads go to the replica, also right after writes");
        let pinned = || scene.splitter.metric("one_server_splitter_sessions_pinned", "");
        eventually("nobody is pinned", || pinned() == 0.0);
    }
    let unknown = scene.splitter.metric("one_server_splitter_pins_total", "reason=\"unknown\"");
    assert_eq!(unknown, 0.0, "what sqlx sends by itself is understood");
}

fn run_mysql_async(options: OptsBuilder) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut told = Vec::new();
    let work = async { tokio::time::timeout(PATIENCE, with_mysql_async(options, &mut told)).await };
    let end = runtime.block_on(work).expect("in time");
    assert!(end.is_ok(), "{end:?} behind {:?}", told.last());
    told.join("\n")
}

fn over_tcp(address: SocketAddr, ca: Option<&Path>, compress: bool) -> OptsBuilder {
    let trusting = |ca: &Path| {
        let roots = vec![ca.to_owned().into()];
        SslOpts::default().with_root_certs(roots).with_disable_built_in_roots(true)
    };
    OptsBuilder::default()
        .ssl_opts(ca.map(trusting))
        .ip_or_hostname("127.0.0.1")
        .tcp_port(address.port())
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .db_name(Some("d"))
        .compression(compress.then(Compression::fast))
        .prefer_socket(false)
}

async fn with_mysql_async(options: OptsBuilder, told: &mut Vec<String>) -> Result<(), mysql_async::Error> {
    let mut conn = Conn::new(options).await?;
    conn.query_drop("DROP TABLE IF EXISTS crates").await?;
    conn.query_drop(
        "CREATE TABLE crates (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) UNIQUE, amount DECIMAL(12,4), seen DATETIME(6), \
         data LONGBLOB, ratio DOUBLE, big BIGINT UNSIGNED)",
    )
    .await?;
    let insert =
        conn.prep("INSERT INTO crates (name, amount, seen, data, ratio, big) VALUES (?, ?, ?, ?, ?, ?)").await?;
    for (n, name) in ["Zoë 💡", "日本", ""].into_iter().enumerate() {
        let data = if n == 0 { None } else { Some(vec![0u8, 255, n as u8]) };
        let values = (name, "12.5000", "2024-02-29 23:59:59.000001", data, n as f64 / 3.0, u64::MAX);
        conn.exec_drop(&insert, values).await?;
        told.push(format!("{:?} {} {}", conn.last_insert_id(), conn.affected_rows(), conn.get_warnings()));
    }
    let rows: Vec<Row> = conn.exec("SELECT * FROM crates WHERE id > ? ORDER BY id", (0,)).await?;
    told.extend(rows.iter().map(|row| format!("{row:?}")));
    let rows: Vec<Row> = conn.query("SELECT * FROM crates ORDER BY id").await?;
    told.extend(rows.iter().map(|row| format!("{row:?} {:?}", row.columns_ref())));
    for commit in [true, false] {
        let mut transaction = conn.start_transaction(mysql_async::TxOpts::default()).await?;
        transaction.query_drop(format!("INSERT INTO crates (name) VALUES ('commit {commit}')")).await?;
        told.push(format!("{:?}", transaction.last_insert_id()));
        if commit { transaction.commit().await? } else { transaction.rollback().await? }
    }
    told.push(format!("{:?}", conn.query::<String, _>("SELECT name FROM crates ORDER BY id").await?));
    for sql in ["INSERT INTO crates (name) VALUES ('')", "SELECT * FROM nowhere", "SELEKT 1"] {
        told.push(format!("{:?}", conn.query_drop(sql).await.expect_err("an error")));
        told.push(format!("{:?}", conn.exec_drop(sql, ()).await.expect_err("an error")));
    }
    let mut results = conn.query_iter("SELECT 1; SELECT 'two' UNION SELECT 'three'; DO 1").await?;
    while !results.is_empty() {
        told.push(format!("{:?}", results.collect::<Row>().await?));
    }
    drop(results);
    let mut results = conn.exec_iter("CALL two_results(?)", (3,)).await?;
    while !results.is_empty() {
        told.push(format!("{:?}", results.collect::<Row>().await?));
    }
    drop(results);
    let sum: Vec<u64> = conn.query("SELECT seq FROM seq_1_to_5000").await?;
    told.push(sum.iter().sum::<u64>().to_string());
    conn.reset().await?;
    told.push(format!("{:?}", conn.query_first::<Row, _>("SELECT DATABASE(), LAST_INSERT_ID(), @@autocommit").await?));
    conn.disconnect().await
}

/// A load generator of others: no error in seconds of transactions, point reads and updates, by both ways of preparing, but
/// for deadlocks, and rows that two threads insert again at once where there are no transactions.
#[test]
fn sysbench_runs_without_an_error() {
    if !mariadb::is_installed() || !has_program("sysbench") {
        return;
    }
    let scene = Scene::new();
    let port = scene.splitter.address("db").port().to_string();
    // Over TLS it wants these three in the folder it is started in.
    let identity = trusted().server(&["sysbench"], Kind::Ecdsa);
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in
        [("cacert.pem", &trusted().pem), ("client-cert.pem", &identity.chain), ("client-key.pem", &identity.key)]
    {
        std::fs::write(folder.path().join(name), content).expect("a file");
    }
    let sysbench = |more: &[&str], command: &str| {
        let mut run = Command::new("sysbench");
        run.current_dir(folder.path());
        run.args(["oltp_read_write", "--mysql-host=127.0.0.1", "--mysql-db=d", "--tables=2", "--table-size=500"]);
        run.args([
            format!("--mysql-port={port}"),
            format!("--mysql-user={USER}"),
            format!("--mysql-password={PASSWORD}"),
        ]);
        let output =
            run.args(["--threads=8", "--mysql-ignore-errors=1213,1020,1205,1062"]).args(more).arg(command).output();
        let output = output.expect("sysbench runs");
        let (told, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !told.contains("FATAL"), "{more:?} {command}: {told}{error}");
        told.into_owned()
    };
    sysbench(&[], "prepare");
    let events = |told: &str| -> u64 {
        let line = told.lines().find(|line| line.contains("total number of events:")).expect("a line");
        line.split_whitespace().last().and_then(|number| number.parse().ok()).expect("a number")
    };
    for more in [
        &["--time=2", "--db-ps-mode=auto"][..],
        &["--time=2", "--db-ps-mode=auto", "--skip-trx=on"],
        &["--time=1", "--db-ps-mode=disable", "--skip-trx=on"],
        &["--time=1", "--mysql-ssl=on"],
        &["--time=1", "--mysql-compression=on", "--skip-trx=on"],
        &["--time=1", "--mysql-ssl=on", "--mysql-compression=on", "--skip-trx=on"],
    ] {
        let compressed = || scene.splitter.metric("one_server_splitter_clients_compressed_total", "");
        let (before, compressed_before) = (scene.tls_clients(), compressed());
        let told = sysbench(more, "run");
        assert!(events(&told) > 20, "{more:?}: {told}");
        assert!(told.contains("reconnects:                          0 "), "{more:?}: {told}");
        let has_tls = more.contains(&"--mysql-ssl=on");
        assert_eq!(scene.tls_clients() > before, has_tls, "{more:?}");
        let is_compressed = more.contains(&"--mysql-compression=on");
        assert_eq!(compressed() > compressed_before, is_compressed, "{more:?}");
    }
    let on_replica = scene.splitter.metric("one_server_splitter_statements_total", "to=\"replica\"");
    assert!(on_replica > 100.0, "without transactions reads are split");
    scene.cluster.wait_for_replicas();
    let sums = |server: &mariadb::Server| server.sql("CHECKSUM TABLE d.sbtest1, d.sbtest2");
    assert_eq!(sums(&scene.cluster.replicas[0]), sums(&scene.cluster.primary));
}
