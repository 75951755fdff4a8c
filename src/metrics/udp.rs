//! What a listener in UDP mode counts on one worker.

use super::{Counter, Gauge, Histogram};

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpRefusal {
    /// By the address rules.
    Access,
    /// There were as many flows as there may be.
    FlowsMax,
    /// Its address had as many flows as it may.
    PerAddress,
    /// No server is up, or none has a place.
    NoServer,
    /// This machine lacks descriptors, local ports or memory.
    Resource,
    /// The listener or the process comes to its end.
    Draining,
    /// It was longer than it may be.
    TooLong,
}

impl UdpRefusal {
    /// All, in the order of their numbers.
    pub const ALL: [UdpRefusal; 7] = [
        UdpRefusal::Access,
        UdpRefusal::FlowsMax,
        UdpRefusal::PerAddress,
        UdpRefusal::NoServer,
        UdpRefusal::Resource,
        UdpRefusal::Draining,
        UdpRefusal::TooLong,
    ];

    /// In metrics and log lines.
    pub fn name(self) -> &'static str {
        match self {
            UdpRefusal::Access => "access",
            UdpRefusal::FlowsMax => "flows_max",
            UdpRefusal::PerAddress => "flows_per_address_max",
            UdpRefusal::NoServer => "no_server",
            UdpRefusal::Resource => "resource",
            UdpRefusal::Draining => "draining",
            UdpRefusal::TooLong => "too_long",
        }
    }
}

/// One listener in UDP mode.
#[derive(Debug, Default)]
pub struct UdpStats {
    /// Flows that have begun.
    pub flows: Counter,
    /// Of these, open now.
    pub open: Gauge,
    /// Datagrams from clients that were passed on.
    pub datagrams_up: Counter,
    /// Their bytes.
    pub bytes_up: Counter,
    /// Datagrams from servers that were passed on.
    pub datagrams_down: Counter,
    /// Their bytes.
    pub bytes_down: Counter,
    /// Datagrams dropped, by [`UdpRefusal`].
    refused: [Counter; UdpRefusal::ALL.len()],
    /// Datagrams that a full socket did not take.
    pub lost: Counter,
    /// Flows that ended by silence.
    pub timeouts: Counter,
    /// Of these, without the answers that were to come.
    pub unanswered: Counter,
    /// Flows that ended because their server refused datagrams.
    pub failed: Counter,
    /// Flows that ended because their server was down or taken out.
    pub server_down: Counter,
    /// How long they lasted.
    pub duration: Histogram,
}

impl UdpStats {
    /// Datagrams dropped for this reason.
    pub fn refused(&self, why: UdpRefusal) -> &Counter {
        &self.refused[why as usize]
    }
}
