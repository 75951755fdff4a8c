//! `one-server demo`: writes the config of the demo site as text, as an operator would, and compiles it.
//!
//! The site is one process playing all four boxes: the public listener serves files and balances `/guestbook/` over
//! two more listeners of the same process, whose site calls the guest book on the application workers, which reaches
//! its database through the splitter.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::{DemoArgs, Failure};
use crate::app::{App, Registry};
use crate::config::{self, Config};
use crate::demo::site::SiteFolder;
use crate::demo::{self, DatabaseSettings, DemoSettings};
use crate::runtime::net::Address;
use crate::tls::self_signed;

/// Name of the program in the config.
const PROGRAM: &str = "guestbook";
/// Days for which the certificate of `--tls` is good: it ends with the process, so this is plenty.
const CERTIFICATE_DAYS: u32 = 30;
/// Where the admin pages are when nobody says.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

/// What `one-server demo` leads to.
#[derive(Debug)]
pub enum Demo {
    /// `--print-config`: this text, for standard output.
    Print(String),
    /// Start this.
    Start(Box<Start>),
}

/// A demo site ready to start. Its files exist as long as this value.
#[derive(Debug)]
pub struct Start {
    /// Its config.
    pub config: Config,
    /// What to tell whoever started it, one line each.
    pub notes: Vec<String>,
    settings: DemoSettings,
    folder: SiteFolder,
}

impl Start {
    /// Adds the guest book to `programs`; hands out the config and the folder, which goes when it is dropped.
    pub fn into_parts(self, programs: &mut Registry) -> (Config, SiteFolder) {
        let settings = self.settings;
        programs.add(PROGRAM, App::new(move |_| demo::router(settings.clone())));
        (self.config, self.folder)
    }
}

/// Prepares the demo: writes its static files to a folder for temporary files, picks ports, makes the config.
///
/// With `--tls` the folder holds a certificate and its key too: the config names files.
/// Errors: the folder cannot be written, no port is free, the password file cannot be read, flags that contradict.
pub fn prepare(args: &DemoArgs) -> Result<Demo, Failure> {
    if args.print_config {
        return Ok(Demo::Print(example(args).to_string()));
    }
    let folder = SiteFolder::create()
        .map_err(|error| Failure::new(format_args!("cannot write the demo's files to a temporary folder: {error}")))?;
    let site = chosen(args, &folder)?;
    let settings = DemoSettings::new(database(args, &site)?);
    let config = compile(args, &site)?;
    let notes = notes(args, &site, &config);
    Ok(Demo::Start(Box::new(Start { config, notes, settings, folder })))
}

/// What differs from one demo to the next; `Display` writes the config file.
struct SiteConfig<'a> {
    root: PathBuf,
    listen: SocketAddr,
    certificate: Option<CertificateFiles>,
    servers: [SocketAddr; 2],
    admin: Option<SocketAddr>,
    splitter: Option<SplitterConfig<'a>>,
}

#[derive(Clone)]
struct CertificateFiles {
    chain: PathBuf,
    key: PathBuf,
}

struct SplitterConfig<'a> {
    listen: Address,
    primary: &'a Address,
    replicas: &'a [Address],
    user: &'a str,
    password_file: &'a Path,
    database: &'a str,
}

/// The site for `--print-config`: fixed names and ports instead of those that are free now.
fn example(args: &DemoArgs) -> SiteConfig<'_> {
    let listen = Address::Unix("/run/one-server/mysql.sock".into());
    SiteConfig {
        root: "/var/www/demo".into(),
        listen: args.listen,
        // Where `one-server cert self-signed localhost --out /etc/one-server` puts them.
        certificate: args.tls.then(|| CertificateFiles {
            chain: "/etc/one-server/localhost.pem".into(),
            key: "/etc/one-server/localhost.key".into(),
        }),
        servers: [SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)), SocketAddr::from((Ipv4Addr::LOCALHOST, 8082))],
        admin: Some(ADMIN),
        splitter: splitter(args, listen),
    }
}

fn chosen<'a>(args: &'a DemoArgs, folder: &SiteFolder) -> Result<SiteConfig<'a>, Failure> {
    let mut taken = Vec::new();
    let listen = match args.listen.port() {
        0 => SocketAddr::new(args.listen.ip(), free_port(0, &mut taken)?),
        port => {
            taken.push(port);
            args.listen
        }
    };
    let flags = args.defaults().config().map_err(Failure::new)?;
    let admin = match flags.admin {
        Some(address) if address.port() != 0 => address,
        Some(address) => SocketAddr::new(address.ip(), free_port(0, &mut taken)?),
        None => SocketAddr::new(ADMIN.ip(), free_port(ADMIN.port(), &mut taken)?),
    };
    taken.push(admin.port());
    let next = listen.port().saturating_add(1);
    let server = |wish, taken: &mut _| Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(wish, taken)?)));
    let servers = [server(next, &mut taken)?, server(next.saturating_add(1), &mut taken)?];
    let splitter = splitter(args, Address::Unix(folder.path().join("mysql.sock")));
    let certificate = if args.tls { Some(made_certificate(listen, folder)?) } else { None };
    Ok(SiteConfig { root: folder.site(), listen, certificate, servers, admin: Some(admin), splitter })
}

/// A certificate for this machine's own names and the address listened on, in the demo's folder.
/// Errors: it cannot be made or written.
fn made_certificate(listen: SocketAddr, folder: &SiteFolder) -> Result<CertificateFiles, Failure> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    let address = listen.ip().to_string();
    if !listen.ip().is_unspecified() && !names.contains(&address) {
        names.push(address);
    }
    let made = self_signed(&names, CERTIFICATE_DAYS).map_err(Failure::new)?;
    let (chain, key) = folder.keep_certificate(&made.chain_pem, &made.key_pem).map_err(|error| {
        Failure::new(format_args!("cannot write the demo's certificate to a temporary folder: {error}"))
    })?;
    Ok(CertificateFiles { chain, key })
}

fn splitter(args: &DemoArgs, listen: Address) -> Option<SplitterConfig<'_>> {
    // clap requires user and password file together with the primary.
    let (primary, user, password_file) =
        (args.primary.as_ref()?, args.user.as_deref()?, args.password_file.as_deref()?);
    let database = args.database.as_deref().unwrap_or("guestbook");
    Some(SplitterConfig { listen, primary, replicas: &args.replica, user, password_file, database })
}

/// A port of the loopback address that is free now and not in `taken`: `wish` if it can be had, else the kernel's
/// choice. Somebody may take it before we listen; then the start fails and says so. Errors: no port is free.
fn free_port(wish: u16, taken: &mut Vec<u16>) -> Result<u16, Failure> {
    for port in [wish, 0, 0, 0, 0] {
        let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
        let Ok(address) = listener.local_addr() else { continue };
        if !taken.contains(&address.port()) {
            taken.push(address.port());
            return Ok(address.port());
        }
    }
    Err(Failure::new("no free port on 127.0.0.1 for the demo's servers"))
}

/// How the guest book reaches its database: through the splitter.
fn database(args: &DemoArgs, site: &SiteConfig<'_>) -> Result<Option<DatabaseSettings>, Failure> {
    let Some(splitter) = &site.splitter else { return Ok(None) };
    let password = args.password()?.ok_or_else(|| Failure::new("--primary needs --password-file"))?;
    Ok(Some(DatabaseSettings {
        address: splitter.listen.clone(),
        user: splitter.user.to_owned(),
        password,
        database: splitter.database.to_owned(),
    }))
}

/// Compiles the text with the flags laid over it. `--admin off` takes the live page's routes out again.
fn compile(args: &DemoArgs, site: &SiteConfig<'_>) -> Result<Config, Failure> {
    let parse = |text: String| {
        config::parse_with_flags("the demo's config", &text, &[PROGRAM], &args.tuning.0)
            .map_err(|report| Failure { text: report.to_string(), code: 1 })
    };
    let (mut config, _) = parse(site.to_string())?;
    if config.admin.is_some() {
        // The flag may say port 0; the live page's routes name the port that was chosen for it.
        config.admin = site.admin;
    } else {
        let (root, certificate) = (site.root.clone(), site.certificate.clone());
        let without = SiteConfig { admin: None, splitter: None, root, certificate, ..*site };
        let splitters = std::mem::take(&mut config.splitters);
        config = parse(without.to_string())?.0;
        config.splitters = splitters;
    }
    if let (Some(splitter), Some(password)) = (config.splitters.first_mut(), args.password()?) {
        splitter.password = password;
    }
    Ok(config)
}

fn notes(args: &DemoArgs, site: &SiteConfig<'_>, config: &Config) -> Vec<String> {
    let scheme = if site.certificate.is_some() { "https" } else { "http" };
    let origin = format!("{scheme}://{}", reachable(site.listen));
    let mut notes = vec![format!("demo: open {origin}/ in a browser")];
    if let Some(files) = &site.certificate {
        let chain = files.chain.display();
        notes.push("demo: the browser warns, because the certificate signs itself: accept it for this site".into());
        notes.push(format!("demo: curl trusts it with: curl --cacert {chain} {origin}/"));
    }
    notes.push(match config.admin {
        Some(admin) => format!("demo: live page {origin}/live.html, admin pages http://{admin}/"),
        None => "demo: the live page stays empty, because the admin listener is off".into(),
    });
    if config.splitters.is_empty() && !args.no_database {
        notes.push(
            "demo: no --primary was given, so the guest book stays in memory and there is no splitter; \
             `scripts/demo` starts a MariaDB primary and replica for it"
                .into(),
        );
    }
    notes
}

/// An address a browser on this machine can open: the loopback one instead of "every address".
fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port())),
        other => other,
    }
}

impl fmt::Display for SiteConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.servers;
        write!(
            f,
            r#"# The demo site: four boxes in one process.

[admin]
address = {admin}
trace = 1024                      # latest requests of each worker, for the live page

# Box one: files, and the door to everything else.
[listener.public]
address = "{listen}"
{tls}
[site.public]
listeners = ["public"]
default = true

[[site.public.route]]
path = "/"
files = {root}

[[site.public.route]]
path = "/guestbook/"
proxy = "guestbook"
"#,
            admin = quoted(&self.admin.map_or("off".to_owned(), |address| address.to_string())),
            listen = self.listen,
            tls = self.certificate.as_ref().map_or(String::new(), ToString::to_string),
            root = quoted(&self.root.to_string_lossy()),
        )?;
        if let Some(admin) = self.admin {
            write!(f, "{}", LivePage { admin })?;
        }
        write!(
            f,
            r#"
# Box two: the balancer. Its two servers are listeners of this same process; any other address would do.
[upstream.guestbook]
servers = ["{a}", "{b}"]
balance = "least-conn"
health = {{ path = "/guestbook/hello", interval = "1s" }}

# Box three: the application server. The program is compiled in, and runs on application workers.
[listener.a]
address = "{a}"

[listener.b]
address = "{b}"

[site.application]
listeners = ["a", "b"]
default = true

[[site.application.route]]
path = "/guestbook/"
app = "guestbook"

[app.guestbook]
program = "{PROGRAM}"              # the demo's own: for `run`, name `hello` or a program of your binary
"#
        )?;
        self.splitter.as_ref().map_or(Ok(()), |splitter| write!(f, "{splitter}"))
    }
}

impl fmt::Display for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (chain, key) = (quoted(&self.chain.to_string_lossy()), quoted(&self.key.to_string_lossy()));
        writeln!(f, "tls.certificates = [{{ chain = {chain}, key = {key} }}]")
    }
}

/// The routes that make the admin pages reachable for the live page.
struct LivePage {
    admin: SocketAddr,
}

impl fmt::Display for LivePage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in ["/status", "/trace"] {
            write!(f, "\n[[site.public.route]]\nexact = \"{path}\"\nproxy = \"admin\"\n")?;
        }
        write!(f, "\n[upstream.admin]\nservers = [\"{}\"]\nhealth = false\n", self.admin)
    }
}

impl fmt::Display for SplitterConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut replicas = String::new();
        for replica in self.replicas {
            let comma = if replicas.is_empty() { "" } else { ", " };
            write!(replicas, "{comma}{}", quoted(&replica.to_string()))?;
        }
        write!(
            f,
            r#"
# Box four: the read/write splitter, between the guest book and its database.
[mysql.guestbook]
listen = [{listen}]
primary = {primary}
replicas = [{replicas}]
user = {user}
password_file = {password_file}
database = {database}
"#,
            listen = quoted(&self.listen.to_string()),
            primary = quoted(&self.primary.to_string()),
            user = quoted(self.user),
            password_file = quoted(&self.password_file.to_string_lossy()),
            database = quoted(self.database),
        )
    }
}

/// A TOML string of any text: values come from flags.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;
    use crate::config::model::{Action, MysqlServer, Secret};

    fn args(flags: &[&str]) -> DemoArgs {
        let line = ["one-server", "demo"].iter().chain(flags).map(std::ffi::OsString::from);
        match parse(line, &[]) {
            Ok(Command::Demo(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn start(flags: &[&str]) -> Start {
        match prepare(&args(flags)).unwrap_or_else(|failure| panic!("{}", failure.text)) {
            Demo::Start(start) => *start,
            Demo::Print(text) => panic!("{text}"),
        }
    }

    fn upstream<'a>(config: &'a Config, name: &str) -> &'a crate::config::model::Upstream {
        config.upstreams.iter().find(|upstream| upstream.name == name).unwrap()
    }

    #[test]
    fn without_database_there_are_three_boxes_and_the_live_page() {
        let start = start(&["--no-database", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let config = &start.config;
        assert_eq!(config.listeners.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["public", "a", "b"]);
        let addresses: Vec<_> = config.listeners.iter().map(|listener| Address::Tcp(listener.address)).collect();
        let servers: Vec<_> =
            upstream(config, "guestbook").servers.iter().map(|server| server.address.clone()).collect();
        assert_eq!(servers, addresses[1..], "the balancer's servers are our own listeners");
        assert!(addresses[0] != addresses[1] && addresses[1] != addresses[2] && addresses[0] != addresses[2]);
        assert!(config.splitters.is_empty());
        assert!(config.trace_events > 0);
        let public = &config.sites[0];
        assert!(matches!(&public.routes[0].action, Action::Files(files) if files.root.join("live.html").exists()));
        let admin = config.admin.unwrap();
        assert_ne!(admin.port(), 0);
        let live = &upstream(config, "admin").servers[0].address;
        assert_eq!(*live, Address::Tcp(admin), "/status and /trace lead to the admin pages");
    }

    #[test]
    fn with_a_primary_the_guest_book_goes_through_the_splitter() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"pass\"word\n").unwrap();
        let path = file.path().to_str().unwrap();
        let flags =
            ["--primary", "127.0.0.1:3306", "--replica", "unix:/run/a\"b.sock", "--user", "u", "--password-file", path];
        let start = start(&flags);
        let splitter = &start.config.splitters[0];
        assert_eq!(splitter.password, Secret("pass\"word".into()));
        assert_eq!(splitter.servers[1..], [MysqlServer::new("unix:/run/a\"b.sock".parse().unwrap())]);
        assert_eq!(splitter.database, "guestbook");
        let database = start.settings.database.as_ref().unwrap();
        assert_eq!(splitter.listen, std::slice::from_ref(&database.address));
        assert_eq!(database.password, splitter.password);
    }

    #[test]
    fn flags_win_and_admin_off_takes_the_live_page_out() {
        let start = start(&["--no-database", "--admin", "off", "--backlog", "77"]);
        assert_eq!(start.config.process.backlog, 77);
        let of_servers = start.config.upstreams.iter().filter(|upstream| !upstream.is_of_program());
        assert_eq!(of_servers.count(), 1);
        assert_eq!(start.config.sites[0].routes.len(), 2);
        assert!(start.notes[1].contains("stays empty"), "{:?}", start.notes);
    }

    #[test]
    fn the_printed_config_is_good_and_tells_what_run_does_not_know() {
        let flags = ["--print-config", "--primary", "127.0.0.1:3306", "--user", "u", "--password-file", "/nowhere"];
        let Demo::Print(text) = prepare(&args(&flags)).unwrap() else { panic!("printed") };
        let (config, warnings) = config::parse("printed.toml", &text, &[PROGRAM]).unwrap_or_else(|r| panic!("{r}"));
        assert!(warnings.is_empty(), "{warnings:?}");
        let of_servers = config.upstreams.iter().filter(|upstream| !upstream.is_of_program());
        assert_eq!((config.splitters.len(), of_servers.count()), (1, 2));
        let with_hello = text.replace(&format!("program = \"{PROGRAM}\""), "program = \"hello\"");
        assert!(config::parse("printed.toml", &with_hello, &["hello"]).is_ok());
        assert!(text.contains("for `run`, name `hello`"));
    }

    #[test]
    fn with_tls_the_public_listener_has_a_certificate_and_the_others_do_not() {
        for admin in ["127.0.0.1:0", "off"] {
            let flags = ["--no-database", "--tls", "--listen", "127.0.0.9:0", "--admin", admin];
            let start = start(&flags);
            let [public, a, b] = &start.config.listeners[..] else { panic!("three listeners") };
            assert!(a.tls.is_none() && b.tls.is_none());
            let tls = public.tls.as_ref().expect("speaks TLS");
            let read = |path: &Path| std::fs::read(path).unwrap();
            let files = &tls.certificates[0];
            let certificate = crate::tls::Certificate::parse(&read(&files.chain), &read(&files.key)).unwrap();
            assert_eq!(certificate.names(), ["localhost"]);
            assert!(certificate.addresses().contains(&public.address.ip()), "{:?}", certificate.addresses());
            let origin = format!("https://{}/", public.address);
            assert_eq!(start.notes[0], format!("demo: open {origin} in a browser"));
            let trust = format!("demo: curl trusts it with: curl --cacert {} {origin}", files.chain.display());
            assert!(start.notes.contains(&trust), "{:?}", start.notes);
        }
    }

    #[test]
    fn the_printed_config_with_tls_names_a_certificate_to_be_made() {
        let Demo::Print(text) = prepare(&args(&["--print-config", "--tls"])).unwrap() else { panic!("printed") };
        let (config, _) = config::parse("printed.toml", &text, &[PROGRAM]).unwrap_or_else(|r| panic!("{r}"));
        let tls = config.listeners[0].tls.as_ref().expect("speaks TLS");
        assert_eq!(tls.certificates[0].chain, Path::new("/etc/one-server/localhost.pem"));
        assert!(config.listeners[1].tls.is_none());
    }

    #[test]
    fn strings_are_quoted_for_toml() {
        for text in ["plain", "a\"b\\c", "tab\tnul\u{1}", "ä"] {
            let line = format!("x = {}", quoted(text));
            let parsed = toml_edit::Document::parse(line.as_str()).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(parsed["x"].as_str(), Some(text));
        }
    }
}
