//! What a TLS handshake costs: one connection after the other, each with one handshake and one request.
//!
//! Blocking sockets on a few threads, rustls as the client. Every connection makes one TLS 1.3 handshake, sends one GET
//! with `Connection: close` and reads to the end. One cipher suite and one group are offered, TLS_AES_128_GCM_SHA256 and
//! X25519, so that two servers cannot agree on different ones. With `--resume` each connection spends a ticket that an
//! earlier one of the same thread was given; without it none is offered. Prints one line of JSON.
//!
//! The certificate is not verified: that would be work of the client, which shares its core with nobody here but makes
//! the load thinner. `perf/compare` verifies it before it measures. Deliberately absent: early data, TLS 1.2, HTTP/2.

mod answer_head;
mod common;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use answer_head::{HEAD_BYTES_MAX, head_bytes};
use common::{Flag, PATIENCE, micros, quantile};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup, SignatureScheme, version,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A thread that has seen so many errors gives up: the run is worthless already.
const ERRORS_MAX: u64 = 20;
/// Tickets a thread keeps. A server gives two with each handshake, and one is spent.
const TICKETS_MAX: usize = 4;
const USAGE: &str =
    "usage: handshakes --connect ADDRESS:PORT --path PATH --body-bytes N [--threads N] [--seconds N] [--resume]";

fn main() -> ExitCode {
    let total = Options::parse(std::env::args().skip(1)).and_then(|options| run(&options));
    common::end(total.map(|total| total.to_json()))
}

/// What the command line says.
#[derive(Debug)]
struct Options {
    connect: SocketAddr,
    path: String,
    body_bytes: usize,
    threads: usize,
    time: Duration,
    resume: bool,
}

impl Options {
    /// `Err` is a line for the person who typed it.
    fn parse(words: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut connect, mut path, mut body_bytes) = (None, None, None);
        let (mut threads, mut seconds, mut resume) = (16, 3, false);
        for flag in Flag::all(words, &["--resume"], USAGE) {
            match flag.name.as_str() {
                "--resume" => resume = true,
                "--connect" => connect = Some(flag.address()?),
                "--path" => path = Some(flag.text()?),
                "--body-bytes" => body_bytes = Some(flag.number()? as usize),
                "--threads" => threads = flag.number()?.max(1) as usize,
                "--seconds" => seconds = flag.number()?.max(1),
                _ => return Err(flag.unknown()),
            }
        }
        Ok(Options {
            connect: connect.ok_or(USAGE)?,
            path: path.ok_or(USAGE)?,
            body_bytes: body_bytes.ok_or(USAGE)?,
            threads,
            time: Duration::from_secs(seconds),
            resume,
        })
    }

    fn request(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", self.path).into_bytes()
    }
}

/// Makes connections for as long as the options say. Errors: the first connection of a thread failed.
fn run(options: &Options) -> Result<Total, String> {
    let start = Barrier::new(options.threads);
    let began = Mutex::new(None);
    let clients = (0..options.threads).map(|_| Client::new(options)).collect::<Result<Vec<_>, _>>()?;
    let threads: Result<Vec<Counts>, String> = thread::scope(|scope| {
        let handles: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                let (start, began) = (&start, &began);
                scope.spawn(move || {
                    // Not counted: it shows that the server is there, and with `--resume` brings the first tickets.
                    let warm_up = client.connection();
                    start.wait();
                    let warm_up = warm_up?;
                    let start = *began.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
                    Ok(client.connections_until(start + options.time, warm_up))
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let elapsed = began.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |b| b.elapsed());
    Total::new(threads?, elapsed, options)
}

/// What was agreed on, as rustls names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Agreed {
    version: String,
    cipher: String,
    group: String,
}

/// One connection that ended well.
#[derive(Clone, Debug)]
struct Connection {
    agreed: Agreed,
    is_resumed: bool,
    /// The server said that it was done, rather than only closing the socket.
    has_close_notify: bool,
}

/// One thread's means of making connections.
struct Client {
    address: SocketAddr,
    body_bytes: usize,
    request: Vec<u8>,
    config: Arc<ClientConfig>,
    tickets: Arc<Tickets>,
    answer: Vec<u8>,
}

impl Client {
    /// Errors: rustls takes the settings for wrong.
    fn new(options: &Options) -> Result<Client, String> {
        let tickets = Arc::new(Tickets { are_spent: options.resume, ..Tickets::default() });
        let provider = CryptoProvider {
            cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![kx_group::X25519],
            ..default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified))
            .with_no_client_auth();
        config.resumption = Resumption::store(tickets.clone());
        Ok(Client {
            address: options.connect,
            body_bytes: options.body_bytes,
            request: options.request(),
            config: Arc::new(config),
            tickets,
            answer: Vec::with_capacity(options.body_bytes + HEAD_BYTES_MAX),
        })
    }

    /// One connection after the other. `model` is what they should agree on.
    fn connections_until(&mut self, end: Instant, model: Connection) -> Counts {
        let mut counts = Counts::new(model.agreed);
        let tickets_before = self.tickets.given.load(Ordering::Relaxed);
        while Instant::now() < end && counts.errors < ERRORS_MAX {
            let begin = Instant::now();
            match self.connection() {
                Ok(connection) => counts.add(&connection, begin.elapsed()),
                Err(message) => counts.add_error(message),
            }
        }
        counts.tickets = self.tickets.given.load(Ordering::Relaxed) - tickets_before;
        counts
    }

    /// Connects, makes the handshake, asks, and reads to the end. Errors: anything but the whole answer.
    fn connection(&mut self) -> Result<Connection, String> {
        let mut socket = TcpStream::connect_timeout(&self.address, PATIENCE).map_err(|e| format!("connect: {e}"))?;
        for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            set(&socket, Some(PATIENCE)).map_err(|e| format!("timeout: {e}"))?;
        }
        socket.set_nodelay(true).map_err(|e| format!("TCP_NODELAY: {e}"))?;
        let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
        let mut session = ClientConnection::new(self.config.clone(), name).map_err(|e| e.to_string())?;
        let mut stream = rustls::Stream::new(&mut session, &mut socket);
        stream.write_all(&self.request).map_err(|e| format!("handshake or request: {e}"))?;
        self.answer.clear();
        let has_close_notify = match stream.read_to_end(&mut self.answer) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(format!("answer: {error}")),
        };
        check_answer(&self.answer, self.body_bytes)?;
        Ok(Connection {
            agreed: agreed(&session)?,
            is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            has_close_notify,
        })
    }
}

/// Errors: the session is not established.
fn agreed(session: &ClientConnection) -> Result<Agreed, String> {
    let version = session.protocol_version().ok_or("no protocol version")?;
    let suite = session.negotiated_cipher_suite().ok_or("no cipher suite")?;
    let group = session.negotiated_key_exchange_group().ok_or("no key exchange")?;
    Ok(Agreed {
        version: format!("{version:?}").replace('_', "."),
        cipher: format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1),
        group: format!("{:?}", group.name()),
    })
}

/// Errors: not a 200 with exactly so many bytes behind its head.
fn check_answer(answer: &[u8], body_bytes: usize) -> Result<(), String> {
    let head = head_bytes(answer)?.ok_or_else(|| format!("no end of the head in {} bytes", answer.len()))?;
    match answer.len() - head {
        length if length == body_bytes => Ok(()),
        length => Err(format!("a body of {length} bytes, not {body_bytes}")),
    }
}

/// What one thread counted.
#[derive(Debug)]
struct Counts {
    agreed: Agreed,
    handshakes: u64,
    resumed: u64,
    without_close_notify: u64,
    tickets: u64,
    errors: u64,
    first_error: Option<String>,
    /// Of whole connections, in microseconds.
    times_us: Vec<u32>,
}

impl Counts {
    fn new(agreed: Agreed) -> Counts {
        Counts {
            agreed,
            handshakes: 0,
            resumed: 0,
            without_close_notify: 0,
            tickets: 0,
            errors: 0,
            first_error: None,
            times_us: Vec::new(),
        }
    }

    fn add(&mut self, connection: &Connection, time: Duration) {
        if connection.agreed != self.agreed {
            return self.add_error(format!("{:?} after {:?}", connection.agreed, self.agreed));
        }
        self.handshakes += 1;
        self.resumed += u64::from(connection.is_resumed);
        self.without_close_notify += u64::from(!connection.has_close_notify);
        self.times_us.push(micros(time));
    }

    fn add_error(&mut self, message: String) {
        self.errors += 1;
        self.first_error.get_or_insert(message);
    }
}

/// What all threads counted.
#[derive(Debug)]
struct Total {
    counts: Counts,
    elapsed: Duration,
    body_bytes: u64,
}

impl Total {
    /// Errors: the threads agreed on different things.
    fn new(threads: Vec<Counts>, elapsed: Duration, options: &Options) -> Result<Total, String> {
        let mut threads = threads.into_iter();
        let mut counts = threads.next().ok_or("no thread")?;
        for one in threads {
            if one.agreed != counts.agreed {
                return Err(format!("{:?} and {:?} on one server", one.agreed, counts.agreed));
            }
            counts.handshakes += one.handshakes;
            counts.resumed += one.resumed;
            counts.without_close_notify += one.without_close_notify;
            counts.tickets += one.tickets;
            counts.errors += one.errors;
            counts.first_error = counts.first_error.or(one.first_error);
            counts.times_us.extend(one.times_us);
        }
        counts.times_us.sort_unstable();
        let body_bytes = counts.handshakes * options.body_bytes as u64;
        Ok(Total { counts, elapsed, body_bytes })
    }

    fn to_json(&self) -> serde_json::Value {
        let counts = &self.counts;
        serde_json::json!({
            "handshakes": counts.handshakes,
            "resumed": counts.resumed,
            "errors": counts.errors,
            "first_error": counts.first_error,
            "without_close_notify": counts.without_close_notify,
            "tickets": counts.tickets,
            "seconds": self.elapsed.as_secs_f64(),
            "body_bytes": self.body_bytes,
            "p50_us": quantile(&counts.times_us, 0.50),
            "p99_us": quantile(&counts.times_us, 0.99),
            "version": counts.agreed.version,
            "cipher": counts.agreed.cipher,
            "group": counts.agreed.group,
        })
    }
}

/// Tickets of one thread, and how many it was given.
#[derive(Debug, Default)]
struct Tickets {
    are_spent: bool,
    given: AtomicU64,
    kept: Mutex<VecDeque<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None // there is one group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.given.fetch_add(1, Ordering::Relaxed);
        if self.are_spent {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.truncate(TICKETS_MAX - 1);
            kept.push_front(ticket);
        }
    }

    /// The newest: the oldest may have outlived its key.
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Takes whatever certificate comes.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 was not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// One scheme, so that no server signs with another.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Result<Options, String> {
        Options::parse(words.split_whitespace().map(String::from))
    }

    #[test]
    fn the_command_line_is_read_or_refused_with_a_reason() {
        let taken = options("--connect 127.0.0.1:1 --path /a --body-bytes 5 --resume --threads 2 --seconds 7").unwrap();
        assert_eq!((taken.threads, taken.time, taken.resume), (2, Duration::from_secs(7), true));
        for (words, reason) in
            [("", "usage"), ("--path", "takes a value"), ("--wrong 1", "unknown"), ("--threads x", "x")]
        {
            assert!(options(words).unwrap_err().contains(reason), "{words}");
        }
    }

    #[test]
    fn an_answer_is_the_whole_body_or_an_error() {
        assert_eq!(check_answer(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n12345", 5), Ok(()));
        for (answer, reason) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n1234"[..], "4 bytes"),
            (b"HTTP/1.1 200 OK\r\n\r\n123456", "6 bytes"),
            (b"HTTP/1.1 404 Not Found\r\n\r\n12345", "404"),
            (b"HTTP/1.1 200 OK\r\n", "no end"),
            (b"", "no end"),
        ] {
            assert!(check_answer(answer, 5).unwrap_err().contains(reason), "{answer:?}");
        }
    }
}
