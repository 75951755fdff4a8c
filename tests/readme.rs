//! The README is what people follow first, so what it shows is run: every config in it passes the check, the three steps to
//! HTTPS work, every key in the table of nginx's directives exists, and what it translates from nginx.conf answers as nginx
//! does with the original.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::client::timed;
use support::php::Php;
use support::ports::free_port;
use support::{Client, Driver, Server, Site, eventually, get, has_program, request};

const README: &str = include_str!("../README.md");
const BINARY: &str = env!("CARGO_BIN_EXE_one-server");

/// A script that tells how it was called.
const BLOG: &str = "<?php echo $_SERVER['SCRIPT_NAME'], ' ', $_SERVER['PATH_INFO'] ?? '', ' ', $_SERVER['QUERY_STRING'], ' ', \
                    $_SERVER['REQUEST_URI'];";

/// The code blocks of a language behind the first occurrence of `after`.
fn blocks(language: &str, after: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let from = README.find(after).unwrap_or_else(|| panic!("no `{after}` in the README"));
    README[from..].split(&fence).skip(1).map(|rest| rest.split("```").next().expect("it ends")).collect()
}

fn write(folder: &Path, name: &str, content: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, content).expect("a file");
}

/// What the configs name: certificates, folders, files.
fn furnish(folder: &Path) {
    for (name, content) in [
        ("public/index.html", "<p>public</p>"),
        ("www/shop/index.html", "<p>shop</p>"),
        ("www/example.org/index.html", "<p>home</p>"),
        ("www/example.org/404.html", "<p>nothing here</p>"),
        ("www/example.org/docs/index.html", "<p>docs</p>"),
        ("www/example.org/.git/config", "secret"),
        ("www/blog/style.CSS", "body {}"),
        ("www/blog/index.php", BLOG),
        ("www/blog/xmlrpc.php", BLOG),
        ("www/blog/wp-admin/index.php", BLOG),
        ("www/blog/wp-content/uploads/evil.php", BLOG),
        ("www/blog/wp-content/uploads/2024/index.php", BLOG),
        ("app/dist/index.html", "<p>app</p>"),
        ("app/dist/app.js", "let x = 1;"),
        ("etc/mysql.password", "secret\n"),
        ("etc/shop.password", "secret\n"),
        ("etc/reports.password", "another\n"),
        ("etc/sticky.secret", "sixteen bytes or more\n"),
        ("log/.keep", ""),
        ("shop/.keep", ""),
        ("express/.keep", ""),
        ("rails/.keep", ""),
        ("blog/.keep", ""),
    ] {
        write(folder, name, content);
    }
    write(folder, "www/example.org/assets/app.css", &"p { margin: 0 }\n".repeat(200));
    for program in ["gunicorn", "node", "bundle", "other", "php-fpm"] {
        let name = format!("bin/{program}");
        write(folder, &name, "");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.join(name), executable).expect("permissions");
    }
    certificate(folder, "localhost", folder);
    certificate(folder, "example.org", &folder.join("etc"));
    certificate(folder, "db", &folder.join("etc"));
    std::fs::copy(folder.join("etc/db.pem"), folder.join("etc/ca.pem")).expect("an authority");
}

fn certificate(folder: &Path, name: &str, out: &Path) {
    let mut command = Command::new(BINARY);
    command.current_dir(folder).args(["cert", "self-signed", name, "127.0.0.1", "--out"]).arg(out);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The text with its folders in `folder`.
fn moved(text: &str, folder: &Path) -> String {
    let folder = folder.to_str().expect("a plain path");
    let places = [
        ("/var/www", "www"),
        ("/srv/app", "app"),
        ("/srv/shop", "shop"),
        ("/srv/express", "express"),
        ("/srv/rails", "rails"),
        ("/srv/blog", "blog"),
        ("/usr/local/bin", "bin"),
        ("/etc/one-server", "etc"),
        ("/etc/ssl", "etc"),
        ("/etc/mysql/", "etc/"),
        ("/var/log/one-server", "log"),
        ("/var/log/nginx", "log"),
    ];
    places.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, &format!("{folder}/{to}")))
}

#[test]
fn every_config_passes_the_check() {
    let folder = tempfile::tempdir().expect("a folder");
    furnish(folder.path());
    let configs = blocks("toml", "");
    assert!(configs.len() >= 5, "{}", configs.len());
    for config in configs {
        write(folder.path(), "site.toml", &moved(config, folder.path()));
        let mut command = Command::new(BINARY);
        command.env("PATH", folder.path().join("bin"));
        let output = command.current_dir(folder.path()).args(["check", "-c", "site.toml"]).output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{config}\n{told}");
        let expected = ["is not private", "password"]; // a file of this test has the mode of any file
        let is_expected = expected.iter().any(|text| told.contains(text));
        assert!(told.is_empty() || is_expected, "{config}\n{told}");
    }
}

/// Which is compiled there.
#[test]
fn the_program_is_that_of_the_documentation() {
    const LIBRARY: &str = include_str!("../src/lib.rs");
    let start = LIBRARY.find("/// ```no_run\n").expect("a program");
    let lines = LIBRARY[start..].lines().skip(1).take_while(|line| *line != "/// ```");
    let text: Vec<&str> = lines.map(|line| line.trim_start_matches("///")).collect();
    let text: Vec<&str> = text.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    assert_eq!(blocks("rust", "## An application of your own")[0].trim_end(), text.join("\n"));
    // The first one of the documentation, its config included.
    const APPLICATIONS: &str = include_str!("../src/app/mod.rs");
    let (_, first) = APPLICATIONS.split_once("# A first application\n//!\n//! ```no_run\n").expect("a program");
    let first: Vec<&str> = first.lines().take_while(|line| *line != "//! ```").collect();
    assert!(text.len() <= 20 && first.len() <= 20, "twenty lines: {} and {}", text.len(), first.len());
}

/// What the README shows of pools is what the examples run.
#[test]
fn the_pools_are_those_of_the_examples() {
    let examples =
        [include_str!("../examples/sqlx_pool.rs"), include_str!("../examples/probe_app/database.rs")].concat();
    let fragment = blocks("rust", "| sqlx, mysql_async |")[0];
    let calls = fragment.split(['.', '(', ':', ' ', '\n']).filter(|word| {
        ["max_", "acquire_", "idle_", "with_", "from_url", "from_opts", "pool_opts"]
            .iter()
            .any(|name| word.starts_with(name))
    });
    let mut count = 0;
    for call in calls {
        assert!(examples.contains(call), "`{call}` is in no example");
        count += 1;
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn every_key_in_the_table_of_directives_exists() {
    let output = Command::new(BINARY).arg("config-reference").output().expect("it runs");
    let manual = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, table) = README.split_once("| nginx | here | |\n").expect("the table");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, _, here, note, _] = cells[..] else { panic!("three cells in {row}") };
        for key in here.split('`').skip(1).step_by(2) {
            let name = key.rsplit('.').next().expect("a name");
            assert!(manual.contains(&format!("\n### `{name}`\n")), "{key} in {row}");
            count += 1;
        }
        let is_absent = ["not needed", "not here", "standard error"].iter().any(|word| note.starts_with(word));
        assert_eq!(here == "–", is_absent, "{row}");
    }
    assert!(count > 60, "{count}");
}

/// Status, Location, Cache-Control, Set-Cookie and body. `arguments` are curl's.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    location: String,
    cache_control: String,
    hsts: String,
    cookie: String,
    body: String,
}

fn curl(arguments: &[&str]) -> Answer {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--insecure", "--max-time", "20", "--include"]).args(arguments);
    let output = command.output().expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let field = |name: &str| {
        let mut values = head.lines().filter_map(|line| line.split_once(": "));
        let value = values.find(|(found, _)| found.eq_ignore_ascii_case(name));
        value.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    Answer {
        status: head.split(' ').nth(1).expect("a status").to_owned(),
        location: field("location"),
        cache_control: field("cache-control"),
        hsts: field("strict-transport-security"),
        cookie: field("set-cookie"),
        body: body.to_owned(),
    }
}

/// A config of the README as it stands but for its ports and folders; `edit` changes what else must be.
fn ours(config: &str, edit: impl Fn(String) -> String) -> Server {
    let ports = ["0.0.0.0:8080", "0.0.0.0:80\"", "0.0.0.0:443", "127.0.0.1:8080", "127.0.0.1:8443"];
    let config = ports.iter().fold(config.to_owned(), |text, port| {
        let end = if port.ends_with('"') { "\"" } else { "" };
        text.replace(port, &format!("127.0.0.1:0{end}"))
    });
    let site = Site::new(Driver::Auto, "");
    furnish(site.folder());
    let config = edit(moved(&config, site.folder()));
    site.whole(&config).start()
}

/// nginx with the README's block; ended when dropped.
struct Nginx {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// `edit` changes the ports.
    fn start(block: &str, edit: impl Fn(String) -> String, ports: &[u16]) -> Nginx {
        let folder = tempfile::tempdir().expect("a folder");
        // nginx's workers run as another user when it is started by root.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("a mode");
        furnish(folder.path());
        let at = folder.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {at}/tmp_{name};\n"))
            .concat();
        let block = edit(moved(block, folder.path()));
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\nevents {{}}\n\
             http {{\ntypes {{ text/html html; text/css css; application/javascript js; }}\naccess_log off;\n{temporary}{block}\n}}\n"
        );
        write(folder.path(), "nginx.conf", &config);
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(folder.path()).arg("-e").arg(folder.path().join("error.log"));
        command.arg("-c").arg(folder.path().join("nginx.conf"));
        let child = command.stdin(Stdio::null()).spawn().expect("nginx starts");
        let nginx = Nginx { child, _folder: folder };
        for &port in ports {
            eventually("nginx listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both answer the same for `path` of `host`; `address` are ours and nginx's.
#[track_caller]
fn alike(scheme: &str, host: &str, [ours, nginx]: [SocketAddr; 2], arguments: &[&str], path: &str) -> Answer {
    let port = if scheme == "https" { 443 } else { 80 };
    let ask = |address: SocketAddr| {
        let to = format!("{host}:{port}:{}:{}", address.ip(), address.port());
        let url = format!("{scheme}://{host}{path}");
        let mut all = vec!["--connect-to", &to];
        all.extend(arguments);
        all.push(&url);
        curl(&all)
    };
    let (ours, mut nginx) = (ask(ours), ask(nginx));
    // nginx writes the whole address into a redirect to a folder (RFC 9110 section 10.2.2 allows both); a short body of
    // its own belongs to a redirect.
    if ours.location.starts_with('/') {
        let from = nginx.location.match_indices('/').nth(2).expect("a path").0;
        nginx.location.drain(..from);
    }
    if ours.status.starts_with('3') {
        nginx.body.clone_from(&ours.body);
    }
    assert_eq!(ours, nginx, "{path}: one-server left, nginx right");
    ours
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

#[test]
fn the_three_steps_to_https_work() {
    if !has_program("curl") {
        return;
    }
    let [config, ..] = blocks("toml", "## HTTPS in three steps")[..] else { panic!("a config") };
    // Its relative paths start at the working directory, which tests share.
    let server = ours(config, |config| {
        let config = config.replace("\"public\"", "\"$DIR/public\"");
        config
            .replace("\"localhost.pem\"", "\"$DIR/localhost.pem\"")
            .replace("\"localhost.key\"", "\"$DIR/localhost.key\"")
    });
    let (clear, secure) = (server.address("clear"), server.address("secure"));
    let certificate = server.folder().join("localhost.pem");
    let certificate = certificate.to_str().expect("a plain path");
    let to = format!("localhost:8443:127.0.0.1:{}", secure.port());
    let trusted = ["--no-insecure", "--cacert", certificate, "--connect-to", &to];
    let page = curl(&[&trusted[..], &["--http2", "https://localhost:8443/"]].concat());
    assert_eq!((page.status.as_str(), page.body.as_str()), ("200", "<p>public</p>"));
    assert_eq!(page.hsts, "max-age=86400");
    let moved = curl(&[&format!("http://localhost:{}/", clear.port())]);
    assert_eq!((moved.status.as_str(), moved.location.as_str()), ("308", "https://localhost:8443/"));
}

#[test]
fn the_static_site_answers_as_with_nginx() {
    if !(has_program("curl") && has_program("nginx")) {
        return;
    }
    let ports = [free_port(), free_port()];
    let block = blocks("nginx", "### A static site")[0];
    let listen = |text: String| {
        let text = text.replace("listen 80;", &format!("listen 127.0.0.1:{};", ports[0]));
        text.replace("listen 443 ", &format!("listen 127.0.0.1:{} ", ports[1]))
    };
    let _nginx = Nginx::start(block, listen, &ports);
    let server = ours(blocks("toml", "### A static site")[0], |config| config);

    let clear = [server.address("clear"), local(ports[0])];
    for host in ["example.org", "www.example.org", "other.test"] {
        let moved = alike("http", host, clear, &[], "/a%20b?c=d");
        assert_eq!(moved.location, "https://example.org/a%20b?c=d");
    }
    let secure = [server.address("secure"), local(ports[1])];
    let home = alike("https", "example.org", secure, &[], "/");
    assert_eq!((home.status.as_str(), home.hsts.as_str()), ("200", "max-age=31536000"));
    assert_eq!(alike("https", "example.org", secure, &[], "/docs").location, "/docs/");
    alike("https", "example.org", secure, &[], "/docs/");
    alike("https", "example.org", secure, &["--range", "2-5"], "/");
    let lost = alike("https", "example.org", secure, &[], "/none");
    assert_eq!((lost.status.as_str(), lost.body.as_str()), ("404", "<p>nothing here</p>"));
    alike("https", "example.org", secure, &["--header", "Accept-Encoding: gzip", "--compressed"], "/assets/app.css");
    let css = alike("https", "example.org", secure, &[], "/assets/app.css");
    assert_eq!(css.cache_control, "max-age=2592000");
    // What the text says: a dot file is 404 here, 403 with nginx.
    let url = format!("https://127.0.0.1:{}/.git/config", secure[0].port());
    assert_eq!(curl(&[&url]).status, "404");
}

#[test]
fn the_single_page_application_answers_as_with_nginx() {
    if !(has_program("curl") && has_program("nginx")) {
        return;
    }
    let echo = "[site.echo]\ndefault = true\n[[site.echo.route]]\npath = \"/\"\n[site.echo.route.respond]\n\
                body = \"$request_uri $host $http_x_real_ip $http_x_forwarded_for $http_x_forwarded_proto\"\n";
    let backend = Site::new(Driver::Auto, echo).start();
    let to_backend = |text: String| text.replace("127.0.0.1:9000", &backend.web().to_string());
    let port = free_port();
    let listen = |text: String| to_backend(text.replace("listen 8080;", &format!("listen 127.0.0.1:{port};")));
    let _nginx = Nginx::start(blocks("nginx", "### A single-page")[0], listen, &[port]);
    let server = ours(blocks("toml", "### A single-page")[0], to_backend);

    let both = [server.web(), local(port)];
    for path in ["/", "/app.js", "/a/view/of/the/app"] {
        assert_eq!(alike("http", "app.example.org", both, &[], path).status, "200");
    }
    assert_eq!(alike("http", "app.example.org", both, &[], "/healthz").body, "ok\n");
    let users = alike("http", "app.example.org", both, &[], "/api/users?page=2");
    assert_eq!(users.body, "/users?page=2 app.example.org 127.0.0.1 127.0.0.1 http");
    let header = ["--header", "X-Forwarded-For: 192.0.2.1"];
    let behind = alike("http", "app.example.org", both, &header, "/api/");
    assert_eq!(behind.body, "/ app.example.org 127.0.0.1 192.0.2.1, 127.0.0.1 http");
    let large = format!("@{}", server.folder().join("large").display());
    write(server.folder(), "large", &"x".repeat((10 << 20) + 1));
    let url = format!("http://{}/api/", both[0]);
    assert_eq!(curl(&["--header", "Expect:", "--data-binary", &large, &url]).status, "413");
}

#[test]
fn tables_and_conditions_answer_as_with_nginx() {
    if !(has_program("curl") && has_program("nginx")) {
        return;
    }
    let port = free_port();
    let listen = |text: String| text.replace("listen 8080;", &format!("listen 127.0.0.1:{port};"));
    let _nginx = Nginx::start(blocks("nginx", "### Tables and conditions")[0], listen, &[port]);
    let server = ours(blocks("toml", "### Tables and conditions")[0], |config| config);

    let both = [server.web(), local(port)];
    let ask = |arguments: &[&str], path: &str| alike("http", "example.org", both, arguments, path);
    assert_eq!(ask(&[], "/search?q=1").body, "light for here\n");
    let bot = ask(&["--user-agent", "GoogleBot/2.1"], "/search");
    assert_eq!((bot.status.as_str(), bot.body.as_str()), ("403", "no robots\n"));
    assert_eq!(ask(&[], "/old").location, "/new");
    assert_eq!(ask(&["--user-agent", "a bot"], "/blog/17").location, "/posts/17");
    // The same clients are in the same share.
    let variant = |address: SocketAddr, agent: &str| {
        let mut client = Client::connect(address);
        let response = client.ask(request("GET", "/search", &[&format!("User-Agent: {agent}")], ""));
        response.field("x-variant").expect("a variant").to_owned()
    };
    for number in 0..50 {
        let agent = format!("agent/{number}");
        assert_eq!(variant(both[0], &agent), variant(both[1], &agent), "{agent}");
    }
}

#[test]
fn a_server_that_names_itself_answers_as_with_nginx() {
    if !(has_program("curl") && has_program("nginx")) {
        return;
    }
    let app = "[site.app]\ndefault = true\n[[site.app.route]]\npath = \"/app/\"\n\
               headers = { add = { Set-Cookie = \"sid=1; Domain=app.internal; Path=/app/\" } }\n\
               respond = { content_type = \"text/html\", body = \"<head></HEAD><a href='http://app.internal/app/x'>HTTP://APP.INTERNAL/APP/</a>\" }\n\
               [[site.app.route]]\npath = \"/app/old\"\nredirect = { to = \"http://app.internal/app/new\", status = 302 }\n";
    let backend = Site::new(Driver::Auto, app).start();
    let to_backend = |text: String| text.replace("127.0.0.1:9000", &backend.web().to_string());
    let port = free_port();
    let listen = |text: String| to_backend(text.replace("listen 8080;", &format!("listen 127.0.0.1:{port};")));
    let _nginx = Nginx::start(blocks("nginx", "### A server that names itself")[0], listen, &[port]);
    let server = ours(blocks("toml", "### A server that names itself")[0], to_backend);
    let both = [server.web(), local(port)];
    let page = alike("http", "www.example.org", both, &[], "/page");
    assert_eq!(page.cookie, "sid=1; Domain=www.example.org; Path=/; HttpOnly; SameSite=Lax");
    let link = "<link rel=\"stylesheet\" href=\"/assets/app.css\"></head>";
    assert_eq!(page.body, format!("<head>{link}<a href='/x'>/</a>"));
    assert_eq!(alike("http", "www.example.org", both, &[], "/old").location, "/new");
    assert_eq!(alike("http", "www.example.org", both, &[], "/assets/app.css").status, "200");
}

#[test]
fn php_answers_as_with_nginx() {
    if !(has_program("curl") && has_program("nginx")) {
        return;
    }
    let Some(php) = Php::start("", &[]) else { return };
    let to_php = |text: String| text.replace("/run/php/php-fpm.sock", php.socket().to_str().expect("a plain path"));
    let port = free_port();
    let listen = |text: String| {
        let text = text.replace("listen 8080;", &format!("listen 127.0.0.1:{port};"));
        to_php(text.replace("include fastcgi.conf", "include /etc/nginx/fastcgi.conf"))
    };
    let _nginx = Nginx::start(blocks("nginx", "### PHP")[0], listen, &[port]);
    let server = ours(blocks("toml", "### PHP")[0], to_php);
    let both = [server.web(), local(port)];
    let ask = |path: &str| alike("http", "blog.example.org", both, &[], path);
    assert_eq!(ask("/style.CSS").body, "body {}");
    assert_eq!(ask("/style.CSS").cache_control, "max-age=2592000");
    assert_eq!(ask("/2026/07/a%20post/?p=1").body, "/index.php  p=1 /2026/07/a%20post/?p=1");
    assert_eq!(ask("/").body, "/index.php   /");
    assert_eq!(ask("/index.php/feed?x").body, "/index.php /feed x /index.php/feed?x");
    assert_eq!(ask("/wp-admin/?tab=2").body, "/wp-admin/index.php  tab=2 /wp-admin/?tab=2");
    assert_eq!(ask("/wp-admin").status, "301");
    let status = |path: &str, at: usize| curl(&[&format!("http://{}{path}", both[at])]).status;
    for (path, expect) in [
        ("/xmlrpc.php", "403"),
        ("/wp-content/uploads/evil.php", "404"),
        ("/wp-content/uploads/evil.php/x", "404"),
        ("/wp-content/uploads/2024/", "404"),
        ("/wp-content/uploads/2024/index.php", "404"),
    ] {
        assert_eq!((status(path, 0).as_str(), status(path, 1).as_str()), (expect, expect), "{path}");
    }
}

#[test]
fn clients_that_take_too_much_are_told_as_with_nginx() {
    if !(has_program("curl") && has_program("nginx")) {
        return;
    }
    let echo =
        "[site.api]\ndefault = true\n[[site.api.route]]\npath = \"/\"\nrespond = { body = \"api $request_uri\" }\n";
    let backend = Site::new(Driver::Auto, echo).start();
    let to_backend = |text: String| text.replace("127.0.0.1:9000", &backend.web().to_string());
    let port = free_port();
    let listen = |text: String| to_backend(text.replace("listen 8080;", &format!("listen 127.0.0.1:{port};")));
    let _nginx = Nginx::start(blocks("nginx", "### Clients that take too much")[0], listen, &[port]);
    let server = ours(blocks("toml", "### Clients that take too much")[0], to_backend);
    for address in [server.web(), local(port)] {
        // The burst at once, and then what the rate allows in the time this takes.
        let mut client = Client::connect(address);
        let (statuses, took) = timed(|| [(); 150].map(|()| client.ask(get("/")).status));
        let granted = statuses.iter().filter(|status| **status == 200).count();
        let most = 102 + (took.as_secs_f64() * 20.0) as usize;
        assert!((101..=most).contains(&granted), "{address}: {granted} in {took:?}");
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{address}: {statuses:?}");
    }
    std::thread::sleep(Duration::from_millis(300));
    for address in [server.web(), local(port)] {
        let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(address)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(get("/login"));
            match n {
                0 => assert_eq!(client.response("GET").text(), "api /login", "{address}"),
                1..=3 => client.assert_silent(Duration::from_millis(200)),
                _ => assert_eq!(client.response("GET").status, 429, "{address}"),
            }
        }
    }
}
