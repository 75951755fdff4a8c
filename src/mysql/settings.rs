//! What the config says of a splitter, as one data worker needs it. A reload makes another one beside it.
//!
//! A statement is judged (rules, accounts, hints, how fresh it must be) by the one its session had when it came; whatever else is
//! done goes by the newest one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustls::{ClientConfig, ServerConfig};

use super::account::Accounts;
use super::client::Client;
use super::gtid::Position;
use super::pool::{Home, Pool};
use super::rules::Rules;
use super::serve::{Life, Splitter};
use super::shared::{Shared, Terms};
use super::token::News;
use crate::config::Config;
use crate::config::model::{self, CausalReads};
use crate::log::SlowLog;
use crate::tls::{Offer, TlsError};

/// See the module.
pub(super) struct Settings {
    terms: Terms,
    /// Another one each time: what was found out under earlier ones may be wrong.
    pub(super) edition: u64,
    /// Changes with how servers are reached: a connection of another one serves nobody new.
    pub(super) reach: u32,
    pub(super) rules: Rules,
    pub(super) accounts: Accounts,
    /// The log of statements that take long.
    pub(super) slow: Option<SlowLog>,
    /// What sessions with servers are made with. Its memory of sessions is this worker's own.
    pub(super) server_tls: Option<Arc<ClientConfig>>,
}

impl std::ops::Deref for Settings {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

impl Settings {
    /// Those of the config. `before`: passwords that clients have shown are known of it.
    ///
    /// Errors: settings for TLS with servers that rustls refuses; none that a checked config has.
    pub(super) fn new(terms: Terms, slow: Option<SlowLog>, before: Option<&Settings>) -> Result<Settings, TlsError> {
        let is_same = |before: &&Settings| before.terms.server_tls == terms.server_tls;
        let is_packed_as_before = |before: &Settings| {
            let mut servers = before.terms.servers.iter().zip(&terms.servers);
            servers.all(|(before, server)| before.compression == server.compression)
        };
        let is_reached_as_before = |before: &Settings| is_same(&before) && is_packed_as_before(before);
        let reach = before.map_or(0, |before| before.reach + u32::from(!is_reached_as_before(before)));
        let server_tls = match before.filter(is_same) {
            Some(same) => same.server_tls.clone(),
            None => terms.server_tls.as_ref().map(|tls| tls.trust.settings(Offer::Nothing)).transpose()?,
        };
        Ok(Settings {
            reach,
            edition: before.map_or(0, |before| before.edition + 1),
            rules: Rules::new(&terms.rules),
            accounts: Accounts::new(&terms, before.map(|before| &before.accounts)),
            slow,
            server_tls,
            terms,
        })
    }

    /// Whether normal forms are wanted of every statement.
    pub(super) fn wants_digests(&self) -> bool {
        self.digests_max > 0 || !self.rules.is_empty()
    }
}

/// What one data worker has of a server, for as long as it runs.
pub(super) struct Node {
    pub(super) pool: Pool,
    /// It refused a connection then.
    pub(super) suspect: Cell<Option<Instant>>,
    /// What was said of its lacking compression: that of this edition of the config is known.
    pub(super) said: Cell<Option<u64>>,
    /// In which life of it, and the position it was seen to have reached.
    pub(super) reached: RefCell<(Life, Position)>,
}

impl Node {
    pub(super) fn new(shared: &Arc<Shared>, worker: usize, server: usize) -> Node {
        let home = Home { shared: Arc::clone(shared), worker, server };
        Node { pool: Pool::new(home, 1), suspect: Cell::new(None), said: Cell::new(None), reached: RefCell::default() }
    }
}

impl Splitter {
    /// The config that is in force.
    pub(super) fn config(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    /// See [`Settings::reach`].
    pub(super) fn reach(&self) -> u32 {
        self.settings.borrow().reach
    }

    /// Number of what statements are judged by, the config and what tables hide: it goes up with each change.
    pub(super) fn edition(&self) -> u64 {
        let surveyed = self.shared.survey.edition();
        let edition = self.settings.borrow().edition + surveyed;
        if self.surveyed.replace(surveyed) != surveyed {
            self.classes.borrow_mut().forget_hidden(self.shared.survey.found(), edition);
        }
        edition
    }

    /// Clients connected now.
    pub fn clients(&self) -> u64 {
        self.stats().clients.value()
    }

    /// Another config: in force from now on, for the next statement of every session. `slow` and `tls` as in
    /// [`Splitter::new`].
    ///
    /// Errors: as there, or that of `tls`; nothing has changed.
    pub fn go_on_with(
        self: &Rc<Self>,
        config: Arc<Config>,
        index: usize,
        tls: Result<Option<Arc<ServerConfig>>, TlsError>,
        slow: Option<SlowLog>,
    ) -> Result<(), TlsError> {
        let (before, terms) = (self.config(), Terms::new(config, index));
        // Whatever comes of the rest: there are servers that others know of soon.
        self.make_room(&terms);
        let next = Settings::new(terms, slow, Some(&before))?;
        self.set_tls(tls?);
        let is_same = **next == ***before && index == before.index();
        if is_same && next.slow.as_ref().map(SlowLog::place) == before.slow.as_ref().map(SlowLog::place) {
            return Ok(());
        }
        self.replicas.go_on_with(&next);
        self.classes.borrow_mut().forget(next.wants_digests(), next.edition + self.surveyed.get());
        let begins_to_publish = next.causal_reads == CausalReads::Node && before.causal_reads != CausalReads::Node;
        self.settings.replace(Rc::new(next));
        if begins_to_publish {
            self.begin_to_publish();
        }
        self.sweep_pools();
        Ok(())
    }

    /// Tells the operator, once under each config, that the packets of a server are not compressed although they are to be.
    pub(super) fn say_it_lacks_compression(&self, config: &Settings, server: usize) {
        let Some(wanted) = config.servers[server].compression else { return };
        if self.nodes[server].said.replace(Some(config.edition)) != Some(config.edition) {
            tracing::warn!(
                splitter = %config.name, server = %self.shared.address(server), compression = wanted.name(),
                "the server does not offer this compression: its packets are sent as they are; MariaDB has zlib alone"
            );
        }
    }

    /// Has a place for each server, and pools of the right size.
    pub(super) fn make_room(&self, next: &model::Splitter) {
        for server in self.nodes.len()..next.servers.len() {
            self.nodes.push(Node::new(&self.shared, self.data_worker, server));
        }
        self.nodes.iter().for_each(|node| node.pool.set_max(next.pool_max));
    }

    /// What was written until now has not been told to other sessions: their reads go to the primary until it has said what that
    /// comes to.
    fn begin_to_publish(self: &Rc<Self>) {
        let publish = |splitter: &Splitter, news: &News, doubts: u32| {
            let epoch = splitter.shared.lead().epoch;
            splitter.written.learn(&splitter.shared.published, news, doubts, epoch);
        };
        publish(self, &News::Untold, self.written.doubts());
        let (splitter, doubts) = (Rc::clone(self), self.written.doubts());
        crate::runtime::spawn(async move {
            if let Some(position) = splitter.frontier().await {
                publish(&splitter, &News::Gtids(position), doubts);
            }
        });
    }
}

impl Client {
    /// The config by which the command under way is judged.
    pub(super) fn settings(&self) -> &Rc<Settings> {
        self.settings.as_ref().expect("a command has begun")
    }

    /// A command begins: it is judged by the config that is in force now.
    pub(super) fn look_at_config(&mut self) {
        self.keep_beginning();
        let edition = self.splitter.edition();
        let present = self.splitter.settings.borrow();
        let is_same = self.settings.as_ref().is_some_and(|settings| Rc::ptr_eq(settings, &present));
        if is_same && self.edition == edition {
            return;
        }
        let settings = Rc::clone(&present);
        drop(present);
        if self.edition != edition {
            self.edition = edition;
            self.watch.rules = settings.rules.of_client(self.key.account, self.watch.peer.map(|peer| peer.ip()));
        }
        self.settings = Some(settings);
    }

    /// No command is under way: an idle client keeps no config of before.
    pub(super) fn forget_config(&mut self) {
        self.settings = None;
    }
}
