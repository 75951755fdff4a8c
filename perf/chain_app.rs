//! one-server with an axum router inside: the whole chain of the comparison in one process.
//!
//! The same router as `axum_hyper` serves behind nginx and HAProxy. The data worker and the application worker share
//! the one core they get, as the three programs of the classic chain do.

mod hello_router;

use std::net::SocketAddr;
use std::process::ExitCode;

use one_server::Server;
use one_server::app::App;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: chain_app --listen ADDRESS:PORT --core N";

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => return fail(&message),
    };
    let server = Server::new().app("hello", App::new(|_| hello_router::router()));
    match server.parse("chain_app", &options.config()) {
        Ok(server) => server.run(),
        Err(report) => fail(&report.to_string()),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

/// What the command line says.
struct Options {
    listen: SocketAddr,
    core: usize,
}

impl Options {
    /// `Err` is a line for the person who typed it.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut listen, mut core) = (None, None);
        while let Some(flag) = words.next() {
            let value = words.next().ok_or(USAGE)?;
            match flag.as_str() {
                "--listen" => listen = Some(value.parse().map_err(|e| format!("--listen {value}: {e}"))?),
                "--core" => core = Some(value.parse().map_err(|e| format!("--core {value}: {e}"))?),
                _ => return Err(format!("unknown flag `{flag}`; {USAGE}")),
            }
        }
        Ok(Options { listen: listen.ok_or(USAGE)?, core: core.ok_or(USAGE)? })
    }

    /// The config file an operator would write for it.
    fn config(&self) -> String {
        let Options { listen, core } = self;
        format!(
            r#"
            [process]
            data_cores = "{core}"
            app_cores = "{core}"

            [admin]
            address = "off"

            [listener.http]
            address = "{listen}"

            [site.chain]
            [[site.chain.route]]
            path = "/"
            app = "hello"

            [app.hello]
            "#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_is_one_the_server_takes() {
        let words = ["--listen", "127.0.0.1:0", "--core", "0"].map(String::from);
        let config = Options::parse(words.into_iter()).unwrap().config();
        let (config, _) = one_server::config::parse("test", &config, &["hello"]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((config.apps.len(), config.listeners.len(), config.process.app_cores), (1, 1, vec![0]));
    }
}
