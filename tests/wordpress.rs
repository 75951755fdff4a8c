//! Debian's WordPress as a whole site, as `scripts/wordpress` installs and serves it: somebody logs in, writes, uploads a picture,
//! visitors read under links with names in them, a browser shows the front page. Everything that people run WordPress with is in
//! it: php-fpm that we start, files with cache headers, a primary with a replica behind the splitter, HTTPS.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "support/ports.rs"]
#[allow(dead_code, reason = "other tests want addresses")]
mod ports;

const BINARY: &str = env!("CARGO_BIN_EXE_one-server");
/// A picture of one colour that is larger than WordPress's thumbnails; PNG.
const PICTURE_SIDE: u32 = 400;

/// Whether all of it is here. What is missing is a skip that says so, not a pass.
fn is_installed() -> bool {
    let wanted = [
        "/usr/share/wordpress/wp-includes",
        "/var/lib/wordpress/wp-content/themes/twentytwentythree",
        "/usr/sbin/mariadbd",
        "/usr/bin/php",
        "/usr/bin/curl",
        "/usr/bin/chromium",
    ];
    let missing = wanted.into_iter().find(|path| !Path::new(path).exists());
    if let Some(path) = missing {
        eprintln!("SKIPPED: there is no {path} (scripts/test installs it)");
    }
    missing.is_none()
}

/// The script, until it is dropped.
struct WordPress {
    script: Child,
    folder: PathBuf,
    origin: String,
    password: String,
}

impl WordPress {
    fn start(parent: &Path) -> WordPress {
        let folder = parent.join("site");
        let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/wordpress"))
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", ports::free_port()))
            .arg("--folder")
            .arg(&folder)
            .env("ONE_SERVER", BINARY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the script");
        let mut lines = BufReader::new(script.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut log = String::new();
        let said = lines.by_ref().find(|line| {
            log.push_str(line);
            log.push('\n');
            line.contains("open https://")
        });
        let said = said.unwrap_or_else(|| panic!("the script has ended:\n{log}"));
        std::thread::spawn(move || lines.for_each(|line| eprintln!("{line}")));
        let word = |before: &str, end: char| {
            let (_, rest) = said.split_once(before).unwrap_or_else(|| panic!("{before} in {said}"));
            rest.split(end).next().expect("one at least").trim_end_matches('/').to_owned()
        };
        WordPress { origin: word("open ", ' '), password: word("password ", ')'), script, folder }
    }

    /// What the splitter says of its servers.
    fn servers(&self) -> Vec<Value> {
        let output = Command::new(BINARY)
            .args(["ctl", "--json", "--socket"])
            .arg(self.folder.join("run/ctl.sock"))
            .args(["mysql", "show"])
            .output()
            .expect("ctl");
        let told: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        told["result"]["splitters"][0]["servers"].as_array().expect("servers").clone()
    }

    /// Assignments of the database's two servers.
    fn of_database(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join("db/env")).expect("the servers run");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).expect("an assignment");
        line.to_owned()
    }
}

impl Drop for WordPress {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.script);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.script.wait();
    }
}

/// Somebody with curl and a jar for cookies.
struct Visitor<'a> {
    site: &'a WordPress,
    jar: PathBuf,
}

struct Page {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    fn field(&self, name: &str) -> &str {
        let of_name = |line: &'_ str| line.split_once(':').is_some_and(|(field, _)| field.eq_ignore_ascii_case(name));
        self.head.lines().find(|line| of_name(line)).map_or("", |line| line[name.len() + 1..].trim())
    }
}

impl Visitor<'_> {
    fn ask(&self, path: &str, arguments: &[&str]) -> Page {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--max-time", "60", "--cacert"])
            .arg(self.site.folder.join("localhost.pem"))
            .arg("--cookie")
            .arg(&self.jar)
            .arg("--cookie-jar")
            .arg(&self.jar)
            .args(arguments)
            .arg(format!("{}{path}", self.site.origin))
            .output()
            .expect("curl");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {error}");
        let end = output.stdout.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        Page { status, head, body: output.stdout[end + 4..].to_vec() }
    }

    fn get(&self, path: &str) -> Page {
        self.ask(path, &[])
    }

    /// Logs in by the form; returns what the REST interface wants beside the cookie.
    fn log_in(&self) -> String {
        assert_eq!(self.get("/wp-login.php").status, 200);
        let password = format!("pwd={}", self.site.password);
        let form = ["--data", "log=admin&wp-submit=1&testcookie=1", "--data-urlencode", &password];
        assert_eq!(self.ask("/wp-login.php", &form).status, 302);
        let dashboard = self.get("/wp-admin/");
        assert!(dashboard.status == 200 && dashboard.text().contains("wp-admin-bar-my-account"), "{}", dashboard.head);
        self.get("/wp-admin/admin-ajax.php?action=rest-nonce").text()
    }
}

fn picture() -> Vec<u8> {
    let code = format!(
        "$i = imagecreatetruecolor({PICTURE_SIDE}, {PICTURE_SIDE}); imagefill($i, 0, 0, 0x336699); imagepng($i);"
    );
    let output = Command::new("php").arg("-r").arg(code).output().expect("php");
    assert!(output.status.success() && output.stdout.starts_with(b"\x89PNG"), "php-gd makes pictures");
    output.stdout
}

#[test]
fn people_use_wordpress() {
    if !is_installed() {
        return;
    }
    let temporary = tempfile::tempdir().expect("a folder");
    // The database's user and PHP's must get through.
    std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
    let mut site = WordPress::start(temporary.path());
    let admin = Visitor { site: &site, jar: temporary.path().join("admin") };
    let nonce = format!("X-WP-Nonce: {}", admin.log_in());

    let post = ["--header", &nonce, "--data", "status=publish&title=One+process&content=Nothing+was+lost."];
    let post = admin.ask("/wp-json/wp/v2/posts", &post);
    assert_eq!(post.status, 201, "{}", post.text());
    let link = post.json()["link"].as_str().expect("a link").to_owned();
    let path = link.strip_prefix(&site.origin).expect("on this site");
    assert!(path.ends_with("/one-process/") && !path.contains('?'), "a link with its name in it: {path}");

    let bytes = picture();
    std::fs::write(temporary.path().join("colour.png"), &bytes).expect("written");
    let form = format!("file=@{}", temporary.path().join("colour.png").display());
    let upload = admin.ask("/wp-json/wp/v2/media", &["--header", &nonce, "--form", &form]);
    assert_eq!(upload.status, 201, "{}", upload.text());
    let media = upload.json();
    let at = |url: &Value| url.as_str().and_then(|url| url.strip_prefix(&site.origin)).expect("a link").to_owned();
    let (whole, thumbnail) =
        (at(&media["source_url"]), at(&media["media_details"]["sizes"]["thumbnail"]["source_url"]));

    let visitor = Visitor { site: &site, jar: temporary.path().join("visitor") };
    let page = visitor.get(path);
    assert!(page.status == 200 && page.text().contains("Nothing was lost."), "{}: {}", page.status, page.text());
    assert!(visitor.get("/").text().contains("/one-process/"), "the front page has it, too");
    assert_eq!(visitor.get("/no/such/page/").status, 404);

    let shown = visitor.get(&whole);
    assert!(shown.body == bytes && shown.field("content-type") == "image/png", "{}", shown.head);
    assert!(visitor.get(&thumbnail).body.starts_with(b"\x89PNG"), "{thumbnail}: made by PHP");
    for path in [&whole, "/wp-includes/css/dist/block-library/style.min.css"] {
        let file = visitor.get(path);
        assert_eq!((file.status, file.field("cache-control")), (200, "max-age=2592000"), "{path}");
        let again = format!("If-None-Match: {}", file.field("etag"));
        assert_eq!(visitor.ask(path, &["--header", &again]).status, 304, "{path}");
    }
    let coded = visitor.ask("/wp-includes/js/jquery/jquery.min.js", &["--header", "Accept-Encoding: gzip"]);
    assert_eq!(coded.field("content-encoding"), "gzip");
    // It is there, and runs where it may.
    for folder in ["wp-content/uploads", "wp-content"] {
        let script = site.folder.join("site").join(folder).join("x.php");
        std::fs::write(&script, "<?php echo 'it ', 'runs';").expect("written");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
    }
    let script = visitor.get("/wp-content/x.php");
    assert_eq!((script.status, script.text().as_str()), (200, "it runs"));
    for hidden in ["/wp-config.php", "/wp-content/uploads/x.php", "/wp-content/../../site.toml"] {
        let answer = visitor.ask(hidden, &["--path-as-is"]);
        assert_eq!(answer.status, if hidden.contains("..") { 400 } else { 404 }, "{hidden}");
        assert!(!answer.text().contains("runs") && !answer.text().contains("<?php"), "{hidden}: {}", answer.text());
    }

    let statements: Vec<u64> =
        site.servers().iter().map(|server| server["statements"].as_u64().expect("a count")).collect();
    assert!(statements.len() == 2 && statements.iter().all(|count| *count > 100), "both serve: {statements:?}");
    browse(&site, temporary.path());
    a_replica_dies_and_nobody_notices(&site, path);
    let folder = site.folder.clone();
    let pid = rustix::process::Pid::from_child(&site.script);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(site.script.wait().expect("a child").code(), Some(130));
    assert!(!folder.exists(), "nothing is left behind");
}

/// The front page in a browser, which shows what was written. `ONE_SERVER_KEEP_SCREENSHOT` names a file for whoever wants to look at it.
fn browse(site: &WordPress, folder: &Path) {
    let screenshot = folder.join("page.png");
    let (log, _) = chromium(site, folder, &format!("--screenshot={}", screenshot.display()));
    let picture = std::fs::read(&screenshot).unwrap_or_else(|error| panic!("{error}:\n{log}"));
    if let Some(kept) = std::env::var_os("ONE_SERVER_KEEP_SCREENSHOT") {
        std::fs::copy(&screenshot, kept).expect("copied");
    }
    assert!(picture.len() > 30_000, "{} bytes: the picture shows something", picture.len());
    let (_, page) = chromium(site, folder, "--dump-dom");
    for text in [">One process</a>", "Nothing was lost."] {
        assert!(page.contains(text), "no {text} in {page}");
    }
}

/// What the browser tells, in which there is nothing that the page complains of, and what it prints.
fn chromium(site: &WordPress, folder: &Path, task: &str) -> (String, String) {
    let output = Command::new("timeout")
        .args(["120", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
        .args(["--ignore-certificate-errors", "--enable-logging=stderr", "--window-size=1280,1600"])
        .arg(format!("--user-data-dir={}", folder.join("browser").display()))
        .arg(task)
        .arg(&site.origin)
        .output()
        .expect("chromium");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{console:?}");
    (log, String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Visitors read on while the replica of the database is killed.
fn a_replica_dies_and_nobody_notices(site: &WordPress, path: &str) {
    let (ends, pages, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let read = |number: usize| {
        let visitor = Visitor { site, jar: site.folder.join(format!("jar-{number}")) };
        while !ends.load(Relaxed) {
            let page = visitor.get(path);
            match page.status == 200 && page.text().contains("Nothing was lost.") {
                true => pages.fetch_add(1, Relaxed),
                false => failed.fetch_add(1, Relaxed),
            };
        }
    };
    std::thread::scope(|scope| {
        (0..2).for_each(|number| drop(scope.spawn(move || read(number))));
        let wait_for = |more: usize| {
            let (begin, wanted) = (Instant::now(), pages.load(Relaxed) + more);
            while pages.load(Relaxed) < wanted && begin.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(20));
            }
            pages.load(Relaxed) >= wanted
        };
        let before = wait_for(4);
        let pid = site.of_database("REPLICA_PID").parse().ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::KILL).expect("it runs");
        let after = wait_for(8);
        ends.store(true, Relaxed);
        assert!(before && after, "{} pages, {} failed", pages.load(Relaxed), failed.load(Relaxed));
    });
    assert_eq!(failed.load(Relaxed), 0, "of {} pages", pages.load(Relaxed));
}
