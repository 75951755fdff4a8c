//! What a session began with, and whether that is sure. What is SET GLOBAL past the splitter is seen by the next look at the primary:
//! who logs on between two looks that saw different values has begun with one or the other, and is taken to have begun with the later
//! one, like those who log on from then on.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::acquire::Tries;
use super::backend::BackendError;
use super::client::Client;
use super::defaults::Beginning;
use super::diagnostics::{Witness, lost_held};
use super::lease::Lease;
use super::shared::Shared;
use super::statement::Reject;
use crate::runtime::time::timeout;

/// What sessions begin with, for as long as looks see nothing else.
#[derive(Debug, Default)]
pub(super) struct Era {
    pub(super) beginning: Beginning,
    /// The count of looks at its server with the end of the last one that has seen it. Monitor only.
    confirmed: AtomicU64,
}

impl Era {
    pub(super) fn new(beginning: Beginning) -> Era {
        Era { beginning, confirmed: AtomicU64::new(0) }
    }

    /// Monitor only: a look that ends with this count has seen it.
    pub(super) fn confirm(&self, looks: u64) {
        self.confirmed.store(looks, Relaxed);
    }
}

/// What a session began with.
#[derive(Debug)]
pub(super) struct Begun {
    /// See [`Shared::beginnings`].
    number: u64,
    era: Arc<Era>,
    /// It is sure once a look has seen the same that ends with this count, or later: that one began behind the login.
    sure_from: u64,
}

impl Begun {
    /// Of a session that begins now.
    pub(super) fn now(shared: &Shared) -> Begun {
        let (number, era) = shared.beginning();
        let sure_from = era.beginning.server.map_or(0, |server| shared.server(server).next_look());
        Begun { number, era, sure_from }
    }

    pub(super) fn beginning(&self) -> &Beginning {
        &self.era.beginning
    }

    fn is_sure(&self) -> bool {
        self.era.confirmed.load(Relaxed) >= self.sure_from
    }
}

impl Client {
    /// Sessions may begin with something else now. This one keeps what it began with.
    pub(super) fn keep_beginning(&mut self) {
        let shared = &self.splitter.shared;
        if shared.beginnings() == self.begun.number {
            return;
        }
        let mut now = Begun::now(shared);
        let mode = now.beginning().mode(shared.mode());
        if now.beginning().server == self.begun.beginning().server {
            now.sure_from = self.begun.sure_from;
        }
        let before = std::mem::replace(&mut self.begun, now);
        let (before_that, now) = (before.beginning(), self.begun.era.clone());
        // What another primary has globally it may not even know by the same name.
        let kept = if before_that.server != now.beginning.server {
            self.session.rebase(mode);
            None
        } else if before.is_sure() {
            Some(self.session.keep(before_that.changed(&now.beginning)))
        } else {
            self.session.rebase(mode);
            // A connection of before may have either.
            self.held.is_some().then(|| self.session.keep(now.beginning.changed(before_that)))
        };
        // The connection at hand may have been opened, or reset, when the other value was there.
        if let Some(kept) = kept.filter(|kept| self.held.is_some() && !kept.variables.is_empty()) {
            let owed = self.owed.get_or_insert_default();
            kept.variables.iter().for_each(|(index, value)| owed.set(*index, value));
        }
    }

    /// Sets on the connection that the session holds what it is owed of its beginning. A server that refuses to for now (a transaction
    /// of XA between its phases) is asked again with the next statement.
    ///
    /// Errors: for the client; the connection is lost.
    pub(super) async fn settle_beginning(&mut self, mut lease: Lease, tries: &mut Tries) -> Result<Lease, Reject> {
        let Some(mut owed) = self.owed.take() else { return Ok(lease) };
        // What the session has set itself since is there.
        let state = &self.session.state;
        owed.variables.retain(|(index, value)| state.variables.iter().any(|(at, own)| (at, own) == (index, value)));
        if owed.variables.is_empty() {
            return Ok(lease);
        }
        self.last = Some(Witness::NOBODY); // the row count is that of the setting
        let limit = self.splitter.config().connect_timeout;
        match timeout(limit, lease.set_variables(&owed)).await {
            Ok(Ok(())) => {}
            Ok(Err(BackendError::Refused(..))) => {
                // What would be shown is that refusal.
                (self.owed, self.warned) = (Some(owed), Some(Witness::NOBODY));
            }
            Ok(Err(_)) | Err(_) => return Err(lost_held(tries)),
        }
        Ok(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::look::Seen;
    use crate::mysql::probe::Table;
    use std::time::Instant;

    #[test]
    fn a_session_is_sure_of_what_a_look_saw_that_began_behind_its_login() {
        let shared = Shared::new(&Arc::new(crate::control::shared::tests::config()), 0, 1);
        let facts = shared.server(0);
        let see = |value: &str| {
            let table = Table { columns: vec!["sort_buffer_size".into()], rows: vec![vec![Some(value.to_owned())]] };
            shared.on_seen(0, Some(Seen::new(&table)), Instant::now());
        };
        let look = |value: &str| {
            facts.count_look();
            see(value);
            facts.count_look();
        };
        assert_eq!(shared.lead().primary, Some(0), "as the config says");
        look("1");
        let early = Begun::now(&shared);
        assert!(!early.is_sure(), "it may be another value since that look");
        facts.count_look();
        let late = Begun::now(&shared);
        see("1");
        // Looks at others publish what that one saw, and have not seen it.
        shared.on_seen(1, None, Instant::now());
        facts.count_look();
        assert!(early.is_sure() && !late.is_sure(), "the look may have been there before it");
        look("2");
        assert!(
            early.is_sure() && !late.is_sure() && shared.beginnings() != late.number,
            "the look saw something else"
        );
        look("2");
        assert!(!late.is_sure() && early.is_sure());
    }
}
