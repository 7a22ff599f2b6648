//! What the edges call about images: who may do what, and what is in use.

use std::{
    collections::HashSet,
    fs::File,
    sync::{Arc, Weak},
};

use super::{
    Digest, ExportFormat, Held, Image, ImageError, ImageStore, ImportSource, InUse, Packed,
    Progress, Prune, Pull, Reference, Removed,
};
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{caller::Caller, error::SandboxError, shared::Shared, spec, spec::OciImage};

/// The shortest beginning of an image's digits that names it.
const LEAST_DIGITS: usize = 6;

/// The images of this server.
#[derive(Clone, Debug)]
pub struct Images {
    shared: Arc<Shared>,
    store: Arc<dyn ImageStore>,
}

/// An image, and who uses it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The image.
    pub image: Arc<Image>,
    /// Whether a sandbox or anything else is made from it, so that it stays.
    pub in_use: bool,
}

impl Images {
    /// The images of this server.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Unsupported`] where the runtime takes none.
    pub(crate) fn of(shared: &Arc<Shared>) -> Result<Self, SandboxError> {
        let store = shared.runtime.images();
        let store = store.ok_or(SandboxError::Unsupported { operation: "keep images" })?;
        Ok(Self { shared: Arc::clone(shared), store })
    }

    /// Every image, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let in_use = in_use(&self.shared);
        let mut images = self.store.list();
        images.sort_by_key(|image| std::cmp::Reverse((image.pulled_at, image.id)));
        let listed = |image: Arc<Image>| Listed { in_use: in_use.contains(&image.id), image };
        images.into_iter().map(listed).collect()
    }

    /// How many bytes all images take on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    /// The image of this name: a reference, an id, or the beginning of an id's digits.
    ///
    /// # Errors
    ///
    /// [`ImageError::NotFound`] as [`SandboxError::Image`].
    pub fn get(&self, name: &str) -> Result<Listed, SandboxError> {
        let image = self.find(name)?.image;
        Ok(Listed { in_use: in_use(&self.shared).contains(&image.id), image })
    }

    fn find(&self, name: &str) -> Result<Held, SandboxError> {
        let by_name = name.parse().ok().and_then(|it: Reference| self.store.find(&it));
        let by_id = || {
            let digits = name.strip_prefix("sha256:").unwrap_or(name);
            (digits.len() >= LEAST_DIGITS).then(|| self.store.find_id(digits)).flatten()
        };
        let missing = || ImageError::NotFound { name: name.to_owned() };
        Ok(by_name.or_else(by_id).ok_or_else(missing)?)
    }

    /// Fetches an image from its registry.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Invalid`] for what is no reference; [`SandboxError::Image`].
    pub async fn pull(
        &self,
        caller: &Caller,
        reference: &str,
        progress: &Progress,
    ) -> Result<Held, SandboxError> {
        let reference = parse("reference", reference)?;
        self.fetch(caller, reference, progress).await
    }

    async fn fetch(
        &self,
        caller: &Caller,
        reference: Reference,
        progress: &Progress,
    ) -> Result<Held, SandboxError> {
        let wanted = self.allowed(caller, reference)?;
        let held = self.store.pull(&wanted, progress).await?;
        self.keep_within_limit();
        Ok(held)
    }

    /// What a caller wants of a registry, where they may have this server talk to it.
    fn allowed(&self, caller: &Caller, reference: Reference) -> Result<Pull, SandboxError> {
        let allowed = &self.shared.config.registries_for_all;
        let listed = || allowed.iter().any(|it| it == "*" || it == reference.registry());
        if !caller.is_host() && !listed() {
            let registry = reference.registry().to_owned();
            return Err(ImageError::RegistryNotAllowed { registry }.into());
        }
        Ok(Pull { reference, with_credentials: caller.is_host() })
    }

    /// Fetches a snapshot from a registry. Who is done with it calls
    /// [`Self::keep_within_limit`].
    pub(crate) async fn pull_packed(
        &self,
        caller: &Caller,
        reference: &str,
        progress: &Progress,
    ) -> Result<Packed, SandboxError> {
        let wanted = self.allowed(caller, parse("reference", reference)?)?;
        Ok(self.store.pull_packed(&wanted, progress).await?)
    }

    /// Sends a packed snapshot to a registry.
    pub(crate) async fn push_packed(
        &self,
        archive: File,
        target: &Reference,
        progress: &Progress,
    ) -> Result<Digest, SandboxError> {
        Ok(self.store.push_packed(archive, target, progress).await?)
    }

    /// The image that a sandbox is to be made from: what is here, or else what its registry has.
    pub(crate) async fn acquire(
        &self,
        caller: &Caller,
        reference: &str,
    ) -> Result<Held, SandboxError> {
        let reference: Reference = parse("image", reference)?;
        match self.store.find(&reference) {
            Some(held) => Ok(held),
            None => self.fetch(caller, reference, &Progress::default()).await,
        }
    }

    /// The image of a sandbox that exists.
    pub(crate) fn of_spec(&self, image: &spec::Image) -> Option<Held> {
        match image.base() {
            spec::Image::Oci(OciImage { id: Some(id), .. }) => {
                self.store.find_id(id.strip_prefix("sha256:")?)
            }
            _ => None,
        }
    }

    /// Removes old images in the background where all together take too much, and what nothing
    /// needs any more.
    pub(crate) fn keep_within_limit(&self) {
        let (store, in_use) = (Arc::clone(&self.store), self.in_use());
        self.shared.store.tasks().spawn(async move {
            match store.prune(Prune::OverLimit, &in_use).await {
                Ok(removed) if removed.images.is_empty() => {}
                Ok(removed) => tracing::info!(images = ?removed.images, "removed old images"),
                Err(error) => tracing::warn!(%error, "old images are not removed"),
            }
        });
    }

    /// Takes a name away, and the image with it where it was the last one; with an id, the image
    /// with all its names. What is in use stays until it is not.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`], [`SandboxError::Image`].
    pub async fn remove(&self, caller: &Caller, name: &str) -> Result<Removed, SandboxError> {
        caller.require_host("remove images")?;
        let in_use = self.in_use();
        if let Ok(reference) = name.parse::<Reference>()
            && self.store.find(&reference).is_some()
        {
            return Ok(self.store.untag(&reference, &in_use).await?);
        }
        // Let go of before it is removed: what is held is in use.
        let id = self.find(name)?.image.id;
        Ok(self.store.remove(id, &in_use).await?)
    }

    /// Removes images that nobody uses.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`], [`SandboxError::Image`].
    pub async fn prune(&self, caller: &Caller, which: Prune) -> Result<Removed, SandboxError> {
        caller.require_host("remove images")?;
        Ok(self.store.prune(which, &self.in_use()).await?)
    }

    /// Takes images out of an archive, a directory or another program of this machine.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`], [`SandboxError::Invalid`], [`SandboxError::Image`].
    pub async fn import(
        &self,
        caller: &Caller,
        source: ImportSource,
        name: Option<&str>,
        progress: &Progress,
    ) -> Result<Vec<Held>, SandboxError> {
        caller.require_host("import images")?;
        let name = name.map(|name| parse("name", name)).transpose()?;
        let held = self.store.import(source, name.as_ref(), progress).await?;
        self.keep_within_limit();
        Ok(held)
    }

    /// An image as a tar archive, piece by piece, and its name in it.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`], [`SandboxError::Image`].
    pub async fn export(
        &self,
        caller: &Caller,
        name: &str,
        format: ExportFormat,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, SandboxError> {
        caller.require_host("export images")?;
        let held = self.find(name)?;
        let reference = name.parse().ok().filter(|it| held.image.references.contains(it));
        Ok(self.store.export(&held, reference.as_ref(), format).await?)
    }

    /// Sends an image to the registry that `target` names; to the one of its own name where
    /// absent. Gives the digest that it has there.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`], [`SandboxError::Invalid`], [`SandboxError::Image`].
    pub async fn push(
        &self,
        caller: &Caller,
        name: &str,
        target: Option<&str>,
        progress: &Progress,
    ) -> Result<Digest, SandboxError> {
        caller.require_host("push images")?;
        let held = self.find(name)?;
        let target = parse("target", target.unwrap_or(name))?;
        Ok(self.store.push(&held, &target, progress).await?)
    }

    /// Gives an image one more name.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`], [`SandboxError::Invalid`], [`SandboxError::Image`].
    pub async fn tag(&self, caller: &Caller, name: &str, tag: &str) -> Result<(), SandboxError> {
        caller.require_host("name images")?;
        let held = self.find(name)?;
        let tag: Reference = parse("tag", tag)?;
        if tag.digest().is_some() {
            return Err(SandboxError::invalid("tag", "expected a name with a tag, not a digest"));
        }
        Ok(self.store.tag(&held, &tag).await?)
    }

    fn in_use(&self) -> InUse {
        let shared: Weak<Shared> = Arc::downgrade(&self.shared);
        Arc::new(move || shared.upgrade().map(|shared| in_use(&shared)).unwrap_or_default())
    }
}

pub(crate) fn parse(field: &'static str, text: &str) -> Result<Reference, SandboxError> {
    text.parse()
        .map_err(|error: super::InvalidReference| SandboxError::invalid(field, error.to_string()))
}

/// The images that something is made from.
fn in_use(shared: &Shared) -> HashSet<Digest> {
    let pinned = |image: &spec::Image| match image.base() {
        spec::Image::Oci(OciImage { id: Some(id), .. }) => id.parse().ok(),
        _ => None,
    };
    let sandboxes = shared.all().into_iter().map(|handle| handle.sandbox());
    let sandboxes = sandboxes
        .filter(|sandbox| sandbox.state.is_living() || sandbox.kept)
        .filter_map(|sandbox| pinned(&sandbox.spec.image));
    let bases = [shared.snapshots.bases(), shared.templates.images()].concat();
    sandboxes.chain(bases.iter().filter_map(pinned)).collect()
}
