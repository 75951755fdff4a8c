//! A connection in TCP mode, from accept to close: its bytes are passed on as they are.
//!
//! ```text
//! PROXY header ─▶ TLS of ours, or the client's hello read ─▶ upstream by name ─▶ server, one after the other ─▶ tunnel
//! ```
//!
//! Nothing has been sent to a server before the tunnel begins, so that another one may be tried whatever the protocol is.

mod connect;
mod hello;
mod trail;

use std::rc::Rc;

use self::connect::Connected;
use self::trail::{Ending, Trail};
use super::Worker;
use super::connection::Connection;
use super::secure;
use super::tunnel::{Meter, Tunnel};
use crate::config::model::TcpRoute;

/// Drives a connection to its end. `first` is what has been read behind a PROXY header.
pub(super) async fn drive(worker: &Rc<Worker>, connection: &Connection, first: Vec<u8>) {
    let stats = &worker.stats.tcp[connection.listener(worker)];
    stats.connections.inc();
    let mut trail = Trail::default();
    let ending = Stream { worker, connection, trail: &mut trail }.run(first).await;
    trail.account(worker, connection, ending);
}

/// A connection on its way.
struct Stream<'a> {
    worker: &'a Rc<Worker>,
    connection: &'a Connection,
    trail: &'a mut Trail,
}

impl Stream<'_> {
    async fn run(&mut self, first: Vec<u8>) -> Ending {
        let first = match self.learn_name(first).await {
            Ok(first) => first,
            Err(ending) => return ending,
        };
        let Some(route) = self.route() else { return Ending::Refused };
        let Some(upstream) = route.upstream(self.trail.server_name.as_deref()) else {
            hello::refuse_name(self.connection).await;
            return Ending::Refused;
        };
        let Connected { server, busy } = match Box::pin(self.connect(upstream)).await {
            Ok(connected) => connected,
            Err(ending) => return ending,
        };
        let config = &self.worker.config.upstreams[upstream];
        let listener = &self.worker.stats.tcp[self.connection.listener(self.worker)];
        let tunnel = Tunnel {
            worker: self.worker,
            connection: self.connection,
            server: &server,
            idle_timeout: config.tunnel_timeout,
            half_closed_timeout: config.half_closed_timeout,
            meter: Meter::of_server(busy.stats()).and_listener(listener),
        };
        listener.open.inc();
        let flow = tunnel.run(first, Vec::new()).await;
        listener.open.dec();
        self.trail.flow = flow;
        Ending::Passed
    }

    fn route(&self) -> Option<&TcpRoute> {
        self.worker.config.listeners[self.connection.listener(self.worker)].tcp.as_deref()
    }

    /// Ends TLS where that is wanted, or reads the client's hello where its name decides. Returns what has been read of what
    /// is to be passed on.
    async fn learn_name(&mut self, first: Vec<u8>) -> Result<Vec<u8>, Ending> {
        let config = self.worker.tls.borrow()[self.connection.listener(self.worker)].clone();
        if let Some(config) = config {
            let secure = Box::pin(secure::handshake(self.worker, self.connection, &config, first)).await;
            let secure = secure.ok_or(Ending::NoHandshake)?;
            drop(self.connection.tls.set(Box::new(secure)));
            self.trail.server_name = self.connection.with_tls_facts(|facts| {
                let name = facts?.server_name.as_deref()?;
                Some(name.to_ascii_lowercase().into())
            });
            return Ok(Vec::new());
        }
        match self.route() {
            Some(TcpRoute::ByName { .. }) => Box::pin(self.read_hello(first)).await,
            _ => Ok(first),
        }
    }
}
