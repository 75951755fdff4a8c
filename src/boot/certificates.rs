//! Certificates, keys, authorities and ticket secrets of the TLS listeners: loaded at the start, and again when their files
//! change or SIGHUP asks for it.
//!
//! What cannot be used is told and changes nothing: the sessions of tomorrow use what those of today do. All listeners
//! change together, so that a certificate and its key, which a renewal writes one after the other, are never mixed: files
//! that have just changed are left alone until they have been quiet for one look.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::config::model::Listener;
use crate::control::Shared;
use crate::control::shared::{CertificateFacts, EventLevel};
use crate::runtime::mailbox::Sender;
use crate::runtime::sys::users::own_name;
use crate::tls::{Material, Secrets, TlsError, build, build_quic};
use crate::worker::Control;

/// Time between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);

/// What tells one state of a file from another; `None`: it is not there, or may not be looked at.
type Stamp = Option<(SystemTime, u64, u64)>;

/// By listener: what it needs for TLS; `None`: it speaks in clear.
pub(super) type Materials = Vec<Option<Material>>;

/// Loads the material of all listeners.
pub(super) struct Certificates {
    config: Arc<Config>,
    /// For listeners without a file of ticket secrets, so that their tickets outlive a reload.
    process_secret: Secrets,
    files: Vec<PathBuf>,
    /// State of `files` when they were loaded.
    loaded: Vec<Stamp>,
    /// The same at the last look.
    seen: Vec<Stamp>,
}

impl Certificates {
    pub(super) fn new(config: Arc<Config>) -> Certificates {
        let files = files(&config);
        Certificates { config, process_secret: Secrets::random(), files, loaded: Vec::new(), seen: Vec::new() }
    }

    /// Reads all files. Errors: name of the listener, and what is wrong.
    pub(super) fn load(&mut self) -> Result<Materials, (String, TlsError)> {
        // Before the files are read: what changes meanwhile is noticed at the next look.
        self.loaded = stamps(&self.files);
        self.seen.clone_from(&self.loaded);
        let load = |listener: &Listener| {
            let Some(settings) = &listener.tls else { return Ok(None) };
            let error = |error| (listener.name.clone(), error);
            let material = Material::load(settings, &self.process_secret).map_err(error)?;
            // What the workers will build by themselves.
            build(settings, &material, listener.http2).map_err(error)?;
            if listener.http3 {
                build_quic(settings, &material).map_err(error)?;
            }
            Ok(Some(material))
        };
        self.config.listeners.iter().map(load).collect()
    }

    /// The files have changed since they were loaded, and not since the look before this one.
    fn have_changed(&mut self) -> bool {
        let now = stamps(&self.files);
        let is_quiet = now == self.seen;
        self.seen = now;
        is_quiet && self.seen != self.loaded
    }

    /// What the status and the metrics tell.
    pub(super) fn facts(&self, materials: &Materials) -> Vec<CertificateFacts> {
        let listeners = self.config.listeners.iter().zip(materials);
        let of_listener = |(listener, material): (&Listener, &Option<Material>)| {
            let certificates = material.as_ref().map(|material| material.certificates().to_vec()).unwrap_or_default();
            let fact = |certificate: crate::tls::Certificate| CertificateFacts {
                listener: listener.name.clone(),
                name: certificate.names().first().cloned().unwrap_or_default(),
                key: certificate.key_type().name(),
                not_after: certificate.validity().1,
            };
            certificates.into_iter().map(fact).collect::<Vec<_>>()
        };
        listeners.flat_map(of_listener).collect()
    }
}

/// Looks after the files until the process ends. `reload` is told when SIGHUP came.
pub(super) async fn watch(
    mut certificates: Certificates,
    workers: Vec<Sender<Control>>,
    shared: Arc<Shared>,
    reload: Arc<tokio::sync::Notify>,
) {
    if certificates.files.is_empty() {
        return;
    }
    loop {
        let is_asked = tokio::select! {
            () = reload.notified() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        // Files may lie on a file system that does not answer.
        let work = tokio::task::spawn_blocking(move || {
            let loaded = (is_asked || certificates.have_changed()).then(|| certificates.load());
            (certificates, loaded)
        });
        let Ok((returned, loaded)) = work.await else {
            return tracing::error!("certificates are not looked after any more: loading them has panicked");
        };
        certificates = returned;
        match loaded {
            None => {}
            Some(Ok(materials)) => {
                let facts = certificates.facts(&materials);
                announce(&facts);
                shared.set_certificates(facts);
                shared.note(EventLevel::Info, "certificates reloaded".into());
                hand_out(materials, &workers).await;
            }
            Some(Err((listener, error))) => {
                let user = own_name();
                tracing::error!(%listener, %user, %error, "certificates not reloaded, the old ones stay in use");
                shared.note(EventLevel::Error, format!("certificates of `{listener}` not reloaded: {error}"));
            }
        }
    }
}

fn announce(facts: &[CertificateFacts]) {
    for fact in facts {
        let days_left = fact.not_after.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / 86_400);
        tracing::info!(listener = %fact.listener, name = %fact.name, key = fact.key, days_left, "certificate reloaded");
    }
}

/// A worker's mailbox may be full of ticks while it is busy; it must not miss this.
async fn hand_out(materials: Materials, workers: &[Sender<Control>]) {
    let materials = Arc::new(materials);
    for worker in workers {
        while worker.send(Control::Certificates(materials.clone())).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// All files that the listeners' TLS settings name.
fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for settings in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        let pairs = settings.certificates.iter().flat_map(|pair| [&pair.chain, &pair.key]);
        files.extend(pairs.chain(&settings.client_ca).chain(&settings.ticket_keys).cloned());
    }
    files.sort();
    files.dedup();
    files
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

/// Follows links: renewals commonly exchange one.
fn stamp(file: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
