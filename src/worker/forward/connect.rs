//! Connections to servers: an idle one that is still good, or a new one.

use std::io;
use std::pin::pin;
use std::time::Instant;

use super::server::ServerConnection;
use super::{Forward, NoResponse, TryFailed};
use crate::proxy::retry::Situation;
use crate::runtime::net::Stream;
use crate::runtime::time::timeout;
use crate::worker::Worker;

impl Forward<'_> {
    /// An idle connection that is still good, or a new one. The flag says which.
    pub(super) async fn connect(
        &self,
        server: usize,
        must_be_fresh: bool,
        now: Instant,
    ) -> Result<(ServerConnection, bool), NoResponse> {
        let stats = self.stats(server);
        let take_idle = || match must_be_fresh {
            true => None,
            false => self.worker.upstreams[self.upstream].borrow_mut().take_idle(server, now),
        };
        while let Some(idle) = take_idle() {
            if idle.is_quiet() {
                stats.reuses.inc();
                return Ok((idle, true));
            }
        }
        let begun = self.worker.now();
        let address = &self.config.servers[server].address;
        // Futures are handed on pinned: passed by value, each layer around them would hold a copy of its own.
        let connecting = pin!(dial(self.worker, self.upstream, server, begun));
        let connecting = pin!(timeout(self.config.connect_timeout, connecting));
        self.presence.watched().clear();
        let connected = match self.presence.while_client_stays(connecting).await {
            Ok(connected) => connected,
            Err(_) => return Err(NoResponse::ClientGone),
        };
        let mut state = self.worker.upstreams[self.upstream].borrow_mut();
        match connected {
            Ok(Ok(connection)) => {
                state.on_connected(server);
                stats.connects.inc();
                Ok((connection, false))
            }
            failed => {
                self.observe_connect_failure(
                    server,
                    failed.as_ref().ok().and_then(|connected| connected.as_ref().err()),
                );
                let error = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "time-out".to_owned(),
                };
                tracing::warn!(upstream = %self.config.name, server = %address, %error, "server connect failed");
                state.on_connect_failed(server, self.worker.now());
                Err(NoResponse::Failed(TryFailed { situation: Situation::ConnectFailed, sent: false }))
            }
        }
    }
}

/// A new connection, over TLS where that is wanted.
pub(super) async fn dial(
    worker: &Worker,
    upstream: usize,
    server: usize,
    begun: Instant,
) -> io::Result<ServerConnection> {
    let config = &worker.config.upstreams[upstream];
    let address = &config.servers[server].address;
    let stream = Stream::connect(address).await?;
    worker.stats.servers[upstream][server].connect.record(begun.elapsed());
    let mut connection = ServerConnection::new(worker, stream);
    if let Some(tls) = &config.tls {
        let settings = worker.upstreams[upstream].borrow().tls().cloned();
        // Never in clear text instead: the check has seen to it that both are there.
        let (Some(settings), Some(name)) = (settings, tls.name_of(address)) else {
            return Err(io::Error::other("no settings for TLS"));
        };
        Box::pin(connection.secure(worker, &settings, &name)).await?;
    }
    Ok(connection)
}
