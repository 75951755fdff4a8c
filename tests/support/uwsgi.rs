//! Real uWSGI with an application of Python, over uwsgi or SCGI.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{eventually, has_program};

/// A running uWSGI over a Unix socket; killed when dropped.
pub(crate) struct Uwsgi {
    child: Child,
    folder: tempfile::TempDir,
}

impl Uwsgi {
    /// Starts it with `tests/peers/scripts_app.py`, listening for `protocol` (`uwsgi` or `scgi`). `None`, and said so: it is not
    /// installed.
    pub(crate) fn start(protocol: &str) -> Option<Uwsgi> {
        let plugin = "/usr/lib/uwsgi/plugins/python3_plugin.so";
        if !has_program("uwsgi") || !std::path::Path::new(plugin).is_file() {
            eprintln!("SKIPPED: uWSGI with its plugin for Python is not installed");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("app.sock");
        let option = if protocol == "scgi" { "--scgi-socket" } else { "--uwsgi-socket" };
        let mut command = Command::new("uwsgi");
        command.args([
            "--plugin",
            "python3",
            "--master",
            "--die-on-term",
            "--need-app",
            "--socket-timeout",
            "30",
            "--workers",
            "2",
            "--buffer-size",
            "65535",
            option,
        ]);
        command.arg(&socket).arg("--wsgi-file");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/scripts_app.py"));
        command.arg("--logto").arg(folder.path().join("log"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("uwsgi starts");
        let uwsgi = Uwsgi { child, folder };
        eventually("uwsgi listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        Some(uwsgi)
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("app.sock")
    }
}

impl Drop for Uwsgi {
    fn drop(&mut self) {
        // The master ends its workers before itself.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.child.wait();
    }
}
