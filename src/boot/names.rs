//! The names of servers at the start, before there is a control thread.

use std::io;

use crate::config::Config;
use crate::config::servers::Changes;
use crate::control::names::Watch;

/// The config with the servers that its names lead to and those that the operator wants, and who looks after them from then on. What does not resolve within
/// the time that `[resolver]` gives does not hold up the start.
///
/// Errors: the runtime for it cannot be had.
pub(super) fn resolve(config: Config, changes: &Changes) -> io::Result<(Config, Watch)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watch = runtime.block_on(Watch::start(&config));
    let answers = watch.answers();
    Ok((config.resolved(&answers, changes), watch))
}
