//! Volumes: directories that outlive sandboxes, and that several of them may see.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/volumes` with [`CreateVolume`] | [`Volume`] |
//! | `GET /v1/volumes` | [`VolumeList`] |
//! | `GET /v1/volumes/{name}` | [`Volume`] |
//! | `DELETE /v1/volumes/{name}` | 204 |
//! | `POST /v1/volumes/{name}/resize` with [`ResizeVolume`] | [`Volume`] |
//! | `POST /v1/volumes/{name}/snapshot` with [`CopyVolume`] | [`Volume`], read-only |
//! | `POST /v1/volumes/{name}/clone` with [`CopyVolume`] | [`Volume`] |
//! | `GET /v1/volumes/{name}/files?path=` | the bytes; `Range` is honoured |
//! | `PUT /v1/volumes/{name}/files?path=&mode=` | [`FileWritten`](crate::files::FileWritten) |
//! | `DELETE /v1/volumes/{name}/files?path=` | 204 |
//! | `GET /v1/volumes/{name}/files/stat?path=` | [`FileInfo`](crate::files::FileInfo) |
//! | `GET /v1/volumes/{name}/files/list?path=&depth=` | [`FileList`](crate::files::FileList) |
//! | `POST /v1/volumes/{name}/files/mkdir?path=` | [`FileInfo`](crate::files::FileInfo) |
//!
//! `{name}` is a volume's id or name. Paths start at the volume's root.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// `POST /v1/volumes`: what is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"name": "data"})))]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// A name, unique among the caller's volumes: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}`.
    pub name: String,
    /// How much it may hold, in bytes; no limit where absent. Refused where the server's storage
    /// has no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// `POST /v1/volumes/{name}/snapshot` and `.../clone`: what the copy is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"name": "copy"})))]
#[serde(deny_unknown_fields)]
pub struct CopyVolume {
    /// Its name.
    pub name: String,
    /// How much it may hold, in bytes; as much as its source where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// `POST /v1/volumes/{name}/resize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ResizeVolume {
    /// How much it may hold from now on, in bytes; no limit where absent. What it holds stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Volume {
    /// `vol-` and 16 characters of `[a-z0-9]`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How much it may hold, in bytes; absent without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// How much it holds, in bytes; absent where the storage does not count. What it shares with
    /// the volume that it was made from is that one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// Whether nobody may write to it: it is a snapshot.
    pub read_only: bool,
    /// The id of the volume that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How many sandboxes have it.
    pub sandboxes: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The caller's volumes, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeList {
    /// They.
    pub volumes: Vec<Volume>,
}

/// A volume inside a sandbox.
///
/// Files in it have the same owners in every sandbox that sees it. Programs in it never run with
/// more rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// Its id or name; in answers its id.
    pub volume: String,
    /// An absolute path inside; made where it is missing. Not at or below `/proc`, `/sys`, `/dev`.
    pub target: String,
    /// Whether it may only be read.
    #[serde(default)]
    pub read_only: bool,
}
