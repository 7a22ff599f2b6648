//! Comparing the files of guests and images, layer by layer, without mounting anything.
//!
//! A guest's own layer is read while the guest changes it. Names in it are the guest's: they are
//! looked up from directory to directory, links are not followed, and nothing but plain files is
//! opened.

use std::{collections::HashSet, ops::ControlFlow, path::PathBuf, sync::Arc};

use tokio::sync::mpsc;
use warren_core::{
    compare::{Aspect, Change, Comparison, Files, Patch, Side},
    id::SandboxId,
    runtime::RuntimeError,
};
use warren_layer::{diff, pack::IDENTITY};

use super::NamespaceRuntime;
use crate::image::{Image, Layer};

impl NamespaceRuntime {
    /// Compares; blocks until all is compared, or nobody takes changes any more.
    pub(super) fn compare_now(
        &self,
        before: &Files,
        after: &Files,
        comparison: Comparison,
        changes: &mpsc::Sender<Change>,
    ) -> Result<(), RuntimeError> {
        let (one, other) = (self.stack(before)?, self.stack(after)?);
        if one.image.trees != other.image.trees {
            return Err(RuntimeError::Image {
                reason: "files on the host's own image can be compared with others on it alone"
                    .to_owned(),
            });
        }
        let options = diff::Options {
            marks: crate::rootless::marks(),
            exclude: exclude(&one.image, &other.image, comparison.with_identity),
            patch: comparison.patch_bytes,
        };
        let each = |change| match changes.blocking_send(convert(change)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_gone) => ControlFlow::Break(()),
        };
        let compared = diff::diff(&one.layers, &other.layers, &options, each);
        compared.map(|_all| ()).map_err(RuntimeError::host("compare the files"))
    }

    fn stack(&self, files: &Files) -> Result<Stack, RuntimeError> {
        let image = self.host.resolve(files.image())?;
        let mut layers = Vec::new();
        if let Files::Sandbox { id, .. } = files {
            layers.push(self.upper(id)?);
        }
        layers.extend(image.layers.iter().map(|layer| match layer {
            Layer::Own(path) | Layer::Foreign(path) => path.clone(),
        }));
        Ok(Stack { image, layers })
    }

    /// Where a guest's own layer is, running or not.
    fn upper(&self, id: &SandboxId) -> Result<PathBuf, RuntimeError> {
        let disk = match self.host.guest(id) {
            Ok(guest) => guest.entry.join("disk"),
            Err(_stopped) if self.host.journal.is_shelved(id) => {
                self.host.journal.shelf(id).join("disk")
            }
            Err(error) => return Err(error),
        };
        Ok(disk.join("upper"))
    }
}

/// Layers, the topmost first, and the image that is below the guest's.
struct Stack {
    image: Arc<Image>,
    layers: Vec<PathBuf>,
}

/// Paths that differ for reasons that nobody asks for.
fn exclude(one: &Image, other: &Image, with_identity: bool) -> HashSet<Vec<u8>> {
    // Mount points that guests on this image get.
    let missing = one.missing.iter().chain(&other.missing);
    let mut exclude: HashSet<Vec<u8>> =
        missing.map(|it| it.as_os_str().as_encoded_bytes().to_vec()).collect();
    if !with_identity {
        exclude.extend(IDENTITY.map(|it| it.as_bytes().to_vec()));
    }
    exclude
}

fn convert(change: diff::Change) -> Change {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let side = |side: diff::Side| Side {
        kind: side.kind.name(),
        size: side.size,
        mode: side.mode,
        user: side.owner.0,
        group: side.owner.1,
        link: side.link.as_deref().map(text),
    };
    let aspect = |aspect| match aspect {
        diff::Aspect::Kind => Aspect::Kind,
        diff::Aspect::Content => Aspect::Content,
        diff::Aspect::Link => Aspect::Link,
        diff::Aspect::Mode => Aspect::Mode,
        diff::Aspect::Owner => Aspect::Owner,
        diff::Aspect::Attributes => Aspect::Attributes,
    };
    Change {
        path: format!("/{}", text(&change.path)),
        aspects: change.aspects.into_iter().map(aspect).collect(),
        before: change.before.map(side),
        after: change.after.map(side),
        patch: change.patch.map(|patch| match patch {
            diff::Patch::Text(text) => Patch::Text(text),
            diff::Patch::Binary => Patch::Binary,
            diff::Patch::TooLarge => Patch::TooLarge,
        }),
    }
}
