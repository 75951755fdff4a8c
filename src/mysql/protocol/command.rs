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
/// In front of its text where attributes are expected: no parameters, in one set.
pub const NO_ATTRIBUTES: &[u8] = &[0, 1];
/// Columns of a table.
pub const FIELD_LIST: u8 = 0x04;
/// Reads grants, logs and the like anew.
pub const REFRESH: u8 = 0x07;
/// Ends the server.
pub const SHUTDOWN: u8 = 0x08;
/// One line about the server.
pub const STATISTICS: u8 = 0x09;
/// What SHOW PROCESSLIST shows.
pub const PROCESS_INFO: u8 = 0x0A;
/// Ends another connection.
pub const PROCESS_KILL: u8 = 0x0C;
/// Has the server write its state into its log.
pub const DEBUG: u8 = 0x0D;
/// Is the server there?
pub const PING: u8 = 0x0E;
/// New login on the same connection.
pub const CHANGE_USER: u8 = 0x11;
/// Asks for the binary log.
pub const BINLOG_DUMP: u8 = 0x12;
/// Asks for a table's content, long ago.
pub const TABLE_DUMP: u8 = 0x13;
/// Names a replica to its primary.
pub const REGISTER_SLAVE: u8 = 0x15;
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
/// Asks for the binary log by GTID (MySQL).
pub const BINLOG_DUMP_GTID: u8 = 0x1E;
/// Session back to its state after login.
pub const RESET_CONNECTION: u8 = 0x1F;
/// Runs a prepared statement once for each of several sets of parameters (MariaDB).
pub const STMT_BULK_EXECUTE: u8 = 0xFA;
/// Several commands in one (MariaDB, early versions).
pub const MULTI: u8 = 0xFE;

/// Appends COM_QUERY with `sql` (below 16 MiB). `attributes`: the server expects query attributes, and gets none.
pub fn put_query(out: &mut Vec<u8>, sql: &[u8], attributes: bool) {
    put_packet(out, 0, |p| {
        p.push(QUERY);
        if attributes {
            p.extend_from_slice(NO_ATTRIBUTES);
        }
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
        QUERY | STMT_EXECUTE | PROCESS_INFO => Expect::Results,
        STMT_PREPARE => Expect::Prepare,
        STMT_FETCH => Expect::Rows,
        FIELD_LIST => Expect::FieldList,
        STATISTICS => Expect::Text,
        INIT_DB | PING | SET_OPTION | RESET_CONNECTION | STMT_RESET | REFRESH | DEBUG => Expect::Single,
        _ => return None,
    })
}
