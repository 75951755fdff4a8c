//! Which servers of an upstream get requests, from what checks and live traffic found. Pure.
//!
//! Those that are up, but for one case: *panic*. When fewer than a share of the servers are up, and no backup is, what
//! was found is more likely to be wrong (a check that asks the wrong thing, a network between us and all of them), or the
//! few that are left would drown: then all get requests again. It is off by default, because then a server that refuses
//! connections gets some too; the retry rules carry those over. Source: Envoy, "Panic threshold".

/// What is known of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Passes its checks and is not ejected.
    pub up: bool,
    /// Used only while no other server is up.
    pub backup: bool,
}

/// Whether all servers get requests, whatever was found. `panic_percent` 0: never.
pub fn is_panic(servers: impl Iterator<Item = Standing>, panic_percent: u32) -> bool {
    let (mut all, mut up, mut backups_up) = (0u64, 0u64, 0u64);
    for server in servers {
        if server.backup {
            backups_up += u64::from(server.up);
        } else {
            all += 1;
            up += u64::from(server.up);
        }
    }
    backups_up == 0 && up * 100 < all * u64::from(panic_percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `U` and `D` are servers that are up and down, `u` and `d` backups.
    fn panics(servers: &str, percent: u32) -> bool {
        let standing = |c: char| Standing { up: c.eq_ignore_ascii_case(&'u'), backup: c.is_ascii_lowercase() };
        is_panic(servers.chars().map(standing), percent)
    }

    #[test]
    fn too_few_servers_without_a_backup_are_a_panic() {
        for (servers, percent, expected) in [
            ("UUUU", 50, false),
            ("UUDD", 50, false),
            ("UDDD", 50, true),
            ("DDDD", 50, true),
            ("DDDD", 0, false),
            ("UUUD", 100, true),
            ("UUUU", 100, false),
            ("DDDDu", 50, false),
            ("DDDDd", 50, true),
            ("D", 1, true),
        ] {
            assert_eq!(panics(servers, percent), expected, "{servers} {percent}");
        }
    }
}
