//! A Unix socket on which clients send lines and get answers: how many clients, how long a line, how long a silence. Who may
//! connect and what the lines mean is the matter of those who serve one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

/// Has `converse` talk to each client of `listener`, at most `connections_max` at a time (further ones wait in the socket's
/// queue), until `shutdown` becomes true or its sender is gone. Must run on tokio with timers and sockets.
///
/// `name` is what the log calls the socket.
pub(super) async fn serve<T: Future<Output = io::Result<()>> + Send + 'static>(
    listener: UnixListener,
    name: &'static str,
    connections_max: usize,
    mut shutdown: watch::Receiver<bool>,
    converse: impl Fn(UnixStream) -> T,
) {
    let places = Arc::new(Semaphore::new(connections_max));
    let accept = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let talk = converse(stream);
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = talk.await {
                            tracing::debug!(%error, "a client of the {name} socket has left");
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "{name} accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors: give others time
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

/// One client.
pub(super) struct Lines {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    line_bytes_max: usize,
}

/// What comes next of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line.
    Line,
    /// One that is too long, or was cut short.
    Cut,
    /// Nothing: it has ended, or was silent for too long.
    End,
}

impl Lines {
    /// `line_bytes_max` is the most that a line may have, its end included.
    pub(super) fn new(stream: UnixStream, line_bytes_max: usize) -> Lines {
        let (read, write) = stream.into_split();
        Lines { read: BufReader::new(read), write, line_bytes_max }
    }

    /// Puts the next line into `line`, without its end. Errors: it cannot be read from.
    pub(super) async fn next(&mut self, line: &mut Vec<u8>, silence_max: Duration) -> io::Result<Next> {
        line.clear();
        let mut limited = (&mut self.read).take(self.line_bytes_max as u64);
        let Ok(count) = tokio::time::timeout(silence_max, limited.read_until(b'\n', line)).await else {
            return Ok(Next::End);
        };
        if count? == 0 {
            return Ok(Next::End);
        }
        Ok(if line.pop() == Some(b'\n') { Next::Line } else { Next::Cut })
    }

    /// More has come already.
    pub(super) fn has_more(&self) -> bool {
        !self.read.buffer().is_empty()
    }

    /// Errors: it cannot be written to, or does not take it within `silence_max`.
    pub(super) async fn write(&mut self, bytes: &[u8], silence_max: Duration) -> io::Result<()> {
        let late = |_| Err(io::ErrorKind::TimedOut.into());
        tokio::time::timeout(silence_max, self.write.write_all(bytes)).await.unwrap_or_else(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn lines_end_where_they_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut lines, mut line) = (Lines::new(ours, 8), Vec::new());
        theirs.write_all(b"one\n\ntoo long a line\n").await.unwrap();
        for expect in [(Next::Line, "one"), (Next::Line, "")] {
            assert_eq!(
                (lines.next(&mut line, SECOND).await.unwrap(), line.as_slice()),
                (expect.0, expect.1.as_bytes())
            );
            assert!(lines.has_more());
        }
        assert_eq!(lines.next(&mut line, SECOND).await.unwrap(), Next::Cut);
        theirs.write_all(b"cut").await.unwrap();
        drop(theirs);
        while lines.next(&mut line, SECOND).await.unwrap() == Next::Line {}
        assert_eq!((lines.next(&mut line, SECOND).await.unwrap(), line.as_slice()), (Next::End, &b""[..]));
        assert!(lines.write(b"gone", SECOND).await.is_err());
    }

    #[tokio::test]
    async fn nobody_is_waited_for_too_long() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (mut lines, moment) = (Lines::new(ours, 8), Duration::from_millis(20));
        assert_eq!(lines.next(&mut Vec::new(), moment).await.unwrap(), Next::End);
        let late = lines.write(&vec![0; 16 << 20], moment).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn so_many_are_served_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (stop, stopped) = watch::channel(false);
        let converse = |stream: UnixStream| async move {
            let (mut lines, mut line) = (Lines::new(stream, 100), Vec::new());
            while lines.next(&mut line, 20 * SECOND).await? == Next::Line {
                lines.write(&[&line[..], b"!"].concat(), SECOND).await?;
            }
            Ok(())
        };
        let serving = tokio::spawn(serve(listener, "test", 2, stopped, converse));
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = UnixStream::connect(&path).await.unwrap();
            client.write_all(b"a\n").await.unwrap();
            clients.push(client);
        }
        let mut third = clients.pop().unwrap();
        let mut answer = [0; 2];
        for client in &mut clients {
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"a!");
        }
        let early = tokio::time::timeout(Duration::from_millis(50), third.read_exact(&mut answer)).await;
        assert!(early.is_err(), "there is no place for it");
        clients.pop();
        third.read_exact(&mut answer).await.unwrap();
        stop.send_replace(true);
        serving.await.unwrap();
    }
}
