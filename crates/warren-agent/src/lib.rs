//! The guest agent: the first process of every sandbox.
//!
//! [`daemon`] serves processes and files to the host; `process`, `filesystem` and `files` are
//! what it serves, `http` how it speaks. `keeper` starts sandboxes and `guest` is what its forked
//! children do before they become the daemon, all in this one program image.

pub mod daemon;
mod files;
mod filesystem;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod guest;
mod http;
pub mod keeper;
mod process;
mod users;
