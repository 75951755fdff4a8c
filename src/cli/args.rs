//! The command line as clap sees it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::flags::{self, AppFlags, SplitterFlags, Tuning, UpstreamFlags};
use super::help;
use crate::runtime::net::Address;

/// Static files, load balancing, application workers and MySQL read/write splitting in one process, one thread per
/// core, on io_uring.
#[derive(Clone, Debug, Parser)]
#[command(name = "one-server", version, about, after_help = help::TOP, arg_required_else_help = true)]
#[command(args_conflicts_with_subcommands = true, max_term_width = 110)]
pub(super) struct Arguments {
    /// Check the config file and exit: the same as `check`
    #[arg(short = 't', requires = "config")]
    pub(super) test: bool,
    /// Config file for -t
    #[arg(short = 'c', long = "config", value_name = "FILE", requires = "test")]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Option<Sub>,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Sub {
    /// Start what a config file says
    #[command(after_help = help::RUN)]
    Run(RunArgs),
    /// Check a config file: tells every mistake at once; binds, creates and resolves nothing
    #[command(after_help = help::CHECK)]
    Check(CheckArgs),
    /// Serve a folder
    #[command(after_help = help::STATIC)]
    Static(StaticArgs),
    /// Balance HTTP over servers
    #[command(after_help = help::PROXY)]
    Proxy(ProxyArgs),
    /// Start a program that serves HTTP, watch it, and balance over its instances
    #[command(after_help = help::APP)]
    App(AppArgs),
    /// Split MySQL reads and writes over a primary and its replicas
    #[command(after_help = help::SPLIT)]
    Split(SplitArgs),
    /// Look at a running process, and change it: reload its config, take servers out and back in, end it
    #[command(after_help = help::CTL)]
    Ctl(CtlArgs),
    /// Let the program that lies on disk now take over from the running process, which loses no connection: the same as
    /// `ctl upgrade`
    #[command(after_help = help::UPGRADE)]
    Upgrade(UpgradeArgs),
    /// Start the demo site: files, application, database, live page
    #[command(after_help = help::DEMO)]
    Demo(DemoArgs),
    /// Make certificates
    #[command(subcommand)]
    Cert(CertSub),
    /// Print the manual of the config file
    ConfigReference(ReferenceArgs),
    /// Print a completion script for a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions(CompletionArgs),
}

/// Flags of `run`.
#[derive(Args, Clone, Debug)]
pub(super) struct RunArgs {
    /// Config file
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(super) config: PathBuf,
    #[command(flatten)]
    pub(super) tuning: Tuning,
}

/// Flags of `check`.
#[derive(Args, Clone, Debug)]
pub(super) struct CheckArgs {
    /// Config file
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(super) config: PathBuf,
}

/// Flags of `static`.
#[derive(Args, Clone, Debug)]
pub(super) struct StaticArgs {
    /// Folder to serve; nothing outside is ever opened
    #[arg(value_name = "DIR")]
    pub(super) root: PathBuf,
    /// Address to listen on; may be given several times
    #[arg(long, value_name = "IP:PORT", value_parser = help::socket_address, default_value = "127.0.0.1:8080")]
    pub(super) listen: Vec<SocketAddr>,
    /// Name tried for a path that ends in `/`; may be given several times [default: index.html]
    #[arg(long, value_name = "FILE")]
    pub(super) index: Vec<String>,
    /// Path served with 200 when there is no such file, for single-page applications, for example /index.html
    #[arg(long, value_name = "PATH", value_parser = help::url_path)]
    pub(super) fallback: Option<String>,
    #[command(flatten)]
    pub(super) tuning: Tuning,
}

/// Flags of `proxy`.
#[derive(Args, Clone, Debug)]
pub(super) struct ProxyArgs {
    /// Address to listen on; may be given several times
    #[arg(long, value_name = "IP:PORT", value_parser = help::socket_address, default_value = "127.0.0.1:8080")]
    pub(super) listen: Vec<SocketAddr>,
    /// Servers to balance over: IP:PORT, NAME:PORT or unix:/path; several after one flag, or the flag several times
    #[arg(long, value_name = "ADDR", value_parser = help::server, num_args = 1.., required = true)]
    pub(super) to: Vec<Address>,
    /// Servers used only while no other one is up
    #[arg(long, value_name = "ADDR", value_parser = help::server, num_args = 1..)]
    pub(super) backup: Vec<Address>,
    #[command(flatten)]
    pub(super) upstream: UpstreamFlags,
    #[command(flatten)]
    pub(super) tuning: Tuning,
}

/// Flags of `app`.
#[derive(Args, Clone, Debug)]
pub(super) struct AppArgs {
    /// Address to listen on; may be given several times
    #[arg(long, value_name = "IP:PORT", value_parser = help::socket_address, default_value = "127.0.0.1:8080")]
    pub(super) listen: Vec<SocketAddr>,
    /// Give each instance a socket that listens, as descriptor 3 (LISTEN_FDS) [key: listen in [app.NAME]]
    #[arg(long, conflicts_with = "first-port", help_heading = flags::PROGRAM)]
    pub(super) fd: bool,
    /// A variable for the program; may be given several times [key: environment in [app.NAME]]
    #[arg(long, value_name = "NAME=VALUE", visible_alias = "environment", value_parser = help::variable)]
    #[arg(help_heading = flags::PROGRAM)]
    pub(super) env: Vec<(String, String)>,
    #[command(flatten)]
    pub(super) app: AppFlags,
    #[command(flatten)]
    pub(super) tuning: Tuning,
    /// The command and its arguments; {socket} stands for the path of the Unix socket that an instance is to bind
    #[arg(value_name = "COMMAND", required = true, last = true, num_args = 1..)]
    pub(super) command: Vec<String>,
}

/// Flags of `split`.
#[derive(Args, Clone, Debug)]
pub(super) struct SplitArgs {
    /// Address clients connect to: IP:PORT or unix:/path; may be given several times
    #[arg(long, value_name = "ADDR", value_parser = help::address, default_value = "127.0.0.1:3307")]
    pub(super) listen: Vec<Address>,
    /// The server that takes writes
    #[arg(long, value_name = "ADDR", value_parser = help::address)]
    pub(super) primary: Address,
    /// Servers that take reads; without any the primary takes them
    #[arg(long, value_name = "ADDR", value_parser = help::address, num_args = 1..)]
    pub(super) replica: Vec<Address>,
    /// User name, the same for clients and servers
    #[arg(long, value_name = "NAME")]
    pub(super) user: String,
    /// File whose first line is the user's password: a password among the flags could be read by every user
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: PathBuf,
    /// Database selected for clients that name none
    #[arg(long, value_name = "NAME")]
    pub(super) database: Option<String>,
    #[command(flatten)]
    pub(super) splitter: SplitterFlags,
    #[command(flatten)]
    pub(super) tuning: Tuning,
}

/// Flags of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Address of the site
    #[arg(long, value_name = "IP:PORT", value_parser = help::socket_address, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Speak HTTPS and HTTP/2, with a certificate that signs itself, made for this start alone
    #[arg(long)]
    pub tls: bool,
    /// Keep the guest book in memory instead of a database
    #[arg(long, conflicts_with_all = ["primary", "replica", "user", "password_file", "database"])]
    pub no_database: bool,
    /// Your own MySQL or MariaDB server that takes writes
    #[arg(long, value_name = "ADDR", value_parser = help::address, requires_all = ["user", "password_file"])]
    pub primary: Option<Address>,
    /// Its replicas, which take reads
    #[arg(long, value_name = "ADDR", value_parser = help::address, num_args = 1.., requires = "primary")]
    pub replica: Vec<Address>,
    /// User name on those servers
    #[arg(long, value_name = "NAME", requires = "primary")]
    pub user: Option<String>,
    /// File whose first line is the user's password
    #[arg(long, value_name = "FILE", requires = "primary")]
    pub password_file: Option<PathBuf>,
    /// Database for the guest book's table
    #[arg(long, value_name = "NAME", requires = "primary")]
    pub database: Option<String>,
    /// Print the config of the demo as a file and exit
    #[arg(long)]
    pub print_config: bool,
    /// Flags that every starting command takes; see [`DemoArgs::defaults`].
    #[command(flatten)]
    pub tuning: Tuning,
}

/// Flags of `ctl`.
#[derive(Args, Clone, Debug)]
pub struct CtlArgs {
    /// The socket of the process: the key `control` of its config
    #[arg(long, value_name = "PATH", default_value = crate::control::ctl::SOCKET_DEFAULT, global = true)]
    pub socket: PathBuf,
    /// Print the answer as JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// What is wanted.
    #[command(subcommand)]
    pub command: CtlSub,
}

/// Flags of `upgrade`.
#[derive(Args, Clone, Debug)]
pub(super) struct UpgradeArgs {
    /// The socket of the process: the key `control` of its config
    #[arg(long, value_name = "PATH", default_value = crate::control::ctl::SOCKET_DEFAULT)]
    pub(super) socket: PathBuf,
    /// Print the answer as JSON, for programs
    #[arg(long)]
    pub(super) json: bool,
}

impl From<UpgradeArgs> for CtlArgs {
    fn from(UpgradeArgs { socket, json }: UpgradeArgs) -> CtlArgs {
        CtlArgs { socket, json, command: CtlSub::Upgrade }
    }
}

/// What is wanted of a running process.
#[derive(Clone, Debug, Subcommand)]
pub enum CtlSub {
    /// Show what runs: config, workers, listeners, sites, upstreams and their servers
    Show,
    /// Read the config file again: a good one is in use from the next requests on, a bad one changes nothing
    Reload,
    /// Let the program that lies on disk now take over, with the config as it is now; no connection is lost. If it does not
    /// come up, the process goes on
    Upgrade,
    /// Set what a server is for, its weight, or how many requests it may have at once
    Server {
        /// The server
        #[arg(value_name = "UPSTREAM/ADDRESS")]
        server: String,
        /// drain: it finishes what it has and gets nothing new but requests of its sticky clients; maintenance: not even these,
        /// and no checks; ready: it gets requests again. weight and limit want a VALUE
        #[arg(value_enum)]
        what: CtlServer,
        /// Of weight: 0 to 256; of limit: requests at once, or `none`; `config` goes back to what the config says
        #[arg(required_if_eq_any([("what", "weight"), ("what", "limit")]))]
        value: Option<String>,
    },
    /// Add a server to an upstream, until it is removed or the process ends; one of the config file that was removed comes back
    Add {
        /// The server: an address, or `unix:/path`
        #[arg(value_name = "UPSTREAM/ADDRESS")]
        server: String,
        /// Its share of the traffic in relation to the others; 0: none but what `ctl server` gives it later
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=256))]
        weight: Option<u32>,
        /// Its tier; without it the first one
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64), conflicts_with = "backup")]
        tier: Option<u32>,
        /// It is used only while no other one is up
        #[arg(long)]
        backup: bool,
        /// Requests it gets at the same time; without it any number
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: Option<u32>,
    },
    /// Remove a server from an upstream: it finishes what it has and gets nothing new; reloads do not bring it back
    Remove {
        /// The server, as `ctl show` has it; a name of the config file goes with all it leads to
        #[arg(value_name = "UPSTREAM/ADDRESS")]
        server: String,
    },
    /// Tell an upstream what to do
    Upstream {
        /// Its name
        #[arg(value_name = "UPSTREAM")]
        upstream: String,
        /// fail-back: it uses its first tier of servers again, if enough are up in it, without waiting for the time of `fail_back`
        #[arg(value_enum)]
        what: CtlUpstream,
    },
    /// Show the MySQL splitters with their servers, and direct these
    Mysql {
        /// What is wanted.
        #[command(subcommand)]
        what: CtlMysql,
    },
    /// Look at applications that are processes, or tell one what to do
    App {
        /// show: what it does, or what all do; restart: its instances are replaced one after the other, no request fails; stop:
        /// they finish what they have and end; start: it runs again, and failures are forgotten
        #[arg(value_enum)]
        what: CtlApp,
        /// Its name; `show` takes none for all of them
        #[arg(value_name = "NAME", required_if_eq_any([("what", "restart"), ("what", "stop"), ("what", "start")]))]
        app: Option<String>,
    },
    /// End the process
    Shutdown {
        /// Finish requests under way first
        #[arg(long)]
        drain: bool,
    },
}

/// What is wanted of splitters.
#[derive(Clone, Debug, Subcommand)]
pub enum CtlMysql {
    /// Show who is the primary and what each server is
    Show,
    /// Use a server again
    Ready(CtlMysqlServer),
    /// Give a server nothing new: no reads; of the primary, statements wait as long as `primary_wait`
    Drain(CtlMysqlServer),
    /// The same, and do not look at it: it counts as one that is not there
    Maintenance(CtlMysqlServer),
    /// Take a server for the primary, as soon as it takes writes alone, although it is fenced or lacks transactions that
    /// clients were told are committed
    Accept(CtlMysqlServer),
    /// Say that a server is about to be promoted: statements for the primary wait from now on, until it is found
    Switchover(CtlMysqlServer),
    /// Show what was asked of a splitter's servers, by normal form: literals are `?` there
    Digests {
        /// The splitter
        #[arg(value_name = "NAME")]
        name: String,
        /// What comes first
        #[arg(long, value_enum, default_value = "time")]
        sort: DigestSort,
        /// Rows at most
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Count a splitter's statements anew
    ResetDigests {
        /// The splitter
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// What comes first of the statements of a splitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DigestSort {
    /// What took the most time in all
    Time,
    /// What came most often
    Count,
    /// What failed most often
    Errors,
}

/// What an application that is a process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CtlApp {
    /// Nothing
    Show,
    /// Its instances are replaced, one after the other
    #[value(alias = "reload")]
    Restart,
    /// Its instances finish what they have and end
    Stop,
    /// It runs, and failures are forgotten
    Start,
}

/// What an upstream is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CtlUpstream {
    /// It uses its first tier of servers again
    FailBack,
}

/// A server of a splitter.
#[derive(Args, Clone, Debug)]
pub struct CtlMysqlServer {
    /// The server
    #[arg(value_name = "SPLITTER/ADDRESS")]
    pub server: String,
}

/// What is set of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CtlServer {
    /// It gets requests
    Ready,
    /// It finishes what it has and gets nothing new but requests of its sticky clients
    Drain,
    /// It finishes what it has, gets nothing new, and is not checked
    Maintenance,
    /// Its share of the traffic in relation to the others
    Weight,
    /// Requests it gets at the same time; more wait
    Limit,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum CertSub {
    /// Write a certificate that signs itself, for development, and its key
    #[command(after_help = help::SELF_SIGNED)]
    SelfSigned(SelfSignedArgs),
}

/// Flags of `cert self-signed`.
#[derive(Args, Clone, Debug)]
pub struct SelfSignedArgs {
    /// Host names (also `*.example.org`) and IP addresses; the files are called after the first one
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Folder for the two files
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Days until it expires
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// Replace files that are there already
    #[arg(long)]
    pub force: bool,
}

/// Flags of `config-reference`.
#[derive(Args, Clone, Debug)]
pub(super) struct ReferenceArgs {
    /// markdown: the manual; toml: a config file with every key, commented
    #[arg(long, value_name = "FORMAT", default_value = "markdown")]
    pub(super) format: ReferenceFormat,
}

/// Form of the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ReferenceFormat {
    Markdown,
    Toml,
}

/// Arguments of `completions`.
#[derive(Args, Clone, Debug)]
pub(super) struct CompletionArgs {
    /// Shell
    #[arg(value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}
