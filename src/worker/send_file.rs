//! Answers from files: a [`Plan`] of the file tier, sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Worker;
use super::answer::{Answer, OwnFields};
use super::connection::Broken;
use super::cx::Cx;
use super::exchange::{Acted, After, Client, Instead, Outcome, Request, Unanswered, abandoned, refuse_method};
use crate::config::model::{Files, Listing};
use crate::files::{
    self, CodingSet, Conditions, Content, Entry, FileSlice, HeadPart, Lines, Piece, Plan, PlanBody, WarmUp,
};
use crate::http::answer::AnswerHead;
use crate::http::coding::{Accepted, Candidate, Policy, compress_all};
use crate::http::h1::FieldName;
use crate::metrics::ServedBy;
use crate::runtime::sys::files::read_at;
use crate::util::path::Path;

/// From here on `file_cache_valid` may be off by a tick.
const COARSE_VALID_MIN: Duration = Duration::from_secs(1);

/// Finds the file and decides what to send. What would wait for the disk is done on a helper thread first. `Err`: the
/// client left meanwhile.
pub(super) async fn prepare(
    cx: &Cx<'_>,
    client: &Client<'_>,
    files: &Arc<Files>,
    folder: usize,
    path: Path<'_>,
) -> Result<Plan, Acted> {
    let is_coarse_enough = cx.worker.config.process.file_cache_valid >= COARSE_VALID_MIN;
    let now = if is_coarse_enough { cx.worker.coarse_now() } else { cx.worker.now() };
    let in_memory = with_request(cx, files, path, |cache, request| {
        files::prepare_cached(files, folder, cache, request, now, &cx.worker.stats.files)
    });
    if let Some(plan) = in_memory {
        return Ok(plan);
    }
    let errand = WarmUp::new(files, path);
    let presence = client.answer.presence();
    presence.watched().clear();
    // Where no helper is free it is looked for here: better late than not at all.
    let found = presence.while_client_stays(cx.worker.helpers.run(move || errand.run())).await;
    found.map_err(|_| Ok(abandoned(ServedBy::Files)))?;
    Ok(with_request(cx, files, path, |cache, request| {
        files::prepare(files, folder, cache, request, cx.worker.now(), &cx.worker.stats.files)
    }))
}

/// Calls `look` with the worker's cache and what the file tier needs to know of the request.
fn with_request<T>(
    cx: &Cx<'_>,
    files: &Files,
    path: Path<'_>,
    look: impl FnOnce(&mut files::Cache, &files::Request<'_>) -> T,
) -> T {
    let Request { head, bytes, .. } = cx.request;
    let accepts = match files.precompressed.is_empty() {
        true => CodingSet::NONE,
        false => CodingSet::from(Accepted::from_head(head, bytes)),
    };
    let mut accept = Lines::default();
    if files.listing != Listing::Off {
        let lines = head.fields.iter().filter(|field| field.known == FieldName::Accept);
        lines.for_each(|field| accept.push(field.value.of(bytes)));
    }
    let conditions = Conditions::from_head(head, bytes);
    let request = files::Request {
        method: head.method,
        path,
        query: head.query(bytes),
        conditions,
        accepts,
        accept,
        substitute: cx.options.substitute.as_deref(),
    };
    look(&mut cx.worker.files.borrow_mut(), &request)
}

pub(super) async fn run(cx: &Cx<'_>, client: &mut Client<'_>, plan: Plan, fields: &mut Vec<u8>) -> Acted {
    let worker = cx.worker;
    let unanswered = |status| Err(Instead::Error(Unanswered { status, closes: false, served_by: ServedBy::Files }));
    let mut plan = match plan.body {
        PlanBody::NeedsListing(errand) => {
            // Reading a directory blocks.
            let Some(listed) = worker.helpers.run(move || errand.run()).await else { return unanswered(503) };
            Plan::listed(listed, cx.request.head.method)
        }
        PlanBody::Route(route) => return Err(Instead::Named { route, page: None }),
        _ => plan,
    };
    if matches!(plan.head, HeadPart::Canned) {
        match plan.status {
            405 => return refuse_method(client, "GET, HEAD, OPTIONS"),
            status if status >= 400 => return unanswered(status),
            _ => {}
        }
    }
    if let Some(policy) = &cx.options.compress {
        compress(cx, policy, &mut plan).await;
    }
    fields.clear();
    let content = files::write_fields(&plan, fields);
    let answer = &mut client.answer;
    let tells_type = !cx.options.expires.is_empty() || cx.options.substitute.is_some();
    if let Some(entry) = plan.validated().filter(|_| tells_type) {
        answer.validates(entry.essence());
    }
    let own = if matches!(plan.head, HeadPart::Whole(_)) { OwnFields::OF_FILE } else { OwnFields::ALL };
    answer.start(Some(cx), &AnswerHead { status: plan.status, reason: None, fields, content }, own);
    let sent = match plan.body {
        PlanBody::None | PlanBody::NeedsListing(_) | PlanBody::Route(_) => Ok(()),
        PlanBody::Bytes(bytes) => answer.write_bytes(bytes).await,
        PlanBody::File(slice) => send_slice(answer, &slice).await,
        PlanBody::Parts(pieces) => send_pieces(answer, &pieces).await,
    };
    let sent = match sent {
        Ok(()) => answer.finish().await,
        Err(Broken) => Err(Broken),
    };
    let after = if sent.is_ok() { After::Keep } else { After::Abort };
    Ok(Outcome { after, served_by: ServedBy::Files })
}

/// Puts the coded form of a file in the place of the plain one, made now if there is none yet. A file too large to be
/// kept is left as it is: it is coded while it is sent.
async fn compress(cx: &Cx<'_>, policy: &Policy, plan: &mut Plan) {
    if let Some(entry) = plan.validated() {
        if applies(policy, entry) {
            let accepted = Accepted::from_head(cx.request.head, cx.request.bytes);
            (plan.varies, plan.is_weak) = (true, policy.choose(accepted).is_some());
        }
        return;
    }
    if let Some(entry) = plan.partial() {
        // RFC 9110 section 15.3.7: what its 200 would have.
        plan.varies |= applies(policy, entry);
        return;
    }
    let Some(entry) = plan.compressible().cloned() else { return };
    // What is put into it may differ from answer to answer: it is coded on the way.
    let is_changed = cx.options.substitute.as_deref().is_some_and(|substitute| files::changes(substitute, &entry));
    if is_changed || entry.len() > policy.cache_file_bytes_max || !applies(policy, &entry) {
        return;
    }
    let accepted = Accepted::from_head(cx.request.head, cx.request.bytes);
    let Some(coding) = policy.choose(accepted) else {
        plan.varies = true;
        return;
    };
    if let Some(ready) = entry.compressed(coding) {
        return plan.compress(coding, ready);
    }
    // Whoever asks for it meanwhile waits, and finds it made; but for one that does not stay there is no use in waiting.
    let turn = entry.making.enter().await;
    if let Some(ready) = entry.compressed(coding) {
        return plan.compress(coding, ready);
    }
    let _turn = (!entry.is_unkept.get()).then_some(turn);
    let Some(plain) = content_of(cx.worker, &entry).await else { return };
    let level = policy.level(coding);
    // It takes milliseconds, which other connections do not wait for.
    let made = cx.worker.helpers.run(move || compress_all(coding, level, &plain)).await;
    let Some(Ok(coded)) = made else { return };
    let coded = Bytes::from(coded);
    let stats = &cx.worker.stats.files;
    stats.compressions.inc();
    let is_kept = cx.worker.files.borrow_mut().keep_compressed(&entry, coding, coded.clone(), stats);
    entry.is_unkept.set(!is_kept);
    plan.compress(coding, coded);
}

fn applies(policy: &Policy, entry: &Entry) -> bool {
    let essence = entry.essence().as_bytes();
    policy.applies(&Candidate {
        status: 200,
        content_type: Some(essence),
        length: Some(entry.len()),
        ..Candidate::default()
    })
}

/// All bytes of a file; `None` when they cannot be had whole.
async fn content_of(worker: &Worker, entry: &Entry) -> Option<Bytes> {
    let len = usize::try_from(entry.len()).ok()?;
    match &entry.content {
        Content::Small(bytes) => Some(bytes.clone()),
        Content::Large(file) => {
            file.await_resident(0, entry.len()).await;
            let mut bytes = worker.hot.take_buffer(0);
            let read = read_at(file, 0, len, &mut bytes).ok()?;
            (read == len && entry.is_intact()).then(|| bytes.into())
        }
    }
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
