//! Sessions against OpenSSL's client: another author's reading of the same specifications. Skipped, and says so, where
//! there is no `openssl`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::*;
use crate::config::model::{ClientCertificates, Tls, TlsProfile, UnknownNames};
use crate::tls::{Material, Secrets, Session, Tickets, TlsError, build};

fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        println!("skipped: there is no openssl");
    }
    found
}

/// Answers what it heard first with the facts of the session, and closes.
fn serve(mut socket: TcpStream, config: &Arc<ServerConfig>) -> Result<(), TlsError> {
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let mut session = Session::new(config)?;
    let (mut input, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let mut buffer = [0; 1000];
    while !plain.ends_with(b"\n") {
        let count = socket.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..count]);
        let result = session.receive(&mut input, &mut plain, &mut out);
        let _ = socket.write_all(&out);
        out.clear();
        if result?.is_closed {
            break;
        }
    }
    let facts = session.facts().expect("established");
    let subject = facts.client.as_ref().map_or("", |client| &client.subject);
    let name = facts.server_name.as_deref().unwrap_or_default();
    let text =
        format!("{} {} {} {} {} [{subject}]\n", facts.version, facts.cipher, facts.is_resumed, name, facts.verify);
    session.encrypt(text.as_bytes(), &mut out)?;
    session.close(&mut out);
    let _ = socket.write_all(&out);
    Ok(())
}

/// A server whose address is given to `action`; it serves one connection after the other.
fn with_server<T>(config: &Arc<ServerConfig>, action: impl FnOnce(&str) -> T) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound").to_string();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for socket in listener.incoming() {
                if is_over.load(std::sync::atomic::Ordering::SeqCst) {
                    break;
                }
                // A refused client is part of the tests.
                let _ = serve(socket.expect("accepted"), config);
            }
        });
        let result = action(&address);
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        drop(TcpStream::connect(&address));
        result
    })
}

/// What `openssl s_client` hears.
fn s_client(address: &str, folder: &Path, args: &[&str]) -> String {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", address, "-servername", "a.test", "-CAfile", "ca.pem"])
        .args(["-verify_return_error", "-verify_hostname", "a.test"])
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    client.stdin.take().expect("piped").write_all(b"hello\n").expect("written");
    String::from_utf8_lossy(&client.wait_with_output().expect("ended").stdout).into_owned()
}

fn config(client_certificates: ClientCertificates, secrets: &Secrets) -> Arc<ServerConfig> {
    let settings = Tls {
        certificates: Vec::new(),
        profile: TlsProfile::Intermediate,
        unknown_names: UnknownNames::Default,
        client_certificates,
        client_ca: None,
        ticket_keys: None,
        handshake_timeout: Duration::from_secs(10),
    };
    let certificates = [Kind::Ecdsa, Kind::Rsa].map(|kind| trusted().issue(params(&["a.test"]), kind).load());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted().der()).expect("good");
    let material = Material::new(&settings, &certificates, Some(roots), Tickets::new(secrets.clone())).expect("good");
    build(&settings, &material, true).expect("good")
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut subject = params(&["client.test"]);
    subject.distinguished_name.push(DnType::OrganizationName, "Müller + Söhne, GmbH");
    let client = trusted().issue(subject, Kind::Ecdsa);
    for (name, text) in [("ca.pem", &trusted().pem), ("client.pem", &client.chain), ("client.key", &client.key)] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

#[test]
fn openssl_talks_to_every_suite_and_names_it_the_same() {
    if !has_openssl() {
        return;
    }
    let folder = folder();
    with_server(&config(ClientCertificates::Off, &Secrets::random()), |address| {
        for (version, flag, suites) in [
            (
                "TLSv1.3",
                "-ciphersuites",
                &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"][..],
            ),
            (
                "TLSv1.2",
                "-cipher",
                &[
                    "ECDHE-ECDSA-AES128-GCM-SHA256",
                    "ECDHE-RSA-AES128-GCM-SHA256",
                    "ECDHE-ECDSA-AES256-GCM-SHA384",
                    "ECDHE-RSA-AES256-GCM-SHA384",
                    "ECDHE-ECDSA-CHACHA20-POLY1305",
                    "ECDHE-RSA-CHACHA20-POLY1305",
                ],
            ),
        ] {
            let switch = if version == "TLSv1.3" { "-tls1_3" } else { "-tls1_2" };
            for suite in suites {
                let heard = s_client(address, folder.path(), &[switch, flag, suite]);
                assert_eq!(heard, format!("{version} {suite} false a.test NONE []\n"));
            }
        }
        assert_eq!(s_client(address, folder.path(), &["-tls1_2", "-cipher", "AES128-SHA"]), "");
        assert!(s_client(address, folder.path(), &["-groups", "P-384"]).starts_with("TLSv1.3"));
    });
}

#[test]
fn openssl_resumes_after_a_restart() {
    if !has_openssl() {
        return;
    }
    let (folder, secrets) = (folder(), Secrets::random());
    for version in ["-tls1_3", "-tls1_2"] {
        for (flag, is_resumed) in [("-sess_out", "false"), ("-sess_in", "true")] {
            with_server(&config(ClientCertificates::Off, &secrets), |address| {
                let heard = s_client(address, folder.path(), &[version, flag, "session"]);
                assert_eq!(heard.split(' ').nth(2), Some(is_resumed), "{version} {heard}");
            });
        }
    }
}

#[test]
fn openssl_shows_its_certificate() {
    if !has_openssl() {
        return;
    }
    let folder = folder();
    with_server(&config(ClientCertificates::Required, &Secrets::random()), |address| {
        for version in ["-tls1_3", "-tls1_2"] {
            let heard = s_client(address, folder.path(), &[version, "-cert", "client.pem", "-key", "client.key"]);
            let expect = "a.test SUCCESS [O=M\\C3\\BCller \\+ S\\C3\\B6hne\\, GmbH]\n";
            assert!(heard.ends_with(expect), "{heard}");
            assert_eq!(s_client(address, folder.path(), &[version]), "");
        }
    });
}
