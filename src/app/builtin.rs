//! Programs that come with the binary.

use axum::Router;
use axum::extract::Extension;
use axum::response::IntoResponse;
use axum::routing::get;

use super::{App, Peer};

/// One line of text for any path, naming the application worker: to see that the way there and back works.
pub(super) fn hello() -> App {
    App::new(|context| {
        let worker = context.worker();
        let page = move |peer: Option<Extension<Peer>>| async move {
            let id = peer.map_or(0, |Extension(peer)| peer.request_id);
            format!("hello from application worker {worker}, request {id:016x}\n").into_response()
        };
        Router::new().fallback(get(page))
    })
}
