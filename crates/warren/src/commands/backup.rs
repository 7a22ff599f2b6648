//! `warren backup`

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::Context;
use crate::error::{CliError, Kind};

/// Copy the server's database to a file
///
/// The copy is consistent while sandboxes come and go: sandboxes with their environments, events,
/// projects, hashes of keys, and secrets as they are encrypted. The key that opens those,
/// `secrets.key` in the data directory, is not in it: keep a copy of that elsewhere. The files of
/// sandboxes are not in it either. Only its owner can read the file; one that exists is not
/// replaced. On the server's own machine alone.
#[derive(clap::Args, Debug)]
pub(crate) struct BackupArgs {
    /// The file to make
    #[arg(value_name = "FILE")]
    copy: PathBuf,
}

pub(crate) async fn backup(cx: &Context<'_>, args: BackupArgs) -> Result<ExitCode, CliError> {
    let target = Target::make(&args.copy).map_err(failed(&args.copy))?;
    let copied = cx.wait("copying the database", copy(cx, &target.file)).await?;
    target.finish().map_err(failed(&args.copy))?;
    if cx.output.json {
        let path = std::path::absolute(&args.copy).unwrap_or(args.copy);
        let told = serde_json::json!({ "file": path, "size": copied, "holds_seal_key": false });
        cx.output.value(&told)?;
    } else {
        cx.output.talk(&format!("copied {copied} bytes to {}", args.copy.display()));
        cx.output.talk(&format!(
            "the key of the secrets, {} in the data directory, is not in it",
            crate::serve::key_file::SECRETS
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    move |error| {
        let exists = error.kind() == io::ErrorKind::AlreadyExists;
        let error = CliError::new(Kind::Local, MakeFailed { path: path.into(), source: error });
        if exists { error.hint("name another file, or remove this one") } else { error }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("could not make {}", path.display())]
struct MakeFailed {
    path: PathBuf,
    #[source]
    source: io::Error,
}

async fn copy(cx: &Context<'_>, mut target: &File) -> Result<u64, CliError> {
    let mut source = cx.client.backup().await?;
    let mut copied = 0;
    while let Some(piece) = source.chunk().await? {
        target.write_all(&piece).map_err(CliError::local("write the copy"))?;
        copied += piece.len() as u64;
    }
    Ok(copied)
}

/// The file under way. It has no name until it is whole, so that nothing is left of one that
/// fails, or whose making is killed.
pub(super) struct Target<'a> {
    pub(super) file: File,
    path: &'a Path,
    directory: &'a Path,
}

impl<'a> Target<'a> {
    pub(super) fn make(path: &'a Path) -> io::Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new("."));
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?.into();
        Ok(Self { file, path, directory })
    }

    /// Gives it its name, where nothing has it meanwhile.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        let nameless = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let follow = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(CWD, nameless, CWD, self.path, follow)?;
        File::open(self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_copy_has_a_name_once_it_is_whole_and_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("copy.db");
        let mut target = Target::make(&path).unwrap();
        target.file.write_all(b"half").unwrap();
        drop(target);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

        let mut target = Target::make(&path).unwrap();
        target.file.write_all(b"whole").unwrap();
        let late = Target::make(&path).unwrap();
        target.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(late.finish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let again = Target::make(&path).map(drop).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
