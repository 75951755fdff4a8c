//! How much comes at a time on a data worker with a ring: what decides whether an operation is worth its way through it.
//!
//! A turn is what lies between two waits for the kernel: the operations that have come back, and what their tasks do then. The ring
//! pays where a turn has many of them: all that they begin goes to the kernel in one call. Where a turn has one or two, each
//! operation that would be done at once takes a turn of its own: a call, a look at the timers, and a way down through all the
//! futures of its task.
//!
//! The runtime does not tell its turns. The first operation of a turn wakes a task for it, which therefore runs behind all others
//! that the same wait has woken.

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

/// Ends the turns of this thread. To be spawned once, by whoever has [`Turns`].
pub(super) async fn end_turns() {
    poll_fn(|cx| {
        TURN.with(|turn| {
            turn.before.set(turn.done.take());
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
            turn.done.set(0);
            turn.before.set(0);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

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
        let seen: Vec<bool> = [0, 2, 3, 1, 1, 100, 0, 0].into_iter().map(&mut turn).collect();
        assert_eq!(seen, [true, true, false, false, true, false, false, true]);
    }
}
