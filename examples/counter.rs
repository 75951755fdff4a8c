//! A small application on one-server: an axum router with state that is not `Send`, a streamed body and an upload.
//!
//! ```text
//! cargo run --example counter
//! curl http://127.0.0.1:8080/                     # counts per application worker
//! curl http://127.0.0.1:8080/stream               # a body in pieces
//! curl -T Cargo.lock http://127.0.0.1:8080/size   # an upload, read as it comes
//! ```

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::IntoResponse;
use axum::routing::{get, put};
use one_server::Server;
use one_server::app::{App, AppContext};

const CONFIG: &str = r#"
[listener.web]
address = "127.0.0.1:8080"

[app.counter]
program = "counter"

[site.counter]
default = true
[[site.counter.route]]
path = "/"
app = "counter"
"#;

/// Called once on every application worker.
fn counter(context: &AppContext) -> Router {
    let worker = context.worker();
    let seen = Arc::new(AtomicU64::new(0));
    let count = move || async move {
        let seen = seen.fetch_add(1, Ordering::Relaxed) + 1;
        format!("application worker {worker} has seen {seen} requests\n")
    };
    Router::new().route("/", get(count)).route("/stream", get(stream)).route("/size", put(size))
}

/// Three lines, one every 200 ms. Anything of the tokio ecosystem works here.
async fn stream() -> impl IntoResponse {
    let (sender, receiver) = tokio::sync::mpsc::channel::<String>(1);
    tokio::spawn(async move {
        for line in 1..=3 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if sender.send(format!("line {line}\n")).await.is_err() {
                return; // the client left
            }
        }
    });
    Body::new(Lines(receiver))
}

struct Lines(tokio::sync::mpsc::Receiver<String>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(http_body::Frame::data(line.into()))))
    }
}

/// Counts the bytes of the request body without keeping them.
async fn size(body: Body) -> Result<String, String> {
    use http_body_util::BodyExt;
    let (mut body, mut bytes) = (body, 0);
    while let Some(frame) = body.frame().await {
        bytes += frame.map_err(|error| error.to_string())?.data_ref().map_or(0, Bytes::len);
    }
    Ok(format!("{bytes} bytes\n"))
}

fn main() -> ExitCode {
    match Server::new().app("counter", App::new(counter)).parse("counter.toml", CONFIG) {
        Ok(server) => server.run(),
        Err(report) => {
            eprint!("{report}");
            ExitCode::FAILURE
        }
    }
}
