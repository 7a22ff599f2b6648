//! Sandboxes of a template that wait started and ready, and layers that nobody needs any more.

use super::{
    model::{DEFAULT_TAG, Template},
    resolve::base_of,
};
use crate::{
    Caller, Sandboxes,
    error::SandboxError,
    images::{Held, ImageConfig},
    plan::Plan,
    pool::{self, Kind},
    sandbox::Wanted,
    shared::Shared,
    spec::{Image, OciImage},
};

use super::model::TemplateConfig;

impl Sandboxes {
    /// Has as many sandboxes of a template wait as it wants.
    pub(super) async fn warm_up_template(&self, template: &Template) {
        let kind = match template.warm {
            0 => None,
            warm => self.kind_of(template).map(|kind| (kind, warm as usize)),
        };
        self.provide_warm(template, kind).await;
    }

    /// Has so many of a kind wait for a template, and removes what waits in vain.
    pub(super) async fn provide_warm(&self, template: &Template, kind: Option<(Kind, usize)>) {
        for handle in self.shared.pool.provide(template.id, kind) {
            pool::remove(&handle).await;
        }
    }

    /// What somebody gets who asks for nothing but this template.
    fn kind_of(&self, template: &Template) -> Option<Kind> {
        let build = template.tags.get(DEFAULT_TAG)?.build;
        let version = template.versions.iter().find(|version| version.build == build)?;
        let base = base_of(&self.shared, version);
        let caller = Caller::remote(template.owner.clone());
        match Plan::new(Wanted::default(), base, &caller, &self.shared.config) {
            Ok(Plan { spec, setup, program, .. }) => {
                Some(Kind { spec, setup, program, template: Some(template.id) })
            }
            Err(error) => {
                tracing::warn!(template.id = %template.id, %error, "none of it can wait");
                None
            }
        }
    }

    /// Has sandboxes of all templates wait that want it; at the start of a server.
    pub(crate) async fn warm_up_templates(&self) {
        for template in self.shared.templates.every() {
            self.warm_up_template(&template).await;
        }
    }

    /// Refuses an image that this caller may not name, or that nobody could.
    pub(super) fn check_image(&self, caller: &Caller, image: &Image) -> Result<(), SandboxError> {
        crate::plan::check_image(image)?;
        match image {
            Image::Directory(_) | Image::Archive(_) if !self.shared.config.host_images_for_all => {
                caller.require_host("name files of this machine as an image")
            }
            _ => Ok(()),
        }
    }

    /// The image as it is now, what it says about commands in it, and what keeps it.
    pub(super) async fn pin_image(
        &self,
        caller: &Caller,
        image: Image,
    ) -> Result<(Image, TemplateConfig, Option<Held>), SandboxError> {
        let Image::Oci(OciImage { reference, .. }) = image else {
            return Ok((image, TemplateConfig::default(), None));
        };
        let held = self.images()?.acquire(caller, &reference).await?;
        let ImageConfig { env, user, workdir, entrypoint, cmd, labels, ports } =
            held.image.config.clone();
        // What an image leaves open is root's.
        let user = user.or_else(|| Some("root".to_owned()));
        let workdir = workdir.or_else(|| Some("/".to_owned()));
        let config = TemplateConfig { env, user, workdir, entrypoint, cmd, labels, ports };
        let id = Some(held.image.id.to_string());
        Ok((Image::Oci(OciImage { reference, id }), config, Some(held)))
    }
}

impl Shared {
    /// Removes layers, soon, that no sandbox and nothing of a template needs.
    pub(super) fn collect_layers(&self) {
        self.snapshots.look_again();
    }
}
