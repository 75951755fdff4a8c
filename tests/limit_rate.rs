//! The rate at which answers leave (nginx's `limit_rate`), at the real binary: an answer takes as long as its bytes take at
//! the rate, wherever they come from and in whatever protocol they leave; nobody else waits for it, no time-out counts the
//! wait, and it ends when the client leaves. What nginx does with the same numbers is asked too.

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::http2::{H2Client, Over, block_on};
use support::nginx::Nginx;
use support::tls::TlsClient;
use support::tools::decode;
use support::upstream::Then;
use support::*;

const SITES: &str = r#"
[site.main]
hosts = ["test", "127.0.0.1"]
default = true
limit_rate = "100KB"
route = [
  { path = "/", files = "$DIR/root" },
  { path = "/up/", proxy = "up" },
  { path = "/changed/", rewrite = "/up/$1", proxy = "up", substitute = { once = false, types = ["*"], texts = { none = "" } } },
  { path = "/app/", app = "hello", limit_rate = 20 },
  { path = "/after/", files = { root = "$DIR/root", strip_prefix = "/after" }, limit_rate_after = "100KB" },
  { path = "/off/", files = { root = "$DIR/root", strip_prefix = "/off" }, limit_rate = 0 },
  { path = "/slow/", files = { root = "$DIR/root", strip_prefix = "/slow" }, limit_rate = "10KB" },
  { path = "/deaf/", rewrite = "/up/$1", proxy = "up", x_accel = false, limit_rate = 0 },
  { exact = "/fixed", respond = { body = "$FIXED" }, limit_rate = 1000 },
]
[app.hello]
[upstream.up]
servers = ["$UP"]
health = false
"#;

const KB: usize = 1000;

/// Sends as many bytes as its path ends in; `?rate=N` asks for a rate, `?to=PATH` leads to a file.
fn upstream() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        let target = exchange.request.target.clone();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let bytes: usize = path.rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut more = String::new();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let field = if name == "rate" { "X-Accel-Limit-Rate" } else { "X-Accel-Redirect" };
            more.push_str(&format!("{field}: {value}\r\n"));
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{more}");
        if query.contains("chunked") {
            exchange.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
            for piece in pattern(bytes).chunks(30_000) {
                exchange.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            }
            exchange.send("0\r\n\r\n");
            return Then::Keep;
        }
        exchange.send(format!("{head}Content-Length: {bytes}\r\n\r\n"));
        if exchange.request.method != "HEAD" {
            exchange.send(pattern(bytes));
        }
        Then::Keep
    })
}

fn site(driver: Driver, up: &FakeUpstream) -> Site {
    let sites = SITES.replace("$UP", &up.address.to_string()).replace("$FIXED", &"f".repeat(1500));
    let mut site = Site::new(driver, &sites);
    for bytes in [20 * KB, 50 * KB, 150 * KB, 300 * KB] {
        site = site.file(&format!("root/{bytes}"), &pattern(bytes));
    }
    site
}

/// The time is what `bytes` take at `rate`: a tenth of a second's worth leaves at once, and machines are busy.
#[track_caller]
fn assert_took(what: &str, took: Duration, rate: usize, bytes: usize) {
    let limited = Duration::from_millis((bytes * 1000 / rate) as u64);
    assert!(took + Duration::from_millis(110) >= limited, "{what}: {took:?}, {limited:?} at its rate");
    assert!(took < limited + Duration::from_millis(900), "{what}: {took:?}, {limited:?} at its rate");
}

#[track_caller]
fn assert_quick(what: &str, took: Duration) {
    assert!(took < Duration::from_secs(1), "{what}: {took:?}");
}

const ORIGINS: &[(&str, usize, usize)] = &[
    ("/20000", 100 * KB, 20 * KB),
    ("/50000", 100 * KB, 50 * KB),
    ("/150000", 100 * KB, 150 * KB),
    ("/300000", 100 * KB, 300 * KB),
    ("/up/120000", 100 * KB, 120 * KB),
    ("/up/120000?chunked", 100 * KB, 120 * KB),
    ("/changed/120000", 100 * KB, 120 * KB),
    ("/up/50000?rate=25000", 25 * KB, 50 * KB),
    ("/up/0?to=/150000&rate=150000", 150 * KB, 150 * KB),
    ("/after/300000", 100 * KB, 200 * KB),
    ("/fixed", KB, 1500),
    // Without a limit.
    ("/off/300000", usize::MAX, 0),
    ("/up/300000?rate=0", usize::MAX, 0),
    ("/deaf/50000?rate=1000", usize::MAX, 0),
    ("/after/50000", usize::MAX, 0),
];

/// Who asks, in which protocol.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http1Tls,
    Http2(Over),
}

const PROTOCOLS: [Protocol; 4] =
    [Protocol::Http1, Protocol::Http1Tls, Protocol::Http2(Over::Clear), Protocol::Http2(Over::Tls)];

impl Protocol {
    /// Status, a field, body, and how long it took, connected already.
    fn ask(self, server: &Server, path: &str) -> (u16, Option<String>, Vec<u8>, Duration) {
        const NAME: &str = "x-accel-limit-rate";
        let of =
            |response: Response, took| (response.status, response.field(NAME).map(Into::into), response.body, took);
        match self {
            Protocol::Http1 => {
                let mut client = server.connect();
                let begun = Instant::now();
                of(client.ask(get(path)), begun.elapsed())
            }
            Protocol::Http1Tls => {
                let mut client = TlsClient::connect(server.address("secure"));
                let begun = Instant::now();
                of(client.ask(get(path)), begun.elapsed())
            }
            Protocol::Http2(over) => block_on(async {
                let client = H2Client::connect(server, over).await;
                let begun = Instant::now();
                let reply = client.get(path).await;
                (reply.status, reply.field(NAME).map(Into::into), reply.body, begun.elapsed())
            }),
        }
    }
}

#[test]
fn an_answer_takes_as_long_as_its_bytes_at_the_rate() {
    with_both_drivers(|driver| {
        let up = upstream();
        let server = &site(driver, &up).secure("").start();
        std::thread::scope(|scope| {
            for protocol in PROTOCOLS {
                for &(path, rate, bytes) in ORIGINS {
                    scope.spawn(move || {
                        let what = format!("{driver:?} {protocol:?} {path}");
                        let (status, told, body, took) = protocol.ask(server, path);
                        assert_eq!((status, told), (200, None), "{what}");
                        if path != "/fixed" {
                            let sent = if path.contains("?to") { 150 * KB } else { path_bytes(path) };
                            assert!(body == pattern(sent), "{what}: {} bytes", body.len());
                        }
                        match bytes {
                            0 => assert_quick(&what, took),
                            _ => assert_took(&what, took, rate, bytes),
                        }
                    });
                }
            }
        });
        let begun = Instant::now();
        let app = server.connect().ask(get("/app/x"));
        assert_took("application", begun.elapsed(), 20, app.body.len());
        let begun = Instant::now();
        for path in ["/300000", "/up/300000", "/fixed"] {
            assert_eq!(server.connect().ask(request("HEAD", path, &[], "")).status, 200);
        }
        assert_quick("HEAD", begun.elapsed());
    });
}

fn path_bytes(path: &str) -> usize {
    let path = path.split('?').next().unwrap_or_default();
    path.rsplit('/').next().and_then(|text| text.parse().ok()).expect("a number")
}

/// What is coded on the way is limited as it leaves.
#[test]
fn coded_bytes_count() {
    let digits: Vec<u8> =
        (0..40_000u64).flat_map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes()).collect();
    let rest = "[http.compress]\ncache_file_max = 0\ntypes = [\"text/*\"]\n[site.main]\nlimit_rate = \"200KB\"\nroute = [{ path = \"/\", files = \"$DIR/root\" }]";
    with_both_drivers(|driver| {
        let server = Site::new(driver, rest).file("root/a.txt", &digits).start();
        let begun = Instant::now();
        let got = server.connect().ask(request("GET", "/a.txt", &["Accept-Encoding: gzip"], ""));
        let took = begun.elapsed();
        assert!(decode("gzip", &got.body).expect("gzip") == digits && got.body.len() < digits.len() * 3 / 4);
        assert_took(&format!("{driver:?}"), took, 200 * KB, got.body.len());
    });
}

/// It comes evenly, and what waits to be sent is nobody else's business.
#[test]
fn nobody_waits_beside_it() {
    with_both_drivers(|driver| {
        let up = upstream();
        let server = site(driver, &up).one_worker().start();
        let mut slow = server.connect();
        slow.send(get("/300000"));
        let begun = Instant::now();
        let (mut bytes, mut pause) = (0, Duration::ZERO);
        while begun.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            assert_eq!(server.connect().ask(get("/off/50000")).body.len(), 50 * KB);
            assert_quick(&format!("{driver:?}"), asked.elapsed());
            let waited = Instant::now();
            bytes += slow.fill().expect("bytes");
            pause = pause.max(waited.elapsed());
        }
        assert!(pause < Duration::from_millis(500), "{driver:?}: {pause:?}");
        assert!(bytes < 230 * KB, "{driver:?}: {bytes}");
        assert_eq!(slow.response("GET").body.len(), 300 * KB, "{driver:?}");
        // The connection goes on behind it.
        assert_eq!(slow.ask(get("/off/50000")).body.len(), 50 * KB, "{driver:?}");
    });
}

/// The client is not slow, we are; and one that leaves is not waited for, nor is any at the end of a drain.
#[test]
fn time_outs_and_ends() {
    with_both_drivers(|driver| {
        let up = upstream();
        let limits = "write_timeout = \"300ms\"\nkeep_alive_timeout = \"300ms\"";
        let mut server = site(driver, &up).http(limits).process("drain_timeout = \"1s\"").start();
        for path in ["/slow/20000", "/up/20000?rate=10000"] {
            let begun = Instant::now();
            assert_eq!(server.connect().ask(get(path)).body.len(), 20 * KB, "{driver:?} {path}");
            assert_took(&format!("{driver:?} {path}"), begun.elapsed(), 10 * KB, 20 * KB);
        }
        // Thirty seconds' worth.
        let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        for (client, path) in clients.iter_mut().zip(["/slow/300000", "/up/300000?rate=10000", "/slow/50000"]) {
            client.send(get(path));
            client.fill().expect("it begins");
        }
        drop(clients);
        let gone = Instant::now();
        server.wait_until_no_client();
        assert!(gone.elapsed() < Duration::from_secs(5), "{driver:?}: {:?}", gone.elapsed());
        up.wait_until_all_closed_but_idle();
        let mut last = server.connect();
        last.send(get("/slow/300000"));
        last.fill().expect("it begins");
        let told = Instant::now();
        server.signal(Signal::QUIT);
        server.wait();
        assert!(told.elapsed() < Duration::from_secs(4), "{driver:?}: {:?}", told.elapsed());
        let (bytes, _) = last.read_to_end();
        assert!(bytes.len() < 100 * KB, "{driver:?}: it broke off");
    });
}

/// nginx counts in whole seconds, and lets the first second's worth go at once.
#[test]
fn nginx_takes_about_as_long() {
    let file = pattern(600 * KB);
    let http = "server { listen $LISTEN; root $DIR/root; limit_rate 100000; limit_rate_after 200000; }";
    let Some(nginx) = Nginx::start(http, &[("root/a", &file)]) else { return };
    let rest = "[site.main]\nlimit_rate = \"100KB\"\nlimit_rate_after = \"200KB\"\nroute = [{ path = \"/\", files = \"$DIR/root\" }]";
    let server = Site::new(Driver::Auto, rest).file("root/a", &file).start();
    let time = |address| {
        let begun = Instant::now();
        assert!(Client::connect(address).ask(get("/a")).body == file);
        begun.elapsed()
    };
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| time(nginx.address));
        let ours = time(server.web());
        (theirs.join().expect("nginx answers"), ours)
    });
    assert_took("we", ours, 100 * KB, 400 * KB);
    assert!(ours.abs_diff(theirs) < Duration::from_millis(2200), "nginx {theirs:?}, we {ours:?}");
}
