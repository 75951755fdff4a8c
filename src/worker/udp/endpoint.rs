//! One listener in UDP mode on this worker: its socket and its flows.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::super::{Lasting, Worker};
use super::begin::Throttles;
use super::endpoints::FlowSocket;
use super::trail::{self, Ending};
use crate::config::model::UdpRoute;
use crate::guard::{FlowLimits, FlowPlace};
use crate::metrics::{UdpRefusal, UdpStats};
use crate::proxy::flows::{FlowId, FlowKey, Flows, Tally};
use crate::runtime::udp::{BoundUdp, Outgoing, RECEIVE_BYTES_MAX, Received, UdpSocket};
use crate::worker::forward::{Held, observe_connect_failure, observe_connected};
use crate::worker::receivers::{BURST, Receivers};

/// Answers of a flow from which the kernel is asked to join them.
const JOIN_FROM: u64 = 16;

/// Flows that one tick ends because of their silence; more wait for the next one.
const EXPIRED_PER_TICK: usize = 4096;

/// What this worker has of a listener in UDP mode.
pub(super) struct Endpoint {
    pub(super) lasting: Rc<Lasting>,
    slot: Cell<usize>,
    /// As the present config has it; when the listener is left, as the last one that had it.
    worker: RefCell<Rc<Worker>>,
    /// As bound, the same on all workers.
    address: SocketAddr,
    /// The one that sends.
    socket: UdpSocket,
    /// Those that are received from, `socket` among them.
    pub(super) receivers: Receivers,
    pub(super) limits: Arc<FlowLimits>,
    pub(super) flows: RefCell<Flows<Rc<Link>>>,
    pub(super) throttles: Throttles,
    /// What is received goes through this; nothing stays in it.
    buffer: RefCell<Vec<u8>>,
    /// The config does not have the listener any more.
    is_left: Cell<bool>,
    /// The process ends.
    is_closed: Cell<bool>,
}

/// What a flow has beside its counts.
pub(super) struct Link {
    pub(super) key: FlowKey,
    pub(super) socket: UdpSocket,
    /// The config it began with, and its place at a server.
    pub(super) held: Held,
    /// Index into that config.
    pub(super) listener: usize,
    /// Serial number, as a connection has one.
    pub(super) serial: u64,
    /// Servers tried, this one included.
    pub(super) tries: u32,
    pub(super) _place: FlowPlace,
    pub(super) answers: Cell<u64>,
    is_over: Cell<bool>,
}

impl Link {
    pub(super) fn new(
        key: FlowKey,
        socket: UdpSocket,
        held: Held,
        listener: usize,
        serial: u64,
        place: FlowPlace,
    ) -> Link {
        let (answers, is_over) = (Cell::new(0), Cell::new(false));
        Link { key, socket, held, listener, serial, tries: 1, _place: place, answers, is_over }
    }

    /// Counters of the listener, which the next config has too.
    pub(super) fn stats(&self) -> &UdpStats {
        &self.held.worker().stats.udp[self.listener]
    }
}

impl Endpoint {
    /// Takes `socket` over for the current data worker.
    pub(super) fn new(worker: &Rc<Worker>, socket: FlowSocket) -> io::Result<Rc<Endpoint>> {
        let FlowSocket { slot, address, socket, limits } = socket;
        Ok(Rc::new(Endpoint {
            lasting: worker.lasting.clone(),
            slot: Cell::new(slot),
            worker: RefCell::new(worker.clone()),
            address,
            socket: UdpSocket::new(&socket)?,
            receivers: Receivers::default(),
            limits,
            flows: RefCell::new(Flows::new(rand::random())),
            throttles: Throttles::default(),
            buffer: RefCell::new(Vec::with_capacity(RECEIVE_BYTES_MAX)),
            is_left: Cell::new(false),
            is_closed: Cell::new(false),
        }))
    }

    /// Of the socket, as bound.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Flows open now.
    pub(super) fn flows(&self) -> usize {
        self.flows.borrow().len()
    }

    /// It serves the listener in this slot.
    pub(super) fn is_open_at(&self, slot: usize) -> bool {
        !self.is_left.get() && self.slot.get() == slot
    }

    /// What the next flow begins with, and the index of the listener in it.
    pub(super) fn present(&self) -> (Rc<Worker>, usize) {
        let worker = self.worker.borrow().clone();
        let listener = worker.listeners[self.slot.get()].expect("the config of an endpoint has its listener");
        (worker, listener)
    }

    /// A flow may begin, as far as the listener and the process are concerned.
    pub(super) fn is_open(&self) -> bool {
        !self.is_left.get() && self.lasting.draining_since.get().is_none()
    }

    /// There is a new config.
    pub(super) fn go_on(&self, worker: &Rc<Worker>) {
        if self.is_left.get() {
            return;
        }
        match worker.listeners.get(self.slot.get()) {
            Some(Some(_)) => drop(self.worker.replace(worker.clone())),
            _ => {
                self.is_left.set(true);
                self.look_at_the_end();
            }
        }
    }

    /// The config has the listener again, and flows may begin.
    pub(super) fn reopen(&self, worker: &Rc<Worker>, slot: usize) {
        self.slot.set(slot);
        self.worker.replace(worker.clone());
        self.is_left.set(false);
    }

    /// The process ends, or the listener is left and no worker has a flow of it any more. A worker without flows keeps its
    /// socket for those of the others: the kernel counts on how many there are, and one less would lead the datagrams of
    /// these flows to other workers.
    fn is_over(&self) -> bool {
        self.is_closed.get() || self.is_left.get() && self.limits.open() == 0
    }

    /// Lets the receiver look whether that was all.
    fn look_at_the_end(&self) {
        if self.is_over() {
            self.receivers.wake();
        }
    }

    /// Receives from `socket` too, unless it does so already.
    pub(super) fn receive_from(self: &Rc<Self>, socket: Arc<BoundUdp>) -> io::Result<()> {
        if let Some(receiver) = self.receivers.add(socket)? {
            crate::runtime::spawn(self.clone().receive(receiver));
        }
        Ok(())
    }

    /// Receives for as long as the worker runs, or until it has been left by all.
    async fn receive(self: Rc<Self>, socket: UdpSocket) {
        while !self.receivers.wait(&self.lasting, self.address, &socket, || self.is_over()).await {
            self.take_burst(&socket);
        }
        self.lasting.flows.forget(&self);
    }

    fn take_burst(self: &Rc<Self>, socket: &UdpSocket) {
        let ((worker, listener), now) = (self.present(), self.lasting.now());
        let Some(route) = &worker.config.listeners[listener].udp else { return };
        let mut buffer = self.buffer.borrow_mut();
        for _ in 0..BURST {
            buffer.clear();
            match socket.try_recv(&mut buffer) {
                Ok(Some(received)) => self.take(&worker, listener, route, &received, &buffer, now),
                Ok(None) => return,
                // A broken datagram, or one of ours that a firewall here has stopped.
                Err(error) => tracing::debug!(%error, "datagram not received"),
            }
        }
    }

    /// Datagrams of one client.
    fn take(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        listener: usize,
        route: &UdpRoute,
        received: &Received,
        bytes: &[u8],
        now: Instant,
    ) {
        let stats = &worker.stats.udp[listener];
        if received.peer.port() == 0 {
            return; // nobody could be answered there
        }
        let each = received.segment_bytes;
        if each.min(bytes.len()) > route.datagram_bytes_max {
            return stats.refused(UdpRefusal::TooLong).add(datagrams(bytes, each));
        }
        let key = FlowKey { client: received.peer, local: received.local };
        let (mut rest, mut failures) = (bytes, 0);
        loop {
            let found = self.flows.borrow().find(&key);
            let id = match found.map_or_else(|| self.begin(worker, listener, route, key, now), Ok) {
                Ok(id) => id,
                Err(why) => return stats.refused(why).add(datagrams(rest, each)),
            };
            let takes = usize::try_from(self.flows.borrow().takes(id)).unwrap_or(usize::MAX);
            let (these, later) = rest.split_at(rest.len().min(each.saturating_mul(takes)));
            match self.send_up(id, these, each, now) {
                Ok(()) if later.is_empty() => return,
                Ok(()) => rest = later,
                // The server that had the flow is not there. Nothing of this has been sent: another one gets it.
                Err(error) => {
                    self.finish(id, &Ending::ServerFailed(error), Whose::Other, now);
                    failures += 1;
                    if failures >= worker.config.upstreams[route.upstream].retry.tries_max {
                        return stats.refused(UdpRefusal::NoServer).add(datagrams(rest, each));
                    }
                }
            }
        }
    }

    /// Errors: the server has refused what it got before.
    fn send_up(self: &Rc<Self>, id: FlowId, bytes: &[u8], each: usize, now: Instant) -> io::Result<()> {
        let link = self.flows.borrow().value(id).cloned();
        let Some(link) = link else { return Ok(()) };
        let outgoing = Outgoing { bytes, segment_bytes: Some(each), peer: self.address, local: None, ecn: 0 };
        let lost = link.socket.pass_on(&outgoing, true)?;
        let (listener, server) = (link.stats(), link.held.stats());
        let sent = Tally { datagrams: datagrams(bytes, each), bytes: bytes.len() as u64 };
        listener.lost.add(lost);
        listener.datagrams_up.add(sent.datagrams);
        listener.bytes_up.add(sent.bytes);
        server.datagrams_up.add(sent.datagrams);
        server.tunnel_bytes_up.add(sent.bytes);
        let is_complete = self.flows.borrow_mut().on_up(id, sent, now);
        if is_complete {
            self.finish(id, &Ending::Complete, Whose::Other, now);
        }
        Ok(())
    }

    /// Passes the answers of a flow on until it ends.
    pub(super) async fn answer(self: Rc<Self>, id: FlowId, link: Rc<Link>) {
        loop {
            let ready = link.socket.readable().await;
            if link.is_over.get() {
                return;
            }
            match ready {
                Ok(()) => self.take_answers(id, &link),
                Err(error) => self.finish(id, &Ending::ServerFailed(error), Whose::Own, self.lasting.now()),
            }
            if link.is_over.get() {
                return;
            }
        }
    }

    fn take_answers(&self, id: FlowId, link: &Link) {
        let now = self.lasting.now();
        let mut buffer = self.buffer.borrow_mut();
        for _ in 0..BURST {
            buffer.clear();
            match link.socket.try_recv(&mut buffer) {
                Ok(Some(received)) => self.send_down(id, link, &buffer, received.segment_bytes, now),
                Ok(None) => return,
                Err(error) => self.finish(id, &Ending::ServerFailed(error), Whose::Own, now),
            }
            if link.is_over.get() {
                return;
            }
        }
    }

    fn send_down(&self, id: FlowId, link: &Link, bytes: &[u8], each: usize, now: Instant) {
        let (listener, server) = (link.stats(), link.held.stats());
        if link.answers.get() == 0 {
            link.held.on_answer();
            observe_connected(link.held.worker(), link.held.upstream, link.held.server);
        }
        let count = datagrams(bytes, each);
        let is_too_long = each.min(bytes.len()) > self.datagram_bytes_max(link);
        if is_too_long {
            listener.refused(UdpRefusal::TooLong).add(count);
        } else {
            let FlowKey { client: peer, local } = link.key;
            let sent = self.socket.pass_on(&Outgoing { bytes, segment_bytes: Some(each), peer, local, ecn: 0 }, false);
            match sent {
                Ok(lost) => listener.lost.add(lost),
                Err(error) => {
                    listener.lost.add(count);
                    tracing::debug!(%peer, %error, "answer not sent");
                }
            }
            listener.datagrams_down.add(count);
            listener.bytes_down.add(bytes.len() as u64);
        }
        server.datagrams_down.add(count);
        server.tunnel_bytes_down.add(bytes.len() as u64);
        let before = link.answers.replace(link.answers.get() + count);
        if before < JOIN_FROM && link.answers.get() >= JOIN_FROM {
            link.socket.join_received();
        }
        let is_complete =
            self.flows.borrow_mut().on_down(id, Tally { datagrams: count, bytes: bytes.len() as u64 }, now);
        if is_complete {
            self.finish(id, &Ending::Complete, Whose::Own, now);
        }
    }

    fn datagram_bytes_max(&self, link: &Link) -> usize {
        let route = link.held.worker().config.listeners[link.listener].udp.as_ref();
        route.map_or(usize::MAX, |route| route.datagram_bytes_max)
    }

    /// A flow is over. Nothing happens if it has been before.
    fn finish(&self, id: FlowId, ending: &Ending, whose: Whose, now: Instant) {
        let flow = self.flows.borrow_mut().end(id);
        let Some(flow) = flow else { return };
        let link = &flow.value;
        link.is_over.set(true);
        if whose == Whose::Other {
            // Its task waits for answers, and must have its operation back from the kernel before the socket is closed.
            link.socket.shut_down();
        }
        if let Ending::ServerFailed(error) = ending {
            self.on_server_failed(link, error, now);
        }
        trail::account(&flow, ending, self.address.port(), now);
        self.look_at_the_end();
    }

    /// As a failed connect is taken: the server rests for a moment, so that the client's next datagram meets another one.
    fn on_server_failed(&self, link: &Link, error: &io::Error, now: Instant) {
        let Held { upstream, server, .. } = link.held;
        let worker = link.held.worker();
        worker.upstreams[upstream].borrow_mut().on_connect_failed(server, now);
        link.held.stats().connect_errors.inc();
        observe_connect_failure(worker, upstream, server, Some(error));
        if let Some(held_back) = self.throttles.server_failed.may_say(now) {
            let config = &worker.config.upstreams[upstream];
            let address = &config.servers[server].address;
            tracing::warn!(upstream = %config.name, server = %address, %error, held_back, "server refuses datagrams");
        }
    }

    /// Ends flows that have been silent for too long, and those of servers that are down or taken out.
    pub(super) fn tick(self: &Rc<Self>, now: Instant) {
        // The last flow may have been another worker's.
        self.look_at_the_end();
        if self.flows.borrow().is_empty() {
            return;
        }
        let (worker, listener) = self.present();
        let Some(route) = &worker.config.listeners[listener].udp else { return };
        for _ in 0..EXPIRED_PER_TICK {
            let silent = self.flows.borrow().silent(route.idle_timeout, now);
            let Some(id) = silent else { break };
            self.finish(id, &Ending::Silent, Whose::Other, now);
        }
        // Looking at the servers first: there are fewer of them.
        let is_out_of_use = |(u, upstream): (usize, &crate::config::model::Upstream)| {
            (0..upstream.servers.len())
                .any(|s| worker.stats.servers[u][s].active.value() > 0 && !keeps_flows(&worker, u, s))
        };
        if worker.config.upstreams.iter().enumerate().any(is_out_of_use) {
            let is_lost = |link: &Rc<Link>| !keeps_flows(link.held.worker(), link.held.upstream, link.held.server);
            let lost = self.flows.borrow().select(is_lost);
            lost.into_iter().for_each(|id| self.finish(id, &Ending::ServerDown, Whose::Other, now));
        }
    }

    /// Ends everything: the process ends.
    pub(super) fn close(&self) {
        let all = self.flows.borrow().select(|_| true);
        all.into_iter().for_each(|id| self.finish(id, &Ending::Stopped, Whose::Other, self.lasting.now()));
        self.is_closed.set(true);
        self.look_at_the_end();
    }
}

/// Whose task ends a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Its own.
    Own,
    /// Another one, beside which its own waits.
    Other,
}

/// The server is up, or drains: its flows may run out.
fn keeps_flows(worker: &Worker, upstream: usize, server: usize) -> bool {
    worker.shared.is_up(upstream, server) || worker.shared.servers[upstream][server].keeps_clients()
}

/// How many there are in `bytes`, of which each but the last has the same length. An empty one is one too.
fn datagrams(bytes: &[u8], each: usize) -> u64 {
    bytes.len().div_ceil(each.max(1)).max(1) as u64
}
