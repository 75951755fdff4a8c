//! The listeners in UDP mode of a worker: opened and left with the configs that have them.
//!
//! A listener that stays keeps its endpoint, and with it the flows. One that is no more begins no flows; those that are there run
//! out, and the sockets of all workers are closed behind the last one. If it comes back meanwhile, the same sockets are used
//! again: each client is led to the worker that has its flow.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::super::Worker;
use super::endpoint::Endpoint;
use crate::guard::FlowLimits;
use crate::runtime::udp::BoundUdp;

/// A UDP socket of one data worker, for a listener in UDP mode.
#[derive(Clone, Debug)]
pub(crate) struct FlowSocket {
    /// Of the listener.
    pub(crate) slot: usize,
    /// As bound, the same on all workers.
    pub(crate) address: SocketAddr,
    /// Boot finds it again for as long as it is in use.
    pub(crate) socket: Arc<BoundUdp>,
    /// The same for all workers.
    pub(crate) limits: Arc<FlowLimits>,
}

/// See the module.
#[derive(Default)]
pub(in super::super) struct Endpoints(RefCell<Vec<Rc<Endpoint>>>);

impl Endpoints {
    /// Serves the listener that `worker` has in the slot of `socket`. Errors: the socket cannot be used here.
    pub(in super::super) fn open(&self, worker: &Rc<Worker>, socket: FlowSocket) -> io::Result<()> {
        let known = self.0.borrow().iter().find(|endpoint| endpoint.address() == socket.address).cloned();
        if let Some(endpoint) = known {
            endpoint.reopen(worker, socket.slot);
            return endpoint.receive_from(socket.socket);
        }
        let bound = socket.socket.clone();
        let endpoint = Endpoint::new(worker, socket)?;
        self.0.borrow_mut().push(endpoint.clone());
        endpoint.receive_from(bound)
    }

    /// Another process reads some of the sockets, or no longer does.
    pub(in super::super) fn wake_receivers(&self) {
        self.all().iter().for_each(|endpoint| endpoint.receivers.wake());
    }

    /// There is a new config: new flows begin with it.
    pub(in super::super) fn go_on(&self, worker: &Rc<Worker>) {
        self.all().iter().for_each(|endpoint| endpoint.go_on(worker));
    }

    /// For the worker's tick.
    pub(in super::super) fn tick(&self, now: Instant) {
        if !self.0.borrow().is_empty() {
            self.all().iter().for_each(|endpoint| endpoint.tick(now));
        }
    }

    /// Flows open now.
    pub(in super::super) fn flows(&self) -> usize {
        self.0.borrow().iter().map(|endpoint| endpoint.flows()).sum()
    }

    /// Port of an open listener.
    pub(in super::super) fn port_of(&self, slot: usize) -> Option<u16> {
        let all = self.0.borrow();
        all.iter().find(|endpoint| endpoint.is_open_at(slot)).map(|endpoint| endpoint.address().port())
    }

    /// Ends all flows: the process ends.
    pub(in super::super) fn close_all(&self) {
        let all = self.0.take();
        all.iter().for_each(|endpoint| endpoint.close());
    }

    /// An endpoint is at its end.
    pub(super) fn forget(&self, endpoint: &Rc<Endpoint>) {
        self.0.borrow_mut().retain(|known| !Rc::ptr_eq(known, endpoint));
    }

    fn all(&self) -> Vec<Rc<Endpoint>> {
        self.0.borrow().clone()
    }
}
