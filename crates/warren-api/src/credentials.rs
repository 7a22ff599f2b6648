//! Credentials: what requests of a sandbox are given on their way out, for some hosts.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/sandboxes/{id}/credentials` | [`GivenCredentials`] |
//! | `PUT /v1/sandboxes/{id}/credentials` with [`Credentials`] | [`GivenCredentials`] |
//!
//! Values name secrets by `{{secret:NAME}}`; the sandbox sees neither values nor headers. No answer
//! holds a value.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// What requests of a sandbox are to be given, in place of what they are given now. Nothing at all
/// takes everything back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"rules": [{"host": "api.example.com", "headers": {"Authorization": "Bearer {{secret:TOKEN}}"}}]})))]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// For which hosts what is done; at most 64, one for each host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<CredentialRule>,
    /// The proxy that all connections of the sandbox go through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<EgressProxy>,
}

/// What is done to requests for a host. They are decrypted for that, in the name of an authority
/// that the sandbox trusts and nobody else does; requests for other hosts are not.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CredentialRule {
    /// A name, or `*.` and a name for all hosts below it. The rule of the longest name counts.
    pub host: String,
    /// Headers that requests have then, in place of what the sandbox sends. Values may hold
    /// `{{secret:NAME}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Names of secrets: `{{secret:NAME}}` in headers that the sandbox sends becomes the value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placeholders: Vec<String>,
    /// Whether placeholders are replaced in the query too.
    #[serde(default)]
    pub in_query: bool,
    /// Whether placeholders are replaced in bodies too.
    #[serde(default)]
    pub in_body: bool,
    /// The methods that pass; all where absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The paths that pass, such as `/repos/me/**`: `*` is a part of a segment, `**` any number of
    /// segments. All where absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Whether secrets are sent without TLS too.
    #[serde(default)]
    pub plain_http: bool,
}

impl fmt::Debug for CredentialRule {
    // Values may be secrets as they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialRule").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A proxy that connections go through.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EgressProxy {
    /// What it speaks.
    pub kind: EgressProxyKind,
    /// Its name or its address; it must be where sandboxes may go.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who is let through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With which password; may hold `{{secret:NAME}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressProxy").field("host", &self.host).finish_non_exhaustive()
    }
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EgressProxyKind {
    /// SOCKS5; names are looked up by the proxy.
    Socks5,
    /// `CONNECT` of HTTP.
    Http,
}

/// What requests of a sandbox are given, without values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GivenCredentials {
    /// For which hosts what is done.
    pub rules: Vec<GivenRule>,
    /// The proxy that all connections go through, without its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<EgressProxy>,
    /// The secrets that are named.
    pub secrets: Vec<String>,
}

/// What is done to requests for a host, without values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GivenRule {
    /// Which host.
    pub host: String,
    /// The names of the headers that are set.
    pub headers: Vec<String>,
    /// As in [`CredentialRule`].
    pub placeholders: Vec<String>,
    /// As in [`CredentialRule`].
    pub in_query: bool,
    /// As in [`CredentialRule`].
    pub in_body: bool,
    /// As in [`CredentialRule`].
    pub methods: Vec<String>,
    /// As in [`CredentialRule`].
    pub paths: Vec<String>,
    /// As in [`CredentialRule`].
    pub plain_http: bool,
}
