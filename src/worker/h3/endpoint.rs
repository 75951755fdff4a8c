//! One UDP socket and its connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Waker;
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::BytesMut;
use quinn_proto::{ConnectionHandle, DatagramEvent, EcnCodepoint, EndpointEvent, Incoming, Transmit};

use super::super::Worker;
use super::super::run::Open;
use super::link::{self, Link};
use super::settings::{self, Keys, WAITING_MAX};
use crate::config::model::Retry;
use crate::http::h3::{Ids, destination};
use crate::runtime::mailbox::Sender;
use crate::runtime::time::sleep;
use crate::runtime::udp::{BoundUdp, Outgoing, RECEIVE_BYTES_MAX, Received, Sent, UdpSocket};
use crate::tls::QuicTls;

/// Handshakes under way on a worker from which new clients must prove their address first (RFC 9000 section 8.1): each of
/// them costs a signature, and a forged address costs its sender nothing.
const RETRY_FROM: usize = 32;

/// Handshakes under way on a worker; the packets of further clients are dropped.
const HANDSHAKES_MAX: usize = 1024;

/// Receives from the socket before others have their turn.
const BURST: usize = 32;

/// A datagram that came to a worker which does not own its connection.
pub(crate) struct Datagram {
    /// Index into the config.
    listener: usize,
    peer: SocketAddr,
    local: Option<IpAddr>,
    ecn: u8,
    bytes: BytesMut,
}

impl Datagram {
    /// Index into the config.
    pub(in super::super) fn listener(&self) -> usize {
        self.listener
    }
}

/// What this worker has of a listener's HTTP/3.
pub(in super::super) struct Endpoint {
    pub(super) worker: Rc<Worker>,
    listener: usize,
    pub(super) socket: UdpSocket,
    quic: RefCell<quinn_proto::Endpoint>,
    links: RefCell<HashMap<ConnectionHandle, Rc<Link>, RandomState>>,
    keys: Keys,
    /// Mailboxes of all data workers.
    workers: Rc<[Sender<Datagram>]>,
    /// HTTP connections of all data workers.
    connections: Arc<AtomicUsize>,
    /// Under way now.
    handshakes: Cell<usize>,
    /// Drivers that wait until the socket takes more.
    blocked: RefCell<Vec<Waker>>,
}

impl Endpoint {
    /// Takes `socket` over for the current data worker.
    pub(in super::super) fn new(
        worker: &Rc<Worker>,
        listener: usize,
        socket: BoundUdp,
        tls: Arc<QuicTls>,
        keys: &Keys,
        workers: &Rc<[Sender<Datagram>]>,
        connections: &Arc<AtomicUsize>,
    ) -> std::io::Result<Rc<Endpoint>> {
        let server = settings::server(&worker.config, keys, tls);
        // The socket forbids that packets are cut on their way.
        let quic = quinn_proto::Endpoint::new(settings::endpoint(keys, worker.index), Some(server), true, None);
        Ok(Rc::new(Endpoint {
            worker: worker.clone(),
            listener,
            socket: UdpSocket::new(socket)?,
            quic: RefCell::new(quic),
            links: RefCell::default(),
            keys: keys.clone(),
            workers: workers.clone(),
            connections: connections.clone(),
            handshakes: Cell::new(0),
            blocked: RefCell::default(),
        }))
    }

    /// Index into the config.
    pub(in super::super) fn listener(&self) -> usize {
        self.listener
    }

    /// New connections use these certificates and keys.
    pub(in super::super) fn set_tls(&self, tls: Arc<QuicTls>) {
        let server = settings::server(&self.worker.config, &self.keys, tls);
        self.quic.borrow_mut().set_server_config(Some(server));
    }

    /// Receives for as long as the worker runs.
    pub(in super::super) async fn receive(self: Rc<Self>) {
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES_MAX);
        loop {
            if let Err(error) = self.socket.readable().await {
                tracing::warn!(worker = self.worker.index, %error, "UDP socket cannot be waited for");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            let now = self.worker.now();
            for _ in 0..BURST {
                buffer.clear();
                match self.socket.try_recv(&mut buffer) {
                    Ok(Some(received)) => self.take(&received, &buffer, now),
                    Ok(None) => break,
                    // About a datagram of ours that did not arrive: its loss is noticed otherwise.
                    Err(error) => tracing::debug!(%error, "datagram not received"),
                }
            }
        }
    }

    fn take(self: &Rc<Self>, received: &Received, bytes: &[u8], now: Instant) {
        self.worker.stats.http.bytes_in.add(bytes.len() as u64);
        let mut rest = BytesMut::from(bytes);
        while !rest.is_empty() {
            let bytes = rest.split_to(rest.len().min(received.segment_bytes));
            let Received { peer, local, ecn, .. } = *received;
            let datagram = Datagram { listener: self.listener, peer, local, ecn, bytes };
            match self.owner(&datagram.bytes) {
                Some(worker) if worker != self.worker.index => self.forward(worker, datagram),
                _ => self.handle(datagram, now),
            }
        }
    }

    /// Index of the worker that has given the connection id.
    fn owner(&self, datagram: &[u8]) -> Option<usize> {
        let id = destination(datagram).filter(|id| id.len() == Ids::BYTES)?;
        self.keys.ids().worker(id).map(usize::from).filter(|worker| *worker < self.workers.len())
    }

    fn forward(&self, worker: usize, datagram: Datagram) {
        let stats = &self.worker.stats.http3;
        match self.workers[worker].send(datagram) {
            Ok(()) => stats.forwarded.inc(),
            // As on a network that is full: its sender finds out.
            Err(_) => stats.dropped.inc(),
        }
    }

    /// Takes what another worker has received.
    pub(in super::super) fn take_forwarded(self: &Rc<Self>, datagram: Datagram) {
        self.handle(datagram, self.worker.now());
    }

    fn handle(self: &Rc<Self>, datagram: Datagram, now: Instant) {
        let Datagram { peer, local, ecn, bytes, .. } = datagram;
        let mut answer = Vec::new();
        let event = self.quic.borrow_mut().handle(now, peer, local, EcnCodepoint::from_bits(ecn), bytes, &mut answer);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let link = self.links.borrow().get(&handle).cloned();
                if let Some(link) = link {
                    link.quic.borrow_mut().handle_event(event);
                    link.wake();
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.welcome(incoming),
            // A reset, a refusal, or versions that are spoken here.
            Some(DatagramEvent::Response(transmit)) => self.respond(&transmit, &answer),
            None => {}
        }
    }

    /// A client begins.
    fn welcome(self: &Rc<Self>, incoming: Incoming) {
        let (worker, handshakes) = (&self.worker, self.handshakes.get());
        let stats = &worker.stats.http3;
        if handshakes >= HANDSHAKES_MAX {
            stats.dropped.inc();
            return self.quic.borrow_mut().ignore(incoming);
        }
        let must_prove = worker.config.http3.retry == Retry::Always || handshakes >= RETRY_FROM;
        let mut answer = Vec::new();
        if must_prove && !incoming.remote_address_validated() {
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
        let open = if worker.is_draining() { None } else { Open::new(worker, &self.connections, self.listener) };
        match open {
            Some(open) => {
                self.handshakes.set(handshakes + 1);
                crate::runtime::spawn(self.clone().accept(incoming, open));
            }
            None => {
                let transmit = self.quic.borrow_mut().refuse(incoming, &mut answer);
                self.respond(&transmit, &answer);
            }
        }
    }

    /// Computes the first part of a handshake when its turn has come, then drives the connection to its end.
    async fn accept(self: Rc<Self>, incoming: Incoming, open: Open) {
        let worker = self.worker.clone();
        let (peer, now) = (incoming.remote_address(), worker.now());
        let turn = worker.handshakes.enter().await;
        let mut answer = Vec::new();
        let accepted = self.quic.borrow_mut().accept(incoming, worker.now(), &mut answer, None);
        let accepted = match accepted {
            Ok((handle, quic)) => {
                let link = Link::new(&self, handle, quic);
                self.links.borrow_mut().insert(handle, link.clone());
                Ok((link, link::connection(&self, peer, now, open)))
            }
            Err(error) => Err(error),
        };
        worker.handshakes.leave(turn).await;
        match accepted {
            Ok((link, connection)) => link::drive(link, connection).await,
            Err(error) => {
                self.end_handshake();
                worker.stats.tls.failed.inc();
                tracing::debug!(%peer, error = %error.cause, "QUIC handshake failed");
                if let Some(transmit) = error.response {
                    self.respond(&transmit, &answer);
                }
            }
        }
    }

    /// One handshake is no longer under way.
    pub(super) fn end_handshake(&self) {
        self.handshakes.set(self.handshakes.get() - 1);
    }

    /// Hands over what a connection and its endpoint have for each other.
    pub(super) fn exchange_events(&self, link: &Link) {
        loop {
            let event = link.quic.borrow_mut().poll_endpoint_events();
            let Some(event) = event else { return };
            if event.is_drained() {
                self.links.borrow_mut().remove(&link.handle);
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
            self.worker.stats.http.bytes_out.add(transmit.size as u64);
        }
        sent
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
    pub(in super::super) fn close_all(&self) {
        let links: Vec<Rc<Link>> = self.links.borrow().values().cloned().collect();
        links.iter().for_each(|link| link.close_now());
    }
}

const _: () = assert!(RETRY_FROM < HANDSHAKES_MAX && WAITING_MAX <= HANDSHAKES_MAX);
