//! Command line: arguments → [`Command`]. Starts nothing itself; every mistake becomes a [`Failure`].

mod app;
mod app_show;
mod args;
pub mod cert;
pub mod ctl;
mod ctl_mysql;
pub mod demo;
mod flags;
mod help;
mod quick;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{CommandFactory, Parser};

use crate::config::{self, Config, Warning};

use args::{Arguments, CertSub, ReferenceFormat, RunArgs, Sub};
pub use args::{CtlArgs, DemoArgs, SelfSignedArgs};
pub use flags::{SplitterFlags, Tuning, UpstreamFlags};

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Start this: run, static, proxy, app, split.
    Run {
        /// What to start.
        config: Box<Config>,
        /// What is probably not meant.
        warnings: Vec<Warning>,
        /// Where it came from, if it can be read again.
        file: Option<ConfigFile>,
    },
    /// Ask a running process, which `cli::ctl` does.
    Ctl(CtlArgs),
    /// The config file is good.
    Check {
        /// The file.
        file: PathBuf,
        /// What is probably not meant.
        warnings: Vec<Warning>,
    },
    /// Start the demo site; its config is made by `cli::demo`.
    Demo(Box<DemoArgs>),
    /// Write a certificate, which `cli::cert` does.
    SelfSigned(SelfSignedArgs),
    /// Print this text to standard output: help, version, manual, completions.
    Print(String),
}

/// A config file, and the flags that win over it.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// The file.
    pub path: PathBuf,
    /// The flags.
    pub flags: config::Overrides,
}

/// Why there is nothing to start.
#[derive(Debug)]
pub struct Failure {
    /// Complete text for standard error, with its line end.
    pub text: String,
    /// Exit code: 1 for a bad config, 2 for wrong flags.
    pub code: u8,
}

impl Failure {
    /// A mistake other than wrong flags, one line.
    pub fn new(text: impl std::fmt::Display) -> Failure {
        Failure { text: format!("error: {text}\n"), code: 1 }
    }
}

/// Reads the command line, program name first. `programs` are the names that `[app.NAME]` of a config may use.
///
/// Reads the config file of `run` and `check` and the password file of `split`, and nothing else.
/// Errors: wrong flags, a bad config, an unreadable file.
pub fn parse(args: impl IntoIterator<Item = OsString>, programs: &[&str]) -> Result<Command, Failure> {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => return shown_by_clap(&error),
    };
    match (arguments.command, arguments.config) {
        (Some(Sub::Run(args)), _) => run(&args, programs),
        (Some(Sub::Check(args)), _) => check(args.config, programs),
        (Some(Sub::Static(args)), _) => quick::files(args).map(start),
        (Some(Sub::Proxy(args)), _) => quick::proxy(args).map(start),
        (Some(Sub::App(args)), _) => app::config(&args).map(start),
        (Some(Sub::Split(args)), _) => quick::split(args).map(start),
        (Some(Sub::Demo(args)), _) => Ok(Command::Demo(Box::new(args))),
        (Some(Sub::Ctl(args)), _) => Ok(Command::Ctl(args)),
        (Some(Sub::Upgrade(args)), _) => Ok(Command::Ctl(args.into())),
        (Some(Sub::Cert(CertSub::SelfSigned(args))), _) => Ok(Command::SelfSigned(args)),
        (Some(Sub::ConfigReference(args)), _) => Ok(Command::Print(match args.format {
            ReferenceFormat::Markdown => config::reference_markdown(),
            ReferenceFormat::Toml => config::reference_toml(),
        })),
        (Some(Sub::Completions(args)), _) => Ok(Command::Print(completions(args.shell))),
        (None, Some(file)) => check(file, programs),
        // clap prints the help for an empty command line and asks for -c with -t.
        (None, None) => Err(Failure { text: Arguments::command().render_help().to_string(), code: 2 }),
    }
}

fn start(config: Config) -> Command {
    Command::Run { config: Box::new(config), warnings: Vec::new(), file: None }
}

fn run(args: &RunArgs, programs: &[&str]) -> Result<Command, Failure> {
    let (config, warnings) =
        config::load_with(&args.config, programs, &args.tuning.0).map_err(|report| bad(&report))?;
    let file = ConfigFile { path: args.config.clone(), flags: args.tuning.0.clone() };
    Ok(Command::Run { config: Box::new(config), warnings, file: Some(file) })
}

fn check(file: PathBuf, programs: &[&str]) -> Result<Command, Failure> {
    let (_, warnings) = config::load(&file, programs).map_err(|report| bad(&report))?;
    Ok(Command::Check { file, warnings })
}

fn bad(report: &config::Report) -> Failure {
    Failure { text: report.render(std::io::stderr().is_terminal()), code: 1 }
}

/// Help and version are no failures; clap finds the nearest flag for the others.
fn shown_by_clap(error: &clap::Error) -> Result<Command, Failure> {
    let color = if error.use_stderr() { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
    let text = if color { error.render().ansi().to_string() } else { error.render().to_string() };
    if error.use_stderr() { Err(Failure { text, code: 2 }) } else { Ok(Command::Print(text)) }
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "one-server", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Shows warnings on standard error.
pub fn warn(warnings: &[Warning]) {
    use std::io::Write;
    let color = std::io::stderr().is_terminal();
    for warning in warnings {
        // A closed standard error must not keep the server from starting.
        let _ = writeln!(std::io::stderr(), "{}", warning.render(color));
    }
}
