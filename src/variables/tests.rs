//! Whole lookups: from the text of a request to a value in its place.

use proptest::prelude::*;

use super::tables::{Request, map, template, worth};
use super::*;
use crate::util::pattern::Pattern;

#[track_caller]
fn check(lookups: &[Lookup], encoding: Encoding, rows: &[(&str, &str)]) {
    for (value, expect) in rows {
        let found = worth(lookups, encoding, value.as_bytes());
        assert_eq!(String::from_utf8_lossy(&found), *expect, "{value:?} {encoding:?}");
    }
}

#[test]
fn a_map_looks_in_nginx_s_order() {
    let rows = [
        ("~first", "regex 1"),
        ("~*^f", "regex 2 $http_x"),
        ("First", "exact"),
        ("*.example.org", "not a wildcard"),
        ("", "empty"),
        ("\\~x", "tilde"),
        ("~^(?<a>\\d+)-(\\d+)$", "$2/$a"),
    ];
    let plain = map("one", "$http_x", false, &rows, "other $http_x");
    check(
        &[plain],
        Encoding::Text,
        &[
            ("FIRST", "exact"),
            ("first!", "regex 1"),
            ("FIRST!", "regex 2 FIRST!"),
            ("", "empty"),
            ("a.example.org", "other a.example.org"),
            ("*.EXAMPLE.org", "not a wildcard"),
            ("~x", "tilde"),
            ("12-345", "345/12"),
        ],
    );
    let rows = [
        ("a.example.org", "a"),
        ("*.example.org", "b"),
        (".other.org", "c"),
        ("www.*", "d"),
        ("~org$", "e"),
        ("x", "f"),
    ];
    check(
        &[map("one", "$host", true, &rows, "")],
        Encoding::Text,
        &[
            ("A.example.ORG", "a"),
            ("a.example.org.", "a"),
            ("b.a.example.org", "b"),
            ("example.org", "e"),
            ("other.org", "c"),
            ("a.other.org", "c"),
            ("www.example.com.", "d"),
            ("www.", ""),
            (".", ""),
            ("", ""),
        ],
    );
}

#[test]
fn lookups_are_made_of_each_other() {
    let lookups = [
        map("one", "$two", false, &[("~^(.)(.*)$", "$2$1$two")], "none"),
        map("two", "$http_x", false, &[("a", "123")], ""),
    ];
    check(&lookups, Encoding::Text, &[("a", "231123"), ("b", "none")]);
}

/// What a person wrote stays; what a client sent is encoded as it is everywhere else.
#[test]
fn values_are_fit_for_their_place() {
    let literal = |text| map("one", "$http_x", false, &[("~.", text)], "");
    check(&[literal("/new?a=1&b=%20#x y")], Encoding::Url, &[("a", "/new?a=1&b=%20#x%20y")]);
    check(&[literal("//other.test/")], Encoding::Url, &[("a", "/other.test/")]);
    check(&[literal("<b>\"")], Encoding::Html, &[("a", "&lt;b&gt;&#34;")]);
    check(&[literal("\"\\\u{e4}")], Encoding::Json, &[("a", "\\\"\\\\\u{e4}")]);
    let whole = |from| map("one", from, false, &[("~(?s)^(.*)$", "<$1>")], "");
    check(&[whole("$http_x")], Encoding::Field, &[("a\r\nSet-Cookie: b", "<a  Set-Cookie: b>")]);
    check(&[whole("$request_uri")], Encoding::Url, &[("/a%20b?c=d", "%3C/a%20b?c=d%3E")]);
    check(&[whole("$path")], Encoding::Url, &[("/a b?%", "%3C/a%20b%3F%25%3E")]);
    check(&[whole("$arg_x")], Encoding::Url, &[("a%20b?\r\n", "%3Ca%20b%3F%0D%0A%3E")]);
    check(&[whole("$http_x")], Encoding::Json, &[("\"\n", "\\u003C\\\"\\u000A>")]);
    // Compared decoded, shown encoded.
    let path = map("one", "$path", false, &[("/a b", "$path")], "no");
    check(&[path], Encoding::Field, &[("/a b", "/a%20b"), ("/a%20b", "no")]);
}

#[test]
fn geo_and_split_find_their_rows() {
    let net = |text: &str| crate::guard::networks::parse_network(text).expect("a network");
    let rows = [("10.0.0.0/8", "lan"), ("10.1.0.0/16", "lab"), ("2001:db8::/32", "six $http_x")];
    let values = Values::Geo(rows.iter().map(|(of, result)| (net(of), template(result, &[]))).collect());
    let geo = Lookup { name: "one".into(), from: template("$remote_addr", &[]), values, default: template("-", &[]) };
    check(
        &[geo],
        Encoding::Text,
        &[
            ("10.2.3.4", "lan"),
            ("10.1.3.4", "lab"),
            ("::ffff:10.1.3.4", "lab"),
            ("2001:db8::1", "six 2001:db8::1"),
            ("192.0.2.1", "-"),
            ("10.1.3.4:80", "-"),
            ("", "-"),
        ],
    );
    let rows = [("50%", "a"), ("*", "$http_x")];
    let share = |(share, result): &(&str, &str)| (Share::parse(share).expect("a share"), template(result, &[]));
    let values = Values::Split(rows.iter().map(share).collect());
    let split = Lookup { name: "one".into(), from: template("$http_x", &[]), values, default: Template::default() };
    // 0 and 0x92685f5e.
    check(&[split], Encoding::Text, &[("", "a"), ("a", "a"), ("abcd", "a"), ("127.0.0.1", "127.0.0.1")]);
}

#[test]
fn conditions_hold_as_in_nginx() {
    let holds = |left: &str, test: Test, value: &str| {
        let condition = Condition { left: template(left, &[]), test, negated: false };
        let request = Request { lookups: Lookups::default(), value: value.as_bytes() };
        let result = condition.holds(&request, &mut b"old".to_vec());
        let other = Condition { negated: true, ..condition };
        assert_eq!(other.holds(&request, &mut Vec::new()), !result);
        result
    };
    let is = |text| Test::Is(template(text, &[]));
    let matches = |text| Test::Matches(Pattern::new(text).expect("an expression"));
    for (value, expect) in [("", false), ("0", false), ("00", true), ("1", true), ("no", true)] {
        assert_eq!(holds("$http_x", Test::IsTrue, value), expect, "{value:?}");
    }
    assert!(holds("$http_x", is("a"), "a") && !holds("$http_x", is("a"), "A") && !holds("$http_x", is(""), "a"));
    assert!(holds("$http_x$http_x", is("$http_x$http_x"), "a") && holds("-$http_x", is("-a"), "a"));
    assert!(!holds("-$http_x", is("$http_x-"), "a") && holds("-$http_x", is("$http_x-"), "-"));
    assert!(holds("$http_x", matches("^b+$"), "bb") && !holds("$http_x", matches("^b+$"), "abb"));
    assert!(holds("$path", is("/a b"), "/a b"), "a path is compared decoded");
}

proptest! {
    #[test]
    fn any_value_finds_a_result(value in prop::collection::vec(any::<u8>(), 0..40)) {
        super::fuzz::value(&value);
    }
}
