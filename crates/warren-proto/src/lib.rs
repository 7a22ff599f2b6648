//! The wire between the host and the guest agent: messages, and how they are framed.
//!
//! Both ends use this crate. [`process`] and [`filesystem`] hold the messages of the two services,
//! generated from `proto/` by `cargo xtask codegen`; [`message`] turns them into bytes and back in
//! either codec; [`envelope`] frames them on a stream; [`status`] is the error both sides speak.
//!
//! There is no I/O here. The other side of the wire is hostile: nothing in this crate panics on
//! any input, and no length is trusted before it is checked.

pub mod envelope;
pub mod keeper;
pub mod message;
pub mod status;

/// Messages of the service `process.Process` (`proto/process/process.proto`).
#[rustfmt::skip]
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::let_underscore_must_use,
    clippy::map_err_ignore,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod process {
    include!("generated/process.rs");
}

/// Messages of the service `filesystem.Filesystem` (`proto/filesystem/filesystem.proto`).
#[rustfmt::skip]
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::let_underscore_must_use,
    clippy::map_err_ignore,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod filesystem {
    include!("generated/filesystem.rs");
}

pub use buffa::{EnumValue, MessageField};
pub use buffa_types::google::protobuf::Timestamp;
pub use message::{Codec, CodecError, WireMessage};
pub use status::{Code, Status};
