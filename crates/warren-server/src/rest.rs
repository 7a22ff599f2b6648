//! The native API: one file per resource.

pub(crate) mod access;
pub(crate) mod arriving;
pub(crate) mod builds;
pub(crate) mod credentials;
pub(crate) mod diff;
pub(crate) mod domains;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod exec_socket;
pub(crate) mod files;
pub(crate) mod images;
pub(crate) mod lifecycle;
mod lines;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod ports;
pub(crate) mod reverse;
pub(crate) mod sandboxes;
pub(crate) mod secrets;
pub(crate) mod server;
pub(crate) mod snapshots;
pub(crate) mod templates;
mod transfers;
pub(crate) mod trees;
pub(crate) mod usage;
pub(crate) mod volumes;
pub(crate) mod watch;
