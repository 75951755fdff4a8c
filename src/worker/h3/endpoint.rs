//! One UDP socket and its connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use ahash::RandomState;
use bytes::BytesMut;
use quinn_proto::{ConnectionEvent, ConnectionHandle, DatagramEvent, EcnCodepoint, EndpointEvent, Incoming, Transmit};

use super::super::connection::{Connection, is_admitted};
use super::super::door::Door;
use super::super::receivers::{BURST, Receivers};
use super::super::run::Open;
use super::super::{Lasting, Worker};
use super::generation::Place;
use super::link::{self, Link};
use super::settings::{self, WAITING_MAX};
use crate::config::model::QuicRetry;
use crate::http::h3::{Ids, destination};
use crate::runtime::udp::{BoundUdp, Outgoing, RECEIVE_BYTES_MAX, Received, Sent, UdpSocket};
use crate::tls::QuicTls;

/// Handshakes under way on a worker from which new clients must prove their address first (RFC 9000 section 8.1): each of
/// them costs a signature, and a forged address costs its sender nothing.
const RETRY_FROM: usize = 32;

/// Handshakes under way on a worker; the packets of further clients are dropped.
const HANDSHAKES_MAX: usize = 1024;

/// Handshakes under way on a worker with clients that have not proved their address, where connections are limited by
/// address; further ones must prove theirs first. A place in that count is given for a proved address alone: packets that
/// bear a forged one would take the places of whoever lives there.
const UNPROVEN_MAX: usize = 4;

/// Datagrams of one handshake that wait for its turn; further ones are lost, as on a network that is full.
const EARLY_MAX: usize = 16;

/// A datagram that came to a worker which does not own its connection.
pub(crate) struct Datagram {
    /// Of the socket that it came to, as bound.
    address: SocketAddr,
    peer: SocketAddr,
    local: Option<IpAddr>,
    ecn: u8,
    bytes: BytesMut,
}

impl Datagram {
    pub(super) fn new(
        address: SocketAddr,
        peer: SocketAddr,
        local: Option<IpAddr>,
        ecn: u8,
        bytes: BytesMut,
    ) -> Datagram {
        Datagram { address, peer, local, ecn, bytes }
    }

    pub(super) fn content(&self) -> &[u8] {
        &self.bytes
    }

    /// Socket as bound, sender, address of ours that it came to, ECN.
    pub(super) fn facts(&self) -> (SocketAddr, SocketAddr, Option<IpAddr>, u8) {
        (self.address, self.peer, self.local, self.ecn)
    }

    /// Of the socket that it came to, as bound.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What this worker has of a listener's HTTP/3.
pub(super) struct Endpoint {
    pub(super) lasting: Rc<Lasting>,
    /// What new connections come through.
    door: RefCell<Rc<Door>>,
    /// As bound, the same on all workers.
    address: SocketAddr,
    /// The one that sends.
    socket: UdpSocket,
    /// Those that are received from, `socket` among them.
    pub(super) receivers: Receivers,
    quic: RefCell<quinn_proto::Endpoint>,
    links: RefCell<HashMap<ConnectionHandle, Rc<Link>, RandomState>>,
    /// Under way now.
    handshakes: Cell<usize>,
    /// Of these, with clients that have not proved their address.
    unproven: Cell<usize>,
    /// No new connections: the config has no HTTP/3 here any more.
    is_left: Cell<bool>,
    /// No new requests on connections from before.
    left_since: Cell<Option<Instant>>,
    /// Drivers that wait until the socket takes more.
    blocked: RefCell<Vec<Waker>>,
}

impl Endpoint {
    /// Takes `socket` over for the current data worker.
    pub(super) fn new(
        worker: &Rc<Worker>,
        door: Rc<Door>,
        address: SocketAddr,
        socket: &BoundUdp,
        tls: Arc<QuicTls>,
    ) -> std::io::Result<Rc<Endpoint>> {
        let lasting = worker.lasting.clone();
        let keys = &lasting.endpoints.keys;
        let server = settings::server(&worker.config, keys, tls);
        // The socket forbids that packets are cut on their way.
        let quic =
            quinn_proto::Endpoint::new(settings::endpoint(keys, lasting.index, address), Some(server), true, None);
        Ok(Rc::new(Endpoint {
            door: RefCell::new(door),
            address,
            socket: UdpSocket::new(socket)?,
            receivers: Receivers::default(),
            quic: RefCell::new(quic),
            links: RefCell::default(),
            handshakes: Cell::new(0),
            unproven: Cell::new(0),
            is_left: Cell::new(false),
            left_since: Cell::new(None),
            blocked: RefCell::default(),
            lasting,
        }))
    }

    /// Of the socket, as bound.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn door(&self) -> Rc<Door> {
        self.door.borrow().clone()
    }

    /// What the next connection begins with.
    fn worker(&self) -> Rc<Worker> {
        self.door.borrow().worker()
    }

    /// There is a new config, or there are new certificates.
    pub(super) fn go_on(&self, now: Instant) {
        if self.is_left.get() {
            return;
        }
        let (door, worker) = (self.door(), self.worker());
        let tls = if door.is_closed() { None } else { worker.quic.borrow()[worker.listener_index(&door)].clone() };
        match tls {
            Some(tls) => self.begin_with(&worker, tls),
            None => self.leave(now),
        }
    }

    /// New connections use these certificates, keys and limits.
    fn begin_with(&self, worker: &Worker, tls: Arc<QuicTls>) {
        let server = settings::server(&worker.config, &self.lasting.endpoints.keys, tls);
        self.quic.borrow_mut().set_server_config(Some(server));
    }

    /// No new connections, and those that are there end.
    fn leave(&self, now: Instant) {
        self.is_left.set(true);
        self.left_since.set(Some(now));
        self.links.borrow().values().for_each(|link| link.wake());
        self.look_at_the_end();
    }

    /// The config has HTTP/3 here again. Connections from before were told to end, and do.
    pub(super) fn reopen(&self, door: Rc<Door>, tls: Arc<QuicTls>) {
        self.begin_with(&door.worker(), tls);
        self.door.replace(door);
        self.is_left.set(false);
    }

    /// A connection from the time `opened` begins nothing new.
    pub(super) fn is_left_by(&self, opened: Instant) -> bool {
        self.left_since.get().is_some_and(|since| since > opened)
    }

    fn is_over(&self) -> bool {
        self.is_left.get() && self.handshakes.get() == 0 && self.links.borrow().is_empty()
    }

    /// Lets the receiver look whether that was all.
    fn look_at_the_end(&self) {
        if self.is_over() {
            self.receivers.wake();
        }
    }

    /// Receives from `socket` too, unless it does so already.
    pub(super) fn receive_from(self: &Rc<Self>, socket: Arc<BoundUdp>) -> std::io::Result<()> {
        if let Some(receiver) = self.receivers.add(socket)? {
            crate::runtime::spawn(self.clone().receive(receiver));
        }
        Ok(())
    }

    /// Receives for as long as the worker runs, or until it has been left by all.
    async fn receive(self: Rc<Self>, socket: UdpSocket) {
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES_MAX);
        loop {
            let is_over = self.receivers.wait(&self.lasting, self.address, &socket, || self.is_over()).await;
            let now = self.lasting.now();
            for _ in 0..BURST {
                buffer.clear();
                match socket.try_recv(&mut buffer) {
                    Ok(Some(received)) => self.take(&received, &buffer, now),
                    Ok(None) => break,
                    // About a datagram of ours that did not arrive: its loss is noticed otherwise.
                    Err(error) => tracing::debug!(%error, "datagram not received"),
                }
            }
            if is_over && self.is_over() {
                return self.lasting.endpoints.forget(&self);
            }
        }
    }

    fn take(self: &Rc<Self>, received: &Received, bytes: &[u8], now: Instant) {
        self.worker().stats.http.bytes_in.add(bytes.len() as u64);
        if received.peer.port() == 0 {
            return; // nobody could be answered there, and trying to would look like a device that cannot segment
        }
        let mut rest = BytesMut::from(bytes);
        while !rest.is_empty() {
            let bytes = rest.split_to(rest.len().min(received.segment_bytes));
            let Received { peer, local, ecn, .. } = *received;
            let datagram = Datagram { address: self.address, peer, local, ecn, bytes };
            let endpoints = &self.lasting.endpoints;
            match self.owner(&datagram.bytes) {
                Some(place) if place.generation != endpoints.keys.generation() => self.pass_on(datagram, now),
                Some(place) if place.worker != self.lasting.index && place.worker < endpoints.workers.len() => {
                    self.forward(place.worker, datagram);
                }
                _ => self.handle(datagram, now),
            }
        }
    }

    /// Who has given the connection id.
    fn owner(&self, datagram: &[u8]) -> Option<Place> {
        let id = destination(datagram).filter(|id| id.len() == Ids::BYTES)?;
        self.lasting.endpoints.keys.place(id)
    }

    /// Its connection is one of the process before this one, as long as there is one.
    fn pass_on(self: &Rc<Self>, datagram: Datagram, now: Instant) {
        let stats = &self.worker().stats.http3;
        match self.lasting.endpoints.before.send(&datagram) {
            Ok(()) => stats.forwarded.inc(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => stats.dropped.inc(),
            // Nobody has the connection any more, and its client is told so.
            Err(_) => self.handle(datagram, now),
        }
    }

    fn forward(&self, worker: usize, datagram: Datagram) {
        let stats = &self.worker().stats.http3;
        match self.lasting.endpoints.workers[worker].send(datagram) {
            Ok(()) => stats.forwarded.inc(),
            // As on a network that is full: its sender finds out.
            Err(_) => stats.dropped.inc(),
        }
    }

    /// Takes what another worker has received.
    pub(super) fn take_forwarded(self: &Rc<Self>, datagram: Datagram) {
        self.handle(datagram, self.lasting.now());
    }

    fn handle(self: &Rc<Self>, datagram: Datagram, now: Instant) {
        let Datagram { peer, local, ecn, bytes, .. } = datagram;
        let mut answer = Vec::new();
        let event = self.quic.borrow_mut().handle(now, peer, local, EcnCodepoint::from_bits(ecn), bytes, &mut answer);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let link = self.links.borrow().get(&handle).cloned();
                match link {
                    Some(link) if link.is_established() => link.take(event),
                    Some(link) => self.take_early(link, event),
                    None => {}
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.welcome(incoming),
            // A reset, a refusal, or versions that are spoken here.
            Some(DatagramEvent::Response(transmit)) => self.respond(&transmit, &answer),
            None => {}
        }
    }

    /// A datagram of a handshake, for which much may have to be computed: it waits for its turn as the first one did.
    fn take_early(self: &Rc<Self>, link: Rc<Link>, event: ConnectionEvent) {
        let waiting = link.put_early(event, EARLY_MAX);
        if waiting == 1 {
            let endpoint = self.clone();
            crate::runtime::spawn(async move {
                let turn = endpoint.lasting.handshakes.enter().await;
                link.take_early();
                endpoint.lasting.handshakes.leave(turn).await;
            });
        }
    }

    /// A client begins.
    fn welcome(self: &Rc<Self>, incoming: Incoming) {
        let (door, worker, handshakes) = (self.door(), self.worker(), self.handshakes.get());
        let stats = &worker.stats.http3;
        if handshakes >= HANDSHAKES_MAX {
            stats.dropped.inc();
            return self.quic.borrow_mut().ignore(incoming);
        }
        let is_counted = worker.shared.clients.is_some() && self.unproven.get() >= UNPROVEN_MAX;
        let must_prove = worker.config.http3.retry == QuicRetry::Always || handshakes >= RETRY_FROM || is_counted;
        let (is_proven, mut answer) = (incoming.remote_address_validated(), Vec::new());
        if must_prove && !is_proven {
            let retry = self.quic.borrow_mut().retry(incoming, &mut answer);
            match retry {
                Ok(transmit) => {
                    stats.retries.inc();
                    self.respond(&transmit, &answer);
                }
                // It has been asked before, and nothing else can be asked of it.
                Err(error) => self.quic.borrow_mut().ignore(error.into_incoming()),
            }
            return;
        }
        let now = worker.now();
        let is_wanted = !self.is_left.get() && door.draining_since(now).is_none();
        let is_wanted =
            is_wanted && is_admitted(&worker, worker.listener_index(&door), Some(incoming.remote_address()));
        let open = if is_wanted { Open::new(&door) } else { None };
        let connection = open.map(|open| link::connection(&door, incoming.remote_address(), now, open));
        // One that has not proved its address takes its place when it has, see `Driver::on_connected`.
        match connection.filter(|connection| !is_proven || connection.takes_place(&worker)) {
            Some(connection) => {
                self.handshakes.set(handshakes + 1);
                self.unproven.set(self.unproven.get() + usize::from(!is_proven));
                crate::runtime::spawn(self.clone().accept(incoming, door, connection));
            }
            None => {
                let transmit = self.quic.borrow_mut().refuse(incoming, &mut answer);
                self.respond(&transmit, &answer);
            }
        }
    }

    /// Computes the first part of a handshake when its turn has come, then drives the connection to its end.
    async fn accept(self: Rc<Self>, incoming: Incoming, door: Rc<Door>, connection: Rc<Connection>) {
        let (lasting, is_proven) = (&self.lasting, incoming.remote_address_validated());
        let turn = lasting.handshakes.enter().await;
        let mut answer = Vec::new();
        let accepted = self.quic.borrow_mut().accept(incoming, lasting.now(), &mut answer, None);
        let accepted = match accepted {
            Ok((handle, quic)) => {
                let link = Link::new(&self, &door, connection.opened, handle, quic, is_proven);
                self.links.borrow_mut().insert(handle, link.clone());
                Ok(link)
            }
            Err(error) => Err(error),
        };
        lasting.handshakes.leave(turn).await;
        match accepted {
            Ok(link) => link::drive(link, connection).await,
            Err(error) => {
                self.end_handshake(is_proven);
                door.worker().stats.tls.failed.inc();
                tracing::debug!(peer = ?connection.peer, error = %error.cause, "QUIC handshake failed");
                if let Some(transmit) = error.response {
                    self.respond(&transmit, &answer);
                }
            }
        }
    }

    /// One handshake is no longer under way. `is_proven`: its client had proved its address before.
    pub(super) fn end_handshake(&self, is_proven: bool) {
        self.handshakes.set(self.handshakes.get() - 1);
        self.unproven.set(self.unproven.get() - usize::from(!is_proven));
        self.look_at_the_end();
    }

    /// Hands over what a connection and its endpoint have for each other.
    pub(super) fn exchange_events(&self, link: &Link) {
        loop {
            let event = link.quic.borrow_mut().poll_endpoint_events();
            let Some(event) = event else { return };
            if event.is_drained() {
                self.links.borrow_mut().remove(&link.handle);
                self.look_at_the_end();
            }
            let answer = self.quic.borrow_mut().handle_event(link.handle, event);
            if let Some(answer) = answer {
                link.quic.borrow_mut().handle_event(answer);
            }
        }
    }

    /// The driver of a connection is at its end, which the connection may not be.
    pub(super) fn forget(&self, link: &Link) {
        if self.links.borrow_mut().remove(&link.handle).is_some() {
            self.quic.borrow_mut().handle_event(link.handle, EndpointEvent::drained());
            self.look_at_the_end();
        }
    }

    /// Sends a packet that belongs to no connection; lost if the socket is full.
    fn respond(&self, transmit: &Transmit, bytes: &[u8]) {
        self.send(transmit, bytes);
    }

    /// Sends the packets of a connection.
    pub(super) fn send(&self, transmit: &Transmit, bytes: &[u8]) -> Sent {
        let sent = self.socket.try_send(&Outgoing {
            bytes: &bytes[..transmit.size],
            segment_bytes: transmit.segment_size,
            peer: transmit.destination,
            local: transmit.src_ip,
            ecn: transmit.ecn.map_or(0, |ecn| ecn as u8),
        });
        if sent == Sent::Done {
            self.worker().stats.http.bytes_out.add(transmit.size as u64);
        }
        sent
    }

    /// See [`UdpSocket::segments_max`].
    pub(super) fn segments_max(&self) -> usize {
        self.socket.segments_max()
    }

    /// Wakes `waker` once the socket takes more.
    pub(super) fn wake_when_writable(self: &Rc<Self>, waker: &Waker) {
        let mut blocked = self.blocked.borrow_mut();
        blocked.push(waker.clone());
        if blocked.len() == 1 {
            let endpoint = self.clone();
            crate::runtime::spawn(async move {
                // Whether it failed makes no difference: the next send finds out.
                let _ = endpoint.socket.writable().await;
                endpoint.blocked.take().into_iter().for_each(Waker::wake);
            });
        }
    }

    /// Tells all clients that it is over: the process ends.
    pub(super) fn close_all(&self) {
        let links: Vec<Rc<Link>> = self.links.borrow().values().cloned().collect();
        links.iter().for_each(|link| link.close_now());
    }
}

const _: () = assert!(RETRY_FROM < HANDSHAKES_MAX && WAITING_MAX <= HANDSHAKES_MAX);
