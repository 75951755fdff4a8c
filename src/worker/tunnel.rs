//! Bytes both ways between a client and a server that speak something else than HTTP by now.
//!
//! Each direction reads, then writes what it read, then reads again: a slow side slows the other down, and what is under
//! way is one buffer for each. While nothing comes no buffer is held. Silence in both directions ends the tunnel, the end
//! of one direction is passed on and the other goes on (RFC 6455 section 7.1.1 wants it so), an error breaks both.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::Worker;
use super::connection::Connection;
use super::forward::ServerConnection;
use super::watch::OnExpiry;

/// Longest silence once one side has ended its direction: HAProxy's `client-fin` and `server-fin`.
const HALF_CLOSED_IDLE_MAX: Duration = Duration::from_secs(30);

/// First size of a read; one that is filled is followed by larger ones.
const SMALL_READ_BYTES: usize = 4 * 1024;

/// What went through a tunnel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    /// Bytes from the client.
    pub(super) up_bytes: u64,
    /// Bytes from the server.
    pub(super) down_bytes: u64,
    /// Nothing came for too long.
    pub(super) is_timed_out: bool,
}

/// The two ends.
pub(super) struct Tunnel<'a> {
    pub(super) worker: &'a Worker,
    pub(super) connection: &'a Connection,
    pub(super) server: &'a ServerConnection,
    /// Longest silence in both directions together.
    pub(super) idle_timeout: Duration,
}

impl Tunnel<'_> {
    /// Carries bytes until both directions have ended. `first_up` and `first_down` have been read already.
    pub(super) async fn run(&self, first_up: Vec<u8>, first_down: Vec<u8>) -> Flow {
        let (flow, is_half_closed) = (Cell::new(Flow::default()), Cell::new(false));
        self.connection.separate_writes(self.worker);
        self.server.watched.clear();
        self.connection.watched.clear();
        let busy = || {
            let idle =
                if is_half_closed.get() { self.idle_timeout.min(HALF_CLOSED_IDLE_MAX) } else { self.idle_timeout };
            self.connection.watched.set(idle, OnExpiry::BreakAll);
        };
        busy();
        let up = pin!(self.up(first_up, |count| {
            flow.set(Flow { up_bytes: flow.get().up_bytes + count as u64, ..flow.get() });
            busy();
        }));
        let down = pin!(self.down(first_down, |count| {
            flow.set(Flow { down_bytes: flow.get().down_bytes + count as u64, ..flow.get() });
            busy();
        }));
        let ended = |end: Ended| {
            is_half_closed.set(true);
            match end {
                Ended::Closed => busy(),
                // Every operation in the kernel has to come back before anything is closed.
                Ended::Broken => {
                    self.connection.stream.breaker().break_all();
                    self.server.break_all();
                }
            }
        };
        both(up, down, ended).await;
        let is_timed_out = self.connection.watched.expired();
        self.connection.watched.clear();
        Flow { is_timed_out, ..flow.get() }
    }

    /// Client to server.
    async fn up(&self, first: Vec<u8>, moved: impl Fn(usize)) -> Ended {
        let mut buffer = first;
        let mut is_bulk = false;
        loop {
            if !buffer.is_empty() {
                moved(buffer.len());
                let (result, returned) = self.server.write_all(self.worker, buffer).await;
                buffer = returned;
                if result.is_err() {
                    return Ended::Broken;
                }
            }
            if !is_bulk {
                self.worker.hot.give_buffer_back(std::mem::take(&mut buffer));
                if self.connection.readable().await.is_err() {
                    return Ended::Broken;
                }
            }
            buffer = self.room(buffer, is_bulk);
            let (result, returned) = self.connection.read(self.worker, buffer).await;
            buffer = returned;
            match result {
                Ok(0) if self.connection.watched.is_broken() => return Ended::Broken,
                Ok(0) => break,
                Ok(_) => is_bulk = buffer.len() == buffer.capacity(),
                Err(_) => return Ended::Broken,
            }
        }
        self.worker.hot.give_buffer_back(buffer);
        self.server.end_direction().await;
        Ended::Closed
    }

    /// Server to client.
    async fn down(&self, first: Vec<u8>, moved: impl Fn(usize)) -> Ended {
        let mut buffer = first;
        let mut is_bulk = false;
        loop {
            if !buffer.is_empty() {
                moved(buffer.len());
                match self.connection.send(self.worker, buffer).await {
                    Ok(returned) => buffer = returned,
                    Err(_) => return Ended::Broken,
                }
            }
            if !is_bulk {
                self.worker.hot.give_buffer_back(std::mem::take(&mut buffer));
                if self.server.readable().await.is_err() {
                    return Ended::Broken;
                }
            }
            buffer = self.room(buffer, is_bulk);
            let (result, returned) = self.server.read(self.worker, buffer).await;
            buffer = returned;
            match result {
                Ok(0) if self.connection.watched.is_broken() => return Ended::Broken,
                Ok(0) => break,
                Ok(_) => is_bulk = buffer.len() == buffer.capacity(),
                Err(_) => return Ended::Broken,
            }
        }
        self.worker.hot.give_buffer_back(buffer);
        self.connection.end_direction(HALF_CLOSED_IDLE_MAX).await;
        Ended::Closed
    }

    /// An empty buffer for the next read.
    fn room(&self, mut buffer: Vec<u8>, is_bulk: bool) -> Vec<u8> {
        let bytes = if is_bulk { self.worker.config.process.stream_buffer_bytes } else { SMALL_READ_BYTES };
        buffer.clear();
        if buffer.capacity() < bytes {
            self.worker.hot.give_buffer_back(buffer);
            buffer = self.worker.hot.take_buffer(bytes);
        }
        buffer
    }
}

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Its sender has no more to say, and its receiver was told so.
    Closed,
    /// It broke, or took too long.
    Broken,
}

/// Runs both to their ends; `ended` hears of each.
async fn both(
    mut one: Pin<&mut impl Future<Output = Ended>>,
    mut other: Pin<&mut impl Future<Output = Ended>>,
    ended: impl Fn(Ended),
) {
    let (mut one_runs, mut other_runs) = (true, true);
    poll_fn(|cx| {
        if one_runs && let Poll::Ready(end) = one.as_mut().poll(cx) {
            one_runs = false;
            ended(end);
        }
        if other_runs && let Poll::Ready(end) = other.as_mut().poll(cx) {
            other_runs = false;
            ended(end);
        }
        if one_runs || other_runs { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}
