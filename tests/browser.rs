//! A real browser is the client that counts: Chromium loads a page with about a hundred assets of every kind over HTTP/2
//! and over HTTP/3, and tells what it thinks of each of them: status, protocol, sizes, whether the style sheet had an effect, the
//! script ran, the image could be decoded, the font could be used. It also calls a proxied API many times at once. What no
//! protocol test notices (a media type a browser refuses, a body it takes for broken, a coding it cannot read) shows here.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "the tests of the splitter use the rest")]
mod mariadb;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::Value;
use support::tls::{Kind, trusted};
use support::*;

const STYLES: usize = 15;
const SCRIPTS: usize = 15;
const IMAGES: usize = 50;
const FONTS: usize = 2;
const CALLS: usize = 20;

/// Longest run of the browser. It starts slowly on a busy machine.
const BROWSER_MAX: Duration = Duration::from_secs(120);

/// A PNG of these pixels, three bytes each.
fn png(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Vec<u8> {
    let mut rows = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for y in 0..height {
        let mut row = vec![0]; // no filter
        row.extend((0..width).flat_map(|x| pixel(x, y)));
        rows.write_all(&row).expect("memory");
    }
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let head = [&size[..], &[8, 2, 0, 0, 0]].concat();
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", head), (b"IDAT", rows.finish().expect("memory")), (b"IEND", Vec::new())] {
        let body = [&kind[..], &data].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(body);
        bytes.extend(crc.sum().to_be_bytes());
    }
    bytes
}

/// The page: it loads everything, then reports what became of it. Its last image comes behind the report, so that the
/// browser takes the page for loaded, and takes its picture, only then.
fn page() -> String {
    let all = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<Vec<_>>().join("\n");
    let styles = all(STYLES, &|n| format!("<link rel=stylesheet href=/css/{n}.css>"));
    let scripts = all(SCRIPTS, &|n| format!("<script defer src=/js/{n}.js></script>"));
    let images = all(IMAGES, &|n| format!("<img src=/img/{n}.png width=32 height=32>"));
    format!(
        r##"<!doctype html><html lang=en><meta charset=utf-8><title>loading</title><link rel=icon href=/img/0.png>
<script>
const errors = [];
window.ran = [];
addEventListener("error", e => errors.push(String(e.message || e.target.src || e.target.href)), true);
addEventListener("unhandledrejection", e => errors.push(String(e.reason)));
addEventListener("securitypolicyviolation", e => errors.push(e.violatedDirective));
</script>
{styles}
{scripts}
<h1>ein Test — ✓</h1><p class=a>a page of many parts</p>
<div>{images}</div><img id=large src=/img/large.png width=600><p id=out></p>
<img id=last src=/api/last.png>
<script type=module>
const get = async n => {{
  const answer = await fetch("/api/item?n=" + n, {{ method: n % 2 ? "POST" : "GET", body: n % 2 ? "x".repeat(n * 3000) : undefined }});
  return answer.ok ? await answer.json() : {{ status: answer.status }};
}};
const images = Array.from(document.images).filter(image => image.id !== "last");
await Promise.all(images.map(image => image.decode()));
const calls = await Promise.all(Array.from({{ length: {CALLS} }}, (_, n) => get(n)));
const fonts = await Promise.all(["one", "two"].map(name => document.fonts.load("20px " + name)));
const streamed = [];
const reader = (await fetch("/api/stream")).body.getReader();
for (let part; !(part = await reader.read()).done;) streamed.push(performance.now());
const style = getComputedStyle(document.documentElement);
const entry = e => ({{ name: new URL(e.name).pathname, protocol: e.nextHopProtocol, status: e.responseStatus,
  encoded: e.encodedBodySize, decoded: e.decodedBodySize }});
const report = {{
  errors, calls, ran: window.ran.length,
  fonts: fonts.map(list => list.length),
  streamed: streamed.length > 1 ? streamed.at(-1) - streamed[0] : 0,
  styles: Array.from({{ length: {STYLES} }}, (_, n) => style.getPropertyValue("--style-" + n).trim()),
  images: images.map(image => image.complete && image.naturalWidth),
  title: document.querySelector("h1").textContent,
  entries: [performance.getEntriesByType("navigation")[0], ...performance.getEntriesByType("resource")].map(entry),
}};
document.querySelector("#out").textContent = report.entries.length + " entries, " + errors.length + " errors";
await fetch("/api/report", {{ method: "POST", body: JSON.stringify(report) }});
document.title = "done";
</script></html>"##
    )
}

/// A font of this machine: the browser's own package depends on some.
fn fonts() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/usr/share/fonts")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|kind| kind == "ttf") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// The API: counts what it is sent, streams, and keeps the page's report.
fn api() -> FakeUpstream {
    let has_report = AtomicBool::new(false);
    FakeUpstream::start(move |exchange| {
        exchange.read_body();
        let target = exchange.request.target.clone();
        has_report.fetch_or(target == "/api/report", Ordering::SeqCst);
        if target == "/api/last.png" {
            let begin = Instant::now();
            while !has_report.load(Ordering::SeqCst) && begin.elapsed() < BROWSER_MAX / 2 {
                std::thread::sleep(Duration::from_millis(20));
            }
            let body = png(8, 8, |_, _| [0, 128, 0]);
            exchange
                .send(format!("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n", body.len()));
            exchange.send(body);
            return upstream::Then::Keep;
        }
        if target == "/api/stream" {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..5 {
                exchange.send("9\r\ndata: x\n\n\r\n");
                std::thread::sleep(Duration::from_millis(100));
            }
            exchange.send("0\r\n\r\n");
            return upstream::Then::Keep;
        }
        let body = format!(r#"{{"target":"{target}","bytes":{}}}"#, exchange.request.body.len());
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n";
        exchange.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
        upstream::Then::Keep
    })
}

fn start(driver: Driver, http3: bool, api: &FakeUpstream, identity: &tls::Identity, fonts: &[PathBuf]) -> Server {
    let site = format!(
        "[site.main]\nhsts = \"1d\"\nhttps_only = true\ncompress = true\nbody_max = \"4MiB\"\n\
         [[site.main.route]]\npath = \"/\"\nfiles = \"$DIR/root\"\n\
         [[site.main.route]]\npath = \"/api/\"\nproxy = \"api\"\n\
         [upstream.api]\nservers = \"{}\"\nhealth = false\n\
         [listener.secure]\naddress = \"127.0.0.1:0\"\nhttp3 = {http3}\n\
         tls.certificates = [{{ chain = \"$DIR/server.pem\", key = \"$DIR/server.key\" }}]\n",
        api.address
    );
    let noise = pattern(1 << 20);
    let mut site = Site::new(driver, &site).identity("server", identity).file("root/index.html", page().as_bytes());
    for n in 0..STYLES {
        let rules = (0..200).map(|at| format!(".none-{n}-{at} {{ margin: {at}px; }}\n")).collect::<String>();
        let face = ["one", "two"]
            .get(n)
            .map(|family| format!("@font-face {{ font-family: {family}; src: url(/fonts/{family}.ttf); }}\n"));
        let own = format!(
            ":root {{ --style-{n}: {n}px; }} h1 {{ font-family: one; color: #246; }} .a {{ font-family: two; }}\n"
        );
        site = site.file(&format!("root/css/{n}.css"), [face.unwrap_or_default(), own, rules].concat().as_bytes());
    }
    for n in 0..SCRIPTS {
        let text = format!("window.ran.push({n});\n") + &"// a comment that repeats itself\n".repeat(500);
        site = site.file(&format!("root/js/{n}.js"), text.as_bytes());
    }
    for n in 0..IMAGES as u32 {
        let icon = png(32, 32, |x, y| [(n * 5) as u8, (x * 8) as u8, (y * 8) as u8]);
        site = site.file(&format!("root/img/{n}.png"), &icon);
    }
    let large = png(1200, 800, |x, y| [(x / 5) as u8, (y / 4) as u8, noise[(y * 1200 + x) as usize % noise.len()]]);
    site = site.file("root/img/large.png", &large);
    for (name, font) in ["one", "two"].into_iter().zip(fonts) {
        site = site.file(&format!("root/fonts/{name}.ttf"), &std::fs::read(font).expect("a font"));
    }
    site.start()
}

/// Loads the page with these further arguments; returns what the browser wrote to its log.
fn browse(url: &str, more: &[String], pin: &[u8], folder: &Path, screenshot: &Path) -> String {
    let pin =
        base64::engine::general_purpose::STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, pin));
    let mut child = Command::new("chromium")
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"])
        // Nothing leaves this machine. Over UDP a browser does not try a second address.
        .arg("--host-resolver-rules=MAP localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .arg(format!("--ignore-certificate-errors-spki-list={pin}"))
        .arg(format!("--user-data-dir={}", folder.display()))
        .args(["--enable-logging=stderr", "--window-size=1280,1000", "--timeout=60000"])
        .arg(format!("--screenshot={}", screenshot.display()))
        .args(more)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("log")).expect("a file"))
        .spawn()
        .expect("chromium");
    let begin = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if begin.elapsed() > BROWSER_MAX {
            let _ = child.kill();
            let _ = child.wait();
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    String::from_utf8_lossy(&std::fs::read(folder.join("log")).expect("a log")).into_owned()
}

#[test]
fn a_browser_loads_a_page_of_a_hundred_parts_over_http2() {
    load_page(false);
}

#[test]
fn a_browser_loads_a_page_of_a_hundred_parts_over_http3() {
    load_page(true);
}

/// The demo's live page beside applications of every kind: what somebody sees of them.
#[test]
fn the_live_page_shows_applications() {
    if !has_program("chromium") || support::php::program().is_none() {
        return;
    }
    let program =
        support::apps::BY_FD.replace("$PEERS", support::apps::PEERS).replace("$PYTHON", support::apps::python());
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/site");
    // The page asks for these two at its own origin; what the admin pages answer is put there.
    let site = format!(
        "[site.main]\nroute = [\n\
         {{ path = \"/\", files = \"{}\" }},\n{{ path = \"/hello\", app = \"hello\" }},\n{{ path = \"/shop\", app = \"shop\" }},\n\
         {{ exact = \"/status\", proxy = \"admin\" }},\n{{ exact = \"/trace\", proxy = \"admin\" }},\n\
         {{ path = \"/blog\", app = \"blog\", cgi = \"$DIR/www\" }},\n]\n\
         [app.hello]\n[app.shop]\ntype = \"process\"\ninstances = 2\n{program}\n\
         [app.blog]\ntype = \"php\"\nini = {{ \"no.such\" = \"1\" }}\n[upstream.admin]\nservers = \"127.0.0.1:$PORT\"\nhealth = false\n",
        pages.display()
    );
    let port = support::ports::free_port();
    let site = Site::new(Driver::Auto, &site.replace("$PORT", &port.to_string()))
        .admin(&format!("address = \"127.0.0.1:{port}\"\ntrace = 64"))
        .file("www/index.php", b"<?php echo 'here';");
    let server = site.start();
    for path in ["/hello", "/hello", "/shop"] {
        server.connect().ask(get(path));
    }
    let told = |name: &str| {
        server.status()["processes"].as_array().expect("a list").iter().find(|app| app["name"] == name).cloned()
    };
    eventually("it has failed", || told("blog").is_some_and(|app| app["state"] == "failed"));
    let shown = dom(&format!("http://127.0.0.1:{}/live.html", server.web().port()));
    let (_, table) = shown.split_once("<tbody id=\"apps\">").unwrap_or_else(|| panic!("no table in {shown}"));
    let (table, _) = table.split_once("</tbody>").expect("its end");
    let rows: Vec<&str> = table.split("<tr").skip(1).collect();
    let has = |words: &[&str]| rows.iter().any(|row| words.iter().all(|word| row.contains(word)));
    assert!(has(&["hello", "in process", "well", ">2<"]), "{table}");
    assert!(
        has(&["shop", "process", "ready, 2 of 2"]) && has(&["blog", "php-fpm", "failed, 0 of 1", "no.such"]),
        "{table}"
    );
    for instance in told("shop").expect("it is there")["instances"].as_array().expect("a list") {
        assert!(has(&[&format!("pid {}", instance["pid"]), "ready"]), "{table}");
    }
    assert!(!shown.contains("id=\"applications\" hidden"), "it is to be seen");
}

/// A server in the live page's picture: what it is called, what is said of it, whether it looks down.
type Node = (String, String, bool);

/// The servers in the live page's picture, and what its card of the splitter says of waiting statements.
fn topology(shown: &str) -> (Vec<Node>, Option<String>) {
    let picture = shown.split_once("<svg id=\"diagram\"").and_then(|(_, rest)| rest.split_once("</svg>"));
    let (picture, _) = picture.unwrap_or_else(|| panic!("no picture in {shown}"));
    let node = |group: &str| {
        let (group, _) = group.split_once("</g>").expect("its end");
        let texts = group.split("<text").skip(1).filter_map(|text| text.split_once('>')?.1.split_once("</text>"));
        let texts: Vec<&str> = texts.map(|(text, _)| text).collect();
        let [label, sub] = texts[..] else { panic!("{group}") };
        (label.to_owned(), sub.to_owned(), group.split('>').next().is_some_and(|tag| tag.contains("down")))
    };
    let nodes = picture.split("<g class=\"node").skip(1).map(node);
    let ours = |(label, ..): &Node| ["primary", "replica", "fenced"].iter().any(|role| label.starts_with(role));
    let waiting = shown.split_once("<dt>no primary</dt><dd>").and_then(|(_, rest)| rest.split_once("</dd>"));
    (nodes.filter(ours).collect(), waiting.map(|(text, _)| text.to_owned()))
}

/// What somebody sees of a splitter's servers on the live page: who writes, who reads, who was taken out, who is gone.
#[test]
fn the_live_page_shows_the_servers_of_a_splitter() {
    if !has_program("chromium") || !mariadb::is_installed() {
        return;
    }
    let mut cluster = mariadb::Cluster::start(2);
    cluster.primary.sql("CREATE TABLE d.t (id INT PRIMARY KEY)");
    cluster.wait_for_replicas();
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/site");
    let (port, ports) = (support::ports::free_port(), cluster.replicas.iter().map(|replica| replica.port));
    let servers: Vec<_> =
        [cluster.primary.port].into_iter().chain(ports).map(|port| format!("127.0.0.1:{port}")).collect();
    let site = format!(
        "[site.main]\nroute = [\n{{ path = \"/\", files = \"{}\" }},\n{{ exact = \"/status\", proxy = \"admin\" }},\n\
         {{ exact = \"/trace\", proxy = \"admin\" }},\n]\n[upstream.admin]\nservers = \"127.0.0.1:{port}\"\nhealth = false\n\
         [mysql.db]\nlisten = \"127.0.0.1:0\"\nservers = {servers:?}\nuser = \"{}\"\npassword = \"{}\"\n\
         monitor_interval = \"100ms\"\nlag_max = \"1m\"\nprimary_wait = \"10m\"\n",
        pages.display(),
        mariadb::USER,
        mariadb::PASSWORD,
    );
    let site = Site::new(Driver::Auto, &site).admin(&format!("address = \"127.0.0.1:{port}\"\ntrace = 64"));
    let server = site.process("control = \"$DIR/ctl.sock\"").start();
    let splitter = || server.status()["splitters"][0].clone();
    eventually("all are there", || {
        let splitter = splitter();
        splitter["servers"][0]["role"] == "primary"
            && [1, 2].iter().all(|replica| splitter["servers"][replica]["up"] == true)
    });
    server.ctl_ok(&["mysql", "drain", &format!("db/{}", servers[2])]);
    let page = format!("http://127.0.0.1:{}/live.html", server.web().port());
    let (nodes, waiting) = topology(&dom(&page));
    let [primary, first, second] = &nodes[..] else { panic!("{nodes:?}") };
    assert_eq!((&*primary.0, &*primary.1, primary.2), ("primary", "writes", false));
    let lag = first.1.strip_prefix("reads, ").and_then(|rest| rest.strip_suffix(" ms behind"));
    assert!(lag.is_some_and(|lag| lag.parse::<u32>().is_ok()), "{first:?}");
    assert_eq!((&*first.0, first.2), ("replica 1", false));
    assert_eq!((&*second.0, &*second.1), ("replica 2", "drain"));
    assert_eq!(waiting, None);

    // Nobody writes any more, and somebody waits for that.
    cluster.primary.kill();
    eventually("it is missed", || splitter()["vacancy"].is_string());
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--protocol=tcp", "-h127.0.0.1", "-u", mariadb::USER]);
    client.args([format!("-P{}", server.address("db").port()), format!("-p{}", mariadb::PASSWORD)]);
    let mut client = client.args(["d", "-e", "INSERT INTO t VALUES (1)"]).spawn().expect("it starts");
    eventually("it waits", || splitter()["held"] == 1);
    let (nodes, waiting) = topology(&dom(&page));
    client.kill().expect("it ends");
    client.wait().expect("it ends");
    assert!(nodes.iter().any(|(_, sub, is_down)| sub == "down" && *is_down), "{nodes:?}");
    assert!(!nodes.iter().any(|(label, ..)| label == "primary"), "{nodes:?}");
    assert_eq!(waiting.as_deref(), Some("1 wait"));
}

/// A page as it is when its scripts have run for some seconds.
fn dom(url: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new("timeout")
        .arg(BROWSER_MAX.as_secs().to_string())
        .args([
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"])
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .arg(format!("--user-data-dir={}", folder.path().display()))
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(url)
        .output()
        .expect("chromium");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn load_page(http3: bool) {
    let fonts = fonts();
    if !has_program("chromium") {
        return;
    }
    assert!(fonts.len() >= FONTS, "fonts-dejavu-core, which chromium depends on, has some");
    // One after the other: a browser is a heavy guest.
    for driver in [Driver::IoUring, Driver::Epoll] {
        let api = api();
        let identity = trusted().server(&["localhost"], Kind::Ecdsa);
        let server = start(driver, http3, &api, &identity, &fonts);
        let folder = tempfile::tempdir().expect("a folder");
        let screenshot = server.folder().join("page.png");
        let origin = format!("localhost:{}", server.address("secure").port());
        let url = format!("https://{origin}/");
        // Without being told, a browser takes HTTP/2 for the first visit.
        let more = match http3 {
            true => vec!["--enable-quic".to_owned(), format!("--origin-to-force-quic-on={origin}")],
            false => Vec::new(),
        };
        let log = browse(&url, &more, &identity.public_key, folder.path(), &screenshot);
        let report = api.seen().into_iter().find(|seen| seen.target == "/api/report");
        // For whoever wants to look at it.
        if let Some(kept) = std::env::var_os("ONE_SERVER_KEEP_SCREENSHOT") {
            std::fs::copy(&screenshot, kept).expect("copied");
        }
        let report = report.unwrap_or_else(|| panic!("{driver:?}: the page did not come to its end:\n{log}"));
        let report: Value = serde_json::from_slice(&report.body).expect("JSON");

        assert_eq!(report["errors"], serde_json::json!([]), "{driver:?}: {log}");
        let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
        assert!(console.is_empty(), "{driver:?}: {console:?}");
        assert_eq!(report["title"], "ein Test — ✓", "{driver:?}: the charset is right");
        assert_eq!(report["ran"], SCRIPTS, "{driver:?}");
        assert_eq!(report["fonts"], serde_json::json!(vec![1; FONTS]), "{driver:?}");
        let styles: Vec<String> = (0..STYLES).map(|n| format!("{n}px")).collect();
        assert_eq!(report["styles"], serde_json::json!(styles), "{driver:?}");
        let widths: Vec<u32> = [vec![32; IMAGES], vec![1200]].concat();
        assert_eq!(report["images"], serde_json::json!(widths), "{driver:?}");
        for n in 0..CALLS {
            let call = &report["calls"][n];
            let bytes = if n % 2 == 1 { n * 3000 } else { 0 };
            assert_eq!(
                (&call["target"], &call["bytes"]),
                (&format!("/api/item?n={n}").into(), &bytes.into()),
                "{driver:?}"
            );
        }

        assert!(report["streamed"].as_f64().is_some_and(|ms| ms > 200.0), "{driver:?}: a stream is not held back");
        let entries = report["entries"].as_array().expect("a list");
        let expected = 1 + STYLES + SCRIPTS + IMAGES + 1 + FONTS + CALLS + 1;
        assert!(entries.len() >= expected, "{driver:?}: {} of {expected}", entries.len());
        let version = if http3 { "h3" } else { "h2" };
        let mut is_coded = [0; 2];
        for entry in entries {
            assert_eq!((&entry["protocol"], &entry["status"]), (&version.into(), &200.into()), "{driver:?}: {entry}");
            let name = entry["name"].as_str().expect("a name");
            let size = |name: &str| entry[name].as_f64().expect("a number");
            for (at, kind) in [".css", ".js"].into_iter().enumerate() {
                is_coded[at] += usize::from(name.ends_with(kind) && size("encoded") * 2.0 < size("decoded"));
            }
            assert!(!name.ends_with(".png") || size("encoded") == size("decoded"), "{driver:?}: {entry}");
        }
        assert_eq!(is_coded, [STYLES, SCRIPTS], "{driver:?}: texts are compressed");
        let picture = std::fs::read(&screenshot).unwrap_or_else(|error| panic!("{driver:?}: {error}:\n{log}"));
        assert!(picture.len() > 50_000, "{driver:?}: the picture shows something");
    }
}
