//! `health = { … }` of an upstream: what is asked of its servers, and when.

use std::path::PathBuf;
use std::sync::Arc;

use toml_edit::Item;

use super::secret;
use crate::config::health::is_field_name;
use crate::config::key::Table;
use crate::config::model::{
    CheckTls, FieldMatch, Health, HttpProbe, MysqlProbe, Pace, Probe, Protocol, ProxyVersion, Secret, StatusSet,
    TextMatch, TextProbe,
};
use crate::config::report::Problem;
use crate::config::section::{Context, Placed, Section, type_name};
use crate::config::value::parse_field;
use crate::tls::certificate;

/// Fields that a check writes itself, or that would change where its message ends.
const OWN_FIELDS: [&str; 6] = ["host", "connection", "content-length", "transfer-encoding", "upgrade", "expect"];

/// Longest datagram of IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Keys that mean something for some kinds of check only.
const KEYS_OF_KINDS: [(&str, &[&str]); 16] = [
    ("path", &["http"]),
    ("method", &["http"]),
    ("host", &["http"]),
    ("headers", &["http"]),
    ("protocol", &["http"]),
    ("status", &["http"]),
    ("expect_header", &["http"]),
    ("expect_body", &["http"]),
    ("tls", &["http", "tls"]),
    ("send", &["tcp", "tls", "udp"]),
    ("expect", &["tcp", "tls", "udp"]),
    ("expect_max", &["http", "tcp", "tls", "udp"]),
    ("proxy_protocol", &["http", "tcp", "tls", "mysql"]),
    ("user", &["mysql"]),
    ("password", &["mysql"]),
    ("password_file", &["mysql"]),
];

/// The check of an upstream; `item` is the key's value in the file.
pub(super) fn compile<'a>(upstream: &Section<'a>, item: Option<&'a Item>) -> Option<Health> {
    let cx: &'a Context<'a> = upstream.cx;
    let title = format!("health of {}", upstream.title);
    match item.map(|item| (item, item.as_bool())) {
        None | Some((_, Some(true))) => Some(settings(&Section::absent(cx, Table::Health))),
        Some((_, Some(false))) => None,
        Some((item, None)) if item.is_table_like() => {
            Section::from_item(cx, Table::Health, title, item, None).map(|section| settings(&section))
        }
        Some((item, None)) => {
            let forms = "write true, false, or a table such as { path = \"/healthz\" }";
            upstream.bad_value("health", format!("it is {}: {forms}", type_name(item)));
            None
        }
    }
}

fn settings(section: &Section<'_>) -> Health {
    let path: Option<String> = section.find("path");
    let written: Option<&str> = section.find("kind");
    let kind = written.unwrap_or(if path.is_some() || section.item("path").is_some() { "http" } else { "tcp" });
    report_keys_of_other_kinds(section, kind, written.is_some());
    let interval = section.get("interval");
    Health {
        probe: match kind {
            "http" => Probe::Http(Box::new(http(section, path))),
            "mysql" => Probe::Mysql(MysqlProbe { login: login(section) }),
            "udp" => Probe::Datagram(datagram(section)),
            _ => Probe::Text(text(section)),
        },
        tls: tls(section, kind),
        proxy_protocol: match section.find("proxy_protocol") {
            Some("v1") => Some(ProxyVersion::V1),
            Some("v2") => Some(ProxyVersion::V2),
            _ => None,
        },
        protocol: match section.find("protocol") {
            Some("h2") => Protocol::H2,
            Some("auto") => Protocol::Auto,
            _ => Protocol::Http1,
        },
        port: section.find("check_port"),
        timeout: section.get("timeout"),
        pace: Pace {
            interval,
            fast_interval: section.find("fast_interval").unwrap_or(interval),
            down_interval: section.find("down_interval").unwrap_or(interval),
            jitter_percent: section.get("jitter"),
        },
        rise: section.get("rise"),
        fall: section.get("fall"),
    }
}

fn report_keys_of_other_kinds(section: &Section<'_>, kind: &str, is_written: bool) {
    for (key, kinds) in KEYS_OF_KINDS {
        if section.item(key).is_none() || kinds.contains(&kind) {
            continue;
        }
        let label = match (kinds, is_written) {
            (["http"], false) => "add a `path`, such as \"/healthz\"".to_owned(),
            ([one], false) => format!("add kind = \"{one}\""),
            _ => format!("it is for kind = \"{}\": take it away", kinds.join("\" or \"")),
        };
        let title = format!("`{key}` does nothing in a check of kind {kind} in {}", section.title);
        section.cx.mistake(Problem::new(title, section.key_span(key), label));
    }
}

fn http(section: &Section<'_>, path: Option<String>) -> HttpProbe {
    HttpProbe {
        method: section.get("method"),
        path: path.unwrap_or_else(|| "/".into()),
        host: section.find("host"),
        fields: fields(section),
        statuses: statuses(section),
        expect_header: parsed(section, "expect_header", FieldMatch::parse),
        expect_body: expect_body(section),
        body_bytes_max: section.get("expect_max"),
    }
}

/// The text of a key, read by `parse`; reports what that says.
fn parsed<T>(section: &Section<'_>, key: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
    let text: String = section.find(key)?;
    parse(&text).map_err(|label| section.bad_value(key, label)).ok()
}

fn expect_body(section: &Section<'_>) -> Option<TextMatch> {
    if section.get::<&str>("method") == "HEAD" && section.item("expect_body").is_some() {
        section.bad_value("expect_body", "an answer to HEAD has no body: write method = \"GET\"");
    }
    parsed(section, "expect_body", TextMatch::parse)
}

fn fields(section: &Section<'_>) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for (name, value, span) in section.entries("headers", "field names with their values, { X-Name = \"value\" }") {
        let bad = |span, label: String| {
            section.cx.mistake(Problem::new(
                format!("bad field `{name}` in headers of {}", section.title),
                span,
                label,
            ));
        };
        if !is_field_name(name) {
            bad(span, "a name has letters, digits and `-`".into());
        } else if name.eq_ignore_ascii_case("host") {
            bad(span, "write it as `host`".into());
        } else if OWN_FIELDS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            bad(span, "a check writes it itself".into());
        } else if fields.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            bad(span, "it stands twice: keep one".into());
        } else if let Some(text) = value.as_str() {
            match parse_field(text) {
                Ok(_) => fields.push((name.into(), text.into())),
                Err(label) => bad(value.span(), label),
            }
        } else {
            bad(value.span().or(span), format!("it is {}: write a text", type_name(value)));
        }
    }
    fields
}

fn statuses(section: &Section<'_>) -> StatusSet {
    let entry = |Placed { value, span }: Placed<String>| match StatusSet::parse_entry(&value) {
        Ok(range) => Some((range, value)),
        Err(label) => {
            section.cx.mistake(Problem::new(format!("bad value for `status` in {}", section.title), span, label));
            None
        }
    };
    if section.item("status").and_then(Item::as_array).is_some_and(|array| array.is_empty()) {
        section.bad_value("status", "it is empty, so that no answer would be healthy");
    }
    StatusSet::new(section.list("status").into_iter().filter_map(entry).collect())
}

fn text(section: &Section<'_>) -> TextProbe {
    TextProbe {
        send: section.find::<String>("send").unwrap_or_default().into(),
        expect: parsed(section, "expect", TextMatch::parse),
        bytes_max: section.get("expect_max"),
    }
}

/// Nothing would come of nothing.
fn datagram(section: &Section<'_>) -> TextProbe {
    if section.item("send").is_none() {
        section.report_missing("send");
    }
    let probe = text(section);
    if probe.send.len() > DATAGRAM_BYTES_MAX {
        section.bad_value(
            "send",
            format!("it has {} bytes, but a datagram at most {DATAGRAM_BYTES_MAX}", probe.send.len()),
        );
    }
    probe
}

fn login(section: &Section<'_>) -> Option<(String, Secret)> {
    let user: Option<String> = section.find("user");
    let (written, file): (Option<String>, Option<PathBuf>) = (section.find("password"), section.find("password_file"));
    if let (Some(_), Some(_)) = (section.item("password"), section.item("password_file")) {
        section.bad_value("password_file", "`password` is there too: keep one");
    }
    let password = match (written, file) {
        (Some(password), _) => Secret(password),
        (None, Some(file)) => Secret(secret::read(section, "password_file", "password", &file)),
        (None, None) => Secret(String::new()),
    };
    if user.is_none() {
        if let Some(key) = ["password", "password_file"].into_iter().find(|key| section.item(key).is_some()) {
            let title = format!("`{key}` without `user` in {}", section.title);
            section.cx.mistake(Problem::new(title, section.key_span(key), "add `user`, who logs on with it"));
        } else if section.item("user").is_none() && !section.may_be_misspelt(&["user"]) {
            let title = format!("checks of kind mysql without `user` in {}", section.title);
            let label = "the server counts each as a failed handshake and refuses this machine after max_connect_errors: \
                         add a user without rights";
            section.cx.warn(Problem::new(title, section.value_span("kind"), label));
        }
    }
    user.map(|user| (user, password))
}

fn tls(section: &Section<'_>, kind: &str) -> Option<CheckTls> {
    let (ca, name): (Option<PathBuf>, Option<String>) = (section.find("ca"), section.find("server_name"));
    if kind != "tls" && !section.find::<bool>("tls").unwrap_or(false) {
        for key in ["ca", "server_name"].into_iter().filter(|key| section.item(key).is_some()) {
            let title = format!("`{key}` does nothing in a check without TLS in {}", section.title);
            let label = if kind == "http" { "add tls = true" } else { "write kind = \"tls\"" };
            section.cx.mistake(Problem::new(title, section.key_span(key), label));
        }
        return None;
    }
    if let Some(name) = &name
        && rustls_pki_types::ServerName::try_from(name.as_str()).is_err()
    {
        section.bad_value("server_name", format!("`{name}` is neither a host name nor an address"));
    }
    let host: Option<String> = section.find("host");
    let host = host.filter(|host| rustls_pki_types::DnsName::try_from(host.as_str()).is_ok());
    let roots = ca.as_ref().and_then(|file| {
        let pem = match section.cx.outside?.read(file, certificate::FILE_BYTES_MAX) {
            Ok(pem) => pem,
            Err(error) => {
                section.bad_value("ca", format!("it cannot be read: {error}"));
                return None;
            }
        };
        crate::tls::parse_authorities(&pem).map_err(|error| section.bad_value("ca", error.to_string())).ok()
    });
    Some(CheckTls { server_name: name.or(host), ca, roots: roots.map(Arc::new), identity: None })
}
