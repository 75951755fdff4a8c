//! The path single requests took, for the live page: a bounded queue per data worker, oldest entry dropped.
//!
//! Off unless asked for (`trace` in the config); then a worker pushes one event per request or statement and the
//! control thread takes them out. Nothing waits: a full queue loses its oldest entry.

use std::time::Duration;

use crossbeam::queue::ArrayQueue;

/// One thing that happened to one request.
#[derive(Clone, Debug)]
pub enum TraceEvent {
    /// An HTTP request was answered.
    Request {
        /// Identifier, also sent to servers and applications as `X-Request-Id`.
        request_id: u64,
        /// Data worker that served it.
        data_worker: u16,
        /// Method and path, cut to 128 bytes.
        line: String,
        /// Status sent.
        status: u16,
        /// Head complete to last byte sent.
        duration: Duration,
        /// What answered.
        served_by: ServedBy,
        /// The config whose indexes those are.
        generation: u32,
    },
    /// A statement was answered by the splitter.
    Statement {
        /// Request identifier named in a leading comment `/* request=ID */`, if there is one.
        request_id: Option<u64>,
        /// Data worker that served it.
        data_worker: u16,
        /// Splitter, index into the config.
        splitter: u16,
        /// Server, index into the splitter's.
        backend: u16,
        /// It was the primary.
        primary: bool,
        /// Statement sent to response received.
        duration: Duration,
    },
}

/// What answered an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedBy {
    /// The worker itself: redirect, fixed answer, error.
    Worker,
    /// A file.
    Files,
    /// A server of an upstream (indexes into the config).
    Server {
        /// Upstream index.
        upstream: u16,
        /// Server index.
        server: u16,
    },
    /// An application on an application worker.
    App {
        /// Application index.
        app: u16,
        /// Application worker.
        app_worker: u16,
    },
}

/// Where one data worker leaves its events.
#[derive(Debug)]
pub struct Trace {
    queue: ArrayQueue<TraceEvent>,
}

impl Trace {
    /// Room for `events` entries, at least 1.
    pub fn new(events: usize) -> Trace {
        Trace { queue: ArrayQueue::new(events.max(1)) }
    }

    /// Leaves an event; the oldest goes when there is no room.
    pub fn push(&self, event: TraceEvent) {
        drop(self.queue.force_push(event));
    }

    /// Takes the oldest event.
    pub fn pop(&self) -> Option<TraceEvent> {
        self.queue.pop()
    }
}
