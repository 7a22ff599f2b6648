//! Removing interfaces, together with whoever else removes some.
//!
//! Removing an interface waits for the kernel's readers, 20 ms or more, however many go at once. So
//! callers that come while a removal runs are collected, and the first of them removes for all.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use warren_sys::netlink::{NetlinkError, Socket, route};

use super::{Errno, NetError, interface_name, rules::Groups, unless, worker::Workers};

const OPERATION: &str = "remove interfaces";

/// The removals of one instance.
#[derive(Debug)]
pub(super) struct Removal {
    groups: Groups,
    queue: Mutex<Queue>,
    finished: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Slots of the batch that is being collected.
    waiting: Vec<u32>,
    /// Number of that batch.
    collecting: u64,
    /// Batches below this number are finished.
    finished: u64,
    /// Somebody is at work on a batch.
    busy: bool,
}

impl Removal {
    pub(super) fn new(groups: Groups) -> Self {
        Self { groups, queue: Mutex::default(), finished: Condvar::new() }
    }

    /// Removes the interfaces of these slots that are there; returns when they are gone.
    pub(super) fn remove(&self, workers: &Workers, slots: &[u32]) -> Result<(), NetError> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut queue = self.queue();
        queue.waiting.extend_from_slice(slots);
        let batch = queue.collecting;
        while queue.busy && queue.finished <= batch {
            queue = self.finished.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.finished > batch {
            drop(queue);
            // The one who removed for all may have failed; what is left is this caller's own.
            return self.remove_now(workers, slots.to_vec());
        }
        queue.busy = true;
        queue.collecting += 1;
        let all = std::mem::take(&mut queue.waiting);
        drop(queue);
        let result = self.remove_now(workers, all);
        let mut queue = self.queue();
        queue.busy = false;
        queue.finished = batch + 1;
        drop(queue);
        self.finished.notify_all();
        result
    }

    fn remove_now(&self, workers: &Workers, slots: Vec<u32>) -> Result<(), NetError> {
        let groups = self.groups;
        workers
            .run(OPERATION, move |_home| {
                let mut socket = Socket::route()?;
                remove_together(&mut socket, groups, &slots)
            })?
            .map_err(NetError::netlink(OPERATION))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves the interfaces into a group and removes the group.
fn remove_together(socket: &mut Socket, groups: Groups, slots: &[u32]) -> Result<(), NetlinkError> {
    let mut found = false;
    for slot in slots {
        let doom = route::set_link_group(&interface_name(*slot), groups.doomed);
        match socket.transact(OPERATION, &mut [doom]) {
            Ok(()) => found = true,
            absent => unless(absent, Errno::NODEV)?,
        }
    }
    if !found {
        return Ok(());
    }
    let removed = socket.transact(OPERATION, &mut [route::delete_link_group(groups.doomed)]);
    unless(removed, Errno::NODEV) // its namespace went meanwhile
}
