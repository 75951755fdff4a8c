//! Session state changes at the end of OK packets: what a statement did to its session.
//!
//! Source: MySQL internals manual, `page_protocol_basic_ok_packet`, section session state information; MariaDB uses
//! the same types and adds none. Measured on MySQL 9.7: where all variables are tracked, each answer tells `statement_id`, which
//! is the server's count of statements and no setting.

use super::ProtocolError;
use super::lenenc::{Fields, put_bytes};

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A system variable has this value now.
    Variable {
        /// Its name.
        name: &'a [u8],
        /// Its value, as SHOW VARIABLES prints it.
        value: &'a [u8],
    },
    /// The current database.
    Schema(&'a [u8]),
    /// Something about the session changed that is not told in detail (1), or not (0).
    State(bool),
    /// GTIDs of the statement (MySQL).
    Gtids(&'a [u8]),
    /// Statement text that restores the characteristics of the transaction; empty: none are set.
    Characteristics(&'a [u8]),
    /// Eight letters about the transaction, for example `T_R_WsS_`.
    Transaction(&'a [u8]),
    /// A type that is not known here.
    Other(u8),
}

/// Counts the statements of a MySQL server: no session has set it.
const STATEMENT_ID: &[u8] = b"statement_id";

/// Goes through the changes of one OK packet, but for what every statement changes.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    fields: Fields<'a>,
    /// MariaDB puts several name and value pairs into one entry.
    variables: Fields<'a>,
}

impl<'a> Changes<'a> {
    /// `bytes`: [`super::response::OkPacket::changes`].
    pub fn new(bytes: &'a [u8]) -> Changes<'a> {
        Changes { fields: Fields::new(bytes), variables: Fields::new(b"") }
    }

    fn entry(&mut self) -> Result<Option<Change<'a>>, ProtocolError> {
        loop {
            if !self.variables.is_empty() {
                let (name, value) = (self.variables.string()?, self.variables.string()?);
                if name == STATEMENT_ID {
                    continue;
                }
                return Ok(Some(Change::Variable { name, value }));
            }
            if self.fields.is_empty() {
                return Ok(None);
            }
            let kind = self.fields.u8()?;
            let mut data = Fields::new(self.fields.string()?);
            return Ok(Some(match kind {
                0 => {
                    self.variables = data;
                    continue;
                }
                1 => Change::Schema(data.string()?),
                2 => Change::State(data.rest() == b"1"), // not nested, unlike the others
                3 => {
                    data.u8()?; // encoding specification
                    Change::Gtids(data.string()?)
                }
                4 => Change::Characteristics(data.string()?),
                5 => Change::Transaction(data.string()?),
                other => Change::Other(other),
            }));
        }
    }
}

/// Whether something about the session changed, told in detail or not. What cannot be read may be anything.
pub fn changes_session(bytes: &[u8]) -> bool {
    Changes::new(bytes).any(|change| matches!(change, Ok(Change::State(true)) | Err(_)))
}

/// Whether transactions are named that were committed. What cannot be read may be anything.
pub fn names_transactions(bytes: &[u8]) -> bool {
    Changes::new(bytes)
        .any(|change| matches!(change, Ok(Change::Variable { name: b"last_gtid", .. } | Change::Gtids(_)) | Err(_)))
}

/// Appends what names committed transactions, as changes of its own. `false`: not all of it could be read.
pub fn put_transactions(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let mut entry = |kind: u8, encoding: &[u8], texts: &[&[u8]]| {
        let mut data = encoding.to_vec();
        texts.iter().for_each(|text| put_bytes(&mut data, text));
        out.push(kind);
        put_bytes(out, &data);
    };
    for change in Changes::new(bytes) {
        match change {
            Ok(Change::Variable { name: name @ b"last_gtid", value }) => entry(0, b"", &[name, value]),
            Ok(Change::Gtids(gtids)) => entry(3, b"\0", &[gtids]),
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    true
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<Change<'a>, ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entry().transpose();
        if matches!(entry, Some(Err(_))) {
            *self = Changes::new(b"");
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_type_is_read() {
        let bytes = b"\x00\x0a\x04name\x04data\x01\x03\x02db\x02\x011\x04\x01\x00\x05\x09\x08T_______\x07\x01x";
        let changes: Vec<_> = Changes::new(bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(
            changes,
            [
                Change::Variable { name: b"name", value: b"data" },
                Change::Schema(b"db"),
                Change::State(true),
                Change::Characteristics(b""),
                Change::Transaction(b"T_______"),
                Change::Other(7),
            ]
        );
    }

    #[test]
    fn a_changed_session_is_told_from_news_of_transactions() {
        assert!(changes_session(b"\x05\x09\x08T_______\x02\x011"));
        assert!(!changes_session(b"\x05\x09\x08T_______\x02\x010"));
        assert!(!changes_session(b""));
        assert!(changes_session(b"\x02\x09"), "whatever it was to say");
    }

    #[test]
    fn transactions_are_named_by_mariadb_and_by_mysql() {
        assert!(names_transactions(b"\x02\x011\x00\x11\x09last_gtid\x060-1-10"));
        assert!(names_transactions(b"\x03\x05\x00\x03a:1"));
        assert!(!names_transactions(b"\x05\x09\x08T_______\x02\x011\x00\x08\x01a\x011\x01b\x012"));
        assert!(names_transactions(b"\x03\x05"), "whatever it was to say");
    }

    #[test]
    fn names_of_transactions_can_be_kept_alone() {
        let mut out = Vec::new();
        assert!(put_transactions(b"\x02\x011\x00\x15\x09last_gtid\x060-1-10\x01a\x011", &mut out));
        assert!(put_transactions(b"\x03\x05\x00\x03a:1\x01\x03\x02db", &mut out));
        let kept: Vec<_> = Changes::new(&out).collect::<Result<_, _>>().unwrap();
        assert_eq!(kept, [Change::Variable { name: b"last_gtid", value: b"0-1-10" }, Change::Gtids(b"a:1")]);
        assert!(!put_transactions(b"\x03\x05", &mut out));
    }

    #[test]
    fn several_variables_share_an_entry() {
        let changes: Vec<_> = Changes::new(b"\x00\x08\x01a\x011\x01b\x012").collect::<Result<_, _>>().unwrap();
        assert_eq!(
            changes,
            [Change::Variable { name: b"a", value: b"1" }, Change::Variable { name: b"b", value: b"2" }]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_loop(bytes: Vec<u8>) {
            prop_assert!(Changes::new(&bytes).count() <= bytes.len() + 1);
        }
    }
}
