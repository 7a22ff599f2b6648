//! What a template starts, tried once before there is a version of it.

use super::{Builder, Built, layer::StepSandbox};
use crate::{error::SandboxError, sandbox::Setup, templates::log::Level};

impl Builder {
    /// Starts what is to be started, in a sandbox that nobody sees, and waits until it is ready.
    /// A template that never gets ready is of no use to anybody: better told now than at a create.
    pub(super) async fn try_start(&self, built: &Built) -> Result<(), SandboxError> {
        let Some(start) = self.request.start.as_ref().filter(|_| self.request.try_start) else {
            return Ok(());
        };
        self.say(Level::Info, "Trying what is started in each sandbox");
        let (shared, config) = (self.shared(), &built.config);
        let defaults = &shared.config.defaults;
        let user = config.user.clone().unwrap_or_else(|| defaults.user.clone());
        let workdir = config.workdir.clone().unwrap_or_else(|| crate::plan::home(&user));
        let setup = Setup { env: config.env.clone(), image_env: Default::default(), user, workdir };
        let network = self.request.network.clone().unwrap_or_else(|| defaults.network.clone());
        let sandbox = StepSandbox::open(self, &built.image, setup, network).await?;
        crate::templates::start(shared, &sandbox.handle, start).await
    }
}
