//! Images: what root filesystems are made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ErrorBody, Timestamp, snapshot::Snapshot};

/// An image that the server has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Image {
    /// Its identity: `sha256:` and 64 hexadecimal digits, the digest of its configuration.
    pub id: String,
    /// Its names, such as `python:3.12`.
    pub references: Vec<String>,
    /// What its layers take unpacked, those that other images share included, in bytes.
    pub bytes: u64,
    /// Its layers, the lowest first.
    pub layers: Vec<ImageLayer>,
    /// Such as `linux/amd64`.
    pub platform: String,
    /// When it was made, as the image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it came here.
    pub pulled_at: Timestamp,
    /// Whether something is made from it, so that it stays.
    pub in_use: bool,
    /// What commands in it get to know.
    pub config: ImageConfig,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageLayer {
    /// The digest of its archive without compression.
    pub diff_id: String,
    /// What it takes unpacked, in bytes.
    pub bytes: u64,
}

/// What an image says about commands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageConfig {
    /// Their environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Who they run as; root where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where they start; `/` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// The program that the image is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Its arguments, or the program where there is no `entrypoint`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Ports it means to listen on, such as `80/tcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}

/// `GET /v1/images`: every image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageList {
    /// The newest first.
    pub images: Vec<Image>,
    /// What all of them take on the disk, shared layers counted once, in bytes.
    pub disk_bytes: u64,
}

/// `POST /v1/images/pull`: an image that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PullImage {
    /// Its name, such as `python:3.12` or `registry.example/team/tool@sha256:..`.
    pub reference: String,
}

/// `POST /v1/images/push`: an image that is to go to a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PushImage {
    /// The image: a name, or an id.
    pub image: String,
    /// The name that it is to have in its registry; `image` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// `POST /v1/images/import`: an image that this machine has elsewhere. Exactly one of `path`,
/// `docker` and `containerd`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImportImage {
    /// A directory in OCI's layout, or an archive, on the server's machine; absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// An image of the server's machine's Docker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<String>,
    /// An image of the server's machine's containerd, as `ctr` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd: Option<String>,
    /// The name that an image without one gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `POST /v1/images/tag`: one more name for an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TagImage {
    /// The image: a name, or an id.
    pub image: String,
    /// The name. It goes over from an image that has it.
    pub tag: String,
}

/// `POST /v1/images/prune`: which images are to go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PruneImages {
    /// Also those that have a name, where nothing is made from them.
    #[serde(default)]
    pub all: bool,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImagesRemoved {
    /// Names that mean nothing any more.
    pub references: Vec<String>,
    /// Ids of images that are gone.
    pub images: Vec<String>,
    /// How many bytes came free.
    pub bytes: u64,
}

/// Images that came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImagesImported {
    /// In the order of the archive.
    pub images: Vec<Image>,
    /// What a person should know, such as devices that were left out: each a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One line of a transfer. The last is `done` or `error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ImageStep {
    /// It is known what is to be transferred.
    Resolved {
        /// The image's id.
        id: String,
        /// Its layers.
        layers: Vec<LayerSize>,
    },
    /// A layer is there already.
    Present {
        /// Its digest.
        layer: String,
    },
    /// Bytes of a layer have been transferred.
    Transferred {
        /// Its digest.
        layer: String,
        /// So many.
        bytes: u64,
        /// Of so many.
        of: u64,
    },
    /// A layer is being unpacked.
    Unpacking {
        /// Its digest.
        layer: String,
    },
    /// A layer is done.
    LayerDone {
        /// Its digest.
        layer: String,
    },
    /// Something a person should know.
    Note {
        /// In a sentence.
        text: String,
    },
    /// Nothing, for a while.
    Keepalive,
    /// All is done.
    Done(TransferDone),
    /// It failed.
    Error(ErrorBody),
}

/// A layer as it is transferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LayerSize {
    /// Its digest.
    pub layer: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What a transfer came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransferDone {
    /// The images that are here now; of a push the one that was sent.
    #[serde(default)]
    pub images: Vec<Image>,
    /// The snapshot that is here now, or was sent, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Box<Snapshot>>,
    /// Of a push: the digest that the registry knows it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}
