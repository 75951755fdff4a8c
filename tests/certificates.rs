//! Certificates that are renewed while the server runs.

mod support;

use std::path::Path;

use rustix::process::Signal;

use support::tls::*;
use support::*;

const SITE: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"root\" }\n";
const EXPIRY: &str = "one_server_tls_certificate_expiry_timestamp_seconds";

/// Exchanges a file in one step, as those who renew certificates do.
fn exchange(folder: &Path, name: &str, text: &str) {
    let (new, file) = (folder.join("new"), folder.join(name));
    std::fs::write(&new, text).expect("a file");
    std::fs::rename(new, file).expect("renamed");
}

fn put(folder: &Path, identity: &Identity) {
    exchange(folder, "server.pem", &identity.chain);
    exchange(folder, "server.key", &identity.key);
}

/// The certificate that a new connection is shown, as PEM.
fn shown(server: &Server) -> Vec<u8> {
    let client = TlsClient::connect(server.address("secure"));
    client.tls.conn.peer_certificates().expect("a certificate")[0].to_vec()
}

fn first_of(identity: &Identity) -> Vec<u8> {
    identity.certificates()[0].to_vec()
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).secure("").start();
        let mut old_client = TlsClient::connect(server.address("secure"));
        assert_eq!(old_client.ask(get("/")).text(), "root");
        let old = shown(&server);
        let renewed = trusted().server(&["localhost", "renewed.test"], Kind::Rsa);
        put(server.folder(), &renewed);
        eventually("the new certificate is shown", || shown(&server) == first_of(&renewed));
        assert_ne!(old, first_of(&renewed));
        assert_eq!(old_client.ask(get("/")).text(), "root", "{driver:?}: connections go on");
        let mut new_client = TlsClient::connect(server.address("secure"));
        assert_eq!(new_client.ask(get("/")).text(), "root");
        let left = server.metric(EXPIRY, "key=\"RSA\"") - now_s();
        assert!((80.0 * 86_400.0..91.0 * 86_400.0).contains(&left), "{driver:?}: {left} s");
    });
}

#[test]
fn a_certificate_that_cannot_be_used_changes_nothing_and_is_told() {
    with_both_drivers(|driver| {
        let mut server = Site::new(driver, SITE).secure("").start();
        let before = shown(&server);
        // The renewal writes one file, then the other: between the two they do not belong together.
        let renewed = trusted().server(&["localhost"], Kind::Ecdsa);
        exchange(server.folder(), "server.pem", &renewed.chain);
        server.wait_for_line("a word about it", |line| line.contains("certificates not reloaded"));
        assert_eq!(shown(&server), before, "{driver:?}");
        exchange(server.folder(), "server.key", &renewed.key);
        eventually("the new certificate is shown", || shown(&server) == first_of(&renewed));
        // Nothing at all.
        std::fs::remove_file(server.folder().join("server.key")).expect("a file");
        server.signal(Signal::HUP);
        server.wait_for_line("a word about it", |line| line.contains("server.key"));
        assert_eq!(shown(&server), first_of(&renewed), "{driver:?}");
        assert!(server.is_running());
    });
}

#[test]
fn a_hang_up_loads_the_certificates_at_once() {
    with_both_drivers(|driver| {
        let mut server = Site::new(driver, SITE).secure("").start();
        let renewed = trusted().server(&["localhost"], Kind::Ecdsa);
        put(server.folder(), &renewed);
        server.signal(Signal::HUP);
        server.wait_for_line("a word about it", |line| line.contains("certificate reloaded"));
        eventually("the new certificate is shown", || shown(&server) == first_of(&renewed));
        assert!(server.is_running(), "{driver:?}");
    });
}

fn now_s() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs_f64()
}
