//! The user that the process runs as: root opens what only root may, then becomes `user` of [process] for good.

use std::path::Path;

use super::start::StartError;
use crate::config::model::RunAs;
use crate::runtime::sys::users::{Account, become_account, find_account, is_own_or_root, is_root};

/// The account of the config; `None`: the process stays who it is.
pub(super) fn account(run_as: Option<&RunAs>) -> Result<Option<Account>, StartError> {
    let Some(RunAs { user, group }) = run_as else { return Ok(None) };
    if !is_root() {
        if find_account(user, None).is_ok_and(|account| account.uid != 0 && is_own_or_root(account.uid)) {
            return Ok(None); // started by it, or by a process that has become it
        }
        tracing::warn!(%user, "`user` of [process] is ignored: only root can become another user");
        return Ok(None);
    }
    find_account(user, group.as_deref()).map(Some).map_err(|error| StartError::User(error.to_string()))
}

/// Gives it a Unix socket that root has made, so that the members of its group may connect.
pub(super) fn give(path: &Path, account: &Account) -> Result<(), StartError> {
    std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid)).map_err(|error| {
        StartError::User(format!("cannot give `{}` to user `{}`: {error}", path.display(), account.user))
    })
}

/// Becomes it, in all threads that are there and those that will be.
pub(super) fn drop_to(account: &Account) -> Result<(), StartError> {
    let Account { user, uid, gid, groups } = account;
    become_account(account).map_err(|error| StartError::User(format!("cannot become user `{user}`: {error}")))?;
    tracing::info!(%user, uid, gid, ?groups, "privileges dropped");
    Ok(())
}
