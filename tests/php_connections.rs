//! How requests come to php-fpm and what it learns of that: over TLS of ours, and to one that listens on TCP. `fastcgi.rs` and
//! `php_app.rs` have the rest.

mod support;

use std::collections::BTreeMap;

use support::php::{ALL, ECHO, Php, program, shown, site};
use support::ports::free_port;
use support::tls::TlsClient;
use support::*;

/// Tells all that PHP was told.
const SERVER: &str = "<?php header('Content-Type: application/json'); echo json_encode($_SERVER);";

/// How much came, and what it was.
const SUM: &str = "<?php $all = file_get_contents('php://input'); echo strlen($all), ' ', md5($all);";

fn table(answer: &[u8]) -> BTreeMap<String, serde_json::Value> {
    serde_json::from_slice(answer).expect("JSON")
}

/// Whoever says something else in fields of the request is not believed.
fn check_of_tls(server: &Server) {
    let address = server.address("secure");
    let mut client = TlsClient::connect(address);
    let own = client.tls.sock.local_addr().expect("an address");
    let lies = ["X-Forwarded-Proto: http", "X-Forwarded-For: 192.0.2.1", "HTTPS: off", "Remote-Addr: 192.0.2.2"];
    for fields in [&[][..], &lies] {
        let asked = request("GET", "/server.php?a=b", fields, "").replacen("Host: test", "Host: shop.test", 1);
        let told = table(&client.ask(asked).body);
        for (name, expect) in [
            ("HTTPS", "on"),
            ("REQUEST_SCHEME", "https"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REMOTE_PORT", own.port().to_string().as_str()),
            ("SERVER_NAME", "shop.test"),
            ("SERVER_PORT", address.port().to_string().as_str()),
            ("QUERY_STRING", "a=b"),
        ] {
            assert_eq!(told.get(name).and_then(|value| value.as_str()), Some(expect), "{name} of {told:?}");
        }
    }
    // In clear text the variable is not there, as nginx has it (`if_not_empty`): PHP asks whether it is.
    let mut client = server.connect();
    let told = table(&client.ask(request("GET", "/server.php", &["X-Forwarded-Proto: https"], "")).body);
    assert_eq!((told.get("HTTPS"), told["REQUEST_SCHEME"].as_str()), (None, Some("http")), "{told:?}");
}

#[test]
fn php_learns_of_tls_and_of_the_client_behind_it() {
    let Some(php) = Php::start("", &[("server.php", SERVER)]) else { return };
    with_both_drivers(|driver| check_of_tls(&site(driver, &php, "", ALL).secure("").start()));
}

#[test]
fn php_as_an_application_learns_of_tls_and_of_the_client_behind_it() {
    if program().is_none() {
        return;
    }
    let text = "[app.blog]\ntype = \"php\"\nworkers = 2\n\
                [site.main]\ndefault = true\nroute = [{ path = \"/\", app = \"blog\", cgi = \"$DIR/www\" }]\n";
    let site = Site::new(Driver::Auto, text).file("www/server.php", SERVER.as_bytes());
    check_of_tls(&site.secure("").start());
}

/// Under IPv6 too, whoever says something else in fields of the request.
#[test]
fn php_learns_of_the_client_that_a_proxy_in_front_names() {
    let Some(php) = Php::start("", &[("server.php", SERVER)]) else { return };
    let listener = "[listener.told]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n";
    let six =
        [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0x20, 1, 0xd, 0xb8], &[0; 11], &[1], &[0x12, 0x67, 1, 0xbb]];
    let version2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24"[..], &six.concat()].concat();
    with_both_drivers(|driver| {
        let server = site(driver, &php, "", ALL).more(listener).start();
        for (header, address) in [
            (b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n".to_vec(), "198.51.100.7"),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n".to_vec(), "2001:db8::7"),
            (version2.clone(), "2001:db8::7"),
        ] {
            let mut client = Client::connect(server.address("told"));
            client.send(&header);
            for fields in [&[][..], &["X-Forwarded-For: 203.0.113.9", "Remote-Addr: 203.0.113.9", "Remote-Port: 1"]] {
                let told = table(&client.ask(request("GET", "/server.php", fields, "")).body);
                for (name, expect) in [("REMOTE_ADDR", address), ("REMOTE_PORT", "4711")] {
                    assert_eq!(told[name].as_str(), Some(expect), "{driver:?}: {name} of {told:?}");
                }
            }
        }
    });
}

#[test]
fn php_learns_of_clients_over_ipv6() {
    let Some(php) = Php::start("", &[("server.php", SERVER)]) else { return };
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    let listener = "[listener.six]\naddress = \"[::1]:0\"\n[listener.both]\naddress = \"[::]:0\"\n";
    with_both_drivers(|driver| {
        let server = site(driver, &php, "", ALL).more(listener).start();
        let both = server.address("both").port();
        let mut clients = vec![
            (Client::connect(server.address("six")), "::1"),
            (Client::connect((std::net::Ipv6Addr::LOCALHOST, both).into()), "::1"),
        ];
        // Where such a listener takes those of IPv4 as well, their addresses are of IPv4.
        clients.extend(Client::try_connect(([127, 0, 0, 1], both).into()).ok().map(|client| (client, "127.0.0.1")));
        for (mut client, address) in clients {
            let port = client.stream.local_addr().expect("an address").port().to_string();
            let told = table(&client.ask(request("GET", "/server.php", &["X-Forwarded-For: 203.0.113.9"], "")).body);
            for (name, expect) in [("REMOTE_ADDR", address), ("REMOTE_PORT", &port)] {
                assert_eq!(told[name].as_str(), Some(expect), "{driver:?}: {name} of {told:?}");
            }
        }
    });
}

#[test]
fn php_is_reached_over_tcp() {
    let port = free_port();
    let pool = format!(
        "pm.max_children = 1\n[tcp]\nuser = root\ngroup = root\nlisten = 127.0.0.1:{port}\npm = static\npm.max_children = 3\n\
         php_admin_value[post_max_size] = 200M\n"
    );
    let Some(mut php) = Php::start(&pool, &[("echo.php", ECHO), ("sum.php", SUM)]) else { return };
    let text = format!(
        "[upstream.php]\nservers = \"127.0.0.1:{port}\"\nprotocol = \"fastcgi\"\nrequests_max = 3\nqueue_timeout = \"10s\"\n\
         [site.main]\ndefault = true\n{}",
        ALL.replace("$ROOT", shown(&php.root()))
    );
    let ask_all = |server: &Server| {
        let mut client = server.connect();
        assert_eq!(client.ask(get("/echo.php/a/b?q=1")).text(), "/echo.php|/a/b|q=1|");
        assert_eq!(client.ask(request("PUT", "/echo.php", &[], "content")).text(), "/echo.php|||content");
    };
    with_both_drivers(|driver| {
        let server = Site::new(driver, &text).http("body_max = \"8MiB\"").start();
        ask_all(&server);
        let content = vec![b'x'; 3 << 20];
        let head = format!("POST /sum.php HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", content.len());
        let mut client = server.connect();
        let answer = client.ask([head.as_bytes(), &content].concat());
        let sum = std::process::Command::new("sh")
            .args(["-c", "head -c 3145728 /dev/zero | tr '\\0' x | md5sum"])
            .output()
            .expect("md5sum");
        let sum = String::from_utf8_lossy(&sum.stdout);
        let sum = sum.split_whitespace().next().expect("a sum");
        assert_eq!(answer.text(), format!("{} {sum}", content.len()), "{driver:?}");
        // More at once than there are children: they wait for one of them.
        std::thread::scope(|scope| {
            for number in 0..12 {
                let server = &server;
                scope.spawn(move || {
                    let mut client = server.connect();
                    for round in 0..10 {
                        let answer = client.ask(post(&format!("/echo.php?{number}.{round}"), "x"));
                        assert_eq!(answer.text(), format!("/echo.php||{number}.{round}|x"), "{driver:?}");
                    }
                });
            }
        });
    });
    let server = Site::new(Driver::Auto, &text).start();
    php.kill();
    assert_eq!(server.connect().ask(get("/echo.php")).status, 502, "nobody listens there");
    php.start_again();
    eventually("it serves again", || server.connect().ask(get("/echo.php")).status == 200);
    ask_all(&server);
}
