//! Tunnels whose client end is one stream of a connection of HTTP/2 or HTTP/3: read, written, both ways.
//!
//! The end of a direction is that of the stream there, and a reset is a reset (RFC 8441 section 5, RFC 9220 section 3). What
//! was taken from the client is given back to its window once the server has it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use super::{Ended, Flow, Meter, Progress, Side, both};
use crate::worker::Worker;
use crate::worker::connection::Broken;
use crate::worker::forward::ServerConnection;
use crate::worker::multiplexed::{Receiver, Stream};
use crate::worker::watch::Watched;

/// Read from the server at once: what a client's window has room for, as a rule, and what its end is cut into.
const READ_BYTES: usize = 16 * 1024;

/// The two ends.
pub(in crate::worker) struct StreamTunnel<'a> {
    pub(in crate::worker) worker: &'a Worker,
    pub(in crate::worker) stream: &'a Stream,
    pub(in crate::worker) server: &'a ServerConnection,
    /// Longest silence in both directions together.
    pub(in crate::worker) idle_timeout: Duration,
    /// The same once one side has ended its direction, if it is shorter.
    pub(in crate::worker) half_closed_timeout: Duration,
    pub(in crate::worker) meter: Meter<'a>,
}

impl StreamTunnel<'_> {
    /// Carries bytes until both directions have ended. `first_down` has been read already.
    pub(in crate::worker) async fn run(&self, receiver: &mut Receiver, first_down: Vec<u8>) -> Flow {
        // The deadline of the exchange is for the client's window.
        let watched = self.worker.watches.watch_alone();
        let both_sides = [&watched, &self.server.watched];
        let progress = Progress::new(both_sides, self.idle_timeout, self.half_closed_timeout, self.meter);
        progress.is_moving();
        let is_cut = Cell::new(false);
        let up = pin!(self.carry_up(receiver, &progress, &is_cut));
        let down = pin!(self.carry_down(first_down, &progress));
        let work = pin!(both(up, down, |end| self.on_end(end, &progress, &is_cut)));
        let on_expiry = || {
            self.cut(&is_cut);
            self.server.break_all();
        };
        until_cut(&watched, &is_cut, on_expiry, work).await;
        self.server.watched.clear();
        Flow { is_timed_out: watched.expired(), ..progress.flow.get() }
    }

    /// One direction has ended.
    fn on_end(&self, end: Ended, progress: &Progress<'_>, is_cut: &Cell<bool>) {
        progress.is_half_closed.set(true);
        match end {
            Ended::Closed => progress.is_moving(),
            // It was we who broke it, and the other direction hears of it.
            Ended::Broken(_) if progress.watched.expired() => {
                self.cut(is_cut);
                self.server.break_all();
            }
            Ended::Broken(side) => {
                let flow = progress.flow.get();
                progress.flow.set(Flow { broken: flow.broken.or(Some(side)), ..flow });
                self.cut(is_cut);
                self.server.abort();
            }
        }
    }

    /// Ends both directions of the stream.
    fn cut(&self, is_cut: &Cell<bool>) {
        is_cut.set(true);
        self.stream.cancel();
    }

    /// Client to server.
    async fn carry_up(&self, receiver: &mut Receiver, progress: &Progress<'_>, is_cut: &Cell<bool>) -> Ended {
        loop {
            let data = match unless(is_cut, receiver.next_tunnelled()).await {
                Some(Ok(Some(data))) => data,
                Some(Ok(None)) => break,
                Some(Err(Broken)) | None => return Ended::Broken(Side::Client),
            };
            progress.on_taken(Side::Client, data.len());
            let (result, buffer) = self.server.write_all(self.worker, Vec::from(data)).await;
            self.worker.hot.give_buffer_back(buffer);
            if result.is_err() {
                return Ended::Broken(Side::Server);
            }
        }
        self.server.end_direction().await;
        Ended::Closed
    }

    /// Server to client.
    async fn carry_down(&self, first: Vec<u8>, progress: &Progress<'_>) -> Ended {
        let mut buffer = first;
        loop {
            if !buffer.is_empty() {
                progress.on_taken(Side::Server, buffer.len());
                let data = Bytes::copy_from_slice(&buffer);
                self.worker.hot.give_buffer_back(std::mem::take(&mut buffer));
                if self.stream.send(self.worker, data, false).await.is_err() {
                    return Ended::Broken(Side::Client);
                }
            }
            // Waits without a buffer.
            if self.server.readable().await.is_err() {
                return Ended::Broken(Side::Server);
            }
            let (result, returned) = self.server.read(self.worker, self.worker.hot.take_buffer(READ_BYTES)).await;
            buffer = returned;
            match result {
                Ok(0) if self.server.watched.is_broken() => return Ended::Broken(Side::Server),
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => return Ended::Broken(Side::Server),
            }
        }
        self.worker.hot.give_buffer_back(buffer);
        match self.stream.send(self.worker, Bytes::new(), true).await {
            Ok(()) => Ended::Closed,
            Err(Broken) => Ended::Broken(Side::Client),
        }
    }
}

/// Runs both directions to their ends, each of which hears when the tunnel is cut. `on_expiry` cuts it at the deadline of `watched`.
pub(super) async fn until_cut(
    watched: &Watched,
    is_cut: &Cell<bool>,
    on_expiry: impl Fn(),
    mut work: Pin<&mut impl Future<Output = ()>>,
) {
    poll_fn(|cx| {
        // It wakes us at its deadline.
        if watched.poll_draining(cx, watched.expired()) && !is_cut.get() {
            on_expiry();
        }
        let was_cut = is_cut.get();
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() && is_cut.get() && !was_cut {
            // The other direction has been asked already, and nothing else tells it.
            cx.waker().wake_by_ref();
        }
        polled
    })
    .await;
}

/// Runs `work` to its end, or until `is_over`.
pub(super) async fn unless<T>(is_over: &Cell<bool>, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| match is_over.get() {
        true => Poll::Ready(None),
        false => work.as_mut().poll(cx).map(Some),
    })
    .await
}
