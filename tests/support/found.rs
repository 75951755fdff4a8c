//! A splitter that finds its primary among several servers: a real cluster behind it, what it shows of them, and clients.

use std::net::SocketAddr;
use std::time::Duration;

use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Conn, Error, OptsBuilder};

use super::mariadb::{Cluster, PASSWORD, USER};
use super::support::{Driver, Server, Site, eventually};

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(Duration::from_secs(150), future).await.expect("in time") };
    runtime.block_on(limited)
}

pub(crate) async fn try_connect(address: SocketAddr) -> Result<Conn, Error> {
    let options = OptsBuilder::default()
        .ip_or_hostname(address.ip().to_string())
        .tcp_port(address.port())
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .db_name(Some("d"))
        .prefer_socket(false);
    Conn::new(options).await
}

pub(crate) async fn connect(address: SocketAddr) -> Conn {
    try_connect(address).await.expect("logged on")
}

pub(crate) async fn one<T: FromValue + Send + 'static>(conn: &mut Conn, sql: &str) -> T {
    conn.query_first::<T, _>(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).expect("a row")
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> u16 {
    match result {
        Err(Error::Server(error)) => error.code,
        other => panic!("not an error of the server: {other:?}"),
    }
}

/// A cluster behind a splitter that finds the primary.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
}

pub(crate) const ROUTE: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";

/// Table `who` says on which server a read ran, behind replication's back; `log` takes tokens, any number of times.
pub(crate) fn scene(replicas: u32, keys: &str) -> Scene {
    let cluster = Cluster::start(replicas);
    cluster.primary.sql(
        "CREATE TABLE d.who (id INT) ENGINE=InnoDB; INSERT INTO d.who VALUES (1);
         CREATE TABLE d.log (token VARCHAR(40), KEY(token)) ENGINE=InnoDB",
    );
    cluster.wait_for_replicas();
    for replica in &cluster.replicas {
        replica.sql(&format!("SET sql_log_bin=0; UPDATE d.who SET id={}", replica.id));
    }
    // The primary comes last, so that it must be found.
    let ports = cluster.replicas.iter().map(|replica| replica.port).chain([cluster.primary.port]);
    let server = start(ports, keys);
    let address = server.address("db");
    let scene = Scene { cluster, server, address };
    scene.wait_for_primary(scene.cluster.primary.port);
    scene
}

pub(crate) fn start(ports: impl Iterator<Item = u16>, keys: &str) -> Server {
    site(ports, keys).start()
}

/// A splitter before the servers on these ports, of which one is the primary; `keys` are lines of its table.
pub(crate) fn site(ports: impl Iterator<Item = u16>, keys: &str) -> Site {
    let servers: Vec<String> = ports.map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let pool_max = if keys.contains("pool_max") { "" } else { "pool_max = 8" };
    let table = format!(
        "[mysql.db]\nlisten = \"127.0.0.1:0\"\nservers = [{}]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n{pool_max}\n\
         monitor_interval = \"100ms\"\nconnect_timeout = \"1s\"\nprimary_dwell = \"500ms\"\n{keys}\n",
        servers.join(", ")
    );
    Site::new(Driver::Auto, ROUTE).process("control = \"$DIR/ctl.sock\"").more(&table)
}

pub(crate) fn id(port: u16) -> String {
    format!("db/127.0.0.1:{port}")
}

impl Scene {
    pub(crate) fn show(&self) -> serde_json::Value {
        show(&self.server)
    }

    pub(crate) fn wait_for_primary(&self, port: u16) {
        wait_for_primary(&self.server, port);
    }

    /// Field of a server.
    pub(crate) fn of(&self, port: u16, field: &str) -> String {
        field_of(&self.show(), port, field)
    }
}

pub(crate) fn show(server: &Server) -> serde_json::Value {
    let json: serde_json::Value = serde_json::from_str(&server.ctl_ok(&["--json", "mysql", "show"])).expect("JSON");
    json["result"]["splitters"][0].clone()
}

pub(crate) fn field_of(shown: &serde_json::Value, port: u16, field: &str) -> String {
    let address = format!("127.0.0.1:{port}");
    let servers = shown["servers"].as_array().expect("servers");
    let server = servers.iter().find(|server| server["address"] == address.as_str()).expect("the server");
    server[field].as_str().map_or_else(|| server[field].to_string(), str::to_owned)
}

pub(crate) fn wait_for_primary(server: &Server, port: u16) {
    eventually(&format!("127.0.0.1:{port} is the primary"), || {
        let shown = show(server);
        field_of(&shown, port, "role") == "primary" && shown["vacancy"].is_null()
    });
}
