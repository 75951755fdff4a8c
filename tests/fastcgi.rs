//! Servers of FastCGI: real PHP-FPM behind us, held against the same behind real nginx.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::client::{Client, NoResponse};
use support::nginx::Nginx;
use support::php::{ALL, ECHO, Php, shown, site, start};
use support::tools::curl;
use support::{Driver, FakeUpstream, Site, eventually, get, pattern, post, request, with_both_drivers};

/// Tells all that PHP was told.
const SERVER: &str = "<?php header('Content-Type: application/json'); echo json_encode($_SERVER);";

#[test]
fn requests_reach_php() {
    let Some(php) = Php::start("", &[("echo.php", ECHO), ("dir/index.php", ECHO)]) else { return };
    with_both_drivers(|driver| {
        let server = start(driver, &php, "", ALL);
        let mut client = server.connect();
        for (asked, method, expect) in [
            (get("/echo.php"), "GET", "/echo.php|||"),
            (get("/echo.php?a=b&c=%20"), "GET", "/echo.php||a=b&c=%20|"),
            (get("/echo.php/in%20fo/x?q"), "GET", "/echo.php|/in fo/x|q|"),
            (get("/dir/"), "GET", "/dir/index.php|||"),
            (post("/echo.php", "content"), "POST", "/echo.php|||content"),
            (request("PUT", "/echo.php", &[], "put"), "PUT", "/echo.php|||put"),
            (request("DELETE", "/echo.php", &[], ""), "DELETE", "/echo.php|||"),
        ] {
            let answer = client.ask(asked);
            assert_eq!(answer.status, 200, "{driver:?}");
            assert_eq!(answer.text(), expect, "{driver:?}");
            assert_eq!(answer.field("X-Method"), Some(method), "{driver:?}");
        }
        let chunked =
            "POST /echo.php HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(client.ask(chunked).text(), "/echo.php|||abcde", "its length is found out");
        client.send(request("HEAD", "/echo.php", &[], ""));
        let answer = client.response("HEAD");
        assert_eq!((answer.status, answer.field("X-Method"), answer.body.len()), (200, Some("HEAD"), 0), "{driver:?}");
        assert_eq!(client.ask(get("/echo.php?again")).text(), "/echo.php||again|", "the connection goes on");
    });
}

fn table(answer: &[u8]) -> BTreeMap<String, String> {
    let value: BTreeMap<String, serde_json::Value> = serde_json::from_slice(answer).expect("JSON");
    value.into_iter().map(|(name, value)| (name, value.as_str().map_or(value.to_string(), str::to_owned))).collect()
}

#[test]
fn php_is_told_what_nginx_tells_it() {
    let Some(php) = Php::start("", &[("server.php", SERVER)]) else { return };
    let http = format!(
        "server {{ listen $LISTEN; server_name example.org; root {root};\n\
         location ~ \\.php(/|$) {{ fastcgi_split_path_info ^(.+?\\.php)(/.*)$;\n\
         include /etc/nginx/fastcgi.conf; fastcgi_param PATH_INFO $fastcgi_path_info; fastcgi_pass unix:{socket}; }} }}",
        root = shown(&php.root()),
        socket = shown(&php.socket()),
    );
    let Some(nginx) = Nginx::start(&http, &[]) else { return };
    let server = start(Driver::Auto, &php, "", &format!("hosts = \"example.org\"\n{ALL}"));
    for asked in [
        request("GET", "/server.php?a=b&c", &["Accept: text/html", "Cookie: a=1; b=2", "X-Own: x"], ""),
        request("GET", "/server.php/p%20q/r?x", &["Authorization: Basic dTpw", "User-Agent: test"], ""),
        request("POST", "/server.php", &["Content-Type: application/json", "Proxy: http://evil", "X_User: root"], "{}"),
        request("POST", "/server.php", &["Content-Type: a/b"], ""),
    ] {
        let asked = asked.replacen("Host: test", "Host: example.org", 1);
        let ours = table(&Client::connect(server.web()).ask(&asked).body);
        let theirs = table(&Client::connect(nginx.address).ask(&asked).body);
        // Theirs alone: RFC 3875 section 4.1.18 leaves to us what has a variable of its own, or speaks of the connection;
        // httpoxy is left to the operator; and their REMOTE_USER is whoever the client says it is.
        let left_out = ["HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_CONNECTION", "HTTP_PROXY", "REMOTE_USER"];
        // Ours alone: what we vouch for.
        let added = [
            "HTTP_X_FORWARDED_FOR",
            "HTTP_X_FORWARDED_PROTO",
            "HTTP_X_FORWARDED_HOST",
            "HTTP_X_FORWARDED_PORT",
            "HTTP_X_REQUEST_ID",
        ];
        let differs = ["REMOTE_PORT", "SERVER_PORT", "SERVER_SOFTWARE", "REQUEST_TIME", "REQUEST_TIME_FLOAT"];
        let same = |table: &BTreeMap<String, String>, out: &[&str]| -> Vec<(String, String)> {
            let is_out = |name: &String| out.contains(&name.as_str()) || differs.contains(&name.as_str());
            let mut rows: Vec<_> = table.clone().into_iter().filter(|(name, _)| !is_out(name)).collect();
            // PHP sets it only where it is not empty.
            rows.retain(|(name, value)| name != "PATH_INFO" || !value.is_empty());
            rows
        };
        assert_eq!(same(&ours, &added), same(&theirs, &left_out), "{asked}");
        for name in differs {
            assert!(ours.contains_key(name), "{name}");
        }
        assert!(ours["SERVER_SOFTWARE"].contains("nginx"), "WordPress looks for the word");
        assert_eq!(ours["SERVER_PORT"], server.web().port().to_string());
    }
}

#[test]
fn a_proxy_in_front_is_believed() {
    let Some(php) = Php::start("", &[("server.php", SERVER)]) else { return };
    let routes = ALL.replace(
        "cgi = \"$ROOT\"",
        "cgi = { root = \"$ROOT\", params = { APP_ENV = \"of $host\", HTTP_X_OWN = \"\", SERVER_ADMIN = \"a@b\" } }",
    );
    let text = format!(
        "[upstream.php]\nservers = \"unix:{}\"\nprotocol = \"fastcgi\"\n[site.main]\ndefault = true\nlisteners = \"behind\"\n{}\
         [listener.behind]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = \"127.0.0.0/8\"\n[site.other]\nlisteners = \"web\"\n\
         [[site.other.route]]\npath = \"/\"\nrespond = {{}}\n",
        shown(&php.socket()),
        routes.replace("$ROOT", shown(&php.root())),
    );
    let server = Site::new(Driver::Auto, &text).start();
    let ask = |fields: &[&str]| {
        let asked = request("GET", "/server.php", fields, "").replacen("Host: test", "Host: app.test", 1);
        table(&Client::connect(server.address("behind")).ask(asked).body)
    };
    let told = ask(&["X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.9", "X-Own: 1"]);
    for (name, expect) in [
        ("HTTPS", "on"),
        ("REQUEST_SCHEME", "https"),
        ("SERVER_PORT", "443"),
        ("REMOTE_ADDR", "192.0.2.9"),
        ("SERVER_NAME", "app.test"),
        ("APP_ENV", "of app.test"),
        ("SERVER_ADMIN", "a@b"),
        ("HTTP_X_FORWARDED_PROTO", "https"),
    ] {
        assert_eq!(told.get(name).map(String::as_str), Some(expect), "{name}");
    }
    assert!(!told.contains_key("HTTP_X_OWN"), "an empty value takes it away");
    assert_eq!(told["REMOTE_PORT"], "", "the port that there is belongs to the proxy");
    let told = ask(&[]);
    assert!(told["REMOTE_PORT"].parse::<u16>().is_ok(), "{told:?}");
    assert_eq!((told.get("HTTPS"), told["REMOTE_ADDR"].as_str()), (None, "127.0.0.1"));
}

const FRONT: &str = "<?php echo 'front|', $_SERVER['SCRIPT_NAME'], '|', $_SERVER['REQUEST_URI'];";

#[test]
fn nothing_but_scripts_runs() {
    let evil = "<?php echo 'EVIL';";
    let scripts = [
        ("index.php", FRONT),
        ("echo.php", ECHO),
        ("admin/index.php", ECHO),
        ("evil.jpg", evil),
        ("evil.PHP", evil),
        ("evil.php.txt", evil),
        (".hidden/x.php", evil),
        ("\u{23a}\u{23a}\u{23a}\u{23a}shell.php.txt.php.", evil),
        ("style.css", "css"),
    ];
    let Some(php) = Php::start("security.limit_extensions =", &scripts) else { return };
    std::fs::write(php.folder().join("outside.php"), evil).expect("a file");
    std::os::unix::fs::symlink("../outside.php", php.root().join("link.php")).expect("a link");
    let server = start(Driver::Auto, &php, "", ALL);
    let mut client = server.connect();
    for path in [
        "/evil.jpg/x.php",
        "/evil.jpg",
        "/evil.jpg/",
        "/evil.PHP",
        "/evil.PHP/x.php",
        "/evil.php.txt",
        "/.hidden/x.php",
        "/link.php",
        "/../outside.php",
        "/%2e%2e/outside.php",
        "/..%2foutside.php",
        "/absent.php",
        "/absent.php/index.php",
        "/%C8%BA%C8%BA%C8%BA%C8%BAshell.php.txt.php.",
        "/%C8%BA%C8%BA%C8%BA%C8%BAshell.php.txt.php./x.php",
        "/echo.ph%70%00.jpg",
        "/echo%00.php",
        "/style.css",
    ] {
        let answer = client.ask(get(path));
        assert!(matches!(answer.status, 400 | 404) && !answer.text().contains("EVIL"), "{path}: {answer:?}");
        if answer.is_last() {
            client = server.connect();
        }
    }
    let answer = client.ask(post("/absent.php", &"x".repeat(100_000)));
    assert_eq!(answer.status, 404, "also with a body that nobody reads");

    let routes = "[[site.main.route]]\npath = \"/\"\nfiles = { root = \"$ROOT\", fallback = \"@php\" }\n\
                  [[site.main.route]]\nregex = \"\\\\.php(/|$)\"\nproxy = \"php\"\ncgi = \"$ROOT\"\n\
                  [[site.main.route]]\nname = \"php\"\nproxy = \"php\"\ncgi = { root = \"$ROOT\", fallback = \"/index.php\" }\n";
    let server = start(Driver::Auto, &php, "", routes);
    let mut client = server.connect();
    for (path, expect) in [
        ("/style.css", "css"),
        ("/", "front|/index.php|/"),
        ("/2026/11/hello%20world/?a=b", "front|/index.php|/2026/11/hello%20world/?a=b"),
        ("/echo.php/x?y", "/echo.php|/x|y|"),
        ("/admin/?tab", "/admin/index.php||tab|"),
        ("/evil.jpg/x", "front|/index.php|/evil.jpg/x"),
    ] {
        let answer = client.ask(get(path));
        assert_eq!((answer.status, answer.text().as_str()), (200, expect), "{path}");
    }
    assert_eq!(client.ask(get("/absent.php")).status, 404);
    assert_eq!(client.ask(get("/admin")).status, 301, "links in it would lead elsewhere");

    // Nobody but the named route runs scripts: those that it finds are not sent back to the files.
    let [files, _, named] =
        [0, 1, 2].map(|at| format!("[[site.main.route]]{}", routes.split("[[site.main.route]]").nth(at + 1).unwrap()));
    let server = start(Driver::Auto, &php, "", &(files + &named));
    let mut client = server.connect();
    for (path, expect) in
        [("/", "front|/index.php|/"), ("/admin/?tab", "/admin/index.php||tab|"), ("/x", "front|/index.php|/x")]
    {
        assert_eq!(client.ask(get(path)).text(), expect, "{path}");
    }
}

/// As in nginx, whose `index` and `try_files` look for a location anew.
#[test]
fn a_script_that_is_found_for_a_path_keeps_the_rules_of_its_own() {
    let scripts = [("index.php", FRONT), ("uploads/2024/index.php", "<?php echo 'EVIL';"), ("admin/index.php", ECHO)];
    let Some(php) = Php::start("", &scripts) else { return };
    let rule = "[[site.main.route]]\nregex = \"^/uploads/.*\\\\.php\"\nrespond = { status = 403 }\n";
    let all =
        "[[site.main.route]]\npath = \"/\"\nproxy = \"php\"\ncgi = { root = \"$ROOT\", fallback = \"/index.php\" }\n";
    let below = "[[site.main.route]]\npath = \"/app/\"\nproxy = \"php\"\nrewrite = \"/$1\"\n\
                 cgi = { root = \"$ROOT\", fallback = \"/index.php\" }\n\
                 [[site.main.route]]\nregex = \"^/app/uploads/.*\\\\.php\"\nrespond = { status = 403 }\n";
    let behind = "[[site.main.route]]\npath = \"/\"\nfiles = { root = \"$ROOT\", fallback = \"@front\" }\n\
                  [[site.main.route]]\nregex = \"\\\\.php(/|$)\"\nproxy = \"php\"\ncgi = \"$ROOT\"\n\
                  [[site.main.route]]\nname = \"front\"\nproxy = \"php\"\ncgi = { root = \"$ROOT\", fallback = \"/index.php\" }\n";
    let moved = "[[site.main.route]]\npath = \"/blog/\"\nproxy = \"php\"\ncgi = { root = \"$ROOT\", fallback = \"/admin/index.php\" }\n";
    for routes in [format!("{rule}{all}"), format!("{rule}{behind}")] {
        let server = start(Driver::Auto, &php, "", &routes);
        let mut client = server.connect();
        for path in ["/uploads/2024/", "/uploads/2024/?x", "/uploads/2024/index.php", "/uploads/%32024/"] {
            let answer = client.ask(get(path));
            assert_eq!((answer.status, answer.text().contains("EVIL")), (403, false), "{path}");
        }
        assert_eq!(client.ask(get("/admin/?tab=1")).text(), "/admin/index.php||tab=1|");
        assert_eq!(client.ask(post("/admin/?tab=1", "content")).text(), "/admin/index.php||tab=1|content");
        assert_eq!(client.ask(get("/a%20post?p=1")).text(), "front|/index.php|/a%20post?p=1");
    }
    let server = start(Driver::Auto, &php, "", &format!("{all}{below}"));
    let mut client = server.connect();
    assert_eq!(client.ask(get("/app/uploads/2024/")).status, 403);
    assert_eq!(client.ask(get("/app/admin/?tab")).text(), "/admin/index.php||tab|");
    assert_eq!(client.ask(get("/app/a?b")).text(), "front|/index.php|/app/a?b");
    let deny = "[[site.main.route]]\npath = \"/admin/\"\naccess = \"deny all\"\nrespond = {}\n";
    let server = start(Driver::Auto, &php, "", &format!("{moved}{deny}"));
    assert_eq!(server.connect().ask(get("/blog/x")).status, 403, "the fallback, too");
}

const HASH: &str = "<?php $c = hash_init('sha256'); $n = 0; $in = fopen('php://input', 'r'); \
                    while (($d = fread($in, 65536)) !== false && $d !== '') { hash_update($c, $d); $n += strlen($d); } \
                    echo $n, ' ', hash_final($c);";

fn sha256(bytes: &[u8]) -> String {
    use rustls::crypto::hash::HashAlgorithm;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let hash = provider.cipher_suites.iter().filter_map(|suite| suite.tls13()).map(|suite| suite.common.hash_provider);
    let hash = hash.into_iter().find(|hash| hash.algorithm() == HashAlgorithm::SHA256).expect("SHA-256");
    hash.hash(bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn uploads_are_streamed() {
    const MULTIPART: &str = "<?php echo $_POST['name'], '|', $_FILES['f']['name'], '|', $_FILES['f']['size'], '|', \
                             hash_file('sha256', $_FILES['f']['tmp_name']);";
    let Some(php) = Php::start("", &[("hash.php", HASH), ("multipart.php", MULTIPART)]) else { return };
    let content = pattern(50 << 20);
    let file = php.folder().join("upload");
    std::fs::write(&file, &content).expect("a file");
    let small = php.folder().join("small");
    std::fs::write(&small, &content[..300_000]).expect("a file");
    let expect = format!("{} {}", content.len(), sha256(&content));
    with_both_drivers(|driver| {
        let server = site(driver, &php, "", ALL).http("body_max = \"200MiB\"").start();
        let (before, _) = server.resident_mib();
        let data = format!("@{}", shown(&file));
        let answer = curl("http", server.web(), "/hash.php", &["--data-binary", &data]);
        assert_eq!(answer.text(), expect, "{driver:?}");
        let form = format!("f=@{};filename=up.bin", shown(&file));
        let answer = curl("http", server.web(), "/multipart.php", &["-F", "name=value", "-F", &form]);
        assert_eq!(answer.text(), format!("value|up.bin|{}|{}", content.len(), sha256(&content)), "{driver:?}");
        let answer =
            curl("http", server.web(), "/hash.php", &["-H", "Transfer-Encoding: chunked", "--data-binary", &data]);
        assert_eq!(answer.status, 411, "{driver:?}: nobody knows how long it is");
        let data = format!("@{}", shown(&small));
        let answer =
            curl("http", server.web(), "/hash.php", &["-H", "Transfer-Encoding: chunked", "--data-binary", &data]);
        assert_eq!(answer.text(), format!("300000 {}", sha256(&content[..300_000])), "{driver:?}");
        let (_, peak) = server.resident_mib();
        assert!(peak < before + 25, "{driver:?}: {before} MiB, and {peak} MiB at most");
    });
}

/// With PUT, whose content PHP leaves to the script.
#[test]
fn an_upload_reaches_php_before_the_client_has_sent_all_of_it() {
    const BEGUN: &str = "<?php $c = hash_init('sha256'); $n = 0; $in = fopen('php://input', 'r'); \
                         while (($d = fread($in, 65536)) !== false && $d !== '') { hash_update($c, $d); $n += strlen($d); \
                         if ($n >= 1 << 20) touch($_SERVER['DOCUMENT_ROOT'] . '/' . $_GET['as']); } \
                         echo $n, ' ', hash_final($c);";
    let Some(php) = Php::start("", &[("begun.php", BEGUN)]) else { return };
    let content = pattern(20 << 20);
    with_both_drivers(|driver| {
        let server = site(driver, &php, "", ALL).http("body_max = \"200MiB\"").start();
        let begun = php.root().join(driver.flag());
        let mut client = server.connect();
        let length = content.len();
        let target = format!("/begun.php?as={}", driver.flag());
        client.send(format!("PUT {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        let (first, rest) = content.split_at(4 << 20);
        client.send(first);
        eventually("PHP has some of it", || begun.exists());
        client.send(rest);
        assert_eq!(client.response("PUT").text(), format!("{length} {}", sha256(&content)), "{driver:?}");
    });
}

#[test]
fn answers_are_streamed() {
    const BIG: &str = "<?php for ($i = 0; $i < 300; $i++) echo str_repeat(chr(65 + $i % 26), 100000);";
    const SLOW: &str = "<?php for ($i = 0; $i < 3; $i++) { echo \"part $i\\n\"; flush(); usleep(700000); }";
    let Some(php) = Php::start("", &[("big.php", BIG), ("slow.php", SLOW)]) else { return };
    with_both_drivers(|driver| {
        let server = start(driver, &php, "", ALL);
        let expect: Vec<u8> = (0..300).flat_map(|i| vec![b'A' + (i % 26) as u8; 100_000]).collect();
        assert!(curl("http", server.web(), "/big.php", &[]).body == expect, "{driver:?}");
        let mut client = server.connect();
        let begun = Instant::now();
        client.send(get("/slow.php"));
        let mut text = String::new();
        while !text.contains("part 0") {
            client.fill().expect("more");
            text = String::from_utf8_lossy(client.buffered()).into_owned();
        }
        assert!(begun.elapsed() < Duration::from_millis(1300), "{driver:?}: it came as it was");
        assert!(!text.contains("part 2"));
        assert_eq!(client.response("GET").text(), "part 0\npart 1\npart 2\n", "{driver:?}");
    });
}

#[test]
fn complaints_go_to_the_log() {
    const WARN: &str =
        "<?php error_log(\"first\\x1b[31m line\"); trigger_error('on purpose', E_USER_WARNING); echo 'fine';";
    const FATAL: &str = "<?php undefined_function();";
    let Some(php) = Php::start("", &[("warn.php", WARN), ("fatal.php", FATAL)]) else { return };
    let server = start(Driver::Auto, &php, "", ALL);
    let mut client = server.connect();
    let asked = request("GET", "/warn.php", &["X-Request-Id: 00c0ffee00c0ffee"], "");
    assert_eq!(client.ask(asked).text(), "fine");
    let line = server.wait_for_line("what PHP says", |line| line.contains("on purpose"));
    assert!(line.contains("00c0ffee00c0ffee") && line.contains("upstream=php") && line.contains("stderr: "), "{line}");
    let line = server.wait_for_line("the first line", |line| line.contains("first"));
    assert!(line.contains("first\\x1b[31m line") && !line.contains('\x1b'), "{line}");
    let answer = client.ask(get("/fatal.php"));
    assert_eq!(answer.status, 500);
    server.wait_for_line("the fatal error", |line| line.contains("undefined_function"));
    let pages = format!(
        "error_pages = {{ 500 = \"/500.html\" }}\nintercept_errors = true\n{ALL}[[site.main.route]]\nexact = \"/500.html\"\nrespond = {{ body = \"our page\" }}\n"
    );
    let server = start(Driver::Auto, &php, "", &pages);
    let answer = server.connect().ask(get("/fatal.php"));
    assert_eq!((answer.status, answer.text().as_str()), (500, "our page"));
}

#[test]
fn a_part_is_never_taken_for_the_whole() {
    const SHORT: &str = "<?php header('Content-Length: 1000'); echo str_repeat('x', 400); exit;";
    const LONG: &str = "<?php header('Content-Length: 4'); echo '12345678';";
    const DIES: &str = "<?php echo str_repeat('x', 100000); flush(); posix_kill(getmypid(), 9);";
    const DIES_ALONE: &str = "<?php posix_kill(getmypid(), 9); sleep(5);";
    let scripts = [("short.php", SHORT), ("long.php", LONG), ("dies.php", DIES), ("alone.php", DIES_ALONE)];
    let Some(php) = Php::start("php_admin_value[extension] = posix", &scripts) else { return };
    for upstream in ["", "keep_idle = 2"] {
        let server = start(Driver::Auto, &php, upstream, ALL);
        let mut client = server.connect();
        client.send(get("/short.php"));
        match client.try_response("GET") {
            Err(NoResponse::Ended(_, bytes)) => assert!(bytes.ends_with(b"xxxx"), "{upstream}"),
            other => panic!("{upstream}: {other:?}"),
        }
        let answer = server.connect().ask(get("/long.php"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "1234"), "{upstream}");
        let mut client = server.connect();
        client.send(get("/dies.php"));
        match client.try_response("GET") {
            Err(NoResponse::Ended(..)) => {}
            other => panic!("{upstream}: {other:?}"),
        }
        assert_eq!(server.connect().ask(post("/alone.php", "x")).status, 502, "{upstream}");
    }
}

#[test]
fn php_hands_files_over() {
    const ACCEL: &str =
        "<?php header('X-Accel-Redirect: /protected/' . $_GET['f']); header('Content-Type: text/x-own');";
    const MOVED: &str = "<?php header('Location: /elsewhere'); ";
    const FILE: &str =
        "<?php header('X-Sendfile: ' . $_GET['f']); header('Content-Type: text/x-own'); echo 'not this';";
    let Some(php) = Php::start("", &[("accel.php", ACCEL), ("moved.php", MOVED), ("file.php", FILE)]) else { return };
    let routes = format!(
        "x_sendfile = {{ \"/srv/private/\" = \"/protected/\" }}\n{ALL}[[site.main.route]]\npath = \"/protected/\"\ninternal = true\nfiles = {{ root = \"$DIR/files\", strip_prefix = \"/protected\" }}\n"
    );
    let server = site(Driver::Auto, &php, "", &routes).file("files/big.bin", &pattern(3 << 20)).start();
    let mut client = server.connect();
    let answer = client.ask(get("/accel.php?f=big.bin"));
    assert_eq!((answer.status, answer.field("Content-Type")), (200, Some("text/x-own;charset=UTF-8")));
    assert!(answer.body == pattern(3 << 20));
    assert_eq!(client.ask(get("/accel.php?f=absent")).status, 404);
    assert_eq!(client.ask(get("/protected/big.bin")).status, 404, "not by itself");
    let answer = client.ask(get("/file.php?f=/srv/private/big.bin"));
    assert_eq!((answer.status, answer.body.len()), (200, 3 << 20));
    assert_eq!(client.ask(get("/file.php?f=/etc/passwd")).status, 502);
    assert_eq!(client.ask(get("/file.php?f=/srv/private/../../etc/passwd")).status, 502);
    let answer = client.ask(get("/moved.php"));
    assert_eq!((answer.status, answer.field("Location")), (302, Some("/elsewhere")));
}

#[test]
fn clients_that_leave() {
    // By itself it ends after a minute.
    const WORKS: &str = "<?php ignore_user_abort(false); register_shutdown_function(function () { \
                         $file = $_SERVER['DOCUMENT_ROOT'] . '/' . $_GET['as']; \
                         file_put_contents($file . '.new', connection_aborted()); rename($file . '.new', $file); }); \
                         for ($i = 0; $i < 3000; $i++) { echo str_repeat('x', 10000); flush(); usleep(20000); }";
    let Some(php) = Php::start("", &[("works.php", WORKS)]) else { return };
    with_both_drivers(|driver| {
        let ended = php.root().join(driver.flag());
        let server = start(driver, &php, "", ALL);
        let mut client = server.connect();
        client.send(get(&format!("/works.php?as={}", driver.flag())));
        client.fill().expect("a beginning");
        assert!(!ended.exists(), "{driver:?}: it works");
        let left = Instant::now();
        drop(client);
        eventually("the script ends", || ended.exists());
        let took = left.elapsed();
        assert!(took < Duration::from_secs(5), "{driver:?}: {took:?}");
        assert_eq!(std::fs::read_to_string(&ended).expect("it is there"), "1", "{driver:?}: PHP was told why");
        server.wait_until_no_client();
    });
}

/// What counts for `proxy` counts here.
#[test]
fn the_rules_of_a_route_hold() {
    const LONG: &str = "<?php header('X-Hidden: 1'); header('X-Powered-By: x'); header('Content-Type: text/plain'); \
                        echo $_SERVER['HTTP_X_SET'], '|', $_SERVER['HTTP_X_REQUEST_ID'], '|', str_repeat('long ', 1000);";
    let Some(php) = Php::start("", &[("long.php", LONG), ("server.php", SERVER)]) else { return };
    let shadow = FakeUpstream::start(|exchange| {
        exchange.read_body();
        exchange.ok("copied")
    });
    let routes = format!(
        "request_headers = {{ set = {{ X-Set = \"$request_method\" }}, remove = \"X-Gone\" }}\n\
         headers = {{ set = {{ X-Added = \"$upstream_status\" }}, remove = \"X-Hidden\" }}\ncompress = true\n\
         {ALL}mirror = \"shadow\"\n[upstream.shadow]\nservers = \"{}\"\nhealth = false\n",
        shadow.address
    );
    let server = site(Driver::Auto, &php, "", &routes)
        .log("access = \"$DIR/access.log\"\nformat = \"$status $upstream_addr $request_id $uri\"\n")
        .start();
    let asked =
        request("GET", "/long.php?a", &["Accept-Encoding: gzip", "X-Request-Id: 00c0ffee00c0ffee", "X-Gone: 1"], "");
    let answer = server.connect().ask(&asked);
    assert_eq!((answer.field("Content-Encoding"), answer.field("X-Hidden")), (Some("gzip"), None));
    assert_eq!(answer.field("X-Added"), Some("200"));
    let text = support::tools::decode("gzip", &answer.body).expect("gzip");
    assert!(text.starts_with(b"GET|00c0ffee00c0ffee|long long"), "{}", String::from_utf8_lossy(&text[..40]));
    let told = table(&server.connect().ask(request("GET", "/server.php", &["X-Gone: 1"], "")).body);
    assert!(!told.contains_key("HTTP_X_GONE"));
    eventually("the copies come, in HTTP", || shadow.count("/long.php?a") == 1);
    let skipped = || server.metric("one_server_upstream_mirror_skipped_total", "upstream=\"shadow\"");
    assert_eq!(skipped(), 0.0);
    for bytes in [10_000, 100_000] {
        let path = format!("/server.php?{bytes}");
        assert_eq!(server.connect().ask(post(&path, &"x".repeat(bytes))).status, 200);
        match bytes {
            10_000 => eventually("it is copied", || shadow.count(&path) == 1 && shadow.last().body.len() == bytes),
            _ => assert_eq!((skipped(), shadow.count(&path)), (1.0, 0), "what is kept for PHP alone is not"),
        }
    }
    assert_eq!(server.metric("one_server_upstream_mirrored_total", "upstream=\"shadow\""), 3.0);
    let log = || std::fs::read_to_string(server.folder().join("access.log")).unwrap_or_default();
    let expect = format!("200 unix:{} 00c0ffee00c0ffee /long.php", shown(&php.socket()));
    eventually("the line comes", || log().contains(&expect));
}

#[test]
fn php_over_http2() {
    let Some(php) = Php::start("", &[("server.php", SERVER), ("echo.php", ECHO)]) else { return };
    let server = start(Driver::Auto, &php, "", ALL);
    let output = Command::new("curl")
        .args(["-s", "--http2-prior-knowledge", "-T", "-", &format!("http://{}/echo.php?h2", server.web())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut curl| {
            curl.stdin.take().expect("a pipe").write_all(b"without a length")?;
            curl.wait_with_output()
        })
        .expect("curl");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/echo.php||h2|without a length");
    let answer = curl("http", server.web(), "/server.php", &["--http2-prior-knowledge"]);
    assert_eq!(table(&answer.body)["SERVER_PROTOCOL"], "HTTP/2.0");
}
