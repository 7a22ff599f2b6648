//! From a name to a version, and from a version to what a sandbox needs.

use std::sync::Arc;

use super::{
    facade::Templates,
    model::{DEFAULT_TAG, Template, TemplateVersion},
};
use crate::{
    caller::{Caller, Owner},
    error::SandboxError,
    id::BuildId,
    plan::Base,
    sandbox::{History, Program},
    shared::Shared,
    spec::Limits,
};

impl Templates {
    /// The template of this id or name, and the version that its tag names.
    ///
    /// A name may have a project before it and a tag behind it: `project/name:tag`. Another
    /// project's template is found where it is public.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoTemplate`] where there is none, or it is somebody else's.
    pub fn resolve(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<(Arc<Template>, Arc<TemplateVersion>), SandboxError> {
        resolve(self.shared(), caller, text)
    }
}

/// As [`Templates::resolve`].
pub(crate) fn resolve(
    shared: &Shared,
    caller: &Caller,
    text: &str,
) -> Result<(Arc<Template>, Arc<TemplateVersion>), SandboxError> {
    let (name, tag) = text.split_once(':').unwrap_or((text, DEFAULT_TAG));
    let template = find(shared, caller, name)?;
    let build = match tag.parse::<BuildId>() {
        Ok(build) => Some(build),
        Err(_a_tag) => template.tags.get(tag).map(|tagged| tagged.build),
    };
    let version = template.versions.iter().find(|version| Some(version.build) == build).cloned();
    match version {
        Some(version) => Ok((template, version)),
        None if template.versions.is_empty() => Err(SandboxError::NoTemplate {
            name: format!("{name}: it has never been built with success"),
        }),
        None => {
            let known: Vec<_> = template.tags.keys().map(String::as_str).collect();
            let known = known.join(", ");
            Err(SandboxError::NoTemplate { name: format!("{name}:{tag}; its tags are: {known}") })
        }
    }
}

/// The template of this id or name that the caller may use.
pub(super) fn find(
    shared: &Shared,
    caller: &Caller,
    name: &str,
) -> Result<Arc<Template>, SandboxError> {
    let found = match (name.parse(), name.split_once('/')) {
        (Ok(id), _) => shared.templates.by_id(id),
        (_, Some((project, name))) => shared.templates.by_name(&Owner::new(project), name),
        (_, None) => shared.templates.by_name(caller.owner(), name),
    };
    found
        .filter(|template| template.public || template.owner == *caller.owner())
        .ok_or_else(|| SandboxError::NoTemplate { name: name.to_owned() })
}

/// The caller's own template of this id or name.
pub(super) fn find_own(
    shared: &Shared,
    caller: &Caller,
    name: &str,
) -> Result<Arc<Template>, SandboxError> {
    let template = find(shared, caller, name)?;
    match template.owner == *caller.owner() {
        true => Ok(template),
        false => Err(SandboxError::NoTemplate { name: name.to_owned() }),
    }
}

/// What a sandbox of a template gets where its request does not say, and what is started in it.
pub(crate) fn base(shared: &Shared, caller: &Caller, name: &str) -> Result<Base, SandboxError> {
    let (template, version) = resolve(shared, caller, name)?;
    let base = base_of(shared, &version);
    let history = History { template: Some(template.id), ..base.history };
    Ok(Base { history, ..base })
}

/// The same of one version.
pub(super) fn base_of(shared: &Shared, version: &TemplateVersion) -> Base {
    let TemplateVersion { image, config, limits, network, start, .. } = version;
    let defaults = &shared.config.defaults.limits;
    let limits = Limits {
        memory_bytes: limits.memory_bytes.unwrap_or(defaults.memory_bytes),
        cpu_millis: limits.cpu_millis.unwrap_or(defaults.cpu_millis),
        pids: limits.pids.unwrap_or(defaults.pids),
        open_files: defaults.open_files,
        disk_bytes: limits.disk_bytes.or(defaults.disk_bytes),
    };
    Base {
        env: config.env.clone(),
        user: config.user.clone(),
        workdir: config.workdir.clone(),
        limits: Some(limits),
        network: network.clone(),
        program: Program { command: Some(config.command()), start: start.clone() },
        ..Base::plain(image.clone())
    }
}
