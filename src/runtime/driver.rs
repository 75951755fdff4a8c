//! Builds the runtime of a worker on its own thread: io_uring with the best flags the kernel has, or epoll.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use io_uring::{IoUring, Probe, opcode};
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::config::model::DriverChoice;

/// What a worker runs on; for the start-up lines and the status page.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DriverFacts {
    /// `io_uring` or `epoll`.
    pub driver: &'static str,
    /// Ring set-up flags in use, as in io_uring_setup(2); empty for epoll.
    pub flags: &'static str,
    /// Why it is not the best the program knows; `None` when it is.
    pub fallback: Option<String>,
}

type SetFlags = fn(&mut io_uring::Builder);

/// Ring set-up flags from best to plainest. Source: io_uring_setup(2); the first needs Linux 6.1, the second 5.19.
const FLAGS: [(&str, SetFlags); 4] = [
    ("SINGLE_ISSUER|DEFER_TASKRUN", |builder| {
        builder.setup_single_issuer().setup_defer_taskrun();
    }),
    ("SINGLE_ISSUER|COOP_TASKRUN", |builder| {
        builder.setup_single_issuer().setup_coop_taskrun();
    }),
    ("COOP_TASKRUN", |builder| {
        builder.setup_coop_taskrun();
    }),
    ("", |_| {}),
];

fn ring_builder(set: SetFlags, entries: u32) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    set(&mut builder);
    // Room for the completions of many idle connections that wake at once; the kernel keeps an overflow list beyond.
    builder.setup_cqsize(entries.saturating_mul(4).min(65_536));
    builder.setup_clamp();
    builder.dontfork();
    builder
}

/// The best flags from `first` on that the kernel takes, or why there is no usable ring.
fn best_flags(entries: u32, first: usize) -> Result<(usize, Option<String>), String> {
    let mut refused = None;
    for (index, (name, set)) in FLAGS.iter().enumerate().skip(first) {
        match ring_builder(*set, entries).build(entries) {
            Ok(ring) => {
                check_operations(&ring)?;
                return Ok((index, refused));
            }
            Err(error) => {
                refused.get_or_insert_with(|| format!("the kernel refuses {name}: {error}"));
                if index + 1 == FLAGS.len() {
                    return Err(explain(&error));
                }
            }
        }
    }
    unreachable!("the last row returns")
}

/// Says what an operator can do about a refused ring.
fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => format!(
            "io_uring is refused ({error}): set `sysctl kernel.io_uring_disabled=0`, or allow io_uring_setup in the \
             seccomp profile"
        ),
        Some(libc::ENOSYS) => format!("this kernel or seccomp profile has no io_uring ({error})"),
        Some(libc::ENOMEM) => format!("no memory for the ring ({error}): raise `ulimit -l` or lower --ring-entries"),
        _ => format!("io_uring cannot be set up ({error})"),
    }
}

fn check_operations(ring: &IoUring) -> Result<(), String> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| explain(&error))?;
    let needed = [
        ("ACCEPT", opcode::Accept::CODE),
        ("CONNECT", opcode::Connect::CODE),
        ("SEND", opcode::Send::CODE),
        ("RECV", opcode::Recv::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("CLOSE", opcode::Close::CODE),
    ];
    match needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
        None => Ok(()),
        Some((name, _)) => Err(format!("this kernel's io_uring lacks {name}: Linux 5.6 or later is needed")),
    }
}

thread_local! {
    static EPOLL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A data worker of this process runs on epoll.
static EPOLL_ANYWHERE: AtomicBool = AtomicBool::new(false);

/// Whether any data worker of this process runs on epoll. All of them are built before the first one serves.
pub(super) fn is_epoll_anywhere() -> bool {
    EPOLL_ANYWHERE.load(Ordering::Relaxed)
}

/// True on a data worker that runs on epoll; its sockets must be non-blocking, those of io_uring must not.
pub(super) fn is_epoll() -> bool {
    EPOLL.get()
}

/// The runtime of a data worker. Built and used on the worker's own thread.
pub struct DataRuntime(Kind);

enum Kind {
    Uring(monoio::Runtime<TimeDriver<IoUringDriver>>),
    Epoll(monoio::Runtime<TimeDriver<LegacyDriver>>),
}

impl DataRuntime {
    /// Builds the runtime for the current thread.
    ///
    /// Errors: no ring although [`DriverChoice::IoUring`] was asked for, or no epoll instance.
    ///
    /// `is_woken`: other threads wake this worker all the time. Then completions are not deferred: monoio
    /// enters the kernel without asking for them whenever it has been woken from outside, so a steady stream of such
    /// wake-ups would keep deferred ones from being seen. With an application worker on the same core that made a part of the
    /// connections wait for up to 100 ms, while others went on.
    pub fn build(choice: DriverChoice, entries: u32, is_woken: bool) -> io::Result<(DataRuntime, DriverFacts)> {
        let fallback = match (choice, best_flags(entries, usize::from(is_woken))) {
            (DriverChoice::Epoll, _) => None,
            (_, Ok((index, fallback))) => return Self::uring(index, fallback, entries),
            (DriverChoice::IoUring, Err(reason)) => return Err(io::Error::other(reason)),
            (DriverChoice::Auto, Err(reason)) => Some(reason),
        };
        let runtime = RuntimeBuilder::<LegacyDriver>::new().with_entries(entries).enable_timer().build()?;
        EPOLL_ANYWHERE.store(true, Ordering::Relaxed);
        Ok((DataRuntime(Kind::Epoll(runtime)), DriverFacts { driver: "epoll", flags: "", fallback }))
    }

    fn uring(index: usize, fallback: Option<String>, entries: u32) -> io::Result<(DataRuntime, DriverFacts)> {
        let (flags, set) = FLAGS[index];
        let runtime = RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(entries)
            .uring_builder(ring_builder(set, entries))
            .enable_timer()
            .build()?;
        Ok((DataRuntime(Kind::Uring(runtime)), DriverFacts { driver: "io_uring", flags, fallback }))
    }

    /// Runs `future` and everything it spawns until it ends.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        EPOLL.set(matches!(self.0, Kind::Epoll(_)));
        let _turns = super::turn::Turns;
        let future = async {
            monoio::spawn(super::turn::end_turns());
            future.await
        };
        match &mut self.0 {
            Kind::Uring(runtime) => runtime.block_on(future),
            Kind::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

/// What is left of the runtime of an application worker that has come to its end: its tasks, and what blocks on threads of it
/// (`spawn_blocking`). Dropping it drops the tasks, then waits for those threads, as tokio-uring cannot leave them. Plain tokio can:
/// of that nothing is left.
pub struct Spent {
    _runtime: Option<tokio_uring::Runtime>,
}

/// Runs an application worker on the current thread: tokio-uring, or plain tokio where io_uring is refused.
///
/// `main` gets the facts of the driver and is run to its end; tokio's `spawn_local` works inside. What it returns comes with what is
/// still to be dropped.
/// Errors: no ring although [`DriverChoice::IoUring`] was asked for, or no tokio runtime.
pub fn run_app<F: Future>(
    choice: DriverChoice,
    entries: u32,
    main: impl FnOnce(DriverFacts) -> F,
) -> io::Result<(F::Output, Spent)> {
    let fallback = match choice {
        DriverChoice::Epoll => None,
        DriverChoice::IoUring | DriverChoice::Auto => {
            // tokio waits for this ring through epoll, so flags that defer completions to io_uring_enter do not fit.
            match tokio_uring::Runtime::new(tokio_uring::builder().entries(entries)) {
                Ok(runtime) => {
                    let facts = DriverFacts { driver: "io_uring", flags: "", fallback: None };
                    let output = runtime.block_on(main(facts));
                    return Ok((output, Spent { _runtime: Some(runtime) }));
                }
                Err(error) if choice == DriverChoice::IoUring => return Err(io::Error::other(explain(&error))),
                Err(error) => Some(explain(&error)),
            }
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = Rc::new(tokio::task::LocalSet::new());
    let facts = DriverFacts { driver: "epoll", flags: "", fallback };
    let output = local.block_on(&runtime, main(facts));
    // Tasks are dropped where they ran.
    drop(local);
    runtime.shutdown_background();
    Ok((output, Spent { _runtime: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blocks_does_not_keep_an_application_worker_from_its_end() {
        let begun = std::time::Instant::now();
        let work = |_| async {
            tokio::task::spawn_blocking(|| std::thread::sleep(std::time::Duration::from_secs(30)));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        drop(run_app(DriverChoice::Epoll, 256, work).unwrap());
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }

    #[test]
    fn both_drivers_run_and_say_what_they_are() {
        for (choice, driver) in [(DriverChoice::Auto, "io_uring"), (DriverChoice::Epoll, "epoll")] {
            let (mut runtime, facts) = DataRuntime::build(choice, 256, false).unwrap();
            assert_eq!(runtime.block_on(async { 7 }), 7);
            let (of_app, _spent) = run_app(choice, 256, |app| async move { app.driver }).unwrap();
            assert_eq!(of_app, facts.driver);
            assert!(facts.driver == driver || facts.fallback.is_some(), "{facts:?}");
        }
    }
}
