//! Servers of uwsgi and SCGI: real uWSGI with an application of Python behind us.

mod support;

use std::time::{Duration, Instant};

use support::client::NoResponse;
use support::tools::curl;
use support::uwsgi::Uwsgi;
use support::{Driver, Server, Site, eventually, get, pattern, post, request};

fn start(protocol: &str, driver: Driver, uwsgi: &Uwsgi, upstream: &str, cgi: &str) -> Server {
    let text = format!(
        "[upstream.app]\nservers = \"unix:{}\"\nprotocol = \"{protocol}\"\n{upstream}\n[site.main]\ndefault = true\n\
         [[site.main.route]]\npath = \"/\"\nproxy = \"app\"\n{cgi}\n",
        uwsgi.socket().display()
    );
    Site::new(driver, &text).http("body_max = \"200MiB\"").start()
}

/// Runs `test` with both protocols and both drivers.
fn with_all(test: impl Fn(&str, Driver, &Uwsgi)) {
    for protocol in ["uwsgi", "scgi"] {
        let Some(uwsgi) = Uwsgi::start(protocol) else { return };
        for driver in [Driver::IoUring, Driver::Epoll] {
            test(protocol, driver, &uwsgi);
        }
    }
}

#[test]
fn requests_reach_the_application() {
    with_all(|protocol, driver, uwsgi| {
        let server = start(protocol, driver, uwsgi, "", "");
        let mut client = server.connect();
        let told = format!("{protocol} {driver:?}");
        let answer = client.ask(post("/echo", "content"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "content"), "{told}");
        let chunked =
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(client.ask(chunked).text(), "abcde", "{told}: its length is found out");
        client.send(request("HEAD", "/echo", &[], ""));
        let answer = client.response("HEAD");
        assert_eq!((answer.field("X-Method"), answer.body.len()), (Some("HEAD"), 0), "{told}");
        assert_eq!(client.ask(get("/none")).status, 204, "{told}");
        let answer = client.ask(get("/absent/%C3%A4"));
        assert_eq!((answer.status, answer.text().as_str()), (404, "/absent/Ã¤"), "{told}: WSGI reads bytes as Latin-1");
    });
}

#[test]
fn the_variables() {
    with_all(|protocol, driver, uwsgi| {
        let server =
            start(protocol, driver, uwsgi, "", "cgi = { params = { APP_ENV = \"test\", UWSGI_SCHEME = \"$scheme\" } }");
        let fields =
            ["Content-Type: a/b", "X-Own: 1", "Proxy: http://evil", "X_User: root", "Cookie: a=1", "Cookie: b=2"];
        let answer = server.connect().ask(request("POST", "/table?a=b", &fields, "12345"));
        let table: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        for (name, expect) in [
            ("REQUEST_METHOD", "POST"),
            ("PATH_INFO", "/table"),
            ("QUERY_STRING", "a=b"),
            ("REQUEST_URI", "/table?a=b"),
            ("CONTENT_LENGTH", "5"),
            ("CONTENT_TYPE", "a/b"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("HTTP_X_OWN", "1"),
            ("HTTP_COOKIE", "a=1; b=2"),
            ("APP_ENV", "test"),
        ] {
            assert_eq!(table[name], expect, "{protocol} {driver:?} {name}");
        }
        for name in ["HTTP_PROXY", "HTTP_X_USER", "HTTP_CONTENT_LENGTH", "HTTPS"] {
            assert!(table.get(name).is_none(), "{protocol} {driver:?} {name}");
        }
    });
}

#[test]
fn content_is_streamed_both_ways() {
    let folder = tempfile::tempdir().expect("a folder");
    let content = pattern(50 << 20);
    std::fs::write(folder.path().join("upload"), &content).expect("a file");
    let sum = std::process::Command::new("sha256sum").arg(folder.path().join("upload")).output().expect("sha256sum");
    let sum = String::from_utf8_lossy(&sum.stdout).split(' ').next().unwrap_or_default().to_owned();
    let data = format!("@{}", folder.path().join("upload").display());
    with_all(|protocol, driver, uwsgi| {
        let told = format!("{protocol} {driver:?}");
        let server = start(protocol, driver, uwsgi, "", "");
        let (before, _) = server.resident_mib();
        let answer = curl("http", server.web(), "/hash", &["--data-binary", &data]);
        assert_eq!(answer.text(), format!("{} {sum}", content.len()), "{told}");
        // The application has some of it before there is all of it.
        let (mut client, begun) = (server.connect(), folder.path().join(format!("{protocol}-{}", driver.flag())));
        client.send(format!(
            "POST /hash?{} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            begun.display(),
            content.len()
        ));
        let (first, rest) = content.split_at(4 << 20);
        client.send(first);
        eventually("it has some of it", || begun.exists());
        client.send(rest);
        assert_eq!(client.response("POST").text(), format!("{} {sum}", content.len()), "{told}");
        let (_, peak) = server.resident_mib();
        assert!(peak < before + 25, "{told}: {before} MiB, and {peak} MiB at most");
        let answer = curl("http", server.web(), "/hash", &["-H", "Transfer-Encoding: chunked", "--data-binary", &data]);
        assert_eq!(answer.status, 411, "{told}");
        let expect: Vec<u8> = (0..300).flat_map(|i| vec![b'A' + (i % 26) as u8; 100_000]).collect();
        assert!(curl("http", server.web(), "/big", &[]).body == expect, "{told}");
        let (begun, mut client) = (Instant::now(), server.connect());
        client.send(get("/slow"));
        while !String::from_utf8_lossy(client.buffered()).contains("part 0") {
            client.fill().expect("more");
        }
        assert!(begun.elapsed() < Duration::from_millis(900), "{told}: it came as it was");
        assert_eq!(client.response("GET").text(), "part 0\npart 1\npart 2\n", "{told}");
    });
}

#[test]
fn what_goes_wrong() {
    with_all(|protocol, driver, uwsgi| {
        let told = format!("{protocol} {driver:?}");
        let server = start(protocol, driver, uwsgi, "", "");
        match server.connect().send(get("/short")).try_response("GET") {
            Err(NoResponse::Ended(_, bytes)) => assert!(bytes.ends_with(b"xxxx"), "{told}"),
            other => panic!("{told}: {other:?}"),
        }
        let status = server.connect().ask(get("/fails")).status;
        assert!([500, 502].contains(&status), "{told}: {status}");
        assert_eq!(server.connect().ask(get("/none")).status, 204, "{told}");
    });
}

#[test]
fn a_head_that_has_no_room() {
    let Some(uwsgi) = Uwsgi::start("uwsgi") else { return };
    let text = format!(
        "[upstream.app]\nservers = \"unix:{}\"\nprotocol = \"uwsgi\"\n[site.main]\ndefault = true\n\
         [[site.main.route]]\npath = \"/\"\nproxy = \"app\"\n",
        uwsgi.socket().display()
    );
    let server = Site::new(Driver::Auto, &text).http("head_max = \"128KiB\"").start();
    let large = |bytes: usize| request("GET", "/none", &[&format!("X-Large: {}", "x".repeat(bytes))], "");
    assert_eq!(server.connect().ask(large(50_000)).status, 204);
    assert_eq!(server.connect().ask(large(66_000)).status, 431, "a packet has 64 KiB");
}

#[test]
fn checks_ask_for_a_path() {
    with_all(|protocol, driver, uwsgi| {
        for (path, expect) in [("/none", 204), ("/absent", 503)] {
            let health = format!("health = {{ path = \"{path}\", interval = \"100ms\", fall = 1 }}");
            let server = start(protocol, driver, uwsgi, &health, "");
            eventually("the check tells", || server.connect().ask(get("/none")).status == expect);
        }
    });
}
