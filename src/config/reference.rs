//! The manual of the config file, printed from the descriptions of its keys.

use std::fmt::Write;

use super::key::{Absent, FlagOf, Key, Table};
use super::value::Kind;
use crate::util::template::Variable;

/// The manual as Markdown, one chapter a table.
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "# Config file\n\n\
         TOML. `one-server check -c FILE` tells every mistake at once.\n\n\
         - Durations have a unit: `\"250ms\"`, `\"30s\"`, `\"5m\"`, `\"1h\"` (us, ms, s, m, h, d).\n\
         - Sizes: `\"64KiB\"` (steps of 1024), `\"10MB\"` (steps of 1000), or a number of bytes.\n\
         - Cores: `\"0,2-5\"`. Addresses: `\"127.0.0.1:8080\"`, `\"[::1]:8080\"`, and where it says so `\"unix:/path\"`.\n\
         - Relative paths start at the working directory.\n",
    );
    variables(&mut out);
    for table in Table::ALL {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n## `{}`\n\n{}\n", table.header(), table.help());
        for key in table.keys() {
            markdown_key(&mut out, key);
        }
        if *table == Table::Log {
            let _ = write!(out, "\n### Formats\n{}", crate::log::Template::manual());
        }
    }
    out
}

/// The chapter about texts with variables.
fn variables(out: &mut String) {
    let names: Vec<String> = Variable::names().map(|name| format!("`${name}`")).collect();
    let prefixes: Vec<String> = Variable::prefixes().map(|prefix| format!("`${prefix}NAME`")).collect();
    let _ = write!(
        out,
        "\n## Variables\n\n\
         Texts that may hold variables: targets of redirects and rewrites, bodies of `respond`, values in `headers` and \
         `request_headers`, paths of error pages. `$name`, or `${{name}}` where a letter follows; `$$` is a dollar. They \
         mean what they mean in nginx:\n\n\
         - {}\n\
         - {}: a field of the request or the answer (`-` is written `_`), a query argument, a cookie.\n\
         - `$1` to `$9` and named captures: of the route's `regex`; `$1` of a `path` route is what follows the path.\n\n\
         `$status`, `$request_time` and those of `upstream` and `sent_http` are known in `headers` and error pages alone. \
         `$path` and `$uri` are percent-encoded, and so are captures in a URL. No value begins another field line, and in \
         a `respond` body of HTML, XML or JSON values are escaped.\n\n\
         Variables of one's own are defined by `[map.NAME]`, `[geo.NAME]` and `[split.NAME]` for the whole file, and by \
         `variables` of `[http]`, sites and routes for what is below. They stand wherever a variable may, in conditions and \
         in the format of the access log; no other variable may have their name. They are evaluated where they are used, \
         each time anew. What is written in them stays as it is in a URL, but for what cannot stand there; what comes from \
         the request is encoded as above.\n",
        names.join(", "),
        prefixes.join(", "),
    );
}

fn markdown_key(out: &mut String, key: &Key) {
    let _ = write!(out, "\n### `{}`\n\n", key.name);
    let _ = writeln!(out, "{}.\n", capital(key.help));
    let _ = writeln!(out, "- Type: {}", kind_text(&key.kind));
    let _ = writeln!(out, "- Default: {}", absent_text(key));
    if let Some((flag, _)) = key.flag {
        let commands = [(FlagOf::Proxy, "proxy"), (FlagOf::App, "app"), (FlagOf::Split, "split")];
        let having: Vec<_> = commands.iter().filter(|(of, _)| key.has_flag_of(*of)).map(|(_, name)| *name).collect();
        let of = if having.is_empty() { String::new() } else { format!(" of `{}`", having.join("`, `")) };
        let _ = writeln!(out, "- Flag: `--{flag}`{of}");
    }
    if !key.when.is_empty() {
        let _ = writeln!(out, "- Change it: {}", key.when);
    }
    if !key.known_as.is_empty() {
        let names: Vec<String> = key.known_as.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(out, "- Known as: {}", names.join(", "));
    }
}

fn kind_text(kind: &Kind) -> String {
    match (kind, kind.range()) {
        (Kind::Duration { .. } | Kind::Size { .. }, Some(range)) => format!("{}, {range}", kind.name()),
        _ => kind.describe(),
    }
}

fn absent_text(key: &Key) -> String {
    match key.absent {
        Absent::Default(_) => format!("`{}`", toml_default(key).unwrap_or_default()),
        Absent::Means(text) => format!("none ({text})"),
        Absent::Required => "none, the key is required".into(),
    }
}

/// The default as TOML.
fn toml_default(key: &Key) -> Option<String> {
    let Absent::Default(text) = key.absent else { return None };
    Some(match key.kind {
        Kind::Integer { .. } | Kind::Switch => text.into(),
        Kind::List(_) if text.is_empty() => "[]".into(),
        Kind::List(_) => {
            let entries: Vec<String> = text.split(',').map(|entry| format!("{entry:?}")).collect();
            format!("[{}]", entries.join(", "))
        }
        _ => format!("{text:?}"),
    })
}

/// A config file with every key at its default, commented out.
pub fn reference_toml() -> String {
    let mut out = String::from("# Every key of the config file. Take away the `#` in front of what you change.\n");
    for table in Table::ALL {
        let inner = !table.header().starts_with('[');
        let _ = write!(out, "\n# {}\n", table.help());
        if inner {
            let _ = writeln!(out, "# ({})", table.header());
        } else {
            let _ = writeln!(out, "#{}", table.header());
        }
        for key in table.keys() {
            toml_key(&mut out, key, if inner { "#  " } else { "#" });
        }
    }
    out
}

fn toml_key(out: &mut String, key: &Key, indent: &str) {
    let (value, note) = match key.absent {
        Absent::Default(_) => (toml_default(key).unwrap_or_default(), String::new()),
        Absent::Means(text) => (String::from("…"), format!("; without it: {text}")),
        Absent::Required => (String::from("…"), "; required".into()),
    };
    let _ = writeln!(out, "{indent}{} = {value}  # {}{note}", key.name, key.help);
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default() + chars.as_str()
}
