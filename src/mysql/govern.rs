//! What the control thread makes of looks at the servers of one splitter: feeds the [`Topology`], publishes who leads and
//! who may be read from, tells the operator, takes orders.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::defaults::{Beginning, Defaults};
use super::gtid::Position;
use super::look::{Replication, Seen};
use super::shared::{Duty, Health, LAG_UNKNOWN, Shared};
use super::topology::{Event, Fall, Lead, Look, Rules, Standing, Topology, Vacancy};
use crate::config::model::{PrimaryRule, Splitter};

/// A switchover that was announced and does not come is forgotten after this, where `primary_wait` is shorter.
const ANNOUNCED_MIN: Duration = Duration::from_secs(5);

/// What the control thread alone knows and decides; it alone takes the lock.
#[derive(Debug)]
pub struct Council {
    /// `None`: the primary is fixed.
    pub(super) topology: Option<Topology>,
    /// By server, what the last look saw; `None`: it does not answer, or was not looked at.
    pub(super) seen: Vec<Option<Seen>>,
    /// With what sessions begin on the primary, as it was when it was looked at last.
    defaults: Option<Defaults>,
    /// By server, with what its sessions began when it answered last.
    pub(super) begun_with: Vec<Option<(Defaults, Beginning)>>,
    /// By server, its last sign of life, whatever became of it since.
    pub(super) answered: Vec<Option<Answered>>,
    pub(super) announced: Option<Announced>,
    /// Times that another server than the one before began to lead.
    pub(super) switchovers: u64,
    /// While the primary is fixed: what clients of those before it were told is committed ...
    pub(super) acknowledged: Position,
    /// ... and whether the present one was seen to have it, or not to.
    pub(super) is_compared: bool,
}

/// When a server answered last, and who it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) at: Instant,
    pub(super) server_id: u32,
}

#[derive(Debug)]
pub(super) struct Announced {
    pub(super) server: usize,
    until: Instant,
}

/// One splitter, for people.
#[derive(Clone, Debug)]
pub struct View {
    /// Goes up each time that a server begins to lead; `None`: the primary is fixed.
    pub epoch: Option<u64>,
    /// Index of the primary.
    pub primary: Option<usize>,
    /// Why nobody leads.
    pub vacancy: Option<&'static str>,
    /// The server that the operator has announced as the next primary.
    pub announced: Option<usize>,
    /// Times that another server than the one before began to lead.
    pub switchovers: u64,
    /// Statements that wait for a primary.
    pub held: usize,
    /// Tables and views that do what no statement shows.
    pub hidden: usize,
    /// Why not all of them are known.
    pub unseen: Option<String>,
    /// Those that are not gone.
    pub servers: Vec<ServerView>,
}

/// One server, for people.
#[derive(Clone, Debug)]
pub struct ServerView {
    /// Its index.
    pub index: usize,
    /// `primary`, `replica` or `fenced`.
    pub role: &'static str,
    /// `unknown`, `down`, `read-only` or `writable`.
    pub health: &'static str,
    /// Statements may go to it.
    pub up: bool,
    /// How far it is behind the primary, milliseconds; `None`: not known, or it is the primary.
    pub lag_ms: Option<u64>,
    /// How long it takes to answer the monitor; `None`: it does not.
    pub latency: Option<Duration>,
    /// What it has applied, as it says.
    pub position: String,
    /// What the operator wants of it.
    pub duty: Duty,
}

impl Council {
    /// Nothing known yet.
    pub fn new(splitter: &Splitter) -> Council {
        let topology = match splitter.primary {
            PrimaryRule::Fixed(_) => None,
            PrimaryRule::Found { looks, dwell } => Some(Topology::new(splitter.servers.len(), Rules { looks, dwell })),
        };
        let mut council = Council {
            topology,
            seen: Vec::new(),
            defaults: None,
            begun_with: Vec::new(),
            answered: Vec::new(),
            announced: None,
            switchovers: 0,
            acknowledged: Position::default(),
            is_compared: true,
        };
        council.grow(splitter.servers.len());
        council
    }

    /// Whether what a replica applies comes, as far as is known, from the primary.
    fn follows_primary(&self, server: usize, primary: Option<usize>) -> bool {
        let (Some(primary), Some(_)) = (primary, &self.topology) else { return true };
        let mut at = server;
        for _ in 0..self.seen.len() {
            let source = match &self.seen[at] {
                Some(Seen { replication: Replication::Behind { source, .. }, .. }) => *source,
                _ => return false,
            };
            let is_source = |seen: &Option<Seen>| seen.as_ref().is_some_and(|seen| seen.server_id == source);
            match self.seen.iter().position(is_source) {
                Some(known) if source != 0 && known == primary => return true,
                Some(known) if source != 0 => at = known,
                // Somebody who is not in the config, and may well follow the primary.
                _ => return true,
            }
        }
        false
    }

    /// Whether nobody can write, so that a replica which is cut off falls no further behind.
    fn nobody_writes(&self, shared: &Shared) -> bool {
        match &self.topology {
            None => shared.lead().primary.is_none_or(|primary| shared.server(primary).health() == Health::Down),
            Some(_) => shared.present().all(|server| shared.server(server).health() != Health::Writable),
        }
    }

    /// Lag in milliseconds, and whether reads may go there.
    fn eligibility(&self, shared: &Shared, server: usize) -> (u64, bool) {
        let primary = shared.lead().primary;
        let Some(seen) = &self.seen[server] else { return (LAG_UNKNOWN, false) };
        if primary != Some(server) && self.defaults.as_ref().is_some_and(|known| seen.defaults.unlike(known).is_some())
        {
            return (LAG_UNKNOWN, false);
        }
        let is_quick = shared.config().latency_max.is_none_or(|most| seen.latency <= most);
        if let Some(member) = &seen.cluster {
            let lag_ms = if seen.is_galera() && member.in_step { 0 } else { LAG_UNKNOWN };
            return (lag_ms, is_quick && member.in_step && primary != Some(server));
        }
        let (lag_ms, eligible) = match seen.replication {
            Replication::Behind { lag, .. } => {
                let is_fresh = is_quick && lag <= shared.config().lag_max;
                (lag.as_millis() as u64, is_fresh && self.follows_primary(server, primary))
            }
            Replication::Disconnected => (LAG_UNKNOWN, self.nobody_writes(shared)),
            _ => (LAG_UNKNOWN, false),
        };
        (lag_ms, eligible && primary != Some(server))
    }
}

/// Why nobody leads, for people.
pub(super) fn spell(vacancy: Vacancy) -> &'static str {
    match vacancy {
        Vacancy::Starting => "not every server was looked at yet",
        Vacancy::NoCandidate => "no server takes writes: all are down, read-only or follow another one",
        Vacancy::Several => "more than one server takes writes",
        Vacancy::Fenced => "the only server that takes writes is fenced: another one has led since it did",
        Vacancy::Behind => "the only server that takes writes lacks transactions that clients were told are committed",
        Vacancy::Settling => "the server that takes writes has not been looked at often enough yet",
    }
}

impl Shared {
    pub(super) fn council(&self) -> MutexGuard<'_, Council> {
        self.council.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be the next primary, as none is known to be well.
    pub(super) fn may_succeed(&self, server: usize) -> bool {
        let is_well = |primary: usize| self.server(primary).health() == Health::Writable;
        self.finds_primary() && self.lead().primary.is_none_or(|primary| primary != server && !is_well(primary))
    }

    /// Takes in what a look saw; `None`: the server does not answer.
    pub(super) fn on_seen(&self, server: usize, seen: Option<Seen>, now: Instant) {
        let mut council = self.council();
        let seen = seen.map(|seen| if self.may_succeed(server) { seen.in_succession() } else { seen });
        let health = match &seen {
            None => Health::Down,
            Some(seen) if council.topology.is_none() && seen.read_only => Health::ReadOnly,
            Some(_) if council.topology.is_none() => Health::Writable,
            Some(seen) if seen.look().standing == Standing::Writable => Health::Writable,
            Some(_) => Health::ReadOnly,
        };
        if let Some(seen) = &seen {
            // What the primary has applied is all that it wrote, too.
            let leads = self.lead().primary == Some(server);
            let position = seen.current.as_ref().filter(|_| leads).unwrap_or(&seen.position);
            self.server(server).set_position(position);
            self.server(server).set_in_cluster(seen.is_galera());
        }
        self.server(server).set_health(health);
        // Before connections are opened that have it: sessions that are there keep what they began with.
        if let Some(seen) = &seen {
            match self.lead().primary {
                Some(primary) if primary == server => self.set_beginning(server, &seen.beginning),
                Some(_) => {}
                // Until one leads: statements are cut into tokens before that.
                None => self.set_mode(seen.beginning.mode(self.mode())),
            }
        }
        // Connections that were opened before have what was set globally then.
        if let Some(Seen { defaults, beginning, .. }) = &seen {
            let before = &mut council.begun_with[server];
            let is_same = before.as_ref().is_some_and(|before| before.0 == *defaults && before.1 == *beginning);
            if !is_same && before.replace((defaults.clone(), beginning.clone())).is_some() {
                self.server(server).end_term();
            }
        }
        let look = seen.as_ref().map_or(Look { standing: Standing::Silent, position: None, cluster: None }, Seen::look);
        council.seen[server] = seen;
        self.decide(&mut council, |topology| topology.on_look(server, look.clone(), now));
        if council.announced.as_ref().is_some_and(|announced| announced.until <= now) {
            tracing::warn!(splitter = %self.config().name, "the switchover that was announced did not come: writes go on");
            council.announced = None;
            self.announce(false);
        }
        self.compare_appointed(&mut council);
        if self.lead().primary == Some(server)
            && let Some(seen) = &council.seen[server]
        {
            council.defaults = Some(seen.defaults.clone());
        }
        // One that leads since this look as well: what is set there from now on is not what sessions began with.
        self.begin_with(&council, self.lead().primary);
        if self.lead().primary == Some(server) && council.seen[server].is_some() {
            self.confirm_beginning(server);
        }
        self.publish_ways(&council);
        self.publish_eligibility(&council);
    }

    /// Takes what has happened to the topology, and publishes what follows. Before another server leads, what clients of the one
    /// before were told is read once more, when no more can come to it.
    pub(super) fn decide(&self, council: &mut Council, step: impl Fn(&mut Topology) -> Vec<Event>) {
        let Some(topology) = &mut council.topology else { return };
        self.read_tokens(topology);
        let mut trial = topology.clone();
        let elected = |events: &[Event]| {
            events.iter().find_map(|event| if let Event::Elected { server, .. } = event { Some(*server) } else { None })
        };
        let closed = elected(&step(&mut trial)).map(|next| self.closing.close(topology.lead().epoch, next));
        if closed.is_some() {
            self.read_tokens(topology);
        }
        let events = step(topology);
        if let Some(before) = closed
            && elected(&events).is_none()
        {
            self.closing.reopen(before);
        }
        self.apply(council, events);
    }

    fn read_tokens(&self, topology: &mut Topology) {
        for tokens in self.tokens() {
            let (epoch, position) = tokens.get();
            topology.on_tokens(epoch, &position);
        }
    }

    /// By what reads can be shown to be fresh: as the primary says.
    fn publish_ways(&self, council: &Council) {
        if let Some(primary) = self.lead().primary
            && let Some(seen) = &council.seen[primary]
        {
            self.set_tells_gtids(seen.no_gtids().is_none());
            self.set_galera(seen.is_galera());
        }
    }

    /// In what a session's beginning on this server is not that on the primary, for people.
    pub(super) fn other_default(&self, seen: &Seen) -> Option<String> {
        self.council().defaults.as_ref().and_then(|defaults| seen.defaults.unlike(defaults))
    }

    /// When a server answered last.
    pub(super) fn answered(&self, server: usize) -> Option<Answered> {
        self.council().answered[server]
    }

    /// Monitor only.
    pub(super) fn set_answered(&self, server: usize, answered: Answered) {
        self.council().answered[server] = Some(answered);
    }

    /// Number of servers that are looked at and directed, those that are gone included. There is room for more already while
    /// they are being added.
    pub(super) fn members(&self) -> usize {
        self.council().seen.len()
    }

    pub(super) fn publish_eligibility(&self, council: &Council) {
        for server in 0..council.seen.len() {
            if let Some(seen) = &council.seen[server] {
                let (_, era) = self.beginning();
                let is_other =
                    era.beginning.server.is_some() && seen.beginning.isolation() != era.beginning.isolation();
                self.server(server).set_other_isolation(is_other);
            }
            let (lag_ms, eligible) = council.eligibility(self, server);
            self.server(server).set_lag(lag_ms, eligible);
        }
    }

    /// Publishes and tells what the topology has decided.
    pub(super) fn apply(&self, council: &mut Council, events: Vec<Event>) {
        let Some(topology) = &council.topology else { return };
        let lead = topology.lead();
        if events.iter().any(|event| matches!(event, Event::Fell(..))) {
            // Before its term ends: whoever opens a connection of the next term must not take it for one to the primary.
            self.set_lead(Lead { primary: None, ..self.lead() }, topology.vacancy());
        }
        for event in &events {
            match event {
                Event::Elected { server, before, forgiven } => {
                    self.server(*server).end_turn();
                    if *forgiven {
                        self.voided().set(lead.epoch, topology.committed().clone());
                    }
                    council.switchovers += u64::from(before.is_some_and(|before| before != *server));
                    council.announced = None;
                    self.announce(false);
                }
                Event::Fell(server, _) => self.server(*server).end_turn(),
                Event::Fenced(server) => self.server(*server).set_fenced(true),
                Event::Freed(server) => self.server(*server).set_fenced(false),
                Event::Several(_) | Event::Behind(_) => {}
            }
            self.tell_event(event, lead);
        }
        self.begin_with(council, lead.primary);
        self.set_lead(lead, topology.vacancy());
    }

    /// Before a server leads: statements that come then are read as its sessions read them.
    pub(super) fn begin_with(&self, council: &Council, primary: Option<usize>) {
        if let Some(primary) = primary
            && let Some(seen) = &council.seen[primary]
        {
            self.set_beginning(primary, &seen.beginning);
        }
    }

    fn tell_event(&self, event: &Event, lead: Lead) {
        let (config, name) = (self.config(), |server: usize| self.address(server).to_string());
        let splitter = &config.name;
        match event {
            Event::Elected { server, before, forgiven } => {
                let (server, before, epoch) = (name(*server), before.map(name), lead.epoch);
                match before {
                    Some(before) => tracing::warn!(splitter, server, before, epoch, "mysql server is the primary"),
                    None => tracing::info!(splitter, server, epoch, "mysql server is the primary"),
                }
                if *forgiven {
                    tracing::error!(
                        splitter,
                        server,
                        epoch,
                        "the primary lacks transactions that clients were told are committed, as the operator wanted it"
                    );
                }
            }
            Event::Fell(server, fall) => {
                let why = match fall {
                    Fall::Follows => "it is read-only or follows another server",
                    Fall::Unready => "its cluster does not let it write, or it hides whether it replicates",
                    Fall::Silent => "it does not answer",
                    Fall::Several => "it is not the only one that takes writes",
                    Fall::TakenOut => "the operator took it out",
                };
                tracing::warn!(splitter, server = name(*server), why, wait = ?config.primary_wait,
                    "mysql server is no longer the primary: writes wait for another one");
            }
            Event::Several(servers) => {
                let servers: Vec<String> = servers.iter().map(|server| name(*server)).collect();
                tracing::error!(
                    splitter,
                    servers = servers.join(", "),
                    "more than one server takes writes: there is no primary, writes wait and are then refused; set read_only \
                     on all but one, or let them follow it"
                );
            }
            Event::Behind(server) => {
                let server = name(*server);
                tracing::error!(
                    splitter,
                    server,
                    "the only server that takes writes lacks transactions that clients were told are committed: it is not \
                     taken for the primary; `one-server ctl mysql accept {splitter}/{server}` takes it all the same"
                );
            }
            Event::Fenced(server) => {
                let server = name(*server);
                tracing::error!(
                    splitter,
                    server,
                    "fenced: the server takes writes although another one has led since it did; set read_only there and let \
                     it follow the primary"
                );
            }
            Event::Freed(server) => {
                tracing::info!(splitter, server = name(*server), "mysql server is no longer fenced");
            }
        }
    }

    /// Time until a server is looked at again: shorter while writes wait for what is seen.
    pub(super) fn look_interval(&self) -> Duration {
        let interval = self.config().monitor_interval.max(Duration::from_millis(10));
        let soon = (interval / 4).max(Duration::from_millis(50)).min(interval);
        let is_urgent = self.is_announced() || self.finds_primary() && self.lead().primary.is_none();
        if is_urgent { soon } else { interval }
    }

    /// Sets what the operator wants of a server; returns what it was.
    pub fn set_duty(&self, server: usize, duty: Duty) -> Duty {
        let mut council = self.council();
        let was = self.server(server).set_duty(duty);
        if !duty.is_watched() {
            self.server(server).set_health(Health::Down);
            council.seen[server] = None;
        }
        let now = Instant::now();
        self.decide(&mut council, |topology| topology.take_out(server, !duty.is_watched(), now));
        self.publish_eligibility(&council);
        self.doubt(server);
        was
    }

    /// Lets a server lead that is fenced or lacks something, as soon as it takes writes alone.
    ///
    /// Errors: for a person.
    pub fn accept(&self, server: usize) -> Result<(), String> {
        let mut council = self.council();
        let Some(topology) = &mut council.topology else {
            return Err("the config names one fixed primary: nobody else can become it".into());
        };
        let leads =
            |primary: usize| format!("{} leads and takes writes: set it read_only first", self.address(primary));
        topology.accept(server).map_err(leads)?;
        tracing::warn!(splitter = %self.config().name, server = %self.address(server),
            "the operator accepts the server as the primary, whether it is fenced or lacks something");
        self.doubt(server);
        Ok(())
    }

    /// The operator is about to make a server the primary: writes wait from now on.
    ///
    /// Errors: for a person.
    pub fn announce_switchover(&self, server: usize) -> Result<(), String> {
        let mut council = self.council();
        let (config, address) = (self.config(), self.address(server));
        if council.topology.is_none() {
            return Err("the config names one fixed primary: no other one would be found".into());
        }
        if self.lead().primary == Some(server) {
            return Err(format!("{address} is the primary already"));
        }
        let wait = config.primary_wait.max(ANNOUNCED_MIN);
        council.announced = Some(Announced { server, until: Instant::now() + wait });
        self.announce(true);
        tracing::info!(splitter = %config.name, server = %address, wait = ?wait, "a switchover is announced: writes wait");
        self.present().for_each(|server| self.doubt(server));
        Ok(())
    }

    /// Everything for people.
    pub fn view(&self) -> View {
        let council = self.council();
        let lead = self.lead();
        let server = |index: usize| {
            let facts = self.server(index);
            let is_primary = lead.primary == Some(index);
            let health = facts.health();
            let role = match () {
                () if is_primary => "primary",
                () if facts.is_fenced() => "fenced",
                () => "replica",
            };
            ServerView {
                index,
                role,
                health: match health {
                    Health::Unknown => "unknown",
                    Health::Down => "down",
                    Health::ReadOnly => "read-only",
                    Health::Writable => "writable",
                },
                up: facts.duty() == Duty::Ready
                    && if is_primary { health == Health::Writable } else { facts.is_eligible() },
                lag_ms: Some(facts.lag_ms()).filter(|lag| !is_primary && *lag != LAG_UNKNOWN),
                latency: council.seen[index].as_ref().map(|seen| seen.latency),
                position: council.seen[index].as_ref().map(|seen| seen.shown.clone()).unwrap_or_default(),
                duty: facts.duty(),
            }
        };
        let (hidden, unseen) = self.survey.told();
        View {
            hidden,
            unseen,
            epoch: council.topology.as_ref().map(|_| lead.epoch),
            primary: lead.primary,
            vacancy: council.topology.as_ref().and_then(Topology::vacancy).map(spell),
            announced: council.announced.as_ref().map(|announced| announced.server),
            switchovers: council.switchovers,
            held: self.held(),
            servers: self.present().filter(|server| *server < council.seen.len()).map(server).collect(),
        }
    }
}
