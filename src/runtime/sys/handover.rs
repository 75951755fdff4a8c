//! What passes from one process to the next: messages with descriptors over a pair of sockets, a child that inherits nothing
//! else, and the sockets that a service manager has opened. Source: unix(7), cmsg(3), close_range(2), sd_listen_fds(3).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, UCred,
};
use rustix::process::Pid;

use crate::runtime::net::{Address, bound_address};

/// Descriptors in one message; the kernel takes at most 253 (SCM_MAX_FD).
pub const FDS_MAX: usize = 64;

/// Bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// What has come over a channel.
#[derive(Debug)]
pub struct Received {
    /// The message.
    pub bytes: Vec<u8>,
    /// What came with it.
    pub fds: Vec<OwnedFd>,
    /// The process that it is about, by its number in our namespace; whoever sent it, unless it was sent by
    /// [`Channel::send_about`]. `None`: this end does not ask for it, see [`Channel::ask_for_numbers`].
    pub about: Option<Pid>,
}

/// One end of a channel between two processes. Messages keep their bounds.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends: ours, and the one for [`spawn`].
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Channel(ours), theirs))
    }

    /// The end that [`spawn`] has given to this process as its standard input, which is /dev/null from now on.
    pub fn inherited() -> io::Result<Channel> {
        let ours = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        // Fails for whatever is no such socket.
        if rustix::net::sockopt::socket_type(&ours)? != SocketType::SEQPACKET {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(Channel(ours))
    }

    /// The same channel in other hands.
    pub fn try_clone(&self) -> io::Result<Channel> {
        Ok(Channel(self.0.try_clone()?))
    }

    /// Sends a message of at most [`MESSAGE_BYTES_MAX`] with at most [`FDS_MAX`] descriptors.
    ///
    /// Errors: `InvalidInput` for more than that; the other process has ended, or has not taken it within `time`.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>], time: Duration) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if bytes.len() > MESSAGE_BYTES_MAX || !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.uninterrupted(Timeout::Send, Some(time), || {
            rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }

    /// The same with the number of a process, which the kernel translates for whoever is in another PID namespace. Takes
    /// CAP_SYS_ADMIN, and the process must be there. Source: SCM_CREDENTIALS of unix(7).
    pub fn send_about(&self, bytes: &[u8], about: Pid, time: Duration) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        let credentials = SendAncillaryMessage::ScmCredentials(UCred { pid: about, uid, gid });
        if bytes.len() > MESSAGE_BYTES_MAX || !control.push(credentials) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.uninterrupted(Timeout::Send, Some(time), || {
            rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }

    /// Messages that come here tell which process they are about.
    pub fn ask_for_numbers(&self) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_socket_passcred(&self.0, true)?)
    }

    /// The next message, with its descriptors. Further: [`Channel::receive_whole`].
    pub fn receive(&self, time: Option<Duration>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        Ok(self.receive_whole(time)?.map(|Received { bytes, fds, .. }| (bytes, fds)))
    }

    /// The next message. `Ok(None)`: the other process has closed its end.
    ///
    /// Errors: `WouldBlock` when none has come within `time` (`None`: it waits for good); `InvalidData` when it was longer
    /// than [`MESSAGE_BYTES_MAX`], of which nothing is kept. Where this process may not have so many descriptors, those that are too
    /// many are lost without an error (MSG_CTRUNC of recvmsg(2)): messages say how many they have.
    pub fn receive_whole(&self, time: Option<Duration>) -> io::Result<Option<Received>> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let mut receive = || rustix::net::recvmsg(&self.0, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC);
        let received = match self.uninterrupted(Timeout::Recv, time, &mut receive) {
            // It has ended without having read everything that we sent, which is told once, before what it said itself.
            Err(rustix::io::Errno::CONNRESET) => self.uninterrupted(Timeout::Recv, time, &mut receive)?,
            received => received?,
        };
        let (mut fds, mut about) = (Vec::new(), None);
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(rights) => fds.extend(rights),
                RecvAncillaryMessage::ScmCredentials(credentials) => about = Some(credentials.pid),
                _ => {}
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is longer than it may be"));
        }
        bytes.truncate(received.bytes);
        Ok(Some(Received { bytes, fds, about }))
    }

    /// Calls again when a signal has come between, for what is left of `time`: with a time-out a call ends with EINTR whatever
    /// the signal's handler asked for (signal(7)).
    fn uninterrupted<T>(
        &self,
        which: Timeout,
        time: Option<Duration>,
        mut call: impl FnMut() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let begun = Instant::now();
        loop {
            let left = time.map(|time| time.saturating_sub(begun.elapsed()).max(Duration::from_millis(1)));
            set_socket_timeout(&self.0, which, left)?;
            match call() {
                Err(rustix::io::Errno::INTR) if time.is_some_and(|time| begun.elapsed() >= time) => {
                    return Err(rustix::io::Errno::AGAIN);
                }
                Err(rustix::io::Errno::INTR) => {}
                result => return result,
            }
        }
    }
}

/// An end that has come over another channel.
impl From<OwnedFd> for Channel {
    fn from(end: OwnedFd) -> Channel {
        Channel(end)
    }
}

/// An end that goes to another process.
impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Starts `command` with `stdin`, the standard output and error of this process, and no other descriptor of it: sockets
/// that a ring has accepted are not marked to be closed at exec.
pub fn spawn(mut command: Command, stdin: OwnedFd) -> io::Result<Child> {
    command.stdin(Stdio::from(stdin));
    // SAFETY: what runs between fork and exec makes system calls alone, all of them async-signal-safe.
    unsafe { command.pre_exec(close_at_exec) };
    command.spawn()
}

/// Marks every descriptor but the standard ones. That by which std tells of a failed exec is marked anyway.
fn close_at_exec() -> io::Result<()> {
    // SAFETY: close_range(2) with this flag (Linux 5.11) closes nothing now.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } == 0 {
        return Ok(());
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for fd in 3..libc::c_int::try_from(limit.rlim_cur).unwrap_or(1 << 20) {
        // SAFETY: a flag of a descriptor, or EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// What a descriptor from outside is.
#[derive(Debug)]
pub enum Found {
    /// A listening TCP or Unix socket.
    Stream(Address, OwnedFd),
    /// A UDP socket.
    Datagram(Address, OwnedFd),
    /// Nothing that we serve on, and its number.
    Other(RawFd),
}

/// The descriptors from 3 on that a service manager has passed, `count` of them.
///
/// Only the first call in a process gets them. It must come before this process has opened any descriptor that could have one of these numbers.
pub fn take_activated(count: usize) -> Vec<Found> {
    const FIRST: RawFd = 3; // SD_LISTEN_FDS_START
    // A second time they would have two owners.
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let numbers = FIRST..FIRST.saturating_add(RawFd::try_from(count).unwrap_or(RawFd::MAX));
    numbers.map_while(take_one).collect()
}

/// `None`: there is no such descriptor.
fn take_one(number: RawFd) -> Option<Found> {
    // SAFETY: a flag of a descriptor, or EBADF.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: it is open, and by the protocol of LISTEN_FDS it is ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    Some(match describe(fd.as_fd()) {
        Ok((SocketType::STREAM, address)) => Found::Stream(address, fd),
        Ok((SocketType::DGRAM, address @ Address::Tcp(_))) => Found::Datagram(address, fd),
        _ => Found::Other(number),
    })
}

fn describe(fd: BorrowedFd<'_>) -> io::Result<(SocketType, Address)> {
    let kind = rustix::net::sockopt::socket_type(fd)?;
    if kind == SocketType::STREAM && !rustix::net::sockopt::socket_acceptconn(fd)? {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok((kind, bound_address(fd)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_about_a_process() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel(theirs);
        let own = rustix::process::getpid();
        ours.send_about(b"nobody asks", own, Duration::from_secs(1)).unwrap();
        assert_eq!(theirs.receive_whole(None).unwrap().unwrap().about, None);
        theirs.ask_for_numbers().unwrap();
        let file = tempfile::tempfile().unwrap();
        ours.send(b"two", &vec![file.as_fd(); FDS_MAX], Duration::from_secs(1)).unwrap();
        let Received { bytes, fds, about } = theirs.receive_whole(None).unwrap().unwrap();
        assert_eq!((&bytes[..], fds.len(), about), (&b"two"[..], FDS_MAX, Some(own)));
        if rustix::process::geteuid().is_root() {
            let parent = rustix::process::getppid().unwrap();
            ours.send_about(b"of another one", parent, Duration::from_secs(1)).unwrap();
            assert_eq!(theirs.receive_whole(None).unwrap().unwrap().about, Some(parent));
        }
    }

    #[test]
    fn messages_keep_their_bounds_and_descriptors_their_files() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel(theirs);
        let file = tempfile::tempfile().unwrap();
        let many = vec![file.as_fd(); FDS_MAX];
        ours.send(b"one", &[], Duration::from_secs(1)).unwrap();
        ours.send(&vec![7; 50_000], &many, Duration::from_secs(1)).unwrap();
        let (bytes, fds) = theirs.receive(None).unwrap().unwrap();
        assert_eq!((&bytes[..], fds.len()), (&b"one"[..], 0));
        let (bytes, fds) = theirs.receive(None).unwrap().unwrap();
        assert_eq!((bytes.len(), fds.len()), (50_000, FDS_MAX));
        use std::os::unix::fs::MetadataExt;
        let inode = |file: &std::fs::File| file.metadata().unwrap().ino();
        assert_eq!(inode(&std::fs::File::from(fds.into_iter().next().unwrap())), inode(&file));
        let late = theirs.receive(Some(Duration::from_millis(20))).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::WouldBlock);
        theirs.send(b"not read", &[], Duration::from_secs(1)).unwrap();
        ours.send(b"last", &[], Duration::from_secs(1)).unwrap();
        drop(ours);
        assert_eq!(theirs.receive(None).unwrap().unwrap().0, b"last");
        assert!(theirs.receive(None).unwrap().is_none());
    }

    /// Has signals sent to the current thread until it is dropped.
    struct Interrupted {
        is_over: std::sync::Arc<AtomicBool>,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Interrupted {
        fn begin() -> Interrupted {
            extern "C" fn nothing(_: libc::c_int) {}
            let handler: extern "C" fn(libc::c_int) = nothing;
            // SAFETY: the handler does nothing; nobody else in the tests uses this signal.
            unsafe { libc::signal(libc::SIGWINCH, handler as libc::sighandler_t) };
            // SAFETY: it has no preconditions.
            let waiting = unsafe { libc::pthread_self() };
            let is_over = std::sync::Arc::new(AtomicBool::new(false));
            let over = is_over.clone();
            let thread = std::thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                    // SAFETY: that thread waits for this one before it ends.
                    unsafe { libc::pthread_kill(waiting, libc::SIGWINCH) };
                }
            });
            Interrupted { is_over, thread: Some(thread) }
        }
    }

    impl Drop for Interrupted {
        fn drop(&mut self) {
            self.is_over.store(true, Ordering::SeqCst);
            self.thread.take().map(std::thread::JoinHandle::join);
        }
    }

    #[test]
    fn signals_neither_end_a_wait_nor_prolong_it() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel(theirs);
        let _interrupted = Interrupted::begin();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                ours.send(b"late", &[], Duration::from_secs(1)).unwrap();
            });
            assert_eq!(theirs.receive(Some(Duration::from_secs(20))).unwrap().unwrap().0, b"late");
        });
        let (begun, time) = (Instant::now(), Duration::from_millis(100));
        assert_eq!(theirs.receive(Some(time)).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // Nobody reads: at some point there is no room.
        let full = (0..10_000).find_map(|_| ours.send(&[0; 50_000], &[], time).err());
        assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        // Two waits, each of whole milliseconds, which are rounded whenever a signal interrupts it.
        assert!((180..10_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }

    #[test]
    fn sockets_are_told_apart() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let told = describe(tcp.as_fd()).unwrap();
        assert_eq!(told, (SocketType::STREAM, Address::Tcp(tcp.local_addr().unwrap())));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(describe(unix.as_fd()).unwrap(), (SocketType::STREAM, Address::Unix(path)));
        let client = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        assert!(describe(client.as_fd()).is_err(), "it does not listen");
        assert!(describe(tempfile::tempfile().unwrap().as_fd()).is_err());
    }

    #[test]
    fn a_child_has_the_standard_descriptors_alone() {
        let leaked = std::fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        let mut command = Command::new("/bin/ls");
        command.arg("/proc/self/fd").stdout(Stdio::piped());
        let child = spawn(command, std::fs::File::open("/dev/null").unwrap().into()).unwrap();
        let output = child.wait_with_output().unwrap();
        // The fourth is the folder it lists.
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n3\n");
    }
}
