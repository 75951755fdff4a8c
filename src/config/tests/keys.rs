//! Every key is described well, printed in the manual, and does something.

use super::surroundings::in_its_table;
use super::*;

/// A value of the kind that is not the default, as a flag takes it.
pub(crate) fn another_value(key: &Key) -> String {
    let default = match key.absent {
        Absent::Default(text) => text,
        _ => "",
    };
    let kind = match key.kind {
        Kind::List(inner) => *inner,
        kind => kind,
    };
    match kind {
        Kind::Duration { .. } if key.name == "backoff" => "1s".into(),
        Kind::Integer { .. } if key.name == "first_port" => "9000".into(),
        Kind::Duration { max, .. } | Kind::DurationOrOff { max, .. } => DurationText(max).to_string(),
        Kind::Size { .. } if key.name == "datagram_max" => "1KiB".into(),
        Kind::Size { max, .. } if key.name == "read_buffer" => SizeText(max.min(8 << 10)).to_string(),
        Kind::Size { max, .. } => SizeText(max).to_string(),
        Kind::Integer { .. } if key.table == Table::Redirect => "301".into(),
        Kind::Integer { max, .. } => max.to_string(),
        Kind::Switch if ["x_accel", "always"].contains(&key.name) => "false".into(),
        Kind::Switch => (default != "true").to_string(),
        Kind::Word(_) if key.table == Table::Health && key.name == "proxy_protocol" => "v1".into(),
        Kind::Word(_) if key.name == "satisfy" => "any".into(),
        Kind::Word(_) if key.table == Table::MysqlServer => "zlib".into(),
        Kind::Word(_) if key.name == "failures" => "connect".into(),
        Kind::Word(_) if key.table == Table::Health && key.name == "kind" => "mysql".into(),
        Kind::Word(words) => words.iter().find(|word| **word != default).map_or(String::new(), |word| (*word).into()),
        Kind::Cores => "0,2-3".into(),
        Kind::Address => "127.0.0.1:7777".into(),
        Kind::Server => "other.invalid:7777".into(),
        Kind::Service => "_http._tcp.other.invalid".into(),
        Kind::SocketAddress | Kind::SocketAddressOrOff => "127.0.0.1:7778".into(),
        Kind::Text if key.name == "retry_on" => "503".into(),
        Kind::Text if key.name == "stats_socket_mode" => "0660".into(),
        Kind::Text if key.name == "socket_mode" => "0666".into(),
        Kind::Text if key.name == "retry_budget" => "off".into(),
        Kind::Text if key.name == "server_name" => "other.test".into(),
        Kind::Text if key.table == Table::Health && key.name == "status" => "204".into(),
        Kind::Text if key.name == "listeners" => "base".into(),
        Kind::Text if key.name == "program" => "guestbook".into(),
        Kind::Text if ["format", "tcp_format"].contains(&key.name) => "$status".into(),
        Kind::Text if key.table == Table::Mirror => if key.name == "to" { "other" } else { "7%" }.into(),
        Kind::Text if key.name == "secret" => "another of sixteen".into(),
        Kind::Text if key.table == Table::Hash => "$http_other".into(),
        Kind::Text if key.name == "from" => "$http_other".into(),
        Kind::Text if key.name == "shares" => "* other".into(),
        Kind::Text if key.name == "when" => "$http_other".into(),
        Kind::Text if key.name == "methods" => "PURGE".into(),
        Kind::List(&Kind::Text) if key.name == "auth_request_headers" => "X-Other".into(),
        Kind::UrlPath if key.table == Table::Cgi => "/other.php".into(),
        Kind::UrlPath | Kind::UrlPathOrName => "/other".into(),
        Kind::Text if key.name == "split" => ".other".into(),
        Kind::Field if key.name == "index" => "other.php".into(),
        Kind::Text if key.name == "types" => "text/x-other".into(),
        Kind::Network => "10.0.0.0/8".into(),
        Kind::Rate => "7/m".into(),
        Kind::AddressRule => "deny 10.0.0.0/8".into(),
        Kind::Text | Kind::Field if key.name == "to" => "/other".into(),
        Kind::Text | Kind::Field if key.name == "to" || key.name == "try" => "/other".into(),
        Kind::Text | Kind::Field if key.table == Table::Files && key.name.ends_with("_type") => "text/other".into(),
        Kind::Text if key.name == "charset_types" => "text/other".into(),
        Kind::Text | Kind::Field => "other".into(),
        Kind::Path => "/tmp/other".into(),
        Kind::Output => "/tmp/access.log".into(),
        Kind::List(_) | Kind::Form(_) => String::new(),
    }
}

/// No key only parses: a value other than the default changes the compiled config.
#[test]
fn every_key_does_something() {
    for key in described::all() {
        let value = another_value(key);
        // Shown by the tests of actions, routes and upstreams; `proxy` and `app` name tables.
        if value.is_empty()
            || ["proxy", "app", "path", "exact", "regex", "name", "close", "password_file", "include"]
                .contains(&key.name)
        {
            continue;
        }
        let line = match key.kind {
            Kind::Integer { .. } | Kind::Switch => format!("{} = {value}", key.name),
            _ => format!("{} = {value:?}", key.name),
        };
        let (without, with) = (in_its_table(key, ""), in_its_table(key, &line));
        let shown = |text: &str| format!("{:?}", config(text)).replace("Secret(..)", "");
        if key.name == "server_public_key" {
            continue; // read from a file that is not there: shown by the logins to a server of MySQL 8
        }
        if key.name == "password" && key.table == Table::Health {
            continue; // shown by the checks of MySQL
        }
        if key.name == "password" && key.table == Table::MysqlUser {
            continue; // shown below, by the logins
        }
        if key.name == "password" {
            assert_eq!(config(&with).splitters[0].password.0, "other");
            continue;
        }
        assert_ne!(shown(&without), shown(&with), "{line} in {}", key.table.header());
    }
}

#[test]
fn descriptions_are_in_order() {
    for (at, key) in described::all().enumerate() {
        let place = format!("{} {}", key.table.header(), key.name);
        assert!(
            !described::all().take(at).any(|first| (first.table, first.name) == (key.table, key.name)),
            "{place} twice"
        );
        // Panics when the default is not of its kind.
        let value = key.default_value();
        assert_eq!(value.is_some(), matches!(key.absent, Absent::Default(_)), "{place}");
        assert!(!key.help.is_empty() && !key.help.ends_with('.') && !key.help.contains('\n'), "{place}");
        assert!(!key.when.ends_with('.'), "{place}");
        assert!(
            key.flag.is_none() || !key.when.is_empty() || [Table::Mysql, Table::App].contains(&key.table),
            "{place}: a flag says when to change it"
        );
        for known in key.known_as {
            assert!(known.contains(' '), "{place}: {known} names no program");
        }
    }
    // Those of one command; that none of another one comes twice in it, clap says.
    let flags: Vec<(&str, FlagOf)> = described::all().filter_map(|key| key.flag).collect();
    for (at, (flag, of)) in flags.iter().enumerate() {
        let clashes = |(other, family): &(&str, FlagOf)| other == flag && (family == of || *family == FlagOf::Every);
        assert!(!flags[..at].iter().any(clashes), "--{flag} twice");
    }
}

#[test]
fn the_manual_has_every_key() {
    let (markdown, toml) = (reference_markdown(), reference_toml());
    for key in described::all() {
        assert!(markdown.contains(&format!("### `{}`", key.name)) && markdown.contains(key.when), "{}", key.name);
        assert!(toml.contains(&format!("{} = ", key.name)), "{}", key.name);
    }
    for flag in ["`--driver`\n", "`--tries` of `proxy`, `app`\n", "`--user` of `app`\n", "`--lag-max` of `split`\n"] {
        assert!(markdown.contains(&format!("- Flag: {flag}")), "{flag}");
    }
    // Without the `#`, the single tables are a config that changes nothing.
    let wanted = ["[process]", "[http]", "[log]"];
    let mut lines = Vec::new();
    let mut inside = false;
    for line in toml.lines() {
        match line.strip_prefix('#') {
            Some(line) if line.starts_with('[') => {
                inside = wanted.contains(&line);
                lines.extend(inside.then_some(line));
            }
            // A key without a default has no value that could stand here.
            Some(line) if inside && line.contains(" = … ") => {}
            Some(line) if inside && !line.starts_with(' ') => lines.push(line),
            _ => inside &= !line.is_empty(),
        }
    }
    let changed = config(&format!("{}\n{BASE}", lines.join("\n")));
    assert!(lines.len() > 25, "{lines:?}");
    assert_eq!(format!("{changed:?}"), format!("{:?}", config(BASE)));
}
