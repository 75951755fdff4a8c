//! `user` and `group` of `[process]`: whom root becomes, and what that user cannot read when it is wanted again.

use std::path::PathBuf;

use super::Named;
use crate::config::model::{Config, RunAs, Tls};
use crate::config::report::Problem;
use crate::config::section::Section;
use crate::runtime::sys::users::AccountError;

pub(super) fn run_as(section: &Section<'_>) -> Option<RunAs> {
    let (user, group): (Option<String>, Option<String>) = (section.find("user"), section.find("group"));
    if user.is_none() && group.is_some() && !section.may_be_misspelt(&["user"]) {
        section.bad_value("group", "add `user`: the group is that of a user");
    }
    let run_as = RunAs { user: user?, group };
    match section.cx.outside.map(|outside| outside.account(&run_as)) {
        Some(Err(AccountError::NoGroup(name))) => {
            section.bad_value("group", AccountError::NoGroup(name).to_string());
        }
        Some(Err(error)) => section.bad_value("user", error.to_string()),
        Some(Ok(_)) | None => {}
    }
    Some(run_as)
}

/// Certificates are loaded by root at the start, and by the user whenever their files change.
pub(super) fn warn_of_unreadable_files(listeners: &[Named<'_>], config: &Config) {
    let Some(run_as) = &config.process.run_as else { return };
    for (named, listener) in listeners.iter().zip(&config.listeners) {
        let (Some(tls), Some(outside)) = (&listener.tls, named.section.cx.outside) else { continue };
        let Ok(account) = outside.account(run_as) else { return };
        for file in files(tls).into_iter().filter(|file| outside.may_read(file, &account) == Some(false)) {
            let title = format!("user `{}` may not read {}", run_as.user, file.display());
            let label =
                "root loads it at the start, but a renewed one cannot be loaded: give the user's group the right";
            named.section.cx.warn(Problem::new(title, named.section.value_span("tls"), label));
        }
    }
}

fn files(tls: &Tls) -> Vec<&PathBuf> {
    let pairs = tls.certificates.iter().flat_map(|pair| [&pair.chain, &pair.key]);
    pairs.chain(&tls.client_ca).chain(&tls.ticket_keys).collect()
}
