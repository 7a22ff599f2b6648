//! Questions to name servers over UDP and TCP, and which servers a host asks.
//!
//! What is asked and what is made of an answer is its users': the resolver of sandboxes and the
//! proof of names to certificate authorities.

mod exchange;
mod servers;

pub use exchange::{Patience, ask, read_message, write_message};
pub use servers::{PORT, Servers};
