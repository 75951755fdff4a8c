//! This process's end of the channel to the [`super::keeper`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::mpsc;

use super::letters::{News, Order, StartNote, VARIABLE};
use crate::runtime::sys::handover::{Channel, MESSAGE_BYTES_MAX, Received, spawn};
use crate::runtime::sys::pid_namespace;
use crate::runtime::sys::processes::{KEEPER_NAME, LEFT_MAX};
use crate::runtime::sys::users::Account;

/// How long the keeper may take to hear an order: it does one thing after the other, none of which waits.
const ORDER_MAX: Duration = Duration::from_secs(5);

/// Orders that may wait for it, beside those that its socket holds.
const ORDERS_MAX: usize = 256;

/// News that may wait.
const NEWS_MAX: usize = 1024;

/// How long the end of a keeper that was killed is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// How long the warden of a keeper that was killed may take to kill what that has left behind.
const WARDEN_MAX: Duration = LEFT_MAX.saturating_add(Duration::from_secs(1));

/// What is heard of the keeper; the end of them all is its end.
#[derive(Debug)]
pub(super) enum Word {
    /// Told by itself.
    News(News),
    /// Its warden has been killed, and it goes on.
    Unguarded,
}

/// The parent of all programs.
#[derive(Debug)]
pub(super) struct Keeper {
    /// To the thread that gives them: the keeper may take its time, with a folder of a server that is gone for example.
    orders: SyncSender<Given>,
    /// The warden, a child of ours; `None`: that of a process from which we have taken over.
    child: Option<Child>,
    /// Readable when the warden has ended (pidfd_open(2)), for us and for whoever takes over. `None`: an older process has not
    /// handed it over, or the kernel gives none.
    warden: Option<OwnedFd>,
    /// It has a PID namespace of its own.
    is_private: bool,
    /// It is to end because we say so.
    is_ending: Arc<AtomicBool>,
    words: Option<mpsc::Receiver<Word>>,
}

impl Keeper {
    /// Starts it. Programs will run as one of `accounts`, `None` among them being whoever this process is now; without a list
    /// as anybody. `folder` is removed in the end. With `is_private` all of them have a PID namespace, which takes CAP_SYS_ADMIN.
    /// To be called while this process has all its rights.
    ///
    /// Errors: what keeps it from starting.
    pub(super) fn start(accounts: Option<&[Option<Account>]>, folder: &Path, is_private: bool) -> io::Result<Keeper> {
        let (ours, theirs) = Channel::pair()?;
        let (mut command, own) = (Command::new("/proc/self/exe"), std::process::id());
        command.arg0(format!("{KEEPER_NAME} of {own}")).env_clear().env(VARIABLE, own.to_string());
        if is_private {
            pid_namespace::begin_with_first_child(&mut command);
        }
        let mut child = spawn(command, theirs)?;
        // It is not reaped yet, so that the number is its own.
        let warden = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
        if is_private && let Err(error) = await_namespace(&ours) {
            // What is left of it ends with its channel.
            drop(ours);
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        let keeper = Keeper { is_private, ..Keeper::over(ours, Some(child), warden)? };
        let accounts = accounts.map(|named| named.iter().map(|account| account.as_ref().map(Into::into)).collect());
        keeper.order(&Order::Begin { accounts, folder: folder.to_owned() }, Vec::new())?;
        Ok(keeper)
    }

    /// That of the process from which this one takes over, by what [`Keeper::heir`] was there, and its warden.
    pub(super) fn inherited(channel: OwnedFd, warden: Option<OwnedFd>, is_private: bool) -> io::Result<Keeper> {
        Ok(Keeper { is_private, ..Keeper::over(channel.into(), None, warden)? })
    }

    fn over(channel: Channel, child: Option<Child>, warden: Option<OwnedFd>) -> io::Result<Keeper> {
        let (tell, words) = mpsc::channel(NEWS_MAX);
        // One that is in a namespace of its own tells numbers by which nobody is known here.
        channel.ask_for_numbers()?;
        let is_ending = Arc::new(AtomicBool::new(false));
        let ear = Ear {
            channel: channel.try_clone()?,
            warden: warden.as_ref().map(OwnedFd::try_clone).transpose()?,
            is_ending: is_ending.clone(),
            tell,
        };
        let (orders, given) = sync_channel(ORDERS_MAX);
        let tell = ear.tell.downgrade();
        std::thread::Builder::new().name("keeper".into()).spawn(move || ear.listen())?;
        std::thread::Builder::new().name("orders".into()).spawn(move || give(&channel, &given, &tell))?;
        Ok(Keeper { orders, child, warden, is_private: false, is_ending, words: Some(words) })
    }

    /// Whether it has a PID namespace of its own.
    pub(super) fn is_private(&self) -> bool {
        self.is_private
    }

    /// Its warden, for a process that takes over.
    pub(super) fn warden(&self) -> io::Result<Option<OwnedFd>> {
        self.warden.as_ref().map(OwnedFd::try_clone).transpose()
    }

    /// The warden has been killed: as our child it is to be waited for.
    pub(super) fn reap_warden(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.try_wait();
        }
    }

    /// A channel to it for a process that takes over. It may be closed unused.
    pub(super) fn heir(&self) -> io::Result<OwnedFd> {
        let (heirs, keepers) = Channel::pair()?;
        self.order(&Order::Heir, vec![keepers])?;
        Ok(heirs.into())
    }

    /// What it tells, until it ends. Only the first call gets it.
    pub(super) fn take_words(&mut self) -> Option<mpsc::Receiver<Word>> {
        self.words.take()
    }

    /// Has a program started.
    pub(super) fn launch(&self, note: StartNote, fds: Vec<OwnedFd>) -> io::Result<()> {
        self.order(&Order::Start(Box::new(note), fds.len()), fds)
    }

    /// Errors: it is too long, or too many wait. One that the keeper does not take later is told in the log, and where a program
    /// was to be started, as news of that.
    pub(super) fn order(&self, order: &Order, fds: Vec<OwnedFd>) -> io::Result<()> {
        let bytes = serde_json::to_vec(order)?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            let text = format!("command and environment have {} bytes, {MESSAGE_BYTES_MAX} are the most", bytes.len());
            return Err(io::Error::other(text));
        }
        let starts = if let Order::Start(note, _) = order { Some(note.id) } else { None };
        self.orders.try_send(Given { bytes, fds, starts }).map_err(|_| io::Error::other("too many orders wait for it"))
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

    /// Lets all our programs end, by SIGTERM and later SIGKILL, and waits up to `limit` for the end of `words`, which is that.
    pub(super) async fn end(self, mut words: mpsc::Receiver<Word>, limit: Duration) {
        self.is_ending.store(true, Relaxed);
        if let Err(error) = self.order(&Order::End, Vec::new()) {
            tracing::warn!(%error, "the keeper of programs takes no order");
        }
        let all_ended = async { while words.recv().await.is_some() {} };
        if tokio::time::timeout(limit, all_ended).await.is_err() {
            tracing::warn!(waited_s = limit.as_secs(), "programs do not end: their keeper goes on without us");
        }
    }
}

/// Errors: the keeper could not make it what it should be, or ended over it.
fn await_namespace(channel: &Channel) -> io::Result<()> {
    let late = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::other(format!("it did not answer within {} s", ORDER_MAX.as_secs())),
        _ => error,
    };
    let told =
        channel.receive(Some(ORDER_MAX)).map_err(late)?.map(|(bytes, _)| serde_json::from_slice(&bytes)).transpose()?;
    match told {
        Some(News::IsAlone) => Ok(()),
        Some(News::Complaint(reason)) => Err(io::Error::other(reason)),
        _ => Err(io::Error::other("it ended at once")),
    }
}

/// An order on its way.
struct Given {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
    /// The program that is to be started.
    starts: Option<u64>,
}

/// Gives orders, until there is nobody who has any.
fn give(channel: &Channel, given: &Receiver<Given>, tell: &mpsc::WeakSender<Word>) {
    crate::log::never_block();
    for Given { bytes, fds, starts } in given {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let Err(error) = channel.send(&bytes, &fds, ORDER_MAX) else { continue };
        tracing::warn!(%error, "the keeper of programs takes no order");
        let reason = format!("the keeper of programs takes no order: {error}");
        if let (Some(id), Some(tell)) = (starts, tell.upgrade()) {
            // Nobody hears it any more in the end.
            let _ = tell.blocking_send(Word::News(News::NotStarted { id, reason }));
        }
    }
}

/// Where a thread of its own listens.
struct Ear {
    channel: Channel,
    warden: Option<OwnedFd>,
    is_ending: Arc<AtomicBool>,
    tell: mpsc::Sender<Word>,
}

impl Ear {
    /// Passes on what the keeper tells; the receiver learns of its end by the end of this. Where the keeper was killed, that
    /// comes when its warden has killed what it had started.
    fn listen(mut self) {
        crate::log::never_block();
        loop {
            let (speaks, is_unguarded) = self.wait();
            let word = match speaks {
                true => match self.channel.receive_whole(None) {
                    Ok(Some(Received { bytes, about, .. })) => match serde_json::from_slice::<News>(&bytes) {
                        Ok(News::Complaint(reason)) => {
                            tracing::error!(reason, "the keeper of programs does not understand an order");
                            continue;
                        }
                        Ok(news) => match news.numbered_here(about) {
                            Some(news) => Word::News(news),
                            None => {
                                tracing::error!("the number of a program in its namespace is not known here");
                                continue;
                            }
                        },
                        Err(error) => {
                            tracing::error!(%error, "the keeper of programs is not understood");
                            continue;
                        }
                    },
                    Ok(None) | Err(_) => break,
                },
                false if is_unguarded => {
                    self.warden = None;
                    Word::Unguarded
                }
                // A signal has come.
                false => continue,
            };
            if self.tell.blocking_send(word).is_err() {
                return;
            }
        }
        // An end that we have ordered needs nobody to kill anything, and a warden lives as long as heirs do.
        if let Some(warden) = self.warden.filter(|_| !self.is_ending.load(Relaxed)) {
            wait_for(&mut [PollFd::new(&warden, PollFlags::IN)], Some(WARDEN_MAX));
        }
    }

    /// Whether the keeper has something to say, if only that it has ended, and whether its warden is gone.
    fn wait(&self) -> (bool, bool) {
        let mut fds = vec![PollFd::new(&self.channel, PollFlags::IN)];
        fds.extend(self.warden.as_ref().map(|warden| PollFd::new(warden, PollFlags::IN)));
        wait_for(&mut fds, None);
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        (is_ready(0), is_ready(1))
    }
}

/// Until one of them is readable, or a signal comes.
fn wait_for(fds: &mut [PollFd<'_>], limit: Option<Duration>) {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    // An error leaves what is ready empty.
    let _ = poll(fds, limit.as_ref());
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_keeper_that_stands_holds_nobody_up() {
        let (ours, theirs) = Channel::pair().unwrap();
        let keeper = Keeper::over(ours, None, None).unwrap();
        let begun = Instant::now();
        let refused = (0..10_000).find_map(|id| keeper.order(&Order::Kill(id), Vec::new()).err());
        assert_eq!(refused.map(|error| error.to_string()).as_deref(), Some("too many orders wait for it"));
        assert!(begun.elapsed() < ORDER_MAX / 2, "{:?}", begun.elapsed());
        // What it has taken it hears in its order, later.
        let theirs = Channel::from(theirs);
        for id in 0..ORDERS_MAX as u64 {
            let (bytes, _) = theirs.receive(Some(Duration::from_secs(5))).unwrap().unwrap();
            assert_eq!(serde_json::from_slice::<Order>(&bytes).unwrap(), Order::Kill(id));
        }
    }
}
