//! The server behind the proxy: echoes uploads and answers with a stretch of known bytes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::content::Content;

/// What a client says its upload has in all, so that one that was cut is not taken for whole.
pub(crate) const LENGTH_FIELD: &str = "x-soak-length";
/// Bytes of one piece of an answer.
const PIECE_BYTES: usize = 24_000;

/// A running upstream; it ends with the runtime.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    stream: Bytes,
    text_stream: Bytes,
    /// Uploads that came to a proper end but are not as long as their client meant them.
    cut_but_complete: AtomicU64,
}

impl Upstream {
    /// Errors: no port.
    pub(crate) async fn start(content: &Content) -> Result<Upstream, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|e| format!("upstream: {e}"))?;
        let port = listener.local_addr().map_err(|e| format!("upstream: {e}"))?.port();
        let (stream, text_stream) = (content.stream.clone(), content.text_stream.clone());
        let shared = Arc::new(Shared { stream, text_stream, cut_but_complete: AtomicU64::new(0) });
        tokio::spawn(serve(listener, shared.clone()));
        Ok(Upstream { port, shared })
    }

    /// What the proxy did wrong, seen from here.
    pub(crate) fn problems(&self) -> Vec<String> {
        match self.shared.cut_but_complete.load(Ordering::Relaxed) {
            0 => Vec::new(),
            count => vec![format!("{count} uploads that broke off reached the upstream as complete")],
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // An error of accept means that this program is out of descriptors: the next request will tell.
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true); // costs time alone
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(shared.clone(), request));
            // The proxy closes when it likes, and breaks off with the clients that do.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Pieces>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = match path.strip_prefix("/up/").and_then(|rest| rest.split_once('/')) {
        Some(("echo", "chunked")) => echo(&shared, request).await.map(|body| (body, false)),
        Some(("echo", _)) => echo(&shared, request).await.map(|body| (body, true)),
        Some(("bytes", count)) => stretch(&shared.stream, count),
        Some(("text", count)) => stretch(&shared.text_stream, count),
        _ => None,
    };
    let kind = if path.starts_with("/up/text/") { "text/plain" } else { "application/octet-stream" };
    Ok(match body {
        Some((bytes, is_declared)) => {
            Response::builder().header("content-type", kind).body(Pieces { left: bytes, is_declared })
        }
        None => Response::builder().status(StatusCode::BAD_REQUEST).body(Pieces::default()),
    }
    .unwrap_or_default())
}

/// So many bytes of `source`, with a declared length when the number is even.
fn stretch(source: &Bytes, count: &str) -> Option<(Bytes, bool)> {
    let count: usize = count.parse().ok()?;
    (count <= source.len()).then(|| (source.slice(..count), count.is_multiple_of(2)))
}

/// The whole upload. `None`: it broke off.
async fn echo(shared: &Shared, request: Request<Incoming>) -> Option<Bytes> {
    let meant: Option<usize> = request.headers().get(LENGTH_FIELD).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = request.into_body().collect().await.ok()?.to_bytes();
    if meant != Some(body.len()) {
        shared.cut_but_complete.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    Some(body)
}

/// An answer, piece by piece; chunked when its length is not declared.
#[derive(Default)]
struct Pieces {
    left: Bytes,
    is_declared: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = self.left.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_declared && self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_declared { SizeHint::with_exact(self.left.len() as u64) } else { SizeHint::default() }
    }
}
