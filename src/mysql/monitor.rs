//! Looks at each server of a splitter every `monitor_interval`, more often while writes wait for what it sees, and hands
//! what it saw to [`super::govern`]. Runs on the control thread; the data path only reads the results.
//!
//! Only certain knowledge makes a replica eligible: both replication threads run and the lag is a number within
//! `lag_max`. NULL, an error or silence ejects it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError};
use tokio::time::timeout;

use super::backend::trackers;
use super::govern::Answered;
use super::look::{self, Questions, Replication, Seen, smoothed};
use super::probe::{Probe, ProbeError};
use super::shared::{Duty, Health, Identity, Shared};
use super::survey;
use super::topology::Standing;
use crate::config::model::{CausalReads, PrimaryRule};

/// A look that somebody wants follows the one before after this at the earliest: however many want one, this thread has other things
/// to do, and so has the server.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Watches the servers, which may change, until `stopped` turns true. Never fails: a server that does not answer is published as down.
pub async fn run(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    // Dropped, it ends all of them.
    let mut watchers = tokio::task::JoinSet::new();
    let mut watched: HashMap<usize, AbortHandle> = HashMap::new();
    let mut surveying = std::pin::pin!(survey::run(&shared));
    loop {
        for server in 0..shared.members() {
            let is_gone = shared.server(server).duty() == Duty::Gone;
            if is_gone && let Some(watcher) = watched.remove(&server) {
                watcher.abort();
            } else if !is_gone && !watched.contains_key(&server) {
                let shared = Arc::clone(&shared);
                watched.insert(server, watchers.spawn(async move { watch_server(&shared, server).await }));
            }
        }
        let ended = tokio::select! {
            () = shared.changed.notified() => None,
            Some(ended) = watchers.join_next() => ended.err(),
            _ = stopped.wait_for(|stop| *stop) => return,
            () = surveying.as_mut() => return,
        };
        // Those that were aborted are not watched any more.
        if let Some(error) = ended.filter(JoinError::is_panic) {
            begin_anew(&shared, &mut watched, &error).await;
        }
    }
}

/// Has a server watched again whose watcher has panicked: nobody may stay what the last look made of him.
async fn begin_anew(shared: &Shared, watched: &mut HashMap<usize, AbortHandle>, error: &JoinError) {
    let Some(server) = watched.iter().find(|(_, watcher)| watcher.id() == error.id()).map(|(server, _)| *server) else {
        return;
    };
    let (config, address) = (shared.config(), shared.address(server));
    tracing::error!(splitter = %config.name, server = %address, %error, "looking at the server has panicked: it begins anew");
    watched.remove(&server);
    // Else one that panics each time would keep this thread busy.
    tokio::time::sleep(shared.look_interval()).await;
}

/// A connection, and what was learned of the server there.
struct Contact {
    probe: Probe,
    questions: Questions,
    /// Index into [`STATUS`].
    status: usize,
    /// What the server said to session trackers, if it refused them.
    no_trackers: Option<String>,
    latency: Option<Duration>,
    /// When the last question was answered.
    answered: Instant,
    identity: Identity,
}

impl Contact {
    /// How long the server has been running, whole seconds; `None`: it does not say.
    async fn uptime(&mut self) -> Result<Option<Duration>, ProbeError> {
        let told = self.probe.query(b"SHOW GLOBAL STATUS LIKE 'Uptime'").await?;
        Ok(told.value(0, 1).and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs))
    }
}

/// The ways to one server.
#[derive(Default)]
struct Contacts {
    present: Option<Contact>,
    /// The one before a reload: while it answers, the server has not been started anew.
    former: Option<Contact>,
}

/// What of a server is worth a line in the log when it changes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    health: Health,
    is_eligible: bool,
    leads: bool,
    /// Of the primary.
    tells_gtids: bool,
}

async fn watch_server(shared: &Shared, server: usize) {
    let mut contacts = Contacts::default();
    let mut last: Option<State> = None;
    let mut terms = shared.config();
    shared.server(server).end_look();
    loop {
        let present = shared.config();
        if **terms != **present {
            // It may be reached in another way.
            terms = present;
            contacts.former = contacts.present.take().or(contacts.former);
        }
        if shared.server(server).duty().is_watched() {
            look_once(shared, server, &mut contacts, &mut last).await;
        } else {
            contacts = Contacts::default();
        }
        let looked = tokio::time::Instant::now();
        tokio::select! {
            () = tokio::time::sleep(shared.look_interval()) => {}
            () = shared.doubted(server) => tokio::time::sleep_until(looked + LOOK_PAUSE).await,
        }
    }
}

async fn look_once(shared: &Shared, server: usize, contacts: &mut Contacts, last: &mut Option<State>) {
    let (facts, limit) = (shared.server(server), shared.config().connect_timeout);
    facts.count_look();
    let seen = timeout(limit, see(shared, server, contacts)).await.unwrap_or(Err(ProbeError::Timeout));
    if seen.is_err() {
        *contacts = Contacts::default();
    }
    // The operator may have taken it out meanwhile.
    if facts.duty().is_watched() {
        shared.on_seen(server, seen.as_ref().ok().cloned(), Instant::now());
        let leads = shared.lead().primary == Some(server);
        let now = State {
            health: facts.health(),
            is_eligible: facts.is_eligible(),
            leads,
            tells_gtids: leads && shared.tells_gtids() == Some(true),
        };
        if last.replace(now) != Some(now) {
            tell(shared, server, &seen, now);
        }
    }
    facts.count_look();
}

/// Logs a change of a server's state.
fn tell(shared: &Shared, server: usize, seen: &Result<Seen, ProbeError>, now: State) {
    let State { health, is_eligible, leads, .. } = now;
    let (config, address) = (shared.config(), shared.address(server));
    let splitter = &config.name;
    let role = if leads { "primary" } else { "replica" };
    let seen = match seen {
        Err(error) => {
            tracing::warn!(splitter, server = %address, role, %error, "mysql server is down");
            return;
        }
        Ok(seen) => seen,
    };
    match seen.replication {
        _ if leads && health == Health::ReadOnly => {
            tracing::error!(splitter, server = %address, read_only = seen.read_only,
                "the primary is read-only: writes are refused until it is writable or the config names another primary");
        }
        Replication::Hidden if !leads => {
            tracing::error!(splitter, server = %address, user = %shared.config().user,
                "server is not used: the account may not see whether it replicates; grant it SLAVE MONITOR (REPLICATION CLIENT)");
        }
        // Who takes writes and is not the primary is told of elsewhere.
        _ if shared.finds_primary() && !leads && seen.look().standing == Standing::Writable => {}
        _ if !leads
            && !is_eligible
            && let Some(why) = shared.other_default(seen) =>
        {
            tracing::error!(splitter, server = %address, %why,
                "replica gets no reads: its sessions begin in another state than the primary's, so that the same statement would have \
                 another result there; set the global variable alike on both (time_zone, where the systems have different ones)");
        }
        _ if !leads && !is_eligible => {
            tracing::warn!(splitter, server = %address, replication = ?seen.replication, latency = ?seen.latency,
                "replica gets no reads: it is stopped, too far behind, does not follow the primary, its lag is not known, or \
                 it answers too slowly");
            if !seen.read_only && seen.replication == Replication::Broken {
                tracing::warn!(splitter, server = %address,
                    "a server that does not replicate any more is no primary before RESET REPLICA ALL");
            }
        }
        _ => tell_up(shared, server, seen, leads),
    }
}

fn tell_up(shared: &Shared, server: usize, seen: &Seen, leads: bool) {
    let (config, address) = (shared.config(), shared.address(server));
    let splitter = &config.name;
    let role = if leads { "primary" } else { "replica" };
    tracing::info!(splitter, server = %address, role, "mysql server is up");
    if leads && seen.cluster.is_none() && !matches!(seen.replication, Replication::None | Replication::Hidden) {
        tracing::warn!(splitter, server = %address, "the primary replicates from another server");
    }
    if let Some(why) = seen.no_gtids()
        && leads
        && !seen.is_galera()
        && config.causal_reads != CausalReads::Off
        && shared.present().count() > 1
    {
        tracing::error!(splitter, server = %address, %why,
            "replicas get no reads: the primary does not tell which transactions sessions write, so no read on a replica is \
             known to be fresh; mend that, or set causal_reads = \"off\"");
    }
}

/// A connection that was idle may have ended for reasons of its own (KILL, `wait_timeout`, a middlebox): only when a new one
/// fails, too, is the server down.
async fn see(shared: &Shared, server: usize, contacts: &mut Contacts) -> Result<Seen, ProbeError> {
    let was_there = contacts.present.is_some();
    let (seen, is_new) = match ask(shared, server, &mut contacts.present).await {
        Err(_) if was_there => (ask(shared, server, &mut contacts.present).await?, true),
        seen => (seen?, !was_there),
    };
    let former = contacts.former.take();
    let Some(contact) = &mut contacts.present else { return Ok(seen) };
    if is_new && let Some(before) = shared.answered(server) {
        look_for_restart(shared, server, contact, former, before, &seen).await?;
    }
    shared.set_answered(server, Answered { at: contact.answered, server_id: seen.server_id });
    Ok(seen)
}

/// A server that is met over a new connection may have been started anew, faster than anyone could see: then it may lack what
/// was not on its disk. `before`: when it answered last; `former`: the connection over which it did, if that may still be there.
async fn look_for_restart(
    shared: &Shared,
    server: usize,
    contact: &mut Contact,
    former: Option<Contact>,
    before: Answered,
    seen: &Seen,
) -> Result<(), ProbeError> {
    // Another one may have its address now.
    let is_the_same = before.server_id == seen.server_id;
    if is_the_same
        && let Some(mut former) = former
        && timeout(shared.config().connect_timeout / 4, former.uptime()).await.is_ok_and(|uptime| uptime.is_ok())
    {
        return Ok(());
    }
    let at_least = before.at.elapsed();
    let uptime = contact.uptime().await?;
    let at_most = before.at.elapsed();
    // Whole seconds are told: it was started up to one earlier than they say.
    let is_young = uptime.is_none_or(|uptime| uptime <= at_most + Duration::from_secs(1));
    let is_younger = uptime.is_some_and(|uptime| uptime + Duration::from_secs(1) < at_least);
    if is_young || !is_the_same {
        shared.server(server).on_restart(is_younger && is_the_same);
    }
    Ok(())
}

async fn ask(shared: &Shared, server: usize, kept: &mut Option<Contact>) -> Result<Seen, ProbeError> {
    let mut contact = match kept.take() {
        Some(contact) => contact,
        None => {
            let (mut probe, greeting) = Probe::open(shared, server).await?;
            if shared.config().primary != PrimaryRule::Fixed(server) {
                warn_about_rights(shared, server, &mut probe).await?;
            }
            let questions = Questions::new(&probe.query(Questions::which().as_bytes()).await?);
            let (is_mariadb, identity) = (greeting.is_mariadb(), Identity::of(greeting));
            let no_trackers = match probe.query(trackers(is_mariadb)).await {
                Ok(_) => None,
                Err(ProbeError::Refused(_, message)) => Some(message),
                Err(error) => return Err(error),
            };
            Contact { probe, questions, status: 0, no_trackers, latency: None, answered: Instant::now(), identity }
        }
    };
    shared.set_identity(&contact.identity, shared.lead().primary == Some(server));
    let started = Instant::now();
    let mut seen = Seen::new(&contact.probe.query(contact.questions.sql().as_bytes()).await?);
    seen.latency = smoothed(contact.latency, started.elapsed());
    contact.latency = Some(seen.latency);
    contact.answered = Instant::now();
    seen.no_trackers.clone_from(&contact.no_trackers);
    seen.replication = replication(&mut contact).await?;
    let probe = &mut contact.probe;
    if seen.in_galera {
        seen.cluster = look::galera(&probe.query(look::GALERA).await?);
        if let Some(member) = &mut seen.cluster
            && member.may_write
            && shared.may_succeed(server)
        {
            match timeout(shared.config().connect_timeout / 2, catch_up(probe)).await {
                Ok(has_all) => member.has_all = has_all?,
                // The answer is still to come: that connection is of no use.
                Err(_) => return Ok(seen),
            }
        }
    } else if !seen.group.is_empty() {
        seen.cluster = match probe.query(look::GROUP).await {
            Ok(members) => look::group(&members, &seen.group),
            // The account may not read the table: nothing certain is known.
            Err(ProbeError::Refused(1142, _)) => None,
            Err(error) => return Err(error),
        };
    }
    count_definitions(shared, server, &mut contact.probe).await?;
    *kept = Some(contact);
    Ok(seen)
}

/// Whether a Galera node has all that the cluster had committed when it is asked. Not answered before that, or a time-out of its own.
async fn catch_up(probe: &mut Probe) -> Result<bool, ProbeError> {
    match probe.query(look::CATCH_UP).await {
        Ok(_) => Ok(true),
        // It cannot be asked so (Percona XtraDB Cluster).
        Err(ProbeError::Refused(1064, _)) => Ok(true),
        Err(ProbeError::Refused(..)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Something may have been defined in other ways than through here.
async fn count_definitions(shared: &Shared, server: usize, probe: &mut Probe) -> Result<(), ProbeError> {
    if shared.lead().primary != Some(server) {
        return Ok(());
    }
    match probe.query(survey::DEFINITIONS).await {
        Ok(told) => shared.survey.on_counted(survey::counted(server, &told)),
        // Then it is looked for once in a while.
        Err(ProbeError::Refused(..)) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Replication of all channels, in the words of MariaDB, of MySQL since 8.0.22, of MySQL before. The first one that a server
/// understands is kept.
const STATUS: [&[u8]; 3] = [b"SHOW ALL SLAVES STATUS", b"SHOW REPLICA STATUS", b"SHOW SLAVE STATUS"];

async fn replication(contact: &mut Contact) -> Result<Replication, ProbeError> {
    loop {
        match contact.probe.query(STATUS[contact.status]).await {
            Ok(table) => return Ok(look::replication(&table)),
            Err(ProbeError::Refused(1227, _)) => return Ok(Replication::Hidden),
            Err(ProbeError::Refused(1064, _)) if contact.status + 1 < STATUS.len() => contact.status += 1,
            Err(error) => return Err(error),
        }
    }
}

/// An account that may write to a read-only server can make a replica diverge without anyone noticing.
async fn warn_about_rights(shared: &Shared, server: usize, probe: &mut Probe) -> Result<(), ProbeError> {
    let grants = probe.query(b"SHOW GRANTS").await?;
    for row in 0..grants.rows.len() {
        let grant = grants.value(row, 0).unwrap_or("");
        let Some((rights, _)) = grant.split_once(" ON *.*") else { continue };
        let all = rights.contains("ALL PRIVILEGES");
        if all || rights.contains("SUPER") || rights.contains("READ_ONLY ADMIN") || rights.contains("READ ONLY ADMIN")
            // MySQL lets it write in spite of read_only.
            || rights.contains("CONNECTION_ADMIN")
        {
            let (config, address) = (shared.config(), shared.address(server));
            tracing::warn!(splitter = %config.name, server = %address, user = %config.user,
                "the splitter's account may write to this replica in spite of read_only: revoke SUPER, READ_ONLY ADMIN and CONNECTION_ADMIN");
            break;
        }
    }
    Ok(())
}
