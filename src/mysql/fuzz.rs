//! Properties of the protocol, the lexer, the session's state and the logins that hold for any input, whatever it says.
//! Targets of `fuzz/` call them with coverage feedback; the tests below run them on every `cargo test`. Each function panics
//! when a property does not hold.

use super::gtid::Position;
use super::protocol::attributes::sql_offset;
use super::protocol::auth::prover::Secret;
use super::protocol::auth::{Method, Prover, Step, Verifier};
use super::protocol::capability::{OFFERED, SECURE_CONNECTION, STATUS_SESSION_STATE_CHANGED};
use super::protocol::compressed::{Algorithm, Frames};
use super::protocol::execute;
use super::protocol::execute::{Binding, Form};
use super::protocol::follow::{Expect, Follower, Outcome};
use super::protocol::greeting::Greeting;
use super::protocol::lenenc::{put_bytes, put_int};
use super::protocol::local_file::LocalFile;
use super::protocol::login::Login;
use super::protocol::packet::{HEADER_BYTES, join_payload, message_bytes};
use super::protocol::response::{ErrPacket, OkPacket};
use super::protocol::tracker::{Change, Changes};
use super::session::{Session, VARIABLES};
use super::sql::hidden::{Definition, Hidden, Of};
use super::sql::lexer::{Lexer, Token};
use super::sql::{Charset, Class, Flavour, Kind, Mode, Pin, classify, used_schema};

const MESSAGE_MAX: usize = 1 << 20;

/// A server's bytes are followed to the same end, and to the same bytes for the client, however they are cut. The first
/// byte says what is expected and where the second cut is.
pub fn answers(input: &[u8]) {
    let [choice, answer @ ..] = input else { return };
    let kinds = [Expect::Results, Expect::Prepare, Expect::Rows, Expect::FieldList, Expect::Single, Expect::Text];
    let (kind, modern) = (kinds[usize::from(choice % 6)], choice & 8 != 0);
    let follow = |pieces: &[&[u8]]| {
        let mut follower = Follower::new(kind, modern, 2).with_statement_id(7).keeping_first_row();
        let mut out = Vec::new();
        for piece in pieces {
            let used = follower.feed(piece, &mut out).map_err(|error| error.to_string())?;
            assert!(used <= piece.len() && (used == piece.len() || follower.is_done()));
        }
        // What is done stays so.
        assert!(!follower.is_done() || follower.feed(b"more", &mut out) == Ok(0));
        Ok::<_, String>((follower.is_done(), follower.outcome().clone(), out))
    };
    let whole = follow(&[answer]);
    let cut = answer.len() * usize::from(choice >> 4) / 16;
    let bytes: Vec<&[u8]> = answer.chunks(1).collect();
    for cut in [follow(&[&answer[..cut], &answer[cut..]]), follow(&bytes)] {
        // Before an error more or less may have been passed on.
        assert_eq!(cut.as_ref().ok(), whole.as_ref().ok());
    }
    if let Ok((true, outcome, _)) = &whole {
        assert!(Changes::new(&outcome.changes).count() <= outcome.changes.len() + 1);
    }
}

/// Compressed frames hold the same however they come; what is sent by one side is what the other side receives.
pub fn frames(input: &[u8]) {
    let [choice, bytes @ ..] = input else { return };
    let algorithm = if choice & 1 == 0 { Algorithm::Zlib } else { Algorithm::Zstd(3) };
    let receive = |pieces: &[&[u8]]| {
        let (mut frames, mut waiting, mut plain) = (Frames::new(algorithm), Vec::new(), Vec::new());
        for piece in pieces {
            waiting.extend_from_slice(piece);
            while frames.receive(&mut waiting, &mut plain).map_err(|error| error.to_string())? {}
        }
        Ok::<_, String>((plain, waiting, frames.sequence_id()))
    };
    let cut = bytes.len() * usize::from(choice >> 4) / 16;
    assert_eq!(receive(&[&bytes[..cut], &bytes[cut..]]), receive(&[bytes]));
    let (mut ours, mut sent) = (Frames::new(algorithm), Vec::new());
    ours.send(bytes, &mut sent);
    let (plain, rest, sequence_id) = receive(&[&sent]).expect("our own");
    assert!(plain == bytes && rest.is_empty() && sequence_id == ours.sequence_id());
}

/// A client's file is passed on packet by packet, the same however it is cut, and nothing behind its end.
pub fn local_file(input: &[u8]) {
    let [choice, bytes @ ..] = input else { return };
    let pass = |pieces: &[&[u8]]| {
        let (mut file, mut out, mut used) = (LocalFile::new(choice & 3, choice >> 2 & 1), Vec::new(), 0);
        for piece in pieces {
            let taken = file.feed(piece, &mut out).map_err(|error| error.to_string())?;
            assert!(taken == piece.len() || file.is_done());
            used += taken;
        }
        Ok::<_, String>((out, used, file.is_done(), file.next_sequence_id()))
    };
    let cut = bytes.len() * usize::from(choice >> 4) / 16;
    let whole = pass(&[bytes]);
    assert_eq!(pass(&[&bytes[..cut], &bytes[cut..]]), whole);
    if let Ok((out, used, ..)) = whole {
        // Numbers of packets are all that changes, and the rest of a header may not have come.
        assert!(out.len() <= used && used < out.len() + HEADER_BYTES);
    }
}

/// Definitions that a server tells are read whatever they say: a body that takes a lock is never taken for nothing, wherever it
/// stands, and what is defined beside it makes no difference to that.
pub fn definitions(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let of = |of: Of, name: &str, text: String| Definition {
        of,
        name: name.into(),
        text: Some(text),
        mode: Mode::default(),
    };
    let variables = [b"sql_mode"[..].into()].into_iter().collect();
    let told = [
        of(Of::Table, "t", format!("BEGIN DO GET_LOCK('k', 0); {text}\nEND")),
        of(Of::View, "v", format!("select {text}")),
        of(Of::Routine, "f", text.to_string()),
    ];
    let hidden = Hidden::new(&told, &variables);
    let sql = b"INSERT INTO t VALUES (1)";
    let mut class = classify(sql, Mode::default());
    hidden.reveal(sql, Mode::default(), &mut class);
    assert_eq!(class.pin, Some(Pin::Hidden));
}

/// A client's bytes are cut into messages, logins and executions of statements, each with what is its own and no more.
pub fn commands(input: &[u8]) {
    if let Ok(Some(len)) = message_bytes(input, 0, MESSAGE_MAX) {
        assert!(len <= input.len());
        assert_eq!(message_bytes(&input[..len - 1], 0, MESSAGE_MAX), Ok(None));
        assert!(join_payload(&input[..len]).len() < len);
        let _ = Greeting::decode(&input[4..len]);
    }
    // Older clients end their answer otherwise than it is written here.
    if let Ok(login) = Login::decode(input)
        && login.capabilities & SECURE_CONNECTION != 0
    {
        let mut out = Vec::new();
        login.encode(&mut out, 1);
        assert_eq!(Login::decode(&out[4..]).as_ref(), Ok(&login));
    }
    let _ = (Login::decode_change_user(input, OFFERED, 45), OkPacket::decode(input), ErrPacket::decode(input));
    for (params, attributes, keeps) in
        [(0, false, true), (1, false, true), (9, false, false), (9, true, true), (1, true, false)]
    {
        let (form, known) = (Form { params, attributes }, [8, 0].repeat(params.into()));
        let binding = Binding { form, types: &known, pieces: &[] };
        let mut out = Vec::new();
        if execute::put_rebound(&mut out, input, 77, binding, keeps).is_ok() {
            assert_eq!(execute::statement_id(&out), Ok(77));
            let form = Form { attributes: attributes && keeps, ..form };
            let bytes_min = 2 * usize::from(params);
            assert!(matches!(execute::types(&out, form), Ok(Some(types)) if types.len() >= bytes_min));
        }
    }
    let _ = sql_offset(input);
}

/// A statement is cut into tokens that lie in it, one behind the other; what is a read stays one behind a comment, and is
/// none with anything but a read behind it. The first byte is the mode.
pub fn statement(input: &[u8]) {
    let [choice, sql @ ..] = input else { return };
    let charset = [Charset::Utf8, Charset::AsciiSafe, Charset::AsciiTrail][usize::from(choice % 3)];
    let mode = Mode {
        ansi_quotes: choice & 16 != 0,
        no_backslash_escapes: choice & 32 != 0,
        ignore_space: choice & 64 != 0,
        oracle: choice & 8 != 0,
        charset,
        flavour: if choice & 128 != 0 { Flavour::MySqlWithoutHashes } else { Flavour::MariaDb },
    };
    let mut at = 0;
    for (count, token) in Lexer::new(sql, mode).enumerate() {
        assert!(count <= sql.len(), "more tokens than bytes");
        if let Token::Word(part) | Token::Quoted(part) | Token::SystemVariable(part) = token {
            let start = part.as_ptr() as usize - sql.as_ptr() as usize;
            assert!(start >= at && start + part.len() <= sql.len(), "tokens in order");
            at = start + part.len();
        }
    }
    let class = classify(sql, mode);
    assert_eq!(classify(sql, mode), class);
    let _ = used_schema(sql, mode);
    if !class.is_read() {
        return;
    }
    let with = |before: &[u8], behind: &[u8]| classify(&[before, sql, behind].concat(), mode);
    assert!(with(b"/* c */ ", b"").is_read() && with(b"", b"\n").is_read());
    for behind in ["\n; DELETE FROM t", "\n, zz_unknown(1)", "\n, @a := 1", "\n INTO @a", "\n /*! , 1 */", "\n '"] {
        let class = with(b"", behind.as_bytes());
        assert!(!class.is_read(), "{behind}: {class:?}");
    }
}

/// What a server reports of its session is taken in whatever it says, and what another connection is told from it sets the
/// variables that are known, each to one value and nothing else.
pub fn trackers(input: &[u8]) {
    let entries: Vec<_> = Changes::new(input).collect();
    assert!(entries.len() <= input.len() + 1);
    let mut again = Vec::new();
    for change in entries.iter().flatten() {
        put_change(&mut again, change);
    }
    let known = |change: &Change<'_>| !matches!(change, Change::Other(_) | Change::State(false));
    let first: Vec<_> = entries.iter().flatten().filter(|change| known(change)).copied().collect();
    let second: Vec<_> = Changes::new(&again).map(|change| change.expect("just written")).collect();
    assert_eq!(first, second);

    let mut session = Session::new(None, Mode::default(), 45, 0);
    let outcome =
        Outcome { status: Some(STATUS_SESSION_STATE_CHANGED | 2), changes: input.to_vec(), ..Outcome::default() };
    session.on_outcome(&Class { kind: Kind::Set, pin: None, ..Class::UNKNOWN }, &outcome);
    let mut set = b"SET x=1".to_vec();
    session.state.put_assignments(&mut set);
    // Read as by a server whose session is as after its login, in either way with backslashes.
    for no_backslash_escapes in [false, true] {
        assert_assignments(&set, Mode { no_backslash_escapes, ..Mode::default() });
    }
}

fn put_change(out: &mut Vec<u8>, change: &Change<'_>) {
    let mut entry = |kind: u8, parts: &[&[u8]]| {
        let mut data = Vec::new();
        parts.iter().for_each(|part| put_bytes(&mut data, part));
        out.push(kind);
        put_bytes(out, &data);
    };
    match change {
        Change::Variable { name, value } => entry(0, &[name, value]),
        Change::Schema(name) => entry(1, &[name]),
        Change::State(true) => out.extend_from_slice(b"\x02\x011"),
        Change::Gtids(text) => {
            let mut data = vec![0];
            put_bytes(&mut data, text);
            out.push(3);
            put_int(out, data.len() as u64);
            out.extend_from_slice(&data);
        }
        Change::Characteristics(text) => entry(4, &[text]),
        Change::Transaction(text) => entry(5, &[text]),
        Change::State(false) | Change::Other(_) => {}
    }
}

/// `SET x=1, name=value, name=value …` with known names and plain values.
#[track_caller]
fn assert_assignments(set: &[u8], mode: Mode) {
    let text = set.escape_ascii();
    let mut lexer = Lexer::new(set, mode);
    assert_eq!(lexer.next(), Some(Token::Word(b"SET")));
    for n in 0.. {
        match lexer.next() {
            None if n > 0 => break,
            Some(Token::Sign(b',')) if n > 0 => {}
            Some(Token::Word(b"x")) if n == 0 => {
                assert_eq!((lexer.next(), lexer.next()), (Some(Token::Sign(b'=')), Some(Token::Number)));
                continue;
            }
            other => panic!("{other:?} in {text}"),
        }
        let Some(Token::Word(name)) = lexer.next() else { panic!("no name in {text}") };
        assert!(VARIABLES.iter().any(|known| known.as_bytes() == name), "{text}");
        assert_eq!(lexer.next(), Some(Token::Sign(b'=')), "{text}");
        let mut value = lexer.next();
        if matches!(value, Some(Token::Sign(b'-') | Token::Word(b"X"))) {
            value = lexer.next();
        }
        assert!(matches!(value, Some(Token::Number | Token::Text)), "{value:?} in {text}");
    }
}

/// Positions are read as they are written, include themselves and what they are raised by, and nothing that they are
/// behind. Two lines: two positions.
pub fn gtids(input: &[u8]) {
    let mut lines = input.splitn(2, |&byte| byte == b'\n');
    let Some(position) = lines.next().and_then(Position::parse) else { return };
    assert_eq!(Position::parse(position.text().as_bytes()).as_ref(), Some(&position));
    assert!(position.covers(&position) && position.covers(&Position::default()));
    let Some(other) = lines.next().and_then(Position::parse) else { return };
    let mut both = position.clone();
    if other.iter().all(|gtid| both.raise(*gtid)) {
        assert!(both.covers(&position) && both.covers(&other));
        assert!(!position.covers(&both) || position.covers(&other));
    }
    if position.covers(&other) && other.covers(&position) {
        let sequences = |position: &Position| {
            let mut all: Vec<_> = position.iter().map(|gtid| (gtid.domain, gtid.sequence)).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(sequences(&position), sequences(&other));
    }
}

/// No server gets the password in clear by a connection that others can read, whatever it sends; and no answer but the right
/// one lets a client in. The input: packets of a server, each behind its length; the whole is a client's answer, too.
pub fn logins(input: &[u8]) {
    const PASSWORD: &[u8] = b"correct horse battery";
    let mut prover = Prover::new(Secret::Password(PASSWORD), b"mysql_native_password", [7; 20], false, None);
    let mut rest = input;
    let mut answers = 0;
    while let [len, tail @ ..] = rest {
        let (packet, tail) = tail.split_at(tail.len().min(usize::from(*len)));
        rest = tail;
        match prover.on_packet(packet) {
            Ok(Step::Answer(answer)) => {
                answers += 1;
                assert!(!answer.windows(PASSWORD.len()).any(|part| part == PASSWORD), "the password in clear");
            }
            Ok(Step::Wait) => {}
            Ok(Step::End) | Err(_) => break,
        }
    }
    assert!(answers <= 8, "a server cannot ask for ever");
    let verifier = Verifier::Password(PASSWORD.to_vec());
    for method in [Method::Native, Method::CachingSha2, Method::Ed25519] {
        assert_eq!(verifier.check(method, &vec![9; method.nonce_bytes()], input), None, "{method:?}");
    }
    let in_clear = verifier.check(Method::Clear, b"", input).is_some();
    assert_eq!(in_clear, input.strip_suffix(b"\0").unwrap_or(input) == PASSWORD);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn answers_of_servers() {
        let pieces = [
            "\x01\0\0\x01\x01",
            "\x07\0\0\x01\0\0\0\x02\0\0\0",
            "\x05\0\0\x02\u{7f}\0\0\x02\0",
            "\x03\0\0\x03\x02ab",
            "\u{1}",
            "\0\0\0\x02",
            "\0",
        ];
        fuzz("mysql_answer", answers, &pieces);
    }

    #[test]
    fn commands_of_clients() {
        let pieces =
            ["\x09\0\0\0\x03SELECT 1", "\x17", "\0\0\0\0", "\x01\0\0\0", "root\0", "mysql_native_password\0", "\x14"];
        fuzz("mysql_command", commands, &pieces);
    }

    #[test]
    fn statements() {
        let pieces = [
            "SELECT ",
            "FROM t",
            " FOR UPDATE",
            "(",
            ")",
            "'",
            "\"",
            "`",
            "\\",
            "/*",
            "*/",
            "/*!",
            "-- ",
            "#",
            "\n",
            ";",
            "@a",
            "@@x",
            ":=",
            "INTO ",
            "f(",
            "COUNT(",
            "WITH c AS ",
            "UNION ",
            "EXPLAIN ",
            ",",
            ".",
            "1e",
            "0x",
            "\u{bf}",
            "\u{a0}",
            "LOCK IN SHARE MODE",
            "SHOW ",
            "VALUES ",
        ];
        fuzz("mysql_statement", statement, &pieces);
    }

    #[test]
    fn compressed_frames() {
        let pieces = [
            "\x05\0\0\0\0\0\0hello",
            "\x03\0\0\x01\0\0\0abc",
            "\x02\0\0\x02\x09\0\0xy",
            "\0\0\0",
            "aaaaaaaaaaaaaaaaaaaa",
        ];
        fuzz("mysql_frames", frames, &pieces);
    }

    #[test]
    fn files_of_clients() {
        let pieces = ["\x03\0\0\0abc", "\x03\0\0\x01abc", "\0\0\0\x02", "\0\0\0\x03", "\x02\0\0\x02xy", "ab"];
        fuzz("mysql_local_file", local_file, &pieces);
    }

    #[test]
    fn definitions_of_servers() {
        let pieces = [
            "BEGIN ", "END", ";", "SET ", "@x", "sql_mode", " = ", "1", ", ", "CASE ", "WHEN ", "THEN ", "DECLARE ",
            "n INT", "IF ", "END IF", "LOOP ", "(", ")", "'", "`", "/*", "f(", "CALL ", "INTO ", "NEW.", "--\n",
        ];
        fuzz("mysql_definitions", definitions, &pieces);
    }

    #[test]
    fn session_trackers() {
        let pieces = [
            "\0\x0c\x08sql_mode\x02it",
            "\0\x0c\x09time_zone\x01'",
            "\x01\x03\x02db",
            "\x02\x011",
            "\x05\x09\x08T_______",
            "\\",
            "'",
            "\x03\0\x02ab",
            "\u{1}",
        ];
        fuzz("mysql_tracker", trackers, &pieces);
    }

    #[test]
    fn positions() {
        fuzz(
            "mysql_gtid",
            gtids,
            &["0-1-5", ",", "1-1-7", "\n", "-", "0-2-18446744073709551615", "4294967295-1-1", " "],
        );
    }

    #[test]
    fn logins_to_both_sides() {
        let pieces = [
            "mysql_clear_password\0",
            "caching_sha2_password\0",
            "client_ed25519\0",
            "sha256_password\0",
            "\x01\x04",
            "\x02\x01\x04",
            "\x01\u{2}",
            "\0",
        ];
        fuzz("mysql_login", logins, &pieces);
    }
}
