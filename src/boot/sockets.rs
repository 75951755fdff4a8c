//! Listening sockets: bound before any worker runs, and again for the listeners that a reload brings.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::start::StartError;
use crate::config::Config;
use crate::config::model::Listener;
use crate::control::shared::ListenerFacts;
use crate::runtime::net::{Address, BoundSocket};
use crate::worker::Socket;

/// Listening sockets of all data workers, and of the control thread.
pub(super) struct Sockets {
    /// By data worker.
    pub(super) http: Vec<Vec<Socket>>,
    /// By data worker: splitter index, socket.
    pub(super) mysql: Vec<Vec<(usize, BoundSocket)>>,
    pub(super) admin: Option<std::net::TcpListener>,
    pub(super) control: Option<std::os::unix::net::UnixListener>,
    /// HTTP listeners first, in the order of the config.
    pub(super) facts: Vec<ListenerFacts>,
    /// Unix sockets to be removed at the end.
    pub(super) paths: Vec<PathBuf>,
}

/// Binds every listening socket, before any worker runs: what cannot be bound is a failed start.
pub(super) fn bind(config: &Config, data_workers: usize) -> Result<Sockets, StartError> {
    let mut sockets = Sockets {
        http: (0..data_workers).map(|_| Vec::new()).collect(),
        mysql: (0..data_workers).map(|_| Vec::new()).collect(),
        admin: None,
        control: None,
        facts: Vec::new(),
        paths: Vec::new(),
    };
    let backlog = config.process.backlog;
    for (slot, listener) in config.listeners.iter().enumerate() {
        let (fact, bound) = bind_listener(listener, slot, backlog, data_workers)?;
        sockets.facts.push(fact);
        sockets.http.iter_mut().zip(bound).for_each(|(worker, socket)| worker.push(socket));
    }
    for (index, splitter) in config.splitters.iter().enumerate() {
        for address in &splitter.listen {
            let bound = bind_all(&splitter.name, address, backlog, data_workers)?;
            sockets.facts.push(fact(&splitter.name, "mysql", &bound[0]));
            for (worker, socket) in bound.into_iter().enumerate() {
                sockets.mysql[worker].push((index, socket));
            }
            if let Address::Unix(path) = address {
                sockets.paths.push(path.clone());
            }
        }
    }
    if let Some(address) = config.admin {
        let error = |error| StartError::Bind { name: "admin".into(), address: Address::Tcp(address), error };
        let socket = std::net::TcpListener::bind(address).map_err(error)?;
        socket.set_nonblocking(true).map_err(error)?;
        let bound = socket.local_addr().map_err(error)?.to_string();
        sockets.facts.push(ListenerFacts { name: "admin".into(), kind: "admin", address: bound });
        sockets.admin = Some(socket);
    }
    if let Some(path) = &config.process.control {
        let error = |error| StartError::Bind { name: "control".into(), address: Address::Unix(path.clone()), error };
        let socket = crate::runtime::net::bind_private(path).map_err(error)?;
        sockets.paths.push(path.clone());
        sockets.facts.push(ListenerFacts {
            name: "control".into(),
            kind: "control",
            address: Address::Unix(path.clone()).to_string(),
        });
        sockets.control = Some(socket);
    }
    Ok(sockets)
}

/// The sockets of one listener, one for each data worker, and what it turned out to be.
pub(super) fn bind_listener(
    listener: &Listener,
    slot: usize,
    backlog: u32,
    data_workers: usize,
) -> Result<(ListenerFacts, Vec<Socket>), StartError> {
    let bound = bind_all(&listener.name, &Address::Tcp(listener.address), backlog, data_workers)?;
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

/// What the facts call it.
pub(super) fn kind(listener: &Listener) -> &'static str {
    if listener.tls.is_some() { "https" } else { "http" }
}

fn fact(name: &str, kind: &'static str, socket: &BoundSocket) -> ListenerFacts {
    let address = socket.local_address().map(|address| address.to_string()).unwrap_or_default();
    ListenerFacts { name: name.to_owned(), kind, address }
}

/// One socket per data worker: TCP ports are shared by SO_REUSEPORT, a Unix socket by handles to the same one.
fn bind_all(name: &str, address: &Address, backlog: u32, workers: usize) -> Result<Vec<BoundSocket>, StartError> {
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
            let first = BoundSocket::unix(path, backlog).map_err(error)?;
            let clones: io::Result<Vec<_>> = (1..workers).map(|_| first.try_clone()).collect();
            let mut sockets = clones.map_err(error)?;
            sockets.push(first);
            Ok(sockets)
        }
    }
}
