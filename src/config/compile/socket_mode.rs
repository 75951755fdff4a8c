//! Permissions of the file of a Unix socket: who may write there may connect, unix(7).

use crate::config::section::Section;

/// Reads `key`; `default` where it is not written. `None`: it is no such thing, which has been reported.
pub(super) fn compile(section: &Section<'_>, key: &'static str, default: u32) -> Option<u32> {
    let written: Option<String> = section.find(key);
    let mode = written.as_deref().map_or(Some(default), parse);
    if mode.is_none() {
        section.bad_value(key, "write permissions in octal, for example \"660\"");
    }
    mode
}

/// Permissions as chmod(1) takes them; nothing beside the nine.
fn parse(text: &str) -> Option<u32> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777)
}
