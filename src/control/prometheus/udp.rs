//! Our own metrics of listeners in UDP mode.

use super::table::per_listener;
use crate::control::Shared;
use crate::control::exposition::{Exposition, Kind};
use crate::metrics::UdpRefusal;

pub(super) fn write(out: &mut Exposition, shared: &Shared) {
    let t = per_listener(shared, "one_server_udp_", |listener| listener.udp.is_some(), |worker, at| &*worker.udp[at]);
    if t.rows.is_empty() {
        return;
    }
    t.counter(out, "flows_total", "Flows that have begun.", |udp| &udp.flows);
    t.gauge(out, "flows", "Flows open now.", |udp| &udp.open);
    t.counter(out, "received_datagrams_total", "Datagrams from clients that were passed on.", |udp| &udp.datagrams_up);
    t.counter(out, "received_bytes_total", "Their bytes.", |udp| &udp.bytes_up);
    t.counter(out, "sent_datagrams_total", "Answers that were passed on to clients.", |udp| &udp.datagrams_down);
    t.counter(out, "sent_bytes_total", "Their bytes.", |udp| &udp.bytes_down);
    let help = "Datagrams dropped, by reason.";
    let mut refused = out.family("one_server_udp_refused_datagrams_total", Kind::Counter, help);
    for row in &t.rows {
        for why in UdpRefusal::ALL {
            let labels = [&row.labels()[..], &[("reason", why.name())]].concat();
            refused.sample(&labels, row.sum(|udp| udp.refused(why).value()));
        }
    }
    t.counter(out, "lost_datagrams_total", "Datagrams that this machine could not send.", |udp| &udp.lost);
    t.counter(out, "timeouts_total", "Flows that ended by silence.", |udp| &udp.timeouts);
    t.counter(out, "unanswered_total", "Of these, without the answers that were to come.", |udp| &udp.unanswered);
    let help = "Flows that ended because their server refused datagrams.";
    t.counter(out, "failed_total", help, |udp| &udp.failed);
    let help = "Flows that ended because their server was down or taken out.";
    t.counter(out, "server_down_total", help, |udp| &udp.server_down);
    t.histogram(out, "flow_duration_seconds", "First datagram to end.", |udp| &udp.duration);
}
