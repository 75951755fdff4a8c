//! What a takeover asks of a data worker: of the old process to tell its sockets and leave them, of the new one to wait for
//! its turn.
//!
//! Both processes have the same sockets, not sockets at the same address: closing one of several with SO_REUSEPORT would
//! lose the connections that wait in its queue.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::Lasting;
use super::h3::Left;
use super::run::Control;
use crate::runtime::mailbox::Receiver;
use crate::runtime::net::{Listener, were_sockets_shared};
use crate::runtime::time::sleep;

/// How a data worker comes to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drain {
    /// Connections that are not done by then are broken off.
    pub(crate) deadline: Duration,
    /// How long the next request of an idle connection is waited for. Where others serve the same address a client need not
    /// find its connection closed in the very moment that it sends one.
    pub(crate) idle_patience: Duration,
    /// Listening sockets that another process accepts from, by [`HeldSocket::number`].
    pub(crate) left: Arc<HashSet<RawFd>>,
    /// UDP sockets that another process reads.
    pub(crate) handed: Arc<HashSet<SocketAddr>>,
}

/// A listening socket of a data worker.
#[derive(Debug)]
pub(crate) struct HeldSocket {
    pub(crate) of: SocketOf,
    /// Tells it from all others of the process.
    pub(crate) number: RawFd,
    pub(crate) socket: OwnedFd,
}

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SocketOf {
    /// The listener in this slot.
    Slot(usize),
    /// The splitter of this name.
    Splitter(String),
}

/// Waits until everything else has started. `false`: it has not, and the worker ends.
pub(super) async fn may_begin(control: &mut Receiver<Control>) -> bool {
    loop {
        match control.recv().await {
            Control::Begin => return true,
            Control::Stop | Control::Drain(_) => return false,
            // Nothing is served yet that could change.
            _ => {}
        }
    }
}

pub(super) fn tell_sockets(lasting: &Lasting, answer: &mpsc::Sender<Vec<HeldSocket>>) {
    let of_doors = lasting.accepting().into_iter().map(|(slot, listener)| (SocketOf::Slot(slot), listener));
    let of_splitters = lasting.splitters.accepting();
    let of_splitters = of_splitters.into_iter().map(|(name, listener)| (SocketOf::Splitter(name), listener));
    let held = |(of, listener): (SocketOf, Rc<Listener>)| {
        Ok(HeldSocket { of, number: listener.raw_fd(), socket: listener.duplicate()? })
    };
    match of_doors.chain(of_splitters).map(held).collect::<std::io::Result<Vec<_>>>() {
        // Whoever asked may have given up.
        Ok(sockets) => drop(answer.send(sockets)),
        Err(error) => tracing::error!(worker = lasting.index, %error, "sockets cannot be handed over"),
    }
}

/// Looks, while another process accepts from the same sockets and a while longer: the kernel takes its time to clear away
/// what a process has waited for.
const LOOKS: u32 = 10;

/// Looks in quick succession where a process has just taken over, and their distance: the old one gives up its waits then.
const FIRST_LOOKS: u32 = 100;
const FIRST_LOOK_EVERY: Duration = Duration::from_millis(5);

/// At each tick: looks for connections that nobody was woken for.
pub(super) fn look_again(lasting: &Lasting) {
    let (mut said, left) = lasting.looks.get();
    let left = if were_sockets_shared(&mut said) { LOOKS } else { left };
    lasting.looks.set((said, left.saturating_sub(1)));
    if left > 0 {
        look(lasting);
    }
}

fn look(lasting: &Lasting) {
    accepting(lasting).for_each(|listener| listener.look_again());
}

/// All open listeners.
pub(super) fn accepting(lasting: &Lasting) -> impl Iterator<Item = Rc<Listener>> {
    let of_splitters = lasting.splitters.accepting().into_iter().map(|(_, listener)| listener);
    lasting.accepting().into_iter().map(|(_, listener)| listener).chain(of_splitters)
}

/// The same more often, when this process has taken over.
pub(super) async fn look_often(lasting: Rc<Lasting>) {
    if !were_sockets_shared(&mut 0) {
        return;
    }
    for _ in 0..FIRST_LOOKS {
        look(&lasting);
        sleep(FIRST_LOOK_EVERY).await;
    }
}

/// Another process reads these sockets, of HTTP/3 and of listeners in UDP mode, or no longer does.
pub(super) fn leave_udp(lasting: &Lasting, left: Left) {
    lasting.endpoints.hand(left);
    lasting.flows.wake_receivers();
}

/// A ring that was told to give up a wait may bring what it has accepted until then.
const GIVING_UP: Duration = Duration::from_millis(2);

/// Accepts no more from what another process has taken over; drops `done` when that is so.
pub(super) fn leave_doors(lasting: &Lasting, left: &HashSet<RawFd>, done: mpsc::Sender<()>) {
    leave_listeners(lasting, left);
    crate::runtime::spawn(async move {
        sleep(GIVING_UP).await;
        drop(done);
    });
}

fn leave_listeners(lasting: &Lasting, left: &HashSet<RawFd>) {
    let is_left = |number: RawFd| left.contains(&number);
    lasting.leave_doors(is_left);
    lasting.splitters.leave(|listener| is_left(listener.raw_fd()));
}

/// Leaves what another process has taken over.
pub(super) fn leave(lasting: &Lasting, order: &Drain) {
    // Those of a worker that was too busy for [`leave_doors`].
    leave_listeners(lasting, &order.left);
    leave_udp(lasting, Left::Some(order.handed.clone()));
}
