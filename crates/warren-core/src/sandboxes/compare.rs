//! Comparing the files of sandboxes and snapshots.

use tokio::sync::{mpsc, oneshot};

use super::Sandboxes;
use crate::{
    caller::Caller,
    compare::{Changes, Comparison, Files},
    error::SandboxError,
    id::{SandboxId, SnapshotId},
    spec::{Image, Stack},
};

/// Differences that are found before somebody takes them.
const WAITING: usize = 64;

impl Sandboxes {
    /// Finds out how the files of `after` differ from those of `before`, or from what `after` was
    /// made from where that is absent.
    ///
    /// Each is the id of a sandbox or a snapshot, or a name, perhaps with `sandbox:` or
    /// `snapshot:` before it; a name alone is a sandbox's if there is one, else a snapshot's.
    /// A running sandbox goes on meanwhile.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::NoSuch`]; [`SandboxError::NotRunning`] for a
    /// sandbox whose files are gone.
    pub fn compare(
        &self,
        caller: &Caller,
        before: Option<&str>,
        after: &str,
        comparison: Comparison,
    ) -> Result<Changes, SandboxError> {
        let after = self.files(caller, after)?;
        let before = match before {
            Some(before) => self.files(caller, before)?,
            None => origin(&after),
        };
        let hold = |files: &Files| self.shared.snapshots.hold(files.image().layers());
        let holds = [hold(&before)?, hold(&after)?];
        let (sender, found) = mpsc::channel(WAITING);
        let (done, outcome) = oneshot::channel();
        let runtime = std::sync::Arc::clone(&self.shared.runtime);
        self.in_background(async move {
            let compared = runtime.compare(&before, &after, comparison, sender).await;
            // Whoever asked may have left.
            done.send(compared).ok();
        });
        Ok(Changes::new(found, outcome, holds))
    }

    /// The files that a caller means.
    fn files(&self, caller: &Caller, name: &str) -> Result<Files, SandboxError> {
        let sandbox = |name: &str| -> Result<Files, SandboxError> {
            let sandbox = self.get(caller, name)?;
            if !sandbox.state.is_living() && !sandbox.kept {
                return Err(SandboxError::NotRunning { id: sandbox.id, state: sandbox.state });
            }
            Ok(Files::Sandbox { id: sandbox.id, image: sandbox.spec.image.clone() })
        };
        let snapshot = |name: &str| -> Result<Files, SandboxError> {
            let snapshot = self.get_snapshot(caller, name)?;
            Ok(Files::Image(Image::Snapshot(snapshot.stack.clone())))
        };
        if let Some(name) = name.strip_prefix("sandbox:") {
            return sandbox(name);
        }
        if let Some(name) = name.strip_prefix("snapshot:") {
            return snapshot(name);
        }
        if name.parse::<SnapshotId>().is_ok() {
            return snapshot(name);
        }
        match sandbox(name) {
            Err(SandboxError::NotFound { .. }) if name.parse::<SandboxId>().is_err() => {
                snapshot(name).map_err(|_neither| SandboxError::NoSuch {
                    what: "sandbox or snapshot",
                    name: name.to_owned(),
                })
            }
            found => found,
        }
    }
}

/// What files were made from: a sandbox from its image, a snapshot on what is below it.
fn origin(files: &Files) -> Files {
    match files {
        Files::Sandbox { image, .. } => Files::Image(image.clone()),
        Files::Image(Image::Snapshot(stack)) => match stack.layers.split_first() {
            Some((_, below)) if !below.is_empty() => Files::Image(Image::Snapshot(Stack {
                layers: below.to_vec(),
                base: stack.base.clone(),
            })),
            _ => Files::Image((*stack.base).clone()),
        },
        Files::Image(image) => Files::Image(image.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_compared_with_what_is_below_it() {
        let (one, two) = (SnapshotId::mint(), SnapshotId::mint());
        let lower = Image::Host.under(one);
        let upper = Image::Snapshot(lower.clone()).under(two);
        let origin_of = |stack: &Stack| origin(&Files::Image(Image::Snapshot(stack.clone())));
        assert_eq!(origin_of(&upper), Files::Image(Image::Snapshot(lower.clone())));
        assert_eq!(origin_of(&lower), Files::Image(Image::Host));
        let id = SandboxId::mint();
        let sandbox = Files::Sandbox { id, image: Image::Snapshot(lower.clone()) };
        assert_eq!(origin(&sandbox), Files::Image(Image::Snapshot(lower)));
    }
}
