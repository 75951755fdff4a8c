//! Names and values as each protocol carries them.
//!
//! | protocol | a pair | all of them |
//! |---|---|---|
//! | FastCGI | two lengths of 1 or 4 bytes, name, value | a stream of PARAMS records |
//! | uwsgi | length (2, little-endian) and name, length and value | 4 bytes in front; 65,535 bytes at most |
//! | SCGI | name, NUL, value, NUL | a netstring; CONTENT_LENGTH comes first |
//!
//! Sources: FastCGI Specification 1.0 section 3.4; uWSGI documentation, "The uwsgi Protocol"; SCGI: A Simple Common Gateway
//! Interface alternative, 2008.

use super::record::{self, Opening};
use crate::http::h1::write_decimal;

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// FastCGI 1.0.
    FastCgi,
    /// uwsgi.
    Uwsgi,
    /// SCGI.
    Scgi,
}

/// Most that a packet of uwsgi may hold, bytes: its length has 16 bits.
const UWSGI_BYTES_MAX: usize = 0xffff;
/// Lengths below this take one byte in FastCGI.
const SHORT_BYTES: usize = 0x80;

/// Why variables cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarsError {
    /// More than the protocol has room for.
    TooLarge,
    /// A NUL, which would end a name or a value of SCGI before its end.
    Nul,
}

/// The variables of one request, being collected.
#[derive(Debug)]
pub struct Vars {
    form: Form,
    /// The pairs.
    bytes: Vec<u8>,
    error: Option<VarsError>,
}

impl Vars {
    /// None so far, in `buffer`, whose content is lost. `content_bytes`: length of the request's content, which SCGI wants to
    /// know first.
    pub fn new(form: Form, mut buffer: Vec<u8>, content_bytes: u64) -> Vars {
        buffer.clear();
        let mut vars = Vars { form, bytes: buffer, error: None };
        if form == Form::Scgi {
            vars.bytes.extend_from_slice(b"CONTENT_LENGTH\0");
            write_decimal(&mut vars.bytes, content_bytes);
            vars.bytes.extend_from_slice(b"\0SCGI\x001\0");
        }
        vars
    }

    /// Which protocol they are for.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Adds a pair. What does not fit is told at the end.
    pub fn put(&mut self, name: &[u8], value: &[u8]) {
        self.put_parts(&[name], &[value]);
    }

    /// The same, of a name and a value that are in pieces.
    pub fn put_parts(&mut self, name: &[&[u8]], value: &[&[u8]]) {
        let bytes = |parts: &[&[u8]]| parts.iter().map(|part| part.len()).sum::<usize>();
        let (name_bytes, value_bytes) = (bytes(name), bytes(value));
        match self.form {
            Form::FastCgi => {
                self.put_length(name_bytes);
                self.put_length(value_bytes);
                name.iter().chain(value).for_each(|part| self.bytes.extend_from_slice(part));
            }
            Form::Uwsgi => {
                if name_bytes.max(value_bytes) > UWSGI_BYTES_MAX {
                    self.error = Some(VarsError::TooLarge);
                    return;
                }
                self.bytes.extend_from_slice(&(name_bytes as u16).to_le_bytes());
                name.iter().for_each(|part| self.bytes.extend_from_slice(part));
                self.bytes.extend_from_slice(&(value_bytes as u16).to_le_bytes());
                value.iter().for_each(|part| self.bytes.extend_from_slice(part));
            }
            Form::Scgi => {
                if name.iter().chain(value).any(|part| part.contains(&0)) {
                    self.error = Some(VarsError::Nul);
                    return;
                }
                for parts in [name, value] {
                    parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
                    self.bytes.push(0);
                }
            }
        }
    }

    fn put_length(&mut self, length: usize) {
        match length {
            0..SHORT_BYTES => self.bytes.push(length as u8),
            _ => match u32::try_from(length) {
                Ok(length) if length < 1 << 31 => self.bytes.extend_from_slice(&(length | 1 << 31).to_be_bytes()),
                _ => self.error = Some(VarsError::TooLarge),
            },
        }
    }

    /// Appends the request up to its content to `out`, and gives the buffer back. `opening` is for FastCGI alone.
    ///
    /// Errors: what did not fit. Nothing has been appended then.
    pub fn finish(self, opening: Opening, out: &mut Vec<u8>) -> (Result<(), VarsError>, Vec<u8>) {
        let Vars { form, mut bytes, error } = self;
        let is_too_large = form == Form::Uwsgi && bytes.len() > UWSGI_BYTES_MAX;
        let error = error.or(is_too_large.then_some(VarsError::TooLarge));
        if let Some(error) = error {
            return (Err(error), bytes);
        }
        match form {
            Form::FastCgi => record::put_request(out, &bytes, opening),
            Form::Uwsgi => {
                let [low, high] = (bytes.len() as u16).to_le_bytes();
                // Both modifiers are 0: a request for an application of WSGI, or of whatever the server is set to.
                out.extend_from_slice(&[0, low, high, 0]);
                out.extend_from_slice(&bytes);
            }
            Form::Scgi => {
                write_decimal(out, bytes.len() as u64);
                out.push(b':');
                out.extend_from_slice(&bytes);
                out.push(b',');
            }
        }
        bytes.clear();
        (Ok(()), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fuzz::decoded;
    use super::*;

    fn encoded(form: Form, pairs: &[(&[u8], &[u8])]) -> Result<Vec<u8>, VarsError> {
        let mut vars = Vars::new(form, b"old".to_vec(), 5);
        pairs.iter().for_each(|(name, value)| vars.put(name, value));
        let mut out = Vec::new();
        let (result, buffer) = vars.finish(Opening::Alone, &mut out);
        assert_eq!(out.is_empty(), result.is_err());
        drop(buffer);
        result.map(|()| out)
    }

    #[test]
    fn pairs_in_the_words_of_each() {
        let pairs: [(&[u8], &[u8]); 2] = [(b"A", b"bc"), (b"DE", b"")];
        let fastcgi = encoded(Form::FastCgi, &pairs).unwrap();
        assert!(fastcgi.ends_with(b"\x01\x04\0\x01\0\x09\0\0\x01\x02Abc\x02\0DE\x01\x04\0\x01\0\0\0\0"));
        assert_eq!(encoded(Form::Uwsgi, &pairs).unwrap(), b"\0\x0d\0\0\x01\0A\x02\0bc\x02\0DE\0\0");
        assert_eq!(
            encoded(Form::Scgi, &pairs).unwrap(),
            b"33:CONTENT_LENGTH\x005\0SCGI\x001\0A\0bc\0DE\0\0,".as_slice()
        );
    }

    #[test]
    fn long_names_and_values_come_back_as_they_were() {
        let long = |length: usize| vec![b'x'; length];
        for (name, value) in [(127, 128), (128, 127), (1, 60_000), (300, 0)] {
            let (name, value) = (long(name), long(value));
            for form in [Form::FastCgi, Form::Uwsgi, Form::Scgi] {
                let bytes = encoded(form, &[(&name, &value)]).unwrap();
                let (pairs, rest) = decoded(form, &bytes).unwrap();
                assert!(pairs.contains(&(name.clone(), value.clone())) && rest.is_empty(), "{form:?}");
            }
        }
        let value = long(200_000);
        let bytes = encoded(Form::FastCgi, &[(b"A", &value)]).unwrap();
        assert_eq!(decoded(Form::FastCgi, &bytes).unwrap().0, [(b"A".to_vec(), value)], "over several records");
    }

    #[test]
    fn what_has_no_room() {
        let value = vec![b'x'; UWSGI_BYTES_MAX - 5];
        assert!(encoded(Form::Uwsgi, &[(b"A", &value)]).is_ok());
        assert_eq!(encoded(Form::Uwsgi, &[(b"AB", &value)]), Err(VarsError::TooLarge));
        assert_eq!(encoded(Form::Uwsgi, &[(b"A", &vec![b'x'; 1 << 16])]), Err(VarsError::TooLarge));
        assert_eq!(encoded(Form::Scgi, &[(b"A", b"b\0c")]), Err(VarsError::Nul));
        assert!(encoded(Form::FastCgi, &[(b"A", b"b\0c")]).is_ok() && encoded(Form::Uwsgi, &[(b"A", b"b\0c")]).is_ok());
    }
}
