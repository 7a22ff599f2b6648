//! Files of a layer, as a tar archive.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use tar::{Builder, EntryType, Header, HeaderMode};

/// A tar archive that is being written. Nothing is checked: a test may want `../x`.
pub struct Tree(Builder<Vec<u8>>);

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("bytes", &self.0.get_ref().len()).finish()
    }
}

impl Default for Tree {
    fn default() -> Self {
        let mut builder = Builder::new(Vec::new());
        builder.follow_symlinks(false);
        Self(builder)
    }
}

impl Tree {
    /// Everything below a directory of this host, root as the owner and nothing of when it was made:
    /// the same files are the same layer.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.below(directory, Path::new("."))?;
        Ok(tree)
    }

    fn below(&mut self, place: &Path, name: &Path) -> io::Result<()> {
        let about = place.symlink_metadata()?;
        let mut header = Header::new_gnu();
        header.set_metadata_in_mode(&about, HeaderMode::Deterministic);
        // That mode would make all directories alike, and `/tmp` is not.
        header.set_mode(about.permissions().mode() & 0o7777);
        if about.is_symlink() {
            return self.0.append_link(&mut header, name, fs::read_link(place)?);
        }
        if about.is_file() {
            return self.0.append_data(&mut header, name, File::open(place)?);
        }
        self.0.append_data(&mut header, name, io::empty())?;
        let mut entries = fs::read_dir(place)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            self.below(&entry.path(), &name.join(entry.file_name()))?;
        }
        Ok(())
    }

    /// Adds one file of this host under another name.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn copy(mut self, file: &Path, name: &Path) -> io::Result<Self> {
        self.0.append_path_with_name(file, name)?;
        Ok(self)
    }

    /// Adds a directory.
    #[must_use]
    pub fn directory(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", 0o755, &[])
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", 0o755, content)
    }

    /// Adds a directory whose name is longer than an entry has room for.
    #[must_use]
    pub fn long_directory(mut self, path: &str) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        // Writing to memory does not fail.
        drop(self.0.append_data(&mut header, path, io::empty()));
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, &[])
    }

    /// Adds another name of a file.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, &[])
    }

    /// Adds an entry of any kind, its names as they are. Each name has at most 100 bytes.
    #[must_use]
    pub fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        link: &str,
        mode: u32,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        put(&mut header.as_old_mut().name, path);
        put(&mut header.as_old_mut().linkname, link);
        header.set_cksum();
        // Writing to memory does not fail, and the size is the content's.
        drop(self.0.append(&header, content));
        self
    }

    /// The archive.
    #[must_use]
    pub fn into_tar(self) -> Vec<u8> {
        // The builder writes to memory, which does not fail.
        self.0.into_inner().unwrap_or_default()
    }
}

fn put(field: &mut [u8; 100], text: &str) {
    for (place, byte) in field.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_in_the_archive_even_if_it_is_hostile() {
        let tar = Tree::default()
            .directory("etc/")
            .file("etc/motd", b"hello")
            .symlink("motd", "etc/motd")
            .file("../escape", b"x")
            .into_tar();
        let mut archive = tar::Archive::new(tar.as_slice());
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["etc/", "etc/motd", "motd", "../escape"]);
    }
}
