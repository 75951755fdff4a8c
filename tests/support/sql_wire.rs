//! A MySQL client that shows everything a server says: each packet's flags, counts, texts and raw column definitions.
//! Written from the protocol's description, apart from the splitter's own decoders, so that it can judge them; only the
//! login packet and the scramble are borrowed from there.
//!
//! Source: MySQL internals manual, `page_protocol_command_phase`; MariaDB knowledge base, "MariaDB Protocol".

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use one_server::mysql::protocol::auth::native::native_answer;
use one_server::mysql::protocol::auth::sha2;
use one_server::mysql::protocol::capability::{
    CONNECT_WITH_DB, DEPRECATE_EOF, LONG_FLAG, LONG_PASSWORD, PLUGIN_AUTH, PROTOCOL_41, SECURE_CONNECTION,
    STATUS_CURSOR_EXISTS, STATUS_MORE_RESULTS, TRANSACTIONS,
};
use one_server::mysql::protocol::greeting::Greeting;
use one_server::mysql::protocol::login::Login;

/// Payload of a packet that continues in the next one.
pub(crate) const PACKET_MAX: usize = 0xFF_FFFF;
/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
const PLUGIN: &[u8] = b"mysql_native_password";

/// Who logs on, and with what capabilities beside the usual ones.
#[derive(Clone, Debug)]
pub(crate) struct LogOn {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) schema: Option<String>,
    pub(crate) capabilities: u32,
    pub(crate) collation: u8,
}

impl LogOn {
    pub(crate) fn new(user: &str, password: &str, schema: Option<&str>) -> LogOn {
        let schema = schema.map(str::to_owned);
        LogOn { user: user.into(), password: password.into(), schema, capabilities: DEPRECATE_EOF, collation: 45 }
    }
}

/// Warnings and status flags of an EOF packet.
pub(crate) type Eof = (u16, u16);

/// One packet, or one result set, of an answer.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Ok {
        affected: u64,
        insert_id: u64,
        status: u16,
        warnings: u16,
        info: Vec<u8>,
    },
    Err {
        code: u16,
        state: Vec<u8>,
        message: Vec<u8>,
    },
    /// `middle`: the EOF behind the columns, for clients of the old kind. `end`: what comes behind the rows, or `None`
    /// where nothing does.
    Rows {
        columns: Vec<Vec<u8>>,
        middle: Option<Eof>,
        rows: Vec<Vec<u8>>,
        end: Option<Box<Piece>>,
    },
    Eof(Eof),
    /// Answer to COM_STMT_PREPARE; `ends` as above, one for each list of definitions.
    Prepared {
        params: Vec<Vec<u8>>,
        columns: Vec<Vec<u8>>,
        warnings: u16,
        ends: Vec<Eof>,
    },
    /// COM_STATISTICS.
    Text(Vec<u8>),
    /// The server asks for a file.
    File(Vec<u8>),
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, what: &str, texts: &[Vec<u8>]| {
            texts.iter().try_for_each(|text| write!(f, "\n      {what} {:.600}", text.escape_ascii().to_string()))
        };
        match self {
            Piece::Ok { affected, insert_id, status, warnings, info } => write!(
                f,
                "ok affected={affected} id={insert_id} status={status:#06x} warnings={warnings} info={:?}",
                info.escape_ascii().to_string()
            ),
            Piece::Err { code, state, message } => {
                write!(f, "error {code} {} {:.600}", state.escape_ascii(), message.escape_ascii().to_string())
            }
            Piece::Rows { columns, middle, rows, end } => {
                write!(f, "rows")?;
                list(f, "column", columns)?;
                write!(f, "\n      {middle:04x?}")?;
                list(f, "row", rows)?;
                write!(f, "\n      {end:?}")
            }
            Piece::Eof(eof) => write!(f, "eof {eof:04x?}"),
            Piece::Prepared { params, columns, warnings, ends } => {
                write!(f, "prepared warnings={warnings} {ends:04x?}")?;
                list(f, "parameter", params)?;
                list(f, "column", columns)
            }
            Piece::Text(text) => write!(f, "text {}", text.escape_ascii()),
            Piece::File(name) => write!(f, "file {}", name.escape_ascii()),
        }
    }
}

impl Piece {
    /// Error number.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Piece::Err { code, .. } => Some(*code),
            Piece::Rows { end: Some(end), .. } => end.code(),
            _ => None,
        }
    }

    /// Status flags of the last packet.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Piece::Ok { status, .. } | Piece::Eof((_, status)) => Some(*status),
            Piece::Rows { end: Some(end), .. } => end.status(),
            Piece::Rows { middle: Some((_, status)), end: None, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Values of a text row; `None` is NULL.
pub(crate) fn text_values(row: &[u8]) -> Vec<Option<String>> {
    let (mut values, mut rest) = (Vec::new(), row);
    while let Some(first) = rest.first() {
        if *first == 0xFB {
            values.push(None);
            rest = &rest[1..];
        } else {
            let value = Reader(&mut rest).string().expect("a value");
            values.push(Some(String::from_utf8_lossy(value).into_owned()));
        }
    }
    values
}

/// Fields of a payload, from the front.
struct Reader<'a, 'b>(&'b mut &'a [u8]);

impl<'a> Reader<'a, '_> {
    fn bytes(&mut self, n: usize) -> io::Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or_else(|| broken("a packet ends too early"))?;
        *self.0 = rest;
        Ok(head)
    }

    fn fixed(&mut self, n: usize) -> io::Result<u64> {
        let mut all = [0; 8];
        all[..n].copy_from_slice(self.bytes(n)?);
        Ok(u64::from_le_bytes(all))
    }

    fn int(&mut self) -> io::Result<u64> {
        match self.fixed(1)? {
            small @ 0..=250 => Ok(small),
            0xFC => self.fixed(2),
            0xFD => self.fixed(3),
            0xFE => self.fixed(8),
            other => Err(broken(&format!("no length begins with {other:#x}"))),
        }
    }

    fn string(&mut self) -> io::Result<&'a [u8]> {
        let len = self.int()? as usize;
        self.bytes(len)
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// What is read in answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// COM_QUERY, COM_STMT_EXECUTE.
    Results,
    /// One OK, EOF or ERR.
    Single,
    /// Rows behind COM_STMT_FETCH.
    Fetched,
    /// COM_STMT_PREPARE.
    Prepared,
    /// COM_FIELD_LIST.
    Fields,
    /// COM_STATISTICS.
    Text,
    Nothing,
}

/// A logged-on connection.
pub(crate) struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    start: usize,
    sequence_id: u8,
    scramble: [u8; 20],
    log_on: LogOn,
    /// Connection id of the greeting.
    pub(crate) connection_id: u32,
    /// Id of the statement prepared last.
    pub(crate) prepared_id: u32,
}

impl Wire {
    /// Connects and logs on. Errors: the reason when the server refuses.
    pub(crate) fn connect(address: SocketAddr, log_on: &LogOn) -> io::Result<Wire> {
        let mut wire = Wire::before_login(address, log_on)?;
        let mut out = Vec::new();
        wire.login(1, &mut out);
        wire.send_raw(&out)?;
        match wire.login_end()? {
            Piece::Ok { .. } => Ok(wire),
            refused => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{refused:?}"))),
        }
    }

    /// Connected; the greeting has been read.
    pub(crate) fn before_login(address: SocketAddr, log_on: &LogOn) -> io::Result<Wire> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let log_on = log_on.clone();
        let (input, scramble) = (Vec::new(), [0; 20]);
        let mut wire =
            Wire { stream, input, start: 0, sequence_id: 0, scramble, log_on, connection_id: 0, prepared_id: 0 };
        let payload = wire.packet()?;
        if payload.first() == Some(&0xFF) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{:?}", wire.error(&payload)?)));
        }
        let greeting = Greeting::decode(&payload).map_err(|error| broken(&error.to_string()))?;
        (wire.scramble, wire.connection_id) = (greeting.scramble, greeting.connection_id);
        Ok(wire)
    }

    /// The packet that logs on.
    pub(crate) fn login(&self, sequence_id: u8, out: &mut Vec<u8>) {
        let mut capabilities = self.log_on.capabilities
            | LONG_PASSWORD
            | LONG_FLAG
            | PROTOCOL_41
            | TRANSACTIONS
            | SECURE_CONNECTION
            | PLUGIN_AUTH;
        if self.log_on.schema.is_some() {
            capabilities |= CONNECT_WITH_DB;
        }
        let login = Login {
            capabilities,
            collation: self.log_on.collation.into(),
            user: self.log_on.user.as_bytes(),
            answer: &native_answer(self.log_on.password.as_bytes(), &self.scramble),
            schema: self.log_on.schema.as_deref().unwrap_or_default().as_bytes(),
            plugin: PLUGIN,
            zstd_level: 0,
        };
        login.encode(out, sequence_id);
    }

    /// The answer to a login sent by [`Wire::send_raw`].
    pub(crate) fn login_end(&mut self) -> io::Result<Piece> {
        self.sequence_id = 2;
        self.end_of_login()
    }

    fn end_of_login(&mut self) -> io::Result<Piece> {
        loop {
            let payload = self.packet()?;
            match payload.first() {
                Some(0x00) => return self.ok(&payload),
                Some(0xFF) => return self.error(&payload),
                // MySQL: it knows the password already.
                Some(0x01) if payload[1..] == [3] => {}
                Some(0xFE) => {
                    let native = payload.strip_prefix(b"\xfemysql_native_password\0");
                    let rest = native.or_else(|| payload.strip_prefix(b"\xfecaching_sha2_password\0"));
                    let scramble = rest.and_then(|rest| rest.get(..20)).ok_or_else(|| broken("another plugin"))?;
                    self.scramble = scramble.try_into().expect("20 bytes");
                    let password = self.log_on.password.as_bytes();
                    let answer = match native {
                        Some(_) => native_answer(password, &self.scramble).to_vec(),
                        None => sha2::answer(password, &self.scramble),
                    };
                    let mut out = vec![answer.len() as u8, 0, 0, self.sequence_id];
                    out.extend_from_slice(&answer);
                    self.sequence_id = self.sequence_id.wrapping_add(1);
                    self.send_raw(&out)?;
                }
                _ => return Err(broken("a login ends otherwise")),
            }
        }
    }

    fn deprecate_eof(&self) -> bool {
        self.log_on.capabilities & DEPRECATE_EOF != 0
    }

    /// Bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// What comes next, up to the size of `into`; how many bytes. Allocates nothing.
    pub(crate) fn read_raw(&mut self, into: &mut [u8]) -> io::Result<usize> {
        assert!(self.start == self.input.len(), "an answer was read beyond its end");
        self.stream.read(into)
    }

    /// A command's packets: its first byte, then `rest`.
    pub(crate) fn command_bytes(code: u8, rest: &[u8]) -> Vec<u8> {
        let payload = [&[code], rest].concat();
        let mut out = Vec::with_capacity(payload.len() + 8);
        let (mut rest, mut sequence_id) = (&payload[..], 0u8);
        loop {
            let (head, tail) = rest.split_at(rest.len().min(PACKET_MAX));
            out.extend_from_slice(&(head.len() as u32).to_le_bytes()[..3]);
            out.push(sequence_id);
            out.extend_from_slice(head);
            if head.len() < PACKET_MAX {
                return out;
            }
            (rest, sequence_id) = (tail, sequence_id.wrapping_add(1));
        }
    }

    /// A command of one packet goes out by [`Wire::send_raw`].
    pub(crate) fn begin_command(&mut self) {
        self.sequence_id = 1;
    }

    /// Sends a command; [`Wire::answer`] reads what comes of it.
    pub(crate) fn send(&mut self, code: u8, rest: &[u8]) -> io::Result<()> {
        self.sequence_id = ((rest.len() + 1) / PACKET_MAX + 1) as u8;
        self.send_raw(&Wire::command_bytes(code, rest))
    }

    pub(crate) fn query(&mut self, sql: impl AsRef<[u8]>) -> io::Result<Vec<Piece>> {
        self.send(3, sql.as_ref())?;
        self.answer(Shape::Results)
    }

    /// Text values of the only row of the only result.
    ///
    /// Panics when the answer is anything else.
    pub(crate) fn row(&mut self, sql: &str) -> Vec<Option<String>> {
        let answer = self.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        match &answer[..] {
            [Piece::Rows { rows, end, .. }]
                if rows.len() == 1 && end.as_ref().is_none_or(|end| end.code().is_none()) =>
            {
                text_values(&rows[0])
            }
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// COM_CHANGE_USER to the same user and another database.
    pub(crate) fn send_change_user(&mut self, schema: &str) -> io::Result<()> {
        let answer = native_answer(self.log_on.password.as_bytes(), &self.scramble);
        let mut rest = [self.log_on.user.as_bytes(), &[0, answer.len() as u8]].concat();
        rest.extend_from_slice(&answer);
        rest.extend_from_slice(schema.as_bytes());
        rest.extend_from_slice(&[0, self.log_on.collation, 0]);
        rest.extend_from_slice(PLUGIN);
        rest.push(0);
        self.send(0x11, &rest)
    }

    pub(crate) fn change_user_answer(&mut self) -> io::Result<Vec<Piece>> {
        Ok(vec![self.end_of_login()?])
    }

    /// The whole answer to the command sent last.
    pub(crate) fn answer(&mut self, shape: Shape) -> io::Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        match shape {
            Shape::Nothing => {}
            Shape::Results => loop {
                let piece = self.result()?;
                let more = piece.status().is_some_and(|status| status & STATUS_MORE_RESULTS != 0);
                pieces.push(piece);
                if !more {
                    break;
                }
            },
            Shape::Single => {
                let payload = self.packet()?;
                pieces.push(self.end(&payload)?);
            }
            Shape::Fetched => {
                let (rows, end) = self.rows_until_end()?;
                pieces.push(Piece::Rows { columns: Vec::new(), middle: None, rows, end: Some(Box::new(end)) });
            }
            Shape::Fields => {
                let (columns, end) = self.rows_until_end()?;
                pieces.push(Piece::Rows { columns, middle: None, rows: Vec::new(), end: Some(Box::new(end)) });
            }
            Shape::Prepared => pieces.push(self.prepared()?),
            Shape::Text => {
                let payload = self.packet()?;
                pieces.push(if payload.first() == Some(&0xFF) { self.error(&payload)? } else { Piece::Text(payload) });
            }
        }
        Ok(pieces)
    }

    fn result(&mut self) -> io::Result<Piece> {
        let payload = self.packet()?;
        match payload.first() {
            Some(0x00) => return self.ok(&payload),
            Some(0xFF) => return self.error(&payload),
            Some(0xFB) => {
                // Nothing is sent: an empty packet ends the file.
                let empty = [0, 0, 0, self.sequence_id];
                self.sequence_id = self.sequence_id.wrapping_add(1);
                self.send_raw(&empty)?;
                let end = self.packet()?;
                let end = self.end(&end)?;
                return Ok(match end {
                    Piece::Err { .. } => end,
                    _ => Piece::File(payload[1..].to_vec()),
                });
            }
            _ => {}
        }
        let count = Reader(&mut &payload[..]).int()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(self.packet()?);
        }
        let mut middle = None;
        if !self.deprecate_eof() {
            let eof = self.eof()?;
            middle = Some(eof);
            if eof.1 & STATUS_CURSOR_EXISTS != 0 {
                return Ok(Piece::Rows { columns, middle, rows: Vec::new(), end: None });
            }
        }
        let (rows, end) = self.rows_until_end()?;
        Ok(Piece::Rows { columns, middle, rows, end: Some(Box::new(end)) })
    }

    fn rows_until_end(&mut self) -> io::Result<(Vec<Vec<u8>>, Piece)> {
        let mut rows = Vec::new();
        loop {
            let payload = self.packet()?;
            match payload.first() {
                Some(0xFF) => return Ok((rows, self.error(&payload)?)),
                // A row can begin so, too, when its first value is longer than a packet.
                Some(0xFE) if payload.len() < PACKET_MAX => return Ok((rows, self.end(&payload)?)),
                _ => rows.push(payload),
            }
        }
    }

    fn prepared(&mut self) -> io::Result<Piece> {
        let payload = self.packet()?;
        if payload.first() == Some(&0xFF) {
            return self.error(&payload);
        }
        let mut rest = &payload[..];
        let mut reader = Reader(&mut rest);
        reader.bytes(1)?;
        self.prepared_id = reader.fixed(4)? as u32;
        let (columns, params) = (reader.fixed(2)?, reader.fixed(2)?);
        reader.bytes(1)?;
        let warnings = reader.fixed(2)? as u16;
        let mut ends = Vec::new();
        let params = self.definitions(params, &mut ends)?;
        let columns = self.definitions(columns, &mut ends)?;
        Ok(Piece::Prepared { params, columns, warnings, ends })
    }

    fn definitions(&mut self, count: u64, ends: &mut Vec<Eof>) -> io::Result<Vec<Vec<u8>>> {
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(self.packet()?);
        }
        if count > 0 && !self.deprecate_eof() {
            ends.push(self.eof()?);
        }
        Ok(list)
    }

    fn eof(&mut self) -> io::Result<Eof> {
        let payload = self.packet()?;
        match payload[..] {
            [0xFE, a, b, c, d] => Ok((u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))),
            _ => Err(broken(&format!("no EOF packet: {:.100}", payload.escape_ascii().to_string()))),
        }
    }

    /// OK, EOF or ERR.
    fn end(&mut self, payload: &[u8]) -> io::Result<Piece> {
        match payload {
            [0xFF, ..] => self.error(payload),
            [0xFE, a, b, c, d] => Ok(Piece::Eof((u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d])))),
            _ => self.ok(payload),
        }
    }

    fn ok(&self, payload: &[u8]) -> io::Result<Piece> {
        let mut rest = payload;
        let mut reader = Reader(&mut rest);
        if !matches!(reader.fixed(1)?, 0x00 | 0xFE) {
            return Err(broken(&format!("no OK packet: {:.100}", payload.escape_ascii().to_string())));
        }
        let (affected, insert_id) = (reader.int()?, reader.int()?);
        let (status, warnings) = (reader.fixed(2)? as u16, reader.fixed(2)? as u16);
        Ok(Piece::Ok { affected, insert_id, status, warnings, info: rest.to_vec() })
    }

    fn error(&self, payload: &[u8]) -> io::Result<Piece> {
        let mut rest = payload;
        let mut reader = Reader(&mut rest);
        reader.bytes(1)?;
        let code = reader.fixed(2)? as u16;
        let mut state = Vec::new();
        if reader.0.first() == Some(&b'#') {
            state = reader.bytes(6)?[1..].to_vec();
        }
        Ok(Piece::Err { code, state, message: rest.to_vec() })
    }

    /// The next packet, or the packets that belong together, without headers.
    fn packet(&mut self) -> io::Result<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            self.fill(4)?;
            let at = self.start;
            let len = u32::from_le_bytes([self.input[at], self.input[at + 1], self.input[at + 2], 0]) as usize;
            let sequence_id = self.input[at + 3];
            if sequence_id != self.sequence_id {
                return Err(broken(&format!("sequence id {sequence_id}, expected {}", self.sequence_id)));
            }
            self.sequence_id = sequence_id.wrapping_add(1);
            self.fill(4 + len)?;
            let at = self.start + 4;
            payload.extend_from_slice(&self.input[at..at + len]);
            self.start = at + len;
            if len < PACKET_MAX {
                return Ok(payload);
            }
        }
    }

    /// Reads until `n` bytes are there.
    fn fill(&mut self, n: usize) -> io::Result<()> {
        if self.start == self.input.len() {
            self.input.clear();
            self.start = 0;
        }
        while self.input.len() - self.start < n {
            let old = self.input.len();
            let wanted = (n + self.start - old).max(8192);
            self.input.resize(old + wanted, 0);
            let read = self.stream.read(&mut self.input[old..]);
            self.input.truncate(old + read.as_ref().map_or(0, |n| *n));
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the other side has closed, waiting for that at most `limit`.
    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        let _ = self.stream.set_read_timeout(Some(limit));
        let closed = self.start == self.input.len() && matches!(self.stream.read(&mut [0; 1]), Ok(0));
        let _ = self.stream.set_read_timeout(Some(ANSWER_TIMEOUT));
        closed
    }
}
