//! Texts below the flags of `--help`, and the readers of addresses and paths.

use std::net::SocketAddr;

use crate::config::{Kind, Value};
use crate::runtime::net::Address;

macro_rules! signals {
    () => {
        "\
Signals:
  TERM, INT  stop fast: connections are closed
  QUIT       drain: no new connections, requests in flight end (--drain-timeout), then stop
  HUP        reload: read the config file and certificates again; connections stay, a bad file changes nothing
  USR1       reopen log files, after rotation (as in nginx; HAProxy stops on it)
  USR2       takeover: the program that lies on disk now is started with all listening sockets; once it is ready this
             process drains, and if it never is, goes on (as in nginx; HAProxy reloads on it)"
    };
}

pub(super) const TOP: &str = concat!(
    "\
Examples:
  one-server static ./public --listen 0.0.0.0:8080
  one-server proxy --listen 0.0.0.0:8080 --to 10.0.0.7:9000 10.0.0.8:9000 --health-path /healthz
  one-server split --listen 127.0.0.1:3307 --primary 10.0.0.10:3306 --replica 10.0.0.11:3306 \\
             --user app --password-file /etc/one-server/mysql.password
  one-server app --instances 2 -- gunicorn --bind unix:{socket} shop:app
  one-server check -c site.toml && one-server run -c site.toml
  one-server demo --no-database
  one-server cert self-signed localhost

",
    signals!(),
    "

Exit: 0 stopped as asked, or the file is good; 1 the file is bad, or starting failed; 2 wrong flags.
`one-server COMMAND --help` explains every flag, `-h` in short; `one-server config-reference` is the manual."
);

pub(super) const RUN: &str = concat!(
    "\
Examples:
  one-server run -c /etc/one-server/site.toml
  one-server run -c site.toml --data-cores 0-3 --driver epoll --access-log stdout

A flag wins over the same key in the file.

",
    signals!()
);

pub(super) const CHECK: &str = "\
Prints `FILE: ok` and exits with 0, or all mistakes with line, column and advice and exits with 1.
Warnings do not fail. `one-server -t -c FILE` does the same.";

pub(super) const STATIC: &str = concat!(
    "\
Examples:
  one-server static ./public
  one-server static /srv/app --listen 0.0.0.0:80 --fallback /index.html --access-log stdout

The admin listener and the access log are off unless their flags are given.

",
    signals!()
);

pub(super) const PROXY: &str = concat!(
    "\
Examples:
  one-server proxy --to 127.0.0.1:9000
  one-server proxy --listen 0.0.0.0:80 --to 10.0.0.7:9000 10.0.0.8:9000 --backup 10.0.0.9:9000 \\
             --balance least-conn --health-path /healthz --admin 127.0.0.1:9900

The admin listener and the access log are off unless their flags are given.

",
    signals!()
);

pub(super) const APP: &str = concat!(
    "\
Examples:
  one-server app -- gunicorn --bind unix:{socket} shop:app
  one-server app --listen 0.0.0.0:80 --instances 4 --env PORT={socket} -- node server.js
  one-server app --first-port 9000 -- ./my-server --listen 127.0.0.1:{port}
  one-server app --fd --user www-data --restart-memory 500MiB -- ./my-server-with-socket-activation
  one-server app --control /run/shop.sock --restart-requests 100000 -- node server.js {socket}
  one-server ctl --socket /run/shop.sock app restart app

An instance that ends is started again, behind failures with longer and longer pauses. Its output is in the log. Replacing
one costs no request. `ctl` knows the application as `app`.
Every key of `[app.NAME]` that a process may have is a flag, but for tables: `hash`, `sticky`, `outliers`. Its
`drain_timeout` is --instance-drain-timeout: --drain-timeout is that of one-server.

",
    signals!()
);

pub(super) const SPLIT: &str = concat!(
    "\
Examples:
  one-server split --primary 10.0.0.10:3306 --replica 10.0.0.11:3306 10.0.0.12:3306 \\
             --user app --password-file /etc/one-server/mysql.password
  mysql -h 127.0.0.1 -P 3307 -u app -p

Reads go to a replica only when they cannot differ from what the session must see.
The admin listener is off unless its flag is given.

",
    signals!()
);

pub(super) const DEMO: &str = concat!(
    "\
Examples:
  one-server demo
  one-server demo --no-database --listen 0.0.0.0:8080
  one-server demo --tls --listen 127.0.0.1:8443
  one-server demo --primary 127.0.0.1:3306 --replica 127.0.0.1:3316 --user demo --password-file ./password

",
    signals!()
);

pub(super) const CTL: &str = "\
Examples:
  one-server ctl show
  one-server ctl reload --socket /run/shop.sock
  one-server ctl server api/10.0.0.7:8080 drain
  one-server ctl server api/10.0.0.7:8080 weight 5
  one-server ctl upstream api fail-back
  one-server ctl mysql digests shop --sort errors --limit 10
  one-server ctl mysql show
  one-server ctl mysql drain main/10.0.0.11:3306
  one-server ctl upgrade
  one-server ctl shutdown --drain

The process listens there when its config says so: control = \"/run/one-server.sock\" in [process].
Exit: 0 done; 1 refused, or nobody is there; 2 wrong flags.";

pub(super) const UPGRADE: &str = "\
Examples:
  one-server upgrade
  one-server upgrade --socket /run/shop.sock

The process listens there when its config says so: control = \"/run/one-server.sock\" in [process]. SIGUSR2 does the same; the
answer is then in the log.
Exit: 0 done; 1 refused, the process goes on as before; 2 wrong flags.";

pub(super) const SELF_SIGNED: &str = "\
Examples:
  one-server cert self-signed localhost 127.0.0.1 ::1
  one-server cert self-signed example.org '*.example.org' --out /etc/one-server --days 90

Writes NAME.pem and NAME.key (ECDSA P-256, readable by you alone) and prints the lines for the config file.
Browsers warn of such a certificate: nobody but itself vouches for it.";

pub(super) const COMPLETIONS: &str = "\
Examples:
  one-server completions bash > /etc/bash_completion.d/one-server
  one-server completions zsh > ~/.zfunc/_one-server";

/// IP and port.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    match Kind::SocketAddress.parse(text)? {
        Value::SocketAddress(address) => Ok(address),
        other => unreachable!("an address, not {other:?}"),
    }
}

/// TCP or Unix socket.
pub(super) fn address(text: &str) -> Result<Address, String> {
    match Kind::Address.parse(text)? {
        Value::Address(address) => Ok(address),
        other => unreachable!("an address, not {other:?}"),
    }
}

/// The same, or a name with a port.
pub(super) fn server(text: &str) -> Result<Address, String> {
    match Kind::Server.parse(text)? {
        Value::Address(address) => Ok(address),
        other => unreachable!("an address, not {other:?}"),
    }
}

/// Path of a URL.
pub(super) fn url_path(text: &str) -> Result<String, String> {
    match Kind::UrlPath.parse(text)? {
        Value::Text(path) => Ok(path),
        other => unreachable!("a path, not {other:?}"),
    }
}

/// NAME=VALUE.
pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}
