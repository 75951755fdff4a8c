//! The task of one connection to a server: reading, the crate and writing are polled in the order in which bytes move, until
//! none of them moves any more, as for clients ([`super::super::h2`]).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::PingPong;
use h2::client::{Connection, SendRequest};

use super::{CLOSE_MAX, Link, PING_AFTER, PING_TIMEOUT, Ping};
use crate::worker::h2::pipe::PipeEnd;
use crate::worker::watch::OnExpiry;

/// Bytes asked for with one read. The buffer is held while the server is silent: there are few connections to servers.
const READ_BYTES: usize = 16 * 1024;

/// Drives a connection to its end.
pub(super) async fn drive(link: Rc<Link>, mut connection: Connection<PipeEnd, Bytes>) {
    let lost = Lost(&link);
    let mut pings = connection.ping_pong();
    {
        let mut reader = pin!(link.read());
        let mut writer = pin!(link.write());
        let (mut is_reading, mut is_serving) = (true, true);
        poll_fn(|cx| {
            loop {
                let before = link.pipe.borrow().moves();
                if is_reading {
                    is_reading = reader.as_mut().poll(cx).is_pending();
                }
                let is_alive = link.look(cx, pings.as_mut());
                if is_serving && let Poll::Ready(end) = Pin::new(&mut connection).poll(cx) {
                    is_serving = false;
                    if let Err(error) = end {
                        tracing::debug!(%error, "HTTP/2 connection to a server ended");
                    }
                    link.close();
                    link.server.watched.set(CLOSE_MAX, OnExpiry::BreakAll);
                }
                link.note_ready();
                link.note_goodbye(cx);
                link.note_allowance();
                let is_writing = writer.as_mut().poll(cx).is_pending();
                let is_flushed = !link.pipe.borrow().has_outbound() && !link.is_writing.get();
                if !is_alive || !is_writing || (!is_serving && is_flushed) {
                    return Poll::Ready(());
                }
                if link.pipe.borrow().moves() == before {
                    return Poll::Pending;
                }
            }
        })
        .await;
        // Every operation of the kernel on it comes back before it is closed.
        link.server.break_all();
        poll_fn(|cx| {
            let is_over = !link.is_writing.get() || writer.as_mut().poll(cx).is_ready() || !link.is_writing.get();
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        if is_reading {
            link.pipe.borrow_mut().discard();
            reader.await;
        }
    }
    // Whoever has a stream learns of the end.
    drop(connection);
    drop(lost);
}

/// Marks a connection as lost in any case.
struct Lost<'a>(&'a Rc<Link>);

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        let link = self.0;
        link.is_lost.set(true);
        link.sender.take();
        if let Some(servers) = link.servers.upgrade() {
            servers.forget(link);
        }
        if let Some(waker) = link.opener.take() {
            waker.wake();
        }
    }
}

impl Link {
    /// Reads from the server into the pipe, for as long as it sends.
    async fn read(&self) {
        loop {
            poll_fn(|_| if self.pipe.borrow().wants_inbound() { Poll::Ready(()) } else { Poll::Pending }).await;
            let buffer = self.lasting.hot.take_buffer(READ_BYTES);
            let (result, buffer) = self.server.read(&self.lasting, buffer).await;
            let goes_on = match result {
                Ok(count) if count > 0 => self.take_inbound(&buffer),
                Ok(_) => false,
                Err(error) => {
                    self.failure.replace(Some(error));
                    false
                }
            };
            self.lasting.hot.give_buffer_back(buffer);
            if !goes_on {
                return self.pipe.borrow_mut().end_inbound();
            }
        }
    }

    /// What the server sent goes on to the crate; `false`: it is no HTTP/2.
    fn take_inbound(&self, bytes: &[u8]) -> bool {
        let mut greeting = self.greeting.get();
        if let Err(error) = greeting.read(bytes) {
            self.failure.replace(Some(io::Error::new(io::ErrorKind::InvalidData, error)));
            return false;
        }
        self.greeting.set(greeting);
        self.pipe.borrow_mut().put_inbound(bytes);
        // Of a server that is doubted, nothing but the answer to a ping counts.
        if self.streams.get() > 0 && !self.is_suspect.get() {
            self.ping.set(Ping::None);
            self.timer.set(PING_AFTER, OnExpiry::Wake);
        }
        true
    }

    /// It can be used once the crate has the server's settings.
    fn note_ready(&self) {
        if self.ready_since.get().is_none() && self.greeting.get().read(b"") == Ok(true) {
            self.ready_since.set(Some(self.lasting.now()));
            if let Some(waker) = self.opener.take() {
                waker.wake();
            }
        }
    }

    /// A server that has said that it takes no further requests (GOAWAY: RFC 9113 section 6.8) is not waited for, however long
    /// those under way take.
    fn note_goodbye(&self, cx: &mut Context<'_>) {
        let said = self.sender.borrow_mut().as_mut().map(|sender| sender.poll_ready(cx));
        if let Some(Poll::Ready(Err(_))) = said {
            self.close();
        }
    }

    /// A server may take more requests at once than before (SETTINGS_MAX_CONCURRENT_STREAMS: RFC 9113 section 5.1.2): those who
    /// wait for a place have one.
    fn note_allowance(&self) {
        let Some(allowed) = self.sender.borrow().as_ref().map(SendRequest::current_max_send_streams) else { return };
        if allowed > self.streams_allowed.replace(allowed)
            && let Some(servers) = self.servers.upgrade()
        {
            servers.tell_all();
        }
    }

    /// Sends what the crate wants to be sent; ends when nothing can be sent.
    async fn write(&self) {
        loop {
            poll_fn(|_| if self.pipe.borrow().has_outbound() { Poll::Ready(()) } else { Poll::Pending }).await;
            let buffer = self.lasting.hot.take_buffer(READ_BYTES);
            let outbound = self.pipe.borrow_mut().take_outbound(buffer);
            self.is_writing.set(true);
            let (result, buffer) = self.server.write_all(&self.lasting, outbound).await;
            self.is_writing.set(false);
            self.lasting.hot.give_buffer_back(buffer);
            if result.is_err() {
                return self.pipe.borrow_mut().break_outbound();
            }
        }
    }

    /// What is due by the clock; `false`: the server is not there any more.
    fn look(&self, cx: &mut Context<'_>, pings: Option<&mut PingPong>) -> bool {
        self.timer.poll_draining(cx, false);
        if self.is_given_up.get() {
            tracing::warn!(
                "HTTP/2 connection to a server is ended: too many of those that it has closed have requests"
            );
            return false;
        }
        if self.timer.expired() {
            let (has_streams, is_open) = (self.streams.get() > 0, self.is_open());
            match self.ping.get() {
                Ping::None if has_streams => {
                    self.ping.set(Ping::Wanted);
                    self.timer.set(PING_TIMEOUT, OnExpiry::Wake);
                }
                Ping::None if is_open => self.close(),
                // It is closed too slowly, or does not answer.
                _ => {
                    tracing::debug!("HTTP/2 connection to a server is given up: it does not answer");
                    return false;
                }
            }
        }
        if let Some(pings) = pings {
            if self.ping.get() == Ping::Wanted {
                // It fails while another one is under way, whose answer does as well.
                let _ = pings.send_ping(h2::Ping::opaque());
                self.ping.set(Ping::Sent);
            }
            if let Poll::Ready(Ok(_)) = pings.poll_pong(cx) {
                self.ping.set(Ping::None);
                if self.is_suspect.replace(false)
                    && let Some(servers) = self.servers.upgrade()
                {
                    servers.tell_one();
                }
                self.begin_silence();
            }
        }
        true
    }

    /// From now on the server owes something, or the connection is idle.
    pub(super) fn begin_silence(&self) {
        let idle_timeout =
            || self.servers.upgrade().map_or(std::time::Duration::ZERO, |servers| servers.limits().idle_timeout);
        let time = match (self.streams.get(), self.is_open()) {
            (0, true) => idle_timeout(),
            (0, false) => CLOSE_MAX,
            _ => PING_AFTER,
        };
        self.timer.set(time, OnExpiry::Wake);
    }
}
