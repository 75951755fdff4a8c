//! Attacks on HTTP/2 at the real binary, each made of raw frames: the connection ends, the metric of its kind tells, memory
//! stays bounded, and an honest client is served all the while.

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::frames::*;
use support::*;

const FLOODS: &str = "one_server_http2_floods_total";

/// Upper bound for what a short time-out may take on a busy machine.
const SOON: Duration = Duration::from_secs(8);

/// What an attack may add to the process's memory: some connections' buffers, not what the attacker wishes.
const GROWTH_MIB: u64 = 48;

/// A server with everything an attack needs; `limits` are lines of `[http]`.
fn start(driver: Driver, limits: &str) -> Server {
    let site = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"root\" }\n\
         [[site.main.route]]\npath = \"/files/\"\nfiles = { root = \"$DIR\", strip_prefix = \"/files\" }\n\
         [[site.main.route]]\npath = \"/app/\"\napp = \"probe\"\n[app.probe]\n";
    Site::probe(driver, site).http(limits).file("big", &pattern(30_000_000)).start()
}

fn floods(server: &Server, kind: &str) -> f64 {
    server.metric(FLOODS, &format!("kind=\"{kind}\""))
}

/// Runs an attack against a new server of each driver. `kinds`: the metrics of which one goes up.
fn check(kinds: &[&str], attack: impl Fn(&mut Http2) + Sync) {
    with_both_drivers(|driver| {
        let server = start(driver, "");
        let counted = || kinds.iter().map(|kind| floods(&server, kind)).sum::<f64>();
        let (before, memory_before) = (counted(), server.resident_mib().1);
        beside_an_honest_client(server.web(), || {
            let mut client = Http2::connect(server.web());
            attack(&mut client);
            // The stream has no meaning here: it is the connection that ends.
            let outcome = client.outcome(u32::MAX);
            assert_eq!(outcome, Outcome::Goaway(ENHANCE_YOUR_CALM), "{driver:?} {kinds:?}");
        });
        assert_eq!(counted(), before + 1.0, "{driver:?} {kinds:?}: {}", server.admin("/metrics"));
        let memory = server.resident_mib().1;
        assert!(memory <= memory_before + GROWTH_MIB, "{driver:?} {kinds:?}: {memory_before} MiB, then {memory}");
        server.wait_until_no_client();
    });
}

/// Runs `work` while another client asks for a page over and over, on one connection and on new ones; every request is
/// answered.
fn beside_an_honest_client<T>(address: SocketAddr, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let honest = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            let mut client = Http2::connect(address);
            for n in 0.. {
                if n % 10 == 9 {
                    client = Http2::connect(address);
                }
                let begin = Instant::now();
                let answer = client.get(2 * n + 1, "/");
                assert_eq!((answer.status, answer.text().as_str()), (200, "root"));
                slowest = slowest.max(begin.elapsed());
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            slowest
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        let slowest = honest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(slowest < SOON, "an honest request took {slowest:?}");
        result
    })
}

/// Frames that are a mistake on the stream they open.
type Mistake = fn(u32) -> Vec<u8>;

/// A request that makes work for a while.
fn slow() -> Block {
    Block::get("/app/slow?ms=5000")
}

/// Stream of the n-th request.
fn id(n: u32) -> u32 {
    2 * n + 1
}

#[test]
fn rapid_reset() {
    // CVE-2023-44487, one by one and many in a segment. Nobody has been answered: the application takes its time.
    check(&["rapid_reset", "rst"], |client| {
        client.flood(|n| {
            let request = headers(id(n), WHOLE, &slow());
            (n < 5000).then(|| [request, rst(id(n), CANCEL)].concat())
        });
    });
    check(&["rapid_reset", "rst"], |client| {
        client.flood(|n| {
            let pair = |n| [headers(id(n), WHOLE, &slow()), rst(id(n), CANCEL)].concat();
            (n < 50).then(|| (100 * n..100 * (n + 1)).flat_map(pair).collect())
        });
    });
}

#[test]
fn resets_of_streams_that_are_answered() {
    check(&["rst", "rapid_reset"], |client| {
        client.flood(|n| {
            let request = headers(id(n), WHOLE, &Block::get("/files/big"));
            (n < 5000).then(|| [request, rst(id(n), CANCEL)].concat())
        });
    });
}

#[test]
fn resets_that_the_server_is_made_to_send() {
    // CVE-2025-8671. Each opens a stream with work behind it and breaks it by a mistake; the server resets the stream and
    // so forgets it, but not the count.
    let mistakes: [(&str, Mistake); 5] = [
        ("window overflow", |id| [headers(id, WHOLE, &slow()), window_update(id, 0x7fff_ffff)].concat()),
        ("depends on itself", |id| [headers(id, WHOLE, &slow()), priority(id, id)].concat()),
        ("content length", |id| {
            let post = Block::post("/app/size").field("content-length", "1");
            [headers(id, END_HEADERS, &post), data(id, END_STREAM, "too long")].concat()
        }),
        ("connection field", |id| headers(id, WHOLE, &slow().field("connection", "close"))),
        ("trailers without an end", |id| {
            let open = headers(id, END_HEADERS, &Block::post("/app/size"));
            [open, headers(id, END_HEADERS, &Block::default().field("a", "b"))].concat()
        }),
    ];
    for (name, mistake) in &mistakes {
        println!("{name}");
        // Some of them are oddities that count on their own as well.
        check(&["made_you_reset", "glitches", "priority"], |client| {
            let sent = client.flood(|n| (n < 3000).then(|| mistake(id(n))));
            assert!(sent < 3000, "{name}: nothing stopped it");
        });
    }
}

/// Mistakes for which RFC 9113 asks for a reset but allows to end the connection at once (section 5.4.1).
#[test]
fn mistakes_that_end_the_connection_or_are_counted() {
    let mistakes: [(&str, &[u32], Mistake); 4] = [
        ("window update of zero", &[PROTOCOL_ERROR], |id| [headers(id, WHOLE, &slow()), window_update(id, 0)].concat()),
        ("DATA after END_STREAM", &[STREAM_CLOSED, PROTOCOL_ERROR], |id| {
            [headers(id, WHOLE, &slow()), data(id, 0, "more")].concat()
        }),
        ("HEADERS after END_STREAM", &[STREAM_CLOSED, PROTOCOL_ERROR], |id| {
            [headers(id, WHOLE, &slow()), headers(id, WHOLE, &slow())].concat()
        }),
        ("window update of zero for the connection", &[PROTOCOL_ERROR], |_| window_update(0, 0)),
    ];
    with_both_drivers(|driver| {
        let server = start(driver, "");
        for (name, codes, mistake) in &mistakes {
            beside_an_honest_client(server.web(), || {
                let before = server.metric(FLOODS, "");
                let mut client = Http2::connect(server.web());
                let sent = client.flood(|n| (n < 3000).then(|| mistake(id(n))));
                assert!(sent < 3000, "{driver:?} {name}: nothing stopped it");
                match client.outcome(u32::MAX) {
                    Outcome::Goaway(ENHANCE_YOUR_CALM) => {
                        assert_eq!(server.metric(FLOODS, ""), before + 1.0, "{driver:?} {name}");
                    }
                    Outcome::Goaway(code) => assert!(codes.contains(&code), "{driver:?} {name}: code {code}"),
                    other => panic!("{driver:?} {name}: {other:?}"),
                }
            });
        }
        server.wait_until_no_client();
    });
}

#[test]
fn streams_beyond_the_limit() {
    // Each is refused; that is a reset too.
    check(&["made_you_reset"], |client| {
        let sent = client.flood(|n| (n < 3000).then(|| headers(id(n), END_HEADERS, &Block::post("/app/size"))));
        assert!((600..3000).contains(&sent), "{sent} streams");
    });
}

#[test]
fn continuation_without_an_end() {
    // CVE-2024-27316: many small ones, few large ones, empty ones.
    for length in [1, 0, 16 << 10] {
        check(&["continuation"], |client| {
            client.send(headers(1, END_STREAM, &Block::get("/")));
            // One long field that goes on and on.
            client.send(continuation(1, 0, [0, 1, b'a', 0x7f, 0xff, 0xff, 0xff, 0x7f]));
            client.flood(|n| (n < 3000).then(|| continuation(1, 0, vec![b'x'; length])));
        });
    }
}

#[test]
fn a_header_block_that_drips_is_stopped_by_the_header_deadline() {
    with_both_drivers(|driver| {
        let server = start(driver, "header_timeout = \"700ms\"");
        beside_an_honest_client(server.web(), || {
            for head in [
                // Waits for CONTINUATION; within HEADERS; within the head of a frame; one byte of the preface.
                [PREFACE, &settings(&[]), &headers(1, END_STREAM, &Block::get("/"))].concat(),
                [PREFACE, &settings(&[]), &headers(1, WHOLE, &Block::get("/"))[..12]].concat(),
                [PREFACE, &settings(&[]), &headers(1, WHOLE, &Block::get("/"))[..5]].concat(),
                PREFACE[..3].to_vec(),
            ] {
                let begin = Instant::now();
                let mut client = Http2::raw(server.web());
                client.send(&head);
                while !client.is_over() && begin.elapsed() < SOON {
                    client.next_within(Duration::from_millis(100));
                }
                assert!(begin.elapsed() < SOON, "{driver:?}: {} bytes keep it open", head.len());
                assert!(begin.elapsed() > Duration::from_millis(600), "{driver:?}: too early");
            }
        });
        server.wait_until_no_client();
    });
}

/// The compression that makes a kilobyte into megabytes: one large entry of the table, named over and over.
#[test]
fn header_bombs() {
    let bomb = |references: usize| {
        let block = Block::get("/").insert("a", vec![b'b'; 3900]);
        (0..references).fold(block, |block, _| block.indexed(62))
    };
    // Far beyond the limit.
    check(&["header_list"], |client| {
        client.send(headers(1, WHOLE, &bomb(4000)));
    });
    // Somewhat beyond: an answer, each time, and no memory.
    with_both_drivers(|driver| {
        let server = start(driver, "");
        let before = server.resident_mib().1;
        beside_an_honest_client(server.web(), || {
            for _ in 0..20 {
                let mut client = Http2::connect(server.web());
                for n in 0..10 {
                    client.send(headers(id(n), WHOLE, &bomb(30)));
                    match client.outcome(id(n)) {
                        Outcome::Answer(431) | Outcome::Reset(_) => {}
                        other => panic!("{driver:?}: {other:?}"),
                    }
                }
            }
        });
        let memory = server.resident_mib().1;
        assert!(memory <= before + GROWTH_MIB, "{driver:?}: {before} MiB, then {memory}");
    });
}

#[test]
fn frames_that_want_an_answer() {
    // CVE-2019-9515, CVE-2019-9512.
    check(&["settings"], |client| {
        client.flood(|n| (n < 3000).then(|| settings(&[(INITIAL_WINDOW_SIZE, 65_535 + n)])));
    });
    check(&["settings"], |client| {
        client.flood(|n| (n < 100).then(|| settings(&[]).repeat(100)));
    });
    check(&["ping"], |client| {
        client.flood(|n| (n < 3000).then(|| ping(&u64::from(n).to_be_bytes())));
    });
    // Nothing of the answers is read.
    check(&["ping"], |client| {
        for _ in 0..100 {
            client.send(ping(b"12345678").repeat(100));
        }
    });
}

#[test]
fn frames_that_say_nothing() {
    // CVE-2019-9518. The `h2` crate has a limit of its own for empty DATA.
    for padding in [&b""[..], &[3, 0, 0, 0]] {
        check(&["empty_data", "small_data"], |client| {
            client.send(headers(1, END_HEADERS, &Block::post("/app/size")));
            let flags = if padding.is_empty() { 0 } else { PADDED };
            client.flood(|n| (n < 3000).then(|| data(1, flags, padding)));
        });
    }
    // CVE-2019-9513, and what is made of nothing at all.
    check(&["priority"], |client| {
        client.flood(|n| (n < 3000).then(|| priority(id(n), 0)));
    });
    check(&["unknown"], |client| {
        client.flood(|n| (n < 3000).then(|| frame(0xbe, 0, 0, "what is this")));
    });
}

#[test]
fn an_answer_taken_byte_by_byte() {
    with_both_drivers(|driver| {
        let server = start(driver, "");
        beside_an_honest_client(server.web(), || {
            let mut client = Http2::connect_with(server.web(), &[(INITIAL_WINDOW_SIZE, 1)]);
            client.send(headers(1, WHOLE, &Block::get("/files/big")));
            let sent = client.flood(|n| (n < 200).then(|| window_update(1, 1).repeat(200)));
            assert!(sent < 200, "{driver:?}: nothing stopped it");
            assert_eq!(client.outcome(u32::MAX), Outcome::Goaway(ENHANCE_YOUR_CALM), "{driver:?}");
        });
        assert_eq!(floods(&server, "window_update"), 1.0, "{driver:?}");
        server.wait_until_no_client();
    });
}

/// Bytes that an answer may hold while nobody takes it: a piece on its way from the application, the one behind it, and
/// what waits in the stream (`process.stream_buffer`, `http2.send_buffer_max`), each in a buffer of its own.
const STALLED_BYTES_MAX: usize = 3 * 64 * 1024;

#[test]
fn answers_that_nobody_takes_are_let_go() {
    const CLIENTS: usize = 4;
    const STREAMS: u32 = 100;
    let growth_mib = GROWTH_MIB + (CLIENTS * STREAMS as usize * STALLED_BYTES_MAX) as u64 / (1024 * 1024);
    with_both_drivers(|driver| {
        let server = start(driver, "write_timeout = \"700ms\"");
        let before = server.resident_mib().1;
        beside_an_honest_client(server.web(), || {
            // The window never opens; or it is wide open but the socket is not read.
            for window in [0, i32::MAX as u32] {
                for path in ["/files/big", "/app/large?bytes=30000000"] {
                    let mut clients: Vec<Http2> =
                        (0..CLIENTS).map(|_| Http2::with_small_window(server.web())).collect();
                    for client in &mut clients {
                        client.greet(&[(INITIAL_WINDOW_SIZE, window)]);
                        client.send(window_update(0, 0x7fff_0000 - 65_535));
                        for n in 0..STREAMS {
                            client.send(headers(id(n), WHOLE, &Block::get(path)));
                        }
                    }
                    let begin = Instant::now();
                    if window == 0 {
                        // The streams end, or the connection with them.
                        for client in &mut clients {
                            let outcome = client.outcome_within(1, SOON);
                            let is_let_go = !matches!(outcome, Outcome::Silence | Outcome::Answer(_));
                            assert!(is_let_go, "{driver:?} {path}: {outcome:?}");
                        }
                    } else {
                        // The honest client's connections are left.
                        let open = || server.metric("one_server_http2_connections", "");
                        eventually("the connections are closed", || open() <= 2.0);
                    }
                    assert!(begin.elapsed() < SOON, "{driver:?} {path} {window}: {:?}", begin.elapsed());
                }
            }
        });
        let memory = server.resident_mib().1;
        assert!(memory <= before + growth_mib, "{driver:?}: {before} MiB, then {memory}");
        server.wait_until_no_client();
    });
}

#[test]
fn idle_streams_end_and_take_nobody_with_them() {
    with_both_drivers(|driver| {
        let server = start(driver, "body_timeout = \"700ms\"");
        let before = server.resident_mib().1;
        beside_an_honest_client(server.web(), || {
            let mut clients: Vec<Http2> = (0..20).map(|_| Http2::connect(server.web())).collect();
            for client in &mut clients {
                for n in 0..100 {
                    client.send(headers(id(n), END_HEADERS, &Block::post("/app/size")));
                }
            }
            let begin = Instant::now();
            for client in &mut clients {
                let outcome = client.outcome_within(id(99), SOON);
                assert!(!matches!(outcome, Outcome::Silence | Outcome::Answer(200)), "{driver:?}: {outcome:?}");
            }
            assert!(begin.elapsed() < SOON, "{driver:?}: {:?}", begin.elapsed());
        });
        let memory = server.resident_mib().1;
        assert!(memory <= before + GROWTH_MIB, "{driver:?}: {before} MiB, then {memory}");
        server.wait_until_no_client();
    });
}

/// Nothing of what a browser or a gRPC client does is taken for an attack.
#[test]
fn honest_clients_are_left_alone() {
    with_both_drivers(|driver| {
        let server = start(driver, "");
        let mut client = Http2::connect(server.web());
        // A page: bursts of requests, some given up on the way, priorities and greased frames between them.
        for burst in 0..20 {
            let ids: Vec<u32> = (0..25).map(|n| id(burst * 26 + n)).collect();
            let given_up = id(burst * 26 + 25);
            for &id in &ids {
                client.send(headers(id, WHOLE, &Block::get("/"))).send(frame(0x1a, 0, 0, "grease"));
            }
            client.send(headers(given_up, WHOLE, &Block::get("/app/slow?ms=500"))).send(priority(given_up, 0));
            for &id in &ids {
                assert_eq!(client.answer(id).status, 200, "{driver:?}");
            }
            client.send(rst(given_up, CANCEL));
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(client);
        // A long download, window given back for every frame.
        let mut client = Http2::connect(server.web());
        assert_eq!(client.get(1, "/files/big").body, pattern(30_000_000), "{driver:?}");
        // An upload in small pieces.
        client.send(headers(3, END_HEADERS, &Block::post("/app/size")));
        client.flood(|n| (n < 500).then(|| data(3, 0, [b'x'; 40])));
        client.send(data(3, END_STREAM, ""));
        assert_eq!(client.answer(3).text(), "20000 bytes", "{driver:?}");
        drop(client);
        server.wait_until_no_client();
        assert_eq!(server.metric(FLOODS, ""), 0.0, "{driver:?}");
    });
}
