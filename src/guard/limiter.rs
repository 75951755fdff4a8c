//! Requests by key, over all data workers: how fast they come, and how many are under way at once.
//!
//! A limit holds for the process: counted by each worker alone it would hold once for every core. Both tables have a fixed
//! size and are made for this ([`super::slots`]). Where the table of rates is full, the key gives way that is nearest to
//! being unknown again, so that someone who makes up keys pushes out others who have asked little, and himself. Where the
//! table of requests under way is full, further keys are refused, as nginx does it: a count that was forgotten would
//! never end. Keys and times come in, verdicts go out.

use std::time::Duration;

use ahash::RandomState;

use super::rate::{Decision, Gcra, Rate};
use super::slots::{At, Numbers, Slots};

/// What a limit allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Requests per time; `None`: any.
    pub rate: Option<Rate>,
    /// Requests ahead of the rate.
    pub burst: u32,
    /// Requests under way at once; `None`: any.
    pub requests_max: Option<u32>,
    /// Keys that the tables have room for.
    pub keys_max: usize,
}

/// A limit with its tables.
#[derive(Debug)]
pub struct Limiter {
    hasher: RandomState,
    paced: Option<(Gcra, Slots)>,
    counted: Option<(u32, Slots)>,
}

/// A key in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

/// What the rate says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is granted. At the pace of the rate it would go on after this time, which is zero when it is due.
    Granted(Duration),
    /// It comes too early, and would not after this time.
    Refused(Duration),
}

/// Whether a request is among those under way.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// They are not counted.
    Uncounted,
    /// It is counted until [`Limiter::leave`].
    Counted(Ticket),
    /// There are as many as there may be.
    Full,
}

/// A request that is counted as under way. To be given to [`Limiter::leave`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Ticket(At);

impl Limiter {
    /// Empty tables. `seed` must not be known to clients.
    pub fn new(allowed: &Allowed, seed: [u64; 4]) -> Limiter {
        let [a, b, c, d] = seed;
        let slots = |numbers| Slots::new(numbers, allowed.keys_max);
        Limiter {
            hasher: RandomState::with_seeds(a, b, c, d),
            paced: allowed.rate.map(|rate| (Gcra::new(rate, allowed.burst), slots(Numbers::Times))),
            counted: allowed.requests_max.map(|requests_max| (requests_max, slots(Numbers::Counts))),
        }
    }

    /// The key that `text` stands for.
    pub fn key(&self, text: &[u8]) -> Key {
        Key(self.hasher.hash_one(text))
    }

    /// Asks for a turn at `now`, a time since a moment that is the same for all calls.
    pub fn turn(&self, key: Key, now: Duration) -> Turn {
        let Some((gcra, slots)) = &self.paced else { return Turn::Granted(Duration::ZERO) };
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let decide = |arrival| match gcra.decide(arrival, now) {
            Decision::Granted { arrival, wait_nanos } => {
                (Turn::Granted(Duration::from_nanos(wait_nanos)), Some(arrival))
            }
            Decision::Refused { retry_nanos } => (Turn::Refused(Duration::from_nanos(retry_nanos)), None),
        };
        // There is always room.
        slots.update(key.0, now, decide).map_or(Turn::Granted(Duration::ZERO), |(turn, _)| turn)
    }

    /// Takes a turn back that was granted and not used.
    pub fn give_back(&self, key: Key) {
        if let Some((gcra, slots)) = &self.paced {
            slots.change(key.0, |arrival| ((), Some(gcra.without_one(arrival))));
        }
    }

    /// Counts a request as under way.
    pub fn enter(&self, key: Key) -> Entry {
        let Some((requests_max, slots)) = &self.counted else { return Entry::Uncounted };
        let one_more = |under_way: u64| {
            let may = under_way < u64::from(*requests_max);
            (may, may.then_some(under_way + 1))
        };
        match slots.update(key.0, 0, one_more) {
            Some((true, at)) => Entry::Counted(Ticket(at)),
            _ => Entry::Full,
        }
    }

    /// The request is no longer under way.
    pub fn leave(&self, ticket: Ticket) {
        if let Some((_, slots)) = &self.counted {
            slots.decrement(ticket.0);
        }
    }

    /// Keys that were forgotten before their time, because the table of rates was full.
    pub fn keys_lost(&self) -> u64 {
        self.paced.as_ref().map_or(0, |(_, slots)| slots.lost())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    fn limiter(rate: Option<&str>, burst: u32, requests_max: Option<u32>) -> Limiter {
        let rate = rate.map(|text| Rate::parse(text).expect("a rate"));
        Limiter::new(&Allowed { rate, burst, requests_max, keys_max: 4096 }, [1, 2, 3, 4])
    }

    const START: Duration = Duration::from_secs(1000);

    #[test]
    fn keys_have_turns_of_their_own() {
        let limiter = limiter(Some("1/s"), 1, None);
        let (a, b) = (limiter.key(b"a"), limiter.key(b"b"));
        assert_eq!(limiter.turn(a, START), Turn::Granted(Duration::ZERO));
        assert_eq!(limiter.turn(a, START), Turn::Granted(Duration::from_secs(1)));
        assert_eq!(limiter.turn(a, START), Turn::Refused(Duration::from_secs(1)));
        assert_eq!(limiter.turn(b, START), Turn::Granted(Duration::ZERO));
        limiter.give_back(a);
        assert_eq!(limiter.turn(a, START), Turn::Granted(Duration::from_secs(1)));
        assert_eq!(limiter.enter(a), Entry::Uncounted);
        // A key that has asked for nothing has nothing to give back.
        limiter.give_back(limiter.key(b"c"));
        assert_eq!(limiter.turn(limiter.key(b"c"), START), Turn::Granted(Duration::ZERO));
    }

    #[test]
    fn requests_under_way_are_counted_until_they_leave() {
        let limiter = limiter(None, 0, Some(2));
        let key = limiter.key(b"a");
        let (Entry::Counted(first), Entry::Counted(second)) = (limiter.enter(key), limiter.enter(key)) else {
            panic!()
        };
        assert_eq!(limiter.enter(key), Entry::Full);
        limiter.leave(first);
        let Entry::Counted(third) = limiter.enter(key) else { panic!() };
        limiter.leave(second);
        limiter.leave(third);
        assert_eq!(limiter.counted.as_ref().map(|(_, slots)| slots.sum()), Some(0));
        assert_eq!(limiter.turn(key, START), Turn::Granted(Duration::ZERO));
    }

    #[test]
    fn made_up_keys_push_out_those_that_asked_least() {
        let allowed = Allowed { rate: Rate::parse("1/s").ok(), burst: 50, requests_max: None, keys_max: 7 };
        let limiter = Limiter::new(&allowed, [1, 2, 3, 4]);
        let greedy = limiter.key(b"greedy");
        while matches!(limiter.turn(greedy, START), Turn::Granted(_)) {}
        for n in 0..1000u32 {
            limiter.turn(limiter.key(&n.to_le_bytes()), START);
        }
        assert!(matches!(limiter.turn(greedy, START), Turn::Refused(_)));
        assert_eq!(limiter.keys_lost(), 1000 - 6);
    }

    proptest! {
        /// Whatever keys come when, each is treated as if it had the limit for itself.
        #[test]
        fn a_table_is_many_rates(steps in prop::collection::vec((0u8..10, 0u64..400), 1..300), burst in 0u32..5) {
            let limiter = limiter(Some("10/s"), burst, None);
            let gcra = Gcra::new(Rate::parse("10/s").unwrap(), burst);
            let mut arrivals: HashMap<u8, u64> = HashMap::new();
            let mut now = START;
            for (key, step_ms) in steps {
                now += Duration::from_millis(step_ms) / 10;
                let arrival = arrivals.entry(key).or_default();
                let expect = match gcra.decide(*arrival, now.as_nanos() as u64) {
                    Decision::Granted { arrival: next, wait_nanos } => {
                        *arrival = next;
                        Turn::Granted(Duration::from_nanos(wait_nanos))
                    }
                    Decision::Refused { retry_nanos } => Turn::Refused(Duration::from_nanos(retry_nanos)),
                };
                prop_assert_eq!(limiter.turn(limiter.key(&[key]), now), expect);
            }
        }
    }

    /// Threads that ask for few keys at once, beside a crowd of others that come and go, get no more than one would.
    #[test]
    fn threads_together_get_no_more_than_the_rate() {
        const BURST: u32 = 5;
        let limiter = limiter(Some("1000/s"), BURST, None);
        let (clock, granted) = (AtomicU64::new(START.as_nanos() as u64), [const { AtomicU64::new(0) }; 3]);
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let (limiter, clock, granted) = (&limiter, &clock, &granted);
                scope.spawn(move || {
                    for n in 0..20_000u32 {
                        let now = Duration::from_nanos(clock.fetch_add(1_000, Ordering::SeqCst));
                        let which = (n % 3) as usize;
                        if let Turn::Granted(_) = limiter.turn(limiter.key(&[which as u8]), now) {
                            granted[which].fetch_add(1, Ordering::SeqCst);
                        }
                        limiter.turn(limiter.key(&[thread.to_le_bytes(), n.to_le_bytes()].concat()), now);
                    }
                });
            }
        });
        let elapsed = Duration::from_nanos(clock.load(Ordering::SeqCst)) - START;
        let most = elapsed.as_millis() as u64 + u64::from(BURST) + 1;
        for granted in granted.map(AtomicU64::into_inner) {
            assert!((BURST.into()..=most).contains(&granted), "{granted} of {most}");
        }
    }
}
