//! In-process applications.

use std::time::Duration;

/// An in-process application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Name in logs, metrics and routes.
    pub name: String,
    /// Name under which the program registered it (see [`crate::app::Registry`]).
    pub program: String,
    /// From the complete request head to the head of the answer; beyond it 504.
    pub response_timeout: Duration,
}
