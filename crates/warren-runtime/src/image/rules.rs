//! What images may be, and what is said of those that are more.

use std::path::PathBuf;

use warren_core::images::ImageError;
use warren_layer::{
    Marks,
    unpack::{Limits, Options, UnpackError},
};

use super::settings::Settings;
use crate::rootless;

/// The most that one image may unpack to unless the operator says otherwise, in bytes.
const MOST_BYTES: u64 = 32 << 30;
/// The same of its entries: files and whatever else layers are made of.
const MOST_ENTRIES: u64 = 4_000_000;

/// What unpacking is bound by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// What one image may take, in bytes.
    pub(super) most_bytes: u64,
    /// How many entries the layers of one image may have.
    pub(super) most_entries: u64,
    pub(super) marks: Marks,
    /// There are no ids to give files away to.
    pub(super) ignore_owners: bool,
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Self {
        let nested = rootless::nested_ids();
        Self {
            most_bytes: settings.most_image_bytes.unwrap_or(MOST_BYTES),
            most_entries: settings.most_image_files.unwrap_or(MOST_ENTRIES),
            marks: rootless::marks(),
            ignore_owners: nested == Some(1),
        }
    }
}

impl Rules {
    /// How a layer is unpacked on those `below`, the topmost first, of which at most what is `left`
    /// may come.
    pub(super) fn options(&self, left: Left, below: Vec<PathBuf>) -> Options {
        let Left { bytes, entries } = left;
        Options {
            marks: self.marks,
            limits: Limits { bytes, entries, ..Limits::default() },
            ignore_owners: self.ignore_owners,
            below,
        }
    }

    /// What an image may take of which nothing is here yet.
    pub(super) fn all(&self) -> Left {
        Left { bytes: self.most_bytes, entries: self.most_entries }
    }

    /// Says that there is too much of an image.
    pub(super) fn too_many_bytes(&self, what: String) -> ImageError {
        ImageError::AboveSetting { what, most: self.most_bytes, setting: "image_size" }
    }

    /// Says why a layer was not unpacked.
    pub(super) fn unpack_error(&self, error: UnpackError) -> ImageError {
        match error {
            error if error.is_full() => ImageError::DiskFull,
            UnpackError::TooMuch { what: "bytes", .. } => {
                self.too_many_bytes("an image whose layers unpack to more bytes".to_owned())
            }
            UnpackError::TooMuch { what: "entries", .. } => ImageError::AboveSetting {
                what: "an image whose layers have more entries".to_owned(),
                most: self.most_entries,
                setting: "image_files",
            },
            UnpackError::TooMuch { what, most } => {
                ImageError::TooLarge { what: format!("a layer with more {what}"), most }
            }
            UnpackError::Thread(error) | UnpackError::Directory(error) => {
                ImageError::host("unpack a layer")(error)
            }
            error => {
                let reason = super::registry::plain(&error.to_string());
                ImageError::unusable("a layer of the image", reason)
            }
        }
    }
}

/// What an image may still take while its layers are unpacked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}
