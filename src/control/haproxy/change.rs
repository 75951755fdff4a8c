//! `set server`, `set weight`, `enable …` and the like: orders of the operator, in HAProxy's words.

use super::find_server;
use crate::control::Shared;
use crate::control::orders::{self, LIMIT_MAX, Those, WEIGHT_MAX};
use crate::control::shared::AdminState;

/// An answer; HAProxy's own have their end of line or not.
type Said = Result<String, String>;

/// One server, which its name tells from others of the same address.
fn server(shared: &Shared, name: Option<&str>) -> Result<Those, String> {
    let name = name.unwrap_or_default();
    let (upstream, server) = find_server(shared, name)?;
    Ok(Those { upstream, servers: vec![server], name: name.into(), by: "stats socket".into() })
}

pub(super) fn get_weight(shared: &Shared, name: Option<&str>) -> Said {
    let Those { upstream, servers, .. } = server(shared, name)?;
    let (now, initial) =
        (shared.weight(upstream, servers[0]), shared.config.upstreams[upstream].servers[servers[0]].weight);
    Ok(format!("{now} (initial {initial})\n"))
}

/// A number, or percents of the config's weight, which at 100 it goes back to.
pub(super) fn set_weight(shared: &Shared, name: Option<&str>, text: Option<&str>) -> Said {
    let those = server(shared, name)?;
    let text = text.filter(|text| !text.is_empty()).ok_or("Require <weight> or <weight%>.\n")?;
    let initial = shared.config.upstreams[those.upstream].servers[those.servers[0]].weight;
    let (number, rest) = leading_number(text);
    let number = number.ok_or("Empty weight string empty or preceded by garbage")?;
    let weight = match rest {
        "%" if number < 0 => return Err("Relative weight must be positive.\n".into()),
        "%" => i64::from(initial).saturating_mul(number) / 100,
        "" if !(0..=i64::from(WEIGHT_MAX)).contains(&number) => {
            return Err("Absolute weight can only be between 0 and 256 inclusive.\n".into());
        }
        "" => number,
        _ => return Err("Trailing garbage in weight string".into()),
    };
    let weight = weight.clamp(0, WEIGHT_MAX.into()) as u32;
    // The config's weight again is the end of the order.
    orders::set_weight(shared, &those, (weight != initial).then_some(weight));
    Ok(String::new())
}

/// 0 is any number. To be followed by [`crate::control::ctl::Desk::put_limits_in_force`].
pub(super) fn set_maxconn(shared: &Shared, name: Option<&str>, text: Option<&str>) -> Said {
    let those = server(shared, name)?;
    let text = text.filter(|text| !text.is_empty()).ok_or("Require <maxconn>.\n")?;
    let (number, rest) = leading_number(text);
    let limit = match (number, rest) {
        (None, _) => return Err("maxconn string empty or preceded by garbage".into()),
        (Some(_), rest) if !rest.is_empty() => return Err("Trailing garbage in maxconn string".into()),
        (Some(0), _) => None,
        (Some(number), _) if (1..=i64::from(LIMIT_MAX)).contains(&number) => Some(number as u32),
        // HAProxy takes anything for a number here.
        (Some(_), _) => return Err(format!("maxconn can only be between 0 and {LIMIT_MAX} inclusive.\n")),
    };
    let configured = shared.config.upstreams[those.upstream].servers[those.servers[0]].requests_max;
    orders::set_limit(shared, &those, (limit != configured).then_some(limit));
    Ok(String::new())
}

pub(super) fn set_server(shared: &Shared, name: Option<&str>, what: Option<&str>, value: Option<&str>) -> Said {
    let those = server(shared, name)?;
    match what {
        Some("weight") => set_weight(shared, name, value),
        Some("state") => {
            let state = match value {
                Some("ready") => AdminState::Ready,
                Some("drain") => AdminState::Drain,
                Some("maint") => AdminState::Maintenance,
                _ => return Err("'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n".into()),
            };
            orders::set_state(shared, &those, state);
            Ok(String::new())
        }
        _ => Err("usage: set server <backend>/<server> state | weight\n".into()),
    }
}

pub(super) fn enable_server(shared: &Shared, name: Option<&str>, enable: bool) -> Said {
    let state = if enable { AdminState::Ready } else { AdminState::Maintenance };
    orders::set_state(shared, &server(shared, name)?, state);
    Ok(String::new())
}

pub(super) fn enable_health(shared: &Shared, name: Option<&str>, enable: bool) -> Said {
    let those = server(shared, name)?;
    let has_checks = shared.config.upstreams[those.upstream].health.is_some();
    if enable && !has_checks {
        return Err("Health check was not configured on this server, cannot enable.\n".into());
    }
    if has_checks {
        orders::pause_checks(shared, &those, !enable);
    }
    Ok(String::new())
}

/// The number that a text begins with, as strtol(3) reads it, and what follows. Beyond 64 bits it is the largest one.
fn leading_number(text: &str) -> (Option<i64>, &str) {
    let digits_at = usize::from(text.starts_with(['-', '+']));
    let digits = text[digits_at..].bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits_at + digits);
    match digits {
        0 => (None, text),
        _ if text.starts_with('-') => (Some(number.parse().unwrap_or(i64::MIN)), rest),
        _ => (Some(number.parse().unwrap_or(i64::MAX)), rest),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::shared::tests::config;
    use super::*;

    const SERVER: Option<&str> = Some("api/127.0.0.1:1");

    #[test]
    fn weights_are_numbers_or_percents_of_the_config() {
        let mut config = config();
        config.upstreams[0].servers[0].weight = 10;
        let shared = Shared::new(Arc::new(config), 1, 0);
        let set =
            |text| set_weight(&shared, SERVER, Some(text)).map(|said| (said, get_weight(&shared, SERVER).unwrap()));
        for (text, weight) in [("50%", 5), ("3000%", 256), ("0", 0), ("256", 256), ("100%", 10), ("+7", 7), ("5%", 0)] {
            assert_eq!(set(text), Ok((String::new(), format!("{weight} (initial 10)\n"))), "{text}");
        }
        assert_eq!(set("10"), Ok((String::new(), "10 (initial 10)\n".into())));
        assert_eq!(shared.servers[0][0].weight_set(), None, "the order has ended");
        for (text, error) in [
            ("", "Require <weight> or <weight%>.\n"),
            ("x", "Empty weight string empty or preceded by garbage"),
            ("%", "Empty weight string empty or preceded by garbage"),
            ("5x", "Trailing garbage in weight string"),
            ("257", "Absolute weight can only be between 0 and 256 inclusive.\n"),
            ("-1", "Absolute weight can only be between 0 and 256 inclusive.\n"),
            ("-1%", "Relative weight must be positive.\n"),
            ("99999999999999999999", "Absolute weight can only be between 0 and 256 inclusive.\n"),
        ] {
            assert_eq!(set(text), Err(error.into()), "{text}");
        }
        set("99999999999999999999%").unwrap();
        assert_eq!(shared.weight(0, 0), 256);
    }

    #[test]
    fn limits_are_numbers_and_0_is_none() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        let set = |text| set_maxconn(&shared, SERVER, Some(text)).map(|_| shared.servers[0][0].limit_set());
        assert_eq!((set("7"), set("0"), set("9")), (Ok(Some(Some(7))), Ok(None), Ok(Some(Some(9)))));
        for bad in ["", "x", "7x", "-1", "1000001"] {
            assert!(set(bad).is_err(), "{bad}");
        }
        assert_eq!(shared.limit(0, 0), Some(9));
    }

    #[test]
    fn who_is_not_there_is_told_so_in_haproxys_words() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        let say = |name| set_server(&shared, name, Some("state"), Some("drain"));
        assert_eq!(say(None), Err("Require 'backend/server'.\n".into()));
        assert_eq!(say(Some("api")), Err("Require 'backend/server'.\n".into()));
        assert_eq!(say(Some("nix/a")), Err("No such backend.\n".into()));
        assert_eq!(say(Some("api/a")), Err("No such server.\n".into()));
        assert_eq!(say(Some("api/unix:/run/b\"2.sock")), Ok(String::new()));
        assert_eq!(shared.servers[0][1].admin(), AdminState::Drain);
        assert_eq!(enable_server(&shared, SERVER, false), Ok(String::new()));
        assert_eq!(shared.servers[0][0].admin(), AdminState::Maintenance);
        let error = enable_health(&shared, Some("plain/[::1]:8080"), true);
        assert_eq!(error, Err("Health check was not configured on this server, cannot enable.\n".into()));
        enable_health(&shared, SERVER, false).unwrap();
        assert!(shared.servers[0][0].is_unchecked());
    }
}
