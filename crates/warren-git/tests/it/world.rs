//! Machines and a remote for one test.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use warren_git::{Builder, Event, GitMachine, Machine as _, Output, RunOptions};

use crate::{
    directory::Directory,
    remote::{Remote, TOKEN},
};

pub(crate) type Agent = GitMachine<Directory>;

/// A remote, and a place for machines.
pub(crate) struct World {
    place: tempfile::TempDir,
    pub(crate) remote: Remote,
}

/// What one machine has told.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().iter().map(Event::name).collect()
    }

    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn take(&self) -> Vec<&'static str> {
        let names = self.names();
        self.0.lock().unwrap().clear();
        names
    }
}

impl World {
    /// A remote whose branch `trunk` has the files `work.txt` and `.gitignore`.
    pub(crate) async fn new() -> Self {
        let world = Self::empty().await;
        world.remote.commit("trunk", "work.txt", "first\n");
        world.remote.commit("trunk", ".gitignore", "*.log\n");
        world
    }

    /// A remote without any commit.
    pub(crate) async fn empty() -> Self {
        Self { place: tempfile::tempdir().unwrap(), remote: Remote::start().await }
    }

    pub(crate) fn root(&self, machine: &str) -> PathBuf {
        self.place.path().join(machine)
    }

    /// The repository of a machine.
    pub(crate) fn repo(&self, machine: &str) -> PathBuf {
        self.root(machine).join("repo")
    }

    /// A machine without a session.
    pub(crate) fn plain(&self, machine: &str) -> Builder<Directory> {
        self.on(Directory::new(self.root(machine)), machine)
    }

    /// A machine that is there already.
    pub(crate) fn on(&self, directory: Directory, machine: &str) -> Builder<Directory> {
        let path = self.repo(machine).display().to_string();
        let builder = GitMachine::builder(directory, &self.remote.url());
        builder.unwrap().token(TOKEN).unwrap().path(path).unwrap()
    }

    /// A machine with a session.
    pub(crate) fn session(&self, machine: &str, session: &str) -> Builder<Directory> {
        self.plain(machine).session(session).unwrap()
    }

    /// A machine that was started, and what it tells from then on.
    pub(crate) async fn started(&self, machine: &str, session: &str) -> (Agent, Told) {
        start(self.session(machine, session)).await
    }
}

/// Builds and starts; what was told about the start is forgotten.
pub(crate) async fn start(builder: Builder<Directory>) -> (Agent, Told) {
    let (agent, told) = listened(builder);
    agent.start().await.unwrap();
    assert_eq!(told.take(), ["started"]);
    (agent, told)
}

pub(crate) fn listened(builder: Builder<Directory>) -> (Agent, Told) {
    let (builder, told) = told_by(builder);
    (builder.build(), told)
}

pub(crate) fn told_by(builder: Builder<Directory>) -> (Builder<Directory>, Told) {
    let told = Told::default();
    let listener = told.clone();
    let listen = move |event: &Event, _: &Agent| listener.0.lock().unwrap().push(event.clone());
    (builder.on_event(listen), told)
}

/// Runs a line inside, which must succeed; its output.
pub(crate) async fn sh(agent: &Agent, line: &str) -> String {
    let output = ran(agent, line).await;
    assert!(output.success(), "{line}: {}", output.stderr_text());
    output.stdout_text().trim_end().to_owned()
}

/// Runs a line inside.
pub(crate) async fn ran(agent: &Agent, line: &str) -> Output {
    let identity = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@a GIT_COMMITTER_NAME=a \
                    GIT_COMMITTER_EMAIL=a@a GIT_ALLOW_PROTOCOL=file:http;";
    agent.run(format!("{identity} {line}"), RunOptions::default()).await.unwrap()
}

/// Whether the machine's directory holds these bytes in any file.
pub(crate) fn holds(directory: &Path, bytes: &[u8]) -> Option<PathBuf> {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = holds(&path, bytes) {
                return Some(found);
            }
        } else if std::fs::read(&path)
            .unwrap_or_default()
            .windows(bytes.len())
            .any(|it| it == bytes)
        {
            return Some(path);
        }
    }
    None
}

/// Git on the host, as the test's own tool.
#[expect(clippy::disallowed_methods, reason = "a test's own tool, with nothing to hide")]
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new("git");
    command.args(arguments).current_dir(directory).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("HOME", directory).env("LC_ALL", "C");
    command.env("GIT_CONFIG_NOSYSTEM", "1");
    for (name, value) in [("NAME", "other"), ("EMAIL", "other@example")] {
        command.env(format!("GIT_AUTHOR_{name}"), value);
        command.env(format!("GIT_COMMITTER_{name}"), value);
    }
    let output = command.output().expect("git is there: a base tool of these tests");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?} in {}: {said}", directory.display());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// What a machine is, in a word.
pub(crate) fn state(agent: &Agent) -> &'static str {
    assert!(agent.machine().id().is_some());
    agent.state().name()
}
