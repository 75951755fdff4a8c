//! The header of the PROXY protocol, in front of everything else on a connection.

use super::Worker;
use super::connection::{Connection, Proxied};
use super::watch::OnExpiry;
use crate::guard::Trust;
use crate::guard::proxy_protocol::{Header, V2_BYTES_MAX, parse};

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
        let (result, returned) = connection.stream.read(input).await;
        input = returned;
        if !matches!(result, Ok(count) if count > 0) {
            worker.stats.http.timeouts.add(u64::from(connection.watched.expired()));
            return None;
        }
        match parse(&input) {
            Ok(Some((header, used))) => {
                connection.watched.clear();
                match header {
                    Header::Ip { source, .. } => connection.proxied.set(Some(Proxied::Ip(source))),
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
