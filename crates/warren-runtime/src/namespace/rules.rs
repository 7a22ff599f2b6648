//! What guests may reach and what their requests are given: for new ones, changed, explained,
//! counted.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use warren_core::{
    credentials::Granted,
    egress::{Explanation, Question, Reason},
    id::SandboxId,
    runtime::{RuntimeError, RuntimeEvent, Traffic},
    spec,
};

use super::host::{Guest, Host};
use crate::{
    journal::{Journal, Record},
    net::{
        credentials::{Given, Needs},
        policy::{Before, Policy},
    },
};

/// What guests that an earlier server left are held to.
pub(super) fn before(journal: &Journal) -> Vec<Before> {
    let sandboxes = match journal.sandboxes() {
        Ok(sandboxes) => sandboxes,
        Err(error) => {
            tracing::error!(%error, "the rules of sandboxes cannot be found");
            return Vec::new();
        }
    };
    let rules = |(_, entry, record): (SandboxId, PathBuf, Option<Record>)| {
        let record = record.filter(|it| it.this_boot)?;
        let before =
            Before { slot: record.slot, policy: Policy::load(&entry), needs: Needs::load(&entry) };
        Some(before).filter(|it| it.policy.is_some() || it.needs.any())
    };
    sandboxes.into_iter().filter_map(rules).collect()
}

impl Host {
    /// Passes on what guests are denied.
    pub(super) fn follow_denials(self: &Arc<Self>) {
        let Some(net) = &self.net else { return };
        let me = Arc::downgrade(self);
        net.policies().on_denied(move |slot, denial| {
            let Some(host) = me.upgrade() else { return };
            if let Some(id) = host.id_of(slot) {
                // Without a listener there is nobody to tell.
                drop(host.events.send(RuntimeEvent::Denied { id, denial }));
            }
        });
    }

    /// Gives a guest that does not run yet its rules.
    pub(super) fn give_rules(
        &self,
        slot: u32,
        netns: BorrowedFd<'_>,
        entry: &Path,
        network: &spec::Network,
    ) -> Result<(), RuntimeError> {
        match network {
            spec::Network::Rules(_) => self.set_rules(slot, netns, entry, network),
            // As it is made.
            spec::Network::Open | spec::Network::None => Ok(()),
        }
    }

    /// Changes what a guest may reach. What is to be is written down first: should the server end
    /// in between, the next one does it.
    fn set_rules(
        &self,
        slot: u32,
        netns: BorrowedFd<'_>,
        entry: &Path,
        network: &spec::Network,
    ) -> Result<(), RuntimeError> {
        let failed = "change the rules of the network";
        let unsupported = RuntimeError::Unsupported { operation: "give sandboxes a network" };
        let Some(net) = &self.net else { return Err(unsupported) };
        let policy = Policy::of(network).map_err(RuntimeError::host(failed))?;
        let before = net.policies().policy(slot);
        let same = |before: &Policy| policy.as_ref().is_some_and(|it| it.egress == before.egress);
        if before.as_ref().map_or(policy.is_none(), same) {
            return Ok(());
        }
        Policy::store(policy.as_ref(), entry).map_err(RuntimeError::host(failed))?;
        let set = net.set_policy(slot, policy, netns);
        if set.is_err() {
            let stored = Policy::store(net.policies().policy(slot).as_ref(), entry);
            stored.map_err(RuntimeError::host(failed))?;
        }
        set.map_err(RuntimeError::host(failed))
    }

    /// Changes what a running guest may reach.
    pub(super) fn change_network(
        &self,
        id: &SandboxId,
        guest: &Guest,
        network: &spec::Network,
    ) -> Result<(), RuntimeError> {
        let netns = guest.network.as_ref().ok_or(RuntimeError::NotFound { id: *id })?;
        if !self.has_interface(guest)? {
            return match network {
                spec::Network::None => Ok(()),
                _ => Err(RuntimeError::Unsupported {
                    operation: "give a network to a sandbox that runs without one; stop it first",
                }),
            };
        }
        self.set_rules(guest.slot, netns.as_fd(), &guest.entry, network)
    }

    /// Lets a guest connect to the broker of git.
    pub(super) fn let_to_broker(&self, guest: &Guest) -> Result<(), RuntimeError> {
        let Some(net) = &self.net else { return Ok(()) };
        let failed = "let the sandbox connect to the broker of git";
        net.policies().let_to_broker(guest.slot, true).map_err(RuntimeError::host(failed))
    }

    /// Changes what requests of a running guest are given. What has to go through the gate for it
    /// is written down before it does: should the server end in between, nothing goes around it.
    pub(super) fn give(
        &self,
        id: &SandboxId,
        guest: &Guest,
        granted: &Granted,
    ) -> Result<Option<String>, RuntimeError> {
        let failed = "set credentials on requests";
        let Some(net) = &self.net else {
            return Err(RuntimeError::Unsupported { operation: failed });
        };
        if guest.network.is_none() {
            return Err(RuntimeError::NotFound { id: *id });
        }
        let given = Given::new(granted, id, &guest.entry).map_err(RuntimeError::host(failed))?;
        let certificate = given.certificate();
        let (before, after) = (net.policies().given(guest.slot).needs(), given.needs());
        let both = Needs { web: before.web || after.web, all: before.all || after.all };
        both.store(&guest.entry).map_err(RuntimeError::host(failed))?;
        let set = net.give(guest.slot, given);
        let now = net.policies().given(guest.slot).needs();
        now.store(&guest.entry).map_err(RuntimeError::host(failed))?;
        set.map_err(RuntimeError::host(failed))?;
        Ok(certificate)
    }

    fn has_interface(&self, guest: &Guest) -> Result<bool, RuntimeError> {
        Ok(self.traffic(guest)?.is_some())
    }

    /// What went over a guest's network; none where it has none.
    pub(super) fn traffic(&self, guest: &Guest) -> Result<Option<Traffic>, RuntimeError> {
        let Some(net) = &self.net else { return Ok(None) };
        net.traffic(guest.slot).map_err(RuntimeError::host("read the guest's traffic"))
    }

    /// Why a guest reaches something, or does not: what its policy says, and what is closed besides
    /// so that nothing passes by what its requests are given.
    pub(super) fn explain(
        &self,
        guest: &Guest,
        network: &spec::Network,
        question: &Question,
    ) -> Explanation {
        let said = self.explain_policy(guest, network, question);
        let Some(net) = self.net.as_ref().filter(|_| said.allowed) else { return said };
        if net.policies().given(guest.slot).needs().close(question.protocol, question.port) {
            return Explanation { allowed: false, reason: Reason::PassesBy };
        }
        said
    }

    /// What the policy says. A name is explained by the addresses that were answered for it, where
    /// there are any that matter.
    fn explain_policy(
        &self,
        guest: &Guest,
        network: &spec::Network,
        question: &Question,
    ) -> Explanation {
        let said = network.explain(question);
        let Some(net) = &self.net else { return said };
        if let Some((address, what)) =
            question.address.and_then(|it| Some((it, net.policies().closed(it)?)))
        {
            if !net.policies().is_granted(address) {
                return Explanation { allowed: false, reason: Reason::Reserved(what) };
            }
            return match network {
                // The operator lets it be reached, the rules need not.
                spec::Network::Rules(egress) => egress.explain(question),
                spec::Network::Open => Explanation { allowed: true, reason: Reason::Operator },
                spec::Network::None => Explanation { allowed: false, reason: Reason::NoNetwork },
            };
        }
        let name = question.name.as_deref().filter(|_| said.reason == Reason::Otherwise);
        let answered = name.map(|name| net.policies().answered(guest.slot, name));
        let by_address = answered.into_iter().flatten().map(|address| {
            network.explain(&Question { address: Some(address), ..question.clone() })
        });
        by_address.into_iter().find(|it| it.reason != Reason::Otherwise).unwrap_or(said)
    }

    pub(super) fn id_of(&self, slot: u32) -> Option<SandboxId> {
        self.guests().into_iter().find(|(_, guest)| guest.slot == slot).map(|(id, _)| id)
    }
}
