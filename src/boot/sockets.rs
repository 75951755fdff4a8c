//! Listening sockets: bound before any worker runs, and again for the listeners that a reload brings.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::flow_ports::FlowPorts;
use super::start::StartError;
use super::takeover::Inherited;
use crate::config::Config;
use crate::config::model::{Listener, Splitter, StatsSocket};
use crate::control::shared::ListenerFacts;
use crate::runtime::net::{Address, BoundSocket, no_address, no_socket};
use crate::runtime::udp::BoundUdp;
use crate::worker::{FlowSocket, QuicSocket, Socket, SplitterSocket};

/// Listening sockets of all data workers, and of the control thread.
pub(super) struct Sockets {
    /// By data worker.
    pub(super) http: Vec<Vec<Socket>>,
    /// The same for HTTP/3.
    pub(super) quic: Vec<Vec<QuicSocket>>,
    /// The same for UDP mode.
    pub(super) flows: Vec<Vec<FlowSocket>>,
    /// These, for reloads.
    pub(super) udp_ports: UdpPorts,
    /// By data worker, of splitters.
    pub(super) mysql: Vec<Vec<SplitterSocket>>,
    pub(super) admin: Option<std::net::TcpListener>,
    pub(super) control: Option<std::os::unix::net::UnixListener>,
    pub(super) stats: Option<std::os::unix::net::UnixListener>,
    /// HTTP listeners first, in the order of the config; behind them their HTTP/3.
    pub(super) facts: Vec<ListenerFacts>,
    /// Unix sockets to be removed at the end.
    pub(super) paths: Vec<PathBuf>,
}

/// Binds every listening socket that is not `inherited`, before any worker runs: what cannot be bound is a failed start.
pub(super) fn bind(config: &Config, data_workers: usize, inherited: &mut Inherited) -> Result<Sockets, StartError> {
    let mut sockets = Sockets {
        http: (0..data_workers).map(|_| Vec::new()).collect(),
        quic: (0..data_workers).map(|_| Vec::new()).collect(),
        flows: (0..data_workers).map(|_| Vec::new()).collect(),
        udp_ports: UdpPorts::default(),
        mysql: (0..data_workers).map(|_| Vec::new()).collect(),
        admin: None,
        control: None,
        stats: None,
        facts: Vec::new(),
        paths: Vec::new(),
    };
    let backlog = config.process.backlog;
    for (slot, listener) in config.listeners.iter().enumerate() {
        if listener.udp.is_some() {
            let (fact, bound) = sockets.udp_ports.flows.bind(listener, slot, data_workers, inherited)?;
            sockets.facts.push(fact);
            share_out(&mut sockets.flows, bound);
            continue;
        }
        let (fact, bound) = bind_listener(listener, slot, backlog, data_workers, inherited)?;
        sockets.facts.push(fact);
        share_out(&mut sockets.http, bound);
    }
    for (slot, listener) in config.listeners.iter().enumerate().filter(|(_, listener)| listener.http3) {
        // Clients look for it under the number they know.
        let of_listener =
            |worker: &Vec<Socket>| worker.iter().find(|socket| socket.slot == slot).map(|socket| socket.port);
        let port = sockets.http.first().and_then(of_listener).unwrap_or(0);
        let (fact, bound) = sockets.udp_ports.quic.bind(listener, slot, port, data_workers, inherited)?;
        sockets.facts.push(fact);
        share_out(&mut sockets.quic, bound);
    }
    for (index, splitter) in config.splitters.iter().enumerate() {
        for address in &splitter.listen {
            let (fact, bound) = bind_splitter(splitter, index, address, backlog, data_workers, inherited)?;
            sockets.facts.push(fact);
            share_out(&mut sockets.mysql, bound);
            if let Address::Unix(path) = address {
                sockets.paths.push(path.clone());
            }
        }
    }
    if let Some(address) = config.admin {
        let error = |error| StartError::Bind { name: "admin".into(), address: Address::Tcp(address), error };
        let socket = match inherited.listeners("admin", &Address::Tcp(address)).pop() {
            Some(socket) => socket.into(),
            None => std::net::TcpListener::bind(address).map_err(error)?,
        };
        socket.set_nonblocking(true).map_err(error)?;
        let bound = socket.local_addr().map_err(error)?.to_string();
        sockets.facts.push(ListenerFacts { name: "admin".into(), kind: "admin", address: bound });
        sockets.admin = Some(socket);
    }
    if let Some(path) = &config.process.control {
        let error = |error| StartError::Bind { name: "control".into(), address: Address::Unix(path.clone()), error };
        let socket = match inherited.listeners("control", &Address::Unix(path.clone())).pop() {
            Some(socket) => socket.into(),
            None => crate::runtime::net::bind_private(path).map_err(error)?,
        };
        socket.set_nonblocking(true).map_err(error)?;
        sockets.paths.push(path.clone());
        sockets.facts.push(ListenerFacts {
            name: "control".into(),
            kind: "control",
            address: Address::Unix(path.clone()).to_string(),
        });
        sockets.control = Some(socket);
    }
    if let Some(StatsSocket { path, mode, .. }) = &config.process.stats_socket {
        let address = Address::Unix(path.clone());
        let error = |error| StartError::Bind { name: "stats".into(), address: address.clone(), error };
        let socket = match inherited.listeners("stats", &address).pop() {
            Some(socket) => {
                set_mode(path, *mode).map_err(error)?;
                socket.into()
            }
            None => crate::runtime::net::bind_with_mode(path, *mode).map_err(error)?,
        };
        socket.set_nonblocking(true).map_err(error)?;
        sockets.paths.push(path.clone());
        sockets.facts.push(ListenerFacts { name: "stats".into(), kind: "stats", address: address.to_string() });
        sockets.stats = Some(socket);
    }
    Ok(sockets)
}

/// Gives each worker its sockets; where there are more of them, one worker has several, for none may be without.
pub(super) fn share_out<T>(workers: &mut [Vec<T>], sockets: Vec<T>) {
    let count = workers.len().max(1);
    for (index, socket) in sockets.into_iter().enumerate() {
        workers[index % count].push(socket);
    }
}

/// The sockets of a splitter for one of its addresses, one for each data worker.
pub(super) fn bind_splitter(
    splitter: &Splitter,
    index: usize,
    address: &Address,
    backlog: u32,
    data_workers: usize,
    inherited: &mut Inherited,
) -> Result<(ListenerFacts, Vec<SplitterSocket>), StartError> {
    let (name, mode) = (&splitter.name, splitter.socket_mode);
    let mut bound = adopt_all(name, address, backlog, data_workers, inherited)?;
    if bound.is_empty() {
        bound = bind_all(name, address, mode, backlog, data_workers)?;
    } else if let Address::Unix(path) = address
        && inherited.is_of_predecessor()
    {
        // What a service manager has made is as its unit says.
        let error = |error| StartError::Bind { name: name.clone(), address: address.clone(), error };
        set_mode(path, mode).map_err(error)?;
    }
    let fact = fact(name, MYSQL, &bound[0]);
    let socket = |socket| SplitterSocket { splitter: index, address: address.clone(), socket };
    Ok((fact, bound.into_iter().map(socket).collect()))
}

/// The sockets of one listener, at least one for each data worker, and what it turned out to be.
pub(super) fn bind_listener(
    listener: &Listener,
    slot: usize,
    backlog: u32,
    data_workers: usize,
    inherited: &mut Inherited,
) -> Result<(ListenerFacts, Vec<Socket>), StartError> {
    let address = Address::Tcp(listener.address);
    let adopted = adopt_all(&listener.name, &address, backlog, data_workers, inherited)?;
    let is_adopted = !adopted.is_empty();
    let mut bound = match is_adopted {
        true => adopted,
        false => bind_all(&listener.name, &address, NO_FILE, backlog, data_workers)?,
    };
    // A port that the kernel has chosen for TCP may be somebody's for UDP: any other one will do as well.
    for _ in 0..AGAIN_MAX {
        let is_taken = |socket: &BoundSocket| match socket.local_address() {
            Ok(Address::Tcp(address)) => ask_for_udp(address, 0).is_err(),
            _ => false,
        };
        if is_adopted || !listener.http3 || listener.address.port() != 0 || !is_taken(&bound[0]) {
            break;
        }
        bound = bind_all(&listener.name, &address, NO_FILE, backlog, data_workers)?;
    }
    let fact = fact(&listener.name, kind(listener), &bound[0]);
    let of_worker = |socket: BoundSocket| {
        let port = match socket.local_address() {
            Ok(Address::Tcp(address)) => address.port(),
            _ => 0,
        };
        Socket { slot, port, socket }
    };
    Ok((fact, bound.into_iter().map(of_worker).collect()))
}

/// What a UDP socket is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum UdpKind {
    Quic,
    /// UDP mode.
    Flows,
}

impl UdpKind {
    fn make(self, address: SocketAddr) -> io::Result<BoundUdp> {
        match self {
            UdpKind::Quic => BoundUdp::new(address),
            UdpKind::Flows => BoundUdp::to_pass_on(address),
        }
    }

    fn adopt(self, socket: OwnedFd, address: SocketAddr) -> io::Result<BoundUdp> {
        match self {
            UdpKind::Quic => BoundUdp::inherited(socket, address),
            UdpKind::Flows => BoundUdp::inherited_to_pass_on(socket, address),
        }
    }
}

/// What the facts call the HTTP/3 of a listener.
pub(super) const HTTP3: &str = "http3";

/// The same of splitters.
pub(super) const MYSQL: &str = "mysql";

/// How often, and how far apart, a port is asked for again that was ours a moment ago: the kernel takes its time to close.
const AGAIN_MAX: u32 = 10;
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The UDP sockets of the process.
#[derive(Clone, Default)]
pub(super) struct UdpPorts {
    pub(super) quic: QuicPorts,
    pub(super) flows: FlowPorts,
}

/// UDP sockets that workers have, by address, one for each of them: in use, or with connections that come to their end.
///
/// A listener may lose its HTTP/3 and get it back while these are there. Then they are used again: the kernel would give a
/// part of all packets to each of two generations of sockets.
#[derive(Clone, Default)]
pub(super) struct QuicPorts(Arc<Mutex<HashMap<SocketAddr, Vec<Weak<BoundUdp>>>>>);

impl QuicPorts {
    /// The UDP sockets of `listener`, whose TCP port is `port`.
    pub(super) fn bind(
        &self,
        listener: &Listener,
        slot: usize,
        port: u16,
        data_workers: usize,
        inherited: &mut Inherited,
    ) -> Result<(ListenerFacts, Vec<QuicSocket>), StartError> {
        let address = SocketAddr::new(listener.address.ip(), port);
        let name = format!("{}, HTTP/3 over UDP", listener.name);
        let error = |error| StartError::Bind { name: name.clone(), address: Address::Tcp(address), error };
        let bound = self.sockets(address, data_workers, UdpKind::Quic, inherited).map_err(error)?;
        let fact = ListenerFacts { name: listener.name.clone(), kind: HTTP3, address: address.to_string() };
        Ok((fact, bound.into_iter().map(|socket| QuicSocket { slot, address, socket }).collect()))
    }

    /// The sockets at `address`, whose port is not 0: those that are still there, and such as are inherited, and others beside them.
    pub(super) fn sockets(
        &self,
        address: SocketAddr,
        data_workers: usize,
        kind: UdpKind,
        inherited: &mut Inherited,
    ) -> io::Result<Vec<Arc<BoundUdp>>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|bound, sockets| *bound == address || sockets.iter().any(|socket| socket.strong_count() > 0));
        let before = known.remove(&address).unwrap_or_default();
        let count = data_workers.max(before.len());
        let mut found: Vec<_> = (0..count).map(|worker| before.get(worker).and_then(Weak::upgrade)).collect();
        let adopted = inherited.datagrams(address).into_iter().map(|socket| kind.adopt(socket, address));
        let adopted = adopted.collect::<io::Result<Vec<_>>>()?;
        if !adopted.is_empty() {
            found = adopted.into_iter().map(|socket| Some(Arc::new(socket))).collect();
            found.resize(found.len().max(data_workers), None);
        } else if found.iter().all(Option::is_none) {
            ask_for_udp(address, if before.is_empty() { 0 } else { AGAIN_MAX })?;
        }
        let first = found.iter().flatten().next().cloned();
        let bind = |found: Option<Arc<BoundUdp>>| match (found, &first) {
            (Some(found), _) => Ok(found),
            (None, None) => kind.make(address).map(Arc::new),
            // A port may be shared with sockets of the same user alone, and these may be root's.
            (None, Some(first)) => {
                let shared = || kind.adopt(first.duplicate()?, address);
                kind.make(address).or_else(|_| shared()).map(Arc::new)
            }
        };
        let bound = found.into_iter().map(bind).collect::<io::Result<Vec<_>>>()?;
        known.insert(address, bound.iter().map(Arc::downgrade).collect());
        Ok(bound)
    }
}

impl QuicPorts {
    /// All sockets that are in use, by address.
    pub(super) fn all(&self) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for (address, sockets) in known.iter() {
            for socket in sockets.iter().filter_map(Weak::upgrade) {
                all.push((*address, socket.duplicate()?));
            }
        }
        Ok(all)
    }
}

/// Whether a port is free, which SO_REUSEPORT would not tell of a second process of ours.
fn ask_for_udp(address: SocketAddr, again_max: u32) -> io::Result<()> {
    let mut again = 0;
    loop {
        match std::net::UdpSocket::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && again < again_max => {
                again += 1;
                std::thread::sleep(AGAIN_AFTER);
            }
            asked => return asked.map(drop),
        }
    }
}

/// What the facts call it.
pub(super) fn kind(listener: &Listener) -> &'static str {
    if listener.udp.is_some() {
        return "udp";
    }
    match (&listener.tcp, &listener.tls) {
        (None, None) => "http",
        (None, Some(_)) => "https",
        (Some(_), None) => "tcp",
        (Some(_), Some(_)) => "tls",
    }
}

/// Unix sockets in the file system that are this process's to remove.
#[derive(Clone, Default)]
pub(super) struct Paths(Arc<Mutex<Vec<PathBuf>>>);

impl Paths {
    pub(super) fn new(paths: Vec<PathBuf>) -> Paths {
        Paths(Arc::new(Mutex::new(paths)))
    }

    /// Those for which `is_ours` says so.
    pub(super) fn retain(&self, is_ours: impl Fn(&Path) -> bool) {
        self.paths().retain(|path| is_ours(path));
    }

    pub(super) fn add(&self, path: &Path) {
        self.paths().push(path.into());
    }

    /// Removes the sockets for which `is_over` says so.
    pub(super) fn remove(&self, is_over: impl Fn(&Path) -> bool) {
        self.paths().retain(|path| {
            let is_over = is_over(path);
            if is_over {
                // It may be gone already.
                let _ = std::fs::remove_file(path);
            }
            !is_over
        });
    }

    fn paths(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fact(name: &str, kind: &'static str, socket: &BoundSocket) -> ListenerFacts {
    let address = socket.local_address().map(|address| address.to_string()).unwrap_or_default();
    ListenerFacts { name: name.to_owned(), kind, address }
}

/// The sockets for `address` that are inherited, and as many others as workers need; none: nothing is inherited.
fn adopt_all(
    name: &str,
    address: &Address,
    backlog: u32,
    workers: usize,
    inherited: &mut Inherited,
) -> Result<Vec<BoundSocket>, StartError> {
    let error = |error| StartError::Bind { name: name.to_owned(), address: address.clone(), error };
    let adopt = |socket| BoundSocket::inherited(socket, address, backlog);
    let adopted: io::Result<Vec<_>> = inherited.listeners(name, address).into_iter().map(adopt).collect();
    let mut sockets = adopted.map_err(error)?;
    if let (Some(first), Address::Unix(_)) = (sockets.first(), address) {
        // Handles to one socket: there is nothing to be gained by more.
        sockets = vec![first.try_clone().map_err(error)?];
    }
    let count = sockets.len();
    for missing in 0..if count == 0 { 0 } else { workers.saturating_sub(count) } {
        let of_others = &sockets[missing % count];
        // A port may be shared with sockets of the same user alone, and these may be root's, or a service manager's.
        let own = match of_others.local_address().map_err(error)? {
            Address::Tcp(bound) => BoundSocket::tcp(bound, backlog).ok(),
            Address::Unix(_) | Address::Name(_) | Address::App(_) => None,
        };
        sockets.push(own.map_or_else(|| of_others.try_clone(), Ok).map_err(error)?);
    }
    Ok(sockets)
}

/// Gives the file of a Unix socket these permission bits.
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Gives the files of those Unix sockets of splitters that stay the permission bits of the new config.
pub(super) fn set_modes(old: &Config, new: &Config) {
    for splitter in &new.splitters {
        let same = old.splitters.iter().find(|old| old.name == splitter.name);
        let Some(old) = same.filter(|old| old.socket_mode != splitter.socket_mode) else { continue };
        for address in splitter.listen.iter().filter(|address| old.listen.contains(address)) {
            if let Address::Unix(path) = address
                && let Err(error) = set_mode(path, splitter.socket_mode)
            {
                tracing::error!(path = %path.display(), %error, "the permissions of a socket stay as they were");
            }
        }
    }
}

/// Permission bits of what has no file.
const NO_FILE: u32 = 0;

/// One socket per data worker: TCP ports are shared by SO_REUSEPORT, a Unix socket, whose file gets the permission bits `mode`, by
/// handles to the same one.
fn bind_all(
    name: &str,
    address: &Address,
    mode: u32,
    backlog: u32,
    workers: usize,
) -> Result<Vec<BoundSocket>, StartError> {
    let error = |error| StartError::Bind { name: name.to_owned(), address: address.clone(), error };
    match address {
        Address::Tcp(wanted) => {
            // SO_REUSEPORT would let a second process of ours share the port without a word: ask without it first.
            drop(std::net::TcpListener::bind(wanted).map_err(error)?);
            let first = BoundSocket::tcp(*wanted, backlog).map_err(error)?;
            let Address::Tcp(bound) = first.local_address().map_err(error)? else { unreachable!("a TCP socket") };
            let mut sockets = vec![first];
            for _ in 1..workers {
                sockets.push(BoundSocket::tcp(SocketAddr::new(wanted.ip(), bound.port()), backlog).map_err(error)?);
            }
            Ok(sockets)
        }
        Address::Unix(path) => {
            let first = BoundSocket::unix(path, mode, backlog).map_err(error)?;
            let clones: io::Result<Vec<_>> = (1..workers).map(|_| first.try_clone()).collect();
            let mut sockets = clones.map_err(error)?;
            sockets.push(first);
            Ok(sockets)
        }
        Address::Name(name) => Err(error(no_address(name))),
        Address::App(seat) => Err(error(no_socket(seat))),
    }
}
