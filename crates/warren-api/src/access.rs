//! Projects and API keys: who may use the server from afar, and how much. All of it is for callers
//! on the server's own host.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What a key is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// Working with the sandboxes of one project.
    #[default]
    Project,
    /// Reading the server's metrics, and nothing else.
    Metrics,
}

/// `POST /v1/keys`: a key that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What to call it: 1 to 100 characters. It need not be unique.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub kind: KeyKind,
    /// The project it is to work in; the caller's, which usually is `default`, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// After how many seconds it is to be refused; never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// A key, as far as it is known: the key itself is shown once, when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Key {
    /// Its identity: `key-` and 16 characters. It opens nothing.
    pub id: String,
    /// What it was called.
    pub name: String,
    /// What it is for.
    pub kind: KeyKind,
    /// The project it works in; absent for one that reads metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// How it begins, to tell keys apart.
    pub prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

/// The answer to `POST /v1/keys`: the only one that has the key itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewKey {
    /// What is known of it.
    #[serde(flatten)]
    pub about: Key,
    /// The key: `wrn_` and 40 hexadecimal digits, for `Authorization: Bearer` or `X-API-Key`. It
    /// is shown this once.
    pub key: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("about", &self.about).finish_non_exhaustive()
    }
}

/// `GET /v1/keys`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyList {
    /// Every key, oldest first.
    pub keys: Vec<Key>,
}

/// What a project may have at once; what is absent has no limit but the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProjectQuota {
    /// Living sandboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandboxes: Option<u32>,
    /// The sum of their memory limits in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// `POST /v1/projects`: a project that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    /// Its name: `[a-z0-9][a-z0-9-]{0,62}`.
    pub name: String,
    /// What it may have.
    #[serde(default)]
    pub quota: ProjectQuota,
}

/// A project and what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Project {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it may have.
    pub quota: ProjectQuota,
    /// How many sandboxes of it live.
    pub sandboxes: u32,
    /// The sum of their memory limits in bytes.
    pub memory_bytes: u64,
    /// How many keys it has.
    pub keys: u32,
}

/// `GET /v1/projects`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProjectList {
    /// Every project, by name.
    pub projects: Vec<Project>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_one_flat_object_and_prints_no_secret() {
        let new = NewKey {
            about: Key {
                id: "key-aaaaaaaaaaaaaaaa".into(),
                name: "ci".into(),
                kind: KeyKind::Project,
                project: Some("default".into()),
                prefix: "wrn_012345".into(),
                created_at: Timestamp::from_unix_ms(0),
                expires_at: None,
                last_used_at: None,
            },
            key: "wrn_secret".into(),
        };
        let json = serde_json::to_value(&new).unwrap();
        assert_eq!(
            (&json["id"], &json["key"]),
            (&"key-aaaaaaaaaaaaaaaa".into(), &new.key.as_str().into())
        );
        assert_eq!(serde_json::from_value::<NewKey>(json).unwrap(), new);
        assert!(!format!("{new:?}").contains("secret"));
    }
}
