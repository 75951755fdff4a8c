//! The UDP sockets of a worker: opened and left with the configs that have HTTP/3 behind them.
//!
//! A listener that stays keeps its endpoint, and with it the connections. One that loses its HTTP/3, or is no more, takes no
//! new connections; those that are there end as in a drain, and the socket is closed behind the last one. If HTTP/3 comes
//! back meanwhile, the same socket is used again: a second one beside it would be given some of its packets.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::super::Worker;
use super::endpoint::{Datagram, Endpoint};
use super::generation::Before;
use super::settings::Keys;
use crate::runtime::mailbox::Sender;
use crate::runtime::udp::BoundUdp;

/// A UDP socket of one data worker, for the HTTP/3 of a listener.
#[derive(Clone, Debug)]
pub(crate) struct QuicSocket {
    /// Of the listener.
    pub(crate) slot: usize,
    /// As bound, the same on all workers.
    pub(crate) address: SocketAddr,
    /// Boot finds it again for as long as it is in use.
    pub(crate) socket: Arc<BoundUdp>,
}

/// See the module.
pub(in super::super) struct Endpoints {
    all: RefCell<Vec<Rc<Endpoint>>>,
    pub(super) keys: Keys,
    /// Mailboxes of all data workers.
    pub(super) workers: Rc<[Sender<Datagram>]>,
    /// The process before this one.
    pub(super) before: Before,
    /// Another process reads the sockets that are bound to these.
    handed: RefCell<Left>,
}

/// Which sockets another process reads.
#[derive(Clone, Debug, Default)]
pub(crate) enum Left {
    #[default]
    None,
    /// All of them, as long as the takeover is not settled.
    All,
    /// Those at these addresses.
    Some(Arc<HashSet<SocketAddr>>),
}

impl Left {
    fn has(&self, address: SocketAddr) -> bool {
        match self {
            Left::None => false,
            Left::All => true,
            Left::Some(addresses) => addresses.contains(&address),
        }
    }
}

impl Endpoints {
    /// `workers` are the mailboxes of all data workers; `before` leads to the process before this one.
    pub(in super::super) fn new(
        keys: Keys,
        workers: Vec<Sender<Datagram>>,
        before: Option<Arc<UnixDatagram>>,
    ) -> Endpoints {
        let (workers, before) = (workers.into(), Before::new(before));
        Endpoints { all: RefCell::default(), keys, workers, before, handed: RefCell::default() }
    }

    /// Leaves what comes to these sockets to another process from now on, or takes it again.
    pub(in super::super) fn hand(&self, handed: Left) {
        self.handed.replace(handed);
        let all = self.all.borrow().clone();
        all.iter().for_each(|endpoint| endpoint.receivers.wake());
    }

    pub(in super::super) fn is_handed(&self, address: SocketAddr) -> bool {
        self.handed.borrow().has(address)
    }

    /// Serves HTTP/3 of the listener that `worker` has in the slot of `socket`. Errors: the socket cannot be used here.
    pub(in super::super) fn open(&self, worker: &Rc<Worker>, socket: QuicSocket) -> io::Result<()> {
        let QuicSocket { slot, address, socket } = socket;
        let door = worker.doors.borrow().iter().find(|door| door.slot == slot && !door.is_closed()).cloned();
        // Without a door its TCP socket could not be used, which has been told.
        let Some(door) = door else { return Ok(()) };
        let Some(tls) = worker.quic.borrow()[worker.listener_index(&door)].clone() else { return Ok(()) };
        let known = self.find(address);
        if let Some(endpoint) = known {
            endpoint.reopen(door, tls);
            return endpoint.receive_from(socket);
        }
        let endpoint = Endpoint::new(worker, door, address, &socket, tls)?;
        self.all.borrow_mut().push(endpoint.clone());
        endpoint.receive_from(socket)
    }

    /// There is a new config, or there are new certificates: new connections begin with them.
    pub(in super::super) fn go_on(&self, now: Instant) {
        let all = self.all.borrow().clone();
        all.iter().for_each(|endpoint| endpoint.go_on(now));
    }

    /// Takes what another worker has received.
    pub(in super::super) fn take_forwarded(&self, datagram: Datagram) {
        let endpoint = self.find(datagram.address());
        if let Some(endpoint) = endpoint {
            endpoint.take_forwarded(datagram);
        }
    }

    /// Tells all clients that it is over: the process ends.
    pub(in super::super) fn close_all(&self) {
        let all = self.all.take();
        all.iter().for_each(|endpoint| endpoint.close_all());
    }

    /// An endpoint is at its end.
    pub(super) fn forget(&self, endpoint: &Rc<Endpoint>) {
        self.all.borrow_mut().retain(|known| !Rc::ptr_eq(known, endpoint));
    }

    fn find(&self, address: SocketAddr) -> Option<Rc<Endpoint>> {
        self.all.borrow().iter().find(|endpoint| endpoint.address() == address).cloned()
    }
}
