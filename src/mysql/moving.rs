//! What becomes of a session that holds a connection to a server which is no longer the primary.
//!
//! A transaction may end there while the server still takes writes and no other one leads. Otherwise the connection is
//! closed, which rolls back what was not committed. A session that had executed nothing yet, or was only between two
//! transactions of `autocommit=0`, goes on at the new primary; one whose transaction is lost is told so, as after a
//! deadlock; one that had more there than a transaction must connect again.

use super::acquire::Tries;
use super::backend::BackendError;
use super::client::Client;
use super::lease::Lease;
use super::protocol::response::{LOST, UNREACHABLE};
use super::shared::Health;
use super::sql::{Class, Kind};
use super::statement::Reject;
use super::topology::Lead;
use crate::runtime::time::timeout;

/// "Deadlock found … try restarting transaction": what clients know to mean that all of the transaction was rolled back.
const ROLLED_BACK: u16 = 1213;

impl Client {
    /// The connection that the session holds, if it may still be used; `None`: the session goes on elsewhere.
    ///
    /// Errors: for the client.
    pub(super) fn keep_held(
        &mut self,
        lease: Lease,
        class: &Class,
        tries: &mut Tries,
    ) -> Result<Option<Lease>, Reject> {
        let (shared, server) = (&self.splitter.shared, lease.server);
        let is_current = |epoch| shared.lead() == Lead { epoch, primary: Some(server) };
        if lease.epoch.is_none_or(is_current) {
            return Ok(Some(lease));
        }
        let is_writable = shared.server(server).health() == Health::Writable;
        if self.session.in_transaction() && is_writable && shared.lead().primary.is_none() {
            return Ok(Some(lease));
        }
        if self.session.pin.is_some() {
            (self.is_gone, self.has_lost_held) = (true, true);
            return Err(self.gone(tries));
        }
        if shared.server(server).health() != Health::Down {
            lease.retire();
        }
        let is_lost = self.session.in_transaction() && !self.session.is_untouched();
        let address = self.splitter.shared.address(server);
        let text = format!("{address} is no longer the primary: the transaction was rolled back, run it again");
        if is_lost {
            self.session.on_transaction_lost();
        }
        self.prelude = self.session.in_transaction().then(|| self.session.prelude());
        if is_lost && class.kind != Kind::Rollback {
            return Err(Reject::new(ROLLED_BACK, text));
        }
        Ok(None)
    }

    /// What a client is told whose session cannot go on.
    pub(super) fn gone(&self, tries: &mut Tries) -> Reject {
        tries.ends = true;
        let text = "the server is no longer the primary, and what the session had there (a temporary table, a lock, a user \
                    variable) is gone with its connection: connect again";
        Reject::new(LOST, text)
    }

    /// A connection to the primary for a session that has lost the one it held, in the state that one was in.
    pub(super) async fn acquire_again(&mut self, class: &Class, tries: &mut Tries) -> Result<Lease, Option<Reject>> {
        let mut lease = self.acquire_primary(class, tries).await?;
        let limit = self.splitter.config().connect_timeout;
        for sql in self.prelude.iter().flatten() {
            match timeout(limit, lease.row(sql)).await {
                Ok(Ok(_)) => {}
                Ok(Err(BackendError::Refused(code, message))) => return Err(Some(Reject::new(code, message))),
                _ if tries.is_last() => {
                    let text = "the primary does not let the session go on: the statement was not executed";
                    return Err(Some(Reject::new(UNREACHABLE, text)));
                }
                _ => return Err(None),
            }
        }
        self.prelude = None;
        self.recall_on_held(lease, class, tries).await.map_err(Some)
    }

    /// Forgets what the session's reads must see where the operator has let some of it go.
    pub(super) fn void_token(&mut self) {
        let voided = self.splitter.shared.voided();
        let before = voided.before();
        if self.token_epoch >= before {
            return;
        }
        self.token_epoch = before;
        if !self.session.token.is_empty() {
            self.session.token.void(voided.floor());
        }
    }
}
