//! The time of day, for what people read.

use std::time::{Duration, SystemTime};

use warren_api::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the one place where this program asks")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// How long ago something was, or how far away it is, in one unit: `3m`, `2h`, `5d`.
pub(crate) fn distance(from: SystemTime, to: Timestamp) -> String {
    let to = SystemTime::from(to);
    let apart = to.duration_since(from).unwrap_or_else(|earlier| earlier.duration());
    rounded(apart)
}

fn rounded(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_short() {
        for (seconds, text) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")]
        {
            assert_eq!(rounded(Duration::from_secs(seconds)), text);
        }
    }
}
