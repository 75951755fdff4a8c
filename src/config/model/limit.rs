//! Limits of requests.

use crate::guard::Allowed;
use crate::util::template::Template;

/// A limit of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Name in `limits`, logs, metrics and answers.
    pub name: String,
    /// What is counted; a request for which it is empty is not limited.
    pub key: Template,
    /// Rate and requests at once; at least one of the two.
    pub allowed: Allowed,
    /// Requests ahead of the rate wait for their turn; else they go on at once.
    pub delays: bool,
    /// Status of refused requests.
    pub status: u16,
    /// Nothing is refused or delayed, only counted.
    pub dry_run: bool,
}
