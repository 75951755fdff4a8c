//! Each attack as a script of bytes, and conversations of honest clients that nothing trips over.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// A frame as its peer would write it.
pub(super) fn frame(kind: u8, flags: u8, stream_id: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream_id.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn data(id: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(0, flags, id, payload)
}

/// A header block of one field; nobody here decompresses it.
fn headers(id: u32, flags: u8) -> Vec<u8> {
    frame(1, flags, id, b"\x82")
}

fn rst(id: u32, code: u32) -> Vec<u8> {
    frame(3, 0, id, &code.to_be_bytes())
}

fn window_update(id: u32, increment: u32) -> Vec<u8> {
    frame(8, 0, id, &increment.to_be_bytes())
}

fn continuation(id: u32, flags: u8, length: usize) -> Vec<u8> {
    frame(9, flags, id, &vec![0; length])
}

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const REQUEST: u8 = END_STREAM | END_HEADERS;
const CANCEL: u32 = 8;
const STREAM_CLOSED: u32 = 5;

/// A connection whose clock the test moves.
struct Talk {
    guard: Guard,
    now: Instant,
}

impl Talk {
    fn new(limits: &Limits) -> Talk {
        let mut talk = Talk { guard: Guard::new(limits), now: Instant::now() };
        talk.gets(PREFACE).expect("the preface is no flood");
        talk
    }

    fn gets(&mut self, bytes: &[u8]) -> Result<Summary, Flood> {
        let result = self.guard.on_inbound(bytes, self.now);
        self.guard.check_invariants();
        result
    }

    fn sends(&mut self, bytes: &[u8]) -> Result<Summary, Flood> {
        let result = self.guard.on_outbound(bytes, self.now);
        self.guard.check_invariants();
        result
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }
}

/// `attack` gives what the client sends, time after time; it is a flood of `kind` after `count` times and not before.
#[track_caller]
fn check(kind: Flood, count: u32, mut attack: impl FnMut(u32) -> Vec<u8>) {
    let mut talk = Talk::new(&Limits::default());
    for n in 1..count {
        let result = talk.gets(&attack(n));
        assert!(result.is_ok(), "{result:?} after {n} times");
    }
    assert_eq!(talk.gets(&attack(count)), Err(kind));
    // It stays one, whatever comes.
    talk.wait(Duration::from_secs(10));
    assert_eq!(talk.gets(&headers(99_999, REQUEST)), Err(kind));
    assert_eq!(talk.sends(&headers(1, END_HEADERS)), Err(kind));
}

#[test]
fn resets_before_an_answer_are_a_flood() {
    check(Flood::RapidReset, 51, |n| [headers(2 * n - 1, REQUEST), rst(2 * n - 1, CANCEL)].concat());
    // In the connection's life: no pause helps.
    let mut talk = Talk::new(&Limits::default());
    for n in 0..50 {
        assert!(talk.gets(&[headers(2 * n + 1, REQUEST), rst(2 * n + 1, CANCEL)].concat()).is_ok());
        talk.wait(Duration::from_secs(60));
    }
    assert_eq!(talk.gets(&[headers(101, REQUEST), rst(101, CANCEL)].concat()), Err(Flood::RapidReset));
}

#[test]
fn answers_make_up_for_early_resets() {
    let mut talk = Talk::new(&Limits::default());
    let mut id = 1;
    for _ in 0..300 {
        for _ in 0..10 {
            assert!(talk.gets(&headers(id, REQUEST)).is_ok());
            assert!(talk.sends(&headers(id, END_HEADERS)).is_ok());
            assert!(talk.sends(&data(id, END_STREAM, b"hello")).is_ok());
            id += 2;
        }
        assert!(talk.gets(&[headers(id, REQUEST), rst(id, CANCEL)].concat()).is_ok());
        id += 2;
        talk.wait(Duration::from_millis(100));
    }
    let summary = talk.guard.summary();
    assert_eq!((summary.streams_opened, summary.streams_closed, summary.resets_received), (3300, 3300, 300));
    assert_eq!(summary.highest_stream_id, id - 2);
}

#[test]
fn resets_after_an_answer_are_counted_by_the_second_and_for_life() {
    let reset = |talk: &mut Talk, n: u32| {
        let id = 2 * n + 1;
        talk.gets(&headers(id, REQUEST))?;
        talk.sends(&headers(id, END_HEADERS))?;
        talk.gets(&rst(id, CANCEL))
    };
    let mut talk = Talk::new(&Limits::default());
    for n in 0..100 {
        assert!(reset(&mut talk, n).is_ok(), "{n}");
    }
    assert_eq!(reset(&mut talk, 100), Err(Flood::Rst));

    let mut talk = Talk::new(&Limits { rst_max: 300, ..Limits::default() });
    for n in 0..300 {
        assert!(reset(&mut talk, n).is_ok(), "{n}");
        talk.wait(Duration::from_millis(20));
    }
    assert_eq!(reset(&mut talk, 300), Err(Flood::Rst));
}

#[test]
fn resets_that_we_are_made_to_send_are_a_flood_whatever_made_us() {
    // Each opens a stream and sends a frame on it that is an error; `h2` answers with this code.
    type Mistake = fn(u32) -> Vec<u8>;
    let mistakes: [(&str, u32, Mistake); 6] = [
        ("window update of zero", 1, |id| [headers(id, REQUEST), window_update(id, 0)].concat()),
        ("window overflow", 3, |id| [headers(id, REQUEST), window_update(id, 0x7fff_ffff)].concat()),
        ("DATA after END_STREAM", STREAM_CLOSED, |id| [headers(id, REQUEST), data(id, 0, b"x")].concat()),
        ("HEADERS after END_STREAM", STREAM_CLOSED, |id| [headers(id, REQUEST), headers(id, REQUEST)].concat()),
        ("depends on itself", 1, |id| {
            [headers(id, REQUEST), frame(2, 0, id, &[&id.to_be_bytes()[..], &[0]].concat())].concat()
        }),
        ("refused", 7, |id| headers(id, END_HEADERS)),
    ];
    for (name, code, mistake) in mistakes {
        let mut talk = Talk::new(&Limits::default());
        for n in 0..500 {
            let id = 2 * n + 1;
            assert!(talk.gets(&mistake(id)).is_ok(), "{name}: {n}");
            assert!(talk.sends(&rst(id, code)).is_ok(), "{name}: {n}");
            // Slower than any limit by the second.
            talk.wait(Duration::from_millis(50));
        }
        assert!(talk.gets(&mistake(1001)).is_ok(), "{name}");
        assert_eq!(talk.sends(&rst(1001, code)), Err(Flood::MadeYouReset), "{name}");
    }
}

/// A mistake of the client counts even if the code of our reset does not tell, and what is our own doing never does.
#[test]
fn resets_are_told_apart_by_their_cause() {
    let limits = Limits { rst_emitted_max: 10, ..Limits::default() };
    let mut talk = Talk::new(&limits);
    for n in 0..200 {
        let id = 2 * n + 1;
        talk.gets(&headers(id, END_HEADERS)).unwrap();
        talk.sends(&headers(id, REQUEST)).unwrap();
        // RFC 9113 section 8.1: a complete answer to a request whose body we do not want; or we failed.
        talk.sends(&rst(id, [0, 2, 8][n as usize % 3])).unwrap();
        // What was under way comes in vain.
        talk.gets(&data(id, END_STREAM, b"rest")).unwrap();
        talk.wait(Duration::from_millis(20));
    }
    for n in 200..210 {
        let id = 2 * n + 1;
        talk.gets(&[headers(id, END_HEADERS), window_update(id, 0)].concat()).unwrap();
        talk.sends(&rst(id, CANCEL)).unwrap();
    }
    talk.gets(&[headers(9001, END_HEADERS), window_update(9001, 0)].concat()).unwrap();
    assert_eq!(talk.sends(&rst(9001, CANCEL)), Err(Flood::MadeYouReset));
}

#[test]
fn header_blocks_in_too_many_pieces_or_too_large_are_a_flood() {
    check(Flood::Continuation, 22, |n| if n == 1 { headers(1, END_STREAM) } else { continuation(1, 0, 1) });
    // The last one may end the block: it is still one too many.
    check(Flood::Continuation, 22, |n| {
        if n == 1 { headers(1, END_STREAM) } else { continuation(1, if n == 22 { END_HEADERS } else { 0 }, 1) }
    });
    // By bytes: 16 times 16 KiB.
    check(Flood::Continuation, 17, |n| if n == 1 { headers(1, END_STREAM) } else { continuation(1, 0, 16 << 10) });
    let small = Limits { header_block_bytes_max: 10, ..Limits::default() };
    let mut talk = Talk::new(&small);
    assert_eq!(talk.gets(&frame(1, END_HEADERS, 1, &[0; 11])), Err(Flood::Continuation));
    // Each block anew.
    let mut talk = Talk::new(&Limits::default());
    for n in 0..50 {
        let id = 2 * n + 1;
        talk.gets(&headers(id, END_STREAM)).unwrap();
        for piece in 0..20 {
            talk.gets(&continuation(id, if piece == 19 { END_HEADERS } else { 0 }, 100)).unwrap();
        }
    }
}

#[test]
fn control_frames_that_want_an_answer_are_a_flood() {
    check(Flood::Settings, 51, |_| frame(4, 0, 0, &[]));
    check(Flood::Settings, 51, |_| frame(4, 0, 0, &[0, 4, 0, 0, 0, 1]));
    check(Flood::Ping, 101, |_| frame(6, 0, 0, &[0; 8]));
    check(Flood::Ping, 101, |_| frame(6, END_STREAM, 0, &[0; 8]));
}

#[test]
fn frames_that_say_nothing_are_a_flood() {
    check(Flood::EmptyData, 102, |n| if n == 1 { headers(1, END_HEADERS) } else { data(1, 0, &[]) });
    // Nothing but padding: RFC 9113 section 6.1.
    check(Flood::EmptyData, 102, |n| if n == 1 { headers(1, END_HEADERS) } else { data(1, 8, &[3, 0, 0, 0]) });
    check(Flood::WindowUpdate, 101, |_| window_update(0, 0));
    check(Flood::WindowUpdate, 102, |n| if n == 1 { headers(1, REQUEST) } else { window_update(1, 0) });
    check(Flood::Priority, 101, |n| frame(2, 0, 2 * n + 1, &[0, 0, 0, 0, 7]));
    check(Flood::Priority, 101, |n| frame(16, 0, 0, &[0, 0, 0, n as u8]));
    check(Flood::Unknown, 101, |_| frame(0x0b, 0, 0, &[0; 100]));
    check(Flood::Unknown, 101, |_| frame(0xfa, 0xff, 7, &[]));
}

#[test]
fn window_updates_that_nothing_explains_are_a_flood() {
    // The request itself explains ten.
    check(Flood::WindowUpdate, 112, |n| if n == 1 { headers(1, REQUEST) } else { window_update(1, 10_000) });
    // One byte at a time, each answered by a DATA frame of one byte, which would explain it.
    let mut talk = Talk::new(&Limits::default());
    talk.gets(&headers(1, REQUEST)).unwrap();
    for n in 0..1000 {
        talk.gets(&window_update(1, 1)).unwrap_or_else(|flood| panic!("{flood} after {n}"));
        talk.sends(&data(1, 0, b"x")).unwrap();
    }
    assert_eq!(talk.gets(&window_update(1, 1)), Err(Flood::WindowUpdate));
}

#[test]
fn a_mixture_of_oddities_is_a_flood_too() {
    let oddities = [
        // Stream 1 is done on the client's side.
        data(1, 0, b"x"),
        headers(1, REQUEST),
        window_update(1, 0),
        data(1, 0, &[]),
        // RFC 9113 sections 5.1.1, 6.6, 6.10: even, pushed by a client, continued out of nothing.
        headers(2, REQUEST),
        frame(5, END_HEADERS, 1, &[0; 5]),
        continuation(1, END_HEADERS, 1),
        // On streams that are idle: section 5.1.
        data(77, 0, b"x"),
        rst(77, CANCEL),
        // An acknowledgement of nothing; a window update without increment; a frame that is too large.
        frame(4, END_STREAM, 0, &[]),
        frame(8, 0, 0, &[0; 3]),
        frame(0xfe, 0, 0, &[0; (16 << 10) + 1]),
    ];
    for (at, oddity) in oddities.iter().enumerate() {
        let mut talk = Talk::new(&Limits { glitches_per_second: 0, ..Limits::default() });
        talk.gets(&headers(1, REQUEST)).unwrap();
        assert_eq!(talk.gets(oddity), Err(Flood::Glitches), "{at}");
    }
    check(Flood::Glitches, 102, |n| {
        if n == 1 {
            headers(1, REQUEST)
        } else {
            oddities[[0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11][n as usize % 11]].clone()
        }
    });
}

#[test]
fn rates_begin_anew_each_second() {
    let mut talk = Talk::new(&Limits::default());
    for _ in 0..20 {
        for _ in 0..50 {
            talk.gets(&[frame(4, 0, 0, &[]), frame(6, 0, 0, &[0; 8]), frame(0xee, 0, 0, &[])].concat()).unwrap();
        }
        talk.wait(Duration::from_secs(1));
    }
    // A clock that goes back begins no window.
    talk.gets(&frame(4, 0, 0, &[])).unwrap();
    talk.now -= Duration::from_secs(5);
    for _ in 0..49 {
        talk.gets(&frame(4, 0, 0, &[])).unwrap();
    }
    assert_eq!(talk.gets(&frame(4, 0, 0, &[])), Err(Flood::Settings));
}

#[test]
fn what_we_send_explains_what_comes_back() {
    let mut talk = Talk::new(&Limits::default());
    // Our SETTINGS and PING are acknowledged.
    for _ in 0..500 {
        talk.sends(&[frame(4, 0, 0, &[]), frame(6, 0, 0, &[0; 8])].concat()).unwrap();
        talk.gets(&[frame(4, END_STREAM, 0, &[]), frame(6, END_STREAM, 0, &[0; 8])].concat()).unwrap();
    }
    // A gRPC client measures the round trip all the time, and a simple one gives back every piece it takes.
    talk.gets(&headers(1, REQUEST)).unwrap();
    talk.sends(&headers(1, END_HEADERS)).unwrap();
    for _ in 0..5000 {
        talk.sends(&data(1, 0, &[0; 16 << 10])).unwrap();
        talk.gets(&frame(6, 0, 0, &[0; 8])).unwrap();
        for _ in 0..4 {
            talk.gets(&[window_update(0, 4096), window_update(1, 4096)].concat()).unwrap();
        }
    }
}

#[test]
fn the_summary_tells_of_open_header_blocks_and_frames() {
    let mut talk = Talk::new(&Limits::default());
    let script = [headers(1, END_STREAM), continuation(1, 0, 3), continuation(1, END_HEADERS, 3)].concat();
    assert!(!talk.guard.summary().is_header_block_open);
    for (at, byte) in script.iter().enumerate() {
        let summary = talk.gets(std::slice::from_ref(byte)).unwrap();
        // From the end of the first head to the last byte of the last frame.
        assert_eq!(summary.is_header_block_open, (8..script.len() - 1).contains(&at), "{at}");
        assert_eq!(summary.is_inbound_within_frame, ![9, 9 + 12, script.len() - 1].contains(&at), "{at}");
    }
    // A block in one frame, with a priority that comes late.
    let script = frame(1, REQUEST | 0x20, 3, &[0, 0, 0, 0, 7, 0x82]);
    for (at, byte) in script.iter().enumerate() {
        let summary = talk.gets(std::slice::from_ref(byte)).unwrap();
        assert_eq!(summary.is_header_block_open, (8..script.len() - 1).contains(&at), "{at}");
        assert_eq!(summary.streams_opened, if at < 12 { 1 } else { 2 }, "{at}");
    }
    assert!(talk.sends(&data(1, 0, b"abc")[..11]).unwrap().is_outbound_within_frame);
    assert!(!talk.sends(b"c").unwrap().is_outbound_within_frame);
}

#[test]
fn a_flood_does_not_hide_where_our_own_frames_end() {
    let mut talk = Talk::new(&Limits { settings_per_second: 0, ..Limits::default() });
    talk.sends(&data(1, 0, b"abc")[..10]).unwrap();
    assert_eq!(talk.gets(&frame(4, 0, 0, &[])), Err(Flood::Settings));
    assert!(talk.guard.summary().is_outbound_within_frame);
    assert_eq!(talk.sends(b"bc"), Err(Flood::Settings));
    assert!(!talk.guard.summary().is_outbound_within_frame);
    // Our own GOAWAY for it is not taken for one of `h2`.
    assert_eq!(talk.sends(&goaway_frame(1, ErrorCode::ENHANCE_YOUR_CALM)), Err(Flood::Settings));
    assert_eq!((talk.guard.summary().goaways_sent, talk.guard.summary().found_by_h2), (1, None));
}

#[test]
fn floods_that_h2_finds_itself_have_a_name() {
    let goaway = |code: u8, text: &[u8]| frame(7, 0, 0, &[&[0, 0, 0, 1, 0, 0, 0, code], text].concat());
    for (text, kind) in [
        ("too_many_resets", Flood::RapidReset),
        ("too_many_internal_resets", Flood::MadeYouReset),
        ("too_many_continuations", Flood::Continuation),
        ("header_list_way_too_large", Flood::HeaderList),
        ("too_many_data_frames", Flood::SmallData),
        ("something new", Flood::Glitches),
        ("", Flood::Glitches),
    ] {
        let script = goaway(11, text.as_bytes());
        for cut in 0..=script.len() {
            let mut talk = Talk::new(&Limits::default());
            talk.sends(&script[..cut]).unwrap();
            let summary = talk.sends(&script[cut..]).unwrap();
            assert_eq!((summary.found_by_h2, summary.goaways_sent), (Some(kind), 1), "{text} {cut}");
        }
    }
    let mut talk = Talk::new(&Limits::default());
    assert_eq!(talk.sends(&goaway(1, b"too_many_resets")).unwrap().found_by_h2, None);
}

#[test]
fn a_connection_costs_little_memory() {
    assert!(size_of::<Guard>() <= 448, "{} bytes", size_of::<Guard>());
    let mut talk = Talk::new(&Limits::default());
    for n in 0..5000 {
        talk.gets(&headers(2 * n + 1, END_HEADERS)).unwrap();
    }
    // Refused streams are not kept.
    let summary = talk.guard.summary();
    assert_eq!((summary.streams_opened, summary.streams_closed, summary.highest_stream_id), (100, 0, 9999));
}

#[test]
fn what_is_not_http2_is_left_to_h2() {
    let mut guard = Guard::new(&Limits { unknown_per_second: 0, glitches_per_second: 0, ..Limits::default() });
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    let before = guard.summary();
    assert_eq!(guard.on_inbound(&request, Instant::now()), Ok(before));
}

#[test]
fn the_window_of_the_connection_is_what_is_granted_less_what_has_come() {
    let mut talk = Talk::new(&Limits::default());
    let window = |summary: Result<Summary, Flood>| summary.expect("no flood").inbound_window_bytes;
    assert_eq!(window(talk.gets(&headers(1, END_HEADERS))), 65_535);
    assert_eq!(window(talk.gets(&data(1, 0, &[0; 1000]))), 64_535);
    // Padding counts; a stream's own window is another matter.
    assert_eq!(window(talk.gets(&frame(0, 0x8, 1, &[9; 535]))), 64_000);
    assert_eq!(window(talk.sends(&window_update(1, 500))), 64_000);
    assert_eq!(window(talk.sends(&window_update(0, 1000))), 65_000);
    assert_eq!(window(talk.gets(&window_update(0, 70))), 65_000, "that is the client's");
}

/// One frame of any kind, most of them sensible.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![0u8..10, Just(16), any::<u8>()];
    let id = prop_oneof![Just(0), 1u32..12, any::<u32>()];
    let flags = prop_oneof![Just(0), Just(REQUEST), Just(END_HEADERS), any::<u8>()];
    let payload = prop_oneof![
        proptest::collection::vec(0u8..3, 0..30),
        Just(vec![0, 0, 0, 0]),
        proptest::collection::vec(any::<u8>(), 0..300),
    ];
    (kind, flags, id, payload).prop_map(|(kind, flags, id, payload)| frame(kind, flags, id, &payload))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn pieces_are_counted_as_the_whole(
        frames in proptest::collection::vec((any::<bool>(), any_frame()), 0..60),
        sizes in proptest::collection::vec(1usize..40, 1..20),
        limit in 1u32..30,
    ) {
        let limits = Limits {
            streams_max: 4, continuation_max: 3, early_rst_max: limit, rst_per_second: 2 * limit, ping_per_second: limit,
            settings_per_second: limit, empty_data_per_second: limit, unknown_per_second: 3 * limit,
            glitches_per_second: 4 * limit, ..Limits::default()
        };
        let (mut whole, mut pieces) = (Talk::new(&limits), Talk::new(&limits));
        for (is_inbound, bytes) in &frames {
            let expect = if *is_inbound { whole.gets(bytes) } else { whole.sends(bytes) };
            let mut rest = &bytes[..];
            let mut found = None;
            let mut sizes = sizes.iter().cycle();
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                rest = later;
                found = Some(if *is_inbound { pieces.gets(piece) } else { pieces.sends(piece) });
            }
            prop_assert_eq!(found, Some(expect));
        }
    }
}

/// Real conversations: client and server of the `h2` crate, joined in memory, the guard between them.
mod honest {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::rc::Rc;
    use std::task::{Context, Poll, ready};

    use bytes::Bytes;
    use http::{Request, Response};
    use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

    use super::*;

    /// The server's end of the pipe. Any flood fails the test.
    struct Watched {
        pipe: DuplexStream,
        talk: Rc<RefCell<Talk>>,
    }

    impl AsyncRead for Watched {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
            let me = self.get_mut();
            let before = buf.filled().len();
            ready!(Pin::new(&mut me.pipe).poll_read(cx, buf))?;
            let result = me.talk.borrow_mut().gets(&buf.filled()[before..]);
            assert!(result.is_ok(), "{result:?}");
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Watched {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
            let me = self.get_mut();
            let n = ready!(Pin::new(&mut me.pipe).poll_write(cx, bytes))?;
            let result = me.talk.borrow_mut().sends(&bytes[..n]);
            assert!(result.is_ok(), "{result:?}");
            Poll::Ready(Ok(n))
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.get_mut().pipe).poll_flush(cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.get_mut().pipe).poll_shutdown(cx)
        }
    }

    /// Answers `/never` not at all and `/N` with N bytes, after it has read the request's body.
    async fn serve(pipe: Watched) {
        let mut connection = h2::server::Builder::new()
            .max_concurrent_streams(100)
            .handshake::<_, Bytes>(pipe)
            .await
            .expect("a handshake");
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::task::spawn_local(answer(request, respond));
        }
    }

    async fn answer(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let mut body = request.into_body();
        while let Some(Ok(piece)) = body.data().await {
            let _ = body.flow_control().release_capacity(piece.len());
        }
        let Ok(length) = path.parse::<usize>() else {
            let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
            return;
        };
        let Ok(mut send) = respond.send_response(Response::new(()), false) else { return };
        let mut left = length;
        while left > 0 {
            send.reserve_capacity(left.min(16 << 10));
            let Some(Ok(n)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
            if send.send_data(vec![0; n.min(left)].into(), false).is_err() {
                return;
            }
            left -= n.min(left);
        }
        let _ = send.send_data(Bytes::new(), true);
    }

    /// Runs `client` against the server; returns what the guard saw.
    fn converse<F: Future<Output = ()>>(
        settings: &h2::client::Builder,
        client: impl FnOnce(h2::client::SendRequest<Bytes>, Rc<RefCell<Talk>>) -> F,
    ) -> Summary {
        let guard = Guard::new(&Limits::default());
        let talk = Rc::new(RefCell::new(Talk { guard, now: Instant::now() }));
        let (near, far) = tokio::io::duplex(64 << 10);
        let local = tokio::task::LocalSet::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let watched = Watched { pipe: far, talk: talk.clone() };
        local.block_on(&runtime, async {
            let server = tokio::task::spawn_local(serve(watched));
            let (requests, connection) = settings.handshake(near).await.expect("a handshake");
            let connection = tokio::task::spawn_local(connection);
            client(requests, talk.clone()).await;
            // The last requests are gone, so the client says goodbye.
            connection.await.expect("no panic").expect("no error");
            server.await.expect("no flood");
        });
        talk.borrow().guard.summary()
    }

    fn get(path: &str) -> Request<()> {
        Request::get(format!("http://a/{path}")).body(()).expect("a request")
    }

    /// Takes a body piece by piece and gives the window back for each.
    async fn take(response: h2::client::ResponseFuture) -> usize {
        let mut body = response.await.expect("an answer").into_body();
        let mut total = 0;
        while let Some(piece) = body.data().await {
            let piece = piece.expect("no reset");
            total += piece.len();
            body.flow_control().release_capacity(piece.len()).expect("it was taken");
        }
        total
    }

    async fn breathe() {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_thousand_requests_with_some_given_up() {
        let summary = converse(&h2::client::Builder::new(), |requests, talk| async move {
            for n in 0..1000 {
                let mut requests = requests.clone().ready().await.expect("open");
                // A page has a burst of requests, then nothing for a while; one in twelve is given up.
                let pause = if n % 25 == 0 { 2000 } else { 3 };
                talk.borrow_mut().wait(Duration::from_millis(pause));
                if n % 12 == 7 {
                    let (response, mut body) = requests.send_request(get("never"), true).expect("sent");
                    breathe().await;
                    body.send_reset(h2::Reason::CANCEL);
                    drop(response);
                    breathe().await;
                    continue;
                }
                let (response, _) = requests.send_request(get("3000"), true).expect("sent");
                assert_eq!(take(response).await, 3000);
            }
        });
        assert_eq!((summary.streams_opened, summary.streams_closed), (1000, 1000));
        assert_eq!((summary.resets_received, summary.highest_stream_id), (83, 1999));
    }

    #[test]
    fn large_downloads_with_small_windows() {
        for window in [1 << 10, 65_535, 1 << 20] {
            let settings =
                h2::client::Builder::new().initial_window_size(window).initial_connection_window_size(1 << 20).clone();
            let summary = converse(&settings, |requests, talk| async move {
                let clock = tokio::task::spawn_local(async move {
                    loop {
                        talk.borrow_mut().wait(Duration::from_micros(100));
                        tokio::task::yield_now().await;
                    }
                });
                let downloads = (0..8).map(|_| {
                    let mut requests = requests.clone();
                    tokio::task::spawn_local(async move {
                        let (response, _) = requests.send_request(get("3000000"), true).expect("sent");
                        assert_eq!(take(response).await, 3_000_000);
                    })
                });
                for download in downloads.collect::<Vec<_>>() {
                    download.await.expect("no flood");
                }
                clock.abort();
            });
            assert_eq!((summary.streams_opened, summary.streams_closed, summary.resets_received), (8, 8, 0));
        }
    }

    #[test]
    fn uploads_in_small_pieces() {
        let summary = converse(&h2::client::Builder::new(), |requests, _| async move {
            for _ in 0..20 {
                let mut requests = requests.clone().ready().await.expect("open");
                let request = Request::post("http://a/10").body(()).expect("a request");
                let (response, mut body) = requests.send_request(request, false).expect("sent");
                for _ in 0..200 {
                    body.send_data(Bytes::from_static(b"a small piece"), false).expect("open");
                    tokio::task::yield_now().await;
                }
                body.send_trailers(http::HeaderMap::new()).expect("open");
                assert_eq!(take(response).await, 10);
            }
        });
        assert_eq!((summary.streams_opened, summary.streams_closed), (20, 20));
        assert!((0..=65_535).contains(&summary.inbound_window_bytes), "{}", summary.inbound_window_bytes);
    }

    #[test]
    fn header_blocks_in_several_frames() {
        let summary = converse(&h2::client::Builder::new(), |requests, _| async move {
            for n in 0..20 {
                let mut requests = requests.clone().ready().await.expect("open");
                let mut request = get("10");
                // More than the frame size that both sides begin with, so that CONTINUATION follows.
                let cookie = "c".repeat(20_000 + n);
                request.headers_mut().insert("cookie", cookie.parse().expect("a value"));
                let (response, _) = requests.send_request(request, true).expect("sent");
                assert_eq!(take(response).await, 10);
            }
        });
        assert_eq!((summary.streams_opened, summary.streams_closed), (20, 20));
        assert!(!summary.is_header_block_open);
    }
}
