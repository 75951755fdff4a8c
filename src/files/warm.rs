//! Finding a file on a helper thread, so that a data worker need not wait for the disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{Cache, Limits};
use super::coding::CodingSet;
use super::serve::{Plan, PlanBody, Request, prepare};
use crate::config::model::{Coding, Files};
use crate::http::h1::Method;
use crate::metrics::FileStats;
use crate::runtime::sys::files::read_at;
use crate::util::path::Path;

/// Read of a file, bytes: small files whole, so that the worker finds them in the page cache; of a large one as much
/// as its first burst takes.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Does what the worker would do for a GET, for the sake of what the kernel then has in memory. Goes to a helper
/// thread by value.
#[derive(Clone, Debug)]
pub struct WarmUp {
    files: Arc<Files>,
    path: Vec<u8>,
}

impl WarmUp {
    /// For a request to which [`super::serve::prepare_cached`] had no answer.
    pub fn new(files: &Arc<Files>, path: Path<'_>) -> WarmUp {
        WarmUp { files: files.clone(), path: path.as_bytes().into() }
    }

    /// Blocks for as long as the disk takes. Errors are found again, and told, by the worker.
    pub fn run(&self) {
        let Some(path) = Path::from_normal(&self.path) else { return };
        // Nothing is kept: what counts are the kernel's caches.
        let limits =
            Limits { bytes_max: 0, file_bytes_max: 0, entries_max: 0, descriptors_max: 0, valid: Duration::ZERO };
        let mut cache = Cache::new(limits).silent();
        // Every form there is gets opened, whichever is accepted; the content read is that of the preferred one.
        let request = Request {
            method: Method::Get,
            path,
            query: None,
            conditions: Default::default(),
            accepts: Coding::ALL.into_iter().collect::<CodingSet>(),
            accept: Default::default(),
            substitute: None,
        };
        let stats = FileStats::default();
        let plan = prepare(&self.files, 0, &mut cache, &request, Instant::now(), &stats);
        if let Plan { body: PlanBody::File(slice), .. } = plan {
            let len = usize::try_from(slice.len).unwrap_or(usize::MAX).min(READ_BYTES_MAX);
            // The worker meets the same error.
            let _ = read_at(&slice.file, 0, len, &mut Vec::new());
        }
    }
}
