//! `one-server app -- COMMAND`: one program, started and watched, without a config file.

use super::Failure;
use super::args::AppArgs;
use super::bad;
use crate::config::{self, Config};

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
    let list = |words: &[String]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
    let mut out =
        format!("[app.app]\ntype = \"process\"\ncommand = [{}]\ninstances = {}\n", list(&args.command), args.instances);
    if args.fd {
        out += "listen = \"fd\"\n";
    }
    if let Some(port) = args.first_port {
        out += &format!("first_port = {port}\n");
    }
    if let Some(path) = &args.ready_path {
        out += &format!("ready_path = {}\n", quoted(path));
    }
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
}
