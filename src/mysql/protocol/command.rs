//! Command codes: the first byte of what a client sends.
//!
//! Source: MySQL internals manual, `page_protocol_command_phase`.

use super::follow::Expect;
use super::packet::put_packet;

/// End of the session.
pub const QUIT: u8 = 0x01;
/// Selects a database.
pub const INIT_DB: u8 = 0x02;
/// A statement as text.
pub const QUERY: u8 = 0x03;
/// Columns of a table.
pub const FIELD_LIST: u8 = 0x04;
/// One line about the server.
pub const STATISTICS: u8 = 0x09;
/// Ends another connection.
pub const PROCESS_KILL: u8 = 0x0C;
/// Is the server there?
pub const PING: u8 = 0x0E;
/// New login on the same connection.
pub const CHANGE_USER: u8 = 0x11;
/// Prepares a statement.
pub const STMT_PREPARE: u8 = 0x16;
/// Runs a prepared statement.
pub const STMT_EXECUTE: u8 = 0x17;
/// Sends a piece of a parameter; no reply.
pub const STMT_SEND_LONG_DATA: u8 = 0x18;
/// Frees a prepared statement; no reply.
pub const STMT_CLOSE: u8 = 0x19;
/// Drops cursor and long data of a prepared statement.
pub const STMT_RESET: u8 = 0x1A;
/// Multi-statements on or off.
pub const SET_OPTION: u8 = 0x1B;
/// Rows of an open cursor.
pub const STMT_FETCH: u8 = 0x1C;
/// Session back to its state after login.
pub const RESET_CONNECTION: u8 = 0x1F;

/// Appends COM_QUERY with `sql` (below 16 MiB).
pub fn put_query(out: &mut Vec<u8>, sql: &[u8]) {
    put_packet(out, 0, |p| {
        p.push(QUERY);
        p.extend_from_slice(sql);
    });
}

/// Appends COM_INIT_DB.
pub fn put_init_db(out: &mut Vec<u8>, schema: &[u8]) {
    put_packet(out, 0, |p| {
        p.push(INIT_DB);
        p.extend_from_slice(schema);
    });
}

/// Appends a command without arguments.
pub fn put_bare(out: &mut Vec<u8>, code: u8) {
    put_packet(out, 0, |p| p.push(code));
}

/// Appends a command whose only argument is a statement id (COM_STMT_CLOSE, COM_STMT_RESET).
pub fn put_statement(out: &mut Vec<u8>, code: u8, statement_id: u32) {
    put_packet(out, 0, |p| {
        p.push(code);
        p.extend_from_slice(&statement_id.to_le_bytes());
    });
}

/// The form of the answer to a command that is passed on; `None` for those that have none or are not passed on.
pub fn expect(code: u8) -> Option<Expect> {
    Some(match code {
        QUERY | STMT_EXECUTE => Expect::Results,
        STMT_PREPARE => Expect::Prepare,
        STMT_FETCH => Expect::Rows,
        FIELD_LIST => Expect::FieldList,
        STATISTICS => Expect::Text,
        INIT_DB | PING | SET_OPTION | RESET_CONNECTION | STMT_RESET => Expect::Single,
        _ => return None,
    })
}
