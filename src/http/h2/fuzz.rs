//! The property of the guard that holds for any input. A target of `fuzz/` calls it with coverage feedback; the tests
//! below run it on every `cargo test` with seeded random frames, good and bad.
//!
//! It panics when the property does not hold. The second opinion is plain on purpose: it cuts whole input into frames
//! and keeps lists, the guard works on pieces and counters.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::frame::{flag, kind};
use super::*;

/// Small, so that inputs of a few hundred bytes reach every limit.
const TIGHT: Limits = Limits {
    streams_max: 5,
    frame_bytes_max: 64,
    header_block_bytes_max: 96,
    continuation_max: 3,
    rst_per_second: 6,
    rst_max: 9,
    early_rst_max: 3,
    rst_emitted_max: 3,
    ping_per_second: 3,
    settings_per_second: 3,
    priority_per_second: 2,
    empty_data_per_second: 3,
    window_update_per_second: 3,
    tiny_window_update_per_second: 5,
    unknown_per_second: 2,
    glitches_per_second: 6,
};

/// So large that nothing reaches them.
const LOOSE: Limits = Limits {
    streams_max: u32::MAX,
    frame_bytes_max: u32::MAX,
    header_block_bytes_max: u32::MAX,
    continuation_max: u32::MAX,
    rst_per_second: u32::MAX,
    rst_max: u32::MAX,
    early_rst_max: u32::MAX,
    rst_emitted_max: u32::MAX,
    ping_per_second: u32::MAX,
    settings_per_second: u32::MAX,
    priority_per_second: u32::MAX,
    empty_data_per_second: u32::MAX,
    window_update_per_second: u32::MAX,
    tiny_window_update_per_second: u32::MAX,
    unknown_per_second: u32::MAX,
    glitches_per_second: u32::MAX,
};

/// Bytes of one direction, sent at one moment.
type Turn<'a> = (bool, &'a [u8], Duration);

/// Both directions of a connection: the same end however the bytes are cut; bounded whatever they say; and with limits
/// that nothing reaches, the counts of a plain reader of frames.
///
/// The first byte of the input chooses the cuts. Then come turns: a byte whose highest bit tells the direction and whose
/// rest how much time passes, a byte with the number of bytes that follow.
pub fn connection(input: &[u8]) {
    let Some((&step, input)) = input.split_first() else { return };
    let turns = turns(input);
    for limits in [&TIGHT, &Limits::default()] {
        let whole = run(limits, &turns, usize::MAX);
        let cut = run(limits, &turns, usize::from(step % 16) + 1);
        assert_eq!(whole, cut, "cut into pieces");
    }
    let (end, summary) = run(&LOOSE, &turns, usize::MAX);
    assert_eq!(end, None, "nothing is too much");
    check_counts(&turns, &summary);
}

/// What a server says: whether it greets like one of HTTP/2 is the same however its bytes are cut, and as a look at the whole
/// tells; and the head of an answer made of it is laid out within its limits or refused.
///
/// The first byte of the input chooses the cut.
pub fn server(input: &[u8]) {
    let Some((&step, input)) = input.split_first() else { return };
    let greet = |piece_bytes: usize| {
        let mut greeting = Greeting::default();
        let mut last = greeting.read(b"");
        for piece in input.chunks(piece_bytes) {
            last = greeting.read(piece);
            if last.is_err() {
                break;
            }
        }
        last
    };
    let whole = greet(usize::MAX);
    assert_eq!(whole, greet(usize::from(step % 16) + 1), "cut into pieces");
    if let [a, b, c, found, flags, rest @ ..] = input
        && rest.len() >= 4
    {
        let payload_bytes = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let is_greeting = *found == kind::SETTINGS && flags & flag::ACK == 0 && rest[..4] == [0; 4];
        let expect = (is_greeting && payload_bytes <= 16 * 1024).then_some(input.len() >= 9 + payload_bytes);
        assert_eq!(whole.ok(), expect);
    }
    answer(input);
}

/// Lines `name:value` are the fields of an answer.
fn answer(input: &[u8]) {
    const LIMITS: crate::http::h1::Limits =
        crate::http::h1::Limits { head_bytes_max: 64, target_bytes_max: 0, headers_max: 4 };
    let mut headers = http::HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = http::HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(&line[colon + 1..])) {
            headers.append(name, value);
        }
    }
    let (mut bytes, mut head) = (Vec::new(), crate::http::h1::ResponseHead::default());
    let status = 200 + u16::from(input.first().copied().unwrap_or_default());
    let method = crate::http::h1::Method::Get;
    let read = read_answer((status, &headers), true, method, &LIMITS, &mut bytes, &mut head);
    if read.is_ok() {
        assert!(bytes.len() <= LIMITS.head_bytes_max && head.fields.len() <= LIMITS.headers_max);
        assert_eq!(head.fields.len(), headers.len());
        let lengths: Vec<_> = headers.get_all("content-length").iter().collect();
        assert!(
            lengths
                .windows(2)
                .all(|two| two[0].to_str().ok().map(str::parse::<u64>) == two[1].to_str().ok().map(str::parse::<u64>))
        );
    }
}

fn turns(mut input: &[u8]) -> Vec<Turn<'_>> {
    let mut turns = Vec::new();
    let mut now = Duration::ZERO;
    while let [how, length, rest @ ..] = input {
        let (bytes, later) = rest.split_at(rest.len().min(usize::from(*length)));
        now += Duration::from_millis(u64::from(how & 0x7f).pow(2));
        turns.push((how & 0x80 == 0, bytes, now));
        input = later;
    }
    turns
}

/// How it ends when each turn comes in pieces of so many bytes.
fn run(limits: &Limits, turns: &[Turn<'_>], piece_bytes: usize) -> (Option<Flood>, Summary) {
    let begin = Instant::now();
    let mut guard = Guard::new(limits);
    // The client's preface, so that its turns reach further.
    guard.on_inbound(PREFACE, begin).expect("the preface is no flood");
    let mut end = None;
    for (is_inbound, bytes, at) in turns {
        for piece in bytes.chunks(piece_bytes) {
            let result = match is_inbound {
                true => guard.on_inbound(piece, begin + *at),
                false => guard.on_outbound(piece, begin + *at),
            };
            assert!(result.is_err() || end.is_none(), "a flood stays one");
            assert!(result.is_err() || result == Ok(guard.summary()));
            end = end.or(result.err());
            guard.check_invariants();
        }
    }
    (end, guard.summary())
}

/// One frame as a plain reader finds it; the payload may be cut off by the end of the input.
struct PlainFrame {
    payload_bytes: usize,
    kind: u8,
    flags: u8,
    stream_id: u32,
    payload: Vec<u8>,
}

fn plain_frames(mut bytes: &[u8]) -> (Vec<PlainFrame>, bool) {
    let mut frames = Vec::new();
    while bytes.len() >= 9 {
        let payload_bytes = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        let stream_id = u32::from_be_bytes(bytes[5..9].try_into().expect("four bytes")) << 1 >> 1;
        let end = bytes.len().min(9 + payload_bytes);
        let payload = bytes[9..end].to_vec();
        let frame = PlainFrame { payload_bytes, kind: bytes[3], flags: bytes[4], stream_id, payload };
        let is_cut = frame.payload.len() < payload_bytes;
        frames.push(frame);
        bytes = &bytes[end..];
        if is_cut {
            return (frames, true);
        }
    }
    (frames, !bytes.is_empty())
}

/// What a plain reader counts, each direction on its own.
fn check_counts(turns: &[Turn<'_>], summary: &Summary) {
    let joined = |wanted: bool| {
        let turns = turns.iter().filter(|(is_inbound, ..)| *is_inbound == wanted);
        turns.flat_map(|(_, bytes, _)| bytes.iter().copied()).collect::<Vec<u8>>()
    };
    let (inbound, is_inbound_cut) = plain_frames(&joined(true));
    let (outbound, is_outbound_cut) = plain_frames(&joined(false));
    assert_eq!((summary.is_inbound_within_frame, summary.is_outbound_within_frame), (is_inbound_cut, is_outbound_cut));

    let resets = |frames: &[PlainFrame]| {
        let is_seen = |frame: &&PlainFrame| frame.payload.len() >= frame.payload_bytes.min(4);
        frames.iter().filter(|frame| frame.kind == kind::RST_STREAM).filter(is_seen).count() as u64
    };
    assert_eq!((summary.resets_received, summary.resets_sent), (resets(&inbound), resets(&outbound)));

    let is_seen = |frame: &&PlainFrame| {
        let padding = usize::from(frame.flags & flag::PADDED != 0);
        let kept = if frame.flags & flag::PRIORITY != 0 { padding + 4 } else { 0 };
        frame.kind == kind::HEADERS && frame.payload.len() >= frame.payload_bytes.min(kept)
    };
    let mut ids = BTreeSet::new();
    for frame in inbound.iter().filter(is_seen) {
        if frame.stream_id % 2 == 1 && ids.last().is_none_or(|&last| last < frame.stream_id) {
            ids.insert(frame.stream_id);
        }
    }
    assert_eq!(summary.streams_opened, ids.len() as u64);
    assert_eq!(summary.highest_stream_id, ids.last().copied().unwrap_or(0));

    let is_of_block = |frame: &PlainFrame| matches!(frame.kind, kind::HEADERS | kind::CONTINUATION);
    let last_is_cut =
        inbound.last().is_some_and(|frame| is_of_block(frame) && frame.payload.len() < frame.payload_bytes);
    assert!(summary.is_header_block_open || !last_is_cut);
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};

    use super::super::tests::frame;
    use super::*;

    /// Inputs a test run tries; `GUARD_FUZZ_ROUNDS=100000` for a longer look.
    fn rounds() -> u64 {
        std::env::var("GUARD_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_000)
    }

    fn random_frame(random: &mut StdRng) -> Vec<u8> {
        let kinds = [0, 0, 1, 1, 1, 2, 3, 3, 4, 5, 6, 7, 8, 8, 9, 16, 32];
        let flags = [0, 0, 1, 1, 4, 5, 5, 8, 9, 0x24, 0x2d, 0xff];
        let (kind, flags) = (*kinds.choose(random).unwrap(), *flags.choose(random).unwrap());
        let id = match random.random_range(0..10) {
            0 => 0,
            1 => random.random(),
            _ => random.random_range(1..16),
        };
        let length = *[0, 1, 4, 5, 6, 8, 13, 24, 40, 70].choose(random).unwrap();
        let payload: Vec<u8> = (0..length).map(|_| *[0, 0, 0, 1, 3, 8, 200].choose(random).unwrap()).collect();
        frame(kind, flags, id, &payload)
    }

    #[test]
    fn any_server_keeps_the_property() {
        for seed in 0..rounds() {
            let mut random = StdRng::seed_from_u64(seed);
            let mut input: Vec<u8> = vec![random.random()];
            match random.random_range(0..3) {
                0 => input.extend(random_frame(&mut random)),
                1 => {
                    let length = random.random_range(0..40);
                    input.extend(frame(kind::SETTINGS, 0, 0, &vec![0; length]));
                    input.truncate(random.random_range(0..=input.len()));
                }
                _ => {
                    let texts =
                        ["content-length:", "a:", "12", "7", "\n", ":", "\nx-long-name: some longer value", " ", "\0"];
                    (0..random.random_range(0..12))
                        .for_each(|_| input.extend(texts.choose(&mut random).unwrap().bytes()));
                }
            }
            if let Err(panic) = std::panic::catch_unwind(|| server(&input)) {
                eprintln!("seed {seed}, input {}", input.escape_ascii());
                std::panic::resume_unwind(panic);
            }
        }
    }

    #[test]
    fn any_conversation_keeps_the_property() {
        for seed in 0..rounds() {
            let mut random = StdRng::seed_from_u64(seed);
            let mut input: Vec<u8> = vec![random.random()];
            for _ in 0..random.random_range(0..60) {
                let mut bytes: Vec<u8> = match random.random_range(0..12) {
                    0 => (0..random.random_range(0..30)).map(|_| random.random()).collect(),
                    _ => (0..random.random_range(1..3)).flat_map(|_| random_frame(&mut random)).collect(),
                };
                bytes.truncate(if random.random_ratio(1, 40) { random.random_range(0..=bytes.len()) } else { 255 });
                let pause = if random.random_ratio(1, 4) { random.random_range(0..60) } else { 0 };
                input.push(if random.random_ratio(1, 3) { 0x80 } else { 0 } | pause);
                input.push(bytes.len() as u8);
                input.extend(bytes);
            }
            if let Err(panic) = std::panic::catch_unwind(|| connection(&input)) {
                eprintln!("seed {seed}, input {}", input.escape_ascii());
                std::panic::resume_unwind(panic);
            }
        }
    }
}
