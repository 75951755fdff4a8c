//! `sticky` of an upstream: the cookie that leads clients back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::compile::secret;
use crate::config::key::Table;
use crate::config::model::Server;
use crate::config::report::Problem;
use crate::config::section::Section;
use crate::proxy::sticky::{Attributes, Secure, Sticky};

/// A secret shorter than this can be found by trying.
const SECRET_BYTES_MIN: usize = 16;

pub(super) fn sticky(name: &str, upstream: &Section<'_>, servers: &[Server]) -> Option<Arc<Sticky>> {
    let item = upstream.item("sticky")?;
    let title = format!("sticky of {}", upstream.title);
    let section = Section::from_item(upstream.cx, Table::Sticky, title, item, upstream.key_span("sticky"))?;
    let (cookie, secret) = (cookie(&section), secret_of(&section));
    let domain: Option<String> = section.find("domain");
    report_bad_attribute(&section, "domain", domain.as_deref().unwrap_or_default());
    let path: String = section.get("path");
    report_bad_attribute(&section, "path", &path);
    let secure = match section.get("secure") {
        "always" => Secure::Always,
        "never" => Secure::Never,
        _ => Secure::Auto,
    };
    let same_site = match section.get("same_site") {
        "strict" => Some("Strict"),
        "none" => Some("None"),
        "off" => None,
        _ => Some("Lax"),
    };
    if same_site == Some("None") && secure == Secure::Never {
        section.bad_value("same_site", "browsers take `none` only with `Secure`: take `secure = \"never\"` away");
    }
    let attributes = Attributes {
        domain: domain.as_deref(),
        path: &path,
        max_age_seconds: section.find::<Duration>("max_age").map(|age| age.as_secs()),
        http_only: section.get("http_only"),
        same_site,
        secure,
    };
    let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    let addresses = addresses.iter().map(String::as_str);
    Some(Arc::new(Sticky::new(&cookie?, secret?.as_bytes(), name, addresses, &attributes)))
}

/// A token of RFC 9110 section 5.6.2.
fn cookie(section: &Section<'_>) -> Option<String> {
    let cookie: String = section.need("cookie")?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !cookie.bytes().all(is_token) {
        section.bad_value("cookie", "the name of a cookie has letters, digits, `-` and `_`");
        return None;
    }
    Some(cookie)
}

fn secret_of(section: &Section<'_>) -> Option<String> {
    let (written, file): (Option<String>, Option<PathBuf>) = (section.find("secret"), section.find("secret_file"));
    let (key, secret) = match (written, file) {
        (Some(_), Some(_)) => {
            let title = format!("both `secret` and `secret_file` in {}", section.title);
            let problem = Problem::new(title, section.key_span("secret_file"), "keep this one, and take `secret` away");
            section.cx.mistake(problem.related(section.key_span("secret"), "the other one"));
            return None;
        }
        (Some(secret), None) => ("secret", secret),
        (None, Some(file)) => {
            let before = section.cx.problems.borrow().len();
            let secret = secret::read(section, "secret_file", "secret", &file);
            // A file is not read by everybody who compiles a config, nor always by a process that runs, and its mistakes
            // have been told.
            if secret.is_empty() || section.cx.problems.borrow().len() > before {
                return Some(secret);
            }
            ("secret_file", secret)
        }
        (None, None) => {
            if !section.may_be_misspelt(&["secret", "secret_file"]) {
                let title = format!("no secret in {}", section.title);
                let label = "add `secret_file` or `secret`: whoever knows it can choose servers. `openssl rand -base64 24` makes one";
                section.cx.mistake(Problem::new(title, section.span.clone(), label));
            }
            return None;
        }
    };
    if secret.len() < SECRET_BYTES_MIN {
        let label =
            format!("it has {} bytes, which can be found by trying: write {SECRET_BYTES_MIN} at least", secret.len());
        section.bad_value(key, label);
        return None;
    }
    Some(secret)
}

/// RFC 6265 section 4.1.1: no control bytes and no semicolon.
fn report_bad_attribute(section: &Section<'_>, key: &str, value: &str) {
    if !value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
        section.bad_value(key, "it cannot stand in a cookie: write visible ASCII without spaces and `;`");
    }
}
