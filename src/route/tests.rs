//! The precedence table, and a comparison with a reader's way of looking: through all hosts, then all routes.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::config::model::*;

fn site(name: &str, hosts: &[&str], default: bool, routes: &[&str]) -> Site {
    Site {
        name: name.into(),
        hosts: hosts.iter().map(|host| pattern(host)).collect(),
        default,
        access: None,
        auth: None,
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
    Route { path, access: None, auth: None, action: Action::Proxy(index) }
}

fn router(sites: &[Site]) -> Router {
    Router::of_sites(sites.iter().enumerate())
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
            assert_eq!(router.site(host.as_bytes()), Some(site), "{host}");
        }
    }
    let long = "a".repeat(300) + ".example.org";
    for unknown in ["", ".", "example.org", ".example.org", "other.test", "a.example.org..", "::1", long.as_str()] {
        let site_of = |sites: Vec<Site>| router(&sites).site(unknown.as_bytes());
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
        assert_eq!(router.site("H".repeat(length).as_bytes()), Some(2), "{length} bytes");
    }
    assert_eq!(router.site("h".repeat(256).as_bytes()), Some(0));
    for length in 13..=255 {
        let host = "a".repeat(length - 12) + ".example.org";
        assert_eq!(router.site(host.as_bytes()), Some(1), "{length} bytes");
        assert_eq!(router.site((host + ".").as_bytes()), Some(1), "{length} bytes and a dot");
    }
    assert_eq!(router.site(("a".repeat(244) + ".example.org").as_bytes()), Some(0), "256 bytes");
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
        let found = router.route(b"", path.as_bytes()).map(|found| found.route);
        assert_eq!(found, expect, "{path:?}");
    }
}

#[test]
fn a_match_tells_its_action_and_places() {
    let mut sites =
        [site("one", &["one.test"], false, &["/a", "/b"]), site("two", &["two.test"], false, &["=/c", "/d"])];
    sites[1].routes[1].action =
        Action::Respond { status: 418, content_type: "text/plain".into(), body: Bytes::from_static(b"x") };
    let router = Router::of_sites([(1, &sites[1])].into_iter()); // the listener's first site is the config's second
    let found = router.route(b"one.test", b"/d/e").unwrap();
    assert_eq!((found.site, found.route), (1, 1));
    assert!(matches!(found.action, Action::Respond { status: 418, .. }));
    assert!(router.route(b"two.test", b"/a").is_none(), "another site's routes do not answer");
}

#[test]
fn a_listener_without_sites_matches_nothing() {
    let router = router(&[]);
    assert!(router.route(b"a", b"/").is_none());
    assert_eq!(router.site(b"a"), None);
}

#[test]
fn many_siblings_with_labels_of_every_length() {
    let paths: Vec<String> =
        (b'!'..=b'~').map(|byte| format!("/{}{}", byte as char, "x".repeat(byte as usize % 20))).collect();
    let borrowed: Vec<&str> = paths.iter().map(String::as_str).collect();
    let router = router(&[site("s", &[], true, &borrowed)]);
    for (route, path) in paths.iter().enumerate() {
        let find = |path: &str| router.route(b"", path.as_bytes()).map(|found| found.route);
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
    let found = router.route(b"", "/a".repeat(4_000).as_bytes()).unwrap();
    assert_eq!(found.route, 3_999);
}

/// What the tables say, found the long way.
fn naive(sites: &[Site], host: &str, path: &str) -> Option<(usize, usize)> {
    let site = naive_site(sites, &host.to_lowercase())?;
    let routes = &sites[site].routes;
    let exact = routes.iter().position(|route| route.path == PathMatch::Exact(path.into()));
    let prefix_bytes = |route: &Route| match &route.path {
        PathMatch::Prefix(prefix) if path.starts_with(prefix.as_str()) => Some(prefix.len()),
        _ => None,
    };
    let longest = routes.iter().filter_map(prefix_bytes).max();
    let prefix = || routes.iter().position(|route| longest.is_some() && prefix_bytes(route) == longest);
    exact.or_else(prefix).map(|route| (site, route))
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
    exact
        .or_else(|| sites.iter().position(|site| longest.is_some() && suffix_bytes(site) == longest))
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
                prop::collection::vec("(\\*|(\\*\\.)?[ab](\\.[ab]){0,2})", 0..4),
                prop::bool::weighted(0.2),
                prop::collection::vec("=?(/[ab]{0,3}){0,3}", 0..12),
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
            let found = router.route(host.as_bytes(), path.as_bytes()).map(|found| (found.site, found.route));
            prop_assert_eq!(found, naive(&sites, host, path), "{} {}", host, path);
        }
    }

    #[test]
    fn no_bytes_panic(host in prop::collection::vec(any::<u8>(), 0..300), path in prop::collection::vec(any::<u8>(), 0..50)) {
        let router = router(&[site("s", &["*.a", "b"], false, &["/", "/ä", "=/x"])]);
        let found = router.route(&host, &path);
        prop_assert_eq!(found.is_some(), path.first() == Some(&b'/'));
    }
}
