//! Sessions with a splitter or a server on 127.0.0.1: those of a library, and one that speaks packets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Conn, Error, OptsBuilder, Row};
use one_server::mysql::protocol::{auth, capability, greeting::Greeting, login::Login};

use super::mariadb::{Cluster, PASSWORD, USER};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn options(port: u16) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .prefer_socket(false)
}

/// A session with database `d`.
pub(crate) async fn connect(port: u16) -> Conn {
    let options = options(port).db_name(Some("d")).max_allowed_packet(Some(64 << 20));
    Conn::new(options).await.unwrap()
}

/// The first value of the first row.
pub(crate) async fn one<T: FromValue + Send + 'static>(conn: &mut Conn, sql: &str) -> T {
    let row: Option<Row> = conn
        .query_first(sql)
        .await
        .unwrap_or_else(|error| panic!("{:.60}: {error:.300}", sql, error = error.to_string()));
    row.unwrap_or_else(|| panic!("{sql}: no row")).get(0).unwrap_or_else(|| panic!("{sql}: no such value"))
}

/// The number of a server's error.
pub(crate) fn code(error: &Error) -> u16 {
    match error {
        Error::Server(error) => error.code,
        error => panic!("not an error of the server: {error}"),
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), future).await.expect("timed out") })
}

/// Table `who` says on which server a read ran: the replicas' content differs, behind replication's back.
pub(crate) fn mark_servers(cluster: &Cluster) {
    cluster.primary.sql("CREATE TABLE d.who (id INT) ENGINE=InnoDB; INSERT INTO d.who VALUES (1)");
    cluster.wait_for_replicas();
    for replica in &cluster.replicas {
        replica.sql(&format!("SET sql_log_bin=0; UPDATE d.who SET id={}", replica.id));
    }
}

/// Waits until reads arrive at a replica.
pub(crate) async fn wait_for_reads_on_replica(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut conn = connect(port).await;
        if one::<u32>(&mut conn, "SELECT id FROM who").await > 1 {
            return;
        }
        assert!(Instant::now() < deadline, "no read arrives at a replica");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A client that speaks packets.
pub(crate) struct Raw {
    stream: TcpStream,
    /// The server's first packet.
    pub(crate) greeting: Greeting,
    deprecate_eof: bool,
}

impl Raw {
    /// Logs on with database `d`, with these capabilities and those that every client has.
    pub(crate) fn connect(port: u16, more: u32) -> Raw {
        Raw::log_on(port, more, "d")
    }

    /// The same with another database, or none.
    pub(crate) fn log_on(port: u16, more: u32, schema: &str) -> Raw {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let greeting = Greeting::decode(&packet(&mut stream).unwrap()[4..]).unwrap();
        let capabilities = capability::PROTOCOL_41
            | capability::SECURE_CONNECTION
            | capability::PLUGIN_AUTH
            | capability::CONNECT_WITH_DB
            | capability::TRANSACTIONS
            | more;
        let answer = auth::native::native_answer(PASSWORD.as_bytes(), &greeting.scramble);
        let login = Login {
            capabilities,
            collation: 45,
            user: USER.as_bytes(),
            answer: &answer,
            schema: schema.as_bytes(),
            plugin: auth::Method::Native.plugin(),
            zstd_level: 0,
        };
        let mut out = Vec::new();
        login.encode(&mut out, 1);
        stream.write_all(&out).unwrap();
        let ok = packet(&mut stream).unwrap();
        assert_eq!(ok[3..5], [2, 0], "OK to the login: {}", String::from_utf8_lossy(&ok));
        Raw { stream, greeting, deprecate_eof: more & capability::DEPRECATE_EOF != 0 }
    }

    /// Sends a packet.
    pub(crate) fn send(&mut self, sequence_id: u8, payload: &[u8]) {
        let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
        self.stream.write_all(&[&[a, b, c, sequence_id], payload].concat()).unwrap();
    }

    /// One packet, header included; `None`: the connection was closed.
    pub(crate) fn packet(&mut self) -> Option<Vec<u8>> {
        packet(&mut self.stream)
    }

    /// Sends a command; returns the one packet that answers it, without its header.
    pub(crate) fn command(&mut self, payload: &[u8]) -> Vec<u8> {
        self.send(0, payload);
        self.packet().expect("an answer")[4..].to_vec()
    }

    /// Sends a command that is answered by a result; returns all packets. EOF packets are cut to their first byte, because
    /// servers put momentary flags into them.
    pub(crate) fn result(&mut self, payload: &[u8]) -> Vec<Vec<u8>> {
        self.send(0, payload);
        let mut packets = vec![self.packet().expect("an answer")];
        let ends = if self.deprecate_eof { 1 } else { 2 };
        let mut left = if matches!(packets[0][4], 0 | 0xFF) { 0 } else { ends };
        while left > 0 {
            let mut packet = self.packet().expect("the rest of it");
            if packet[4] == 0xFE && packet.len() < 64 {
                packet.truncate(5);
                left -= 1;
            }
            left = if packet[4] == 0xFF { 0 } else { left };
            packets.push(packet);
        }
        packets
    }

    /// The same with COM_QUERY.
    pub(crate) fn query(&mut self, sql: &str) -> Vec<Vec<u8>> {
        self.result(&[b"\x03", sql.as_bytes()].concat())
    }
}

fn packet(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut packet = vec![0; 4];
    stream.read_exact(&mut packet).ok()?;
    let len = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]) as usize;
    packet.resize(4 + len, 0);
    stream.read_exact(&mut packet[4..]).ok()?;
    Some(packet)
}
