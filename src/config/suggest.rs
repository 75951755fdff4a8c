//! The nearest valid name for a misspelt one.

/// The candidate closest to `word`, when it is close enough to be what was meant.
///
/// One slip for every three letters is allowed, swapped neighbours count as one slip; upper and lower case, `-` and
/// `_` count as equal. Ties go to the first candidate.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words are no slips, and the distance takes time in proportion to both lengths.
    if word.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let word = plain(word);
    let slips_max = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(slips, candidate)| *slips <= slips_max && *slips < candidate.chars().count())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Whether one of the parts of `name`, which `_` separates, is meant by `word`: `timeut` is a slip of the last part of
/// `idle_timeout`.
pub(super) fn has_part(word: &str, name: &str) -> bool {
    word.len() > 3 && nearest(word, name.split('_').filter(|part| part.len() > 3)).is_some()
}

#[cfg(test)]
mod tests {
    use super::{has_part, nearest};

    #[test]
    fn finds_what_was_meant_and_nothing_far_away() {
        let keys = ["connect_timeout", "response_timeout", "tries", "backup"];
        for (word, expect) in [
            ("conect_timeout", Some("connect_timeout")),
            ("connect-timeout", Some("connect_timeout")),
            ("Tries", Some("tries")),
            ("trise", Some("tries")),
            ("bakcup", Some("backup")),
            ("x", None),
            ("", None),
            ("server_name", None),
        ] {
            assert_eq!(nearest(word, keys), expect, "{word}");
        }
        assert!(has_part("timeut", "idle_timeout") && !has_part("time", "idle_timeout") && !has_part("", "idle"));
        assert_eq!(nearest(&"a".repeat(100_000), keys), None);
    }
}
