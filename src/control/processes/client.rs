//! This process's end of the channel to the [`super::keeper`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::letters::{News, Order, StartNote, VARIABLE};
use crate::runtime::sys::handover::{Channel, spawn};
use crate::runtime::sys::users::Account;

/// How long the keeper may take to hear an order: it does one thing after the other, none of which waits.
const ORDER_MAX: Duration = Duration::from_secs(5);

/// News that may wait.
const NEWS_MAX: usize = 1024;

/// How often the end of the keeper is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// The parent of all programs, as a child of ours.
#[derive(Debug)]
pub(super) struct Keeper {
    channel: Arc<Channel>,
    child: Child,
    news: Option<mpsc::Receiver<News>>,
}

impl Keeper {
    /// Starts it. Programs will run as one of `accounts`, `None` among them being whoever this process is now; without a list
    /// as anybody. `folder` is removed in the end. To be called while this process has all its rights.
    ///
    /// Errors: what keeps it from starting.
    pub(super) fn start(accounts: Option<&[Option<Account>]>, folder: &Path) -> io::Result<Keeper> {
        let (ours, theirs) = Channel::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.env_clear().env(VARIABLE, std::process::id().to_string());
        let child = spawn(command, theirs)?;
        let channel = Arc::new(ours);
        let accounts = accounts.map(|named| named.iter().map(|account| account.as_ref().map(Into::into)).collect());
        let (tell, news) = mpsc::channel(NEWS_MAX);
        let ear = channel.try_clone()?;
        std::thread::Builder::new().name("keeper".into()).spawn(move || listen(&ear, &tell))?;
        let keeper = Keeper { channel, child, news: Some(news) };
        keeper.order(&Order::Begin { accounts, folder: folder.to_owned() }, &[])?;
        Ok(keeper)
    }

    /// What it tells, until it ends. Only the first call gets it.
    pub(super) fn take_news(&mut self) -> Option<mpsc::Receiver<News>> {
        self.news.take()
    }

    /// Has a program started.
    pub(super) fn launch(&self, note: StartNote, fds: &[OwnedFd]) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.order(&Order::Start(Box::new(note)), &fds)
    }

    pub(super) fn order(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.channel.send(&serde_json::to_vec(order)?, fds, ORDER_MAX)
    }

    /// It is gone; nothing of it is to be left.
    pub(super) fn bury(mut self) {
        // Where it became another user than we are, it cannot be killed, and has ended anyway.
        let _ = self.child.kill();
        if let Ok(None) = self.child.try_wait() {
            std::thread::sleep(LOOK);
            let _ = self.child.try_wait();
        }
    }

    /// Lets all programs end, by SIGTERM and later SIGKILL, and waits for it up to `limit`.
    pub(super) async fn end(mut self, limit: Duration) {
        if self.order(&Order::End, &[]).is_err() {
            tracing::warn!("the keeper of programs is gone already");
        }
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        tracing::warn!(waited_s = limit.as_secs(), "programs do not end: their keeper goes on without us");
    }
}

/// Passes on what the keeper tells; the receiver learns of its end by the end of this.
fn listen(channel: &Channel, tell: &mpsc::Sender<News>) {
    crate::log::never_block();
    while let Ok(Some((bytes, _))) = channel.receive(None) {
        match serde_json::from_slice(&bytes) {
            Ok(news) => {
                if tell.blocking_send(news).is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, "the keeper of programs is not understood"),
        }
    }
}
