//! Who asks. A parameter of every method that reaches a sandbox.

use std::{fmt, sync::Arc};

use crate::{access, error::SandboxError, id::KeyId};

/// Whose a sandbox is. Two owners never see each other's.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(Arc<str>);

impl Owner {
    /// The owner with this name; names come from authentication alone, or from a stored row.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name, as stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who asks, established by the listener that the request came in on.
#[derive(Clone, Debug)]
pub struct Caller {
    owner: Owner,
    host: bool,
    key: Option<KeyId>,
}

impl Caller {
    /// Somebody whom the kernel vouched for as the user that runs this server, or as root. Acts in
    /// the project [`access::DEFAULT`].
    #[must_use]
    pub fn local() -> Self {
        Self { owner: Owner::new(access::DEFAULT), host: true, key: None }
    }

    /// The same host caller in another project, which the caller has made sure exists: see
    /// [`crate::Sandboxes::in_project`].
    pub(crate) fn in_project(owner: Owner) -> Self {
        Self { owner, host: true, key: None }
    }

    /// Somebody from afar who showed this key of `owner`.
    pub(crate) fn with_key(owner: Owner, key: KeyId) -> Self {
        Self { owner, host: false, key: Some(key) }
    }

    /// Somebody from afar who acts for `owner` without a key.
    #[must_use]
    pub fn remote(owner: Owner) -> Self {
        Self { owner, host: false, key: None }
    }

    /// Whose sandboxes this caller works with: the name of a project.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Whether the caller may command the server itself: it runs as the same user on this host.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.host
    }

    /// The key that the caller has shown.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        self.key
    }

    /// Refuses everybody but a host caller.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Denied`], which names the operation.
    pub fn require_host(&self, operation: &'static str) -> Result<(), SandboxError> {
        if self.host { Ok(()) } else { Err(SandboxError::Denied { operation }) }
    }
}
