//! `[mysql.NAME]`: a read/write splitter.

use std::path::PathBuf;

use super::secret;
use crate::config::model::{CausalReads, Secret, Splitter};
use crate::config::report::Problem;
use crate::config::section::{Placed, Section};
use crate::runtime::net::Address;

/// Compiles one splitter of a file.
pub(super) fn compile(name: &str, section: &Section<'_>) -> Splitter {
    let mut splitter = splitter_settings(name, section);
    splitter.listen = addresses(section, "listen");
    if section.item("listen").and_then(|item| item.as_array()).is_some_and(|array| array.is_empty()) {
        section.bad_value("listen", "it is empty: name at least one address");
    }
    if let Some(primary) = section.need("primary") {
        splitter.primary = primary;
    }
    splitter.replicas = addresses(section, "replicas");
    splitter.user = section.need("user").unwrap_or_default();
    splitter.password = password(section);
    splitter.database = section.find("database").unwrap_or_default();
    splitter
}

/// Everything but addresses and account, which have no defaults.
pub(in crate::config) fn splitter_settings(name: &str, section: &Section<'_>) -> Splitter {
    Splitter {
        name: name.into(),
        listen: Vec::new(),
        primary: Address::Tcp(([127, 0, 0, 1], 3306).into()),
        replicas: Vec::new(),
        user: String::new(),
        password: Secret(String::new()),
        database: String::new(),
        clients_max: section.get("clients_max"),
        pool_max: section.get("pool_max"),
        pool_timeout: section.get("pool_timeout"),
        connect_timeout: section.get("connect_timeout"),
        pool_idle_timeout: section.get("pool_idle_timeout"),
        client_timeout: section.get("client_timeout"),
        lag_max: section.get("lag_max"),
        monitor_interval: section.get("monitor_interval"),
        causal_reads: match section.get("causal_reads") {
            "off" => CausalReads::Off,
            _ => CausalReads::Session,
        },
        causal_timeout: section.get("causal_timeout"),
    }
}

fn addresses(section: &Section<'_>, name: &str) -> Vec<Address> {
    let placed: Vec<Placed<Address>> = section.list(name);
    for (at, address) in placed.iter().enumerate() {
        if let Some(first) = placed[..at].iter().find(|first| first.value == address.value) {
            let title = format!("{} stands twice in `{name}` of {}", address.value, section.title);
            let problem = Problem::new(title, address.span.clone(), "take it away");
            section.cx.mistake(problem.related(first.span.clone(), "first named here"));
        }
    }
    placed.into_iter().map(|address| address.value).collect()
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
