//! What `ctl mysql` shows and orders: the splitters and their servers.

use serde::{Deserialize, Serialize};

use super::State;
use crate::control::Shared;
use crate::control::orders;
use crate::control::shared::{AdminState, EventLevel, SplitterOrder, SplitterView};
use crate::metrics::{BackendStats, Gauge, Worker};
use crate::mysql::sql::Pin;

/// The splitters, in order of writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Splitters {
    /// Each of them.
    pub splitters: Vec<Splitter>,
}

/// One splitter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Splitter {
    /// Name in the config.
    pub name: String,
    /// Goes up each time that a server begins to be the primary; `None`: the config names a fixed one.
    pub epoch: Option<u64>,
    /// Why there is no primary.
    pub vacancy: Option<String>,
    /// The server that was announced as the next primary.
    pub announced: Option<String>,
    /// Times that another server than before became the primary.
    pub switchovers: u64,
    /// Statements that wait for a primary now.
    pub held: usize,
    /// Tables and views that do what no statement shows, so that sessions which use them are pinned.
    #[serde(default)]
    pub hidden: usize,
    /// Why not all of them are known.
    #[serde(default)]
    pub unseen: Option<String>,
    /// Sessions that are tied to one connection now, by the reason.
    pub pinned: Vec<Pinned>,
    /// Its servers, in order of writing.
    pub servers: Vec<Server>,
}

/// Sessions of a splitter that are tied to one connection for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// As metrics call it.
    pub reason: String,
    /// So many of them.
    pub sessions: u64,
    /// For how long the one that is tied for longest has been.
    pub oldest_ms: u64,
}

/// One server of a splitter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Where it listens.
    pub address: String,
    /// `primary`, `replica` or `fenced`.
    pub role: String,
    /// `unknown`, `down`, `read-only` or `writable`.
    pub health: String,
    /// Statements may go to it.
    pub up: bool,
    /// What the operator wants of it: `ready`, `drain` or `maintenance`.
    pub admin: String,
    /// How far it is behind the primary; `None`: not known, or it is the primary.
    pub lag_ms: Option<u64>,
    /// What it has applied, as it says.
    pub position: String,
    /// Connections open now.
    pub open: u64,
    /// Of these, not in use.
    pub idle: u64,
    /// Statements sent to it.
    pub statements: u64,
}

/// What is wanted of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// It is used for what it is.
    Ready,
    /// It finishes what it has: no new reads; of the primary, statements wait.
    Drain,
    /// The same; it is not looked at either, and counts as one that is not there.
    Maintenance,
    /// It may be the primary although it is fenced or lacks something.
    Accept,
    /// It is about to become the primary: statements wait for it from now on.
    Switchover,
}

/// An order that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// `SPLITTER/ADDRESS`.
    pub server: String,
    /// What was wanted.
    pub wanted: Wanted,
    /// What the operator wanted of it before: `ready`, `drain` or `maintenance`.
    pub was: String,
}

/// The splitters as they are now.
pub(super) fn view(shared: &Shared) -> Splitters {
    let one = |(index, view)| splitter(shared, index, view);
    Splitters { splitters: shared.splitters().into_iter().enumerate().map(one).collect() }
}

fn splitter(shared: &Shared, index: usize, view: SplitterView) -> Splitter {
    let server = |server: crate::control::shared::SplitterServerView| {
        let b = server.index;
        let backends = || shared.workers.iter().map(move |worker| &worker.splitters[index].backends[b]);
        let now = |gauge: fn(&BackendStats) -> &Gauge| backends().map(|backend| gauge(backend).value()).sum();
        Server {
            address: server.address,
            role: server.role.into(),
            health: server.health.into(),
            up: server.up,
            admin: server.admin.name().into(),
            lag_ms: server.lag_ms,
            position: server.position,
            open: now(|backend| &backend.open),
            idle: now(|backend| &backend.idle),
            statements: backends().map(|backend| backend.statements.value()).sum(),
        }
    };
    Splitter {
        name: view.name,
        epoch: view.epoch,
        vacancy: view.vacancy.map(Into::into),
        announced: view.announced,
        switchovers: view.switchovers,
        held: view.held,
        hidden: view.hidden,
        unseen: view.unseen,
        pinned: pinned(shared, index),
        servers: view.servers.into_iter().map(server).collect(),
    }
}

/// Those that there are.
fn pinned(shared: &Shared, splitter: usize) -> Vec<Pinned> {
    let of = |pin: Pin| {
        let gauges = shared.workers.iter().map(|worker| &worker.splitters[splitter].pinned[pin.index()]);
        let sessions = gauges.map(Gauge::value).sum();
        Pinned { reason: pin.name().into(), sessions, oldest_ms: oldest_pin_ms(shared, splitter, [pin]) }
    };
    Pin::ALL.into_iter().map(of).filter(|pinned| pinned.sessions > 0).collect()
}

/// For how long the session of a splitter that is tied for longest has been, of those with one of these reasons.
pub(in crate::control) fn oldest_pin_ms(
    shared: &Shared,
    splitter: usize,
    pins: impl IntoIterator<Item = Pin> + Clone,
) -> u64 {
    let of_worker = |worker: &Worker| {
        let gauges = &worker.splitters[splitter].pinned_oldest_ms;
        pins.clone().into_iter().map(|pin| gauges[pin.index()].value()).max()
    };
    shared.workers.iter().filter_map(|worker| of_worker(worker)).max().unwrap_or(0)
}

/// Carries out an order. Errors: there is no such server, and which there are; or it cannot be done.
pub(super) fn order(shared: &Shared, server: &str, wanted: Wanted, uid: u32) -> Result<Ordered, String> {
    let (splitter, index) = find(shared, server)?;
    let order = match wanted {
        Wanted::Ready => SplitterOrder::Set(State::Ready.into()),
        Wanted::Drain => SplitterOrder::Set(State::Drain.into()),
        Wanted::Maintenance => SplitterOrder::Set(State::Maintenance.into()),
        Wanted::Accept => SplitterOrder::Accept,
        Wanted::Switchover => SplitterOrder::Announce,
    };
    let was = shared.order_splitter(splitter, index, order)?;
    tracing::info!(server, ?wanted, was = was.name(), uid, "order for a server of a splitter");
    if let SplitterOrder::Set(state) = order {
        shared.note(
            EventLevel::Info,
            format!("mysql server {server} set to {}, was {}", AdminState::name(state), was.name()),
        );
    }
    Ok(Ordered { server: server.into(), wanted, was: was.name().into() })
}

fn find(shared: &Shared, server: &str) -> Result<(usize, usize), String> {
    let Some((name, address)) = orders::split(server) else {
        return Err(format!("`{server}` names no server: write SPLITTER/ADDRESS, for example main/10.0.0.10:3306"));
    };
    let splitters = &shared.config.splitters;
    let Some(splitter) = splitters.iter().position(|splitter| splitter.name == name) else {
        let known: Vec<&str> = splitters.iter().map(|splitter| splitter.name.as_str()).collect();
        return Err(match known.is_empty() {
            true => format!("no splitter is called `{name}`: the config has none"),
            false => format!("no splitter is called `{name}`: there are {}", known.join(", ")),
        });
    };
    let known = || splitters[splitter].present().map(|(index, server)| (index, server.address.to_string()));
    match known().find(|(_, known)| known == address) {
        Some((index, _)) => Ok((splitter, index)),
        None => {
            let addresses: Vec<String> = known().map(|(_, address)| address).collect();
            Err(format!("splitter `{name}` has no server `{address}`: there are {}", addresses.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::shared::tests::config;

    #[test]
    fn servers_are_found_by_splitter_and_address() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        assert_eq!(find(&shared, "db/127.0.0.1:3307"), Ok((0, 1)));
        let error = |server| find(&shared, server).unwrap_err();
        assert_eq!(error("db"), "`db` names no server: write SPLITTER/ADDRESS, for example main/10.0.0.10:3306");
        assert_eq!(error("x/127.0.0.1:3306"), "no splitter is called `x`: there are db");
        assert_eq!(error("db/a"), "splitter `db` has no server `a`: there are 127.0.0.1:3306, 127.0.0.1:3307");
    }

    #[test]
    fn an_order_goes_to_who_takes_it() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        assert!(order(&shared, "db/127.0.0.1:3307", Wanted::Drain, 0).is_err(), "nobody is there yet");
        shared.set_splitter_order(Box::new(|splitter, server, order| {
            assert_eq!((splitter, server), (0, 1));
            match order {
                SplitterOrder::Set(AdminState::Drain) => Ok(AdminState::Ready),
                _ => Err("no".into()),
            }
        }));
        let done = order(&shared, "db/127.0.0.1:3307", Wanted::Drain, 0).unwrap();
        assert_eq!((done.wanted, done.was.as_str()), (Wanted::Drain, "ready"));
        assert_eq!(order(&shared, "db/127.0.0.1:3307", Wanted::Accept, 0), Err("no".into()));
    }
}
