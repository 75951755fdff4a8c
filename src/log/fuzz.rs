//! The property of log formats that holds for any input, whatever it says. A target of `fuzz/` calls it with coverage
//! feedback; the test below runs it on every `cargo test`. It panics when the property does not hold.

use std::sync::{Arc, LazyLock};

use jiff::tz::TimeZone;

use super::format::{Formatter, Host};
use super::{Entry, Escape, Template};
use crate::config::{self, Config};

/// A format compiles or says where it is wrong; and whatever a client sends, a request is one line without control bytes.
/// The first byte of the input chooses the escape; the first line of the rest is the format, what follows is what the
/// client sent.
pub fn format(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let mut parts = rest.splitn(2, |&byte| byte == b'\n');
    let (text, sent) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(text) = std::str::from_utf8(text) else { return };
    let escape = [Escape::Default, Escape::Json, Escape::None][usize::from(choice % 3)];
    let template = match Template::new(text, escape) {
        Ok(template) => template,
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            assert!(mistakes.iter().all(|mistake| text.get(mistake.place.clone()).is_some()));
            return;
        }
    };
    let is_json = escape == Escape::Json && serde_json::from_str::<serde_json::Value>(&template.skeleton()).is_ok();
    let tabs = template.skeleton().matches('\t').count();
    let line = line(template, sent);
    let (end, line) = line.split_last().expect("never empty");
    assert_eq!(*end, b'\n');
    let controls = line.iter().filter(|byte| byte.is_ascii_control()).count();
    assert_eq!(controls, tabs, "{}", line.escape_ascii());
    if is_json {
        assert!(serde_json::from_slice::<serde_json::Value>(line).is_ok(), "{}", line.escape_ascii());
    }
}

/// The line of a request whose every text is `sent`.
fn line(template: Template, sent: &[u8]) -> Vec<u8> {
    static CONFIG: LazyLock<Config> = LazyLock::new(|| {
        let text = "[listener.l]\naddress = \"127.0.0.1:1\"\n[site.s]\n[[site.s.route]]\npath = \"/\"\nrespond = {}\n";
        config::parse("fuzz.toml", text, &[]).expect("a good config").0
    });
    let mut config = CONFIG.clone();
    config.log.format = Arc::new(template);
    let entry = Entry {
        remote_user: Some(sent),
        method: sent,
        target: sent,
        protocol: sent,
        referer: Some(sent),
        user_agent: Some(sent),
        host: Some(sent),
        remote_addr: b"192.0.2.1",
        ..Entry::default()
    };
    let host = Host { zone: TimeZone::UTC, name: "box".into(), pid: 42 };
    let mut out = Vec::new();
    Formatter::new(&config, 0, host).line(&mut out, &entry);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn formats() {
        let pieces = [
            "$",
            "${",
            "}",
            "%",
            "%{+Q}",
            "%[",
            "$status",
            "$request",
            "$remote_user",
            "$http_x",
            "%ST",
            "%r",
            "%{+Q}r",
            "\"",
            "{\"a\":",
            "}",
            "\t",
            "\n",
            "\r\n",
            "\\",
            "\u{7f}",
            "\u{2028}",
            "json",
            "haproxy",
        ];
        fuzz("log_format", format, &pieces);
    }
}
