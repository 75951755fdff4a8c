//! What crosses between data workers and application workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::{RequestInfo, TunnelEnd};
use crate::http::h1::RequestHead;
use crate::runtime::body::BodyReceiver;

/// Names a request in flight by slot and generation, so that a late answer cannot touch the slot's next owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The generation of each slot of one data worker. The data worker writes; application workers look whether a request
/// is still wanted.
#[derive(Debug)]
pub(crate) struct Tickets {
    generations: Box<[AtomicU32]>,
}

impl Tickets {
    pub(crate) fn new(slots: usize) -> Tickets {
        Tickets { generations: (0..slots).map(|_| AtomicU32::new(0)).collect() }
    }

    pub(crate) fn slots(&self) -> usize {
        self.generations.len()
    }

    pub(crate) fn generation(&self, slot: u32) -> u32 {
        self.generations[slot as usize].load(Ordering::Acquire)
    }

    /// Ends the slot's present generation. Only its data worker may call it.
    pub(crate) fn retire(&self, slot: u32) {
        let generation = &self.generations[slot as usize];
        generation.store(generation.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// True while somebody waits for the answer.
    pub(crate) fn is_wanted(&self, ticket: Ticket) -> bool {
        self.generation(ticket.slot) == ticket.generation
    }
}

/// A request on its way to an application worker.
///
/// The queue, whose room is made once at the start, moves it as it is, 256 bytes, and no descriptor of a slot in which it lies. A slot
/// could be used again only when nobody looks into it any more, and nobody here knows that: the target and the values of the fields
/// that the application gets share the memory of `bytes`, and it may keep them behind its answer or give them to another thread. So
/// everything has one owner at a time, and the last one frees it. From the data worker come `bytes`, the fields of `head`, and a body
/// where there is one: the fields are freed by the application worker when it has made the request of them, `bytes` with the last
/// value that shares it, wherever that is. Back come the fields of the answer and its body, which the data worker frees when they are
/// sent. What is freed on another thread goes back to the heap that it is of without a lock (mimalloc). `tests/app_allocations.rs` counts
/// what a request takes.
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    /// Data worker that waits for the answer.
    pub(crate) origin: usize,
    /// Application, index into the config.
    pub(crate) app: usize,
    /// The head as read, and the positions in it.
    pub(crate) bytes: Bytes,
    pub(crate) head: RequestHead,
    pub(crate) body: JobBody,
    /// The client asks for another protocol, which goes on here once the application agrees.
    pub(crate) tunnel: Option<TunnelEnd>,
    pub(crate) info: RequestInfo,
}

/// Body of a [`Job`].
pub(crate) enum JobBody {
    Full(Bytes),
    Stream { receiver: BodyReceiver, length: Option<u64> },
}

/// The answer to a [`Job`].
pub(crate) struct Reply {
    pub(crate) ticket: Ticket,
    pub(crate) app_worker: usize,
    pub(crate) head: Result<ReplyHead, Lost>,
}

/// Why no answer comes: the worker has failed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Before the application has seen the request: another worker may have it.
    Unbegun,
    /// While the application worked on it.
    Begun,
}

/// Head of an answer, ready to be sent.
pub(crate) struct ReplyHead {
    pub(crate) status: u16,
    /// `Name: value\r\n` for every field but those of framing, connection and Date.
    pub(crate) fields: Vec<u8>,
    pub(crate) has_date: bool,
    pub(crate) has_server: bool,
    /// Content-Length as the application knows it.
    pub(crate) length: Option<u64>,
    pub(crate) body: ReplyBody,
    /// The application failed, and this is not an answer of its own.
    pub(crate) is_failure: bool,
}

/// Body of a [`ReplyHead`].
pub(crate) enum ReplyBody {
    Full(Bytes),
    Stream(BodyReceiver),
    /// None: the application agrees to the protocol that the client asked for, and the tunnel is open.
    Tunnel,
}

/// What application workers know of all data workers: where answers go, and which requests are still wanted.
pub(crate) struct Origin {
    pub(crate) replies: crate::runtime::mailbox::Sender<Reply>,
    pub(crate) tickets: Arc<Tickets>,
}
