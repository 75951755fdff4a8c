//! Real HAProxy, for the tests that ask it and us the same.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use super::ports::free_address;
use super::{eventually, has_program};

/// A running HAProxy; killed when dropped.
pub(crate) struct HaProxy {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl HaProxy {
    /// Starts one with these sections behind `defaults`; `$LISTEN` is its address.
    /// `None`, and said so: it is not installed.
    pub(crate) fn start(sections: &str) -> Option<HaProxy> {
        if !has_program("haproxy") {
            return None;
        }
        let (address, folder) = (free_address(), tempfile::tempdir().expect("a folder"));
        let config = format!(
            "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n{}",
            sections.replace("$LISTEN", &address.to_string())
        );
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, config).expect("a config");
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("haproxy starts");
        let haproxy = HaProxy { child, address, _folder: folder };
        eventually("haproxy listens", || TcpStream::connect(address).is_ok());
        Some(haproxy)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
