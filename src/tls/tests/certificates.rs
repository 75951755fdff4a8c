//! From files to a config.

use super::*;
use crate::config::model::{CertificateFiles, ClientCertificates, Tls, TlsProfile, UnknownNames};
use crate::tls::certificate::CertificateError;
use crate::tls::{Material, Secrets, TlsError, build};

#[test]
fn material_is_loaded_from_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("written");
    let Issued { chain, key } = issue(&["a.test"], Kind::Ecdsa);
    write("a.pem", &chain);
    write("a.key", &key);
    write("ca.pem", &trusted().pem);
    let mut settings = Tls {
        certificates: vec![CertificateFiles { chain: path("a.pem"), key: path("a.key") }],
        profile: TlsProfile::Intermediate,
        unknown_names: UnknownNames::Default,
        client_certificates: ClientCertificates::Required,
        client_ca: Some(path("ca.pem")),
        ticket_keys: Some(path("tickets")),
        handshake_timeout: std::time::Duration::from_secs(10),
    };
    let secret = Secrets::random();
    let load = |settings: &Tls| Material::load(settings, &secret);
    let material = load(&settings).expect("good");
    assert!(path("tickets").exists(), "created at the start");
    assert_eq!(build(&settings, &material, true).expect("good").alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    assert_eq!(build(&settings, &material, false).expect("good").alpn_protocols, [b"http/1.1"]);

    let told = |settings: &Tls| load(settings).expect_err("bad").to_string();
    settings.client_ca = Some(path("a.key"));
    assert!(
        told(&settings)
            .ends_with("a.key: the file holds no certificate: it should begin with `-----BEGIN CERTIFICATE-----`")
    );
    settings.client_ca = None;
    assert_eq!(told(&settings), "client certificates need `client_ca`");
    settings.client_certificates = ClientCertificates::Off;
    settings.certificates[0].key = path("none.key");
    assert!(told(&settings).contains("none.key: No such file"));
    settings.certificates[0] = CertificateFiles { chain: path("a.key"), key: path("a.pem") };
    let swapped = load(&settings).expect_err("bad");
    assert!(
        matches!(swapped, TlsError::Certificate { error: CertificateError::Swapped, ref file } if *file == path("a.key"))
    );
    settings.certificates.clear();
    assert_eq!(told(&settings), "a TLS listener needs a certificate");
    settings.certificates.push(CertificateFiles { chain: folder.path().into(), key: path("a.key") });
    assert!(told(&settings).ends_with("it is not a file"));
}
