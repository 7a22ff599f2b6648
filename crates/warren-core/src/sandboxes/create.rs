//! Making a sandbox of what a caller wants.

use std::{sync::Arc, time::Instant};

use tokio::sync::oneshot;

use super::Sandboxes;
use crate::{
    caller::Caller,
    credentials::Credentials,
    error::SandboxError,
    id::SandboxId,
    images::Held,
    plan::{self, Base, Plan},
    pool,
    sandbox::{
        Made, Sandbox, Wanted,
        birth::{Birth, Claim},
        driver::Driver,
        handle::{Command, Handle},
    },
    shared::KeyUse,
    snapshots::Hold,
    spec::{Image, NO_DISK_LIMITS, OciImage},
    state::State,
    store::Key,
    templates,
};

/// What keeps the files that a sandbox is to be made from until the sandbox can be seen to need
/// them.
#[expect(dead_code, reason = "what counts is when they are dropped")]
enum Kept {
    /// Nothing has to.
    Nothing,
    /// Saved layers.
    Layers(Hold),
    /// An image of the store.
    Image(Held),
}

impl Sandboxes {
    /// Makes a sandbox, or hands out a parked one, and waits until it runs.
    ///
    /// With an idempotency `key` (1 to 128 visible ASCII characters) a repeated request answers
    /// with the sandbox that the first one made.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Invalid`], [`SandboxError::NameTaken`], [`SandboxError::Limit`],
    /// [`SandboxError::KeyReused`], [`SandboxError::Image`] for an image that cannot be had,
    /// [`SandboxError::Denied`] for an image on the host that a caller
    /// from afar names, or why the runtime, the guest or the store failed; nothing is
    /// left of the sandbox then.
    pub async fn create(
        &self,
        caller: &Caller,
        wanted: Wanted,
        key: Option<&str>,
    ) -> Result<Made, SandboxError> {
        let cold = wanted.cold;
        let fingerprint = key.map(|_| plan::fingerprint(&wanted));
        // Held until the sandbox itself can be seen to need it.
        let Based { base, _kept } = self.base(caller, &wanted).await?;
        // An image may have had to be pulled before this, for minutes perhaps.
        let _creating = self.shared.creating();
        let (volumes, git) = (wanted.volumes.clone(), wanted.git.clone());
        if wanted.disk_bytes.is_some() && !self.shared.runtime.capabilities().disk_limit {
            return Err(SandboxError::invalid("disk_bytes", NO_DISK_LIMITS));
        }
        self.check_credentials(caller, &wanted.credentials)?;
        let mut plan = Plan::new(wanted, base, caller, &self.shared.config)?;
        self.require_rules(&plan.spec.network)?;
        if let Some(git) = &git {
            self.check_git(caller, git, &plan.spec.network)?;
        }
        let _volumes = self.mount_volumes(caller, volumes, &mut plan)?;
        let id = SandboxId::mint();
        let Some((key, fingerprint)) = key.zip(fingerprint) else {
            let made = self.make(caller, id, plan, cold, None).await?;
            return self.begin_git(caller, made, git).await;
        };
        check_key(key)?;
        let key = Key {
            owner: caller.owner().clone(),
            key: key.to_owned(),
            fingerprint,
            sandbox: id,
            created_at: self.shared.clock.now(),
        };
        match self.shared.use_key(&key)? {
            KeyUse::Made(id) => {
                let made = self.made_before(caller, id).await?;
                self.git_begun(id).await?;
                Ok(made)
            }
            KeyUse::New => {
                let made = self.make(caller, id, plan, cold, Some(key.clone())).await;
                let made = match made {
                    Ok(made) => self.begin_git(caller, made, git).await,
                    Err(error) => Err(error),
                };
                if made.is_err() {
                    self.shared.free_key(&key);
                }
                made
            }
        }
    }

    pub(super) async fn make(
        &self,
        caller: &Caller,
        id: SandboxId,
        plan: Plan,
        cold: bool,
        key: Option<Key>,
    ) -> Result<Made, SandboxError> {
        let credentials = plan.credentials.clone();
        if !cold && let Some(made) = self.claim_parked(caller, &plan, key.as_ref()).await? {
            self.equip(caller, made.sandbox.id, credentials).await?;
            return Ok(made);
        }
        if let Some(key) = &key {
            self.shared.point_key(key);
        }
        let owner = caller.owner();
        let admission = self.shared.admit(owner, id, plan.name.as_deref(), &plan.spec.limits)?;
        let now = self.shared.clock.now();
        let sandbox = Sandbox {
            id,
            owner: owner.clone(),
            name: plan.name,
            state: State::Creating,
            spec: plan.spec,
            labels: plan.labels,
            setup: plan.setup,
            lifetime: plan.lifetime,
            created_at: now,
            expires_at: plan.lifetime.length.map(|length| now + length),
            end: None,
            runtime: self.shared.runtime.name().into(),
            warm: false,
            kept: false,
            history: plan.history,
            program: plan.program,
            exposure: plan.exposure,
        };
        let (reply, made) = oneshot::channel();
        let handle = Driver::start(&self.shared, sandbox, Birth::Make { admission, key, reply });
        let made = made.await.unwrap_or(Err(SandboxError::ShuttingDown))?;
        self.equip(caller, id, credentials).await?;
        self.begin(&handle, made, true).await
    }

    /// Gives a new sandbox its credentials. One that cannot be given them is removed.
    async fn equip(
        &self,
        caller: &Caller,
        id: SandboxId,
        credentials: Credentials,
    ) -> Result<(), SandboxError> {
        if credentials.is_empty() {
            return Ok(());
        }
        let given = self.give_credentials(caller, id, credentials).await;
        if given.is_err() {
            self.drop_credentials(id).await;
            if let Some(handle) = self.shared.any(id) {
                pool::remove(&handle).await;
            }
        }
        given
    }

    /// Starts what is to be started in a sandbox whose processes have begun anew, and waits until
    /// it is ready; to the end, also when nobody waits for it any more. A new sandbox that does not
    /// become ready is removed; one with a past runs on as it is, for its files are its owner's.
    pub(super) async fn begin(
        &self,
        handle: &Arc<Handle>,
        mut made: Made,
        is_new: bool,
    ) -> Result<Made, SandboxError> {
        let Some(start) = made.sandbox.program.start.clone() else { return Ok(made) };
        let began = Instant::now();
        let (reply, begun) = oneshot::channel();
        let (shared, handle) = (Arc::clone(&self.shared), Arc::clone(handle));
        self.in_background(async move {
            let begun = templates::start(&shared, &handle, &start).await;
            let begun = match begun {
                Err(error) if is_new => {
                    pool::remove(&handle).await;
                    Err(error)
                }
                Err(SandboxError::NotReady { reason }) => {
                    let reason = format!("{reason}; it runs all the same, with its files");
                    Err(SandboxError::NotReady { reason })
                }
                begun => begun,
            };
            // Whoever asked may have gone.
            reply.send(begun).ok();
        });
        begun.await.unwrap_or(Err(SandboxError::ShuttingDown))?;
        made.steps.push(("ready", began.elapsed()));
        Ok(made)
    }

    /// What a sandbox is made from, and what keeps that until the sandbox does.
    async fn base(&self, caller: &Caller, wanted: &Wanted) -> Result<Based, SandboxError> {
        let sources =
            [wanted.image.is_some(), wanted.snapshot.is_some(), wanted.template.is_some()];
        if sources.into_iter().filter(|given| *given).count() > 1 {
            let field = if wanted.template.is_some() { "template" } else { "snapshot" };
            let reason = "a sandbox is made from an image, a snapshot or a template: expected one";
            return Err(SandboxError::invalid(field, reason));
        }
        if let Some(name) = &wanted.template {
            let base = templates::base(&self.shared, caller, name)?;
            let hold = self.shared.snapshots.hold(base.image.layers())?;
            return Ok(Based { base, _kept: Kept::Layers(hold) });
        }
        if let Some(name) = &wanted.snapshot {
            let (snapshot, hold) = self.shared.snapshots.hold_named(caller.owner(), name)?;
            return Ok(Based { base: snapshot.base(), _kept: Kept::Layers(hold) });
        }
        if let Some(Image::Directory(_) | Image::Archive(_)) = wanted.image
            && !self.shared.config.host_images_for_all
        {
            caller.require_host("name files of this machine as an image")?;
        }
        let image = wanted.image.clone();
        let image = image.unwrap_or_else(|| self.shared.config.defaults.image.clone());
        plan::check_image(&image)?;
        if let Image::Oci(OciImage { reference, .. }) = image {
            let held = self.images()?.acquire(caller, &reference).await?;
            let base = Base::pulled(&held.image, reference);
            return Ok(Based { base, _kept: Kept::Image(held) });
        }
        Ok(Based { base: Base::plain(image), _kept: Kept::Nothing })
    }

    /// Hands a parked sandbox out; none where none matches or lives any more.
    async fn claim_parked(
        &self,
        caller: &Caller,
        plan: &Plan,
        key: Option<&Key>,
    ) -> Result<Option<Made>, SandboxError> {
        while let Some(taken) = self.shared.pool.take(&plan.spec, &plan.setup, &plan.program) {
            let handle = Arc::clone(&taken.handle);
            let owner = caller.owner().clone();
            let name = plan.name.as_deref();
            let admitted = self.shared.admit(&owner, handle.id(), name, &plan.spec.limits);
            let admission = match admitted {
                Ok(admission) => admission,
                Err(error) => {
                    self.shared.pool.put_back(taken);
                    return Err(error);
                }
            };
            let plan = plan.clone();
            let key = key.map(|key| Key { sandbox: handle.id(), ..key.clone() });
            if let Some(key) = &key {
                self.shared.point_key(key);
            }
            let claim =
                |reply| Command::Claim(Box::new(Claim { owner, plan, admission, key, reply }));
            match handle.ask(claim).await {
                Ok(made) => return Ok(Some(made)),
                Err(error) => {
                    let cause = &error as &dyn std::error::Error;
                    tracing::warn!(sandbox.id = %handle.id(), error = cause, "not handed out");
                }
            }
        }
        Ok(None)
    }

    /// Waits for the sandbox that an earlier request with the same key makes or made.
    async fn made_before(&self, caller: &Caller, id: SandboxId) -> Result<Made, SandboxError> {
        let handle = self.shared.any(id).ok_or(SandboxError::KeyFailed)?;
        let mut watch = handle.watch();
        let made = watch.wait_for(|sandbox| sandbox.state != State::Creating).await;
        match made.map(|sandbox| Arc::clone(&sandbox)) {
            Ok(sandbox) if sandbox.owner == *caller.owner() && self.shared.any(id).is_some() => {
                Ok(Made { sandbox, steps: Vec::new() })
            }
            _ => Err(SandboxError::KeyFailed),
        }
    }
}

/// What a sandbox is made from.
struct Based {
    base: Base,
    /// Keeps it until the sandbox can be seen to need it.
    _kept: Kept,
}

fn check_key(key: &str) -> Result<(), SandboxError> {
    let good = (1..=128).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        return Ok(());
    }
    Err(SandboxError::invalid("Idempotency-Key", "expected 1 to 128 visible ASCII characters"))
}
