//! Processes that callers start, and what they write.
//!
//! ```text
//!  start ---> Process (record) <--- reaper: how it ended
//!                |   ^
//!     input ---> |   | pump: one task per process reads its output
//!                v   |
//!             Events: each subscriber's stream; the spool, where one was asked for
//! ```
//!
//! A subscriber that does not read holds the pump back, and so the process; without subscribers
//! output goes to the spool, or nowhere, and the process never waits. A record outlives its process
//! for a while, for those who ask late.

mod event;
mod input;
mod pump;
mod record;
pub(crate) mod service;
mod spool;
mod start;
mod stream;
mod table;
pub(crate) mod tree;

pub(crate) use record::Process;
pub(crate) use stream::EventStream;
pub(crate) use table::Processes;
