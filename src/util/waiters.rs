//! A fair queue of tasks of one thread that wait for something scarce.
//!
//! The one that came first is the one that tries; when it has what it wanted, or gives up, the next one tries. A
//! wake-up is never lost on a task that has gone: leaving passes it on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The tasks that wait, in order of arrival.
#[derive(Default)]
pub struct Waiters {
    queue: RefCell<VecDeque<Rc<RefCell<Option<Waker>>>>>,
}

impl Waiters {
    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Lets the first one try again.
    pub fn wake_first(&self) {
        let waker = self.queue.borrow().front().and_then(|first| first.borrow_mut().take());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Queues up and calls `attempt` until it succeeds: when the task gets to the front, and at each
    /// [`Waiters::wake_first`] while it is there.
    pub async fn wait_for<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> T {
        let place = Place::take(self);
        poll_fn(|cx| {
            if place.is_first()
                && let Some(done) = attempt()
            {
                return Poll::Ready(done);
            }
            *place.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// A place in the queue; dropping it leaves the queue and lets the next one try.
struct Place<'a> {
    waiters: &'a Waiters,
    waker: Rc<RefCell<Option<Waker>>>,
}

impl<'a> Place<'a> {
    fn take(waiters: &'a Waiters) -> Place<'a> {
        let waker = Rc::default();
        waiters.queue.borrow_mut().push_back(Rc::clone(&waker));
        Place { waiters, waker }
    }

    fn is_first(&self) -> bool {
        self.waiters.queue.borrow().front().is_some_and(|first| Rc::ptr_eq(first, &self.waker))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiters.queue.borrow_mut().retain(|waker| !Rc::ptr_eq(waker, &self.waker));
        self.waiters.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::Context;

    #[test]
    fn the_first_one_gets_it_and_a_leaving_one_passes_its_turn_on() {
        let waiters = Waiters::default();
        let room = Cell::new(0);
        let take = || (room.get() > 0).then(|| room.set(room.get() - 1));
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = Box::pin(waiters.wait_for(take));
        let mut second = pin!(waiters.wait_for(take));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        room.set(1);
        assert!(second.as_mut().poll(&mut cx).is_pending(), "it is not its turn");
        drop(first);
        assert!(second.as_mut().poll(&mut cx).is_ready());
        assert!(waiters.is_empty());
    }
}
