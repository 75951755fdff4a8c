//! What the load programs share: how they are called, how they end, and what they make of times.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// Longest wait for a connection, or for bytes of the server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the program: with what was counted, one line of JSON, or with a line about what went wrong.
pub(crate) fn end(counted: Result<serde_json::Value, String>) -> ExitCode {
    match counted {
        Ok(counted) => {
            println!("{counted}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// One word of the command line that begins with `--`, and the one behind it.
pub(crate) struct Flag {
    pub(crate) name: String,
    value: Option<String>,
    usage: &'static str,
}

impl Flag {
    /// All of them. Those in `switches` have no value.
    pub(crate) fn all(
        words: impl Iterator<Item = String>,
        switches: &'static [&str],
        usage: &'static str,
    ) -> impl Iterator<Item = Flag> {
        let mut words = words;
        std::iter::from_fn(move || {
            let name = words.next()?;
            let value = if switches.contains(&name.as_str()) { None } else { words.next() };
            Some(Flag { name, value, usage })
        })
    }

    /// Errors: there is none, for the person who typed it.
    pub(crate) fn text(self) -> Result<String, String> {
        self.value.ok_or_else(|| format!("`{}` takes a value; {}", self.name, self.usage))
    }

    /// Errors: it is no number.
    pub(crate) fn number(self) -> Result<u64, String> {
        self.parsed()
    }

    /// Errors: it is no address with a port.
    pub(crate) fn address(self) -> Result<SocketAddr, String> {
        self.parsed()
    }

    fn parsed<T: FromStr<Err: std::fmt::Display>>(self) -> Result<T, String> {
        let name = self.name.clone();
        let text = self.text()?;
        text.parse().map_err(|error| format!("{name} {text}: {error}"))
    }

    pub(crate) fn unknown(&self) -> String {
        format!("unknown flag `{}`; {}", self.name, self.usage)
    }
}

/// Of sorted values; 0 when there are none.
pub(crate) fn quantile(sorted: &[u32], share: f64) -> u32 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// In microseconds, as times are kept.
pub(crate) fn micros(time: Duration) -> u32 {
    time.as_micros().try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_values_of_their_kinds() {
        let flags = |words: &str| {
            let words: Vec<String> = words.split_whitespace().map(String::from).collect();
            Flag::all(words.into_iter(), &["--resume"], "usage: a program").collect::<Vec<_>>()
        };
        let mut all = flags("--resume --rate 7 --connect 127.0.0.1:9 --last").into_iter();
        assert_eq!(all.next().map(|flag| flag.name).as_deref(), Some("--resume"));
        assert_eq!(all.next().unwrap().number(), Ok(7));
        assert_eq!(all.next().unwrap().address().unwrap().port(), 9);
        assert_eq!(all.next().unwrap().text().unwrap_err(), "`--last` takes a value; usage: a program");
        assert!(flags("--rate x").remove(0).number().unwrap_err().starts_with("--rate x: "));
        assert_eq!(flags("--wrong 1")[0].unknown(), "unknown flag `--wrong`; usage: a program");
    }

    #[test]
    fn quantiles_of_few_values_are_among_them() {
        assert_eq!(quantile(&[], 0.99), 0);
        assert_eq!(quantile(&[7], 0.99), 7);
        assert_eq!(quantile(&(0..100).collect::<Vec<_>>(), 0.99), 99);
    }
}
