//! `compress`: what it says at each place, what is inherited, what is wrong with it.

use super::*;
use crate::http::coding::{Coding, Policy, TypePattern};

/// What holds in `[http]`, the site and its one route.
fn policies(http: &str, site: &str, route: &str) -> [Option<Arc<Policy>>; 3] {
    let text = format!(
        "[http]\n{http}\n[site.s]\nhosts = \"s.invalid\"\n{site}\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}\n{route}\n{BASE}"
    );
    let config = config(&text);
    let site = &config.sites[0];
    [config.http.options.compress.clone(), site.options.compress.clone(), site.routes[0].options.compress.clone()]
}

/// The same, as the smallest length that is compressed; 0: none is.
#[track_caller]
fn check_inherited(http: &str, site: &str, route: &str, expect: [u64; 3]) {
    let min = |policy: Option<Arc<Policy>>| policy.map_or(0, |policy| policy.bytes_min);
    assert_eq!(policies(http, site, route).map(min), expect, "{http} | {site} | {route}");
}

#[test]
fn it_is_off_until_it_is_written() {
    assert_eq!(policies("", "", ""), [None, None, None]);
    let [Some(policy), _, _] = policies("compress = true", "", "") else { panic!("it is on") };
    assert_eq!(policy.codings, Coding::ALL);
    assert_eq!((policy.bytes_min, policy.cache_file_bytes_max), (1024, 1 << 20));
    assert_eq!(Coding::ALL.map(|coding| policy.level(coding)), [4, 3, 5]);
    assert!(policy.types.contains(&TypePattern::parse("text/html").expect("a type")));
    assert_eq!(policies("compress = {}", "", "")[0], Some(policy));
}

#[test]
fn the_nearest_place_decides() {
    let (on, off) = ("compress = true", "compress = false");
    let own = |min: u64| format!("compress = {{ min = {min} }}");
    check_inherited(on, "", "", [1024, 1024, 1024]);
    check_inherited(&own(5), "", "", [5, 5, 5]);
    check_inherited(&own(5), on, on, [5, 5, 5]);
    check_inherited(&own(5), off, "", [5, 0, 0]);
    check_inherited(&own(5), off, on, [5, 0, 1024]);
    check_inherited(&own(5), &own(6), on, [5, 6, 6]);
    check_inherited(&own(5), &own(6), &own(7), [5, 6, 7]);
    check_inherited("", "", on, [0, 0, 1024]);
    check_inherited("", &own(6), off, [0, 6, 0]);
    // A table replaces the one above as a whole.
    check_inherited(&own(5), "compress = { br_level = 1 }", "", [5, 1024, 1024]);
}

#[test]
fn a_place_that_says_nothing_shares_what_it_inherits() {
    let [Some(http), _, Some(route)] = policies("compress = true", "", "compress = true") else { panic!("it is on") };
    assert!(Arc::ptr_eq(&http, &route));
}

#[test]
fn sites_of_commands_inherit_too() {
    let mut made = Defaults::default().config().expect("defaults");
    let compress = policies("compress = true", "", "")[0].clone();
    made.http.options = std::sync::Arc::new(crate::config::model::Options { compress, ..(*made.http.options).clone() });
    made.add_site("s", &[], Action::Close);
    assert!(made.sites[0].options.compress.is_some() && made.sites[0].routes[0].options.compress.is_some());
}

#[test]
fn mistakes_are_told() {
    check(
        "[http]\ncompress = \"gzip\"",
        &[
            "2:12 bad value for `compress` in [http] | it is a text: write true, false, or a table such as { codings = [\"zstd\", \"gzip\"] }",
        ],
    );
    check(
        "[http]\ncompress = { codings = [\"br\", \"deflate\", \"br\"], types = [\"text/html; charset=utf-8\", \"*\", \"html\"], br_level = 11 }",
        &[
            "2:31 bad value for `codings` in compress of [http] | `deflate` is not known: write \"br\", \"zstd\" or \"gzip\"",
            "2:42 a coding stands twice in compress of [http] | take it away",
            "2:58 bad type in compress of [http] | a type is written without parameters: \"text/html\"",
            "2:86 bad type in compress of [http] | it would compress again what is compressed, such as images: name the types, for example \"text/*\"",
            "2:91 bad type in compress of [http] | `html` is no media type: write one such as \"text/html\" or \"text/*\"",
            "2:111 bad value for `br_level` in compress of [http] | 11 is too large: the most is 6",
        ],
    );
    check(
        "[http]\ncompress = { codings = [], types = [] }",
        &[
            "2:24 bad value for `codings` in compress of [http] | it is empty: name a coding, or write compress = false",
            "2:36 bad value for `types` in compress of [http] | it is empty: name a type, or write compress = false",
        ],
    );
}

#[test]
fn names_of_other_programs_are_known() {
    check(
        "[http]\ngzip = true",
        &[
            "2:1 unknown key `gzip` in [http] | what nginx calls so is `compress` here; it takes true, false, or a table such as { codings = [\"zstd\", \"gzip\"], min = \"1KiB\" }",
        ],
    );
    check(
        "[http]\ncompress = { gzip_comp_level = 5 }",
        &[
            "2:14 unknown key `gzip_comp_level` in compress of [http] | what nginx calls so is `gzip_level` here; it takes a number from 1 to 9",
        ],
    );
    check(
        "[http]\ngzip_min_length = 5",
        &[
            "2:1 unknown key `gzip_min_length` in [http] | what nginx calls so is `min` in compress = { … }; it takes a size, for example \"64KiB\"",
        ],
    );
}
