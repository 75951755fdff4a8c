//! The client's hello, read and left as it is.

use super::Stream;
use super::trail::Ending;
use crate::tls::hello::{HelloError, read_hello};
use crate::worker::connection::Connection;
use crate::worker::watch::OnExpiry;

/// Room of the first read: more than any usual hello, those with post-quantum keys included.
const HELLO_BYTES: usize = 2048;

/// The fatal alert unrecognized_name (RFC 6066 section 3), as a record.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 1, 0, 2, 2, 112];

impl Stream<'_> {
    /// Reads until the hello is complete, or until it is certain that there is none; notes what it says. `Err`: the
    /// connection is to be closed.
    pub(super) async fn read_hello(&mut self, mut input: Vec<u8>) -> Result<Vec<u8>, Ending> {
        let (worker, connection) = (self.worker, self.connection);
        connection.watched.set(worker.config.http.header_timeout, OnExpiry::BreakReads);
        loop {
            match read_hello(&input) {
                Ok(Some(hello)) => {
                    self.trail.server_name = hello.server_name;
                    self.trail.alpn = hello.alpn;
                    break;
                }
                // What is not TLS asks for no name.
                Err(HelloError::NotTls) => break,
                Err(error) => {
                    worker.stats.http.malformed.inc();
                    tracing::debug!(peer = ?connection.peer, %error, "connection refused");
                    return Err(Ending::BadHello);
                }
                Ok(None) => {}
            }
            if input.capacity() - input.len() < HELLO_BYTES / 2 {
                input.reserve(HELLO_BYTES);
            }
            let (result, returned) = connection.stream().read(input).await;
            input = returned;
            match result {
                Ok(count) if count > 0 => {}
                _ if connection.watched.expired() => return Err(Ending::HelloTimeout),
                _ if input.is_empty() => return Err(Ending::Silent),
                _ => return Err(Ending::BadHello),
            }
        }
        connection.watched.clear();
        Ok(input)
    }
}

/// Tells a client of TLS that nobody has the name it asks for; to others it means nothing.
pub(super) async fn refuse_name(connection: &Connection) {
    if connection.is_tls() {
        return;
    }
    // Seven bytes fit the socket's empty buffer; whether the client still hears them is of no use to us.
    let _ = connection.stream().write_all(UNRECOGNIZED_NAME.to_vec()).await;
}
