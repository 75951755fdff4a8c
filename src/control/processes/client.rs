//! This process's end of the channel to the [`super::keeper`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::letters::{News, Order, StartNote, VARIABLE};
use crate::runtime::sys::handover::{Channel, MESSAGE_BYTES_MAX, spawn};
use crate::runtime::sys::users::Account;

/// How long the keeper may take to hear an order: it does one thing after the other, none of which waits.
const ORDER_MAX: Duration = Duration::from_secs(5);

/// News that may wait.
const NEWS_MAX: usize = 1024;

/// How long the end of a keeper that was killed is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// The parent of all programs.
#[derive(Debug)]
pub(super) struct Keeper {
    channel: Arc<Channel>,
    /// A child of ours; `None`: that of a process from which we have taken over.
    child: Option<Child>,
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
        let keeper = Keeper::over(ours, Some(child))?;
        let accounts = accounts.map(|named| named.iter().map(|account| account.as_ref().map(Into::into)).collect());
        keeper.order(&Order::Begin { accounts, folder: folder.to_owned() }, &[])?;
        Ok(keeper)
    }

    /// That of the process from which this one takes over, by what [`Keeper::heir`] was there.
    pub(super) fn inherited(channel: OwnedFd) -> io::Result<Keeper> {
        Keeper::over(channel.into(), None)
    }

    fn over(channel: Channel, child: Option<Child>) -> io::Result<Keeper> {
        let (tell, news) = mpsc::channel(NEWS_MAX);
        let ear = channel.try_clone()?;
        std::thread::Builder::new().name("keeper".into()).spawn(move || listen(&ear, &tell))?;
        Ok(Keeper { channel: Arc::new(channel), child, news: Some(news) })
    }

    /// A channel to it for a process that takes over. It may be closed unused.
    pub(super) fn heir(&self) -> io::Result<OwnedFd> {
        let (heirs, keepers) = Channel::pair()?;
        self.order(&Order::Heir, &[keepers.as_fd()])?;
        Ok(heirs.into())
    }

    /// What it tells, until it ends. Only the first call gets it.
    pub(super) fn take_news(&mut self) -> Option<mpsc::Receiver<News>> {
        self.news.take()
    }

    /// Has a program started.
    pub(super) fn launch(&self, note: StartNote, fds: &[OwnedFd]) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.order(&Order::Start(Box::new(note), fds.len()), &fds)
    }

    pub(super) fn order(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(order)?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            let text = format!("command and environment have {} bytes, {MESSAGE_BYTES_MAX} are the most", bytes.len());
            return Err(io::Error::other(text));
        }
        self.channel.send(&bytes, fds, ORDER_MAX)
    }

    /// It is gone; nothing of it is to be left.
    pub(super) fn bury(self) {
        let Some(mut child) = self.child else { return };
        // Where it became another user than we are, it cannot be killed, and has ended anyway.
        let _ = child.kill();
        if let Ok(None) = child.try_wait() {
            std::thread::sleep(LOOK);
            let _ = child.try_wait();
        }
    }

    /// Lets all our programs end, by SIGTERM and later SIGKILL, and waits up to `limit` for the end of `news`, which is that.
    pub(super) async fn end(self, mut news: mpsc::Receiver<News>, limit: Duration) {
        if self.order(&Order::End, &[]).is_err() {
            tracing::warn!("the keeper of programs is gone already");
        }
        let all_ended = async { while news.recv().await.is_some() {} };
        if tokio::time::timeout(limit, all_ended).await.is_err() {
            tracing::warn!(waited_s = limit.as_secs(), "programs do not end: their keeper goes on without us");
        }
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
