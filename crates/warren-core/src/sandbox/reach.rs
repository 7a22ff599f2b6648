//! What a sandbox may reach, changed while it runs.

use std::sync::Arc;

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
