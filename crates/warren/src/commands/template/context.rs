//! The files of a directory that are sent to a build, as a tar archive.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tar::{Builder, EntryType, Header};
use tokio::{io::AsyncRead, sync::mpsc};
use warren_dockerfile::Ignore;

use crate::{
    error::{CliError, Kind},
    transfer,
};

/// The size of a piece.
const PIECE: usize = 256 << 10;

/// What is left out: by the file beside the recipe that has its name, or the directory's.
pub(super) fn ignore(directory: &Path, recipe: &Path) -> Result<Ignore, CliError> {
    let mut own = recipe.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), directory.join(".dockerignore")] {
        let failed =
            |error: String| CliError::new(Kind::Local, format!("{}: {error}", path.display()));
        match fs::read_to_string(&path) {
            Ok(text) => return Ignore::parse(&text).map_err(|error| failed(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    Ok(Ignore::default())
}

/// A directory as an archive, made as it is read.
pub(super) fn archive(
    directory: &Path,
    ignore: Ignore,
) -> Result<impl AsyncRead + Send + Unpin + 'static, CliError> {
    let root = directory.to_owned();
    if !root.is_dir() {
        let reason = format!("{} is no directory", root.display());
        return Err(CliError::new(Kind::Usage, reason));
    }
    let (sender, receiver) = mpsc::channel(2);
    let pieces = Pieces { sender, held: Vec::with_capacity(PIECE) };
    std::thread::Builder::new()
        .name("archive".to_owned())
        .spawn(move || {
            let mut builder = Builder::new(pieces);
            // A broken archive has no end, which the server says; why is told here.
            let packed = below(&mut builder, &root, "", &ignore)
                .and_then(|()| io::Write::flush(&mut builder.into_inner()?));
            if let Err(error) = packed {
                tracing::error!("the files could not be read: {error}");
            }
        })
        .map_err(CliError::local("start a thread"))?;
    Ok(transfer::reader(receiver))
}

fn below(
    archive: &mut Builder<Pieces>,
    root: &Path,
    directory: &str,
    ignore: &Ignore,
) -> io::Result<()> {
    let mut entries = fs::read_dir(root.join(directory))?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| {
            let reason = format!("the name {} is not UTF-8", name.to_string_lossy());
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        let path =
            if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
        let meta = entry.metadata()?;
        let left_out = ignore.excludes(&path);
        if meta.is_dir() && !ignore.excludes_all(&path) {
            // Something in it may be kept although the directory itself is not named.
            if !left_out {
                append(archive, root, &path, &meta)?;
            }
            below(archive, root, &path, ignore)?;
        } else if !left_out {
            append(archive, root, &path, &meta)?;
        }
    }
    Ok(())
}

fn append(
    archive: &mut Builder<Pieces>,
    root: &Path,
    path: &str,
    meta: &fs::Metadata,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(meta.permissions().mode() & 0o777);
    let modified = meta.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    header.set_mtime(modified.as_secs());
    header.set_size(0);
    let full = root.join(path);
    if meta.is_dir() {
        header.set_entry_type(EntryType::Directory);
        archive.append_data(&mut header, path, io::empty())
    } else if meta.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        let target = fs::read_link(full)?;
        archive.append_link(&mut header, path, target)
    } else if meta.is_file() {
        header.set_entry_type(EntryType::Regular);
        let file = fs::File::open(full)?;
        let length = file.metadata()?.len();
        header.set_size(length);
        archive.append_data(&mut header, path, io::Read::take(file, length))
    } else {
        // Sockets, pipes and devices are no part of a template.
        Ok(())
    }
}

/// A writer whose bytes are read elsewhere.
struct Pieces {
    sender: mpsc::Sender<Bytes>,
    held: Vec<u8>,
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.held);
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        match piece.is_empty() {
            true => Ok(()),
            false => self.sender.blocking_send(piece.into()).map_err(gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_ignored_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("target/debug")).unwrap();
        fs::create_dir_all(root.join("docs")).unwrap();
        for file in ["a.txt", "target/debug/x", "docs/a.md", "docs/keep.md", "b.log"] {
            fs::write(root.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("a.txt", root.join("link")).unwrap();
        fs::write(root.join(".dockerignore"), "target\n*.log\ndocs\n!docs/keep.md\n").unwrap();
        let ignore = ignore(root, &root.join("Dockerfile")).unwrap();
        let mut bytes = Vec::new();
        archive(root, ignore).unwrap().read_to_end(&mut bytes).await.unwrap();
        let mut archive = tar::Archive::new(&*bytes);
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, [".dockerignore", "a.txt", "docs/keep.md", "link"]);
    }
}
