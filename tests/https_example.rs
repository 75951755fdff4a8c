//! `examples/https.toml` is what people copy, so it is run here as it stands: only ports and folders are changed.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Driver, Server, Site, has_program};

const HTML: &str = "<!doctype html><title>home</title>";

/// The example with free ports and with its folders in a temporary one, where everything it names is made.
fn start() -> Option<Server> {
    if !has_program("curl") {
        return None;
    }
    let example = include_str!("../examples/https.toml")
        .replace("0.0.0.0:80\"", "127.0.0.1:0\"")
        .replace("0.0.0.0:443", "127.0.0.1:0")
        .replace("/var/log/one-server", "$DIR/log")
        .replace("/var/www/example.org", "$DIR/www")
        .replace("/etc/one-server", "$DIR/etc");
    let site = Site::new(Driver::Auto, "")
        .whole(&example)
        .file("www/index.html", HTML.as_bytes())
        .file("www/assets/app.js", "let x = 1; // a line of text\n".repeat(100).as_bytes())
        .file("www/errors/404.html", b"nothing here\n")
        .file("www/errors/sorry.html", b"sorry\n")
        .file("log/.keep", b"")
        .file("etc/.keep", b"");
    let made = Command::new(env!("CARGO_BIN_EXE_one-server"))
        .args(["cert", "self-signed", "example.org", "www.example.org", "--out"])
        .arg(site.folder().join("etc"))
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(site.start())
}

/// Status line, fields and body; `arguments` are curl's, with the URL last.
fn curl(server: &Server, arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--max-time", "20", "--cacert"]);
    command.arg(server.folder().join("etc/example.org.pem"));
    for name in ["example.org", "www.example.org"] {
        for (listener, port) in [("clear", 80), ("secure", 443)] {
            let address = server.address(listener);
            command.arg("--connect-to").arg(format!("{name}:{port}:{}:{}", address.ip(), address.port()));
        }
    }
    let output = command.args(arguments).output().expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text.to_ascii_lowercase()
}

#[track_caller]
fn check(answer: &str, status: &str, fields: &[&str]) {
    assert!(answer.starts_with(status), "{answer}");
    for field in fields {
        assert!(answer.contains(&format!("\r\n{field}\r\n")), "no `{field}` in {answer}");
    }
}

#[test]
fn clear_text_is_sent_to_https_and_https_answers() {
    let Some(server) = start() else { return };
    let get = |arguments: &[&str]| curl(&server, arguments);

    check(&get(&["http://example.org/a?b=c"]), "http/1.1 308 ", &["location: https://example.org/a?b=c"]);
    let token = get(&["http://example.org/.well-known/acme-challenge/none"]);
    check(&token, "http/1.1 404 ", &[]);
    assert!(!token.contains("strict-transport-security"), "of no use in clear text: {token}");

    let page = get(&["--http2", "https://example.org/"]);
    let secured = ["strict-transport-security: max-age=86400", "x-content-type-options: nosniff"];
    check(&page, "http/2 200 ", &secured);
    check(&page, "http/2 200 ", &["content-security-policy: default-src 'self'", "cache-control: no-cache"]);
    assert!(page.ends_with(HTML) && !page.contains("\r\nserver:"), "{page}");
    check(&get(&["--http1.1", "https://example.org/"]), "http/1.1 200 ", &secured);
    check(&get(&["https://example.org/health"]), "http/2 200 ", &["content-length: 3"]);

    let moved = get(&["https://www.example.org/a%20b?c=%2F"]);
    check(&moved, "http/2 308 ", &["location: https://example.org/a%20b?c=%2f"]);
}

#[test]
fn assets_are_compressed_and_kept() {
    let Some(server) = start() else { return };
    for (accepted, coding) in [("gzip", "gzip"), ("gzip, br, zstd", "br")] {
        let field = format!("Accept-Encoding: {accepted}");
        let head = curl(&server, &["--head", "--header", &field, "https://example.org/assets/app.js"]);
        let coding = format!("content-encoding: {coding}");
        check(&head, "http/2 200 ", &[&coding, "cache-control: public, max-age=31536000, immutable"]);
        assert!(head.contains("\r\nvary: accept-encoding\r\n"), "{head}");
    }
}

#[test]
fn error_pages_are_its_own_and_the_log_tells_them() {
    let Some(server) = start() else { return };
    for path in ["/none", "/errors/404.html"] {
        let page = curl(&server, &[&format!("https://example.org{path}")]);
        check(&page, "http/2 404 ", &["strict-transport-security: max-age=86400"]);
        assert!(page.ends_with("nothing here\n"), "{page}");
    }
    curl(&server, &["https://example.org/health"]);
    let log = server.folder().join("log/access.log");
    let read = |log: &Path| std::fs::read_to_string(log).unwrap_or_default();
    support::eventually("both requests are in the log", || read(&log).lines().count() >= 2);
    let lines = read(&log);
    assert!(lines.contains("\"GET /none HTTP/2.0\" 404 13 "), "{lines}");
    assert!(!lines.contains("/health"), "health checks stay out: {lines}");
}
