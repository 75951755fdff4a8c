//! A new connection to a server: connect, tell whose it is, make a TLS session.

use std::io;
use std::time::Instant;

use super::server::ServerConnection;
use crate::config::model::Protocol;
use crate::runtime::net::Stream;
use crate::tls::Offer;
use crate::worker::Worker;

/// What is done where the backlog of a Unix socket is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum WhenFull {
    /// Waiting until it is not.
    Wait,
    /// Telling so, with the error [`crate::runtime::net::is_backlog_full`].
    Tell,
}

/// Connects to a server of an upstream, over TLS where that is wanted, with an `offer` of protocols. `header` goes out before everything else, in clear
/// text; it may be empty. `begun`: now. No time-out of its own.
///
/// Errors: what connecting, writing and the handshake report. The server has got nothing but the header.
pub(in crate::worker) async fn dial(
    worker: &Worker,
    upstream: usize,
    server: usize,
    header: Vec<u8>,
    offer: Offer,
    begun: Instant,
    when_full: WhenFull,
) -> io::Result<ServerConnection> {
    let config = &worker.config.upstreams[upstream];
    let address = &config.servers[server].address;
    let stream = match when_full {
        WhenFull::Wait => Stream::connect(address).await?,
        WhenFull::Tell => Stream::connect_at_once(address).await?,
    };
    worker.stats.servers[upstream][server].connect.record(begun.elapsed());
    if !header.is_empty() {
        stream.write_all(header).await.0?;
    }
    let mut connection = ServerConnection::new(worker, stream);
    if let Some(tls) = &config.tls {
        let settings = worker.upstreams[upstream].borrow().tls(offer).cloned();
        // Never in clear text instead: the check has seen to it that both are there.
        let (Some(settings), Some(name)) = (settings, tls.name_of(&config.servers[server])) else {
            return Err(io::Error::other("no settings for TLS"));
        };
        Box::pin(connection.secure(worker, &settings, &name)).await?;
    }
    Ok(connection)
}

/// What a connection in TCP mode offers, whose client speaks through it.
pub(in crate::worker) fn offer_for_clients(protocol: Protocol) -> Offer {
    if protocol == Protocol::H2 { Offer::Http2 } else { Offer::Http1 }
}
