//! How clients log on to the splitter and the splitter to servers: TLS on both sides, and every authentication method, with
//! the clients of MariaDB and of mysql_async, a real MariaDB, and a scripted server for what MySQL 8 does otherwise.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/mysql8.rs"]
mod mysql8;

use std::net::SocketAddr;
use std::process::Command;

use mariadb::{Cluster, PASSWORD, USER};
use mysql8::{Full, Mysql8};
use one_server::mysql::protocol::greeting::Greeting;
use support::ports;
use support::tls::{Authority, Identity, Kind, trusted};
use support::*;

/// Where Debian has the plugins of MariaDB's client library.
fn plugins() -> String {
    let found = Command::new("sh").args(["-c", "ls -d /usr/lib/*/libmariadb3/plugin"]).output().expect("a shell");
    String::from_utf8_lossy(&found.stdout).trim().to_owned()
}

/// MariaDB's client, asking for one value. `Err`: what it complains of.
fn ask(address: SocketAddr, arguments: &[&str], sql: &str) -> Result<String, String> {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "-N", "-B", "--protocol=tcp", "--connect-timeout=20", "-h", "127.0.0.1"]);
    command.arg(format!("-P{}", address.port())).arg(format!("-u{USER}")).arg(format!("--plugin-dir={}", plugins()));
    if !arguments.iter().any(|argument| argument.starts_with("-p")) {
        command.arg(format!("-p{PASSWORD}"));
    }
    let output = command.args(arguments).arg("-e").arg(sql).output().expect("the client runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A splitter `db` before a primary without replicas; `keys` of its table.
fn splitter(driver: Driver, primary: u16, keys: &str) -> Site {
    Site::new(driver, "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n").process("control = \"$DIR/ctl.sock\"").more(&format!(
        "[mysql.db]\nlisten = [\"127.0.0.1:0\", \"unix:$DIR/db.sock\"]\nprimary = \"127.0.0.1:{primary}\"\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\nmonitor_interval = \"200ms\"\n{keys}\n"
    ))
}

const TLS: &str = "tls = { certificates = [{ chain = \"$DIR/db.pem\", key = \"$DIR/db.key\" }] }\n";

fn with_tls_files(site: Site, identity: &Identity) -> Site {
    site.identity("db", identity).file("ca.pem", trusted().pem.as_bytes())
}

#[test]
fn clients_log_on_over_tls() {
    let cluster = Cluster::start(0);
    with_both_drivers(|driver| {
        let identity = trusted().server(&["127.0.0.1", "localhost"], Kind::Ecdsa);
        let server = with_tls_files(splitter(driver, cluster.primary.port, TLS), &identity).start();
        let address = server.address("db");
        let ca = format!("--ssl-ca={}/ca.pem", server.folder().display());
        let tls = [ca.as_str(), "--ssl-verify-server-cert"];
        assert_eq!(ask(address, &tls, "SELECT 1+1"), Ok("2".into()));
        assert_eq!(server.metric("one_server_splitter_clients_tls_total", ""), 1.0);
        assert_eq!(ask(address, &["--skip-ssl"], "SELECT 1+1"), Ok("2".into()), "TLS is offered, not demanded");
        assert_eq!(server.metric("one_server_splitter_clients_tls_total", ""), 1.0);
        // Answers of many records, and statements of many.
        let long = ask(address, &tls, "SELECT LENGTH(REPEAT('x', 5000000)), MD5(REPEAT('y', 3000000))");
        assert_eq!(
            long,
            ask(address, &["--skip-ssl"], "SELECT LENGTH(REPEAT('x', 5000000)), MD5(REPEAT('y', 3000000))")
        );
        let statement = format!("SELECT LENGTH('{}')", "z".repeat(100_000));
        assert_eq!(ask(address, &tls, &statement), Ok("100000".into()));
        let wide = ask(address, &tls, "SELECT REPEAT('x', 3000000)").expect("an answer");
        assert!(wide.len() == 3_000_000 && wide.bytes().all(|byte| byte == b'x'));
        for version in ["TLSv1.2", "TLSv1.3"] {
            let with = [ca.as_str(), &format!("--tls-version={version}")];
            let cipher = ask(address, &with, "SELECT 3");
            assert_eq!(cipher, Ok("3".into()), "{version}");
        }
        // A client that takes no other authority.
        let other = format!("{}/other.pem", server.folder().display());
        std::fs::write(&other, Authority::new("other").pem).expect("a file");
        let refused = ask(address, &[&format!("--ssl-ca={other}"), "--ssl-verify-server-cert"], "SELECT 1");
        assert!(refused.as_ref().is_err_and(|error| error.contains("certificate")), "{refused:?}");
        assert_eq!(ask(address, &tls, "SELECT 4"), Ok("4".into()), "and the next one is served");
    });
}

/// What clients learn before they have logged on (drivers choose by it how they talk) is what the servers would tell them.
#[test]
fn the_greeting_is_that_of_the_servers() {
    let mut seen = Vec::new();
    for arguments in [
        &[][..],
        &["--version=10.11.4-MariaDB-of-ours", "--character-set-server=latin1", "--collation-server=latin1_german2_ci"],
    ] {
        let cluster = Cluster::start_with(0, &[], arguments);
        let server = splitter(Driver::Auto, cluster.primary.port, "").start();
        let direct = mysql8::greeting(SocketAddr::from(([127, 0, 0, 1], cluster.primary.port)));
        let through = mysql8::greeting(server.address("db"));
        let told = |greeting: &Greeting| (String::from_utf8_lossy(&greeting.version).into_owned(), greeting.collation);
        assert_eq!(told(&through), told(&direct));
        let sql = "SELECT @@version, (SELECT id FROM information_schema.collations WHERE collation_name = @@collation_server)";
        let (version, collation) = told(&through);
        // Replicas that know no version 10 are shown this in front of it, other than of a version that was made up.
        let version = version.strip_prefix("5.5.5-").unwrap_or(&version).to_owned();
        assert_eq!(cluster.primary.sql(sql), format!("{version}\t{collation}"));
        seen.push((version, collation));
    }
    assert!(seen[0].0 != seen[1].0 && seen[0].1 != seen[1].1, "{seen:?}");
}

#[test]
fn clients_without_tls_are_refused_where_it_is_required() {
    let cluster = Cluster::start(0);
    let identity = trusted().server(&["127.0.0.1"], Kind::Ecdsa);
    let keys = format!("{TLS}tls_required = true\n");
    let server = with_tls_files(splitter(Driver::Auto, cluster.primary.port, &keys), &identity).start();
    let address = server.address("db");
    let refused = ask(address, &["--skip-ssl"], "SELECT 1").expect_err("refused");
    assert!(refused.contains("3159") && refused.contains("insecure transport"), "{refused}");
    let ca = format!("--ssl-ca={}/ca.pem", server.folder().display());
    assert_eq!(ask(address, &[&ca], "SELECT 1"), Ok("1".into()));
    let socket = format!("--socket={}/db.sock", server.folder().display());
    let output = Command::new("mariadb")
        .args([
            "--no-defaults",
            "-N",
            "-B",
            "--skip-ssl",
            &socket,
            &format!("-u{USER}"),
            &format!("-p{PASSWORD}"),
            "-e",
            "SELECT 5",
        ])
        .output()
        .expect("the client runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "5", "nobody listens on a Unix socket: {output:?}");
}

#[test]
fn certificates_of_a_splitter_are_renewed_without_a_restart() {
    let cluster = Cluster::start(0);
    let first = trusted().server(&["first.test"], Kind::Ecdsa);
    let server = with_tls_files(splitter(Driver::Auto, cluster.primary.port, TLS), &first).start();
    let address = server.address("db");
    let shown = || {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-starttls", "mysql", "-connect", &address.to_string()]);
        let output = command.stdin(std::process::Stdio::null()).output().expect("openssl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let names = |pem: &str| pem.lines().filter(|line| !line.starts_with("--")).collect::<String>();
    let (one, second) = (names(&first.chain), trusted().server(&["second.test"], Kind::Rsa));
    let two = names(&second.chain);
    let has = |shown: &str, chain: &str| shown.replace('\n', "").contains(&chain[..400]);
    assert!(has(&shown(), &one));
    let mut idle = mysql8::Plain::connect(address, USER, PASSWORD);
    let folder = server.folder().to_owned();
    std::fs::write(folder.join("db.pem"), &second.chain).expect("a file");
    std::fs::write(folder.join("db.key"), &second.key).expect("a file");
    eventually("the new certificate is shown", || has(&shown(), &two));
    assert_eq!(idle.value("SELECT 7"), "7", "who was there stays");
    // And with a reload, which reads all files.
    std::fs::write(folder.join("db.pem"), &first.chain).expect("a file");
    std::fs::write(folder.join("db.key"), &first.key).expect("a file");
    server.ctl_ok(&["reload"]);
    assert!(has(&shown(), &one));
    // What cannot be used changes nothing.
    std::fs::write(folder.join("db.pem"), "no certificate").expect("a file");
    server
        .wait_for_line("it is told", |line| line.contains("certificates not reloaded") && line.contains("listener=db"));
    assert!(has(&shown(), &one));
}

#[test]
fn clients_prove_themselves_by_every_method() {
    let cluster = Cluster::start(0);
    for (authentication, methods) in [
        ("mysql_native_password", &["mysql_native_password", "caching_sha2_password", "sha256_password"][..]),
        ("caching_sha2_password", &["mysql_native_password", "caching_sha2_password", "sha256_password"]),
        ("client_ed25519", &["client_ed25519", "mysql_native_password", "sha256_password"]),
    ] {
        let keys = format!("authentication = \"{authentication}\"\n");
        let server = splitter(Driver::Auto, cluster.primary.port, &keys).start();
        let address = server.address("db");
        for method in methods {
            let default = format!("--default-auth={method}");
            assert_eq!(ask(address, &[&default], "SELECT 6"), Ok("6".into()), "{authentication}, {method}");
            for wrong in ["-pwrong", "-p", "--user=nobody"] {
                let wrong = if wrong == "-p" { "--password=" } else { wrong };
                let arguments = [default.as_str(), "--skip-password", wrong];
                let arguments = if wrong.starts_with("-p") { &arguments[..] } else { &[default.as_str(), wrong][..] };
                let refused = ask(address, arguments, "SELECT 6");
                let is_denied =
                    refused.as_ref().is_err_and(|error| error.contains("1045") && error.contains("Access denied"));
                assert!(is_denied, "{authentication}, {method}, {wrong}: {refused:?}");
            }
        }
        // `sha256_password` would want the password itself: who begins with it is told to go on with another one.
        let switch = mysql8::first_answer(address, USER, "sha256_password");
        let to = [&[0xFE], authentication.as_bytes(), &[0]].concat();
        assert!(switch.starts_with(&to), "{authentication}: {}", switch.escape_ascii());
        // mysql_async speaks both of MySQL's methods, over and over on one connection.
        if authentication != "client_ed25519" {
            mysql8::change_user_often(address, USER, PASSWORD);
        }
    }
}

/// MariaDB, for which the account has to come over TLS or with ed25519.
#[test]
fn servers_are_logged_on_to_over_tls_and_with_ed25519() {
    let identity = trusted().server(&["127.0.0.1"], Kind::Rsa);
    let files = [
        ("ca.pem", trusted().pem.as_str()),
        ("server.pem", identity.chain.as_str()),
        ("server.key", identity.key.as_str()),
    ];
    let arguments = [
        "--ssl-ca=$DIR/ca.pem",
        "--ssl-cert=$DIR/server.pem",
        "--ssl-key=$DIR/server.key",
        "--plugin-load-add=auth_ed25519",
    ];
    let cluster = Cluster::start_with(1, &files, &arguments);
    let change = |sql: &str| {
        cluster.primary.sql(sql);
        cluster.wait_for_replicas();
    };
    let replicas = format!("replicas = [\"127.0.0.1:{}\"]\n", cluster.replicas[0].port);
    let cases = [
        (format!("ALTER USER {USER}@'%' REQUIRE SSL"), true),
        (format!("ALTER USER {USER}@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}') REQUIRE SSL"), true),
        (format!("ALTER USER {USER}@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}') REQUIRE NONE"), false),
    ];
    for (sql, needs_tls) in cases {
        change(&sql);
        let start = |tls: &str| {
            let keys = format!("{replicas}{tls}");
            splitter(Driver::Auto, cluster.primary.port, &keys).file("ca.pem", trusted().pem.as_bytes()).start()
        };
        let server = start("server_tls = { ca = \"$DIR/ca.pem\" }\n");
        let address = server.address("db");
        let cipher = ask(
            address,
            &[],
            "SELECT VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME='Ssl_version'",
        );
        assert!(cipher.as_ref().is_ok_and(|cipher| cipher.starts_with("TLSv1.")), "{sql}: {cipher:?}");
        eventually("the replica takes reads", || {
            ask(address, &[], "SELECT COUNT(*) FROM d.none_there").is_err()
                && server.metric("one_server_splitter_statements_total", "to=\"replica\"") > 0.0
        });
        let clear = start("");
        let answer = ask(clear.address("db"), &[], "SELECT 8");
        match needs_tls {
            true => assert!(answer.is_err(), "{sql}: {answer:?}"),
            false => assert_eq!(answer, Ok("8".into()), "{sql}"),
        }
    }
}

#[test]
fn servers_with_the_wrong_certificate_or_without_tls_get_no_password() {
    let identity = trusted().server(&["db.internal"], Kind::Ecdsa);
    let files = [("server.pem", identity.chain.as_str()), ("server.key", identity.key.as_str())];
    let cluster = Cluster::start_with(0, &files, &["--ssl-cert=$DIR/server.pem", "--ssl-key=$DIR/server.key"]);
    let plain = Cluster::start_with(0, &[], &["--skip-ssl"]);
    let start = |port: u16, tls: &str| {
        let other = Authority::new("other");
        let site = splitter(Driver::Auto, port, &format!("server_tls = {tls}\n"));
        site.file("ca.pem", trusted().pem.as_bytes()).file("other.pem", other.pem.as_bytes()).start()
    };
    let good = start(cluster.primary.port, "{ ca = \"$DIR/ca.pem\", server_name = \"db.internal\" }");
    assert_eq!(ask(good.address("db"), &[], "SELECT 9"), Ok("9".into()));
    let anyone = start(cluster.primary.port, "{ verify = false }");
    assert_eq!(ask(anyone.address("db"), &[], "SELECT 9"), Ok("9".into()));
    for (port, tls, text) in [
        (cluster.primary.port, "{ ca = \"$DIR/ca.pem\" }", "certificate"),
        (cluster.primary.port, "{ ca = \"$DIR/other.pem\", server_name = \"db.internal\" }", "certificate"),
        (plain.primary.port, "{ verify = false }", "offers no TLS"),
    ] {
        let server = start(port, tls);
        server.wait_for_line("the reason", |line| line.contains("mysql server is down") && line.contains(text));
        let refused = ask(server.address("db"), &[], "SELECT 9");
        assert!(refused.is_err(), "{tls}: {refused:?}");
    }
    assert_eq!(
        plain.primary.counter("Aborted_connects_preauth"),
        plain.primary.counter("Aborted_connects"),
        "no login was tried"
    );
}

/// What MySQL 8 asks for with `caching_sha2_password` when it has not seen the user for long.
#[test]
fn a_server_with_a_cold_cache_gets_the_password_where_nobody_else_can_read_it() {
    let key = mysql8::RsaKey::new();
    for (full, keys, is_let_in) in [
        (Full::Warm, "", true),
        (Full::InClear, "server_tls = { ca = \"$DIR/ca.pem\" }\n", true),
        (Full::Sealed, "server_public_key = \"$DIR/server.rsa\"\n", true),
        (Full::InClear, "", false),
        (Full::Sha256Sealed, "server_public_key = \"$DIR/server.rsa\"\n", true),
        (Full::Sha256InClear, "server_tls = { ca = \"$DIR/ca.pem\" }\n", true),
        (Full::Sha256InClear, "", false),
        (Full::ClearPlugin, "server_tls = { ca = \"$DIR/ca.pem\" }\n", true),
        (Full::ClearPlugin, "server_public_key = \"$DIR/server.rsa\"\n", false),
    ] {
        let server = Mysql8::start(full, USER, PASSWORD, &key, trusted().server(&["127.0.0.1"], Kind::Ecdsa));
        let site = splitter(Driver::Auto, server.port(), keys).file("ca.pem", trusted().pem.as_bytes());
        let site = site.file("server.rsa", key.public_pem().as_bytes()).start();
        if is_let_in {
            let answer = ask(site.address("db"), &[], "SELECT 1");
            assert_eq!(answer, Ok(String::new()), "{full:?} {keys}: {:?}", server.complaints());
            assert!(server.logins() > 0 && server.complaints().is_empty(), "{full:?}: {:?}", server.complaints());
        } else {
            site.wait_for_line("the reason", |line| line.contains("password itself") && line.contains("server_tls"));
            assert_eq!((server.logins(), server.has_seen_password()), (0, false), "{full:?}");
        }
    }
}

#[test]
fn a_greeting_with_more_behind_it_is_not_believed() {
    // Whatever an attacker puts in front of the handshake in clear must not be taken for the server's.
    let key = mysql8::RsaKey::new();
    let server = Mysql8::start(Full::Injecting, USER, PASSWORD, &key, trusted().server(&["127.0.0.1"], Kind::Ecdsa));
    let site = splitter(Driver::Auto, server.port(), "server_tls = { ca = \"$DIR/ca.pem\" }\n");
    let site = site.file("ca.pem", trusted().pem.as_bytes()).start();
    site.wait_for_line("the reason", |line| line.contains("more than a greeting"));
    assert_eq!((server.logins(), server.has_seen_password()), (0, false));
}

#[test]
fn clients_may_have_their_packets_compressed() {
    let cluster = Cluster::start(0);
    with_both_drivers(|driver| {
        let identity = trusted().server(&["127.0.0.1"], Kind::Ecdsa);
        let server = with_tls_files(splitter(driver, cluster.primary.port, TLS), &identity).start();
        let address = server.address("db");
        let ca = format!("--ssl-ca={}/ca.pem", server.folder().display());
        for arguments in [&["--compress", "--skip-ssl"][..], &["--compress", ca.as_str()]] {
            let status = ask(address, arguments, "SELECT 1+1");
            assert_eq!(status, Ok("2".into()), "{arguments:?}");
            let statement = format!("SELECT MD5('{}'), LENGTH('{}')", "z".repeat(100_000), "q".repeat(30));
            assert_eq!(ask(address, arguments, &statement), ask(address, &["--skip-ssl"], &statement));
            let wide = ask(address, arguments, "SELECT REPEAT('x', 5000000)").expect("an answer");
            assert!(wide.len() == 5_000_000 && wide.bytes().all(|byte| byte == b'x'));
            let rows = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, MD5(i), RAND(i) FROM n";
            assert_eq!(ask(address, arguments, rows), ask(address, &["--skip-ssl"], rows));
        }
        mysql8::compressed_work(address, USER, PASSWORD);
    });
}

#[test]
fn clients_may_have_them_compressed_by_zstd_as_mysql_8_has_it() {
    let cluster = Cluster::start(0);
    let server = splitter(Driver::Auto, cluster.primary.port, "").start();
    let mut client = mysql8::ZstdClient::connect(server.address("db"), USER, PASSWORD);
    assert!(client.query("SELECT 'abc'").windows(4).any(|window| window == b"\x03abc"));
    let big = client.query("SELECT REPEAT('x', 200000)");
    assert!(big.windows(150_000).any(|window| window.iter().all(|byte| *byte == b'x')));
    assert!(client.received_bytes() < 5_000, "{} bytes came", client.received_bytes());
    let statement = format!("SELECT LENGTH('{}')", "y".repeat(70_000));
    assert!(client.query(&statement).windows(6).any(|window| window == b"\x0570000"));
    // What is no frame ends the connection, and nothing else.
    client.send_raw(b"\x20\0\0\0\xFF\xFF\xFFgarbage garbage garbage garbage!");
    assert!(client.is_closed());
    let none = splitter(Driver::Auto, cluster.primary.port, "compression = false\n").start();
    assert_eq!(mysql8::offered(none.address("db")) & (1 << 5 | 1 << 26), 0, "not offered");
    assert_eq!(ask(none.address("db"), &["--compress"], "SELECT 1"), Ok("1".into()));
}
