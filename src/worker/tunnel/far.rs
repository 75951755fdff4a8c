//! The server's end of a tunnel that is no connection of its own: a stream of HTTP/2, or an application inside the process.
//!
//! Dropped before it has ended, a stream is reset (CANCEL), and the application reads an error.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::runtime::body::{BodyReceiver, BodySender, BodyWatch};
use crate::worker::connection::Broken;
use crate::worker::link::send_piece;

/// Both directions. `first` has come with the answer.
pub(in crate::worker) struct ServerEnd {
    pub(super) send: ToServer,
    pub(super) recv: FromServer,
    pub(super) first: Bytes,
}

impl ServerEnd {
    /// A stream of a connection of HTTP/2.
    pub(in crate::worker) fn of_stream(send: SendStream<Bytes>, recv: RecvStream, first: Bytes) -> ServerEnd {
        ServerEnd { send: ToServer::Stream(send), recv: FromServer::Stream(recv), first }
    }

    /// An application, through body channels.
    pub(in crate::worker) fn of_app(send: BodySender, recv: BodyReceiver) -> ServerEnd {
        let recv = FromServer::App { recv, takes: send.watch() };
        ServerEnd { send: ToServer::App(Some(send)), recv, first: Bytes::new() }
    }
}

/// The way to the server.
pub(super) enum ToServer {
    Stream(SendStream<Bytes>),
    /// `None` behind the end.
    App(Option<BodySender>),
}

impl ToServer {
    /// The application has closed its socket: what still comes is thrown away, as a kernel would, so that the client reads what
    /// was said to it before. A stream tells by its reset.
    pub(super) fn is_deaf(&self) -> bool {
        matches!(self, ToServer::App(Some(sender)) if sender.is_abandoned())
    }

    /// Sends data as the server takes it; `false`: it takes nothing more.
    pub(super) async fn send(&mut self, data: Bytes) -> bool {
        match self {
            ToServer::Stream(stream) => send_piece(stream, data).await,
            // One that closes its socket meanwhile is deaf, and not broken.
            ToServer::App(Some(sender)) => {
                let _ = sender.send(data).await;
                true
            }
            ToServer::App(None) => false,
        }
    }

    /// Ends this direction.
    pub(super) fn end(&mut self) -> Result<(), Broken> {
        match self {
            ToServer::Stream(stream) => stream.send_data(Bytes::new(), true).map_err(|_| Broken),
            ToServer::App(sender) => {
                if let Some(sender) = sender.take() {
                    sender.finish();
                }
                Ok(())
            }
        }
    }
}

/// The way back.
pub(super) enum FromServer {
    Stream(RecvStream),
    App {
        recv: BodyReceiver,
        /// Whether it takes what the client says.
        takes: BodyWatch,
    },
}

impl FromServer {
    /// The next data; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        match self {
            FromServer::Stream(stream) => match poll_fn(|cx| stream.poll_data(cx)).await {
                Some(Ok(data)) => Ok(Some(data)),
                // RFC 9113 section 8.5: nothing but content.
                None if matches!(stream.trailers().await, Ok(None)) => Ok(None),
                Some(Err(_)) | None => Err(Broken),
            },
            FromServer::App { recv, .. } => recv.chunk().await.transpose().map_err(|_| Broken),
        }
    }

    /// Behind its end: nor does it take anything any more.
    pub(super) fn has_left(&self) -> bool {
        matches!(self, FromServer::App { takes, .. } if takes.is_abandoned())
    }

    /// So many bytes have gone on: the server may send as many again. An application may by their leaving the channel.
    pub(super) fn release(&mut self, bytes: usize) {
        if let FromServer::Stream(stream) = self {
            let _ = stream.flow_control().release_capacity(bytes);
        }
    }
}
