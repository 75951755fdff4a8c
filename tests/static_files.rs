//! Static files through the real binary: what is served, what is never served, and what happens to a file that changes
//! while it is sent. Source: RFC 9110 (sections 8.8, 9.3, 13, 14, 15).

mod support;

use std::io::Read;
use std::process::Command;
use std::time::Duration;

use support::*;

const SITE: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\nfiles = { root = \"$DIR/root\" }\n\
                    [[site.main.route]]\npath = \"/spa/\"\n\
                    files = { root = \"$DIR/root\", strip_prefix = \"/spa\", fallback = \"/index.html\" }\n";

fn site(driver: Driver) -> Site {
    let site = Site::new(driver, SITE)
        .file("root/index.html", b"<p>home</p>")
        .file("root/style.css", b"body {}")
        .file("root/app.js", b"1")
        .file("root/data.json", b"{}")
        .file("root/pic.png", b"png")
        .file("root/noext", b"?")
        .file("root/a b.txt", b"space")
        .file("root/sub/index.html", b"<p>sub</p>")
        .file("root/empty/keep", b"")
        .file("root/zero", b"")
        .file("root/.env", b"secret")
        .file("root/.git/config", b"secret")
        .file("root/.well-known/acme", b"public")
        .file("secret.txt", b"secret");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, site.folder().join("root").join(name)).expect("a link");
    };
    link("../secret.txt", "escape.txt");
    link("/etc", "etc");
    link("style.css", "inside.css");
    site
}

fn start(driver: Driver) -> Server {
    site(driver).start()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.field(name).unwrap_or_else(|| panic!("no {name}: {:?}", response.fields))
}

#[test]
fn files_are_served_with_type_length_and_validators() {
    with_both_drivers(|driver| {
        let server = start(driver);
        let mut client = server.connect();
        for (path, content, media_type) in [
            ("/", "<p>home</p>", "text/html"),
            ("/index.html", "<p>home</p>", "text/html"),
            ("/style.css", "body {}", "text/css"),
            ("/app.js", "1", "text/javascript"),
            ("/data.json", "{}", "application/json"),
            ("/pic.png", "png", "image/png"),
            ("/noext", "?", "application/octet-stream"),
            ("/zero", "", "application/octet-stream"),
            ("/sub/", "<p>sub</p>", "text/html"),
            ("/a%20b.txt", "space", "text/plain"),
            ("/%73tyle.css", "body {}", "text/css"),
            ("/sub/../style.css", "body {}", "text/css"),
            ("/./style.css?v=1", "body {}", "text/css"),
            ("//style.css", "body {}", "text/css"),
            ("/.well-known/acme", "public", "application/octet-stream"),
            ("/spa/style.css", "body {}", "text/css"),
            ("/spa/some/route", "<p>home</p>", "text/html"),
        ] {
            for method in ["GET", "HEAD"] {
                let response = client.ask(request(method, path, &[], ""));
                assert_eq!(response.status, 200, "{driver:?} {method} {path}");
                assert_eq!(response.text(), if method == "HEAD" { "" } else { content }, "{driver:?} {path}");
                assert_eq!(header(&response, "content-length"), content.len().to_string(), "{driver:?} {path}");
                assert!(header(&response, "content-type").starts_with(media_type), "{path}: {:?}", response.fields);
                assert!(header(&response, "last-modified").ends_with(" GMT"));
                let tag = header(&response, "etag");
                assert!(tag.trim_start_matches("W/").starts_with('"') && tag.ends_with('"'), "{tag}");
                assert!(header(&response, "date").ends_with(" GMT"));
            }
        }
    });
}

#[test]
fn what_is_not_a_file_of_the_site_is_not_served() {
    with_both_drivers(|driver| {
        let server = start(driver);
        let paths = [
            "/none",
            "/style.css/",
            "/style.css/x",
            "/empty/",
            "/.env",
            "/.git/config",
            "/sub/../.env",
            "/%2eenv",
            "/escape.txt",
            "/etc/passwd",
            "/etc/",
            "/../secret.txt",
            "/../../../../../../etc/passwd",
            "/sub/../../secret.txt",
            "/%2e%2e/secret.txt",
            "/%2e%2e%2fsecret.txt",
            "/..%2fsecret.txt",
            "/.%2e/secret.txt",
            "/sub/..%2f..%2fsecret.txt",
            "/..%5csecret.txt",
            "/..\\secret.txt",
            "/....//secret.txt",
            "/..;/secret.txt",
            "/%252e%252e/secret.txt",
            "/%c0%ae%c0%ae/secret.txt",
            "/%u002e%u002e/secret.txt",
            "//../secret.txt",
            "/style.css%00",
            "/style.css%00.png",
            "/%",
            "/%2",
            "/%zz",
            "/spa/../../secret.txt",
            "/spa/..%2f..%2fsecret.txt",
            "/spa../secret.txt",
        ];
        for path in paths {
            let mut client = server.connect();
            let response = client.ask(get(path));
            assert!(!response.text().contains("secret") && !response.text().contains("root:"), "{driver:?} {path}");
            let fell_back = path.starts_with("/spa/") && response.text() == "<p>home</p>";
            assert!(matches!(response.status, 400 | 403 | 404) || fell_back, "{driver:?} {path}: {}", response.status);
        }
        let long = format!("/{}", "n".repeat(300));
        assert_eq!(server.connect().ask(get(&long)).status, 404, "{driver:?}: a name longer than the system takes");
        assert_eq!(server.connect().ask(get(&"/d".repeat(1500))).status, 404, "{driver:?}");
    });
}

#[test]
fn a_folder_without_its_slash_is_redirected() {
    with_both_drivers(|driver| {
        let server = start(driver);
        let mut client = server.connect();
        for (path, location) in [("/sub", "/sub/"), ("/sub?a=b&c", "/sub/?a=b&c"), ("/spa/sub", "/spa/sub/")] {
            let response = client.ask(get(path));
            assert!(matches!(response.status, 301 | 302 | 307 | 308), "{driver:?} {path}: {}", response.status);
            let to = header(&response, "location");
            assert!(to == location || to == format!("http://test{location}"), "{driver:?} {path}: {to}");
        }
        // A path that begins with two slashes must not become another host.
        let response = client.ask(get("//sub"));
        let to = response.field("location").unwrap_or("/");
        assert!(!to.starts_with("//"), "{driver:?}: open redirect to {to}");
        let response = client.ask(get("//evil.example/%2e%2e/sub"));
        assert!(!response.field("location").unwrap_or("/").starts_with("//"), "{driver:?}: {:?}", response.fields);
        // Nor may a line end get into the field.
        let response = client.ask(get("/sub%0d%0aX-Evil:1/../sub"));
        assert!(response.field("x-evil").is_none(), "{driver:?}");
    });
}

#[test]
fn other_methods_are_405_with_allow() {
    with_both_drivers(|driver| {
        let server = start(driver);
        for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
            let response = server.connect().ask(request(method, "/style.css", &[], ""));
            assert!(response.status == 405 || (method == "BREW" && response.status == 501), "{driver:?} {method}");
            if response.status == 405 {
                let allow = header(&response, "allow");
                assert!(allow.contains("GET") && allow.contains("HEAD"), "{driver:?}: {allow}");
            }
        }
    });
}

#[test]
fn options_tells_what_is_allowed() {
    with_both_drivers(|driver| {
        let server = start(driver);
        let mut client = server.connect();
        // RFC 9110 sections 9.3.7 and 8.6.
        let response = client.ask(request("OPTIONS", "/style.css", &[], ""));
        assert_eq!((response.status, header(&response, "allow")), (204, "GET, HEAD, OPTIONS"), "{driver:?}");
        assert_eq!((response.field("content-length"), response.body.len()), (None, 0), "{driver:?}");
        assert_eq!(client.ask(request("OPTIONS", "/none", &[], "")).status, 404, "{driver:?}");
        assert_eq!(client.ask(get("/style.css")).text(), "body {}", "{driver:?}: the connection goes on");
    });
}

const TUNED: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\n[site.main.route.files]\nroot = \"$DIR/root\"\n\
                     try = [\"$path\", \"$path.html\", \"$path/\", \"=410\"]\nsymlinks = \"never\"\n\
                     types = { css = \"text/x-css\" }\ncharset = \"latin1\"\ndefault_type = \"text/plain\"\n\
                     ranges_max = 0\ndotfiles = true\n";

#[test]
fn the_files_table_is_obeyed() {
    with_both_drivers(|driver| {
        let tuned = Site::new(driver, TUNED)
            .file("root/page.html", b"page")
            .file("root/sub/index.html", b"sub")
            .file("root/a.css", b"css")
            .file("root/README", b"readme")
            .file("root/.config", b"config");
        std::os::unix::fs::symlink("README", tuned.folder().join("root/link")).expect("a link");
        let server = tuned.start();
        let mut client = server.connect();
        const GONE: &str = "<!doctype html>\n<html lang=\"en\"><head><title>410 Gone</title></head>\n<body><h1>410 Gone</h1></body></html>\n";
        for (path, status, body, media_type) in [
            ("/page", 200, "page", "text/html; charset=latin1"),
            ("/sub/", 200, "sub", "text/html; charset=latin1"),
            ("/a.css", 200, "css", "text/x-css; charset=latin1"),
            ("/README", 200, "readme", "text/plain; charset=latin1"),
            ("/.config", 200, "config", "text/plain; charset=latin1"),
            ("/link", 410, GONE, "text/html; charset=utf-8"),
            ("/none", 410, GONE, "text/html; charset=utf-8"),
            ("/none/", 410, GONE, "text/html; charset=utf-8"),
        ] {
            let response = client.ask(request("GET", path, &["Range: bytes=0-0"], ""));
            assert_eq!((response.status, response.text().as_str()), (status, body), "{driver:?} {path}");
            assert_eq!(header(&response, "content-type"), media_type, "{driver:?} {path}");
        }
        assert_eq!(header(&client.ask(get("/sub")), "location"), "/sub/", "{driver:?}");
    });
}

#[test]
fn conditions_are_evaluated_in_the_order_of_the_rfc() {
    with_both_drivers(|driver| {
        let server = start(driver);
        let mut client = server.connect();
        let plain = client.ask(get("/style.css"));
        let (tag, modified) = (header(&plain, "etag").to_owned(), header(&plain, "last-modified").to_owned());
        let weak = format!("W/{}", tag.trim_start_matches("W/"));
        let (old, future) = ("Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 31 Dec 2100 00:00:00 GMT");
        let mut check = |fields: &[String], status: u16| {
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            let response = client.ask(request("GET", "/style.css", &fields, ""));
            assert_eq!(response.status, status, "{driver:?} {fields:?}");
            match status {
                200 => assert_eq!(response.text(), "body {}"),
                304 => assert_eq!((response.text().as_str(), response.field("etag")), ("", Some(tag.as_str()))),
                _ => {}
            }
        };
        check(&[format!("If-None-Match: {tag}")], 304);
        check(&[format!("If-None-Match: {weak}")], 304);
        check(&[format!("If-None-Match: \"other\", {tag}")], 304);
        check(&["If-None-Match: *".into()], 304);
        check(&["If-None-Match: \"other\"".into()], 200);
        check(&["If-None-Match: \"other\"".into(), format!("If-Modified-Since: {future}")], 200);
        check(&[format!("If-None-Match: {tag}"), format!("If-Modified-Since: {old}")], 304);
        check(&[format!("If-Modified-Since: {modified}")], 304);
        check(&[format!("If-Modified-Since: {old}")], 200);
        check(&["If-Modified-Since: yesterday".into()], 200);
        check(&["If-Match: \"other\"".into()], 412);
        check(&["If-Match: *".into()], 200);
        check(&[format!("If-Match: {tag}")], if tag.starts_with("W/") { 412 } else { 200 });
        check(&[format!("If-Unmodified-Since: {old}")], 412);
        check(&[format!("If-Unmodified-Since: {modified}")], 200);
    });
}

#[test]
fn one_range_is_served_in_part() {
    with_both_drivers(|driver| {
        let content = pattern(100_000);
        let server = site(driver).file("root/data.bin", &content).file("root/small.bin", &content[..100]).start();
        let mut client = server.connect();
        for (path, size) in [("/data.bin", 100_000), ("/small.bin", 100)] {
            let last = size - 1;
            for (range, first, end) in [
                ("bytes=0-0".to_owned(), 0, 0),
                ("bytes=10-19".into(), 10, 19),
                (format!("bytes={last}-"), last, last),
                ("bytes=50-".into(), 50, last),
                ("bytes=-7".into(), size - 7, last),
                ("bytes=-999999999".into(), 0, last),
                ("bytes=10-999999999".into(), 10, last),
                ("BYTES=10-19".into(), 10, 19),
            ] {
                let response = client.ask(request("GET", path, &[&format!("Range: {range}")], ""));
                assert_eq!(response.status, 206, "{driver:?} {path} {range}");
                assert_eq!(header(&response, "content-range"), format!("bytes {first}-{end}/{size}"), "{range}");
                assert!(response.body == content[first..=end], "{driver:?} {path} {range}");
            }
            for range in [format!("bytes={size}-"), "bytes=999999999-".into(), "bytes=-0".into()] {
                let response = client.ask(request("GET", path, &[&format!("Range: {range}")], ""));
                assert_eq!(response.status, 416, "{driver:?} {path} {range}");
                assert_eq!(header(&response, "content-range"), format!("bytes */{size}"), "{driver:?} {range}");
            }
            let several = client.ask(request("GET", path, &["Range: bytes=1-2,50-60"], ""));
            assert_eq!(several.status, 206, "{driver:?} {path}");
            assert!(header(&several, "content-type").starts_with("multipart/byteranges; boundary="), "{driver:?}");
            // What is no range of bytes is ignored.
            for range in ["bytes=5-2", "lines=1-2", "bytes=a-b", "bytes 1-2", "bytes="] {
                let response = client.ask(request("GET", path, &[&format!("Range: {range}")], ""));
                assert_eq!((response.status, response.body.len()), (200, size), "{driver:?} {path} {range}");
            }
            let head = client.ask(request("HEAD", path, &["Range: bytes=0-1"], ""));
            assert_eq!((head.status, header(&head, "content-length")), (200, size.to_string().as_str()), "{driver:?}");
            let tag = header(&head, "etag").to_owned();
            for (validator, status) in [(tag.as_str(), 206), ("\"other\"", 200), ("Mon, 01 Jan 2001 00:00:00 GMT", 200)]
            {
                let fields = ["Range: bytes=0-1", &format!("If-Range: {validator}")];
                assert_eq!(client.ask(request("GET", path, &fields, "")).status, status, "{driver:?} {validator}");
            }
        }
    });
}

#[test]
fn curl_gets_a_large_file_unchanged() {
    if !has_program("curl") {
        return;
    }
    with_both_drivers(|driver| {
        let content = pattern(10_000_000);
        let server = site(driver).file("root/big.bin", &content).start();
        let target = server.folder().join("got.bin");
        let curl = |args: &[&str]| {
            let url = format!("http://{}/big.bin", server.web());
            let output = Command::new("curl").args(["-sS", "--fail", "-o"]).arg(&target).args(args).arg(url).output();
            let output = output.expect("curl runs");
            assert!(output.status.success(), "{driver:?}: {}", String::from_utf8_lossy(&output.stderr));
            std::fs::read(&target).expect("a file")
        };
        assert!(curl(&[]) == content, "{driver:?}");
        assert!(curl(&["-r", "5000000-5999999"]) == content[5_000_000..6_000_000], "{driver:?}");
        // The rest of a download that broke off.
        std::fs::write(&target, &content[..3_000_000]).expect("a file");
        assert!(curl(&["-C", "-"]) == content, "{driver:?}");
    });
}

#[test]
fn slow_readers_get_everything_and_clients_that_leave_cost_nothing() {
    with_both_drivers(|driver| {
        let content = pattern(4_000_000);
        let server = site(driver).file("root/big.bin", &content).start();
        let mut slow = Client::with_small_window(server.web());
        slow.send(request("GET", "/big.bin", &["Connection: close"], ""));
        // Others leave in the middle, by close and by reset.
        for n in 0..20 {
            let mut client = Client::with_small_window(server.web());
            client.send(get("/big.bin"));
            assert!(client.fill().expect("bytes") > 0);
            if n % 2 == 0 {
                client.reset();
            }
        }
        let mut received = Vec::new();
        let mut piece = vec![0; 200_000];
        loop {
            match slow.stream.read(&mut piece).expect("bytes") {
                0 => break,
                n => received.extend_from_slice(&piece[..n]),
            }
            if received.len() % 7 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        assert!(received.ends_with(&content), "{driver:?}: {} bytes", received.len());
        server.wait_until_no_client();
        assert_eq!(server.connect().ask(get("/style.css")).text(), "body {}", "{driver:?}");
    });
}

/// Takes the head and a little of a big answer, so that the rest is under way.
fn begin_download(server: &Server) -> Client {
    let mut client = Client::with_small_window(server.web());
    client.send(get("/big.bin"));
    while client.buffered().len() < 2000 {
        assert!(client.fill().expect("bytes") > 0);
    }
    client
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_breaks_the_connection() {
    with_both_drivers(|driver| {
        let server = site(driver).file("root/big.bin", &pattern(20_000_000)).start();
        let path = server.folder().join("root/big.bin");
        let mut client = begin_download(&server);
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the file");
        file.set_len(1000).expect("truncated");
        let bytes = client.drain();
        assert!(bytes.len() < 20_000_000, "{driver:?}: never filled up to the length announced");
        server.wait_until_no_client();
        assert_eq!(server.connect().ask(get("/style.css")).text(), "body {}", "{driver:?}");
    });
}

#[test]
fn a_replaced_file_is_sent_whole_in_its_old_or_new_form() {
    with_both_drivers(|driver| {
        let old = pattern(8_000_000);
        let server = site(driver).file("root/big.bin", &old).start();
        let path = server.folder().join("root/big.bin");
        let mut client = begin_download(&server);
        std::fs::write(server.folder().join("new"), b"new content").expect("a file");
        std::fs::rename(server.folder().join("new"), &path).expect("renamed");
        let response = client.response("GET");
        assert!(response.body == old, "{driver:?}: the download under way is of one piece");
        for (path, content) in [("/big.bin", "new content"), ("/style.css", "changed")] {
            if path == "/style.css" {
                assert_eq!(server.connect().ask(get(path)).text(), "body {}");
                std::fs::write(server.folder().join("root/style.css"), content).expect("a file");
            }
            eventually("the new content is served", || server.connect().ask(get(path)).text() == content);
        }
        // A file that goes away is gone, and one that comes is there.
        std::fs::remove_file(server.folder().join("root/style.css")).expect("removed");
        eventually("a removed file is 404", || server.connect().ask(get("/style.css")).status == 404);
        std::fs::write(server.folder().join("root/style.css"), "again").expect("a file");
        eventually("a new file is served", || server.connect().ask(get("/style.css")).text() == "again");
    });
}

#[test]
fn a_file_that_grows_while_it_is_sent_ends_where_it_was_promised_to() {
    with_both_drivers(|driver| {
        use std::io::Write;
        let content = pattern(8_000_000);
        let server = site(driver).file("root/big.bin", &content).start();
        let path = server.folder().join("root/big.bin");
        let mut client = begin_download(&server);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("the file");
        file.write_all(&[b'+'; 100_000]).expect("appended");
        // Whole in its old form, or broken off: never with bytes of the new one.
        let bytes = client.drain();
        let body = &bytes[bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4..];
        assert!(body.len() <= content.len() && content.starts_with(body), "{driver:?}: {} bytes", body.len());
        // Whoever asks now gets all of it, with another tag.
        let mut client = server.connect();
        let response = client.ask(get("/big.bin"));
        assert_eq!(response.body.len(), 8_100_000, "{driver:?}");
        let tag = header(&response, "etag").to_owned();
        // Touched: the same bytes, another tag.
        let touched = std::fs::FileTimes::new().set_modified(std::time::SystemTime::now() - Duration::from_secs(5000));
        file.set_times(touched).expect("touched");
        let response = client.ask(request("HEAD", "/big.bin", &[], ""));
        assert_ne!(header(&response, "etag"), tag, "{driver:?}");
    });
}

#[test]
fn a_large_file_that_is_written_over_is_never_served_under_its_old_tag() {
    with_both_drivers(|driver| {
        let server = site(driver).file("root/big.bin", &[b'1'; 300_000]).start();
        let path = server.folder().join("root/big.bin");
        let mut client = server.connect();
        let mut tags = vec![header(&client.ask(get("/big.bin")), "etag").to_owned()];
        for version in [b'2', b'3', b'4'] {
            std::thread::sleep(Duration::from_millis(20)); // more than a tick of the file system's clock
            std::fs::write(&path, vec![version; 300_000]).expect("written");
            let response = client.ask(get("/big.bin"));
            assert!(response.body.iter().all(|byte| *byte == version), "{driver:?}");
            let tag = header(&response, "etag").to_owned();
            assert!(!tags.contains(&tag), "{driver:?}: {tag}");
            tags.push(tag);
        }
    });
}

/// Files that are not in memory are waited for without the worker: another connection of the same worker goes on meanwhile.
#[test]
fn cold_files_do_not_hold_up_other_requests() {
    const FILES: usize = 6;
    const FILE_BYTES: usize = 24 << 20;
    with_both_drivers(|driver| {
        let rest = "[site.main]\nroute = [{ path = \"/\", files = \"$DIR/root\" }]";
        let content = pattern(FILE_BYTES);
        let mut site = Site::new(driver, rest).one_worker().http("keep_alive_requests_max = 0");
        site = site.file("root/small.txt", b"small");
        for n in 0..FILES {
            site = site.file(&format!("root/{n}.bin"), &content);
        }
        let server = site.start();
        for n in 0..FILES {
            let file = std::fs::File::open(server.folder().join(format!("root/{n}.bin"))).expect("a file");
            file.sync_all().expect("written");
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
        }
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let mut waits = std::thread::scope(|scope| {
            let steady = scope.spawn(|| {
                let mut client = server.connect();
                let mut waits = Vec::new();
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    let (answer, wait) = support::client::timed(|| client.ask(get("/small.txt")));
                    assert_eq!(answer.text(), "small");
                    waits.push(wait);
                }
                waits
            });
            let (server, content) = (&server, &content);
            let cold: Vec<_> = (0..FILES)
                .map(|n| {
                    scope.spawn(move || {
                        let answer = server.connect().ask(get(&format!("/{n}.bin")));
                        assert!(answer.body == *content, "{n} is whole");
                    })
                })
                .collect();
            cold.into_iter().for_each(|client| client.join().expect("a client"));
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            steady.join().expect("the steady client")
        });
        waits.sort();
        let (count, p99) = (waits.len(), waits[waits.len() * 99 / 100]);
        println!("{driver:?}: {count} requests beside {FILES} cold files, p99 {p99:?}");
        assert!(count > 20 && p99 < Duration::from_millis(100), "{driver:?}: p99 {p99:?} of {count}");
    });
}
