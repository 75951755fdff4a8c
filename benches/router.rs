//! Routing must not be felt: a thousand routes or sites cost hardly more than one.
//!
//! Each request is looked up by host and path in a table of 1, 10, 100 and 1,000 entries of the kind named. The paths
//! asked for are the last ones written, so a linear search would show.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use one_server::config::model::{Action, HostPattern, PathMatch, Route, Site};
use one_server::route::Router;

fn site(hosts: Vec<HostPattern>, routes: Vec<PathMatch>) -> Site {
    let routes =
        routes.into_iter().map(|path| Route { path, access: None, auth: None, action: Action::Proxy(0) }).collect();
    Site { name: "bench".into(), hosts, default: false, access: None, auth: None, routes }
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
        assert!(router.route(host.as_bytes(), path.as_bytes()).is_some());
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| router.route(black_box(host.as_bytes()), black_box(path.as_bytes())).map(|found| found.route));
        });
    }
    group.finish();
}

fn router(c: &mut Criterion) {
    bench(c, "routes", routes, |last| ("www.example.org".into(), prefix(last) + "42/comments"));
    bench(c, "hosts", hosts, |last| (format!("site-{last}.example.org"), "/index.html".into()));
    bench(c, "suffixes", suffixes, |last| (format!("www.site-{last}.example.org"), "/index.html".into()));
}

criterion_group!(benches, router);
criterion_main!(benches);
