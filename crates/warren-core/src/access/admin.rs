//! What the host may do with projects, keys and the database.
//!
//! Each change is decided in memory, written and synced, and only then made known. It is done by a
//! task of its own, so that a caller who leaves in the middle leaves nothing half-made.

use std::{sync::Arc, time::Duration};

use super::{
    ApiKey, KeyRefused, KeyScope, Project, ProjectName, ProjectQuota, Secret, StoredKey, WantedKey,
    secret::KeyHash,
};
use crate::{Caller, SandboxError, Sandboxes, id::KeyId, shared::Shared, store::AccessChange};

pub use crate::store::Backup;

/// How long a key may live at most: a hundred years, so that every moment can be written down.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Whom a key stands for.
#[derive(Clone, Debug)]
pub enum Authenticated {
    /// A caller in the key's project.
    Caller(Caller),
    /// Nobody who may do anything but read the server's metrics.
    Metrics(KeyId),
}

impl Sandboxes {
    /// Whom this key stands for. Looks into memory alone.
    ///
    /// # Errors
    ///
    /// [`KeyRefused`].
    pub fn authenticate(&self, presented: &str) -> Result<Authenticated, KeyRefused> {
        let now = self.shared.clock.now();
        let opened = self.shared.api_keys.open(KeyHash::of(presented)?, now)?;
        if opened.note_use {
            self.shared.store.note_use(opened.id, now);
        }
        Ok(match opened.scope {
            KeyScope::Project(name) => {
                Authenticated::Caller(Caller::with_key(name.owner(), opened.id))
            }
            KeyScope::Metrics => Authenticated::Metrics(opened.id),
        })
    }

    /// The caller, acting in the project of this name.
    ///
    /// # Errors
    ///
    /// [`SandboxError::OtherProject`] for a caller who is bound to another one,
    /// [`SandboxError::NoSuchProject`] for a host caller when there is none.
    pub fn in_project(&self, caller: &Caller, name: &str) -> Result<Caller, SandboxError> {
        if caller.owner().as_str() == name {
            return Ok(caller.clone());
        }
        if !caller.is_host() {
            return Err(SandboxError::OtherProject);
        }
        let name = project_name(name)?;
        self.shared.project(&name)?;
        Ok(Caller::in_project(name.owner()))
    }

    /// Makes a key. The secret is in the answer and never again anywhere.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`] for all but host callers, [`SandboxError::Invalid`],
    /// [`SandboxError::NoSuchProject`], [`SandboxError::Store`]; there is no key then.
    pub async fn create_key(
        &self,
        caller: &Caller,
        wanted: WantedKey,
    ) -> Result<(ApiKey, Secret), SandboxError> {
        caller.require_host("make keys")?;
        check_name(&wanted.name)?;
        let now = self.shared.clock.now();
        let expires_at = match wanted.lifetime {
            None => None,
            Some(length) if (Duration::from_secs(1)..=LONGEST).contains(&length) => {
                Some(now + length)
            }
            Some(_) => {
                let expected = "expected 1 second to 100 years";
                return Err(SandboxError::invalid("expires_in_seconds", expected));
            }
        };
        let secret = Secret::mint();
        let key = ApiKey {
            id: KeyId::mint(),
            name: wanted.name,
            scope: wanted.scope,
            prefix: secret.prefix(),
            created_at: now,
            expires_at,
            last_used_at: None,
        };
        let stored = StoredKey { key: key.clone(), hash: secret.hash() };
        self.finish(|shared| async move {
            if let KeyScope::Project(name) = &stored.key.scope {
                shared.count_api_key(name)?;
            }
            let written = shared.store.change_access(AccessChange::AddKey(stored.clone())).await;
            match written {
                Ok(()) => shared.api_keys.insert(stored),
                Err(error) => {
                    shared.discount_api_key(&stored.key.scope);
                    return Err(SandboxError::store("store the key")(error));
                }
            }
            Ok(())
        })
        .await?;
        Ok((key, secret))
    }

    /// Every key, oldest first.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`] for all but host callers.
    pub fn keys(&self, caller: &Caller) -> Result<Vec<ApiKey>, SandboxError> {
        caller.require_host("list keys")?;
        Ok(self.shared.api_keys.all())
    }

    /// Calls a key something else.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`] for all but host callers, [`SandboxError::Invalid`],
    /// [`SandboxError::NoSuchKey`], [`SandboxError::Store`].
    pub async fn rename_key(
        &self,
        caller: &Caller,
        id: &str,
        name: &str,
    ) -> Result<(), SandboxError> {
        caller.require_host("rename keys")?;
        check_name(name)?;
        let found = id.parse().ok().and_then(|id| self.shared.api_keys.get(id));
        let key = found.ok_or_else(|| SandboxError::NoSuchKey { name: id.to_owned() })?;
        let name = name.to_owned();
        self.finish(|shared| async move {
            let change = AccessChange::RenameKey(key.id, name.clone());
            let renamed = shared.store.change_access(change).await;
            renamed.map_err(SandboxError::store("rename the key"))?;
            shared.api_keys.rename(key.id, &name);
            Ok(())
        })
        .await
    }

    /// Removes a key: it opens nothing once this returns.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`] for all but host callers, [`SandboxError::NoSuchKey`],
    /// [`SandboxError::Store`] when it could not be removed and still holds.
    pub async fn revoke_key(&self, caller: &Caller, id: &str) -> Result<(), SandboxError> {
        caller.require_host("revoke keys")?;
        let missing = || SandboxError::NoSuchKey { name: id.to_owned() };
        let found = id.parse().ok().and_then(|id| self.shared.api_keys.get(id));
        let key = found.ok_or_else(missing)?;
        let revoked = self.finish(|shared| async move {
            let removed = shared.store.change_access(AccessChange::RemoveKey(key.id)).await;
            removed.map_err(SandboxError::store("remove the key"))?;
            let first = shared.api_keys.remove(key.id);
            if first {
                shared.discount_api_key(&key.scope);
            }
            Ok(first)
        });
        // Of two who revoke the same key at once, one did.
        if revoked.await? { Ok(()) } else { Err(missing()) }
    }

    /// Makes a project.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`] for all but host callers, [`SandboxError::Invalid`],
    /// [`SandboxError::ProjectExists`], [`SandboxError::Store`].
    pub async fn create_project(
        &self,
        caller: &Caller,
        name: &str,
        quota: ProjectQuota,
    ) -> Result<Project, SandboxError> {
        caller.require_host("make projects")?;
        let name = project_name(name)?;
        let created_at = self.shared.clock.now();
        let project = Project { name, created_at, quota, sandboxes: 0, memory_bytes: 0, keys: 0 };
        let made = project.clone();
        self.finish(|shared| async move {
            shared.reserve_project(&project.name)?;
            let change = AccessChange::AddProject(project.clone());
            let written = shared.store.change_access(change).await;
            shared.settle_project(&project, written.is_ok());
            written.map_err(SandboxError::store("store the project"))
        })
        .await?;
        Ok(made)
    }

    /// Every project, by name.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`] for all but host callers.
    pub fn projects(&self, caller: &Caller) -> Result<Vec<Project>, SandboxError> {
        caller.require_host("list projects")?;
        Ok(self.shared.projects())
    }

    /// One project.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`] for all but host callers, [`SandboxError::NoSuchProject`].
    pub fn project(&self, caller: &Caller, name: &str) -> Result<Project, SandboxError> {
        caller.require_host("look at projects")?;
        self.shared.project(&known(name)?)
    }

    /// Changes what a project may have. What it has already stays.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`] for all but host callers, [`SandboxError::NoSuchProject`],
    /// [`SandboxError::Store`].
    pub async fn set_project_quota(
        &self,
        caller: &Caller,
        name: &str,
        quota: ProjectQuota,
    ) -> Result<Project, SandboxError> {
        caller.require_host("change projects")?;
        let name = known(name)?;
        self.finish(|shared| async move {
            shared.project(&name)?;
            let change = AccessChange::SetQuota(name.clone(), quota);
            let written = shared.store.change_access(change).await;
            written.map_err(SandboxError::store("store the quota"))?;
            shared.set_project_quota(&name, quota)
        })
        .await
    }

    /// Removes a project that has neither sandboxes nor keys; what is kept of its past goes with
    /// it.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`] for all but host callers, [`SandboxError::NoSuchProject`],
    /// [`SandboxError::ProjectInUse`], [`SandboxError::Store`].
    pub async fn delete_project(&self, caller: &Caller, name: &str) -> Result<(), SandboxError> {
        caller.require_host("remove projects")?;
        let name = known(name)?;
        self.finish(|shared| async move {
            let project = shared.take_project(&name)?;
            let change = AccessChange::RemoveProject(name.clone());
            let written = shared.store.change_access(change).await;
            shared.settle_project(&project, written.is_err());
            let owner = name.owner();
            if written.is_ok() {
                shared.retain_keys(|key| key.owner != owner);
            }
            written.map_err(SandboxError::store("remove the project"))
        })
        .await
    }

    /// A consistent copy of the database, in a file that nothing names any more.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`] for all but host callers, [`SandboxError::Store`].
    pub async fn backup(&self, caller: &Caller) -> Result<Backup, SandboxError> {
        caller.require_host("back up the database")?;
        self.finish(|shared| async move {
            shared.store.backup().await.map_err(SandboxError::store("back up the database"))
        })
        .await
    }

    /// Runs a change to its end, whether or not anybody waits for it.
    async fn finish<T, F>(&self, change: impl FnOnce(Arc<Shared>) -> F) -> Result<T, SandboxError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SandboxError>> + Send + 'static,
    {
        self.to_the_end(change(Arc::clone(&self.shared))).await
    }
}

/// A name that a project is to have.
fn project_name(text: &str) -> Result<ProjectName, SandboxError> {
    text.parse().map_err(|error: super::InvalidProjectName| {
        SandboxError::invalid("project", error.to_string())
    })
}

/// A name that a project may have: what cannot be one is not found.
fn known(text: &str) -> Result<ProjectName, SandboxError> {
    text.parse().map_err(|_no_name| SandboxError::NoSuchProject { name: text.to_owned() })
}

fn check_name(name: &str) -> Result<(), SandboxError> {
    let length = name.chars().count();
    if (1..=100).contains(&length) && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(SandboxError::invalid("name", "expected 1 to 100 characters, none of control"))
}
