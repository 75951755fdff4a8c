//! The `one-server` command: command line, then config, then boot.

use std::io::Write;
use std::process::ExitCode;

use one_server::app::Registry;
use one_server::boot::Source;
use one_server::cli::demo::Demo;
use one_server::cli::{self, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    one_server::boot::become_keeper_if_asked();
    let mut apps = Registry::with_builtin();
    match cli::parse(std::env::args_os(), &apps.names()) {
        Ok(Command::Run { config, warnings, file }) => {
            cli::warn(&warnings);
            let source = file.map(|file| Source::new(&file.path, &apps.names(), file.flags));
            one_server::boot::run(*config, apps, source)
        }
        Ok(Command::Demo(_)) if one_server::boot::is_takeover() => {
            fail(&cli::Failure::new("the demo cannot be taken over: start it again"))
        }
        Ok(Command::Demo(args)) => match cli::demo::prepare(&args) {
            Ok(Demo::Start(start)) => {
                start.notes.iter().for_each(|note| eprintln!("{note}"));
                let (config, _folder) = start.into_parts(&mut apps);
                one_server::boot::run(config, apps, None)
            }
            Ok(Demo::Print(text)) => print(&text),
            Err(failure) => fail(&failure),
        },
        Ok(Command::Check { file, warnings }) => {
            cli::warn(&warnings);
            print(&format!("{}: ok\n", file.display()))
        }
        Ok(Command::Ctl(args)) => match cli::ctl::run(&args) {
            Ok(text) => print(&text),
            Err(failure) => fail(&failure),
        },
        Ok(Command::SelfSigned(args)) => match cli::cert::write(&args) {
            Ok(text) => print(&text),
            Err(failure) => fail(&failure),
        },
        Ok(Command::Print(text)) => print(&text),
        Err(failure) => fail(&failure),
    }
}

/// To standard output; a reader that has left, as in `one-server config-reference | head`, is no mistake of ours.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn fail(failure: &cli::Failure) -> ExitCode {
    // Nothing is left to do when standard error is closed: the exit code still tells.
    let _ = std::io::stderr().write_all(failure.text.as_bytes());
    one_server::boot::tell_failure(&failure.text);
    ExitCode::from(failure.code)
}
