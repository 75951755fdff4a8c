//! Requests at a constant rate, whatever the server does, and how long each took from the moment when it was due.
//!
//! One thread with epoll and keep-alive connections that take turns. Request number k is due k / rate after the start. When
//! every connection waits for an answer it is sent later, but its time runs since it was due: a server that stalls
//! makes the requests behind it slow too, as it would those of visitors, who do not wait for each other. Prints one line
//! of JSON. `lag` is how late a request left although it was due and a connection was free: the fault of this program or of
//! whoever shares its core, and part of the times all the same.
//!
//! Deliberately absent: TLS, HTTP/2, chunked answers, and going on after an error: one wrong answer ends it.

mod answer_head;
mod common;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use answer_head::{HEAD_BYTES_MAX, head_bytes};
use common::{Flag, PATIENCE, micros, quantile};
use rustix::event::epoll;
use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

const NANOS: u64 = 1_000_000_000;
/// Requests that were due in the first part of a run are no part of the quantiles: the connections are new then, the ones
/// behind a proxy too.
const SETTLING: Duration = Duration::from_millis(200);
/// From connecting to the first request.
const BREATH: Duration = Duration::from_millis(20);
/// Times kept in memory, 4 bytes each.
const REQUESTS_MAX: u64 = 100_000_000;
/// How often we look whether requests have become due, while nothing else wakes us. A timer set anew for each of them would
/// be the dearest part of a request: on a virtual machine every change of the timer is a way out to its host.
const TICK: Duration = Duration::from_micros(50);
/// What epoll calls the timer; connections have their index.
const TIMER: u64 = u64::MAX;
const EVENTS: usize = 256;
const USAGE: &str =
    "usage: steady --connect ADDRESS:PORT --path PATH --body-bytes N --rate N [--connections N] [--seconds N]";

fn main() -> ExitCode {
    common::end(Options::parse(std::env::args().skip(1)).and_then(|options| Run::start(options)?.finish()))
}

/// What the command line says.
#[derive(Debug)]
struct Options {
    connect: SocketAddr,
    path: String,
    body_bytes: usize,
    /// Requests a second, over all connections.
    rate: u64,
    connections: usize,
    seconds: u64,
}

impl Options {
    /// `Err` is a line for the person who typed it.
    fn parse(words: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut connect, mut path, mut body_bytes, mut rate) = (None, None, None, None);
        let (mut connections, mut seconds) = (64, 3);
        for flag in Flag::all(words, &[], USAGE) {
            match flag.name.as_str() {
                "--connect" => connect = Some(flag.address()?),
                "--path" => path = Some(flag.text()?),
                "--body-bytes" => body_bytes = Some(flag.number()? as usize),
                "--rate" => rate = Some(flag.number()?.clamp(1, NANOS)),
                "--connections" => connections = flag.number()?.clamp(1, 60_000) as usize,
                "--seconds" => seconds = flag.number()?.clamp(1, 3_600),
                _ => return Err(flag.unknown()),
            }
        }
        let options = Options {
            connect: connect.ok_or(USAGE)?,
            path: path.ok_or(USAGE)?,
            body_bytes: body_bytes.ok_or(USAGE)?,
            rate: rate.ok_or(USAGE)?,
            connections,
            seconds,
        };
        match options.requests() {
            requests if requests > REQUESTS_MAX => Err(format!("{requests} requests are more than {REQUESTS_MAX}")),
            _ => Ok(options),
        }
    }

    fn request(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", self.path).into_bytes()
    }

    fn requests(&self) -> u64 {
        self.rate * self.seconds
    }

    /// When request `index` is due, in nanoseconds since the start.
    fn due(&self, index: u64) -> u64 {
        (u128::from(index) * u128::from(NANOS) / u128::from(self.rate)) as u64
    }
}

/// One connection.
struct Client {
    socket: TcpStream,
    answer: Vec<u8>,
    /// When the request under way was due, nanoseconds since the start. None: no request is under way.
    due: Option<u64>,
    /// When the last answer was complete, nanoseconds since the start.
    free_since: u64,
}

/// A run under way.
struct Run {
    options: Options,
    request: Vec<u8>,
    epoll: OwnedFd,
    timer: OwnedFd,
    clients: Vec<Client>,
    /// Indexes of the clients without a request; the one that has waited longest is first.
    free: VecDeque<usize>,
    /// Clock at the start, nanoseconds.
    start: u64,
    sent: u64,
    answered: u64,
    bytes: u64,
    /// Of the answers and of the sending, in microseconds; see [`SETTLING`].
    times_us: Vec<u32>,
    lags_us: Vec<u32>,
}

impl Run {
    /// Connects. Errors: a line about what failed.
    fn start(options: Options) -> Result<Run, String> {
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| failed("epoll")(e.into()))?;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)
            .map_err(|e| failed("timer")(e.into()))?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)
            .map_err(|e| failed("epoll")(e.into()))?;
        let mut clients = Vec::with_capacity(options.connections);
        for index in 0..options.connections {
            let socket = TcpStream::connect_timeout(&options.connect, PATIENCE).map_err(failed("connect"))?;
            socket.set_nodelay(true).map_err(failed("TCP_NODELAY"))?;
            socket.set_nonblocking(true).map_err(failed("O_NONBLOCK"))?;
            epoll::add(&epoll, &socket, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)
                .map_err(|e| failed("epoll")(e.into()))?;
            let answer = Vec::with_capacity(options.body_bytes + HEAD_BYTES_MAX);
            clients.push(Client { socket, answer, due: None, free_since: 0 });
        }
        let expected = options.requests() as usize;
        let start = clock() + BREATH.as_nanos() as u64;
        tick(&timer, start, options.rate).map_err(failed("timer"))?;
        Ok(Run {
            request: options.request(),
            epoll,
            timer,
            free: (0..clients.len()).collect(),
            clients,
            start,
            sent: 0,
            answered: 0,
            bytes: 0,
            times_us: Vec::with_capacity(expected),
            lags_us: Vec::with_capacity(expected),
            options,
        })
    }

    /// Offers all requests and takes all answers; the counts as JSON. Errors: a wrong answer, a broken connection, or none
    /// in time.
    fn finish(mut self) -> Result<serde_json::Value, String> {
        let end = self.options.seconds * NANOS + PATIENCE.as_nanos() as u64;
        let mut events = Vec::with_capacity(EVENTS);
        let mut chunk = vec![0; 64 * 1024];
        loop {
            self.send_due()?;
            if self.answered == self.options.requests() {
                return Ok(self.total());
            }
            if self.now() > end {
                let missing = self.options.requests() - self.answered;
                return Err(format!(
                    "{missing} requests had no answer {} s after the last was due",
                    PATIENCE.as_secs()
                ));
            }
            self.sleep(&mut events)?;
            for event in events.drain(..) {
                let tag = event.data.u64();
                match tag {
                    TIMER => self.take_ticks()?,
                    client => self.receive(client as usize, &mut chunk)?,
                }
                self.send_due()?; // between two answers too: that is when a request may have become due
            }
        }
    }

    /// Nanoseconds since the start; 0 before it.
    fn now(&self) -> u64 {
        clock().saturating_sub(self.start)
    }

    /// Sends what is due, as far as connections are free.
    fn send_due(&mut self) -> Result<(), String> {
        while self.sent < self.options.requests() {
            let due = self.options.due(self.sent);
            let Some(now) = clock().checked_sub(self.start).filter(|now| *now >= due) else { return Ok(()) };
            let Some(index) = self.free.pop_front() else { return Ok(()) };
            let client = &mut self.clients[index];
            match client.socket.write(&self.request) {
                Ok(bytes) if bytes == self.request.len() => {}
                Ok(bytes) => return Err(format!("only {bytes} bytes of a request could be sent")),
                Err(error) => return Err(format!("request {}: {error}", self.sent)),
            }
            client.due = Some(due);
            if due >= SETTLING.as_nanos() as u64 {
                self.lags_us.push(micros(Duration::from_nanos(now - due.max(client.free_since))));
            }
            self.sent += 1;
        }
        Ok(())
    }

    /// Until something is to be read, or the timer ticks.
    fn sleep(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), String> {
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(format!("epoll: {error}")),
        }
    }

    /// Without this the timer does not go on.
    fn take_ticks(&self) -> Result<(), String> {
        rustix::io::read(&self.timer, &mut [0; 8]).map(|_| ()).map_err(|error| format!("timer: {error}"))
    }

    /// Reads once, and counts the answer when it is complete.
    fn receive(&mut self, index: usize, chunk: &mut [u8]) -> Result<(), String> {
        let client = &mut self.clients[index];
        match client.socket.read(chunk) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(bytes) => client.answer.extend_from_slice(&chunk[..bytes]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Err(error) => return Err(format!("answer: {error}")),
        }
        let due = client.due.ok_or("bytes that nobody asked for")?;
        if !is_complete(&client.answer, self.options.body_bytes)? {
            return Ok(());
        }
        self.bytes += client.answer.len() as u64;
        client.answer.clear();
        client.due = None;
        client.free_since = clock().saturating_sub(self.start);
        if due >= SETTLING.as_nanos() as u64 {
            self.times_us.push(micros(Duration::from_nanos(client.free_since - due)));
        }
        self.free.push_back(index);
        self.answered += 1;
        Ok(())
    }

    fn total(mut self) -> serde_json::Value {
        let elapsed = self.now();
        self.times_us.sort_unstable();
        self.lags_us.sort_unstable();
        serde_json::json!({
            "requests": self.answered,
            "seconds": elapsed as f64 / NANOS as f64,
            "bytes": self.bytes,
            "p50_us": quantile(&self.times_us, 0.50),
            "p90_us": quantile(&self.times_us, 0.90),
            "p99_us": quantile(&self.times_us, 0.99),
            "p999_us": quantile(&self.times_us, 0.999),
            "max_us": self.times_us.last(),
            "lag_p99_us": quantile(&self.lags_us, 0.99),
        })
    }
}

/// Lets `timer` expire from `start` on (of [`clock`]), at most as often as requests become due.
fn tick(timer: &OwnedFd, start: u64, rate: u64) -> io::Result<()> {
    let interval = (NANOS / rate).max(TICK.as_nanos() as u64);
    let spec = |nanos: u64| Timespec { tv_sec: (nanos / NANOS) as i64, tv_nsec: (nanos % NANOS) as _ };
    let ticks = Itimerspec { it_interval: spec(interval), it_value: spec(start) };
    rustix::time::timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &ticks)?;
    Ok(())
}

/// The clock of the timer, nanoseconds.
fn clock() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * NANOS + now.tv_nsec as u64
}

/// Whether a whole answer is there. Errors: not a 200 whose Content-Length is `body_bytes`, or more than one answer.
fn is_complete(answer: &[u8], body_bytes: usize) -> Result<bool, String> {
    let Some(head) = head_bytes(answer)? else { return Ok(false) };
    if content_length(&answer[..head]) != Some(body_bytes) {
        let head = String::from_utf8_lossy(&answer[..head.min(200)]);
        return Err(format!("not a 200 with Content-Length {body_bytes}: {head:?}"));
    }
    match answer.len() - head {
        length if length > body_bytes => Err(format!("{} bytes behind the answer", length - body_bytes)),
        length => Ok(length == body_bytes),
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn options(words: &str) -> Result<Options, String> {
        Options::parse(words.split_whitespace().map(String::from))
    }

    #[test]
    fn the_command_line_is_read_or_refused_with_a_reason() {
        let line = "--connect 127.0.0.1:1 --path /a --body-bytes 5 --rate 3";
        let taken = options(&format!("{line} --seconds 7")).unwrap();
        assert_eq!((taken.connections, taken.requests()), (64, 21));
        assert_eq!((taken.due(0), taken.due(1), taken.due(3)), (0, 333_333_333, NANOS));
        for (words, reason) in [
            ("", "usage"),
            ("--path", "takes a value"),
            ("--wrong 1", "unknown"),
            ("--rate x", "--rate x"),
            (&format!("{line} --rate 1000000000"), "more than"),
        ] {
            assert!(options(words).unwrap_err().contains(reason), "{words}");
        }
    }

    #[test]
    fn an_answer_is_complete_with_its_last_byte_and_not_before() {
        let answer = b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-LENGTH: 5\r\n\r\n12345";
        for cut in 0..answer.len() {
            assert_eq!(is_complete(&answer[..cut], 5), Ok(false), "cut at {cut}");
        }
        assert_eq!(is_complete(answer, 5), Ok(true));
        for (answer, reason) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1234"[..], "not a 200"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n12345", "not a 200"),
            (b"HTTP/1.1 200 OK\r\n\r\n12345", "not a 200"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234567", "2 bytes behind"),
            (&[b'x'; HEAD_BYTES_MAX], "no end"),
        ] {
            assert!(is_complete(answer, 5).unwrap_err().contains(reason), "{answer:?}");
        }
    }

    /// The reason for this program: a closed loop would see one slow answer here, and say that the p50 is small.
    #[test]
    fn requests_that_wait_behind_a_slow_one_are_slow_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            for index in 0.. {
                if socket.read(&mut request).unwrap() == 0 {
                    return;
                }
                if index == 50 {
                    thread::sleep(Duration::from_millis(700)); // of 1 s: the second half of the requests is due meanwhile
                }
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        });
        let line = format!("--connect {address} --path / --body-bytes 2 --rate 200 --connections 1 --seconds 1");
        let total = Run::start(options(&line).unwrap()).unwrap().finish().unwrap();
        server.join().unwrap();
        assert_eq!(total["requests"], 200);
        assert!(total["seconds"].as_f64().unwrap() >= 0.95, "{total}");
        assert!(total["p50_us"].as_u64().unwrap() > 100_000, "{total}");
        assert!(total["p99_us"].as_u64().unwrap() > 500_000, "{total}");
        assert!(total["max_us"].as_u64().unwrap() >= 690_000, "{total}");
    }

    #[test]
    fn a_server_that_leaves_ends_the_run() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = format!("--connect {} --path / --body-bytes 2 --rate 9", listener.local_addr().unwrap());
        let server = thread::spawn(move || drop(listener.accept().unwrap()));
        let outcome = Run::start(options(&format!("{line} --connections 1")).unwrap()).unwrap().finish();
        server.join().unwrap();
        assert!(outcome.is_err());
    }
}
