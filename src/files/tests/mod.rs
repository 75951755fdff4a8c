//! The file tier over real folders: requests go in as text, heads and bodies come out.

mod candidates;
mod coded;
mod compressed;
mod disk;
mod listings;
mod ranges;
mod rules;

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::serve::{FileSlice, Plan, PlanBody, Request, prepare, prepare_cached, write_fields};
use super::*;
use crate::config::model::{Candidate, Coding, Files, Listing, Symlinks};
use crate::http::h1::Method;
use crate::metrics::FileStats;
use crate::util::path::normalize;

const VALID: Duration = Duration::from_secs(1);
const DATE: &[u8; 29] = b"Mon, 23 Nov 2026 10:00:00 GMT";

/// So late that no file counts as changed just now.
fn late() -> i64 {
    4_000_000_000
}

struct Site {
    dir: tempfile::TempDir,
    files: Arc<Files>,
    cache: Cache,
    stats: FileStats,
    now: Instant,
}

/// Longer than a tick of the file system's clock, so that two changes have two times.
fn tick() {
    std::thread::sleep(Duration::from_millis(20));
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    from_memory: bool,
}

fn limits() -> Limits {
    Limits { bytes_max: 1 << 20, file_bytes_max: 4096, entries_max: 1000, descriptors_max: 10, valid: VALID }
}

impl Site {
    fn new() -> Site {
        Site::with(limits(), |_| {})
    }

    fn with(limits: Limits, change: impl FnOnce(&mut Files)) -> Site {
        let dir = tempfile::tempdir().expect("temporary folder");
        let root = dir.path().join("root");
        fs::create_dir(&root).expect("root");
        let mut files = crate::config::Defaults::default().files(&root);
        files.index = vec!["index.html".into(), "index.htm".into()];
        change(&mut files);
        let cache = Cache::new(limits).with_clock(late);
        Site { dir, files: Arc::new(files), cache, stats: FileStats::default(), now: Instant::now() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("root").join(name)
    }

    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(&path, content).expect("write");
        path
    }

    fn later(&mut self, duration: Duration) {
        self.now += duration;
    }

    fn ask(&mut self, method: Method, target: &str, conditions: Conditions<'_>) -> Answer {
        self.ask_for(method, target, conditions, CodingSet::NONE, "")
    }

    fn ask_for(
        &mut self,
        method: Method,
        target: &str,
        conditions: Conditions<'_>,
        accepts: CodingSet,
        accept: &str,
    ) -> Answer {
        let plan = self.plan_for(method, target, conditions, accepts, accept);
        self.cache.check_invariants();
        Answer::of(plan, method)
    }

    fn plan_for(
        &mut self,
        method: Method,
        target: &str,
        conditions: Conditions<'_>,
        accepts: CodingSet,
        accept: &str,
    ) -> Plan {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.as_bytes())),
            None => (target, None),
        };
        let mut scratch = Vec::new();
        let path = normalize(path.as_bytes(), &mut scratch).expect("a good path");
        let request =
            Request { method, path, query, conditions, accepts, accept: accept.as_bytes().into(), substitute: None };
        prepare(&self.files, 0, &mut self.cache, &request, self.now, &self.stats)
    }

    fn plan(&mut self, target: &str) -> Plan {
        self.plan_for(Method::Get, target, Conditions::default(), CodingSet::NONE, "")
    }

    fn plan_of(&mut self, target: &str) -> (u16, String, PlanBody) {
        let plan = self.plan(target);
        let mut head = Vec::new();
        write_head(&plan, b"", DATE, &mut head);
        (plan.status, String::from_utf8(head).expect("text"), plan.body)
    }

    fn accepting(&mut self, target: &str, codings: &[Coding]) -> Answer {
        let accepts = codings.iter().copied().collect();
        self.ask_for(Method::Get, target, Conditions::default(), accepts, "")
    }

    fn ranged(&mut self, target: &str, range: &str) -> Answer {
        let conditions = Conditions { range: Some(range.as_bytes()), ..Conditions::default() };
        self.ask(Method::Get, target, conditions)
    }

    fn get(&mut self, target: &str) -> Answer {
        self.ask(Method::Get, target, Conditions::default())
    }

    #[track_caller]
    fn check(&mut self, target: &str, status: u16, body: &str) {
        let answer = self.get(target);
        assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).as_ref()), (status, body), "{target}");
    }

    #[track_caller]
    fn check_status(&mut self, target: &str, status: u16) {
        assert_eq!(self.get(target).status, status, "{target}");
    }
}

fn content_of(slice: &FileSlice) -> Vec<u8> {
    let mut body = vec![0; slice.len as usize];
    slice.file.read_exact_at(&mut body, slice.offset).expect("the whole body");
    body
}

impl Answer {
    /// Does what the sender does.
    fn of(mut plan: Plan, method: Method) -> Answer {
        if let PlanBody::NeedsListing(errand) = &plan.body {
            plan = Plan::listed(errand.run(), method);
        }
        let mut head = Vec::new();
        write_head(&plan, b"one", DATE, &mut head);
        let from_memory = !matches!(plan.body, PlanBody::File(_));
        let body_len = plan.body.len();
        let body = match plan.body {
            PlanBody::None => Vec::new(),
            PlanBody::Bytes(bytes) => bytes.to_vec(),
            PlanBody::File(slice) => content_of(&slice),
            PlanBody::Parts(pieces) => {
                let bytes = |piece: &Piece| match piece {
                    Piece::Bytes(bytes) => bytes.to_vec(),
                    Piece::File(slice) => content_of(slice),
                };
                pieces.iter().flat_map(bytes).collect()
            }
            PlanBody::NeedsListing(_) => panic!("a listing of a listing"),
            PlanBody::Route(route) => format!("route {route}").into_bytes(),
        };
        assert_eq!(body.len() as u64, body_len);
        let answer = Answer { status: plan.status, head: String::from_utf8(head).expect("text"), body, from_memory };
        if method == Method::Get && plan.status != 304 {
            assert_eq!(answer.field("Content-Length"), Some(body_len.to_string().as_str()), "{answer:?}");
        }
        answer
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn set_mtime(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    File::options()
        .write(true)
        .open(path)
        .and_then(|f| f.set_times(FileTimes::new().set_modified(time)))
        .expect("mtime");
}

#[test]
fn a_file_is_served_with_its_fields() {
    let mut site = Site::new();
    set_mtime(&site.put("a/page.html", "<p>hello"), 784_111_777);
    let answer = site.get("/a/page.html");
    assert_eq!(
        answer.head,
        "HTTP/1.1 200 OK\r\nServer: one\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\n\
         Content-Type: text/html; charset=utf-8\r\n\
         Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"ae1b981bc490a00-8\"\r\nAccept-Ranges: bytes\r\n\
         Content-Length: 8\r\n"
    );
    assert_eq!(answer.body, b"<p>hello");
    let head = site.ask(Method::Head, "/a/page.html", Conditions::default());
    assert_eq!((head.head, head.body.len()), (answer.head, 0));
}

#[test]
fn an_empty_file_has_length_zero() {
    let mut site = Site::new();
    site.put("empty.txt", "");
    let answer = site.get("/empty.txt");
    assert_eq!((answer.status, answer.field("Content-Length"), answer.body.len()), (200, Some("0"), 0));
}

#[test]
fn a_cached_file_needs_no_system_call() {
    let mut site = Site::new();
    site.put("a.txt", "a");
    site.put("index.htm", "i");
    site.check("/a.txt", 200, "a");
    site.check("/", 200, "i");
    fs::remove_dir_all(site.dir.path().join("root")).expect("remove");
    site.check("/a.txt", 200, "a");
    site.check("/", 200, "i");
    assert_eq!(site.stats.cache_misses.value(), 3, "a.txt, index.html, index.htm");
    site.later(VALID);
    site.check_status("/a.txt", 404);
    site.check_status("/", 404);
    assert_eq!(site.stats.cache_bytes.value(), 0);
}

#[test]
fn names_are_decoded_once() {
    let mut site = Site::new();
    site.put("a b/é%20.txt", "x");
    site.check("/a%20b/%C3%A9%2520.txt", 200, "x");
}

#[test]
fn nothing_outside_the_root_is_served() {
    let mut site = Site::new();
    fs::write(site.dir.path().join("secret"), "secret").expect("write");
    fs::create_dir(site.dir.path().join("folder")).expect("folder");
    fs::write(site.dir.path().join("folder/index.html"), "secret").expect("write");
    site.put("inside/page", "inside");
    symlink("../secret", site.path("up")).expect("link");
    symlink(site.dir.path().join("secret"), site.path("absolute")).expect("link");
    symlink("../folder", site.path("folder")).expect("link");
    symlink("/proc/self/root/etc/passwd", site.path("magic")).expect("link");
    symlink("inside", site.path("within")).expect("link");
    symlink("inside/../within/page", site.path("page")).expect("link");
    symlink("loop", site.path("loop")).expect("link");
    for target in ["/up", "/absolute", "/folder", "/folder/", "/folder/index.html", "/magic", "/loop"] {
        site.check_status(target, 404);
    }
    // Links that stay inside are fine.
    site.check("/within/page", 200, "inside");
    site.check("/page", 200, "inside");
}

#[test]
fn a_prefix_is_cut_off_but_never_climbs() {
    let mut site = Site::with(limits(), |files| files.strip_prefix = "/static".into());
    fs::write(site.dir.path().join("secret"), "secret").expect("write");
    site.put("a.css", "a");
    site.put("index.html", "i");
    site.check("/static/a.css", 200, "a");
    site.check("/static/", 200, "i");
    site.check_status("/static../secret", 404);
    for own in [false, true] {
        if own {
            let candidate = Candidate::Path { before: String::new(), takes_path: true, after: "/".into() };
            site.files = Arc::new(Files { candidates: vec![candidate], ..(*site.files).clone() });
        }
        let answer = site.get("/static?q=1");
        assert_eq!((answer.status, answer.field("Location")), (301, Some("/static/?q=1")));
        site.check("/static/", 200, "i");
    }
}

#[test]
fn directories() {
    let mut site = Site::new();
    site.put("index.html", "top");
    site.put("old/index.htm", "old");
    site.put("sub/index.html/x", "index.html is a directory here");
    site.put("empty/x", "x");
    site.check("/", 200, "top");
    assert_eq!(site.get("/old/").field("Content-Type"), Some("text/html; charset=utf-8"));
    site.check("/old/", 200, "old");
    site.check_status("/sub/", 403);
    site.check_status("/empty/", 403);
    site.check_status("/missing/", 404);
    site.check_status("/index.html/", 404);
    site.check_status("/old/index.htm/x", 404);
    let answer = site.get("/old?a=b&c=%20");
    assert_eq!((answer.status, answer.field("Location")), (301, Some("/old/?a=b&c=%20")));
}

#[test]
fn a_redirect_cannot_lead_to_another_host_or_split_the_head() {
    let mut site = Site::new();
    site.put("\\evil.example/x", "");
    site.put("a\"b %é/x", "");
    assert_eq!(site.get("/\\evil.example").field("Location"), Some("/%5Cevil.example/"));
    assert_eq!(site.get("//%5Cevil.example").field("Location"), Some("/%5Cevil.example/"));
    assert_eq!(site.get("/a\"b%20%25%C3%A9").field("Location"), Some("/a%22b%20%25%C3%A9/"));
    assert_eq!(site.get("/a\"b%20%25%C3%A9?x\r\ny: z").field("Location"), Some("/a%22b%20%25%C3%A9/?x%0D%0Ay:%20z"));
}

#[test]
fn dot_files_do_not_exist() {
    let mut site = Site::with(limits(), |files| files.fallback = Some("/index.html".into()));
    site.put(".env", "secret");
    site.put(".git/config", "secret");
    site.put("index.html", "app");
    site.put(".well-known/acme-challenge/t", "token");
    site.check_status("/.env", 404);
    site.check_status("/.git/config", 404);
    site.check_status("/%2egit/config", 404);
    site.check_status("/.git/", 404);
    site.check("/.well-known/acme-challenge/t", 200, "token");
}

#[test]
fn only_regular_files_are_opened() {
    let mut site = Site::new();
    rustix::fs::mknodat(rustix::fs::CWD, site.path("fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0).expect("fifo");
    let _socket = std::os::unix::net::UnixListener::bind(site.path("socket")).expect("socket");
    symlink("fifo", site.path("link")).expect("link");
    for target in ["/fifo", "/socket", "/link", "/fifo/"] {
        site.check_status(target, 404);
    }
}

#[test]
fn other_methods_are_told_what_is_allowed() {
    let mut site = Site::new();
    site.put("a", "a");
    // RFC 9110 section 15.5.6.
    for method in [Method::Post, Method::Put, Method::Delete, Method::Other] {
        let answer = site.ask(method, "/a", Conditions::default());
        assert_eq!((answer.status, answer.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
    }
    // Section 9.3.7; preconditions do not concern it (13.2.1), and 204 has no length (8.6).
    let stale = Conditions { if_match: b"\"x\"".as_slice().into(), ..Conditions::default() };
    let answer = site.ask(Method::Options, "/a", stale);
    assert_eq!((answer.status, answer.field("Allow"), answer.body.len()), (204, Some("GET, HEAD, OPTIONS"), 0));
    assert_eq!((answer.field("Content-Length"), answer.field("Content-Type")), (None, None));
    assert_eq!(site.ask(Method::Options, "/none", Conditions::default()).status, 404);
}

#[test]
fn missing_files_fall_back() {
    let mut site = Site::with(limits(), |files| files.fallback = Some("/app.html".into()));
    site.put("assets/a.js", "js");
    site.check_status("/users/1", 404);
    site.put("app.html", "app");
    site.later(VALID);
    site.check("/users/1", 200, "app");
    site.check("/", 200, "app");
    site.check("/assets/", 200, "app");
    site.check("/assets/a.js", 200, "js");
    site.check_status("/assets", 301);
    let answer = site.get("/users/2");
    assert_eq!(answer.field("Content-Type"), Some("text/html; charset=utf-8"));
}

#[test]
fn conditions_and_ranges_reach_the_answer() {
    let mut site = Site::new();
    set_mtime(&site.put("n.txt", "0123456789"), 784_111_777);
    let etag = site.get("/n.txt").field("ETag").expect("tag").to_owned();
    let tagged = Conditions { if_none_match: etag.as_bytes().into(), ..Conditions::default() };
    let answer = site.ask(Method::Get, "/n.txt", tagged);
    assert_eq!((answer.status, answer.field("ETag"), answer.body.len()), (304, Some(etag.as_str()), 0));
    assert_eq!((answer.field("Content-Length"), answer.field("Content-Type")), (None, None));
    assert_eq!(site.stats.not_modified.value(), 1);

    let ranged = |range: &'static str| Conditions { range: Some(range.as_bytes()), ..Conditions::default() };
    let answer = site.ask(Method::Get, "/n.txt", ranged("bytes=2-4"));
    assert_eq!((answer.status, answer.body.as_slice()), (206, b"234".as_slice()));
    assert_eq!((answer.field("Content-Length"), answer.field("Content-Range")), (Some("3"), Some("bytes 2-4/10")));
    assert_eq!(answer.field("ETag"), Some(etag.as_str()));
    let answer = site.ask(Method::Get, "/n.txt", ranged("bytes=10-"));
    assert_eq!((answer.status, answer.field("Content-Range")), (416, Some("bytes */10")));
    assert_eq!(answer.field("Content-Length"), Some(answer.body.len().to_string().as_str()));
    let answer = site.ask(Method::Head, "/n.txt", ranged("bytes=2-4"));
    assert_eq!((answer.status, answer.field("Content-Length")), (200, Some("10")));

    let stale = Conditions { if_match: b"\"x\"".as_slice().into(), ..Conditions::default() };
    assert_eq!(site.ask(Method::Get, "/n.txt", stale).status, 412);
}

#[test]
fn an_unchanged_file_is_kept_and_a_changed_one_is_read_again() {
    let mut site = Site::new();
    let path = site.put("a.txt", "one");
    set_mtime(&path, 1_000_000_000);
    site.check("/a.txt", 200, "one");
    let etag = site.get("/a.txt").field("ETag").map(str::to_owned);
    site.later(VALID);
    site.check("/a.txt", 200, "one");
    assert_eq!(site.stats.cache_misses.value(), 1);

    // In place, same size, same mtime: the ctime gives it away.
    tick();
    fs::write(&path, "two").expect("write");
    set_mtime(&path, 1_000_000_000);
    site.check("/a.txt", 200, "one");
    site.later(VALID);
    site.check("/a.txt", 200, "two");

    // Replaced by rename, the usual way of deployments.
    let new = site.put("new", "three");
    fs::rename(new, &path).expect("rename");
    site.later(VALID);
    let answer = site.get("/a.txt");
    assert_eq!(answer.body, b"three");
    assert_ne!(answer.field("ETag").map(str::to_owned), etag);

    // Truncated.
    File::create(&path).expect("truncate");
    site.later(VALID);
    site.check("/a.txt", 200, "");

    tick();
    // Touched: same bytes, new date.
    set_mtime(&path, 784_111_777);
    site.later(VALID);
    assert_eq!(site.get("/a.txt").field("Last-Modified"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));

    // Deleted, then a directory of that name.
    fs::remove_file(&path).expect("remove");
    site.later(VALID);
    site.check_status("/a.txt", 404);
    fs::create_dir(&path).expect("folder");
    site.later(VALID);
    site.check_status("/a.txt", 301);
    assert!(site.cache.is_empty());
}

#[test]
fn a_file_written_just_now_is_read_again_at_the_next_look() {
    let mut site = Site::new();
    site.cache = Cache::new(limits());
    site.put("a.txt", "one");
    site.check("/a.txt", 200, "one");
    site.later(VALID);
    site.check("/a.txt", 200, "one");
    assert_eq!(site.stats.cache_misses.value(), 2);
}

#[test]
fn without_validity_every_request_looks_at_the_disk() {
    let mut site = Site::with(Limits { valid: Duration::ZERO, ..limits() }, |_| {});
    site.check_status("/a.txt", 404);
    let path = site.put("a.txt", "one");
    site.check("/a.txt", 200, "one");
    tick();
    fs::write(&path, "two").expect("write");
    site.check("/a.txt", 200, "two");
    fs::remove_file(&path).expect("remove");
    site.check_status("/a.txt", 404);
}

#[test]
fn a_missing_file_is_remembered_for_the_validity_only() {
    let mut site = Site::new();
    site.check_status("/a.txt", 404);
    site.put("a.txt", "a");
    site.check_status("/a.txt", 404);
    site.later(VALID);
    site.check("/a.txt", 200, "a");
    for n in 0..3000 {
        site.check_status(&format!("/missing-{n}"), 404);
    }
    assert_eq!(site.cache.len(), 1);
}

#[test]
fn an_index_file_that_appears_later_wins() {
    let mut site = Site::new();
    site.put("index.htm", "second");
    site.check("/", 200, "second");
    site.put("index.html", "first");
    site.later(VALID);
    site.check("/", 200, "first");
}

#[test]
fn a_root_that_is_switched_by_a_link_is_followed() {
    let mut site = Site::with(limits(), |files| files.root = files.root.with_file_name("current"));
    for release in ["one", "two"] {
        let folder = site.dir.path().join(release);
        fs::create_dir(&folder).expect("folder");
        fs::write(folder.join("a.txt"), release).expect("write");
    }
    let (current, next) = (site.dir.path().join("current"), site.dir.path().join("next"));
    site.check_status("/a.txt", 404);
    symlink("one", &current).expect("link");
    site.later(VALID);
    site.check("/a.txt", 200, "one");
    symlink("two", &next).expect("link");
    fs::rename(&next, &current).expect("switch");
    site.check("/a.txt", 200, "one");
    site.later(VALID);
    site.check("/a.txt", 200, "two");
    fs::remove_file(&current).expect("remove");
    site.later(VALID);
    site.check_status("/a.txt", 404);
    assert!(site.cache.is_empty());
}

#[test]
fn a_new_config_keeps_what_is_still_true() {
    let mut site = Site::new();
    site.put("a.txt", "a");
    site.check("/a.txt", 200, "a");
    site.files = Arc::new((*site.files).clone());
    site.check("/a.txt", 200, "a");
    assert_eq!(site.stats.cache_misses.value(), 1);
    // Number 0 stands for another folder now.
    let other = site.dir.path().join("other");
    fs::create_dir(&other).expect("folder");
    fs::write(other.join("a.txt"), "other").expect("write");
    site.files = Arc::new(Files { root: other, ..(*site.files).clone() });
    site.check("/a.txt", 200, "other");
    site.cache.reconfigure(limits(), 0, &site.stats);
    assert!(site.cache.is_empty());
    site.cache.check_invariants();
}

#[test]
fn large_files_go_out_from_their_descriptor() {
    let mut site = Site::new();
    let content = "0123456789abcdef".repeat(1000);
    let path = site.put("big.bin", &content);
    let answer = site.get("/big.bin");
    assert!(!answer.from_memory);
    assert_eq!(answer.body, content.as_bytes());
    let range = Conditions { range: Some(b"bytes=-20"), ..Conditions::default() };
    assert_eq!(site.ask(Method::Get, "/big.bin", range).body, &content.as_bytes()[content.len() - 20..]);
    // Replaced while a response is under way: the old file is sent to its end.
    let new = site.put("new", "small now");
    fs::rename(new, path).expect("rename");
    assert_eq!(site.get("/big.bin").body, content.as_bytes());
    site.later(VALID);
    assert!(site.get("/big.bin").from_memory);
    site.check("/big.bin", 200, "small now");
}

#[test]
fn the_cache_stays_within_its_limits() {
    let few = Limits { bytes_max: 20_000, entries_max: 12, descriptors_max: 3, ..limits() };
    let mut site = Site::with(few, |_| {});
    for n in 0..60 {
        site.put(&format!("small-{n}"), &"s".repeat(100 * (n % 10 + 1)));
        site.put(&format!("large-{n}"), &"l".repeat(5000 + n));
    }
    let mut random = 7u64;
    for _ in 0..2000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let n = (random >> 33) % 60;
        let kind = if random >> 60 < 8 { "small" } else { "large" };
        let answer = site.get(&format!("/{kind}-{n}"));
        let len = if kind == "small" { 100 * (n % 10 + 1) } else { 5000 + n };
        assert_eq!((answer.status, answer.body.len() as u64), (200, len));
        assert!(site.cache.len() <= 15 && site.cache.bytes() <= 20_000 + 3 * 1024);
        site.later(Duration::from_millis(1));
    }
    assert!(site.stats.cache_evictions.value() > 100);
    assert_eq!(site.stats.cache_entries.value(), site.cache.len() as u64);
}

#[test]
fn a_hot_file_survives_a_scan() {
    let mut site = Site::with(Limits { entries_max: 8, ..limits() }, |_| {});
    site.put("hot", "hot");
    for n in 0..100 {
        site.put(&format!("{n}"), "x");
        site.check("/hot", 200, "hot");
        site.check_status(&format!("/{n}"), 200);
    }
    assert_eq!(site.stats.cache_misses.value(), 101);
}

#[test]
fn nothing_is_kept_when_nothing_may_be() {
    let none = Limits { bytes_max: 0, entries_max: 0, descriptors_max: 0, ..limits() };
    let mut site = Site::with(none, |_| {});
    site.put("a", "a");
    site.check("/a", 200, "a");
    site.check("/a", 200, "a");
    assert!(site.cache.is_empty());
}

#[test]
fn head_and_body_agree_under_a_busy_writer() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    let mut site = Site::with(Limits { valid: Duration::ZERO, ..limits() }, |_| {});
    let path = site.put("a", "start");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut round = 0;
            while !stop.load(Relaxed) {
                round = (round + 1) % 40;
                fs::write(&path, "x".repeat(100 * round)).expect("write");
            }
        }
    });
    let (start, mut from_memory) = (Instant::now(), 0);
    while from_memory < 200 {
        assert!(start.elapsed() < Duration::from_secs(60), "the writer never lets a file be whole");
        let (status, head, body) = site.plan_of("/a");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("length").to_owned();
        assert_eq!((status, length), (200, body.len().to_string()));
        from_memory += u32::from(matches!(body, PlanBody::Bytes(_)));
    }
    stop.store(true, Relaxed);
    writer.join().expect("writer");
}

#[test]
fn what_may_not_be_read_is_forbidden() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    // Root reads everything: this thread gives that up. Other threads keep it.
    let mut sets = capabilities(None).expect("capabilities");
    sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, sets).expect("fewer capabilities");
    let mut site = Site::with(limits(), |files| files.fallback = Some("/app.html".into()));
    site.put("app.html", "app");
    let file = site.put("secret", "secret");
    let folder = site.put("closed/x", "x").parent().expect("parent").to_owned();
    site.check("/secret", 200, "secret");
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    chmod(&file, 0);
    chmod(&folder, 0);
    site.later(VALID);
    for target in ["/secret", "/closed/x", "/closed/"] {
        site.check_status(target, 403);
    }
    chmod(&folder, 0o755);
    site.check("/closed/x", 200, "x");
}

#[test]
fn errors_have_their_status() {
    let check = |errno: Errno, status: u16| {
        assert_eq!(FileError::from(Some(errno)).status(), status, "{errno:?}");
    };
    check(Errno::NOENT, 404);
    check(Errno::NOTDIR, 404);
    check(Errno::XDEV, 404);
    check(Errno::LOOP, 404);
    check(Errno::NAMETOOLONG, 404);
    check(Errno::ACCESS, 403);
    check(Errno::MFILE, 503);
    check(Errno::IO, 500);
}

#[test]
fn long_names_are_not_found() {
    let mut site = Site::new();
    site.check_status(&format!("/{}", "n".repeat(300)), 404);
    site.check_status(&format!("/{}", "n/".repeat(4000)), 404);
}

#[test]
fn a_small_file_that_is_not_in_memory_is_sent_from_its_descriptor_first() {
    let mut site = Site::new();
    let path = site.put("cold.txt", "cold");
    let file = File::open(path).expect("open");
    file.sync_all().expect("sync");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
    let first = site.get("/cold.txt");
    assert_eq!((first.status, first.body.as_slice()), (200, b"cold".as_slice()));
    if first.from_memory {
        eprintln!("skipped: this file system keeps its pages or cannot tell");
        return;
    }
    // It was read by now, so the next look takes it into memory.
    site.later(VALID);
    let second = site.get("/cold.txt");
    assert!(second.from_memory);
    assert_eq!((second.head, second.body), (first.head, first.body));
}

#[test]
fn a_file_too_large_for_the_cache_evicts_nothing() {
    let mut site = Site::with(Limits { bytes_max: 2000, ..limits() }, |_| {});
    site.put("small", "s");
    site.put("medium", &"m".repeat(1400));
    site.check("/small", 200, "s");
    site.check("/medium", 200, &"m".repeat(1400));
    assert_eq!((site.cache.len(), site.stats.cache_evictions.value()), (1, 0));
}

#[test]
fn a_cached_file_costs_no_allocation() {
    let mut site = Site::new();
    site.put("a.txt", "a");
    site.put("docs/index.htm", "second name");
    site.put("large", &"l".repeat(5000));
    let mut out = Vec::with_capacity(1024);
    let mut scratch = Vec::with_capacity(64);
    for target in ["/a.txt", "/%61.txt", "/docs/", "/large"] {
        site.check_status(target, 200);
        let mut once = || {
            out.clear();
            let path = normalize(target.as_bytes(), &mut scratch).expect("a good path");
            let conditions = Conditions {
                if_none_match: b"\"x\"".as_slice().into(),
                range: Some(b"bytes=0-"),
                ..Conditions::default()
            };
            let accepts = CodingSet::NONE;
            let request = Request {
                method: Method::Get,
                path,
                query: None,
                conditions,
                accepts,
                accept: Lines::default(),
                substitute: None,
            };
            let plan = prepare(&site.files, 0, &mut site.cache, &request, site.now, &site.stats);
            write_fields(&plan, &mut out);
            plan.status
        };
        let (allocations, status) = crate::runtime::sys::allocations::count(&mut once);
        assert_eq!((allocations, status), (0, 206), "{target}");
    }
}

/// Random changes to a folder and random requests, without validity: each answer must be what is on the disk.
#[test]
fn answers_are_what_is_on_the_disk() {
    for seed in 1..=8u64 {
        follow_the_disk(seed);
    }
}

fn follow_the_disk(seed: u64) {
    const NAMES: [&str; 6] = ["a", "b", "c/index.html", "c/x", "d/index.htm", "d"];
    const TARGETS: [&str; 8] = ["/a", "/b", "/c", "/c/", "/c/x", "/d/", "/d", "/a/"];
    let few = Limits { valid: Duration::ZERO, entries_max: 3, descriptors_max: 1, ..limits() };
    let mut site = Site::with(few, |_| {});
    let mut random = seed;
    let mut pick = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n
    };
    for step in 0..300 {
        let name = NAMES[pick(NAMES.len())];
        let path = site.path(name);
        // Lengths never repeat, so that two versions differ whatever the clock of the file system does. Most changes
        // fail now and then, for example a file where a folder would have to be: that is part of the test.
        let content = "x".repeat(1 + step + if pick(8) == 0 { 5000 } else { 0 });
        match pick(6) {
            0 | 1 => {
                let _ = fs::create_dir_all(path.parent().expect("parent")).and_then(|()| fs::write(&path, content));
            }
            2 => {
                let new = site.put("new", &content);
                let _ = fs::rename(new, &path);
            }
            3 => drop(fs::remove_file(&path)),
            4 => drop(fs::remove_dir_all(&path)),
            _ => {}
        }
        let target = TARGETS[pick(TARGETS.len())];
        let answer = site.get(target);
        let expect = oracle(&site, target);
        let got = (answer.status, if answer.status == 200 { answer.body.len() } else { 0 });
        assert_eq!(got, expect, "seed {seed} step {step} {target}");
    }
}

/// Status and length by plain std calls.
fn oracle(site: &Site, target: &str) -> (u16, usize) {
    let length = |name: &str| fs::metadata(site.path(name)).ok().filter(|m| m.is_file()).map(|m| m.len() as usize);
    let name = &target[1..];
    let is_directory = site.path(name).is_dir();
    if target.ends_with('/') {
        let index = ["index.html", "index.htm"].iter().find_map(|index| length(&format!("{name}{index}")));
        return index.map_or((if is_directory { 403 } else { 404 }, 0), |len| (200, len));
    }
    match length(name) {
        Some(len) => (200, len),
        None => (if is_directory { 301 } else { 404 }, 0),
    }
}

/// The whole head of `plan`, as a client of HTTP/1.1 gets it.
fn write_head(plan: &Plan, server: &[u8], date: &[u8; 29], out: &mut Vec<u8>) {
    use crate::http::answer::AnswerHead;
    use crate::http::h1::{AnswerContext, Version, write_answer_head};
    let mut fields = Vec::new();
    let content = write_fields(plan, &mut fields);
    let head = AnswerHead { status: plan.status, reason: None, fields: &fields, content };
    let (method, version) = (Method::Get, Version::Http11);
    let context = AnswerContext { method, version, keep_alive: true, server, date };
    write_answer_head(out, &head, &context);
    out.truncate(out.len() - 2); // the empty line
}
