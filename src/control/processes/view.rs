//! What pages, metrics and `ctl` show of programs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An application that is a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessView {
    /// Name in the config.
    pub name: String,
    /// `process` or `php`.
    pub kind: String,
    /// Name of its upstream.
    pub upstream: String,
    /// The words of its command as they are written.
    pub command: String,
    /// `ready`, `starting`, `backing_off`, `failed` or `stopped`.
    pub state: String,
    /// Instances that are to serve.
    pub wanted: usize,
    /// Instances that get requests.
    pub ready: usize,
    /// Requests that wait for a place at one.
    pub queued: u64,
    /// Instances started beyond the first ones.
    pub restarts: u64,
    /// Failures in a row.
    pub failures: u32,
    /// When it is tried again behind a failure.
    pub again_in_ms: Option<u64>,
    /// How the last instance ended, or why it does not take its config.
    pub last_exit: Option<String>,
    /// Ends of instances: `success`, `error`, `signal`, `not_started`, `lost`.
    pub exits: BTreeMap<String, u64>,
    /// Instances that were let go, by reason: `reload`, `requests`, `memory` and the like.
    pub replaced: BTreeMap<String, u64>,
    /// Those that there are.
    pub instances: Vec<InstanceView>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Number of its place.
    pub instance: usize,
    /// Number of the process, once it runs.
    pub pid: Option<u32>,
    /// `starting`, `ready`, `draining` or `stopping`.
    pub state: String,
    /// Why it is let go.
    pub leaving: Option<String>,
    /// Which edition of the application it runs; each reload of it is another one.
    pub generation: u64,
    /// Since it was started.
    pub age_seconds: f64,
    /// Resident memory of all processes of its session.
    pub memory_bytes: u64,
    /// Requests it has had.
    pub requests: u64,
    /// Requests under way.
    pub active: u64,
    /// Where it listens.
    pub address: String,
}
