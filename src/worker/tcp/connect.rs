//! The server for a connection: one after the other, until one can be connected to.

use std::pin::pin;

use super::Stream;
use super::trail::Ending;
use crate::metrics::ServerStats;
use crate::proxy::Tried;
use crate::proxy::retry::delay_before_retry;
use crate::runtime::time::{sleep, timeout};
use crate::worker::forward::{ServerConnection, dial};
use crate::worker::{Worker, preamble};

/// A connection to a server, which counts as busy.
pub(super) struct Connected<'a> {
    pub(super) server: ServerConnection,
    pub(super) busy: Busy<'a>,
}

/// Counts a connection on its server for as long as it lives.
pub(super) struct Busy<'a> {
    worker: &'a Worker,
    upstream: usize,
    server: usize,
}

impl<'a> Busy<'a> {
    fn begin(worker: &'a Worker, upstream: usize, server: usize) -> Busy<'a> {
        worker.upstreams[upstream].borrow_mut().on_start(server);
        let busy = Busy { worker, upstream, server };
        busy.stats().active.inc();
        busy
    }

    pub(super) fn stats(&self) -> &'a ServerStats {
        &self.worker.stats.servers[self.upstream][self.server]
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.worker.upstreams[self.upstream].borrow_mut().on_end(self.server);
        self.stats().active.dec();
    }
}

impl<'a> Stream<'a> {
    /// `Err`: no server could be connected to.
    pub(super) async fn connect(&mut self, upstream: usize) -> Result<Connected<'a>, Ending> {
        let worker = self.worker;
        let (config, state) = (&worker.config.upstreams[upstream], &worker.upstreams[upstream]);
        self.trail.upstream = Some(upstream as u16);
        let (mut tried, mut last) = (Tried::new(), Ending::NoServer);
        while self.trail.tries < config.retry.tries_max {
            let is_up = |server| worker.shared.is_up(upstream, server);
            let picked = state.borrow_mut().pick(is_up, &tried, worker.now());
            let Some(server) = picked else { break };
            if tried.contains(server) {
                // There is no other one: give it a moment to come back.
                sleep(delay_before_retry(true, config.connect_timeout)).await;
            }
            self.trail.tries += 1;
            self.trail.server = Some(server as u16);
            let busy = Busy::begin(worker, upstream, server);
            let (stats, begun) = (busy.stats(), worker.now());
            // A server counts its connections as requests, of which each is one.
            stats.requests.inc();
            let header = preamble::header(self.connection, config.proxy_protocol, self.trail.server_name.as_deref());
            let dialling = pin!(dial(worker, upstream, server, header, begun));
            let error = match timeout(config.connect_timeout, dialling).await {
                Ok(Ok(connection)) => {
                    state.borrow_mut().on_connected(server);
                    stats.connects.inc();
                    self.trail.connect = Some(begun.elapsed());
                    self.trail.connected = Some(worker.now());
                    return Ok(Connected { server: connection, busy });
                }
                Ok(Err(error)) => {
                    last = Ending::ConnectFailed;
                    error.to_string()
                }
                Err(_) => {
                    last = Ending::ConnectTimeout;
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
