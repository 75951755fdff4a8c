//! UDP sockets of listeners in UDP mode, and the count of flows that goes with them.
//!
//! The kernel chooses among the sockets of an address by both ends of a datagram, so that a client meets the same worker for as
//! long as these are the same sockets: they stay for as long as the listener does, and one that comes back while its flows
//! run out gets them again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::sockets::{QuicPorts, UdpKind, kind};
use super::start::StartError;
use super::takeover::Inherited;
use crate::config::model::Listener;
use crate::control::shared::ListenerFacts;
use crate::guard::FlowLimits;
use crate::runtime::net::Address;
use crate::worker::FlowSocket;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct FlowPorts {
    /// Not those of HTTP/3, to which such a socket must not be given while its connections drain: that would be one in use.
    ports: QuicPorts,
    limits: Arc<Mutex<HashMap<SocketAddr, Weak<FlowLimits>>>>,
}

impl FlowPorts {
    /// The sockets of `listener`, one for each data worker, and what it turned out to be.
    pub(super) fn bind(
        &self,
        listener: &Listener,
        slot: usize,
        data_workers: usize,
        inherited: &mut Inherited,
    ) -> Result<(ListenerFacts, Vec<FlowSocket>), StartError> {
        let error =
            |error| StartError::Bind { name: listener.name.clone(), address: Address::Tcp(listener.address), error };
        let mut address = listener.address;
        if let Some(bound) = inherited.port_of(&listener.name, listener.address) {
            address.set_port(bound);
        } else if address.port() == 0 {
            let probe = std::net::UdpSocket::bind(address).map_err(error)?;
            address.set_port(probe.local_addr().map_err(error)?.port());
        }
        let sockets = self.ports.sockets(address, data_workers, UdpKind::Flows, inherited).map_err(error)?;
        let limits = self.limits(address);
        let fact = ListenerFacts { name: listener.name.clone(), kind: kind(listener), address: address.to_string() };
        let socket = |socket| FlowSocket { slot, address, socket, limits: limits.clone() };
        Ok((fact, sockets.into_iter().map(socket).collect()))
    }

    /// All sockets that are in use, by address.
    pub(super) fn all(&self) -> std::io::Result<Vec<(SocketAddr, std::os::fd::OwnedFd)>> {
        self.ports.all()
    }

    fn limits(&self, address: SocketAddr) -> Arc<FlowLimits> {
        let mut known = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, limits| limits.strong_count() > 0);
        let before = known.get(&address).and_then(Weak::upgrade);
        let limits = before.unwrap_or_else(|| Arc::new(FlowLimits::new(rand::random())));
        known.insert(address, Arc::downgrade(&limits));
        limits
    }
}
