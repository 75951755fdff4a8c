//! `tls` of listeners: what is written, what is in the files.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::config::model::{ClientCertificates, TlsProfile, UnknownNames};
use crate::tls::tests::{Authority, Issued, Kind, issue, params};

const SITE: &str = "[site.l]\nhosts = \"l.invalid\"\nlisteners = \"l\"\n[[site.l.route]]\npath = \"/\"\nrespond = {}\n";
const PLAIN: &str = "certificates = [{ chain = \"/a.pem\", key = \"/a.key\" }]";

/// A listener with these lines in `[listener.l.tls]`; they begin at line 4.
fn listener(lines: &str) -> String {
    format!("[listener.l]\naddress = \"127.0.0.1:1\"\n[listener.l.tls]\n{lines}\n{SITE}")
}

#[test]
fn every_setting_is_compiled() {
    let lines = "certificates = [{ chain = \"/a.pem\", key = \"/a.key\" }, { chain = \"/b.pem\", key = \"/b.key\" }]\n\
                 profile = \"modern\"\nunknown_names = \"refuse\"\nclient_certificates = \"required\"\n\
                 client_ca = \"/ca.pem\"\nhandshake_timeout = \"3s\"";
    let config = config(&format!("{}{BASE}", listener(lines)));
    let tls = config.listeners[0].tls.as_deref().expect("written");
    assert_eq!(tls.certificates.len(), 2);
    assert_eq!(tls.certificates[1].key.to_str(), Some("/b.key"));
    assert_eq!((tls.profile, tls.unknown_names), (TlsProfile::Modern, UnknownNames::Refuse));
    assert_eq!(tls.client_certificates, ClientCertificates::Required);
    assert_eq!((tls.client_ca.as_deref(), tls.ticket_keys.as_deref()), (Some(Path::new("/ca.pem")), None));
    assert_eq!(tls.handshake_timeout, Duration::from_secs(3));
    assert!(config.listeners[1].tls.is_none());
    let plain = self::config(&format!("{}{BASE}", listener(PLAIN)));
    let tls = plain.listeners[0].tls.as_deref().expect("written");
    assert_eq!((tls.profile, tls.unknown_names), (TlsProfile::Intermediate, UnknownNames::Default));
    assert_eq!((tls.client_certificates, tls.handshake_timeout), (ClientCertificates::Off, Duration::from_secs(10)));
}

#[test]
fn every_way_to_write_it_means_the_same() {
    let compiled = |text: &str| config(&format!("{text}{BASE}")).listeners[0].tls.clone();
    let expect = compiled(&listener(PLAIN));
    for lines in [
        "certificates = { chain = \"/a.pem\", key = \"/a.key\" }",
        "[[listener.l.tls.certificates]]\nchain = \"/a.pem\"\nkey = \"/a.key\"",
        "[listener.l.tls.certificates]\nchain = \"/a.pem\"\nkey = \"/a.key\"",
    ] {
        assert_eq!(compiled(&listener(lines)), expect);
    }
    let inline = format!("[listener.l]\naddress = \"127.0.0.1:1\"\ntls = {{ {PLAIN} }}\n{SITE}");
    assert_eq!(compiled(&inline), expect);
}

/// The lines of the example that are commented out.
#[test]
fn the_example_of_tls_is_good() {
    let text = include_str!("../../../examples/site.toml");
    let wanted = ["# [listener.secure]", "# address", "# http3", "# alt_svc", "# tls."];
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| if wanted.iter().any(|start| line.starts_with(start)) { &line[2..] } else { line })
        .collect();
    let config = config(&uncommented.join("\n").replace("listeners = [\"web\"]", "listeners = [\"web\", \"secure\"]"));
    let tls = config.listeners.iter().find_map(|listener| listener.tls.as_deref()).expect("there");
    assert!(tls.client_ca.is_some() && tls.ticket_keys.is_some());
}

#[test]
fn mistakes_of_writing() {
    let check = |lines: &str, expect: &[&str]| check(&listener(lines), expect);
    let form = "a list of tables such as { chain = \"/etc/one-server/site.pem\", key = \"/etc/one-server/site.key\" }";
    check("", &[&format!("3:1 missing key `certificates` in tls of [listener.l] | add `certificates`: {form}")]);
    check(
        "certificates = []",
        &["4:16 bad value for `certificates` in tls of [listener.l] | it is empty: name at least one certificate"],
    );
    check(
        "certificates = \"/a.pem\"",
        &[
            "4:16 bad value for `certificates` in tls of [listener.l] | it is a text: write a list of tables with `chain` and `key`",
        ],
    );
    check(
        "certificates = [\"/a.pem\"]",
        &["4:17 bad certificate in tls of [listener.l] | it is a text: write a table with `chain` and `key`"],
    );
    check(
        "certificates = [{ chain = \"/a.pem\" }]",
        &[
            "4:17 missing key `key` in certificates of tls of [listener.l] | add `key`: a path, for example \"/var/www/html\"",
        ],
    );
    check(
        "certificates = [{ ssl_certificate = \"/a.pem\", key = \"/a.key\" }]",
        &[
            "4:19 unknown key `ssl_certificate` in certificates of tls of [listener.l] | what nginx calls so is `chain` here; it takes a path, for example \"/var/www/html\"",
        ],
    );
    check(
        &format!("{PLAIN}\nssl_protocols = \"TLSv1.3\""),
        &[
            "5:1 unknown key `ssl_protocols` in tls of [listener.l] | what nginx calls so is `profile` here; it takes \"intermediate\" or \"modern\"",
        ],
    );
    check(
        &format!("{PLAIN}\nclient_certificates = \"required\""),
        &[
            "5:23 bad value for `client_certificates` in tls of [listener.l] | add `client_ca`, a file with the authorities that issue them",
        ],
    );
    check(
        &format!("{PLAIN}\nprofile = \"old\""),
        &[
            "5:11 bad value for `profile` in tls of [listener.l] | `old` is not known: write \"intermediate\" or \"modern\"",
        ],
    );
    super::check(
        &format!("[listener.l]\naddress = \"127.0.0.1:1\"\ntls = true\n{SITE}"),
        &["3:7 tls of [listener.l] is not a table | it is `true`, but must be a table: tls of [listener.l]"],
    );
    let unused = listener(&format!("{PLAIN}\nclient_ca = \"/ca.pem\""));
    assert_eq!(warnings(&unused), ["`client_ca` of tls of [listener.l] is not used"]);
    let unused = listener(&format!(
        "{PLAIN}\nclient_ca = \"/ca.pem\"\nclient_certificates = \"optional\"\nticket_keys = \"/t\""
    ));
    assert_eq!(warnings(&unused), ["`ticket_keys` of tls of [listener.l] is not used"]);
}

/// A machine with these files, each with its mode.
pub(super) struct Files {
    files: HashMap<&'static str, (Vec<u8>, u32)>,
    now: SystemTime,
}

impl Outside for Files {
    fn text(&self, path: &Path, _: u64) -> io::Result<String> {
        self.first_line(path)
    }

    fn first_line(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn is_readable_by_all(&self, path: &Path) -> bool {
        self.mode(path).is_some_and(|mode| mode & 0o004 != 0)
    }

    fn is_folder(&self, path: &Path) -> bool {
        path == Path::new("/")
    }

    fn read(&self, path: &Path, _: u64) -> io::Result<Vec<u8>> {
        let file = self.files.get(path.to_str().expect("text"));
        file.map(|(bytes, _)| bytes.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        self.files.get(path.to_str().expect("text")).map(|(_, mode)| *mode)
    }

    fn account(&self, run_as: &RunAs) -> Result<Account, AccountError> {
        Err(AccountError::NoUser(run_as.user.clone()))
    }

    fn find_program(&self, word: &str, _: &Path, _: Option<&str>) -> Result<std::path::PathBuf, String> {
        Err(format!("`{word}` is not there"))
    }

    fn find_php(&self) -> Option<std::path::PathBuf> {
        None
    }

    fn may_read(&self, _: &Path, _: &Account) -> Option<bool> {
        None
    }

    fn now(&self) -> SystemTime {
        self.now
    }
}

/// Mistakes and warnings, `title | label`.
fn told(machine: &Files, lines: &str) -> (Vec<String>, Vec<String>) {
    let (_, mistakes, warnings) = on_machine(machine, &listener(lines));
    (mistakes, warnings)
}

pub(super) fn machine() -> Files {
    let authority = Authority::new("CA");
    let mut files = HashMap::new();
    let mut add = |name: &'static str, bytes: &str, mode: u32| files.insert(name, (bytes.as_bytes().to_vec(), mode));
    let mut pair = |chain: &'static str, key: &'static str, issued: &Issued| {
        add(chain, &issued.chain, 0o644);
        add(key, &issued.key, 0o600);
    };
    pair("/a.pem", "/a.key", &issue(&["a.test", "*.a.test"], Kind::Ecdsa));
    pair("/b.pem", "/b.key", &issue(&["b.test"], Kind::Ecdsa));
    pair("/again.pem", "/again.key", &issue(&["a.test"], Kind::Ecdsa));
    pair("/rsa.pem", "/rsa.key", &issue(&["a.test"], Kind::Rsa));
    let mut short = params(&["short.test"]);
    short.not_after = rcgen::date_time_ymd(2030, 1, 1);
    pair("/short.pem", "/short.key", &authority.issue(short, Kind::Ecdsa));
    add("/ca.pem", &authority.pem, 0o644);
    add("/tickets", &"0123456789abcdef".repeat(4), 0o600);
    add("/open-tickets", &"0123456789abcdef".repeat(4), 0o644);
    add("/bad-tickets", "hello", 0o600);
    for (name, mode) in [("/open.key", 0o644), ("/group.key", 0o640)] {
        let key = files["/a.key"].0.clone();
        files.insert(name, (key, mode));
    }
    // 2029-12-21
    Files { files, now: UNIX_EPOCH + Duration::from_secs(1_892_505_600) }
}

fn one(chain: &str, key: &str) -> String {
    format!("certificates = [{{ chain = \"{chain}\", key = \"{key}\" }}]")
}

#[test]
fn files_are_looked_into() {
    let machine = machine();
    let problems = |lines: &str| told(&machine, lines).0;
    let of = "of tls of [listener.l]";
    assert_eq!(told(&machine, &one("/a.pem", "/a.key")), (vec![], vec![]));
    for (chain, key, name, label) in [
        ("/none.pem", "/a.key", "chain", "it cannot be read: entity not found"),
        ("/a.pem", "/none.key", "key", "it cannot be read: entity not found"),
        ("/a.key", "/a.pem", "chain", "chain and key are swapped: exchange the two files"),
        (
            "/a.pem",
            "/b.key",
            "key",
            "the key does not belong to the certificate: use the key the certificate was requested with",
        ),
        (
            "/tickets",
            "/a.key",
            "chain",
            "the file holds no certificate: it should begin with `-----BEGIN CERTIFICATE-----`",
        ),
    ] {
        let expect = format!("bad value for `{name}` in certificates {of} | {label}");
        assert_eq!(problems(&one(chain, key)), [expect]);
    }
    let both = problems(&one("/none.pem", "/none.key"));
    assert_eq!(both.len(), 2, "{both:?}");
    let with = |line: &str| format!("{}\n{line}", one("/a.pem", "/a.key"));
    for (line, label) in [
        ("client_certificates = \"optional\"\nclient_ca = \"/none.pem\"", "it cannot be read: entity not found"),
        (
            "client_certificates = \"optional\"\nclient_ca = \"/a.key\"",
            "the file holds no certificate: it should begin with `-----BEGIN CERTIFICATE-----`",
        ),
    ] {
        assert_eq!(problems(&with(line)), [format!("bad value for `client_ca` in tls of [listener.l] | {label}")]);
    }
    assert_eq!(told(&machine, &with("client_certificates = \"optional\"\nclient_ca = \"/ca.pem\"")), (vec![], vec![]));
    for (file, label) in [
        ("/bad-tickets", "line 1 is neither hex nor Base64: make one with `openssl rand -hex 32`"),
        ("/no/folder/tickets", "it cannot be created: /no/folder is not a folder"),
    ] {
        let expect = format!("bad value for `ticket_keys` in tls of [listener.l] | {label}");
        assert_eq!(problems(&with(&format!("ticket_keys = \"{file}\""))), [expect]);
    }
    for file in ["/tickets", "/new-tickets", "tickets"] {
        assert_eq!(told(&machine, &with(&format!("ticket_keys = \"{file}\""))), (vec![], vec![]), "{file}");
    }
}

#[test]
fn what_is_not_private_or_not_in_time_is_told() {
    let machine = machine();
    let warnings = |lines: &str| {
        let (problems, warnings) = told(&machine, lines);
        assert_eq!(problems, [""; 0]);
        warnings
    };
    for (key, who) in [("/open.key", "every user of this machine"), ("/group.key", "the group of the file")] {
        let expect =
            format!("a private key of tls of [listener.l] is not private | {who} may read it: run `chmod 600 {key}`");
        assert_eq!(warnings(&one("/a.pem", key)), [expect]);
    }
    let tickets = format!("{}\nticket_keys = \"/open-tickets\"", one("/a.pem", "/a.key"));
    assert_eq!(
        warnings(&tickets),
        [
            "the secret of session tickets of tls of [listener.l] is not private | every user of this machine may read it: run `chmod 600 /open-tickets`"
        ]
    );
    assert_eq!(
        warnings(&one("/short.pem", "/short.key")),
        ["a certificate of tls of [listener.l] needs attention | the certificate expires in 11 days: renew it"]
    );
    let many = |files: &[&str]| {
        let entry = |name: &&str| format!("{{ chain = \"/{name}.pem\", key = \"/{name}.key\" }}");
        let entries: Vec<String> = files.iter().map(entry).collect();
        warnings(&format!("certificates = [{}]", entries.join(", ")))
    };
    assert!(many(&["a", "b", "rsa"]).is_empty());
    assert_eq!(
        many(&["a", "b", "again"]),
        ["a certificate of tls of [listener.l] is never used | its names have a certificate already: take one away"]
    );
}
