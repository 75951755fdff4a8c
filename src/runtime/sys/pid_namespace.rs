//! A PID namespace: when its first process ends, however that has ended, the kernel kills all others in it, whose parents and
//! sessions ever they have. Source: pid_namespaces(7), mount_namespaces(7).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The number of the first process in a namespace, as it is seen in there.
const FIRST: u32 = 1;

/// The first child of the program that `command` starts will be the first process of a namespace of its own; the program itself
/// stays in ours.
///
/// What [`Command::spawn`] reports then: `PermissionDenied` without CAP_SYS_ADMIN.
pub fn begin_with_first_child(command: &mut Command) {
    let step = || {
        // SAFETY: no descriptor changes hands, which is what this could make unsound.
        Ok(unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?)
    };
    // SAFETY: what runs between fork and exec is one system call, which is async-signal-safe.
    unsafe { command.pre_exec(step) };
}

/// Whether this process is the first one of its namespace.
pub fn is_first() -> bool {
    std::process::id() == FIRST
}

/// Lets this process, and those that it starts, see those of their namespace in /proc and no others. What is mounted outside
/// later is seen by them, and what they mount by nobody outside. To be called by the first process of a namespace while it has
/// one thread.
///
/// Errors: those of unshare(2) and mount(2); a container may forbid it.
pub fn see_only_it() -> io::Result<()> {
    // SAFETY: no descriptor changes hands.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("proc", "/proc", "proc", flags, None)?)
}

/// What stands for a child in every namespace. Its number must be its own: it is not reaped yet.
pub fn handle(child: u32) -> io::Result<OwnedFd> {
    let child = i32::try_from(child).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(child, PidfdFlags::empty())?)
}

/// The number in our namespace of a process for which somebody elsewhere has a [`handle`]; `None`: it has ended and was reaped, or
/// it cannot be seen from here. Source: proc_pid_fdinfo(5).
pub fn number(handle: BorrowedFd<'_>) -> Option<u32> {
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd())).ok()?;
    parse(&told)
}

/// Zero stands for a process that is in no namespace of ours, −1 for one that was reaped.
fn parse(told: &str) -> Option<u32> {
    let number = told.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    number.trim().parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_child_has_a_number_until_it_is_reaped() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let held = handle(child.id()).unwrap();
        assert_eq!(number(held.as_fd()), Some(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(number(held.as_fd()), None);
        assert!(handle(0).is_err());
        let file = tempfile::tempfile().unwrap();
        assert_eq!(number(file.as_fd()), None, "that is no process");
        assert_eq!(
            [parse("pos:\t0\nPid:\t12\nNSpid:\t12\t1\n"), parse("Pid:\t0\n"), parse("Pid:\t-1\n")],
            [Some(12), None, None]
        );
    }
}
