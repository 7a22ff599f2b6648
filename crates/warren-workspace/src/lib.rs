//! Coding agents side by side: what is known of them on disk, and how that is read and shown.
//!
//! An agent is a sandbox with a name, a workspace, a profile that says which program runs in it,
//! tags and a log. Its files lie below one directory, `AGENTVM_HOME`, in the layout and the formats
//! of agentvm, so that scripts written for that find what they look for. Those formats are shell
//! there; here they are data: **nothing in any of these files is ever executed**, and no path in one
//! decides what is written or removed.
//!
//! Nothing here starts a sandbox, asks a server, prints or reads the environment.
//!
//! In reading order:
//!
//! | module | what |
//! |---|---|
//! | [`command`] | what can be said on agentvm's command line |
//! | [`name`], [`tag`] | what agents are called and marked with |
//! | [`home`] | the directory: its layout, whole writes, locks |
//! | [`record`] | what is kept of one agent |
//! | [`env_file`] | `KEY=VALUE` files: keys of providers, defaults |
//! | [`words`] | command lines as text, and back |
//! | [`profile`] | which program, with what from the host, and what it may reach |
//! | [`history`] | the journal |
//! | [`view`], [`table`] | what commands print: JSON and columns |
//! | [`text`], [`log`] | what programs print, without what terminals obey, and its end |
//! | [`prompt`], [`screen`] | text as a terminal types it, and what a program does with it |
//! | [`identity`] | an Ed25519 key per agent: `did:key`, signatures of commits |

pub mod command;
pub mod env_file;
pub mod history;
pub mod home;
pub mod identity;
pub mod log;
pub mod name;
pub mod profile;
pub mod prompt;
pub mod record;
pub mod screen;
pub mod table;
pub mod tag;
pub mod text;
pub mod view;
pub mod words;

pub use home::{Home, HomeError};
pub use name::AgentName;
pub use profile::Profile;
pub use record::Record;
pub use tag::Tags;
