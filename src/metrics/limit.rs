//! What became of the requests under one limit, as one worker sees it.

use super::Counter;

/// What a limit says of a request. Ordered by how much it says: of several, the last one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitOutcome {
    /// It keeps the limit.
    Passed,
    /// It would have waited for its turn; the limit only counts.
    DelayedDryRun,
    /// It would have been refused; the limit only counts.
    RejectedDryRun,
    /// It waits for its turn.
    Delayed,
    /// It is refused.
    Rejected,
}

impl LimitOutcome {
    /// All, in the order of their numbers.
    pub const ALL: [LimitOutcome; 5] = [
        LimitOutcome::Passed,
        LimitOutcome::DelayedDryRun,
        LimitOutcome::RejectedDryRun,
        LimitOutcome::Delayed,
        LimitOutcome::Rejected,
    ];

    /// nginx's word for it, as in `$limit_req_status`.
    pub fn word(self) -> &'static str {
        match self {
            LimitOutcome::Passed => "PASSED",
            LimitOutcome::DelayedDryRun => "DELAYED_DRY_RUN",
            LimitOutcome::RejectedDryRun => "REJECTED_DRY_RUN",
            LimitOutcome::Delayed => "DELAYED",
            LimitOutcome::Rejected => "REJECTED",
        }
    }

    /// The same as a label.
    pub fn name(self) -> &'static str {
        match self {
            LimitOutcome::Passed => "passed",
            LimitOutcome::DelayedDryRun => "delayed_dry_run",
            LimitOutcome::RejectedDryRun => "rejected_dry_run",
            LimitOutcome::Delayed => "delayed",
            LimitOutcome::Rejected => "rejected",
        }
    }
}

/// Requests under one limit, by what it said.
#[derive(Debug, Default)]
pub struct LimitStats {
    outcomes: [Counter; LimitOutcome::ALL.len()],
}

impl LimitStats {
    /// Requests with this outcome.
    pub fn of(&self, outcome: LimitOutcome) -> &Counter {
        &self.outcomes[outcome as usize]
    }
}
