//! What [`crate::guard`] needs: whom a listener believes, and the rules and logins of sites and routes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml_edit::{Item, Value as TomlValue};

use crate::config::key::Table;
use crate::config::model::{Options, Satisfy};
use crate::config::report::Problem;
use crate::config::section::{Placed, Section, type_name};
use crate::guard::htpasswd::FILE_BYTES_MAX;
use crate::guard::networks::{AddressRule, RuleOf, parse_network};
use crate::guard::{AddressRules, Auth, Networks, Trust, Users};
use crate::http::fields::{Direction, refusal};

/// `proxy_protocol`, `trusted_proxies` and `real_ip_header` of a listener.
pub(super) fn trust(section: &Section<'_>) -> (bool, Option<Arc<Trust>>) {
    let header: String = section.get("real_ip_header");
    check_header_name(section, &header);
    let (proxy_protocol, networks) = proxies(section);
    if networks.is_none() && section.item("real_ip_header").is_some() && section.item("trusted_proxies").is_none() {
        let title = format!("`real_ip_header` of {} is never read", section.title);
        let label = "nobody is believed: name the proxies in `trusted_proxies`";
        section.cx.warn(Problem::new(title, section.value_span("real_ip_header"), label));
    }
    (proxy_protocol, networks.map(|networks| Arc::new(Trust::new(networks, &header))))
}

/// `proxy_protocol` and `trusted_proxies` of a listener or a splitter; `None`: there are none.
pub(super) fn proxies(section: &Section<'_>) -> (bool, Option<Networks>) {
    let proxy_protocol = section.get::<&str>("proxy_protocol") == "required";
    let written: Vec<Placed<String>> = section.list("trusted_proxies");
    let networks: Vec<_> = written.iter().filter_map(|text| parse_network(&text.value).ok()).collect();
    warn_of_trusting_all(section, &written);
    if proxy_protocol && section.item("trusted_proxies").is_none() && !section.may_be_misspelt(&["trusted_proxies"]) {
        let title = format!("{} believes the PROXY header of everyone who can reach it", section.title);
        let label = "name the balancers in `trusted_proxies`: connections of others are then closed";
        section.cx.warn(Problem::new(title, section.value_span("proxy_protocol"), label));
    }
    (proxy_protocol, (!networks.is_empty()).then(|| Networks::new(networks)))
}

/// A field name is a token, RFC 9110 section 5.6.2.
fn check_header_name(section: &Section<'_>, name: &str) {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name == "proxy_protocol" {
        section.bad_value("real_ip_header", "write proxy_protocol = \"required\": its address counts without this key");
    } else if !name.bytes().all(token) {
        section.bad_value("real_ip_header", format!("`{name}` is not the name of a field: write X-Forwarded-For"));
    }
}

fn warn_of_trusting_all(section: &Section<'_>, networks: &[Placed<String>]) {
    for network in networks.iter().filter(|network| network.value.ends_with("/0")) {
        let title = format!("{} believes everyone", section.title);
        let label = "any client may claim any address: name the proxies in front only";
        section.cx.warn(Problem::new(title, network.span.clone(), label));
    }
}

/// What a site or route asks for before it answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Guards {
    pub(super) access: Option<Arc<AddressRules>>,
    pub(super) auth: Option<Arc<Auth>>,
    pub(super) satisfy: Satisfy,
    pub(super) auth_request: Option<Arc<str>>,
    pub(super) auth_request_headers: Arc<[String]>,
}

/// The keys of a site or a route that are about it.
pub(super) const KEYS: [&str; 5] = ["access", "auth", "satisfy", "auth_request", "auth_request_headers"];

impl Guards {
    /// Those of `options`.
    pub(super) fn of(options: &Options) -> Guards {
        Guards {
            access: options.access.clone(),
            auth: options.auth.clone(),
            satisfy: options.satisfy,
            auth_request: options.auth_request.clone(),
            auth_request_headers: options.auth_request_headers.clone(),
        }
    }
}

/// The guards of a site or a route: its own, each in place of the one above.
pub(super) fn of_route(section: &Section<'_>, site: &Guards) -> Guards {
    Guards {
        access: if section.item("access").is_some() { access(section) } else { site.access.clone() },
        auth: match section.item("auth") {
            Some(item) => auth(section, item),
            None => site.auth.clone(),
        },
        satisfy: match section.find("satisfy") {
            Some("any") => Satisfy::Any,
            Some(_) => Satisfy::All,
            None => site.satisfy,
        },
        auth_request: match section.item("auth_request") {
            Some(item) => auth_request(section, item),
            None => site.auth_request.clone(),
        },
        auth_request_headers: match section.item("auth_request_headers") {
            Some(_) => auth_request_headers(section),
            None => site.auth_request_headers.clone(),
        },
    }
}

fn auth_request(section: &Section<'_>, item: &Item) -> Option<Arc<str>> {
    let label = match item {
        Item::Value(TomlValue::Boolean(switch)) if !switch.value() => return None,
        Item::Value(TomlValue::String(text)) => {
            let text = text.value();
            if !text.starts_with('/') {
                "it is a path of the same site, whose route may be a `proxy`: it begins with `/`".into()
            } else if text.bytes().any(|byte| byte <= b' ' || byte >= 0x7F) {
                "a target has visible ASCII characters alone: percent-encode the others".into()
            } else {
                return Some(text.as_str().into());
            }
        }
        item => {
            let form = section.table.key("auth_request").map(|key| key.kind.describe()).unwrap_or_default();
            format!("it is {}, but the key takes {form}", type_name(item))
        }
    };
    section.bad_value("auth_request", label);
    None
}

fn auth_request_headers(section: &Section<'_>) -> Arc<[String]> {
    let written: Vec<Placed<String>> = section.list("auth_request_headers");
    for name in &written {
        let is_host = name.value.eq_ignore_ascii_case("host");
        let refused = refusal(&name.value, Direction::Request);
        if let Some(label) = refused.or_else(|| is_host.then(|| "a request keeps the Host it came with".into())) {
            let title = format!("bad field `{}` in auth_request_headers of {}", name.value, section.title);
            section.cx.mistake(Problem::new(title, name.span.clone(), label));
        }
    }
    written.into_iter().map(|name| name.value).collect()
}

pub(super) fn access(section: &Section<'_>) -> Option<Arc<AddressRules>> {
    let written: Vec<Placed<String>> = section.list("access");
    let rules: Vec<AddressRule> = written.iter().filter_map(|text| AddressRule::parse(&text.value).ok()).collect();
    if let Some(all) = rules.iter().position(|rule| rule.of == RuleOf::All)
        && let Some(behind) = written.get(all + 1)
        && rules.len() == written.len()
    {
        let title = format!("a rule in {} never matches", section.title);
        let label = format!("\"{}\" in front of it matches everyone: move that to the end", written[all].value);
        section.cx.warn(Problem::new(title, behind.span.clone(), label));
    }
    (!rules.is_empty()).then(|| Arc::new(AddressRules::new(&rules)))
}

fn auth<'a>(section: &Section<'a>, item: &'a Item) -> Option<Arc<Auth>> {
    if let Item::Value(TomlValue::Boolean(switch)) = item {
        if *switch.value() {
            section.bad_value("auth", "write the table, or `false` for no login");
        }
        return None;
    }
    if !item.is_table_like() {
        let form = section.table.key("auth").map(|key| key.kind.describe()).unwrap_or_default();
        section.bad_value("auth", format!("it is {}, but the key takes {form}", type_name(item)));
        return None;
    }
    let title = format!("auth of {}", section.title);
    let auth = Section::from_item(section.cx, Table::Auth, title, item, section.key_span("auth"))?;
    let (realm, file): (Option<String>, Option<PathBuf>) = (auth.need("realm"), auth.need("users_file"));
    let (realm, file) = (realm?, file?);
    let users = read_users(&auth, &file);
    Some(Arc::new(Auth::new(&realm, &file, Arc::new(users))))
}

/// A pure parse has no users, which lets nobody in.
fn read_users(section: &Section<'_>, file: &Path) -> Users {
    let text = match section.cx.outside.map(|outside| outside.text(file, FILE_BYTES_MAX)) {
        Some(Ok(text)) => text,
        Some(Err(error)) => {
            section.bad_value("users_file", format!("it cannot be read: {error}"));
            return Users::parse("").0;
        }
        None => return Users::parse("").0,
    };
    let (users, problems) = Users::parse(&text);
    for problem in &problems {
        section.bad_value("users_file", format!("{}: {problem}", file.display()));
    }
    if users.count() == 0 && problems.is_empty() {
        let title = format!("{} has no users", file.display());
        let label = "nobody can log in: add one with `htpasswd -B`";
        section.cx.warn(Problem::new(title, section.value_span("users_file"), label));
    }
    users
}
