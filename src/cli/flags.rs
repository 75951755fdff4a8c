//! Flags made from the descriptions of config keys, so that a flag and its key cannot disagree.

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

use crate::config::{Absent, FlagOf, Key, Kind, Overrides, Table, Value};

/// The tuning flags that run, static, proxy, app, split and demo share.
#[derive(Clone, Debug, Default)]
pub struct Tuning(pub Overrides);

/// Flags of `proxy` for its one upstream.
#[derive(Clone, Debug, Default)]
pub struct UpstreamFlags(pub Overrides);

/// Flags of `app` for its one application: each key that is given, and its value as it is written.
#[derive(Clone, Debug, Default)]
pub(super) struct AppFlags(pub(super) Vec<(&'static Key, String)>);

/// Flags of `split` for its one splitter.
#[derive(Clone, Debug, Default)]
pub struct SplitterFlags(pub Overrides);

macro_rules! args_of_keys {
    ($($type:ident: $of:expr, $read:ident;)*) => {$(
        impl clap::Args for $type {
            fn augment_args(command: Command) -> Command {
                augment(command, $of)
            }

            fn augment_args_for_update(command: Command) -> Command {
                augment(command, $of)
            }
        }

        impl FromArgMatches for $type {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok($type($read(matches, $of)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0.extend($read(matches, $of));
                Ok(())
            }
        }
    )*};
}

args_of_keys! {
    Tuning: FlagOf::Every, overrides;
    UpstreamFlags: FlagOf::Proxy, overrides;
    AppFlags: FlagOf::App, written;
    SplitterFlags: FlagOf::Split, overrides;
}

/// Every key that has a flag of this family, with the flag.
pub(crate) fn flags(of: FlagOf) -> impl Iterator<Item = (&'static str, &'static Key)> {
    let with = move |is_own: bool| {
        let keys = Table::ALL.iter().flat_map(|table| table.keys());
        keys.filter_map(move |key| {
            let (flag, family) = key.flag?;
            (key.has_flag_of(of) && (family == of) == is_own).then_some((flag, key))
        })
    };
    // What is its own comes first in the help.
    with(true).chain(with(false))
}

fn augment(command: Command, of: FlagOf) -> Command {
    flags(of).fold(command, |command, (flag, key)| command.arg(arg(flag, key)))
}

fn overrides(matches: &ArgMatches, of: FlagOf) -> Overrides {
    let mut overrides = Overrides::default();
    for (flag, key) in flags(of) {
        if let Some(value) = matches.get_one::<Value>(flag) {
            overrides.set(key, value.clone());
        }
    }
    overrides
}

/// As they were written: a text is made of them, which is checked as one of a file.
fn written(matches: &ArgMatches, of: FlagOf) -> Vec<(&'static Key, String)> {
    let text = |flag| matches.get_raw(flag)?.next().map(|text| text.to_string_lossy().into_owned());
    flags(of).filter_map(|(flag, key)| Some((key, text(flag)?))).collect()
}

fn arg(flag: &'static str, key: &'static Key) -> Arg {
    value_of(Arg::new(flag), key)
        .long(flag)
        .action(ArgAction::Set)
        .help(short_help(key))
        .long_help(long_help(key))
        .help_heading(heading(key))
}

/// What the flag takes; of a switch `true` need not be written.
fn value_of(arg: Arg, key: &'static Key) -> Arg {
    let arg = arg.value_name(placeholder(&key.kind)).value_parser(move |text: &str| key.kind.parse(text));
    match key.kind {
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => arg,
    }
}

/// What stands for the value in usage lines.
fn placeholder(kind: &Kind) -> &'static str {
    match kind {
        Kind::Word(_) => "WORD",
        Kind::Duration { .. } => "TIME",
        Kind::DurationOrOff { .. } => "TIME|off",
        Kind::Switch => "true|false",
        Kind::List(_) => "VALUE,…",
        Kind::Size { .. } => "SIZE",
        Kind::Integer { .. } => "N",
        Kind::Cores => "CORES",
        Kind::SocketAddressOrOff => "IP:PORT|off",
        Kind::Output => "stdout|FILE|off",
        Kind::Path | Kind::UrlPath | Kind::UrlPathOrName => "PATH",
        _ => "VALUE",
    }
}

/// Heading of what tells `app` which program to start, and as what.
pub(super) const PROGRAM: &str = "The program";

fn heading(key: &Key) -> &'static str {
    match key.table {
        Table::App => heading_of_app(key.name),
        Table::Process => "Cores, memory, limits",
        Table::Http | Table::Http2 => "HTTP time-outs and limits",
        Table::Upstream | Table::Health | Table::Outliers => "Servers",
        Table::Mysql => "Splitter",
        Table::Admin | Table::Log => "Seeing what happens",
        _ => "Options",
    }
}

fn heading_of_app(name: &str) -> &'static str {
    match name {
        "directory" | "user" | "group" | "first_port" => PROGRAM,
        "open_files" | "processes_max" | "address_space_max" | "output_line_max" | "output_rate" => {
            "What a process may take, and tell"
        }
        "instances" | "surge" | "ready_path" | "start_timeout" | "requests_max" | "response_timeout" => "Instances",
        "backoff" | "backoff_max" | "backoff_reset" | "failures_max" | "failed_retry" => "Instances that fail",
        _ => "When an instance is replaced, and how",
    }
}

fn default_text(key: &Key) -> String {
    match key.absent {
        Absent::Default(text) if key.flag_default.is_none() => format!("[default: {text}]"),
        Absent::Means(text) => format!("[without it: {text}]"),
        Absent::Default(_) | Absent::Required => {
            key.flag_default.map(|text| format!("[default: {text}]")).unwrap_or_default()
        }
    }
}

fn short_help(key: &Key) -> String {
    let words = match key.kind {
        Kind::Word(words) => format!(" [{}]", words.join(", ")),
        _ => String::new(),
    };
    format!("{}{words} {}", sentence(key.help), default_text(key))
}

/// One line each: what it does, range and default, when to change it, the key in the file.
fn long_help(key: &Key) -> String {
    let mut help = format!("{}.", sentence(key.help));
    if !key.when.is_empty() {
        help.push_str(&format!("\nChange it: {}.", key.when));
    }
    let name = if matches!(key.kind, Kind::Word(_)) { "values" } else { "range" };
    let range = key.kind.range().map(|range| format!(" [{name}: {range}]")).unwrap_or_default();
    help.push_str(&format!("\n{}{range} [key: {} in {}]", default_text(key), key.name, key.table.header()));
    help
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    first + chars.as_str()
}
