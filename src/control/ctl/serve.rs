//! The process's end of the control socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::digests::{self, DigestsView};
use super::show::View;
use super::{
    Answer, Changed, Ends, FailedBack, Limited, Populated, REQUEST_BYTES_MAX, Refusal, Reloaded, Request, Upgraded,
    Weighed, mysql, parse,
};
use crate::config::servers::Wish;
use crate::control::lines::{self, Lines, Next};
use crate::control::shared::AdminState;
use crate::control::{Shared, orders, processes, tiers};
use crate::runtime::sys::users::is_own_or_root;

/// Connections at the same time; further ones wait in the socket's queue.
const CONNECTIONS_MAX: usize = 16;

/// Longest silence of a client, and longest time for it to take an answer.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a request may want that others do.
#[derive(Debug)]
pub enum Order {
    /// The config is read again. The sender is dropped when nobody has time for it.
    Reload(oneshot::Sender<Result<Reloaded, Refusal>>),
    /// A server is added or removed. The sender is dropped when nobody has time for it.
    Servers(ServerChange, oneshot::Sender<Result<Populated, String>>),
    /// Limits that the operator has set are put in force. The sender is dropped when nobody has time for it.
    Limits(oneshot::Sender<()>),
    /// Another process takes over. The sender is dropped when this one ends.
    Upgrade(oneshot::Sender<Result<Upgraded, String>>),
    /// The process ends.
    Shutdown {
        /// Requests under way are finished first.
        drains: bool,
    },
}

/// A server more or less.
#[derive(Clone, Debug)]
pub struct ServerChange {
    /// Name of the upstream.
    pub upstream: String,
    /// The server in it.
    pub address: String,
    /// What the new one is to be; `None`: it is removed.
    pub wish: Option<Wish>,
}

/// What is at hand for requests.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The process as the present config has it.
    pub live: watch::Receiver<Arc<Shared>>,
    /// The config file.
    pub file: Option<String>,
    /// Where orders go.
    pub orders: mpsc::Sender<Order>,
    /// Who looks after applications that are processes.
    pub programs: processes::Handle,
}

/// Answers on `listener` until `shutdown` becomes true or its sender is gone. Must run on tokio with timers and sockets.
pub async fn serve(listener: UnixListener, desk: Desk, shutdown: watch::Receiver<bool>) {
    lines::serve(listener, "control", CONNECTIONS_MAX, shutdown, |stream| converse(stream, desk.clone())).await;
}

/// One client's requests, one after the other. Errors: it cannot be read from or written to.
async fn converse(stream: UnixStream, desk: Desk) -> std::io::Result<()> {
    let user = stream.peer_cred()?;
    let (mut client, mut line) = (Lines::new(stream, REQUEST_BYTES_MAX), Vec::new());
    loop {
        match client.next(&mut line, SILENCE_MAX).await? {
            Next::Line => {}
            Next::Cut => {
                let text = format!("a request is one line of at most {REQUEST_BYTES_MAX} bytes");
                return write_answer(&mut client, &Answer::refused(text)).await;
            }
            Next::End => return Ok(()),
        }
        // Only now: an answer to a request that was not read yet may be lost.
        if !is_own_or_root(user.uid()) {
            tracing::warn!(uid = user.uid(), pid = user.pid(), "a user who may not use the control socket was refused");
            let text = "you may not control this process: only root and its own user may";
            return write_answer(&mut client, &Answer::refused(text)).await;
        }
        let answer = match parse(&line) {
            Ok(request) => desk.answer(request, user.uid()).await,
            Err(reason) => Answer::refused(reason),
        };
        write_answer(&mut client, &answer).await?;
    }
}

async fn write_answer(client: &mut Lines, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    client.write(&line, SILENCE_MAX).await
}

impl Desk {
    async fn answer(&self, request: Request, uid: u32) -> Answer {
        match request {
            Request::Show {} => Answer::done(View::new(&self.live.borrow(), self.file.clone())),
            Request::Reload { color } => self.reload(color).await,
            Request::Server { server, state } => self.change(&server, uid, |shared, those| {
                let was = orders::set_state(shared, those, state.into()).name().into();
                Ok(Changed { server: server.clone(), state: AdminState::from(state).name().into(), was })
            }),
            Request::ServerWeight { server, weight } => self.change(&server, uid, |shared, those| {
                let weight = weight.of_weight()?;
                let was = orders::set_weight(shared, those, weight);
                let (u, s) = (those.upstream, those.servers[0]);
                let config = shared.config.upstreams[u].servers[s].weight;
                Ok(Weighed { server: server.clone(), weight: shared.weight(u, s), was, config })
            }),
            Request::ServerLimit { server, limit } => {
                let answer = self.change(&server, uid, |shared, those| {
                    let limit = limit.of_limit()?;
                    let was = orders::set_limit(shared, those, limit);
                    let (u, s) = (those.upstream, those.servers[0]);
                    let config = shared.config.upstreams[u].servers[s].requests_max;
                    Ok(Limited { server: server.clone(), limit: shared.limit(u, s), was, config })
                });
                match self.put_limits_in_force().await {
                    Err(reason) if answer.ok => Answer::refused(reason),
                    _ => answer,
                }
            }
            Request::AddServer { server, weight, tier, backup, limit } => {
                let wish = Wish { weight, tier, backup, requests_max: limit };
                match allowed(&wish) {
                    Ok(()) => self.change_servers(&server, Some(wish)).await,
                    Err(reason) => Answer::refused(reason),
                }
            }
            Request::RemoveServer { server } => self.change_servers(&server, None).await,
            Request::FailBack { upstream } => {
                let shared = self.live.borrow().clone();
                match orders::upstream(&shared, &upstream).and_then(|u| tiers::fail_back(&shared, u)) {
                    Ok(tiers::FailedBack { to, from }) => Answer::done(FailedBack { upstream, tier: to, was: from }),
                    Err(reason) => Answer::refused(reason),
                }
            }
            Request::MysqlDigests { splitter, sort, limit } => {
                match DigestsView::new(&self.live.borrow(), &splitter, sort, limit) {
                    Ok(view) => Answer::done(view),
                    Err(reason) => Answer::refused(reason),
                }
            }
            Request::ResetMysqlDigests { splitter } => match digests::reset(&self.live.borrow(), &splitter) {
                Ok(forgotten) => Answer::done(forgotten),
                Err(reason) => Answer::refused(reason),
            },
            Request::Mysql {} => Answer::done(mysql::view(&self.live.borrow())),
            Request::MysqlServer { server, wanted } => {
                let shared = self.live.borrow().clone();
                match mysql::order(&shared, &server, wanted, uid) {
                    Ok(ordered) => Answer::done(ordered),
                    Err(reason) => Answer::refused(reason),
                }
            }
            Request::Apps {} => Answer::done(self.live.borrow().processes()),
            Request::App { app, want } => match self.programs.want(&app, want).await {
                Ok(view) => Answer::done(view),
                Err(reason) => Answer::refused(reason),
            },
            Request::Upgrade {} => {
                tracing::info!(uid, "the control socket asks for a takeover");
                self.upgrade().await
            }
            Request::Shutdown { drain } => {
                tracing::info!(drain, uid, "the control socket asks for the end of the process");
                match self.orders.send(Order::Shutdown { drains: drain }).await {
                    Ok(()) => Answer::done(Ends { phase: if drain { "draining" } else { "stopping" }.into() }),
                    Err(_) => Answer::refused("the process ends already"),
                }
            }
        }
    }

    fn change<T: serde::Serialize>(
        &self,
        server: &str,
        uid: u32,
        change: impl FnOnce(&Shared, &orders::Those) -> Result<T, String>,
    ) -> Answer {
        let shared = self.live.borrow().clone();
        match orders::find(&shared, server, &format!("uid {uid}")).and_then(|those| change(&shared, &those)) {
            Ok(changed) => Answer::done(changed),
            Err(reason) => Answer::refused(reason),
        }
    }

    /// Waits until limits that were set are in force in all workers. Errors: the process ends, or too much is asked of it.
    pub(crate) async fn put_limits_in_force(&self) -> Result<(), String> {
        let (done, is_done) = oneshot::channel();
        let is_sent = self.orders.send(Order::Limits(done)).await.is_ok();
        match is_sent && is_done.await.is_ok() {
            true => Ok(()),
            false => Err("the limit is noted, but too many reloads wait, or the process ends: try again".into()),
        }
    }

    async fn upgrade(&self) -> Answer {
        let (answer, answered) = oneshot::channel();
        if self.orders.send(Order::Upgrade(answer)).await.is_err() {
            return Answer::refused("the process ends: it is not taken over");
        }
        match answered.await {
            Ok(Ok(upgraded)) => Answer::done(upgraded),
            Ok(Err(reason)) => Answer::refused(reason),
            Err(_) => Answer::refused("the process ends: it is not taken over"),
        }
    }

    async fn change_servers(&self, server: &str, wish: Option<Wish>) -> Answer {
        let Some((upstream, address)) = orders::split(server) else {
            return Answer::refused(format!(
                "`{server}` names no server: write UPSTREAM/ADDRESS, for example api/127.0.0.1:8080"
            ));
        };
        let change = ServerChange { upstream: upstream.into(), address: address.into(), wish };
        let (answer, answered) = oneshot::channel();
        let is_sent = self.orders.send(Order::Servers(change, answer)).await.is_ok();
        match answered.await {
            Ok(Ok(populated)) if is_sent => Answer::done(populated),
            Ok(Err(reason)) if is_sent => Answer::refused(reason),
            _ => Answer::refused("too many reloads wait, or the process ends: try again"),
        }
    }

    async fn reload(&self, color: bool) -> Answer {
        let (answer, answered) = oneshot::channel();
        if self.orders.send(Order::Reload(answer)).await.is_err() {
            return Answer::refused("the process ends: it takes no new config");
        }
        match answered.await {
            Ok(Ok(reloaded)) => Answer::done(reloaded),
            Ok(Err(refusal)) => Answer::refused(if color { refusal.colored } else { refusal.text }),
            Err(_) => Answer::refused("too many reloads wait, or the process ends: try again"),
        }
    }
}

/// Within the ranges of the config file.
fn allowed(wish: &Wish) -> Result<(), String> {
    let within = |what: &str, value: Option<u32>, min: u32, max: u32| match value {
        Some(value) if value < min || value > max => Err(format!("{value} is no {what}: write {min} to {max}")),
        _ => Ok(()),
    };
    within("weight", wish.weight, 0, orders::WEIGHT_MAX)?;
    within("tier", wish.tier, 1, 64)?;
    within("limit of requests", wish.requests_max, 1, orders::LIMIT_MAX)
}
