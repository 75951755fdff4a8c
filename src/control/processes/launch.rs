//! How an instance is started: words and environment with their placeholders filled in, its user, its socket.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::letters::StartNote;
use super::php;
use crate::app::process::words::{Place, fill};
use crate::config::model::{Listening, ProcessApp, RunAs};
use crate::runtime::net::Address;
use crate::runtime::sys::processes::Limited;
use crate::runtime::sys::users::{Account, find_account, is_own_or_root, is_root};

/// Variables of ours that programs get too.
const PASSED_ON: [&str; 5] = ["PATH", "LANG", "LC_ALL", "TZ", "HOME"];

/// PATH where there is none, as that of login(1).
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// Whom programs may run as.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    /// Whom this process becomes once it has started; `None`: it stays who it is.
    own: Option<Account>,
    /// It could become anybody when it started, or its keeper could.
    is_root: bool,
}

impl Rights {
    /// Those of this process, which will become `own`. To be called before it does.
    pub(super) fn new(own: Option<Account>) -> Rights {
        Rights { own, is_root: is_root() }
    }

    /// Those of a keeper that was root when this process was not there yet; it knows for whom programs may be started.
    pub(super) fn of_inherited_keeper(run_as: Option<&RunAs>) -> Rights {
        let own = run_as.and_then(|RunAs { user, group }| find_account(user, group.as_deref()).ok());
        Rights { own, is_root: true }
    }

    /// Whom the instances of `app` run as; `None`: whoever the keeper is.
    ///
    /// Errors: there is no such user, or this process may not start programs as it; for a person.
    pub(super) fn account(&self, app: &ProcessApp) -> Result<Option<Account>, String> {
        let Some(run_as) = &app.launch.run_as else { return Ok(self.own.clone()) };
        let account = find_account(&run_as.user, run_as.group.as_deref()).map_err(|error| error.to_string())?;
        if self.is_root {
            return Ok(Some(account));
        }
        if account.uid != 0 && is_own_or_root(account.uid) && run_as.group.is_none() {
            return Ok(None);
        }
        Err(format!(
            "only root can start programs as user `{}`: start one-server as root, or take `user` away",
            account.user
        ))
    }
}

/// What the keeper is told. Errors: for a person.
pub(super) fn note(
    app: &ProcessApp,
    id: u64,
    slot: usize,
    address: &Address,
    rights: &Rights,
) -> Result<StartNote, String> {
    let account = rights.account(app)?;
    let (path, port) = match address {
        Address::Unix(path) => (path.to_str(), None),
        Address::Tcp(address) => (None, Some(address.port())),
        Address::Name(_) | Address::App(_) => (None, None),
    };
    let place = Place { socket: path, port, instance: slot };
    let filled = |text: &String| fill(text, &place).map_err(|name| format!("there is no {{{name}}} for it"));
    let launch = &app.launch;
    let words = launch.words.iter().map(filled).collect::<Result<_, _>>()?;
    let mut environment = inherited(account.as_ref());
    environment.extend(port.map(|port| ("PORT".into(), port.to_string())));
    for (name, value) in &launch.environment {
        environment.retain(|(known, _)| known != name);
        environment.push((name.clone(), filled(value)?));
    }
    let directory = launch.directory.as_deref().unwrap_or(Path::new("."));
    let directory = std::path::absolute(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let limits = [
        (Limited::Files, launch.open_files),
        (Limited::Processes, launch.processes_max),
        (Limited::AddressSpace, launch.address_space_bytes_max),
    ];
    let mut note = StartNote {
        id,
        words,
        environment,
        directory,
        account: account.as_ref().map(Into::into),
        limits: limits.into_iter().filter_map(|(what, limit)| Some((what, limit?))).collect(),
        kill_timeout_ms: u64::try_from(app.rules.kill_timeout.as_millis()).unwrap_or(u64::MAX),
        stops_by_quit: launch.php.is_some(),
    };
    if let (Some(_), Some(path)) = (&launch.php, path) {
        let is_root = account.map_or_else(is_root, |account| account.uid == 0);
        if is_root {
            tracing::warn!(app = %app.name, "PHP runs as root: give the application a `user`");
        }
        php::complete(&mut note, path, is_root);
    }
    Ok(note)
}

/// What a program gets of our environment, and who it is.
fn inherited(account: Option<&Account>) -> Vec<(String, String)> {
    // The home of whoever starts us is not that of another user.
    let passed = PASSED_ON.into_iter().filter(|name| *name != "HOME" || account.is_none());
    let mut variables: Vec<(String, String)> =
        passed.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect();
    if !variables.iter().any(|(name, _)| name == "PATH") {
        variables.push(("PATH".into(), PATH_DEFAULT.into()));
    }
    let user = account.map(|account| account.user.clone());
    variables.extend(user.into_iter().flat_map(|user| ["USER", "LOGNAME"].map(|name| (name.to_owned(), user.clone()))));
    variables
}

/// Makes way for its socket, or looks whether its port is free; with `listen = "fd"` the socket is bound here and goes to the program.
///
/// Errors: for a person.
pub(super) fn socket(app: &ProcessApp, address: &Address) -> Result<Option<OwnedFd>, String> {
    let path = match address {
        Address::Unix(path) => path,
        // Whoever else listens there would be taken for the instance, and get its requests.
        Address::Tcp(port) => {
            return match TcpListener::bind(port) {
                Ok(_) => Ok(None),
                Err(error) => Err(format!("{port} cannot be its port: {error}")),
            };
        }
        Address::Name(_) | Address::App(_) => return Ok(None),
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(format!("{} is in the way: {error}", path.display()));
        }
        _ => {}
    }
    if app.launch.listening != Listening::Descriptor {
        return Ok(None);
    }
    let listener = UnixListener::bind(path).map_err(|error| format!("cannot listen on {}: {error}", path.display()))?;
    Ok(Some(listener.into()))
}
