//! Clients that ask all the time, whatever happens to the server: every answer must be there and be right.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::client::{Client, get, request};
use super::server::Server;

/// A site for them.
pub(crate) const HERE: &str = "[site.main]\nroute = [{ path = \"/\", respond = { body = \"here\" } }]\n";

/// What clients saw that ask all the time.
#[derive(Debug, Default)]
pub(crate) struct Load {
    path: &'static str,
    expect: &'static str,
    pub(crate) answers: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    /// `None`: it is refused, after which there is nothing more to be learned.
    fn connect(&self, server: &Server) -> Option<Client> {
        Client::try_connect(server.web()).inspect_err(|error| self.note(format!("connect: {error}"))).ok()
    }

    fn note(&self, what: String) {
        self.wrong.lock().expect("a lock").push(what);
    }

    pub(crate) fn assert_all_well(&self, at_least: u64) {
        let wrong = self.wrong.lock().expect("a lock");
        assert!(wrong.is_empty(), "{} went wrong, such as {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
        let answers = self.answers.load(Ordering::Relaxed);
        assert!(answers >= at_least, "{answers} answers are no load");
    }
}

/// Asks over one connection for as long as it is told that it may.
fn keep_asking(server: &Server, load: &Load, stop: &AtomicBool, pause: Duration) {
    let Some(mut client) = load.connect(server) else { return };
    while !stop.load(Ordering::Relaxed) {
        match client.send(get(load.path)).try_response("GET") {
            Ok(answer) if answer.status == 200 && answer.text() == load.expect => {
                load.answers.fetch_add(1, Ordering::Relaxed);
                if answer.is_last() {
                    let Some(next) = load.connect(server) else { return };
                    client = next;
                }
            }
            other => {
                load.note(format!("kept: {other:?}"));
                let Some(next) = load.connect(server) else { return };
                client = next;
            }
        }
        std::thread::sleep(pause);
    }
}

/// Asks once on each connection.
fn ask_anew(server: &Server, load: &Load, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let asked = request("GET", load.path, &["Connection: close"], "");
        let Some(mut client) = load.connect(server) else { return };
        match client.send(asked).try_response("GET") {
            Ok(answer) if answer.status == 200 && answer.text() == load.expect => {
                load.answers.fetch_add(1, Ordering::Relaxed);
            }
            other => load.note(format!("anew: {other:?}")),
        }
    }
}

/// Does `work` while they ask, over kept connections and with one for each request.
pub(crate) fn under_load(server: &Server, work: impl FnOnce()) -> Load {
    under_load_of(server, "/", "here", work)
}

/// The same with requests for `path`, whose answer is `expect`.
pub(crate) fn under_load_of(server: &Server, path: &'static str, expect: &'static str, work: impl FnOnce()) -> Load {
    let (load, stop) = (Load { path, expect, ..Load::default() }, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (load, stop) = (&load, &stop);
        for pause in [0, 0, 1, 50] {
            scope.spawn(move || keep_asking(server, load, stop, Duration::from_millis(pause)));
        }
        for _ in 0..4 {
            scope.spawn(move || ask_anew(server, load, stop));
        }
        // What panics must not leave the clients running.
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = end {
            std::panic::resume_unwind(panic);
        }
    });
    load
}
