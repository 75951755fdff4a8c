//! `tls` of a listener and its certificates. A check also looks into the files: what would fail at the start fails here,
//! with its place.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml_edit::{Item, Value as TomlValue};

use crate::config::key::Table;
use crate::config::model::{CertificateFiles, ClientCertificates, Tls, TlsProfile, UnknownNames};
use crate::config::report::{Problem, Span};
use crate::config::section::{Outside, Section, type_name, value_type_name};
use crate::tls::certificate::{self, Certificate, Part};
use crate::tls::tickets::{self, Secrets};

/// Compiles `tls` of a listener; `None` when it is not written, or is no table.
pub(super) fn compile(listener: &Section<'_>) -> Option<Arc<Tls>> {
    let item = listener.item("tls")?;
    let title = format!("tls of {}", listener.title);
    let section = Section::from_item(listener.cx, Table::Tls, title, item, listener.key_span("tls"))?;
    let tls = Tls {
        certificates: certificates(&section),
        profile: match section.get("profile") {
            "modern" => TlsProfile::Modern,
            _ => TlsProfile::Intermediate,
        },
        unknown_names: match section.get("unknown_names") {
            "refuse" => UnknownNames::Refuse,
            _ => UnknownNames::Default,
        },
        client_certificates: match section.get("client_certificates") {
            "optional" => ClientCertificates::Optional,
            "required" => ClientCertificates::Required,
            _ => ClientCertificates::Off,
        },
        client_ca: section.find("client_ca"),
        ticket_keys: section.find("ticket_keys"),
        handshake_timeout: section.get("handshake_timeout"),
    };
    report_client_certificates(&section, &tls);
    report_ticket_keys(&section, &tls);
    Some(Arc::new(tls))
}

/// Tables in a list, one table, or `[[listener.NAME.tls.certificates]]`.
fn certificates<'a>(section: &Section<'a>) -> Vec<CertificateFiles> {
    let title = format!("certificates of {}", section.title);
    let entry = |toml: &'a dyn toml_edit::TableLike, span: Option<Span>| {
        Section::new(section.cx, Table::Certificate, title.clone(), toml, span)
    };
    let one = |value: &'a TomlValue| match value {
        TomlValue::InlineTable(table) => Some(entry(table, value.span())),
        _ => {
            let label = format!("it is {}: write a table with `chain` and `key`", value_type_name(value));
            section.cx.mistake(Problem::new(format!("bad certificate in {}", section.title), value.span(), label));
            None
        }
    };
    let entries: Vec<Section<'a>> = match section.item("certificates") {
        None => {
            section.report_missing("certificates");
            return Vec::new();
        }
        Some(Item::ArrayOfTables(tables)) => tables.iter().map(|table| entry(table, table.span())).collect(),
        Some(Item::Table(table)) => vec![entry(table, table.span())],
        Some(Item::Value(TomlValue::Array(array))) if array.is_empty() => {
            section.bad_value("certificates", "it is empty: name at least one certificate");
            return Vec::new();
        }
        Some(Item::Value(TomlValue::Array(array))) => array.iter().filter_map(one).collect(),
        Some(Item::Value(value @ TomlValue::InlineTable(_))) => one(value).into_iter().collect(),
        Some(item) => {
            let label = format!("it is {}: write a list of tables with `chain` and `key`", type_name(item));
            section.bad_value("certificates", label);
            return Vec::new();
        }
    };
    let mut loaded = Vec::new();
    entries.iter().filter_map(|entry| one_certificate(entry, &mut loaded)).collect()
}

/// `loaded` are those before it that could be read, each with its place.
fn one_certificate(section: &Section<'_>, loaded: &mut Vec<(Certificate, Option<Span>)>) -> Option<CertificateFiles> {
    let (chain, key): (Option<PathBuf>, Option<PathBuf>) = (section.need("chain"), section.need("key"));
    let files = CertificateFiles { chain: chain?, key: key? };
    if let Some(outside) = section.cx.outside
        && let Some(certificate) = look_into(section, outside, &files)
    {
        report_concerns(section, outside, &certificate);
        let span = section.value_span("chain");
        report_hidden(section, &certificate, loaded);
        loaded.push((certificate, span));
    }
    Some(files)
}

fn look_into(section: &Section<'_>, outside: &dyn Outside, files: &CertificateFiles) -> Option<Certificate> {
    let read = |name: &str, path: &Path| match outside.read(path, certificate::FILE_BYTES_MAX) {
        Ok(bytes) => Some(bytes),
        Err(error) if outside.is_excused(&error) => None,
        Err(error) => {
            section.bad_value(name, format!("it cannot be read: {error}"));
            None
        }
    };
    let (chain, key) = (read("chain", &files.chain), read("key", &files.key));
    if key.is_some() {
        report_readers(section, outside, "key", &files.key);
    }
    match Certificate::parse(&chain?, &key?) {
        Ok(certificate) => Some(certificate),
        Err(error) => {
            let name = if error.part() == Part::Chain { "chain" } else { "key" };
            section.bad_value(name, error.to_string());
            None
        }
    }
}

fn report_concerns(section: &Section<'_>, outside: &dyn Outside, certificate: &Certificate) {
    for concern in certificate.concerns(outside.now()) {
        let title =
            format!("a certificate of {} needs attention", section.title.trim_start_matches("certificates of "));
        section.cx.warn(Problem::new(title, section.value_span("chain"), concern.to_string()));
    }
}

/// All of its names have a certificate with the same kind of key already: it would never be used.
fn report_hidden(section: &Section<'_>, certificate: &Certificate, loaded: &[(Certificate, Option<Span>)]) {
    let first_with = |name: &String| {
        loaded.iter().find(|(first, _)| first.key_type() == certificate.key_type() && first.names().contains(name))
    };
    let owners: Option<Vec<_>> = certificate.names().iter().map(first_with).collect();
    if let Some((_, span)) = owners.as_deref().and_then(|owners| owners.first()) {
        let title = format!("a certificate of {} is never used", section.title.trim_start_matches("certificates of "));
        let problem =
            Problem::new(title, section.value_span("chain"), "its names have a certificate already: take one away");
        section.cx.warn(problem.related(span.clone(), "this one comes first"));
    }
}

/// A key belongs to the server alone.
fn report_readers(section: &Section<'_>, outside: &dyn Outside, name: &str, file: &Path) {
    let who = match outside.mode(file) {
        Some(mode) if mode & 0o004 != 0 => "every user of this machine",
        Some(mode) if mode & 0o040 != 0 => "the group of the file",
        _ => return,
    };
    let what = if name == "key" { "a private key" } else { "the secret of session tickets" };
    let title = format!("{what} of {} is not private", section.title.trim_start_matches("certificates of "));
    let label = format!("{who} may read it: run `chmod 600 {}`", file.display());
    section.cx.warn(Problem::new(title, section.value_span(name), label));
}

fn report_client_certificates(section: &Section<'_>, tls: &Tls) {
    let is_off = tls.client_certificates == ClientCertificates::Off;
    match &tls.client_ca {
        None if !is_off && section.item("client_ca").is_none() && !section.may_be_misspelt(&["client_ca"]) => {
            section.bad_value("client_certificates", "add `client_ca`, a file with the authorities that issue them");
        }
        Some(_) if is_off => {
            let title = format!("`client_ca` of {} is not used", section.title);
            let label = "add `client_certificates = \"optional\"` or \"required\", or take it away";
            section.cx.warn(Problem::new(title, section.key_span("client_ca"), label));
        }
        _ => {}
    }
    let (Some(outside), Some(file)) = (section.cx.outside, &tls.client_ca) else { return };
    match outside.read(file, certificate::FILE_BYTES_MAX) {
        Err(error) if outside.is_excused(&error) => {}
        Err(error) => section.bad_value("client_ca", format!("it cannot be read: {error}")),
        Ok(pem) => {
            if let Err(error) = crate::tls::parse_authorities(&pem) {
                section.bad_value("client_ca", error.to_string());
            }
        }
    }
}

fn report_ticket_keys(section: &Section<'_>, tls: &Tls) {
    let Some(file) = &tls.ticket_keys else { return };
    if tls.client_certificates != ClientCertificates::Off {
        let title = format!("`ticket_keys` of {} is not used", section.title);
        let label = "nothing is resumed where clients are asked for certificates: take it away";
        section.cx.warn(Problem::new(title, section.key_span("ticket_keys"), label));
    }
    let Some(outside) = section.cx.outside else { return };
    match outside.read(file, tickets::FILE_BYTES_MAX) {
        Ok(bytes) => {
            report_readers(section, outside, "ticket_keys", file);
            if let Err(error) = Secrets::parse(&bytes) {
                section.bad_value("ticket_keys", error.to_string());
            }
        }
        // It is created at the start, where its folder is.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !outside.is_folder(folder)) {
                section.bad_value("ticket_keys", format!("it cannot be created: {} is not a folder", folder.display()));
            }
        }
        Err(error) if outside.is_excused(&error) => {}
        Err(error) => section.bad_value("ticket_keys", format!("it cannot be read: {error}")),
    }
}
