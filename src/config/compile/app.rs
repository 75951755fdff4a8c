//! `[app.NAME]`: programs inside the process, and processes that are started. Each becomes an upstream. `php`: what
//! is particular to php-fpm.

mod php;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Named, privileges, suggest, upstream};
use crate::app::process::php::SOCKETS_VARIABLE;
use crate::app::process::words::{self, Place};
use crate::app::process::{MARK, Rules};
use crate::config::key::{Table, UPSTREAM_KEYS_OF_APPS};
use crate::config::model::{
    App, Balance, Config, Launch, Listening, Places, Probe, Process, ProcessApp, Server, Upstream,
};
use crate::config::report::Problem;
use crate::config::section::{Placed, Section, type_name};
use crate::config::value::FromValue;
use crate::runtime::net::{Address, AppSeat};

/// Keys of all types.
const OF_ALL: &[&str] = &[
    "type",
    "response_timeout",
    "health",
    "requests_max",
    "balance",
    "hash",
    "sticky",
    "slow_start",
    "queue_max",
    "queue_timeout",
    "outliers",
    "panic",
    "idle_timeout",
    "total_timeout",
    "upgrade",
    "tunnel_timeout",
    "half_closed_timeout",
    "tries",
    "retry_on",
    "retry_budget",
    "retry_time_max",
    "retry_body_max",
];

/// Keys of programs inside the process.
const OF_PROGRAMS: &[&str] = &["program", "threads"];

/// What programs inside the process have no use for although it is for whatever else requests are sent to, and why.
const NOT_OF_PROGRAMS: &[(&str, &str)] = &[
    ("connect_timeout", "nothing is connected inside the process: take it away"),
    ("keep_idle", "nothing is connected inside the process: take it away"),
    ("keep_idle_timeout", "nothing is connected inside the process: take it away"),
];

/// Keys of php-fpm alone.
const OF_PHP: &[&str] = &["workers", "memory_limit", "ini", "worker_requests", "terminate_timeout", "slow_timeout"];

/// What php-fpm has no use for, and why.
const NOT_OF_PHP: &[(&str, &str)] = &[
    ("program", "php-fpm is the program: `command` names another one"),
    ("threads", "php-fpm has `workers` instead"),
    ("listen", "php-fpm gets a socket that listens: take it away"),
    ("first_port", "php-fpm gets a socket that listens: take it away"),
    ("ready_path", "php-fpm answers a ping of its own when it is ready: take it away"),
    ("restart_on_timeout", "a script that takes too long is ended by `terminate_timeout`: take it away"),
    ("requests_max", "there are as many requests at once as `workers`: take it away"),
    ("upgrade", "php-fpm speaks no other protocol: take it away"),
    ("keep_idle_timeout", "php-fpm counts it as time of the next script, so it is short in any case: take it away"),
];

/// What `environment` takes.
const ENVIRONMENT: &str = "names with their values, { APP_ENV = \"production\" }";

/// Names of upstreams of processes have a `:`, which no other name may have.
pub(in crate::config) fn upstream_name(app: &str) -> String {
    format!("app:{app}")
}

/// Compiles them all into `config`, whose other upstreams are there already; returns the upstreams where their requests go.
pub(super) fn compile_all(apps: &[Named<'_>], config: &mut Config) -> Vec<usize> {
    let mut compile = |named: &Named<'_>| {
        let upstream = match named.section.get::<&str>("type") {
            "program" => {
                let (app, upstream) = program(named, &config.process, config.apps.len());
                config.apps.push(app);
                upstream
            }
            _ => {
                let (process, upstream) = process(named);
                config.processes.push(process);
                upstream
            }
        };
        config.upstreams.push(upstream);
        config.upstreams.len() - 1
    };
    apps.iter().map(&mut compile).collect()
}

/// Whether an application is php-fpm.
pub(super) fn is_php(section: &Section<'_>) -> bool {
    section.item("type").and_then(toml_edit::Item::as_str) == Some("php")
}

/// The application of index `at`. Its upstream has one server for as long as it is not known how many workers there are
/// ([`Config::seat_apps`]).
fn program(named: &Named<'_>, process: &Process, at: usize) -> (App, Upstream) {
    let section = &named.section;
    let program = if reports_foreign_key(section) { String::new() } else { program_name(named) };
    report_useless_keys(section, NOT_OF_PROGRAMS);
    let threads = section.find::<u16>("threads");
    let as_upstream = section.read_as(Table::Upstream);
    let seat = AppSeat { app: named.name.into(), worker: threads.is_none().then_some(0) };
    let server = Server { requests_max: threads.map(u32::from), ..Server::new(Address::App(seat)) };
    let servers = vec![Placed { value: server, span: section.span.clone() }];
    let mut upstream = upstream::with_servers(&upstream_name(named.name), &as_upstream, servers);
    upstream.in_process = Some(at);
    check_health(section, &mut upstream);
    // Streams of events may be silent for as long as they like.
    upstream.idle_timeout = written(&as_upstream, "idle_timeout").unwrap_or(Duration::MAX);
    if section.item("balance").is_none() {
        upstream.balance = Balance::Local;
    }
    let app = App {
        name: named.name.into(),
        program,
        threads: threads.map(usize::from),
        full_timeout: written(&as_upstream, "queue_timeout").unwrap_or(process.queue_timeout),
    };
    (app, upstream)
}

/// A program is asked for something, in words of HTTP/1.1 and over no socket, or it is not asked at all.
fn check_health(section: &Section<'_>, upstream: &mut Upstream) {
    let Some(item) = section.item("health") else {
        upstream.health = None;
        return;
    };
    let Some(health) = &upstream.health else { return };
    let is_http = matches!(health.probe, Probe::Http(_));
    let written = ["tls", "protocol", "check_port", "proxy_protocol"].into_iter().find(|key| item.get(key).is_some());
    if let Some(key) = written {
        section
            .bad_value("health", format!("a program inside the process is reached over no socket: take `{key}` away"));
    } else if !is_http {
        section.bad_value(
            "health",
            "a program inside the process is asked for a page: add a `path`, such as \"/healthz\"",
        );
    }
}

/// The value of a key whose default is that of upstreams alone.
fn written<T: FromValue>(section: &Section<'_>, name: &str) -> Option<T> {
    section.item(name).map(|_| section.get(name))
}

/// A key of another type of application is there.
fn reports_foreign_key(section: &Section<'_>) -> bool {
    let is_explained = |key: &&str| NOT_OF_PROGRAMS.iter().any(|(known, _)| known == key);
    let own = Table::App.keys().map(|key| key.name).chain(UPSTREAM_KEYS_OF_APPS.iter().copied());
    let of_others = |key: &&str| !OF_ALL.contains(key) && !OF_PROGRAMS.contains(key) && !is_explained(key);
    let Some(key) = own.filter(of_others).find(|key| section.item(key).is_some()) else { return false };
    let (whose, label) = match OF_PHP.contains(&key) {
        true => ("PHP", "add type = \"php\" to have php-fpm started and watched"),
        false => ("processes", "add type = \"process\" to have a command started and watched"),
    };
    let title = format!("`{key}` of {} is for {whose}", section.title);
    section.cx.mistake(Problem::new(title, section.key_span(key), label));
    true
}

/// Name under which the program was registered.
fn program_name(named: &Named<'_>) -> String {
    let section = &named.section;
    let program: String = section.find("program").unwrap_or_else(|| named.name.into());
    let programs = section.cx.programs;
    if !programs.contains(&program.as_str()) {
        let advice = match suggest::nearest(&program, programs.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if programs.is_empty() => "this binary has no programs built in".into(),
            None => format!("the programs in this binary are {}", programs.join(", ")),
        };
        let title = format!("unknown program `{program}` in {}", section.title);
        section.cx.mistake(Problem::new(title, section.value_span("program"), advice));
    }
    program
}

fn process(named: &Named<'_>) -> (ProcessApp, Upstream) {
    let section = &named.section;
    report_useless(section);
    let (rules, launch) = (rules(section), launch(section));
    let servers = servers(named.name, section, &rules, &launch);
    // Their keys are described there; what may stand here was looked at when the table was read.
    let as_upstream = section.read_as(Table::Upstream);
    let name = upstream_name(named.name);
    let mut upstream = upstream::with_servers(&name, &as_upstream, servers);
    upstream.is_supervised = true;
    // What is called so here is for each instance.
    upstream.requests_max = None;
    if let Some(php) = &launch.php {
        php::speak_fastcgi(&mut upstream, php, &as_upstream);
    }
    if section.item("health").is_none() {
        upstream.health = None;
    }
    let process = ProcessApp {
        name: named.name.into(),
        upstream: name,
        launch,
        rules,
        ready_path: section.find("ready_path"),
        output_line_bytes_max: section.get("output_line_max"),
        output_lines_per_second: section.get("output_rate"),
    };
    (process, upstream)
}

/// Keys of another type.
fn report_useless(section: &Section<'_>) {
    let of_program = ("program", "a process has a `command` instead: keep one of the two");
    let threads = ("threads", "it is for programs inside this process: of others `instances` says how many there are");
    let of_php = OF_PHP.iter().map(|key| (*key, "it is for type = \"php\": take it away"));
    let useless: Vec<_> = match is_php(section) {
        true => NOT_OF_PHP.to_vec(),
        false => of_php.chain([of_program, threads]).collect(),
    };
    report_useless_keys(section, &useless);
}

fn report_useless_keys(section: &Section<'_>, useless: &[(&str, &str)]) {
    for (key, label) in useless.iter().filter(|(key, _)| section.item(key).is_some()) {
        let title = format!("`{key}` of {} does nothing", section.title);
        section.cx.mistake(Problem::new(title, section.key_span(key), *label));
    }
}

fn rules(section: &Section<'_>) -> Rules {
    let (first, most) = (section.get("backoff"), section.get("backoff_max"));
    if first > most {
        section.bad_value("backoff", "it is longer than `backoff_max`: make that longer, or this shorter");
    }
    Rules {
        instances: section.get("instances"),
        surge: section.get("surge"),
        start_timeout: section.get("start_timeout"),
        drain_timeout: section.get("drain_timeout"),
        kill_timeout: section.get("kill_timeout"),
        requests_max: section.find("restart_requests"),
        memory_bytes_max: section.find("restart_memory"),
        age_max: section.find("restart_age"),
        replaces_hung: section.find("restart_on_timeout").unwrap_or_else(|| section.find("requests_max") == Some(1u32)),
        backoff: first,
        backoff_max: most,
        backoff_reset: section.get("backoff_reset"),
        failures_max: section.get("failures_max"),
        failed_retry: section.get("failed_retry"),
    }
}

/// One for each instance that there may be. Their sockets lie in a folder that is made at the start.
fn servers(name: &str, section: &Section<'_>, rules: &Rules, launch: &Launch) -> Vec<Placed<Server>> {
    let slots = rules.slots();
    let first_port: Option<u16> = section.find("first_port").filter(|_| launch.listening == Listening::Port);
    let last = first_port.map(|first| usize::from(first) + slots - 1);
    if last.is_some_and(|last| last > usize::from(u16::MAX)) {
        section.bad_value("first_port", format!("{slots} ports from it on are needed, and 65535 is the last one"));
    }
    let address = |slot: usize| match first_port {
        Some(first) => Address::Tcp(([127, 0, 0, 1], first.saturating_add(slot as u16)).into()),
        None => Address::Unix(socket_name(name, slot, launch.php.is_some())),
    };
    let requests_max = match &launch.php {
        Some(php) => Some(php.workers),
        None => section.find("requests_max"),
    };
    let server = |slot| Server { requests_max, ..Server::new(address(slot)) };
    (0..slots).map(|slot| Placed { value: server(slot), span: section.span.clone() }).collect()
}

/// Name of the socket of an instance in the folder of the process. What speaks another protocol has another one: both are there
/// while a reload makes the one of the other.
fn socket_name(app: &str, slot: usize, is_php: bool) -> PathBuf {
    let protocol = if is_php { "fcgi." } else { "" };
    format!("{app}.{slot}.{protocol}sock").into()
}

fn launch(section: &Section<'_>) -> Launch {
    let is_php = is_php(section);
    let words: Vec<Placed<String>> = match section.item("command") {
        None if is_php => php::command(section),
        _ => section.list("command"),
    };
    if section.item("command").is_none() && !is_php {
        section.report_missing_of("command", "[\"gunicorn\", \"--bind\", \"unix:{socket}\", \"app:app\"]");
    }
    let listening = match (section.item("first_port").is_some(), section.get("listen")) {
        _ if is_php => Listening::Descriptor,
        (true, _) => Listening::Port,
        (false, "fd") => Listening::Descriptor,
        (false, _) => Listening::Socket,
    };
    if listening == Listening::Port && section.item("listen").is_some() {
        let title = format!("`listen` of {} does nothing", section.title);
        section.cx.warn(Problem::new(
            title,
            section.key_span("listen"),
            "`first_port` is there too: keep one of the two",
        ));
    }
    let launch = Launch {
        environment: environment(section),
        words: words.iter().map(|word| word.value.clone()).collect(),
        directory: section.find("directory"),
        run_as: privileges::run_as(section),
        listening,
        php: is_php.then(|| php::pool(section)),
        open_files: section.find("open_files"),
        processes_max: section.find("processes_max"),
        address_space_bytes_max: section.find("address_space_max"),
    };
    report_placeholders(section, &launch, &words);
    report_unstartable(section, &launch, &words);
    report_foreign_socket(section, &launch);
    launch
}

fn environment(section: &Section<'_>) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (name, value, span) in section.entries("environment", ENVIRONMENT) {
        let refuse = |span, label: String| {
            let title = format!("bad variable `{name}` in environment of {}", section.title);
            section.cx.mistake(Problem::new(title, span, label));
        };
        if name.is_empty() || name.contains(['=', '\0']) {
            refuse(span, "the name of a variable has no `=`".into());
        } else if ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", SOCKETS_VARIABLE].contains(&name) {
            refuse(
                span,
                "it says which sockets are passed, as `listen = \"fd\"` and `type = \"php\"` do: take it away".into(),
            );
        } else if name == MARK {
            refuse(
                span,
                "each instance gets one of its own, by which what it leaves behind is found: take it away".into(),
            );
        } else {
            match value.as_str() {
                Some(text) if !text.contains('\0') => variables.push((name.to_owned(), text.to_owned())),
                Some(_) => refuse(value.span().or(span), "it holds a NUL".into()),
                None => refuse(value.span().or(span), format!("it is {}: write a text", type_name(value))),
            }
        }
    }
    variables
}

/// Placeholders that are none, and a program that is not told where to listen.
fn report_placeholders(section: &Section<'_>, launch: &Launch, words: &[Placed<String>]) {
    let place = match launch.listening {
        Listening::Port => Place { port: Some(1), ..Place::default() },
        // A program that is given a socket may be told its path too.
        Listening::Socket | Listening::Descriptor => Place { socket: Some("/"), ..Place::default() },
    };
    let texts = words.iter().map(|word| ("command", &word.value, word.span.clone()));
    let values = launch.environment.iter().map(|(_, value)| ("environment", value, section.value_span("environment")));
    for (key, text, span) in texts.chain(values) {
        let Err(name) = words::fill(text, &place) else { continue };
        let label = match name.as_str() {
            "port" => "there is no port: add `first_port`, the port of the first instance".into(),
            "socket" => "there is no socket beside `first_port`: write {port}".into(),
            _ => format!("there are {{socket}}, {{port}} and {{instance}}; for the text itself write {{{{{name}}}"),
        };
        section.cx.mistake(Problem::new(
            format!("bad placeholder {{{name}}} in `{key}` of {}", section.title),
            span,
            label,
        ));
    }
    let texts =
        || launch.words.iter().map(String::as_str).chain(launch.environment.iter().map(|(_, value)| value.as_str()));
    if launch.listening == Listening::Socket && !launch.words.is_empty() && !words::mention(texts(), "socket") {
        let title = format!("the command of {} is not told where to listen", section.title);
        let label = "write {socket} in it or in `environment`, such as \"unix:{socket}\"; or add listen = \"fd\" or a `first_port`";
        section.cx.mistake(Problem::new(title, section.value_span("command"), label));
    }
}

/// A command or a folder that is not there.
fn report_unstartable(section: &Section<'_>, launch: &Launch, words: &[Placed<String>]) {
    let Some(first) = words.first() else { return };
    let mistake = |label: String| {
        section.cx.mistake(Problem::new(format!("bad command in {}", section.title), first.span.clone(), label));
    };
    if words.iter().any(|word| word.value.contains('\0')) {
        return mistake("it holds a NUL".into());
    }
    if first.value.contains(' ') && words.len() == 1 {
        let list: Vec<String> = first.value.split_whitespace().map(|word| format!("{word:?}")).collect();
        return mistake(format!("no shell takes it apart: write [{}]", list.join(", ")));
    }
    let Some(outside) = section.cx.outside else { return };
    if let Some(folder) = &launch.directory
        && !outside.is_folder(folder)
    {
        return section.bad_value("directory", format!("{} is not a folder", folder.display()));
    }
    let path = launch.environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_str());
    let folder = launch.directory.as_deref().unwrap_or(Path::new("."));
    if let Err(label) = outside.find_program(&first.value, folder, path) {
        mistake(label);
    }
}

/// The socket of another user takes no connection of ours.
fn report_foreign_socket(section: &Section<'_>, launch: &Launch) {
    if launch.run_as.is_some() && launch.listening == Listening::Socket {
        let title = format!("`user` of {} cannot be reached at its socket", section.title);
        let label = "a socket that another user binds lets nobody else in: use listen = \"fd\", with which it gets one that is bound already, or `first_port`";
        let problem = Problem::new(title, section.key_span("user"), label);
        section.cx.mistake(problem);
    }
}

impl Config {
    /// Gives each application inside the process its servers: one for each of so many application workers, or the one that stands
    /// for the threads it has of its own.
    pub(crate) fn seat_apps(&mut self, app_workers: usize) {
        for upstream in self.upstreams.iter_mut().filter(|upstream| upstream.in_process.is_some()) {
            let Some(first) = upstream.written.first().cloned() else { continue };
            let Address::App(AppSeat { app, worker: Some(_) }) = &first.address else { continue };
            let seat = |worker| AppSeat { app: app.clone(), worker: Some(worker as u16) };
            let server = |worker| Server { address: Address::App(seat(worker)), ..first.clone() };
            upstream.set_written((0..app_workers.max(1)).map(server).collect());
        }
    }

    /// Puts the sockets of instances where this process has them.
    ///
    /// Errors: a path is too long for a Unix socket (unix(7): 107 bytes).
    pub(crate) fn place_sockets(&mut self, places: &Places) -> Result<(), String> {
        for upstream in self.upstreams.iter_mut().filter(|upstream| upstream.is_supervised) {
            let behind = places.behind.get(&upstream.name).copied().unwrap_or(0);
            for server in &mut upstream.servers {
                match &mut server.address {
                    Address::Tcp(address) => address.set_port(address.port().saturating_add(behind)),
                    Address::Unix(path) => {
                        *path = places.folder.join(&*path);
                        if path.as_os_str().len() > 107 {
                            return Err(format!(
                                "the path {} is too long for a Unix socket: use a shorter name, or a shorter folder in RUNTIME_DIRECTORY or XDG_RUNTIME_DIR",
                                path.display()
                            ));
                        }
                    }
                    Address::Name(_) | Address::App(_) => {}
                }
            }
            upstream.set_written(upstream.servers.clone());
        }
        Ok(())
    }
}
