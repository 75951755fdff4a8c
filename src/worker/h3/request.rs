//! One request of HTTP/3, from its first byte to its accounting.

use std::rc::Rc;

use super::super::answer::{Answer, StreamWire, Wire};
use super::super::connection::Connection;
use super::super::exchange::{self, After, Client, Request};
use super::super::hot::Hot;
use super::super::multiplexed;
use super::super::trail::account;
use super::super::upload::Upload;
use super::link::Link;
use super::stream::{NoHead, Receiver, Stream};
use crate::http::h1::{Limits, RequestHead, Version};
use crate::http::h2::{MessageError, write_request};
use crate::http::h3::{ErrorCode, Failure, HeadError, request_parts};

/// Counts a request as under way, and takes its stream from the connection.
struct Guard {
    link: Rc<Link>,
    stream: Rc<Stream>,
}

impl Guard {
    fn new(link: Rc<Link>, stream: Rc<Stream>) -> Guard {
        link.begin_request();
        Guard { link, stream }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stream.leave();
        self.link.end_request();
    }
}

/// Answers the request that comes on `stream`.
pub(super) async fn answer(link: Rc<Link>, connection: Rc<Connection>, stream: Rc<Stream>) {
    let guard = Guard::new(link, stream);
    let (link, stream) = (&guard.link, &guard.stream);
    let worker = link.worker();
    let mut receiver = Receiver::new(stream.clone());
    let section = match receiver.head(&worker).await {
        Ok(section) => section,
        Err(NoHead::Gone) => return give_up(link, stream),
        Err(NoHead::Late) => return stream.reset(ErrorCode::REQUEST_CANCELLED),
        Err(NoHead::Failed(failure)) => return fail(link, stream, failure),
    };
    worker.stats.http3.requests.inc();
    link.closing.on_request(link, &connection);
    let list_bytes_max = worker.config.http3.header_list_bytes_max as usize;
    let may_connect = link.offers_connect.get();
    let parts = match section.as_deref().map(|section| request_parts(section, list_bytes_max, may_connect)) {
        Some(Ok(parts)) => Ok(parts),
        Some(Err(HeadError::Broken)) => {
            return fail(link, stream, Failure::Connection(ErrorCode::QPACK_DECOMPRESSION_FAILED));
        }
        Some(Err(HeadError::Malformed(reason))) => {
            tracing::debug!(peer = ?connection.peer, reason, "request refused");
            return fail(link, stream, Failure::Stream(ErrorCode::MESSAGE_ERROR));
        }
        Some(Err(HeadError::TooLarge)) | None => Err(MessageError::TooLarge),
    };
    let mut lease = worker.hot.take_for_stream();
    let Hot { head, head_bytes, scratch, .. } = lease.buffers();
    let limits = Limits { head_bytes_max: worker.limits.head_bytes_max.min(list_bytes_max), ..worker.limits };
    let converted = match parts {
        Ok(parts) => write_request(&parts, !receiver.ends_here(), &limits, head_bytes, head),
        Err(error) => {
            head_bytes.clear();
            *head = RequestHead { version: Version::Http3, ..RequestHead::default() };
            Err(error)
        }
    };
    if converted.is_ok() {
        match head.upgrade {
            true => receiver.expect_tunnel(),
            false => receiver.set_expected(head.body, head.expect_continue),
        }
        if stream.is_malformed() {
            return fail(link, stream, Failure::Stream(ErrorCode::MESSAGE_ERROR));
        }
    }
    let request = Request::new(&worker, &connection, head, head_bytes);
    let (mut receiver, sender) = (multiplexed::Receiver::H3(receiver), multiplexed::Stream::H3(stream.clone()));
    let wire = Wire::Stream(StreamWire { stream: &sender, gathered: Vec::new(), is_broken: false });
    let answer = Answer::new(&worker, &connection, head.method, wire).for_connect(head.upgrade);
    let mut client = Client::new(Upload::Stream(&mut receiver), answer);
    let outcome = match converted {
        Ok(()) => exchange::run(&worker, &connection, request, &mut client, scratch).await,
        Err(error) => {
            worker.stats.http.malformed.inc();
            tracing::debug!(peer = ?connection.peer, %error, "request refused");
            exchange::refuse_malformed(&mut client, scratch, error.status()).await
        }
    };
    account(&worker, &connection, request, &client, outcome);
    let has_answered = client.answer.status() != 0;
    drop(client);
    let multiplexed::Receiver::H3(receiver) = receiver else { unreachable!("made above") };
    if let Some(failure) = receiver.failure() {
        return fail(link, stream, failure);
    }
    if outcome.after == After::Abort || !has_answered {
        if !has_answered {
            give_up(link, stream);
        }
        return stream.reset(ErrorCode::INTERNAL_ERROR);
    }
    link.budget.borrow_mut().on_answered();
    // RFC 9114 section 4.1: what the client still sends is of no use, and the answer counts all the same.
    stream.stop_reading(ErrorCode::NO_ERROR);
}

/// Nobody waits for an answer any more; a client that does so all the time is sent away.
fn give_up(link: &Link, stream: &Stream) {
    if link.is_lost() || !stream.is_given_up() {
        return;
    }
    stream.reset(ErrorCode::REQUEST_CANCELLED);
    link.on_early_reset();
}

/// The client has broken a rule.
fn fail(link: &Link, stream: &Stream, failure: Failure) {
    link.worker().stats.http.malformed.inc();
    match failure {
        Failure::Stream(code) => {
            stream.reset(code);
            link.on_early_reset();
        }
        Failure::Connection(code) => {
            tracing::debug!(%failure, "HTTP/3 connection ends by its client's mistake");
            link.close(code);
        }
    }
}
