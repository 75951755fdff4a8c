//! The file tier for a caller that sends one piece of body, and accepts no codings: a request for several ranges gets
//! the whole file, a directory without index 403. It goes when its caller takes a whole [`serve::Plan`].

use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::cache::Cache;
use super::coding::CodingSet;
use super::conditional::{Conditions, Lines};
use super::{head, serve};
use crate::config::model::Files;
use crate::http::h1::Method;
use crate::metrics::FileStats;
use crate::util::path::Path;

/// [`serve::Request`] without what such a caller cannot act on.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path, decoded and normalized.
    pub path: Path<'a>,
    /// The query as sent, without `?`; a redirect keeps it.
    pub query: Option<&'a [u8]>,
    /// Its condition fields.
    pub conditions: Conditions<'a>,
}

/// [`serve::Plan`] with a body of one piece.
#[derive(Debug)]
pub struct Plan {
    /// Status code.
    pub status: u16,
    /// The body. None for HEAD, though the head is the same.
    pub body: PlanBody,
    /// Everything else.
    plan: serve::Plan,
}

/// The bytes behind the head.
#[derive(Debug)]
pub enum PlanBody {
    /// None at all.
    None,
    /// From memory.
    Bytes(Bytes),
    /// From a file, by sendfile(2) or in pieces. When it turns out to be shorter, close the connection.
    File {
        /// The open file.
        file: Rc<File>,
        /// First byte to send.
        offset: u64,
        /// How many; never 0.
        len: u64,
    },
}

impl PlanBody {
    /// Bytes to send.
    pub fn len(&self) -> u64 {
        match self {
            PlanBody::None => 0,
            PlanBody::Bytes(bytes) => bytes.len() as u64,
            PlanBody::File { len, .. } => *len,
        }
    }

    /// There is nothing to send behind the head.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// See [`serve::prepare`].
pub fn prepare(
    files: &Arc<Files>,
    index: usize,
    cache: &mut Cache,
    request: &Request<'_>,
    now: Instant,
    stats: &FileStats,
) -> Plan {
    let mut conditions = request.conditions.clone();
    conditions.range = conditions.range.filter(|range| memchr::memchr(b',', range).is_none());
    let full = serve::Request {
        method: request.method,
        path: request.path,
        query: request.query,
        conditions,
        accepts: CodingSet::NONE,
        accept: Lines::default(),
    };
    let mut plan = serve::prepare(files, index, cache, &full, now, stats);
    let body = match std::mem::replace(&mut plan.body, serve::PlanBody::None) {
        serve::PlanBody::None => PlanBody::None,
        serve::PlanBody::Bytes(bytes) => PlanBody::Bytes(bytes),
        serve::PlanBody::File(slice) => PlanBody::File { file: slice.file, offset: slice.offset, len: slice.len },
        // One range is never sent in parts.
        serve::PlanBody::Parts(_) | serve::PlanBody::NeedsListing(_) => {
            plan = serve::Plan::canned(403, request.method);
            match std::mem::replace(&mut plan.body, serve::PlanBody::None) {
                serve::PlanBody::Bytes(bytes) => PlanBody::Bytes(bytes),
                _ => PlanBody::None,
            }
        }
    };
    Plan { status: plan.status, body, plan }
}

/// See [`serve::write_head`].
pub fn write_head(plan: &Plan, server: &[u8], date: &[u8; 29], out: &mut Vec<u8>) {
    head::write_head(&plan.plan, server, date, out);
}
