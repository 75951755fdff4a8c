//! Atomics, wakers and queues between cores, or the model checker's stand-ins for them (`cfg(model_check)`).
//!
//! That cfg is set where these files are compiled a second time, in the package `tests/models`, which has nothing else of the
//! program in it. So the checker costs seconds, and not a second build of everything.

#[cfg(not(model_check))]
pub(crate) use {
    atomic_waker::AtomicWaker,
    crossbeam::queue::ArrayQueue,
    crossbeam::utils::CachePadded,
    std::sync::Arc,
    std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};
#[cfg(model_check)]
pub(crate) use {
    loom::future::AtomicWaker,
    loom::sync::Arc,
    loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    model::{ArrayQueue, CachePadded},
};

/// Registers the task of `cx` to be woken.
#[cfg(not(model_check))]
pub(crate) fn register(waker: &AtomicWaker, cx: &mut std::task::Context<'_>) {
    waker.register(cx.waker());
}

/// Whoever is to be woken, who is registered no longer then.
#[cfg(not(model_check))]
pub(crate) fn take(waker: &AtomicWaker) -> Option<std::task::Waker> {
    waker.take()
}

/// Whoever is to be woken, who is registered no longer then.
#[cfg(model_check)]
pub(crate) fn take(waker: &AtomicWaker) -> Option<std::task::Waker> {
    waker.take_waker()
}

/// Registers the task of `cx` to be woken.
#[cfg(model_check)]
pub(crate) fn register(waker: &AtomicWaker, cx: &mut std::task::Context<'_>) {
    waker.register_by_ref(cx.waker());
}

/// Stand-ins that the model checker understands. The queue's own algorithm is crossbeam's and not modelled.
#[cfg(model_check)]
mod model {
    use std::collections::VecDeque;

    pub(crate) struct CachePadded<T>(T);

    impl<T> CachePadded<T> {
        pub(crate) fn new(value: T) -> Self {
            CachePadded(value)
        }
    }

    impl<T> std::ops::Deref for CachePadded<T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> std::ops::DerefMut for CachePadded<T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }

    pub(crate) struct ArrayQueue<T> {
        items: loom::sync::Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            ArrayQueue { items: loom::sync::Mutex::new(VecDeque::new()), capacity }
        }

        pub(crate) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().unwrap();
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.items.lock().unwrap().pop_front()
        }

        pub(crate) fn len(&self) -> usize {
            self.items.lock().unwrap().len()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.len() == 0
        }

        pub(crate) fn is_full(&self) -> bool {
            self.len() == self.capacity
        }
    }
}
