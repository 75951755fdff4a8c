//! The application that people copy to begin with (`examples/app-template`) runs with the config that lies beside it, and
//! asks in its own manifest for no more than it is built with here.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use support::client::End;
use support::*;
use toml_edit::{DocumentMut, Item};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/app-template");

fn text(name: &str) -> String {
    std::fs::read_to_string(Path::new(FOLDER).join(name)).expect("a file of the template")
}

fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let program = own.parent().and_then(Path::parent).expect("target/debug").join("examples/app_template");
    assert!(program.is_file(), "{} is not there: `cargo test` builds it", program.display());
    program
}

#[test]
fn it_does_what_its_readme_says() {
    with_both_drivers(|driver| {
        let config = text("app.toml");
        let change = |config: &str, from: &str, to: &str| {
            assert!(config.contains(from), "{from}");
            config.replace(from, to)
        };
        let config = change(&config, "127.0.0.1:8080", "127.0.0.1:0");
        let config = change(&config, "\"public\"", &format!("\"{FOLDER}/public\""));
        let config = change(&config, "[process]", &format!("[process]\ndriver = \"{}\"", driver.flag()));
        let mut server = Site::new(driver, "").program(&program()).whole(&config).start();
        let mut client = server.connect();
        assert!(client.ask(get("/")).text().contains("<title>Notes</title>"), "{driver:?}");
        assert_eq!(client.ask(get("/api/notes")).text(), "[]", "{driver:?}");
        let mut live = server.connect();
        let fields = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        live.send(request("GET", "/api/live", &fields, ""));
        assert_eq!(live.response("GET").status, 101, "{driver:?}");
        let json = ["Content-Type: application/json"];
        // Every application worker knows the board.
        for n in 0..4 {
            let mut client = server.connect();
            let answer = client.ask(request("POST", "/api/notes", &json, &format!("{{\"text\":\"note {n}\"}}")));
            let note = format!("{{\"from\":\"127.0.0.1\",\"text\":\"note {n}\"}}");
            assert_eq!((answer.status, answer.text()), (201, note.clone()), "{driver:?}");
            let framed = [&[0x81, note.len() as u8], note.as_bytes()].concat();
            eventually("the note is told", || live.buffered().ends_with(&framed) || live.fill().is_err());
            assert_eq!(client.ask(get("/api/notes")).text().matches("note ").count(), n + 1, "{driver:?}");
        }
        assert_eq!(client.ask(request("POST", "/api/notes", &json, "{}")).status, 422, "{driver:?}");
        server.signal(Signal::QUIT);
        let (bytes, end) = live.read_to_end();
        assert!(bytes.ends_with(b"\x88\x09\x03\xe9restart"), "{driver:?}: {bytes:?}");
        assert!(matches!(end, End::Closed), "{driver:?}");
        drop((live, client));
        assert!(server.wait().success(), "{driver:?}");
    });
}

/// Version and features of each dependency.
fn dependencies(manifest: &DocumentMut, table: &str) -> Vec<(String, String, Vec<String>)> {
    let table = manifest.get(table).and_then(Item::as_table).expect("dependencies");
    let asked = |(name, item): (&str, &Item)| {
        let version = item.as_str().or_else(|| item.get("version")?.as_str()).unwrap_or_default();
        let features = item.get("features").and_then(Item::as_array);
        let features = features.into_iter().flatten().filter_map(|feature| feature.as_str()).map(str::to_owned);
        (name.to_owned(), version.to_owned(), features.collect())
    };
    table.iter().map(asked).collect()
}

#[test]
fn its_manifest_asks_for_what_it_is_built_with_here() {
    let own: DocumentMut = text("Cargo.toml").parse().expect("TOML");
    let ours = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("a manifest");
    let ours: DocumentMut = ours.parse().expect("TOML");
    let here = [dependencies(&ours, "dependencies"), dependencies(&ours, "dev-dependencies")].concat();
    let asked = dependencies(&own, "dependencies");
    let source = text("src/main.rs");
    for (name, version, features) in &asked {
        assert!(source.contains(&name.replace('-', "_")), "{name} is not used");
        if name == "one-server" {
            continue;
        }
        let same: Vec<_> = here.iter().filter(|(known, other, _)| known == name && other == version).collect();
        assert!(!same.is_empty(), "{name} {version} is not what is used here");
        for feature in features {
            assert!(same.iter().any(|(.., known)| known.contains(feature)), "feature {feature} of {name}");
        }
    }
    let used = ["axum", "one_server", "serde", "serde_json", "tokio"];
    for name in used.iter().filter(|name| source.contains(&format!("{name}::"))) {
        assert!(asked.iter().any(|(known, ..)| known.replace('-', "_") == **name), "{name} is not asked for");
    }
    assert!(text("README.md").lines().count() <= 20, "it is to be read");
}

/// A copy of it that says where one-server is, and has the versions that are here.
fn copied() -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    let manifest = text("Cargo.toml");
    assert!(manifest.contains("path = \"../..\""), "{manifest}");
    let manifest = manifest.replace("\"../..\"", &format!("\"{}\"", env!("CARGO_MANIFEST_DIR")));
    std::fs::create_dir(copy.path().join("src")).expect("a folder");
    std::fs::write(copy.path().join("Cargo.toml"), manifest).expect("written");
    std::fs::write(copy.path().join("src/main.rs"), text("src/main.rs")).expect("written");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"), copy.path().join("Cargo.lock")).expect("a copy");
    copy
}

fn cargo(copy: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).current_dir(copy).args(arguments).arg("--offline").output().expect("cargo");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}:\n{told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a copy is built from: the same versions as here, and one-server with no more features than its own manifest turns on.
#[test]
fn a_copy_finds_all_that_it_asks_for() {
    let copy = copied();
    let arguments = ["tree", "--edges", "normal", "--depth", "1", "--prefix", "none", "--format", "{p}"];
    let found = cargo(copy.path(), &arguments);
    let here = concat!("one-server v", env!("CARGO_PKG_VERSION"), " (", env!("CARGO_MANIFEST_DIR"), ")");
    assert!(found.starts_with("notes v0.1.0") && found.lines().any(|line| line == here), "{found}");
    for (name, ..) in dependencies(&text("Cargo.toml").parse().expect("TOML"), "dependencies") {
        assert!(found.contains(&format!("\n{name} v")), "{name} in {found}");
    }
}
