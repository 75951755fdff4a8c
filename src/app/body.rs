//! The request body an application reads.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::runtime::body::BodyReceiver;

/// Body of a request: whole, or streamed from the client with credit, so that a large upload is never in memory at
/// once. Implements [`http_body::Body`].
pub struct Body(Kind);

enum Kind {
    Full(Option<Bytes>),
    Stream { receiver: BodyReceiver, remaining: Option<u64> },
}

/// The client left, or was too slow, before the body was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyError;

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the client did not send the whole body")
    }
}

impl std::error::Error for BodyError {}

impl Body {
    /// A body without bytes.
    pub fn empty() -> Body {
        Body(Kind::Full(None))
    }

    /// A body that is in memory already.
    pub fn full(bytes: Bytes) -> Body {
        Body(Kind::Full((!bytes.is_empty()).then_some(bytes)))
    }

    pub(super) fn stream(receiver: BodyReceiver, length: Option<u64>) -> Body {
        Body(Kind::Stream { receiver, remaining: length })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream { receiver, remaining } => receiver.poll_chunk(cx).map(|chunk| {
                let chunk = chunk?.map_err(|_| BodyError);
                if let (Some(left), Ok(bytes)) = (remaining, &chunk) {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                Some(chunk.map(Frame::data))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Stream { receiver, .. } => receiver.is_finished(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Stream { remaining: Some(left), .. } => SizeHint::with_exact(*left),
            Kind::Stream { remaining: None, .. } => SizeHint::default(),
        }
    }
}
