//! How the scripts install what is missing: Debian's packages without a question, and without starting what they bring. What they call
//! is written down here instead of being done.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What is run for `install_package PACKAGE` by somebody who is not root, one command in each line; `how` apt-get ends.
fn installed(package: &str, how: u8) -> (bool, Vec<String>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let program = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    };
    program("id", "echo 1000");
    let sudo = format!(
        "echo \"$*\" >> '{}'\ncase \"$*\" in *' install '*) cat; exit {how} ;; tee*) cat > /dev/null ;; esac",
        log.display()
    );
    program("sudo", &sudo);
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a path"));
    let script = format!(". '{}/scripts/lib.sh'; install_package {package}", env!("CARGO_MANIFEST_DIR"));
    let mut bash = Command::new("bash");
    let output = bash.args(["-euc", &script]).env("PATH", path).stdin(Stdio::null()).output().expect("it runs");
    let done = std::fs::read_to_string(log).expect("something was run").lines().map(str::to_owned).collect();
    (output.status.success(), done, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What stands in the way of a start, around what is installed; it is left alone where somebody else has put it there.
fn expected(package: &str) -> Vec<String> {
    let install = format!(
        "env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 {package}"
    );
    let (before, behind) = match Path::new(POLICY).exists() {
        true => (Vec::new(), Vec::new()),
        false => (vec![format!("tee {POLICY}"), format!("chmod 755 {POLICY}")], vec![format!("rm -f {POLICY}")]),
    };
    [vec!["apt-get update -qq".to_owned()], before, vec![install], behind].concat()
}

#[test]
fn packages_are_installed_without_a_question_and_without_a_start() {
    let (is_done, done, told) = installed("wordpress", 0);
    assert!(is_done, "{told}");
    assert_eq!(done, expected("wordpress"));
}

#[test]
fn a_package_that_cannot_be_installed_ends_the_script_and_leaves_nothing_behind() {
    let (is_done, done, told) = installed("wordpress", 100);
    assert!(!is_done && told.contains("apt-get install wordpress failed"), "{told}");
    assert_eq!(done, expected("wordpress"));
}
