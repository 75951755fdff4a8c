//! Redirects of servers that name themselves, at the real binary: no client gets there, so `location_rewrite` puts them
//! into the client's words. One table asks nginx's proxy_redirect and us the same; a Location must never lead to a host
//! that neither the server nor the operator has named.

mod support;

use support::nginx::Nginx;
use support::tools::curl;
use support::upstream::Then;
use support::*;

/// Answers with the field line that X-Answer holds.
fn upstream() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        let line = exchange.request.field("x-answer").unwrap_or_default().to_owned();
        exchange.send(format!("HTTP/1.1 302 Found\r\n{line}\r\nContent-Length: 0\r\n\r\n"));
        Then::Keep
    })
}

const NGINX: &str = r#"
server { listen $LISTEN; server_name test;
  location /one/ { proxy_pass http://$UP/two/; }
  location /off/ { proxy_redirect off; proxy_pass http://$UP; }
  location /plain/ { proxy_pass http://$UP/plain/; }
  location /table/ {
    proxy_redirect http://old.test/a/ /x/; proxy_redirect http://old.test/ http://$host/new/; proxy_redirect /b/ /;
    proxy_pass http://$UP;
  }
}
"#;

const SITES: &str = r#"
[site.main]
location_rewrite = true
route = [
  { path = "/one/", rewrite = "/two/$1", proxy = "up" },
  { path = "/off/", location_rewrite = false, proxy = "up" },
  { path = "/plain/", proxy = "up" },
  { path = "/table/", proxy = "up", location_rewrite = { "http://old.test/a/" = "/x/", "http://old.test/" = "http://$host/new/", "/b/" = "/" } },
]
[upstream.up]
servers = ["$UP"]
health = false
"#;

/// Path asked for, what the server says, what the client gets of both. `$UP` is the server's own address.
const CASES: &[(&str, &str, &str)] = &[
    ("/one/x", "Location: http://$UP/two/y?z=1", "Location: /one/y?z=1"),
    ("/one/x", "Location: /two/y", "Location: /two/y"),
    ("/one/x", "Location: http://other.test/two/y", "Location: http://other.test/two/y"),
    ("/one/x", "Location: http://test/two/y", "Location: http://test/two/y"),
    ("/one/x", "Refresh: 5; url=http://$UP/two/y", "Refresh: 5; url=/one/y"),
    ("/one/x", "Refresh: 5", "Refresh: 5"),
    ("/one/x", "Content-Location: http://$UP/two/y", "Content-Location: http://$UP/two/y"),
    ("/off/x", "Location: http://$UP/two/y", "Location: http://$UP/two/y"),
    ("/plain/x", "Location: http://$UP/plain/y", "Location: /plain/y"),
    ("/table/x", "Location: http://old.test/a/y", "Location: /x/y"),
    ("/table/x", "Location: http://old.test/y", "Location: http://test/new/y"),
    ("/table/x", "Location: /b/y", "Location: /y"),
    ("/table/x", "Refresh: 0; url=/b/y", "Refresh: 0; url=/y"),
    ("/table/x", "Location: /c/y", "Location: /c/y"),
];

/// Asked of us alone: nginx's default knows one path, and leads elsewhere.
const OURS: &[(&str, &str, &str)] = &[
    ("/one/x", "Location: http://$UP/three", "Location: /three"),
    ("/one/x", "Location: http://up/two/y", "Location: /one/y"),
    ("/one/x", "Location: http://$UP", "Location: /"),
    ("/plain/x", "Location: http://$UP//evil.test/", "Location: /evil.test/"),
    ("/plain/x", "Location: http://$UP@evil.test/", "Location: http://$UP@evil.test/"),
    ("/table/x", "Location: /b//evil.test/", "Location: /evil.test/"),
    ("/table/x", "Location: http://$UP/y", "Location: /y"),
];

fn check(who: &str, address: std::net::SocketAddr, up: &str, cases: &[(&str, &str, &str)]) {
    let mut client = Client::connect(address);
    for (path, line, expect) in cases {
        let (line, expect) = (line.replace("$UP", up), expect.replace("$UP", up));
        let response = client.ask(request("GET", path, &[&format!("X-Answer: {line}")], ""));
        let (name, value) = expect.split_once(": ").expect("a field");
        assert_eq!((response.status, response.field(name)), (302, Some(value)), "{who}: {path} {line}");
    }
}

#[test]
fn the_table_says_what_nginx_does() {
    let upstream = upstream();
    let up = upstream.address.to_string();
    let Some(nginx) = Nginx::start(&NGINX.replace("$UP", &up), &[]) else { return };
    check("nginx", nginx.address, &up, CASES);
}

#[test]
fn redirects_are_in_the_words_of_the_client() {
    with_both_drivers(|driver| {
        let upstream = upstream();
        let up = upstream.address.to_string();
        let server = Site::new(driver, &SITES.replace("$UP", &up)).start();
        check("we", server.web(), &up, CASES);
        check("we", server.web(), &up, OURS);
        if has_program("curl") {
            let line = format!("X-Answer: Location: http://{up}/two/y");
            let got = curl("http", server.web(), "/one/x", &["--http2-prior-knowledge", "-H", &line]);
            assert_eq!((got.status, got.field("location")), (302, Some("/one/y")), "{driver:?}");
        }
    });
}

#[test]
fn nothing_is_changed_without_being_asked_for() {
    let upstream = upstream();
    let up = upstream.address.to_string();
    let server = Site::new(Driver::Auto, &SITES.replace("$UP", &up).replace("location_rewrite = true", "")).start();
    let line = format!("Location: http://{up}/two/y");
    check("we", server.web(), &up, &[("/one/x", &line, &line), ("/plain/x", &line, &line)]);
}
