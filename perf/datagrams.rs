//! Questions and answers over UDP, and a server that answers with what it got.
//!
//! Every client is a socket: it asks, waits for the answer, and asks again. One thread with epoll. A question begins with its
//! number, so that an answer that comes late is not taken for that of the next one. What is not answered within a second is
//! lost, and its client goes on. Prints one line of JSON. With `--echo` it is the server, on one blocking socket, until it is
//! stopped.

mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{Flag, PATIENCE, micros, quantile};
use rustix::event::epoll;
use rustix::time::Timespec;

/// Longest wait for an answer.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// How often clients are looked through for such answers.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A run with so many of them is worthless already.
const LOST_MAX: u64 = 100;
/// Bytes of the number that a question begins with.
const NUMBER_BYTES: usize = 8;
const DATAGRAM_BYTES_MAX: usize = 65_507;
const EVENTS: usize = 256;
const USAGE: &str = "usage: datagrams --connect ADDRESS:PORT [--bytes N] [--clients N] [--seconds N]
       datagrams --echo ADDRESS:PORT";

fn main() -> ExitCode {
    common::end(Options::parse(std::env::args().skip(1)).and_then(|options| match options {
        Options::Echo(address) => echo(&bind(address)?),
        Options::Ask(options) => Run::start(&options)?.finish(),
    }))
}

/// What the command line says.
#[derive(Debug)]
enum Options {
    Echo(SocketAddr),
    Ask(Asking),
}

#[derive(Debug)]
struct Asking {
    connect: SocketAddr,
    /// Of a question.
    bytes: usize,
    clients: usize,
    time: Duration,
}

impl Options {
    /// `Err` is a line for the person who typed it.
    fn parse(words: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut connect, mut server, mut bytes, mut clients, mut seconds) = (None, None, 64, 64, 3);
        for flag in Flag::all(words, &[], USAGE) {
            match flag.name.as_str() {
                "--connect" => connect = Some(flag.address()?),
                "--echo" => server = Some(flag.address()?),
                "--bytes" => bytes = (flag.number()? as usize).clamp(NUMBER_BYTES, DATAGRAM_BYTES_MAX),
                "--clients" => clients = flag.number()?.clamp(1, 20_000) as usize,
                "--seconds" => seconds = flag.number()?.clamp(1, 3_600),
                _ => return Err(flag.unknown()),
            }
        }
        match (connect, server) {
            (Some(connect), None) => {
                Ok(Options::Ask(Asking { connect, bytes, clients, time: Duration::from_secs(seconds) }))
            }
            (None, Some(address)) => Ok(Options::Echo(address)),
            _ => Err(USAGE.into()),
        }
    }
}

fn bind(address: SocketAddr) -> Result<UdpSocket, String> {
    UdpSocket::bind(address).map_err(|error| format!("{address}: {error}"))
}

/// Answers until the process is stopped. Errors: the socket is of no use.
fn echo(socket: &UdpSocket) -> Result<serde_json::Value, String> {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match socket.recv_from(&mut buffer) {
            // Of an answer that cannot be sent its client hears in its own time.
            Ok((bytes, peer)) => drop(socket.send_to(&buffer[..bytes], peer)),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionRefused) => {}
            Err(error) => return Err(format!("receive: {error}")),
        }
    }
}

/// One client.
struct Client {
    socket: UdpSocket,
    /// Number of the question under way.
    number: u64,
    asked: Instant,
}

/// A run under way.
struct Run {
    epoll: OwnedFd,
    clients: Vec<Client>,
    question: Vec<u8>,
    answer: Vec<u8>,
    end: Instant,
    time: Duration,
    /// Questions so far.
    asked: u64,
    lost: u64,
    /// Answers that came when they had been given up.
    late: u64,
    times_us: Vec<u32>,
}

impl Run {
    /// Makes the sockets. Errors: a line about what failed.
    fn start(options: &Asking) -> Result<Run, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
        let local = if options.connect.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let now = Instant::now();
        let client = |index: usize| {
            let socket = UdpSocket::bind(local)?;
            socket.connect(options.connect)?;
            socket.set_nonblocking(true)?;
            epoll::add(&epoll, &socket, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
            Ok(Client { socket, number: 0, asked: now })
        };
        let clients: std::io::Result<Vec<_>> = (0..options.clients).map(client).collect();
        Ok(Run {
            clients: clients.map_err(|error| format!("socket: {error}"))?,
            epoll,
            question: (0..options.bytes).map(|at| at as u8).collect(),
            answer: vec![0; options.bytes + 1],
            end: now + options.time,
            time: options.time,
            asked: 0,
            lost: 0,
            late: 0,
            times_us: Vec::new(),
        })
    }

    /// Asks until the time is up; the counts as JSON. Errors: a wrong answer, or nobody who answers.
    fn finish(mut self) -> Result<serde_json::Value, String> {
        (0..self.clients.len()).try_for_each(|index| self.ask(index))?;
        let (begun, mut looked) = (Instant::now(), Instant::now());
        let mut events = Vec::with_capacity(EVENTS);
        while Instant::now() < self.end {
            self.sleep(&mut events)?;
            for event in events.drain(..) {
                self.receive(event.data.u64() as usize)?;
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.look_for_lost()?;
            }
            if self.times_us.is_empty() && begun.elapsed() > PATIENCE.min(self.time) {
                return Err("nobody answers".into());
            }
        }
        Ok(self.total(begun.elapsed()))
    }

    fn sleep(&self, events: &mut Vec<epoll::Event>) -> Result<(), String> {
        let time = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY.subsec_nanos().into() };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(format!("epoll: {error}")),
        }
    }

    fn ask(&mut self, index: usize) -> Result<(), String> {
        self.asked += 1;
        self.question[..NUMBER_BYTES].copy_from_slice(&self.asked.to_be_bytes());
        let client = &mut self.clients[index];
        (client.number, client.asked) = (self.asked, Instant::now());
        match client.socket.send(&self.question) {
            Ok(_) => Ok(()),
            // It counts as lost when its time is up.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => Ok(()),
            Err(error) => Err(format!("question: {error}")),
        }
    }

    fn receive(&mut self, index: usize) -> Result<(), String> {
        let client = &self.clients[index];
        let bytes = match client.socket.recv(&mut self.answer) {
            Ok(bytes) => bytes,
            Err(error) => {
                let is_expected = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused);
                return if is_expected { Ok(()) } else { Err(format!("answer: {error}")) };
            }
        };
        let answer = &self.answer[..bytes];
        if bytes != self.question.len() || answer[NUMBER_BYTES..] != self.question[NUMBER_BYTES..] {
            return Err(format!("an answer of {bytes} bytes is not the question of {}", self.question.len()));
        }
        if answer[..NUMBER_BYTES] != client.number.to_be_bytes() {
            self.late += 1;
            return Ok(());
        }
        self.times_us.push(micros(client.asked.elapsed()));
        self.ask(index)
    }

    fn look_for_lost(&mut self) -> Result<(), String> {
        for index in 0..self.clients.len() {
            if self.clients[index].asked.elapsed() >= LOST_AFTER {
                self.lost += 1;
                self.ask(index)?;
            }
        }
        if self.lost > LOST_MAX { Err(format!("{} questions had no answer", self.lost)) } else { Ok(()) }
    }

    fn total(mut self, elapsed: Duration) -> serde_json::Value {
        self.times_us.sort_unstable();
        serde_json::json!({
            "questions": self.times_us.len(),
            "lost": self.lost,
            "late": self.late,
            "seconds": elapsed.as_secs_f64(),
            "bytes": self.times_us.len() * self.question.len(),
            "p50_us": quantile(&self.times_us, 0.50),
            "p99_us": quantile(&self.times_us, 0.99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Result<Options, String> {
        Options::parse(words.split_whitespace().map(String::from))
    }

    fn asking(to: SocketAddr, words: &str) -> Result<serde_json::Value, String> {
        match options(&format!("--connect {to} --seconds 1 {words}")).unwrap() {
            Options::Ask(options) => Run::start(&options)?.finish(),
            Options::Echo(_) => unreachable!("it says --connect"),
        }
    }

    #[test]
    fn the_command_line_is_read_or_refused_with_a_reason() {
        let taken = options("--connect 127.0.0.1:1 --bytes 1 --clients 3").unwrap();
        assert!(matches!(taken, Options::Ask(Asking { bytes: NUMBER_BYTES, clients: 3, .. })));
        assert!(matches!(options("--echo 127.0.0.1:1"), Ok(Options::Echo(_))));
        for words in ["", "--connect 127.0.0.1:1 --echo 127.0.0.1:1"] {
            assert!(options(words).unwrap_err().starts_with("usage"), "{words}");
        }
        assert!(options("--wrong 1").unwrap_err().contains("unknown"));
    }

    #[test]
    fn every_question_has_its_answer() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || echo(&socket));
        let total = asking(address, "--clients 8 --bytes 100").unwrap();
        let questions = total["questions"].as_u64().unwrap();
        assert!(questions > 100 && total["bytes"] == questions * 100, "{total}");
        assert_eq!((&total["lost"], &total["late"]), (&0.into(), &0.into()));
    }

    #[test]
    fn what_is_lost_or_wrong_is_noticed() {
        let silent = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(asking(silent.local_addr().unwrap(), "").unwrap_err().contains("nobody answers"));
        let short = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = short.local_addr().unwrap();
        std::thread::spawn(move || {
            let (bytes, peer) = short.recv_from(&mut [0; 100]).unwrap();
            short.send_to(&vec![0; bytes - 1], peer).unwrap();
        });
        assert!(asking(address, "--clients 1").unwrap_err().contains("63 bytes"));
    }
}
