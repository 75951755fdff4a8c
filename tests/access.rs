//! What lets a request in at the real binary where several things are asked for: address rules, a login, another
//! service. An open door shows nowhere but here, so one table asks nginx and us the same.

mod support;

use base64::Engine;
use support::nginx::Nginx;
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
