//! Texts with variables: their mistakes told at their places.

use std::ops::Range;

use crate::config::report::{Problem, Span};
use crate::config::section::Context;
use crate::config::suggest;
use crate::util::template::{Mistake, MistakeKind, Scope, Template, Variable};

/// Compiles `text`, whose value stands at `span`. Reports its mistakes, which are called `title`.
pub(super) fn template(
    cx: &Context<'_>,
    title: &str,
    text: &str,
    span: Option<Span>,
    scope: Scope<'_>,
) -> Option<Template> {
    let own = if scope.own.is_empty() { cx.own_names() } else { scope.own };
    let scope = Scope { own, ..scope };
    match Template::parse(text, scope) {
        Ok(template) => Some(template),
        Err(mistakes) => {
            for mistake in mistakes {
                let place = span.as_ref().map(|span| place(&mistake, text, span));
                cx.mistake(Problem::new(title, place, label(cx, &mistake.kind, scope)));
            }
            None
        }
    }
}

/// The place of a piece of `text`, as [`template`] takes it: with a byte more at each end.
pub(super) fn place_of(piece: &Range<usize>, text: &str, span: Option<&Span>) -> Option<Span> {
    let span = span?;
    let is_plain = span.len() == text.len() + 2;
    Some(if is_plain { span.start + piece.start..span.start + piece.end + 2 } else { span.clone() })
}

/// The mistake's own place, where the text stands in the file as it is: one quote around it and no escapes.
fn place(mistake: &Mistake, text: &str, span: &Span) -> Span {
    if span.len() == text.len() + 2 {
        span.start + 1 + mistake.at.start..span.start + 1 + mistake.at.end
    } else {
        span.clone()
    }
}

fn label(cx: &Context<'_>, kind: &MistakeKind, scope: Scope<'_>) -> String {
    let MistakeKind::Unknown(name) = kind else { return kind.to_string() };
    if cx.is_set_somewhere(name) {
        return format!("`${name}` is set in `variables` of another place alone: set it in [http] too, for all others");
    }
    let mut names: Vec<&str> = scope.captures.iter().filter_map(|name| name.as_deref()).collect();
    names.extend(scope.own.iter().chain(scope.set).map(|own| own.name.as_str()));
    Variable::names().for_each(|name| names.push(name));
    match suggest::nearest(name, names) {
        Some(near) => format!("`${name}` is not known: did you mean `${near}`?"),
        None => kind.to_string(),
    }
}
