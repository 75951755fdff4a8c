//! What the process uses, from `/proc/self/stat` (proc(5)), under the names every Prometheus client library exposes.

use std::time::Duration;

/// CPU time and memory of the whole process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: u64,
    pub(crate) virtual_bytes: u64,
}

/// Reads it; `None` where /proc is not mounted. Two system calls on a file in memory.
pub(crate) fn read() -> Option<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    parse(&stat, rustix::param::clock_ticks_per_second(), rustix::param::page_size() as u64)
}

/// Fields 14, 15 (ticks in user and kernel mode), 23 (bytes) and 24 (pages). The name, field 2, may hold anything.
fn parse(stat: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Usage> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Usage {
        cpu: Duration::from_secs_f64((field(14)? + field(15)?) as f64 / ticks_per_second as f64),
        resident_bytes: field(24)? * page_bytes,
        virtual_bytes: field(23)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name_whatever_it_holds() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 4 0 99 4096000 25 0";
        let expected = Usage { cpu: Duration::from_secs(2), resident_bytes: 25 * 4096, virtual_bytes: 4_096_000 };
        assert_eq!(parse(stat, 100, 4096), Some(expected));
        assert_eq!(parse("7 (a", 100, 4096), None);
        assert_eq!(parse("7 (a) S 1 2", 100, 4096), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = read().unwrap();
        assert!(usage.resident_bytes > 1 << 20 && usage.virtual_bytes >= usage.resident_bytes, "{usage:?}");
    }
}
