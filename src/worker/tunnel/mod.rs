//! Bytes both ways between a client and a server: connections in TCP mode, those that have left HTTP behind an upgrade, and
//! streams of HTTP/2 and HTTP/3 behind an extended CONNECT.
//!
//! | part | carries |
//! |---|---|
//! | `direct` | clear text on both sides, by splice(2) where it is much |
//! | `copy` | where one side speaks TLS |
//! | `stream` | where the client's end is a stream |
//! | `link` | where the server's end is one, or an application inside the process (`far`) |
//!
//! Each direction takes, then gives what it took, then takes again: a slow side slows the other down, and what is under
//! way is one buffer or pipe for each. While nothing comes neither is held. Silence in both directions ends the tunnel, the
//! end of one direction is passed on and the other goes on (RFC 6455 section 7.1.1 wants it so), and so is a reset.

mod copy;
mod direct;
mod far;
mod link;
mod stream;

pub(super) use self::direct::COPIED_BYTES_MAX;
pub(super) use self::far::ServerEnd;
pub(super) use self::link::{Client as LinkClient, LinkTunnel};
pub(super) use self::stream::StreamTunnel;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::Worker;
use super::answer::Answer;
use super::connection::{Broken, Connection};
use super::forward::ServerConnection;
use super::watch::{OnExpiry, Watched};
use crate::metrics::{AppStats, Counter, ServerStats, TcpStats};

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What went through a tunnel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    /// Bytes from the client.
    pub(super) up_bytes: u64,
    /// Bytes from the server.
    pub(super) down_bytes: u64,
    /// Nothing came for too long.
    pub(super) is_timed_out: bool,
    /// Whose connection broke, which ended the tunnel.
    pub(super) broken: Option<Side>,
}

/// Who counts the bytes while they go by.
#[derive(Clone, Copy)]
pub(super) struct Meter<'a> {
    /// The listener, in TCP mode.
    listener: Option<&'a TcpStats>,
    /// The application inside this process.
    app: Option<&'a AppStats>,
    /// Bytes to the server.
    up: &'a Counter,
    /// Bytes from it.
    down: &'a Counter,
}

impl<'a> Meter<'a> {
    /// Of a tunnel to a server.
    pub(super) fn of_server(server: &'a ServerStats) -> Meter<'a> {
        Meter { listener: None, app: None, up: &server.tunnel_bytes_up, down: &server.tunnel_bytes_down }
    }

    /// The same with the application that the server is a part of.
    pub(super) fn and_app(self, app: &'a AppStats) -> Meter<'a> {
        Meter { app: Some(app), ..self }
    }

    /// The same with a listener that counts as well.
    pub(super) fn and_listener(self, listener: &'a TcpStats) -> Meter<'a> {
        Meter { listener: Some(listener), ..self }
    }
}

/// Tells the client that it has what it asked for. Behind this, [`end`] must be called.
pub(super) async fn begin(worker: &Worker, answer: &mut Answer<'_>, fields: &[u8]) -> Result<(), Broken> {
    answer.switch_protocols(fields).await?;
    worker.stats.http.tunnels.inc();
    Ok(())
}

/// Notes what went through a tunnel.
pub(super) fn end(worker: &Worker, answer: &mut Answer<'_>, flow: Flow) {
    let stats = &worker.stats.http;
    stats.tunnels.dec();
    stats.timeouts.add(u64::from(flow.is_timed_out));
    answer.count_tunnelled(flow.down_bytes);
    answer.trail.tunnelled = Some(flow);
}

/// The two ends.
pub(super) struct Tunnel<'a> {
    pub(super) worker: &'a Worker,
    pub(super) connection: &'a Connection,
    pub(super) server: &'a ServerConnection,
    /// Longest silence in both directions together.
    pub(super) idle_timeout: Duration,
    /// The same once one side has ended its direction, if it is shorter.
    pub(super) half_closed_timeout: Duration,
    pub(super) meter: Meter<'a>,
}

impl Tunnel<'_> {
    /// Carries bytes until both directions have ended. `first_up` and `first_down` have been read already.
    pub(super) async fn run(&self, first_up: Vec<u8>, first_down: Vec<u8>) -> Flow {
        let watched = [&self.connection.watched, &self.server.watched];
        let progress = Progress::new(watched, self.idle_timeout, self.half_closed_timeout, self.meter);
        progress.is_moving();
        match direct::Ends::of(self) {
            Some(ends) => {
                let up = pin!(ends.carry(Side::Client, first_up, &progress));
                let down = pin!(ends.carry(Side::Server, first_down, &progress));
                both(up, down, |end| self.on_end(end, &progress)).await;
            }
            None => {
                self.connection.separate_writes(self.worker);
                let up = pin!(self.copy_up(first_up, &progress));
                let down = pin!(self.copy_down(first_down, &progress));
                both(up, down, |end| self.on_end(end, &progress)).await;
            }
        }
        let is_timed_out = self.connection.watched.expired();
        self.connection.watched.clear();
        self.server.watched.clear();
        Flow { is_timed_out, ..progress.flow.get() }
    }

    /// One direction has ended.
    fn on_end(&self, end: Ended, progress: &Progress<'_>) {
        progress.is_half_closed.set(true);
        match end {
            Ended::Closed => progress.is_moving(),
            // It was we who broke it. The other direction must hear of it, and nothing is closed before every operation in
            // the kernel has come back.
            Ended::Broken(_) if self.connection.watched.is_broken() => {
                self.connection.stream().breaker().break_all();
                self.server.break_all();
            }
            Ended::Broken(side) => {
                let flow = progress.flow.get();
                progress.flow.set(Flow { broken: flow.broken.or(Some(side)), ..flow });
                self.connection.stream().breaker().abort();
                self.server.abort();
            }
        }
    }
}

/// What has been moved, and until when more must be.
struct Progress<'a> {
    watched: &'a Watched,
    /// Of the other side: a direction that waits for it must end, too.
    server_watched: &'a Watched,
    idle_timeout: Duration,
    half_closed_timeout: Cell<Duration>,
    is_half_closed: Cell<bool>,
    flow: Cell<Flow>,
    meter: Meter<'a>,
}

impl<'a> Progress<'a> {
    /// `watched`: of the client's side and of the server's. Half closed, a tunnel is never given longer than idle.
    fn new(
        [watched, server_watched]: [&'a Watched; 2],
        idle_timeout: Duration,
        half_closed_timeout: Duration,
        meter: Meter<'a>,
    ) -> Progress<'a> {
        Progress {
            watched,
            server_watched,
            idle_timeout,
            half_closed_timeout: Cell::new(idle_timeout.min(half_closed_timeout)),
            is_half_closed: Cell::new(false),
            flow: Cell::default(),
            meter,
        }
    }
    /// Bytes were taken from one side.
    fn on_taken(&self, from: Side, bytes: usize) {
        let (mut flow, bytes) = (self.flow.get(), bytes as u64);
        let Meter { listener, app, up, down } = self.meter;
        match from {
            Side::Client => {
                flow.up_bytes += bytes;
                up.add(bytes);
                listener.inspect(|listener| listener.bytes_up.add(bytes));
                app.inspect(|app| app.tunnel_bytes_up.add(bytes));
            }
            Side::Server => {
                flow.down_bytes += bytes;
                down.add(bytes);
                listener.inspect(|listener| listener.bytes_down.add(bytes));
                app.inspect(|app| app.tunnel_bytes_down.add(bytes));
            }
        }
        self.flow.set(flow);
        self.is_moving();
    }

    /// Half closed, it lives no longer than this.
    fn hurry(&self, most: Duration) {
        self.half_closed_timeout.set(self.half_closed_timeout.get().min(most));
    }

    /// Something happened: the time begins anew.
    fn is_moving(&self) {
        let is_half_closed = self.is_half_closed.get();
        let longest = if is_half_closed { self.half_closed_timeout.get() } else { self.idle_timeout };
        self.watched.set(longest, OnExpiry::BreakAll);
        self.server_watched.set(longest, OnExpiry::BreakAll);
    }
}

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Its sender has no more to say, and its receiver was told so.
    Closed,
    /// The connection to this side broke, or took too long.
    Broken(Side),
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
