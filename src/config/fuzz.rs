//! The property of config files that holds for any text, whatever it says. A target of `fuzz/` calls it with coverage
//! feedback; the test below runs it on every `cargo test`. It panics when the property does not hold.

use super::{Report, parse};

/// A text is a config, or what is wrong with it can be shown; a comment behind it changes neither.
pub fn text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let found = parse("fuzz.toml", text, &["hello"]);
    match &found {
        Ok((config, warnings)) => {
            assert!(config.listeners.iter().all(|listener| !listener.sites.is_empty()));
            warnings
                .iter()
                .for_each(|warning| assert!(!warning.title().is_empty() && !warning.render(true).is_empty()));
        }
        Err(report) => {
            assert!(report.count() > 0);
            assert!(!report.render(false).is_empty() && !report.render(true).is_empty());
        }
    }
    let again = parse("fuzz.toml", &format!("{text}\n# a comment\n"), &["hello"]);
    let count = |report: &Report| report.count();
    assert_eq!(found.as_ref().err().map(count), again.as_ref().err().map(count));
    if let (Ok((config, _)), Ok((again, _))) = (&found, &again) {
        assert_eq!(format!("{config:?}"), format!("{again:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn texts() {
        let pieces = [
            "\n",
            "=",
            "\"",
            "[",
            "]",
            "{",
            "}",
            ",",
            "[site.a]\n",
            "[[site.a.route]]\n",
            "path = \"/\"\n",
            "regex = \"(a|b)*$\"\n",
            "$1",
            "\\",
            "0",
            "-1",
            "true",
            "\"30s\"",
            "\u{e9}",
            "[listener.l]\naddress = \"127.0.0.1:0\"\n",
            "[map.m]\nfrom = \"$a\"\n",
            "values = { \"~(x)\" = \"$1$m\", \"10.0.0.0/8\" = \"$a\" }\n",
            "[geo.m]\n",
            "[split.a]\nfrom = \"$m\"\nshares = [\"5% $b\", \"* x\"]\n",
            "variables = { a = \"$m\", b = \"$a$http_x\" }\n",
            "when = [\"$m ~ x\", \"!$a\"]\n",
            "log_access = \"$status = 200\"\n",
        ];
        fuzz("config_text", text, &pieces);
    }
}
