//! Conditions on variables, written as in nginx's `if`.
//!
//! `$name` (neither empty nor `0`), `!$name`, `$name = text`, `!=`, `$name ~ expression`, `~*` without regard to case, and
//! `!~`, `!~*`. Both sides of `=` may hold variables. [`Written`] takes such a text apart; the config compiles its sides.

use std::ops::Range;

use crate::util::pattern::Pattern;
use crate::util::template::{Encoding, Template, Variables};

/// A compiled condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is looked at.
    pub left: Template,
    /// What it is asked.
    pub test: Test,
    /// The answer is turned over.
    pub negated: bool,
}

/// What a text is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is neither empty nor `0`.
    IsTrue,
    /// It is this text, with regard to case.
    Is(Template),
    /// The expression matches somewhere in it.
    Matches(Pattern),
}

impl Condition {
    /// Whether it holds. `scratch` is memory.
    pub fn holds(&self, variables: &dyn Variables, scratch: &mut Vec<u8>) -> bool {
        scratch.clear();
        self.left.put(Encoding::Raw, variables, scratch);
        let holds = match &self.test {
            Test::IsTrue => !matches!(&scratch[..], b"" | b"0"),
            Test::Matches(pattern) => pattern.is_match(scratch),
            Test::Is(text) => {
                let end = scratch.len();
                text.put(Encoding::Raw, variables, scratch);
                scratch[..end] == scratch[end..]
            }
        };
        holds != self.negated
    }

    /// Whether it needs the captures of the route.
    pub fn uses_captures(&self) -> bool {
        self.left.uses_captures() || matches!(&self.test, Test::Is(text) if text.uses_captures())
    }
}

/// Whether all of them hold. `scratch` is memory.
pub fn all_hold(conditions: &[Condition], variables: &dyn Variables, scratch: &mut Vec<u8>) -> bool {
    conditions.iter().all(|condition| condition.holds(variables, scratch))
}

/// What stands between the sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Is,
    /// `~`
    Matches,
    /// `~*`
    MatchesAnyCase,
}

/// A condition taken apart; ranges are bytes of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// It begins with `!`, or its operator does.
    pub negated: bool,
    /// What is looked at, without quotes around it.
    pub left: Range<usize>,
    /// The operator and what follows it, without quotes around it.
    pub right: Option<(Operator, Range<usize>)>,
}

const OPERATORS: [(&str, bool, Operator); 6] = [
    ("=", false, Operator::Is),
    ("!=", true, Operator::Is),
    ("~", false, Operator::Matches),
    ("!~", true, Operator::Matches),
    ("~*", false, Operator::MatchesAnyCase),
    ("!~*", true, Operator::MatchesAnyCase),
];

impl Written {
    /// Takes `text` apart. Errors: what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Written, String> {
        let whole = trimmed(text, 0..text.len());
        let inner = &text[whole.clone()];
        if inner.is_empty() {
            return Err("it is empty: write one such as \"$name\", \"$name = text\" or \"$name ~ expression\"".into());
        }
        if inner.starts_with('(') && inner.ends_with(')') {
            return Err("write it without the brackets around it".into());
        }
        if let Some(test) = ["-f", "-d", "-e", "-x"].iter().find(|t| inner.trim_start_matches('!').starts_with(**t)) {
            return Err(format!("`{test}` is not known here: `try` of `files` looks for files"));
        }
        let operator = words(text, whole.clone()).find_map(|word| {
            let known = OPERATORS.iter().find(|(sign, ..)| *sign == &text[word.clone()])?;
            Some((word, known))
        });
        let Some((place, &(_, negated, operator))) = operator else {
            if let Some(wrong) =
                words(text, whole.clone()).find(|word| ["==", "eq", "!==", "=~"].contains(&&text[word.clone()]))
            {
                return Err(format!("`{}` is no operator: write =, !=, ~, ~*, !~ or !~*", &text[wrong]));
            }
            let negated = inner.starts_with('!');
            let left = trimmed(text, whole.start + usize::from(negated)..whole.end);
            return Ok(Written { negated, left: unquoted(text, left), right: None });
        };
        let left = unquoted(text, trimmed(text, whole.start..place.start));
        let right = unquoted(text, trimmed(text, place.end..whole.end));
        if left.is_empty() {
            return Err(format!("nothing stands in front of `{}`", &text[place]));
        }
        Ok(Written { negated, left, right: Some((operator, right)) })
    }
}

/// The range without white space at its ends.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let inside = &text[range.clone()];
    let start = range.start + (inside.len() - inside.trim_start().len());
    start..start + inside.trim().len()
}

/// The range without the quotes that stand around it.
fn unquoted(text: &str, range: Range<usize>) -> Range<usize> {
    let inside = &text[range.clone()];
    let is_quoted = |quote: char| inside.len() >= 2 && inside.starts_with(quote) && inside.ends_with(quote);
    if is_quoted('"') || is_quoted('\'') { range.start + 1..range.end - 1 } else { range }
}

/// What white space separates, but for what stands in quotes at the begin.
fn words(text: &str, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let first = text[range.clone()].chars().next().filter(|first| matches!(first, '"' | '\''));
    let closing = first.and_then(|quote| text[range.start + 1..range.end].find(quote));
    let mut at = closing.map_or(range.start, |length| range.start + 1 + length + 1);
    std::iter::from_fn(move || {
        let rest = &text[at..range.end];
        let start = at + (rest.len() - rest.trim_start().len());
        let length = text[start..range.end].find(char::is_whitespace).unwrap_or(range.end - start);
        at = start + length;
        (length > 0).then_some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn conditions_are_taken_apart_as_nginx_does() {
        let check = |text: &str, negated: bool, left: &str, right: Option<(Operator, &str)>| {
            let written = Written::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let found = written.right.map(|(operator, right)| (operator, &text[right]));
            assert_eq!((written.negated, &text[written.left], found), (negated, left, right), "{text}");
        };
        use Operator::*;
        check("$a", false, "$a", None);
        check(" !$a ", true, "$a", None);
        check("! $a", true, "$a", None);
        check("$a = b", false, "$a", Some((Is, "b")));
        check("$a != \"b c\"", true, "$a", Some((Is, "b c")));
        check("$a =", false, "$a", Some((Is, "")));
        check("$a = ''", false, "$a", Some((Is, "")));
        check("$a = = b", false, "$a", Some((Is, "= b")));
        check("$a ~ ^/x y$", false, "$a", Some((Matches, "^/x y$")));
        check("$a ~* \"bot|spider\"", false, "$a", Some((MatchesAnyCase, "bot|spider")));
        check("$a !~ x", true, "$a", Some((Matches, "x")));
        check("$a !~* x", true, "$a", Some((MatchesAnyCase, "x")));
        check("\"$a = $b\" = 'c = d'", false, "$a = $b", Some((Is, "c = d")));
        check("$a $b = c", false, "$a $b", Some((Is, "c")));
        check("'", false, "'", None);
    }

    #[test]
    fn what_is_refused_is_explained() {
        let check = |text: &str, expect: &str| {
            let error = Written::parse(text).unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("", "empty");
        check("  ", "empty");
        check("($a = b)", "brackets");
        check("-f $path", "looks for files");
        check("!-d $path", "looks for files");
        check("$a == b", "`==` is no operator");
        check("= b", "in front of `=`");
    }

    proptest! {
        #[test]
        fn any_text_is_a_condition_or_advice(text in "(?s)([$!=~*\"'a ]{1,2}|.){0,12}") {
            match Written::parse(&text) {
                Err(advice) => prop_assert!(!advice.is_empty()),
                Ok(written) => {
                    prop_assert!(text.get(written.left).is_some());
                    prop_assert!(written.right.is_none_or(|(_, right)| text.get(right).is_some()));
                }
            }
        }
    }
}
