//! Requests per time, as people write it (`10/s`, `600/m`, `1000/h`), and the rule that keeps it.
//!
//! The rule is the generic cell rate algorithm (ITU-T I.371), with the meaning of the `governor` crate: a key has one
//! number, its theoretical arrival time, at which it will have made good for everything it was granted. A request moves it
//! by one interval; how far it may lie ahead is the burst. As in nginx, `burst` counts the requests beyond the one that is
//! always due. Times are nanoseconds of one clock; nothing here reads it.

use std::fmt;
use std::time::Duration;

/// Shortest interval: a million requests a second.
const INTERVAL_NANOS_MIN: u64 = 1_000;

/// So many requests in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests.
    pub count: u32,
    /// Period: a second, a minute or an hour.
    pub period: Duration,
}

const PERIODS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

impl Rate {
    /// Reads `10/s`. The error says what to write instead.
    pub fn parse(text: &str) -> Result<Rate, String> {
        let example = "write a number and one of /s, /m, /h, for example \"10/s\"";
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = (&text[..digits], text[digits..].trim_start());
        if count.is_empty() {
            return Err(format!("`{text}` is not a rate: {example}"));
        }
        let Some((_, seconds)) = PERIODS.iter().find(|(name, _)| unit.strip_prefix('/') == Some(name)) else {
            return Err(match meant_period(unit) {
                Some(period) => format!("`{text}` is not a rate: did you mean \"{count}/{period}\"?"),
                None => format!("`{text}` is not a rate: {example}"),
            });
        };
        let period = Duration::from_secs(*seconds);
        match count.parse() {
            Ok(0) => Err("a rate of 0 lets nobody in: write `access = [\"deny all\"]` for that".into()),
            Ok(count) if u64::from(count) <= seconds * 1_000_000 => Ok(Rate { count, period }),
            _ => Err(format!("`{text}` is too large: the most is 1000000/s")),
        }
    }

    /// Time between two requests, rounded up, so that the rate is never exceeded.
    fn interval_nanos(self) -> u64 {
        let period = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX);
        period.div_ceil(u64::from(self.count.max(1))).max(INTERVAL_NANOS_MIN)
    }
}

/// What nginx and others write: `10r/s`, `10/sec`, `10 per minute`, `10s`.
fn meant_period(unit: &str) -> Option<&'static str> {
    let name = unit.trim_start_matches('r').trim_start_matches('/').trim_start_matches("per").trim_start();
    match name.to_ascii_lowercase().as_str() {
        "s" | "sec" | "secs" | "second" | "seconds" | "1s" => Some("s"),
        "m" | "min" | "mins" | "minute" | "minutes" | "1m" => Some("m"),
        "h" | "hr" | "hour" | "hours" | "1h" => Some("h"),
        _ => None,
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = PERIODS.iter().find(|(_, seconds)| *seconds == self.period.as_secs());
        write!(f, "{}/{}", self.count, unit.map_or("s", |(name, _)| name))
    }
}

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gcra {
    interval_nanos: u64,
    tolerance_nanos: u64,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is granted; at the pace of the rate its turn comes after `wait_nanos`.
    Granted {
        /// The new arrival time of its key.
        arrival: u64,
        wait_nanos: u64,
    },
    /// It is beyond the burst, and would not be after so long. The key's arrival time stays.
    Refused { retry_nanos: u64 },
}

impl Gcra {
    /// At `rate`, and `burst` requests ahead of it. A burst of a million at one request an hour still fits the numbers.
    pub(super) fn new(rate: Rate, burst: u32) -> Gcra {
        let interval_nanos = rate.interval_nanos();
        Gcra { interval_nanos, tolerance_nanos: interval_nanos.saturating_mul(u64::from(burst)) }
    }

    /// Decides about a request that comes at `now`; a key that has not been seen, or not for long, has an `arrival` that
    /// is not later.
    pub(super) fn decide(self, arrival: u64, now: u64) -> Decision {
        let due = arrival.saturating_sub(self.tolerance_nanos);
        if now < due {
            return Decision::Refused { retry_nanos: due - now };
        }
        Decision::Granted {
            arrival: arrival.max(now).saturating_add(self.interval_nanos),
            wait_nanos: arrival.saturating_sub(now),
        }
    }

    /// The arrival time as if one request had not been granted.
    pub(super) fn without_one(self, arrival: u64) -> u64 {
        arrival.saturating_sub(self.interval_nanos)
    }

    /// Longest wait of a request that is granted.
    pub(super) fn wait_max(self) -> Duration {
        Duration::from_nanos(self.tolerance_nanos)
    }
}

/// How long the last request of a burst waits at `rate`.
pub fn longest_wait(rate: Rate, burst: u32) -> Duration {
    Gcra::new(rate, burst).wait_max()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for text in ["1/s", "10/s", "600/m", "1000/h", "1000000/s", "3600000/h"] {
            assert_eq!(Rate::parse(text).map(|rate| rate.to_string()), Ok(text.into()));
        }
        assert_eq!(Rate::parse("5 /m"), Rate::parse("5/m"));
        for (text, advice) in [
            ("", "for example \"10/s\""),
            ("fast", "for example \"10/s\""),
            ("10", "for example \"10/s\""),
            ("-1/s", "for example \"10/s\""),
            ("10r/s", "did you mean \"10/s\"?"),
            ("30r/m", "did you mean \"30/m\"?"),
            ("10/sec", "did you mean \"10/s\"?"),
            ("10 per minute", "did you mean \"10/m\"?"),
            ("10/d", "for example \"10/s\""),
            ("0/s", "lets nobody in"),
            ("1000001/s", "the most is 1000000/s"),
            ("99999999999/s", "the most is 1000000/s"),
        ] {
            let error = Rate::parse(text).expect_err(text);
            assert!(error.contains(advice), "{text}: {error}");
        }
    }

    const SECOND: u64 = 1_000_000_000;

    fn gcra(text: &str, burst: u32) -> Gcra {
        Gcra::new(Rate::parse(text).expect("a rate"), burst)
    }

    #[test]
    fn a_burst_is_granted_and_what_is_beyond_waits_for_the_rate() {
        let gcra = gcra("2/s", 3);
        let (mut arrival, now) = (0, 100 * SECOND);
        for wait in [0, 1, 2, 3] {
            let Decision::Granted { arrival: next, wait_nanos } = gcra.decide(arrival, now) else { panic!("{wait}") };
            assert_eq!(wait_nanos, wait * SECOND / 2);
            arrival = next;
        }
        assert_eq!(gcra.decide(arrival, now), Decision::Refused { retry_nanos: SECOND / 2 });
        assert_eq!(gcra.decide(arrival, now + SECOND / 2 - 1), Decision::Refused { retry_nanos: 1 });
        assert!(matches!(gcra.decide(arrival, now + SECOND / 2), Decision::Granted { .. }));
        assert!(matches!(gcra.decide(gcra.without_one(arrival), now), Decision::Granted { .. }));
    }

    proptest! {
        /// The same as a bucket that leaks: nginx's words for it.
        #[test]
        fn decisions_are_those_of_a_leaky_bucket(
            count in 1u32..1000,
            burst in 0u32..20,
            steps in prop::collection::vec(0u64..50_000_000, 1..300),
        ) {
            let gcra = Gcra::new(Rate { count, period: Duration::from_secs(1) }, burst);
            let drop_nanos = SECOND.div_ceil(u64::from(count));
            let (mut arrival, mut now, mut level) = (0u64, SECOND, 0u64);
            let mut grants: Vec<u64> = Vec::new();
            for step in steps {
                now += step;
                level = level.saturating_sub(step);
                let fits = level <= drop_nanos * u64::from(burst);
                match gcra.decide(arrival, now) {
                    Decision::Granted { arrival: next, wait_nanos } => {
                        prop_assert!(fits);
                        prop_assert_eq!(wait_nanos, level);
                        arrival = next;
                        level += drop_nanos;
                        grants.push(now);
                    }
                    Decision::Refused { retry_nanos } => {
                        prop_assert!(!fits);
                        prop_assert_eq!(retry_nanos, level - drop_nanos * u64::from(burst));
                    }
                }
            }
            // In no span of time more than its share and the burst.
            for (first, from) in grants.iter().enumerate() {
                for (last, to) in grants.iter().enumerate().skip(first) {
                    let granted = (last - first + 1) as u64;
                    prop_assert!(granted <= (to - from) / drop_nanos + u64::from(burst) + 1);
                }
            }
        }

        #[test]
        fn no_number_overflows(arrival in any::<u64>(), now in any::<u64>(), count in any::<u32>(), burst in any::<u32>()) {
            let gcra = Gcra::new(Rate { count, period: Duration::from_secs(3600) }, burst);
            if let Decision::Granted { arrival: next, .. } = gcra.decide(arrival, now) {
                prop_assert!(next >= arrival && next >= now);
                prop_assert!(gcra.without_one(next) <= next);
            }
        }
    }
}
