//! Mirroring: a copy of a request goes to another upstream, whose answer is thrown away.
//!
//! The request itself is neither held up nor changed by it. All that happens in its time is that its bytes, which are to
//! be sent anyway, are copied; a task of its own does the rest. Copies are bounded: by number, by the size of the content
//! (`retry_body_max`, 16 KiB unless the config says otherwise), and by the time-outs of the upstream that gets them. They are not tried twice,
//! and wait for no place: what cannot be sent at once is not sent, and counted.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::Bytes;

use super::Forward;
use super::choose::{Busy, Known};
use super::dial::{WhenFull, dial};
use super::outgoing::Outgoing;
use super::server::ServerConnection;
use crate::config::model::{Mirror, Protocol};
use crate::http::h1::{BodyDecoder, BodyKind, Method, ResponseHead, parse_response};
use crate::http::h2::request;
use crate::proxy::{Ask, Picked, Tried};
use crate::runtime::time::timeout;
use crate::tls::Offer;
use crate::util::random::mix;
use crate::worker::link::{Acquired, Place};
use crate::worker::watch::OnExpiry;
use crate::worker::{Worker, preamble};

/// Sends a copy of the request, if its turn has come and there is room for one.
pub(super) fn mirror(forward: &Forward<'_>, outgoing: &Outgoing, mirror: &Mirror) {
    // A number of chance that costs nothing, and another one than the identifier itself, which clients may choose.
    if mix(mix(forward.request.id)) % 10_000 >= u64::from(mirror.share) {
        return;
    }
    let worker: &Rc<Worker> = forward.cx.worker;
    let stats = &worker.stats.upstreams[mirror.upstream];
    // More than that is kept for programs alone.
    let is_small = outgoing.is_whole.get() && outgoing.kept.borrow().len() <= forward.config.retry.body_bytes_max;
    let copy = (is_small && forward.upgrade.is_none()).then(|| Copy::begin(worker, mirror)).flatten();
    let bytes = copy.is_some().then(|| forward.copy_bytes(outgoing).ok()).flatten();
    let (Some(copy), Some(bytes)) = (copy, bytes) else { return stats.mirror_skipped.inc() };
    stats.mirrored.inc();
    let method = forward.request.head.method;
    let version = worker.config.upstreams[mirror.upstream].proxy_protocol;
    let header = preamble::header(forward.connection, version, None);
    crate::runtime::spawn(async move {
        if copy.send(header, bytes, method).await.is_none() {
            copy.worker.stats.upstreams[copy.upstream].mirror_failed.inc();
        }
    });
}

/// One copy under way.
struct Copy {
    worker: Rc<Worker>,
    upstream: usize,
}

impl Copy {
    /// `None`: there are too many.
    fn begin(worker: &Rc<Worker>, mirror: &Mirror) -> Option<Copy> {
        let under_way = &worker.shared.upstreams[mirror.upstream].mirrored;
        // Made first, so that what it has counted is taken back in any case.
        let copy = Copy { worker: worker.clone(), upstream: mirror.upstream };
        (under_way.fetch_add(1, Relaxed) < mirror.requests_max).then_some(copy)
    }

    /// Sends it and reads the answer to its end; `None`: that failed.
    async fn send(&self, header: Vec<u8>, bytes: Vec<u8>, method: Method) -> Option<()> {
        let busy = self.choose()?;
        let stats = &self.worker.stats.servers[self.upstream][busy.server];
        let config = &self.worker.config.upstreams[self.upstream];
        let own = match config.protocol {
            // To these no copies go: the check has seen to it.
            Protocol::Http1 | Protocol::Gateway(_) => None,
            Protocol::H2 | Protocol::Auto => match self.acquire(busy.server).await? {
                Acquired::Place(place) => return self.send_shared(&place, &bytes, stats).await,
                Acquired::Http1(connection) => connection,
                Acquired::Failed => return None,
            },
        };
        let server = match own {
            Some(connection) => connection,
            None => self.connect(busy.server, header).await?,
        };
        stats.requests.inc();
        let begun = Instant::now();
        server.watched.set(config.idle_timeout, OnExpiry::BreakAll);
        let (sent, bytes) = server.write_all(&self.worker, bytes).await;
        self.worker.hot.give_buffer_back(bytes);
        sent.ok()?;
        server.watched.set(config.response_timeout, OnExpiry::BreakAll);
        let mut head = self.worker.hot.take_response_head();
        let mut input = self.worker.hot.take_buffer(self.worker.config.process.read_buffer_bytes);
        let is_reusable = self.read_answer(&server, method, &mut head, &mut input, (stats, begun)).await;
        self.worker.hot.give_response_head_back(head);
        self.worker.hot.give_buffer_back(input);
        if is_reusable? {
            server.watched.clear();
            let mut state = self.worker.upstreams[self.upstream].borrow_mut();
            drop(state.keep(busy.server, server, self.worker.now()));
        }
        Some(())
    }

    async fn acquire(&self, server: usize) -> Option<Acquired> {
        let config = &self.worker.config.upstreams[self.upstream];
        let acquiring =
            pin!(self.worker.links[self.upstream][server].acquire(&self.worker, self.upstream, server, None));
        timeout(config.connect_timeout, acquiring).await.ok()
    }

    /// The same over HTTP/2. `bytes`: the request as a server of HTTP/1 would get it.
    async fn send_shared(&self, place: &Place, bytes: &[u8], stats: &crate::metrics::ServerStats) -> Option<()> {
        let config = &self.worker.config.upstreams[self.upstream];
        let content = memchr::memmem::find(bytes, b"\r\n\r\n").map(|end| &bytes[end + 4..])?;
        let asked = request(bytes, config.tls.is_some(), true).ok()?;
        let (response, mut stream) = place.send(asked, content.is_empty()).ok()?;
        stats.requests.inc();
        let begun = Instant::now();
        if !content.is_empty() {
            stream.send_data(Bytes::copy_from_slice(content), true).ok()?;
        }
        let (response, mut content) = timeout(config.response_timeout, response).await.ok()?.ok()?.into_parts();
        place.note_answer();
        stats.first_byte.record(begun.elapsed());
        stats.responses[usize::from(response.status.as_u16() / 100).min(5)].inc();
        loop {
            let next = pin!(poll_fn(|cx| content.poll_data(cx)));
            match timeout(config.idle_timeout, next).await.ok()? {
                Some(data) => {
                    let count = data.ok()?.len();
                    content.flow_control().release_capacity(count).ok()?;
                }
                None => return Some(()),
            }
        }
    }

    /// Reads an answer and forgets it; says whether the connection can be used again. `None`: it broke off.
    async fn read_answer(
        &self,
        server: &ServerConnection,
        method: Method,
        head: &mut ResponseHead,
        input: &mut Vec<u8>,
        (stats, begun): (&crate::metrics::ServerStats, Instant),
    ) -> Option<bool> {
        loop {
            match parse_response(input, &self.worker.limits, method, head) {
                Ok(Some(())) if head.status >= 200 => break,
                Ok(Some(())) => drop(input.drain(..head.head_bytes)),
                Ok(None) => self.read(server, input).await.filter(|n| *n > 0).map(drop)?,
                Err(_) => return None,
            }
        }
        stats.first_byte.record(begun.elapsed());
        stats.responses[usize::from(head.status / 100).min(5)].inc();
        let idle_timeout = self.worker.config.upstreams[self.upstream].idle_timeout;
        let mut decoder = BodyDecoder::new(head.body);
        input.drain(..head.head_bytes);
        loop {
            while !input.is_empty() && !decoder.is_done() {
                let consumed = decoder.decode(input).ok()?.consumed;
                input.drain(..consumed);
            }
            if decoder.is_done() {
                return Some(head.keep_alive && input.is_empty() && head.body != BodyKind::UntilClose);
            }
            server.watched.set(idle_timeout, OnExpiry::BreakAll);
            if self.read(server, input).await? == 0 {
                return decoder.on_eof().ok().map(|_| false);
            }
        }
    }

    async fn read(&self, server: &ServerConnection, input: &mut Vec<u8>) -> Option<usize> {
        input.reserve(1024);
        let (result, returned) = server.read(&self.worker, std::mem::take(input)).await;
        *input = returned;
        result.ok()
    }

    /// A server that has room now.
    fn choose(&self) -> Option<Busy<'_>> {
        let (tried, known) = (Tried::new(), Known::new(&self.worker, self.upstream));
        let ask = Ask { tried: &tried, key: None, now: self.worker.now() };
        let picked = self.worker.upstreams[self.upstream].borrow_mut().pick(ask, &known);
        let Picked::Server(server) = picked else { return None };
        known.takes(server).then(|| Busy::begin(&self.worker, self.upstream, server))
    }

    async fn connect(&self, server: usize, header: Vec<u8>) -> Option<ServerConnection> {
        let (state, stats) = (&self.worker.upstreams[self.upstream], &self.worker.stats.servers[self.upstream][server]);
        let take_idle = || state.borrow_mut().take_idle(server, self.worker.now());
        while let Some(idle) = take_idle() {
            if idle.is_quiet() {
                stats.reuses.inc();
                return Some(idle);
            }
        }
        let config = &self.worker.config.upstreams[self.upstream];
        let dialled =
            pin!(dial(&self.worker, self.upstream, server, header, Offer::Http1, self.worker.now(), WhenFull::Wait));
        match timeout(config.connect_timeout, dialled).await {
            Ok(Ok(connection)) => {
                stats.connects.inc();
                state.borrow_mut().on_connected(server);
                Some(connection)
            }
            _ => {
                stats.connect_errors.inc();
                state.borrow_mut().on_connect_failed(server, self.worker.now());
                None
            }
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.worker.shared.upstreams[self.upstream].mirrored.fetch_sub(1, Relaxed);
    }
}
