//! Signals of the process, with nginx's meanings.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGQUIT.
    Drain,
    /// SIGUSR1.
    ReopenLogs,
    /// SIGHUP.
    Reload,
    /// SIGUSR2.
    TakeOver,
    /// No signal: a data worker has ended by itself.
    WorkerDied,
}

/// The signals we answer to.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    reopen: Signal,
    hang_up: Signal,
    take_over: Signal,
}

impl Signals {
    /// Takes the signals over. Must be called inside the control thread's runtime.
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            reopen: signal(SignalKind::user_defined1())?,
            hang_up: signal(SignalKind::hangup())?,
            take_over: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next order.
    pub(super) async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.quit.recv() => Order::Drain,
            _ = self.reopen.recv() => Order::ReopenLogs,
            _ = self.hang_up.recv() => Order::Reload,
            _ = self.take_over.recv() => Order::TakeOver,
        }
    }
}
