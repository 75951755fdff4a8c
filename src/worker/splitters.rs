//! The splitters of a data worker: those of the config, which come and go with it, and those that are gone and have clients.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Lasting;
use super::run::stop_accepting;
use crate::config::{Config, model};
use crate::log::SlowLog;
use crate::metrics::SplitterStats;
use crate::mysql::{Shared, Splitter};
use crate::runtime::net::{Address, BoundSocket, Listener};
use crate::runtime::time::sleep;
use crate::tls::{Material, Materials, TlsError};

/// A listening socket of a splitter.
#[derive(Debug)]
pub(crate) struct SplitterSocket {
    /// Index of the splitter in the config that brings it.
    pub(crate) splitter: usize,
    /// As that config writes it.
    pub(crate) address: Address,
    pub(crate) socket: BoundSocket,
}

/// What a config brings for splitters.
pub(super) struct News<'a> {
    pub(super) config: &'a Arc<Config>,
    /// By splitter, what all workers know.
    pub(super) shared: &'a [Arc<Shared>],
    /// By splitter.
    pub(super) stats: &'a [Arc<SplitterStats>],
    pub(super) materials: &'a Materials,
    /// Those that are not open yet.
    pub(super) sockets: Vec<SplitterSocket>,
}

/// One that is in the config.
struct Served {
    name: String,
    splitter: Rc<Splitter>,
    /// By address as the config writes it.
    accepting: Vec<(Address, Rc<Listener>)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Splitters {
    present: RefCell<Vec<Served>>,
    gone: RefCell<Vec<Rc<Splitter>>>,
}

impl Splitters {
    /// Takes another config, or the first one: those that stay, by their names, go on under it; those that are gone accept no
    /// more clients and let go of those they have, as in a drain.
    ///
    /// Errors: TLS settings that cannot be used, which boot has tried before; everything else has been done all the same.
    pub(super) fn go_on_with(&self, lasting: &Lasting, mut news: News<'_>) -> Result<(), TlsError> {
        let (config, mut before, mut outcome) = (news.config, self.present.take(), Ok(()));
        for (index, settings) in config.splitters.iter().enumerate() {
            let same = before.iter().position(|served| served.name == settings.name).map(|at| before.remove(at));
            let mut served = match same {
                Some(mut same) => {
                    let taken = same.take(lasting, &news, index);
                    outcome = outcome.and(taken);
                    same
                }
                None => match Served::new(lasting, &news, index) {
                    Ok(served) => served,
                    Err(error) => {
                        outcome = outcome.and(Err(error));
                        continue;
                    }
                },
            };
            for socket in news.sockets.extract_if(.., |socket| socket.splitter == index) {
                served.open(lasting, socket);
            }
            self.present.borrow_mut().push(served);
        }
        for gone in before {
            gone.stop(|_| true);
            gone.splitter.begin_drain();
            self.gone.borrow_mut().push(gone.splitter);
        }
        outcome
    }

    /// New clients get these certificates. Errors: that of the first splitter that keeps its old ones; the others have theirs.
    pub(super) fn renew(&self, config: &Config, materials: &Materials) -> Result<(), TlsError> {
        let mut outcome = Ok(());
        for served in &*self.present.borrow() {
            let Some(index) = config.splitters.iter().position(|settings| settings.name == served.name) else {
                continue;
            };
            match settings_of(&config.splitters[index], materials.splitters[index].as_ref()) {
                Ok(settings) => served.splitter.set_tls(settings),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    /// The open listeners, with the names of their splitters.
    pub(super) fn accepting(&self) -> Vec<(String, Rc<Listener>)> {
        let present = self.present.borrow();
        let of_one = |served: &Served| {
            let named = |(_, listener): &(Address, Rc<Listener>)| (served.name.clone(), listener.clone());
            served.accepting.iter().map(named).collect::<Vec<_>>()
        };
        present.iter().flat_map(of_one).collect()
    }

    /// Leaves the listeners that another process accepts from.
    pub(super) fn leave(&self, is_left: impl Fn(&Listener) -> bool) {
        for served in &mut *self.present.borrow_mut() {
            for (_, listener) in served.accepting.extract_if(.., |(_, listener)| is_left(listener)) {
                listener.leave();
            }
        }
    }

    /// All clients are let go of as soon as their statement or transaction is over.
    pub(super) fn begin_drain(&self) {
        self.present.borrow().iter().for_each(|served| served.splitter.begin_drain());
    }

    /// Forgets those that are gone and have no clients any more.
    pub(super) fn tend(&self) {
        self.gone.borrow_mut().retain(|splitter| splitter.clients() > 0);
    }

    /// Clients of all of them.
    pub(super) fn clients(&self) -> u64 {
        let gone: u64 = self.gone.borrow().iter().map(|splitter| splitter.clients()).sum();
        gone + self.present.borrow().iter().map(|served| served.splitter.clients()).sum::<u64>()
    }
}

impl Served {
    fn new(lasting: &Lasting, news: &News<'_>, index: usize) -> Result<Served, TlsError> {
        let settings = &news.config.splitters[index];
        let (config, shared, stats) = (news.config.clone(), news.shared[index].clone(), news.stats[index].clone());
        let (tls, slow) = (tls_of(news, index)?, slow_log(lasting, news, index));
        let trace = lasting.trace.clone();
        let splitter = Splitter::new(config, index, shared, stats, trace, lasting.index, tls, slow)?;
        splitter.look_after_pools();
        Ok(Served { name: settings.name.clone(), splitter, accepting: Vec::new() })
    }

    fn take(&mut self, lasting: &Lasting, news: &News<'_>, index: usize) -> Result<(), TlsError> {
        let listen = &news.config.splitters[index].listen;
        self.stop(|address| !listen.contains(address));
        self.accepting.retain(|(address, _)| listen.contains(address));
        let slow = slow_log(lasting, news, index);
        self.splitter.go_on_with(news.config.clone(), index, tls_of(news, index), slow)
    }

    /// Accepts clients from one more socket.
    fn open(&mut self, lasting: &Lasting, socket: SplitterSocket) {
        match Listener::new(socket.socket) {
            Ok(listener) => {
                let listener = Rc::new(listener);
                self.accepting.push((socket.address, listener.clone()));
                crate::runtime::spawn(accept(listener, self.splitter.clone()));
            }
            Err(error) => tracing::error!(worker = lasting.index, %error, "splitter listener cannot be used"),
        }
    }

    /// Closes listeners, once the connections that wait there already are taken.
    fn stop(&self, is_over: impl Fn(&Address) -> bool) {
        let over = self.accepting.iter().filter(|(address, _)| is_over(address));
        let over: Vec<_> = over.map(|(_, listener)| listener.clone()).collect();
        if !over.is_empty() {
            crate::runtime::spawn(async move { stop_accepting(&over).await });
        }
    }
}

fn slow_log(lasting: &Lasting, news: &News<'_>, index: usize) -> Option<SlowLog> {
    lasting.outbox.borrow().as_ref().and_then(|outbox| SlowLog::new(news.config, index, outbox))
}

fn tls_of(news: &News<'_>, index: usize) -> Result<Option<Arc<rustls::ServerConfig>>, TlsError> {
    settings_of(&news.config.splitters[index], news.materials.splitters[index].as_ref())
}

/// What a splitter's sessions with clients are made with; `None`: it offers no TLS.
fn settings_of(
    config: &model::Splitter,
    material: Option<&Material>,
) -> Result<Option<Arc<rustls::ServerConfig>>, TlsError> {
    let Some(settings) = &config.tls else { return Ok(None) };
    let missing = || TlsError::Settings(format!("splitter `{}` has no certificates", config.name));
    crate::tls::build_any(settings, material.ok_or_else(missing)?).map(Some)
}

/// Accepts clients of one splitter until its listener is stopped.
async fn accept(listener: Rc<Listener>, splitter: Rc<Splitter>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => crate::runtime::spawn(splitter.clone().serve_client(stream, peer)),
            Err(_) if listener.is_stopped() => return,
            Err(error) => {
                tracing::warn!(%error, "accept of a MySQL client failed");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
