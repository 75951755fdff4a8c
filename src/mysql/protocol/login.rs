//! The client's first packet (HandshakeResponse41), and COM_CHANGE_USER, its shorter sister.
//!
//! Source: MySQL internals manual, `page_protocol_connection_phase_packets_protocol_handshake_response`,
//! `page_protocol_com_change_user`.

use super::lenenc::{Fields, put_bytes};
use super::packet::put_packet;
use super::{ProtocolError, capability};

/// Length of an SSLRequest's payload, and of the head of a login: capabilities, packet limit, collation, filler.
const TLS_REQUEST_BYTES: usize = 4 + 4 + 1 + 23;

/// Who wants to log on, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login<'a> {
    /// What the client can do, already masked by nothing.
    pub capabilities: u32,
    /// Collation; of a login the low byte, all that it has room for.
    pub collation: u16,
    /// User name.
    pub user: &'a [u8],
    /// Answer to the scramble.
    pub answer: &'a [u8],
    /// Database; empty when none is named.
    pub schema: &'a [u8],
    /// Plugin `answer` was made with; empty when none is named.
    pub plugin: &'a [u8],
    /// Level of compression by zstd, 1 to 22; 0: not told.
    pub zstd_level: u8,
}

impl<'a> Login<'a> {
    /// Reads the payload of a HandshakeResponse41. Connection attributes are ignored.
    ///
    /// Errors: `Malformed` for clients older than protocol 4.1 and for a TLS request, see [`Login::is_tls_request`].
    pub fn decode(payload: &'a [u8]) -> Result<Login<'a>, ProtocolError> {
        let mut fields = Fields::new(payload);
        let capabilities = fields.u32()?;
        if capabilities & capability::PROTOCOL_41 == 0 {
            return Err(ProtocolError::Malformed("client older than protocol 4.1"));
        }
        fields.u32()?; // largest packet the client takes: not enforced by servers either
        let collation = fields.u8()?.into();
        fields.bytes(23)?;
        if fields.is_empty() && capabilities & capability::SSL != 0 {
            return Err(ProtocolError::Malformed("TLS request without an offer of TLS"));
        }
        let user = fields.null_terminated()?;
        let answer = if capabilities & capability::PLUGIN_AUTH_LENENC_DATA != 0 {
            fields.string()?
        } else if capabilities & capability::SECURE_CONNECTION != 0 {
            let len = fields.u8()?;
            fields.bytes(len.into())?
        } else {
            fields.null_terminated()?
        };
        let mut login = Login { capabilities, collation, user, answer, schema: b"", plugin: b"", zstd_level: 0 };
        if capabilities & capability::CONNECT_WITH_DB != 0 && !fields.is_empty() {
            login.schema = fields.null_terminated()?;
        }
        if capabilities & capability::PLUGIN_AUTH != 0 && !fields.is_empty() {
            // Some clients leave out the last zero byte.
            login.plugin = fields.null_terminated().unwrap_or_else(|_| fields.take_rest());
        }
        if capabilities & capability::CONNECT_ATTRS != 0 && !fields.is_empty() {
            fields.string()?;
        }
        if capabilities & capability::ZSTD_COMPRESSION != 0 && !fields.is_empty() {
            login.zstd_level = fields.u8()?;
        }
        Ok(login)
    }

    /// Whether a client's first packet is an SSLRequest: the head of a login, after which TLS begins.
    ///
    /// Source: MySQL internals manual, `page_protocol_connection_phase_packets_protocol_ssl_request`.
    pub fn is_tls_request(payload: &[u8]) -> bool {
        payload.len() == TLS_REQUEST_BYTES
            && Fields::new(payload).u32().is_ok_and(|capabilities| capabilities & capability::SSL != 0)
    }

    /// Appends an SSLRequest with the capabilities and the collation of this login.
    pub fn encode_tls_request(&self, out: &mut Vec<u8>, sequence_id: u8) {
        put_packet(out, sequence_id, |p| self.put_head(p));
    }

    /// Reads the payload of COM_CHANGE_USER, command byte included. `capabilities` are those of the connection,
    /// `collation` its present one, kept when the packet names none.
    pub fn decode_change_user(
        payload: &'a [u8],
        capabilities: u32,
        collation: u16,
    ) -> Result<Login<'a>, ProtocolError> {
        let mut fields = Fields::new(payload);
        fields.u8()?;
        let user = fields.null_terminated()?;
        let len = fields.u8()?;
        let answer = fields.bytes(len.into())?;
        let schema = fields.null_terminated()?;
        let mut login = Login { capabilities, collation, user, answer, schema, plugin: b"", zstd_level: 0 };
        if !fields.is_empty() {
            login.collation = fields.u16()?;
        }
        if capabilities & capability::PLUGIN_AUTH != 0 && !fields.is_empty() {
            login.plugin = fields.null_terminated().unwrap_or(fields.rest());
        }
        Ok(login)
    }

    /// Appends a HandshakeResponse41 with the fields its capability flags call for.
    pub fn encode(&self, out: &mut Vec<u8>, sequence_id: u8) {
        put_packet(out, sequence_id, |p| {
            self.put_head(p);
            p.extend_from_slice(self.user);
            p.push(0);
            if self.capabilities & capability::PLUGIN_AUTH_LENENC_DATA != 0 {
                put_bytes(p, self.answer);
            } else {
                p.push(self.answer.len() as u8);
                p.extend_from_slice(self.answer);
            }
            if self.capabilities & capability::CONNECT_WITH_DB != 0 {
                p.extend_from_slice(self.schema);
                p.push(0);
            }
            if self.capabilities & capability::PLUGIN_AUTH != 0 {
                p.extend_from_slice(self.plugin);
                p.push(0);
            }
            if self.capabilities & capability::CONNECT_ATTRS != 0 {
                p.push(0); // none
            }
            if self.capabilities & capability::ZSTD_COMPRESSION != 0 {
                p.push(self.zstd_level);
            }
        });
    }

    fn put_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.capabilities.to_le_bytes());
        out.extend_from_slice(&(1u32 << 30).to_le_bytes());
        out.push(self.collation as u8);
        out.extend_from_slice(&[0; 23]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(1u8.., 0..30)
    }

    proptest! {
        #[test]
        fn logins_round_trip(
            user in name(), answer in proptest::collection::vec(any::<u8>(), 0..40), schema in name(), lenenc: bool, zstd_level: u8,
        ) {
            let mut capabilities = capability::OFFERED | capability::ZSTD_COMPRESSION;
            if !lenenc {
                capabilities &= !capability::PLUGIN_AUTH_LENENC_DATA;
            }
            let login = Login {
                capabilities, collation: 45, user: &user, answer: &answer, schema: &schema, plugin: b"plugin", zstd_level,
            };
            let mut out = Vec::new();
            login.encode(&mut out, 1);
            prop_assert!(!Login::is_tls_request(&out[4..]));
            prop_assert_eq!(Login::decode(&out[4..]), Ok(login.clone()));
            login.encode_tls_request(&mut out, 1);
            let request = &out[out.len() - TLS_REQUEST_BYTES..];
            prop_assert!(!Login::is_tls_request(request), "without the flag");
            let login = Login { capabilities: capabilities | capability::SSL, ..login };
            out.clear();
            login.encode_tls_request(&mut out, 1);
            prop_assert!(Login::is_tls_request(&out[4..]) && Login::decode(&out[4..]).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(payload: Vec<u8>) {
            let _ = Login::decode(&payload);
            let _ = Login::decode_change_user(&payload, capability::OFFERED, 33);
        }
    }

    #[test]
    fn change_user_keeps_the_collation_when_it_names_none() {
        let login = Login::decode_change_user(b"\x11me\0\x02ab\0", capability::OFFERED, 33).unwrap();
        assert_eq!((login.user, login.answer, login.schema, login.collation), (&b"me"[..], &b"ab"[..], &b""[..], 33));
        let login = Login::decode_change_user(b"\x11me\0\x00db\0\x31\x01plugin\0", capability::OFFERED, 33).unwrap();
        assert_eq!((login.schema, login.collation, login.plugin), (&b"db"[..], 305, &b"plugin"[..]));
    }
}
