//! Is a server up? The rise and fall counting of active checks, and when the next check is due. Pure.
//!
//! Deliberately absent: sockets and timers ([`crate::control::checks`] drives this) and the choice among servers.
//! The counting is HAProxy's, so that `rise` and `fall` mean what its users expect: a server starts up, but unproven;
//! its very first check decides, so a server that is dead at start is down after one check. Proven once, it takes
//! `fall` failures in a row to go down, and `rise` successes in a row to come up.
//!
//! ```text
//!            start
//!              v      failure (first check)
//!        up, unproven ----------------------+
//!              | success                    v
//!              v   `fall` failures        down
//!             up ------------------------>  |
//!              ^      `rise` successes      |
//!              +----------------------------+
//! ```

use std::time::{Duration, Instant};

use crate::config::model::Pace;

/// What active checks know of one server.
#[derive(Clone, Debug)]
pub struct HealthState {
    /// HAProxy's counter: 0 to `rise + fall - 1`; the server is up from `rise` on.
    health: u64,
    rise: u64,
    fall: u64,
    since: Instant,
    /// No check has succeeded yet.
    is_unproven: bool,
    /// Results in a row that were like the last one.
    row: u64,
    last: Option<bool>,
}

/// A server went up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The new state.
    pub up: bool,
    /// How long the old state lasted.
    pub lasted: Duration,
    /// Results in a row that brought it about …
    pub row: u64,
    /// … of so many that were needed.
    pub needed: u64,
}

impl HealthState {
    /// A server that is up and has not been checked. `rise` and `fall` count as at least 1.
    pub fn new(rise: u32, fall: u32, now: Instant) -> HealthState {
        let (rise, fall) = (u64::from(rise.max(1)), u64::from(fall.max(1)));
        HealthState { health: rise, rise, fall, since: now, is_unproven: true, row: 0, last: None }
    }

    /// A server that was checked before, perhaps by other numbers, and is up or down for sure.
    pub fn resumed(rise: u32, fall: u32, up: bool, now: Instant) -> HealthState {
        let mut state = HealthState::new(rise, fall, now);
        state.health = if up { state.rise + state.fall - 1 } else { 0 };
        state.is_unproven = false;
        state
    }

    /// Whether requests may go to the server.
    pub fn is_up(&self) -> bool {
        self.health >= self.rise
    }

    /// How soon the next check should come.
    pub fn urgency(&self) -> Urgency {
        match self.health {
            0 => Urgency::Down,
            health if health == self.rise + self.fall - 1 => Urgency::Settled,
            _ => Urgency::Changing,
        }
    }

    /// Takes the result of one check; tells when it changed the server's state.
    pub fn on_result(&mut self, ok: bool, now: Instant) -> Option<Transition> {
        let was_up = self.is_up();
        self.row = if self.last == Some(ok) { self.row + 1 } else { 1 };
        self.last = Some(ok);
        let was_unproven = std::mem::replace(&mut self.is_unproven, false);
        self.health = match ok {
            true if self.health + 1 >= self.rise => self.rise + self.fall - 1,
            true => self.health + 1,
            false if self.health > self.rise => self.health - 1,
            false => 0,
        };
        if self.is_up() == was_up {
            return None;
        }
        let lasted = now.saturating_duration_since(self.since);
        self.since = now;
        let needed = match (ok, was_unproven) {
            (true, _) => self.rise,
            (false, true) => 1,
            (false, false) => self.fall,
        };
        Some(Transition { up: !was_up, lasted, row: self.row, needed })
    }
}

/// How soon a server wants its next check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// It is up, and its last check said so too.
    Settled,
    /// It is on its way up or down.
    Changing,
    /// It is down, and its last check said so too.
    Down,
}

/// Times from check to check: an interval for each urgency, a share of it more or less, so that checks of many servers
/// and of several processes drift apart instead of hitting a server together.
#[derive(Clone, Debug)]
pub struct Schedule {
    pace: Pace,
    seed: u64,
}

impl Schedule {
    /// The same `seed` gives the same times.
    pub fn new(pace: Pace, seed: u64) -> Schedule {
        Schedule { pace, seed }
    }

    /// Time from the begin of the last check to the begin of the next one, jitter included.
    pub fn next_delay(&mut self, urgency: Urgency) -> Duration {
        let share = (splitmix64(&mut self.seed) >> 11) as f64 / (1u64 << 53) as f64; // 0 to 1
        let interval = match urgency {
            Urgency::Settled => self.pace.interval,
            Urgency::Changing => self.pace.fast_interval,
            Urgency::Down => self.pace.down_interval,
        };
        let jitter = f64::from(self.pace.jitter_percent.min(100)) / 100.0;
        interval.mul_f64(1.0 - jitter + 2.0 * jitter * share)
    }
}

/// The splitmix64 generator of Steele, Lea and Flood (OOPSLA 2014): ample for spreading timers.
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds results written as `+` and `-`; returns the state after each as `U` or `D`.
    fn states(rise: u32, fall: u32, results: &str) -> String {
        let now = Instant::now();
        let mut state = HealthState::new(rise, fall, now);
        assert!(state.is_up(), "servers start up");
        results
            .chars()
            .map(|result| {
                let before = state.is_up();
                let transition = state.on_result(result == '+', now);
                assert_eq!(transition.map(|t| t.up), (state.is_up() != before).then_some(!before));
                if state.is_up() { 'U' } else { 'D' }
            })
            .collect()
    }

    #[test]
    fn the_first_check_decides_then_rise_and_fall_count_in_a_row() {
        for (rise, fall, results, expected) in [
            (2, 3, "-", "D"),
            (2, 3, "+---", "UUUD"),
            (2, 3, "+--+--+---", "UUUUUUUUUD"),
            (2, 3, "-+-++", "DDDDU"),
            (2, 3, "-++--+---", "DDUUUUUUD"),
            (1, 1, "+-+-", "UDUD"),
            (0, 0, "+-+-", "UDUD"),
            (u32::MAX, u32::MAX, "+-----", "UUUUUU"),
        ] {
            assert_eq!(states(rise, fall, results), expected, "rise {rise}, fall {fall}, {results}");
        }
    }

    #[test]
    fn one_that_was_checked_before_takes_as_many_as_any_other() {
        let now = Instant::now();
        let mut up = HealthState::resumed(2, 3, true, now);
        let mut down = HealthState::resumed(2, 3, false, now);
        assert_eq!([up.on_result(false, now), up.on_result(false, now)], [None, None]);
        assert!(up.on_result(false, now).is_some_and(|transition| !transition.up));
        assert_eq!(down.on_result(true, now), None);
        assert!(down.on_result(true, now).is_some_and(|transition| transition.up));
    }

    #[test]
    fn a_transition_tells_how_long_the_old_state_lasted() {
        let start = Instant::now();
        let mut state = HealthState::new(1, 2, start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(state.on_result(true, at(1)), None);
        assert_eq!(state.on_result(false, at(2)), None);
        let down = state.on_result(false, at(5));
        assert_eq!(down, Some(Transition { up: false, lasted: Duration::from_secs(5), row: 2, needed: 2 }));
        let up = state.on_result(true, at(7));
        assert_eq!(up, Some(Transition { up: true, lasted: Duration::from_secs(2), row: 1, needed: 1 }));
    }

    #[test]
    fn urgency_follows_the_counter() {
        let now = Instant::now();
        let mut state = HealthState::new(2, 3, now);
        let seen: Vec<Urgency> = "+--+---+-++"
            .chars()
            .map(|result| {
                state.on_result(result == '+', now);
                state.urgency()
            })
            .collect();
        use Urgency::{Changing, Down, Settled};
        let expected =
            [Settled, Changing, Changing, Settled, Changing, Changing, Down, Changing, Down, Changing, Settled];
        assert_eq!(seen, expected);
    }

    fn pace(jitter_percent: u32) -> Pace {
        let seconds = Duration::from_secs;
        Pace { interval: seconds(10), fast_interval: seconds(1), down_interval: seconds(100), jitter_percent }
    }

    #[test]
    fn delays_stay_within_the_jitter_differ_and_repeat_with_the_seed() {
        let delays = |seed| {
            let mut schedule = Schedule::new(pace(10), seed);
            (0..1000).map(|_| schedule.next_delay(Urgency::Settled)).collect::<Vec<_>>()
        };
        let (first, again, other) = (delays(7), delays(7), delays(8));
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert!(first.iter().all(|d| (Duration::from_secs(9)..=Duration::from_secs(11)).contains(d)));
        let spread = *first.iter().max().unwrap() - *first.iter().min().unwrap();
        assert!(spread > Duration::from_millis(1900), "{spread:?}");
        let mut exact = Schedule::new(pace(0), 7);
        assert_eq!(exact.next_delay(Urgency::Changing), Duration::from_secs(1));
        assert_eq!(exact.next_delay(Urgency::Down), Duration::from_secs(100));
    }

    proptest::proptest! {
        /// Up to down takes exactly `fall` failures in a row, the other way `rise` successes, whatever came before; the
        /// first result alone decides at once.
        #[test]
        fn rise_and_fall_count_in_a_row(
            rise in 1..6u32, fall in 1..6u32, results in proptest::collection::vec(proptest::bool::ANY, 1..80),
        ) {
            let now = Instant::now();
            let mut state = HealthState::new(rise, fall, now);
            let (mut up, mut row, mut last) = (true, 0, None);
            for (n, &ok) in results.iter().enumerate() {
                row = if last == Some(ok) { row + 1 } else { 1 };
                last = Some(ok);
                let needed = if ok { rise } else if n == 0 { 1 } else { fall };
                let changes = ok != up && row >= u64::from(needed);
                if changes {
                    up = ok;
                }
                let transition = state.on_result(ok, now);
                proptest::prop_assert_eq!(transition.is_some(), changes);
                proptest::prop_assert_eq!(state.is_up(), up);
            }
        }
    }

    /// A server that is slow to start: its checks come fast while it rises and then settle.
    #[test]
    fn a_slow_starter_is_up_within_the_fast_interval_times_rise() {
        for seed in 0..50 {
            let start = Instant::now();
            let (mut state, mut schedule) = (HealthState::new(3, 3, start), Schedule::new(pace(10), seed));
            let (ready_at, mut now) = (Duration::from_secs(30), start);
            let mut up_at = None;
            while up_at.is_none() && now < start + Duration::from_secs(400) {
                let is_ready = now - start >= ready_at;
                if state.on_result(is_ready, now).is_some_and(|transition| transition.up) {
                    up_at = Some(now - start);
                }
                now += schedule.next_delay(state.urgency());
            }
            let up_at = up_at.expect("it comes up");
            // At most one interval of a server that is down, then two fast ones.
            assert!(up_at <= ready_at + Duration::from_secs(110) + Duration::from_millis(2200), "{seed}: {up_at:?}");
        }
    }
}
