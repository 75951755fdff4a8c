//! `tls` of an upstream. The files it names are read here: what would fail at the first request fails at the start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;

use crate::config::key::Table;
use crate::config::model::{CertificateFiles, Server, UpstreamTls};
use crate::config::report::Problem;
use crate::config::section::{Outside, Section, type_name};
use crate::runtime::net::Address;
use crate::tls::certificate::{self, Certificate, Part};
use crate::tls::{Offer, ServerTrust, outbound};

/// Compiles `tls` of an upstream; `None`: its servers are reached in clear text.
pub(super) fn compile(upstream: &Section<'_>, servers: &[Server]) -> Option<Arc<UpstreamTls>> {
    let has_unix = servers.iter().any(|server| matches!(server.address, Address::Unix(_)));
    compile_key(upstream, "tls", has_unix, Offer::Http1)
}

/// The same under another name. `has_unix`: it is for Unix sockets, too, whose certificates need a name.
pub(super) fn compile_key(
    upstream: &Section<'_>,
    name: &str,
    has_unix: bool,
    offer: Offer,
) -> Option<Arc<UpstreamTls>> {
    let item = upstream.item(name)?;
    let title = format!("{name} of {}", upstream.title);
    let section = match item.as_bool() {
        Some(false) => return None,
        Some(true) => Section::absent(upstream.cx, Table::UpstreamTls),
        None if item.is_table_like() => {
            Section::from_item(upstream.cx, Table::UpstreamTls, title, item, upstream.key_span(name))?
        }
        None => {
            let forms = "write true, false, or a table such as { server_name = \"api.internal\" }";
            upstream.bad_value(name, format!("it is {}: {forms}", type_name(item)));
            return None;
        }
    };
    let server_name = section.find::<String>("server_name").and_then(|text| match outbound::server_name(&text) {
        Ok(name) => Some(name),
        Err(error) => {
            section.bad_value("server_name", error.to_string());
            None
        }
    });
    let is_verified: bool = section.get("verify");
    if has_unix && server_name.is_none() && section.item("server_name").is_none() {
        let title = format!("{name} of {} has no name", upstream.title);
        let label = "a Unix socket has no address that a certificate could be for: add `server_name`";
        upstream.cx.mistake(Problem::new(title, upstream.value_span(name), label));
    }
    if !is_verified && section.item("ca").is_some() {
        let title = format!("`ca` of {} is not used", section.title);
        section.cx.warn(Problem::new(title, section.key_span("ca"), "with `verify = false` any certificate is good"));
    }
    let authorities = is_verified.then(|| authorities(upstream, name, &section));
    let files = identity_files(&section);
    let identity = files.as_ref().and_then(|files| identity(&section, files));
    let trust = ServerTrust::new(authorities, identity);
    if let Err(error) = trust.settings(offer) {
        upstream.bad_value(name, error.to_string());
        return None;
    }
    Some(Arc::new(UpstreamTls { server_name, ca: section.find("ca"), identity: files, trust }))
}

/// Those of the file, or of the system. Nobody is trusted where they cannot be read.
fn authorities(upstream: &Section<'_>, name: &str, section: &Section<'_>) -> RootCertStore {
    let Some(outside) = section.cx.outside else { return RootCertStore::empty() };
    let Some(file) = section.find::<PathBuf>("ca") else {
        return system_authorities(outside).unwrap_or_else(|| {
            let label = "this system has no file of authorities that is known: write `ca`, or install ca-certificates";
            upstream.bad_value(name, label);
            RootCertStore::empty()
        });
    };
    let bad = |label: String| {
        section.bad_value("ca", label);
        RootCertStore::empty()
    };
    match outside.read(&file, certificate::FILE_BYTES_MAX) {
        Err(error) => bad(format!("it cannot be read: {error}")),
        Ok(pem) => crate::tls::parse_authorities(&pem).unwrap_or_else(|error| bad(error.to_string())),
    }
}

fn system_authorities(outside: &dyn Outside) -> Option<RootCertStore> {
    let read = |file: &&str| outside.read(Path::new(file), outbound::SYSTEM_FILE_BYTES_MAX).ok();
    let roots = outbound::SYSTEM_FILES.iter().find_map(read).map(|pem| outbound::parse_system_authorities(&pem))?;
    (!roots.is_empty()).then_some(roots)
}

/// Where the certificate is that servers may ask for.
fn identity_files(section: &Section<'_>) -> Option<CertificateFiles> {
    match (section.find("chain"), section.find("key")) {
        (None, None) => None,
        (Some(chain), Some(key)) => Some(CertificateFiles { chain, key }),
        (Some(_), None) => {
            section.bad_value("chain", "add `key`, the private key that belongs to it");
            None
        }
        (None, Some(_)) => {
            section.bad_value("key", "add `chain`, the certificate that it belongs to");
            None
        }
    }
}

fn identity(section: &Section<'_>, files: &CertificateFiles) -> Option<Certificate> {
    let outside = section.cx.outside?;
    let read = |name: &str, path: &Path| match outside.read(path, certificate::FILE_BYTES_MAX) {
        Ok(bytes) => Some(bytes),
        // The one in use goes on: see `adopt`.
        Err(error) if outside.is_excused(&error) => None,
        Err(error) => {
            section.bad_value(name, format!("it cannot be read: {error}"));
            None
        }
    };
    let (chain, key) = (read("chain", &files.chain), read("key", &files.key));
    match Certificate::parse(&chain?, &key?) {
        Ok(certificate) => Some(certificate),
        Err(error) => {
            section.bad_value(if error.part() == Part::Chain { "chain" } else { "key" }, error.to_string());
            None
        }
    }
}
