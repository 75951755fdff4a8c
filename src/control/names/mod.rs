//! Names of servers: what they lead to, asked for again whenever an answer has run out.
//!
//! | part | does |
//! |---|---|
//! | this file | asks for what is due, tells the log what becomes of it |
//! | `schedule` | which names are known, for how long, what a failure changes |
//! | `lookup` | one question: /etc/hosts, name servers |
//!
//! It runs on the control thread. What a config makes of the answers is [`crate::config::servers`]; whoever drives this takes
//! a config with the new servers into use.

mod lookup;
mod schedule;

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

pub use schedule::{Names, News, Outcome};

use self::lookup::Asker;
use super::Shared;
use super::shared::EventLevel;
use crate::config::Config;
use crate::config::model::Resolver;
use crate::config::servers::Answers;
use crate::runtime::net::{Address, Name};

/// Answers that come so soon behind one another are one piece of news.
const SETTLE: Duration = Duration::from_millis(50);

/// Questions under way at the same time.
const ASKED_MAX: usize = 64;

/// What became of a question.
type Answer = (Name, Outcome);

/// Keeps the names of a config resolved.
#[derive(Debug)]
pub struct Watch {
    names: Names,
    rules: Resolver,
    /// Questions under way, by these rules.
    asking: JoinSet<Answer>,
    /// Servers have changed, and nobody was told yet.
    is_news: bool,
}

impl Watch {
    /// Asks for all names of `config`, and waits for the answers as long as that may take.
    pub async fn start(config: &Config) -> Watch {
        let (names, rules) = (Names::default(), config.resolver.clone());
        let mut watch = Watch { names, rules, asking: JoinSet::new(), is_news: false };
        watch.learn(config).await;
        watch
    }

    /// Asks for those names of another config that are new, as that one wants it, and waits for the answers. Those there are
    /// already go on, until [`Watch::go_on_with`] says with which config.
    pub async fn learn(&mut self, config: &Config) {
        let new = self.names.add(&config.names(), Instant::now());
        if new.is_empty() {
            return;
        }
        let asker = Asker::new(&config.resolver);
        let (mut asking, mut due) = (JoinSet::new(), new.into_iter());
        due.by_ref().take(ASKED_MAX).for_each(|name| drop(asking.spawn(asked(asker.clone(), name))));
        while let Some(answered) = asking.join_next().await {
            if let Ok((name, outcome)) = answered {
                self.take(&name, outcome);
            }
            due.by_ref().take(1).for_each(|name| drop(asking.spawn(asked(asker.clone(), name))));
        }
    }

    /// Forgets the names that the config in use does not have. Where it has another `[resolver]`, all are asked for anew, and
    /// what those who were asked before have still to say does not count.
    pub fn go_on_with(&mut self, config: &Config) {
        self.names.keep(&config.names());
        if self.rules != config.resolver {
            self.rules = config.resolver.clone();
            self.asking = JoinSet::new();
            self.names.ask_all(Instant::now());
        }
    }

    /// What is known.
    pub fn answers(&self) -> Answers {
        self.names.answers()
    }

    /// Comes back when the servers behind some names have changed. Nothing is lost when it is dropped before.
    pub async fn changed(&mut self) {
        loop {
            if self.is_news {
                tokio::time::sleep(SETTLE).await;
                while let Some(answered) = self.asking.try_join_next() {
                    if let Ok((name, outcome)) = answered {
                        self.take(&name, outcome);
                    }
                }
                self.is_news = false;
                return;
            }
            self.ask_for_due();
            let next = self.names.next_due().filter(|_| self.asking.len() < ASKED_MAX);
            let sleep = next.map(|next| tokio::time::sleep_until(next.into()));
            let answered = tokio::select! {
                answered = self.asking.join_next(), if !self.asking.is_empty() => answered,
                () = async { match sleep { Some(sleep) => sleep.await, None => std::future::pending().await } } => None,
            };
            let Some(Ok((name, outcome))) = answered else { continue };
            // Kept until it is told: whoever waits for it may go away meanwhile and come again.
            self.is_news |= self.take(&name, outcome);
        }
    }

    fn ask_for_due(&mut self) {
        let due = self.names.due(Instant::now(), ASKED_MAX.saturating_sub(self.asking.len()));
        if due.is_empty() {
            return;
        }
        let asker = Asker::new(&self.rules);
        for name in due {
            self.asking.spawn(asked(asker.clone(), name));
        }
    }

    /// Tells whether servers have changed.
    fn take(&mut self, name: &Name, outcome: Outcome) -> bool {
        let addresses_max = self.rules.addresses_max;
        let news = self.names.on_outcome(name, outcome, &self.rules, Instant::now());
        let found = self.names.found(name);
        match &news {
            Some(News::Changed) => {
                let shown = found.iter().take(8).map(|found| found.address.to_string()).collect::<Vec<_>>().join(" ");
                tracing::info!(%name, servers = found.len(), addresses = %shown, "name resolved");
                if found.len() > addresses_max {
                    tracing::warn!(%name, addresses = found.len(), addresses_max, "a name has more addresses than are used: raise `addresses_max` in [resolver]");
                }
            }
            Some(News::Back) => tracing::info!(%name, "name resolves again"),
            Some(News::Kept(problem)) => {
                tracing::warn!(%name, servers = found.len(), "name does not resolve, its servers stay in use: {problem}");
            }
            Some(News::Unresolved(problem)) => {
                tracing::warn!(%name, "name does not resolve, it counts as a server that is down: {problem}");
            }
            None => {}
        }
        matches!(news, Some(News::Changed | News::Unresolved(_)))
    }

    /// Tells the states of servers without an address why they have none.
    pub fn tell(&self, shared: &Shared) {
        for (upstream, states) in shared.config.upstreams.iter().zip(&shared.servers) {
            for (server, state) in upstream.servers.iter().zip(states) {
                if let Address::Name(name) = &server.address {
                    let problem = self.names.problem(name).unwrap_or("nobody was asked yet");
                    let text = format!("name does not resolve: {problem}");
                    if state.told().reason != text {
                        shared.note(EventLevel::Warn, format!("server {}/{name} is DOWN: {text}", upstream.name));
                        state.tell_reason(&text);
                    }
                }
            }
        }
    }
}

/// Asks for a name, for as long as somebody waits. A panic in the library is an answer too: nobody would ask for that name
/// again.
async fn asked(asker: Asker, name: Name) -> Answer {
    let (mut asking, question) = (JoinSet::new(), name.clone());
    asking.spawn(async move { asker.ask(&question).await });
    match asking.join_next().await {
        Some(Ok(outcome)) => (name, outcome),
        _ => (name, Outcome::Failed("asking has panicked".into())),
    }
}
