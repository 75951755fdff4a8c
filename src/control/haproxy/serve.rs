//! The socket: lines in, answers out. Who may connect is the matter of the file's mode.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::UnixListener;
use tokio::sync::watch;

use super::command::{self, Command};
use super::rates::{self, Rates};
use super::{LINE_BYTES_MAX, change, info, line, servers, stat};
use crate::config::model::StatsLevel;
use crate::control::ctl::Desk;
use crate::control::lines::{self, Lines, Next};

/// Connections at the same time; further ones wait in the socket's queue. HAProxy's default.
const CONNECTIONS_MAX: usize = 10;

/// Longest silence of a client, and longest time for it to take an answer, unless it sets another one. HAProxy's default.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The most that a client may set.
const SILENCE_SET_MAX: Duration = Duration::from_secs(3600);

/// Answers on `listener` until `shutdown` becomes true or its sender is gone. Must run on tokio with timers and sockets.
pub async fn serve(listener: UnixListener, desk: Desk, level: StatsLevel, shutdown: watch::Receiver<bool>) {
    let rates = Arc::new(Rates::default());
    let looks = async {
        let mut every = tokio::time::interval(rates::LOOK);
        loop {
            every.tick().await;
            let shared = desk.live.borrow().clone();
            rates.look(&shared, Instant::now());
        }
    };
    let talk = |stream| converse(Lines::new(stream, LINE_BYTES_MAX), Session::new(desk.clone(), rates.clone(), level));
    tokio::select! {
        () = lines::serve(listener, "stats", CONNECTIONS_MAX, shutdown, talk) => {}
        () = looks => {}
    }
}

/// One client's lines: those it has sent with the first one, or, once it has asked for a prompt, as many as it likes.
/// Errors: it cannot be read from or written to.
async fn converse(mut client: Lines, mut session: Session) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    // A line without an end is none, as HAProxy has it: it may have been cut short.
    while client.next(&mut bytes, session.silence_max).await? == Next::Line {
        for words in line::split(&bytes) {
            let Some(mut answer) = session.answer(&words).await else { return Ok(()) };
            answer.push_str(if session.is_interactive { "\n> " } else { "\n" });
            client.write(answer.as_bytes(), session.silence_max).await?;
        }
        if !session.is_interactive && !client.has_more() {
            return Ok(());
        }
    }
    Ok(())
}

/// A connection and what it has been told.
struct Session {
    desk: Desk,
    rates: Arc<Rates>,
    level: StatsLevel,
    is_interactive: bool,
    silence_max: Duration,
    began: Instant,
    calls: u64,
}

impl Session {
    fn new(desk: Desk, rates: Arc<Rates>, level: StatsLevel) -> Session {
        let (silence_max, began) = (SILENCE_MAX, Instant::now());
        Session { desk, rates, level, is_interactive: false, silence_max, began, calls: 0 }
    }

    /// What is said to a command; `None`: the connection ends.
    async fn answer(&mut self, words: &[String]) -> Option<String> {
        self.calls += 1;
        let said = match command::parse(words, self.level) {
            Ok(Command::Quit) => return None,
            Ok(command) => self.run(command).await,
            Err(refusal) => Err(refusal),
        };
        // Some of HAProxy's refusals have no end of line of their own.
        Some(said.unwrap_or_else(|refusal| refusal))
    }

    async fn run(&mut self, command: Command) -> Result<String, String> {
        let shared = self.desk.live.borrow().clone();
        let now = SystemTime::now();
        match command {
            Command::Help(words) => Ok(command::help(&words)),
            Command::Quit => Ok(String::new()),
            Command::Prompt => {
                self.is_interactive = !self.is_interactive;
                Ok(String::new())
            }
            Command::Lower(level) => {
                self.level = self.level.min(level);
                Ok(String::new())
            }
            Command::ShowLevel => Ok(format!("{}\n", self.level.name())),
            Command::SetTimeout(delay) => self.set_timeout(delay),
            Command::ShowInfo(format) => Ok(info::show(&shared, &self.rates, format)),
            Command::ShowStat(filter) => stat::show(&shared, &self.rates, &filter, self.level, now),
            Command::ShowVersion => Ok(info::version(&shared)),
            Command::ShowBackend => Ok(servers::backends(&shared)),
            Command::ShowErrors(proxy) => info::errors(&shared, proxy.as_deref()),
            Command::ShowPools => Ok(info::pools(&shared)),
            Command::ShowSess => Ok(self.session()),
            Command::ShowServersState(backend) => servers::state(&shared, backend.as_deref(), now),
            Command::ShowServersConn(backend) => servers::connections(&shared, backend.as_deref()),
            Command::GetWeight(server) => change::get_weight(&shared, server.as_deref()),
            Command::SetWeight(server, weight) => change::set_weight(&shared, server.as_deref(), weight.as_deref()),
            Command::SetMaxconn(server, limit) => {
                change::set_maxconn(&shared, server.as_deref(), limit.as_deref())?;
                self.desk.put_limits_in_force().await.map_err(|reason| reason + "\n")?;
                Ok(String::new())
            }
            Command::SetServer(server, what, value) => {
                change::set_server(&shared, server.as_deref(), what.as_deref(), value.as_deref())
            }
            Command::EnableServer(server, enable) => change::enable_server(&shared, server.as_deref(), enable),
            Command::EnableHealth(server, enable) => change::enable_health(&shared, server.as_deref(), enable),
        }
    }

    /// Of this connection; `None`: of something else.
    fn set_timeout(&mut self, delay: Option<String>) -> Result<String, String> {
        let delay = delay.ok_or("'set timeout' only supports 'cli'.\n")?;
        if delay.is_empty() {
            return Err("Expects an integer value.\n".into());
        }
        let (digits, unit) = delay.split_at(delay.find(|c: char| !c.is_ascii_digit()).unwrap_or(delay.len()));
        let unit = match unit {
            "us" => Some(Duration::from_micros(1)),
            "ms" => Some(Duration::from_millis(1)),
            "" | "s" => Some(Duration::from_secs(1)),
            "m" => Some(Duration::from_secs(60)),
            "h" => Some(Duration::from_secs(3600)),
            "d" => Some(Duration::from_secs(86_400)),
            _ => None,
        };
        match (digits.parse::<u32>(), unit) {
            (Ok(count), Some(unit)) if count > 0 => {
                self.silence_max = unit.saturating_mul(count).min(SILENCE_SET_MAX);
                Ok(String::new())
            }
            _ => Err("Invalid timeout value.\n".into()),
        }
    }

    /// `show sess`: this connection. Those of clients are in the memory of the data workers, and counted (`show stat`).
    fn session(&self) -> String {
        let (age, calls, left) = (self.began.elapsed().as_secs(), self.calls, self.silence_max.as_secs());
        format!(
            "0x1: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age={age}s calls={calls} \
             rate=0 cpu=0 lat=0 exp={left}s rc=0 c_exp=\n"
        )
    }
}
