//! The tables of the config file: how each one is written, and what it is for. Which keys stand in it, [`super::keys`] says.

use super::key::Key;
use super::keys;

/// Makes the enum of the tables, and what is said of each, from one description of it: what it stands for, how it is written,
/// and what it is for, in one or two sentences. They are in the order of the manual.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $header:literal, $help:literal;)*) => {
        /// A table of the config file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Table {
            $($(#[$doc])* $name,)*
        }

        impl Table {
            /// Every table, in the order of the manual.
            pub const ALL: &[Table] = &[$(Table::$name),*];

            /// How the table is written: `[upstream.NAME]`.
            pub fn header(self) -> &'static str {
                match self {
                    $(Table::$name => $header,)*
                }
            }

            /// What the table is for, in one or two sentences.
            pub fn help(self) -> &'static str {
                match self {
                    $(Table::$name => $help,)*
                }
            }
        }
    };
}

tables! {
    /// What stands above the first table
    Top: "the lines above the first table",
        "Everything else stands in tables.";

    /// `[process]`
    Process: "[process]",
        "Cores, drivers, queues and limits of the whole process.";

    /// `[http]`
    Http: "[http]",
        "Time-outs and limits of HTTP connections to clients.";

    /// `[http2]`
    Http2: "[http2]",
        "Windows and limits of HTTP/2 connections to clients. A client beyond a limit of frames gets GOAWAY with \
         ENHANCE_YOUR_CALM.";

    /// `[http3]`
    Http3: "[http3]",
        "Windows and limits of HTTP/3 connections to clients, on listeners with `http3 = true`. Idle time and time-outs \
         are those of [http].";

    /// `[listener.NAME]`
    Listener: "[listener.NAME]",
        "One listening address: for HTTP, for TCP connections of any kind (`tcp`), or for datagrams (`udp`). The name \
         shows in logs and metrics.";

    /// `tls = { … }` of a listener
    Tls: "tls = { … }",
        "TLS of a listener. Also written as [listener.NAME.tls].";

    /// One entry of `certificates` of `tls`
    Certificate: "certificates = [{ … }]",
        "One certificate with its key. Clients get the one for the name they ask for, ECDSA before RSA. `one-server cert \
         self-signed NAME` makes one for development.";

    /// `udp = { … }` of a listener
    Udp: "udp = { … }",
        "UDP mode of a listener: datagrams are passed on to the servers of an upstream, and answers back. What one \
         client sends from one port belongs to one flow, which stays with one server for as long as it lasts. `udp = \
         \"dns\"` is short for `udp = { upstream = \"dns\" }`.";

    /// `[limit.NAME]`
    Limit: "[limit.NAME]",
        "How many requests of one key (of one address, if nothing else is said) are answered: per time, and at once. The \
         limit holds for the whole process, over all its workers, and where `limits` of [http], a site or a route name \
         it; several all count, and a request that one refuses does not use up the others. It is looked at once for each \
         request, after the address rules and before the login.";

    /// `[site.NAME]`
    Site: "[site.NAME]",
        "Host names with their routes. Without a match, the site with `default = true` answers, else the first one.";

    /// `[[site.NAME.route]]`
    Route: "[[site.NAME.route]]",
        "One line of a site's routing table: a path and exactly one action (files, proxy, app, redirect, rewrite, \
         respond, close or tarpit); with a `name` instead of a path it is reached as `@name` alone. Precedence, as in \
         nginx: `exact`; the longest `path`, if it has `over_regex`; the first `regex` that matches, in order of \
         writing; the longest `path`. Only then `methods` choose among the routes of that one path: the first one that \
         takes the method; if none does, the answer is 405 with Allow, to OPTIONS 204. GET stands for HEAD too. A route \
         whose `when` does not hold is not there for that request: the search goes on among the others, to shorter paths \
         as well. Texts may name captures: `$1` to `$9` and named ones of a `regex`, and `$1` for what follows a `path`.";

    /// Keys that [`Table::Http`], [`Table::Site`] and [`Table::Route`] have in common
    Options: "any of [http], [site.NAME] and [[site.NAME.route]]",
        "What a route does not say, its site says, and what that does not say, [http]. A key written at a lower level \
         replaces the one above. Only `headers`, `request_headers` and `variables` are merged: the lower level wins \
         field by field, the others stay (nginx drops them all as soon as a level has one of its own).";

    /// `headers = { … }` and `request_headers = { … }` of these
    Headers: "headers = { … }",
        "Changes to the fields of answers (`headers`), or of requests to upstreams and applications (`request_headers`), \
         in the order remove, set, add. Values may hold variables. Fields that frame a message or are about a connection \
         cannot be changed.";

    /// One entry of `error_pages` of these
    ErrorPage: "error_pages = { 404 = { … } }",
        "A page shown instead of an error: a path of the same site, asked for internally with GET, or the `@name` of a \
         route, which gets the request as it is (a body that is gone with a first server is not sent in part: then the \
         server's own page is shown). `404 = \"/404.html\"` is short for `404 = { path = \"/404.html\" }`; `5xx` and \
         `500-504` name several statuses, the narrowest counts.";

    /// `files = { … }` of a route
    Files: "files = { … }",
        "A folder to serve. `files = \"/dir\"` is short for `files = { root = \"/dir\" }`.";

    /// `redirect = { … }` of a route
    Redirect: "redirect = { … }",
        "A redirect. `redirect = \"https://…\"` is short for `redirect = { to = \"https://…\" }`.";

    /// `rewrite = { … }` of a route
    Rewrite: "rewrite = { … }",
        "Another target for the request. Alone it is routed again, at most 10 times (nginx's `rewrite … last`); beside \
         files, proxy or app it is what these see (`break`). The query of the request is kept behind that of the new \
         target; a `?` at its end drops it. `rewrite = \"/new/$1\"` is short for `rewrite = { to = \"/new/$1\" }`.";

    /// `respond = { … }` of a route
    Respond: "respond = { … }",
        "A fixed answer.";

    /// `tarpit = { … }` of a route
    Tarpit: "tarpit = { … }",
        "An error that is answered late, for paths that only scanners ask for: it costs them time and us a connection. \
         `process.tarpit_max` bounds how many are held. `tarpit = {}` takes the defaults.";

    /// `mirror = { … }` of a route
    Mirror: "mirror = { … }",
        "Copies of the requests of a route with `proxy` go to a second upstream, whose answers are thrown away. The \
         request itself is neither held up nor changed. A copy is not made when too many are under way, when its content \
         is longer than 16 KiB, or when no server of that upstream has room; it is never tried twice. `mirror = \
         \"shadow\"` is short for `mirror = { to = \"shadow\" }`.";

    /// `cgi = { … }` of a route
    Cgi: "cgi = { … }",
        "What servers of FastCGI, uwsgi and SCGI are told of the requests of a route with `proxy`, and which scripts of \
         a folder run. `cgi = \"/var/www/html\"` is short for `cgi = { root = \"/var/www/html\" }`.";

    /// `compress = { … }` of `[http]`, a site or a route
    Compress: "compress = { … }",
        "How answers are compressed. A table replaces the one above it as a whole; `compress = true` keeps that one, or \
         takes these defaults where there is none.";

    /// `substitute = { … }` of `[http]`, a site or a route
    Substitute: "substitute = { … }",
        "Texts that are replaced in the bodies of answers: of files, upstreams, applications and fixed ones, before they \
         are compressed. Letters of ASCII are looked for in either case; of several texts that are found the leftmost \
         counts, of those that begin at the same place the one written first. Such answers have no Content-Length, \
         digests and ranges, and files are neither taken from their compressed forms nor sent by sendfile(2). Servers \
         and applications are not told which content codings the client takes (Accept-Encoding is not sent on), because \
         what comes coded stays as it is, and so do parts (206). A table replaces the one above it as a whole.";

    /// `cookie_rewrite = { … }` of `[http]`, a site or a route
    Cookies: "cookie_rewrite = { … }",
        "What becomes of the attributes of cookies that upstreams set. Whatever comes in of a table, the first entry \
         that fits counts. A table replaces the one above it as a whole.";

    /// `auth = { … }` of a site or route
    Auth: "auth = { … }",
        "A login by user and password (HTTP Basic) for a site or a route, which takes that of its site if it has none of \
         its own; `auth = false` switches it off. Use it over TLS only.";

    /// `[upstream.NAME]`
    Upstream: "[upstream.NAME]",
        "A named set of servers to balance over.";

    /// One entry of `servers` of an upstream
    Server: "servers = [{ … }]",
        "One server of an upstream. A text is short for a table with only `address`.";

    /// `hash = { … }` of an upstream
    Hash: "hash = { … }",
        "What keeps requests together on a server: consistent hashing, by which a server that goes or comes moves its \
         own keys alone. `hash = \"$remote_addr\"` is short for `hash = { key = \"$remote_addr\" }`.";

    /// `sticky = { … }` of an upstream
    Sticky: "sticky = { … }",
        "A cookie that leads a client back to the server it had. Its value says nothing of the server, and nobody can \
         make one for a server of their choice. A server that is down gives its clients to others, with a new cookie; \
         one with `weight = 0` keeps its clients and gets no others.";

    /// `tls = { … }` of an upstream
    UpstreamTls: "tls = { … }",
        "TLS towards the servers of an upstream. `tls = true` takes the defaults: certificates are verified.";

    /// `health = { … }` of an upstream
    Health: "health = { … }",
        "The active health check of an upstream. Without the key a TCP connection is tried; `health = false` switches \
         checks off. The very first check decides, so that a server which is dead at the start is down after one. A \
         check that fails for lack of something on this machine (file descriptors, memory) says nothing of a server.";

    /// `outliers = { … }` of an upstream
    Outliers: "outliers = { … }",
        "What live traffic tells of the servers: one that fails requests, or is much slower than the others, is ejected \
         for a while and gets none. `outliers = true` takes the defaults, without the key nothing is ejected. Each \
         ejection of a server lasts longer than the one before; a time without one takes that back step by step. A retry \
         that only met a closed idle connection is no failure.";

    /// `[resolver]`
    Resolver: "[resolver]",
        "How the names of servers are resolved: at the start, and again whenever the time runs out for which an answer \
         holds. Every address is a server of its own. A name that does not resolve is a server that is down; where it \
         resolved before, its addresses stay in use while no name server answers. What stands in /etc/hosts counts first.";

    /// `[app.NAME]`
    App: "[app.NAME]",
        "An application: a Rust program that runs inside this process, or (`type = \"process\"`) any command that serves \
         HTTP, or (`php`) php-fpm, which is started, watched, reloaded and limited. Of the latter each instance is a \
         server of an upstream called `app:NAME`, so that these keys of [upstream.NAME] can stand here too: `balance`, \
         `hash`, `sticky`, `slow_start`, `queue_max`, `queue_timeout`, `health`, `outliers`, `panic`, `connect_timeout`, \
         `idle_timeout`, `total_timeout`, `upgrade`, `tunnel_timeout`, `half_closed_timeout`, `tries`, `retry_on`, \
         `retry_budget`, `retry_time_max`, `retry_body_max`, `keep_idle`, `keep_idle_timeout`. It is not checked unless \
         `health` is written: its process, or its worker, is watched. A program inside this process has no `connect_timeout`, \
         `keep_idle` and `keep_idle_timeout`, and its check no keys of a socket.";

    /// `[map.NAME]`
    Map: "[map.NAME]",
        "The variable `$NAME`, looked up by a text: first the whole text, then (of `hostnames`) the longest \
         `*.example.org` and the longest `www.example.*`, all without regard to case, then the first expression in order \
         of writing. It is looked up when a text, a condition or the access log uses it.";

    /// `[geo.NAME]`
    Geo: "[geo.NAME]",
        "The variable `$NAME`, looked up by an address: the smallest network that holds it counts. IPv4 addresses in \
         their IPv6 form count as IPv4.";

    /// `[split.NAME]`
    Split: "[split.NAME]",
        "The variable `$NAME`, chosen by chance, but always the same for the same text: `from` is hashed as nginx does \
         it, so that everyone stays in the share where nginx had them.";

    /// `[mysql.NAME]`
    Mysql: "[mysql.NAME]",
        "A MySQL read/write splitter: writes go to the primary, reads that may be answered elsewhere to the replicas.";

    /// One entry of `replicas` of a splitter
    MysqlServer: "servers = [{ … }]",
        "One server in `servers` or `replicas`. A text is short for a table with only `address`.";

    /// One entry of `users` of a splitter
    MysqlUser: "users = [{ … }]",
        "A further account of a splitter, besides `user`, which is also the one that servers are looked after with. It \
         must exist on the servers, with the same password.";

    /// `slow_log = { … }` of a splitter
    MysqlSlowLog: "slow_log = { … }",
        "A line of JSON for each statement of a splitter's clients that takes long, written and opened again as access \
         logs are. `slow_log = \"/var/log/one-server/slow.log\"` is short for `slow_log = { file = \"…\" }`.";

    /// One entry of `rules` of a splitter
    MysqlRule: "rules = [{ … }]",
        "What becomes of some statements of a splitter. All conditions of a rule must hold, the first rule that does \
         decides. Rules see a statement's normal form, as `one-server ctl mysql digests` shows it: literals are `?` \
         there, lists `(...)`, words of the language in capitals, and it ends after 1 KiB. They are no grants: what must \
         not happen is for the servers to forbid.";

    /// `[admin]`
    Admin: "[admin]",
        "The admin listener: live page, status, metrics. It is off without this table.";

    /// `[log]`
    Log: "[log]",
        "The access log. The server's own messages go to standard error.";
}

impl Table {
    /// The tables that stand at the top of a file, by their first word.
    pub(super) const TOP: [(&'static str, Table); 16] = [
        ("process", Table::Process),
        ("http", Table::Http),
        ("http2", Table::Http2),
        ("http3", Table::Http3),
        ("listener", Table::Listener),
        ("limit", Table::Limit),
        ("site", Table::Site),
        ("upstream", Table::Upstream),
        ("resolver", Table::Resolver),
        ("app", Table::App),
        ("map", Table::Map),
        ("geo", Table::Geo),
        ("split", Table::Split),
        ("mysql", Table::Mysql),
        ("admin", Table::Admin),
        ("log", Table::Log),
    ];

    /// First word of a top table; panics for the tables inside others.
    pub(super) fn top_name(self) -> &'static str {
        match Table::TOP.iter().find(|(_, table)| *table == self) {
            Some((name, _)) => name,
            None => panic!("{} stands inside another table", self.header()),
        }
    }

    /// The keys described with the table, in the order of the manual.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        keys::all().filter(move |key| key.table == self)
    }

    /// All keys that may stand in the table: its own, and those it has in common with others.
    pub fn all_keys(self) -> impl Iterator<Item = &'static Key> {
        let shares = matches!(self, Table::Http | Table::Site | Table::Route);
        let is_app = self == Table::App;
        let of_upstreams =
            Table::Upstream.keys().filter(move |key| is_app && UPSTREAM_KEYS_OF_APPS.contains(&key.name));
        self.keys().chain(Table::Options.keys().filter(move |_| shares)).chain(of_upstreams)
    }

    /// The description of `name` in this table.
    pub fn key(self, name: &str) -> Option<&'static Key> {
        self.all_keys().find(|key| key.name == name)
    }
}

/// Keys of [upstream.NAME] that applications have as well; it has a `response_timeout` and a `requests_max` of its own.
pub(super) const UPSTREAM_KEYS_OF_APPS: &[&str] = &[
    "balance",
    "hash",
    "sticky",
    "slow_start",
    "queue_max",
    "queue_timeout",
    "health",
    "outliers",
    "panic",
    "connect_timeout",
    "idle_timeout",
    "total_timeout",
    "upgrade",
    "tunnel_timeout",
    "half_closed_timeout",
    "tries",
    "retry_on",
    "retry_budget",
    "retry_time_max",
    "retry_body_max",
    "keep_idle",
    "keep_idle_timeout",
];
