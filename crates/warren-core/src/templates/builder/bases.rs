//! What a stage can stand on.

use std::sync::PoisonError;

use super::{Builder, Built, key::Key};
use crate::{
    error::SandboxError,
    spec::{Image, OciImage},
    templates::{
        model::{TemplateConfig, TemplateVersion},
        resolve,
    },
};

/// What commands are run by where nothing else is said.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl Builder {
    /// Nothing at all.
    pub(super) fn empty(&self) -> Result<Built, SandboxError> {
        let image = self.templates.files()?.empty();
        Ok(built(image, TemplateConfig::default()))
    }

    /// An image or a template by its name: `host`, `template:NAME`, `dir:PATH`, `tar:PATH`, or an
    /// OCI reference.
    pub(super) async fn base(&self, name: &str) -> Result<Built, SandboxError> {
        if let Some(template) = name.strip_prefix("template:") {
            let (_, version) = resolve::resolve(self.shared(), &self.caller, template)?;
            let TemplateVersion { image, config, .. } = &*version;
            // Its layers stay for as long as this runs, whatever becomes of the template.
            self.hold(image.layers())?;
            return Ok(built(image.clone(), config.clone()));
        }
        let image = match name {
            "host" => Image::Host,
            _ => match (name.strip_prefix("dir:"), name.strip_prefix("tar:")) {
                (Some(path), _) => Image::Directory(path.into()),
                (_, Some(path)) => Image::Archive(path.into()),
                _ => Image::Oci(OciImage { reference: name.to_owned(), id: None }),
            },
        };
        self.templates.sandboxes.check_image(&self.caller, &image)?;
        let pinned = self.templates.sandboxes.pin_image(&self.caller, image).await?;
        let (image, config, held) = pinned;
        self.images.lock().unwrap_or_else(PoisonError::into_inner).extend(held);
        Ok(built(image, config))
    }
}

fn built(image: Image, config: TemplateConfig) -> Built {
    let key = match &image {
        // The same image has many names.
        Image::Oci(OciImage { id: Some(id), .. }) => Key::new("oci").with(id),
        other => Key::new("base").with(&format!("{other:?}")),
    };
    let shell = SHELL.map(str::to_owned).to_vec();
    Built { image, config, key: key.finish(), shell, bytes: 0 }
}
