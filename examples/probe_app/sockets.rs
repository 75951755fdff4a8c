//! WebSockets as an axum application has them, well and badly behaved.
//!
//! | path | does |
//! |---|---|
//! | `/echo` | sends messages back; speaks the protocol `chat` to those who ask for it |
//! | `/bye` | says `bye`, closes with the code 1000, and goes at once |
//! | `/gone` | goes without a word |
//! | `/panic` | panics at the first message |
//! | `/deaf` | reads nothing |
//! | `/much` | sends without end |
//! | `/heeds` | says nothing, and closes with the code 1001 when the process drains |
//! | `/refused` | takes nobody: 403 |
//! | `/fail` | gives the worker up at the first message |
//! | `/raw` | sends back what comes, in no protocol of ours, behind `hello ` and before `bye` |
//! | `/open` | how many of these run now |

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use one_server::app::{App, AppContext, Draining};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Counts a socket for as long as its task lives.
struct Counted;

impl Counted {
    fn new() -> Counted {
        OPEN.fetch_add(1, Ordering::SeqCst);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Known {
    draining: Draining,
    fail: Arc<tokio::sync::Notify>,
}

pub(crate) fn app() -> App {
    App::new(|context: &AppContext| {
        let known = Known { draining: context.draining(), fail: Arc::default() };
        let (context, fail) = (context.clone(), known.fail.clone());
        tokio::task::spawn_local(async move {
            fail.notified().await;
            context.fail_worker("asked to fail");
        });
        Router::new()
            .route("/echo", get(|upgrade: WebSocketUpgrade| async { open(upgrade.protocols(["chat"]), echo) }))
            .route("/bye", get(|upgrade: WebSocketUpgrade| async { open(upgrade, bye) }))
            .route("/gone", get(|upgrade: WebSocketUpgrade| async { open(upgrade, |_| async {}) }))
            .route("/panic", get(|upgrade: WebSocketUpgrade| async { open(upgrade, panics) }))
            .route("/deaf", get(|upgrade: WebSocketUpgrade| async { open(upgrade, deaf) }))
            .route("/much", get(|upgrade: WebSocketUpgrade| async { open(upgrade, much) }))
            .route("/heeds", get(heeds))
            .route("/fail", get(fails))
            .route("/refused", get(|_: WebSocketUpgrade| async { (StatusCode::FORBIDDEN, "nobody") }))
            .route("/raw", get(raw))
            .route("/open", get(|| async { OPEN.load(Ordering::SeqCst).to_string() }))
            .with_state(known)
    })
}

/// Agrees, and runs `talk` for as long as the socket is counted.
fn open<F: Future<Output = ()> + Send + 'static>(
    upgrade: WebSocketUpgrade,
    talk: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Response {
    upgrade.on_upgrade(|socket| async {
        let _counted = Counted::new();
        talk(socket).await;
    })
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn bye(mut socket: WebSocket) {
    let _ = socket.send(Message::text("bye")).await;
    let _ = socket.send(Message::Close(Some(CloseFrame { code: 1000, reason: "enough".into() }))).await;
}

async fn panics(mut socket: WebSocket) {
    let _ = socket.recv().await;
    panic!("asked to panic in a WebSocket");
}

async fn deaf(_socket: WebSocket) {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

async fn much(mut socket: WebSocket) {
    while socket.send(Message::binary(vec![b'm'; 64 * 1024])).await.is_ok() {}
}

async fn heeds(State(known): State<Known>, upgrade: WebSocketUpgrade) -> Response {
    open(upgrade, |mut socket| async move {
        known.draining.begun().await;
        let _ = socket.send(Message::Close(Some(CloseFrame { code: 1001, reason: "draining".into() }))).await;
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

async fn fails(State(known): State<Known>, upgrade: WebSocketUpgrade) -> Response {
    open(upgrade, |mut socket| async move {
        let _ = socket.recv().await;
        known.fail.notify_one();
        std::future::pending().await
    })
}

/// What libraries do that do not go through axum.
async fn raw(mut request: Request<axum::body::Body>) -> Response {
    let Some(protocol) = request.headers().get("upgrade").cloned() else {
        return StatusCode::UPGRADE_REQUIRED.into_response();
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _counted = Counted::new();
        let Ok(upgraded) = upgraded.await else { return };
        let mut socket = TokioIo::new(upgraded);
        let _ = socket.write_all(b"hello ").await;
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(count) = socket.read(&mut chunk).await
            && count > 0
        {
            if socket.write_all(&chunk[..count]).await.is_err() {
                return;
            }
        }
        let _ = socket.write_all(b"bye").await;
    });
    let mut headers = HeaderMap::new();
    headers.insert("upgrade", protocol);
    headers.insert("x-raw", "yes".parse().expect("a value"));
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
