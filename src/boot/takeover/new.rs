//! The new process's part of a takeover: what it is offered, and its word that it is there.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::time::Duration;

use super::{AddedNote, ChangeNote, Kind, Letter, PRIVATE_KEEPER, Secrets, ServerNote, SocketNote, VARIABLE, Word};
use crate::config::model::Server;
use crate::config::servers::{ChangedServers, Changes, parse_server};
use crate::control::Shared;
use crate::control::processes::Bequest;
use crate::control::shared::AdminState;
use crate::runtime::net::{Address, share_sockets};
use crate::runtime::sys::handover::{Channel, Found, take_activated};
use crate::worker::KeySecrets;

/// How long a message to or from the old process may take while it does nothing but this.
const LETTER_MAX: Duration = Duration::from_secs(10);

/// The process that is to be taken over.
#[derive(Debug)]
pub(in super::super) struct Predecessor {
    channel: Channel,
    pid: u32,
}

static PREDECESSOR: OnceLock<Option<Predecessor>> = OnceLock::new();

/// `None`: this process was started in the ordinary way.
fn predecessor() -> Option<&'static Predecessor> {
    let find = || {
        let pid = std::env::var(VARIABLE).ok()?.parse().ok()?;
        // The variable may be an inheritance of somebody else's.
        if pid != std::os::unix::process::parent_id() {
            return None;
        }
        Channel::inherited().ok().map(|channel| Predecessor { channel, pid })
    };
    PREDECESSOR.get_or_init(find).as_ref()
}

/// Whether this process was started to take over from another one.
pub fn is_takeover() -> bool {
    predecessor().is_some()
}

/// Tells the process that was to be taken over why it is not, if there is one: whoever asked for it is told there.
pub fn tell_failure(reason: &str) {
    if let Some(predecessor) = predecessor() {
        let most = crate::runtime::sys::handover::MESSAGE_BYTES_MAX / 8;
        let reason = reason.chars().take(most).collect();
        let _ = predecessor.say(&Letter { word: Word::Failed, reason, ..Letter::default() });
    }
}

impl Predecessor {
    fn say(&self, letter: &Letter) -> io::Result<()> {
        self.channel.send(&serde_json::to_vec(letter)?, &[], LETTER_MAX)
    }

    /// Everything has started, with these of the offered sockets; waits until the old process has made room.
    ///
    /// Errors: it has given up. When it has ended, this one goes on: somebody must.
    pub(in super::super) fn wait_to_begin(&self, taken: Vec<usize>) -> io::Result<()> {
        share_sockets(true);
        let said = self.say(&Letter { word: Word::Ready, taken, ..Letter::default() });
        let heard = said.and_then(|()| self.channel.receive(None));
        match heard {
            Ok(Some((bytes, _))) if serde_json::from_slice(&bytes).is_ok_and(|l: Letter| l.word == Word::Go) => Ok(()),
            Ok(Some(_)) => Err(io::Error::other("the old process has said something else than `go`")),
            Ok(None) | Err(_) => {
                // That the sockets are its no longer is said by `serving`, which cannot reach it.
                tracing::warn!(pid = self.pid, "the process that was to be taken over has ended");
                Ok(())
            }
        }
    }

    /// Connections are accepted here from now on; looks after the end of the old process.
    pub(in super::super) fn serving(&'static self) {
        let pid = self.pid;
        if self.say(&Letter { word: Word::Serving, ..Letter::default() }).is_err() {
            return share_sockets(false);
        }
        tracing::info!(pid, "taken over: the process before accepts no more and finishes what it has");
        let wait = move || {
            while let Ok(Some(_)) = self.channel.receive(None) {}
            share_sockets(false);
            tracing::info!(pid, "the process before has ended");
        };
        // Without the thread the sockets are taken for shared for good, which costs next to nothing.
        drop(std::thread::Builder::new().name("predecessor".into()).spawn(wait));
    }
}

struct Offered {
    note: SocketNote,
    fd: Option<OwnedFd>,
}

/// What this process gets from outside.
#[derive(Default)]
pub(in super::super) struct Inherited {
    sockets: Vec<Offered>,
    taken: Vec<usize>,
    servers: Vec<ServerNote>,
    idle: Vec<String>,
    changes: Vec<ChangeNote>,
    secrets: Secrets,
    forward: Option<UnixDatagram>,
    pub(in super::super) from: Option<&'static Predecessor>,
}

impl Inherited {
    /// Takes what the old process offers, or a service manager (sd_listen_fds(3)); mostly nothing. Must be called once, early.
    ///
    /// Errors: the old process has ended, or is not understood.
    pub(in super::super) fn take() -> io::Result<Inherited> {
        let Some(from) = predecessor() else { return Ok(Inherited::from_manager()) };
        let mut inherited = Inherited { from: Some(from), ..Inherited::default() };
        loop {
            let (bytes, fds) = from.channel.receive(Some(LETTER_MAX))?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let letter: Letter = serde_json::from_slice(&bytes)?;
            if letter.sockets.len() != fds.len() {
                return Err(io::Error::other("sockets were lost on their way: are too few open files allowed?"));
            }
            let offered = letter.sockets.into_iter().zip(fds).map(|(note, fd)| Offered { note, fd: Some(fd) });
            inherited.sockets.extend(offered);
            inherited.servers.extend(letter.servers);
            inherited.idle.extend(letter.idle);
            inherited.changes.extend(letter.changes);
            inherited.secrets = letter.secrets.unwrap_or(inherited.secrets);
            if letter.word == Word::Offered {
                break;
            }
        }
        inherited.take_forward();
        Ok(inherited)
    }

    fn take_forward(&mut self) {
        let socket = self.take_where(|note| note.kind == Kind::Forward).pop().map(UnixDatagram::from);
        self.forward = socket.filter(|socket| socket.set_nonblocking(true).is_ok());
    }

    /// The way to the keeper of the old process's programs.
    pub(in super::super) fn keeper(&mut self) -> Option<Bequest> {
        let is_it = |note: &SocketNote| note.kind == Kind::Keeper;
        let note = self.sockets.iter().find(|socket| is_it(&socket.note))?.note.clone();
        let channel = self.take_where(is_it).pop()?;
        let warden = self.take_where(|note| note.kind == Kind::Warden).pop();
        Some(Bequest { channel, folder: note.address.into(), warden, is_private: note.name == PRIVATE_KEEPER })
    }

    /// Applications of the old process that do not serve.
    pub(in super::super) fn idle(&mut self) -> Vec<String> {
        std::mem::take(&mut self.idle)
    }

    fn from_manager() -> Inherited {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        if number("LISTEN_PID") != Some(std::process::id()) {
            return Inherited::default();
        }
        let mut inherited = Inherited::default();
        for found in take_activated(number("LISTEN_FDS").unwrap_or(0) as usize) {
            let (kind, address, fd) = match found {
                Found::Stream(address, fd) => (Kind::Listener, address.to_string(), fd),
                Found::Datagram(address, fd) => (Kind::Udp, address.to_string(), fd),
                Found::Other(number) => {
                    tracing::warn!(number, "LISTEN_FDS passes something that is no listening socket: it is closed");
                    continue;
                }
            };
            let note = SocketNote { kind, name: String::new(), asked: address.clone(), address };
            inherited.sockets.push(Offered { note, fd: Some(fd) });
        }
        inherited
    }

    /// Whether a process before this one has made them, and no service manager.
    pub(in super::super) fn is_of_predecessor(&self) -> bool {
        self.from.is_some()
    }

    /// The sockets of the listener `name` at `address`; port 0 stands for the port that the listener of this name has.
    pub(in super::super) fn listeners(&mut self, name: &str, address: &Address) -> Vec<OwnedFd> {
        if let Address::Unix(path) = address
            && !path.exists()
        {
            return Vec::new(); // nobody could connect
        }
        let wanted = address.to_string();
        let any_port = matches!(address, Address::Tcp(address) if address.port() == 0);
        self.take_where(|note| {
            let is_it = if any_port { note.name == name && note.asked == wanted } else { note.address == wanted };
            note.kind == Kind::Listener && is_it
        })
    }

    /// The UDP port that the listener `name` at `address`, whose port is 0, has.
    pub(in super::super) fn port_of(&self, name: &str, address: SocketAddr) -> Option<u16> {
        let (asked, is_any) = (address.to_string(), address.port() == 0);
        let is_it = |note: &&SocketNote| is_any && note.kind == Kind::Udp && note.name == name && note.asked == asked;
        let found = self.sockets.iter().map(|socket| &socket.note).find(is_it)?;
        found.address.parse::<SocketAddr>().ok().map(|bound| bound.port())
    }

    /// The UDP sockets at `address`.
    pub(in super::super) fn datagrams(&mut self, address: SocketAddr) -> Vec<OwnedFd> {
        let wanted = address.to_string();
        self.take_where(|note| note.kind == Kind::Udp && note.address == wanted)
    }

    fn take_where(&mut self, is_wanted: impl Fn(&SocketNote) -> bool) -> Vec<OwnedFd> {
        let mut found = Vec::new();
        for (number, socket) in self.sockets.iter_mut().enumerate() {
            if is_wanted(&socket.note)
                && let Some(fd) = socket.fd.take()
            {
                self.taken.push(number);
                found.push(fd);
            }
        }
        found
    }

    /// Closes what nobody has wanted; returns the numbers of the others.
    pub(in super::super) fn settle(&mut self) -> Vec<usize> {
        for socket in std::mem::take(&mut self.sockets).iter().filter(|socket| socket.fd.is_some()) {
            let SocketNote { name, address, .. } = &socket.note;
            tracing::warn!(%name, %address, "a socket was handed over that the config does not name: it is not used");
        }
        std::mem::take(&mut self.taken)
    }

    /// What tickets are sealed with.
    pub(in super::super) fn ticket_seed(&self) -> Option<[u8; 32]> {
        self.secrets.tickets.as_slice().try_into().ok()
    }

    pub(in super::super) fn quic_secrets(&self) -> Option<KeySecrets> {
        self.secrets.quic.clone()
    }

    /// Leads to the old process, for datagrams of its connections.
    pub(in super::super) fn quic_before(&mut self) -> Option<UnixDatagram> {
        self.forward.take()
    }

    /// What the operator has added and removed. A note that this version does not understand is left out.
    pub(in super::super) fn changes(&self) -> Changes {
        let server = |added: &AddedNote| {
            let server = Server::new(parse_server(&added.address).ok()?);
            let (backup, tier) = (added.tier.is_none(), added.tier.unwrap_or(Server::BACKUP_TIER));
            Some(Server { weight: added.weight, backup, tier, requests_max: added.requests_max, ..server })
        };
        let mut changes = Changes::default();
        for note in &self.changes {
            let ChangedServers { added, removed } = changes.0.entry(note.upstream.clone()).or_default();
            added.extend(note.added.iter().filter_map(server));
            removed.extend(note.removed.iter().filter_map(|text| parse_server(text).ok()));
        }
        changes
    }

    /// What the operator has set of servers, and which of them are known to be down.
    pub(in super::super) fn apply_states(&self, shared: &Shared) {
        let now = std::time::SystemTime::now();
        for note in &self.servers {
            for (u, upstream) in shared.config.upstreams.iter().enumerate() {
                let is_it = |address: &Address| upstream.name == note.upstream && address.to_string() == note.server;
                for (s, _) in upstream.servers.iter().enumerate().filter(|(_, server)| is_it(&server.address)) {
                    let state = &shared.servers[u][s];
                    let admin = AdminState::ALL.into_iter().find(|admin| admin.name() == note.admin);
                    state.set_admin(admin.unwrap_or(AdminState::Ready));
                    state.set_weight(note.weight);
                    // In force with the first thing that the new process does.
                    state.set_limit(note.is_limit_set.then_some(note.limit));
                    // Without checks nobody would find that it is up again.
                    if !note.up && upstream.health.is_some() {
                        state.publish_up(false, &note.reason, now);
                    }
                }
                shared.settle(u);
            }
        }
    }
}
