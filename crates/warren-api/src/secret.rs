//! Secrets: values that requests of sandboxes are given on their way out, and that nobody reads.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/secrets` | [`SecretList`] |
//! | `PUT /v1/secrets/{name}` with [`SetSecret`] | [`Secret`] |
//! | `GET /v1/secrets/{name}` | [`Secret`] |
//! | `DELETE /v1/secrets/{name}` | 204 |
//!
//! No answer holds a value.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// `PUT /v1/secrets/{name}`: the value it is to have.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"value": "s3cr3t"})))]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// 1 to 65,536 bytes of UTF-8.
    pub value: String,
}

impl fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetSecret")
    }
}

/// What may be told of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Secret {
    /// Its name, unique in the project: a letter or `_`, then up to 63 of `A-Z a-z 0-9 _ . -`.
    pub name: String,
    /// How often its value was set.
    pub version: u64,
    /// Whether its value can be used. It cannot where the database came back without the key file
    /// that belongs to it; setting it anew mends that.
    pub usable: bool,
    /// When there was one of this name first.
    pub created_at: Timestamp,
    /// When its value was set last.
    pub updated_at: Timestamp,
}

/// The caller's secrets, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecretList {
    /// They.
    pub secrets: Vec<Secret>,
}
