//! The floor: the least CPU a request can cost on this kernel, measured instead of guessed.
//!
//! One thread and one ring written by hand, with everything the kernel offers for this job: multishot accept into the
//! ring's own file table, multishot receive into provided buffers, completions run only when this thread asks
//! (`SINGLE_ISSUER`, `DEFER_TASKRUN`), one send per burst of requests from memory that never changes.
//! It parses nothing: whatever bytes arrive, each end of a request head is answered with the same 512-byte body. What a
//! server spends above this is its own work, which is what `perf/compare` wants to show. The same program stands
//! behind the proxies there, as a server too cheap to be the bottleneck, at one address of the loopback or, with
//! `--listen 0.0.0.0:PORT`, at all of them.
//!
//! Deliberately not a web server: no request bodies, no HEAD, no `Connection: close`, no deadlines.
//! Needs Linux 6.1 (`io_uring_setup(2)`, `io_uring_register_buf_ring(3)`, `io_uring_prep_multishot_accept_direct(3)`).
#![allow(unsafe_code)] // a ring written by hand is the point of this program; every block states its reason

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// Body of every answer.
const BODY_BYTES: usize = 512;
/// Answers to pipelined requests that leave in one send.
const BURST_MAX: usize = 32;
/// Connections at a time: the size of the ring's file table.
const CONNECTIONS_MAX: u32 = 16_384;
/// Submission queue; the completion queue holds four times as much.
const RING_ENTRIES: u32 = 2_048;
/// Receive buffers shared by all connections. A power of two, see [`BufferRing`].
const BUFFERS: u16 = 1_024;
/// One receive buffer: more than a request head of any load generator.
const BUFFER_BYTES: usize = 2_048;
/// The only buffer group of this ring.
const BUFFER_GROUP: u16 = 0;
/// Connections the kernel may hold before they are accepted.
const BACKLOG: i32 = 4_096;
const USAGE: &str = "usage: floor --listen ADDRESS:PORT [--core N]";

fn main() {
    let outcome = Options::parse(std::env::args().skip(1)).and_then(|options| serve(&options).map_err(describe));
    if let Err(message) = outcome {
        eprintln!("error: {message}");
        std::process::exit(1);
    }
}

/// What the command line says.
#[derive(Debug)]
struct Options {
    listen: SocketAddr,
    core: Option<usize>,
}

impl Options {
    /// `Err` is a line for the person who typed it.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut listen, mut core) = (None, None);
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("`{flag}` takes a value; {USAGE}"))?;
            match flag.as_str() {
                "--listen" => listen = Some(value.parse().map_err(|e| format!("--listen {value}: {e}"))?),
                "--core" => core = Some(value.parse().map_err(|e| format!("--core {value}: {e}"))?),
                _ => return Err(format!("unknown flag `{flag}`; {USAGE}")),
            }
        }
        Ok(Options { listen: listen.ok_or(USAGE)?, core })
    }
}

/// Adds what to do to the errors that have a known cause.
fn describe(error: io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => format!("{error}: io_uring is switched off here, see `sysctl kernel.io_uring_disabled`"),
        Some(libc::EINVAL) => format!("{error}: this kernel lacks a ring feature, Linux 6.1 has them all"),
        _ => error.to_string(),
    }
}

/// Serves until the process is killed. `Err`: the socket or the ring could not be made, or the ring broke.
fn serve(options: &Options) -> io::Result<()> {
    if let Some(core) = options.core {
        let mut cores = rustix::thread::CpuSet::new();
        if core >= rustix::thread::CpuSet::MAX_CPU {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no core {core}")));
        }
        cores.set(core);
        rustix::thread::sched_setaffinity(None, &cores)?;
    }
    let listener = listen(options.listen)?;
    println!("listening on {} with io_uring (single issuer, deferred task run)", listener.local_addr()?);
    Responder::new(listener)?.run()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.ip().is_unspecified() {
        socket.bind_device(Some(b"lo"))?; // every address of the loopback, and none of the machine
    }
    socket.set_tcp_nodelay(true)?; // accepted sockets inherit it, so it costs nothing per connection
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What a completion belongs to. Travels through the kernel as `user_data`: the kind above bit 32, the slot below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Accept,
    Receive { slot: u32 },
    Send { slot: u32 },
    Close { slot: u32 },
}

impl Operation {
    fn to_user_data(self) -> u64 {
        let (kind, slot) = match self {
            Operation::Accept => (0, 0),
            Operation::Receive { slot } => (1, slot),
            Operation::Send { slot } => (2, slot),
            Operation::Close { slot } => (3, slot),
        };
        (kind << 32) | u64::from(slot)
    }

    fn from_user_data(user_data: u64) -> Operation {
        let slot = user_data as u32; // the low half, by construction
        match user_data >> 32 {
            0 => Operation::Accept,
            1 => Operation::Receive { slot },
            2 => Operation::Send { slot },
            3 => Operation::Close { slot },
            kind => unreachable!("user_data of kind {kind} was never submitted"),
        }
    }
}

/// One accepted connection, found by its slot in the ring's file table.
#[derive(Clone, Copy, Default)]
struct Connection {
    heads: HeadEnds,
    /// Requests seen and not yet handed to a send.
    owed: usize,
    /// The kernel holds a send of ours.
    sending: bool,
    /// The kernel holds our multishot receive. Closing waits until it gave back both.
    receiving: bool,
    /// Nothing more will be sent: the peer left, or a send failed.
    over: bool,
}

/// Counts ends of request heads (CR LF CR LF) across receives.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct HeadEnds {
    /// How many bytes of the pattern the input so far ends with, 0 to 3.
    matched: u8,
}

impl HeadEnds {
    const PATTERN: &[u8; 4] = b"\r\n\r\n";

    /// How many heads end inside `input`, which follows directly on the input of the call before.
    fn count(&mut self, input: &[u8]) -> usize {
        let (mut ends, mut rest) = (0, input);
        loop {
            if self.matched == 0 {
                match memchr::memchr(b'\r', rest) {
                    Some(at) => rest = &rest[at..],
                    None => return ends,
                }
            }
            let Some((&byte, tail)) = rest.split_first() else { return ends };
            rest = tail;
            if byte != Self::PATTERN[usize::from(self.matched)] {
                self.matched = u8::from(byte == b'\r');
            } else if self.matched == 3 {
                self.matched = 0;
                ends += 1;
            } else {
                self.matched += 1;
            }
        }
    }
}

/// The ring, the connections and the memory the kernel reads and writes.
struct Responder {
    ring: IoUring,
    listener: TcpListener,
    connections: Vec<Connection>,
    buffers: BufferRing,
    /// [`BURST_MAX`] times the same answer; a send takes as many as are owed. Leaked on purpose: sends in flight
    /// point into it until the process ends.
    answers: &'static [u8],
    answer_bytes: usize,
    /// Operations decided while completions are read, submitted together with the next wait.
    backlog: Vec<squeue::Entry>,
    /// The kernel holds our multishot accept.
    accepting: bool,
    /// Every slot is taken: the kernel gave up accepting, and there is no use in asking again before a close.
    full: bool,
}

impl Responder {
    fn new(listener: TcpListener) -> io::Result<Responder> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(RING_ENTRIES * 4)
            .build(RING_ENTRIES)?;
        ring.submitter().register_files_sparse(CONNECTIONS_MAX)?;
        let buffers = BufferRing::register(&ring)?;
        let answer = answer();
        Ok(Responder {
            ring,
            listener,
            connections: vec![Connection::default(); CONNECTIONS_MAX as usize],
            buffers,
            answers: answer.repeat(BURST_MAX).leak(),
            answer_bytes: answer.len(),
            backlog: Vec::with_capacity(RING_ENTRIES as usize),
            accepting: false,
            full: false,
        })
    }

    /// One turn: hand over what was decided, wait for at least one completion, decide on all that are there.
    fn run(mut self) -> io::Result<()> {
        loop {
            if !self.accepting && !self.full {
                self.accepting = true;
                let accept = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd())).allocate_file_index(true);
                self.plan(Operation::Accept, accept.build());
            }
            self.hand_over()?;
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                // EBUSY: completions overflowed; reading them is the remedy.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
                Err(error) => return Err(error),
            }
            while let Some(completion) = self.next_completion() {
                self.on_completion(&completion)?;
            }
        }
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    fn plan(&mut self, operation: Operation, entry: squeue::Entry) {
        self.backlog.push(entry.user_data(operation.to_user_data()));
    }

    /// Moves the planned operations into the submission queue; submits in between when they are more than it holds.
    fn hand_over(&mut self) -> io::Result<()> {
        for entry in self.backlog.drain(..) {
            // SAFETY: the pointers inside are into `answers`, leaked, or none at all; receives name the buffer group,
            // whose memory is never freed.
            while unsafe { self.ring.submission().push(&entry) }.is_err() {
                self.ring.submit()?;
            }
        }
        Ok(())
    }

    /// `Err`: this kernel cannot accept the way we ask it to.
    fn on_completion(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let (result, flags) = (completion.result(), completion.flags());
        match Operation::from_user_data(completion.user_data()) {
            Operation::Accept => self.on_accept(result, flags)?,
            Operation::Receive { slot } => self.on_receive(slot, result, flags),
            Operation::Send { slot } => {
                let connection = &mut self.connections[slot as usize];
                connection.sending = false;
                connection.over |= result < 0;
                self.advance(slot);
            }
            Operation::Close { .. } => self.full = false,
        }
        Ok(())
    }

    fn on_accept(&mut self, result: i32, flags: u32) -> io::Result<()> {
        self.accepting = cqueue::more(flags);
        match u32::try_from(result) {
            Ok(slot) => {
                self.connections[slot as usize] = Connection { receiving: true, ..Connection::default() };
                self.plan_receive(slot);
            }
            Err(_) if result == -libc::ENFILE => self.full = true,
            Err(_) if result == -libc::EINVAL || result == -libc::EBADF => {
                return Err(io::Error::from_raw_os_error(-result));
            }
            Err(_) => {} // the peer left before it was accepted: nothing to do
        }
        Ok(())
    }

    fn on_receive(&mut self, slot: u32, result: i32, flags: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.receiving = cqueue::more(flags);
        if let Some(buffer) = cqueue::buffer_select(flags) {
            let bytes = usize::try_from(result).unwrap_or(0);
            connection.owed += connection.heads.count(self.buffers.filled(buffer, bytes));
            self.buffers.give_back(buffer);
        }
        connection.over |= result == 0 || (result < 0 && result != -libc::ENOBUFS);
        if !connection.receiving && !connection.over {
            connection.receiving = true;
            self.plan_receive(slot); // the kernel ran out of buffers or ended the multishot for reasons of its own
        }
        self.advance(slot);
    }

    fn plan_receive(&mut self, slot: u32) {
        self.plan(Operation::Receive { slot }, opcode::RecvMulti::new(Fixed(slot), BUFFER_GROUP).build());
    }

    /// Sends what is owed, or closes once the connection is over and the kernel has given every operation back.
    fn advance(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.sending {
            return;
        }
        if connection.over {
            if !connection.receiving {
                self.plan(Operation::Close { slot }, opcode::Close::new(Fixed(slot)).build());
            }
            return;
        }
        if connection.owed == 0 {
            return;
        }
        let burst = connection.owed.min(BURST_MAX);
        connection.owed -= burst;
        connection.sending = true;
        let answers = &self.answers[..burst * self.answer_bytes];
        // MSG_WAITALL: the kernel finishes a short send itself, so a completion means all of it or an error.
        let send = opcode::Send::new(Fixed(slot), answers.as_ptr(), answers.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL);
        self.plan(Operation::Send { slot }, send.build());
    }
}

/// Head and body of the one answer: printable, and the same at every start.
fn answer() -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY_BYTES}\r\n\r\n").into_bytes();
    answer.extend((0..BODY_BYTES).map(|i| if i % 64 == 63 { b'\n' } else { b'a' + (i % 26) as u8 }));
    answer
}

/// Buffers the kernel picks from when bytes arrive: a ring of descriptors it reads, whose tail we write.
///
/// Layout by `io_uring_register_buf_ring(3)`: [`BUFFERS`] descriptors of 16 bytes, the tail overlaid on the last two
/// bytes of the first one. Neither descriptors nor buffers are ever freed: the ring lives as long as the process.
struct BufferRing {
    descriptors: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
}

impl BufferRing {
    fn register(ring: &IoUring) -> io::Result<BufferRing> {
        let descriptors = page_aligned(usize::from(BUFFERS) * size_of::<BufRingEntry>());
        let memory = page_aligned(usize::from(BUFFERS) * BUFFER_BYTES);
        // SAFETY: `descriptors` is page aligned, zeroed, large enough for BUFFERS entries and never freed.
        unsafe { ring.submitter().register_buf_ring(descriptors.as_ptr() as u64, BUFFERS, BUFFER_GROUP)? };
        let mut buffers = BufferRing { descriptors: descriptors.cast(), memory, tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        Ok(buffers)
    }

    /// What the kernel wrote to `buffer`: `bytes` of it. Only between its completion and [`BufferRing::give_back`].
    fn filled(&self, buffer: u16, bytes: usize) -> &[u8] {
        assert!(buffer < BUFFERS && bytes <= BUFFER_BYTES, "the kernel filled a buffer we never gave it");
        // SAFETY: inside `memory` by the line above, zeroed at birth, and ours until the buffer is given back, which
        // needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(usize::from(buffer) * BUFFER_BYTES), bytes) }
    }

    /// Lets the kernel fill `buffer` again.
    fn give_back(&mut self, buffer: u16) {
        assert!(buffer < BUFFERS, "there is no buffer {buffer}");
        // SAFETY: inside `memory` by the line above.
        let address = unsafe { self.memory.as_ptr().add(usize::from(buffer) * BUFFER_BYTES) };
        // SAFETY: the index is below BUFFERS, and the kernel reads this descriptor only once the tail says so.
        let descriptor = unsafe { &mut *self.descriptors.as_ptr().add(usize::from(self.tail % BUFFERS)) };
        descriptor.set_addr(address as u64);
        descriptor.set_len(BUFFER_BYTES as u32);
        descriptor.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is the eighth u16 of the first descriptor, aligned, alive, and written here only.
        let tail = unsafe { &*self.descriptors.as_ptr().cast::<AtomicU16>().add(7) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Zeroed memory that starts on a page and is never freed.
fn page_aligned(bytes: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(bytes, 4096).expect("a few megabytes, aligned to a page");
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_counted_wherever_the_input_is_cut() {
        let inputs: [(&[u8], usize); 5] = [
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
            (b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\nGET", 2),
            (b"\r\r\n\r\r\n\r\n\r\n", 1),
            (b"no head at all", 0),
            (b"\r\n\r\n\r\n\r\n", 2),
        ];
        for (input, expected) in inputs {
            for cut in 0..=input.len() {
                let mut heads = HeadEnds::default();
                let count = heads.count(&input[..cut]) + heads.count(&input[cut..]);
                assert_eq!(count, expected, "{:?} cut at {cut}", String::from_utf8_lossy(input));
            }
        }
    }

    #[test]
    fn an_operation_survives_its_way_through_the_kernel() {
        for slot in [0, 1, CONNECTIONS_MAX, u32::MAX] {
            for operation in [Operation::Receive { slot }, Operation::Send { slot }, Operation::Close { slot }] {
                assert_eq!(Operation::from_user_data(operation.to_user_data()), operation);
            }
        }
        assert_eq!(Operation::from_user_data(Operation::Accept.to_user_data()), Operation::Accept);
    }

    #[test]
    fn options_need_an_address() {
        let parse = |line: &str| Options::parse(line.split_whitespace().map(String::from));
        let options = parse("--listen 127.0.0.1:80 --core 1").unwrap();
        assert_eq!((options.listen.port(), options.core), (80, Some(1)));
        for line in ["", "--core 1", "--listen nowhere", "--listen", "--port 80"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
