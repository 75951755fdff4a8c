//! The admin listener: metrics, status, traces, statements and probes over HTTP, on the control thread.
//!
//! It only reads. Everything is bounded: connections, their silence, the size of every answer (by the config and by
//! constants here). There is no authentication, so it belongs on a loopback or management address. Deliberately
//! absent: CORS, changes of state, TLS.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::extract::{Query, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Shared;
use super::ctl::digests::{DigestsView, Sort};
use super::exposition;
use super::prometheus::{self, Scope};
use super::shared::Phase;
use super::status::{self, History};
use super::trace_ring::TraceRing;

/// Admin connections open at the same time; further ones wait in the listening socket's queue.
const CONNECTIONS_MAX: usize = 64;
/// Longest silence on an admin connection, also between two requests. Above the usual scrape intervals.
const SILENCE_MAX: Duration = Duration::from_secs(75);
/// Time between two samples of the rates.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Traces in one answer.
const TRACES_MAX: usize = 500;
/// Statements in one answer, unless it is asked for more.
const DIGESTS_DEFAULT: usize = 100;
/// The same, however many are asked for.
const DIGESTS_MAX: usize = 5000;
/// How long answers under way may take once shutdown has begun.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// What the handlers share. Only the control thread locks these, and never across an await point.
struct Admin {
    /// The process as the present config has it.
    live: watch::Receiver<Arc<Shared>>,
    history: Mutex<History>,
    traces: Option<Mutex<TraceRing>>,
}

/// Serves the admin pages on `listener`, and samples rates every second, until `shutdown` becomes true or its sender
/// is gone; then answers under way get a second to finish.
///
/// Must run on tokio with timers and sockets. Never fails: a connection that breaks concerns itself only.
pub async fn serve(listener: TcpListener, live: watch::Receiver<Arc<Shared>>, mut shutdown: watch::Receiver<bool>) {
    let traces = (!live.borrow().traces.is_empty()).then(|| Mutex::new(TraceRing::default()));
    let admin = Arc::new(Admin { live, history: Mutex::default(), traces });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let listener = Bounded { listener, places, silence_max: SILENCE_MAX };
    let mut told = shutdown.clone();
    let told = async move { drop(told.wait_for(|stop| *stop).await) };
    let server = axum::serve(listener, router(admin.clone())).with_graceful_shutdown(told);
    let late = async {
        drop(shutdown.wait_for(|stop| *stop).await);
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        ended = server => drop(ended), // the type has an error, but axum never returns one
        () = sample_forever(&admin) => {}
        () = late => {}
    }
}

async fn sample_forever(admin: &Admin) {
    loop {
        admin.sample(Instant::now());
        tokio::time::sleep(SAMPLE_EVERY).await; // rates use the time that really passed, so drift does no harm
    }
}

impl Admin {
    fn shared(&self) -> Arc<Shared> {
        self.live.borrow().clone()
    }

    fn sample(&self, now: Instant) {
        let shared = self.shared();
        locked(&self.history).sample(&shared, now);
        if let Some(traces) = &self.traces {
            locked(traces).collect(&shared);
        }
    }
}

/// A panic of a handler leaves numbers for display behind, nothing that could be half done.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/status", get(status_page))
        .route("/trace", get(trace))
        .route("/digests", get(digests))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(admin)
}

/// An answer that no cache keeps.
fn fresh(status: StatusCode, content_type: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body.into()).into_response()
}

fn text(status: StatusCode, body: impl Into<axum::body::Body>) -> Response {
    fresh(status, "text/plain; charset=utf-8", body)
}

async fn index() -> Response {
    fresh(StatusCode::OK, "text/html; charset=utf-8", INDEX)
}

const INDEX: &str = concat!(
    "<!doctype html><meta charset=\"utf-8\"><title>0ne-Server admin</title>\n",
    "<h1>0ne-Server ",
    env!("CARGO_PKG_VERSION"),
    "</h1>\n<ul>\n",
    "<li><a href=\"/metrics\">/metrics</a> Prometheus text; <code>?scope=own</code>, <code>nginx</code>, ",
    "<code>haproxy</code>, <code>proxysql</code> (comma-separated) for a part\n",
    "<li><a href=\"/status\">/status</a> everything at a glance, JSON\n",
    "<li><a href=\"/trace\">/trace</a> the last requests, JSON; <code>?after=ID</code> for the ones since\n",
    "<li><a href=\"/digests\">/digests</a> what was asked of MySQL servers, JSON; <code>?splitter=NAME&amp;sort=time</code>, ",
    "<code>count</code> or <code>errors</code>, <code>&amp;limit=N</code>\n",
    "<li><a href=\"/livez\">/livez</a> 200 while the control thread runs\n",
    "<li><a href=\"/readyz\">/readyz</a> 200 while serving, 503 while starting or draining\n",
    "</ul>\n",
);

/// `?scope=own,nginx,haproxy,proxysql`; all without it. HAProxy's exporter has the same idea under the same name.
async fn metrics(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    match scopes(query.as_deref().unwrap_or_default()) {
        Ok(scopes) => {
            let page = prometheus::render(&admin.shared(), &scopes, SystemTime::now());
            fresh(StatusCode::OK, exposition::CONTENT_TYPE, page)
        }
        Err(hint) => text(StatusCode::BAD_REQUEST, hint),
    }
}

/// Reads the query of a scrape. Keys we do not know are passed over; a scope we do not know is an error.
fn scopes(query: &str) -> Result<Vec<Scope>, &'static str> {
    let values = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let mut scopes = Vec::new();
    for name in values.flat_map(|value| value.split(',')) {
        let known = Scope::ALL.into_iter().find(|scope| scope.name() == name);
        let scope = known.ok_or("unknown scope: write own, nginx, haproxy, proxysql, or several with commas\n")?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Ok(if scopes.is_empty() { Scope::ALL.to_vec() } else { scopes })
}

async fn status_page(State(admin): State<Arc<Admin>>) -> Response {
    let document = status::status(&admin.shared(), &mut locked(&admin.history), SystemTime::now());
    ([(header::CACHE_CONTROL, "no-store")], Json(document)).into_response()
}

#[derive(serde::Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

/// `{"last": newest id, "events": […]}`: entries with an id above `after`, oldest first, a bounded number.
async fn trace(State(admin): State<Arc<Admin>>, Query(After { after }): Query<After>) -> Response {
    let Some(traces) = &admin.traces else {
        return text(
            StatusCode::NOT_FOUND,
            "tracing is off: set the number of trace events in the config to see requests here\n",
        );
    };
    let mut ring = locked(traces);
    ring.collect(&admin.shared());
    // A reader from before a restart has a larger id than any of ours: it starts over.
    let after = if after > ring.last_id() { 0 } else { after };
    let body = serde_json::json!({ "last": ring.last_id(), "events": ring.after(after, TRACES_MAX) });
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

#[derive(serde::Deserialize)]
struct WhichDigests {
    splitter: Option<String>,
    #[serde(default)]
    sort: Sort,
    limit: Option<usize>,
}

/// The statements of a splitter by normal form, a bounded number; of the first splitter, if none is named.
async fn digests(State(admin): State<Arc<Admin>>, Query(which): Query<WhichDigests>) -> Response {
    let shared = admin.shared();
    let first = || shared.config.splitters.first().map(|splitter| splitter.name.clone());
    let name = which.splitter.or_else(first).unwrap_or_default();
    let limit = which.limit.unwrap_or(DIGESTS_DEFAULT).min(DIGESTS_MAX);
    match DigestsView::new(&shared, &name, which.sort, Some(limit)) {
        Ok(view) => ([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response(),
        Err(reason) => text(StatusCode::NOT_FOUND, reason + "\n"),
    }
}

async fn livez() -> Response {
    text(StatusCode::OK, "alive\n")
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let phase = admin.shared().phase();
    let status = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, format!("{}\n", phase.name()))
}

/// A listener that accepts only while a place is free, and whose connections end when they fall silent.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    silence_max: Duration,
}

impl axum::serve::Listener for Bounded {
    type Io = BoundedStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, std::net::SocketAddr) {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else { std::future::pending().await };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let silence_max = self.silence_max;
                    let silence = Box::pin(tokio::time::sleep(silence_max));
                    return (BoundedStream { stream, silence, silence_max, _place: place }, address);
                }
                Err(error) => {
                    tracing::debug!(%error, "admin accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors: give others time
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails with `TimedOut` after a silence in both directions.
struct BoundedStream {
    stream: TcpStream,
    silence: Pin<Box<tokio::time::Sleep>>,
    silence_max: Duration,
    _place: OwnedSemaphorePermit,
}

impl BoundedStream {
    /// Passes on what the socket said; pending too long becomes an error, anything else starts the silence anew.
    fn limit<T>(&mut self, cx: &mut Context<'_>, poll: Poll<std::io::Result<T>>) -> Poll<std::io::Result<T>> {
        if poll.is_ready() {
            let deadline = tokio::time::Instant::now() + self.silence_max;
            self.silence.as_mut().reset(deadline);
            return poll;
        }
        self.silence.as_mut().poll(cx).map(|()| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.limit(cx, poll)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.limit(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::shared::tests::config;
    use super::*;
    use crate::metrics::{ServedBy, TraceEvent};

    /// Runs `test` against a served admin listener; checks that serving ends when told to.
    fn with_admin(trace_events: usize, test: impl AsyncFnOnce(std::net::SocketAddr, Arc<Shared>)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut config = config();
            config.trace_events = trace_events;
            let shared = Arc::new(Shared::new(Arc::new(config), 2, 1));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = watch::channel(false);
            let (_live, live) = watch::channel(shared.clone());
            let served = tokio::spawn(serve(listener, live, stopped));
            test(address, shared).await;
            stop.send(true).unwrap();
            tokio::time::timeout(Duration::from_secs(5), served).await.expect("serving does not end").unwrap();
        });
    }

    /// Status, head and body of one request.
    async fn ask(address: std::net::SocketAddr, request_line: &str) -> io::Result<(u16, String, String)> {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(format!("{request_line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Ok((head[9..12].parse().unwrap(), head.to_lowercase(), body.to_string()))
    }

    #[test]
    fn readiness_follows_the_phase_and_liveness_does_not() {
        with_admin(0, async |address, shared| {
            for (phase, ready) in
                [(Phase::Starting, 503), (Phase::Ready, 200), (Phase::Draining, 503), (Phase::Stopping, 503)]
            {
                shared.set_phase(phase);
                let (status, _, body) = ask(address, "GET /readyz").await.unwrap();
                assert_eq!((status, body.as_str()), (ready, format!("{}\n", phase.name()).as_str()));
                assert_eq!(ask(address, "GET /livez").await.unwrap().0, 200);
            }
        });
    }

    #[test]
    fn metrics_have_their_content_type_and_scopes() {
        with_admin(0, async |address, _| {
            let (status, head, everything) = ask(address, "GET /metrics").await.unwrap();
            assert_eq!(status, 200);
            assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
            assert!(super::exposition::tests::validate(&everything).is_ok());
            let (_, _, nginx) = ask(address, "GET /metrics?x=1&scope=nginx").await.unwrap();
            assert!(
                nginx.starts_with("# HELP nginx_up") && !nginx.contains("haproxy") && !nginx.contains("one_server")
            );
            assert_eq!(ask(address, "GET /metrics?scope=apache").await.unwrap().0, 400);
        });
    }

    #[test]
    fn only_get_is_allowed_and_unknown_paths_are_not_found() {
        with_admin(0, async |address, _| {
            assert_eq!(ask(address, "POST /status").await.unwrap().0, 405);
            assert_eq!(ask(address, "DELETE /metrics").await.unwrap().0, 405);
            assert_eq!(ask(address, "GET /nothing").await.unwrap().0, 404);
            let (status, _, page) = ask(address, "GET /").await.unwrap();
            assert_eq!(status, 200);
            for path in ["/metrics", "/status", "/trace", "/digests", "/livez", "/readyz"] {
                assert!(page.contains(&format!("href=\"{path}\"")));
            }
        });
    }

    #[test]
    fn status_shows_rates_servers_and_events() {
        with_admin(0, async |address, shared| {
            shared.note(super::super::shared::EventLevel::Warn, "something".into());
            // The first sample is taken at once; what is counted after it shows as a rate with the second.
            ask(address, "GET /livez").await.unwrap();
            shared.workers[0].http.responses[2].add(500);
            shared.workers[0].http.duration.record(Duration::from_millis(3));
            tokio::time::sleep(SAMPLE_EVERY + Duration::from_millis(100)).await;
            let (status, head, body) = ask(address, "GET /status").await.unwrap();
            assert_eq!(status, 200);
            assert!(head.contains("content-type: application/json"));
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            let rate = json["http"]["meter"]["requests_per_second"].as_f64().unwrap();
            assert!((400.0..=510.0).contains(&rate), "{rate}");
            let p50 = json["http"]["meter"]["p50_us"].as_u64().unwrap();
            assert!((3000..=3400).contains(&p50), "{p50}");
            assert_eq!(json["http"]["meter"]["p99_us"], json["http"]["meter"]["p50_us"]);
            assert_eq!(json["upstreams"][0]["servers"][0]["check"]["result"], "INI");
            assert_eq!(json["upstreams"][1]["servers"][0]["check"], serde_json::Value::Null);
            assert_eq!(json["upstreams"][1]["servers"][0]["address"], "[::1]:8080");
            assert_eq!(json["splitters"][0]["servers"][1]["role"], "replica");
            assert_eq!(json["splitters"][0]["servers"][1]["up"], serde_json::Value::Null);
            assert_eq!(json["events"][0]["text"], "something");
            assert_eq!(json["phase"], "starting");
        });
    }

    #[test]
    fn traces_come_in_pages_and_a_reader_from_the_past_starts_over() {
        with_admin(16, async |address, shared| {
            for n in 0..3 {
                shared.traces[1].push(TraceEvent::Request {
                    generation: 0,
                    request_id: n,
                    data_worker: 1,
                    line: "GET /\"x".into(),
                    status: 200,
                    duration: Duration::from_micros(5),
                    served_by: ServedBy::Worker,
                });
            }
            let ids = async |query: &str| {
                let (status, _, body) = ask(address, &format!("GET /trace{query}")).await.unwrap();
                assert_eq!(status, 200);
                let json: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(json["last"], 3);
                json["events"].as_array().unwrap().iter().map(|e| e["id"].as_u64().unwrap()).collect::<Vec<_>>()
            };
            assert_eq!(ids("").await, [1, 2, 3]);
            assert_eq!(ids("?after=2").await, [3]);
            assert_eq!(ids("?after=3").await, [0u64; 0]);
            assert_eq!(ids("?after=900").await, [1, 2, 3]);
            assert_eq!(ask(address, "GET /trace?after=x").await.unwrap().0, 400);
        });
    }

    #[test]
    fn without_tracing_the_page_says_how_to_switch_it_on() {
        with_admin(0, async |address, _| {
            let (status, _, body) = ask(address, "GET /trace").await.unwrap();
            assert_eq!(status, 404);
            assert!(body.contains("config"), "{body}");
        });
    }

    #[test]
    fn connections_beyond_the_limit_wait_and_shutdown_does_not_wait_for_silent_ones() {
        with_admin(0, async |address, _| {
            let mut silent = Vec::new();
            for _ in 0..CONNECTIONS_MAX {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            let waiting = tokio::time::timeout(Duration::from_millis(200), ask(address, "GET /livez")).await;
            assert!(waiting.is_err(), "served beyond the limit");
            silent.pop();
            assert_eq!(ask(address, "GET /livez").await.unwrap().0, 200);
            std::mem::forget(silent); // still open while serving is told to end
        });
    }

    #[test]
    fn a_silent_connection_is_closed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut bounded =
                Bounded { listener, places: Arc::new(Semaphore::new(1)), silence_max: Duration::from_millis(30) };
            let _client = TcpStream::connect(address).await.unwrap();
            let (mut stream, _) = axum::serve::Listener::accept(&mut bounded).await;
            let error = stream.read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }
}
