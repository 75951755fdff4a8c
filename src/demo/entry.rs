//! One entry of the guest book, and the rules a new one has to keep.

use std::fmt;

use serde::Serialize;

/// Longest name, characters.
pub const NAME_CHARS_MAX: usize = 40;
/// Longest message, characters.
pub const MESSAGE_CHARS_MAX: usize = 500;

/// What somebody wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Rises with every entry.
    pub id: u64,
    /// Who wrote it.
    pub name: String,
    /// What they wrote; lines end in `\n`.
    pub message: String,
    /// When, milliseconds since 1970-01-01 UTC.
    pub written_ms: u64,
}

/// An entry that keeps the rules but has no id yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewEntry {
    pub(super) name: String,
    pub(super) message: String,
    pub(super) written_ms: u64,
}

/// Why a form was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NameMissing,
    NameTooLong,
    MessageMissing,
    MessageTooLong,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NameMissing => f.write_str("Please say who you are: the name is empty."),
            Refused::NameTooLong => write!(f, "The name is longer than {NAME_CHARS_MAX} characters."),
            Refused::MessageMissing => f.write_str("Please write something: the message is empty."),
            Refused::MessageTooLong => write!(f, "The message is longer than {MESSAGE_CHARS_MAX} characters."),
        }
    }
}

impl NewEntry {
    /// Checks what came from a form. Surrounding space goes, line ends become `\n`, other control characters go.
    /// Err: a part is empty or too long.
    pub(super) fn check(name: &str, message: &str, written_ms: u64) -> Result<NewEntry, Refused> {
        let name = clean(name, false);
        let message = clean(message, true);
        match (name.chars().count(), message.chars().count()) {
            (0, _) => Err(Refused::NameMissing),
            (_, 0) => Err(Refused::MessageMissing),
            (n, _) if n > NAME_CHARS_MAX => Err(Refused::NameTooLong),
            (_, n) if n > MESSAGE_CHARS_MAX => Err(Refused::MessageTooLong),
            _ => Ok(NewEntry { name, message, written_ms }),
        }
    }
}

/// Drops control characters, except line feeds where lines are wanted. Also drops the characters that turn the
/// direction of writing (U+202A to U+202E, U+2066 to U+2069), with which one entry could garble the next.
fn clean(text: &str, lines: bool) -> String {
    let keep = |c: &char| {
        (lines && *c == '\n') || !(c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    text.chars().filter(keep).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, message: &str) -> Result<(String, String), Refused> {
        NewEntry::check(name, message, 7).map(|entry| (entry.name, entry.message))
    }

    #[test]
    fn space_and_control_characters_go() {
        assert_eq!(check(" Ada\u{0} \n", "\r\none\r\ntwo\u{202e}\t "), Ok(("Ada".into(), "one\ntwo".into())));
    }

    #[test]
    fn limits_count_characters_not_bytes() {
        assert!(check(&"ä".repeat(NAME_CHARS_MAX), &"🦀".repeat(MESSAGE_CHARS_MAX)).is_ok());
        assert_eq!(check(&"a".repeat(NAME_CHARS_MAX + 1), "x"), Err(Refused::NameTooLong));
        assert_eq!(check("a", &"x".repeat(MESSAGE_CHARS_MAX + 1)), Err(Refused::MessageTooLong));
    }

    #[test]
    fn both_parts_are_needed() {
        assert_eq!(check(" \t", "x"), Err(Refused::NameMissing));
        assert_eq!(check("a", "\r\n"), Err(Refused::MessageMissing));
    }
}
