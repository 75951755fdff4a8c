//! Every diagnostic: its place, what it says, what it advises. Here those about a whole file, in the files beside by table.

mod actions;
mod apps;
mod listeners;
mod log;
mod routes;
mod sites;
mod upstreams;
mod values;

use super::*;

#[test]
fn unknown_keys_and_tables() {
    check(
        "[http]\nheader_timeot = \"1s\"",
        &[
            "2:1 unknown key `header_timeot` in [http] | did you mean `header_timeout`? it takes a duration, for example \"30s\"",
        ],
    );
    check(
        "[http]\nclient_max_body_size = \"1m\"",
        &[
            "2:1 unknown key `client_max_body_size` in [http] | what nginx calls so is `body_max` here; it takes a size, for example \"64KiB\"",
        ],
    );
    check("[http]\nbacklog = 5", &["2:1 unknown key `backlog` in [http] | `backlog` belongs in [process]"]);
    check(
        "[http]\nmaxconn = 5",
        &[
            "2:1 unknown key `maxconn` in [http] | what haproxy calls so is `connections_max` in [process]; it takes a number from 16 to 16000000",
        ],
    );
    check(
        "[process]\nnosplice = true\npipes_max = 70000",
        &[
            "2:1 unknown key `nosplice` in [process] | what haproxy calls so is `pipes_max` here; it takes a number from 0 to 65536",
            "3:13 bad value for `pipes_max` in [process] | 70000 is too large: the most is 65536",
        ],
    );
    check("[admin]\nport = 5", &["2:1 unknown key `port` in [admin] | the keys here are `address`, `trace`"]);
    check(
        "[http]\ntimeut = \"5s\"",
        &[
            "2:1 unknown key `timeut` in [http] | did you mean `header_timeout` or `body_timeout` or `write_timeout` or `keep_alive_timeout` or `keep_alive_time`?",
        ],
    );
    check("[htpp]\nbody_max = 5", &["1:2 unknown table [htpp] | did you mean [http]?"]);
    check("[upstreams.api]\nx = 5", &["1:2 unknown table [upstreams] | did you mean [upstream.NAME]?"]);
    check(
        "[tls]",
        &[
            "1:2 unknown table [tls] | the tables are [process], [http], [http2], [http3], [listener.NAME], [limit.NAME], [site.NAME], [upstream.NAME], [resolver], [app.NAME], [map.NAME], [geo.NAME], [split.NAME], [mysql.NAME], [admin], [log]",
        ],
    );
    check("body_max = 5", &["1:1 key `body_max` stands outside of a table | `body_max` belongs in [http]"]);
    check(
        "whatever = 5",
        &["1:1 key `whatever` stands outside of a table | every key stands in a table, such as [http] or [site.main]"],
    );
}

#[test]
fn tables_of_the_wrong_shape() {
    check("http = 5", &["1:8 [http] is not a table | it is a whole number, but must be a table: [http]"]);
    check("[[http]]", &["1:1 [http] is not a table | write it once, with single brackets: [http]"]);
    check("upstream = 5", &["1:1 [upstream] is not a table of tables | give it a name: [upstream.main]"]);
    check(
        "[upstream]\nservers = [\"1.1.1.1:1\"]",
        &["1:1 [upstream] has no name | give it one, for example [upstream.main]"],
    );
    check("[[upstream.a]]", &["1:1 [upstream.a] is not a table | write it once, with single brackets: [upstream.a]"]);
    check(
        "[app.\"a b\"]\nprogram = \"echo\"",
        &["1:6 bad name in [app.NAME] | a name has 1 to 64 letters, digits, `-`, `_` and `.`"],
    );
}

/// A misspelt key is not missing as well.
#[test]
fn one_slip_is_one_mistake() {
    check(
        "[site.s]\n[[site.s.routes]]\npath = \"/\"",
        &[
            "2:10 unknown key `routes` in [site.s] | did you mean `route`? it takes tables, each written as [[site.NAME.route]]",
        ],
    );
    check_route(
        "pth = \"/\"\nrespond = {}",
        &[
            "4:1 unknown key `pth` in [[site.s.route]] | did you mean `path`? it takes a path that begins with `/`, for example \"/healthz\"",
        ],
    );
    let splitter = "listen = \"127.0.0.1:3307\"\nprimary = \"127.0.0.1:3306\"\nuser = \"u\"\npasword = \"p\"";
    check(
        &format!("[mysql.m]\n{splitter}"),
        &["5:1 unknown key `pasword` in [mysql.m] | did you mean `password`? it takes a text"],
    );
    check(
        "[listener.l]\nadress = \"127.0.0.1:1\"\n[site.l]\nhosts = \"l.invalid\"\n[[site.l.route]]\npath = \"/\"\nrespond = {}",
        &[
            "2:1 unknown key `adress` in [listener.l] | did you mean `address`? it takes an address, for example \"0.0.0.0:8080\"",
        ],
    );
}

#[test]
fn what_is_not_toml() {
    assert_eq!(problems("[http\nx = 1"), ["1:6 this is not TOML | unclosed table, expected `]`"]);
    assert_eq!(problems("[http]\nbody_max = \n"), ["2:12 this is not TOML | the value is missing"]);
    let report = parse("site.toml", "[http]\nbody_timeout = 30s\n", &[]).expect_err("not TOML").to_string();
    assert!(report.contains("texts, addresses, durations and sizes stand in quotes"), "{report}");
    let report = parse("site.conf", "server {\n  listen 80;\n}\n", &[]).expect_err("not TOML").to_string();
    assert!(report.contains("looks like nginx or HAProxy syntax"), "{report}");
    let twice = problems("[http]\nbody_max = 1\nbody_max = 2\n");
    assert_eq!(twice.len(), 1);
    assert!(twice[0].starts_with("3:1 this is not TOML | duplicate key"), "{twice:?}");
}

/// All mistakes of a file at once, in the form a person sees.
#[test]
fn a_file_with_twelve_mistakes() {
    let report = parse("site.toml", include_str!("../data/twelve.toml"), PROGRAMS).expect_err("it has mistakes");
    assert_eq!(report.count(), 12);
    let expect = include_str!("../data/twelve.txt");
    assert_eq!(report.render(false), expect, "\n{}", report.render(false));
    assert!(report.render(true).contains("\u{1b}["), "colours for a terminal");
    assert!(!format!("{report:?}").contains("localhost"), "a debug print must not hold the file");
}

#[test]
fn more_mistakes_than_anyone_reads() {
    let text: String =
        std::iter::once("[http]\n".to_owned()).chain((0..80).map(|n| format!("zz{n:03} = 1\n"))).collect();
    let report = parse("site.toml", &format!("{text}{BASE}"), &[]).expect_err("80 mistakes").to_string();
    assert!(report.contains("error: 30 more are not shown\n\nsite.toml: 80 mistakes"), "{report}");
}
