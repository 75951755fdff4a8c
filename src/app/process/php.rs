//! The config of php-fpm for one instance. Source: the PHP manual, "FastCGI Process Manager (FPM)", "Configuration"; INI files as
//! parse_ini_file() takes them apart: between single quotes everything stands for itself.

use std::fmt::Write;
use std::time::Duration;

use crate::config::model::Php;

/// What php-fpm answers itself, with [`PONG`].
pub const PING_PATH: &str = "/one-server-ping";

/// The answer.
pub const PONG: &str = "pong";

/// The variable by which php-fpm learns of a socket that listens already, as it does when it starts itself anew (sapi/fpm,
/// fpm_sockets.c).
pub const SOCKETS_VARIABLE: &str = "FPM_SOCKETS";

/// Longest line that php-fpm passes on of what workers write, bytes.
const LINE_BYTES_MAX: u32 = 8192;

/// The file. Everything that is told goes to standard error; the environment is passed on to scripts.
///
/// The pool is called `name`, and listens at `socket`. Neither holds a `'` or a control character.
pub fn pool(name: &str, socket: &str, php: &Php) -> String {
    // One is left for checks, and for the moment in which another one is replaced.
    let children = php.workers + 1;
    let mut text = format!(
        "[global]\nerror_log = /proc/self/fd/2\nlog_limit = {LINE_BYTES_MAX}\ndaemonize = no\n[{name}]\nlisten = '{socket}'\n\
         pm = static\npm.max_children = {children}\nping.path = {PING_PATH}\nping.response = {PONG}\n\
         catch_workers_output = yes\ndecorate_workers_output = no\nclear_env = no\n"
    );
    let mut add = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a text takes everything");
    if let Some(requests) = php.worker_requests {
        add(format_args!("pm.max_requests = {requests}"));
    }
    if let Some(time) = php.terminate_timeout {
        add(format_args!("request_terminate_timeout = {}s", whole_seconds(time)));
    }
    if let Some(time) = php.slow_timeout {
        add(format_args!("request_slowlog_timeout = {}s\nslowlog = /proc/self/fd/2", whole_seconds(time)));
    }
    if let Some(bytes) = php.memory_bytes_max {
        add(format_args!("php_admin_value[memory_limit] = '{bytes}'"));
    }
    for (setting, value) in &php.ini {
        add(format_args!("php_admin_value[{setting}] = '{value}'"));
    }
    text
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// How much a line of php-fpm weighs for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// What happens anyway.
    Info,
    /// Something is not as it should be.
    Warn,
    /// It must be mended.
    Error,
}

/// Weighs a line: php-fpm writes `[time] LEVEL: text`, and workers that have just begun without the time. What scripts write is
/// theirs.
pub fn weigh(line: &str) -> Weight {
    let behind_time = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map(|(_, text)| text);
    let level = behind_time.unwrap_or(line).split_once(": ").map(|(level, _)| level);
    match level {
        Some("ERROR" | "ALERT") => Weight::Error,
        Some("WARNING") => Weight::Warn,
        _ => Weight::Info,
    }
}

/// What a worker says of a setting that PHP does not know, or not with that value (sapi/fpm, fpm_php.c). It goes on without it,
/// which may be a limit that somebody relies on.
const REFUSAL: &str = "ERROR: Unable to set php_admin_value ";

/// Why PHP does not take its config, for a person, if `line` says so.
pub fn refusal(line: &str) -> Option<String> {
    let (_, setting) = line.split_once(REFUSAL)?;
    Some(format!("PHP does not take the setting {}: see `ini`", setting.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_written() {
        let plain = Php {
            workers: 3,
            memory_bytes_max: None,
            ini: Vec::new(),
            worker_requests: None,
            terminate_timeout: None,
            slow_timeout: None,
        };
        let text = pool("blog", "/run/x y/blog.0.sock", &plain);
        assert!(
            text.contains("\n[blog]\nlisten = '/run/x y/blog.0.sock'\npm = static\npm.max_children = 4\n"),
            "{text}"
        );
        assert!(!text.contains("php_admin") && !text.contains("request_") && !text.contains("max_requests"), "{text}");
        let full = Php {
            memory_bytes_max: Some(64 << 20),
            ini: vec![("date.timezone".into(), "Europe/Vienna; ${x} \"y\"".into())],
            worker_requests: Some(500),
            terminate_timeout: Some(Duration::from_millis(1500)),
            slow_timeout: Some(Duration::from_secs(1)),
            ..plain
        };
        let text = pool("blog", "/s", &full);
        for line in [
            "pm.max_requests = 500",
            "request_terminate_timeout = 2s",
            "request_slowlog_timeout = 1s",
            "slowlog = /proc/self/fd/2",
            "php_admin_value[memory_limit] = '67108864'",
            "php_admin_value[date.timezone] = 'Europe/Vienna; ${x} \"y\"'",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}: {text}");
        }
    }

    #[test]
    fn a_setting_that_is_none_is_the_reason() {
        let reason = refusal("[27-Nov-2026 06:40:03] ERROR: Unable to set php_admin_value 'no.such'");
        assert_eq!(reason.as_deref(), Some("PHP does not take the setting 'no.such': see `ini`"));
        assert_eq!(refusal("[27-Nov-2026 06:40:03] ERROR: unable to open it"), None);
    }

    #[test]
    fn lines_of_the_manager_have_its_levels() {
        for (line, weight) in [
            ("[27-Nov-2026 06:40:01] NOTICE: fpm is running, pid 25389", Weight::Info),
            ("[27-Nov-2026 06:40:03] WARNING: [pool blog] child 25391 exited on signal 9 (SIGKILL)", Weight::Warn),
            ("[27-Nov-2026 06:40:03] ERROR: unable to open it", Weight::Error),
            ("ERROR: Unable to set php_admin_value 'no.such'", Weight::Error),
            ("NOTICE: PHP message: PHP Warning:  ERROR: x", Weight::Info),
            ("an ERROR of a script", Weight::Info),
            ("[", Weight::Info),
            ("", Weight::Info),
        ] {
            assert_eq!(weigh(line), weight, "{line}");
        }
    }
}
