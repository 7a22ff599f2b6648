//! Names of one's own that lead to a port of a sandbox.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/domains` | [`DomainList`] |
//! | `GET /v1/domains/{name}` | [`Domain`] |
//! | `PUT /v1/domains/{name}` with [`SetDomain`] | [`Domain`] |
//! | `POST /v1/domains/{name}/verify` | [`Domain`] |
//! | `DELETE /v1/domains/{name}` | 204 |

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// `PUT /v1/domains/{name}`: where a name is to lead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(example = json!({"sandbox": "web", "port": 3000}))
)]
#[serde(deny_unknown_fields)]
pub struct SetDomain {
    /// The sandbox's id or name.
    pub sandbox: String,
    /// The port there, 1 to 65535.
    pub port: u16,
    /// Whether visitors need no token.
    #[serde(default)]
    pub public: bool,
    /// Whether it is served without being shown to be the caller's; for the user who runs the
    /// server alone.
    #[serde(default)]
    pub unchecked: bool,
}

/// A name and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Domain {
    /// The name.
    pub name: String,
    /// The id of the sandbox that it leads to.
    pub sandbox: String,
    /// The port there.
    pub port: u16,
    /// Whether visitors need no token.
    pub public: bool,
    /// Whether it was shown to be the caller's; it leads nowhere before.
    pub verified: bool,
    /// The name of the TXT record that shows it.
    pub record_name: String,
    /// The text that this record has to say.
    pub record_text: String,
    /// How its certificate is, where the server asks an authority for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<DomainCertificate>,
    /// When it was added.
    pub created_at: Timestamp,
}

/// The certificate of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DomainCertificate {
    /// Until when it is good; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Why the last attempt to have a new one failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The caller's names, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DomainList {
    /// They.
    pub domains: Vec<Domain>,
}
