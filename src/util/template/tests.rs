//! What texts mean, what is wrong with others, and that no value leaves its place.

use proptest::prelude::*;

use super::*;

/// Every variable is worth the same bytes.
struct All<'a>(&'a [u8]);

impl Variables for All<'_> {
    fn put(&self, _: &Variable, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }
}

fn captures() -> [Option<String>; 3] {
    [None, Some("year".into()), None]
}

fn scope(captures: &[Option<String>]) -> Scope<'_> {
    Scope { captures, answer: false, ..Scope::default() }
}

fn parsed(text: &str) -> Template {
    Template::parse(text, scope(&captures())).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"))
}

fn put(text: &str, encoding: Encoding, value: &[u8]) -> String {
    let mut out = b">".to_vec();
    parsed(text).put(encoding, &All(value), &mut out);
    assert_eq!(out.remove(0), b'>', "what was there is left alone");
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn texts_and_their_variables() {
    for (text, variables) in [
        ("", vec![]),
        ("plain", vec![]),
        ("$$ and $ and $-", vec![]),
        ("a$", vec![]),
        ("$host", vec![Variable::Host]),
        ("${host}name", vec![Variable::Host]),
        ("$hostname", vec![Variable::Hostname]),
        ("https://$host$path", vec![Variable::Host, Variable::Path]),
        ("$uri$is_args$args", vec![Variable::Path, Variable::IsArgs, Variable::Query]),
        ("/$1/$year/$30", vec![Variable::Capture(1), Variable::Capture(2), Variable::Capture(3)]),
        ("$http_user_agent", vec![Variable::Field("user-agent".into())]),
        ("${http_X-Real-IP}", vec![Variable::Field("x-real-ip".into())]),
        ("$arg_Page$cookie_sid", vec![Variable::Argument("Page".into()), Variable::Cookie("sid".into())]),
        ("${cookie_a-b}", vec![Variable::Cookie("a-b".into())]),
    ] {
        assert_eq!(parsed(text).variables().cloned().collect::<Vec<_>>(), variables, "{text}");
    }
    assert_eq!(put("a$$b$ $", Encoding::Text, b""), "a$b$ $");
    assert_eq!(put("<$10>", Encoding::Text, b"x"), "<x0>", "one digit");
    assert_eq!(parsed("$$5").constant(), Some("$5"));
    assert_eq!(parsed("").constant(), Some(""));
    assert_eq!(parsed("a$host").constant(), None);
    assert!(parsed("/$year").uses_captures() && !parsed("/$host").uses_captures());
    assert_eq!(parsed("https://$host").start(), "https://");
    assert!(parsed("/x?a=$1&b").contains('?') && !parsed("$query").contains('?'));
    assert!(parsed("/x/$1?").ends_with('?') && !parsed("/x?$query").ends_with('?'));
}

#[test]
fn mistakes_are_all_told_with_their_places() {
    let captures = captures();
    let mistakes = |text: &str| -> Vec<(&str, String)> {
        let Err(found) = Template::parse(text, scope(&captures)) else { panic!("{text} is good") };
        let text = text.to_owned().leak();
        found.into_iter().map(|mistake| (&text[mistake.at], mistake.kind.to_string())).collect()
    };
    let unknown = |name: &str| format!("`${name}` is not known; `$$` is a dollar");
    assert_eq!(mistakes("$hots-${pth}"), [("$hots", unknown("hots")), ("${pth}", unknown("pth"))]);
    assert_eq!(mistakes("$http_"), [("$http_", unknown("http_"))]);
    assert_eq!(mistakes("${}"), [("${}", unknown(""))]);
    assert_eq!(mistakes("${a b}"), [("${a b}", unknown("a b"))]);
    assert_eq!(mistakes("a ${host"), [("${host", "`${` has no `}`; `$$` is a dollar".into())]);
    assert_eq!(mistakes("$4"), [("$4", "`$4` does not exist: there are `$1` to `$3`".into())]);
    assert_eq!(mistakes("$0"), [("$0", "captures count from `$1`; `$path` is the whole path".into())]);
    assert_eq!(mistakes("$status"), [("$status", "`$status` is not known before the request is answered".into())]);
    let none = Template::parse("$1", Scope::default()).unwrap_err();
    assert_eq!(none[0].kind.to_string(), "there is no capture here that `$1` could be; `$$` is a dollar");
    assert!(Template::parse("$status $sent_http_etag", Scope { answer: true, ..scope(&captures) }).is_ok());
}

#[test]
fn values_are_encoded_for_their_place() {
    use Encoding::*;
    let row = |text, encoding, value: &[u8], expect: &str| assert_eq!(put(text, encoding, value), expect, "{text}");
    // RFC 9112 section 11.1
    row("$http_x", Field, b"a\r\nSet-Cookie: b\0\tc\x7f", "a  Set-Cookie: b \tc ");
    row("$1", Field, b"a\r\nb", "a  b");
    row("$path", Field, b"/a b\xff\n", "/a%20b%FF%0A");
    // Decoded text is encoded again, what was sent encoded is not encoded twice.
    row("/x$1", Url, b"/a b?c#d%e\r\n", "/x/a%20b%3Fc%23d%25e%0D%0A");
    row("$path", Url, b"/a%b/\xc3\xa4", "/a%25b/%C3%A4");
    row("?q=$query", Url, b"a=%20b&c?\r\n#\"", "?q=a=%20b&c?%0D%0A%23%22");
    row("$arg_x", Url, b"a?b#c%20d e", "a%3Fb%23c%20d%20e");
    row("https://$http_host/", Url, b"[::1]:80", "https://[::1]:80/");
    row("$cookie_a", Text, b"<&>\r\n", "<&>\r\n");
    row("$path", Text, b"/a b", "/a%20b");
    row("$path $1", Raw, b"/a b", "/a b /a b");
    row("<p>$path</p>", Html, b"/<script>'\"&", "<p>/%3Cscript%3E&#39;%22&amp;</p>");
    row("$arg_x", Html, b"<script>'\"&", "&lt;script&gt;&#39;&#34;&amp;");
    row("{\"a\":\"$arg_x\"}", Json, b"\"\\\n<\xc3\xa4", "{\"a\":\"\\\"\\\\\\u000A\\u003C\u{e4}\"}");
    row("$arg_x", Json, b"\xff", "\\u00FF");
}

/// `//evil.test` in a Location is another host.
#[test]
fn a_value_never_makes_a_url_point_elsewhere() {
    for (text, value, expect) in [
        ("$request_uri", "//evil.test/x", "/evil.test/x"),
        ("/$1", "/evil.test", "/evil.test"),
        ("$1", "///evil.test", "/evil.test"),
        ("/$1", "\\evil.test", "/%5Cevil.test"),
        ("//cdn.test$path", "/x", "//cdn.test/x"),
        ("https://a.test$path", "/x", "https://a.test/x"),
    ] {
        assert_eq!(put(text, Encoding::Url, value.as_bytes()), expect, "{text} {value}");
    }
    assert_eq!(put("$request_uri", Encoding::Field, b"//x"), "//x", "only of URLs");
}

#[test]
fn a_path_is_encoded_as_everywhere() {
    for byte in 0..=255 {
        let mut expect = Vec::new();
        crate::util::path::encode(&[byte], &mut expect);
        assert_eq!(put("$path", Encoding::Url, &[byte]).as_bytes(), expect, "{byte}");
    }
}

#[test]
fn names_are_told_once() {
    let mut names: Vec<&str> = Variable::names().chain(Variable::prefixes()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for name in Variable::names() {
        assert!(
            Template::parse(&format!("${name}"), Scope { captures: &[], answer: true, ..Scope::default() }).is_ok(),
            "{name}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_a_template_or_has_mistakes_inside(text in "(?s)(\\$[a-z_0-9{}$]{0,6}|.){0,12}") {
        match Template::parse(&text, scope(&captures())) {
            Ok(template) => {
                for encoding in [Encoding::Field, Encoding::Url, Encoding::Text, Encoding::Raw, Encoding::Html, Encoding::Json] {
                    template.put(encoding, &All(text.as_bytes()), &mut Vec::new());
                }
            }
            Err(mistakes) => {
                prop_assert!(!mistakes.is_empty());
                for mistake in mistakes {
                    prop_assert!(text[mistake.at].starts_with('$'));
                }
            }
        }
    }

    #[test]
    fn dollars_doubled_are_the_text_itself(text in "(?s)[^$]{0,10}(\\$[^$]{0,4}){0,4}") {
        let template = parsed(&text.replace('$', "$$"));
        prop_assert_eq!(template.constant(), Some(text.as_str()));
    }

    #[test]
    fn no_value_leaves_its_place(value in prop::collection::vec(any::<u8>(), 0..40)) {
        for name in ["$1", "$path", "$query", "$http_a", "$arg_b", "$request_uri"] {
            let field = put(name, Encoding::Field, &value);
            prop_assert!(!field.contains(['\r', '\n', '\0']));
            let url = put(name, Encoding::Url, &value);
            prop_assert!(url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte)), "{}", url);
            prop_assert!(!url.starts_with("//"));
            let html = put(name, Encoding::Html, &value);
            prop_assert!(!html.contains(['<', '>', '"', '\'']));
            let json = format!("\"{}\"", put(name, Encoding::Json, &value));
            prop_assert!(serde_json::from_str::<String>(&json).is_ok(), "{}", json);
        }
    }
}
