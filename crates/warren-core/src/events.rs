//! What happened, in order: an append-only table and a broadcast of what is added to it.
//!
//! A sequence number is given at the commit, by the one writer of the store. So the order of
//! numbers is the order of commits, a number that a reader saw is never given again (not after a
//! crash either), and a reader who replays from the table and then follows misses nothing.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::broadcast;

use crate::{
    caller::{Caller, Owner},
    clock::Timestamp,
    error::SandboxError,
    id::SandboxId,
    ports::Following,
    store::Store,
};

/// How many events one read of the table fetches.
const PAGE: u32 = 256;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the order of all events.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// What.
    pub kind: EventKind,
    /// Whose sandbox it happened to.
    pub owner: Owner,
    /// To which sandbox.
    pub sandbox: SandboxId,
    /// More, for machines and people.
    pub detail: BTreeMap<String, String>,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A sandbox was asked for.
    Created,
    /// It runs.
    Running,
    /// It was paused.
    Paused,
    /// It was resumed.
    Resumed,
    /// It ended.
    Stopped,
    /// It was started again.
    Started,
    /// It got another lifetime.
    Extended,
    /// A snapshot was made of it.
    Snapshotted,
    /// It went back to a snapshot.
    RolledBack,
    /// It has written as much to its disk as it may, or nearly.
    DiskFull,
    /// It tried to reach what its rules deny.
    Denied,
    /// What it may reach was changed.
    NetworkChanged,
    /// Something in it began to listen on a port.
    PortOpened,
    /// Nothing in it listens on a port any more.
    PortClosed,
    /// A domain that leads to it has got no new certificate.
    CertificateFailed,
    /// The certificate of a domain that leads to it ends soon.
    CertificateEnding,
    /// Something became of its session of git, or was refused to it.
    Git,
    /// It could not be made, or was lost.
    Failed,
    /// Nothing of it is left.
    Deleted,
}

impl EventKind {
    const ALL: [Self; 19] = [
        Self::Created,
        Self::Running,
        Self::Paused,
        Self::Resumed,
        Self::Stopped,
        Self::Started,
        Self::Extended,
        Self::Snapshotted,
        Self::RolledBack,
        Self::DiskFull,
        Self::Denied,
        Self::NetworkChanged,
        Self::PortOpened,
        Self::PortClosed,
        Self::CertificateFailed,
        Self::CertificateEnding,
        Self::Git,
        Self::Failed,
        Self::Deleted,
    ];

    /// The name used in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Stopped => "stopped",
            Self::Started => "started",
            Self::Extended => "extended",
            Self::Snapshotted => "snapshotted",
            Self::RolledBack => "rolled_back",
            Self::DiskFull => "disk_full",
            Self::Denied => "denied",
            Self::NetworkChanged => "network_changed",
            Self::PortOpened => "port_opened",
            Self::PortClosed => "port_closed",
            Self::CertificateFailed => "certificate_failed",
            Self::CertificateEnding => "certificate_ending",
            Self::Git => "git",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// An event that has no number yet.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) time: Timestamp,
    pub(crate) kind: EventKind,
    pub(crate) owner: Owner,
    pub(crate) sandbox: SandboxId,
    pub(crate) detail: BTreeMap<String, String>,
}

/// The events of one owner from some number on: first from the table, then as they happen.
#[derive(Debug)]
pub struct EventStream {
    store: Store,
    owner: Owner,
    sandbox: Option<SandboxId>,
    /// The last number that was delivered or passed over.
    after: u64,
    page: std::vec::IntoIter<Arc<Event>>,
    /// Whether the table may hold events behind `after` that the broadcast will not repeat.
    behind: bool,
    live: broadcast::Receiver<Arc<Event>>,
    /// Has ports looked at for as long as somebody reads.
    _following: Option<Following>,
}

impl EventStream {
    /// Opens the stream behind `after`; none starts with what happens from now on.
    pub(crate) fn open(
        store: Store,
        caller: &Caller,
        sandbox: Option<SandboxId>,
        after: Option<u64>,
    ) -> Self {
        // A place in the order even where none was named, so that a reader who falls behind, or
        // comes back, goes on there and not at the beginning.
        let after = after.unwrap_or_else(|| store.last_event());
        // Subscribed before the first read: what is committed in between arrives twice and is
        // dropped by its number, instead of never.
        let live = store.subscribe();
        Self {
            store,
            owner: caller.owner().clone(),
            sandbox,
            after,
            page: Vec::new().into_iter(),
            behind: true,
            live,
            _following: None,
        }
    }

    /// The same, with what it keeps going.
    pub(crate) fn with(self, following: Following) -> Self {
        Self { _following: Some(following), ..self }
    }

    /// The number behind which the next event is; that of the last one once there was any.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.after
    }

    /// The next event; waits for one. `None` when the server shuts down.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Store`] when the table cannot be read.
    pub async fn next(&mut self) -> Result<Option<Arc<Event>>, SandboxError> {
        loop {
            if let Some(event) = self.page.next() {
                self.after = event.seq;
                return Ok(Some(event));
            }
            if self.behind {
                self.read_page().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(event) if event.seq > self.after => {
                    self.after = event.seq;
                    if self.wants(&event) {
                        return Ok(Some(event));
                    }
                }
                Ok(_seen_before) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                Err(broadcast::error::RecvError::Closed) => return Ok(None),
            }
        }
    }

    fn wants(&self, event: &Event) -> bool {
        event.owner == self.owner && self.sandbox.is_none_or(|id| id == event.sandbox)
    }

    async fn read_page(&mut self) -> Result<(), SandboxError> {
        let found = self
            .store
            .events_after(self.after, &self.owner, self.sandbox, PAGE)
            .await
            .map_err(SandboxError::store("read the events"))?;
        self.behind = found.len() == PAGE as usize;
        self.page = found.into_iter();
        Ok(())
    }
}
