//! One stream of a connection that carries several requests at once, of HTTP/2 or HTTP/3: both directions of an exchange.

use std::rc::Rc;

use bytes::Bytes;
use http::HeaderMap;

use super::Worker;
use super::body::{BodyFailure, Side};
use super::connection::Broken;
use super::watch::{GaveUp, Watched};
use super::{h2, h3};
use crate::config::Config;
use crate::http::answer::{AnswerHead, Content};
use crate::http::h1::{Method, Version};

/// Clients may ask for WebSockets by extended CONNECT (RFC 8441, RFC 9220): some upstream or application has them.
pub(super) fn offers_connect(config: &Config) -> bool {
    let has_them = |protocols: &[Box<str>]| protocols.iter().any(|name| name.eq_ignore_ascii_case("websocket"));
    config.upstreams.iter().any(|upstream| has_them(&upstream.upgrade))
}

/// How an answer is framed on a stream: what its Content-Length says, and whether content follows the head.
pub(super) fn framing(head: &AnswerHead<'_>, method: Method) -> (Option<u64>, bool) {
    let is_bodiless = method == Method::Head || matches!(head.status, 100..=199 | 204 | 304);
    let (length, has_content) = match head.content {
        Content::Absent(length) => (length, false),
        Content::Length(length) => (Some(length), length > 0),
        Content::Stream => (None, true),
    };
    (length.filter(|_| head.status >= 200 && head.status != 204), has_content && !is_bodiless)
}

/// Our direction of a stream, and its client's presence.
pub(super) enum Stream {
    H2(Rc<h2::Stream>),
    H3(Rc<h3::Stream>),
}

impl Stream {
    /// Protocol it belongs to.
    pub(super) fn version(&self) -> Version {
        match self {
            Stream::H2(_) => Version::Http2,
            Stream::H3(_) => Version::Http3,
        }
    }

    /// The deadline of this exchange, apart from those of the connection.
    pub(super) fn watched(&self) -> &Watched {
        match self {
            Stream::H2(stream) => &stream.watched,
            Stream::H3(stream) => &stream.watched,
        }
    }

    /// Runs `work` until it ends, the client leaves, or the deadline passes.
    pub(super) async fn while_client_stays<T>(&self, work: impl Future<Output = T>) -> Result<T, GaveUp> {
        match self {
            Stream::H2(stream) => stream.while_client_stays(work).await,
            Stream::H3(stream) => stream.while_client_stays(work).await,
        }
    }

    /// Runs `work` until it ends or the client leaves (`None`), whatever the deadline, which may be that of the other direction.
    pub(super) async fn until_gone<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self {
            Stream::H2(stream) => stream.until_gone(work).await,
            Stream::H3(stream) => stream.until_gone(work).await,
        }
    }

    /// Sends an interim head.
    pub(super) fn interim(&self, status: u16, fields: &[u8]) -> Result<(), Broken> {
        match self {
            Stream::H2(stream) => stream.interim(status, fields),
            Stream::H3(stream) => stream.interim(status, fields),
        }
    }

    /// Sends the final head; `Ok(true)`: content follows.
    pub(super) fn start(
        &self,
        head: &AnswerHead<'_>,
        method: Method,
        server: &[u8],
        date: &[u8],
    ) -> Result<bool, Broken> {
        match self {
            Stream::H2(stream) => stream.start(head, method, server, date),
            Stream::H3(stream) => stream.start(head, method, server, date),
        }
    }

    /// Sends all content as the client's windows allow; with `end` the stream is finished behind it.
    pub(super) async fn send(&self, worker: &Worker, data: Bytes, end: bool) -> Result<(), Broken> {
        match self {
            Stream::H2(stream) => stream.send(worker, data, end).await,
            Stream::H3(stream) => stream.send(worker, data, end).await,
        }
    }

    /// Ends both directions: the other side of a tunnel has broken off, or was silent for too long (RFC 8441 section 5).
    pub(super) fn cancel(&self) {
        match self {
            Stream::H2(stream) => stream.cancel(),
            Stream::H3(stream) => stream.cancel(),
        }
    }

    /// Ends the stream with trailers behind its content.
    pub(super) fn end_with(&self, trailers: HeaderMap) -> Result<(), Broken> {
        match self {
            Stream::H2(stream) => stream.end_with(trailers),
            Stream::H3(stream) => stream.end_with(&trailers),
        }
    }

    /// The same for content of which more comes at once: returns a rest that is not worth a frame.
    pub(super) async fn send_most(&self, worker: &Worker, data: Bytes) -> Result<Bytes, Broken> {
        match self {
            Stream::H2(stream) => stream.send_most(worker, data).await,
            Stream::H3(stream) => stream.send(worker, data, false).await.map(|()| Bytes::new()),
        }
    }
}

/// The client's direction of a stream.
pub(super) enum Receiver {
    H2(h2::Receiver),
    H3(h3::Receiver),
}

impl Receiver {
    /// Content beyond `bytes_max` is refused; 0: no limit.
    pub(super) fn set_limit(&mut self, bytes_max: u64) {
        match self {
            Receiver::H2(receiver) => receiver.set_limit(bytes_max),
            Receiver::H3(receiver) => receiver.set_limit(bytes_max),
        }
    }

    /// It has been read to its end.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Receiver::H2(receiver) => receiver.is_done(),
            Receiver::H3(receiver) => receiver.is_done(),
        }
    }

    /// Bytes of content received so far.
    pub(super) fn received_bytes(&self) -> u64 {
        match self {
            Receiver::H2(receiver) => receiver.received_bytes(),
            Receiver::H3(receiver) => receiver.received_bytes(),
        }
    }

    /// The next run of content; `None` at the end.
    pub(super) async fn next(&mut self, worker: &Worker) -> Result<Option<Bytes>, BodyFailure> {
        match self {
            Receiver::H2(receiver) => receiver.next(worker).await,
            Receiver::H3(receiver) => receiver.next(worker).await,
        }
    }

    /// What comes behind a CONNECT that was agreed to, for as long as the client likes; `None` at the end.
    pub(super) async fn next_tunnelled(&mut self) -> Result<Option<Bytes>, Broken> {
        match self {
            Receiver::H2(receiver) => receiver.next_tunnelled().await,
            Receiver::H3(receiver) => receiver.next_tunnelled().await,
        }
    }

    /// What came behind the content, once that has been read to its end.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Receiver::H2(receiver) => receiver.take_trailers(),
            Receiver::H3(receiver) => receiver.take_trailers(),
        }
    }

    /// Reads and drops the content, unless the client waits to be asked for it.
    pub(super) async fn take_in(&mut self, worker: &Worker) -> Result<(), BodyFailure> {
        match self {
            Receiver::H2(receiver) => receiver.take_in(worker).await,
            Receiver::H3(receiver) => receiver.take_in(worker).await,
        }
    }

    /// Tells the client to send, if it waits for that.
    pub(super) fn ask(&mut self) -> Result<(), BodyFailure> {
        match self {
            Receiver::H2(receiver) => receiver.ask(),
            Receiver::H3(receiver) => receiver.ask(),
        }
    }

    /// See [`super::upload::Upload::begin_dialogue`].
    pub(super) fn begin_dialogue(&mut self) {
        match self {
            Receiver::H2(receiver) => receiver.begin_dialogue(),
            Receiver::H3(receiver) => receiver.begin_dialogue(),
        }
    }

    /// See [`super::upload::Upload::begin_beside`].
    pub(super) fn begin_beside(&mut self, worker: &Worker) -> Rc<Side> {
        match self {
            Receiver::H2(receiver) => receiver.begin_beside(worker),
            Receiver::H3(receiver) => receiver.begin_beside(worker),
        }
    }
}
