//! `[[site.NAME.route]]`: what it matches, and where it leads.

use super::*;

#[test]
fn routes() {
    check("[site.s]", &["1:1 [site.s] has no route | add [[site.s.route]] with a `path` and what to do"]);
    check(
        "[site.s]\nroute = 5",
        &["2:9 bad value for `route` in [site.s] | it is a whole number: write each route as [[site.s.route]]"],
    );
    check_route(
        "path = \"/\"",
        &[
            "3:1 a [[site.s.route]] does nothing | add one of files, proxy, app, redirect, rewrite, respond, close, tarpit",
        ],
    );
    check_route(
        "respond = {}",
        &["3:1 a [[site.s.route]] matches nothing | add `path = \"/\"` (a prefix) or `exact = \"/health\"`"],
    );
    check_route(
        "path = \"/\"\nexact = \"/\"\nrespond = {}",
        &["5:1 both `path` and `exact` in [[site.s.route]] | keep one of them"],
    );
    check_route(
        "path = \"/\"\nrespond = {}\nfiles = \"/x\"",
        &["6:1 a [[site.s.route]] has two actions | keep either `respond` or `files`"],
    );
    check_route(
        "path = \"x\"\nrespond = {}",
        &["4:8 bad value for `path` in [[site.s.route]] | a path begins with `/`: write \"/x\""],
    );
    check_route(
        "exact = \"\"\nrespond = {}",
        &["4:9 bad value for `exact` in [[site.s.route]] | a path begins with `/`: write \"/\""],
    );
    check_route(
        "path = \"/\"\nproxy = \"api\"",
        &["5:9 no upstream is called `api` | there is none yet: add [upstream.api]"],
    );
    check_route(
        "path = \"/\"\napp = \"x\"\n[app.echo]",
        &["5:7 no app is called `x` | there are: echo; or add [app.x]"],
    );
    check_route(
        "path = \"/\"\nproxy = \"ap1\"\n[upstream.api]\nservers = \"1.1.1.1:1\"",
        &["5:9 no upstream is called `ap1` | did you mean \"api\"?"],
    );
    check(
        "[site.s]\nlisteners = [\"bas\"]\n[[site.s.route]]\npath = \"/\"\nrespond = {}",
        &["2:14 no listener is called `bas` | did you mean \"base\"?"],
    );
    check(
        "[site.s]\nlisteners = []\n[[site.s.route]]\npath = \"/\"\nrespond = {}",
        &[
            "2:13 bad value for `listeners` in [site.s] | it is empty: name a listener, or take the key away for all of them",
        ],
    );
    let twice = "path = \"/\"\nrespond = {}\n[[site.s.route]]\nexact = \"/\"\nrespond = {}\n[[site.s.route]]\npath = \"/\"\nrespond = {}";
    check_route(twice, &["10:8 [site.s] has two routes with path = \"/\" | this one would never be reached"]);
    check_route(
        "path = \"/\"\nproxi = \"x\"",
        &["5:1 unknown key `proxi` in [[site.s.route]] | did you mean `proxy`? it takes a text"],
    );
}

#[test]
fn paths_that_are_unlikely_to_match() {
    let title = |path: &str| vec![format!("`{path}` in [[site.s.route]] is unlikely to match")];
    for path in ["/a%20b", "/a/../b", "/.", "/a?b=c"] {
        assert_eq!(warnings(&route(&format!("path = \"{path}\"\nrespond = {{}}"))), title(path));
    }
    for path in ["/a b", "/100%", "/a..b", "/%zz"] {
        assert!(warnings(&route(&format!("exact = \"{path}\"\nrespond = {{}}"))).is_empty(), "{path}");
    }
}

#[test]
fn routes_to_upstreams_by_variable_and_copies() {
    let check = |lines: &str, expect: &[&str]| {
        let upstreams = "[upstream.api]\nservers = \"1.1.1.1:1\"\n[upstream.canary]\nservers = \"1.1.1.2:1\"\n";
        check(&format!("{}{upstreams}", route(lines)), expect);
    };
    let tables = "[map.by_cookie]\nfrom = \"$cookie_canary\"\nvalues = { \"1\" = \"canary\" }\ndefault = \"api\"\n";
    check(&format!("path = \"/\"\nproxy = \"$by_cookie\"\n{tables}"), &[]);
    let label = "write the name of an upstream, or one variable of [map.NAME], [geo.NAME] or [split.NAME], of which it is known what it may be";
    for text in ["$host", "$by_cookie-2"] {
        check(
            &format!("path = \"/\"\nproxy = \"{text}\"\n{tables}"),
            &[&format!("5:9 bad value for `proxy` in [[site.s.route]] | {label}")],
        );
    }
    check(
        "path = \"/\"\nproxy = \"$m\"\n[map.m]\nfrom = \"$cookie_a\"\nvalues = { a = \"canry\", b = \"api\" }",
        &[
            "5:9 no upstream is called `canry` | did you mean \"canary\"?",
            "5:9 bad value for `proxy` in [[site.s.route]] | `$m` may be empty: give it a `default`",
        ],
    );
    check(
        "path = \"/\"\nproxy = \"$m\"\n[split.m]\nfrom = \"$remote_addr\"\nshares = [\"5% canary\", \"90% api\"]",
        &["5:9 bad value for `proxy` in [[site.s.route]] | `$m` may be empty: let its last share be \"* NAME\""],
    );
    check(
        "path = \"/\"\nproxy = \"$m\"\n[split.m]\nfrom = \"$remote_addr\"\nshares = [\"5% canary\", \"95% api\"]",
        &[],
    );
    check(
        "path = \"/\"\nproxy = \"$m\"\n[map.m]\nfrom = \"$cookie_a\"\nvalues = { a = \"$host\" }\ndefault = \"api\"",
        &[
            "5:9 bad value for `proxy` in [[site.s.route]] | `$m` may be made of other variables: only names of upstreams are possible",
        ],
    );
    check(
        "path = \"/\"\nproxy = \"api\"\nmirror = { to = \"canry\", share = \"10\" }",
        &[
            "6:34 bad value for `share` in mirror of [[site.s.route]] | `10` is no share: write one such as \"20%\" or \"0.5%\", or \"*\" for the rest",
        ],
    );
    check(
        "path = \"/\"\nproxy = \"api\"\nmirror = \"canry\"",
        &["6:10 no upstream is called `canry` | did you mean \"canary\"?"],
    );
    check(
        "path = \"/\"\nrespond = {}\nmirror = \"canary\"",
        &["6:1 `mirror` of a [[site.s.route]] does nothing | requests are mirrored beside `proxy` and `app` alone"],
    );
}
