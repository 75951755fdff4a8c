//! Which names are known, what they lead to, and when they are asked for again. Pure: `now` comes in, names to ask for and
//! news go out.
//!
//! ```text
//! unknown ──found──► known ──time is up──► asked ──found──► known
//!    │                                       ├─ no such name: kept for `hold`, then unknown
//!    └─ again after 1 s, 2 s, … 30 s         └─ nobody answers: kept, however long that lasts
//! ```

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::config::model::Resolver;
use crate::config::servers::{Answers, Found};
use crate::runtime::net::Name;

/// After the first failure in a row; each further one doubles it.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest wait between two failures.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What became of asking for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has these, for so long.
    Found(Vec<Found>, Duration),
    /// Name servers say that it has none; in words.
    Nothing(String),
    /// Nobody knows; in words.
    Failed(String),
}

/// What is worth telling of an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Its servers are others now.
    Changed,
    /// It did not resolve, but does again, to what it had.
    Back,
    /// It does not resolve, for this reason; what it had stays in use, if it had something.
    Kept(String),
    /// It does not resolve, for this reason, and has no servers (any more).
    Unresolved(String),
}

/// All names of a config.
#[derive(Debug, Default)]
pub struct Names {
    entries: HashMap<Name, Entry>,
}

#[derive(Debug)]
struct Entry {
    found: Vec<Found>,
    next: Instant,
    is_asked: bool,
    failures: u32,
    /// Since when name servers say that there is nothing.
    nothing_since: Option<Instant>,
    /// Why it does not resolve.
    problem: Option<String>,
}

impl Names {
    /// Adds names; returns those that are new, which count as asked.
    pub fn add(&mut self, wanted: &HashSet<Name>, now: Instant) -> Vec<Name> {
        let new: Vec<Name> = wanted.iter().filter(|name| !self.entries.contains_key(name)).cloned().collect();
        for name in &new {
            let entry =
                Entry { found: Vec::new(), next: now, is_asked: true, failures: 0, nothing_since: None, problem: None };
            self.entries.insert(name.clone(), entry);
        }
        new
    }

    /// Forgets all others.
    pub fn keep(&mut self, wanted: &HashSet<Name>) {
        self.entries.retain(|name, _| wanted.contains(name));
    }

    /// Makes all of them due, those that are asked for as well: the config has other name servers.
    pub fn ask_all(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            (entry.next, entry.is_asked) = (now, false);
        }
    }

    /// At most so many names to ask for now. They count as asked until [`Names::on_outcome`].
    pub fn due(&mut self, now: Instant, most: usize) -> Vec<Name> {
        let due = self.entries.iter_mut().filter(|(_, entry)| !entry.is_asked && entry.next <= now);
        due.take(most)
            .map(|(name, entry)| {
                entry.is_asked = true;
                name.clone()
            })
            .collect()
    }

    /// When [`Names::due`] has something next, as far as nobody answers before.
    pub fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| !entry.is_asked).map(|entry| entry.next).min()
    }

    /// Takes what became of asking for `name`.
    pub fn on_outcome(&mut self, name: &Name, outcome: Outcome, rules: &Resolver, now: Instant) -> Option<News> {
        let entry = self.entries.get_mut(name)?;
        entry.is_asked = false;
        match outcome {
            Outcome::Found(found, ttl) => entry.on_found(found, ttl.clamp(rules.ttl_min, rules.ttl_max), now),
            Outcome::Nothing(problem) => {
                let since = *entry.nothing_since.get_or_insert(now);
                let left = (since + rules.hold).saturating_duration_since(now);
                entry.on_problem(problem, (!entry.found.is_empty()).then_some(left), now)
            }
            Outcome::Failed(problem) => {
                // It says neither that there is something nor that there is not.
                let left = (!entry.found.is_empty()).then_some(Duration::MAX);
                entry.on_problem(problem, left, now)
            }
        }
    }

    /// What is known.
    pub fn answers(&self) -> Answers {
        let known = self.entries.iter().filter(|(_, entry)| !entry.found.is_empty());
        Answers(known.map(|(name, entry)| (name.clone(), entry.found.clone())).collect())
    }

    /// Why a name does not resolve; `None`: it does.
    pub fn problem(&self, name: &Name) -> Option<&str> {
        self.entries.get(name)?.problem.as_deref()
    }

    /// What a name leads to.
    pub fn found(&self, name: &Name) -> &[Found] {
        self.entries.get(name).map_or(&[], |entry| &entry.found)
    }
}

impl Entry {
    fn on_found(&mut self, mut found: Vec<Found>, ttl: Duration, now: Instant) -> Option<News> {
        found.sort_unstable();
        found.dedup();
        let (had_problem, is_other) = (self.problem.take().is_some(), found != self.found);
        self.found = found;
        self.failures = 0;
        self.nothing_since = None;
        self.next = now + ttl;
        if is_other { Some(News::Changed) } else { had_problem.then_some(News::Back) }
    }

    /// `left`: for how long what it has stays in use; `None`: it has nothing.
    fn on_problem(&mut self, problem: String, left: Option<Duration>, now: Instant) -> Option<News> {
        let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(8)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        let is_news = self.problem.as_ref() != Some(&problem);
        self.problem = Some(problem.clone());
        match left {
            Some(left) if !left.is_zero() => {
                self.next = now + wait.min(left);
                is_news.then_some(News::Kept(problem))
            }
            _ => {
                self.next = now + wait;
                let is_lost = !std::mem::take(&mut self.found).is_empty();
                (is_news || is_lost).then_some(News::Unresolved(problem))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::model::Families;

    fn rules() -> Resolver {
        Resolver {
            name_servers: Vec::new(),
            families: Families::Both,
            addresses_max: 8,
            timeout: Duration::from_secs(1),
            tries: 1,
            ttl_min: Duration::from_secs(5),
            ttl_max: Duration::from_secs(60),
            hold: Duration::from_secs(10),
        }
    }

    fn name(host: &str) -> Name {
        Name { host: host.into(), port: Some(80) }
    }

    fn found(last: &[u8]) -> Vec<Found> {
        let one = |last: &u8| Found { priority: 0, address: [10, 0, 0, *last].into(), name: name("a"), weight: 0 };
        last.iter().map(one).collect()
    }

    struct Clock(Instant, Names);

    impl Clock {
        fn new() -> Clock {
            let (now, mut names) = (Instant::now(), Names::default());
            assert_eq!(names.add(&HashSet::from([name("a")]), now), [name("a")]);
            assert_eq!(names.add(&HashSet::from([name("a")]), now), [], "it is asked for already");
            names.on_outcome(&name("a"), Outcome::Failed("nobody".into()), &rules(), now);
            names.entries.get_mut(&name("a")).unwrap().problem = None;
            names.entries.get_mut(&name("a")).unwrap().failures = 0;
            names.ask_all(now);
            Clock(now, names)
        }

        /// Lets time pass until the name is due, and answers; tells how many seconds that took.
        fn answer(&mut self, outcome: Outcome) -> (u64, Option<News>) {
            let before = self.0;
            self.0 = self.1.next_due().unwrap().max(self.0);
            assert_eq!(self.1.due(self.0, 9), [name("a")]);
            assert!(self.1.due(self.0, 9).is_empty() && self.1.next_due().is_none(), "it is asked for once at a time");
            let news = self.1.on_outcome(&name("a"), outcome, &rules(), self.0);
            (self.0.duration_since(before).as_secs(), news)
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn answers_hold_for_as_long_as_they_say_within_bounds() {
        let mut clock = Clock::new();
        assert_eq!(clock.answer(Outcome::Found(found(&[2, 1]), seconds(30))), (0, Some(News::Changed)));
        assert_eq!(clock.answer(Outcome::Found(found(&[1, 2]), seconds(1))), (30, None), "in another order");
        assert_eq!(clock.answer(Outcome::Found(found(&[1]), seconds(3600))), (5, Some(News::Changed)));
        assert_eq!(clock.answer(Outcome::Found(found(&[1]), seconds(7))), (60, None));
        assert_eq!(clock.1.answers().0[&name("a")], found(&[1]));
    }

    #[test]
    fn other_name_servers_are_asked_at_once() {
        let mut clock = Clock::new();
        assert_eq!(clock.1.due(clock.0, 9), [name("a")]);
        assert_eq!(clock.1.due(clock.0, 9), []);
        clock.1.ask_all(clock.0);
        assert_eq!(clock.1.due(clock.0, 9), [name("a")], "whoever was asked before does not count");
    }

    #[test]
    fn a_name_that_is_gone_keeps_its_servers_for_a_while() {
        let mut clock = Clock::new();
        clock.answer(Outcome::Found(found(&[1]), seconds(5)));
        let nothing = || Outcome::Nothing("no such name".into());
        assert_eq!(clock.answer(nothing()), (5, Some(News::Kept("no such name".into()))));
        assert_eq!([1, 2, 4].map(|_| clock.answer(nothing())), [(1, None), (2, None), (4, None)]);
        assert_eq!(clock.1.found(&name("a")), found(&[1]));
        assert_eq!(clock.answer(nothing()), (3, Some(News::Unresolved("no such name".into()))), "10 s are over");
        assert!(clock.1.answers().0.is_empty());
        assert_eq!(clock.answer(Outcome::Found(found(&[1]), seconds(5))), (16, Some(News::Changed)));
        assert_eq!(clock.1.problem(&name("a")), None);
    }

    #[test]
    fn a_name_server_that_is_dead_changes_nothing() {
        let mut clock = Clock::new();
        let failed = || Outcome::Failed("time-out".into());
        assert_eq!(clock.answer(failed()), (0, Some(News::Unresolved("time-out".into()))));
        assert_eq!(clock.answer(Outcome::Found(found(&[1]), seconds(5))), (1, Some(News::Changed)));
        assert_eq!(clock.answer(failed()), (5, Some(News::Kept("time-out".into()))));
        let waits: Vec<u64> = (0..7).map(|_| clock.answer(failed()).0).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(clock.1.found(&name("a")), found(&[1]));
        assert_eq!(clock.answer(Outcome::Found(found(&[1]), seconds(5))), (30, Some(News::Back)));
    }

    #[test]
    fn names_come_and_go_with_configs() {
        let mut clock = Clock::new();
        clock.answer(Outcome::Found(found(&[1]), seconds(5)));
        assert_eq!(clock.1.add(&HashSet::from([name("a"), name("b")]), clock.0), [name("b")]);
        clock.1.keep(&HashSet::from([name("a")]));
        let late = clock.1.on_outcome(&name("b"), Outcome::Found(found(&[9]), seconds(5)), &rules(), clock.0);
        assert_eq!((late, clock.1.answers().0.len()), (None, 1), "nobody asks any more");
    }

    proptest! {
        /// Whatever comes: what was found stays in use until name servers have said for `hold` that there is nothing, and no
        /// name is forgotten.
        #[test]
        fn servers_are_never_lost_to_a_failure(outcomes in proptest::collection::vec((0u8..3, 1u64..100), 1..40)) {
            let mut clock = Clock::new();
            let mut nothing_since = None;
            for (kind, ttl) in outcomes {
                let before = clock.1.found(&name("a")).to_vec();
                let outcome = match kind {
                    0 => Outcome::Found(found(&[ttl as u8]), seconds(ttl)),
                    1 => Outcome::Nothing("none".into()),
                    _ => Outcome::Failed("dead".into()),
                };
                clock.answer(outcome);
                match kind {
                    0 => nothing_since = None,
                    1 => nothing_since = nothing_since.or(Some(clock.0)),
                    _ => {}
                }
                let now = clock.1.found(&name("a"));
                let is_over = nothing_since.is_some_and(|since| clock.0 >= since + rules().hold);
                prop_assert!(kind == 0 || now == before || (kind == 1 && is_over), "{kind} {before:?} {now:?}");
                prop_assert!(clock.1.next_due().is_some_and(|next| next > clock.0 && next <= clock.0 + seconds(60)));
            }
        }
    }
}
