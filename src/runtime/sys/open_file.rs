//! A file that is sent again and again.

use std::cell::Cell;
use std::fs::File;
use std::ops::{Deref, Range};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::files::is_resident;

/// Longest time [`OpenFile::await_resident`] takes, in all.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// How long bytes that were in memory are taken to be there still, in milliseconds: the kernel does not give up pages
/// that were used a moment ago while it has others.
const SEEN_FOR_MS: i64 = 100;

/// An open file, and which of its bytes were last seen in the page cache.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    seen: Cell<(u64, u64)>,
    /// On [`now_ms`]; `seen` counts until then.
    seen_until: Cell<i64>,
}

impl OpenFile {
    /// Nothing is known of its pages yet.
    pub fn new(file: File) -> OpenFile {
        OpenFile { file, seen: Cell::new((0, 0)), seen_until: Cell::new(i64::MIN) }
    }

    /// Waits, without holding up the other tasks of this data worker, until [`is_resident`] or for two seconds; after
    /// that the disk is so slow, or memory so short, that it is better to let the next call wait than to ask for ever.
    /// For use before a burst of sendfile(2) or [`super::files::read_at`], with the bytes of that burst. The kernel is
    /// not asked again within a tenth of a second.
    pub async fn await_resident(&self, offset: u64, len: u64) {
        let range = offset..offset + len;
        if self.was_seen(&range) {
            return;
        }
        let (mut pause, mut waited) = (Duration::from_millis(1), Duration::ZERO);
        while !is_resident(&self.file, offset, len) {
            if waited >= WAIT_MAX {
                return;
            }
            crate::runtime::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        self.seen.set((range.start, range.end));
        self.seen_until.set(now_ms() + SEEN_FOR_MS);
    }

    fn was_seen(&self, range: &Range<u64>) -> bool {
        let (start, end) = self.seen.get();
        start <= range.start && range.end <= end && now_ms() < self.seen_until.get()
    }
}

impl Deref for OpenFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

/// Milliseconds of a clock that never goes back and costs next to nothing to read; a few milliseconds coarse.
fn now_ms() -> i64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::sys::files::read_resident;
    use crate::runtime::sys::files::tests::{evict, file_of, on_each_driver};

    #[test]
    fn waiting_for_the_disk_ends_when_the_bytes_are_there() {
        on_each_driver(|| async {
            let (file, content) = file_of(200_000);
            if evict(file.as_file()).is_none() {
                eprintln!("skipped: this file system keeps its pages or cannot tell");
                return;
            }
            let (file, len) = (OpenFile::new(file.into_file()), content.len());
            file.await_resident(0, len as u64).await;
            let mut buf = Vec::new();
            assert_eq!(read_resident(&file, 0, len, &mut buf).expect("resident"), len);
        });
    }

    #[test]
    fn what_was_seen_counts_for_its_bytes_and_for_a_moment() {
        on_each_driver(|| async {
            let file = OpenFile::new(file_of(10_000).0.into_file());
            assert!(!file.was_seen(&(0..1)));
            file.await_resident(1000, 1000).await;
            assert!(file.was_seen(&(1000..2000)) && file.was_seen(&(1500..1600)));
            assert!(!file.was_seen(&(999..1500)) && !file.was_seen(&(1500..2001)));
            crate::runtime::time::sleep(Duration::from_millis(SEEN_FOR_MS as u64 + 20)).await;
            assert!(!file.was_seen(&(1000..2000)));
        });
    }
}
