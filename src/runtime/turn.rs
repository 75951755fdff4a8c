//! How much comes at a time on a data worker with a ring: what decides whether an operation is worth its way through it.
//!
//! A turn is what lies between two waits for the kernel: the operations that have come back, and what their tasks do then. The ring
//! pays where a turn has many of them: all that they begin goes to the kernel in one call. Where a turn has one or two, each
//! operation that would be done at once takes a turn of its own: a call, a look at the timers, and a way down through all the
//! futures of its task.
//!
//! The runtime does not tell its turns. The first operation of a turn wakes a task for it, which therefore runs behind all others
//! that the same wait has woken. So does whoever has something to do [`at_end`].

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Up to so many operations make a turn a sparse one.
const SPARSE_MAX: u32 = 2;

#[derive(Default)]
struct Turn {
    /// Operations that have come back in this turn.
    done: Cell<u32>,
    /// The same of the turn before.
    before: Cell<u32>,
    /// Wakes the task that ends the turn.
    end: RefCell<Option<Waker>>,
    /// Who is to be woken then.
    later: RefCell<Vec<Waker>>,
}

thread_local! {
    static TURN: Turn = Turn::default();
}

/// An operation has come back.
pub(super) fn on_done() {
    TURN.with(|turn| {
        let done = turn.done.get();
        turn.done.set(done.saturating_add(1));
        if done == 0
            && let Some(end) = &*turn.end.borrow()
        {
            end.wake_by_ref();
        }
    });
}

/// Little comes at a time: in this turn so far, and in the one before.
pub(super) fn is_sparse() -> bool {
    TURN.with(|turn| turn.done.get() <= SPARSE_MAX && turn.before.get() <= SPARSE_MAX)
}

/// Wakes a task of another thread when this one has run the tasks that it has to run now. Meant for a thread on the same core: the
/// kernel would let that run at once, for one message, in the place of whoever has more of them.
pub(crate) fn wake_at_end(waker: Waker) {
    TURN.with(|turn| match &*turn.end.borrow() {
        Some(end) => {
            turn.later.borrow_mut().push(waker);
            end.wake_by_ref();
        }
        None => waker.wake(),
    });
}

/// Ends the turns of this thread. To be spawned once, by whoever has [`Turns`].
pub(super) async fn end_turns() {
    poll_fn(|cx| {
        TURN.with(|turn| {
            // Somebody who is to be woken may have come behind the end.
            if turn.done.get() > 0 {
                turn.before.set(turn.done.take());
            }
            turn.later.borrow_mut().drain(..).for_each(Waker::wake);
            let mut end = turn.end.borrow_mut();
            if !end.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *end = Some(cx.waker().clone());
            }
        });
        Poll::Pending
    })
    .await
}

/// As long as it lives there is a runtime whose turns are ended.
pub(super) struct Turns;

impl Drop for Turns {
    fn drop(&mut self) {
        TURN.with(|turn| {
            turn.end.take();
            turn.later.borrow_mut().drain(..).for_each(Waker::wake);
            turn.done.set(0);
            turn.before.set(0);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[test]
    fn a_turn_is_sparse_where_it_and_the_one_before_have_little() {
        let _turns = Turns;
        let mut ending = pin!(end_turns());
        let mut cx = Context::from_waker(Waker::noop());
        let mut turn = |done: u32| {
            (0..done).for_each(|_| on_done());
            let was = is_sparse();
            assert!(ending.as_mut().poll(&mut cx).is_pending());
            was
        };
        let seen: Vec<bool> = [2, 3, 1, 1, 100, 1, 1].into_iter().map(&mut turn).collect();
        assert_eq!(seen, [true, false, false, true, false, false, true]);
    }

    struct Counter(AtomicU32);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn others_are_woken_behind_all_that_runs_now() {
        let counter = || Arc::new(Counter(AtomicU32::new(0)));
        let count = |counter: &Arc<Counter>| counter.0.load(Ordering::Relaxed);
        let (end, first, second) = (counter(), counter(), counter());
        wake_at_end(first.clone().into());
        assert_eq!(count(&first), 1, "nobody ends turns here yet");
        let turns = Turns;
        let waker = end.clone().into();
        let (mut ending, mut cx) = (pin!(end_turns()), Context::from_waker(&waker));
        assert!(ending.as_mut().poll(&mut cx).is_pending());
        (0..3).for_each(|_| on_done());
        wake_at_end(first.clone().into());
        wake_at_end(second.clone().into());
        assert_eq!((count(&first), count(&second)), (1, 0));
        assert!(count(&end) > 0, "the end is called for");
        assert!(ending.as_mut().poll(&mut cx).is_pending());
        assert_eq!((count(&first), count(&second)), (2, 1));
        // Behind the end, which therefore comes again, and is none of another turn.
        let before = count(&end);
        wake_at_end(first.clone().into());
        assert!(count(&end) > before && !is_sparse());
        assert!(ending.as_mut().poll(&mut cx).is_pending());
        assert_eq!((count(&first), is_sparse()), (3, false));
        wake_at_end(first.clone().into());
        drop(turns);
        assert_eq!(count(&first), 4, "nobody is left asleep");
    }
}
