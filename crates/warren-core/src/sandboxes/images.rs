//! The images that sandboxes are made from.

use crate::{error::SandboxError, images::Images, sandbox::handle::Handle};

use super::Sandboxes;

impl Sandboxes {
    /// The images of this server.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Unsupported`] where the runtime takes none.
    pub fn images(&self) -> Result<Images, SandboxError> {
        Images::of(&self.shared)
    }

    /// The command that the template or the image of a sandbox names; empty where it names none.
    pub(super) fn command_of_image(&self, handle: &Handle) -> Vec<String> {
        let sandbox = handle.sandbox();
        if let Some(command) = &sandbox.program.command {
            return command.clone();
        }
        let held = self.images().ok().and_then(|images| images.of_spec(&sandbox.spec.image));
        held.map(|held| held.image.config.command()).unwrap_or_default()
    }
}
