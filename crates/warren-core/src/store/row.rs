//! Rows as they are stored, and their way to and from the domain's types.
//!
//! These are the only types with `Serialize` in this crate. They are private to the store, so that
//! the domain can change without changing what old databases hold: a field that is added here has
//! a default.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::templates::ProgramRow;
use crate::{
    caller::Owner,
    clock::Timestamp,
    exposure::{Exposure, ForE2b},
    runtime::DeadlineAction,
    sandbox::{End, EndReason, History, Lifetime, Sandbox, Setup},
    spec::{
        Grant, HostDirectory, Image, Limits, Network, OciImage, Profile, Spec, Stack, VolumeMount,
    },
    state::State,
};

/// A row of `sandboxes`, as an element of the JSON array that a transaction is given.
#[derive(Serialize)]
pub(super) struct SandboxRow<'a> {
    id: &'a str,
    owner: &'a str,
    state: &'static str,
    created_at: u64,
    ended_at: Option<u64>,
    record: Record<'a>,
}

/// What of a sandbox has no column of its own.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    #[serde(default)]
    name: Option<Cow<'a, str>>,
    image: ImageRow<'a>,
    memory_bytes: u64,
    cpu_millis: u32,
    pids: u32,
    open_files: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk_bytes: Option<u64>,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    offline: bool,
    /// The rules of its network, one on each line; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    egress: Option<String>,
    #[serde(default)]
    hostname: Option<Cow<'a, str>>,
    #[serde(default)]
    labels: Cow<'a, BTreeMap<String, String>>,
    #[serde(default)]
    env: Cow<'a, BTreeMap<String, String>>,
    #[serde(default)]
    image_env: Cow<'a, BTreeMap<String, String>>,
    user: Cow<'a, str>,
    workdir: Cow<'a, str>,
    #[serde(default)]
    lifetime_ms: Option<u64>,
    #[serde(default)]
    pause_at_deadline: bool,
    #[serde(default)]
    stop_at_deadline: bool,
    #[serde(default)]
    kept: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<MountRow<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    volumes: Vec<VolumeRow<'a>>,
    #[serde(default)]
    expires_at: Option<u64>,
    #[serde(default)]
    end: Option<EndRow<'a>>,
    runtime: Cow<'a, str>,
    #[serde(default)]
    warm: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    template: Option<Cow<'a, str>>,
    /// The image that the sandbox is going back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    going_back: Option<StackRow<'a>>,
    #[serde(default, skip_serializing_if = "ProgramRow::is_empty")]
    program: ProgramRow,
    #[serde(default)]
    public_ports: Cow<'a, BTreeSet<u16>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    wakes: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask_host: Option<Cow<'a, str>>,
    #[serde(default)]
    token_revision: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e2b: Option<ForE2bRow>,
}

/// Who reaches a sandbox that was made for clients of E2B.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct ForE2bRow {
    secured: bool,
    public: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", content = "of", rename_all = "snake_case")]
pub(super) enum ImageRow<'a> {
    Host,
    Directory(Cow<'a, Path>),
    Archive(Cow<'a, Path>),
    Oci {
        reference: Cow<'a, str>,
        #[serde(default)]
        id: Option<Cow<'a, str>>,
    },
    Snapshot(StackRow<'a>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct StackRow<'a> {
    layers: Vec<Cow<'a, str>>,
    base: Box<ImageRow<'a>>,
}

impl<'a> From<&'a Stack> for StackRow<'a> {
    fn from(stack: &'a Stack) -> Self {
        Self {
            layers: stack.layers.iter().map(|id| Cow::Borrowed(id.as_str())).collect(),
            base: Box::new(ImageRow::from(&*stack.base)),
        }
    }
}

impl StackRow<'_> {
    pub(super) fn into_stack(self) -> Option<Stack> {
        let layers = self.layers.iter().map(|id| id.parse().ok()).collect::<Option<_>>()?;
        Some(Stack { layers, base: Box::new(self.base.into_image()?) })
    }
}

#[derive(Serialize, Deserialize)]
struct VolumeRow<'a> {
    volume: Cow<'a, str>,
    target: Cow<'a, str>,
    #[serde(default)]
    read_only: bool,
}

impl<'a> From<&'a VolumeMount> for VolumeRow<'a> {
    fn from(mount: &'a VolumeMount) -> Self {
        Self {
            volume: Cow::Borrowed(mount.volume.as_str()),
            target: Cow::Borrowed(&mount.target),
            read_only: mount.read_only,
        }
    }
}

impl VolumeRow<'_> {
    fn into_mount(self) -> Option<VolumeMount> {
        Some(VolumeMount {
            volume: self.volume.parse().ok()?,
            target: self.target.into_owned(),
            read_only: self.read_only,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct MountRow<'a> {
    source: Cow<'a, Path>,
    target: Cow<'a, str>,
    #[serde(default)]
    read_only: bool,
    /// The directory that the operator gives to everybody; absent for one of the caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beneath: Option<Cow<'a, Path>>,
}

impl<'a> From<&'a HostDirectory> for MountRow<'a> {
    fn from(mount: &'a HostDirectory) -> Self {
        Self {
            source: Cow::Borrowed(&mount.source),
            target: Cow::Borrowed(&mount.target),
            read_only: mount.read_only,
            beneath: match &mount.grant {
                Grant::Owner => None,
                Grant::Beneath(path) => Some(Cow::Borrowed(path)),
            },
        }
    }
}

impl From<MountRow<'_>> for HostDirectory {
    fn from(row: MountRow<'_>) -> Self {
        Self {
            source: row.source.into_owned(),
            target: row.target.into_owned(),
            read_only: row.read_only,
            grant: match row.beneath {
                None => Grant::Owner,
                Some(path) => Grant::Beneath(path.into_owned()),
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
struct EndRow<'a> {
    reason: Cow<'a, str>,
    message: Cow<'a, str>,
    #[serde(default)]
    exit_code: Option<i32>,
}

impl<'a> From<&'a Sandbox> for SandboxRow<'a> {
    fn from(sandbox: &'a Sandbox) -> Self {
        Self {
            id: sandbox.id.as_str(),
            owner: sandbox.owner.as_str(),
            state: sandbox.state.name(),
            created_at: sandbox.created_at.as_millis(),
            ended_at: sandbox.end.as_ref().map(|end| end.at.as_millis()),
            record: Record::from(sandbox),
        }
    }
}

impl<'a> From<&'a Sandbox> for Record<'a> {
    fn from(sandbox: &'a Sandbox) -> Self {
        let Spec { image, limits, profile, network, hostname, mounts, volumes } = &sandbox.spec;
        let (history, exposure) = (&sandbox.history, &sandbox.exposure);
        Self {
            name: sandbox.name.as_deref().map(Cow::Borrowed),
            image: ImageRow::from(image),
            memory_bytes: limits.memory_bytes,
            cpu_millis: limits.cpu_millis,
            pids: limits.pids,
            open_files: limits.open_files,
            disk_bytes: limits.disk_bytes,
            strict: *profile == Profile::Strict,
            offline: *network == Network::None,
            egress: egress(network),
            hostname: hostname.as_deref().map(Cow::Borrowed),
            labels: Cow::Borrowed(&sandbox.labels),
            env: Cow::Borrowed(&sandbox.setup.env),
            image_env: Cow::Borrowed(&sandbox.setup.image_env),
            user: Cow::Borrowed(&sandbox.setup.user),
            workdir: Cow::Borrowed(&sandbox.setup.workdir),
            lifetime_ms: sandbox
                .lifetime
                .length
                .map(|length| u64::try_from(length.as_millis()).unwrap_or(u64::MAX)),
            pause_at_deadline: sandbox.lifetime.action == DeadlineAction::Pause,
            stop_at_deadline: sandbox.lifetime.action == DeadlineAction::Stop,
            kept: sandbox.kept,
            mounts: mounts.iter().map(MountRow::from).collect(),
            volumes: volumes.iter().map(VolumeRow::from).collect(),
            expires_at: sandbox.expires_at.map(Timestamp::as_millis),
            end: sandbox.end.as_ref().map(|end| EndRow {
                reason: Cow::Borrowed(end.reason.name()),
                message: Cow::Borrowed(&end.message),
                exit_code: end.exit_code,
            }),
            runtime: Cow::Borrowed(&sandbox.runtime),
            warm: sandbox.warm,
            parent: history.parent.as_ref().map(|id| Cow::Borrowed(id.as_str())),
            snapshot: history.snapshot.as_ref().map(|id| Cow::Borrowed(id.as_str())),
            template: history.template.as_ref().map(|id| Cow::Borrowed(id.as_str())),
            going_back: history.going_back.as_ref().map(StackRow::from),
            program: ProgramRow::from(&sandbox.program),
            public_ports: Cow::Borrowed(&exposure.public),
            wakes: exposure.wake,
            mask_host: exposure.mask_host.as_deref().map(Cow::Borrowed),
            token_revision: exposure.revision,
            e2b: exposure.e2b.map(|ForE2b { secured, public }| ForE2bRow { secured, public }),
        }
    }
}

impl<'a> From<&'a Image> for ImageRow<'a> {
    fn from(image: &'a Image) -> Self {
        match image {
            Image::Host => Self::Host,
            Image::Directory(path) => Self::Directory(Cow::Borrowed(path)),
            Image::Archive(path) => Self::Archive(Cow::Borrowed(path)),
            Image::Oci(OciImage { reference, id }) => Self::Oci {
                reference: Cow::Borrowed(reference),
                id: id.as_deref().map(Cow::Borrowed),
            },
            Image::Snapshot(stack) => Self::Snapshot(StackRow::from(stack)),
        }
    }
}

impl ImageRow<'static> {
    /// The row of an image, with texts of its own.
    pub(super) fn owned(image: &Image) -> Self {
        match image {
            Image::Host => Self::Host,
            Image::Directory(path) => Self::Directory(Cow::Owned(path.clone())),
            Image::Archive(path) => Self::Archive(Cow::Owned(path.clone())),
            Image::Oci(OciImage { reference, id }) => Self::Oci {
                reference: Cow::Owned(reference.clone()),
                id: id.clone().map(Cow::Owned),
            },
            Image::Snapshot(Stack { layers, base }) => Self::Snapshot(StackRow {
                layers: layers.iter().map(|id| Cow::Owned(id.to_string())).collect(),
                base: Box::new(Self::owned(base)),
            }),
        }
    }
}

impl ImageRow<'_> {
    pub(super) fn into_image(self) -> Option<Image> {
        Some(match self {
            Self::Host => Image::Host,
            Self::Directory(path) => Image::Directory(path.into_owned()),
            Self::Archive(path) => Image::Archive(path.into_owned()),
            Self::Oci { reference, id } => Image::Oci(OciImage {
                reference: reference.into_owned(),
                id: id.map(Cow::into_owned),
            }),
            Self::Snapshot(row) => Image::Snapshot(row.into_stack()?),
        })
    }
}

/// The columns of a row of `sandboxes`, as they are read.
pub(super) struct Columns {
    pub(super) id: String,
    pub(super) owner: String,
    pub(super) state: String,
    pub(super) created_at: i64,
    pub(super) ended_at: Option<i64>,
    pub(super) record: String,
}

impl Columns {
    /// The sandbox of this row, or `None` when it does not say what it should.
    pub(super) fn into_sandbox(self) -> Option<Sandbox> {
        let record: Record<'_> = serde_json::from_str(&self.record).ok()?;
        let end = match (record.end, self.ended_at) {
            (Some(end), Some(at)) => Some(End {
                at: timestamp(at),
                reason: EndReason::from_name(&end.reason)?,
                message: end.message.into_owned(),
                exit_code: end.exit_code,
            }),
            _ => None,
        };
        Some(Sandbox {
            id: self.id.parse().ok()?,
            owner: Owner::new(&self.owner),
            name: record.name.map(Cow::into_owned),
            state: State::from_name(&self.state)?,
            spec: Spec {
                image: record.image.into_image()?,
                limits: Limits {
                    memory_bytes: record.memory_bytes,
                    cpu_millis: record.cpu_millis,
                    pids: record.pids,
                    open_files: record.open_files,
                    disk_bytes: record.disk_bytes,
                },
                profile: if record.strict { Profile::Strict } else { Profile::Default },
                network: network(record.offline, record.egress)?,
                hostname: record.hostname.map(Cow::into_owned),
                mounts: record.mounts.into_iter().map(HostDirectory::from).collect(),
                volumes: record
                    .volumes
                    .into_iter()
                    .map(VolumeRow::into_mount)
                    .collect::<Option<_>>()?,
            },
            labels: record.labels.into_owned(),
            setup: Setup {
                env: record.env.into_owned(),
                image_env: record.image_env.into_owned(),
                user: record.user.into_owned(),
                workdir: record.workdir.into_owned(),
            },
            lifetime: Lifetime {
                length: record.lifetime_ms.map(Duration::from_millis),
                action: match (record.pause_at_deadline, record.stop_at_deadline) {
                    (true, _) => DeadlineAction::Pause,
                    (_, true) => DeadlineAction::Stop,
                    _ => DeadlineAction::Kill,
                },
            },
            created_at: timestamp(self.created_at),
            expires_at: record.expires_at.map(Timestamp::from_millis),
            end,
            runtime: record.runtime.as_ref().into(),
            warm: record.warm,
            kept: record.kept,
            history: History {
                parent: id(record.parent)?,
                snapshot: id(record.snapshot)?,
                template: id(record.template)?,
                going_back: match record.going_back {
                    Some(stack) => Some(stack.into_stack()?),
                    None => None,
                },
            },
            program: record.program.into_program(),
            exposure: Exposure {
                public: record.public_ports.into_owned(),
                wake: record.wakes,
                mask_host: record.mask_host.map(Cow::into_owned),
                revision: record.token_revision,
                e2b: record.e2b.map(|ForE2bRow { secured, public }| ForE2b { secured, public }),
            },
        })
    }
}

/// The rules of a network as they are stored.
pub(super) fn egress(network: &Network) -> Option<String> {
    match network {
        Network::Rules(egress) => Some(egress.to_string()),
        Network::Open | Network::None => None,
    }
}

/// The network of a row; none at all where its rules cannot be read, for nobody may get more than
/// they allowed.
pub(super) fn network(offline: bool, egress: Option<String>) -> Option<Network> {
    match egress {
        Some(egress) => egress.parse().ok().map(|it| Network::Rules(Arc::new(it))),
        None if offline => Some(Network::None),
        None => Some(Network::Open),
    }
}

/// An id that may be absent; none at all where it is no id.
pub(super) fn id<T: std::str::FromStr>(text: Option<Cow<'_, str>>) -> Option<Option<T>> {
    match text {
        Some(text) => text.parse().ok().map(Some),
        None => Some(None),
    }
}

/// A row of `idempotency_keys`, as an element of the JSON array that a transaction is given.
#[derive(Serialize)]
pub(super) struct KeyRow<'a> {
    pub(super) owner: &'a str,
    pub(super) key: &'a str,
    /// The bits of the hash as SQLite's signed integer.
    pub(super) fingerprint: i64,
    pub(super) sandbox_id: &'a str,
    pub(super) created_at: u64,
}

/// A row of `events`, as an element of the JSON array that a transaction is given.
#[derive(Serialize)]
pub(super) struct EventRow<'a> {
    pub(super) seq: u64,
    pub(super) time: u64,
    pub(super) kind: &'static str,
    pub(super) owner: &'a str,
    pub(super) sandbox_id: &'a str,
    pub(super) detail: &'a BTreeMap<String, String>,
}

/// The moment of a column; negative ones do not exist here.
pub(super) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or_default())
}
