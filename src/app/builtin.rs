//! Programs that come with the binary.

use axum::Router;
use axum::extract::Extension;
use axum::response::IntoResponse;
use axum::routing::get;

use super::{App, RequestInfo};

/// One line of text for any path, naming the application worker: to see that the way there and back works.
pub(super) fn hello() -> App {
    App::new(|context| {
        let worker = context.worker();
        let page = move |Extension(info): Extension<RequestInfo>| async move {
            format!("hello from application worker {worker}, request {:016x}\n", info.request_id).into_response()
        };
        Router::new().fallback(get(page))
    })
}
