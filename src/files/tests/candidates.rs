//! What `try` finds.

use super::*;

fn trying(entries: &[&str]) -> Site {
    let candidates = entries
        .iter()
        .map(|text| match (text.strip_prefix('='), text.split_once("$path")) {
            (Some(status), _) => Candidate::Status(status.parse().expect("a status")),
            (None, Some((before, after))) => {
                Candidate::Path { before: before.into(), takes_path: true, after: after.into() }
            }
            (None, None) => Candidate::Path { before: (*text).into(), takes_path: false, after: String::new() },
        })
        .collect();
    let site = Site::with(limits(), |files| files.candidates = candidates);
    site.put("a", "a");
    site.put("a.html", "a.html");
    site.put("b.html", "b.html");
    site.put("c/index.html", "c/index");
    site.put("empty/x", "x");
    site.put(".secret.html", "secret");
    site
}

#[test]
fn candidates_are_tried_in_order() {
    let mut site = trying(&["$path", "$path.html", "$path/", "=410"]);
    site.check("/a", 200, "a");
    site.check("/b", 200, "b.html");
    site.check("/c/", 200, "c/index");
    site.check("/empty/x", 200, "x");
    for target in ["/", "/none", "/none/", "/a/", "/empty/"] {
        site.check(target, 410, "410 Gone\n");
    }
    // The links in an index need the slash.
    let answer = site.get("/c?q");
    assert_eq!((answer.status, answer.field("Location")), (301, Some("/c/?q")));
    site.check_status("/.secret", 404);
    assert_eq!(site.ask(Method::Options, "/none", Conditions::default()).status, 410);

    let mut site = trying(&["$path", "/c/", "/a"]);
    site.check("/b", 200, "c/index");
    fs::remove_file(site.path("c/index.html")).expect("remove");
    site.later(VALID);
    site.check("/b", 200, "a");
    site.check("/b.html", 200, "b.html");

    let mut site = trying(&["/c$path"]);
    site.check("/index.html", 200, "c/index");
    site.check("/a", 404, "404 Not Found\n");
}

#[test]
fn candidates_do_not_uncover_hidden_names() {
    let mut site = trying(&["/.$path", "$path.html", "$path"]);
    for target in ["/secret.html", "/.secret", "/.secret.html", "/"] {
        site.check_status(target, 404);
    }
    // What the operator wrote himself is meant.
    let mut site = trying(&["$path", "/.secret.html"]);
    site.check("/none", 200, "secret");
}

#[test]
fn candidates_come_before_the_fallback_and_cost_no_allocation() {
    let mut site = trying(&["$path", "$path.html"]);
    site.files = Arc::new(Files { fallback: Some("/a".into()), ..(*site.files).clone() });
    site.check("/b", 200, "b.html");
    site.check("/none", 200, "a");
    let mut scratch = Vec::new();
    for target in ["/b", "/none"] {
        let (allocations, status) = crate::runtime::sys::allocations::count(&mut || {
            let path = normalize(target.as_bytes(), &mut scratch).expect("a good path");
            let request = Request {
                method: Method::Get,
                path,
                query: None,
                conditions: Conditions::default(),
                accepts: CodingSet::NONE,
                accept: Lines::default(),
                substitute: None,
            };
            prepare(&site.files, 0, &mut site.cache, &request, site.now, &site.stats).status
        });
        assert_eq!((allocations, status), (0, 200), "{target}");
    }
}

#[test]
fn what_is_nothing_goes_to_the_last_resort() {
    let mut site = trying(&["$path", "$path.html", "$path/"]);
    site.files = Arc::new(Files { last_resort: Some(7), ..(*site.files).clone() });
    site.check("/b", 200, "b.html");
    let mut scratch = Vec::new();
    let mut plan = |target: &str, method| {
        let path = normalize(target.as_bytes(), &mut scratch).expect("a good path");
        let (conditions, accepts) = (Conditions::default(), CodingSet::NONE);
        let request =
            Request { method, path, query: None, conditions, accepts, accept: Lines::default(), substitute: None };
        let plan = prepare(&site.files, 0, &mut site.cache, &request, site.now, &site.stats);
        (plan.status, matches!(plan.body, PlanBody::Route(7)))
    };
    for method in [Method::Get, Method::Post, Method::Options, Method::Put] {
        assert_eq!(plan("/none", method), (404, true), "{method:?}");
        // What the folder hides is not there either.
        assert_eq!(plan("/.secret", method), (404, true), "{method:?}");
    }
    assert_eq!(plan("/b", Method::Post), (405, false));
    assert_eq!(plan("/b", Method::Options), (204, false));
}
