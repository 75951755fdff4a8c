//! Secrets that stand in the first line of a file.

use std::path::Path;

use crate::config::report::Problem;
use crate::config::section::Section;

/// The secret in `file`, which the key `key` names and messages call `what`. Empty where files are not read, after a mistake,
/// and where the running process may not read it any more (see [`crate::config::adopt`]).
pub(super) fn read(section: &Section<'_>, key: &str, what: &str, file: &Path) -> String {
    let Some(outside) = section.cx.outside else { return String::new() };
    match outside.first_line(file) {
        Ok(secret) if secret.is_empty() => {
            section.bad_value(key, format!("the first line of the file is empty: write the {what} there"));
            secret
        }
        Ok(secret) => {
            if outside.is_readable_by_all(file) {
                let label = format!("every user of this machine may read it: run `chmod 600 {}`", file.display());
                let title = format!("the {what} file of {} is not private", section.title);
                section.cx.warn(Problem::new(title, section.value_span(key), label));
            }
            secret
        }
        Err(error) if outside.is_excused(&error) => String::new(),
        Err(error) => {
            section.bad_value(key, format!("it cannot be read: {error}"));
            String::new()
        }
    }
}
