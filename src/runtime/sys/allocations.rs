//! Counts allocations of the calling thread and their bytes, for the tests that hold the request path to "none when
//! warm", and others to the memory they say they take.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes allocated less those freed; memory from another thread may be freed here.
    static BYTES: Cell<isize> = const { Cell::new(0) };
    /// The most that `BYTES` has been since [`peak`] began.
    static BYTES_PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn note(bytes: usize) {
    // Fails while the thread ends; nobody counts then.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    add_bytes(bytes as isize);
}

fn add_bytes(more: isize) {
    let _ = BYTES.try_with(|bytes| {
        bytes.set(bytes.get() + more);
        let _ = BYTES_PEAK.try_with(|peak| peak.set(peak.get().max(bytes.get())));
    });
}

// SAFETY: every call goes to the system allocator unchanged; counting touches one cell without a destructor, so it
// does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        add_bytes(-(layout.size() as isize));
        // SAFETY: the caller's promises about all three are passed on; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        add_bytes(-(layout.size() as isize));
        // SAFETY: the caller's promises about both are passed on; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Runs `action` and returns how often this thread allocated or grew memory meanwhile, with its result.
pub(crate) fn count<T>(action: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.get();
    let result = action();
    (ALLOCATIONS.get() - before, result)
}

/// Runs `action` and returns by how many bytes the memory of this thread grew at most meanwhile, with its result.
pub(crate) fn peak<T>(action: impl FnOnce() -> T) -> (usize, T) {
    let before = BYTES.get();
    BYTES_PEAK.set(before);
    let result = action();
    ((BYTES_PEAK.get() - before) as usize, result)
}

/// Runs `action` and returns how many bytes more than before this thread holds, with its result. What is freed on
/// another thread than where it was born counts wrong on both.
pub(crate) fn held<T>(action: impl FnOnce() -> T) -> (i64, T) {
    let before = BYTES.get();
    let result = action();
    ((BYTES.get() - before) as i64, result)
}

#[cfg(test)]
mod tests {
    use super::{count, held, peak};

    #[test]
    fn allocations_are_seen() {
        assert_eq!(count(|| drop(std::hint::black_box(Box::new(1)))).0, 1);
        assert_eq!(count(|| std::hint::black_box(1) + 1).0, 0);
    }

    #[test]
    fn the_most_bytes_at_a_time_are_seen() {
        let twice = || {
            drop(std::hint::black_box(Vec::<u8>::with_capacity(1000)));
            std::hint::black_box(Vec::<u8>::with_capacity(300))
        };
        assert_eq!(peak(twice).0, 1000);
    }

    #[test]
    fn held_bytes_are_seen() {
        let (bytes, kept) = held(|| {
            drop(std::hint::black_box(vec![0_u8; 1000]));
            let mut kept = std::hint::black_box(Vec::<u8>::with_capacity(10));
            kept.reserve_exact(100);
            kept
        });
        assert_eq!((bytes, held(|| drop(kept)).0), (100, -100));
    }
}
