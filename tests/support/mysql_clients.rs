//! Clients of a splitter in the real binary, by the driver that applications use, and the splitter itself between them and
//! a real cluster.

use std::net::SocketAddr;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder};

use super::mariadb::{Cluster, PASSWORD, USER};
use super::support::{Driver, PATIENCE, Server, Site};

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(PATIENCE * 3, future).await.expect("in time") };
    runtime.block_on(limited)
}

/// What is known beforehand is not asked for: a client sends what the test says and nothing else.
pub(crate) fn options(address: SocketAddr, user: &str, password: &str, schema: Option<&str>) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname(address.ip().to_string())
        .tcp_port(address.port())
        .user(Some(user))
        .pass(Some(password))
        .db_name(schema)
        .prefer_socket(false)
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(28_800))
}

pub(crate) async fn log_on(
    address: SocketAddr,
    user: &str,
    password: &str,
    schema: Option<&str>,
) -> Result<Conn, Error> {
    Conn::new(options(address, user, password, schema)).await
}

/// Error number of the server.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> u16 {
    match result {
        Err(Error::Server(error)) => error.code,
        other => panic!("not an error of the server: {other:?}"),
    }
}

/// The first value of the first row.
pub(crate) async fn one(conn: &mut Conn, sql: &str) -> String {
    conn.query_first::<String, _>(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).expect("a row")
}

/// A primary, a replica, and a splitter `db` in front of them, in a process with a control socket.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
}

impl Scene {
    /// `lines` of `[mysql.db]`, then further tables of it. `d.who` holds 1 on the primary and 2 on the replica.
    pub(crate) fn start(driver: Driver, workers: usize, lines: &str) -> Scene {
        let cluster = Cluster::start(1);
        cluster.primary.sql(
            "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(99)) ENGINE=InnoDB;
             INSERT INTO d.t (v) VALUES ('a'), ('b'), ('c');
             CREATE TABLE d.who (id INT) ENGINE=InnoDB; INSERT INTO d.who VALUES (1);
             CREATE FUNCTION d.here() RETURNS INT READS SQL DATA RETURN (SELECT MAX(id) FROM d.who);
             CREATE USER reports@'%' IDENTIFIED BY 'r3ports'; GRANT ALL ON *.* TO reports@'%'",
        );
        cluster.wait_for_replicas();
        cluster.replicas[0].sql("SET sql_log_bin=0; UPDATE d.who SET id=2");
        let many = if lines.starts_with("clients_max") { "" } else { "clients_max = 20000\n" };
        let rest = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";
        let site = Site::new(driver, rest).workers(workers).process("control = \"$DIR/ctl.sock\"").more(&format!(
            "[mysql.db]\nlisten = \"127.0.0.1:0\"\nprimary = \"127.0.0.1:{}\"\nreplicas = [\"127.0.0.1:{}\"]\nuser = \"{USER}\"\n\
             password = \"{PASSWORD}\"\nmonitor_interval = \"100ms\"\n{many}{lines}\n",
            cluster.primary.port, cluster.replicas[0].port
        ));
        let server = site.start();
        let address = server.address("db");
        let scene = Scene { cluster, server, address };
        block_on(scene.wait_for_replica());
        scene
    }

    /// Waits until the monitor lets reads go to the replica.
    async fn wait_for_replica(&self) {
        let begun = std::time::Instant::now();
        let up = || self.server.status()["splitters"][0]["servers"][1]["up"] == true;
        while !up() {
            assert!(begun.elapsed() < PATIENCE, "the replica is not used");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// A client of the main account, in database `d`.
    pub(crate) async fn client(&self) -> Conn {
        log_on(self.address, USER, PASSWORD, Some("d")).await.expect("logged on")
    }

    /// Connections of this user that a server has, the monitor's not among them.
    pub(crate) fn connections(&self, server: usize, user: &str) -> usize {
        let server = if server == 0 { &self.cluster.primary } else { &self.cluster.replicas[server - 1] };
        let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user='{user}'");
        let count: usize = server.sql(&sql).parse().expect("a number");
        count.saturating_sub(usize::from(user == USER))
    }
}
