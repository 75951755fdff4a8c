//! What a client sends for LOAD DATA LOCAL: packets of its file, an empty one at the end. Passed on as they come.
//!
//! Source: MySQL internals manual, `page_protocol_com_query_response_local_infile_request`.

use super::ProtocolError;
use super::packet::{HEADER_BYTES, Header, PAYLOAD_BYTES_MAX};

/// Where one transfer stands.
#[derive(Debug)]
pub struct LocalFile {
    /// Of the next packet from the client.
    sequence_id: u8,
    /// What the server counts less than the client.
    shift: u8,
    /// The beginning of a header.
    head: Vec<u8>,
    /// Bytes of the packet under way that have not come.
    left: usize,
    /// The packet before was one of the longest, so the next belongs to it, however short.
    continued: bool,
    /// The packet under way is the last.
    done: bool,
}

impl LocalFile {
    /// In front of the first packet. `sequence_id`: the one it must have; the server counts `shift` less.
    pub fn new(sequence_id: u8, shift: u8) -> LocalFile {
        LocalFile { sequence_id, shift, head: Vec::with_capacity(HEADER_BYTES), left: 0, continued: false, done: false }
    }

    /// Whether the empty packet has come.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Sequence id of the packet that follows, for the client.
    pub fn next_sequence_id(&self) -> u8 {
        self.sequence_id
    }

    /// Takes bytes from the client, appends those for the server, returns how many were used: all of them, or those up
    /// to the end of the file.
    ///
    /// Errors: `OutOfOrder`.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
        let mut used = 0;
        while used < input.len() && !self.done {
            if self.left > 0 {
                let bytes = self.left.min(input.len() - used);
                out.extend_from_slice(&input[used..used + bytes]);
                used += bytes;
                self.left -= bytes;
                continue;
            }
            self.head.push(input[used]);
            used += 1;
            if let Some(header) = Header::decode(&self.head) {
                self.head.clear();
                self.begin(header, out)?;
            }
        }
        Ok(used)
    }

    fn begin(&mut self, header: Header, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        if header.sequence_id != self.sequence_id {
            return Err(ProtocolError::OutOfOrder);
        }
        let sequence_id = self.sequence_id.wrapping_sub(self.shift);
        out.extend_from_slice(&Header { sequence_id, ..header }.encode());
        self.sequence_id = self.sequence_id.wrapping_add(1);
        self.left = header.payload_bytes;
        self.done = header.payload_bytes == 0 && !self.continued;
        self.continued = header.payload_bytes == PAYLOAD_BYTES_MAX;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::put_packet;
    use super::*;

    fn file(first: u8) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, text) in [&b"first line\n"[..], b"second\n", b""].into_iter().enumerate() {
            put_packet(&mut out, first.wrapping_add(n as u8), |p| p.extend_from_slice(text));
        }
        out
    }

    #[test]
    fn packets_pass_renumbered_up_to_the_empty_one() {
        let input = [file(255), b"next command".to_vec()].concat();
        for cut in 0..input.len() {
            let (mut transfer, mut out) = (LocalFile::new(255, 3), Vec::new());
            let mut used = 0;
            for part in [&input[..cut], &input[cut..]] {
                used += transfer.feed(part, &mut out).unwrap();
            }
            assert!(transfer.is_done(), "cut at {cut}");
            assert_eq!((used, transfer.next_sequence_id()), (file(255).len(), 2), "cut at {cut}");
            assert!(out == file(252), "cut at {cut}");
        }
    }

    #[test]
    fn an_empty_packet_behind_one_of_the_longest_is_its_end_alone() {
        let mut input = Header { payload_bytes: PAYLOAD_BYTES_MAX, sequence_id: 0 }.encode().to_vec();
        input.resize(HEADER_BYTES + PAYLOAD_BYTES_MAX, b'x');
        for sequence_id in 1..3 {
            input.extend_from_slice(&Header { payload_bytes: 0, sequence_id }.encode());
        }
        let (mut transfer, mut out) = (LocalFile::new(0, 0), Vec::new());
        assert_eq!(transfer.feed(&input, &mut out), Ok(input.len()));
        assert!(transfer.is_done() && out == input);
        assert_eq!(LocalFile::new(5, 0).feed(&file(4), &mut out), Err(ProtocolError::OutOfOrder));
    }
}
