//! Questions about the statement before: only the connection that ran it knows the answer.

use std::time::{Duration, Instant};

use super::backend::{BackendError, InsertId};
use super::client::Client;
use super::lease::{Lease, LeaseError};
use super::protocol::response::{LOST, UNREACHABLE};
use super::sql::{Class, Kind, diagnostics};
use super::statement::Reject;
use crate::runtime::time::sleep;

impl Client {
    /// The connection that alone knows the last insert id, ready for use; or the value, saved meanwhile by whoever
    /// took that connection over.
    pub(super) async fn own_for_insert_id(&mut self, id: u64) -> Result<Result<Lease, u64>, Reject> {
        let deadline = Instant::now() + self.splitter.config().connect_timeout;
        loop {
            if let InsertId::Known(value) = self.carry.insert_id.get() {
                return Ok(Err(value));
            }
            if let Some(mut lease) = Lease::own(&self.splitter, 0, self.carry.session, |b| b.id == id) {
                if self.prepare_keeping_insert_id(&mut lease).await.is_ok() {
                    return Ok(Ok(lease));
                }
                break;
            }
            if self.carry.insert_id.get() == InsertId::Lost || Instant::now() > deadline {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        self.carry.insert_id.set(InsertId::Known(0));
        Err(lost_insert_id())
    }

    async fn prepare_keeping_insert_id(&self, lease: &mut Lease) -> Result<(), BackendError> {
        if lease.is_ready_for(&self.session.state) {
            return Ok(());
        }
        lease.save_insert_id().await?;
        let InsertId::Known(value) = self.carry.insert_id.get() else { return Err(BackendError::Timeout) };
        self.prepare(lease, false, Some(value)).await
    }

    /// SHOW WARNINGS, FOUND_ROWS() and so on: only the connection that ran the last statement knows.
    pub(super) async fn acquire_for_diagnostics(&mut self, class: &Class) -> Result<Lease, Option<Reject>> {
        let asks_rows = class.diagnostics & diagnostics::ROWS != 0;
        let place = if asks_rows { self.last } else { self.warned };
        let own = place.and_then(|(server, tenure)| {
            Lease::own(&self.splitter, server, self.carry.session, |backend| backend.tenure == tenure)
        });
        if let Some(lease) = own {
            if lease.server == 0 || class.kind == Kind::Diagnostics && class.pin.is_none() {
                return Ok(lease);
            }
            lease.give_back();
            let message = "the last statement ran on a replica: ask about it in a statement of its own, which changes \
                           nothing and sets no variable";
            return Err(Some(Reject(1105, b"HY000", message.into())));
        }
        if asks_rows && self.last.is_some() || self.session.has_diagnostics {
            let message =
                "what the last statement left behind is gone: its connection was needed by another session or was lost";
            return Err(Some(Reject(1105, b"HY000", message.into())));
        }
        if let Some((code, state, message)) = self.splitter.primary_trouble(false) {
            return Err(Some(Reject(code, state, message)));
        }
        // There is nothing to tell: a connection after a reset says so in the server's own words.
        let insert_id = match self.carry.insert_id.get() {
            InsertId::Known(value) => Some(value),
            InsertId::At(_) | InsertId::Lost => None,
        };
        match self.borrow(0, true, insert_id, true).await {
            Ok(lease) => Ok(lease),
            Err(LeaseError::Full) => {
                Err(Some(Reject(1040, b"08004", "all connections to the primary are in use".into())))
            }
            Err(LeaseError::Server(error)) => {
                Err(Some(Reject(UNREACHABLE, b"HY000", format!("Can't connect to the primary: {error}"))))
            }
        }
    }
}

pub(super) fn lost_insert_id() -> Reject {
    Reject(LOST, b"HY000", "the connection that knew LAST_INSERT_ID() was lost".into())
}
