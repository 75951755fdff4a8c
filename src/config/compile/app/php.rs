//! `type = "php"`: what php-fpm is told, and how its upstream is spoken to.

use std::path::PathBuf;
use std::time::Duration;

use toml_edit::Item;

use crate::config::keys::INI_OF_PHP;
use crate::config::model::{Php, Protocol, Upstream};
use crate::config::report::Problem;
use crate::config::section::{Placed, Section, type_name};
use crate::proxy::gateway::Form;

/// What stands for `command`. Reports that there is none.
pub(super) fn command(section: &Section<'_>) -> Vec<Placed<String>> {
    let found = match section.cx.outside {
        Some(outside) => outside.find_php(),
        None => Some(PathBuf::from("php-fpm")),
    };
    let Some(program) = found.and_then(|path| path.into_os_string().into_string().ok()) else {
        let title = format!("no php-fpm for {}", section.title);
        let label =
            "install it, such as by `apt-get install php-fpm`, or say where it is: command = [\"/path/to/php-fpm\"]";
        section.cx.mistake(Problem::new(title, section.span.clone(), label));
        return Vec::new();
    };
    vec![Placed { value: program, span: section.span.clone() }]
}

/// The pool.
pub(super) fn pool(section: &Section<'_>) -> Php {
    Php {
        workers: section.get("workers"),
        memory_bytes_max: section.find("memory_limit"),
        ini: ini(section),
        worker_requests: section.find("worker_requests"),
        terminate_timeout: section.find("terminate_timeout"),
        slow_timeout: section.find("slow_timeout"),
    }
}

/// Longest time that a connection is kept without a request.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Its upstream is one of FastCGI. A connection that is kept holds a process: there are no more of them than requests at once, so
/// that none keeps a request waiting that comes on another one, and each request is announced, so that none waits for a script
/// that goes on behind its answer.
pub(super) fn speak_fastcgi(upstream: &mut Upstream, php: &Php, section: &Section<'_>) {
    upstream.protocol = Protocol::Gateway(Form::FastCgi);
    let wanted = section.item("keep_idle").map_or(usize::MAX, |_| section.get("keep_idle"));
    upstream.keep_idle = wanted.min(php.workers as usize);
    upstream.announces = upstream.keep_idle > 0;
    // php-fpm counts the time without a request as the next one's.
    let limits = [php.terminate_timeout, php.slow_timeout].into_iter().flatten();
    upstream.keep_idle_timeout = limits.map(|limit| limit / 10).fold(IDLE_MAX, Duration::min);
    if let Some(health) = &mut upstream.health {
        health.protocol = upstream.protocol;
    }
}

fn ini(section: &Section<'_>) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    for (name, value, span) in section.entries("ini", INI_OF_PHP) {
        let refuse = |span, label: String| {
            let title = format!("bad setting `{name}` in ini of {}", section.title);
            section.cx.mistake(Problem::new(title, span, label));
        };
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        match setting(value) {
            _ if !is_name => refuse(span, "a name has letters, digits, `_`, `.` and `-`".into()),
            _ if name == "memory_limit" && section.item("memory_limit").is_some() => {
                refuse(span, "the key `memory_limit` is there too: keep one of the two".into());
            }
            Some(text) if text.contains(|c: char| c == '\'' || c.is_control()) => {
                refuse(value.span().or(span), "php-fpm takes no `'` and no control characters in it".into());
            }
            Some(text) => settings.push((name.to_owned(), text)),
            None => refuse(value.span().or(span), format!("it is {}: write a text", type_name(value))),
        }
    }
    settings
}

/// The text of a value, as PHP takes it.
fn setting(value: &Item) -> Option<String> {
    let number = || value.as_integer().map(|number| number.to_string());
    let switch = || value.as_bool().map(|on| if on { "1" } else { "0" }.to_owned());
    value.as_str().map(str::to_owned).or_else(number).or_else(switch)
}
