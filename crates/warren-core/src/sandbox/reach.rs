//! What a sandbox may reach and what it needs for that, changed while it runs.

use std::{collections::BTreeMap, sync::Arc};

use super::{Sandbox, driver::Driver};
use crate::{error::SandboxError, events::EventKind, spec::Network, state::State};

impl Driver {
    /// Changes what the sandbox may reach; of a stopped one, from its next start on.
    pub(super) async fn set_network(
        &mut self,
        network: Network,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        let Sandbox { id, state, kept, .. } = self.sandbox;
        match state {
            State::Running | State::Paused => {
                let set = self.shared.runtime.set_network(&id, &network).await;
                set.map_err(SandboxError::runtime("change the rules of the network"))?;
            }
            State::Stopped if kept => {}
            state => return Err(SandboxError::NotRunning { id, state }),
        }
        self.sandbox.spec.network = network;
        self.publish();
        self.save([EventKind::NetworkChanged]);
        // Whoever was told of narrower rules must not find the wider ones after a crash.
        let stored = self.shared.store.flush().await;
        stored.map_err(SandboxError::store("store the rules of the network"))?;
        Ok(self.published())
    }

    /// Adds variables to those of its commands, where they are not set: to those that begin from
    /// now on.
    pub(super) async fn equip(
        &mut self,
        variables: BTreeMap<String, String>,
    ) -> Result<(), SandboxError> {
        let Sandbox { id, state, .. } = self.sandbox;
        if state != State::Running {
            return Err(SandboxError::NotRunning { id, state });
        }
        let before = self.sandbox.setup.env.len();
        for (name, value) in variables {
            self.sandbox.setup.env.entry(name).or_insert(value);
        }
        if self.sandbox.setup.env.len() == before {
            return Ok(());
        }
        self.publish();
        self.save([]);
        let told = self.guest.initialise(&self.sandbox.setup).await;
        told.map_err(|error| error.for_caller(id))
    }

    /// Tells the runtime again what an adopted guest may reach: the server before this may have
    /// died between the change and its row.
    pub(super) async fn restore_network(&self) {
        let Sandbox { id, spec, .. } = &self.sandbox;
        if !self.shared.runtime.capabilities().network_rules {
            return;
        }
        if let Err(error) = self.shared.runtime.set_network(id, &spec.network).await {
            self.complain("the rules of its network are not those that are stored", &error);
        }
    }
}
