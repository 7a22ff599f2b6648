//! Root filesystems: what a sandbox finds below its own writable layer.
//!
//! An [`Image`] is a plan and not a mount: which directories lie over each other at `/`, and which
//! further trees are put into it read-only. `namespace::root` makes mounts of it.

mod archive;
mod arrive;
mod document;
mod export;
mod host;
mod import;
mod packed;
mod program;
mod pull;
mod push;
mod registry;
mod rules;
mod service;
mod settings;
mod store;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use warren_core::{runtime::RuntimeError, spec};

pub(crate) use service::ImageService;
pub use settings::{Proxy, Settings};

/// A directory that serves as a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Ids on disk are those of the inside: it is shown id-mapped.
    Own(PathBuf),
    /// The host's own files: shown as they are, so that all of them belong to nobody inside and
    /// what is not readable for everybody is readable for no one.
    Foreign(PathBuf),
}

/// A read-only tree in the root: layers, the topmost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Absolute, without links, and present in the root's layers.
    pub(crate) place: String,
    pub(crate) layers: Vec<Layer>,
}

/// What a root filesystem is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// The root's lower layers, the topmost first.
    pub(crate) layers: Vec<Layer>,
    /// What is put into it.
    pub(crate) trees: Vec<Tree>,
    /// Directories that every guest needs and the layers lack; relative.
    pub(crate) missing: Vec<PathBuf>,
}

/// Where every guest's own mounts go.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "run", "sys"];

/// For how long the host image is taken to be up to date without a look at the host.
const HOST_FRESH: Duration = Duration::from_secs(2);

/// The images of one server.
#[derive(Debug)]
pub(crate) struct Images {
    directory: PathBuf,
    pub(crate) service: Arc<ImageService>,
    /// The host image and when the host was last looked at.
    host: Mutex<Option<(Instant, Arc<Image>)>>,
}

impl Images {
    pub(crate) fn open(storage: &Path, settings: Settings) -> io::Result<Self> {
        let directory = storage.join("images");
        fs::create_dir_all(&directory)?;
        let service = Arc::new(ImageService::open(&directory, settings)?);
        Ok(Self { directory, service, host: Mutex::default() })
    }

    /// Resolves what a specification names; the first time this may have to make it.
    pub(crate) fn resolve(&self, image: &spec::Image) -> Result<Arc<Image>, RuntimeError> {
        match image {
            spec::Image::Host => self.host().map_err(RuntimeError::host("make the host image")),
            spec::Image::Directory(path) => directory(path).map(Arc::new),
            spec::Image::Archive(path) => {
                let unpacked = archive::open(&self.directory, path, self.service.rules)?;
                Ok(Arc::new(plain(unpacked)))
            }
            spec::Image::Oci(image) => {
                let plan = image.id.as_deref().and_then(|id| self.service.store.plan(id));
                plan.ok_or_else(|| RuntimeError::Image {
                    reason: format!("`{}` is not here: it has to be pulled first", image.reference),
                })
            }
            spec::Image::Snapshot(_) => {
                Err(RuntimeError::Unsupported { operation: "make snapshots" })
            }
        }
    }
}

impl Images {
    fn host(&self) -> io::Result<Arc<Image>> {
        let mut cached = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *cached {
            Some((looked, image)) if looked.elapsed() < HOST_FRESH => Ok(Arc::clone(image)),
            cached => {
                let opened = host::open(&self.directory)?;
                // One that is as it was stays the same: who holds it can tell.
                let image = match cached {
                    Some((_, image)) if **image == opened => Arc::clone(image),
                    _ => Arc::new(opened),
                };
                *cached = Some((Instant::now(), Arc::clone(&image)));
                Ok(image)
            }
        }
    }
}

fn directory(path: &Path) -> Result<Image, RuntimeError> {
    let unusable = |reason: String| RuntimeError::Image { reason };
    if !path.is_absolute() {
        return Err(unusable(format!("{} is relative, expected an absolute path", path.display())));
    }
    // The real place, so that a link changed later leads nowhere else.
    let path = path
        .canonicalize()
        .map_err(|error| unusable(format!("cannot open {}: {error}", path.display())))?;
    if !path.join("usr").is_dir() && !path.join("bin").is_dir() {
        let reason =
            format!("{} has neither usr nor bin, expected a root filesystem", path.display());
        return Err(unusable(reason));
    }
    Ok(plain(path))
}

/// An image of one layer.
fn plain(root: PathBuf) -> Image {
    let missing = MOUNT_POINTS.iter().filter(|it| !real_directory(&root.join(it)));
    let missing = missing.map(PathBuf::from).collect();
    Image { layers: vec![Layer::Own(root)], trees: Vec::new(), missing }
}

fn real_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_dir())
}

/// Makes `name` in `directory` by `fill`, whole or not at all; one that is there already is kept.
fn make_once(
    directory: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    /// One at a time: who comes second wants what the first one makes.
    static MAKING: Mutex<()> = Mutex::new(());
    let place = directory.join(name);
    if place.is_dir() {
        return Ok(place);
    }
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if place.is_dir() {
        return Ok(place);
    }
    let half = directory.join(format!(".{name}.{}", std::process::id()));
    if half.exists() {
        warren_sys::tree::remove(&half)?;
    }
    fs::create_dir_all(&half)?;
    match fill(&half).and_then(|()| fs::rename(&half, &place)) {
        Ok(()) => Ok(place),
        Err(error) => {
            // The first error is the one to tell.
            drop(warren_sys::tree::remove(&half));
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests;
