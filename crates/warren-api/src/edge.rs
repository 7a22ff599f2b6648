//! Ports of sandboxes from outside: who reaches them, and links to them.
//!
//! `http://PORT-ID.DOMAIN/` is a port of a sandbox. It is private unless its owner makes it public:
//! a request shows a token in `X-Warren-Token`, in `?warren_token=`, or in the cookie that a link
//! with that parameter sets in a browser.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The header that shows a token for a private port.
pub const TOKEN: &str = "x-warren-token";

/// `PUT /v1/sandboxes/{id}/exposure`: who reaches its ports without a token. What is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeExposure {
    /// The ports that everybody reaches from now on; those that were and are not here any more are
    /// private again. At most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ports: Option<Vec<u16>>,
    /// Whether visitors of a public port wake the sandbox while it is paused. Who has a token does
    /// in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_resume: Option<bool>,
    /// What requests have in `Host` when they come to a port, such as `localhost:${PORT}`; empty
    /// for the name that was asked for, which is in `X-Forwarded-Host` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_request_host: Option<String>,
}

/// `PUT /v1/sandboxes/{id}/ports/{port}`: whether everybody reaches one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PublishPort {
    /// Whether it is public from now on.
    pub public: bool,
}

/// `POST /v1/sandboxes/{id}/links`: a link to a port, or a token for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateLink {
    /// The port; a token for every port of the sandbox, and no address, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// For how long the token is good, in seconds, at most 366 days; until it is revoked where
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
}

/// A link to a port of a sandbox. The token in it is not kept anywhere by the server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Link {
    /// The sandbox.
    pub sandbox_id: String,
    /// Whether everybody reaches the port.
    pub public: bool,
    /// Where the port is: `http://PORT-ID.DOMAIN/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The same with the token in it, to be opened in a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// What opens a private port, for `X-Warren-Token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Until when; absent where it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for Link {
    // Whoever has the token is let in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("url", &self.url).finish_non_exhaustive()
    }
}

/// One line of `GET /v1/sandboxes/{id}/listeners/{port}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ListenerEvent {
    /// What runs in the sandbox can connect from now on.
    Listening,
    /// Something has connected. It waits ten seconds for
    /// `GET /v1/sandboxes/{id}/listeners/{port}/{connection}`.
    Connection {
        /// Which.
        id: u64,
    },
    /// Nothing happened for a while.
    Keepalive,
}
