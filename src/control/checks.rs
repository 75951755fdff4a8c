//! Active health checks: connects to every checked server again and again, and publishes who is up.
//!
//! This is the driver: sockets, timers, log lines. What a result means is counted by [`crate::proxy::health`]. One
//! task a server on the control thread; data workers only ever read [`Shared::is_up`]. Deliberately absent: passive
//! checks from live traffic, and agents.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::Shared;
use super::shared::{CheckStatus, EventLevel};
use crate::config::model::Health;
use crate::proxy::health::{HealthState, Schedule, Transition};
use crate::runtime::net::Address;

/// Bytes of a response head a check reads at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of it.
const HEADERS_MAX: usize = 128;

/// Checks all servers of all upstreams that ask for it, until `shutdown` becomes true or its sender is gone.
///
/// `seed` spreads the checks in time; give each process another one. Returns at once when nothing is to be checked.
pub async fn run(shared: Arc<Shared>, seed: u64, mut shutdown: watch::Receiver<bool>) {
    let mut tasks = tokio::task::JoinSet::new();
    for (u, upstream) in shared.config.upstreams.iter().enumerate() {
        let Some(health) = &upstream.health else { continue };
        for s in 0..upstream.servers.len() {
            let schedule = Schedule::new(health.interval, seed ^ ((u as u64) << 32 | s as u64));
            tasks.spawn(check_forever(shared.clone(), u, s, schedule));
        }
    }
    if !tasks.is_empty() {
        // An error means that the sender is gone, which is a shutdown too.
        drop(shutdown.wait_for(|stop| *stop).await);
    }
    tasks.shutdown().await;
}

/// Checks one server, at once and then by its schedule.
async fn check_forever(shared: Arc<Shared>, u: usize, s: usize, mut schedule: Schedule) {
    let upstream = &shared.config.upstreams[u];
    let (Some(health), address) = (&upstream.health, &upstream.servers[s].address) else { return };
    let mut state = HealthState::new(health.rise, health.fall, Instant::now());
    loop {
        let begun = Instant::now();
        let outcome = check(address, health).await;
        let now = Instant::now();
        let server = &shared.servers[u][s];
        server.publish_check(outcome.status(), outcome.code(), outcome.is_ok(), now - begun);
        if let Some(transition) = state.on_result(outcome.is_ok(), now) {
            server.publish_up(transition.up, SystemTime::now());
            report(&shared, u, s, &outcome, transition);
        }
        tokio::time::sleep(schedule.next_delay()).await;
    }
}

/// Tells the log and the status page.
fn report(shared: &Shared, u: usize, s: usize, outcome: &Outcome, transition: Transition) {
    let upstream = &shared.config.upstreams[u];
    let (name, server) = (upstream.name.as_str(), &upstream.servers[s].address);
    let up_count = shared.servers[u].iter().filter(|state| state.is_up()).count();
    let lasted_s = transition.lasted.as_secs();
    let counts = format!("{up_count}/{}", upstream.servers.len());
    if transition.up {
        tracing::info!(upstream = name, %server, down_s = lasted_s, servers_up = counts, "server up");
        shared.note(EventLevel::Info, format!("server up upstream={name} server={server} down_s={lasted_s}"));
        return;
    }
    let reason = outcome.to_string();
    tracing::warn!(upstream = name, %server, reason, up_s = lasted_s, servers_up = counts, "server down");
    shared.note(EventLevel::Warn, format!("server down upstream={name} server={server} reason={reason:?}"));
    if up_count == 0 {
        tracing::error!(upstream = name, "upstream has no server up, its requests are answered 503: check its servers");
        shared.note(EventLevel::Error, format!("upstream has no server up upstream={name}"));
    }
}

/// How one check ended. Displayed as the reason of a transition.
#[derive(Debug)]
enum Outcome {
    Connected,
    Answered(u16),
    ConnectTimeout(Duration),
    ConnectFailed(io::Error),
    AnswerTimeout(Duration),
    Broken(io::Error),
    Closed,
    NotHttp,
    Unhealthy(u16),
}

impl Outcome {
    fn is_ok(&self) -> bool {
        matches!(self, Outcome::Connected | Outcome::Answered(_))
    }

    fn code(&self) -> Option<u16> {
        match self {
            Outcome::Answered(code) | Outcome::Unhealthy(code) => Some(*code),
            _ => None,
        }
    }

    fn status(&self) -> CheckStatus {
        match self {
            Outcome::Connected => CheckStatus::Connected,
            Outcome::Answered(_) => CheckStatus::HttpOk,
            Outcome::ConnectTimeout(_) => CheckStatus::ConnectTimeout,
            Outcome::ConnectFailed(_) => CheckStatus::ConnectFailed,
            Outcome::AnswerTimeout(_) => CheckStatus::HttpTimeout,
            Outcome::Broken(_) | Outcome::Closed | Outcome::NotHttp => CheckStatus::HttpInvalid,
            Outcome::Unhealthy(_) => CheckStatus::HttpStatus,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Connected => f.write_str("connected"),
            Outcome::Answered(code) | Outcome::Unhealthy(code) => write!(f, "answered {code}"),
            Outcome::ConnectTimeout(limit) => write!(f, "no connection within {limit:?}"),
            Outcome::ConnectFailed(error) => f.write_str(&plain(error)),
            Outcome::AnswerTimeout(limit) => write!(f, "no answer within {limit:?}"),
            Outcome::Broken(error) => write!(f, "connection broke: {}", plain(error)),
            Outcome::Closed => f.write_str("closed without an answer"),
            Outcome::NotHttp => f.write_str("the answer is not HTTP"),
        }
    }
}

/// The system's message in the style of our log: lower case, without the error number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// One check, within the time the config gives it, connecting included.
async fn check(address: &Address, health: &Health) -> Outcome {
    let deadline = tokio::time::Instant::now() + health.timeout;
    match address {
        Address::Tcp(address) => {
            let connected = tokio::time::timeout_at(deadline, tokio::net::TcpStream::connect(address)).await;
            check_connected(connected, health, deadline, &address.to_string()).await
        }
        Address::Unix(path) => {
            let connected = tokio::time::timeout_at(deadline, tokio::net::UnixStream::connect(path)).await;
            check_connected(connected, health, deadline, "localhost").await
        }
    }
}

async fn check_connected<S: AsyncRead + AsyncWrite + Unpin>(
    connected: Result<io::Result<S>, tokio::time::error::Elapsed>,
    health: &Health,
    deadline: tokio::time::Instant,
    authority: &str,
) -> Outcome {
    let mut socket = match connected {
        Err(_) => return Outcome::ConnectTimeout(health.timeout),
        Ok(Err(error)) => return Outcome::ConnectFailed(error),
        Ok(Ok(socket)) => socket,
    };
    let Some(path) = &health.path else { return Outcome::Connected };
    let request = request(path, health.host.as_deref().unwrap_or(authority));
    match tokio::time::timeout_at(deadline, ask(&mut socket, request.as_bytes())).await {
        Err(_) => Outcome::AnswerTimeout(health.timeout),
        Ok(Err(error)) => Outcome::Broken(error),
        Ok(Ok(outcome)) => outcome,
    }
}

fn request(path: &str, host: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: one-server/health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
}

/// Sends the request and reads up to the end of the final response head; the body does not matter.
async fn ask(socket: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &[u8]) -> io::Result<Outcome> {
    socket.write_all(request).await?;
    let mut input = Vec::with_capacity(1024);
    loop {
        if socket.read_buf(&mut input).await? == 0 {
            return Ok(Outcome::Closed);
        }
        match read_status(&input) {
            Ok(Some(code)) if (200..400).contains(&code) => return Ok(Outcome::Answered(code)),
            Ok(Some(code)) => return Ok(Outcome::Unhealthy(code)),
            Ok(None) if input.len() < HEAD_BYTES_MAX => {}
            Ok(None) | Err(_) => return Ok(Outcome::NotHttp),
        }
    }
}

/// Status of the first final response in `input`; interim ones (RFC 9110 section 15.2) are passed over.
/// `Ok(None)`: not complete yet.
fn read_status(mut input: &[u8]) -> Result<Option<u16>, httparse::Error> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = response.parse(input)? else { return Ok(None) };
        match response.code {
            Some(100 | 102..=199) => input = &input[head_bytes..],
            code => return Ok(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::tests::config;
    use super::*;
    use crate::config::model::Server;

    fn health(path: Option<&str>) -> Health {
        let timeout = Duration::from_millis(300);
        let interval = Duration::from_millis(20);
        Health { path: path.map(str::to_string), host: None, interval, timeout, rise: 2, fall: 2 }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// A server that answers every connection with `answer` once it has read something; `None`: says nothing.
    async fn server(answer: Option<&'static [u8]>) -> Address {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut kept = Vec::new();
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let n = socket.read(&mut request).await.unwrap_or(0);
                assert!(n == 0 || request.starts_with(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
                match answer {
                    Some(answer) => drop(socket.write_all(answer).await),
                    None => kept.push(socket),
                }
            }
        });
        address
    }

    #[test]
    fn every_end_of_a_check_has_its_name() {
        let cases: [(Option<&'static [u8]>, CheckStatus, &str); 9] = [
            (Some(b"HTTP/1.1 200 OK\r\n\r\n"), CheckStatus::HttpOk, "answered 200"),
            (Some(b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\nbody"), CheckStatus::HttpOk, "answered 302"),
            (Some(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No\r\n\r\n"), CheckStatus::HttpOk, "answered 204"),
            (Some(b"HTTP/1.1 503 Busy\r\n\r\n"), CheckStatus::HttpStatus, "answered 503"),
            (Some(b"HTTP/1.1 101 Switching\r\n\r\n"), CheckStatus::HttpStatus, "answered 101"),
            (Some(b"SSH-2.0-OpenSSH\r\n"), CheckStatus::HttpInvalid, "the answer is not HTTP"),
            (Some(b"HTTP/1.1 200 OK\r\n"), CheckStatus::HttpInvalid, "closed without an answer"),
            (Some(&[b'A'; 1]), CheckStatus::HttpInvalid, "the answer is not HTTP"),
            (None, CheckStatus::HttpTimeout, "no answer within 300ms"),
        ];
        block_on(async {
            for (answer, status, text) in cases {
                let outcome = check(&server(answer).await, &health(Some("/healthz"))).await;
                assert_eq!((outcome.status(), outcome.to_string().as_str()), (status, text));
                assert_eq!(outcome.is_ok(), status == CheckStatus::HttpOk);
            }
            let outcome = check(&server(None).await, &health(None)).await;
            assert_eq!(outcome.status(), CheckStatus::Connected);
            let outcome = check(&"127.0.0.1:1".parse().unwrap(), &health(None)).await;
            assert_eq!(
                (outcome.status(), outcome.to_string().as_str()),
                (CheckStatus::ConnectFailed, "connection refused")
            );
        });
    }

    #[test]
    fn an_endless_head_is_given_up() {
        let endless: &'static [u8] =
            Box::leak([&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'a'; 64 * 1024]].concat().into_boxed_slice());
        let outcome = block_on(async { check(&server(Some(endless)).await, &health(Some("/healthz"))).await });
        assert_eq!(outcome.status(), CheckStatus::HttpInvalid);
    }

    #[test]
    fn unix_sockets_are_checked_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        block_on(async {
            let listener = tokio::net::UnixListener::bind(&path).unwrap();
            let outcome = check(&Address::Unix(path.clone()), &health(None)).await;
            assert_eq!(outcome.status(), CheckStatus::Connected);
            drop(listener);
            let outcome = check(&Address::Unix(path), &health(None)).await;
            assert_eq!(outcome.status(), CheckStatus::ConnectFailed);
        });
    }

    /// The whole loop: dead at start, comes up, is published; stops when told.
    #[test]
    fn a_server_goes_down_and_comes_back() {
        block_on(async {
            let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = reserved.local_addr().unwrap();
            drop(reserved);
            let mut config = config();
            config.upstreams[0].health = Some(health(None));
            config.upstreams[0].servers = vec![Server::new(Address::Tcp(address))];
            let shared = Arc::new(Shared::new(Arc::new(config), 1, 0));
            let (stop, stopped) = watch::channel(false);
            let checks = tokio::spawn(run(shared.clone(), 1, stopped));
            let wait_for = async |up: bool| {
                let change = async {
                    while shared.is_up(0, 0) != up {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                };
                tokio::time::timeout(Duration::from_secs(10), change).await.expect("no change in time");
            };
            wait_for(false).await;
            assert_eq!(shared.servers[0][0].failures.value(), 1, "the first check decides");
            assert!(shared.is_up(1, 0), "a server without checks stays up");
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            wait_for(true).await;
            drop(listener);
            wait_for(false).await;
            stop.send(true).unwrap();
            checks.await.unwrap();
            let events: Vec<String> = std::iter::from_fn(|| shared.take_event()).map(|event| event.text).collect();
            let refused = format!("server down upstream=api server={address} reason=\"connection refused\"");
            assert_eq!(events.iter().filter(|text| **text == refused).count(), 2, "{events:?}");
            assert_eq!(events[1], "upstream has no server up upstream=api");
            assert!(events.iter().any(|text| text.starts_with(&format!("server up upstream=api server={address}"))));
        });
    }

    #[test]
    fn nothing_to_check_ends_at_once_and_a_lost_sender_is_a_shutdown() {
        block_on(async {
            let mut config = config();
            config.upstreams[0].health = None;
            let (_stop, stopped) = watch::channel(false);
            let checks = run(Arc::new(Shared::new(Arc::new(config), 1, 0)), 1, stopped);
            tokio::time::timeout(Duration::from_secs(10), checks).await.expect("waits for nothing");
            let (stop, stopped) = watch::channel(false);
            drop(stop);
            run(Arc::new(Shared::new(Arc::new(self::config()), 1, 0)), 1, stopped).await;
        });
    }
}
