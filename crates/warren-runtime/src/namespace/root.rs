//! Making a guest's mounts, on threads with a mount namespace of their own.
//!
//! An overlay is mounted from outside, in the user namespace of the host, over id-mapped copies of
//! its layers: on disk everything carries the ids of the inside, so a layer, a snapshot or an
//! export does not depend on the range that a guest happened to run in. The mounting thread takes
//! the guest root's ids for its file accesses and keeps its capabilities, because the overlay does
//! all its work with the credentials of whoever mounted it; mounted with the host root's ids, it
//! would silently be read-only.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use rustix::{
    fs::{Dev, FileType, Mode, OFlags},
    mount::{FsOpenFlags, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsopen},
};
use warren_sys::{
    mount::{self, Attributes},
    privilege,
};

use crate::image::{Image, Layer, Tree};

/// Threads that mount. Two, for the kernel does one at a time for much of it.
const THREADS: usize = 2;

/// Detached mounts and where in the guest they go, the root first.
pub(crate) type Mounts = Vec<(OwnedFd, String)>;

/// What a guest's mounts are made of.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) image: Arc<Image>,
    /// The directory with `upper` and `work` in it.
    pub(crate) disk: PathBuf,
    /// How ids on disk become the guest's; `None` where they are the same.
    pub(crate) ids: Option<Ids>,
}

/// A guest's ids.
#[derive(Debug)]
pub(crate) struct Ids {
    pub(crate) user_namespace: OwnedFd,
    /// What root inside is outside.
    pub(crate) base: u32,
}

/// How layers are handed to overlayfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayersBy {
    /// As descriptors, Linux 6.13 and later.
    Descriptor,
    /// As paths, which need a place to be mounted at for a moment.
    Path,
}

/// The mounting threads.
#[derive(Debug)]
pub(crate) struct Mounter {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    plan: Plan,
    done: mpsc::SyncSender<io::Result<Mounts>>,
}

impl Mounter {
    /// Starts the threads. `scratch` is a directory that they mount over, each for itself alone;
    /// `nested` says that the server runs in a user namespace of its own.
    pub(crate) fn start(scratch: &Path, nested: bool, by: LayersBy) -> io::Result<Self> {
        std::fs::create_dir_all(scratch)?;
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let (queue, scratch) = (Arc::clone(&queue), scratch.to_owned());
            let (ready, started) = mpsc::sync_channel(1);
            std::thread::Builder::new().name("mounter".to_owned()).spawn(move || {
                let worker = Worker::new(scratch, nested, by);
                let (worker, result) = match worker {
                    Ok(worker) => (Some(worker), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                // Without anybody to hear it there is no job either.
                drop(ready.send(result));
                if let Some(worker) = worker {
                    worker.run(&queue);
                }
            })?;
            started.recv().map_err(io::Error::other)??;
        }
        Ok(Self { jobs })
    }

    /// Makes the mounts of `plan`; blocks until they are there.
    pub(crate) fn build(&self, plan: Plan) -> io::Result<Mounts> {
        let (done, result) = mpsc::sync_channel(1);
        self.jobs.send(Job { plan, done }).map_err(|_gone| io::ErrorKind::BrokenPipe)?;
        result.recv().map_err(io::Error::other)?
    }
}

struct Worker {
    scratch: PathBuf,
    nested: bool,
    by: LayersBy,
}

impl Worker {
    fn new(scratch: PathBuf, nested: bool, by: LayersBy) -> io::Result<Self> {
        use rustix::mount::{MountPropagationFlags as Propagation, mount_change};
        warren_sys::namespaces::leave_mounts()?;
        // What the host unmounts goes here too, or this thread would keep it busy for ever.
        mount_change("/", Propagation::DOWNSTREAM | Propagation::REC)?;
        privilege::keep_capabilities_across_ids()?;
        let own = Attributes { no_suid: true, ..Attributes::default() };
        let tmpfs = mount::new_filesystem("tmpfs", &[("mode", Some("755"))], own)?;
        mount::attach(tmpfs.as_fd(), rustix::fs::CWD, &scratch.to_string_lossy())?;
        mount_change(&scratch, Propagation::PRIVATE)?;
        let devices = scratch.join("dev");
        make_devices(&devices, nested)?;
        Ok(Self { scratch, nested, by })
    }

    fn run(&self, queue: &Mutex<mpsc::Receiver<Job>>) {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { plan, done }) = job else { return };
            let result = self.build(&plan);
            // Who asked may have given up: the mounts close and are gone.
            drop(done.send(result));
        }
    }

    fn build(&self, plan: &Plan) -> io::Result<Mounts> {
        make_missing(plan)?;
        let mut mounts = vec![(self.root(plan)?, "/".to_owned())];
        for tree in &plan.image.trees {
            mounts.push((self.tree(tree, plan.ids.as_ref())?, tree.place.clone()));
        }
        mounts.push((
            mount::clone_tree(rustix::fs::CWD, &self.scratch.join("dev"), true)?,
            "/dev".to_owned(),
        ));
        Ok(mounts)
    }

    fn root(&self, plan: &Plan) -> io::Result<OwnedFd> {
        let ids = plan.ids.as_ref();
        // Upper and work must be on one mount.
        let disk = self.layer(&plan.disk, ids)?;
        let inside = |name: &str| -> io::Result<OwnedFd> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            Ok(rustix::fs::openat(&disk, name, flags, Mode::empty())?)
        };
        let writable = Some((inside("upper")?, inside("work")?));
        let lowers = self.layers(&plan.image.layers, ids)?;
        self.overlay(&lowers, writable, ids, Attributes { no_dev: true, ..Attributes::default() })
    }

    fn tree(&self, tree: &Tree, ids: Option<&Ids>) -> io::Result<OwnedFd> {
        let attributes = Attributes { read_only: true, no_dev: true, ..Attributes::default() };
        let layers = self.layers(&tree.layers, ids)?;
        match <[OwnedFd; 1]>::try_from(layers) {
            Ok([layer]) => {
                mount::set_attributes(layer.as_fd(), Attributes { no_suid: true, ..attributes })?;
                Ok(layer)
            }
            Err(layers) => self.overlay(&layers, None, ids, attributes),
        }
    }

    fn layers(&self, layers: &[Layer], ids: Option<&Ids>) -> io::Result<Vec<OwnedFd>> {
        let open = |layer: &Layer| match layer {
            Layer::Own(path) => self.layer(path, ids),
            Layer::Foreign(path) => self.layer(path, None),
        };
        layers.iter().map(open).collect()
    }

    /// A detached mount of `path`, shown under the guest's ids.
    fn layer(&self, path: &Path, ids: Option<&Ids>) -> io::Result<OwnedFd> {
        let tree = mount::clone_tree(rustix::fs::CWD, path, false)?;
        if let Some(ids) = ids {
            mount::map_ids(tree.as_fd(), ids.user_namespace.as_fd(), Attributes::default())?;
        }
        Ok(tree)
    }

    fn overlay(
        &self,
        lowers: &[OwnedFd],
        writable: Option<(OwnedFd, OwnedFd)>,
        ids: Option<&Ids>,
        attributes: Attributes,
    ) -> io::Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "source", "warren")?;
        if self.nested {
            // Without power over the filesystem, overlayfs keeps its notes where users may.
            fsconfig_set_flag(context.as_fd(), "userxattr")?;
        }
        if writable.is_some() {
            // An upper layer may become a lower one, on any host: it must not say more than files
            // can, whatever this kernel's defaults are.
            // With `userxattr` the first is never on, and not to be spoken of.
            let features: &[&str] = match self.nested {
                true => &["metacopy", "index"],
                false => &["redirect_dir", "metacopy", "index"],
            };
            for feature in features {
                fsconfig_set_string(context.as_fd(), *feature, "off")?;
            }
            // A sandbox outlives its server and not the machine, so nothing in it need reach the
            // disk before it is asked for: without this, taking a guest down would write back
            // the whole filesystem below it, whoever's the data is.
            fsconfig_set_flag(context.as_fd(), "volatile")?;
        }
        match self.by {
            LayersBy::Descriptor => {
                for lower in lowers {
                    fsconfig_set_fd(context.as_fd(), "lowerdir+", lower.as_fd())?;
                }
                if let Some((upper, work)) = &writable {
                    fsconfig_set_fd(context.as_fd(), "upperdir", upper.as_fd())?;
                    fsconfig_set_fd(context.as_fd(), "workdir", work.as_fd())?;
                }
                as_guest_root(ids, || mount::finish_filesystem(&context, attributes))
            }
            LayersBy::Path => {
                let places = Places::new(&self.scratch, lowers, writable.as_ref())?;
                places.name_layers(context.as_fd())?;
                as_guest_root(ids, || mount::finish_filesystem(&context, attributes))
            }
        }
        .map_err(|error| match mount::context_log(&context) {
            log if log.is_empty() => error,
            log => io::Error::new(error.kind(), format!("{error} ({log})")),
        })
    }
}

/// Runs `act` with the guest root's ids for file accesses and every capability.
fn as_guest_root<T>(ids: Option<&Ids>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some(ids) = ids else { return act() };
    privilege::set_filesystem_ids(ids.base, ids.base)?;
    let result = act();
    // A thread that kept the guest's ids would serve the next guest with them.
    privilege::set_filesystem_ids(0, 0)?;
    result
}

/// Layers that are mounted somewhere for as long as an overlay takes to look them up by path.
struct Places {
    mounted: Vec<PathBuf>,
    writable: Option<(PathBuf, PathBuf)>,
}

impl Places {
    fn new(
        scratch: &Path,
        lowers: &[OwnedFd],
        writable: Option<&(OwnedFd, OwnedFd)>,
    ) -> io::Result<Self> {
        let mut places = Self { mounted: Vec::new(), writable: None };
        let own = scratch.join(format!("layers-{}", rustix::thread::gettid().as_raw_nonzero()));
        for (number, lower) in lowers.iter().enumerate() {
            places.put(lower.as_fd(), own.join(number.to_string()))?;
        }
        if let Some((upper, _)) = writable {
            // Both are in one directory, whose mount is the one to attach.
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let disk = rustix::fs::openat(upper, "..", flags, Mode::empty())?;
            let place = own.join("disk");
            places.put(disk.as_fd(), place.clone())?;
            places.writable = Some((place.join("upper"), place.join("work")));
        }
        Ok(places)
    }

    fn put(&mut self, tree: BorrowedFd<'_>, place: PathBuf) -> io::Result<()> {
        std::fs::create_dir_all(&place)?;
        mount::attach(tree, rustix::fs::CWD, &place.to_string_lossy())?;
        self.mounted.push(place);
        Ok(())
    }

    fn name_layers(&self, context: BorrowedFd<'_>) -> io::Result<()> {
        let lowers = self.mounted.iter().filter(|it| !it.ends_with("disk"));
        let lowers: Vec<_> = lowers.map(|it| it.to_string_lossy()).collect();
        fsconfig_set_string(context, "lowerdir", lowers.join(":"))?;
        if let Some((upper, work)) = &self.writable {
            fsconfig_set_string(context, "upperdir", &*upper.to_string_lossy())?;
            fsconfig_set_string(context, "workdir", &*work.to_string_lossy())?;
        }
        Ok(())
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for place in &self.mounted {
            rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH).ok();
        }
    }
}

/// The mount points that the image lacks, in the guest's own layer.
fn make_missing(plan: &Plan) -> io::Result<()> {
    for name in &plan.image.missing {
        match std::fs::create_dir(plan.disk.join("upper").join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const DEVICE_LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the one `/dev` that all guests share, read-only.
fn make_devices(place: &Path, nested: bool) -> io::Result<()> {
    std::fs::create_dir(place)?;
    let options = [("mode", Some("755")), ("size", Some("64k"))];
    let writable = Attributes { no_suid: true, no_exec: true, ..Attributes::default() };
    let tmpfs = mount::new_filesystem("tmpfs", &options, writable)?;
    mount::attach(tmpfs.as_fd(), rustix::fs::CWD, &place.to_string_lossy())?;
    for (name, major, minor) in DEVICES {
        let path = place.join(name);
        if nested {
            // Device nodes of a user namespace's own filesystem do not open; the host's do.
            File::create(&path)?;
            let node = mount::clone_tree(rustix::fs::CWD, &Path::new("/dev").join(name), false)?;
            mount::attach(node.as_fd(), rustix::fs::CWD, &path.to_string_lossy())?;
        } else {
            let device = device(major, minor);
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                FileType::CharacterDevice,
                Mode::from(0o666),
                device,
            )?;
            rustix::fs::chmod(&path, Mode::from(0o666))?;
        }
    }
    for (name, target) in DEVICE_LINKS {
        std::os::unix::fs::symlink(target, place.join(name))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        std::fs::create_dir(place.join(name))?;
    }
    mount::set_attributes(tmpfs.as_fd(), Attributes { read_only: true, ..writable })
}

fn device(major: u32, minor: u32) -> Dev {
    rustix::fs::makedev(major, minor)
}

/// How this kernel takes layers; by path in any case where that is wanted.
pub(crate) fn layers_by(path: bool) -> LayersBy {
    let probe = || -> io::Result<()> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let directory = File::open("/")?;
        fsconfig_set_fd(context.as_fd(), "lowerdir+", directory.as_fd())?;
        Ok(())
    };
    if !path && probe().is_ok() { LayersBy::Descriptor } else { LayersBy::Path }
}

/// A descriptor for messages to the guest, borrowed.
pub(crate) fn borrow(mounts: &Mounts) -> (Vec<String>, Vec<BorrowedFd<'_>>) {
    mounts.iter().map(|(fd, place)| (place.clone(), fd.as_fd())).unzip()
}
