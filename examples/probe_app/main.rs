//! An application that behaves well and badly on demand. The black-box tests run it; it also shows what the server
//! makes of an application that panics, hangs, lies about its length or gives its worker up.
//!
//! ```text
//! cargo run --example probe_app -- site.toml   # a config whose [app.NAME] says program = "probe"
//! ```
//!
//! | path ends in | answer |
//! |---|---|
//! | `echo` | the request body, streamed |
//! | `size` | how many bytes the request body had |
//! | `pid` | the number of the process, once the request body is there |
//! | `early` | an answer before the body is read |
//! | `slow?ms=N` | after N ms without using the CPU |
//! | `spin?ms=N` | after N ms of computing, which holds up the whole worker |
//! | `block?ms=N` | after N ms in which the thread sleeps |
//! | `panic`, `panic-body` | none: panics before the answer, or within its body |
//! | `error`, `error-body` | an error instead of an answer, or within its body |
//! | `fail` | none: gives its worker up |
//! | `detach?ms=N` | at once; a thread of the runtime goes on for N ms |
//! | `large?bytes=N` | N bytes in pieces of 16 KiB |
//! | `trickle?ms=N` | 10 pieces, one every N ms |
//! | `short`, `long` | a body of 5 bytes under a Content-Length of 10, or of 3 |
//! | `short-whole`, `long-whole`, `short-empty` | the same with a body that is all there at once, or not at all |
//! | `trailers` | a body with trailers behind it |
//! | `framing` | fields that would break the framing, if they were passed on |
//! | `status?code=N` | a body of 4 bytes under that status |
//! | `count` | how many requests this service has seen, and on which worker |
//! | `info` | what the application knows of the request |
//! | `accel?to=PATH`, `sendfile?to=PATH` | hands over to that: X-Accel-Redirect, X-Sendfile |
//! | `dial?port=N` | what a server on that port of 127.0.0.1, or on the socket `dialled` beside the config (0), answers to `hello` |
//! | `ledger?id=N&ms=N` | its number, behind the whole body and so many ms; it is written to the file `ledger` beside the config first |
//!
//! Other applications are called `sockets` (see sockets.rs) and `database` (see database.rs).

mod database;
mod sockets;

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use one_server::Server;
use one_server::app::{App, AppContext, Body, BoxError, RequestInfo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of one piece of a large answer.
const PIECE_BYTES: usize = 16 * 1024;

fn main() -> ExitCode {
    // Before all else: the keeper of processes is this program too, started without arguments.
    let server = Server::new();
    let Some(config) = std::env::args_os().nth(1) else {
        eprintln!("usage: probe_app CONFIG");
        return ExitCode::from(2);
    };
    let probe = App::new(|context: &AppContext| {
        let probe = Probe { context: context.clone(), seen: Rc::new(AtomicU64::new(0)) };
        tower::service_fn(move |request| answer(probe.clone(), request))
    });
    let probe = probe.with_connect_info();
    match server.app("probe", probe).app("sockets", sockets::app()).app("database", database::app()).load(config) {
        Ok(server) => server.run(),
        Err(report) => {
            eprint!("{report}");
            ExitCode::FAILURE
        }
    }
}

/// The state of one service: `!Send`, as it may be.
#[derive(Clone)]
struct Probe {
    context: AppContext,
    seen: Rc<AtomicU64>,
}

type Answer = Result<Response<AnyBody>, BoxError>;

async fn answer(probe: Probe, request: Request<Body>) -> Answer {
    let seen = probe.seen.fetch_add(1, Ordering::Relaxed) + 1;
    let path = request.uri().path().to_owned();
    let number = |name: &str| number(request.uri().query().unwrap_or_default(), name);
    match path.rsplit('/').next().unwrap_or_default() {
        "echo" => Ok(Response::new(AnyBody::Request(request.into_body()))),
        "size" => text(format!("{} bytes", size(request.into_body()).await?)),
        "pid" => {
            size(request.into_body()).await?;
            text(std::process::id().to_string())
        }
        "early" => text("early".into()),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number("ms"))).await;
            text("slow".into())
        }
        "spin" => {
            let (begin, wanted) = (Instant::now(), Duration::from_millis(number("ms")));
            while begin.elapsed() < wanted {
                std::hint::spin_loop();
            }
            text("spun".into())
        }
        "block" => {
            std::thread::sleep(Duration::from_millis(number("ms")));
            text("blocked".into())
        }
        "detach" => {
            let time = Duration::from_millis(number("ms"));
            drop(tokio::task::spawn_blocking(move || std::thread::sleep(time)));
            text("detached".into())
        }
        "panic" => panic!("asked to panic"),
        "panic-body" => streamed(Made { left: 3 * PIECE_BYTES, end: MadeEnd::Panic, ..Made::default() }),
        "error" => Err("asked for an error".into()),
        "error-body" => streamed(Made { left: 3 * PIECE_BYTES, end: MadeEnd::Error, ..Made::default() }),
        "fail" => {
            probe.context.fail_worker("asked to fail");
            std::future::pending().await
        }
        "large" => streamed(Made { left: number("bytes") as usize, ..Made::default() }),
        "trickle" => {
            let pause = Some(Duration::from_millis(number("ms")));
            streamed(Made { left: 10 * PIECE_BYTES, pause, ..Made::default() })
        }
        "short" => with_length(10),
        "long" => with_length(3),
        "short-whole" => announced(10, Some("whole".into())),
        "long-whole" => announced(3, Some("whole".into())),
        "short-empty" => announced(10, None),
        "trailers" => streamed(Made { left: 5, end: MadeEnd::Trailers, ..Made::default() }),
        "framing" => framing(),
        "status" => {
            let status = StatusCode::from_u16(number("code") as u16)?;
            Ok(Response::builder().status(status).body(AnyBody::Text(Some("body".into())))?)
        }
        // Whether the worker's switch is in that folder.
        "ready" => {
            let folder = request.uri().query().and_then(|query| query.strip_prefix("of=")).ok_or("of which folder?")?;
            let is_on = PathBuf::from(folder).join(format!("ready-{}", probe.context.worker())).exists();
            let status = if is_on { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            Ok(Response::builder().status(status).body(AnyBody::Text(Some("ready?".into())))?)
        }
        "accel" => handed_over("X-Accel-Redirect", request.uri().query()),
        "sendfile" => handed_over("X-Sendfile", request.uri().query()),
        "dial" => match number("port") {
            0 => talk(tokio::net::UnixStream::connect(beside_config("dialled")?).await?).await,
            port => talk(tokio::net::TcpStream::connect(("127.0.0.1", port as u16)).await?).await,
        },
        "count" => text(format!("{seen} on {}", probe.context.worker())),
        "info" => info(&request),
        "ledger" => {
            let (id, time) = (number("id"), Duration::from_millis(number("ms")));
            note(id)?;
            size(request.into_body()).await?;
            tokio::time::sleep(time).await;
            text(id.to_string())
        }
        _ => Ok(Response::builder().status(StatusCode::NOT_FOUND).body(AnyBody::Text(Some("no such probe".into())))?),
    }
}

/// At once: a request that is stopped has been begun all the same.
fn note(id: u64) -> Result<(), BoxError> {
    let mut ledger = std::fs::OpenOptions::new().create(true).append(true).open(beside_config("ledger")?)?;
    Ok(ledger.write_all(format!("{id}\n").as_bytes())?)
}

fn beside_config(name: &str) -> Result<PathBuf, BoxError> {
    let config = std::env::args_os().nth(1).ok_or("no config")?;
    Ok(PathBuf::from(config).with_file_name(name))
}

/// Says `hello`, and answers with what comes.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Answer {
    stream.write_all(b"hello\n").await?;
    let mut told = String::new();
    stream.read_to_string(&mut told).await?;
    text(told)
}

fn handed_over(field: &str, query: Option<&str>) -> Answer {
    let to = query.and_then(|query| query.strip_prefix("to=")).ok_or("to what?")?;
    let response = Response::builder().header(field, to).header("Content-Type", "text/x-own");
    Ok(response.body(AnyBody::Text(Some("not this".into())))?)
}

fn number(query: &str, name: &str) -> u64 {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(0)
}

fn text(text: String) -> Answer {
    Ok(Response::new(AnyBody::Text(Some(text.into()))))
}

fn streamed(made: Made) -> Answer {
    Ok(Response::new(AnyBody::Made(made)))
}

/// A streamed body of 5 bytes under a Content-Length that is not its own.
fn with_length(length: usize) -> Answer {
    Ok(Response::builder().header("Content-Length", length).body(AnyBody::Made(Made { left: 5, ..Made::default() }))?)
}

/// This body under a Content-Length that is not its own.
fn announced(length: usize, body: Option<Bytes>) -> Answer {
    Ok(Response::builder().header("Content-Length", length).body(AnyBody::Text(body))?)
}

fn framing() -> Answer {
    let response = Response::builder()
        .header("Connection", "close, x-secret")
        .header("Keep-Alive", "timeout=1")
        .header("Transfer-Encoding", "gzip")
        .header("Upgrade", "h2c")
        .header("X-Kept", "yes")
        .header("Set-Cookie", "a=1")
        .header("Set-Cookie", "b=2");
    Ok(response.body(AnyBody::Text(Some("framed".into())))?)
}

async fn size(mut body: Body) -> Result<usize, BoxError> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(bytes)
}

fn info(request: &Request<Body>) -> Answer {
    let info = request.extensions().get::<RequestInfo>().ok_or("no RequestInfo")?;
    let connect_info = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let left = info.deadline.saturating_duration_since(Instant::now());
    let mut lines = vec![
        format!("method {}", request.method()),
        format!("uri {}", request.uri()),
        format!("version {:?}", request.version()),
        format!("client {:?}", info.client),
        format!("connect-info {:?}", connect_info.map(|ConnectInfo(address)| address)),
        format!("peer {:?}", info.connection.peer),
        format!("local {:?}", info.connection.local),
        format!("https {}", info.is_https),
        format!("spoken {:?}", info.version),
        format!("id {:016x}", info.request_id),
        format!("seconds-left {}", left.as_secs_f64().round()),
    ];
    if let Some(tls) = info.connection.tls.as_deref() {
        lines.push(format!("tls {} {} {:?} {:?}", tls.version, tls.cipher, tls.server_name, tls.alpn));
        lines.push(format!("subject {:?}", tls.client.as_deref().map(|client| &*client.subject)));
    }
    let fields = request.headers().iter();
    lines.extend(fields.map(|(name, value)| format!("field {name}: {}", String::from_utf8_lossy(value.as_bytes()))));
    text(lines.join("\n"))
}

/// The bodies this application answers with.
enum AnyBody {
    Text(Option<Bytes>),
    Request(Body),
    Made(Made),
}

/// A body made piece by piece.
#[derive(Default)]
struct Made {
    left: usize,
    /// Time before each piece.
    pause: Option<Duration>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    end: MadeEnd,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum MadeEnd {
    #[default]
    Proper,
    Panic,
    Error,
    Trailers,
}

impl Made {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(match std::mem::take(&mut self.end) {
                MadeEnd::Proper => None,
                MadeEnd::Panic => panic!("asked to panic within the body"),
                MadeEnd::Error => Some(Err("asked for an error within the body".into())),
                MadeEnd::Trailers => {
                    let trailers = [(http::HeaderName::from_static("x-trailer"), http::HeaderValue::from_static("1"))];
                    Some(Ok(Frame::trailers(trailers.into_iter().collect())))
                }
            });
        }
        if let Some(pause) = self.pause {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        let bytes = self.left.min(PIECE_BYTES);
        self.left -= bytes;
        Poll::Ready(Some(Ok(Frame::data(vec![b'z'; bytes].into()))))
    }
}

impl http_body::Body for AnyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            AnyBody::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            AnyBody::Request(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            AnyBody::Made(made) => made.poll(cx),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnyBody::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            AnyBody::Request(body) => body.size_hint(),
            AnyBody::Made(_) => SizeHint::default(),
        }
    }
}
