//! Blanks: guests that have everything but an image and an owner.
//!
//! A blank has its slot, journal entry, network namespace, cgroups, sockets, disk, and a forked
//! child that waits to be bound. What it takes to make one (2 ms, most of it the kernel's network
//! lock) is spent before anybody asks. Its mounts are made as well, for an image that is likely to be
//! asked for (`blanks.rs`); for any other they are made when it is bound.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use warren_core::{runtime::RuntimeError, spec};
use warren_proto::keeper::{
    Guest as ToGuest, IdRange, MAX_MESSAGE, Message, Progress, Request, Role,
};
use warren_sys::channel::Channel;

use super::{
    host::{Guest, Host, Reach},
    keeper::{self, Keeper, KeeperError},
    root::{Ids, Mounts, Plan},
    volumes,
};
use crate::{image::Image, journal::Process};

/// Size of a guest's `/run`.
const RUN_BYTES: u64 = 64 << 20;
/// The first id of slot 0: what follows is set aside by no common tool (nspawn ends before it).
const FIRST_ID: u32 = 0x7000_0000;
/// Ids of one guest.
pub(crate) const IDS: u32 = 65_536;
/// The guest's agent is killed after what it runs, but before the host's own services.
const OOM_SCORE: u16 = 100;

/// A guest that has no image yet.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) slot: u32,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) process: Process,
    pub(crate) pidfd: OwnedFd,
    pub(crate) network: OwnedFd,
    pub(crate) reach: Reach,
    pub(crate) limits: spec::Limits,
    user_namespace: OwnedFd,
    mount_namespace: OwnedFd,
    channel: Channel,
    disk: PathBuf,
    prepared: Option<(Arc<Image>, Mounts)>,
}

/// The ids that the guest of `slot` has on the host.
pub(crate) fn ids_of(host: &Host, slot: u32) -> IdRange {
    match host.nested {
        // Inside of the server's own user namespace all guests have its ids.
        Some(count) => IdRange { base: 0, count: count.min(IDS) },
        None => IdRange { base: FIRST_ID + slot * IDS, count: IDS },
    }
}

/// Makes a blank. On an error nothing of it is left.
pub(crate) fn make(
    host: &Arc<Host>,
    reach: Reach,
    image: Option<&Arc<Image>>,
) -> Result<Blank, RuntimeError> {
    let slot = host
        .slots
        .take()
        .map_err(RuntimeError::host("claim a slot"))?
        .ok_or(RuntimeError::Exhausted { what: "slots (id ranges and addresses)" })?;
    let made = try_make(host, slot, reach, image);
    if made.is_err() {
        host.remove_slot(slot, None, &host.journal.blank(slot));
    }
    made
}

fn try_make(
    host: &Arc<Host>,
    slot: u32,
    reach: Reach,
    image: Option<&Arc<Image>>,
) -> Result<Blank, RuntimeError> {
    let entry = host.journal.begin(slot).map_err(RuntimeError::host("begin a journal entry"))?;
    let disk = entry.join("disk");
    host.pool.create(&disk).map_err(RuntimeError::host("make a disk"))?;
    host.limit_disk(&disk, &host.limits)?;
    write_identity(&disk, host.resolver()).map_err(RuntimeError::host("write to a disk"))?;
    let network = host.attach_network(slot, reach)?;
    let limits = host.limits.clone();
    let cgroup = host.cgroups.create(slot).map_err(RuntimeError::host("make a cgroup"))?;
    cgroup.set_limits(&limits).map_err(RuntimeError::host("set limits"))?;
    let listeners = listen(&host.sockets(slot)).map_err(RuntimeError::host("make sockets"))?;
    let (channel, theirs) = Channel::pair().map_err(RuntimeError::host("make a channel"))?;

    let mut parts = vec![(Role::Channel, OwnedFd::from(theirs))];
    let born_in = network.try_clone().map_err(RuntimeError::host("hold a namespace"))?;
    parts.push((Role::Network, born_in));
    parts.extend(cgroup.descriptors().map_err(RuntimeError::host("open a cgroup"))?);
    let keeper = host.keeper()?;
    let (roles, descriptors) = keeper::split(&parts);
    let ids = ids_of(host, slot);
    let groups = ids.count > 1;
    let request = Request::Fork { slot, ids, groups, oom_score: OOM_SCORE, roles };
    let forked = keeper.fork(&request, slot, &descriptors).map_err(guest_error)?;
    drop(descriptors);
    drop(parts);
    let process =
        Process::of(forked.pid).map_err(RuntimeError::host("look at the guest's process"))?;
    host.journal
        .forked(&entry, slot, process)
        .map_err(RuntimeError::host("write a journal entry"))?;
    let message = ToGuest::Prepare {
        shm_bytes: limits.memory_bytes / 2,
        run_bytes: RUN_BYTES,
        cgroup_view: host.cgroups.view(),
    };
    let [envd, control] = &listeners;
    ask(&channel, &message, &[envd.as_fd(), control.as_fd()])?;
    let mut blank = Blank {
        slot,
        keeper,
        process,
        pidfd: forked.pidfd,
        network,
        reach,
        limits,
        user_namespace: forked.user_namespace,
        mount_namespace: forked.mount_namespace,
        channel,
        disk,
        prepared: None,
    };
    if let Some(image) = image {
        let mounts = blank.mounts(host, image)?;
        blank.prepared = Some((Arc::clone(image), mounts));
    }
    Ok(blank)
}

impl Blank {
    /// Gives the blank its root and makes it the guest agent. `disk` is where its disk is now.
    pub(crate) fn bind(
        &mut self,
        host: &Host,
        disk: &Path,
        image: &Arc<Image>,
        spec: &spec::Spec,
        hostname: &str,
    ) -> Result<(), RuntimeError> {
        disk.clone_into(&mut self.disk);
        let mounts = match self.prepared.take() {
            Some((prepared, mounts)) if Arc::ptr_eq(&prepared, image) => mounts,
            Some((_other_image, mounts)) => {
                drop(mounts);
                crate::storage::renew_work(&self.disk)
                    .map_err(RuntimeError::host("use a prepared disk for another image"))?;
                self.mounts(host, image)?
            }
            None => self.mounts(host, image)?,
        };
        let base = host.nested.is_none().then(|| ids_of(host, self.slot).base);
        let mut own = volumes::open(&spec.mounts, base)?;
        let users = host.nested.is_none().then_some(&self.user_namespace);
        own.extend(volumes::open_kept(host, &spec.volumes, users)?);
        let count = u8::try_from(own.len()).unwrap_or(u8::MAX);
        let mounts: Mounts = mounts.into_iter().chain(own).collect();
        let (places, descriptors) = super::root::borrow(&mounts);
        let unlimited = !host.cgroups.works();
        let message = ToGuest::Bind {
            strict: spec.profile == spec::Profile::Strict,
            single_id: host.nested == Some(1),
            open_files: spec.limits.open_files,
            data_bytes: if unlimited { spec.limits.memory_bytes } else { 0 },
            processes: if unlimited { spec.limits.pids } else { 0 },
            hostname: hostname.to_owned(),
            mounts: places,
            volumes: count,
        };
        ask(&self.channel, &message, &descriptors)
    }

    /// The image that its mounts were made for.
    pub(super) fn prepared(&self) -> Option<&Arc<Image>> {
        self.prepared.as_ref().map(|(image, _)| image)
    }

    /// Lets go of the mounts that were made in advance.
    pub(super) fn unprepare(&mut self) {
        self.prepared = None;
    }

    /// The guest that it has become.
    pub(crate) fn into_guest(self, entry: PathBuf) -> Guest {
        Guest {
            slot: self.slot,
            keeper: Some(self.keeper),
            process: Some(self.process),
            pidfd: Some(self.pidfd),
            network: Some(self.network),
            _mounts: Some(self.mount_namespace),
            entry,
            exit: Mutex::default(),
        }
    }

    fn mounts(&self, host: &Host, image: &Arc<Image>) -> Result<Mounts, RuntimeError> {
        let ids = match host.nested {
            Some(_) => None,
            None => Some(Ids {
                user_namespace: self
                    .user_namespace
                    .try_clone()
                    .map_err(RuntimeError::host("hold a user namespace"))?,
                base: ids_of(host, self.slot).base,
            }),
        };
        let plan = Plan { image: Arc::clone(image), disk: self.disk.clone(), ids };
        host.mounter.build(plan).map_err(RuntimeError::host("mount the root filesystem"))
    }
}

/// Sends a message to a guest that is being set up and waits for its word.
fn ask(
    channel: &Channel,
    message: &ToGuest,
    descriptors: &[std::os::fd::BorrowedFd<'_>],
) -> Result<(), RuntimeError> {
    channel
        .send(&message.encode(), descriptors)
        .map_err(RuntimeError::host("speak to the new guest"))?;
    let mut buffer = [0; MAX_MESSAGE];
    let received =
        channel.receive(&mut buffer).map_err(RuntimeError::host("hear from the new guest"))?;
    match Progress::decode(buffer.get(..received.length).unwrap_or_default()) {
        Ok(Progress::Done) => Ok(()),
        Ok(Progress::Failed { step, errno }) => {
            let source = io::Error::from_raw_os_error(errno);
            Err(guest_error(KeeperError::Step { step, source }))
        }
        Err(error) => Err(RuntimeError::host("hear from the new guest")(error)),
    }
}

fn guest_error(error: KeeperError) -> RuntimeError {
    RuntimeError::host("start the guest")(error)
}

/// The sockets of the agent, bound before it lives, so that connections queue from the start.
fn listen(directory: &Path) -> io::Result<[UnixListener; 2]> {
    // An earlier guest of the slot is gone, whatever it left here.
    match warren_sys::tree::remove(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(directory)?;
    let bind = |name: &str| UnixListener::bind(directory.join(name));
    Ok([bind("envd.sock")?, bind("control.sock")?])
}

/// What is the guest's own in `/etc` before it has a name.
pub(super) fn write_identity(disk: &Path, resolver: Option<Ipv4Addr>) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let etc = disk.join("upper/etc");
    fs::create_dir(&etc)?;
    fs::set_permissions(&etc, fs::Permissions::from_mode(0o755))?;
    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    fs::write(etc.join("machine-id"), format!("{:032x}\n", u128::from_le_bytes(random)))?;
    fs::write(etc.join("resolv.conf"), resolv_conf(resolver))
}

/// Where a guest asks for names.
pub(super) fn resolv_conf(resolver: Option<Ipv4Addr>) -> String {
    match resolver {
        Some(address) => format!("nameserver {address}\noptions timeout:3 attempts:2\n"),
        None => "# This sandbox has no network.\n".to_owned(),
    }
}

/// The names that a guest knows without asking.
pub(super) fn hosts(hostname: &str) -> String {
    format!("127.0.0.1 localhost\n127.0.1.1 {hostname}\n::1 localhost ip6-localhost ip6-loopback\n")
}

/// The name that a guest gives itself.
pub(crate) fn write_hostname(disk: &Path, hostname: &str) -> io::Result<()> {
    let etc = disk.join("upper/etc");
    fs::write(etc.join("hostname"), format!("{hostname}\n"))?;
    fs::write(etc.join("hosts"), hosts(hostname))
}
