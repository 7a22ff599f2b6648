//! What a sandbox is: its identity, its specification, its states, its limits and its lifetime.
//!
//! Core decides. It performs no I/O on the host other than its database and the byte streams that
//! a [`runtime::Runtime`] opens for it, and it knows no backend by name.
//!
//! In reading order:
//!
//! | module | what |
//! |---|---|
//! | [`id`], [`spec`], [`state`] | what a sandbox is |
//! | [`egress`] | what it may reach |
//! | [`runtime`] | the seam to what makes guests |
//! | [`caller`], [`error`] | who asks, and why not |
//! | [`access`] | projects, their keys and quotas |
//! | [`sandboxes`] | what the edges call |
//! | [`templates`] | named images with what belongs to them, and the builds that make them |
//! | [`images`] | what root filesystems are made from, and the store of them |
//! | [`sandbox`] | one sandbox and the task that owns it |
//! | [`volumes`] | directories that outlive sandboxes |
//! | [`secrets`] | values that requests are given on their way out |
//! | [`credentials`] | what requests are given on their way out, for which hosts |
//! | [`git`] | sandboxes whose work is a branch of a repository |
//! | [`snapshots`] | what sandboxes were, as a tree |
//! | [`exposure`] | who reaches the ports of a sandbox from outside |
//! | [`exec`], [`events`], [`logs`] | what streams |
//! | `guest` | the client of the guest agent |
//! | `pool`, `ports`, `quota`, `plan`, `reconcile`, `reap` | parts of the decisions |
//! | [`store`] | what survives the server |

pub mod egress;
pub mod id;
pub mod spec;
pub mod state;

pub mod clock;
pub mod compare;
pub mod config;
pub mod images;
pub mod runtime;

pub mod access;
pub mod caller;
pub mod error;
pub mod sandboxes;

pub mod credentials;
pub mod events;
pub mod exec;
pub mod exposure;
pub mod git;
pub mod identity;
pub mod logs;
pub mod quota;
pub mod sandbox;
pub mod secrets;
pub mod snapshots;
pub mod store;
pub mod templates;
pub mod volumes;

pub mod domains;

mod guest;
mod memory;
mod plan;
mod pool;
mod ports;
mod reap;
mod reconcile;
mod shared;

#[cfg(any(test, feature = "fake"))]
pub mod fake;

pub use caller::Caller;
pub use error::SandboxError;
pub use sandboxes::Sandboxes;
