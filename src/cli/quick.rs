//! static, proxy and split: a config from flags alone.

use std::path::Path;
use std::sync::Arc;

use super::Failure;
use super::args::{DemoArgs, ProxyArgs, SplitArgs, StaticArgs};
use super::flags::Tuning;
use crate::config::model::{Action, Balance, MysqlServer, Secret, Server};
use crate::config::{self, Config, Defaults};
use crate::runtime::net::Address;

fn defaults(tuning: &Tuning) -> Defaults {
    Defaults::new(tuning.0.clone())
}

/// `static DIR`.
pub(super) fn files(args: StaticArgs) -> Result<Config, Failure> {
    if !args.root.is_dir() {
        return Err(Failure::new(format_args!("{} is not a folder", args.root.display())));
    }
    let defaults = defaults(&args.tuning);
    let mut files = defaults.files(&args.root);
    if !args.index.is_empty() {
        files.index = args.index;
    }
    files.fallback = args.fallback;
    let mut config = defaults.config().map_err(Failure::new)?;
    config.add_site("static", &args.listen, Action::Files(Arc::new(files)));
    without_clashes(config)
}

/// `proxy --to ADDR`.
pub(super) fn proxy(args: ProxyArgs) -> Result<Config, Failure> {
    let mut overrides = args.tuning.0;
    overrides.extend(args.upstream.0);
    let defaults = Defaults::new(overrides);
    let mut upstream = defaults.upstream("proxy");
    if upstream.balance == Balance::Local {
        return Err(Failure::new("--balance local is for programs inside this process: choose another one"));
    }
    upstream.servers.extend(args.to.into_iter().map(Server::new));
    upstream.servers.extend(args.backup.into_iter().map(Server::backup));
    upstream.written = upstream.servers.as_slice().into();
    let mut config = defaults.config().map_err(Failure::new)?;
    config.upstreams.push(upstream);
    config.add_site("proxy", &args.listen, Action::Proxy(0));
    without_clashes(config)
}

/// `split --primary ADDR`.
pub(super) fn split(args: SplitArgs) -> Result<Config, Failure> {
    let mut overrides = args.tuning.0;
    overrides.extend(args.splitter.0);
    let defaults = Defaults::new(overrides);
    let mut splitter = defaults.splitter("split");
    splitter.listen = args.listen;
    splitter.servers = std::iter::once(args.primary).chain(args.replica).map(MysqlServer::new).collect();
    splitter.user = args.user;
    splitter.password = read_password(&args.password_file)?;
    splitter.database = args.database.unwrap_or_default();
    let mut config = defaults.config().map_err(Failure::new)?;
    config.splitters.push(splitter);
    without_clashes(config)
}

/// The config, unless it listens twice on one address.
fn without_clashes(config: Config) -> Result<Config, Failure> {
    let sites = config.listeners.iter().map(|listener| listener.address).chain(config.admin).map(Address::Tcp);
    let splitters = config.splitters.iter().flat_map(|splitter| splitter.listen.iter().cloned());
    let mut seen = std::collections::HashSet::new();
    let picks_its_port = |address: &Address| matches!(address, Address::Tcp(tcp) if tcp.port() == 0);
    let twice = sites.chain(splitters).find(|address| !picks_its_port(address) && !seen.insert(address.clone()));
    match twice {
        Some(address) => Err(Failure::new(format_args!("{address} is listened on twice: take another port"))),
        None => Ok(config),
    }
}

/// The first line of a password file. Errors: unreadable or empty.
pub(super) fn read_password(file: &Path) -> Result<Secret, Failure> {
    match config::read_password_file(file) {
        Ok(password) if password.is_empty() => {
            Err(Failure::new(format_args!("the first line of {} is empty: write the password there", file.display())))
        }
        Ok(password) => Ok(Secret(password)),
        Err(error) => Err(Failure::new(format_args!("cannot read the password file {}: {error}", file.display()))),
    }
}

impl DemoArgs {
    /// Defaults under the tuning flags: the parts the demo site is built from.
    pub fn defaults(&self) -> Defaults {
        defaults(&self.tuning)
    }

    /// The password of `--password-file`; `None` without that flag. Errors: unreadable or empty.
    pub fn password(&self) -> Result<Option<Secret>, Failure> {
        self.password_file.as_deref().map(read_password).transpose()
    }
}
