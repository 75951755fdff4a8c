//! Texts replaced in the bodies of answers, at the real binary. nginx's `sub_filter` and we get the same pairs and the same
//! bodies, and must send the same; whatever the body is made of and however it comes, what the client reads is what a plain
//! replacement makes of the whole. Source of what a change does to the fields: RFC 9110 (sections 8.8, 13, 14, 15.4.5).

mod support;

use std::io::Read;
use std::time::Duration;

use support::frames::{Block, Http2, WHOLE, headers};
use support::nginx::Nginx;
use support::tools::{curl, decode};
use support::upstream::Then;
use support::*;

/// Bodies that both get, by path.
const BODIES: &[(&str, &str)] = &[
    ("head", "<html><HEAD><title>a</title></Head><body>http://internal/a HTTP://INTERNAL/b</body></html>"),
    ("overlap", "aaab abcd aabab aba ababab"),
    ("none", "nothing here"),
    ("beginning", "ab aa http://inter"),
    ("only", "</head>"),
    ("twice", "</head></head>http://internalhttp://internal"),
    ("empty", ""),
];

const NGINX: &str = r#"
  types { text/html html; text/css css; }
  server { listen $LISTEN; server_name test; root $DIR/root;
    location /once/ { alias $DIR/root/; sub_filter "http://internal" "https://$host/x"; sub_filter "</head>" "<b></head>"; }
    location /all/ { alias $DIR/root/; sub_filter_once off; sub_filter "http://internal" "https://$host/x"; sub_filter "</head>" "<b></head>"; }
    location /order/ { alias $DIR/root/; sub_filter_once off; sub_filter "aab" "1"; sub_filter "ab" "2"; sub_filter "abc" "3"; sub_filter "b" ""; }
    location /order-once/ { alias $DIR/root/; sub_filter "ab" "1"; sub_filter "abc" "2"; sub_filter "a" "<$request_method>"; sub_filter "b" "4"; }
    location /kept/ { alias $DIR/root/; sub_filter "a" "b"; sub_filter_last_modified on; }
    location /types/ { alias $DIR/root/; sub_filter "a" "X"; sub_filter_types text/css; }
    location /every/ { alias $DIR/root/; sub_filter "a" "X"; sub_filter_types *; }
    location /up/ { proxy_pass http://$UP/; proxy_set_header Accept-Encoding ""; sub_filter_once off; sub_filter "aab" "1"; sub_filter "ab" "2"; sub_filter "</head>" "<b></head>"; }
    location /fixed { default_type text/html; return 200 "banana"; sub_filter "a" "X"; }
  }
"#;

const SITES: &str = r#"
[site.main]
hosts = "test"
default = true
route = [
  { path = "/once/", files = { root = "$DIR/root", strip_prefix = "/once" }, substitute = { texts = { "http://internal" = "https://$host/x", "</head>" = "<b></head>" } } },
  { path = "/all/", files = { root = "$DIR/root", strip_prefix = "/all" }, substitute = { once = false, texts = { "http://internal" = "https://$host/x", "</head>" = "<b></head>" } } },
  { path = "/order/", files = { root = "$DIR/root", strip_prefix = "/order" }, substitute = { once = false, texts = { aab = "1", ab = "2", abc = "3", b = "" } } },
  { path = "/order-once/", files = { root = "$DIR/root", strip_prefix = "/order-once" }, substitute = { texts = { ab = "1", abc = "2", a = "<$request_method>", b = "4" } } },
  { path = "/kept/", files = { root = "$DIR/root", strip_prefix = "/kept" }, substitute = { texts = { a = "b" }, keep_validators = true } },
  { path = "/types/", files = { root = "$DIR/root", strip_prefix = "/types" }, substitute = { texts = { a = "X" }, types = ["text/html", "text/css"] } },
  { path = "/every/", files = { root = "$DIR/root", strip_prefix = "/every" }, substitute = { texts = { a = "X" }, types = ["*"] } },
  { path = "/up/", rewrite = "/$1", proxy = "up", substitute = { once = false, texts = { aab = "1", ab = "2", "</head>" = "<b></head>" } } },
  { exact = "/fixed", respond = { body = "banana", content_type = "text/html" }, substitute = { texts = { a = "X" } } },
  { path = "/coded/", files = { root = "$DIR/root", strip_prefix = "/coded", precompressed = ["gzip"] }, compress = { min = 1 }, substitute = { once = false, texts = { lorem = "<$host>" } } },
  { path = "/app/", app = "hello", substitute = { texts = { hello = "bye" }, types = ["*"] } },
  { path = "/plain/", files = { root = "$DIR/root", strip_prefix = "/plain" } },
]
[app.hello]
[upstream.up]
servers = ["$UP"]
health = false
"#;

/// Answers with the body that its path names, or with what the other targets say.
fn upstream() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        let target = exchange.request.target.trim_start_matches('/').to_owned();
        let (name, how) = target.split_once('?').unwrap_or((&target, "length"));
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"up\"\r\nAccept-Ranges: bytes\r\nDigest: x\r\n";
        let body = match name.strip_suffix(".html") {
            Some(name) => BODIES.iter().find(|(known, _)| *known == name).map_or("", |(_, body)| body).as_bytes(),
            None => b"ab ab",
        };
        match (name, how) {
            ("coded", _) => {
                let head = format!("{head}Content-Encoding: odd\r\nContent-Length: 5\r\n\r\nab ab");
                exchange.send(head);
            }
            ("part", _) => {
                let part = "HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\nContent-Range: bytes 0-4/9\r\n";
                exchange.send(format!("{part}Content-Length: 5\r\n\r\nab ab"));
            }
            ("no-content", _) => drop(exchange.send("HTTP/1.1 204 No Content\r\nContent-Type: text/html\r\n\r\n")),
            ("unchanged", _) => drop(exchange.send("HTTP/1.1 304 Not Modified\r\nETag: \"up\"\r\n\r\n")),
            ("asked", _) => {
                let told = exchange.request.field("accept-encoding").unwrap_or("nothing").to_owned();
                exchange.send(format!("{head}Content-Length: {}\r\n\r\n{told}", told.len()));
            }
            (_, "chunked") => {
                exchange.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
                for piece in body.chunks(1) {
                    exchange.send([b"1\r\n", piece, b"\r\n"].concat());
                }
                exchange.send("0\r\n\r\n");
            }
            (_, "until-close") => {
                exchange.send(format!("{head}Connection: close\r\n\r\n"));
                exchange.dribble(body, 7, Duration::from_millis(2));
                return Then::Close;
            }
            (_, "broken") => {
                exchange.send(format!("{head}Content-Length: 1000\r\n\r\n"));
                exchange.send(body);
                return Then::Close;
            }
            (_, "paused") => {
                exchange.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nabcaa\r\n"));
                exchange.wait_for_close();
                return Then::Close;
            }
            _ => {
                exchange.send(format!("{head}Content-Length: {}\r\n\r\n", body.len()));
                if exchange.request.method != "HEAD" {
                    exchange.send(body);
                }
            }
        }
        Then::Keep
    })
}

fn files() -> Vec<(String, &'static [u8])> {
    let named = |ending: &str| {
        BODIES.iter().map(|(name, body)| (format!("root/{name}.{ending}"), body.as_bytes())).collect::<Vec<_>>()
    };
    ["html", "css", "odd"].iter().flat_map(|ending| named(ending)).collect()
}

fn site(driver: Driver, up: &FakeUpstream) -> Site {
    let mut site = Site::new(driver, &SITES.replace("$UP", &up.address.to_string()));
    for (name, body) in files() {
        site = site.file(&name, body);
    }
    site
}

fn paths() -> Vec<String> {
    let folders = ["once", "all", "order", "order-once", "kept", "types", "every", "plain"];
    let mut paths =
        vec!["/fixed".to_owned(), "/types/head.css".into(), "/once/head.css".into(), "/every/head.odd".into()];
    for (name, _) in BODIES {
        // nginx's /plain/ is not there.
        paths.extend(folders[..7].iter().map(|folder| format!("/{folder}/{name}.html")));
        paths.extend(["length", "chunked", "until-close"].map(|how| format!("/up/{name}.html?{how}")));
    }
    paths
}

#[test]
fn nginx_and_we_send_the_same() {
    let up = upstream();
    let named = files();
    let files: Vec<(&str, &[u8])> = named.iter().map(|(name, body)| (&**name, *body)).collect();
    let Some(nginx) = Nginx::start(&NGINX.replace("$UP", &up.address.to_string()), &files) else { return };
    with_both_drivers(|driver| {
        let server = site(driver, &up).start();
        for path in paths() {
            // nginx closes behind some answers of its own.
            let theirs = Client::connect(nginx.address).ask(get(&path));
            let ours = server.connect().ask(get(&path));
            let shown = |response: &Response| {
                let has = |name| response.field(name).is_some();
                let is_weak = response.field("etag").is_some_and(|tag| tag.starts_with("W/"));
                (response.status, response.text(), has("content-length"), has("last-modified"), has("etag"), is_weak)
            };
            let (mut ours, mut theirs) = (shown(&ours), shown(&theirs));
            if path.starts_with("/up/") {
                // nginx hands on the digests and ranges; both take the validators away.
                assert!(!ours.4 || path.contains("empty"), "{path}");
            }
            if path.contains("empty") {
                // nginx looks at the length alone, which a body without one does not tell.
                (ours.2, ours.4, ours.3, ours.5) = (true, true, true, true);
                (theirs.2, theirs.4, theirs.3, theirs.5) = (true, true, true, true);
            }
            assert_eq!(ours, theirs, "{driver:?} {path}: we left, nginx right");
        }
    });
}

#[test]
fn every_origin_and_protocol_gives_the_same_text() {
    with_both_drivers(|driver| {
        let up = upstream();
        let server = site(driver, &up).start();
        let mut client = server.connect();
        for path in paths() {
            let expect = client.ask(get(&path));
            let mut http2 = Http2::connect(server.web());
            let over_h2 = http2.get(1, &path);
            assert_eq!((over_h2.status, &over_h2.body), (200, &expect.body), "{driver:?} {path} HTTP/2");
            let old = server.connect().ask(format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n"));
            assert_eq!(old.body, expect.body, "{driver:?} {path} HTTP/1.0");
            if path.contains('?') {
                continue;
            }
            // The fields of HEAD are those of GET.
            let head = client.ask(request("HEAD", &path, &[], ""));
            let told = |response: &Response| {
                let mut fields = response.fields.clone();
                fields.retain(|(name, _)| !["date", "transfer-encoding"].contains(&&*name.to_ascii_lowercase()));
                fields
            };
            assert_eq!((told(&head), head.body.len()), (told(&expect), 0), "{driver:?} {path} HEAD");
        }
        let app = client.ask(get("/app/x"));
        assert!(app.text().starts_with("bye from application worker"), "{}", app.text());
        assert_eq!(client.ask(get("/fixed")).text(), "bXnana");
    });
}

/// The same page, larger than any buffer, from a file and from a server, and coded.
#[test]
fn large_bodies_are_changed_from_end_to_end() {
    let line = "lorem ipsum Lorem dolor <LOREM> lore lorel\n";
    let text = line.repeat(40_000);
    let expect = line.replace("lorem", "<test>").replace("Lorem", "<test>").replace("LOREM", "<test>").repeat(40_000);
    with_both_drivers(|driver| {
        let server = site(driver, &upstream())
            .file("root/large.html", text.as_bytes())
            .file("root/small.html", line.as_bytes())
            .file("root/small.html.gz", b"not looked at")
            .start();
        for (path, expect) in [("/coded/large.html", &*expect), ("/coded/small.html", &expect[..expect.len() / 40_000])]
        {
            let plain = server.connect().ask(get(path));
            assert_eq!((plain.field("content-encoding"), plain.text() == expect), (None, true), "{driver:?} {path}");
            for coding in ["gzip", "br", "zstd"] {
                let accepting = request("GET", path, &[&format!("Accept-Encoding: {coding}")], "");
                let coded = server.connect().ask(accepting);
                assert_eq!(coded.field("content-encoding"), Some(coding), "{driver:?} {path}");
                assert!(decode(coding, &coded.body).expect("coded") == expect.as_bytes(), "{driver:?} {path} {coding}");
                let mut http2 = Http2::connect(server.web());
                http2.send(headers(1, WHOLE, &Block::get(path).field("accept-encoding", coding)));
                let answer = http2.answer(1);
                assert!(
                    decode(coding, &answer.body).expect("coded") == expect.as_bytes(),
                    "{driver:?} {path} {coding}"
                );
            }
        }
        if has_program("curl") {
            let got = curl("http", server.web(), "/coded/large.html", &["--http2-prior-knowledge", "-H", "Host: test"]);
            assert!(got.code == 0 && got.text() == expect, "{driver:?}");
        }
    });
}

/// Conditions and ranges are those of what is sent, not of the file.
#[test]
fn conditions_and_ranges_fit_what_is_sent() {
    with_both_drivers(|driver| {
        let server = site(driver, &upstream()).start();
        let mut client = server.connect();
        let plain = client.ask(get("/plain/head.html"));
        let (tag, date) = (plain.field("etag").expect("a tag"), plain.field("last-modified").expect("a date"));
        let mut ask = |path: &str, fields: &[String]| {
            let fields: Vec<&str> = fields.iter().map(|field| &**field).collect();
            client.ask(request("GET", path, &fields, ""))
        };
        let none_match = |tag: &str| vec![format!("If-None-Match: {tag}")];
        let since = vec![format!("If-Modified-Since: {date}")];
        // A client that has the page of before must not keep it.
        for fields in [none_match(tag), none_match("*"), since.clone(), vec!["Range: bytes=0-3".into()]] {
            let answer = ask("/once/head.html", &fields);
            assert_eq!(answer.status, 200, "{driver:?} {fields:?}");
            assert!(answer.text().contains("https://test/x"), "{driver:?} {fields:?}");
            for name in ["etag", "last-modified", "accept-ranges", "content-length"] {
                assert_eq!(answer.field(name), None, "{driver:?} {name}");
            }
        }
        let kept = ask("/kept/head.html", &[]);
        let weak = format!("W/{tag}");
        assert_eq!((kept.field("etag"), kept.field("last-modified")), (Some(&*weak), Some(date)), "{driver:?}");
        assert_eq!(kept.field("accept-ranges"), None);
        for fields in [none_match(&weak), since] {
            let answer = ask("/kept/head.html", &fields);
            assert_eq!((answer.status, answer.field("etag")), (304, Some(&*weak)), "{driver:?} {fields:?}");
        }
        let ranged = vec!["Range: bytes=0-3".to_owned(), format!("If-Range: {weak}")];
        assert_eq!(ask("/kept/head.html", &ranged).status, 200);
        // What is of another type is as it was.
        let other = ask("/once/head.css", &["Range: bytes=0-3".into()]);
        assert_eq!((other.status, other.text()), (206, "<htm".into()), "{driver:?}");
        assert_eq!(ask("/once/head.css", &none_match("*")).status, 304);
    });
}

/// RFC 9110 sections 8.4 and 15.3.7: what cannot be looked into, or is a part, stays.
#[test]
fn what_cannot_be_changed_stays() {
    with_both_drivers(|driver| {
        let up = upstream();
        let server = site(driver, &up).start();
        let ask = |path: &str, fields: &[&str]| server.connect().ask(request("GET", path, fields, ""));
        let coded = ask("/up/coded", &[]);
        assert_eq!((coded.text(), coded.field("content-length")), ("ab ab".into(), Some("5")), "{driver:?}");
        assert_eq!((coded.field("etag"), coded.field("digest")), (Some("\"up\""), Some("x")), "{driver:?}");
        let part = ask("/up/part", &["Range: bytes=0-4"]);
        assert_eq!((part.status, part.text()), (206, "ab ab".into()), "{driver:?}");
        assert_eq!(ask("/up/no-content", &[]).status, 204);
        let unchanged = ask("/up/unchanged", &["If-None-Match: \"up\""]);
        assert_eq!((unchanged.status, unchanged.field("etag")), (304, Some("\"up\"")), "{driver:?}");
        // The server is not told of codings, whatever the client takes.
        assert_eq!(ask("/up/asked", &["Accept-Encoding: gzip"]).text(), "nothing", "{driver:?}");
        let changed = ask("/up/overlap.html", &[]);
        for name in ["digest", "accept-ranges", "etag", "content-length"] {
            assert_eq!(changed.field(name), None, "{driver:?} {name}");
        }
    });
}

/// RFC 9112 section 8: a body that breaks off is not completed. And what has come is not kept back for want of more.
#[test]
fn a_body_that_breaks_off_or_pauses_is_not_completed() {
    with_both_drivers(|driver| {
        let up = upstream();
        let server = site(driver, &up).start();
        let mut client = server.connect();
        client.send(get("/up/head.html?broken"));
        let (bytes, _) = client.read_to_end();
        assert!(!bytes.ends_with(b"0\r\n\r\n"), "{driver:?}: {}", bytes.escape_ascii());
        let mut client = server.connect();
        client.send(get("/up/x?paused"));
        // "abc" has left as "2c"; "aa" may be the beginning of "aab".
        eventually("what is ready has come", || {
            client.fill().expect("bytes");
            client.buffered().ends_with(b"2\r\n2c\r\n")
        });
    });
}

/// Every byte of a body becomes a long text: memory stays what it was.
#[test]
fn a_body_that_grows_takes_no_memory() {
    let value = "v".repeat(10_000);
    let rest = format!(
        "[site.main]\nroute = [{{ path = \"/\", files = \"$DIR/root\", substitute = {{ once = false, texts = {{ a = \"{value}\" }} }} }}]"
    );
    with_both_drivers(|driver| {
        let server = Site::new(driver, &rest).one_worker().file("root/a.html", &[b'a'; 50_000]).start();
        server.connect().ask(get("/"));
        let (before, _) = server.resident_mib();
        let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
        Client::send_all(&mut clients, &get("/a.html"));
        for client in &mut clients {
            let mut chunk = vec![0; 64 * 1024];
            let mut bytes = 0;
            while bytes < 20_000_000 {
                bytes += client.stream.read(&mut chunk).expect("bytes");
            }
        }
        let (after, peak) = server.resident_mib();
        assert!(
            after < before + 16 && peak < before + 32,
            "{driver:?}: {before} MiB before, {after} after, {peak} at most"
        );
    });
}
