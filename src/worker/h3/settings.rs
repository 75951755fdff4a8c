//! What QUIC connections are made with: keys of the process, limits of the config.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn_proto::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, InvalidCid, ServerConfig, TransportConfig, VarInt,
};

use crate::config::Config;
use crate::http::h3::Ids;
use crate::tls::QuicTls;

/// QUIC version 1, RFC 9000.
const VERSION: u32 = 1;

/// Streams of the client's own that may be open at the same time: control, two of QPACK, and some that say nothing (RFC 9114
/// section 6.2).
const UNI_STREAMS_MAX: u32 = 8;

/// Connections whose handshake waits for its turn, and what is kept of their packets meanwhile.
pub(super) const WAITING_MAX: usize = 256;
const WAITING_BYTES_MAX: u64 = 16 << 10;
const WAITING_BYTES_TOTAL_MAX: u64 = 1 << 20;

/// QUIC ends an idle connection without a word: HTTP/3 comes first and says so.
const IDLE_SLACK: Duration = Duration::from_secs(5);

/// Secrets that the workers of a process have in common.
#[derive(Clone)]
pub(crate) struct Keys {
    ids: Ids,
    /// What the keys of the listeners come from, see [`Keys::reset`].
    reset: Arc<hmac::Key>,
    /// Seals what a client must bring back to prove its address.
    token: Arc<hkdf::Prk>,
}

impl Keys {
    /// Keys for the life of the process.
    pub(crate) fn random() -> Keys {
        let (reset, token): ([u8; 64], [u8; 64]) = (random_bytes(), random_bytes());
        Keys {
            ids: Ids::new(rand::random()),
            reset: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset)),
            token: Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&token)),
        }
    }

    /// Connection ids.
    pub(super) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Key of the tokens with which a worker tells clients of the listener at `address` of connections that it does not know
    /// (RFC 9000 section 10.3). The same on all workers, and across reloads. Another one for each listener: a connection
    /// that is known at one is not at the others, and a token that was learned there must not end it (section 10.3.2).
    fn reset(&self, address: SocketAddr) -> hmac::Key {
        let derived = hmac::sign(&self.reset, address.to_string().as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
    }
}

fn random_bytes<const COUNT: usize>() -> [u8; COUNT] {
    std::array::from_fn(|_| rand::random())
}

/// Gives the ids of one worker.
struct Generator {
    ids: Ids,
    worker: u16,
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.ids.write(self.worker, rand::random()))
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        self.ids.worker(id).map(drop).ok_or(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        Ids::BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// For the endpoint of `worker` at `address`.
pub(super) fn endpoint(keys: &Keys, worker: usize, address: SocketAddr) -> Arc<EndpointConfig> {
    let mut config = EndpointConfig::new(Arc::new(keys.reset(address)));
    let (ids, worker) = (keys.ids.clone(), u16::try_from(worker).unwrap_or(u16::MAX));
    config.supported_versions(vec![VERSION]);
    config.cid_generator(move || Box::new(Generator { ids: ids.clone(), worker }));
    Arc::new(config)
}

/// For the connections of a listener. Early data is off: it can be replayed.
pub(super) fn server(config: &Config, keys: &Keys, tls: Arc<QuicTls>) -> Arc<ServerConfig> {
    let mut server = ServerConfig::new(tls, keys.token.clone());
    server.transport_config(Arc::new(transport(config)));
    server.max_incoming(WAITING_MAX);
    server.incoming_buffer_size(WAITING_BYTES_MAX);
    server.incoming_buffer_size_total(WAITING_BYTES_TOTAL_MAX);
    // A client proves its address anew each time that it is asked.
    server.validation_token.sent(0);
    Arc::new(server)
}

fn transport(config: &Config) -> TransportConfig {
    let http3 = &config.http3;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(http3.streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(http3.stream_window_bytes))
        .receive_window(VarInt::from_u32(http3.connection_window_bytes))
        .send_window(http3.send_buffer_bytes_max)
        .max_idle_timeout(IdleTimeout::try_from(config.http.keep_alive_timeout + IDLE_SLACK).ok())
        .datagram_receive_buffer_size(None);
    transport
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_tokens_belong_to_a_listener_and_are_the_same_on_all_workers() {
        let keys = Keys::random();
        let of_another_worker = keys.clone();
        let sign = |keys: &Keys, address: &str| {
            hmac::sign(&keys.reset(address.parse().expect("an address")), b"a connection id").as_ref().to_vec()
        };
        let token = sign(&keys, "192.0.2.1:443");
        assert_eq!(sign(&of_another_worker, "192.0.2.1:443"), token);
        for other in ["192.0.2.1:444", "192.0.2.2:443", "[::ffff:192.0.2.1]:443"] {
            assert_ne!(sign(&keys, other), token, "{other}");
        }
        assert_ne!(sign(&Keys::random(), "192.0.2.1:443"), token);
    }
}
