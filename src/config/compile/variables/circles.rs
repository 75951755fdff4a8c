//! What variables of the config's own are made of: none of itself, and none of too many others, so that no client can make
//! one take long.

use std::collections::HashMap;

use super::own_of;
use crate::config::compile::Named;
use crate::config::report::{Problem, Span};
use crate::config::section::Context;
use crate::util::template::{Own, OwnName, Template, Variable};
use crate::variables::{Lookup, SetVariables};

/// Most variables of its own kind that one may be made of, counted as often as they are evaluated.
const PARTS_MAX: u32 = 100;

/// What is known of a variable.
#[derive(Clone, Copy)]
struct Made {
    /// Variables evaluated for it, itself included.
    parts: u32,
    /// Something of the answer is among them.
    in_answers: bool,
}

/// Why a variable cannot be evaluated.
enum Trouble {
    /// It comes round to the first of these.
    Circle(Vec<Own>),
    TooMany,
}

/// All variables that may be made of each other, in one place of the config.
struct Graph<'a> {
    lookups: &'a [Lookup],
    set: &'a SetVariables,
    known: HashMap<Own, Made>,
}

impl Graph<'_> {
    /// `path` leads here.
    fn made(&mut self, own: Own, path: &mut Vec<Own>) -> Result<Made, Trouble> {
        if let Some(made) = self.known.get(&own) {
            return Ok(*made);
        }
        if let Some(at) = path.iter().position(|before| *before == own) {
            return Err(Trouble::Circle(path[at..].to_vec()));
        }
        if path.len() > PARTS_MAX as usize {
            return Err(Trouble::TooMany);
        }
        path.push(own);
        let made = self.made_of_parts(own, path);
        path.pop();
        if let Ok(made) = made {
            self.known.insert(own, made);
        }
        made
    }

    fn made_of_parts(&mut self, own: Own, path: &mut Vec<Own>) -> Result<Made, Trouble> {
        let mut all = Made { parts: 1, in_answers: false };
        let (lookups, set) = (self.lookups, self.set);
        match own {
            Own::Set(number) => {
                if let Some(value) = set.value(number) {
                    let made = self.sum(value, path)?;
                    all = Made { parts: all.parts + made.parts, in_answers: made.in_answers };
                }
            }
            Own::Lookup(number) => {
                let Some(lookup) = lookups.get(usize::from(number)) else { return Ok(all) };
                let from = self.sum(&lookup.from, path)?;
                // One of the results is evaluated.
                let mut largest = 0;
                for result in lookup.results() {
                    let made = self.sum(result, path)?;
                    largest = largest.max(made.parts);
                    all.in_answers |= made.in_answers;
                }
                all.parts += from.parts + largest;
                all.in_answers |= from.in_answers;
            }
        }
        if all.parts > PARTS_MAX { Err(Trouble::TooMany) } else { Ok(all) }
    }

    /// What evaluating a text takes.
    fn sum(&mut self, template: &Template, path: &mut Vec<Own>) -> Result<Made, Trouble> {
        let in_answers = template.variables().any(Variable::is_of_answer);
        let mut sum = Made { parts: 0, in_answers };
        for own in own_of(template) {
            let made = self.made(own, path)?;
            // Each is at most the limit, and a text is shorter than the rest of a u32.
            sum.parts = sum.parts.saturating_add(made.parts);
            sum.in_answers |= made.in_answers;
        }
        Ok(sum)
    }
}

/// Reports lookups that are made of themselves or of too many others; says in `names` which are made of answers.
pub(super) fn report_among_lookups(cx: &Context<'_>, drafts: &[Named<'_>], lookups: &[Lookup], names: &mut [OwnName]) {
    let set = SetVariables::default();
    let mut graph = Graph { lookups, set: &set, known: HashMap::new() };
    for (at, draft) in drafts.iter().enumerate().take(names.len()) {
        match graph.made(names[at].own, &mut Vec::new()) {
            Ok(made) => names[at].in_answers = made.in_answers,
            Err(trouble) => {
                let own = names[at].own;
                report(cx, &draft.section.title, own, &trouble, draft.span.clone(), names);
            }
        }
    }
}

/// Reports variables that are made of themselves or of too many others because of `own`, which this level sets.
pub(super) fn report_among_set(cx: &Context<'_>, title: &str, set: &SetVariables, own: &[(Own, Option<Span>)]) {
    let Some(defined) = cx.defined.get() else { return };
    let mut graph = Graph { lookups: &defined.lookups, set, known: HashMap::new() };
    let names: Vec<OwnName> = defined.names.iter().chain(set.names()).cloned().collect();
    for name in set.names() {
        let Err(trouble) = graph.made(name.own, &mut Vec::new()) else { continue };
        let is_part = |part: &Own| match &trouble {
            Trouble::Circle(circle) => circle.contains(part),
            Trouble::TooMany => *part == name.own,
        };
        // One that is set above may come round only because of one that is set here.
        if let Some((_, span)) = own.iter().find(|(part, _)| is_part(part)) {
            report(cx, &format!("variables of {title}"), name.own, &trouble, span.clone(), &names);
        }
    }
}

fn report(cx: &Context<'_>, place: &str, own: Own, trouble: &Trouble, span: Option<Span>, names: &[OwnName]) {
    let position = |wanted: Own| names.iter().position(|known| known.own == wanted);
    let name = |wanted: Own| position(wanted).map_or("", |at| names[at].name.as_str());
    let (title, label) = match trouble {
        Trouble::Circle(circle) => {
            // Told once, at the first of them.
            let is_alike = |other: &&Own| matches!(other, Own::Set(_)) == matches!(own, Own::Set(_));
            let first = circle.iter().filter(is_alike).min_by_key(|other| position(**other));
            if !circle.contains(&own) || first != Some(&own) {
                return;
            }
            let round: Vec<String> = circle.iter().chain([&own]).map(|own| format!("`${}`", name(*own))).collect();
            (format!("`${}` in {place} is made of itself", name(own)), round.join(" is made of "))
        }
        Trouble::TooMany => (
            format!("`${}` in {place} is made of too many variables", name(own)),
            format!("at most {PARTS_MAX} may be looked up for one"),
        ),
    };
    cx.mistake(Problem::new(title, span, label));
}
