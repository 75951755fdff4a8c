//! Real nginx, for the tests that ask it and us the same.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::{eventually, has_program};

/// A running nginx; killed when dropped.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts nginx with what stands in `http { }`; `$LISTEN` is its address, `$DIR` its folder, which gets `files` first.
    /// `None`, and said so: it is not installed.
    pub(crate) fn start(http: &str, files: &[(&str, &[u8])]) -> Option<Nginx> {
        if !has_program("nginx") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        for (name, content) in files {
            let path = path.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, content).expect("a file");
        }
        // Asked for and given back: nobody else takes an ephemeral port at once.
        let address = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let config = format!(
            "daemon off; master_process off; pid $DIR/pid; error_log $DIR/error.log; events {{}}\n\
             http {{ access_log off; absolute_redirect off; default_type text/plain;\n\
             client_body_temp_path $DIR/b; proxy_temp_path $DIR/p; fastcgi_temp_path $DIR/f;\n\
             uwsgi_temp_path $DIR/u; scgi_temp_path $DIR/s;\n{http}\n}}"
        );
        let config = config.replace("$DIR", path.to_str().expect("plain path"));
        std::fs::write(path.join("nginx.conf"), config.replace("$LISTEN", &address.to_string())).expect("a config");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(path).args(["-e", "stderr", "-c"]).arg(path.join("nginx.conf"));
        let mut child = command.stderr(Stdio::piped()).spawn().expect("nginx starts");
        eventually("nginx listens", || {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "nginx does not take its config: {}", {
                let mut text = String::new();
                let mut stderr = child.stderr.take().expect("a pipe");
                std::io::Read::read_to_string(&mut stderr, &mut text).map(|_| text).unwrap_or_default()
            });
            std::net::TcpStream::connect(address).is_ok()
        });
        Some(Nginx { child, address, folder })
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
