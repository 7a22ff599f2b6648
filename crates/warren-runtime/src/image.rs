//! Root filesystems: what a sandbox finds below its own writable layer.
//!
//! An [`Image`] is a plan and not a mount: which directories lie over each other at `/`, and which
//! further trees are put into it read-only. `namespace::root` makes mounts of it.

mod archive;
mod host;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use warren_core::{runtime::RuntimeError, spec};

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
    /// The host image and when the host was last looked at.
    host: Mutex<Option<(Instant, Arc<Image>)>>,
}

impl Images {
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let directory = data_dir.join("images");
        fs::create_dir_all(&directory)?;
        Ok(Self { directory, host: Mutex::default() })
    }

    /// Resolves what a specification names; the first time this may have to make it.
    pub(crate) fn resolve(&self, image: &spec::Image) -> Result<Arc<Image>, RuntimeError> {
        match image {
            spec::Image::Host => self.host().map_err(RuntimeError::host("make the host image")),
            spec::Image::Directory(path) => directory(path).map(Arc::new),
            spec::Image::Archive(path) => {
                let unpacked = archive::open(&self.directory, path)?;
                Ok(Arc::new(plain(unpacked)))
            }
            spec::Image::Oci(image) => Err(RuntimeError::Image {
                reason: format!(
                    "`{}` would have to be pulled from a registry, which this version \
                     does not do; use `host`, `dir:PATH` or `tar:PATH`",
                    image.reference
                ),
            }),
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
                let image = Arc::new(host::open(&self.directory)?);
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
        fs::remove_dir_all(&half)?;
    }
    fs::create_dir_all(&half)?;
    match fill(&half).and_then(|()| fs::rename(&half, &place)) {
        Ok(()) => Ok(place),
        Err(error) => {
            // The first error is the one to tell.
            drop(fs::remove_dir_all(&half));
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_must_look_like_a_root() {
        let data = tempfile::tempdir().unwrap();
        let check = |path: &Path, expected: &str| {
            let error = directory(path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(Path::new("relative"), "expected an absolute path");
        check(&data.path().join("gone"), "cannot open");
        check(data.path(), "expected a root filesystem");
        fs::create_dir(data.path().join("usr")).unwrap();
        let image = directory(data.path()).unwrap();
        assert_eq!(image.missing, MOUNT_POINTS.map(PathBuf::from));
    }

    #[test]
    fn a_failed_make_leaves_nothing() {
        let data = tempfile::tempdir().unwrap();
        let failed = make_once(data.path(), "x", |_| Err(io::ErrorKind::StorageFull.into()));
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
        let place = make_once(data.path(), "x", |half| fs::write(half.join("f"), "1")).unwrap();
        make_once(data.path(), "x", |_| panic!("made twice")).unwrap();
        assert_eq!(fs::read_to_string(place.join("f")).unwrap(), "1");
    }
}
