//! What a [`GitMachine`](crate::GitMachine) tells while it works.

use std::sync::Arc;

/// Something that has happened. What succeeded is told after it did, never before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The machine runs, and the repository is there, on its branch.
    Started {
        /// The session's name, where there is one.
        session: Option<String>,
        /// Where the repository is, inside.
        path: String,
    },
    /// The machine is paused.
    Paused,
    /// The machine goes on.
    Resumed,
    /// The machine is about to be stopped: all work is on the remote.
    Stopping,
    /// The machine is stopped.
    Stopped,
    /// There is a new commit.
    Committed {
        /// Its name.
        sha: String,
        /// Its message.
        message: String,
    },
    /// The remote's branch is where the machine's is.
    Pushed {
        /// The branch.
        branch: String,
        /// The commit at its tip.
        sha: String,
    },
    /// What the remote's branch has is in the machine's.
    Pulled {
        /// The branch.
        branch: String,
        /// The commit at its tip, where the branch has one.
        sha: Option<String>,
    },
    /// A machine that was there already is at hand.
    Reconnected {
        /// The machine's id.
        id: String,
    },
    /// Changes were not committed.
    CommitFailed {
        /// Why, as one sentence.
        reason: String,
    },
    /// Commits did not get to the remote's branch.
    PushFailed {
        /// The branch.
        branch: String,
        /// Why, as one sentence.
        reason: String,
        /// The branch of the remote that has the commits now, where one could be made.
        rescue: Option<String>,
    },
    /// Changes of the machine and of the remote, or of two branches inside, do not go together.
    Conflict {
        /// The branch.
        branch: String,
        /// The files, with a replacement for bytes that are no text. Empty where git named none.
        paths: Vec<String>,
    },
}

impl Event {
    /// The event's name: `commit_failed`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Committed { .. } => "committed",
            Self::Pushed { .. } => "pushed",
            Self::Pulled { .. } => "pulled",
            Self::Reconnected { .. } => "reconnected",
            Self::CommitFailed { .. } => "commit_failed",
            Self::PushFailed { .. } => "push_failed",
            Self::Conflict { .. } => "conflict",
        }
    }
}

/// Who is told. It is called while operations wait, so it must be quick and wait for none of them.
pub(crate) type Listener<G> = Arc<dyn Fn(&Event, &G) + Send + Sync>;
