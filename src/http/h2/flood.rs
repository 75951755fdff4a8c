//! The ways in which a client of HTTP/2 makes work for nothing.

use super::frame::{ErrorCode, Frame};

/// What a client did too much of. The answer is GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 section 10.5) and the end of
/// the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flood {
    /// It reset streams before they were answered: CVE-2023-44487.
    RapidReset,
    /// It made us reset streams by its mistakes: CVE-2025-8671.
    MadeYouReset,
    /// RST_STREAM at all.
    Rst,
    /// A header block in too many pieces, or with too many bytes: CVE-2024-27316.
    Continuation,
    /// SETTINGS, each to be acknowledged: CVE-2019-9515.
    Settings,
    /// PING, each to be answered: CVE-2019-9512.
    Ping,
    /// DATA without content that does not end its stream: CVE-2019-9518.
    EmptyData,
    /// WINDOW_UPDATE of nothing, of next to nothing, or more than what we sent explains: CVE-2019-9511.
    WindowUpdate,
    /// PRIORITY and PRIORITY_UPDATE: CVE-2019-9513.
    Priority,
    /// Frames of unknown kinds.
    Unknown,
    /// All sorts of things that no correct client does.
    Glitches,
    /// A header list far beyond the limit, found by the `h2` crate when it decompressed it.
    HeaderList,
    /// Small DATA frames that wait for a slow reader, found by the `h2` crate.
    SmallData,
}

impl Flood {
    /// Number of kinds.
    pub const COUNT: usize = 13;

    /// Every kind, each at the index of [`Flood::index`].
    pub const ALL: [Flood; Flood::COUNT] = [
        Flood::RapidReset,
        Flood::MadeYouReset,
        Flood::Rst,
        Flood::Continuation,
        Flood::Settings,
        Flood::Ping,
        Flood::EmptyData,
        Flood::WindowUpdate,
        Flood::Priority,
        Flood::Unknown,
        Flood::Glitches,
        Flood::HeaderList,
        Flood::SmallData,
    ];

    /// Where the kind stands in [`Flood::ALL`] and in arrays of one entry a kind.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Flood::RapidReset => "rapid_reset",
            Flood::MadeYouReset => "made_you_reset",
            Flood::Rst => "rst",
            Flood::Continuation => "continuation",
            Flood::Settings => "settings",
            Flood::Ping => "ping",
            Flood::EmptyData => "empty_data",
            Flood::WindowUpdate => "window_update",
            Flood::Priority => "priority",
            Flood::Unknown => "unknown",
            Flood::Glitches => "glitches",
            Flood::HeaderList => "header_list",
            Flood::SmallData => "small_data",
        }
    }

    /// Why the `h2` crate itself sent this GOAWAY, where it was for a flood. It has limits of its own, some of which
    /// cannot be set, and it tells which one it was in the debug data.
    pub(super) fn of_goaway(goaway: &Frame) -> Option<Flood> {
        if goaway.number(4) != Some(ErrorCode::ENHANCE_YOUR_CALM.0) {
            return None;
        }
        let debug_data = goaway.kept().get(8..).unwrap_or_default();
        let known: [(&[u8], Flood); 5] = [
            (b"too_many_resets", Flood::RapidReset),
            (b"too_many_internal_resets", Flood::MadeYouReset),
            (b"too_many_continuations", Flood::Continuation),
            (b"header_list_way_too_large", Flood::HeaderList),
            (b"too_many_data_frames", Flood::SmallData),
        ];
        // Of long texts only the beginning is kept.
        let found = known.iter().find(|(text, _)| !debug_data.is_empty() && text.starts_with(debug_data));
        Some(found.map_or(Flood::Glitches, |(_, flood)| *flood))
    }
}

impl std::fmt::Display for Flood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP/2 flood: {}", self.name())
    }
}

impl std::error::Error for Flood {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_stands_at_its_index_under_a_name_of_its_own() {
        for (at, kind) in Flood::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), at);
            assert!(!Flood::ALL[..at].iter().any(|other| other.name() == kind.name()));
        }
    }
}
