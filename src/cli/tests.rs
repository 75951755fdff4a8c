//! Commands and flags become the config they say.

use std::time::Duration;

use super::flags::flags;
use super::*;
use crate::config::model::{Action, Balance, LogTarget, PathMatch, Probe};
use crate::config::tests::another_value;
use crate::config::{FlagOf, Key, Kind, Table};
use crate::runtime::net::Address;

const PROGRAMS: &[&str] = &["guestbook"];

fn command(args: &[&str]) -> Result<Command, Failure> {
    parse(std::iter::once("one-server").chain(args.iter().copied()).map(OsString::from), PROGRAMS)
}

#[track_caller]
fn config(args: &[&str]) -> Config {
    match command(args) {
        Ok(Command::Run { config, .. }) => *config,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[track_caller]
fn failure(args: &[&str]) -> Failure {
    match command(args) {
        Err(failure) => failure,
        Ok(other) => panic!("{args:?}: {other:?}"),
    }
}

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

/// A file in a folder that lasts as long as the first value.
fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("written");
    let path = path.display().to_string();
    (folder, path)
}

const SITE: &str =
    "[listener.web]\naddress = \"127.0.0.1:0\"\n[site.s]\n[[site.s.route]]\npath = \"/\"\nrespond = {}\n";

#[test]
fn static_serves_a_folder() {
    let config = config(&[
        "static",
        ".",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:8081",
        "--fallback",
        "/index.html",
        "--index",
        "a.html",
        "--index",
        "b.html",
    ]);
    let names: Vec<&str> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, ["static", "static-2"]);
    assert!(config.listeners.iter().all(|listener| listener.sites == [0]));
    assert_eq!(config.listeners[1].address, "[::1]:8081".parse().expect("an address"));
    let route = &config.sites[0].routes[0];
    let (PathMatch::Prefix(path), Action::Files(files)) = (&route.path, &route.action) else { panic!("{route:?}") };
    assert_eq!((path.as_str(), files.root.to_str()), ("/", Some(".")));
    assert_eq!(
        (&files.index[..], files.fallback.as_deref()),
        (&["a.html".to_owned(), "b.html".to_owned()][..], Some("/index.html"))
    );
    assert!(config.sites[0].default && config.admin.is_none() && config.log.access.is_none());
    let plain = self::config(&["static", "."]);
    assert_eq!(plain.listeners[0].address, ([127, 0, 0, 1], 8080).into());
    let Action::Files(files) = &plain.sites[0].routes[0].action else { panic!("{plain:?}") };
    assert_eq!((&files.index[..], &files.fallback), (&["index.html".to_owned()][..], &None));
}

#[test]
fn proxy_balances_over_servers() {
    let config = config(&[
        "proxy",
        "--listen",
        "127.0.0.1:0",
        "--to",
        "10.0.0.1:1",
        "10.0.0.2:2",
        "--to",
        "unix:/run/a",
        "--backup",
        "10.0.0.3:3",
        "--balance",
        "least-conn",
        "--health-path",
        "/healthz",
        "--tries",
        "5",
        "--connect-timeout",
        "250ms",
    ]);
    let upstream = &config.upstreams[0];
    let servers: Vec<(String, bool)> = upstream.servers.iter().map(|s| (s.address.to_string(), s.backup)).collect();
    let expect = [("10.0.0.1:1", false), ("10.0.0.2:2", false), ("unix:/run/a", false), ("10.0.0.3:3", true)];
    assert_eq!(servers, expect.map(|(address, backup)| (address.to_owned(), backup)));
    assert_eq!(upstream.balance, Balance::LeastConn);
    assert_eq!((upstream.retry.tries_max, upstream.connect_timeout), (5, Duration::from_millis(250)));
    let health = upstream.health.as_ref().expect("checked");
    let Probe::Http(http) = &health.probe else { panic!("{health:?}") };
    assert_eq!((http.path.as_str(), health.pace.interval), ("/healthz", Duration::from_secs(2)));
    assert!(matches!(config.sites[0].routes[0].action, Action::Proxy(0)));
    let plain = self::config(&["proxy", "--to", "10.0.0.1:1"]);
    assert_eq!(plain.upstreams[0].balance, Balance::RandomTwo);
    assert_eq!(plain.upstreams[0].health.as_ref().expect("checked").kind(), "tcp");
    assert_eq!(failure(&["proxy"]).code, 2);
}

#[test]
fn split_takes_the_password_from_a_file() {
    let (_folder, path) = file("password", "s3cret\nsecond line\n");
    let args = [
        "split",
        "--listen",
        "127.0.0.1:0",
        "--primary",
        "10.0.0.1:3306",
        "--replica",
        "10.0.0.2:3306",
        "10.0.0.3:3306",
        "--user",
        "app",
        "--password-file",
        &path,
    ];
    let config = config(&[&args[..], &["--lag-max", "2s", "--database", "shop"]].concat());
    let splitter = &config.splitters[0];
    assert_eq!(
        (splitter.user.as_str(), splitter.password.0.as_str(), splitter.database.as_str()),
        ("app", "s3cret", "shop")
    );
    let servers = ["10.0.0.1:3306", "10.0.0.2:3306", "10.0.0.3:3306"].map(address);
    assert_eq!(splitter.servers, servers.map(crate::config::model::MysqlServer::new));
    assert_eq!((splitter.lag_max, splitter.pool_max), (Duration::from_secs(2), 32));
    assert!(config.listeners.is_empty());
    let wrong = |file: &str| {
        let failure = failure(&["split", "--primary", "10.0.0.1:3306", "--user", "app", "--password-file", file]);
        assert_eq!(failure.code, 1);
        failure.text
    };
    assert_eq!(
        wrong("/nowhere/password"),
        "error: cannot read the password file /nowhere/password: No such file or directory (os error 2)\n"
    );
    let (_folder, empty) = file("password", "\n");
    assert!(wrong(&empty).ends_with("is empty: write the password there\n"));
    assert_eq!(failure(&["split", "--primary", "10.0.0.1:3306", "--user", "app"]).code, 2);
}

#[test]
fn run_lets_flags_win_over_the_file() {
    let (_folder, path) = file(
        "site.toml",
        &format!("{SITE}[http]\nbody_max = 5\nheader_timeout = \"7s\"\n[admin]\n[log]\naccess = \"stdout\"\n"),
    );
    let plain = config(&["run", "-c", &path]);
    assert_eq!((plain.http.body_bytes_max, plain.http.header_timeout), (5, Duration::from_secs(7)));
    assert_eq!((plain.admin, plain.log.access), (Some(([127, 0, 0, 1], 9900).into()), Some(LogTarget::Stdout)));
    let flagged = config(&["run", "-c", &path, "--body-max", "1MiB", "--admin", "off", "--access-log", "/tmp/a.log"]);
    assert_eq!((flagged.http.body_bytes_max, flagged.http.header_timeout), (1 << 20, Duration::from_secs(7)));
    assert_eq!((flagged.admin, flagged.trace_events), (None, 0));
    assert_eq!(flagged.log.access, Some(LogTarget::File("/tmp/a.log".into())));
}

#[test]
fn the_admin_listener_is_off_until_asked_for() {
    assert_eq!(config(&["static", "."]).admin, None);
    assert_eq!(config(&["static", ".", "--trace", "7"]).admin, None);
    let asked = config(&["static", ".", "--admin", "127.0.0.1:9901", "--trace", "7"]);
    assert_eq!((asked.admin, asked.trace_events), (Some(([127, 0, 0, 1], 9901).into()), 7));
    let (_folder, path) = file("site.toml", SITE);
    assert_eq!(config(&["run", "-c", &path]).admin, None);
    let Ok(Command::Demo(args)) = command(&["demo", "--no-database"]) else { panic!("demo") };
    assert_eq!(args.defaults().config().expect("good").admin, None);
    assert!(args.defaults().with_admin().config().expect("good").admin.is_some());
    let Ok(Command::Demo(args)) = command(&["demo", "--admin", "off"]) else { panic!("demo") };
    assert_eq!(args.defaults().with_admin().config().expect("good").admin, None);
}

/// Each flag of `app` makes the config that its key in a file makes.
#[test]
fn every_flag_of_app_does_what_its_key_does() {
    for (flag, key) in flags(FlagOf::App) {
        let value = match key.name {
            "user" | "group" => "daemon".into(),
            "directory" => "/".into(),
            _ => another_value(key),
        };
        let (mut before, mut lines) = (vec!["app", "--listen", "127.0.0.1:0"], String::new());
        if key.name != "first_port" {
            before.push("--fd");
            lines += "listen = \"fd\"\n";
        }
        if key.name == "group" {
            before.extend(["--user", "daemon"]);
            lines += "user = \"daemon\"\n";
        }
        let given = format!("--{flag}={value}");
        let flagged = config(&[&before[..], &[&given, "--", "sh"]].concat());
        let plain = config(
            &[&before[..], if key.name == "first_port" { &["--fd", "--", "sh"] } else { &["--", "sh"] }].concat(),
        );
        assert_ne!(format!("{plain:?}"), format!("{flagged:?}"), "{given}");
        let name = if key.table == Table::Health { format!("health.{}", key.name) } else { key.name.into() };
        let value = match key.kind {
            Kind::Integer { .. } | Kind::Switch => value,
            _ => format!("{value:?}"),
        };
        let text = format!(
            "[app.app]\ntype = \"process\"\ncommand = [\"sh\"]\n{lines}{name} = {value}\n\
             [listener.app]\naddress = \"127.0.0.1:0\"\n[site.app]\nroute = [{{ path = \"/\", app = \"app\" }}]\n"
        );
        let (_folder, path) = file("site.toml", &text);
        let (written, _) = config::load(path.as_ref(), &[]).expect("a config");
        assert_eq!(format!("{written:?}"), format!("{flagged:?}"), "{given}");
    }
}

/// But for what makes an application another thing, is no process's, or is a table, and the three that are flags of their own.
#[test]
fn every_key_of_a_process_has_a_flag_of_app() {
    let others = [
        "type",
        "program",
        "threads",
        "workers",
        "memory_limit",
        "ini",
        "worker_requests",
        "terminate_timeout",
        "slow_timeout",
    ];
    let tables = ["hash", "sticky", "outliers", "health"];
    let own = ["command", "environment", "listen"];
    let lacking: Vec<&str> = Table::App
        .all_keys()
        .map(|key| key.name)
        .filter(|name| {
            let has_flag = flags(FlagOf::App).any(|(_, key)| key.table != Table::Health && key.name == *name);
            !has_flag && ![&others[..], &tables, &own].concat().contains(name)
        })
        .collect();
    assert_eq!(lacking, [""; 0]);
}

/// What the README shows of `one-server app` is run by those who read it.
#[test]
fn the_commands_of_the_readme_are_taken() {
    let readme = include_str!("../../README.md").replace("\\\n", " ");
    let lines = readme.lines().filter_map(|line| line.strip_prefix("$ one-server app "));
    let mut count = 0;
    for line in lines {
        let words = line.split(" # ").next().unwrap_or_default().split_whitespace();
        let words: Vec<&str> = std::iter::once("app").chain(words).collect();
        if let Err(failure) = command(&words) {
            // The programs are those of the reader.
            let text = failure.text;
            assert!(text.contains("in no folder of PATH") && text.contains(": 1 mistake"), "{line}: {text}");
        }
        count += 1;
    }
    assert!(count >= 2, "{count}");
}

/// Each flag changes the config just as its key in a file does.
#[test]
fn every_flag_does_what_its_key_does() {
    let (_folder, password) = file("password", "p");
    let proxy = ["proxy", "--to", "10.0.0.1:1"];
    let split = ["split", "--primary", "10.0.0.1:3306", "--user", "u", "--password-file", &password];
    for (of, command) in
        [(FlagOf::Every, &["static", "."][..]), (FlagOf::Proxy, &proxy[..]), (FlagOf::Split, &split[..])]
    {
        for (flag, key) in flags(of) {
            let value = another_value(key);
            // Nothing shows the size of the trace while the admin listener is off.
            let command =
                if flag == "trace" { [command, &["--admin", "127.0.0.1:1"]].concat() } else { command.to_vec() };
            let plain = format!("{:?}", config(&command));
            let words = words(key, flag, &value);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let flagged = config(&[&command[..], &words].concat());
            assert_ne!(plain, format!("{flagged:?}"), "--{flag} {value}");
            if of == FlagOf::Every {
                assert_same_as_in_a_file(key, flag, &value);
            }
        }
    }
}

/// A flag with its value. A switch has none.
fn words(key: &Key, flag: &str, value: &str) -> Vec<String> {
    let value = Some(value.to_owned()).filter(|_| !matches!(key.kind, Kind::Switch));
    std::iter::once(format!("--{flag}")).chain(value).collect()
}

fn assert_same_as_in_a_file(key: &Key, flag: &str, value: &str) {
    let written = match key.kind {
        Kind::Integer { .. } | Kind::Switch => format!("{}\n{} = {value}\n", key.table.header(), key.name),
        _ => format!("{}\n{} = {value:?}\n", key.table.header(), key.name),
    };
    let admin = if key.table.header() == "[admin]" { "" } else { "[admin]\n" };
    let (_folder, with_key) = file("site.toml", &format!("{SITE}{admin}{written}"));
    let (_other, without) = file("site.toml", &format!("{SITE}[admin]\n"));
    let in_file = config(&["run", "-c", &with_key]);
    let words = words(key, flag, value);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let by_flag = config(&[&["run", "-c", &without][..], &words].concat());
    assert_eq!(format!("{in_file:?}"), format!("{by_flag:?}"), "--{flag} {value}");
}

#[test]
fn every_starting_command_takes_the_tuning_flags() {
    let mut tree = Arguments::command();
    tree.build();
    for name in ["run", "static", "proxy", "app", "split", "demo"] {
        let command = tree.find_subcommand(name).expect("a command");
        for (flag, key) in flags(FlagOf::Every) {
            let arg = command
                .get_arguments()
                .find(|arg| arg.get_long() == Some(flag))
                .unwrap_or_else(|| panic!("{name} --{flag}"));
            let help = arg.get_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(key.when) && help.contains(key.name), "{name} --{flag}: {help}");
            assert!(arg.get_help_heading().is_some(), "{name} --{flag}");
        }
    }
}

#[test]
fn clap_accepts_the_definition() {
    Arguments::command().debug_assert();
}

#[test]
fn wrong_flags_are_told_with_advice_and_code_2() {
    for (args, advice) in [
        (&["static", ".", "--lisen", "127.0.0.1:1"][..], "a similar argument exists: '--listen'"),
        (&["statik", "."], "a similar subcommand exists: 'static'"),
        (&["static", ".", "--listen", "8080"], "the IP address is missing: write \"0.0.0.0:8080\""),
        (&["static", ".", "--header-timeout", "30"], "`30` has no unit: write \"30s\""),
        (&["static", ".", "--ring-entries", "1"], "1 is too small: the least is 256"),
        (&["static", ".", "--driver", "iouring"], "did you mean \"io-uring\"?"),
        (&["proxy", "--to", "localhost"], "the port is missing: write \"localhost:80\" with the port you mean"),
        (&["static", ".", "--fallback", "x"], "a path begins with `/`: write \"/x\""),
        (&["app", "--start-timeout", "30", "--", "sh"], "`30` has no unit: write \"30s\""),
        (&["app", "--instances", "0", "--", "sh"], "0 is too small: the least is 1"),
        (&["app", "--restart-on-timeout=no", "--", "sh"], "`no` is neither `true` nor `false`"),
        (&["app", "--restart-memroy", "1GiB", "--", "sh"], "a similar argument exists: '--restart-memory'"),
        (&["app", "--fd", "--first-port", "9000", "--", "sh"], "cannot be used with"),
        (&["demo", "--no-database", "--primary", "10.0.0.1:1"], "cannot be used with"),
        (&["demo", "--primary", "10.0.0.1:1"], "--user <NAME>"),
        (&["-t"], "-c"),
        (&[], "Usage: one-server"),
    ] {
        let failure = failure(args);
        assert_eq!(failure.code, 2, "{args:?}");
        assert!(failure.text.contains(advice), "{args:?}: {}", failure.text);
    }
}

#[test]
fn what_cannot_start_is_told_with_code_1() {
    for (args, text) in [
        (&["static", "/nowhere"][..], "error: /nowhere is not a folder\n"),
        (
            &["static", ".", "--listen", "127.0.0.1:1", "--admin", "127.0.0.1:1"],
            "error: 127.0.0.1:1 is listened on twice: take another port\n",
        ),
        (
            &["check", "-c", "/nowhere/site.toml"],
            "error: cannot read the config file /nowhere/site.toml: No such file or directory (os error 2)\n\n/nowhere/site.toml: 1 mistake\n",
        ),
        (
            &["static", ".", "--read-buffer", "64KiB"],
            "error: `read_buffer` (65536 bytes) is larger than `head_max` (16384 bytes): make it smaller, or head_max in [http] larger: a head that fits the first buffer must be allowed\n",
        ),
    ] {
        let failure = failure(args);
        assert_eq!((failure.code, failure.text.as_str()), (1, text), "{args:?}");
    }
}

#[test]
fn texts_are_printed() {
    let print = |args: &[&str]| match command(args) {
        Ok(Command::Print(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(print(&["--version"]).starts_with("one-server 0."));
    let help = print(&["run", "--help"]);
    for part in [
        "QUIT       drain",
        "USR1       reopen",
        "TERM, INT  stop fast",
        "Cores, memory, limits:",
        "[default: 60s]",
        "Examples:",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(print(&["--help"]).contains("one-server static ./public"));
    assert!(print(&["config-reference"]).starts_with("# Config file"));
    assert!(print(&["config-reference", "--format", "toml"]).contains("#[http]"));
    assert!(print(&["completions", "bash"]).contains("--data-cores"));
}

#[test]
fn t_is_check() {
    let (_folder, path) = file("site.toml", SITE);
    for args in [&["-t", "-c", &path][..], &["check", "-c", &path], &["-tc", &path]] {
        assert!(matches!(command(args), Ok(Command::Check { warnings, .. }) if warnings.is_empty()), "{args:?}");
    }
}

#[test]
fn a_readable_password_in_the_config_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let text = format!(
        "{SITE}[mysql.m]\nlisten = \"127.0.0.1:0\"\nprimary = \"10.0.0.1:1\"\nuser = \"u\"\npassword = \"p\"\n"
    );
    let (_folder, path) = file("site.toml", &text);
    let titles = |mode: u32| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        match command(&["check", "-c", &path]) {
            Ok(Command::Check { warnings, .. }) => warnings.iter().map(|w| w.title().to_owned()).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(titles(0o644), ["the config file holds a password and every user of this machine may read it"]);
    assert!(titles(0o640).is_empty());
}

/// What `cert self-signed` tells, or why not.
fn self_signed(args: &[&str]) -> Result<String, Failure> {
    match command(&[&["cert", "self-signed"], args].concat())? {
        Command::SelfSigned(args) => cert::write(&args),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_self_signed_certificate_is_written_and_passes_the_check() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("text");
    let told = self_signed(&["*.Example.org", "127.0.0.1", "::1", "--out", out, "--days", "30"]).expect("written");
    let path = |name: &str| folder.path().join(name);
    let mode = |name: &str| path(name).metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!((mode("_.example.org.key"), mode("_.example.org.pem") & 0o600), (0o600, 0o600));
    assert!(told.contains(&format!("{out}/_.example.org.pem: the certificate, good for 30 days\n")), "{told}");

    // What is told to paste is a config that passes the check without a warning.
    let (_, pasted) = told.split_once("For the config file:\n\n").expect("the lines");
    let site = "[site.s]\n[[site.s.route]]\npath = \"/\"\nrespond = {}\n";
    let (_config, config) = file("site.toml", &format!("{pasted}{site}"));
    match command(&["check", "-c", &config]) {
        Ok(Command::Check { warnings, .. }) => assert!(warnings.is_empty(), "{warnings:?}"),
        other => panic!("{other:?}"),
    }
    std::fs::set_permissions(path("_.example.org.key"), std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let Ok(Command::Check { warnings, .. }) = command(&["check", "-c", &config]) else { panic!("good") };
    assert_eq!(warnings[0].title(), "a private key of tls of [listener.secure] is not private");

    let again = self_signed(&["*.example.org", "--out", out]).expect_err("there already");
    assert_eq!(
        (again.code, again.text),
        (1, format!("error: {out}/_.example.org.pem is there already: --force replaces it\n"))
    );
    let old = std::fs::read(path("_.example.org.key")).expect("there");
    self_signed(&["*.example.org", "--out", out, "--force"]).expect("replaced");
    assert_ne!(std::fs::read(path("_.example.org.key")).expect("there"), old);
    assert_eq!(mode("_.example.org.key"), 0o600, "private again");
}

#[test]
fn a_self_signed_certificate_needs_good_names_and_a_folder() {
    for (args, code, text) in [
        (&["a b"][..], 1, "error: `a b` is neither a host name nor an IP address\n"),
        (&["a.test", "--out", "/nowhere"], 1, "error: /nowhere is not a folder\n"),
    ] {
        let failure = self_signed(args).expect_err("refused");
        assert_eq!((failure.code, failure.text.as_str()), (code, text));
    }
    assert_eq!(self_signed(&[]).expect_err("refused").code, 2);
    assert_eq!(self_signed(&["a.test", "--days", "0"]).expect_err("refused").code, 2);
}
