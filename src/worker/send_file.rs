//! Answers from files: small ones leave with their head in one send, large ones go from the page cache to the socket
//! by sendfile(2), in bursts, so that one download does not hold up the worker.

use std::fs::File;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use super::Worker;
use super::connection::{Broken, Connection};
use super::exchange::{After, Outcome, Request};
use super::hot::Hot;
use super::respond;
use super::watch::OnExpiry;
use crate::config::model::Files;
use crate::files::{self, Conditions, Plan, PlanBody};
use crate::http::h1::RequestHead;
use crate::metrics::ServedBy;
use crate::runtime::sys::files::{NonBlocking, await_resident};
use crate::util::path::Path;

/// Bodies up to this size are copied behind their head and leave with it in one send.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// Most bytes of one sendfile(2) burst; then other connections have their turn.
const BURST_BYTES_MAX: usize = 1 << 20;

/// Finds the file and decides what to send. Blocks only when the file is not in the worker's cache.
pub(super) fn prepare(
    worker: &Worker,
    files: &Arc<Files>,
    folder: usize,
    head: &RequestHead,
    bytes: &[u8],
    path: Path<'_>,
) -> Plan {
    let request = files::Request {
        method: head.method,
        path,
        query: head.query(bytes),
        conditions: Conditions::from_head(head, bytes),
    };
    let mut cache = worker.files.borrow_mut();
    files::prepare(files, folder, &mut cache, &request, worker.now(), &worker.stats.files)
}

pub(super) async fn run(
    worker: &Worker,
    connection: &Connection,
    hot: &mut Hot,
    request: &Request,
    plan: Plan,
) -> Outcome {
    let server = worker.config.http.server_name.as_bytes();
    files::write_head(&plan, server, worker.date.borrow().as_array(), &mut hot.out);
    respond::end(&mut hot.out, hot.head.version, request.keep_alive);
    let body_bytes = plan.body.len();
    let sent = match plan.body {
        PlanBody::None => Ok(()),
        PlanBody::Bytes(bytes) if bytes.len() <= COPIED_BYTES_MAX => {
            hot.out.extend_from_slice(&bytes);
            Ok(())
        }
        PlanBody::Bytes(bytes) => match connection.flush(worker, &mut hot.out).await {
            Ok(()) => connection.send_bytes(worker, bytes).await,
            broken => broken,
        },
        PlanBody::File { file, offset, len } => match connection.flush(worker, &mut hot.out).await {
            Ok(()) => send(worker, connection, file, offset, len).await,
            broken => broken,
        },
    };
    worker.stats.files.duration.record(request.started.elapsed());
    let after = if sent.is_ok() { After::Keep } else { After::Abort };
    Outcome { after, status: plan.status, body_bytes, served_by: ServedBy::Files }
}

/// Sends `len` bytes of `file`. [`Broken`] when the client is gone or too slow, or the file is shorter than promised:
/// then the connection must break, because the head has already said how long the body is.
async fn send(
    worker: &Worker,
    connection: &Connection,
    file: Rc<File>,
    mut offset: u64,
    len: u64,
) -> Result<(), Broken> {
    let end = offset + len;
    while offset < end {
        // Pages that are not in memory are read by the kernel meanwhile; other connections go on.
        await_resident(&file, offset, (end - offset).min(BURST_BYTES_MAX as u64)).await;
        let sent = {
            let socket = NonBlocking::of(&connection.stream).map_err(|_| Broken)?;
            let left = end - offset;
            socket.send(file.as_fd(), &mut offset, left, BURST_BYTES_MAX)
        };
        let sent = sent.map_err(|error| {
            tracing::debug!(%error, "file not sent to its end");
            Broken
        })?;
        worker.stats.http.bytes_out.add(sent as u64);
        worker.stats.files.sendfile_bytes.add(sent as u64);
        if offset < end {
            connection.watched.set(worker.config.http.write_timeout, OnExpiry::BreakAll);
            let ready = connection.stream.writable().await;
            connection.watched.clear();
            if ready.is_err() || connection.watched.expired() {
                worker.stats.http.timeouts.add(u64::from(connection.watched.expired()));
                return Err(Broken);
            }
        }
    }
    Ok(())
}
