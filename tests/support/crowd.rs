//! Far more clients than an application has room for, each request with a number of its own, so that it can be told afterwards
//! which of them an application has seen, and how often.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::client::{Client, NoResponse};
use super::server::Server;

/// A client that was refused asks again behind this: the answer says seconds, and nobody has so much time here.
const PAUSE: Duration = Duration::from_millis(100);

/// A kill is known everywhere so soon.
const NEWS: Duration = Duration::from_millis(100);

/// One in so many requests is given up by its client, where some are.
const LEAVER_EACH: u64 = 16;

/// Who comes.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) clients: usize,
    /// Some do not wait for their answers.
    pub(crate) gives_up: bool,
    /// The request of a number, and the body of its answer. It must be one that is not to be repeated.
    pub(crate) ask: fn(u64) -> (String, String),
}

/// What has become of the requests, by number.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answered: Vec<u64>,
    pub(crate) refused: Vec<u64>,
    /// 502: whoever had it has ended.
    pub(crate) failed: Vec<Failed>,
    /// Their clients did not wait.
    pub(crate) left: Vec<u64>,
    /// How many each client was answered.
    pub(crate) shares: Vec<usize>,
    wrong: Vec<String>,
}

/// A request that failed: when it was sent, and when its client was told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    id: u64,
    sent: Instant,
    told: Instant,
}

/// The end of a child: from the signal until it is gone, with all that goes with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    /// The most requests that may have been inside.
    pub(crate) inside: usize,
}

impl Outcome {
    fn note(&mut self, id: u64, sent: Instant, expect: &str, got: Result<super::client::Response, NoResponse>) {
        match got {
            Ok(answer) if answer.status == 200 && answer.text() == expect => self.answered.push(id),
            Ok(answer) if answer.status == 503 && answer.field("retry-after").is_some() => self.refused.push(id),
            Ok(answer) if answer.status == 502 => self.failed.push(Failed { id, sent, told: Instant::now() }),
            other => self.wrong.push(format!("{id}: {other:?}")),
        }
    }

    /// Each request that `seen` by an application lists was seen once, and every one that was answered; none was that was refused.
    pub(crate) fn assert_none_lost_or_doubled(&self, seen: &[u64]) {
        let mut once = seen.to_vec();
        once.sort_unstable();
        assert!(once.windows(2).all(|two| two[0] != two[1]), "one was done twice: {seen:?}");
        let was_seen = |id: &&u64| once.binary_search(id).is_ok();
        let lost: Vec<_> = self.answered.iter().filter(|id| !was_seen(id)).collect();
        assert!(lost.is_empty(), "answered and never seen: {lost:?}");
        let refused: Vec<_> = self.refused.iter().filter(was_seen).collect();
        assert!(refused.is_empty(), "refused and done all the same: {refused:?}");
        let known = self.answered.len() + self.left.len() + self.failed.len();
        assert!(seen.len() <= known, "{} seen of {known}", seen.len());
    }

    /// What failed was inside of what was killed: it was sent before that was gone, failed behind the signal, and there were no
    /// more of them than there is room for. The next ones did not.
    ///
    /// `kills` stand in their order. Something was inside, or they prove nothing.
    pub(crate) fn assert_only_inside_failed(&self, kills: &[Kill]) {
        let (mut counts, mut latest) = (vec![0; kills.len()], Duration::ZERO);
        for failed in &self.failed {
            let kill = kills.iter().rposition(|kill| kill.begun <= failed.told);
            let kill = kill.unwrap_or_else(|| panic!("{failed:?} failed before the first kill"));
            let late = failed.sent.saturating_duration_since(kills[kill].ended);
            assert!(late <= NEWS, "{} was sent {late:?} behind kill {kill}, and failed", failed.id);
            counts[kill] += 1;
            latest = latest.max(late);
        }
        let rooms: Vec<usize> = kills.iter().map(|kill| kill.inside).collect();
        eprintln!("{counts:?} failed of {rooms:?} that may have been inside, sent {latest:?} behind a kill at most");
        assert!(counts.iter().zip(&rooms).all(|(count, room)| count <= room), "{counts:?} failed, {rooms:?} inside");
        assert!(!self.failed.is_empty(), "nothing was inside");
    }
}

impl Crowd {
    /// Does `work` while they ask.
    pub(crate) fn during(self, server: &Server, work: impl FnOnce()) -> Outcome {
        self.run(server, false, work)
    }

    /// The same, but those who are served pause like those who are refused. Else whoever is served asks again just when a place has
    /// become free, and comes to more answers by that.
    pub(crate) fn during_at_one_pace(self, server: &Server, work: impl FnOnce()) -> Outcome {
        self.run(server, true, work)
    }

    fn run(self, server: &Server, all_pause: bool, work: impl FnOnce()) -> Outcome {
        let (stop, next, all) = (AtomicBool::new(false), AtomicU64::new(1), Mutex::new(Outcome::default()));
        std::thread::scope(|scope| {
            for _ in 0..self.clients {
                scope.spawn(|| {
                    let own = self.keep_asking(server, all_pause, &stop, &next);
                    let mut all = all.lock().expect("a lock");
                    all.shares.push(own.answered.len());
                    all.answered.extend(own.answered);
                    all.refused.extend(own.refused);
                    all.failed.extend(own.failed);
                    all.left.extend(own.left);
                    all.wrong.extend(own.wrong);
                });
            }
            // What panics must not leave the clients running.
            let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            stop.store(true, Ordering::Relaxed);
            if let Err(panic) = end {
                std::panic::resume_unwind(panic);
            }
        });
        let outcome = all.into_inner().expect("a lock");
        assert!(
            outcome.wrong.is_empty(),
            "{} went wrong: {:?}",
            outcome.wrong.len(),
            &outcome.wrong[..outcome.wrong.len().min(5)]
        );
        outcome
    }

    fn keep_asking(self, server: &Server, all_pause: bool, stop: &AtomicBool, next: &AtomicU64) -> Outcome {
        let (mut own, mut client) = (Outcome::default(), server.connect());
        while !stop.load(Ordering::Relaxed) {
            let id = next.fetch_add(1, Ordering::Relaxed);
            let (request, expect) = (self.ask)(id);
            let sent = Instant::now();
            client.send(request);
            if self.gives_up && id.is_multiple_of(LEAVER_EACH) {
                std::thread::sleep(Duration::from_millis(id % 40));
                own.left.push(id);
                client = server.connect();
                continue;
            }
            let got = client.try_response("POST");
            let goes_on = got.as_ref().is_ok_and(|answer| !answer.is_last());
            let is_served = got.as_ref().is_ok_and(|answer| answer.status == 200);
            own.note(id, sent, &expect, got);
            if !goes_on {
                client = server.connect();
            }
            if all_pause || !is_served {
                std::thread::sleep(PAUSE);
            }
        }
        own
    }
}
