//! The guest agent's static binary, as bytes.
//!
//! The build script builds `warren-agent` for the same target, statically linked and optimised for
//! size, and hands it over here. Whoever starts guests (the `warren` binary, tests of a runtime)
//! passes [`AGENT`] on; nothing else belongs in this crate.
//!
//! `WARREN_AGENT_BIN=<path>` in the environment of the build takes that file instead: for cross
//! builds, packagers, and CI that has built the agent already.

/// The agent's ELF image: static, stripped, without an interpreter.
pub static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/warren-agent"));

/// Which build of the agent [`AGENT`] is: the workspace's version and a fingerprint of the bytes,
/// such as `0.1.0+9f2c4e0d7a31b865`. Two images with the same text are the same image.
pub const VERSION: &str = env!("WARREN_AGENT_VERSION");
