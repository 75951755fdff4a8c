//! Tables for tests and properties, written as in a config.

use super::*;
use crate::util::template::{Own, OwnName, Scope};

/// A request with one field, `$http_x`, and one path; lookups may use each other.
pub(super) struct Request<'a> {
    pub(super) lookups: Lookups,
    pub(super) value: &'a [u8],
}

impl Variables for Request<'_> {
    fn put(&self, _: &Variable, out: &mut Vec<u8>) {
        out.extend_from_slice(self.value);
    }

    fn put_own(&self, own: Own, encoding: Encoding, base: &dyn Variables, out: &mut Vec<u8>) {
        let Own::Lookup(number) = own else { return };
        self.lookups.put(number, encoding, base, out);
    }
}

/// `$one` and `$two`.
fn names() -> [OwnName; 2] {
    let name = |name: &str, number| OwnName { name: name.into(), own: Own::Lookup(number), in_answers: false };
    [name("one", 0), name("two", 1)]
}

pub(super) fn template(text: &str, captures: &[Option<String>]) -> Template {
    let own = names();
    Template::parse(text, Scope { captures, answer: true, own: &own, set: &[] })
        .unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"))
}

pub(super) fn map(name: &str, from: &str, hostnames: bool, rows: &[(&str, &str)], default: &str) -> Lookup {
    let row = |(key, result): &(&str, &str)| {
        let key = MapKey::parse(key, hostnames).expect("a key");
        let captures = match &key {
            MapKey::Regex(pattern) => pattern.capture_names(),
            _ => Vec::new(),
        };
        (key, template(result, &captures))
    };
    let values = Values::Map { hostnames, values: rows.iter().map(row).collect() };
    Lookup { name: name.into(), from: template(from, &[]), values, default: template(default, &[]) }
}

/// What `$one` is worth in a place.
pub(super) fn worth(lookups: &[Lookup], encoding: Encoding, value: &[u8]) -> Vec<u8> {
    let request = Request { lookups: Lookups::new(lookups), value };
    let mut out = b">".to_vec();
    template("$one", &[]).put(encoding, &request, &mut out);
    assert_eq!(out.remove(0), b'>', "what was there is left alone");
    out
}
