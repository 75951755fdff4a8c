//! Applications: inside the process, and processes that are started and watched.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::RunAs;
use crate::app::process::Rules;

/// An in-process application. How requests come to it is what its upstream says ([`super::Upstream::in_process`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Name in logs, metrics and routes.
    pub name: String,
    /// Name under which the program registered it (see [`crate::app::Registry`]).
    pub program: String,
    /// Threads of its own, each with one request at a time; `None`: it runs on the application workers.
    pub threads: Option<usize>,
    /// How long a request waits in front of a worker whose queue is full.
    pub full_timeout: Duration,
}

impl App {
    /// Number of the first of its threads among the application workers of the process, where `shared` run what has no
    /// threads of its own. `None`: it has none either.
    pub fn first_thread(apps: &[App], app: usize, shared: usize) -> Option<usize> {
        apps[app].threads?;
        Some(shared + apps[..app].iter().filter_map(|before| before.threads).sum::<usize>())
    }
}

/// A program that is started and watched. Where its instances listen are the servers of its upstream, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessApp {
    /// Name in logs, metrics and routes.
    pub name: String,
    /// Name of its upstream.
    pub upstream: String,
    /// How an instance is started. When it changes, all are replaced.
    pub launch: Launch,
    /// How many there are, when they are replaced, and how long things may take.
    pub rules: Rules,
    /// Path that a new instance must answer; `None`: listening is enough.
    pub ready_path: Option<String>,
    /// Longest line of its output, bytes.
    pub output_line_bytes_max: usize,
    /// Lines of its output that are logged each second.
    pub output_lines_per_second: u32,
}

/// How an instance of a program is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The command with its placeholders, at least one word.
    pub words: Vec<String>,
    /// Working directory; `None`: that of this process.
    pub directory: Option<PathBuf>,
    /// Variables with their values, with placeholders.
    pub environment: Vec<(String, String)>,
    /// Whom it runs as; `None`: whoever this process is in the end.
    pub run_as: Option<RunAs>,
    /// How it learns where to listen.
    pub listening: Listening,
    /// What php-fpm is told of its pool; `None`: it is another program.
    pub php: Option<Php>,
    /// RLIMIT_NOFILE; `None`: inherited.
    pub open_files: Option<u64>,
    /// RLIMIT_NPROC; `None`: inherited.
    pub processes_max: Option<u64>,
    /// RLIMIT_AS, bytes; `None`: inherited.
    pub address_space_bytes_max: Option<u64>,
}

/// The pool of php-fpm, which is one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Php {
    /// Requests at once.
    pub workers: u32,
    /// `memory_limit` of a script, bytes; `None`: as php.ini has it.
    pub memory_bytes_max: Option<u64>,
    /// Settings of PHP that scripts cannot change, with values that hold no `'` and no control characters.
    pub ini: Vec<(String, String)>,
    /// Requests after which a worker is replaced; `None`: any number.
    pub worker_requests: Option<u64>,
    /// How long a script may run before its worker is ended; `None`: any time.
    pub terminate_timeout: Option<Duration>,
    /// How long until it is told where it is; `None`: it is not.
    pub slow_timeout: Option<Duration>,
}

/// How an instance learns where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// It binds a Unix socket, whose path it is told.
    Socket,
    /// It gets a socket that listens.
    Descriptor,
    /// It listens on a TCP port of 127.0.0.1, whose number it is told.
    Port,
}

/// Where the instances of a process listen: what the config leaves open.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Folder of their sockets.
    pub folder: PathBuf,
    /// By name of the upstream: ports are so many behind those of the config.
    pub behind: HashMap<String, u16>,
}
