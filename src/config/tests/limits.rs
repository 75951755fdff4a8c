//! Limits of requests: what they mean where, and their mistakes.

use super::*;
use crate::guard::Allowed;
use crate::guard::rate::Rate;

#[test]
fn a_limit_has_the_defaults_of_nginx_but_for_its_status() {
    let limits = config(&format!("[limit.a]\nrate = \"10/s\"\n[limit.b]\nrequests_max = 3\n{BASE}")).limits;
    assert_eq!(limits.iter().map(|limit| limit.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let rate = Some(Rate { count: 10, period: Duration::from_secs(1) });
    assert_eq!(limits[0].allowed, Allowed { rate, burst: 0, requests_max: None, keys_max: 65_536 });
    assert_eq!(limits[1].allowed, Allowed { rate: None, burst: 0, requests_max: Some(3), keys_max: 65_536 });
    assert!(limits[0].delays && !limits[0].dry_run);
    assert_eq!((limits[0].status, limits[0].key.start(), limits[0].key.variables().count()), (429, "", 1));
}

#[test]
fn the_innermost_level_names_the_limits() {
    let limits = "[limit.a]\nrate = \"1/s\"\n[limit.b]\nrate = \"2/m\"\n";
    let route = |path: &str, line: &str| format!("[[site.s.route]]\npath = \"{path}\"\nrespond = {{}}\n{line}\n");
    let config = config(&format!(
        "{limits}[http]\nlimits = \"a\"\n[site.s]\nlisteners = [\"base\"]\nhosts = \"s\"\n{}{}{}[site.t]\n\
         listeners = [\"base\"]\nhosts = \"t\"\nlimits = \"b\"\nroute = [{{ path = \"/\", respond = {{}} }}]\n{BASE}",
        route("/", ""),
        route("/both", "limits = [\"b\", \"a\"]"),
        route("/none", "limits = []"),
    ));
    let of = |site: usize, route: usize| config.sites[site].routes[route].options.limits.to_vec();
    assert_eq!((of(0, 0), of(0, 1), of(0, 2), of(1, 0)), (vec![0], vec![1, 0], vec![], vec![1]));
    assert_eq!(config.http.options.limits.to_vec(), [0]);
}

#[test]
fn mistakes_in_limits_are_told_with_advice() {
    let used = "[http]\nlimits = \"a\"\n";
    for (lines, expect) in [
        ("[limit.a]\n", "1:1 [limit.a] limits nothing | add a `rate`, for example \"10/s\", or `requests_max`"),
        (
            "[limit.a]\nrequests_max = 5\nburst = 5\n",
            "3:1 `burst` of [limit.a] does nothing | add a `rate`, for example \"10/s\"",
        ),
        (
            "[limit.a]\nrate = \"10r/s\"\n",
            "2:8 bad value for `rate` in [limit.a] | `10r/s` is not a rate: did you mean \"10/s\"?",
        ),
        (
            "[limit.a]\nrate = 10\n",
            "2:8 bad value for `rate` in [limit.a] | it is a number, but the key takes a rate, for example \"10/s\" or \"600/m\"",
        ),
        (
            "[limit.a]\nrate = \"1/s\"\nkey = \"$remote_user\"\n",
            "3:7 bad value for `key` in [limit.a] | limits are looked at before the login, so that `$remote_user` is empty",
        ),
        (
            "[limit.a]\nrate = \"1/s\"\nkey = \"$remote_adr\"\n",
            "3:8 bad value for `key` in [limit.a] | `$remote_adr` is not known: did you mean `$remote_addr`?",
        ),
        (
            "[limit.a]\nrate = \"1/s\"\nkey = \"$binary_remote_addr\"\n",
            "3:7 bad value for `key` in [limit.a] | write `$remote_addr`: a key takes the same room whatever its length",
        ),
        (
            "[limit.a]\nrate = \"1/s\"\nkey = \"\"\n",
            "3:7 bad value for `key` in [limit.a] | it is empty, and an empty key is not limited: write \"$remote_addr\"",
        ),
        (
            "[limit.a]\nrate = \"1/s\"\nexcess = \"nodelay\"\n",
            "3:10 bad value for `excess` in [limit.a] | `nodelay` is not known: did you mean \"delay\"?",
        ),
        (
            "[limit.a]\nrate = \"1/s\"\nnodelay = true\n",
            "3:1 unknown key `nodelay` in [limit.a] | what nginx calls so is `excess` here; it takes \"delay\" or \"reject\"",
        ),
    ] {
        check(&format!("{lines}{used}"), &[expect]);
    }
    check(
        "[http]\nlimits = [\"pages\", \"page\", \"page\"]\n[limit.page]\nrate = \"1/s\"\n",
        &[
            "2:11 no limit is called `pages` | did you mean \"page\"?",
            "2:28 limit `page` stands twice in [http] | take one away",
        ],
    );
    check("[http]\nlimits = \"a\"\n", &["2:10 no limit is called `a` | there is none yet: add [limit.a]"]);
}

#[test]
fn a_limit_that_cannot_work_as_meant_is_warned_of() {
    let warnings = |text: &str| outside(text).2;
    assert_eq!(
        warnings("[limit.a]\nrate = \"1/s\"\n"),
        ["[limit.a] limits no request | write `limits = [\"a\"]` in [http], a site or a route, or take it away"]
    );
    let used = "[http]\nlimits = \"a\"\n";
    assert_eq!(
        warnings(&format!("[limit.a]\nrate = \"10/m\"\nburst = 20\n{used}")),
        [
            "requests under [limit.a] may wait for 120 s | clients give up before: write a smaller `burst`, or excess = \"reject\""
        ]
    );
    assert_eq!(warnings(&format!("[limit.a]\nrate = \"10/m\"\nburst = 20\nexcess = \"reject\"\n{used}")), [""; 0]);
}
