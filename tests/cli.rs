//! The real binary: exit codes, streams, and that a check leaves no trace. What the flags mean is tested beside them.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn one_server(args: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_one-server"));
    command.args(args).current_dir(folder).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A good config that would bind, create and log if it were started.
fn good(port: u16) -> String {
    format!(
        "[listener.web]\naddress = \"127.0.0.1:{port}\"\n\
         [site.main]\n[[site.main.route]]\npath = \"/\"\nfiles = \"html\"\n\
         [[site.main.route]]\npath = \"/api/\"\nproxy = \"api\"\n\
         [upstream.api]\nservers = \"127.0.0.1:{port}\"\n\
         [mysql.db]\nlisten = \"unix:mysql.sock\"\nprimary = \"127.0.0.1:{port}\"\nuser = \"u\"\npassword_file = \"password\"\n\
         [log]\naccess = \"access.log\"\n"
    )
}

/// A folder with this config, a private password and the folder it serves.
fn folder(config: &str) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("site.toml"), config).expect("written");
    std::fs::write(folder.path().join("password"), "p\n").expect("written");
    std::fs::set_permissions(folder.path().join("password"), std::fs::Permissions::from_mode(0o600)).expect("chmod");
    std::fs::create_dir(folder.path().join("html")).expect("created");
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_good_file_is_ok_and_nothing_is_touched() {
    // The port is taken, so that binding it would fail; the server behind the upstream would see a connection.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    taken.set_nonblocking(true).expect("a socket");
    let folder = folder(&good(taken.local_addr().expect("an address").port()));
    let before = names(folder.path());
    for args in [&["check", "-c", "site.toml"][..], &["-t", "-c", "site.toml"]] {
        let output = one_server(args, folder.path());
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("site.toml: ok\n".into(), String::new()), "{args:?}");
        assert_eq!(output.status.code(), Some(0));
    }
    assert_eq!(names(folder.path()), before);
    assert!(taken.accept().is_err(), "a check connects to nobody");
}

#[test]
fn a_bad_file_is_told_on_stderr_with_code_1() {
    let folder = folder("[http]\nbody_mx = 1\n[listener.web]\naddress = \"127.0.0.1:99999\"\n");
    for args in [&["check", "-c", "site.toml"][..], &["-t", "-c", "site.toml"], &["run", "-c", "site.toml"]] {
        let output = one_server(args, folder.path());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
        let told = text(&output.stderr);
        for part in ["--> site.toml:2:1", "did you mean `body_max`?", "--> site.toml:4:11", "site.toml: 3 mistakes"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains('\u{1b}'), "no colours into a pipe");
    }
}

#[test]
fn warnings_do_not_fail() {
    let folder = folder(&format!("{}[upstream.idle]\nservers = \"10.0.0.1:1\"\n", good(0)));
    let output = one_server(&["check", "-c", "site.toml"], folder.path());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "site.toml: ok\n");
    let told = text(&output.stderr);
    assert!(told.starts_with("warning: [upstream.idle] is used by no route\n  --> site.toml:19:11\n"), "{told}");
}

#[test]
fn wrong_flags_end_with_code_2_and_advice() {
    let folder = folder("");
    let output = one_server(&["static", ".", "--lisen", "127.0.0.1:1"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("'--listen'"), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
}

#[test]
fn help_goes_to_stdout_and_a_closed_pipe_is_no_mistake() {
    let folder = folder("");
    let output = one_server(&["--help"], folder.path());
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("Signals:") && output.stderr.is_empty());
    let mut child = Command::new(env!("CARGO_BIN_EXE_one-server"))
        .arg("config-reference")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn the_example_passes_the_check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = one_server(&["check", "-c", "examples/site.toml"], root);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "examples/site.toml: ok\n");
}
