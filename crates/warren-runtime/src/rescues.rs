//! Bundles of work whose sandboxes had to go: one file each, whole or not there.

use std::{
    collections::HashSet,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use tokio::io::AsyncWrite;
use warren_core::{git::RescueFiles, id::SandboxId};

/// What a file that is not whole is called at its end.
const PART: &str = ".part";
const WHOLE: &str = ".bundle";

/// The bundles of one data directory.
#[derive(Debug)]
pub(crate) struct Rescues {
    root: PathBuf,
}

impl Rescues {
    /// The bundles below a data directory. What is needed there is made when it is.
    pub(crate) fn new(data: &Path) -> Self {
        Self { root: data.join("rescues") }
    }

    fn path(&self, sandbox: SandboxId, end: &str) -> PathBuf {
        self.root.join(format!("{sandbox}{end}"))
    }

    fn make_root(&self) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        fs::set_permissions(&self.root, Permissions::from_mode(0o700))
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[async_trait]
impl RescueFiles for Rescues {
    async fn begin(&self, sandbox: SandboxId) -> io::Result<Box<dyn AsyncWrite + Send + Unpin>> {
        self.make_root()?;
        let file = tokio::fs::File::create(self.path(sandbox, PART)).await?;
        Ok(Box::new(file))
    }

    async fn keep(&self, sandbox: SandboxId) -> io::Result<()> {
        let (part, whole) = (self.path(sandbox, PART), self.path(sandbox, WHOLE));
        let root = self.root.clone();
        let kept = tokio::task::spawn_blocking(move || {
            File::open(&part)?.sync_all()?;
            fs::rename(&part, &whole)?;
            File::open(&root)?.sync_all()
        });
        kept.await.map_err(io::Error::other)?
    }

    async fn open(&self, sandbox: SandboxId) -> io::Result<File> {
        File::open(self.path(sandbox, WHOLE))
    }

    async fn discard(&self, sandbox: SandboxId) -> io::Result<()> {
        gone(fs::remove_file(self.path(sandbox, PART)))
    }

    async fn remove(&self, sandbox: SandboxId) -> io::Result<()> {
        self.discard(sandbox).await?;
        gone(fs::remove_file(self.path(sandbox, WHOLE)))
    }

    async fn retain(&self, known: HashSet<SandboxId>) -> io::Result<()> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(WHOLE)?.parse().ok());
            if !id.is_some_and(|id| known.contains(&id)) {
                gone(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn a_bundle_is_whole_or_not_there() {
        let data = tempfile::tempdir().unwrap();
        let rescues = Rescues::new(data.path());
        let (one, two) = (SandboxId::mint(), SandboxId::mint());
        assert!(rescues.retain(HashSet::new()).await.is_ok());
        for id in [one, two] {
            let mut file = rescues.begin(id).await.unwrap();
            file.write_all(b"bundle").await.unwrap();
            file.shutdown().await.unwrap();
            assert!(rescues.open(id).await.is_err());
        }
        rescues.keep(one).await.unwrap();
        let mut text = String::new();
        rescues.open(one).await.unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "bundle");
        rescues.retain([one, two].into()).await.unwrap();
        assert_eq!(fs::read_dir(data.path().join("rescues")).unwrap().count(), 1);
        drop(rescues.begin(one).await.unwrap());
        rescues.discard(one).await.unwrap();
        assert!(rescues.open(one).await.is_ok());
        rescues.remove(one).await.unwrap();
        rescues.remove(one).await.unwrap();
        assert!(rescues.open(one).await.is_err());
    }
}
