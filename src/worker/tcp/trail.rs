//! What a connection in TCP mode leaves behind: counters and its line of the access log.

use std::time::{Duration, Instant, SystemTime};

use crate::log::{AddressText, Counts, EndedBy, Entry, Phase, StreamFacts, Termination, Timers};
use crate::metrics::ServedBy;
use crate::worker::Worker;
use crate::worker::connection::Connection;
use crate::worker::trail::{counts, record_with_tls};
use crate::worker::tunnel::{Flow, Side};

/// What is noted on the way.
#[derive(Default)]
pub(super) struct Trail {
    /// Name that the client has asked for, in lower case.
    pub(super) server_name: Option<Box<str>>,
    /// Protocols that it offers in a hello that is passed on.
    pub(super) alpn: Box<[u8]>,
    /// Indexes into the config.
    pub(super) upstream: Option<u16>,
    pub(super) server: Option<u16>,
    /// Servers tried.
    pub(super) tries: u32,
    /// How long connecting took, and when it was done.
    pub(super) connect: Option<Duration>,
    pub(super) connected: Option<Instant>,
    pub(super) flow: Flow,
}

/// How far a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Bytes were passed both ways until the end; the rest is in [`Trail::flow`].
    Passed,
    /// It closed before it said anything: a check of somebody's health, most likely.
    Silent,
    /// Its TLS handshake with us failed.
    NoHandshake,
    /// What looks like a TLS hello is none.
    BadHello,
    /// The hello did not come in time.
    HelloTimeout,
    /// Nobody is there for the name it asks for.
    Refused,
    /// No server is up.
    NoServer,
    /// The last server that was tried refused.
    ConnectFailed,
    /// The last server that was tried did not answer.
    ConnectTimeout,
}

impl Trail {
    pub(super) fn account(&self, worker: &Worker, connection: &Connection, ending: Ending) {
        let stats = &worker.stats.tcp[connection.listener(worker)];
        let lasted = connection.opened.elapsed();
        stats.duration.record(lasted);
        match ending {
            Ending::Passed => {}
            Ending::Refused | Ending::BadHello => stats.refused.inc(),
            Ending::HelloTimeout => stats.timeouts.inc(),
            Ending::NoServer | Ending::ConnectFailed | Ending::ConnectTimeout => stats.unserved.inc(),
            Ending::Silent | Ending::NoHandshake => {}
        }
        stats.timeouts.add(u64::from(self.flow.is_timed_out));
        stats.resets.add(u64::from(self.flow.broken.is_some()));
        if let (Some(connected), ServedBy::Server { upstream, server }) = (self.connected, self.served_by()) {
            worker.stats.servers[usize::from(upstream)][usize::from(server)].session.record(connected.elapsed());
        }
        if ending != Ending::Silent {
            self.log(worker, connection, ending, lasted);
        }
    }

    fn served_by(&self) -> ServedBy {
        match (self.upstream, self.server) {
            (Some(upstream), Some(server)) => ServedBy::Server { upstream, server },
            _ => ServedBy::Worker,
        }
    }

    fn log(&self, worker: &Worker, connection: &Connection, ending: Ending, lasted: Duration) {
        let Some(log) = worker.access_log.as_ref().filter(|log| log.wants(None)) else { return };
        let (remote, peer) = (connection.peer_text(), AddressText::new(connection.peer.map(|peer| peer.ip())));
        let proxied = connection.proxied.get().map(|_| remote);
        let local = AddressText::new(connection.stream().local_addr().map(|local| local.ip()));
        let is_passed_on = !connection.is_tls();
        let entry = Entry {
            time: SystemTime::now(),
            remote_addr: remote.as_bytes(),
            remote_port: connection.peer().map_or(0, |peer| peer.port()),
            peer_addr: peer.as_bytes(),
            peer_port: connection.peer.map_or(0, |peer| peer.port()),
            proxy_protocol_addr: proxied.as_ref().map(AddressText::as_bytes),
            local_addr: local.as_bytes(),
            local_port: worker.ports[connection.listener(worker)],
            listener: connection.listener(worker) as u16,
            scheme: if connection.is_tls() { b"tls" } else { b"tcp" },
            protocol: b"TCP",
            status: status(ending),
            body_bytes: self.flow.down_bytes,
            bytes_sent: self.flow.down_bytes,
            bytes_received: self.flow.up_bytes,
            duration: lasted,
            timers: Timers {
                connect: self.connect,
                // Nothing waits in a queue of ours in front of a server yet; with one tried, that took no time.
                queue: (self.tries > 0).then_some(Duration::ZERO),
                active: Some(lasted),
                ..Timers::default()
            },
            served_by: self.served_by(),
            upstream: self.upstream,
            tries: self.tries,
            connection: connection.serial,
            connection_requests: 1,
            termination: self.termination(ending),
            counts: match log.wants_tcp_counts() {
                true => counts(worker, connection, self.served_by(), [0, 0]),
                false => Counts::default(),
            },
            stream: Some(StreamFacts {
                server_name: self.server_name.as_deref().filter(|_| is_passed_on).map(str::as_bytes),
                alpn: &self.alpn,
                datagrams: None,
            }),
            ..Entry::default()
        };
        record_with_tls(log, connection, entry);
    }

    /// In HAProxy's terms.
    fn termination(&self, ending: Ending) -> Termination {
        match ending {
            Ending::Passed => match (self.flow.is_timed_out, self.flow.broken) {
                (true, _) => Termination::new(EndedBy::ServerTimeout, Phase::Data),
                (_, Some(Side::Client)) => Termination::new(EndedBy::Client, Phase::Data),
                (_, Some(Side::Server)) => Termination::new(EndedBy::Server, Phase::Data),
                (false, None) => Termination::NORMAL,
            },
            Ending::Silent | Ending::NoHandshake => Termination::new(EndedBy::Client, Phase::Request),
            Ending::HelloTimeout => Termination::new(EndedBy::ClientTimeout, Phase::Request),
            Ending::BadHello | Ending::Refused => Termination::new(EndedBy::Proxy, Phase::Request),
            Ending::NoServer | Ending::ConnectFailed => Termination::new(EndedBy::Server, Phase::Connect),
            Ending::ConnectTimeout => Termination::new(EndedBy::ServerTimeout, Phase::Connect),
        }
    }
}

/// nginx's `$status` of a stream: 200, what the client did wrong, or what the servers did not do.
fn status(ending: Ending) -> u16 {
    match ending {
        Ending::Passed | Ending::Silent => 200,
        Ending::NoHandshake | Ending::BadHello | Ending::HelloTimeout => 400,
        Ending::Refused => 403,
        Ending::NoServer | Ending::ConnectFailed | Ending::ConnectTimeout => 502,
    }
}
