//! `stats_socket` of `[process]`: where HAProxy's runtime protocol is spoken, and to whom.

use std::path::PathBuf;

use crate::config::model::{StatsLevel, StatsSocket};
use crate::config::report::Problem;
use crate::config::section::Section;

/// The owner alone.
const MODE_DEFAULT: u32 = 0o600;

pub(super) fn compile(section: &Section<'_>) -> Option<StatsSocket> {
    let path: Option<PathBuf> = section.find("stats_socket");
    let text: Option<String> = section.find("stats_socket_mode");
    let word: Option<&str> = section.find("stats_socket_level");
    let level = match word {
        Some("admin") => StatsLevel::Admin,
        Some("user") => StatsLevel::User,
        _ => StatsLevel::Operator,
    };
    let mode = text.as_deref().map_or(Some(MODE_DEFAULT), parse_mode);
    if mode.is_none() {
        section.bad_value("stats_socket_mode", "write permissions in octal, for example \"660\"");
    }
    for (key, is_written) in [("stats_socket_mode", text.is_some()), ("stats_socket_level", word.is_some())] {
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

/// Permissions as chmod(1) takes them; nothing beside the nine.
fn parse_mode(text: &str) -> Option<u32> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777)
}
