//! Counts allocations of the calling thread, for the tests that hold the request path to "none when warm" and an idle
//! connection to a few bytes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD_BYTES: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn note() {
    // Fails while the thread ends; nobody counts then.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

/// Adds what came and takes off what went.
fn hold(came: usize, went: usize) {
    let _ = HELD_BYTES.try_with(|bytes| bytes.set(bytes.get() + came as i64 - went as i64));
}

// SAFETY: every call goes to the system allocator unchanged; counting touches one cell without a destructor, so it
// does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        hold(layout.size(), 0);
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        hold(layout.size(), 0);
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        hold(new_size, layout.size());
        // SAFETY: the caller's promises about all three are passed on; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        hold(0, layout.size());
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

/// Runs `action` and returns how many bytes more than before this thread holds, with its result. What is freed on
/// another thread than where it was born counts wrong on both.
pub(crate) fn held<T>(action: impl FnOnce() -> T) -> (i64, T) {
    let before = HELD_BYTES.get();
    let result = action();
    (HELD_BYTES.get() - before, result)
}

#[cfg(test)]
mod tests {
    use super::{count, held};

    #[test]
    fn allocations_are_seen() {
        assert_eq!(count(|| drop(std::hint::black_box(Box::new(1)))).0, 1);
        assert_eq!(count(|| std::hint::black_box(1) + 1).0, 0);
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
