//! What lets a request in at the real binary where several things are asked for: address rules, a login, another
//! service. An open door shows nowhere but here, so one table asks nginx and us the same.

mod support;

use std::time::Duration;

use base64::Engine;
use support::client::timed;
use support::nginx::Nginx;
use support::tools::{curl, values};
use support::upstream::Then;
use support::*;

/// `staff` with the password `secret`, by the quickest hash that both sides read.
const USERS: &str = "staff:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n";

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// A door: how much must be satisfied, the address rules, whether there is a login.
struct Door {
    satisfy: &'static str,
    rules: &'static [&'static str],
    login: bool,
}

const fn door(satisfy: &'static str, rules: &'static [&'static str], login: bool) -> Door {
    Door { satisfy, rules, login }
}

const DOORS: &[Door] = &[
    door("all", &["allow 127.0.0.2", "deny all"], true),
    door("any", &["allow 127.0.0.2", "deny all"], true),
    door("any", &["deny 127.0.0.2"], true),
    door("any", &["allow 127.0.0.2"], true),
    door("any", &["deny 127.0.0.2", "allow all"], true),
    door("all", &["deny 127.0.0.2"], true),
    door("any", &["allow 127.0.0.2", "deny all"], false),
    door("any", &["allow 127.0.0.2"], false),
    door("any", &[], true),
    door("any", &[], false),
];

const LOGINS: [Option<(&str, &str)>; 3] = [None, Some(("staff", "secret")), Some(("staff", "wrong"))];

/// Status and whether there is a challenge, by door, source and login.
fn through_all_doors(address: std::net::SocketAddr) -> Vec<String> {
    let mut told = Vec::new();
    for (at, door) in DOORS.iter().enumerate() {
        for source in ["127.0.0.2", "127.0.0.3"] {
            for login in LOGINS {
                let fields: Vec<String> = login.iter().map(|(user, password)| basic(user, password)).collect();
                let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                let response =
                    Client::connect_from(source, address).ask(request("GET", &format!("/{at}/"), &fields, ""));
                let challenge = response.field("www-authenticate").is_some();
                told.push(format!(
                    "{} {:?} login {} from {source} with {login:?}: {} challenge {challenge}",
                    door.satisfy, door.rules, door.login, response.status
                ));
            }
        }
    }
    told
}

fn doors_of_nginx() -> String {
    let location = |(at, door): (usize, &Door)| {
        let rules: String = door.rules.iter().map(|rule| format!("{rule}; ")).collect();
        let login = if door.login { "auth_basic staff; auth_basic_user_file $DIR/users; " } else { "" };
        format!("location /{at}/ {{ satisfy {}; {rules}{login} alias $DIR/in/; }}\n", door.satisfy)
    };
    let locations: String = DOORS.iter().enumerate().map(location).collect();
    format!("server {{ listen $LISTEN; {locations} }}")
}

fn our_doors() -> String {
    let route = |(at, door): (usize, &Door)| {
        let login = if door.login { "auth = { realm = \"staff\", users_file = \"$DIR/users\" }, " } else { "" };
        format!(
            "{{ path = \"/{at}/\", satisfy = \"{}\", access = {:?}, {login}respond = {{ body = \"in\" }} }},\n",
            door.satisfy, door.rules
        )
    };
    let routes: String = DOORS.iter().enumerate().map(route).collect();
    format!("[site.main]\nroute = [\n{routes}]\n")
}

#[test]
fn any_or_all_of_address_and_login_let_in_as_with_nginx() {
    let files: &[(&str, &[u8])] = &[("users", USERS.as_bytes()), ("in/index.html", b"in")];
    let Some(nginx) = Nginx::start(&doors_of_nginx(), files) else { return };
    let theirs = through_all_doors(nginx.address);
    assert!(theirs.iter().any(|line| line.contains(": 401 challenge true")), "{theirs:?}");
    with_both_drivers(|driver| {
        let server = Site::new(driver, &our_doors()).file("users", USERS.as_bytes()).start();
        let ours = through_all_doors(server.web());
        let wrong: Vec<_> = theirs.iter().zip(&ours).filter(|(theirs, ours)| theirs != ours).collect();
        assert!(wrong.is_empty(), "{driver:?} (nginx, we): {wrong:#?}");
    });
}

#[test]
fn any_is_inherited_and_strangers_learn_nothing() {
    let rest = r#"
[site.main]
satisfy = "any"
access = ["allow 127.0.0.2", "deny all"]
auth = { realm = "staff", users_file = "$DIR/users" }
route = [
  { path = "/in", respond = { body = "in as $remote_user" } },
  { path = "/both", satisfy = "all", respond = { body = "both" } },
  { path = "/post", methods = ["POST"], respond = { body = "posted" } },
]
"#;
    let server = Site::new(Driver::Auto, rest).file("users", USERS.as_bytes()).start();
    let good = basic("staff", "secret");
    let ask = |source: &str, path: &str, fields: &[&str]| {
        let response = Client::connect_from(source, server.web()).ask(request("GET", path, fields, ""));
        (response.status, response.field("www-authenticate").is_some())
    };
    for (source, path, fields, expect) in [
        ("127.0.0.2", "/in", &[][..], (200, false)),
        ("127.0.0.3", "/in", &[], (401, true)),
        ("127.0.0.3", "/in", &[good.as_str()], (200, false)),
        ("127.0.0.2", "/both", &[], (401, true)),
        ("127.0.0.2", "/both", &[good.as_str()], (200, false)),
        ("127.0.0.3", "/both", &[good.as_str()], (403, false)),
        // Whether there is such a path is told to those who are let in.
        ("127.0.0.3", "/none", &[], (401, true)),
        ("127.0.0.3", "/post", &[], (401, true)),
        ("127.0.0.3", "/none", &[good.as_str()], (404, false)),
        ("127.0.0.2", "/none", &[], (404, false)),
        ("127.0.0.3", "/post", &[good.as_str()], (405, false)),
    ] {
        assert_eq!(ask(source, path, fields), expect, "{source} {path} {fields:?}");
    }
    let text = Client::connect_from("127.0.0.3", server.web()).ask(request("GET", "/in", &[&good], "")).text();
    assert_eq!(text, "in as staff");
}

/// An application, and below `/auth` a service that says who may come in: by the field X-Token.
fn service() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        exchange.read_body();
        let seen = exchange.request.clone();
        if !seen.target.starts_with("/auth") {
            let user = seen.values("x-user").join(",");
            let body = match seen.body.len() {
                0..100 => String::from_utf8_lossy(&seen.body).into_owned(),
                bytes => format!("{bytes} bytes"),
            };
            let text = format!("app {} {} user={user} {body}", seen.method, seen.target);
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
            return Then::Keep;
        }
        let (line, fields, body) = match seen.field("x-token").unwrap_or_default() {
            "good" => ("204 No Content", "X-User: alice\r\nSet-Cookie: leak=1\r\n", None),
            "body" => ("200 OK", "X-User: alice\r\nX-Leak: 1\r\n", Some("let in".to_owned())),
            "large" => ("200 OK", "X-User: alice\r\n", Some("x".repeat(1 << 20))),
            "nameless" => ("200 OK", "", Some(String::new())),
            "no" => ("403 Forbidden", "X-User: alice\r\n", Some("no".into())),
            "moved" => ("302 Found", "Location: /elsewhere\r\n", Some(String::new())),
            "none" => ("404 Not Found", "", Some(String::new())),
            "broken" => ("500 Internal Server Error", "", Some("oops".into())),
            "hangs" => {
                exchange.wait_for_close();
                return Then::Close;
            }
            "closes" => return Then::Close,
            _ => ("401 Unauthorized", "WWW-Authenticate: Bearer realm=\"x\"\r\n", Some("who".into())),
        };
        let length = body.as_ref().map(|body| format!("Content-Length: {}\r\n", body.len())).unwrap_or_default();
        exchange.send(format!("HTTP/1.1 {line}\r\n{fields}{length}\r\n{}", body.unwrap_or_default()));
        Then::Keep
    })
}

const ASKING: &str = r#"
[site.main]
auth_request = "/auth"
auth_request_headers = ["X-User"]
route = [
  { path = "/in/", proxy = "up" },
  { path = "/open/", auth_request = false, proxy = "up" },
  { path = "/any/", satisfy = "any", access = ["allow 127.0.0.2", "deny all"], proxy = "up" },
  { path = "/login/", satisfy = "any", auth = { realm = "staff", users_file = "$DIR/users" }, proxy = "up" },
  { path = "/both/", auth = { realm = "staff", users_file = "$DIR/users" }, proxy = "up" },
  { path = "/page/", error_pages = { 401 = "/sorry" }, proxy = "up" },
  { exact = "/sorry", auth_request = false, internal = true, respond = { body = "sorry" } },
  { exact = "/auth", internal = true, proxy = "up" },
]
[upstream.up]
servers = ["$UP"]
health = false
response_timeout = "1s"
tries = 1
"#;

const ASKING_NGINX: &str = r#"
server { listen $LISTEN;
  proxy_read_timeout 1s;
  auth_request /auth;
  auth_request_set $user $upstream_http_x_user;
  location /in/ { proxy_set_header X-User $user; proxy_pass http://$UP; }
  location /open/ { auth_request off; proxy_set_header X-User ""; proxy_pass http://$UP; }
  location /any/ { satisfy any; allow 127.0.0.2; deny all; proxy_set_header X-User $user; proxy_pass http://$UP; }
  location /login/ {
    satisfy any; auth_basic staff; auth_basic_user_file $DIR/users; proxy_set_header X-User $user; proxy_pass http://$UP;
  }
  location /both/ { auth_basic staff; auth_basic_user_file $DIR/users; proxy_set_header X-User $user; proxy_pass http://$UP; }
  location /page/ { error_page 401 /sorry; proxy_set_header X-User $user; proxy_pass http://$UP; }
  location = /sorry { auth_request off; internal; return 200 "sorry"; }
  location = /auth { internal; proxy_pass http://$UP/auth; proxy_pass_request_body off; proxy_set_header Content-Length ""; }
}
"#;

/// What is told to whom at every path with every token: status, schemes of the challenges, what the application said.
fn asked_everywhere(address: std::net::SocketAddr) -> Vec<String> {
    let good = basic("staff", "secret");
    let tokens =
        ["good", "body", "large", "nameless", "no", "moved", "none", "broken", "hangs", "closes", "unknown", ""];
    let mut told = Vec::new();
    for path in ["/in/x?y=1", "/open/x", "/any/x", "/login/x", "/both/x", "/page/x", "/auth", "/sorry"] {
        for token in tokens {
            // A service that hangs takes its time: one path will do.
            if token == "hangs" && path != "/in/x?y=1" {
                continue;
            }
            for (source, login) in [("127.0.0.2", false), ("127.0.0.3", false), ("127.0.0.3", true)] {
                let mut fields = vec![format!("X-Token: {token}"), "X-User: root".into(), "Connection: close".into()];
                fields.extend(login.then(|| good.clone()));
                let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                let response = Client::connect_from(source, address).ask(request("GET", path, &fields, ""));
                // nginx also leaves the challenge of a login in front of a 500.
                let mut schemes: Vec<&str> = values(&response, "www-authenticate");
                schemes.retain(|_| response.status == 401);
                schemes.iter_mut().for_each(|scheme| *scheme = scheme.split(' ').next().unwrap_or_default());
                schemes.sort_unstable();
                let text = response.text();
                let said = if text.starts_with("app") || text == "sorry" { text.as_str() } else { "" };
                let leaks = ["x-user", "x-leak", "set-cookie", "location"].map(|name| response.field(name).is_some());
                assert_eq!(leaks, [false; 4], "{path} {token}");
                told.push(format!("{path} {token:?} {source} login {login}: {} {schemes:?} {said}", response.status));
            }
        }
    }
    told
}

fn asking(driver: Driver, service: &FakeUpstream) -> Server {
    let rest = ASKING.replace("$UP", &service.address.to_string());
    Site::new(driver, &rest).http("body_max = 0").file("users", USERS.as_bytes()).start()
}

#[test]
fn another_service_lets_in_and_refuses_as_with_nginx() {
    let theirs = service();
    let config = ASKING_NGINX.replace("$UP", &theirs.address.to_string());
    let Some(nginx) = Nginx::start(&config, &[("users", USERS.as_bytes())]) else { return };
    let theirs = asked_everywhere(nginx.address);
    with_both_drivers(|driver| {
        let service = service();
        let server = asking(driver, &service);
        let ours = asked_everywhere(server.web());
        let wrong: Vec<_> = theirs.iter().zip(&ours).filter(|(theirs, ours)| theirs != ours).collect();
        assert!(wrong.is_empty(), "{driver:?} (nginx, we): {wrong:#?}");
        server.wait_for_line("what went wrong", |line| {
            line.contains("auth_request got neither") && line.contains("path=/auth status=504")
        });
    });
}

#[test]
fn the_service_is_asked_without_the_body_and_the_application_gets_it_whole() {
    with_both_drivers(|driver| {
        let service = service();
        let server = asking(driver, &service);
        let mut client = server.connect();
        let question = || {
            let seen = service.seen();
            seen.iter().rev().find(|seen| seen.target == "/auth").expect("it was asked").clone()
        };
        let large = "x".repeat(300_000);
        for (body, told) in [("a=1", "a=1"), (large.as_str(), "300000 bytes"), ("", "")] {
            let fields = [
                "X-Token: good",
                "Content-Type: text/plain",
                "If-None-Match: \"x\"",
                "Range: bytes=0-1",
                "Cookie: a=b",
                "X-Original-URI: /forged",
                "X_Original_Method: FORGED",
            ];
            let response = client.ask(request("POST", "/in/a%20b?c=d", &fields, body));
            assert_eq!(response.text(), format!("app POST /in/a%20b?c=d user=alice {told}"), "{driver:?}");
            let seen = question();
            assert_eq!((seen.method.as_str(), seen.body.len()), ("GET", 0), "{driver:?}");
            assert_eq!(seen.field("x-original-uri"), Some("/in/a%20b?c=d"), "{driver:?}");
            assert_eq!(seen.field("x-original-method"), Some("POST"), "{driver:?}");
            assert_eq!((seen.field("cookie"), seen.field("host")), (Some("a=b"), Some("test")), "{driver:?}");
            for absent in ["content-length", "transfer-encoding", "content-type", "if-none-match", "range", "expect"] {
                assert_eq!(seen.field(absent), None, "{driver:?} {absent}");
            }
            assert!(seen.values("x_original_method").is_empty(), "{driver:?}: {:?}", seen.fields);
        }
        // One that is refused does not take its connection with it, nor what comes behind it in a pipeline.
        client.send(
            request("POST", "/in/1", &["X-Token: no"], "body")
                + &request("GET", "/in/2", &["X-Token: good"], "")
                + &request("POST", "/in/3", &["X-Token: good"], "more"),
        );
        assert_eq!(client.response("POST").status, 403, "{driver:?}");
        assert_eq!(client.response("GET").text(), "app GET /in/2 user=alice ", "{driver:?}");
        assert_eq!(client.response("POST").text(), "app POST /in/3 user=alice more", "{driver:?}");
        // HEAD of the client is GET of the question.
        let head = client.ask(request("HEAD", "/in/h", &["X-Token: body"], ""));
        assert_eq!((head.status, question().method.as_str()), (200, "GET"), "{driver:?}");
        assert_eq!(question().field("x-original-method"), Some("HEAD"), "{driver:?}");
        // The connections to the service are kept, but for one that has more to say than anybody wants to hear.
        let before = service.connections();
        for _ in 0..5 {
            assert_eq!(client.ask(request("GET", "/in/k", &["X-Token: body"], "")).status, 200, "{driver:?}");
        }
        assert!(service.connections() <= before + 1, "{driver:?}");
    });
}

/// What a client says about itself in the fields of the service must not reach the application, in any spelling, on any
/// route; nor may it keep the service's own from getting there.
#[test]
fn nobody_gives_himself_a_name() {
    with_both_drivers(|driver| {
        let service = service();
        let server = asking(driver, &service);
        let good = basic("staff", "secret");
        for (source, path, token, expect) in [
            ("127.0.0.3", "/in/x", "good", "alice"),
            ("127.0.0.3", "/in/x", "nameless", ""),
            ("127.0.0.3", "/open/x", "", ""),
            ("127.0.0.2", "/any/x", "unknown", ""),
            ("127.0.0.3", "/any/x", "good", "alice"),
            ("127.0.0.3", "/login/x", "unknown", ""),
        ] {
            let token = format!("X-Token: {token}");
            let mut fields = vec![
                token.as_str(),
                "X-User: root",
                "x-user: root",
                "X_User: root",
                "x_USER: root",
                "X-Hop: 1",
                "Connection: keep-alive, x-user, X-Hop",
                "Connection: X-User",
            ];
            fields.extend((path == "/login/x").then_some(good.as_str()));
            let response = Client::connect_from(source, server.web()).ask(request("GET", path, &fields, ""));
            assert_eq!(response.text(), format!("app GET {path} user={expect} "), "{driver:?} {path}");
            let seen = service.last();
            assert!(
                seen.values("x_user").is_empty() && seen.values("x-hop").is_empty(),
                "{driver:?}: {:?}",
                seen.fields
            );
            // Nor does the service hear of it.
            let seen = service.seen();
            let asked = seen.iter().filter(|seen| seen.target == "/auth");
            assert!(asked.clone().all(|seen| seen.values("x-user").is_empty()), "{driver:?}");
        }
    });
}

#[test]
fn a_client_that_leaves_takes_its_question_along() {
    with_both_drivers(|driver| {
        let service = service();
        let rest = ASKING.replace("$UP", &service.address.to_string()).replace("\"1s\"", "\"60s\"");
        let server = Site::new(driver, &rest).file("users", USERS.as_bytes()).start();
        let mut client = server.connect();
        client.send(request("POST", "/in/x", &["X-Token: hangs"], "body"));
        eventually("the service is asked", || service.count("/auth") == 1);
        drop(client);
        let (_, took) = timed(|| service.wait_until_all_closed_but_idle());
        assert!(took < Duration::from_secs(10), "{driver:?}: {took:?}");
        assert_eq!(service.count("/in/"), 0, "{driver:?}");
        server.wait_until_no_client();
        if has_program("curl") {
            let got =
                curl("http", server.web(), "/in/x", &["--http2-prior-knowledge", "-H", "X-Token: hangs", "-m", "1"]);
            assert_eq!(got.status, 0, "{driver:?}");
            let (_, took) = timed(|| service.wait_until_all_closed_but_idle());
            assert!(took < Duration::from_secs(10), "{driver:?}: {took:?}");
        }
    });
}

#[test]
fn the_same_over_http2() {
    if !has_program("curl") {
        return;
    }
    with_both_drivers(|driver| {
        let service = service();
        let server = asking(driver, &service);
        for (token, body, status, told) in [
            ("good", "a=1", 200, "app POST /in/x user=alice a=1"),
            ("large", "a=1", 200, "app POST /in/x user=alice a=1"),
            ("no", "", 403, ""),
            ("unknown", "", 401, ""),
            ("broken", "", 500, ""),
        ] {
            let token = format!("X-Token: {token}");
            let mut arguments = vec!["--http2-prior-knowledge", "-H", &token, "-H", "X-User: root"];
            if !body.is_empty() {
                arguments.extend(["--data-binary", body]);
            }
            let got = curl("http", server.web(), "/in/x", &arguments);
            assert_eq!(got.status, status, "{driver:?} {token}");
            assert_eq!(got.field("www-authenticate").is_some(), status == 401, "{driver:?} {token}");
            if status == 200 {
                assert_eq!(got.text(), told, "{driver:?} {token}");
            }
        }
    });
}

/// Whatever answers the path decides: an application inside, a fixed answer, a file, a rewrite to another route.
#[test]
fn anything_may_be_asked() {
    with_both_drivers(|driver| {
        let rest = r#"
[site.main]
route = [
  { path = "/app/", auth_request = "/ask-app?code=$X", respond = { body = "in" } },
  { path = "/app-no/", auth_request = "/status?code=403", respond = { body = "in" } },
  { path = "/app-yes/", auth_request = "/status?code=200", respond = { body = "in" } },
  { path = "/fixed-yes/", auth_request = "/yes", auth_request_headers = "X-Team", respond = { body = "in as $http_x_team" } },
  { path = "/fixed-no/", auth_request = "/no", respond = { body = "in" } },
  { path = "/file-yes/", auth_request = "/file/there", respond = { body = "in" } },
  { path = "/file-no/", auth_request = "/file/none", respond = { body = "in" } },
  { path = "/rewritten/", auth_request = "/to-no", respond = { body = "in" } },
  { path = "/closed/", auth_request = "/close", respond = { body = "in" } },
  { path = "/loop/", auth_request = "/loop/x", respond = { body = "in" } },
  { path = "/slow/", auth_request = "/slow?ms=60000", respond = { body = "in" } },
  { path = "/files/", auth_request = "/no", files = "$DIR" },
  { path = "/sent/", auth_request = "/yes", rewrite = "/fixed-no/x" },
  { path = "/ask-app", internal = true, app = "probe" },
  { path = "/status", internal = true, app = "probe" },
  { path = "/slow", internal = true, app = "probe" },
  { exact = "/yes", internal = true, respond = { status = 204 }, headers = { set = { X-Team = "blue" } } },
  { exact = "/no", internal = true, access = "deny all", respond = { status = 403 } },
  { path = "/file/", internal = true, files = { root = "$DIR", strip_prefix = "/file" } },
  { exact = "/to-no", internal = true, rewrite = "/no" },
  { exact = "/close", internal = true, close = true },
]
[app.probe]
response_timeout = "1s"
"#;
        let rest = rest.replace("/ask-app?code=$X", "/ask-app");
        let server = Site::probe(driver, &rest).file("there", b"there").start();
        let ask = |path: &str| server.connect().ask(request("GET", path, &["X-Team: red"], ""));
        for (path, status, text) in [
            ("/app-yes/x", 200, "in"),
            ("/app-no/x", 403, ""),
            ("/fixed-yes/x", 200, "in as blue"),
            ("/fixed-no/x", 403, ""),
            ("/file-yes/x", 200, "in"),
            ("/file-no/x", 500, ""),
            ("/rewritten/x", 403, ""),
            // A question about the question is not asked.
            ("/loop/x", 200, "in"),
            ("/slow/x", 500, ""),
            ("/files/there", 403, ""),
            ("/sent/x", 403, ""),
        ] {
            let response = ask(path);
            assert_eq!(response.status, status, "{driver:?} {path}");
            assert!(status != 200 || response.text() == text, "{driver:?} {path}: {}", response.text());
        }
        assert!(server.connect().send(get("/closed/x")).try_response("GET").is_err(), "{driver:?}");
    });
}

/// Whom a route has let in, and as whom, goes along where the request is sent on inside: a name of his own making does not.
#[test]
fn what_was_granted_goes_along_inside() {
    with_both_drivers(|driver| {
        let service = service();
        let rest = r#"
[site.main]
route = [
  { path = "/files/", files = { root = "$DIR", fallback = "@app" }, auth_request = "/auth", auth_request_headers = ["X-User"], auth = { realm = "staff", users_file = "$DIR/users" } },
  { path = "/old/", rewrite = "/new/$1", auth_request = "/auth", auth_request_headers = ["X-User"] },
  { path = "/page/", files = "$DIR", error_pages = { 404 = "@app" }, auth_request = "/auth", auth_request_headers = ["X-User"] },
  { path = "/new/", internal = true, proxy = "up" },
  { name = "app", proxy = "up", request_headers = { set = { X-Login = "$remote_user" } } },
  { exact = "/auth", internal = true, proxy = "up" },
]
[upstream.up]
servers = ["$UP"]
health = false
"#;
        let rest = rest.replace("$UP", &service.address.to_string());
        let server = Site::new(driver, &rest).file("users", USERS.as_bytes()).start();
        let good = basic("staff", "secret");
        for (path, target, login) in
            [("/files/none", "/files/none", "staff"), ("/old/x", "/new/x", ""), ("/page/x", "/page/x", "")]
        {
            let fields = ["X-Token: good", "X-User: root", "X_User: root", "Connection: X-User", &good];
            let mut client = server.connect();
            for _ in 0..2 {
                let response = client.ask(request("GET", path, &fields, ""));
                assert_eq!(response.text(), format!("app GET {target} user=alice "), "{driver:?} {path}");
                let seen = service.last();
                assert_eq!(seen.field("x-login").unwrap_or_default(), login, "{driver:?} {path}");
                assert!(seen.values("x_user").is_empty(), "{driver:?} {path}: {:?}", seen.fields);
            }
        }
    });
}

/// The service decides by the path: a client cannot keep it from hearing that.
#[test]
fn the_service_always_hears_what_is_asked_for() {
    with_both_drivers(|driver| {
        let service = service();
        let server = asking(driver, &service);
        let fields = ["X-Token: good", "X-Original-URI: /free", "Connection: X-Original-URI, X_Original_Method, close"];
        assert_eq!(server.connect().ask(request("POST", "/in/x?y", &fields, "")).status, 200, "{driver:?}");
        let seen = service.seen();
        let asked = seen.iter().find(|seen| seen.target == "/auth").expect("it is asked");
        assert_eq!(asked.values("x-original-uri"), ["/in/x?y"], "{driver:?}");
        assert_eq!(asked.values("x-original-method"), ["POST"], "{driver:?}");
        // A request that nobody could be sent is the client's mistake.
        let many = format!("Connection: {}", (0..40).map(|n| format!("x{n}")).collect::<Vec<_>>().join(","));
        let refused = server.connect().ask(request("GET", "/in/x", &["X-Token: good", &many], ""));
        assert_eq!(refused.status, 400, "{driver:?}");
    });
}
