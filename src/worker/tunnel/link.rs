//! Tunnels whose server end ([`far`](super::far)) is one stream of a connection of HTTP/2 (RFC 8441), or an application inside
//! the process: read, written, both ways. The client's end is a connection, or a stream as well.
//!
//! What the server sends goes back to its window once the client has it, and what the client sends waits for the server's: no
//! more than a window is held for each direction. The end of a direction is that of the stream there, and who breaks off resets
//! it (section 5): the halves of a stream that has not ended do so (CANCEL) when they are dropped.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use super::far::{FromServer, ServerEnd, ToServer};
use super::stream::{unless, until_cut};
use super::{Ended, Flow, Meter, Progress, Side, both};
use crate::runtime::time::sleep;
use crate::worker::Worker;
use crate::worker::answer::Presence;
use crate::worker::connection::{Broken, Connection};
use crate::worker::multiplexed::{Receiver, Stream};
use crate::worker::upload::Upload;
use crate::worker::watch::Watched;

/// Read from a client's connection at once.
const READ_BYTES: usize = 16 * 1024;

/// How often a client's connection is looked at that is not read, because the server has no window for what was.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// How long a client may take to leave as well when an application has closed its socket; until then what it says is thrown away,
/// so that it reads what was said to it.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// The client's end.
pub(in crate::worker) enum Client<'a> {
    /// Of HTTP/1.1. `first` has come behind the request.
    Connection {
        connection: &'a Connection,
        first: Bytes,
    },
    Stream {
        stream: &'a Stream,
        receiver: &'a mut Receiver,
    },
}

impl<'a> Client<'a> {
    /// The client of a request that has been agreed to; `None`: nobody asks for another protocol there.
    pub(in crate::worker) fn of(
        connection: &'a Connection,
        upload: &'a mut Upload<'_>,
        presence: Presence<'a>,
    ) -> Option<Client<'a>> {
        match (upload, presence) {
            (Upload::Stream(receiver), Presence::Stream(stream)) => Some(Client::Stream { stream, receiver }),
            (Upload::H1 { body, input }, _) => {
                let first = Bytes::copy_from_slice(&input.bytes[body.end()..]);
                // It is of no more use here, and may be large.
                (input.bytes, input.start) = (Vec::new(), 0);
                Some(Client::Connection { connection, first })
            }
            (Upload::Stream(_) | Upload::Nothing, _) => None,
        }
    }
}

/// How long it may live, and who counts.
pub(in crate::worker) struct LinkTunnel<'a> {
    pub(in crate::worker) worker: &'a Worker,
    /// Longest silence in both directions together.
    pub(in crate::worker) idle_timeout: Duration,
    /// The same once one side has ended its direction, if it is shorter.
    pub(in crate::worker) half_closed_timeout: Duration,
    pub(in crate::worker) meter: Meter<'a>,
}

/// Where what the server says goes.
#[derive(Clone, Copy)]
enum Down<'a> {
    Connection(&'a Connection),
    Stream(&'a Stream),
}

/// Where what the client says comes from.
enum Up<'a> {
    Connection { connection: &'a Connection, first: Bytes },
    Stream(&'a mut Receiver),
}

impl<'a> LinkTunnel<'a> {
    /// Carries bytes until both directions have ended.
    pub(in crate::worker) async fn run(&self, client: Client<'a>, server: ServerEnd) -> Flow {
        let (down, up) = match client {
            Client::Connection { connection, first } => {
                connection.watched.clear();
                connection.separate_writes(self.worker);
                (Down::Connection(connection), Up::Connection { connection, first })
            }
            Client::Stream { stream, receiver } => (Down::Stream(stream), Up::Stream(receiver)),
        };
        let ServerEnd { mut send, mut recv, first } = server;
        let watched = self.worker.watches.watch_alone();
        let both_sides = [&watched, &watched];
        let progress = Progress::new(both_sides, self.idle_timeout, self.half_closed_timeout, self.meter);
        progress.is_moving();
        let is_cut = Cell::new(false);
        let carry_up = pin!(self.carry_up(up, down, &mut send, &progress, &is_cut));
        let carry_down = pin!(self.carry_down(down, first, &mut recv, &progress, &is_cut));
        let work = pin!(both(carry_up, carry_down, |end| on_end(end, down, &progress, &is_cut)));
        until_cut(&watched, &is_cut, || down.cut(&is_cut, true), work).await;
        Flow { is_timed_out: watched.expired(), ..progress.flow.get() }
    }

    /// Client to server.
    async fn carry_up(
        &self,
        mut client: Up<'_>,
        presence: Down<'_>,
        server: &mut ToServer,
        progress: &Progress<'_>,
        is_cut: &Cell<bool>,
    ) -> Ended {
        loop {
            match client.next(self.worker, is_cut).await {
                Err(Broken) => return Ended::Broken(Side::Client),
                Ok(None) => break,
                // What nobody takes is no sign of life.
                Ok(Some(_)) if server.is_deaf() => {}
                Ok(Some(data)) => {
                    progress.on_taken(Side::Client, data.len());
                    let sending = presence.until_gone(progress, server.send(data));
                    match unless(is_cut, sending).await {
                        Some(Some(true)) => {}
                        Some(None) => return Ended::Broken(Side::Client),
                        Some(Some(false)) | None => return Ended::Broken(Side::Server),
                    }
                }
            }
        }
        match server.end() {
            Ok(()) => Ended::Closed,
            Err(Broken) => Ended::Broken(Side::Server),
        }
    }

    /// Server to client.
    async fn carry_down(
        &self,
        client: Down<'_>,
        first: Bytes,
        server: &mut FromServer,
        progress: &Progress<'_>,
        is_cut: &Cell<bool>,
    ) -> Ended {
        let mut data = first;
        loop {
            let count = data.len();
            if count > 0 {
                progress.on_taken(Side::Server, count);
                if client.send(self.worker, data).await.is_err() {
                    return Ended::Broken(Side::Client);
                }
                server.release(count);
            }
            data = match unless(is_cut, server.next()).await {
                Some(Ok(Some(next))) => next,
                Some(Ok(None)) => break,
                Some(Err(Broken)) | None => return Ended::Broken(Side::Server),
            };
        }
        if server.has_left() {
            progress.hurry(LEAVE_MAX);
        }
        match client.end(self.worker, progress.half_closed_timeout.get()).await {
            Ok(()) => Ended::Closed,
            Err(Broken) => Ended::Broken(Side::Client),
        }
    }
}

/// One direction has ended.
fn on_end(end: Ended, client: Down<'_>, progress: &Progress<'_>, is_cut: &Cell<bool>) {
    progress.is_half_closed.set(true);
    match end {
        Ended::Closed => progress.is_moving(),
        // It was we who broke it, and the other direction hears of it.
        Ended::Broken(_) if is_over(progress.watched, is_cut) => client.cut(is_cut, true),
        Ended::Broken(side) => {
            let flow = progress.flow.get();
            progress.flow.set(Flow { broken: flow.broken.or(Some(side)), ..flow });
            client.cut(is_cut, false);
        }
    }
}

fn is_over(watched: &Watched, is_cut: &Cell<bool>) -> bool {
    is_cut.get() || watched.expired()
}

impl Down<'_> {
    /// Ends both directions. Operations on a connection come back by that.
    fn cut(self, is_cut: &Cell<bool>, is_ours: bool) {
        is_cut.set(true);
        match self {
            Down::Stream(stream) => stream.cancel(),
            Down::Connection(connection) if is_ours => connection.stream().breaker().break_all(),
            Down::Connection(connection) => connection.stream().breaker().abort(),
        }
    }

    /// Runs `work` until it ends, or the client has broken off (`None`). One that has merely ended its direction wants what it
    /// has sent to arrive.
    async fn until_gone<T>(self, progress: &Progress<'_>, work: impl Future<Output = T>) -> Option<T> {
        let connection = match self {
            Down::Stream(stream) => return stream.until_gone(work).await,
            Down::Connection(connection) => connection,
        };
        let (mut work, mut reset) = (pin!(work), pin!(until_reset(connection, progress)));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending => reset.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    async fn send(self, worker: &Worker, data: Bytes) -> Result<(), Broken> {
        match self {
            Down::Stream(stream) => stream.send(worker, data, false).await,
            Down::Connection(connection) => connection.send_bytes(worker, data).await,
        }
    }

    /// Ends our direction.
    async fn end(self, worker: &Worker, time: Duration) -> Result<(), Broken> {
        match self {
            Down::Stream(stream) => stream.send(worker, Bytes::new(), true).await,
            Down::Connection(connection) => {
                connection.end_direction(time).await;
                // The other direction has the time of the tunnel.
                connection.watched.clear();
                Ok(())
            }
        }
    }
}

impl Up<'_> {
    /// The next piece; `None` at the end.
    async fn next(&mut self, worker: &Worker, is_cut: &Cell<bool>) -> Result<Option<Bytes>, Broken> {
        match self {
            Up::Stream(receiver) => unless(is_cut, receiver.next_tunnelled()).await.unwrap_or(Err(Broken)),
            Up::Connection { first, .. } if !first.is_empty() => Ok(Some(std::mem::take(first))),
            Up::Connection { connection, .. } => read(worker, connection, is_cut).await,
        }
    }
}

/// Waits until the client has reset its connection, which no operation tells while nothing is read from it.
async fn until_reset(connection: &Connection, progress: &Progress<'_>) {
    loop {
        sleep(LOOK_AFTER).await;
        // A connection whose two directions have ended in peace looks the same.
        if !progress.is_half_closed.get() && connection.stream().breaker().is_reset() {
            return;
        }
    }
}

/// What a client's connection has; waits without a buffer.
async fn read(worker: &Worker, connection: &Connection, is_cut: &Cell<bool>) -> Result<Option<Bytes>, Broken> {
    connection.readable().await.map_err(|_| Broken)?;
    let (result, buffer) = connection.read(worker, worker.hot.take_buffer(READ_BYTES)).await;
    let data = Bytes::copy_from_slice(&buffer);
    worker.hot.give_buffer_back(buffer);
    match result {
        // An end that we brought about is none.
        Ok(0) if is_cut.get() || connection.watched.is_broken() => Err(Broken),
        Ok(0) => Ok(None),
        Ok(count) => {
            worker.stats.http.bytes_in.add(count as u64);
            Ok(Some(data))
        }
        Err(_) => Err(Broken),
    }
}
