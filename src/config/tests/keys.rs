//! Every key is described well, printed in the manual, and does something.

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

/// A good config with `line` in the table of `key`, and everything else that the table needs.
pub(super) fn in_its_table(key: &Key, line: &str) -> String {
    let needs =
        |name: &str, text: &str| if key.name == name && !line.is_empty() { String::new() } else { format!("{text}\n") };
    let inner = |before: &str, needed: &str| {
        let inside = [needed, line].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(", ");
        format!("{before} = {{ {inside} }}\n")
    };
    let unless = |name: &str, text: &'static str| if key.name == name && !line.is_empty() { "" } else { text };
    let text = match key.table {
        Table::Listener => {
            let address = needs("address", "address = \"127.0.0.1:1\"");
            // Nobody else's header would be read.
            let trusted =
                if key.name == "real_ip_header" { "trusted_proxies = \"10.0.0.0/8\"\n" } else { Default::default() };
            let tls = match key.name {
                "http3" => "tls.certificates = [{ chain = \"/a.pem\", key = \"/a.key\" }]\n",
                _ => "",
            };
            format!(
                "[listener.l]\n{address}{trusted}{tls}{line}\n[site.l]\nhosts = \"l.invalid\"\n[[site.l.route]]\npath = \"/\"\nrespond = {{}}\n"
            )
        }
        Table::UpstreamTls => {
            let pair = match key.name {
                "chain" => "key = \"k\"",
                "key" => "chain = \"c\"",
                _ => "",
            };
            let lines = format!("servers = \"1.1.1.1:1\"\n{}", inner("tls", if line.is_empty() { "" } else { pair }));
            route(&format!("path = \"/\"\nproxy = \"u\"\n[upstream.u]\n{lines}"))
        }
        Table::Tls | Table::Certificate => tls_listener(key, line),
        Table::Udp => {
            let upstreams = "[upstream.u]\nservers = \"1.1.1.1:1\"\n[upstream.other]\nservers = \"1.1.1.2:1\"\n";
            let udp = inner("udp", unless("upstream", "upstream = \"u\""));
            format!("[listener.l]\naddress = \"127.0.0.1:1\"\n{udp}{upstreams}")
        }
        Table::Limit => format!("[limit.l]\n{}{line}\n", needs("rate", "rate = \"1/s\"")),
        Table::Site => {
            let hosts = needs("hosts", "hosts = \"s.invalid\"");
            let other = "[listener.second]\naddress = \"127.0.0.1:1\"\n[site.t]\nhosts = \"t.invalid\"\nlisteners = \"second\"\n[[site.t.route]]\npath = \"/\"\nrespond = {}\n";
            let https = if key.name == "https_port" { "https_only = true\n" } else { "" };
            format!("{other}[site.s]\n{hosts}{https}{line}\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}\n")
        }
        Table::Route => route(&format!("path = \"/\"\nrespond = {{}}\n{line}")),
        Table::Files => route(&format!("path = \"/other\"\n{}", inner("files", unless("root", "root = \"/x\"")))),
        Table::Redirect => route(&format!("path = \"/\"\n{}", inner("redirect", unless("to", "to = \"/x\"")))),
        Table::Compress => route(&format!("path = \"/\"\nrespond = {{}}\n{}", inner("compress", ""))),
        Table::Substitute => {
            let texts = unless("texts", "texts = { a = \"b\" }");
            route(&format!("path = \"/\"\nrespond = {{}}\n{}", inner("substitute", texts)))
        }
        Table::Cookies => route(&format!("path = \"/\"\nrespond = {{}}\n{}", inner("cookie_rewrite", ""))),
        Table::Options => {
            let hsts = if key.name.starts_with("hsts_") { "hsts = \"365d\"\n" } else { "" };
            let limit = if key.name == "limits" { "[limit.other]\nrate = \"1/s\"\n" } else { "" };
            format!("{limit}{}", route(&format!("path = \"/\"\nrespond = {{}}\n{hsts}{line}")))
        }
        Table::Headers => {
            let set = unless("set", "set = { A = \"b\" }");
            route(&format!("path = \"/\"\nrespond = {{}}\n{}", inner("headers", set)))
        }
        Table::ErrorPage => {
            let path = unless("path", "path = \"/x\"");
            route(&format!(
                "path = \"/\"\nrespond = {{}}\nerror_pages.404 = {}",
                inner("", path).trim_start_matches([' ', '='])
            ))
        }
        Table::Rewrite => route(&format!("path = \"/\"\n{}", inner("rewrite", unless("to", "to = \"/x\"")))),
        Table::Respond => route(&format!("path = \"/\"\n{}", inner("respond", ""))),
        Table::Tarpit => route(&format!("path = \"/\"\n{}", inner("tarpit", ""))),
        Table::Auth => {
            let needed = ["realm = \"r\"", "users_file = \"/users\""];
            let others = needed.iter().filter(|part| line.is_empty() || !part.starts_with(&format!("{} ", key.name)));
            let others = others.copied().collect::<Vec<_>>().join(", ");
            route(&format!("path = \"/\"\nrespond = {{}}\n{}", inner("auth", &others)))
        }
        Table::Upstream => upstream(&format!("servers = \"1.1.1.1:1\"\n{line}")),
        Table::Server => {
            let is_address = !line.is_empty() && ["address", "srv"].contains(&key.name);
            let address = if is_address { "" } else { "address = \"1.1.1.1:1\"" };
            let entry = [address, line].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(", ");
            upstream(&format!("servers = [\"1.1.1.2:2\", {{ {entry} }}]\n"))
        }
        Table::Hash => {
            let needed = unless("key", "key = \"$path\"");
            upstream(&format!("servers = \"1.1.1.1:1\"\n{}", inner("hash", needed)))
        }
        Table::Sticky => {
            let cookie = unless("cookie", "cookie = \"c\"");
            let secret = if key.name == "secret_file" { "" } else { unless("secret", "secret = \"one of sixteen b\"") };
            let secret = if line.is_empty() { "secret = \"one of sixteen b\"" } else { secret };
            let needed =
                [cookie, secret].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(", ");
            upstream(&format!("servers = \"1.1.1.1:1\"\n{}", inner("sticky", &needed)))
        }
        Table::Mirror => {
            let mirror = inner("mirror", unless("to", "to = \"u\""));
            let upstreams = "[upstream.u]\nservers = \"1.1.1.1:1\"\n[upstream.other]\nservers = \"1.1.1.2:1\"\n";
            route(&format!("path = \"/\"\nproxy = \"u\"\n{mirror}{upstreams}"))
        }
        Table::Cgi => {
            let cgi = inner("cgi", unless("root", "root = \"/x\""));
            let upstream = "[upstream.u]\nservers = \"1.1.1.1:1\"\nprotocol = \"scgi\"\n";
            route(&format!("path = \"/\"\nproxy = \"u\"\n{cgi}{upstream}"))
        }
        Table::Health => upstream(&format!("servers = \"1.1.1.1:1\"\n{}", inner("health", health_needs(key.name)))),
        Table::Outliers => upstream(&format!("servers = \"1.1.1.1:1\"\n{}", inner("outliers", ""))),
        Table::App if ["program", "threads"].contains(&key.name) || (key.name == "type" && line.is_empty()) => {
            format!("[app.echo]\n{line}\n")
        }
        Table::App
            if ["workers", "memory_limit", "ini", "worker_requests", "terminate_timeout", "slow_timeout"]
                .contains(&key.name) =>
        {
            format!("[app.echo]\ntype = \"php\"\n{line}\n")
        }
        Table::App => {
            let kind = needs("type", "type = \"process\"");
            let command = needs("command", "command = [\"x\", \"{instance}\", \"{{socket}\"]");
            let listen = match key.name {
                "listen" => "environment = { PORT = \"{socket}\" }\n".to_owned(),
                "first_port" if !line.is_empty() => String::new(),
                _ => "listen = \"fd\"\n".to_owned(),
            };
            let user = if key.name == "group" { "user = \"u\"\n" } else { "" };
            format!("[app.echo]\n{kind}{command}{listen}{user}{line}\n")
        }
        Table::Map => {
            let from = needs("from", "from = \"$http_a\"");
            format!("[map.m]\n{from}{}{line}\n", needs("values", "values = { \"~a\" = \"b\" }"))
        }
        Table::Geo => format!("[geo.m]\n{}{line}\n", needs("values", "values = { \"10.0.0.0/8\" = \"b\" }")),
        Table::Split => {
            format!(
                "[split.m]\n{}{}{line}\n",
                needs("from", "from = \"$http_a\""),
                needs("shares", "shares = \"5% a\"")
            )
        }
        Table::Mysql => {
            let servers = match key.name {
                "servers" | "primary_looks" | "primary_dwell" => "servers = [\"127.0.0.1:3306\"]",
                _ => "primary = \"127.0.0.1:3306\"",
            };
            let listen = match key.name {
                "socket_mode" => "listen = \"unix:/run/db.sock\"",
                _ => "listen = \"127.0.0.1:3307\"",
            };
            let parts = [listen, servers, "user = \"u\"", "password = \"p\""];
            let parts = parts.iter().filter(|part| line.is_empty() || !part.starts_with(&format!("{} ", key.name)));
            let tls = match key.name {
                "tls_required" => "tls.certificates = [{ chain = \"/a.pem\", key = \"/a.key\" }]\n",
                "pool_min" => "pool_max = 65536\n",
                "trusted_proxies" => "proxy_protocol = \"required\"\n",
                _ => "",
            };
            format!("[mysql.m]\n{}\n{tls}{line}\n", parts.copied().collect::<Vec<_>>().join("\n"))
        }
        Table::MysqlServer => {
            let main = "listen = \"127.0.0.1:3307\"\nprimary = \"127.0.0.1:3306\"\nuser = \"u\"\npassword = \"p\"";
            let address = if key.name == "address" && !line.is_empty() { "" } else { "address = \"1.1.1.1:1\"" };
            format!("[mysql.m]\n{main}\n[[mysql.m.replicas]]\n{address}\n{line}\n")
        }
        Table::MysqlUser => {
            let main = "listen = \"127.0.0.1:3307\"\nprimary = \"127.0.0.1:3306\"\nuser = \"u\"\npassword = \"p\"";
            let parts = ["name = \"v\"", "password = \"p\""];
            let parts = parts.iter().filter(|part| line.is_empty() || !part.starts_with(&format!("{} ", key.name)));
            format!("[mysql.m]\n{main}\n[[mysql.m.users]]\n{}\n{line}\n", parts.copied().collect::<Vec<_>>().join("\n"))
        }
        Table::MysqlSlowLog => {
            let main = "listen = \"127.0.0.1:3307\"\nprimary = \"127.0.0.1:3306\"\nuser = \"u\"\npassword = \"p\"";
            format!("[mysql.m]\n{main}\n[mysql.m.slow_log]\n{}{line}\n", needs("file", "file = \"/slow.log\""))
        }
        Table::MysqlRule => {
            let main = "listen = \"127.0.0.1:3307\"\nprimary = \"127.0.0.1:3306\"\nuser = \"u\"\npassword = \"p\"";
            let others = "users = [{ name = \"other\", password = \"p\" }]";
            let action = match key.name {
                "route" | "reject" if !line.is_empty() => "",
                "route" => "time_limit = \"1s\"",
                "unsafe" => "route = \"replica\"",
                "rewrite" => "rewrite_to = \"x\"",
                "rewrite_to" => "rewrite = \"y\"",
                _ => "route = \"primary\"",
            };
            // Neither of the two means anything without the other.
            let action = if action.starts_with("rewrite") && line.is_empty() { "route = \"primary\"" } else { action };
            format!("[mysql.m]\n{main}\n{others}\n[[mysql.m.rules]]\n{action}\n{line}\n")
        }
        Table::Top => format!("{line}\n"),
        Table::Process if key.name.starts_with("stats_socket_") => {
            format!("[process]\nstats_socket = \"/run/s\"\n{line}\n")
        }
        Table::Process if key.name == "group" => format!("[process]\nuser = \"u\"\n{line}\n"),
        single => format!("{}\n{line}\n", single.header()),
    };
    format!("{text}{BASE}")
}

/// What makes a key of `health` mean something.
fn health_needs(key: &str) -> &'static str {
    match key {
        "method" | "protocol" | "host" | "headers" | "status" | "expect_header" | "expect_body" | "expect_max"
        | "tls" => "path = \"/x\"",
        "ca" | "server_name" => "kind = \"tls\"",
        "user" => "kind = \"mysql\"",
        "password" | "password_file" => "kind = \"mysql\", user = \"u\"",
        _ => "",
    }
}

/// A TLS listener with `line` in `tls`, or in its certificate.
fn tls_listener(key: &Key, line: &str) -> String {
    let join = |parts: &[&str]| parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(", ");
    let unless = |name: &str, text: &'static str| if key.name == name && !line.is_empty() { "" } else { text };
    let (outer, inner) = if key.table == Table::Tls { (line, "") } else { ("", line) };
    let certificate = join(&[unless("chain", "chain = \"/a.pem\""), unless("key", "key = \"/a.key\""), inner]);
    let certificates = unless("certificates", "certificates = [{ C }]").replace('C', &certificate);
    let tls = join(&[&certificates, unless("client_ca", "client_ca = \"/ca.pem\""), outer]);
    format!(
        "[listener.l]\naddress = \"127.0.0.1:1\"\ntls = {{ {tls} }}\n[site.l]\nhosts = \"l.invalid\"\nlisteners = \"l\"\n[[site.l.route]]\npath = \"/\"\nrespond = {{}}\n"
    )
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
            key.flag.is_none() || !key.when.is_empty() || key.table == Table::Mysql,
            "{place}: a flag says when to change it"
        );
        for known in key.known_as {
            assert!(known.contains(' '), "{place}: {known} names no program");
        }
    }
    let flags: Vec<&str> = described::all().filter_map(|key| key.flag).map(|(flag, _)| flag).collect();
    for (at, flag) in flags.iter().enumerate() {
        assert!(!flags[..at].contains(flag), "--{flag} twice");
    }
}

#[test]
fn the_manual_has_every_key() {
    let (markdown, toml) = (reference_markdown(), reference_toml());
    for key in described::all() {
        assert!(markdown.contains(&format!("### `{}`", key.name)) && markdown.contains(key.when), "{}", key.name);
        assert!(toml.contains(&format!("{} = ", key.name)), "{}", key.name);
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
