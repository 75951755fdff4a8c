//! Splitters as the admin pages and the control socket see them.

use std::sync::Arc;

use crate::control::shared::{AdminState, Lasting, SplitterOrder, SplitterServerView, SplitterView};
use crate::mysql;
use crate::mysql::shared::Duty;

/// Lets the admin pages and the control socket see and direct the splitters.
pub(super) fn register(shared: &Lasting, splitters: &[Arc<mysql::Shared>]) {
    let views = splitters.to_vec();
    shared.set_splitter_view(Box::new(move || views.iter().map(|splitter| view(splitter)).collect()));
    let desks = splitters.to_vec();
    shared.set_splitter_order(Box::new(move |splitter, server, order| take(&desks[splitter], server, order)));
}

/// One splitter as its monitor sees it now.
fn view(splitter: &mysql::Shared) -> SplitterView {
    let mysql::govern::View { epoch, vacancy, announced, switchovers, held, servers, .. } = splitter.view();
    let server = |(index, server): (usize, mysql::govern::ServerView)| SplitterServerView {
        address: splitter.address(index).to_string(),
        role: server.role,
        health: server.health,
        up: server.up,
        lag_ms: server.lag_ms,
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
        servers: servers.into_iter().enumerate().map(server).collect(),
    }
}

fn take(splitter: &mysql::Shared, server: usize, order: SplitterOrder) -> Result<AdminState, String> {
    let was = splitter.server(server).duty();
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
        Duty::Maintenance => AdminState::Maintenance,
    }
}
