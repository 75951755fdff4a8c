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

impl ProcessView {
    /// Adds what there still is of the same application where it was before, or is already where it will be: its instances, and
    /// what has been counted of it. How the application does is what `self` says.
    fn absorb(&mut self, other: ProcessView) {
        self.queued += other.queued;
        self.restarts += other.restarts;
        for (all, of_other) in [(&mut self.exits, other.exits), (&mut self.replaced, other.replaced)] {
            of_other.into_iter().for_each(|(kind, count)| *all.entry(kind).or_default() += count);
        }
        self.instances.extend(other.instances);
    }
}

/// One view for each name, those that the config has before those that only finish what they have.
///
/// `views`: with whether each one is leaving.
pub(super) fn by_name(views: Vec<(ProcessView, bool)>) -> Vec<ProcessView> {
    let (leaving, present): (Vec<_>, Vec<_>) = views.into_iter().partition(|(_, is_leaving)| *is_leaving);
    let mut all: Vec<ProcessView> = Vec::new();
    // Of those that leave, the last one says most.
    for (view, _) in present.into_iter().chain(leaving.into_iter().rev()) {
        match all.iter_mut().find(|known| known.name == view.name) {
            Some(known) => known.absorb(view),
            None => all.push(view),
        }
    }
    all
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

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, state: &str, exits: &[(&str, u64)], pids: &[u32]) -> ProcessView {
        let instance = |pid: &u32| InstanceView {
            instance: 0,
            pid: Some(*pid),
            state: "ready".into(),
            leaving: None,
            generation: 0,
            age_seconds: 1.0,
            memory_bytes: 1,
            requests: 1,
            active: 0,
            address: "unix:/run/a".into(),
        };
        ProcessView {
            name: name.into(),
            kind: "process".into(),
            upstream: format!("app:{name}"),
            command: "run".into(),
            state: state.into(),
            wanted: 1,
            ready: 1,
            queued: 2,
            restarts: 3,
            failures: 0,
            again_in_ms: None,
            last_exit: None,
            exits: exits.iter().map(|(kind, count)| ((*kind).into(), *count)).collect(),
            replaced: BTreeMap::new(),
            instances: pids.iter().map(instance).collect(),
        }
    }

    #[test]
    fn an_application_that_moves_is_one() {
        let views = vec![
            (view("a", "stopped", &[("error", 1)], &[1]), true),
            (view("b", "ready", &[], &[2]), false),
            (view("a", "starting", &[("error", 2), ("signal", 1)], &[3]), false),
            (view("c", "stopped", &[], &[4]), true),
            (view("c", "stopped", &[], &[5]), true),
        ];
        let all = by_name(views);
        let told: Vec<(&str, &str, usize)> =
            all.iter().map(|app| (&*app.name, &*app.state, app.instances.len())).collect();
        assert_eq!(told, [("b", "ready", 1), ("a", "starting", 2), ("c", "stopped", 2)]);
        let a = &all[1];
        assert_eq!((a.exits["error"], a.exits["signal"], a.restarts, a.queued, a.wanted, a.ready), (3, 1, 6, 4, 1, 1));
        assert_eq!(all[2].instances[0].pid, Some(5), "the last one comes first");
    }
}
