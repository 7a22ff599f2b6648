//! Why an operation failed.

use crate::{
    access::AccessError,
    machine::{Ended, MachineError, MachineState},
    porcelain::RemoteFault,
};

/// Whatever a hook fails with.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation of a [`GitMachine`](crate::GitMachine) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// The machine could not do its part.
    #[error("{operation} the machine")]
    Machine {
        /// What it was asked to do.
        operation: &'static str,
        /// Why it could not.
        source: MachineError,
    },
    /// The operation needs a machine in another state.
    #[error("{operation} needs a machine that is {wanted}; this one is {state}")]
    State {
        /// What was asked for.
        operation: &'static str,
        /// States in which it can be done.
        wanted: &'static str,
        /// The machine's state.
        state: MachineState,
    },
    /// A hook asked for what its caller is doing already.
    #[error("{0} is not for hooks: it waits for the hook to end")]
    InHook(&'static str),
    /// There is no credential for the remote.
    #[error("get access to the repository")]
    Access(#[from] AccessError),
    /// There is no git inside the machine.
    #[error("the machine has no program git")]
    NoGit,
    /// A git command failed.
    #[error("git {command} failed ({ended}): {said}")]
    Git {
        /// The command's name.
        command: String,
        /// How it ended.
        ended: Ended,
        /// The end of what it wrote to standard error.
        said: String,
    },
    /// A git command could not do its part with the remote.
    #[error("git {command} did not reach what it needs of the remote: {said}")]
    Remote {
        /// The command's name.
        command: String,
        /// What kind of failure this is.
        fault: RemoteFault,
        /// The end of what it wrote to standard error.
        said: String,
    },
    /// A git command wrote something else than it should.
    #[error("git {command} answered what nobody understands")]
    Answer {
        /// The command's name.
        command: String,
    },
    /// Another git works in the repository, and did not end.
    #[error("another git works in {path}: it holds {path}/.git/index.lock")]
    Locked {
        /// Where the repository is.
        path: String,
    },
    /// There are files where the repository should be.
    #[error("{path} is neither the repository nor empty")]
    Taken {
        /// Where it should be.
        path: String,
    },
    /// There is something else where the repository should be.
    #[error("{path} holds another repository than {wanted}")]
    OtherRepository {
        /// Where it is.
        path: String,
        /// Which one it should be.
        wanted: String,
    },
    /// Changes do not go together; the machine's files are as they were before.
    #[error("changes of branch {branch} do not go together: {}", list(.paths))]
    Conflict {
        /// The branch.
        branch: String,
        /// The files, where git named some.
        paths: Vec<String>,
    },
    /// The remote's branch has moved, and this side could not take part in that.
    #[error("the remote's branch {branch} has moved, and {reason}")]
    Moved {
        /// The branch.
        branch: String,
        /// Why the remote's changes were not taken in.
        reason: String,
    },
    /// The remote does not take a push.
    #[error("the remote refuses branch {branch}: {reason}")]
    Refused {
        /// The branch.
        branch: String,
        /// The remote's reason, with what its hooks said.
        reason: String,
    },
    /// It is not known which branch to push to or pull from.
    #[error("the repository is on no branch: give the session a name")]
    NoBranch,
    /// A ref to begin with is not in the repository.
    #[error("the repository has no branch, tag or commit {0:?}")]
    NoSuchRef(String),
    /// Something is only in the machine.
    #[error("this is in the machine alone: {}", list(.what))]
    Unsaved {
        /// Files and branches, at most some.
        what: Vec<String>,
    },
    /// The machine was kept, since its work is not on the remote.
    #[error(
        "machine {id} was not stopped but is {state}, with work that is nowhere else; resume it and \
         stop it again, take a bundle of the work, or discard it"
    )]
    Kept {
        /// The machine.
        id: String,
        /// What it does now.
        state: MachineState,
        /// Why the work could not be saved.
        #[source]
        reason: Box<GitError>,
    },
    /// A hook failed.
    #[error("hook {hook} failed")]
    Hook {
        /// Its name.
        hook: &'static str,
        /// What it failed with.
        source: HookError,
    },
    /// A bundle could not be written to where it was to go.
    #[error("write the bundle")]
    Bundle(#[source] std::io::Error),
    /// A message of a commit is none.
    #[error("a commit's message is not empty and has no NUL")]
    Message,
    /// The program is about to end, and the operation with it.
    #[error("the program ends")]
    Ended,
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no file is named".to_owned() } else { names.join(", ") }
}

impl GitError {
    /// The error and its causes as one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentence = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            sentence = format!("{sentence}: {error}");
            cause = error.source();
        }
        sentence
    }
}
