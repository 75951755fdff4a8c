//! `one-server app -- COMMAND`: one program, started and watched, without a config file.

use super::Failure;
use super::args::AppArgs;
use super::bad;
use crate::config::{self, Config, Key, Kind, Table};

/// The config that such a file would make, with the same checks.
///
/// Errors: a command that cannot be started, or is not told where to listen.
pub(super) fn config(args: &AppArgs) -> Result<Config, Failure> {
    let (config, warnings) =
        config::parse_here("(flags)", &text(args), &args.tuning.0).map_err(|report| bad(&report))?;
    super::warn(&warnings);
    Ok(config)
}

fn text(args: &AppArgs) -> String {
    let mut out =
        format!("[app.app]\ntype = \"process\"\ncommand = {}\n", list(args.command.iter().map(String::as_str)));
    if args.fd {
        out += "listen = \"fd\"\n";
    }
    out.extend(args.app.0.iter().map(|(key, value)| line(key, value)));
    let variables: Vec<String> =
        args.env.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
    if !variables.is_empty() {
        out += &format!("environment = {{ {} }}\n", variables.join(", "));
    }
    for (at, address) in args.listen.iter().enumerate() {
        let name = if at == 0 { "app".to_owned() } else { format!("app-{}", at + 1) };
        out += &format!("[listener.{name}]\naddress = \"{address}\"\n");
    }
    out + "[site.app]\nroute = [{ path = \"/\", app = \"app\" }]\n"
}

/// The line that says what a flag does, whose value has been read already.
fn line(key: &Key, value: &str) -> String {
    let table = if key.table == Table::Health { "health." } else { "" };
    let value = match key.kind {
        Kind::List(_) => list(value.split(',').map(str::trim).filter(|entry| !entry.is_empty())),
        _ => quoted(value),
    };
    format!("{table}{} = {value}\n", key.name)
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", texts.map(quoted).collect::<Vec<_>>().join(", "))
}

/// A text of TOML: one of JSON is, but for a control character that JSON leaves as it is.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Arguments, Sub};
    use crate::config::model::{Action, Listening};

    fn made(flags: &[&str]) -> Result<Config, Failure> {
        let words = ["one-server", "app"].iter().chain(flags);
        let Some(Sub::App(args)) = Arguments::try_parse_from(words).expect("flags").command else { panic!() };
        config(&args)
    }

    #[test]
    fn flags_make_what_a_file_would() {
        let config = made(&[
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.2:0",
            "--instances",
            "3",
            "--env",
            "PORT={socket}",
            "--env",
            "A=\"b\\\"",
            "--",
            "sh",
            "-c",
            "a b \"c\"",
        ])
        .expect("a config");
        let process = &config.processes[0];
        assert_eq!(process.launch.words, ["sh", "-c", "a b \"c\""]);
        assert_eq!(process.launch.environment[1], ("A".into(), "\"b\\\"".into()));
        assert_eq!((process.launch.listening, process.rules.instances), (Listening::Socket, 3));
        assert_eq!((config.listeners.len(), config.upstreams[0].servers.len()), (2, 4));
        assert!(matches!(config.sites[0].routes[0].action, Action::Proxy(0)));
        let by_port = made(&["--first-port", "9000", "--", "sh"]).expect("a config");
        assert_eq!(by_port.upstreams[0].servers[1].address.to_string(), "127.0.0.1:9001");
        assert_eq!(made(&["--fd", "--", "sh"]).expect("a config").processes[0].launch.listening, Listening::Descriptor);
        assert!(made(&["--", "sh"]).unwrap_err().text.contains("is not told where to listen"));
        assert!(made(&["--fd", "--", "no-such-program"]).unwrap_err().text.contains("in no folder of PATH"));
    }

    #[test]
    fn flags_set_what_a_file_sets() {
        let flags = "--fd --directory / --user daemon --group daemon --instances 2 --surge 2 --requests-max 7 \
                     --ready-path /ready --start-timeout 3s --instance-drain-timeout 4s --kill-timeout 5s --restart-requests 100 \
                     --restart-memory 1GiB --restart-age 1h --restart-on-timeout --backoff 1s --backoff-max 6s \
                     --backoff-reset 7s --failures-max 8 --failed-retry 9s --open-files 321 --processes-max 12 \
                     --address-space-max 2GiB --output-line-max 1KiB --output-rate 10 --response-timeout 11s --queue-max 13 \
                     --balance least-conn --tries 1 --retry-on timeout,503 --upgrade= --health-path /healthz --drain-timeout 14s \
                     --listen 127.0.0.1:0 -- sh";
        let by_flags = made(&flags.split_whitespace().collect::<Vec<_>>()).expect("a config");
        let text = r#"
            [app.app]
            type = "process"
            command = ["sh"]
            listen = "fd"
            directory = "/"
            user = "daemon"
            group = "daemon"
            instances = 2
            surge = 2
            requests_max = 7
            ready_path = "/ready"
            start_timeout = "3s"
            drain_timeout = "4s"
            kill_timeout = "5s"
            restart_requests = 100
            restart_memory = "1GiB"
            restart_age = "1h"
            restart_on_timeout = true
            backoff = "1s"
            backoff_max = "6s"
            backoff_reset = "7s"
            failures_max = 8
            failed_retry = "9s"
            open_files = 321
            processes_max = 12
            address_space_max = "2GiB"
            output_line_max = "1KiB"
            output_rate = 10
            response_timeout = "11s"
            queue_max = 13
            balance = "least-conn"
            tries = 1
            retry_on = ["timeout", "503"]
            upgrade = []
            health = { path = "/healthz" }
            [process]
            drain_timeout = "14s"
            [listener.app]
            address = "127.0.0.1:0"
            [site.app]
            route = [{ path = "/", app = "app" }]
        "#;
        let (by_file, _) = config::parse_here("file", text, &config::Overrides::default()).expect("a config");
        assert_eq!(format!("{by_flags:?}"), format!("{by_file:?}"));
        // What is wrong with several of them together is told as of a file.
        for (flags, told) in [
            ("--user daemon -- sh {socket}", "`user` of [app.app] cannot be reached at its socket"),
            ("--fd --user no-such-user -- sh", "no user `no-such-user`"),
            ("--fd --group daemon -- sh", "add `user`: the group is that of a user"),
            ("--fd --backoff 1m -- sh", "it is longer than `backoff_max`"),
            ("--fd --directory /no/such/folder -- sh", "/no/such/folder is not a folder"),
            ("--first-port 65535 --instances 2 -- sh", "3 ports from it on are needed"),
            ("--fd --retry-on nonsense -- sh", "nonsense"),
        ] {
            let text = made(&flags.split_whitespace().collect::<Vec<_>>()).expect_err(flags).text;
            assert!(text.contains(told) && text.contains("(flags): 1 mistake"), "{flags}: {text}");
        }
    }
}
