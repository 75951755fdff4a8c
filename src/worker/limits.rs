//! The limits of a route: each is asked once for a request, before the login of the first route that has it.
//!
//! All of them are asked in order of writing. The first that refuses ends the request; what the others of that route had
//! granted is given back. A request that several would delay waits for the longest.

use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;

use super::Worker;
use super::cx::Cx;
use super::exchange::{Acted, Client, Instead, abandoned, unanswered};
use super::held_back;
use crate::config::model::Limit;
use crate::guard::rate::Rate;
use crate::guard::{Entry, Key, Ticket, Turn};
use crate::http::h1::{write_decimal, write_field};
use crate::metrics::{LimitOutcome, ServedBy};
use crate::util::template::Encoding;

/// What limits have said of a request, and the counts it is in.
#[derive(Default)]
pub(super) struct Limited {
    /// Which have been asked, indexes into the config.
    asked: SmallVec<[usize; 4]>,
    /// None is asked any more: an error page is no second request.
    pub(super) is_over: bool,
    /// What rates said; `None`: there were none.
    pub(super) by_rate: Option<LimitOutcome>,
    /// The same of those of requests at once.
    pub(super) by_count: Option<LimitOutcome>,
    /// Until the request ends.
    held: SmallVec<[Held; 1]>,
}

impl Limited {
    /// One of them has refused the request.
    pub(super) fn is_refused(&self) -> bool {
        [self.by_rate, self.by_count].contains(&Some(LimitOutcome::Rejected))
    }
}

/// A place among the requests under way, given back when it is dropped.
struct Held {
    worker: Rc<Worker>,
    limit: usize,
    ticket: Option<Ticket>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.worker.shared.limiters[self.limit].leave(ticket);
        }
    }
}

/// A limit that let the request through.
struct Kept {
    limit: usize,
    key: Key,
    /// It has a turn that can be given back.
    has_turn: bool,
    outcome: LimitOutcome,
}

/// Why a limit refuses.
struct Refused {
    limit: usize,
    /// When to come again; `None`: when other requests have ended.
    retry: Option<Duration>,
}

/// Asks the limits of the route; `Some`: the request ends here. `key` is a buffer.
pub(super) async fn admit(cx: &Cx<'_>, client: &mut Client<'_>, key: &mut Vec<u8>) -> Option<Acted> {
    let limited = &mut client.answer.trail.limited;
    if cx.options.limits.is_empty() || limited.is_over {
        return None;
    }
    match ask_all(cx, limited, key) {
        Ok(Duration::ZERO) => None,
        // Boxed: every request would carry its size.
        Ok(wait) => Box::pin(held_back::wait(cx, client, wait)).await.err().map(|_| Ok(abandoned(ServedBy::Worker))),
        Err(refused) => {
            let limit = &cx.worker.config.limits[refused.limit];
            tracing::debug!(limit = %limit.name, retry = ?refused.retry, "request refused");
            client.answer.keep_fields(fields(limit, &refused));
            Some(Err(Instead::Error(unanswered(limit.status))))
        }
    }
}

/// `Ok`: how long the request waits.
fn ask_all(cx: &Cx<'_>, limited: &mut Limited, text: &mut Vec<u8>) -> Result<Duration, Refused> {
    let mut kept: SmallVec<[Kept; 4]> = SmallVec::new();
    let mut wait = Duration::ZERO;
    for &limit in cx.options.limits.iter() {
        // Where a request is sent on inside, each limit counts it once.
        if limited.asked.contains(&limit) {
            continue;
        }
        limited.asked.push(limit);
        text.clear();
        cx.worker.config.limits[limit].key.put(Encoding::Text, cx, text);
        if text.is_empty() {
            continue;
        }
        let key = cx.worker.shared.limiters[limit].key(text);
        match ask(cx, limited, limit, key) {
            Ok((one, its_wait)) => {
                wait = wait.max(its_wait);
                kept.push(one);
            }
            Err(refused) => {
                limited.held.clear();
                for one in kept.iter().filter(|one| one.has_turn) {
                    cx.worker.shared.limiters[one.limit].give_back(one.key);
                }
                cx.worker.stats.limits[limit].of(LimitOutcome::Rejected).inc();
                return Err(refused);
            }
        }
    }
    kept.iter().for_each(|one| cx.worker.stats.limits[one.limit].of(one.outcome).inc());
    Ok(wait)
}

fn ask(cx: &Cx<'_>, limited: &mut Limited, limit: usize, key: Key) -> Result<(Kept, Duration), Refused> {
    let (settings, limiter) = (&cx.worker.config.limits[limit], &cx.worker.shared.limiters[limit]);
    let rejected = if settings.dry_run { LimitOutcome::RejectedDryRun } else { LimitOutcome::Rejected };
    let by_count = match limiter.enter(key) {
        Entry::Uncounted => None,
        Entry::Counted(ticket) => {
            limited.held.push(Held { worker: cx.worker.clone(), limit, ticket: Some(ticket) });
            Some(LimitOutcome::Passed)
        }
        Entry::Full => Some(rejected),
    };
    limited.by_count = limited.by_count.max(by_count);
    if by_count == Some(LimitOutcome::Rejected) {
        return Err(Refused { limit, retry: None });
    }
    // The time at which the request came: the clock is not read again.
    let now = cx.request.started.saturating_duration_since(cx.worker.shared.started);
    let (by_rate, has_turn, wait) = match limiter.turn(key, now) {
        _ if settings.allowed.rate.is_none() => (None, false, Duration::ZERO),
        Turn::Granted(wait) if wait.is_zero() || !settings.delays => (Some(LimitOutcome::Passed), true, Duration::ZERO),
        Turn::Granted(_) if settings.dry_run => (Some(LimitOutcome::DelayedDryRun), true, Duration::ZERO),
        Turn::Granted(wait) => (Some(LimitOutcome::Delayed), true, wait),
        Turn::Refused(_) if settings.dry_run => (Some(rejected), false, Duration::ZERO),
        Turn::Refused(retry) => {
            limited.by_rate = Some(rejected);
            return Err(Refused { limit, retry: Some(retry) });
        }
    };
    limited.by_rate = limited.by_rate.max(by_rate);
    let outcome = by_count.max(by_rate).unwrap_or(LimitOutcome::Passed);
    Ok((Kept { limit, key, has_turn, outcome }, wait))
}

/// When to come again: Retry-After (RFC 9110 section 10.2.3), RateLimit and RateLimit-Policy
/// (draft-ietf-httpapi-ratelimit-headers). Names of limits need no escape.
fn fields(limit: &Limit, refused: &Refused) -> Vec<u8> {
    let seconds = refused.retry.map_or(1, |retry| retry.as_millis().div_ceil(1000).max(1) as u64);
    let mut number = Vec::new();
    write_decimal(&mut number, seconds);
    let mut fields = Vec::new();
    write_field(&mut fields, "Retry-After", &number);
    let (policy, state) = match (refused.retry, limit.allowed.rate) {
        (Some(_), Some(Rate { count, period })) => {
            (format!("{:?};q={count};w={}", limit.name, period.as_secs()), format!("{:?};r=0;t={seconds}", limit.name))
        }
        _ => (
            format!("{:?};q={};qu=\"concurrent-requests\"", limit.name, limit.allowed.requests_max.unwrap_or_default()),
            format!("{:?};r=0", limit.name),
        ),
    };
    write_field(&mut fields, "RateLimit-Policy", policy.as_bytes());
    write_field(&mut fields, "RateLimit", state.as_bytes());
    fields
}
