//! Answers from files: a [`Plan`] of the file tier, sent.

use std::rc::Rc;
use std::sync::Arc;

use super::Worker;
use super::answer::{Answer, OwnFields};
use super::connection::Broken;
use super::exchange::{Acted, After, Client, Outcome, Request, Unanswered};
use crate::config::model::Files;
use crate::files::{self, CodingSet, Conditions, FileSlice, HeadPart, Lines, Piece, Plan, PlanBody};
use crate::http::answer::AnswerHead;
use crate::http::coding::Accepted;
use crate::http::h1::FieldName;
use crate::metrics::ServedBy;
use crate::util::path::Path;

/// Finds the file and decides what to send. Blocks only when the file is not in the worker's cache, and then only as long
/// as the kernel takes to find a name; see [`files::prepare_cached`].
pub(super) fn prepare(
    worker: &Worker,
    files: &Arc<Files>,
    folder: usize,
    request: Request<'_>,
    path: Path<'_>,
    query: Option<&[u8]>,
) -> Plan {
    let Request { head, bytes, .. } = request;
    let accepts = match files.precompressed.is_empty() {
        true => CodingSet::NONE,
        false => CodingSet::from(Accepted::from_head(head, bytes)),
    };
    let mut accept = Lines::default();
    head.fields
        .iter()
        .filter(|field| field.known == FieldName::Accept)
        .for_each(|field| accept.push(field.value.of(bytes)));
    let conditions = Conditions::from_head(head, bytes);
    let request = files::Request { method: head.method, path, query, conditions, accepts, accept };
    let mut cache = worker.files.borrow_mut();
    files::prepare(files, folder, &mut cache, &request, worker.now(), &worker.stats.files)
}

pub(super) async fn run(
    worker: &Rc<Worker>,
    request: Request<'_>,
    client: &mut Client<'_>,
    plan: Plan,
    fields: &mut Vec<u8>,
) -> Acted {
    let plan = match plan.body {
        PlanBody::NeedsListing(errand) => {
            // Reading a directory blocks.
            let Some(listed) = worker.helpers.run(move || errand.run()).await else {
                return Err(Unanswered { status: 503, closes: false, served_by: ServedBy::Files });
            };
            Plan::listed(listed, request.head.method)
        }
        _ => plan,
    };
    if matches!(plan.head, HeadPart::Canned) && plan.status >= 400 && plan.status != 405 {
        return Err(Unanswered { status: plan.status, closes: false, served_by: ServedBy::Files });
    }
    fields.clear();
    let content = files::write_fields(&plan, fields);
    let answer = &mut client.answer;
    answer.start(&AnswerHead { status: plan.status, reason: None, fields, content }, OwnFields::ALL);
    let sent = match plan.body {
        PlanBody::None | PlanBody::NeedsListing(_) => Ok(()),
        PlanBody::Bytes(bytes) => answer.write_bytes(bytes).await,
        PlanBody::File(slice) => send_slice(answer, &slice).await,
        PlanBody::Parts(pieces) => send_pieces(answer, &pieces).await,
    };
    let sent = match sent {
        Ok(()) => answer.finish().await,
        Err(Broken) => Err(Broken),
    };
    worker.stats.files.duration.record(request.started.elapsed());
    let after = if sent.is_ok() { After::Keep } else { After::Abort };
    Ok(Outcome { after, served_by: ServedBy::Files })
}

async fn send_pieces(answer: &mut Answer<'_>, pieces: &[Piece]) -> Result<(), Broken> {
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => answer.write_bytes(bytes.clone()).await?,
            Piece::File(slice) => send_slice(answer, slice).await?,
        }
    }
    Ok(())
}

async fn send_slice(answer: &mut Answer<'_>, slice: &FileSlice) -> Result<(), Broken> {
    answer.write_file(&slice.file, slice.offset, slice.len, || slice.is_intact()).await
}
