//! The demo is what people try first, and the one place where all four boxes work together: a page goes through the
//! public listener, the balancer, an application worker, the splitter and a real MariaDB pair. These tests start it as
//! a person would (the binary, `scripts/mariadb-pair`, `scripts/demo`) and look at it with curl.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_one-server");
/// For everything that waits: a loaded machine with two cores is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether these programs are here. A missing one is a skip that says so, not a pass.
fn have(programs: &[&str]) -> bool {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let missing =
        programs.iter().find(|program| !path.split(':').any(|folder| Path::new(folder).join(program).exists()));
    if let Some(program) = missing {
        println!("skipped: {program} is not installed (scripts/test installs it)");
    }
    missing.is_none()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

/// Asks again until there is an answer, for at most [`PATIENCE`].
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A temporary folder that the database's own user can pass through.
fn temporary_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// A running demo (the binary or the script); killed when the test ends early.
struct Demo {
    child: Child,
    /// `http://127.0.0.1:PORT`
    site: String,
    /// The certificate to trust, when the site speaks HTTPS.
    certificate: Option<PathBuf>,
}

impl Demo {
    fn start(command: &mut Command, temporary: &Path) -> Demo {
        let command =
            command.env("TMPDIR", temporary).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut log = String::new();
        let mut told = |start: &str| {
            lines.by_ref().find_map(|line| {
                log.push_str(&line);
                log.push('\n');
                Some(line.strip_prefix(start)?.split(' ').next().unwrap_or_default().to_owned())
            })
        };
        let site = told("demo: open ");
        let is_tls = site.as_ref().is_some_and(|site| site.starts_with("https://"));
        let certificate = if is_tls { told("demo: curl trusts it with: curl --cacert ") } else { None };
        let Some(site) = site else { panic!("the demo did not start:\n{log}") };
        let site = site.trim_end_matches('/').to_owned();
        let certificate = certificate.map(PathBuf::from);
        // Read on, or the demo would wait for its log to be read.
        std::thread::spawn(move || lines.for_each(|line| println!("{line}")));
        let demo = Demo { child, site, certificate };
        wait_for("the demo to answer", || (demo.curl(&["/guestbook/hello"]).0 == 200).then_some(()));
        demo
    }

    /// Status and body of one request; `arguments` are curl's, with the path last.
    fn curl(&self, arguments: &[&str]) -> (u16, String) {
        let (path, options) = arguments.split_last().unwrap();
        let command = &mut Command::new("curl");
        command.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}"]).args(options);
        if let Some(certificate) = &self.certificate {
            command.arg("--cacert").arg(certificate);
        }
        let output = command.arg(format!("{}{path}", self.site)).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (status, body) = self.curl(arguments);
        assert!((200..300).contains(&status), "{arguments:?}: {status} {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {body}"))
    }

    /// The traced events of one request, whose id is a number of the test's choice.
    fn events_of(&self, request_id: u64) -> Vec<Value> {
        let id = format!("{request_id:016x}");
        let trace = self.json(&["/trace?after=0"]);
        let events = trace["events"].as_array().unwrap();
        events.iter().filter(|event| event["request_id"] == id.as_str()).cloned().collect()
    }

    /// Ends it as a service manager would; true when it went by itself and reported success.
    fn stop(mut self) -> bool {
        terminate(&self.child);
        wait_for("the demo to end", || self.child.try_wait().unwrap()).success()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // A script has children of its own to stop, so it gets the chance to.
            terminate(&self.child);
            drop(self.child.wait());
        }
    }
}

/// A MariaDB primary and replica.
struct Pair {
    folder: String,
    settings: Vec<(String, String)>,
}

impl Pair {
    fn start() -> Pair {
        let output = Command::new(script("mariadb-pair")).arg("start").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let settings: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).map(owned).collect();
        let mut pair = Pair { folder: String::new(), settings };
        pair.folder = pair.setting("FOLDER").to_owned();
        pair
    }

    fn setting(&self, name: &str) -> &str {
        let found = self.settings.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("{name} is missing"))
    }

    /// Asks one server directly, past the splitter.
    fn ask(&self, socket: &str, sql: &str) -> String {
        let password = std::fs::read_to_string(self.setting("PASSWORD_FILE")).unwrap();
        let address = self.setting(socket).rsplit_once(':').unwrap();
        let output = Command::new("mariadb")
            .args(["--no-defaults", "--batch", "--skip-column-names", "--host", address.0, "--port", address.1])
            .args(["--user", self.setting("DB_USER"), "--execute", sql, self.setting("DATABASE")])
            .env("MYSQL_PWD", password.trim_end())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let stopped = Command::new(script("mariadb-pair")).args(["stop", &self.folder]).status();
        assert!(stopped.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn binary(flags: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(flags);
    command
}

#[test]
fn without_a_database_three_boxes_work_and_nothing_stays_behind() {
    if !have(&["curl"]) {
        return;
    }
    let temporary = temporary_folder();
    let demo = Demo::start(&mut binary(&["--no-database"]), temporary.path());

    let (status, page) = demo.curl(&["/"]);
    assert!(status == 200 && page.starts_with("<!doctype html>"), "{status} {page}");
    assert_eq!(demo.curl(&["/live.html"]).0, 200);
    assert_eq!(demo.curl(&["/mysql.sock"]).0, 404, "only the site's own files are served");

    // Signing with a form leads back to a page that shows the entry, escaped.
    let form = ["--location", "--data-urlencode", "name=Ada", "--data-urlencode", "message=1 < 2", "/guestbook/"];
    let (status, page) = demo.curl(&form);
    assert!(status == 200 && page.contains("1 &lt; 2"), "{status} {page}");

    // Both servers of the upstream take part, each request passes the balancer and then an application worker.
    let mut servers = std::collections::BTreeSet::new();
    for id in 1..=20_u64 {
        let header = format!("X-Request-Id: {id:016x}");
        assert_eq!(demo.curl(&["--header", &header, "/guestbook/api/entries"]).0, 200);
        let events = wait_for("both sides of the request in the trace", || {
            Some(demo.events_of(id)).filter(|events| events.len() >= 2)
        });
        let side = |kind: &str| events.iter().find(|event| event["served_by"] == kind);
        assert!(side("app").is_some(), "{events:?}");
        servers.insert(side("upstream").expect("the balancer's side")["server"].to_string());
    }
    assert_eq!(servers.len(), 2, "least-conn takes turns between equals: {servers:?}");

    assert!(demo.stop());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the demo's files are gone");
}

#[test]
fn over_tls_the_site_is_the_same_and_its_key_is_private() {
    if !have(&["curl"]) {
        return;
    }
    let temporary = temporary_folder();
    let demo = Demo::start(&mut binary(&["--no-database", "--tls"]), temporary.path());
    let certificate = demo.certificate.clone().expect("the demo tells its certificate");

    let (status, page) = demo.curl(&["/"]);
    assert!(status == 200 && page.starts_with("<!doctype html>"), "{status} {page}");
    let form = ["--location", "--data-urlencode", "name=Ada", "--data-urlencode", "message=hello", "/guestbook/"];
    let (status, page) = demo.curl(&form);
    assert!(status == 200 && page.contains("hello"), "{status} {page}");
    demo.json(&["/status"]);

    // Both versions of HTTP; and nobody who does not trust the certificate gets anything.
    let version = |flag: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "20", "--output", "/dev/null", "--write-out", "%{http_version}", flag]);
        let output = command.arg("--cacert").arg(&certificate).arg(format!("{}/", demo.site)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!((version("--http2"), version("--http1.1")), ("2".into(), "1.1".into()));
    let stranger = Command::new("curl").args(["--silent", "--max-time", "20"]).arg(&demo.site).status().unwrap();
    assert_eq!(stranger.code(), Some(60), "curl: the peer's certificate cannot be verified");

    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(certificate.parent().unwrap()), 0o700);
    assert_eq!(mode(&certificate.with_extension("key")), 0o600);
    assert!(demo.stop());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "certificate and key are gone");
}

#[test]
fn a_stream_is_not_held_back() {
    if !have(&["curl"]) {
        return;
    }
    let temporary = temporary_folder();
    let demo = Demo::start(&mut binary(&["--no-database"]), temporary.path());
    let timing = ["--silent", "--output", "/dev/null", "--write-out", "%{time_starttransfer} %{time_total}"];
    let output = Command::new("curl").args(timing).arg(format!("{}/guestbook/stream", demo.site)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let times: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!(times[1] > 2.8, "24 lines with 125 ms between them: {times:?}");
    assert!(times[1] - times[0] > 2.0, "the first line came long before the last: {times:?}");
}

#[test]
fn writes_go_to_the_primary_and_reads_to_the_replica() {
    if !have(&["curl", "mariadbd", "mariadb-install-db", "mariadb"]) {
        return;
    }
    let pair = Pair::start();
    let temporary = temporary_folder();
    let flags = [
        ["--primary", pair.setting("PRIMARY")],
        ["--replica", pair.setting("REPLICA")],
        ["--user", pair.setting("DB_USER")],
        ["--password-file", pair.setting("PASSWORD_FILE")],
        ["--database", pair.setting("DATABASE")],
    ];
    let demo = Demo::start(&mut binary(flags.as_flattened()), temporary.path());

    // The first visitor finds an empty book, though nobody has made its table yet.
    let empty = demo.json(&["/guestbook/api/entries"]);
    assert_eq!((&empty["store"], empty["entries"].as_array().unwrap().len()), (&"database".into(), 0));

    let write = 0xa11ce;
    let header = format!("X-Request-Id: {write:016x}");
    let message = "it's \"quoted\", \\slashed\\ and 🦀; DROP TABLE x -- ";
    let field = format!("message={message}");
    let form = ["--header", &header, "--header", "Accept: application/json", "--data-urlencode", "name=Ada"];
    let entry = demo.json(&[&form[..], &["--data-urlencode", &field, "/guestbook/"]].concat());
    assert_eq!(entry["message"], message.trim_end());
    let id = entry["id"].as_u64().unwrap();

    // Whoever has just written sees the entry at once, replica or not.
    let seen = demo.json(&[&format!("/guestbook/api/entries?seen={id}")]);
    assert_eq!(seen["entries"][0]["id"], id);

    let count = "SELECT COUNT(*) FROM guestbook_entries";
    assert_eq!(pair.ask("PRIMARY", count), "1");
    wait_for("the entry to reach the replica", || (pair.ask("REPLICA", count) == "1").then_some(()));

    let roles = |request_id| -> Vec<String> {
        let events = demo.events_of(request_id).into_iter().filter(|event| event["kind"] == "statement");
        events.map(|event| event["role"].as_str().unwrap().to_owned()).collect()
    };
    let written = wait_for("the write in the trace", || Some(roles(write)).filter(|roles| !roles.is_empty()));
    assert!(written.iter().all(|role| role == "primary"), "{written:?}");

    // The splitter's monitor may need a moment until it trusts the replica.
    let mut read = 0xb0b;
    wait_for("a read on the replica", || {
        read += 1;
        let header = format!("X-Request-Id: {read:016x}");
        let listing = demo.json(&["--header", &header, "/guestbook/api/entries"]);
        assert_eq!(listing["entries"][0]["message"], message.trim_end());
        let roles = wait_for("the read in the trace", || Some(roles(read)).filter(|roles| !roles.is_empty()));
        (roles == ["replica"]).then_some(())
    });
    assert!(demo.stop());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the demo's files are gone");
}

#[test]
fn the_demo_script_starts_everything_and_leaves_nothing_behind() {
    if !have(&["curl", "mariadbd", "mariadb-install-db", "mariadb"]) {
        return;
    }
    let temporary = temporary_folder();
    let mut command = Command::new(script("demo"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).env("ONE_SERVER", BINARY);
    let demo = Demo::start(&mut command, temporary.path());
    let signed = demo.json(&["--header", "Accept: application/json", "--data", "name=a&message=b", "/guestbook/"]);
    assert_eq!(signed["id"], 1);
    let environment = std::fs::read_dir(temporary.path())
        .unwrap()
        .find_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("db/env")).ok());
    let environment = environment.expect("the pair's settings");
    let pids: Vec<_> = environment.lines().filter_map(|line| line.split_once("_PID=")).map(|(_, pid)| pid).collect();
    assert_eq!(pids.len(), 2);
    assert!(!demo.stop(), "ended by a signal, the script says so");
    for pid in pids {
        // A process nobody has waited for yet has no command line any more.
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(command.is_empty(), "{pid} still runs: {}", String::from_utf8_lossy(&command));
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}
