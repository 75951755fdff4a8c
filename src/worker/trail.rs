//! What an exchange leaves behind: counters, the access log's line, the live page's trace.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::Worker;
use super::connection::{Connection, TAKEN_AT_ONCE_BYTES};
use super::cx::{AnswerVariables, Cx};
use super::exchange::{After, Client, Outcome, Request};
use super::limits::Limited;
use super::logged::{self, Routed};
use super::tunnel::Flow;
use crate::http::h1::FieldName;
use crate::log::{
    AccessLog, AddressText, ClientFacts, Coding, Counts, EndedBy, Entry, OwnValues, Phase, Termination, Timers,
    TlsFacts,
};
use crate::metrics::{Exchanged, LimitOutcome, ServedBy, TraceEvent};

/// Longest request line kept in a trace.
const TRACE_LINE_BYTES_MAX: usize = 128;

/// What is noted on the way, for the log.
#[derive(Default)]
pub(super) struct Trail {
    /// Site that answers, index into the config.
    pub(super) site: Option<u16>,
    /// Upstream that the route chose, index into the config.
    pub(super) upstream: Option<u16>,
    /// The error of HTTP that was told to the client of a call of gRPC, under status 200.
    pub(super) call_error: Option<u16>,
    /// Status that the server behind us sent.
    pub(super) upstream_status: Option<u16>,
    /// Servers tried.
    pub(super) tries: u32,
    /// Time in queues in front of servers.
    pub(super) queued: Duration,
    /// Requests that waited before it for any server, when it came.
    pub(super) upstream_queue: u32,
    /// The same for the server that it belongs to.
    pub(super) server_queue: u32,
    /// How its wait ended, if not with a place.
    pub(super) queue_end: Option<QueueEnd>,
    /// Connecting to the server; zero on a kept connection.
    pub(super) connect: Option<Duration>,
    /// Request sent to complete response head.
    pub(super) response: Option<Duration>,
    /// Name the client has proved to be.
    pub(super) user: Option<Box<[u8]>>,
    /// The server that answered, or was tried last.
    pub(super) server: Option<ServedBy>,
    /// Content coding applied here, and the bytes before it.
    pub(super) coding: Option<(&'static str, u64)>,
    /// Route that was found, index into those of the site.
    pub(super) route: Option<u16>,
    /// What was routed, where the log may ask for it.
    pub(super) routed: Option<Box<Routed>>,
    /// What limits said.
    pub(super) limited: Limited,
    /// What went both ways behind a 101.
    pub(super) tunnelled: Option<Flow>,
    /// It was held back in the tarpit.
    pub(super) is_tarpitted: bool,
    /// The access log wants to hear of it.
    pub(super) log_access: bool,
    /// The fields of the answer, where the log wants them.
    pub(super) response_fields: Vec<u8>,
}

/// How a wait for a place ended without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueEnd {
    /// It did not begin: too many wait.
    Full,
    TimedOut,
    ClientGone,
}

/// Counters, access log, trace.
pub(super) fn account(
    worker: &Rc<Worker>,
    connection: &Connection,
    request: Request<'_>,
    client: &Client<'_>,
    outcome: Outcome,
) {
    let ended = worker.now();
    let duration = ended.saturating_duration_since(request.started);
    let status = client.answer.status();
    worker.stats.http.responses[usize::from(status / 100).min(5)].inc();
    worker.stats.http.duration.record(duration);
    let bytes_in = received_bytes(request, client);
    count(
        worker,
        connection,
        client,
        outcome,
        Exchanged { status, bytes_in, bytes_out: client.answer.sent_bytes(), duration },
    );
    if outcome.served_by == ServedBy::Files && status != 0 {
        worker.stats.files.duration.record(duration);
    }
    // The end of what fills the client's buffers leaves them later, however short it is itself.
    match client.answer.sent_bytes() > TAKEN_AT_ONCE_BYTES as u64 {
        true => connection.arrival.forget_end(),
        false => connection.arrival.note_end(ended),
    }
    if let Some(log) = &worker.access_log
        && client.answer.trail.log_access
        && log.wants(client.answer.trail.site)
    {
        let trail = &client.answer.trail;
        let cx = logged::cx(worker, connection, request, trail);
        let variables = AnswerVariables { cx: &cx, status, trail };
        if logged::is_wanted(&variables) {
            log_line(&variables, client, outcome, duration);
        }
    }
    if let Some(trace) = &worker.trace {
        let Request { head, bytes, .. } = request;
        let mut line = format!(
            "{} {}",
            String::from_utf8_lossy(head.method_text.of(bytes)),
            String::from_utf8_lossy(head.target(bytes))
        );
        let cut = (0..=TRACE_LINE_BYTES_MAX.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
        line.truncate(cut.unwrap_or(0));
        trace.push(TraceEvent::Request {
            request_id: request.id,
            data_worker: worker.index as u16,
            line,
            status,
            duration,
            served_by: outcome.served_by,
            generation: worker.shared.generation,
        });
    }
}

/// Counts an exchange where listener, route and server have their numbers.
fn count(worker: &Worker, connection: &Connection, client: &Client<'_>, outcome: Outcome, exchanged: Exchanged) {
    worker.stats.listeners[connection.listener(worker)].exchanges.count(exchanged);
    let trail = &client.answer.trail;
    if let (Some(site), Some(route)) = (trail.site, trail.route) {
        worker.stats.routes[usize::from(site)][usize::from(route)].count(exchanged);
    }
    if let Some((upstream, server)) = server_of(worker, outcome.served_by, trail.upstream) {
        worker.stats.servers[upstream][server].count(exchanged);
    }
}

/// The upstream and the server that answered; `None`: something else has. `upstream`: the one that was last asked, if any, which
/// saves a search.
pub(super) fn server_of(worker: &Worker, served_by: ServedBy, upstream: Option<u16>) -> Option<(usize, usize)> {
    let upstreams = &worker.config.upstreams;
    match served_by {
        ServedBy::Server { upstream, server } => Some((upstream.into(), server.into())),
        ServedBy::App { app, app_worker } => {
            let is_it = |upstream: &usize| upstreams[*upstream].in_process == Some(app.into());
            let asked = upstream.map(usize::from).filter(is_it);
            let upstream = asked.or_else(|| (0..upstreams.len()).find(is_it))?;
            // The threads of an application are one server.
            let is_one = worker.config.apps[usize::from(app)].threads.is_some();
            let server = if is_one { 0 } else { usize::from(app_worker) };
            (server < upstreams[upstream].servers.len()).then_some((upstream, server))
        }
        ServedBy::Worker | ServedBy::Files => None,
    }
}

/// Bytes of the head, the content, and of a tunnel behind them.
fn received_bytes(request: Request<'_>, client: &Client<'_>) -> u64 {
    let tunnelled = client.answer.trail.tunnelled.map_or(0, |flow| flow.up_bytes);
    request.head.head_bytes as u64 + client.upload.received_bytes() + tunnelled
}

fn log_line(variables: &AnswerVariables<'_>, client: &Client<'_>, outcome: Outcome, duration: Duration) {
    let (Cx { worker, connection, request, .. }, trail) = (*variables.cx, variables.trail);
    let Some(log) = &worker.access_log else { return };
    let Request { head, bytes, id, .. } = request;
    let (remote, peer) = (request.client_text(), AddressText::new(connection.peer.map(|peer| peer.ip())));
    let proxied = connection.proxied.get().map(|_| connection.peer_text());
    let entry = Entry {
        time: SystemTime::now(),
        remote_addr: remote.as_bytes(),
        remote_port: connection.peer().map_or(0, |peer| peer.port()),
        peer_addr: peer.as_bytes(),
        peer_port: connection.peer.map_or(0, |peer| peer.port()),
        remote_user: trail.user.as_deref(),
        proxy_protocol_addr: proxied.as_ref().map(AddressText::as_bytes),
        local_port: worker.ports[connection.listener(worker)],
        listener: connection.listener(worker) as u16,
        site: trail.site,
        scheme: request.scheme().as_bytes(),
        method: head.method_text.of(bytes),
        target: head.target(bytes),
        protocol: head.version.text().as_bytes(),
        head: Some((head, bytes)),
        referer: head.field(bytes, FieldName::Referer),
        user_agent: head.field(bytes, FieldName::UserAgent),
        host: Some(head.authority.of(bytes)).filter(|host| !host.is_empty()),
        status: client.answer.status(),
        response_fields: &trail.response_fields,
        body_bytes: client.answer.body_bytes(),
        bytes_sent: client.answer.sent_bytes(),
        bytes_received: received_bytes(request, client),
        coding: trail.coding.map(|(name, bytes_before)| Coding { name: name.as_bytes(), bytes_before }),
        duration,
        timers: Timers {
            connect: trail.connect,
            response: trail.response,
            queue: (trail.tries > 0 || trail.queue_end.is_some()).then_some(trail.queued),
            handshake: request.waits.handshake,
            idle: request.waits.idle,
            read: Some(request.waits.read),
            active: Some(request.waits.read + duration),
        },
        request_id: id,
        served_by: outcome.served_by,
        upstream: trail.upstream,
        upstream_status: trail.upstream_status,
        tries: trail.tries,
        limit_requests: trail.limited.by_rate.map(LimitOutcome::word),
        limit_connections: trail.limited.by_count.map(LimitOutcome::word),
        connection: connection.serial,
        connection_requests: connection.requests.get(),
        termination: termination(client, outcome),
        counts: if log.wants_counts() {
            counts(worker, connection, outcome.served_by, [trail.server_queue, trail.upstream_queue])
        } else {
            Counts::default()
        },
        own: log.wants_own().then_some(OwnValues(variables)),
        ..Entry::default()
    };
    record_with_tls(log, connection, entry);
}

/// Writes a line, with what is known of the connection's TLS session.
pub(super) fn record_with_tls(log: &AccessLog, connection: &Connection, entry: Entry<'_>) {
    connection.with_tls_facts(|facts| {
        let verify = facts.map(|facts| facts.verify.to_text());
        let tls = facts.map(|facts| TlsFacts {
            version: facts.version.as_bytes(),
            cipher: facts.cipher.as_bytes(),
            server_name: facts.server_name.as_deref().map(str::as_bytes),
            alpn: facts.alpn.map(str::as_bytes),
            resumed: facts.is_resumed,
            verify: verify.as_deref().unwrap_or_default().as_bytes(),
            client: facts.client.as_deref().map(|client| ClientFacts {
                subject: client.subject.as_bytes(),
                issuer: client.issuer.as_bytes(),
                serial: client.serial.as_bytes(),
                fingerprint: client.fingerprint.as_bytes(),
            }),
        });
        log.record(&Entry { tls: tls.as_ref(), ..entry });
    });
}

/// What is open and under way in the whole process, this request included. `ahead`: those that waited before it for the same
/// server, and for any of the upstream.
pub(super) fn counts(worker: &Worker, connection: &Connection, served_by: ServedBy, queues: [u32; 2]) -> Counts {
    counts_at(worker, connection.listener(worker), served_by, queues)
}

/// The same for a flow of UDP, which does not wait.
pub(super) fn flow_counts(worker: &Worker, listener: usize, served_by: ServedBy) -> Counts {
    counts_at(worker, listener, served_by, [0, 0])
}

fn counts_at(
    worker: &Worker,
    listener: usize,
    served_by: ServedBy,
    [server_queue, upstream_queue]: [u32; 2],
) -> Counts {
    let sum = |of: &dyn Fn(&crate::metrics::Worker) -> u64| {
        let total: u64 = worker.shared.workers.iter().map(|worker| of(worker)).sum();
        Some(u32::try_from(total).unwrap_or(u32::MAX))
    };
    let place = server_of(worker, served_by, None);
    let (upstream, server) = match place {
        Some((upstream, server)) => (
            sum(&|worker| worker.servers[upstream].iter().map(|server| server.active.value()).sum()),
            sum(&|worker| worker.servers[upstream][server].active.value()),
        ),
        None => (None, None),
    };
    Counts {
        process: sum(&|worker| worker.http.connections.value()),
        listener: sum(&|stats| stats.listeners[listener].open.value()),
        // This one has just ended there.
        upstream: Some(upstream.map_or(0, |others| others + 1)),
        server: Some(server.map_or(0, |others| others + 1)),
        server_queue: Some(server_queue),
        upstream_queue: Some(upstream_queue),
    }
}

/// Who ended the exchange, and when, in HAProxy's terms.
fn termination(client: &Client<'_>, outcome: Outcome) -> Termination {
    let has_begun = client.answer.status() != 0;
    match client.answer.trail.queue_end {
        Some(QueueEnd::Full) => return Termination::new(EndedBy::Resource, Phase::Queue),
        Some(QueueEnd::TimedOut) => return Termination::new(EndedBy::ServerTimeout, Phase::Queue),
        Some(QueueEnd::ClientGone) => return Termination::new(EndedBy::Client, Phase::Queue),
        None => {}
    }
    let is_served_elsewhere = matches!(outcome.served_by, ServedBy::Server { .. } | ServedBy::App { .. });
    match outcome.after {
        After::Abort if is_served_elsewhere => Termination::new(EndedBy::Server, Phase::Data),
        After::Abort => Termination::new(EndedBy::Client, Phase::Data),
        After::Close if client.answer.trail.is_tarpitted && !has_begun => {
            Termination::new(EndedBy::Client, Phase::Tarpit)
        }
        _ if client.answer.trail.tunnelled.is_some_and(|flow| flow.is_timed_out) => {
            Termination::new(EndedBy::ServerTimeout, Phase::Data)
        }
        _ if client.answer.trail.is_tarpitted => Termination::new(EndedBy::Proxy, Phase::Tarpit),
        _ if client.answer.trail.limited.is_refused() => Termination::new(EndedBy::Proxy, Phase::Request),
        After::Close if !has_begun => Termination::new(EndedBy::Client, Phase::Response),
        _ if outcome.served_by == ServedBy::Files => Termination::NORMAL,
        _ => match client.answer.trail.call_error.unwrap_or(client.answer.status()) {
            504 if client.answer.trail.tries > 0 => Termination::new(EndedBy::ServerTimeout, Phase::Response),
            502 if client.answer.trail.tries > 0 => Termination::new(EndedBy::Server, Phase::Response),
            503 if client.answer.trail.upstream.is_some() => Termination::new(EndedBy::Server, Phase::Connect),
            _ => Termination::NORMAL,
        },
    }
}
