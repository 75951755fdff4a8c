//! An honest client of HTTP/2: the `h2` crate on a small tokio runtime, in clear or over TLS. What breaks the rules on
//! purpose is in `frames`.

use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::server::Server;
use super::tls::client_config;
use super::{Driver, PATIENCE, with_both_drivers};

/// What HTTP/2 runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// TLS, agreed by ALPN.
    Tls,
    /// TCP, by prior knowledge.
    Clear,
}

impl Over {
    pub(crate) const BOTH: [Over; 2] = [Over::Clear, Over::Tls];

    /// Where a server with the listeners `web` and `secure` speaks it.
    pub(crate) fn address(self, server: &Server) -> SocketAddr {
        server.address(if self == Over::Tls { "secure" } else { "web" })
    }
}

/// Runs `work` on a runtime of its own; panics when it takes longer than a few times [`PATIENCE`].
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let timed = async { tokio::time::timeout(PATIENCE * 6, work).await };
    runtime.block_on(timed).expect("it ends in time")
}

/// A request for `path`; `fields` are further ones.
pub(crate) fn ask(method: &str, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://test{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The 1xx answers before it.
    pub(crate) interim: Vec<(u16, HeaderMap)>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Reply {
    /// The one value of a field; panics when it occurs twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().expect("text"));
        assert!(values.next().is_none(), "{name} occurs twice: {:?}", self.headers);
        value
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection.
pub(crate) struct H2Client {
    pub(crate) sender: SendRequest<Bytes>,
    /// What the connection ends with.
    pub(crate) end: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl H2Client {
    pub(crate) async fn connect(server: &Server, over: Over) -> H2Client {
        H2Client::connect_with(server, over, &Builder::new()).await
    }

    /// With settings of its own.
    pub(crate) async fn connect_with(server: &Server, over: Over, settings: &Builder) -> H2Client {
        let config = (over == Over::Tls).then(|| client_config(&["h2"]));
        H2Client::open(over.address(server), config, settings).await.expect("HTTP/2 begins")
    }

    /// At an address, with TLS as `config` says.
    pub(crate) async fn open(
        address: SocketAddr,
        config: Option<Arc<ClientConfig>>,
        settings: &Builder,
    ) -> Result<H2Client, h2::Error> {
        let socket = tokio::net::TcpStream::connect(address).await.expect("the server takes connections");
        socket.set_nodelay(true).expect("a socket");
        match config {
            None => H2Client::over(socket, settings).await,
            Some(config) => {
                let stream = TlsStream::connect(socket, config).await.expect("a handshake");
                assert_eq!(stream.tls.alpn_protocol(), Some(&b"h2"[..]));
                H2Client::over(stream, settings).await
            }
        }
    }

    async fn over<S>(stream: S, settings: &Builder) -> Result<H2Client, h2::Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = settings.handshake(stream).await?;
        Ok(H2Client { sender, end: tokio::spawn(connection) })
    }

    /// Asks without a body and takes the whole answer.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(ask("GET", path, &[]), b"").await
    }

    /// Asks and takes the whole answer; panics when there is none.
    pub(crate) async fn ask(&self, request: Request<()>, body: &[u8]) -> Reply {
        let what = format!("{} {}", request.method(), request.uri().path());
        self.try_ask(request, body).await.unwrap_or_else(|error| panic!("no answer to {what}: {error:?}"))
    }

    /// The same; an answer that breaks off is an error.
    pub(crate) async fn try_ask(&self, request: Request<()>, body: &[u8]) -> Result<Reply, h2::Error> {
        let mut exchange = self.begin(request, body.is_empty()).await?;
        if body.is_empty() {
            return exchange.reply().await;
        }
        let mut stream = exchange.stream.take().expect("a stream");
        let body = Bytes::copy_from_slice(body);
        // Who answers early need not take the rest.
        let upload = async {
            let _ = send(&mut stream, body, true).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            reply = exchange.reply() => reply,
            () = upload => unreachable!("it never ends"),
        }
    }

    /// Opens a stream; `end`: nothing follows the head.
    pub(crate) async fn begin(&self, request: Request<()>, end: bool) -> Result<H2Exchange, h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, stream) = sender.send_request(request, end)?;
        Ok(H2Exchange { response, stream: Some(stream), interim: Vec::new(), gives_window: true })
    }
}

/// One stream.
pub(crate) struct H2Exchange {
    response: h2::client::ResponseFuture,
    /// Our direction; dropping it before its end resets the stream.
    pub(crate) stream: Option<SendStream<Bytes>>,
    interim: Vec<(u16, HeaderMap)>,
    gives_window: bool,
}

impl H2Exchange {
    /// Waits for the next interim answer.
    pub(crate) async fn interim(&mut self) -> (u16, HeaderMap) {
        let interim = poll_fn(|cx| self.response.poll_informational(cx)).await;
        let interim = interim.expect("an interim answer").expect("a stream");
        (interim.status().as_u16(), interim.headers().clone())
    }

    /// Waits for the head of the final answer.
    pub(crate) async fn head(&mut self) -> Result<(Reply, RecvStream), h2::Error> {
        let (response, interim) = (&mut self.response, &mut self.interim);
        let head = poll_fn(|cx| {
            while let Poll::Ready(Some(Ok(early))) = response.poll_informational(cx) {
                interim.push((early.status().as_u16(), early.headers().clone()));
            }
            Pin::new(&mut *response).poll(cx)
        });
        let (parts, recv) = head.await?.into_parts();
        let interim = std::mem::take(&mut self.interim);
        let reply =
            Reply { status: parts.status.as_u16(), headers: parts.headers, body: Vec::new(), interim, trailers: None };
        Ok((reply, recv))
    }

    /// Waits for the whole answer.
    pub(crate) async fn reply(&mut self) -> Result<Reply, h2::Error> {
        let (mut reply, mut recv) = self.head().await?;
        while let Some(data) = recv.data().await {
            let data = data?;
            if self.gives_window {
                recv.flow_control().release_capacity(data.len())?;
            }
            reply.body.extend_from_slice(&data);
        }
        reply.trailers = recv.trailers().await?;
        Ok(reply)
    }

    /// Sends content; waits for the server's window.
    pub(crate) async fn send(&mut self, data: impl Into<Bytes>, end: bool) -> Result<(), Gone> {
        send(self.stream.as_mut().expect("a stream"), data.into(), end).await
    }
}

/// The server takes no more content.
#[derive(Debug)]
pub(crate) struct Gone;

async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, end: bool) -> Result<(), Gone> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(capacity)) => capacity,
            _ => return Err(Gone),
        };
        let piece = data.split_to(capacity.min(data.len()));
        stream.send_data(piece, end && data.is_empty()).map_err(|_| Gone)?;
        if data.is_empty() && end {
            return Ok(());
        }
    }
    if end { stream.send_data(data, true).map_err(|_| Gone) } else { Ok(()) }
}

/// A moment, on the runtime.
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits until `condition` is true, and lets the runtime work meanwhile.
pub(crate) async fn eventually_async(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        pause(Duration::from_millis(10)).await;
    }
}

/// TLS on a socket of tokio.
pub(crate) struct TlsStream {
    socket: tokio::net::TcpStream,
    pub(crate) tls: ClientConnection,
}

/// The socket as rustls wants it.
struct Blocking<'a, 'b> {
    socket: &'a mut tokio::net::TcpStream,
    cx: &'a mut Context<'b>,
}

fn or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Blocking<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        or_would_block(Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Write for Blocking<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn or_pending<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl TlsStream {
    pub(crate) async fn connect(socket: tokio::net::TcpStream, config: Arc<ClientConfig>) -> io::Result<TlsStream> {
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = TlsStream { socket, tls };
        poll_fn(|cx| {
            while stream.tls.is_handshaking() {
                ready!(stream.poll_out(cx))?;
                if stream.tls.is_handshaking() {
                    ready!(stream.poll_in(cx))?;
                }
            }
            stream.poll_out(cx)
        })
        .await?;
        Ok(stream)
    }

    /// Sends the records that wait.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let mut socket = Blocking { socket: &mut self.socket, cx };
            ready!(or_pending(self.tls.write_tls(&mut socket)))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes records.
    fn poll_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = Blocking { socket: &mut self.socket, cx };
        let count = ready!(or_pending(self.tls.read_tls(&mut socket)))?;
        self.tls.process_new_packets().map_err(io::Error::other)?;
        if count == 0 && self.tls.is_handshaking() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.tls.reader().read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(this.poll_in(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        let count = this.tls.writer().write(bytes)?;
        let _ = this.poll_out(cx)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.tls.send_close_notify();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// Runs `test` with each driver, in clear and over TLS.
pub(crate) fn everywhere(start: impl Fn(Driver) -> Server + Sync, test: impl Fn(&Server, Over) + Sync) {
    with_both_drivers(|driver| {
        let server = start(driver);
        for over in Over::BOTH {
            test(&server, over);
        }
    });
}
