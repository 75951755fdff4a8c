//! Lines as nginx and HAProxy write them, and what may never tear one.

use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::super::entry::{ClientFacts, Coding, Counts, Phase, Termination, Timers, TlsFacts};
use super::super::template::Escape;
use super::*;
use crate::control::shared::tests::config;
use crate::http::h1::{Limits, RequestHead, parse_request};

/// 2026-11-22 20:04:59.007 UTC
pub(in crate::log) fn entry() -> Entry<'static> {
    Entry {
        time: UNIX_EPOCH + Duration::from_millis(1_795_377_899_007),
        remote_addr: b"127.0.0.1",
        method: b"GET",
        target: b"/a",
        protocol: b"HTTP/1.1",
        status: 200,
        body_bytes: 5,
        duration: Duration::from_micros(1234),
        host: Some(b"x"),
        request_id: 0xab,
        served_by: ServedBy::Files,
        ..Entry::default()
    }
}

fn formatter(format: &str, escape: Escape, zone: TimeZone) -> Formatter {
    let mut config = config();
    let template = Template::new(format, escape).unwrap_or_else(|mistakes| panic!("{format}: {mistakes:?}"));
    config.log.format = Arc::new(template);
    Formatter::new(&config, 3, Host { zone, name: "box".into(), pid: 42 })
}

fn bytes_in(format: &str, escape: Escape, entry: &Entry<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    formatter(format, escape, TimeZone::UTC).line(&mut out, entry);
    out
}

fn line_in(format: &str, entry: &Entry<'_>) -> String {
    String::from_utf8(bytes_in(format, Escape::Default, entry)).unwrap()
}

#[track_caller]
fn check(format: &str, entry: &Entry<'_>, expected: &str) {
    assert_eq!(line_in(format, entry), format!("{expected}\n"), "{format}");
}

/// What nginx 1.22.1 wrote for these requests, byte for byte.
#[test]
fn combined_lines_are_those_of_nginx() {
    let entry = entry();
    let check = |entry: Entry<'_>, expected: &str| check("combined", &entry, expected);
    check(entry, r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "GET /a HTTP/1.1" 200 5 "-" "-""#);
    check(
        Entry { target: b"/a\"b\\c\x7f\xc3\xa9?q=1", status: 400, body_bytes: 157, ..entry },
        r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "GET /a\x22b\x5Cc\x7F\xC3\xA9?q=1 HTTP/1.1" 400 157 "-" "-""#,
    );
    check(
        Entry { target: b"/e", referer: Some(b""), user_agent: Some(b""), ..entry },
        r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "GET /e HTTP/1.1" 200 5 "" """#,
    );
    check(
        Entry { method: b"", target: b"garbage", protocol: b"", status: 400, body_bytes: 157, ..entry },
        r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "garbage" 400 157 "-" "-""#,
    );
    check(
        Entry {
            method: b"HEAD",
            target: b"/h",
            protocol: b"HTTP/1.0",
            body_bytes: 0,
            user_agent: Some(b"t\\"),
            ..entry
        },
        r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "HEAD /h HTTP/1.0" 200 0 "-" "t\x5C""#,
    );
    check(
        Entry { target: b"/e", referer: Some(b"a"), user_agent: Some(b"a\tb\xff~\x7f"), ..entry },
        r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "GET /e HTTP/1.1" 200 5 "a" "a\x09b\xFF~\x7F""#,
    );
    check(
        Entry { remote_user: Some(b"jo \"x\""), protocol: b"HTTP/2.0", ..entry },
        r#"127.0.0.1 - jo \x22x\x22 [22/Nov/2026:20:04:59 +0000] "GET /a HTTP/2.0" 200 5 "-" "-""#,
    );
}

#[test]
fn common_is_combined_without_its_end() {
    let expected = r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "GET /a HTTP/1.1" 200 5"#;
    check("common", &Entry { referer: Some(b"r"), ..entry() }, expected);
}

/// A request of which everything is known.
fn full<'a>(tls: &'a TlsFacts<'a>, head: &'a RequestHead, bytes: &'a [u8]) -> Entry<'a> {
    let ms = |ms| Some(Duration::from_millis(ms));
    Entry {
        remote_port: 4711,
        remote_user: Some(b"jo"),
        peer_addr: b"10.0.0.1",
        peer_port: 99,
        proxy_protocol_addr: Some(b"192.0.2.9"),
        local_addr: b"10.0.0.2",
        local_port: 443,
        site: Some(0),
        scheme: b"https",
        tls: Some(tls),
        method: b"POST",
        target: b"/%41b/../c?x=1&y=%20",
        protocol: b"HTTP/2.0",
        head: Some((head, bytes)),
        host: Some(b"Example.ORG:8443"),
        referer: Some(b"http://r/"),
        user_agent: Some(b"ua"),
        status: 503,
        response_fields: b"Content-Type: text/html\r\nX-A: 1\r\nX-A: 2\r\n",
        body_bytes: 1000,
        bytes_sent: 1234,
        bytes_received: 567,
        coding: Some(Coding { name: b"gzip", bytes_before: 2345 }),
        timers: Timers {
            handshake: ms(3),
            idle: ms(4),
            read: ms(10),
            queue: ms(20),
            connect: ms(30),
            response: ms(40),
            active: ms(1100),
        },
        served_by: ServedBy::Server { upstream: 1, server: 0 },
        upstream: Some(1),
        upstream_status: Some(502),
        tries: 3,
        connection: 77,
        connection_requests: 5,
        pipelined: true,
        termination: Termination::new(EndedBy::ServerTimeout, Phase::Response),
        counts: Counts {
            process: Some(9),
            listener: Some(8),
            upstream: Some(7),
            server: Some(6),
            server_queue: Some(5),
            upstream_queue: Some(4),
        },
        ..entry()
    }
}

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nX-Thing: a\"1\r\nX-Thing: 2\r\nCookie: sid=abc; t=1\r\n\r\n";

const TLS: TlsFacts<'static> = TlsFacts {
    version: b"TLSv1.3",
    cipher: b"TLS_AES_128_GCM_SHA256",
    server_name: Some(b"example.org"),
    alpn: Some(b"h2"),
    resumed: true,
    verify: b"SUCCESS",
    client: Some(ClientFacts { subject: b"CN=jo", issuer: b"CN=ca", serial: b"0A", fingerprint: b"c0ffee" }),
};

fn parsed() -> RequestHead {
    let mut head = RequestHead::default();
    let limits = Limits { head_bytes_max: 4096, target_bytes_max: 4096, headers_max: 100 };
    parse_request(HEAD, &limits, &mut head).unwrap().unwrap();
    head
}

#[test]
fn the_variables_of_nginx() {
    let head = parsed();
    let full = full(&TLS, &head, HEAD);
    for (format, expected) in [
        ("$remote_addr $remote_port $remote_user", "127.0.0.1 4711 jo"),
        ("$realip_remote_addr:$realip_remote_port $proxy_protocol_addr", "10.0.0.1:99 192.0.2.9"),
        ("$server_addr:$server_port $server_name $scheme $https", "10.0.0.2:443 main https on"),
        ("$ssl_protocol $ssl_cipher $ssl_server_name", "TLSv1.3 TLS_AES_128_GCM_SHA256 example.org"),
        ("$ssl_alpn_protocol $ssl_session_reused $ssl_client_s_dn $ssl_client_verify", "h2 r CN=jo SUCCESS"),
        ("$ssl_client_i_dn $ssl_client_serial $ssl_client_fingerprint", "CN=ca 0A c0ffee"),
        ("$request|$request_method|$request_uri", "POST /%41b/../c?x=1&y=%20 HTTP/2.0|POST|/%41b/../c?x=1&y=%20"),
        ("$uri$is_args$args $query_string $server_protocol", "/c?x=1&y=%20 x=1&y=%20 HTTP/2.0"),
        ("$host $http_host $http_referer $http_user_agent", "example.org Example.ORG:8443 http://r/ ua"),
        ("$http_x_thing|$HTTP_X_Thing|$http_none", "a\\x221, 2|a\\x221, 2|-"),
        ("$sent_http_content_type $sent_http_x_a $sent_http_x", "text/html 1, 2 -"),
        ("$cookie_sid $cookie_SID $cookie_none $arg_x $arg_y $arg_z", "abc abc - 1 %20 -"),
        ("$status $body_bytes_sent $bytes_sent $request_length $gzip_ratio", "503 1000 1234 567 2.35"),
        ("$request_id $request_completion", "00000000000000ab -"),
        ("$time_local|$time_iso8601|$msec", "22/Nov/2026:20:04:59 +0000|2026-11-22T20:04:59+00:00|1795377899.007"),
        ("$request_time $upstream_connect_time $upstream_header_time", "1.100 0.030 0.070"),
        ("$upstream_response_time $upstream_queue_time", "1.070 0.020"),
        ("$upstream_addr $upstream_status", "[::1]:8080 502"),
        ("$connection $connection_requests $pipe $pid $hostname", "77 5 p 42 box"),
        ("$read_us $queue_us $connect_us $response_us $active_us", "10000 20000 30000 40000 1100000"),
        ("$listener $site $upstream $served_by $tries", "web main plain upstream:plain/[::1]:8080 3"),
        ("$content_coding $bytes_before_coding $termination $worker $duration_us", "gzip 2345 sH 3 1234"),
        ("$upstream_cache_status $sent_trailer_x $$ %%", "- - $ %"),
    ] {
        check(format, &full, expected);
    }
}

#[test]
fn what_does_not_exist_is_a_hyphen() {
    let entry = Entry { host: None, ..entry() };
    for format in [
        "$remote_port",
        "$remote_user",
        "$proxy_protocol_addr",
        "$server_addr",
        "$server_port",
        "$server_name",
        "$site",
        "$https",
        "$ssl_protocol",
        "$ssl_cipher",
        "$ssl_server_name",
        "$ssl_session_reused",
        "$ssl_client_s_dn",
        "$ssl_client_i_dn",
        "$ssl_client_verify",
        "$tls_resumed",
        "$args",
        "$arg_x",
        "$host",
        "$http_host",
        "$http_x",
        "$sent_http_x",
        "$cookie_x",
        "$gzip_ratio",
        "$content_coding",
        "$upstream_addr",
        "$upstream_status",
        "$upstream_response_time",
        "$upstream_connect_time",
        "$upstream_header_time",
        "$upstream",
        "$read_us",
        "%ac",
        "%fc",
        "%bc",
        "%sc",
        "%sq",
        "%bq",
        "%CC",
        "%sslv",
        "%si",
    ] {
        check(format, &entry, "-");
    }
    check("$realip_remote_addr $uri", &entry, "127.0.0.1 /a");
}

/// The example of HAProxy's manual, section 8.2.3, with our numbers.
#[test]
fn haproxy_lines_are_those_of_option_httplog() {
    let head = parsed();
    let full = full(&TLS, &head, HEAD);
    check(
        "haproxy",
        &full,
        "127.0.0.1:4711 [22/Nov/2026:20:04:57.907] web~ plain/[::1]:8080 10/20/30/40/1100 503 1234 - - sH-- \
         9/8/7/6/2 5/4 \"POST /%41b/../c?x=1&y=%20 HTTP/2.0\"",
    );
    let bad = Entry {
        method: b"",
        target: b"garbage\"",
        protocol: b"",
        status: 0,
        served_by: ServedBy::Worker,
        duration: Duration::ZERO,
        termination: Termination::new(EndedBy::Client, Phase::Request),
        ..entry()
    };
    check(
        "haproxy",
        &bad,
        "127.0.0.1:- [22/Nov/2026:20:04:59.007] web web/<NOSRV> -1/-1/-1/-1/0 -1 0 - - CR-- -/-/-/-/0 -/- \"<BADREQ>\"",
    );
}

#[test]
fn the_directives_of_haproxy() {
    let head = parsed();
    let full = full(&TLS, &head, HEAD);
    for (format, expected) in [
        ("%ci:%cp %fi:%fp %f %ft %b/%s %si", "127.0.0.1:4711 10.0.0.2:443 web web~ plain/[::1]:8080 [::1]:8080"),
        ("%t|%tr", "22/Nov/2026:20:04:57.907|22/Nov/2026:20:04:57.907"),
        ("%T|%Tl|%Ts %ms", "22/Nov/2026:20:04:57 +0000|22/Nov/2026:20:04:57 +0000|1795377897 907"),
        ("%Th/%Ti/%Tq/%TR/%Tw/%Tc/%Tr/%Td/%Ta/%Tt", "3/4/17/10/20/30/40/1000/1100/1107"),
        ("%ST %B %U %ts %tsc %rc", "503 1234 567 sH sH-- 2"),
        ("%HM %HP %HQ %HU %HV", "POST /%41b/../c ?x=1&y=%20 /%41b/../c?x=1&y=%20 HTTP/2.0"),
        ("%r|%{+Q}r", "POST /%41b/../c?x=1&y=%20 HTTP/2.0|\"POST /%41b/../c?x=1&y=%20 HTTP/2.0\""),
        ("%{+Q}o %HM %{-Q}HV %CC", " \"POST\" HTTP/2.0 \"-\""),
        ("%ID %sslv %sslc %pid %H", "00000000000000ab TLSv1.3 TLS_AES_128_GCM_SHA256 42 box"),
    ] {
        check(format, &full, expected);
    }
    for (served_by, expected) in [
        (ServedBy::Files, "web/<FILES>"),
        (ServedBy::Worker, "web/<NOSRV>"),
        (ServedBy::App { app: 0, app_worker: 2 }, "shop/<APP>"),
        (ServedBy::Server { upstream: 9, server: 9 }, "web/<NOSRV>"),
    ] {
        check("%b/%s", &Entry { served_by, ..entry() }, expected);
    }
    // No server of the chosen upstream could be reached.
    check("%b/%s", &Entry { served_by: ServedBy::Worker, upstream: Some(0), ..entry() }, "api/<NOSRV>");
    check("%HP%HQ", &entry(), "/a");
}

#[test]
fn local_time_has_the_offset_of_its_moment() {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let newfoundland = TimeZone::posix("NST3:30").unwrap();
    for (zone, format, seconds, expected) in [
        (&zone, "combined", 1_785_326_136, "[29/Jul/2026:13:55:36 +0200]"),
        (&zone, "combined", 1_767_225_599, "[01/Jan/2026:00:59:59 +0100]"),
        (&zone, "combined", 0, "[01/Jan/1970:01:00:00 +0100]"),
        (&zone, "%T|%Tl", 1_785_326_136, "29/Jul/2026:11:55:36 +0000|29/Jul/2026:13:55:36 +0200"),
        (&newfoundland, "combined", 1_785_326_136, "[29/Jul/2026:08:25:36 -0330]"),
        (&newfoundland, "json", 1_785_326_136, r#"{"time":"2026-07-29T08:25:36.000-03:30","#),
    ] {
        let mut out = Vec::new();
        let entry = Entry { time: UNIX_EPOCH + Duration::from_secs(seconds), duration: Duration::ZERO, ..entry() };
        formatter(format, Escape::Default, zone.clone()).line(&mut out, &entry);
        let line = String::from_utf8(out).unwrap();
        assert!(line.contains(expected), "{expected} in {line}");
    }
}

#[test]
fn the_stamp_changes_with_the_second_and_only_then() {
    let mut formatter = formatter("combined", Escape::Default, TimeZone::UTC);
    let mut out = Vec::new();
    for millis in [1_000, 1_999, 2_000, 1_500] {
        formatter.line(&mut out, &Entry { time: UNIX_EPOCH + Duration::from_millis(millis), ..entry() });
    }
    let text = String::from_utf8(out).unwrap();
    let seconds: Vec<&str> = text.lines().map(|line| &line[33..35]).collect();
    assert_eq!(seconds, ["01", "01", "02", "01"]);
}

#[test]
fn json_lines_byte_for_byte() {
    let upstream = ServedBy::Server { upstream: 0, server: 1 };
    let entry = Entry {
        target: b"/\"q\\\n\x7f\xc3\xa9\xff!",
        referer: Some(b""),
        user_agent: Some("größer".as_bytes()),
        served_by: upstream,
        ..entry()
    };
    assert_eq!(
        line_in("json", &entry),
        concat!(
            r#"{"time":"2026-11-22T20:04:59.007+00:00","remote_addr":"127.0.0.1","method":"GET","#,
            r#""target":"/\"q\\\u000a\u007fé"#,
            "\u{fffd}",
            r#"!","protocol":"HTTP/1.1","status":200,"body_bytes":5,"duration_us":1234,"referer":"","#,
            r#""user_agent":"größer","host":"x","request_id":"00000000000000ab","worker":3,"#,
            r#""served_by":"upstream:api/unix:/run/b\"2.sock","#,
            r#""remote_port":null,"remote_user":null,"peer_addr":"127.0.0.1","listener":"web","site":null,"#,
            r#""scheme":"http","tls_version":null,"tls_cipher":null,"tls_server_name":null,"tls_resumed":null,"#,
            r#""tls_client":null,"bytes_received":0,"bytes_sent":0,"coding":null,"bytes_before_coding":null,"#,
            r#""connection":0,"connection_requests":0,"upstream":"api","server":"unix:/run/b\"2.sock","#,
            r#""upstream_status":null,"tries":0,"read_us":null,"queue_us":null,"connect_us":null,"#,
            r#""response_us":null,"active_us":1234,"termination":"--"}"#,
            "\n"
        )
    );
}

fn json_in(format: &str, entry: &Entry<'_>) -> serde_json::Value {
    let line = bytes_in(format, Escape::Json, entry);
    serde_json::from_slice(&line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&line)))
}

#[test]
fn a_json_format_of_ones_own_has_numbers_texts_and_null() {
    let head = parsed();
    let full = full(&TLS, &head, HEAD);
    let format = r#"{"s":$status,"t":$request_time,"x":$http_x_thing,"n":$http_none,"in":"<$http_x_thing$http_none>",
        "r":$tls_resumed,"q":%{+Q}r,"ta":%Ta,"g":$gzip_ratio,"m":$msec,"st":%ST}"#;
    let format = format.replace('\n', "");
    let json = json_in(&format, &full);
    let expected = serde_json::json!({
        "s": 503, "t": 1.1, "x": "a\"1, 2", "n": null, "in": "<a\"1, 2>", "r": true,
        "q": "POST /%41b/../c?x=1&y=%20 HTTP/2.0", "ta": 1100, "g": 2.35, "m": 1_795_377_899.007, "st": 503,
    });
    assert_eq!(json, expected);
    // Numbers of JSON have no leading zeros.
    let none = json_in(&format, &Entry { status: 0, ..entry() });
    assert_eq!((&none["s"], &none["st"], &none["g"]), (&0.into(), &(-1).into(), &serde_json::Value::Null));
}

#[test]
fn every_kind_of_answerer_gives_json_that_parses() {
    for (served_by, text) in [
        (ServedBy::Worker, "worker"),
        (ServedBy::Files, "files"),
        (ServedBy::App { app: 0, app_worker: 12 }, "app:shop/12"),
        (ServedBy::App { app: 9, app_worker: 1 }, "app:/1"),
        (ServedBy::Server { upstream: 1, server: 0 }, "upstream:plain/[::1]:8080"),
        (ServedBy::Server { upstream: 9, server: 9 }, "upstream:/"),
    ] {
        let json = json_in("json", &Entry { served_by, host: None, ..entry() });
        assert_eq!((&json["served_by"], &json["host"]), (&text.into(), &serde_json::Value::Null));
    }
}

#[test]
fn a_request_without_anything_and_the_largest_numbers_have_a_line() {
    let entry = Entry { method: b"", target: b"", protocol: b"", status: 0, body_bytes: u64::MAX, ..entry() };
    check("combined", &entry, r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "" 000 18446744073709551615 "-" "-""#);
    let most = Some(Duration::MAX);
    let timers =
        Timers { handshake: most, idle: most, read: most, queue: most, connect: most, response: most, active: most };
    let coding = Some(Coding { name: b"br", bytes_before: u64::MAX });
    let entry = Entry { request_id: u64::MAX, duration: Duration::MAX, timers, coding, body_bytes: 1, ..entry };
    let json = json_in("json", &entry);
    assert_eq!((&json["request_id"], &json["duration_us"]), (&"ffffffffffffffff".into(), &u64::MAX.into()));
    check("%Tt %Td %Tq $gzip_ratio", &entry, "18446744073709551615 0 18446744073709551615 18446744073709551615.00");
    line_in("haproxy", &entry);
    line_in("haproxy", &Entry { time: UNIX_EPOCH, ..entry });
}

#[test]
fn a_line_allocates_nothing_when_the_buffer_has_room() {
    let head = parsed();
    let full = full(&TLS, &head, HEAD);
    let own = "$uri $host $http_x_thing $cookie_t $sent_http_x_a $arg_y %tr %Tl $time_iso8601 $gzip_ratio";
    for format in ["combined", "common", "json", "haproxy", own] {
        let mut formatter = formatter(format, Escape::Default, TimeZone::UTC);
        let mut out = Vec::with_capacity(64 * 1024);
        formatter.line(&mut out, &full); // the stamps and the scratch buffer
        let (count, ()) = crate::runtime::sys::allocations::count(|| {
            for _ in 0..10 {
                formatter.line(&mut out, &full);
            }
        });
        assert_eq!(count, 0, "{format}");
    }
}

/// Every name there is, between separators that no value may hold.
fn everything() -> String {
    let variables = Template::variables().map(|name| format!("${name}"));
    let directives = Template::directives().filter(|name| !name.starts_with("hr") && !name.starts_with("hs"));
    let looked_up = ["$http_x_thing", "$sent_http_x", "$cookie_sid", "$arg_x"].map(String::from);
    let all = variables.chain(directives.map(|name| format!("%{name}"))).chain(looked_up);
    all.collect::<Vec<_>>().join("\t")
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// Fields of an entry that come from outside, as any bytes.
#[derive(Clone, Debug)]
struct Outside {
    texts: [Vec<u8>; 12],
    optional: [Option<Vec<u8>>; 6],
    status: u16,
    id: u64,
}

fn outside() -> impl Strategy<Value = Outside> {
    // Bytes that mean something to somebody, more often than chance would have it.
    let byte = prop_oneof![any::<u8>(), prop::sample::select(&b"\r\n\t\"\\#%$?&=;,: {}\x1b\x7f\x00\xc2\x85\x9b"[..])];
    let text = prop::collection::vec(byte, 0..24);
    let texts = prop::array::uniform12(text.clone());
    (texts, prop::array::uniform6(prop::option::of(text)), any::<u16>(), any::<u64>())
        .prop_map(|(texts, optional, status, id)| Outside { texts, optional, status, id })
}

impl Outside {
    fn with<T>(&self, use_it: impl FnOnce(&Entry<'_>) -> T) -> T {
        let [addr, peer, local, method, target, protocol, fields, version, cipher, coding, name, value] = &self.texts;
        let [user, referer, agent, host, sni, subject] = &self.optional;
        let tls = TlsFacts {
            version,
            cipher,
            server_name: sni.as_deref(),
            alpn: sni.as_deref(),
            resumed: self.id.is_multiple_of(2),
            verify: sni.as_deref().unwrap_or_default(),
            client: subject.as_deref().map(|text| ClientFacts {
                subject: text,
                issuer: text,
                serial: text,
                fingerprint: text,
            }),
        };
        // A head whose fields hold any bytes, which the parser would never let through.
        let bytes = [&b"x-thingcookie"[..], value, b"sid=", name].concat();
        let end = bytes.len();
        let field = |name: std::ops::Range<usize>, value: std::ops::Range<usize>| crate::http::h1::Field {
            known: crate::http::h1::FieldName::Other,
            name: name.into(),
            value: value.into(),
        };
        let fields_of_head = vec![field(0..7, 13..13 + value.len()), field(7..13, 13 + value.len()..end)];
        let head = RequestHead { fields: fields_of_head, ..RequestHead::default() };
        let block = [b"X: ", &fields[..]].concat();
        use_it(&Entry {
            remote_addr: addr,
            remote_user: user.as_deref(),
            peer_addr: peer,
            proxy_protocol_addr: Some(peer),
            local_addr: local,
            scheme: protocol,
            tls: Some(&tls),
            method,
            target,
            protocol,
            head: Some((&head, &bytes)),
            referer: referer.as_deref(),
            user_agent: agent.as_deref(),
            host: host.as_deref(),
            status: self.status,
            response_fields: &block,
            coding: Some(Coding { name: coding, bytes_before: self.id }),
            request_id: self.id,
            connection: self.id,
            time: UNIX_EPOCH + Duration::from_millis(self.id >> 16),
            duration: Duration::from_micros(self.id >> 20),
            ..entry()
        })
    }
}

/// Undoes `\xHH`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        out.push(u8::from_str_radix(&rest[at + 2..at + 4], 16).unwrap());
        rest = &rest[at + 4..];
    }
    [out, rest.as_bytes().to_vec()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_bytes_in_any_field_give_one_line_without_control_bytes(outside in outside()) {
        let everything = everything();
        for format in [everything.as_str(), "combined", "common", "json", "haproxy"] {
            for escape in [Escape::Default, Escape::Json, Escape::None] {
                let line = outside.with(|entry| bytes_in(format, escape, entry));
                let (end, line) = line.split_last().unwrap();
                assert_eq!(*end, b'\n');
                let tabs = if format == everything { everything.matches('\t').count() } else { 0 };
                let controls = line.iter().filter(|byte| is_control(**byte)).count();
                assert_eq!(controls, tabs, "{}", String::from_utf8_lossy(line));
                // Nor what Unicode calls so, for readers that decode.
                let text = String::from_utf8_lossy(line);
                assert!(!text.chars().any(|c| (c.is_control() && c != '\t') || "\u{2028}\u{2029}".contains(c)));
            }
        }
    }

    #[test]
    fn any_bytes_give_json_that_parses(outside in outside()) {
        outside.with(|entry| {
            let json = json_in("json", entry);
            assert_eq!(json["target"], String::from_utf8_lossy(entry.target).as_ref());
            assert_eq!(json["status"], entry.status);
            let mut names = everything();
            let list = |between: &str| format!("[{}]", names.split('\t').collect::<Vec<_>>().join(between));
            let count = names.split('\t').count();
            assert_eq!(json_in(&list(","), entry).as_array().unwrap().len(), count);
            names = names.split('\t').map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join("\t");
            let quoted = format!("[{}]", names.replace('\t', ","));
            assert!(json_in(&quoted, entry).as_array().unwrap().iter().all(serde_json::Value::is_string));
        });
    }

    #[test]
    fn combined_parses_back(outside in outside()) {
        let form = regex::Regex::new(
            r#"^([ -~]*) - ([ -~]*) \[(\d\d/[A-Z][a-z]{2}/\d{4,}:\d\d:\d\d:\d\d [+-]\d{4})\] "([^"]*)" (\d{3}) (\d+) "([^"]*)" "([^"]*)"\n$"#,
        ).unwrap();
        outside.with(|entry| {
            let line = line_in("combined", entry);
            let parts = form.captures(&line).unwrap_or_else(|| panic!("{line}"));
            let or_hyphen = |value: Option<&[u8]>| value.unwrap_or(b"-").to_vec();
            assert_eq!(unescaped(&parts[7]), or_hyphen(entry.referer));
            assert_eq!(unescaped(&parts[8]), or_hyphen(entry.user_agent));
            let line = [entry.method, entry.target, entry.protocol];
            let line: Vec<&[u8]> = line.into_iter().filter(|part| !part.is_empty()).collect();
            assert_eq!(unescaped(&parts[4]), line.join(&b' '));
            assert_eq!(parts[5], format!("{:03}", entry.status % 1000));
        });
    }
}
