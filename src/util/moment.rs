//! Points in time as numbers.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds of the Unix epoch; 0 for times before it.
pub fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
