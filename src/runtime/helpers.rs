//! A few threads for work that blocks or computes for long: data workers hand it over and wait without holding up others.

use std::io;
use std::panic::AssertUnwindSafe;

use crossbeam::channel::{Sender, bounded};

type Job = Box<dyn FnOnce() + Send>;

/// The way to the helper threads; one for all data workers. They end with the last handle.
#[derive(Clone)]
pub struct Helpers {
    jobs: Sender<Job>,
}

impl std::fmt::Debug for Helpers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Helpers").field("waiting", &self.jobs.len()).finish()
    }
}

impl Helpers {
    /// Starts `threads` of them, in front of which `queue` jobs may wait.
    ///
    /// Errors: a thread cannot be had.
    pub fn start(threads: usize, queue: usize) -> io::Result<Helpers> {
        let (jobs, waiting) = bounded::<Job>(queue);
        for index in 0..threads {
            let waiting = waiting.clone();
            let work = move || {
                for job in waiting {
                    // The panic hook has logged it; who waits for the job learns that there is no result.
                    let _ = std::panic::catch_unwind(AssertUnwindSafe(job));
                }
            };
            std::thread::Builder::new().name(format!("helper-{index}")).spawn(work)?;
        }
        Ok(Helpers { jobs })
    }

    /// Runs `work` on one of the threads. `None`: the queue is full, or it panicked. A job whose caller has left is not
    /// begun.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = tokio::sync::oneshot::channel();
        let job = move || {
            if !done.is_closed() {
                let _ = done.send(work());
            }
        };
        self.jobs.try_send(Box::new(job)).ok()?;
        result.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::sys::files::tests::on_each_driver;

    #[test]
    fn work_runs_elsewhere_and_a_panic_is_no_result() {
        on_each_driver(|| async {
            let helpers = Helpers::start(2, 4).unwrap();
            let here = std::thread::current().id();
            let there = helpers.run(move || std::thread::current().id()).await;
            assert!(there.is_some_and(|there| there != here));
            assert_eq!(helpers.run(|| -> u32 { panic!("on purpose") }).await, None);
            assert_eq!(helpers.run(|| 7).await, Some(7));
        });
    }

    #[test]
    fn a_full_queue_refuses() {
        on_each_driver(|| async {
            let helpers = Helpers::start(1, 1).unwrap();
            let (open, gate) = std::sync::mpsc::channel::<()>();
            let (entered, begun) = std::sync::mpsc::channel::<()>();
            let mut first = Box::pin(helpers.run(move || {
                entered.send(()).unwrap();
                gate.recv()
            }));
            std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx).is_ready())).await;
            begun.recv().unwrap();
            let mut second = Box::pin(helpers.run(|| 2));
            std::future::poll_fn(|cx| std::task::Poll::Ready(second.as_mut().poll(cx).is_ready())).await;
            assert_eq!(helpers.run(|| 3).await, None);
            open.send(()).unwrap();
            assert_eq!((first.await.is_some(), second.await), (true, Some(2)));
        });
    }
}
