//! `[mysql.NAME]`: a read/write splitter.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml_edit::{Item, Value as TomlValue};

use super::servers::Entries;
use super::{guard, mysql_rules, secret, socket_mode, tls, upstream_tls};
use crate::config::key::Table;
use crate::config::model::{
    Balance, CausalReads, LogTarget, MysqlServer, MysqlSlowLog, MysqlUser, PrimaryRule, Secret, Splitter,
};
use crate::config::report::{Problem, Span};
use crate::config::section::{Placed, Section, type_name, value_type_name};
use crate::config::value::{FromValue, Kind, parse_address};
use crate::guard::Networks;
use crate::mysql::protocol::auth::native::parse_stored;
use crate::mysql::protocol::auth::sha_crypt::Stored;
use crate::mysql::protocol::auth::sha2::PublicKey;
use crate::mysql::protocol::auth::{Method, Verifier};
use crate::mysql::protocol::compressed::Algorithm;
use crate::runtime::net::Address;
use crate::tls::{Offer, certificate};

/// Further accounts of a splitter: they are looked through at each login.
const USERS_MAX: usize = 1024;

/// Servers among which a primary is found: their states are kept together in one word.
const SERVERS_MAX: usize = 64;

/// What `primary_wait` is when the primary is found.
const FOUND_WAIT: Duration = Duration::from_secs(10);

/// Permissions of Unix sockets: the owner and the group.
const SOCKET_MODE_DEFAULT: u32 = 0o660;

/// What MySQL's own clients ask for with zstd.
const ZSTD_LEVEL: u8 = 3;

/// Compiles one splitter of a file.
pub(super) fn compile(name: &str, section: &Section<'_>) -> Splitter {
    let mut splitter = splitter_settings(name, section);
    splitter.listen = addresses(section, "listen");
    if section.item("listen").and_then(|item| item.as_array()).is_some_and(|array| array.is_empty()) {
        section.bad_value("listen", "it is empty: name at least one address");
    }
    splitter.socket_mode = socket_mode(section, &splitter.listen);
    (splitter.proxy_protocol, splitter.trusted_proxies) = proxies(section);
    (splitter.servers, splitter.primary) = servers(section);
    let has_wait = section.item("primary_wait").is_some();
    if !has_wait && matches!(splitter.primary, PrimaryRule::Found { .. }) {
        splitter.primary_wait = FOUND_WAIT;
    }
    splitter.user = section.need("user").unwrap_or_default();
    splitter.password = password(section);
    splitter.users = users(section, &splitter.user);
    splitter.database = section.find("database").unwrap_or_default();
    splitter.slow_log = slow_log(section);
    splitter.rules = mysql_rules::rules(section, &splitter);
    check_pools(section, &splitter);
    splitter.tls = tls::compile(section);
    // Unix sockets are reached in clear: nobody listens there.
    splitter.server_tls = upstream_tls::compile_key(section, "server_tls", false, Offer::Nothing);
    splitter.server_public_key = public_key(section);
    if splitter.tls_required && section.item("tls").is_none() {
        let title = format!("`tls_required` of {} lets nobody in", section.title);
        let label = "no TLS is offered: add `tls` with a certificate";
        section.cx.mistake(Problem::new(title, section.key_span("tls_required"), label));
    }
    splitter
}

fn socket_mode(section: &Section<'_>, listen: &[Address]) -> u32 {
    if !listen.iter().any(|address| matches!(address, Address::Unix(_))) {
        does_nothing(section, "socket_mode", "there is no Unix socket in `listen`: take it away");
    }
    socket_mode::compile(section, "socket_mode", SOCKET_MODE_DEFAULT).unwrap_or(SOCKET_MODE_DEFAULT)
}

/// Whether connections begin with a PROXY header, and whose may.
fn proxies(section: &Section<'_>) -> (bool, Option<Arc<Networks>>) {
    let (is_wanted, networks) = guard::proxies(section);
    if !is_wanted {
        does_nothing(section, "trusted_proxies", "no header is read: add `proxy_protocol = \"required\"`");
    }
    (is_wanted, networks.map(Arc::new))
}

/// `server_compression`, or `compression` of a server.
fn compression(word: &str) -> Option<Algorithm> {
    match word {
        "zlib" => Some(Algorithm::Zlib),
        "zstd" => Some(Algorithm::Zstd(ZSTD_LEVEL)),
        _ => None,
    }
}

/// `servers`, or `primary` and `replicas`.
fn servers(section: &Section<'_>) -> (Vec<MysqlServer>, PrimaryRule) {
    if section.item("servers").is_none() {
        let primary: Option<Address> = section.find("primary");
        let compression = compression(section.get("server_compression"));
        let primary = primary.map(|address| MysqlServer { compression, ..MysqlServer::new(address) });
        if section.item("primary").is_none() && !section.may_be_misspelt(&["primary", "servers"]) {
            let title = format!("no servers in {}", section.title);
            let label = "add `servers = [\"10.0.0.10:3306\", \"10.0.0.11:3306\"]`, or `primary` and `replicas`";
            section.cx.mistake(Problem::new(title, section.span.clone(), label));
        }
        for key in ["primary_looks", "primary_dwell"] {
            does_nothing(section, key, "the primary is fixed: it is for `servers`");
        }
        return (primary.into_iter().chain(listed(section, "replicas")).collect(), PrimaryRule::Fixed(0));
    }
    for key in ["primary", "replicas"] {
        does_nothing(
            section,
            key,
            "`servers` names them all, the primary is found among them: take one of the two away",
        );
    }
    let servers = listed(section, "servers");
    if section.item("servers").and_then(|item| item.as_array()).is_some_and(|array| array.is_empty()) {
        section.bad_value("servers", "it is empty: name at least one address");
    }
    if servers.len() > SERVERS_MAX {
        section.bad_value("servers", format!("there are {} of them: at most {SERVERS_MAX} are taken", servers.len()));
    }
    (servers, PrimaryRule::Found { looks: section.get("primary_looks"), dwell: section.get("primary_dwell") })
}

fn does_nothing(section: &Section<'_>, key: &str, label: &str) {
    if section.item(key).is_some() {
        let title = format!("`{key}` does nothing in {}", section.title);
        section.cx.mistake(Problem::new(title, section.key_span(key), label));
    }
}

/// The servers of a list.
fn listed(section: &Section<'_>, key: &'static str) -> Vec<MysqlServer> {
    let usual = compression(section.get("server_compression"));
    let server = |address| MysqlServer { compression: usual, ..MysqlServer::new(address) };
    let from_text = |text: &str| parse_address(text).map(server);
    let from_table = |section: &Section<'_>| {
        let (weight, word) = (section.get("weight"), section.find("compression"));
        let compression = word.map_or(usual, compression);
        section.need("address").map(|address| MysqlServer { weight, compression, ..server(address) })
    };
    let entries = Entries { key, table: Table::MysqlServer, from_text: &from_text, from_table: &from_table };
    let placed = entries.read(section);
    report_twice(section, key, placed.iter().map(|server| (&server.value.address, &server.span)));
    placed.into_iter().map(|server| server.value).collect()
}

/// Tables in a list, one table, or `[[mysql.NAME.users]]`. `one` is what an entry is called, `form` what to write.
pub(super) fn entries<'a>(
    splitter: &Section<'a>,
    (name, table): (&'static str, Table),
    (one, form): (&str, &str),
) -> Vec<Section<'a>> {
    let title = format!("{name} of {}", splitter.title);
    let entry = |toml: &'a dyn toml_edit::TableLike, span| Section::new(splitter.cx, table, title.clone(), toml, span);
    let inline = |value: &'a TomlValue| match value {
        TomlValue::InlineTable(table) => Some(entry(table, value.span())),
        _ => {
            let label = format!("it is {}: write {form}", value_type_name(value));
            splitter.cx.mistake(Problem::new(format!("bad {one} in {}", splitter.title), value.span(), label));
            None
        }
    };
    match splitter.item(name) {
        None => Vec::new(),
        Some(Item::ArrayOfTables(tables)) => tables.iter().map(|table| entry(table, table.span())).collect(),
        Some(Item::Table(table)) => vec![entry(table, table.span())],
        Some(Item::Value(TomlValue::Array(array))) => array.iter().filter_map(inline).collect(),
        Some(Item::Value(value @ TomlValue::InlineTable(_))) => inline(value).into_iter().collect(),
        Some(item) => {
            splitter.bad_value(name, format!("it is {}: write a list of tables", type_name(item)));
            Vec::new()
        }
    }
}

fn users(splitter: &Section<'_>, main: &str) -> Vec<MysqlUser> {
    let words = ("user", "a table with `name` and `password_file`");
    let entries = entries(splitter, ("users", Table::MysqlUser), words);
    if entries.len() > USERS_MAX {
        splitter.bad_value("users", format!("there are {} of them: at most {USERS_MAX} are taken", entries.len()));
        return Vec::new();
    }
    let mut users: Vec<MysqlUser> = Vec::with_capacity(entries.len());
    for section in &entries {
        let Some(user) = user(section) else { continue };
        if user.name == main || users.iter().any(|other| other.name == user.name) {
            let problem = Problem::new(
                format!("user `{}` stands twice in {}", user.name, splitter.title),
                section.value_span("name"),
                "each account has one entry, and `user` needs none: take one away",
            );
            section.cx.mistake(problem);
        } else {
            users.push(user);
        }
    }
    users
}

fn user(section: &Section<'_>) -> Option<MysqlUser> {
    let name: Option<String> = section.need("name");
    let Secret(password) = password(section);
    let verifier = parse_stored(&password)
        .map(Verifier::NativeHash)
        .or_else(|| Stored::parse(&password).map(Verifier::Sha2Hash))
        .unwrap_or_else(|| Verifier::Password(password.into_bytes()));
    Some(MysqlUser {
        access: guard::access(section),
        schemas: section.list("schemas").into_iter().map(|placed: Placed<String>| placed.value).collect(),
        read_only: section.get("read_only"),
        clients_max: section.find("clients_max"),
        server_connections_max: section.find("server_connections_max"),
        name: name?,
        verifier,
        is_gone: false,
    })
}

/// Reads `slow_log`, in both its forms.
fn slow_log(splitter: &Section<'_>) -> Option<MysqlSlowLog> {
    let title = format!("slow_log of {}", splitter.title);
    let section = match splitter.item("slow_log")? {
        Item::Value(TomlValue::String(text)) => {
            let mut section = Section::absent(splitter.cx, Table::MysqlSlowLog);
            section.title = title;
            let parsed =
                Kind::Output.parse(text.value()).map_err(|label| splitter.bad_value("slow_log", label)).ok()?;
            return slow_log_settings(&section, FromValue::from_value(parsed));
        }
        item => Section::from_item(splitter.cx, Table::MysqlSlowLog, title, item, splitter.key_span("slow_log"))?,
    };
    slow_log_settings(&section, section.need("file")?)
}

fn slow_log_settings(section: &Section<'_>, target: Option<LogTarget>) -> Option<MysqlSlowLog> {
    Some(MysqlSlowLog {
        threshold: section.get("threshold"),
        digest_only: section.get::<&str>("text") == "digest",
        text_bytes_max: section.get::<u64>("text_max") as usize,
        target: target?,
    })
}

fn check_pools(section: &Section<'_>, splitter: &Splitter) {
    let key = match splitter.server_connections_max {
        Some(most) if most < splitter.pool_max => "server_connections_max",
        _ => "pool_max",
    };
    let most = splitter.server_connections_max.unwrap_or(splitter.pool_max).min(splitter.pool_max);
    if splitter.pool_min > most {
        section.bad_value("pool_min", format!("it is more than there may be: at most {most}, or raise `{key}`"));
    }
}

/// Reads `server_public_key`.
fn public_key(section: &Section<'_>) -> Option<PublicKey> {
    let file: PathBuf = section.find("server_public_key")?;
    let outside = section.cx.outside?;
    let key = match outside.read(&file, certificate::FILE_BYTES_MAX) {
        Ok(pem) => PublicKey::parse(&pem).ok_or_else(|| "it holds no RSA key in PEM form (BEGIN PUBLIC KEY)".into()),
        // The one in use stays in use: a splitter changes with a restart alone.
        Err(error) if outside.is_excused(&error) => return None,
        Err(error) => Err(format!("it cannot be read: {error}")),
    };
    key.map_err(|label: String| section.bad_value("server_public_key", label)).ok()
}

/// Everything but addresses and account, which have no defaults.
pub(in crate::config) fn splitter_settings(name: &str, section: &Section<'_>) -> Splitter {
    Splitter {
        name: name.into(),
        listen: Vec::new(),
        socket_mode: SOCKET_MODE_DEFAULT,
        proxy_protocol: false,
        trusted_proxies: None,
        servers: Vec::new(),
        primary: PrimaryRule::Fixed(0),
        primary_wait: section.find("primary_wait").unwrap_or_default(),
        held_max: section.get("held_max"),
        held_bytes_max: section.get("held_bytes_max"),
        user: String::new(),
        password: Secret(String::new()),
        users: Vec::new(),
        authentication: match section.get("authentication") {
            "caching_sha2_password" => Method::CachingSha2,
            "client_ed25519" => Method::Ed25519,
            _ => Method::Native,
        },
        compression: section.get("compression"),
        local_infile: section.get("local_infile"),
        tls: None,
        tls_required: section.get("tls_required"),
        server_tls: None,
        server_public_key: None,
        database: String::new(),
        clients_max: section.get("clients_max"),
        pool_max: section.get("pool_max"),
        pool_min: section.get("pool_min"),
        server_connections_max: section.find("server_connections_max"),
        pool_queue_max: section.get("pool_queue_max"),
        pool_age_max: section.get("pool_age_max"),
        pool_timeout: section.get("pool_timeout"),
        connect_timeout: section.get("connect_timeout"),
        pool_idle_timeout: section.get("pool_idle_timeout"),
        client_timeout: section.get("client_timeout"),
        lag_max: section.get("lag_max"),
        latency_max: section.find("latency_max"),
        monitor_interval: section.get("monitor_interval"),
        causal_reads: match section.get("causal_reads") {
            "off" => CausalReads::Off,
            "node" => CausalReads::Node,
            "strict" => CausalReads::Strict,
            _ => CausalReads::Session,
        },
        causal_timeout: section.get("causal_timeout"),
        balance: match section.get("balance") {
            "least-time" => Balance::LeastTime,
            "round-robin" => Balance::RoundRobin,
            "random-two" => Balance::RandomTwo,
            _ => Balance::LeastConn,
        },
        read_only_transactions: section.get::<&str>("read_only_transactions") == "replica",
        digests_max: section.get("digests_max"),
        slow_log: None,
        hints: section.get("hints"),
        rules: Vec::new(),
    }
}

fn addresses(section: &Section<'_>, name: &str) -> Vec<Address> {
    let placed: Vec<Placed<Address>> = section.list(name);
    report_twice(section, name, placed.iter().map(|address| (&address.value, &address.span)));
    placed.into_iter().map(|address| address.value).collect()
}

fn report_twice<'p>(
    section: &Section<'_>,
    name: &str,
    addresses: impl Iterator<Item = (&'p Address, &'p Option<Span>)> + Clone,
) {
    for (at, (address, span)) in addresses.clone().enumerate() {
        if let Some((_, first)) = addresses.clone().take(at).find(|(first, _)| *first == address) {
            let title = format!("{address} stands twice in `{name}` of {}", section.title);
            let problem = Problem::new(title, span.clone(), "take it away");
            section.cx.mistake(problem.related(first.clone(), "first named here"));
        }
    }
}

fn password(section: &Section<'_>) -> Secret {
    let (written, file): (Option<String>, Option<PathBuf>) = (section.find("password"), section.find("password_file"));
    if section.item("password").is_some() && section.item("password_file").is_some() {
        let title = format!("both `password` and `password_file` in {}", section.title);
        let problem = Problem::new(title, section.key_span("password_file"), "keep this one, and take `password` away");
        section.cx.mistake(problem.related(section.key_span("password"), "the other one"));
        return Secret(String::new());
    }
    match (written, file) {
        (Some(password), _) => Secret(password),
        (None, Some(file)) => Secret(secret::read(section, "password_file", "password", &file)),
        (None, None) => {
            let keys = ["password", "password_file"];
            if keys.iter().all(|key| section.item(key).is_none()) && !section.may_be_misspelt(&keys) {
                let title = format!("no password in {}", section.title);
                let label = "add `password_file = \"/etc/one-server/mysql.password\"` or `password`";
                section.cx.mistake(Problem::new(title, section.span.clone(), label));
            }
            Secret(String::new())
        }
    }
}
