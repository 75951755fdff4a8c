//! Cores, drivers, queues and limits of the whole process.

use std::path::PathBuf;
use std::time::Duration;

/// Which kernel interface a worker uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring where the kernel allows it, else epoll with a warning.
    Auto,
    /// io_uring or refuse to start.
    IoUring,
    /// epoll always.
    Epoll,
}

/// Where application workers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppPlacement {
    /// One on the core of each data worker.
    Paired,
    /// On cores of their own.
    Separate,
}

/// Cores, drivers, queues and limits of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Core of each data worker; empty: all the process may use (half of them with `separate` placement).
    pub data_cores: Vec<usize>,
    /// Core of each application worker; empty: follows `app_placement`.
    pub app_cores: Vec<usize>,
    /// Used when `app_cores` is empty.
    pub app_placement: AppPlacement,
    /// io_uring or epoll.
    pub driver: DriverChoice,
    /// Submission queue entries of each ring, 256 to 32768.
    pub ring_entries: u32,
    /// First read buffer of a busy connection, bytes. Grows up to `http.head_bytes_max` for a long head.
    pub read_buffer_bytes: usize,
    /// Size of one piece when a body is streamed, bytes.
    pub stream_buffer_bytes: usize,
    /// Pipes that a data worker may have open for splice(2).
    pub pipes_max: usize,
    /// How long an application worker looks for work before it sleeps.
    pub spin: Duration,
    /// Requests that may wait in front of one application worker.
    pub queue_depth: usize,
    /// How long a request may wait for a place in a full queue before 503.
    pub queue_timeout: Duration,
    /// Requests one application worker runs at the same time.
    pub app_concurrency: usize,
    /// Downstream connections of the whole process; more are refused.
    pub connections_max: usize,
    /// Requests that tarpits hold back at the same time; the next are answered at once.
    pub tarpit_max: usize,
    /// New connections are handed to workers that have clearly fewer.
    pub accept_balance: bool,
    /// listen(2) backlog of each listening socket.
    pub backlog: u32,
    /// How long a drain (SIGQUIT) waits for requests in flight.
    pub drain_timeout: Duration,
    /// How long another process that is to take over (SIGUSR2) may take until it is ready.
    pub takeover_timeout: Duration,
    /// Bytes of small files each data worker keeps in memory.
    pub file_cache_bytes: usize,
    /// Largest file kept in memory, bytes; larger ones go out by sendfile(2).
    pub file_cache_file_bytes_max: usize,
    /// How long a cached file is served before its metadata is looked at again.
    pub file_cache_valid: Duration,
    /// Whom the process becomes when root starts it; `None`: it stays who it is.
    pub run_as: Option<RunAs>,
    /// Programs run in a PID namespace of their own.
    pub private_pids: bool,
    /// Unix socket on which `one-server ctl` is heard; `None`: it is not.
    pub control: Option<PathBuf>,
    /// Unix socket on which HAProxy's runtime protocol is spoken; `None`: it is not.
    pub stats_socket: Option<StatsSocket>,
}

/// The socket of HAProxy's runtime protocol. Whom its mode lets connect is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsSocket {
    /// Where it is.
    pub path: PathBuf,
    /// Of the file.
    pub mode: u32,
    /// What may be asked there.
    pub level: StatsLevel,
}

/// What a connection may do, as HAProxy has it; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatsLevel {
    /// Look at counters.
    User,
    /// Look at everything.
    Operator,
    /// Change things.
    Admin,
}

impl StatsLevel {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            StatsLevel::User => "user",
            StatsLevel::Operator => "operator",
            StatsLevel::Admin => "admin",
        }
    }
}

/// A user, and a group in place of the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// Name of the user.
    pub user: String,
    /// Name of the group.
    pub group: Option<String>,
}
