//! Our own metrics of applications that are processes.

use crate::app::process::{Standing, State};
use crate::control::Shared;
use crate::control::exposition::{Exposition, Kind};
use crate::control::processes::ProcessView;

pub(super) fn write(out: &mut Exposition, shared: &Shared) {
    let apps = shared.processes();
    if apps.is_empty() {
        return;
    }
    let help = "Processes of an application, by state.";
    let mut instances = out.family("one_server_process_instances", Kind::Gauge, help);
    for app in &apps {
        for state in State::ALL {
            let count = app.instances.iter().filter(|instance| instance.state == state.name()).count();
            instances.sample(&[("app", &app.name), ("state", state.name())], count as u64);
        }
    }
    let help = "1 for the state the application is in, 0 for the others.";
    let mut states = out.family("one_server_process_state", Kind::Gauge, help);
    for app in &apps {
        for standing in Standing::ALL {
            let is_it = u8::from(app.state == standing.name());
            states.sample(&[("app", &app.name), ("state", standing.name())], is_it);
        }
    }
    let mut number = |name: &str, kind, help: &str, read: &dyn Fn(&ProcessView) -> u64| {
        let mut family = out.family(name, kind, help);
        apps.iter().for_each(|app| family.sample(&[("app", &app.name)], read(app)));
    };
    let name = "one_server_process_instances_wanted";
    number(name, Kind::Gauge, "Processes that are to serve.", &|app| app.wanted as u64);
    let help = "Failures in a row: processes that ended before they were ready, or soon after.";
    number("one_server_process_failures", Kind::Gauge, help, &|app| app.failures.into());
    let help = "Processes that were started beyond the first ones.";
    number("one_server_process_restarts_total", Kind::Counter, help, &|app| app.restarts);
    let help = "Resident memory of all processes of an application; pages they share count for each.";
    let memory = |app: &ProcessView| app.instances.iter().map(|instance| instance.memory_bytes).sum();
    number("one_server_process_memory_bytes", Kind::Gauge, help, &memory);
    let mut exits = out.family("one_server_process_exits_total", Kind::Counter, "Processes that ended, by how.");
    for app in &apps {
        for (kind, count) in &app.exits {
            exits.sample(&[("app", &app.name), ("reason", kind)], *count);
        }
    }
    let help = "Processes that were replaced or stopped, by reason.";
    let mut replaced = out.family("one_server_process_replaced_total", Kind::Counter, help);
    for app in &apps {
        for (reason, count) in &app.replaced {
            replaced.sample(&[("app", &app.name), ("reason", reason)], *count);
        }
    }
}
