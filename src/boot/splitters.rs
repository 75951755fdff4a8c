//! Splitters as the admin pages show them.

use crate::control::shared::{SplitterServerView, SplitterView};
use crate::mysql;
use crate::mysql::shared::{Health, LAG_UNKNOWN};

/// The servers of one splitter as its monitor sees them now, the primary first.
pub(super) fn view(splitter: &mysql::Shared) -> SplitterView {
    let server = |index| {
        let facts = splitter.server(index);
        SplitterServerView {
            address: splitter.address(index).to_string(),
            role: if index == 0 { "primary" } else { "replica" },
            up: if index == 0 { facts.health() == Health::Writable } else { facts.is_eligible() },
            lag_ms: Some(facts.lag_ms()).filter(|lag| index > 0 && *lag != LAG_UNKNOWN),
        }
    };
    SplitterView { name: splitter.config().name.clone(), servers: (0..splitter.servers()).map(server).collect() }
}
