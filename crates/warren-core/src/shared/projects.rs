//! The projects of the registry: who there is, what each may have and has.

use std::collections::{HashMap, HashSet};

use super::Shared;
use crate::{
    access::{self, KeyScope, Project, ProjectName, ProjectQuota, StoredKey},
    caller::Owner,
    clock::Timestamp,
    error::SandboxError,
    quota::InUse,
    spec::Limits,
};

/// Every project by its name.
#[derive(Debug, Default)]
pub(super) struct Projects {
    known: HashMap<Owner, Entry>,
    /// Names of projects that are being made or removed: nobody else may take them meanwhile.
    reserved: HashSet<Owner>,
}

#[derive(Debug, Default)]
struct Entry {
    /// None for one that is not stored, but has sandboxes all the same.
    name: Option<ProjectName>,
    created_at: Timestamp,
    quota: ProjectQuota,
    in_use: InUse,
    keys: u32,
}

impl Projects {
    /// What a project has and may have, to admit one more sandbox to it.
    pub(super) fn admitting(
        &mut self,
        owner: &Owner,
    ) -> Result<(&mut InUse, &ProjectQuota), SandboxError> {
        let entry = self.known.get_mut(owner).ok_or_else(|| missing(owner.as_str()))?;
        Ok((&mut entry.in_use, &entry.quota))
    }

    /// Counts a sandbox that exists already.
    pub(super) fn readmit(&mut self, owner: &Owner, limits: &Limits) {
        self.known.entry(owner.clone()).or_default().in_use.adopt(limits);
    }

    /// Counts one sandbox less.
    pub(super) fn release(&mut self, owner: &Owner, limits: &Limits) {
        if let Some(entry) = self.known.get_mut(owner) {
            entry.in_use.release(limits);
        }
    }

    fn entry(&mut self, name: &ProjectName) -> Result<&mut Entry, SandboxError> {
        self.known.get_mut(&name.owner()).ok_or_else(|| missing(name.as_str()))
    }
}

impl Entry {
    fn shown(&self) -> Option<Project> {
        Some(Project {
            name: self.name.clone()?,
            created_at: self.created_at,
            quota: self.quota,
            sandboxes: self.in_use.sandboxes(),
            memory_bytes: self.in_use.memory_bytes(),
            keys: self.keys,
        })
    }
}

impl Shared {
    /// Remembers the projects and keys that were stored.
    pub(crate) fn restore_access(&self, projects: Vec<Project>, keys: Vec<StoredKey>) {
        for project in &projects {
            self.settle_project(project, true);
        }
        for key in keys {
            if let KeyScope::Project(name) = &key.key.scope
                && self.count_api_key(name).is_err()
            {
                tracing::error!(key.id = %key.key.id, "a key of a project that is not there");
                continue;
            }
            self.api_keys.insert(key);
        }
    }

    /// Every project, by name.
    pub(crate) fn projects(&self) -> Vec<Project> {
        let mut all: Vec<_> =
            self.lock().projects.known.values().filter_map(Entry::shown).collect();
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// One project.
    pub(crate) fn project(&self, name: &ProjectName) -> Result<Project, SandboxError> {
        let shown = self.lock().projects.entry(name)?.shown();
        shown.ok_or_else(|| missing(name.as_str()))
    }

    /// Holds the name of a project that is to be made, until it is settled.
    pub(crate) fn reserve_project(&self, name: &ProjectName) -> Result<(), SandboxError> {
        let owner = name.owner();
        let projects = &mut self.lock().projects;
        if projects.known.contains_key(&owner) || !projects.reserved.insert(owner) {
            return Err(SandboxError::ProjectExists { name: name.to_string() });
        }
        Ok(())
    }

    /// Makes a project known, or its name free.
    pub(crate) fn settle_project(&self, project: &Project, exists: bool) {
        let owner = project.name.owner();
        let projects = &mut self.lock().projects;
        projects.reserved.remove(&owner);
        if exists {
            let entry = projects.known.entry(owner).or_default();
            entry.name = Some(project.name.clone());
            entry.created_at = project.created_at;
            entry.quota = project.quota;
        }
    }

    /// Takes a project out that has nothing; its name is held until it is settled.
    pub(crate) fn take_project(&self, name: &ProjectName) -> Result<Project, SandboxError> {
        let owner = name.owner();
        let snapshots = self.snapshots.of(&owner).len();
        let registry = &mut *self.lock();
        let project = registry.projects.entry(name)?.shown();
        let project = project.ok_or_else(|| missing(name.as_str()))?;
        let in_use = |reason: String| SandboxError::ProjectInUse { name: name.to_string(), reason };
        if name.as_str() == access::DEFAULT {
            return Err(in_use("is always there".to_owned()));
        }
        let volumes = self.volumes.count(&owner);
        if volumes > 0 {
            return Err(in_use(format!("has {volumes} volumes")));
        }
        let secrets = self.secrets.count(&owner);
        if secrets > 0 {
            return Err(in_use(format!("has {secrets} secrets")));
        }
        let domains = self.domains.of(&owner).len();
        if domains > 0 {
            return Err(in_use(format!("has {domains} domains")));
        }
        let handles = registry.handles.values();
        let sandboxes = handles.filter(|handle| handle.sandbox().owner == owner).count();
        let sandboxes = sandboxes.max(project.sandboxes as usize);
        if snapshots > 0 {
            return Err(in_use(format!("has {snapshots} snapshots")));
        }
        if sandboxes > 0 {
            let reason = format!("has {sandboxes} sandboxes, those that ended included");
            return Err(in_use(reason));
        }
        if project.keys > 0 {
            return Err(in_use(format!("has {} keys", project.keys)));
        }
        registry.projects.known.remove(&owner);
        registry.projects.reserved.insert(owner);
        Ok(project)
    }

    pub(crate) fn set_project_quota(
        &self,
        name: &ProjectName,
        quota: ProjectQuota,
    ) -> Result<Project, SandboxError> {
        let registry = &mut *self.lock();
        let entry = registry.projects.entry(name)?;
        entry.quota = quota;
        entry.shown().ok_or_else(|| missing(name.as_str()))
    }

    /// Counts a key of a project, which cannot be removed from then on.
    pub(crate) fn count_api_key(&self, name: &ProjectName) -> Result<(), SandboxError> {
        self.lock().projects.entry(name)?.keys += 1;
        Ok(())
    }

    pub(crate) fn discount_api_key(&self, scope: &KeyScope) {
        if let KeyScope::Project(name) = scope
            && let Ok(entry) = self.lock().projects.entry(name)
        {
            entry.keys = entry.keys.saturating_sub(1);
        }
    }
}

fn missing(name: &str) -> SandboxError {
    SandboxError::NoSuchProject { name: name.to_owned() }
}
