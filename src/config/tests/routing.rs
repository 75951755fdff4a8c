//! Routes, actions, and the options that `[http]`, sites and routes have in common.

use std::sync::Arc;

use super::*;
use crate::config::model::{Action, ErrorPage, Options, PageSource, PageStatus, PathMatch, Route};
use crate::http::caching::Lifetime;
use crate::http::fields::Change;
use crate::util::template::{Encoding, Variable};

/// The only route of a site with these lines.
fn compiled(lines: &str) -> Route {
    let config = config(&format!("{}{BASE}", route(lines)));
    config.sites[0].routes[0].clone()
}

/// The options of the only route: `http` in `[http]`, `site` and `lines` in their tables.
fn options_of(http: &str, site: &str, lines: &str) -> Arc<Options> {
    let text = format!(
        "[http]\n{http}\n[site.s]\nlisteners = [\"base\"]\n{site}\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}\n{lines}\n{BASE}"
    );
    config(&text).sites[0].routes[0].options.clone()
}

/// A mistake in the route's line 6, below its path and a plain action.
#[track_caller]
fn check_line(line: &str, expect: &[&str]) {
    check_route(&format!("path = \"/\"\nrespond = {{}}\n{line}"), expect);
}

#[test]
fn paths_methods_and_their_switches() {
    let route = compiled(
        "regex = '^/(?<year>\\d+)/(.*)$'\nmethods = [\"GET\", \"PURGE\"]\ninternal = true\nredirect = \"/$year/$2\"",
    );
    let PathMatch::Regex(pattern) = &route.path else { panic!("{route:?}") };
    assert_eq!(pattern.as_str(), "^/(?<year>\\d+)/(.*)$");
    assert_eq!(route.methods, ["GET", "PURGE"]);
    assert!(route.internal && !route.over_regex && route.uses_captures());
    let Action::Redirect(redirect) = &route.action else { panic!("{route:?}") };
    assert_eq!(redirect.to.variables().cloned().collect::<Vec<_>>(), [Variable::Capture(1), Variable::Capture(2)]);
    assert!(compiled("path = \"/\"\nover_regex = true\nclose = true").over_regex);
    assert!(matches!(compiled("path = \"/\"\nclose = true").action, Action::Close));
    assert!(matches!(compiled("path = \"/\"\nclose = false\nrewrite = \"/x\"").action, Action::Rewrite(_)));
    let beside = compiled("path = \"/a/\"\nrewrite = \"/b/$1\"\nfiles = \"/x\"");
    assert!(beside.rewrite.is_some() && matches!(beside.action, Action::Files(_)) && beside.uses_captures());
}

#[test]
fn what_routes_cannot_be() {
    check_route("regex = \"(\"\nrespond = {}", &["4:9 bad value for `regex` in [[site.s.route]] | unclosed group"]);
    check_route(
        "path = \"/\"\nregex = \"x\"\nrespond = {}",
        &["5:1 both `path` and `regex` in [[site.s.route]] | keep one of them"],
    );
    check_route(
        "exact = \"/\"\nrespond = {}\nover_regex = true",
        &[
            "6:14 bad value for `over_regex` in [[site.s.route]] | only a `path` may stand over expressions: exact routes do so anyway, expressions go by their order",
        ],
    );
    let method = |text: &str, place: &str, label: &str| {
        check_line(&format!("methods = {text}"), &[&format!("6:{place} {label}")]);
    };
    method("\"get\"", "11", "bad method in [[site.s.route]] | methods are written in capitals: \"GET\"");
    method("[\"GET\", \"GET\"]", "19", "bad method in [[site.s.route]] | it is named twice: take it away");
    method("[\"A B\"]", "12", "bad method in [[site.s.route]] | `A B` is not a method: write one such as \"GET\"");
    method("\"TRACE\"", "11", "bad method in [[site.s.route]] | TRACE is refused before routes are looked at");
    method(
        "[]",
        "11",
        "bad value for `methods` in [[site.s.route]] | it is empty: name a method, or take the key away for all of them",
    );
    check_route(
        "path = \"/\"\nrewrite = \"/x\"\nrespond = {}",
        &["6:1 a [[site.s.route]] has two actions | keep either `rewrite` or `respond`"],
    );
    check_line("close = true", &["6:1 a [[site.s.route]] has two actions | keep either `respond` or `close`"]);
}

#[test]
fn routes_of_one_path_share_no_method() {
    let two = |first: &str, second: &str| {
        format!("exact = \"/\"\nrespond = {{}}\n{first}\n[[site.s.route]]\nexact = \"/\"\nrespond = {{}}\n{second}")
    };
    check_route(&two("methods = \"GET\"", "methods = [\"POST\", \"HEAD\"]"), &[]);
    check_route(&two("methods = \"GET\"", ""), &[]);
    check_route(
        &two("methods = [\"PUT\", \"GET\"]", "methods = [\"GET\"]"),
        &["8:9 [site.s] has two routes with exact = \"/\" and GET | give each of them `methods` or `when` of its own"],
    );
    check_route(
        &two("", "methods = \"GET\""),
        &["8:9 [site.s] has two routes with exact = \"/\" | this one would never be reached"],
    );
    let twice = "regex = \"a\"\nrespond = {}\n[[site.s.route]]\nregex = \"a\"\nrespond = {}";
    check_route(twice, &["7:9 [site.s] has two routes with regex = \"a\" | this one would never be reached"]);
}

#[test]
fn hosts_of_every_kind() {
    let text = "[site.s]\nhosts = ['*.Example.org', 'WWW.example.*', '~^www\\d+\\.']\n[[site.s.route]]\npath = \"/\"\nrespond = {}";
    let hosts = config(&format!("{text}{BASE}")).sites[0].hosts.clone();
    assert_eq!(hosts[0], HostPattern::Suffix(".example.org".into()));
    assert_eq!(hosts[1], HostPattern::Prefix("www.example.".into()));
    assert!(matches!(&hosts[2], HostPattern::Regex(pattern) if pattern.is_match(b"WWW7.test")));
    let host = |text: &str, label: &str| {
        let site = format!("[site.s]\nhosts = [\"{text}\"]\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}");
        check(&site, &[&format!("2:10 bad host in [site.s] | {label}")]);
    };
    host("_", "a name that nobody asks for is not needed here: write \"*\" for any host, or `default = true`");
    host(".example.org", "write both, the name and all below it: \"example.org\", \"*.example.org\"");
    host("~(", "unclosed group");
    host("*.example.*", "`*` stands alone, at the beginning, or at the end: \"*.example.org\", \"www.example.*\"");
    host(".*", "write both, the name and all below it: \"*\", \"*.*\"");
}

#[test]
fn texts_tell_their_mistakes_at_the_place() {
    check_route(
        "path = \"/\"\nredirect = \"https://$hots$pth\"",
        &[
            "5:21 bad value for `redirect` in [[site.s.route]] | `$hots` is not known: did you mean `$host`?",
            "5:26 bad value for `redirect` in [[site.s.route]] | `$pth` is not known: did you mean `$path`?",
        ],
    );
    // With escapes in it the text is not what stands in the file.
    check_route(
        "path = \"/\"\nrespond = { body = \"a\\n$hots\" }",
        &["5:20 bad value for `body` in respond of [[site.s.route]] | `$hots` is not known: did you mean `$host`?"],
    );
    check_route(
        "regex = \"(?<year>.)\"\nredirect = \"/$yaer$2\"",
        &[
            "5:14 bad value for `redirect` in [[site.s.route]] | `$yaer` is not known: did you mean `$year`?",
            "5:19 bad value for `redirect` in [[site.s.route]] | `$2` does not exist: there is only `$1`",
        ],
    );
    check_route(
        "exact = \"/\"\nredirect = \"/$1\"",
        &[
            "5:14 bad value for `redirect` in [[site.s.route]] | there is no capture here that `$1` could be; `$$` is a dollar",
        ],
    );
    check_route(
        "path = \"/\"\nredirect = \"/$status\"",
        &["5:14 bad value for `redirect` in [[site.s.route]] | `$status` is not known before the request is answered"],
    );
}

#[test]
fn redirects_may_be_relative() {
    for to in ["/x", "../x", "./x?y", "?page=1", "$path", "https://$host$request_uri", "$scheme://$host/", "//x.org/"] {
        check_route(&format!("path = \"/\"\nredirect = \"{to}\""), &[]);
    }
    let title = ["the client chooses where a redirect of [[site.s.route]] leads"];
    for to in ["$arg_next", "https://$arg_site/", "https://example.org$1", "${cookie_a}"] {
        assert_eq!(warnings(&route(&format!("path = \"/\"\nredirect = \"{to}\""))), title, "{to}");
    }
    for to in ["https://example.org/$1", "https://$http_host$path", "/$arg_a", "https://example.org?$query"] {
        assert!(warnings(&route(&format!("path = \"/\"\nredirect = \"{to}\""))).is_empty(), "{to}");
    }
}

#[test]
fn rewrites_stay_within_the_site() {
    let rewrite = |to: &str, label: &str| {
        let expect = format!("5:11 bad value for `rewrite` in [[site.s.route]] | {label}");
        check_route(&format!("path = \"/\"\nrewrite = \"{to}\""), &[&expect]);
    };
    rewrite("x", "a path begins with `/`, for example \"/new/$1\"");
    rewrite("", "a path begins with `/`, for example \"/new/$1\"");
    rewrite("$arg_x", "a path begins with `/`, for example \"/new/$1\"");
    rewrite("https://x.org/", "a rewrite stays within the site: use `redirect` to send the client elsewhere");
    rewrite("/a b", "a target has no spaces: write %20");
    rewrite(
        "/x$request_uri",
        "`$request_uri` is encoded and has the query in it: write `$path`, the query stays by itself",
    );
    check_route("path = \"/\"\nrewrite = \"/$1?a=$arg_b\"", &[]);
    check_route("regex = \"^/x(/.*)\"\nrewrite = \"$1\"", &[]);
}

#[test]
fn answers_escape_by_their_type() {
    for (content_type, encoding) in [
        ("text/plain", Encoding::Text),
        ("text/HTML; charset=utf-8", Encoding::Html),
        ("image/svg+xml", Encoding::Html),
        ("application/problem+json", Encoding::Json),
        ("text/javascript", Encoding::Json),
    ] {
        let lines = format!("path = \"/\"\nrespond = {{ body = \"$path\", content_type = \"{content_type}\" }}");
        let Action::Respond(respond) = compiled(&lines).action else { panic!() };
        assert_eq!(respond.encoding, encoding, "{content_type}");
    }
    check_route(
        "path = \"/\"\nrespond = { status = 444 }",
        &[
            "5:22 bad value for `status` in respond of [[site.s.route]] | nginx closes the connection with it: write `close = true` instead of `respond`",
        ],
    );
}

#[test]
fn a_key_of_a_lower_level_replaces_the_one_above() {
    let http = "cache_control = \"http\"\nhsts = \"1d\"\nhsts_subdomains = true\nlog_access = false\nbody_max = 5\nerror_pages = { 404 = \"/http\" }";
    let options = options_of(http, "", "");
    assert_eq!(options.cache_control.as_deref(), Some("http"));
    assert_eq!(options.hsts.field(), Some("max-age=86400; includeSubDomains"));
    assert!(!options.log_access && options.x_accel);
    assert_eq!(options.body_bytes_max, 5);
    let options =
        options_of(http, "cache_control = \"site\"\nhsts = \"2d\"\nbody_max = 6", "body_max = 7\nlog_access = true");
    assert_eq!(options.cache_control.as_deref(), Some("site"));
    assert_eq!(options.hsts.field(), Some("max-age=172800; includeSubDomains"), "each key by itself");
    assert!(options.log_access);
    assert_eq!(options.body_bytes_max, 7);
    let options = options_of(http, "error_pages = { 500 = \"/site\" }", "hsts = \"off\"\ncache_control = \"\"");
    assert!(options.error_pages.page(404).is_none() && options.error_pages.page(500).is_some(), "replaced whole");
    assert_eq!((options.hsts.field(), &options.cache_control), (None, &None));
    let two = config(&format!("{}{BASE}", route("path = \"/\"\nrespond = {}")));
    assert!(Arc::ptr_eq(&two.sites[0].options, &two.sites[0].routes[0].options), "nothing of its own, nothing copied");
}

#[test]
fn fields_are_merged_by_name() {
    let options = options_of(
        "headers = { set = { X-A = \"http\", X-B = \"http\" }, remove = [\"X-C\"] }\nrequest_headers = { set = { Host = \"$host\" } }",
        "headers = { set = { x-a = \"site\" }, always = false }",
        "headers = { add = { Link = [\"<$1>\", \"b\"], X-C = \"$status\" } }",
    );
    let shown: Vec<String> = options
        .headers
        .iter()
        .map(|rule| {
            let change = match &rule.change {
                Change::Remove => "remove",
                Change::Set(_) => "set",
                Change::Add(_) => "add",
            };
            format!("{change} {} {}", rule.name, rule.always)
        })
        .collect();
    assert_eq!(shown, ["set X-B true", "set x-a false", "add Link true", "add Link true", "add X-C true"]);
    assert!(options.headers.use_captures() && !options.request_headers.is_empty());
}

#[test]
fn what_rules_must_not_do() {
    let field = |line: &str, place: &str, name: &str, of: &str, label: &str| {
        check_line(line, &[&format!("6:{place} bad field `{name}` in {of} of [[site.s.route]] | {label}")]);
    };
    field(
        "headers = { set = { Content-Length = \"5\" } }",
        "21",
        "Content-Length",
        "headers",
        "the length of a body is told by the server itself",
    );
    field(
        "headers = { remove = [\"Connection\"] }",
        "23",
        "Connection",
        "headers",
        "`Connection` is about one connection, and the server handles its connections itself",
    );
    field(
        "headers = { set = { \"A B\" = \"x\" } }",
        "21",
        "A B",
        "headers",
        "`A B` is no field name: letters, digits and `-`, for example \"X-Frame-Options\"",
    );
    field(
        "headers = { set = { A = \"x\\r\\nB: c\" } }",
        "25",
        "A",
        "headers",
        "'\\r' cannot stand in a header field: write visible ASCII characters",
    );
    field("headers = { set = { A = 5 } }", "25", "A", "headers", "write a text");
    field(
        "request_headers = { remove = [\"Host\"] }",
        "31",
        "Host",
        "request_headers",
        "a request has exactly one Host: use `set`",
    );
    field(
        "headers = { set = { Strict-Transport-Security = \"x\" } }",
        "21",
        "Strict-Transport-Security",
        "headers",
        "write `hsts = \"730d\"`: it is sent over TLS alone, as RFC 6797 section 7.2 demands",
    );
    check_line(
        "headers = { set = { A = \"$hots\" }, remove = [\"a\"], ad = 1 }",
        &[
            "6:21 `A` stands twice in headers of [[site.s.route]] | keep one: `set` takes the old field away by itself",
            "6:26 bad value for `A` in headers of [[site.s.route]] | `$hots` is not known: did you mean `$host`?",
            "6:52 unknown key `ad` in headers of [[site.s.route]] | did you mean `add`? it takes field names with a value or a list of values, { Link = [\"<a>\", \"<b>\"] }",
        ],
    );
    check_line(
        "request_headers = { set = { A = \"$status\" }, always = true }",
        &[
            "6:34 bad value for `A` in request_headers of [[site.s.route]] | `$status` is not known before the request is answered",
            "6:46 `always` in request_headers of [[site.s.route]] does nothing | take it away: a request has no status",
        ],
    );
    check_line(
        "headers = 5",
        &[
            "6:11 headers of [[site.s.route]] is not a table | it is a whole number, but must be a table: headers of [[site.s.route]]",
        ],
    );
    check_line(
        "headers = { set = 5 }",
        &[
            "6:19 bad value for `set` in headers of [[site.s.route]] | it is a whole number: write field names with their values, { X-Name = \"value\" }",
        ],
    );
}

#[test]
fn lifetimes_by_media_type() {
    let hour = Lifetime::For(Duration::from_secs(3600));
    let expires = |line: &str| options_of("", "", line).expires.clone();
    let table = expires("expires = { \"text/css\" = \"1h\", \"Image/*\" = \"no-cache\", \"*/*\" = \"off\" }");
    assert_eq!(table.lifetime(Some(b"text/css; charset=utf-8")), hour);
    assert_eq!(table.lifetime(Some(b"image/png")), Lifetime::Ask);
    assert_eq!(table.lifetime(None), Lifetime::Unsaid);
    assert_eq!(expires("expires = \"1h\"").lifetime(None), hour);
    let bad = |line: &str, place: &str, label: &str| {
        check_line(line, &[&format!("6:{place} bad value for `expires` in [[site.s.route]] | {label}")]);
    };
    bad("expires = \"epoch\"", "11", "write \"no-cache\"");
    bad("expires = \"max\"", "11", "write \"3650d\"");
    bad("expires = \"4000d\"", "11", "4000d is too large: the most is 3650d");
    bad(
        "expires = { css = \"1h\" }",
        "13",
        "`css` is no media type: write one such as \"text/css\", \"image/*\" or \"*\"",
    );
    bad("expires = { \"text/css\" = 5 }", "26", "it is a whole number: write a text");
    bad("expires = 5", "11", "it is a whole number: write a duration, or one for each media type");
}

/// Where an error page comes from.
fn shown(from: &PageSource) -> String {
    match from {
        PageSource::Path(path) => path.start().to_owned(),
        PageSource::Route(route) => format!("route {route}"),
    }
}

#[test]
fn names_lead_to_routes_of_the_site() {
    let text = r#"
[site.s]
listeners = ["base"]
error_pages = { 404 = "@two" }
route = [
  { path = "/", files = { root = "/x", try = ["$path", "@one"] } },
  { path = "/f/", files = { root = "/x", fallback = "@two" } },
  { name = "one", respond = {} },
  { name = "two", respond = {}, error_pages = { 5xx = { path = "@one", status = "page" } } },
]
"#;
    let config = config(&format!("{text}{BASE}"));
    let routes = &config.sites[0].routes;
    let last_resort = |at: usize| match &routes[at].action {
        Action::Files(files) => (files.candidates.len(), files.fallback.clone(), files.last_resort),
        action => panic!("{action:?}"),
    };
    assert_eq!((last_resort(0), last_resort(1)), ((1, None, Some(2)), (0, None, Some(3))));
    assert_eq!(routes[2].path, PathMatch::Named("one".into()));
    let page = |at: usize, status| routes[at].options.error_pages.page(status).map(|page| shown(&page.from));
    assert_eq!((page(0, 404), page(3, 500)), (Some("route 3".into()), Some("route 2".into())));
    assert_eq!(page(3, 404), None, "a route's error pages replace those of the site");
}

#[test]
fn mistakes_with_names_are_told_with_advice() {
    let named = |lines: &str, expect: &[&str]| {
        let text = "[site.s]\nlisteners = [\"base\"]\nroute = [\n  { name = \"app\", respond = {} },\n";
        check(&format!("{text}  {{ path = \"/\", {lines} }},\n]\n"), expect);
    };
    named(
        "files = { root = \"/x\", fallback = \"@ap\" }",
        &["5:51 bad value for `fallback` in files of [[site.s.route]] | no route is called so: did you mean \"@app\"?"],
    );
    named(
        "files = { root = \"/x\", try = [\"$path\", \"@other\"] }",
        &["5:56 bad try in files of [[site.s.route]] | no route is called so; there are: \"@app\""],
    );
    named(
        "files = { root = \"/x\", try = [\"@app\", \"$path\"] }",
        &["5:47 bad try in files of [[site.s.route]] | a route is the end: put it last"],
    );
    named(
        "files = { root = \"/x\", try = [\"@app\"] }",
        &["5:47 bad try in files of [[site.s.route]] | name a path in front of it, such as \"$path\""],
    );
    named(
        "files = { root = \"/x\", try = [\"$path\", \"@app\"], fallback = \"/y\" }",
        &[
            "5:76 bad value for `fallback` in files of [[site.s.route]] | `try` ends with a route already: keep one of the two",
        ],
    );
    check_line(
        "error_pages.404 = \"@x\"",
        &["6:19 bad error page for 404 in [[site.s.route]] | no route has a name yet: add one with `name = \"x\"`"],
    );
    let site = |routes: &str, expect: &[&str]| {
        let page = "error_pages.404 = \"@a\"";
        check(&format!("[site.s]\nlisteners = [\"base\"]\n{page}\nroute = [\n{routes}\n]\n"), expect);
    };
    site(
        "{ name = \"a\", respond = {} },\n{ name = \"a\", respond = {} }",
        &["6:10 [site.s] has two routes with name = \"a\" | this one would never be reached"],
    );
    site(
        "{ name = \"a\", respond = {} },\n{ name = \"@b\", respond = {} }",
        &[
            "6:10 bad value for `name` in [[site.s.route]] | write it without the `@`, which stands where it is used: \"b\"",
        ],
    );
    site(
        "{ name = \"a\", respond = {} },\n{ name = \"b\", path = \"/\", respond = {} }",
        &["6:3 both `path` and `name` in [[site.s.route]] | keep one of them"],
    );
    check(
        "[http]\nerror_pages.404 = \"@x\"\n",
        &["2:19 bad error page for 404 in [http] | a name belongs to one site: write this there"],
    );
    let (_, _, warnings) = outside(
        "[site.s]\nlisteners = [\"base\"]\nroute = [{ path = \"/\", respond = {} }, { name = \"a\", respond = {} }]\n",
    );
    assert!(
        warnings.iter().any(|warning| warning.contains("the route `a` of [site.s] is never reached")),
        "{warnings:?}"
    );
}

#[test]
fn locations_are_rewritten_where_it_is_asked_for() {
    let rules = |site: &str, lines: &str| {
        let text = format!(
            "[site.s]\nlisteners = [\"base\"]\n{site}\n[[site.s.route]]\npath = \"/one/\"\nproxy = \"u\"\n{lines}\n\
             [upstream.u]\nservers = \"1.1.1.1:1\"\n{BASE}"
        );
        config(&text).sites[0].routes[0].options.location_rewrite.clone()
    };
    let on = "location_rewrite = true";
    assert_eq!(rules("", ""), None);
    assert_eq!(rules(on, "location_rewrite = false"), None);
    let plain = rules("", on).expect("rules");
    assert_eq!(rules(on, ""), Some(plain.clone()));
    let mapped = plain.clone().with_paths("/two/", "/one/");
    assert_eq!(rules(on, "rewrite = \"/two/$1\""), Some(mapped.clone()));
    assert_eq!(rules(on, "rewrite = { to = \"/two/$1\" }"), Some(mapped));
    assert_eq!(rules(on, "rewrite = \"/two/$1?a=b\""), Some(plain));
    let bad = |value: &str, expect: &str| check_line(&format!("location_rewrite = {value}"), &[expect]);
    bad(
        "\"default\"",
        "6:20 bad value for `location_rewrite` in [[site.s.route]] | it is a text, but the key takes true, false, or a table such as { \"http://10.0.0.7:9000/app/\" = \"/\" }",
    );
    bad(
        "{ \"~^/x\" = \"/\" }",
        "6:22 bad beginning `~^/x` in location_rewrite of [[site.s.route]] | expressions are not here: write the beginning of the URL",
    );
    bad(
        "{ \"x\" = \"/\" }",
        "6:22 bad beginning `x` in location_rewrite of [[site.s.route]] | write the beginning of a URL, such as \"http://10.0.0.7:9000/app/\" or \"/app/\"",
    );
    bad(
        "{ \"/x/\" = \"\" }",
        "6:30 bad value for `/x/` in location_rewrite of [[site.s.route]] | write the beginning of a URL, such as \"/\"",
    );
}

#[test]
fn error_pages_by_status() {
    let options = options_of(
        "",
        "",
        "error_pages = { 404 = \"/404\", 5xx = { path = \"/$status\", status = 200 }, 500-504 = { path = \"/up\", status = \"page\" } }",
    );
    let page = |status| options.error_pages.page(status).map(|ErrorPage { from, status }| (shown(from), *status));
    assert_eq!(page(404), Some(("/404".into(), PageStatus::Error)));
    assert_eq!(page(502), Some(("/up".into(), PageStatus::Page)), "the narrowest");
    assert_eq!(page(505), Some(("/".into(), PageStatus::Fixed(200))));
    assert_eq!(page(403), None);
    let bad = |pages: &str, place: &str, title: &str, label: &str| {
        check_line(&format!("error_pages = {pages}"), &[&format!("6:{place} {title} | {label}")]);
    };
    let status = "bad status in error_pages of [[site.s.route]]";
    bad("{ 40 = \"/x\" }", "17", status, "error pages are for statuses from 300 to 599");
    bad("{ 2xx = \"/x\" }", "17", status, "`2xx` is no status: write one such as 404, 5xx, or 500-504");
    bad("{ 504-500 = \"/x\" }", "17", status, "the range 504-500 runs backwards");
    bad("{ all = \"/x\" }", "17", status, "`all` is no status: write one such as 404, 5xx, or 500-504");
    let page = "bad error page for 404 in [[site.s.route]]";
    bad("{ 404 = \"x\" }", "23", page, "a path begins with `/`, for example \"/404.html\"");
    bad(
        "{ 404 = \"https://x.org\" }",
        "23",
        page,
        "an error page is a path of the same site; a route for it may redirect",
    );
    bad(
        "{ 404 = 5 }",
        "23",
        page,
        "it is a whole number: write a path, or a table such as { path = \"/x\", status = 200 }",
    );
    bad(
        "{ 404 = { path = \"/x\", status = 100 } }",
        "47",
        "bad value for `status` in error page 404 of [[site.s.route]]",
        "write a number from 200 to 599, \"error\", or \"page\"",
    );
    bad(
        "{ 404 = { status = 200 } }",
        "23",
        "missing key `path` in error page 404 of [[site.s.route]]",
        "add `path`: a path that begins with `/`, for example \"/index.html\", or the `@name` of a route",
    );
}

#[test]
fn https_and_its_policy() {
    let site = |line: &str| {
        config(&format!(
            "[site.s]\nhosts = \"s.invalid\"\n{line}\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}\n{BASE}"
        ))
        .sites[0]
            .clone()
    };
    assert_eq!(site("").https_port, None);
    assert_eq!(site("https_only = true").https_port, Some(443));
    assert_eq!(site("https_only = true\nhttps_port = 8443").https_port, Some(8443));
    assert_eq!(
        site("hsts = \"730d\"\nhsts_subdomains = true\nhsts_preload = true").options.hsts.field(),
        Some("max-age=63072000; includeSubDomains; preload")
    );
    assert_eq!(site("hsts = \"0s\"").options.hsts.field(), Some("max-age=0"));
    let warned = |line: &str| {
        warnings(&format!("[site.s]\nhosts = \"s.invalid\"\n{line}\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}"))
    };
    assert_eq!(warned("https_port = 8443"), ["`https_port` of [site.s] does nothing"]);
    assert_eq!(warned("hsts = \"1d\"\nhsts_preload = true"), ["preload lists will not take the site of [site.s]"]);
}

#[test]
fn shared_keys_are_known_where_they_belong() {
    check(
        "[http]\nhedaers = {}",
        &[
            "2:1 unknown key `hedaers` in [http] | did you mean `headers`? it takes a table such as { set = { X-Frame-Options = \"DENY\" }, remove = [\"X-Powered-By\"] }",
        ],
    );
    check(
        "[log]\nhsts = \"1d\"",
        &["2:1 unknown key `hsts` in [log] | `hsts` belongs in any of [http], [site.NAME] and [[site.NAME.route]]"],
    );
}
