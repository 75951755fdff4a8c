//! The header of the PROXY protocol, in front of everything else on a connection: read from those who stand in front of us,
//! and made for the servers behind.

use super::Worker;
use super::connection::{Connection, Proxied};
use super::watch::OnExpiry;
use crate::config::model::ProxyProtocol;
use crate::guard::Trust;
use crate::guard::proxy_protocol::{Checksum, Extensions, Header, V2_BYTES_MAX, encode_v1, encode_v2_with, parse};

/// Reads the header and notes whom it names. Returns what was read behind it; `None`: the connection is to be closed,
/// because its header is missing, wrong or late, or comes from somebody who may not send one.
pub(super) async fn read(worker: &Worker, connection: &Connection) -> Option<Vec<u8>> {
    let listener = &worker.config.listeners[connection.listener(worker)];
    if let Some(peer) = connection.peer
        && !Trust::takes_proxy_header(listener.trust.as_deref(), peer.ip())
    {
        worker.stats.http.malformed.inc();
        tracing::debug!(peer = ?connection.peer, "PROXY header from an address that is not trusted");
        return None;
    }
    connection.watched.set(worker.config.http.header_timeout, OnExpiry::BreakAll);
    let mut input = worker.hot.take_buffer(512);
    loop {
        if input.capacity() == input.len() {
            input.reserve(512);
        }
        let (result, returned) = connection.stream().read(input).await;
        input = returned;
        if !matches!(result, Ok(count) if count > 0) {
            worker.stats.http.timeouts.add(u64::from(connection.watched.expired()));
            return None;
        }
        match parse(&input) {
            Ok(Some((header, used))) => {
                connection.watched.clear();
                match header {
                    Header::Ip { source, destination } => {
                        connection.proxied.set(Some(Proxied::Ip { client: source, destination }));
                    }
                    Header::Unix => connection.proxied.set(Some(Proxied::Unix)),
                    Header::Local | Header::Unknown => {}
                }
                return Some(input.split_off(used));
            }
            Ok(None) if input.len() <= V2_BYTES_MAX => {}
            Ok(None) => return None,
            Err(error) => {
                worker.stats.http.malformed.inc();
                tracing::debug!(peer = ?connection.peer, %error, "PROXY header refused");
                return None;
            }
        }
    }
}

/// The header that tells a server whose connection it is; empty: none is wanted. `server_name` is what the client has asked
/// for in TLS that is passed on as it is.
pub(super) fn header(connection: &Connection, version: ProxyProtocol, server_name: Option<&str>) -> Vec<u8> {
    let said = match (connection.peer(), connection.destination()) {
        (Some(source), Some(destination)) => Header::Ip { source, destination },
        _ => Header::Unix,
    };
    let mut out = Vec::new();
    match version {
        ProxyProtocol::Off => {}
        ProxyProtocol::V1 => encode_v1(&said, &mut out),
        ProxyProtocol::V2 => connection.with_tls_facts(|facts| {
            let ended_here = facts.and_then(|facts| facts.server_name.as_deref());
            let alpn = facts.and_then(|facts| facts.alpn);
            let extensions = Extensions { authority: server_name.or(ended_here), alpn };
            encode_v2_with(&said, extensions, Checksum::None, &mut out);
        }),
    }
    out
}
