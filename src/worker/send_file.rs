//! Answers from files: a [`Plan`] of the file tier, sent.

use std::sync::Arc;

use super::Worker;
use super::answer::OwnFields;
use super::connection::Broken;
use super::exchange::{Acted, After, Client, Outcome, Request};
use crate::config::model::Files;
use crate::files::{self, Conditions, Plan, PlanBody};
use crate::http::answer::AnswerHead;
use crate::http::h1::RequestHead;
use crate::metrics::ServedBy;
use crate::util::path::Path;

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
    request: Request<'_>,
    client: &mut Client<'_>,
    plan: Plan,
    fields: &mut Vec<u8>,
) -> Acted {
    fields.clear();
    let content = files::write_fields(&plan, fields);
    let answer = &mut client.answer;
    answer.start(&AnswerHead { status: plan.status, reason: None, fields, content }, OwnFields::ALL);
    let sent = match plan.body {
        PlanBody::None => Ok(()),
        PlanBody::Bytes(bytes) => answer.write_bytes(bytes).await,
        PlanBody::File { file, offset, len } => answer.write_file(&file, offset, len).await,
    };
    let sent = match sent {
        Ok(()) => answer.finish().await,
        Err(Broken) => Err(Broken),
    };
    worker.stats.files.duration.record(request.started.elapsed());
    let after = if sent.is_ok() { After::Keep } else { After::Abort };
    Ok(Outcome { after, served_by: ServedBy::Files })
}
