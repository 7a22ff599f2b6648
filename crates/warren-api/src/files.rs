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
//! | `POST /v1/sandboxes/{id}/files/chmod` with [`ChmodFile`] | [`FileInfo`] |
//! | `GET /v1/sandboxes/{id}/files/glob?path=&pattern=&user=` | [`FileMatches`] |
//! | `GET /v1/sandboxes/{id}/files/watch?path=&recursive=&user=` | a [`WatchEvent`] per line |
//! | `GET /v1/sandboxes/{id}/files/archive?path=&user=` | a tar archive |
//! | `PUT /v1/sandboxes/{id}/files/archive?path=&user=` with one | [`ArchiveUnpacked`] |
//!
//! A relative path starts at the home of `user`, which is the sandbox's default user where absent.

use serde::{Deserialize, Serialize};

use crate::{ErrorBody, Timestamp};

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

/// `POST /v1/sandboxes/{id}/files/chmod`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChmodFile {
    /// What to change; a link is followed.
    pub path: String,
    /// Its permission bits in octal, such as `0755`.
    pub mode: String,
    /// As whom; the sandbox's default user where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Paths that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileMatches {
    /// Absolute paths, in order; at most 10,000.
    pub paths: Vec<String>,
    /// Whether there are more.
    pub truncated: bool,
}

/// What came of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ArchiveUnpacked {
    /// The directory's absolute path inside.
    pub path: String,
    /// Files, directories and links that were made.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Devices, pipes and what else was left out.
    pub skipped: u64,
}

/// What happens in a watched directory, one JSON object per line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WatchEvent {
    /// It is watched: whatever happens from now on is told. Always the first.
    Start(WatchedPath),
    /// Something was made, or moved here.
    Create(WatchedPath),
    /// A file's contents changed.
    Write(WatchedPath),
    /// Something was removed.
    Remove(WatchedPath),
    /// Something was moved away from this path.
    Rename(WatchedPath),
    /// A mode, an owner or a time changed.
    Chmod(WatchedPath),
    /// Events were lost: whoever keeps a copy looks again.
    Overflow,
    /// Nothing happened for a while.
    Keepalive,
    /// The stream cannot go on.
    Error(ErrorBody),
}

/// Where something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WatchedPath {
    /// The absolute path.
    pub path: String,
}
