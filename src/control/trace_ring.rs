//! The last request traces of all data workers in one bounded ring with rising ids, for `/trace?after=N`.

use std::collections::VecDeque;

use serde::Serialize;

use super::Shared;
use super::prometheus::server_names;
use crate::config::Config;
use crate::config::model::Splitter;
use crate::metrics::{ServedBy, TraceEvent};

/// Entries kept.
const KEPT_MAX: usize = 2048;
/// Entries taken from one worker's queue at a time, so that a busy worker cannot hold the control thread.
const TAKEN_MAX: usize = 4096;

/// Configs whose names are kept: requests end under the config they began with.
const CONFIGS_MAX: usize = 16;

/// The ring.
#[derive(Debug, Default)]
pub(crate) struct TraceRing {
    entries: VecDeque<Entry>,
    last_id: u64,
    /// By generation, the newest last.
    names: VecDeque<(u32, Names)>,
}

/// One trace as the page shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    /// Rises by one from 1; a gap in what a reader sees means that it came too late.
    id: u64,
    #[serde(flatten)]
    what: What,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum What {
    Request {
        /// 16 hexadecimal digits, as in the access log and `X-Request-Id`.
        request_id: String,
        data_worker: u16,
        line: String,
        status: u16,
        duration_us: u64,
        #[serde(flatten)]
        served_by: Place,
    },
    Statement {
        request_id: Option<String>,
        data_worker: u16,
        splitter: String,
        role: &'static str,
        server: String,
        duration_us: u64,
    },
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "served_by", rename_all = "snake_case")]
enum Place {
    Worker,
    Files,
    Upstream { upstream: String, server: String },
    App { app: String, app_worker: u16 },
}

/// Names at the indexes that events carry.
#[derive(Debug, Default)]
struct Names {
    upstreams: Vec<(String, Vec<String>)>,
    apps: Vec<String>,
    splitters: Vec<(String, Vec<String>)>,
}

impl TraceRing {
    /// Takes what the data workers have left, worker by worker.
    pub(crate) fn collect(&mut self, shared: &Shared) {
        self.learn_names(shared.generation, &shared.config);
        for trace in &shared.traces {
            for event in std::iter::from_fn(|| trace.pop()).take(TAKEN_MAX) {
                self.push(event);
            }
        }
    }

    fn learn_names(&mut self, generation: u32, config: &Config) {
        if self.names.back().is_some_and(|(known, _)| *known == generation) {
            return;
        }
        if self.names.len() == CONFIGS_MAX {
            self.names.pop_front();
        }
        self.names.push_back((generation, Names::new(config)));
    }

    fn push(&mut self, event: TraceEvent) {
        if self.entries.len() == KEPT_MAX {
            self.entries.pop_front();
        }
        self.last_id += 1;
        // Nobody has looked while that config was in use, or too many have followed it: no names.
        let unknown = Names::default();
        let names = match &event {
            TraceEvent::Request { generation, .. } => self.names.iter().find(|(known, _)| known == generation),
            TraceEvent::Statement { .. } => self.names.back(),
        };
        let what = names.map_or(&unknown, |(_, names)| names).describe(event);
        self.entries.push_back(Entry { id: self.last_id, what });
    }

    /// The newest id given out, 0 before the first.
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Up to `count` entries with an id above `id`, oldest first.
    pub(crate) fn after(&self, id: u64, count: usize) -> Vec<Entry> {
        let first = self.entries.partition_point(|entry| entry.id <= id);
        self.entries.iter().skip(first).take(count).cloned().collect()
    }
}

impl Names {
    fn new(config: &Config) -> Names {
        // Statements that ended a moment ago may have run on servers that are gone.
        let addresses =
            |splitter: &Splitter| splitter.servers.iter().map(|server| server.address.to_string()).collect::<Vec<_>>();
        Names {
            upstreams: config.upstreams.iter().map(|u| (u.name.clone(), server_names(u))).collect(),
            apps: config.apps.iter().map(|app| app.name.clone()).collect(),
            splitters: config.splitters.iter().map(|s| (s.name.clone(), addresses(s))).collect(),
        }
    }

    fn describe(&self, event: TraceEvent) -> What {
        match event {
            TraceEvent::Request { request_id, data_worker, line, status, duration, served_by, .. } => What::Request {
                request_id: hex(request_id),
                data_worker,
                line,
                status,
                duration_us: duration.as_micros() as u64,
                served_by: self.place(served_by),
            },
            TraceEvent::Statement { request_id, data_worker, splitter, backend, primary, duration } => {
                let (splitter, server) = pair(&self.splitters, splitter, backend);
                let role = if primary { "primary" } else { "replica" };
                let request_id = request_id.map(hex);
                What::Statement {
                    request_id,
                    data_worker,
                    splitter,
                    role,
                    server,
                    duration_us: duration.as_micros() as u64,
                }
            }
        }
    }

    fn place(&self, served_by: ServedBy) -> Place {
        match served_by {
            ServedBy::Worker => Place::Worker,
            ServedBy::Files => Place::Files,
            ServedBy::Server { upstream, server } => {
                let (upstream, server) = pair(&self.upstreams, upstream, server);
                Place::Upstream { upstream, server }
            }
            ServedBy::App { app, app_worker } => {
                let app = self.apps.get(usize::from(app)).cloned().unwrap_or_default();
                Place::App { app, app_worker }
            }
        }
    }
}

fn hex(id: u64) -> String {
    format!("{id:016x}")
}

/// Names of a thing and of a member of it; empty where an index leads nowhere.
fn pair(names: &[(String, Vec<String>)], outer: u16, inner: u16) -> (String, String) {
    let Some((name, members)) = names.get(usize::from(outer)) else { return Default::default() };
    (name.clone(), members.get(usize::from(inner)).cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::shared::tests::config;
    use super::*;

    fn request(n: u64, served_by: ServedBy) -> TraceEvent {
        let line = format!("GET /{n}");
        TraceEvent::Request {
            request_id: n,
            data_worker: 1,
            line,
            status: 200,
            duration: Duration::from_micros(7),
            served_by,
            generation: 0,
        }
    }

    #[test]
    fn events_get_rising_ids_and_names_instead_of_indexes() {
        let shared = Shared::new(Arc::new(config()), 2, 1);
        shared.traces[0].push(request(255, ServedBy::Server { upstream: 0, server: 0 }));
        shared.traces[1].push(request(2, ServedBy::App { app: 0, app_worker: 3 }));
        let statement = |backend| TraceEvent::Statement {
            request_id: Some(2),
            data_worker: 1,
            splitter: 0,
            backend,
            primary: backend == 0,
            duration: Duration::from_millis(1),
        };
        shared.traces[1].push(statement(1));
        shared.traces[1].push(statement(9));
        let mut ring = TraceRing::default();
        ring.collect(&shared);
        let json = |after| serde_json::to_value(ring.after(after, 10)).unwrap();
        assert_eq!(
            json(0)[0],
            serde_json::json!({"id": 1, "kind": "request", "request_id": "00000000000000ff", "data_worker": 1,
                "line": "GET /255", "status": 200, "duration_us": 7,
                "served_by": "upstream", "upstream": "api", "server": "127.0.0.1:1"})
        );
        assert_eq!(
            (&json(1)[0]["served_by"], &json(1)[0]["app"], &json(1)[0]["app_worker"]),
            (&"app".into(), &"shop".into(), &3.into())
        );
        assert_eq!(
            (&json(2)[0]["role"], &json(2)[0]["server"], &json(2)[0]["splitter"]),
            (&"replica".into(), &"127.0.0.1:3307".into(), &"db".into())
        );
        assert_eq!(json(3)[0]["server"], "", "an index that leads nowhere does no harm");
        assert_eq!(json(4).as_array().unwrap().len(), 0);
    }

    #[test]
    fn a_request_is_told_by_the_names_of_the_config_it_began_with() {
        let shared = Shared::new(Arc::new(config()), 1, 1);
        let mut ring = TraceRing::default();
        ring.collect(&shared);
        let mut config = config();
        config.upstreams.swap(0, 1);
        let next = shared.next(Arc::new(config));
        let mut other = request(1, ServedBy::Server { upstream: 0, server: 0 });
        shared.traces[0].push(other.clone());
        if let TraceEvent::Request { generation, .. } = &mut other {
            *generation = 1;
        }
        shared.traces[0].push(other);
        ring.collect(&next);
        let json = serde_json::to_value(ring.after(0, 10)).unwrap();
        assert_eq!((&json[0]["upstream"], &json[1]["upstream"]), (&"api".into(), &"plain".into()));
    }

    #[test]
    fn the_ring_keeps_the_newest_and_hands_out_pages() {
        let mut ring = TraceRing::default();
        ring.learn_names(0, &config());
        for n in 0..KEPT_MAX as u64 + 100 {
            ring.push(request(n, ServedBy::Files));
        }
        let ids = |after, count| ring.after(after, count).iter().map(|entry| entry.id).collect::<Vec<_>>();
        assert_eq!(ids(0, 2), [101, 102]);
        assert_eq!(ids(ring.last_id() - 1, 10), [ring.last_id()]);
        assert!(ids(u64::MAX, 10).is_empty());
        assert_eq!(ring.after(0, usize::MAX).len(), KEPT_MAX);
    }
}
