//! What the monitors of the splitters say: who leads, and what each server is.

use crate::control::Shared;
use crate::control::exposition::{Exposition, Kind};
use crate::control::shared::{AdminState, SplitterView};

/// All of it; nothing where there is no splitter.
pub(super) fn write(out: &mut Exposition, shared: &Shared) {
    let mut seen = Vec::new();
    let views = shared.splitters();
    topology(out, &views);
    for view in views {
        for (name, server) in
            super::distinct(view.servers.iter().map(|s| s.address.clone())).into_iter().zip(view.servers)
        {
            seen.push((view.name.clone(), name, server));
        }
    }
    if seen.is_empty() {
        return;
    }
    let help = "1 while statements may go to a MySQL server.";
    let mut up = out.family("one_server_splitter_server_up", Kind::Gauge, help);
    for (splitter, name, server) in &seen {
        up.sample(&[("splitter", splitter), ("role", server.role), ("server", name)], u8::from(server.up));
    }
    let help = "1 for the role that a MySQL server has.";
    let mut role = out.family("one_server_splitter_server_role", Kind::Gauge, help);
    for (splitter, name, server) in &seen {
        role.sample(&[("splitter", splitter), ("server", name), ("role", server.role)], 1);
    }
    let help = "1 while a MySQL server takes writes although another one has been the primary since it was.";
    let mut fenced = out.family("one_server_splitter_server_fenced", Kind::Gauge, help);
    for (splitter, name, server) in &seen {
        fenced.sample(&[("splitter", splitter), ("server", name)], u8::from(server.role == "fenced"));
    }
    let help = "1 while the operator has drained a MySQL server or taken it out.";
    let mut drained = out.family("one_server_splitter_server_drained", Kind::Gauge, help);
    for (splitter, name, server) in &seen {
        drained.sample(&[("splitter", splitter), ("server", name)], u8::from(server.admin != AdminState::Ready));
    }
    let help = "How far a replica is behind the primary; absent while unknown.";
    let mut lag = out.family("one_server_splitter_server_lag_seconds", Kind::Gauge, help);
    for (splitter, name, server) in &seen {
        if let Some(lag_ms) = server.lag_ms {
            lag.sample(&[("splitter", splitter), ("role", server.role), ("server", name)], lag_ms as f64 / 1000.0);
        }
    }
}

/// What the splitters' monitors say of who leads. Alarms: no primary, a fenced server.
fn topology(out: &mut Exposition, views: &[SplitterView]) {
    let mut family = |name, kind, help, value: &dyn Fn(&SplitterView) -> Option<u64>| {
        let rows: Vec<(&str, u64)> = views.iter().filter_map(|view| Some((view.name.as_str(), value(view)?))).collect();
        if rows.is_empty() {
            return;
        }
        let mut family = out.family(name, kind, help);
        rows.iter().for_each(|(splitter, value)| family.sample(&[("splitter", splitter)], *value));
    };
    let help = "Goes up each time that a server begins to be the primary; absent where the primary is fixed.";
    family("one_server_splitter_epoch", Kind::Gauge, help, &|view| view.epoch);
    let help = "1 while one server is known to be the primary; absent where the primary is fixed.";
    family("one_server_splitter_has_primary", Kind::Gauge, help, &|view| {
        view.epoch.map(|_| view.vacancy.is_none().into())
    });
    let help = "Times that another server than before became the primary; absent where the primary is fixed.";
    family("one_server_splitter_switchovers_total", Kind::Counter, help, &|view| view.epoch.map(|_| view.switchovers));
    family("one_server_splitter_held", Kind::Gauge, "Statements that wait for a primary now.", &|view| {
        Some(view.held as u64)
    });
}
