//! Certificates, keys, authorities and ticket secrets of the listeners and splitters with TLS: loaded at the start, with every reload, and again
//! when their files change.
//!
//! What cannot be used is told and changes nothing: the sessions of tomorrow use what those of today do. All listeners
//! change together, so that a certificate and its key, which a renewal writes one after the other, are never mixed: files
//! that have just changed are left alone until they have been quiet for one look.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::config::model::{Listener, Splitter, Tls};
use crate::control::Shared;
use crate::control::shared::{CertificateFacts, EventLevel};
use crate::runtime::sys::users::own_name;
use crate::tls::{Material, Materials, Secrets, TlsError, build, build_any, build_quic};

/// Time between two looks at the files.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// What tells one state of a file from another; `None`: it is not there, or may not be looked at.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Whose material it is, by index.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    Listener(usize),
    Splitter(usize),
}

/// Loads the material of all listeners and splitters.
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
    pub(super) fn new(config: Arc<Config>, process_secret: Secrets) -> Certificates {
        let files = files(&config);
        Certificates { config, process_secret, files, loaded: Vec::new(), seen: Vec::new() }
    }

    /// Makes the loader for another config of the same process, whose tickets stay good.
    pub(super) fn successor(&self) -> impl FnOnce(Arc<Config>) -> Certificates + Send + 'static {
        let process_secret = self.process_secret.clone();
        move |config| Certificates::new(config, process_secret)
    }

    /// There is something to look after.
    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Reads all files. Errors: name of the listener or splitter, and what is wrong.
    pub(super) fn load(&mut self) -> Result<Materials, (String, TlsError)> {
        self.load_or(|_, _, error| Err(error))
    }

    /// The same; for one whose files cannot be used, `instead` has its say, by owner and name.
    pub(super) fn load_or(
        &mut self,
        instead: impl Fn(Owner, &str, TlsError) -> Result<Material, TlsError>,
    ) -> Result<Materials, (String, TlsError)> {
        // Before the files are read: what changes meanwhile is noticed at the next look.
        self.loaded = stamps(&self.files);
        self.seen.clone_from(&self.loaded);
        // `try_out`: what the workers will build by themselves.
        let load = |owner: Owner, name: &str, settings: &Option<Arc<Tls>>, try_out: &TryOut<'_>| {
            let Some(settings) = settings else { return Ok(None) };
            let loaded = Material::load(settings, &self.process_secret)
                .and_then(|material| try_out(settings, &material).map(|()| material));
            let material = loaded.or_else(|error| instead(owner, name, error));
            material.map(Some).map_err(|error| (name.to_owned(), error))
        };
        let listener = |(index, listener): (usize, &Listener)| {
            load(Owner::Listener(index), &listener.name, &listener.tls, &|settings, material| {
                build(settings, material, listener.http2)?;
                if listener.http3 {
                    build_quic(settings, material)?;
                }
                Ok(())
            })
        };
        let splitter = |(index, splitter): (usize, &Splitter)| {
            load(Owner::Splitter(index), &splitter.name, &splitter.tls, &|settings, material| {
                build_any(settings, material).map(drop)
            })
        };
        Ok(Materials {
            listeners: self.config.listeners.iter().enumerate().map(listener).collect::<Result<_, _>>()?,
            splitters: self.config.splitters.iter().enumerate().map(splitter).collect::<Result<_, _>>()?,
        })
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
        let listeners = self.config.listeners.iter().map(|listener| &listener.name).zip(&materials.listeners);
        let splitters = self.config.splitters.iter().map(|splitter| &splitter.name).zip(&materials.splitters);
        let of_one = |(owner, material): (&String, &Option<Material>)| {
            let certificates = material.as_ref().map(|material| material.certificates().to_vec()).unwrap_or_default();
            let fact = |certificate: crate::tls::Certificate| CertificateFacts {
                listener: owner.clone(),
                name: certificate.names().first().cloned().unwrap_or_default(),
                key: certificate.key_type().name(),
                not_after: certificate.validity().1,
            };
            certificates.into_iter().map(fact).collect::<Vec<_>>()
        };
        listeners.chain(splitters).flat_map(of_one).collect()
    }
}

/// Builds with a material what workers will build.
type TryOut<'a> = dyn Fn(&Tls, &Material) -> Result<(), TlsError> + 'a;

/// Loads the files again if they have changed, or in any case; hands the loader back. `None`: nothing was to be done.
///
/// Errors: loading has panicked, and the loader is lost.
pub(super) async fn look(
    mut certificates: Certificates,
    in_any_case: bool,
) -> Result<(Certificates, Option<Result<Materials, (String, TlsError)>>), tokio::task::JoinError> {
    // Files may lie on a file system that does not answer.
    let look = move || {
        let loaded = (in_any_case || certificates.have_changed()).then(|| certificates.load());
        (certificates, loaded)
    };
    tokio::task::spawn_blocking(look).await
}

/// Tells the log and the status page of certificates that are in use from now on.
pub(super) fn tell(certificates: &Certificates, materials: &Materials, shared: &Shared) {
    let facts = certificates.facts(materials);
    announce(&facts);
    if !facts.is_empty() {
        shared.note(EventLevel::Info, "certificates reloaded".into());
    }
    shared.set_certificates(facts);
}

/// Tells them of some that cannot be used.
pub(super) fn tell_of_failure(listener: &str, error: &TlsError, shared: &Shared) {
    let user = own_name();
    tracing::error!(%listener, %user, %error, "certificates not reloaded, the old ones stay in use");
    shared.note(EventLevel::Error, format!("certificates of `{listener}` not reloaded: {error}"));
}

fn announce(facts: &[CertificateFacts]) {
    for fact in facts {
        let days_left = fact.not_after.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / 86_400);
        tracing::info!(listener = %fact.listener, name = %fact.name, key = fact.key, days_left, "certificate reloaded");
    }
}

/// All files that the TLS settings name.
fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let listeners = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let splitters = config.splitters.iter().filter_map(|splitter| splitter.tls.as_ref());
    for settings in listeners.chain(splitters) {
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
