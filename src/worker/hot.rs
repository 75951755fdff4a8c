//! What a busy connection needs: buffers and a head. An idle one gives them back.

use std::cell::{Cell, RefCell};

use super::exchange::Scratch;
use crate::http::h1::{RequestHead, ResponseHead};

/// Connections of one worker that may hold buffers while they wait for their next request. Beyond it a connection gives
/// its buffers back as soon as it is answered, which costs it one more operation on the ring for each request: the
/// memory of a worker follows what is under way, not the number of its connections.
const WAITING_HOT_MAX: usize = 1024;

/// Response heads kept for reuse.
const RESPONSE_HEADS_MAX: usize = 64;

/// Buffers larger than this are not kept for reuse.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Bytes read from the client and not yet done with.
#[derive(Default)]
pub(super) struct Input {
    pub(super) bytes: Vec<u8>,
    /// First byte of the present message, or where the next one begins.
    pub(super) start: usize,
}

impl Input {
    /// What has been read and not yet been used.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Makes room for at least `room` more bytes behind the unread ones, moving these to the front if needed.
    pub(super) fn make_room(&mut self, room: usize) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.capacity() - self.bytes.len() < room {
            self.bytes.reserve(room.max(self.bytes.len()));
        }
    }
}

/// Buffers of one busy connection.
#[derive(Default)]
pub(super) struct Hot {
    pub(super) input: Input,
    /// Answers not yet sent: several requests of a pipeline leave together.
    pub(super) out: Vec<u8>,
    pub(super) head: RequestHead,
    /// The head's bytes while the input is lent to reads of the body.
    pub(super) head_bytes: Vec<u8>,
    pub(super) scratch: Scratch,
}

impl Hot {
    fn reset(&mut self) {
        self.input.bytes.clear();
        self.input.start = 0;
        self.out.clear();
    }

    fn is_worth_keeping(&self) -> bool {
        self.input.bytes.capacity() <= KEPT_BYTES_MAX && self.out.capacity() <= KEPT_BYTES_MAX
    }
}

/// Buffers of connections that were busy, for those that become so.
#[derive(Default)]
pub(super) struct HotPool {
    #[expect(clippy::vec_box, reason = "moved in and out of futures whole; a Hot is a few hundred bytes")]
    free: RefCell<Vec<Box<Hot>>>,
    read_buffers: RefCell<Vec<Vec<u8>>>,
    response_heads: RefCell<Vec<ResponseHead>>,
    /// Fewest free ones since the last trim: these were not needed.
    spare: Cell<usize>,
    read_buffer_bytes: usize,
    /// Taken and not given back.
    in_use: Cell<usize>,
}

impl HotPool {
    /// `read_buffer_bytes`: first size of a connection's read buffer.
    pub(super) fn new(read_buffer_bytes: usize) -> HotPool {
        HotPool { read_buffer_bytes, ..HotPool::default() }
    }

    /// Buffers for a connection that becomes busy and reads; they come back when the lease is dropped.
    pub(super) fn take(&self) -> Lease<'_> {
        let mut lease = self.take_for_stream();
        let input = &mut lease.buffers().input.bytes;
        input.reserve_exact(self.read_buffer_bytes.saturating_sub(input.len()));
        lease
    }

    /// The same for a stream of HTTP/2, whose connection reads for it.
    pub(super) fn take_for_stream(&self) -> Lease<'_> {
        self.in_use.set(self.in_use.get() + 1);
        let mut free = self.free.borrow_mut();
        let hot = free.pop();
        self.spare.set(self.spare.get().min(free.len()));
        Lease { pool: self, hot: Some(hot.unwrap_or_default()) }
    }

    /// A connection may hold its buffers while it waits for a request.
    pub(super) fn may_wait_hot(&self) -> bool {
        self.in_use.get() <= WAITING_HOT_MAX
    }

    fn give_back(&self, mut hot: Box<Hot>) {
        self.in_use.set(self.in_use.get() - 1);
        if hot.is_worth_keeping() {
            hot.reset();
            self.free.borrow_mut().push(hot);
        }
    }

    /// A buffer with at least `bytes` of capacity, empty.
    pub(super) fn take_buffer(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.read_buffers.borrow_mut().pop().unwrap_or_default();
        buffer.reserve(bytes);
        buffer
    }

    pub(super) fn give_buffer_back(&self, mut buffer: Vec<u8>) {
        if (1..=KEPT_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.read_buffers.borrow_mut().push(buffer);
        }
    }

    /// A response head with a field list that has grown to its usual length; its content is stale.
    pub(super) fn take_response_head(&self) -> ResponseHead {
        self.response_heads.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_response_head_back(&self, head: ResponseHead) {
        let mut heads = self.response_heads.borrow_mut();
        if heads.len() < RESPONSE_HEADS_MAX {
            heads.push(head);
        }
    }

    /// Frees half of what has not been needed since the last call.
    pub(super) fn trim(&self) {
        let mut free = self.free.borrow_mut();
        let keep = free.len() - self.spare.get().min(free.len()).div_ceil(2);
        free.truncate(keep);
        if free.capacity() > 4 * free.len() + 64 {
            free.shrink_to_fit();
        }
        self.spare.set(free.len());
        let mut buffers = self.read_buffers.borrow_mut();
        let keep = buffers.len() - buffers.len().div_ceil(16);
        buffers.truncate(keep);
    }
}

/// Buffers on loan from the pool.
pub(super) struct Lease<'a> {
    pool: &'a HotPool,
    /// `None` only while it is dropped.
    hot: Option<Box<Hot>>,
}

impl Lease<'_> {
    pub(super) fn buffers(&mut self) -> &mut Hot {
        self.hot.as_mut().expect("present until dropped")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(hot) = self.hot.take() {
            self.pool.give_back(hot);
        }
    }
}
