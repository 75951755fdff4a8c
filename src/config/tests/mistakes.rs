//! Every diagnostic: its place, what it says, what it advises.

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

#[test]
fn wrong_types() {
    let bad = |key: &str, label: &str| format!("2:{} bad value for `{key}` in [http] | {label}", key.len() + 4);
    for (line, key, label) in [
        ("body_max = true", "body_max", "it is `true`, but the key takes a size, for example \"64KiB\""),
        (
            "body_max = 1.5",
            "body_max",
            "it is a number with a fraction, but the key takes a size, for example \"64KiB\"",
        ),
        ("headers_max = [1]", "headers_max", "it is a list, but the key takes a number from 1 to 1024"),
        ("headers_max = { a = 1 }", "headers_max", "it is a table, but the key takes a number from 1 to 1024"),
        (
            "body_timeout = 1979-05-27",
            "body_timeout",
            "it is a date or time, but the key takes a duration, for example \"30s\"",
        ),
        ("server_name = 5", "server_name", "it is a number, but the key takes a text of visible ASCII characters"),
        (
            "server_name = \"a\\nb\"",
            "server_name",
            "'\\n' cannot stand in a header field: write visible ASCII characters",
        ),
    ] {
        check(&format!("[http]\n{line}"), &[&bad(key, label)]);
    }
    check(
        "[admin]\naddress = true",
        &[
            "2:11 bad value for `address` in [admin] | it is `true`, but the key takes an address, for example \"127.0.0.1:9900\", or \"off\"",
        ],
    );
}

#[test]
fn bad_durations_and_sizes() {
    let value = |table: &str, key: &str, value: &str, label: &str| {
        let expect = format!("2:{} bad value for `{key}` in [{table}] | {label}", key.len() + 4);
        check(&format!("[{table}]\n{key} = {value}"), &[&expect]);
    };
    let duration = |text: &str, label: &str| value("http", "body_timeout", text, label);
    duration("30", "`30` has no unit: write \"30s\" for seconds or \"30ms\" for milliseconds");
    duration("\"30\"", "`30` has no unit: write \"30s\" for seconds or \"30ms\" for milliseconds");
    duration("\"30 sec\"", "`sec` is not a unit of time: did you mean \"30s\"?");
    duration("\"1.5s\"", "`1.5s` has a fraction: write it as a whole number of a smaller unit, for example \"1500ms\"");
    duration("\"soon\"", "`soon` is not a duration: write a number and one of us, ms, s, m, h, d, for example \"30s\"");
    duration("\"30x\"", "`30x` is not a duration: write a number and one of us, ms, s, m, h, d, for example \"30s\"");
    duration("\"0s\"", "0s is too small: the least is 1ms");
    duration("\"2d\"", "2d is too large: the most is 1d");
    duration("\"99999999999999999999d\"", "`99999999999999999999d` is too large");
    let size = |text: &str, label: &str| value("http", "head_max", text, label);
    size("\"8k\"", "`k` is not a unit: write \"8KiB\" (steps of 1024) or \"8kB\" (steps of 1000)");
    size("\"1m\"", "`m` is not a unit: write \"1MiB\" (steps of 1024) or \"1MB\" (steps of 1000)");
    size("\"8 parsec\"", "`8 parsec` is not a size: the units are B, KiB, MiB, GiB (1024) and kB, MB, GB (1000)");
    size("\"big\"", "`big` is not a size: write a number of bytes, or a unit with it, for example \"64KiB\"");
    size("-1", "`-1` is below zero");
    size("1", "1 is too small: the least is 1KiB");
    size("\"2MiB\"", "2MiB is too large: the most is 1MiB");
    value("process", "backlog", "0", "0 is too small: the least is 1");
    value("process", "backlog", "\"many\"", "`many` is not a whole number");
    value("process", "backlog", "\"-5\"", "`-5` is below zero");
    value("process", "backlog", "\"99999999999999999999\"", "`99999999999999999999` is too large");
}

#[test]
fn bad_words_cores_addresses() {
    let process = |line: &str, label: &str| {
        let key = line.split(' ').next().unwrap_or_default();
        let expect = format!("2:{} bad value for `{key}` in [process] | {label}", key.len() + 4);
        check(&format!("[process]\n{line}"), &[&expect]);
    };
    process("driver = \"iouring\"", "`iouring` is not known: did you mean \"io-uring\"?");
    process("driver = \"kqueue\"", "`kqueue` is not known: write \"auto\", \"io-uring\" or \"epoll\"");
    process("data_cores = \"a\"", "`a` is not a core: write numbers and ranges, for example \"0,2-5\", or \"auto\"");
    process("data_cores = \"5-2\"", "the range 5-2 runs backwards: write \"2-5\"");
    let shared = warnings("[process]\ndata_cores = \"0,1,0\"\n");
    assert_eq!(shared, ["core 0 is named several times in `data_cores`"]);
    process("data_cores = \"0-99999\"", "core 99999 is too large: the most is 8191");
    process("data_cores = \"\"", "`` is not a core: write numbers and ranges, for example \"0,2-5\", or \"auto\"");
    let address = |text: &str, label: &str| {
        check(
            &format!("[admin]\naddress = \"{text}\""),
            &[&format!("2:11 bad value for `address` in [admin] | {label}")],
        );
    };
    address(
        "8080",
        "the IP address is missing: write \"0.0.0.0:8080\" for every interface or \"127.0.0.1:8080\" for this machine only",
    );
    address(
        "*:8080",
        "the IP address is missing: write \"0.0.0.0:8080\" for every interface or \"127.0.0.1:8080\" for this machine only",
    );
    address("localhost:1", "names are not resolved: write \"127.0.0.1:1\"");
    address(
        "api.internal:1",
        "names are not resolved: write the IP address of `api.internal`, for example \"10.0.0.7:1\"",
    );
    address("10.0.0.1", "the port is missing: write \"10.0.0.1:80\" with the port you mean");
    address("::1", "the port is missing: write \"[::1]:80\" with the port you mean");
    address("10.0.0.1:99999", "`99999` is not a port: write 0 to 65535");
    address("http://10.0.0.1:80/", "an address has no scheme: write \"10.0.0.1:80\"");
    address("unix:/run/a", "a Unix socket cannot be used here: write IP:PORT");
    address("", "`` is not an address: write IP:PORT or [IPv6]:PORT, for example \"127.0.0.1:8080\"");
    check(
        "[log]\naccess = \"stderr\"",
        &[
            "2:10 bad value for `access` in [log] | the access log goes to \"stdout\", a file, or \"off\"; stderr carries the server's own messages",
        ],
    );
}

#[test]
fn limits_that_contradict_each_other() {
    check(
        "[process]\nread_buffer = \"64KiB\"",
        &[
            "2:15 `read_buffer` (65536 bytes) is larger than `head_max` (16384 bytes) | make it smaller, or head_max in [http] larger: a head that fits the first buffer must be allowed",
        ],
    );
    assert_eq!(warnings("[process]\nfile_cache = \"32KiB\""), ["`file_cache_file_max` is larger than `file_cache`"]);
    assert!(warnings("[process]\nfile_cache = 0").is_empty());
}

#[test]
fn listeners() {
    check(
        "[listener.a]",
        &[
            "1:1 missing key `address` in [listener.a] | add `address`: an address, for example \"0.0.0.0:8080\"",
            "1:11 no site is reached through [listener.a] | add a [site.NAME], or name this listener in the `listeners` of one",
        ],
    );
    let two = "[listener.a]\naddress = \"127.0.0.1:80\"\n[listener.b]\naddress = \"127.0.0.1:80\"\n[site.s]\nhosts=\"s.invalid\"\n[[site.s.route]]\npath = \"/\"\nproxy = \"u\"\n[upstream.u]\nservers = \"10.0.0.1:1\"";
    check(two, &["4:11 127.0.0.1:80 is used twice, in [listener.a] and [listener.b] | take another address or port"]);
    let admin = "[admin]\naddress = \"10.0.0.1:80\"\n[mysql.m]\nlisten = \"10.0.0.1:80\"\nprimary = \"10.0.0.1:3306\"\nuser = \"u\"\npassword = \"p\"";
    check(admin, &["2:11 10.0.0.1:80 is used twice, in [mysql.m] and [admin] | take another address or port"]);
    let control = "[process]\ncontrol = \"/run/one.sock\"\n[mysql.m]\nlisten = \"unix:/run/one.sock\"\nprimary = \"10.0.0.1:3306\"\nuser = \"u\"\npassword = \"p\"";
    check(
        control,
        &[
            "0:0 unix:/run/one.sock is used twice, in [mysql.m] and `control` of [process] | take another address or port",
        ],
    );
    let stats = "[process]\ncontrol = \"/run/one.sock\"\nstats_socket = \"/run/one.sock\"";
    check(
        stats,
        &[
            "0:0 unix:/run/one.sock is used twice, in `control` of [process] and `stats_socket` of [process] | take another address or port",
        ],
    );
    let bad = |mode: &str| format!("[process]\nstats_socket = \"/run/one.sock\"\nstats_socket_mode = \"{mode}\"");
    for mode in ["rw", "66", "0888", "1777", "7777", "00660", "-600"] {
        let problem =
            "3:21 bad value for `stats_socket_mode` in [process] | write permissions in octal, for example \"660\"";
        check(&bad(mode), &[problem]);
    }
    check(&bad("0660"), &[]);
    let for_all = format!("{}\nstats_socket_level = \"admin\"", bad("666"));
    let warned = warnings(&for_all);
    assert!(warned[0].contains("everybody on this machine may change servers through `stats_socket`"), "{warned:?}");
    assert!(warnings(&bad("666")).is_empty(), "who only looks");
    check(
        "[process]\nstats_socket_mode = \"600\"\nstats_socket_level = \"admin\"",
        &[
            "2:21 bad value for `stats_socket_mode` in [process] | add `stats_socket`: it is about that one",
            "3:22 bad value for `stats_socket_level` in [process] | add `stats_socket`: it is about that one",
        ],
    );
    // Port 0 is a different one each time.
    check("[admin]\naddress = \"127.0.0.1:0\"", &[]);
    assert_eq!(
        problems(""),
        [
            "0:0 the file starts nothing | add a [listener.NAME] with an `address` and a [site.NAME] with a route, or a [mysql.NAME]"
        ]
    );
    assert_eq!(
        problems("[site.s]\n[[site.s.route]]\npath=\"/\"\nrespond={}"),
        [
            "0:0 the file starts nothing | add a [listener.NAME] with an `address` and a [site.NAME] with a route, or a [mysql.NAME]",
            "1:1 [site.s] is reached through no listener | add a [listener.NAME] with an `address`",
        ]
    );
}

#[test]
fn hosts() {
    let host = |text: &str, label: &str| {
        let site = format!("[site.s]\nhosts = [\"{text}\"]\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}");
        check(&site, &[&format!("2:10 bad host in [site.s] | {label}")]);
    };
    host("example.org:80", "a host is written without a port: \"example.org\"; the port belongs to a [listener.NAME]");
    host("https://example.org/x", "a host has no scheme: write \"example.org\"");
    host("www.*.org", "`*` stands alone, at the beginning, or at the end: \"*.example.org\", \"www.example.*\"");
    host("a..b", "`a..b` is not a host name: write one such as \"example.org\" or \"*.example.org\"");
    host("bücher.example", "write an international name in its ASCII form, which begins with `xn--`");
    host("[::1]:80", "an IPv6 address as host is written \"[::1]\", without a port");
    let sites = |first: &str, second: &str| {
        format!(
            "[site.a]\nhosts = {first}\n[[site.a.route]]\npath = \"/\"\nrespond = {{}}\n[site.b]\nhosts = {second}\n[[site.b.route]]\npath = \"/\"\nrespond = {{}}"
        )
    };
    let twice = |name: &str| {
        format!(
            "7:9 host \"{name}\" belongs to two sites of [listener.base]: a and b | give each site names of its own, or other listeners"
        )
    };
    check(&sites("\"x.org\"", "\"X.ORG.\""), &[&twice("x.org")]);
    check(&sites("\"*.x.org\"", "\"*.x.org\""), &[&twice("*.x.org")]);
    check(&sites("\"*\"", "\"*\""), &[&twice("*")]);
    check(&sites("\"x.org\"", "\"y.org\""), &[]);
    check(&sites("[\"x.org\", \"x.org\"]", "\"y.org\""), &["2:19 a host stands twice in [site.a] | take it away"]);
    check(
        &sites("[]", "\"y.org\""),
        &["2:9 bad value for `hosts` in [site.a] | it is empty: write the names, or \"*\" for any"],
    );
    check(
        &sites("\"x.org\"\ndefault = true", "\"y.org\"\ndefault = true"),
        &["9:11 two sites of [listener.base] are the default | keep `default = true` in one of them"],
    );
    // The same name on another listener is another site.
    let apart = "[listener.o]\naddress = \"127.0.0.1:1\"\n[site.o]\nhosts = \"base.invalid\"\nlisteners = [\"o\"]\n[[site.o.route]]\npath = \"/\"\nrespond = {}";
    check(apart, &[]);
}

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
fn actions() {
    check_route(
        "path = \"/\"\nfiles = {}",
        &["5:9 missing key `root` in files of [[site.s.route]] | add `root`: a path, for example \"/var/www/html\""],
    );
    check_route(
        "path = \"/\"\nfiles = 5",
        &[
            "5:9 bad value for `files` in [[site.s.route]] | it is a whole number, but the key takes a folder, or a table such as { root = \"/var/www/html\" }",
        ],
    );
    check_route("path = \"/\"\nfiles = \"\"", &["5:9 bad value for `files` in [[site.s.route]] | the path is empty"]);
    check_route(
        "path = \"/\"\nfiles = { root = \"/x\", index = [\"a/b\"] }",
        &["5:33 bad index in files of [[site.s.route]] | write the name of a file, without a folder"],
    );
    check_route(
        "path = \"/\"\nfiles = { root = \"/x\", fallback = \"x\" }",
        &["5:35 bad value for `fallback` in files of [[site.s.route]] | a path begins with `/`: write \"/x\""],
    );
    check_route(
        "path = \"/\"\nredirect = {}",
        &["5:12 missing key `to` in redirect of [[site.s.route]] | add `to`: a text of visible ASCII characters"],
    );
    check_route(
        "path = \"/\"\nredirect = { to = \"/x\", status = 304 }",
        &[
            "5:34 bad value for `status` in redirect of [[site.s.route]] | 304 is not a redirect: write 301, 302, 303, 307 or 308",
        ],
    );
    check_route(
        "path = \"/\"\nredirect = \"example.org\"",
        &[
            "5:12 bad value for `redirect` in [[site.s.route]] | `example.org` is no target: write \"https://host/path\", \"/path\" or \"https://host$path\"",
        ],
    );
    check_route(
        "path = \"/\"\nredirect = \"/a\\r\\nSet-Cookie: x\"",
        &[
            "5:12 bad value for `redirect` in [[site.s.route]] | '\\r' cannot stand in a header field: write visible ASCII characters",
        ],
    );
    check_route(
        "path = \"/\"\nredirect = { to = \"https://x.org$colour\" }",
        &["5:33 bad value for `to` in redirect of [[site.s.route]] | `$colour` is not known; `$$` is a dollar"],
    );
    check_route(
        "path = \"/\"\nredirect = { to = \"https://x.org$pth\" }",
        &["5:33 bad value for `to` in redirect of [[site.s.route]] | `$pth` is not known: did you mean `$path`?"],
    );
    check_route(
        "path = \"/\"\nredirect = { to = \"/a b\" }",
        &["5:19 bad value for `to` in redirect of [[site.s.route]] | a target has no spaces: write %20"],
    );
    check_route(
        "path = \"/\"\nrespond = \"ok\"",
        &["5:11 bad value for `respond` in [[site.s.route]] | write a table, such as { status = 200, body = \"ok\" }"],
    );
    check_route(
        "path = \"/\"\nrespond = { status = 204, body = \"x\" }",
        &[
            "5:34 bad value for `body` in respond of [[site.s.route]] | an answer with status 204 has no body: take it away or change the status",
        ],
    );
    check_route(
        "path = \"/\"\nrespond = { status = 101 }",
        &["5:22 bad value for `status` in respond of [[site.s.route]] | 101 is too small: the least is 200"],
    );
    assert_eq!(
        warnings(&route("path = \"/a/\"\nfiles = { root = \"/x\", strip_prefix = \"/b\" }")),
        ["`strip_prefix` of a [[site.s.route]] never matches"]
    );
}

#[test]
fn files_tables() {
    let check = |lines: &str, expect: &str| {
        let text = route(&format!("path = \"/\"\n[site.s.route.files]\nroot = \"/x\"\n{lines}"));
        super::check(&text, &[format!("7:{expect}").as_str()]);
    };
    let title = |key: &str| format!("bad {key} in files of [[site.s.route]]");
    let entry = |lines: &str, column: u32, key: &str, label: &str| {
        check(lines, &format!("{column} {} | {label}", title(key)));
    };
    entry(
        "try = [\"$path\", \"=200\"]",
        17,
        "try",
        "`=200` is no status: write \"=404\", or another number from 400 to 599",
    );
    entry("try = [\"=404\", \"$path\"]", 8, "try", "a status is the end: put it last");
    entry("try = [\"$uri\"]", 8, "try", "`$uri` is not known: the path is called $path here");
    entry("try = [\"$path$query\"]", 8, "try", "`$query` is not known: there is only $path, once");
    entry("try = [\"index.html\"]", 8, "try", "a path begins with `/` or `$path`: write \"/index.html\"");
    entry("try = [\"/a/../b\"]", 8, "try", "write a plain path, without `.` and `..`");
    entry("try = [\"$path..\"]", 8, "try", "write a plain path, without `.` and `..`");
    entry("precompressed = [\"br\", \"gzip\", \"br\"]", 32, "precompressed", "it is named twice");
    entry(
        "types = { \".wasm\" = \"application/wasm\" }",
        21,
        "types",
        "`.wasm` is no extension: write what follows the last dot, for example `wasm`",
    );
    entry(
        "types = { a = \"text\" }",
        15,
        "types",
        "`text` is no media type: write type/subtype, for example \"application/wasm\"",
    );
    entry(
        "types = { a = \"text/html; charset=x\" }",
        15,
        "types",
        "write the type without parameters; `charset` adds that one",
    );
    entry("types = { a = \"text/a\", A = \"text/b\" }", 29, "types", "`a` is named twice");
    entry("charset_types = [\"text\"]", 18, "charset_types", "write a type, `type/*` or `*+suffix`");
    let value = |lines: &str, column: u32, key: &str, label: &str| {
        check(lines, &format!("{column} bad value for `{key}` in files of [[site.s.route]] | {label}"));
    };
    value(
        "types = \"a\"",
        9,
        "types",
        "it is a text, but the key takes a table of extensions such as { wasm = \"application/wasm\" }",
    );
    value(
        "precompressed = [\"deflate\"]",
        18,
        "precompressed",
        "`deflate` is not known: write \"br\", \"zstd\" or \"gzip\"",
    );
    value("listing = \"on\"", 11, "listing", "`on` is not known: write \"off\", \"html\", \"json\" or \"auto\"");
    value("charset = \"utf 8\"", 11, "charset", "`utf 8` is no charset: write one word, for example \"utf-8\"");
    value(
        "default_type = \"plain\"",
        16,
        "default_type",
        "`plain` is no media type: write type/subtype, for example \"application/wasm\"",
    );
}

#[test]
fn choosing_a_server() {
    let check = |lines: &str, expect: &[&str]| {
        check(&upstream(&format!("servers = [\"1.1.1.1:1\", \"1.1.1.2:1\"]\n{lines}")), expect)
    };
    check(
        "balance = \"random\"",
        &[
            "8:11 bad value for `balance` in [upstream.u] | `random` is not known: write \"random-two\", \"round-robin\", \"least-conn\", \"least-time\" or \"first\"",
        ],
    );
    check(
        "hash = \"path\"",
        &[
            "8:8 bad value for `hash` in [upstream.u] | it has no variable: all requests would go to one server. Write such as \"$remote_addr\"",
        ],
    );
    check(
        "hash = \"$remot_addr\"",
        &["8:9 bad value for `hash` in [upstream.u] | `$remot_addr` is not known: did you mean `$remote_addr`?"],
    );
    check(
        "hash = { load_max = 100 }",
        &[
            "8:8 missing key `key` in hash of [upstream.u] | add `key`: a text",
            "8:21 bad value for `load_max` in hash of [upstream.u] | 100 is too small: the least is 101",
        ],
    );
    check(
        "hash = true",
        &[
            "8:8 bad value for `hash` in [upstream.u] | it is `true`: write a text such as \"$remote_addr\", or a table such as { key = \"$request_uri\" }",
        ],
    );
    let tier_min = "write a number of servers, such as 2, or a share from \"1%\" to \"100%\"";
    for (value, extra) in [("0", ""), ("\"0%\"", ""), ("\"101%\"", ""), ("\"some\"", "")] {
        check(
            &format!("tier_min = {value}{extra}"),
            &[&format!("8:12 bad value for `tier_min` in [upstream.u] | {tier_min}")],
        );
    }
    check(
        "fail_back = \"later\"",
        &[
            "8:13 bad value for `fail_back` in [upstream.u] | `later` is not a duration: write a number and one of us, ms, s, m, h, d, for example \"30s\", or \"at-once\" or \"manual\"",
        ],
    );
    let servers = |servers: &str, expect: &[&str]| super::check(&upstream(&format!("servers = [{servers}]")), expect);
    servers(
        "{ address = \"1.1.1.1:1\", backup = true, tier = 2 }, \"1.1.1.2:1\"",
        &[
            "7:52 one of the servers of [upstream.u] is a backup and of a tier | a backup is of the last tier: keep one of the two",
        ],
    );
    servers(
        "{ address = \"1.1.1.1:1\", weight = 0 }",
        &["7:11 no server of [upstream.u] takes new requests | give at least one a `weight` above 0"],
    );
    let warned = |lines: &str| warnings(&upstream(&format!("servers = [\"1.1.1.1:1\", \"1.1.1.2:1\"]\n{lines}"))).len();
    assert_eq!([warned("fail_back = \"manual\""), warned("tier_min = 2")], [1, 1]);
    assert_eq!(warned("balance = \"first\""), 1);
    assert_eq!([warned("queue_max = 5"), warned("queue_timeout = \"1s\"\nrequests_max = 5")], [1, 0]);
    assert_eq!(
        warnings(&upstream("servers = \"unix:/run/a.sock\"\nqueue_timeout = \"1s\"")).len(),
        0,
        "for its backlog"
    );
    assert_eq!([warned("health = false\nslow_start = \"1s\""), warned("slow_start = \"1s\"")], [1, 0]);
}

#[test]
fn sticky_cookies() {
    let check = |sticky: &str, expect: &[&str]| {
        check(&upstream(&format!("servers = \"1.1.1.1:1\"\nsticky = {sticky}")), expect);
    };
    check(
        "\"srv\"",
        &["8:10 sticky of [upstream.u] is not a table | it is a text, but must be a table: sticky of [upstream.u]"],
    );
    check(
        "{ cokie = \"srv\" }",
        &[
            "8:10 no secret in sticky of [upstream.u] | add `secret_file` or `secret`: whoever knows it can choose servers. `openssl rand -base64 24` makes one",
            "8:12 unknown key `cokie` in sticky of [upstream.u] | did you mean `cookie`? it takes a text",
        ],
    );
    check(
        "{ cookie = \"a b\", secret = \"short\", same_site = \"none\", secure = \"never\" }",
        &[
            "8:21 bad value for `cookie` in sticky of [upstream.u] | the name of a cookie has letters, digits, `-` and `_`",
            "8:37 bad value for `secret` in sticky of [upstream.u] | it has 5 bytes, which can be found by trying: write 16 at least",
            "8:58 bad value for `same_site` in sticky of [upstream.u] | browsers take `none` only with `Secure`: take `secure = \"never\"` away",
        ],
    );
    check(
        "{ cookie = \"a\", secret = \"0123456789abcdef\", secret_file = \"/x\", domain = \"a;b\" }",
        &[
            "8:55 both `secret` and `secret_file` in sticky of [upstream.u] | keep this one, and take `secret` away",
            "8:84 bad value for `domain` in sticky of [upstream.u] | it cannot stand in a cookie: write visible ASCII without spaces and `;`",
        ],
    );
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
        &["6:1 `mirror` of a [[site.s.route]] does nothing | requests are mirrored beside `proxy` alone"],
    );
}

#[test]
fn upstreams() {
    let check = |lines: &str, expect: &[&str]| check(&upstream(lines), expect);
    check(
        "",
        &[
            "6:1 missing key `servers` in [upstream.u] | add `servers`: a list of addresses or of tables such as { address = \"127.0.0.1:9000\", weight = 2 }",
        ],
    );
    check("servers = []", &["7:11 bad value for `servers` in [upstream.u] | it is empty: name at least one server"]);
    check("servers = [5]", &["7:12 bad server in [upstream.u] | it is a whole number: write an address or a table"]);
    check(
        "servers = [\"/run/a.sock\"]",
        &["7:12 bad server in [upstream.u] | a Unix socket is written with `unix:` in front: \"unix:/run/a.sock\""],
    );
    check("servers = [\"unix:\"]", &["7:12 bad server in [upstream.u] | the path after `unix:` is empty"]);
    check(
        &format!("servers = [\"unix:/{}\"]", "a".repeat(107)),
        &["7:12 bad server in [upstream.u] | the path of a Unix socket has at most 107 bytes"],
    );
    check(
        "servers = [{ weight = 300 }]",
        &[
            "7:12 no address in one of the servers of [upstream.u] | add `address`, for example \"127.0.0.1:9000\" or \"app.internal:9000\", or `srv`",
            "7:23 bad value for `weight` in servers of [upstream.u] | 300 is too large: the most is 256",
        ],
    );
    check(
        "servers = [{ address = \"1.1.1.1:1\", backup = true }]",
        &["7:11 [upstream.u] has only backup servers | take `backup` away from at least one server"],
    );
    check(
        "servers = \"1.1.1.1:1\"\nretry_on = [\"error\", \"http_502\", \"200\"]\nretry_budget = \"120%\"",
        &[
            "8:22 bad value for `retry_on` in [upstream.u] | `http_502` is none of `error`, `timeout`, `non_idempotent` and statuses from 400 to 599",
            "8:34 bad value for `retry_on` in [upstream.u] | `200` is none of `error`, `timeout`, `non_idempotent` and statuses from 400 to 599",
            "9:16 bad value for `retry_budget` in [upstream.u] | `120%` is no share: write one such as \"20%\", or \"off\"",
        ],
    );
    let secure = |lines: &str, expect: &[&str]| check(&format!("servers = \"1.1.1.1:1\"\n{lines}"), expect);
    secure(
        "tls = 5",
        &[
            "8:7 bad value for `tls` in [upstream.u] | it is a whole number: write true, false, or a table such as { server_name = \"api.internal\" }",
        ],
    );
    secure(
        "tls = { server_nam = \"a\" }",
        &["8:9 unknown key `server_nam` in tls of [upstream.u] | did you mean `server_name`? it takes a text"],
    );
    secure(
        "tls = { server_name = \"a b\" }",
        &["8:23 bad value for `server_name` in tls of [upstream.u] | `a b` is neither a host name nor an address"],
    );
    secure(
        "tls = { chain = \"a.pem\" }",
        &["8:17 bad value for `chain` in tls of [upstream.u] | add `key`, the private key that belongs to it"],
    );
    secure(
        "tls = { key = \"a.key\" }",
        &["8:15 bad value for `key` in tls of [upstream.u] | add `chain`, the certificate that it belongs to"],
    );
    check(
        "servers = \"unix:/run/a.sock\"\ntls = true",
        &[
            "8:7 tls of [upstream.u] has no name | a Unix socket has no address that a certificate could be for: add `server_name`",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nupgrade = [\"websocket\", \"h2c\", \"web socket\"]",
        &[
            "8:25 bad value for `upgrade` in [upstream.u] | a server that switched to HTTP/2 would speak past every rule for requests: leave it out",
            "8:32 bad value for `upgrade` in [upstream.u] | `web socket` is no name of a protocol: write one such as \"websocket\"",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = 5",
        &[
            "8:10 bad value for `health` in [upstream.u] | it is a whole number: write true, false, or a table such as { path = \"/healthz\" }",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { pth = \"/\" }",
        &[
            "8:12 unknown key `pth` in health of [upstream.u] | did you mean `path`? it takes a path that begins with `/`, for example \"/healthz\"",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { path = \"healthz\", rise = 0 }",
        &[
            "8:19 bad value for `path` in health of [upstream.u] | a path begins with `/`: write \"/healthz\"",
            "8:37 bad value for `rise` in health of [upstream.u] | 0 is too small: the least is 1",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { status = [\"2xx\", \"20\"], expect_body = \"~(\", path = \"/\", method = \"HEAD\" }",
        &[
            "8:29 bad value for `status` in health of [upstream.u] | `20` is no status: write \"200\", \"2xx\" or \"200-299\"",
            "8:50 bad value for `expect_body` in health of [upstream.u] | an answer to HEAD has no body: write method = \"GET\"",
            "8:50 bad value for `expect_body` in health of [upstream.u] | unclosed group",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { path = \"/\", headers = { Host = \"a\", Connection = \"close\", \"a b\" = \"c\", X = 5 } }",
        &[
            "8:36 bad field `Host` in headers of health of [upstream.u] | write it as `host`",
            "8:48 bad field `Connection` in headers of health of [upstream.u] | a check writes it itself",
            "8:70 bad field `a b` in headers of health of [upstream.u] | a name has letters, digits and `-`",
            "8:87 bad field `X` in headers of health of [upstream.u] | it is a whole number: write a text",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { host = \"a\", expect = \"x\", user = \"u\", ca = \"/x\" }",
        &[
            "8:12 `host` does nothing in a check of kind tcp in health of [upstream.u] | add a `path`, such as \"/healthz\"",
            "8:38 `user` does nothing in a check of kind tcp in health of [upstream.u] | add kind = \"mysql\"",
            "8:50 `ca` does nothing in a check without TLS in health of [upstream.u] | write kind = \"tls\"",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { kind = \"http\", send = \"x\", ca = \"/x\" }",
        &[
            "8:27 `send` does nothing in a check of kind http in health of [upstream.u] | it is for kind = \"tcp\" or \"tls\" or \"udp\": take it away",
            "8:39 `ca` does nothing in a check without TLS in health of [upstream.u] | add tls = true",
        ],
    );
    check(
        "servers = \"unix:/a\"\nhealth = { kind = \"mysql\", password = \"p\", check_port = 1 }",
        &[
            "7:11 unix:/a cannot be checked at port 1 in [upstream.u] | give it a `check_address`, or take `check_port` away from `health`",
            "8:28 `password` without `user` in health of [upstream.u] | add `user`, who logs on with it",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\noutliers = 5\npanic = 101",
        &[
            "8:12 bad value for `outliers` in [upstream.u] | it is a whole number: write true, false, or a table such as { consecutive = 5, ejection_time = \"30s\" }",
            "9:9 bad value for `panic` in [upstream.u] | 101 is too large: the most is 100",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\noutliers = { failures = [\"5xxx\"], latency_factor = 1, ejection_max = \"1s\" }",
        &[
            "8:26 bad value for `failures` in outliers of [upstream.u] | `5xxx` is not known: did you mean \"5xx\"?",
            "8:52 bad value for `latency_factor` in outliers of [upstream.u] | half of the servers are slower than the median: write 2 or more, or 0",
            "8:70 bad value for `ejection_max` in outliers of [upstream.u] | it is shorter than `ejection_time`",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\noutliers = { consecutive = 0, error_rate = 0 }",
        &[
            "8:12 outliers of [upstream.u] eject nothing | set one of `consecutive`, `error_rate` and `latency_factor`, or write outliers = false",
        ],
    );
    assert_eq!(
        warnings(&upstream("servers = \"1.1.1.1:1\"\nhealth = { kind = \"mysql\" }")),
        ["checks of kind mysql without `user` in health of [upstream.u]"]
    );
    assert_eq!(
        warnings(&upstream("servers = \"1.1.1.1:1\"\noutliers = true")),
        ["`outliers` of [upstream.u] does nothing"]
    );
    assert_eq!(
        warnings(&upstream("servers = [{ address = \"1.1.1.1:1\", check_address = \"1.1.1.1:2\" }]\nhealth = false")),
        ["`check_address` in [upstream.u] does nothing"]
    );
    check(
        "[[upstream.u.servers]]\nadress = \"1.1.1.1:1\"",
        &[
            "8:1 unknown key `adress` in servers of [upstream.u] | did you mean `address`? it takes an address, for example \"127.0.0.1:9000\", \"app.internal:9000\" or \"unix:/run/app.sock\"",
        ],
    );
    assert_eq!(
        warnings(&upstream("servers = [\"1.1.1.1:1\", \"1.1.1.1:1\"]")),
        ["1.1.1.1:1 is named twice in [upstream.u]"]
    );
    assert_eq!(warnings("[upstream.idle]\nservers = \"1.1.1.1:1\""), ["[upstream.idle] is used by no route"]);
}

#[test]
fn apps() {
    check(
        "[app.a]\nprogram = \"guestbok\"",
        &["2:11 unknown program `guestbok` in [app.a] | did you mean \"guestbook\"?"],
    );
    check(
        "[app.a]\nprogram = \"shop\"",
        &["2:11 unknown program `shop` in [app.a] | the programs in this binary are guestbook, echo, hello"],
    );
    check(
        "[app.nothing]",
        &["1:1 unknown program `nothing` in [app.nothing] | the programs in this binary are guestbook, echo, hello"],
    );
    assert_eq!(warnings("[app.echo]"), ["[app.echo] is used by no route"]);
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
    let report = parse("site.toml", include_str!("data/twelve.toml"), PROGRAMS).expect_err("it has mistakes");
    assert_eq!(report.count(), 12);
    let expect = include_str!("data/twelve.txt");
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

#[test]
fn formats_of_the_access_log() {
    check("[log]\nformat = \"jsno\"", &["2:10 bad value for `format` in [log] | did you mean \"json\"?"]);
    check(
        "[log]\nformat = \"hello\"",
        &[
            "2:10 bad value for `format` in [log] | it has no variable: write combined, common, json, haproxy, or a text with variables such as $status",
        ],
    );
    // Each at its place, also behind escapes of TOML and for the second of its kind.
    check(
        "[log]\nformat = \"\\\"$remote_adr\\\" $status $staus %tr %TS $staus\"",
        &[
            "2:13 unknown variable `$remote_adr` in `format` in [log] | did you mean `$remote_addr`?",
            "2:35 unknown variable `$staus` in `format` in [log] | did you mean `$status`?",
            "2:46 unknown directive `%TS` in `format` in [log] | did you mean `%Ts`?",
            "2:50 unknown variable `$staus` in `format` in [log] | did you mean `$status`?",
        ],
    );
    check(
        "[log]\nformat = '$status 100% %[src] %{+X}ci $wholly_unheard_of'",
        &[
            "2:22 bad value for `format` in [log] | no name follows the `%`: write `%%` for the sign itself",
            "2:24 bad value for `format` in [log] | sample expressions are not known: write `$http_NAME` for a field of the request, `$sent_http_NAME` for one of the answer",
            "2:31 bad value for `format` in [log] | `+X` is not a flag: write `+Q` for quotes around the value",
            "2:39 unknown variable `$wholly_unheard_of` in `format` in [log] | `one-server config-reference` lists them",
        ],
    );
    check(
        "[log]\nformat = \"$status\\n\"",
        &[
            "2:10 bad value for `format` in [log] | a line of the log cannot hold a line break: end the lines of a \"\"\" text with `\\`",
        ],
    );
    check(
        "[log]\nescape = \"jason\"",
        &["2:10 bad value for `escape` in [log] | `jason` is not known: did you mean \"json\"?"],
    );
    assert_eq!(
        warnings("[log]\nescape = \"json\"\nformat = '{\"a\":$status,}'"),
        ["the lines of the access log are not JSON"]
    );
    assert!(warnings("[log]\nescape = \"json\"\nformat = '{\"a\":$status,\"b\":\"$host\"}'").is_empty());
    assert!(warnings("[log]\nescape = \"json\"\nformat = '$host {'").is_empty());
}

#[test]
fn a_format_given_as_a_flag_has_no_place() {
    let mut overrides = Overrides::default();
    let key = Table::Log.key("format").expect("a key");
    overrides.set(key, key.kind.parse("$staus").expect("a text"));
    let text = format!("[log]\nformat = \"json\"{BASE}");
    let report = parse_with_flags("site.toml", &text, PROGRAMS, &overrides).expect_err("a mistake");
    assert_eq!(report.lines(), ["0:0 unknown variable `$staus` in `format` in [log] | did you mean `$status`?"]);
}
