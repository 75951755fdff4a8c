//! Timers of a data worker, in milliseconds. Must be called on a data worker.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use monoio::time::{Instant, sleep_until};

/// Milliseconds since 1970, late by a few: what the kernel noted at its last tick, which costs a fraction of reading the clock.
pub fn unix_ms_roughly() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Not rustix's: that one looks for the kernel's own code by itself, which valgrind hides.
    // SAFETY: clock_gettime(2) writes one timespec, which `now` is until the call returns. Every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0)
}

/// The time given to [`timeout`] has passed. The operation inside was dropped, so what it was reading is lost:
/// close its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// Waits for `duration` from when it is first polled, rounded up to a millisecond.
///
/// It may be polled by one task and then by another. monoio's timer may not: it wakes the task that polled it first, and
/// one that nothing will wake is dropped. So each task gets a timer of its own.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { duration, running: None }
}

/// See [`sleep`].
///
/// The timer is allocated when it is first needed: it is large, and most time-outs are over before they begin.
#[must_use = "nothing happens before it is polled"]
pub struct Sleep {
    duration: Duration,
    running: Option<Running>,
}

struct Running {
    timer: Pin<Box<monoio::time::Sleep>>,
    /// Whom it wakes.
    owner: Waker,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = match &self.running {
            Some(running) if running.owner.will_wake(cx.waker()) => None,
            Some(running) => Some(running.timer.deadline()),
            None => Some(Instant::now() + self.duration),
        };
        if let Some(deadline) = deadline {
            self.running = Some(Running { timer: Box::pin(sleep_until(deadline)), owner: cx.waker().clone() });
        }
        match &mut self.running {
            Some(running) => running.timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Runs `future` for at most `duration`.
///
/// Errors: [`Elapsed`] when the time is up first. A read or write that was under way is cancelled, and its bytes may
/// be lost: the caller closes the socket.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep(duration) }
}

/// See [`timeout`].
///
/// A struct and not an `async` block, as all that holds another future here: a block would store it twice.
#[must_use = "nothing happens before it is polled"]
pub struct Timeout<F> {
    future: F,
    sleep: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is structurally pinned: it is not moved out of here or elsewhere, `Timeout` has no `Drop` and is
        // `Unpin` only when `F` is. `sleep` is `Unpin`.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: see above.
        let future = unsafe { Pin::new_unchecked(&mut this.future) };
        match future.poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => Pin::new(&mut this.sleep).poll(cx).map(|()| Err(Elapsed)),
        }
    }
}

/// Does `work` unless `check` is ready first, which is asked whenever `work` waits.
///
/// Errors: what `check` said; `work` is dropped with the whole.
pub fn unless<F: Future, T, C: FnMut(&mut Context<'_>) -> Poll<T>>(work: F, check: C) -> Unless<F, C> {
    Unless { work, check }
}

/// See [`unless`].
#[must_use = "nothing happens before it is polled"]
pub struct Unless<F, C> {
    work: F,
    check: C,
}

impl<F: Future, T, C: FnMut(&mut Context<'_>) -> Poll<T>> Future for Unless<F, C> {
    type Output = Result<F::Output, T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `work` is structurally pinned: it is not moved out of here or elsewhere, `Unless` has no `Drop` and is
        // `Unpin` only when `F` is. `check` is never pinned.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: see above.
        let work = unsafe { Pin::new_unchecked(&mut this.work) };
        match work.poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => (this.check)(cx).map(Err),
        }
    }
}

/// Begins `first` and does `second`, which is what there is to wait for: a message is sent, and then there is an answer. Done when
/// both are.
///
/// Whoever polls this is woken by `second` alone. On a ring both are one call of the kernel, and the end of `first` needs no turn of
/// the task. That is for what ends by itself as a rule, as a short message does for which the socket has room: where it needs more
/// than that, it goes on when the task is woken for something else. With epoll `first` has ended already, or wakes the task.
pub fn then_await<A: Future, B: Future>(first: A, second: B) -> ThenAwait<A, B> {
    ThenAwait { first, second, has_begun: false, of_first: None, of_second: None }
}

/// See [`then_await`].
#[must_use = "nothing happens before it is polled"]
pub struct ThenAwait<A: Future, B: Future> {
    first: A,
    second: B,
    has_begun: bool,
    of_first: Option<A::Output>,
    of_second: Option<B::Output>,
}

impl<A: Future, B: Future> Future for ThenAwait<A, B> {
    type Output = (A::Output, B::Output);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `first` and `second` are structurally pinned: they are not moved out of here or elsewhere, `ThenAwait` has no `Drop`
        // and is `Unpin` only when both are. What they have told is never pinned.
        let this = unsafe { self.get_unchecked_mut() };
        if this.of_first.is_none() {
            let mut nobody = Context::from_waker(Waker::noop());
            let wakes = this.has_begun || super::driver::is_epoll();
            let waker = if wakes { &mut *cx } else { &mut nobody };
            this.has_begun = true;
            // SAFETY: see above.
            let first = unsafe { Pin::new_unchecked(&mut this.first) };
            if let Poll::Ready(told) = first.poll(waker) {
                this.of_first = Some(told);
            }
        }
        if this.of_second.is_none() {
            // SAFETY: see above.
            let second = unsafe { Pin::new_unchecked(&mut this.second) };
            let Poll::Ready(told) = second.poll(cx) else { return Poll::Pending };
            this.of_second = Some(told);
            if this.of_first.is_none() {
                // Now there is nothing else to be woken by.
                // SAFETY: see above.
                let first = unsafe { Pin::new_unchecked(&mut this.first) };
                if let Poll::Ready(told) = first.poll(cx) {
                    this.of_first = Some(told);
                }
            }
        }
        match (this.of_first.take(), this.of_second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (of_first, of_second) => {
                (this.of_first, this.of_second) = (of_first, of_second);
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;

    use super::*;
    use crate::runtime::testing::on_both_drivers;

    /// Polls once here, then goes on in a task of its own; says whether it came to its end.
    async fn moves_to_another_task(work: impl Future<Output = ()> + 'static) -> bool {
        let mut work: Pin<Box<dyn Future<Output = ()>>> = Box::pin(work);
        let is_done = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_ready())).await;
        assert!(!is_done);
        let has_ended = Rc::new(Cell::new(false));
        let ended = has_ended.clone();
        crate::runtime::spawn(async move {
            work.await;
            ended.set(true);
        });
        sleep(Duration::from_millis(200)).await;
        has_ended.get()
    }

    #[test]
    fn the_rough_time_is_that_of_the_clock() {
        let now = crate::util::moment::unix_ms(std::time::SystemTime::now());
        assert!(unix_ms_roughly().abs_diff(now) < 1_000, "{} {now}", unix_ms_roughly());
    }

    #[test]
    fn a_sleep_wakes_the_task_that_polls_it() {
        on_both_drivers(|| async {
            assert!(moves_to_another_task(sleep(Duration::from_millis(20))).await);
        });
    }

    #[test]
    fn a_time_out_ends_what_another_task_began() {
        on_both_drivers(|| async {
            let work = async {
                let result = timeout(Duration::from_millis(20), std::future::pending::<()>()).await;
                assert_eq!(result, Err(Elapsed));
            };
            assert!(moves_to_another_task(work).await);
            let result = timeout(Duration::from_secs(60), async { sleep(Duration::from_millis(1)).await }).await;
            assert_eq!(result, Ok(()));
        });
    }

    #[test]
    fn work_that_is_done_comes_before_what_would_end_it() {
        on_both_drivers(|| async {
            assert_eq!(unless(async { 1 }, |_| Poll::Ready(2)).await, Ok(1));
            assert_eq!(unless(std::future::pending::<()>(), |_| Poll::Ready(2)).await, Err(2));
            let mut looks = 0;
            let look = |_: &mut Context<'_>| {
                looks += 1;
                Poll::<()>::Pending
            };
            assert_eq!(unless(sleep(Duration::from_millis(5)), look).await, Ok(()));
            assert_eq!(looks, 1, "asked while it waits, and not once it is done");
        });
    }

    #[test]
    fn what_is_begun_wakes_nobody_until_it_is_all_that_is_left() {
        on_both_drivers(|| async {
            let wakes = Rc::new(Cell::new(0));
            let both = then_await(sleep(Duration::from_millis(5)), sleep(Duration::from_millis(50)));
            let counted = wakes.clone();
            let ended = unless(both, move |_| {
                counted.set(counted.get() + 1);
                Poll::<()>::Pending
            });
            ended.await.unwrap();
            // Asked when it began to wait, and with epoll again when the first one has ended.
            assert_eq!(wakes.get(), 1 + u32::from(super::super::driver::is_epoll()));
            // The longer one is waited for, too.
            let begun = std::time::Instant::now();
            let told = then_await(
                async {
                    sleep(Duration::from_millis(40)).await;
                    1
                },
                async { 2 },
            );
            assert_eq!(told.await, (1, 2));
            assert!(begun.elapsed() >= Duration::from_millis(39));
        });
    }

    /// A connection's memory is that of its futures, most of which hold time-outs.
    #[test]
    fn a_time_out_is_small() {
        let futures = timeout(Duration::ZERO, timeout(Duration::ZERO, async {}));
        assert!(size_of_val(&futures) <= 128, "{} bytes", size_of_val(&futures));
    }

    /// A timer made anew at every poll would cost a place in the wheel each time.
    #[test]
    fn a_task_knows_its_own_waker() {
        on_both_drivers(|| async {
            let first = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
            let is_same = async move { poll_fn(|cx| Poll::Ready(cx.waker().clone())).await }.await.will_wake(&first);
            assert!(is_same);
        });
    }
}
