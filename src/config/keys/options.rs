//! Keys that `[http]`, sites and routes have in common, and their tables.

use std::time::Duration;

use super::super::key::Absent::{Default, Means, Required};
use super::super::key::{Key, Table, integer, size};
use super::super::value::Kind;
use super::{COMPRESS, GIB, MIB, TIB};
use crate::http::coding::DEFAULT_TYPES;

pub(super) const KEYS: &[Key] = &[
    // [http], [site.NAME] and [[site.NAME.route]]
    Key::new(Table::Options, "headers", Kind::Form("a table such as { set = { X-Frame-Options = \"DENY\" }, remove = [\"X-Powered-By\"] }"), Means("fields stay as they are"))
        .help("changes to the fields of answers; merged with those of the levels above, field by field")
        .known_as(&["nginx add_header", "nginx proxy_hide_header", "haproxy http-response set-header"]),
    Key::new(Table::Options, "request_headers", Kind::Form("a table such as { set = { X-Client = \"$remote_addr\" } }"), Means("fields stay as they are"))
        .help("changes to the fields of requests to upstreams and applications; merged as `headers` are")
        .known_as(&["nginx proxy_set_header", "haproxy http-request set-header"]),
    Key::new(Table::Options, "forwarded", Kind::Switch, Means("that of the level above, else false"))
        .help("send Forwarded (RFC 7239) to servers too, with the address of the client, the host it asked for and the scheme; what earlier proxies wrote stays in front of it")
        .known_as(&["haproxy option forwarded"])
        .when("for applications that read Forwarded: without the key what a client writes in it reaches them as it is"),
    Key::new(Table::Options, "via", Kind::Field, Means("that of the level above, else none"))
        .help("what this hop is called in Via of requests to servers and of their answers; empty: it adds none"),
    Key::new(Table::Options, "cache_control", Kind::Field, Means("that of the level above, else what the answer or `expires` says"))
        .help("value of Cache-Control of answers; empty: the answer's own")
        .known_as(&["nginx add_header Cache-Control"]),
    Key::new(Table::Options, "expires", Kind::Form("a duration, \"off\", \"no-cache\", or a table of these such as { \"text/css\" = \"1h\", \"image/*\" = \"30d\", \"*\" = \"off\" }"), Means("that of the level above, else off"))
        .help("how long answers may be kept, by media type: writes Cache-Control: max-age and Expires")
        .known_as(&["nginx expires"]),
    Key::new(Table::Options, "hsts", Kind::DurationOrOff { min: Duration::ZERO, max: Duration::from_secs(3650 * 86_400) }, Means("that of the level above, else off"))
        .help("how long browsers come by https alone (Strict-Transport-Security); sent over TLS alone; \"0s\" makes them forget")
        .known_as(&["nginx add_header Strict-Transport-Security"])
        .when("to \"730d\" once everything works over https; begin with a day: browsers do not forget before"),
    Key::new(Table::Options, "hsts_subdomains", Kind::Switch, Means("that of the level above, else false"))
        .help("the same for all names below"),
    Key::new(Table::Options, "hsts_preload", Kind::Switch, Means("that of the level above, else false"))
        .help("agree to be put on the lists that browsers come with"),
    Key::new(Table::Options, "error_pages", Kind::Form("a table such as { 404 = \"/404.html\", 5xx = \"/sorry.html\" }"), Means("those of the level above, else a short page of the server's own"))
        .help("pages shown instead of errors; the client gets the status of the error")
        .known_as(&["nginx error_page", "haproxy errorfile"]),
    Key::new(Table::Options, "intercept_errors", Kind::Switch, Means("that of the level above, else false"))
        .help("show error pages for errors of upstreams and applications too")
        .known_as(&["nginx proxy_intercept_errors", "nginx fastcgi_intercept_errors"]),
    Key::new(Table::Options, "variables", Kind::Form("a table such as { theme = \"dark\", who = \"$remote_user\" }"), Means("those of the levels above"))
        .help("variables of one's own, texts under a name that may hold variables; merged with those of the levels above, name by name. They may be used where every request has them: in this level and those below, in [log] and [map.NAME] when [http] has them")
        .known_as(&["nginx set", "haproxy http-request set-var"]),
    Key::new(Table::Options, "log_access", Kind::Form("true, false, or conditions such as \"$status != 200\""), Means("that of the level above, else true"))
        .help("write requests to the access log, all or those for which the conditions hold (as in `when`, and variables of the answer too); where it goes stands in [log]")
        .known_as(&["nginx access_log", "haproxy http-request set-log-level"]),
    Key::new(Table::Options, "x_accel", Kind::Switch, Means("that of the level above, else true"))
        .help("obey X-Accel-Redirect of upstreams and applications, which reaches `internal` routes too")
        .known_as(&["nginx proxy_ignore_headers"]),
    Key::new(Table::Options, "x_sendfile", Kind::Form("a table of folders such as { \"/srv/private/\" = \"/protected/\" }"), Means("that of the level above, else the field goes on to the client"))
        .help("obey X-Sendfile of upstreams and applications, unless x_accel is false: a file below one of these folders is sent from the path of this site that stands for it; any other is 502")
        .known_as(&["apache XSendFile", "lighttpd x-sendfile"])
        .when("for applications that know the field but not X-Accel-Redirect; make the route of the path `internal`"),
    Key::new(Table::Options, "limits", Kind::List(&Kind::Text), Means("those of the level above, else none"))
        .help("names of the [limit.NAME] that requests must keep; [] lifts those of the levels above")
        .known_as(&["nginx limit_req", "nginx limit_conn"]),
    Key::new(Table::Options, "location_rewrite", Kind::Form("true, false, or a table such as { \"http://10.0.0.7:9000/app/\" = \"/\" }"), Means("that of the level above, else false"))
        .help("put URLs in Location and Refresh of upstreams into the client's words: `true` takes the upstream's own address away (and leads back what `rewrite = \"/other/$1\"` of a `path` has changed); a table also replaces the beginnings it names, whose values may hold variables")
        .known_as(&["nginx proxy_redirect"])
        .when("where servers name themselves in their redirects; those that heed Host and X-Forwarded-Proto need none of it. nginx does it by default"),
    Key::new(Table::Options, "cookie_rewrite", Kind::Form("a table such as { paths = { \"/app/\" = \"/\" }, flags = { \"*\" = [\"secure\"] } }, or false"), Means("that of the level above, else false"))
        .help("put domains, paths and flags of cookies of upstreams into the client's words")
        .known_as(&["nginx proxy_cookie_domain", "nginx proxy_cookie_path", "nginx proxy_cookie_flags", "haproxy http-response replace-header"])
        .when("where a server does not know under which name and path clients reach it, or that they come by https"),
    Key::new(Table::Options, "compress", COMPRESS, Means("that of the level above, else false"))
        .help("compress answers for clients that take it, files and proxied ones alike")
        .known_as(&["nginx gzip", "nginx gzip_vary", "nginx gzip_proxied", "nginx brotli", "haproxy compression", "caddy encode"])
        .when("true for most sites, false where answers hold secrets beside what visitors sent. Off by default, as with nginx: it takes processor time, and where an answer holds both a secret and what a visitor sent, its compressed length can give the secret away (BREACH)"),
    Key::new(Table::Options, "substitute", Kind::Form("a table such as { texts = { \"http://internal\" = \"https://$host\" } }, or false"), Means("that of the level above, else false"))
        .help("replace texts in the bodies of answers")
        .known_as(&["nginx sub_filter", "nginx subs_filter"])
        .when("where a server writes addresses that no client reaches, or to put something before `</head>`; it costs time for every byte, so name it at the routes that need it"),
    Key::new(Table::Options, "limit_rate", size(0, TIB), Means("that of the level above, else 0"))
        .help("bytes a second of the content of one answer; 0: any rate. A server or application may say another in X-Accel-Limit-Rate, unless x_accel is false")
        .known_as(&["nginx limit_rate", "haproxy bwlim-out"])
        .when("so that downloads leave room for others: each answer has the rate for itself, so limit their number too. nginx lets the first second's worth go at once, this a tenth of it: add limit_rate_after for more"),
    Key::new(Table::Options, "limit_rate_after", size(0, TIB), Means("that of the level above, else 0"))
        .help("bytes of an answer that leave at any rate before limit_rate counts")
        .known_as(&["nginx limit_rate_after"])
        .when("for media: enough to begin with comes fast, the rest as fast as it plays"),
    // headers, request_headers
    Key::new(Table::Headers, "set", Kind::Form("field names with values, { X-Name = \"value\" }"), Means("nothing is set"))
        .help("fields put in place of those of the same name; a value that turns out empty takes the field away"),
    Key::new(Table::Headers, "add", Kind::Form("field names with a value or a list of values, { Link = [\"<a>\", \"<b>\"] }"), Means("nothing is added"))
        .help("fields written beside those of the same name; an empty value adds none"),
    Key::new(Table::Headers, "remove", Kind::List(&Kind::Text), Default(""))
        .help("names of fields taken away"),
    Key::new(Table::Headers, "always", Kind::Switch, Default("true"))
        .help("for answers of every status; false: only for 200, 201, 204, 206, 301, 302, 303, 304, 307 and 308, as nginx's add_header does without its `always`"),
    // error_pages
    Key::new(Table::ErrorPage, "path", Kind::UrlPathOrName, Required)
        .help("path of the page, asked for with GET, which may hold variables such as $status; or the `@name` of a route, which gets the request as it is"),
    Key::new(Table::ErrorPage, "status", Kind::Form("a number from 200 to 599, \"error\", or \"page\""), Means("\"error\""))
        .help("status the client gets: that of the error, that with which the page is answered (nginx's `=`), or a fixed one"),
    // compress
    Key::new(Table::Compress, "codings", Kind::List(&Kind::Word(&["br", "zstd", "gzip"])), Default("br,zstd,gzip"))
        .help("what is offered, in order of preference; a client that weighs them decides first")
        .known_as(&["haproxy compression algo"])
        .when("zstd first to spend a quarter of the processor time on answers a few percent larger"),
    Key::new(Table::Compress, "types", Kind::List(&Kind::Text), Default(DEFAULT_TYPES))
        .help("media types that are compressed: \"text/html\", \"text/*\" (all of a kind)")
        .known_as(&["nginx gzip_types", "nginx brotli_types", "haproxy compression type"])
        .when("to add types of your own. nginx compresses only text/html by default. Each open text/event-stream would keep an encoder of up to 5 MiB"),
    Key::new(Table::Compress, "min", size(0, GIB), Default("1KiB"))
        .help("bytes of the smallest body that is compressed; one of unknown length always is")
        .known_as(&["nginx gzip_min_length", "nginx brotli_min_length", "haproxy compression minsize-res"])
        .when("seldom: a shorter body leaves in one packet either way, so that nothing is won. nginx's 20 bytes makes many of them longer"),
    Key::new(Table::Compress, "br_level", integer(1, 6), Default("4"))
        .help("how hard br tries")
        .known_as(&["nginx brotli_comp_level"])
        .when("up where the network is slower than the processor. Above 6 one piece would hold up a worker and take 8 MiB or more: compress such files beforehand"),
    Key::new(Table::Compress, "zstd_level", integer(1, 9), Default("3"))
        .help("how hard zstd tries")
        .known_as(&["nginx zstd_comp_level"])
        .when("up where the network is slower than the processor"),
    Key::new(Table::Compress, "gzip_level", integer(1, 9), Default("5"))
        .help("how hard gzip tries")
        .known_as(&["nginx gzip_comp_level", "haproxy tune.comp.maxlevel"])
        .when("down to 1 to save processor time. nginx's default is 1"),
    Key::new(Table::Compress, "cache_file_max", size(0, 64 * MIB), Default("1MiB"))
        .help("largest file whose compressed form is kept, within process.file_cache; larger ones are compressed for each answer")
        .when("up for large files of text that are asked for often"),
    // substitute
    Key::new(Table::Substitute, "texts", Kind::Form("texts with what is put in their place, { \"http://internal\" = \"https://$host\" }"), Required)
        .help("up to 64 texts of up to 1 KiB; what is put in their place may hold variables, whose values do not become markup in HTML and XML, or code in JSON and JavaScript. `$$` is a dollar")
        .known_as(&["nginx sub_filter"]),
    Key::new(Table::Substitute, "types", Kind::List(&Kind::Text), Default("text/html"))
        .help("media types of the answers: \"text/html\", \"text/*\" (all of a kind), \"*\" (all, and those that tell none)")
        .known_as(&["nginx sub_filter_types"])
        .when("to add others; text/html must be named again then, which nginx adds by itself"),
    Key::new(Table::Substitute, "once", Kind::Switch, Default("true"))
        .help("replace each text only where it is found first")
        .known_as(&["nginx sub_filter_once"])
        .when("false for addresses, which stand in a page again and again"),
    Key::new(Table::Substitute, "keep_validators", Kind::Switch, Default("false"))
        .help("leave Last-Modified as it is and make ETag a weak one, so that clients ask whether the answer has changed; else both are taken away, and files answer 200 to such questions")
        .known_as(&["nginx sub_filter_last_modified"])
        .when("true where the same is put in for everyone, and seldom changes: a client keeps what it has as long as the file or the server's answer stays what it was"),
    // cookie_rewrite
    Key::new(Table::Cookies, "domains", Kind::Form("domains with what is put in their place, { \"app.internal\" = \"$host\" }"), Means("they stay"))
        .help("whole domains, in either case, with or without a dot in front; \"\" takes the attribute away, so that the cookie belongs to the host alone. Values may hold variables")
        .known_as(&["nginx proxy_cookie_domain"]),
    Key::new(Table::Cookies, "paths", Kind::Form("beginnings of paths with what is put in their place, { \"/app/\" = \"/\" }"), Means("they stay"))
        .help("beginnings of paths; values may hold variables")
        .known_as(&["nginx proxy_cookie_path"]),
    Key::new(Table::Cookies, "flags", Kind::Form("names of cookies with their flags, { sid = [\"secure\", \"httponly\", \"samesite=lax\"] }"), Means("they stay"))
        .help("by name of the cookie, in either case, or \"*\" for any: `secure`, `httponly`, `samesite=strict`, `samesite=lax`, `samesite=none`, and `nosecure`, `nohttponly`, `nosamesite` to take them away")
        .known_as(&["nginx proxy_cookie_flags"])
        .when("to [\"secure\", \"httponly\", \"samesite=lax\"] for sessions of applications that know nothing of https"),
    // auth
    Key::new(Table::Auth, "realm", Kind::Field, Required)
        .help("what the login is for; browsers show it")
        .known_as(&["nginx auth_basic"]),
    Key::new(Table::Auth, "users_file", Kind::Path, Required)
        .help("users and their passwords as `htpasswd -B` writes them: bcrypt, SHA-crypt ($5$, $6$), apr1 or {SHA}")
        .known_as(&["nginx auth_basic_user_file"]),
];
