//! Variables of the config's own and conditions: what they may be, and what is told of slips.

use super::*;
use crate::variables::Values;

/// A site whose one route says this, with tables above it; the tables begin in line 1.
fn with(tables: &str, lines: &str) -> String {
    format!("{tables}\n{}", route(&format!("path = \"/\"\n{lines}")))
}

#[track_caller]
fn told(tables: &str, lines: &str, expect: &[&str]) {
    check(&with(tables, lines), expect);
}

fn config(text: &str) -> Config {
    super::config(&format!("{text}{BASE}"))
}

const OK: &str = "respond = {}";

fn warned(tables: &str, lines: &str) -> Vec<String> {
    warnings(&with(tables, lines))
}

#[test]
fn tables_become_what_they_say() {
    let text = with(
        "[map.a]\nfrom = \"$host\"\nhostnames = true\nvalues = { \"*.x.org\" = \"$b\", \"~^(?<n>.)(.)\" = \"$2$n\", z = \"\" }\n\
         [split.c]\nfrom = \"$a\"\nshares = [\"0.5% x\", \"* two words \"]\n\
         [geo.b]\nvalues = { \"10.0.0.0/8\" = \"lan\", \"::1\" = \"$http_x\" }\ndefault = \"$remote_addr\"",
        "respond = { body = \"$a $b $c\" }",
    );
    let config = config(&text);
    let names: Vec<&str> = config.lookups.iter().map(|lookup| lookup.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(matches!(&config.lookups[0].values, Values::Map { hostnames: true, values } if values.len() == 3));
    assert!(matches!(&config.lookups[1].values, Values::Geo(values) if values.len() == 2));
    let Values::Split(shares) = &config.lookups[2].values else { panic!("{:?}", config.lookups[2]) };
    assert_eq!(shares[1].1.constant(), Some("two words"));
}

#[test]
fn names_are_good_and_stand_for_one_variable() {
    let map = |name: &str| format!("[map.{name}]\nfrom = \"$host\"\nvalues = {{ a = \"b\" }}");
    let cannot = |name: &str, label: &str| format!("1:6 [map.{name}] cannot define `${name}` | {label}");
    told(&map("host"), OK, &[&cannot("host", "every request has a variable `$host`: take another name")]);
    told(&map("http_x"), OK, &[&cannot("http_x", "every request has a variable `$http_x`: take another name")]);
    told(
        &map("body_bytes_sent"),
        OK,
        &[&cannot("body_bytes_sent", "every request has a variable `$body_bytes_sent`: take another name")],
    );
    told(&map("1a"), OK, &[&cannot("1a", "`$1` is a capture: begin the name with a letter")]);
    told(&map("a-b"), OK, &[&cannot("a-b", "the name of a variable has 1 to 64 letters, digits and `_`")]);
    told(
        &format!("{}\n[geo.a]\nvalues = {{ \"::1\" = \"b\" }}", map("a")),
        OK,
        &["4:6 [map.a] and [geo.a] define the same variable | take another name"],
    );
    told(
        &map("a"),
        "respond = {}\nvariables = { a = \"x\", host = \"y\", \"b c\" = \"z\" }",
        &[
            "9:15 variables of [[site.s.route]] cannot define `$a` | a table of the file defines it: take another name",
            "9:24 variables of [[site.s.route]] cannot define `$host` | every request has a variable `$host`: take another name",
            "9:36 variables of [[site.s.route]] cannot define `$b c` | the name of a variable has 1 to 64 letters, digits and `_`",
        ],
    );
    told(
        &map("mobile"),
        "redirect = \"/$mobil\"",
        &["8:14 bad value for `redirect` in [[site.s.route]] | `$mobil` is not known: did you mean `$mobile`?"],
    );
    told(
        &format!("[log]\nformat = \"$status $mobil\"\n{}", map("mobile")),
        OK,
        &["2:19 unknown variable `$mobil` in `format` in [log] | did you mean `$mobile`?"],
    );
}

#[test]
fn slips_in_a_map() {
    let map = |lines: &str| format!("[map.m]\n{lines}");
    told(
        &map(""),
        OK,
        &[
            "1:1 missing key `from` in [map.m] | add `from`: a text",
            "1:1 missing key `values` in [map.m] | add `values`: a table such as { \"exact text\" = \"result\", \"~^regex\" = \"$1\", \"~*bot\" = \"bot\" }",
        ],
    );
    told(
        &map("from = \"x\"\nvalues = {}"),
        OK,
        &[
            "2:8 bad value for `from` in [map.m] | it has no variable: every request would be looked up as the same",
            "3:10 bad value for `values` in [map.m] | it is empty: write texts with their results, { \"text\" = \"result\" }",
        ],
    );
    told(
        &map(
            "from = \"$hosst\"\nvalues = { \"~(\" = \"x\", a = \"$1\", A = 5, \"~(b)\" = \"$2\", c = \"\\n\" }\ndefault = \"$1\"",
        ),
        OK,
        &[
            "2:9 bad value for `from` in [map.m] | `$hosst` is not known: did you mean `$host`?",
            "3:12 bad value `~(` in [map.m] | unclosed group",
            "3:29 bad value for `a` in [map.m] | there is no capture here that `$1` could be; `$$` is a dollar",
            "3:34 `A` stands twice in values of [map.m] | it says the same as an earlier one: case does not count",
            "3:38 bad value for `A` in [map.m] | it is a whole number: write a text",
            "3:51 bad value for `~(b)` in [map.m] | `$2` does not exist: there is only `$1`",
            "3:60 bad value for `c` in [map.m] | '\\n' cannot stand in a variable",
            "4:12 bad value for `default` in [map.m] | there is no capture here that `$1` could be; `$$` is a dollar",
        ],
    );
    told(
        &map("from = \"$host\"\nhostnames = true\nvalues = { \"a.*.b\" = \"x\", \".c.d\" = \"y\", \"C.D\" = \"z\" }"),
        OK,
        &[
            "4:12 bad value `a.*.b` in [map.m] | `a.*.b` is no host name: a `*` stands at the begin or the end, beside a dot, as in \"*.example.org\" or \"www.example.*\"",
            "4:41 `C.D` stands twice in values of [map.m] | it says the same as an earlier one: case does not count",
        ],
    );
    told(
        &map("from = \"$host\"\nvalues = 5"),
        OK,
        &[
            "3:10 bad value for `values` in [map.m] | it is a whole number: write texts with their results, { \"text\" = \"result\" }",
        ],
    );
    assert_eq!(
        warned(
            &map("from = \"$scheme\"\nvalues = { \"*.a.b\" = \"x\", default = \"y\", ftp = \"z\", http = \"1\" }"),
            OK
        ),
        [
            "`*.a.b` in values of [map.m] is unlikely to match",
            "`default` in values of [map.m] is unlikely to match",
            "`ftp` in values of [map.m] is unlikely to match"
        ]
    );
}

/// A table does not hide that a client may make links that seem to lead here.
#[test]
fn a_redirect_that_the_client_chooses_is_told() {
    let tables = |from: &str, result: &str| {
        format!(
            "[map.m]\nfrom = \"{from}\"\nvalues = {{ \"~^(.*)$\" = \"{result}\" }}\n\
             [map.outer]\nfrom = \"$host\"\nvalues = {{ a = \"$m\" }}"
        )
    };
    let told = ["the client chooses where a redirect of [[site.s.route]] leads"];
    for (from, result, to, expect) in [
        ("$arg_to", "$1", "$m", &told[..]),
        ("$host", "$arg_to", "$outer", &told),
        ("$arg_to", "$1", "https://$m/", &told),
        ("$arg_to", "/to/$1", "$m", &[]),
        ("$path", "$1", "$m", &[]),
        ("$arg_to", "$1", "/$m", &[]),
    ] {
        assert_eq!(warned(&tables(from, result), &format!("redirect = \"{to}\"")), expect, "{from} {result} {to}");
    }
    super::check(&with(&tables("$path", "$1"), "rewrite = \"$m\""), &[]);
}

#[test]
fn slips_in_geo_and_split() {
    told(
        "[geo.g]\nvalues = { \"10.0.0.1/8\" = \"a\", default = \"b\", \"::ffff:10.0.0.0/104\" = \"c\", \"10.0.0.0/8\" = \"d\" }",
        OK,
        &[
            "2:12 bad value `10.0.0.1/8` in [geo.g] | 10.0.0.1/8 has host bits set: write 10.0.0.0/8",
            "2:32 bad value `default` in [geo.g] | write `default = \"…\"` beside `values`",
            "2:76 `10.0.0.0/8` stands twice in values of [geo.g] | it is the same network as an earlier one",
        ],
    );
    told(
        "[split.s]\nfrom = \"$host\"\nshares = [\"60% a\", \"60% b\", \"0% c\", \"* $1\", \"5% d\"]",
        OK,
        &[
            "3:20 bad value `60% b` in [split.s] | the shares are more than 100% together",
            "3:29 bad value `0% c` in [split.s] | a share of nothing is never chosen: take it away",
            "3:40 bad value `* $1` in [split.s] | there is no capture here that `$1` could be; `$$` is a dollar",
            "3:45 `5% d` in [split.s] is never reached | `*` takes all that is left: write it last",
        ],
    );
}

#[test]
fn no_variable_is_made_of_itself() {
    let map = |name: &str, from: &str, result: &str| {
        format!("[map.{name}]\nfrom = \"{from}\"\nvalues = {{ a = \"{result}\" }}\n")
    };
    told(
        &(map("a", "$b", "x") + &map("b", "$host", "$c") + &map("c", "$host$a", "x") + &map("d", "$a", "x")),
        OK,
        &["1:6 `$a` in [map.a] is made of itself | `$a` is made of `$b` is made of `$c` is made of `$a`"],
    );
    let set = |http: &str, lines: &str, expect: &[&str]| {
        let text = format!("[http]\nvariables = {{ {http} }}\n{}", map("m", "$a", "x"));
        told(&text, &format!("{OK}\n{lines}"), expect);
    };
    set("a = \"$a\"", "", &["2:15 `$a` in variables of [http] is made of itself | `$a` is made of `$a`"]);
    set(
        "a = \"$m\"",
        "",
        &["2:15 `$a` in variables of [http] is made of itself | `$a` is made of `$m` is made of `$a`"],
    );
    set(
        "a = \"$b\", b = \"x\"",
        "variables = { b = \"$a\" }",
        &["12:15 `$a` in variables of [[site.s.route]] is made of itself | `$a` is made of `$b` is made of `$a`"],
    );
    let mut many = map("v0", "$host", "x");
    for at in 1..8 {
        let before = format!("$v{}", at - 1);
        many += &map(&format!("v{at}"), &format!("{before}{before}"), "x");
    }
    let heavy = |number| {
        let line = 3 * number + 1;
        format!(
            "{line}:6 `$v{number}` in [map.v{number}] is made of too many variables | at most 100 may be looked up for one"
        )
    };
    told(&many, OK, &[&heavy(6), &heavy(7)]);
}

#[test]
fn what_is_set_must_be_there_where_it_is_used() {
    let two = |http: &str, used: &str| {
        format!(
            "{http}\n[map.m]\nfrom = \"$host\"\nvalues = {{ a = \"b\" }}\n[site.s]\nlisteners = [\"base\"]\nroute = [\n\
             {{ path = \"/a\", variables = {{ a = \"1\" }}, redirect = \"/$a\" }},\n{used},\n]\n"
        )
    };
    let label = "`$a` is set in `variables` of another place alone: set it in [http] too, for all others";
    let redirect = "{ path = \"/b\", redirect = \"/$a\" }";
    check(&two("", redirect), &[&format!("9:29 bad value for `redirect` in [[site.s.route]] | {label}")]);
    check(&two("[http]\nvariables.a = \"0\"", redirect), &[]);
    let when = "{ path = \"/b\", when = \"$a\", variables = { a = \"2\" }, respond = {} }";
    check(&two("", when), &[&format!("9:24 bad condition in `when` of [[site.s.route]] | {label}")]);
    check(
        &two("[log]\nformat = \"$status $a\"", "{ path = \"/b\", respond = {} }"),
        &[
            "2:19 unknown variable `$a` in `format` in [log] | it is set in `variables` of a site or route alone: set it in [http] too, for all others",
        ],
    );
    let config = config(&with(
        "[http]\nvariables = { a = \"http\", b = \"$a\" }",
        "respond = { body = \"$a $b $c\" }\nvariables = { a = \"route\", c = \"$1\" }",
    ));
    let route = &config.sites[0].routes[0];
    assert_eq!(route.options.variables.names().len(), 3);
    assert!(route.uses_captures() && !config.http.options.use_captures());
}

#[test]
fn conditions_and_their_slips() {
    let when = |text: &str| format!("{OK}\nwhen = {text}");
    let good = "['$http_a', '!$arg_b', '$host = \"a b\"', '$1 != $host', '$path ~ \\.php$', '$http_a !~* \"x|y\"']";
    assert_eq!(config(&with("", &when(good))).sites[0].routes[0].conditions.len(), 6);
    let bad = |text: &str, column: usize, label: &str| {
        told("", &when(text), &[&format!("7:{column} bad condition in `when` of [[site.s.route]] | {label}")]);
    };
    bad("'$hosst = a'", 9, "`$hosst` is not known: did you mean `$host`?");
    bad("'$host = $hosst'", 17, "`$hosst` is not known: did you mean `$host`?");
    bad("['$host', '$host ~ (']", 18, "unclosed group");
    bad("'a = b'", 8, "it has no variable on the left: it is always the same");
    bad("'$host=b'", 8, "write one variable, or an operator with spaces around it, for example \"$name = text\"");
    bad("'$host == b'", 8, "`==` is no operator: write =, !=, ~, ~*, !~ or !~*");
    bad("'($host = b)'", 8, "write it without the brackets around it");
    bad("'-f $path'", 8, "`-f` is not known here: `try` of `files` looks for files");
    bad("'$status = 200'", 9, "`$status` is not known before the request is answered");
    bad("'$2'", 9, "`$2` does not exist: there is only `$1`");
    let map = "[map.late]\nfrom = \"$sent_http_x\"\nvalues = { a = \"b\" }\n[map.later]\nfrom = \"$late\"\nvalues = { a = \"b\" }";
    let lines = "respond = {}\nwhen = '$later'\nheaders = { set = { X = \"$later\" } }\nlog_access = '$later = b'";
    told(
        map,
        lines,
        &["12:9 bad condition in `when` of [[site.s.route]] | `$later` is not known before the request is answered"],
    );
    assert_eq!(warned("", &when("'$scheme = HTTP'")), ["a condition in [[site.s.route]] never changes"]);
}

#[test]
fn logging_may_depend_on_the_answer() {
    let options = |line: &str| {
        let config = config(&with("", &format!("{OK}\n{line}")));
        let options = &config.sites[0].routes[0].options;
        (options.log_access, options.log_conditions.len())
    };
    assert_eq!(options(""), (true, 0));
    assert_eq!(options("log_access = false"), (false, 0));
    assert_eq!(options("log_access = '$status != 200'"), (true, 1));
    assert_eq!(options("log_access = ['$status ~ ^5', '$request_method = POST']"), (true, 2));
    let bad = |text: &str, label: &str| {
        told(
            "",
            &format!("{OK}\nlog_access = {text}"),
            &[&format!("7:14 bad value for `log_access` in [[site.s.route]] | {label}")],
        );
    };
    bad("5", "it is a whole number: write true, false, or a condition such as \"$status != 200\"");
    bad("[]", "it is a list: write true, false, or a condition such as \"$status != 200\"");
}

#[test]
fn routes_may_share_a_path_and_differ_in_when() {
    let two = |first: &str, second: &str| {
        format!(
            "[site.s]\nlisteners = [\"base\"]\nroute = [\n{{ path = \"/a\", {first} respond = {{}} }},\n\
             {{ path = \"/a\", {second} respond = {{}} }},\n]\n"
        )
    };
    check(&two("when = '$http_a',", ""), &[]);
    check(&two("when = '$http_a',", "when = '$http_b',"), &[]);
    let never = "5:10 [site.s] has two routes with path = \"/a\" | this one would never be reached";
    check(&two("when = '$http_a',", "when = '$http_a',"), &[never]);
    check(&two("", "when = '$http_a',"), &[never]);
}
