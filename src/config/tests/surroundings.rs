//! What stands around a key in a config that is good: the tables it is in, and the keys without which it means nothing.

use super::*;

/// A good config with `line` in the table of `key`, and everything else that the table needs.
pub(super) fn in_its_table(key: &Key, line: &str) -> String {
    let tried = Tried { key, line };
    let text = match key.table {
        Table::Listener => tried.listener(),
        Table::Tls | Table::Certificate => tried.tls_of_listener(),
        Table::Udp => tried.udp(),
        Table::Limit => format!("[limit.l]\n{}{line}\n", tried.needs("rate", "rate = \"1/s\"")),
        Table::Site => tried.site(),
        Table::Route => beside_answer(line),
        Table::Options => tried.options(),
        Table::Files => tried.action("/other", "files", tried.unless("root", "root = \"/x\"")),
        Table::Redirect => tried.action("/", "redirect", tried.unless("to", "to = \"/x\"")),
        Table::Rewrite => tried.action("/", "rewrite", tried.unless("to", "to = \"/x\"")),
        Table::Respond => tried.action("/", "respond", ""),
        Table::Tarpit => tried.action("/", "tarpit", ""),
        Table::Compress => beside_answer(&tried.inner("compress", "")),
        Table::Cookies => beside_answer(&tried.inner("cookie_rewrite", "")),
        Table::Substitute => beside_answer(&tried.inner("substitute", tried.unless("texts", "texts = { a = \"b\" }"))),
        Table::Headers => beside_answer(&tried.inner("headers", tried.unless("set", "set = { A = \"b\" }"))),
        Table::ErrorPage => beside_answer(&tried.inner("error_pages.404", tried.unless("path", "path = \"/x\""))),
        Table::Auth => {
            beside_answer(&tried.inner("auth", &tried.others(&["realm = \"r\"", "users_file = \"/users\""]).join(", ")))
        }
        Table::Mirror => tried.mirror(),
        Table::Cgi => tried.cgi(),
        Table::Upstream => tried.upstream_with(line),
        Table::Server => tried.server(),
        Table::Hash => tried.upstream_with(&tried.inner("hash", tried.unless("key", "key = \"$path\""))),
        Table::Sticky => tried.sticky(),
        Table::UpstreamTls => tried.tls_of_upstream(),
        Table::Health => tried.upstream_with(&tried.inner("health", health_needs(key.name))),
        Table::Outliers => tried.upstream_with(&tried.inner("outliers", "")),
        Table::App => tried.app(),
        Table::Map => {
            let from = tried.needs("from", "from = \"$http_a\"");
            format!("[map.m]\n{from}{}{line}\n", tried.needs("values", "values = { \"~a\" = \"b\" }"))
        }
        Table::Geo => format!("[geo.m]\n{}{line}\n", tried.needs("values", "values = { \"10.0.0.0/8\" = \"b\" }")),
        Table::Split => {
            let from = tried.needs("from", "from = \"$http_a\"");
            format!("[split.m]\n{from}{}{line}\n", tried.needs("shares", "shares = \"5% a\""))
        }
        Table::Mysql => tried.splitter(),
        Table::MysqlServer => splitter_with(&format!(
            "[[mysql.m.replicas]]\n{}{line}\n",
            tried.needs("address", "address = \"1.1.1.1:1\"")
        )),
        Table::MysqlUser => {
            let others = tried.others(&["name = \"v\"", "password = \"p\""]).join("\n");
            splitter_with(&format!("[[mysql.m.users]]\n{others}\n{line}\n"))
        }
        Table::MysqlSlowLog => {
            splitter_with(&format!("[mysql.m.slow_log]\n{}{line}\n", tried.needs("file", "file = \"/slow.log\"")))
        }
        Table::MysqlRule => tried.rule(),
        Table::Top => format!("{line}\n"),
        Table::Process => tried.process(),
        single => format!("{}\n{line}\n", single.header()),
    };
    format!("{text}{BASE}")
}

/// A route that answers, with these lines.
fn beside_answer(lines: &str) -> String {
    route(&format!("path = \"/\"\nrespond = {{}}\n{lines}"))
}

/// A splitter with a table of its own.
fn splitter_with(table: &str) -> String {
    let main = "listen = \"127.0.0.1:3307\"\nprimary = \"127.0.0.1:3306\"\nuser = \"u\"\npassword = \"p\"";
    format!("[mysql.m]\n{main}\n{table}")
}

/// Those that are not empty.
fn listed(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(", ")
}

/// Two upstreams to choose from.
const UPSTREAMS: &str = "[upstream.u]\nservers = \"1.1.1.1:1\"\n[upstream.other]\nservers = \"1.1.1.2:1\"\n";

/// A certificate, as a listener and a splitter take it.
const CERTIFICATES: &str = "tls.certificates = [{ chain = \"/a.pem\", key = \"/a.key\" }]\n";

/// A key, and the line that sets it; an empty line is the config to compare with.
struct Tried<'a> {
    key: &'a Key,
    line: &'a str,
}

impl Tried<'_> {
    fn sets(&self, name: &str) -> bool {
        self.key.name == name && !self.line.is_empty()
    }

    /// `text`, where the line is not itself about `name`.
    fn unless(&self, name: &str, text: &'static str) -> &'static str {
        if self.sets(name) { "" } else { text }
    }

    /// The same as a line.
    fn needs(&self, name: &str, text: &str) -> String {
        if self.sets(name) { String::new() } else { format!("{text}\n") }
    }

    /// Those of the lines that are about other keys.
    fn others<'l>(&self, lines: &[&'l str]) -> Vec<&'l str> {
        let own = format!("{} ", self.key.name);
        lines.iter().filter(|line| self.line.is_empty() || !line.starts_with(&own)).copied().collect()
    }

    /// The line in a table within a table, with what else is needed there.
    fn inner(&self, name: &str, needed: &str) -> String {
        format!("{name} = {{ {} }}\n", listed(&[needed, self.line]))
    }

    fn listener(&self) -> String {
        let (address, line) = (self.needs("address", "address = \"127.0.0.1:1\""), self.line);
        let more = match self.key.name {
            // Nobody else's header would be read.
            "real_ip_header" => "trusted_proxies = \"10.0.0.0/8\"\n",
            "http3" => CERTIFICATES,
            _ => "",
        };
        format!(
            "[listener.l]\n{address}{more}{line}\n[site.l]\nhosts = \"l.invalid\"\n[[site.l.route]]\npath = \"/\"\nrespond = {{}}\n"
        )
    }

    /// In `tls`, or in its certificate.
    fn tls_of_listener(&self) -> String {
        let (outer, inner) = if self.key.table == Table::Tls { (self.line, "") } else { ("", self.line) };
        let certificate =
            listed(&[self.unless("chain", "chain = \"/a.pem\""), self.unless("key", "key = \"/a.key\""), inner]);
        let certificates = self.unless("certificates", "certificates = [{ C }]").replace('C', &certificate);
        let tls = listed(&[&certificates, self.unless("client_ca", "client_ca = \"/ca.pem\""), outer]);
        format!(
            "[listener.l]\naddress = \"127.0.0.1:1\"\ntls = {{ {tls} }}\n[site.l]\nhosts = \"l.invalid\"\nlisteners = \"l\"\n[[site.l.route]]\npath = \"/\"\nrespond = {{}}\n"
        )
    }

    fn udp(&self) -> String {
        let udp = self.inner("udp", self.unless("upstream", "upstream = \"u\""));
        format!("[listener.l]\naddress = \"127.0.0.1:1\"\n{udp}{UPSTREAMS}")
    }

    /// Beside another site on a listener of its own.
    fn site(&self) -> String {
        let (hosts, line) = (self.needs("hosts", "hosts = \"s.invalid\""), self.line);
        let other = "[listener.second]\naddress = \"127.0.0.1:1\"\n[site.t]\nhosts = \"t.invalid\"\nlisteners = \"second\"\n[[site.t.route]]\npath = \"/\"\nrespond = {}\n";
        let https = if self.key.name == "https_port" { "https_only = true\n" } else { "" };
        format!("{other}[site.s]\n{hosts}{https}{line}\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}\n")
    }

    fn options(&self) -> String {
        let hsts = if self.key.name.starts_with("hsts_") { "hsts = \"365d\"\n" } else { "" };
        let limit = if self.key.name == "limits" { "[limit.other]\nrate = \"1/s\"\n" } else { "" };
        format!("{limit}{}", beside_answer(&format!("{hsts}{}", self.line)))
    }

    /// In the table of a route's one action.
    fn action(&self, path: &str, name: &str, needed: &str) -> String {
        route(&format!("path = \"{path}\"\n{}", self.inner(name, needed)))
    }

    fn mirror(&self) -> String {
        let mirror = self.inner("mirror", self.unless("to", "to = \"u\""));
        route(&format!("path = \"/\"\nproxy = \"u\"\n{mirror}{UPSTREAMS}"))
    }

    fn cgi(&self) -> String {
        let cgi = self.inner("cgi", self.unless("root", "root = \"/x\""));
        let upstream = "[upstream.u]\nservers = \"1.1.1.1:1\"\nprotocol = \"scgi\"\n";
        route(&format!("path = \"/\"\nproxy = \"u\"\n{cgi}{upstream}"))
    }

    /// An upstream with a server and these lines.
    fn upstream_with(&self, lines: &str) -> String {
        upstream(&format!("servers = \"1.1.1.1:1\"\n{lines}"))
    }

    fn server(&self) -> String {
        let is_address = self.sets("address") || self.sets("srv");
        let address = if is_address { "" } else { "address = \"1.1.1.1:1\"" };
        upstream(&format!("servers = [\"1.1.1.2:2\", {{ {} }}]\n", listed(&[address, self.line])))
    }

    fn sticky(&self) -> String {
        let cookie = self.unless("cookie", "cookie = \"c\"");
        let has_secret = self.sets("secret") || self.sets("secret_file");
        let secret = if has_secret { "" } else { "secret = \"one of sixteen b\"" };
        self.upstream_with(&self.inner("sticky", &listed(&[cookie, secret])))
    }

    fn tls_of_upstream(&self) -> String {
        let pair = match self.key.name {
            "chain" if !self.line.is_empty() => "key = \"k\"",
            "key" if !self.line.is_empty() => "chain = \"c\"",
            _ => "",
        };
        self.upstream_with(&self.inner("tls", pair))
    }

    fn app(&self) -> String {
        let line = self.line;
        match self.key.name {
            "program" | "threads" => return format!("[app.echo]\n{line}\n"),
            "type" if line.is_empty() => return "[app.echo]\n\n".to_owned(),
            "workers" | "memory_limit" | "ini" | "worker_requests" | "terminate_timeout" | "slow_timeout" => {
                return format!("[app.echo]\ntype = \"php\"\n{line}\n");
            }
            _ => {}
        }
        let kind = self.needs("type", "type = \"process\"");
        let command = self.needs("command", "command = [\"x\", \"{instance}\", \"{{socket}\"]");
        let listen = match self.key.name {
            "listen" => "environment = { PORT = \"{socket}\" }\n",
            "first_port" if !line.is_empty() => "",
            _ => "listen = \"fd\"\n",
        };
        let user = if self.key.name == "group" { "user = \"u\"\n" } else { "" };
        format!("[app.echo]\n{kind}{command}{listen}{user}{line}\n")
    }

    fn splitter(&self) -> String {
        let servers = match self.key.name {
            "servers" | "primary_looks" | "primary_dwell" => "servers = [\"127.0.0.1:3306\"]",
            _ => "primary = \"127.0.0.1:3306\"",
        };
        let listen = match self.key.name {
            "socket_mode" => "listen = \"unix:/run/db.sock\"",
            _ => "listen = \"127.0.0.1:3307\"",
        };
        let more = match self.key.name {
            "tls_required" => CERTIFICATES,
            "pool_min" => "pool_max = 65536\n",
            "trusted_proxies" => "proxy_protocol = \"required\"\n",
            _ => "",
        };
        let others = self.others(&[listen, servers, "user = \"u\"", "password = \"p\""]).join("\n");
        format!("[mysql.m]\n{others}\n{more}{}\n", self.line)
    }

    fn rule(&self) -> String {
        let action = match self.key.name {
            "route" | "reject" if !self.line.is_empty() => "",
            "route" => "time_limit = \"1s\"",
            "unsafe" => "route = \"replica\"",
            // Neither of the two means anything without the other.
            "rewrite" if !self.line.is_empty() => "rewrite_to = \"x\"",
            "rewrite_to" if !self.line.is_empty() => "rewrite = \"y\"",
            _ => "route = \"primary\"",
        };
        let users = "users = [{ name = \"other\", password = \"p\" }]";
        splitter_with(&format!("{users}\n[[mysql.m.rules]]\n{action}\n{}\n", self.line))
    }

    fn process(&self) -> String {
        let more = match self.key.name {
            "group" => "user = \"u\"\n",
            name if name.starts_with("stats_socket_") => "stats_socket = \"/run/s\"\n",
            _ => "",
        };
        format!("[process]\n{more}{}\n", self.line)
    }
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
