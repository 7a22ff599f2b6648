//! This program's own memory and descriptors.

use std::os::fd::{IntoRawFd as _, OwnedFd};

/// Makes all threads share one heap: each heap of its own costs memory that a small daemon never
/// uses. Call it before threads start.
///
/// # Source
///
/// `mallopt(3)`, `M_ARENA_MAX`.
pub fn use_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two integers, and the caller has one thread, as the man page asks.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Keeps a descriptor open for as long as this program runs, as one of its standard streams.
pub fn leave_open(fd: OwnedFd) {
    let _number = fd.into_raw_fd();
}
