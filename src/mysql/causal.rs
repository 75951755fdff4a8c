//! Reads that must see what was written before: what a replica must have, and the wait for it in front of the read.
//!
//! | `causal_reads` | a read sees |
//! |---|---|
//! | off | whatever the replica has |
//! | session | what its session has written |
//! | node | what was written through this process |
//! | strict | what was committed when it came |
//!
//! But for `off`, what a session was shown it sees again, too: it stays at one replica, and where it moves on, the next
//! server must first have all that was committed by then ([`super::frontier`]).
//!
//! The wait is a query of its own in front of the read, both in one write: the result of a read whose wait has failed is thrown
//! away, and the primary is asked instead. The server ends the wait in time; where it does not, we do. The current primary is
//! never waited on: it has everything, and MariaDB's would wait in vain for what it wrote itself.

use std::time::{Duration, Instant};

use super::client::Client;
use super::gtid::Position;
use super::lease::Lease;
use super::protocol::follow::{Expect, Follower, Outcome};
use super::protocol::tracker::changes_session;
use super::sql::{Class, Flavour};
use super::statement::Work;
use super::token::News;
use crate::config::model::CausalReads;
use crate::proxy::balance::Tried;
use crate::runtime::time::timeout;

/// After this time a session may move to another replica, if that has less to do: so one that comes back gets its part.
const STICKY_TIME: Duration = Duration::from_secs(30);
/// A server ends a wait by itself; it may be so late.
const WAIT_GRACE: Duration = Duration::from_millis(100);
/// The answer to a read that is not wanted any more is thrown away for so long before its connection is.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Shortest and longest wait, milliseconds: servers take 0 for "at once" or "for ever".
const WAIT_MS: std::ops::RangeInclusive<u128> = 1..=3_600_000;

/// Where a session reads.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The replica it stays at, and since when.
    sticky: Option<(usize, Instant)>,
    /// The server whose data it was shown last; `None`: it has seen none but what its token covers.
    seen: Option<usize>,
    /// Galera: the server that had caught up with the cluster after so many writes of the session.
    synced: Option<(usize, u64)>,
    /// [`super::node::Written::doubts`] when the statement under way was sent.
    doubts: u32,
}

impl Reading {
    /// The replica it stays at, if any.
    pub(super) fn replica(&self) -> Option<usize> {
        self.sticky.map(|(server, _)| server)
    }

    /// The replica is gone.
    pub(super) fn forget(&mut self) {
        self.sticky = None;
    }

    /// Reads go there from `now` on.
    pub(super) fn stay_at(&mut self, server: usize, now: Instant) {
        let stays = self.sticky.is_some_and(|(at, since)| at == server && is_recent(since, now));
        if !stays {
            self.sticky = Some((server, now));
        }
    }
}

/// What a read must see.
pub(super) enum MustSee {
    /// Whatever is there.
    Anything,
    /// At least this.
    Position(Position),
    /// All that was committed in the cluster before (Galera).
    Cluster,
}

/// Replicas cannot answer this read: the primary must.
pub(super) struct PrimaryOnly;

/// What a replica has to wait for.
#[derive(Debug)]
pub(super) enum Wait {
    /// It has applied this.
    Position(Position),
    /// It has caught up with the cluster (Galera).
    Cluster,
}

/// Why a wait led nowhere.
pub(super) enum NotThere {
    /// The replica did not get there in time: ask the primary.
    Late,
    /// It is gone.
    Lost,
}

impl Wait {
    /// The question that is answered with one row of "0" once the server is there. Servers' time-outs are in seconds; before
    /// MySQL 8 they may be taken for whole ones, so they are rounded up where that is not `exact`.
    fn sql(&self, limit: Duration, exact: bool) -> String {
        let ms = limit.as_millis().clamp(*WAIT_MS.start(), *WAIT_MS.end());
        match self {
            Wait::Position(position) if position.set().is_empty() => {
                format!("SELECT MASTER_GTID_WAIT('{position}', {}.{:03})", ms / 1000, ms % 1000)
            }
            Wait::Position(position) if exact => {
                format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', {}.{:03})", ms / 1000, ms % 1000)
            }
            Wait::Position(position) => {
                format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', {})", ms.div_ceil(1000))
            }
            Wait::Cluster => "SET STATEMENT wsrep_sync_wait=1 FOR SELECT 0".into(),
        }
    }
}

fn is_recent(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < STICKY_TIME
}

fn is_there(outcome: &Outcome) -> bool {
    outcome.error.is_none() && outcome.first_row.as_deref() == Some(b"\x010")
}

/// Throws away what a server still answers, then gives its connection back. `is_changed`: what it answers has left something
/// there. That is cleaned up at once: a transaction that lies open in the pool keeps the replica from changing the tables it has
/// read.
fn throw_away(mut lease: Lease, answer: Follower, is_changed: bool) {
    crate::runtime::spawn(async move {
        // Warnings of what nobody has seen are for nobody.
        lease.protected = true;
        match timeout(DRAIN_TIME, lease.follow(answer)).await {
            Ok(Ok(outcome)) if is_changed || changes_session(&outcome.changes) => lease.clean_and_give_back(),
            Ok(Ok(_)) => lease.give_back(),
            Ok(Err(_)) | Err(_) => {}
        }
    });
}

impl Client {
    fn is_causal(&self) -> bool {
        self.settings().causal_reads != CausalReads::Off
    }

    /// What a read that comes now must see on any replica.
    pub(super) async fn must_see(&self) -> Result<MustSee, PrimaryOnly> {
        let splitter = &self.splitter;
        if !self.is_causal() {
            return Ok(MustSee::Anything);
        }
        if splitter.shared.is_galera() {
            return Ok(MustSee::Cluster);
        }
        if splitter.shared.tells_gtids() == Some(false) {
            return Err(PrimaryOnly);
        }
        let own = self.session.token.position().ok_or(PrimaryOnly)?;
        let position = match self.settings().causal_reads {
            CausalReads::Node => splitter.shared.published.position(),
            CausalReads::Strict => Box::pin(splitter.frontier()).await,
            CausalReads::Off | CausalReads::Session => Some(own.clone()),
        };
        position.map(MustSee::Position).ok_or(PrimaryOnly)
    }

    /// Whether any replica could take a read.
    pub(super) fn has_replica(&self, tried: &Tried) -> bool {
        self.settings().present().any(|(server, _)| self.splitter.is_usable(server, tried))
    }

    /// The replica for a read; `tried` ones are left out. `None`: the primary has to do it.
    pub(super) fn choose_replica(&self, must_see: &MustSee, tried: &Tried) -> Option<usize> {
        let now = self.watch.started;
        let sticky = self.reading.sticky.filter(|(_, since)| self.is_causal() && is_recent(*since, now));
        self.splitter.pick_replica(sticky.map(|(server, _)| server), must_see, tried, now)
    }

    /// What `server` has to wait for in front of a read; `None`: nothing.
    pub(super) async fn wait_for(&self, server: usize, must_see: &MustSee) -> Result<Option<Wait>, PrimaryOnly> {
        let (level, moves_from) = (self.settings().causal_reads, self.reading.seen.filter(|seen| *seen != server));
        let position = match must_see {
            MustSee::Anything => return Ok(None),
            MustSee::Cluster => {
                let writes = self.session.token.writes();
                let has_caught_up = writes == 0 || self.reading.synced == Some((server, writes));
                let needs = level != CausalReads::Session || moves_from.is_some() || !has_caught_up;
                return Ok(needs.then_some(Wait::Cluster));
            }
            MustSee::Position(position) => position,
        };
        // What `strict` must see is as new as anything.
        let moves_from = moves_from.filter(|_| level != CausalReads::Strict);
        if moves_from.is_none() && self.splitter.has_reached(server, position) {
            return Ok(None);
        }
        let mut position = position.clone();
        if let Some(before) = moves_from {
            let shown = Box::pin(self.newest(before)).await.ok_or(PrimaryOnly)?;
            if !position.unite(&shown) {
                return Err(PrimaryOnly);
            }
        }
        if self.splitter.has_reached(server, &position) {
            return Ok(None);
        }
        // No server has both kinds.
        let is_mixed = position.iter().len() > 0 && !position.set().is_empty();
        if is_mixed { Err(PrimaryOnly) } else { Ok(Some(Wait::Position(position))) }
    }

    /// All that a server can have shown. While there is no primary to ask, nothing is written, and what that server was seen to
    /// have comes as near to it as can be.
    async fn newest(&self, server: usize) -> Option<Position> {
        let shared = &self.splitter.shared;
        match self.splitter.frontier().await {
            None if self.splitter.primary_at_work().is_none() => Some(shared.server(server).position()),
            newest => newest,
        }
    }

    /// How long a read may wait on a replica: not longer than it may run.
    fn wait_limit(&self) -> Duration {
        let longest = self.splitter.config().causal_timeout;
        self.watch.verdict.time_limit.map_or(longest, |limit| limit.min(longest))
    }

    /// Puts the wait in front of what is sent to the server.
    pub(super) fn put_wait(&mut self, lease: &Lease, wait: &Wait) {
        self.splitter.stats().causal_waits.inc();
        let exact = self.splitter.shared.mode().flavour != Flavour::Unknown;
        let sql = wait.sql(self.wait_limit(), exact);
        lease.put_query(&mut self.to_server, sql.as_bytes());
    }

    /// The answer to the wait in front of a read. Late or lost, the connection is taken care of, too.
    pub(super) async fn await_position(
        &mut self,
        mut lease: Lease,
        wait: Wait,
        class: &Class,
        work: &Work,
    ) -> Result<Lease, NotThere> {
        let (server, writes) = (lease.server, self.session.token.writes());
        let follower = Follower::new(Expect::Results, true, 0).keeping_first_row();
        let mut waiting = Box::pin(async move {
            let outcome = lease.follow(follower).await;
            (lease, outcome)
        });
        let limit = self.wait_limit() + WAIT_GRACE;
        let is_changed = class.begins.is_some() || matches!(work, Work::Prepare { .. });
        match timeout(limit, waiting.as_mut()).await {
            Ok((lease, Ok(outcome))) if is_there(&outcome) => {
                match wait {
                    Wait::Position(position) => self.splitter.on_reached(server, &position),
                    Wait::Cluster => self.reading.synced = Some((server, writes)),
                }
                return Ok(lease);
            }
            // One that was promoted meanwhile has everything.
            Ok((lease, Ok(_))) if self.splitter.shared.lead().primary == Some(server) => return Ok(lease),
            Ok((lease, Ok(_))) => throw_away(lease, self.follower(work), is_changed),
            Ok((_, Err(_))) => return Err(NotThere::Lost),
            Err(_) => {
                let answer = self.follower(work);
                crate::runtime::spawn(async move {
                    if let Ok((lease, Ok(_))) = timeout(DRAIN_TIME, waiting).await {
                        throw_away(lease, answer, is_changed);
                    }
                });
            }
        }
        self.splitter.stats().causal_timeouts.inc();
        self.reading.sticky = None;
        Err(NotThere::Late)
    }

    /// A read goes to the primary that a replica would answer if it had to see less.
    pub(super) fn count_fallback(&self) {
        self.splitter.stats().causal_fallbacks.inc();
    }

    /// A statement is about to be sent.
    pub(super) fn note_sent(&mut self) {
        self.reading.doubts = self.splitter.written.doubts();
    }

    /// A statement has told what it wrote, which is in the session's token already. `epoch`: that of its lease; `None`: it ran
    /// on a replica, or nobody knows.
    pub(super) fn note_news(&mut self, news: &News, epoch: Option<u64>) {
        if let (News::Gtids(gtids), Some(epoch)) = (news, epoch) {
            self.splitter.on_committed(epoch, gtids);
            // What an older lease tells late may be void.
            self.token_epoch = self.token_epoch.min(epoch);
        }
        let epoch = epoch.unwrap_or_else(|| self.splitter.shared.lead().epoch);
        if self.splitter.config().causal_reads == CausalReads::Node {
            self.splitter.written.learn(&self.splitter.shared.published, news, self.reading.doubts, epoch);
        }
        // A transaction of MariaDB is numbered behind all those of its domain that it can have seen.
        if let News::Gtids(position) = news
            && position.set().is_empty()
            && self.session.token.position().is_some_and(|token| token.iter().len() == 1)
        {
            self.reading.seen = None;
        }
    }

    /// A statement may have written, and nobody knows what.
    pub(super) fn note_untold(&mut self) {
        self.session.token.learn(&News::Untold);
        self.note_news(&News::Untold, None);
    }

    /// Rows of tables were shown.
    pub(super) fn note_shown(&mut self, server: usize, class: &Class, outcome: &Outcome) {
        if class.tables && outcome.had_rows {
            self.reading.seen = Some(server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_is_rounded_to_nothing_or_for_ever() {
        let written =
            |wait: &str, limit, exact| Wait::Position(Position::parse(wait.as_bytes()).unwrap()).sql(limit, exact);
        let sql = |wait: &str, limit| written(wait, limit, false);
        assert_eq!(sql("0-1-5,1-1-7", Duration::from_millis(1500)), "SELECT MASTER_GTID_WAIT('0-1-5,1-1-7', 1.500)");
        for limit in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(1)] {
            assert_eq!(sql("0-1-5", limit), "SELECT MASTER_GTID_WAIT('0-1-5', 0.001)");
            let set = "3e11fa47-71ca-11e1-9e33-c80aa9429562:5";
            assert_eq!(sql(set, limit), format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', 1)"));
            assert_eq!(written(set, limit, true), format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', 0.001)"));
        }
        assert!(sql("0-1-5", Duration::MAX).ends_with(" 3600.000)"));
    }
}
