//! One at a time, in order of arrival: for tasks of one thread.

use std::cell::Cell;
use std::fmt;

use super::waiters::Waiters;

/// Lets one task in; the others wait for their turn.
#[derive(Default)]
pub struct Gate {
    is_busy: Cell<bool>,
    waiters: Waiters,
}

/// The turn of one task; dropping it is the next one's.
#[derive(Debug)]
pub struct Turn<'a>(&'a Gate);

impl Gate {
    /// Waits until nobody who came earlier is in.
    pub async fn enter(&self) -> Turn<'_> {
        let take = || (!self.is_busy.replace(true)).then_some(());
        if !self.waiters.is_empty() || take().is_none() {
            self.waiters.wait_for(take).await;
        }
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_busy.set(false);
        self.0.waiters.wake_first();
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("is_busy", &self.is_busy.get()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn one_at_a_time_and_nobody_overtakes() {
        let gate = Gate::default();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(gate.enter()).poll(&mut cx) else { panic!("nobody is in") };
        let mut second = Box::pin(gate.enter());
        let mut third = pin!(gate.enter());
        assert!(second.as_mut().poll(&mut cx).is_pending() && third.as_mut().poll(&mut cx).is_pending());
        drop(first);
        assert!(third.as_mut().poll(&mut cx).is_pending(), "it is not its turn");
        assert!(pin!(gate.enter()).poll(&mut cx).is_pending(), "nor that of one who comes now");
        let Poll::Ready(turn) = second.as_mut().poll(&mut cx) else { panic!("its turn") };
        assert!(third.as_mut().poll(&mut cx).is_pending());
        drop(turn);
        assert!(third.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn one_that_gives_up_passes_its_turn_on() {
        let gate = Gate::default();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(gate.enter()).poll(&mut cx) else { panic!("nobody is in") };
        let mut second = Box::pin(gate.enter());
        let mut third = pin!(gate.enter());
        assert!(second.as_mut().poll(&mut cx).is_pending() && third.as_mut().poll(&mut cx).is_pending());
        drop(first);
        drop(second);
        assert!(third.as_mut().poll(&mut cx).is_ready());
    }
}
