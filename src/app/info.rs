//! What an application may know of a request beside its head and body.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

pub use crate::tls::{ClientCertificate, Facts as TlsFacts, Verify};

/// What the server knows of a request; found among the extensions of each, with axum as `Extension<RequestInfo>`.
///
/// ```
/// use axum::{Extension, Router, routing::get};
/// use one_server::app::RequestInfo;
///
/// async fn greet(Extension(info): Extension<RequestInfo>) -> String {
///     let tls = info.connection.tls.as_ref().map_or("clear text", |tls| tls.version);
///     format!("you are {:?}, over {tls}\n", info.client)
/// }
/// let router: Router = Router::new().route("/", get(greet));
/// ```
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// The client as the address rules of the config see it: behind proxies that are trusted, the address that they tell,
    /// with port 0, since they do not tell that. `None`: it came over a Unix socket.
    pub client: Option<SocketAddr>,
    /// The client speaks TLS, with us or with a proxy that is trusted.
    pub is_https: bool,
    /// What the client speaks. The request itself may say another one: a WebSocket always comes as it does over HTTP/1.1.
    pub version: http::Version,
    /// Identifier of the request, also in the `X-Request-Id` field and in the log, there as 16 hex digits.
    pub request_id: u64,
    /// When the head of the answer must be there (`response_timeout` of the application); a body that the client is still
    /// sending then puts it off, each piece by that time. Behind that the client gets 504, and the request is stopped.
    pub deadline: Instant,
    /// The connection that it came over.
    pub connection: Arc<ConnectionInfo>,
}

/// What the server knows of a connection. All its requests have the same one.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The other end, as a proxy in front may have told with the PROXY protocol. `None`: a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Where the client connected to, told in the same way. Over HTTP/3 the address of the listener. `None`: a Unix socket.
    pub local: Option<SocketAddr>,
    /// The TLS session; `None`: the connection is one of clear text. Nothing comes as early data (0-RTT), which this server
    /// does not take.
    pub tls: Option<Arc<TlsFacts>>,
}
