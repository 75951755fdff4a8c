//! When a new instance can serve: it is asked again and again, as a health check would.

use std::time::Duration;

use crate::app::process::php::{PING_PATH, PONG};
use crate::config::model::{
    Health, HttpProbe, Listening, Pace, Probe as What, ProcessApp, Protocol, Server, StatusSet, TextMatch, TextProbe,
};
use crate::control::checks::Prober;
use crate::proxy::gateway::Form;

/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(50);

/// How long an answer may take; an instance may be asked several times.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Asks one instance.
pub(super) struct Probe {
    health: Health,
    server: Server,
    /// What it thinks of its config it tells, and serves all the same.
    tells_before: bool,
}

impl Probe {
    pub(super) fn new(app: &ProcessApp, server: &Server) -> Probe {
        let is_php = app.launch.php.is_some();
        let what = match (&app.ready_path, app.launch.listening) {
            _ if is_php => ping(),
            (Some(path), _) => request("GET", path, 200..=399),
            // A socket that listens from the first on takes connections that nobody accepts yet. This is what RFC 9110
            // section 9.3.7 calls a ping; whatever comes back, somebody is there.
            (None, Listening::Descriptor) => request("OPTIONS", "*", 100..=999),
            (None, Listening::Socket | Listening::Port) => What::Text(TextProbe::default()),
        };
        let pace = Pace { interval: PAUSE, fast_interval: PAUSE, down_interval: PAUSE, jitter_percent: 0 };
        let health = Health {
            probe: what,
            tls: None,
            proxy_protocol: None,
            protocol: if is_php { Protocol::Gateway(Form::FastCgi) } else { Protocol::Http1 },
            port: None,
            timeout: ANSWER_MAX,
            pace,
            rise: 1,
            fall: 1,
        };
        Probe { health, server: server.clone(), tells_before: is_php }
    }

    /// Until it answers as it should, and what it has told before has been read.
    pub(super) async fn wait(&self) {
        let prober = Prober::new(&self.health);
        while !prober.check(&self.health, &self.server).await.is_ok() {
            tokio::time::sleep(PAUSE).await;
        }
        if self.tells_before {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What php-fpm answers when a worker is there for it.
fn ping() -> What {
    let expect_body = Some(TextMatch::Contains(PONG.into()));
    What::Http(Box::new(HttpProbe { expect_body, body_bytes_max: 64, ..asked("GET", PING_PATH, 200..=200) }))
}

fn request(method: &'static str, path: &str, statuses: std::ops::RangeInclusive<u16>) -> What {
    What::Http(Box::new(asked(method, path, statuses)))
}

fn asked(method: &'static str, path: &str, statuses: std::ops::RangeInclusive<u16>) -> HttpProbe {
    HttpProbe {
        method,
        path: path.to_owned(),
        host: None,
        fields: Vec::new(),
        statuses: StatusSet::new(vec![(statuses, String::new())]),
        expect_header: None,
        expect_body: None,
        body_bytes_max: 0,
    }
}
