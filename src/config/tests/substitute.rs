//! `substitute` and `limit_rate`: what they say at each place, what is inherited, what is wrong with them.

use super::*;
use crate::config::model::{Options, Substitute};
use crate::http::coding::TypePattern;

/// What holds in `[http]`, the site and its one route.
fn options(http: &str, site: &str, route: &str) -> [Arc<Options>; 3] {
    let text = format!(
        "[http]\n{http}\n[site.s]\nhosts = \"s.invalid\"\n{site}\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}\n{route}\n{BASE}"
    );
    let config = config(&text);
    let site = &config.sites[0];
    [config.http.options.clone(), site.options.clone(), site.routes[0].options.clone()]
}

fn one(text: &str) -> Arc<Substitute> {
    options(text, "", "")[0].substitute.clone().expect("it is on")
}

#[test]
fn a_table_says_what_is_replaced() {
    let substitute = one("substitute = { texts = { \"$$a\" = \"<$host>\", b = \"\" } }");
    assert_eq!((substitute.texts.len(), substitute.values.len()), (2, 2));
    assert_eq!(substitute.types, [TypePattern::parse("text/html").expect("a type")]);
    assert!(substitute.once && !substitute.keeps_validators);
    let all = one(
        "substitute = { texts = { a = \"b\" }, types = [\"text/css\", \"*\"], once = false, keep_validators = true }",
    );
    assert!(all.types.is_empty() && !all.once && all.keeps_validators);
}

#[test]
fn the_nearest_place_decides() {
    let own = |text: &str| format!("substitute.texts.{text} = \"x\"");
    let on =
        |options: [Arc<Options>; 3]| options.map(|options| options.substitute.as_ref().map_or(0, |on| on.texts.len()));
    assert_eq!(on(options("", "", "")), [0, 0, 0]);
    assert_eq!(on(options(&own("a"), "", "")), [1, 1, 1]);
    assert_eq!(on(options(&own("a"), "substitute = false", "")), [1, 0, 0]);
    assert_eq!(on(options(&own("a"), "", "substitute.texts = { a = \"\", b = \"\" }")), [1, 1, 2]);
    let rate = |options: [Arc<Options>; 3]| options.map(|options| (options.limit_rate, options.limit_rate_after));
    assert_eq!(rate(options("", "", "")), [(0, 0); 3]);
    let inherited = options("limit_rate = \"100KiB\"", "limit_rate_after = \"1MiB\"", "limit_rate = 0");
    assert_eq!(rate(inherited), [(102_400, 0), (102_400, 1 << 20), (0, 1 << 20)]);
}

#[test]
fn mistakes_are_told() {
    let bad = "bad value for `substitute` in [http]";
    let form = "write a table such as { texts = { \"http://internal\" = \"https://$host\" } }, or false";
    check("[http]\nsubstitute = true", &[&format!("2:14 {bad} | `true` does not say what is replaced: {form}")]);
    check("[http]\nsubstitute = \"a\"", &[&format!("2:14 {bad} | it is a text: {form}")]);
    check(
        "[http]\nsubstitute = {}",
        &[
            "2:14 missing key `texts` in substitute of [http] | add `texts`: texts with what is put in their place, { \"http://internal\" = \"https://$host\" }",
        ],
    );
    check(
        "[http]\nsubstitute = { texts = {}, types = [] }",
        &[
            "2:24 bad value for `texts` in substitute of [http] | it is empty: name a text, or write substitute = false",
            "2:36 bad value for `types` in substitute of [http] | it is empty: name a type, or write substitute = false",
        ],
    );
    check(
        "[http]\nsubstitute = { types = [\"html\"], texts = { \"\" = \"a\", \"$host\" = \"a\", A = \"a\", a = \"b\", c = 1, d = \"$hots\" } }",
        &[
            "2:25 bad type in substitute of [http] | `html` is no media type: write one such as \"text/html\", \"text/*\" or \"*\", without parameters",
            "2:44 bad text in substitute of [http] | it is empty, which would be found everywhere",
            "2:54 bad text in substitute of [http] | it is looked for as it stands, without variables: these belong into what is put in its place; `$$` is a dollar",
            "2:78 bad text in substitute of [http] | it stands here twice, as letters are looked for in either case: take one away",
            "2:91 bad value for `c` in substitute of [http] | it is a whole number: write what is put in its place, \"\" for nothing",
            "2:99 bad value for `d` in substitute of [http] | `$hots` is not known: did you mean `$host`?",
        ],
    );
    let many: Vec<String> = (0..65).map(|number| format!("t{number} = \"\"")).collect();
    check(
        &format!("[http]\nsubstitute = {{ texts = {{ {} }} }}", many.join(", ")),
        &["2:24 bad value for `texts` in substitute of [http] | 65 texts are too many: at most 64"],
    );
    check(
        &format!("[http]\nsubstitute = {{ texts = {{ {} = \"\" }} }}", "a".repeat(1025)),
        &["2:26 bad text in substitute of [http] | its 1025 bytes are too many: at most 1024"],
    );
}

#[test]
fn who_comes_from_nginx_is_shown_the_way() {
    check(
        "[http]\nsub_filter = \"a\"",
        &[
            "2:1 unknown key `sub_filter` in [http] | what nginx calls so is `substitute` here; it takes a table such as { texts = { \"http://internal\" = \"https://$host\" } }, or false",
        ],
    );
    check(
        "[http]\nsubstitute = { texts = { a = \"b\" }, sub_filter_once = true }",
        &[
            "2:37 unknown key `sub_filter_once` in substitute of [http] | what nginx calls so is `once` here; it takes true or false",
        ],
    );
}
