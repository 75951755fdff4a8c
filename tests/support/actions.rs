//! One site with every action, and requests whose answers must be the same over every version of HTTP.

use std::io::Read;
use std::time::Duration;

use super::upstream::Then;
use super::{Driver, FakeUpstream, Server, Site, pattern};

/// One site with every action.
pub(crate) fn site(upstream: &FakeUpstream) -> String {
    format!(
        "[site.main]\nerror_pages = {{ 404 = \"/errors/404.html\" }}\n\
         [[site.main.route]]\npath = \"/\"\nfiles = {{ root = \"$DIR/root\", listing = \"auto\" }}\n\
         [[site.main.route]]\npath = \"/errors/\"\ninternal = true\nfiles = {{ root = \"$DIR\" }}\n\
         [[site.main.route]]\npath = \"/text/\"\ncompress = true\n\
         files = {{ root = \"$DIR/root\", strip_prefix = \"/text\" }}\n\
         [[site.main.route]]\npath = \"/up/\"\nproxy = \"up\"\n\
         [[site.main.route]]\npath = \"/small/\"\nbody_max = 1000\nproxy = \"up\"\n\
         [[site.main.route]]\npath = \"/medium/\"\nbody_max = 50000\nproxy = \"up\"\n\
         [[site.main.route]]\npath = \"/smallapp/\"\nbody_max = 1000\napp = \"probe\"\n\
         [[site.main.route]]\npath = \"/coded/\"\ncompress = true\nproxy = \"up\"\n\
         [[site.main.route]]\npath = \"/app/\"\napp = \"probe\"\n\
         [[site.main.route]]\npath = \"/moved\"\nredirect = {{ to = \"https://example.org$path?$query\", status = 307 }}\n\
         [[site.main.route]]\nregex = \"^/old/(.+)$\"\nrewrite = {{ to = \"/$1\" }}\n\
         [[site.main.route]]\nexact = \"/fixed\"\nrespond = {{ status = 418, body = \"fixed $remote_addr\" }}\n\
         headers = {{ set = {{ X-Set = \"$request_method\" }} }}\n\
         [[site.main.route]]\npath = \"/posts\"\nmethods = [\"POST\"]\nrespond = {{ body = \"posted\" }}\n\
         [[site.main.route]]\npath = \"/private/\"\nauth = {{ realm = \"staff\", users_file = \"$DIR/users\" }}\n\
         respond = {{ body = \"for $remote_user\" }}\n\
         [[site.main.route]]\npath = \"/closed/\"\nclose = true\n\
         [app.probe]\n[upstream.up]\nservers = \"{}\"\nhealth = false\n",
        upstream.address
    )
}

/// The SHA-1 of `secret`, as `htpasswd -s` writes it.
const USERS: &[u8] = b"jo:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n";

/// It, with `http` in `[http]` and `listener` in its listener with TLS.
pub(crate) fn all_actions(driver: Driver, upstream: &FakeUpstream, http: &str, listener: &str) -> Site {
    let long = "a line of text that repeats itself\n".repeat(2000);
    let site = Site::probe(driver, &site(upstream))
        .http("body_max = \"64MiB\"")
        .http(http)
        .secure(listener)
        .file("users", USERS)
        .file("errors/404.html", b"<p>not here</p>")
        .file("root/index.html", b"<p>home</p>")
        .file("root/page.html", b"<p>page</p>")
        .file("root/folder/one.txt", b"one")
        .file("root/folder/two.txt", b"two")
        .file("root/long.txt", long.as_bytes())
        .file("root/zero", b"")
        .file("root/big", &pattern(10_000_019));
    let file = std::fs::File::options().write(true).open(site.folder().join("root/page.html")).expect("a file");
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("a time");
    site
}

/// An upstream for what is compared: each target has its own kind of answer.
pub(crate) fn echo() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        let target = exchange.request.target.clone();
        if target.ends_with("/read") || target.contains("/echo") {
            exchange.read_body();
        }
        let body = match target.contains("/echo") {
            true => exchange.request.body.clone(),
            false => format!("{} {target}", exchange.request.method).into_bytes(),
        };
        let mut head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
        if target.ends_with("/fields") {
            head += "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Accel-Buffering: no\r\nConnection: x-secret\r\n\
                     X-Secret: 1\r\nKeep-Alive: timeout=5\r\nServer: theirs\r\n";
        }
        if target.ends_with("/chunked") {
            let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                        3\r\none\r\n3\r\ntwo\r\n0\r\nX-Sum: 6\r\nSet-Cookie: evil=1\r\n\r\n";
            exchange.send(text);
            return Then::Keep;
        }
        if target.ends_with("/until-close") {
            exchange.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end");
            return Then::Close;
        }
        if target.ends_with("/empty") {
            exchange.send("HTTP/1.1 204 No Content\r\nX-Kind: empty\r\n\r\n");
            return Then::Keep;
        }
        if target.ends_with("/not-modified") {
            exchange.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
            return Then::Keep;
        }
        if target.ends_with("/gone") {
            exchange.send("HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\ngone");
            return Then::Keep;
        }
        if target.starts_with("/coded") {
            let text = "compress me, ".repeat(1000);
            head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n", text.len());
            exchange.send(format!("{head}\r\n{text}"));
            return Then::Keep;
        }
        exchange.send(head + "\r\n");
        if exchange.request.method != "HEAD" {
            exchange.send(body);
        }
        Then::Keep
    })
}

pub(crate) type Fields = &'static [(&'static str, &'static str)];

/// Requests, the status they must have over both protocols, and a part of the body.
pub(crate) const REQUESTS: &[(&str, &str, Fields, &str, u16, &str)] = &[
    ("GET", "/", &[], "", 200, "<p>home</p>"),
    ("GET", "/page.html", &[], "", 200, "<p>page</p>"),
    ("HEAD", "/page.html", &[], "", 200, ""),
    ("GET", "/zero", &[], "", 200, ""),
    ("GET", "/folder", &[], "", 301, ""),
    ("GET", "/folder/", &[("accept", "text/html")], "", 200, "one.txt"),
    ("GET", "/folder/", &[("accept", "application/json")], "", 200, "\"two.txt\""),
    ("GET", "/page.html", &[("range", "bytes=3-6")], "", 206, "page"),
    ("GET", "/page.html", &[("range", "bytes=0-1,3-4")], "", 206, "multipart"),
    ("GET", "/page.html", &[("range", "bytes=100-")], "", 416, ""),
    ("HEAD", "/page.html", &[("range", "bytes=3-6")], "", 200, ""),
    ("GET", "/page.html", &[("if-modified-since", "Sun, 09 Sep 2001 01:46:40 GMT")], "", 304, ""),
    ("GET", "/page.html", &[("if-modified-since", "Sun, 09 Sep 2001 01:46:39 GMT")], "", 200, "page"),
    ("GET", "/page.html", &[("if-none-match", "*")], "", 304, ""),
    ("GET", "/page.html", &[("if-match", "\"other\"")], "", 412, ""),
    ("GET", "/text/long.txt", &[("accept-encoding", "br")], "", 200, "repeats itself"),
    ("GET", "/text/long.txt", &[("accept-encoding", "gzip")], "", 200, "repeats itself"),
    ("GET", "/text/long.txt", &[("accept-encoding", "identity")], "", 200, "repeats itself"),
    ("HEAD", "/text/long.txt", &[("accept-encoding", "zstd")], "", 200, ""),
    ("GET", "/coded/x", &[("accept-encoding", "zstd")], "", 200, "compress me"),
    ("GET", "/coded/x", &[("accept-encoding", "gzip")], "", 200, "compress me"),
    ("GET", "/coded/x", &[], "", 200, "compress me"),
    ("GET", "/nowhere", &[], "", 404, "<p>not here</p>"),
    ("HEAD", "/nowhere", &[], "", 404, ""),
    ("GET", "/errors/404.html", &[], "", 404, "<p>not here</p>"),
    ("POST", "/page.html", &[], "x", 405, ""),
    ("GET", "/moved/a%20b?c=d", &[], "", 307, ""),
    ("GET", "/old/page.html", &[], "", 200, "<p>page</p>"),
    ("POST", "/old/up/echo", &[], "round inside", 200, "round inside"),
    ("GET", "/fixed", &[], "", 418, "fixed 127.0.0.1"),
    ("HEAD", "/fixed", &[], "", 418, ""),
    ("GET", "/posts", &[], "", 405, ""),
    ("OPTIONS", "/posts", &[], "", 204, ""),
    ("POST", "/posts", &[], "unread", 200, "posted"),
    ("GET", "/private/x", &[], "", 401, ""),
    ("GET", "/private/x", &[("authorization", "Basic am86d3Jvbmc=")], "", 401, ""),
    ("GET", "/private/x", &[("authorization", "Basic am86c2VjcmV0")], "", 200, "for jo"),
    ("GET", "/up/a?b=c", &[], "", 200, "GET /up/a?b=c"),
    ("HEAD", "/up/a", &[], "", 200, ""),
    ("DELETE", "/up/a", &[], "", 200, "DELETE /up/a"),
    ("PATCH", "/up/read", &[], "changed", 200, "PATCH /up/read"),
    ("POST", "/up/echo", &[], "what was said", 200, "what was said"),
    ("GET", "/up/fields", &[], "", 200, "GET"),
    ("GET", "/up/chunked", &[], "", 200, "onetwo"),
    ("GET", "/up/until-close", &[], "", 200, "until the end"),
    ("GET", "/up/empty", &[], "", 204, ""),
    ("GET", "/up/not-modified", &[], "", 304, ""),
    ("GET", "/up/gone", &[], "", 410, "gone"),
    ("POST", "/app/echo", &[], "what was said", 200, "what was said"),
    ("GET", "/app/large?bytes=300000", &[], "", 200, "zzz"),
    ("HEAD", "/app/large?bytes=300000", &[], "", 200, ""),
    ("GET", "/app/status?code=503", &[], "", 503, "body"),
    ("GET", "/app/framing", &[], "", 200, "framed"),
    ("GET", "/app/trailers", &[], "", 200, "zzzzz"),
    ("GET", "/app/panic", &[], "", 500, ""),
    ("GET", "/../../etc/passwd", &[], "", 400, ""),
    ("GET", "/%00", &[], "", 400, ""),
    ("TRACE", "/", &[], "", 405, ""),
];

/// Fields that belong to one connection, differ by design (`Trailer` goes to clients of HTTP/1 that read trailers), or tell the
/// time.
pub(crate) fn is_compared(name: &str) -> bool {
    !matches!(
        name,
        "date" | "connection" | "keep-alive" | "transfer-encoding" | "content-length" | "x-request-id" | "trailer"
    )
}

/// The content without its coding. Where an encoder ends a block may depend on how the bytes came to it.
pub(crate) fn decoded(coding: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = match coding {
        _ if body.is_empty() => Ok(0), // of HEAD
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain),
        Some("zstd") => zstd::Decoder::new(body).and_then(|mut decoder| decoder.read_to_end(&mut plain)),
        Some(other) => panic!("nobody asked for {other}"),
        None => (&mut &*body).read_to_end(&mut plain),
    };
    read.expect("a coded body");
    plain
}

/// Hides the boundary of a multipart body, which is another one each time.
pub(crate) fn without_boundary(media_type: &str, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    match media_type.split_once("boundary=") {
        Some((_, boundary)) => text.replace(boundary.trim_matches('"'), "BOUNDARY") + " multipart",
        None => text,
    }
}
