//! `cookie_rewrite`: what it says, what is wrong with it.

use super::*;
use crate::http::cookies::{CookieRules, Flags, SameSite};

fn rules(text: &str) -> Option<Arc<CookieRules>> {
    config(&format!("[http]\n{text}\n{BASE}")).http.options.cookie_rewrite.clone()
}

#[test]
fn a_table_says_what_becomes_of_them() {
    assert_eq!(rules(""), None);
    assert_eq!(rules("cookie_rewrite = false"), None);
    let rules = rules(
        "cookie_rewrite = { domains = { \".app.internal\" = \"$host\" }, paths = { \"/app/\" = \"/\" }, flags = { sid = [\"Secure\", \"samesite=none\"], \"*\" = \"nohttponly\" } }",
    );
    let rules = rules.expect("it is on");
    assert_eq!((&*rules.domains[0].0, &*rules.paths[0].0), ("app.internal", "/app/"));
    let sid = Flags { secure: Some(true), same_site: Some(SameSite::None), ..Flags::default() };
    let any = Flags { http_only: Some(false), ..Flags::default() };
    assert_eq!(rules.flags, [(Some("sid".to_owned()), sid), (None, any)]);
}

#[test]
fn mistakes_are_told() {
    let bad = "bad value for `cookie_rewrite` in [http]";
    let form = "write a table such as { paths = { \"/app/\" = \"/\" } }, or false";
    check(
        "[http]\ncookie_rewrite = true",
        &[&format!("2:18 {bad} | `true` does not say what becomes of them: {form}")],
    );
    check(
        "[http]\n[http.cookie_rewrite]\ndomains = { \"http://a\" = \"b\", \"~a\" = \"b\", \"\" = \"b\", a = \"b; Secure\" }\npaths = { app = \"/\", \"/$a\" = \"/\", \"/\" = 1, \"/b\" = \"$hots\" }\nflags = { a = [\"secure\", \"nosecure\"], b = \"safe\", c = 1 }",
        &[
            "3:13 bad value for `http://a` in domains of cookie_rewrite of [http] | a domain of a cookie has neither scheme nor port nor path",
            "3:31 bad value for `~a` in domains of cookie_rewrite of [http] | expressions are not here: write it as it stands in the cookie",
            "3:43 bad value for `` in domains of cookie_rewrite of [http] | write a domain, such as \"app.internal\"",
            "3:57 bad value for `a` in domains of cookie_rewrite of [http] | a `;` would begin another attribute",
            "4:11 bad value for `app` in paths of cookie_rewrite of [http] | a path begins with a slash",
            "4:22 bad value for `/$a` in paths of cookie_rewrite of [http] | it is compared as it stands in the cookie, without variables",
            "4:41 bad value for `/` in paths of cookie_rewrite of [http] | it is a whole number: write what stands in its place",
            "4:52 bad value for `/b` in paths of cookie_rewrite of [http] | `$hots` is not known: did you mean `$host`?",
            "5:26 bad flag of `a` in cookie_rewrite of [http] | another flag says the same, or the opposite: take one away",
            "5:43 bad flag of `b` in cookie_rewrite of [http] | `safe` is not known: write \"secure\", \"httponly\", \"samesite=strict\", \"samesite=lax\", \"samesite=none\", \"nosecure\", \"nohttponly\" or \"nosamesite\"",
            "5:55 bad flag of `c` in cookie_rewrite of [http] | it is a whole number: write flags such as [\"secure\", \"samesite=lax\"]",
        ],
    );
}
