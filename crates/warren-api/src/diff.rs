//! How files differ: `GET /v1/diff`.

use serde::{Deserialize, Serialize};

/// What is to be compared.
///
/// As a query: `from=sn-...&to=sb-...&patch=true`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompareFiles {
    /// A sandbox or a snapshot, by id or name; what `to` was made from where absent.
    pub from: Option<String>,
    /// A sandbox or a snapshot, by id or name.
    pub to: String,
    /// Whether the lines are wanted in which texts differ.
    pub patch: bool,
    /// Whether files are compared too that say which sandbox it is, such as `/etc/hostname`.
    pub identity: bool,
}

/// One line of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DiffLine {
    /// A path at which files differ. Paths come in order.
    Change(DiffEntry),
    /// Nothing was found for a while.
    Keepalive,
    /// All was compared.
    End,
    /// The files cannot be compared to the end.
    Error(crate::ErrorBody),
}

/// A path at which files differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffEntry {
    /// Its absolute path inside.
    pub path: String,
    /// What happened to it.
    pub change: DiffChange,
    /// In what it differs, where both have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs_in: Vec<DiffAspect>,
    /// What was there; absent for what was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<DiffSide>,
    /// What is there; absent for what was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<DiffSide>,
    /// The lines that differ, where they were asked for and are text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// Why there are no lines, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_patch: Option<NoPatch>,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DiffChange {
    /// It was not there before.
    Added,
    /// It was there before, and not the same.
    Changed,
    /// It is not there any more.
    Removed,
}

/// In what a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DiffAspect {
    /// What it is.
    Kind,
    /// A file's bytes.
    Content,
    /// Where a symbolic link leads.
    Link,
    /// Bits of the mode.
    Mode,
    /// User or group.
    Owner,
    /// Extended attributes.
    Attributes,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffSide {
    /// `file`, `directory`, `symlink`, `pipe`, `socket` or `device`.
    pub kind: String,
    /// Its size in bytes; zero for what is no file.
    pub size: u64,
    /// Its permission bits, as four octal digits such as `0644`.
    pub mode: String,
    /// The number of the user who owns it.
    pub uid: u32,
    /// The number of the group that owns it.
    pub gid: u32,
    /// Where it points, for a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symlink_target: Option<String>,
}

/// Why the lines of a file are not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum NoPatch {
    /// It is no text in UTF-8.
    Binary,
    /// It is larger than 1 MiB.
    TooLarge,
}
