//! The property of lines on the stats socket that holds for any input. A target of `fuzz/` calls it with coverage feedback; the
//! test below runs it on every `cargo test`. It panics when the property does not hold.

use super::LINE_BYTES_MAX;
use super::command::parse;
use super::line::{WORDS_MAX, split};
use crate::config::model::StatsLevel;

/// A line is some commands of some words; each is understood or refused, the same when its words are written again, and at a
/// level that may more it is never refused where one that may less is heard.
pub fn line(input: &[u8]) {
    let line = &input[..input.len().min(LINE_BYTES_MAX)];
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let commands = split(line);
    assert!(commands.len() <= line.len() + 1);
    let written: Vec<String> = commands.iter().map(|words| words.iter().map(|word| escaped(word)).collect()).collect();
    assert_eq!(split(written.join(";").as_bytes()), commands);
    for words in &commands {
        assert!(words.len() <= WORDS_MAX);
        let said = [StatsLevel::User, StatsLevel::Operator, StatsLevel::Admin].map(|level| parse(words, level));
        for pair in said.windows(2) {
            assert!(pair[0].is_err() || pair[0] == pair[1]);
        }
        for refusal in said.iter().filter_map(|said| said.as_ref().err()) {
            assert!(refusal.ends_with('\n'));
        }
    }
}

/// A word and the blank behind it.
fn escaped(word: &str) -> String {
    if word.is_empty() {
        return "\\".into();
    }
    let escape = |c: char| if matches!(c, ' ' | '\t' | '\r' | ';' | '\\') { vec!['\\', c] } else { vec![c] };
    word.chars().flat_map(escape).chain([' ']).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_that_comes_is_too_much() {
        let pieces = [
            "show ",
            "stat ",
            "info ",
            "servers ",
            "state ",
            "set ",
            "server ",
            "weight ",
            "maxconn ",
            "api/a ",
            "50% ",
            "-1 ",
            "help ",
            "prompt",
            ";",
            " ",
            "\\",
            "\\;",
            "\n",
            "\r",
            "timeout cli 9999999999999999999999d",
            "enable ",
            "health ",
        ];
        crate::testing::fuzz("haproxy_line", super::line, &pieces);
    }
}
