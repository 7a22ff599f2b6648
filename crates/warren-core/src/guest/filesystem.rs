//! Paths: the service `filesystem.Filesystem` of the agent.

use std::time::Duration;

use warren_proto::filesystem::{
    EntryInfo, FileType, ListDirRequest, ListDirResponse, MakeDirRequest, MakeDirResponse,
    MoveRequest, MoveResponse, RemoveRequest, RemoveResponse, StatRequest, StatResponse,
};

use super::{Guest, GuestError};
use crate::clock::Timestamp;

/// What is known about a path in a sandbox. All of it is the guest's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// The last part of the path.
    pub name: String,
    /// The absolute path.
    pub path: String,
    /// What is there.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
    /// The name of its owner.
    pub owner: String,
    /// The name of its group.
    pub group: String,
    /// When its contents last changed.
    pub modified_at: Option<Timestamp>,
    /// Where it points, for a symbolic link.
    pub symlink_target: Option<String>,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a socket or a pipe.
    Other,
}

impl Guest {
    pub(crate) async fn stat(
        &self,
        user: Option<&str>,
        path: &str,
    ) -> Result<FileInfo, GuestError> {
        let request = StatRequest { path: path.to_owned() };
        let answer: StatResponse =
            self.unary("/filesystem.Filesystem/Stat", user, &request).await?;
        info(answer.entry.into_option())
    }

    pub(crate) async fn list_directory(
        &self,
        user: Option<&str>,
        path: &str,
        depth: u32,
    ) -> Result<Vec<FileInfo>, GuestError> {
        let request = ListDirRequest { path: path.to_owned(), depth };
        let answer: ListDirResponse =
            self.unary("/filesystem.Filesystem/ListDir", user, &request).await?;
        Ok(answer.entries.into_iter().map(convert).collect())
    }

    pub(crate) async fn make_directory(
        &self,
        user: Option<&str>,
        path: &str,
    ) -> Result<FileInfo, GuestError> {
        let request = MakeDirRequest { path: path.to_owned() };
        let answer: MakeDirResponse =
            self.unary("/filesystem.Filesystem/MakeDir", user, &request).await?;
        info(answer.entry.into_option())
    }

    pub(crate) async fn rename(
        &self,
        user: Option<&str>,
        from: &str,
        to: &str,
    ) -> Result<FileInfo, GuestError> {
        let request = MoveRequest { source: from.to_owned(), destination: to.to_owned() };
        let answer: MoveResponse =
            self.unary("/filesystem.Filesystem/Move", user, &request).await?;
        info(answer.entry.into_option())
    }

    pub(crate) async fn remove(&self, user: Option<&str>, path: &str) -> Result<(), GuestError> {
        let request = RemoveRequest { path: path.to_owned() };
        let _removed: RemoveResponse =
            self.unary("/filesystem.Filesystem/Remove", user, &request).await?;
        Ok(())
    }
}

fn info(entry: Option<EntryInfo>) -> Result<FileInfo, GuestError> {
    entry.map(convert).ok_or(GuestError::Missing("entry"))
}

fn convert(entry: EntryInfo) -> FileInfo {
    let kind = match (entry.is_symlink, entry.r#type.to_i32()) {
        (Some(true), _) => FileKind::Symlink,
        (_, kind) if kind == FileType::File as i32 => FileKind::File,
        (_, kind) if kind == FileType::Directory as i32 => FileKind::Directory,
        (_, kind) if kind == FileType::Symlink as i32 => FileKind::Symlink,
        _ => FileKind::Other,
    };
    let modified_at = entry.modified_time.as_option().and_then(|time| {
        let since = Duration::new(
            u64::try_from(time.seconds).ok()?,
            u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?,
        );
        Some(Timestamp::from_millis(u64::try_from(since.as_millis()).ok()?))
    });
    FileInfo {
        name: entry.name,
        path: entry.path,
        kind,
        size: u64::try_from(entry.size).unwrap_or_default(),
        mode: entry.mode & 0o7777,
        owner: entry.owner,
        group: entry.group,
        modified_at,
        symlink_target: entry.symlink_target,
    }
}
