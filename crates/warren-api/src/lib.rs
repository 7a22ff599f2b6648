//! The public API of Warren, version 1: what goes over the wire as JSON, and nothing else.
//!
//! API BOUNDARY: clients that we do not know read these types. A field may be added; none may
//! change its meaning or go away within version 1.
//!
//! * Requests refuse unknown fields, so that a misspelt limit is an error and not a sandbox
//!   without that limit. Answers may grow, so their readers ignore what they do not know.
//! * Names are `snake_case`. Units are in the names (`memory_bytes`, `timeout_ms`).
//! * Times are RFC 3339 in UTC with a `Z` and milliseconds: [`Timestamp`].
//! * Bytes are standard base64 with padding: [`Base64`].
//! * Every failure is an [`ErrorBody`] with one of the sixteen [`Code`]s.
//!
//! With the feature `client` there is also a typed client, [`client::Client`].

pub mod sandbox;

pub mod snapshot;

pub mod exec;

pub mod files;

pub mod event;

pub mod secret;
pub mod server;

pub mod access;

pub mod usage;

pub mod network;

pub mod edge;

pub mod images;
pub mod volume;

pub mod domain;

pub mod git;

pub mod logs;

pub mod credentials;
pub mod diff;

pub mod template;

pub mod error;

pub mod text;

#[cfg(feature = "client")]
pub mod client;

pub use error::{Code, ErrorBody};
pub use text::{Base64, Timestamp};

/// The header that makes a repeated `POST` safe: the same key answers with the first result.
///
/// Any text of 1 to 128 visible ASCII characters, chosen by the client and never used twice for
/// different requests.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The header that names the project to act in. Callers on the server's host may name any, those
/// with a key their own.
pub const PROJECT: &str = "warren-project";

/// The media type of a stream of JSON lines.
pub const NDJSON: &str = "application/x-ndjson";
