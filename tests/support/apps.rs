//! Applications that are processes of their own: what their tests have in common.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::server::has_ended;
use super::{Driver, Server, Site, eventually, get};

/// Where the programs lie.
pub(crate) const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

/// The Python server on a socket that it is given.
pub(crate) const BY_FD: &str = "command = [\"$PYTHON\", \"$PEERS/process_app.py\", \"fd\"]\nlisten = \"fd\"\n";

/// A site whose requests all go to the application `shop`; `lines` are what its table says beside the type.
pub(crate) fn site(lines: &str) -> Site {
    let lines = lines.replace("$PEERS", PEERS).replace("$PYTHON", python());
    let rest =
        format!("[app.shop]\ntype = \"process\"\n{lines}\n[site.main]\nroute = [{{ path = \"/\", app = \"shop\" }}]\n");
    Site::new(Driver::Auto, &rest).process("control = \"$DIR/ctl.sock\"").process("drain_timeout = \"10s\"")
}

/// The one of the system: that of a version manager is a shell script, whose process is another one.
pub(crate) fn python() -> &'static str {
    if std::path::Path::new("/usr/bin/python3").is_file() { "/usr/bin/python3" } else { "python3" }
}

pub(crate) fn shop(server: &Server) -> Value {
    server.status()["processes"][0].clone()
}

/// Processes of the application, those that are ready alone.
pub(crate) fn pids(server: &Server) -> Vec<u32> {
    let shop = shop(server);
    let instances = shop["instances"].as_array().cloned().unwrap_or_default();
    let ready = instances.iter().filter(|instance| instance["state"] == "ready");
    let mut pids: Vec<u32> = ready.filter_map(|instance| Some(instance["pid"].as_u64()? as u32)).collect();
    pids.sort_unstable();
    pids
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).expect("a number"), signal).expect("it is there");
}

pub(crate) fn text(server: &Server, path: &str) -> String {
    let answer = server.connect().ask(get(path));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

/// Waits until none of them is there.
pub(crate) fn eventually_gone(pids: &[u32]) {
    eventually("the processes are gone", || pids.iter().all(|pid| has_ended(*pid)));
}

pub(crate) fn parent_of(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("PPid:")).expect("a parent");
    line.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()).expect("a number")
}

/// Processes in whose environment a text stands.
pub(crate) fn with_environment(mark: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("procfs").filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_mark = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|part| part == mark.as_bytes())
    };
    pids.filter(has_mark).collect()
}

pub(crate) fn socket_folder(server: &Server) -> std::path::PathBuf {
    let address = shop(server)["instances"][0]["address"].as_str().expect("an address").to_owned();
    let path = std::path::PathBuf::from(address.strip_prefix("unix:").expect("a socket"));
    path.parent().expect("a folder").to_owned()
}
