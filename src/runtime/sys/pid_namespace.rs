//! A PID namespace: when its first process ends, however that has ended, the kernel kills all others in it, whose parents and
//! sessions ever they have. Source: pid_namespaces(7), mount_namespaces(7), proc_pid_mountinfo(5), proc(5).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The number of the first process in a namespace, as it is seen in there.
const FIRST: u32 = 1;

/// Options of procfs that say who sees what of whom.
const KEPT_OPTIONS: [&str; 3] = ["hidepid=", "gid=", "subset="];

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

/// Lets this process, and those that it starts, see those of their namespace in /proc and no others. What says there who sees
/// whom, and what is mounted over parts of it, stays. What is mounted outside later is seen by them where mounts are shared, as
/// systemd has it, and what they mount by nobody outside. To be called by the first process of a namespace while it has one thread.
///
/// Errors: those of unshare(2) and mount(2); a container may forbid it.
pub fn see_only_it() -> io::Result<()> {
    // SAFETY: no descriptor changes hands.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    let before = Procfs::read(&std::fs::read_to_string("/proc/self/mountinfo")?);
    // Of these mounts alone, not of those outside, others can be made.
    let covers = before.covers.iter().map(|place| Ok((place, hold(place)?))).collect::<io::Result<Vec<_>>>()?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, before.options.as_deref())?;
    for (place, cover) in covers {
        // With the flags that it has, such as read-only.
        mount_bind(format!("/proc/self/fd/{}", cover.as_raw_fd()), place)?;
    }
    Ok(())
}

/// What is mounted at a place now.
fn hold(place: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// What is mounted at /proc.
#[derive(Debug, Default, PartialEq, Eq)]
struct Procfs {
    /// [`KEPT_OPTIONS`], as mount(2) takes them.
    options: Option<CString>,
    /// Where something is mounted over it, what lies further out first.
    covers: Vec<PathBuf>,
}

impl Procfs {
    fn read(mountinfo: &str) -> Procfs {
        let mut found = Procfs::default();
        for line in mountinfo.lines() {
            // In front of the dash come the place, the fifth, and fields that may be missing; the last one behind it has the options.
            let Some((first, last)) = line.split_once(" - ") else { continue };
            let Some(place) = first.split(' ').nth(4) else { continue };
            if place == "/proc" {
                let kept = last.rsplit(' ').next().unwrap_or_default().split(',');
                let kept: Vec<&str> =
                    kept.filter(|option| KEPT_OPTIONS.iter().any(|name| option.starts_with(name))).collect();
                // What was mounted later is in front of what was there.
                found = Procfs { options: CString::new(kept.join(",")).ok(), covers: Vec::new() };
            } else if place.starts_with("/proc/") {
                found.covers.push(place.into());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_restricts_proc_is_found() {
        let read = |mountinfo: &str| {
            let Procfs { options, covers } = Procfs::read(mountinfo);
            let covers: Vec<String> = covers.iter().map(|place| place.display().to_string()).collect();
            (options.map(|options| options.into_string().unwrap()), covers)
        };
        let plain = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                     24 22 0:5 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n\
                     30 24 0:9 / /proc/sys/fs/binfmt_misc rw,relatime shared:13 - autofs systemd-1 rw,fd=29,pgrp=1\n\
                     31 22 0:10 / /process rw - tmpfs tmpfs rw\n";
        assert_eq!(read(plain), (Some(String::new()), vec!["/proc/sys/fs/binfmt_misc".into()]));
        let strict = "24 22 0:5 / /proc rw,nosuid - proc proc rw,gid=4,hidepid=invisible\n\
                      40 24 0:5 /sys /proc/sys ro,nosuid - proc proc rw,gid=4,hidepid=invisible\n\
                      41 24 0:20 /null /proc/kcore rw - tmpfs tmpfs rw,size=1k\n";
        assert_eq!(
            read(strict),
            (Some("gid=4,hidepid=invisible".into()), vec!["/proc/sys".into(), "/proc/kcore".into()])
        );
        assert_eq!(
            read(&format!("{plain}50 24 0:7 / /proc rw - proc proc rw,subset=pid\n")),
            (Some("subset=pid".into()), vec![])
        );
        assert_eq!(read("nonsense\n\n - \n"), (None, vec![]));
        assert!(Procfs::read(&std::fs::read_to_string("/proc/self/mountinfo").unwrap()).options.is_some());
    }
}
