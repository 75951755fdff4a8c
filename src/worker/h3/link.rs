//! One QUIC connection: its driver, and what that shares with the streams.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;
use quinn_proto::{
    ConnectionError, ConnectionEvent, ConnectionHandle, Dir, Event, ReadError, StreamEvent, StreamId, Transmit, VarInt,
};

use super::super::arrival::Arrival;
use super::super::blocked::Blocked;
use super::super::connection::{Connection, Transport};
use super::super::door::Door;
use super::super::multiplexed::offers_connect;
use super::super::run::Open;
use super::super::watch::{OnExpiry, Watched};
use super::super::{Lasting, Worker};
use super::closing::Closing;
use super::endpoint::Endpoint;
use super::request;
use super::stream::Stream;
use crate::http::h3::{Budget, CriticalStreams, ErrorCode, UniReader, settings_stream};
use crate::metrics::Http3Stats;
use crate::runtime::time::sleep;
use crate::runtime::udp::Sent;
use crate::tls::Facts;

/// Sends of one connection before others have their turn.
const BURST: usize = 16;

/// Bytes of one of the client's own streams that are looked at together.
const UNI_BYTES: usize = 4096;

/// A timer that nobody waits for.
const FAR: Duration = Duration::from_secs(86_400);

/// What the driver of a connection and its streams share.
pub(super) struct Link {
    pub(super) endpoint: Rc<Endpoint>,
    /// What it came through.
    door: Rc<Door>,
    /// When it began.
    opened: Instant,
    pub(super) handle: ConnectionHandle,
    pub(super) quic: RefCell<quinn_proto::Connection>,
    /// Wakes the driver.
    driver: RefCell<Option<Waker>>,
    /// Requests under way, and answers of which something is still to be handed over.
    pub(super) streams: RefCell<HashMap<StreamId, Rc<Stream>, RandomState>>,
    /// Streams of the client's own.
    uni: RefCell<HashMap<StreamId, UniReader, RandomState>>,
    critical: Cell<CriticalStreams>,
    /// Our control stream, once it is open.
    control: Cell<Option<StreamId>>,
    /// It says that the client may send an extended CONNECT.
    pub(super) offers_connect: Cell<bool>,
    /// Requests under way.
    pub(super) requests: Cell<u32>,
    /// One past the highest stream id of a request: what GOAWAY tells.
    pub(super) next_request_id: Cell<u64>,
    /// The time without a request, that of the handshake, and that of the end.
    pub(super) idle: Watched,
    pub(super) closing: Closing,
    /// Nothing can be sent or received any more.
    is_lost: Cell<bool>,
    is_established: Cell<bool>,
    /// The client had proved its address before the handshake.
    is_proven: bool,
    /// Datagrams that wait for the handshake's turn.
    early: RefCell<VecDeque<ConnectionEvent>>,
    pub(super) budget: RefCell<Budget>,
    /// Streams with content that nobody reads: meanwhile others may be unable to send.
    pub(super) unread: Cell<u32>,
    pub(super) blocked: Rc<Blocked>,
    /// Packets that the socket did not take.
    unsent: RefCell<Option<(Transmit, Vec<u8>)>>,
}

impl Link {
    pub(super) fn new(
        endpoint: &Rc<Endpoint>,
        door: &Rc<Door>,
        opened: Instant,
        handle: ConnectionHandle,
        quic: quinn_proto::Connection,
        is_proven: bool,
    ) -> Rc<Link> {
        let worker = door.worker();
        let idle = worker.watches.watch_alone();
        let settings = worker.config.listeners[worker.listener_index(door)].tls.as_ref();
        let handshake_timeout = settings.map_or(worker.config.http.header_timeout, |tls| tls.handshake_timeout);
        idle.set(handshake_timeout, OnExpiry::Wake);
        Rc::new(Link {
            endpoint: endpoint.clone(),
            door: door.clone(),
            opened,
            handle,
            quic: RefCell::new(quic),
            driver: RefCell::default(),
            streams: RefCell::default(),
            uni: RefCell::default(),
            critical: Cell::default(),
            control: Cell::default(),
            offers_connect: Cell::default(),
            requests: Cell::default(),
            next_request_id: Cell::default(),
            idle,
            closing: Closing::default(),
            is_lost: Cell::default(),
            is_established: Cell::default(),
            is_proven,
            early: RefCell::default(),
            budget: RefCell::new(Budget::new(worker.config.http3.resets)),
            unread: Cell::default(),
            blocked: Rc::default(),
            unsent: RefCell::default(),
        })
    }

    /// The worker that its next request begins with.
    pub(super) fn worker(&self) -> Rc<Worker> {
        self.door.worker()
    }

    /// The same, whatever the config.
    pub(super) fn lasting(&self) -> &Lasting {
        &self.endpoint.lasting
    }

    /// It begins nothing new: the worker drains, or the listener or its HTTP/3 is no more.
    pub(super) fn is_draining(&self) -> bool {
        self.endpoint.is_left_by(self.opened) || self.door.draining_since(self.opened).is_some()
    }

    /// There is something to do for the driver.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.driver.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Takes a datagram.
    pub(super) fn take(&self, event: ConnectionEvent) {
        self.quic.borrow_mut().handle_event(event);
        self.wake();
    }

    /// Keeps a datagram of the handshake until [`Link::take_early`]; says how many there are now. Beyond `count_max` it is
    /// lost.
    pub(super) fn put_early(&self, event: ConnectionEvent, count_max: usize) -> usize {
        let mut early = self.early.borrow_mut();
        if early.len() >= count_max {
            self.worker().stats.http3.dropped.inc();
        } else {
            early.push_back(event);
        }
        early.len()
    }

    /// Takes what has come of the handshake.
    pub(super) fn take_early(&self) {
        let early = self.early.take();
        for event in early {
            if !self.quic.borrow().is_drained() {
                self.quic.borrow_mut().handle_event(event);
            }
        }
        self.wake();
    }

    /// Nothing can be sent or received any more.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.get()
    }

    /// The handshake is done.
    pub(super) fn is_established(&self) -> bool {
        self.is_established.get()
    }

    /// Ends the connection; the client is told `code`.
    pub(super) fn close(&self, code: ErrorCode) {
        let code = VarInt::from_u64(code.0).unwrap_or(VarInt::MAX);
        self.quic.borrow_mut().close(self.lasting().now(), code, Bytes::new());
        self.lose();
        self.wake();
    }

    /// The same, and sends what tells it at once: the driver will not run again.
    pub(super) fn close_now(&self) {
        self.close(ErrorCode::NO_ERROR);
        let mut buffer = Vec::new();
        let transmit = self.quic.borrow_mut().poll_transmit(self.lasting().now(), 1, &mut buffer);
        if let Some(transmit) = transmit {
            self.endpoint.send(&transmit, &buffer);
        }
    }

    /// Streams learn that it is over.
    fn lose(&self) {
        if self.is_lost.replace(true) {
            return;
        }
        if !self.is_established.get() {
            self.endpoint.end_handshake(self.is_proven);
            self.worker().stats.tls.failed.inc();
        }
        self.streams.borrow().values().for_each(|stream| stream.wake());
    }

    /// Adds to our control stream.
    pub(super) fn send_control(&self, bytes: &[u8]) {
        let Some(control) = self.control.get() else { return };
        // What is said there takes some bytes in the life of a connection; a client without room for them does not hear it.
        let _ = self.quic.borrow_mut().send_stream(control).write(bytes);
        self.worker().stats.http3.goaways.inc();
    }
}

/// The connection as exchanges know it.
pub(super) fn connection(door: &Rc<Door>, peer: SocketAddr, opened: Instant, open: Open) -> Rc<Connection> {
    let worker = door.worker();
    Rc::new(Connection {
        watched: worker.watches.watch_alone(),
        writes: OnceCell::new(),
        transport: Transport::Quic(OnceCell::new()),
        peer: Some(peer),
        proxied: Cell::new(None),
        serial: worker.next_serial(),
        door: door.clone(),
        requests: Cell::new(0),
        tls: OnceCell::new(),
        sending: Cell::new(false),
        opened,
        arrival: Arrival::default(),
        is_let_in: std::cell::Cell::new(true),
        place: OnceCell::new(),
        for_apps: OnceCell::new(),
        _open: open,
    })
}

/// Counts an established connection as open, and as no longer so even if it ends by a panic.
struct OpenGuard(Arc<Http3Stats>);

impl OpenGuard {
    fn new(stats: &Arc<Http3Stats>) -> OpenGuard {
        stats.connections.inc();
        stats.open.inc();
        OpenGuard(stats.clone())
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

/// Drives a connection to its end, and some moments beyond, in which late packets are answered (RFC 9000 section 10.2).
pub(super) async fn drive(link: Rc<Link>, connection: Rc<Connection>) {
    let mut driver = Driver { connection: Some(connection), open: None, link: link.clone(), armed: None };
    let mut timer = pin!(sleep(FAR));
    poll_fn(|cx| {
        driver.note_waker(cx);
        let now = link.lasting().now();
        let is_due = driver.armed.is_some_and(|armed| armed <= now);
        if is_due {
            driver.armed = None;
            link.quic.borrow_mut().handle_timeout(now);
        }
        driver.turn(cx, now);
        if link.quic.borrow().is_drained() {
            return Poll::Ready(());
        }
        // A timer that is due too early is let be: looking once too often costs less than setting it at every packet.
        let deadline = driver.deadline();
        if deadline.is_some_and(|deadline| driver.armed.is_none_or(|armed| deadline < armed)) {
            driver.armed = deadline;
            let left = deadline.map_or(FAR, |deadline| deadline.saturating_duration_since(now));
            timer.set(sleep(left.max(Duration::from_millis(1))));
        }
        if driver.armed.is_some() && timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
            timer.set(sleep(FAR));
            driver.armed = Some(now);
        }
        Poll::Pending
    })
    .await;
}

struct Driver {
    link: Rc<Link>,
    /// Until it is over.
    connection: Option<Rc<Connection>>,
    open: Option<OpenGuard>,
    /// When the timer is due.
    armed: Option<Instant>,
}

/// Also after a panic: nothing of the connection stays.
impl Drop for Driver {
    fn drop(&mut self) {
        if let Ok(quic) = self.link.quic.try_borrow() {
            let (path, peer) = (quic.stats().path, quic.remote_address());
            let (sent, lost, rtt_us) = (path.sent_packets, path.lost_packets, path.rtt.as_micros());
            tracing::debug!(%peer, sent, lost, rtt_us, cwnd = path.cwnd, mtu = path.current_mtu, "QUIC connection is over");
        }
        self.link.lose();
        self.link.streams.borrow_mut().clear();
        self.link.endpoint.forget(&self.link);
    }
}

impl Driver {
    fn note_waker(&self, cx: &Context<'_>) {
        let mut waker = self.link.driver.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Does all there is to do now.
    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) {
        let link = self.link.clone();
        loop {
            link.endpoint.exchange_events(&link);
            let mut has_moved = false;
            loop {
                let event = link.quic.borrow_mut().poll();
                let Some(event) = event else { break };
                has_moved = true;
                self.on_event(event, cx);
            }
            if let Some(connection) = self.connection.as_ref().filter(|_| !link.is_lost()) {
                link.look_at_the_end(connection, cx, now);
            }
            if link.is_lost() {
                self.let_go();
            }
            link.endpoint.exchange_events(&link);
            has_moved |= transmit(&link, cx, now);
            if !has_moved {
                return;
            }
        }
    }

    /// The connection does not count any more.
    fn let_go(&mut self) {
        self.connection = None;
        self.open = None;
    }

    fn deadline(&self) -> Option<Instant> {
        let of_quic = self.link.quic.borrow_mut().poll_timeout();
        [of_quic, self.link.closing.deadline()].into_iter().flatten().min()
    }

    fn on_event(&mut self, event: Event, cx: &mut Context<'_>) {
        let link = self.link.clone();
        match event {
            Event::Connected => self.on_connected(),
            Event::ConnectionLost { reason } => {
                let peer = link.quic.borrow().remote_address();
                tracing::debug!(%peer, %reason, "QUIC connection ended");
                let timed_out = matches!(reason, ConnectionError::TimedOut) && link.requests.get() > 0;
                link.worker().stats.http.timeouts.add(u64::from(timed_out));
                link.lose();
            }
            Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                while let Some(id) = self.next_stream(Dir::Bi) {
                    self.on_request(id, cx);
                }
            }
            Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                while let Some(id) = self.next_stream(Dir::Uni) {
                    link.uni.borrow_mut().insert(id, UniReader::default());
                    link.read_uni(id);
                }
            }
            Event::Stream(StreamEvent::Readable { id }) if id.dir() == Dir::Uni => link.read_uni(id),
            Event::Stream(StreamEvent::Readable { id }) => {
                link.with_stream(id, |stream| stream.on_readable());
            }
            Event::Stream(StreamEvent::Writable { id }) => {
                link.with_stream(id, |stream| stream.on_writable());
            }
            Event::Stream(StreamEvent::Stopped { id, .. }) if link.control.get() == Some(id) => {
                link.close(ErrorCode::CLOSED_CRITICAL_STREAM);
            }
            Event::Stream(StreamEvent::Stopped { id, error_code }) => {
                link.with_stream(id, |stream| stream.on_stopped(error_code));
            }
            Event::Stream(StreamEvent::Finished { .. } | StreamEvent::Available { .. })
            | Event::HandshakeDataReady
            | Event::DatagramReceived
            | Event::DatagramsUnblocked => {}
        }
    }

    fn next_stream(&self, dir: Dir) -> Option<StreamId> {
        self.link.quic.borrow_mut().streams().accept(dir)
    }

    /// The client has proved its address and knows our certificate.
    fn on_connected(&mut self) {
        let (link, Some(connection)) = (&self.link, &self.connection) else { return };
        let worker = &link.worker();
        link.is_established.set(true);
        link.endpoint.end_handshake(link.is_proven);
        let data = link.quic.borrow().crypto_session().handshake_data();
        if let (Some(Ok(facts)), Transport::Quic(place)) =
            (data.map(|data| data.downcast::<Facts>()), &connection.transport)
        {
            worker.stats.tls.handshakes.inc();
            worker.stats.tls.resumed.add(u64::from(facts.is_resumed));
            let _ = place.set(Arc::from(facts));
        }
        connection.arrival.note_handshake(connection.opened.elapsed());
        self.open = Some(OpenGuard::new(&worker.stats.http3));
        if connection.place.get().is_none() && !connection.takes_place(worker) {
            return link.close(ErrorCode::EXCESSIVE_LOAD);
        }
        link.idle.set(worker.config.http.keep_alive_timeout, OnExpiry::Wake);
        let control = link.quic.borrow_mut().streams().open(Dir::Uni);
        // RFC 9114 section 6.2: a client must have room for it.
        let Some(control) = control else { return link.close(ErrorCode::STREAM_CREATION_ERROR) };
        link.control.set(Some(control));
        link.offers_connect.set(offers_connect(&worker.config));
        let settings = settings_stream(worker.config.http3.header_list_bytes_max.into(), link.offers_connect.get());
        let _ = link.quic.borrow_mut().send_stream(control).write(&settings);
    }

    /// Starts an exchange; one that is not done at once goes on as a task of its own.
    fn on_request(&self, id: StreamId, cx: &mut Context<'_>) {
        let (link, Some(connection)) = (&self.link, &self.connection) else { return };
        if link.closing.rejects_requests() {
            return link.reject(id);
        }
        link.next_request_id.set(u64::from(VarInt::from(id)) + 4);
        let stream = Stream::new(link, id);
        link.streams.borrow_mut().insert(id, stream.clone());
        let work = request::answer(link.clone(), connection.clone(), stream);
        let mut exchange: Pin<Box<dyn Future<Output = ()>>> = Box::pin(crate::runtime::contain(work));
        if exchange.as_mut().poll(cx).is_pending() {
            crate::runtime::spawn(exchange);
        }
    }
}

impl Link {
    fn with_stream(&self, id: StreamId, act: impl FnOnce(&Rc<Stream>)) {
        let stream = self.streams.borrow().get(&id).cloned();
        if let Some(stream) = stream {
            act(&stream);
        }
    }

    /// A request that came behind the last GOAWAY: the client may repeat it elsewhere (RFC 9114 section 5.2).
    fn reject(&self, id: StreamId) {
        let code = VarInt::from_u64(ErrorCode::REQUEST_REJECTED.0).unwrap_or(VarInt::MAX);
        let mut quic = self.quic.borrow_mut();
        let _ = quic.recv_stream(id).stop(code);
        let _ = quic.send_stream(id).reset(code);
    }

    /// What came of a stream of the client's own.
    fn read_uni(&self, id: StreamId) {
        let Some(mut reader) = self.uni.borrow_mut().remove(&id) else { return };
        loop {
            let (failure, is_over) = match self.read(id, UNI_BYTES) {
                Read::Bytes(bytes) => {
                    let mut critical = self.critical.get();
                    let read = reader.read(&bytes, &mut critical);
                    self.critical.set(critical);
                    match read {
                        Ok(true) => continue,
                        Ok(false) => return self.refuse_uni(id),
                        Err(failure) => (Some(failure), true),
                    }
                }
                Read::Blocked => (None, false),
                Read::End | Read::Reset | Read::Stopped => (reader.end().err(), true),
            };
            if let Some(failure) = failure {
                tracing::debug!(%failure, "HTTP/3 connection ends by its client's mistake");
                self.close(failure.code());
            }
            if !is_over {
                self.uni.borrow_mut().insert(id, reader);
            }
            return;
        }
    }

    /// The client has given up a request under way.
    pub(super) fn on_given_up(&self) {
        let worker = self.worker();
        worker.stats.http3.resets_received.inc();
        if !self.budget.borrow_mut().on_reset(worker.now()) {
            self.end_flood();
        }
    }

    /// A request has come to nothing, by the client's will or its mistake.
    pub(super) fn on_early_reset(&self) {
        if !self.budget.borrow_mut().on_early_reset() {
            self.end_flood();
        }
    }

    fn end_flood(&self) {
        if self.is_lost() {
            return;
        }
        self.worker().stats.http3.floods.inc();
        tracing::debug!("HTTP/3 connection ends: too many of its client's requests come to nothing");
        self.close(ErrorCode::EXCESSIVE_LOAD);
    }

    /// A stream of a kind that is not known here.
    fn refuse_uni(&self, id: StreamId) {
        let code = VarInt::from_u64(ErrorCode::STREAM_CREATION_ERROR.0).unwrap_or(VarInt::MAX);
        let _ = self.quic.borrow_mut().recv_stream(id).stop(code);
        if !self.budget.borrow_mut().on_unknown_stream() {
            self.close(ErrorCode::EXCESSIVE_LOAD);
        }
    }

    /// What there is of a stream, at most `bytes_max` of it.
    pub(super) fn read(&self, id: StreamId, bytes_max: usize) -> Read {
        let mut quic = self.quic.borrow_mut();
        let mut stream = quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return Read::Stopped };
        let read = match chunks.next(bytes_max) {
            Ok(Some(chunk)) => Read::Bytes(chunk.bytes),
            Ok(None) => Read::End,
            Err(ReadError::Blocked) => Read::Blocked,
            Err(ReadError::Reset(_)) => Read::Reset,
        };
        let must_tell = chunks.finalize().should_transmit();
        drop(quic);
        if must_tell {
            self.wake();
        }
        read
    }
}

/// What a stream has.
pub(super) enum Read {
    Bytes(Bytes),
    /// Nothing now.
    Blocked,
    /// It is complete.
    End,
    /// The client has given it up.
    Reset,
    /// We have.
    Stopped,
}

/// Sends what there is to send; says whether there was anything.
fn transmit(link: &Rc<Link>, cx: &mut Context<'_>, now: Instant) -> bool {
    let unsent = link.unsent.take();
    if let Some((transmit, bytes)) = unsent
        && link.endpoint.send(&transmit, &bytes) == Sent::Blocked
    {
        link.unsent.replace(Some((transmit, bytes)));
        link.endpoint.wake_when_writable(cx.waker());
        return false;
    }
    let hot = &link.lasting().hot;
    let mut buffer = hot.take_buffer(0);
    let segments_max = link.endpoint.segments_max();
    let mut sent = 0;
    while sent < BURST {
        buffer.clear();
        let transmit = link.quic.borrow_mut().poll_transmit(now, segments_max, &mut buffer);
        let Some(transmit) = transmit else { break };
        sent += 1;
        if link.endpoint.send(&transmit, &buffer) == Sent::Blocked {
            link.unsent.replace(Some((transmit, std::mem::take(&mut buffer))));
            link.endpoint.wake_when_writable(cx.waker());
            return false;
        }
    }
    hot.give_buffer_back(buffer);
    if sent == BURST {
        // The others first.
        cx.waker().wake_by_ref();
        return false;
    }
    sent > 0
}
