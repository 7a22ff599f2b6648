//! Watching a directory: `filesystem.Filesystem/WatchDir` of the agent.

use warren_proto::filesystem::{
    EventType, WatchDirRequest, WatchDirResponse, watch_dir_response::Event,
};

use super::{Guest, GuestError, messages::Messages};

/// What happened to a file. All of it is the guest's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// What happened.
    pub kind: ChangeKind,
    /// The absolute path; empty where changes were lost.
    pub path: String,
}

/// What can happen to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was made, or moved here.
    Create,
    /// Its contents changed.
    Write,
    /// It was removed.
    Remove,
    /// It was moved away from this path.
    Rename,
    /// Its mode, owner or times changed.
    Chmod,
    /// Changes were lost: whoever keeps a copy looks again.
    Overflow,
}

/// The changes in a directory, as they arrive.
#[derive(Debug)]
pub(crate) struct WatchStream {
    root: String,
    messages: Messages<WatchDirResponse>,
}

impl Guest {
    /// Watches a directory, and all below it where `recursive`. Whatever happens once this has
    /// returned is told.
    pub(crate) async fn watch(
        &self,
        user: Option<&str>,
        path: &str,
        recursive: bool,
    ) -> Result<WatchStream, GuestError> {
        // Changes are told relative to the directory; only the agent knows where that is.
        let root = self.stat(user, path).await?.path;
        let request = WatchDirRequest {
            path: root.clone(),
            recursive,
            report_overflow: true,
            ..WatchDirRequest::default()
        };
        let mut messages: Messages<WatchDirResponse> =
            self.messages("/filesystem.Filesystem/WatchDir", user, &request).await?;
        let started = super::within(super::CALL, messages.next()).await?;
        match started.and_then(|message| message.event) {
            Some(Event::Start(_)) => Ok(WatchStream { root, messages }),
            _ => Err(GuestError::Missing("start event")),
        }
    }
}

impl WatchStream {
    /// The directory's absolute path.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// The next change; none when the agent has ended the stream. Dropping the future loses
    /// nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<FileChange>, GuestError> {
        while let Some(message) = self.messages.next().await? {
            let Some(Event::Filesystem(event)) = message.event else { continue };
            let kind = match event.r#type.as_known() {
                Some(EventType::Create) => ChangeKind::Create,
                Some(EventType::Write) => ChangeKind::Write,
                Some(EventType::Remove) => ChangeKind::Remove,
                Some(EventType::Rename) => ChangeKind::Rename,
                Some(EventType::Chmod) => ChangeKind::Chmod,
                Some(EventType::Overflow) => {
                    return Ok(Some(FileChange {
                        kind: ChangeKind::Overflow,
                        path: String::new(),
                    }));
                }
                // A newer agent's, which we did not ask for.
                Some(EventType::Unspecified) | None => continue,
            };
            let root = self.root.trim_end_matches('/');
            let path = format!("{root}/{}", event.name);
            return Ok(Some(FileChange { kind, path }));
        }
        Ok(None)
    }
}
