//! What a service manager has to do with the real binary: sd_notify(3), sockets that it has opened (sd_listen_fds(3)), and
//! that it follows a takeover. The manager is played by the test.

mod support;

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use support::load::{HERE, under_load};
use support::ports::free_port;
use support::server::has_ended;
use support::*;

const CONTROL: &str = "control = \"$DIR/ctl.sock\"";

/// The manager's end of NOTIFY_SOCKET.
struct Manager {
    socket: UnixDatagram,
    _folder: tempfile::TempDir,
    path: String,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify").display().to_string();
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Manager { socket, _folder: folder, path }
    }

    fn next(&self) -> String {
        let mut bytes = [0; 512];
        let count = self.socket.recv(&mut bytes).expect("a word");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    fn assert_silent(&self) {
        self.socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
        assert!(self.socket.recv(&mut [0; 512]).is_err());
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    }
}

#[test]
fn the_manager_is_told_of_start_reload_takeover_and_end() {
    with_both_drivers(|driver| {
        let manager = Manager::new();
        let mut command = Command::new("env");
        command.arg(format!("NOTIFY_SOCKET={}", manager.path));
        let site = Site::new(driver, HERE).process(CONTROL).process("drain_timeout = \"1s\"");
        let server = site.start_through(command);
        assert_eq!(manager.next(), "READY=1", "{driver:?}");
        let uptime = || rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec;
        for change in [("here", "there"), ("there", "here")] {
            let before = uptime();
            server.reload_with(&[change]);
            let told = manager.next();
            let us = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("the word").parse::<i64>();
            assert!((before..=uptime()).contains(&(us.expect("a number") / 1_000_000)), "{driver:?}: {told}");
            assert_eq!(manager.next(), "READY=1", "{driver:?}");
        }
        // One that fails is not told: nothing has changed.
        server.edit(&[("path = \"/\"", "paht = \"/\"")]);
        server.ctl_fails(&["upgrade"]);
        manager.assert_silent();
        server.edit(&[("paht = \"/\"", "path = \"/\"")]);
        let first = server.pid();
        for _ in 0..3 {
            let before = server.pid();
            let pid = server.upgrade();
            assert_eq!(manager.next(), format!("MAINPID={pid}\nREADY=1"), "{driver:?}");
            eventually("the old one ends", || has_ended(before));
        }
        // It was none of the manager's business that old ones ended.
        manager.assert_silent();
        assert_ne!(server.pid(), first);
        server.reload_with(&[("here", "there")]);
        assert!(manager.next().starts_with("RELOADING=1\n"), "{driver:?}");
        assert_eq!(manager.next(), "READY=1", "{driver:?}");
        server.signal(Signal::QUIT);
        assert_eq!(manager.next(), "STOPPING=1", "{driver:?}");
    });
}

#[test]
fn a_watchdog_gets_signs_of_life() {
    let manager = Manager::new();
    let mut command = Command::new("env");
    command.args([&format!("NOTIFY_SOCKET={}", manager.path), "WATCHDOG_USEC=200000"]);
    let server = Site::new(Driver::Auto, HERE).process(CONTROL).start_through(command);
    let told: Vec<String> = (0..6).map(|_| manager.next()).collect();
    assert_eq!(told.iter().filter(|told| *told == "WATCHDOG=1").count(), 5, "{told:?}");
    server.upgrade();
    // The next one goes on with it.
    let until_other = (0..20).map(|_| manager.next()).find(|told| told.starts_with("MAINPID="));
    assert!(until_other.is_some());
    for _ in 0..3 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
}

/// As systemd: sockets from descriptor 3 on, then the program in the same process.
const ACTIVATE: &str = r#"
import os, socket, sys
addresses, arguments = sys.argv[1].split(","), sys.argv[2:]
sockets = []
for address in addresses:
    kind, _, address = address.partition("=")
    if address.startswith("/"):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.bind(address)
    else:
        host, port = address.split(":")
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, int(port)))
    if kind == "tcp":
        s.listen(128)
    sockets.append(s)
high = [os.dup2(s.fileno(), 100 + at) for at, s in enumerate(sockets)]
os.closerange(3, 100)
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
    os.set_inheritable(3 + at, True)
    os.close(fd)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), str(len(sockets))
os.execv(arguments[0], arguments)
"#;

#[test]
fn sockets_of_the_manager_are_taken_by_their_address() {
    if !std::path::Path::new("/usr/bin/python3").is_file() {
        return;
    }
    with_both_drivers(|driver| {
        let (x, admin, stranger) = (free_port(), free_port(), free_port());
        let config = format!(
            "[process]\n{CONTROL}\ndrain_timeout = \"1s\"\n[admin]\naddress = \"127.0.0.1:{admin}\"\n\
             [listener.web]\naddress = \"127.0.0.1:{x}\"\n{HERE}\
             [mysql.db]\nlisten = \"unix:$DIR/db.sock\"\nprimary = \"127.0.0.1:1\"\nuser = \"x\"\npassword = \"y\"\n"
        );
        let site = Site::new(driver, HERE).whole(&config);
        let unix = site.folder().join("db.sock");
        let addresses = format!(
            "tcp=127.0.0.1:{x},tcp=127.0.0.1:{stranger},tcp={},tcp=127.0.0.1:{admin},udp=127.0.0.1:{stranger}",
            unix.display()
        );
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", ACTIVATE, &addresses]);
        let server = site.start_through(command);
        server.wait_for_line("it is told", |line| {
            line.contains("a socket was handed over that the config does not name")
                && line.contains(&format!("127.0.0.1:{stranger}"))
        });
        let inodes = |pid: u32| {
            let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
            let links = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
            links.filter(|link| link.to_string_lossy().starts_with("socket:")).collect::<std::collections::HashSet<_>>()
        };
        // Both workers serve the one socket.
        let load = under_load(&server, || {
            for _ in 0..3 {
                let before = inodes(server.pid());
                let old = server.pid();
                server.upgrade();
                assert!(inodes(server.pid()).intersection(&before).count() >= 4, "{driver:?}");
                eventually("it ends", || has_ended(old));
            }
        });
        load.assert_all_well(100);
        assert!(server.status()["listeners"].is_array(), "{driver:?}");
        assert!(std::os::unix::net::UnixStream::connect(&unix).is_ok(), "{driver:?}");
        assert!(std::net::TcpStream::connect(("127.0.0.1", stranger)).is_err(), "{driver:?}: it was closed");
    });
}
