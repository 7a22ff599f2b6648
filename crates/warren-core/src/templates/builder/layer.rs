//! The sandbox of one step, and how its files become a layer.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};
use tokio_util::task::TaskTracker;

use super::Builder;
use crate::{
    caller::Owner,
    error::SandboxError,
    guest::GuestError,
    id::{SandboxId, SnapshotId},
    pool,
    runtime::{Deadline, DeadlineAction},
    sandbox::{
        Lifetime, Sandbox, Setup,
        birth::Birth,
        driver::Driver,
        handle::{Command, Handle},
    },
    shared::Admission,
    snapshots::{Inherited, Snapshot, Snapshots, Status},
    spec::{Image, Limits, Network, Spec},
    state::State,
    store::{ObjectChange, snapshot_object},
};

/// How much longer than its build a sandbox lives where no server ends it.
const GRACE: Duration = Duration::from_secs(30);

/// A sandbox that a step runs in. Dropped before its end, it is removed with all it holds.
pub(super) struct StepSandbox {
    pub(super) handle: Arc<Handle>,
    image: Image,
    tasks: TaskTracker,
    /// What the end of the build waits for.
    leftovers: TaskTracker,
    admission: Option<Admission>,
    finished: bool,
}

impl Drop for StepSandbox {
    fn drop(&mut self) {
        if !self.finished {
            let (handle, admission) = (Arc::clone(&self.handle), self.admission.take());
            let removal = async move {
                pool::remove(&handle).await;
                drop(admission);
            };
            self.tasks.spawn(self.leftovers.track_future(removal));
        }
    }
}

impl StepSandbox {
    /// Makes a sandbox that nobody sees, and that does not outlive the server.
    pub(super) async fn open(
        builder: &Builder,
        image: &Image,
        setup: Setup,
        network: Network,
    ) -> Result<Self, SandboxError> {
        let shared = builder.shared();
        let defaults = &shared.config.defaults;
        let wanted = &builder.request.build_limits;
        let limits = Limits {
            memory_bytes: wanted.memory_bytes.unwrap_or(defaults.limits.memory_bytes),
            cpu_millis: wanted.cpu_millis.unwrap_or(defaults.limits.cpu_millis),
            pids: wanted.pids.unwrap_or(defaults.limits.pids.max(4096)),
            open_files: defaults.limits.open_files,
            disk_bytes: wanted.disk_bytes.or(defaults.limits.disk_bytes),
        };
        crate::plan::check_limits(&limits, defaults.most_memory)?;
        let id = SandboxId::mint();
        let admission = shared.admit(builder.caller.owner(), id, None, &limits)?;
        // Should the server end now, the next one knows what to remove.
        builder.handle.change(|build| build.sandbox = Some(id));
        builder.write_build().await?;
        let sandbox = Sandbox {
            id,
            owner: Owner::new(""),
            name: None,
            state: State::Creating,
            spec: Spec {
                image: image.clone(),
                limits,
                profile: Default::default(),
                network,
                hostname: Some("build".to_owned()),
                mounts: Vec::new(),
                volumes: Vec::new(),
            },
            labels: Default::default(),
            setup,
            lifetime: Lifetime { length: None, action: DeadlineAction::Kill },
            created_at: shared.clock.now(),
            expires_at: None,
            end: None,
            runtime: shared.runtime.name().into(),
            warm: true,
            kept: false,
            history: Default::default(),
            program: Default::default(),
            exposure: Default::default(),
        };
        let (reply, parked) = oneshot::channel();
        let handle = Driver::start(shared, sandbox, Birth::Park { reply });
        // From here on it is removed whenever nobody waits for it any more: a driver that has
        // answered does not see whether anybody has read the answer.
        let mut step = Self {
            handle,
            image: image.clone(),
            tasks: shared.store.tasks().clone(),
            leftovers: builder.leftovers.clone(),
            admission: Some(admission),
            finished: false,
        };
        let parked = parked.await.unwrap_or(Err(SandboxError::ShuttingDown));
        // One that could not be made has removed itself.
        step.finished = parked.is_err();
        parked?;
        let left = builder.deadline.saturating_duration_since(Instant::now());
        let deadline = Deadline { after: left + GRACE, action: DeadlineAction::Kill };
        if let Err(error) = shared.runtime.set_deadline(&id, Some(deadline)).await {
            tracing::warn!(sandbox.id = %id, %error, "no deadline beyond the server");
        }
        Ok(step)
    }

    /// What a refusal of the agent means to whoever builds.
    pub(super) fn explain(&self, error: GuestError) -> SandboxError {
        self.handle.explain(error)
    }

    /// Ends the sandbox and makes its files a layer. Gives what there is now, and what the layer
    /// takes in bytes.
    pub(super) async fn finish(mut self, builder: &Builder) -> Result<(Image, u64), SandboxError> {
        let shared = builder.shared();
        let layer = SnapshotId::mint();
        let stack = self.image.under(layer);
        // Until it is whole, a server that finds its row removes what there is of it.
        self.write_row(
            builder,
            Snapshot {
                id: layer,
                owner: builder.caller.owner().clone(),
                name: None,
                tags: Default::default(),
                parent: None,
                sandbox: None,
                stack: stack.clone(),
                inherited: self.inherited(),
                created_at: shared.clock.now(),
                bytes: 0,
                files: 0,
                status: Status::Making,
            },
        )
        .await?;
        let hiding = Hiding { snapshots: Arc::clone(&shared.snapshots), layer };
        builder.hold(&[layer])?;
        self.finished = true;
        let (handle, shared) = (Arc::clone(&self.handle), Arc::clone(shared));
        // To its end also when nobody waits any more: files that nobody knows must not remain.
        let making = self.leftovers.track_future(async move {
            let hiding = hiding;
            handle.ask(|reply| Command::Convert(layer, reply)).await?;
            let sealed = shared.runtime.seal(&layer, None).await;
            let sealed = sealed.map_err(SandboxError::runtime("write the layer to the disk"))?;
            let made = shared.snapshots.change(layer, |it| {
                (it.bytes, it.files) = (sealed.bytes, sealed.files);
                it.status = Status::Hidden;
            })?;
            let put = vec![snapshot_object(&made)];
            shared.write(ObjectChange { put, ..ObjectChange::default() }).await?;
            drop(hiding);
            Ok(sealed.bytes)
        });
        let made = self.tasks.spawn(making);
        let bytes = made.await.unwrap_or(Err(SandboxError::ShuttingDown))?;
        Ok((Image::Snapshot(stack), bytes))
    }

    async fn write_row(&self, builder: &Builder, layer: Snapshot) -> Result<(), SandboxError> {
        let put = vec![snapshot_object(&layer)];
        let id = layer.id;
        let snapshots = &builder.shared().snapshots;
        snapshots.add(layer)?;
        let written = builder.shared().write(ObjectChange { put, ..ObjectChange::default() }).await;
        if written.is_err() {
            snapshots.forget(id);
        }
        written
    }

    fn inherited(&self) -> Inherited {
        let sandbox = self.handle.sandbox();
        Inherited {
            env: Default::default(),
            user: sandbox.setup.user.clone(),
            workdir: sandbox.setup.workdir.clone(),
            limits: sandbox.spec.limits.clone(),
            profile: sandbox.spec.profile,
            program: sandbox.program.clone(),
            network: sandbox.spec.network.clone(),
        }
    }
}

/// Has a layer go when nothing needs it, whatever became of its making.
struct Hiding {
    snapshots: Arc<Snapshots>,
    layer: SnapshotId,
}

impl Drop for Hiding {
    fn drop(&mut self) {
        let hidden = self.snapshots.change(self.layer, |it| it.status = Status::Hidden);
        if hidden.is_err() {
            tracing::debug!(layer = %self.layer, "gone already");
        }
    }
}
