//! Git commands inside a machine: how they are run, and what is made of their end.
//!
//! A command is a list of words, never a line for a shell. Everything that a repository, its
//! configuration or its hooks can make git do happens inside the machine.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};

use crate::{
    access::{Access, Credential, Grant, HELPER, ORIGIN_VARIABLE, Right, WITH_PIPE, Wanted},
    config::Identity,
    error::GitError,
    machine::{Chunk, Command, Ended, Machine, Output},
    name::Repository,
    porcelain::{self, RemoteFault},
};

/// How much of standard error goes into an error.
const SAID_BYTES: usize = 2000;
/// How often a command is tried again while another git holds the index, and how long between.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(250);

/// Settings of every command. They stand behind the repository's own, so they win.
const SETTINGS: [&str; 13] = [
    // Programs that the repository's configuration names and that no command here needs.
    "core.fsmonitor=false",
    "core.askPass=",
    // Work in the background would hold the pipes of a command that has ended.
    "gc.auto=0",
    "maintenance.auto=false",
    // Nobody is there to unlock a key, to answer or to look.
    "commit.gpgSign=false",
    "push.gpgSign=false",
    "color.ui=false",
    "log.showSignature=false",
    "advice.detachedHead=false",
    // Commands do what they say, and no more.
    "submodule.recurse=false",
    "fetch.prune=false",
    "push.followTags=false",
    "rerere.enabled=false",
];

/// Removes `index.lock` when no git works in the repository: $1 is the repository, $2 its git
/// directory. Prints `busy`, `free` or `removed`.
const UNLOCK: &str = r#"
lock=$2/index.lock
[ -e "$lock" ] || { echo free; exit 0; }
for p in /proc/[0-9]*; do
    read -r name 2>/dev/null <"$p/comm" || continue
    case $name in git|git-*) ;; *) continue ;; esac
    at=$(readlink "$p/cwd" 2>/dev/null) || continue
    case $at/ in "$1"/*) echo busy; exit 0 ;; esac
done
rm -f -- "$lock" && echo removed
"#;

/// What all commands of one operation share.
pub(crate) struct Git<'a, M> {
    pub(crate) machine: &'a M,
    pub(crate) path: &'a str,
    pub(crate) repository: &'a Repository,
    pub(crate) access: &'a dyn Access,
    pub(crate) identity: &'a Identity,
    /// How long one command may take.
    pub(crate) timeout: Duration,
    /// When everything must be over.
    pub(crate) deadline: Option<Instant>,
    /// Whether objects may be missing and come from the remote when they are needed.
    pub(crate) partial: bool,
}

/// One git command.
#[derive(Debug, Default)]
pub(crate) struct Step {
    words: Vec<String>,
    settings: Vec<String>,
    env: Vec<(&'static str, String)>,
    stdin: Vec<u8>,
    right: Option<Right>,
    hooks: bool,
    outside: bool,
    files: bool,
    keep: Option<usize>,
    stream: Option<mpsc::Sender<Chunk>>,
}

/// A command in the repository.
pub(crate) fn step<I, S>(words: I) -> Step
where
    I: IntoIterator<Item = S>,
    S: Into<String>,
{
    Step { words: words.into_iter().map(Into::into).collect(), ..Step::default() }
}

impl Step {
    /// It speaks with the remote.
    pub(crate) fn remote(mut self, right: Right) -> Self {
        self.right = Some(right);
        self
    }

    /// It reads files of commits, which a partial clone may have to fetch first.
    pub(crate) fn files(mut self) -> Self {
        self.files = true;
        self
    }

    /// It runs before there is a repository.
    pub(crate) fn outside(mut self) -> Self {
        self.outside = true;
        self
    }

    /// Hooks of the repository run.
    pub(crate) fn hooks(mut self) -> Self {
        self.hooks = true;
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    pub(crate) fn setting(mut self, setting: impl Into<String>) -> Self {
        self.settings.push(setting.into());
        self
    }

    pub(crate) fn keep(mut self, bytes: usize) -> Self {
        self.keep = Some(bytes);
        self
    }

    pub(crate) fn stream(mut self, to: mpsc::Sender<Chunk>) -> Self {
        self.stream = Some(to);
        self
    }

    fn name(&self) -> String {
        self.words.first().cloned().unwrap_or_default()
    }
}

impl<M: Machine> Git<'_, M> {
    /// Runs a command, however it ends, except for the ways that are nobody's answer.
    pub(crate) async fn run(&self, step: Step) -> Result<Output, GitError> {
        let name = step.name();
        let grant = match step.right.or((self.partial && step.files).then_some(Right::Read)) {
            Some(right) => {
                self.access.grant(&Wanted { repository: self.repository, right }).await?
            }
            None => Grant::Nothing,
        };
        let (command, credential) = self.command(step, grant)?;
        let executed = self.machine.execute(command).await;
        let mut output =
            executed.map_err(|source| GitError::Machine { operation: "run git in", source })?;
        if let Some(credential) = credential {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.stderr = credential.masked(&said).into_bytes();
        }
        match output.ended {
            Ended::Exited(127) => Err(GitError::NoGit),
            Ended::TimedOut | Ended::Signalled(_) => Err(failed(&name, &output)),
            Ended::Exited(_) => Ok(output),
        }
    }

    /// Runs a command that must succeed.
    pub(crate) async fn done(&self, step: Step) -> Result<Output, GitError> {
        let (name, remote) = (step.name(), step.right.is_some());
        let output = self.run(step).await?;
        if output.success() { Ok(output) } else { Err(self.failure(&name, remote, &output)) }
    }

    /// Runs a command that changes the index, again while another git holds it. A lock that a git
    /// has left behind that is not there any more is removed.
    pub(crate) async fn locked(&self, make: impl Fn() -> Step) -> Result<Output, GitError> {
        let mut tries = 0;
        loop {
            let (name, output) = (make().name(), self.run(make()).await?);
            if output.success() {
                return Ok(output);
            }
            let said = output.stderr_text();
            if !(said.contains("index.lock") && said.contains("File exists")) {
                return Err(self.failure(&name, false, &output));
            }
            tries += 1;
            let busy = self.unlock().await?;
            let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if tries > LOCK_TRIES || late {
                return Err(GitError::Locked { path: self.path.to_owned() });
            }
            if busy {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
        }
    }

    /// The name of what a revision means, or `None` where it means nothing.
    pub(crate) async fn resolve(&self, revision: &str) -> Result<Option<String>, GitError> {
        let words = ["rev-parse", "--quiet", "--verify", "--end-of-options", revision];
        let output = self.run(step(words)).await?;
        if !output.success() {
            return Ok(None);
        }
        let text = output.stdout_text();
        let id = porcelain::object_id(&text).ok_or(answer("rev-parse"))?;
        Ok(Some(id.to_owned()))
    }

    /// The full name of the branch that is checked out, or `None` for a detached HEAD.
    pub(crate) async fn head(&self) -> Result<Option<String>, GitError> {
        let output = self.run(step(["symbolic-ref", "--quiet", "HEAD"])).await?;
        Ok(output.success().then(|| output.stdout_text().trim_end_matches('\n').to_owned()))
    }

    pub(crate) fn failure(&self, name: &str, remote: bool, output: &Output) -> GitError {
        let GitError::Git { command, ended, said } = failed(name, output) else {
            return answer(name);
        };
        let fault = porcelain::fault(&said);
        if (remote || self.partial) && fault != RemoteFault::Other {
            return GitError::Remote { command, fault, said };
        }
        GitError::Git { command, ended, said }
    }

    /// Whether another git works here; a lock that nobody holds is removed.
    async fn unlock(&self) -> Result<bool, GitError> {
        let found = self.done(step(["rev-parse", "--absolute-git-dir"])).await?;
        let directory = found.stdout_text().trim_end_matches('\n').to_owned();
        let words = ["/bin/sh", "-c", UNLOCK, "sh", self.path, &directory];
        let output = self.plain(Command::new(words)).await?;
        Ok(output.stdout.starts_with(b"busy"))
    }

    /// Runs a program that is not git.
    pub(crate) async fn plain(&self, command: Command) -> Result<Output, GitError> {
        let command = command.env("LC_ALL", "C").timeout(self.left());
        let executed = self.machine.execute(command).await;
        executed.map_err(|source| GitError::Machine { operation: "run a program in", source })
    }

    /// How long the next command may take. Never nothing, which some machines take for no limit.
    fn left(&self) -> Duration {
        let until = self.deadline.map(|it| it.saturating_duration_since(Instant::now()));
        until.map_or(self.timeout, |until| until.min(self.timeout)).max(Duration::from_millis(1))
    }

    fn command(&self, step: Step, grant: Grant) -> Result<(Command, Option<Credential>), GitError> {
        let mut words: Vec<String> = vec!["git".to_owned()];
        if !step.outside {
            words.extend(["-C".to_owned(), self.path.to_owned()]);
        }
        let mut setting = |it: String| words.extend(["-c".to_owned(), it]);
        SETTINGS.iter().for_each(|it| setting((*it).to_owned()));
        if !step.hooks {
            setting("core.hooksPath=/dev/null".to_owned());
        }
        step.settings.into_iter().for_each(&mut setting);
        let mut stdin = step.stdin;
        let mut env = step.env;
        let mut credential = None;
        match grant {
            Grant::Nothing => {}
            Grant::Settings(settings) => {
                settings.into_iter().for_each(|(name, value)| setting(format!("{name}={value}")));
            }
            Grant::Credential(it) => {
                let url = self.repository.url();
                // An equals sign would end the setting's name.
                if !url.contains('=') {
                    setting(format!("http.{url}.sslVerify=true"));
                }
                setting("credential.helper=".to_owned());
                setting(format!("credential.helper={HELPER}"));
                env.push((ORIGIN_VARIABLE, self.repository.origin()));
                stdin = it.lines();
                credential = Some(it);
            }
        }
        words.extend(step.words);
        if credential.is_some() {
            words.splice(0..0, WITH_PIPE.map(str::to_owned));
        }
        let mut command = Command::new(words).stdin(stdin).timeout(self.left());
        for (name, value) in self.environment().into_iter().chain(env) {
            command = command.env(name, value);
        }
        command.keep_bytes = step.keep.unwrap_or(command.keep_bytes);
        command.stream = step.stream;
        Ok((command, credential))
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        // A repository of files has submodules of files.
        let protocols =
            if self.repository.scheme() == "file" { "file:https" } else { "https:http" };
        [
            ("LC_ALL", "C"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", ""),
            ("SSH_ASKPASS", ""),
            // Whoever traces what is sent does not see a credential.
            ("GIT_TRACE_REDACT", "1"),
            ("GIT_PAGER", "cat"),
            ("GIT_EDITOR", ":"),
            ("GIT_SEQUENCE_EDITOR", ":"),
            ("GIT_ALLOW_PROTOCOL", protocols),
            // Large files are fetched by a command of their own, which has the credential.
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("GIT_COMMITTER_NAME", &self.identity.name),
            ("GIT_COMMITTER_EMAIL", &self.identity.email),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec()
    }
}

/// The error of a command that did not succeed.
fn failed(name: &str, output: &Output) -> GitError {
    let said = output.stderr_text();
    let from = said.len().saturating_sub(SAID_BYTES);
    let from = (from..=said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or_default();
    let said = said.get(from..).unwrap_or_default().trim().to_owned();
    GitError::Git { command: name.to_owned(), ended: output.ended, said }
}

pub(crate) fn answer(name: &str) -> GitError {
    GitError::Answer { command: name.to_owned() }
}
