//! Timers of a data worker, in milliseconds. Must be called on a data worker.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use monoio::time::{Instant, sleep_until};

/// The time given to [`timeout`] has passed. The operation inside was dropped, so what it was reading is lost:
/// close its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// Waits for `duration`, rounded up to a millisecond.
///
/// It may be polled by one task and then by another. monoio's timer may not: it wakes the task that polled it first, and
/// one that nothing will wake is dropped. So each task gets a timer of its own.
pub async fn sleep(duration: Duration) {
    let deadline = Instant::now() + duration;
    let mut timer = pin!(sleep_until(deadline));
    let mut owner: Option<Waker> = None;
    poll_fn(|cx| {
        let is_ours = owner.as_ref().is_some_and(|owner| owner.will_wake(cx.waker()));
        if !is_ours {
            if owner.is_some() {
                timer.set(sleep_until(deadline));
            }
            owner = Some(cx.waker().clone());
        }
        timer.as_mut().poll(cx)
    })
    .await;
}

/// Runs `future` for at most `duration`.
///
/// Errors: [`Elapsed`] when the time is up first. A read or write that was under way is cancelled, and its bytes may
/// be lost: the caller closes the socket.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut timer) = (pin!(future), pin!(sleep(duration)));
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        timer.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::Pin;
    use std::rc::Rc;

    use super::*;
    use crate::config::model::DriverChoice;
    use crate::runtime::driver::DataRuntime;

    fn on_both_drivers<F: Future<Output = ()>>(work: impl Fn() -> F) {
        for choice in [DriverChoice::Auto, DriverChoice::Epoll] {
            let (mut runtime, _) = DataRuntime::build(choice, 256, false).expect("a runtime");
            runtime.block_on(work());
        }
    }

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
