//! What becomes of a statement whose connection breaks: run again where that is safe, else the client is told.

use super::acquire::Tries;
use super::client::{Client, End};
use super::diagnostics::{Counted, Witness};
use super::protocol::response::{ErrPacket, LOST};
use super::statement::{Reject, TRIES_MAX, Tried, Try, is_repeatable, may_change};
use super::wire::Wire;

impl Client {
    /// The connection broke before the statement was sent.
    pub(super) async fn on_lost_early(&mut self, wire: &Wire, at: Try<'_>, tries: &mut Tries) -> Result<Tried, End> {
        if !at.was_held && tries.count < TRIES_MAX {
            self.note_lost(at, tries);
            return Ok(Err(None));
        }
        let first = Some(self.reply_sequence_id());
        self.on_lost(wire, at, tries, false, first).await
    }

    /// A pooled connection that was closed says nothing about its server yet, when nobody looked at it before: the
    /// next try does.
    fn note_lost(&self, at: Try<'_>, tries: &mut Tries) {
        let server = at.spot.server;
        if tries.count > 1 || !is_repeatable(at.class) {
            self.splitter.suspect(server, true);
            tries.servers.insert(server);
        }
    }

    /// The connection broke after the statement was sent.
    pub(super) async fn on_lost(
        &mut self,
        wire: &Wire,
        at: Try<'_>,
        tries: &mut Tries,
        forwarded: bool,
        error_sequence_id: Option<u8>,
    ) -> Result<Tried, End> {
        self.note_lost(at, tries);
        if is_repeatable(at.class) && !at.was_held && !forwarded && tries.count < TRIES_MAX {
            tries.primary_only |= self.splitter.shared.lead().primary == Some(at.spot.server);
            return Ok(Err(None));
        }
        self.tell_lost(wire, at, may_change(at.class), forwarded, error_sequence_id).await
    }

    /// The client is told that it will not hear what has become of its statement, which may have changed something if it
    /// `changes`.
    pub(super) async fn tell_lost(
        &mut self,
        wire: &Wire,
        Try { spot, was_held, .. }: Try<'_>,
        changes: bool,
        forwarded: bool,
        error_sequence_id: Option<u8>,
    ) -> Result<Tried, End> {
        let address = self.splitter.shared.address(spot.server);
        let in_replica_transaction = was_held && !spot.is_primary;
        let message = match changes {
            _ if in_replica_transaction => {
                format!(
                    "Lost connection to the replica {address}: the READ ONLY transaction is rolled back, begin it again"
                )
            }
            true => format!(
                "Lost connection to {address} during the statement: its outcome is unknown, it was not repeated"
            ),
            false => format!("Lost connection to {address} during the statement"),
        };
        if in_replica_transaction {
            self.on_replica_lost();
        } else if changes {
            self.note_untold();
        }
        self.observe_refusal(LOST);
        let Some(sequence_id) = error_sequence_id else { return Err(End) };
        self.splitter.stats().errors.inc();
        if !forwarded {
            self.out.clear(); // else complete packets that belong in front of the error
        }
        ErrPacket { code: LOST, sql_state: b"08S01", message: message.as_bytes() }.encode(&mut self.out, sequence_id);
        self.flush(wire).await?;
        self.keep_own_error(Reject::new(LOST, message));
        (self.counted, self.last, self.found) = (Counted::LOST, Some(Witness::NOBODY), Some(Witness::NOBODY));
        // What a held connection knew of the session cannot be made up: the client must connect again, as it must where a single
        // server goes away. So it must in a transaction that nothing else ties: a client that went on as if it still were in one,
        // which this error does not tell it in every driver, would have the rest of it committed by itself.
        if was_held && !in_replica_transaction { Err(End) } else { Ok(Ok(())) }
    }
}
