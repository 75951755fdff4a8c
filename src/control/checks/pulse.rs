//! Workers of applications inside this process: one that has failed and does not serve again yet, or whose thread is held up by
//! one handler, gets no further requests until it moves. Where no other one is left, requests wait for one that starts again. What
//! checks have said of it before holds again when it moves, until they say something else.
//!
//! The threads that an application has of its own may be held up, that is what they are for: their server is down only while all
//! of them have failed; or while none has time for a check, where there are such.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::tell;
use crate::config::model::App;
use crate::control::Shared;
use crate::metrics::AppWorkerStats;
use crate::runtime::net::{Address, AppSeat};

/// How often they are looked at.
const EVERY: Duration = Duration::from_millis(100);

/// A worker that has not moved for so many looks is held up. Looks, not time: where the whole process is stopped for a while,
/// nobody moves, and nobody is to blame.
const STILL_MAX: u32 = 50;

/// What was last seen of a worker.
#[derive(Default)]
struct Seen {
    pulse: u64,
    /// Looks since it has moved.
    looks: u32,
}

impl Seen {
    /// What is wrong with it; `None`: nothing.
    fn look(&mut self, stats: &AppWorkerStats) -> Option<&'static str> {
        let pulse = stats.pulse.value();
        // One that has never moved is still making its services.
        self.looks = if pulse != self.pulse || pulse == 0 { 0 } else { self.looks.saturating_add(1) };
        self.pulse = pulse;
        if is_restarting(stats) {
            return Some("its worker has failed and starts again");
        }
        (self.looks >= STILL_MAX).then_some("its worker has not moved for 5 s: a handler blocks it, see `threads`")
    }
}

fn is_restarting(stats: &AppWorkerStats) -> bool {
    stats.restarting.value() != 0
}

/// Looks after the workers of all applications, for ever.
pub(super) async fn watch_forever(live: watch::Receiver<Arc<Shared>>) {
    let mut seen: Vec<Seen> = Vec::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let shared = live.borrow().clone();
        look(&shared, &mut seen);
    }
}

fn look(shared: &Shared, seen: &mut Vec<Seen>) {
    let all = &shared.app_workers;
    seen.resize_with(all.len(), Seen::default);
    let troubles: Vec<_> = seen.iter_mut().zip(all).map(|(seen, stats)| seen.look(stats)).collect();
    let apps = &shared.config.apps;
    let on_workers = all.len() - apps.iter().filter_map(|app| app.threads).sum::<usize>();
    for (u, upstream) in shared.config.upstreams.iter().enumerate() {
        let Some(app) = upstream.in_process else { continue };
        let mut is_coming = false;
        for (s, server) in upstream.servers.iter().enumerate() {
            let Address::App(AppSeat { worker, .. }) = &server.address else { continue };
            let (trouble, restarts) = match worker {
                Some(worker) => {
                    let worker = usize::from(*worker);
                    (troubles.get(worker).copied().flatten(), all.get(worker).is_some_and(|stats| is_restarting(stats)))
                }
                None => {
                    let first = App::first_thread(apps, app, on_workers).unwrap_or(0);
                    let threads = all.iter().skip(first).take(apps[app].threads.unwrap_or(0));
                    let restart = threads.clone().all(|stats| is_restarting(stats));
                    (restart.then_some("all its threads have failed and start again"), restart)
                }
            };
            if restarts {
                // Before it is down for anybody: a request that finds no other one is to wait.
                is_coming = true;
                shared.upstreams[u].set_coming(true);
            }
            let state = &shared.servers[u][s];
            let is_news = match trouble {
                Some(_) => state.passes_checks(),
                // Where it is checked as well, what checks have found of it is for them.
                None => !state.passes_checks() && (upstream.health.is_none() || state.is_held_up()),
            };
            if is_news {
                state.set_held_up(trouble.is_some());
                tell::by_pulse(shared, u, s, trouble, SystemTime::now());
            }
        }
        shared.upstreams[u].set_coming(is_coming);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[listener.web]\naddress = \"127.0.0.1:0\"\n[app.a]\n[app.b]\nprogram = \"a\"\nthreads = 2\n\
                          [site.s]\ndefault = true\nroute = [{ path = \"/\", app = \"a\" }, { path = \"/b\", app = \"b\" }]\n";

    #[test]
    fn who_does_not_move_is_down_until_it_does() {
        let (mut config, _) =
            crate::config::parse("test.toml", CONFIG, &["a"]).unwrap_or_else(|report| panic!("{report}"));
        config.seat_apps(2);
        let shared = Shared::new(Arc::new(config), 1, 4);
        let workers = &shared.app_workers;
        let mut seen = Vec::new();
        let mut after = |looks: u32| {
            (0..looks).for_each(|_| look(&shared, &mut seen));
            let is_coming = |u: usize| shared.upstreams[u].is_coming();
            assert_eq!(
                [0, 1].map(is_coming),
                [
                    workers[0].restarting.value() != 0 || workers[1].restarting.value() != 0,
                    workers[2].restarting.value() != 0 && workers[3].restarting.value() != 0
                ]
            );
            [(0, 0), (0, 1), (1, 0)].map(|(u, s)| shared.is_up(u, s))
        };
        assert_eq!(after(2 * STILL_MAX), [true; 3], "they are still being made");
        workers.iter().for_each(|worker| worker.pulse.inc());
        assert_eq!(after(STILL_MAX), [true; 3]);
        workers[1].pulse.inc();
        assert_eq!(after(1), [false, true, true], "threads may be held up");
        assert!(shared.servers[0][0].told().reason.contains("has not moved"), "{:?}", shared.servers[0][0].told());
        workers[0].pulse.inc();
        assert_eq!(after(1), [true; 3]);
        workers[1].restarting.set(1);
        workers[2].restarting.set(1);
        assert_eq!(after(1), [true, false, true], "another thread runs");
        workers[3].restarting.set(1);
        assert_eq!(after(1), [true, false, false]);
        workers.iter().for_each(|worker| worker.restarting.set(0));
        assert_eq!(after(1), [true; 3]);
    }
}
