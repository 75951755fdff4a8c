//! Statements whose time is up: they are ended on their server by KILL QUERY, sent on a connection of its own.
//!
//! The answer is waited for all the same, so that the connection stays of use, and it is not lent to anyone before the
//! server has taken the KILL. One that comes too late finds an idle thread and does nothing. So does one that overtakes the
//! statement on a busy server, which forgets it as it begins: the KILL is sent again until the answer ends. Where the server may
//! have one that it has not confirmed, nobody gets that connection afterwards: it may still arrive. Source: MariaDB knowledge base,
//! "KILL"; MySQL manual, "KILL Statement".

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::backend::{Backend, BackendError, Key};
use super::client::Client;
use super::kill::{Side, ThreadLife};
use super::lease::Lease;
use super::presence::{Fate, Thread};
use super::protocol::follow::Outcome;
use super::protocol::packet::HEADER_BYTES;
use super::protocol::response::ErrPacket;
use super::relay::Abandoned;
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
}

impl Deadline {
    /// A statement that begins now and may take `limit`.
    pub(super) fn after(limit: Duration) -> Deadline {
        Deadline { at: Instant::now() + limit, pause: AGAIN }
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
    /// Once `deadline` has passed the statement is interrupted, and again for as long as it goes on.
    pub(super) async fn fill_in_time(
        &self,
        wire: &Wire,
        lease: &mut Lease,
        movable: bool,
        deadline: &mut Option<Deadline>,
        out: &mut Vec<u8>,
    ) -> Result<io::Result<()>, Abandoned> {
        let (server, key, thread, fate) = (lease.server, lease.key, lease.thread(), lease.fate.clone());
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
            let watched = self.watched(wire, server, movable, fill.as_mut());
            if let Ok(filled) = Box::pin(timeout(deadline.left(), watched)).await {
                return filled;
            }
            // The client may leave meanwhile, and the connection break. That more of the answer comes ends nothing: it may be long.
            let (mut told, mut filled) = (None, None);
            {
                let mut interrupting = Box::pin(self.interrupt(key, thread, &fate));
                let mut watched = Box::pin(self.watched(wire, server, movable, fill.as_mut()));
                poll_fn(|cx| {
                    if filled.is_none()
                        && let Poll::Ready(end) = watched.as_mut().poll(cx)
                    {
                        filled = Some(end);
                    }
                    // What is there instead of a server that is lost may have another thread of that number.
                    let is_lost = matches!(filled, Some(Ok(Err(_)))) && !fate.is_pending();
                    if is_lost || matches!(filled, Some(Err(_))) {
                        return Poll::Ready(());
                    }
                    interrupting.as_mut().poll(cx).map(|end| told = Some(end))
                })
                .await;
            }
            match told {
                None => {}
                Some(Ok(())) if self.watch.was_interrupted.replace(true) => {}
                Some(Ok(())) => self.splitter.stats().time_limits.inc(),
                Some(Err(error)) => {
                    let server = self.splitter.shared.address(server);
                    tracing::warn!(%server, thread_id = thread.id, %error, "a statement whose time is up cannot be ended yet: KILL QUERY failed");
                }
            }
            deadline.put_off();
            if let Some(filled) = filled {
                return filled;
            }
        }
    }

    /// Sends KILL QUERY. Errors: it was not sent, or nobody knows whether it will arrive; the connection is doomed then.
    async fn interrupt(&self, key: Key, thread: Thread, fate: &Fate) -> Result<(), BackendError> {
        let Some(_side) = Side::take(&self.splitter.side_connections) else {
            return Err(io::Error::other("too many others are being killed at the moment").into());
        };
        let config = self.splitter.config();
        let target = self.splitter.target(&config, thread.server, key.account);
        let limit = target.timeout;
        let key = Key { capabilities: 0, ..key };
        let killed = async {
            let (mut side, _) = Backend::open(target, self.splitter.next_id(), thread.server, key, None).await?;
            if self.splitter.life_of(&side, thread) != ThreadLife::GoesOn {
                return Err(BackendError::Io(io::ErrorKind::ConnectionReset.into()));
            }
            let killing = fate.begin_kill();
            let answer = side.row(format!("KILL QUERY {}", thread.id).as_bytes()).await;
            if matches!(answer, Ok(_) | Err(BackendError::Refused(..))) {
                killing.arrived();
            }
            answer.map(drop)
        };
        timeout(limit, killed).await.unwrap_or(Err(BackendError::Timeout("telling the server to KILL")))
    }

    /// An answer that ends because the time was up says so. It is the last packet in the client's buffer.
    pub(super) fn name_time_limit(&mut self, outcome: &mut Outcome) {
        let verdict = &self.watch.verdict;
        let (Some(number), Some(limit)) = (verdict.rule, verdict.time_limit) else { return };
        let packet_bytes = HEADER_BYTES + ERROR_HEAD_BYTES + outcome.message.len();
        let is_ours = self.watch.was_interrupted.get() && outcome.error == Some(INTERRUPTED);
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
