//! The access log.

use std::path::PathBuf;
use std::sync::Arc;

/// Access log.
#[derive(Clone, Debug)]
pub struct Log {
    /// Where lines go, but for sites that say otherwise; `None`: no access log.
    pub access: Option<LogTarget>,
    /// What each site says, in the order of [`Config::sites`](super::Config::sites). A site beyond its end is as [`SiteLog::Default`].
    pub sites: Vec<SiteLog>,
    /// Form of a line.
    pub format: Arc<crate::log::Template>,
    /// The same for connections in TCP mode.
    pub tcp_format: Arc<crate::log::Template>,
}

/// Where the lines of one site go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SiteLog {
    /// Where [`Log::access`] says.
    #[default]
    Default,
    /// Nowhere.
    Off,
    /// To a log of its own.
    To(LogTarget),
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to, created with mode 0640.
    File(PathBuf),
}

impl std::fmt::Display for LogTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogTarget::Stdout => f.write_str("stdout"),
            LogTarget::File(path) => path.display().fmt(f),
        }
    }
}
