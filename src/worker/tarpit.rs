//! The action that answers late, so that whoever tries everything gets less of it tried: HAProxy's tarpit.
//!
//! A request in it holds its connection and nothing else. So many may be held in the process; one beyond that is answered at
//! once, and all are when the process drains.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Worker;
use super::cx::Cx;
use super::exchange::{Acted, Client, Instead, abandoned, unanswered};
use super::held_back;
use crate::config::model::Tarpit;
use crate::metrics::ServedBy;

/// A place in the tarpit, given back when it is dropped.
struct Place<'a> {
    worker: &'a Worker,
    held: &'a AtomicUsize,
}

impl<'a> Place<'a> {
    fn take(worker: &'a Worker) -> Option<Place<'a>> {
        let held = &worker.shared.tarpit;
        let place = Place { worker, held };
        let before = held.fetch_add(1, Ordering::Relaxed);
        worker.stats.http.tarpit.inc();
        (before < worker.config.process.tarpit_max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.worker.stats.http.tarpit.dec();
    }
}

pub(super) async fn run(cx: &Cx<'_>, client: &mut Client<'_>, tarpit: Tarpit) -> Acted {
    let stats = &cx.worker.stats.http;
    client.answer.trail.is_tarpitted = true;
    stats.tarpitted.inc();
    match Place::take(cx.worker) {
        None => stats.tarpit_full.inc(),
        Some(_place) => {
            if held_back::wait(cx, client, tarpit.delay).await.is_err() {
                return Ok(abandoned(ServedBy::Worker));
            }
        }
    }
    Err(Instead::Error(unanswered(tarpit.status)))
}
