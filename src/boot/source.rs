//! Where the config came from.

use std::path::{Path, PathBuf};

use crate::config::{self, Config, Overrides, Report, Warning};

/// The file that a config was read from, and the flags that win over it.
#[derive(Clone, Debug)]
pub struct Source {
    file: PathBuf,
    programs: Vec<String>,
    flags: Overrides,
}

impl Source {
    /// `programs` are the names that `[app.NAME]` may use. The file is found again whatever the working directory is.
    pub fn new(file: &Path, programs: &[&str], flags: Overrides) -> Source {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        Source { file, programs: programs.iter().map(|&name| name.to_owned()).collect(), flags }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Reads the file. Errors: every mistake in it, or why it cannot be read.
    pub(super) fn load(&self) -> Result<(Config, Vec<Warning>), Report> {
        let programs: Vec<&str> = self.programs.iter().map(String::as_str).collect();
        config::load_again(&self.file, &programs, &self.flags)
    }
}
