//! The command line of the soak.

use std::path::PathBuf;
use std::time::Duration;

use crate::watch::Bounds;

const USAGE: &str = "usage: soak [--minutes N | --seconds N] [--warm-up SECONDS] [--clients N] [--server PATH] [--cores LIST] \
                     [--driver NAME] [--seed N] [--growth-max MIB]";

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Options {
    /// Of the load in all, the warm-up included.
    pub(crate) time: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) clients: usize,
    /// The program that is tried.
    pub(crate) server: PathBuf,
    /// Its `data_cores`.
    pub(crate) cores: String,
    /// Its `driver`.
    pub(crate) driver: String,
    pub(crate) seed: u64,
    pub(crate) bounds: Bounds,
}

impl Options {
    /// `Err` is a line for the person who typed it.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            time: Duration::from_secs(600),
            warm_up: Duration::ZERO,
            clients: 32,
            server: default_server(),
            cores: "auto".into(),
            driver: "auto".into(),
            seed: 1,
            bounds: Bounds::default(),
        };
        let mut warm_up = None;
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("`{flag}` takes a value; {USAGE}"))?;
            let number = || value.parse::<u32>().map_err(|e| format!("{flag} {value}: {e}"));
            match flag.as_str() {
                "--minutes" => options.time = Duration::from_secs(60 * u64::from(number()?)),
                "--seconds" => options.time = Duration::from_secs(number()?.into()),
                "--warm-up" => warm_up = Some(Duration::from_secs(number()?.into())),
                "--clients" => options.clients = number()?.max(1) as usize,
                "--server" => options.server = value.into(),
                "--cores" => options.cores = value,
                "--driver" => options.driver = value,
                "--seed" => options.seed = number()?.into(),
                "--growth-max" => options.bounds.memory_growth_max = u64::from(number()?) << 20,
                _ => return Err(format!("unknown flag `{flag}`; {USAGE}")),
            }
        }
        options.warm_up = warm_up.unwrap_or(options.time / 5).min(options.time);
        Ok(options)
    }
}

/// target/release/examples/soak → target/release/one-server
fn default_server() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().and_then(|examples| examples.parent()).unwrap_or(&own).join("one-server")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Options, String> {
        Options::parse(words.split_whitespace().map(String::from))
    }

    #[test]
    fn a_fifth_of_the_time_warms_up_unless_told_otherwise() {
        let warm_up = |words| parse(words).unwrap().warm_up.as_secs();
        assert_eq!(warm_up(""), 120);
        assert_eq!(warm_up("--seconds 30"), 6);
        assert_eq!(warm_up("--minutes 2 --warm-up 7"), 7);
        assert_eq!(warm_up("--seconds 3 --warm-up 7"), 3);
    }

    #[test]
    fn mistakes_are_named() {
        for (words, reason) in [("--minutes", "takes a value"), ("--minutes x", "--minutes x"), ("--what 1", "unknown")]
        {
            assert!(parse(words).unwrap_err().contains(reason), "{words}");
        }
    }
}
