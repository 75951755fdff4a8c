//! Choosing a server: smooth weighted round-robin and weighted least-connections over the servers of one upstream.
//!
//! Pure: whether a server is up and what time it is come in with each call. It does not check servers, does not
//! connect, and knows nothing of other workers: its counts are those of one data worker.
//!
//! Servers are taken from the first of these groups that is not empty:
//!
//! 1. primary servers that are up and not resting; of these, the ones this request has not tried,
//! 2. backups that are up and not resting; the same,
//! 3. resting primary servers, then resting backups.
//!
//! *Resting* is the memory of a failed connect: for [`REST`] nothing is sent there while another server can answer.
//! After that one request a [`REST`] goes there, until a connect succeeds: a server that swallows packets costs one
//! request per period its connect time-out, not every request.

use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::config::Heirs;
use crate::config::model::{Balance, Server};

/// How long a server gets nothing after a failed connect, while another one can answer.
pub const REST: Duration = Duration::from_secs(1);

/// Servers one request has been sent to, by index. Allocates only beyond four.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried(SmallVec<[u32; 4]>);

impl Tried {
    /// Nothing tried yet.
    pub fn new() -> Tried {
        Tried::default()
    }

    /// Remembers `server`.
    pub fn insert(&mut self, server: usize) {
        if !self.contains(server) {
            self.0.push(server as u32);
        }
    }

    /// True when `server` was tried.
    pub fn contains(&self, server: usize) -> bool {
        self.0.iter().any(|&tried| tried as usize == server)
    }
}

/// Chooses servers for one upstream on one data worker; not `Send`.
///
/// The caller tells it what happens: [`on_start`](Self::on_start) and [`on_end`](Self::on_end) around each request sent
/// to a server (connecting included), [`on_connected`](Self::on_connected) or
/// [`on_connect_failed`](Self::on_connect_failed) after each connect.
#[derive(Debug)]
pub struct Balancer {
    method: Balance,
    slots: Vec<Slot>,
    one_worker: PhantomData<*const ()>,
}

#[derive(Debug)]
struct Slot {
    weight: i64,
    backup: bool,
    /// Requests under way, this worker's; shared with the same server under other configs.
    active: Rc<Cell<u32>>,
    /// Smooth round-robin: what this server is owed. The sum over all servers stays what it is.
    credit: i64,
    /// `Some` from a failed connect to the next one that succeeds.
    rests_until: Option<Instant>,
    /// Group in the present `pick`.
    group: Group,
}

/// Groups in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Primary,
    PrimaryTried,
    Backup,
    BackupTried,
    RestingPrimary,
    RestingPrimaryTried,
    RestingBackup,
    RestingBackupTried,
    Down,
}

impl Balancer {
    /// A balancer over `servers`.
    ///
    /// `worker` is the index of the data worker. Each starts that many turns into the same rotation, so that the first
    /// requests of all workers together follow the weights instead of all meeting the first server.
    pub fn new(method: Balance, servers: &[Server], worker: usize) -> Balancer {
        let slots = servers.iter().map(Slot::new).collect();
        let mut balancer = Balancer { method, slots, one_worker: PhantomData };
        for backup in [false, true] {
            for _ in 0..worker {
                next_in_turn(&mut balancer.slots, |slot| slot.backup == backup);
            }
        }
        balancer
    }

    /// Goes on for the servers that were in `old`, whose indexes there `heirs` tells: with their requests under way, their
    /// turns and their rest. `old` goes on to count the end of requests that began on it.
    pub fn inherit(&mut self, old: &Balancer, heirs: &Heirs) {
        for (slot, heir) in self.slots.iter_mut().zip(&heirs.0) {
            let Some(old) = heir.map(|heir| &old.slots[heir]) else { continue };
            slot.active = old.active.clone();
            (slot.credit, slot.rests_until) = (old.credit, old.rests_until);
        }
    }

    /// The server for the next request or the next try of one; `None` when no server is up (answer 503).
    ///
    /// A server of `tried` comes back only when no other of its group is left. O(servers), no allocation.
    pub fn pick(&mut self, up: impl Fn(usize) -> bool, tried: &Tried, now: Instant) -> Option<usize> {
        let group = self.group_all(up, tried, now);
        if group == Group::Down {
            return None;
        }
        let server = match self.method {
            Balance::RoundRobin => next_in_turn(&mut self.slots, |slot| slot.group == group),
            Balance::LeastConn => self.least_busy(group),
        }?;
        let slot = &mut self.slots[server];
        if slot.rests_until.is_some() {
            // This request is the trial; the next one waits until it is known how it went.
            slot.rests_until = Some(now + REST);
        }
        Some(server)
    }

    /// A request begins on `server`.
    pub fn on_start(&mut self, server: usize) {
        let active = &self.slots[server].active;
        active.set(active.get() + 1);
    }

    /// A request that began on `server` is over, however it ended.
    pub fn on_end(&mut self, server: usize) {
        let active = &self.slots[server].active;
        debug_assert!(active.get() > 0, "on_end without on_start");
        active.set(active.get().saturating_sub(1));
    }

    /// `server` accepted a connection or answered on one: it rests no longer.
    pub fn on_connected(&mut self, server: usize) {
        self.slots[server].rests_until = None;
    }

    /// A connect to `server` failed or timed out: it rests.
    pub fn on_connect_failed(&mut self, server: usize, now: Instant) {
        self.slots[server].rests_until = Some(now + REST);
    }

    /// Requests under way on `server`, this worker's.
    pub fn active(&self, server: usize) -> u32 {
        self.slots[server].active.get()
    }

    /// Sorts every server into its group and returns the best group that has one.
    fn group_all(&mut self, up: impl Fn(usize) -> bool, tried: &Tried, now: Instant) -> Group {
        let mut best = Group::Down;
        for (server, slot) in self.slots.iter_mut().enumerate() {
            slot.group = if up(server) { slot.group_when_up(tried.contains(server), now) } else { Group::Down };
            best = best.min(slot.group);
        }
        best
    }

    /// Of the servers of `group` with the fewest requests in relation to weight, the one whose turn it is.
    fn least_busy(&mut self, group: Group) -> Option<usize> {
        let members = self.slots.iter().filter(|slot| slot.group == group);
        let least = members.map(Slot::load).reduce(|least, load| if load.is_below(least) { load } else { least })?;
        // None is below the least one, so "not above it" means "equal to it".
        next_in_turn(&mut self.slots, |slot| slot.group == group && !least.is_below(slot.load()))
    }
}

impl Slot {
    fn new(server: &Server) -> Slot {
        Slot {
            weight: i64::from(server.weight.max(1)),
            backup: server.backup,
            active: Rc::default(),
            credit: 0,
            rests_until: None,
            group: Group::Down,
        }
    }

    fn group_when_up(&self, tried: bool, now: Instant) -> Group {
        let resting = self.rests_until.is_some_and(|until| now < until);
        match (resting, self.backup, tried) {
            (false, false, false) => Group::Primary,
            (false, false, true) => Group::PrimaryTried,
            (false, true, false) => Group::Backup,
            (false, true, true) => Group::BackupTried,
            (true, false, false) => Group::RestingPrimary,
            (true, false, true) => Group::RestingPrimaryTried,
            (true, true, false) => Group::RestingBackup,
            (true, true, true) => Group::RestingBackupTried,
        }
    }

    fn load(&self) -> Load {
        Load { active: u64::from(self.active.get()), weight: self.weight as u64 }
    }
}

/// Requests in relation to weight, compared as fractions.
#[derive(Clone, Copy)]
struct Load {
    active: u64,
    weight: u64,
}

impl Load {
    fn is_below(self, other: Load) -> bool {
        self.active * other.weight < other.active * self.weight
    }
}

/// Smooth weighted round-robin among the `eligible`: each earns its weight, the richest is chosen and pays what all of
/// them earned. Over any run of (sum of weights) turns with the same servers each is chosen weight times, spread evenly.
fn next_in_turn(slots: &mut [Slot], eligible: impl Fn(&Slot) -> bool) -> Option<usize> {
    let mut earned = 0;
    let mut richest: Option<(usize, i64)> = None;
    for (server, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| eligible(slot)) {
        slot.credit += slot.weight;
        earned += slot.weight;
        if richest.is_none_or(|(_, credit)| slot.credit > credit) {
            richest = Some((server, slot.credit));
        }
    }
    let (server, _) = richest?;
    slots[server].credit -= earned;
    Some(server)
}

#[cfg(test)]
mod tests;
