//! `one-server ctl`: asks a running process over its control socket, and shows the answer.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::Failure;
use super::app_show;
use super::args::{CtlApp, CtlArgs, CtlMysql, CtlServer, CtlSub, CtlUpstream};
use super::ctl_mysql;
use crate::control::ctl::show::{ServerView, View};
use crate::control::ctl::{
    Answer, Changed, Ends, FailedBack, Limited, Populated, Reloaded, Request, Set, State, Upgraded, Wanted, Weighed,
};
use crate::control::orders::spell as spell_limit;

/// How long an answer may take; a reload reads files and waits for busy workers.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// Does what the command line says; returns what to print.
///
/// Errors: nobody listens there, or the process refuses; the exit code is 1.
pub fn run(args: &CtlArgs) -> Result<String, Failure> {
    let request = request(&args.command, args.json)?;
    let answer = ask(&args.socket, &request).map_err(|error| unreachable(&args.socket, &error))?;
    if args.json {
        let text = serde_json::to_string(&answer).map_err(Failure::new)? + "\n";
        return if answer.ok { Ok(text) } else { Err(Failure { text, code: 1 }) };
    }
    let Answer { ok, result, error } = answer;
    if !ok {
        let text = error.unwrap_or_default();
        // Diagnostics of a config come complete.
        return Err(if text.ends_with('\n') { Failure { text, code: 1 } } else { Failure::new(text) });
    }
    let result = result.unwrap_or_default();
    match &args.command {
        CtlSub::Show => understood(result).map(|view| shown(&view)),
        CtlSub::Reload => understood(result).map(|reloaded| reload(&reloaded)),
        CtlSub::Server { what: CtlServer::Weight, .. } => understood(result).map(|weighed| weight(&weighed)),
        CtlSub::Server { what: CtlServer::Limit, .. } => understood(result).map(|limited| limit(&limited)),
        CtlSub::Add { .. } | CtlSub::Remove { .. } => understood(result).map(|populated: Populated| {
            let Populated { server, servers } = populated;
            let what = if matches!(args.command, CtlSub::Add { .. }) { "added" } else { "removed" };
            let plural = if servers == 1 { "" } else { "s" };
            format!("{server} is {what}, the upstream has {servers} server{plural}\n")
        }),
        CtlSub::Upstream { .. } => understood(result).map(|FailedBack { upstream, tier, was }| {
            if tier == was {
                format!("{upstream} is at tier {tier} already\n")
            } else {
                format!("{upstream} is back at tier {tier}, was at tier {was}\n")
            }
        }),
        CtlSub::Mysql { what: CtlMysql::Digests { .. } } => understood(result).map(|view| ctl_mysql::digests(&view)),
        CtlSub::Mysql { what: CtlMysql::ResetDigests { .. } } => {
            understood(result).map(|forgotten| ctl_mysql::forgotten(&forgotten))
        }
        CtlSub::Mysql { what: CtlMysql::Show } => understood(result).map(|view| ctl_mysql::shown(&view)),
        CtlSub::Mysql { .. } => understood(result).map(|ordered| ctl_mysql::ordered(&ordered)),
        CtlSub::Upgrade => understood(result).map(|Upgraded { pid, was }| {
            format!("process {pid} serves; process {was} accepts no more, finishes what it has and ends\n")
        }),
        CtlSub::Server { .. } => understood(result).map(|changed: Changed| {
            let Changed { server, state, was } = changed;
            if state == was {
                format!("{server} is {state} already\n")
            } else {
                format!("{server} is {state}, was {was}\n")
            }
        }),
        CtlSub::App { what: CtlApp::Show, app } => {
            understood(result).and_then(|apps| app_show::list(apps, app.as_deref()))
        }
        CtlSub::App { .. } => understood(result).map(|view| app_show::one(&view)),
        CtlSub::Shutdown { .. } => understood(result).map(|ends: Ends| format!("the process is {}\n", ends.phase)),
    }
}

/// Errors: a value that is none, or one too many.
fn request(command: &CtlSub, json: bool) -> Result<Request, Failure> {
    Ok(match command {
        CtlSub::Show => Request::Show {},
        CtlSub::Upgrade => Request::Upgrade {},
        CtlSub::Reload => Request::Reload { color: !json && io::stderr().is_terminal() },
        CtlSub::Server { server, what, value } => {
            let server = server.clone();
            let state = match what {
                CtlServer::Weight => return Ok(Request::ServerWeight { server, weight: value_of(*what, value)? }),
                CtlServer::Limit => return Ok(Request::ServerLimit { server, limit: value_of(*what, value)? }),
                CtlServer::Ready => State::Ready,
                CtlServer::Drain => State::Drain,
                CtlServer::Maintenance => State::Maintenance,
            };
            if let Some(value) = value {
                return Err(wrong_flags(format!(
                    "`{value}` is one word too many: weight and limit alone have a value"
                )));
            }
            Request::Server { server, state }
        }
        CtlSub::Add { server, weight, tier, backup, limit } => {
            Request::AddServer { server: server.clone(), weight: *weight, tier: *tier, backup: *backup, limit: *limit }
        }
        CtlSub::Remove { server } => Request::RemoveServer { server: server.clone() },
        CtlSub::Upstream { upstream, what: CtlUpstream::FailBack } => Request::FailBack { upstream: upstream.clone() },
        CtlSub::Mysql { what } => ctl_mysql::request(what),
        CtlSub::App { what: CtlApp::Show, .. } => Request::Apps {},
        CtlSub::App { what, app } => {
            let want = match what {
                CtlApp::Stop => Wanted::Stop,
                CtlApp::Start => Wanted::Start,
                CtlApp::Restart | CtlApp::Show => Wanted::Restart,
            };
            Request::App { app: app.clone().unwrap_or_default(), want }
        }
        CtlSub::Shutdown { drain } => Request::Shutdown { drain: *drain },
    })
}

/// Errors: it is neither a number nor a word, or no such weight or limit.
fn value_of(what: CtlServer, value: &Option<String>) -> Result<Set, Failure> {
    let value = value.as_deref().unwrap_or_default();
    let (name, words) = match what {
        CtlServer::Weight => ("weight", "0 to 256, or `config`"),
        _ => ("limit", "a number of requests from 1, `none` for any number, or `config`"),
    };
    let set = value.parse::<Set>().map_err(|()| wrong_flags(format!("`{value}` is no {name}: write {words}")))?;
    let checked = match what {
        CtlServer::Weight => set.of_weight().map(drop),
        _ => set.of_limit().map(drop),
    };
    checked.map(|()| set).map_err(wrong_flags)
}

fn wrong_flags(text: impl std::fmt::Display) -> Failure {
    Failure { code: 2, ..Failure::new(text) }
}

fn weight(weighed: &Weighed) -> String {
    let Weighed { server, weight, was, config } = weighed;
    let config = if weight == config { String::new() } else { format!(" (config: {config})") };
    match weight == was {
        true => format!("{server} has weight {weight} already{config}\n"),
        false => format!("{server} has weight {weight}, had {was}{config}\n"),
    }
}

fn limit(limited: &Limited) -> String {
    let Limited { server, limit, was, config } = limited;
    let (is, had) = (spell_limit(*limit), spell_limit(*was));
    let config = if limit == config { String::new() } else { format!(" (config: {})", spell_limit(*config)) };
    match limit == was {
        true => format!("{server} has limit {is} already{config}\n"),
        false => format!("{server} has limit {is}, had {had}{config}\n"),
    }
}

fn ask(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    if BufReader::new(stream).read_line(&mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let path = socket.display();
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such socket: is the process running, and does its config say `control = \"PATH\"` in [process]? \
             --socket names another path"
        }
        io::ErrorKind::ConnectionRefused => "nobody listens there any more: the process has ended",
        io::ErrorKind::PermissionDenied => "only root and the user of the process may use it: try sudo",
        io::ErrorKind::UnexpectedEof => "the process closed the connection without an answer: see its log",
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the process does not answer in time: see its log",
        _ => return Failure::new(format_args!("{path}: {error}")),
    };
    Failure::new(format_args!("{path}: {hint}"))
}

fn understood<T: DeserializeOwned>(result: serde_json::Value) -> Result<T, Failure> {
    let error = |error| Failure::new(format_args!("the process is of another version, its answer is strange: {error}"));
    serde_json::from_value(result).map_err(error)
}

fn reload(reloaded: &Reloaded) -> String {
    let Reloaded { file, generation, opened, closed, needs_restart, warnings } = reloaded;
    let mut text: String = warnings.iter().flat_map(|warning| [warning.trim_end(), "\n\n"]).collect();
    match file {
        Some(file) => line(&mut text, format_args!("{file}: in use, generation {generation}")),
        None => line(&mut text, "started from flags: certificates are loaded again, there is no config file"),
    }
    opened.iter().for_each(|listener| line(&mut text, format_args!("opened: {listener}")));
    closed.iter().for_each(|listener| line(&mut text, format_args!("closed: {listener}; its connections finish")));
    needs_restart.iter().for_each(|part| line(&mut text, format_args!("needs a restart: {part}")));
    text
}

pub(super) fn line(out: &mut String, text: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

fn shown(view: &View) -> String {
    let mut out = String::new();
    let View { version, pid, phase, uptime_seconds, config, .. } = view;
    line(&mut out, format_args!("one-server {version}, pid {pid}, {phase}, up {}", spell(*uptime_seconds)));
    let file = config.file.as_deref().unwrap_or("from flags");
    line(
        &mut out,
        format_args!("config {file}, generation {}, since {}", config.generation, moment(config.since_unix_ms)),
    );
    if config.reloads_failed > 0 {
        line(&mut out, format_args!("reloads refused: {}", config.reloads_failed));
    }
    let open = |count: Option<u64>| count.map_or_else(String::new, |count| format!("{count} connections"));
    let workers = view.workers.iter().map(|worker| {
        let core = worker.core.map_or_else(String::new, |core| format!("core {core}"));
        vec![format!("{} {}", worker.role, worker.index), core, worker.driver.clone(), open(worker.connections)]
    });
    table(&mut out, "workers", workers);
    let listeners = view.listeners.iter().map(|listener| {
        let open = match listener.kind.as_str() {
            "udp" => open(listener.connections).replace("connections", "flows"),
            _ => open(listener.connections),
        };
        vec![listener.name.clone(), listener.kind.clone(), listener.address.clone(), open]
    });
    table(&mut out, "listeners", listeners);
    let udp = view.udp.iter().map(|udp| {
        let refused: u64 = udp.refused.values().sum();
        vec![
            udp.listener.clone(),
            format!("{} of {} flows, {} in all", udp.flows, udp.flows_max, udp.flows_total),
            format!("datagrams {} in, {} out", udp.received_datagrams, udp.sent_datagrams),
            format!("dropped {refused}"),
            format!("unanswered {}", udp.unanswered),
        ]
    });
    table(&mut out, "udp", udp);
    let sites = view.sites.iter().map(|site| {
        let default = if site.default { "default" } else { "" };
        let hosts = if site.hosts.is_empty() { "-".into() } else { site.hosts.join(" ") };
        vec![
            site.name.clone(),
            hosts,
            default.into(),
            format!("on {}", site.listeners.join(" ")),
            site.routes.join(" "),
        ]
    });
    table(&mut out, "sites", sites);
    for upstream in &view.upstreams {
        let servers = upstream.servers.iter().map(server);
        let tier = upstream.tier_held.map_or_else(String::new, |tier| format!(", tier {tier} held"));
        let removed = match upstream.removed.is_empty() {
            true => String::new(),
            false => format!(", removed: {}", upstream.removed.join(" ")),
        };
        table(&mut out, &format!("upstream {} ({}{tier}{removed})", upstream.name, upstream.balance), servers);
    }
    view.apps.iter().for_each(|app| app_show::add(&mut out, app));
    out
}

fn server(server: &ServerView) -> Vec<String> {
    let mut words = vec![server.address.clone(), server.state.clone(), server.check.clone().unwrap_or_default()];
    words.push(if server.checks_paused { "checks paused".into() } else { String::new() });
    let differs = |is: Option<u32>, config: Option<u32>| match config {
        _ if is == config => String::new(),
        Some(config) => format!(" (config: {config})"),
        None => " (config: none)".into(),
    };
    let weight = differs(Some(server.weight), Some(server.weight_config));
    words.push(match server.backup && weight.is_empty() {
        true => "backup".into(),
        false => format!("weight {}{weight}", server.weight),
    });
    let limit = differs(server.limit, server.limit_config);
    words.push(match (server.limit, limit.as_str()) {
        (None, "") => String::new(),
        (None, _) => format!("no limit{limit}"),
        (Some(most), _) => format!("limit {most}{limit}"),
    });
    words.push(server.name.as_ref().map_or_else(String::new, |name| format!("of {name}")));
    words.push(if server.added { "added".into() } else { String::new() });
    words.push(format!("{} active", server.active));
    words.push(format!("{} idle", server.idle));
    words.push(format!("{} requests", server.requests));
    words.push(format!("{} errors", server.errors));
    words
}

/// Rows under a title, in columns.
pub(super) fn table(out: &mut String, title: &str, rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return;
    }
    line(out, format_args!("\n{title}"));
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    for row in &rows {
        let padded = |(column, cell): (usize, &String)| {
            // A column that is empty in all rows is left out.
            let width = width(column).filter(|width| *width > 0)?;
            Some(format!("{cell:<width$}"))
        };
        let cells = row.iter().enumerate().filter_map(padded);
        line(out, format_args!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end()));
    }
}

/// The two largest units of a time.
pub(super) fn spell(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

pub(super) fn moment(unix_ms: u64) -> String {
    let moment = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let zoned = moment.map(|moment| moment.to_zoned(jiff::tz::TimeZone::system()));
    zoned.map_or_else(String::new, |zoned| zoned.strftime("%Y-%m-%d %H:%M:%S %Z").to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::Shared;
    use crate::control::shared::tests::config;

    #[test]
    fn what_runs_is_shown_in_columns() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        let view = View::new(&shared, Some("/etc/site.toml".into()));
        let json = serde_json::to_value(&view).unwrap();
        let text = shown(&understood(json).unwrap());
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert!(lines[0].starts_with("config /etc/site.toml, generation 0, since 20"), "{text}");
        assert!(text.contains("\nupstream api (random-two)\n"), "{text}");
        assert!(
            text.contains("  127.0.0.1:1         up  weight 1  0 active  0 idle  0 requests  0 errors\n"),
            "{text}"
        );
        assert!(text.contains("  unix:/run/b\"2.sock  up  backup    0 active"), "{text}");
        assert!(text.contains("  main  *  default  on web  /api /plain /\n"), "{text}");
    }

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        let spelled = [0.4, 59.9, 61.0, 3_600.0, 90_061.0].map(spell);
        assert_eq!(spelled, ["0s", "59s", "1m 1s", "1h 0m", "1d 1h"]);
    }

    #[test]
    fn a_reload_tells_what_came_of_it() {
        let reloaded = Reloaded {
            file: Some("a.toml".into()),
            generation: 2,
            opened: vec!["new 127.0.0.1:1".into()],
            closed: vec!["old 127.0.0.1:2".into()],
            needs_restart: vec!["`driver` in [process]".into()],
            warnings: vec!["warning: odd\n".into()],
        };
        let expected = "warning: odd\n\na.toml: in use, generation 2\nopened: new 127.0.0.1:1\n\
                        closed: old 127.0.0.1:2; its connections finish\nneeds a restart: `driver` in [process]\n";
        assert_eq!(reload(&reloaded), expected);
    }
}
