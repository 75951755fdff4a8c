//! splice(2): bytes from one socket to another through a pipe, without a copy through the process; and the same by a copy
//! for what is small. All of it on sockets that are in non-blocking mode ([`NonBlocking`]), at once or not at all.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::sendfile::NonBlocking;

/// Size asked for, in bytes: four times what Linux gives by itself, so that a burst needs a quarter of the calls. Where the
/// user's share of pipe memory is used up (`pipe-user-pages-soft`: pipe(7)) the kernel gives less, and says nothing.
const PIPE_BYTES: usize = 256 * 1024;

/// A pipe that is smaller costs more calls than a copy: beyond that share new ones have two pages.
const PIPE_BYTES_MIN: usize = 64 * 1024;

/// No new pipe is asked for so long after one was too small, unless one of ours is closed before.
const SHORTAGE_TIME: Duration = Duration::from_secs(1);

/// A pipe that lies between two sockets.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// In it now.
    bytes: usize,
}

impl Pipe {
    /// One with room for about `bytes`; `None`: it would be smaller than is of use.
    ///
    /// Errors: what pipe2(2) and fcntl(2) report.
    fn new(bytes: usize) -> io::Result<Option<Pipe>> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // What comes of it is looked at.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, bytes);
        let is_of_use = rustix::pipe::fcntl_getpipe_size(&write)? >= PIPE_BYTES_MIN;
        Ok(is_of_use.then_some(Pipe { read, write, bytes: 0 }))
    }
}

/// The pipes of one data worker. A connection holds one only while bytes are in it.
#[derive(Debug)]
pub struct Pipes {
    idle: RefCell<Vec<Pipe>>,
    /// Those that are lent included.
    open: Cell<usize>,
    open_max: Cell<usize>,
    /// What new ones are asked to have room for.
    pipe_bytes: Cell<usize>,
    /// Since when new ones are too small.
    short_since: Cell<Option<Instant>>,
}

/// Idle pipes kept for the next burst. Bursts of one worker end one after the other, so that more are seldom needed.
const IDLE_MAX: usize = 16;

impl Pipes {
    /// None yet; at most `open_max` at once.
    pub fn new(open_max: usize) -> Pipes {
        Pipes {
            idle: RefCell::default(),
            open: Cell::new(0),
            open_max: Cell::new(open_max),
            pipe_bytes: Cell::new(PIPE_BYTES),
            short_since: Cell::new(None),
        }
    }

    /// From now on at most `open_max`: idle ones beyond it are closed, those that are lent when they come back.
    pub fn set_max(&self, open_max: usize) {
        self.open_max.set(open_max);
        let mut idle = self.idle.borrow_mut();
        while self.open.get() > open_max && idle.pop().is_some() {
            self.open.set(self.open.get() - 1);
        }
    }

    /// An empty pipe; `None`: too many hold bytes, or the process has no descriptors or pipe memory left. The caller copies
    /// instead.
    pub fn lend(&self) -> Option<LentPipe<'_>> {
        let idle = self.idle.borrow_mut().pop();
        let pipe = match idle {
            Some(pipe) => pipe,
            None if self.open.get() >= self.open_max.get() => return None,
            None => self.make()?,
        };
        Some(LentPipe { pipes: self, pipe: Some(pipe) })
    }

    fn make(&self) -> Option<Pipe> {
        if self.short_since.get().is_some_and(|since| since.elapsed() < SHORTAGE_TIME) {
            return None;
        }
        let made = Pipe::new(self.pipe_bytes.get()).ok()?;
        self.short_since.set(made.is_none().then(Instant::now));
        self.open.set(self.open.get() + usize::from(made.is_some()));
        made
    }

    /// Pipes open now.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// Those of them that nobody has.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }
}

/// A pipe on loan. Dropping it gives it back if it is empty; else what is in it is lost.
#[derive(Debug)]
pub struct LentPipe<'a> {
    pipes: &'a Pipes,
    /// `None` only while it is dropped.
    pipe: Option<Pipe>,
}

impl LentPipe<'_> {
    fn pipe(&mut self) -> &mut Pipe {
        self.pipe.as_mut().expect("present until dropped")
    }

    /// In it now.
    pub fn bytes(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.bytes)
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }
}

impl Drop for LentPipe<'_> {
    fn drop(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        let mut idle = self.pipes.idle.borrow_mut();
        let is_wanted = idle.len() < IDLE_MAX && self.pipes.open.get() <= self.pipes.open_max.get();
        if pipe.bytes == 0 && is_wanted {
            idle.push(pipe);
        } else {
            self.pipes.open.set(self.pipes.open.get() - 1);
            // Its memory is free.
            self.pipes.short_since.set(None);
        }
    }
}

/// What a call that does not wait has come to.
fn at_once(result: rustix::io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl NonBlocking<'_> {
    /// Reads what is there; `Some(0)`: the other side has closed its direction, `None`: nothing is there now.
    ///
    /// Errors: what recv(2) reports.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        at_once(rustix::net::recv(self.socket(), buffer, RecvFlags::DONTWAIT).map(|(bytes, _)| bytes))
    }

    /// Writes as much of `bytes` as the socket takes now, and returns how much; 0: nothing.
    ///
    /// Errors: what send(2) reports.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_with(bytes, SendFlags::empty())
    }

    /// The same for a few bytes that are to leave with what is written next, which must follow at once.
    ///
    /// Errors: as above.
    pub fn try_write_ahead(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_with(bytes, SendFlags::MORE)
    }

    fn try_write_with(&self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        let flags = flags | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        at_once(rustix::net::send(self.socket(), bytes, flags)).map(Option::unwrap_or_default)
    }

    /// Moves what is there, at most `bytes_max`, into `pipe`, which must be empty. The result is that of
    /// [`NonBlocking::try_read`]; `None` may also mean that the next byte cannot be spliced (urgent data, tcp(7)), though a
    /// read would find something.
    ///
    /// Errors: what splice(2) reports.
    pub fn fill(&self, pipe: &mut LentPipe<'_>, bytes_max: u64) -> io::Result<Option<usize>> {
        let pipe = pipe.pipe();
        assert_eq!(pipe.bytes, 0, "it would wait for room");
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(PIPE_BYTES);
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let moved = at_once(rustix::pipe::splice(self.socket(), None, &pipe.write, None, bytes_max, flags))?;
        pipe.bytes = moved.unwrap_or_default();
        Ok(moved)
    }

    /// Moves what is in `pipe` to the socket, as far as that takes it, and returns how much; 0: nothing.
    ///
    /// Errors: what splice(2) reports.
    pub fn drain(&self, pipe: &mut LentPipe<'_>) -> io::Result<usize> {
        let pipe = pipe.pipe();
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let moved = at_once(rustix::pipe::splice(&pipe.read, None, self.socket(), None, pipe.bytes, flags))?;
        let moved = moved.unwrap_or_default();
        pipe.bytes -= moved;
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    /// Two ends of a TCP connection.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        (near, listener.accept().expect("a connection").0)
    }

    fn pattern(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| ((at * 31) >> 3) as u8).collect()
    }

    #[test]
    fn bytes_go_through_a_pipe_and_nothing_waits() {
        let ((mut sender, from), (to, mut receiver)) = (connection(), connection());
        let (from, to) =
            (NonBlocking::new(from.as_fd()).expect("a socket"), NonBlocking::new(to.as_fd()).expect("a socket"));
        let pipes = Pipes::new(1);
        let mut pipe = pipes.lend().expect("a pipe");
        assert_eq!(from.fill(&mut pipe, u64::MAX).expect("nothing yet"), None);
        let sent = pattern(20_000_000);
        let expect = sent.clone();
        let sending = std::thread::spawn(move || {
            sender.write_all(&sent).expect("it is read");
        });
        let receiving = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(100)); // the socket is full meanwhile
            let mut got = Vec::new();
            receiver.read_to_end(&mut got).expect("it ends");
            got
        });
        let (mut moved, mut full) = (0, 0);
        loop {
            match from.fill(&mut pipe, u64::MAX).expect("it reads") {
                Some(0) => break,
                Some(bytes) => moved += bytes,
                None => std::thread::yield_now(),
            }
            while !pipe.is_empty() {
                if to.drain(&mut pipe).expect("it writes") == 0 {
                    full += 1;
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
        }
        sending.join().expect("sent");
        drop(pipe);
        assert_eq!((moved, pipes.open(), pipes.idle.borrow().len()), (expect.len(), 1, 1));
        assert!(full > 0, "the receiver slept");
        let receiver_socket = to;
        rustix::net::shutdown(receiver_socket.socket(), rustix::net::Shutdown::Write).expect("a socket");
        assert!(receiving.join().expect("received") == expect);
    }

    #[test]
    fn pipes_are_counted_and_kept_when_empty() {
        let pipes = Pipes::new(2);
        let (first, second) = (pipes.lend().expect("one"), pipes.lend().expect("two"));
        assert!(pipes.lend().is_none());
        drop(first);
        assert_eq!(pipes.open(), 2);
        let (mut sender, from) = connection();
        sender.write_all(b"lost").expect("sent");
        let from = NonBlocking::new(from.as_fd()).expect("a socket");
        let mut third = pipes.lend().expect("the first again");
        while from.fill(&mut third, u64::MAX).expect("it reads").is_none() {
            std::thread::yield_now();
        }
        assert!(!third.is_empty());
        drop(third);
        assert_eq!(pipes.open(), 1, "one with bytes in it is closed");
        drop(second);
        assert_eq!(pipes.open(), 1);
    }

    #[test]
    fn a_smaller_limit_closes_what_is_idle_now_and_what_is_lent_later() {
        let pipes = Pipes::new(3);
        let lent = [pipes.lend(), pipes.lend(), pipes.lend()].map(|pipe| pipe.expect("a pipe"));
        let [first, second, third] = lent;
        drop(first);
        pipes.set_max(1);
        assert_eq!((pipes.open(), pipes.idle()), (2, 0));
        assert!(pipes.lend().is_none());
        drop(second);
        assert_eq!((pipes.open(), pipes.idle()), (1, 0));
        drop(third);
        assert_eq!((pipes.open(), pipes.idle()), (1, 1));
        pipes.set_max(0);
        assert_eq!(pipes.open(), 0);
        assert!(pipes.lend().is_none());
        pipes.set_max(1);
        assert!(pipes.lend().is_some());
    }

    #[test]
    fn pipes_that_are_too_small_are_closed_and_not_asked_for_again_at_once() {
        let pipes = Pipes::new(4);
        let (first, second) = (pipes.lend().expect("one"), pipes.lend().expect("two"));
        pipes.pipe_bytes.set(8192);
        assert!(pipes.lend().is_none(), "two pages");
        assert_eq!(pipes.open(), 2);
        pipes.pipe_bytes.set(PIPE_BYTES);
        assert!(pipes.lend().is_none(), "none is asked for yet");
        // One of those that are there does it.
        drop(first);
        let first = pipes.lend().expect("the first again");
        assert!(pipes.lend().is_none());
        // Memory has become free.
        pipes.set_max(1);
        drop(second);
        pipes.set_max(4);
        let second = pipes.lend().expect("a new one");
        // Or some time has passed.
        pipes.short_since.set(Instant::now().checked_sub(SHORTAGE_TIME));
        let third = pipes.lend().expect("a new one");
        assert_eq!(pipes.open(), 3);
        drop((first, second, third));
    }

    /// An urgent byte stops a splice, which would wait for ever in blocking mode; a read goes over it.
    #[test]
    fn urgent_data_stops_a_splice_and_not_a_read() {
        let (sender, from) = connection();
        let from = NonBlocking::new(from.as_fd()).expect("a socket");
        rustix::net::send(&sender, b"!", SendFlags::OOB).expect("sent");
        rustix::net::send(&sender, b"after", SendFlags::empty()).expect("sent");
        std::thread::sleep(std::time::Duration::from_millis(20));
        let pipes = Pipes::new(1);
        let mut pipe = pipes.lend().expect("a pipe");
        assert_eq!(from.fill(&mut pipe, u64::MAX).expect("it does not wait"), None);
        let mut buffer = [0; 16];
        assert_eq!(from.try_read(&mut buffer).expect("it reads"), Some(5));
        assert_eq!(&buffer[..5], b"after");
    }
}
