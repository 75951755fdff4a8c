//! OK, EOF and ERR packets.
//!
//! Source: MySQL internals manual, `page_protocol_basic_ok_packet`, `page_protocol_basic_err_packet`,
//! `page_protocol_basic_eof_packet`.

use super::ProtocolError;
use super::lenenc::{Fields, put_bytes, put_int};
use super::packet::put_packet;

/// Our error when a server cannot be reached: `ER_CONNECT_TO_FOREIGN_DATA_SOURCE`.
///
/// Not 2003, and for a lost connection not 2013: those belong to client libraries, and MariaDB's takes an ERR packet
/// with a number from 2000 to 2999 for malformed.
pub const UNREACHABLE: u16 = 1429;
/// Our error when the connection to a server broke: `ER_NET_READ_ERROR`.
pub const LOST: u16 = 1158;

/// An OK packet as a server with CLIENT_SESSION_TRACK sends it (first byte 0x00, or 0xFE at the end of rows).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OkPacket<'a> {
    /// Rows changed (or found, with CLIENT_FOUND_ROWS).
    pub affected_rows: u64,
    /// Value of an AUTO_INCREMENT column, or 0.
    pub insert_id: u64,
    /// Status flags.
    pub status: u16,
    /// Number of warnings.
    pub warnings: u16,
    /// Text such as `Rows matched: 1  Changed: 1  Warnings: 0`.
    pub info: &'a [u8],
    /// Session state changes, see [`super::tracker`].
    pub changes: &'a [u8],
}

impl<'a> OkPacket<'a> {
    /// Reads the payload, first byte included.
    pub fn decode(payload: &'a [u8]) -> Result<OkPacket<'a>, ProtocolError> {
        let mut fields = Fields::new(payload);
        if !matches!(fields.u8()?, 0x00 | 0xFE) {
            return Err(ProtocolError::Malformed("OK packet"));
        }
        let (affected_rows, insert_id) = (fields.int()?, fields.int()?);
        let (status, warnings) = (fields.u16()?, fields.u16()?);
        let mut ok = OkPacket { affected_rows, insert_id, status, warnings, info: b"", changes: b"" };
        if !fields.is_empty() {
            ok.info = fields.string()?;
        }
        if status & super::capability::STATUS_SESSION_STATE_CHANGED != 0 && !fields.is_empty() {
            ok.changes = fields.string()?;
        }
        Ok(ok)
    }

    /// Appends it for a client without CLIENT_SESSION_TRACK: no session state changes, and the flag for them cleared.
    /// `end_of_rows` picks the first byte 0xFE.
    pub fn encode(&self, out: &mut Vec<u8>, sequence_id: u8, end_of_rows: bool) {
        let status = self.status & !super::capability::STATUS_SESSION_STATE_CHANGED;
        put_packet(out, sequence_id, |p| {
            p.push(if end_of_rows { 0xFE } else { 0x00 });
            put_int(p, self.affected_rows);
            put_int(p, self.insert_id);
            p.extend_from_slice(&status.to_le_bytes());
            p.extend_from_slice(&self.warnings.to_le_bytes());
            if !self.info.is_empty() {
                put_bytes(p, self.info);
            }
        });
    }

    /// An OK packet that says nothing but its status flags.
    pub fn plain(status: u16) -> OkPacket<'static> {
        OkPacket { affected_rows: 0, insert_id: 0, status, warnings: 0, info: b"", changes: b"" }
    }
}

/// Appends an EOF packet, for clients without CLIENT_DEPRECATE_EOF.
pub fn put_eof(out: &mut Vec<u8>, sequence_id: u8, status: u16, warnings: u16) {
    let status = status & !super::capability::STATUS_SESSION_STATE_CHANGED;
    put_packet(out, sequence_id, |p| {
        p.push(0xFE);
        p.extend_from_slice(&warnings.to_le_bytes());
        p.extend_from_slice(&status.to_le_bytes());
    });
}

/// An ERR packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrPacket<'a> {
    /// Error number, for example 1045.
    pub code: u16,
    /// SQLSTATE, five characters; empty before the login is complete.
    pub sql_state: &'a [u8],
    /// Text for humans.
    pub message: &'a [u8],
}

impl<'a> ErrPacket<'a> {
    /// Reads the payload, first byte included.
    pub fn decode(payload: &'a [u8]) -> Result<ErrPacket<'a>, ProtocolError> {
        let mut fields = Fields::new(payload);
        if fields.u8()? != 0xFF {
            return Err(ProtocolError::Malformed("ERR packet"));
        }
        let code = fields.u16()?;
        let mut sql_state = &b""[..];
        if fields.rest().first() == Some(&b'#') {
            fields.u8()?;
            sql_state = fields.bytes(5)?;
        }
        Ok(ErrPacket { code, sql_state, message: fields.rest() })
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>, sequence_id: u8) {
        put_packet(out, sequence_id, |p| {
            p.push(0xFF);
            p.extend_from_slice(&self.code.to_le_bytes());
            if !self.sql_state.is_empty() {
                p.push(b'#');
                p.extend_from_slice(self.sql_state);
            }
            p.extend_from_slice(self.message);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ok_packets_round_trip(affected_rows: u64, insert_id: u64, status: u16, warnings: u16, info: Vec<u8>) {
            let status = status & !super::super::capability::STATUS_SESSION_STATE_CHANGED;
            let ok = OkPacket { affected_rows, insert_id, status, warnings, info: &info, changes: b"" };
            let mut out = Vec::new();
            ok.encode(&mut out, 3, warnings % 2 == 0);
            prop_assert_eq!(OkPacket::decode(&out[4..]), Ok(ok));
        }

        #[test]
        fn err_packets_round_trip(code: u16, message: Vec<u8>) {
            let err = ErrPacket { code, sql_state: b"HY000", message: &message };
            let mut out = Vec::new();
            err.encode(&mut out, 1);
            prop_assert_eq!(ErrPacket::decode(&out[4..]), Ok(err));
        }

        #[test]
        fn no_bytes_make_them_panic(payload: Vec<u8>) {
            let _ = (OkPacket::decode(&payload), ErrPacket::decode(&payload));
        }
    }

    #[test]
    fn session_state_changes_are_read_and_not_passed_on() {
        let mut payload = vec![0, 1, 2, 0x02, 0x40, 0, 0];
        put_bytes(&mut payload, b"info");
        put_bytes(&mut payload, b"\x01\x03\x02db");
        let ok = OkPacket::decode(&payload).unwrap();
        assert_eq!((ok.info, ok.changes), (&b"info"[..], &b"\x01\x03\x02db"[..]));
        let mut out = Vec::new();
        ok.encode(&mut out, 1, false);
        assert_eq!(&out[4..], b"\x00\x01\x02\x02\x00\x00\x00\x04info");
    }
}
