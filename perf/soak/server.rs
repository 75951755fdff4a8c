//! one-server as a process: its config, its start and its end.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::options::Options;

/// Requests the server allows on one connection.
pub(crate) const REQUESTS_MAX: usize = 200;
/// How long the server may take to close what clients have left.
pub(crate) const REST: Duration = Duration::from_secs(30);
/// How long it keeps idle connections to the upstream.
pub(crate) const IDLE_UPSTREAM: Duration = Duration::from_secs(4);
/// How long it may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running one-server.
pub(crate) struct Server {
    child: Child,
    pid: u32,
    log: PathBuf,
    pub(crate) clear: SocketAddr,
    pub(crate) secure: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// Starts it on the files of `folder` and waits until it takes connections. Also gives the certificate to trust.
    ///
    /// Errors: it does not start, with its last words.
    pub(crate) async fn start(
        options: &Options,
        folder: &Path,
        upstream: u16,
    ) -> Result<(Server, CertificateDer<'static>), String> {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|e| format!("certificate: {e}"))?;
        write(&folder.join("chain.pem"), &made.cert.pem())?;
        let key = folder.join("key.pem");
        write(&key, &made.signing_key.serialize_pem())?;
        let is_private = std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600));
        is_private.map_err(|e| format!("{}: {e}", key.display()))?;
        let [clear, secure, admin] = free_addresses().map_err(|e| format!("no free port: {e}"))?;
        let config = folder.join("soak.toml");
        write(&config, &config_text(options, folder, [clear, secure, admin], upstream))?;
        let log = folder.join("server.log");
        let output = || std::fs::File::options().append(true).create(true).open(&log).map_err(|e| format!("log: {e}"));
        let child = Command::new(&options.server)
            .args(["run", "-c"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output()?)
            .stderr(output()?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("{}: {e}; build it with `cargo build --release`", options.server.display()))?;
        let pid = child.id().ok_or("the server has no process id")?;
        let mut server = Server { child, pid, log, clear, secure, admin };
        server.wait_ready().await?;
        Ok((server, made.cert.der().clone()))
    }

    async fn wait_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        for address in [self.admin, self.clear, self.secure] {
            while TcpStream::connect(address).await.is_err() {
                if let Ok(Some(status)) = self.child.try_wait() {
                    return Err(format!("the server ended, {status}:\n{}", self.last_words()));
                }
                if Instant::now() > deadline {
                    return Err(format!("the server does not listen on {address}:\n{}", self.last_words()));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it the polite way. Errors: it was gone, did not end, or with a bad status.
    pub(crate) async fn stop(&mut self) -> Result<(), String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("the server ended by itself, {status}"));
        }
        let pid = Pid::from_raw(self.pid.cast_signed()).ok_or("the server has no process id")?;
        kill_process(pid, Signal::TERM).map_err(|e| format!("SIGTERM: {e}"))?;
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the server ended with {status}")),
            Ok(Err(error)) => Err(format!("waiting for the server: {error}")),
            Err(_) => Err(format!("the server does not end within {} s of SIGTERM", PATIENCE.as_secs())),
        }
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let Ok(file) = std::fs::File::open(&self.log) else { return "(no log)".into() };
        let lines: Vec<_> = BufReader::new(file).lines().map_while(Result::ok).collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Three ports nobody listens on; held together, so that they differ.
fn free_addresses() -> std::io::Result<[SocketAddr; 3]> {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let listeners = [bind()?, bind()?, bind()?];
    Ok([listeners[0].local_addr()?, listeners[1].local_addr()?, listeners[2].local_addr()?])
}

fn config_text(options: &Options, folder: &Path, [clear, secure, admin]: [SocketAddr; 3], upstream: u16) -> String {
    let Options { cores, driver, .. } = options;
    let (folder, idle) = (folder.display(), IDLE_UPSTREAM.as_secs());
    format!(
        r#"
[process]
data_cores = "{cores}"
driver = "{driver}"

[http]
body_max = "8MiB"
keep_alive_requests_max = {REQUESTS_MAX}

[listener.clear]
address = "{clear}"

[listener.secure]
address = "{secure}"
tls.certificates = [{{ chain = "{folder}/chain.pem", key = "{folder}/key.pem" }}]

[site.soak]
[[site.soak.route]]
path = "/"
files = {{ root = "{folder}/files", precompressed = ["br"] }}

[[site.soak.route]]
path = "/text/"
compress = true
files = {{ root = "{folder}/files", strip_prefix = "/text" }}

[[site.soak.route]]
path = "/up/"
compress = true
proxy = "up"

[upstream.up]
servers = ["127.0.0.1:{upstream}"]
health = false
keep_idle_timeout = "{idle}s"

[admin]
address = "{admin}"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_is_one_the_server_takes() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("chain.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        std::fs::create_dir(folder.path().join("files")).unwrap();
        let options = Options::parse(std::iter::empty()).unwrap();
        let text = config_text(&options, folder.path(), free_addresses().unwrap(), 9);
        let (config, _) = one_server::config::parse("soak", &text, &[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((config.listeners.len(), config.upstreams.len()), (2, 1));
    }
}
