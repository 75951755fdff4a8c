//! Finds the server and the connection for one statement, and brings that connection into the session's state.

use std::rc::Rc;

use super::backend::{BackendError, InsertId};
use super::causal::{MustSee, Wait};
use super::client::Client;
use super::diagnostics::lost_insert_id;
use super::lease::{Lease, LeaseError};
use super::pool::Since;
use super::protocol::response::UNREACHABLE;
use super::session::Route;
use super::sql::{Class, Forgets, Kind, Pin, diagnostics};
use super::statement::{Reject, TRIES_MAX, is_repeatable};
use crate::proxy::balance::Tried;
use crate::runtime::time::timeout;

/// ER_SERVER_SHUTDOWN: as good as a server that cannot be reached.
const SHUTDOWN: u16 = 1053;

/// What has been tried for a statement.
#[derive(Default)]
pub(super) struct Tries {
    pub(super) count: u32,
    /// These failed.
    pub(super) servers: Tried,
    pub(super) primary_only: bool,
    /// The primary refused it without executing it; that is found out about once.
    pub(super) refused: bool,
    /// The primary cannot take it now, but it may wait.
    pub(super) waits: Option<Awaited>,
    /// After an error the session cannot go on.
    pub(super) ends: bool,
    /// A server has refused it, and knows of that.
    pub(super) is_servers_word: bool,
}

/// What a statement may wait for.
pub(super) enum Awaited {
    /// A primary; `changes_something`: one that takes writes.
    Primary { changes_something: bool },
    /// What the monitor thinks of a server that cannot be reached.
    Look(usize),
}

impl Tries {
    /// As if there had been one before: connections are looked at before they are trusted.
    pub(super) fn of_second() -> Tries {
        Tries { count: 2, ..Tries::default() }
    }

    /// Whether no connection is tried after this one.
    pub(super) fn is_last(&self) -> bool {
        self.count >= TRIES_MAX
    }
}

impl Client {
    /// Finds a connection for a statement and brings it into the session's state; with what a replica must wait for first.
    /// `Err(None)`: try again.
    pub(super) async fn acquire(
        &mut self,
        class: &Class,
        tries: &mut Tries,
    ) -> Result<(Lease, Option<Wait>), Option<Reject>> {
        if self.is_gone {
            return Err(Some(self.gone(tries)));
        }
        if let Some(lease) = self.held.take()
            && let Some(lease) = self.keep_held(lease, class, tries)?
        {
            let lease = Box::pin(self.recall_on_held(lease, class, tries)).await.map_err(Some)?;
            return self.use_held(lease, class, tries).map(|lease| (lease, None)).map_err(Some);
        }
        if self.prelude.is_some() {
            return Box::pin(self.acquire_again(class, tries)).await.map(|lease| (lease, None));
        }
        self.void_token();
        if let Some(reject) = self.insert_id_is_lost_to(class, tries) {
            return Err(Some(reject));
        }
        if class.diagnostics & diagnostics::LEFT_BEHIND != 0 {
            return Box::pin(self.acquire_for_diagnostics(class, tries)).await.map(|lease| (lease, None));
        }
        let route = if tries.primary_only { Route::Primary } else { self.session.route(class) };
        if route == Route::Replica
            && let Some(found) = self.acquire_replica(class, tries).await
        {
            return Ok(found);
        }
        self.acquire_primary(class, tries).await.map(|lease| (lease, None))
    }

    fn use_held(&mut self, lease: Lease, class: &Class, tries: &mut Tries) -> Result<Lease, Reject> {
        let changes = matches!(class.kind, Kind::Write | Kind::Definition);
        if changes
            && lease.epoch == Some(self.splitter.shared.lead().epoch)
            && let Some((code @ 1290, state, message)) = self.splitter.primary_trouble(true)
        {
            self.held = Some(lease);
            return Err(Reject(code, state, message.into()));
        }
        if let Some(reject) = self.insert_id_is_lost_to(class, tries) {
            self.held = Some(lease);
            return Err(reject);
        }
        Ok(lease)
    }

    /// LAST_INSERT_ID() is never answered with another number than the session's. What may ask in a way that is not seen, a
    /// procedure for example, ends the session, which would be told of it each time; and so does what writes.
    fn insert_id_is_lost_to(&self, class: &Class, tries: &mut Tries) -> Option<Reject> {
        // A list of all variables is better without it than none.
        let is_list = class.kind == Kind::Local && class.pin.is_none();
        if self.carry.insert_id.get() != InsertId::Lost || is_list {
            return None;
        }
        let may_ask = matches!(
            class.pin,
            Some(
                Pin::Call | Pin::MultiStatement | Pin::UnknownFunction | Pin::TextPrepare | Pin::Unknown | Pin::Hidden
            )
        );
        let asks = class.diagnostics & diagnostics::INSERT_ID != 0;
        // One that writes may never get as far as to have another one.
        tries.ends |= may_ask || asks && (class.kind == Kind::Write || class.batch.is_some_and(|batch| batch.changes));
        (may_ask || asks).then(lost_insert_id)
    }

    /// `None`: the primary has to do it.
    async fn acquire_replica(&mut self, class: &Class, tries: &mut Tries) -> Option<(Lease, Option<Wait>)> {
        // Nothing is asked of the primary for a read that no replica could take.
        if !self.has_replica(&tries.servers) {
            return None;
        }
        let Ok(must_see) = self.must_see().await else {
            self.count_fallback();
            return None;
        };
        let insert_id = if class.begins.is_some() { Some(Box::pin(self.settled_insert_id()).await) } else { None };
        while tries.count <= TRIES_MAX {
            let server = self.choose_replica(&must_see, &tries.servers)?;
            let Ok(wait) = self.wait_for(server, &must_see).await else {
                self.count_fallback();
                return None;
            };
            if let Ok(mut lease) = self.borrow(server, false, insert_id, tries.count > 1).await
                && self.set_isolation(&mut lease, class).await.is_ok()
                && self.set_transaction(&mut lease).await.is_ok()
            {
                self.reading.stay_at(server, self.watch.started);
                return Some((lease, wait));
            }
            // The replica is down, busy, or does not know the database yet: another one, then the primary.
            tries.count += 1;
            tries.servers.insert(server);
        }
        None
    }

    /// Gives a transaction on a replica the isolation level that it would have on the primary, where the replica has another one.
    async fn set_isolation(&self, lease: &mut Lease, class: &Class) -> Result<(), BackendError> {
        let begins = class.begins.is_some() || !self.session.is_autocommit();
        if !begins || !self.splitter.shared.server(lease.server).has_other_isolation() || self.session.has_isolation() {
            return Ok(());
        }
        let Some(level) = self.begun.beginning().isolation() else { return Ok(()) };
        lease.dirty = true; // as below
        let sql = format!("SET SESSION TRANSACTION ISOLATION LEVEL {}", level.replace('-', " "));
        let limit = self.splitter.config().connect_timeout;
        let set = Box::pin(timeout(limit, lease.row(sql.as_bytes()))).await;
        set.unwrap_or(Err(BackendError::Timeout("waiting for an answer"))).map(drop)
    }

    /// Tells a connection what the session has set for its next transaction: no autocommit, SET TRANSACTION.
    async fn set_transaction(&self, lease: &mut Lease) -> Result<(), BackendError> {
        let (is_autocommit, characteristics) = (self.session.is_autocommit(), self.session.next_characteristics());
        if is_autocommit && characteristics.is_empty() {
            return Ok(());
        }
        lease.dirty = true; // however this ends, it is not for others as it is
        let setting = async {
            if !is_autocommit {
                lease.row(b"SET autocommit=0").await?;
            }
            for statement in characteristics.split(|byte| *byte == b';') {
                if !statement.trim_ascii().is_empty() {
                    lease.row(statement).await?;
                }
            }
            Ok(())
        };
        let limit = self.splitter.config().connect_timeout;
        Box::pin(timeout(limit, setting)).await.unwrap_or(Err(BackendError::Timeout("waiting for an answer")))
    }

    /// The same for the primary.
    async fn with_transaction_settings(&self, mut lease: Lease, tries: &Tries) -> Result<Lease, Option<Reject>> {
        match self.set_transaction(&mut lease).await {
            Ok(()) => Ok(lease),
            Err(_) if tries.count < 2 => Err(None),
            Err(error) => Err(Some(Reject::new(UNREACHABLE, format!("Lost connection to the primary: {error}")))),
        }
    }

    /// LAST_INSERT_ID() for a connection that the session will keep for several statements. What is lost is told to
    /// whoever asks for it.
    pub(super) async fn settled_insert_id(&mut self) -> u64 {
        match self.carry.insert_id.get() {
            InsertId::Known(value) => value,
            InsertId::Lost => 0,
            InsertId::At(id) => match self.own_for_insert_id(id).await {
                Ok(Err(value)) => value,
                Ok(Ok(mut lease)) => {
                    // Where that fails, the connection is dropped, and with it the insert id.
                    if lease.save().await.is_ok() {
                        lease.give_back();
                    }
                    if let InsertId::Known(value) = self.carry.insert_id.get() { value } else { 0 }
                }
                Err(_) => {
                    self.carry.insert_id.set(InsertId::Lost);
                    0
                }
            },
        }
    }

    /// Whether a statement that the primary cannot take may run on a replica as well. It comes back once at most: what a SET has
    /// left there may be of a kind that only the primary can keep for the session.
    fn any_server_will_do(&self, class: &Class, tries: &Tries) -> bool {
        let may_run = match class.kind {
            Kind::Set | Kind::Use => true,
            // Where a read begins a transaction it must be where that goes on.
            Kind::Local => !self.session.holds(),
            _ => false,
        };
        let is_plain = class.pin.is_none() && !class.calc_found_rows && self.prelude.is_none();
        may_run && is_plain && !tries.primary_only && tries.count <= TRIES_MAX
    }

    /// While the primary cannot take it: a replica's connection for a statement that any server will do for. Settings are captured
    /// and set again elsewhere, so any server can check them, and drivers ask for variables when they connect; but what shows
    /// tables is asked of a server that has all of what the session must see, at once.
    async fn acquire_any(&mut self, class: &Class, tries: &Tries, careful: bool) -> Option<Lease> {
        if !self.any_server_will_do(class, tries) {
            return None;
        }
        let must_see = match class.tables {
            true => self.must_see().await.ok()?,
            false => MustSee::Anything,
        };
        let (sticky, now) = (self.reading.replica(), self.watch.started);
        let server = self.splitter.pick_replica(sticky, &must_see, &tries.servers, now)?;
        if !matches!(self.wait_for(server, &must_see).await, Ok(None)) {
            return None;
        }
        let insert_id = match self.carry.insert_id.get() {
            _ if class.diagnostics & diagnostics::INSERT_ID == 0 => None,
            InsertId::Known(value) => Some(value),
            InsertId::At(_) | InsertId::Lost => return None,
        };
        let mut lease = self.borrow(server, false, insert_id, careful).await.ok()?;
        self.set_transaction(&mut lease).await.ok()?;
        Some(lease)
    }

    pub(super) async fn acquire_primary(&mut self, class: &Class, tries: &mut Tries) -> Result<Lease, Option<Reject>> {
        let lead = self.splitter.shared.lead();
        let changes = matches!(class.kind, Kind::Write | Kind::Definition | Kind::Unknown);
        let careful = tries.count > 1 || !is_repeatable(class);
        let asks = matches!(class.kind, Kind::Read | Kind::Local | Kind::Locking | Kind::Use);
        if let Some((code, state, message)) = self.splitter.primary_trouble(changes) {
            if let Some(lease) = Box::pin(self.acquire_any(class, tries, careful)).await {
                return Ok(lease);
            }
            tries.waits = Some(Awaited::Primary { changes_something: changes });
            return Err(Some(Reject(code, state, message.into())));
        }
        let Some(primary) = lead.primary else { return Err(None) }; // there is one meanwhile
        // Whoever keeps the connection may ask there later.
        let will_stay = class.pin.is_some() || class.begins.is_some() || self.session.holds();
        if self.session.has_diagnostics
            && (will_stay || class.forgets == Forgets::Perhaps)
            && let Some(lease) = Box::pin(self.own_warned(lead)).await
        {
            if let Some(reject) = self.insert_id_is_lost_to(class, tries) {
                return Err(Some(reject));
            }
            return self.with_transaction_settings(lease, tries).await;
        }
        let needs_insert_id = !asks || will_stay || class.diagnostics & diagnostics::INSERT_ID != 0;
        let insert_id = match self.carry.insert_id.get() {
            _ if !needs_insert_id => None,
            InsertId::Known(value) => Some(value),
            // It may be lost only now, with the connection that the session held.
            InsertId::Lost => match self.insert_id_is_lost_to(class, tries) {
                Some(reject) => return Err(Some(reject)),
                None => Some(0), // this statement does not ask; a later one may
            },
            InsertId::At(id) => match Box::pin(self.own_for_insert_id(id)).await {
                Ok(Ok(lease)) => return self.with_transaction_settings(lease, tries).await,
                Ok(Err(value)) => Some(value),
                Err(_) => {
                    self.carry.insert_id.set(InsertId::Lost);
                    if let Some(reject) = self.insert_id_is_lost_to(class, tries) {
                        return Err(Some(reject));
                    }
                    Some(0) // this statement does not ask; a later one may
                }
            },
        };
        // Nobody gives connections back there for whom it is worth to wait. Before its turn ends, a server no longer leads.
        let since = Since::turn(self.splitter.shared.server(primary));
        if self.splitter.shared.lead() != lead {
            return Err(None);
        }
        let borrowed = match self.borrow_since(primary, since, false, insert_id, careful).await {
            Ok(lease) => self.prepare_as_begun(lease, insert_id).await,
            error => error,
        };
        match borrowed {
            // It may have taken a while.
            Ok(mut lease) => match self.splitter.shared.lead() == lead && lease.claim(lead) {
                true => self.with_transaction_settings(lease, tries).await,
                false => Err(None),
            },
            Err(LeaseError::Server(BackendError::Refused(code, message))) => {
                tries.waits = (code == SHUTDOWN).then_some(Awaited::Look(primary));
                Err(Some(Reject::new(code, message)))
            }
            Err(LeaseError::Server(BackendError::Io(_))) if tries.count < 2 => Err(None),
            Err(LeaseError::Server(error)) => {
                tries.waits = Some(Awaited::Look(primary));
                let address = self.splitter.shared.address(primary);
                let message =
                    format!("Can't connect to the primary {address}: {error}; the statement was not executed");
                Err(Some(Reject::new(UNREACHABLE, message)))
            }
            // ER_CON_COUNT_ERROR, which servers have for the same.
            Err(LeaseError::Full(why)) => Err(Some(Reject(1040, b"08004", why.text().into()))),
            Err(LeaseError::Moved) => Err(None),
        }
    }

    /// Borrows a connection and prepares it. A pooled one that turns out to be dead is replaced once.
    pub(super) async fn borrow(
        &self,
        server: usize,
        fresh: bool,
        insert_id: Option<u64>,
        careful: bool,
    ) -> Result<Lease, LeaseError> {
        let shared = &self.splitter.shared;
        let choose = if shared.lead().primary == Some(server) { Since::turn } else { Since::term };
        self.borrow_since(server, choose(shared.server(server)), fresh, insert_id, careful).await
    }

    /// The same of a server that was chosen then; it is not waited for when it has become something else.
    pub(super) async fn borrow_since(
        &self,
        server: usize,
        since: Since,
        fresh: bool,
        insert_id: Option<u64>,
        careful: bool,
    ) -> Result<Lease, LeaseError> {
        let mut again = true;
        loop {
            let wish = self.wish(careful || !again, since);
            let mut lease = Lease::borrow(&self.splitter, server, wish, &self.carry).await?;
            match self.prepare(&mut lease, fresh, insert_id).await {
                Ok(()) => return Ok(lease),
                Err(error @ BackendError::Refused(..)) => {
                    lease.give_back();
                    return Err(LeaseError::Server(error));
                }
                Err(_) if again => again = false,
                Err(error) => return Err(LeaseError::Server(error)),
            }
        }
    }

    /// A connection for which the session may have waited: sessions may begin with something else since.
    async fn prepare_as_begun(&mut self, mut lease: Lease, insert_id: Option<u64>) -> Result<Lease, LeaseError> {
        let before = Rc::clone(&self.session.state);
        self.keep_beginning();
        if !Rc::ptr_eq(&before, &self.session.state) {
            self.prepare(&mut lease, false, insert_id).await.map_err(LeaseError::Server)?;
        }
        Ok(lease)
    }

    pub(super) async fn prepare(
        &self,
        lease: &mut Lease,
        fresh: bool,
        insert_id: Option<u64>,
    ) -> Result<(), BackendError> {
        let unchanged = !fresh && lease.is_ready_for(&self.session.state);
        if unchanged && (insert_id.is_none() || lease.insert_id == insert_id) {
            // The same by value: next time that is seen at once.
            lease.state = Rc::clone(&self.session.state);
            return Ok(());
        }
        let limit = self.splitter.config().connect_timeout;
        let prepared = Box::pin(timeout(limit, lease.prepare(&self.session.state, fresh, insert_id))).await;
        prepared.unwrap_or(Err(BackendError::Timeout("waiting for an answer")))
    }
}
