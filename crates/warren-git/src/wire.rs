//! Git's protocol over HTTP, as far as somebody between a machine and a remote must understand it.
//!
//! Pure code: bytes in, a decision out. It is what a broker is made of that adds a credential to the
//! requests of a machine, and adds it to those alone that the machine has a right to.
//!
//! | module | what |
//! |---|---|
//! | [`request`] | which repository and which service a request is for |
//! | [`push`] | which refs a push would change, before its objects have come |
//! | [`rights`] | what a machine may do |
//! | `packet` | lines with their length in front |
//!
//! # What whoever uses it must do
//!
//! * Undo `Content-Encoding: gzip` before [`PushReader::feed`], within a limit, and send on what was
//!   read and decided about, not the compressed bytes.
//! * Send on the request line that [`Request::target`] makes, never the one that came.
//! * Hold the head of a push back until [`Rights::allow_push`] has said yes; stream the rest.
//!
//! # Source
//!
//! `gitprotocol-http(5)`, `gitprotocol-pack(5)`, and `builtin/receive-pack.c` for what a server really
//! takes.

mod packet;
pub mod push;
pub mod request;
pub mod rights;

pub use packet::PacketError;
pub use push::{Push, PushError, PushReader, Update};
pub use request::{Request, RequestError, Service, Step};
pub use rights::{Denied, PushRight, Rights};
