//! Changes of what is in force: of one sandbox, and of what all have in common.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::PoisonError};

use rustix::io::Errno;
use warren_sys::netlink::{NetlinkError, nftables::Batch};

use super::{
    Policies, Policy, lock,
    place::{Force, Place},
    read, table,
};
use crate::net::{
    NetError,
    credentials::{Given, Needs},
    policy::GatePort,
    refused_with, unless,
};

/// Adds the ways that a sandbox has besides the usual: through the gate, and to the broker.
pub(super) fn add_ways(batch: &mut Batch<'_>, place: &Place, force: &Force) {
    table::send(batch, place.slot(), Needs::default(), force.gated());
    if force.brokered {
        table::let_to_broker(batch, place.slot(), true);
    }
}

impl Policies {
    /// Closes these addresses of the host, and no others of it.
    pub(in crate::net) fn set_host(&self, found: BTreeSet<Ipv4Addr>) -> Result<(), NetError> {
        let Some(host) = &self.host else { return Ok(()) };
        let operation = "close the host's own addresses";
        let mut socket = self.hold();
        let before = read(host).clone();
        if found == before {
            return Ok(());
        }
        let mut batch = Batch::new(&self.table);
        for gone in before.difference(&found) {
            batch.delete_key(table::OUTSIDE, &gone.octets());
        }
        for new in found.difference(&before) {
            batch.add_key(table::OUTSIDE, &new.octets());
        }
        // Where somebody has removed the table, it comes back with these.
        let applied = unless(batch.apply(&mut socket, operation), Errno::NOENT);
        applied.map_err(NetError::netlink(operation))?;
        *host.write().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }

    /// Adds to a batch that makes the table what sandboxes have; call it under [`Policies::hold`].
    pub(in crate::net) fn add_all(&self, batch: &mut Batch<'_>) {
        for address in self.host.iter().flat_map(|it| read(it).clone()) {
            batch.add_key(table::OUTSIDE, &address.octets());
        }
        self.add_services(batch);
        for place in self.all() {
            let force = place.force();
            if let Some(policy) = force.packets() {
                table::add(batch, &place, &policy, force.given.needs(), self.group());
                table::add_answers(batch, &place, &policy);
            }
            add_ways(batch, &place, &force);
        }
    }

    /// Adds what the host serves sandboxes at the gateway's address.
    pub(super) fn add_services(&self, batch: &mut Batch<'_>) {
        if let Some(gate) = *lock(&self.gate) {
            table::add_gate(batch, self.gateway, gate);
        }
        table::set_broker(batch, self.gateway, *lock(&self.broker));
    }

    /// Changes what a sandbox may reach; none for everything. In force when this returns, and in
    /// force as before on an error.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn set(&self, slot: u32, policy: Option<Policy>) -> Result<(), NetError> {
        self.change(slot, |force| force.policy = policy)
    }

    /// Changes what requests of a sandbox are given, as [`Policies::set`] does its rules.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn give(&self, slot: u32, given: Given) -> Result<(), NetError> {
        self.change(slot, |force| force.given = given)
    }

    /// What requests of a sandbox are given.
    #[must_use]
    pub fn given(&self, slot: u32) -> Given {
        self.read().get(&slot).map(|place| place.given()).unwrap_or_default()
    }

    fn change(&self, slot: u32, change: impl FnOnce(&mut Force)) -> Result<(), NetError> {
        let operation = "change the rules of a sandbox";
        let place = self.place(slot);
        let mut socket = self.hold();
        let before = place.force();
        let mut after = before.clone();
        change(&mut after);
        let mut batch = Batch::new(&self.table);
        let (was, is) = (before.packets(), after.packets());
        let needs = [before.given.needs(), after.given.needs()];
        // Under the same mark answers are there.
        let mark = |policy: &Option<Policy>| policy.as_ref().map(|it| it.mark);
        let fresh = mark(&was) != mark(&is);
        let mut opened = Vec::new();
        // What is given alone may change, and not what has to go through the gate for it.
        if was != is || needs[0] != needs[1] {
            match &is {
                Some(policy) => table::add(&mut batch, &place, policy, needs[1], self.group()),
                None => table::remove(&mut batch, &place),
            }
            if fresh && let Some(policy) = &is {
                table::add_answers(&mut batch, &place, policy);
            }
            table::send(&mut batch, slot, before.gated(), after.gated());
            if let Err(error) = batch.apply(&mut socket, operation) {
                if matches!(error, NetlinkError::Socket { .. }) {
                    self.undo(&mut socket, &place, &before, &after);
                }
                return Err(NetError::netlink(operation)(error));
            }
            if fresh && let Some(policy) = &was {
                opened = table::opened(&place, policy);
            }
        }
        place.set(after);
        if fresh && let Some(policy) = &is {
            self.open_rest(&mut socket, &place, policy);
        }
        // Nothing matches them any more: they only take room.
        self.close(&mut socket, &opened);
        drop(socket);
        place.tell();
        Ok(())
    }

    /// Forgets a sandbox; its slot may be another's then.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn forget(&self, slot: u32) -> Result<(), NetError> {
        let Some(place) = self.read().get(&slot).cloned() else { return Ok(()) };
        let unbrokered = self.let_to_broker(slot, false);
        let removed = self.change(slot, |force| *force = Force::default()).and(unbrokered);
        self.write().remove(&slot);
        place.close();
        match removed {
            // Somebody removed the table; it comes back without this one.
            Err(NetError::Netlink { source, .. }) if refused_with(&source, Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    /// Has TCP to 80 and 443 of sandboxes whose rules name domains sent to the gate; none to have it
    /// refused.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub(in crate::net) fn set_gate(&self, gate: Option<GatePort>) -> Result<(), NetError> {
        let operation = "send connections of sandboxes to the gate";
        let mut socket = self.hold();
        let mut batch = Batch::new(&self.table);
        table::flush_gate(&mut batch);
        if let Some(gate) = gate {
            table::add_gate(&mut batch, self.gateway, gate);
        }
        batch.apply(&mut socket, operation).map_err(NetError::netlink(operation))?;
        *lock(&self.gate) = gate;
        Ok(())
    }

    /// Lets a sandbox connect to the broker of git, or no longer.
    ///
    /// # Errors
    ///
    /// [`NetError`]: it reaches what it reached before.
    pub fn let_to_broker(&self, slot: u32, there: bool) -> Result<(), NetError> {
        let operation = "let a sandbox connect to the broker of git";
        let place = self.place(slot);
        let mut socket = self.hold();
        let before = place.force();
        if before.brokered == there {
            return Ok(());
        }
        let mut batch = Batch::new(&self.table);
        table::let_to_broker(&mut batch, slot, there);
        batch.apply(&mut socket, operation).map_err(NetError::netlink(operation))?;
        place.set(Force { brokered: there, ..before });
        Ok(())
    }

    /// Has the broker of git at this port of the gateway, for the sandboxes that are let to it; none
    /// to let nobody connect to anything there.
    ///
    /// # Errors
    ///
    /// [`NetError`]: they reach what they reached before.
    pub(in crate::net) fn set_broker(&self, port: Option<u16>) -> Result<(), NetError> {
        let operation = "let sandboxes connect to the broker of git";
        let mut socket = self.hold();
        let mut batch = Batch::new(&self.table);
        table::set_broker(&mut batch, self.gateway, port);
        batch.apply(&mut socket, operation).map_err(NetError::netlink(operation))?;
        *lock(&self.broker) = port;
        Ok(())
    }
}
