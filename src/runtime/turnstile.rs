//! A pause in a long computation in which whatever has come for other tasks is noticed and done.
//!
//! A task that only yields does not let that happen: while there are tasks to run, the runtime does not ask the kernel for
//! completions. What must come from the kernel does: a byte that the worker sends to itself.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::task::Poll;

use super::net::Stream;

/// Belongs to one data worker; one task at a time may pass.
pub struct Turnstile {
    near: RefCell<UnixStream>,
    far: Stream,
}

impl Turnstile {
    /// Must be called on a data worker. Errors: no descriptor is left.
    pub fn new() -> io::Result<Turnstile> {
        let (near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        Ok(Turnstile { near: RefCell::new(near), far: Stream::from_unix(monoio::net::UnixStream::from_std(far)?) })
    }

    /// Returns behind what was ready when it was called: other tasks, and what the kernel has for them.
    pub async fn pass(&self) {
        // The read must be waiting before there is something to read, or it may end at once.
        let mut read = pin!(self.far.read(Vec::with_capacity(1)));
        let is_ready = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx).is_ready())).await;
        if !is_ready && self.near.borrow_mut().write_all(b"\n").is_ok() {
            let (result, _) = read.await;
            debug_assert!(matches!(result, Ok(1)));
        }
    }
}
