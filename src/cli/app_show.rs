//! `one-server ctl app`: applications that are processes, as a person reads them.

use super::Failure;
use super::ctl::{spell, table};
use crate::control::ctl::ProcessView;

/// All of them, or the one that is asked for. Errors: there is no such one.
pub(super) fn list(apps: Vec<ProcessView>, wanted: Option<&str>) -> Result<String, Failure> {
    let mut out = String::new();
    let is_wanted = |app: &&ProcessView| wanted.is_none_or(|wanted| wanted == app.name);
    apps.iter().filter(is_wanted).for_each(|app| add(&mut out, app));
    match (out.is_empty(), wanted) {
        (true, Some(wanted)) => {
            let known: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
            Err(Failure::new(format_args!("no process is called `{wanted}`: there are {}", known.join(", "))))
        }
        (true, None) => Ok("the config has no [app.NAME] with type = \"process\" or \"php\"\n".into()),
        (false, _) => Ok(out.trim_start().into()),
    }
}

/// One of them.
pub(super) fn one(app: &ProcessView) -> String {
    let mut out = String::new();
    add(&mut out, app);
    out.trim_start().into()
}

/// Appends it as a table of its instances.
pub(super) fn add(out: &mut String, app: &ProcessView) {
    let mut title = format!("app {} ({}, {} of {} ready", app.name, app.state, app.ready, app.wanted);
    if app.queued > 0 {
        title += &format!(", {} wait", app.queued);
    }
    if app.restarts > 0 {
        title += &format!(", {} restarts", app.restarts);
    }
    if app.failures > 0 {
        title += &format!(", {} failures in a row", app.failures);
    }
    if let Some(ms) = app.again_in_ms {
        title += &format!(", tried again in {:.1}s", ms as f64 / 1000.0);
    }
    if let Some(exit) = &app.last_exit {
        title += &format!(", last end: {exit}");
    }
    title.push(')');
    let rows: Vec<Vec<String>> = app
        .instances
        .iter()
        .map(|instance| {
            let state = match &instance.leaving {
                Some(reason) => format!("{} ({reason})", instance.state),
                None => instance.state.clone(),
            };
            vec![
                instance.instance.to_string(),
                instance.pid.map_or_else(|| "-".into(), |pid| format!("pid {pid}")),
                state,
                spell(instance.age_seconds),
                format!("{:.1} MiB", instance.memory_bytes as f64 / (1024.0 * 1024.0)),
                format!("{} active", instance.active),
                format!("{} requests", instance.requests),
            ]
        })
        .collect();
    match rows.is_empty() {
        true => *out += &format!("\n{title}\n  no instance\n"),
        false => table(out, &title, rows.into_iter()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::processes::InstanceView;

    #[test]
    fn an_application_is_shown_with_its_instances() {
        let instance = InstanceView {
            instance: 1,
            pid: Some(77),
            state: "draining".into(),
            leaving: Some("memory".into()),
            generation: 0,
            age_seconds: 61.0,
            memory_bytes: 3 << 20,
            requests: 9,
            active: 1,
            address: "unix:/run/a".into(),
        };
        let app = ProcessView {
            name: "shop".into(),
            kind: "process".into(),
            upstream: "app:shop".into(),
            command: "gunicorn shop:app".into(),
            state: "backing_off".into(),
            wanted: 2,
            ready: 0,
            queued: 4,
            restarts: 3,
            failures: 2,
            again_in_ms: Some(1500),
            last_exit: Some("exit code 3".into()),
            exits: Default::default(),
            replaced: Default::default(),
            instances: vec![instance],
        };
        let expected = "app shop (backing_off, 0 of 2 ready, 4 wait, 3 restarts, 2 failures in a row, tried again in 1.5s, last end: exit code 3)\n  \
                        1  pid 77  draining (memory)  1m 1s  3.0 MiB  1 active  9 requests\n";
        assert_eq!(one(&app), expected);
        assert_eq!(list(vec![app.clone()], Some("shop")).unwrap(), expected);
        assert!(list(vec![app], Some("shp")).unwrap_err().text.contains("there are shop"));
        assert!(list(Vec::new(), None).unwrap().contains("type = \"process\""));
    }
}
