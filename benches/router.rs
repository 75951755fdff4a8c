//! Routing must not be felt: a thousand routes or sites cost hardly more than one.
//!
//! Each request is looked up by host and path in a table of 1, 10, 100 and 1,000 entries of the kind named. The paths
//! asked for are the last ones written, so a linear search would show.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use one_server::config::model::{Action, HostPattern, Options, PathMatch, Route, Site};
use one_server::route::{Origin, RouteMatch, Routed, Router};
use one_server::util::pattern::Pattern;

fn site(hosts: Vec<HostPattern>, routes: Vec<PathMatch>) -> Site {
    let options = Arc::new(Options::new(0));
    let routes = routes.into_iter().map(|path| Route::new(path, Action::Proxy(0), options.clone())).collect();
    Site { name: "bench".into(), hosts, default: false, https_port: None, options, routes }
}

fn route<'a>(router: &'a Router, host: &str, path: &str) -> Option<RouteMatch<'a>> {
    match router.site(host.as_bytes())?.route(b"GET", path.as_bytes(), Origin::Client, |_, _| true) {
        Routed::Found(found) => Some(found),
        _ => None,
    }
}

fn prefix(index: usize) -> String {
    format!("/api/v1/resource-{index}/")
}

/// One site with that many prefix routes beside `/`.
fn routes(count: usize) -> Vec<Site> {
    let mut paths = vec![PathMatch::Prefix("/".into())];
    paths.extend((0..count).map(|index| PathMatch::Prefix(prefix(index))));
    vec![site(vec![HostPattern::Exact("www.example.org".into())], paths)]
}

/// One site with that many expressions, which are tried one after the other, beside `/`.
fn expressions(count: usize) -> Vec<Site> {
    let mut sites = routes(0);
    let pattern = |index| Pattern::new(&format!("^/api/v1/resource-{index}/(.*)$")).expect("a good expression");
    let options = sites[0].options.clone();
    let route = |index| Route::new(PathMatch::Regex(pattern(index)), Action::Proxy(0), options.clone());
    sites[0].routes.extend((0..count).map(route));
    sites
}

/// That many sites with one route each.
fn hosts(count: usize) -> Vec<Site> {
    let name = |index| vec![HostPattern::Exact(format!("site-{index}.example.org"))];
    (0..count).map(|index| site(name(index), vec![PathMatch::Prefix("/".into())])).collect()
}

/// That many sites for `*.name`.
fn suffixes(count: usize) -> Vec<Site> {
    let name = |index| vec![HostPattern::Suffix(format!(".site-{index}.example.org"))];
    (0..count).map(|index| site(name(index), vec![PathMatch::Prefix("/".into())])).collect()
}

fn bench(c: &mut Criterion, kind: &str, sites: fn(usize) -> Vec<Site>, request: fn(usize) -> (String, String)) {
    let mut group = c.benchmark_group(kind);
    for count in [1, 10, 100, 1_000] {
        let sites = sites(count);
        let router = Router::of_sites(sites.iter().enumerate());
        let (host, path) = request(count - 1);
        assert!(route(&router, &host, &path).is_some());
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| route(&router, black_box(&host), black_box(&path)).map(|found| found.route));
        });
    }
    group.finish();
}

fn router(c: &mut Criterion) {
    bench(c, "routes", routes, |last| ("www.example.org".into(), prefix(last) + "42/comments"));
    bench(c, "expressions", expressions, |last| ("www.example.org".into(), prefix(last) + "42/comments"));
    bench(c, "hosts", hosts, |last| (format!("site-{last}.example.org"), "/index.html".into()));
    bench(c, "suffixes", suffixes, |last| (format!("www.site-{last}.example.org"), "/index.html".into()));
}

criterion_group!(benches, router);
criterion_main!(benches);
