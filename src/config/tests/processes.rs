//! `[app.NAME]` with `type = "process"`: what it compiles to, and its mistakes.

use std::time::Duration;

use super::*;
use crate::config::model::{Action, Listening, Places, Protocol};
use crate::proxy::gateway::Form;

fn app(lines: &str) -> String {
    format!("[app.shop]\ntype = \"process\"\n{lines}\n")
}

#[test]
fn a_process_becomes_an_upstream_of_its_own_with_a_server_for_each_place() {
    let text = app(
        "command = [\"gunicorn\", \"{socket}\"]\ninstances = 3\nsurge = 2\nrequests_max = 8\nbalance = \"least-conn\"\n\
         queue_max = 5\nresponse_timeout = \"7s\"\nrestart_age = \"1h\"",
    ) + "[upstream.other]\nservers = \"127.0.0.1:1\"\n[site.s]\nhosts = \"a.test\"\nroute = [{ path = \"/\", app = \"shop\" }, { path = \"/o\", proxy = \"other\" }]\n";
    let (config, mistakes, warnings) = outside(&text);
    assert_eq!((mistakes, warnings), (vec![], vec![]));
    let (process, upstream) = (&config.processes[0], &config.upstreams[1]);
    assert_eq!((process.name.as_str(), &process.upstream), ("shop", &upstream.name));
    assert_eq!((upstream.name.as_str(), upstream.is_supervised, upstream.servers.len()), ("app:shop", true, 5));
    assert_eq!((upstream.requests_max, upstream.servers[4].requests_max), (None, Some(8)));
    assert_eq!((upstream.queue_max, upstream.response_timeout.as_secs()), (5, 7));
    assert!(upstream.health.is_none(), "its process is watched");
    let site = config.sites.iter().find(|site| site.name == "s").expect("the site");
    assert!(matches!(site.routes[0].action, Action::Proxy(1)));
    let mut placed = config.clone();
    let places = |folder: &str| Places { folder: folder.into(), ..Places::default() };
    placed.place_sockets(&places("/run/x")).expect("short paths");
    assert_eq!(placed.upstreams[1].written[2].address.to_string(), "unix:/run/x/shop.2.sock");
    let long = format!("/{}", "x".repeat(100));
    assert!(config.clone().place_sockets(&places(&long)).unwrap_err().contains("too long"));
}

#[test]
fn one_request_at_a_time_that_hangs_is_the_whole_instance() {
    let replaces_hung = |lines: &str| {
        let (config, mistakes, _) = outside(&app(&format!("command = [\"gunicorn\", \"{{socket}}\"]\n{lines}")));
        assert_eq!(mistakes, Vec::<String>::new());
        config.processes[0].rules.replaces_hung
    };
    assert!(!replaces_hung("") && !replaces_hung("requests_max = 2") && replaces_hung("requests_max = 1"));
    assert!(
        !replaces_hung("requests_max = 1\nrestart_on_timeout = false") && replaces_hung("restart_on_timeout = true")
    );
}

#[test]
fn ports_are_in_a_row() {
    let (config, mistakes, _) = outside(&app("command = \"gunicorn\"\nfirst_port = 9000"));
    assert_eq!(mistakes, Vec::<String>::new());
    assert_eq!(config.processes[0].launch.listening, Listening::Port);
    assert_eq!(config.upstreams[0].servers[1].address.to_string(), "127.0.0.1:9001");
    let mut placed = config.clone();
    let behind = [("app:shop".to_owned(), 2)].into();
    placed.place_sockets(&Places { behind, ..Places::default() }).expect("no paths");
    assert_eq!(placed.upstreams[0].servers[1].address.to_string(), "127.0.0.1:9003");
}

#[test]
fn ports_of_a_row_are_nobody_elses() {
    let app = |name: &str, lines: &str| {
        format!("[app.{name}]\ntype = \"process\"\ncommand = \"gunicorn\"\nfirst_port = {lines}\n")
    };
    let told = |text: &str| outside(text).1;
    assert_eq!(told(&(app("a", "3000") + &app("b", "3002"))), Vec::<String>::new());
    assert_eq!(
        told(&(app("a", "3000") + &app("b", "3001"))),
        [
            "port 3001 is used twice, in [app.a] and [app.b] | [app.b] has 2 ports from this one on, one for each of its `instances` and of its `surge`: take another first port"
        ]
    );
    assert_eq!(told(&(app("a", "3002") + &app("b", "3000\ninstances = 2"))).len(), 1);
    let listener = |address: &str| format!("{}[listener.l]\naddress = \"{address}\"\n", app("a", "3000"));
    for (address, is_taken) in [
        ("127.0.0.1:3001", true),
        ("0.0.0.0:3001", true),
        ("0.0.0.0:3002", false),
        ("127.0.0.2:3001", false),
        // It does not listen for IPv4.
        ("[::]:3001", false),
    ] {
        let mistakes = told(&listener(address));
        let is_told = mistakes.iter().any(|told| told.contains("port 3001 is used twice, in [listener.l] and [app.a]"));
        assert_eq!(is_told, is_taken, "{address}: {mistakes:?}");
        let of_ports = mistakes.iter().filter(|told| told.contains("is used twice")).count();
        assert_eq!(of_ports, usize::from(is_taken), "{address}: {mistakes:?}");
    }
    let admin = app("a", "3000") + "[admin]\naddress = \"127.0.0.1:3000\"\n";
    assert!(told(&admin).iter().any(|told| told.contains("in [admin] and [app.a]")), "{:?}", told(&admin));
    let splitter =
        app("a", "3000") + "[mysql.m]\nlisten = \"0.0.0.0:3000\"\nprimary = \"10.0.0.1\"\nusers = { a = \"b\" }\n";
    assert!(told(&splitter).iter().any(|told| told.contains("in [mysql.m] and [app.a]")), "{:?}", told(&splitter));
}

#[test]
fn mistakes_of_processes_are_told() {
    let cases = [
        ("listen = \"fd\"", "missing key `command` in [app.shop] | add `command`, such as command = "),
        ("command = \"gunicorn\"", "the command of [app.shop] is not told where to listen | "),
        (
            "command = [\"gunicorn\", \"{sock}\"]\nlisten = \"fd\"",
            "bad placeholder {sock} in `command` of [app.shop] | there are {socket}",
        ),
        (
            "command = \"gunicorn\"\nfirst_port = 1\nenvironment = { A = \"{socket}\" }",
            "bad placeholder {socket} in `environment`",
        ),
        (
            "command = \"gunicorn a:b\"\nlisten = \"fd\"",
            "bad command in [app.shop] | no shell takes it apart: write [\"gunicorn\", \"a:b\"]",
        ),
        ("command = \"nosuch\"\nlisten = \"fd\"", "bad command in [app.shop] | `nosuch` is not there"),
        ("command = \"serve\"\nlisten = \"fd\"", "bad command in [app.shop] | `serve` is not there"),
        (
            "command = \"gunicorn\"\nlisten = \"fd\"\ndirectory = \"/nowhere\"",
            "bad value for `directory` in [app.shop] | /nowhere is not a folder",
        ),
        ("command = \"gunicorn\"\nlisten = \"fd\"\nuser = \"nobody-here\"", "this machine has no user `nobody-here`"),
        (
            "command = [\"gunicorn\", \"{socket}\"]\nuser = \"web\"",
            "`user` of [app.shop] cannot be reached at its socket",
        ),
        (
            "command = \"gunicorn\"\nfirst_port = 65535",
            "bad value for `first_port` in [app.shop] | 2 ports from it on are needed",
        ),
        (
            "command = \"gunicorn\"\nlisten = \"fd\"\nbackoff = \"1m\"",
            "bad value for `backoff` in [app.shop] | it is longer than `backoff_max`",
        ),
        (
            "command = \"gunicorn\"\nlisten = \"fd\"\nenvironment = { ONE_SERVER_INSTANCE = \"1\" }",
            "bad variable `ONE_SERVER_INSTANCE`",
        ),
        ("command = \"gunicorn\"\nlisten = \"fd\"\nenvironment = { LISTEN_FDS = \"1\" }", "bad variable `LISTEN_FDS`"),
        (
            "command = \"gunicorn\"\nlisten = \"fd\"\nenvironment = { A = 1 }",
            "bad variable `A` in environment of [app.shop] | it is a whole number: write a text",
        ),
        ("command = \"gunicorn\"\nlisten = \"fd\"\nprogram = \"echo\"", "`program` of [app.shop] does nothing"),
        ("command = \"gunicorn\"\nport = 9000", "unknown key `port` in [app.shop] | did you mean `first_port`?"),
        ("command = \"gunicorn\"\nlisten = \"fd\"\nservers = \"127.0.0.1:1\"", "unknown key `servers` in [app.shop]"),
        ("command = \"gunicorn\"\nlisten = \"fd\"\nbalance = \"fastest\"", "bad value for `balance` in [app.shop]"),
    ];
    for (lines, expected) in cases {
        let (_, mistakes, _) = outside(&app(lines));
        assert!(mistakes.iter().any(|mistake| mistake.contains(expected)), "{lines}: {mistakes:?}");
    }
    let (_, mistakes, _) = outside(&app("command = \"serve\"\nlisten = \"fd\"\nenvironment = { PATH = \"/srv\" }"));
    assert_eq!(mistakes, Vec::<String>::new(), "the PATH of the program counts");
    let (_, mistakes, _) = outside("[app.echo]\ncommand = \"gunicorn\"\n");
    assert!(
        mistakes[0].starts_with("`command` of [app.echo] is for processes | add type = \"process\""),
        "{mistakes:?}"
    );
    let (_, mistakes, _) = outside("[app.echo]\nsurge = 2\n");
    assert!(mistakes[0].starts_with("`surge` of [app.echo] is for processes"), "{mistakes:?}");
    assert_eq!(outside("[app.echo]\nbalance = \"first\"\ntries = 1\n").1, Vec::<String>::new());
}

fn blog(lines: &str) -> String {
    format!("[app.blog]\ntype = \"php\"\n{lines}\n")
}

#[test]
fn php_becomes_an_upstream_of_fastcgi_with_as_many_requests_as_workers() {
    let route = "[site.s]\nhosts = \"a.test\"\nroute = [{ path = \"/\", app = \"blog\", cgi = \"/srv/blog\" }]\n";
    let lines = "workers = 6\nini = { \"opcache.enable\" = true, a = 5, b = \"x\" }\nuser = \"web\"\nhealth = { path = \"/ping.php\" }";
    let (config, mistakes, warnings) = outside(&(blog(lines) + route));
    assert_eq!((mistakes, warnings), (vec![], vec![]));
    let (process, upstream) = (&config.processes[0], &config.upstreams[0]);
    let php = process.launch.php.as_ref().expect("a pool");
    assert_eq!(
        (process.launch.words.join(" "), process.launch.listening),
        ("/usr/sbin/php-fpm8.2".into(), Listening::Descriptor)
    );
    let ini: Vec<(&str, &str)> = php.ini.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(ini, [("opcache.enable", "1"), ("a", "5"), ("b", "x")]);
    assert_eq!(upstream.protocol, Protocol::Gateway(Form::FastCgi));
    assert_eq!(upstream.health.as_ref().map(|health| health.protocol), Some(upstream.protocol));
    assert!(upstream.servers.iter().all(|server| server.requests_max == Some(6)));
    let site = config.sites.iter().find(|site| site.name == "s").expect("the site");
    assert!(site.routes[0].options.cgi.is_some(), "its scripts lie there");
}

#[test]
fn connections_to_php_are_kept_for_no_longer_than_its_time_limits_bear() {
    let seconds = |seconds| Duration::from_secs_f64(seconds);
    for (lines, keep_idle, time) in [
        ("", 4, seconds(1.0)),
        ("workers = 9\nkeep_idle = 6", 6, seconds(1.0)),
        ("workers = 2\nkeep_idle = 6", 2, seconds(1.0)),
        ("terminate_timeout = \"60s\"", 4, seconds(1.0)),
        ("terminate_timeout = \"60s\"\nslow_timeout = \"3s\"", 4, seconds(0.3)),
        ("keep_idle = 0", 0, seconds(1.0)),
    ] {
        let route = "[site.s]\nroute = [{ path = \"/\", app = \"blog\", cgi = \"/srv/blog\" }]\n";
        let (config, mistakes, warnings) = outside(&(blog(lines) + route));
        assert_eq!((mistakes, warnings), (vec![], vec![]), "{lines}");
        let upstream = &config.upstreams[0];
        let kept = (upstream.keep_idle, upstream.keep_idle_timeout, upstream.announces);
        assert_eq!(kept, (keep_idle, time, keep_idle > 0), "{lines}");
    }
}

#[test]
fn mistakes_of_php_are_told() {
    for (lines, expected) in [
        ("listen = \"fd\"", "`listen` of [app.blog] does nothing | php-fpm gets a socket"),
        ("ready_path = \"/x\"", "`ready_path` of [app.blog] does nothing | php-fpm answers a ping"),
        (
            "requests_max = 5",
            "`requests_max` of [app.blog] does nothing | there are as many requests at once as `workers`",
        ),
        ("keep_idle_timeout = \"5s\"", "`keep_idle_timeout` of [app.blog] does nothing | php-fpm counts it"),
        ("program = \"echo\"", "`program` of [app.blog] does nothing | php-fpm is the program"),
        ("command = \"nosuch\"", "bad command in [app.blog] | `nosuch` is not there"),
        ("ini = { \"a b\" = 1 }", "bad setting `a b` in ini of [app.blog] | a name has letters"),
        ("ini = { a = \"it's\" }", "bad setting `a` in ini of [app.blog] | php-fpm takes no `'`"),
        ("ini = { a = 1.5 }", "bad setting `a` in ini of [app.blog] | it is a number"),
        ("memory_limit = \"1MiB\"\nini = { memory_limit = \"1M\" }", "the key `memory_limit` is there too"),
        ("environment = { FPM_SOCKETS = \"1\" }", "bad variable `FPM_SOCKETS`"),
        ("max_children = 5", "unknown key `max_children` in [app.blog]"),
    ] {
        let (_, mistakes, _) = outside(&blog(lines));
        assert!(mistakes.iter().any(|mistake| mistake.contains(expected)), "{lines}: {mistakes:?}");
    }
    let (_, mistakes, _) = outside(&app("command = \"gunicorn\"\nlisten = \"fd\"\nworkers = 5"));
    assert_eq!(mistakes, ["`workers` of [app.shop] does nothing | it is for type = \"php\": take it away"]);
    let (_, mistakes, _) = on_machine(&tls::machine(), &blog(""));
    assert!(
        mistakes[0].starts_with("no php-fpm for [app.blog] | install it, such as by `apt-get install php-fpm`"),
        "{mistakes:?}"
    );
    let (_, mistakes, _) = outside("[app.echo]\nworkers = 5\n");
    assert!(mistakes[0].starts_with("`workers` of [app.echo] is for PHP | add type = \"php\""), "{mistakes:?}");
    let route = "[site.s]\nhosts = \"a.test\"\nroute = [{ path = \"/\", app = \"blog\" }]\n";
    let (_, mistakes, _) = outside(&(blog("") + route));
    assert!(mistakes[0].contains("does not say where the scripts are"), "{mistakes:?}");
}

#[test]
fn a_program_has_limits_of_its_own_and_threads_if_it_wants() {
    let text = "[process]\napp_queue = 7\napp_queue_timeout = \"3s\"\n[app.echo]\n[app.blocks]\nprogram = \"echo\"\nthreads = 4\n\
                queue_max = 9\nrequests_max = 20\nqueue_timeout = \"2s\"\nupgrade = []\ntunnel_timeout = \"5m\"\n\
                [app.more]\nprogram = \"echo\"\nthreads = 2\n\
                [site.s]\nhosts = \"a.test\"\nroute = [{ path = \"/\", app = \"echo\" }, { path = \"/b\", app = \"blocks\" }, { path = \"/m\", app = \"more\" }]\n";
    let (config, mistakes, warnings) = outside(text);
    assert_eq!((mistakes, warnings), (vec![], vec![]));
    let [echo, blocks, more] = &config.apps[..] else { panic!("three: {:?}", config.apps) };
    let upstream =
        |app: usize| config.upstreams.iter().find(|upstream| upstream.in_process == Some(app)).expect("one each");
    let limits =
        |app: usize| (upstream(app).requests_max, upstream(app).queue_max, upstream(app).servers[0].requests_max);
    let seconds = |app: usize| {
        let of = upstream(app);
        [config.apps[app].full_timeout, of.queue_timeout, of.tunnel_timeout].map(|time| time.as_secs())
    };
    assert_eq!((echo.threads, limits(0), seconds(0)), (None, (None, 1024, None), [3, 5, 3600]));
    assert_eq!(upstream(0).upgrade, ["websocket".into()]);
    assert_eq!((blocks.threads, limits(1)), (Some(4), (Some(20), 9, Some(4))), "a thread has one request at a time");
    assert_eq!((seconds(1), upstream(1).upgrade.len()), ([2, 2, 300], 0));
    assert_eq!((more.threads, limits(2), seconds(2)[0]), (Some(2), (None, 1024, Some(2)), 3), "as of the workers");
    let servers = |config: &crate::config::Config, app: usize| {
        let of = config.upstreams.iter().find(|upstream| upstream.in_process == Some(app)).expect("one each");
        of.servers.iter().map(|server| server.address.to_string()).collect::<Vec<_>>().join(" ")
    };
    let mut seated = config.clone();
    seated.seat_apps(3);
    let all = [0, 1].map(|app| servers(&seated, app));
    assert_eq!(all, ["app:echo/0 app:echo/1 app:echo/2", "app:blocks/threads"], "as many as there are workers");
    let first = |app| crate::config::model::App::first_thread(&config.apps, app, 3);
    assert_eq!([first(0), first(1), first(2)], [None, Some(3), Some(7)]);

    let of_program = |lines: &str| outside(&format!("[app.echo]\n{lines}\n")).1;
    let process = |lines: &str| outside(&app(lines)).1;
    for (mistakes, expected) in [
        (
            of_program("health = true"),
            "bad value for `health` in [app.echo] | a program inside the process is asked for a page: add a `path`",
        ),
        (
            of_program("health = { path = \"/\", check_port = 8080 }"),
            "bad value for `health` in [app.echo] | a program inside the process is reached over no socket: take `check_port` away",
        ),
        (
            of_program("keep_idle = 3"),
            "`keep_idle` of [app.echo] does nothing | nothing is connected inside the process",
        ),
        (
            process("command = \"true\"\nbalance = \"local\""),
            "bad value for `balance` in [app.shop] | it is for programs inside",
        ),
        (of_program("threads = 0"), "bad value for `threads` in [app.echo]"),
        (
            process("command = \"gunicorn\"\nlisten = \"fd\"\nthreads = 2"),
            "`threads` of [app.shop] does nothing | it is for programs inside this process: of others `instances`",
        ),
        (
            outside("[app.blog]\ntype = \"php\"\nthreads = 2\n").1,
            "`threads` of [app.blog] does nothing | php-fpm has `workers`",
        ),
    ] {
        assert!(mistakes.iter().any(|mistake| mistake.starts_with(expected)), "{expected}: {mistakes:?}");
    }
}
