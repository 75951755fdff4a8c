//! The sockets of a UDP endpoint that are received from, and the tasks that wait for them.
//!
//! After a takeover a worker may have several of one address. While another process reads them, nobody waits here.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::Lasting;
use crate::runtime::time::sleep;
use crate::runtime::udp::{BoundUdp, UdpSocket};

/// Receives from a socket before others have their turn.
pub(super) const BURST: usize = 32;

/// See the module. Tells boot that the address is in use: an endpoint drops it behind its sockets.
#[derive(Default)]
pub(super) struct Receivers {
    bound: RefCell<Vec<Arc<BoundUdp>>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Receivers {
    /// What `socket` is received from with; `None`: it is already. Errors: it cannot be used here.
    pub(super) fn add(&self, socket: Arc<BoundUdp>) -> io::Result<Option<UdpSocket>> {
        if self.bound.borrow().iter().any(|bound| Arc::ptr_eq(bound, &socket)) {
            return Ok(None);
        }
        let receiver = UdpSocket::new(&socket)?;
        self.bound.borrow_mut().push(socket);
        Ok(Some(receiver))
    }

    /// Lets all of them look how things stand.
    pub(super) fn wake(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until there is something to receive from `socket`, which is bound to `address`, or nobody is left to receive for:
    /// then `is_over` says so, and this is true.
    pub(super) async fn wait(
        &self,
        lasting: &Lasting,
        address: SocketAddr,
        socket: &UdpSocket,
        is_over: impl Fn() -> bool,
    ) -> bool {
        loop {
            match self.readable(lasting, address, socket, &is_over).await {
                Ok(is_over) => return is_over,
                Err(error) => {
                    tracing::warn!(worker = lasting.index, %error, "UDP socket cannot be waited for");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn readable(
        &self,
        lasting: &Lasting,
        address: SocketAddr,
        socket: &UdpSocket,
        is_over: impl Fn() -> bool,
    ) -> io::Result<bool> {
        let mut readable = pin!(socket.readable());
        poll_fn(|cx| {
            if is_over() {
                return Poll::Ready(Ok(true));
            }
            // What comes is for another process, while that has the socket.
            if !lasting.endpoints.is_handed(address)
                && let Poll::Ready(ready) = readable.as_mut().poll(cx)
            {
                return Poll::Ready(ready.map(|()| false));
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
