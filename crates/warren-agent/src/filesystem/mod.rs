//! Files by name: what is there, what it is called, what happens to it. Contents are [`files`].
//!
//! Every operation runs on a thread that may block, with the rights of the request's user.
//!
//! [`files`]: crate::files

pub(crate) mod context;
pub(crate) mod entry;
mod list;
pub(crate) mod make;
pub(crate) mod metadata;
pub(crate) mod path;
pub(crate) mod remove;
pub(crate) mod service;
mod watch;
mod watchers;

pub(crate) use watchers::Watchers;
