//! Written tables → compiled [`Config`]: the sections one by one, then what holds between them.

mod app;
mod compress;
mod files;
mod guard;
mod health;
mod http2;
mod http3;
mod limits;
mod log;
mod mysql;
mod mysql_rules;
mod options;
mod outliers;
mod privileges;
mod resolver;
mod retry;
mod secret;
mod servers;
mod site;
mod socket_mode;
mod stats_socket;
mod substitute;
mod tcp;
mod template;
mod tls;
mod udp;
mod upstream;
mod upstream_tls;
mod variables;

use std::sync::Arc;

use toml_edit::{Item, TableLike};

use super::key::Table;
use super::model::{AppPlacement, Config, DriverChoice, Http, Listener, Options, Process, Splitter, Upstream};
use super::report::{Problem, Span};
use super::section::{Context, Placed, Section};
use super::suggest;
use crate::guard::LeastRate;

pub(super) use files::files_settings;
pub(super) use mysql::splitter_settings;
pub(super) use site::names::RouteNames;
pub(super) use upstream::upstream_settings;

/// A named table and the place of its name.
struct Named<'a> {
    name: &'a str,
    span: Option<Span>,
    section: Section<'a>,
}

/// Compiles a whole file. The result is complete even after mistakes, which stand in the context; use it only when
/// there are none.
pub(super) fn compile<'a>(cx: &'a Context<'a>, root: &'a dyn TableLike) -> Config {
    report_unknown_tables(cx, root);
    variables::define(cx, root);
    let listeners = named(cx, root, Table::Listener);
    let upstreams = named(cx, root, Table::Upstream);
    let apps = named(cx, root, Table::App);
    let splitters = named(cx, root, Table::Mysql);

    let limits = named(cx, root, Table::Limit);
    cx.limits.replace(limits.iter().map(|named| named.name.into()).collect());

    let (mut config, admin) = base(cx, Some(root));
    config.limits = limits.iter().map(limits::compile).collect();
    config.listeners = listeners.iter().map(|named| listener(named, &upstreams)).collect();
    config.upstreams = upstreams.iter().map(|named| upstream::compile(named.name, &named.section)).collect();
    let targets = app::compile_all(&apps, &mut config);
    config.splitters = splitters.iter().map(|named| mysql::compile(named.name, &named.section)).collect();
    let names = site::Names { listeners: &listeners, upstreams: &upstreams, apps: &apps, targets: &targets };
    let sites = named(cx, root, Table::Site);
    site::compile_all(cx, &sites, &names, &mut config);
    config.log.sites = log::sites(&sites);
    udp::look_at_upstreams(&listeners, &upstreams, &mut config);
    limits::warn_of_unused(cx, &limits, &config);

    privileges::warn_of_unreadable_files(&listeners, &config);
    report_duplicate_addresses(cx, &listeners, &splitters, &config, &admin);
    report_taken_rows(cx, &apps, &listeners, &splitters, &config);
    if listeners.is_empty() && splitters.is_empty() {
        let advice = "add a [listener.NAME] with an `address` and a [site.NAME] with a route, or a [mysql.NAME]";
        cx.mistake(Problem::new("the file starts nothing", None, advice));
    }
    config
}

/// A config without listeners: the single tables only. With it the section of `[admin]`, for later checks.
pub(super) fn base<'a>(cx: &'a Context<'a>, root: Option<&'a dyn TableLike>) -> (Config, Section<'a>) {
    let section = |table| match root {
        Some(root) => single(cx, root, table),
        None => Section::absent(cx, table),
    };
    let (process, http) = (section(Table::Process), section(Table::Http));
    let admin = section(Table::Admin);
    let address = if admin.is_wanted() { admin.get("address") } else { None };
    report_open_admin(cx, &admin, address);
    let trace_events: usize = admin.get("trace");
    let http_config = compile_http(&http);
    let log = log::compile(&section(Table::Log), http_config.options.variables.names());
    let config = Config {
        process: compile_process(&process),
        http: http_config,
        http2: http2::compile(&section(Table::Http2)),
        http3: http3::compile(&section(Table::Http3)),
        limits: Vec::new(),
        listeners: Vec::new(),
        sites: Vec::new(),
        upstreams: Vec::new(),
        resolver: resolver::compile(&section(Table::Resolver)),
        apps: Vec::new(),
        processes: Vec::new(),
        lookups: cx.defined.get().map_or_else(Vec::new, |defined| defined.lookups.clone()),
        splitters: Vec::new(),
        admin: address,
        log,
        // The entries are only ever looked at through the admin listener.
        trace_events: if address.is_some() { trace_events } else { 0 },
    };
    report_contradicting_limits(&config, &process, &http);
    (config, admin)
}

fn compile_process(section: &Section<'_>) -> Process {
    Process {
        data_cores: section.get("data_cores"),
        app_cores: section.get("app_cores"),
        app_placement: match section.get("app_placement") {
            "separate" => AppPlacement::Separate,
            _ => AppPlacement::Paired,
        },
        driver: match section.get("driver") {
            "io-uring" => DriverChoice::IoUring,
            "epoll" => DriverChoice::Epoll,
            _ => DriverChoice::Auto,
        },
        ring_entries: section.get("ring_entries"),
        read_buffer_bytes: section.get("read_buffer"),
        stream_buffer_bytes: section.get("stream_buffer"),
        pipes_max: section.get("pipes_max"),
        spin: section.get("app_spin"),
        queue_depth: section.get("app_queue"),
        queue_timeout: section.get("app_queue_timeout"),
        app_concurrency: section.get("app_concurrency"),
        connections_max: section.get("connections_max"),
        tarpit_max: section.get("tarpit_max"),
        accept_balance: section.get("accept_balance"),
        backlog: section.get("backlog"),
        drain_timeout: section.get("drain_timeout"),
        takeover_timeout: section.get("takeover_timeout"),
        file_cache_bytes: section.get("file_cache"),
        file_cache_file_bytes_max: section.get("file_cache_file_max"),
        file_cache_valid: section.get("file_cache_valid"),
        run_as: privileges::run_as(section),
        private_pids: section.get("private_pids"),
        control: section.find("control"),
        stats_socket: stats_socket::compile(section),
    }
}

fn compile_http(section: &Section<'_>) -> Http {
    let body_bytes_max = section.get("body_max");
    Http {
        header_timeout: section.get("header_timeout"),
        body_timeout: section.get("body_timeout"),
        body_rate: LeastRate { bytes_per_second: section.get("body_rate_min"), grace: section.get("body_rate_grace") },
        write_timeout: section.get("write_timeout"),
        keep_alive_timeout: section.get("keep_alive_timeout"),
        keep_alive_time: section.get("keep_alive_time"),
        keep_alive_requests_max: section.get("keep_alive_requests_max"),
        head_bytes_max: section.get("head_max"),
        headers_max: section.get("headers_max"),
        body_bytes_max,
        connections_per_address_max: section.get("connections_per_address_max"),
        server_name: section.get("server_name"),
        options: options::inherit(
            section,
            &Arc::new(Options::new(body_bytes_max)),
            &[],
            &site::names::RouteNames::none(),
        ),
    }
}

fn listener(named: &Named<'_>, upstreams: &[Named<'_>]) -> Listener {
    // After a missing address the config is not used, so that any address will do.
    let address = named.section.need("address").unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
    let (proxy_protocol, trust) = guard::trust(&named.section);
    let tls = tls::compile(&named.section);
    let http3 = http3::listener(&named.section, proxy_protocol);
    Listener {
        name: named.name.into(),
        address,
        proxy_protocol,
        trust,
        access: guard::access(&named.section),
        tcp: tcp::compile(&named.section, upstreams),
        udp: udp::compile(&named.section, upstreams),
        sites: Vec::new(),
        http2: named.section.get("http2"),
        http3,
        alt_svc: http3::alt_svc(&named.section, http3),
        tls,
    }
}

/// A table that stands at most once, such as `[http]`.
fn single<'a>(cx: &'a Context<'a>, root: &'a dyn TableLike, table: Table) -> Section<'a> {
    let name = table.top_name();
    let absent = Section::absent(cx, table);
    match root.get_key_value(name) {
        Some((key, item)) if !item.is_none() => {
            Section::from_item(cx, table, table.header().into(), item, key.span()).unwrap_or(absent)
        }
        _ => absent,
    }
}

/// The tables `[listener.NAME]`, in order of writing.
fn named<'a>(cx: &'a Context<'a>, root: &'a dyn TableLike, table: Table) -> Vec<Named<'a>> {
    let kind = table.top_name();
    let Some((key, item)) = root.get_key_value(kind) else { return Vec::new() };
    let Some(toml) = item.as_table_like() else {
        let label = format!("give it a name: [{kind}.main]");
        cx.mistake(Problem::new(format!("[{kind}] is not a table of tables"), key.span().or(item.span()), label));
        return Vec::new();
    };
    if let Some(problem) = nameless(kind, table, toml, item) {
        cx.mistake(problem);
        return Vec::new();
    }
    let entry = |(name, item): (&'a str, &'a Item)| {
        let span = toml.key(name).and_then(|key| key.span());
        report_bad_name(cx, kind, name, span.clone());
        let section = Section::from_item(cx, table, format!("[{kind}.{name}]"), item, span.clone())?;
        Some(Named { name, span, section })
    };
    toml.iter().filter_map(entry).collect()
}

/// The index of `[kind.name]` among `names`; reports a name that does not exist.
fn index_among(section: &Section<'_>, kind: &str, names: &[&str], name: &str, span: Option<Span>) -> Option<usize> {
    if let Some(index) = names.iter().position(|known| *known == name) {
        return Some(index);
    }
    let label = match suggest::nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if names.is_empty() => format!("there is none yet: add [{kind}.{name}]"),
        None => format!("there are: {}; or add [{kind}.{name}]", names.join(", ")),
    };
    section.cx.mistake(Problem::new(format!("no {kind} is called `{name}`"), span, label));
    None
}

/// `[listener]` with `address = …` directly below: the name was forgotten.
fn nameless(kind: &str, table: Table, toml: &dyn TableLike, item: &Item) -> Option<Problem> {
    let (name, _) =
        toml.iter().find(|(name, value)| value.is_value() && !value.is_inline_table() && table.key(name).is_some())?;
    let span = item.span().or_else(|| toml.key(name).and_then(|key| key.span()));
    Some(Problem::new(format!("[{kind}] has no name"), span, format!("give it one, for example [{kind}.main]")))
}

/// Names stand in metrics labels, log lines and URLs of the admin page.
fn report_bad_name(cx: &Context<'_>, kind: &str, name: &str, span: Option<Span>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        let label = "a name has 1 to 64 letters, digits, `-`, `_` and `.`";
        cx.mistake(Problem::new(format!("bad name in [{kind}.NAME]"), span, label));
    }
}

fn report_unknown_tables(cx: &Context<'_>, root: &dyn TableLike) {
    for (name, item) in root.iter() {
        if item.is_none() || Table::TOP.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let span = root.key(name).and_then(|key| key.span()).or_else(|| item.span());
        let near = suggest::nearest(name, Table::TOP.iter().map(|(known, _)| *known));
        let table = near.and_then(|near| Table::TOP.iter().find(|(known, _)| *known == near));
        if item.is_value() {
            let label = match Table::ALL.iter().find(|table| table.key(name).is_some()) {
                Some(table) => format!("`{name}` belongs in {}", table.header()),
                None => "every key stands in a table, such as [http] or [site.main]".into(),
            };
            cx.mistake(Problem::new(format!("key `{name}` stands outside of a table"), span, label));
            continue;
        }
        let label = match table {
            Some((_, table)) => format!("did you mean {}?", table.header()),
            None => {
                let names: Vec<&str> = Table::TOP.iter().map(|(_, table)| table.header()).collect();
                format!("the tables are {}", names.join(", "))
            }
        };
        cx.mistake(Problem::new(format!("unknown table [{name}]"), span, label));
    }
}

fn report_contradicting_limits(config: &Config, process: &Section<'_>, http: &Section<'_>) {
    let (read_buffer, head_max) = (config.process.read_buffer_bytes, config.http.head_bytes_max);
    if read_buffer > head_max {
        let title = format!("`read_buffer` ({read_buffer} bytes) is larger than `head_max` ({head_max} bytes)");
        let label = "make it smaller, or head_max in [http] larger: a head that fits the first buffer must be allowed";
        let written = process.item("read_buffer").is_some();
        let place = if written { process.value_span("read_buffer") } else { http.value_span("head_max") };
        process.cx.mistake(Problem::new(title, place, label));
    }
    for key in ["data_cores", "app_cores"] {
        let cores: Vec<usize> = process.get(key);
        if let Some(core) = cores.iter().find(|core| cores.iter().filter(|other| other == core).count() > 1) {
            let title = format!("core {core} is named several times in `{key}`");
            let label = "as many workers share it: that shows what more cores would do, but is never faster";
            process.cx.warn(Problem::new(title, process.value_span(key), label));
        }
    }
    let (cache, file_max) = (config.process.file_cache_bytes, config.process.file_cache_file_bytes_max);
    if cache > 0 && file_max > cache {
        let title = "`file_cache_file_max` is larger than `file_cache`";
        let label = "a file that does not fit the cache is never kept";
        process.cx.warn(Problem::new(title, process.value_span("file_cache_file_max"), label));
    }
}

fn report_open_admin(cx: &Context<'_>, admin: &Section<'_>, address: Option<std::net::SocketAddr>) {
    if address.is_some_and(|address| !address.ip().is_loopback()) {
        let title = "the admin listener can be reached from other machines";
        let label = "it has no login: keep it on 127.0.0.1, or on a network that only operators reach";
        cx.warn(Problem::new(title, admin.value_span("address"), label));
    }
}

fn report_duplicate_addresses(
    cx: &Context<'_>,
    listeners: &[Named<'_>],
    splitters: &[Named<'_>],
    config: &Config,
    admin: &Section<'_>,
) {
    use crate::runtime::net::Address;
    // The ports of TCP and UDP are apart.
    let mut seen: Vec<(Placed<(Address, bool)>, String)> = Vec::new();
    let mut claim_as = |address: Address, is_udp: bool, span: Option<Span>, owner: &str| {
        if matches!(&address, Address::Tcp(tcp) if tcp.port() == 0) {
            return true;
        }
        let place = (address.clone(), is_udp);
        if let Some((first, first_owner)) = seen.iter().find(|(first, _)| first.value == place) {
            let title = format!("{address} is used twice, in {first_owner} and {owner}");
            let problem = Problem::new(title, span, "take another address or port");
            cx.mistake(problem.related(first.span.clone(), "first used here"));
            return false;
        }
        seen.push((Placed { value: place, span }, owner.to_owned()));
        true
    };
    for (named, listener) in listeners.iter().zip(&config.listeners) {
        let (address, title) = (Address::Tcp(listener.address), &named.section.title);
        let span = || named.section.value_span("address");
        let is_own = claim_as(address.clone(), listener.udp.is_some(), span(), title);
        if is_own && listener.http3 && listener.udp.is_none() {
            claim_as(address, true, span(), &format!("HTTP/3 of {title}"));
        }
    }
    let mut claim = |address: Address, span: Option<Span>, owner: &str| {
        claim_as(address, false, span, owner);
    };
    for (named, splitter) in splitters.iter().zip(&config.splitters) {
        for address in &splitter.listen {
            claim(address.clone(), named.section.value_span("listen"), &named.section.title);
        }
    }
    if let Some(path) = &config.process.control {
        claim(Address::Unix(path.clone()), None, "`control` of [process]");
    }
    if let Some(socket) = &config.process.stats_socket {
        claim(Address::Unix(socket.path.clone()), None, "`stats_socket` of [process]");
    }
    if let Some(address) = config.admin {
        claim(Address::Tcp(address), admin.value_span("address"), "[admin]");
    }
}

/// Ports of an application's instances that another one has, or that we listen at ourselves.
fn report_taken_rows(
    cx: &Context<'_>,
    apps: &[Named<'_>],
    listeners: &[Named<'_>],
    splitters: &[Named<'_>],
    config: &Config,
) {
    use crate::runtime::net::Address;
    use std::net::SocketAddr;
    // Rows are on 127.0.0.1. What listens at all addresses listens there too.
    let is_there = |address: &SocketAddr| address.ip().is_unspecified() && address.is_ipv4() || address.ip() == LOCAL;
    let mut taken: Vec<(Vec<u16>, Option<Span>, String)> = Vec::new();
    let mut claim = |address: SocketAddr, span: Option<Span>, owner: &str| {
        if is_there(&address) && address.port() != 0 {
            taken.push((vec![address.port()], span, owner.to_owned()));
        }
    };
    for (named, listener) in listeners.iter().zip(&config.listeners).filter(|(_, listener)| listener.udp.is_none()) {
        claim(listener.address, named.section.value_span("address"), &named.section.title);
    }
    for (named, splitter) in splitters.iter().zip(&config.splitters) {
        for address in &splitter.listen {
            if let Address::Tcp(address) = address {
                claim(*address, named.section.value_span("listen"), &named.section.title);
            }
        }
    }
    if let Some(address) = config.admin {
        claim(address, None, "[admin]");
    }
    for app in &config.processes {
        let Some(named) = apps.iter().find(|named| named.name == app.name) else { continue };
        let upstream = config.upstreams.iter().find(|upstream| upstream.name == app.upstream);
        let servers = upstream.map_or(&[][..], |upstream| &upstream.servers);
        let port = |address: &Address| if let Address::Tcp(address) = address { Some(address.port()) } else { None };
        let own: Vec<u16> = servers.iter().filter_map(|server| port(&server.address)).collect();
        let (span, owner) = (named.section.value_span("first_port"), &named.section.title);
        for (ports, first, first_owner) in &taken {
            let Some(port) = own.iter().find(|port| ports.contains(port)) else { continue };
            let title = format!("port {port} is used twice, in {first_owner} and {owner}");
            let label = format!(
                "{owner} has {} ports from this one on, one for each of its `instances` and of its `surge`: take another first port",
                own.len()
            );
            cx.mistake(Problem::new(title, span.clone(), label).related(first.clone(), "first used here"));
        }
        taken.push((own, span, owner.clone()));
    }
}

/// Where instances that have ports listen.
const LOCAL: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// An upstream with nothing but a name, and flags or defaults for the rest.
pub(super) fn default_upstream(cx: &Context<'_>, name: &str) -> Upstream {
    upstream_settings(name, &Section::absent(cx, Table::Upstream), None)
}

/// The same for a splitter.
pub(super) fn default_splitter(cx: &Context<'_>, name: &str) -> Splitter {
    splitter_settings(name, &Section::absent(cx, Table::Mysql))
}
