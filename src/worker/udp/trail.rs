//! What a flow leaves behind: counters and its line of the access log.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use super::endpoint::Link;
use crate::log::{AddressText, EndedBy, Entry, Phase, StreamFacts, Termination, Timers};
use crate::metrics::ServedBy;
use crate::proxy::flows::Flow;
use crate::worker::forward::observe_unanswered;
use crate::worker::trail::flow_counts;

/// Why a flow is over.
#[derive(Debug)]
pub(super) enum Ending {
    /// All has come that was to come.
    Complete,
    /// Nothing has come for too long.
    Silent,
    /// The server is not there, as the kernel says.
    ServerFailed(io::Error),
    /// The server is down, or the operator has taken it out.
    ServerDown,
    /// The process ends.
    Stopped,
}

/// Counts and logs a flow that has ended. `port` is the one that clients ask.
pub(super) fn account(flow: &Flow<Rc<Link>>, ending: &Ending, port: u16, now: Instant) {
    let link = &flow.value;
    let (stats, server, worker) = (link.stats(), link.held.stats(), link.held.worker());
    let lasted = now.saturating_duration_since(flow.opened);
    stats.open.dec();
    worker.stats.listeners[link.listener].open.dec();
    stats.duration.record(lasted);
    server.session.record(lasted);
    match ending {
        Ending::Complete | Ending::Stopped => {}
        Ending::Silent => {
            stats.timeouts.inc();
            if flow.is_unanswered() {
                // Not more than counted: any client can ask what a server is right not to answer, and must not be able to make
                // one rest. Who wants it ejected says so (`outliers`).
                stats.unanswered.inc();
                server.response_errors.inc();
                observe_unanswered(worker, link.held.upstream, link.held.server);
            }
        }
        Ending::ServerFailed(_) => stats.failed.inc(),
        Ending::ServerDown => stats.server_down.inc(),
    }
    log(flow, ending, port, lasted);
}

fn log(flow: &Flow<Rc<Link>>, ending: &Ending, port: u16, lasted: Duration) {
    let (link, worker) = (&flow.value, flow.value.held.worker());
    let Some(log) = worker.access_log.as_ref().filter(|log| log.wants(None)) else { return };
    let (remote, local) = (AddressText::new(Some(flow.key.client.ip())), flow.key.local);
    let local_text = AddressText::new(local);
    let (upstream, server) = (link.held.upstream as u16, link.held.server as u16);
    let served_by = ServedBy::Server { upstream, server };
    log.record(&Entry {
        time: SystemTime::now(),
        remote_addr: remote.as_bytes(),
        remote_port: flow.key.client.port(),
        local_addr: local.map_or(&b""[..], |_| local_text.as_bytes()),
        local_port: port,
        listener: link.listener as u16,
        scheme: b"udp",
        protocol: b"UDP",
        status: status(flow, ending),
        body_bytes: flow.down.bytes,
        bytes_sent: flow.down.bytes,
        bytes_received: flow.up.bytes,
        duration: lasted,
        timers: Timers {
            connect: Some(Duration::ZERO),
            queue: Some(Duration::ZERO),
            active: Some(lasted),
            ..Timers::default()
        },
        served_by,
        upstream: Some(upstream),
        tries: link.tries,
        connection: link.serial,
        connection_requests: 1,
        termination: termination(flow, ending),
        counts: if log.wants_tcp_counts() { flow_counts(worker, link.listener, served_by) } else { Default::default() },
        stream: Some(StreamFacts {
            datagrams: Some([flow.up.datagrams, flow.down.datagrams]),
            ..StreamFacts::default()
        }),
        ..Entry::default()
    });
}

/// nginx's `$status` of a stream: 200, or 502 for a server that did not do its part.
fn status(flow: &Flow<Rc<Link>>, ending: &Ending) -> u16 {
    match ending {
        Ending::Complete => 200,
        Ending::Silent if flow.is_unanswered() => 502,
        Ending::Silent => 200,
        Ending::ServerFailed(_) => 502,
        Ending::ServerDown | Ending::Stopped if flow.is_unanswered() => 502,
        Ending::ServerDown | Ending::Stopped => 200,
    }
}

/// In HAProxy's terms.
fn termination(flow: &Flow<Rc<Link>>, ending: &Ending) -> Termination {
    let phase = if flow.down.datagrams == 0 { Phase::Response } else { Phase::Data };
    match ending {
        Ending::Complete => Termination::NORMAL,
        Ending::Silent if flow.is_unanswered() => Termination::new(EndedBy::ServerTimeout, phase),
        Ending::Silent => Termination::new(EndedBy::ClientTimeout, Phase::Data),
        Ending::ServerFailed(_) => Termination::new(EndedBy::Server, phase),
        Ending::ServerDown => Termination::new(EndedBy::ServerDown, phase),
        Ending::Stopped => Termination::new(EndedBy::Operator, phase),
    }
}
