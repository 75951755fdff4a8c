//! Splitters as the control thread has them: who looks after their servers, what the admin pages and the control socket see of
//! them, and what becomes of them with another config.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::config::{Config, Succession};
use crate::control::shared::{AdminState, Lasting, SplitterOrder, SplitterServerView, SplitterView};
use crate::mysql;
use crate::mysql::shared::Duty;

/// Whether a splitter that is gone still has clients is looked at this often.
const CLIENTS_INTERVAL: Duration = Duration::from_secs(1);

/// What all data workers know of each splitter, in the order of the config.
pub(super) type Known = Arc<Vec<Arc<mysql::Shared>>>;

/// The splitters of the present config.
#[derive(Clone)]
pub(super) struct Desk(Arc<ArcSwap<Vec<Arc<mysql::Shared>>>>);

impl Desk {
    /// Those of the first config, for so many data workers.
    pub(super) fn new(config: &Arc<Config>, data_workers: usize) -> Desk {
        let splitter = |index| Arc::new(mysql::Shared::new(config, index, data_workers));
        Desk(Arc::new(ArcSwap::from_pointee((0..config.splitters.len()).map(splitter).collect())))
    }

    pub(super) fn known(&self) -> Known {
        self.0.load_full()
    }

    /// Those of the config that follows: of those that stay there is room for what is new of them.
    pub(super) fn next(&self, config: &Arc<Config>, succession: &Succession, data_workers: usize) -> Known {
        let known = self.known();
        let splitter = |(index, heir): (usize, &Option<usize>)| match heir {
            Some(heir) => {
                known[*heir].make_room(&config.splitters[index]);
                known[*heir].clone()
            }
            None => Arc::new(mysql::Shared::new(config, index, data_workers)),
        };
        Arc::new(succession.splitters.0.iter().enumerate().map(splitter).collect())
    }

    /// From now on these are present.
    pub(super) fn replace(&self, known: Known) {
        self.0.store(known);
    }

    /// All data workers have `config`: servers come and go.
    pub(super) fn go_on_with(&self, config: &Arc<Config>) {
        for (index, splitter) in self.known().iter().enumerate() {
            splitter.go_on_with(config.clone(), index, Instant::now());
        }
    }

    /// Lets the admin pages and the control socket see and direct them.
    pub(super) fn register(&self, shared: &Lasting) {
        let views = self.clone();
        shared.set_splitter_view(Box::new(move || views.known().iter().map(|splitter| view(splitter)).collect()));
        let desk = self.clone();
        shared.set_splitter_order(Box::new(move |splitter, server, order| match desk.known().get(splitter) {
            Some(splitter) => take(splitter, server, order),
            None => Err("the splitter is not there yet".into()),
        }));
    }
}

/// Who looks after the servers of splitters.
pub(super) struct Monitors {
    stopped: watch::Receiver<bool>,
    running: Vec<(Arc<mysql::Shared>, AbortHandle)>,
}

impl Monitors {
    /// Nobody yet; all end when `stopped` turns true.
    pub(super) fn new(stopped: watch::Receiver<bool>) -> Monitors {
        Monitors { stopped, running: Vec::new() }
    }

    /// These are looked after from now on, and no others once their clients have left: as long as one has a transaction, it
    /// matters who leads. Must be called on the control thread.
    pub(super) fn go_on_with(&mut self, known: &Known) {
        self.running.retain(|(splitter, monitor)| {
            let stays = known.iter().any(|known| Arc::ptr_eq(known, splitter));
            if !stays {
                tokio::spawn(end_without_clients(splitter.clone(), monitor.clone()));
            }
            stays
        });
        for splitter in &**known {
            if !self.running.iter().any(|(known, _)| Arc::ptr_eq(known, splitter)) {
                let monitor = tokio::spawn(mysql::monitor::run(splitter.clone(), self.stopped.clone()));
                self.running.push((splitter.clone(), monitor.abort_handle()));
            }
        }
    }
}

/// Ends the monitor of a splitter that is gone, with its last client.
async fn end_without_clients(splitter: Arc<mysql::Shared>, monitor: AbortHandle) {
    while splitter.has_clients() && !monitor.is_finished() {
        tokio::time::sleep(CLIENTS_INTERVAL).await;
    }
    monitor.abort();
}

/// One splitter as its monitor sees it now.
fn view(splitter: &mysql::Shared) -> SplitterView {
    let mysql::govern::View { epoch, vacancy, announced, switchovers, held, hidden, unseen, servers, .. } =
        splitter.view();
    let server = |server: mysql::govern::ServerView| SplitterServerView {
        address: splitter.address(server.index).to_string(),
        index: server.index,
        role: server.role,
        health: server.health,
        up: server.up,
        lag_ms: server.lag_ms,
        latency: server.latency,
        position: server.position,
        admin: admin(server.duty),
    };
    SplitterView {
        name: splitter.config().name.clone(),
        epoch,
        vacancy,
        announced: announced.map(|server| splitter.address(server).to_string()),
        switchovers,
        held,
        hidden,
        unseen,
        servers: servers.into_iter().map(server).collect(),
    }
}

fn take(splitter: &mysql::Shared, server: usize, order: SplitterOrder) -> Result<AdminState, String> {
    let was = splitter.server(server).duty();
    if was == Duty::Gone {
        return Err(format!("{} has been taken out of the config", splitter.address(server)));
    }
    match order {
        SplitterOrder::Set(state) => {
            let duty = match state {
                AdminState::Ready => Duty::Ready,
                AdminState::Drain => Duty::Drained,
                AdminState::Maintenance => Duty::Maintenance,
            };
            splitter.set_duty(server, duty);
        }
        SplitterOrder::Accept => splitter.accept(server)?,
        SplitterOrder::Announce => splitter.announce_switchover(server)?,
    }
    Ok(admin(was))
}

fn admin(duty: Duty) -> AdminState {
    match duty {
        Duty::Ready => AdminState::Ready,
        Duty::Drained => AdminState::Drain,
        Duty::Maintenance | Duty::Gone => AdminState::Maintenance,
    }
}
