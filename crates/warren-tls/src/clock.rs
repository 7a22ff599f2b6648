//! What time it is.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of a day.
pub(crate) const DAY: u64 = 24 * 60 * 60;

/// Seconds since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "certificates are good until a date of the world's")]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
