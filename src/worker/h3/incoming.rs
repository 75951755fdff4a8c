//! What comes from the client on a stream of HTTP/3: read as it is asked for, and never further.

use bytes::Bytes;
use http::HeaderMap;

use super::link::Read;
use super::stream::{CHUNK_BYTES, Stream};
use crate::http::h3::{ErrorCode, Failure, HeadError, Piece, RequestReader, trailers};

/// See the module.
pub(super) struct Incoming {
    pub(super) reader: RequestReader,
    /// Came and was not looked at yet.
    input: Bytes,
    /// Content that came while something else was looked for.
    pub(super) ahead: Option<Bytes>,
    /// What came behind the content.
    pub(super) trailers: Option<HeaderMap>,
    /// How the stream ended.
    last: Option<Last>,
}

/// What a stream brought.
pub(super) enum Next {
    Piece(Piece),
    Last(Last),
}

/// How a stream ended.
#[derive(Clone, Copy)]
pub(super) enum Last {
    /// It is complete.
    End,
    /// The client has given it up, or is gone.
    Gone,
    Failed(Failure),
}

impl Incoming {
    pub(super) fn new(section_bytes_max: usize) -> Incoming {
        let reader = RequestReader::new(section_bytes_max);
        Incoming { reader, input: Bytes::new(), ahead: None, trailers: None, last: None }
    }

    /// What ended the reading.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self.last {
            Some(Last::Failed(failure)) => Some(failure),
            _ => None,
        }
    }

    /// Looks for content, and keeps the first that is there. Tells whether the stream ends instead.
    pub(super) fn look_ahead(&mut self, stream: &Stream) -> bool {
        if self.ahead.is_some() {
            return false;
        }
        match self.look(stream) {
            Some(Next::Piece(Piece::Data(data))) => self.ahead = Some(data),
            Some(Next::Last(Last::End)) => return true,
            _ => {}
        }
        false
    }

    /// The next piece if it is there. The end is told again and again.
    pub(super) fn look(&mut self, stream: &Stream) -> Option<Next> {
        while self.last.is_none() {
            match self.reader.read(&mut self.input) {
                Ok(Some(Piece::Trailers(section))) => match self.read_trailers(stream, &section) {
                    Ok(()) => continue,
                    Err(failure) => {
                        self.last = Some(Last::Failed(failure));
                        break;
                    }
                },
                Ok(Some(piece)) => return Some(Next::Piece(piece)),
                Ok(None) => {}
                Err(failure) => {
                    self.last = Some(Last::Failed(failure));
                    break;
                }
            }
            match stream.link.read(stream.id, CHUNK_BYTES) {
                Read::Bytes(bytes) => self.input = bytes,
                Read::Blocked => {
                    stream.set_unread(false);
                    return None;
                }
                Read::End => self.last = Some(self.reader.end().map_or_else(Last::Failed, |()| Last::End)),
                Read::Reset => {
                    stream.note_reset();
                    self.last = Some(Last::Gone);
                }
                Read::Stopped => self.last = Some(Last::Gone),
            }
        }
        stream.set_unread(false);
        self.last.map(Next::Last)
    }

    fn read_trailers(&mut self, stream: &Stream, section: &[u8]) -> Result<(), Failure> {
        let list_bytes_max = stream.link.worker().config.http3.header_list_bytes_max as usize;
        self.trailers = match trailers(section, list_bytes_max) {
            Ok(trailers) => Some(trailers),
            // As those whose section is too long.
            Err(HeadError::TooLarge) => None,
            Err(HeadError::Broken) => return Err(Failure::Connection(ErrorCode::QPACK_DECOMPRESSION_FAILED)),
            Err(HeadError::Malformed(_)) => return Err(Failure::Stream(ErrorCode::MESSAGE_ERROR)),
        };
        Ok(())
    }
}
