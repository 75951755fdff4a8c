//! `rules` of `[mysql.NAME]`.

use super::mysql::entries;
use crate::config::key::Table;
use crate::config::model::{MysqlRoute, MysqlRule, Splitter};
use crate::config::report::Problem;
use crate::config::section::{Placed, Section};
use crate::config::suggest;
use crate::guard::Networks;
use crate::guard::networks::parse_network;
use crate::mysql::rules::RULES_MAX;
use crate::util::pattern::Pattern;

/// Keys that do something.
const ACTIONS: [&str; 5] = ["route", "reject", "rewrite", "time_limit", "unpinned"];

/// Compiles all rules of a splitter whose accounts are compiled.
pub(super) fn rules(splitter: &Section<'_>, compiled: &Splitter) -> Vec<MysqlRule> {
    let words = ("rule", "a table such as { digest = \"SELECT * FROM audit*\", route = \"primary\" }");
    let entries = entries(splitter, ("rules", Table::MysqlRule), words);
    if entries.len() > RULES_MAX {
        let label = format!("there are {} of them: at most {RULES_MAX} are taken", entries.len());
        splitter.bad_value("rules", label);
        return Vec::new();
    }
    entries.iter().enumerate().map(|(at, section)| rule(section, at, compiled)).collect()
}

fn rule(section: &Section<'_>, at: usize, splitter: &Splitter) -> MysqlRule {
    check_actions(section);
    MysqlRule {
        name: section.find("name").unwrap_or_else(|| format!("rule {}", at + 1)),
        accounts: accounts(section, splitter),
        schemas: section.list("schemas").into_iter().map(|placed: Placed<String>| placed.value).collect(),
        clients: clients(section),
        digest: digest(section),
        route: route(section),
        reject: section.find("reject"),
        rewrite: rewrite(section),
        time_limit: section.find("time_limit"),
        unpinned: section.get("unpinned"),
    }
}

/// A rule does something, and not two things of which one hides the other.
fn check_actions(section: &Section<'_>) {
    let written: Vec<&str> = ACTIONS.into_iter().filter(|key| section.item(key).is_some()).collect();
    if written.is_empty() && !section.may_be_misspelt(&ACTIONS) {
        let label = "add `route`, `reject`, `rewrite`, `time_limit` or `unpinned`";
        let title = format!("a rule without an action in {}", section.title);
        section.cx.mistake(Problem::new(title, section.span.clone(), label));
    }
    if written.len() > 1 && written.contains(&"reject") {
        let other = written.iter().find(|key| **key != "reject").copied().unwrap_or_default();
        let title = format!("both `reject` and `{other}` in {}", section.title);
        section.cx.mistake(Problem::new(title, section.key_span(other), "what is refused does not run: take one away"));
    }
}

fn accounts(section: &Section<'_>, splitter: &Splitter) -> Vec<u16> {
    let names: Vec<&str> = (0..=splitter.users.len()).map(|account| splitter.account_name(account)).collect();
    let account = |placed: Placed<String>| match names.iter().position(|name| *name == placed.value) {
        Some(account) => Some(account as u16),
        None => {
            let near = suggest::nearest(&placed.value, names.iter().copied());
            let label = near.map_or_else(
                || "no account of the splitter has this name".into(),
                |near| format!("no account of the splitter has this name: did you mean \"{near}\"?"),
            );
            let title = format!("unknown user `{}` in {}", placed.value, section.title);
            section.cx.mistake(Problem::new(title, placed.span, label));
            None
        }
    };
    section.list("users").into_iter().filter_map(account).collect()
}

fn clients(section: &Section<'_>) -> Option<Networks> {
    section.item("clients")?;
    let written: Vec<Placed<String>> = section.list("clients");
    Some(Networks::new(written.iter().filter_map(|placed| parse_network(&placed.value).ok())))
}

fn digest(section: &Section<'_>) -> Option<Pattern> {
    let (glob, regex): (Option<String>, Option<String>) = (section.find("digest"), section.find("digest_regex"));
    if glob.is_some() && regex.is_some() {
        let title = format!("both `digest` and `digest_regex` in {}", section.title);
        section.cx.mistake(Problem::new(title, section.key_span("digest_regex"), "write one of them"));
        return None;
    }
    let compile =
        |key: &str, text: &str| Pattern::new_caseless(text).map_err(|label| section.bad_value(key, label)).ok();
    match (glob, regex) {
        (Some(glob), _) => compile("digest", &of_glob(&glob)),
        (None, regex) => compile("digest_regex", &regex?),
    }
}

/// `*` is any text, everything else is itself: `?` is what normal forms have for literals.
fn of_glob(glob: &str) -> String {
    format!("(?s)^{}$", regex::escape(glob).replace(r"\*", ".*"))
}

fn route(section: &Section<'_>) -> Option<MysqlRoute> {
    let (route, is_unsafe): (Option<&str>, bool) = (section.find("route"), section.get("unsafe"));
    match (route, is_unsafe) {
        (Some("replica"), true) => Some(MysqlRoute::Unsafe),
        (_, true) => {
            section.bad_value("unsafe", "it says what may go to replicas: write `route = \"replica\"` beside it");
            None
        }
        (Some("replica"), false) => Some(MysqlRoute::Replica),
        (route, false) => route.map(|_| MysqlRoute::Primary),
    }
}

fn rewrite(section: &Section<'_>) -> Option<(Pattern, String)> {
    let (pattern, with): (Option<String>, Option<String>) = (section.find("rewrite"), section.find("rewrite_to"));
    for (is_there, other) in [(pattern.is_some(), "rewrite_to"), (with.is_some(), "rewrite")] {
        if is_there && section.item(other).is_none() {
            section.report_missing(other);
            return None;
        }
    }
    let pattern = Pattern::new(&pattern?).map_err(|label| section.bad_value("rewrite", label)).ok()?;
    let with = with?;
    if let Some(name) = pattern.unknown_capture(&with) {
        let label = format!(
            "`${name}` is no capture of `rewrite`: write `${{1}}` where letters follow, `$$` for a dollar sign"
        );
        section.bad_value("rewrite_to", label);
        return None;
    }
    Some((pattern, with))
}
