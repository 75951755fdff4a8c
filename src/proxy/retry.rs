//! May a failed request be sent again, and where? One pure function; the table is in the tests.
//!
//! A proxy must not repeat a request by itself unless it knows that repeating does no harm: either nothing of it
//! reached a server, or its method is idempotent (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).

use std::time::Duration;

/// How a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// connect(2) or the TLS handshake failed or timed out: the server got no byte of the request.
    ConnectFailed,
    /// The server said that it did not work on the request: HTTP/2 REFUSED_STREAM, or a stream id above GOAWAY's last
    /// one (RFC 9113 section 8.7).
    Refused,
    /// A connection from the idle pool was closed or reset before any byte of the response. Most often the server
    /// closed it for its age while the request was on its way.
    ReusedClosed,
    /// A connection made for this request was closed or reset before the response head was complete; or a reused one
    /// was, in the middle of the head.
    FreshClosed,
    /// No complete response head in time.
    ResponseTimeout,
    /// A response whose status the operator wants tried elsewhere (502, 503, 504, 429 …).
    ErrorStatus,
}

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Try elsewhere after a server that could not be reached, or closed before it answered; on by default, the others are
    /// off. The race with an idle time-out is none of these: see [`Verdict::SameServerFreshConnection`].
    pub error: bool,
    /// Treat every method as idempotent.
    pub non_idempotent: bool,
    /// Try elsewhere after a response time-out. Off by default, as in HAProxy: a slow request is often slow
    /// everywhere, and each further try adds its load.
    pub response_timeout: bool,
    /// Try elsewhere after an [`Situation::ErrorStatus`].
    pub error_status: bool,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy { error: true, non_idempotent: false, response_timeout: false, error_status: false }
    }
}

/// A failed try and what is known about its request.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// How it failed.
    pub situation: Situation,
    /// [`crate::http::h1::Method::is_idempotent`] of the request.
    pub idempotent: bool,
    /// A byte of the request was handed to the kernel in this try.
    pub sent: bool,
    /// A byte of a response to this request has gone downstream.
    pub response_begun: bool,
    /// The request can be sent again from its first byte: it has no body, or all that was read of it is still here.
    pub body_kept: bool,
    /// A [`Verdict::SameServerFreshConnection`] was given for this request before.
    pub fresh_connection_granted: bool,
    /// Servers tried for this request, this one included; a try repeated by
    /// [`Verdict::SameServerFreshConnection`] counts once.
    pub tries: u32,
    /// Most of them.
    pub tries_max: u32,
    /// Time since the first try began.
    pub elapsed: Duration,
    /// No new try begins after this time.
    pub time_max: Duration,
}

/// What to do after a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Give up and tell the client: 502, 504, or a broken connection when the response had begun.
    No,
    /// Once more on the same server, on a new connection; the failure does not count against the server.
    SameServerFreshConnection,
    /// Add the server to [`super::Tried`] and let the balancer pick another one.
    OtherServer,
}

/// Whether the request of `failure` may be sent again.
pub fn may_retry(failure: &Failure, policy: RetryPolicy) -> Verdict {
    if failure.response_begun || !failure.body_kept || failure.elapsed >= failure.time_max {
        return Verdict::No;
    }
    let unsent = !failure.sent;
    let harmless = failure.idempotent || policy.non_idempotent;
    let repeatable = match failure.situation {
        Situation::ConnectFailed => policy.error,
        Situation::Refused => true,
        // The race with the server's idle time-out says nothing about the server, hence the extra try.
        Situation::ReusedClosed if (unsent || failure.idempotent) && !failure.fresh_connection_granted => {
            return Verdict::SameServerFreshConnection;
        }
        Situation::ReusedClosed => policy.error && (unsent || failure.idempotent),
        Situation::FreshClosed => policy.error && (unsent || harmless),
        Situation::ResponseTimeout => policy.response_timeout && harmless,
        Situation::ErrorStatus => policy.error_status && harmless,
    };
    if repeatable && failure.tries < failure.tries_max { Verdict::OtherServer } else { Verdict::No }
}

/// How long to wait before the next try after [`Situation::ConnectFailed`].
///
/// `same_server`: the balancer had no other one and picked a server this request has tried. Trying it again at once
/// would fail again; after a second a server that restarts may be back (HAProxy waits as long). Never longer than
/// `connect_timeout`, which says how patient the operator is.
pub fn delay_before_retry(same_server: bool, connect_timeout: Duration) -> Duration {
    if same_server { connect_timeout.min(Duration::from_secs(1)) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::Situation::*;
    use super::Verdict::*;
    use super::*;

    const OFF: RetryPolicy =
        RetryPolicy { error: true, non_idempotent: false, response_timeout: false, error_status: false };
    const NOTHING: RetryPolicy = RetryPolicy { error: false, ..OFF };
    const NON_IDEMPOTENT: RetryPolicy = RetryPolicy { non_idempotent: true, ..OFF };
    const TIMEOUT: RetryPolicy = RetryPolicy { response_timeout: true, ..OFF };
    const STATUS: RetryPolicy = RetryPolicy { error_status: true, ..OFF };
    const ALL: RetryPolicy =
        RetryPolicy { error: true, non_idempotent: true, response_timeout: true, error_status: true };
    const SITUATIONS: [Situation; 6] =
        [ConnectFailed, Refused, ReusedClosed, FreshClosed, ResponseTimeout, ErrorStatus];

    fn failure(situation: Situation, idempotent: bool) -> Failure {
        Failure {
            situation,
            idempotent,
            sent: situation != ConnectFailed,
            response_begun: false,
            body_kept: true,
            fresh_connection_granted: false,
            tries: 1,
            tries_max: 3,
            elapsed: Duration::from_secs(1),
            time_max: Duration::from_secs(60),
        }
    }

    /// One row: situation, policy, verdict for a non-idempotent method, verdict for an idempotent one.
    #[test]
    fn table() {
        let rows = [
            (ConnectFailed, OFF, OtherServer, OtherServer),
            (ConnectFailed, NOTHING, No, No),
            (Refused, OFF, OtherServer, OtherServer),
            (Refused, NOTHING, OtherServer, OtherServer),
            (ReusedClosed, NOTHING, No, SameServerFreshConnection),
            (FreshClosed, NOTHING, No, No),
            (ReusedClosed, OFF, No, SameServerFreshConnection),
            (ReusedClosed, NON_IDEMPOTENT, No, SameServerFreshConnection),
            (FreshClosed, OFF, No, OtherServer),
            (FreshClosed, NON_IDEMPOTENT, OtherServer, OtherServer),
            (ResponseTimeout, OFF, No, No),
            (ResponseTimeout, NON_IDEMPOTENT, No, No),
            (ResponseTimeout, TIMEOUT, No, OtherServer),
            (ErrorStatus, OFF, No, No),
            (ErrorStatus, STATUS, No, OtherServer),
            (ErrorStatus, ALL, OtherServer, OtherServer),
        ];
        for (situation, policy, post, get) in rows {
            assert_eq!(may_retry(&failure(situation, false), policy), post, "POST {situation:?} {policy:?}");
            assert_eq!(may_retry(&failure(situation, true), policy), get, "GET {situation:?} {policy:?}");
        }
    }

    #[test]
    fn never_after_a_response_byte_went_downstream_nor_with_a_lost_body_nor_too_late() {
        for situation in SITUATIONS {
            for idempotent in [false, true] {
                let base = failure(situation, idempotent);
                assert_eq!(may_retry(&Failure { response_begun: true, ..base }, ALL), No, "{situation:?}");
                assert_eq!(may_retry(&Failure { body_kept: false, ..base }, ALL), No, "{situation:?}");
                assert_eq!(may_retry(&Failure { elapsed: base.time_max, ..base }, ALL), No, "{situation:?}");
            }
        }
    }

    #[test]
    fn tries_are_capped_but_the_idle_race_does_not_count() {
        for situation in SITUATIONS {
            let last = Failure { tries: 3, ..failure(situation, true) };
            let expect = if situation == ReusedClosed { SameServerFreshConnection } else { No };
            assert_eq!(may_retry(&last, ALL), expect, "{situation:?}");
        }
    }

    #[test]
    fn the_extra_try_is_granted_once() {
        let again = Failure { fresh_connection_granted: true, ..failure(ReusedClosed, true) };
        assert_eq!(may_retry(&again, OFF), OtherServer);
        assert_eq!(may_retry(&Failure { tries: 3, ..again }, OFF), No);
    }

    #[test]
    fn a_request_of_which_nothing_was_sent_is_free_to_move() {
        let reused = Failure { sent: false, ..failure(ReusedClosed, false) };
        assert_eq!(may_retry(&reused, OFF), SameServerFreshConnection);
        let fresh = Failure { sent: false, ..failure(FreshClosed, false) };
        assert_eq!(may_retry(&fresh, OFF), OtherServer);
    }

    #[test]
    fn only_the_same_server_is_waited_for() {
        let (second, short) = (Duration::from_secs(1), Duration::from_millis(200));
        assert_eq!(delay_before_retry(false, 5 * second), Duration::ZERO);
        assert_eq!(delay_before_retry(true, 5 * second), second);
        assert_eq!(delay_before_retry(true, short), short);
    }
}
