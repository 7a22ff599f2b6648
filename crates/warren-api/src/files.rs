//! Files inside a sandbox. Contents travel as raw bodies; these are the JSON parts.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/sandboxes/{id}/files?path=&user=` | the bytes; `Range` is honoured |
//! | `PUT /v1/sandboxes/{id}/files?path=&user=&mode=` | [`FileWritten`]; `mode` is octal |
//! | `DELETE /v1/sandboxes/{id}/files?path=&user=` | 204 |
//! | `GET /v1/sandboxes/{id}/files/stat?path=&user=` | [`FileInfo`] |
//! | `GET /v1/sandboxes/{id}/files/list?path=&depth=&user=` | [`FileList`] |
//! | `POST /v1/sandboxes/{id}/files/mkdir?path=&user=` | [`FileInfo`] |
//! | `POST /v1/sandboxes/{id}/files/move` with [`MoveFile`] | [`FileInfo`] |
//!
//! A relative path starts at the home of `user`, which is the sandbox's default user where absent.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileWritten {
    /// Its absolute path inside.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What is known about a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileInfo {
    /// The last part of its path.
    pub name: String,
    /// Its absolute path inside.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits, as four octal digits such as `0644`.
    pub mode: String,
    /// The name of its owner, or the number where there is no name.
    pub owner: String,
    /// The name of its group, or the number where there is no name.
    pub group: String,
    /// When its contents last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<Timestamp>,
    /// Where it points, for a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symlink_target: Option<String>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a socket or a pipe.
    Other,
}

/// The contents of a directory, to the depth asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileList {
    /// In the order of their paths.
    pub entries: Vec<FileInfo>,
}

/// `POST /v1/sandboxes/{id}/files/move`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"from": "/tmp/a", "to": "/tmp/b"})))]
#[serde(deny_unknown_fields)]
pub struct MoveFile {
    /// What to move.
    pub from: String,
    /// Its new path; a file there is replaced.
    pub to: String,
    /// As whom; the sandbox's default user where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}
