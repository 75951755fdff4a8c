//! Keys of `[site.NAME]`, its routes and their actions.

use super::super::key::Absent::{Default, Means, Required};
use super::super::key::{Key, Table, integer, size};
use super::super::value::Kind;
use super::{
    ACCESS_HELP, AUTH, AUTH_REQUEST, AUTH_REQUEST_HEADERS_HELP, AUTH_REQUEST_HELP, SATISFY, SATISFY_HELP, WAIT,
};

pub(super) const KEYS: &[Key] = &[
    // [site.NAME]
    Key::new(Table::Site, "hosts", Kind::List(&Kind::Text), Default("*"))
        .help("names it answers for: \"example.org\", \"*.example.org\" (any name below), \"www.example.*\", \"~^www\\d+\\.\" (an expression), \"*\" (any); they win in this order, longer ones over shorter ones")
        .known_as(&["nginx server_name"]),
    Key::new(Table::Site, "default", Kind::Switch, Default("false"))
        .help("answers for hosts that no site of the listener names")
        .known_as(&["nginx default_server", "haproxy default_backend"]),
    Key::new(Table::Site, "listeners", Kind::List(&Kind::Text), Means("every listener"))
        .help("names of the listeners it is reached through"),
    Key::new(Table::Site, "access_log", Kind::Output, Means("`access` of [log]"))
        .help("where the access log of this site goes, in the format of [log]: stdout, a file, or off")
        .known_as(&["nginx access_log", "haproxy option dontlog-normal"])
        .when("to a file for a site whose log somebody else reads, off for health checks and the like"),
    Key::new(Table::Site, "access", Kind::List(&Kind::AddressRule), Default(""))
        .help(ACCESS_HELP)
        .known_as(&["nginx allow", "nginx deny", "haproxy http-request deny"])
        .when("to keep a site for known networks; end the list with \"deny all\""),
    Key::new(Table::Site, "auth", AUTH, Means("no login"))
        .help("the login it asks for")
        .known_as(&["nginx auth_basic", "haproxy http-request auth"]),
    Key::new(Table::Site, "satisfy", SATISFY, Means("all"))
        .help(SATISFY_HELP)
        .known_as(&["nginx satisfy"]),
    Key::new(Table::Site, "auth_request", AUTH_REQUEST, Means("nobody is asked"))
        .help(AUTH_REQUEST_HELP)
        .known_as(&["nginx auth_request"])
        .when("where another service knows who may come in; make the route of the path `internal`"),
    Key::new(Table::Site, "auth_request_headers", Kind::List(&Kind::Text), Means("none"))
        .help(AUTH_REQUEST_HEADERS_HELP)
        .known_as(&["nginx auth_request_set"]),
    Key::new(Table::Site, "route", Kind::Form("tables, each written as [[site.NAME.route]]"), Required)
        .help("its routes")
        .known_as(&["nginx location", "haproxy use_backend"]),
    Key::new(Table::Site, "https_only", Kind::Switch, Default("false"))
        .help("requests in clear text are sent to https with 308, but for those of /.well-known/acme-challenge/")
        .known_as(&["haproxy http-request redirect scheme"]),
    Key::new(Table::Site, "https_port", integer(1, 65_535), Default("443"))
        .help("port that https_only sends to"),
    Key::new(Table::Site, "body_max", size(0, 1 << 50), Means("that of [http]"))
        .help("bytes of a request body; beyond it 413; 0: no limit")
        .known_as(&["nginx client_max_body_size"]),
    // [[site.NAME.route]]
    Key::new(Table::Route, "path", Kind::UrlPath, Means("give `exact` instead"))
        .help("prefix of the path, byte by byte: \"/api\" also matches \"/apis\", \"/api/\" does not; the longest wins"),
    Key::new(Table::Route, "exact", Kind::UrlPath, Means("give `path` instead"))
        .help("the whole path; wins over every prefix"),
    Key::new(Table::Route, "regex", Kind::Text, Means("give `path` instead"))
        .help("regular expression somewhere in the path, over its decoded bytes: \"(?i)\\.php$\"; no look-around and no backreferences, so that it takes linear time")
        .known_as(&["nginx location ~"]),
    Key::new(Table::Route, "name", Kind::Text, Means("give `path` instead"))
        .help("name of a route without a path: `@name` in `try`, `fallback` and `error_pages` of the site leads there, with method, target and body as they are")
        .known_as(&["nginx location @"]),
    Key::new(Table::Route, "over_regex", Kind::Switch, Default("false"))
        .help("of a `path`: when it is the longest that matches, no `regex` is tried")
        .known_as(&["nginx location ^~"]),
    Key::new(Table::Route, "methods", Kind::List(&Kind::Text), Means("all"))
        .help("methods it takes; GET stands for HEAD too")
        .known_as(&["nginx limit_except"]),
    Key::new(Table::Route, "when", Kind::List(&Kind::Text), Means("always"))
        .help("conditions that must all hold, else the route is not there for the request: \"$name\" (neither empty nor 0), \"!$name\", \"$name = text\", \"!=\", \"$name ~ regex\", \"~*\" (any case), \"!~\", \"!~*\"; `$remote_user` is not known yet, `variables` are those of the site")
        .known_as(&["nginx if", "haproxy acl", "haproxy if"])
        .when("for routes that depend on a field, a cookie, an argument or a variable of [map.NAME]"),
    Key::new(Table::Route, "internal", Kind::Switch, Default("false"))
        .help("only reached by rewrites, error pages and X-Accel-Redirect; clients get 404")
        .known_as(&["nginx internal"]),
    Key::new(Table::Route, "body_max", size(0, 1 << 50), Means("that of the site"))
        .help("bytes of a request body; beyond it 413; 0: no limit")
        .known_as(&["nginx client_max_body_size"]),
    Key::new(Table::Route, "files", Kind::Form("a folder, or a table such as { root = \"/var/www/html\" }"), Means("another action"))
        .help("serve files of a folder")
        .known_as(&["nginx root", "nginx alias", "nginx try_files"]),
    Key::new(Table::Route, "proxy", Kind::Text, Means("another action"))
        .help("forward to the upstream of this name, or of the name that one variable of [map.NAME], [geo.NAME] or [split.NAME] is: \"$backend\"; all that it may be are looked at when the config is read")
        .known_as(&["nginx proxy_pass", "haproxy default_backend", "haproxy use_backend"])
        .when("a variable for canaries: a [split.NAME] by weight, a [map.NAME] by a cookie or a field"),
    Key::new(Table::Route, "mirror", Kind::Form("the name of an upstream, or a table such as { to = \"shadow\", share = \"10%\" }"), Means("no copies"))
        .help("send copies of its requests to a second upstream, and throw the answers away")
        .known_as(&["nginx mirror", "haproxy spoa-mirror"])
        .when("to try a new version with real traffic"),
    Key::new(Table::Route, "cgi", Kind::Form("a folder, or a table such as { root = \"/var/www/html\" }"), Means("SCRIPT_NAME is empty; FastCGI needs it"))
        .help("what servers of FastCGI, uwsgi and SCGI are told")
        .known_as(&["nginx fastcgi_param", "haproxy fcgi-app"])
        .when("beside `proxy` to an upstream with such a `protocol`"),
    Key::new(Table::Route, "app", Kind::Text, Means("another action"))
        .help("call the application of this name: a program inside this process, or one that is started and watched"),
    Key::new(Table::Route, "redirect", Kind::Form("a target, or a table such as { to = \"https://example.org$path\" }"), Means("another action"))
        .help("answer with a redirect")
        .known_as(&["haproxy http-request redirect", "nginx return"]),
    Key::new(Table::Route, "rewrite", Kind::Form("a target, or a table such as { to = \"/new/$1\" }"), Means("another action"))
        .help("route again with another target; beside files, proxy or app: what these see")
        .known_as(&["nginx rewrite", "haproxy http-request set-path"]),
    Key::new(Table::Route, "respond", Kind::Form("a table such as { status = 200, body = \"ok\" }"), Means("another action"))
        .help("answer with a fixed text")
        .known_as(&["nginx return", "haproxy http-request return"]),
    Key::new(Table::Route, "access", Kind::List(&Kind::AddressRule), Means("that of the site"))
        .help(ACCESS_HELP)
        .known_as(&["nginx allow", "nginx deny", "haproxy http-request deny"])
        .when("to open or close a part of a site; [] lifts what the site says"),
    Key::new(Table::Route, "auth", AUTH, Means("that of the site"))
        .help("the login it asks for, in place of the site's")
        .known_as(&["nginx auth_basic", "haproxy http-request auth"]),
    Key::new(Table::Route, "satisfy", SATISFY, Means("that of the site"))
        .help(SATISFY_HELP)
        .known_as(&["nginx satisfy"]),
    Key::new(Table::Route, "auth_request", AUTH_REQUEST, Means("that of the site"))
        .help(AUTH_REQUEST_HELP)
        .known_as(&["nginx auth_request"])
        .when("where another service knows who may come in; make the route of the path `internal`"),
    Key::new(Table::Route, "auth_request_headers", Kind::List(&Kind::Text), Means("those of the site"))
        .help(AUTH_REQUEST_HEADERS_HELP)
        .known_as(&["nginx auth_request_set"]),
    Key::new(Table::Route, "close", Kind::Switch, Default("false"))
        .help("close the connection without an answer")
        .known_as(&["nginx return 444", "haproxy silent-drop"]),
    Key::new(Table::Route, "tarpit", Kind::Form("a table such as { delay = \"10s\", status = 429 }"), Means("another action"))
        .help("hold the answer back, then answer with an error")
        .known_as(&["haproxy http-request tarpit"]),
    // files
    Key::new(Table::Files, "root", Kind::Path, Required)
        .help("the folder, absolute or relative to the working directory; nothing outside is ever opened")
        .known_as(&["nginx root", "nginx alias"]),
    Key::new(Table::Files, "strip_prefix", Kind::UrlPath, Means("nothing is cut off"))
        .help("leading part of the path that is cut off before the file is looked for: without it a route works like nginx's `root`, with the route's own path like `alias`"),
    Key::new(Table::Files, "index", Kind::List(&Kind::Text), Default("index.html"))
        .help("names tried for a path that ends in `/`")
        .known_as(&["nginx index"]),
    Key::new(Table::Files, "try", Kind::List(&Kind::Text), Means("the path itself"))
        .help("what is looked for, in order: \"$path\", \"$path.html\", \"$path/\" (its index), \"/index.html\"; the last may be a status such as \"=404\" or the \"@name\" of a route")
        .known_as(&["nginx try_files"]),
    Key::new(Table::Files, "fallback", Kind::UrlPathOrName, Means("404"))
        .help("path below the root that is served with 200 when there is no such file (single-page applications); or the `@name` of a route, which then gets the request as it is")
        .known_as(&["nginx try_files"]),
    Key::new(Table::Files, "listing", Kind::Word(&["off", "html", "json", "auto"]), Default("off"))
        .help("answer for a folder without index: 403, a page, a JSON array, or what the client prefers of the two")
        .known_as(&["nginx autoindex", "nginx autoindex_format"])
        .when("for download areas; whoever can reach the route sees every name in the folder that does not begin with a dot"),
    Key::new(Table::Files, "precompressed", Kind::List(&Kind::Word(&["br", "zstd", "gzip"])), Default(""))
        .help("serve `app.js.br`, `app.js.zst` or `app.js.gz` beside `app.js` to clients that accept it; one older than the original is ignored")
        .known_as(&["nginx gzip_static", "nginx brotli_static", "nginx zstd_static"])
        .when("when the build writes such files: better ratios than compressing on the way, at no cost per request"),
    Key::new(Table::Files, "ranges_max", integer(0, 1024), Default("64"))
        .help("byte ranges honoured in one request; one with more gets the whole file; 0: ranges are off")
        .known_as(&["nginx max_ranges"])
        .when("1 to allow resumed downloads but no multipart answers. nginx has no limit"),
    Key::new(Table::Files, "dotfiles", Kind::Switch, Default("false"))
        .help("serve names that begin with a dot; `.well-known` always is")
        .when("seldom: such files hold history, configuration, passwords. nginx serves them"),
    Key::new(Table::Files, "symlinks", Kind::Word(&["beneath", "owner", "never"]), Default("beneath"))
        .help("symbolic links followed: those that stay below the root, those of them whose owner owns the target, or none")
        .known_as(&["nginx disable_symlinks"])
        .when("`owner` or `never` where users who do not trust each other write below one root. nginx follows every link"),
    Key::new(Table::Files, "types", Kind::Form("a table of extensions such as { wasm = \"application/wasm\" }"), Means("the built-in table"))
        .help("media types by extension; they win over the built-in table")
        .known_as(&["nginx types"]),
    Key::new(Table::Files, "default_type", Kind::Field, Default("application/octet-stream"))
        .help("media type of files without a known extension")
        .known_as(&["nginx default_type"]),
    Key::new(Table::Files, "charset", Kind::Field, Default("utf-8"))
        .help("charset parameter of text types; empty: none")
        .known_as(&["nginx charset"]),
    Key::new(Table::Files, "charset_types", Kind::List(&Kind::Text), Default("text/*,*+xml,*+json,application/json,application/xml,application/javascript,application/x-javascript,application/toml"))
        .help("types that get the charset parameter: a type, `type/*` or `*+suffix`")
        .known_as(&["nginx charset_types"]),
    // redirect
    Key::new(Table::Redirect, "to", Kind::Field, Required)
        .help("value of the Location field, absolute or relative; may hold variables, such as $path and $query"),
    Key::new(Table::Redirect, "status", integer(301, 308), Default("308"))
        .help("301, 302, 303, 307 or 308; 307 and 308 keep the method"),
    // rewrite
    Key::new(Table::Rewrite, "to", Kind::Field, Required)
        .help("the new path, and perhaps a query; may hold variables and captures"),
    // respond
    Key::new(Table::Respond, "status", integer(200, 599), Default("200"))
        .help("status code"),
    Key::new(Table::Respond, "content_type", Kind::Field, Default("text/plain; charset=utf-8"))
        .help("value of the Content-Type field")
        .known_as(&["nginx default_type"]),
    Key::new(Table::Respond, "body", Kind::Text, Means("an empty body"))
        .help("the body; may hold variables, which are escaped for HTML, XML and JSON; `$$` is a dollar"),
    // tarpit
    Key::new(Table::Tarpit, "delay", WAIT, Default("10s"))
        .help("how long the answer is held back while the client stays; a drain does not wait for it")
        .known_as(&["haproxy timeout tarpit"]),
    Key::new(Table::Tarpit, "status", integer(400, 599), Default("429"))
        .help("status of the answer")
        .known_as(&["haproxy deny_status"]),
    // mirror
    Key::new(Table::Mirror, "to", Kind::Text, Required)
        .help("name of the upstream that gets the copies"),
    Key::new(Table::Mirror, "share", Kind::Text, Default("100%"))
        .help("share of the requests that is copied, chosen by chance: \"10%\", \"0.5%\"")
        .known_as(&["nginx split_clients"])
        .when("down where the second upstream is smaller"),
    Key::new(Table::Mirror, "requests_max", integer(1, 65_536), Default("64"))
        .help("copies under way at once, in the whole process; more are not made")
        .when("up for a second upstream that is slow but large"),
];
