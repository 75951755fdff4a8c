//! The server's first packet: handshake version 10.
//!
//! Source: MySQL internals manual, `page_protocol_connection_phase_packets_protocol_handshake_v10`.

use super::auth::{Method, SCRAMBLE_BYTES, Scramble};
use super::lenenc::Fields;
use super::packet::put_packet;
use super::{ProtocolError, capability};

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// For example `5.5.5-10.11.19-MariaDB`.
    pub version: Vec<u8>,
    /// Connection id.
    pub connection_id: u32,
    /// For the answer to `plugin`.
    pub scramble: Scramble,
    /// What it can do.
    pub capabilities: u32,
    /// Default collation, low byte.
    pub collation: u8,
    /// Status flags.
    pub status: u16,
    /// Authentication plugin it begins with.
    pub plugin: Vec<u8>,
}

impl Greeting {
    /// Whether the server is a MariaDB: other session trackers, other GTIDs. It says so in its version, or, where that is set
    /// to something else, by leaving out the flag whose place its own capabilities take.
    pub fn is_mariadb(&self) -> bool {
        let says = |text: &[u8]| self.version.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text));
        says(b"mariadb") || self.capabilities & capability::LONG_PASSWORD == 0
    }

    /// Appends the packet, sequence id 0.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_packet(out, 0, |p| {
            p.push(10);
            p.extend_from_slice(&self.version);
            p.push(0);
            p.extend_from_slice(&self.connection_id.to_le_bytes());
            p.extend_from_slice(&self.scramble[..8]);
            p.push(0);
            p.extend_from_slice(&(self.capabilities as u16).to_le_bytes());
            p.push(self.collation);
            p.extend_from_slice(&self.status.to_le_bytes());
            p.extend_from_slice(&((self.capabilities >> 16) as u16).to_le_bytes());
            p.push(SCRAMBLE_BYTES as u8 + 1);
            p.extend_from_slice(&[0; 10]);
            p.extend_from_slice(&self.scramble[8..]);
            p.push(0);
            p.extend_from_slice(&self.plugin);
            p.push(0);
        });
    }

    /// Reads the packet's payload.
    ///
    /// Errors: `Malformed` for another protocol version than 10 or a server older than protocol 4.1.
    pub fn decode(payload: &[u8]) -> Result<Greeting, ProtocolError> {
        let mut fields = Fields::new(payload);
        if fields.u8()? != 10 {
            return Err(ProtocolError::Malformed("handshake version"));
        }
        let version = fields.null_terminated()?.to_vec();
        let connection_id = fields.u32()?;
        let mut scramble = [0; SCRAMBLE_BYTES];
        scramble[..8].copy_from_slice(fields.bytes(8)?);
        fields.u8()?;
        let low = fields.u16()?;
        let collation = fields.u8()?;
        let status = fields.u16()?;
        let capabilities = u32::from(low) | u32::from(fields.u16()?) << 16;
        if capabilities & capability::PROTOCOL_41 == 0 || capabilities & capability::SECURE_CONNECTION == 0 {
            return Err(ProtocolError::Malformed("server older than protocol 4.1"));
        }
        fields.bytes(11)?;
        scramble[8..].copy_from_slice(fields.bytes(12)?);
        fields.u8()?;
        let mut plugin = Method::Native.plugin().to_vec();
        if capabilities & capability::PLUGIN_AUTH != 0 {
            plugin = fields.null_terminated().unwrap_or(fields.rest()).to_vec();
        }
        Ok(Greeting { version, connection_id, scramble, capabilities, collation, status, plugin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn servers_are_told_apart() {
        let greeting = |version: &str, capabilities| Greeting {
            version: version.into(),
            connection_id: 1,
            scramble: [7; 20],
            capabilities,
            collation: 45,
            status: 2,
            plugin: Vec::new(),
        };
        let old = capability::OFFERED | capability::LONG_PASSWORD;
        assert!(greeting("5.5.5-10.11.19-MariaDB-0+deb12u1", old).is_mariadb());
        assert!(greeting("11.4.2-mariadb", old).is_mariadb());
        assert!(greeting("8.0.0-proxy", old & !capability::LONG_PASSWORD).is_mariadb());
        assert!(!greeting("8.4.3", old).is_mariadb() && !greeting("8.0.35-27-Percona", old).is_mariadb());
    }

    proptest! {
        #[test]
        fn greetings_round_trip_and_short_ones_are_refused(connection_id: u32, scramble: [u8; 20], collation: u8) {
            let greeting = Greeting {
                version: b"5.5.5-10.11.19-MariaDB".to_vec(), connection_id, scramble,
                capabilities: capability::OFFERED, collation, status: 2, plugin: Method::Native.plugin().to_vec(),
            };
            let mut out = Vec::new();
            greeting.encode(&mut out);
            prop_assert_eq!(Greeting::decode(&out[4..]), Ok(greeting));
            for cut in 0..out.len() - 4 - Method::Native.plugin().len() - 1 {
                prop_assert!(Greeting::decode(&out[4..4 + cut]).is_err());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(payload: Vec<u8>) {
            let _ = Greeting::decode(&payload);
        }
    }
}
