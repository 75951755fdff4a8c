//! What files mean, and the helpers of the tests beside: every mistake (`mistakes`), every key (`keys`), who may
//! come in (`guard`), and how much of it (`limits`), any bytes (`anything`).

mod anything;
mod cgi;
mod compress;
mod cookies;
mod guard;
mod http3;
mod keys;
mod limits;
mod mistakes;
mod mysql;
mod names;
mod processes;
mod protocol;
mod routing;
mod substitute;
mod surroundings;
mod tcp;
mod tls;
mod udp;
mod variables;

use std::time::Duration;

use super::key::{Absent, Key, Table};
use super::keys as described;
use super::model::{Action, Balance, Candidate, Coding, HostPattern, Listing, LogTarget, PathMatch, SiteLog, Symlinks};
use super::section::{Context, Outside};
use super::value::{DurationText, Kind, SizeText};
use super::*;
use crate::config::model::RunAs;
use crate::runtime::sys::users::{Account, AccountError};

/// Makes any text below it a site that could start; its names are in nobody's way.
const BASE: &str = r#"
[listener.base]
address = "127.0.0.1:0"
[site.base]
hosts = "base.invalid"
listeners = ["base"]
[[site.base.route]]
path = "/"
respond = { body = "ok" }
"#;

const PROGRAMS: &[&str] = &["guestbook", "echo", "hello"];

fn problems(text: &str) -> Vec<String> {
    match parse("site.toml", text, PROGRAMS) {
        Ok(_) => Vec::new(),
        Err(report) => report.lines(),
    }
}

/// `text` with the base below it has exactly these mistakes, `LINE:COLUMN title | label`, in order of place.
#[track_caller]
fn check(text: &str, expect: &[&str]) {
    assert_eq!(problems(&format!("{text}{BASE}")), expect, "\n{text}");
}

/// A site on the base listener with these lines in its one route; they begin at line 4.
fn route(lines: &str) -> String {
    format!("[site.s]\nlisteners = [\"base\"]\n[[site.s.route]]\n{lines}\n")
}

/// The only route is on line 4 to 5.
#[track_caller]
fn check_route(lines: &str, expect: &[&str]) {
    check(&route(lines), expect);
}

fn config(text: &str) -> Config {
    match parse("site.toml", text, PROGRAMS) {
        Ok((config, _)) => config,
        Err(report) => panic!("{report}"),
    }
}

fn warnings(text: &str) -> Vec<String> {
    match parse("site.toml", &format!("{text}{BASE}"), PROGRAMS) {
        Ok((_, warnings)) => warnings.iter().map(|warning| warning.title().to_owned()).collect(),
        Err(report) => panic!("{report}"),
    }
}

#[test]
fn the_base_is_good() {
    check("", &[]);
    assert!(warnings("").is_empty());
}

/// An upstream that is used, with these lines from line 7.
fn upstream(lines: &str) -> String {
    route(&format!("path = \"/\"\nproxy = \"u\"\n[upstream.u]\n{lines}"))
}

#[test]
fn the_example_is_good_and_complete() {
    let text = include_str!("../../../examples/site.toml");
    let (config, warnings) = match parse("examples/site.toml", text, &["hello"]) {
        Ok(parsed) => parsed,
        Err(report) => panic!("{report}"),
    };
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(
        (config.listeners.len(), config.sites.len(), config.upstreams.len(), config.splitters.len()),
        (4, 2, 6, 1),
        "that of the application among the upstreams"
    );
    for key in described::all() {
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        assert!(text.split(word).any(|found| found == key.name), "{} {} is not shown", key.table.header(), key.name);
    }
}

/// `tests/https_example.rs` runs it.
#[test]
fn the_example_of_a_site_over_https_is_good() {
    let text = include_str!("../../../examples/https.toml");
    let (config, warnings) = match parse("examples/https.toml", text, &[]) {
        Ok(parsed) => parsed,
        Err(report) => panic!("{report}"),
    };
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(config.listeners[0].tls.is_none() && config.listeners[1].tls.is_some());
}

#[test]
fn a_file_becomes_what_it_says() {
    let config = config(include_str!("../../../examples/site.toml"));
    assert_eq!(config.listeners[0].sites, [0]);
    assert_eq!(config.listeners[1].sites, [1]);
    let main = &config.sites[0];
    assert_eq!(main.hosts, [HostPattern::Exact("example.org".into()), HostPattern::Suffix(".example.org".into())]);
    assert!(main.default && !config.sites[1].default);
    assert_eq!(config.sites[1].hosts, [HostPattern::Any]);
    let paths: Vec<&PathMatch> = main.routes.iter().map(|route| &route.path).collect();
    assert_eq!(paths[1], &PathMatch::Prefix("/app/".into()));
    assert_eq!(paths[5], &PathMatch::Exact("/health".into()));
    let Action::Files(files) = &main.routes[1].action else { panic!("{:?}", main.routes[1]) };
    assert_eq!((files.strip_prefix.as_str(), files.fallback.as_deref()), ("/app", Some("/index.html")));
    assert_eq!(files.index, ["index.html"], "the default");
    assert_eq!(files.precompressed, [Coding::Br, Coding::Gzip]);
    assert_eq!((files.ranges_max, files.dotfiles, files.symlinks), (64, false, Symlinks::Beneath), "the defaults");
    assert_eq!((files.listing, files.media.charset.as_str()), (Listing::Off, "utf-8"), "the defaults");
    let Action::Files(files) = &main.routes[2].action else { panic!("{:?}", main.routes[2]) };
    let candidate = |after: &str| Candidate::Path { before: "".into(), takes_path: true, after: after.into() };
    let status = Candidate::Status(404);
    assert_eq!(files.candidates, [candidate(""), candidate(".html"), candidate("/"), status]);
    assert_eq!(files.media.types[1], ("wasm".to_owned(), "application/wasm".to_owned()));
    assert_eq!(files.listing, Listing::Auto);
    assert!(matches!(main.routes[3].action, Action::Proxy(0)));
    let Action::Proxy(app) = main.routes[4].action else { panic!("{:?}", main.routes[4].action) };
    assert_eq!((config.upstreams[app].in_process, config.upstreams[app].balance), (Some(0), Balance::Local));
    let Action::Respond(respond) = &main.routes[5].action else { panic!("{:?}", main.routes[5]) };
    assert_eq!((respond.status, respond.body.constant()), (200, Some("ok\n")));
    let api = &config.upstreams[0];
    assert_eq!(api.balance, Balance::LeastConn);
    let servers: Vec<_> = api.servers.iter().map(|s| (s.address.to_string(), s.weight, s.backup)).collect();
    assert_eq!(
        servers,
        [
            ("127.0.0.1:9000".into(), 1, false),
            ("127.0.0.1:9001".into(), 2, false),
            ("127.0.0.1:9002".into(), 1, false),
            ("api.internal:9000".into(), 1, false),
            ("_api._tcp.internal".into(), 1, false),
            ("unix:/run/api.sock".into(), 1, true),
        ]
    );
    let splitter = &config.splitters[0];
    assert_eq!(splitter.listen.len(), 2);
    assert_eq!((splitter.user.as_str(), splitter.password.0.as_str()), ("app", "change-me"));
    assert_eq!(splitter.client_timeout, Duration::from_secs(8 * 3600));
}

#[test]
fn short_forms_mean_the_same_as_long_ones() {
    let same = |short: &str, long: &str| {
        let compiled =
            |lines: &str| format!("{:?}", config(&format!("{}{BASE}", route(&format!("path = \"/\"\n{lines}")))).sites);
        assert_eq!(compiled(short), compiled(long));
    };
    same("files = \"/x\"", "files = { root = \"/x\" }");
    same("redirect = \"/x\"", "redirect = { to = \"/x\" }");
    same("rewrite = \"/x\"", "rewrite = { to = \"/x\" }");
    let health = |line: &str| {
        format!("{:?}", config(&format!("{}{BASE}", upstream(&format!("servers = \"1.1.1.1:1\"\n{line}")))).upstreams)
    };
    assert_eq!(health(""), health("health = true"));
    assert_eq!(health(""), health("health = {}"));
    assert_ne!(health(""), health("health = false"));
    let servers = |lines: &str| format!("{:?}", config(&format!("{}{BASE}", upstream(lines))).upstreams);
    assert_eq!(servers("servers = \"1.1.1.1:1\""), servers("[[upstream.u.servers]]\naddress = \"1.1.1.1:1\""));
    let inline = "[site.s]\nlisteners = [\"base\"]\nroute = [{ path = \"/\", files = \"/x\" }]\n";
    let written = route("path = \"/\"\nfiles = \"/x\"");
    assert_eq!(
        format!("{:?}", config(&format!("{inline}{BASE}"))),
        format!("{:?}", config(&format!("{written}{BASE}")))
    );
    assert_eq!(
        format!("{:?}", config(&format!("[app.echo]\n{BASE}"))),
        format!("{:?}", config(&format!("[app.echo]\nprogram = \"echo\"\n{BASE}")))
    );
    assert_eq!(config(&format!("[log]\naccess = false\n[admin]\naddress = false\n{BASE}")).admin, None);
}

#[test]
fn defaults_are_the_described_ones() {
    let config = config(&format!("[admin]\n{BASE}"));
    let seconds = Duration::from_secs;
    assert_eq!(config.http.header_timeout, seconds(60));
    assert_eq!(config.http.keep_alive_timeout, seconds(75));
    assert_eq!(config.http.head_bytes_max, 16 << 10);
    assert_eq!(config.http.body_bytes_max, 1 << 20);
    assert_eq!(config.http.keep_alive_requests_max, 1000);
    assert_eq!(config.process.spin, Duration::ZERO);
    assert_eq!(config.process.data_cores, Vec::<usize>::new());
    assert_eq!(config.admin, Some(([127, 0, 0, 1], 9900).into()));
    assert_eq!(config.trace_events, 256);
    assert_eq!(config.log.access, None);
    // Without [admin] nobody could look at the trace.
    let quiet = self::config(BASE);
    assert_eq!((quiet.admin, quiet.trace_events), (None, 0));
    let made = Defaults::default();
    assert_eq!(format!("{:?}", made.config().expect("defaults").process), format!("{:?}", quiet.process));
    assert_eq!(made.config().expect("defaults").admin, None);
    assert_eq!(made.with_admin().config().expect("defaults").admin, config.admin);
}

/// A machine with one folder, one private and one open password file.
struct Machine;

impl Outside for Machine {
    fn first_line(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("/private" | "/open") => Ok("secret".into()),
            Some("/empty") => Ok(String::new()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn text(&self, path: &Path, _bytes_max: u64) -> io::Result<String> {
        match path.to_str() {
            Some("/users") => Ok("bob:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=\n".into()),
            Some("/bad-users") => Ok("bob:secret\n# x\nalice:rqXexS6ZhobKA\n".into()),
            Some("/empty") => Ok(String::new()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn is_readable_by_all(&self, path: &Path) -> bool {
        path == Path::new("/open")
    }

    fn is_folder(&self, path: &Path) -> bool {
        path == Path::new("/srv")
    }

    fn read(&self, _: &Path, _: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn mode(&self, _: &Path) -> Option<u32> {
        None
    }

    fn account(&self, run_as: &RunAs) -> Result<Account, AccountError> {
        match (run_as.user.as_str(), run_as.group.as_deref()) {
            ("web", None | Some("web")) => Ok(Account { user: "web".into(), uid: 33, gid: 33, groups: vec![33] }),
            ("web", Some(group)) => Err(AccountError::NoGroup(group.into())),
            (user, _) => Err(AccountError::NoUser(user.into())),
        }
    }

    fn find_program(&self, word: &str, _: &Path, path: Option<&str>) -> Result<std::path::PathBuf, String> {
        match (word, path) {
            ("gunicorn" | "/usr/sbin/php-fpm8.2", None) | ("serve", Some("/srv")) => Ok(word.into()),
            _ => Err(format!("`{word}` is not there")),
        }
    }

    fn find_php(&self) -> Option<std::path::PathBuf> {
        Some("/usr/sbin/php-fpm8.2".into())
    }

    fn may_read(&self, path: &Path, _: &Account) -> Option<bool> {
        Some(!path.ends_with("a.key"))
    }

    fn now(&self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH
    }
}

fn outside(text: &str) -> (Config, Vec<String>, Vec<String>) {
    on_machine(&Machine, text)
}

fn on_machine(machine: &dyn Outside, text: &str) -> (Config, Vec<String>, Vec<String>) {
    let overrides = Overrides::default();
    let cx = Context::new(PROGRAMS, &overrides, Some(machine));
    let text = format!("{text}{BASE}");
    let document = toml_edit::Document::parse(text.as_str()).expect("TOML");
    let config = compile::compile(&cx, document.as_table());
    let text_of = |problems: Vec<Problem>| problems.into_iter().map(|p| format!("{} | {}", p.title, p.label)).collect();
    (config, text_of(cx.problems.take()), text_of(cx.warnings.take()))
}

#[test]
fn password_files_and_folders() {
    let mysql = |file: &str| {
        outside(&format!(
            "[mysql.m]\nlisten = \"127.0.0.1:3307\"\nprimary = \"127.0.0.1:3306\"\nuser = \"u\"\npassword_file = \"{file}\"\n"
        ))
    };
    let (config, problems, warnings) = mysql("/private");
    assert_eq!(config.splitters[0].password.0, "secret");
    assert!(problems.is_empty() && warnings.is_empty());
    assert_eq!(
        mysql("/open").2,
        [
            "the password file of [mysql.m] is not private | every user of this machine may read it: run `chmod 600 /open`"
        ]
    );
    assert_eq!(
        mysql("/empty").1,
        ["bad value for `password_file` in [mysql.m] | the first line of the file is empty: write the password there"]
    );
    assert_eq!(mysql("/none").1, ["bad value for `password_file` in [mysql.m] | it cannot be read: entity not found"]);
    let files = |root: &str| outside(&route(&format!("path = \"/\"\nfiles = \"{root}\""))).2;
    assert!(files("/srv").is_empty());
    assert_eq!(
        files("/none"),
        [
            "the folder /none does not exist | every request will get 404; a relative path starts at the working directory"
        ]
    );
}

#[test]
fn an_admin_page_for_everyone_is_told() {
    assert_eq!(
        warnings("[admin]\naddress = \"0.0.0.0:9900\""),
        ["the admin listener can be reached from other machines"]
    );
    assert!(warnings("[admin]\naddress = \"[::1]:9900\"").is_empty());
}

pub(crate) use keys::another_value;

#[test]
fn logs_of_sites() {
    let site = |name: &str, line: &str| {
        format!(
            "[site.{name}]\nhosts = \"{name}\"\nlisteners = [\"base\"]\n{line}\n[[site.{name}.route]]\npath = \"/\"\nrespond = {{ body = \"x\" }}\n"
        )
    };
    let text = [
        site("a", ""),
        site("b", "access_log = \"off\""),
        site("c", "access_log = false"),
        site("d", "access_log = \"d.log\""),
    ];
    let config = config(&format!("{}{BASE}", text.concat()));
    let of = |name: &str| {
        let index = config.sites.iter().position(|site| site.name == name).expect("a site");
        config.log.sites[index].clone()
    };
    assert_eq!(
        (of("a"), of("b"), of("c"), of("base")),
        (SiteLog::Default, SiteLog::Off, SiteLog::Off, SiteLog::Default)
    );
    assert_eq!(of("d"), SiteLog::To(LogTarget::File("d.log".into())));
}

#[test]
fn the_user_of_the_process() {
    let run_as = |lines: &str| {
        let (config, problems, _) = outside(&format!("[process]\n{lines}\n"));
        (config.process.run_as, problems)
    };
    let of = |user: &str, group: Option<&str>| Some(RunAs { user: user.into(), group: group.map(str::to_owned) });
    assert_eq!(run_as(""), (None, vec![]));
    assert_eq!(run_as("user = \"web\""), (of("web", None), vec![]));
    assert_eq!(run_as("user = \"web\"\ngroup = \"web\""), (of("web", Some("web")), vec![]));
    let told = |lines: &str| run_as(lines).1;
    assert_eq!(
        told("user = \"wbe\""),
        ["bad value for `user` in [process] | this machine has no user `wbe`: see `getent passwd`"]
    );
    assert_eq!(
        told("user = \"web\"\ngroup = \"x\""),
        ["bad value for `group` in [process] | this machine has no group `x`: see `getent group`"]
    );
    assert_eq!(
        told("group = \"web\""),
        ["bad value for `group` in [process] | add `user`: the group is that of a user"]
    );
    let listener =
        "[listener.l]\naddress = \"127.0.0.1:1\"\ntls.certificates = [{ chain = \"/a.pem\", key = \"/a.key\" }]\n";
    let (_, _, warnings) = outside(&format!("[process]\nuser = \"web\"\n{listener}"));
    assert_eq!(
        warnings,
        [
            "user `web` may not read /a.key | root loads it at the start, but a renewed one cannot be loaded: give the user's group the right"
        ]
    );
}
