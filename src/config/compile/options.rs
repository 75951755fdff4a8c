//! What `[http]`, sites and routes have in common, each level laid over the one above.
//!
//! One rule: a key written at a lower level replaces what the levels above say. `headers`, `request_headers` and
//! `variables` are merged instead, the lower level wins field by field (in nginx one `add_header` makes all of those above disappear).

mod cookies;
mod headers;
pub(super) mod location;
mod pages;

use std::sync::Arc;
use std::time::Duration;

use toml_edit::Item;

use super::guard::{self, Guards};
use super::site::names::RouteNames;
use super::{compress, limits, substitute, variables};
use crate::config::key::Table;
use crate::config::model::{Hsts, Options, SentFolders};
use crate::config::report::{Problem, Span};
use crate::config::section::{Section, type_name};
use crate::config::value::parse_duration;
use crate::http::caching::{Expires, Lifetime, MediaRange};
use crate::http::fields::Direction;
use crate::util::template::Scope;

/// Lifetimes beyond this are the same as forever (RFC 9111 section 1.2.2 allows to cut at 2^31 seconds).
const LIFETIME_MAX: Duration = Duration::from_secs(3650 * 86_400);

/// Preload lists want at least a year.
const PRELOAD_MIN: Duration = Duration::from_secs(365 * 86_400);

/// The options of `section`; those above when it has none of its own. `captures` are those of its path.
pub(super) fn inherit(
    section: &Section<'_>,
    upper: &Arc<Options>,
    captures: &[Option<String>],
    routes: &RouteNames<'_>,
) -> Arc<Options> {
    let own_limit = section.table != Table::Http && section.item("body_max").is_some();
    let own_guards = guard::KEYS.iter().any(|key| section.item(key).is_some());
    if own_limit || own_guards || Table::Options.keys().any(|key| section.item(key.name).is_some()) {
        Arc::new(over(section, upper, captures, routes))
    } else {
        upper.clone()
    }
}

fn over(section: &Section<'_>, upper: &Options, captures: &[Option<String>], routes: &RouteNames<'_>) -> Options {
    let variables = variables::variables(section, &upper.variables, captures);
    let request = Scope { captures, answer: false, set: variables.names(), ..Scope::default() };
    let answer = Scope { answer: true, ..request };
    let (log_access, log_conditions) = variables::log_access(section, Scope { captures: &[], ..answer })
        .unwrap_or_else(|| (upper.log_access, upper.log_conditions.clone()));
    let guards = match section.table {
        Table::Http => Guards::default(),
        _ => guard::of_route(section, &Guards::of(upper)),
    };
    let switch = |name, above: bool| section.find(name).unwrap_or(above);
    Options {
        headers: headers::rules(section, "headers", Direction::Response, answer).over(&upper.headers),
        request_headers: headers::rules(section, "request_headers", Direction::Request, request)
            .over(&upper.request_headers),
        cache_control: match section.find::<String>("cache_control") {
            Some(value) => Some(value).filter(|value| !value.is_empty()),
            None => upper.cache_control.clone(),
        },
        expires: expires(section).unwrap_or_else(|| upper.expires.clone()),
        hsts: hsts(section, &upper.hsts),
        error_pages: pages::error_pages(section, answer, routes).unwrap_or_else(|| upper.error_pages.clone()),
        intercept_errors: switch("intercept_errors", upper.intercept_errors),
        body_bytes_max: match section.table {
            Table::Http => upper.body_bytes_max,
            _ => section.find("body_max").unwrap_or(upper.body_bytes_max),
        },
        log_access,
        log_conditions,
        x_accel: switch("x_accel", upper.x_accel),
        x_sendfile: x_sendfile(section).unwrap_or_else(|| upper.x_sendfile.clone()),
        compress: compress::compile(section, &upper.compress),
        limits: limits::of_options(section).unwrap_or_else(|| upper.limits.clone()),
        access: guards.access,
        auth: guards.auth,
        variables: variables.clone(),
        satisfy: guards.satisfy,
        auth_request: guards.auth_request,
        auth_request_headers: guards.auth_request_headers,
        // A route's own, set where it is compiled.
        mirror: None,
        cgi: None,
        location_rewrite: location::location_rewrite(section, request)
            .unwrap_or_else(|| upper.location_rewrite.clone()),
        cookie_rewrite: cookies::cookie_rewrite(section, request).unwrap_or_else(|| upper.cookie_rewrite.clone()),
        substitute: substitute::compile(section, request).unwrap_or_else(|| upper.substitute.clone()),
        limit_rate: section.find("limit_rate").unwrap_or(upper.limit_rate),
        limit_rate_after: section.find("limit_rate_after").unwrap_or(upper.limit_rate_after),
        forwarded: switch("forwarded", upper.forwarded),
        via: via(section).unwrap_or_else(|| upper.via.clone()),
    }
}

/// A pseudonym, or a host with or without a port (RFC 9110 section 7.6.3).
fn via(section: &Section<'_>) -> Option<Option<Arc<str>>> {
    let name: String = section.find("via")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&byte);
    if !name.bytes().all(is_plain) {
        section.bad_value("via", "write a name such as \"edge-1\", or a host with or without a port");
        return None;
    }
    Some((!name.is_empty()).then(|| name.into()))
}

/// Folders and the paths that stand for them, each with a slash at its end.
fn x_sendfile(section: &Section<'_>) -> Option<SentFolders> {
    section.item("x_sendfile")?;
    let form = "folders with paths of the site, { \"/srv/private/\" = \"/protected/\" }";
    let entry = |(folder, path, span): (&str, &Item, Option<Span>)| {
        let bad = |span, label: String| {
            section.cx.mistake(Problem::new(format!("bad folder in x_sendfile of {}", section.title), span, label));
            None
        };
        let is_whole = |text: &str| text.starts_with('/') && text.ends_with('/');
        match path.as_str() {
            _ if !is_whole(folder) => bad(span, "a folder begins and ends with a slash".into()),
            Some(path) if is_whole(path) => Some((folder.into(), path.into())),
            Some(_) => bad(path.span(), "a path begins and ends with a slash here".into()),
            None => bad(path.span().or(span), format!("it is {}: write a path of the site", type_name(path))),
        }
    };
    Some(section.entries("x_sendfile", form).into_iter().filter_map(entry).collect())
}

fn hsts(section: &Section<'_>, upper: &Hsts) -> Hsts {
    let max_age = section.find::<Option<Duration>>("hsts").unwrap_or(upper.max_age);
    let subdomains = section.find("hsts_subdomains").unwrap_or(upper.subdomains);
    let preload = section.find("hsts_preload").unwrap_or(upper.preload);
    let short = max_age.is_some_and(|max_age| max_age < PRELOAD_MIN);
    if preload && max_age.is_some() && (short || !subdomains) && section.item("hsts_preload").is_some() {
        let title = format!("preload lists will not take the site of {}", section.title);
        let label = "they want `hsts_subdomains = true` and `hsts` of at least \"365d\"";
        section.cx.warn(Problem::new(title, section.key_span("hsts_preload"), label));
    }
    Hsts::new(max_age, subdomains, preload)
}

fn expires(section: &Section<'_>) -> Option<Expires> {
    let bad = |place: Option<Span>, label: String| {
        section.cx.mistake(Problem::new(format!("bad value for `expires` in {}", section.title), place, label));
    };
    let item = section.item("expires")?;
    if let Some(text) = item.as_str() {
        return match lifetime(text) {
            Ok(lifetime) => Some(Expires::new(vec![(MediaRange::All, lifetime)])),
            Err(label) => {
                bad(item.span(), label);
                None
            }
        };
    }
    let Some(table) = item.as_table_like() else {
        bad(item.span(), format!("it is {}: write a duration, or one for each media type", type_name(item)));
        return None;
    };
    let mut rules = Vec::new();
    for (name, value) in table.iter() {
        let key_span = table.key(name).and_then(|key| key.span()).or_else(|| item.span());
        let range = media_range(name).map_err(|label| bad(key_span.clone(), label));
        let lifetime = text_of(value).and_then(lifetime).map_err(|label| bad(value.span().or(key_span), label));
        if let (Ok(range), Ok(lifetime)) = (range, lifetime) {
            rules.push((range, lifetime));
        }
    }
    Some(Expires::new(rules))
}

/// The text in `item`, or what is wrong with it.
fn text_of(item: &Item) -> Result<&str, String> {
    item.as_str().ok_or_else(|| format!("it is {}: write a text", type_name(item)))
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    match text {
        "off" => return Ok(Lifetime::Unsaid),
        "no-cache" => return Ok(Lifetime::Ask),
        "epoch" | "-1" => return Err("write \"no-cache\"".into()),
        "max" => return Err("write \"3650d\"".into()),
        _ => {}
    }
    let time = parse_duration(text)?;
    if time > LIFETIME_MAX {
        return Err(format!("{text} is too large: the most is 3650d"));
    }
    Ok(Lifetime::For(time))
}

fn media_range(text: &str) -> Result<MediaRange, String> {
    let name = text.to_ascii_lowercase();
    let is_token =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    match name.split_once('/') {
        None if name == "*" => Ok(MediaRange::All),
        Some(("*", "*")) => Ok(MediaRange::All),
        Some((kind, "*")) if is_token(kind) => Ok(MediaRange::Group(format!("{kind}/"))),
        Some((kind, subtype)) if is_token(kind) && is_token(subtype) => Ok(MediaRange::One(name)),
        _ => Err(format!("`{text}` is no media type: write one such as \"text/css\", \"image/*\" or \"*\"")),
    }
}
