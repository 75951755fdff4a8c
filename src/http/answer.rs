//! The head of an answer before it is put into the words of a protocol: what the actions of a worker hand to the
//! HTTP/1 writer ([`super::h1::write_answer_head`]) or to HTTP/2. Pure data.

/// Status, fields and content of an answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHead<'a> {
    /// Status code, 200 to 999; interim answers have no content and go another way.
    pub status: u16,
    /// Reason phrase of a server behind us; `None`: the registered one. HTTP/2 has none.
    pub reason: Option<&'a [u8]>,
    /// Field lines, `Name: value\r\n` each, without those of framing and connection, which belong to the protocol.
    pub fields: &'a [u8],
    /// What follows the head.
    pub content: Content,
}

/// The content of an answer, as far as its head tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// None, by status or method (RFC 9110 section 6.4.1); the number is what Content-Length may say all the same: the
    /// length that a GET would have had.
    Absent(Option<u64>),
    /// Exactly this many bytes.
    Length(u64),
    /// Nobody knows how many bytes until they end.
    Stream,
}
