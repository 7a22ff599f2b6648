//! The one error that the edges see.

use crate::{
    id::SandboxId, images::ImageError, runtime::RuntimeError, state::Refused, state::State,
    store::StoreError,
};

/// Why something could not be done; each variant is one that a caller can act on differently.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There is no such sandbox, or it is somebody else's.
    #[error("there is no sandbox {name}")]
    NotFound {
        /// The id or name asked for.
        name: String,
    },
    /// There is no such object of another kind, or it is somebody else's.
    #[error("there is no {what} {name}")]
    NoSuch {
        /// Its kind: `snapshot`, `image`, `template`, `volume`.
        what: &'static str,
        /// The id or name asked for.
        name: String,
    },
    /// The name of an object of another kind is in use.
    #[error("a {what} named {name} exists")]
    Taken {
        /// Its kind.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// An object of another kind cannot be changed or removed as long as something needs it.
    #[error("{what} {name} {reason}")]
    InUse {
        /// Its kind.
        what: &'static str,
        /// Its id or name.
        name: String,
        /// What keeps it, as the end of a sentence.
        reason: String,
    },
    /// There is no such command in the sandbox.
    #[error("there is no command {name} in this sandbox")]
    NoSuchExec {
        /// The id asked for.
        name: String,
    },
    /// There is no such template, or it is somebody else's.
    #[error("there is no template {name}")]
    NoTemplate {
        /// What was asked for.
        name: String,
    },
    /// There is no such build, or it is somebody else's.
    #[error("there is no build {name}")]
    NoBuild {
        /// The id asked for.
        name: String,
    },
    /// A step of a build went wrong in its sandbox.
    #[error("{reason}")]
    BuildFailed {
        /// What happened, for whoever builds.
        reason: String,
    },
    /// What a template starts was not ready in time. Nothing is left of a new sandbox; one that
    /// was started again runs.
    #[error("the sandbox did not become ready: {reason}")]
    NotReady {
        /// What was waited for.
        reason: String,
    },
    /// The name is in use.
    #[error("a sandbox named {name} exists")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A part of the request can never be right.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which part, by its name in the API.
        field: &'static str,
        /// What is wrong with it and what was expected.
        reason: String,
    },
    /// The sandbox's state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The sandbox is not running.
    #[error("sandbox {id} is {state}, not running")]
    NotRunning {
        /// Which.
        id: SandboxId,
        /// What it is doing.
        state: State,
    },
    /// The sandbox ended while the request was under way.
    #[error("sandbox {id} ended: {message}")]
    Ended {
        /// Which.
        id: SandboxId,
        /// Why, in a sentence.
        message: String,
    },
    /// The idempotency key came with a different request before.
    #[error("this idempotency key was used for a different request")]
    KeyReused,
    /// The request that came first with the same idempotency key failed.
    #[error("the first request with this idempotency key failed; use a new key")]
    KeyFailed,
    /// There is no such project.
    #[error("there is no project {name}")]
    NoSuchProject {
        /// The name asked for.
        name: String,
    },
    /// There is no such API key.
    #[error("there is no key {name}")]
    NoSuchKey {
        /// The id asked for.
        name: String,
    },
    /// A project of that name exists.
    #[error("a project named {name} exists")]
    ProjectExists {
        /// The name.
        name: String,
    },
    /// The project cannot be removed.
    #[error("project {name} {reason}")]
    ProjectInUse {
        /// Which.
        name: String,
        /// What keeps it.
        reason: String,
    },
    /// The caller's key is of another project. Whether there is one of that name is not told.
    #[error("this key does not act in that project")]
    OtherProject,
    /// A limit of this server or of the caller's project would be passed.
    #[error("the {whose} limit of {limit} {what} is reached")]
    Limit {
        /// `server's` or `project's`.
        whose: &'static str,
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// The host has no more of something.
    #[error("the host has no {what} left")]
    Exhausted {
        /// Of what.
        what: &'static str,
    },
    /// This cannot be done by this runtime.
    #[error("this runtime cannot {operation} here")]
    Unsupported {
        /// What was asked.
        operation: &'static str,
    },
    /// The guest's agent refused it; the text is the guest's and bounded.
    #[error("{message}")]
    Guest {
        /// What kind of refusal.
        kind: GuestRefusal,
        /// The agent's sentence.
        message: String,
    },
    /// Nothing in the sandbox listens on a port.
    #[error("nothing in the sandbox listens on port {port}")]
    PortClosed {
        /// Which.
        port: u16,
    },
    /// The guest's agent did not answer as it should.
    #[error("the agent of sandbox {id} does not answer as it should")]
    Unresponsive {
        /// Which.
        id: SandboxId,
        /// What was wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The caller may not do this.
    #[error("only the user who runs this server may {operation}")]
    Denied {
        /// What.
        operation: &'static str,
    },
    /// The server is going away.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// An image cannot be had.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The database failed.
    #[error("could not {operation}")]
    Store {
        /// What was to be stored or read.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: StoreError,
    },
    /// The runtime failed.
    #[error("could not {operation}")]
    Runtime {
        /// What was asked of it.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: RuntimeError,
    },
    /// Warren broke its own rules; the text says which.
    #[error("internal error: {0}")]
    Broken(&'static str),
}

/// How a guest's agent refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestRefusal {
    /// The request cannot succeed as it is.
    InvalidArgument,
    /// No such path or process.
    NotFound,
    /// The path exists.
    AlreadyExists,
    /// The user inside may not.
    PermissionDenied,
    /// There is no such user inside.
    UnknownUser,
    /// The path or process is in a state that does not allow it.
    FailedPrecondition,
    /// The disk is full, or another limit inside was reached.
    ResourceExhausted,
    /// A position beyond the end.
    OutOfRange,
    /// The agent does not know how.
    Unimplemented,
    /// The time given was over.
    DeadlineExceeded,
    /// The agent failed.
    Internal,
}

impl SandboxError {
    pub(crate) fn not_found(name: impl ToString) -> Self {
        Self::NotFound { name: name.to_string() }
    }

    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }

    pub(crate) fn store(operation: &'static str) -> impl FnOnce(StoreError) -> Self {
        move |source| match source.is_full() {
            true => Self::Exhausted { what: "disk space for the server's database" },
            false => Self::Store { operation, source },
        }
    }

    /// Sorts a runtime's failure by what the caller can do about it.
    pub(crate) fn runtime(operation: &'static str) -> impl FnOnce(RuntimeError) -> Self {
        move |source| match source {
            RuntimeError::Unsupported { operation } => Self::Unsupported { operation },
            RuntimeError::NotFound { id } => Self::not_found(id),
            RuntimeError::Mount { reason } => Self::Invalid { field: "mounts", reason },
            RuntimeError::Image { reason } => Self::Invalid { field: "image", reason },
            RuntimeError::Exhausted { what } => Self::Exhausted { what },
            source @ RuntimeError::Host { .. } => Self::Runtime { operation, source },
        }
    }
}
