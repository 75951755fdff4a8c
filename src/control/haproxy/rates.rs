//! Rates and highest values, HAProxy's `rate`, `smax` and the like (its management guide, section 9.1), from counters that are
//! looked at once a second: nothing is counted for them on the way of a request.
//!
//! A rate is what was counted between the last two looks, by the time that passed. A highest value is the highest that a look
//! has met since the process started: what came and went between two of them is not in it. Means of the last 1024 requests
//! (`qtime`, `ctime`, `rtime`, `ttime`) cannot be had so, and stay empty; `/metrics` has histograms of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Proxy, server_names};
use crate::control::Shared;
use crate::metrics::ServerStats;

/// Time between two looks.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// What the whole process is called.
const PROCESS: (&str, &str) = ("", "");

/// `pxname` and `svname` of `show stat`.
type Line = (String, String);

/// Counters of a line, and what is there now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reading {
    /// Connections of a frontend, requests of a backend or server, so far.
    sessions: u64,
    /// Of HTTP, so far.
    requests: u64,
    /// Sessions open now.
    open: u64,
    /// Requests waiting now.
    queued: u64,
}

/// What has been seen of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Sessions in the last second.
    pub(super) sessions: u64,
    pub(super) sessions_max: u64,
    /// Requests in the last second.
    pub(super) requests: u64,
    pub(super) requests_max: u64,
    pub(super) open_max: u64,
    pub(super) queued_max: u64,
}

#[derive(Debug)]
struct Meter {
    at: Instant,
    reading: Reading,
    seen: Seen,
}

impl Meter {
    fn new(at: Instant, reading: Reading) -> Meter {
        let seen = Seen { open_max: reading.open, queued_max: reading.queued, ..Seen::default() };
        Meter { at, reading, seen }
    }

    fn on_reading(&mut self, now: Instant, reading: Reading) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let rate = |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds).round() as u64;
        let (sessions, requests) =
            (rate(reading.sessions, self.reading.sessions), rate(reading.requests, self.reading.requests));
        self.seen = Seen {
            sessions,
            sessions_max: self.seen.sessions_max.max(sessions),
            requests,
            requests_max: self.seen.requests_max.max(requests),
            open_max: self.seen.open_max.max(reading.open),
            queued_max: self.seen.queued_max.max(reading.queued),
        };
        (self.at, self.reading) = (now, reading);
    }
}

/// All lines. Belongs to the control thread; locked only between two of its waits.
#[derive(Debug, Default)]
pub(super) struct Rates {
    meters: Mutex<BTreeMap<Line, Meter>>,
}

impl Rates {
    /// Looks at all counters.
    pub(super) fn look(&self, shared: &Shared, now: Instant) {
        self.on_readings(now, readings(shared));
    }

    /// What is not among `readings` has left the config, and is forgotten.
    fn on_readings(&self, now: Instant, readings: BTreeMap<Line, Reading>) {
        let mut meters = self.meters();
        meters.retain(|line, _| readings.contains_key(line));
        for (line, reading) in readings {
            match meters.get_mut(&line) {
                Some(meter) => meter.on_reading(now, reading),
                None => {
                    meters.insert(line, Meter::new(now, reading));
                }
            }
        }
    }

    /// What has been seen of a line of `show stat`.
    pub(super) fn of(&self, proxy: &str, service: &str) -> Seen {
        let line = (proxy.to_owned(), service.to_owned());
        self.meters().get(&line).map(|meter| meter.seen).unwrap_or_default()
    }

    /// The same of the whole process; sessions are connections of clients.
    pub(super) fn of_process(&self) -> Seen {
        self.of(PROCESS.0, PROCESS.1)
    }

    fn meters(&self) -> MutexGuard<'_, BTreeMap<Line, Meter>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn readings(shared: &Shared) -> BTreeMap<Line, Reading> {
    let mut readings = BTreeMap::new();
    let mut process = Reading::default();
    for proxy in Proxy::all(shared) {
        let name = proxy.name(shared);
        let mut put = |service: &str, reading| {
            readings.insert((name.to_owned(), service.to_owned()), reading);
        };
        match proxy {
            Proxy::Upstream(u) => {
                put("BACKEND", backend(shared, u));
                for (s, server) in server_names(&shared.config.upstreams[u]).iter().enumerate() {
                    put(server, servers(shared.workers.iter().map(|worker| &*worker.servers[u][s])));
                }
            }
            Proxy::Http | Proxy::Splitter(_) => {
                let reading = frontend(shared, proxy);
                process.sessions += reading.sessions;
                put("FRONTEND", reading);
            }
        }
    }
    readings.insert((PROCESS.0.into(), PROCESS.1.into()), process);
    readings
}

fn frontend(shared: &Shared, proxy: Proxy) -> Reading {
    let mut sum = Reading::default();
    for worker in &shared.workers {
        match proxy {
            Proxy::Splitter(index) => {
                sum.sessions += worker.splitters[index].accepted.value();
                sum.open += worker.splitters[index].clients.value();
            }
            _ => {
                sum.sessions += worker.http.accepted.value();
                sum.requests += worker.http.responses.iter().map(|class| class.value()).sum::<u64>();
                sum.open += worker.http.connections.value();
            }
        }
    }
    sum
}

fn backend(shared: &Shared, u: usize) -> Reading {
    let queued = shared.workers.iter().map(|worker| worker.upstreams[u].queue.value()).sum();
    Reading { queued, ..servers(shared.workers.iter().flat_map(|worker| worker.servers_ever(u))) }
}

fn servers<'a>(parts: impl Iterator<Item = &'a ServerStats>) -> Reading {
    parts.fold(Reading::default(), |sum, part| Reading {
        sessions: sum.sessions + part.requests.value(),
        open: sum.open + part.active.value(),
        ..sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str, reading: Reading) -> BTreeMap<Line, Reading> {
        BTreeMap::from([((line.to_owned(), "BACKEND".to_owned()), reading)])
    }

    #[test]
    fn rates_are_of_the_last_look_and_highest_values_of_all() {
        let (rates, start) = (Rates::default(), Instant::now());
        let look = |ms, sessions, requests, open, queued| {
            let reading = Reading { sessions, requests, open, queued };
            rates.on_readings(start + Duration::from_millis(ms), one("api", reading));
            let Seen { sessions, sessions_max, requests, requests_max, open_max, queued_max } =
                rates.of("api", "BACKEND");
            [sessions, sessions_max, requests, requests_max, open_max, queued_max]
        };
        assert_eq!(look(0, 500, 900, 3, 1), [0, 0, 0, 0, 3, 1], "what was counted before is no rate");
        assert_eq!(look(1000, 520, 1000, 7, 0), [20, 20, 100, 100, 7, 1]);
        assert_eq!(look(3000, 530, 1300, 2, 4), [5, 20, 150, 150, 7, 4], "a late look counts by its time");
        assert_eq!(look(3000, 900, 1900, 9, 9), [5, 20, 150, 150, 7, 4], "no time has passed");
        assert_eq!(look(4000, 530, 1300, 0, 0), [0, 20, 0, 150, 7, 4]);
        assert_eq!(rates.of("other", "BACKEND"), Seen::default());
    }

    #[test]
    fn what_leaves_the_config_is_forgotten() {
        let (rates, now) = (Rates::default(), Instant::now());
        rates.on_readings(now, one("api", Reading { open: 5, ..Reading::default() }));
        rates.on_readings(now + LOOK, one("other", Reading::default()));
        assert_eq!(rates.of("api", "BACKEND"), Seen::default());
        assert_eq!(rates.meters().len(), 1);
    }
}
