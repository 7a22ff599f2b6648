//! Snapshots, forks, and going back.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    sandbox::{Limits, Network, Profile, Sandbox},
};

/// `POST /v1/sandboxes/{id}/snapshots`: what is wanted of a new snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"name": "before-upgrade"})))]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshot {
    /// A name, unique among the caller's snapshots: `[a-z0-9][a-z0-9._-]{0,62}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Words for finding it again: at most 64, each of 1 to 128 letters, digits and `._-`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// What it carries; `filesystem` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SnapshotKind>,
    /// Whether the environment that the sandbox was given goes along. It may hold secrets, so it
    /// does not where this is absent; what came with its image does in any case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_env: bool,
}

/// `POST /v1/snapshots/{id}/push`: where a snapshot is to go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"target": "registry.example/team/work:built"})))]
#[serde(deny_unknown_fields)]
pub struct PushSnapshot {
    /// The name that it is to have in its registry.
    pub target: String,
}

/// `POST /v1/snapshots`: a snapshot that is to come from a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"reference": "registry.example/team/work:built", "name": "built"})))]
#[serde(deny_unknown_fields)]
pub struct PullSnapshot {
    /// Its name in its registry, with a tag or a digest.
    pub reference: String,
    /// A name here, unique among the caller's snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Words for finding it again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
}

/// What a snapshot carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// Files.
    #[default]
    Filesystem,
    /// Files and the memory of processes. Refused where the server's capabilities lack it.
    Memory,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Snapshot {
    /// `sn-` and 16 characters of `[a-z0-9]`.
    pub id: String,
    /// The name given to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Words for finding it again.
    #[serde(default)]
    pub tags: BTreeSet<String>,
    /// What it carries.
    pub kind: SnapshotKind,
    /// The snapshot before it in the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The sandbox that it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_id: Option<String>,
    /// What lies below everything that was saved, as in [`crate::sandbox::CreateSandbox::image`].
    pub image: String,
    /// How many saved layers its files are, its own included.
    pub layers: u32,
    /// What its own layer holds, in bytes.
    pub bytes: u64,
    /// How many files of whatever kind that are.
    pub files: u64,
    /// What a sandbox that is made from it may use, where its request does not say.
    pub limits: Limits,
    /// How much the root of one may do then.
    pub profile: Profile,
    /// What one may reach then.
    pub network: Network,
    /// Who commands run as.
    pub user: String,
    /// Where commands start.
    pub workdir: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// For how long the sandbox stood still, in microseconds; only in the answer to the creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_us: Option<u64>,
}

/// `GET /v1/snapshots`: which to list. All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct ListSnapshots {
    /// Of this sandbox, by id.
    #[serde(default)]
    pub sandbox: Option<String>,
    /// With this tag.
    #[serde(default)]
    pub tag: Option<String>,
}

/// Snapshots, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SnapshotList {
    /// All of them.
    pub snapshots: Vec<Snapshot>,
}

/// `PATCH /v1/snapshots/{id}`: what is to change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeSnapshot {
    /// Another name; an empty one takes its name away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Other tags, in place of all it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeSet<String>>,
}

/// `POST /v1/sandboxes/{id}/fork`: what is wanted of new forks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"count": 3, "name": "try"})))]
#[serde(deny_unknown_fields)]
pub struct ForkSandbox {
    /// How many, 1 to 1,000; one where absent.
    #[serde(default = "one")]
    pub count: u32,
    /// A name; where there are several, `-1`, `-2` and so on is put after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels, in place of the parent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// More environment of every command.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Whether they get the environment that their parent was given. It may hold secrets, so they
    /// do not where this is absent; what came with its image they get in any case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_env: bool,
    /// What they carry; `filesystem` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SnapshotKind>,
    /// How long each lives, in seconds; as long as its parent's lifetime where absent, 0 for no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_seconds: Option<u64>,
}

impl Default for ForkSandbox {
    fn default() -> Self {
        Self {
            count: one(),
            name: None,
            labels: None,
            env: BTreeMap::new(),
            with_env: false,
            kind: None,
            lifetime_seconds: None,
        }
    }
}

fn one() -> u32 {
    1
}

/// New forks, all running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ForkList {
    /// They.
    pub sandboxes: Vec<Sandbox>,
    /// For how long the parent stood still, in microseconds.
    pub frozen_us: u64,
}

/// `POST /v1/sandboxes/{id}/rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RollbackSandbox {
    /// The id or name of the snapshot.
    pub snapshot: String,
}
