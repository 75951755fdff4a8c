//! The precedence table, and a comparison with a reader's way of looking: through all hosts, then all routes.

use proptest::prelude::*;

use super::*;
use crate::config::model::*;
use crate::util::pattern::Pattern;
use crate::util::template::{Encoding, Scope, Template};
use crate::variables::Condition;

fn options() -> Arc<Options> {
    Arc::new(Options::new(0))
}

fn site(name: &str, hosts: &[&str], default: bool, routes: &[&str]) -> Site {
    Site {
        name: name.into(),
        hosts: hosts.iter().map(|host| pattern(host)).collect(),
        default,
        https_port: None,
        options: options(),
        routes: routes.iter().enumerate().map(|(index, path)| route(path, index)).collect(),
    }
}

/// `*` any, `*.x` suffix, `x.*` prefix, `~x` expression, else exact.
fn pattern(host: &str) -> HostPattern {
    if let Some(expression) = host.strip_prefix('~') {
        return HostPattern::Regex(Pattern::new_caseless(expression).unwrap());
    }
    match (host.strip_prefix('*'), host.strip_suffix('*')) {
        (Some(""), _) => HostPattern::Any,
        (Some(suffix), _) => HostPattern::Suffix(suffix.into()),
        (None, Some(prefix)) => HostPattern::Prefix(prefix.into()),
        (None, None) => HostPattern::Exact(host.into()),
    }
}

/// `[METHOD,METHOD:]`, then `@name`, `=path` exact, `^~path` prefix over expressions, `~expression`, else prefix.
fn route(text: &str, index: usize) -> Route {
    let is_named = text.starts_with(|c: char| c.is_ascii_uppercase());
    let (methods, path) = text.split_once(':').filter(|_| is_named).unwrap_or(("", text));
    let over_regex = path.starts_with("^~");
    let path = if let Some(name) = path.strip_prefix('@') {
        PathMatch::Named(name.into())
    } else if let Some(exact) = path.strip_prefix('=') {
        PathMatch::Exact(exact.into())
    } else if let Some(expression) = path.strip_prefix('~') {
        PathMatch::Regex(Pattern::new(expression).unwrap())
    } else {
        PathMatch::Prefix(path.strip_prefix("^~").unwrap_or(path).into())
    };
    let methods = methods.split(',').filter(|method| !method.is_empty()).map(str::to_owned).collect();
    Route { methods, over_regex, ..Route::new(path, Action::Proxy(index), options()) }
}

fn router(sites: &[Site]) -> Router {
    Router::of_sites(sites.iter().enumerate())
}

/// Index of the site for a host.
fn site_of(router: &Router, host: &str) -> Option<usize> {
    router.site(host.as_bytes()).map(SiteRoutes::index)
}

fn no_conditions(_: &[Condition], _: Captures) -> bool {
    panic!("a route without conditions is there")
}

fn found<'a>(router: &'a Router, host: &str, path: &str) -> Option<RouteMatch<'a>> {
    match router.site(host.as_bytes())?.route(b"GET", path.as_bytes(), Origin::Client, no_conditions) {
        Routed::Found(found) => Some(found),
        _ => None,
    }
}

#[test]
fn host_precedence_table() {
    let sites = || {
        vec![
            site("first", &["a.example.org", "b.example.org"], false, &["/"]),
            site("wide", &["*.example.org"], false, &["/"]),
            site("narrow", &["*.x.example.org"], false, &["/"]),
            site("twice", &["a.example.org", "*.example.org", "Upper.Example"], false, &["/"]),
            site("fallback", &["fallback.test"], true, &["/"]),
        ]
    };
    let mut with_any = sites();
    with_any.push(site("any", &["*"], false, &["/"]));
    let mut without_default = sites();
    without_default[4].default = false;
    let rows: &[(&str, usize)] = &[
        ("a.example.org", 0),
        ("A.EXAMPLE.ORG", 0),
        ("a.example.org.", 0),
        ("b.example.org", 0),
        ("c.example.org", 1),
        ("a.b.c.example.org", 1),
        ("x.example.org", 1),
        ("y.x.example.org", 2),
        ("z.y.X.example.org.", 2),
        ("upper.example", 3),
        ("fallback.test", 4),
    ];
    for sites in [sites(), with_any.clone(), without_default.clone()] {
        let router = router(&sites);
        for &(host, site) in rows {
            assert_eq!(site_of(&router, host), Some(site), "{host}");
        }
    }
    let long = "a".repeat(300) + ".example.org";
    for unknown in ["", ".", "example.org", ".example.org", "other.test", "a.example.org..", "::1", long.as_str()] {
        let site_of = |sites: Vec<Site>| site_of(&router(&sites), unknown);
        assert_eq!(site_of(sites()), Some(4), "{unknown:?}: default");
        assert_eq!(site_of(with_any.clone()), Some(5), "{unknown:?}: any comes before default");
        assert_eq!(site_of(without_default.clone()), Some(0), "{unknown:?}: the first");
    }
}

#[test]
fn host_names_of_every_length_match() {
    let exact: Vec<HostPattern> = (1..=255).map(|length| HostPattern::Exact("h".repeat(length))).collect();
    let mut sites = [site("d", &[], true, &[]), site("s", &["*.example.org"], false, &[]), site("e", &[], false, &[])];
    sites[2].hosts = exact;
    let router = router(&sites);
    for length in 1..=255 {
        assert_eq!(site_of(&router, &"H".repeat(length)), Some(2), "{length} bytes");
    }
    assert_eq!(site_of(&router, &"h".repeat(256)), Some(0));
    for length in 13..=255 {
        let host = "a".repeat(length - 12) + ".example.org";
        assert_eq!(site_of(&router, &host), Some(1), "{length} bytes");
        assert_eq!(site_of(&router, &(host + ".")), Some(1), "{length} bytes and a dot");
    }
    assert_eq!(site_of(&router, &("a".repeat(244) + ".example.org")), Some(0), "256 bytes");
}

#[test]
fn path_precedence_table() {
    let router = router(&[site(
        "s",
        &[],
        true,
        &["/", "/api", "/api/", "=/api/", "/api/users", "=/", "=/exact", "/api", "=/api/", "/ä/", "/apple", "/b/c/d"],
    )]);
    let rows = [
        ("/", Some(5)),
        ("/x", Some(0)),
        ("/ap", Some(0)),
        ("/api", Some(1)),
        ("/apis", Some(1)),
        ("/api/", Some(3)),
        ("/api/x", Some(2)),
        ("/api/users", Some(4)),
        ("/api/users/7", Some(4)),
        ("/api/user", Some(2)),
        ("/exact", Some(6)),
        ("/exact/", Some(0)),
        ("/exac", Some(0)),
        ("/ä/x", Some(9)),
        ("/applepie", Some(10)),
        ("/appl", Some(0)),
        ("/b/c/", Some(0)),
        ("/b/c/d", Some(11)),
        ("", None),
        ("*", None),
    ];
    for (path, expect) in rows {
        let found = found(&router, "", path).map(|found| found.route);
        assert_eq!(found, expect, "{path:?}");
    }
}

#[test]
fn a_match_tells_its_action_and_places() {
    let mut sites =
        [site("one", &["one.test"], false, &["/a", "/b"]), site("two", &["two.test"], false, &["=/c", "/d"])];
    sites[1].routes[1].action = Action::Redirect(Arc::new(Redirect { status: 308, to: Template::text("/x") }));
    let router = Router::of_sites([(1, &sites[1])].into_iter()); // the listener's first site is the config's second
    let match_of = found(&router, "one.test", "/d/e").unwrap();
    assert_eq!((match_of.site, match_of.route), (1, 1));
    assert!(matches!(match_of.action, Action::Redirect(to) if to.status == 308));
    assert!(found(&router, "two.test", "/a").is_none(), "another site's routes do not answer");
}

#[test]
fn a_listener_without_sites_matches_nothing() {
    let router = router(&[]);
    assert!(router.site(b"a").is_none());
}

#[test]
fn many_siblings_with_labels_of_every_length() {
    let paths: Vec<String> =
        (b'!'..=b'~').map(|byte| format!("/{}{}", byte as char, "x".repeat(byte as usize % 20))).collect();
    let borrowed: Vec<&str> = paths.iter().map(String::as_str).collect();
    let router = router(&[site("s", &[], true, &borrowed)]);
    for (route, path) in paths.iter().enumerate() {
        let find = |path: &str| found(&router, "", path).map(|found| found.route);
        assert_eq!(find(path), Some(route), "{path}");
        assert_eq!(find(&format!("{path}/more")), Some(route), "{path}");
        if path.ends_with('x') && path.len() > 2 {
            assert_eq!(find(&path[..path.len() - 1]), None, "{path} cut");
            assert_eq!(find(&format!("{}y", &path[..path.len() - 1])), None, "{path} changed");
        }
    }
}

#[test]
fn deeply_nested_routes_need_no_deep_stack() {
    let paths: Vec<String> = (1..=5_000).map(|depth| "/a".repeat(depth)).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let router = router(&[site("s", &[], true, &paths)]);
    assert_eq!(found(&router, "", &"/a".repeat(4_000)).unwrap().route, 3_999);
}

/// nginx's manual, ngx_http_core_module, `location`: its example, and what it says around it.
#[test]
fn paths_are_chosen_as_nginx_chooses_locations() {
    let router = router(&[site(
        "s",
        &[],
        true,
        &[
            "=/",
            "/",
            "/documents/",
            "^~/images/",
            "~(?i)\\.(gif|jpg|jpeg)$",
            "~^/documents/.*\\.png$",
            "~png",
            "/images/deep/",
        ],
    )]);
    for (path, expect) in [
        ("/", 0),
        ("/index.html", 1),
        ("/documents/document.html", 2),
        ("/images/1.gif", 3),
        ("/documents/1.jpg", 4),
        ("/documents/1.JPG", 4),
        ("/documents/a.png", 5),
        ("/a.png", 6),
        // The longest prefix alone decides about expressions.
        ("/images/deep/1.gif", 4),
        ("/images/deep/1.txt", 7),
        ("/images/a.png", 3),
    ] {
        assert_eq!(found(&router, "", path).map(|found| found.route), Some(expect), "{path}");
    }
}

/// nginx's manual, "Server names": exact, longest `*.x`, longest `x.*`, first expression.
#[test]
fn hosts_are_chosen_as_nginx_chooses_servers() {
    let sites = [
        site("default", &["nobody.test"], true, &["/"]),
        site("first", &["~^www\\d+\\.", "~\\.test$"], false, &["/"]),
        site("second", &["~example"], false, &["/"]),
        site("exact", &["www.example.org"], false, &["/"]),
        site("below", &["*.example.org"], false, &["/"]),
        site("before", &["www.example.*", "mail.*"], false, &["/"]),
        site("longer", &["www.example.co.*"], false, &["/"]),
    ];
    let mut with_any = sites.to_vec();
    with_any.push(site("any", &["*"], false, &["/"]));
    for sites in [&sites[..], &with_any[..]] {
        let router = router(sites);
        for (host, expect) in [
            ("www.example.org", 3),
            ("a.example.org", 4),
            ("www.example.com", 5),
            ("WWW.example.de.", 5),
            ("mail.anything.at.all", 5),
            ("www.example.co.uk", 6),
            ("www.example.co", 5),
            ("www7.example.com", 1),
            ("WWW7.EXAMPLE.COM", 1),
            ("b.test", 1),
            ("example.org", 2),
            ("nobody.test", 0),
        ] {
            assert_eq!(site_of(&router, host), Some(expect), "{host}");
        }
        let otherwise = if sites.len() == with_any.len() { 7 } else { 0 };
        for host in ["", "mail", "mail.", "www.", ".", "other.org"] {
            assert_eq!(site_of(&router, host), Some(otherwise), "{host:?}");
        }
    }
}

#[test]
fn the_method_chooses_among_the_routes_of_one_path() {
    let mut sites = [site(
        "s",
        &[],
        true,
        &[
            "GET:/a",
            "POST,PURGE:/a",
            "GET:=/b",
            "HEAD:=/b",
            "/",
            "OPTIONS,GET:/o",
            "PUT:~^/r",
            "GET:/i",
            "POST:/i",
            "/j",
        ],
    )];
    sites[0].routes[7].internal = true;
    sites[0].routes[9].internal = true;
    let router = router(&sites);
    let site = router.site(b"").unwrap();
    let check = |method: &str, path: &str, origin, expect: Result<usize, (u16, &str)>| {
        let result = match site.route(method.as_bytes(), path.as_bytes(), origin, no_conditions) {
            Routed::Found(found) => Ok(found.route),
            Routed::MethodNotAllowed { allow } => Err((405, allow.into_owned())),
            Routed::Methods { allow } => Err((204, allow.into_owned())),
            Routed::NotFound => Err((404, String::new())),
        };
        let expect = expect.map_err(|(status, allow): (u16, &str)| (status, allow.to_owned()));
        assert_eq!(result, expect, "{method} {path} {origin:?}");
    };
    use Origin::*;
    check("GET", "/a/x", Client, Ok(0));
    check("HEAD", "/a", Client, Ok(0));
    check("POST", "/a", Client, Ok(1));
    check("PURGE", "/a", Client, Ok(1));
    // No other path is tried, though `/` takes every method.
    let allow = "GET, HEAD, POST, OPTIONS, PURGE";
    check("PUT", "/a", Client, Err((405, allow)));
    check("get", "/a", Client, Err((405, allow)));
    check("OPTIONS", "/a", Client, Err((204, allow)));
    check("GET", "/b", Client, Ok(2));
    check("HEAD", "/b", Client, Ok(3));
    check("OPTIONS", "/", Client, Ok(4));
    check("ANYTHING", "/", Client, Ok(4));
    check("OPTIONS", "/o", Client, Ok(5));
    check("GET", "/r", Client, Err((405, "PUT, OPTIONS")));
    check("PUT", "/r", Client, Ok(6));
    // Clients do not even learn of internal routes.
    check("GET", "/i", Client, Err((404, "")));
    check("GET", "/i", Internal, Ok(7));
    check("PUT", "/i", Client, Err((405, "POST, OPTIONS")));
    check("PUT", "/i", Internal, Err((405, "GET, HEAD, POST, OPTIONS")));
    check("GET", "/j", Client, Err((404, "")));
    check("GET", "/j", Internal, Ok(9));
}

/// A condition that the tests know by its name.
fn named_condition(name: &str) -> Condition {
    Condition { left: Template::text(name), test: crate::variables::Test::IsTrue, negated: false }
}

fn name_of(conditions: &[Condition]) -> &str {
    conditions[0].left.constant().unwrap()
}

/// A site whose routes may have a condition in front: `?a GET:/path`.
fn conditional_site(routes: &[&str]) -> Site {
    let split = |text: &&str| match text.strip_prefix('?').and_then(|text| text.split_once(' ')) {
        Some((name, path)) => (vec![named_condition(name)], path.to_owned()),
        None => (Vec::new(), (*text).to_owned()),
    };
    let split: Vec<(Vec<Condition>, String)> = routes.iter().map(split).collect();
    let paths: Vec<&str> = split.iter().map(|(_, path)| path.as_str()).collect();
    let mut site = site("s", &[], true, &paths);
    for (route, (conditions, _)) in site.routes.iter_mut().zip(split) {
        route.conditions = conditions;
    }
    site
}

/// The upstream of the route, or status and Allow, where the conditions named in `holding` hold.
fn routed_if(site: &Site, holding: &str, method: &str, path: &str) -> Result<usize, (u16, String)> {
    let router = router(std::slice::from_ref(site));
    let holds = |conditions: &[Condition], _| holding.contains(name_of(conditions));
    match router.site(b"").unwrap().route(method.as_bytes(), path.as_bytes(), Origin::Client, holds) {
        Routed::Found(RouteMatch { action: Action::Proxy(index), .. }) => Ok(*index),
        Routed::Found(found) => panic!("{found:?}"),
        Routed::MethodNotAllowed { allow } => Err((405, allow.into_owned())),
        Routed::Methods { allow } => Err((204, allow.into_owned())),
        Routed::NotFound => Err((404, String::new())),
    }
}

#[test]
fn a_route_whose_condition_does_not_hold_is_not_there() {
    let site = conditional_site(&[
        "?a =/x",
        "?b ^~/x",
        "?c ~^/x",
        "/",
        "?a /m/",
        "?b POST:/m/",
        "GET:/m/",
        "?a HEAD:/h/",
        "GET:/h/",
        "?a /only/a",
        "?b /only/",
    ]);
    let check = |holding: &str, method: &str, path: &str, expect: Result<usize, (u16, &str)>| {
        let expect = expect.map_err(|(status, allow)| (status, allow.to_owned()));
        assert_eq!(routed_if(&site, holding, method, path), expect, "{holding} {method} {path}");
    };
    check("abc", "GET", "/x", Ok(0));
    check("bc", "GET", "/x", Ok(1));
    check("c", "GET", "/x", Ok(2));
    check("", "GET", "/x", Ok(3));
    check("ab", "PUT", "/m/", Ok(4));
    check("b", "POST", "/m/", Ok(5));
    check("b", "PUT", "/m/", Err((405, "GET, HEAD, POST, OPTIONS")));
    check("", "POST", "/m/", Err((405, "GET, HEAD, OPTIONS")));
    check("", "OPTIONS", "/m/", Err((204, "GET, HEAD, OPTIONS")));
    check("a", "HEAD", "/h/", Ok(7));
    check("", "HEAD", "/h/", Ok(8));
    check("ab", "GET", "/only/ab", Ok(9));
    check("b", "GET", "/only/ab", Ok(10));
    check("", "GET", "/only/ab", Ok(3));
    let none = conditional_site(&["?a /", "?b =/x"]);
    assert_eq!(routed_if(&none, "", "GET", "/x"), Err((404, String::new())));
    assert_eq!(routed_if(&none, "", "OPTIONS", "/x"), Err((404, String::new())));
    assert_eq!(routed_if(&none, "b", "GET", "/y"), Err((404, String::new())));
}

#[test]
fn conditions_see_the_captures_of_their_path() {
    let mut site = conditional_site(&["~^/(.)(.)", "/p/"]);
    for route in &mut site.routes {
        let left = Template::parse("$1", Scope { captures: &[None], ..Scope::default() }).unwrap();
        route.conditions = vec![Condition { left, ..named_condition("") }];
    }
    let router = router(&[site]);
    let mut seen = Vec::new();
    let path = b"/p/x";
    router.site(b"").unwrap().route(b"GET", path, Origin::Client, |_, captures| {
        seen.push(String::from_utf8_lossy(captures.get(1, path)).into_owned());
        false
    });
    seen.dedup();
    assert_eq!(seen, ["x", "p"]);
}

#[test]
fn captures_are_noted_where_they_are_used() {
    let template = |text: &str, names: &[Option<String>]| {
        Template::parse(text, Scope { captures: names, answer: false, ..Scope::default() }).unwrap()
    };
    let redirect = |to| Action::Redirect(Arc::new(Redirect { status: 308, to }));
    let names = [None, Some("id".to_owned()), None];
    let mut sites = [site("s", &[], true, &["~^/a/(x|y)/(?<id>\\d+)(/z)?", "/p/", "~^/n/(.*)", "/rw/", "/rs/", "/h/"])];
    let routes = &mut sites[0].routes;
    routes[0].action = redirect(template("/$id", &names));
    routes[1].action = redirect(template("/$1", &[None]));
    routes[3].rewrite = Some(Arc::new(Rewrite { to: template("/$1", &[None]) }));
    routes[4].action = Action::Respond(Arc::new(Respond {
        status: 200,
        content_type: "text/plain".into(),
        body: template("$1", &[None]),
        encoding: Encoding::Text,
    }));
    let header = crate::http::fields::HeaderRule {
        name: "X-Rest".into(),
        change: crate::http::fields::Change::Set(template("$1", &[None])),
        always: true,
    };
    routes[5].options =
        Arc::new(Options { headers: crate::http::fields::HeaderRules::new(vec![header]), ..Options::new(0) });
    let router = router(&sites);
    let check = |path: &str, expect: &[&str]| {
        let captures = found(&router, "", path).unwrap().captures;
        assert_eq!(captures.count(), expect.len(), "{path}");
        for (at, expect) in expect.iter().enumerate() {
            assert_eq!(captures.get(at as u8 + 1, path.as_bytes()), expect.as_bytes(), "{path} ${}", at + 1);
        }
        assert_eq!(captures.get(0, path.as_bytes()), b"");
        assert_eq!(captures.get(9, path.as_bytes()), b"");
        assert_eq!(captures.get(200, b""), b"");
    };
    check("/a/x/12", &["x", "12", ""]);
    check("/a/y/7/z", &["y", "7", "/z"]);
    check("/p/b/c", &["b/c"]);
    check("/p/", &[""]);
    check("/n/x", &[]);
    check("/rw/x", &["x"]);
    check("/rs/x", &["x"]);
    check("/h/x", &["x"]);
}

/// What the tables say, found the long way.
fn naive(sites: &[Site], host: &str, path: &str) -> Option<(usize, usize)> {
    let site = naive_site(sites, &host.to_lowercase())?;
    let routes = &sites[site].routes;
    let first = |wanted: &Route| routes.iter().position(|route| route.path == wanted.path);
    let exact = routes.iter().position(|route| route.path == PathMatch::Exact(path.into()));
    let prefix_bytes = |route: &Route| match &route.path {
        PathMatch::Prefix(prefix) if path.starts_with(prefix.as_str()) => Some(prefix.len()),
        _ => None,
    };
    let longest = routes.iter().filter_map(prefix_bytes).max();
    let prefix = routes.iter().position(|route| longest.is_some() && prefix_bytes(route) == longest);
    let is_over = routes.iter().any(|route| longest.is_some() && prefix_bytes(route) == longest && route.over_regex);
    let matches = |route: &&Route| match &route.path {
        PathMatch::Regex(pattern) => regex::Regex::new(pattern.as_str()).unwrap().is_match(path),
        _ => false,
    };
    let expression = || if is_over { None } else { routes.iter().find(matches).and_then(first) };
    exact.or_else(expression).or(prefix).map(|route| (site, route))
}

fn naive_site(sites: &[Site], host: &str) -> Option<usize> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let names = |site: &Site, wanted: &HostPattern| site.hosts.contains(wanted);
    let exact = sites.iter().position(|site| names(site, &HostPattern::Exact(host.into())));
    let suffix_bytes = |site: &Site| {
        let matching = site.hosts.iter().filter_map(|pattern| match pattern {
            HostPattern::Suffix(suffix) if host.len() > suffix.len() && host.ends_with(suffix.as_str()) => {
                Some(suffix.len())
            }
            _ => None,
        });
        matching.max()
    };
    let longest = sites.iter().filter_map(suffix_bytes).max();
    let prefix_bytes = |site: &Site| {
        let matching = site.hosts.iter().filter_map(|pattern| match pattern {
            HostPattern::Prefix(prefix) if host.len() > prefix.len() && host.starts_with(prefix.as_str()) => {
                Some(prefix.len())
            }
            _ => None,
        });
        matching.max()
    };
    let longest_prefix = sites.iter().filter_map(prefix_bytes).max();
    let expression = |site: &Site| {
        let matches = |host_pattern: &HostPattern| match host_pattern {
            HostPattern::Regex(pattern) => regex::Regex::new(pattern.as_str()).unwrap().is_match(host),
            _ => false,
        };
        site.hosts.iter().any(matches)
    };
    exact
        .or_else(|| sites.iter().position(|site| longest.is_some() && suffix_bytes(site) == longest))
        .or_else(|| sites.iter().position(|site| longest_prefix.is_some() && prefix_bytes(site) == longest_prefix))
        .or_else(|| sites.iter().position(expression))
        .or_else(|| sites.iter().position(|site| names(site, &HostPattern::Any)))
        .or_else(|| sites.iter().position(|site| site.default))
        .or(if sites.is_empty() { None } else { Some(0) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn finds_what_a_linear_search_finds(
        sites in prop::collection::vec(
            (
                prop::collection::vec("(\\*|(\\*\\.)?[ab](\\.[ab]){0,2}|[ab](\\.[ab])?\\.\\*|~\\^?[ab]\\[\\.\\][ab]\\$?)", 0..4),
                prop::bool::weighted(0.2),
                prop::collection::vec("(=|\\^~)?(/[ab]{0,3}){0,3}|~\\^?[ab/.]{1,2}[+*]?[ab]?\\$?", 0..12),
            ),
            0..5,
        ),
        requests in prop::collection::vec(("[abAB.]{0,7}", "(/[abc]{0,3}){0,4}"), 20),
    ) {
        let sites = sites.iter().map(|(hosts, default, routes)| {
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
            site("s", &hosts, *default, &routes)
        });
        let sites: Vec<Site> = sites.collect();
        let router = router(&sites);
        for (host, path) in &requests {
            let found = found(&router, host, path).map(|found| (found.site, found.route));
            prop_assert_eq!(found, naive(&sites, host, path), "{} {}", host, path);
        }
    }

    /// The same as a site in which the routes do not stand whose conditions do not hold.
    #[test]
    fn what_does_not_hold_is_as_if_it_were_not_written(
        routes in prop::collection::vec("(\\?[abc] )?((GET|POST|HEAD|PUT,GET):)?(=|\\^~)?(/[ab]{0,2}){1,2}|(\\?[abc] )?~\\^?[ab/.]{1,2}", 0..10),
        requests in prop::collection::vec(("GET|HEAD|POST|OPTIONS", "(/[ab]{0,2}){1,3}"), 10),
        holding in "a?b?c?",
    ) {
        let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
        let site = conditional_site(&routes);
        let mut only = site.clone();
        only.routes.retain(|route| route.conditions.is_empty() || holding.contains(name_of(&route.conditions)));
        only.routes.iter_mut().for_each(|route| route.conditions.clear());
        for (method, path) in &requests {
            prop_assert_eq!(
                routed_if(&site, &holding, method, path),
                routed_if(&only, "", method, path),
                "{} {}", method, path
            );
        }
    }

    #[test]
    fn no_bytes_panic(host in prop::collection::vec(any::<u8>(), 0..300), path in prop::collection::vec(any::<u8>(), 0..50)) {
        let router = router(&[site("s", &["*.a", "b", "c.*", "~^d\\d"], false, &["/", "/ä", "=/x", "~^/(.)\\d$", "GET:/q"])]);
        let found = router.site(&host).unwrap().route(b"GET", &path, Origin::Client, no_conditions);
        prop_assert_eq!(matches!(found, Routed::Found(_)), path.first() == Some(&b'/'));
    }
}

#[test]
fn a_named_route_is_reached_by_its_name_alone() {
    let sites = [site("s", &["*"], true, &["GET:@app", "POST:@app", "@other", "=/x"])];
    let router = router(&sites);
    let routes = router.site(b"").expect("a site");
    for path in ["/", "/app", "/@app", "@app", "app", ""] {
        assert!(
            matches!(routes.route(b"GET", path.as_bytes(), Origin::Internal, no_conditions), Routed::NotFound),
            "{path}"
        );
    }
    let named = |route, method: &str| match routes.named(route, method.as_bytes(), no_conditions) {
        Routed::Found(found) => found.route.to_string(),
        Routed::MethodNotAllowed { allow } => allow.into_owned(),
        other => format!("{other:?}"),
    };
    assert_eq!((named(0, "GET"), named(0, "HEAD"), named(0, "POST")), ("0".into(), "0".into(), "1".into()));
    assert_eq!(named(0, "PUT"), "GET, HEAD, POST, OPTIONS");
    assert_eq!((named(2, "PUT"), named(2, "GET")), ("2".into(), "2".into()));
}
