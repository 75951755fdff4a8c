//! What is told of a statement that is over: counters, its row in the table of normal forms, its line in the slow log.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ahash::AHashMap;
use aws_lc_rs::digest::{SHA256, digest};

use super::client::Client;
use super::lease::Spot;
use super::protocol::command;
use super::protocol::follow::Outcome;
use super::rules::{Choice, Verdict};
use super::sql::{Mode, Pin};
use crate::log::{SlowEntry, SlowLog};
use crate::metrics::{DigestName, DigestRoute, Digests, Executed, SplitterStats};
use crate::runtime::time::unix_ms_roughly;

/// How a normal form is called in tables and logs: the first 64 bits of its SHA-256, the same on every machine.
fn digest_id(text: &[u8]) -> String {
    let hash = digest(&SHA256, text);
    hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The tables and logs of one splitter on one data worker.
pub(super) struct Insight {
    stats: Arc<SplitterStats>,
    table: RefCell<Table>,
    hasher: ahash::RandomState,
}

struct Table {
    version: u64,
    digests: Arc<Digests>,
    /// Row of each normal form with its database and account.
    places: AHashMap<u64, usize>,
}

/// What is known of the statement under way, and of who sends it.
#[derive(Debug)]
pub(super) struct Watch {
    /// Address of the client; `None`: a Unix socket.
    pub(super) peer: Option<SocketAddr>,
    /// Rules that are about the client.
    pub(super) rules: u128,
    /// What rules and comments say.
    pub(super) verdict: Verdict,
    /// When it came.
    pub(super) started: Instant,
    /// The client's id of the prepared statement that is executed.
    executes: Option<u32>,
    /// It is a statement of the client: a query or an execution.
    counts: bool,
    /// Until a replica had what the session must see.
    pub(super) causal_wait: Cell<Duration>,
}

impl Watch {
    pub(super) fn new(peer: Option<SocketAddr>, rules: u128) -> Watch {
        Watch {
            peer,
            rules,
            verdict: Verdict::default(),
            started: Instant::now(),
            executes: None,
            counts: false,
            causal_wait: Cell::default(),
        }
    }

    /// A statement begins.
    pub(super) fn begin(&mut self, code: Option<u8>, executes: Option<u32>) {
        self.started = Instant::now();
        self.executes = executes;
        self.counts = executes.is_some() || code == Some(command::QUERY);
        self.causal_wait.set(Duration::ZERO);
    }
}

impl Insight {
    /// Nothing counted yet.
    pub(super) fn new(stats: Arc<SplitterStats>) -> Insight {
        let version = stats.digests.version();
        let table = RefCell::new(Table { version, digests: stats.digests.current(), places: AHashMap::new() });
        Insight { stats, table, hasher: ahash::RandomState::new() }
    }

    /// Counts a statement in its row. `name` is asked when the row is a new one.
    fn count(&self, key: (u64, u16, &[u8]), name: impl FnOnce() -> DigestName, executed: &Executed) {
        let mut table = self.table.borrow_mut();
        let version = self.stats.digests.version();
        if table.version != version {
            table.version = version;
            if let Some(fresh) = self.stats.digests.take_fresh() {
                let rows = if fresh.follow(&table.digests) { fresh.rows_max() } else { 0 };
                table.places.retain(|_, at| *at < rows);
                table.digests = fresh;
            }
        }
        let Table { digests, places, .. } = &mut *table;
        let key = self.hasher.hash_one(key);
        match places.get(&key) {
            Some(at) => digests.row(*at).add(executed),
            None => match digests.insert(name) {
                Some(at) => {
                    places.insert(key, at);
                    digests.row(at).add(executed);
                }
                None => digests.other.add(executed),
            },
        }
    }
}

/// How a statement ended.
struct End<'a> {
    /// `None`: it was sent nowhere.
    spot: Option<Spot>,
    outcome: Option<&'a Outcome>,
    /// Error of ours.
    refused: Option<u16>,
}

impl Client {
    /// A server has answered, with a result or an error.
    pub(super) fn observe(&self, spot: Spot, outcome: &Outcome, duration: Duration) {
        self.observe_end(&End { spot: Some(spot), outcome: Some(outcome), refused: None }, duration);
    }

    /// The splitter itself has answered, with an error.
    pub(super) fn observe_refusal(&self, code: u16) {
        let duration = self.watch.started.elapsed();
        self.observe_end(&End { spot: None, outcome: None, refused: Some(code) }, duration);
    }

    fn observe_end(&self, end: &End<'_>, duration: Duration) {
        let (watch, stats) = (&self.watch, self.splitter.stats());
        let error = end.refused.or(end.outcome.and_then(|outcome| outcome.error));
        if end.outcome.is_some() && error.is_some() {
            stats.server_errors.inc();
        }
        // What is prepared only says something when it fails.
        if !watch.counts {
            return;
        }
        stats.questions.inc();
        match watch.verdict.choice.filter(|_| end.spot.is_some()) {
            Some(Choice::Primary) => stats.chosen_primary.inc(),
            Some(Choice::Replica) => stats.chosen_replica.inc(),
            None => {}
        }
        if self.settings().digests_max > 0 {
            self.count_digest(end, error.is_some(), duration);
        }
        if let Some(slow) = &self.settings().slow
            && duration >= slow.settings.threshold
        {
            stats.slow.inc();
            self.log_slow(slow, end, error, duration);
        }
    }

    fn count_digest(&self, end: &End<'_>, is_error: bool, duration: Duration) {
        let Some(digest) = self.watch.verdict.digest else { return };
        let schema = self.session.state.schema.as_deref().unwrap_or_default();
        let executed = Executed {
            route: match end.spot {
                Some(Spot { is_primary: true, .. }) => DigestRoute::Primary,
                Some(_) => DigestRoute::Replica,
                None => DigestRoute::Nowhere,
            },
            is_chosen: self.watch.verdict.choice.is_some(),
            is_error,
            rows_sent: end.outcome.map_or(0, |outcome| outcome.rows),
            rows_affected: end.outcome.map_or(0, |outcome| outcome.affected_rows),
            warnings: end.outcome.map_or(0, |outcome| u64::from(outcome.warnings)),
            duration,
            at_unix_ms: unix_ms_roughly(),
        };
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
        let name = || DigestName {
            id: self.normal_form(digest_id).into(),
            text: self.normal_form(lossy),
            schema: lossy(schema),
            user: self.settings().account_name(self.key.account.into()).into(),
        };
        self.splitter.insight.count((digest, self.key.account, schema), name, &executed);
    }

    /// What `read` makes of the normal form of the statement under way.
    fn normal_form<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        let mut classes = self.splitter.classes.borrow_mut();
        read(classes.digest(self.statement_text(), self.statement_mode()))
    }

    /// The statement under way, as it is sent to servers.
    pub(super) fn statement_text(&self) -> &[u8] {
        match self.watch.executes {
            Some(id) => self.statements.get(&id).map_or(&[], |statement| &statement.sql),
            None => self.sql(),
        }
    }

    /// How it is read.
    pub(super) fn statement_mode(&self) -> Mode {
        let executed = self.watch.executes.and_then(|id| self.statements.get(&id));
        executed.map_or(self.session.mode(), |statement| statement.mode)
    }

    fn log_slow(&self, slow: &SlowLog, end: &End<'_>, error: Option<u16>, duration: Duration) {
        let (config, watch) = (self.settings(), &self.watch);
        let text = self.statement_text();
        let cut = &text[..text.len().min(slow.settings.text_bytes_max)];
        let is_digest = slow.settings.digest_only;
        let normal_form = self.normal_form(<[u8]>::to_vec);
        slow.record(&SlowEntry {
            time: SystemTime::now(),
            splitter: &config.name,
            client: watch.peer,
            user: config.account_name(self.key.account.into()),
            schema: self.session.state.schema.as_deref(),
            server: end.spot.map(|spot| self.splitter.shared.address(spot.server).to_string()),
            route: end.spot.map(|spot| if spot.is_primary { "primary" } else { "replica" }),
            rule: watch.verdict.rule.map(|rule| &*config.rules.get(rule).name),
            pin: self.session.pin.map(Pin::name),
            pin_age: self.session.pin.map(|_| self.pin_age()),
            duration,
            causal_wait: watch.causal_wait.get(),
            rows_sent: end.outcome.map_or(0, |outcome| outcome.rows),
            rows_affected: end.outcome.map_or(0, |outcome| outcome.affected_rows),
            warnings: end.outcome.map_or(0, |outcome| outcome.warnings),
            error,
            digest: &digest_id(&normal_form),
            digest_text: is_digest.then_some(&normal_form),
            text: (!is_digest).then_some(cut),
            is_cut: !is_digest && cut.len() < text.len(),
        });
    }
}
