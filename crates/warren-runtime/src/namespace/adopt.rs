//! Finding what an earlier server left, keeping what lives and removing the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rustix::event::{PollFd, PollFlags, poll};
use warren_core::{
    id::SandboxId,
    runtime::{Exit, ExitReason, RuntimeError},
};
use warren_proto::keeper::{Cause, Ending, Event, Message};

use super::{
    host::{Guest, Host, NO_SLOT, exit_of},
    keeper::{self, Exited, Keeper},
};
use crate::journal::{Journal, Process, Record};

/// The slots that anything on the host may still be named after.
pub(super) fn used_slots(journal: &Journal) -> io::Result<BTreeSet<u32>> {
    let blanks = journal.blanks()?.into_iter().map(|(_, record)| record);
    let sandboxes = journal.sandboxes()?.into_iter().map(|(_, _, record)| record);
    // What a reboot has ended has only files left, which no slot names.
    let records = blanks.chain(sandboxes).flatten().filter(|it| it.this_boot);
    Ok(records.map(|it| it.slot).collect())
}

/// Connects to living keepers, enrolls the sandboxes' guests and removes everything else.
pub(super) fn adopt(host: &Arc<Host>) -> Result<(), RuntimeError> {
    let mut kept: BTreeMap<u32, (Arc<Keeper>, u32)> = BTreeMap::new();
    for path in keeper::sockets(host.run_dir()) {
        match host.connect_keeper(&path) {
            Ok((keeper, guests)) => {
                kept.extend(
                    guests.into_iter().map(|(slot, pid)| (slot, (Arc::clone(&keeper), pid))),
                );
                host.add_keeper(keeper);
            }
            // Nobody listens: it died with its last server.
            Err(_refused) => drop(fs::remove_file(&path)),
        }
    }
    let sandboxes = host.journal.sandboxes().map_err(RuntimeError::host("read the journal"))?;
    for (id, entry, record) in sandboxes {
        adopt_sandbox(host, id, entry, record, &kept);
    }
    let blanks = host.journal.blanks().map_err(RuntimeError::host("read the journal"))?;
    for (entry, record) in blanks {
        remove_blank(host, entry, record);
    }
    remove_strays(host)
}

fn adopt_sandbox(
    host: &Host,
    id: SandboxId,
    entry: PathBuf,
    record: Option<Record>,
    kept: &BTreeMap<u32, (Arc<Keeper>, u32)>,
) {
    // An entry is renamed into place whole; without a record it was tampered with.
    let record = record.filter(|it| it.this_boot);
    let slot = record.as_ref().map_or(NO_SLOT, |it| it.slot);
    let process = record.and_then(|it| it.process).filter(|it| it.lives());
    let keeper = kept.get(&slot).filter(|(_, pid)| process.is_some_and(|it| it.pid == *pid));
    let exit = if process.is_none() { Some(recorded_exit(host, slot)) } else { None };
    let guest = Guest {
        slot,
        keeper: keeper.map(|(keeper, _)| Arc::clone(keeper)),
        process,
        pidfd: process.and_then(Process::open),
        network: process.and_then(|it| open_namespace(it, "net").ok()),
        _mounts: process.and_then(|it| open_namespace(it, "mnt").ok()),
        entry,
        exit: Mutex::new(exit),
    };
    host.thaw_captured(&guest);
    let orphan = guest.process.is_some() && guest.keeper.is_none();
    let guest = host.enroll(id, guest);
    if orphan {
        watch(host, id, &guest);
    }
}

/// How the guest of `slot` ended, if its keeper wrote it down.
fn recorded_exit(host: &Host, slot: u32) -> Exit {
    let unknown = Exit { reason: ExitReason::Unknown, oom_kills: 0 };
    let Ok(bytes) = fs::read(host.exit_records().join(slot.to_string())) else { return unknown };
    match Event::decode(&bytes) {
        Ok(Event::Exited { ending, .. }) => exit_of(ending),
        _ => unknown,
    }
}

fn open_namespace(process: Process, name: &str) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/{}/ns/{name}", process.pid))?.into())
}

/// Waits for the end of a guest that no keeper watches.
pub(super) fn watch(host: &Host, id: SandboxId, guest: &Arc<Guest>) {
    let (Some(process), Some(handle)) = (guest.process, host.handle()) else { return };
    let Some(pidfd) = process.open() else {
        return tell_unknown(&handle, guest);
    };
    let (guest, name) = (Arc::clone(guest), format!("watch-{id}"));
    let spawned = std::thread::Builder::new().name(name).spawn(move || {
        let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
        while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
        tell_unknown(&handle, &guest);
    });
    if let Err(error) = spawned {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, sandbox.id = %id, "nobody watches a guest");
    }
}

/// How it ended went to init, who does not tell.
fn tell_unknown(host: &Host, guest: &Guest) {
    let oom_kills = host.cgroups.of(guest.slot).usage().map_or(0, |it| it.oom_kills);
    let ending = Ending { code: 9, signaled: true, cause: Cause::Own, oom_kills };
    let pid = guest.process.map_or(0, |it| it.pid);
    host.exited(&Exited { slot: guest.slot, pid, ending });
}

/// A blank of an earlier server ends by itself when its channel closes; this makes sure.
fn remove_blank(host: &Host, entry: PathBuf, record: Option<Record>) {
    match record {
        Some(record) if record.this_boot => host.remove_slot(record.slot, record.process, &entry),
        // Begun and not yet written: nothing but the directory exists.
        _ => host.remove_files(&entry),
    }
}

/// Removes what is named by a slot that no entry has: a server died between two steps.
fn remove_strays(host: &Arc<Host>) -> Result<(), RuntimeError> {
    host.remove_halves().map_err(RuntimeError::host("remove half snapshots"))?;
    let entries = host.journal.trash().map_err(RuntimeError::host("read the journal"))?;
    if !entries.is_empty() {
        let host = Arc::clone(host);
        // Files alone, which nobody waits for.
        let sweep = move || entries.iter().for_each(|entry| host.remove_files(entry));
        std::thread::Builder::new()
            .name("sweep".to_owned())
            .spawn(sweep)
            .map_err(RuntimeError::host("start a thread"))?;
    }
    let slots = host.guests().into_iter().map(|(_, guest)| guest.slot);
    let living: BTreeSet<u32> = slots.filter(|slot| *slot != NO_SLOT).collect();
    for slot in host.cgroups.slots() {
        if !living.contains(&slot) {
            host.remove_cgroup_of(slot);
        }
    }
    if let Some(net) = &host.net {
        let living: Vec<u32> = living.iter().copied().collect();
        net.reconcile(&living).map_err(RuntimeError::host("remove stray interfaces"))?;
    }
    host.remove_stray_sockets(&living);
    Ok(())
}
