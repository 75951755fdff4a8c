//! Listeners in UDP mode, as the status page and `ctl show` tell of them.

use serde::{Deserialize, Serialize};

use super::Shared;
use crate::metrics::{UdpRefusal, UdpStats};

/// One listener in UDP mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UdpView {
    /// Name in the config.
    pub listener: String,
    /// Flows open now.
    pub flows: u64,
    /// As many as there may be.
    pub flows_max: usize,
    /// Flows since the start.
    pub flows_total: u64,
    /// Datagrams from clients that were passed on, and their bytes.
    pub received_datagrams: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Answers that were passed on.
    pub sent_datagrams: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams dropped, by reason.
    pub refused: std::collections::BTreeMap<String, u64>,
    /// Flows that ended by silence.
    pub timeouts: u64,
    /// Of these, without the answers that were to come.
    pub unanswered: u64,
    /// Flows whose server refused datagrams.
    pub failed: u64,
}

/// In the order of the config.
pub(crate) fn views(shared: &Shared) -> Vec<UdpView> {
    let modes = shared.config.listeners.iter().enumerate();
    modes
        .filter_map(|(index, listener)| {
            let route = listener.udp.as_ref()?;
            let sum =
                |read: &dyn Fn(&UdpStats) -> u64| shared.workers.iter().map(|worker| read(&worker.udp[index])).sum();
            Some(UdpView {
                listener: listener.name.clone(),
                flows: sum(&|udp| udp.open.value()),
                flows_max: route.flows_max,
                flows_total: sum(&|udp| udp.flows.value()),
                received_datagrams: sum(&|udp| udp.datagrams_up.value()),
                received_bytes: sum(&|udp| udp.bytes_up.value()),
                sent_datagrams: sum(&|udp| udp.datagrams_down.value()),
                sent_bytes: sum(&|udp| udp.bytes_down.value()),
                refused: UdpRefusal::ALL
                    .iter()
                    .map(|why| (why.name().to_owned(), sum(&|udp| udp.refused(*why).value())))
                    .collect(),
                timeouts: sum(&|udp| udp.timeouts.value()),
                unanswered: sum(&|udp| udp.unanswered.value()),
                failed: sum(&|udp| udp.failed.value()),
            })
        })
        .collect()
}
