//! A check over HTTP/2: the request and the answer of the conversation, which are those of HTTP/1.1, go over a stream of the
//! `h2` crate. What makes an answer a healthy one is decided in one place that way.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use http::response::Parts;

use super::probe::Socket;
use crate::http::h2::request;
use crate::proxy::check::{Conversation, Step, Verdict};

/// As for answers of HTTP/1.1, with what HTTP/2 counts beside the texts.
const HEADER_LIST_BYTES_MAX: u32 = 32 << 10;

/// Holds the conversation, which is one of HTTP. `is_https`: over TLS.
///
/// Errors: the connection broke, or the server does not speak HTTP/2.
pub(super) async fn converse(
    socket: Box<dyn Socket>,
    conversation: &mut Conversation<'_>,
    is_https: bool,
) -> io::Result<Verdict> {
    let asked = match conversation.begin() {
        Step::Send(bytes) => request(&bytes, is_https, false).map_err(|_| io::Error::other("no request of HTTP/2"))?,
        Step::Done(verdict) => return Ok(verdict),
        Step::Read => return Err(io::Error::other("nothing to ask")),
    };
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(HEADER_LIST_BYTES_MAX);
    let (mut sender, connection) = builder.handshake::<_, Bytes>(socket).await.map_err(failed)?;
    let exchange = async {
        let (response, _) = sender.send_request(asked, true).map_err(failed)?;
        let (parts, mut content) = response.await.map_err(failed)?.into_parts();
        let mut input = head(&parts);
        loop {
            if let Step::Done(verdict) = conversation.on_bytes(&input) {
                return Ok(verdict);
            }
            match poll_fn(|cx| content.poll_data(cx)).await {
                Some(data) => {
                    let data = data.map_err(failed)?;
                    input.extend_from_slice(&data);
                    content.flow_control().release_capacity(data.len()).map_err(failed)?;
                }
                None => return Ok(conversation.on_end(&input)),
            }
        }
    };
    tokio::select! {
        biased;
        verdict = exchange => verdict,
        // It ends only by an error while a stream is open.
        ended = connection => Err(ended.err().map_or_else(|| io::ErrorKind::UnexpectedEof.into(), failed)),
    }
}

/// The head as one of HTTP/1.1; content without a length ends with the stream, as it would with a connection.
fn head(parts: &Parts) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {} \r\n", parts.status.as_u16()).into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn failed(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
    }
    io::Error::other(error.to_string())
}
