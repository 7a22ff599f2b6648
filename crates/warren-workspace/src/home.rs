//! `AGENTVM_HOME`: where the files of agents are, and how they are read and written.
//!
//! ```text
//! $AGENTVM_HOME/
//!   env                 keys of providers, 0600
//!   config              defaults, such as AGENTVM_DEFAULT_PROFILE
//!   history.log         the journal
//!   hooks/              programs of the person's own
//!   profiles/           profiles of the person's own: NAME.env, NAME.toml
//!   workspaces/NAME/    what the agent works on
//!   state/NAME.env      the record; NAME.log the log; NAME.prompt what a restart types again;
//!                       NAME.sb only of another tool
//!   homes/NAME/         the agent's HOME: outside of the workspace, so that no commit, clone or
//!                       diff of the workspace carries it; an agent sees these two of its own
//!   keys/NAME.pem       the agent's identity
//! ```
//!
//! The directory itself is the person's, and may be reached through links. Below it no link is
//! followed and nothing but regular files is read, so that nothing an agent might put there leads
//! anywhere else. Files appear whole or not at all, and are their owner's alone.

mod claim;

mod steps;

use std::{
    fs::{DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use warren_sys::tree;

pub use claim::Claim;

use crate::name::{AgentName, ProfileName};

/// How large a file that is read whole may be. A log is not read whole.
const MOST_BYTES: u64 = 1 << 20;

/// The directories below a home; an agent's own is in each of the last four.
const DIRECTORIES: [&str; 4] = [STATE, WORKSPACES, HOMES, KEYS];
const STATE: &str = "state";
const WORKSPACES: &str = "workspaces";
const HOMES: &str = "homes";
const KEYS: &str = "keys";
const PROFILES: &str = "profiles";

/// What errors call what belongs somewhere.
const DIRECTORY: &str = "directory";
const FILE: &str = "file";

/// An `AGENTVM_HOME` that is open.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    directory: OwnedFd,
}

/// A file of a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// `env`: keys of providers.
    Env,
    /// `config`: defaults.
    Config,
    /// `history.log`: the journal.
    History,
    /// `state/NAME.env`: the record of an agent.
    Record(&'a AgentName),
    /// `state/NAME.log`: what the agent's program wrote.
    Log(&'a AgentName),
    /// `state/NAME.prompt`: the text that was typed first.
    Prompt(&'a AgentName),
    /// `keys/NAME.pem`: the identity of an agent.
    Key(&'a AgentName),
    /// `profiles/NAME.env`: a profile of the person's own, in agentvm's form.
    SeedProfile(&'a ProfileName),
    /// `profiles/NAME.toml`: a profile of the person's own.
    Profile(&'a ProfileName),
}

/// What could not be done with a file of a home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The operation and what it was done to.
    #[error("could not {step} {}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A link, a pipe or a device, where a file or a directory belongs.
    #[error("{} is a link or no {expected}: nothing below the home leads elsewhere", path.display())]
    Kind {
        /// Where it is.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
    },
    /// Too much to be what it is called.
    #[error("{} is larger than {MOST_BYTES} bytes", path.display())]
    Size {
        /// Where it is.
        path: PathBuf,
    },
    /// Somebody else is doing something to the same agent.
    #[error("agent '{0}' is being changed by another command; try again when that has ended")]
    Claimed(AgentName),
}

impl Home {
    /// Opens a home, and makes what is missing of it, for its owner alone.
    ///
    /// # Errors
    ///
    /// [`HomeError::Kind`] where one of its directories is a link or no directory.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        let failed = |source| HomeError::Io { step: "open", path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        // The server has another working directory.
        let path = path.canonicalize().map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(&path, flags, Mode::empty()).map_err(|it| failed(it.into()))?;
        let home = Self { path, directory };
        for name in DIRECTORIES {
            home.make_directory(Path::new(name))?;
        }
        Ok(home)
    }

    /// Where it is, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file is.
    pub fn path_of(&self, item: Item<'_>) -> PathBuf {
        self.path.join(item.relative())
    }

    /// Where an agent's workspace is. It follows from the name, whatever a record says.
    pub fn workspace(&self, name: &AgentName) -> PathBuf {
        self.path.join(WORKSPACES).join(name.as_str())
    }

    /// Where an agent's HOME is.
    pub fn agent_home(&self, name: &AgentName) -> PathBuf {
        self.path.join(HOMES).join(name.as_str())
    }

    /// The directory itself, for what is looked up below it.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Makes the two directories of an agent, where they are missing.
    ///
    /// # Errors
    ///
    /// As [`Home::open`].
    pub fn make_agent(&self, name: &AgentName) -> Result<(), HomeError> {
        for above in [WORKSPACES, HOMES] {
            self.make_directory(&Path::new(above).join(name.as_str()))?;
        }
        Ok(())
    }

    /// The names of all agents that have a record, sorted.
    ///
    /// # Errors
    ///
    /// Those of the filesystem.
    pub fn agents(&self) -> Result<Vec<AgentName>, HomeError> {
        let mut names: Vec<AgentName> = Vec::new();
        for file in self.names_in(Path::new(STATE))? {
            names.extend(file.strip_suffix(".env").and_then(|it| it.parse().ok()));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The names that have a workspace, a HOME or a key and no record, sorted: of agents that came to
    /// be only in part. Nothing lists them but whoever cleans up.
    ///
    /// # Errors
    ///
    /// Those of the filesystem.
    pub fn leftovers(&self) -> Result<Vec<AgentName>, HomeError> {
        let mut names: Vec<AgentName> = Vec::new();
        for directory in [WORKSPACES, HOMES, KEYS] {
            for file in self.names_in(Path::new(directory))? {
                let name = if directory == KEYS { file.strip_suffix(".pem") } else { Some(&*file) };
                names.extend(name.and_then(|it| it.parse().ok()));
            }
        }
        names.sort_unstable();
        names.dedup();
        let agents = self.agents()?;
        names.retain(|it| agents.binary_search(it).is_err());
        Ok(names)
    }

    /// The names of files in `profiles/` that could be profiles, sorted, without their extension.
    ///
    /// # Errors
    ///
    /// Those of the filesystem; a directory that is not there has none.
    pub fn own_profiles(&self) -> Result<Vec<ProfileName>, HomeError> {
        let mut names: Vec<ProfileName> = Vec::new();
        for file in self.names_in(Path::new(PROFILES))? {
            let stem = file.strip_suffix(".env").or_else(|| file.strip_suffix(".toml"));
            names.extend(stem.and_then(|it| it.parse().ok()));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The names in a directory that are UTF-8; none where it is not there.
    fn names_in(&self, path: &Path) -> Result<Vec<String>, HomeError> {
        let directory = match self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, DIRECTORY) {
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            other => other?,
        };
        let failed = |it: Errno| self.failed("list", path)(it.into());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// Reads a file whole; none where it is not there.
    ///
    /// # Errors
    ///
    /// [`HomeError::Kind`] where it is no regular file, [`HomeError::Size`] where it is larger than
    /// a mebibyte.
    pub fn read(&self, item: Item<'_>) -> Result<Option<Vec<u8>>, HomeError> {
        let Some(file) = self.open_file(item)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let path = || self.path_of(item);
        let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| HomeError::Io { step: "read", path: path(), source })?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(HomeError::Size { path: path() });
        }
        Ok(Some(bytes))
    }

    /// Opens a file for reading; none where it is not there.
    ///
    /// # Errors
    ///
    /// [`HomeError::Kind`] where it is no regular file.
    pub fn open_file(&self, item: Item<'_>) -> Result<Option<File>, HomeError> {
        let relative = PathBuf::from(item.relative());
        match self.open_at(&relative, OFlags::RDONLY, FILE) {
            Ok(file) => Ok(Some(file.into())),
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a file in place of what has that name: it is there whole, or as it was.
    ///
    /// What must not be lost with the machine either is `synced`: keys, and what a person set.
    ///
    /// # Errors
    ///
    /// Those of the filesystem; what was there before is there still.
    pub fn write(&self, item: Item<'_>, bytes: &[u8], synced: bool) -> Result<(), HomeError> {
        let relative = PathBuf::from(item.relative());
        let partial = PathBuf::from(format!("{}.partial", item.relative()));
        // Two writers at once would write into the same file.
        let _turn = self.turn()?;
        let written = self.write_whole(&partial, bytes, synced);
        let written = written.and_then(|()| self.rename(&partial, &relative));
        if written.is_err() {
            drop(self.unlink(&partial));
        }
        written?;
        if synced {
            let (above, _) = self.parent(&relative)?;
            File::from(above).sync_all().map_err(self.failed("sync", &relative))?;
        }
        Ok(())
    }

    fn write_whole(&self, path: &Path, bytes: &[u8], synced: bool) -> Result<(), HomeError> {
        // One that a crash left may have other rights, or other names.
        self.unlink(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = File::from(self.open_at(path, flags, FILE)?);
        file.write_all(bytes)
            .and_then(|()| if synced { file.sync_all() } else { Ok(()) })
            .map_err(self.failed("write", path))
    }

    /// Adds `line` to the end of a file, in one piece. A line feed is added to it.
    ///
    /// # Errors
    ///
    /// Those of the filesystem.
    pub fn append(&self, item: Item<'_>, line: &str) -> Result<(), HomeError> {
        let relative = PathBuf::from(item.relative());
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        let mut file = File::from(self.open_at(&relative, flags, FILE)?);
        file.write_all(format!("{line}\n").as_bytes()).map_err(self.failed("write", &relative))
    }

    /// Opens the log of an agent for writing at its end, empty.
    ///
    /// # Errors
    ///
    /// Those of the filesystem.
    pub fn begin_log(&self, name: &AgentName) -> Result<File, HomeError> {
        let relative = PathBuf::from(Item::Log(name).relative());
        // A new file: whoever still writes to an old one writes to that.
        self.unlink(&relative)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
        Ok(self.open_at(&relative, flags, FILE)?.into())
    }

    /// Opens the log of an agent for writing at its end, behind what it holds.
    ///
    /// # Errors
    ///
    /// Those of the filesystem; it must be there.
    pub fn open_log(&self, name: &AgentName) -> Result<File, HomeError> {
        let relative = PathBuf::from(Item::Log(name).relative());
        Ok(self.open_at(&relative, OFlags::WRONLY | OFlags::APPEND, FILE)?.into())
    }

    /// Removes a file; one that is gone is no error.
    ///
    /// # Errors
    ///
    /// Those of the filesystem.
    pub fn remove(&self, item: Item<'_>) -> Result<(), HomeError> {
        self.unlink(Path::new(&item.relative()))
    }

    /// Removes all that an agent has here, its record last: until that is gone it is still listed.
    ///
    /// # Errors
    ///
    /// Those of the filesystem; what was removed before stays so.
    pub fn remove_agent(&self, claim: &Claim) -> Result<(), HomeError> {
        let name = claim.name();
        for above in [WORKSPACES, HOMES] {
            let relative = Path::new(above).join(name.as_str());
            let (above, file) = self.parent(&relative)?;
            match tree::remove_at(&above, file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed("remove", &relative)(error));
                }
                _ => {}
            }
        }
        self.remove(Item::Key(name))?;
        self.remove(Item::Log(name))?;
        self.remove(Item::Prompt(name))?;
        self.unlink(&Path::new(STATE).join(format!("{name}.sb")))?;
        self.remove(Item::Record(name))
    }

    /// Gives all that an agent has here to another name, which has nothing: its key too, for it is
    /// the same agent. The record is last and still says what it said.
    ///
    /// What a crash has moved is not moved again: who repeats the command finishes it.
    ///
    /// # Errors
    ///
    /// Those of the filesystem; `AlreadyExists` where the other name has something of this kind.
    pub fn rename_agent(&self, from: &Claim, to: &Claim) -> Result<(), HomeError> {
        let (from, to) = (from.name(), to.name());
        for above in [WORKSPACES, HOMES] {
            let path = |name: &AgentName| Path::new(above).join(name.as_str());
            self.move_new(&path(from), &path(to))?;
        }
        let items =
            |name| [Item::Key(name), Item::Log(name), Item::Prompt(name), Item::Record(name)];
        for (from, to) in items(from).iter().zip(items(to)) {
            self.move_new(Path::new(&from.relative()), Path::new(&to.relative()))?;
        }
        Ok(())
    }
}

impl Item<'_> {
    /// Where it is, seen from the home.
    fn relative(self) -> String {
        match self {
            Self::Env => "env".to_owned(),
            Self::Config => "config".to_owned(),
            Self::History => "history.log".to_owned(),
            Self::Record(name) => format!("{STATE}/{name}.env"),
            Self::Log(name) => format!("{STATE}/{name}.log"),
            Self::Prompt(name) => format!("{STATE}/{name}.prompt"),
            Self::Key(name) => format!("{KEYS}/{name}.pem"),
            Self::SeedProfile(name) => format!("{PROFILES}/{name}.env"),
            Self::Profile(name) => format!("{PROFILES}/{name}.toml"),
        }
    }
}

#[cfg(test)]
mod tests;
