//! Where instances listen: a folder for the sockets of one process, and ports beside those of the process before.

use std::collections::{HashMap, HashSet};
use std::fs::Permissions;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::model::Upstream;
use crate::runtime::net::Address;
use crate::runtime::sys::users::{Account, is_own_or_root, is_root};

/// How many rows of ports are looked at. One process after the other may be draining, each with a row.
const ROWS_MAX: u16 = 16;

/// Where the sockets of this process's programs lie: in the folder that a service manager has made for it (RUNTIME_DIRECTORY,
/// systemd.exec(5)), in /run for root, in that of the user's session, or in that of temporary files.
///
/// `stays`: the process stays who it is; else what it makes later is not made by root.
pub(super) fn sockets_folder(stays: bool) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // There may be several, between colons.
    let first = |folders: PathBuf| folders.to_str().and_then(|text| text.split(':').next()).map(PathBuf::from);
    let of_service = variable("RUNTIME_DIRECTORY").and_then(first);
    let is_ours = |folder: &PathBuf| rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok();
    let of_service = of_service.filter(is_ours);
    let base = match is_root() && stays {
        true => of_service.unwrap_or_else(|| "/run".into()),
        false => of_service.or_else(|| variable("XDG_RUNTIME_DIR")).unwrap_or_else(std::env::temp_dir),
    };
    base.join(format!("one-server-apps-{}", std::process::id()))
}

/// Makes it, for its owner alone: nobody but this process is to connect there.
///
/// Errors: it cannot be made, or somebody else has made it.
pub(super) fn make_folder(folder: &Path, owner: Option<&Account>) -> io::Result<()> {
    match std::fs::symlink_metadata(folder) {
        // Of a process of the same number that was killed, keeper and all; or of this one, whose keeper was.
        Ok(found) if found.is_dir() && (is_own_or_root(found.uid()) || is_of_root_alone(folder)) => {
            // Where root is gone, the folder around it is no longer ours to change.
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
            }
            std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        }
        Ok(_) => return Err(io::Error::other(format!("{} belongs to somebody else", folder.display()))),
        Err(_) => std::fs::DirBuilder::new().mode(0o700).create(folder)?,
    }
    match owner {
        Some(owner) => std::os::unix::fs::lchown(folder, Some(owner.uid), Some(owner.gid)),
        None => Ok(()),
    }
}

/// Whether we are root, and nobody else could have put it where it is: what is there was made by a process of ours that became
/// another user.
fn is_of_root_alone(folder: &Path) -> bool {
    let around = folder.parent().and_then(|around| std::fs::metadata(around).ok());
    is_root() && around.is_some_and(|around| around.uid() == 0 && around.mode() & 0o022 == 0)
}

/// Ports for programs of a process that takes over: those of the config belong to programs that finish what they have. By name
/// of the upstream, how far behind those of the config they are.
pub(super) fn free_ports(config: &Config) -> HashMap<String, u16> {
    free_rows(config, |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}

/// None gets ports that another one gets or that the config gives to something else, also where nobody listens there yet.
fn free_rows(config: &Config, is_free: impl Fn(u16) -> bool) -> HashMap<String, u16> {
    let listeners = config.listeners.iter().filter(|listener| listener.udp.is_none());
    let splitters = config.splitters.iter().flat_map(|splitter| &splitter.listen);
    let mut taken: HashSet<u16> = listeners.map(|listener| listener.address.port()).collect();
    taken.extend(splitters.filter_map(port).chain(config.admin.map(|address| address.port())));
    let rows: Vec<(&str, Vec<u16>)> =
        config.upstreams.iter().filter(|upstream| upstream.is_supervised).map(row).collect();
    taken.extend(rows.iter().flat_map(|(_, ports)| ports));
    let mut behind = HashMap::new();
    for (name, ports) in rows {
        let is_ours = |port: u16| (!taken.contains(&port) || ports.contains(&port)) && is_free(port);
        if let Some(far) = behind_by(&ports, is_ours) {
            taken.extend(ports.iter().map(|port| port + far));
            behind.insert(name.to_owned(), far);
        }
    }
    behind
}

fn row(upstream: &Upstream) -> (&str, Vec<u16>) {
    (&upstream.name, upstream.servers.iter().filter_map(|server| port(&server.address)).collect())
}

fn port(address: &Address) -> Option<u16> {
    if let Address::Tcp(address) = address { Some(address.port()) } else { None }
}

/// `None`: it has no ports, or none are free; what there is then is tried, and fails with the program's own words.
fn behind_by(ports: &[u16], is_free: impl Fn(u16) -> bool) -> Option<u16> {
    let step = u16::try_from(ports.len()).ok().filter(|step| *step > 0)?;
    (0..ROWS_MAX)
        .filter_map(|row| step.checked_mul(row))
        .find(|behind| ports.iter().all(|port| port.checked_add(*behind).is_some_and(&is_free)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A config of applications with these first ports and numbers of instances; each may have one more while it is replaced.
    fn config(apps: &[(&str, u16, usize)], more: &str) -> Config {
        let table = |(name, first, instances): &(&str, u16, usize)| {
            format!(
                "[app.{name}]\ntype = \"process\"\ncommand = [\"sh\", \"{{port}}\"]\nfirst_port = {first}\ninstances = {instances}\n"
            )
        };
        let text: String = apps.iter().map(table).collect();
        let rest = "[listener.first]\naddress = \"127.0.0.1:0\"\n[site.s]\nroute = [{ path = \"/\", respond = {} }]\n";
        crate::config::parse("test.toml", &format!("{text}{more}{rest}"), &[]).expect("no mistakes").0
    }

    fn check(apps: &[(&str, u16, usize)], more: &str, busy: &[u16], expect: &[(&str, u16)]) {
        let rows = free_rows(&config(apps, more), |port| !busy.contains(&port));
        let expect = expect.iter().map(|(name, far)| (format!("app:{name}"), *far)).collect();
        assert_eq!(rows, expect, "{apps:?} {more} {busy:?}");
    }

    #[test]
    fn neighbours_get_rows_of_their_own() {
        let two = [("a", 9000, 1), ("b", 9002, 1)];
        check(&two, "", &[], &[("a", 0), ("b", 0)]);
        check(&two, "", &[9000, 9002], &[("a", 4), ("b", 4)]);
        // Behind another takeover.
        check(&two, "", &[9004, 9006], &[("a", 0), ("b", 0)]);
        check(&two, "", &[9000, 9002, 9004, 9006], &[("a", 8), ("b", 8)]);
        // Half a row of another one is as bad as a whole one.
        check(&[("a", 9000, 1), ("b", 9003, 1)], "", &[9000, 9003], &[("a", 6), ("b", 6)]);
        check(&[("a", 9000, 2), ("b", 9003, 1)], "", &[9001, 9003], &[("a", 6), ("b", 6)]);
        // One that is not there now has its ports all the same.
        check(&two, "", &[9000], &[("a", 4), ("b", 0)]);
    }

    #[test]
    fn ports_of_listeners_are_nobodys() {
        let lines = "[listener.web]\naddress = \"0.0.0.0:9003\"\n[listener.dns]\naddress = \"127.0.0.1:9005\"\n\
                     [admin]\naddress = \"127.0.0.1:9006\"\n";
        check(&[("a", 9000, 1)], lines, &[9000], &[("a", 8)]);
        check(&[("a", 65_534, 1)], "", &[65_534], &[]);
    }
}
