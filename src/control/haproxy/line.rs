//! A line of the protocol: commands between semicolons, words between blanks, a backslash takes the next byte as it is. Pure.

/// Words of one command; the rest is nobody's.
pub(super) const WORDS_MAX: usize = 64;

/// Commands of one line, each with its words, perhaps none. `line` has no end of line. What is no UTF-8 is replaced.
pub(super) fn split(line: &[u8]) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = line.iter().copied();
    let end = |word: &mut Option<Vec<u8>>, commands: &mut Vec<Vec<String>>| {
        if let (Some(word), Some(words)) = (word.take(), commands.last_mut())
            && words.len() < WORDS_MAX
        {
            words.push(String::from_utf8_lossy(&word).into_owned());
        }
    };
    while let Some(byte) = bytes.next() {
        match byte {
            b';' => {
                end(&mut word, &mut commands);
                commands.push(Vec::new());
            }
            b' ' | b'\t' | b'\r' => end(&mut word, &mut commands),
            b'\\' => word.get_or_insert_default().extend(bytes.next()),
            byte => word.get_or_insert_default().push(byte),
        }
    }
    end(&mut word, &mut commands);
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&[&str]]) {
        assert_eq!(split(line.as_bytes()), expected, "{line:?}");
    }

    #[test]
    fn commands_and_words_are_where_haproxy_sees_them() {
        check("", &[&[]]);
        check("show stat", &[&["show", "stat"]]);
        check("  show \t stat \r", &[&["show", "stat"]]);
        check("a b;c;;d ;", &[&["a", "b"], &["c"], &[], &["d"], &[]]);
        check(r"get a\/b c\;d e\ f \\", &[&["get", "a/b", "c;d", "e f", r"\"]]);
        check(r"a \", &[&["a", ""]]);
        check("\"a b\"", &[&["\"a", "b\""]]);
        assert_eq!(split(b"\xff"), [["\u{fffd}"]]);
        assert_eq!(split("x ".repeat(100).as_bytes())[0].len(), WORDS_MAX);
    }
}
