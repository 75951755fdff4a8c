//! `proxy` and `mirror` of a route: to which upstream.

use std::sync::Arc;

use super::{Names, Written, index_of, written};
use crate::config::compile::template::template;
use crate::config::key::Table;
use crate::config::model::{Action, Mirror, ProxyBy};
use crate::config::report::Problem;
use crate::config::section::Section;
use crate::util::template::{Own, Scope, Template, Variable};
use crate::variables::{Lookup, Share, Values};

/// The action of `proxy`: the name of an upstream, or a variable that is one.
pub(super) fn proxy(section: &Section<'_>, names: &Names<'_>, scope: Scope<'_>) -> Option<Action> {
    let text: String = section.find("proxy")?;
    if !text.contains('$') {
        let upstream = index_of(section, "upstream", names.upstreams, &text, section.value_span("proxy"))?;
        return Some(Action::Proxy(upstream));
    }
    let title = format!("bad value for `proxy` in {}", section.title);
    let name = template(section.cx, &title, &text, section.value_span("proxy"), scope)?;
    let looked_up = match name.variables().next() {
        Some(Variable::Own(Own::Lookup(number))) if name.is_one_variable() => {
            section.cx.defined.get().and_then(|defined| defined.lookups.get(usize::from(*number)))
        }
        _ => None,
    };
    let Some(lookup) = looked_up else {
        let label = "write the name of an upstream, or one variable of [map.NAME], [geo.NAME] or [split.NAME], of which it is known what it may be";
        section.bad_value("proxy", label);
        return None;
    };
    let upstreams = possible(section, names, lookup)?;
    Some(Action::ProxyBy(Arc::new(ProxyBy { name, upstreams })))
}

/// All upstreams that the variable may name; `None`: it may be something else, which is reported.
fn possible(section: &Section<'_>, names: &Names<'_>, lookup: &Lookup) -> Option<Vec<(String, usize)>> {
    let mut found: Vec<(String, usize)> = Vec::new();
    let mut is_good = true;
    let results: Vec<&Template> = lookup.results().collect();
    let (default, rows) = results.split_last()?;
    let rows = rows.iter().copied().chain(may_be_default(lookup).then_some(*default));
    for result in rows {
        let Some(name) = result.constant() else {
            let label =
                format!("`${}` may be made of other variables: only names of upstreams are possible", lookup.name);
            section.bad_value("proxy", label);
            return None;
        };
        if name.is_empty() {
            let label = match lookup.values {
                Values::Split(_) => format!("`${}` may be empty: let its last share be \"* NAME\"", lookup.name),
                _ => format!("`${}` may be empty: give it a `default`", lookup.name),
            };
            section.bad_value("proxy", label);
            is_good = false;
        } else if !found.iter().any(|(known, _)| known == name) {
            match index_of(section, "upstream", names.upstreams, name, section.value_span("proxy")) {
                Some(upstream) => found.push((name.into(), upstream)),
                None => is_good = false,
            }
        }
    }
    is_good.then_some(found)
}

/// Whether there are requests for which no row of the table counts.
fn may_be_default(lookup: &Lookup) -> bool {
    let Values::Split(rows) = &lookup.values else { return true };
    let has_rest = rows.iter().any(|(share, _)| *share == Share::Rest);
    !has_rest && rows.iter().map(|(share, _)| share.hundredths()).sum::<u32>() < 10_000
}

/// The upstream that gets copies; `None`: there is none, or it has mistakes.
pub(super) fn mirror(section: &Section<'_>, names: &Names<'_>) -> Option<Arc<Mirror>> {
    let written = written(section, "mirror", Table::Mirror)?;
    if section.item("proxy").is_none() && section.item("app").is_none() {
        let title = format!("`mirror` of a {} does nothing", section.title);
        let problem =
            Problem::new(title, section.key_span("mirror"), "requests are mirrored beside `proxy` and `app` alone");
        section.cx.mistake(problem);
        return None;
    }
    let of_table = |table: &Section<'_>| (table.get::<String>("share"), table.get("requests_max"));
    let (holder, key, to, (share, requests_max)) = match &written {
        Written::Short(to) => {
            (section, "mirror", Some((*to).to_owned()), of_table(&Section::absent(section.cx, Table::Mirror)))
        }
        Written::Table(table) => (table, "to", table.need("to"), of_table(table)),
    };
    let share = match Share::parse(&share) {
        Ok(Share::Hundredths(hundredths)) => hundredths,
        Ok(Share::Rest) => 10_000,
        Err(label) => {
            holder.bad_value("share", label);
            return None;
        }
    };
    let upstream = index_of(holder, "upstream", names.upstreams, &to?, holder.value_span(key))?;
    if let Some(protocol) = super::cgi::protocol(names, upstream) {
        holder.bad_value(key, format!("copies go to servers of HTTP alone, and its protocol is \"{protocol}\""));
        return None;
    }
    Some(Arc::new(Mirror { upstream, share, requests_max }))
}
