//! Trees of files as tar archives, and back.
//!
//! Both directions are driven from outside, piece by piece: [`Packer`] is asked for bytes and
//! [`Unpacker`] is given them, so neither holds a thread while a peer is waited for. The agent uses
//! them inside a sandbox, and the command line on the other side, where the archive is a hostile
//! guest's word.
//!
//! What an archive can never do: make anything outside of the directory it is unpacked below
//! (absolute names and `..` are refused, links are not followed out of it), make devices, pipes or
//! sockets, set the set-user-id bits, write through a hard link, take memory without bound.
//!
//! [`Parser`] is the reader alone, for whoever makes something else of an archive than a tree of
//! files that its reader owns.
//!
//! The block layout is the `tar` crate's; reading and unpacking entries is done here, for that
//! crate takes names of any length into memory and follows paths by name.

mod error;
mod format;
mod pack;
mod parse;
mod sparse;
mod tree;
mod unpack;

pub use error::{PackError, UnpackError, shown};
pub use format::{BLOCK, NAME_BYTES, padding, pax_record};
pub use pack::Packer;
pub use parse::{Entry, Event, Kind, Parser};
pub use sparse::Piece;
pub use tree::{clean, split};
pub use unpack::{Limits, Unpacked, Unpacker};
