//! Whether a primary tells its sessions which transactions they have written. Where it does not, no read on a replica can be
//! shown to be fresh, and all of them stay on the primary. Pure.

use std::fmt;

/// Why it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoGtids {
    /// It keeps no binary log.
    BinaryLog,
    /// MySQL: its transactions get no GTIDs.
    Mode(String),
    /// It refuses the session trackers, with this message.
    Trackers(String),
}

/// What was seen of a primary.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// `log_bin`
    pub log_bin: bool,
    /// `gtid_mode` of MySQL; MariaDB has none.
    pub gtid_mode: Option<&'a str>,
    /// What it said to the session trackers.
    pub trackers: Result<(), &'a str>,
}

/// `None`: it tells.
pub fn check(seen: Seen<'_>) -> Option<NoGtids> {
    match seen {
        Seen { trackers: Err(message), .. } => Some(NoGtids::Trackers(message.into())),
        Seen { log_bin: false, .. } => Some(NoGtids::BinaryLog),
        // ON_PERMISSIVE: replicas still take others, but new ones have GTIDs.
        Seen { gtid_mode: Some(mode), .. } if !mode.to_ascii_uppercase().starts_with("ON") => {
            Some(NoGtids::Mode(mode.into()))
        }
        Seen { .. } => None,
    }
}

/// Why, and what to do about it.
impl fmt::Display for NoGtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoGtids::BinaryLog => f.write_str("it keeps no binary log: start it with log_bin"),
            NoGtids::Mode(mode) => {
                write!(f, "gtid_mode is {mode}: set it to ON, and enforce_gtid_consistency before it")
            }
            NoGtids::Trackers(message) => {
                write!(f, "it refuses session trackers ({message}): MySQL 5.7 and MariaDB 10.2 or later have them")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let well = Seen { log_bin: true, gtid_mode: None, trackers: Ok(()) };
        assert_eq!(check(well), None);
        for mode in ["ON", "ON_PERMISSIVE", "on"] {
            assert_eq!(check(Seen { gtid_mode: Some(mode), ..well }), None);
        }
        for mode in ["OFF", "OFF_PERMISSIVE"] {
            assert_eq!(check(Seen { gtid_mode: Some(mode), ..well }), Some(NoGtids::Mode(mode.into())));
        }
        assert_eq!(check(Seen { log_bin: false, ..well }), Some(NoGtids::BinaryLog));
        let refused = Seen { trackers: Err("Unknown system variable"), log_bin: false, ..well };
        assert!(check(refused).unwrap().to_string().contains("Unknown system variable"));
    }
}
