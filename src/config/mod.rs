//! Config: text → written model with spans → checked, compiled, immutable [`Config`]; diagnostics.
//!
//! Every key is described once, in `keys`; parser, defaults, flags and the manual follow from that. A check finds all
//! mistakes of a file at once ([`Report`]). Nothing here binds, creates or resolves anything: [`load`] reads the file,
//! those it includes and the password files it names, [`parse`] does not even do that.

mod compile;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod health;
mod include;
mod key;
mod keys;
pub mod model;
mod outside;
mod quick;
mod reference;
mod report;
mod section;
pub mod servers;
mod splitters;
mod succession;
mod suggest;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod value;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use key::{Absent, FlagOf, Key, Table};
pub use model::Config;
pub use quick::Defaults;
pub use reference::{reference_markdown, reference_toml};
pub use report::{Report, Warning};
pub use section::Overrides;
pub use succession::{Adopted, Heirs, Refused, Succession, adopt};
pub use value::{Kind, Value};

use include::{Folder, Included};
use report::{Problem, Source};
use section::{Context, Outside};

/// A config larger than this, with all that it includes, is not one.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Reads and compiles the file at `path`. `programs` are the names that `[app.NAME]` may use.
///
/// Errors: every mistake of the file, or why it cannot be read.
pub fn load(path: &Path, programs: &[&str]) -> Result<(Config, Vec<Warning>), Report> {
    load_with(path, programs, &Overrides::default())
}

/// As [`load`], with flags that win over the file.
pub fn load_with(path: &Path, programs: &[&str], overrides: &Overrides) -> Result<(Config, Vec<Warning>), Report> {
    load_on(path, programs, overrides, &outside::Machine::default())
}

/// As [`load_with`], for a process that goes on: keys and passwords that it may not read (any more) are no mistakes of the
/// file. Whoever takes the config sees to what becomes of them.
pub fn load_again(path: &Path, programs: &[&str], overrides: &Overrides) -> Result<(Config, Vec<Warning>), Report> {
    load_on(path, programs, overrides, &outside::Machine { is_running: true })
}

fn load_on(
    path: &Path,
    programs: &[&str],
    overrides: &Overrides,
    machine: &outside::Machine,
) -> Result<(Config, Vec<Warning>), Report> {
    let name = path.display().to_string();
    let text = match Folder::text(machine, path) {
        Ok(text) => text,
        Err(error) => {
            let title = format!("cannot read the config file {name}: {error}");
            return Err(Report::new(Source::new(name, ""), vec![Problem::new(title, None, "")]));
        }
    };
    let included = include::gather(path, &text, machine)?;
    let open = included.open_passwords(|path| machine.is_readable_by_all(path));
    let (config, mut warnings) = compile_all(included, programs, overrides, Some(machine))?;
    warnings.extend(open.iter().map(|name| {
        let title = "the config file holds a password and every user of this machine may read it";
        let advice = format!("run `chmod 640 {name}`, or move the password to a `password_file`");
        Warning::new(&Arc::default(), Problem::new(title, None, advice))
    }));
    Ok((config, warnings))
}

/// Compiles `text`. Pure: a `password_file` is not read, its password stays empty, and nothing can be included; see
/// [`load`].
///
/// Errors: every mistake of the file.
pub fn parse(file_name: &str, text: &str, programs: &[&str]) -> Result<(Config, Vec<Warning>), Report> {
    parse_with_flags(file_name, text, programs, &Overrides::default())
}

/// As [`parse`], with flags that win over the text.
pub(crate) fn parse_with_flags(
    file_name: &str,
    text: &str,
    programs: &[&str],
    overrides: &Overrides,
) -> Result<(Config, Vec<Warning>), Report> {
    compile_all(Included::none(file_name, text)?, programs, overrides, None)
}

/// The same for a text that a command has made of its flags: what it names on this machine is looked at.
pub(crate) fn parse_here(name: &str, text: &str, overrides: &Overrides) -> Result<(Config, Vec<Warning>), Report> {
    compile_all(Included::none(name, text)?, &[], overrides, Some(&outside::Machine::default()))
}

fn compile_all(
    included: Included,
    programs: &[&str],
    overrides: &Overrides,
    outside: Option<&dyn Outside>,
) -> Result<(Config, Vec<Warning>), Report> {
    let Included { source, toml, warnings: of_include, .. } = included;
    let document = match toml_edit::Document::parse(toml.as_str()) {
        Ok(document) => document,
        Err(error) => return Err(Report::new(source, vec![syntax_error(&toml, &error)])),
    };
    let mut cx = Context::new(programs, overrides, outside);
    cx.text = &toml;
    let config = compile::compile(&cx, document.as_table());
    let (problems, mut warnings) = (cx.problems.into_inner(), cx.warnings.into_inner());
    if !problems.is_empty() {
        return Err(Report::new(source, problems));
    }
    let source = Arc::new(source);
    warnings.extend(of_include);
    warnings.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
    Ok((config, warnings.into_iter().map(|problem| Warning::new(&source, problem)).collect()))
}

/// What the TOML parser says, in our form, with advice for the usual slips.
fn syntax_error(text: &str, error: &toml_edit::TomlError) -> Problem {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let Some(span) = error.span() else { return Problem::new(format!("not TOML: {message}"), None, "") };
    let start = text.get(..span.start).map_or(0, |before| before.rfind('\n').map_or(0, |at| at + 1));
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let problem = |label: &str| Problem::new("this is not TOML", Some(span), label);
    let quoted = |c: char| c.is_ascii_alphanumeric() || c == '/' || c == '*';
    match line.split_once('=').map(|(_, value)| value.trim()) {
        Some("") => problem("the value is missing"),
        Some(value) if value.starts_with(quoted) => {
            problem(&message).help("texts, addresses, durations and sizes stand in quotes: key = \"value\"")
        }
        None if line.trim_end().ends_with([';', '{']) => problem(&message)
            .help("this looks like nginx or HAProxy syntax; `one-server config-reference` prints the manual of ours"),
        _ => problem(&message),
    }
}

/// The first line of a small regular file, for flags that name a password file. Errors: what open(2) and read(2) say.
pub fn read_password_file(path: &Path) -> io::Result<String> {
    outside::Machine::default().first_line(path)
}
