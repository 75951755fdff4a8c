//! Users and groups of the machine, and becoming one of them for good.
//!
//! Names are looked up as every program does (getpwnam(3), getgrnam(3), getgrouplist(3)), so that directories beside
//! /etc/passwd count.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::io;
use std::ptr;
use std::sync::OnceLock;

/// First size of the memory for an entry; it grows as long as an entry does not fit.
const ENTRY_BYTES: usize = 1024;

/// An entry larger than this is none.
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// A user with the groups whose rights it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Name as asked for.
    pub user: String,
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The other groups, `gid` among them.
    pub groups: Vec<u32>,
}

/// Why there is no such account.
#[derive(Debug)]
pub enum AccountError {
    /// Nobody is called so.
    NoUser(String),
    /// No group is called so.
    NoGroup(String),
    /// The machine does not tell.
    Lookup(io::Error),
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountError::NoUser(name) => write!(f, "this machine has no user `{name}`: see `getent passwd`"),
            AccountError::NoGroup(name) => write!(f, "this machine has no group `{name}`: see `getent group`"),
            AccountError::Lookup(error) => write!(f, "users cannot be looked up: {error}"),
        }
    }
}

impl std::error::Error for AccountError {}

/// The account of `user`, in `group` instead of its own one if that is given.
///
/// Errors: there is no such user or group.
pub fn find_account(user: &str, group: Option<&str>) -> Result<Account, AccountError> {
    let no_user = || AccountError::NoUser(user.into());
    let name = CString::new(user).map_err(|_| no_user())?;
    let (uid, own_group) = lookup_user(&name).map_err(AccountError::Lookup)?.ok_or_else(no_user)?;
    let gid = match group {
        None => own_group,
        Some(group) => {
            let no_group = || AccountError::NoGroup(group.into());
            let name = CString::new(group).map_err(|_| no_group())?;
            lookup_group(&name).map_err(AccountError::Lookup)?.ok_or_else(no_group)?
        }
    };
    Ok(Account { user: user.into(), uid, gid, groups: groups_of(&name, gid) })
}

/// Calls `look` with memory for an entry, larger ones as long as it says ERANGE.
fn with_memory<T>(mut look: impl FnMut(&mut [c_char]) -> (c_int, Option<T>)) -> io::Result<Option<T>> {
    let mut memory = vec![0; ENTRY_BYTES];
    loop {
        match look(&mut memory) {
            (libc::ERANGE, _) if memory.len() < ENTRY_BYTES_MAX => memory = vec![0; 2 * memory.len()],
            // What getpwnam(3) lists for names that are not there.
            (0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, found) => return Ok(found),
            (error, _) => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn lookup_user(name: &CStr) -> io::Result<Option<(u32, u32)>> {
    with_memory(|memory| {
        // SAFETY: all bytes zero are a passwd: numbers and null pointers.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = ptr::null_mut();
        // SAFETY: `name` ends in NUL; `entry`, `found` and `memory` with its length are ours and live through the call.
        let error =
            unsafe { libc::getpwnam_r(name.as_ptr(), &mut entry, memory.as_mut_ptr(), memory.len(), &mut found) };
        (error, (!found.is_null()).then_some((entry.pw_uid, entry.pw_gid)))
    })
}

fn lookup_group(name: &CStr) -> io::Result<Option<u32>> {
    with_memory(|memory| {
        // SAFETY: all bytes zero are a group: a number and null pointers.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = ptr::null_mut();
        // SAFETY: `name` ends in NUL; `entry`, `found` and `memory` with its length are ours and live through the call.
        let error =
            unsafe { libc::getgrnam_r(name.as_ptr(), &mut entry, memory.as_mut_ptr(), memory.len(), &mut found) };
        (error, (!found.is_null()).then_some(entry.gr_gid))
    })
}

/// The groups of a user, `gid` among them. Source: getgrouplist(3).
fn groups_of(user: &CStr, gid: u32) -> Vec<u32> {
    let mut groups: Vec<u32> = vec![gid; 64];
    loop {
        let mut count = c_int::try_from(groups.len()).unwrap_or(c_int::MAX);
        // SAFETY: `user` ends in NUL; `groups` has room for `count` numbers, and both live through the call.
        let fits = unsafe { libc::getgrouplist(user.as_ptr(), gid, groups.as_mut_ptr(), &mut count) } >= 0;
        let wanted = usize::try_from(count).unwrap_or(0);
        if fits || wanted <= groups.len() {
            groups.truncate(wanted);
            return groups;
        }
        groups.resize(wanted, gid);
    }
}

/// Whether the process may become another user.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether `uid` is root's or the one of the process.
pub fn is_own_or_root(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Name of the account that [`become_account`] made of the process.
static BECAME: OnceLock<String> = OnceLock::new();

/// Who the process is, for messages: a name, or the number of a user.
pub fn own_name() -> String {
    BECAME.get().cloned().unwrap_or_else(|| rustix::process::geteuid().as_raw().to_string())
}

/// Makes all threads of the process those of `account`, for good: no rights of the user before are kept, and no program
/// started later gets others. Source: setresuid(2), "C library/kernel differences": the library does it in every thread.
///
/// Errors: what the kernel reports; the process must end then, because a part may be done.
pub fn become_account(account: &Account) -> io::Result<()> {
    let done = |result: c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: the pointer leads to as many numbers as are told, and they live through the call.
    done(unsafe { libc::setgroups(account.groups.len(), account.groups.as_ptr()) })?;
    // SAFETY: numbers go in, nothing else.
    done(unsafe { libc::setresgid(account.gid, account.gid, account.gid) })?;
    // SAFETY: numbers go in, nothing else.
    done(unsafe { libc::setresuid(account.uid, account.uid, account.uid) })?;
    rustix::thread::set_no_new_privs(true)?;
    // SAFETY: numbers go in, nothing else.
    if account.uid != 0 && unsafe { libc::setresuid(0, 0, 0) } == 0 {
        return Err(io::Error::other("the process can become root again"));
    }
    let _ = BECAME.set(account.user.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name() {
        let root = find_account("root", None).expect("every machine has one");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0), "{root:?}");
        assert!(
            matches!(find_account("no-such-user", None), Err(AccountError::NoUser(name)) if name == "no-such-user")
        );
        assert!(matches!(find_account("a\0b", None), Err(AccountError::NoUser(_))));
        assert!(matches!(find_account("root", Some("no-such-group")), Err(AccountError::NoGroup(_))));
        let other = find_account("root", Some("daemon")).expect("a group of every machine");
        assert!(other.gid != 0 && other.groups.contains(&other.gid), "{other:?}");
    }
}
