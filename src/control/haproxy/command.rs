//! Words to a command, or to what HAProxy answers to such words. Pure.

use super::Format;
use crate::config::model::StatsLevel;

/// What is wanted. Names of servers and backends are as they were written: who they are is looked up when it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// With the words behind it.
    Help(Vec<String>),
    Prompt,
    Quit,
    /// The level goes down to this.
    Lower(StatsLevel),
    ShowLevel,
    SetTimeout(Option<String>),
    ShowInfo(Format),
    ShowStat(StatFilter),
    ShowVersion,
    ShowBackend,
    ShowErrors(Option<String>),
    ShowPools,
    ShowSess,
    ShowServersState(Option<String>),
    ShowServersConn(Option<String>),
    GetWeight(Option<String>),
    /// Server and what it is to have.
    SetWeight(Option<String>, Option<String>),
    SetMaxconn(Option<String>, Option<String>),
    /// Server, what of it is set, and to what.
    SetServer(Option<String>, Option<String>, Option<String>),
    EnableServer(Option<String>, bool),
    EnableHealth(Option<String>, bool),
}

/// What `show stat` is to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatFilter {
    /// Of one proxy, by number or name, and of these kinds (1: frontend, 2: backend, 4: server), and of this server.
    pub(super) only: Option<(String, i64, i64)>,
    pub(super) format: Format,
    /// Servers in maintenance are left out.
    pub(super) no_maint: bool,
    /// Servers that are down are left out.
    pub(super) up: bool,
}

/// Which words stand for it, and its line in `help`.
struct Known {
    words: &'static [&'static str],
    usage: &'static str,
    help: &'static str,
    level: StatsLevel,
    make: fn(Vec<String>) -> Command,
}

const fn known(
    words: &'static [&'static str],
    level: StatsLevel,
    usage: &'static str,
    help: &'static str,
    make: fn(Vec<String>) -> Command,
) -> Known {
    Known { words, usage, help, level, make }
}

use StatsLevel::{Admin, Operator, User};

/// All of them in HAProxy's order and wording, and then those that HAProxy writes last.
const KNOWN: &[Known] = &[
    known(&["disable", "health"], Admin, "", "disable health checks", |rest| {
        Command::EnableHealth(word(&rest, 0), false)
    }),
    known(
        &["disable", "server"],
        Admin,
        " (DEPRECATED)",
        "disable a server for maintenance (use 'set server' instead)",
        |rest| Command::EnableServer(word(&rest, 0), false),
    ),
    known(&["enable", "health"], Admin, "", "enable health checks", |rest| Command::EnableHealth(word(&rest, 0), true)),
    known(
        &["enable", "server"],
        Admin,
        "  (DEPRECATED)",
        "enable a disabled server (use 'set server' instead)",
        |rest| Command::EnableServer(word(&rest, 0), true),
    ),
    known(&["get", "weight"], User, " <bk>/<srv>", "report a server's current weight", |rest| {
        Command::GetWeight(word(&rest, 0))
    }),
    known(&["operator"], Operator, "", "lower the level of the current CLI session to operator", |_| {
        Command::Lower(Operator)
    }),
    known(&["set", "maxconn", "server"], Admin, " <bk>/<srv>", "change a server's maxconn setting", |rest| {
        Command::SetMaxconn(word(&rest, 0), word(&rest, 1))
    }),
    known(&["set", "server"], Admin, " <bk>/<srv> [opts]", "change a server's state or weight", |rest| {
        Command::SetServer(word(&rest, 0), word(&rest, 1), word(&rest, 2))
    }),
    known(&["set", "timeout"], User, " [cli] <delay>", "change a timeout setting", |rest| {
        Command::SetTimeout((word(&rest, 0).as_deref() == Some("cli")).then(|| word(&rest, 1).unwrap_or_default()))
    }),
    known(
        &["set", "weight"],
        Admin,
        " <bk>/<srv>  (DEPRECATED)",
        "change a server's weight (use 'set server' instead)",
        |rest| Command::SetWeight(word(&rest, 0), word(&rest, 1)),
    ),
    known(&["show", "backend"], User, "", "list backends in the current running config", |_| Command::ShowBackend),
    known(&["show", "cli", "level"], User, "", "display the level of the current CLI session", |_| Command::ShowLevel),
    known(
        &["show", "errors"],
        Operator,
        " [<px>] [request|response]",
        "report last request and/or response errors for each proxy",
        |rest| Command::ShowErrors(word(&rest, 0)),
    ),
    known(&["show", "info"], User, " [json|typed]*", "report information about the running process", |rest| {
        Command::ShowInfo(format(&rest))
    }),
    known(&["show", "pools"], User, "", "report information about the memory pools usage", |_| Command::ShowPools),
    known(
        &["show", "servers", "conn"],
        User,
        " [<backend>]",
        "dump server connections status (all or for a single backend)",
        |rest| Command::ShowServersConn(word(&rest, 0)),
    ),
    known(
        &["show", "servers", "state"],
        User,
        " [<backend>]",
        "dump volatile server information (all or for a single backend)",
        |rest| Command::ShowServersState(word(&rest, 0)),
    ),
    known(&["show", "sess"], Operator, "", "report the current CLI session", |_| Command::ShowSess),
    known(&["show", "stat"], User, " [json|no-maint|typed|up]*", "report counters for each proxy and server", |rest| {
        Command::ShowStat(StatFilter::new(&rest))
    }),
    known(&["show", "version"], User, "", "show version of the current process", |_| Command::ShowVersion),
    known(&["user"], User, "", "lower the level of the current CLI session to user", |_| Command::Lower(User)),
    known(&["help"], User, " [<command>]", "list matching or all commands", Command::Help),
    known(&["prompt"], User, "", "toggle interactive mode with prompt", |_| Command::Prompt),
    known(&["quit"], User, "", "disconnect", |_| Command::Quit),
];

/// Commands that are always told of.
const ALWAYS: usize = 3;

/// Errors: what is answered instead.
pub(super) fn parse(words: &[String], level: StatsLevel) -> Result<Command, String> {
    let is_it = |known: &&Known| {
        words.len() >= known.words.len() && known.words.iter().zip(words).all(|(known, word)| known == word)
    };
    // Of `show servers` and `show servers state` the longer one is meant.
    let Some(known) = KNOWN.iter().filter(is_it).max_by_key(|known| known.words.len()) else {
        return Err(unknown(words));
    };
    if known.level > level {
        return Err("Permission denied\n".into());
    }
    Ok((known.make)(words[known.words.len()..].to_vec()))
}

/// What `help` says.
pub(super) fn help(words: &[String]) -> String {
    let head = "The following commands are valid at this level:\n";
    let found = matching(words);
    format!("{head}{}", list(if found.is_empty() { KNOWN.iter().collect() } else { found }))
}

fn unknown(words: &[String]) -> String {
    let found = matching(words);
    match words.is_empty() || found.is_empty() {
        true => {
            format!(
                "Unknown command. Please enter one of the following commands only:\n{}",
                list(KNOWN.iter().collect())
            )
        }
        false => {
            let head = "Unknown command, but maybe one of the following ones is a better match:\n";
            format!("{head}{}", list(found))
        }
    }
}

/// Those that begin with the same words, as far as there are such; words may be cut short.
fn matching(words: &[String]) -> Vec<&'static Known> {
    let (own, always) = KNOWN.split_at(KNOWN.len() - ALWAYS);
    for count in (1..=words.len()).rev() {
        let begins = |known: &&Known| {
            let pairs = || known.words.iter().zip(&words[..count]);
            pairs().count() == count.min(known.words.len())
                && pairs().all(|(known, word)| known.starts_with(word.as_str()))
        };
        let found: Vec<_> = own.iter().filter(begins).collect();
        if !found.is_empty() {
            return found.into_iter().chain(always).collect();
        }
    }
    Vec::new()
}

fn list(known: Vec<&Known>) -> String {
    let line = |known: &&Known| format!("  {:<40}: {}\n", known.words.join(" ") + known.usage, known.help);
    known.iter().map(line).collect()
}

fn word(rest: &[String], at: usize) -> Option<String> {
    rest.get(at).cloned()
}

fn format(rest: &[String]) -> Format {
    let asks = |what: &str| rest.iter().any(|word| word == what);
    match () {
        () if asks("typed") => Format::Typed,
        () if asks("json") => Format::Json,
        () => Format::Plain,
    }
}

impl StatFilter {
    fn new(rest: &[String]) -> StatFilter {
        let only = match rest {
            [proxy, kinds, server, ..] => Some((proxy.clone(), number(kinds), number(server))),
            _ => None,
        };
        let asks = |what: &str| rest.iter().any(|word| word == what);
        StatFilter { only, format: format(rest), no_maint: asks("no-maint"), up: asks("up") }
    }
}

/// As atoi(3) reads it.
pub(super) fn number(text: &str) -> i64 {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    sign * digits[..end].parse::<i64>().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::line::split;
    use super::*;

    fn parsed(line: &str, level: StatsLevel) -> Result<Command, String> {
        parse(&split(line.as_bytes())[0], level)
    }

    #[test]
    fn words_become_commands() {
        let text = |text: &str| Some(text.to_owned());
        let plain = StatFilter { only: None, format: Format::Plain, no_maint: false, up: false };
        for (line, command) in [
            ("show stat", Command::ShowStat(plain.clone())),
            ("show stat api 2", Command::ShowStat(plain.clone())),
            (
                "show stat 3 4 -1 typed up",
                Command::ShowStat(StatFilter {
                    only: Some(("3".into(), 4, -1)),
                    format: Format::Typed,
                    up: true,
                    ..plain
                }),
            ),
            ("show info json", Command::ShowInfo(Format::Json)),
            ("set weight api/a 50%", Command::SetWeight(text("api/a"), text("50%"))),
            ("set server api/a state drain x", Command::SetServer(text("api/a"), text("state"), text("drain"))),
            ("set timeout cli 60", Command::SetTimeout(text("60"))),
            ("show servers conn", Command::ShowServersConn(None)),
            ("disable health api/a", Command::EnableHealth(text("api/a"), false)),
            ("operator", Command::Lower(Operator)),
        ] {
            assert_eq!(parsed(line, Admin), Ok(command), "{line}");
        }
        assert_eq!(["12x", "-1", "x", "", "-"].map(number), [12, -1, 0, 0, 0]);
    }

    #[test]
    fn levels_are_those_of_haproxy() {
        let denied = |line: &str, level| parsed(line, level) == Err("Permission denied\n".into());
        for (line, levels) in [
            ("show stat", [false, false, false]),
            ("get weight a/b", [false, false, false]),
            ("show sess", [true, false, false]),
            ("show errors", [true, false, false]),
            ("operator", [true, false, false]),
            ("set weight a/b 1", [true, true, false]),
            ("set server a/b state ready", [true, true, false]),
            ("disable server a/b", [true, true, false]),
        ] {
            assert_eq!([User, Operator, Admin].map(|level| denied(line, level)), levels, "{line}");
        }
    }

    #[test]
    fn unknown_words_are_told_what_is_near() {
        let error = parsed("set", Admin).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines[0], "Unknown command, but maybe one of the following ones is a better match:");
        assert_eq!(lines[1], "  set maxconn server <bk>/<srv>           : change a server's maxconn setting");
        assert_eq!(lines.last(), Some(&"  quit                                    : disconnect"));
        assert!(lines[1..lines.len() - ALWAYS].iter().all(|line| line.starts_with("  set ")), "{error}");
        for nothing in ["", "foo"] {
            let error = parsed(nothing, Admin).unwrap_err();
            assert!(
                error.starts_with("Unknown command. Please enter one of the following commands only:\n"),
                "{error}"
            );
            assert_eq!(error.lines().count(), KNOWN.len() + 1);
        }
        assert_eq!(help(&["show".into(), "stat".into()]).lines().count(), 1 + 1 + ALWAYS);
    }
}
