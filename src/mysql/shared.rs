//! What all data workers know of a splitter's servers: written by the monitor alone, read without a lock.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls_pki_types::ServerName;
use tokio::sync::Notify;

use super::begun::Era;
use super::closing::Closing;
use super::defaults::Beginning;
use super::govern::Council;
use super::gtid::Position;
use super::kill::Exchange;
use super::lead::{LeadCell, Tokens, Voided, vacancy_of};
use super::node::Published;
use super::protocol::capability::QUERY_ATTRIBUTES;
use super::protocol::greeting::Greeting;
use super::quota::{Limits, Quota};
use super::sql::{Flavour, Mode};
use super::survey::Survey;
use super::topology::{Lead, Vacancy};
use crate::config::Config;
use crate::config::model::{PrimaryRule, Splitter};
use crate::runtime::net::Address;
use crate::tls::outbound::server_address;
use crate::util::growing::Growing;

/// Lag that is not known, or a replica that does not replicate.
pub const LAG_UNKNOWN: u64 = u64::MAX;

/// Whether a server can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not looked at yet.
    Unknown,
    /// It does not answer.
    Down,
    /// It answers but refuses writes (read_only) or replicates itself.
    ReadOnly,
    /// It answers and takes writes.
    Writable,
}

/// What the operator wants of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Duty {
    /// It is used for what it is.
    Ready = 0,
    /// It finishes what it has: no new reads, and as the primary no new writes, which wait.
    Drained = 1,
    /// The same; it is not looked at either, and counts as one that is not there.
    Maintenance = 2,
    /// The same: the config does not have it any more.
    Gone = 3,
}

impl Duty {
    /// Whether it is looked at.
    pub(super) fn is_watched(self) -> bool {
        matches!(self, Duty::Ready | Duty::Drained)
    }
}

/// The newest facts about one server.
#[derive(Debug)]
pub struct ServerFacts {
    health: AtomicU8,
    /// Milliseconds behind the primary, [`LAG_UNKNOWN`] when not known.
    lag_ms: AtomicU64,
    eligible: AtomicBool,
    /// Counts the times it came up: what a worker learned about an earlier life is void.
    generation: AtomicU32,
    /// Counts the times it was started anew, see [`ServerFacts::restarts`].
    restarts: AtomicU32,
    /// The last time that [`ServerFacts::restarts`] went up it was not sure.
    is_restart_unsure: AtomicBool,
    /// Counts the times it began or ceased to be the primary, or its sessions to begin otherwise: connections of an earlier term are
    /// not lent any more.
    term: AtomicU32,
    /// The same of the primary alone: who waits for a connection since an earlier turn waits for something else.
    turn: AtomicU32,
    /// Looks begun and ended: odd while one is under way.
    looks: AtomicU64,
    /// A [`Duty`].
    duty: AtomicU8,
    /// It belongs to a Galera cluster, where nobody can wait for a GTID.
    in_cluster: AtomicBool,
    is_fenced: AtomicBool,
    /// Transactions begin there with another isolation level than on the primary.
    other_isolation: AtomicBool,
    /// What it had when it was last looked at.
    position: ArcSwap<Position>,
}

impl Default for ServerFacts {
    /// Nothing is known, least of all that it is not behind.
    fn default() -> ServerFacts {
        ServerFacts {
            health: AtomicU8::new(0),
            lag_ms: AtomicU64::new(LAG_UNKNOWN),
            eligible: AtomicBool::new(false),
            generation: AtomicU32::new(0),
            restarts: AtomicU32::new(0),
            is_restart_unsure: AtomicBool::new(false),
            term: AtomicU32::new(0),
            turn: AtomicU32::new(0),
            looks: AtomicU64::new(0),
            duty: AtomicU8::new(Duty::Ready as u8),
            in_cluster: AtomicBool::new(false),
            is_fenced: AtomicBool::new(false),
            other_isolation: AtomicBool::new(false),
            position: ArcSwap::default(),
        }
    }
}

impl ServerFacts {
    /// Whether it answers and takes writes.
    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            0 => Health::Unknown,
            1 => Health::Down,
            2 => Health::ReadOnly,
            _ => Health::Writable,
        }
    }

    /// Monitor only: what is known of its connections and of what it has reached may not hold any more.
    pub(super) fn begin_life(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    /// Monitor only.
    pub fn set_health(&self, health: Health) {
        if matches!(self.health(), Health::Down | Health::Unknown) && health != Health::Down {
            self.begin_life();
        }
        self.health.store(health as u8, Relaxed);
    }

    /// Milliseconds behind the primary; [`LAG_UNKNOWN`] when not known.
    pub fn lag_ms(&self) -> u64 {
        self.lag_ms.load(Relaxed)
    }

    /// Monitor only. `eligible`: reads may go there.
    pub fn set_lag(&self, lag_ms: u64, eligible: bool) {
        self.lag_ms.store(lag_ms, Relaxed);
        self.eligible.store(eligible, Relaxed);
    }

    /// Whether reads may go there: up, replicating, not too far behind.
    pub fn is_eligible(&self) -> bool {
        self.eligible.load(Relaxed)
    }

    /// Changes when the server came back from being down.
    pub fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// Times it was started anew, or may have been: its own ids of connections are of another count since.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Acquire)
    }

    /// Whether it is sure that the last one of [`ServerFacts::restarts`] was one.
    pub(super) fn is_restart_sure(&self) -> bool {
        !self.is_restart_unsure.load(Relaxed)
    }

    /// Monitor only: the server was started anew, or, unless `is_sure`, may have been.
    pub(super) fn on_restart(&self, is_sure: bool) {
        self.is_restart_unsure.store(!is_sure, Relaxed);
        self.restarts.fetch_add(1, Release);
        self.begin_life();
    }

    /// How often it began or ceased to be the primary, or its sessions began to begin otherwise.
    pub fn term(&self) -> u32 {
        self.term.load(Relaxed)
    }

    /// Monitor only: its sessions begin otherwise than those before.
    pub(super) fn end_term(&self) {
        self.term.fetch_add(1, Relaxed);
    }

    /// How often it began or ceased to be the primary.
    pub fn turn(&self) -> u32 {
        self.turn.load(Relaxed)
    }

    /// Monitor only: it begins or ceases to be the primary.
    pub(super) fn end_turn(&self) {
        self.turn.fetch_add(1, Relaxed);
        self.end_term();
    }

    /// Monitor only: a look begins or ends.
    pub(super) fn count_look(&self) {
        self.looks.fetch_add(1, Release);
    }

    /// Monitor only: one that was broken off is over.
    pub(super) fn end_look(&self) {
        if self.looks() % 2 == 1 {
            self.count_look();
        }
    }

    /// What [`ServerFacts::looks`] reaches when a look that begins from now on has ended.
    pub(super) fn next_look(&self) -> u64 {
        let looks = self.looks();
        looks + if looks % 2 == 1 { 3 } else { 2 }
    }

    /// Looks begun and ended.
    pub(super) fn looks(&self) -> u64 {
        self.looks.load(Acquire)
    }

    /// What the operator wants of it.
    pub fn duty(&self) -> Duty {
        match self.duty.load(Relaxed) {
            0 => Duty::Ready,
            1 => Duty::Drained,
            2 => Duty::Maintenance,
            _ => Duty::Gone,
        }
    }

    /// Control thread only; returns what it was.
    pub(super) fn set_duty(&self, duty: Duty) -> Duty {
        let was = self.duty();
        self.duty.store(duty as u8, Relaxed);
        was
    }

    /// Whether it belongs to a Galera cluster, where nobody can wait for a GTID.
    pub fn is_in_cluster(&self) -> bool {
        self.in_cluster.load(Relaxed)
    }

    /// Monitor only.
    pub(super) fn set_in_cluster(&self, in_cluster: bool) {
        self.in_cluster.store(in_cluster, Relaxed);
    }

    /// Whether it takes writes although another one has led since it did.
    pub fn is_fenced(&self) -> bool {
        self.is_fenced.load(Relaxed)
    }

    /// Monitor only.
    pub(super) fn set_fenced(&self, is_fenced: bool) {
        self.is_fenced.store(is_fenced, Relaxed);
    }

    /// Whether transactions begin there with another isolation level than on the primary.
    pub(super) fn has_other_isolation(&self) -> bool {
        self.other_isolation.load(Relaxed)
    }

    /// Monitor only.
    pub(super) fn set_other_isolation(&self, is_other: bool) {
        self.other_isolation.store(is_other, Relaxed);
    }

    /// Monitor only.
    pub fn set_position(&self, position: &Position) {
        if **self.position.load() != *position {
            self.position.store(Arc::new(position.clone()));
        }
    }

    /// What it had when it was last looked at.
    pub fn position(&self) -> Position {
        Position::clone(&self.position.load())
    }

    /// Whether the position last seen includes `position`.
    pub fn has_reached(&self, position: &Position) -> bool {
        self.position.load().covers(position)
    }
}

/// What the splitter shows to clients before it knows a server's own greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Version string of the server.
    pub version: Vec<u8>,
    /// Its default collation.
    pub collation: u8,
    /// It knows query attributes.
    pub has_attributes: bool,
    /// It is a MariaDB.
    pub is_mariadb: bool,
    /// Whose functions its sessions call.
    pub flavour: Flavour,
}

impl Identity {
    /// What a server's first packet says.
    pub fn of(greeting: Greeting) -> Identity {
        let has_attributes = greeting.capabilities & QUERY_ATTRIBUTES != 0;
        let is_mariadb = greeting.is_mariadb();
        let flavour = Flavour::of(&greeting.version, is_mariadb);
        Identity { version: greeting.version, collation: greeting.collation, has_attributes, is_mariadb, flavour }
    }
}

/// A splitter as the present config has it.
#[derive(Clone, Debug)]
pub struct Terms {
    config: Arc<Config>,
    index: usize,
}

impl Terms {
    /// The splitter with this index.
    pub fn new(config: Arc<Config>, index: usize) -> Terms {
        Terms { config, index }
    }

    /// The whole config.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Index of the splitter in it.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The name that the certificate of a server at `address` must have; `None`: it is reached in clear. Nobody listens on a
    /// Unix socket: it needs no TLS, and its server often has none there.
    pub fn tls_name(&self, address: &Address) -> Option<ServerName<'static>> {
        let tls = self.server_tls.as_ref()?;
        match address {
            Address::Tcp(address) => Some(tls.server_name.clone().unwrap_or_else(|| server_address(address.ip()))),
            Address::Unix(_) | Address::Name(_) | Address::App(_) => None,
        }
    }
}

impl std::ops::Deref for Terms {
    type Target = Splitter;

    fn deref(&self) -> &Splitter {
        &self.config.splitters[self.index]
    }
}

/// A server, for as long as the process runs.
#[derive(Debug)]
struct Node {
    address: Address,
    facts: ServerFacts,
    /// Somebody wants it to be looked at soon.
    doubt: Notify,
}

/// One splitter's facts, shared by all workers of the process.
#[derive(Debug)]
pub struct Shared {
    terms: ArcSwap<Terms>,
    /// What sessions begin with, and the number of its changes.
    beginning: ArcSwap<Era>,
    beginnings: AtomicU64,
    nodes: Growing<Node>,
    /// What was written through this process, by data worker.
    pub published: Published,
    /// 0: not known yet, 1: it does, 2: it does not.
    gtids: AtomicU8,
    galera: AtomicBool,
    identity: ArcSwapOption<Identity>,
    mode: AtomicU8,
    clients: AtomicUsize,
    /// The same by account.
    clients_of: Growing<AtomicUsize>,
    /// The way of a KILL to the data worker that has the client.
    pub(super) kills: Exchange,
    /// How many connections to the servers there may be.
    pub(super) quota: Quota,
    lead: LeadCell,
    /// The end of the epoch before.
    pub(super) closing: Closing,
    /// The primary is found, not fixed.
    finds_primary: AtomicBool,
    /// A [`Vacancy`]; means something while nobody leads.
    vacancy: AtomicU8,
    /// The operator has announced a switchover: writes wait.
    is_announced: AtomicBool,
    /// By data worker, what clients were told is committed.
    tokens: Vec<Tokens>,
    /// Statements that wait for a primary, and their bytes.
    held: AtomicUsize,
    held_bytes: AtomicUsize,
    /// What the control thread alone knows and decides.
    pub(super) council: Mutex<Council>,
    /// The config has changed: there may be other servers to look at.
    pub(super) changed: Notify,
    /// What triggers, views and column defaults hide.
    pub(super) survey: Survey,
}

impl Shared {
    /// Nothing known yet about the servers of the splitter with this index in the config, for so many data workers.
    pub fn new(config: &Arc<Config>, index: usize, data_workers: usize) -> Shared {
        let terms = Terms::new(Arc::clone(config), index);
        let lead = match terms.primary {
            PrimaryRule::Fixed(primary) => Lead { epoch: 1, primary: Some(primary) },
            PrimaryRule::Found { .. } => Lead::default(),
        };
        let shared = Shared {
            nodes: Growing::default(),
            published: Published::new(data_workers),
            gtids: AtomicU8::new(0),
            galera: AtomicBool::new(false),
            identity: ArcSwapOption::empty(),
            mode: AtomicU8::new(0),
            clients: AtomicUsize::new(0),
            clients_of: Growing::default(),
            kills: Exchange::new(data_workers),
            quota: Quota::new(&Limits::of(&terms, terms.servers.len()), data_workers),
            lead: LeadCell::new(lead),
            closing: Closing::new(),
            finds_primary: AtomicBool::new(matches!(terms.primary, PrimaryRule::Found { .. })),
            vacancy: AtomicU8::new(Vacancy::Starting as u8),
            is_announced: AtomicBool::new(false),
            tokens: (0..data_workers).map(|_| Tokens::default()).collect(),
            held: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
            council: Mutex::new(Council::new(&terms)),
            changed: Notify::new(),
            survey: Survey::default(),
            terms: ArcSwap::from_pointee(terms),
            beginning: ArcSwap::default(),
            beginnings: AtomicU64::new(0),
        };
        shared.make_room(&shared.config());
        if lead.primary.is_some() {
            shared.survey.begin();
        }
        shared
    }

    /// Its part of the config.
    pub fn config(&self) -> Arc<Terms> {
        self.terms.load_full()
    }

    /// Has places for all that `next` has. Nothing uses the new ones yet. Control thread only.
    pub fn make_room(&self, next: &Splitter) {
        for server in &next.servers[self.nodes.len()..] {
            let (address, facts, doubt) = (server.address.clone(), ServerFacts::default(), Notify::new());
            self.nodes.push(Node { address, facts, doubt });
        }
        (self.clients_of.len()..=next.users.len()).for_each(|_| self.clients_of.push(AtomicUsize::new(0)));
        self.quota.set(&Limits::of(next, next.servers.len()));
    }

    /// From now on the config is this one. Control thread only.
    pub(super) fn set_terms(&self, terms: Arc<Terms>) {
        self.finds_primary.store(matches!(terms.primary, PrimaryRule::Found { .. }), Relaxed);
        self.terms.store(terms);
    }

    /// Whether the primary is found, not fixed.
    pub fn finds_primary(&self) -> bool {
        self.finds_primary.load(Relaxed)
    }

    /// Address of a server.
    pub fn address(&self, index: usize) -> &Address {
        &self.nodes[index].address
    }

    /// Who leads.
    pub fn lead(&self) -> Lead {
        self.lead.get()
    }

    /// Why nobody leads; means something while that is so.
    pub fn vacancy(&self) -> Vacancy {
        vacancy_of(self.vacancy.load(Relaxed)).unwrap_or(Vacancy::Starting)
    }

    /// Monitor only.
    pub(super) fn set_lead(&self, lead: Lead, vacancy: Option<Vacancy>) {
        if let Some(vacancy) = vacancy {
            self.vacancy.store(vacancy as u8, Relaxed);
        }
        // Statements that come from now on wait for what it hides to be read.
        if lead.primary.is_some() {
            self.survey.begin();
        }
        self.lead.set(lead);
    }

    /// Which tokens mean something else by now.
    pub(super) fn voided(&self) -> &Voided {
        &self.published.voided
    }

    /// Whether the operator has announced a switchover, so that writes wait.
    pub fn is_announced(&self) -> bool {
        self.is_announced.load(Relaxed)
    }

    /// Control thread only.
    pub(super) fn announce(&self, is_announced: bool) {
        self.is_announced.store(is_announced, Relaxed);
    }

    /// By data worker, what clients were told is committed.
    pub(super) fn tokens(&self) -> &[Tokens] {
        &self.tokens
    }

    /// Somebody was told something by a server that does not fit what is known of it: it is looked at soon.
    pub(super) fn doubt(&self, server: usize) {
        self.nodes[server].doubt.notify_one();
    }

    /// Ready when somebody wants the server to be looked at.
    pub(super) async fn doubted(&self, server: usize) {
        self.nodes[server].doubt.notified().await;
    }

    /// Takes a place among the statements that wait for a primary; `false`: there is none. Pairs with [`Shared::let_go`].
    pub(super) fn hold(&self, bytes: usize) -> bool {
        let (config, held) = (self.config(), self.held.fetch_add(1, Relaxed));
        let held_bytes = self.held_bytes.fetch_add(bytes, Relaxed);
        let fits = held < config.held_max && held_bytes.saturating_add(bytes) <= config.held_bytes_max;
        if !fits {
            self.let_go(bytes);
        }
        fits
    }

    /// Gives the place back.
    pub(super) fn let_go(&self, bytes: usize) {
        self.held.fetch_sub(1, Relaxed);
        self.held_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Statements that wait for a primary.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Facts about a server.
    pub fn server(&self, index: usize) -> &ServerFacts {
        &self.nodes[index].facts
    }

    /// Number of servers, those that are gone included.
    pub fn servers(&self) -> usize {
        self.nodes.len()
    }

    /// The indexes of those that are not gone.
    pub fn present(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.servers()).filter(|server| self.server(*server).duty() != Duty::Gone)
    }

    /// Whether the primary tells which transactions its sessions have written; `None`: nobody has looked yet.
    pub fn tells_gtids(&self) -> Option<bool> {
        match self.gtids.load(Relaxed) {
            0 => None,
            tells => Some(tells == 1),
        }
    }

    /// Monitor only.
    pub fn set_tells_gtids(&self, tells: bool) {
        self.gtids.store(if tells { 1 } else { 2 }, Relaxed);
    }

    /// Whether the servers are a Galera cluster.
    pub fn is_galera(&self) -> bool {
        self.galera.load(Relaxed)
    }

    /// Monitor only.
    pub fn set_galera(&self, is_galera: bool) {
        self.galera.store(is_galera, Relaxed);
    }

    /// What the primary calls itself, or the first server that answered.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.load_full()
    }

    /// Keeps the first one that any server gives, and the last one of the primary, which `leads`.
    pub fn set_identity(&self, identity: &Identity, leads: bool) {
        let known = self.identity.load();
        if known.as_ref().is_none_or(|known| leads && **known != *identity) {
            self.identity.store(Some(Arc::new(identity.clone())));
        }
    }

    /// What the servers make of a statement: their global sql_mode, as far as it changes the lexer, and whose they are.
    pub fn mode(&self) -> Mode {
        let bits = self.mode.load(Relaxed);
        Mode {
            ansi_quotes: bits & 1 != 0,
            no_backslash_escapes: bits & 2 != 0,
            ignore_space: bits & 4 != 0,
            oracle: bits & 8 != 0,
            flavour: self.identity().map_or(Flavour::Unknown, |identity| identity.flavour),
            ..Mode::default()
        }
    }

    /// Monitor only.
    pub fn set_mode(&self, mode: Mode) {
        let flags = [mode.ansi_quotes, mode.no_backslash_escapes, mode.ignore_space, mode.oracle];
        let bits = flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag));
        self.mode.store(bits, Relaxed);
    }

    /// What sessions begin with that log on now, as the monitor has seen it last, and its number.
    pub(super) fn beginning(&self) -> (u64, Arc<Era>) {
        // The number first: at worst it is looked at once more.
        let number = self.beginnings();
        (number, self.beginning.load_full())
    }

    /// Changes with [`Shared::beginning`].
    pub(super) fn beginnings(&self) -> u64 {
        self.beginnings.load(Acquire)
    }

    /// Monitor only.
    pub(super) fn set_beginning(&self, server: usize, beginning: &Beginning) {
        self.set_mode(beginning.mode(self.mode()));
        if !self.beginning.load().beginning.is_of(server, beginning) {
            self.beginning.store(Arc::new(Era::new(beginning.on(server))));
            self.beginnings.fetch_add(1, Release);
        }
    }

    /// Monitor only: what sessions begin with on a server is what the look at it that is about to end has seen.
    pub(super) fn confirm_beginning(&self, server: usize) {
        let (era, looks) = (self.beginning.load(), self.server(server).looks());
        if era.beginning.server == Some(server) {
            era.confirm(looks + looks % 2);
        }
    }

    /// Takes a place for one more client; `false` when `clients_max` are connected. Pairs with [`Shared::client_left`].
    pub fn client_came(&self, clients_max: usize) -> bool {
        if self.clients.fetch_add(1, Relaxed) < clients_max {
            return true;
        }
        self.client_left();
        false
    }

    /// Gives the place back.
    pub fn client_left(&self) {
        self.clients.fetch_sub(1, Relaxed);
    }

    /// Whether a client is connected, or was let in a moment ago.
    pub fn has_clients(&self) -> bool {
        self.clients.load(Relaxed) > 0
    }

    /// Takes one of an account's places; `false` when it has `clients_max` clients. Pairs with [`Shared::account_left`].
    pub fn account_came(&self, account: u16, clients_max: usize) -> bool {
        if self.clients_of[usize::from(account)].fetch_add(1, Relaxed) < clients_max {
            return true;
        }
        self.account_left(account);
        false
    }

    /// Gives the place back.
    pub fn account_left(&self, account: u16) {
        self.clients_of[usize::from(account)].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(change: impl FnOnce(&mut Splitter)) -> Shared {
        let mut config = crate::control::shared::tests::config();
        change(&mut config.splitters[0]);
        Shared::new(&Arc::new(config), 0, 1)
    }

    #[test]
    fn positions_may_go_back() {
        let facts = ServerFacts::default();
        assert!(facts.lag_ms() == LAG_UNKNOWN && !facts.is_eligible());
        let position = |text: &str| Position::parse(text.as_bytes()).unwrap();
        assert!(facts.has_reached(&position("")) && !facts.has_reached(&position("0-1-1")));
        facts.set_position(&position("0-1-10,5-1-3"));
        assert!(facts.has_reached(&position("0-1-10")) && facts.has_reached(&position("0-2-4,5-9-3")));
        facts.set_position(&position("0-1-4"));
        assert!(facts.has_reached(&position("0-1-4")) && !facts.has_reached(&position("0-1-10")));
        assert!(!facts.has_reached(&position("5-1-3")));
    }

    #[test]
    fn no_more_statements_wait_than_may_by_number_and_by_bytes() {
        let shared = shared(|splitter| (splitter.held_max, splitter.held_bytes_max) = (3, 100));
        assert!(shared.hold(60) && shared.hold(40), "as many bytes as may");
        assert!(!shared.hold(1), "one too many");
        shared.let_go(40);
        assert!(shared.hold(20) && shared.hold(20));
        assert!(!shared.hold(0), "a fourth one");
        assert_eq!(shared.held(), 3);
    }

    #[test]
    fn a_look_that_begins_now_ends_after_the_one_under_way() {
        let facts = ServerFacts::default();
        assert_eq!(facts.next_look(), 2);
        facts.count_look();
        assert_eq!(facts.next_look(), 4, "the one under way may have seen too little");
        facts.count_look();
        assert_eq!((facts.looks(), facts.next_look()), (2, 4));
    }

    #[test]
    fn a_fixed_primary_leads_from_the_start_and_another_one_must_be_found() {
        let fixed = shared(|_| ());
        assert_eq!(fixed.lead(), Lead { epoch: 1, primary: Some(0) });
        let rule = PrimaryRule::Found { looks: 2, dwell: std::time::Duration::ZERO };
        let found = shared(|splitter| splitter.primary = rule);
        assert_eq!((found.lead(), found.vacancy()), (Lead::default(), Vacancy::Starting));
        assert!(fixed.accept(0).is_err() && fixed.announce_switchover(1).is_err());
        assert_eq!(found.set_duty(1, Duty::Drained), Duty::Ready);
        assert_eq!(found.view().servers[1].duty, Duty::Drained);
    }
}
