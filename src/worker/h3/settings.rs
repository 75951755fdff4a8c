//! What QUIC connections are made with: keys of the process, limits of the config.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn_proto::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, InvalidCid, ServerConfig, TransportConfig, VarInt,
};

use super::generation::{GENERATIONS, Place};
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

/// Secrets that the workers of a process have in common, and the processes that take over from each other.
#[derive(Clone)]
pub(crate) struct Keys {
    secrets: Arc<KeySecrets>,
    ids: Ids,
    /// What the keys of the listeners come from, see [`Keys::reset`].
    reset: Arc<hmac::Key>,
    /// Seals what a client must bring back to prove its address.
    token: Arc<hkdf::Prk>,
}

/// What [`Keys`] are made from.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct KeySecrets {
    ids: [u64; 4],
    reset: Vec<u8>,
    token: Vec<u8>,
    /// Takeovers before this process, counted round.
    generation: u8,
}

impl KeySecrets {
    /// For a process that has none before it.
    pub(crate) fn random() -> KeySecrets {
        let (reset, token): ([u8; 64], [u8; 64]) = (random_bytes(), random_bytes());
        KeySecrets { ids: rand::random(), reset: reset.into(), token: token.into(), generation: 0 }
    }

    /// For the process behind this one.
    pub(crate) fn next(&self) -> KeySecrets {
        KeySecrets { generation: (self.generation + 1) % GENERATIONS, ..self.clone() }
    }
}

impl Keys {
    pub(crate) fn new(secrets: KeySecrets) -> Keys {
        Keys {
            ids: Ids::new(secrets.ids),
            reset: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secrets.reset)),
            token: Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&secrets.token)),
            secrets: Arc::new(secrets),
        }
    }

    pub(crate) fn secrets(&self) -> &KeySecrets {
        &self.secrets
    }

    /// Of this process.
    pub(super) fn generation(&self) -> u8 {
        self.secrets.generation
    }

    /// Who has given a connection id; `None`: nobody of ours has.
    pub(super) fn place(&self, id: &[u8]) -> Option<Place> {
        self.ids.worker(id).map(Place::of_number)
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
    /// A [`Place::number`].
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
    let (ids, worker) = (keys.ids.clone(), Place { generation: keys.generation(), worker }.number());
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
        let keys = Keys::new(KeySecrets::random());
        let of_another_worker = keys.clone();
        let sign = |keys: &Keys, address: &str| {
            hmac::sign(&keys.reset(address.parse().expect("an address")), b"a connection id").as_ref().to_vec()
        };
        let token = sign(&keys, "192.0.2.1:443");
        assert_eq!(sign(&of_another_worker, "192.0.2.1:443"), token);
        for other in ["192.0.2.1:444", "192.0.2.2:443", "[::ffff:192.0.2.1]:443"] {
            assert_ne!(sign(&keys, other), token, "{other}");
        }
        assert_ne!(sign(&Keys::new(KeySecrets::random()), "192.0.2.1:443"), token);
    }
}
