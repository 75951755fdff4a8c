//! UDP sockets of a data worker: datagrams with the addresses of both ends and ECN, in batches where the kernel has them.
//!
//! Waiting is the driver's business (a poll on io_uring or epoll); reading and writing are direct calls on a socket that is
//! ready and never block. One recvmsg(2) takes what the kernel has joined of one sender (UDP_GRO, Linux 5.0), one sendmsg(2)
//! leaves as several datagrams (UDP_SEGMENT, Linux 4.18). Source: udp(7), ip(7), ipv6(7).

use std::cell::Cell;
use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

use super::net::Address;

/// Bytes that one receive may bring: the largest that the kernel joins.
pub const RECEIVE_BYTES_MAX: usize = 65_535;

/// Datagrams that one send may hold: UDP_MAX_SEGMENTS of the kernel was 64 for long.
const SEGMENTS_MAX: usize = 32;

/// Bytes that several datagrams of one send may have: one packet of IP, less its headers.
const SEND_BYTES_MAX: usize = 65_000;

/// Bytes asked of the kernel for each direction: what it gives is bounded by net.core.rmem_max and wmem_max.
const KERNEL_BUFFER_BYTES: usize = 2 << 20;

/// A bound socket, not yet tied to a worker: made before the workers start.
#[derive(Debug)]
pub struct BoundUdp {
    socket: Socket,
}

impl BoundUdp {
    /// A socket that shares its port with its sisters on other workers (SO_REUSEPORT, socket(7)): the kernel chooses among
    /// them by the addresses of both ends.
    ///
    /// Errors: what socket or bind report, or a kernel without the options that are needed.
    pub fn new(address: SocketAddr) -> io::Result<BoundUdp> {
        BoundUdp::bind(address, set_up_for_quic)
    }

    /// A socket that another process has made, bound to `address`; gets the options of those of ours.
    pub fn inherited(socket: OwnedFd, address: SocketAddr) -> io::Result<BoundUdp> {
        BoundUdp::take(socket, address, set_up_for_quic)
    }

    /// The same for datagrams that are passed on, of any size: those that are too long for a path are cut, as the kernel does it
    /// where nobody asks for something else.
    ///
    /// Errors: as for [`BoundUdp::new`].
    pub fn to_pass_on(address: SocketAddr) -> io::Result<BoundUdp> {
        BoundUdp::bind(address, |_, _| Ok(()))
    }

    /// The same of one that another process has made.
    pub fn inherited_to_pass_on(socket: OwnedFd, address: SocketAddr) -> io::Result<BoundUdp> {
        BoundUdp::take(socket, address, |_, _| Ok(()))
    }

    fn bind(address: SocketAddr, set_up: SetUp) -> io::Result<BoundUdp> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        let bound = BoundUdp::take(socket.into(), address, set_up)?;
        bound.socket.bind(&address.into())?;
        Ok(bound)
    }

    /// Gives a socket its options.
    fn take(socket: OwnedFd, address: SocketAddr, set_up: SetUp) -> io::Result<BoundUdp> {
        let socket = Socket::from(socket);
        let on = |level, name| set_option(&socket, level, name, 1);
        match address.is_ipv6() {
            true => on(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?,
            false => on(libc::IPPROTO_IP, libc::IP_PKTINFO)?,
        }
        set_up(&socket, address)?;
        // An older kernel gives each datagram by itself.
        let _ = on(libc::SOL_UDP, libc::UDP_GRO);
        socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES)?;
        socket.set_send_buffer_size(KERNEL_BUFFER_BYTES)?;
        Ok(BoundUdp { socket })
    }

    /// A second handle to the same socket: for another worker, or another process.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        Ok(self.socket.try_clone()?.into())
    }

    /// The address bound to, with the real port.
    pub fn local_address(&self) -> io::Result<Address> {
        let address = self.socket.local_addr()?.as_socket();
        address.map(Address::Tcp).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

type SetUp = fn(&Socket, SocketAddr) -> io::Result<()>;

fn set_up_for_quic(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // Packets are never cut on their way, so that a path's limit can be found (RFC 9000 section 14).
    if address.is_ipv6() {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
    }
}

fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: `value` is a live i32, and its size is told; the descriptor is borrowed from `socket`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What one receive brought: datagrams of one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Length of each datagram but the last, which may be shorter.
    pub segment_bytes: usize,
    /// Who sent them.
    pub peer: SocketAddr,
    /// The address of ours that they came to.
    pub local: Option<IpAddr>,
    /// The two bits of ECN: RFC 3168 section 5.
    pub ecn: u8,
}

/// What one send takes: datagrams for one receiver.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The datagrams, one behind the other.
    pub bytes: &'a [u8],
    /// Length of each but the last; `None`: there is one.
    pub segment_bytes: Option<usize>,
    /// Who gets them.
    pub peer: SocketAddr,
    /// The address of ours that they come from; `None`: the kernel chooses.
    pub local: Option<IpAddr>,
    /// The two bits of ECN.
    pub ecn: u8,
}

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// They are on their way, or lost for good: UDP does not tell.
    Done,
    /// The socket takes nothing now: wait until it is [writable](UdpSocket::writable).
    Blocked,
}

/// A socket of the current data worker.
pub struct UdpSocket {
    socket: monoio::net::udp::UdpSocket,
    fd: RawFd,
    segments_max: Cell<usize>,
}

impl UdpSocket {
    /// Uses `socket` on the current data worker, by a descriptor of its own.
    pub fn new(socket: &BoundUdp) -> io::Result<UdpSocket> {
        let has_segments = set_option(&socket.socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        socket.socket.set_nonblocking(super::driver::is_epoll())?;
        let socket = monoio::net::udp::UdpSocket::from_std(socket.socket.try_clone()?.into())?;
        let fd = socket.as_raw_fd();
        Ok(UdpSocket { socket, fd, segments_max: Cell::new(if has_segments { SEGMENTS_MAX } else { 1 }) })
    }

    /// A socket of the current data worker for the datagrams of one flow: it sends to `peer` and receives from it alone.
    ///
    /// Errors: what socket or connect report; that there is no way there, or that a local port or a descriptor lacks. Nothing is
    /// sent, so that a peer which is not there is met later.
    pub fn connected(peer: SocketAddr) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, None)?;
        socket.set_nonblocking(super::driver::is_epoll())?;
        socket.connect(&peer.into())?;
        let socket = monoio::net::udp::UdpSocket::from_std(socket.into())?;
        let fd = socket.as_raw_fd();
        Ok(UdpSocket { socket, fd, segments_max: Cell::new(SEGMENTS_MAX) })
    }

    /// From now on the kernel joins what comes of one sender. Worth its system call where much comes.
    pub fn join_received(&self) {
        // An older kernel gives each datagram by itself.
        let _ = set_option(&self.socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    }

    /// Ends a [connected](UdpSocket::connected) socket: whoever waits for it to be readable goes on.
    pub fn shut_down(&self) {
        // SAFETY: a system call on a descriptor that `self` keeps open.
        let _ = unsafe { libc::shutdown(self.fd, libc::SHUT_RDWR) };
    }

    /// Waits until there is something to receive.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable(false).await
    }

    /// Waits until a send would be taken.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable(false).await
    }

    /// Datagrams that one [`UdpSocket::try_send`] may hold.
    pub fn segments_max(&self) -> usize {
        self.segments_max.get()
    }

    /// Takes what waits of one sender and appends it to `buf`, which must have [`RECEIVE_BYTES_MAX`] of spare capacity; does
    /// not wait. `None`: nothing waits.
    ///
    /// Errors: what recvmsg(2) reports about a datagram that was sent before; the next call may find one.
    pub fn try_recv(&self, buf: &mut Vec<u8>) -> io::Result<Option<Received>> {
        let len = buf.len();
        let spare = buf.spare_capacity_mut();
        assert!(spare.len() >= RECEIVE_BYTES_MAX, "room for what the kernel may join");
        let mut piece = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: RECEIVE_BYTES_MAX };
        let mut name = SockAddrStorage::zeroed();
        let mut control = Control::default();
        // SAFETY: all zeros is a valid msghdr: null pointers with zero lengths.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = name.size_of();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>();
        // SAFETY: every pointer in `message` leads to a live local or the spare capacity of `buf`, with its length.
        let received = unsafe { libc::recvmsg(self.fd, &raw mut message, libc::MSG_DONTWAIT) };
        if received < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        let received = received as usize;
        // SAFETY: the kernel has written `received` bytes, at most what it was offered, to the spare capacity.
        unsafe { buf.set_len(len + received) };
        // SAFETY: the kernel has written an address of `msg_namelen` bytes there.
        let name = unsafe { SockAddr::new(name, message.msg_namelen) };
        let peer = name.as_socket().ok_or(io::ErrorKind::InvalidData)?;
        let mut result = Received { segment_bytes: received.max(1), peer, local: None, ecn: 0 };
        // SAFETY: `message` is as recvmsg(2) left it, and `control` lives.
        unsafe { read_control(&message, &mut result) };
        Ok(Some(result))
    }

    /// Sends, without waiting.
    pub fn try_send(&self, outgoing: &Outgoing<'_>) -> Sent {
        let Err(error) = self.send(outgoing, true) else { return Sent::Done };
        match error.raw_os_error() {
            Some(libc::EAGAIN) => return Sent::Blocked,
            // A device that cannot do it: what was to be sent counts as lost and comes again in single datagrams.
            Some(libc::EIO | libc::EINVAL) if outgoing.segment_bytes.is_some() => self.segments_max.set(1),
            _ => tracing::debug!(peer = %outgoing.peer, bytes = outgoing.bytes.len(), %error, "datagram not sent"),
        }
        Sent::Done
    }

    /// Passes datagrams on, several by one system call where that is possible; does not wait. Returns how many could not
    /// be sent for reasons of this machine, such as a socket that is full: they are lost.
    ///
    /// Errors: what sendmsg(2) reports, such as that the peer of a [connected](UdpSocket::connected) socket has refused what was
    /// sent before. What had not been sent by then is lost.
    pub fn pass_on(&self, outgoing: &Outgoing<'_>, is_connected: bool) -> io::Result<u64> {
        let each = outgoing.segment_bytes.filter(|each| *each < outgoing.bytes.len()).unwrap_or(outgoing.bytes.len());
        let mut at_once = self.segments_max.get().min((SEND_BYTES_MAX / each.max(1)).max(1));
        let (mut rest, mut lost) = (outgoing.bytes, 0);
        loop {
            let (now, later) = rest.split_at(rest.len().min(each.saturating_mul(at_once)));
            let segment_bytes = (now.len() > each).then_some(each);
            let sent = self.send(&Outgoing { bytes: now, segment_bytes, ..*outgoing }, !is_connected);
            match sent.map_err(|error| (error.raw_os_error(), error)) {
                Ok(()) => {}
                // Too long for the path in one piece each, or for the device: the kernel cuts single ones.
                Err((Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE), _)) if segment_bytes.is_some() => {
                    at_once = 1;
                    continue;
                }
                // Full, too long for any packet, stopped by a firewall of ours: nobody else's fault.
                Err((Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EMSGSIZE | libc::EPERM), _)) => {
                    lost += now.len().div_ceil(each.max(1)).max(1) as u64;
                }
                Err((_, error)) => return Err(error),
            }
            rest = later;
            if rest.is_empty() {
                return Ok(lost);
            }
        }
    }

    /// One sendmsg(2). `is_named`: to the peer of `outgoing`, not to the one that the socket is connected to.
    fn send(&self, outgoing: &Outgoing<'_>, is_named: bool) -> io::Result<()> {
        let name = SockAddr::from(outgoing.peer);
        let mut piece =
            libc::iovec { iov_base: outgoing.bytes.as_ptr().cast_mut().cast(), iov_len: outgoing.bytes.len() };
        let mut control = Control::default();
        // SAFETY: all zeros is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        if is_named {
            message.msg_name = name.as_ptr().cast_mut().cast();
            message.msg_namelen = name.len();
        }
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>();
        // SAFETY: `message` has a control buffer that is zeroed and large enough for three entries.
        unsafe { write_control(&mut message, outgoing) };
        // SAFETY: every pointer in `message` leads to something that lives until the call returns; sendmsg(2) writes to none
        // of them.
        let sent = unsafe { libc::sendmsg(self.fd, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        if sent >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Room for the control messages of both directions, aligned as they must be.
#[derive(Default)]
#[repr(align(8))]
struct Control([u64; 16]);

/// Reads addresses, ECN and length of datagrams.
///
/// # Safety
/// `message` is as recvmsg(2) left it, and its control buffer lives.
unsafe fn read_control(message: &libc::msghdr, result: &mut Received) {
    // SAFETY: as promised by the caller; CMSG_FIRSTHDR and CMSG_NXTHDR stay within `msg_controllen`.
    let mut entry = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !entry.is_null() {
        // SAFETY: not null, so a whole header lies there; its data may not be aligned for what it holds.
        let (header, data) = unsafe { (&*entry, libc::CMSG_DATA(entry)) };
        // Where the room does not suffice the last entry is cut short (cmsg(3), MSG_CTRUNC).
        // SAFETY: arithmetic alone.
        let data_bytes = header.cmsg_len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
        let needed = match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => size_of::<libc::in_pktinfo>(),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => size_of::<libc::in6_pktinfo>(),
            (libc::IPPROTO_IP, libc::IP_TOS) => 1,
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) | (libc::SOL_UDP, libc::UDP_GRO) => size_of::<i32>(),
            _ => 0,
        };
        match (header.cmsg_level, header.cmsg_type) {
            _ if data_bytes < needed => {}
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: an in_pktinfo stands behind this header, and there is as much.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                result.local = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: an in6_pktinfo stands behind this header, and there is as much.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                result.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            // SAFETY: the kernel puts one byte behind this header.
            (libc::IPPROTO_IP, libc::IP_TOS) => result.ecn = unsafe { data.read() } & 3,
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                // SAFETY: the kernel puts an int behind this header.
                result.ecn = (unsafe { data.cast::<i32>().read_unaligned() } & 3) as u8;
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                // SAFETY: the kernel puts an int behind this header.
                let bytes = unsafe { data.cast::<i32>().read_unaligned() };
                result.segment_bytes = usize::try_from(bytes).unwrap_or_default().max(1);
            }
            _ => {}
        }
        // SAFETY: as above.
        entry = unsafe { libc::CMSG_NXTHDR(message, entry) };
    }
}

/// Writes what `outgoing` asks for, and the length of that.
///
/// # Safety
/// `message` has a zeroed control buffer with room for three entries.
unsafe fn write_control(message: &mut libc::msghdr, outgoing: &Outgoing<'_>) {
    let mut used = 0;
    // SAFETY: the buffer is larger than a header.
    let mut entry = unsafe { libc::CMSG_FIRSTHDR(message) };
    let mut put = |level: i32, kind: i32, data: &[u8]| {
        // SAFETY: the caller promises room, and CMSG_NXTHDR gives null where there is none.
        unsafe {
            assert!(!entry.is_null(), "room for every control message");
            (*entry).cmsg_level = level;
            (*entry).cmsg_type = kind;
            (*entry).cmsg_len = libc::CMSG_LEN(data.len() as u32) as usize;
            std::ptr::copy_nonoverlapping(data.as_ptr(), libc::CMSG_DATA(entry), data.len());
            used += libc::CMSG_SPACE(data.len() as u32) as usize;
            entry = libc::CMSG_NXTHDR(message, entry);
        }
    };
    let ecn = i32::from(outgoing.ecn & 3).to_ne_bytes();
    match outgoing.peer {
        SocketAddr::V4(_) if outgoing.ecn != 0 => put(libc::IPPROTO_IP, libc::IP_TOS, &ecn),
        SocketAddr::V6(_) if outgoing.ecn != 0 => put(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &ecn),
        _ => {}
    }
    match outgoing.local {
        // in_pktinfo: interface (any), address to send from, address in the header (not read). in6_pktinfo: address, interface.
        Some(IpAddr::V4(ip)) => {
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&ip.octets());
            put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(ip)) => {
            let mut info = [0; 20];
            info[..16].copy_from_slice(&ip.octets());
            put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        None => {}
    }
    if let Some(bytes) = outgoing.segment_bytes.filter(|bytes| *bytes < outgoing.bytes.len()) {
        put(libc::SOL_UDP, libc::UDP_SEGMENT, &(bytes as u16).to_ne_bytes());
    }
    message.msg_controllen = used;
    if used == 0 {
        message.msg_control = std::ptr::null_mut();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::DriverChoice;
    use crate::runtime::driver::DataRuntime;

    async fn receive(socket: &UdpSocket) -> (Vec<u8>, Received) {
        let mut bytes = Vec::with_capacity(RECEIVE_BYTES_MAX);
        loop {
            if let Some(received) = socket.try_recv(&mut bytes).expect("a datagram") {
                return (bytes, received);
            }
            socket.readable().await.expect("a wait");
        }
    }

    fn exchange(choice: DriverChoice, address: &str) {
        let (mut runtime, _) = DataRuntime::build(choice, 256, false).expect("a runtime");
        runtime.block_on(async {
            let make = |address: SocketAddr| {
                let bound = BoundUdp::new(address).expect("a socket");
                let Ok(Address::Tcp(address)) = bound.local_address() else { panic!("an address") };
                (UdpSocket::new(&bound).expect("a socket of the worker"), address)
            };
            let wildcard: SocketAddr = address.parse().expect("an address");
            let (server, server_address) = make(wildcard);
            let loopback: IpAddr =
                if wildcard.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            let (client, client_address) = make(SocketAddr::new(loopback, 0));
            let to_server = SocketAddr::new(loopback, server_address.port());
            let mut outgoing = Outgoing { bytes: b"hello", segment_bytes: None, peer: to_server, local: None, ecn: 2 };
            assert_eq!(client.try_send(&outgoing), Sent::Done);
            let (bytes, received) = receive(&server).await;
            assert_eq!((&bytes[..], received.peer, received.ecn), (&b"hello"[..], client_address, 2));
            assert_eq!(received.local, Some(loopback));
            // Several at once, from the address that was asked.
            let many: Vec<u8> = (0..2500u32).map(|at| (at / 1000) as u8).collect();
            outgoing = Outgoing {
                bytes: &many,
                segment_bytes: Some(1000),
                peer: client_address,
                local: Some(loopback),
                ecn: 0,
            };
            assert_eq!(server.try_send(&outgoing), Sent::Done);
            let mut got = Vec::new();
            while got.len() < many.len() {
                let (bytes, received) = receive(&client).await;
                assert_eq!((received.peer, received.ecn), (to_server, 0));
                assert!(received.segment_bytes == 1000 || bytes.len() == 500);
                got.extend_from_slice(&bytes);
            }
            assert_eq!(got, many);
            assert_eq!(client.try_recv(&mut Vec::with_capacity(RECEIVE_BYTES_MAX)).expect("nothing"), None);
        });
    }

    #[test]
    fn datagrams_come_with_their_addresses_on_both_drivers() {
        for choice in [DriverChoice::Auto, DriverChoice::Epoll] {
            for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
                exchange(choice, address);
            }
        }
    }
}
