//! A new flow: whether there may be one, and at which server.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::Worker;
use super::endpoint::{Endpoint, Link};
use crate::config::model::UdpRoute;
use crate::guard::{NoPlace, Source};
use crate::log::AddressText;
use crate::metrics::UdpRefusal;
use crate::proxy::Tried;
use crate::proxy::balance::rendezvous;
use crate::proxy::flows::{FlowId, FlowKey};
use crate::runtime::net::{Address, is_own_failure};
use crate::runtime::udp::UdpSocket;
use crate::util::seldom::Seldom;
use crate::worker::forward::{Held, observe_connect_failure, place_for_flow};

/// How often one and the same trouble of a listener stands in the log, on each worker.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// What is said seldom, because anybody can give reason to with a few datagrams.
pub(super) struct Throttles {
    full: Seldom,
    no_server: Seldom,
    resource: Seldom,
    pub(super) server_failed: Seldom,
}

impl Default for Throttles {
    fn default() -> Throttles {
        let seldom = || Seldom::new(SAID_EVERY);
        Throttles { full: seldom(), no_server: seldom(), resource: seldom(), server_failed: seldom() }
    }
}

impl Endpoint {
    /// Begins a flow for the first datagram of `key`. `Err`: there is none, and why.
    pub(super) fn begin(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        listener: usize,
        route: &UdpRoute,
        key: FlowKey,
        now: Instant,
    ) -> Result<FlowId, UdpRefusal> {
        if !self.is_open() {
            return Err(UdpRefusal::Draining);
        }
        let address = key.client.ip().to_canonical();
        let config = &worker.config.listeners[listener];
        if config.access.as_ref().is_some_and(|access| !access.admits(Source::Ip(address))) {
            return Err(UdpRefusal::Access);
        }
        let place = self.limits.enter(address, route.flows_max, route.flows_per_address_max);
        let place = place.map_err(|why| match why {
            NoPlace::OfAddress => UdpRefusal::PerAddress,
            NoPlace::Full => {
                if let Some(held_back) = self.throttles.full.may_say(now) {
                    let flows_max = route.flows_max;
                    tracing::warn!(listener = %config.name, flows_max, held_back, "new flows are refused: there are as many as may be");
                }
                UdpRefusal::FlowsMax
            }
        })?;
        let (socket, held, tries) = self.connect(worker, listener, route, key, now)?;
        let mut link = Link::new(key, socket, held, listener, worker.next_serial(), place);
        link.tries = tries;
        link.held.stats().requests.inc();
        link.stats().flows.inc();
        link.stats().open.inc();
        worker.stats.listeners[listener].open.inc();
        let link = Rc::new(link);
        let id = self.flows.borrow_mut().begin(key, route.bounds, link.clone(), now);
        crate::runtime::spawn(self.clone().answer(id, link));
        Ok(id)
    }

    /// A socket at a server. Connecting sends nothing: whether the server is there shows behind the first datagram.
    fn connect(
        &self,
        worker: &Rc<Worker>,
        listener: usize,
        route: &UdpRoute,
        key: FlowKey,
        now: Instant,
    ) -> Result<(UdpSocket, Held, u32), UdpRefusal> {
        let (upstream, name) = (&worker.config.upstreams[route.upstream], &worker.config.listeners[listener].name);
        // Of all that keeps requests together a datagram has the address alone.
        let address = || AddressText::new(Some(key.client.ip().to_canonical()));
        let hash = upstream.hash.as_ref().map(|_| rendezvous::hash(address().as_bytes()));
        let (mut tried, mut tries) = (Tried::new(), 0);
        while tries < upstream.retry.tries_max {
            let Some(held) = place_for_flow(worker, route.upstream, &tried, hash) else { break };
            let server = held.server;
            if tried.contains(server) {
                break;
            }
            tries += 1;
            let Address::Tcp(address) = &upstream.servers[server].address else {
                // A name that has no address now.
                tried.insert(server);
                continue;
            };
            let error = match UdpSocket::connected(*address) {
                Ok(socket) => return Ok((socket, held, tries)),
                Err(error) => error,
            };
            if is_own_failure(&error) || is_out_of_ports(&error) {
                if let Some(held_back) = self.throttles.resource.may_say(now) {
                    tracing::error!(listener = %name, %error, held_back, "new flows are refused: no socket for them");
                }
                return Err(UdpRefusal::Resource);
            }
            worker.upstreams[route.upstream].borrow_mut().on_connect_failed(server, now);
            held.stats().connect_errors.inc();
            observe_connect_failure(worker, route.upstream, server, Some(&error));
            if let Some(held_back) = self.throttles.server_failed.may_say(now) {
                tracing::warn!(upstream = %upstream.name, server = %address, %error, held_back, "no way to a server");
            }
            tried.insert(server);
        }
        if let Some(held_back) = self.throttles.no_server.may_say(now) {
            tracing::warn!(listener = %name, upstream = %upstream.name, held_back, "new flows are refused: no server has a place for them");
        }
        Err(UdpRefusal::NoServer)
    }
}

/// All local ports are taken: udp(7).
fn is_out_of_ports(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
