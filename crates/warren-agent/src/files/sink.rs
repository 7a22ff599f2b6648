//! Writing one file.
//!
//! Watchers must see an upload of a new file as exactly three events: created, attributes changed
//! (its owner is set), written. So it is written in place, its owner is set before its content, and
//! what is small is written at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use rustix::fs::{FileType as Kind, OFlags};
use rustix::process::{Gid, Uid};
use serde_json::{Value, json};
use warren_proto::{Code, Status};
use warren_sys::beneath;

use super::{PIECE_BYTES, refuse_own};
use crate::daemon::Agent;
use crate::filesystem::context::{Context, failed, on_thread};
use crate::filesystem::{make, metadata, path};

/// Mode of new files; the umask takes the write bits of others.
const FILE_MODE: u32 = 0o666;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Sink {
    agent: Arc<Agent>,
    context: Context,
    path: String,
    file: Arc<File>,
    metadata: BTreeMap<String, String>,
    buffer: Vec<u8>,
}

impl Sink {
    /// Opens the file at a path as a caller writes it: makes it and its parents, or empties it.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for a directory or what is no file, `permission_denied`,
    /// `resource_exhausted` on a full disk.
    pub(super) async fn open(
        agent: &Arc<Agent>,
        user: Option<String>,
        path: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, Status> {
        let (wanted, values) = (path.to_owned(), metadata.clone());
        let (context, path, file) = on_thread(agent, user, move |context| {
            let path = context.path(&wanted)?;
            let file = create(context, &path, &values)?;
            Ok((context.clone(), path, file))
        })
        .await?;
        Ok(Self {
            agent: Arc::clone(agent),
            context,
            path,
            file: Arc::new(file),
            metadata: metadata.clone(),
            buffer: Vec::new(),
        })
    }

    /// The absolute path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Takes content. Writes when enough has come together.
    ///
    /// # Errors
    ///
    /// `resource_exhausted` on a full disk, or the file system's error.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> Result<(), Status> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Gives the file these permission bits, whatever the umask.
    ///
    /// # Errors
    ///
    /// `permission_denied` when the file is somebody else's.
    pub(super) async fn set_mode(&self, mode: u32) -> Result<(), Status> {
        let (file, context, path) =
            (Arc::clone(&self.file), self.context.clone(), self.path.clone());
        let work = move || {
            let mode = rustix::fs::Mode::from_raw_mode(mode);
            let change = || rustix::fs::fchmod(&*file, mode).map_err(io::Error::from);
            context.act(|| change().map_err(failed("change the mode of", &path)))
        };
        self.agent.pool.with_files(work).await
    }

    /// Writes what is left, and describes the file as the answer to its upload does.
    ///
    /// # Errors
    ///
    /// As [`Self::push`].
    pub(super) async fn finish(mut self) -> Result<Value, Status> {
        if !self.buffer.is_empty() {
            self.flush().await?;
        }
        let mut entry = json!({"path": self.path, "name": path::name(&self.path), "type": "file"});
        if !self.metadata.is_empty()
            && let Some(entry) = entry.as_object_mut()
        {
            entry.insert("metadata".to_owned(), json!(self.metadata));
        }
        Ok(entry)
    }

    async fn flush(&mut self) -> Result<(), Status> {
        let buffer = std::mem::take(&mut self.buffer);
        let (file, context, path) =
            (Arc::clone(&self.file), self.context.clone(), self.path.clone());
        let work = move || {
            let written =
                context.act(|| (&*file).write_all(&buffer).map_err(failed("write", &path)));
            let mut buffer = buffer;
            buffer.clear();
            written.map(|()| buffer)
        };
        self.buffer = self.agent.pool.with_files(work).await?;
        Ok(())
    }
}

impl Drop for Sink {
    /// Closing may wait for a file system; that belongs on a thread.
    fn drop(&mut self) {
        let file = Arc::clone(&self.file);
        let pool = self.agent.pool.clone();
        self.agent.tasks.spawn(async move {
            let close = move || {
                drop(file);
                Ok(())
            };
            drop(pool.with_files(close).await);
        });
    }
}

fn create(
    context: &Context,
    path: &str,
    values: &BTreeMap<String, String>,
) -> Result<File, Status> {
    let open = || beneath::open(path, OFlags::WRONLY | OFlags::CREATE, FILE_MODE.into());
    let opened = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make::make_parents(path)?;
            open()
        }
        opened => opened,
    };
    let file = File::from(opened.map_err(failed("write", path))?);
    refuse_own(&file, true, path)?;
    let stat = rustix::fs::fstat(&file).map_err(|it| failed("write", path)(it.into()))?;
    if Kind::from_raw_mode(stat.st_mode) != Kind::RegularFile {
        return Err(Status::new(Code::InvalidArgument, format!("path '{path}' is not a file")));
    }
    if stat.st_size > 0 {
        file.set_len(0).map_err(failed("write", path))?;
    }
    own(context, &file);
    metadata::replace(&file, values)?;
    Ok(file)
}

/// Makes the file the user's. One that was there and is somebody else's stays so.
fn own(context: &Context, file: &File) {
    let identity = context.owner();
    let (user, group) = (Uid::from_raw(identity.0), Gid::from_raw(identity.1));
    let _not_ours = rustix::fs::fchown(file, Some(user), Some(group));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::state::Sandbox;
    use std::fs;

    fn context() -> Context {
        Context::new(Some("root"), Sandbox::default().into(), false).unwrap()
    }

    #[test]
    fn files_are_made_emptied_and_never_devices() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        create(&context(), &at("a/b/new"), &BTreeMap::new()).unwrap();
        assert_eq!(fs::read(at("a/b/new")).unwrap(), b"");
        fs::write(at("old"), "content").unwrap();
        create(&context(), &at("old"), &BTreeMap::new()).unwrap();
        assert_eq!(fs::read(at("old")).unwrap(), b"");
        for path in [&at("a"), "/dev/null", "/proc/self/mem", "/proc/sys/kernel/hostname"] {
            let code = create(&context(), path, &BTreeMap::new()).unwrap_err().code;
            let refused = [Code::InvalidArgument, Code::PermissionDenied];
            assert!(refused.contains(&code), "{path}: {code}");
        }
    }

    #[test]
    fn a_new_file_has_the_usual_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        create(&context(), path.to_str().unwrap(), &BTreeMap::new()).unwrap();
        rustix::process::umask(before);
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o644);
    }
}
