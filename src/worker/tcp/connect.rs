//! The server for a connection: one after the other, until one can be connected to.

use std::pin::pin;

use super::Stream;
use super::trail::Ending;
use crate::proxy::Tried;
use crate::proxy::balance::rendezvous;
use crate::proxy::retry::delay_before_retry;
use crate::runtime::time::{sleep, timeout};
use crate::worker::forward::{
    Busy, ServerConnection, WhenFull, dial, observe_connect_failure, observe_connected, offer_for_clients,
    place_for_connection,
};
use crate::worker::preamble;

/// A connection to a server, which counts as busy.
pub(super) struct Connected<'a> {
    pub(super) server: ServerConnection,
    pub(super) busy: Busy<'a>,
}

impl<'a> Stream<'a> {
    /// `Err`: no server could be connected to.
    pub(super) async fn connect(&mut self, upstream: usize) -> Result<Connected<'a>, Ending> {
        let worker = self.worker;
        let (config, state) = (&worker.config.upstreams[upstream], &worker.upstreams[upstream]);
        self.trail.upstream = Some(upstream as u16);
        // Of all that keeps requests together a connection has the address alone.
        let address = || self.connection.peer_text();
        let key = config.hash.as_ref().map(|_| rendezvous::hash(address().as_bytes()));
        let (mut tried, mut last) = (Tried::new(), Ending::NoServer);
        while self.trail.tries < config.retry.tries_max {
            let Some(busy) = place_for_connection(worker, upstream, &tried, key).await else { break };
            let server = busy.server;
            if tried.contains(server) {
                // There is no other one: give it a moment to come back.
                sleep(delay_before_retry(true, config.connect_timeout)).await;
            }
            self.trail.tries += 1;
            self.trail.server = Some(server as u16);
            let (stats, begun) = (busy.stats(), worker.now());
            // A server counts its connections as requests, of which each is one.
            stats.requests.inc();
            let header = preamble::header(self.connection, config.proxy_protocol, self.trail.server_name.as_deref());
            let dialling =
                pin!(dial(worker, upstream, server, header, offer_for_clients(config.protocol), begun, WhenFull::Wait));
            let error = match timeout(config.connect_timeout, dialling).await {
                Ok(Ok(connection)) => {
                    state.borrow_mut().on_connected(server);
                    observe_connected(worker, upstream, server);
                    stats.connects.inc();
                    self.trail.connect = Some(begun.elapsed());
                    self.trail.connected = Some(worker.now());
                    return Ok(Connected { server: connection, busy });
                }
                Ok(Err(error)) => {
                    last = Ending::ConnectFailed;
                    observe_connect_failure(worker, upstream, server, Some(&error));
                    error.to_string()
                }
                Err(_) => {
                    last = Ending::ConnectTimeout;
                    observe_connect_failure(worker, upstream, server, None);
                    "time-out".into()
                }
            };
            let address = &config.servers[server].address;
            tracing::warn!(upstream = %config.name, server = %address, %error, "server connect failed");
            state.borrow_mut().on_connect_failed(server, worker.now());
            stats.connect_errors.inc();
            stats.retries.add(u64::from(self.trail.tries < config.retry.tries_max));
            tried.insert(server);
        }
        Err(last)
    }
}
