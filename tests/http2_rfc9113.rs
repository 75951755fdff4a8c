//! What RFC 9113 demands of a server, case by case, at the real binary: frames, states of streams, messages.
//!
//! Every case has a connection of its own. Where the text asks for a stream error, ending the connection is allowed as well
//! (section 5.4.1); where it names FRAME_SIZE_ERROR or another narrow code, PROTOCOL_ERROR says the same less precisely and
//! is taken too.

mod support;

use std::time::Duration;

use support::frames::*;
use support::*;

/// What must come of a case's frames on stream 1.
enum Expect {
    /// The connection is given up.
    Connection(u32),
    /// The stream is reset with this code and the connection goes on; or the connection is given up.
    Stream(u32),
    /// A malformed message: as for `Stream` with PROTOCOL_ERROR, or an answer that says it is the client's fault (section
    /// 8.1.1).
    Malformed,
    /// As `Malformed`, or the request is answered as if the offending field were not there: the `h2` crate drops it before
    /// anybody could object.
    Dropped,
    /// The request is answered.
    Answer(u16),
    /// Nothing, and the connection is in order.
    Nothing,
}

use Expect::{Answer, Connection, Dropped, Malformed, Nothing, Stream};

struct Case {
    section: &'static str,
    what: &'static str,
    send: Vec<u8>,
    expect: Expect,
}

fn case(section: &'static str, what: &'static str, send: impl Into<Vec<u8>>, expect: Expect) -> Case {
    Case { section, what, send: send.into(), expect }
}

/// A request that is under way for a while.
fn slow(flags: u8) -> Vec<u8> {
    headers(1, flags, &Block::get("/app/slow?ms=3000"))
}

/// A request whose body is awaited.
fn open() -> Vec<u8> {
    headers(1, END_HEADERS, &Block::post("/app/size"))
}

/// A whole request of one block.
fn whole(block: Block) -> Vec<u8> {
    headers(1, WHOLE, &block)
}

fn frames(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Sections 4 and 5: frames, header blocks, streams.
fn frame_cases() -> Vec<Case> {
    let get = || whole(Block::get("/"));
    let reserved = frame(HEADERS, WHOLE, 1 | 1 << 31, &Block::get("/").0);
    vec![
        case("4.1", "a frame of unknown kind is ignored", frame(0xbc, 0xff, 1, "what"), Nothing),
        case("4.1", "flags without a meaning are ignored", frame(PING, 0xfe, 0, "12345678"), Nothing),
        case("4.1", "the reserved bit of an identifier is ignored", reserved, Answer(200)),
        case("4.2", "DATA of 16 KiB", frames(&[&open(), &data(1, END_STREAM, [0; 16 << 10])]), Answer(200)),
        case(
            "4.2",
            "DATA of more than 16 KiB",
            frames(&[&open(), &data(1, 0, [0; (16 << 10) + 1])]),
            Stream(FRAME_SIZE_ERROR),
        ),
        case(
            "4.2",
            "HEADERS of more than 16 KiB",
            whole(Block::get("/").field("a", "b".repeat(17_000))),
            Connection(FRAME_SIZE_ERROR),
        ),
        case("4.3", "an index beyond the table", whole(Block::get("/").indexed(70)), Connection(COMPRESSION_ERROR)),
        case("4.3", "index 0", whole(Block::get("/").indexed(0)), Connection(COMPRESSION_ERROR)),
        case(
            "4.3",
            "a table larger than allowed",
            whole(Block(Block::default().table_size(1 << 20).0.into_iter().chain(Block::get("/").0).collect())),
            Connection(COMPRESSION_ERROR),
        ),
        case(
            "4.3",
            "a field that is cut off",
            headers(1, WHOLE, &Block([&Block::get("/").0[..], &[0, 9]].concat())),
            Connection(COMPRESSION_ERROR),
        ),
        case(
            "4.3",
            "PING within a header block",
            frames(&[&headers(1, END_STREAM, &Block::get("/")), &ping(b"12345678")]),
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "4.3",
            "an unknown frame within a header block",
            frames(&[&headers(1, END_STREAM, &Block::get("/")), &frame(0xbc, 0, 0, "")]),
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "4.3",
            "HEADERS of another stream within a header block",
            frames(&[&headers(1, END_STREAM, &Block::get("/")), &headers(3, WHOLE, &Block::get("/"))]),
            Connection(PROTOCOL_ERROR),
        ),
        case("5.1", "DATA on an idle stream", data(1, 0, "x"), Connection(PROTOCOL_ERROR)),
        case("5.1", "RST_STREAM on an idle stream", rst(1, CANCEL), Connection(PROTOCOL_ERROR)),
        case("5.1", "WINDOW_UPDATE on an idle stream", window_update(1, 100), Connection(PROTOCOL_ERROR)),
        case("5.1", "PRIORITY on an idle stream", priority(1, 0), Nothing),
        case("5.1", "DATA on a half-closed stream", frames(&[&slow(WHOLE), &data(1, 0, "x")]), Stream(STREAM_CLOSED)),
        case("5.1", "HEADERS on a half-closed stream", frames(&[&slow(WHOLE), &slow(WHOLE)]), Stream(STREAM_CLOSED)),
        case(
            "5.1",
            "WINDOW_UPDATE and PRIORITY on a half-closed stream",
            frames(&[&get(), &window_update(1, 9), &priority(1, 0)]),
            Answer(200),
        ),
        case(
            "5.1",
            "HEADERS after RST_STREAM",
            frames(&[&slow(WHOLE), &rst(1, CANCEL), &slow(WHOLE)]),
            Connection(STREAM_CLOSED),
        ),
        case("5.1.1", "an even stream", headers(2, WHOLE, &Block::get("/")), Connection(PROTOCOL_ERROR)),
        case(
            "5.1.1",
            "a stream below the last one",
            frames(&[&headers(3, WHOLE, &Block::get("/")), &get()]),
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "5.1.1",
            "streams that are left out",
            frames(&[&get(), &headers(99, WHOLE, &Block::get("/"))]),
            Answer(200),
        ),
        case("5.5", "a frame on a stream that is idle", frame(0xbc, 0, 77, ""), Nothing),
    ]
}

/// Section 6: what each kind of frame may say.
fn kind_cases() -> Vec<Case> {
    let get = || Block::get("/").0;
    let one_setting = |key, value| settings(&[(key, value)]);
    let with_length = |length: usize| frame(SETTINGS, 0, 0, vec![0; length]);
    let grown =
        frames(&[&slow(WHOLE), &window_update(1, 0x7fff_ffff - 65_535), &one_setting(INITIAL_WINDOW_SIZE, 65_536)]);
    vec![
        case("6.1", "DATA on the connection", data(0, 0, "x"), Connection(PROTOCOL_ERROR)),
        case("6.1", "padding", frames(&[&open(), &data(1, PADDED | END_STREAM, b"\x02abc\0\0")]), Answer(200)),
        case("6.1", "padding as long as the payload", frames(&[&open(), &data(1, PADDED, b"\x05abc\0\0")]), Nothing),
        case(
            "6.1",
            "more padding than payload",
            frames(&[&open(), &data(1, PADDED, b"\x06abc\0\0")]),
            Connection(PROTOCOL_ERROR),
        ),
        case("6.2", "HEADERS on the connection", headers(0, WHOLE, &Block::get("/")), Connection(PROTOCOL_ERROR)),
        case(
            "6.2",
            "padding and priority",
            frame(HEADERS, WHOLE | PADDED | WITH_PRIORITY, 1, [b"\x03\0\0\0\0\x0f", &get()[..], &[0; 3]].concat()),
            Answer(200),
        ),
        case(
            "6.2",
            "more padding than payload",
            frame(HEADERS, WHOLE | PADDED, 1, [&[200], &get()[..]].concat()),
            Connection(PROTOCOL_ERROR),
        ),
        case("6.3", "PRIORITY on the connection", priority(0, 1), Connection(PROTOCOL_ERROR)),
        case(
            "6.3",
            "PRIORITY of four bytes",
            frames(&[&slow(WHOLE), &frame(PRIORITY, 0, 1, [0; 4])]),
            Stream(FRAME_SIZE_ERROR),
        ),
        case("6.4", "RST_STREAM on the connection", rst(0, CANCEL), Connection(PROTOCOL_ERROR)),
        case(
            "6.4",
            "RST_STREAM of three bytes",
            frames(&[&slow(WHOLE), &frame(RST_STREAM, 0, 1, [0; 3])]),
            Connection(FRAME_SIZE_ERROR),
        ),
        case("6.4", "RST_STREAM with an unknown code", frames(&[&slow(WHOLE), &rst(1, 0xffff)]), Nothing),
        case("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1, ""), Connection(PROTOCOL_ERROR)),
        case("6.5", "SETTINGS of five bytes", with_length(5), Connection(FRAME_SIZE_ERROR)),
        case("6.5", "an acknowledgement with payload", frame(SETTINGS, ACK, 0, [0; 6]), Connection(FRAME_SIZE_ERROR)),
        case("6.5.2", "an unknown setting", one_setting(0xabcd, 7), Nothing),
        case("6.5.2", "ENABLE_PUSH of 2", one_setting(ENABLE_PUSH, 2), Connection(PROTOCOL_ERROR)),
        case(
            "6.5.2",
            "INITIAL_WINDOW_SIZE too large",
            one_setting(INITIAL_WINDOW_SIZE, 1 << 31),
            Connection(FLOW_CONTROL_ERROR),
        ),
        case("6.5.2", "MAX_FRAME_SIZE too small", one_setting(MAX_FRAME_SIZE, 16_383), Connection(PROTOCOL_ERROR)),
        case("6.5.2", "MAX_FRAME_SIZE too large", one_setting(MAX_FRAME_SIZE, 1 << 24), Connection(PROTOCOL_ERROR)),
        case(
            "6.6",
            "PUSH_PROMISE of a client",
            frames(&[&slow(END_HEADERS), &frame(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2][..], &get()].concat())]),
            Connection(PROTOCOL_ERROR),
        ),
        case("6.7", "PING on a stream", frame(PING, 0, 1, "12345678"), Connection(PROTOCOL_ERROR)),
        case("6.7", "PING of seven bytes", frame(PING, 0, 0, "1234567"), Connection(FRAME_SIZE_ERROR)),
        case("6.7", "an acknowledgement nobody waits for", frame(PING, ACK, 0, "12345678"), Nothing),
        case("6.8", "GOAWAY on a stream", goaway(1, 0, NO_ERROR), Connection(PROTOCOL_ERROR)),
        case("6.9", "WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 0, [0; 3]), Connection(FRAME_SIZE_ERROR)),
        case("6.9", "WINDOW_UPDATE of zero on the connection", window_update(0, 0), Connection(PROTOCOL_ERROR)),
        case(
            "6.9",
            "WINDOW_UPDATE of zero on a stream",
            frames(&[&slow(WHOLE), &window_update(1, 0)]),
            Stream(PROTOCOL_ERROR),
        ),
        case(
            "6.9.1",
            "the connection's window overflows",
            window_update(0, 0x7fff_ffff),
            Connection(FLOW_CONTROL_ERROR),
        ),
        case(
            "6.9.1",
            "a stream's window overflows",
            frames(&[&slow(WHOLE), &window_update(1, 0x7fff_ffff)]),
            Stream(FLOW_CONTROL_ERROR),
        ),
        case("6.9.2", "a setting makes a stream's window overflow", grown, Connection(FLOW_CONTROL_ERROR)),
        case(
            "6.10",
            "CONTINUATION",
            frames(&[
                &frame(HEADERS, END_STREAM, 1, &get()[..5]),
                &continuation(1, 0, &get()[5..9]),
                &continuation(1, END_HEADERS, &get()[9..]),
            ]),
            Answer(200),
        ),
        case(
            "6.10",
            "CONTINUATION on the connection",
            frames(&[&headers(1, END_STREAM, &Block::get("/")), &continuation(0, END_HEADERS, "")]),
            Connection(PROTOCOL_ERROR),
        ),
        case(
            "6.10",
            "CONTINUATION of another stream",
            frames(&[&headers(1, END_STREAM, &Block::get("/")), &continuation(3, END_HEADERS, "")]),
            Connection(PROTOCOL_ERROR),
        ),
        case("6.10", "CONTINUATION of nothing", continuation(1, END_HEADERS, ""), Connection(PROTOCOL_ERROR)),
        case(
            "6.10",
            "CONTINUATION behind the end",
            frames(&[&slow(WHOLE), &continuation(1, END_HEADERS, "")]),
            Connection(PROTOCOL_ERROR),
        ),
    ]
}

/// Section 8: requests.
fn message_cases() -> Vec<Case> {
    let get = || Block::get("/");
    let trailers = |block: Block, flags: u8| frames(&[&open(), &data(1, 0, "abc"), &headers(1, flags, &block)]);
    let only = |fields: &[(&str, &str)]| {
        whole(fields.iter().fold(Block::default(), |block, (name, value)| block.field(name, value)))
    };
    let upload = |length: &str, body: &str| {
        let post = Block::post("/app/size").field("content-length", length);
        frames(&[&headers(1, END_HEADERS, &post), &data(1, END_STREAM, body)])
    };
    let two = Block::post("/app/size").field("content-length", "5").field("content-length", "6");
    let two_lengths = frames(&[&headers(1, END_HEADERS, &two), &data(1, END_STREAM, "hello")]);
    let mut cases = vec![
        case("8.1", "trailers", trailers(Block::default().field("a", "b"), WHOLE), Answer(200)),
        case("8.1", "trailers without an end", trailers(Block::default().field("a", "b"), END_HEADERS), Malformed),
        case("8.1.1", "content-length equal to the body", upload("5", "hello"), Answer(200)),
        case("8.1.1", "content-length less than the body", upload("4", "hello"), Malformed),
        case("8.1.1", "content-length more than the body", upload("6", "hello"), Malformed),
        case("8.1.1", "content-length of zero and a body", upload("0", "hello"), Malformed),
        case(
            "8.1.1",
            "content-length without a body",
            whole(Block::post("/app/size").field("content-length", "5")),
            Malformed,
        ),
        case("8.1.1", "two content-lengths that differ", two_lengths, Malformed),
        case("8.2.1", "an upper-case name", whole(get().field("X-Upper", "a")), Malformed),
        case("8.2.1", "a space in a name", whole(get().field("a b", "c")), Malformed),
        case("8.2.1", "a colon in a name", whole(get().field("a:b", "c")), Malformed),
        case("8.2.1", "a name that is empty", whole(get().field("", "c")), Malformed),
        case("8.2.1", "CR in a value", whole(get().field("a", "b\rc")), Malformed),
        case("8.2.1", "LF in a value", whole(get().field("a", "b\nc: d")), Malformed),
        case("8.2.1", "NUL in a value", whole(get().field("a", "b\0c")), Malformed),
        case("8.2.1", "a space before a value", whole(get().field("a", " b")), Malformed),
        case("8.2.2", "te: trailers", whole(get().field("te", "trailers")), Answer(200)),
        case("8.2.2", "te: gzip", whole(get().field("te", "gzip")), Malformed),
        case(
            "8.2.3",
            "cookies in several fields",
            whole(get().field("cookie", "a=b").field("cookie", "c=d")),
            Answer(200),
        ),
        case("8.3", "an unknown pseudo-header field", whole(get().field(":foo", "bar")), Malformed),
        case("8.3", "a pseudo-header field of answers", whole(get().field(":status", "200")), Malformed),
        case(
            "8.3",
            "a pseudo-header field behind others",
            only(&[(":method", "GET"), (":scheme", "http"), ("a", "b"), (":path", "/"), (":authority", "test")]),
            Malformed,
        ),
        case(
            "8.3",
            "a pseudo-header field in trailers",
            trailers(Block::default().field(":path", "/"), WHOLE),
            Dropped,
        ),
        case("8.3.1", "no :method", only(&[(":scheme", "http"), (":path", "/"), (":authority", "test")]), Malformed),
        case("8.3.1", "no :scheme", only(&[(":method", "GET"), (":path", "/"), (":authority", "test")]), Malformed),
        case("8.3.1", "no :path", only(&[(":method", "GET"), (":scheme", "http"), (":authority", "test")]), Malformed),
        case(
            "8.3.1",
            "an empty :path",
            only(&[(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "test")]),
            Malformed,
        ),
        case(
            "8.3.1",
            "a :path without a slash",
            only(&[(":method", "GET"), (":scheme", "http"), (":path", "x"), (":authority", "test")]),
            Malformed,
        ),
        case(
            "8.3.1",
            "host instead of :authority",
            only(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "test")]),
            Answer(200),
        ),
        case(
            "8.3.1",
            "neither host nor :authority",
            only(&[(":method", "GET"), (":scheme", "http"), (":path", "/")]),
            Malformed,
        ),
        case("8.3.1", "host differs from :authority", whole(get().field("host", "other")), Malformed),
        case(
            "8.3.1",
            "userinfo in :authority",
            only(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a@test")]),
            Malformed,
        ),
        case(
            "8.5",
            "CONNECT with :path",
            only(&[(":method", "CONNECT"), (":authority", "test:80"), (":path", "/"), (":scheme", "http")]),
            Malformed,
        ),
        case("8.5", "CONNECT without :authority", only(&[(":method", "CONNECT")]), Malformed),
    ];
    for name in [":method", ":scheme", ":path", ":authority"] {
        let value = if name == ":method" { "GET" } else { "/" };
        cases.push(case("8.3", "a pseudo-header field twice", whole(get().field(name, value)), Malformed));
    }
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
    ] {
        cases.push(case("8.2.2", "a field of the connection", whole(get().field(name, value)), Malformed));
    }
    cases
}

/// What is wrong with the outcome of a case, if anything.
fn complaint(expect: &Expect, outcome: &Outcome) -> Option<String> {
    let is_code = |wanted: u32, code: u32| code == wanted || code == PROTOCOL_ERROR;
    let is_good = match (expect, outcome) {
        (Connection(wanted) | Stream(wanted), Outcome::Goaway(code)) => is_code(*wanted, *code),
        (Stream(wanted), Outcome::Reset(code)) => is_code(*wanted, *code),
        // What cannot be decompressed or is no field at all may end the connection.
        (Malformed, Outcome::Goaway(code)) => is_code(COMPRESSION_ERROR, *code),
        (Malformed, Outcome::Reset(code)) => *code == PROTOCOL_ERROR,
        (Malformed, Outcome::Answer(status)) => (400..500).contains(status),
        (Dropped, outcome) => *outcome == Outcome::Answer(200) || complaint(&Malformed, outcome).is_none(),
        (Answer(wanted), Outcome::Answer(status)) => status == wanted,
        (Nothing, Outcome::Silence) => true,
        _ => false,
    };
    (!is_good).then(|| format!("{outcome:?}"))
}

fn site(driver: Driver) -> Server {
    let site = "[site.main]\nhosts = [\"test\"]\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"root\" }\n\
         [[site.main.route]]\npath = \"/app/\"\napp = \"probe\"\n[app.probe]\n";
    Site::probe(driver, site).start()
}

#[test]
fn every_rule_is_kept() {
    with_both_drivers(|driver| {
        let server = site(driver);
        let mut complaints = Vec::new();
        for case in [frame_cases(), kind_cases(), message_cases()].into_iter().flatten() {
            let mut client = Http2::connect(server.web());
            client.send(&case.send);
            let patience = if matches!(case.expect, Nothing) { Duration::from_millis(150) } else { PATIENCE };
            let outcome = client.outcome_within(1, patience);
            if let Some(found) = complaint(&case.expect, &outcome) {
                complaints.push(format!("section {}, {}: {found}", case.section, case.what));
            } else if !matches!(outcome, Outcome::Goaway(_) | Outcome::Ended(_)) {
                client.assert_alive(101, "/");
            }
        }
        assert!(complaints.is_empty(), "{driver:?}:\n{}", complaints.join("\n"));
        server.wait_until_no_client();
        assert_eq!(server.metric("one_server_http2_floods_total", ""), 0.0, "one mistake is no flood");
    });
}

/// Section 3.4: what is no preface is no HTTP/2.
#[test]
fn another_preface_is_refused() {
    with_both_drivers(|driver| {
        let server = site(driver);
        for preface in
            ["PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", "PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n"]
        {
            let mut client = Http2::raw(server.web());
            client.send(preface).send(settings(&[])).send(headers(1, WHOLE, &Block::get("/")));
            let (answer, _) = client.read_to_end();
            let text = String::from_utf8_lossy(&answer);
            assert!(!text.contains("root"), "{driver:?} {preface:?}: {text}");
        }
        server.wait_until_no_client();
    });
}

/// Section 5.1.2: streams beyond the limit are refused, the others are served.
#[test]
fn streams_beyond_the_limit_are_refused() {
    with_both_drivers(|driver| {
        let server = site(driver);
        let mut client = Http2::connect(server.web());
        let open: Vec<u8> = (0..101).flat_map(|n| headers(2 * n + 1, END_HEADERS, &Block::post("/app/size"))).collect();
        client.send(open);
        assert_eq!(client.outcome(201), Outcome::Reset(REFUSED_STREAM), "{driver:?}");
        for n in 0..100 {
            client.send(data(2 * n + 1, END_STREAM, "abc"));
        }
        for n in 0..100 {
            assert_eq!(client.answer(2 * n + 1).text(), "3 bytes", "{driver:?}");
        }
        client.assert_alive(301, "/");
    });
}

/// Section 6.9: not one byte more than the window.
#[test]
fn windows_are_kept() {
    with_both_drivers(|driver| {
        let server = site(driver);
        let mut client = Http2::connect_with(server.web(), &[(INITIAL_WINDOW_SIZE, 0)]);
        client.send(headers(1, WHOLE, &Block::get("/app/large?bytes=100000")));
        let wait = Duration::from_millis(300);
        let took = |client: &mut Http2| {
            let mut total = 0;
            while let Some(frame) = client.next_within(wait) {
                assert!(
                    frame.kind != DATA || !frame.payload.is_empty() || frame.has(END_STREAM),
                    "{driver:?}: {frame:?}"
                );
                total += if frame.kind == DATA { frame.payload.len() } else { 0 };
            }
            total
        };
        assert_eq!(took(&mut client), 0, "{driver:?}");
        client.send(window_update(1, 1));
        assert_eq!(took(&mut client), 1, "{driver:?}");
        client.send(window_update(1, 20_000));
        assert_eq!(took(&mut client), 20_000, "{driver:?}");
        // A setting changes the windows of open streams too (section 6.9.2), and may make them negative.
        client.send(settings(&[(INITIAL_WINDOW_SIZE, 10_000)]));
        assert_eq!(took(&mut client), 10_000, "{driver:?}");
        client.send(settings(&[(INITIAL_WINDOW_SIZE, 0)])).send(window_update(1, 10_100));
        assert_eq!(took(&mut client), 100, "{driver:?}");
        // The connection's window stops the rest: 65,535 in all.
        client.send(window_update(1, 100_000));
        assert_eq!(took(&mut client), 65_535 - 30_101, "{driver:?}");
        client.send(window_update(0, 100_000));
        assert_eq!(took(&mut client), 100_000 - 65_535, "{driver:?}");
        client.send(settings(&[(INITIAL_WINDOW_SIZE, 65_535)]));
        client.assert_alive(3, "/");
    });
}
