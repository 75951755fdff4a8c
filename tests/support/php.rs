//! Real PHP-FPM with scripts of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Driver, Server, Site, eventually};

/// Debian names the program by its version: the newest one there is. `None`, and said so: there is none.
pub(crate) fn program() -> Option<PathBuf> {
    let folder = std::fs::read_dir("/usr/sbin").into_iter().flatten().flatten();
    let is_it = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm"));
    let found = folder.map(|entry| entry.path()).filter(is_it).max();
    if found.is_none() {
        eprintln!("skipped: php-fpm is not installed");
    }
    found
}

/// A running PHP-FPM over a Unix socket; ended when dropped.
pub(crate) struct Php {
    child: Child,
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Php {
    /// Starts it with these scripts in its document root; `pool` are lines of its pool, which win over those that are there.
    /// `None`, and said so: it is not installed.
    pub(crate) fn start(pool: &str, scripts: &[(&str, &str)]) -> Option<Php> {
        let program = program()?;
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in scripts {
            let path = folder.path().join("www").join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, content).expect("a script");
        }
        let mut config = format!(
            "[global]\nerror_log = $DIR/fpm.log\ndaemonize = no\n[www]\nuser = root\ngroup = root\nlisten = $DIR/php.sock\n\
             pm = static\nping.path = /ping\nphp_admin_value[upload_max_filesize] = 200M\n\
             php_admin_value[post_max_size] = 200M\nphp_admin_flag[log_errors] = on\nphp_admin_flag[display_errors] = off\n\
             php_admin_value[upload_tmp_dir] = $DIR\nphp_admin_value[sys_temp_dir] = $DIR\n{pool}\n"
        );
        if !pool.contains("pm.max_children") {
            config.push_str("pm.max_children = 4\n");
        }
        let config = config.replace("$DIR", folder.path().to_str().expect("plain path"));
        std::fs::write(folder.path().join("fpm.conf"), config).expect("a config");
        let child = Php::spawn(&program, folder.path());
        let php = Php { child, program, folder };
        php.wait_until_ready();
        Some(php)
    }

    fn spawn(program: &Path, folder: &Path) -> Child {
        // As root it wants to be asked for that; the folder is nobody else's.
        // It leaves our process group, and should not outlive a test that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program).args(["-n", "-F", "-R", "-y"]).arg(folder.join("fpm.conf"));
        command.stderr(Stdio::null()).spawn().expect("php-fpm starts")
    }

    fn wait_until_ready(&self) {
        eventually("php-fpm listens", || std::os::unix::net::UnixStream::connect(self.socket()).is_ok());
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("php.sock")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its document root.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("www")
    }

    /// Kills it and all of its processes, without a word to anyone.
    pub(crate) fn kill(&mut self) {
        let children = self.children();
        let _ = self.child.kill();
        let _ = self.child.wait();
        for child in children {
            let _ = kill_process(child, Signal::KILL);
        }
    }

    /// Starts it anew, at the same place.
    pub(crate) fn start_again(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        self.child = Php::spawn(&self.program, self.folder.path());
        self.wait_until_ready();
    }

    fn children(&self) -> Vec<Pid> {
        let pid = self.child.id();
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }
}

impl Drop for Php {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Tells how it was called, and what came.
pub(crate) const ECHO: &str = "<?php header('X-Method: ' . $_SERVER['REQUEST_METHOD']); \
                    echo $_SERVER['SCRIPT_NAME'], '|', $_SERVER['PATH_INFO'] ?? '-', '|', $_SERVER['QUERY_STRING'], '|', \
                    file_get_contents('php://input');";

/// The server with the upstream `php`; `$SOCKET` and `$ROOT` are those of `php`.
pub(crate) fn start(driver: Driver, php: &Php, upstream: &str, routes: &str) -> Server {
    site(driver, php, upstream, routes).start()
}

/// The same before it starts.
pub(crate) fn site(driver: Driver, php: &Php, upstream: &str, routes: &str) -> Site {
    let text = format!(
        "[upstream.php]\nservers = \"unix:$SOCKET\"\nprotocol = \"fastcgi\"\n{upstream}\n[site.main]\ndefault = true\n{routes}"
    );
    let text = text.replace("$SOCKET", shown(&php.socket())).replace("$ROOT", shown(&php.root()));
    Site::new(driver, &text)
}

/// A path as text.
pub(crate) fn shown(path: &Path) -> &str {
    path.to_str().expect("plain path")
}

/// A route that sends everything to PHP.
pub(crate) const ALL: &str = "[[site.main.route]]\npath = \"/\"\nproxy = \"php\"\ncgi = \"$ROOT\"\n";
