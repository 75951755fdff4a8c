//! In-process applications: any tower `Service`, run on application workers (tokio-uring), or on threads of its own, reached by
//! the data workers through bounded queues.
//!
//! An application never touches a client socket. Requests come in as [`http::Request<Body>`], answers go out as
//! [`http::Response`]; bodies stream both ways with credit. A service and its state stay on one thread and need not be
//! `Send`.
//!
//! # A first application
//!
//! ```no_run
//! use axum::{Extension, Router, extract::Path, routing::get};
//! use one_server::app::{App, RequestInfo};
//!
//! async fn greet(Path(name): Path<String>, Extension(request): Extension<RequestInfo>) -> String {
//!     format!("hello {name}, you are {:?} over {:?}\n", request.client, request.version)
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     // Called once on every application worker.
//!     let app = App::new(|_worker| Router::new().route("/hello/{name}", get(greet)));
//!     let config = "[listener.web]\naddress = \"127.0.0.1:8080\"\n[app.greeter]\n\
//!                   [site.main]\ndefault = true\nroute = [{ path = \"/\", app = \"greeter\" }]";
//!     match one_server::Server::new().app("greeter", app).parse("greeter.toml", config) {
//!         Ok(server) => server.run(),
//!         Err(report) => {
//!             eprint!("{report}");
//!             std::process::ExitCode::FAILURE
//!         }
//!     }
//! }
//! ```
//!
//! `examples/app-template` is a project to copy.
//!
//! # What an application may rely on
//!
//! - What the server knows of a request is among its extensions: [`RequestInfo`]. axum's `ConnectInfo` as well, if
//!   [`App::with_connect_info`] asks for it.
//! - WebSockets, with axum's `WebSocketUpgrade`, and whatever else asks for hyper's `OnUpgrade`, over HTTP/1.1, HTTP/2 and HTTP/3. They
//!   come as the GET of HTTP/1.1, whatever the client speaks.
//! - A request whose client leaves is not run any more, or its future is dropped: cancel-safety is the application's affair. So is one
//!   that takes longer than `response_timeout`.
//! - A panic is a 500 for its request. [`AppContext::fail_worker`] begins anew with fresh services.
//! - [`AppContext::draining`] tells when the process is to end.
//!
//! # What an application must not do
//!
//! Block its thread: other requests of the worker wait for it, and where it shares a core with a data worker, connections do.
//! `threads` in `[app.NAME]` gives an application threads of its own, each of which runs one request at a time: there it may.

mod body;
mod bridge;
mod builtin;
mod check;
mod draining;
mod info;
mod message;
pub mod process;
mod upgraded;
mod worker;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

pub use body::{Body, BodyError};
pub(crate) use bridge::{Bridge, Flight, Way};
pub(crate) use check::{CheckDoor, Checks, checks};
pub use draining::Draining;
pub(crate) use draining::{TellDraining, draining};
pub use info::{ClientCertificate, ConnectionInfo, RequestInfo, TlsFacts, Verify};
pub(crate) use message::{Job, JobBody, Lost, Origin, Reply, ReplyBody, ReplyHead, Ticket, Tickets};
pub(crate) use upgraded::TunnelEnd;
pub(crate) use worker::{AppWorker, Jobs};

/// Any error an application may return; it becomes 500 and a line in the log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a factory is told about the worker it builds a service for.
#[derive(Clone)]
pub struct AppContext {
    worker: usize,
    failed: Rc<std::cell::Cell<bool>>,
    wake: Rc<tokio::sync::Notify>,
    draining: Draining,
}

impl AppContext {
    /// Number of the application worker, or thread of the application, from 0. No two have the same one.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// For what has no end of its own: tells that the process drains.
    pub fn draining(&self) -> Draining {
        self.draining.clone()
    }

    /// Gives this worker up: its running requests are tried at another worker where they may be repeated (`tries` and `retry_on`
    /// in `[app.NAME]`), else answered with 502, then it starts again with fresh services. For an application that finds its
    /// own state corrupt. A request whose handler calls this is one of them: what may be repeated fails the next worker, too.
    pub fn fail_worker(&self, reason: &str) {
        tracing::error!(worker = self.worker, reason, "application worker gives itself up");
        self.failed.set(true);
        self.wake.notify_one();
    }
}

type AnyBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError>>>;
type AnyFuture = Pin<Box<dyn Future<Output = Result<http::Response<AnyBody>, BoxError>>>>;
type LocalService = Rc<dyn Fn(http::Request<Body>) -> AnyFuture>;
type Factory = Arc<dyn Fn(&AppContext) -> LocalService + Send + Sync>;

/// An application: a recipe that builds one service for each application worker.
#[derive(Clone)]
pub struct App {
    factory: Factory,
}

impl App {
    /// An application from a factory, which is called once on every application worker (and again when a worker is
    /// restarted). The service is cloned for each request, as hyper and axum do; an axum `Router` fits as it is.
    pub fn new<S, B>(factory: impl Fn(&AppContext) -> S + Send + Sync + 'static) -> App
    where
        S: tower_service::Service<http::Request<Body>, Response = http::Response<B>> + Clone + 'static,
        S::Error: Into<BoxError>,
        S::Future: 'static,
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let factory = move |context: &AppContext| -> LocalService {
            let service = factory(context);
            Rc::new(move |request| {
                let service = service.clone();
                Box::pin(async move {
                    let response = tower::ServiceExt::oneshot(service, request).await.map_err(Into::into)?;
                    Ok(response.map(|body| Box::pin(http_body_util::BodyExt::map_err(body, Into::into)) as AnyBody))
                })
            })
        };
        App { factory: Arc::new(factory) }
    }

    /// The same with axum's `ConnectInfo<SocketAddr>` among the extensions of each request, for handlers that ask for it:
    /// [`RequestInfo::client`]. It is not there for a client without an address, which came over a Unix socket. Costs
    /// an allocation for each request, so that it is not there by default, as in axum.
    #[must_use]
    pub fn with_connect_info(self) -> App {
        let inner = self.factory;
        let factory = move |context: &AppContext| -> LocalService {
            let service = inner(context);
            Rc::new(move |mut request| {
                let client = request.extensions().get::<RequestInfo>().and_then(|info| info.client);
                if let Some(client) = client {
                    request.extensions_mut().insert(axum::extract::ConnectInfo(client));
                }
                service(request)
            })
        };
        App { factory: Arc::new(factory) }
    }
}

/// The programs a config may name under `[app.NAME] program = …`.
#[derive(Clone, Default)]
pub struct Registry {
    programs: Vec<(String, App)>,
}

impl Registry {
    /// No programs.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// The programs that come with the binary: `hello`, a one-line page to try things with.
    pub fn with_builtin() -> Registry {
        let mut registry = Registry::new();
        registry.add("hello", builtin::hello());
        registry
    }

    /// Adds a program, or replaces the one of that name.
    pub fn add(&mut self, name: impl Into<String>, app: App) {
        let name = name.into();
        self.programs.retain(|(known, _)| *known != name);
        self.programs.push((name, app));
    }

    /// The program of this name.
    pub fn find(&self, name: &str) -> Option<&App> {
        self.programs.iter().find(|(known, _)| known == name).map(|(_, app)| app)
    }

    /// All names, in order of addition.
    pub fn names(&self) -> Vec<&str> {
        self.programs.iter().map(|(name, _)| name.as_str()).collect()
    }
}
