//! A connection to a server.

use std::io;

use crate::runtime::net::{Peek, Stream};
use crate::worker::Worker;
use crate::worker::watch::Watched;

/// A connection to a server. `watched` is dropped before `stream`, as it must be.
pub(crate) struct ServerConnection {
    pub(in crate::worker) watched: Watched,
    stream: Stream,
}

impl ServerConnection {
    pub(super) fn new(worker: &Worker, stream: Stream) -> ServerConnection {
        ServerConnection { watched: worker.watches.watch(&stream), stream }
    }

    /// Nothing has come and it is open: another request may go there. Readable means dead: it was closed, or something nobody
    /// asked for came, which must never be taken for the answer to the next request. It also narrows the race with the
    /// server's idle time-out to one packet's time.
    pub(super) fn is_quiet(&self) -> bool {
        self.stream.peek() == Peek::Quiet
    }

    /// Sends all of `bytes` and gives the buffer back.
    pub(in crate::worker) async fn write_all(&self, _worker: &Worker, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        self.stream.write_all(bytes).await
    }

    /// Reads what is there into the spare capacity of `buffer`; 0: the server sends no more.
    pub(in crate::worker) async fn read(&self, _worker: &Worker, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        self.stream.read(buffer).await
    }

    /// Waits until a read would find something, without holding a buffer.
    pub(in crate::worker) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Ends our direction: the server reads the end of the stream.
    pub(in crate::worker) async fn end_direction(&self, _worker: &Worker) {
        self.stream.shutdown_write();
    }

    /// Ends both directions at once, so that every operation under way comes back.
    pub(in crate::worker) fn break_all(&self) {
        self.stream.breaker().break_all();
    }
}
