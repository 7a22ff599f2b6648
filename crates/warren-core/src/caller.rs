//! Who asks. A parameter of every method that reaches a sandbox.

use std::{fmt, sync::Arc};

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
}

impl Caller {
    /// The name under which everything made over the local socket is kept.
    const LOCAL: &'static str = "local";

    /// Somebody whom the kernel vouched for as the user that runs this server, or as root.
    #[must_use]
    pub fn local() -> Self {
        Self { owner: Owner::new(Self::LOCAL), host: true }
    }

    /// Somebody who proved to be `owner` from afar.
    #[must_use]
    pub fn remote(owner: Owner) -> Self {
        Self { owner, host: false }
    }

    /// Whose sandboxes this caller works with.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Whether the caller may command the server itself: it runs as the same user on this host.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.host
    }
}
