//! What everything that passes HTTP on does to it.
//!
//! The edge passes callers' requests on to ports of sandboxes, the gate those of sandboxes to the
//! internet. Both stand between two connections, and this is what that takes.

mod begun;
mod crowd;
mod held;
mod hop;
mod length;
mod upgrade;

pub use begun::Begun;
pub use crowd::{Crowd, Place, Placed, neighbourhood};
pub use held::Held;
pub use hop::strip_hop_by_hop;
pub use length::declare_length;
pub use upgrade::upgrade_protocol;
