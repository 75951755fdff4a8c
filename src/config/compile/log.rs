//! `[log]`, and what sites say about their access log.

use std::sync::Arc;

use super::Named;
use crate::config::key::Table;
use crate::config::model::{Log, LogTarget, SiteLog};
use crate::config::report::{Problem, Span};
use crate::config::section::Section;
use crate::config::suggest;
use crate::log::{Escape, Mistake, Template, Wrong};
use crate::util::template::OwnName;

/// `set` are variables that every request has, beside those that the file defines.
pub(super) fn compile(section: &Section<'_>, set: &[OwnName]) -> Log {
    let format: String = section.get("format");
    let escape = match section.get("escape") {
        "json" => Escape::Json,
        "none" => Escape::None,
        _ => Escape::Default,
    };
    let own: Vec<OwnName> = section.cx.own_names().iter().chain(set).cloned().collect();
    let template = Template::with_own(&format, escape, &own).unwrap_or_else(|mistakes| {
        mistakes.into_iter().for_each(|mistake| report(section, &format, mistake, &own));
        // After a mistake the config is not used, so that any format will do.
        of_ours(Template::new("combined", escape))
    });
    warn_unless_json(section, "format", escape, &template);
    let tcp_format = compile_tcp(section, &format, escape);
    Log {
        access: section.get("access"),
        sites: Vec::new(),
        format: Arc::new(template),
        tcp_format: Arc::new(tcp_format),
    }
}

/// The form of lines for connections in TCP mode; if nothing is said, what fits that of the others.
fn compile_tcp(section: &Section<'_>, format: &str, escape: Escape) -> Template {
    let fitting = match format {
        "json" => "json",
        "haproxy" => "tcplog",
        _ => "basic",
    };
    let Some(format) = section.find::<String>("tcp_format") else { return of_ours(Template::tcp(fitting, escape)) };
    let template = Template::tcp(&format, escape).unwrap_or_else(|mistakes| {
        for mistake in mistakes {
            let label = match &mistake.wrong {
                Wrong::UnknownVariable(name) => advice_on_variable(section, name, &[]),
                wrong => advice(wrong, &format, &Template::tcp_words().collect::<Vec<_>>()),
            };
            let title = title(&mistake.wrong, "tcp_format", section);
            section.cx.mistake(Problem::new(title, place(section, "tcp_format", &format, &mistake), label));
        }
        of_ours(Template::tcp("basic", escape))
    });
    warn_unless_json(section, "tcp_format", escape, &template);
    template
}

fn of_ours(template: Result<Template, Vec<Mistake>>) -> Template {
    template.unwrap_or_else(|_| panic!("a format of ours does not compile"))
}

/// What each site says, in order of writing.
pub(super) fn sites(sites: &[Named<'_>]) -> Vec<SiteLog> {
    let of = |named: &Named<'_>| match named.section.find::<Option<LogTarget>>("access_log") {
        None => SiteLog::Default,
        Some(None) => SiteLog::Off,
        Some(Some(target)) => SiteLog::To(target),
    };
    sites.iter().map(of).collect()
}

fn report(section: &Section<'_>, format: &str, mistake: Mistake, own: &[OwnName]) {
    let label = match &mistake.wrong {
        Wrong::UnknownVariable(name) => advice_on_variable(section, name, own),
        wrong => advice(wrong, format, &Template::words().collect::<Vec<_>>()),
    };
    let title = title(&mistake.wrong, "format", section);
    section.cx.mistake(Problem::new(title, place(section, "format", format, &mistake), label));
}

fn title(wrong: &Wrong, key: &str, section: &Section<'_>) -> String {
    match wrong {
        Wrong::UnknownVariable(name) => format!("unknown variable `${name}` in `{key}` in {}", section.title),
        Wrong::UnknownDirective(name) => format!("unknown directive `%{name}` in `{key}` in {}", section.title),
        _ => format!("bad value for `{key}` in {}", section.title),
    }
}

const MANUAL: &str = "`one-server config-reference` lists them";

fn advice_on_variable(section: &Section<'_>, name: &str, own: &[OwnName]) -> String {
    if section.cx.is_set_somewhere(name) {
        return "it is set in `variables` of a site or route alone: set it in [http] too, for all others".into();
    }
    let mut names: Vec<&str> = own.iter().map(|own| own.name.as_str()).collect();
    Template::variables().for_each(|known| names.push(known));
    match suggest::nearest(name, names) {
        Some(near) => format!("did you mean `${near}`?"),
        None => MANUAL.into(),
    }
}

fn advice(wrong: &Wrong, format: &str, words: &[&str]) -> String {
    match wrong {
        Wrong::UnknownVariable(_) => MANUAL.into(),
        Wrong::UnknownDirective(name) => match nearest_directive(name) {
            Some(near) => format!("did you mean `%{near}`?"),
            None => MANUAL.into(),
        },
        Wrong::Sign(sign) => format!("no name follows the `{sign}`: write `{sign}{sign}` for the sign itself"),
        Wrong::Open(brace) => format!("the `{brace}` is not closed"),
        Wrong::Flag(flag) => format!("`{flag}` is not a flag: write `+Q` for quotes around the value"),
        Wrong::Expression => {
            "sample expressions are not known: write `$http_NAME` for a field of the request, `$sent_http_NAME` for one \
             of the answer"
                .into()
        }
        Wrong::Control('\n' | '\r') => {
            "a line of the log cannot hold a line break: end the lines of a \"\"\" text with `\\`".into()
        }
        Wrong::Control(c) => format!("{c:?} cannot stand in a log"),
        Wrong::TooLong => "it is longer than 16 KiB".into(),
        Wrong::Constant => {
            match suggest::nearest(format, words.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("it has no variable: write {}, or a text with variables such as $status", words.join(", ")),
            }
        }
    }
}

/// The case of directives has a meaning, so that a slip in it is the likeliest one.
fn nearest_directive(name: &str) -> Option<&'static str> {
    let same_letters = Template::directives().find(|known| known.eq_ignore_ascii_case(name));
    same_letters.or_else(|| suggest::nearest(name, Template::directives().filter(|known| known.len() > 1)))
}

/// Where the mistake stands in the file: inside of the value where its spelling there can be recognised, else the whole
/// value. No place for a format given as a flag.
fn place(section: &Section<'_>, key: &str, format: &str, mistake: &Mistake) -> Option<Span> {
    if section.cx.overrides.has(Table::Log, key) {
        return None;
    }
    let value = section.value_span(key)?;
    let inside = || {
        let wrong = format.get(mistake.place.clone()).filter(|wrong| !wrong.is_empty() && *wrong != format)?;
        let written = section.cx.text.get(value.clone())?;
        // TOML may write other parts of the value differently; this one, the so-manieth of its kind, rarely.
        let earlier = format.get(..mistake.place.start)?.matches(wrong).count();
        let (at, _) = written.match_indices(wrong).nth(earlier)?;
        Some(value.start + at..value.start + at + wrong.len())
    };
    inside().or(Some(value))
}

/// A format that begins as a JSON object and is none, whatever the values.
fn warn_unless_json(section: &Section<'_>, key: &str, escape: Escape, template: &Template) {
    let skeleton = template.skeleton();
    if escape == Escape::Json
        && skeleton.starts_with('{')
        && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&skeleton)
    {
        let title = "the lines of the access log are not JSON";
        let label = format!("with every value missing, the parser says: {error}");
        section.cx.warn(Problem::new(title, section.value_span(key), label));
    }
}
