//! The first frame of a server of HTTP/2, by which it is known to be one (RFC 9113 section 3.4): SETTINGS, not an
//! acknowledgement, on stream 0. A server of HTTP/1 answers the preface with text instead. Pure.

use super::frame::{flag, kind};

const HEAD_BYTES: usize = 9;

/// Most bytes of these settings: every known one many times over.
const SETTINGS_BYTES_MAX: usize = 16 * 1024;

/// What came is no beginning of HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHttp2;

impl std::fmt::Display for NotHttp2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it does not speak HTTP/2")
    }
}

impl std::error::Error for NotHttp2 {}

/// Waits for the settings of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Greeting {
    head: [u8; HEAD_BYTES],
    /// Bytes that have come, those of the head at first.
    come: usize,
}

impl Greeting {
    /// Sees the next bytes; `Ok(true)`: the settings are complete, which later calls say again.
    ///
    /// Errors: something else has come.
    pub fn read(&mut self, bytes: &[u8]) -> Result<bool, NotHttp2> {
        let before = self.come.min(HEAD_BYTES);
        let taken = bytes.len().min(HEAD_BYTES - before);
        self.head[before..before + taken].copy_from_slice(&bytes[..taken]);
        self.come = self.come.saturating_add(bytes.len());
        let [a, b, c, found, flags, stream @ ..] = self.head;
        let is_settings = found == kind::SETTINGS && flags & flag::ACK == 0 && stream == [0; 4];
        let payload_bytes = u32::from_be_bytes([0, a, b, c]) as usize;
        let looks_well = match self.come {
            0..3 => true,
            3..HEAD_BYTES => payload_bytes <= SETTINGS_BYTES_MAX,
            _ => payload_bytes <= SETTINGS_BYTES_MAX && is_settings,
        };
        if looks_well { Ok(self.come >= HEAD_BYTES + payload_bytes) } else { Err(NotHttp2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Result<bool, NotHttp2> {
        let mut greeting = Greeting::default();
        let mut is_complete = greeting.read(b"")?;
        for piece in bytes.chunks(piece) {
            is_complete = greeting.read(piece)?;
        }
        Ok(is_complete)
    }

    #[test]
    fn settings_are_a_greeting_and_nothing_else_is() {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        let too_long = b"\0\x50\0\x04\0\0\0\0\0";
        let acknowledged = b"\0\0\0\x04\x01\0\0\0\0";
        let on_a_stream = b"\0\0\0\x04\0\0\0\0\x01";
        let ping = b"\0\0\x08\x06\0\0\0\0\0........";
        for piece in 1..20 {
            assert_eq!(read(settings, piece), Ok(true), "{piece}");
            assert_eq!(read(&[&settings[..], b"more"].concat(), piece), Ok(true), "{piece}");
            for cut in 0..settings.len() {
                assert_eq!(read(&settings[..cut], piece), Ok(false), "{cut} {piece}");
            }
            assert_eq!(read(b"\0\0\0\x04\0\0\0\0\0", piece), Ok(true), "it may have no settings");
            for other in [&b"HTTP/1.1 400 Bad Request\r\n"[..], too_long, acknowledged, on_a_stream, ping] {
                assert_eq!(read(other, piece), Err(NotHttp2), "{other:?}");
            }
        }
    }
}
