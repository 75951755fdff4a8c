//! The life of one process of an application.

use std::fmt;
use std::time::Instant;

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Started, does not serve yet.
    Starting,
    /// Gets requests.
    Ready,
    /// Gets no new requests, finishes those it has.
    Draining,
    /// Was told to end.
    Stopping,
}

impl State {
    /// All of them.
    pub const ALL: [State; 4] = [State::Starting, State::Ready, State::Draining, State::Stopping];

    /// Lower-case name, as shown on pages.
    pub fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Stopping => "stopping",
        }
    }
}

/// Why an instance is replaced or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// A new generation takes its place.
    Reload,
    /// It has had `restart_requests`.
    Requests,
    /// It takes more than `restart_memory`.
    Memory,
    /// It is older than `restart_age`.
    Age,
    /// It did not answer a request in time.
    Hung,
    /// There are more than are wanted now.
    Surplus,
    /// The application was told to stop, or is gone from the config.
    Stop,
    /// It was not ready in time.
    Late,
    /// It does not take its config.
    Unfit,
}

impl Leaving {
    /// All of them.
    pub const ALL: [Leaving; 9] = [
        Leaving::Reload,
        Leaving::Requests,
        Leaving::Memory,
        Leaving::Age,
        Leaving::Hung,
        Leaving::Surplus,
        Leaving::Stop,
        Leaving::Late,
        Leaving::Unfit,
    ];

    /// One lower-case word, for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Leaving::Reload => "reload",
            Leaving::Requests => "requests",
            Leaving::Memory => "memory",
            Leaving::Age => "age",
            Leaving::Hung => "timeout",
            Leaving::Surplus => "surplus",
            Leaving::Stop => "stop",
            Leaving::Late => "start_timeout",
            Leaving::Unfit => "config",
        }
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It could not be started; why.
    NotStarted(String),
    /// Whoever started it is gone, and with it the process.
    Lost,
}

impl Exit {
    /// One lower-case word, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Exit::Code(0) => "success",
            Exit::Code(_) => "error",
            Exit::Signal(_) => "signal",
            Exit::NotStarted(_) => "not_started",
            Exit::Lost => "lost",
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
            Exit::NotStarted(reason) => f.write_str(reason),
            Exit::Lost => f.write_str("its keeper has ended"),
        }
    }
}

/// One process of an application, from the order to start it until it is reaped.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Unlike that of any other one of the fleet.
    pub id: u64,
    /// Its place, below [`super::Rules::slots`] of the rules it was started under.
    pub slot: usize,
    /// Which edition of the application it runs.
    pub generation: u64,
    /// Where it is in its life.
    pub state: State,
    /// Since when it is in that state.
    pub since: Instant,
    /// When it was started.
    pub began: Instant,
    /// Its number, once it is known.
    pub pid: Option<u32>,
    /// Why it is to go; `None`: it stays.
    pub leaving: Option<Leaving>,
    /// It was ready at some time.
    pub was_ready: bool,
    /// Requests it has had.
    pub requests: u64,
    /// Resident bytes when last looked at.
    pub memory_bytes: u64,
    /// How often it got SIGKILL.
    pub(super) kills: u32,
    /// Requests after which it goes.
    pub(super) requests_max: Option<u64>,
    /// When it is too old.
    pub(super) expires: Option<Instant>,
}

impl Instance {
    /// It gets requests, or will, and stays.
    pub fn is_fresh(&self) -> bool {
        matches!(self.state, State::Starting | State::Ready) && self.leaving.is_none()
    }

    pub(super) fn enter(&mut self, state: State, now: Instant) {
        (self.state, self.since) = (state, now);
        self.was_ready |= state == State::Ready;
    }
}
