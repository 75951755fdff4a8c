//! Statements whose time is up: they are ended on their server by KILL QUERY, sent on a connection of its own.
//!
//! The answer is waited for all the same, so that the connection stays of use, and it is not lent to anyone before the
//! server has taken the KILL. One that comes too late finds an idle thread and does nothing. So does one that overtakes the
//! statement on a busy server, which forgets it as it begins: the KILL is sent again until the answer ends. Where the server may
//! have one that it has not confirmed, nobody gets that connection afterwards: it may still arrive. Source: MariaDB knowledge base,
//! "KILL"; MySQL manual, "KILL Statement".

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::backend::{Backend, BackendError, Key};
use super::client::Client;
use super::kill::{Side, ThreadLife};
use super::lease::Lease;
use super::presence::{Presence, Running};
use super::protocol::follow::Outcome;
use super::protocol::packet::HEADER_BYTES;
use super::protocol::response::ErrPacket;
use super::relay::Abandoned;
use super::serve::Splitter;
use super::wire::Wire;
use crate::runtime::time::timeout;

/// ER_QUERY_INTERRUPTED: what KILL QUERY makes of a statement.
const INTERRUPTED: u16 = 1317;
/// ER_STATEMENT_TIMEOUT of MariaDB.
const STATEMENT_TIMEOUT: u16 = 1969;
/// A statement that goes on is interrupted again after so long, then after twice as long, and so on.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest of these pauses.
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// Code, `#` and SQLSTATE in front of an error's message, behind the packet's header.
const ERROR_HEAD_BYTES: usize = 9;

/// When a statement's time is up, and when it is interrupted next.
pub(super) struct Deadline {
    at: Instant,
    pause: Duration,
    strike: Rc<Strike>,
}

/// What became of a statement whose time was up.
#[derive(Default)]
struct Strike {
    /// The server may have been told to end it.
    is_sent: Cell<bool>,
    /// It is being told, or cannot be reached yet.
    is_under_way: Cell<bool>,
}

/// Another attempt may follow.
struct UnderWay(Rc<Strike>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.is_under_way.set(false);
    }
}

impl Deadline {
    /// A statement that begins now and may take `limit`.
    pub(super) fn after(limit: Duration) -> Deadline {
        Deadline { at: Instant::now() + limit, pause: AGAIN, strike: Rc::default() }
    }

    fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    fn put_off(&mut self) {
        self.at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(AGAIN_MAX);
    }
}

impl Client {
    /// Waits for more of an answer, as [`Client::watched`], to what is in `out`, which is sent before; empty: it was sent already.
    /// Once `deadline` has passed the statement is interrupted beside it, and again for as long as it goes on.
    pub(super) async fn fill_in_time(
        &self,
        wire: &Wire,
        lease: &mut Lease,
        movable: bool,
        deadline: &mut Option<Deadline>,
        out: &mut Vec<u8>,
    ) -> Result<io::Result<()>, Abandoned> {
        let (server, key) = (lease.server, lease.key);
        let mut fill = pin!(async move {
            if out.is_empty() {
                return lease.fill().await;
            }
            let (buffer, filled) = lease.send_and_fill(std::mem::take(out)).await;
            *out = buffer;
            out.clear();
            filled
        });
        let Some(deadline) = deadline else { return self.watched(wire, server, movable, fill).await };
        loop {
            // Where more is there whenever it is asked for, no timer is ever looked at.
            let left = deadline.left();
            if left.is_zero() {
                self.interrupt_aside(key, &deadline.strike);
                deadline.put_off();
                continue;
            }
            let watched = self.watched(wire, server, movable, fill.as_mut());
            if let Ok(filled) = Box::pin(timeout(left, watched)).await {
                return filled;
            }
        }
    }

    /// Has the statement that runs now ended on its server; whoever waits for its answer need not wait for that.
    fn interrupt_aside(&self, key: Key, strike: &Rc<Strike>) {
        let Some(running) = self.presence.running() else { return };
        if strike.is_under_way.replace(true) {
            return;
        }
        let (splitter, presence, strike) =
            (Rc::clone(&self.splitter), Rc::clone(&self.presence), UnderWay(Rc::clone(strike)));
        crate::runtime::spawn(async move {
            let (thread, told) = (running.thread, splitter.interrupt(key, &presence, &running, &strike.0).await);
            if let Err(error) = told {
                let server = splitter.shared.address(thread.server);
                tracing::warn!(%server, thread_id = thread.id, %error, "a statement whose time is up cannot be ended yet: KILL QUERY failed");
            }
        });
    }

    /// An answer that ends because the time was up says so. It is the last packet in the client's buffer.
    pub(super) fn name_time_limit(&mut self, deadline: Option<&Deadline>, outcome: &mut Outcome) {
        let verdict = &self.watch.verdict;
        let (Some(number), Some(limit), Some(deadline)) = (verdict.rule, verdict.time_limit, deadline) else { return };
        let packet_bytes = HEADER_BYTES + ERROR_HEAD_BYTES + outcome.message.len();
        let is_ours = deadline.strike.is_sent.get() && outcome.error == Some(INTERRUPTED);
        let Some(start) = self.out.len().checked_sub(packet_bytes).filter(|_| is_ours) else { return };
        let sequence_id = self.out[start + HEADER_BYTES - 1];
        let rule = &self.settings().rules.get(number).name;
        let message = format!("Query execution was interrupted: the time limit of {limit:?} of `{rule}` is exceeded");
        self.out.truncate(start);
        ErrPacket { code: STATEMENT_TIMEOUT, sql_state: b"70100", message: message.as_bytes() }
            .encode(&mut self.out, sequence_id);
        (outcome.error, outcome.message) = (Some(STATEMENT_TIMEOUT), message.into_bytes());
    }
}

impl Splitter {
    /// Sends KILL QUERY while the statement still runs there. Errors: it was not sent, or nobody knows whether it will arrive; the
    /// connection is doomed then.
    async fn interrupt(
        &self,
        key: Key,
        presence: &Presence,
        running: &Running,
        strike: &Strike,
    ) -> Result<(), BackendError> {
        let Some(_side) = Side::take_for_time_limit(&self.side_connections) else {
            return Err(io::Error::other("too many others are being killed at the moment").into());
        };
        let (config, thread) = (self.config(), running.thread);
        let target = self.target(&config, thread.server, key.account);
        let limit = target.timeout;
        let key = Key { capabilities: 0, ..key };
        let killed = async {
            let (mut side, _) = Backend::open(target, self.next_id(), thread.server, key, None).await?;
            if !presence.still_runs(running) {
                return Ok(());
            }
            if self.life_of(&side, thread) != ThreadLife::GoesOn {
                return Err(BackendError::Io(io::ErrorKind::ConnectionReset.into()));
            }
            let killing = running.fate.begin_kill();
            // The statement's answer may come before that to the KILL.
            if !strike.is_sent.replace(true) {
                self.stats().time_limits.inc();
            }
            let answer = side.row(format!("KILL QUERY {}", thread.id).as_bytes()).await;
            if matches!(answer, Ok(_) | Err(BackendError::Refused(..))) {
                killing.arrived();
            }
            answer.map(drop)
        };
        timeout(limit, killed).await.unwrap_or(Err(BackendError::Timeout("telling the server to KILL")))
    }
}
