//! Variables of the config's own, and conditions on variables: what nginx calls `map`, `geo`, `split_clients`, `set` and
//! `if`.
//!
//! Pure: what a request is worth comes in through [`Variables`]. The config holds plain descriptions ([`Lookup`],
//! [`Condition`]); [`Lookups`] are the same compiled for one thread, with the memory that matching takes. A value is found
//! when it is wanted and not before; nothing is allocated beyond the caller's buffer.
//!
//! The config sees to it that no variable is made of itself, and that one is not made of too many others.

mod condition;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod map;
mod set;
mod split;
#[cfg(any(test, feature = "fuzzing"))]
mod tables;

pub use self::condition::{Condition, Operator, Test, Written, all_hold};
pub use self::map::{MapKey, MapKeyError};
pub use self::set::SetVariables;
pub use self::split::{Share, Split};

use ipnet::IpNet;

use self::map::Map;
use crate::guard::network_map::NetworkMap;
use crate::util::captures::Captures;
use crate::util::template::{Encoding, Matched, Template, Variable, Variables};

/// A variable whose value is looked up: `[map.NAME]`, `[geo.NAME]`, `[split.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Its name, without `$`.
    pub name: String,
    /// What is looked up.
    pub from: Template,
    /// The table.
    pub values: Values,
    /// What it is worth when nothing in the table fits.
    pub default: Template,
}

/// The table of a [`Lookup`], in order of writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// By text: the whole text, the longest wildcard, the first expression.
    Map {
        /// The text is a host name: a dot at its end does not count.
        hostnames: bool,
        /// Texts of expressions may name their captures.
        values: Vec<(MapKey, Template)>,
    },
    /// By address: the smallest network.
    Geo(Vec<(IpNet, Template)>),
    /// By chance, the same for the same text.
    Split(Vec<(Share, Template)>),
}

impl Lookup {
    /// All that it may be worth.
    pub fn results(&self) -> impl Iterator<Item = &Template> {
        let (map, geo, split) = match &self.values {
            Values::Map { values, .. } => (values.as_slice(), &[][..], &[][..]),
            Values::Geo(values) => (&[][..], values.as_slice(), &[][..]),
            Values::Split(values) => (&[][..], &[][..], values.as_slice()),
        };
        let rows = map.iter().map(|(_, result)| result).chain(geo.iter().map(|(_, result)| result));
        rows.chain(split.iter().map(|(_, result)| result)).chain([&self.default])
    }
}

/// All lookups, compiled for one thread; the number of one is its place in the config.
#[derive(Debug, Default)]
pub struct Lookups(Vec<Compiled>);

#[derive(Debug)]
struct Compiled {
    from: Template,
    find: Find,
    /// In order of the table.
    results: Vec<Template>,
    default: Template,
    /// How captures are encoded.
    captures_like: Variable,
}

#[derive(Debug)]
enum Find {
    Map(Map),
    Geo(NetworkMap),
    Split(Split),
}

impl Lookups {
    /// Compiles them.
    pub fn new(lookups: &[Lookup]) -> Lookups {
        Lookups(lookups.iter().map(Compiled::new).collect())
    }

    /// Appends the value of the lookup with this number, encoded for its place.
    pub fn put(&self, number: u16, encoding: Encoding, variables: &dyn Variables, out: &mut Vec<u8>) {
        let Some(lookup) = self.0.get(usize::from(number)) else { return };
        let start = out.len();
        lookup.from.put(Encoding::Raw, variables, out);
        let (result, captures) = lookup.find(out, start);
        if captures.count() == 0 {
            out.truncate(start);
            return result.put_value(encoding, variables, None, out);
        }
        // The text stays until its captures have been copied.
        let end = out.len();
        let matched = Matched { start, captures: &captures, like: &lookup.captures_like };
        result.put_value(encoding, variables, Some(matched), out);
        out.drain(start..end);
    }
}

impl Compiled {
    fn new(lookup: &Lookup) -> Compiled {
        let find = match &lookup.values {
            Values::Map { hostnames, values } => Find::Map(Map::new(*hostnames, values)),
            Values::Geo(values) => Find::Geo(NetworkMap::new(values.iter().map(|(network, _)| *network))),
            Values::Split(values) => Find::Split(Split::new(values.iter().map(|(share, _)| *share))),
        };
        let mut results: Vec<Template> = lookup.results().cloned().collect();
        let default = results.pop().unwrap_or_default();
        Compiled { from: lookup.from.clone(), find, results, default, captures_like: captures_like(&lookup.from) }
    }

    /// What the text at `out[start..]` is worth; `out` is left as it is.
    fn find(&self, out: &mut Vec<u8>, start: usize) -> (&Template, Captures) {
        let found = match &self.find {
            Find::Map(map) => map.find(out, start),
            Find::Geo(networks) => {
                let address = std::str::from_utf8(&out[start..]).ok().and_then(|text| text.parse().ok());
                address.and_then(|address| networks.get(address)).map(|at| (at, Captures::NONE))
            }
            Find::Split(split) => split.find(&out[start..]).map(|at| (at, Captures::NONE)),
        };
        match found.and_then(|(at, captures)| Some((self.results.get(at)?, captures))) {
            Some(found) => found,
            None => (&self.default, Captures::NONE),
        }
    }
}

/// Captures of decoded text are encoded as the route's are; others as the one variable that they are a part of.
fn captures_like(from: &Template) -> Variable {
    // What another variable of the config is made of may be decoded, too.
    let is_decoded = |variable: &Variable| matches!(variable, Variable::Path | Variable::Capture(_) | Variable::Own(_));
    if from.variables().any(is_decoded) {
        return Variable::Capture(1);
    }
    let mut variables = from.variables();
    match (variables.next(), variables.next()) {
        (Some(only), None) => only.clone(),
        _ => Variable::Argument("".into()),
    }
}

#[cfg(test)]
mod tests;
