//! No bytes make a check panic, and what it says of them can be shown.

use proptest::prelude::*;

use super::surroundings::in_its_table;
use super::*;

/// Compiles and, when there are mistakes, shows them; the compiled config is looked at too.
fn survives(text: &str) {
    match parse("any.toml", text, PROGRAMS) {
        Ok((config, warnings)) => {
            for listener in &config.listeners {
                match &listener.tcp {
                    None => assert!(listener.udp.is_some() || !listener.sites.is_empty()),
                    Some(tcp) => {
                        assert!(listener.sites.is_empty());
                        assert!(tcp.upstreams().iter().all(|upstream| *upstream < config.upstreams.len()));
                    }
                }
            }
            warnings.iter().for_each(|warning| drop(warning.render(true)));
        }
        Err(report) => {
            assert!(report.count() > 0);
            assert!(!report.render(false).is_empty() && !report.render(true).is_empty());
            assert_eq!(report.places().count(), report.count());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_never_panics(text in "(?s).{0,200}") {
        survives(&text);
    }

    #[test]
    fn values_never_panic(key in any::<prop::sample::Index>(), value in prop_oneof![
        "\"(?s)[^\"\\\\]{0,40}\"", "-?[0-9]{1,25}", "\\[[0-9, \"a-z:./*]{0,20}\\]", "(true|false|1.5|\\{\\}|\\[\\])",
        "\"[0-9]{1,22}[a-zA-Zµ]{0,4}\"", "\"[0-9,\\- ]{0,12}\"", "\"[$a-z:/\\[\\]*.0-9]{0,30}\"",
    ]) {
        let all: Vec<_> = described::all().collect();
        let key = all[key.index(all.len())];
        survives(&in_its_table(key, &format!("{} = {value}", key.name)));
    }

    #[test]
    fn a_changed_example_never_panics(changes in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..12, "(?s).{0,6}"), 1..6)) {
        let mut text: Vec<char> = include_str!("../../../examples/site.toml").chars().collect();
        for (at, cut, insert) in changes {
            let at = at.index(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, insert.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }
}
