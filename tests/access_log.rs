//! The access log of the real binary: what other programs make of it, and what happens when it cannot be written.
//!
//! The byte-for-byte form of lines is tested beside the code; here are a log analyser, formats of one's own, disks that
//! are full, pipes that nobody reads, and rotation under load.

mod support;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::client::timed;
use support::*;

const SITE: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"root\" }\n\
                    [[site.main.route]]\npath = \"/files/\"\nfiles = { root = \"$DIR\", strip_prefix = \"/files\" }\n";

/// Lines of a log, once there are `n`.
fn log_lines(path: &Path, n: usize) -> Vec<String> {
    let read = || String::from_utf8(std::fs::read(path).unwrap_or_default()).expect("UTF-8");
    eventually("the log has its lines", || read().lines().count() >= n && read().ends_with('\n'));
    let lines: Vec<String> = read().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), n, "{lines:?}");
    lines
}

/// Requests that programs which read logs have stumbled over.
fn odd_requests() -> Vec<String> {
    let long = "x".repeat(2000);
    let fields = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<String>>();
    let odd: Vec<(&str, String, Vec<String>)> = vec![
        ("GET", "/".into(), fields(&[])),
        ("GET", "/files/f.txt?a=\"b\"".into(), fields(&["Referer: http://example.org/\"x\"?q=a|b"])),
        ("GET", "/%22%0d%0a%00".into(), fields(&["User-Agent: Mozilla/5.0 (X11; \"quoted\"; \\back\\) x"])),
        ("GET", "/[brackets]{braces}".into(), fields(&["User-Agent: () { :; }; /bin/echo"])),
        ("GET", "/gr\u{f6}\u{df}e/\u{1F600}".into(), fields(&["User-Agent: \u{1F600} \u{e4}\u{85}"])),
        ("POST", "/files/none".into(), fields(&["User-Agent: ", "Referer: "])),
        ("HEAD", "/files/f.txt".into(), fields(&["User-Agent: -", "Referer: -"])),
        ("OPTIONS", "*".into(), fields(&["User-Agent: %s%n%x $remote_addr %ci"])),
        ("PROPFIND", "/x".into(), fields(&["User-Agent: a\tb", "Referer: not a url \" \" \" - - ["])),
        ("GET", format!("/{long}"), fields(&[&format!("User-Agent: {long}")])),
    ];
    let text = |(method, path, fields): &(&str, String, Vec<String>)| {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        request(method, path, &fields, "")
    };
    odd.iter().map(text).collect()
}

/// <https://goaccess.io>: every line counts as valid.
#[test]
fn goaccess_reads_every_line() {
    if !has_program("goaccess") {
        return;
    }
    let server = Site::new(Driver::Auto, SITE).log("access = \"$DIR/access.log\"\n").file("f.txt", b"file").start();
    let mut requests = odd_requests();
    for n in 0..200 {
        requests.push(request(
            "GET",
            &format!("/?n={n}"),
            &["User-Agent: curl/8.0", "Referer: https://r.example/"],
            "",
        ));
    }
    for text in &requests {
        server.connect().ask(text);
    }
    let path = server.folder().join("access.log");
    log_lines(&path, requests.len());
    let report = server.folder().join("report.json");
    let output = Command::new("goaccess")
        .arg(&path)
        .args(["--log-format=COMBINED", "--no-global-config", "--no-progress", "-o"])
        .arg(&report)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).expect("a report")).expect("JSON");
    let general = &report["general"];
    let expected = (&requests.len().into(), &requests.len().into(), &0.into());
    assert_eq!((&general["total_requests"], &general["valid_requests"], &general["failed_requests"]), expected);
}

#[test]
fn a_format_of_ones_own_is_filled_in() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok("twelve bytes"));
        let site = format!(
            "{SITE}[[site.main.route]]\npath = \"/up/\"\nproxy = \"up\"\n[upstream.up]\nservers = \"{}\"\nhealth = false\n",
            upstream.address
        );
        let log = r#"access = "$DIR/access.log"
format = '$remote_addr:$remote_port $request_method $uri $arg_a $cookie_c "$http_x_y" $host $status $body_bytes_sent $upstream_addr $site $connection_requests %ci %HM %HP%HQ %ST %b/%s %{+Q}HV'
"#;
        let server = Site::new(driver, &site).log(log).one_worker().start();
        let mut client = server.connect();
        let port = client.stream.local_addr().expect("an address").port();
        client.ask(request("GET", "/up/%41?a=1&b=2", &["X-Y: v\"1", "Cookie: b=0; c=3"], ""));
        client.ask("GET /x HTTP/1.1\r\nHost: ExamPle.org:80\r\n\r\n");
        let lines = log_lines(&server.folder().join("access.log"), 2);
        let address = upstream.address;
        assert_eq!(
            lines,
            [
                format!(
                    "127.0.0.1:{port} GET /up/A 1 3 \"v\\x221\" test 200 12 {address} main 1 \
                     127.0.0.1 GET /up/%41?a=1&b=2 200 up/{address} \"HTTP/1.1\""
                ),
                format!(
                    "127.0.0.1:{port} GET /x - - \"-\" example.org 200 4 - main 2 \
                     127.0.0.1 GET /x 200 web/<NOSRV> \"HTTP/1.1\""
                ),
            ],
            "{driver:?}"
        );
    });
}

#[test]
fn haproxys_format_has_its_fields_in_their_places() {
    let server = Site::new(Driver::Auto, SITE).log("access = \"$DIR/access.log\"\nformat = \"haproxy\"\n").start();
    server.connect().ask(get("/a?b=\"c\""));
    let lines = log_lines(&server.folder().join("access.log"), 1);
    let form = r#"^127\.0\.0\.1:\d+ \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\] web web/<NOSRV> (-?\d+/){4}\d+ 200 \d+ - - ..-- 1/1/0/0/0 0/0 "GET /a\?b=#22c#22 HTTP/1\.1"$"#;
    assert!(regex::Regex::new(form).expect("a pattern").is_match(&lines[0]), "{}", lines[0]);
}

/// HAProxy's counts, each of the whole process and with the request itself.
#[test]
fn what_is_under_way_is_counted() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let is_slow = exchange.request.target.ends_with("slow");
            std::thread::sleep(Duration::from_millis(if is_slow { 900 } else { 0 }));
            exchange.ok("done")
        });
        let site = format!(
            "{SITE}[[site.main.route]]\npath = \"/up/\"\nproxy = \"up\"\n[upstream.up]\nservers = \"{}\"\nhealth = false\n",
            upstream.address
        );
        let log = "access = \"$DIR/access.log\"\nformat = '%HP %ac/%fc/%bc/%sc/%rc %sq/%bq'\n";
        let server = Site::new(driver, &site).log(log).start();
        let mut slow = [(); 2].map(|()| server.connect());
        for client in &mut slow {
            client.send(get("/up/slow"));
        }
        eventually("they are under way", || upstream.count("/up/slow") == 2);
        server.connect().ask(get("/up/quick"));
        for client in &mut slow {
            client.response("GET");
        }
        let lines = log_lines(&server.folder().join("access.log"), 3);
        assert_eq!(lines[0], "/up/quick 3/3/3/3/0 0/0", "{driver:?}");
        assert_eq!(server.metric("one_server_listener_connections", "listener=\"web\""), 2.0, "{driver:?}");
    });
}

/// HAProxy's timers, in milliseconds: silence before a request is apart from a head that comes in pieces, and from the
/// handshake.
#[test]
fn silence_and_slow_heads_are_told_apart() {
    let log = "access = \"$DIR/access.log\"\nformat = '%Th %Ti %TR %Ta %Tt $request_time'\n";
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).log(log).secure("").one_worker().start();
        let (pause, slow) = (Duration::from_millis(150), Duration::from_millis(300));
        let mut client = server.connect();
        std::thread::sleep(pause);
        client.send("GET / HTTP/1.1\r\n");
        std::thread::sleep(slow);
        client.ask("Host: test\r\n\r\n");
        std::thread::sleep(slow);
        client.ask(get("/"));
        client.send(get("/") + &get("/"));
        client.response("GET");
        client.response("GET");
        let mut secure = tls::TlsClient::connect(server.address("secure"));
        secure.ask(get("/"));
        secure.ask(get("/"));
        let lines = log_lines(&server.folder().join("access.log"), 6);
        let times: Vec<Vec<f64>> =
            lines.iter().map(|line| line.split(' ').map(|time| time.parse().expect("a number")).collect()).collect();
        let (pause, slow) = (pause.as_millis() as f64, slow.as_millis() as f64);
        // The server may notice what comes late, so that what follows seems short to it.
        let is_near = |value: f64, wanted: f64| value >= wanted - 60.0 && value < wanted + 140.0;
        let [handshake, idle, read, active, total, request_time] = times[0][..] else { panic!("{lines:?}") };
        assert_eq!(handshake, -1.0, "{lines:?}");
        assert!(is_near(idle, pause) && is_near(read, slow) && is_near(active, slow), "{lines:?}");
        assert!(is_near(total, pause + slow) && is_near(request_time * 1000.0, slow), "{lines:?}");
        assert!(is_near(times[1][1], slow) && times[1][2] == 0.0 && is_near(times[1][3], 0.0), "{lines:?}");
        // The second of a pipeline has not been waited for.
        assert!(times[3][1] <= 0.0 && times[3][2] == 0.0, "{lines:?}");
        assert!(is_near(times[4][0], 0.0) && times[4][0] >= 0.0 && times[5][0] == -1.0, "{lines:?}");
    });
}

#[test]
fn json_lines_of_any_request_are_json() {
    for log in [
        "format = \"json\"\n",
        "escape = \"json\"\nformat = '{\"target\":$request_uri,\"agent\":\"$http_user_agent\",\"status\":$status,\"x\":$http_x}'\n",
    ] {
        let log = format!("access = \"$DIR/access.log\"\n{log}");
        let server = Site::new(Driver::Auto, SITE).log(&log).one_worker().start();
        let requests = odd_requests();
        for text in &requests {
            server.connect().ask(text);
        }
        // What is no request at all has a line too.
        server.connect().ask(b"\x16\x03\x01\"\x00\xff garbage\r\n\r\n");
        let lines = log_lines(&server.folder().join("access.log"), requests.len() + 1);
        for line in &lines {
            let json: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(json["status"].is_number() && json["target"].is_string(), "{line}");
        }
        assert!(lines[4].contains('\u{1F600}') && lines[4].contains("\\u0085"), "{}", lines[4]);
    }
}

#[test]
fn a_site_has_a_log_of_its_own_and_another_has_none() {
    with_both_drivers(|driver| {
        let site = |name: &str, line: &str| {
            format!(
                "[site.{name}]\nhosts = \"{name}.test\"\n{line}\n[[site.{name}.route]]\npath = \"/\"\nrespond = {{ body = \"x\" }}\n"
            )
        };
        let sites =
            [site("a", ""), site("b", "access_log = \"$DIR/b.log\""), site("c", "access_log = \"off\"")].concat();
        let mut server = Site::new(driver, &sites).log("access = \"$DIR/access.log\"\n").start();
        for host in ["a", "b", "c", "b", "a", "c"] {
            server.connect().ask(format!("GET /{host} HTTP/1.1\r\nHost: {host}.test\r\n\r\n"));
        }
        let (main, own) = (server.folder().join("access.log"), server.folder().join("b.log"));
        let of =
            |path: &Path, host: &str| log_lines(path, 2).iter().all(|line| line.contains(&format!("GET /{host} ")));
        assert!(of(&main, "a") && of(&own, "b"), "{driver:?}");
        // Both are opened again.
        for path in [&main, &own] {
            std::fs::rename(path, path.with_extension("1")).expect("renamed");
        }
        server.signal(Signal::USR1);
        eventually("there are new files", || main.exists() && own.exists());
        server.connect().ask("GET /b HTTP/1.1\r\nHost: b.test\r\n\r\n");
        log_lines(&own, 1);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(std::fs::read_to_string(&main).expect("a log"), "");
    });
}

/// The numbers in `/?n=…` of lines in the combined format, each of which must be whole.
fn numbers(text: &str) -> Vec<u64> {
    assert!(text.is_empty() || text.ends_with('\n'), "a torn end: {:?}", text.lines().last());
    let number = |line: &str| {
        let inside =
            line.strip_prefix("127.0.0.1 - - [").and_then(|rest| rest.strip_suffix(" HTTP/1.1\" 200 4 \"-\" \"-\""));
        let (_, number) =
            inside.and_then(|inside| inside.split_once("\"GET /?n=")).unwrap_or_else(|| panic!("torn: {line}"));
        number.split('&').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("torn: {line}"))
    };
    text.lines().map(number).collect()
}

/// A disk of 128 KiB in a mount namespace of the server's own.
#[test]
fn a_full_disk_loses_whole_lines_and_counts_them() {
    let may = Command::new("unshare").args(["-rm", "true"]).status();
    if !has_program("unshare") || !may.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no mount namespaces here");
        return;
    }
    let site = Site::new(Driver::Auto, SITE).log("access = \"$DIR/disk/access.log\"\n").one_worker();
    let disk = site.folder().join("disk");
    std::fs::create_dir(&disk).expect("a folder");
    let mut inside = Command::new("unshare");
    let script = "mount -t tmpfs -o size=128k tmpfs \"$0\" && head -c 90000 /dev/zero > \"$0/filler\" && exec \"$@\"";
    inside.args(["-rm", "sh", "-c", script]).arg(&disk);
    let mut server = site.start_through(inside);
    let seen: PathBuf = format!("/proc/{}/root{}", server.pid(), disk.display()).into();
    let read = || std::fs::read_to_string(seen.join("access.log")).expect("the log");

    let pad = "x".repeat(1000);
    let mut client = server.connect();
    let mut sent = 0;
    let mut send = |count: usize| {
        for _ in 0..count {
            let (response, took) = timed(|| client.ask(get(&format!("/?n={sent}&{pad}"))));
            assert_eq!(response.text(), "root");
            assert!(took < Duration::from_secs(5), "a request waited for the log: {took:?}");
            sent += 1;
        }
        sent
    };
    // The disk becomes full in the middle of a line, most likely, and stays so for a while.
    let begin = Instant::now();
    while server.metric("one_server_access_log_lost_lines_total", "") == 0.0 {
        assert!(begin.elapsed() < PATIENCE, "the disk never became full");
        send(20);
        std::thread::sleep(Duration::from_millis(50));
    }
    send(20);
    let errors = server.metric("one_server_access_log_write_errors_total", "");
    eventually("it fails again", || {
        server.metric("one_server_access_log_write_errors_total", "") > errors || errors > 1.0
    });
    server.wait_for_line("it says so", |line| line.contains("error access log cannot be written"));
    std::fs::remove_file(seen.join("filler")).expect("room");
    let before = read().lines().count();
    let sent = send(20);
    eventually("lines come again", || read().lines().count() >= before + 20);
    server.wait_for_line("it says so", |line| line.contains("info access log can be written again"));

    let lost = server.metric("one_server_access_log_lost_lines_total", "") as usize;
    let numbers = numbers(&read());
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert_eq!(numbers.len() + lost, sent, "every line is there or counted");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// A pipe without a reader takes 64 KiB, a worker's buffers 2 MiB; everybody is answered, and the rest is counted.
#[test]
fn a_pipe_that_nobody_reads_holds_up_nobody() {
    with_both_drivers(|driver| {
        let site = Site::new(driver, SITE).log("access = \"$DIR/pipe\"\n").one_worker();
        let pipe = site.folder().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
        let mut server = site.start(); // does not wait for a reader either
        let pad = "x".repeat(6000);
        let mut client = server.connect();
        let mut sent = 0;
        let dropped = || server.metric("one_server_access_log_dropped_total", "");
        while dropped() == 0.0 {
            assert!(sent < 4000, "{driver:?}: nothing is dropped");
            for _ in 0..50 {
                let (response, took) = timed(|| client.ask(get(&format!("/?n={sent}&{pad}"))));
                assert_eq!(response.text(), "root", "{driver:?}");
                assert!(took < Duration::from_secs(5), "{driver:?}: a request waited for the log: {took:?}");
                sent += 1;
            }
        }
        let kept = sent - dropped() as usize;
        assert_eq!(server.metric("one_server_access_log_lines_total", "") as usize, kept);
        // A reader gets every line that was kept, whole.
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            let mut reader = std::fs::File::open(pipe).expect("a reader");
            let mut chunk = vec![0; 1 << 16];
            while text.iter().filter(|byte| **byte == b'\n').count() < kept {
                let n = reader.read(&mut chunk).expect("bytes");
                assert!(n > 0, "the pipe ended early");
                text.extend_from_slice(&chunk[..n]);
            }
            String::from_utf8(text).expect("UTF-8")
        });
        let numbers = numbers(&reader.join().expect("a text"));
        assert!(numbers.len() == kept && numbers.is_sorted_by(|a, b| a < b), "{driver:?}");
        // And with a reader, nothing is dropped any more.
        let before = dropped();
        client.ask(get("/?n=0"));
        assert_eq!(dropped(), before, "{driver:?}");
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{driver:?}");
    });
}

/// What logrotate does, again and again while requests come in.
#[test]
fn rotation_under_load_loses_and_tears_nothing() {
    with_both_drivers(|driver| {
        let mut server = Site::new(driver, SITE).log("access = \"$DIR/access.log\"\n").start();
        let folder = server.folder().to_owned();
        let path = folder.join("access.log");
        const CLIENTS: u64 = 4;
        const EACH: u64 = 500;
        const ROTATIONS: usize = 8;
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let mut connection = server.connect();
                scope.spawn(move || {
                    for n in 0..EACH {
                        assert_eq!(connection.ask(get(&format!("/?n={}", client * EACH + n))).text(), "root");
                    }
                });
            }
            for rotation in 0..ROTATIONS {
                std::thread::sleep(Duration::from_millis(60));
                std::fs::rename(&path, folder.join(format!("access.log.{rotation}"))).expect("renamed");
                server.signal(Signal::USR1);
                eventually("there is a new file", || path.exists());
            }
        });
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        let mut all = Vec::new();
        for n in 0..ROTATIONS {
            all.extend(numbers(&std::fs::read_to_string(folder.join(format!("access.log.{n}"))).expect("a log")));
        }
        all.extend(numbers(&std::fs::read_to_string(&path).expect("a log")));
        all.sort_unstable();
        assert_eq!(all, (0..CLIENTS * EACH).collect::<Vec<_>>(), "{driver:?}");
    });
}

#[test]
fn a_log_of_a_site_that_cannot_be_opened_stops_the_start() {
    let site = "[site.main]\naccess_log = \"$DIR/no/such/folder/b.log\"\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"x\" }\n";
    let output = Site::new(Driver::Auto, site).command().stdin(Stdio::null()).output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("b.log") && !told.contains("ready"), "{told}");
}

#[test]
fn check_tells_every_mistake_of_a_format_with_its_place() {
    let site =
        Site::new(Driver::Auto, SITE).log("format = \"$remote_adr $status %TS\"\naccess = \"$DIR/access.log\"\n");
    let config = site.write_config();
    let output =
        Command::new(env!("CARGO_BIN_EXE_one-server")).args(["check", "-c"]).arg(&config).output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in [
        "unknown variable `$remote_adr`",
        "did you mean `$remote_addr`?",
        "unknown directive `%TS`",
        "did you mean `%Ts`?",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert!(!site.folder().join("access.log").exists(), "a check creates nothing");
}
