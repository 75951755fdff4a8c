//! Programs of others as children: a session of its own for each, limits, another user, a socket as descriptor 3, an end with
//! their parent. Source: setsid(2), prctl(2), credentials(7), sd_listen_fds(3), execve(2).
//!
//! To be called in a process with one thread alone ([`crate::control::processes`] has one for it): the signal that tells of
//! the parent's end (PR_SET_PDEATHSIG) is bound to the thread that forked, and what runs between fork and exec may allocate.

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus, setrlimit};

use super::users::{Account, become_account};

/// Where a program gets a socket that listens, SD_LISTEN_FDS_START.
pub const PASSED_SOCKET: RawFd = 3;

/// PIPEFS_MAGIC of statfs(2).
const PIPEFS: rustix::fs::FsWord = 0x5049_5045;

/// Where it gets a file.
pub const PASSED_FILE: RawFd = 4;

/// A program that is to be started.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Its file.
    pub program: &'a Path,
    /// The words of the command, its name first.
    pub words: &'a [String],
    /// All of its environment.
    pub environment: &'a [(String, String)],
    /// Its working directory; `None`: ours.
    pub directory: Option<&'a Path>,
    /// Whom it runs as; `None`: whoever we are.
    pub account: Option<&'a Account>,
    /// Limits, the soft one and the hard one alike.
    pub limits: &'a [(Limited, u64)],
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
    /// The socket that it gets as descriptor 3, with the variables LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES.
    pub listener: Option<OwnedFd>,
    /// The file that it gets as descriptor 4.
    pub file: Option<OwnedFd>,
}

/// What of a program is limited. Source: getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limited {
    /// Open files.
    Files,
    /// Processes of its user.
    Processes,
    /// Address space of each process, bytes.
    AddressSpace,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Starts a program as the leader of a session of its own; returns its number. It is reaped by [`reap_child`].
///
/// Errors: what fork, the steps in the child or exec report.
pub fn launch(launch: Launch<'_>) -> io::Result<u32> {
    let parent = std::process::id();
    let Launch { program, words, environment, directory, account, limits, stdout, stderr, listener, file } = launch;
    let mut child = Child::new(program, words, environment, listener.is_some())?;
    let (account, limits) = (account.cloned(), limits.to_vec());
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    let step = move || {
        rustix::process::setsid()?;
        // What is ignored or blocked stays so behind exec, and std leaves the mask as it is.
        act_on_signals(libc::SIG_DFL);
        block_none()?;
        limits.iter().try_for_each(|(what, limit)| limit_to(*what, *limit))?;
        match &account {
            Some(account) => {
                give_pipe(rustix::stdio::stdout(), account)?;
                give_pipe(rustix::stdio::stderr(), account)?;
                become_account(account)?;
            }
            None => rustix::thread::set_no_new_privs(true)?,
        }
        // Behind that: a process that becomes another user loses it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if std::os::unix::process::parent_id() != parent {
            return Err(io::Error::other("its parent has ended"));
        }
        if let Some(listener) = &listener {
            pass(listener, PASSED_SOCKET)?;
        }
        if let Some(file) = &file {
            pass(file, PASSED_FILE)?;
        }
        Err(child.exec())
    };
    // SAFETY: this process has one thread (see the module's head), so that its child may do all that it may do.
    unsafe { command.pre_exec(step) };
    Ok(command.spawn()?.id())
}

/// Lets a user open a pipe anew that it has, as by /dev/stderr. Whatever else it is stays whose it is: who sends descriptors here
/// may have fewer rights than we have.
fn give_pipe(fd: BorrowedFd<'_>, account: &Account) -> io::Result<()> {
    if !is_pipe(fd) {
        return Ok(());
    }
    Ok(rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(account.uid)), None)?)
}

/// Whether it is a pipe without a name, which lies in a file system of its own.
fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|found| found.f_type == PIPEFS)
}

fn limit_to(what: Limited, limit: u64) -> io::Result<()> {
    let resource = match what {
        Limited::Files => Resource::Nofile,
        Limited::Processes => Resource::Nproc,
        Limited::AddressSpace => Resource::As,
    };
    Ok(setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?)
}

/// Puts a descriptor where a program looks for it. Nothing of ours is there: see [`prepare`].
fn pass(fd: &OwnedFd, number: RawFd) -> io::Result<()> {
    // SAFETY: both are descriptors; the second one is open on /dev/null and ours to be replaced.
    match unsafe { libc::dup2(fd.as_raw_fd(), number) } {
        found if found == number => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What execve(2) wants, made before the fork.
struct Child {
    program: CString,
    words: Vec<CString>,
    environment: Vec<CString>,
    has_listener: bool,
}

impl Child {
    fn new(
        program: &Path,
        words: &[String],
        environment: &[(String, String)],
        has_listener: bool,
    ) -> io::Result<Child> {
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| io::Error::other("a word holds a NUL"));
        Ok(Child {
            program: text(program.as_os_str().as_bytes().to_vec())?,
            words: words.iter().map(|word| text(word.clone().into_bytes())).collect::<io::Result<_>>()?,
            environment: environment
                .iter()
                .map(|(name, value)| text(format!("{name}={value}").into_bytes()))
                .collect::<io::Result<_>>()?,
            has_listener,
        })
    }

    /// Returns only when it fails.
    fn exec(&mut self) -> io::Error {
        if self.has_listener {
            let own = format!("LISTEN_PID={}", std::process::id());
            for variable in [own.as_str(), "LISTEN_FDS=1", "LISTEN_FDNAMES=http"] {
                self.environment.extend(CString::new(variable).ok());
            }
        }
        let pointers =
            |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
        let (words, environment) = (pointers(&self.words), pointers(&self.environment));
        // SAFETY: the texts end in NUL, both lists in a null pointer, and all of them live through the call.
        unsafe { libc::execve(self.program.as_ptr(), words.as_ptr(), environment.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// How often what is left behind is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How long those that are killed may take to be gone.
pub const LEFT_MAX: Duration = Duration::from_secs(5);

/// What the two are called, in up to 15 letters; the command line of both begins with that of the keeper.
const WARDEN_NAME: &str = "app-warden";
/// See [`go_on_under_a_warden`].
pub const KEEPER_NAME: &str = "app-keeper";

/// Goes on in a child, and stays here as its warden, for which this does not return: when the child has ended, whatever it has left
/// behind is killed, in which session and whose ever it is. The child may have been killed, so that it could not do that, and
/// whoever has started it may not be allowed to.
///
/// Both have names of their own for ps(1), pkill(1) and killall(1): to kill all that is called like the program must leave those
/// alone that clean up behind it.
///
/// Errors: those of fork(2).
pub fn go_on_under_a_warden() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    name_process(WARDEN_NAME)?;
    act_on_signals(libc::SIG_IGN);
    // SAFETY: SIG_DFL is no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // SAFETY: this process has one thread (see the module's head), so that its child may do all that it may do.
    match unsafe { libc::fork() } {
        0 => name_process(KEEPER_NAME),
        child if child > 0 => {
            while rustix::process::wait(WaitOptions::empty())
                .is_ok_and(|ended| ended.is_none_or(|(pid, _)| pid.as_raw_nonzero().get() != child))
            {}
            kill_children();
            std::process::exit(0);
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Source: PR_SET_NAME(2const).
fn name_process(name: &str) -> io::Result<()> {
    Ok(rustix::thread::set_name(&CString::new(name)?)?)
}

/// Kills all children, and those that become so when their parents end, until there are none.
pub fn kill_children() {
    let (own, begun) = (std::process::id(), Instant::now());
    loop {
        while reap().is_some() {}
        let children: Vec<u32> = all().into_iter().filter(|seen| seen.parent == own).map(|seen| seen.pid).collect();
        if children.is_empty() || begun.elapsed() > LEFT_MAX {
            return;
        }
        children.into_iter().for_each(kill);
        std::thread::sleep(LOOK);
    }
}

/// Makes the process fit to be the parent of programs: orphans among their descendants become its own, signals of a terminal
/// or a service manager do not end it, descriptors 3 and 4 are nobody's, and it hears of ended children by the descriptor that is
/// returned (signalfd(2)), which is readable then.
pub fn prepare() -> io::Result<OwnedFd> {
    // It is the leader of a session already where a shell has made it one.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::thread::disable_transparent_huge_pages(false)?;
    act_on_signals(libc::SIG_IGN);
    // Where whoever started us ignores it, the kernel would keep no ended child for us.
    // SAFETY: SIG_DFL is no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    reserve(PASSED_SOCKET)?;
    reserve(PASSED_FILE)?;
    let mut ended = std::mem::MaybeUninit::uninit();
    // SAFETY: `ended` is written before it is read, and lives through the calls; no other thread has a mask.
    unsafe {
        libc::sigemptyset(ended.as_mut_ptr());
        libc::sigaddset(ended.as_mut_ptr(), libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, ended.as_ptr(), std::ptr::null_mut());
    }
    // SAFETY: as above.
    let fd = unsafe { libc::signalfd(-1, ended.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it has just been opened.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Ignores the signals by which terminals and service managers end processes, or lets them do that again.
fn act_on_signals(action: libc::sighandler_t) {
    let signals =
        [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE];
    for signal in signals {
        // SAFETY: neither SIG_IGN nor SIG_DFL is code of ours.
        unsafe { libc::signal(signal, action) };
    }
}

/// Lets every signal in. Servers that look after workers of their own hear of their ends by SIGCHLD, which [`prepare`] blocks here.
fn block_none() -> io::Result<()> {
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: `none` is written before it is read, and lives through both calls; no other thread has a mask.
    let is_set = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    if is_set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps a descriptor number from being given to anything that must survive [`pass`].
fn reserve(number: RawFd) -> io::Result<()> {
    // SAFETY: a flag of a descriptor, or EBADF.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0 {
        return Err(io::Error::other(format!("descriptor {number} is in use")));
    }
    let null = std::fs::File::open("/dev/null")?;
    // SAFETY: nobody has that number; it stays open for the life of the process.
    match unsafe { libc::dup3(null.as_raw_fd(), number, libc::O_CLOEXEC) } {
        found if found == number => Ok(()),
        _ if null.as_raw_fd() == number => {
            std::mem::forget(null);
            Ok(())
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes what a descriptor of [`prepare`] tells, so that it is readable again only for what comes later.
pub fn heard(signals: BorrowedFd<'_>) {
    let mut buffer = [0; 1024];
    while rustix::io::read(signals, &mut buffer).is_ok_and(|read| read > 0) {}
}

/// The next child that has ended, orphans that became ours among them; `None`: there is none at the moment.
pub fn reap() -> Option<(u32, Ended)> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok()??;
    Some((pid.as_raw_nonzero().get().unsigned_abs(), how(status)))
}

/// The next child that has ended, which is still to be reaped: its number, its group and its session are nobody else's.
pub fn ended() -> Option<u32> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` lives through the call, which writes it.
    if unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) } != 0 {
        return None;
    }
    // SAFETY: all zeros are a siginfo_t, and where no child has ended the number in it is 0 (waitid(2)).
    let pid = unsafe { info.assume_init().si_pid() };
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

/// Reaps a child that has ended.
pub fn reap_child(pid: u32) -> Option<Ended> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    let (_, status) = rustix::process::waitpid(Some(number), WaitOptions::NOHANG).ok()??;
    Some(how(status))
}

fn how(status: WaitStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
    }
}

/// Kills what is left of a program that has ended and is still to be reaped: its group, and its session.
pub fn kill_rest(leader: u32) {
    signal_group(leader, Signal::KILL);
    let members = all().into_iter().filter(|seen| seen.session == leader && seen.pid != leader);
    members.for_each(|seen| kill_if(seen.pid, |now| now.session == leader));
}

/// Kills what a program that has ended has left behind in sessions of its own: children of this process by now, with a variable in
/// their environment that it alone had, and what they have started.
pub fn kill_orphans_with(variable: (&str, &str)) {
    let own = std::process::id();
    for _ in 0..ORPHAN_LOOKS {
        let all = all();
        let mut family = Family::default();
        family.add_marked(all.iter().filter(|seen| seen.parent == own), variable);
        if family.is_empty() {
            return;
        }
        family.look(&all);
        family.kill();
    }
}

/// Those that are killed may have started others in that moment, which come to us then.
const ORPHAN_LOOKS: u32 = 3;

/// Whether the environment that a process began with has a variable that begins so, its name and `=` included; as far as this
/// process may know that. Source: proc_pid_environ(5).
fn has_variable(pid: u32, begin: &[u8]) -> bool {
    let read = std::fs::read(format!("/proc/{pid}/environ"));
    read.is_ok_and(|text| text.split(|byte| *byte == 0).any(|variable| variable.starts_with(begin)))
}

/// Sends a signal to all processes of a group that there are.
pub fn signal_group(leader: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// Sends SIGKILL to a process, if it is there.
pub fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// What /proc tells of a process. Source: proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Its session.
    pub session: u32,
    /// When it began, in ticks since the machine did: nobody else has had its number then.
    pub started: u64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
}

/// A process of a [`Family`].
#[derive(Clone, Copy, Debug)]
struct Member {
    started: u64,
    leads_session: bool,
}

impl From<&Seen> for Member {
    fn from(seen: &Seen) -> Member {
        Member { started: seen.started, leads_session: seen.session == seen.pid }
    }
}

/// Whoever led a session so long ago says nothing any more of those in a session of that number.
const LEADER_MAX: Duration = Duration::from_secs(10);

/// Processes by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Family {
    members: HashMap<u32, Member>,
    /// When it was looked at last, or somebody came.
    looked: Option<Instant>,
}

impl Family {
    /// It is a member from now on. `started`: when it began, by [`started`]; `None`: that is not known, and it is whoever has the
    /// number now.
    pub fn add(&mut self, pid: u32, started: Option<u64>) {
        if let Some(started) = started.or_else(|| self::started(pid)) {
            if !self.was_looked_at_recently() {
                self.members.values_mut().for_each(|member| member.leads_session = false);
            }
            // Until it is looked at: programs are started as leaders of sessions of their own.
            self.members.insert(pid, Member { started, leads_session: true });
            self.looked = Some(Instant::now());
        }
    }

    /// Those of `all` become members whose environment began with a variable of this name whose value begins so. Whoever starts
    /// somebody else hands that on, as a rule, in whatever session that is and whoever its parent becomes.
    pub fn add_marked<'a>(&mut self, all: impl IntoIterator<Item = &'a Seen>, (name, value): (&str, &str)) {
        let mark = format!("{name}={value}");
        let marked = all.into_iter().filter(|seen| has_variable(seen.pid, mark.as_bytes()));
        self.members.extend(marked.map(|seen| (seen.pid, Member::from(seen))));
    }

    fn was_looked_at_recently(&self) -> bool {
        self.looked.is_some_and(|looked| looked.elapsed() < LEADER_MAX)
    }

    /// There is nobody.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Those that have ended are members no more; those that members have started, and those in their sessions, become so, also
    /// where the leader of the session has ended a moment ago: nobody gets its number while somebody is in its session
    /// (credentials(7)).
    pub fn look(&mut self, all: &[Seen]) {
        let (before, is_recent) = (std::mem::take(&mut self.members), self.was_looked_at_recently());
        self.looked = Some(Instant::now());
        let led = |session: u32| is_recent && before.get(&session).is_some_and(|member| member.leads_session);
        let has_lost_leader = |seen: &Seen| led(seen.session) && all.iter().all(|other| other.pid != seen.session);
        let was_there = |seen: &Seen| before.get(&seen.pid).is_some_and(|member| member.started == seen.started);
        let is_left = |seen: &&Seen| was_there(seen) || has_lost_leader(seen);
        self.members.extend(all.iter().filter(is_left).map(|seen| (seen.pid, Member::from(seen))));
        loop {
            let is_new = |seen: &&Seen| {
                let of = |pid: u32| self.members.contains_key(&pid);
                !of(seen.pid) && (of(seen.parent) || of(seen.session))
            };
            let new: Vec<(u32, Member)> =
                all.iter().filter(is_new).map(|seen| (seen.pid, Member::from(seen))).collect();
            if new.is_empty() {
                return;
            }
            self.members.extend(new);
        }
    }

    /// Kills all members, as far as this process may, and forgets them.
    pub fn kill(&mut self) {
        for (pid, member) in self.members.drain() {
            kill_if(pid, |seen| seen.started == member.started);
        }
    }
}

/// Sends SIGKILL to a process that `is_it`, also where its number becomes somebody else's in that moment. Source: pidfd_open(2).
pub fn kill_if(pid: u32, is_it: impl FnOnce(&Seen) -> bool) {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    // From here on the descriptor is that of one process; what is seen is seen of it, or it has ended.
    let held = rustix::process::pidfd_open(number, PidfdFlags::empty());
    if !see(pid).is_some_and(|seen| is_it(&seen)) {
        return;
    }
    match held {
        Ok(held) => drop(rustix::process::pidfd_send_signal(held, Signal::KILL)),
        // A sandbox may know no such call: then it is a matter of microseconds.
        Err(Errno::NOSYS | Errno::PERM) => kill(pid),
        Err(_) => {}
    }
}

/// When a process began, which tells it apart from those that have had its number or will have it; to be asked while the number is
/// certainly its own, as that of a child is until it is reaped.
pub fn started(pid: u32) -> Option<u64> {
    see(pid).map(|seen| seen.started)
}

/// One process; `None`: it is not there.
///
/// All of them are looked at every now and then, so that this is three calls to the kernel: the file tells all in one read.
fn see(pid: u32) -> Option<Seen> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let stat = rustix::fs::open(format!("/proc/{pid}/stat"), flags, Mode::empty()).ok()?;
    let mut text = [0; STAT_BYTES_MAX];
    let bytes = rustix::io::read(&stat, &mut text).ok()?;
    parse_stat(&String::from_utf8_lossy(&text[..bytes]), page_bytes())
}

/// Most that the file may have (proc_pid_stat(5)): 52 numbers of up to 20 digits, and a name of 64 bytes.
const STAT_BYTES_MAX: usize = 2048;

fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// All processes of the machine that can be seen.
pub fn all() -> Vec<Seen> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(see).collect()
}

/// The name of the program, in parentheses, may hold anything.
fn parse_stat(text: &str, page_bytes: u64) -> Option<Seen> {
    let pid = text.split(' ').next()?.parse().ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Seen {
        pid,
        parent: number(1)?.try_into().ok()?,
        session: number(3)?.try_into().ok()?,
        started: number(19)?,
        resident_bytes: number(21)?.saturating_mul(page_bytes),
    })
}

/// The file that a command's first word means: with a slash a path, seen from `folder`; else looked for in `folders`, the
/// value of a PATH.
///
/// Errors: there is none that can be run, for a person.
pub fn find_program(word: &str, folder: &Path, folders: &OsStr) -> Result<PathBuf, String> {
    if word.contains('/') {
        let path = folder.join(word);
        return match std::fs::metadata(&path) {
            Err(error) => Err(format!("{} cannot be run: {error}", path.display())),
            Ok(found) if !found.is_file() => Err(format!("{} is not a file", path.display())),
            Ok(found) if found.permissions().mode() & 0o111 == 0 => {
                Err(format!("{} is not executable: see `chmod +x`", path.display()))
            }
            Ok(_) => Ok(path),
        };
    }
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let found = std::env::split_paths(folders).map(|place| folder.join(place).join(word)).find(is_program);
    found.ok_or_else(|| {
        let folders = OsString::from_vec(folders.as_bytes().to_vec());
        format!("`{word}` is in no folder of PATH ({}): write its path", folders.to_string_lossy())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_apart_whatever_its_name_is() {
        let text = "12 (a) b (c) S 7 12 9 0 -1 4194304 1 0 0 0 1 2 3 4 20 0 1 0 55 1000 77 18446744073709551615\n";
        let seen = Seen { pid: 12, parent: 7, session: 9, started: 55, resident_bytes: 77 * 4096 };
        assert_eq!(parse_stat(text, 4096), Some(seen));
        assert_eq!(parse_stat("12 (a) S 7", 4096), None);
        let own = std::process::id();
        let found = all().into_iter().find(|seen| seen.pid == own).expect("we are there");
        assert!(found.resident_bytes > 100_000 && found.parent == std::os::unix::process::parent_id());
        // The kernel takes any bytes for a name.
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(OsStr::from_bytes(b"sl\xFFep )"));
        std::os::unix::fs::symlink(
            find_program("sleep", Path::new("/"), OsStr::new("/usr/bin:/bin")).unwrap(),
            &program,
        )
        .unwrap();
        let mut child = Command::new(&program).arg("1000").spawn().unwrap();
        let parent = see(child.id()).map(|seen| seen.parent);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(parent, Some(own));
    }

    #[test]
    fn a_family_is_who_was_seen_in_it_and_nobody_who_has_the_number_later() {
        let seen = |pid, parent, session, started| Seen { pid, parent, session, started, resident_bytes: 0 };
        let member = |started| Member { started, leads_session: true };
        let mut family = Family { members: [(10, member(1)), (20, member(2))].into(), looked: Some(Instant::now()) };
        let members = |family: &Family| {
            let mut all: Vec<_> = family.members.iter().map(|(pid, member)| (*pid, member.started)).collect();
            all.sort_unstable();
            all
        };
        // 20 has ended, and another one has its number; 12 is a child in a session of its own, 13 a child of that.
        let all =
            [seen(13, 12, 12, 6), seen(12, 10, 12, 5), seen(11, 10, 10, 4), seen(10, 5, 10, 1), seen(20, 1, 20, 9)];
        family.look(&all);
        assert_eq!(members(&family), [(10, 1), (11, 4), (12, 5), (13, 6)]);
        // Those whose parents end stay, and others have the numbers of 11 and 12.
        family.look(&[
            seen(13, 1, 12, 6),
            seen(11, 1, 1, 7),
            seen(12, 1, 12, 8),
            seen(15, 12, 12, 9),
            seen(10, 5, 10, 1),
        ]);
        assert_eq!(members(&family), [(10, 1), (13, 6)]);
        // 10 has ended before anybody has seen what it had started last.
        family.look(&[seen(16, 1, 10, 10), seen(17, 16, 17, 11), seen(18, 1, 18, 11)]);
        assert_eq!(members(&family), [(16, 10), (17, 11)]);
        // 16 leads no session, 17 does; a while later somebody else's session may have that number, whose leader ends.
        family.look(&[seen(17, 1, 17, 11), seen(21, 1, 16, 12)]);
        assert_eq!(members(&family), [(17, 11)]);
        let own = std::process::id();
        for comes_another in [false, true] {
            let mut family = family.clone();
            family.looked = Instant::now().checked_sub(LEADER_MAX);
            if comes_another {
                family.add(own, Some(14));
            }
            family.look(&[seen(22, 1, 17, 13)]);
            assert!(family.is_empty(), "{family:?}");
        }
    }

    #[test]
    fn who_has_a_mark_is_found_with_all_that_it_has_started() {
        let sleep = |mark: &str| {
            // A child of it has no environment at all.
            let mut command = Command::new("sh");
            command.args(["-c", "env -i sleep 1000 & wait"]).env("TEST_MARK", mark).spawn().unwrap()
        };
        let own = std::process::id();
        let (mut one, mut other) = (sleep(&format!("{own}/1/")), sleep(&format!("{own}/11/")));
        let has_child = |of: u32| all().iter().any(|seen| seen.parent == of);
        while !(has_child(one.id()) && has_child(other.id())) {
            std::thread::sleep(LOOK);
        }
        let found = |value: &str| {
            let (mut family, all) = (Family::default(), all());
            family.add_marked(&all, ("TEST_MARK", value));
            family.look(&all);
            family
        };
        assert!(found("nobody").is_empty());
        let mut both = found(&format!("{own}/"));
        let mut first = found(&format!("{own}/1/"));
        assert_eq!((both.members.len(), first.members.len()), (4, 2));
        first.kill();
        one.wait().unwrap();
        assert!(other.try_wait().unwrap().is_none(), "it is another one");
        both.kill();
        other.wait().unwrap();
    }

    #[test]
    fn a_member_is_killed_and_nobody_else() {
        let sleep = || Command::new("sleep").arg("1000").spawn().unwrap();
        let (mut member, mut stranger) = (sleep(), sleep());
        let mut family = Family::default();
        family.add(member.id(), started(member.id()));
        // What is told of a start may be heard when the program has ended and somebody else has its number.
        family.add(stranger.id(), Some(1));
        family.kill();
        let ended = member.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(libc::SIGKILL));
        assert!(stranger.try_wait().unwrap().is_none(), "it has begun at another time");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn a_pipe_is_given_away_and_nothing_else() {
        use std::os::fd::AsFd;
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let (read, write) = io::pipe().unwrap();
        assert!(is_pipe(read.as_fd()) && is_pipe(write.as_fd()));
        let named = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
        assert!(!is_pipe(named.as_fd()) && !is_pipe(tempfile::tempfile().unwrap().as_fd()));
        assert!(!is_pipe(std::fs::File::open("/dev/null").unwrap().as_fd()));
    }

    #[test]
    fn programs_are_found_by_path_and_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run");
        std::fs::write(&file, "").unwrap();
        let find = |word: &str, path: &str| find_program(word, folder.path(), OsStr::new(path));
        assert!(find("./run", "").unwrap_err().contains("not executable"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("./run", "").unwrap(), folder.path().join("./run"));
        assert_eq!(find("run", &format!("/nowhere:{}", folder.path().display())).unwrap(), file);
        assert!(find("run", "/nowhere").unwrap_err().contains("PATH (/nowhere)"));
        assert!(find("./none", "").unwrap_err().contains("No such file"));
        assert!(find("sh", "/usr/bin:/bin").is_ok());
    }
}
