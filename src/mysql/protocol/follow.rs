//! Follows one response by its packet framing, without decoding rows: knows where it ends, keeps what its OK and ERR
//! packets say, and turns it into what the client may see.
//!
//! In: the bytes of a server connection that speaks CLIENT_DEPRECATE_EOF and CLIENT_SESSION_TRACK. Out: the bytes for
//! a client without CLIENT_SESSION_TRACK and with or without CLIENT_DEPRECATE_EOF. Rows are copied as they are; only
//! sequence ids move when EOF packets are put in.
//!
//! ```text
//! Results:  First -> OK | ERR                       (MORE_RESULTS in OK: First again)
//!           First -> request for a file -> File -> First (once the client has sent it)
//!           First -> column count -> Columns -> Rows -> OK(0xFE) | ERR
//! Prepare:  First -> PrepareOk -> Columns (parameters) -> Columns -> done | ERR
//! Rows:     Rows -> OK(0xFE) | ERR       FieldList: the same, or OK
//! Single:   OK | ERR                     Text: one packet
//! ```
//! Source: MySQL internals manual, `page_protocol_command_phase_text`, `page_protocol_command_phase_ps`.

use super::ProtocolError;
use super::capability::{STATUS_CURSOR_EXISTS, STATUS_MORE_RESULTS, STATUS_OF_SESSION};
use super::lenenc::Fields;
use super::local_file::LocalFile;
use super::packet::{HEADER_BYTES, Header, PAYLOAD_BYTES_MAX};
use super::response::{ErrPacket, OkPacket, put_eof};
use super::tracker::put_transactions;

/// Largest packet that is collected to be read (OK with session changes, ERR); rows are never collected.
const COLLECT_BYTES_MAX: usize = 4 << 20;

/// Session changes of one response that are kept in full, bytes. A statement of a few bytes can bring 1 kB of them, and there is
/// room for millions in one command.
const CHANGES_BYTES_MAX: usize = 256 << 10;
/// The same with what is kept beyond that, the names of transactions.
const NAMES_BYTES_MAX: usize = 2 * CHANGES_BYTES_MAX;

/// What is missing in [`Outcome::changes`] because there was too much of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// Nothing is.
    #[default]
    Nothing,
    /// Anything but the names of transactions that were committed.
    Settings,
    /// Those, too.
    Transactions,
}

/// The form of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// COM_QUERY, COM_STMT_EXECUTE: any number of results.
    Results,
    /// COM_STMT_PREPARE.
    Prepare,
    /// COM_STMT_FETCH.
    Rows,
    /// COM_FIELD_LIST.
    FieldList,
    /// OK, EOF or ERR.
    Single,
    /// COM_STATISTICS: one packet of text.
    Text,
}

/// What COM_STMT_PREPARE answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The server's id of the statement.
    pub statement_id: u32,
    /// Number of parameters.
    pub params: u16,
}

/// What the OK and ERR packets of a response said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Status flags of the last OK packet; `None`: there was none.
    pub status: Option<u16>,
    /// Error number, if the response ended in an ERR packet.
    pub error: Option<u16>,
    /// Message of that error.
    pub message: Vec<u8>,
    /// Warnings of the last OK packet.
    pub warnings: u16,
    /// Whether any OK packet had some.
    pub warned: bool,
    /// Affected rows, summed over all results.
    pub affected_rows: u64,
    /// Affected rows of the last result; `None`: it had columns, or there was none.
    pub last_affected: Option<u64>,
    /// Insert id of the last OK packet that had one, or 0.
    pub insert_id: u64,
    /// Results in the response.
    pub results: u32,
    /// Rows of all results.
    pub rows: u64,
    /// Whether any result had columns.
    pub had_rows: bool,
    /// Session state changes of all OK packets, one after the other, see [`super::tracker::Changes`].
    pub changes: Vec<u8>,
    /// What is missing there.
    pub cut: Cut,
    /// Answer to COM_STMT_PREPARE.
    pub prepared: Option<Prepared>,
    /// First row of the first result, if the follower was told to keep it.
    pub first_row: Option<Vec<u8>>,
}

impl Outcome {
    /// Keeps what one more OK packet says of the session, as long as there is room for it.
    fn keep(&mut self, changes: &[u8]) {
        if self.cut == Cut::Nothing && self.changes.len() + changes.len() <= CHANGES_BYTES_MAX {
            return self.changes.extend_from_slice(changes);
        }
        if changes.is_empty() {
            return;
        }
        self.cut = self.cut.max(Cut::Settings);
        let kept = self.changes.len();
        let are_read = put_transactions(changes, &mut self.changes);
        if !are_read || self.changes.len() > NAMES_BYTES_MAX {
            self.changes.truncate(kept);
            self.cut = Cut::Transactions;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    First,
    /// So many column definitions are left; then `After`.
    Columns(u64, After),
    /// Columns are through, the first row or the end is next: here a client without DEPRECATE_EOF wants an EOF packet,
    /// unless a cursor was opened.
    RowsStart,
    Rows,
    /// Column definitions, of which nobody has said how many.
    Fields,
    PrepareFirst,
    Single,
    Text,
    /// The client sends a file; nothing comes from the server.
    File,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Rows,
    /// Parameters are through; so many columns follow.
    PreparedColumns(u64),
    Done,
}

/// What happens to the packet under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// Header or first byte not complete yet.
    Head,
    /// So many bytes go to the client as they are.
    Pass(usize),
    /// So many bytes are still missing in `packet`.
    Collect(usize),
}

/// Follows one response. One per command; cheap to make.
#[derive(Debug)]
pub struct Follower {
    state: State,
    body: Body,
    /// The packet under way, header included, while it is collected or its head is incomplete.
    packet: Vec<u8>,
    /// The packet under way continues the one before it (2^24 - 1 bytes long).
    continued: bool,
    /// Added to the sequence ids of the server.
    shift: u8,
    /// What these say means nothing.
    any_sequence_id: bool,
    /// Sequence id of the next packet to the client.
    next_sequence_id: u8,
    client_deprecate_eof: bool,
    /// Statement id the client shall see in the answer to COM_STMT_PREPARE.
    client_statement_id: u32,
    /// Status flags for EOF packets put in between.
    eof_status: u16,
    keep_first_row: bool,
    /// Stop behind each result that another one follows.
    pauses: bool,
    paused: bool,
    may_ask_for_files: bool,
    outcome: Outcome,
}

impl Follower {
    /// Starts in front of the response to a command. `client_deprecate_eof`: what the client negotiated; `status`:
    /// the session's last status flags.
    pub fn new(expect: Expect, client_deprecate_eof: bool, status: u16) -> Follower {
        let state = match expect {
            Expect::Results => State::First,
            Expect::Prepare => State::PrepareFirst,
            Expect::Rows => State::Rows,
            Expect::FieldList => State::Fields,
            Expect::Single => State::Single,
            Expect::Text => State::Text,
        };
        Follower {
            state,
            body: Body::Head,
            packet: Vec::new(),
            continued: false,
            shift: 0,
            any_sequence_id: false,
            next_sequence_id: 1,
            client_deprecate_eof,
            client_statement_id: 0,
            eof_status: status & !(STATUS_MORE_RESULTS | STATUS_CURSOR_EXISTS),
            keep_first_row: false,
            pauses: false,
            paused: false,
            may_ask_for_files: false,
            outcome: Outcome::default(),
        }
    }

    /// Uses `id` as statement id in the answer to COM_STMT_PREPARE.
    pub fn with_statement_id(mut self, id: u32) -> Follower {
        self.client_statement_id = id;
        self
    }

    /// Sequence ids of the answer's first packet, for the client and from the server; 1 unless the command was split
    /// into several packets.
    pub fn with_sequence_ids(mut self, client: u8, server: u8) -> Follower {
        self.next_sequence_id = client;
        self.shift = client.wrapping_sub(server);
        self
    }

    /// The server compresses: the frames around its packets have sequence ids that count, those inside begin anew wherever it
    /// has flushed.
    pub fn take_any_sequence_ids(&mut self) {
        self.any_sequence_id = true;
    }

    /// Keeps the payload of the first row, for queries of our own.
    pub fn keeping_first_row(mut self) -> Follower {
        self.keep_first_row = true;
        self
    }

    /// Stops behind each result that another one follows, see [`Follower::resume`].
    pub fn pausing(mut self, pauses: bool) -> Follower {
        self.pauses = pauses;
        self
    }

    /// Whether it has stopped between two results.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Goes on with the next result, whose first packet gets this sequence id.
    pub fn resume(&mut self, sequence_id: u8) {
        self.paused = false;
        self.shift = self.shift.wrapping_add(sequence_id.wrapping_sub(self.next_sequence_id));
        self.next_sequence_id = sequence_id;
    }

    /// The server may ask for a file of the client: both have CLIENT_LOCAL_FILES.
    pub fn allowing_files(mut self, may_ask_for_files: bool) -> Follower {
        self.may_ask_for_files = may_ask_for_files;
        self
    }

    /// The file that the client must send now, once it has seen what came so far; see [`Follower::on_file`].
    pub fn wanted_file(&self) -> Option<LocalFile> {
        (self.state == State::File).then(|| LocalFile::new(self.next_sequence_id, self.shift))
    }

    /// The whole file was passed on: the response goes on.
    pub fn on_file(&mut self, file: &LocalFile) {
        self.next_sequence_id = file.next_sequence_id();
        self.state = State::First;
    }

    /// Whether the response is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What was learned; complete once [`Follower::is_done`].
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Gives the outcome away.
    pub fn into_outcome(self) -> Outcome {
        self.outcome
    }

    /// Sequence id of an ERR packet that can end the response right here; `None` where the client would not
    /// understand one. What must stand in front of it is appended to `out`.
    pub fn error_sequence_id(&mut self, out: &mut Vec<u8>) -> Option<u8> {
        // Nothing of the packet under way has been passed on.
        let between = matches!(self.body, Body::Head | Body::Collect(_)) && !self.continued;
        match self.state {
            State::RowsStart if between => self.put_middle_eof(out),
            State::First | State::Rows | State::Fields | State::Single | State::PrepareFirst if between => {}
            _ => return None,
        }
        Some(self.next_sequence_id)
    }

    /// Takes bytes from the server, appends bytes for the client to `out`, returns how many were used: all of them,
    /// or those up to the end of the response or to where a file is wanted.
    ///
    /// Errors: the server broke the protocol, or asked for a local file, which it was told we have not. The
    /// connection must be closed.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
        let mut used = 0;
        while used < input.len() && !matches!(self.state, State::Done | State::File) && !self.paused {
            let rest = &input[used..];
            used += match self.body {
                Body::Head => match self.rows(rest, out) {
                    0 => self.head(rest, out)?,
                    bytes => bytes,
                },
                Body::Pass(left) => self.pass(rest, left, out),
                // As a rule all of it is there.
                Body::Collect(left) if self.packet.is_empty() && left <= rest.len() => {
                    self.collected(&rest[..left], out)?;
                    left
                }
                Body::Collect(left) => self.collect(rest, left, out)?,
            };
        }
        Ok(used)
    }

    /// Keeps what has come of a packet until the rest of it has.
    fn collect(&mut self, rest: &[u8], left: usize, out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
        let n = left.min(rest.len());
        self.packet.extend_from_slice(&rest[..n]);
        self.body = Body::Collect(left - n);
        if n == left {
            let packet = std::mem::take(&mut self.packet);
            self.collected(&packet, out)?;
            self.packet = packet;
            self.packet.clear();
        }
        Ok(n)
    }

    /// Passes on the whole rows that `rest` begins with, in one piece; returns their bytes. 0: it begins with something else, which
    /// [`Follower::head`] looks at.
    fn rows(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        if self.state != State::Rows || self.continued || self.keeps_row() || !self.packet.is_empty() {
            return 0;
        }
        let (mut bytes, mut count) = (0, 0u64);
        while let Some(header) = Header::decode(&rest[bytes..]) {
            let end = bytes + HEADER_BYTES + header.payload_bytes;
            let follows = header.sequence_id.wrapping_add(self.shift) == self.next_sequence_id || self.any_sequence_id;
            let is_short = header.payload_bytes < PAYLOAD_BYTES_MAX && end <= rest.len();
            // Rows do not begin so: the first column of one that does would be longer than a packet may be.
            if !is_short || !follows || matches!(rest[bytes + HEADER_BYTES..end].first(), None | Some(0xFE | 0xFF)) {
                break;
            }
            (bytes, count) = (end, count + 1);
            self.take_sequence_id();
        }
        let begin = out.len();
        out.extend_from_slice(&rest[..bytes]);
        if self.shift != 0 || self.any_sequence_id {
            number(&mut out[begin..], self.next_sequence_id.wrapping_sub(count as u8));
        }
        self.outcome.rows += count;
        bytes
    }

    /// Completes header and first byte, then decides what to do with the packet.
    fn head(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
        if self.packet.is_empty()
            && let Some(header) = Header::decode(rest)
            && (rest.len() > HEADER_BYTES || header.payload_bytes == 0)
        {
            self.begin(header, rest.get(HEADER_BYTES).copied(), out)?;
            return Ok(HEADER_BYTES);
        }
        self.packet.push(rest[0]);
        let Some(header) = Header::decode(&self.packet) else { return Ok(1) };
        if header.payload_bytes > 0 && rest.len() < 2 {
            if self.packet.len() == HEADER_BYTES {
                return Ok(1);
            }
        } else if header.payload_bytes == 0 || self.packet.len() == HEADER_BYTES {
            self.packet.clear();
            self.begin(header, rest.get(1).copied(), out)?;
            return Ok(1);
        }
        // Header and first byte are both in `packet`.
        let first = self.packet.pop();
        self.packet.clear();
        self.begin(header, first, out)?;
        // The first byte was taken: hand it to the body.
        let byte = [first.unwrap_or(0)];
        match self.body {
            Body::Pass(left) => {
                self.pass(&byte, left, out);
            }
            Body::Collect(left) => {
                self.collect(&byte, left, out)?;
            }
            Body::Head => {}
        }
        Ok(1)
    }

    fn begin(&mut self, header: Header, first: Option<u8>, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        if header.sequence_id.wrapping_add(self.shift) != self.next_sequence_id && !self.any_sequence_id {
            return Err(ProtocolError::OutOfOrder);
        }
        if self.continued {
            return self.begin_pass(header, out);
        }
        let whole = header.payload_bytes < PAYLOAD_BYTES_MAX;
        let collect = match self.state {
            State::First | State::PrepareFirst | State::Single => true,
            State::RowsStart | State::Rows => whole && matches!(first, Some(0xFE | 0xFF)) || self.keeps_row(),
            // A definition begins with the length of a name.
            State::Fields => whole && matches!(first, Some(0x00 | 0xFE | 0xFF)),
            State::Columns(..) | State::Text => false,
            State::Done | State::File => return Err(ProtocolError::Malformed("packet behind the end")),
        };
        if !collect {
            if self.state == State::RowsStart {
                self.put_middle_eof(out);
                self.state = State::Rows;
            }
            self.outcome.rows += u64::from(matches!(self.state, State::Rows | State::Fields));
            return self.begin_pass(header, out);
        }
        if header.payload_bytes == 0 {
            return Err(ProtocolError::Malformed("empty packet"));
        }
        if header.payload_bytes > COLLECT_BYTES_MAX {
            return Err(ProtocolError::TooLarge(COLLECT_BYTES_MAX));
        }
        self.packet.clear();
        self.body = Body::Collect(header.payload_bytes);
        Ok(())
    }

    fn keeps_row(&self) -> bool {
        self.keep_first_row && self.outcome.first_row.is_none()
    }

    fn begin_pass(&mut self, header: Header, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let sequence_id = self.take_sequence_id();
        out.extend_from_slice(&Header { sequence_id, ..header }.encode());
        self.continued = header.payload_bytes == PAYLOAD_BYTES_MAX;
        self.body = Body::Pass(header.payload_bytes);
        if header.payload_bytes == 0 {
            self.passed(out);
        }
        Ok(())
    }

    fn take_sequence_id(&mut self) -> u8 {
        let id = self.next_sequence_id;
        self.next_sequence_id = id.wrapping_add(1);
        id
    }

    fn pass(&mut self, rest: &[u8], left: usize, out: &mut Vec<u8>) -> usize {
        let n = left.min(rest.len());
        out.extend_from_slice(&rest[..n]);
        self.body = Body::Pass(left - n);
        if n == left {
            self.passed(out);
        }
        n
    }

    /// A packet went to the client in full.
    fn passed(&mut self, out: &mut Vec<u8>) {
        self.body = Body::Head;
        if self.continued {
            return;
        }
        match self.state {
            State::Columns(left, after) if left > 1 => self.state = State::Columns(left - 1, after),
            State::Columns(_, after) => self.columns_done(after, out),
            State::Text => self.state = State::Done,
            _ => {}
        }
    }

    fn columns_done(&mut self, after: After, out: &mut Vec<u8>) {
        self.state = match after {
            After::Rows => State::RowsStart,
            After::PreparedColumns(n) => {
                self.put_middle_eof(out);
                if n > 0 { State::Columns(n, After::Done) } else { State::Done }
            }
            After::Done => {
                self.put_middle_eof(out);
                State::Done
            }
        };
    }

    fn put_middle_eof(&mut self, out: &mut Vec<u8>) {
        if !self.client_deprecate_eof {
            let sequence_id = self.take_sequence_id();
            put_eof(out, sequence_id, self.eof_status, 0);
            self.shift = self.shift.wrapping_add(1);
        }
    }

    /// A packet that was to be read is complete: its payload.
    fn collected(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        self.body = Body::Head;
        let first = packet[0];
        match self.state {
            _ if first == 0xFF => self.on_error(packet, out),
            State::First => self.on_first(packet, out),
            State::RowsStart | State::Rows | State::Fields if first == 0xFE => self.on_end_of_rows(packet, out),
            State::Fields => self.on_single(packet, out),
            State::RowsStart | State::Rows => {
                self.on_kept_row(packet, out);
                Ok(())
            }
            State::PrepareFirst => self.on_prepared(packet, out),
            State::Single => self.on_single(packet, out),
            _ => Err(ProtocolError::Malformed("unexpected packet")),
        }
    }

    fn copy(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let sequence_id = self.take_sequence_id();
        out.extend_from_slice(&Header { payload_bytes: payload.len(), sequence_id }.encode());
        out.extend_from_slice(payload);
    }

    fn on_error(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let error = ErrPacket::decode(packet)?;
        self.outcome.error = Some(error.code);
        self.outcome.message = error.message.to_vec();
        if self.state == State::RowsStart {
            self.put_middle_eof(out);
        }
        self.copy(packet, out);
        self.state = State::Done;
        Ok(())
    }

    fn note(&mut self, ok: &OkPacket<'_>) {
        let outcome = &mut self.outcome;
        outcome.status = Some(ok.status);
        outcome.warnings = ok.warnings;
        outcome.warned |= ok.warnings > 0;
        outcome.affected_rows = outcome.affected_rows.saturating_add(ok.affected_rows);
        outcome.last_affected = (self.state == State::First || self.state == State::Single).then_some(ok.affected_rows);
        outcome.results += 1;
        if ok.insert_id != 0 {
            outcome.insert_id = ok.insert_id;
        }
        outcome.keep(ok.changes);
        let more = ok.status & STATUS_MORE_RESULTS != 0;
        // Of the next result's columns the client hears what the session is by then.
        self.eof_status = ok.status & STATUS_OF_SESSION;
        self.paused = more && self.pauses;
        self.state = if more { State::First } else { State::Done };
    }

    fn on_first(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        match packet[0] {
            0x00 => {
                let ok = OkPacket::decode(packet)?;
                let sequence_id = self.take_sequence_id();
                ok.encode(out, sequence_id, false);
                self.note(&ok);
                Ok(())
            }
            0xFB if self.may_ask_for_files => {
                self.copy(packet, out);
                self.state = State::File;
                Ok(())
            }
            0xFB => Err(ProtocolError::Malformed("request for a local file that was not allowed")),
            _ => {
                let mut fields = Fields::new(packet);
                let columns = fields.int()?;
                if columns == 0 || columns > 0xFFFF || !fields.is_empty() {
                    return Err(ProtocolError::Malformed("column count"));
                }
                self.outcome.had_rows = true;
                self.copy(packet, out);
                self.state = State::Columns(columns, After::Rows);
                Ok(())
            }
        }
    }

    fn on_end_of_rows(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let ok = OkPacket::decode(packet)?;
        if self.state == State::RowsStart && ok.status & STATUS_CURSOR_EXISTS == 0 {
            self.put_middle_eof(out);
        }
        let sequence_id = self.take_sequence_id();
        if self.client_deprecate_eof {
            ok.encode(out, sequence_id, true);
        } else {
            put_eof(out, sequence_id, ok.status, ok.warnings);
        }
        self.note(&ok);
        Ok(())
    }

    fn on_kept_row(&mut self, packet: &[u8], out: &mut Vec<u8>) {
        if self.state == State::RowsStart {
            self.put_middle_eof(out);
            self.state = State::Rows;
        }
        self.copy(packet, out);
        self.outcome.rows += 1;
        self.outcome.first_row = Some(packet.to_vec());
    }

    fn on_prepared(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let mut fields = Fields::new(packet);
        if fields.u8()? != 0 {
            return Err(ProtocolError::Malformed("answer to COM_STMT_PREPARE"));
        }
        let statement_id = fields.u32()?;
        let (columns, params) = (fields.u16()?, fields.u16()?);
        self.outcome.prepared = Some(Prepared { statement_id, params });
        self.outcome.results += 1;
        let mut mine = packet.to_vec();
        mine[1..5].copy_from_slice(&self.client_statement_id.to_le_bytes());
        self.copy(&mine, out);
        self.state = match (u64::from(params), u64::from(columns)) {
            (0, 0) => State::Done,
            (0, columns) => State::Columns(columns, After::Done),
            (params, columns) => State::Columns(params, After::PreparedColumns(columns)),
        };
        Ok(())
    }

    fn on_single(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let is_eof = packet[0] == 0xFE;
        if is_eof && packet.len() == 5 {
            self.copy(packet, out);
            self.outcome.status = Some(u16::from_le_bytes([packet[3], packet[4]]));
        } else {
            let ok = OkPacket::decode(packet)?;
            let sequence_id = self.take_sequence_id();
            match is_eof && !self.client_deprecate_eof {
                true => put_eof(out, sequence_id, ok.status, ok.warnings),
                false => ok.encode(out, sequence_id, is_eof),
            }
            self.note(&ok);
        }
        self.state = State::Done;
        Ok(())
    }
}

/// Gives these whole packets sequence ids that count from `first`.
fn number(packets: &mut [u8], first: u8) {
    let (mut rest, mut sequence_id) = (packets, first);
    while let Some(header) = Header::decode(rest) {
        rest[HEADER_BYTES - 1] = sequence_id;
        sequence_id = sequence_id.wrapping_add(1);
        rest = &mut rest[HEADER_BYTES + header.payload_bytes..];
    }
}

#[cfg(test)]
mod tests;
