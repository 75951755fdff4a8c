//! The precedence table, and a comparison with a reader's way of looking: through all hosts, then all routes.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::config::model::*;

fn site(name: &str, hosts: &[&str], default: bool, routes: &[&str]) -> Site {
    Site {
        name: name.into(),
        hosts: hosts.iter().map(|host| pattern(host)).collect(),
        default,
        routes: routes.iter().enumerate().map(|(index, path)| route(path, index)).collect(),
    }
}

/// `*` any, `*.x` suffix, else exact.
fn pattern(host: &str) -> HostPattern {
    match host.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(host.into()),
    }
}

/// `=path` exact, else prefix.
fn route(path: &str, index: usize) -> Route {
    let path = match path.strip_prefix('=') {
        Some(exact) => PathMatch::Exact(exact.into()),
        None => PathMatch::Prefix(path.into()),
    };
    Route { path, action: Action::Proxy(index) }
}

fn config(sites: Vec<Site>) -> Config {
    let second = Duration::from_secs(1);
    Config {
        process: Process {
            data_cores: vec![],
            app_cores: vec![],
            app_placement: AppPlacement::Paired,
            driver: DriverChoice::Auto,
            ring_entries: 256,
            read_buffer_bytes: 1,
            stream_buffer_bytes: 1,
            spin: second,
            queue_depth: 1,
            queue_timeout: second,
            app_concurrency: 1,
            connections_max: 1,
            backlog: 1,
            drain_timeout: second,
            file_cache_bytes: 0,
            file_cache_file_bytes_max: 0,
            file_cache_valid: second,
        },
        http: Http {
            header_timeout: second,
            body_timeout: second,
            write_timeout: second,
            keep_alive_timeout: second,
            keep_alive_requests_max: 0,
            head_bytes_max: 1,
            headers_max: 1,
            body_bytes_max: 0,
            server_name: String::new(),
        },
        listeners: vec![Listener {
            name: "web".into(),
            address: "127.0.0.1:0".parse().unwrap(),
            sites: (0..sites.len()).collect(),
        }],
        sites,
        upstreams: vec![],
        apps: vec![],
        splitters: vec![],
        admin: None,
        log: Log { access: None, format: LogFormat::Json },
        trace_events: 0,
    }
}

fn router(sites: Vec<Site>) -> Router {
    Router::new(&config(sites), 0)
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
        let router = router(sites);
        for &(host, site) in rows {
            assert_eq!(router.site(host.as_bytes()), Some(site), "{host}");
        }
    }
    let long = "a".repeat(300) + ".example.org";
    for unknown in ["", ".", "example.org", ".example.org", "other.test", "a.example.org..", "::1", long.as_str()] {
        let site_of = |sites: Vec<Site>| router(sites).site(unknown.as_bytes());
        assert_eq!(site_of(sites()), Some(4), "{unknown:?}: default");
        assert_eq!(site_of(with_any.clone()), Some(5), "{unknown:?}: any comes before default");
        assert_eq!(site_of(without_default.clone()), Some(0), "{unknown:?}: the first");
    }
}

#[test]
fn longest_host_name_still_matches() {
    let host = "a".repeat(243) + ".example.org";
    assert_eq!(host.len(), 255);
    let router = router(vec![site("d", &[], true, &[]), site("s", &["*.example.org"], false, &[])]);
    assert_eq!(router.site(host.as_bytes()), Some(1));
    assert_eq!(router.site((host.clone() + ".").as_bytes()), Some(1));
    assert_eq!(router.site(format!("a{host}").as_bytes()), Some(0));
}

#[test]
fn path_precedence_table() {
    let router = router(vec![site(
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
        let found = router.route(b"", path.as_bytes()).map(|found| found.route);
        assert_eq!(found, expect, "{path:?}");
    }
}

#[test]
fn a_match_tells_its_action_and_places() {
    let mut config = config(vec![
        site("one", &["one.test"], false, &["/a", "/b"]),
        site("two", &["two.test"], false, &["=/c", "/d"]),
    ]);
    config.sites[1].routes[1].action =
        Action::Respond { status: 418, content_type: "text/plain".into(), body: Bytes::from_static(b"x") };
    config.listeners[0].sites = vec![1]; // the listener's first site is the config's second
    let router = Router::new(&config, 0);
    let found = router.route(b"one.test", b"/d/e").unwrap();
    assert_eq!((found.site, found.route), (1, 1));
    assert!(matches!(found.action, Action::Respond { status: 418, .. }));
    assert!(router.route(b"two.test", b"/a").is_none(), "another site's routes do not answer");
}

#[test]
fn a_listener_without_sites_matches_nothing() {
    let router = router(vec![]);
    assert!(router.route(b"a", b"/").is_none());
    assert_eq!(router.site(b"a"), None);
}

#[test]
fn deeply_nested_routes_need_no_deep_stack() {
    let paths: Vec<String> = (1..=5_000).map(|depth| "/a".repeat(depth)).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let router = router(vec![site("s", &[], true, &paths)]);
    let found = router.route(b"", "/a".repeat(4_000).as_bytes()).unwrap();
    assert_eq!(found.route, 3_999);
}

/// What the tables say, found the long way.
fn naive(config: &Config, host: &str, path: &str) -> Option<(usize, usize)> {
    let site = naive_site(config, &host.to_lowercase())?;
    let routes = &config.sites[site].routes;
    let exact = routes.iter().position(|route| route.path == PathMatch::Exact(path.into()));
    let prefix_bytes = |route: &Route| match &route.path {
        PathMatch::Prefix(prefix) if path.starts_with(prefix.as_str()) => Some(prefix.len()),
        _ => None,
    };
    let longest = routes.iter().filter_map(prefix_bytes).max();
    let prefix = || routes.iter().position(|route| longest.is_some() && prefix_bytes(route) == longest);
    exact.or_else(prefix).map(|route| (site, route))
}

fn naive_site(config: &Config, host: &str) -> Option<usize> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let names = |site: &Site, wanted: &HostPattern| site.hosts.contains(wanted);
    let sites = &config.sites;
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
    exact
        .or_else(|| sites.iter().position(|site| longest.is_some() && suffix_bytes(site) == longest))
        .or_else(|| sites.iter().position(|site| names(site, &HostPattern::Any)))
        .or_else(|| sites.iter().position(|site| site.default))
        .or(if sites.is_empty() { None } else { Some(0) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn finds_what_a_linear_search_finds(
        sites in prop::collection::vec(
            (
                prop::collection::vec("(\\*|(\\*\\.)?[ab](\\.[ab]){0,2})", 0..4),
                prop::bool::weighted(0.2),
                prop::collection::vec("=?(/[ab]{0,3}){0,3}", 0..12),
            ),
            0..5,
        ),
        requests in prop::collection::vec(("[abAB.]{0,7}", "(/[abc]{0,3}){0,4}"), 20),
    ) {
        let borrow = |list: &[String]| -> Vec<String> { list.to_vec() };
        let sites = sites.iter().map(|(hosts, default, routes)| {
            let (hosts, routes) = (borrow(hosts), borrow(routes));
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
            site("s", &hosts, *default, &routes)
        });
        let config = config(sites.collect());
        let router = Router::new(&config, 0);
        for (host, path) in &requests {
            let found = router.route(host.as_bytes(), path.as_bytes()).map(|found| (found.site, found.route));
            prop_assert_eq!(found, naive(&config, host, path), "{} {}", host, path);
        }
    }

    #[test]
    fn no_bytes_panic(host in prop::collection::vec(any::<u8>(), 0..300), path in prop::collection::vec(any::<u8>(), 0..50)) {
        let router = router(vec![site("s", &["*.a", "b"], false, &["/", "/ä", "=/x"])]);
        let found = router.route(&host, &path);
        prop_assert_eq!(found.is_some(), path.first() == Some(&b'/'));
    }
}
