//! A server of its own, in Rust, for one-server to start and watch: axum on tokio over the socket that it is given.
//!
//! ```toml
//! [app.hello]
//! type = "process"
//! command = ["target/debug/examples/passed_socket"]
//! listen = "fd"
//! ```
//!
//! The socket is descriptor 3, as from systemd (sd_listen_fds(3)): no client waits in vain while the program starts. At SIGTERM
//! it finishes what it has.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use one_server::runtime::sys::handover::{Found, take_activated};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> io::Result<()> {
    // Before anything else is opened.
    let socket = passed_socket()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(socket))
}

/// Errors: this program was not started with a Unix socket that listens.
fn passed_socket() -> io::Result<std::os::unix::net::UnixListener> {
    let count = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    match take_activated(count).pop() {
        Some(Found::Stream(_, socket)) => Ok(socket.into()),
        _ => Err(io::Error::other("no socket was passed: start this by one-server, with listen = \"fd\"")),
    }
}

async fn serve(socket: std::os::unix::net::UnixListener) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let mut ended = signal(SignalKind::terminate())?;
    let app = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/pid", get(|| async { std::process::id().to_string() }))
        .route("/slow/{ms}", get(slow).post(slow));
    axum::serve(UnixListener::from_std(socket)?, app)
        .with_graceful_shutdown(async move {
            ended.recv().await;
        })
        .await
}

async fn slow(Path(ms): Path<u64>) -> String {
    println!("begun");
    tokio::time::sleep(Duration::from_millis(ms)).await;
    std::process::id().to_string()
}
