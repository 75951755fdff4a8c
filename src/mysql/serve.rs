//! One splitter on one data worker: what its clients share.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use slab::Slab;

use super::backend::{Backend, InsertId, Key, LOGIN_BYTES_MAX, Target};
use super::causal::MustSee;
use super::frontier::Frontier;
use super::govern::spell;
use super::gtid::Position;
use super::hashed::Hashed;
use super::hold::Waiters;
use super::insight::Insight;
use super::login::Refusal;
use super::node::Written;
use super::pool::Pool;
use super::presence::{Presence, Presences};
use super::protocol::greeting::Greeting;
use super::protocol::response::{ErrPacket, UNREACHABLE};
use super::replicas::Replicas;
use super::settings::{Node, Settings};
use super::shared::{Duty, Health, Identity, Shared, Terms};
use super::sql::{Cache, Pin};
use super::transport::Transport;
use super::upkeep::Cooled;
use super::wire::Wire;
use crate::config::Config;
use crate::log::SlowLog;
use crate::metrics::{SplitterStats, Trace};
use crate::proxy::balance::Tried;
use crate::runtime::net::Stream;
use crate::runtime::time::timeout;
use crate::tls::TlsError;
use crate::util::growing::Growing;

/// From accept to the end of the login.
pub(super) const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that refused a connection is not tried for reads for so long.
const SUSPECT_TIME: Duration = Duration::from_secs(1);

/// Time between two looks at the alarms of clients.
pub(super) const ALARM_TICK: Duration = Duration::from_millis(250);
/// No tick: after 34 years.
const NEVER: u32 = u32::MAX;

/// As long as this stays the same, a server does not lose what it had: times that it came up, and the epoch before which
/// tokens are void.
pub(super) type Life = (u32, u64);

/// One splitter on one data worker.
pub struct Splitter {
    pub(super) settings: RefCell<Rc<Settings>>,
    pub(super) shared: Arc<Shared>,
    stats: Arc<SplitterStats>,
    pub(super) trace: Option<Arc<Trace>>,
    pub(super) data_worker: usize,
    /// Per server.
    pub(super) nodes: Growing<Node>,
    pub(super) classes: RefCell<Cache>,
    /// Of what is hidden, as `classes` know it.
    pub(super) surveyed: Cell<u64>,
    pub(super) insight: Insight,
    ids: Cell<u64>,
    pub(super) replicas: Replicas,
    pub(super) frontier: Frontier,
    pub(super) written: Written,
    draining: Cell<bool>,
    /// What sessions with clients are made with; `None`: no TLS is offered.
    tls: RefCell<Option<Arc<ServerConfig>>>,
    alarms: RefCell<Slab<Alarm>>,
    /// Looks at them so far.
    ticks: Cell<u32>,
    pub(super) cooled: Cooled,
    /// What the last client that logged on with `user` negotiated, for connections that are opened before they are needed.
    pub(super) usual_key: Cell<Key>,
    /// Statements that wait for a primary.
    pub(super) waiters: Waiters,
    pub(super) presences: Presences,
    /// Connections for KILL, open or being opened.
    pub(super) side_connections: Cell<usize>,
    pub(super) hashed: Hashed,
}

impl Splitter {
    /// The splitter `index` of `config` on data worker `data_worker`; `tls`: for clients that want it; `slow`: the log of
    /// statements that take long. Opens nothing. Must be called on that worker.
    ///
    /// Errors: settings for TLS with servers that rustls refuses; none that a checked config has.
    #[expect(clippy::too_many_arguments, reason = "everything that it is made of")]
    pub fn new(
        config: Arc<Config>,
        index: usize,
        shared: Arc<Shared>,
        stats: Arc<SplitterStats>,
        trace: Option<Arc<Trace>>,
        data_worker: usize,
        tls: Option<Arc<ServerConfig>>,
        slow: Option<SlowLog>,
    ) -> Result<Rc<Splitter>, TlsError> {
        let settings = Settings::new(Terms::new(config, index), slow, None)?;
        let classes = Cache::new(rand::random(), settings.wants_digests());
        let insight = Insight::new(stats.clone());
        let replicas = Replicas::new(&settings, data_worker, rand::random());
        let presences = Presences::new(data_worker, shared.kills.workers(), rand::random());
        let splitter = Rc::new(Splitter {
            settings: RefCell::new(Rc::new(settings)),
            stats,
            trace,
            data_worker,
            nodes: Growing::default(),
            classes: RefCell::new(classes),
            surveyed: Cell::new(0),
            insight,
            ids: Cell::new(1),
            replicas,
            frontier: Frontier::default(),
            written: Written::new(data_worker),
            draining: Cell::new(false),
            tls: RefCell::new(tls),
            alarms: RefCell::default(),
            ticks: Cell::new(0),
            cooled: Cooled::default(),
            usual_key: Cell::new(Key { capabilities: 0, collation: 45, account: 0 }),
            waiters: Waiters::default(),
            presences,
            side_connections: Cell::new(0),
            hashed: Hashed::default(),
            shared,
        });
        splitter.make_room(&splitter.config());
        splitter.take_orders();
        Ok(splitter)
    }

    /// What sessions with clients are made with from now on.
    pub fn set_tls(&self, tls: Option<Arc<ServerConfig>>) {
        self.tls.replace(tls);
    }

    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.borrow().clone()
    }

    /// Serves one client, whose connection comes from `peer`, until it leaves.
    pub async fn serve_client(self: Rc<Self>, stream: Stream, peer: Option<SocketAddr>) {
        self.stats().accepted.inc();
        let stream = Transport::new(stream);
        if !self.shared.client_came(self.config().clients_max) {
            self.stats().refused.inc();
            let _ = timeout(LOGIN_TIMEOUT, Box::pin(refuse(&stream, 0, 1040, b"08004", "Too many connections"))).await;
            return;
        }
        let seat = Seat::take(&self);
        let mut wire = Wire::new(stream);
        let login = async {
            let peer = self.client_address(&mut wire, peer).await?;
            self.log_on(&mut wire, peer, seat.place, &seat.presence).await
        };
        match timeout(LOGIN_TIMEOUT, Box::pin(login)).await {
            Ok(Ok(client)) => {
                self.stats().tls_clients.add(u64::from(wire.stream.is_tls()));
                client.run(&mut wire).await;
            }
            Ok(Err(Refusal::Error(code, state, message))) => {
                self.stats().refused.inc();
                let sequence_id = wire.next_sequence_id;
                let _ =
                    timeout(LOGIN_TIMEOUT, Box::pin(refuse(&wire.stream, sequence_id, code, state, &message))).await;
            }
            Ok(Err(Refusal::Silent)) | Err(_) => self.stats().refused.inc(),
        }
    }

    /// No new statements from now on: each client is told so once its statement or transaction is over.
    pub fn begin_drain(&self) {
        self.draining.set(true);
        for (_, alarm) in self.alarms.borrow().iter() {
            alarm.ring();
        }
    }

    /// Wakes this client when `time` is up, late by up to two of [`ALARM_TICK`]: what it waits for must ask
    /// [`Splitter::poll_alarm`]. One look for all spares each a timer for each thing it waits for.
    pub(super) fn set_alarm(&self, place: usize, time: Duration) {
        if let Some(alarm) = self.alarms.borrow_mut().get_mut(place) {
            // In 64 bits: this is done several times for each statement.
            let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let ticks = u32::try_from(ms.div_ceil(ALARM_TICK.as_millis() as u64)).unwrap_or(NEVER);
            // The present tick has begun already.
            alarm.due = self.ticks.get().saturating_add(ticks).saturating_add(1);
        }
    }

    /// Ready when the alarm of this client has gone off.
    pub(super) fn poll_alarm(&self, place: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut alarms = self.alarms.borrow_mut();
        let Some(alarm) = alarms.get_mut(place) else { return Poll::Pending };
        if alarm.due <= self.ticks.get() {
            return Poll::Ready(());
        }
        if !alarm.waker.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            alarm.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The next tick: wakes those whose alarm goes off.
    pub(super) fn tick(&self) {
        let now = self.ticks.get().saturating_add(1).min(NEVER - 1);
        self.ticks.set(now);
        let mut oldest = [0; Pin::COUNT];
        for (_, alarm) in self.alarms.borrow().iter() {
            if alarm.due <= now {
                alarm.ring();
            }
            if let Some((pin, since)) = alarm.pinned {
                let ticks = &mut oldest[pin.index()];
                *ticks = (*ticks).max(now.saturating_sub(since));
            }
        }
        let time = Instant::now();
        for node in self.nodes.iter() {
            node.pool.wake_moved();
            node.pool.wake_late(time);
        }
        for (gauge, ticks) in self.stats.pinned_oldest_ms.iter().zip(oldest) {
            gauge.set(u64::from(ticks) * ALARM_TICK.as_millis() as u64);
        }
    }

    /// The session of this client is pinned from now on, or for another reason than before, or no longer.
    pub(super) fn note_pin(&self, place: usize, pin: Option<Pin>) {
        if let Some(alarm) = self.alarms.borrow_mut().get_mut(place) {
            let since = alarm.pinned.map_or(self.ticks.get(), |(_, since)| since);
            alarm.pinned = pin.map(|pin| (pin, since));
        }
    }

    /// For how long it has been.
    pub(super) fn pin_age(&self, place: usize) -> Duration {
        let pinned = self.alarms.borrow().get(place).and_then(|alarm| alarm.pinned);
        pinned.map_or(Duration::ZERO, |(_, since)| ALARM_TICK * self.ticks.get().saturating_sub(since))
    }

    /// Whether [`Splitter::begin_drain`] was called.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// The connections to a server.
    pub(super) fn pool(&self, server: usize) -> &Pool {
        &self.nodes[server].pool
    }

    pub(super) fn stats(&self) -> &SplitterStats {
        &self.stats
    }

    pub(super) fn next_id(&self) -> u64 {
        let id = self.ids.get();
        self.ids.set(id + 1);
        id
    }

    pub(super) fn count_connections(&self, server: usize) {
        let stats = &self.stats().backends[server];
        stats.open.set(self.pool(server).open() as u64);
        stats.idle.set(self.pool(server).idle() as u64);
    }

    /// A client is about to be told that `gtids` are committed: whoever leads next must have them.
    pub(super) fn on_committed(&self, epoch: u64, gtids: &Position) {
        // Also while the config names the primary: another config may not.
        if let Some(tokens) = self.shared.tokens().get(self.data_worker) {
            tokens.raise(epoch, gtids);
        }
    }

    /// Remembers whether a server answers.
    pub(super) fn suspect(&self, server: usize, failed: bool) {
        self.nodes[server].suspect.set(failed.then(Instant::now));
    }

    pub(super) fn learn_identity(&self, greeting: Greeting) {
        if self.shared.identity().is_none() {
            self.shared.set_identity(&Identity::of(greeting), false);
        }
    }

    /// Whether reads may go to this replica now.
    fn is_eligible(&self, server: usize) -> bool {
        let facts = self.shared.server(server);
        let is_suspect = self.nodes[server].suspect.get().is_some_and(|since| since.elapsed() < SUSPECT_TIME);
        facts.is_eligible() && facts.duty() == Duty::Ready && !is_suspect
    }

    /// The same for a statement that was `tried` on some servers. The primary is no replica: nobody
    /// waits there for what it has itself.
    pub(super) fn is_usable(&self, server: usize, tried: &Tried) -> bool {
        !tried.contains(server) && self.shared.lead().primary != Some(server) && self.is_eligible(server)
    }

    /// Whether a server has what must be seen, or can be waited for until it has.
    fn may_show(&self, server: usize, must_see: &MustSee) -> bool {
        let in_cluster = self.shared.server(server).is_in_cluster();
        match must_see {
            MustSee::Anything => true,
            MustSee::Cluster => in_cluster,
            MustSee::Position(position) => !in_cluster || self.has_reached(server, position),
        }
    }

    /// The replica for a read: the session's own while it can serve, else one that has what the session must see,
    /// else any; `tried` ones are left out. `None`: the primary has to do it.
    pub(super) fn pick_replica(
        &self,
        sticky: Option<usize>,
        must_see: &MustSee,
        tried: &Tried,
        now: Instant,
    ) -> Option<usize> {
        let usable = |server: usize| self.is_usable(server, tried) && self.may_show(server, must_see);
        if let Some(server) = sticky.filter(|server| usable(*server)) {
            return Some(server);
        }
        let is_fresh = |server: usize| match must_see {
            MustSee::Position(position) => self.has_reached(server, position),
            MustSee::Anything | MustSee::Cluster => true,
        };
        let fresh = self.replicas.pick(|server| usable(server) && is_fresh(server), now);
        fresh.or_else(|| self.replicas.pick(usable, now))
    }

    /// Whether a server is known to have everything in `position`.
    pub(super) fn has_reached(&self, server: usize, position: &Position) -> bool {
        let facts = self.shared.server(server);
        if facts.has_reached(position) {
            return true;
        }
        let (life, mine) = &*self.nodes[server].reached.borrow();
        *life == self.life(server) && mine.covers(position)
    }

    /// A wait for `position` ended well on this server.
    pub(super) fn on_reached(&self, server: usize, position: &Position) {
        let life = self.life(server);
        let (known, mine) = &mut *self.nodes[server].reached.borrow_mut();
        if *known != life || !mine.unite(position) {
            (*known, *mine) = (life, position.clone());
        }
    }

    fn life(&self, server: usize) -> Life {
        (self.shared.server(server).generation(), self.shared.voided().before())
    }

    /// Text for clients when the primary cannot take a statement; `None` when it can be tried.
    pub(super) fn primary_trouble(&self, changes_something: bool) -> Option<(u16, &'static [u8], String)> {
        let lead = self.shared.lead();
        let Some(primary) = lead.primary else {
            let why = spell(self.shared.vacancy());
            let message = format!("there is no primary: {why}; reads go on where replicas can serve them");
            return Some((UNREACHABLE, b"HY000", message));
        };
        let (address, facts) = (self.shared.address(primary), self.shared.server(primary));
        match facts.health() {
            Health::Down => Some((
                UNREACHABLE,
                b"HY000",
                format!("the primary {address} does not answer; reads go on where replicas can serve them"),
            )),
            Health::ReadOnly if changes_something => Some((
                1290,
                b"HY000",
                format!("the primary {address} is read-only or replicates itself, so this statement was not executed"),
            )),
            _ if facts.duty() != Duty::Ready => {
                Some((UNREACHABLE, b"HY000", format!("the primary {address} was drained by the operator")))
            }
            _ if self.shared.is_announced() => {
                Some((UNREACHABLE, b"HY000", "another server is about to become the primary".into()))
            }
            _ => None,
        }
    }

    /// Whether another server leads by now.
    pub(super) fn is_deposed(&self, server: usize) -> bool {
        let lead = self.shared.lead().primary;
        lead.is_some_and(|primary| primary != server) && self.shared.server(server).turn() > 0
    }

    /// How to reach a server and log on to it with an account.
    pub(super) fn target<'a>(&'a self, config: &'a Settings, server: usize, account: u16) -> Target<'a> {
        let address = self.shared.address(server);
        Target {
            address,
            user: config.account_name(account.into()),
            secret: config.accounts.get(account).secret(),
            tls: config.server_tls.as_ref().zip(config.tls_name(address)),
            compression: config.servers[server].compression,
            public_key: config.server_public_key.as_ref(),
            timeout: config.connect_timeout,
        }
    }

    /// Asks a server for its name and version, once, when the monitor has not done so yet.
    pub(super) async fn identity(&self) -> Option<Arc<Identity>> {
        let config = self.config();
        for (server, _) in config.present() {
            if self.shared.identity().is_some() {
                break;
            }
            let key = Key { capabilities: 0, collation: 45, account: 0 };
            let limit = config.connect_timeout.min(LOGIN_TIMEOUT / 4);
            let target = Target { timeout: limit, ..self.target(&config, server, key.account) };
            if let Ok((_, greeting)) = Backend::open(target, self.next_id(), server, key, None).await {
                self.learn_identity(greeting);
            }
        }
        self.shared.identity()
    }
}

/// What ends a client's wait, and what is told of how long it lasts; every client has one, all in one place, which is read through
/// at each tick.
struct Alarm {
    waker: Option<Waker>,
    /// Tick at which it goes off.
    due: u32,
    /// What its session is pinned by, and since which tick.
    pinned: Option<(Pin, u32)>,
}

impl Alarm {
    fn ring(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// A new session's last insert id.
pub(super) const NO_INSERT_ID: InsertId = InsertId::Known(0);

/// Makes the login packets readable for [`Wire`].
pub(super) const LOGIN_PACKET_MAX: usize = LOGIN_BYTES_MAX;

/// A client's place among those connected; given up when dropped.
struct Seat {
    splitter: Rc<Splitter>,
    place: usize,
    presence: Rc<Presence>,
}

impl Seat {
    fn take(splitter: &Rc<Splitter>) -> Seat {
        splitter.stats().clients.inc();
        let place = splitter.alarms.borrow_mut().insert(Alarm { waker: None, due: NEVER, pinned: None });
        Seat { splitter: Rc::clone(splitter), place, presence: splitter.presences.enter() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.splitter.alarms.borrow_mut().try_remove(self.place);
        self.splitter.presences.leave(&self.presence);
        self.splitter.stats().clients.dec();
        self.splitter.shared.client_left();
    }
}

async fn refuse(stream: &Transport, sequence_id: u8, code: u16, state: &[u8], message: &str) -> io::Result<()> {
    let mut out = Vec::with_capacity(message.len() + 16);
    ErrPacket { code, sql_state: state, message: message.as_bytes() }.encode(&mut out, sequence_id);
    stream.write_all(out).await.0
}
