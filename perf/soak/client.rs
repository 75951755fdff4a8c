//! One connection to the server, HTTP/1.1 or HTTP/2, clear or TLS.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::Rng;
use rand::rngs::StdRng;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::tls_stream::TlsStream;

/// Longest wait for a connection, and for its end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of one piece of an upload.
const PIECE_BYTES: usize = 30_000;

/// How a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transport {
    pub(crate) is_http2: bool,
    is_tls: bool,
}

impl Transport {
    pub(crate) fn random(rng: &mut impl Rng) -> Transport {
        Transport { is_http2: rng.random(), is_tls: rng.random() }
    }

    pub(crate) fn name(self) -> &'static str {
        match (self.is_http2, self.is_tls) {
            (false, false) => "HTTP/1.1",
            (false, true) => "HTTP/1.1 TLS",
            (true, false) => "HTTP/2",
            (true, true) => "HTTP/2 TLS",
        }
    }
}

/// Makes connections.
pub(crate) struct Dialer {
    clear: SocketAddr,
    secure: SocketAddr,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Dialer {
    /// `trusted` is the certificate of the server. Errors: it cannot be used.
    pub(crate) fn new(
        clear: SocketAddr,
        secure: SocketAddr,
        trusted: &CertificateDer<'static>,
    ) -> Result<Dialer, String> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).map_err(|e| format!("certificate: {e}"))?;
        let config = |protocol: &[u8]| {
            let mut config = ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        Ok(Dialer { clear, secure, http1: config(b"http/1.1"), http2: config(b"h2") })
    }

    /// Errors: in words.
    pub(crate) async fn connect(&self, transport: Transport, rng: &mut StdRng) -> Result<Client, String> {
        let windows = if rng.random_bool(0.3) { Windows::Small } else { Windows::Large };
        match tokio::time::timeout(PATIENCE, self.dial(transport, windows)).await {
            Ok(client) => client,
            Err(_) => Err("no connection in time".into()),
        }
    }

    async fn dial(&self, transport: Transport, windows: Windows) -> Result<Client, String> {
        let address = if transport.is_tls { self.secure } else { self.clear };
        let socket = TcpStream::connect(address).await.map_err(|e| format!("connect: {e}"))?;
        socket.set_nodelay(true).map_err(|e| format!("TCP_NODELAY: {e}"))?;
        if !transport.is_tls {
            return Client::new(transport, address, TokioIo::new(socket), windows, false).await;
        }
        let config = if transport.is_http2 { &self.http2 } else { &self.http1 };
        let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
        let stream = TlsStream::connect(socket, config.clone(), name).await.map_err(|e| format!("handshake: {e}"))?;
        if stream.alpn() != config.alpn_protocols.first().map(Vec::as_slice) {
            return Err(format!("ALPN gave {:?}", stream.alpn()));
        }
        let is_resumed = stream.is_resumed();
        Client::new(transport, address, TokioIo::new(stream), windows, is_resumed).await
    }
}

/// HTTP/2 flow control of the client.
#[derive(Clone, Copy)]
enum Windows {
    /// The protocol's own: the server must wait for them all the time.
    Small,
    Large,
}

enum Sender {
    Http1(http1::SendRequest<Upload>),
    Http2(http2::SendRequest<Upload>),
}

/// One connection, or one more stream of it.
pub(crate) struct Client {
    pub(crate) transport: Transport,
    /// Connections of HTTP/1.1: the next request asks for the end.
    pub(crate) says_close: bool,
    /// Jobs that leave in the middle are allowed on it.
    pub(crate) may_break_off: bool,
    /// Nothing more can be asked on it.
    pub(crate) is_over: bool,
    /// The client itself broke it off.
    pub(crate) is_broken_off: bool,
    pub(crate) is_resumed: bool,
    authority: String,
    sender: Sender,
    /// What moves the bytes; with the first stream of a connection.
    driver: Option<JoinHandle<hyper::Result<()>>>,
}

impl Client {
    async fn new<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        transport: Transport,
        address: SocketAddr,
        io: TokioIo<T>,
        windows: Windows,
        is_resumed: bool,
    ) -> Result<Client, String> {
        let (sender, driver) = if transport.is_http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            if let Windows::Small = windows {
                builder.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
            }
            let (sender, connection) = builder.handshake(io).await.map_err(|e| format!("HTTP/2: {}", chain(&e)))?;
            (Sender::Http2(sender), tokio::spawn(connection))
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(|e| format!("HTTP/1.1: {}", chain(&e)))?;
            (Sender::Http1(sender), tokio::spawn(connection))
        };
        Ok(Client {
            transport,
            says_close: false,
            may_break_off: true,
            is_over: false,
            is_broken_off: false,
            is_resumed,
            authority: address.to_string(),
            sender,
            driver: Some(driver),
        })
    }

    /// Another stream on the same connection; HTTP/2 alone has them.
    ///
    /// Panics on HTTP/1.1.
    pub(crate) fn another_stream(&self) -> Client {
        let Sender::Http2(sender) = &self.sender else { panic!("HTTP/1.1 has one request at a time") };
        Client { authority: self.authority.clone(), sender: Sender::Http2(sender.clone()), driver: None, ..*self }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and waits for the head of its answer. Errors: in words.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, String)],
        body: Upload,
    ) -> Result<Response<Incoming>, String> {
        let scheme = if self.transport.is_tls { "https" } else { "http" };
        let uri = match self.transport.is_http2 {
            true => format!("{scheme}://{}{path}", self.authority),
            false => path.to_owned(),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if !self.transport.is_http2 {
            request = request.header(header::HOST, &self.authority);
        }
        if self.says_close {
            request = request.header(header::CONNECTION, "close");
        }
        for (name, value) in fields {
            request = request.header(*name, value);
        }
        let request = request.body(body).map_err(|e| format!("request: {e}"))?;
        let response = match &mut self.sender {
            Sender::Http1(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
            Sender::Http2(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
        };
        let response = response.map_err(|error| {
            self.is_over = true;
            chain(&error)
        })?;
        let says_close = response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
        if self.says_close && !says_close {
            return Err("the answer to `Connection: close` does not say close".into());
        }
        self.is_over |= says_close;
        Ok(response)
    }

    /// The client leaves in the middle of an answer or an upload.
    pub(crate) fn break_off(&mut self) {
        self.is_broken_off = true;
        self.is_over |= !self.transport.is_http2;
    }

    /// Ends the connection and waits until it is. Errors: it did not end well.
    pub(crate) async fn finish(self) -> Result<(), String> {
        let Client { sender, driver, is_broken_off, .. } = self;
        drop(sender);
        let Some(mut driver) = driver else { return Ok(()) };
        match tokio::time::timeout(PATIENCE, &mut driver).await {
            Ok(Ok(Err(error))) if !is_broken_off => Err(format!("end of the connection: {}", chain(&error))),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("connection task: {error}")),
            Err(_) => {
                driver.abort();
                Err("the connection does not end".into())
            }
        }
    }
}

/// An error with what caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A request body, piece by piece.
#[derive(Default)]
pub(crate) struct Upload {
    left: Bytes,
    is_declared: bool,
    /// Breaks off with an error when so many bytes are left.
    cut_at: Option<usize>,
}

impl Upload {
    pub(crate) fn none() -> Upload {
        Upload { is_declared: true, ..Upload::default() }
    }

    /// `is_declared`: with Content-Length, else chunked (in HTTP/2: without).
    pub(crate) fn new(bytes: Bytes, is_declared: bool) -> Upload {
        Upload { left: bytes, is_declared, cut_at: None }
    }

    /// The same, but it breaks off when `left` bytes have not been sent.
    pub(crate) fn cut(self, left: usize) -> Upload {
        Upload { cut_at: Some(left), ..self }
    }
}

/// What a cut upload ends with.
#[derive(Debug)]
pub(crate) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this upload breaks off on purpose")
    }
}

impl std::error::Error for Cut {}

impl Body for Upload {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let kept = self.cut_at.unwrap_or(0);
        let bytes = self.left.len().saturating_sub(kept).min(PIECE_BYTES);
        match (bytes, self.cut_at.take_if(|_| bytes == 0)) {
            (0, Some(_)) => Poll::Ready(Some(Err(Cut))),
            (0, None) => Poll::Ready(None),
            (bytes, _) => Poll::Ready(Some(Ok(Frame::data(self.left.split_to(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_declared && self.left.is_empty() && self.cut_at.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_declared { SizeHint::with_exact(self.left.len() as u64) } else { SizeHint::default() }
    }
}
