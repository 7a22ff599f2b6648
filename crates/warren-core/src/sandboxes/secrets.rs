//! Secrets: set, listed by name, removed; never read back.

use std::sync::Arc;

use super::Sandboxes;
use crate::{
    caller::{Caller, Owner},
    error::SandboxError,
    secrets::{self, Place, SealKey, Secret, StoredSecret, WantedSecret},
    shared::Shared,
    store::{Object, ObjectChange, ObjectKind, object_secret, secret_object},
};

impl Sandboxes {
    /// Sets the value of a secret, which is made where there is none of this name. It is on the
    /// disk when this returns.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Invalid`], [`SandboxError::Limit`]; [`SandboxError::InUse`] where somebody
    /// else sets it at the same moment; [`SandboxError::Taken`] and [`SandboxError::NoSuch`] where
    /// its place must be free, or must not; [`SandboxError::Unsupported`] without a key.
    pub async fn set_secret(
        &self,
        caller: &Caller,
        name: &str,
        wanted: WantedSecret,
    ) -> Result<Secret, SandboxError> {
        secrets::check_name(name)?;
        secrets::check_value(&wanted.value)?;
        wanted.labels.as_ref().map_or(Ok(()), secrets::check_labels)?;
        let (shared, owner) = (Arc::clone(&self.shared), caller.owner().clone());
        let name = name.to_owned();
        self.to_the_end(async move { set(&shared, owner, name, wanted).await }).await
    }

    /// What may be told of the caller's secret of this name or identity.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`].
    pub fn secret_by(&self, caller: &Caller, name_or_id: &str) -> Result<Secret, SandboxError> {
        let named = self.secret(caller, name_or_id);
        named.or_else(|missing| {
            let mut all = self.secrets(caller).into_iter();
            all.find(|secret| secret.id() == name_or_id).ok_or(missing)
        })
    }

    /// The caller's secrets, by name.
    #[must_use]
    pub fn secrets(&self, caller: &Caller) -> Vec<Secret> {
        self.shared.secrets.of(caller.owner())
    }

    /// What may be told of the caller's secret of this name.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`].
    pub fn secret(&self, caller: &Caller, name: &str) -> Result<Secret, SandboxError> {
        let found = self.shared.secrets.find(caller.owner(), name);
        found.map(|it| it.about.clone()).ok_or_else(|| no_such(name))
    }

    /// Removes a secret. Sandboxes that send it send it no more.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`], [`SandboxError::InUse`] as for [`Sandboxes::set_secret`].
    pub async fn remove_secret(&self, caller: &Caller, name: &str) -> Result<(), SandboxError> {
        self.secret(caller, name)?;
        let (shared, owner) = (Arc::clone(&self.shared), caller.owner().clone());
        let name = name.to_owned();
        self.to_the_end(async move {
            let writing = shared.secrets.write(&owner, &name)?;
            let before = writing.before.clone().ok_or_else(|| no_such(&name))?;
            let remove = vec![(ObjectKind::Secret, before.row_id())];
            let change = ObjectChange { remove, durable: true, ..ObjectChange::default() };
            let removed = shared.store.change_objects(change).await;
            removed.map_err(SandboxError::store("remove the secret"))?;
            writing.settle(None);
            shared.secret_changed(&owner, &name).await;
            Ok(())
        })
        .await
    }
}

async fn set(
    shared: &Arc<Shared>,
    owner: Owner,
    name: String,
    wanted: WantedSecret,
) -> Result<Secret, SandboxError> {
    let key = sealing_key(shared)?;
    let writing = shared.secrets.write(&owner, &name)?;
    match (wanted.place, &writing.before) {
        (Place::Free, Some(_)) => return Err(SandboxError::Taken { what: "secret", name }),
        (Place::Taken, None) => return Err(no_such(&name)),
        _ => {}
    }
    let sealed = key.seal(wanted.value.expose(), &StoredSecret::binding(&owner, &name));
    let sealed = sealed.map_err(|_broken| SandboxError::Broken("a secret could not be sealed"))?;
    let now = shared.clock.now();
    let before = writing.before.as_ref().map(|it| &it.about);
    let about = Secret {
        created_at: before.map_or(now, |it| it.created_at),
        version: before.map_or(0, |it| it.version) + 1,
        labels: wanted.labels.or_else(|| Some(before?.labels.clone())).unwrap_or_default(),
        owner,
        name,
        updated_at: now,
        usable: true,
    };
    let stored = StoredSecret { about: about.clone(), sealed };
    let put = vec![secret_object(&stored)];
    let change = ObjectChange { put, durable: true, ..ObjectChange::default() };
    let written = shared.store.change_objects(change).await;
    written.map_err(SandboxError::store("write the secret"))?;
    writing.settle(Some(stored));
    shared.secret_changed(&about.owner, &about.name).await;
    Ok(about)
}

fn sealing_key(shared: &Shared) -> Result<&SealKey, SandboxError> {
    let key = shared.config.seal_key.as_ref();
    key.ok_or(SandboxError::Unsupported { operation: "keep secrets" })
}

fn no_such(name: &str) -> SandboxError {
    SandboxError::NoSuch { what: "secret", name: name.to_owned() }
}

/// Remembers the stored secrets.
pub(crate) fn restore(shared: &Shared, objects: &[Object]) {
    let key = shared.config.seal_key.as_ref();
    let rows = objects.iter().filter(|it| it.kind == ObjectKind::Secret);
    let secrets: Vec<_> = rows.filter_map(|it| object_secret(it, key)).collect();
    let lost = secrets.iter().filter(|it| !it.about.usable).count();
    if lost > 0 {
        tracing::error!(
            lost,
            "secrets were sealed with another key than this server has: set them again, or bring \
             back the file `secrets.key` that belongs to this database"
        );
    }
    shared.secrets.restore(secrets);
}
