//! `stats_socket` of `[process]`: where HAProxy's runtime protocol is spoken, and to whom.

use std::path::PathBuf;

use super::socket_mode;
use crate::config::model::{StatsLevel, StatsSocket};
use crate::config::report::Problem;
use crate::config::section::Section;

/// The owner alone.
const MODE_DEFAULT: u32 = 0o600;

pub(super) fn compile(section: &Section<'_>) -> Option<StatsSocket> {
    let path: Option<PathBuf> = section.find("stats_socket");
    let word: Option<&str> = section.find("stats_socket_level");
    let level = match word {
        Some("admin") => StatsLevel::Admin,
        Some("user") => StatsLevel::User,
        _ => StatsLevel::Operator,
    };
    let mode = socket_mode::compile(section, "stats_socket_mode", MODE_DEFAULT);
    let has_mode = section.item("stats_socket_mode").is_some();
    for (key, is_written) in [("stats_socket_mode", has_mode), ("stats_socket_level", word.is_some())] {
        if path.is_none() && is_written && !section.may_be_misspelt(&["stats_socket"]) {
            section.bad_value(key, "add `stats_socket`: it is about that one");
        }
    }
    let socket = StatsSocket { path: path?, mode: mode?, level };
    if socket.mode & 0o002 != 0 && level == StatsLevel::Admin {
        let title = "everybody on this machine may change servers through `stats_socket`";
        let label = "leave out what others may, for example \"660\", or write stats_socket_level = \"operator\"";
        section.cx.warn(Problem::new(title, section.value_span("stats_socket_mode"), label));
    }
    Some(socket)
}
