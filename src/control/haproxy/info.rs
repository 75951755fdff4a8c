//! `show info`: the process.
//!
//! Only what has a true value here. Two that hatop cannot do without have the nearest one: `Tasks` are client connections, each of
//! which is served by a task, and `Run_queue` are requests that wait for a server.

use super::rates::Rates;
use super::{Format, Value, json_field};
use crate::control::Shared;
use crate::control::shared::{Phase, unix_ms};
use crate::metrics::Worker;

/// Position and name in HAProxy 2.6, tags (origin, nature, scope), type, value.
type Line = (usize, &'static str, &'static str, &'static str, Value);

pub(super) fn show(shared: &Shared, rates: &Rates, format: Format) -> String {
    let lines = lines(shared, rates);
    match format {
        Format::Plain => lines.iter().map(|(_, name, .., value)| format!("{name}: {value}\n")).collect(),
        Format::Typed => {
            let line = |(at, name, tags, kind, value): &Line| format!("{at}.{name}.1:{tags}:{kind}:{value}\n");
            lines.iter().map(line).collect()
        }
        Format::Json => {
            let field = |(at, name, tags, kind, value): &Line| json_field("", *at, name, tags, kind, value);
            let fields: Vec<String> = lines.iter().map(field).collect();
            format!("[{}]\n", fields.join(","))
        }
    }
}

fn lines(shared: &Shared, rates: &Rates) -> Vec<Line> {
    let rates = rates.of_process();
    let sum = |read: &dyn Fn(&Worker) -> u64| shared.workers.iter().map(|worker| read(worker)).sum::<u64>();
    let clients = sum(&|w| w.splitters.iter().map(|splitter| splitter.clients.value()).sum());
    let connections = sum(&|w| w.http.connections.value()) + clients;
    let accepted =
        sum(&|w| w.http.accepted.value() + w.splitters.iter().map(|splitter| splitter.accepted.value()).sum::<u64>());
    let waiting = sum(&|w| w.upstreams.iter().map(|upstream| upstream.queue.value()).sum());
    let facts = shared.facts.get();
    let version = facts.map_or(env!("CARGO_PKG_VERSION"), |facts| facts.version.as_str());
    let open_files = facts.and_then(|facts| facts.limits.iter().find(|(name, _)| *name == "open_files"));
    let open_files = open_files.map_or(0, |(_, value)| *value);
    let listeners = facts.map_or(0, |facts| facts.listeners.len());
    let limit = shared.config.process.connections_max;
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let node = if node.trim().is_empty() { "-" } else { node.trim() };
    let seconds = shared.started.elapsed().as_secs();
    vec![
        (0, "Name", "POS", "str", "one-server".into()),
        (1, "Version", "POS", "str", version.into()),
        // A program has none in it: the same source makes the same bytes on any day.
        (2, "Release_date", "POS", "str", "-".into()),
        (3, "Nbthread", "CGS", "u32", (shared.workers.len() + shared.app_workers.len()).into()),
        (4, "Nbproc", "CGS", "u32", 1u32.into()),
        (5, "Process_num", "KGP", "u32", 1u32.into()),
        (6, "Pid", "SGP", "u32", std::process::id().into()),
        (7, "Uptime", "MDP", "str", uptime(seconds).into()),
        (8, "Uptime_sec", "MDP", "u32", seconds.into()),
        (13, "Ulimit-n", "CLP", "u32", open_files.into()),
        (14, "Maxsock", "CLP", "u32", open_files.into()),
        (15, "Maxconn", "CLP", "u32", limit.into()),
        (16, "Hard_maxconn", "CLP", "u32", limit.into()),
        (17, "CurrConns", "MGP", "u32", connections.into()),
        (18, "CumConns", "MCP", "u32", accepted.into()),
        (19, "CumReq", "MCP", "u32", sum(&|w| w.http.responses.iter().map(|class| class.value()).sum()).into()),
        (22, "CumSslConns", "MCP", "u32", sum(&|w| w.tls.handshakes.value()).into()),
        (23, "Maxpipes", "CLP", "u32", (shared.config.process.pipes_max * shared.workers.len()).into()),
        // As they were up to a tick ago.
        (24, "PipesUsed", "MGP", "u32", sum(&|w| w.pipes_used.value()).into()),
        (25, "PipesFree", "MGP", "u32", sum(&|w| w.pipes_free.value()).into()),
        (26, "ConnRate", "MRP", "u32", rates.sessions.into()),
        (28, "MaxConnRate", "MMP", "u32", rates.sessions_max.into()),
        // A connection is a session here.
        (29, "SessRate", "MRP", "u32", rates.sessions.into()),
        (31, "MaxSessRate", "MRP", "u32", rates.sessions_max.into()),
        (47, "Tasks", "MGP", "u32", connections.into()),
        (48, "Run_queue", "MGP", "u32", waiting.into()),
        (50, "node", "COS", "str", node.into()),
        (52, "Stopping", "MGP", "u32", u32::from(matches!(shared.phase(), Phase::Draining | Phase::Stopping)).into()),
        (53, "Jobs", "MGP", "u32", (connections + listeners as u64).into()),
        (55, "Listeners", "MGP", "u32", listeners.into()),
        (58, "DroppedLogs", "MGP", "u32", sum(&|w| w.log.dropped.value()).into()),
        (61, "TotalBytesOut", "MGP", "u64", sum(&|w| w.http.bytes_out.value()).into()),
        (62, "TotalSplicdedBytesOut", "MGP", "u64", sum(&|w| w.spliced_bytes.value()).into()),
        (66, "Build info", "POS", "str", version.into()),
        (70, "Start_time_sec", "MDP", "u32", (unix_ms(shared.started_at) / 1000).into()),
    ]
}

fn uptime(seconds: u64) -> String {
    format!("{}d {}h{:02}m{:02}s", seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// `show version`.
pub(super) fn version(shared: &Shared) -> String {
    format!("{}\n", shared.facts.get().map_or(env!("CARGO_PKG_VERSION"), |facts| facts.version.as_str()))
}

/// `show errors`: nothing of a bad request or answer is kept; they are counted, see `show stat`.
pub(super) fn errors(shared: &Shared, proxy: Option<&str>) -> Result<String, String> {
    let is_known = |name: &str| super::Proxy::all(shared).any(|proxy| proxy.name(shared) == name);
    if proxy.is_some_and(|name| !is_known(name)) {
        return Err("No such proxy.\n".into());
    }
    let now = jiff::Zoned::now().strftime("%d/%b/%Y:%H:%M:%S.%3f").to_string();
    Ok(format!("Total events captured on [{now}] : 0\n"))
}

/// `show pools`: the memory that files are kept in. HAProxy's word of SIGQUIT is left out, which ends this process.
pub(super) fn pools(shared: &Shared) -> String {
    let used: u64 = shared.workers.iter().map(|worker| worker.files.cache_bytes.value()).sum();
    let entries: u64 = shared.workers.iter().map(|worker| worker.files.cache_entries.value()).sum();
    let workers = shared.workers.len();
    format!(
        "Dumping pools usage.\n  - Pool file_cache (1 bytes) : {used} allocated ({used} bytes), {used} used (~{used} by \
         thread caches), needed_avg {used}, 0 failures, {workers} users, {entries} files\nTotal: 1 pools, {used} bytes \
         allocated, {used} used (~{used} by thread caches).\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_haproxy_writes_them() {
        assert_eq!([0, 61, 90_061].map(uptime), ["0d 0h00m00s", "0d 0h01m01s", "1d 1h01m01s"]);
    }
}
