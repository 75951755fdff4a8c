//! What the service manager is told: sd_notify(3), with the socket that NOTIFY_SOCKET names. Without one nothing is told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager.
#[derive(Clone, Debug)]
pub(super) struct Notify {
    address: Option<SocketAddr>,
    /// How often it wants a sign of life; `None`: it does not.
    watchdog: Option<Duration>,
}

impl Notify {
    pub(super) fn from_env() -> Notify {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let address = name.and_then(|name| {
            let address = match name.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
                path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
            };
            address.inspect_err(|error| tracing::warn!(?name, %error, "NOTIFY_SOCKET cannot be used")).ok()
        });
        let variable = |name: &str| std::env::var(name).ok();
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let every = variable("WATCHDOG_USEC").and_then(|us| us.parse().ok()).filter(|us| *us > 0 && is_ours);
        Notify { address, watchdog: every.map(Duration::from_micros) }
    }

    /// Time between two signs of life.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.address.is_some()).map(|every| every / 2)
    }

    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// [`Notify::ready`] or [`Notify::taken_over`] is to follow.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let us = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// The service is another process from now on, which is ready; nothing is told behind this.
    pub(super) fn taken_over(&mut self, pid: u32) {
        self.send(&format!("MAINPID={pid}\nREADY=1"));
        self.address = None;
    }

    fn send(&self, text: &str) {
        let Some(address) = &self.address else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(text.as_bytes(), address)
        });
        if let Err(error) = sent {
            tracing::warn!(%error, "the service manager cannot be told: {}", text.replace('\n', " "));
        }
    }
}
