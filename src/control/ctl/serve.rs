//! The process's end of the control socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::show::View;
use super::{Answer, Changed, Ends, REQUEST_BYTES_MAX, Refusal, Reloaded, Request, parse, split};
use crate::control::Shared;
use crate::control::shared::{AdminState, EventLevel};
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
    /// The process ends.
    Shutdown {
        /// Requests under way are finished first.
        drains: bool,
    },
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
}

/// Answers on `listener` until `shutdown` becomes true or its sender is gone. Must run on tokio with timers and sockets.
pub async fn serve(listener: UnixListener, desk: Desk, mut shutdown: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accept = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let desk = desk.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = converse(stream, &desk).await {
                            tracing::debug!(%error, "a client of the control socket has left");
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "control accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors: give others time
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

/// One client's requests, one after the other. Errors: it cannot be read from or written to.
async fn converse(stream: UnixStream, desk: &Desk) -> std::io::Result<()> {
    let client = stream.peer_cred()?;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut read).take(REQUEST_BYTES_MAX as u64);
        let Ok(count) = tokio::time::timeout(SILENCE_MAX, limited.read_until(b'\n', &mut line)).await else {
            return Ok(());
        };
        if count? == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            let text = format!("a request is one line of at most {REQUEST_BYTES_MAX} bytes");
            return write_answer(&mut write, &Answer::refused(text)).await;
        }
        // Only now: an answer to a request that was not read yet may be lost.
        if !is_own_or_root(client.uid()) {
            tracing::warn!(
                uid = client.uid(),
                pid = client.pid(),
                "a user who may not use the control socket was refused"
            );
            let text = "you may not control this process: only root and its own user may";
            return write_answer(&mut write, &Answer::refused(text)).await;
        }
        let answer = match parse(&line) {
            Ok(request) => desk.answer(request, client.uid()).await,
            Err(reason) => Answer::refused(reason),
        };
        write_answer(&mut write, &answer).await?;
    }
}

async fn write_answer(write: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let late = |_| Err(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(SILENCE_MAX, write.write_all(&line)).await.unwrap_or_else(late)
}

impl Desk {
    async fn answer(&self, request: Request, uid: u32) -> Answer {
        match request {
            Request::Show {} => Answer::done(View::new(&self.live.borrow(), self.file.clone())),
            Request::Reload { color } => self.reload(color).await,
            Request::Server { server, state } => {
                let shared = self.live.borrow().clone();
                match set_state(&shared, &server, state.into()) {
                    Ok(changed) => {
                        let Changed { server, state, was } = &changed;
                        tracing::info!(%server, %state, %was, uid, "server state set");
                        shared.note(EventLevel::Info, format!("server {server} set to {state}, was {was}"));
                        Answer::done(changed)
                    }
                    Err(reason) => Answer::refused(reason),
                }
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

/// Sets what the operator wants of a server. Errors: there is no such server, and which there are.
fn set_state(shared: &Shared, server: &str, state: AdminState) -> Result<Changed, String> {
    let Some((name, address)) = split(server) else {
        return Err(format!("`{server}` names no server: write UPSTREAM/ADDRESS, for example api/127.0.0.1:8080"));
    };
    let upstreams = &shared.config.upstreams;
    let Some(u) = upstreams.iter().position(|upstream| upstream.name == name) else {
        let known: Vec<&str> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
        return Err(match known.is_empty() {
            true => format!("no upstream is called `{name}`: the config has none"),
            false => format!("no upstream is called `{name}`: there are {}", known.join(", ")),
        });
    };
    let addresses: Vec<String> = upstreams[u].servers.iter().map(|server| server.address.to_string()).collect();
    // One that is written several times is meant as a whole.
    let found: Vec<usize> = (0..addresses.len()).filter(|&s| addresses[s] == address).collect();
    let Some(&first) = found.first() else {
        return Err(format!("upstream `{name}` has no server `{address}`: there are {}", addresses.join(", ")));
    };
    let was = shared.servers[u][first].admin();
    found.iter().for_each(|&s| shared.servers[u][s].set_admin(state));
    shared.settle(u);
    Ok(Changed { server: server.into(), state: state.name().into(), was: was.name().into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::shared::tests::config;

    #[test]
    fn a_server_is_found_by_upstream_and_address_or_told_who_is_there() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        let changed = set_state(&shared, "api/127.0.0.1:1", AdminState::Drain).unwrap();
        assert_eq!((changed.state.as_str(), changed.was.as_str()), ("drain", "ready"));
        assert!(!shared.is_up(0, 0) && shared.servers[0][0].is_up() && shared.is_up(0, 1));
        assert!(set_state(&shared, "api/unix:/run/b\"2.sock", AdminState::Maintenance).is_ok());
        assert_eq!(set_state(&shared, "api/127.0.0.1:1", AdminState::Ready).unwrap().was, "drain");
        assert!(shared.is_up(0, 0));
        for (server, text) in [
            ("api", "`api` names no server: write UPSTREAM/ADDRESS, for example api/127.0.0.1:8080"),
            ("apo/127.0.0.1:1", "no upstream is called `apo`: there are api, plain"),
            ("plain/127.0.0.1:1", "upstream `plain` has no server `127.0.0.1:1`: there are [::1]:8080"),
        ] {
            assert_eq!(set_state(&shared, server, AdminState::Ready), Err(text.into()));
        }
    }

    #[test]
    fn what_the_operator_wants_and_what_checks_say_are_apart() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        let server = &shared.servers[0][0];
        let now = std::time::SystemTime::now();
        set_state(&shared, "api/127.0.0.1:1", AdminState::Drain).unwrap();
        server.publish_up(false, "", now);
        shared.settle(0);
        assert_eq!((server.admin(), server.is_up()), (AdminState::Drain, false));
        server.publish_up(true, "", now);
        shared.settle(0);
        assert_eq!((server.admin(), server.is_up(), server.is_usable()), (AdminState::Drain, true, false));
        server.publish_up(false, "", now);
        shared.settle(0);
        set_state(&shared, "api/127.0.0.1:1", AdminState::Ready).unwrap();
        assert!(!server.is_usable());
        // Both go over into the next config.
        set_state(&shared, "api/127.0.0.1:1", AdminState::Maintenance).unwrap();
        let next = shared.next(shared.config.clone());
        assert_eq!((next.servers[0][0].admin(), next.servers[0][0].is_up()), (AdminState::Maintenance, false));
    }
}
