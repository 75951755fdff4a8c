//! Length-encoded integers and strings, and a cursor over a packet's fields.
//!
//! Source: MySQL internals manual, `page_protocol_basic_dt_integers`, `page_protocol_basic_dt_strings`.

use super::ProtocolError;

/// Appends `value` in its shortest length-encoded form.
pub fn put_int(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=250 => out.push(value as u8),
        251..=0xFFFF => {
            out.push(0xFC);
            out.extend_from_slice(&(value as u16).to_le_bytes());
        }
        0x1_0000..=0xFF_FFFF => {
            out.push(0xFD);
            out.extend_from_slice(&(value as u32).to_le_bytes()[..3]);
        }
        _ => {
            out.push(0xFE);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// Appends `text` behind its length.
pub fn put_bytes(out: &mut Vec<u8>, text: &[u8]) {
    put_int(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Reads fields off the front of a packet's payload.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Starts at the first byte of `payload`.
    pub fn new(payload: &'a [u8]) -> Fields<'a> {
        Fields { rest: payload }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// All that has not been read yet; nothing is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes. Errors: `Truncated`.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], ProtocolError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(ProtocolError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, ProtocolError> {
        Ok(self.bytes(1)?[0])
    }

    /// Two bytes, little endian.
    pub fn u16(&mut self) -> Result<u16, ProtocolError> {
        let b = self.bytes(2)?;
        Ok(u16::from_le_bytes([b[0], b[1]]))
    }

    /// Four bytes, little endian.
    pub fn u32(&mut self) -> Result<u32, ProtocolError> {
        let b = self.bytes(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// A length-encoded integer. Errors: `Malformed` for 0xFB (NULL) and 0xFF, which are no integers.
    pub fn int(&mut self) -> Result<u64, ProtocolError> {
        let width = match self.u8()? {
            small @ 0..=250 => return Ok(u64::from(small)),
            0xFC => 2,
            0xFD => 3,
            0xFE => 8,
            _ => return Err(ProtocolError::Malformed("length-encoded integer")),
        };
        let mut value = [0; 8];
        value[..width].copy_from_slice(self.bytes(width)?);
        Ok(u64::from_le_bytes(value))
    }

    /// A length-encoded string.
    pub fn string(&mut self) -> Result<&'a [u8], ProtocolError> {
        let len = self.int()?;
        self.bytes(usize::try_from(len).map_err(|_| ProtocolError::Truncated)?)
    }

    /// A value of a text row: `None` for NULL.
    pub fn text_value(&mut self) -> Result<Option<&'a [u8]>, ProtocolError> {
        if self.rest.first() == Some(&0xFB) {
            self.rest = &self.rest[1..];
            return Ok(None);
        }
        self.string().map(Some)
    }

    /// A string that ends in a zero byte, without it.
    pub fn null_terminated(&mut self) -> Result<&'a [u8], ProtocolError> {
        let end = memchr::memchr(0, self.rest).ok_or(ProtocolError::Truncated)?;
        let text = self.bytes(end)?;
        self.rest = &self.rest[1..];
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_integer_takes_its_shortest_form() {
        for (value, bytes) in [
            (0, vec![0]),
            (250, vec![250]),
            (251, vec![0xFC, 251, 0]),
            (0xFFFF, vec![0xFC, 0xFF, 0xFF]),
            (0x1_0000, vec![0xFD, 0, 0, 1]),
            (0x100_0000, vec![0xFE, 0, 0, 0, 1, 0, 0, 0, 0]),
        ] {
            let mut out = Vec::new();
            put_int(&mut out, value);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn null_and_error_marks_are_no_integers() {
        assert!(Fields::new(&[0xFB]).int().is_err());
        assert!(Fields::new(&[0xFF]).int().is_err());
        assert_eq!(Fields::new(&[0xFB]).text_value(), Ok(None));
    }

    proptest! {
        #[test]
        fn integers_and_strings_round_trip(value: u64, text: Vec<u8>) {
            let mut out = Vec::new();
            put_int(&mut out, value);
            put_bytes(&mut out, &text);
            let mut fields = Fields::new(&out);
            prop_assert_eq!(fields.int().unwrap(), value);
            prop_assert_eq!(fields.string().unwrap(), &text[..]);
            prop_assert!(fields.is_empty());
            for cut in 0..out.len() {
                let mut fields = Fields::new(&out[..cut]);
                prop_assert!(fields.int().and_then(|_| fields.string()).is_err());
            }
        }
    }
}
