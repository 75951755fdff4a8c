//! Connections of the process before: after a takeover this process has the UDP sockets, and the one before has connections
//! that it finishes.
//!
//! A connection id tells the process that gave it by its generation, a number that goes up with each takeover, beside the
//! worker. What belongs to an earlier one goes to it, or through it to the one before that, over a pair of Unix sockets, each
//! datagram with the addresses it came with:
//!
//! ```text
//!   ECN (1 byte) | socket as bound | sender | address of ours that it came to | content
//!   address: 0 (none), or 4 | IPv4 | port, or 6 | IPv6 | port, in network order
//! ```

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use bytes::BytesMut;

use super::endpoint::Datagram;
use super::settings::Keys;
use crate::http::h3::{Ids, destination};

/// Bits of an id's worker number that tell the worker; those above tell the generation.
const WORKER_BITS: u32 = 10;

/// Generations are counted round: that of a process which ended so many takeovers ago is free again.
pub(super) const GENERATIONS: u8 = 1 << (u16::BITS - WORKER_BITS);

/// Who has given a connection id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) generation: u8,
    pub(super) worker: usize,
}

impl Place {
    pub(super) fn number(self) -> u16 {
        let worker = u16::try_from(self.worker).unwrap_or(u16::MAX) & ((1 << WORKER_BITS) - 1);
        u16::from(self.generation % GENERATIONS) << WORKER_BITS | worker
    }

    pub(super) fn of_number(number: u16) -> Place {
        let worker = usize::from(number & ((1 << WORKER_BITS) - 1));
        Place { generation: (number >> WORKER_BITS) as u8, worker }
    }
}

/// What the process before gets from one worker of this one.
pub(super) struct Before {
    socket: Option<Arc<UnixDatagram>>,
    is_gone: Cell<bool>,
}

impl Before {
    pub(super) fn new(socket: Option<Arc<UnixDatagram>>) -> Before {
        Before { is_gone: Cell::new(socket.is_none()), socket }
    }

    /// Passes a datagram on, without waiting. `Err(WouldBlock)`: it has no room, as a network would not.
    ///
    /// Other errors: the process before has ended, and with it its connections.
    pub(super) fn send(&self, datagram: &Datagram) -> io::Result<()> {
        let socket = self.socket.as_ref().filter(|_| !self.is_gone.get()).ok_or(io::ErrorKind::NotConnected)?;
        let sent = socket.send(&written(datagram));
        match sent {
            Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory) => {
                self.is_gone.set(true);
                Err(error)
            }
            sent => sent.map(drop),
        }
    }
}

/// Where a datagram from the process behind this one goes.
pub(crate) enum Passed {
    /// To the worker of this index.
    Here(usize, Datagram),
    /// To the process before this one, as it came.
    Before,
}

/// `None`: nobody has its connection.
pub(crate) fn find_owner(keys: &Keys, bytes: &[u8]) -> Option<Passed> {
    let datagram = read(bytes)?;
    let id = destination(datagram.content()).filter(|id| id.len() == Ids::BYTES)?;
    let place = keys.place(id)?;
    Some(if place.generation == keys.generation() { Passed::Here(place.worker, datagram) } else { Passed::Before })
}

fn written(datagram: &Datagram) -> Vec<u8> {
    let (address, peer, local, ecn) = datagram.facts();
    let mut out = Vec::with_capacity(64 + datagram.content().len());
    out.push(ecn);
    write_address(&mut out, Some(address));
    write_address(&mut out, Some(peer));
    write_address(&mut out, local.map(|ip| SocketAddr::new(ip, 0)));
    out.extend_from_slice(datagram.content());
    out
}

fn write_address(out: &mut Vec<u8>, address: Option<SocketAddr>) {
    let Some(address) = address else { return out.push(0) };
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

/// `None`: it is not one of ours.
fn read(mut bytes: &[u8]) -> Option<Datagram> {
    let [ecn] = take::<1>(&mut bytes)?;
    let address = read_address(&mut bytes)??;
    let peer = read_address(&mut bytes)??;
    let local = read_address(&mut bytes)?.map(|address| address.ip());
    Some(Datagram::new(address, peer, local, ecn & 3, BytesMut::from(bytes)))
}

fn read_address(bytes: &mut &[u8]) -> Option<Option<SocketAddr>> {
    let ip: IpAddr = match take::<1>(bytes)? {
        [0] => return Some(None),
        [4] => Ipv4Addr::from(take::<4>(bytes)?).into(),
        [6] => Ipv6Addr::from(take::<16>(bytes)?).into(),
        _ => return None,
    };
    Some(Some(SocketAddr::new(ip, u16::from_be_bytes(take(bytes)?))))
}

fn take<const COUNT: usize>(bytes: &mut &[u8]) -> Option<[u8; COUNT]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_tells_process_and_worker() {
        for (generation, worker) in [(0, 0), (0, 1023), (63, 0), (63, 1023), (17, 5)] {
            let place = Place { generation, worker };
            assert_eq!(Place::of_number(place.number()), place);
        }
    }

    proptest! {
        #[test]
        fn datagrams_arrive_as_they_were_sent(
            address: SocketAddr, peer: SocketAddr, local: Option<IpAddr>, ecn in 0u8..4, content: Vec<u8>,
        ) {
            // Flow and scope of IPv6 addresses do not travel.
            let plain = |address: SocketAddr| SocketAddr::new(address.ip(), address.port());
            let (address, peer) = (plain(address), plain(peer));
            let sent = Datagram::new(address, peer, local, ecn, BytesMut::from(&content[..]));
            let got = read(&written(&sent)).expect("one of ours");
            prop_assert_eq!(got.facts(), (address, peer, local, ecn));
            prop_assert_eq!(got.content(), &content[..]);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Some(datagram) = read(&bytes) {
                prop_assert!(datagram.content().len() < bytes.len());
            }
        }
    }

    #[test]
    fn one_that_is_gone_is_not_asked_again() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let before = Before::new(Some(Arc::new(ours)));
        let address = "127.0.0.1:1".parse().unwrap();
        let datagram = Datagram::new(address, address, None, 0, BytesMut::from(&b"x"[..]));
        before.send(&datagram).unwrap();
        drop(theirs);
        assert!(before.send(&datagram).is_err() && before.is_gone.get());
        assert_eq!(Before::new(None).send(&datagram).unwrap_err().kind(), io::ErrorKind::NotConnected);
    }
}
