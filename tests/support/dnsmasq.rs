//! Real dnsmasq: a name server whose names the test changes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::eventually;
use super::ports::free_port;

/// A running dnsmasq; killed when dropped.
pub(crate) struct Dnsmasq {
    child: Option<Child>,
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Dnsmasq {
    /// Starts it with these hosts (lines of a hosts file) and further arguments, such as `--srv-host=…`. Its answers hold for
    /// one second.
    pub(crate) fn start(hosts: &str, arguments: &[&str]) -> Dnsmasq {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let folder = tempfile::tempdir().expect("a folder");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut dnsmasq = Dnsmasq { child: None, address, folder, arguments };
        dnsmasq.write(hosts);
        dnsmasq.run();
        dnsmasq
    }

    fn hosts(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    fn write(&self, hosts: &str) {
        std::fs::write(self.hosts(), hosts).expect("a hosts file");
    }

    fn run(&mut self) {
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces", "--local-ttl=1"]);
        command.args(["--conf-file=/dev/null", "--pid-file=", "--log-facility=-", "--local=/test/", "--cache-size=0"]);
        command.arg(format!("--port={}", self.address.port())).arg("--listen-address=127.0.0.1");
        command.arg(format!("--addn-hosts={}", self.hosts().display())).args(&self.arguments);
        command.arg(format!("--user={}", user()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("dnsmasq starts: `scripts/test` installs it"));
        eventually("dnsmasq answers", || std::net::TcpStream::connect(self.address).is_ok());
    }

    /// Other hosts from now on.
    pub(crate) fn set(&self, hosts: &str) {
        self.write(hosts);
        let child = self.child.as_ref().expect("it runs");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it is there");
    }

    /// Other arguments from now on.
    pub(crate) fn restart_with(&mut self, arguments: &[&str]) {
        self.stop();
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.run();
    }

    /// Nobody answers any more.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn start_again(&mut self) {
        self.run();
    }
}

/// It would become `nobody`, who may not read the test's folder.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.stop();
    }
}
