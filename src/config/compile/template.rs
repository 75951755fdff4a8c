//! Texts with variables: their mistakes told at their places.

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
    match Template::parse(text, scope) {
        Ok(template) => Some(template),
        Err(mistakes) => {
            for mistake in mistakes {
                let place = span.as_ref().map(|span| place(&mistake, text, span));
                cx.mistake(Problem::new(title, place, label(&mistake.kind, scope)));
            }
            None
        }
    }
}

/// The mistake's own place, where the text stands in the file as it is: one quote around it and no escapes.
fn place(mistake: &Mistake, text: &str, span: &Span) -> Span {
    if span.len() == text.len() + 2 {
        span.start + 1 + mistake.at.start..span.start + 1 + mistake.at.end
    } else {
        span.clone()
    }
}

fn label(kind: &MistakeKind, scope: Scope<'_>) -> String {
    let MistakeKind::Unknown(name) = kind else { return kind.to_string() };
    let mut names: Vec<&str> = scope.captures.iter().filter_map(|name| name.as_deref()).collect();
    Variable::names().for_each(|name| names.push(name));
    match suggest::nearest(name, names) {
        Some(near) => format!("`${name}` is not known: did you mean `${near}`?"),
        None => kind.to_string(),
    }
}
