//! Which server of a splitter is the primary: a state machine that is fed with looks at the servers. Pure.
//!
//! ```text
//!              the only candidate, `looks` in a row, nothing missing, `dwell` over
//!   vacant ----------------------------------------------------------------------> led (epoch + 1)
//!      ^     it turns read-only or follows another one; it is silent `looks` times       |
//!      +---- in a row; another candidate shows up; the operator takes it out <-----------+
//! ```
//! A candidate is a server that takes writes and follows nobody. Two of them are none: whichever is meant, writes to the
//! other one would be lost. A server that led before another one did is *barred* until it is seen read-only or following, or
//! the operator accepts it: writable meanwhile, it is *fenced*.
//!
//! Members of one cluster (Galera, Group Replication) agree among themselves who may write; where several may, one is
//! chosen: the one that leads, else the first of the config. Whether a Galera node has applied what the one before has told
//! clients is part of its standing here (`look`).
//!
//! Goes in: looks, what clients were told is committed, the operator's orders, `now`. Comes out: [`Lead`] and [`Event`]s.

use std::time::{Duration, Instant};

use super::gtid::Position;

#[cfg(test)]
mod tests;

/// What it takes to become the primary.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// So many looks in a row must agree, both that a server may lead and that one which leads is gone.
    pub looks: u32,
    /// No server leads sooner than this after one began to.
    pub dwell: Duration,
}

/// What a server is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does not answer.
    Silent,
    /// It answers, but must not be written to for now, or does not say what it is: a member of a cluster that is not in
    /// step, a server that hides whether it replicates.
    Unready,
    /// It is read-only or follows another server.
    Follows,
    /// It takes writes and follows nobody.
    Writable,
}

/// One look at a server.
#[derive(Clone, Debug)]
pub struct Look {
    /// What it is good for.
    pub standing: Standing,
    /// All that it has applied; `None`: not known.
    pub position: Option<Position>,
    /// Name of the cluster whose members agree who writes; `None`: it belongs to none.
    pub cluster: Option<String>,
}

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    /// Goes up each time that a server begins to lead.
    pub epoch: u64,
    /// Index of the primary; `None`: there is none now.
    pub primary: Option<usize>,
}

/// Why a server no longer leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fall {
    /// It is read-only or follows another server.
    Follows,
    /// Its cluster does not let it write.
    Unready,
    /// It did not answer.
    Silent,
    /// It is not the only one that takes writes.
    Several,
    /// The operator took it out.
    TakenOut,
}

/// Why nobody leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Vacancy {
    /// Not every server was looked at yet.
    Starting = 0,
    /// No server takes writes.
    NoCandidate = 1,
    /// More than one takes writes.
    Several = 2,
    /// Those that take writes led before another one did.
    Fenced = 3,
    /// The one that takes writes lacks what clients were told is committed.
    Behind = 4,
    /// There is one; it must be seen more often, or the time between two changes is not over.
    Settling = 5,
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server leads from now on.
    Elected {
        /// Its index.
        server: usize,
        /// The one that led before, if any did.
        before: Option<usize>,
        /// It lacks some of what clients were told is committed, and the operator wanted it so.
        forgiven: bool,
    },
    /// The primary no longer leads.
    Fell(usize, Fall),
    /// These take writes at the same time.
    Several(Vec<usize>),
    /// The only candidate lacks what clients were told is committed.
    Behind(usize),
    /// It takes writes, although another one has led since it did.
    Fenced(usize),
    /// That is over.
    Freed(usize),
}

/// One server.
#[derive(Clone, Debug, Default)]
struct Member {
    look: Option<Look>,
    /// Looks in a row without an answer.
    silent: u32,
    /// The epoch it led in last, unless it was seen to follow since.
    led: Option<u64>,
    is_fenced: bool,
    taken_out: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Topology {
    rules: Rules,
    members: Vec<Member>,
    lead: Lead,
    /// The one that led last.
    last: Option<usize>,
    elected_at: Option<Instant>,
    /// The only candidate, and how often in a row it was seen to be.
    streak: Option<(usize, u32)>,
    /// What clients were told is committed.
    committed: Position,
    /// Tokens of earlier epochs count no more: the operator let them go.
    void_before: u64,
    accepted: Option<usize>,
    /// Told already.
    told: Told,
}

#[derive(Clone, Debug, Default)]
struct Told {
    several: Vec<usize>,
    behind: Option<usize>,
}

impl Topology {
    /// Nothing known yet of so many servers.
    pub fn new(servers: usize, rules: Rules) -> Topology {
        Topology {
            rules: Rules { looks: rules.looks.max(1), ..rules },
            members: (0..servers).map(|_| Member::default()).collect(),
            lead: Lead::default(),
            last: None,
            elected_at: None,
            streak: None,
            committed: Position::default(),
            void_before: 0,
            accepted: None,
            told: Told::default(),
        }
    }

    /// The same where a server leads already: it goes on to do so until looks say otherwise. Tokens of epochs before
    /// `void_before` count no more.
    pub fn led_by(servers: usize, rules: Rules, lead: Lead, void_before: u64) -> Topology {
        let mut topology = Topology { lead, last: lead.primary, void_before, ..Topology::new(servers, rules) };
        if let Some(primary) = lead.primary {
            topology.members[primary].led = Some(lead.epoch);
        }
        topology
    }

    /// From now on these count.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = Rules { looks: rules.looks.max(1), ..rules };
    }

    /// There are so many servers now, those that are gone included: the new ones have not been looked at.
    pub fn grow(&mut self, servers: usize) {
        self.members.resize_with(servers, Member::default);
    }

    /// A server that was taken out for good is there again, and nothing is known of it but that it may have led once.
    pub fn restore(&mut self, server: usize) {
        let led = self.members[server].led;
        self.members[server] = Member { led, ..Member::default() };
    }

    /// Who leads.
    pub fn lead(&self) -> Lead {
        self.lead
    }

    /// Whether it takes writes although another one has led since it did.
    pub fn is_fenced(&self, server: usize) -> bool {
        self.members[server].is_fenced
    }

    /// What clients were told is committed.
    pub fn committed(&self) -> &Position {
        &self.committed
    }

    /// Takes in what clients were told is committed, under leases of `epoch`.
    pub fn on_tokens(&mut self, epoch: u64, position: &Position) {
        if epoch >= self.void_before {
            // What is beyond all bounds is not known to be missing.
            let _ = self.committed.unite(position);
        }
    }

    /// Takes in a look.
    pub fn on_look(&mut self, server: usize, look: Look, now: Instant) -> Vec<Event> {
        let member = &mut self.members[server];
        member.silent = if look.standing == Standing::Silent { member.silent.saturating_add(1) } else { 0 };
        if look.standing == Standing::Follows {
            member.led = None;
        }
        member.look = Some(look);
        self.judge(Some(server), now)
    }

    /// The operator takes a server out, or lets it back in: out, it counts as one that is not there.
    pub fn take_out(&mut self, server: usize, out: bool, now: Instant) -> Vec<Event> {
        let member = &mut self.members[server];
        if std::mem::replace(&mut member.taken_out, out) != out {
            // What it was before says nothing of what it is when it comes back.
            (member.look, member.silent) = (None, 0);
        }
        self.judge(None, now)
    }

    /// The operator wants a server to lead as soon as it takes writes alone, whether it led before or lacks something. One that
    /// leads already needs no leave.
    ///
    /// Errors: the primary that leads and takes writes meanwhile.
    pub fn accept(&mut self, server: usize) -> Result<(), usize> {
        match self.lead.primary {
            Some(primary) if primary == server => Ok(()),
            Some(primary) if self.standing(primary) == Standing::Writable => Err(primary),
            _ => {
                self.members[server].led = None;
                self.accepted = Some(server);
                Ok(())
            }
        }
    }

    /// Why nobody leads; `None`: somebody does.
    pub fn vacancy(&self) -> Option<Vacancy> {
        if self.lead.primary.is_some() {
            return None;
        }
        let candidates = self.candidates();
        Some(match self.chosen(&candidates) {
            _ if self.is_starting() => Vacancy::Starting,
            Some(chosen) if self.lacks_something(chosen) => Vacancy::Behind,
            Some(_) => Vacancy::Settling,
            None if !candidates.is_empty() => Vacancy::Several,
            None if self.members.iter().any(|member| member.is_fenced) => Vacancy::Fenced,
            None => Vacancy::NoCandidate,
        })
    }

    fn is_starting(&self) -> bool {
        self.members.iter().any(|member| member.look.is_none() && !member.taken_out)
    }

    fn standing(&self, server: usize) -> Standing {
        match &self.members[server] {
            Member { taken_out: false, look: Some(look), .. } => look.standing,
            _ => Standing::Silent,
        }
    }

    fn cluster(&self, server: usize) -> Option<&str> {
        self.members[server].look.as_ref()?.cluster.as_deref()
    }

    /// It led before another one did, and was not seen to follow since. Members of a cluster know better themselves.
    fn is_barred(&self, server: usize) -> bool {
        self.members[server].led.is_some_and(|led| led < self.lead.epoch) && self.cluster(server).is_none()
    }

    fn candidates(&self) -> Vec<usize> {
        let may_lead = |server: &usize| self.standing(*server) == Standing::Writable && !self.is_barred(*server);
        (0..self.members.len()).filter(may_lead).collect()
    }

    /// The one that is to lead.
    fn chosen(&self, candidates: &[usize]) -> Option<usize> {
        let first = *candidates.first()?;
        let cluster = self.cluster(first);
        if candidates.len() > 1
            && (cluster.is_none() || candidates.iter().any(|server| self.cluster(*server) != cluster))
        {
            return None;
        }
        // One that answers again soon goes on; else whoever comes first.
        Some(self.lead.primary.filter(|primary| candidates.contains(primary)).unwrap_or(first))
    }

    fn lacks_something(&self, server: usize) -> bool {
        let position = self.members[server].look.as_ref().and_then(|look| look.position.as_ref());
        // One that does not tell what it has is not known to have it.
        let has_all = position.map_or(self.committed.is_empty(), |position| position.covers(&self.committed));
        self.cluster(server).is_none() && !has_all
    }

    /// `seen`: the server that was just looked at.
    fn judge(&mut self, seen: Option<usize>, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        let candidates = self.candidates();
        let chosen = self.chosen(&candidates);
        self.depose(chosen, &mut events);
        self.count(chosen, seen);
        let several = if chosen.is_none() { candidates } else { Vec::new() };
        if several != self.told.several {
            if !several.is_empty() {
                events.push(Event::Several(several.clone()));
            }
            self.told.several = several;
        }
        self.elect(now, &mut events);
        for server in 0..self.members.len() {
            let is_fenced = self.standing(server) == Standing::Writable && self.is_barred(server);
            if std::mem::replace(&mut self.members[server].is_fenced, is_fenced) != is_fenced {
                events.push(if is_fenced { Event::Fenced(server) } else { Event::Freed(server) });
            }
        }
        events
    }

    fn depose(&mut self, chosen: Option<usize>, events: &mut Vec<Event>) {
        let Some(primary) = self.lead.primary else { return };
        let fall = match self.standing(primary) {
            _ if self.members[primary].taken_out => Fall::TakenOut,
            Standing::Follows => Fall::Follows,
            Standing::Unready => Fall::Unready,
            Standing::Silent if self.members[primary].silent >= self.rules.looks => Fall::Silent,
            Standing::Writable if chosen != Some(primary) => Fall::Several,
            _ => return,
        };
        self.lead.primary = None;
        events.push(Event::Fell(primary, fall));
    }

    fn count(&mut self, chosen: Option<usize>, seen: Option<usize>) {
        let Some(chosen) = chosen else {
            self.streak = None;
            return;
        };
        let more = u32::from(seen == Some(chosen));
        self.streak = match self.streak {
            Some((server, count)) if server == chosen => Some((server, count.saturating_add(more))),
            _ => Some((chosen, more)),
        };
    }

    fn elect(&mut self, now: Instant, events: &mut Vec<Event>) {
        let Some((chosen, count)) = self.streak else { return };
        let is_led = self.lead.primary.is_some_and(|primary| self.standing(primary) != Standing::Silent);
        let settles = self.elected_at.is_some_and(|at| now.saturating_duration_since(at) < self.rules.dwell);
        if is_led || self.is_starting() || count < self.rules.looks || settles {
            return;
        }
        let lacks = self.lacks_something(chosen);
        if lacks && self.accepted != Some(chosen) {
            if self.told.behind.replace(chosen) != Some(chosen) {
                events.push(Event::Behind(chosen));
            }
            return;
        }
        if let Some(primary) = self.lead.primary.take() {
            events.push(Event::Fell(primary, Fall::Silent));
        }
        self.lead = Lead { epoch: self.lead.epoch + 1, primary: Some(chosen) };
        self.members[chosen].led = Some(self.lead.epoch);
        self.elected_at = Some(now);
        (self.accepted, self.told.behind) = (None, None);
        if lacks {
            self.void_before = self.lead.epoch;
            self.committed =
                self.members[chosen].look.as_ref().and_then(|look| look.position.clone()).unwrap_or_default();
        }
        events.push(Event::Elected { server: chosen, before: self.last.replace(chosen), forgiven: lacks });
    }
}
