//! How a [`GitMachine`] is to work, and the builder that says so.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{
    access::{Access, AccessError, Anonymous, Token},
    error::{GitError, HookError},
    events::{Event, Listener},
    machine::Machine,
    name::{BranchName, NameError, Repository, RepositoryError},
    session::GitMachine,
};

/// Where the repository is, when nothing else is said.
const PATH: &str = "/home/user/repo";
/// How long one git command may take.
const GIT_TIMEOUT: Duration = Duration::from_secs(600);

pub(crate) type Hook<M> = Arc<
    dyn Fn(GitMachine<M>) -> Pin<Box<dyn Future<Output = Result<(), HookError>> + Send>>
        + Send
        + Sync,
>;

/// Whose name commits have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub(crate) name: String,
    pub(crate) email: String,
}

impl Identity {
    /// A name and an address.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Identity`] where one is empty or has what git would take out of it.
    pub fn new(name: impl Into<String>, email: impl Into<String>) -> Result<Self, ConfigError> {
        let (name, email) = (name.into(), email.into());
        let odd = |text: &str| {
            // Git strips these from both ends and refuses names of nothing else.
            let core = text.trim_matches(|c: char| c.is_whitespace() || ".,:;<>\"\\'".contains(c));
            core.is_empty() || text.contains(|c: char| c.is_control() || c == '<' || c == '>')
        };
        if odd(&name) || odd(&email) {
            return Err(ConfigError::Identity);
        }
        Ok(Self { name, email })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address.
    #[must_use]
    pub fn email(&self) -> &str {
        &self.email
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self { name: "GitMachine".to_owned(), email: "gitagent@machine".to_owned() }
    }
}

/// What is fetched when a session begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloneOptions {
    /// So many commits of each branch, and no more.
    pub depth: Option<u32>,
    /// No files but those that are checked out; git fetches others when it needs them.
    pub blobless: bool,
    /// Only the session's branch, or the default branch where the remote has none of that name.
    pub single_branch: bool,
    /// Submodules too, of the repository's own host with its credential.
    pub submodules: bool,
    /// Large files too; the machine needs `git-lfs`.
    pub lfs: bool,
    /// Directories of other repositories inside the machine whose objects need not be fetched. One
    /// that is not there is passed over.
    pub references: Vec<String>,
}

/// When work is pushed without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushOn {
    /// Before a pause.
    pub pause: bool,
    /// Before a stop. Without it, a machine with work that is not on the remote is not stopped.
    pub stop: bool,
}

impl Default for PushOn {
    /// A stop pushes; a pause, which loses nothing, does not.
    fn default() -> Self {
        Self { pause: false, stop: true }
    }
}

/// What to do when a push or a pull finds that the remote's branch has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMoved {
    /// Commits of the machine are put on top of the remote's.
    #[default]
    Rebase,
    /// A merge of both.
    Merge,
    /// Nothing: commits go to a rescue branch.
    Rescue,
}

/// Everything that was said about a session.
pub(crate) struct Config<M: Machine> {
    pub(crate) repository: Repository,
    pub(crate) access: Arc<dyn Access>,
    pub(crate) identity: Identity,
    pub(crate) session: Option<BranchName>,
    pub(crate) reference: Option<String>,
    pub(crate) path: String,
    pub(crate) auto_commit: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) git_timeout: Duration,
    pub(crate) push_on: PushOn,
    pub(crate) on_moved: OnMoved,
    pub(crate) clone: CloneOptions,
    pub(crate) on_start: Option<Hook<M>>,
    pub(crate) on_pause: Option<Hook<M>>,
    pub(crate) on_resume: Option<Hook<M>>,
    pub(crate) on_end: Option<Hook<M>>,
    pub(crate) on_event: Option<Listener<GitMachine<M>>>,
}

/// Says how a [`GitMachine`] is to work. See [`GitMachine::builder`].
#[must_use]
pub struct Builder<M: Machine> {
    machine: M,
    env: BTreeMap<String, String>,
    config: Config<M>,
}

impl<M: Machine> std::fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("repository", &self.config.repository)
            .finish_non_exhaustive()
    }
}

macro_rules! hook {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub fn $name<F, R>(mut self, hook: F) -> Self
        where
            F: Fn(GitMachine<M>) -> R + Send + Sync + 'static,
            R: Future<Output = Result<(), HookError>> + Send + 'static,
        {
            self.config.$name = Some(Arc::new(move |machine| Box::pin(hook(machine))));
            self
        }
    };
}

impl<M: Machine> Builder<M> {
    pub(crate) fn new(machine: M, repository: &str) -> Result<Self, ConfigError> {
        let config = Config {
            repository: Repository::parse(repository)?,
            access: Arc::new(Anonymous),
            identity: Identity::default(),
            session: None,
            reference: None,
            path: PATH.to_owned(),
            auto_commit: true,
            timeout: None,
            git_timeout: GIT_TIMEOUT,
            push_on: PushOn::default(),
            on_moved: OnMoved::default(),
            clone: CloneOptions::default(),
            on_start: None,
            on_pause: None,
            on_resume: None,
            on_end: None,
            on_event: None,
        };
        Ok(Self { machine, env: BTreeMap::new(), config })
    }

    /// A token for the repository. [`access`](crate::access) says what happens to it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Access`] for text that is no token.
    pub fn token(self, token: impl Into<String>) -> Result<Self, ConfigError> {
        let token = Token::new(token)?;
        Ok(self.access(token))
    }

    /// Another way of speaking with the remote.
    pub fn access(mut self, access: impl Access) -> Self {
        self.config.access = Arc::new(access);
        self
    }

    /// Whose name commits have: in commits that are made from outside, and as the repository's
    /// setting for those that programs inside make.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.config.identity = identity;
        self
    }

    /// The session's name, which is its branch. The remote's branch of that name is continued; without
    /// one a new branch begins at [`Builder::reference`]. Without a session, work is on the branch that
    /// is checked out then.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Session`] for what git does not take for a branch.
    pub fn session(mut self, name: &str) -> Result<Self, ConfigError> {
        self.config.session = Some(BranchName::session(name)?);
        Ok(self)
    }

    /// A branch, tag or commit of the remote to begin at, in the place of its default branch.
    pub fn reference(mut self, reference: impl Into<String>) -> Self {
        self.config.reference = Some(reference.into());
        self
    }

    /// Where the repository is inside the machine: an absolute path. `/home/user/repo` without.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Path`] for another one.
    pub fn path(mut self, path: impl Into<String>) -> Result<Self, ConfigError> {
        let path: String = path.into();
        let parts = path.strip_prefix('/').map(|rest| rest.split('/').collect::<Vec<_>>());
        let odd = |part: &&str| part.is_empty() || *part == "." || *part == "..";
        if path.contains(char::is_control) || parts.is_none_or(|it| it.iter().any(odd)) {
            return Err(ConfigError::Path);
        }
        self.config.path = path;
        Ok(self)
    }

    /// Whether a pause and a stop commit what has changed. They do without.
    pub fn auto_commit(mut self, auto_commit: bool) -> Self {
        self.config.auto_commit = auto_commit;
        self
    }

    /// A variable for commands of [`GitMachine::run`]. Git commands do not get it.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// How long a command of [`GitMachine::run`] may take that says nothing itself.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = Some(timeout);
        self
    }

    /// How long one git command may take. 10 minutes without.
    pub fn git_timeout(mut self, timeout: Duration) -> Self {
        self.config.git_timeout = timeout;
        self
    }

    /// When work is pushed without being asked for.
    pub fn push_on(mut self, push_on: PushOn) -> Self {
        self.config.push_on = push_on;
        self
    }

    /// What to do when the remote's branch has moved.
    pub fn on_moved(mut self, on_moved: OnMoved) -> Self {
        self.config.on_moved = on_moved;
        self
    }

    /// What is fetched when a session begins.
    pub fn clone_options(mut self, options: CloneOptions) -> Self {
        self.config.clone = options;
        self
    }

    hook! {
        /// Runs when the repository is there; where it fails, so does the start.
        ///
        /// Hooks get a [`GitMachine`] with which they may do everything but start, pause, resume and
        /// stop the machine. Other users of the machine wait meanwhile.
        on_start
    }
    hook! {
        /// Runs before a pause, after the commit; where it fails the machine goes on running.
        on_pause
    }
    hook! {
        /// Runs after a resume.
        on_resume
    }
    hook! {
        /// Runs before a stop, when all work is on the remote. What it changes is saved too.
        on_end
    }

    /// Is told what happens. It must be quick and not wait for the machine; a panic in it is caught
    /// and forgotten.
    pub fn on_event<F>(mut self, listener: F) -> Self
    where
        F: Fn(&Event, &GitMachine<M>) + Send + Sync + 'static,
    {
        self.config.on_event = Some(Arc::new(listener));
        self
    }

    /// The machine, which is yet to be started.
    #[must_use]
    pub fn build(self) -> GitMachine<M> {
        GitMachine::new(self.machine, self.env, self.config)
    }

    /// Takes over a machine that runs or is paused and has the repository already.
    ///
    /// # Errors
    ///
    /// [`GitError`] where the machine does neither, or has another repository at that path.
    pub async fn connect(self) -> Result<GitMachine<M>, GitError> {
        let machine = self.build();
        machine.connect().await?;
        Ok(machine)
    }
}

/// What was said about a session is not possible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The repository's address.
    #[error("read the repository's address")]
    Repository(#[from] RepositoryError),
    /// The session's name.
    #[error("read the session's name")]
    Session(#[from] NameError),
    /// The token.
    #[error("read the token")]
    Access(#[from] AccessError),
    /// Name or address.
    #[error("an identity has a name and an address, both without < and > and line breaks")]
    Identity,
    /// The path.
    #[error("the repository's path is absolute, without . and .. and empty parts")]
    Path,
}
