//! Requests that ask for another protocol, as handlers of the tokio ecosystem know them: axum's `WebSocketUpgrade`, and
//! whatever else asks for hyper's [`OnUpgrade`].
//!
//! Only hyper can make an [`OnUpgrade`], of a connection of its own that has answered 101. So for a request that asks for a
//! protocol, and for no other, hyper serves a connection in memory: it reads a request that is always the same, and its 101
//! goes nowhere, because the answer to the client is the application's. What is read and written behind that is
//! the client's, by way of the data worker and with credit in both directions.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{self, OnUpgrade};
use tokio::sync::oneshot;

use crate::runtime::body::{BodyReceiver, BodySender};

/// What hyper is asked.
const OPENING: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: any\r\n\r\n";

/// Bytes that are sent on in one piece.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// The application's end of a tunnel to a client.
pub(crate) struct TunnelEnd {
    pub(crate) from_client: BodyReceiver,
    pub(crate) to_client: BodySender,
}

/// A tunnel that is not open yet. Dropped, it never is, and whoever waits for its [`OnUpgrade`] hears of that.
pub(super) struct Unopened {
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>>>>,
    agree: oneshot::Sender<()>,
}

impl Unopened {
    /// A tunnel, and what a handler needs to get at it. `None`: hyper did not take it, which is a defect.
    pub(super) async fn new(end: TunnelEnd) -> Option<(Unopened, OnUpgrade)> {
        let (agree, agreed) = oneshot::channel();
        let (hand_out, handed_out) = oneshot::channel();
        let asked = Cell::new(Some((hand_out, agreed)));
        let service = service_fn(move |mut request: Request<Incoming>| {
            let on_upgrade = upgrade::on(&mut request);
            let asked = asked.take();
            async move {
                let is_agreed = match asked {
                    Some((hand_out, agreed)) => hand_out.send(on_upgrade).is_ok() && agreed.await.is_ok(),
                    None => false,
                };
                let status = if is_agreed { StatusCode::SWITCHING_PROTOCOLS } else { StatusCode::BAD_REQUEST };
                let mut response = Response::new(Empty::<Bytes>::new());
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        let TunnelEnd { from_client, to_client } = end;
        let pipe = Pipe {
            opening: OPENING,
            is_open: false,
            chunk: Bytes::new(),
            from_client: Some(from_client),
            to_client: Some(to_client),
        };
        let mut connection = Box::pin(http1::Builder::new().serve_connection(pipe, service).with_upgrades());
        let on_upgrade = tokio::select! {
            biased;
            // It has all it needs to come to the service at once.
            _ = &mut connection => return None,
            on_upgrade = handed_out => on_upgrade.ok()?,
        };
        Some((Unopened { connection, agree }, on_upgrade))
    }

    /// The application has agreed: from now on the tunnel is whoever's who waits for it.
    pub(super) async fn open(self) {
        let Unopened { connection, agree } = self;
        if agree.send(()).is_ok()
            && let Err(error) = connection.await
        {
            tracing::error!(%error, "a connection of an application to its client cannot be opened");
        }
    }
}

/// What hyper takes for a connection.
struct Pipe {
    /// Of the request that it is asked, what it has not read.
    opening: &'static [u8],
    /// It has answered: the rest is between application and client.
    is_open: bool,
    /// Has come from the client and has not been read.
    chunk: Bytes,
    /// `None` only while it is dropped.
    from_client: Option<BodyReceiver>,
    /// `None`: our direction has ended.
    to_client: Option<BodySender>,
}

impl Read for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.opening.is_empty() {
            let (now, later) = self.opening.split_at(self.opening.len().min(buf.remaining()));
            buf.put_slice(now);
            self.opening = later;
            return Poll::Ready(Ok(()));
        }
        if !self.is_open {
            // Hyper looks for an early end while the application works. Once it has answered, somebody else asks.
            return Poll::Pending;
        }
        if self.chunk.is_empty() {
            let Some(from_client) = &mut self.from_client else { return Poll::Ready(Ok(())) };
            match ready!(from_client.poll_chunk(cx)) {
                Some(Ok(chunk)) => self.chunk = chunk,
                None => return Poll::Ready(Ok(())),
                Some(Err(_)) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let bytes = self.chunk.len().min(buf.remaining());
        buf.put_slice(&self.chunk.split_to(bytes));
        Poll::Ready(Ok(()))
    }
}

impl Write for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.is_open {
            // All of a head is taken whenever it is offered, so that what is offered ends with its end.
            self.is_open = bytes.ends_with(b"\r\n\r\n");
            return Poll::Ready(Ok(bytes.len()));
        }
        let Some(sender) = &mut self.to_client else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        if ready!(sender.poll_credit(cx)).is_err() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let piece = &bytes[..bytes.len().min(PIECE_BYTES_MAX)];
        sender.push(Bytes::copy_from_slice(piece));
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(sender) = self.to_client.take() {
            sender.finish();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    /// A socket that is dropped has ended its direction. One whose task panics is broken.
    fn drop(&mut self) {
        // First: whoever sees the end sees this, too.
        self.from_client = None;
        if let Some(sender) = self.to_client.take().filter(|_| self.is_open && !std::thread::panicking()) {
            sender.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::runtime::body::body_channel;

    fn tunnel() -> (BodySender, BodyReceiver, TunnelEnd) {
        let ((up, from_client), (to_client, down)) = (body_channel(64), body_channel(64));
        (up, down, TunnelEnd { from_client, to_client })
    }

    /// hyper's side as tokio's, small steps of it.
    struct Io(upgrade::Upgraded);

    impl tokio::io::AsyncRead for Io {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let mut room = [0; 5];
            let mut read = hyper::rt::ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.0).poll_read(cx, read.unfilled()))?;
            buf.put_slice(read.filled());
            Poll::Ready(Ok(()))
        }
    }

    impl tokio::io::AsyncWrite for Io {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_agreed_to_carries_bytes_both_ways_and_nothing_else() {
        let (mut up, mut down, end) = tunnel();
        up.send(Bytes::from_static(b"came before the answer")).await.unwrap();
        let (unopened, on_upgrade) = Unopened::new(end).await.unwrap();
        unopened.open().await;
        let mut socket = Io(on_upgrade.await.unwrap());
        let mut text = [0; 22];
        socket.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"came before the answer");
        socket.write_all(b"hello").await.unwrap();
        assert_eq!(down.chunk().await, Some(Ok(Bytes::from_static(b"hello"))));
        up.finish();
        assert_eq!(socket.read(&mut text).await.unwrap(), 0);
        drop(socket);
        assert_eq!(down.chunk().await, None, "the end of its direction");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_not_agreed_to_is_never_open() {
        let (_up, mut down, end) = tunnel();
        let (unopened, on_upgrade) = Unopened::new(end).await.unwrap();
        drop(unopened);
        assert!(on_upgrade.await.is_err());
        assert!(matches!(down.chunk().await, Some(Err(_))), "nothing that could be taken for an end");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_client_that_is_gone_is_an_error_on_both_sides() {
        let (up, down, end) = tunnel();
        let (unopened, on_upgrade) = Unopened::new(end).await.unwrap();
        unopened.open().await;
        let mut socket = Io(on_upgrade.await.unwrap());
        drop((up, down));
        assert_eq!(socket.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(socket.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
