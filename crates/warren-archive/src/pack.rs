//! Packing.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Dir, FileType, OFlags, ResolveFlags, Stat, fstat, fstatfs, readlinkat, statat,
};
use rustix::io::Errno;
use tar::EntryType;

use crate::error::{PackError, shown};
use crate::format::{Head, pad, padding, write_end, write_failure, write_head};
use crate::tree::open_beneath;

/// File systems that hold no files: proc, sysfs, cgroup (two), devpts, debugfs, tracefs,
/// securityfs, bpf, configfs, fusectl, mqueue. In them reading does things, and never ends.
const PSEUDO: [u64; 12] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6265_6570,
    0x6573_5543,
    0x1980_0202,
];
/// Files with several names that are remembered; beyond, each name is a file of its own.
const MOST_LINKS: usize = 100_000;

/// Packs a directory, or one file, into an archive.
///
/// It is asked for the archive's bytes piece by piece, and does its work (which blocks) in
/// [`read`](Self::read), with the rights of whoever calls it. Entries are named relative to the
/// directory, the first one is `./` for itself, each directory in order of its names. Files keep
/// modes, times and hard links; links are packed, not followed; devices, pipes, sockets and what
/// `/proc` and its like hold are left out.
///
/// What cannot be read ends the archive: it is then broken on purpose and says why, in words that
/// [`crate::Unpacker`] gives as [`crate::UnpackError::Reported`].
#[derive(Debug)]
pub struct Packer {
    root: OwnedFd,
    /// What is still to be packed, the next one last.
    pending: Vec<Step>,
    file: Option<Content>,
    links: HashMap<(u64, u64), Vec<u8>>,
    skipped: u64,
}

#[derive(Debug)]
enum Step {
    /// A directory's content; empty for the root.
    Enter(Vec<u8>),
    /// Something by its path below the root.
    Entry(Vec<u8>),
    /// One open file, under this name.
    File(File, Vec<u8>),
    End,
}

/// A file that is being read.
#[derive(Debug)]
struct Content {
    file: File,
    name: Vec<u8>,
    size: u64,
    left: u64,
}

impl Packer {
    /// Packs what is below a directory.
    #[must_use]
    pub fn directory(root: OwnedFd) -> Self {
        Self::new(root, Step::Enter(Vec::new()))
    }

    /// Packs one file, under a name.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn file(file: File, name: &[u8]) -> std::io::Result<Self> {
        let root = file.try_clone()?.into();
        Ok(Self::new(root, Step::File(file, name.to_vec())))
    }

    fn new(root: OwnedFd, first: Step) -> Self {
        let pending = vec![Step::End, first];
        Self { root, pending, file: None, links: HashMap::new(), skipped: 0 }
    }

    /// How many devices, pipes, sockets and file systems without files were left out so far.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Appends about `want` bytes to `out`, more by an entry's head; false when there were none
    /// left.
    ///
    /// # Errors
    ///
    /// [`PackError`] for a file that cannot be read to its end. The archive is broken then.
    pub fn read(&mut self, out: &mut Vec<u8>, want: usize) -> Result<bool, PackError> {
        let (start, end) = (out.len(), out.len() + want);
        while out.len() < end {
            if let Some(content) = &mut self.file {
                let room = end - out.len();
                if content.read(out, room)? {
                    self.file = None;
                }
                continue;
            }
            let Some(step) = self.pending.pop() else { break };
            if let Err(failure) = self.step(step, out) {
                self.pending.clear();
                let (name, error) = failure;
                write_failure(out, &format!("could not read '{}': {error}", shown(&name)));
            }
        }
        Ok(out.len() > start)
    }

    fn step(&mut self, step: Step, out: &mut Vec<u8>) -> Result<(), (Vec<u8>, std::io::Error)> {
        let named = |name: Vec<u8>| move |error: Errno| (name, error.into());
        match step {
            Step::End => write_end(out),
            Step::Enter(path) => self.enter(&path, out).map_err(named(path))?,
            Step::Entry(path) => match self.entry(&path, out) {
                Err(Errno::NOENT) => {} // gone since its directory was read
                packed => packed.map_err(named(path))?,
            },
            Step::File(file, name) => {
                let stat = fstat(&file).map_err(named(name.clone()))?;
                self.begin(file, &name, &stat, out);
            }
        }
        Ok(())
    }

    /// Writes a directory's own entry and queues what is in it.
    fn enter(&mut self, path: &[u8], out: &mut Vec<u8>) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = open_beneath(&self.root, path, flags, RESOLVE)?;
        if PSEUDO.contains(&fstatfs(&directory)?.f_type.cast_unsigned()) {
            self.skipped += 1;
            return Ok(());
        }
        let stat = fstat(&directory)?;
        let name = if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() };
        write(out, EntryType::Directory, &name, b"", &stat, 0);
        let mut names: Vec<CString> = Vec::new();
        for item in Dir::read_from(&directory)? {
            let name = item?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        names.sort_unstable();
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let entry = |name: CString| Step::Entry([&prefix, name.to_bytes()].concat());
        self.pending.extend(names.into_iter().rev().map(entry));
        Ok(())
    }

    fn entry(&mut self, path: &[u8], out: &mut Vec<u8>) -> Result<(), Errno> {
        let (parent, name) = match path.iter().rposition(|it| *it == b'/') {
            Some(at) => {
                (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default())
            }
            None => (&b""[..], path),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = open_beneath(&self.root, parent, flags, RESOLVE)?;
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.pending.push(Step::Enter(path.to_vec())),
            FileType::Symlink => {
                let target = readlinkat(&parent, name, Vec::new())?;
                write(out, EntryType::Symlink, path, target.as_bytes(), &stat, 0);
            }
            FileType::RegularFile => {
                // No-block: it may be something else by now.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let file = open_beneath(&parent, name, flags | OFlags::NOFOLLOW, RESOLVE)?;
                let stat = fstat(&file)?;
                if FileType::from_raw_mode(stat.st_mode).is_file() {
                    self.begin(file.into(), path, &stat, out);
                }
            }
            _ => self.skipped += 1,
        }
        Ok(())
    }

    /// Writes a file's head; its content follows, unless it was packed under another name.
    fn begin(&mut self, file: File, path: &[u8], stat: &Stat, out: &mut Vec<u8>) {
        if stat.st_nlink > 1 {
            let identity = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&identity) {
                return write(out, EntryType::Link, path, first, stat, 0);
            }
            if self.links.len() < MOST_LINKS {
                self.links.insert(identity, path.to_vec());
            }
        }
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        write(out, EntryType::Regular, path, b"", stat, size);
        if size > 0 {
            self.file = Some(Content { file, name: path.to_vec(), size, left: size });
        }
    }
}

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

impl Content {
    /// Appends up to `room` bytes, and the padding behind the last; true at the end.
    fn read(&mut self, out: &mut Vec<u8>, room: usize) -> Result<bool, PackError> {
        let want = self.left.min(room as u64);
        let read = (&self.file).take(want).read_to_end(out);
        let fail = |source| PackError::Read { name: shown(&self.name), source };
        let read = read.map_err(fail)? as u64;
        self.left -= read;
        if read < want {
            return Err(PackError::Shrunk { name: shown(&self.name) });
        }
        if self.left > 0 {
            return Ok(false);
        }
        if padding(self.size) > 0 {
            pad(out, self.size);
        }
        Ok(true)
    }
}

fn write(out: &mut Vec<u8>, kind: EntryType, name: &[u8], link: &[u8], stat: &Stat, size: u64) {
    let owner = (stat.st_uid, stat.st_gid);
    let (mode, modified_seconds) = (stat.st_mode, stat.st_mtime);
    write_head(out, &Head { kind, name, link, mode, owner, modified_seconds, size });
}
