//! The file tier over real folders: requests go in as text, heads and bodies come out.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::serve::{FileSlice, Plan, PlanBody, Request, prepare, prepare_cached, write_head};
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
        let request = Request { method, path, query, conditions, accepts, accept: accept.as_bytes().into() };
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
         Content-Type: text/html; charset=utf-8\r\nContent-Length: 8\r\n\
         Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"ae1b981bc490a00-8\"\r\nAccept-Ranges: bytes\r\n"
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
            let request =
                Request { method: Method::Get, path, query: None, conditions, accepts, accept: Lines::default() };
            let plan = prepare(&site.files, 0, &mut site.cache, &request, site.now, &site.stats);
            write_head(&plan, b"one", DATE, &mut out);
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

// Several ranges.

/// Takes a multipart body apart: the fields and the content of each part.
fn parts_of(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let boundary = answer
        .field("Content-Type")
        .and_then(|value| value.strip_prefix("multipart/byteranges; boundary="))
        .unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(answer.field("Content-Range"), None);
    let text = format!("\r\n{}", String::from_utf8(answer.body.clone()).expect("the test's files are text"));
    let delimiter = format!("\r\n--{boundary}");
    let mut parts: Vec<&str> = text.split(&delimiter).collect();
    assert_eq!((parts.remove(0), parts.pop()), ("", Some("--\r\n")));
    parts
        .into_iter()
        .map(|part| {
            let part = part.strip_prefix("\r\n").expect("a line end behind the boundary");
            let (head, body) = part.split_once("\r\n\r\n").expect("a head");
            (head.to_owned(), body.as_bytes().to_vec())
        })
        .collect()
}

#[test]
fn several_ranges_come_in_parts_section_14_6() {
    let mut site = Site::new();
    site.put("n.txt", "0123456789");
    site.put("large.bin", &"0123456789".repeat(1000));
    for (target, len, media_type) in
        [("/n.txt", 10, "text/plain; charset=utf-8"), ("/large.bin", 10_000, "application/octet-stream")]
    {
        let answer = site.ranged(target, "bytes=7-8,0-0,-1");
        assert_eq!(answer.status, 206);
        let part = |first: u64, last: u64, body: &str| {
            let head = format!("Content-Type: {media_type}\r\nContent-Range: bytes {first}-{last}/{len}");
            (head, body.as_bytes().to_vec())
        };
        assert_eq!(
            parts_of(&answer),
            match len {
                10 => vec![part(7, 9, "789"), part(0, 0, "0")],
                _ => vec![part(7, 8, "78"), part(0, 0, "0"), part(9999, 9999, "9")],
            }
        );
        assert!(answer.field("ETag").is_some() && answer.field("Last-Modified").is_some());
        // One that is left over is not sent as multipart: section 15.3.7.2.
        let answer = site.ranged(target, "bytes=0-1,99999-");
        let range = format!("bytes 0-1/{len}");
        assert_eq!((answer.status, answer.field("Content-Range")), (206, Some(range.as_str())));
        assert_eq!(answer.text(), "01");
        assert_eq!(site.ranged(target, "bytes=99999-,-0").status, 416);
        let conditions = Conditions { range: Some(b"bytes=0-0,5-5"), ..Conditions::default() };
        let head = site.ask(Method::Head, target, conditions);
        assert_eq!((head.status, head.field("Content-Length")), (200, Some(len.to_string().as_str())));
    }
    let boundary = |answer: &Answer| answer.field("Content-Type").map(str::to_owned);
    let (one, two) = (site.ranged("/n.txt", "bytes=0-0,5-5"), site.ranged("/n.txt", "bytes=0-0,5-5"));
    assert_ne!(boundary(&one), boundary(&two), "nobody can foresee it");
}

#[test]
fn range_bombs_get_no_more_than_the_file() {
    let mut site = Site::new();
    site.put("n.txt", &"x".repeat(1000));
    for bomb in [format!("bytes=0-{}", ",0-".repeat(60)), format!("bytes=0-{}", ",5-".repeat(3000))] {
        let answer = site.ranged("/n.txt", &bomb);
        assert!(answer.status == 200 || answer.status == 206, "{}", answer.status);
        assert_eq!(answer.body.len(), 1000);
    }
    let scattered: Vec<String> = (0..64).map(|n| format!("{0}-{0}", n * 3)).collect();
    let answer = site.ranged("/n.txt", &format!("bytes={}", scattered.join(",")));
    assert_eq!((answer.status, parts_of(&answer).len()), (206, 64));
    assert!(answer.body.len() < 64 * 200);
}

#[test]
fn ranges_can_be_switched_off() {
    let mut site = Site::with(limits(), |files| files.ranges_max = 0);
    site.put("n.txt", "0123456789");
    let answer = site.ranged("/n.txt", "bytes=0-1");
    assert_eq!((answer.status, answer.text(), answer.field("Accept-Ranges")), (200, "0123456789", None));
    assert_eq!(site.ranged("/n.txt", "bytes=99-").status, 200);
    let mut site = Site::with(limits(), |files| files.ranges_max = 1);
    site.put("n.txt", "0123456789");
    assert_eq!(site.ranged("/n.txt", "bytes=0-1").status, 206);
    assert_eq!(site.ranged("/n.txt", "bytes=0-1,5-6").status, 200);
}

#[test]
fn a_missing_file_is_404_whatever_the_conditions_section_13_2_1() {
    let mut site = Site::new();
    site.put("folder/x", "x");
    for condition in [
        Conditions { if_match: b"*".as_slice().into(), ..Conditions::default() },
        Conditions { if_none_match: b"*".as_slice().into(), ..Conditions::default() },
        Conditions { if_unmodified_since: Some(b"Sun, 06 Nov 1994 08:49:37 GMT"), ..Conditions::default() },
        Conditions { range: Some(b"bytes=0-1,3-4"), ..Conditions::default() },
    ] {
        assert_eq!(site.ask(Method::Get, "/none", condition.clone()).status, 404);
        assert_eq!(site.ask(Method::Get, "/folder", condition).status, 301);
    }
}

// Coded forms.

fn coded() -> Site {
    let site = Site::with(limits(), |files| files.precompressed = vec![Coding::Br, Coding::Zstd, Coding::Gzip]);
    for (name, content) in [("app.js", "plain plain plain"), ("app.js.br", "BR"), ("app.js.gz", "GZIP")] {
        set_mtime(&site.put(name, content), 1_000_000_000);
    }
    site.put("plain.txt", "plain");
    site
}

#[test]
fn the_coded_form_that_the_client_prefers_is_served() {
    use Coding::*;
    let mut site = coded();
    let mut check = |codings: &[Coding], body: &str, coding: Option<&str>| {
        let answer = site.accepting("/app.js", codings);
        assert_eq!((answer.status, answer.text(), answer.field("Content-Encoding")), (200, body, coding));
        assert_eq!(answer.field("Vary"), Some("Accept-Encoding"));
        assert_eq!(answer.field("Content-Type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(answer.field("Accept-Ranges"), Some("bytes"));
        answer.field("ETag").expect("a tag").to_owned()
    };
    let tags = [
        check(&[], "plain plain plain", None),
        check(&[Br, Gzip], "BR", Some("br")),
        check(&[Zstd, Gzip, Br], "GZIP", Some("gzip")),
    ];
    assert_eq!(check(&[Zstd], "plain plain plain", None), tags[0]);
    // One tag for each form: section 8.8.3.3.
    assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2], "{tags:?}");
    // A file without coded forms may get one, so Vary is there too.
    let answer = site.accepting("/plain.txt", &[Br]);
    assert_eq!((answer.text(), answer.field("Vary")), ("plain", Some("Accept-Encoding")));
    // The coded file is a file of its own, too.
    let answer = site.accepting("/app.js.gz", &[Gzip]);
    assert_eq!((answer.text(), answer.field("Content-Encoding")), ("GZIP", None));
    let mut off = Site::new();
    off.put("app.js", "plain");
    off.put("app.js.br", "BR");
    let answer = off.accepting("/app.js", &[Br]);
    assert_eq!((answer.text(), answer.field("Vary")), ("plain", None));
}

#[test]
fn conditions_and_ranges_hold_for_the_form_that_is_served() {
    let mut site = coded();
    let br: CodingSet = [Coding::Br].into_iter().collect();
    let coded_tag = site.accepting("/app.js", &[Coding::Br]).field("ETag").expect("a tag").to_owned();
    let plain_tag = site.accepting("/app.js", &[]).field("ETag").expect("a tag").to_owned();
    let mut check = |accepts: CodingSet, tag: &str, status: u16| {
        let conditions = Conditions { if_none_match: tag.as_bytes().into(), ..Conditions::default() };
        let answer = site.ask_for(Method::Get, "/app.js", conditions, accepts, "");
        assert_eq!((answer.status, answer.field("Vary")), (status, Some("Accept-Encoding")));
        if status == 304 {
            // Section 15.4.5.
            assert_eq!((answer.field("ETag"), answer.field("Content-Encoding")), (Some(tag), None));
            assert!(answer.field("Last-Modified").is_some());
        }
    };
    check(br, &coded_tag, 304);
    check(br, &plain_tag, 200);
    check(CodingSet::NONE, &plain_tag, 304);
    check(CodingSet::NONE, &coded_tag, 200);
    let ranged = |range: &'static str| Conditions { range: Some(range.as_bytes()), ..Conditions::default() };
    let answer = site.ask_for(Method::Get, "/app.js", ranged("bytes=1-5"), br, "");
    assert_eq!((answer.status, answer.text(), answer.field("Content-Range")), (206, "R", Some("bytes 1-1/2")));
    assert_eq!(answer.field("Content-Encoding"), Some("br"));
    assert_eq!(site.ask_for(Method::Get, "/app.js", ranged("bytes=2-"), br, "").status, 416);
    // Several ranges of a coded form: the whole of it.
    let answer = site.ask_for(Method::Get, "/app.js", ranged("bytes=0-0,-1"), br, "");
    assert_eq!((answer.status, answer.text()), (200, "BR"));
}

#[test]
fn a_coded_form_older_than_its_original_is_ignored() {
    let mut site = coded();
    set_mtime(&site.path("app.js"), 1_000_000_001);
    assert_eq!(site.accepting("/app.js", &[Coding::Br, Coding::Gzip]).text(), "plain plain plain");
    set_mtime(&site.path("app.js.gz"), 1_000_000_002);
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &[Coding::Br, Coding::Gzip]).text(), "GZIP");
}

#[test]
fn coded_forms_come_and_go_with_the_next_look() {
    let mut site = coded();
    let both = [Coding::Zstd, Coding::Br];
    assert_eq!(site.accepting("/app.js", &both).text(), "BR");
    set_mtime(&site.put("app.js.zst", "ZSTD"), 1_000_000_000);
    assert_eq!(site.accepting("/app.js", &both).text(), "BR");
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &both).text(), "ZSTD");
    let misses = site.stats.cache_misses.value();
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &both).text(), "ZSTD");
    assert_eq!(site.stats.cache_misses.value(), misses, "looked at, not read again");
    fs::remove_file(site.path("app.js.zst")).expect("remove");
    tick();
    fs::write(site.path("app.js.br"), "BRBR").expect("write");
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &both).text(), "BRBR");
    fs::remove_file(site.path("app.js")).expect("remove");
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &both).status, 404);
    assert!(site.cache.is_empty());
}

#[test]
fn a_coded_form_stays_beneath_the_root_and_is_a_file() {
    let mut site = coded();
    fs::write(site.dir.path().join("secret"), "secret").expect("write");
    fs::remove_file(site.path("app.js.br")).expect("remove");
    symlink("../secret", site.path("app.js.br")).expect("link");
    fs::create_dir(site.path("app.js.zst")).expect("folder");
    let answer = site.accepting("/app.js", &[Coding::Br, Coding::Zstd]);
    assert_eq!((answer.status, answer.text()), (200, "plain plain plain"));
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &[Coding::Br]).text(), "plain plain plain");
}

#[test]
fn a_cached_file_with_coded_forms_costs_no_allocation() {
    let mut site = coded();
    site.put("large.txt", &"l".repeat(5000));
    site.put("large.txt.br", "small");
    for target in ["/app.js", "/plain.txt", "/large.txt"] {
        let accepts: CodingSet = [Coding::Br, Coding::Gzip].into_iter().collect();
        assert_eq!(site.accepting(target, &[Coding::Br, Coding::Gzip]).status, 200);
        let mut out = Vec::with_capacity(1024);
        let mut scratch = Vec::new();
        let (allocations, status) = crate::runtime::sys::allocations::count(&mut || {
            out.clear();
            let path = normalize(target.as_bytes(), &mut scratch).expect("a good path");
            let request = Request {
                method: Method::Get,
                path,
                query: None,
                conditions: Conditions::default(),
                accepts,
                accept: Lines::default(),
            };
            let plan = prepare(&site.files, 0, &mut site.cache, &request, site.now, &site.stats);
            write_head(&plan, b"one", DATE, &mut out);
            plan.status
        });
        assert_eq!((allocations, status), (0, 200), "{target}");
        let head = String::from_utf8(out).expect("text");
        assert_eq!(head.contains("Content-Encoding: br"), target != "/plain.txt", "{head}");
    }
}

#[test]
fn descriptors_of_coded_forms_count() {
    let mut site = Site::with(Limits { descriptors_max: 4, ..limits() }, |files| {
        files.precompressed = vec![Coding::Br, Coding::Gzip];
    });
    for n in 0..4 {
        site.put(&format!("{n}"), &"l".repeat(5000));
        site.put(&format!("{n}.br"), &"b".repeat(5000));
        site.check_status(&format!("/{n}"), 200);
        assert!(site.cache.len() <= 2);
    }
    // Room for one with three descriptors only by letting go of both with two.
    site.put("3.gz", &"g".repeat(5000));
    site.later(VALID);
    site.check_status("/3", 200);
    assert_eq!(site.cache.len(), 1);
}

// Forms compressed on the way.

#[test]
fn a_form_compressed_on_the_way_is_kept_with_its_file() {
    let mut site = Site::new();
    let path = site.put("a.css", "body {}");
    let mut plan = site.plan("/a.css");
    let entry = plan.compressible().expect("a plain file").clone();
    assert_eq!((entry.essence(), entry.len(), entry.compressed(Coding::Gzip)), ("text/css", 7, None));
    let before = site.cache.bytes();
    assert!(site.cache.keep_compressed(&entry, Coding::Gzip, "GZ".into(), &site.stats));
    site.cache.check_invariants();
    assert_eq!(site.cache.bytes(), before + 2);
    let again = site.plan("/a.css").compressible().expect("the same").compressed(Coding::Gzip);
    assert_eq!(again.as_deref(), Some(b"GZ".as_slice()));
    plan.compress(Coding::Gzip, again.expect("kept"));
    let answer = Answer::of(plan, Method::Get);
    assert_eq!((answer.text(), answer.field("Content-Encoding")), ("GZ", Some("gzip")));
    assert_eq!((answer.field("Vary"), answer.field("Accept-Ranges")), (Some("Accept-Encoding"), None));
    // Weak, section 8.8.1, and found again by the weak comparison of If-None-Match, section 13.1.2.
    let tag = answer.field("ETag").expect("a tag").to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    let conditions = Conditions { if_none_match: tag.as_bytes().into(), ..Conditions::default() };
    let mut plan = site.plan_for(Method::Get, "/a.css", conditions, CodingSet::NONE, "");
    (plan.is_weak, plan.varies) = (true, true);
    let answer = Answer::of(plan, Method::Get);
    assert_eq!((answer.status, answer.field("ETag")), (304, Some(tag.as_str())));
    // For HEAD the same head.
    let mut plan = site.plan_for(Method::Head, "/a.css", Conditions::default(), CodingSet::NONE, "");
    plan.compress(Coding::Gzip, "GZ".into());
    let head = Answer::of(plan, Method::Head);
    assert_eq!((head.field("Content-Length"), head.body.len()), (Some("2"), 0));
    // It goes with its entry.
    tick();
    fs::write(path, "changed {}").expect("write");
    site.later(VALID);
    let entry = site.plan("/a.css").compressible().expect("the new one").clone();
    assert_eq!(entry.compressed(Coding::Gzip), None);
    assert!(site.cache.bytes() < before + 10);
}

#[test]
fn compressed_forms_stay_within_the_limits() {
    let mut site = Site::with(Limits { bytes_max: 4000, ..limits() }, |_| {});
    for n in 0..3 {
        site.put(&format!("{n}"), "x");
    }
    site.put("large", &"l".repeat(5000));
    let entries: Vec<_> = ["/0", "/1", "/2", "/large"]
        .iter()
        .map(|target| site.plan(target).compressible().expect("a file").clone())
        .collect();
    let form = |len: usize| bytes::Bytes::from(vec![b'z'; len]);
    for entry in &entries {
        site.cache.keep_compressed(entry, Coding::Br, form(1500), &site.stats);
        site.cache.check_invariants();
    }
    assert!(site.stats.cache_evictions.value() > 0);
    assert!(!site.cache.keep_compressed(&entries[3], Coding::Gzip, form(4001), &site.stats), "too large");
    // An entry that is no longer cached takes nothing with it.
    site.cache.reconfigure(limits(), 0, &site.stats);
    assert!(site.cache.is_empty() && site.cache.bytes() == 0);
    assert!(!site.cache.keep_compressed(&entries[0], Coding::Gzip, form(10), &site.stats));
    site.cache.check_invariants();
}

// `try`.

fn trying(entries: &[&str]) -> Site {
    let candidates = entries
        .iter()
        .map(|text| match (text.strip_prefix('='), text.split_once("$path")) {
            (Some(status), _) => Candidate::Status(status.parse().expect("a status")),
            (None, Some((before, after))) => {
                Candidate::Path { before: before.into(), takes_path: true, after: after.into() }
            }
            (None, None) => Candidate::Path { before: (*text).into(), takes_path: false, after: String::new() },
        })
        .collect();
    let site = Site::with(limits(), |files| files.candidates = candidates);
    site.put("a", "a");
    site.put("a.html", "a.html");
    site.put("b.html", "b.html");
    site.put("c/index.html", "c/index");
    site.put("empty/x", "x");
    site.put(".secret.html", "secret");
    site
}

#[test]
fn candidates_are_tried_in_order() {
    let mut site = trying(&["$path", "$path.html", "$path/", "=410"]);
    site.check("/a", 200, "a");
    site.check("/b", 200, "b.html");
    site.check("/c/", 200, "c/index");
    site.check("/empty/x", 200, "x");
    for target in ["/", "/none", "/none/", "/a/", "/empty/"] {
        site.check(target, 410, "410 Gone\n");
    }
    // The links in an index need the slash.
    let answer = site.get("/c?q");
    assert_eq!((answer.status, answer.field("Location")), (301, Some("/c/?q")));
    site.check_status("/.secret", 404);
    assert_eq!(site.ask(Method::Options, "/none", Conditions::default()).status, 410);

    let mut site = trying(&["$path", "/c/", "/a"]);
    site.check("/b", 200, "c/index");
    fs::remove_file(site.path("c/index.html")).expect("remove");
    site.later(VALID);
    site.check("/b", 200, "a");
    site.check("/b.html", 200, "b.html");

    let mut site = trying(&["/c$path"]);
    site.check("/index.html", 200, "c/index");
    site.check("/a", 404, "404 Not Found\n");
}

#[test]
fn candidates_do_not_uncover_hidden_names() {
    let mut site = trying(&["/.$path", "$path.html", "$path"]);
    for target in ["/secret.html", "/.secret", "/.secret.html", "/"] {
        site.check_status(target, 404);
    }
    // What the operator wrote himself is meant.
    let mut site = trying(&["$path", "/.secret.html"]);
    site.check("/none", 200, "secret");
}

#[test]
fn candidates_come_before_the_fallback_and_cost_no_allocation() {
    let mut site = trying(&["$path", "$path.html"]);
    site.files = Arc::new(Files { fallback: Some("/a".into()), ..(*site.files).clone() });
    site.check("/b", 200, "b.html");
    site.check("/none", 200, "a");
    let mut scratch = Vec::new();
    for target in ["/b", "/none"] {
        let (allocations, status) = crate::runtime::sys::allocations::count(&mut || {
            let path = normalize(target.as_bytes(), &mut scratch).expect("a good path");
            let request = Request {
                method: Method::Get,
                path,
                query: None,
                conditions: Conditions::default(),
                accepts: CodingSet::NONE,
                accept: Lines::default(),
            };
            prepare(&site.files, 0, &mut site.cache, &request, site.now, &site.stats).status
        });
        assert_eq!((allocations, status), (0, 200), "{target}");
    }
}

// Listings.

fn listing(format: Listing) -> Site {
    let site = Site::with(limits(), |files| files.listing = format);
    fs::write(site.dir.path().join("secret"), "secret").expect("write");
    site.put("pub/b.txt", "12345");
    site.put("pub/a & b.txt", "1");
    site.put("pub/.hidden", "hidden");
    site.put("pub/sub/x", "x");
    symlink("../../secret", site.path("pub/out")).expect("link");
    symlink("b.txt", site.path("pub/link")).expect("link");
    symlink("nowhere", site.path("pub/dangling")).expect("link");
    rustix::fs::mknodat(rustix::fs::CWD, site.path("pub/fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .expect("fifo");
    site
}

#[test]
fn a_directory_without_index_is_listed() {
    let mut site = listing(Listing::Html);
    let answer = site.get("/pub/");
    assert_eq!((answer.status, answer.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!((answer.field("Cache-Control"), answer.field("Vary")), (Some("no-cache"), None));
    let links: Vec<&str> = answer.text().split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(links[3..], ["../", "./sub/", "./a%20&amp;%20b.txt", "./b.txt", "./link"]);
    let head = site.ask(Method::Head, "/pub/", Conditions::default());
    assert_eq!((head.status, head.field("Content-Length")), (200, Some(answer.body.len().to_string().as_str())));
    assert_eq!(site.ask(Method::Options, "/pub/", Conditions::default()).status, 204);
    assert!(!site.get("/").text().contains("../"), "the root has no parent");
    let sorted = site.get("/pub/?sort=size&order=desc");
    let place = |name: &str| sorted.text().find(name).expect("listed");
    assert!(place("./sub/") < place("./b.txt") && place("./b.txt") < place("./a%20"));
    site.check_status("/none/", 404);
    site.check_status("/pub/b.txt/", 404);
    site.check_status("/pub", 301);
    site.check_status("/pub/.hidden/", 404);
    // An index wins, also over a listing that is asked for.
    site.put("pub/index.html", "index");
    site.later(VALID);
    site.check("/pub/", 200, "index");
}

#[test]
fn a_listing_is_json_for_those_who_prefer_it() {
    let mut site = listing(Listing::Auto);
    let answer =
        site.ask_for(Method::Get, "/pub/?order=desc", Conditions::default(), CodingSet::NONE, "application/json");
    assert_eq!(answer.field("Content-Type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.field("Vary"), Some("Accept"));
    let entries: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).expect("JSON");
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
    assert_eq!(names, ["sub", "link", "b.txt", "a & b.txt"]);
    assert_eq!((&entries[0]["type"], &entries[2]["type"]), (&"directory".into(), &"file".into()));
    assert_eq!(entries[2]["size"], 5);
    assert!(site.get("/pub/").text().starts_with("<!doctype html>"));
    let mut site = listing(Listing::Off);
    site.check_status("/pub/", 403);
}

#[test]
fn a_long_listing_is_cut_and_says_so() {
    let mut site = listing(Listing::Html);
    fs::create_dir(site.path("many")).expect("folder");
    for n in 0..super::listing::ENTRIES_MAX {
        File::create(site.path(&format!("many/{n}"))).expect("file");
    }
    let full = site.get("/many/");
    assert_eq!((full.text().matches("<tr><td>").count(), full.field("X-Listing-Cut")), (10_001, None));
    File::create(site.path("many/one-more")).expect("file");
    let cut = site.get("/many/");
    assert_eq!((cut.text().matches("<tr><td>").count(), cut.field("X-Listing-Cut")), (10_001, Some("1")));
    assert!(cut.text().contains("more entries; 10000 are shown"));
}

#[test]
fn a_listing_goes_to_another_thread_and_fails_like_a_file() {
    let mut site = listing(Listing::Html);
    let PlanBody::NeedsListing(errand) = site.plan("/pub/").body else { panic!("a listing") };
    fs::remove_dir_all(site.path("pub")).expect("remove");
    let listed = std::thread::spawn(move || errand.run()).join().expect("no panic");
    assert_eq!(Answer::of(Plan::listed(listed, Method::Get), Method::Get).status, 404);
}

// Dot files, symbolic links, types.

#[test]
fn dot_files_can_be_served() {
    let mut site = Site::with(limits(), |files| (files.dotfiles, files.listing) = (true, Listing::Json));
    site.put(".config", "config");
    site.check("/.config", 200, "config");
    assert!(site.get("/").text().contains(".config"));
    site.check_status("/.", 200);
}

#[test]
fn symbolic_links_follow_the_rule() {
    let site = |links: Symlinks| {
        let site = Site::with(limits(), |files| files.symlinks = links);
        site.put("real/a.txt", "a");
        symlink("real", site.path("folder")).expect("link");
        symlink("real/a.txt", site.path("file")).expect("link");
        symlink("/etc/passwd", site.path("out")).expect("link");
        site
    };
    for (links, status) in [(Symlinks::Beneath, 200), (Symlinks::Owner, 200), (Symlinks::Never, 404)] {
        let mut site = site(links);
        for target in ["/file", "/folder/a.txt"] {
            site.check_status(target, status);
            site.later(VALID);
            site.check_status(target, status);
        }
        site.check("/real/a.txt", 200, "a");
        site.check_status("/out", 404);
        // A file that is exchanged for a link.
        fs::remove_file(site.path("real/a.txt")).expect("remove");
        fs::write(site.path("other"), "other").expect("write");
        symlink("../other", site.path("real/a.txt")).expect("link");
        site.later(VALID);
        site.check_status("/real/a.txt", status);
    }
    let mut site = site(Symlinks::Owner);
    let stranger = Some(rustix::fs::Uid::from_raw(12_345));
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    if rustix::fs::chownat(rustix::fs::CWD, site.path("file"), stranger, None, flags).is_err() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    site.check_status("/file", 403);
    site.check("/folder/a.txt", 200, "a");
}

#[test]
fn a_new_config_with_other_types_is_obeyed_at_once() {
    let mut site = Site::new();
    site.put("a.bin", "a");
    assert_eq!(site.get("/a.bin").field("Content-Type"), Some("application/octet-stream"));
    let mut files = (*site.files).clone();
    files.media.types = vec![("bin".into(), "text/x-bin".into())];
    site.files = Arc::new(files);
    site.later(VALID);
    assert_eq!(site.get("/a.bin").field("Content-Type"), Some("text/x-bin; charset=utf-8"));
}

// Files that change, files on disk.

#[test]
fn a_large_file_that_is_written_into_is_noticed_at_once() {
    let mut site = Site::new();
    let path = site.put("big", &"a".repeat(5000));
    set_mtime(&path, 1_000_000_000);
    let (_, head, body) = site.plan_of("/big");
    let PlanBody::File(slice) = body else { panic!("a large file") };
    assert!(slice.is_intact());
    // Within the validity, and of the same length.
    fs::write(&path, "b".repeat(5000)).expect("write");
    assert!(!slice.is_intact(), "the download under way must break");
    let (_, new_head, body) = site.plan_of("/big");
    assert_ne!(head, new_head, "another tag");
    assert!(
        matches!(&body, PlanBody::File(slice) if slice.is_intact() && content_of(slice) == "b".repeat(5000).as_bytes())
    );
    // Shorter, longer, small.
    for len in [4500, 6000, 10] {
        fs::write(&path, "c".repeat(len)).expect("write");
        site.check("/big", 200, &"c".repeat(len));
    }
    // Replaced or removed, it stays of one piece.
    let path = site.put("other", &"d".repeat(5000));
    set_mtime(&path, 1_000_000_000);
    let PlanBody::File(slice) = site.plan_of("/other").2 else { panic!("a large file") };
    fs::remove_file(path).expect("remove");
    assert!(slice.is_intact());
}

#[test]
fn what_is_in_memory_is_answered_without_the_disk() {
    let mut site = Site::new();
    site.put("a.txt", "a");
    site.put("c/index.htm", "c");
    let quick = |site: &mut Site, target: &str| {
        let mut scratch = Vec::new();
        let path = normalize(target.as_bytes(), &mut scratch).expect("a good path");
        let request = Request {
            method: Method::Get,
            path,
            query: None,
            conditions: Conditions::default(),
            accepts: CodingSet::NONE,
            accept: Lines::default(),
        };
        let plan = prepare_cached(&site.files, 0, &mut site.cache, &request, site.now, &site.stats);
        site.cache.check_invariants();
        plan.map(|plan| plan.status)
    };
    assert_eq!(quick(&mut site, "/a.txt"), None, "the root is not open yet");
    WarmUp::new(&site.files, crate::util::path::Path::from_normal(b"/a.txt").expect("a path")).run();
    site.check("/a.txt", 200, "a");
    assert_eq!(quick(&mut site, "/a.txt"), Some(200));
    site.check("/c/", 200, "c");
    assert_eq!(quick(&mut site, "/c/"), Some(200));
    // Seldom looked at, but its name may still be in the kernel's memory.
    site.later(VALID);
    for (target, status) in [("/a.txt", 200), ("/c/", 200), ("/none", 404)] {
        let answer = quick(&mut site, target);
        assert!(answer.is_none() || answer == Some(status), "{target}: {answer:?}");
    }
    // However it went, the plain way still works.
    site.check("/a.txt", 200, "a");
    site.check_status("/none", 404);
    assert_eq!(quick(&mut site, "/none"), Some(404), "remembered");
}

#[test]
fn a_helper_thread_warms_up_what_a_worker_needs() {
    let site = Site::with(limits(), |files| files.precompressed = vec![Coding::Br]);
    site.put("a.txt", "a");
    site.put("large", &"l".repeat(100_000));
    for path in ["/a.txt", "/large", "/none", "/", "/.hidden"] {
        let errand = WarmUp::new(&site.files, crate::util::path::Path::from_normal(path.as_bytes()).expect("a path"));
        std::thread::spawn(move || errand.run()).join().expect("no panic");
    }
}

#[test]
fn any_path_is_answered() {
    use proptest::prelude::*;
    let site = Site::with(limits(), |files| {
        files.precompressed = vec![Coding::Gzip];
        files.listing = Listing::Auto;
        files.candidates = vec![
            Candidate::Path { before: String::new(), takes_path: true, after: String::new() },
            Candidate::Path { before: String::new(), takes_path: true, after: "/".into() },
            Candidate::Path { before: "/a".into(), takes_path: true, after: ".html".into() },
        ];
    });
    fs::write(site.dir.path().join("secret"), "secret").expect("write");
    site.put("a/b", "b");
    symlink("../secret", site.path("out")).expect("link");
    let piece = prop_oneof!["/", "\\.\\.", "a", "b", "out", "%2e", "%c0", "secret", "[^%]{1,3}"];
    let paths = proptest::collection::vec(piece, 0..8).prop_map(|pieces| format!("/{}", pieces.concat()));
    let mut runner = proptest::test_runner::TestRunner::default();
    let site = std::cell::RefCell::new(site);
    let result = runner.run(&(paths, "[-0-9,=bytes]{0,12}", "[*/W\"a-f0-9, ]{0,12}"), |(path, range, tag)| {
        let mut scratch = Vec::new();
        if normalize(path.as_bytes(), &mut scratch).is_err() || path.contains('?') {
            return Ok(());
        }
        let conditions = Conditions {
            range: Some(range.as_bytes()),
            if_none_match: tag.as_bytes().into(),
            if_range: Some(tag.as_bytes()),
            ..Conditions::default()
        };
        let accepts = [Coding::Gzip].into_iter().collect();
        let answer = site.borrow_mut().ask_for(Method::Get, &path, conditions, accepts, &tag);
        prop_assert!(matches!(answer.status, 200 | 206 | 301 | 304 | 404), "{path}: {}", answer.status);
        prop_assert!(answer.body != b"secret");
        Ok(())
    });
    result.expect("holds for every path");
}
