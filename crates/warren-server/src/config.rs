//! What the operator chose about requests and connections.

use std::time::Duration;

use crate::edge;

/// The limits of the server's face. They hold for everybody; those of connections and of requests
/// per second for TCP alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The largest body of a request that is not a file, in bytes. What starts a command may be
    /// [`COMMAND_FACTOR`] times as large, for it brings what the command reads.
    pub body_bytes: usize,
    /// How many streams of one sandbox may be open at once: output, conversations, watches, ports;
    /// and of events as many for each project.
    pub streams_per_sandbox: u32,
    /// How many requests a second a key may make, with a burst of twice as many; 0 for no limit.
    pub requests_per_second: u32,
    /// How many TCP connections may be open.
    pub connections: u32,
    /// How many of them from one address; of IPv6 from one network of /64.
    pub connections_per_address: u32,
    /// How long a client may take for the head of a request, and a connection may idle.
    pub head_timeout: Duration,
    /// How long a client may take for TLS to come about.
    pub tls_timeout: Duration,
    /// The pages that may use this server from a browser, such as `https://console.example`.
    pub origins: Vec<String>,
    /// How ports of sandboxes are reached from outside.
    pub edge: edge::Settings,
}

/// How much larger than others the request for a command may be.
pub const COMMAND_FACTOR: usize = 16;

/// How large the head of a request may be, in bytes.
pub(crate) const HEAD_BYTES: usize = 32 << 10;

/// How much of a request may be in memory before somebody reads it, in bytes.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;

/// How many header fields a request may have.
pub(crate) const HEADERS: usize = 100;

impl Default for Config {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            streams_per_sandbox: 256,
            requests_per_second: 100,
            connections: 4096,
            connections_per_address: 512,
            head_timeout: Duration::from_secs(30),
            tls_timeout: Duration::from_secs(10),
            origins: Vec::new(),
            edge: edge::Settings::default(),
        }
    }
}
