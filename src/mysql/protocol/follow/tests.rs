//! Responses in and out.

use super::super::capability::{STATUS_AUTOCOMMIT, STATUS_SESSION_STATE_CHANGED};
use super::super::lenenc::{put_bytes, put_int};
use super::super::packet::{put_message, put_packet};
use super::*;

fn ok(out: &mut Vec<u8>, sequence_id: u8, status: u16, end_of_rows: bool) {
    OkPacket::plain(status).encode(out, sequence_id, end_of_rows);
}

/// Columns and rows as a server with DEPRECATE_EOF (`true`) or without sends them.
fn result(deprecate_eof: bool, rows: &[&[u8]], sequence_id: &mut u8, status: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let mut next = || {
        let id = *sequence_id;
        *sequence_id = id.wrapping_add(1);
        id
    };
    put_packet(&mut out, next(), |p| put_int(p, 2));
    for name in [&b"\x03def one"[..], b"\x03def two"] {
        put_packet(&mut out, next(), |p| p.extend_from_slice(name));
    }
    if !deprecate_eof {
        put_eof(&mut out, next(), STATUS_AUTOCOMMIT, 0);
    }
    for row in rows {
        put_packet(&mut out, next(), |p| p.extend_from_slice(row));
    }
    if deprecate_eof {
        ok(&mut out, next(), status, true);
    } else {
        put_eof(&mut out, next(), status, 0);
    }
    out
}

/// Feeds `input` cut at every place (and byte by byte) and wants `expect` for the client each time.
fn check(expect_kind: Expect, deprecate_eof: bool, input: &[u8], expect: &[u8]) -> Outcome {
    let run = |pieces: &[&[u8]]| {
        let mut follower = Follower::new(expect_kind, deprecate_eof, STATUS_AUTOCOMMIT).with_statement_id(5);
        let mut out = Vec::new();
        for piece in pieces {
            assert_eq!(follower.feed(piece, &mut out), Ok(piece.len()));
        }
        assert!(follower.is_done());
        assert_eq!(out, expect);
        assert_eq!(follower.feed(b"next", &mut out), Ok(0));
        follower.into_outcome()
    };
    for cut in 0..input.len() {
        run(&[&input[..cut], &input[cut..]]);
    }
    run(&input.chunks(1).collect::<Vec<_>>())
}

#[test]
fn a_result_reaches_both_kinds_of_client() {
    let input = result(true, &[b"\x011\x012", b"\xfb\x013"], &mut 1, STATUS_AUTOCOMMIT);
    check(Expect::Results, true, &input, &input);
    let old = result(false, &[b"\x011\x012", b"\xfb\x013"], &mut 1, STATUS_AUTOCOMMIT);
    let outcome = check(Expect::Results, false, &input, &old);
    assert_eq!((outcome.status, outcome.had_rows, outcome.results), (Some(STATUS_AUTOCOMMIT), true, 1));
    assert_eq!(outcome.rows, 2);
}

#[test]
fn rows_are_numbered_beyond_255_however_they_come() {
    let texts: Vec<Vec<u8>> = (0..600u32).map(|n| [&b"\x011"[..], &vec![b'x'; n as usize % 7]].concat()).collect();
    let rows: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let input = result(true, &rows, &mut 1, STATUS_AUTOCOMMIT);
    for deprecate_eof in [true, false] {
        for piece in [1, 7, 64, 1000, input.len()] {
            let mut follower = Follower::new(Expect::Results, deprecate_eof, STATUS_AUTOCOMMIT);
            let mut out = Vec::new();
            for bytes in input.chunks(piece) {
                assert_eq!(follower.feed(bytes, &mut out), Ok(bytes.len()));
            }
            assert!(out == result(deprecate_eof, &rows, &mut 1, STATUS_AUTOCOMMIT), "pieces of {piece}");
            assert_eq!((follower.is_done(), follower.into_outcome().rows), (true, 600));
        }
    }
    let mut wrong = input.clone();
    let last = wrong.len() - 11;
    wrong[last + 3] ^= 1;
    let mut follower = Follower::new(Expect::Results, true, 0);
    assert_eq!(follower.feed(&wrong, &mut Vec::new()), Err(ProtocolError::OutOfOrder));
}

#[test]
fn more_results_go_on_to_the_last_one() {
    for deprecate_eof in [true, false] {
        let both = |deprecate_eof| {
            let mut sequence_id = 1;
            let more = STATUS_MORE_RESULTS | STATUS_AUTOCOMMIT;
            let mut bytes = result(deprecate_eof, &[b"\x01a\x01b"], &mut sequence_id, more);
            ok(&mut bytes, sequence_id, more, false);
            sequence_id += 1;
            bytes.extend(result(deprecate_eof, &[], &mut sequence_id, STATUS_AUTOCOMMIT));
            bytes
        };
        let outcome = check(Expect::Results, deprecate_eof, &both(true), &both(deprecate_eof));
        assert_eq!((outcome.results, outcome.status), (3, Some(STATUS_AUTOCOMMIT)));
    }
}

#[test]
fn results_may_be_numbered_anew() {
    let mut input = result(true, &[b"\x01a\x01b"], &mut 1, STATUS_MORE_RESULTS);
    let mut sequence_id = 6;
    let second = result(true, &[], &mut sequence_id, 0);
    input.extend_from_slice(&second);
    let mut follower = Follower::new(Expect::Results, true, 0).pausing(true);
    let (mut out, mut used) = (Vec::new(), 0);
    while !follower.is_paused() {
        used += follower.feed(&input[used..used + 1], &mut out).unwrap();
    }
    assert_eq!((out.len(), used), (input.len() - second.len(), input.len() - second.len()));
    assert_eq!(follower.feed(&input[used..], &mut out), Ok(0), "it waits");
    follower.resume(2);
    assert_eq!(follower.feed(&input[used..], &mut out), Ok(second.len()));
    assert!(follower.is_done());
    assert_eq!(out[used..], result(true, &[], &mut 2, 0));
}

#[test]
fn errors_end_a_response_at_any_place() {
    let error = ErrPacket { code: 1317, sql_state: b"70100", message: b"interrupted" };
    let mut first = Vec::new();
    error.encode(&mut first, 1);
    for kind in [Expect::Results, Expect::Prepare, Expect::Rows, Expect::FieldList, Expect::Single] {
        assert_eq!(check(kind, false, &first, &first).error, Some(1317));
    }
    let cut = |deprecate_eof: bool, rows: &[&[u8]]| {
        let mut bytes = result(deprecate_eof, rows, &mut 1, 0);
        let end = bytes.len() - if deprecate_eof { 11 } else { 9 };
        let sequence_id = bytes[end + 3];
        bytes.truncate(end);
        error.encode(&mut bytes, sequence_id);
        bytes
    };
    for rows in [&[&b"\x01a\x01b"[..]][..], &[]] {
        let outcome = check(Expect::Results, false, &cut(true, rows), &cut(false, rows));
        assert_eq!((outcome.error, outcome.status), (Some(1317), None));
    }
}

#[test]
fn an_error_of_ours_ends_a_response_between_packets() {
    let input = result(true, &[b"\x01a\x01b"], &mut 1, 0);
    for deprecate_eof in [true, false] {
        let expect = result(deprecate_eof, &[b"\x01a\x01b"], &mut 1, 0);
        for cut in 0..input.len() {
            let (mut follower, mut out) =
                (Follower::new(Expect::Results, deprecate_eof, STATUS_AUTOCOMMIT), Vec::new());
            follower.feed(&input[..cut], &mut out).unwrap();
            let Some(sequence_id) = follower.error_sequence_id(&mut out) else { continue };
            // What was passed on are whole packets, as if the answer went on.
            assert_eq!(out, expect[..out.len()], "cut at {cut}");
            assert_eq!(expect[out.len() + 3], sequence_id, "cut at {cut}");
        }
    }
}

#[test]
fn a_cursor_has_one_eof_only() {
    let input = result(true, &[], &mut 1, STATUS_CURSOR_EXISTS);
    let mut old = result(false, &[], &mut 1, STATUS_CURSOR_EXISTS);
    let len = old.len();
    old.drain(len - 18..len - 9); // the EOF behind the columns
    let len = old.len();
    old[len - 6] -= 1;
    check(Expect::Results, false, &input, &old);
}

#[test]
fn prepare_answers_carry_the_client_s_id() {
    for (params, columns) in [(0u16, 0u16), (2, 0), (0, 2), (1, 1)] {
        let answer = |deprecate_eof: bool, id: u8| {
            let (mut bytes, mut sequence_id) = (Vec::new(), 1);
            put_packet(&mut bytes, sequence_id, |p| {
                p.extend_from_slice(&[0, id, 0, 0, 0]);
                p.extend_from_slice(&columns.to_le_bytes());
                p.extend_from_slice(&params.to_le_bytes());
                p.extend_from_slice(&[0, 0, 0]);
            });
            for count in [params, columns] {
                for _ in 0..count {
                    sequence_id += 1;
                    put_packet(&mut bytes, sequence_id, |p| p.extend_from_slice(b"\x03def"));
                }
                if count > 0 && !deprecate_eof {
                    sequence_id += 1;
                    put_eof(&mut bytes, sequence_id, STATUS_AUTOCOMMIT, 0);
                }
            }
            bytes
        };
        for deprecate_eof in [true, false] {
            let outcome = check(Expect::Prepare, deprecate_eof, &answer(true, 99), &answer(deprecate_eof, 5));
            assert_eq!(outcome.prepared, Some(Prepared { statement_id: 99, params }));
        }
    }
}

#[test]
fn a_row_of_more_than_16_mib_is_no_end_of_rows() {
    let mut input = result(true, &[], &mut 1, STATUS_AUTOCOMMIT);
    let end = input.split_off(input.len() - 11);
    let mut row = vec![0xFE];
    row.extend_from_slice(&(PAYLOAD_BYTES_MAX as u64).to_le_bytes());
    row.resize(9 + PAYLOAD_BYTES_MAX, b'x');
    let mut framed = Vec::new();
    put_message(&mut framed, &row);
    framed[3] = 4;
    framed[HEADER_BYTES + PAYLOAD_BYTES_MAX + 3] = 5;
    input.extend(framed);
    input.extend(end);
    let len = input.len();
    input[len - 8] = 6;
    let (mut out, mut follower) = (Vec::new(), Follower::new(Expect::Results, true, 0));
    for piece in input.chunks(65_537) {
        assert_eq!(follower.feed(piece, &mut out), Ok(piece.len()));
    }
    assert!(follower.is_done() && out == input);
}

#[test]
fn an_answer_counts_on_from_a_split_command() {
    let mut sequence_id = 3;
    let input = result(true, &[b"\x011\x012"], &mut sequence_id, 0);
    let mut sequence_id = 2;
    let expect = result(true, &[b"\x011\x012"], &mut sequence_id, 0);
    let (mut out, mut follower) = (Vec::new(), Follower::new(Expect::Results, true, 0).with_sequence_ids(2, 3));
    assert_eq!(follower.feed(&input, &mut out), Ok(input.len()));
    assert!(follower.is_done() && out == expect);
}

#[test]
fn a_first_row_can_be_kept() {
    let input = result(true, &[b"\x02-1\x01b", b"\x01c\x01d"], &mut 1, 0);
    let (mut out, mut follower) = (Vec::new(), Follower::new(Expect::Results, true, 0).keeping_first_row());
    follower.feed(&input, &mut out).unwrap();
    assert_eq!(follower.outcome().first_row.as_deref(), Some(&b"\x02-1\x01b"[..]));
    assert_eq!(out, input);
}

#[test]
fn broken_responses_are_errors() {
    let feed = |bytes: &[u8]| Follower::new(Expect::Results, true, 0).feed(bytes, &mut Vec::new());
    assert!(feed(b"\x01\x00\x00\x02\x00").is_err(), "sequence id");
    assert!(feed(b"\x01\x00\x00\x01\xfb").is_err(), "local file");
    assert!(feed(b"\x00\x00\x00\x01").is_err(), "empty packet");
    assert!(feed(b"\x04\x00\x00\x01\xfd\xff\xff\xff").is_err(), "16 million columns");
    assert!(feed(b"\xff\xff\xff\x01\x01").is_err(), "huge first packet");
}

/// A server that has nothing to list may say no more than that.
#[test]
fn a_bare_ok_ends_a_list_of_fields() {
    let mut ok = Vec::new();
    OkPacket::plain(2).encode(&mut ok, 1, false);
    for deprecate_eof in [false, true] {
        let mut follower = Follower::new(Expect::FieldList, deprecate_eof, 0);
        let mut out = Vec::new();
        assert_eq!(follower.feed(&ok, &mut out), Ok(ok.len()));
        assert!(follower.is_done() && out == ok && follower.into_outcome().status == Some(2));
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, kind in 0..6usize, deprecate_eof: bool) {
        let kinds =
            [Expect::Results, Expect::Prepare, Expect::Rows, Expect::FieldList, Expect::Single, Expect::Text];
        let mut follower = Follower::new(kinds[kind], deprecate_eof, 0).keeping_first_row();
        let _ = follower.feed(&bytes, &mut Vec::new());
    }
}

#[test]
fn a_file_comes_between_request_and_result() {
    let mut request = Vec::new();
    put_packet(&mut request, 1, |p| p.extend_from_slice(b"\xfbdata.csv"));
    let mut refusing = Follower::new(Expect::Results, true, 0);
    assert!(refusing.feed(&request, &mut Vec::new()).is_err(), "nobody has said that there are files");
    let (mut follower, mut out) = (Follower::new(Expect::Results, true, 0).allowing_files(true), Vec::new());
    assert_eq!(follower.feed(&[&request[..], b"early"].concat(), &mut out), Ok(request.len()));
    assert_eq!(out, request);
    let mut file = follower.wanted_file().expect("the client is asked");
    assert!(!follower.is_done() && follower.error_sequence_id(&mut out).is_none());
    out.clear();
    for (sequence_id, text) in [(2, &b"1,2"[..]), (3, b"")] {
        let mut packet = Vec::new();
        put_packet(&mut packet, sequence_id, |p| p.extend_from_slice(text));
        assert_eq!(file.feed(&packet, &mut out), Ok(packet.len()));
    }
    follower.on_file(&file);
    let (mut end, mut out) = (Vec::new(), Vec::new());
    ok(&mut end, 4, STATUS_AUTOCOMMIT, false);
    assert_eq!(follower.feed(&end, &mut out), Ok(end.len()));
    assert!(follower.is_done() && out == end);
}

#[test]
fn rows_are_counted() {
    let input = result(true, &[b"\x011\x012", b"\xfb\x013", b"\x01x\x01y"], &mut 1, STATUS_AUTOCOMMIT);
    assert_eq!(check(Expect::Results, true, &input, &input).rows, 3);
    let none = result(true, &[], &mut 1, STATUS_AUTOCOMMIT);
    assert_eq!(check(Expect::Results, true, &none, &none).rows, 0);
}

#[test]
fn session_changes_are_kept_within_bounds_and_names_of_transactions_beyond() {
    let setting = [&b"\x00\xfc\xf5\x03\x01a\xfc\xf0\x03"[..], &[b'x'; 1008]].concat();
    let mut follower = Follower::new(Expect::Results, true, STATUS_AUTOCOMMIT);
    let (mut out, mut sequence_id) = (Vec::new(), 1u8);
    let mut feed = |follower: &mut Follower, changes: &[u8], status: u16| {
        let (mut packet, id) = (Vec::new(), sequence_id);
        sequence_id = id.wrapping_add(1);
        put_packet(&mut packet, id, |p| {
            p.extend_from_slice(&[0, 0, 0]);
            p.extend_from_slice(&(status | STATUS_SESSION_STATE_CHANGED).to_le_bytes());
            p.extend_from_slice(&[0, 0, 0]); // warnings, no text
            put_bytes(p, changes);
        });
        out.clear();
        assert_eq!(follower.feed(&packet, &mut out), Ok(packet.len()));
    };
    for n in 0..10_000 {
        feed(&mut follower, &setting, STATUS_MORE_RESULTS);
        if n < 100 {
            assert_eq!(follower.outcome().cut, Cut::Nothing, "{n}");
        }
    }
    assert_eq!(follower.outcome().cut, Cut::Settings);
    assert!(follower.outcome().changes.len() <= CHANGES_BYTES_MAX);
    let gtid = |n: u32| [&b"\x00\x14\x09last_gtid\x09"[..], format!("0-1-{n:05}").as_bytes()].concat();
    feed(&mut follower, &[gtid(1), setting.clone()].concat(), STATUS_MORE_RESULTS);
    assert!(follower.outcome().changes.ends_with(&gtid(1)));
    for n in 2..50_000 {
        feed(&mut follower, &gtid(n), STATUS_MORE_RESULTS);
    }
    feed(&mut follower, b"", STATUS_AUTOCOMMIT);
    let outcome = follower.into_outcome();
    assert_eq!((outcome.cut, outcome.results), (Cut::Transactions, 60_000));
    assert!(outcome.changes.len() <= NAMES_BYTES_MAX);
}
